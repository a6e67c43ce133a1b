/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the default provider in every order: listed second, listed first, and preferred by a property query.
 * Software keys, digests, key generation and TLS work in all of them; a key enters the token only when that
 * was asked for.
 */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>

enum order { DEFAULT_FIRST, HSM_FIRST, HSM_PREFERRED, ORDER_COUNT };

static struct fixture fx;
static OSSL_LIB_CTX *app; /* in the order under test */

static const struct software {
    const char *kind;
    bool edwards;
} software_kinds[] = {
    { "ec:P-256", false }, { "rsa:2048", false }, { "ed25519", true }, { "rsa-pss:2048", false }
};
enum { SOFTWARE_COUNT = sizeof(software_kinds) / sizeof(software_kinds[0]) };

static EVP_PKEY *software[SOFTWARE_COUNT]; /* in the plain context */

static const char *const token_labels[] = { "ec", "rsa", "ed" };
enum { TOKEN_COUNT = sizeof(token_labels) / sizeof(token_labels[0]) };

static void setup(void)
{
    size_t i;

    fixture_open(&fx);
    fixture_generate(&fx, "ec", "ec:P-256");
    fixture_generate(&fx, "rsa", "rsa:2048");
    fixture_generate(&fx, "ed", "ed25519");
    for (i = 0; i < SOFTWARE_COUNT; i++)
        software[i] = fixture_software_key(&fx, software_kinds[i].kind);
}

static void teardown(void)
{
    size_t i;

    for (i = 0; i < SOFTWARE_COUNT; i++)
        EVP_PKEY_free(software[i]);
    fixture_close(&fx);
}

/* fixture_context() asks OSSL_PROVIDER_available(), and 3.0 sorts its providers by name to answer: that ends
 * the order. */
static OSSL_LIB_CTX *new_context(const char *order, const char *extra)
{
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();

    OSSL_LIB_CTX_free(fixture_context(&fx, order, extra)); /* leaves its file */
    ck_assert_int_eq(OSSL_LIB_CTX_load_config(ctx, fx.conf_path), 1);
    return ctx;
}

static void use_order(int order)
{
    EVP_KEYMGMT *keymgmt;

    app = new_context(order == HSM_FIRST ? "hsm default" : "default hsm", NULL);
    if (order == HSM_PREFERRED)
        ck_assert_int_eq(EVP_set_default_properties(app, "?provider=hsm"), 1);
    keymgmt = EVP_KEYMGMT_fetch(app, "EC", NULL);
    ck_assert_str_eq(OSSL_PROVIDER_get0_name(EVP_KEYMGMT_get0_provider(keymgmt)),
                     order == DEFAULT_FIRST ? "default" : "hsm");
    EVP_KEYMGMT_free(keymgmt);
}

static void done(void)
{
    OSSL_LIB_CTX_free(app);
    app = NULL;
}

static hsm_status count_key(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    ++*(size_t *)arg;
    return HSM_OK;
}

static size_t key_count(void)
{
    size_t count = 0;

    ck_assert_int_eq(hsm_find(fixture_token(&fx), NULL, count_key, &count), HSM_OK);
    return count;
}

static const char *provider_of(EVP_PKEY *key)
{
    return OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key));
}

/* A software key as the application loads it from a PEM file. */
static EVP_PKEY *load_software(size_t index)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    EVP_PKEY *key;
    long len;

    ck_assert_int_eq(PEM_write_bio_PrivateKey(bio, software[index], NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(bio, &pem);
    key = fixture_read_pem(app, pem, (size_t)len);
    BIO_free(bio);
    ck_assert_ptr_nonnull(key);
    ck_assert_str_eq(provider_of(key), "default");
    return key;
}

static EVP_PKEY *load_token_key(const char *label)
{
    char uri[64];
    EVP_PKEY *key;

    (void)snprintf(uri, sizeof(uri), "hsm:%s", label);
    key = fixture_store_key(app, uri);
    ck_assert_ptr_nonnull(key);
    ck_assert_str_eq(provider_of(key), "hsm");
    return key;
}

static bool signs_and_verifies(EVP_PKEY *key, EVP_PKEY *pub)
{
    static const unsigned char message[] = "message";
    unsigned char sig[1024];
    size_t sig_len = sizeof(sig);
    EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit_ex(sign, NULL, NULL, app, NULL, key, NULL) == 1 &&
              EVP_DigestSign(sign, sig, &sig_len, message, sizeof(message)) == 1 &&
              EVP_DigestVerifyInit_ex(verify, NULL, NULL, app, NULL, pub, NULL) == 1 &&
              EVP_DigestVerify(verify, sig, sig_len, message, sizeof(message)) == 1;

    EVP_MD_CTX_free(sign);
    EVP_MD_CTX_free(verify);
    return ok;
}

/* ---- keys that exist ----------------------------------------------------------------------------------- */

/* Loop index: order and kind. */
START_TEST(software_keys_sign_and_verify)
{
    EVP_PKEY *key, *pub;

    use_order(_i / SOFTWARE_COUNT);
    key = load_software((size_t)_i % SOFTWARE_COUNT);
    pub = EVP_PKEY_dup(key);
    ERR_clear_error();
    ck_assert(signs_and_verifies(key, pub));
    ck_assert_uint_eq(ERR_peek_error(), 0);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(token_keys_sign_and_verify)
{
    EVP_PKEY *key;

    use_order(_i / TOKEN_COUNT);
    key = load_token_key(token_labels[_i % TOKEN_COUNT]);
    ck_assert(signs_and_verifies(key, key));
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(digests_ciphers_and_random_are_the_default_providers)
{
    EVP_MD *md;
    EVP_CIPHER *cipher;
    unsigned char random[32];

    use_order(_i);
    md = EVP_MD_fetch(app, "SHA2-256", NULL);
    cipher = EVP_CIPHER_fetch(app, "AES-256-GCM", NULL);
    ck_assert(md != NULL && cipher != NULL);
    ck_assert_str_eq(OSSL_PROVIDER_get0_name(EVP_MD_get0_provider(md)), "default");
    ck_assert_str_eq(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher)), "default");
    ck_assert_int_eq(RAND_bytes_ex(app, random, sizeof(random), 0), 1);
    EVP_MD_free(md);
    EVP_CIPHER_free(cipher);
    done();
}
END_TEST

START_TEST(rsa_encryption_with_a_software_key_works)
{
    EVP_PKEY *key;
    EVP_PKEY_CTX *enc, *dec;
    unsigned char secret[16] = "0123456789abcde", cipher[256], plain[256];
    size_t cipher_len = sizeof(cipher), plain_len = sizeof(plain);

    use_order(_i);
    key = load_software(1);
    enc = EVP_PKEY_CTX_new_from_pkey(app, key, NULL);
    dec = EVP_PKEY_CTX_new_from_pkey(app, key, NULL);
    ck_assert_int_eq(EVP_PKEY_encrypt_init(enc), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_padding(enc, RSA_PKCS1_OAEP_PADDING), 1);
    ck_assert_int_eq(EVP_PKEY_encrypt(enc, cipher, &cipher_len, secret, sizeof(secret)), 1);
    ck_assert_int_eq(EVP_PKEY_decrypt_init(dec), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_padding(dec, RSA_PKCS1_OAEP_PADDING), 1);
    ck_assert_int_eq(EVP_PKEY_decrypt(dec, plain, &plain_len, cipher, cipher_len), 1);
    ck_assert_uint_eq(plain_len, sizeof(secret));
    ck_assert_mem_eq(plain, secret, sizeof(secret));
    EVP_PKEY_CTX_free(enc);
    EVP_PKEY_CTX_free(dec);
    EVP_PKEY_free(key);
    done();
}
END_TEST

/* ---- keys that are made -------------------------------------------------------------------------------- */

static const struct made {
    const char *type, *group;
    size_t bits, primes;
    bool signs, derives;
} made[] = {
    { "EC", "P-256", 0, 0, true, true },           { "EC", "P-521", 0, 0, true, true },
    { "EC", "P-224", 0, 0, true, true }, /* from here on kinds that no token takes */
    { "EC", "brainpoolP512r1", 0, 0, true, true }, { "RSA", NULL, 2048, 0, true, false },
    { "RSA", NULL, 1024, 0, true, false },         { "RSA", NULL, 2048, 3, true, false },
    { "RSA-PSS", NULL, 2048, 0, true, false },     { "ED25519", NULL, 0, 0, true, false },
    { "ED448", NULL, 0, 0, true, false },          { "X25519", NULL, 0, 0, false, true },
    { "X448", NULL, 0, 0, false, true },
};
enum { MADE_COUNT = sizeof(made) / sizeof(made[0]) };

static int progress_calls;

static int on_progress(EVP_PKEY_CTX *ctx)
{
    progress_calls++;
    return 1;
}

static EVP_PKEY *make(const struct made *m)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(app, m->type, NULL);
    EVP_PKEY *key = NULL;

    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    if (m->group != NULL)
        ck_assert_int_eq(EVP_PKEY_CTX_set_group_name(ctx, m->group), 1);
    if (m->bits != 0)
        ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)m->bits), 0);
    if (m->primes != 0)
        ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_keygen_primes(ctx, (int)m->primes), 0);
    EVP_PKEY_CTX_set_cb(ctx, on_progress);
    if (EVP_PKEY_generate(ctx, &key) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    ck_assert_msg(key != NULL, "%s %s: %s", m->type, m->group, ERR_error_string(ERR_peek_last_error(), NULL));
    return key;
}

static size_t derive(EVP_PKEY *key, EVP_PKEY *peer, unsigned char secret[256])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(app, key, NULL);
    size_t len = 256;

    ck_assert_int_eq(EVP_PKEY_derive_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(ctx, peer), 1);
    ck_assert_int_eq(EVP_PKEY_derive(ctx, secret, &len), 1);
    EVP_PKEY_CTX_free(ctx);
    return len;
}

static void check_derive(EVP_PKEY *a, EVP_PKEY *b)
{
    unsigned char ab[256], ba[256];
    size_t len = derive(a, b, ab);

    ck_assert_uint_eq(derive(b, a, ba), len);
    ck_assert_mem_eq(ab, ba, len);
}

static int validate(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(app, key, NULL);
    int ok = EVP_PKEY_check(ctx);

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* Unnamed keys may be for one handshake: a software key in all respects, whoever holds it. */
START_TEST(an_unnamed_key_is_a_software_key)
{
    const struct made *m = &made[_i % MADE_COUNT];
    size_t before = key_count();
    EVP_PKEY *a, *b, *copy;

    use_order(_i / MADE_COUNT);
    a = make(m);
    b = make(m);
    ck_assert_str_eq(provider_of(a), _i / MADE_COUNT == DEFAULT_FIRST ? "default" : "hsm");
    ck_assert_int_eq(EVP_PKEY_is_a(a, m->type), 1);
    ck_assert_int_eq(EVP_PKEY_eq(a, a), 1);
    ck_assert_int_ne(EVP_PKEY_eq(a, b), 1);
    ck_assert_int_eq(validate(a), 1);
    ck_assert_int_gt(EVP_PKEY_get_size(a), 0);
    if (m->bits != 0)
        ck_assert_int_eq(EVP_PKEY_get_bits(a), (int)m->bits);
    copy = EVP_PKEY_dup(a);
    ck_assert_ptr_nonnull(copy);
    EVP_PKEY_free(a); /* the copy does not live on it */
    ck_assert(!m->signs || signs_and_verifies(copy, copy));
    if (m->derives)
        check_derive(copy, b);
    ck_assert_uint_eq(key_count(), before);
    EVP_PKEY_free(copy);
    EVP_PKEY_free(b);
    done();
}
END_TEST

START_TEST(an_unnamed_key_can_be_written_and_read_back)
{
    const struct made *m = &made[_i % MADE_COUNT];
    EVP_PKEY *key, *back;
    BIO *bio = BIO_new(BIO_s_mem());

    use_order(_i / MADE_COUNT);
    key = make(m);
    ck_assert_int_eq(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    back = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, app, NULL);
    ck_assert_ptr_nonnull(back);
    ck_assert_int_eq(EVP_PKEY_eq(key, back), 1);
    ck_assert(!m->signs || signs_and_verifies(back, key));
    BIO_free(bio);
    EVP_PKEY_free(back);
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(a_named_key_is_made_in_the_token)
{
    char label[32];
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = NULL;
    size_t before = key_count();

    use_order(_i);
    (void)snprintf(label, sizeof(label), "named-%d", _i);
    ctx = EVP_PKEY_CTX_new_from_name(app, "EC", _i == DEFAULT_FIRST ? "provider=hsm" : NULL);
    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_group_name(ctx, "P-256"), 1);
    ck_assert_int_gt(EVP_PKEY_CTX_ctrl_str(ctx, "hsm-label", label), 0);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &key), 1);
    ck_assert_uint_eq(key_count(), before + 1);
    ck_assert_int_le(EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &params), 0);
    ck_assert(signs_and_verifies(key, key));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    done();
}
END_TEST

/* The encoder of hsm, asked for by name, gives a reference: that is when the key enters the token, and only
 * once. */
START_TEST(a_volatile_key_enters_the_token_with_its_first_reference)
{
    EVP_PKEY *key, *loaded;
    size_t before = key_count(), len = 0, again_len = 0;
    unsigned char *pem = NULL, *again = NULL;
    OSSL_ENCODER_CTX *enc;

    use_order(HSM_FIRST);
    key = make(&made[_i]);
    enc = OSSL_ENCODER_CTX_new_for_pkey(key, EVP_PKEY_KEYPAIR, "PEM", "PrivateKeyInfo", "provider=hsm");
    ck_assert_int_eq(OSSL_ENCODER_to_data(enc, &pem, &len), 1);
    ck_assert_uint_eq(key_count(), before + 1);
    ck_assert_int_eq(OSSL_ENCODER_to_data(enc, &again, &again_len), 1);
    ck_assert_uint_eq(key_count(), before + 1);
    ck_assert_uint_eq(len, again_len);
    ck_assert_mem_eq(pem, again, len);
    loaded = fixture_read_pem(app, pem, len);
    ck_assert_ptr_nonnull(loaded);
    ck_assert_int_eq(EVP_PKEY_eq(loaded, key), 1);
    ck_assert(!made[_i].signs || signs_and_verifies(loaded, key));
    EVP_PKEY_free(loaded);
    EVP_PKEY_free(key);
    OSSL_ENCODER_CTX_free(enc);
    OPENSSL_free(pem);
    OPENSSL_free(again);
    done();
}
END_TEST

START_TEST(kinds_that_no_token_takes_are_written_as_software_keys)
{
    EVP_PKEY *key, *back;
    size_t before = key_count();
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;

    use_order(HSM_FIRST);
    key = make(&made[2]);
    ck_assert_int_eq(
        PEM_write_bio_PrivateKey(bio, key, EVP_aes_256_cbc(), (unsigned char *)"phrase", 6, NULL, NULL), 1);
    ck_assert_int_gt(BIO_get_mem_data(bio, &pem), 0);
    ck_assert_int_eq(strncmp(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37), 0);
    back = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, (void *)"phrase", app, NULL);
    ck_assert_ptr_nonnull(back);
    ck_assert_int_eq(EVP_PKEY_eq(back, key), 1);
    ck_assert_uint_eq(key_count(), before);
    BIO_free(bio);
    EVP_PKEY_free(back);
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(rsa_generation_reports_progress)
{
    EVP_PKEY *key;

    use_order(HSM_FIRST);
    progress_calls = 0;
    key = make(&made[4]);
    ck_assert_int_gt(progress_calls, 0);
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(parameters_of_any_curve_can_be_made)
{
    static const char *const groups[] = { "P-256", "P-224", "brainpoolP512r1" };
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *params = NULL, *copy, *key = NULL;

    use_order(_i / 3);
    ctx = EVP_PKEY_CTX_new_from_name(app, "EC", NULL);
    ck_assert_int_eq(EVP_PKEY_paramgen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_group_name(ctx, groups[_i % 3]), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &params), 1);
    EVP_PKEY_CTX_free(ctx);
    copy = EVP_PKEY_new();
    ck_assert_int_eq(EVP_PKEY_copy_parameters(copy, params), 1);
    ck_assert_int_eq(EVP_PKEY_parameters_eq(copy, params), 1);
    ctx = EVP_PKEY_CTX_new_from_pkey(app, params, NULL);
    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &key), 1);
    ck_assert_int_eq(EVP_PKEY_parameters_eq(key, params), 1);
    ck_assert(signs_and_verifies(key, key));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(params);
    EVP_PKEY_free(copy);
    EVP_PKEY_free(key);
    done();
}
END_TEST

/* ---- TLS ----------------------------------------------------------------------------------------------- */

static const struct group {
    const char *name;
    int nid, version; /* version 0: both */
} groups[] = { { "X25519", NID_X25519, 0 },
               { "P-256", NID_X9_62_prime256v1, 0 },
               { "P-384", NID_secp384r1, 0 },
               { "P-521", NID_secp521r1, 0 },
               { "X448", NID_X448, 0 },
               { "ffdhe2048", NID_ffdhe2048, TLS1_3_VERSION },
               { "brainpoolP256r1", NID_brainpoolP256r1, TLS1_2_VERSION } };
enum { GROUP_COUNT = sizeof(groups) / sizeof(groups[0]) };

static SSL_CTX *tls_context(int version, X509 *cert, EVP_PKEY *key, X509 *peer)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(app, NULL, TLS_method());

    ck_assert_ptr_nonnull(ctx);
    ck_assert_int_eq(SSL_CTX_set_min_proto_version(ctx, version), 1);
    ck_assert_int_eq(SSL_CTX_set_max_proto_version(ctx, version), 1);
    ck_assert_int_eq(SSL_CTX_use_certificate(ctx, cert), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(ctx, key), 1);
    ck_assert_int_eq(SSL_CTX_check_private_key(ctx), 1);
    ck_assert_int_eq(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), peer), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return ctx;
}

static bool advance(SSL *ssl)
{
    int ret = SSL_do_handshake(ssl), error = SSL_get_error(ssl, ret);

    return ret == 1 || error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static bool shake_hands(SSL *client, SSL *server)
{
    int round;

    for (round = 0; round < 20; round++) {
        if (!advance(client) || !advance(server))
            return false;
        if (SSL_is_init_finished(client) && SSL_is_init_finished(server))
            return true;
    }
    return false;
}

static X509 *certificate_of(EVP_PKEY *key)
{
    X509 *cert = fixture_certificate(&fx, key, "localhost");

    ck_assert_ptr_nonnull(cert);
    return cert;
}

/* Mutual authentication, the same key on both sides. @return NID of the group; 0 if there was no handshake */
static int tls_group(EVP_PKEY *key, int version, const char *group)
{
    X509 *cert = certificate_of(key);
    SSL_CTX *cctx = tls_context(version, cert, key, cert), *sctx = tls_context(version, cert, key, cert);
    SSL *client = SSL_new(cctx), *server = SSL_new(sctx);
    BIO *a = NULL, *b = NULL;
    int nid = 0;

    if (group != NULL)
        ck_assert_msg(SSL_set1_groups_list(client, group) == 1, "%s is not known to libssl", group);
    if (group != NULL)
        ck_assert_int_eq(SSL_set1_groups_list(server, group), 1);
    ck_assert_int_eq(BIO_new_bio_pair(&a, 65536, &b, 65536), 1);
    SSL_set_bio(client, a, a);
    SSL_set_bio(server, b, b);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    if (shake_hands(client, server))
        nid = (int)SSL_get_negotiated_group(server);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(cctx);
    SSL_CTX_free(sctx);
    X509_free(cert);
    return nid;
}

static const char *last_error(void)
{
    static char text[512];
    const char *data = "";

    ERR_error_string_n(ERR_peek_last_error_all(NULL, NULL, NULL, &data, NULL), text, 256);
    (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s", data);
    return text;
}

/* Without a list of ours; from 3.5 on libssl begins with the hybrid X25519MLKEM768, whose classical half
 * comes to us. */
static bool is_default_group(int nid)
{
    return OPENSSL_version_major() == 3 && OPENSSL_version_minor() < 5 ? nid == NID_X25519 : nid != 0;
}

START_TEST(tls_with_software_keys_works_in_any_order)
{
    int order = _i / (2 * SOFTWARE_COUNT), version = _i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION, nid;
    size_t before = key_count();
    EVP_PKEY *key;

    use_order(order);
    key = load_software((size_t)_i / 2 % SOFTWARE_COUNT);
    nid = tls_group(key, version, NULL);
    ck_assert_msg(is_default_group(nid), "group %d: %s", nid, last_error());
    ck_assert_uint_eq(key_count(), before); /* no ephemeral key ended in the token */
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(tls_with_token_keys_works_in_any_order)
{
    int order = _i / (2 * TOKEN_COUNT), version = _i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION, nid;
    size_t before = key_count();
    EVP_PKEY *key;

    use_order(order);
    key = load_token_key(token_labels[_i / 2 % TOKEN_COUNT]);
    nid = tls_group(key, version, NULL);
    ck_assert_msg(is_default_group(nid), "group %d: %s", nid, last_error());
    ck_assert_uint_eq(key_count(), before);
    EVP_PKEY_free(key);
    done();
}
END_TEST

START_TEST(every_tls_group_stays)
{
    const struct group *group = &groups[_i % GROUP_COUNT];
    EVP_PKEY *key;
    int nid;

    use_order(_i / GROUP_COUNT);
    key = load_software(1);
    if (group->version != TLS1_2_VERSION) {
        nid = tls_group(key, TLS1_3_VERSION, group->name);
        ck_assert_msg(nid == group->nid, "%s, TLS 1.3: %s", group->name, last_error());
    }
    if (group->version != TLS1_3_VERSION) {
        nid = tls_group(key, TLS1_2_VERSION, group->name);
        ck_assert_msg(nid == group->nid, "%s, TLS 1.2: %s", group->name, last_error());
    }
    EVP_PKEY_free(key);
    done();
}
END_TEST

static int count_group(const OSSL_PARAM params[], void *arg)
{
    ++*(int *)arg;
    return 1;
}

static int count_groups_of_hsm(OSSL_PROVIDER *provider, void *arg)
{
    if (strcmp(OSSL_PROVIDER_get0_name(provider), "hsm") != 0)
        return 1;
    return OSSL_PROVIDER_get_capabilities(provider, "TLS-GROUP", count_group, arg);
}

START_TEST(groups_are_advertised_only_where_libssl_would_drop_them)
{
    int count = 0;
    bool needed = _i != DEFAULT_FIRST && OPENSSL_version_major() == 3 && OPENSSL_version_minor() < 5;

    use_order(_i);
    ck_assert_int_eq(OSSL_PROVIDER_do_all(app, count_groups_of_hsm, &count), 1);
    ck_assert_msg(needed ? count >= 10 : count == 0, "%d groups", count);
    done();
}
END_TEST

/* ---- without a usable configuration -------------------------------------------------------------------- */

static const char *const broken[] = { "token = nonsense\n", "frobnicate = yes\ntokens = a\n",
                                      "log = nowhere\n" };
enum { BROKEN_COUNT = sizeof(broken) / sizeof(broken[0]) };

START_TEST(a_broken_configuration_takes_nothing_down)
{
    EVP_PKEY *key, *made_key;
    size_t before = key_count();

    app = new_context(_i / BROKEN_COUNT == 0 ? "default hsm" : "hsm default", broken[_i % BROKEN_COUNT]);
    key = load_software(0);
    made_key = make(&made[0]);
    ck_assert(signs_and_verifies(key, key));
    ck_assert(signs_and_verifies(made_key, made_key));
    ck_assert(is_default_group(tls_group(key, TLS1_3_VERSION, NULL)));
    ck_assert_uint_eq(key_count(), before);
    EVP_PKEY_free(made_key);
    EVP_PKEY_free(key);
    done();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("order");
    TCase *tc = tcase_create("order");
    SRunner *sr;
    int failed;

    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, software_keys_sign_and_verify, 0, ORDER_COUNT * SOFTWARE_COUNT);
    tcase_add_loop_test(tc, token_keys_sign_and_verify, 0, ORDER_COUNT * TOKEN_COUNT);
    tcase_add_loop_test(tc, digests_ciphers_and_random_are_the_default_providers, 0, ORDER_COUNT);
    tcase_add_loop_test(tc, rsa_encryption_with_a_software_key_works, 0, ORDER_COUNT);
    tcase_add_loop_test(tc, an_unnamed_key_is_a_software_key, 0, ORDER_COUNT * MADE_COUNT);
    tcase_add_loop_test(tc, an_unnamed_key_can_be_written_and_read_back, 0, ORDER_COUNT * MADE_COUNT);
    tcase_add_loop_test(tc, a_named_key_is_made_in_the_token, 0, ORDER_COUNT);
    tcase_add_loop_test(tc, a_volatile_key_enters_the_token_with_its_first_reference, 0, 2);
    tcase_add_test(tc, kinds_that_no_token_takes_are_written_as_software_keys);
    tcase_add_test(tc, rsa_generation_reports_progress);
    tcase_add_loop_test(tc, parameters_of_any_curve_can_be_made, 0, ORDER_COUNT * 3);
    tcase_add_loop_test(tc, tls_with_software_keys_works_in_any_order, 0, ORDER_COUNT * 2 * SOFTWARE_COUNT);
    tcase_add_loop_test(tc, tls_with_token_keys_works_in_any_order, 0, ORDER_COUNT * 2 * TOKEN_COUNT);
    tcase_add_loop_test(tc, every_tls_group_stays, 0, ORDER_COUNT * GROUP_COUNT);
    tcase_add_loop_test(tc, groups_are_advertised_only_where_libssl_would_drop_them, 0, ORDER_COUNT);
    tcase_add_loop_test(tc, a_broken_configuration_takes_nothing_down, 0, 2 * BROKEN_COUNT);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
