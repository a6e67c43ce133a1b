/* SPDX-License-Identifier: Apache-2.0 */
/* SubjectPublicKeyInfo, key references and names, checked against OpenSSL's own encodings. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsm/keyref.h"
#include "hsm/pubkey.h"

struct spki {
    uint8_t der[HSM_SPKI_MAX];
    size_t len;
};

static const char *const kinds[] = {
    "rsa:2048",           "rsa:3072",           "ec:P-256", "ec:P-384", "ec:P-521", "ec:secp256k1",
    "ec:brainpoolP256r1", "ec:brainpoolP384r1", "ed25519",  "ed448",    "x25519",   "x448",
    "rsa-pss:2048"
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

static EVP_PKEY *make_pss_key(unsigned bits)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *pkey = NULL;

    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &pkey), 1);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *make_key(const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_RSA:
        return EVP_RSA_gen(kind->bits);
    case HSM_KEY_RSA_PSS:
        return make_pss_key(kind->bits);
    case HSM_KEY_EC:
        return EVP_EC_gen(hsm_curve_info(kind->curve)->group_name);
    case HSM_KEY_ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    case HSM_KEY_ED448:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    case HSM_KEY_X25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    default:
        return EVP_PKEY_Q_keygen(NULL, NULL, "X448");
    }
}

static void make_spki(const char *name, struct hsm_key_kind *kind, struct spki *out, EVP_PKEY **pkey)
{
    unsigned char *der = NULL;
    int len;

    ck_assert_int_eq(hsm_kind_parse(name, kind), HSM_OK);
    ck_assert_ptr_nonnull(*pkey = make_key(kind));
    ck_assert_int_gt(len = i2d_PUBKEY(*pkey, &der), 0);
    ck_assert_uint_le((size_t)len, sizeof(out->der));
    memcpy(out->der, der, (size_t)len);
    out->len = (size_t)len;
    OPENSSL_free(der);
}

START_TEST(spki_round_trips_byte_for_byte)
{
    uint8_t again[HSM_SPKI_MAX];
    struct hsm_buf out = { again, sizeof(again), 0 };
    struct hsm_key_kind kind;
    struct hsm_pubkey pub;
    struct spki spki;
    EVP_PKEY *pkey;
    char name[32];

    make_spki(kinds[_i], &kind, &spki, &pkey);
    ck_assert_int_eq(hsm_pubkey_parse((struct hsm_bytes){ spki.der, spki.len }, &pub), HSM_OK);
    ck_assert_str_eq(hsm_kind_format(&pub.kind, name), kinds[_i]);
    ck_assert_uint_eq(pub.kind.bits, (unsigned)EVP_PKEY_get_bits(pkey));
    ck_assert_uint_eq(kind.bits, pub.kind.bits);
    ck_assert_uint_eq(hsm_kind_security_bits(&kind), (unsigned)EVP_PKEY_get_security_bits(pkey));
    if ((hsm_kind_usages(&kind) & HSM_USAGE_SIGN) != 0)
        ck_assert_uint_eq(hsm_kind_signature_max(&kind), (size_t)EVP_PKEY_get_size(pkey));
    ck_assert_int_eq(hsm_pubkey_encode(&pub, &out), HSM_OK);
    ck_assert_uint_eq(out.len, spki.len);
    ck_assert_mem_eq(again, spki.der, spki.len);
    ck_assert(hsm_pubkey_equal(&pub, &pub));
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(spki_truncation_is_refused)
{
    struct hsm_key_kind kind;
    struct hsm_pubkey pub;
    struct spki spki;
    EVP_PKEY *pkey;
    size_t len;

    make_spki(kinds[_i], &kind, &spki, &pkey);
    for (len = 0; len < spki.len; len++) {
        uint8_t *exact = malloc(len == 0 ? 1 : len); /* so that a read beyond is seen by the sanitizers */

        memcpy(exact, spki.der, len);
        ck_assert_int_ne(hsm_pubkey_parse((struct hsm_bytes){ exact, len }, &pub), HSM_OK);
        free(exact);
    }
    spki.der[spki.len] = 0;
    ck_assert_int_ne(hsm_pubkey_parse((struct hsm_bytes){ spki.der, spki.len + 1 }, &pub), HSM_OK);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(compressed_point_equals_uncompressed)
{
    struct hsm_key_kind kind;
    struct hsm_pubkey pub, other;
    uint8_t compressed[HSM_POINT_MAX];
    size_t field;
    struct spki spki;
    EVP_PKEY *pkey;

    make_spki("ec:P-521", &kind, &spki, &pkey);
    ck_assert_int_eq(hsm_pubkey_parse((struct hsm_bytes){ spki.der, spki.len }, &pub), HSM_OK);
    field = (pub.point.len - 1) / 2;
    compressed[0] = (uint8_t)(0x02 | (pub.point.ptr[pub.point.len - 1] & 1));
    memcpy(compressed + 1, pub.point.ptr + 1, field);
    other = pub;
    other.point = (struct hsm_bytes){ compressed, 1 + field };
    ck_assert(hsm_pubkey_equal(&pub, &other));
    compressed[0] ^= 1; /* the mirrored point is another key */
    ck_assert(!hsm_pubkey_equal(&pub, &other));
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(weak_or_foreign_keys_are_refused_with_a_reason)
{
    struct hsm_pubkey pub;
    unsigned char *der = NULL;
    EVP_PKEY *pkey = EVP_RSA_gen(1024);
    int len = i2d_PUBKEY(pkey, &der);
    struct hsm_key_kind kind;

    ck_assert_int_eq(hsm_pubkey_parse((struct hsm_bytes){ der, (size_t)len }, &pub), HSM_ERR_KEY_TYPE);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_KEY_TYPE), "1024"));
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    pkey = EVP_EC_gen("secp224r1");
    der = NULL;
    len = i2d_PUBKEY(pkey, &der);
    ck_assert_int_eq(hsm_pubkey_parse((struct hsm_bytes){ der, (size_t)len }, &pub), HSM_ERR_KEY_TYPE);
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    ck_assert_int_eq(hsm_kind_parse("rsa:1024", &kind), HSM_ERR_KEY_TYPE);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_KEY_TYPE), "refused"));
    ck_assert_int_eq(hsm_kind_parse("rsa:", &kind), HSM_ERR_KEY_TYPE);
    ck_assert_int_eq(hsm_kind_parse("rsa:99999999999999999999", &kind), HSM_ERR_KEY_TYPE);
    ck_assert_int_eq(hsm_kind_parse("ec:P-224", &kind), HSM_ERR_KEY_TYPE);
    ck_assert_int_eq(hsm_kind_parse("dsa:2048", &kind), HSM_ERR_KEY_TYPE);
    ck_assert_int_eq(hsm_kind_parse("", &kind), HSM_ERR_KEY_TYPE);
}
END_TEST

static size_t encode_ref(const char *uri, struct hsm_bytes spki, uint8_t *der, size_t cap)
{
    struct hsm_keyref ref = { { (const uint8_t *)uri, strlen(uri) }, spki };
    struct hsm_buf out = { der, cap, 0 };

    ck_assert_int_eq(hsm_keyref_encode(&ref, &out), HSM_OK);
    return out.len;
}

START_TEST(reference_round_trips)
{
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_key_kind kind;
    struct hsm_keyref ref;
    struct spki spki;
    EVP_PKEY *pkey;
    size_t len;

    make_spki(kinds[_i], &kind, &spki, &pkey);
    len = encode_ref("hsm:object=a;type=private", (struct hsm_bytes){ spki.der, spki.len }, der, sizeof(der));
    ck_assert(hsm_keyref_probe((struct hsm_bytes){ der, len }));
    ck_assert_int_eq(hsm_keyref_decode((struct hsm_bytes){ der, len }, &ref), HSM_OK);
    ck_assert_uint_eq(ref.uri.len, strlen("hsm:object=a;type=private"));
    ck_assert_uint_eq(ref.spki.len, spki.len);
    ck_assert_mem_eq(ref.spki.ptr, spki.der, spki.len);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(reference_without_public_key_is_allowed)
{
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_keyref ref;
    size_t len = encode_ref("hsm:a", (struct hsm_bytes){ NULL, 0 }, der, sizeof(der));

    ck_assert_int_eq(hsm_keyref_decode((struct hsm_bytes){ der, len }, &ref), HSM_OK);
    ck_assert_uint_eq(ref.spki.len, 0);
}
END_TEST

START_TEST(reference_truncation_and_foreign_input_are_refused)
{
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_key_kind kind;
    struct hsm_keyref ref;
    struct spki spki;
    EVP_PKEY *pkey;
    size_t len, cut;

    make_spki("ed25519", &kind, &spki, &pkey);
    len = encode_ref("hsm:a", (struct hsm_bytes){ spki.der, spki.len }, der, sizeof(der));
    for (cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut == 0 ? 1 : cut);

        memcpy(exact, der, cut);
        ck_assert_int_eq(hsm_keyref_decode((struct hsm_bytes){ exact, cut }, &ref), HSM_ERR_REFERENCE);
        ck_assert(!hsm_keyref_probe((struct hsm_bytes){ exact, cut }));
        free(exact);
    }
    ck_assert_int_eq(hsm_keyref_decode((struct hsm_bytes){ der, len + 1 }, &ref), HSM_ERR_REFERENCE);
    ck_assert(!hsm_keyref_probe((struct hsm_bytes){ spki.der, spki.len }));
    der[4] = 2; /* version */
    ck_assert_int_eq(hsm_keyref_decode((struct hsm_bytes){ der, len }, &ref), HSM_ERR_REFERENCE);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_REFERENCE), "newer version"));
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(usage_words_round_trip)
{
    char text[96];
    unsigned usage;

    ck_assert_int_eq(hsm_usage_parse("sign,derive", &usage), HSM_OK);
    ck_assert_uint_eq(usage, HSM_USAGE_SIGN | HSM_USAGE_DERIVE);
    ck_assert_str_eq(hsm_usage_format(usage, text), "sign,derive");
    ck_assert_str_eq(hsm_usage_format(0x7f, text), "sign,verify,encrypt,decrypt,derive,wrap,unwrap");
    ck_assert_int_eq(hsm_usage_parse("sign,", &usage), HSM_ERR_ARGUMENT);
    ck_assert_int_eq(hsm_usage_parse("", &usage), HSM_ERR_ARGUMENT);
    ck_assert_int_eq(hsm_usage_parse("dance", &usage), HSM_ERR_ARGUMENT);
}
END_TEST

START_TEST(hash_facts_agree_with_openssl)
{
    EVP_MD *md = EVP_MD_fetch(NULL, hsm_hash_name((enum hsm_hash)_i), NULL);

    ck_assert_ptr_nonnull(md);
    ck_assert_uint_eq(hsm_hash_len((enum hsm_hash)_i), (size_t)EVP_MD_get_size(md));
    EVP_MD_free(md);
}
END_TEST

START_TEST(error_line_is_one_line_and_belongs_to_its_code)
{
    ck_assert_int_eq(hsm_fail(HSM_ERR_URI, "a\nb\x1b[0m%s", "\r"), HSM_ERR_URI);
    ck_assert_str_eq(hsm_error_text(HSM_ERR_URI), "a b [0m ");
    ck_assert_str_eq(hsm_error_text(HSM_ERR_BUSY), hsm_strerror(HSM_ERR_BUSY));
    ck_assert_int_eq(hsm_fail(HSM_ERR_BUSY, "again: %s", hsm_error_text(HSM_ERR_URI)), HSM_ERR_BUSY);
    ck_assert_str_eq(hsm_error_text(HSM_ERR_BUSY), "again: a b [0m ");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec");
    TCase *t = tcase_create("codec");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, spki_round_trips_byte_for_byte, 0, KIND_COUNT);
    tcase_add_loop_test(t, spki_truncation_is_refused, 0, KIND_COUNT);
    tcase_add_test(t, compressed_point_equals_uncompressed);
    tcase_add_test(t, weak_or_foreign_keys_are_refused_with_a_reason);
    tcase_add_loop_test(t, reference_round_trips, 0, KIND_COUNT);
    tcase_add_test(t, reference_without_public_key_is_allowed);
    tcase_add_test(t, reference_truncation_and_foreign_input_are_refused);
    tcase_add_test(t, usage_words_round_trip);
    tcase_add_loop_test(t, hash_facts_agree_with_openssl, HSM_HASH_NONE + 1, HSM_HASH_COUNT);
    tcase_add_test(t, error_line_is_one_line_and_belongs_to_its_code);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
