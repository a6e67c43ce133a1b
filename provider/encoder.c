/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Private keys of ours as files and text: a reference, never key material. Public keys are left to the
 * default provider, which gets them by export.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/pem.h>

#include "dispatch.h"
#include "hsm/keyref.h"
#include "prov.h"

static OSSL_FUNC_encoder_newctx_fn encoder_newctx;
static OSSL_FUNC_encoder_freectx_fn encoder_freectx;
static OSSL_FUNC_encoder_settable_ctx_params_fn encoder_settable_ctx_params;
static OSSL_FUNC_encoder_set_ctx_params_fn encoder_set_ctx_params;
static OSSL_FUNC_encoder_does_selection_fn encoder_does_selection;
static OSSL_FUNC_encoder_encode_fn pem_encode;
static OSSL_FUNC_encoder_encode_fn der_encode;
static OSSL_FUNC_encoder_encode_fn text_encode;

struct encoder_ctx {
    struct prov_ctx *prov;
    char cipher[64]; /* "": none */
};

static void *encoder_newctx(void *provctx)
{
    struct encoder_ctx *ctx = calloc(1, sizeof(*ctx));

    if (ctx != NULL)
        ctx->prov = provctx;
    return ctx;
}

static void encoder_freectx(void *ctx)
{
    free(ctx);
}

/* A cipher and a passphrase may be set. A reference has nothing secret to encrypt with them; but see
 * prov_encode_soft(). */
static const OSSL_PARAM *encoder_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_CIPHER, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_END,
    };

    return settable;
}

static int encoder_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct encoder_ctx *ctx = vctx;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_ENCODER_PARAM_CIPHER);
    char *cipher = ctx->cipher;

    return p == NULL || OSSL_PARAM_get_utf8_string(p, &cipher, sizeof(ctx->cipher));
}

static int encoder_does_selection(void *provctx, int selection)
{
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static int write_out(struct prov_ctx *prov, OSSL_CORE_BIO *out, const void *data, size_t len)
{
    size_t written = 0;

    if (prov->up.bio_write_ex != NULL && prov->up.bio_write_ex(out, data, len, &written) && written == len)
        return 1;
    return prov_fail(prov, HSM_ERR_TOKEN_IO,
                     "the key reference could not be written to the program's output");
}

static int write_text(struct prov_ctx *prov, OSSL_CORE_BIO *out, BIO *text)
{
    char *data = NULL;
    long len = BIO_get_mem_data(text, &data);

    return write_out(prov, out, data, len > 0 ? (size_t)len : 0);
}

/* ---- references ---------------------------------------------------------------------------------------- */

static hsm_status format_uri(struct hsm_key *key, char text[HSM_URI_MAX + 1])
{
    struct hsm_buf out = { .ptr = (uint8_t *)text, .cap = HSM_URI_MAX + 1 };

    return hsm_uri_format(hsm_key_uri(key), &out);
}

static hsm_status make_reference(struct prov_key *key, struct hsm_buf *der)
{
    char uri[HSM_URI_MAX + 1];
    struct hsm_key *token_key;
    struct hsm_keyref ref;
    hsm_status st;

    if ((st = prov_key_reference(key, &token_key)) != HSM_OK || (st = format_uri(token_key, uri)) != HSM_OK)
        return st;
    ref.uri = (struct hsm_bytes){ (const uint8_t *)uri, strlen(uri) };
    ref.spki = key->has_pub ? (struct hsm_bytes){ key->spki, key->spki_len } : (struct hsm_bytes){ NULL, 0 };
    return hsm_keyref_encode(&ref, der);
}

static int der_encode(void *vctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                      int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct prov_ctx *prov = ((struct encoder_ctx *)vctx)->prov;
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    hsm_status st;

    if (key == NULL || !encoder_does_selection(prov, selection))
        return 0;
    if ((st = make_reference((struct prov_key *)key, &buf)) != HSM_OK)
        return prov_raise(prov, st);
    return write_out(prov, out, der, buf.len);
}

/* A volatile key of a kind that no token takes stays a software key. */
static bool is_soft_only(const struct prov_key *key)
{
    return key->soft != NULL && !key->has_pub;
}

static int pem_encode(void *vctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                      int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct encoder_ctx *ctx = vctx;
    struct prov_ctx *prov = ctx->prov;
    struct prov_encryption how = { ctx->cipher, pw_cb, pw_arg };
    uint8_t der[HSM_KEYREF_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    hsm_status st;
    BIO *text;
    int ok;

    if (key == NULL || !encoder_does_selection(prov, selection))
        return 0;
    if (is_soft_only(key))
        return prov_encode_soft(prov, out, ((const struct prov_key *)key)->soft, selection, "PEM",
                                "PrivateKeyInfo", &how);
    if ((st = make_reference((struct prov_key *)key, &buf)) != HSM_OK)
        return prov_raise(prov, st);
    text = BIO_new(BIO_s_mem());
    if (text == NULL || PEM_write_bio(text, HSM_KEYREF_PEM_LABEL, "", der, (long)buf.len) <= 0)
        ok = prov_fail(prov, HSM_ERR_MEMORY, "out of memory for a key reference");
    else
        ok = write_text(prov, out, text);
    BIO_free(text);
    return ok;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static void print_hex(BIO *out, const char *title, struct hsm_bytes bytes)
{
    const size_t per_line = 15; /* as libcrypto prints keys */

    BIO_printf(out, "%s:", title);
    for (size_t i = 0; i < bytes.len; i++)
        BIO_printf(out, "%s%02x%s", i % per_line == 0 ? "\n    " : "", bytes.ptr[i],
                   i + 1 < bytes.len ? ":" : "\n");
}

static void print_public(BIO *out, const struct prov_key *key)
{
    const struct hsm_curve_info *curve = hsm_curve_info(key->kind.curve);

    if (!key->has_pub)
        return;
    if (key->pub.n.len != 0) {
        print_hex(out, "modulus", key->pub.n);
        print_hex(out, "publicExponent", key->pub.e);
    } else {
        print_hex(out, "pub", key->pub.point);
    }
    if (curve != NULL)
        BIO_printf(out, "ASN1 OID: %s\nCurve: %s\n", curve->group_name, curve->common_name);
}

static void print_key(BIO *out, struct prov_key *key)
{
    struct hsm_key *token_key = key->key != NULL ? key->key : atomic_load(&key->saved);
    char uri[HSM_URI_MAX + 1];

    BIO_printf(out, "%s Private-Key: (%u bit) (private key in token)\n", prov_key_type_name(key->type),
               key->kind.bits);
    print_public(out, key);
    if (token_key == NULL)
        BIO_printf(out, "Key URI: none yet, this key is volatile\n");
    else if (format_uri(token_key, uri) == HSM_OK)
        BIO_printf(out, "Key URI: %s\n", uri);
}

static int text_encode(void *vctx, OSSL_CORE_BIO *out, const void *key, const OSSL_PARAM abstract[],
                       int selection, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct prov_ctx *prov = ((struct encoder_ctx *)vctx)->prov;
    struct prov_encryption none = { NULL, NULL, NULL };
    BIO *text;
    int ok;

    if (key == NULL || !encoder_does_selection(prov, selection))
        return 0;
    if (is_soft_only(key))
        return prov_encode_soft(prov, out, ((const struct prov_key *)key)->soft, selection, "TEXT", NULL,
                                &none);
    if ((text = BIO_new(BIO_s_mem())) == NULL)
        return prov_fail(prov, HSM_ERR_MEMORY, "out of memory for printing a key");
    print_key(text, (struct prov_key *)key);
    ok = write_text(prov, out, text);
    BIO_free(text);
    return ok;
}

#define ENCODER(name)                                                                                        \
    const OSSL_DISPATCH prov_##name##_encoder_functions[] = {                                                \
        { OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))encoder_newctx },                                        \
        { OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))encoder_freectx },                                      \
        { OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, (void (*)(void))encoder_settable_ctx_params },              \
        { OSSL_FUNC_ENCODER_SET_CTX_PARAMS, (void (*)(void))encoder_set_ctx_params },                        \
        { OSSL_FUNC_ENCODER_DOES_SELECTION, (void (*)(void))encoder_does_selection },                        \
        { OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))name##_encode },                                         \
        { 0, NULL },                                                                                         \
    }

ENCODER(pem);
ENCODER(der);
ENCODER(text);
