/* SPDX-License-Identifier: Apache-2.0 */
/** What channel.c, session.c and rotate.c share; nobody else includes it. */
#ifndef SE05X_CHANNEL_H
#define SE05X_CHANNEL_H

#include "internal.h"

enum {
    SW_OK = 0x9000,
    SW_THROTTLED = 0x66a6,
    SW_SECURITY = 0x6982,
    SW_BLOCKED = 0x6983,
    SW_CONDITIONS = 0x6985,
    SW_NOT_ALLOWED = 0x6986,
    SW_NO_KEY_SET = 0x6a88
};

/** An authenticated session on the chip; gone when the epoch is. */
struct se05x_session {
    struct se05x_credential cred;
    uint64_t epoch; /* 0: not open */
    uint8_t id[SE05X_SESSION_ID_LEN];
    struct scp03 *scp; /* AES only */
};

/* All in secret memory. */
struct se05x_channel {
    /* PlatformSCP03 */
    bool secured, public_keys; /* configured; with keys that everybody knows */
    struct scp03_keys keys;
    char key_source[400]; /* for error lines */
    struct scp03 *platform;
    enum scp03_counter_rule rule;
    bool wrapping; /* the platform channel is open: everything goes through it */

    /* where we stand */
    uint64_t owner; /* our name among processes */
    uint64_t epoch; /* in which we selected the applet, or joined somebody who had */
    bool stale;     /* begin with a SELECT, whatever the link says */
    bool fresh;     /* the applet was selected during this attempt */
    bool caps_known;
    bool answered;  /* the chip has executed a command without PlatformSCP03 */
    bool contended; /* another process has opened a secure channel after ours */

    /* the operation under way */
    enum se05x_delivery delivery; /* of the last APDU */
    bool resent;                  /* the link has perhaps sent it twice */
    bool again;                   /* it failed, and beginning again may help */
    bool throttled;               /* the chip wants a pause */
    bool maybe_executed;
    unsigned recoveries;

    struct se05x_session sessions[2], candidate;
    struct {
        uint8_t inner[SE05X_APDU_MAX], wrapped[SE05X_APDU_MAX],
            process[SE05X_APDU_MAX]; /* inside a session */
        uint8_t apdu[SE05X_APDU_MAX], wire[SE05X_APDU_MAX];
        uint8_t answer[SE05X_APDU_MAX], plain[SE05X_APDU_MAX], inner_plain[SE05X_APDU_MAX];
    } work;
};

/** One piece of work: called again from its beginning while it fails with channel->again or ->throttled set.
 */
typedef hsm_status se05x_step_fn(struct se05x_token *t, void *arg);
/** Lock held around all of it. */
HSM_MUST_USE hsm_status channel_run(struct se05x_token *t, se05x_step_fn *step, void *arg);

/** Applet selected, PlatformSCP03 open if configured. */
HSM_MUST_USE hsm_status channel_up(struct se05x_token *t);
/** Nothing but our own state: is channel_up() without work to do? */
bool channel_is_up(struct se05x_token *t);
/** SELECT by name (empty: the card manager) outside any channel; the applet and all channels are gone after
 * it. */
HSM_MUST_USE hsm_status channel_select(struct se05x_token *t, struct hsm_bytes aid, struct hsm_bytes *data,
                                       uint16_t *sw);
/** Open a secure channel with channel->keys to what is selected. HSM_ERR_DENIED: the chip has other keys. */
HSM_MUST_USE hsm_status channel_authenticate(struct se05x_token *t);
/**
 * One APDU through PlatformSCP03 if it is open. On failure channel->delivery tells whether it may have been
 * executed, and channel->again whether the link is in order again.
 * @param expect  bytes of plain answer data, 0 if unknown
 * @param data    out: borrowed until the next APDU
 */
HSM_MUST_USE hsm_status channel_send(struct se05x_token *t, enum se05x_time time, struct hsm_bytes apdu,
                                     size_t expect, struct hsm_bytes *data, uint16_t *sw);
/** Encode into channel->work.apdu and send. */
HSM_MUST_USE hsm_status channel_send_apdu(struct se05x_token *t, enum se05x_time time,
                                          const struct apdu *apdu, size_t expect, struct hsm_bytes *data,
                                          uint16_t *sw);
/** Does a secure object exist? Asks the chip. */
HSM_MUST_USE hsm_status channel_object_exists(struct se05x_token *t, uint32_t id, bool *exists);
/** The line for a status word that nobody expected; notes a pause the chip wants. */
hsm_status channel_refused(struct se05x_token *t, uint16_t sw, const char *what);
/** Bytes of plain data after secure messaging, MAC included. */
size_t channel_wrapped_len(size_t len);

/** The session of a role, open. HSM_ERR_PIN_REQUIRED; HSM_ERR_PIN_LOCKED */
HSM_MUST_USE hsm_status session_up(struct se05x_token *t, enum se05x_auth role);
/** One command in the role's open session. */
HSM_MUST_USE hsm_status session_send(struct se05x_token *t, enum se05x_auth role, const struct se05x_cmd *cmd,
                                     struct hsm_bytes *data, uint16_t *sw);
/** Close what is open, if that needs no more than a command each. Lock held. */
void sessions_close(struct se05x_token *t);
void sessions_abandon(struct se05x_channel *ch);

#endif
