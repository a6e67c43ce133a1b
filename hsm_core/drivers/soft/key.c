/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ready keys, and signing. A key that was used once stays ready: its EVP_PKEY, and for each mechanism a few
 * initialised contexts, so that a signature costs what libcrypto's own takes plus one pread(): the change
 * counter of the token file, which says whether anybody has written to the token since the key was last
 * compared with its row. No lock is held while computing.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>

#define PROPQ "provider=default"
enum { KEYS_MAX = 64, OPS_MAX = 32 };

/** A context ready to sign; used by one thread at a time. */
struct soft_op {
    struct soft_op *next;
    struct hsm_mech mech;
    EVP_PKEY_CTX *pctx;
    EVP_MD_CTX *mctx; /* EdDSA: libcrypto signs messages only */
    bool used;
};

struct soft_key {
    struct soft_key *prev, *next;
    hsm_handle handle;
    uint32_t counter;   /* of the file when the key was last known to be what its row says */
    unsigned refs;      /* threads that are using it */
    bool dead;          /* out of the cache: freed by its last user */
    atomic_bool hidden; /* soft_hide_rsa() has been called */
    struct hsm_key_kind kind;
    unsigned usage;
    char label[HSM_LABEL_MAX + 1];
    EVP_PKEY *pkey;
    struct soft_op *ops;
    unsigned op_count;
    size_t row_len;
    uint8_t row[]; /* attributes as sealed, then the sealed key: what the row in the file must still be */
};

/* ---- the cache ------------------------------------------------------------------------------------------
 */

void soft_cache_init(struct soft_cache *cache)
{
    *cache = (struct soft_cache){ .first = NULL };
    (void)pthread_mutex_init(&cache->lock, NULL);
}

static void op_free(struct soft_op *op)
{
    if (op == NULL)
        return;
    EVP_PKEY_CTX_free(op->pctx);
    EVP_MD_CTX_free(op->mctx);
    free(op);
}

static void key_free(struct soft_key *key)
{
    struct soft_op *op;

    if (key == NULL)
        return;
    while ((op = key->ops) != NULL) {
        key->ops = op->next;
        op_free(op);
    }
    EVP_PKEY_free(key->pkey);
    free(key);
}

static void unlink_key(struct soft_cache *cache, struct soft_key *key)
{
    *(key->prev != NULL ? &key->prev->next : &cache->first) = key->next;
    *(key->next != NULL ? &key->next->prev : &cache->last) = key->prev;
    key->prev = key->next = NULL;
    cache->count--;
}

static void link_first(struct soft_cache *cache, struct soft_key *key)
{
    key->prev = NULL;
    key->next = cache->first;
    *(cache->first != NULL ? &cache->first->prev : &cache->last) = key;
    cache->first = key;
    cache->count++;
}

/* Take a key out; what is returned must be freed once the lock is released. */
static struct soft_key *remove_key(struct soft_cache *cache, struct soft_key *key)
{
    unlink_key(cache, key);
    key->dead = true;
    return key->refs == 0 ? key : NULL;
}

void soft_cache_shrink(struct soft_cache *cache, size_t keep)
{
    struct soft_key *key, *prev, *doomed = NULL;

    (void)pthread_mutex_lock(&cache->lock);
    for (key = cache->last; key != NULL && cache->count > keep; key = prev) {
        prev = key->prev;
        if (key->refs == 0 && remove_key(cache, key) != NULL) {
            key->next = doomed;
            doomed = key;
        }
    }
    (void)pthread_mutex_unlock(&cache->lock);
    for (; doomed != NULL; doomed = key) {
        key = doomed->next;
        key_free(doomed);
    }
}

void soft_cache_free(struct soft_cache *cache)
{
    soft_cache_shrink(cache, 0);
    (void)pthread_mutex_destroy(&cache->lock);
}

static struct soft_key *find_key(const struct soft_cache *cache, hsm_handle handle)
{
    struct soft_key *key;

    for (key = cache->first; key != NULL && key->handle != handle; key = key->next)
        ;
    return key;
}

static void use_key(struct soft_cache *cache, struct soft_key *key)
{
    key->refs++;
    if (key != cache->first) {
        unlink_key(cache, key);
        link_first(cache, key);
    }
}

static bool same_mech(const struct hsm_mech *a, const struct hsm_mech *b)
{
    return a->type == b->type && a->hash == b->hash && a->mgf1_hash == b->mgf1_hash &&
           a->salt_len == b->salt_len;
}

static struct soft_op *take_op(struct soft_key *key, const struct hsm_mech *mech)
{
    struct soft_op **at, *op;

    for (at = &key->ops; (op = *at) != NULL && !same_mech(&op->mech, mech); at = &op->next)
        ;
    if (op != NULL) {
        *at = op->next;
        key->op_count--;
    }
    return op;
}

/* The ready key, if nobody has written to the token since it was last checked. */
static struct soft_key *cached_key(struct soft_token *t, hsm_handle handle, const struct hsm_mech *mech,
                                   uint32_t counter, struct soft_op **op)
{
    struct soft_key *key;

    (void)pthread_mutex_lock(&t->cache.lock);
    key = find_key(&t->cache, handle);
    if (key != NULL && key->counter == counter) {
        use_key(&t->cache, key);
        *op = mech == NULL ? NULL : take_op(key, mech);
    } else {
        key = NULL;
    }
    (void)pthread_mutex_unlock(&t->cache.lock);
    return key;
}

static void release_key(struct soft_token *t, struct soft_key *key, struct soft_op *op)
{
    bool last;

    (void)pthread_mutex_lock(&t->cache.lock);
    if (op != NULL && key->op_count < OPS_MAX) {
        op->next = key->ops;
        key->ops = op;
        key->op_count++;
        op = NULL;
    }
    last = --key->refs == 0 && key->dead;
    (void)pthread_mutex_unlock(&t->cache.lock);
    op_free(op);
    if (last)
        key_free(key);
}

/* ---- loading a key --------------------------------------------------------------------------------------
 */

static hsm_status make_pkey(struct soft_token *t, const struct soft_row *row, EVP_PKEY **pkey)
{
    struct hsm_buf pkcs8 = { hsm_secret_alloc(HSM_PKCS8_MAX), HSM_PKCS8_MAX, 0 };
    struct pkcs8_private priv;
    hsm_status st;

    if (pkcs8.ptr == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for key '%s'", row->obj.label);
    if ((st = soft_object_unseal(t, row, &pkcs8)) != HSM_OK ||
        (st = pkcs8_decode((struct hsm_bytes){ pkcs8.ptr, pkcs8.len }, &priv)) != HSM_OK)
        goto out;
    if (hsm_secure_heap_tight())
        soft_cache_shrink(&t->cache, KEYS_MAX / 4);
    if ((st = hsm_private_pkey(t->libctx, &priv, pkey)) !=
        HSM_OK) { /* perhaps the heap for secrets is full */
        soft_cache_shrink(&t->cache, 0);
        st = hsm_private_pkey(t->libctx, &priv, pkey);
    }
out:
    hsm_secret_free(pkcs8.ptr, HSM_PKCS8_MAX);
    return st;
}

static hsm_status new_key(struct soft_token *t, const struct soft_row *row, struct hsm_bytes aad,
                          struct soft_key **out)
{
    struct soft_key *key = calloc(1, sizeof(*key) + aad.len + row->value_len);
    hsm_status st;

    if (key == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for key '%s'", row->obj.label);
    if ((st = make_pkey(t, row, &key->pkey)) != HSM_OK) {
        key_free(key);
        return st;
    }
    key->handle = row->obj.handle;
    key->kind = row->obj.kind;
    key->usage = row->obj.usage;
    memcpy(key->label, row->obj.label, sizeof(key->label));
    memcpy(key->row, aad.ptr, aad.len);
    memcpy(key->row + aad.len, row->value, row->value_len);
    key->row_len = aad.len + row->value_len;
    *out = key;
    return HSM_OK;
}

static bool row_unchanged(const struct soft_key *key, const struct soft_row *row, struct hsm_bytes aad)
{
    return key->row_len == aad.len + row->value_len && memcmp(key->row, aad.ptr, aad.len) == 0 &&
           memcmp(key->row + aad.len, row->value, row->value_len) == 0;
}

/* The cached key if its row is still the same, else NULL and it is gone from the cache. */
static struct soft_key *revalidate(struct soft_token *t, hsm_handle handle, const struct soft_row *row,
                                   struct hsm_bytes aad, uint32_t counter)
{
    struct soft_key *key, *doomed = NULL;

    (void)pthread_mutex_lock(&t->cache.lock);
    key = find_key(&t->cache, handle);
    if (key != NULL && row != NULL && row_unchanged(key, row, aad)) {
        key->counter = counter;
        use_key(&t->cache, key);
    } else if (key != NULL) {
        doomed = remove_key(&t->cache, key);
        key = NULL;
    }
    (void)pthread_mutex_unlock(&t->cache.lock);
    key_free(doomed);
    return key;
}

/* Within a read transaction: row and counter belong together. */
static hsm_status load_in_transaction(struct soft_token *t, hsm_handle handle, struct soft_row *row,
                                      struct soft_key **key)
{
    uint8_t buf[SOFT_AAD_MAX];
    struct hsm_buf a = { buf, sizeof(buf), 0 };
    struct hsm_bytes aad;
    uint32_t counter;
    hsm_status st;

    if ((st = soft_store_object(t, handle, true, row)) != HSM_OK) {
        if (st == HSM_ERR_NO_OBJECT)
            (void)revalidate(t, handle, NULL, (struct hsm_bytes){ NULL, 0 }, 0);
        return st;
    }
    if (row->obj.cls != HSM_CLASS_KEY)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", row->obj.label, t->where);
    if (!soft_store_counter_locked(t, &counter))
        return hsm_fail(HSM_ERR_TOKEN_IO, "cannot read the header of %s", t->where);
    soft_object_aad(t, &row->obj, &a);
    aad = (struct hsm_bytes){ a.ptr, a.len };
    if ((*key = revalidate(t, handle, row, aad, counter)) != NULL)
        return HSM_OK;
    if ((st = new_key(t, row, aad, key)) != HSM_OK)
        return st;
    (*key)->counter = counter;
    (*key)->refs = 1;
    (void)pthread_mutex_lock(&t->cache.lock);
    link_first(&t->cache, *key);
    (void)pthread_mutex_unlock(&t->cache.lock);
    return HSM_OK;
}

/* The first signature leaves the key in more places than its making. */
static void hide_once(struct soft_key *key)
{
    if ((key->kind.type == HSM_KEY_RSA || key->kind.type == HSM_KEY_RSA_PSS) &&
        !atomic_load_explicit(&key->hidden, memory_order_relaxed) && !atomic_exchange(&key->hidden, true))
        soft_hide_rsa(key->pkey, &key->kind);
}

static hsm_status load_key(struct soft_token *t, hsm_handle handle, struct soft_key **key)
{
    struct soft_row row = { .value = NULL };
    hsm_status st;

    soft_sql_lock(t);
    if ((st = soft_store_begin(t, false)) == HSM_OK)
        st = load_in_transaction(t, handle, &row, key);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    soft_row_clear(&row);
    if (st == HSM_OK)
        soft_cache_shrink(&t->cache, KEYS_MAX);
    return st;
}

/* The key as its row says now. @p mech: NULL if no context is wanted */
static hsm_status ready_key(struct soft_token *t, hsm_handle handle, const struct hsm_mech *mech,
                            struct soft_key **key, struct soft_op **op)
{
    uint32_t counter;
    hsm_status st;

    if ((st = soft_check_file(t, false)) != HSM_OK)
        return st;
    if (soft_store_counter(t, &counter) && (*key = cached_key(t, handle, mech, counter, op)) != NULL)
        return HSM_OK;
    return load_key(t, handle, key);
}

static struct mech_key asked_key(const struct soft_token *t, const struct soft_key *key)
{
    return (struct mech_key){ &key->kind, key->usage, key->label, t->where };
}

hsm_status soft_key_hold(struct soft_token *t, hsm_handle handle, struct soft_held *held)
{
    struct soft_op *none = NULL;
    struct soft_key *key = NULL;
    hsm_status st = ready_key(t, handle, NULL, &key, &none);

    if (st == HSM_OK)
        *held = (struct soft_held){ key, key->pkey, asked_key(t, key) };
    return st;
}

void soft_key_release(struct soft_token *t, struct soft_held *held, bool used)
{
    if (held->key == NULL)
        return;
    if (used)
        hide_once(held->key);
    release_key(t, held->key, NULL);
    held->key = NULL;
}

/* ---- mechanisms -----------------------------------------------------------------------------------------
 */

/* Only what a context depends on, so that as few as possible are needed. */
static struct hsm_mech context_mech(const struct hsm_mech *mech)
{
    struct hsm_mech m = { .type = mech->type };

    if (mech->type == HSM_MECH_RSA_PKCS1 || mech->type == HSM_MECH_RSA_PSS)
        m.hash = mech->hash;
    if (mech->type == HSM_MECH_RSA_PSS) {
        m.mgf1_hash = mech_mgf1(mech);
        m.salt_len = mech->salt_len;
    }
    return m;
}

/* ---- signing --------------------------------------------------------------------------------------------
 */

static OSSL_PARAM text_param(const char *name, const char *value)
{
    return OSSL_PARAM_construct_utf8_string(name, (char *)(uintptr_t)value, 0); /* only read */
}

static bool init_pctx(struct soft_op *op, OSSL_LIB_CTX *libctx, EVP_PKEY *pkey)
{
    OSSL_PARAM params[6], *p = params;
    int salt_len = (int)op->mech.salt_len; /* libcrypto takes it as int or text, not as unsigned */

    if (op->mech.type == HSM_MECH_RSA_RAW)
        *p++ = text_param(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PKEY_RSA_PAD_MODE_NONE);
    if (op->mech.type == HSM_MECH_RSA_PKCS1)
        *p++ = text_param(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PKEY_RSA_PAD_MODE_PKCSV15);
    if (op->mech.type == HSM_MECH_RSA_PSS)
        *p++ = text_param(OSSL_SIGNATURE_PARAM_PAD_MODE, OSSL_PKEY_RSA_PAD_MODE_PSS);
    if (op->mech.hash != HSM_HASH_NONE) {
        *p++ = text_param(OSSL_SIGNATURE_PARAM_DIGEST, hsm_hash_name(op->mech.hash));
        *p++ = text_param(OSSL_SIGNATURE_PARAM_PROPERTIES, PROPQ);
    }
    if (op->mech.type == HSM_MECH_RSA_PSS) {
        *p++ = text_param(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, hsm_hash_name(op->mech.mgf1_hash));
        *p++ = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt_len);
    }
    *p = OSSL_PARAM_construct_end();
    op->pctx = EVP_PKEY_CTX_new_from_pkey(libctx, pkey, PROPQ);
    return op->pctx != NULL && EVP_PKEY_sign_init_ex(op->pctx, params) == 1;
}

static bool init_mctx(struct soft_op *op, OSSL_LIB_CTX *libctx, EVP_PKEY *pkey)
{
    op->mctx = EVP_MD_CTX_new();
    return op->mctx != NULL && EVP_DigestSignInit_ex(op->mctx, NULL, NULL, libctx, PROPQ, pkey, NULL) == 1;
}

static hsm_status new_op(struct soft_token *t, const struct soft_key *key, const struct hsm_mech *mech,
                         struct soft_op **out)
{
    struct soft_op *op = calloc(1, sizeof(*op));
    char what[sizeof(t->where) + 400];

    if (op == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory signing with '%s'", key->label);
    op->mech = *mech;
    if (mech->type == HSM_MECH_EDDSA ? init_mctx(op, t->libctx, key->pkey)
                                     : init_pctx(op, t->libctx, key->pkey)) {
        *out = op;
        return HSM_OK;
    }
    op_free(op);
    (void)snprintf(what, sizeof(what), "key '%s' on %s cannot sign in this way", key->label, t->where);
    return hsm_crypto_fail(HSM_ERR_MECH, what);
}

/* Newer releases of libcrypto finish a message context with its first signature, so that it must be started
 * again. */
static bool sign_message(struct soft_token *t, struct soft_op *op, struct hsm_bytes in, uint8_t *sig,
                         size_t *len)
{
    static const uint8_t none[1];

    if (op->used && atomic_load_explicit(&t->restart_messages, memory_order_relaxed) &&
        EVP_DigestSignInit_ex(op->mctx, NULL, NULL, NULL, NULL, NULL, NULL) != 1)
        return false;
    return EVP_DigestSign(op->mctx, sig, len, in.len > 0 ? in.ptr : none, in.len) == 1;
}

static bool run_op(struct soft_token *t, struct soft_op *op, struct hsm_bytes in, struct hsm_buf *out)
{
    size_t len = out->cap;

    if (op->mctx != NULL ? !sign_message(t, op, in, out->ptr, &len)
                         : EVP_PKEY_sign(op->pctx, out->ptr, &len, in.ptr, in.len) != 1)
        return false;
    op->used = true;
    out->len = len;
    return true;
}

/* A context that was used before and fails now may be at fault itself: once more with a new one. */
static hsm_status sign_with(struct soft_token *t, const struct soft_key *key, const struct hsm_mech *mech,
                            struct hsm_bytes in, struct hsm_buf *out, struct soft_op **op)
{
    char what[sizeof(t->where) + 400];
    hsm_status st;

    if (*op != NULL) {
        if (run_op(t, *op, in, out))
            return HSM_OK;
        if ((*op)->mctx != NULL)
            atomic_store_explicit(&t->restart_messages, true, memory_order_relaxed);
        op_free(*op);
        *op = NULL;
    }
    if ((st = new_op(t, key, mech, op)) != HSM_OK)
        return st;
    if (run_op(t, *op, in, out))
        return HSM_OK;
    op_free(*op);
    *op = NULL;
    (void)snprintf(what, sizeof(what), "key '%s' on %s cannot sign this", key->label, t->where);
    return hsm_crypto_fail(mech->type == HSM_MECH_RSA_RAW ? HSM_ERR_DATA : HSM_ERR_CRYPTO, what);
}

hsm_status soft_sign(struct hsm_token *tok, hsm_handle handle, const struct hsm_mech *mech,
                     struct hsm_bytes in, struct hsm_buf *out)
{
    struct soft_token *t = soft_of(tok);
    struct hsm_mech m = context_mech(mech);
    struct soft_key *key = NULL;
    struct soft_op *op = NULL;
    struct mech_key asked;
    hsm_status st;

    (void)ERR_set_mark(); /* the error queue is the application's: what went wrong goes into our line */
    if ((st = ready_key(t, handle, &m, &key, &op)) == HSM_OK) {
        asked = asked_key(t, key);
        if ((st = mech_check_sign(&asked, mech, in.len, out->cap)) == HSM_OK &&
            (st = sign_with(t, key, &m, in, out, &op)) == HSM_OK)
            hide_once(key);
        release_key(t, key, op);
    }
    (void)ERR_pop_to_mark();
    return st;
}
