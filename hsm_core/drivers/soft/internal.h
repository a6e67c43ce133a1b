/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The software token. driver.c is the table and the life of an open token, create.c makes the file, store.c
 * is SQLite, rows.c the rows in it, pin.c the PINs and their counters, object.c the objects, counter.c
 * counters, key.c the cache
 * of ready keys and signing, derive.c and decrypt.c the other private operations, hide.c keeps RSA out of
 * core dumps, crypto.c its use of libcrypto; codec/private.c and pkcs8.c know private keys.
 *
 * Secrets: the token key K (32 random bytes) is stored twice, wrapped by AES-256-GCM under a key derived from
 * the user PIN and from the SO PIN. What seals keys and data objects is derived from K by HKDF; only that is
 * kept after login.
 */
#ifndef SOFT_INTERNAL_H
#define SOFT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <openssl/evp.h>
#include <sqlite3.h>

#include "hsm/driver.h"
#include "hsm/pubkey.h"
#include "hsm/secret.h"
#include "kdf.h"
#include "mech.h"
#include "private.h"

enum {
    SOFT_APPLICATION_ID = 0x48534d74, /* "HSMt" in the file's header */
    SOFT_FORMAT = 1,
    SOFT_UUID_LEN = 16,
    SOFT_KEY_LEN = 32,
    SOFT_NONCE_LEN = 12,
    SOFT_TAG_LEN = 16,
    SOFT_SEAL_EXTRA = SOFT_NONCE_LEN + SOFT_TAG_LEN, /* a sealed value is nonce, ciphertext, tag */
    SOFT_WRAPPED_LEN = SOFT_KEY_LEN + SOFT_SEAL_EXTRA,
    SOFT_COUNTER_LEN = 8,
    SOFT_COUNTER_VALUE_LEN = 2 * SOFT_COUNTER_LEN + SOFT_SEAL_EXTRA, /* see counter.c */
    SOFT_SALT_LEN = 16,
    SOFT_DIGEST_LEN = 32,
    SOFT_ID_LEN = HSM_KEY_ID_LEN,
    SOFT_PIN_MIN = 4,
    SOFT_TRIES_DEFAULT = 10,
    SOFT_TRIES_LIMIT = 1000,
    SOFT_AAD_MAX = 4096,
    SOFT_BUSY_MS = 10000
};

enum soft_kdf { SOFT_KDF_SCRYPT = 1, SOFT_KDF_HKDF = 2 }; /* stored; never renumber */

/** How a key is derived from a PIN; stored beside what it wraps. */
struct soft_kdf_params {
    enum soft_kdf kdf;
    uint64_t n; /* scrypt only, as r and p */
    uint32_t r, p;
    uint8_t salt[SOFT_SALT_LEN];
};

/** One row of table `pin`. */
struct soft_pin {
    enum hsm_role role;
    struct soft_kdf_params params;
    uint8_t wrapped[SOFT_WRAPPED_LEN];
    unsigned tries_max, tries_left;
};

/** One row of table `object`. */
struct soft_row {
    struct hsm_object obj;
    uint8_t *value; /* as stored: sealed key or data, or a certificate; allocated */
    size_t value_len;
};

struct soft_key; /* key.c */

/** Ready keys, most recently used first. */
struct soft_cache {
    pthread_mutex_t lock; /* short: never held while computing */
    struct soft_key *first, *last;
    size_t count;
};

struct soft_token {
    struct hsm_token base;
    struct soft_token *next; /* in the list of open tokens */
    char where[1200];        /* "token 'NAME' (PATH)", for error lines */
    char path[1024];         /* absolute, as configured: links not followed */
    char real_path[1024];    /* of the file SQLite opened: journal and lock file stand beside it */
    char label[HSM_LABEL_MAX + 1];
    uint8_t uuid[SOFT_UUID_LEN];
    OSSL_LIB_CTX *libctx;
    EVP_CIPHER *gcm;

    pthread_mutex_t sql; /* the connection, and `seal_key` */
    sqlite3 *db;
    sqlite3_file *file;   /* SQLite's own, for reading the change counter */
    bool concurrent_read; /* SQLite reads with pread(): no seek pointer to race for */
    bool read_only;       /* SQLite could open the file for reading only */
    uint8_t *seal_key;    /* secret memory; NULL until the user has logged in */

    pthread_mutex_t login; /* one login at a time per token and process */
    int login_fd;          /* the file lock that serialises logins between processes; -1 */

    dev_t dev;
    ino_t ino;
    _Atomic int64_t looked_ms; /* when the path was last compared with dev and ino */
    _Atomic bool gone;

    struct soft_cache cache;
    _Atomic bool restart_messages; /* see sign_message() */
};

static inline struct soft_token *soft_of(struct hsm_token *tok)
{
    return (struct soft_token *)(void *)tok;
}

/* ---- driver.c ------------------------------------------------------------------------------------------ */

extern const struct hsm_driver hsm_driver_soft;

/** A token that is not open yet: path, lock, cipher. */
HSM_MUST_USE hsm_status soft_token_new(const struct hsm_open_args *args, struct soft_token **out);
void soft_token_free(struct soft_token *t);
/** Is the file at the path still the one that is open? HSM_ERR_TOKEN_GONE if not. @p now: do not wait for the
 * next quarter of a second */
HSM_MUST_USE hsm_status soft_check_file(struct soft_token *t, bool now);
int64_t soft_now_ms(void);

/* ---- create.c ------------------------------------------------------------------------------------------ */

hsm_status soft_create(const struct hsm_open_args *args, const struct hsm_token_init *init);

/* ---- store.c: every call but soft_store_counter() wants t->sql held -------------------------------------
 */

void soft_sql_lock(struct soft_token *t);
void soft_sql_unlock(struct soft_token *t);

HSM_MUST_USE hsm_status soft_store_open(struct soft_token *t);
void soft_store_close(struct soft_token *t);
/** Make a token (t->uuid, t->label and these PINs) in the empty file t->path and have it on the disk. */
HSM_MUST_USE hsm_status soft_store_format(struct soft_token *t, const struct soft_pin *user,
                                          const struct soft_pin *so);
/**
 * Keep everybody from writing to a token that is about to be replaced, and undo what a crashed writer left
 * behind.
 * @param lock  out: sqlite3_close() it after the replacement; NULL if @p path is a damaged or empty file
 * @return HSM_ERR_TOKEN_FORMAT if it is something else than a token
 */
HSM_MUST_USE hsm_status soft_store_freeze(struct soft_token *t, const char *path, sqlite3 **lock);
/** Number that changes with every commit by anyone; one pread(). Any thread, no lock. false: unknown */
bool soft_store_counter(struct soft_token *t, uint32_t *counter);
/** The same with t->sql held. */
bool soft_store_counter_locked(struct soft_token *t, uint32_t *counter);

/** May this process write now? A program that opened the token as root may have dropped its rights since. No
 * lock needed. */
bool soft_store_writable(const struct soft_token *t);
/** The same as HSM_OK or HSM_ERR_READ_ONLY. */
HSM_MUST_USE hsm_status soft_store_want_writable(const struct soft_token *t);
HSM_MUST_USE hsm_status soft_store_begin(struct soft_token *t, bool write);
HSM_MUST_USE hsm_status soft_store_commit(struct soft_token *t);
/** End the transaction with nothing written, if one is open. */
void soft_store_rollback(struct soft_token *t);
/** Translate SQLite's last error on this connection. @p doing: "reading", "writing" ... */
hsm_status soft_store_fail(struct soft_token *t, const char *doing);
/** HSM_ERR_TOKEN_FORMAT: what is in the file cannot have been written by us. */
hsm_status soft_store_damaged(const struct soft_token *t, const char *what);
HSM_MUST_USE hsm_status soft_store_prepare(struct soft_token *t, const char *sql, sqlite3_stmt **stmt);

/* ---- rows.c: t->sql held ------------------------------------------------------------------------------- */

/** Read t->uuid and t->label. */
HSM_MUST_USE hsm_status soft_store_token(struct soft_token *t);
HSM_MUST_USE hsm_status soft_store_put_token(struct soft_token *t);
HSM_MUST_USE hsm_status soft_store_pin(struct soft_token *t, enum hsm_role role, struct soft_pin *pin);
HSM_MUST_USE hsm_status soft_store_put_pin(struct soft_token *t, const struct soft_pin *pin);
HSM_MUST_USE hsm_status soft_store_set_tries(struct soft_token *t, enum hsm_role role, unsigned tries_left);

/** The object with this handle; row->value too if @p want_value. HSM_ERR_NO_OBJECT */
HSM_MUST_USE hsm_status soft_store_object(struct soft_token *t, hsm_handle handle, bool want_value,
                                          struct soft_row *row);
/** Up to @p max objects with a handle above @p after, in order; without values. @p cls, @p label narrow it
 * down. */
HSM_MUST_USE hsm_status soft_store_page(struct soft_token *t, hsm_handle after, enum hsm_class cls,
                                        const char *label, struct hsm_object *objs, size_t max,
                                        size_t *count);
/** HSM_ERR_EXISTS if the label is taken. */
HSM_MUST_USE hsm_status soft_store_label_free(struct soft_token *t, enum hsm_class cls, const char *label);
/** Insert without its value; sets obj->handle, which is never used twice. */
HSM_MUST_USE hsm_status soft_store_insert(struct soft_token *t, struct hsm_object *obj);
HSM_MUST_USE hsm_status soft_store_set_value(struct soft_token *t, hsm_handle handle, struct hsm_bytes value);
HSM_MUST_USE hsm_status soft_store_delete(struct soft_token *t, hsm_handle handle);
void soft_row_clear(struct soft_row *row);

/* ---- pin.c --------------------------------------------------------------------------------------------- */

hsm_status soft_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin);
hsm_status soft_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                           struct hsm_bytes new_pin, bool machine_pin);
hsm_status soft_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                            bool machine_pin);
/** Fill in @p pin for a new PIN: parameters, salt, K wrapped. pin->role, tries_* are the caller's. */
HSM_MUST_USE hsm_status soft_pin_wrap(struct soft_token *t, struct hsm_bytes text, bool machine_pin,
                                      uint64_t kdf_memory, const uint8_t token_key[SOFT_KEY_LEN],
                                      struct soft_pin *pin);
HSM_MUST_USE hsm_status soft_pin_check_format(struct hsm_bytes text, enum hsm_role role, bool machine_pin);
/** Digest of a `pin` row but its counters; tells damage from a wrong PIN, authenticates nothing. */
HSM_MUST_USE hsm_status soft_pin_digest(struct soft_token *t, const struct soft_pin *pin,
                                        uint8_t digest[SOFT_DIGEST_LEN]);
/** Parameters that a damaged or hostile file may hold would cost gigabytes or hours. */
bool soft_kdf_params_sane(const struct soft_kdf_params *params);

/* ---- object.c ------------------------------------------------------------------------------------------ */

hsm_status soft_enumerate(struct hsm_token *tok, enum hsm_class cls, const char *label, hsm_object_fn *each,
                          void *arg);
hsm_status soft_generate(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle);
hsm_status soft_import(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                       hsm_handle *handle);
hsm_status soft_export_private(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8);
hsm_status soft_put(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                    hsm_handle *handle);
hsm_status soft_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value);
hsm_status soft_destroy(struct hsm_token *tok, hsm_handle handle);

/** All attributes of an object in one fixed form: what its seal also covers. out->cap >= SOFT_AAD_MAX */
void soft_object_aad(const struct soft_token *t, const struct hsm_object *obj, struct hsm_buf *out);
hsm_status soft_require_login(const struct soft_token *t);
/** Everything that can fail before an object is made: rights, a free label, the login. */
HSM_MUST_USE hsm_status soft_object_may_add(struct soft_token *t, const struct hsm_object_spec *spec,
                                            enum hsm_class cls);
/** What the specification says about a new object. */
HSM_MUST_USE hsm_status soft_object_describe(const struct soft_token *t, const struct hsm_object_spec *spec,
                                             enum hsm_class cls, enum hsm_origin origin,
                                             struct hsm_object *obj);
/** Open the seal of a key or data object. t->sql held. @p out: secret memory, cap >= row->value_len
 *  @return HSM_ERR_PIN_REQUIRED; HSM_ERR_TOKEN_FORMAT if anything about the object was altered */
HSM_MUST_USE hsm_status soft_object_unseal(struct soft_token *t, const struct soft_row *row,
                                           struct hsm_buf *out);

/* ---- counter.c ----------------------------------------------------------------------------------------- */

hsm_status soft_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                               hsm_handle *handle);
hsm_status soft_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
hsm_status soft_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value);

/* ---- key.c --------------------------------------------------------------------------------------------- */

void soft_cache_init(struct soft_cache *cache);
void soft_cache_free(struct soft_cache *cache); /* no operation may be running */
/** Let go of every key that is not in use. */
void soft_cache_shrink(struct soft_cache *cache, size_t keep);
hsm_key_op soft_sign;
/** A ready key in use: all of it is valid until soft_key_release(). */
struct soft_held {
    struct soft_key *key;
    EVP_PKEY *pkey;
    struct mech_key asked;
};
HSM_MUST_USE hsm_status soft_key_hold(struct soft_token *t, hsm_handle handle, struct soft_held *held);
/** @p used: a private operation was done with it. Nothing happens if nothing is held. */
void soft_key_release(struct soft_token *t, struct soft_held *held, bool used);

/* ---- derive.c, decrypt.c --------------------------------------------------------------------------------
 */

hsm_key_op soft_derive, soft_decrypt;

/* ---- hide.c ---------------------------------------------------------------------------------------------
 */

/** Leave the pages that hold the private numbers of an RSA key out of core dumps. After its first signature.
 */
void soft_hide_rsa(const EVP_PKEY *pkey, const struct hsm_key_kind *kind);

/* ---- crypto.c ------------------------------------------------------------------------------------------ */

HSM_MUST_USE hsm_status soft_random_bytes(OSSL_LIB_CTX *libctx, void *out, size_t len);
HSM_MUST_USE hsm_status soft_sha256(OSSL_LIB_CTX *libctx, struct hsm_bytes in,
                                    uint8_t digest[SOFT_DIGEST_LEN]);
HSM_MUST_USE hsm_status soft_kdf(OSSL_LIB_CTX *libctx, const struct soft_kdf_params *params,
                                 struct hsm_bytes pin, uint8_t key[SOFT_KEY_LEN]);
/** HKDF-SHA256 of @p key. @p info says what for. */
HSM_MUST_USE hsm_status soft_hkdf(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes salt,
                                  const char *info, uint8_t out[SOFT_KEY_LEN]);
/** out = nonce, ciphertext, tag; needs plain.len + SOFT_SEAL_EXTRA bytes. */
HSM_MUST_USE hsm_status soft_seal(struct soft_token *t, const uint8_t key[SOFT_KEY_LEN], struct hsm_bytes aad,
                                  struct hsm_bytes plain, struct hsm_buf *out);
/** @return HSM_ERR_DATA (without a line) if the seal does not fit */
HSM_MUST_USE hsm_status soft_unseal(struct soft_token *t, const uint8_t key[SOFT_KEY_LEN],
                                    struct hsm_bytes aad, struct hsm_bytes sealed, struct hsm_buf *out);

#endif
