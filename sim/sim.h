/* SPDX-License-Identifier: Apache-2.0 */
/**
 * se05x-sim: an SE05x as its host sees it, written from the protocol reference. Shares no source with the
 * driver.
 *
 * main.c (options), server.c (socket) -> bus.c (addresses, bus time, faults, trace) -> t1.c (T=1 target) ->
 * card.c (card manager: SELECT, PlatformSCP03, sessions, PROCESS, key rotation; secure.c is its arithmetic)
 * -> applet.c and ins_*.c (the IoT applet's commands) -> store.c (secure objects, policies, memory, NVM
 * file). Cryptography is libcrypto's.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_APDU_MAX = 2048 };

/** What a part is; chosen by --applet. */
struct sim_personality {
    const char *name; /* "3.1.1", "7.2.0", "7.2.0-se050e", "3.6.0-se050f" */
    uint8_t version[3];
    uint16_t config; /* AppletConfig bits */
    uint16_t secure_box;
    bool v7;                   /* >= 4.4 behaviour */
    bool every_command_counts; /* SCP03 counter rule of >= 4.3 */
    size_t random_max;
    uint32_t persistent_free, transient_reset_free, transient_deselect_free; /* bytes, of a fresh part */
    const char *historical;                                                  /* ATR text */
    uint16_t oef_id;
    bool platform_scp_required;
};

struct sim_bytes {
    const uint8_t *ptr;
    size_t len;
};

/** An answer under construction: data only, the status word travels beside it. */
struct sim_out {
    uint8_t data[SIM_APDU_MAX];
    size_t len;
};

/** A parsed command APDU. */
struct sim_apdu {
    uint8_t cla, ins, p1, p2;
    struct sim_bytes data;
    struct sim_bytes whole; /* header, Lc as sent, data; without Le: what attestation hashes */
};

/** On whose behalf a command runs. */
struct sim_caller {
    uint32_t auth_id; /* 0: no session */
    bool secure;      /* command MAC and encryption were in force (REQUIRE_SM) */
    bool in_session;
};

/* ---- applet.c: implemented over store.c and ins_*.c
 * -------------------------------------------------------- */

struct applet;

/** @param nvm_path  file that keeps persistent state; NULL: none. Created if missing. @return NULL with a
 * line on stderr */
struct applet *applet_new(const struct sim_personality *personality, const char *nvm_path);
void applet_free(struct applet *a);
/** Deselected or reset: transient values, crypto objects' state and (on reset) RAM are gone. */
void applet_deselected(struct applet *a);
void applet_reset(struct applet *a);
/**
 * One applet command (not the session commands, which card.c handles). Persistent effects are on disk, whole
 * or not at all, when this returns.
 * @param time_us  out: how long a real chip would compute (--chip-timing; table overridable by
 * applet_set_time())
 * @return status word
 */
uint16_t applet_command(struct applet *a, const struct sim_caller *caller, const struct sim_apdu *apdu,
                        struct sim_out *out, uint64_t *time_us);
/** "ecdsa-p256=103000" (microseconds): override one entry. @return false if unknown */
bool applet_set_time(struct applet *a, const char *assignment);
/** "all commands and names of the time table", for --help and documentation: prints one per line. */
void applet_print_times(void);

/** Authentication objects, for card.c. */
enum sim_auth_kind { SIM_AUTH_NONE, SIM_AUTH_USERID, SIM_AUTH_AES, SIM_AUTH_EC };
struct sim_auth_object {
    enum sim_auth_kind kind;
    uint8_t value[133]; /* UserID, AES key (16), or EC public point */
    size_t len;
    bool locked; /* attempts used up */
};
bool applet_auth_object(struct applet *a, uint32_t id, struct sim_auth_object *out);
/** Count a failed attempt, or clear the counter after a success. Persistent. */
void applet_auth_attempt(struct applet *a, uint32_t id, bool success);
/** Private key 7FFF0201 for ECKey sessions: ECDH with a 65-byte point into 32 bytes. */
bool applet_eckey_ecdh(struct applet *a, const uint8_t point[65], uint8_t secret[32]);
/** Small persistent facts of the card manager (platform keys after rotation, platform-SCP flag), by name. */
bool applet_nvm_get(struct applet *a, const char *name, void *value, size_t *len);
bool applet_nvm_put(struct applet *a, const char *name, const void *value, size_t len);

/* ---- card.c
 * -------------------------------------------------------------------------------------------------- */

struct card;
struct scp_keys; /* lower.h */
/** @param keys  of a fresh part; rotated ones in the NVM win.
 *  @param fixed_challenge  8 bytes used as every card challenge (self-test, traces), or NULL */
struct card *card_new(const struct sim_personality *personality, struct applet *applet,
                      const struct scp_keys *keys, const uint8_t *fixed_challenge);
void card_free(struct card *c);
void card_reset(struct card *c); /* power, chip reset, interface soft reset */
/** One command APDU in any Lc/Le form; @p rsp gets data and status word. @return its length */
size_t card_apdu(struct card *c, const uint8_t *cmd, size_t len, uint8_t rsp[SIM_APDU_MAX + 2],
                 uint64_t *time_us);

/* ---- t1.c
 * ------------------------------------------------------------------------------------------------------ */

struct t1_target;
struct t1_target *t1_target_new(const struct sim_personality *personality, struct card *card);
void t1_target_free(struct t1_target *t);
void t1_target_power_on(struct t1_target *t); /* also: card_reset() */
/** One I2C write. @return false: NACK (busy) */
bool t1_target_write(struct t1_target *t, const uint8_t *data, size_t len, uint64_t now_us);
/** One I2C read of @p len bytes. @return false: NACK (busy, or nothing to say) */
bool t1_target_read(struct t1_target *t, uint8_t *data, size_t len, uint64_t now_us);

#endif
