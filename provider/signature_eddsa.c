/* SPDX-License-Identifier: Apache-2.0 */
/** Pure Ed25519 and Ed448 (RFC 8032): one shot, the whole message goes to the token. */
#include "dispatch.h"
#include "signature.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

/* Parameters of OpenSSL 3.2 */
#define PARAM_INSTANCE "instance"
#define PARAM_CONTEXT  "context-string"

static OSSL_FUNC_signature_newctx_fn ed25519_newctx;
static OSSL_FUNC_signature_newctx_fn ed448_newctx;
static OSSL_FUNC_signature_sign_init_fn eddsa_sign_init;
static OSSL_FUNC_signature_sign_init_fn eddsa_sign_message_init; /* of the same shape since 3.4 */
static OSSL_FUNC_signature_sign_fn eddsa_sign;
static OSSL_FUNC_signature_verify_init_fn eddsa_verify_init;
static OSSL_FUNC_signature_verify_init_fn eddsa_verify_message_init;
static OSSL_FUNC_signature_verify_fn eddsa_verify;
static OSSL_FUNC_signature_digest_sign_init_fn eddsa_digest_sign_init;
static OSSL_FUNC_signature_digest_verify_init_fn eddsa_digest_verify_init;
static OSSL_FUNC_signature_get_ctx_params_fn eddsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn eddsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn eddsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn eddsa_settable_ctx_params;

static bool takes_ed25519(enum hsm_key_type type)
{
    return type == HSM_KEY_ED25519;
}

static bool takes_ed448(enum hsm_key_type type)
{
    return type == HSM_KEY_ED448;
}

static int eddsa_check_digest(struct sig_ctx *ctx, const EVP_MD *md, enum hsm_hash hash)
{
    return prov_fail(ctx->prov, HSM_ERR_MECH, "EdDSA signs the message itself; name no digest");
}

static int eddsa_mech(struct sig_ctx *ctx, size_t tbs_len, struct hsm_mech *mech)
{
    mech->type = HSM_MECH_EDDSA;
    return 1;
}

static const struct sig_alg ed25519_alg = {
    .takes = takes_ed25519,
    .check_digest = eddsa_check_digest,
    .mech = eddsa_mech,
};

static const struct sig_alg ed448_alg = {
    .takes = takes_ed448,
    .check_digest = eddsa_check_digest,
    .mech = eddsa_mech,
};

static void *ed25519_newctx(void *provctx, const char *propq)
{
    return sig_new(provctx, &ed25519_alg);
}

static void *ed448_newctx(void *provctx, const char *propq)
{
    return sig_new(provctx, &ed448_alg);
}

/* ---- beginning ----------------------------------------------------------------------------------------- */

/* Present because releases before 3.4 drop a table that has `sign` without it. */
static int refuse_digest_input(struct sig_ctx *ctx)
{
    return prov_fail(ctx->prov, HSM_ERR_MECH,
                     "EdDSA signs messages, not digests; use EVP_DigestSign() with a NULL digest, "
                     "or `openssl pkeyutl -rawin`");
}

static int eddsa_sign_init(void *vctx, void *key, const OSSL_PARAM params[])
{
    return refuse_digest_input(vctx);
}

static int eddsa_verify_init(void *vctx, void *key, const OSSL_PARAM params[])
{
    return refuse_digest_input(vctx);
}

static int begin_message(struct sig_ctx *ctx, void *key, const OSSL_PARAM params[], enum sig_op op)
{
    if (!sig_init(ctx, key, op) || !eddsa_set_ctx_params(ctx, params))
        return 0;
    ctx->digesting = true;
    return 1;
}

static int eddsa_sign_message_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return begin_message(ctx, key, params, SIG_OP_SIGN);
}

static int eddsa_verify_message_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return begin_message(ctx, key, params, SIG_OP_VERIFY);
}

static int eddsa_digest_sign_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    if (mdname != NULL && mdname[0] != '\0')
        return eddsa_check_digest(ctx, NULL, HSM_HASH_NONE);
    return begin_message(ctx, key, params, SIG_OP_SIGN);
}

static int eddsa_digest_verify_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    if (mdname != NULL && mdname[0] != '\0')
        return eddsa_check_digest(ctx, NULL, HSM_HASH_NONE);
    return begin_message(ctx, key, params, SIG_OP_VERIFY);
}

/* ---- the whole message --------------------------------------------------------------------------------- */

typedef int message_init(EVP_MD_CTX *ctx, EVP_PKEY_CTX **pctx, const char *mdname, OSSL_LIB_CTX *libctx,
                         const char *props, EVP_PKEY *pkey, const OSSL_PARAM params[]);

static EVP_MD_CTX *forward_message(struct sig_ctx *ctx, EVP_PKEY *pkey, message_init *init)
{
    EVP_MD_CTX *mctx = EVP_MD_CTX_new();

    if (mctx != NULL && pkey != NULL &&
        init(mctx, NULL, NULL, prov_libctx(ctx->prov), PROV_DEFAULT, pkey, NULL) > 0)
        return mctx;
    EVP_MD_CTX_free(mctx);
    prov_fail(ctx->prov, HSM_ERR_CRYPTO, "the default provider does not take this %s key",
              prov_key_type_name(ctx->key->type));
    return NULL;
}

static int sign_soft(struct sig_ctx *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                     struct hsm_bytes in)
{
    EVP_MD_CTX *mctx = forward_message(ctx, ctx->key->soft, EVP_DigestSignInit_ex);
    int ok;

    *siglen = sigsize;
    ok = mctx != NULL && EVP_DigestSign(mctx, sig, siglen, in.ptr, in.len) > 0;
    EVP_MD_CTX_free(mctx);
    return ok;
}

static int eddsa_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                      const unsigned char *tbs, size_t tbslen)
{
    struct sig_ctx *ctx = vctx;

    if (sig == NULL || ctx->op != SIG_OP_SIGN || sigsize < sig_max(ctx))
        return sig_sign(vctx, sig, siglen, sigsize, tbs, tbslen); /* the size, or the refusal */
    if (ctx->key->soft != NULL)
        return sign_soft(ctx, sig, siglen, sigsize, (struct hsm_bytes){ tbs, tbslen });
    return sig_sign_input(ctx, sig, siglen, sigsize, (struct hsm_bytes){ tbs, tbslen });
}

static int eddsa_verify(void *vctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs,
                        size_t tbslen)
{
    struct sig_ctx *ctx = vctx;
    EVP_MD_CTX *mctx;
    int ok;

    if (ctx->op != SIG_OP_VERIFY)
        return prov_fail(ctx->prov, HSM_ERR_ARGUMENT, "this context was not begun for verifying");
    mctx = forward_message(ctx, prov_key_public(ctx->key), EVP_DigestVerifyInit_ex);
    ok = mctx != NULL && EVP_DigestVerify(mctx, sig, siglen, tbs, tbslen) == 1;
    EVP_MD_CTX_free(mctx);
    return ok;
}

/* ---- parameters ---------------------------------------------------------------------------------------- */

static int eddsa_get_ctx_params(void *vctx, OSSL_PARAM *params)
{
    const struct sig_ctx *ctx = vctx;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    uint8_t der[ALGID_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    hsm_status st;

    if (p == NULL || ctx->key == NULL)
        return 1;
    if ((st = algid_eddsa(ctx->key->type, &buf)) != HSM_OK)
        return prov_raise(ctx->prov, st);
    return OSSL_PARAM_set_octet_string(p, der, buf.len);
}

static const OSSL_PARAM *eddsa_gettable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_END,
    };

    return gettable;
}

static int eddsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct sig_ctx *ctx = vctx;
    const char *pure = ctx->alg == &ed448_alg ? "Ed448" : "Ed25519";
    char name[SIG_NAME_MAX];
    const OSSL_PARAM *p;

    if (params == NULL)
        return 1;
    p = OSSL_PARAM_locate_const(params, PARAM_INSTANCE);
    if (p != NULL && (!sig_param_text(p, name, sizeof(name)) || OPENSSL_strcasecmp(name, pure) != 0))
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "of EdDSA's instances this key does %s only, not the ph and ctx ones", pure);
    p = OSSL_PARAM_locate_const(params, PARAM_CONTEXT);
    if (p != NULL && p->data_size != 0)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "%s with a context string is not supported; leave it empty",
                         pure);
    return 1;
}

static const OSSL_PARAM *eddsa_settable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(PARAM_INSTANCE, NULL, 0),
        OSSL_PARAM_octet_string(PARAM_CONTEXT, NULL, 0),
        OSSL_PARAM_END,
    };

    return settable;
}

/* One table that both sets of pair rules accept: before 3.4, `sign` goes with `sign_init`; since, with either
 * init. No streaming functions: libcrypto then refuses streaming by itself. */
#define EDDSA_FUNCTIONS                                                                                      \
    { OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))eddsa_sign_init },                                      \
        { OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))eddsa_sign },                                            \
        { SIG_FUNC_SIGN_MESSAGE_INIT, (void (*)(void))eddsa_sign_message_init },                             \
        { OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))eddsa_verify_init },                              \
        { OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))eddsa_verify },                                        \
        { SIG_FUNC_VERIFY_MESSAGE_INIT, (void (*)(void))eddsa_verify_message_init },                         \
        { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))eddsa_digest_sign_init },                    \
        { OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))eddsa_sign },                                     \
        { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, (void (*)(void))eddsa_digest_verify_init },                \
        { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, (void (*)(void))eddsa_verify },                                 \
        { OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))sig_dupctx },                                          \
        { OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))sig_freectx },                                        \
        { OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))eddsa_get_ctx_params },                        \
        { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))eddsa_gettable_ctx_params },              \
        { OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))eddsa_set_ctx_params },                        \
        { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))eddsa_settable_ctx_params },              \
    {                                                                                                        \
        0, NULL                                                                                              \
    }

const OSSL_DISPATCH prov_eddsa25519_signature_functions[] = {
    { OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))ed25519_newctx },
    EDDSA_FUNCTIONS,
};

const OSSL_DISPATCH prov_eddsa448_signature_functions[] = {
    { OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))ed448_newctx },
    EDDSA_FUNCTIONS,
};
