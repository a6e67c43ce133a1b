/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key references as files: what a program that only takes a key file is given. Every other file must load as
 * if the provider were not there, and a damaged reference must be refused in one clear line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/store.h>

#include "fixture.h"
#include "hsm/keyref.h"

static struct fixture fx;

static const char *const kinds[] = { "rsa:2048", "ec:P-256", "ec:P-521", "ec:secp256k1",
                                     "ed25519",  "ed448",    "x25519",   "x448" };

enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]), DER_MAX = 8192 };

static void label_of(int i, char label[16])
{
    snprintf(label, 16, "key-%d", i);
}

static EVP_PKEY *key_of(int i)
{
    char uri[32];
    EVP_PKEY *key;

    snprintf(uri, sizeof(uri), "hsm:key-%d", i);
    key = fixture_store_key(fx.app, uri);
    ck_assert_ptr_nonnull(key);
    return key;
}

static char *reference_of(int i)
{
    EVP_PKEY *key = key_of(i);
    char *text = fixture_reference(key);

    EVP_PKEY_free(key);
    return text;
}

static void setup(void)
{
    char label[16];

    fixture_open(&fx);
    for (int i = 0; i < KIND_COUNT; i++) {
        label_of(i, label);
        fixture_generate(&fx, label, kinds[i]);
    }
    fixture_generate(&fx, "pss", "rsa-pss:2048");
}

static void teardown(void)
{
    fixture_close(&fx);
}

static size_t der_of(const char *pem, unsigned char der[DER_MAX])
{
    BIO *in = BIO_new_mem_buf(pem, -1);
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long len = 0;

    ck_assert_int_eq(PEM_read_bio(in, &name, &header, &data, &len), 1);
    ck_assert_str_eq(name, HSM_KEYREF_PEM_LABEL);
    memcpy(der, data, (size_t)len);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    BIO_free(in);
    return (size_t)len;
}

/* A PEM block of our label with any content. */
static char *pem_of(const void *der, size_t len)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL, *text;
    long n;

    ck_assert_int_gt(PEM_write_bio(out, HSM_KEYREF_PEM_LABEL, "", der, (long)len), 0);
    n = BIO_get_mem_data(out, &data);
    text = strndup(data, (size_t)n);
    BIO_free(out);
    return text;
}

static char *pem_of_uri(const char *uri, struct hsm_bytes spki)
{
    unsigned char der[HSM_KEYREF_MAX];
    struct hsm_buf buf = { der, sizeof(der), 0 };
    struct hsm_keyref ref = { { (const uint8_t *)uri, strlen(uri) }, spki };

    ck_assert_int_eq(hsm_keyref_encode(&ref, &buf), HSM_OK);
    return pem_of(der, buf.len);
}

/* ---- round trip ---------------------------------------------------------------------------------------- */

START_TEST(reference_round_trip_gives_the_same_key)
{
    EVP_PKEY *key = key_of(_i), *read, *pub;
    char *pem = fixture_reference(key), *again;

    ck_assert_ptr_nonnull(strstr(pem, "-----BEGIN HSM KEY REFERENCE-----"));
    ck_assert_ptr_null(strstr(pem, "PRIVATE KEY"));
    read = fixture_read_pem(fx.app, pem, strlen(pem));
    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(EVP_PKEY_eq(key, read), 1);
    again = fixture_reference(read);
    ck_assert_str_eq(again, pem);
    if (strncmp(kinds[_i], "x", 1) != 0) {
        pub = fixture_public(&fx, key);
        ck_assert(fixture_can_sign(&fx, read, pub));
        EVP_PKEY_free(pub);
    }
    ck_assert_uint_eq(ERR_peek_error(), 0);
    free(pem);
    free(again);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
}
END_TEST

START_TEST(reference_of_rsa_pss_key_keeps_its_type)
{
    EVP_PKEY *key = fixture_store_key(fx.app, "hsm:pss"), *read, *pub;
    char *pem = fixture_reference(key);

    read = fixture_read_pem(fx.app, pem, strlen(pem));
    ck_assert(EVP_PKEY_is_a(read, "RSA-PSS"));
    pub = fixture_public(&fx, key);
    ck_assert(fixture_can_sign(&fx, read, pub));
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
    free(pem);
}
END_TEST

START_TEST(written_reference_drops_the_pin)
{
    EVP_PKEY *key = fixture_store_key(fx.app, "hsm:object=key-1?pin-value=" FIXTURE_PIN);
    char *pem;
    unsigned char der[DER_MAX];
    size_t len;

    ck_assert_ptr_nonnull(key);
    pem = fixture_reference(key);
    len = der_of(pem, der);
    ck_assert_ptr_null(memmem(der, len, "pin", 3));
    ck_assert_ptr_null(memmem(der, len, FIXTURE_PIN, strlen(FIXTURE_PIN)));
    free(pem);
    EVP_PKEY_free(key);
}
END_TEST

/* A password for the file is accepted and means nothing: there is nothing secret inside. */
START_TEST(reference_is_written_even_with_a_cipher)
{
    EVP_PKEY *key = key_of(1);
    BIO *out = BIO_new(BIO_s_mem());
    unsigned char password[] = "secret";
    char *data = NULL;

    ck_assert_int_eq(PEM_write_bio_PrivateKey(out, key, EVP_aes_256_cbc(), password, 6, NULL, NULL), 1);
    ck_assert_int_gt(BIO_get_mem_data(out, &data), 0);
    ck_assert_int_eq(memcmp(data, "-----BEGIN HSM KEY REFERENCE-----", 33), 0);
    BIO_free(out);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(text_shows_type_public_key_and_uri)
{
    EVP_PKEY *key = key_of(_i);
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL, *text;
    long len;

    ck_assert_int_eq(EVP_PKEY_print_private(out, key, 0, NULL), 1);
    len = BIO_get_mem_data(out, &data);
    text = strndup(data, (size_t)len);
    ck_assert_ptr_nonnull(strstr(text, "private key in token"));
    ck_assert_ptr_nonnull(strstr(text, "Key URI: hsm:"));
    ck_assert_ptr_nonnull(strstr(text, _i == 0 ? "publicExponent:\n    01:00:01\n" : "pub:\n    "));
    free(text);
    BIO_free(out);
    EVP_PKEY_free(key);
}
END_TEST

/* strongSwan and others read DER files without saying what is in them. */
START_TEST(bare_der_loads_without_a_hint)
{
    char *pem = reference_of(_i);
    unsigned char der[DER_MAX];
    const unsigned char *in = der;
    size_t len = der_of(pem, der);
    EVP_PKEY *key = d2i_AutoPrivateKey_ex(NULL, &in, (long)len, fx.app, NULL), *want = key_of(_i);

    ck_assert_ptr_nonnull(key);
    ck_assert_int_eq(EVP_PKEY_eq(key, want), 1);
    free(pem);
    EVP_PKEY_free(key);
    EVP_PKEY_free(want);
}
END_TEST

START_TEST(der_encoder_writes_the_same_reference)
{
    EVP_PKEY *key = key_of(1);
    OSSL_ENCODER_CTX *ctx =
        OSSL_ENCODER_CTX_new_for_pkey(key, EVP_PKEY_KEYPAIR, "DER", "hsm-reference", NULL);
    unsigned char *data = NULL, der[DER_MAX];
    size_t len = 0, want;
    char *pem = fixture_reference(key);

    want = der_of(pem, der);
    ck_assert_int_eq(OSSL_ENCODER_to_data(ctx, &data, &len), 1);
    ck_assert_uint_eq(len, want);
    ck_assert_mem_eq(data, der, len);
    OPENSSL_free(data);
    OSSL_ENCODER_CTX_free(ctx);
    EVP_PKEY_free(key);
    free(pem);
}
END_TEST

START_TEST(no_encoder_pretends_to_have_the_private_key)
{
    EVP_PKEY *key = key_of(_i);
    unsigned char *der = NULL;

    ck_assert_int_le(i2d_PrivateKey(key, &der), 0);
    ck_assert_ptr_null(EVP_PKEY2PKCS8(key));
    EVP_PKEY_free(key);
    ERR_clear_error();
}
END_TEST

/* ---- damaged references -------------------------------------------------------------------------------- */

START_TEST(every_truncation_of_the_pem_is_refused)
{
    char *pem = reference_of(1);
    size_t len = strlen(pem);

    /* less than the whole END line; the newline behind it may be missing */
    for (size_t cut = 0; cut < len - 1; cut++) {
        EVP_PKEY *key = fixture_read_pem(fx.app, pem, cut);

        ck_assert_msg(key == NULL, "cut at %zu", cut);
        if (cut > strlen("-----BEGIN HSM KEY REFERENCE-----"))
            ck_assert_msg(fixture_error_has("key reference is damaged"), "cut at %zu", cut);
        ERR_clear_error();
    }
    ck_assert(fixture_log_has(&fx, "key reference is damaged")); /* libcrypto drops it on many paths */
    free(pem);
}
END_TEST

START_TEST(every_truncation_of_the_der_is_refused)
{
    char *pem = reference_of(1), *cut_pem;
    unsigned char der[DER_MAX];
    size_t len = der_of(pem, der);

    for (size_t cut = 1; cut < len; cut++) {
        const unsigned char *in = der;
        EVP_PKEY *key = d2i_AutoPrivateKey_ex(NULL, &in, (long)cut, fx.app, NULL);

        ck_assert_msg(key == NULL, "DER cut at %zu", cut);
        ERR_clear_error();
        cut_pem = pem_of(der, cut);
        key = fixture_read_pem(fx.app, cut_pem, strlen(cut_pem));
        ck_assert_msg(key == NULL, "DER in PEM cut at %zu", cut);
        ck_assert_msg(fixture_error_has("key reference is damaged"), "DER in PEM cut at %zu", cut);
        free(cut_pem);
    }
    free(pem);
}
END_TEST

/* Whatever a flipped bit makes of it, it is refused or it is a reference; a label or URI may change, the key
 * may not. */
START_TEST(every_flipped_byte_is_survived)
{
    char *pem = reference_of(1);
    unsigned char der[DER_MAX];
    size_t len = der_of(pem, der);

    for (size_t i = 0; i < len; i++)
        for (unsigned mask = 1; mask < 0x100; mask <<= 3) {
            char *bad;

            der[i] ^= (unsigned char)mask;
            bad = pem_of(der, len);
            EVP_PKEY_free(fixture_read_pem(fx.app, bad, strlen(bad)));
            ERR_clear_error();
            free(bad);
            der[i] ^= (unsigned char)mask;
        }
    free(pem);
}
END_TEST

static bool refused_with(const char *pem, size_t len, const char *reason)
{
    EVP_PKEY *key;

    ERR_clear_error();
    key = fixture_read_pem(fx.app, pem, len);
    EVP_PKEY_free(key);
    return key == NULL && fixture_error_has(reason);
}

START_TEST(damaged_blocks_are_refused_with_a_reason)
{
    static const char no_base64[] =
        "-----BEGIN HSM KEY REFERENCE-----\n!!!!\n-----END HSM KEY REFERENCE-----\n";
    static const char with_nul[] =
        "-----BEGIN HSM KEY REFERENCE-----\nMA\0A=\n-----END HSM KEY REFERENCE-----\n";
    static const char other_end[] = "-----BEGIN HSM KEY REFERENCE-----\nMAA=\n-----END CERTIFICATE-----\n";
    static const char headers[] =
        "-----BEGIN HSM KEY REFERENCE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"
        "MAA=\n-----END HSM KEY REFERENCE-----\n";
    static const unsigned char version_2[] = {
        0x30, 0x0c, 2, 1, 2, 0x0c, 7, 'h', 's', 'm', ':', 'k', 'e', 'y'
    };
    char *pem, *big = malloc(200000);
    size_t len;

    ck_assert(refused_with(no_base64, sizeof(no_base64) - 1, "no base64"));
    ck_assert(refused_with(with_nul, sizeof(with_nul) - 1, "binary data"));
    ck_assert(refused_with(other_end, sizeof(other_end) - 1, "key reference is damaged"));
    ck_assert(refused_with(headers, sizeof(headers) - 1, "PEM headers"));
    pem = pem_of(version_2, sizeof(version_2));
    ck_assert(refused_with(pem, strlen(pem), "newer version"));
    free(pem);
    len = (size_t)sprintf(big, "-----BEGIN HSM KEY REFERENCE-----\n");
    while (len < 199000)
        len +=
            (size_t)sprintf(big + len, "MAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAAMAAA\n");
    ck_assert(refused_with(big, len, "far too long"));
    free(big);
    pem = pem_of_uri("hsm:object=a;colour=blue", (struct hsm_bytes){ NULL, 0 });
    ck_assert(refused_with(pem, strlen(pem), "colour"));
    free(pem);
}
END_TEST

/* ---- what is not ours ---------------------------------------------------------------------------------- */

START_TEST(other_files_load_as_ever)
{
    static const char garbage[] = "neither PEM\nnor anything else\n";
    EVP_PKEY *soft = fixture_software_key(&fx, _i == 0   ? "rsa:2048"
                                               : _i == 1 ? "ec:P-256"
                                                         : "ed25519"),
             *read;
    X509 *cert = fixture_certificate(&fx, soft, "other"), *cert_read;
    BIO *io = BIO_new(BIO_s_mem());

    ck_assert_int_eq(PEM_write_bio_PKCS8PrivateKey(io, soft, NULL, NULL, 0, NULL, NULL), 1);
    read = PEM_read_bio_PrivateKey_ex(io, NULL, NULL, NULL, fx.app, NULL);
    ck_assert_int_eq(EVP_PKEY_eq(soft, read), 1);
    EVP_PKEY_free(read);
    ck_assert_int_eq(PEM_write_bio_PKCS8PrivateKey(io, soft, EVP_aes_128_cbc(), "pw", 2, NULL, NULL), 1);
    read = PEM_read_bio_PrivateKey_ex(io, NULL, NULL, (char *)(uintptr_t) "pw", fx.app, NULL);
    ck_assert_int_eq(EVP_PKEY_eq(soft, read), 1);
    EVP_PKEY_free(read);
    ck_assert_int_eq(PEM_write_bio_PUBKEY(io, soft), 1);
    read = PEM_read_bio_PUBKEY_ex(io, NULL, NULL, NULL, fx.app, NULL);
    ck_assert_int_eq(EVP_PKEY_eq(soft, read), 1);
    EVP_PKEY_free(read);
    ck_assert_int_eq(i2d_PrivateKey_bio(io, soft), 1);
    read = d2i_PrivateKey_ex_bio(io, NULL, fx.app, NULL);
    ck_assert_int_eq(EVP_PKEY_eq(soft, read), 1);
    EVP_PKEY_free(read);
    ck_assert_int_eq(PEM_write_bio_X509(io, cert), 1);
    cert_read = PEM_read_bio_X509(io, NULL, NULL, NULL);
    ck_assert_int_eq(X509_cmp(cert, cert_read), 0);
    X509_free(cert_read);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    ck_assert_ptr_null(fixture_read_pem(fx.app, garbage, sizeof(garbage) - 1));
    ck_assert_uint_eq(fixture_errors(), 0); /* libcrypto's own words are enough */
    BIO_free(io);
    X509_free(cert);
    EVP_PKEY_free(soft);
}
END_TEST

/* haproxy: certificate and key in one file, read once for each from the beginning. Others have the key first.
 */
START_TEST(combined_file_gives_both)
{
    EVP_PKEY *key = key_of(1), *read;
    X509 *cert = fixture_certificate(&fx, key, "combined"), *cert_read;
    char *pem = fixture_reference(key);
    BIO *io = BIO_new(BIO_s_mem()), *all;
    char *data = NULL;
    long len;

    if (_i == 1)
        BIO_puts(io, pem);
    BIO_puts(io, "some words before the certificate\n");
    PEM_write_bio_X509(io, cert);
    PEM_write_bio_X509(io, cert);
    BIO_puts(io, "\n\n");
    if (_i == 0)
        BIO_puts(io, pem);
    len = BIO_get_mem_data(io, &data);
    all = BIO_new_mem_buf(data, (int)len);
    read = PEM_read_bio_PrivateKey_ex(all, NULL, NULL, NULL, fx.app, NULL);
    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(EVP_PKEY_eq(read, key), 1);
    BIO_free(all);
    all = BIO_new_mem_buf(data, (int)len);
    for (int i = 0; i < 2; i++) {
        cert_read = PEM_read_bio_X509(all, NULL, NULL, NULL);
        ck_assert_ptr_nonnull(cert_read);
        ck_assert_int_eq(X509_check_private_key(cert_read, read), 1);
        X509_free(cert_read);
    }
    BIO_free(all);
    BIO_free(io);
    free(pem);
    X509_free(cert);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
}
END_TEST

/* Two keys in one file are read one after the other: a decoder leaves the input behind its block. */
START_TEST(blocks_are_read_one_at_a_time)
{
    EVP_PKEY *soft = fixture_software_key(&fx, "ec:P-256"), *token = key_of(1), *read;
    char *pem = fixture_reference(token);
    BIO *io = BIO_new(BIO_s_mem()), *all;
    char *data = NULL;
    long len;

    for (int i = 0; i < 2; i++) {
        BIO_puts(io, pem);
        PEM_write_bio_PKCS8PrivateKey(io, soft, NULL, NULL, 0, NULL, NULL);
    }
    len = BIO_get_mem_data(io, &data);
    all = BIO_new_mem_buf(data, (int)len);
    for (int i = 0; i < 4; i++) {
        read = PEM_read_bio_PrivateKey_ex(all, NULL, NULL, NULL, fx.app, NULL);
        ck_assert_int_eq(EVP_PKEY_eq(read, i % 2 == 0 ? token : soft), 1);
        EVP_PKEY_free(read);
    }
    ck_assert_ptr_null(PEM_read_bio_PrivateKey_ex(all, NULL, NULL, NULL, fx.app, NULL));
    ERR_clear_error();
    BIO_free(all);
    BIO_free(io);
    free(pem);
    EVP_PKEY_free(soft);
    EVP_PKEY_free(token);
}
END_TEST

START_TEST(file_store_loads_references_and_certificates)
{
    EVP_PKEY *key = key_of(1);
    X509 *cert = fixture_certificate(&fx, key, "file");
    char path[FIXTURE_PATH_MAX + 16], *pem = fixture_reference(key);
    int keys = 0, certs = 0;
    OSSL_STORE_CTX *store;
    BIO *out;

    snprintf(path, sizeof(path), "%s/both.pem", fx.dir);
    out = BIO_new_file(path, "w");
    PEM_write_bio_X509(out, cert);
    BIO_puts(out, pem);
    BIO_free(out);
    store = OSSL_STORE_open_ex(path, fx.app, NULL, NULL, NULL, NULL, NULL, NULL);
    ck_assert_ptr_nonnull(store);
    while (!OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        int type = info == NULL ? 0 : OSSL_STORE_INFO_get_type(info);

        keys += type == OSSL_STORE_INFO_PKEY && EVP_PKEY_eq(OSSL_STORE_INFO_get0_PKEY(info), key) == 1;
        certs += type == OSSL_STORE_INFO_CERT;
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    ck_assert_int_eq(keys, 1);
    ck_assert_int_eq(certs, 1);
    free(pem);
    X509_free(cert);
    EVP_PKEY_free(key);
}
END_TEST

/* ---- the token behind the reference -------------------------------------------------------------------- */

/* nginx -t, certificate matching and start-up need no token. */
START_TEST(reference_loads_without_its_token)
{
    EVP_PKEY *key = key_of(_i), *read;
    OSSL_LIB_CTX *other = fixture_context(&fx, "default hsm", NULL);
    bool signs = strncmp(kinds[_i], "x", 1) != 0;
    X509 *cert = signs ? fixture_certificate(&fx, key, "absent") : NULL;
    char *pem = fixture_reference(key);
    char away[FIXTURE_PATH_MAX + 8];

    snprintf(away, sizeof(away), "%s.away", fx.token_path);
    ck_assert_int_eq(rename(fx.token_path, away), 0);
    ck_assert_int_eq(access(fx.token_path, F_OK), -1);
    read = fixture_read_pem(other, pem, strlen(pem));
    ck_assert_int_eq(rename(away, fx.token_path), 0);
    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(EVP_PKEY_eq(read, key), 1);
    if (signs)
        ck_assert_int_eq(X509_check_private_key(cert, read), 1);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    X509_free(cert);
    free(pem);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
    OSSL_LIB_CTX_free(other);
}
END_TEST

START_TEST(wrong_certificate_is_detected)
{
    EVP_PKEY *a = key_of(1), *b = fixture_software_key(&fx, "ec:P-256");
    X509 *cert = fixture_certificate(&fx, b, "wrong");

    ck_assert_int_ne(X509_check_private_key(cert, a), 1);
    ERR_clear_error();
    X509_free(cert);
    EVP_PKEY_free(a);
    EVP_PKEY_free(b);
}
END_TEST

START_TEST(reference_without_public_key_asks_the_token)
{
    char uri[32], *pem;
    EVP_PKEY *key = key_of(_i), *read;

    snprintf(uri, sizeof(uri), "hsm:object=key-%d", _i);
    pem = pem_of_uri(uri, (struct hsm_bytes){ NULL, 0 });
    read = fixture_read_pem(fx.app, pem, strlen(pem));
    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(EVP_PKEY_eq(read, key), 1);
    free(pem);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
}
END_TEST

START_TEST(reference_to_a_missing_key_says_so)
{
    char *pem = pem_of_uri("hsm:object=never-made", (struct hsm_bytes){ NULL, 0 });

    ck_assert(refused_with(pem, strlen(pem), "never-made"));
    free(pem);
}
END_TEST

START_TEST(exchanged_key_is_not_used)
{
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE, .object = "exchanged" };
    struct hsm_object obj;
    EVP_PKEY *key, *read, *pub;
    char *pem;

    fixture_generate(&fx, "exchanged", "ec:P-256");
    key = fixture_store_key(fx.app, "hsm:exchanged");
    pub = fixture_public(&fx, key);
    pem = fixture_reference(key);
    ck_assert_int_eq(hsm_find_one(fixture_token(&fx), &uri, &obj), HSM_OK);
    ck_assert_int_eq(hsm_destroy(fixture_token(&fx), obj.handle), HSM_OK);
    fixture_generate(&fx, "exchanged", "ec:P-256");
    read = fixture_read_pem(fx.app, pem, strlen(pem));
    ck_assert_ptr_nonnull(read);
    ck_assert(!fixture_can_sign(&fx, read, pub));
    ck_assert(fixture_error_has("another key under the name 'exchanged'"));
    free(pem);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
    EVP_PKEY_free(read);
}
END_TEST

START_TEST(reference_loaded_before_fork_signs_in_the_child)
{
    char *pem = reference_of(1);
    EVP_PKEY *read = fixture_read_pem(fx.app, pem, strlen(pem)), *pub = fixture_public(&fx, read);
    int status;
    pid_t pid;

    ck_assert(fixture_can_sign(&fx, read, pub));
    pid = fork();
    if (pid == 0)
        _exit(fixture_can_sign(&fx, read, pub) ? 0 : 1);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert(fixture_can_sign(&fx, read, pub));
    free(pem);
    EVP_PKEY_free(read);
    EVP_PKEY_free(pub);
}
END_TEST

/* ---- PIN ----------------------------------------------------------------------------------------------- */

static int prompts;

static int give_pin(char *buf, int size, int rwflag, void *arg)
{
    prompts++;
    if (arg == NULL)
        return -1;
    return snprintf(buf, (size_t)size, "%s", (const char *)arg);
}

static EVP_PKEY *read_prompted(OSSL_LIB_CTX *libctx, const char *pem, const char *pin)
{
    BIO *in = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey_ex(in, NULL, give_pin, (void *)(uintptr_t)pin, libctx, NULL);

    BIO_free(in);
    return key;
}

START_TEST(pin_comes_by_the_passphrase_callback_once)
{
    OSSL_LIB_CTX *prompted = fixture_context(&fx, "default hsm", "pin-source = prompt\n");
    char *pem = reference_of(1);
    EVP_PKEY *read = read_prompted(prompted, pem, FIXTURE_PIN), *pub, *again;

    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(prompts, 1);
    pub = fixture_public(&fx, read);
    ck_assert(fixture_can_sign(&fx, read, pub));
    again = read_prompted(prompted, pem, FIXTURE_PIN);
    ck_assert_ptr_nonnull(again);
    ck_assert_int_eq(prompts, 1);
    ck_assert(fixture_can_sign(&fx, again, pub));
    EVP_PKEY_free(read);
    EVP_PKEY_free(again);
    EVP_PKEY_free(pub);
    free(pem);
    OSSL_LIB_CTX_free(prompted);
}
END_TEST

START_TEST(no_pin_is_asked_for_when_there_is_a_source)
{
    char *pem = reference_of(1);
    EVP_PKEY *read = read_prompted(fx.app, pem, "nobody asks");

    prompts = 0;
    ck_assert_ptr_nonnull(read);
    ck_assert_int_eq(prompts, 0);
    EVP_PKEY_free(read);
    free(pem);
}
END_TEST

START_TEST(key_loads_although_nobody_answers_and_then_says_what_is_missing)
{
    OSSL_LIB_CTX *prompted = fixture_context(&fx, "default hsm", "pin-source = prompt\n");
    char *pem = reference_of(1);
    EVP_PKEY *read = read_prompted(prompted, pem, NULL), *pub;

    ck_assert_ptr_nonnull(read);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    pub = fixture_public(&fx, read);
    ck_assert(!fixture_can_sign(&fx, read, pub));
    ck_assert(fixture_error_has("PIN"));
    EVP_PKEY_free(read);
    EVP_PKEY_free(pub);
    free(pem);
    OSSL_LIB_CTX_free(prompted);
}
END_TEST

/* Listed first, a key that a program makes becomes a token key when it is first written. */
START_TEST(volatile_key_is_kept_when_it_is_written)
{
    OSSL_LIB_CTX *first = fixture_context(&fx, "hsm default", NULL);
    EVP_PKEY *made = EVP_PKEY_Q_keygen(first, NULL, "EC", "P-256"), *read, *pub;
    char *pem, *again;

    ck_assert_ptr_nonnull(made);
    pem = fixture_reference(made);
    again = fixture_reference(made);
    ck_assert_str_eq(pem, again);
    pub = fixture_public(&fx, made);
    read = fixture_read_pem(fx.app, pem, strlen(pem)); /* the other context, hence the token */
    ck_assert_ptr_nonnull(read);
    ck_assert(fixture_can_sign(&fx, read, pub));
    free(pem);
    free(again);
    EVP_PKEY_free(made);
    EVP_PKEY_free(read);
    EVP_PKEY_free(pub);
    OSSL_LIB_CTX_free(first);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reference");
    TCase *all = tcase_create("token");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(all, setup, teardown);
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, reference_round_trip_gives_the_same_key, 0, KIND_COUNT);
    tcase_add_test(all, reference_of_rsa_pss_key_keeps_its_type);
    tcase_add_test(all, written_reference_drops_the_pin);
    tcase_add_test(all, reference_is_written_even_with_a_cipher);
    tcase_add_loop_test(all, text_shows_type_public_key_and_uri, 0, KIND_COUNT);
    tcase_add_loop_test(all, bare_der_loads_without_a_hint, 0, KIND_COUNT);
    tcase_add_test(all, der_encoder_writes_the_same_reference);
    tcase_add_loop_test(all, no_encoder_pretends_to_have_the_private_key, 0, KIND_COUNT);
    tcase_add_test(all, every_truncation_of_the_pem_is_refused);
    tcase_add_test(all, every_truncation_of_the_der_is_refused);
    tcase_add_test(all, every_flipped_byte_is_survived);
    tcase_add_test(all, damaged_blocks_are_refused_with_a_reason);
    tcase_add_loop_test(all, other_files_load_as_ever, 0, 3);
    tcase_add_loop_test(all, combined_file_gives_both, 0, 2);
    tcase_add_test(all, blocks_are_read_one_at_a_time);
    tcase_add_test(all, file_store_loads_references_and_certificates);
    tcase_add_loop_test(all, reference_loads_without_its_token, 0, KIND_COUNT);
    tcase_add_test(all, wrong_certificate_is_detected);
    tcase_add_loop_test(all, reference_without_public_key_asks_the_token, 0, KIND_COUNT);
    tcase_add_test(all, reference_to_a_missing_key_says_so);
    tcase_add_test(all, exchanged_key_is_not_used);
    tcase_add_test(all, reference_loaded_before_fork_signs_in_the_child);
    tcase_add_test(all, pin_comes_by_the_passphrase_callback_once);
    tcase_add_test(all, no_pin_is_asked_for_when_there_is_a_source);
    tcase_add_test(all, key_loads_although_nobody_answers_and_then_says_what_is_missing);
    tcase_add_test(all, volatile_key_is_kept_when_it_is_written);
    suite_add_tcase(suite, all);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
