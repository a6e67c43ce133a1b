/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic counters of eight bytes: the chip only ever adds to them. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

enum { COUNTER_LEN = 8 };

static hsm_status create_value(struct se05x_token *t, const struct se05x_creation *c, uint64_t value)
{
    unsigned tries = 0;
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    do {
        st = se05x_write_counter(t, &c->write, COUNTER_LEN, value, &sw);
        if (!se05x_unsure(t, st, c->write.id, &exists))
            break;
        if (exists)
            return HSM_OK;
    } while (++tries < 2);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "a counter");
}

hsm_status se05x_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                                hsm_handle *handle)
{
    struct se05x_token *t = se05x_of(tok);
    struct se05x_creation *c = malloc(sizeof(*c));
    hsm_status st;

    if (c == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for '%s'", spec->label);
    if ((st = se05x_creation_begin(t, spec, HSM_CLASS_COUNTER, HSM_ORIGIN_GENERATED, NULL, false, c)) ==
        HSM_OK) {
        c->record.obj.value_len = COUNTER_LEN;
        st = create_value(t, c, value);
        st = se05x_creation_finish(t, c, st, handle);
    }
    free(c);
    return st;
}

static hsm_status lookup(struct se05x_token *t, hsm_handle handle, const struct se05x_object **o)
{
    hsm_status st = se05x_lookup(t, handle, o);

    if (st == HSM_OK && (*o)->cls != HSM_CLASS_COUNTER)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a counter", (*o)->label, t->where);
    return st;
}

static hsm_status read_value(struct se05x_token *t, const struct se05x_object *o, uint64_t *value)
{
    uint8_t bytes[COUNTER_LEN];
    hsm_status st = se05x_file_read(t, SE05X_ANYBODY, o->id, sizeof(bytes), bytes);
    size_t i;

    if (st == HSM_ERR_NO_OBJECT)
        return se05x_vanished(t, o);
    for (*value = 0, i = 0; st == HSM_OK && i < sizeof(bytes); i++)
        *value = *value << 8 | bytes[i];
    return st;
}

hsm_status se05x_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    hsm_status st = lookup(t, handle, &o);

    return st == HSM_OK ? read_value(t, o, value) : st;
}

/* Nobody else adds while the chip is ours, so the value says whether a command whose answer was lost was
 * executed. */
static hsm_status increment(struct se05x_token *t, enum se05x_auth auth, const struct se05x_object *o,
                            uint64_t *value)
{
    struct se05x_write w = { .auth = auth, .id = o->id };
    uint64_t before = 0, after = 0;
    unsigned tries = 0;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = read_value(t, o, &before)) != HSM_OK)
        return st;
    if (before == UINT64_MAX)
        return hsm_fail(HSM_ERR_TOKEN_FULL, "counter '%s' on %s has come to its end", o->label, t->where);
    do {
        st = se05x_write_counter(t, &w, 0, 0, &sw);
        if (st != HSM_ERR_TOKEN_IO || !se05x_maybe_executed(t) || read_value(t, o, &after) != HSM_OK)
            break;
        if (after == before + 1) {
            st = HSM_OK;
            sw = SE05X_SW_OK;
            break;
        }
    } while (++tries < 2);
    if (st == HSM_OK && sw == SE05X_SW_OK)
        *value = before + 1;
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "counting");
}

hsm_status se05x_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    struct se05x_object copy;
    enum se05x_auth auth;
    hsm_status st;

    if ((st = lookup(t, handle, &o)) != HSM_OK)
        return st;
    if (o->foreign)
        return hsm_fail(HSM_ERR_DENIED, "%s on %s is not hsm's own", o->label, t->where);
    copy = *o;
    if ((st = se05x_writer(t, &auth)) != HSM_OK || (st = se05x_begin(t)) != HSM_OK)
        return st;
    st = increment(t, auth, &copy, value);
    se05x_end(t);
    return st;
}
