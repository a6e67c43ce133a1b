/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters on every token. HSM_TEST_TOKEN names another token than the soft one, as for test_token.c; a token
 * without counters is skipped.
 */
#include "token_fixture.h"

#include <pthread.h>

#include <sqlite3.h>

static struct hsm_ctx *ctx;
static struct hsm_token *tok;

static bool is_soft(void)
{
    return strncmp(token_spec, "soft:", 5) == 0;
}

static hsm_status keep_handle(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    hsm_handle *handle = arg;

    if (obj->origin != HSM_ORIGIN_FACTORY)
        *handle = obj->handle;
    return HSM_OK;
}

/* One after the other: a token may hold its lock while it lists. */
static void empty_token(void)
{
    hsm_handle handle;

    do {
        handle = 0;
        ck_ok(hsm_find(tok, NULL, keep_handle, &handle));
        if (handle != 0)
            ck_ok(hsm_destroy(tok, handle));
    } while (handle != 0);
}

static void setup(void)
{
    struct hsm_token_init init = default_init();
    const char *other = getenv("HSM_TEST_TOKEN");
    hsm_status st;

    make_temp_dir();
    if (other != NULL)
        (void)snprintf(token_spec, sizeof(token_spec), "%s", other);
    else
        (void)snprintf(token_spec, sizeof(token_spec), "soft:%s/token.db", temp_dir);
    ctx = new_context(NULL);
    st = hsm_token_create(ctx, 0, &init);
    if (st != HSM_ERR_UNSUPPORTED)
        ck_ok(st);
    tok = login(ctx);
    if (st == HSM_ERR_UNSUPPORTED)
        empty_token();
}

static void teardown(void)
{
    hsm_ctx_free(ctx);
    remove_temp_dir();
}

static struct hsm_object_spec counter_spec(const char *label)
{
    return (struct hsm_object_spec){ .cls = HSM_CLASS_COUNTER, .label = label };
}

static hsm_handle make_counter(const char *label, uint64_t value)
{
    struct hsm_object_spec spec = counter_spec(label);
    hsm_handle handle = 0;

    ck_ok(hsm_counter_create(tok, &spec, value, &handle));
    ck_assert_uint_ne(handle, 0);
    return handle;
}

static uint64_t value_of(struct hsm_token *t, hsm_handle handle)
{
    uint64_t value = 99;

    ck_ok(hsm_counter_get(t, handle, &value));
    return value;
}

START_TEST(counter_begins_where_told_and_goes_up)
{
    static const uint64_t begins[] = { 0, 1, 255, 256, 65535, UINT32_MAX, UINT64_C(1) << 40 };
    char label[32];
    uint64_t value;
    size_t i;

    for (i = 0; i < COUNT(begins); i++) {
        hsm_handle handle;

        (void)snprintf(label, sizeof(label), "counter-%zu", i);
        handle = make_counter(label, begins[i]);
        ck_assert_uint_eq(value_of(tok, handle), begins[i]);
        ck_ok(hsm_counter_increment(tok, handle, &value));
        ck_assert_uint_eq(value, begins[i] + 1);
        ck_ok(hsm_counter_increment(tok, handle, &value));
        ck_assert_uint_eq(value, begins[i] + 2);
        ck_assert_uint_eq(value_of(tok, handle), begins[i] + 2);
    }
}
END_TEST

START_TEST(counter_never_wraps)
{
    hsm_handle handle = make_counter("high", UINT64_MAX - 1);
    uint64_t value = 0;

    ck_ok(hsm_counter_increment(tok, handle, &value));
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_status(hsm_counter_increment(tok, handle, &value), HSM_ERR_TOKEN_FULL);
    ck_line_has(HSM_ERR_TOKEN_FULL, "high");
    ck_assert_uint_eq(value_of(tok, handle), UINT64_MAX);
}
END_TEST

START_TEST(counter_is_listed_and_its_label_is_unique_in_its_class)
{
    struct hsm_object_spec spec = counter_spec("both");
    hsm_handle handle = make_counter("both", 7), other;
    struct hsm_object obj;

    ck_status(hsm_counter_create(tok, &spec, 1, &other), HSM_ERR_EXISTS);
    (void)generate(tok, "ec:P-256", "both"); /* another class */
    ck_ok(find(tok, HSM_URI_TYPE_COUNTER, "both", &obj));
    ck_assert_uint_eq(obj.handle, handle);
    ck_assert_int_eq(obj.cls, HSM_CLASS_COUNTER);
    ck_assert_uint_eq(obj.spki_len, 0);
    ck_assert_str_eq(obj.label, "both");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "both", &obj));
    ck_assert_int_eq(obj.cls, HSM_CLASS_KEY);
    ck_assert_uint_eq(value_of(tok, handle), 7);
}
END_TEST

START_TEST(destroyed_counter_is_gone)
{
    hsm_handle handle = make_counter("gone", 3);
    struct hsm_object obj;
    uint64_t value;

    ck_ok(hsm_destroy(tok, handle));
    ck_status(hsm_counter_get(tok, handle, &value), HSM_ERR_NO_OBJECT);
    ck_status(hsm_counter_increment(tok, handle, &value), HSM_ERR_NO_OBJECT);
    ck_status(find(tok, HSM_URI_TYPE_COUNTER, "gone", &obj), HSM_ERR_NO_OBJECT);
    ck_line_has(HSM_ERR_NO_OBJECT, "counter");
    ck_assert_uint_eq(value_of(tok, make_counter("gone", 0)), 0);
}
END_TEST

START_TEST(counter_is_read_without_pin_and_counts_only_with_it)
{
    hsm_handle handle = make_counter("open", 41);
    struct hsm_ctx *other = new_context(NULL);
    struct hsm_token *t = get_token(other);
    struct hsm_object_spec spec = counter_spec("new");
    struct hsm_object obj;
    uint64_t value;

    ck_ok(find(t, HSM_URI_TYPE_COUNTER, "open", &obj));
    ck_assert_uint_eq(value_of(t, obj.handle), 41);
    ck_status(hsm_counter_increment(t, obj.handle, &value), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_counter_create(t, &spec, 0, &handle), HSM_ERR_PIN_REQUIRED);
    ck_assert_uint_eq(value_of(t, obj.handle), 41);
    hsm_ctx_free(other);
}
END_TEST

START_TEST(keys_and_counters_are_not_taken_for_each_other)
{
    hsm_handle counter = make_counter("counter", 1), key = generate(tok, "ec:P-256", "key");
    struct hsm_object_spec spec = key_spec("ec:P-256", "x");
    struct hsm_mech mech = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    uint8_t sig[HSM_SIGNATURE_MAX], digest[32] = { 1 };
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    uint64_t value;

    ck_assert_int_ne(hsm_counter_get(tok, key, &value), HSM_OK);
    ck_assert_int_ne(hsm_counter_increment(tok, key, &value), HSM_OK);
    ck_assert_int_ne(hsm_sign(tok, counter, &mech, (struct hsm_bytes){ digest, sizeof(digest) }, &out),
                     HSM_OK);
    ck_assert_int_ne(hsm_get(tok, counter, &out), HSM_OK);
    ck_status(hsm_counter_create(tok, &spec, 0, &key), HSM_ERR_ARGUMENT);
    ck_assert_uint_eq(value_of(tok, counter), 1);
}
END_TEST

enum { THREADS = 4, STEPS = 25 };

struct adder {
    pthread_t thread;
    hsm_handle handle;
    uint64_t seen[STEPS];
    int failures;
};

static void *add_many(void *arg)
{
    struct adder *a = arg;
    int i;

    for (i = 0; i < STEPS; i++)
        a->failures += hsm_counter_increment(tok, a->handle, &a->seen[i]) != HSM_OK;
    return NULL;
}

START_TEST(every_increment_gets_a_number_of_its_own)
{
    struct adder adders[THREADS] = { { .failures = 0 } };
    bool seen[THREADS * STEPS + 1] = { false };
    hsm_handle handle = make_counter("busy", 0);
    int i, k;

    for (i = 0; i < THREADS; i++) {
        adders[i].handle = handle;
        ck_assert_int_eq(pthread_create(&adders[i].thread, NULL, add_many, &adders[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        (void)pthread_join(adders[i].thread, NULL);
        ck_assert_int_eq(adders[i].failures, 0);
        for (k = 0; k < STEPS; k++) {
            ck_assert_uint_ge(adders[i].seen[k], 1);
            ck_assert_uint_le(adders[i].seen[k], THREADS * STEPS);
            ck_assert(!seen[adders[i].seen[k]]);
            seen[adders[i].seen[k]] = true;
        }
    }
    ck_assert_uint_eq(value_of(tok, handle), THREADS * STEPS);
}
END_TEST

/* ---- the soft token's own ------------------------------------------------------------------------------ */

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;

    ck_assert_int_eq(sqlite3_open(token_spec + 5, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(edited_counter_is_refused_after_login)
{
    static const char *const edits[] = {
        "UPDATE object SET value = zeroblob(8) || substr(value, 9)",
        "UPDATE object SET value = substr(value, 1, 43) || x'00'",
        "UPDATE object SET label = 'other' WHERE label = 'first'",
        "UPDATE object SET value = (SELECT value FROM object WHERE label = 'second') WHERE label = 'first'",
        "UPDATE object SET value = substr(value, 1, 20)",
    };
    hsm_handle handle;
    uint64_t value = 0;

    if (!is_soft())
        return;
    handle = make_counter("first", 5);
    (void)make_counter("second", 1);
    run_sql(edits[_i]);
    ck_status(hsm_counter_get(tok, handle, &value), HSM_ERR_TOKEN_FORMAT);
    ck_status(hsm_counter_increment(tok, handle, &value), HSM_ERR_TOKEN_FORMAT);
}
END_TEST

START_TEST(soft_token_cannot_protect_and_needs_a_pin)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "protected");
    struct hsm_token_init init = default_init();
    struct hsm_token_info info;
    hsm_handle handle;

    if (!is_soft())
        return;
    spec.so_destroys = true;
    ck_status(hsm_generate(tok, &spec, &handle), HSM_ERR_UNSUPPORTED);
    ck_line_has(HSM_ERR_UNSUPPORTED, "protected");
    init.user_pin.len = 0;
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_PIN_FORMAT);
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(info.initialised && !info.no_pin);
    ck_assert_str_ne(info.model, "");
    ck_assert_str_eq(info.channel, "");
}
END_TEST

START_TEST(soft_token_neither_attests_nor_hashes_nor_is_administered)
{
    struct hsm_attestation proof;
    struct hsm_mech mech = { .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA256 };
    uint8_t bytes[HSM_CHALLENGE_LEN] = { 0 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_bytes in = { bytes, sizeof(bytes) };
    hsm_handle key;

    if (!is_soft())
        return;
    key = generate(tok, "ec:P-256", "key");
    ck_status(hsm_attest(tok, key, in, &proof), HSM_ERR_UNSUPPORTED);
    ck_line_has(HSM_ERR_UNSUPPORTED, "soft");
    ck_status(hsm_attest(tok, key, (struct hsm_bytes){ bytes, 15 }, &proof), HSM_ERR_DATA_LEN);
    ck_status(hsm_sign_message(tok, key, &mech, in, &out), HSM_ERR_UNSUPPORTED);
    ck_status(hsm_token_control(tok, "info", NULL, NULL, NULL), HSM_ERR_UNSUPPORTED);
}
END_TEST

static Suite *counter_suite(void)
{
    Suite *s = suite_create("counter");
    TCase *tc = tcase_create("counter");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, counter_begins_where_told_and_goes_up);
    tcase_add_test(tc, counter_never_wraps);
    tcase_add_test(tc, counter_is_listed_and_its_label_is_unique_in_its_class);
    tcase_add_test(tc, destroyed_counter_is_gone);
    tcase_add_test(tc, counter_is_read_without_pin_and_counts_only_with_it);
    tcase_add_test(tc, keys_and_counters_are_not_taken_for_each_other);
    tcase_add_test(tc, every_increment_gets_a_number_of_its_own);
    tcase_add_loop_test(tc, edited_counter_is_refused_after_login, 0, 5);
    tcase_add_test(tc, soft_token_cannot_protect_and_needs_a_pin);
    tcase_add_test(tc, soft_token_neither_attests_nor_hashes_nor_is_administered);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    clean_environment();
    return run_suite(counter_suite());
}
