/* SPDX-License-Identifier: Apache-2.0 */
/* The driver table, and the life of an open token. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

enum { LOOK_EVERY_MS = 250 };

/* ---- fork -----------------------------------------------------------------------------------------------
 */

/*
 * SQLite keeps per file and process which locks it holds, and a forked child inherits that knowledge but not
 * the locks. So a fork waits until no thread is inside SQLite: then nothing is locked and the child starts
 * with the truth.
 */
static pthread_mutex_t open_tokens_lock = PTHREAD_MUTEX_INITIALIZER;
static struct soft_token *open_tokens;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    struct soft_token *t;

    (void)pthread_mutex_lock(&open_tokens_lock);
    for (t = open_tokens; t != NULL; t = t->next)
        soft_sql_lock(t);
}

static void after_fork(void)
{
    struct soft_token *t;

    for (t = open_tokens; t != NULL; t = t->next)
        soft_sql_unlock(t);
    (void)pthread_mutex_unlock(&open_tokens_lock);
}

/* The parent's tokens are not this process's; the core abandons them. */
static void after_fork_in_child(void)
{
    after_fork();
    open_tokens = NULL;
}

static void watch_forks(void)
{
    (void)pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static void register_token(struct soft_token *t)
{
    (void)pthread_once(&fork_once, watch_forks);
    (void)pthread_mutex_lock(&open_tokens_lock);
    t->next = open_tokens;
    open_tokens = t;
    (void)pthread_mutex_unlock(&open_tokens_lock);
}

static void unregister_token(struct soft_token *t)
{
    struct soft_token **at;

    (void)pthread_mutex_lock(&open_tokens_lock);
    for (at = &open_tokens; *at != NULL && *at != t; at = &(*at)->next)
        ;
    if (*at != NULL)
        *at = t->next;
    (void)pthread_mutex_unlock(&open_tokens_lock);
}

/* ---- small things ---------------------------------------------------------------------------------------
 */

int64_t soft_now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Absolute, because a daemon changes its directory; links are not followed, because one may be pointed
 * elsewhere. */
static hsm_status file_path(const struct hsm_open_args *args, char *out, size_t out_len)
{
    const char *location = args->spec->location;
    char cwd[512];

    if (location[0] == '\0')
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': 'soft:' needs the path of a file", args->name);
    if (args->spec->params[0] != '\0')
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': 'soft:' takes no parameters, but has '%s'", args->name,
                        args->spec->params);
    if (location[0] == '/')
        (void)snprintf(out, out_len, "%s", location);
    else if (getcwd(cwd, sizeof(cwd)) == NULL)
        return hsm_fail(HSM_ERR_TOKEN_IO, "token '%s' (%s): no current directory: %s", args->name, location,
                        strerror(errno));
    else
        (void)snprintf(out, out_len, "%s/%s", cwd, location);
    return HSM_OK;
}

static void note_file(struct soft_token *t)
{
    struct stat sb;

    /* A path that cannot be seen any more (chroot, dropped privileges) says nothing about the open file. */
    if (stat(t->path, &sb) == 0 && (sb.st_dev != t->dev || sb.st_ino != t->ino))
        atomic_store_explicit(&t->gone, true, memory_order_relaxed);
}

hsm_status soft_check_file(struct soft_token *t, bool now)
{
    int64_t ms = soft_now_ms(), looked = atomic_load_explicit(&t->looked_ms, memory_order_relaxed);

    if (now || ms - looked >= LOOK_EVERY_MS) {
        atomic_store_explicit(&t->looked_ms, ms, memory_order_relaxed);
        note_file(t);
    }
    if (atomic_load_explicit(&t->gone, memory_order_relaxed))
        return hsm_fail(HSM_ERR_TOKEN_GONE, "%s was replaced by another file", t->where);
    return HSM_OK;
}

/* ---- open and close -------------------------------------------------------------------------------------
 */

void soft_token_free(struct soft_token *t)
{
    if (t == NULL)
        return;
    soft_store_close(t);
    soft_cache_free(&t->cache);
    hsm_secret_free(t->seal_key, SOFT_KEY_LEN);
    EVP_CIPHER_free(t->gcm);
    (void)pthread_mutex_destroy(&t->sql);
    (void)pthread_mutex_destroy(&t->login);
    free(t);
}

hsm_status soft_token_new(const struct hsm_open_args *args, struct soft_token **out)
{
    struct soft_token *t = calloc(1, sizeof(*t));
    hsm_status st;

    if (t == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for token '%s'", args->name);
    (void)pthread_mutex_init(&t->sql, NULL);
    (void)pthread_mutex_init(&t->login, NULL);
    soft_cache_init(&t->cache);
    t->login_fd = -1;
    t->libctx = args->libctx;
    t->looked_ms = soft_now_ms();
    if ((st = file_path(args, t->path, sizeof(t->path))) == HSM_OK &&
        (t->gcm = EVP_CIPHER_fetch(t->libctx, "AES-256-GCM", "provider=default")) == NULL)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "no AES-256-GCM in libcrypto's default provider");
    if (st != HSM_OK) {
        soft_token_free(t);
        return st;
    }
    (void)snprintf(t->where, sizeof(t->where), "token '%.64s' (%s)", args->name, t->path);
    *out = t;
    return HSM_OK;
}

static hsm_status soft_open(const struct hsm_open_args *args, struct hsm_token **tok)
{
    struct soft_token *t = NULL;
    hsm_status st;

    if ((st = soft_token_new(args, &t)) != HSM_OK)
        return st;
    register_token(t); /* first, so that no fork happens while SQLite opens the file */
    soft_sql_lock(t);
    st = soft_store_open(t);
    soft_sql_unlock(t);
    if (st != HSM_OK) {
        unregister_token(t);
        soft_token_free(t);
        return st;
    }
    t->base.driver = &hsm_driver_soft;
    *tok = &t->base;
    return HSM_OK;
}

static void soft_close(struct hsm_token *tok)
{
    struct soft_token *t = soft_of(tok);

    unregister_token(t);
    soft_token_free(t);
}

/*
 * SQLite's connection and the EVP_PKEYs are leaked: freeing them could wait for a lock that a thread of the
 * parent held. Their descriptors are close-on-exec. libcrypto's heap for secrets is the child's own copy from
 * now on; keys in it are unreachable, not cleansed.
 */
static void soft_abandon(struct hsm_token *tok)
{
    struct soft_token *t = soft_of(tok);

    if (t->seal_key != NULL)
        hsm_cleanse(t->seal_key, SOFT_KEY_LEN);
    if (t->login_fd >= 0)
        (void)close(t->login_fd); /* without unlocking: the lock is the parent's */
    t->login_fd = -1;
}

/* ---- the rest of the table ------------------------------------------------------------------------------
 */

static void fill_pins(struct hsm_token_info *info, const struct soft_pin *user, const struct soft_pin *so)
{
    info->machine_pin = user->params.kdf == SOFT_KDF_HKDF;
    info->pin_tries_left = user->tries_left;
    info->pin_tries_max = user->tries_max;
    info->pin_locked = user->tries_left == 0;
    info->so_tries_left = so->tries_left;
    info->so_locked = so->tries_left == 0;
}

static hsm_status soft_info(struct hsm_token *tok, struct hsm_token_info *info)
{
    struct soft_token *t = soft_of(tok);
    struct soft_pin user, so;
    hsm_status st;
    size_t i;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    memset(info, 0, sizeof(*info));
    soft_sql_lock(t);
    if ((st = soft_store_pin(t, HSM_ROLE_USER, &user)) == HSM_OK)
        st = soft_store_pin(t, HSM_ROLE_SO, &so);
    info->logged_in = t->seal_key != NULL;
    soft_sql_unlock(t);
    if (st != HSM_OK)
        return st;
    fill_pins(info, &user, &so);
    (void)snprintf(info->driver, sizeof(info->driver), "%s", hsm_driver_soft.name);
    (void)snprintf(info->location, sizeof(info->location), "%.*s", (int)sizeof(info->location) - 1, t->path);
    memcpy(info->label, t->label, sizeof(info->label));
    for (i = 0; i < SOFT_UUID_LEN; i++)
        (void)snprintf(info->serial + 2 * i, 3, "%02x", t->uuid[i]);
    info->format_version = SOFT_FORMAT;
    info->writable = soft_store_writable(t);
    info->initialised = true;
    (void)snprintf(info->model, sizeof(info->model), "software token, format %d", SOFT_FORMAT);
    return HSM_OK;
}

static hsm_status soft_random(struct hsm_token *tok, struct hsm_buf *out)
{
    hsm_status st = HSM_OK;

    if (out->cap > 0 && (st = soft_random_bytes(soft_of(tok)->libctx, out->ptr, out->cap)) == HSM_OK)
        out->len = out->cap;
    return st;
}

const struct hsm_driver hsm_driver_soft = {
    .name = "soft",
    .concurrent = true,
    .open = soft_open,
    .close = soft_close,
    .abandon = soft_abandon,
    .create = soft_create,
    .info = soft_info,
    .login = soft_login,
    .pin_change = soft_pin_change,
    .pin_unblock = soft_pin_unblock,
    .enumerate = soft_enumerate,
    .generate = soft_generate,
    .import = soft_import,
    .export_private = soft_export_private,
    .put = soft_put,
    .get = soft_get,
    .destroy = soft_destroy,
    .sign = soft_sign,
    .derive = soft_derive,
    .decrypt = soft_decrypt,
    .random = soft_random,
    .counter_create = soft_counter_create,
    .counter_get = soft_counter_get,
    .counter_increment = soft_counter_increment,
};
