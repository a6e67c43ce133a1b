/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key management: its functions called as libcrypto calls them (with the real provider context), and what the
 * helpers of EVP_PKEY make of it for a key in the token.
 */
#include "fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

#include "hsm/keyref.h"

enum { PRIVATE = 0x01, PUBLIC = 0x02, DOMAIN = 0x04, PUBLIC_ALL = 0x86, KEYPAIR_ALL = 0x87 };

static const struct kind {
    const char *label, *kind, *type, *group;
    int id, bits, security_bits, size, digest_nid; /* digest_nid NID_undef: no digest may be named */
    bool signs;
} kinds[] = {
    { "rsa", "rsa:2048", "RSA", NULL, EVP_PKEY_RSA, 2048, 112, 256, NID_sha256, true },
    { "pss", "rsa-pss:2048", "RSA-PSS", NULL, EVP_PKEY_RSA_PSS, 2048, 112, 256, NID_sha256, true },
    { "p256", "ec:P-256", "EC", "prime256v1", EVP_PKEY_EC, 256, 128, 72, NID_sha256, true },
    { "p384", "ec:P-384", "EC", "secp384r1", EVP_PKEY_EC, 384, 192, 104, NID_sha256, true },
    { "p521", "ec:P-521", "EC", "secp521r1", EVP_PKEY_EC, 521, 256, 139, NID_sha256, true },
    { "k256", "ec:secp256k1", "EC", "secp256k1", EVP_PKEY_EC, 256, 128, 72, NID_sha256, true },
    { "bp256", "ec:brainpoolP256r1", "EC", "brainpoolP256r1", EVP_PKEY_EC, 256, 128, 72, NID_sha256, true },
    { "ed25519", "ed25519", "ED25519", NULL, EVP_PKEY_ED25519, 256, 128, 64, NID_undef, true },
    { "ed448", "ed448", "ED448", NULL, EVP_PKEY_ED448, 456, 224, 114, NID_undef, true },
    { "x25519", "x25519", "X25519", NULL, EVP_PKEY_X25519, 253, 128, 32, NID_undef, false },
    { "x448", "x448", "X448", NULL, EVP_PKEY_X448, 448, 224, 56, NID_undef, false },
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

static struct fixture fx;
static EVP_PKEY *software[KIND_COUNT]; /* of the same kinds, of the default provider */

static void setup(void)
{
    size_t i;

    fixture_open(&fx);
    for (i = 0; i < KIND_COUNT; i++) {
        fixture_generate(&fx, kinds[i].label, kinds[i].kind);
        software[i] = fixture_software_key(&fx, kinds[i].kind);
    }
}

static void teardown(void)
{
    size_t i;

    for (i = 0; i < KIND_COUNT; i++)
        EVP_PKEY_free(software[i]);
    fixture_close(&fx);
}

static const struct kind *kind_of(const char *label)
{
    size_t i;

    for (i = 0; i < KIND_COUNT; i++)
        if (strcmp(kinds[i].label, label) == 0)
            return &kinds[i];
    ck_abort_msg("no kind %s", label);
    return NULL;
}

static void object_of(const char *label, struct hsm_object *obj)
{
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE };
    hsm_status st;

    (void)snprintf(uri.object, sizeof(uri.object), "%s", label);
    st = hsm_find_one(fixture_token(&fx), &uri, obj);
    ck_assert_msg(st == HSM_OK, "%s", hsm_error_text(st));
}

/* As a program loads its key file: a reference that holds the public key of the object. */
static EVP_PKEY *load_from(OSSL_LIB_CTX *libctx, const struct hsm_object *obj)
{
    char uri[HSM_LABEL_MAX + 32];
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    struct hsm_keyref ref = { .spki = { obj->spki, obj->spki_len } };
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    EVP_PKEY *key;
    long len;

    ref.uri = (struct hsm_bytes){ (const uint8_t *)uri,
                                  (size_t)snprintf(uri, sizeof(uri), "hsm:object=%s", obj->label) };
    ck_assert_int_eq(hsm_keyref_encode(&ref, &buf), HSM_OK);
    ck_assert_int_gt(PEM_write_bio(bio, HSM_KEYREF_PEM_LABEL, "", der, (long)buf.len), 0);
    len = BIO_get_mem_data(bio, &pem);
    key = fixture_read_pem(libctx, pem, (size_t)len);
    BIO_free(bio);
    return key;
}

static EVP_PKEY *load(const char *label)
{
    struct hsm_object obj;
    EVP_PKEY *key;

    object_of(label, &obj);
    key = load_from(fx.app, &obj);
    ck_assert_ptr_nonnull(key);
    return key;
}

static unsigned test_number; /* counts where tests do not fork (CK_FORK=no) */

static void next_test(void)
{
    test_number++;
}

/* A label of this test's own: tests are processes, and share one token. */
static const char *fresh(const char *stem)
{
    static char labels[4][64];
    static unsigned next;
    char *label = labels[next++ % 4];

    (void)snprintf(label, sizeof(labels[0]), "%s-%ld-%u", stem, (long)getpid(), test_number);
    return label;
}

/* ---- the functions themselves -------------------------------------------------------------------------- */

struct keymgmt {
    OSSL_PROVIDER *provider;
    void *provctx;
    const OSSL_DISPATCH *fns;
};

static struct keymgmt open_keymgmt(const char *type)
{
    struct keymgmt k = { .provider = OSSL_PROVIDER_load(fx.app, "hsm") };
    const OSSL_ALGORITHM *a;
    int no_cache;
    size_t len = strlen(type);

    ck_assert_ptr_nonnull(k.provider);
    k.provctx = OSSL_PROVIDER_get0_provider_ctx(k.provider);
    for (a = OSSL_PROVIDER_query_operation(k.provider, OSSL_OP_KEYMGMT, &no_cache);
         a->algorithm_names != NULL; a++)
        if (strncmp(a->algorithm_names, type, len) == 0 && a->algorithm_names[len] == ':')
            k.fns = a->implementation;
    ck_assert_ptr_nonnull(k.fns);
    return k;
}

static void close_keymgmt(struct keymgmt *k)
{
    OSSL_PROVIDER_unload(k->provider);
}

static void (*function(const struct keymgmt *k, int id))(void)
{
    const OSSL_DISPATCH *f;

    for (f = k->fns; f->function_id != 0; f++)
        if (f->function_id == id)
            return f->function;
    return NULL;
}

#define CALL(k, id, name) ((OSSL_FUNC_keymgmt_##name##_fn *)function((k), OSSL_FUNC_KEYMGMT_##id))

static void *new_object(const struct keymgmt *k)
{
    void *key = CALL(k, NEW, new)(k->provctx);

    ck_assert_ptr_nonnull(key);
    return key;
}

/* keydata of a token key, made in the token for this test */
static void *new_token_object(const struct keymgmt *k, const struct kind *kind, const char *label)
{
    OSSL_PARAM params[3] = { OSSL_PARAM_construct_utf8_string("hsm-label", (char *)label, 0),
                             OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end() };
    void *gen, *key;

    if (kind->group != NULL)
        params[1] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)kind->group, 0);
    gen = CALL(k, GEN_INIT, gen_init)(k->provctx, 0x3, params);
    ck_assert_ptr_nonnull(gen);
    key = CALL(k, GEN, gen)(gen, NULL, NULL);
    CALL(k, GEN_CLEANUP, gen_cleanup)(gen);
    ck_assert_ptr_nonnull(key);
    return key;
}

static void free_object(const struct keymgmt *k, void *key)
{
    CALL(k, FREE, free)(key);
}

static int has(const struct keymgmt *k, const void *key, int selection)
{
    return CALL(k, HAS, has)(key, selection);
}

static int import_from(const struct keymgmt *k, void *key, int selection, EVP_PKEY *from, int from_selection)
{
    OSSL_PARAM *params = NULL;
    int ok;

    ck_assert_int_gt(EVP_PKEY_todata(from, from_selection, &params), 0);
    ok = CALL(k, IMPORT, import)(key, selection, params);
    OSSL_PARAM_free(params);
    return ok;
}

struct exported {
    OSSL_PARAM *params;
    unsigned calls;
};

static int keep_exported(const OSSL_PARAM params[], void *arg)
{
    struct exported *e = arg;

    e->calls++;
    e->params = OSSL_PARAM_dup(params);
    return 1;
}

static int export_to(const struct keymgmt *k, void *key, int selection, struct exported *e)
{
    *e = (struct exported){ NULL, 0 };
    return CALL(k, EXPORT, export)(key, selection, keep_exported, e);
}

START_TEST(private_import_is_refused_without_an_error)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_object(&k);

    ERR_clear_error();
    ck_assert_int_eq(import_from(&k, key, KEYPAIR_ALL, software[_i], EVP_PKEY_KEYPAIR), 0);
    ck_assert_int_eq(import_from(&k, key, PUBLIC_ALL, software[_i], EVP_PKEY_KEYPAIR), 0);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    ck_assert_int_eq(has(&k, key, PUBLIC), 0); /* nothing of it was kept */
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

/* Peers' keys arrive with 0x87, hybrid groups' with 0x5: what counts is what is there. */
START_TEST(public_import_is_taken_whatever_the_selection)
{
    static const int selections[] = { 0x02, 0x05, 0x06, 0x86, 0x87 };
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    size_t i;

    for (i = 0; i < sizeof(selections) / sizeof(selections[0]); i++) {
        void *a = new_object(&k), *b = new_object(&k);

        ck_assert_int_eq(import_from(&k, a, selections[i], software[_i], EVP_PKEY_PUBLIC_KEY), 1);
        ck_assert_int_eq(import_from(&k, b, selections[i], software[_i], EVP_PKEY_PUBLIC_KEY), 1);
        ck_assert_int_eq(has(&k, a, PUBLIC), 1);
        ck_assert_int_eq(has(&k, a, PUBLIC_ALL), 1);
        ck_assert_int_eq(has(&k, a, PRIVATE), 0);
        ck_assert_int_eq(has(&k, a, KEYPAIR_ALL), 0);
        ck_assert_int_eq(CALL(&k, MATCH, match)(a, b, 0x06), 1);
        ck_assert_int_eq(CALL(&k, MATCH, match)(a, b, KEYPAIR_ALL), 1);
        free_object(&k, a);
        free_object(&k, b);
    }
    close_keymgmt(&k);
}
END_TEST

START_TEST(import_ignores_unknown_parameters)
{
    struct keymgmt k = open_keymgmt("EC");
    uint8_t point[65] = { 4 };
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string("nonsense", (char *)"x", 0),
                            OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)"P-256", 0),
                            OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
                            OSSL_PARAM_construct_end() };
    void *key = new_object(&k);

    ck_assert_int_eq(CALL(&k, IMPORT, import)(key, PUBLIC_ALL, params), 1);
    ck_assert_int_eq(CALL(&k, VALIDATE, validate)(key, PUBLIC, 0), 0); /* (0, 0) is not on the curve */
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(import_of_what_hsm_does_not_know_is_refused_without_an_error)
{
    static const char *const curves[] = { "P-224", "brainpoolP512r1", "sect283k1" };
    struct keymgmt ec = open_keymgmt("EC"), rsa = open_keymgmt("RSA");
    EVP_PKEY *key;
    void *object;
    size_t i;

    for (i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
        key = EVP_PKEY_Q_keygen(fx.plain, NULL, "EC", curves[i]);
        object = new_object(&ec);
        ERR_clear_error();
        ck_assert_int_eq(import_from(&ec, object, PUBLIC_ALL, key, EVP_PKEY_PUBLIC_KEY), 0);
        ck_assert_uint_eq(ERR_peek_error(), 0);
        free_object(&ec, object);
        EVP_PKEY_free(key);
    }
    key = EVP_PKEY_Q_keygen(fx.plain, NULL, "RSA", (size_t)1024);
    object = new_object(&rsa);
    ck_assert_int_eq(import_from(&rsa, object, PUBLIC_ALL, key, EVP_PKEY_PUBLIC_KEY), 0);
    free_object(&rsa, object);
    EVP_PKEY_free(key);
    close_keymgmt(&ec);
    close_keymgmt(&rsa);
}
END_TEST

static bool has_param(const struct exported *e, const char *name)
{
    return OSSL_PARAM_locate(e->params, name) != NULL;
}

START_TEST(private_export_is_refused_without_an_error)
{
    static const int selections[] = { 0x01, 0x03, 0x05, 0x85, 0x87 };
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_token_object(&k, &kinds[_i], fresh("to-export"));
    struct exported e;
    size_t i;

    ERR_clear_error();
    for (i = 0; i < sizeof(selections) / sizeof(selections[0]); i++) {
        ck_assert_int_eq(export_to(&k, key, selections[i], &e), 0);
        ck_assert_uint_eq(e.calls, 0);
    }
    ck_assert_uint_eq(ERR_peek_error(), 0);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(public_export_makes_the_same_key_in_the_default_provider)
{
    static const int selections[] = { 0x02, 0x06, 0x86 };
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_token_object(&k, &kinds[_i], fresh("to-export"));
    EVP_PKEY *token_key = load(fresh("to-export")), *expected = fixture_public(&fx, token_key);
    size_t i;

    for (i = 0; i < sizeof(selections) / sizeof(selections[0]); i++) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx.plain, kinds[_i].type, NULL);
        EVP_PKEY *pub = NULL;
        struct exported e;

        ck_assert_int_eq(export_to(&k, key, selections[i], &e), 1);
        ck_assert_int_eq(EVP_PKEY_fromdata_init(ctx), 1);
        ck_assert_int_eq(EVP_PKEY_fromdata(ctx, &pub, EVP_PKEY_PUBLIC_KEY, e.params), 1);
        ck_assert_int_eq(EVP_PKEY_eq(pub, expected), 1);
        ck_assert(!has_param(&e, OSSL_PKEY_PARAM_PRIV_KEY) && !has_param(&e, OSSL_PKEY_PARAM_RSA_D));
        OSSL_PARAM_free(e.params);
        EVP_PKEY_free(pub);
        EVP_PKEY_CTX_free(ctx);
    }
    EVP_PKEY_free(expected);
    EVP_PKEY_free(token_key);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

/* How the default provider's ECDH gets a peer's key: with the private bit set, from an object that has no
 * private part. */
START_TEST(public_object_exports_under_any_selection)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_object(&k);
    struct exported e;

    ck_assert_int_eq(import_from(&k, key, PUBLIC_ALL, software[_i], EVP_PKEY_PUBLIC_KEY), 1);
    ck_assert_int_eq(export_to(&k, key, KEYPAIR_ALL, &e), 1);
    ck_assert(has_param(&e, OSSL_PKEY_PARAM_PUB_KEY) || has_param(&e, OSSL_PKEY_PARAM_RSA_N));
    OSSL_PARAM_free(e.params);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(parameters_of_an_ec_key_export_alone)
{
    struct keymgmt k = open_keymgmt("EC");
    void *key = new_token_object(&k, kind_of("p384"), "to-export");
    struct exported e;
    char group[32], *text = group;

    ck_assert_int_eq(export_to(&k, key, 0x84, &e), 1);
    ck_assert(!has_param(&e, OSSL_PKEY_PARAM_PUB_KEY));
    ck_assert_int_eq(
        OSSL_PARAM_get_utf8_string(OSSL_PARAM_locate(e.params, OSSL_PKEY_PARAM_GROUP_NAME), &text, 32), 1);
    ck_assert_str_eq(group, "secp384r1");
    OSSL_PARAM_free(e.params);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(has_answers_by_selection)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *empty = new_object(&k), *token_key = new_token_object(&k, &kinds[_i], fresh("with-everything"));

    ck_assert_int_eq(has(&k, empty, PRIVATE), 0);
    ck_assert_int_eq(has(&k, empty, PUBLIC), 0);
    ck_assert_int_eq(has(&k, empty, DOMAIN), kinds[_i].group == NULL); /* only EC has any */
    ck_assert_int_eq(has(&k, empty, 0), 1);
    ck_assert_int_eq(has(&k, empty, 0x80), 1);
    ck_assert_int_eq(has(&k, NULL, PUBLIC), 0);
    ck_assert_int_eq(has(&k, token_key, PRIVATE), 1);
    ck_assert_int_eq(has(&k, token_key, 0x85), 1);
    ck_assert_int_eq(has(&k, token_key, KEYPAIR_ALL), 1);
    free_object(&k, empty);
    free_object(&k, token_key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(match_tells_keys_apart)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *a = new_token_object(&k, &kinds[_i], fresh("one")),
         *b = new_token_object(&k, &kinds[_i], fresh("other"));
    void *pub = new_object(&k);
    EVP_PKEY *one = load(fresh("one"));

    ck_assert_int_eq(import_from(&k, pub, 0x06, one, EVP_PKEY_PUBLIC_KEY), 1);
    ck_assert_int_eq(CALL(&k, MATCH, match)(a, pub, 0x06), 1);
    ck_assert_int_eq(CALL(&k, MATCH, match)(a, a, KEYPAIR_ALL), 1);
    ck_assert_int_eq(CALL(&k, MATCH, match)(b, pub, 0x06), 0);
    ck_assert_int_eq(CALL(&k, MATCH, match)(a, b, DOMAIN), 1);
    EVP_PKEY_free(one);
    free_object(&k, a);
    free_object(&k, b);
    free_object(&k, pub);
    close_keymgmt(&k);
}
END_TEST

START_TEST(match_of_parameters_compares_the_curve)
{
    struct keymgmt k = open_keymgmt("EC");
    void *a = new_object(&k), *b = new_object(&k), *empty = new_object(&k);

    ck_assert_int_eq(import_from(&k, a, 0x84, software[2], EVP_PKEY_KEY_PARAMETERS), 1);
    ck_assert_int_eq(import_from(&k, b, 0x84, software[3], EVP_PKEY_KEY_PARAMETERS), 1);
    ck_assert_int_eq(has(&k, a, DOMAIN), 1);
    ck_assert_int_eq(has(&k, a, PUBLIC), 0);
    ck_assert_int_eq(CALL(&k, MATCH, match)(a, a, DOMAIN), 1);
    ck_assert_int_eq(CALL(&k, MATCH, match)(a, b, DOMAIN), 0);
    ck_assert_int_eq(CALL(&k, MATCH, match)(empty, empty, DOMAIN), 0);
    free_object(&k, a);
    free_object(&k, b);
    free_object(&k, empty);
    close_keymgmt(&k);
}
END_TEST

static size_t get_encoded(const struct keymgmt *k, void *key, uint8_t *buf, size_t buf_len)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, buf,
                                                              buf_len),
                            OSSL_PARAM_construct_end() };

    ck_assert_int_eq(CALL(k, GET_PARAMS, get_params)(key, params), 1);
    return OSSL_PARAM_modified(params) ? params[0].return_size : 0;
}

static int set_encoded(const struct keymgmt *k, void *key, const uint8_t *octets, size_t len)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                                                              (void *)octets, len),
                            OSSL_PARAM_construct_end() };

    return CALL(k, SET_PARAMS, set_params)(key, params);
}

static const char *const exchange_kinds[] = { "p256", "p521", "bp256", "x25519", "x448" };

/* What CMS does with the recipient's key: copy the parameters, set the originator's public key on the copy.
 */
START_TEST(dup_is_independent)
{
    const struct kind *kind = kind_of(exchange_kinds[_i]);
    struct keymgmt k = open_keymgmt(kind->type);
    void *key = new_token_object(&k, kind, fresh("original")), *copy = CALL(&k, DUP, dup)(key, DOMAIN);
    uint8_t before[160], after[160], other[160];
    size_t len = get_encoded(&k, key, before, sizeof(before)), other_len = 0;

    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(software[kind - kinds],
                                                     OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, other, sizeof(other),
                                                     &other_len),
                     1);
    ck_assert_ptr_nonnull(copy);
    ck_assert_int_eq(has(&k, copy, DOMAIN), 1);
    ck_assert_int_eq(has(&k, copy, PRIVATE), 0);
    ck_assert_int_eq(has(&k, copy, PUBLIC), 0);
    ck_assert_int_eq(set_encoded(&k, copy, other, other_len), 1);
    ck_assert_int_eq(CALL(&k, VALIDATE, validate)(copy, PUBLIC, 0), 1);
    ck_assert_uint_eq(get_encoded(&k, copy, after, sizeof(after)), other_len);
    ck_assert_mem_eq(after, other, other_len);
    ck_assert_uint_eq(get_encoded(&k, key, after, sizeof(after)), len);
    ck_assert_mem_eq(after, before, len);
    free_object(&k, copy);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(dup_keeps_what_was_selected)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_token_object(&k, &kinds[_i], fresh("original")),
         *pub = CALL(&k, DUP, dup)(key, PUBLIC_ALL), *whole = CALL(&k, DUP, dup)(key, KEYPAIR_ALL);

    ck_assert_int_eq(has(&k, pub, PUBLIC_ALL), 1);
    ck_assert_int_eq(has(&k, pub, PRIVATE), 0);
    free_object(&k, key); /* the copy does not live on it */
    ck_assert_int_eq(has(&k, whole, KEYPAIR_ALL), 1);
    ck_assert_int_eq(CALL(&k, MATCH, match)(pub, whole, 0x06), 1);
    ck_assert_int_eq(CALL(&k, VALIDATE, validate)(whole, 0x3, 0), 1);
    free_object(&k, pub);
    free_object(&k, whole);
    close_keymgmt(&k);
}
END_TEST

START_TEST(public_key_of_a_token_key_cannot_be_replaced)
{
    const struct kind *kind = kind_of(exchange_kinds[_i]);
    struct keymgmt k = open_keymgmt(kind->type);
    void *key = new_token_object(&k, kind, fresh("original"));
    uint8_t octets[160];
    size_t len = get_encoded(&k, key, octets, sizeof(octets));

    ck_assert_int_eq(set_encoded(&k, key, octets, len), 0);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(malformed_encoded_public_keys_are_refused)
{
    const struct kind *kind = kind_of(exchange_kinds[_i]);
    struct keymgmt k = open_keymgmt(kind->type);
    void *key = new_token_object(&k, kind, fresh("original")), *copy = CALL(&k, DUP, dup)(key, DOMAIN);
    uint8_t octets[160];
    size_t len = get_encoded(&k, key, octets, sizeof(octets)), short_len;

    for (short_len = 0; short_len < len; short_len++)
        if (kind->group == NULL || short_len != (len - 1) / 2 + 1 || octets[0] != 4)
            ck_assert_msg(set_encoded(&k, copy, octets, short_len) == 0, "%zu bytes", short_len);
    ck_assert_int_eq(set_encoded(&k, copy, octets, len + 1), 0);
    ck_assert_int_eq(has(&k, copy, PUBLIC), 0);
    free_object(&k, copy);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

/* The default provider's names, but for EdDSA, whose own name spares libcrypto an attempt to move the key. */
START_TEST(operations_have_their_names)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    const char *sign = CALL(&k, QUERY_OPERATION_NAME, query_operation_name)(OSSL_OP_SIGNATURE);
    const char *exchange = CALL(&k, QUERY_OPERATION_NAME, query_operation_name)(OSSL_OP_KEYEXCH);

    if (kinds[_i].group != NULL) {
        ck_assert_str_eq(sign, "ECDSA");
        ck_assert_str_eq(exchange, "ECDH");
    } else if (strncmp(kinds[_i].type, "RSA", 3) == 0) {
        ck_assert_str_eq(sign, "RSA");
    } else if (kinds[_i].signs) {
        ck_assert_int_eq(strncmp(sign, "HSM-", 4), 0);
        ck_assert_str_eq(sign + 4, kinds[_i].type);
        ck_assert_ptr_null(exchange);
    } else {
        ck_assert_ptr_null(sign);
        ck_assert_str_eq(exchange, kinds[_i].type);
    }
    close_keymgmt(&k);
}
END_TEST

/* Generic code asks the table first, and reports "unsupported" for what is not in it. */
START_TEST(every_gettable_parameter_is_answered)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_token_object(&k, &kinds[_i], fresh("asked"));
    const OSSL_PARAM *p = CALL(&k, GETTABLE_PARAMS, gettable_params)(NULL);

    for (; p->key != NULL; p++) {
        uint8_t buf[1024] = { 0 };
        OSSL_PARAM params[] = { { p->key, p->data_type, buf, sizeof(buf), OSSL_PARAM_UNMODIFIED },
                                OSSL_PARAM_END };

        if (p->data_type == OSSL_PARAM_INTEGER)
            params[0].data_size = sizeof(int);
        ck_assert_msg(CALL(&k, GET_PARAMS, get_params)(key, params) == 1, "%s", p->key);
        /* not every key has a seed, and only restricted PSS keys have restrictions */
        if (strcmp(p->key, OSSL_PKEY_PARAM_EC_SEED) != 0 && strcmp(kinds[_i].type, "RSA-PSS") != 0)
            ck_assert_msg(OSSL_PARAM_modified(params), "%s", p->key);
    }
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(unknown_parameters_are_left_alone)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    void *key = new_token_object(&k, &kinds[_i], fresh("asked"));
    int bits = 0, other = 4711;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_int("security-category", &other),
                            OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_BITS, &bits),
                            OSSL_PARAM_construct_end() };

    ck_assert_int_eq(CALL(&k, GET_PARAMS, get_params)(key, params), 1);
    ck_assert(!OSSL_PARAM_modified(&params[0]));
    ck_assert_int_eq(other, 4711);
    ck_assert_int_eq(bits, kinds[_i].bits);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

START_TEST(the_uri_of_a_key_can_be_asked_for)
{
    EVP_PKEY *key = load(kinds[_i].label);
    char uri[256], expected[64];

    ck_assert_int_eq(EVP_PKEY_get_utf8_string_param(key, "hsm-uri", uri, sizeof(uri), NULL), 1);
    (void)snprintf(expected, sizeof(expected), "object=%s", kinds[_i].label);
    ck_assert_msg(strncmp(uri, "hsm:", 4) == 0 && strstr(uri, expected) != NULL, "%s", uri);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(load_refuses_a_reference_of_another_type)
{
    struct keymgmt rsa = open_keymgmt("RSA"), ec = open_keymgmt("EC");
    void *key = new_object(&ec), *reference = key;

    ck_assert_ptr_null(CALL(&rsa, LOAD, load)(&reference, sizeof(reference)));
    ck_assert_ptr_eq(reference, key);
    ck_assert_ptr_null(CALL(&ec, LOAD, load)(&reference, sizeof(reference) - 1));
    ck_assert_ptr_eq(CALL(&ec, LOAD, load)(&reference, sizeof(reference)), key);
    ck_assert_ptr_null(reference); /* it is ours now, the decoder must not free it */
    ck_assert_ptr_null(CALL(&ec, LOAD, load)(&reference, sizeof(reference)));
    free_object(&ec, key);
    close_keymgmt(&rsa);
    close_keymgmt(&ec);
}
END_TEST

START_TEST(types_for_import_and_export_are_public)
{
    struct keymgmt k = open_keymgmt(kinds[_i].type);
    const OSSL_PARAM *in = CALL(&k, IMPORT_TYPES, import_types)(KEYPAIR_ALL);
    const OSSL_PARAM *out = CALL(&k, EXPORT_TYPES, export_types)(PUBLIC_ALL);

    ck_assert(in != NULL && out != NULL);
    ck_assert(OSSL_PARAM_locate_const(in, OSSL_PKEY_PARAM_PRIV_KEY) == NULL &&
              OSSL_PARAM_locate_const(in, OSSL_PKEY_PARAM_RSA_D) == NULL);
    ck_assert(OSSL_PARAM_locate_const(out, OSSL_PKEY_PARAM_PUB_KEY) != NULL ||
              OSSL_PARAM_locate_const(out, OSSL_PKEY_PARAM_RSA_N) != NULL);
    close_keymgmt(&k);
}
END_TEST

/* ---- what EVP_PKEY makes of it ------------------------------------------------------------------------- */

START_TEST(a_reference_answers_without_its_token)
{
    struct hsm_object obj;
    char away[FIXTURE_PATH_MAX + 8];
    EVP_PKEY *key, *pub;
    char group[32] = "";

    object_of(kinds[_i].label, &obj);
    (void)snprintf(away, sizeof(away), "%s.away", fx.token_path);
    ck_assert_int_eq(rename(fx.token_path, away), 0);
    key = load_from(fx.app, &obj);
    ck_assert_ptr_nonnull(key);
    ck_assert_int_eq(EVP_PKEY_get_id(key), kinds[_i].id);
    ck_assert_int_eq(EVP_PKEY_is_a(key, kinds[_i].type), 1);
    ck_assert_int_eq(EVP_PKEY_get_bits(key), kinds[_i].bits);
    ck_assert_int_eq(EVP_PKEY_get_security_bits(key), kinds[_i].security_bits);
    ck_assert_int_eq(EVP_PKEY_get_size(key), kinds[_i].size);
    ck_assert_int_eq(EVP_PKEY_get_group_name(key, group, sizeof(group), NULL), kinds[_i].group != NULL);
    ck_assert_str_eq(group, kinds[_i].group == NULL ? "" : kinds[_i].group);
    ck_assert_int_eq(EVP_PKEY_can_sign(key), kinds[_i].signs);
    pub = fixture_public(&fx, key);
    ck_assert_int_eq(EVP_PKEY_eq(key, pub), 1);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
    ck_assert_int_eq(rename(away, fx.token_path), 0);
}
END_TEST

START_TEST(the_same_answers_come_from_the_default_provider)
{
    EVP_PKEY *key = load(kinds[_i].label), *pub = fixture_public(&fx, key);

    ck_assert_int_eq(EVP_PKEY_get_id(pub), EVP_PKEY_get_id(key));
    ck_assert_int_eq(EVP_PKEY_get_bits(pub), EVP_PKEY_get_bits(key));
    ck_assert_int_eq(EVP_PKEY_get_security_bits(pub), EVP_PKEY_get_security_bits(key));
    ck_assert_int_eq(EVP_PKEY_get_size(pub), EVP_PKEY_get_size(key));
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
}
END_TEST

static const char *const number_params[] = { OSSL_PKEY_PARAM_RSA_N,    OSSL_PKEY_PARAM_RSA_E,
                                             OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y,
                                             OSSL_PKEY_PARAM_EC_P,     OSSL_PKEY_PARAM_EC_ORDER };

START_TEST(public_numbers_equal_the_default_providers)
{
    EVP_PKEY *key = load(kinds[_i].label), *pub = fixture_public(&fx, key);
    uint8_t a[256] = { 0 }, b[256] = { 0 };
    size_t i, a_len = 0, b_len = 0;

    for (i = 0; i < sizeof(number_params) / sizeof(number_params[0]); i++) {
        BIGNUM *x = NULL, *y = NULL;
        int ok = EVP_PKEY_get_bn_param(pub, number_params[i], &y);

        ck_assert_int_eq(EVP_PKEY_get_bn_param(key, number_params[i], &x), ok);
        ck_assert_msg(!ok || BN_cmp(x, y) == 0, "%s", number_params[i]);
        BN_free(x);
        BN_free(y);
    }
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, a, sizeof(a), &a_len),
                     EVP_PKEY_get_octet_string_param(pub, OSSL_PKEY_PARAM_PUB_KEY, b, sizeof(b), &b_len));
    ck_assert_uint_eq(a_len, b_len);
    ck_assert_mem_eq(a, b, sizeof(a));
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(default_digest_is_right)
{
    EVP_PKEY *key = load(kinds[_i].label);
    char name[32] = "?";
    int nid = NID_undef, expected = NID_undef, result = EVP_PKEY_get_default_digest_nid(key, &nid);

    ck_assert_int_eq(result, EVP_PKEY_get_default_digest_nid(software[_i], &expected));
    ck_assert_int_eq(nid, expected);
    ck_assert_int_eq(nid, kinds[_i].digest_nid);
    if (kinds[_i].digest_nid != NID_undef) {
        ck_assert_int_eq(result, 1); /* advice, not an order: a P-384 key may sign SHA-384 */
    } else if (kinds[_i].signs) {    /* an order: no digest */
        ck_assert_int_eq(
            EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_MANDATORY_DIGEST, name, sizeof(name), NULL),
            1);
        ck_assert_str_eq(name, "");
    }
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(no_helper_gets_at_the_private_key)
{
    EVP_PKEY *key = load(kinds[_i].label);
    unsigned char *der = NULL, raw[256];
    size_t raw_len = sizeof(raw);
    OSSL_PARAM *params = NULL;
    BIGNUM *d = NULL;

    ck_assert_int_le(i2d_PrivateKey(key, &der), 0);
    ck_assert_ptr_null(EVP_PKEY2PKCS8(key));
    ck_assert_int_le(EVP_PKEY_get_raw_private_key(key, raw, &raw_len), 0);
    ck_assert_int_le(EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &params), 0);
    ck_assert_ptr_null(params);
    ck_assert_int_le(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d), 0);
    ck_assert_int_le(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d), 0);
    ck_assert_int_gt(EVP_PKEY_todata(key, EVP_PKEY_PUBLIC_KEY, &params), 0);
    OSSL_PARAM_free(params);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(raw_and_encoded_public_keys_can_be_had)
{
    EVP_PKEY *key = load(kinds[_i].label);
    unsigned char raw[64], *encoded = NULL;
    size_t raw_len = sizeof(raw), encoded_len = EVP_PKEY_get1_encoded_public_key(key, &encoded);
    bool is_raw = kinds[_i].group == NULL && strncmp(kinds[_i].type, "RSA", 3) != 0;

    ck_assert_int_eq(EVP_PKEY_get_raw_public_key(key, raw, &raw_len), is_raw);
    ck_assert((encoded_len > 0) == (kinds[_i].group != NULL || !kinds[_i].signs));
    OPENSSL_free(encoded);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(an_evp_dup_is_a_second_working_handle)
{
    EVP_PKEY *key = load(kinds[_i].label), *pub = fixture_public(&fx, key), *copy = EVP_PKEY_dup(key);

    ck_assert_ptr_nonnull(copy);
    EVP_PKEY_free(key);
    ck_assert_int_eq(EVP_PKEY_eq(copy, pub), 1);
    if (kinds[_i].signs)
        ck_assert(fixture_can_sign(&fx, copy, pub));
    EVP_PKEY_free(copy);
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(a_certificate_meets_its_key_and_no_other)
{
    EVP_PKEY *key = load(kinds[_i].label), *pub = fixture_public(&fx, key);
    X509 *cert = X509_new_ex(fx.app, NULL), *other = X509_new_ex(fx.app, NULL);

    ck_assert_int_eq(X509_set_pubkey(cert, pub), 1);
    ck_assert_int_eq(X509_set_pubkey(other, software[_i]), 1);
    ck_assert_int_eq(X509_check_private_key(cert, key), 1);
    ck_assert_int_eq(X509_check_private_key(other, key), 0);
    X509_free(cert);
    X509_free(other);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
}
END_TEST

/* ---- validation ---------------------------------------------------------------------------------------- */

static int check_pair(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(fx.app, key, NULL);
    int ok = EVP_PKEY_check(ctx);

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

START_TEST(check_asks_the_token)
{
    EVP_PKEY *key = load(kinds[_i].label);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(fx.app, key, NULL);

    ck_assert_int_eq(EVP_PKEY_check(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_public_check(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_public_check_quick(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_private_check(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_pairwise_check(ctx), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(check_finds_a_key_that_is_gone_or_replaced)
{
    struct hsm_object obj;
    EVP_PKEY *key;

    fixture_generate(&fx, fresh("mortal"), kinds[_i].kind);
    key = load(fresh("mortal"));
    object_of(fresh("mortal"), &obj);
    ck_assert_int_eq(hsm_destroy(fixture_token(&fx), obj.handle), HSM_OK);
    ck_assert_int_ne(check_pair(key), 1);
    ck_assert(fixture_error_has("mortal"));
    fixture_generate(&fx, fresh("mortal"), kinds[_i].kind);
    ck_assert_int_ne(check_pair(key), 1);
    ck_assert(fixture_error_has("another key"));
    EVP_PKEY_free(key);
}
END_TEST

/* ---- generation ---------------------------------------------------------------------------------------- */

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

/* settings: "name:value" texts as `openssl genpkey -pkeyopt` passes them, ended by NULL */
static EVP_PKEY *generate(const char *type, const char *const *settings)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx.app, type, "provider=hsm");
    EVP_PKEY *key = NULL;
    char name[64];

    ck_assert_ptr_nonnull(ctx);
    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    for (; *settings != NULL; settings++) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(*settings, ":"), *settings);
        ck_assert_msg(EVP_PKEY_CTX_ctrl_str(ctx, name, *settings + strlen(name) + 1) > 0, "%s", *settings);
    }
    if (EVP_PKEY_generate(ctx, &key) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

START_TEST(a_named_key_is_generated_in_the_token)
{
    char label[80], group[48], bits[16];
    const char *settings[3] = { label, NULL, NULL };
    struct hsm_object obj;
    EVP_PKEY *key;

    (void)snprintf(label, sizeof(label), "hsm-label:%s", fresh("made by evp"));
    (void)snprintf(group, sizeof(group), "group:%s", kinds[_i].group == NULL ? "" : kinds[_i].group);
    (void)snprintf(bits, sizeof(bits), "bits:%d", kinds[_i].bits);
    if (kinds[_i].group != NULL)
        settings[1] = group;
    else if (strncmp(kinds[_i].type, "RSA", 3) == 0)
        settings[1] = bits;
    key = generate(kinds[_i].type, settings);
    ck_assert_msg(key != NULL, "%s", ERR_error_string(ERR_peek_last_error(), NULL));
    object_of(fresh("made by evp"), &obj);
    ck_assert_int_eq(obj.origin, HSM_ORIGIN_GENERATED);
    ck_assert_int_eq(obj.extractable, 0);
    ck_assert_int_eq(EVP_PKEY_get_bits(key), kinds[_i].bits);
    ck_assert_int_eq(check_pair(key), 1);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(attributes_of_a_new_key_are_taken)
{
    static const char *const settings[] = { "group:P-256",
                                            "hsm-label:special",
                                            "hsm-id:00ff10",
                                            "hsm-usage:derive",
                                            "hsm-extractable:yes",
                                            "hsm-token:token",
                                            NULL };
    EVP_PKEY *key = generate("EC", settings);
    struct hsm_object obj;

    ck_assert_ptr_nonnull(key);
    object_of("special", &obj);
    ck_assert_uint_eq(obj.id_len, 3);
    ck_assert_mem_eq(obj.id, "\x00\xff\x10", 3);
    ck_assert_uint_eq(obj.usage, HSM_USAGE_DERIVE);
    ck_assert_int_eq(obj.extractable, 1);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(an_unnamed_key_gets_a_label_of_its_own)
{
    static const char *const settings[] = { "group:P-256", NULL };
    size_t before = key_count();
    EVP_PKEY *a = generate("EC", settings), *b = generate("EC", settings);
    char uri_a[256], uri_b[256];

    ck_assert(a != NULL && b != NULL);
    ck_assert_uint_eq(key_count(), before + 2);
    ck_assert_int_eq(EVP_PKEY_get_utf8_string_param(a, "hsm-uri", uri_a, sizeof(uri_a), NULL), 1);
    ck_assert_int_eq(EVP_PKEY_get_utf8_string_param(b, "hsm-uri", uri_b, sizeof(uri_b), NULL), 1);
    ck_assert_ptr_nonnull(strstr(uri_a, "object=key-"));
    ck_assert_str_ne(uri_a, uri_b);
    EVP_PKEY_free(a);
    EVP_PKEY_free(b);
}
END_TEST

START_TEST(an_existing_label_is_never_overwritten)
{
    static const char *const settings[] = { "group:P-256", "hsm-label:p256", NULL };
    EVP_PKEY *key = load("p256");
    size_t before = key_count();

    ERR_clear_error();
    ck_assert_ptr_null(generate("EC", settings));
    ck_assert(fixture_error_has("p256"));
    ck_assert_uint_eq(key_count(), before);
    ck_assert_int_eq(check_pair(key), 1);
    EVP_PKEY_free(key);
}
END_TEST

static const struct {
    const char *type;
    const char *settings[3];
    const char *says;
} refusals[] = {
    { "EC", { NULL }, "no curve" },
    { "EC", { "group:P-224", NULL }, "P-224" },
    { "EC", { "group:P-256", "encoding:explicit", NULL }, "explicit" },
    { "EC", { "group:P-256", "point-format:compressed", NULL }, "compressed" },
    { "EC", { "group:P-256", "hsm-id:xyz", NULL }, "hsm-id" },
    { "EC", { "group:P-256", "hsm-usage:decrypt", NULL }, "can only be used" },
    { "EC", { "group:P-256", "hsm-usage:frobnicate", NULL }, "frobnicate" },
    { "EC", { "group:P-256", "hsm-extractable:perhaps", NULL }, "hsm-extractable" },
    { "EC", { "group:P-256", "hsm-token:elsewhere", NULL }, "elsewhere" },
    { "ED25519", { "hsm-label:", NULL }, "name" },
    { "RSA", { "bits:1024", NULL }, "1024" },
    { "RSA", { "bits:16384", NULL }, "16384" },
    { "RSA", { "primes:3", NULL }, "two primes" },
    { "RSA", { "e:3", NULL }, "65537" },
    { "RSA-PSS", { "digest:SHA256", NULL }, "restrictions" },
};

START_TEST(impossible_keys_are_refused_with_a_reason)
{
    size_t before = key_count();

    ERR_clear_error();
    ck_assert_ptr_null(generate(refusals[_i].type, refusals[_i].settings));
    ck_assert_msg(fixture_error_has(refusals[_i].says), "%s", refusals[_i].says);
    ck_assert_uint_eq(key_count(), before);
}
END_TEST

START_TEST(the_usual_exponent_and_two_primes_may_be_spelled_out)
{
    static const char *const settings[] = { "bits:2048", "primes:2", "e:65537", "hsm-label:spelled", NULL };
    EVP_PKEY *key = generate("RSA", settings);

    ck_assert_ptr_nonnull(key);
    ck_assert_int_eq(EVP_PKEY_get_bits(key), 2048);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(a_key_can_be_generated_from_parameters)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx.app, "EC", "provider=hsm");
    EVP_PKEY *params = NULL, *key = NULL;
    size_t before = key_count();
    char group[32];

    ck_assert_int_eq(EVP_PKEY_paramgen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_group_name(ctx, "P-384"), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &params), 1);
    EVP_PKEY_CTX_free(ctx);
    ck_assert_uint_eq(key_count(), before); /* parameters live in no token */
    ck_assert_int_eq(EVP_PKEY_get_group_name(params, group, sizeof(group), NULL), 1);
    ck_assert_str_eq(group, "secp384r1");
    ck_assert_int_ne(check_pair(params), 1);
    ctx = EVP_PKEY_CTX_new_from_pkey(fx.app, params, "provider=hsm");
    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &key), 1);
    ck_assert_uint_eq(key_count(), before + 1);
    ck_assert_int_eq(EVP_PKEY_get_bits(key), 384);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(params);
    EVP_PKEY_free(key);
}
END_TEST

/* RFC 4055: the restrictions are part of the public key and must survive import, export and validation. */
START_TEST(restricted_pss_keys_keep_their_restrictions)
{
    struct keymgmt k = open_keymgmt("RSA-PSS");
    EVP_PKEY *restricted = fixture_software_key(&fx, "rsa-pss:2048:SHA384:48"), *back = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx.plain, "RSA-PSS", NULL);
    void *key = new_object(&k);
    char digest[32] = "", *text = digest;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, text,
                                                             sizeof(digest)),
                            OSSL_PARAM_construct_end() };
    struct exported e;

    ck_assert_int_eq(import_from(&k, key, PUBLIC_ALL, restricted, EVP_PKEY_PUBLIC_KEY), 1);
    ck_assert_int_eq(CALL(&k, GET_PARAMS, get_params)(key, params), 1);
    ck_assert_msg(strcmp(digest, "SHA384") == 0 || strcmp(digest, "SHA2-384") == 0, "%s", digest);
    ck_assert_int_eq(export_to(&k, key, PUBLIC_ALL, &e), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata(ctx, &back, EVP_PKEY_PUBLIC_KEY, e.params), 1);
    ck_assert_int_eq(EVP_PKEY_eq(back, restricted), 1);
    ck_assert(has_param(&e, OSSL_PKEY_PARAM_RSA_DIGEST) && has_param(&e, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN));
    ck_assert_int_eq(CALL(&k, VALIDATE, validate)(key, PUBLIC, 0), 1);
    OSSL_PARAM_free(e.params);
    EVP_PKEY_free(back);
    EVP_PKEY_free(restricted);
    EVP_PKEY_CTX_free(ctx);
    free_object(&k, key);
    close_keymgmt(&k);
}
END_TEST

/* ---- contexts, threads, fork --------------------------------------------------------------------------- */

START_TEST(several_library_contexts_work_at_once)
{
    OSSL_LIB_CTX *ctx[4];
    EVP_PKEY *key[4], *pub;
    struct hsm_object obj;
    size_t i;

    object_of("p256", &obj);
    for (i = 0; i < 4; i++) {
        ctx[i] = fixture_context(&fx, i % 2 == 0 ? "default hsm" : "hsm default", NULL);
        key[i] = load_from(ctx[i], &obj);
        ck_assert_ptr_nonnull(key[i]);
    }
    pub = fixture_public(&fx, key[0]);
    for (i = 0; i < 4; i++)
        ck_assert(fixture_can_sign(&fx, key[i], pub));
    EVP_PKEY_free(key[1]); /* one goes, the others stay */
    OSSL_LIB_CTX_free(ctx[1]);
    key[1] = NULL;
    ctx[1] = NULL;
    ck_assert(fixture_can_sign(&fx, key[2], pub));
    for (i = 0; i < 4; i++) {
        EVP_PKEY_free(key[i]);
        OSSL_LIB_CTX_free(ctx[i]);
    }
    EVP_PKEY_free(pub);
}
END_TEST

static size_t open_descriptors(void)
{
    size_t count = 0;
    int fd;

    for (fd = 0; fd < 256; fd++)
        count += dup2(fd, fd) >= 0;
    return count;
}

START_TEST(fifty_loads_and_unloads_leave_nothing_open)
{
    struct hsm_object obj;
    size_t before = 0;
    int i;

    object_of("p256", &obj);
    for (i = 0; i < 50; i++) {
        OSSL_LIB_CTX *ctx = fixture_context(&fx, "default hsm", NULL);
        EVP_PKEY *key = load_from(ctx, &obj), *pub = fixture_public(&fx, key);

        ck_assert(fixture_can_sign(&fx, key, pub));
        EVP_PKEY_free(pub);
        EVP_PKEY_free(key);
        OSSL_LIB_CTX_free(ctx);
        if (i == 0)
            before = open_descriptors();
    }
    ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

/* A context that is unloaded with a provider handle that was loaded by name, without any section. */
START_TEST(a_context_without_configuration_loads_the_provider_by_name)
{
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *base, *hsm;
    struct hsm_object obj;
    EVP_PKEY *key, *pub;

    ck_assert_int_eq(setenv("OPENSSL_CONF", fx.conf_path, 1), 0);
    ck_assert_int_eq(OSSL_PROVIDER_set_default_search_path(ctx, getenv("HSM_MODULE_DIR")), 1);
    base = OSSL_PROVIDER_load(ctx, "default");
    hsm = OSSL_PROVIDER_load(ctx, "hsm");
    ck_assert(base != NULL && hsm != NULL);
    object_of("p256", &obj);
    key = load_from(ctx, &obj);
    pub = fixture_public(&fx, key);
    ck_assert(fixture_can_sign(&fx, key, pub)); /* the section of the default file was found */
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
    OSSL_PROVIDER_unload(hsm);
    OSSL_PROVIDER_unload(base);
    OSSL_LIB_CTX_free(ctx);
}
END_TEST

struct worker {
    EVP_PKEY *shared, *pub;
    struct hsm_object *obj;
    bool ok;
};

static bool use_key(struct worker *w)
{
    EVP_PKEY *own = load_from(fx.app, w->obj), *copy = EVP_PKEY_dup(w->shared);
    bool ok = own != NULL && copy != NULL && EVP_PKEY_eq(own, w->shared) == 1 &&
              EVP_PKEY_eq(copy, w->pub) == 1 && check_pair(w->shared) == 1 &&
              fixture_can_sign(&fx, w->shared, w->pub) && fixture_can_sign(&fx, own, w->pub);

    EVP_PKEY_free(own);
    EVP_PKEY_free(copy);
    return ok;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    int i;

    w->ok = true;
    for (i = 0; i < 40 && w->ok; i++)
        w->ok = use_key(w);
    return NULL;
}

START_TEST(threads_share_a_key)
{
    struct hsm_object obj;
    struct worker workers[8];
    pthread_t threads[8];
    EVP_PKEY *shared = load("p256"), *pub = fixture_public(&fx, shared);
    size_t i;

    object_of("p256", &obj);
    for (i = 0; i < 8; i++) {
        workers[i] = (struct worker){ shared, pub, &obj, false };
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (i = 0; i < 8; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_msg(workers[i].ok, "thread %zu", i);
    }
    EVP_PKEY_free(pub);
    EVP_PKEY_free(shared);
}
END_TEST

/* nginx: the master loads (and may sign), its workers sign, each tears down what it inherited. */
START_TEST(a_key_made_before_fork_works_in_the_children)
{
    EVP_PKEY *key = load("p256"), *pub = fixture_public(&fx, key);
    int i, status;

    if (_i == 1)
        ck_assert(fixture_can_sign(&fx, key, pub));
    for (i = 0; i < 4; i++) {
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            bool ok = fixture_can_sign(&fx, key, pub) && check_pair(key) == 1;

            EVP_PKEY_free(pub);
            EVP_PKEY_free(key);
            OSSL_LIB_CTX_free(fx.app);
            _exit(ok ? 0 : 1);
        }
    }
    for (i = 0; i < 4; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert(fixture_can_sign(&fx, key, pub)); /* the children's teardown took nothing from the parent */
    EVP_PKEY_free(pub);
    EVP_PKEY_free(key);
}
END_TEST

/* ---- suite --------------------------------------------------------------------------------------------- */

static TCase *new_case(Suite *s, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_checked_fixture(tc, next_test, NULL);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(s, tc);
    return tc;
}

static void add_functions(TCase *tc)
{
    const int exchange_count = sizeof(exchange_kinds) / sizeof(exchange_kinds[0]);

    tcase_add_loop_test(tc, private_import_is_refused_without_an_error, 0, KIND_COUNT);
    tcase_add_loop_test(tc, public_import_is_taken_whatever_the_selection, 0, KIND_COUNT);
    tcase_add_test(tc, import_ignores_unknown_parameters);
    tcase_add_test(tc, import_of_what_hsm_does_not_know_is_refused_without_an_error);
    tcase_add_loop_test(tc, public_object_exports_under_any_selection, 0, KIND_COUNT);
    tcase_add_test(tc, match_of_parameters_compares_the_curve);
    tcase_add_loop_test(tc, operations_have_their_names, 0, KIND_COUNT);
    tcase_add_test(tc, load_refuses_a_reference_of_another_type);
    tcase_add_loop_test(tc, types_for_import_and_export_are_public, 0, KIND_COUNT);
    tcase_add_loop_test(tc, dup_is_independent, 0, exchange_count);
    tcase_add_loop_test(tc, public_key_of_a_token_key_cannot_be_replaced, 0, exchange_count);
    tcase_add_loop_test(tc, malformed_encoded_public_keys_are_refused, 0, exchange_count);
    tcase_add_loop_test(tc, private_export_is_refused_without_an_error, 0, KIND_COUNT);
    tcase_add_loop_test(tc, public_export_makes_the_same_key_in_the_default_provider, 0, KIND_COUNT);
    tcase_add_loop_test(tc, has_answers_by_selection, 0, KIND_COUNT);
    tcase_add_loop_test(tc, match_tells_keys_apart, 0, KIND_COUNT);
    tcase_add_loop_test(tc, dup_keeps_what_was_selected, 0, KIND_COUNT);
    tcase_add_loop_test(tc, every_gettable_parameter_is_answered, 0, KIND_COUNT);
    tcase_add_loop_test(tc, unknown_parameters_are_left_alone, 0, KIND_COUNT);
    tcase_add_test(tc, parameters_of_an_ec_key_export_alone);
    tcase_add_test(tc, restricted_pss_keys_keep_their_restrictions);
}

static void add_helpers(TCase *tc)
{
    tcase_add_loop_test(tc, a_reference_answers_without_its_token, 0, KIND_COUNT);
    tcase_add_loop_test(tc, the_same_answers_come_from_the_default_provider, 0, KIND_COUNT);
    tcase_add_loop_test(tc, public_numbers_equal_the_default_providers, 0, KIND_COUNT);
    tcase_add_loop_test(tc, default_digest_is_right, 0, KIND_COUNT);
    tcase_add_loop_test(tc, no_helper_gets_at_the_private_key, 0, KIND_COUNT);
    tcase_add_loop_test(tc, raw_and_encoded_public_keys_can_be_had, 0, KIND_COUNT);
    tcase_add_loop_test(tc, an_evp_dup_is_a_second_working_handle, 0, KIND_COUNT);
    tcase_add_loop_test(tc, a_certificate_meets_its_key_and_no_other, 0, KIND_COUNT);
    tcase_add_loop_test(tc, the_uri_of_a_key_can_be_asked_for, 0, KIND_COUNT);
    tcase_add_loop_test(tc, check_asks_the_token, 0, KIND_COUNT);
    tcase_add_loop_test(tc, check_finds_a_key_that_is_gone_or_replaced, 0, KIND_COUNT);
}

static void add_generation(TCase *tc)
{
    tcase_add_loop_test(tc, a_named_key_is_generated_in_the_token, 0, KIND_COUNT);
    tcase_add_test(tc, attributes_of_a_new_key_are_taken);
    tcase_add_test(tc, an_unnamed_key_gets_a_label_of_its_own);
    tcase_add_test(tc, an_existing_label_is_never_overwritten);
    tcase_add_loop_test(tc, impossible_keys_are_refused_with_a_reason, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(tc, the_usual_exponent_and_two_primes_may_be_spelled_out);
    tcase_add_test(tc, a_key_can_be_generated_from_parameters);
}

static void add_processes(TCase *tc)
{
    tcase_add_test(tc, several_library_contexts_work_at_once);
    tcase_add_test(tc, fifty_loads_and_unloads_leave_nothing_open);
    tcase_add_test(tc, a_context_without_configuration_loads_the_provider_by_name);
    tcase_add_test(tc, threads_share_a_key);
    tcase_add_loop_test(tc, a_key_made_before_fork_works_in_the_children, 0, 2);
}

int main(void)
{
    Suite *s = suite_create("keymgmt");
    SRunner *sr;
    int failed;

    add_functions(new_case(s, "functions"));
    add_helpers(new_case(s, "helpers"));
    add_generation(new_case(s, "generation"));
    add_processes(new_case(s, "processes"));
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}
