/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch.h"
#include "signature.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

enum { SALT_AUTO_DIGEST_MAX = -4 }; /* RSA_PSS_SALTLEN_AUTO_DIGEST_MAX, OpenSSL 3.1 */

/* A word and the number that OpenSSL uses for it. Numbers are accepted wherever words are. */
struct word {
    const char *text;
    int value;
};

static const struct word pad_modes[] = {
    { OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING },
    { OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING },
    { OSSL_PKEY_RSA_PAD_MODE_NONE, RSA_NO_PADDING },
    { OSSL_PKEY_RSA_PAD_MODE_X931, RSA_X931_PADDING },
    { OSSL_PKEY_RSA_PAD_MODE_OAEP, RSA_PKCS1_OAEP_PADDING },
    { NULL, 0 },
};

static const struct word salt_lens[] = {
    { OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST },
    { OSSL_PKEY_RSA_PSS_SALT_LEN_MAX, RSA_PSS_SALTLEN_MAX },
    { OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO, RSA_PSS_SALTLEN_AUTO },
    { "auto-digestmax", SALT_AUTO_DIGEST_MAX },
    { NULL, 0 },
};

static OSSL_FUNC_signature_newctx_fn rsa_newctx;
static OSSL_FUNC_signature_sign_init_fn rsa_sign_init;
static OSSL_FUNC_signature_verify_init_fn rsa_verify_init;
static OSSL_FUNC_signature_verify_recover_init_fn rsa_verify_recover_init;
static OSSL_FUNC_signature_verify_recover_fn rsa_verify_recover;
static OSSL_FUNC_signature_digest_sign_init_fn rsa_digest_sign_init;
static OSSL_FUNC_signature_digest_verify_init_fn rsa_digest_verify_init;
static OSSL_FUNC_signature_get_ctx_params_fn rsa_get_ctx_params;
static OSSL_FUNC_signature_gettable_ctx_params_fn rsa_gettable_ctx_params;
static OSSL_FUNC_signature_set_ctx_params_fn rsa_set_ctx_params;
static OSSL_FUNC_signature_settable_ctx_params_fn rsa_settable_ctx_params;

static bool word_value(const struct word *words, const char *text, int *value)
{
    for (; words->text != NULL; words++)
        if (strcmp(words->text, text) == 0) {
            *value = words->value;
            return true;
        }
    return false;
}

static const char *word_text(const struct word *words, int value)
{
    for (; words->text != NULL; words++)
        if (words->value == value)
            return words->text;
    return NULL;
}

/* A parameter that comes as a number from C programs, and as a word or a number in text from command lines.
 */
static bool read_word(const OSSL_PARAM *p, const struct word *words, int *value)
{
    char text[SIG_NAME_MAX], *end = NULL;
    long number;

    if (p->data_type == OSSL_PARAM_INTEGER || p->data_type == OSSL_PARAM_UNSIGNED_INTEGER)
        return OSSL_PARAM_get_int(p, value);
    if (!sig_param_text(p, text, sizeof(text)))
        return false;
    if (word_value(words, text, value))
        return true;
    number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || number < SALT_AUTO_DIGEST_MAX || number > HSM_SIGNATURE_MAX)
        return false;
    *value = (int)number;
    return true;
}

static int write_word(OSSL_PARAM *p, const struct word *words, int value)
{
    const char *text = word_text(words, value);
    char number[16];

    if (p->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_set_int(p, value);
    snprintf(number, sizeof(number), "%d", value);
    return OSSL_PARAM_set_utf8_string(p, text != NULL ? text : number);
}

/* ---- what the key allows ------------------------------------------------------------------------------- */

static bool rsa_takes(enum hsm_key_type type)
{
    return type == HSM_KEY_RSA || type == HSM_KEY_RSA_PSS;
}

static bool is_restricted(const struct sig_ctx *ctx)
{
    return ctx->rsa.min_salt_len >= 0;
}

static int hash_len(const struct sig_ctx *ctx)
{
    return ctx->md == NULL ? 0 : EVP_MD_get_size(ctx->md);
}

/* RFC 8017 9.1.1: emLen - hLen - 2, emLen being the bytes of modBits - 1. Negative: too long a digest. */
static int max_salt_len(const struct sig_ctx *ctx)
{
    int bits = ctx->key->soft != NULL ? EVP_PKEY_get_bits(ctx->key->soft) : (int)ctx->key->kind.bits;

    return (bits + 6) / 8 - hash_len(ctx) - 2;
}

static enum hsm_hash algor_hash(const X509_ALGOR *alg)
{
    const ASN1_OBJECT *oid = NULL;

    if (alg == NULL)
        return HSM_HASH_SHA1; /* RFC 4055 3.1: the default of both hashes */
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    return algid_nid_hash(OBJ_obj2nid(oid));
}

static enum hsm_hash mgf1_algor_hash(const X509_ALGOR *mgf)
{
    const ASN1_OBJECT *oid = NULL;
    const void *value = NULL;
    int type = V_ASN1_UNDEF;
    X509_ALGOR *inner;
    enum hsm_hash hash = HSM_HASH_NONE;

    if (mgf == NULL)
        return HSM_HASH_SHA1;
    X509_ALGOR_get0(&oid, &type, &value, mgf);
    if (OBJ_obj2nid(oid) != NID_mgf1 || type != V_ASN1_SEQUENCE)
        return HSM_HASH_NONE;
    inner = ASN1_item_unpack(value, ASN1_ITEM_rptr(X509_ALGOR));
    if (inner != NULL)
        hash = algor_hash(inner);
    X509_ALGOR_free(inner);
    return hash;
}

/* RFC 4055 3.1: parameters in the public key bind the digests, and the salt length from below. */
static int apply_restrictions(struct sig_ctx *ctx, struct hsm_bytes der)
{
    const unsigned char *in = der.ptr;
    RSA_PSS_PARAMS *pss = d2i_RSA_PSS_PARAMS(NULL, &in, (long)der.len);
    enum hsm_hash hash = HSM_HASH_NONE;
    long salt_len = -1;

    if (pss != NULL) {
        hash = algor_hash(pss->hashAlgorithm);
        ctx->rsa.mgf1_hash = mgf1_algor_hash(pss->maskGenAlgorithm);
        salt_len = pss->saltLength == NULL ? 20 : ASN1_INTEGER_get(pss->saltLength);
    }
    RSA_PSS_PARAMS_free(pss);
    if (hash == HSM_HASH_NONE || ctx->rsa.mgf1_hash == HSM_HASH_NONE || salt_len < 0)
        return prov_fail(ctx->prov, HSM_ERR_KEY_TYPE,
                         "the restrictions inside this RSA-PSS key are not understood");
    ctx->rsa.mgf1_given = true;
    if (!sig_set_digest(ctx, hsm_hash_name(hash)))
        return 0;
    if (salt_len > max_salt_len(ctx))
        return prov_fail(ctx->prov, HSM_ERR_KEY_TYPE,
                         "this RSA-PSS key asks for a salt of %ld bytes; it has room for %d", salt_len,
                         max_salt_len(ctx));
    ctx->rsa.salt_len = ctx->rsa.min_salt_len = (int)salt_len;
    return 1;
}

static int rsa_begin(struct sig_ctx *ctx)
{
    const struct prov_key *key = ctx->key;

    /* 3.1 changed the default provider's default: no longer than the digest */
    ctx->rsa.salt_len = ctx->prov->version >= 0x030100 ? SALT_AUTO_DIGEST_MAX : RSA_PSS_SALTLEN_AUTO;
    ctx->rsa.min_salt_len = -1;
    ctx->rsa.pad_mode = key->type == HSM_KEY_RSA_PSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
    if (key->type == HSM_KEY_RSA_PSS && key->has_pub && key->pub.pss_params.len != 0)
        return apply_restrictions(ctx, key->pub.pss_params);
    return 1;
}

static enum hsm_hash mgf1_hash(const struct sig_ctx *ctx)
{
    return ctx->rsa.mgf1_given ? ctx->rsa.mgf1_hash : ctx->hash;
}

static int rsa_check_digest(struct sig_ctx *ctx, const EVP_MD *md, enum hsm_hash hash)
{
    const char *name = EVP_MD_get0_name(md);

    if (hash == HSM_HASH_NONE)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "RSA signatures cannot carry digest %s; use SHA-256", name);
    if (ctx->rsa.pad_mode == RSA_NO_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "RSA without padding takes no digest; choose pad-mode pkcs1 or pss");
    if (is_restricted(ctx) && hash != ctx->hash)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "this RSA-PSS key is restricted to digest %s; %s is not allowed",
                         hsm_hash_name(ctx->hash), name);
    return 1;
}

/* ---- one signature ------------------------------------------------------------------------------------- */

/* @return -1 after raising */
static int resolve_salt_len(struct sig_ctx *ctx)
{
    int max = max_salt_len(ctx), len = ctx->rsa.salt_len;

    if (len == RSA_PSS_SALTLEN_DIGEST)
        len = hash_len(ctx);
    else if (len == SALT_AUTO_DIGEST_MAX)
        len = max < hash_len(ctx) ? max : hash_len(ctx);
    else if (len < 0)
        len = max;
    if (max < 0 || len > max) {
        prov_fail(ctx->prov, HSM_ERR_MECH,
                  "a PSS salt of %d bytes does not fit this RSA key with %s; at most %d do", len,
                  EVP_MD_get0_name(ctx->md), max < 0 ? 0 : max);
        return -1;
    }
    if (len < ctx->rsa.min_salt_len) {
        prov_fail(ctx->prov, HSM_ERR_MECH,
                  "this RSA-PSS key is restricted to salts of at least %d bytes; %d were asked for",
                  ctx->rsa.min_salt_len, len);
        return -1;
    }
    return len;
}

static int check_input_len(struct sig_ctx *ctx, size_t tbs_len)
{
    size_t want = ctx->rsa.pad_mode == RSA_NO_PADDING ? sig_max(ctx) : (size_t)hash_len(ctx);

    if (tbs_len == want)
        return 1;
    if (ctx->rsa.pad_mode == RSA_NO_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_DATA_LEN, "RSA without padding takes exactly %zu bytes, not %zu",
                         want, tbs_len);
    return prov_fail(ctx->prov, HSM_ERR_DATA_LEN, "RSA signature input has %zu bytes, a digest of %s has %zu",
                     tbs_len, EVP_MD_get0_name(ctx->md), want);
}

static int pss_mech(struct sig_ctx *ctx, size_t tbs_len, struct hsm_mech *mech)
{
    int salt_len;

    if (ctx->md == NULL)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "RSA-PSS needs to know its digest: set `digest`, e.g. to sha256");
    if (!check_input_len(ctx, tbs_len) || (salt_len = resolve_salt_len(ctx)) < 0)
        return 0;
    *mech = (struct hsm_mech){ .type = HSM_MECH_RSA_PSS,
                               .hash = ctx->hash,
                               .mgf1_hash = mgf1_hash(ctx),
                               .salt_len = (unsigned)salt_len };
    return 1;
}

static int rsa_mech(struct sig_ctx *ctx, size_t tbs_len, struct hsm_mech *mech)
{
    switch (ctx->rsa.pad_mode) {
    case RSA_PKCS1_PSS_PADDING:
        return pss_mech(ctx, tbs_len, mech);
    case RSA_NO_PADDING:
        mech->type = HSM_MECH_RSA_RAW;
        return check_input_len(ctx, tbs_len);
    default:
        *mech = (struct hsm_mech){ .type = HSM_MECH_RSA_PKCS1, .hash = ctx->hash };
        /* without a digest any bytes, as TLS 1.1 does */
        return ctx->md == NULL || check_input_len(ctx, tbs_len);
    }
}

static uint32_t rsa_message_bit(const struct sig_ctx *ctx)
{
    _Static_assert(HSM_HASH_COUNT <= 16, "two paddings fit into 32 bits");

    if (ctx->hash == HSM_HASH_NONE || ctx->rsa.pad_mode == RSA_NO_PADDING)
        return 0;
    return UINT32_C(1) << (ctx->hash + (ctx->rsa.pad_mode == RSA_PKCS1_PSS_PADDING ? 16 : 0));
}

/* To verify, or to sign with a volatile key. */
static int rsa_forward(struct sig_ctx *ctx, EVP_PKEY_CTX *pctx)
{
    OSSL_PARAM params[5], *p = params;
    int salt_len = ctx->rsa.salt_len;
    const char *mgf1 = hsm_hash_name(mgf1_hash(ctx));

    *p++ = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PAD_MODE, &ctx->rsa.pad_mode);
    if (ctx->md != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST,
                                                (char *)EVP_MD_get0_name(ctx->md), 0);
    if (ctx->rsa.pad_mode == RSA_PKCS1_PSS_PADDING && ctx->md != NULL) {
        if (ctx->op == SIG_OP_SIGN && (salt_len = resolve_salt_len(ctx)) < 0)
            return 0;
        if (salt_len == SALT_AUTO_DIGEST_MAX)
            salt_len = RSA_PSS_SALTLEN_AUTO; /* means the same to a verifier, and 3.0 knows it */
        *p++ = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt_len);
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, (char *)mgf1, 0);
    }
    *p = OSSL_PARAM_construct_end();
    return EVP_PKEY_CTX_set_params(pctx, params);
}

static const struct sig_alg rsa_alg = {
    .takes = rsa_takes,
    .begin = rsa_begin,
    .check_digest = rsa_check_digest,
    .mech = rsa_mech,
    .forward = rsa_forward,
    .message_bit = rsa_message_bit,
};

/* ---- parameters ---------------------------------------------------------------------------------------- */

struct rsa_request {
    int pad_mode, salt_len;
    bool salt_given;
    char digest[SIG_NAME_MAX], mgf1[SIG_NAME_MAX]; /* "" = not asked for */
};

static int read_request(struct sig_ctx *ctx, const OSSL_PARAM params[], struct rsa_request *req)
{
    bool ok = true;

    for (const OSSL_PARAM *p = params; ok && p->key != NULL; p++) {
        if (strcmp(p->key, OSSL_SIGNATURE_PARAM_PAD_MODE) == 0)
            ok = read_word(p, pad_modes, &req->pad_mode);
        else if (strcmp(p->key, OSSL_SIGNATURE_PARAM_PSS_SALTLEN) == 0)
            ok = req->salt_given = read_word(p, salt_lens, &req->salt_len);
        else if (strcmp(p->key, OSSL_SIGNATURE_PARAM_DIGEST) == 0)
            ok = sig_param_text(p, req->digest, sizeof(req->digest));
        else if (strcmp(p->key, OSSL_SIGNATURE_PARAM_MGF1_DIGEST) == 0)
            ok = sig_param_text(p, req->mgf1, sizeof(req->mgf1));
        if (!ok)
            return prov_fail(ctx->prov, HSM_ERR_ARGUMENT,
                             "RSA signature parameter %s has a value that is not understood", p->key);
    }
    return 1;
}

static int check_pad_mode(struct sig_ctx *ctx, int pad_mode)
{
    if (pad_mode != RSA_PKCS1_PADDING && pad_mode != RSA_PKCS1_PSS_PADDING && pad_mode != RSA_NO_PADDING)
        return prov_fail(
            ctx->prov, HSM_ERR_MECH, "RSA padding mode %s is not for signatures here; use pkcs1, pss or none",
            word_text(pad_modes, pad_mode) != NULL ? word_text(pad_modes, pad_mode) : "of this number");
    if (ctx->key->type == HSM_KEY_RSA_PSS && pad_mode != RSA_PKCS1_PSS_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "an RSA-PSS key signs with PSS padding only");
    if (ctx->op == SIG_OP_RECOVER && pad_mode == RSA_PKCS1_PSS_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "nothing can be recovered from a PSS signature; use verify");
    return 1;
}

static int check_salt(struct sig_ctx *ctx, const struct rsa_request *req)
{
    if (req->pad_mode != RSA_PKCS1_PSS_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "a salt length goes with PSS only; set pad-mode pss first");
    if (req->salt_len < SALT_AUTO_DIGEST_MAX)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "%d is not a PSS salt length", req->salt_len);
    return 1;
}

static int set_mgf1(struct sig_ctx *ctx, const char *name)
{
    enum hsm_hash hash = HSM_HASH_NONE;
    bool owned = false;
    EVP_MD *md = prov_digest(ctx->prov, name, &hash, &owned);

    if (owned)
        EVP_MD_free(md);
    if (md == NULL || hash == HSM_HASH_NONE)
        return prov_fail(ctx->prov, HSM_ERR_MECH, "MGF1 cannot be made with digest %s; use SHA-256", name);
    if (is_restricted(ctx) && hash != ctx->rsa.mgf1_hash)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "this RSA-PSS key is restricted to MGF1 with %s; %s is not allowed",
                         hsm_hash_name(ctx->rsa.mgf1_hash), name);
    ctx->rsa.mgf1_hash = hash;
    ctx->rsa.mgf1_given = true;
    return 1;
}

static int rsa_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct sig_ctx *ctx = vctx;
    struct rsa_request req = { .pad_mode = ctx->rsa.pad_mode, .salt_len = ctx->rsa.salt_len };
    const char *digest;

    if (params == NULL || ctx->key == NULL)
        return 1;
    if (!read_request(ctx, params, &req) || !check_pad_mode(ctx, req.pad_mode))
        return 0;
    if (req.salt_given && !check_salt(ctx, &req))
        return 0;
    if (req.mgf1[0] != '\0' && req.pad_mode != RSA_PKCS1_PSS_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "an MGF1 digest goes with PSS only; set pad-mode pss first");
    if (req.pad_mode == RSA_NO_PADDING && ctx->md != NULL)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "RSA without padding takes no digest; choose pad-mode pkcs1 or pss");
    ctx->rsa.pad_mode = req.pad_mode;
    ctx->rsa.salt_len = req.salt_len;
    digest = req.digest;
    if (digest[0] == '\0' && ctx->md == NULL && req.pad_mode == RSA_PKCS1_PSS_PADDING)
        digest = "SHA1"; /* RFC 4055 3.1, and what the default provider assumes */
    if (req.mgf1[0] != '\0' && !set_mgf1(ctx, req.mgf1))
        return 0;
    if (digest[0] != '\0' && !sig_set_digest(ctx, digest))
        return 0;
    return !req.salt_given || ctx->op != SIG_OP_SIGN || ctx->md == NULL || resolve_salt_len(ctx) >= 0;
}

static const OSSL_PARAM *rsa_settable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };

    return settable;
}

static int get_algorithm_id(struct sig_ctx *ctx, OSSL_PARAM *p)
{
    uint8_t der[ALGID_MAX];
    struct hsm_buf buf = { .ptr = der, .cap = sizeof(der) };
    hsm_status st;
    int salt_len;

    if (ctx->rsa.pad_mode == RSA_NO_PADDING)
        return prov_fail(ctx->prov, HSM_ERR_MECH,
                         "RSA without padding has no algorithm identifier; use pkcs1 or pss");
    if (ctx->rsa.pad_mode == RSA_PKCS1_PADDING) {
        st = algid_rsa_pkcs1(ctx->hash, &buf);
    } else {
        if (ctx->md == NULL)
            return prov_fail(ctx->prov, HSM_ERR_MECH,
                             "RSA-PSS has no algorithm identifier before its digest is set");
        if ((salt_len = resolve_salt_len(ctx)) < 0)
            return 0;
        st = algid_rsa_pss(ctx->hash, mgf1_hash(ctx), (unsigned)salt_len, &buf);
    }
    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    return OSSL_PARAM_set_octet_string(p, der, buf.len);
}

static int rsa_get_ctx_params(void *vctx, OSSL_PARAM *params)
{
    struct sig_ctx *ctx = vctx;
    const char *mgf1 = hsm_hash_name(mgf1_hash(ctx));
    OSSL_PARAM *p;

    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID)) != NULL &&
        !get_algorithm_id(ctx, p))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    if (p != NULL && !write_word(p, pad_modes, ctx->rsa.pad_mode))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
    if (p != NULL && !write_word(p, salt_lens, ctx->rsa.salt_len))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST);
    if (p != NULL && !OSSL_PARAM_set_utf8_string(p, mgf1 == NULL ? "" : mgf1))
        return 0;
    return sig_get_digest(ctx, params);
}

static const OSSL_PARAM *rsa_gettable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };

    return gettable;
}

/* ---- dispatch ------------------------------------------------------------------------------------------ */

static void *rsa_newctx(void *provctx, const char *propq)
{
    return sig_new(provctx, &rsa_alg);
}

static int rsa_sign_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return sig_init(ctx, key, SIG_OP_SIGN) && rsa_set_ctx_params(ctx, params);
}

static int rsa_verify_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return sig_init(ctx, key, SIG_OP_VERIFY) && rsa_set_ctx_params(ctx, params);
}

static int rsa_verify_recover_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    return sig_init(ctx, key, SIG_OP_RECOVER) && rsa_set_ctx_params(ctx, params);
}

static int rsa_verify_recover(void *vctx, unsigned char *rout, size_t *routlen, size_t routsize,
                              const unsigned char *sig, size_t siglen)
{
    struct sig_ctx *ctx = vctx;
    EVP_PKEY_CTX *pctx;
    int ok;

    if (rout == NULL) {
        *routlen = sig_max(ctx);
        return 1;
    }
    pctx = sig_forward(ctx, prov_key_public(ctx->key), EVP_PKEY_verify_recover_init);
    *routlen = routsize;
    ok = pctx != NULL && EVP_PKEY_verify_recover(pctx, rout, routlen, sig, siglen) > 0;
    EVP_PKEY_CTX_free(pctx);
    return ok;
}

static int rsa_digest_sign_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    return rsa_sign_init(ctx, key, params) && sig_init_digest(ctx, mdname);
}

static int rsa_digest_verify_init(void *ctx, const char *mdname, void *key, const OSSL_PARAM params[])
{
    return rsa_verify_init(ctx, key, params) && sig_init_digest(ctx, mdname);
}

const OSSL_DISPATCH prov_rsa_signature_functions[] = {
    { OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))rsa_newctx },
    { OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))rsa_sign_init },
    { OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))sig_sign },
    { OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))rsa_verify_init },
    { OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))sig_verify },
    { OSSL_FUNC_SIGNATURE_VERIFY_RECOVER_INIT, (void (*)(void))rsa_verify_recover_init },
    { OSSL_FUNC_SIGNATURE_VERIFY_RECOVER, (void (*)(void))rsa_verify_recover },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))rsa_digest_sign_init },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (void (*)(void))sig_digest_update },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL, (void (*)(void))sig_digest_sign_final },
    { OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))sig_digest_sign },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, (void (*)(void))rsa_digest_verify_init },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, (void (*)(void))sig_digest_update },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL, (void (*)(void))sig_digest_verify_final },
    { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, (void (*)(void))sig_digest_verify },
    { OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))sig_dupctx },
    { OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))sig_freectx },
    { OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))rsa_get_ctx_params },
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))rsa_gettable_ctx_params },
    { OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))rsa_set_ctx_params },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))rsa_settable_ctx_params },
    { OSSL_FUNC_SIGNATURE_GET_CTX_MD_PARAMS, (void (*)(void))sig_get_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_MD_PARAMS, (void (*)(void))sig_gettable_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_SET_CTX_MD_PARAMS, (void (*)(void))sig_set_ctx_md_params },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_MD_PARAMS, (void (*)(void))sig_settable_ctx_md_params },
    { 0, NULL },
};
