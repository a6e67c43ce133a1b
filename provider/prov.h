/* SPDX-License-Identifier: Apache-2.0 */
/** What the files of provider/ share: the provider context, the key object, errors. OpenSSL words stay in
 * this folder. */
#ifndef HSM_PROV_H
#define HSM_PROV_H

#include <stdatomic.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/evp.h>

#include "hsm/hsm.h"
#include "hsm/pubkey.h"

/** The upcalls libcrypto gave us at init; any of them may be NULL. */
struct prov_upcalls {
    OSSL_FUNC_core_get_params_fn *get_params;
    OSSL_FUNC_core_get_libctx_fn *get_libctx;
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
    OSSL_FUNC_core_set_error_mark_fn *set_error_mark;
    OSSL_FUNC_core_clear_last_error_mark_fn *clear_last_error_mark;
    OSSL_FUNC_core_pop_error_to_mark_fn *pop_error_to_mark;
    OSSL_FUNC_BIO_read_ex_fn *bio_read_ex;
    OSSL_FUNC_BIO_write_ex_fn *bio_write_ex;
    OSSL_FUNC_BIO_gets_fn *bio_gets;
};

/** One per OSSL_provider_init(): several may live in one process. */
struct prov_ctx {
    const OSSL_CORE_HANDLE *handle;
    struct prov_upcalls up;
    unsigned version; /* of the running libcrypto: 0x030000 for 3.0, 0x030500 for 3.5 */
    struct hsm_ctx
        *hsm; /* configured at init; NULL if the configuration is unusable: config_status, config_error */
    struct hsm_ctx *spare; /* then this one, if it can be had: only for its log */
    bool alias_pkcs11;     /* alias-scheme = pkcs11 */
    hsm_status config_status;
    char config_error[512];
    _Atomic(OSSL_LIB_CTX *)
        own_libctx; /* what prov_libctx() answers with when the configuration is unusable */
    _Atomic(EVP_MD *) md[HSM_HASH_COUNT]; /* fetched once each, in prov_libctx() */
};

/** Library context for everything the provider computes itself; NULL on failure. Property query:
 * PROV_DEFAULT. */
OSSL_LIB_CTX *prov_libctx(struct prov_ctx *prov);
#define PROV_DEFAULT "provider=default"

/**
 * Is an unqualified fetch of this key type answered by us (hsm listed first, or default_properties prefer
 * it)? Asks the application's library context, if it is served by the same libcrypto as ours; else false.
 */
bool prov_is_preferred(struct prov_ctx *prov, const char *keytype);

/**
 * The key object behind an EVP_PKEY. Immutable once it is handed out (but for set_params on a public key),
 * shared by threads and forked children. Four shapes: token key      key != NULL, has_pub (or not yet, if the
 * reference came without its public key) public key     key == NULL, has_pub parameters     key == NULL,
 * !has_pub, kind known volatile key   soft != NULL: made by an unnamed keygen while hsm is preferred (TLS
 * ephemeral keys end here); its private part may be exported, so the default provider does the work; it
 * becomes a token key when it is first written as a reference
 */
struct prov_key {
    atomic_uint refs;
    struct prov_ctx *prov;
    enum hsm_key_type type; /* what the keymgmt manages; kind.type is the same once known */
    struct hsm_key_kind kind;
    bool has_pub;
    struct hsm_pubkey pub; /* valid if has_pub; points into spki */
    uint8_t *spki;
    size_t spki_len;
    struct hsm_key *key;
    EVP_PKEY *soft; /* in prov_libctx(); prov_key_public() answers with it. Of any curve and size: has_pub is
                     * false and kind incomplete where hsm does not know the kind, so ask `soft` first */
    bool soft_private; /* soft is a key pair; else parameters of a curve that hsm does not know */
    _Atomic uint32_t
        refused; /* a bit per way of signing whose messages the token wants hashed; see signature.c */
    _Atomic(struct hsm_key *) saved; /* what prov_key_reference() made of a volatile key */
    _Atomic(EVP_PKEY *) pub_pkey;    /* made on first need by prov_key_public() */
};

struct prov_key *prov_key_new(struct prov_ctx *prov, enum hsm_key_type type);
struct prov_key *prov_key_ref(struct prov_key *key);
void prov_key_free(struct prov_key *key); /* NULL is allowed */
/** A token key from its URI and, if known, its SubjectPublicKeyInfo. Without spki this asks the token. On
 * failure the status is returned and *out is NULL. Nothing is raised. */
hsm_status prov_key_from_uri(struct prov_ctx *prov, const struct hsm_uri *uri, struct hsm_bytes spki,
                             struct prov_key **out);
/** Set the public part (copied); the type must fit. */
hsm_status prov_key_set_spki(struct prov_key *key, struct hsm_bytes spki);
/** The public half as a key of the default provider in prov_libctx(), cached; borrowed. NULL on failure. */
EVP_PKEY *prov_key_public(struct prov_key *key);
/**
 * The token key that a written reference to @p key names: key->key; for a volatile key, one made now by
 * importing it into the first configured token (once; later calls answer the same). Borrowed. I/O only for a
 * volatile key. HSM_ERR_KEY_TYPE for a public or parameter key. Nothing is raised.
 */
hsm_status prov_key_reference(struct prov_key *key, struct hsm_key **token_key);
/** How a key file is to be encrypted: cipher NULL or "" means not at all. */
struct prov_encryption {
    const char *cipher;
    OSSL_PASSPHRASE_CALLBACK *ask;
    void *arg;
};
/** Write a volatile key as the default provider does, for a kind that prov_key_reference() refuses. */
int prov_encode_soft(struct prov_ctx *prov, OSSL_CORE_BIO *out, EVP_PKEY *soft, int selection,
                     const char *type, const char *structure, const struct prov_encryption *how);
/** Key type name for libcrypto: "EC", "RSA", "RSA-PSS", "ED25519", ... */
const char *prov_key_type_name(enum hsm_key_type type);

/** A key passed through an OSSL_OBJECT_PARAM_REFERENCE is a `struct prov_key *` by value. keymgmt load takes
 * it over and zeroes the pointer. @return NULL if @p reference is not one of @p type */
struct prov_key *prov_key_take_reference(const void *reference, size_t reference_sz, enum hsm_key_type type);

/**
 * Put one entry into libcrypto's error queue and one line into our own log.
 * @param st  the code; its line is hsm_error_text(st)
 * @return 0, so that callers can `return prov_raise(...)`
 */
int prov_raise_at(struct prov_ctx *prov, hsm_status st, const char *file, int line, const char *func);
#define prov_raise(prov, st) prov_raise_at((prov), (st), __FILE__, __LINE__, __func__)
/** hsm_fail() and prov_raise() in one. */
#define prov_fail(prov, st, ...) prov_raise((prov), hsm_fail((st), __VA_ARGS__))
/** prov->hsm, or NULL after raising why the configuration is unusable. */
struct hsm_ctx *prov_hsm(struct prov_ctx *prov);
extern const OSSL_ITEM prov_reason_strings[];

/**
 * A digest by any of its names ("sha256", "SHA2-256", an OID). Answers common names from a table without a
 * fetch.
 * @param hash  out, may be NULL: HSM_HASH_NONE for a digest that has no enum hsm_hash value
 * @return a digest of prov_libctx(); NULL if unknown (nothing raised). With *owned true the caller frees it.
 */
EVP_MD *prov_digest(struct prov_ctx *prov, const char *name, enum hsm_hash *hash, bool *owned);

#endif
