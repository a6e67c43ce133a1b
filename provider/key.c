/* SPDX-License-Identifier: Apache-2.0 */
/* struct prov_key: what an EVP_PKEY of ours points to. Nothing is raised here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/x509.h>

#include "keymgmt.h"

/* Made only where there is no hsm_ctx to ask, i.e. when the configuration is unusable. */
static OSSL_LIB_CTX *own_libctx(struct prov_ctx *prov)
{
    OSSL_LIB_CTX *ctx = atomic_load(&prov->own_libctx), *expected = NULL;

    if (ctx != NULL)
        return ctx;
    if ((ctx = OSSL_LIB_CTX_new()) == NULL) /* reads no configuration; the default provider comes by itself */
        return NULL;
    if (!atomic_compare_exchange_strong(&prov->own_libctx, &expected, ctx)) {
        OSSL_LIB_CTX_free(ctx);
        ctx = expected;
    }
    return ctx;
}

OSSL_LIB_CTX *prov_libctx(struct prov_ctx *prov)
{
    return prov->hsm != NULL ? hsm_ctx_libctx(prov->hsm) : own_libctx(prov);
}

static const struct type_name {
    enum hsm_key_type type;
    const char *name;
    unsigned bits; /* of those that have one size */
} type_names[] = {
    { HSM_KEY_RSA, "RSA", 0 },           { HSM_KEY_RSA_PSS, "RSA-PSS", 0 }, { HSM_KEY_EC, "EC", 0 },
    { HSM_KEY_ED25519, "ED25519", 256 }, { HSM_KEY_ED448, "ED448", 456 },   { HSM_KEY_X25519, "X25519", 253 },
    { HSM_KEY_X448, "X448", 448 },
};

const char *prov_key_type_name(enum hsm_key_type type)
{
    size_t i;

    for (i = 0; i < PROV_COUNT(type_names); i++)
        if (type_names[i].type == type)
            return type_names[i].name;
    return "UNKNOWN";
}

static unsigned fixed_bits(enum hsm_key_type type)
{
    size_t i;

    for (i = 0; i < PROV_COUNT(type_names); i++)
        if (type_names[i].type == type)
            return type_names[i].bits;
    return 0;
}

const struct key_class *key_class_of(enum hsm_key_type type)
{
    switch (type) {
    case HSM_KEY_RSA:
    case HSM_KEY_RSA_PSS:
        return &key_class_rsa;
    case HSM_KEY_EC:
        return &key_class_ec;
    default:
        return &key_class_ecx;
    }
}

/* ---- life ---------------------------------------------------------------------------------------------- */

struct prov_key *prov_key_new(struct prov_ctx *prov, enum hsm_key_type type)
{
    struct prov_key *key = calloc(1, sizeof(*key));

    if (key == NULL)
        return NULL;
    atomic_init(&key->refs, 1);
    key->prov = prov;
    key->type = type;
    key->kind = (struct hsm_key_kind){ type, HSM_CURVE_NONE, fixed_bits(type) };
    return key;
}

struct prov_key *prov_key_ref(struct prov_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void prov_key_drop_public(struct prov_key *key)
{
    EVP_PKEY_free(atomic_exchange(&key->pub_pkey, NULL));
    free(key->spki);
    key->spki = NULL;
    key->spki_len = 0;
    key->has_pub = false;
}

void prov_key_free(struct prov_key *key)
{
    if (key == NULL || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) > 1)
        return;
    prov_key_drop_public(key);
    EVP_PKEY_free(key->soft);
    hsm_key_free(atomic_load(&key->saved));
    hsm_key_free(key->key);
    free(key);
}

hsm_status prov_key_set_spki(struct prov_key *key, struct hsm_bytes spki)
{
    struct hsm_pubkey pub;
    uint8_t *copy;
    hsm_status st;

    if (spki.len == 0 || spki.len > HSM_SPKI_MAX)
        return hsm_fail(HSM_ERR_DATA, "public key of %zu bytes: 1 to %d are allowed", spki.len, HSM_SPKI_MAX);
    if ((copy = malloc(spki.len)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a public key");
    memcpy(copy, spki.ptr, spki.len);
    st = hsm_pubkey_parse((struct hsm_bytes){ copy, spki.len }, &pub);
    if (st == HSM_OK && pub.kind.type != key->type)
        st = hsm_fail(HSM_ERR_KEY_TYPE, "the public key is of type %s where %s is expected",
                      prov_key_type_name(pub.kind.type), prov_key_type_name(key->type));
    if (st != HSM_OK) {
        free(copy);
        return st;
    }
    prov_key_drop_public(key);
    key->spki = copy;
    key->spki_len = spki.len;
    key->pub = pub;
    key->kind = pub.kind;
    key->has_pub = true;
    return HSM_OK;
}

static hsm_status token_key(struct prov_ctx *prov, const struct hsm_uri *uri, struct hsm_bytes spki,
                            struct prov_key **out)
{
    struct hsm_pubkey pub;
    struct prov_key *key;
    hsm_status st = hsm_pubkey_parse(spki, &pub);

    if (st != HSM_OK)
        return st;
    if ((key = prov_key_new(prov, pub.kind.type)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    if ((st = prov_key_set_spki(key, spki)) == HSM_OK)
        st = hsm_key_new(prov->hsm, uri, spki, &key->key);
    if (st != HSM_OK) {
        prov_key_free(key);
        return st;
    }
    *out = key;
    return HSM_OK;
}

hsm_status prov_key_from_uri(struct prov_ctx *prov, const struct hsm_uri *uri, struct hsm_bytes spki,
                             struct prov_key **out)
{
    struct hsm_key *finder = NULL;
    struct hsm_object *obj;
    hsm_status st;

    *out = NULL;
    if (prov->hsm == NULL)
        return hsm_fail(prov->config_status, "%s", prov->config_error);
    if (spki.len > 0)
        return token_key(prov, uri, spki, out);
    if ((obj = malloc(sizeof(*obj))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    if ((st = hsm_key_new(prov->hsm, uri, spki, &finder)) == HSM_OK &&
        (st = hsm_key_object(finder, obj)) == HSM_OK)
        st = token_key(prov, uri, (struct hsm_bytes){ obj->spki, obj->spki_len }, out);
    hsm_key_free(finder);
    free(obj);
    return st;
}

struct prov_key *prov_key_take_reference(const void *reference, size_t reference_sz, enum hsm_key_type type)
{
    struct prov_key **slot = (struct prov_key **)reference, *key;

    if (slot == NULL || reference_sz != sizeof(*slot) || (key = *slot) == NULL || key->type != type)
        return NULL;
    *slot = NULL;
    return key;
}

/* ---- the default provider's view ----------------------------------------------------------------------- */

static EVP_PKEY *pkey_from_params(OSSL_LIB_CTX *libctx, const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(libctx, type, PROV_DEFAULT);
    EVP_PKEY *pkey = NULL;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *make_public(struct prov_key *key)
{
    OSSL_LIB_CTX *libctx = prov_libctx(key->prov);
    const unsigned char *der = key->spki;
    OSSL_PARAM *params;
    EVP_PKEY *pkey = NULL;

    if (libctx == NULL || !key->has_pub)
        return NULL;
    ERR_set_mark();
    if (key->pub.pss_params.len > 0) { /* only DER carries the restrictions whole */
        pkey = d2i_PUBKEY_ex(NULL, &der, (long)key->spki_len, libctx, PROV_DEFAULT);
    } else if ((params = key_class_of(key->type)->export(key, EVP_PKEY_PUBLIC_KEY)) != NULL) {
        pkey = pkey_from_params(libctx, prov_key_type_name(key->type), params);
        OSSL_PARAM_free(params);
    }
    ERR_pop_to_mark();
    return pkey;
}

EVP_PKEY *prov_key_public(struct prov_key *key)
{
    EVP_PKEY *pkey = key->soft != NULL ? key->soft : atomic_load(&key->pub_pkey), *expected = NULL;

    if (pkey != NULL)
        return pkey;
    pkey = make_public(key);
    if (pkey != NULL && !atomic_compare_exchange_strong(&key->pub_pkey, &expected, pkey)) {
        EVP_PKEY_free(pkey);
        pkey = expected;
    }
    return pkey;
}

/* ---- volatile keys ------------------------------------------------------------------------------------- */

/* No token takes an RSA key of more than two primes, though its public key looks like any other. */
static bool is_multi_prime(EVP_PKEY *soft)
{
    BIGNUM *third = NULL;
    bool is = EVP_PKEY_get_bn_param(soft, OSSL_PKEY_PARAM_RSA_FACTOR3, &third) == 1;

    BN_clear_free(third);
    return is;
}

void prov_key_adopt(struct prov_key *key, EVP_PKEY *soft, bool is_private)
{
    OSSL_PARAM *params = NULL;
    int selection = is_private ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEY_PARAMETERS;

    key->soft = soft;
    key->soft_private = is_private;
    ERR_set_mark();
    if (EVP_PKEY_todata(soft, selection, &params) > 0)
        (void)key_class_of(key->type)->import(key,
                                              params); /* 0: a kind that hsm does not know; soft knows it */
    if (is_multi_prime(soft))
        prov_key_drop_public(key);
    OSSL_PARAM_free(params);
    ERR_pop_to_mark();
}

hsm_status prov_random_label(char out[24])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t random[8];
    ssize_t n;
    size_t i;

    do
        n = getrandom(random, sizeof(random), 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(random))
        return hsm_fail(HSM_ERR_CRYPTO, "the system gives no random numbers: getrandom: %s", strerror(errno));
    memcpy(out, "key-", 4);
    for (i = 0; i < sizeof(random); i++) {
        out[4 + 2 * i] = digits[random[i] >> 4];
        out[5 + 2 * i] = digits[random[i] & 15];
    }
    out[4 + 2 * i] = '\0';
    return HSM_OK;
}

void prov_label_uri(struct hsm_ctx *hsm, const char *token, const char *label, struct hsm_uri *uri)
{
    *uri = (struct hsm_uri){ .type = HSM_URI_TYPE_PRIVATE };
    if (token != NULL && *token != '\0')
        (void)snprintf(uri->token, sizeof(uri->token), "%s", token);
    else if (hsm_token_count(hsm) > 1) /* else a search of all tokens could find a namesake */
        (void)snprintf(uri->token, sizeof(uri->token), "%s", hsm_token_name(hsm, 0));
    (void)snprintf(uri->object, sizeof(uri->object), "%s", label);
}

static hsm_status soft_to_pkcs8(EVP_PKEY *soft, unsigned char **der, size_t *der_len)
{
    OSSL_ENCODER_CTX *ctx =
        OSSL_ENCODER_CTX_new_for_pkey(soft, EVP_PKEY_KEYPAIR, "DER", "PrivateKeyInfo", PROV_DEFAULT);
    int ok = ctx != NULL && OSSL_ENCODER_to_data(ctx, der, der_len);

    OSSL_ENCODER_CTX_free(ctx);
    return ok ? HSM_OK : hsm_fail(HSM_ERR_CRYPTO, "the new key cannot be encoded for the token");
}

static void discard(struct prov_ctx *prov, struct hsm_token *tok, hsm_handle handle)
{
    if (hsm_destroy(tok, handle) != HSM_OK)
        hsm_log(prov->hsm, HSM_LOG_ERROR,
                "a key that was imported in vain stays in the token; see `hsmctl key list`");
}

/* Import the software key under a fresh label; the token holds it from now on. */
static hsm_status save(struct prov_key *key, struct hsm_token *tok, hsm_handle *handle, struct hsm_key **out)
{
    char label[24];
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = label };
    struct hsm_uri uri;
    unsigned char *der = NULL;
    size_t der_len = 0;
    hsm_status st = prov_random_label(label);

    if (st == HSM_OK && (st = soft_to_pkcs8(key->soft, &der, &der_len)) == HSM_OK)
        st = hsm_import(tok, &spec, (struct hsm_bytes){ der, der_len }, handle);
    OPENSSL_clear_free(der, der_len);
    if (st != HSM_OK)
        return st;
    prov_label_uri(key->prov->hsm, NULL, label, &uri);
    st = hsm_key_new(key->prov->hsm, &uri, (struct hsm_bytes){ key->spki, key->spki_len }, out);
    if (st != HSM_OK)
        discard(key->prov, tok, *handle);
    return st;
}

hsm_status prov_key_reference(struct prov_key *key, struct hsm_key **out)
{
    struct hsm_key *fresh = NULL, *expected = NULL;
    struct hsm_token *tok;
    hsm_handle handle;
    hsm_status st;

    *out = key->key != NULL ? key->key : atomic_load(&key->saved);
    if (*out != NULL)
        return HSM_OK;
    if (!key->soft_private || !key->has_pub)
        return hsm_fail(HSM_ERR_KEY_TYPE, key->soft_private
                                              ? "this kind of key cannot be kept in a token"
                                              : "a reference needs a private key, this is a public one");
    if (key->prov->hsm == NULL)
        return hsm_fail(key->prov->config_status, "%s", key->prov->config_error);
    if ((st = hsm_token_find(key->prov->hsm, NULL, &tok)) != HSM_OK ||
        (st = save(key, tok, &handle, &fresh)) != HSM_OK)
        return st;
    if (!atomic_compare_exchange_strong(&key->saved, &expected, fresh)) { /* another thread was faster */
        discard(key->prov, tok, handle);
        hsm_key_free(fresh);
        fresh = expected;
    }
    *out = fresh;
    return HSM_OK;
}
