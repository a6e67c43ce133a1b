/* SPDX-License-Identifier: Apache-2.0 */
/**
 * NXP EdgeLock SE05x. Bottom up: link.c moves APDUs over T=1 and owns the lock between processes; channel.c
 * brings the applet up (SELECT, PlatformSCP03) and keeps it up, session.c does so for the sessions of the two
 * roles; scp03.c is the pure secure-messaging arithmetic; keyfile.c reads the static keys; rotate.c changes
 * them; command.c holds one function per applet command; record.c is the byte form of our directory records
 * (pure); directory.c, create.c, pin.c, object.c, sign.c, derive.c, decrypt.c are the token on top of it;
 * driver.c is the table.
 */
#ifndef SE05X_INTERNAL_H
#define SE05X_INTERNAL_H

#include <openssl/types.h>

#include "apdu.h"
#include "hsm/driver.h"
#include "hsm/pubkey.h"
#include "hsm/secret.h"
#include "transport.h"

enum {
    SE05X_APDU_MAX = 1100, /* bytes of the longest command or answer on the link, secure messaging included */
    SE05X_DATA_MAX = 889,  /* bytes of plain command data that every applet takes in one APDU */
    SE05X_AES_KEY_MAX = 32,
    SE05X_CHALLENGE_LEN = 8,
    SE05X_SESSION_ID_LEN = 8
};

/** How long the chip will take; link.c learns the figures and polls accordingly. One class per kind of work.
 */
enum se05x_time {
    SE05X_TIME_SHORT, /* reads, random, session handling */
    SE05X_TIME_WRITE, /* NVM writes */
    SE05X_TIME_EC_SMALL,
    SE05X_TIME_EC_LARGE, /* up to 256 bits, above */
    SE05X_TIME_ED25519,
    SE05X_TIME_X25519,
    SE05X_TIME_EC_GENERATE,
    SE05X_TIME_RSA2048,
    SE05X_TIME_RSA3072,
    SE05X_TIME_RSA4096,
    SE05X_TIME_RSA_PUBLIC,
    SE05X_TIME_RSA_GENERATE,
    SE05X_TIME_SYMMETRIC,
    SE05X_TIME_COUNT
};

/* ---- link.c: APDUs over T=1, one process at a time ------------------------------------------------------
 */

/** What is known about a command whose exchange failed. */
enum se05x_delivery { SE05X_NOT_EXECUTED, SE05X_MAYBE_EXECUTED, SE05X_ANSWERED };

struct se05x_link;

/** Opens the transport that @p spec names ("/dev/i2c-3?addr=0x48..." or "unix:/path"); nothing is sent.
 *  Parameters: addr, ena-gpio, timeout (ms an operation may take beyond what the chip asks for; default
 * 3000), lock-dir (of the state shared between processes), end-session (yes: tell the chip on closing that it
 * may sleep). */
HSM_MUST_USE hsm_status se05x_link_open(const struct hsm_open_args *args, struct se05x_link **out);
/** Sends nothing but, with end-session=yes and if this process was the last user, END OF APDU SESSION. */
void se05x_link_close(struct se05x_link *link);
void se05x_link_abandon(struct se05x_link *link);

/**
 * Take the chip for this process, for one or several exchanges; counts, so calls may nest. Waits for other
 * processes up to the time-out (HSM_ERR_BUSY names the holder's pid if known). Brings the T=1 state up
 * (RESYNCH, draining what a dead predecessor left) if needed.
 */
HSM_MUST_USE hsm_status se05x_link_lock(struct se05x_link *link);
void se05x_link_unlock(struct se05x_link *link);
/** Changes whenever, by anybody, the applet was selected or the chip was reset: then sessions and channels
 * opened under another epoch are gone. 0: the applet is not selected. Lock held. */
uint64_t se05x_link_epoch(struct se05x_link *link);
/** Tell that the applet has just been selected (true: a new epoch begins) or is surely not selected any more.
 */
void se05x_link_set_selected(struct se05x_link *link, bool selected);
/** A value shared by all processes for the present epoch, for the channel layer: whose secure channel is
 * open. 0 after every new epoch. */
uint64_t se05x_link_channel_owner(struct se05x_link *link);
void se05x_link_set_channel_owner(struct se05x_link *link, uint64_t owner);

/**
 * One command APDU, one answer. Lock held.
 * @param answer  out: data and status word; cap >= SE05X_APDU_MAX
 * @param expect  bytes of the answer if known (status word included), 0 if not: saves a second read
 * @param delivery  out: on failure, whether the chip may have executed it. On success SE05X_ANSWERED; but
 *                  SE05X_MAYBE_EXECUTED if it went out more than once, and the chip may have been reset in
 * between: then a status word that speaks of a lost session does not prove that nothing happened
 * @return HSM_ERR_TOKEN_IO with a line that names bus and cause; the link is then in need of
 * se05x_link_recover()
 */
HSM_MUST_USE hsm_status se05x_link_exchange(struct se05x_link *link, enum se05x_time time,
                                            struct hsm_bytes command, size_t expect, struct hsm_buf *answer,
                                            enum se05x_delivery *delivery);
/** Climb the ladder: RESYNCH; interface soft reset; chip reset or enable pin. Ends with a link in step and
 * the applet deselected, or HSM_ERR_TOKEN_IO. Bounded by the time-out. @p hard: begin with a reset. */
HSM_MUST_USE hsm_status se05x_link_recover(struct se05x_link *link, bool hard);
/** Counters for measurements: messages, NACKed polls, bytes each way, APDUs, microseconds asleep. */
struct se05x_link_stats {
    uint64_t writes, reads, nacks, bytes_out, bytes_in, apdus, sleep_us, resynchs, resets;
};
void se05x_link_get_stats(const struct se05x_link *link, struct se05x_link_stats *stats);
const char *se05x_link_name(const struct se05x_link *link);
/** The ATR, read once per process: cap >= 64. */
HSM_MUST_USE hsm_status se05x_link_atr(struct se05x_link *link, struct hsm_buf *atr);

/* ---- scp03.c: secure messaging, pure but for libcrypto's AES and CMAC ------------------------------------
 */

enum scp03_counter_rule {
    SCP03_EVERY_COMMAND, /* applet >= 4.3, and every AESKey/ECKey session */
    SCP03_WITH_DATA      /* older applets, PlatformSCP03 */
};
/** Static keys: 16, 24 or 32 bytes each. Secret. */
struct scp03_keys {
    uint8_t enc[SE05X_AES_KEY_MAX], mac[SE05X_AES_KEY_MAX], dek[SE05X_AES_KEY_MAX];
    size_t len;
    uint8_t version; /* key version number, 0x0b on fresh parts */
};
struct scp03; /* one open channel: session keys, MAC chaining value, counter. Secret memory. */

HSM_MUST_USE hsm_status scp03_new(OSSL_LIB_CTX *libctx, enum scp03_counter_rule rule, struct scp03 **out);
void scp03_free(struct scp03 *s); /* cleanses; NULL is allowed */
/** In a forked child: wipe the keys, free nothing. */
void scp03_abandon(struct scp03 *s);
/** The data of INITIALIZE UPDATE's answer (29 or 32 bytes): derive the session keys and check the card
 * cryptogram. HSM_ERR_DENIED if it does not match: the chip has other keys. scp03_authenticate() is possible
 * even then. */
HSM_MUST_USE hsm_status scp03_begin(struct scp03 *s, const struct scp03_keys *keys,
                                    const uint8_t host_challenge[SE05X_CHALLENGE_LEN],
                                    struct hsm_bytes answer);
/** The whole EXTERNAL AUTHENTICATE APDU (no Le). */
HSM_MUST_USE hsm_status scp03_authenticate(struct scp03 *s, uint8_t level, struct hsm_buf *apdu);
/** Wrap / unwrap at level 33. @p command may be any form apdu_parse() takes; @p apdu has its Lc and Le in the
 * same form. */
HSM_MUST_USE hsm_status scp03_wrap(struct scp03 *s, struct hsm_bytes command, struct hsm_buf *apdu);
/** @p answer: as received, status word included; @p plain: data and status word. HSM_ERR_TOKEN_IO if the
 * R-MAC is wrong or missing: the channel is dead. */
HSM_MUST_USE hsm_status scp03_unwrap(struct scp03 *s, struct hsm_bytes answer, struct hsm_buf *plain);
/** AES-ECB encryption of a new key under the current DEK and its check value, for PUT KEY. */
HSM_MUST_USE hsm_status scp03_wrap_key(OSSL_LIB_CTX *libctx, struct hsm_bytes dek, struct hsm_bytes key,
                                       uint8_t *wrapped, uint8_t kcv[3]);

/* ---- keyfile.c --------------------------------------------------------------------------------------------
 */

/**
 * Platform keys from a file: lines `ENC hex`, `MAC hex`, `DEK hex`, optional `VERSION hex`; `#` comments.
 * NXP's EX_SSS_BOOT_SCP03_PATH form is the same. Refused if group or others may read it (HSM_ERR_DENIED says
 * chmod).
 */
HSM_MUST_USE hsm_status scp03_keys_read(const char *path, struct scp03_keys *keys);
/** The same for the text of a file; @p path only for the error line. Pure. */
HSM_MUST_USE hsm_status scp03_keys_parse(struct hsm_bytes text, const char *path, struct scp03_keys *keys);
/** NXP's published keys of one part, by name ("SE050C1") or OEF id; NULL if unknown. They protect against
 * nobody. */
struct scp03_default {
    const char *part;
    uint16_t oef_id;
    uint8_t enc[16], mac[16], dek[16];
};
const struct scp03_default *scp03_default_find(const char *part);
const struct scp03_default *scp03_default_by_oef(uint16_t oef_id);

/* ---- channel.c: the applet, selected and authenticated
 * ----------------------------------------------------- */

struct se05x_caps { /* from the SELECT answer */
    uint8_t version[3];
    uint16_t config;
    bool v7; /* applet >= 4.4: per-curve type codes, attributes, AEAD, 7.x TLVs */
    bool has_ec, has_rsa, has_rsa_crt, has_ed25519, has_x25519, has_hmac, has_aes, fips;
    size_t random_max; /* bytes of one GetRandom */
};

/** Whose rights a command needs. */
enum se05x_auth { SE05X_ANYBODY, SE05X_USER, SE05X_SO };

/** How a role proves itself; kept in secret memory after a login so that a session can be opened again. */
enum se05x_credential_kind { SE05X_CRED_NONE, SE05X_CRED_AES, SE05X_CRED_USERID };
struct se05x_credential {
    enum se05x_credential_kind kind;
    uint32_t auth_id;
    uint8_t value[SE05X_AES_KEY_MAX]; /* AES: the 16-byte key; UserID: 4..16 bytes */
    size_t len;
};

struct se05x_cmd {
    uint8_t ins, p1, p2;
    bool extended;   /* sent with extended Lc and Le ("E" of the command catalogue) */
    bool repeatable; /* executing it twice does no harm: may be sent again after a lost answer */
    enum se05x_auth auth;
    enum se05x_time time;
    struct hsm_bytes data;
    size_t expect; /* plain answer data bytes if known, 0 if not */
};

struct se05x_token;

/**
 * Exchange one applet command: selects the applet, opens PlatformSCP03 and the session that cmd->auth needs
 * if that has not been done in this epoch, wraps, sends, unwraps; after a reset or a lost session it begins
 * again, at most twice, and resends only what is repeatable or surely was not executed.
 * @param answer  out: plain answer data without status word; may be NULL
 * @param sw      out: the status word
 * @return HSM_OK whenever the chip answered, whatever the status word; HSM_ERR_PIN_REQUIRED if cmd->auth was
 * never logged in; HSM_ERR_TOKEN_IO; HSM_ERR_DENIED (platform keys refused)
 */
HSM_MUST_USE hsm_status se05x_exchange(struct se05x_token *t, const struct se05x_cmd *cmd,
                                       struct hsm_buf *answer, uint16_t *sw);
/** After a failed se05x_exchange(): did the chip perhaps execute it? */
bool se05x_maybe_executed(const struct se05x_token *t);

struct se05x_channel;
HSM_MUST_USE hsm_status se05x_channel_open(struct se05x_token *t, const struct hsm_open_args *args);
void se05x_channel_close(struct se05x_token *t);   /* closes sessions if this process still holds them */
void se05x_channel_abandon(struct se05x_token *t); /* wipes, says nothing */
/** For struct hsm_token_info.channel: "plain", "scp03", "scp03 (public keys)"; ", contended" in the
 * parentheses if another process has opened SCP03 channels on this chip since. Static storage. */
const char *se05x_channel_name(const struct se05x_token *t);
/** Prove @p cred now: HSM_ERR_PIN_INCORRECT, HSM_ERR_PIN_LOCKED, HSM_ERR_NO_OBJECT (no such auth object). On
 * success it is remembered for @p role until logout. */
HSM_MUST_USE hsm_status se05x_login(struct se05x_token *t, enum se05x_auth role,
                                    const struct se05x_credential *cred);
void se05x_logout(struct se05x_token *t, enum se05x_auth role);
bool se05x_logged_in(const struct se05x_token *t, enum se05x_auth role);
/** Multi-command work that no other process may interleave; counts. */
HSM_MUST_USE hsm_status se05x_begin(struct se05x_token *t);
void se05x_end(struct se05x_token *t);

/** The card manager below the applet: exact part and OEF id by IDENTIFY. Selects away and back: a new epoch.
 */
HSM_MUST_USE hsm_status se05x_identify(struct se05x_token *t, uint16_t *oef_id);
/** Change the platform keys (PUT KEY in the SSD): irreversible. Writes @p new_key_file first, verifies after.
 * rotate.c */
HSM_MUST_USE hsm_status se05x_rotate_keys(struct se05x_token *t, const char *new_key_file);

/* ---- the token
 * ---------------------------------------------------------------------------------------------- */

struct se05x_directory; /* directory.c: what is known of objects in this process */

struct se05x_token {
    struct hsm_token base;
    char where[200]; /* "token 'board' (/dev/i2c-3)" */
    OSSL_LIB_CTX *libctx;
    struct se05x_link *link;
    struct se05x_channel *channel;
    struct se05x_caps caps;
    struct se05x_directory *directory;
    uint8_t unique_id[18];
};

static inline struct se05x_token *se05x_of(struct hsm_token *tok)
{
    return (struct se05x_token *)(void *)tok;
}

extern const struct hsm_driver hsm_driver_se05x;

#endif
