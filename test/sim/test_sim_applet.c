/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated IoT applet without bus and card manager: the worked commands of the protocol reference with
 * the answers it gives for them, and what the reference says silicon does around them.
 */
#include "applet.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/kdf.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static const struct sim_personality se050c = {
    .name = "3.1.1",
    .version = { 3, 1, 1 },
    .config = 0x6FFF,
    .secure_box = 0x010B,
    .random_max = 880,
    .persistent_free = 31304,
    .transient_reset_free = 575,
    .transient_deselect_free = 560,
};
static const struct sim_personality se051 = {
    .name = "7.2.0",
    .version = { 7, 2, 0 },
    .config = 0x3FFF,
    .secure_box = 0xFFFF,
    .v7 = true,
    .random_max = 1018,
    .persistent_free = 21000,
    .transient_reset_free = 605,
    .transient_deselect_free = 592,
};
static const struct sim_personality se050e = {
    .name = "7.2.0-se050e",
    .version = { 7, 2, 0 },
    .config = 0x3F9F,
    .secure_box = 0xFFFF,
    .v7 = true,
    .random_max = 1018,
    .persistent_free = 32767,
    .transient_reset_free = 796,
    .transient_deselect_free = 784,
};
static const struct sim_personality se050f = {
    .name = "3.6.0-se050f",
    .version = { 3, 6, 0 },
    .config = 0x61D2,
    .secure_box = 0x010B,
    .random_max = 880,
    .persistent_free = 31304,
    .transient_reset_free = 607,
    .transient_deselect_free = 592,
};
static const struct sim_personality se052f = {
    .name = "7.2.22",
    .version = { 7, 2, 0x16 },
    .config = 0x26F2,
    .secure_box = 0xFFFF,
    .v7 = true,
    .random_max = 1003,
    .persistent_free = 86336,
    .transient_reset_free = 1157,
    .transient_deselect_free = 1152,
};

static const struct sim_caller nobody;
static struct applet *part;
static struct sim_caller who;
static struct sim_out answer;
static uint64_t spent_us;

/* ---- commands ----------------------------------------------------------------------------------------- */

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t len = 0;
    unsigned value;

    for (; *hex != '\0'; hex += *hex == ' ' ? 1 : 2)
        if (*hex != ' ') {
            ck_assert_int_eq(sscanf(hex, "%2x", &value), 1);
            out[len++] = (uint8_t)value;
        }
    return len;
}

/* In all forms of Lc and Le */
static struct sim_apdu split(const uint8_t *cmd, size_t len)
{
    struct sim_apdu apdu = { .cla = cmd[0], .ins = cmd[1], .p1 = cmd[2], .p2 = cmd[3] };

    ck_assert_uint_ge(len, 4);
    apdu.whole = (struct sim_bytes){ cmd, 4 };
    if (len > 7 && cmd[4] == 0)
        apdu.data = (struct sim_bytes){ cmd + 7, (size_t)cmd[5] << 8 | cmd[6] };
    else if (len > 5)
        apdu.data = (struct sim_bytes){ cmd + 5, cmd[4] };
    if (apdu.data.len > 0)
        apdu.whole.len = (size_t)(apdu.data.ptr - cmd) + apdu.data.len;
    ck_assert_uint_le(apdu.whole.len, len);
    return apdu;
}

static uint16_t run(const char *hex)
{
    uint8_t cmd[SIM_APDU_MAX];
    struct sim_apdu apdu = split(cmd, unhex(hex, cmd));

    return applet_command(part, &who, &apdu, &answer, &spent_us);
}

static void expect(uint16_t sw, const char *hex)
{
    uint16_t got = run(hex);

    ck_assert_msg(got == sw, "%s: %04X instead of %04X", hex, got, sw);
    if (sw != SW_OK)
        ck_assert_uint_eq(answer.len, 0);
}

/* Answer as given; a final ".." leaves the rest open */
static void expect_answer(const char *hex, const char *want)
{
    uint8_t bytes[SIM_APDU_MAX];
    char text[1024];
    size_t len, dots = strlen(want);

    snprintf(text, sizeof(text), "%s", want);
    if (dots >= 2 && strcmp(text + dots - 2, "..") == 0)
        text[dots - 2] = '\0';
    len = unhex(text, bytes);
    expect(SW_OK, hex);
    if (dots == strlen(text))
        ck_assert_uint_eq(answer.len, len);
    ck_assert_uint_ge(answer.len, len);
    ck_assert_msg(memcmp(answer.data, bytes, len) == 0, "%s: another answer", hex);
}

struct builder {
    uint8_t data[SIM_APDU_MAX];
    size_t len;
};

static struct builder with_id(uint32_t id)
{
    struct builder b = { { 0x41, 4 }, 6 };

    put_be(b.data + 2, id, 4);
    return b;
}

static void add(struct builder *b, uint8_t tag, const void *ptr, size_t len)
{
    b->data[b->len++] = tag;
    if (len > 0xFF)
        b->data[b->len++] = 0x82;
    else if (len > 0x7F)
        b->data[b->len++] = 0x81;
    if (len > 0xFF)
        b->data[b->len++] = (uint8_t)(len >> 8);
    b->data[b->len++] = (uint8_t)len;
    if (len > 0)
        memcpy(b->data + b->len, ptr, len);
    b->len += len;
}

static void add_hex(struct builder *b, const char *hex)
{
    b->len += unhex(hex, b->data + b->len);
}

static uint16_t send(uint8_t ins, uint8_t p1, uint8_t p2, const struct builder *b)
{
    uint8_t cmd[SIM_APDU_MAX + 8] = { 0x80, ins, p1, p2, 0, (uint8_t)(b->len >> 8), (uint8_t)b->len };
    struct sim_apdu apdu;

    memcpy(cmd + 7, b->data, b->len);
    apdu = split(cmd, 7 + b->len);
    return applet_command(part, &who, &apdu, &answer, &spent_us);
}

/* The value of a tag in the answer, whatever the form of its length */
static struct sim_bytes value(uint8_t tag)
{
    for (size_t i = 0; i + 2 <= answer.len;) {
        size_t head = answer.data[i + 1] == 0x82 ? 4 : 2;
        size_t len = head == 4 ? (size_t)answer.data[i + 2] << 8 | answer.data[i + 3] : answer.data[i + 1];

        if (answer.data[i] == tag)
            return (struct sim_bytes){ answer.data + i + head, len };
        i += head + len;
    }
    ck_abort_msg("no tag %02X in the answer", tag);
    return (struct sim_bytes){ NULL, 0 };
}

static size_t keep(uint8_t tag, uint8_t *out)
{
    struct sim_bytes v = value(tag);

    memcpy(out, v.ptr, v.len);
    return v.len;
}

static void start(const struct sim_personality *p)
{
    applet_free(part);
    part = applet_new(p, NULL);
    ck_assert_ptr_nonnull(part);
    who = nobody;
}

static void stop(void)
{
    applet_free(part);
    part = NULL;
}

static void as(uint32_t auth_id, bool secure)
{
    who = (struct sim_caller){ .auth_id = auth_id, .secure = secure, .in_session = auth_id != 0 };
}

/* ---- libcrypto as the other side ---------------------------------------------------------------------- */

static EVP_PKEY *p256_public(struct sim_bytes point)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t) "P-256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point.ptr, point.len),
        OSSL_PARAM_construct_end(),
    };

    ck_assert_int_eq(EVP_PKEY_fromdata_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static bool verifies(EVP_PKEY *pkey, const char *digest, const void *msg, size_t len, struct sim_bytes sig)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit_ex(md, NULL, digest, NULL, NULL, pkey, NULL) == 1 &&
              EVP_DigestVerify(md, sig.ptr, sig.len, msg, len) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

static size_t bn_param(EVP_PKEY *pkey, const char *name, uint8_t *out)
{
    BIGNUM *n = NULL;
    size_t len;

    ck_assert_int_eq(EVP_PKEY_get_bn_param(pkey, name, &n), 1);
    len = (size_t)BN_bn2bin(n, out);
    BN_clear_free(n);
    return len;
}

static const char *sha256_of_abc = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";

/* ---- the worked commands ------------------------------------------------------------------------------ */

START_TEST(management_answers_as_worked)
{
    start(&se051);
    expect_answer("80 04 00 20 00", "41 82 00 07 07 02 00 3F FF FF FF");
    expect_answer("80 04 00 20", "41 82 00 07 07 02 00 3F FF FF FF");
    expect_answer("80 04 00 22 03 41 01 01", "41 02 52 08");
    expect(SW_DATA, "80 04 00 22 03 41 01 04");
    expect_answer("80 04 00 49 00 00 04 41 02 00 20 00 00", "41 82 00 20 ..");
    ck_assert_uint_eq(answer.len, 36);
    expect(SW_OK, "80 04 00 49 00 00 04 41 02 03 FA 00 00");
    expect(SW_CONDITIONS, "80 04 00 49 00 00 04 41 02 03 FB 00 00");
    expect(SW_CONDITIONS, "80 04 00 49 00 00 04 41 02 00 00 00 00");
    expect_answer("80 02 00 00 00 00 06 41 04 7F FF 02 06 00 00", "41 82 00 12 04 00 50 01 ..");
    expect_answer("80 04 00 27 06 41 04 20 00 00 01", "41 01 02");
    expect_answer("80 04 00 3D 00", "41 82 00 0C ..");
    expect_answer("80 04 00 21 00", "41 82 00 25 07 02 00 3F FF FF FF ..");
    expect_answer("80 02 00 5B 00", "41 82 00 03 02 00 02");
    expect_answer("80 04 00 58 04 41 02 FD 02", "41 01 01");
    expect(SW_CONDITIONS, "80 04 00 2A 00");
    expect(SW_P1P2, "80 04 00 99 00");
    expect(SW_INS, "80 07 00 00 00");
    expect(SW_CLA, "00 04 00 20 00");
    expect(SW_DATA, "80 04 00 49 04 41 03 00 20");
    expect(SW_DATA, "80 03 0C 09 09 42 01 21 41 04 20 00 00 01"); /* tags out of order */
}
END_TEST

START_TEST(versions_and_memory_of_3x_and_se052)
{
    start(&se050c);
    expect_answer("80 04 00 20 00", "41 82 00 07 03 01 01 6F FF 01 0B");
    expect_answer("80 04 00 22 03 41 01 01", "41 02 7A 48");
    expect(SW_P1P2, "80 04 00 21 00");
    expect(SW_OK, "80 04 00 49 04 41 02 03 70");
    expect(SW_CONDITIONS, "80 04 00 49 04 41 02 03 71");
    start(&se052f);
    expect_answer("80 04 00 22 03 41 01 01", "41 82 00 04 00 01 51 40");
}
END_TEST

START_TEST(ec_key_life_as_worked)
{
    static const struct sim_personality *const parts[] = { &se050c, &se050e };
    uint8_t pub[65], sig[128], digest[32], peer[65];
    size_t sig_len, digest_len;
    struct builder b;
    EVP_PKEY *pkey;
    bool v7 = _i == 1;

    start(parts[_i]);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    expect_answer("80 04 00 27 06 41 04 20 00 00 01", "41 01 01");
    expect_answer("80 02 00 26 06 41 04 20 00 00 01", v7 ? "41 01 29 42 01 01" : "41 01 01 42 01 01");
    expect_answer("80 02 0B 36 06 41 04 20 00 00 01", "41 01 03");
    expect_answer("80 02 00 07 06 41 04 20 00 00 01", "41 02 00 20");
    expect_answer("80 02 0B 25 00", "41 82 00 11 01 01 02 01 ..");
    expect_answer("80 02 00 00 00 00 06 41 04 20 00 00 01 00 00", "41 82 00 41 04 ..");
    ck_assert_uint_eq(keep(TAG_1, pub), 65);

    b = with_id(0x20000001);
    add_hex(&b, "42 01 21");
    digest_len = unhex(sha256_of_abc, digest);
    add(&b, TAG_3, digest, digest_len);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x09, &b), SW_OK);
    sig_len = keep(TAG_1, sig);
    pkey = p256_public((struct sim_bytes){ pub, 65 });
    ck_assert(verifies(pkey, "SHA256", "abc", 3, (struct sim_bytes){ sig, sig_len }));
    EVP_PKEY_free(pkey);
    add(&b, TAG_5, sig, sig_len);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_mem_eq(answer.data, "\x41\x01\x01", 3);
    b.data[b.len - 1] ^= 1;
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_mem_eq(answer.data, "\x41\x01\x02", 3);

    /* both ends of an agreement inside the chip */
    expect(SW_OK, "80 81 61 00 09 41 04 20 00 00 03 42 01 03");
    expect_answer("80 02 00 26 06 41 04 20 00 00 03", v7 ? "41 01 29 42 01 02" : "41 01 01 42 01 02");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 03");
    keep(TAG_1, peer);
    b = with_id(0x20000001);
    add(&b, TAG_2, peer, 65);
    ck_assert_uint_eq(send(0x03, 0x01, 0x0F, &b), SW_OK);
    ck_assert_uint_eq(keep(TAG_1, digest), 32);
    b = with_id(0x20000003);
    add(&b, TAG_2, pub, 65);
    ck_assert_uint_eq(send(0x03, 0x01, 0x0F, &b), SW_OK);
    ck_assert_mem_eq(value(TAG_1).ptr, digest, 32);
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 01");
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    expect(SW_CONDITIONS, "80 02 00 07 06 41 04 20 00 00 01");
    expect(SW_CONDITIONS, "80 02 00 00 06 41 04 20 00 00 01");
}
END_TEST

START_TEST(digest_of_wrong_length_is_refused)
{
    static const struct {
        uint8_t algo, len;
    } good[] = { { 0x11, 20 }, { 0x25, 28 }, { 0x21, 32 }, { 0x22, 48 }, { 0x26, 64 } };
    static const uint8_t zeros[65];

    start(&se050e);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        for (int off = -1; off <= 1; off++) {
            struct builder b = with_id(0x20000001);

            add(&b, TAG_2, &good[i].algo, 1);
            add(&b, TAG_3, zeros, (size_t)(good[i].len + off));
            ck_assert_uint_eq(send(0x03, 0x0C, 0x09, &b), off == 0 ? SW_OK : SW_CONDITIONS);
        }
    expect(SW_CONDITIONS, "80 03 0C 09 0B 41 04 20 00 00 01 42 01 09 43 00"); /* PLAIN is not there */
}
END_TEST

START_TEST(ec_import_in_parts)
{
    uint8_t priv[32], pub[65], bad[65];
    struct builder b;
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    size_t len;
    BIGNUM *d = NULL;

    start(&se051);
    ck_assert_int_eq(EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d), 1);
    BN_bn2binpad(d, priv, 32);
    BN_clear_free(d);
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, pub, 65, &len), 1);
    b = with_id(0x20000004);
    add_hex(&b, "42 01 03");
    add(&b, TAG_3, priv, 32);
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_DATA); /* a pair needs both */
    ck_assert_uint_eq(send(0x01, 0x41, 0x00, &b), SW_OK);
    expect_answer("80 02 00 26 06 41 04 20 00 00 04", "41 01 2A 42 01 01");
    expect(SW_CONDITIONS, "80 02 00 00 06 41 04 20 00 00 04");
    expect(SW_OK, "80 03 0C 09 1F 41 04 20 00 00 04 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
    b.data[b.len - 34 - 3 - 1] = 5; /* another id */
    add(&b, TAG_4, pub, 65);
    add_hex(&b, "4B 04 00 00 00 07");
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    expect_answer("80 02 00 00 06 41 04 20 00 00 05", "41 82 00 41 04 ..");
    ck_assert_mem_eq(value(TAG_1).ptr, pub, 65);
    expect(SW_OK, "80 02 00 3B 06 41 04 20 00 00 05");
    ck_assert_uint_eq(value(TAG_3).ptr[value(TAG_3).len - 1], 7);
    ck_assert_uint_eq(value(TAG_3).ptr[value(TAG_3).len - 5], ORIGIN_EXTERNAL);
    memcpy(bad, pub, 65);
    bad[64] ^= 1; /* off the curve */
    b = with_id(0x20000006);
    add_hex(&b, "42 01 03");
    add(&b, TAG_4, bad, 65);
    ck_assert_uint_eq(send(0x01, 0x21, 0x00, &b), SW_DATA);
    expect_answer("80 04 00 27 06 41 04 20 00 00 06", "41 01 02");
    EVP_PKEY_free(pkey);
}
END_TEST

/* ---- curves ------------------------------------------------------------------------------------------- */

static uint16_t set_param(uint8_t id, uint8_t bit, const struct buf *param)
{
    struct builder b = { { 0x41, 1, id, 0x42, 1, bit }, 6 };

    add(&b, TAG_3, param->ptr, param->len);
    return send(0x01, 0x0B, 0x40, &b);
}

static void set_curve(uint8_t id)
{
    static const uint8_t bits[] = { 0x01, 0x02, 0x04, 0x08, 0x10 };
    struct buf params[CURVE_PARAMS] = { { NULL, 0 } };
    char create[32];

    snprintf(create, sizeof(create), "80 01 0B 04 03 41 01 %02X", id);
    expect(SW_OK, create);
    ck_assert(curve_standard(part, curve_info(id), params));
    for (size_t i = 0; i < CURVE_PARAMS; i++) {
        ck_assert_uint_eq(set_param(id, bits[i], &params[i]), SW_OK);
        buf_clear(&params[i]);
    }
}

START_TEST(every_curve_generates_signs_and_verifies)
{
    static const uint8_t digest[32] = { 1, 2, 3 };
    uint8_t id = (uint8_t)_i, sig[150];
    struct builder b = with_id(0x20000001);
    size_t sig_len;
    char type[32];

    start(&se050e);
    add(&b, TAG_2, &id, 1);
    if (id != 0x03) {
        ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_CONDITIONS); /* not before it has its parameters */
        set_curve(id);
    }
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    snprintf(type, sizeof(type), "41 01 %02X 42 01 01", 0x1D + 4 * id);
    expect_answer("80 02 00 26 06 41 04 20 00 00 01", type);
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 01");
    ck_assert_uint_eq(value(TAG_1).len, 1 + 2 * (size_t)curve_info(id)->field_len);
    b = with_id(0x20000001);
    add_hex(&b, "42 01 21");
    add(&b, TAG_3, digest, sizeof(digest));
    ck_assert_uint_eq(send(0x03, 0x0C, 0x09, &b), SW_OK);
    sig_len = keep(TAG_1, sig);
    add(&b, TAG_5, sig, sig_len);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_uint_eq(answer.data[2], 1);
}
END_TEST

START_TEST(second_create_wipes_on_3x_and_is_refused_on_7x)
{
    start(&se050c);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    expect(SW_OK, "80 01 0B 04 03 41 01 03");
    expect_answer("80 02 0B 25 00", "41 82 00 11 01 01 02 01 ..");
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 02 42 01 03");
    set_curve(0x03);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 02 42 01 03");
    start(&se050e);
    expect(SW_CONDITIONS, "80 01 0B 04 03 41 01 03");
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 02 42 01 03");
}
END_TEST

START_TEST(wrong_curve_parameters_are_found_with_the_fifth)
{
    struct buf params[CURVE_PARAMS] = { { NULL, 0 } };

    start(&se050e);
    expect(SW_CONDITIONS, "80 01 0B 40 09 41 01 04 42 01 01 43 01 00"); /* not created */
    expect(SW_OK, "80 01 0B 04 03 41 01 04");
    expect(SW_DATA, "80 01 0B 40 09 41 01 04 42 01 01 43 01 00");
    ck_assert(curve_standard(part, curve_info(0x04), params));
    params[3].ptr[0] ^= 1;
    ck_assert_uint_eq(set_param(0x04, 0x01, &params[0]), SW_OK);
    ck_assert_uint_eq(set_param(0x04, 0x02, &params[1]), SW_OK);
    ck_assert_uint_eq(set_param(0x04, 0x04, &params[2]), SW_OK);
    ck_assert_uint_eq(set_param(0x04, 0x08, &params[3]), SW_OK);
    ck_assert_uint_eq(set_param(0x04, 0x10, &params[4]), SW_DATA);
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 02 42 01 04");
    expect(SW_OK, "80 04 0B 28 03 41 01 04");
    set_curve(0x04);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 02 42 01 04");
    for (size_t i = 0; i < CURVE_PARAMS; i++)
        buf_clear(&params[i]);
}
END_TEST

/* ---- 25519 and 448: bytes reversed -------------------------------------------------------------------- */

START_TEST(ed25519_public_key_and_signature_are_reversed)
{
    uint8_t pub[32], rfc_pub[32], sig[64], rfc_sig[64], seed[32];
    struct builder b;
    size_t len = 32;
    EVP_PKEY *pkey;

    start(&se050e);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 0A 42 01 40");
    expect_answer("80 02 00 26 06 41 04 20 00 00 0A", "41 01 65 42 01 01");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 0A");
    ck_assert_uint_eq(keep(TAG_1, pub), 32);
    reverse(rfc_pub, (struct sim_bytes){ pub, 32 });
    expect_answer("80 03 0C 09 10 41 04 20 00 00 0A 42 01 A3 43 05 68 65 6C 6C 6F", "41 82 00 40 ..");
    keep(TAG_1, sig);
    reverse(rfc_sig, (struct sim_bytes){ sig, 32 });
    reverse(rfc_sig + 32, (struct sim_bytes){ sig + 32, 32 });
    pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, rfc_pub, 32);
    ck_assert(verifies(pkey, NULL, "hello", 5, (struct sim_bytes){ rfc_sig, 64 }));
    EVP_PKEY_free(pkey);
    b = with_id(0x2000000A);
    add_hex(&b, "42 01 A3 43 05 68656C6C6F");
    add(&b, TAG_5, sig, 64);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_uint_eq(answer.data[2], 1);

    /* import: the seed as it is, the public key reversed */
    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    ck_assert_int_eq(EVP_PKEY_get_raw_private_key(pkey, seed, &len), 1);
    ck_assert_int_eq(EVP_PKEY_get_raw_public_key(pkey, rfc_pub, &len), 1);
    reverse(pub, (struct sim_bytes){ rfc_pub, 32 });
    b = with_id(0x20000020);
    add_hex(&b, "42 01 40");
    add(&b, TAG_3, seed, 32);
    add(&b, TAG_4, pub, 32);
    add_hex(&b, "4B 04 00000000");
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    expect(SW_OK, "80 03 0C 09 10 41 04 20 00 00 20 42 01 A3 43 05 68 65 6C 6C 6F");
    keep(TAG_1, sig);
    reverse(rfc_sig, (struct sim_bytes){ sig, 32 });
    reverse(rfc_sig + 32, (struct sim_bytes){ sig + 32, 32 });
    ck_assert(verifies(pkey, NULL, "hello", 5, (struct sim_bytes){ rfc_sig, 64 }));
    EVP_PKEY_free(pkey);
}
END_TEST

/* Our own key against one of the chip, on X25519 (0) and X448 (1) */
START_TEST(montgomery_values_are_reversed)
{
    const char *name = _i == 0 ? "X25519" : "X448";
    size_t n = _i == 0 ? 32 : 56, len;
    uint8_t chip[56], rfc[56], secret[56], got[56], curve = _i == 0 ? 0x41 : 0x43;
    EVP_PKEY *mine = EVP_PKEY_Q_keygen(NULL, NULL, name), *theirs;
    EVP_PKEY_CTX *ctx;
    struct builder b = with_id(0x20000021);

    start(&se050e);
    add(&b, TAG_2, &curve, 1);
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 21");
    ck_assert_uint_eq(keep(TAG_1, chip), n);
    reverse(rfc, (struct sim_bytes){ chip, n });
    theirs = EVP_PKEY_new_raw_public_key_ex(NULL, name, NULL, rfc, n);
    ctx = EVP_PKEY_CTX_new(mine, NULL);
    len = sizeof(secret);
    ck_assert_int_eq(EVP_PKEY_derive_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(ctx, theirs), 1);
    ck_assert_int_eq(EVP_PKEY_derive(ctx, secret, &len), 1);

    len = sizeof(rfc);
    ck_assert_int_eq(EVP_PKEY_get_raw_public_key(mine, rfc, &len), 1);
    reverse(chip, (struct sim_bytes){ rfc, n });
    b = with_id(0x20000021);
    add(&b, TAG_2, chip, n);
    ck_assert_uint_eq(send(0x03, 0x01, 0x0F, &b), SW_OK);
    ck_assert_uint_eq(value(TAG_1).len, n);
    reverse(got, value(TAG_1));
    ck_assert_mem_eq(got, secret, n);

    /* and imported, byte-reversed, our key gives the same with the chip's */
    len = sizeof(rfc);
    ck_assert_int_eq(EVP_PKEY_get_raw_private_key(mine, rfc, &len), 1);
    reverse(got, (struct sim_bytes){ rfc, n });
    b = with_id(0x20000022);
    add(&b, TAG_2, &curve, 1);
    add(&b, TAG_3, got, n);
    add(&b, TAG_4, chip, n);
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    expect(SW_OK, "80 03 01 0F 0C 41 04 20 00 00 22 43 04 20 00 00 21"); /* peer by its object */
    reverse(got, value(TAG_1));
    ck_assert_mem_eq(got, secret, n);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(mine);
}
END_TEST

/* HKDF over a stored secret tells in which order it was stored */
static void hkdf_of(uint32_t id, uint8_t out[32])
{
    struct builder b = with_id(id);

    add_hex(&b, "42 01 04 43 04 01020304 45 02 0020");
    ck_assert_uint_eq(send(0x03, 0x00, 0x2D, &b), SW_OK);
    ck_assert_uint_eq(keep(TAG_1, out), 32);
}

START_TEST(dh_reverse_stores_rfc_order)
{
    uint8_t secret[32], reversed[32], peer[32], stored[32], expected[32];
    struct builder b;

    start(&se050e);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 21 42 01 41");
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 22 42 01 41");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 22");
    keep(TAG_1, peer);
    b = with_id(0x20000021);
    add(&b, TAG_2, peer, 32);
    ck_assert_uint_eq(send(0x03, 0x01, 0x0F, &b), SW_OK);
    keep(TAG_1, secret);
    reverse(reversed, (struct sim_bytes){ secret, 32 });
    add_hex(&b, "47 04 20000023");
    ck_assert_uint_eq(send(0x03, 0x01, 0x59, &b), SW_CONDITIONS); /* no target yet */
    expect(SW_OK, "80 01 05 00 19 41 04 20 00 00 23 43 11 0000000000000000000000000000000000");
    ck_assert_uint_eq(send(0x03, 0x01, 0x59, &b), SW_CONDITIONS); /* 17 bytes, not 32 */
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 23");
    expect(SW_OK, "80 01 05 00 28 41 04 20 00 00 23 43 20 "
                  "0000000000000000000000000000000000000000000000000000000000000000");
    ck_assert_uint_eq(send(0x03, 0x01, 0x59, &b), SW_OK);
    ck_assert_uint_eq(answer.len, 0);
    hkdf_of(0x20000023, stored);
    b = with_id(0x20000024);
    add(&b, TAG_3, reversed, 32);
    ck_assert_uint_eq(send(0x01, 0x05, 0x00, &b), SW_OK);
    hkdf_of(0x20000024, expected);
    ck_assert_mem_eq(stored, expected, 32);
    expect(SW_DENIED, "80 02 00 00 06 41 04 20 00 00 23"); /* never to be read */
}
END_TEST

/* ---- RSA ---------------------------------------------------------------------------------------------- */

static const struct {
    uint8_t tag;
    const char *name;
} crt_parts[] = {
    { TAG_3, OSSL_PKEY_PARAM_RSA_FACTOR1 },      { TAG_4, OSSL_PKEY_PARAM_RSA_FACTOR2 },
    { TAG_5, OSSL_PKEY_PARAM_RSA_EXPONENT1 },    { TAG_6, OSSL_PKEY_PARAM_RSA_EXPONENT2 },
    { TAG_7, OSSL_PKEY_PARAM_RSA_COEFFICIENT1 }, { TAG_8, OSSL_PKEY_PARAM_RSA_E },
    { TAG_10, OSSL_PKEY_PARAM_RSA_N },
};

static void rsa_component(EVP_PKEY *pkey, uint32_t id, uint8_t p1, uint8_t p2, uint16_t bits, uint8_t tag,
                          const char *name)
{
    uint8_t raw[514] = { 0 };
    struct builder b = with_id(id);
    size_t len = bn_param(pkey, name, raw + 1);
    size_t odd = tag != TAG_8 && len % 2 != 0; /* senders even it out */

    if (bits != 0)
        add(&b, TAG_2, (uint8_t[]){ (uint8_t)(bits >> 8), (uint8_t)bits }, 2);
    add(&b, tag, raw + 1 - odd, len + odd);
    ck_assert_uint_eq(send(0x01, p1, p2, &b), SW_OK);
}

START_TEST(rsa_import_is_usable_when_the_last_component_is_in)
{
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    const char *sign = "80 03 0C 09 10 41 04 20 00 00 10 42 01 28 43 05 68 65 6C 6C 6F";
    size_t count = sizeof(crt_parts) / sizeof(crt_parts[0]);

    start(&se051);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            expect(SW_CONDITIONS, sign);
        rsa_component(pkey, 0x20000010, i == 0 ? 0x62 : 0x02, 0x00, i == 0 ? 2048 : 0, crt_parts[i].tag,
                      crt_parts[i].name);
    }
    expect_answer(sign, "41 82 01 00 ..");
    ck_assert(verifies(pkey, "SHA256", "hello", 5, value(TAG_1)));
    expect_answer("80 02 00 26 06 41 04 20 00 00 10", "41 01 05 42 01 01");
    expect_answer("80 02 00 07 06 41 04 20 00 00 10", "41 02 01 00");
    expect_answer("80 02 00 00 00 00 09 41 04 20 00 00 10 44 01 01 00 00", "41 82 00 03 01 00 01");
    expect_answer("80 02 00 00 00 00 09 41 04 20 00 00 10 44 01 00 00 00", "41 82 01 00 ..");
    expect(SW_CONDITIONS, "80 02 00 00 00 00 09 41 04 20 00 00 10 44 01 02 00 00");

    /* plain: e, d, n; and private only: d, n */
    rsa_component(pkey, 0x20000011, 0x62, 0x4F, 2048, TAG_8, OSSL_PKEY_PARAM_RSA_E);
    rsa_component(pkey, 0x20000011, 0x02, 0x4F, 0, TAG_9, OSSL_PKEY_PARAM_RSA_D);
    rsa_component(pkey, 0x20000011, 0x02, 0x4F, 0, TAG_10, OSSL_PKEY_PARAM_RSA_N);
    expect_answer("80 02 00 26 06 41 04 20 00 00 11", "41 01 04 42 01 01");
    expect(SW_OK, "80 03 0C 09 10 41 04 20 00 00 11 42 01 2C 43 05 68 65 6C 6C 6F");
    rsa_component(pkey, 0x20000012, 0x42, 0x4F, 2048, TAG_9, OSSL_PKEY_PARAM_RSA_D);
    rsa_component(pkey, 0x20000012, 0x02, 0x4F, 0, TAG_10, OSSL_PKEY_PARAM_RSA_N);
    expect(SW_OK, "80 03 0C 09 10 41 04 20 00 00 12 42 01 28 43 05 68 65 6C 6C 6F");
    ck_assert(verifies(pkey, "SHA256", "hello", 5, value(TAG_1)));
    /* CRT private only: n and e follow from the rest */
    for (size_t i = 0; i < 5; i++)
        rsa_component(pkey, 0x20000013, i == 0 ? 0x42 : 0x02, 0x00, i == 0 ? 2048 : 0, crt_parts[i].tag,
                      crt_parts[i].name);
    expect(SW_OK, "80 03 0C 09 10 41 04 20 00 00 13 42 01 28 43 05 68 65 6C 6C 6F");
    ck_assert(verifies(pkey, "SHA256", "hello", 5, value(TAG_1)));
    expect_answer("80 02 00 26 06 41 04 20 00 00 13", "41 01 07 42 01 01");
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(rsa_generates_signs_and_decrypts)
{
    uint8_t block[256] = { 0 }, cipher[256];
    struct builder b;

    start(&se051);
    expect(SW_OK, "80 01 62 00 0A 41 04 EF 00 00 11 42 02 08 00");
    expect(SW_DATA, "80 01 62 00 0A 41 04 EF 00 00 12 42 02 08 01");
    block[255] = 2;
    b = with_id(0xEF000011);
    add_hex(&b, "42 01 0C");
    add(&b, TAG_3, block, 256);
    ck_assert_uint_eq(send(0x03, 0x02, 0x38, &b), SW_OK);
    ck_assert_uint_eq(keep(TAG_1, cipher), 256);
    b = with_id(0xEF000011);
    add_hex(&b, "42 01 0C");
    add(&b, TAG_3, cipher, 256);
    ck_assert_uint_eq(send(0x03, 0x02, 0x37, &b), SW_OK);
    ck_assert_mem_eq(value(TAG_1).ptr, block, 256);
    b = with_id(0xEF000011);
    add_hex(&b, "42 01 0C");
    add(&b, TAG_3, cipher, 255);
    ck_assert_uint_eq(send(0x03, 0x02, 0x38, &b), SW_CONDITIONS); /* exactly the modulus */
    for (int padding = 0; padding < 2; padding++) {
        uint8_t algo = padding == 0 ? 0x0A : 0x0F;

        b = with_id(0xEF000011);
        add(&b, TAG_2, &algo, 1);
        add(&b, TAG_3, "secret", 6);
        ck_assert_uint_eq(send(0x03, 0x02, 0x37, &b), SW_OK);
        keep(TAG_1, cipher);
        b = with_id(0xEF000011);
        add(&b, TAG_2, &algo, 1);
        add(&b, TAG_3, cipher, 256);
        ck_assert_uint_eq(send(0x03, 0x02, 0x38, &b), SW_OK);
        ck_assert_mem_eq(value(TAG_1).ptr, "secret", 6);
    }
    /* PSS with a salt of 20 bytes: not that of the plain form */
    expect(SW_OK, "80 03 0C 09 26 41 04 EF 00 00 11 42 01 2C 43 05 68656C6C6F 44 14 "
                  "0000000000000000000000000000000000000000");
    keep(TAG_1, cipher);
    b = with_id(0xEF000011);
    add_hex(&b, "42 01 2C 43 05 68656C6C6F");
    add_hex(&b, "44 14 0000000000000000000000000000000000000000");
    add(&b, TAG_5, cipher, 256);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_uint_eq(answer.data[2], 1);
    b = with_id(0xEF000011);
    add_hex(&b, "42 01 2C 43 05 68656C6C6F");
    add(&b, TAG_5, cipher, 256);
    ck_assert_uint_eq(send(0x03, 0x0C, 0x0A, &b), SW_OK);
    ck_assert_uint_eq(answer.data[2], 2);
}
END_TEST

START_TEST(parts_refuse_what_they_lack)
{
    static const char *x25519_peer = "80 03 01 0F 28 41 04 20 00 00 21 42 20 "
                                     "0900000000000000000000000000000000000000000000000000000000000000";

    start(&se050e);
    expect(SW_CONDITIONS, "80 01 62 00 0A 41 04 EF 00 00 11 42 02 08 00");
    expect(SW_DATA, "80 01 22 00 0F 41 04 EF 00 00 11 42 02 08 00 48 03 01 00 01");
    start(&se050f);
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 0A 42 01 40");
    expect(SW_CONDITIONS, "80 01 62 4F 0A 41 04 EF 00 00 11 42 02 08 00"); /* CRT only */
    expect(SW_CONDITIONS, "80 01 62 00 0A 41 04 EF 00 00 11 42 02 10 00");
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 21 42 01 03");
    expect(SW_CONDITIONS, x25519_peer); /* no agreement in FIPS mode */
    expect(SW_OK, "80 01 05 00 0C 41 04 20 00 00 08 43 04 01 02 03 04");
    start(&se052f);
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 0A 42 01 40");
    expect(SW_CONDITIONS, "80 01 62 00 0A 41 04 EF 00 00 11 42 02 04 00");
    expect(SW_DATA, "80 01 22 00 0F 41 04 EF 00 00 11 42 02 08 00 48 03 01 00 01");
    start(&se050c);
    expect(SW_P1P2, "80 03 11 37 00");
    expect(SW_CONDITIONS, "80 02 00 3B 06 41 04 7F FF 02 06");
}
END_TEST

/* ---- symmetric ---------------------------------------------------------------------------------------- */

START_TEST(ciphers_macs_and_digests_agree_with_published_vectors)
{
    start(&se050e);
    /* FIPS 197 C.1 */
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 000102030405060708090A0B0C0D0E0F");
    expect_answer(
        "80 03 0E 37 00 00 1B 41 04 20 00 00 07 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00",
        "41 82 00 10 69C4E0D86A7B0430D8CDB78070B4C55A");
    expect_answer(
        "80 03 0E 38 00 00 1B 41 04 20 00 00 07 42 01 0E 43 10 69C4E0D86A7B0430D8CDB78070B4C55A 00 00",
        "41 82 00 10 00112233445566778899AABBCCDDEEFF");
    expect(SW_CONDITIONS, "80 03 0E 37 1A 41 04 20 00 00 07 42 01 0E 43 0F 00112233445566778899AABBCCDDEE");
    /* RFC 4493 */
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 17 43 10 2B7E151628AED2A6ABF7158809CF4F3C");
    expect_answer("80 03 0D 45 1B 41 04 20 00 00 17 42 01 31 43 10 6BC1BEE22E409F96E93D7E117393172A",
                  "41 82 00 10 070A16B46B4D4144F79BDD9DD04A287C");
    expect_answer("80 03 0D 46 2D 41 04 20 00 00 17 42 01 31 43 10 6BC1BEE22E409F96E93D7E117393172A 45 10 "
                  "070A16B46B4D4144F79BDD9DD04A287C",
                  "41 01 01");
    /* RFC 4231 case 2 */
    expect(SW_OK, "80 01 05 00 0C 41 04 20 00 00 08 43 04 4A656665");
    expect_answer("80 03 0D 45 27 41 04 20 00 00 08 42 01 19 43 1C "
                  "7768617420646F2079612077616E7420666F72206E6F7468696E673F",
                  "41 82 00 20 5BDCC146BF60754E6A042426089575C75A003F089D2739839DEC58B964EC3843");
    expect(SW_CONDITIONS, "80 03 0D 45 0C 41 04 20 00 00 08 42 01 31 43 01 00"); /* CMAC with an HMAC key */
    expect_answer("80 03 00 0E 08 41 01 04 42 03 61 62 63",
                  "41 82 00 20 BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
    /* single DES as a case of triple DES */
    expect(SW_OK, "80 01 04 00 10 41 04 20 00 00 27 43 08 133457799BBCDFF1");
    expect_answer("80 03 0E 37 13 41 04 20 00 00 27 42 01 05 43 08 0123456789ABCDEF",
                  "41 82 00 08 85E813540F0AB405");
    /* RFC 5869 case 1 */
    expect(SW_OK, "80 01 05 00 1E 41 04 20 00 00 28 43 16 0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B");
    expect_answer(
        "80 03 00 2D 28 41 04 20 00 00 28 42 01 04 43 0D 000102030405060708090A0B0C 44 0A "
        "F0F1F2F3F4F5F6F7F8F9 45 02 002A",
        "41 82 00 2A 3CB25F25FAACD57A90434F64D0362F2A2D2D0A90CF1A5A4C5DB02D56ECC4C5BF34007208D5B887185865");
    /* RFC 6070 case 2 */
    expect(SW_OK, "80 01 05 00 10 41 04 20 00 00 29 43 08 70617373776F7264");
    expect_answer("80 03 00 2E 14 41 04 20 00 00 29 42 04 73616C74 43 02 0002 44 02 0014",
                  "41 82 00 14 EA6C014DC72D6F8CCD1ED92ACE1D41F0D8DE8957");
    expect(SW_DENIED, "80 02 00 00 06 41 04 20 00 00 07");
    expect(SW_DENIED, "80 02 00 00 06 41 04 20 00 00 08");
}
END_TEST

START_TEST(gcm_and_ccm_in_one_command)
{
    /* case 2 of the GCM specification */
    start(&se050e);
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 00000000000000000000000000000000");
    expect_answer(
        "80 03 11 37 00 00 29 41 04 20 00 00 07 42 01 B0 43 10 00000000000000000000000000000000 45 0C "
        "000000000000000000000000 00 00",
        "41 82 00 10 0388DACE60B6A392F328C2B971B2FE78 42 82 00 10 AB6E47D42CEC13BDF53A67B21257BDDF");
    expect_answer(
        "80 03 11 38 00 00 3B 41 04 20 00 00 07 42 01 B0 43 10 0388DACE60B6A392F328C2B971B2FE78 45 0C "
        "000000000000000000000000 46 10 AB6E47D42CEC13BDF53A67B21257BDDF 00 00",
        "41 82 00 10 00000000000000000000000000000000 42 01 01");
    expect_answer(
        "80 03 11 38 00 00 3B 41 04 20 00 00 07 42 01 B0 43 10 0388DACE60B6A392F328C2B971B2FE78 45 0C "
        "000000000000000000000000 46 10 AB6E47D42CEC13BDF53A67B21257BDDE 00 00",
        "42 01 02");
    /* the chip's own IV */
    expect(SW_OK, "80 03 11 37 13 41 04 20 00 00 07 42 01 B0 43 04 01020304 45 02 000C");
    ck_assert_uint_eq(value(TAG_1).len, 4);
    ck_assert_uint_eq(value(TAG_2).len, 16);
    ck_assert_uint_eq(value(TAG_3).len, 12);
    /* CCM: RFC 3610 packet vector 1 has a short tag, which only steps can make */
    expect(
        SW_OK,
        "80 03 11 37 20 41 04 20 00 00 07 42 01 F4 43 04 01020304 44 02 0506 45 0B 0102030405060708090A0B");
    ck_assert_uint_eq(value(TAG_1).len, 4);
    ck_assert_uint_eq(value(TAG_2).len, 16);
}
END_TEST

START_TEST(ccm_in_steps_agrees_with_rfc3610)
{
    start(&se050e);
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 C0C1C2C3C4C5C6C7C8C9CACBCCCDCECF");
    expect(SW_OK, "80 01 10 00 0A 41 02 00 1C 42 01 04 43 01 F4");
    expect(SW_OK,
           "80 03 11 42 25 41 04 20000007 42 02 001C 45 0D 00000003020100A0A1A2A3A4A5 46 02 0008 47 02 0017 "
           "48 02 0008");
    expect(SW_OK, "80 03 11 0C 0E 42 02 001C 44 08 0001020304050607");
    expect(SW_OK, "80 03 11 0C 10 42 02 001C 43 0A 08090A0B0C0D0E0F1011");
    ck_assert_uint_eq(answer.len, 0);
    expect(SW_OK, "80 03 11 0C 13 42 02 001C 43 0D 12131415161718191A1B1C1D1E");
    expect_answer("80 03 11 0D 04 42 02 001C",
                  "41 82 00 17 588C979A61C663D2F066D0C2C0F989806D5F6B61DAC384 42 82 00 08 17E8D12CFDF926E0");
}
END_TEST

START_TEST(gcm_in_steps_agrees_with_one_command)
{
    uint8_t text[8], tag[16];
    struct builder b;

    start(&se050e);
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 C0C1C2C3C4C5C6C7C8C9CACBCCCDCECF");
    expect(SW_OK, "80 03 11 37 25 41 04 20000007 42 01 B0 43 08 0102030405060708 44 02 0A0B 45 0C "
                  "0102030405060708090A0B0C");
    keep(TAG_1, text);
    keep(TAG_2, tag);
    expect(SW_OK, "80 01 10 00 0A 41 02 00 1A 42 01 04 43 01 B0");
    expect(SW_OK, "80 03 11 43 18 41 04 20000007 42 02 001A 45 0C 0102030405060708090A0B0C");
    expect(SW_OK, "80 03 11 0C 08 42 02 001A 44 02 0A0B");
    b = (struct builder){ { 0x42, 2, 0, 0x1A }, 4 };
    add(&b, TAG_3, text, 8);
    ck_assert_uint_eq(send(0x03, 0x11, 0x0C, &b), SW_OK);
    ck_assert_mem_eq(value(TAG_1).ptr, "\1\2\3\4\5\6\7\10", 8);
    b = (struct builder){ { 0x42, 2, 0, 0x1A }, 4 };
    add(&b, TAG_6, tag, 16);
    ck_assert_uint_eq(send(0x03, 0x11, 0x0D, &b), SW_OK);
    ck_assert_mem_eq(answer.data, "\x42\x01\x01", 3);
}
END_TEST

START_TEST(crypto_objects_work_in_steps)
{
    start(&se050e);
    expect_answer("80 02 10 25 00", "41 82 00 00");
    expect(SW_OK, "80 01 10 00 0A 41 02 00 0E 42 01 02 43 01 0E");
    expect(SW_CONDITIONS, "80 01 10 00 0A 41 02 00 0E 42 01 02 43 01 0E");
    expect_answer("80 02 10 25 00", "41 82 00 04 00 0E 02 0E");
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 000102030405060708090A0B0C0D0E0F");
    expect(SW_CONDITIONS, "80 03 0E 0C 08 42 02 00 0E 43 02 0011"); /* before Init */
    expect(SW_OK, "80 03 0E 42 0A 41 04 20 00 00 07 42 02 00 0E");
    expect_answer("80 03 0E 0C 0E 42 02 00 0E 43 08 0011223344556677", "41 82 00 00");
    expect_answer("80 03 0E 0D 00 00 0E 42 02 00 0E 43 08 8899AABBCCDDEEFF 00 00",
                  "41 82 00 10 69C4E0D86A7B0430D8CDB78070B4C55A");
    /* after Final as right after Init */
    expect_answer("80 03 0E 0D 00 00 16 42 02 00 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00",
                  "41 82 00 10 69C4E0D86A7B0430D8CDB78070B4C55A");
    expect(SW_OK, "80 01 10 00 0A 41 02 00 19 42 01 03 43 01 31");
    expect(SW_OK, "80 03 0D 03 0A 41 04 20 00 00 07 42 02 00 19");
    expect(SW_OK, "80 03 0D 0C 09 41 03 010203 42 02 00 19");
    expect_answer("80 03 0D 0D 00 00 06 41 00 42 02 00 19 00 00", "41 82 00 10 ..");
    expect(SW_OK, "80 01 10 00 0A 41 02 00 03 42 01 01 43 01 04");
    expect(SW_OK, "80 03 00 0B 04 42 02 00 03");
    expect(SW_OK, "80 03 00 0C 09 42 02 00 03 43 03 616263");
    expect_answer("80 03 00 0D 06 42 02 00 03 43 00",
                  "41 82 00 20 BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
    /* running state is RAM, the object is not; and it belongs to its maker */
    expect(SW_OK, "80 03 00 0B 04 42 02 00 03");
    applet_deselected(part);
    expect(SW_CONDITIONS, "80 03 00 0C 09 42 02 00 03 43 03 616263");
    as(0x7DA00001, false);
    expect(SW_CONDITIONS, "80 03 00 0B 04 42 02 00 03");
    expect(SW_CONDITIONS, "80 04 10 28 04 41 02 00 03");
    who = nobody;
    expect(SW_OK, "80 04 10 28 04 41 02 00 03");
    expect(SW_CONDITIONS, "80 04 10 28 04 41 02 00 03");
}
END_TEST

START_TEST(tls_prf_agrees_with_libcrypto)
{
    uint8_t mine[32], seed[77] = "master secret", want[48];
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET,
                                          (void *)(uintptr_t) "0123456789abcdef0123456789ABCDEF", 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
        OSSL_PARAM_construct_end(),
    };
    struct builder b;

    start(&se051);
    b = with_id(0x20000008);
    add(&b, TAG_3, "0123456789abcdef0123456789ABCDEF", 32);
    ck_assert_uint_eq(send(0x01, 0x05, 0x00, &b), SW_OK);
    b = with_id(0x20000008);
    add_hex(&b, "42 01 04");
    add(&b, TAG_3, "master secret", 13);
    memset(seed + 13, 0xAA, 32);
    add(&b, TAG_4, seed + 13, 32);
    add_hex(&b, "45 02 0030");
    ck_assert_uint_eq(send(0x03, 0x0F, 0x4B, &b), SW_CONDITIONS); /* no random of ours yet */
    expect(SW_OK, "80 03 0F 49 00");
    keep(TAG_1, mine);
    memcpy(seed + 45, mine, 32);
    ck_assert_uint_eq(send(0x03, 0x0F, 0x4B, &b), SW_OK);
    ck_assert_int_eq(EVP_KDF_derive(ctx, want, sizeof(want), params), 1);
    ck_assert_uint_eq(value(TAG_1).len, 48);
    ck_assert_mem_eq(value(TAG_1).ptr, want, 48);
    ck_assert_uint_eq(send(0x03, 0x0F, 0x4B, &b), SW_CONDITIONS); /* each call wants a new one */
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}
END_TEST

/* ---- files, counters, PCRs, lists --------------------------------------------------------------------- */

START_TEST(files_keep_their_size)
{
    uint8_t data[500];
    struct builder b = with_id(0x20000009);

    start(&se050e);
    memset(data, 0x5A, sizeof(data));
    add_hex(&b, "43 02 0258");
    add(&b, TAG_4, data, 500);
    ck_assert_uint_eq(send(0x01, 0x06, 0x00, &b), SW_OK);
    b = with_id(0x20000009);
    add_hex(&b, "42 02 01F4");
    add(&b, TAG_4, "tail", 4);
    ck_assert_uint_eq(send(0x01, 0x06, 0x00, &b), SW_OK);
    expect_answer("80 02 00 07 06 41 04 20 00 00 09", "41 02 02 58");
    expect(SW_OK, "80 02 00 00 00 00 0A 41 04 20 00 00 09 43 02 01 F4 00 00");
    ck_assert_mem_eq(value(TAG_1).ptr, data, 500);
    expect_answer("80 02 00 00 00 00 0E 41 04 20 00 00 09 42 02 01 F4 43 02 00 05 00 00",
                  "41 82 00 05 74 61 69 6C 00");
    expect(SW_DATA, "80 01 06 00 0E 41 04 20 00 00 09 42 02 02 57 44 02 01 02"); /* one byte too far */
    expect_answer("80 02 00 00 0E 41 04 20 00 00 09 42 02 02 57 43 02 00 01", "41 82 00 01 00");
    expect(SW_CONDITIONS, "80 02 00 00 0E 41 04 20 00 00 09 42 02 02 57 43 02 00 02");
    expect(SW_CONDITIONS, "80 01 61 00 06 41 04 20 00 00 09"); /* a file is no key */
}
END_TEST

START_TEST(counters_only_grow)
{
    start(&se050e);
    expect(SW_CONDITIONS, "80 01 08 00 06 41 04 20 00 00 0C");
    expect(SW_OK, "80 01 08 00 0A 41 04 20 00 00 0C 42 02 00 02");
    expect_answer("80 02 00 00 06 41 04 20 00 00 0C", "41 82 00 02 00 00");
    expect(SW_OK, "80 01 08 00 06 41 04 20 00 00 0C");
    expect_answer("80 02 00 00 06 41 04 20 00 00 0C", "41 82 00 02 00 01");
    expect(SW_OK, "80 01 08 00 0A 41 04 20 00 00 0C 43 02 FF FF");
    expect(SW_CONDITIONS, "80 01 08 00 0A 41 04 20 00 00 0C 43 02 FF FE");
    expect(SW_CONDITIONS, "80 01 08 00 06 41 04 20 00 00 0C"); /* at its end */
    expect_answer("80 02 00 00 06 41 04 20 00 00 0C", "41 82 00 02 FF FF");
    expect(SW_DATA, "80 01 08 00 09 41 04 20 00 00 0C 43 01 FF");
    expect_answer("80 02 00 26 06 41 04 20 00 00 0C", "41 01 0D 42 01 01");
}
END_TEST

START_TEST(pcr_extends_and_guards_a_key)
{
    uint8_t pcr[32], chain[35] = { 0 }, want[32],
                     policy[45] = { 44, 0, 0, 0, 0, 0x18, 0x3D, 0, 0, 0x20, 0, 0, 0x0F };
    struct builder b;

    start(&se050e);
    expect(SW_OK, "80 01 09 00 28 41 04 20 00 00 0F 42 20 "
                  "0000000000000000000000000000000000000000000000000000000000000000");
    expect(SW_OK, "80 01 09 00 0B 41 04 20 00 00 0F 43 03 616263");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 0F");
    keep(TAG_1, pcr);
    memcpy(chain + 32, "abc", 3);
    ck_assert(sha256(part, (struct sim_bytes){ chain, sizeof(chain) }, want));
    ck_assert_mem_eq(pcr, want, 32);
    memcpy(policy + 13, pcr, 32);
    b = (struct builder){ { 0 }, 0 };
    add(&b, TAG_POLICY, policy, sizeof(policy));
    add_hex(&b, "41 04 20000001 42 01 03");
    ck_assert_uint_eq(send(0x01, 0x61, 0x00, &b), SW_OK);
    expect(SW_OK, "80 03 0C 09 1F 41 04 20 00 00 01 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
    expect(SW_OK, "80 01 09 00 06 41 04 20 00 00 0F"); /* back to the initial value */
    expect(SW_DENIED,
           "80 03 0C 09 1F 41 04 20 00 00 01 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
}
END_TEST

START_TEST(id_list_filters_and_continues)
{
    size_t total;
    char hex[80];

    start(&se050e);
    for (unsigned i = 0; i < 210; i++) {
        snprintf(hex, sizeof(hex), "80 01 08 00 0A 41 04 20 00 01 %02X 42 02 00 01", i);
        expect(SW_OK, hex);
    }
    expect_answer("80 02 00 25 00 00 07 41 02 00 00 42 01 0D 00 00", "41 01 02 42 82 03 20 20 00 01 00 ..");
    expect_answer("80 02 00 25 00 00 07 41 02 00 C8 42 01 0D 00 00", "41 01 01 42 82 00 28 20 00 01 C8 ..");
    expect_answer("80 02 00 25 00 00 07 41 02 00 D2 42 01 0D 00 00", "41 01 01 42 82 00 00");
    expect(SW_OK, "80 02 00 25 00 00 07 41 02 00 C8 42 01 FF 00 00");
    total = 200 + value(TAG_2).len / 4;
    ck_assert_uint_gt(total, 215); /* and what the factory left */
}
END_TEST

START_TEST(provisioned_objects_stay)
{
    X509 *cert, *root;
    const uint8_t *p;
    EVP_PKEY *pkey;

    start(&se051);
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 F0 00 00 12");
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 7F FF 02 06");
    expect(SW_CONDITIONS, "80 01 61 00 06 41 04 F0 00 01 00");
    expect(SW_CONDITIONS,
           "80 01 06 00 10 41 04 7F FF 03 00 43 02 00 04 44 04 01020304"); /* ids of the applet */
    expect(SW_OK, "80 02 00 00 06 41 04 F0 00 00 01");
    p = value(TAG_1).ptr;
    root = d2i_X509(NULL, &p, (long)value(TAG_1).len);
    for (int i = 0; i < 4; i++) {
        static const char *const read_cert[] = { "80 02 00 00 06 41 04 F0 00 00 13",
                                                 "80 02 00 00 06 41 04 F0 00 01 01",
                                                 "80 02 00 00 06 41 04 F0 00 01 03",
                                                 "80 02 00 00 06 41 04 F0 00 01 11" };

        expect(SW_OK, read_cert[i]);
        p = value(TAG_1).ptr;
        cert = d2i_X509(NULL, &p, (long)value(TAG_1).len);
        ck_assert_ptr_nonnull(cert);
        ck_assert_int_eq(X509_verify(cert, X509_get0_pubkey(root)), 1);
        X509_free(cert);
    }
    expect(SW_OK, "80 02 00 00 06 41 04 F0 00 01 01");
    p = value(TAG_1).ptr;
    cert = d2i_X509(NULL, &p, (long)value(TAG_1).len);
    expect(SW_OK, "80 02 00 00 06 41 04 F0 00 01 00");
    pkey = p256_public(value(TAG_1));
    ck_assert_int_eq(EVP_PKEY_eq(pkey, X509_get0_pubkey(cert)), 1);
    EVP_PKEY_free(pkey);
    X509_free(cert);
    X509_free(root);
    expect(SW_OK, "80 03 0C 09 1F 41 04 F0 00 01 00 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    as(ID_FACTORY_RESET, true);
    expect(SW_OK, "80 04 00 2A 00");
    who = nobody;
    expect_answer("80 04 00 27 06 41 04 20 00 00 01", "41 01 02");
    expect_answer("80 04 00 27 06 41 04 F0 00 01 00", "41 01 01");
}
END_TEST

/* ---- policies ----------------------------------------------------------------------------------------- */

static const char *sign_1 =
    "80 03 0C 09 1F 41 04 20 00 00 01 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314";

START_TEST(policy_gives_rights_by_session)
{
    start(&se050e);
    /* everyone: sign, read, generate; session 7DA00001: delete */
    expect(SW_OK, "80 01 61 00 1D 11 12 08 00 00 00 00 10 28 00 00 08 7D A0 00 01 00 04 00 00 41 04 20 00 00 "
                  "01 42 01 03");
    expect(SW_OK, sign_1);
    expect(SW_DENIED, "80 03 0C 0A 23 41 04 20 00 00 01 42 01 11 43 14 "
                      "0102030405060708090A0B0C0D0E0F1011121314 45 02 30 00");
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    expect(SW_OK, "80 01 61 00 06 41 04 20 00 00 01"); /* ALLOW_GEN */
    as(0x7DA00002, true);
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    as(0x7DA00001, false);
    expect(SW_OK, sign_1);
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 01");
}
END_TEST

START_TEST(policy_requires_secure_messaging)
{
    start(&se050e);
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 18 3E 00 00 41 04 20 00 00 01 42 01 03");
    expect(SW_DENIED, sign_1);
    expect(SW_DENIED, "80 02 00 00 06 41 04 20 00 00 01");
    expect(SW_DENIED, "80 02 00 3B 06 41 04 20 00 00 01");
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    as(0, true);
    expect(SW_OK, sign_1);
    expect(SW_OK, "80 02 00 3B 06 41 04 20 00 00 01");
}
END_TEST

START_TEST(policy_forbid_all)
{
    start(&se050e);
    /* everyone may all; session 7DA00001 nothing; and the other way round */
    expect(SW_OK, "80 01 61 00 1D 11 12 08 00 00 00 00 18 3C 00 00 08 7D A0 00 01 20 00 00 00 41 04 20 00 00 "
                  "01 42 01 03");
    expect(SW_OK, sign_1);
    as(0x7DA00001, true);
    expect(SW_DENIED, sign_1);
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    who = nobody;
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 01");
    expect(SW_OK, "80 01 61 00 1D 11 12 08 00 00 00 00 20 00 00 00 08 7D A0 00 01 18 3C 00 00 41 04 20 00 00 "
                  "01 42 01 03");
    expect(SW_DENIED, sign_1);
    as(0x7DA00001, true);
    expect(SW_OK, sign_1);
}
END_TEST

START_TEST(policy_is_checked_and_never_changes)
{
    start(&se051);
    expect(SW_POLICY_TYPE,
           "80 01 06 00 17 11 09 08 00 00 00 00 10 20 00 00 41 04 20 00 00 09 43 02 00 04 44 00"); /* a file
                                                                                                      signs */
    expect(SW_DATA, "80 01 61 00 13 11 08 08 00 00 00 00 18 3C 00 41 04 20 00 00 01 42 01 03");
    expect(SW_DATA,
           "80 01 61 00 14 11 09 08 00 00 00 00 18 3D 00 00 41 04 20 00 00 01 42 01 03"); /* PCR without it */
    expect_answer("80 04 00 27 06 41 04 20 00 00 01", "41 01 02");
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 10 28 00 00 41 04 20 00 00 01 42 01 03");
    /* regeneration brings a policy that gives more: ignored */
    expect(SW_OK, "80 01 61 00 11 11 09 08 00 00 00 00 18 3C 00 00 41 04 20 00 00 01");
    expect(SW_OK, "80 02 00 3B 06 41 04 20 00 00 01");
    ck_assert_mem_eq(value(TAG_3).ptr + 14, "\x08\x00\x00\x00\x00\x10\x28\x00\x00", 9);
    expect(SW_CONDITIONS, "80 04 00 28 06 41 04 20 00 00 01");
    /* TAG_POLICY_CHECK */
    expect(SW_OK,
           "80 01 06 00 1B 11 09 08 00 00 00 00 00 34 00 00 41 04 20 00 00 09 43 02 00 04 44 04 01020304");
    expect(SW_OK, "80 01 06 00 17 15 09 08 00 00 00 00 00 34 00 00 41 04 20 00 00 09 44 04 01020305");
    expect(SW_CONDITIONS, "80 01 06 00 17 15 09 08 00 00 00 00 00 30 00 00 41 04 20 00 00 09 44 04 01020306");
    expect_answer("80 02 00 00 06 41 04 20 00 00 09", "41 82 00 04 01 02 03 05");
    /* without ALLOW_WRITE */
    expect(SW_OK,
           "80 01 06 00 1B 11 09 08 00 00 00 00 00 20 00 00 41 04 20 00 00 19 43 02 00 04 44 04 01020304");
    expect(SW_CONDITIONS, "80 01 06 00 0C 41 04 20 00 00 19 44 04 01020305");
    /* without ALLOW_READ */
    expect(SW_OK,
           "80 01 06 00 1B 11 09 08 00 00 00 00 00 10 00 00 41 04 20 00 00 29 43 02 00 04 44 04 01020304");
    expect(SW_DENIED, "80 02 00 00 06 41 04 20 00 00 29");
    start(&se050c);
    /* rights of 7.x only */
    expect(SW_POLICY_TYPE, "80 01 61 00 14 11 09 08 00 00 00 00 10 00 08 00 41 04 20 00 00 01 42 01 03");
}
END_TEST

START_TEST(attributes_have_the_layout_of_the_reference)
{
    start(&se050e);
    as(0x7DA00001, true);
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 18 3C 00 00 41 04 20 00 00 01 42 01 03");
    expect_answer(
        "80 02 00 3B 06 41 04 20 00 00 01",
        "43 82 00 1C 20 00 00 01 29 01 00 00 7D A0 00 01 00 00 08 00 00 00 00 18 3C 00 00 02 00 00 00 00");
}
END_TEST

/* ---- authentication objects --------------------------------------------------------------------------- */

START_TEST(auth_objects_count_attempts)
{
    struct sim_auth_object auth;
    const char *attributes = "80 02 00 3B 06 41 04 20 00 00 0D";

    start(&se050e);
    expect(SW_CONDITIONS,
           "80 01 07 00 10 41 04 20 00 00 0D 42 08 31 32 33 34 35 36 37 38"); /* no AUTH flag */
    expect(SW_OK, "80 41 07 00 14 12 02 00 03 41 04 20 00 00 0D 42 08 31 32 33 34 35 36 37 38");
    expect_answer("80 02 00 26 06 41 04 20 00 00 0D", "41 01 0C 42 01 01");
    expect(SW_CONDITIONS, "80 02 00 07 06 41 04 20 00 00 0D");
    expect(SW_CONDITIONS, "80 02 00 00 06 41 04 20 00 00 0D");
    ck_assert(applet_auth_object(part, 0x2000000D, &auth));
    ck_assert_int_eq(auth.kind, SIM_AUTH_USERID);
    ck_assert_uint_eq(auth.len, 8);
    ck_assert_mem_eq(auth.value, "12345678", 8);
    ck_assert(!auth.locked);
    for (int i = 0; i < 2; i++)
        applet_auth_attempt(part, 0x2000000D, false);
    expect(SW_OK, attributes);
    ck_assert_uint_eq(value(TAG_3).ptr[5], 2);
    ck_assert_uint_eq(value(TAG_3).ptr[7], 2);
    ck_assert_uint_eq(value(TAG_3).ptr[13], 3);
    applet_auth_attempt(part, 0x2000000D, true);
    expect(SW_OK, attributes);
    ck_assert_uint_eq(value(TAG_3).ptr[7], 0);
    for (int i = 0; i < 3; i++)
        applet_auth_attempt(part, 0x2000000D, false);
    ck_assert(applet_auth_object(part, 0x2000000D, &auth) && auth.locked);
    applet_reset(part);
    ck_assert(applet_auth_object(part, 0x2000000D, &auth) && auth.locked);
    /* written again it starts again */
    expect(SW_OK, "80 41 07 00 10 41 04 20 00 00 0D 42 08 31 32 33 34 35 36 37 39");
    ck_assert(applet_auth_object(part, 0x2000000D, &auth) && !auth.locked && auth.value[7] == '9');
}
END_TEST

START_TEST(auth_keys_only_authenticate)
{
    struct sim_auth_object auth;
    uint8_t pub[65];
    struct builder b;

    start(&se050e);
    expect(SW_OK, "80 41 03 00 18 41 04 7D A0 00 02 43 10 404142434445464748494A4B4C4D4E4F");
    ck_assert(applet_auth_object(part, 0x7DA00002, &auth) && auth.kind == SIM_AUTH_AES && auth.len == 16);
    expect(SW_CONDITIONS,
           "80 03 0E 37 00 00 1B 41 04 7D A0 00 02 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00");
    expect(SW_DATA,
           "80 41 03 00 20 41 04 7D A0 00 04 43 18 404142434445464748494A4B4C4D4E4F5051525354555657");
    expect(SW_CONDITIONS, "80 41 06 00 0A 41 04 20 00 00 09 43 02 00 04"); /* a file authenticates nobody */
    expect(SW_OK, "80 02 00 00 06 41 04 F0 00 01 00");
    keep(TAG_1, pub);
    b = with_id(0x7DA00003);
    add_hex(&b, "42 01 03");
    add(&b, TAG_4, pub, 65);
    ck_assert_uint_eq(send(0x41, 0x21, 0x00, &b), SW_OK);
    ck_assert(applet_auth_object(part, 0x7DA00003, &auth) && auth.kind == SIM_AUTH_EC && auth.len == 65);
    ck_assert_mem_eq(auth.value, pub, 65);
    ck_assert(!applet_auth_object(part, 0xF0000100, &auth));
    ck_assert(!applet_auth_object(part, 0x12345678, &auth));
}
END_TEST

START_TEST(eckey_session_key_agrees)
{
    uint8_t chip[65], mine[65], got[32], want[80];
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), *peer;
    EVP_PKEY_CTX *ctx;
    size_t len;

    start(&se050e);
    expect(SW_OK, "80 02 00 00 06 41 04 7F FF 02 01");
    keep(TAG_1, chip);
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, mine, 65, &len), 1);
    ck_assert(applet_eckey_ecdh(part, mine, got));
    peer = p256_public((struct sim_bytes){ chip, 65 });
    ctx = EVP_PKEY_CTX_new(pkey, NULL);
    len = sizeof(want);
    ck_assert_int_eq(EVP_PKEY_derive_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(ctx, peer), 1);
    ck_assert_int_eq(EVP_PKEY_derive(ctx, want, &len), 1);
    ck_assert_mem_eq(got, want, 32);
    mine[64] ^= 1;
    ck_assert(!applet_eckey_ecdh(part, mine, got));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(pkey);
}
END_TEST

/* ---- transient objects, memory, restrictions ---------------------------------------------------------- */

START_TEST(transient_value_is_lost_its_id_is_not)
{
    start(&se050e);
    expect(SW_OK, "80 81 61 00 09 41 04 20 00 00 01 42 01 03");
    expect(SW_OK, sign_1);
    applet_deselected(part);
    expect_answer("80 04 00 27 06 41 04 20 00 00 01", "41 01 01");
    expect_answer("80 02 00 26 06 41 04 20 00 00 01", "41 01 29 42 01 02");
    expect(SW_CONDITIONS, sign_1);
    expect(SW_CONDITIONS, "80 02 00 00 06 41 04 20 00 00 01");
    expect(SW_OK, "80 01 61 00 06 41 04 20 00 00 01");
    expect(SW_OK, sign_1);
    expect(SW_OK, "80 81 03 00 18 41 04 20 00 00 07 43 10 000102030405060708090A0B0C0D0E0F");
    applet_reset(part);
    expect(SW_CONDITIONS,
           "80 03 0E 37 00 00 1B 41 04 20 00 00 07 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00");
    expect(SW_CONDITIONS,
           "80 01 03 00 20 41 04 20 00 00 07 43 18 000102030405060708090A0B0C0D0E0F0001020304050607");
    expect(SW_OK, "80 01 03 00 18 41 04 20 00 00 07 43 10 000102030405060708090A0B0C0D0E0F");
    expect(SW_OK,
           "80 03 0E 37 00 00 1B 41 04 20 00 00 07 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00");
}
END_TEST

START_TEST(exported_objects_come_back)
{
    uint8_t blob[256], first[200];
    struct builder b;
    size_t len;

    start(&se050e);
    expect(SW_OK, "80 81 61 00 09 41 04 20 00 00 01 42 01 03");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 01");
    keep(TAG_1, first);
    expect(SW_OK, "80 02 00 19 00 00 09 41 04 20 00 00 01 42 01 FF 00 00");
    len = keep(TAG_1, blob);
    applet_reset(part);
    expect(SW_CONDITIONS, sign_1);
    b = with_id(0x20000001);
    add(&b, TAG_3, blob, len);
    ck_assert_uint_eq(send(0x01, 0x00, 0x18, &b), SW_OK);
    expect(SW_OK, sign_1);
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 01");
    ck_assert_mem_eq(value(TAG_1).ptr, first, 65);
    b.data[b.len - 1] ^= 1;
    ck_assert_uint_eq(send(0x01, 0x00, 0x18, &b), SW_DATA);
    expect(SW_OK, "80 81 61 00 09 41 04 20 00 00 02 42 01 03");
    b.data[5] = 2; /* another id */
    b.data[b.len - 1] ^= 1;
    ck_assert_uint_eq(send(0x01, 0x00, 0x18, &b), SW_DATA);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 03 42 01 03");
    expect(SW_CONDITIONS, "80 02 00 19 00 00 09 41 04 20 00 00 03 42 01 FF 00 00"); /* persistent ones stay */
}
END_TEST

static size_t free_memory(unsigned kind)
{
    char hex[32];

    snprintf(hex, sizeof(hex), "80 04 00 22 03 41 01 %02X", kind);
    expect(SW_OK, hex);
    return get_be(value(TAG_1));
}

START_TEST(memory_runs_out_and_comes_back)
{
    size_t fresh, transient, made = 0;
    char hex[96];
    uint16_t sw;

    start(&se050c);
    fresh = free_memory(1);
    transient = free_memory(3);
    ck_assert_uint_eq(fresh, 31304);
    ck_assert_uint_eq(transient, 560);
    expect(SW_OK, "80 01 06 00 0A 41 04 20 00 00 09 43 02 40 00");
    ck_assert_uint_lt(free_memory(1), fresh - 0x4000);
    expect(SW_MEMORY, "80 01 06 00 0A 41 04 20 00 00 19 43 02 40 00");
    expect_answer("80 04 00 27 06 41 04 20 00 00 19", "41 01 02");
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 09");
    ck_assert_uint_eq(free_memory(1), fresh);
    do {
        snprintf(hex, sizeof(hex), "80 81 61 00 09 41 04 20 00 00 %02X 42 01 03", (unsigned)made);
        sw = run(hex);
        made += sw == SW_OK;
    } while (sw == SW_OK && made < 100);
    ck_assert_uint_eq(sw, SW_MEMORY);
    ck_assert_uint_ge(made, 3);
    ck_assert_uint_le(made, 8);
    ck_assert_uint_lt(free_memory(3), 128);
    applet_deselected(part); /* the values go, not the objects */
    ck_assert_uint_eq(free_memory(3), transient);
    expect(SW_OK, "80 81 61 00 09 41 04 20 00 00 50 42 01 03");
}
END_TEST

START_TEST(lock_features_and_restriction_need_their_sessions)
{
    start(&se050e);
    expect(SW_CONDITIONS, "80 04 00 3E 06 41 01 02 42 01 01");
    as(ID_TRANSPORT, true);
    expect(SW_OK, "80 04 00 3E 06 41 01 02 42 01 01");
    who = nobody;
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    expect(SW_OK, "80 04 00 20 00");
    as(ID_TRANSPORT, true);
    expect(SW_OK, "80 04 00 3E 06 41 01 01 42 01 02"); /* until the next deselect */
    who = nobody;
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    applet_deselected(part);
    expect(SW_CONDITIONS, sign_1);
    as(ID_TRANSPORT, true);
    expect(SW_OK, "80 04 00 3E 06 41 01 02 42 01 02");
    who = nobody;
    expect(SW_OK, sign_1);
    expect(SW_CONDITIONS, "80 04 00 57 06 41 01 02 42 01 01");
    as(ID_RESTRICT, true);
    expect(SW_OK, "80 04 00 57 06 41 01 01 42 01 01");
    who = nobody;
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 02 42 01 03");
    expect(SW_OK, "80 01 61 00 06 41 04 20 00 00 01"); /* what is there may change */
    applet_reset(part);
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 02 42 01 03");
    as(ID_FEATURE, true);
    expect(SW_CONDITIONS, "80 04 00 3F 04 41 02 3F FF"); /* nothing can be given */
    expect(SW_OK, "80 04 00 3F 04 41 02 3F 9B");
    who = nobody;
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 0A 42 01 40");
    expect_answer("80 04 00 20 00", "41 82 00 07 07 02 00 3F 9B FF FF");
}
END_TEST

/* ---- attestation -------------------------------------------------------------------------------------- */

static const char *attested = "80 22 00 00 00 00 21 41 04 20 00 00 01 45 04 F0 00 00 12 46 01 21 47 10 "
                              "000102030405060708090A0B0C0D0E0F 00 00";

static EVP_PKEY *attestation_key(void)
{
    expect(SW_OK, "80 02 00 00 06 41 04 F0 00 00 12");
    return p256_public(value(TAG_1));
}

START_TEST(attested_read_verifies_on_7x)
{
    uint8_t cmd[64], tbs[1024];
    EVP_PKEY *key;
    size_t len;

    start(&se050e);
    key = attestation_key();
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 18 3C 00 00 41 04 20 00 00 01 42 01 03");
    expect_answer(attested, "41 82 00 41 04 ..");
    ck_assert_uint_eq(value(TAG_2).len, 18);
    ck_assert_uint_eq(value(TAG_3).len, 28);
    ck_assert_uint_eq(value(TAG_3).ptr[23], ORIGIN_INTERNAL);
    ck_assert_mem_eq(value(TAG_4).ptr, "\x00\x20", 2);
    ck_assert_uint_eq(value(TAG_TIMESTAMP).len, 12);
    len = unhex(attested, cmd) - 2; /* without Le */
    ck_assert(sha256(part, (struct sim_bytes){ cmd, len }, tbs));
    len = (size_t)(value(TAG_SIGNATURE).ptr - 4 - answer.data);
    memcpy(tbs + 32, answer.data, len);
    ck_assert(verifies(key, "SHA256", tbs, 32 + len, value(TAG_SIGNATURE)));
    tbs[40] ^= 1;
    ck_assert(!verifies(key, "SHA256", tbs, 32 + len, value(TAG_SIGNATURE)));
    /* what may not be read is attested without its value */
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 10 04 00 00 41 04 20 00 00 02 42 01 03");
    expect_answer(
        "80 22 00 00 21 41 04 20 00 00 02 45 04 F0 00 00 12 46 01 21 47 10 000102030405060708090A0B0C0D0E0F",
        "42 82 00 12 ..");
    /* a key without ALLOW_ATTESTATION vouches for nothing */
    expect(
        SW_DENIED,
        "80 22 00 00 21 41 04 20 00 00 02 45 04 20 00 00 01 46 01 21 47 10 000102030405060708090A0B0C0D0E0F");
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(attested_read_verifies_on_3x)
{
    static const uint8_t order[] = { TAG_1, TAG_2, TAG_3, TAG_4, TAG_5 };
    uint8_t tbs[1024];
    size_t len = 0;
    EVP_PKEY *key;

    start(&se050c);
    key = attestation_key();
    expect(SW_OK, "80 01 61 00 14 11 09 08 00 00 00 00 18 3C 00 00 41 04 20 00 00 01 42 01 03");
    expect_answer(attested, "41 82 00 41 04 ..");
    for (size_t i = 0; i < sizeof(order); i++)
        len += keep(order[i], tbs + len);
    ck_assert_uint_eq(value(TAG_2).len, 24);
    ck_assert_mem_eq(value(TAG_4).ptr, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F",
                     16);
    ck_assert_uint_eq(value(TAG_5).len, 18);
    ck_assert(verifies(key, "SHA256", tbs, len, value(TAG_6)));
    EVP_PKEY_free(key);
}
END_TEST

/* ---- the NVM file ------------------------------------------------------------------------------------- */

static char nvm_dir[64], nvm_path[96];

static void nvm_setup(void)
{
    snprintf(nvm_dir, sizeof(nvm_dir), "/tmp/sim-applet-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(nvm_dir));
    snprintf(nvm_path, sizeof(nvm_path), "%s/nvm", nvm_dir);
}

static void nvm_teardown(void)
{
    stop();
    unlink(nvm_path);
    ck_assert_int_eq(rmdir(nvm_dir), 0); /* no temporary file is left either */
}

static void reload(const struct sim_personality *p)
{
    applet_free(part);
    part = applet_new(p, nvm_path);
    ck_assert_ptr_nonnull(part);
}

START_TEST(nvm_survives_reload)
{
    uint8_t pub[65], unique[18], required = 1;
    struct sim_auth_object auth;
    size_t memory, len = 1;

    reload(&se050e);
    who = nobody;
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 01 42 01 03");
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 01");
    keep(TAG_1, pub);
    expect(SW_OK, "80 02 00 00 06 41 04 7F FF 02 06");
    keep(TAG_1, unique);
    expect(SW_OK, "80 81 03 00 18 41 04 20 00 00 07 43 10 000102030405060708090A0B0C0D0E0F");
    expect(SW_OK, "80 41 07 00 14 12 02 00 03 41 04 20 00 00 0D 42 08 31 32 33 34 35 36 37 38");
    applet_auth_attempt(part, 0x2000000D, false);
    expect(SW_OK, "80 01 10 00 0A 41 02 00 0E 42 01 02 43 01 0E");
    set_curve(0x04);
    expect(SW_OK, "80 01 0B 04 03 41 01 09");
    ck_assert(applet_nvm_put(part, "platform-scp", &required, 1));
    memory = free_memory(1);
    reload(&se050e);
    expect(SW_OK, "80 02 00 00 06 41 04 20 00 00 01");
    ck_assert_mem_eq(value(TAG_1).ptr, pub, 65);
    expect(SW_OK, sign_1);
    expect(SW_OK, "80 02 00 00 06 41 04 7F FF 02 06");
    ck_assert_mem_eq(value(TAG_1).ptr, unique, 18);
    expect_answer("80 02 00 26 06 41 04 20 00 00 07", "41 01 09 42 01 02");
    expect(SW_CONDITIONS,
           "80 03 0E 37 00 00 1B 41 04 20 00 00 07 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF 00 00");
    expect(SW_OK, "80 02 00 3B 06 41 04 20 00 00 0D");
    ck_assert_uint_eq(value(TAG_3).ptr[7], 1);
    ck_assert(applet_auth_object(part, 0x2000000D, &auth));
    expect_answer("80 02 10 25 00", "41 82 00 04 00 0E 02 0E");
    expect_answer("80 02 0B 25 00", "41 82 00 11 01 01 02 02 01 01 01 01 02 01 ..");
    expect(SW_OK, "80 01 61 00 09 41 04 20 00 00 02 42 01 04");
    expect(SW_OK, "80 04 00 28 06 41 04 20 00 00 02");
    ck_assert_uint_eq(free_memory(1), memory);
    required = 0;
    ck_assert(applet_nvm_get(part, "platform-scp", &required, &len) && len == 1 && required == 1);
    expect_answer("80 02 00 5B 00", "41 82 00 03 02 00 01");
    len = 1;
    ck_assert(!applet_nvm_get(part, "platform-keys", &required, &len));
}
END_TEST

static long file_len(void)
{
    FILE *f = fopen(nvm_path, "r");
    long len;

    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    len = ftell(f);
    fclose(f);
    return len;
}

static void flip(long at)
{
    FILE *f = fopen(nvm_path, "r+");
    int c;

    fseek(f, at, SEEK_SET);
    c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

START_TEST(damaged_nvm_is_refused)
{
    long len;

    reload(&se050e);
    stop();
    len = file_len();
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* one line each */
    for (long at = 0; at < len; at += 41) {
        flip(at);
        ck_assert_ptr_null(applet_new(&se050e, nvm_path));
        flip(at);
    }
    for (long cut = len - 1; cut >= 0; cut -= 97) {
        ck_assert_int_eq(truncate(nvm_path, cut), 0);
        ck_assert_ptr_null(applet_new(&se050e, nvm_path));
    }
    unlink(nvm_path);
    reload(&se050e);
    stop();
    ck_assert_ptr_null(applet_new(&se050c, nvm_path)); /* another part */
}
END_TEST

START_TEST(refused_commands_leave_the_file_alone)
{
    char before[8192], after[8192];
    size_t n, m;
    FILE *f;

    reload(&se050e);
    who = nobody;
    f = fopen(nvm_path, "r");
    n = fread(before, 1, sizeof(before), f);
    fclose(f);
    expect(SW_OK, "80 04 00 49 04 41 02 00 20");
    expect(SW_CONDITIONS, "80 01 61 00 09 41 04 20 00 00 01 42 01 04");
    expect(SW_OK, "80 02 00 00 06 41 04 7F FF 02 06");
    expect(SW_OK, "80 03 0C 09 1F 41 04 F0 00 01 00 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
    f = fopen(nvm_path, "r");
    m = fread(after, 1, sizeof(after), f);
    fclose(f);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(before, after, n);
}
END_TEST

START_TEST(times_can_be_set)
{
    start(&se050e);
    ck_assert(applet_set_time(part, "ecdsa-p256=123456"));
    ck_assert(applet_set_time(part, "command=1"));
    ck_assert(!applet_set_time(part, "ecdsa-p257=1"));
    ck_assert(!applet_set_time(part, "ecdsa-p256=-1"));
    ck_assert(!applet_set_time(part, "ecdsa-p256="));
    ck_assert(!applet_set_time(part, "ecdsa-p256"));
    expect(SW_OK, "80 03 0C 09 1F 41 04 F0 00 01 00 42 01 11 43 14 0102030405060708090A0B0C0D0E0F1011121314");
    ck_assert_uint_eq(spent_us, 123457);
}
END_TEST

/* ---- robustness --------------------------------------------------------------------------------------- */

START_TEST(every_truncation_is_answered)
{
    static const char *const whole[] = {
        "80 01 61 00 14 11 09 08 00 00 00 00 18 3C 00 00 41 04 20 00 00 01 42 01 03",
        "80 22 00 00 21 41 04 20 00 00 01 45 04 F0 00 00 12 46 01 21 47 10 000102030405060708090A0B0C0D0E0F",
        "80 03 11 37 1D 41 04 20 00 00 07 42 01 B0 43 04 00000000 45 0C 000000000000000000000000",
        "80 01 10 00 0A 41 02 00 1C 42 01 04 43 01 F4",
        "80 03 0E 37 1B 41 04 20 00 00 07 42 01 0E 43 10 00112233445566778899AABBCCDDEEFF",
        "80 01 06 00 1B 11 09 08 00 00 00 00 00 34 00 00 41 04 20 00 00 09 43 02 00 04 44 04 01020304",
    };
    uint8_t cmd[128];

    start(&se050e);
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        size_t len = unhex(whole[i], cmd);

        for (size_t n = 5; n < len; n++) {
            struct sim_apdu apdu = {
                .cla = cmd[0], .ins = cmd[1], .p1 = cmd[2], .p2 = cmd[3], .whole = { cmd, n }
            };
            uint8_t *copy = malloc(n - 5 > 0 ? n - 5 : 1); /* ASan sees a step beyond the end */

            memcpy(copy, cmd + 5, n - 5);
            apdu.data = (struct sim_bytes){ copy, n - 5 };
            applet_command(part, &nobody, &apdu, &answer, &spent_us);
            free(copy);
        }
    }
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, NULL, stop);
    suite_add_tcase(suite, tc);
    return tc;
}

static void add_key_tests(Suite *suite)
{
    TCase *tc = add_case(suite, "keys");

    tcase_add_loop_test(tc, ec_key_life_as_worked, 0, 2);
    tcase_add_test(tc, digest_of_wrong_length_is_refused);
    tcase_add_test(tc, ec_import_in_parts);
    tcase_add_loop_test(tc, every_curve_generates_signs_and_verifies, 0x01, 0x11);
    tcase_add_test(tc, second_create_wipes_on_3x_and_is_refused_on_7x);
    tcase_add_test(tc, wrong_curve_parameters_are_found_with_the_fifth);
    tcase_add_test(tc, ed25519_public_key_and_signature_are_reversed);
    tcase_add_loop_test(tc, montgomery_values_are_reversed, 0, 2);
    tcase_add_test(tc, dh_reverse_stores_rfc_order);
    tcase_add_test(tc, rsa_import_is_usable_when_the_last_component_is_in);
    tcase_add_test(tc, rsa_generates_signs_and_decrypts);
    tcase_add_test(tc, parts_refuse_what_they_lack);
}

static void add_object_tests(Suite *suite)
{
    TCase *tc = add_case(suite, "objects");

    tcase_add_test(tc, files_keep_their_size);
    tcase_add_test(tc, counters_only_grow);
    tcase_add_test(tc, pcr_extends_and_guards_a_key);
    tcase_add_test(tc, id_list_filters_and_continues);
    tcase_add_test(tc, provisioned_objects_stay);
    tcase_add_test(tc, policy_gives_rights_by_session);
    tcase_add_test(tc, policy_requires_secure_messaging);
    tcase_add_test(tc, policy_forbid_all);
    tcase_add_test(tc, policy_is_checked_and_never_changes);
    tcase_add_test(tc, attributes_have_the_layout_of_the_reference);
    tcase_add_test(tc, auth_objects_count_attempts);
    tcase_add_test(tc, auth_keys_only_authenticate);
    tcase_add_test(tc, eckey_session_key_agrees);
    tcase_add_test(tc, transient_value_is_lost_its_id_is_not);
    tcase_add_test(tc, exported_objects_come_back);
    tcase_add_test(tc, memory_runs_out_and_comes_back);
    tcase_add_test(tc, lock_features_and_restriction_need_their_sessions);
    tcase_add_test(tc, attested_read_verifies_on_7x);
    tcase_add_test(tc, attested_read_verifies_on_3x);
}

static void add_other_tests(Suite *suite)
{
    TCase *tc = add_case(suite, "commands");

    tcase_add_test(tc, management_answers_as_worked);
    tcase_add_test(tc, versions_and_memory_of_3x_and_se052);
    tcase_add_test(tc, ciphers_macs_and_digests_agree_with_published_vectors);
    tcase_add_test(tc, gcm_and_ccm_in_one_command);
    tcase_add_test(tc, ccm_in_steps_agrees_with_rfc3610);
    tcase_add_test(tc, gcm_in_steps_agrees_with_one_command);
    tcase_add_test(tc, crypto_objects_work_in_steps);
    tcase_add_test(tc, tls_prf_agrees_with_libcrypto);
    tcase_add_test(tc, times_can_be_set);
    tcase_add_test(tc, every_truncation_is_answered);
    tc = tcase_create("nvm");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, nvm_setup, nvm_teardown);
    tcase_add_test(tc, nvm_survives_reload);
    tcase_add_test(tc, damaged_nvm_is_refused);
    tcase_add_test(tc, refused_commands_leave_the_file_alone);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("sim_applet");
    SRunner *runner;
    int failed;

    add_key_tests(suite);
    add_object_tests(suite);
    add_other_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
