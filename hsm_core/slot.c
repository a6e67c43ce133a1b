/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts, and the tokens that each process opened through them.
 *
 * Fork: struct process is found through ctx->process and belongs to one pid. The first call in a child sees a
 * foreign pid, puts a new struct process in its place without taking a lock (a thread that no longer exists
 * may hold it), and abandons the parent's tokens. Old ones stay in memory until the context is freed, so a
 * pointer to one never becomes a pointer to another.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "hsm/secret.h"
#include "internal.h"

hsm_status hsm_ctx_new(struct hsm_config *cfg, struct hsm_ctx **ctx)
{
    struct hsm_ctx *c;

    if (!cfg->finished)
        return hsm_fail(HSM_ERR_ARGUMENT, "the configuration is not finished");
    if ((c = calloc(1, sizeof(*c))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a context");
    c->cfg = cfg;
    *ctx = c;
    return HSM_OK;
}

hsm_status hsm_ctx_new_for_log(struct hsm_config *cfg, struct hsm_ctx **ctx)
{
    config_log_only(cfg);
    return hsm_ctx_new(cfg, ctx);
}

void hsm_ctx_set_prompt(struct hsm_ctx *ctx, hsm_prompt_fn *fn, void *arg)
{
    ctx->prompt = fn;
    ctx->prompt_arg = arg;
}

/* ---- processes ----------------------------------------------------------------------------------------- */

/* Recursive: whoever is handed objects by hsm_find() may call back. */
static void init_call_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(lock, &attr);
    (void)pthread_mutexattr_destroy(&attr);
}

static struct process *process_new(struct hsm_ctx *ctx, pid_t pid)
{
    size_t i, count = ctx->cfg->token_count;
    struct process *p = calloc(1, sizeof(*p) + count * sizeof(p->slots[0]));

    if (p == NULL)
        return NULL;
    p->pid = pid;
    p->slot_count = count;
    for (i = 0; i < count; i++) {
        p->slots[i].ctx = ctx;
        p->slots[i].index = i;
        (void)pthread_mutex_init(&p->slots[i].open_lock, NULL);
        init_call_lock(&p->slots[i].call_lock);
    }
    return p;
}

static void abandon_parent(struct process *parent)
{
    size_t i, k;

    for (i = 0; parent != NULL && i < parent->slot_count; i++) {
        struct hsm_slot *slot = &parent->slots[i];
        struct hsm_token *tok = atomic_load(&slot->token);

        if (tok != NULL)
            tok->driver->abandon(tok);
        for (k = 0; k < slot->retired_count; k++)
            slot->retired[k]->driver->abandon(slot->retired[k]);
        if (slot->rejected_pin != NULL)
            hsm_cleanse(slot->rejected_pin, HSM_PIN_MAX);
    }
}

struct process *process_get(struct hsm_ctx *ctx)
{
    pid_t pid = getpid();
    struct process *p = atomic_load_explicit(&ctx->process, memory_order_acquire), *fresh;

    if (p != NULL && p->pid == pid)
        return p;
    if ((fresh = process_new(ctx, pid)) == NULL)
        return NULL;
    fresh->parent = p;
    if (!atomic_compare_exchange_strong(&ctx->process, &p, fresh)) {
        free(fresh);
        return p; /* another thread of this process was faster */
    }
    abandon_parent(fresh->parent);
    return fresh;
}

/* Only the process that opened a token talks to it; for all others it was abandoned, or is abandoned now. */
static void process_free(struct process *p, bool own)
{
    size_t i, k;

    for (i = 0; i < p->slot_count; i++) {
        struct hsm_slot *slot = &p->slots[i];
        struct hsm_token *tok = atomic_load(&slot->token);

        if (own && tok != NULL)
            tok->driver->close(tok);
        for (k = 0; own && k < slot->retired_count; k++)
            slot->retired[k]->driver->close(slot->retired[k]);
        hsm_secret_free(slot->rejected_pin, HSM_PIN_MAX);
        if (own) {
            (void)pthread_mutex_destroy(&slot->open_lock);
            (void)pthread_mutex_destroy(&slot->call_lock);
        }
    }
    free(p);
}

void hsm_ctx_free(struct hsm_ctx *ctx)
{
    struct process *p, *parent;
    struct given_pin *given, *previous;
    pid_t pid = getpid();
    size_t i;

    if (ctx == NULL)
        return;
    p = atomic_load(&ctx->process);
    if (p != NULL && p->pid != pid)
        abandon_parent(p);
    for (; p != NULL; p = parent) {
        parent = p->parent;
        process_free(p, p->pid == pid);
    }
    for (i = 0; i < TOKENS_MAX; i++)
        for (given = atomic_load(&ctx->given[i]); given != NULL; given = previous) {
            previous = given->previous;
            hsm_secret_free(given, sizeof(*given));
        }
    OSSL_LIB_CTX_free(atomic_load(&ctx->libctx));
    hsm_config_free(ctx->cfg);
    free(ctx);
}

struct ossl_lib_ctx_st *hsm_ctx_libctx(struct hsm_ctx *ctx)
{
    OSSL_LIB_CTX *libctx = atomic_load_explicit(&ctx->libctx, memory_order_acquire), *expected = NULL;

    if (libctx != NULL)
        return libctx;
    if ((libctx = OSSL_LIB_CTX_new()) ==
        NULL) /* with no provider loaded by hand, default is there by itself */
        return NULL;
    if (!atomic_compare_exchange_strong(&ctx->libctx, &expected, libctx)) {
        OSSL_LIB_CTX_free(libctx);
        libctx = expected;
    }
    return libctx;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

size_t hsm_token_count(struct hsm_ctx *ctx)
{
    return ctx->cfg->token_count;
}

const char *hsm_token_name(struct hsm_ctx *ctx, size_t index)
{
    return index < ctx->cfg->token_count ? ctx->cfg->tokens[index].name : NULL;
}

const struct hsm_token_spec *hsm_token_spec(struct hsm_ctx *ctx, size_t index)
{
    return index < ctx->cfg->token_count ? &ctx->cfg->tokens[index].spec : NULL;
}

static hsm_status open_args(struct hsm_ctx *ctx, size_t index, const struct hsm_driver **driver,
                            struct hsm_open_args *args)
{
    const struct token_config *t = &ctx->cfg->tokens[index];

    *args = (struct hsm_open_args){ &t->spec, t->name, hsm_ctx_libctx(ctx) };
    if (args->libctx == NULL)
        return hsm_fail(HSM_ERR_CRYPTO, "no OpenSSL library context can be made");
    if ((*driver = driver_find(t->spec.driver)) == NULL)
        return hsm_fail(HSM_ERR_NO_TOKEN, "token '%s': there is no driver '%s' in this build; it has: %s",
                        t->name, t->spec.driver, driver_names());
    return HSM_OK;
}

static hsm_status open_locked(struct hsm_slot *slot, struct hsm_token **tok)
{
    const struct hsm_driver *driver;
    struct hsm_open_args args;
    hsm_status st;

    if ((*tok = atomic_load(&slot->token)) != NULL)
        return HSM_OK;
    if ((st = open_args(slot->ctx, slot->index, &driver, &args)) != HSM_OK ||
        (st = driver->open(&args, tok)) != HSM_OK)
        return st;
    (*tok)->driver = driver;
    (*tok)->slot = slot;
    atomic_store(&slot->token, *tok);
    return HSM_OK;
}

hsm_status slot_token(struct hsm_slot *slot, struct hsm_token **tok)
{
    hsm_status st;

    if ((*tok = atomic_load_explicit(&slot->token, memory_order_acquire)) != NULL)
        return HSM_OK;
    (void)pthread_mutex_lock(&slot->open_lock);
    st = open_locked(slot, tok);
    (void)pthread_mutex_unlock(&slot->open_lock);
    return st;
}

void slot_retire(struct hsm_slot *slot, struct hsm_token *tok)
{
    struct hsm_token *oldest = NULL;
    const size_t max = sizeof(slot->retired) / sizeof(slot->retired[0]);

    (void)pthread_mutex_lock(&slot->open_lock);
    if (atomic_load(&slot->token) == tok) {
        atomic_store(&slot->token, NULL);
        if (slot->retired_count == max) { /* by now nobody is still inside the oldest */
            oldest = slot->retired[0];
            memmove(&slot->retired[0], &slot->retired[1], (max - 1) * sizeof(slot->retired[0]));
            slot->retired_count--;
        }
        slot->retired[slot->retired_count++] = tok;
    }
    (void)pthread_mutex_unlock(&slot->open_lock);
    if (oldest != NULL)
        oldest->driver->close(oldest);
}

hsm_status hsm_token_get(struct hsm_ctx *ctx, size_t index, struct hsm_token **tok)
{
    struct process *p = process_get(ctx);

    if (p == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a process");
    if (index >= p->slot_count)
        return hsm_fail(HSM_ERR_NO_TOKEN, "there is no token number %zu in the configuration", index);
    return slot_token(&p->slots[index], tok);
}

static bool label_matches(struct hsm_token *tok, const char *name)
{
    struct hsm_token_info info;

    return hsm_token_info(tok, &info) == HSM_OK && strcmp(info.label, name) == 0;
}

hsm_status hsm_token_find(struct hsm_ctx *ctx, const char *name, struct hsm_token **tok)
{
    size_t i, count = hsm_token_count(ctx);
    hsm_status st = HSM_OK;

    if (name == NULL || *name == '\0')
        return hsm_token_get(ctx, 0, tok);
    for (i = 0; i < count; i++)
        if (strcmp(hsm_token_name(ctx, i), name) == 0)
            return hsm_token_get(ctx, i, tok);
    for (i = 0; i < count; i++) {
        hsm_status one = hsm_token_get(ctx, i, tok);

        if (one == HSM_OK && label_matches(*tok, name))
            return HSM_OK;
        if (one != HSM_OK)
            st = one; /* its line explains why the name may be unknown */
    }
    return st != HSM_OK ? st
                        : hsm_fail(HSM_ERR_NO_TOKEN,
                                   "no configured token is called '%s', nor has that label; see "
                                   "`hsmctl token list`",
                                   name);
}

hsm_status hsm_token_create(struct hsm_ctx *ctx, size_t index, const struct hsm_token_init *init)
{
    const struct hsm_driver *driver;
    struct hsm_open_args args;
    struct process *p = process_get(ctx);
    struct hsm_token *old;
    hsm_status st;

    if (p == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a process");
    if (index >= p->slot_count)
        return hsm_fail(HSM_ERR_NO_TOKEN, "there is no token number %zu in the configuration", index);
    if ((st = open_args(ctx, index, &driver, &args)) != HSM_OK)
        return st;
    if (driver->create == NULL)
        return hsm_fail(HSM_ERR_UNSUPPORTED, "a token of driver '%s' cannot be initialised from here",
                        driver->name);
    if ((st = driver->create(&args, init)) == HSM_OK && (old = atomic_load(&p->slots[index].token)) != NULL)
        slot_retire(&p->slots[index], old);
    return st;
}

/* ---- login --------------------------------------------------------------------------------------------- */

struct pin_choice {
    uint8_t pin[HSM_PIN_MAX];
    size_t len;
};

static void take_pin(struct pin_choice *choice, const void *pin, size_t len)
{
    memcpy(choice->pin, pin, len);
    choice->len = len;
}

/* First to last: the URI's own, one that a person gave, the configured source. */
static hsm_status choose_pin(struct hsm_slot *slot, const struct hsm_uri *uri, struct pin_choice *choice)
{
    const struct token_config *t = &slot->ctx->cfg->tokens[slot->index];
    const struct given_pin *given = atomic_load(&slot->ctx->given[slot->index]);
    struct hsm_buf buf = { choice->pin, sizeof(choice->pin), 0 };
    const char *source = uri != NULL && uri->pin_source[0] != '\0' ? uri->pin_source : t->pin_source;
    hsm_status st;

    if (uri != NULL && uri->has_pin_value) {
        take_pin(choice, uri->pin_value, strlen(uri->pin_value));
        return HSM_OK;
    }
    if (source == t->pin_source && given != NULL) {
        take_pin(choice, given->pin, given->len);
        return HSM_OK;
    }
    if (source == t->pin_source && t->env_pin != NULL) {
        take_pin(choice, t->env_pin, strlen(t->env_pin));
        return HSM_OK;
    }
    if (source[0] == '\0')
        return hsm_fail(HSM_ERR_PIN_REQUIRED,
                        "token '%s' (%s:%s) needs its PIN: set `pin-source = file:PATH` in the hsm "
                        "section of openssl.cnf, or HSM_PIN_SOURCE",
                        t->name, t->spec.driver, t->spec.location);
    if (pin_source_is_prompt(source) && slot->ctx->prompt != NULL)
        st = slot->ctx->prompt(slot->ctx->prompt_arg, t->name, HSM_ROLE_USER, &buf);
    else
        st = hsm_pin_read(NULL, source, HSM_ROLE_USER, &buf);
    choice->len = buf.len;
    return st;
}

static unsigned tries_left(struct hsm_token *tok)
{
    struct hsm_token_info info;

    return hsm_token_info(tok, &info) == HSM_OK ? info.pin_tries_left : 0;
}

/* A PIN that the token refused is not tried again by itself, unless somebody has logged in or unblocked
 * since. */
static bool was_rejected(struct hsm_slot *slot, struct hsm_token *tok, const struct pin_choice *choice)
{
    return slot->rejected_pin != NULL && slot->rejected_len == choice->len &&
           CRYPTO_memcmp(slot->rejected_pin, choice->pin, choice->len) == 0 &&
           tries_left(tok) <= slot->rejected_tries;
}

static void remember_rejected(struct hsm_slot *slot, struct hsm_token *tok, const struct pin_choice *choice)
{
    if (slot->rejected_pin == NULL && (slot->rejected_pin = hsm_secret_alloc(HSM_PIN_MAX)) == NULL)
        return;
    memcpy(slot->rejected_pin, choice->pin, choice->len);
    slot->rejected_len = choice->len;
    slot->rejected_tries = tries_left(tok);
}

static hsm_status login_with(struct hsm_slot *slot, struct hsm_token *tok, const struct pin_choice *choice)
{
    const char *name = slot->ctx->cfg->tokens[slot->index].name;
    char line[400];
    hsm_status st;

    if (was_rejected(slot, tok, choice))
        return hsm_fail(HSM_ERR_PIN_INCORRECT,
                        "token '%s': the same wrong PIN is not tried again; correct its source, "
                        "or check it with `hsmctl doctor`",
                        name);
    st = token_login(tok, HSM_ROLE_USER, (struct hsm_bytes){ choice->pin, choice->len });
    if (st == HSM_ERR_PIN_INCORRECT) {
        (void)snprintf(line, sizeof(line), "%s", hsm_error_text(st)); /* info() below may replace it */
        remember_rejected(slot, tok, choice);
        return hsm_fail(st, "%s", line);
    }
    return st;
}

hsm_status slot_login(struct hsm_slot *slot, struct hsm_token *tok, const struct hsm_uri *uri, unsigned seen)
{
    struct pin_choice *choice;
    hsm_status st;

    if (tok->driver->login == NULL)
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "token '%s' has no PIN to log in with",
                        slot->ctx->cfg->tokens[slot->index].name);
    if ((choice = hsm_secret_alloc(sizeof(*choice))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a PIN");
    (void)pthread_mutex_lock(&slot->open_lock);
    if (atomic_load(&slot->logins) != seen)
        st = HSM_OK; /* another thread was faster, and stretching a PIN is slow */
    else if ((st = choose_pin(slot, uri, choice)) == HSM_OK && (st = login_with(slot, tok, choice)) == HSM_OK)
        atomic_fetch_add(&slot->logins, 1);
    (void)pthread_mutex_unlock(&slot->open_lock);
    hsm_secret_free(choice, sizeof(*choice));
    return st;
}

void slot_forget_rejected(struct hsm_slot *slot)
{
    (void)pthread_mutex_lock(&slot->open_lock);
    hsm_secret_free(slot->rejected_pin, HSM_PIN_MAX);
    slot->rejected_pin = NULL;
    (void)pthread_mutex_unlock(&slot->open_lock);
}
