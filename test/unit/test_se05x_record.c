/* SPDX-License-Identifier: Apache-2.0 */
/* The byte forms of records, TOKEN and JOURNAL. */
#include "token_fixture.h"

#include "se05x/record.h"

static uint8_t bytes[4096];
static struct hsm_buf out;

static void reset(void)
{
    memset(bytes, 0, sizeof(bytes));
    out = (struct hsm_buf){ bytes, sizeof(bytes), 0 };
}

static void none(void)
{
}

static struct se05x_record key_record(const char *kind, const char *label)
{
    EVP_PKEY *pkey = software_key(kind);
    struct se05x_record r;
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);

    memset(&r, 0, sizeof(r));
    r.state = SE05X_RECORD_LIVE;
    r.flags = SE05X_FLAG_SO_DESTROYS;
    r.value_id = SE05X_ID_VALUES | 0x123456;
    r.obj =
        (struct hsm_object){ .cls = HSM_CLASS_KEY, .kind = kind_of(kind), .origin = HSM_ORIGIN_GENERATED };
    r.obj.usage = hsm_kind_usages(&r.obj.kind);
    r.obj.created_s = 1764000000;
    (void)snprintf(r.obj.label, sizeof(r.obj.label), "%s", label);
    r.obj.id_len = 20;
    memset(r.obj.id, 0xa7, 20);
    memcpy(r.obj.spki, der, (size_t)len);
    r.obj.spki_len = (size_t)len;
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    return r;
}

static struct se05x_token_info token_info(void)
{
    struct se05x_token_info t;

    memset(&t, 0, sizeof(t));
    t.state = SE05X_TOKEN_READY;
    t.tries_max = 10;
    t.generation = 7;
    memset(t.instance, 0x11, sizeof(t.instance));
    t.pin[HSM_ROLE_USER].now = (struct se05x_pin_params){ SE05X_KDF_SCRYPT, 16, 8, 1, { 1, 2, 3 } };
    t.pin[HSM_ROLE_USER].next = (struct se05x_pin_params){ SE05X_KDF_HKDF, 0, 0, 0, { 4 } };
    t.pin[HSM_ROLE_SO].now = (struct se05x_pin_params){ SE05X_KDF_SCRYPT, 10, 8, 1, { 5 } };
    (void)snprintf(t.label, sizeof(t.label), "board 7");
    return t;
}

static struct se05x_journal some_journal(void)
{
    struct se05x_journal j;

    memset(&j, 0, sizeof(j));
    memset(j.instance, 0x22, sizeof(j.instance));
    j.entries[1] = (struct se05x_journal_entry){ SE05X_OP_CREATE, SE05X_ID_RECORDS | 5, SE05X_ID_VALUES | 6 };
    j.entries[3] = (struct se05x_journal_entry){ SE05X_OP_ORPHAN, SE05X_ID_RECORDS | 7, SE05X_ID_VALUES | 8 };
    return j;
}

/* ---- records
 * ------------------------------------------------------------------------------------------------ */

START_TEST(record_comes_back)
{
    struct se05x_record r = key_record(kinds[_i], "näme"), back;

    ck_ok(se05x_record_encode(&r, &out));
    ck_ok(se05x_record_decode((struct hsm_bytes){ bytes, out.len }, &back));
    ck_assert_mem_eq(&r, &back, sizeof(r));
}
END_TEST

/* The bytes that stand on chips in the field; a change here is a new format. */
START_TEST(record_has_its_fixed_form)
{
    static const uint8_t want[] = { 'h',  'R',  1,    1,    3,    0,    0,    2,    0,    0,
                                    0,    0,    0,    0,    0,    0,    0,    0,    0x69, 0x24,
                                    0x82, 0x80, 0x4a, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x02, 0x00,
                                    0x04, 0x02, 0x00, 0x00, 'd',  'a',  't',  'a',  0xbe, 0xef };
    struct se05x_record r;

    memset(&r, 0, sizeof(r));
    r.state = SE05X_RECORD_LIVE;
    r.value_id = SE05X_ID_VALUES | 0x2a;
    r.obj.cls = HSM_CLASS_DATA;
    r.obj.origin = HSM_ORIGIN_IMPORTED;
    r.obj.created_s = 0x69248280;
    r.obj.value_len = 512;
    (void)snprintf(r.obj.label, sizeof(r.obj.label), "data");
    r.obj.id_len = 2;
    memcpy(r.obj.id, "\xbe\xef", 2);
    ck_ok(se05x_record_encode(&r, &out));
    ck_assert_uint_eq(out.len, sizeof(want));
    ck_assert_mem_eq(bytes, want, sizeof(want));
}
END_TEST

START_TEST(record_decode_rejects_every_truncation)
{
    struct se05x_record r = key_record("ec:P-256", "key"), back;
    uint8_t *copy;
    size_t len;

    ck_ok(se05x_record_encode(&r, &out));
    for (len = 0; len < out.len; len++) {
        copy = malloc(len + 1); /* so that a sanitizer sees a byte too many */
        memcpy(copy, bytes, len);
        ck_status(se05x_record_decode((struct hsm_bytes){ copy, len }, &back), HSM_ERR_DATA);
        free(copy);
    }
    ck_status(se05x_record_decode((struct hsm_bytes){ bytes, out.len + 1 }, &back), HSM_ERR_DATA);
}
END_TEST

START_TEST(record_decode_rejects_what_we_never_write)
{
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = { { 0, 'H' },   { 1, 'T' }, { 2, 2 },   { 3, 0 },  { 3, 3 },    { 4, 0 },  { 4, 5 },
                    { 5, 9 },     { 6, 0 },   { 6, 9 },   { 7, 0 },  { 7, 3 },    { 10, 2 }, { 12, 0x80 },
                    { 22, 0x49 }, { 30, 0 },  { 31, 65 }, { 34, 0 }, { 34, 0xff } };
    struct se05x_record r = key_record("ec:P-256", "key"), back;
    size_t i;

    ck_ok(se05x_record_encode(&r, &out));
    for (i = 0; i < COUNT(changes); i++) {
        uint8_t saved = bytes[changes[i].at];

        bytes[changes[i].at] = changes[i].value;
        ck_assert_msg(se05x_record_decode((struct hsm_bytes){ bytes, out.len }, &back) == HSM_ERR_DATA,
                      "change %zu", i);
        bytes[changes[i].at] = saved;
    }
    ck_ok(se05x_record_decode((struct hsm_bytes){ bytes, out.len }, &back));
}
END_TEST

START_TEST(record_without_room_says_so)
{
    struct se05x_record r = key_record("rsa:4096", "key");
    struct hsm_buf small = { bytes, SE05X_RECORD_MAX, 0 };

    ck_ok(se05x_record_encode(&r, &small));
    memset(r.obj.label, 'x', HSM_LABEL_MAX);
    ck_status(se05x_record_encode(&r, &small), HSM_ERR_BUFFER);
    r.obj.id_len = HSM_ID_MAX;
    r.obj.spki_len = 0;
    r.flags |= SE05X_FLAG_SPKI_IN_KEY;
    ck_ok(se05x_record_encode(&r, &small));
    ck_ok(se05x_record_decode((struct hsm_bytes){ bytes, small.len }, &r));
}
END_TEST

START_TEST(tombstone_needs_no_name)
{
    struct se05x_record r = key_record("ed25519", "key"), back;

    ck_ok(se05x_record_encode(&r, &out));
    bytes[SE05X_RECORD_STATE_AT] = SE05X_RECORD_TOMBSTONE; /* what deleting writes */
    ck_ok(se05x_record_decode((struct hsm_bytes){ bytes, out.len }, &back));
    ck_assert_int_eq(back.state, SE05X_RECORD_TOMBSTONE);
}
END_TEST

START_TEST(probes_wrap_inside_their_range)
{
    ck_assert_uint_eq(se05x_record_id(0x123456, 0), 0x49123456);
    ck_assert_uint_eq(se05x_record_id(0xffffff, 0), 0x49ffffff);
    ck_assert_uint_eq(se05x_record_id(0xffffff, 1), 0x49000000);
    ck_assert_uint_eq(se05x_record_id(0xfffff8, SE05X_PROBES_MAX - 1), 0x49000007);
}
END_TEST

START_TEST(foreign_ids_are_not_ours)
{
    static const uint32_t foreign[] = { 0,          1,          0x20000001, 0x47ffffff, 0x4b000000,
                                        0x7fff0206, 0x7da00001, 0xf0000100, 0xffffffff };
    size_t i;

    for (i = 0; i < COUNT(foreign); i++)
        ck_assert(!se05x_is_ours(foreign[i]) && !se05x_is_record(foreign[i]) && !se05x_is_value(foreign[i]) &&
                  !se05x_is_auth(foreign[i]));
    ck_assert(se05x_is_ours(SE05X_ID_TOKEN) && se05x_is_ours(SE05X_ID_JOURNAL) &&
              se05x_is_ours(SE05X_ID_AUTH) && se05x_is_ours(0x49000000) && se05x_is_ours(0x4affffff));
}
END_TEST

/* ---- TOKEN
 * -------------------------------------------------------------------------------------------------- */

START_TEST(token_comes_back)
{
    struct se05x_token_info t = token_info(), back;

    t.no_pin = _i == 1;
    if (_i == 2)
        memset(t.label, 'x', HSM_LABEL_MAX);
    ck_ok(se05x_token_encode(&t, &out));
    ck_ok(se05x_token_decode((struct hsm_bytes){ bytes, out.len }, &back));
    ck_assert_mem_eq(&t, &back, sizeof(t));
}
END_TEST

START_TEST(token_decode_rejects_every_truncation)
{
    struct se05x_token_info t = token_info(), back;
    uint8_t *copy;
    size_t len;

    ck_ok(se05x_token_encode(&t, &out));
    for (len = 0; len < out.len; len++) {
        copy = malloc(len + 1);
        memcpy(copy, bytes, len);
        ck_status(se05x_token_decode((struct hsm_bytes){ copy, len }, &back), HSM_ERR_DATA);
        free(copy);
    }
}
END_TEST

/* A chip must not make us spend gigabytes or hours. */
START_TEST(token_decode_rejects_costly_parameters)
{
    static const struct se05x_pin_params bad[] = {
        { SE05X_KDF_SCRYPT, 21, 8, 1, { 0 } },   { SE05X_KDF_SCRYPT, 20, 9, 1, { 0 } },
        { SE05X_KDF_SCRYPT, 10, 8, 200, { 0 } }, { SE05X_KDF_SCRYPT, 0, 8, 1, { 0 } },
        { SE05X_KDF_SCRYPT, 10, 0, 1, { 0 } },   { SE05X_KDF_SCRYPT, 10, 8, 0, { 0 } },
        { SE05X_KDF_HKDF, 1, 0, 0, { 0 } },      { (enum se05x_kdf)3, 0, 0, 0, { 0 } },
        { SE05X_KDF_SCRYPT, 9, 8, 1, { 0 } }, /* nor let a PIN go cheaply */
    };
    struct se05x_token_info t = token_info(), back;

    t.pin[HSM_ROLE_SO].next = bad[_i];
    ck_ok(se05x_token_encode(&t, &out));
    ck_status(se05x_token_decode((struct hsm_bytes){ bytes, out.len }, &back), HSM_ERR_DATA);
}
END_TEST

START_TEST(pin_parameters_stand_where_they_are_written)
{
    struct se05x_token_info t = token_info(), back;
    struct se05x_pin changed = { .now = { SE05X_KDF_HKDF, 0, 0, 0, { 9, 9 } } };
    int role;

    for (role = HSM_ROLE_USER; role <= HSM_ROLE_SO; role++) {
        ck_ok(se05x_token_encode(&t, &out));
        se05x_pin_encode(&changed, bytes + se05x_pin_offset((enum hsm_role)role));
        ck_ok(se05x_token_decode((struct hsm_bytes){ bytes, out.len }, &back));
        ck_assert_mem_eq(&back.pin[role], &changed, sizeof(changed));
        ck_assert_mem_eq(&back.pin[1 - role], &t.pin[1 - role], sizeof(changed));
        ck_assert_str_eq(back.label, t.label);
    }
}
END_TEST

/* ---- JOURNAL
 * ------------------------------------------------------------------------------------------------ */

START_TEST(journal_comes_back)
{
    struct se05x_journal j = some_journal(), back;
    struct se05x_journal_entry e = { SE05X_OP_DESTROY, SE05X_ID_RECORDS | 1, SE05X_ID_VALUES | 2 };

    se05x_journal_encode(&j, bytes);
    ck_ok(se05x_journal_decode((struct hsm_bytes){ bytes, SE05X_JOURNAL_LEN }, &back));
    ck_assert_mem_eq(&j, &back, sizeof(j));
    se05x_journal_entry_encode(&e, bytes + se05x_journal_offset(2));
    ck_ok(se05x_journal_decode((struct hsm_bytes){ bytes, SE05X_JOURNAL_LEN }, &back));
    ck_assert_mem_eq(&back.entries[2], &e, sizeof(e));
    ck_assert_mem_eq(&back.entries[1], &j.entries[1], sizeof(e));
}
END_TEST

/* Whatever it names will be deleted. */
START_TEST(journal_decode_rejects_objects_of_others)
{
    static const struct se05x_journal_entry bad[] = {
        { SE05X_OP_CREATE, SE05X_ID_RECORDS, 0xf0000100 },
        { SE05X_OP_DESTROY, 0x20000001, SE05X_ID_VALUES },
        { SE05X_OP_ORPHAN, SE05X_ID_RECORDS, SE05X_ID_TOKEN },
        { (enum se05x_journal_op)4, SE05X_ID_RECORDS, SE05X_ID_VALUES },
    };
    struct se05x_journal j = some_journal(), back;

    j.entries[0] = bad[_i];
    se05x_journal_encode(&j, bytes);
    ck_status(se05x_journal_decode((struct hsm_bytes){ bytes, SE05X_JOURNAL_LEN }, &back), HSM_ERR_DATA);
}
END_TEST

START_TEST(journal_decode_rejects_every_other_length)
{
    struct se05x_journal j = some_journal(), back;
    size_t len;

    se05x_journal_encode(&j, bytes);
    for (len = 0; len <= SE05X_JOURNAL_LEN + 1; len++)
        ck_status(se05x_journal_decode((struct hsm_bytes){ bytes, len }, &back),
                  len == SE05X_JOURNAL_LEN ? HSM_OK : HSM_ERR_DATA);
}
END_TEST

static Suite *record_suite(void)
{
    Suite *s = suite_create("se05x_record");
    TCase *tc = tcase_create("record");

    tcase_add_checked_fixture(tc, reset, none);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, record_comes_back, 0, COUNT(kinds) - 1); /* all but a slow rsa:4096 */
    tcase_add_test(tc, record_has_its_fixed_form);
    tcase_add_test(tc, record_decode_rejects_every_truncation);
    tcase_add_test(tc, record_decode_rejects_what_we_never_write);
    tcase_add_test(tc, record_without_room_says_so);
    tcase_add_test(tc, tombstone_needs_no_name);
    tcase_add_test(tc, probes_wrap_inside_their_range);
    tcase_add_test(tc, foreign_ids_are_not_ours);
    tcase_add_loop_test(tc, token_comes_back, 0, 3);
    tcase_add_test(tc, token_decode_rejects_every_truncation);
    tcase_add_loop_test(tc, token_decode_rejects_costly_parameters, 0, 9);
    tcase_add_test(tc, pin_parameters_stand_where_they_are_written);
    tcase_add_test(tc, journal_comes_back);
    tcase_add_loop_test(tc, journal_decode_rejects_objects_of_others, 0, 4);
    tcase_add_test(tc, journal_decode_rejects_every_other_length);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    clean_environment();
    return run_suite(record_suite());
}
