/* SPDX-License-Identifier: Apache-2.0 */
#include "signature.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

/* ---- life ---------------------------------------------------------------------------------------------- */

struct sig_ctx *sig_new(struct prov_ctx *prov, const struct sig_alg *alg)
{
    struct sig_ctx *ctx = OPENSSL_zalloc(sizeof(*ctx));

    if (ctx != NULL) {
        ctx->prov = prov;
        ctx->alg = alg;
    }
    return ctx;
}

static void drop_digest(struct sig_ctx *ctx)
{
    if (ctx->md_owned)
        EVP_MD_free(ctx->md);
    ctx->md = NULL;
    ctx->md_owned = false;
    ctx->hash = HSM_HASH_NONE;
}

void sig_freectx(void *vctx)
{
    struct sig_ctx *ctx = vctx;

    if (ctx == NULL)
        return;
    EVP_MD_CTX_free(ctx->mdctx);
    drop_digest(ctx);
    prov_key_free(ctx->key);
    OPENSSL_free(ctx);
}

/* libcrypto 3.0 duplicates in the middle of a message for every EVP_DigestSignFinal(). */
void *sig_dupctx(void *vctx)
{
    const struct sig_ctx *ctx = vctx;
    struct sig_ctx *dup = OPENSSL_memdup(ctx, sizeof(*ctx));

    if (dup == NULL)
        return NULL;
    dup->mdctx = NULL;
    if (dup->key != NULL)
        prov_key_ref(dup->key);
    if (dup->md_owned && !EVP_MD_up_ref(dup->md))
        dup->md_owned = false; /* not ours to free */
    else if (!ctx->started)
        return dup;
    else if ((dup->mdctx = EVP_MD_CTX_new()) != NULL && EVP_MD_CTX_copy_ex(dup->mdctx, ctx->mdctx))
        return dup;
    sig_freectx(dup);
    return NULL;
}

/* ---- beginning ----------------------------------------------------------------------------------------- */

static int set_key(struct sig_ctx *ctx, struct prov_key *key)
{
    if (!ctx->alg->takes(key->type))
        return prov_fail(ctx->prov, HSM_ERR_KEY_TYPE,
                         "a key of type %s cannot be used with this signature algorithm",
                         prov_key_type_name(key->type));
    if (key != ctx->key) {
        prov_key_free(ctx->key);
        ctx->key = prov_key_ref(key);
    }
    return 1;
}

int sig_init(struct sig_ctx *ctx, void *vkey, enum sig_op op)
{
    if (vkey == NULL && ctx->key == NULL)
        return prov_fail(ctx->prov, HSM_ERR_ARGUMENT, "a signature was begun without a key");
    if (vkey != NULL && !set_key(ctx, vkey))
        return 0;
    if (op == SIG_OP_SIGN && ctx->key->key == NULL && !ctx->key->soft_private)
        return prov_fail(ctx->prov, HSM_ERR_KEY_TYPE,
                         "cannot sign with the public half of a key; name the private "
                         "key by its hsm: URI or its key reference");
    ctx->op = op;
    ctx->digesting = ctx->started = ctx->finished = false;
    return ctx->alg->begin == NULL || ctx->alg->begin(ctx);
}

int sig_set_digest(struct sig_ctx *ctx, const char *mdname)
{
    enum hsm_hash hash = HSM_HASH_NONE;
    bool owned = false;
    EVP_MD *md = prov_digest(ctx->prov, mdname, &hash, &owned);
    int ok;

    if (md == NULL)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "the default provider has no digest called %s", mdname);
    if (ctx->digesting && ctx->md != NULL && EVP_MD_is_a(ctx->md, EVP_MD_get0_name(md)))
        ok = 1;
    else if (ctx->digesting)
        ok = prov_fail(ctx->prov, HSM_ERR_MECH, "the digest cannot be changed to %s once a message was begun",
                       mdname);
    else if ((ok = ctx->alg->check_digest(ctx, md, hash)) != 0) {
        drop_digest(ctx);
        ctx->md = md;
        ctx->md_owned = owned;
        ctx->hash = hash;
        return 1;
    }
    if (owned)
        EVP_MD_free(md);
    return ok;
}

int sig_init_digest(struct sig_ctx *ctx, const char *mdname)
{
    bool named = mdname != NULL && mdname[0] != '\0';

    if ((named || ctx->md == NULL) && !sig_set_digest(ctx, named ? mdname : "SHA256"))
        return 0;
    ctx->digesting = true;
    return 1;
}

/* ---- signing and verifying what is already a digest ---------------------------------------------------- */

size_t sig_max(const struct sig_ctx *ctx)
{
    if (ctx->key == NULL)
        return 0;
    if (ctx->key->soft != NULL) /* may be of a curve or size that hsm does not know */
        return (size_t)EVP_PKEY_get_size(ctx->key->soft);
    return hsm_kind_signature_max(&ctx->key->kind);
}

EVP_PKEY_CTX *sig_forward(struct sig_ctx *ctx, EVP_PKEY *pkey, int (*init)(EVP_PKEY_CTX *pctx))
{
    EVP_PKEY_CTX *pctx = NULL;

    if (pkey != NULL)
        pctx = EVP_PKEY_CTX_new_from_pkey(prov_libctx(ctx->prov), pkey, PROV_DEFAULT);
    if (pctx != NULL && init(pctx) > 0 && (ctx->alg->forward == NULL || ctx->alg->forward(ctx, pctx)))
        return pctx;
    EVP_PKEY_CTX_free(pctx);
    prov_fail(ctx->prov, HSM_ERR_CRYPTO, "the default provider does not take this %s key or these parameters",
              prov_key_type_name(ctx->key->type));
    return NULL;
}

static int sign_soft(struct sig_ctx *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                     struct hsm_bytes in)
{
    EVP_PKEY_CTX *pctx = sig_forward(ctx, ctx->key->soft, EVP_PKEY_sign_init);
    int ok;

    if (pctx == NULL)
        return 0;
    *siglen = sigsize;
    ok = EVP_PKEY_sign(pctx, sig, siglen, in.ptr, in.len) > 0;
    EVP_PKEY_CTX_free(pctx);
    return ok ? 1
              : prov_fail(ctx->prov, HSM_ERR_CRYPTO,
                          "the default provider could not sign with a volatile %s key",
                          prov_key_type_name(ctx->key->type));
}

/* Before a message is hashed to its end, so that the caller may come again with more room. */
static int check_room(struct sig_ctx *ctx, size_t sigsize)
{
    if (ctx->op != SIG_OP_SIGN)
        return prov_fail(ctx->prov, HSM_ERR_ARGUMENT, "this context was not begun for signing");
    if (sigsize < sig_max(ctx))
        return prov_fail(ctx->prov, HSM_ERR_BUFFER,
                         "%zu bytes are too few for this signature; it takes up to %zu", sigsize,
                         sig_max(ctx));
    return 1;
}

int sig_sign_input(struct sig_ctx *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                   struct hsm_bytes in)
{
    struct hsm_mech mech = { .type = HSM_MECH_NONE };
    struct hsm_buf out = { .ptr = sig, .cap = sigsize };
    hsm_status st;

    if (!ctx->alg->mech(ctx, in.len, &mech))
        return 0;
    if (ctx->key->soft != NULL)
        return sign_soft(ctx, sig, siglen, sigsize, in);
    st = hsm_key_sign(ctx->key->key, &mech, in, &out);
    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    *siglen = out.len;
    return 1;
}

int sig_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize, const unsigned char *tbs,
             size_t tbslen)
{
    struct sig_ctx *ctx = vctx;

    if (sig == NULL) {
        *siglen = sig_max(ctx);
        return 1;
    }
    if (!check_room(ctx, sigsize))
        return 0;
    return sig_sign_input(ctx, sig, siglen, sigsize, (struct hsm_bytes){ tbs, tbslen });
}

int sig_verify(void *vctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs, size_t tbslen)
{
    struct sig_ctx *ctx = vctx;
    EVP_PKEY_CTX *pctx;
    int ok;

    if (ctx->op != SIG_OP_VERIFY)
        return prov_fail(ctx->prov, HSM_ERR_ARGUMENT, "this context was not begun for verifying");
    pctx = sig_forward(ctx, prov_key_public(ctx->key), EVP_PKEY_verify_init);
    ok = pctx != NULL && EVP_PKEY_verify(pctx, sig, siglen, tbs, tbslen) == 1;
    EVP_PKEY_CTX_free(pctx);
    return ok;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

/*
 * A chip that hashes by itself is sent a short message instead of a padded block as long as its key. So a
 * short message is kept beside its running digest and offered first. What the token refuses is remembered
 * with the key, and from then on nothing is kept.
 */
static bool wants_message(const struct sig_ctx *ctx)
{
    uint32_t bit = ctx->alg->message_bit == NULL ? 0 : ctx->alg->message_bit(ctx);

    return bit != 0 && ctx->op == SIG_OP_SIGN && ctx->key->key != NULL &&
           (atomic_load_explicit(&ctx->key->refused, memory_order_relaxed) & bit) == 0;
}

static void keep(struct sig_ctx *ctx, const unsigned char *data, size_t len)
{
    ctx->keeping = ctx->keeping && len <= sizeof(ctx->message) - ctx->message_len;
    if (!ctx->keeping || len == 0)
        return;
    memcpy(ctx->message + ctx->message_len, data, len);
    ctx->message_len += len;
}

/** @return 1 signed, 0 failed and raised, -1 the token wants the digest */
static int offer_message(struct sig_ctx *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                         struct hsm_bytes message)
{
    struct hsm_mech mech = { .type = HSM_MECH_NONE };
    struct hsm_buf out = { .ptr = sig, .cap = sigsize };
    hsm_status st;

    if (!ctx->alg->mech(ctx, (size_t)EVP_MD_get_size(ctx->md), &mech))
        return 0;
    st = hsm_key_sign_message(ctx->key->key, &mech, message, &out);
    if (st == HSM_ERR_UNSUPPORTED) {
        atomic_fetch_or_explicit(&ctx->key->refused, ctx->alg->message_bit(ctx), memory_order_relaxed);
        return -1;
    }
    ctx->finished = ctx->started;
    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    *siglen = out.len;
    return 1;
}

static int start_message(struct sig_ctx *ctx)
{
    if (ctx->started)
        return 1;
    if (ctx->mdctx == NULL)
        ctx->mdctx = EVP_MD_CTX_new();
    if (ctx->mdctx == NULL || !EVP_DigestInit_ex2(ctx->mdctx, ctx->md, NULL))
        return prov_fail(ctx->prov, HSM_ERR_CRYPTO, "digest %s cannot be begun", EVP_MD_get0_name(ctx->md));
    ctx->started = true;
    ctx->keeping = wants_message(ctx);
    ctx->message_len = 0;
    return 1;
}

static int check_message(struct sig_ctx *ctx)
{
    if (ctx->digesting && !ctx->finished)
        return 1;
    return prov_fail(ctx->prov, HSM_ERR_ARGUMENT,
                     ctx->finished ? "this message was already finished; begin a new one"
                                   : "no message was begun in this context");
}

int sig_digest_update(void *vctx, const unsigned char *data, size_t datalen)
{
    struct sig_ctx *ctx = vctx;

    if (!check_message(ctx) || !start_message(ctx))
        return 0;
    keep(ctx, data, datalen);
    return EVP_DigestUpdate(ctx->mdctx, data, datalen);
}

static int finish_message(struct sig_ctx *ctx, uint8_t digest[EVP_MAX_MD_SIZE], unsigned *digest_len)
{
    if (!check_message(ctx) || !start_message(ctx))
        return 0;
    ctx->finished = true;
    if (!EVP_DigestFinal_ex(ctx->mdctx, digest, digest_len))
        return prov_fail(ctx->prov, HSM_ERR_CRYPTO, "digest %s cannot be finished",
                         EVP_MD_get0_name(ctx->md));
    return 1;
}

/* The whole message at once; behind what came by updates, if something did. */
static int hash_message(struct sig_ctx *ctx, struct hsm_bytes in, uint8_t digest[EVP_MAX_MD_SIZE],
                        unsigned *digest_len)
{
    if (!check_message(ctx))
        return 0;
    if (ctx->started)
        return EVP_DigestUpdate(ctx->mdctx, in.ptr, in.len) && finish_message(ctx, digest, digest_len);
    if (!EVP_Digest(in.ptr, in.len, digest, digest_len, ctx->md, NULL))
        return prov_fail(ctx->prov, HSM_ERR_CRYPTO, "digest %s failed", EVP_MD_get0_name(ctx->md));
    return 1;
}

int sig_digest_sign_final(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize)
{
    struct sig_ctx *ctx = vctx;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    int signed_it = -1;

    if (sig == NULL) {
        *siglen = sig_max(ctx);
        return 1;
    }
    if (!check_room(ctx, sigsize) || !check_message(ctx))
        return 0;
    if (ctx->started && ctx->keeping)
        signed_it =
            offer_message(ctx, sig, siglen, sigsize, (struct hsm_bytes){ ctx->message, ctx->message_len });
    if (signed_it >= 0)
        return signed_it;
    if (!finish_message(ctx, digest, &digest_len))
        return 0;
    return sig_sign_input(ctx, sig, siglen, sigsize, (struct hsm_bytes){ digest, digest_len });
}

int sig_digest_sign(void *vctx, unsigned char *sig, size_t *siglen, size_t sigsize, const unsigned char *tbs,
                    size_t tbslen)
{
    struct sig_ctx *ctx = vctx;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    int signed_it = -1;

    if (sig == NULL) {
        *siglen = sig_max(ctx);
        return 1;
    }
    if (!check_room(ctx, sigsize) || !check_message(ctx))
        return 0;
    if (!ctx->started && tbslen <= SIG_MESSAGE_MAX && wants_message(ctx))
        signed_it = offer_message(ctx, sig, siglen, sigsize, (struct hsm_bytes){ tbs, tbslen });
    else if (ctx->started && (keep(ctx, tbs, tbslen), ctx->keeping))
        signed_it =
            offer_message(ctx, sig, siglen, sigsize, (struct hsm_bytes){ ctx->message, ctx->message_len });
    if (signed_it >= 0)
        return signed_it;
    if (!hash_message(ctx, (struct hsm_bytes){ tbs, tbslen }, digest, &digest_len))
        return 0;
    return sig_sign_input(ctx, sig, siglen, sigsize, (struct hsm_bytes){ digest, digest_len });
}

int sig_digest_verify_final(void *vctx, const unsigned char *sig, size_t siglen)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;

    return finish_message(vctx, digest, &digest_len) && sig_verify(vctx, sig, siglen, digest, digest_len);
}

int sig_digest_verify(void *vctx, const unsigned char *sig, size_t siglen, const unsigned char *tbs,
                      size_t tbslen)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;

    return hash_message(vctx, (struct hsm_bytes){ tbs, tbslen }, digest, &digest_len) &&
           sig_verify(vctx, sig, siglen, digest, digest_len);
}

/* ---- parameters ---------------------------------------------------------------------------------------- */

int sig_get_ctx_md_params(void *vctx, OSSL_PARAM *params)
{
    struct sig_ctx *ctx = vctx;

    return ctx->digesting && start_message(ctx) && EVP_MD_CTX_get_params(ctx->mdctx, params);
}

const OSSL_PARAM *sig_gettable_ctx_md_params(void *vctx)
{
    const struct sig_ctx *ctx = vctx;

    return ctx == NULL || ctx->md == NULL ? NULL : EVP_MD_gettable_ctx_params(ctx->md);
}

int sig_set_ctx_md_params(void *vctx, const OSSL_PARAM params[])
{
    struct sig_ctx *ctx = vctx;

    if (!ctx->digesting || !start_message(ctx))
        return 0;
    ctx->keeping = false; /* the token's hash has no parameters */
    return EVP_MD_CTX_set_params(ctx->mdctx, params);
}

const OSSL_PARAM *sig_settable_ctx_md_params(void *vctx)
{
    const struct sig_ctx *ctx = vctx;

    return ctx == NULL || ctx->md == NULL ? NULL : EVP_MD_settable_ctx_params(ctx->md);
}

bool sig_param_text(const OSSL_PARAM *p, char *buf, size_t buf_len)
{
    const char *text = NULL;
    size_t len;

    if (!OSSL_PARAM_get_utf8_string_ptr(p, &text) || text == NULL)
        return false;
    len = p->data_type == OSSL_PARAM_UTF8_STRING ? strnlen(text, p->data_size) : strnlen(text, buf_len);
    if (len >= buf_len)
        return false;
    memcpy(buf, text, len);
    buf[len] = '\0';
    return true;
}

int sig_get_digest(const struct sig_ctx *ctx, OSSL_PARAM *params)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST);

    return p == NULL || OSSL_PARAM_set_utf8_string(p, ctx->md == NULL ? "" : EVP_MD_get0_name(ctx->md));
}
