/* SPDX-License-Identifier: Apache-2.0 */
/** What the files of hsm_core/ share. Drivers see only include/hsm/. */
#ifndef HSM_INTERNAL_H
#define HSM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "hsm/driver.h"

enum { TOKENS_MAX = 16, CONFIG_NAME_MAX = 64 };

/** One configured token. */
struct token_config {
    char name[CONFIG_NAME_MAX];
    struct hsm_token_spec spec;
    char pin_source[512]; /* "" = none */
    char *env_pin;        /* what `env:NAME` held at init, HSM_PIN_MAX + 1 bytes of secret memory; or NULL */
};

enum log_target { LOG_NOWHERE, LOG_TO_SYSLOG, LOG_TO_STDERR, LOG_TO_FILE };

/** Key and value as they were set, and, after hsm_config_finish(), what they mean. */
struct hsm_config {
    struct config_item {
        char *key, *value;
    } * items;
    size_t item_count;
    struct token_config tokens[TOKENS_MAX];
    size_t token_count;
    bool finished;
    enum log_target log_target;
    enum hsm_log_level log_level;
    char log_path[512];
};

/** A PIN that a person gave while a key was loaded; survives fork. Never freed before the context (readers
 * take no lock). */
struct given_pin {
    struct given_pin *previous;
    size_t len;
    uint8_t pin[HSM_PIN_MAX];
};

/** One configured token as one process sees it. */
struct hsm_slot {
    struct hsm_ctx *ctx;
    size_t index;
    atomic_uint logins;                /* that succeeded */
    pthread_mutex_t open_lock;         /* opening and logging in */
    pthread_mutex_t call_lock;         /* calls of a driver that is not concurrent */
    _Atomic(struct hsm_token *) token; /* NULL: not opened yet */
    struct hsm_token *retired[8];      /* vanished tokens that a slower thread may still be using */
    size_t retired_count;
    uint8_t *rejected_pin; /* secret memory; the last PIN that the token refused */
    size_t rejected_len;
    unsigned rejected_tries; /* tries left after it was refused */
};

/** What one process opened. The parent's stays in memory after fork, but is never used again. */
struct process {
    pid_t pid;
    struct process *parent;
    size_t slot_count;
    struct hsm_slot slots[];
};

struct hsm_ctx {
    struct hsm_config *cfg;
    _Atomic(struct ossl_lib_ctx_st *) libctx;
    _Atomic(struct process *) process;
    _Atomic(struct given_pin *) given[TOKENS_MAX];
    hsm_prompt_fn *prompt;
    void *prompt_arg;
};

/* slot.c */
struct process *process_get(struct hsm_ctx *ctx); /* this process's; NULL: out of memory */
hsm_status slot_token(struct hsm_slot *slot, struct hsm_token **tok);
/** Take a vanished token out of use, so that the next slot_token() opens anew. */
void slot_retire(struct hsm_slot *slot, struct hsm_token *tok);
/** Log in with the PIN of @p uri (may be NULL), else one that was given, else the configured source.
 *  @param seen  slot->logins before the call that asked for a login; if it has grown since, there is nothing
 * to do */
hsm_status slot_login(struct hsm_slot *slot, struct hsm_token *tok, const struct hsm_uri *uri, unsigned seen);
void slot_forget_rejected(struct hsm_slot *slot);

/* config.c */
void config_log_only(
    struct hsm_config *cfg); /* whatever is wrong with it: no tokens, and the log if that part is right */

/* hsm.c */
hsm_status token_login(struct hsm_token *tok, enum hsm_role role,
                       struct hsm_bytes pin); /* nothing but the driver's call */
hsm_status token_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech, struct hsm_bytes in,
                      struct hsm_buf *sig, const struct hsm_uri *uri);
/** Without a call of the driver if it has none for this. */
hsm_status token_sign_message(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                              struct hsm_bytes in, struct hsm_buf *sig, const struct hsm_uri *uri);
hsm_status token_derive(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                        struct hsm_bytes peer, struct hsm_buf *secret, const struct hsm_uri *uri);
hsm_status token_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                         struct hsm_bytes in, struct hsm_buf *plain, const struct hsm_uri *uri);

/* pin.c */
/** A source that does not depend on a person: false for `prompt`. */
bool pin_source_is_prompt(const char *source);
hsm_status pin_source_check(const char *source);

/* drivers/registry.c */
const struct hsm_driver *driver_find(const char *name);
const char *driver_names(void); /* "soft, se05x", for error lines */

#endif
