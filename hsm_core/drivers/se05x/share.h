/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What processes on one chip share: a lock, and what is known of the link, so that the next one goes on where
 * the last one stopped. The lock dies with its holder. Other users of the bus may write the shared state:
 * nothing in it is trusted further than a wrong sequence number is.
 */
#ifndef SE05X_SHARE_H
#define SE05X_SHARE_H

#include "internal.h"
#include "pace.h"

/** The shared facts; valid while the lock is held. */
struct share_state {
    uint32_t magic;
    uint32_t dirty; /* an exchange was begun and not ended */
    uint32_t selected;
    uint32_t ns, nr;   /* T=1 sequence numbers */
    uint32_t holder;   /* pid, for error lines */
    uint64_t instance; /* the link that was the last to use the chip */
    uint64_t epoch, channel_owner;
    struct pace_memory time[SE05X_TIME_COUNT];
};

/** The state is read when the lock is taken and written by share_store(); not mapped, as a user of the bus
 * who truncates the file must not bring down the others. */
struct share {
    int lock_fd;  /* not owned; -1: nobody to share with */
    long lock_at; /* byte that is locked; the one behind it is the queue */
    int state_fd; /* -1: not available, nothing is known of others */
    bool own_fd;  /* state_fd is ours to close */
    char path[400];
    struct share_state state;
};

/** @param dir  where the shared file lives; "" tries the usual places. Never fails: without it, link state is
 *  re-established each time. */
void share_open(struct share *s, const struct hsm_transport *t, unsigned addr, const char *dir);
void share_close(struct share *s);
/** HSM_ERR_BUSY, with the holder's pid if known, when @p timeout_ms is over. */
HSM_MUST_USE hsm_status share_lock(struct share *s, struct hsm_transport *t, unsigned timeout_ms);
/** Lock held: let the others see s->state. */
void share_store(struct share *s);
void share_unlock(struct share *s);

/** 64 random bits, never 0. */
uint64_t share_random(void);

#endif
