/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters. The value stands in the row twice: in clear, so that it can be read without the PIN, and sealed
 * together with the attributes, so that nobody who lacks the PIN can make up another one. Once the user has
 * logged in, both must agree.
 */
#include "internal.h"

#include <string.h>

static void put_value(uint8_t out[SOFT_COUNTER_LEN], uint64_t value)
{
    size_t i;

    for (i = 0; i < SOFT_COUNTER_LEN; i++)
        out[i] = (uint8_t)(value >> (8 * (SOFT_COUNTER_LEN - 1 - i)));
}

static uint64_t take_value(const uint8_t in[SOFT_COUNTER_LEN])
{
    uint64_t value = 0;
    size_t i;

    for (i = 0; i < SOFT_COUNTER_LEN; i++)
        value = value << 8 | in[i];
    return value;
}

/* Within a write transaction. */
static hsm_status write_value(struct soft_token *t, const struct hsm_object *obj, uint64_t value)
{
    uint8_t aad[SOFT_AAD_MAX], both[SOFT_COUNTER_VALUE_LEN];
    struct hsm_buf a = { aad, sizeof(aad), 0 },
                   sealed = { both + SOFT_COUNTER_LEN, sizeof(both) - SOFT_COUNTER_LEN, 0 };
    hsm_status st;

    if ((st = soft_require_login(t)) != HSM_OK)
        return st;
    put_value(both, value);
    soft_object_aad(t, obj, &a);
    st = soft_seal(t, t->seal_key, (struct hsm_bytes){ a.ptr, a.len },
                   (struct hsm_bytes){ both, SOFT_COUNTER_LEN }, &sealed);
    return st != HSM_OK ? st : soft_store_set_value(t, obj->handle, (struct hsm_bytes){ both, sizeof(both) });
}

static hsm_status check_seal(struct soft_token *t, const struct soft_row *row)
{
    uint8_t plain[SOFT_COUNTER_LEN] = { 0 };
    struct hsm_buf out = { plain, sizeof(plain), 0 };
    struct soft_row sealed = { .obj = row->obj,
                               .value = row->value + SOFT_COUNTER_LEN,
                               .value_len = row->value_len - SOFT_COUNTER_LEN };
    hsm_status st;

    if ((st = soft_object_unseal(t, &sealed, &out)) != HSM_OK)
        return st;
    if (memcmp(plain, row->value, sizeof(plain)) != 0)
        return soft_store_damaged(t, "a counter");
    return HSM_OK;
}

/* The row of a counter and its value, checked as far as this process can. */
static hsm_status read_counter(struct soft_token *t, hsm_handle handle, struct soft_row *row, uint64_t *value)
{
    hsm_status st;

    if ((st = soft_store_object(t, handle, true, row)) != HSM_OK)
        return st;
    if (row->obj.cls != HSM_CLASS_COUNTER)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a counter", row->obj.label, t->where);
    if (t->seal_key != NULL && (st = check_seal(t, row)) != HSM_OK)
        return st;
    *value = take_value(row->value);
    return HSM_OK;
}

hsm_status soft_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                               hsm_handle *handle)
{
    struct soft_token *t = soft_of(tok);
    struct hsm_object obj;
    hsm_status st;

    if ((st = soft_object_may_add(t, spec, HSM_CLASS_COUNTER)) != HSM_OK ||
        (st = soft_object_describe(t, spec, HSM_CLASS_COUNTER, HSM_ORIGIN_GENERATED, &obj)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_store_begin(t, true)) == HSM_OK &&
        (st = soft_store_label_free(t, obj.cls, obj.label)) == HSM_OK &&
        (st = soft_store_insert(t, &obj)) == HSM_OK && (st = write_value(t, &obj, value)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    if (st == HSM_OK)
        *handle = obj.handle;
    return st;
}

hsm_status soft_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct soft_token *t = soft_of(tok);
    struct soft_row row = { .value = NULL };
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    st = read_counter(t, handle, &row, value);
    soft_sql_unlock(t);
    soft_row_clear(&row);
    return st;
}

/* Within a write transaction, so that of two that count at the same time each gets a number of its own. */
static hsm_status add_one(struct soft_token *t, hsm_handle handle, struct soft_row *row, uint64_t *next)
{
    uint64_t value;
    hsm_status st;

    if ((st = soft_require_login(t)) != HSM_OK || (st = read_counter(t, handle, row, &value)) != HSM_OK)
        return st;
    if (value == UINT64_MAX)
        return hsm_fail(HSM_ERR_TOKEN_FULL, "counter '%s' on %s is at its end and does not wrap",
                        row->obj.label, t->where);
    *next = value + 1;
    return write_value(t, &row->obj, *next);
}

hsm_status soft_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct soft_token *t = soft_of(tok);
    struct soft_row row = { .value = NULL };
    uint64_t next = 0;
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_store_begin(t, true)) == HSM_OK && (st = add_one(t, handle, &row, &next)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    soft_row_clear(&row);
    if (st == HSM_OK)
        *value = next;
    return st;
}
