/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Private to the simulator's lower half: bus, faults, trace, T=1 target, card manager and its arithmetic. One
 * process is one bus with one chip, so counters, faults and the trace are the program's own state.
 */
#ifndef SIM_LOWER_H
#define SIM_LOWER_H

#include "sim.h"

#include <stdio.h>

enum {
    SW_OK = 0x9000,
    SW_LENGTH = 0x6700,
    SW_SECURITY = 0x6982,
    SW_CONDITIONS = 0x6985,
    SW_BLOCKED = 0x6986,
    SW_SM_INCORRECT = 0x6988,
    SW_DATA = 0x6A80,
    SW_NO_FILE = 0x6A82,
    SW_P1P2 = 0x6A86,
    SW_NOT_FOUND = 0x6A88,
    SW_INS = 0x6D00,
    SW_CLA = 0x6E00
};

/* ---- trace.c: counters, names of commands, the log file --------------------------------------------- */

struct sim_stats {
    uint64_t messages, writes, reads; /* I2C messages to the chip, acknowledged or not; acknowledged ones */
    uint64_t nacks, data_nacks, disturbed; /* by kind of refusal */
    uint64_t bytes_out, bytes_in;          /* data bytes of acknowledged messages, host to chip and back */
    uint64_t bits;                         /* bit times on the wire, refused addresses included */
    uint64_t bus_us, chip_us;              /* at the bus speed given (or 100 kHz); modelled computing time */
    uint64_t blocks_in, blocks_out, bad_blocks; /* T=1 blocks; those that failed a check */
    uint64_t wtx, resyncs, resets, power_cuts, empty_frames, repeated_starts;
    uint64_t apdus, faults, other_messages;
};
extern struct sim_stats sim_stats;

bool trace_open(const char *path);
void trace_close(void);
void trace_flush(void);
/** @param now_us  0: now */
void trace_bytes(uint64_t now_us, const char *what, const uint8_t *ptr, size_t len, const char *note);
void trace_note(uint64_t now_us, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Count one command by its innermost name and remember it for "apdus N". */
void stats_apdu(const struct sim_apdu *apdu, bool in_session, uint16_t sw, uint64_t chip_us);
/** Everything counted, one "name: value" a line. */
void stats_print(FILE *out);
/** The last @p n commands, oldest first, one a line: name, status word, chip time in microseconds. */
void stats_print_recent(FILE *out, size_t n);
void stats_clear(void);
const char *apdu_name(const struct sim_apdu *apdu);

/* ---- fault.c ---------------------------------------------------------------------------------------- */

enum fault_kind {
    FAULT_NACK,
    FAULT_NACK_STORM,
    FAULT_BITFLIP,
    FAULT_BAD_CRC,
    FAULT_DROP_ANSWER,
    FAULT_DUPLICATE_ANSWER,
    FAULT_TRUNCATE_ANSWER,
    FAULT_WRONG_NS,
    FAULT_R_ERROR,
    FAULT_RESET_AT_BYTE,
    FAULT_POWER_CUT_AT_BYTE,
    FAULT_POWER_CUT_IN_APDU,
    FAULT_STUCK_BUSY,
    FAULT_STUCK_LOW,
    FAULT_SLOW_WTX,
    FAULT_LATE_BOOT,
    FAULT_EMPTY_FRAME_HANG,
    FAULT_REPEAT_OLD_NS,
    FAULT_KINDS
};

/** When a fault that takes the chip away gives it back: whichever is set; all zero means on command only. */
struct fault_end {
    uint64_t polls, ms;
};

/** Parse "name[=value][@rule[+rule...]],..." and arm it. @return NULL, or what is wrong with it */
const char *fault_add(const char *spec);
void fault_clear(void);
void fault_print(FILE *out);
void fault_print_grammar(FILE *out);
/** One opportunity. @return whether the fault happens now */
bool fault_strikes(enum fault_kind kind);
/** Bytes @p count pass now. @return 0, or the position (1..count) after which the fault strikes */
size_t fault_at_byte(enum fault_kind kind, size_t count);
uint64_t fault_value(enum fault_kind kind);
struct fault_end fault_ends(enum fault_kind kind);
/** Flip bits of @p ptr at the rate of "bitflip". */
void fault_flip(uint8_t *ptr, size_t len);
uint32_t fault_random(uint32_t below); /* reproducible, by "seed=" */

/* ---- personality.c ---------------------------------------------------------------------------------- */

enum { SCP_KEY_MAX = 32 };
struct scp_keys {
    uint8_t version;
    size_t len; /* 16, 24 or 32 */
    uint8_t enc[SCP_KEY_MAX], mac[SCP_KEY_MAX], dek[SCP_KEY_MAX];
};

const struct sim_personality *personality_find(const char *name);
void personality_print(FILE *out);
/** Default keys published for a part ("SE050E", "A921", "devkit"). */
bool personality_keys(const char *part, struct scp_keys *keys);
bool personality_keys_by_oef(uint16_t oef_id, struct scp_keys *keys);
/** Three lines "ENC hex", "MAC hex", "DEK hex". @return NULL, or what is wrong */
const char *keys_read_file(const char *path, struct scp_keys *keys);
/** @return number of bytes, or -1 */
int hex_decode(const char *text, uint8_t *out, size_t max);

/* ---- secure.c: the arithmetic of SCP03 -------------------------------------------------------------- */

enum scp_state { SCP_CLOSED, SCP_BEGUN, SCP_OPEN };
enum { SCP_C_MAC = 0x01, SCP_C_DEC = 0x02, SCP_R_MAC = 0x10, SCP_R_ENC = 0x20, SCP_ALL = 0x33 };

struct scp {
    enum scp_state state;
    uint8_t level;
    bool every_command_counts;
    size_t key_len;
    uint8_t enc[SCP_KEY_MAX], mac[SCP_KEY_MAX], rmac[SCP_KEY_MAX];
    uint8_t mcv[16], host_cryptogram[8];
    uint64_t counter, reply_counter;
};

/** AES-CMAC over up to four pieces. */
bool aes_cmac(const uint8_t *key, size_t key_len, const struct sim_bytes *parts, size_t count,
              uint8_t mac[16]);
bool aes_block(const uint8_t *key, size_t key_len, bool encrypt, const uint8_t in[16], uint8_t out[16]);
void scp_close(struct scp *s);
/** INITIALIZE UPDATE: session keys and both cryptograms. */
bool scp_begin(struct scp *s, const struct scp_keys *keys, const uint8_t host[8], const uint8_t card[8],
               uint8_t card_cryptogram[8]);
/** EXTERNAL AUTHENTICATE. @return 9000; the channel is closed otherwise */
uint16_t scp_authenticate(struct scp *s, const struct sim_apdu *apdu);
/** Session keys from a master secret (ECKey sessions); the channel is open with counter 1. */
bool scp_from_master(struct scp *s, const uint8_t master[16]);
/** Check, decrypt and replace @p apdu by the command as it was before wrapping, which lies in @p plain.
 *  @return 9000; the channel is closed otherwise */
uint16_t scp_unwrap(struct scp *s, struct sim_apdu *apdu, uint8_t plain[SIM_APDU_MAX]);
/** Encrypt and authenticate the data of a successful answer in place. */
bool scp_wrap(struct scp *s, struct sim_out *out, uint16_t sw);
bool scp_key_check_value(const uint8_t *key, size_t len, uint8_t kcv[3]);

/* ---- card.c and session.c --------------------------------------------------------------------------- */

enum { SESSIONS_MAX = 2 };

struct session {
    bool used, authenticated;
    uint8_t id[8];
    uint32_t auth_id;
    enum sim_auth_kind kind;
    struct scp scp;
    bool limited_apdus, limited_time, may_refresh;
    uint32_t apdus_left;
    uint64_t ends_us;
};

enum selected { SELECTED_NONE, SELECTED_ISD, SELECTED_SSD, SELECTED_APPLET };

struct card {
    const struct sim_personality *personality;
    struct applet *applet;
    struct scp_keys keys;
    bool fixed, scp_required;
    uint8_t fixed_challenge[8];
    enum selected selected;
    struct scp scp;
    struct session sessions[SESSIONS_MAX];
    uint64_t time_us;          /* of the command in progress */
    struct sim_apdu innermost; /* for the statistics: the command inside all wrappings */
    bool in_session;
};

/** AID of the IoT applet. */
extern const uint8_t iot_aid[16];

void card_fix_challenge(struct card *c, const uint8_t *challenge); /* NULL: random again */
bool card_challenge(struct card *c, uint8_t challenge[8]);
/** "select=3000": override one time of the card manager. @return false if unknown */
bool card_set_time(const char *assignment);
void card_print_times(void);
enum card_time {
    TIME_SELECT,
    TIME_INIT_UPDATE,
    TIME_EXTERNAL_AUTH,
    TIME_MESSAGING,
    TIME_PUT_KEY,
    TIME_SESSION,
    TIME_USERID,
    TIME_ECKEY,
    TIME_GET_DATA,
    CARD_TIMES
};
void card_spend(struct card *c, enum card_time what);
/** Parse any Lc/Le form of section 2.4. @return 9000 or 6700 */
uint16_t apdu_parse(const uint8_t *cmd, size_t len, struct sim_apdu *apdu);
/** The command of one caller in the applet, sessions included. */
uint16_t card_applet_command(struct card *c, const struct sim_caller *caller, const struct sim_apdu *apdu,
                             struct sim_out *out);
bool tlv_next(struct sim_bytes *in, unsigned tag, struct sim_bytes *value);
bool out_put(struct sim_out *out, const void *ptr, size_t len);
bool out_tlv(struct sim_out *out, uint8_t tag, const void *ptr, size_t len); /* three-byte length form */

void sessions_close_all(struct card *c);
bool is_session_command(const struct sim_apdu *apdu);
uint16_t session_create(struct card *c, const struct sim_apdu *apdu, struct sim_out *out);
uint16_t session_process(struct card *c, bool outer_secure, const struct sim_apdu *apdu, struct sim_out *out);

/* ---- t1.c, beyond sim.h ----------------------------------------------------------------------------- */

/** @param hz  0: messages take no time.  @param busy_nacks  polls refused after each APDU, instead of a clock
 */
void t1_target_set_timing(struct t1_target *t, uint32_t hz, bool chip_timing, unsigned busy_nacks);
/** An address byte alone. @return whether it is acknowledged; counts as a poll */
bool t1_target_listens(struct t1_target *t, bool reading, uint64_t now_us);
/** Whether a fault took the power during the last command (once). */
bool t1_target_lost_power(struct t1_target *t);
uint16_t t1_crc(const uint8_t *ptr, size_t len);
uint64_t wire_us(uint32_t hz, size_t bytes); /* one message; 0 bytes: a refused address */
size_t t1_atr(const struct sim_personality *personality, uint8_t atr[64]);

/* ---- bus.c ------------------------------------------------------------------------------------------ */

enum bus_status { BUS_ACK = 0, BUS_NACK = 1, BUS_DATA_NACK = 2, BUS_DISTURBED = 3 };
enum { BUS_MESSAGE_MAX = 65535, BUS_OTHERS_MAX = 8 };

struct bus_message {
    bool read, no_stop;
    unsigned address;
    size_t len;
};

struct bus;
struct bus *bus_new(struct t1_target *chip, unsigned address, uint32_t hz); /* and power on */
void bus_free(struct bus *b);
bool bus_add_other(struct bus *b, unsigned address);
/** One message at @p now_us. @p data is sent or filled. @p took_us: how long it occupies the bus */
enum bus_status bus_transfer(struct bus *b, const struct bus_message *m, uint8_t *data, uint64_t now_us,
                             uint64_t *took_us);
void bus_chip_reset(struct bus *b, uint64_t now_us);
void bus_power(struct bus *b, bool on, uint64_t now_us);
/** Text command of a control connection; the answer goes to @p out. @return whether it was understood */
bool bus_control(struct bus *b, struct card *card, const char *command, FILE *out, uint64_t now_us);

/* ---- server.c, selftest.c --------------------------------------------------------------------------- */

uint64_t clock_us(void); /* monotonic */
/** Serve @p path until SIGTERM or SIGINT. @return exit status */
int server_run(const char *path, struct bus *b, struct card *card);
int self_test(void);

#endif
