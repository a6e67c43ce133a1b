/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The API of hsm_core: a context with its configured tokens, objects on them, and key references that survive
 * fork. Every call may come from any thread. Nothing here does I/O before it says so.
 *
 * Fork: whatever a context opened belongs to the process that opened it. The first call in a child abandons
 * the parent's tokens (and wipes its copy of their secrets) and opens anew. A struct hsm_token therefore must
 * be asked for again after fork; a struct hsm_key need not.
 *
 * Login is implicit: an operation that needs the PIN takes it from where the configuration says, once per
 * process.
 */
#ifndef HSM_HSM_H
#define HSM_HSM_H

#include "hsm/config.h"
#include "hsm/error.h"
#include "hsm/types.h"
#include "hsm/uri.h"

struct ossl_lib_ctx_st; /* OSSL_LIB_CTX */
struct hsm_ctx;
struct hsm_token;
struct hsm_key;

/* ---- context ------------------------------------------------------------------------------------------- */

/**
 * @param cfg  finished configuration (hsm_config_finish()); its ownership passes to the context on success
 * @param ctx  out: the context; no token has been touched yet
 */
HSM_MUST_USE hsm_status hsm_ctx_new(struct hsm_config *cfg, struct hsm_ctx **ctx);
/**
 * A context without tokens, for a configuration that turned out to be unusable: hsm_log() goes where `log =`
 * says.
 * @param cfg  unfinished or not; its ownership passes to the context on success
 */
HSM_MUST_USE hsm_status hsm_ctx_new_for_log(struct hsm_config *cfg, struct hsm_ctx **ctx);
/** Release all. In a process other than the one that opened the tokens it talks to none of them. NULL is
 * allowed. */
void hsm_ctx_free(struct hsm_ctx *ctx);

/**
 * The library context in which all cryptography of this hsm context happens: isolated from the application's,
 * default provider only, made on first call, owned by the context. NULL on failure.
 */
struct ossl_lib_ctx_st *hsm_ctx_libctx(struct hsm_ctx *ctx);

/**
 * Ask a person for a PIN; called when pin-source is `prompt`.
 * @param pin  out: PIN bytes, no NUL; pin->cap is HSM_PIN_MAX
 */
typedef hsm_status hsm_prompt_fn(void *arg, const char *token_name, enum hsm_role role, struct hsm_buf *pin);
void hsm_ctx_set_prompt(struct hsm_ctx *ctx, hsm_prompt_fn *fn, void *arg);

enum hsm_log_level { HSM_LOG_OFF, HSM_LOG_ERROR, HSM_LOG_INFO, HSM_LOG_DEBUG };
/** One line to where `log =` says; nothing if it says nothing. Adds time, pid and level. Never data, PIN or
 * key bytes. */
void hsm_log(struct hsm_ctx *ctx, enum hsm_log_level level, const char *fmt, ...) HSM_PRINTF(3, 4);

/* ---- tokens -------------------------------------------------------------------------------------------- */

size_t hsm_token_count(struct hsm_ctx *ctx);
/** Configured name ("board"; a lone `token =` has the name "token"). Valid as long as the context. */
const char *hsm_token_name(struct hsm_ctx *ctx, size_t index);
const struct hsm_token_spec *hsm_token_spec(struct hsm_ctx *ctx, size_t index);

/** Open (once per process) and hand out token @p index. Borrowed: valid until hsm_ctx_free() or fork. */
HSM_MUST_USE hsm_status hsm_token_get(struct hsm_ctx *ctx, size_t index, struct hsm_token **tok);
/** The token whose configured name or label is @p name; NULL or "" means the first configured one. */
HSM_MUST_USE hsm_status hsm_token_find(struct hsm_ctx *ctx, const char *name, struct hsm_token **tok);
HSM_MUST_USE hsm_status hsm_token_info(struct hsm_token *tok, struct hsm_token_info *info);

struct hsm_token_init {
    const char *label;         /* UTF-8, 1..HSM_LABEL_MAX bytes */
    struct hsm_bytes user_pin; /* 4..HSM_PIN_MAX bytes; empty: keys need no login (not every driver can) */
    struct hsm_bytes so_pin;
    bool machine_pin;       /* user_pin is 256 random bits in text form: no stretching needed */
    unsigned pin_tries_max; /* 0: the driver's default */
    uint64_t kdf_memory;    /* bytes for stretching a human PIN; 0: the driver's default (64 MiB) */
    uint32_t mode;          /* permission bits of a token that is a file; 0: 0600 */
    bool force;             /* replace an existing token and all its keys */
};
/** Create the token named by the configuration at @p index. HSM_ERR_EXISTS if there is one and !force. */
HSM_MUST_USE hsm_status hsm_token_create(struct hsm_ctx *ctx, size_t index,
                                         const struct hsm_token_init *init);

/** Log in with a given PIN. HSM_ERR_PIN_INCORRECT's text says how many tries are left. */
HSM_MUST_USE hsm_status hsm_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin);
/** Log in as user with the configured PIN source, if not yet logged in. */
HSM_MUST_USE hsm_status hsm_login_configured(struct hsm_token *tok);
/** Change the PIN of @p role; keys are not re-encrypted. @p machine_pin as in struct hsm_token_init. */
HSM_MUST_USE hsm_status hsm_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                                       struct hsm_bytes new_pin, bool machine_pin);
/** Set a new user PIN with the SO PIN, and clear the user's retry counter. */
HSM_MUST_USE hsm_status hsm_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin,
                                        struct hsm_bytes new_pin, bool machine_pin);

/**
 * Read a PIN from a source specification: file:PATH | env:NAME | cred:NAME | prompt. One trailing newline is
 * cut.
 * @param ctx  for `prompt`; may be NULL
 * @param pin  out: pin->cap >= HSM_PIN_MAX; the caller cleanses it
 */
HSM_MUST_USE hsm_status hsm_pin_read(struct hsm_ctx *ctx, const char *source, enum hsm_role role,
                                     struct hsm_buf *pin);
/** The pin-source configured for token @p index, or NULL. */
const char *hsm_pin_source(struct hsm_ctx *ctx, size_t index);

/* ---- objects ------------------------------------------------------------------------------------------- */

/** Called once per object; the object is valid during the call. Return anything but HSM_OK to stop with it.
 */
typedef hsm_status hsm_object_fn(void *arg, struct hsm_token *tok, const struct hsm_object *obj);

/** All objects on @p tok that match; @p uri NULL = all. `type` private/public means keys. No PIN needed. */
HSM_MUST_USE hsm_status hsm_find(struct hsm_token *tok, const struct hsm_uri *uri, hsm_object_fn *each,
                                 void *arg);
/** Exactly one object: HSM_ERR_NO_OBJECT or HSM_ERR_AMBIGUOUS otherwise. */
HSM_MUST_USE hsm_status hsm_find_one(struct hsm_token *tok, const struct hsm_uri *uri,
                                     struct hsm_object *obj);

/** Generate spec->kind in the token. HSM_ERR_EXISTS if the label is taken: generation never overwrites. */
HSM_MUST_USE hsm_status hsm_generate(struct hsm_token *tok, const struct hsm_object_spec *spec,
                                     hsm_handle *handle);
/** Import a private key: DER PrivateKeyInfo (PKCS#8, RFC 5958), unencrypted; the caller cleanses it. */
HSM_MUST_USE hsm_status hsm_import(struct hsm_token *tok, const struct hsm_object_spec *spec,
                                   struct hsm_bytes pkcs8, hsm_handle *handle);
/** The private key as DER PrivateKeyInfo; only if it was created extractable (HSM_ERR_NOT_EXTRACTABLE).
 *  @param pkcs8  use memory from hsm_secret_alloc(); 4096 bytes always suffice */
HSM_MUST_USE hsm_status hsm_export(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8);
/** Store a certificate (DER) or data object. */
HSM_MUST_USE hsm_status hsm_put(struct hsm_token *tok, const struct hsm_object_spec *spec,
                                struct hsm_bytes value, hsm_handle *handle);
/** Read a certificate (no PIN) or data object (PIN). HSM_ERR_BUFFER if value->cap < hsm_object.value_len. */
HSM_MUST_USE hsm_status hsm_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value);
HSM_MUST_USE hsm_status hsm_destroy(struct hsm_token *tok, hsm_handle handle);

/**
 * Sign with a private key that stays in the token.
 * @param in   as enum hsm_mech_type says for @p mech
 * @param sig  out: hsm_kind_signature_max() bytes always suffice; HSM_ERR_BUFFER if cap is too small
 * @return HSM_ERR_NO_OBJECT (destroyed meanwhile), HSM_ERR_KEY_TYPE, HSM_ERR_USAGE, HSM_ERR_MECH,
 *         HSM_ERR_DATA_LEN, HSM_ERR_PIN_*, HSM_ERR_TOKEN_*
 * Source: RFC 8017 (RSA), RFC 3279 2.2.3 and FIPS 186-5 (ECDSA), RFC 8032 (EdDSA)
 */
HSM_MUST_USE hsm_status hsm_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                                 struct hsm_bytes in, struct hsm_buf *sig);

/**
 * As hsm_sign(), but @p in is the message and the token hashes it with mech->hash, which saves a slow wire
 * bytes.
 * @return HSM_ERR_UNSUPPORTED if this token, key or message does not lend itself: hash it and call
 * hsm_sign().
 */
HSM_MUST_USE hsm_status hsm_sign_message(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                                         struct hsm_bytes in, struct hsm_buf *sig);

/**
 * Agree on a secret with the owner of another key: HSM_MECH_ECDH with an EC, X25519 or X448 key.
 * @param peer    his public key: 04 X Y, or the octets of RFC 7748
 * @param secret  out: the X coordinate, (bits + 7) / 8 bytes, or 32 or 56 octets; HSM_ERR_BUFFER if cap is
 * smaller. The caller cleanses it
 * @return HSM_ERR_NO_OBJECT, HSM_ERR_KEY_TYPE, HSM_ERR_USAGE (without HSM_USAGE_DERIVE), HSM_ERR_MECH,
 *         HSM_ERR_DATA (no public key of this type and curve, or one that makes the secret all zero),
 *         HSM_ERR_PIN_*, HSM_ERR_TOKEN_*
 * Source: NIST SP 800-56A rev 3 section 5.7.1.2 (all curves have cofactor 1), RFC 7748 section 6
 */
HSM_MUST_USE hsm_status hsm_derive(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                                   struct hsm_bytes peer, struct hsm_buf *secret);

/**
 * Decrypt with an RSA key that stays in the token.
 * @param in     exactly as long as the modulus
 * @param plain  out: the message; HSM_ERR_BUFFER if cap is less than the length of the modulus, however short
 * the message is. The caller cleanses it
 * @return HSM_ERR_NO_OBJECT, HSM_ERR_KEY_TYPE, HSM_ERR_USAGE (without HSM_USAGE_DECRYPT), HSM_ERR_MECH,
 *         HSM_ERR_DATA_LEN, HSM_ERR_DATA, HSM_ERR_PIN_*, HSM_ERR_TOKEN_*
 *
 * HSM_ERR_DATA says the same for whatever is wrong with a padding. With PKCS#1 v1.5 even that can help an
 * attacker who may ask often (RFC 8017 section 7.2): the soft token then answers with random bytes instead
 * where libcrypto does (3.2 and later), older libcrypto and chips tell. A protocol that still needs this
 * padding must go on with a random key after such a failure, as TLS 1.2 does (RFC 5246 section 7.4.7.1).
 * Source: RFC 8017 sections 5.1.2, 7.1.2, 7.2.2
 */
HSM_MUST_USE hsm_status hsm_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                                    struct hsm_bytes in, struct hsm_buf *plain);

/** Fill out->cap bytes with random numbers from the token. */
HSM_MUST_USE hsm_status hsm_random(struct hsm_token *tok, struct hsm_buf *out);

/* ---- counters, attestation, administration --------------------------------------------------------------
 */

/** Make a monotonic counter (spec->cls HSM_CLASS_COUNTER, label, usage ignored) that starts at @p value. */
HSM_MUST_USE hsm_status hsm_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec,
                                           uint64_t value, hsm_handle *handle);
/** Read a counter; no PIN. */
HSM_MUST_USE hsm_status hsm_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
/** Add one; @p value: out, the new value. Never goes back, never wraps (HSM_ERR_TOKEN_FULL at the end). */
HSM_MUST_USE hsm_status hsm_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value);

/** Have the token prove where a key comes from. @p challenge: 16 fresh bytes. */
HSM_MUST_USE hsm_status hsm_attest(struct hsm_token *tok, hsm_handle handle, struct hsm_bytes challenge,
                                   struct hsm_attestation *out);

/**
 * Administration that is particular to one kind of token, e.g. "rotate-keys" of an SE05x; see
 * docs/man/hsmctl.1.
 * @return HSM_ERR_UNSUPPORTED if the driver does not know @p command
 */
HSM_MUST_USE hsm_status hsm_token_control(struct hsm_token *tok, const char *command, const char *argument,
                                          hsm_line_fn *print, void *arg);

/* ---- keys by reference --------------------------------------------------------------------------------- */

/**
 * A key known by its URI. Making one does no I/O; the first operation finds the key, in whatever process that
 * is, and later ones find it again by themselves after fork or after the token was replaced.
 * @param uri   parsed; copied, with its PIN if it has one
 * @param spki  the public key it must have (HSM_ERR_KEY_CHANGED otherwise), or empty; copied
 */
HSM_MUST_USE hsm_status hsm_key_new(struct hsm_ctx *ctx, const struct hsm_uri *uri, struct hsm_bytes spki,
                                    struct hsm_key **key);
struct hsm_key *hsm_key_ref(struct hsm_key *key); /* one more owner */
void hsm_key_free(struct hsm_key *key);           /* one owner less; NULL is allowed */
const struct hsm_uri *hsm_key_uri(const struct hsm_key *key);
/** Facts about the key from its token. Does I/O. */
HSM_MUST_USE hsm_status hsm_key_object(struct hsm_key *key, struct hsm_object *obj);
/** As hsm_sign(). */
HSM_MUST_USE hsm_status hsm_key_sign(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes in,
                                     struct hsm_buf *sig);
/** As hsm_sign_message(). */
HSM_MUST_USE hsm_status hsm_key_sign_message(struct hsm_key *key, const struct hsm_mech *mech,
                                             struct hsm_bytes in, struct hsm_buf *sig);
/** As hsm_derive(). */
HSM_MUST_USE hsm_status hsm_key_derive(struct hsm_key *key, const struct hsm_mech *mech,
                                       struct hsm_bytes peer, struct hsm_buf *secret);
/** As hsm_decrypt(). */
HSM_MUST_USE hsm_status hsm_key_decrypt(struct hsm_key *key, const struct hsm_mech *mech, struct hsm_bytes in,
                                        struct hsm_buf *plain);
/**
 * Should a caller that can reach a person ask for the PIN of this key's token now? No I/O. True if the key
 * has no PIN of its own, none was given yet, and the source is `prompt` (or, with @p if_unset, no source is
 * configured).
 */
bool hsm_key_wants_pin(struct hsm_key *key, bool if_unset);
/** Hand over such a PIN: kept in locked memory, used at the next login, also in forked children; never tried
 * twice if it was wrong. No I/O. */
HSM_MUST_USE hsm_status hsm_key_give_pin(struct hsm_key *key, struct hsm_bytes pin);

#endif
