/* SPDX-License-Identifier: Apache-2.0 */
/** What the signature files share: one context, the digesting, and the forwarding of public work to the
 * default provider. */
#ifndef HSM_PROV_SIGNATURE_H
#define HSM_PROV_SIGNATURE_H

#include "prov.h"

/* Function numbers that OpenSSL 3.0 does not know and therefore ignores. Source: core_dispatch.h of 3.4 */
enum { SIG_FUNC_SIGN_MESSAGE_INIT = 27, SIG_FUNC_VERIFY_MESSAGE_INIT = 30 };

enum {
    SIG_NAME_MAX = 64,    /* bytes of a digest or mode name, with its NUL */
    SIG_MESSAGE_MAX = 256 /* bytes of a message that is offered to the token unhashed; TLS signs up to 146 */
};

enum sig_op { SIG_OP_NONE, SIG_OP_SIGN, SIG_OP_VERIFY, SIG_OP_RECOVER };

struct sig_ctx;

/** What an algorithm adds to the shared part. The int functions raise what they refuse, and then return 0. */
struct sig_alg {
    bool (*takes)(enum hsm_key_type type);
    int (*begin)(struct sig_ctx *ctx); /* a key was set: back to its default parameters. May be NULL */
    int (*check_digest)(struct sig_ctx *ctx, const EVP_MD *md, enum hsm_hash hash);
    int (*mech)(struct sig_ctx *ctx, size_t tbs_len,
                struct hsm_mech *mech); /* parameters for one signature */
    int (*forward)(struct sig_ctx *ctx,
                   EVP_PKEY_CTX *pctx); /* the same for the default provider. May be NULL */
    /** The bit of prov_key.refused for the present parameters; 0 if a message cannot be offered. May be NULL:
     * it saves nothing */
    uint32_t (*message_bit)(const struct sig_ctx *ctx);
};

/** RSA's parameters; the negative salt lengths are OpenSSL's (RSA_PSS_SALTLEN_*). */
struct sig_rsa {
    int pad_mode;
    int salt_len;
    int min_salt_len; /* of a restricted RSA-PSS key; else -1 */
    enum hsm_hash mgf1_hash;
    bool mgf1_given; /* else it follows the digest */
};

struct sig_ctx {
    struct prov_ctx *prov;
    const struct sig_alg *alg;
    struct prov_key *key;
    enum sig_op op;
    bool digesting; /* input is the message: digest_sign, digest_verify */
    bool started;   /* mdctx holds a part of the message */
    bool finished;  /* its digest was taken: nothing can be added */
    bool md_owned;
    enum hsm_hash hash;
    EVP_MD *md; /* NULL: none chosen */
    EVP_MD_CTX *mdctx;
    struct sig_rsa rsa;
    bool keeping; /* while started: all of the message so far is in `message` */
    size_t message_len;
    uint8_t message[SIG_MESSAGE_MAX];
};

struct sig_ctx *sig_new(struct prov_ctx *prov, const struct sig_alg *alg);
OSSL_FUNC_signature_freectx_fn sig_freectx;
OSSL_FUNC_signature_dupctx_fn sig_dupctx;

/** Begin an operation. @p vkey NULL keeps the key and the digest of the last one. */
int sig_init(struct sig_ctx *ctx, void *vkey, enum sig_op op);
/** Begin one whose input is the message, after sig_init() and the parameters. @p mdname NULL or "": the
 * default digest. */
int sig_init_digest(struct sig_ctx *ctx, const char *mdname);
/** Choose the digest. While digesting only the one in use is accepted. */
int sig_set_digest(struct sig_ctx *ctx, const char *mdname);
/** Largest signature in bytes, from the key's data. */
size_t sig_max(const struct sig_ctx *ctx);
/** Have the token (or, for a volatile key, the default provider) sign @p in, which is what ctx->alg->mech
 * says. */
int sig_sign_input(struct sig_ctx *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                   struct hsm_bytes in);
/** A context of the default provider for @p pkey with our parameters applied. NULL after raising. */
EVP_PKEY_CTX *sig_forward(struct sig_ctx *ctx, EVP_PKEY *pkey, int (*init)(EVP_PKEY_CTX *pctx));

OSSL_FUNC_signature_sign_fn sig_sign;
OSSL_FUNC_signature_verify_fn sig_verify;
OSSL_FUNC_signature_digest_sign_update_fn sig_digest_update;
OSSL_FUNC_signature_digest_sign_final_fn sig_digest_sign_final;
OSSL_FUNC_signature_digest_sign_fn sig_digest_sign;
OSSL_FUNC_signature_digest_verify_final_fn sig_digest_verify_final;
OSSL_FUNC_signature_digest_verify_fn sig_digest_verify;
OSSL_FUNC_signature_get_ctx_md_params_fn sig_get_ctx_md_params;
OSSL_FUNC_signature_gettable_ctx_md_params_fn sig_gettable_ctx_md_params;
OSSL_FUNC_signature_set_ctx_md_params_fn sig_set_ctx_md_params;
OSSL_FUNC_signature_settable_ctx_md_params_fn sig_settable_ctx_md_params;

/** Text of either kind of string parameter, NUL-terminated. @return false if it is none or does not fit */
bool sig_param_text(const OSSL_PARAM *p, char *buf, size_t buf_len);
/** Answer `digest`; always 1 if it was not asked for. */
int sig_get_digest(const struct sig_ctx *ctx, OSSL_PARAM *params);

/* ---- algorithm_id.c: the DER AlgorithmIdentifier of a signature, as the default provider writes it -------
 */

enum { ALGID_MAX = 128 }; /* bytes; the longest is PSS with its parameters */

/** RFC 4055 5 (NULL parameters). HSM_ERR_MECH if no identifier exists for this digest; so below. */
HSM_MUST_USE hsm_status algid_rsa_pkcs1(enum hsm_hash hash, struct hsm_buf *der);
/** RFC 4055 3.1: what equals the defaults (SHA-1, MGF1 with SHA-1, 20) is left out. */
HSM_MUST_USE hsm_status algid_rsa_pss(enum hsm_hash hash, enum hsm_hash mgf1_hash, unsigned salt_len,
                                      struct hsm_buf *der);
/** RFC 5758 3.2 and, for SHA-3, NIST's arc: no parameters. */
HSM_MUST_USE hsm_status algid_ecdsa(enum hsm_hash hash, struct hsm_buf *der);
/** RFC 8410 3: no parameters. */
HSM_MUST_USE hsm_status algid_eddsa(enum hsm_key_type type, struct hsm_buf *der);
/** The digest with this NID; HSM_HASH_NONE if it is none of ours. */
enum hsm_hash algid_nid_hash(int nid);

#endif
