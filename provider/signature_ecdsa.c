/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch.h"
#include "signature.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#define PARAM_NONCE_TYPE "nonce-type" /* OpenSSL 3.2: 1 asks for RFC 6979 */

static OSSL_FUNC_signature_newctx_fn ecdsa_newctx;
static OSSL_FUNC_signature_sign_init_fn ecdsa_sign_init;
static OSSL_FUNC_signature_verify_init_fn ecdsa_verify_init;
static OSSL_FUNC_signature_digest_sign_init_fn ecdsa_digest_sign_init;
static OSSL_FUNC_signature_digest_verify_init_fn ecdsa_digest_verify_init;
static OSSL_FUNC_signature_get_ctx_params_fn ecdsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn ecdsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn ecdsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn ecdsa_settable_ctx_params;

static bool ecdsa_takes(enum hsm_key_type type)
{
    return type == HSM_KEY_EC;
}

/* The digest's name never enters an ECDSA signature: all are welcome that have a length. */
static int ecdsa_check_digest(struct sig_ctx *ctx, const EVP_MD *md, enum hsm_hash hash)
{
    if ((EVP_MD_get_flags(md) & EVP_MD_FLAG_XOF) != 0)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "ECDSA needs a digest of fixed length, which %s is not; use SHA-256",
                         EVP_MD_get0_name(md));
    return 1;
}

static int ecdsa_mech(struct sig_ctx *ctx, size_t tbs_len, struct hsm_mech *mech)
{
    if (ctx->md != NULL && tbs_len != (size_t)EVP_MD_get_size(ctx->md))
        return prov_fail(ctx->prov, HSM_ERR_DATA_LEN, "ECDSA input has %zu bytes, a digest of %s has %d",
                         tbs_len, EVP_MD_get0_name(ctx->md), EVP_MD_get_size(ctx->md));
    mech->type = HSM_MECH_ECDSA;
    mech->hash = ctx->hash;
    return 1;
}

static const struct sig_alg ecdsa_alg = {
    .takes = ecdsa_takes,
    .check_digest = ecdsa_check_digest,
    .mech = ecdsa_mech,
};

static void *ecdsa_newctx(void *provctx, const char *propq)
{
    return sig_new(provctx, &ecdsa_alg);
}

static int ecdsa_sign_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return sig_init(ctx, key, SIG_OP_SIGN) && ecdsa_set_ctx_params(ctx, params);
}

static int ecdsa_verify_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return sig_init(ctx, key, SIG_OP_VERIFY) && ecdsa_set_ctx_params(ctx, params);
}

static int ecdsa_digest_sign_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    return ecdsa_sign_init(ctx, key, params) && sig_init_digest(ctx, mdname);
}

static int ecdsa_digest_verify_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    return ecdsa_verify_init(ctx, key, params) && sig_init_digest(ctx, mdname);
}

static int ecdsa_get_ctx_params(void *vctx, OSSL_PARAM *params)
{
    const struct sig_ctx *ctx = vctx;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    uint8_t der[ALGID_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    hsm_status st;

    if (p != NULL && (st = algid_ecdsa(ctx->hash, &buf)) != HSM_OK)
        return prov_raise(ctx->prov, st);
    if (p != NULL && !OSSL_PARAM_set_octet_string(p, der, buf.len))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST_SIZE);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, ctx->md == NULL ? 0 : (size_t)EVP_MD_get_size(ctx->md)))
        return 0;
    p = OSSL_PARAM_locate(params, PARAM_NONCE_TYPE);
    if (p != NULL && !OSSL_PARAM_set_uint(p, 0))
        return 0;
    return sig_get_digest(ctx, params);
}

static const OSSL_PARAM *ecdsa_gettable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_size_t(OSSL_SIGNATURE_PARAM_DIGEST_SIZE, NULL),
        OSSL_PARAM_uint(PARAM_NONCE_TYPE, NULL),
        OSSL_PARAM_END,
    };

    return gettable;
}

static int ecdsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct sig_ctx *ctx = vctx;
    char name[SIG_NAME_MAX];
    const OSSL_PARAM *p;
    unsigned nonce_type = 0;

    if (params == NULL)
        return 1;
    p = OSSL_PARAM_locate_const(params, PARAM_NONCE_TYPE);
    if (p != NULL && (!OSSL_PARAM_get_uint(p, &nonce_type) || nonce_type != 0))
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "the token draws its ECDSA nonces itself; leave nonce-type at 0");
    p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST);
    if (p == NULL)
        return 1;
    if (!sig_param_text(p, name, sizeof(name)))
        return prov_fail(ctx->prov, HSM_ERR_ARGUMENT, "the digest parameter is not a digest name");
    return sig_set_digest(ctx, name);
}

static const OSSL_PARAM *ecdsa_settable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_uint(PARAM_NONCE_TYPE, NULL),
        OSSL_PARAM_END,
    };

    return settable;
}

const OSSL_DISPATCH prov_ecdsa_signature_functions[] = {
    { OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))ecdsa_newctx },
    { OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))ecdsa_sign_init },
    { OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))sig_sign },
    { OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))ecdsa_verify_init },
    { OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))sig_verify },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))ecdsa_digest_sign_init },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (void (*)(void))sig_digest_update },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, (void (*)(void))sig_digest_sign_final },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))sig_digest_sign },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, (void (*)(void))ecdsa_digest_verify_init },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, (void (*)(void))sig_digest_update },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, (void (*)(void))sig_digest_verify_final },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, (void (*)(void))sig_digest_verify },
    { OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))sig_dupctx },
    { OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))sig_freectx },
    { OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))ecdsa_get_ctx_params },
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))ecdsa_gettable_ctx_params },
    { OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))ecdsa_set_ctx_params },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))ecdsa_settable_ctx_params },
    { OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS, (void (*)(void))sig_get_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS, (void (*)(void))sig_gettable_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS, (void (*)(void))sig_set_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS, (void (*)(void))sig_settable_ctx_md_params },
    { 0, NULL },
};
