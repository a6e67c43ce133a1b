/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: who answers to which address, how long a message takes, what disturbs it, and the chip's power. */
#include "lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { OTHER_REGISTERS = 128, WHO_AM_I = 0x0F, WHO_AM_I_VALUE = 0x33, DEFAULT_HZ = 100000 };

/** A register device such as an accelerometer: the first byte of a write is the register, reads go on from
 * there. */
struct other {
    unsigned address;
    uint8_t pointer, registers[OTHER_REGISTERS];
};

struct bus {
    struct t1_target *chip;
    unsigned address;
    uint32_t hz;
    bool powered, hung;   /* hung: erratum I2C.2, until a power cycle */
    struct fault_end off; /* while unpowered: what brings the power back; all 0: a command */
    uint64_t off_until_us;
    uint64_t silent_polls, silent_until_us; /* after power-on */
    uint64_t stuck_until_us;
    unsigned storm_left;
    bool drop_after_start; /* a write without STOP came before: what follows a repeated START is not
                              understood */
    struct other others[BUS_OTHERS_MAX];
    size_t other_count;
};

struct bus *bus_new(struct t1_target *chip, unsigned address, uint32_t hz)
{
    struct bus *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return NULL;
    b->chip = chip;
    b->address = address;
    b->hz = hz;
    bus_power(b, true, clock_us());
    return b;
}

void bus_free(struct bus *b)
{
    free(b);
}

bool bus_add_other(struct bus *b, unsigned address)
{
    struct other *o = &b->others[b->other_count];

    if (b->other_count == BUS_OTHERS_MAX || address == b->address || address > 0x7F)
        return false;
    *o = (struct other){ .address = address };
    o->registers[WHO_AM_I] = WHO_AM_I_VALUE;
    b->other_count++;
    return true;
}

/* ---- power ------------------------------------------------------------------------------------------ */

static void start_chip(struct bus *b, uint64_t now_us)
{
    struct fault_end end = fault_ends(FAULT_LATE_BOOT);

    b->powered = true;
    b->hung = false;
    b->silent_polls = b->silent_until_us = 0;
    if (fault_strikes(FAULT_LATE_BOOT)) {
        b->silent_until_us = now_us + 1000 * fault_value(FAULT_LATE_BOOT);
        b->silent_polls = fault_value(FAULT_LATE_BOOT) == 0 ? end.polls : 0;
    }
    t1_target_power_on(b->chip);
}

void bus_chip_reset(struct bus *b, uint64_t now_us)
{
    sim_stats.resets++;
    trace_note(now_us, "reset");
    start_chip(b, now_us);
}

static void cut_power(struct bus *b, struct fault_end end, uint64_t now_us)
{
    sim_stats.power_cuts++;
    trace_note(now_us, "power off");
    b->powered = false;
    b->off = end;
    b->off_until_us = now_us + 1000 * end.ms;
    t1_target_power_on(b->chip); /* what is volatile is gone at once */
}

void bus_power(struct bus *b, bool on, uint64_t now_us)
{
    if (!on && b->powered)
        cut_power(b, (struct fault_end){ 0, 0 }, now_us);
    else if (!on)
        b->off = (struct fault_end){ 0, 0 };
    else if (!b->powered) {
        trace_note(now_us, "power on");
        start_chip(b, now_us);
    }
}

/* @return whether the chip hears this message */
static bool is_awake(struct bus *b, uint64_t now_us)
{
    if (!b->powered && b->off.ms != 0 && now_us >= b->off_until_us)
        bus_power(b, true, now_us);
    if (!b->powered) {
        if (b->off.polls != 0 && --b->off.polls == 0)
            bus_power(b, true, now_us); /* the next message is heard */
        return false;
    }
    if (b->silent_polls != 0) {
        b->silent_polls--;
        return false;
    }
    return !b->hung && now_us >= b->silent_until_us;
}

/* ---- one message to the chip ------------------------------------------------------------------------ */

static void strike(struct bus *b, enum fault_kind kind, uint64_t now_us)
{
    if (kind == FAULT_RESET_AT_BYTE)
        bus_chip_reset(b, now_us);
    else
        cut_power(b, fault_ends(kind), now_us);
}

/* @return 0, or after which of the @p len bytes power or chip fail, and why */
static size_t byte_fault(size_t len, enum fault_kind *kind)
{
    size_t cut = fault_at_byte(FAULT_POWER_CUT_AT_BYTE, len), reset = fault_at_byte(FAULT_RESET_AT_BYTE, len);

    *kind = cut != 0 && (reset == 0 || cut <= reset) ? FAULT_POWER_CUT_AT_BYTE : FAULT_RESET_AT_BYTE;
    return *kind == FAULT_POWER_CUT_AT_BYTE ? cut : reset;
}

static enum bus_status chip_write(struct bus *b, const struct bus_message *m, uint8_t *data, uint64_t now_us)
{
    enum fault_kind kind;
    size_t at;

    if (!t1_target_listens(b->chip, false, now_us))
        return BUS_NACK;
    at = byte_fault(m->len, &kind);
    if (at != 0 && (at < m->len || fault_random(2) == 0)) {
        strike(b, kind, now_us); /* the block never became whole, or nothing was done about it */
        return at < m->len ? BUS_DATA_NACK : BUS_ACK;
    }
    fault_flip(data, m->len);
    if (!m->no_stop)
        (void)t1_target_write(b->chip, data, m->len, now_us);
    if (at != 0)
        strike(b, kind, now_us);
    else if (t1_target_lost_power(b->chip))
        cut_power(b, fault_ends(FAULT_POWER_CUT_IN_APDU), now_us);
    return BUS_ACK;
}

static enum bus_status chip_read(struct bus *b, const struct bus_message *m, uint8_t *data, uint64_t now_us)
{
    enum fault_kind kind;
    size_t at;

    if (!t1_target_read(b->chip, data, m->len, now_us))
        return BUS_NACK;
    fault_flip(data, m->len);
    at = byte_fault(m->len, &kind);
    if (at != 0) {
        memset(data + at, 0xFF, m->len - at); /* nobody pulls the line low any more */
        strike(b, kind, now_us);
    }
    return BUS_ACK;
}

static bool is_refused(struct bus *b)
{
    if (fault_strikes(FAULT_NACK_STORM))
        b->storm_left = (unsigned)fault_value(FAULT_NACK_STORM);
    if (b->storm_left > 0) {
        b->storm_left--;
        return true;
    }
    return fault_strikes(FAULT_NACK);
}

static enum bus_status empty_frame(struct bus *b, uint64_t now_us)
{
    sim_stats.empty_frames++;
    trace_note(now_us, "empty frame");
    if (!fault_strikes(FAULT_EMPTY_FRAME_HANG))
        return BUS_NACK;
    b->hung = true;
    return BUS_ACK;
}

static enum bus_status chip_message(struct bus *b, const struct bus_message *m, uint8_t *data,
                                    uint64_t now_us)
{
    bool repeated = b->drop_after_start;

    b->drop_after_start = m->no_stop;
    if (m->no_stop)
        sim_stats.repeated_starts++;
    if (!is_awake(b, now_us))
        return BUS_NACK;
    if (m->len == 0)
        return empty_frame(b, now_us);
    if (repeated || is_refused(b))
        return BUS_NACK;
    return m->read ? chip_read(b, m, data, now_us) : chip_write(b, m, data, now_us);
}

/* ---- the others ------------------------------------------------------------------------------------- */

static enum bus_status other_message(struct bus *b, const struct bus_message *m, uint8_t *data)
{
    struct other *o = NULL;

    for (size_t i = 0; i < b->other_count; i++) {
        if (b->others[i].address == m->address)
            o = &b->others[i];
    }
    if (o == NULL)
        return BUS_NACK;
    sim_stats.other_messages++;
    for (size_t i = 0; i < m->len; i++) {
        if (m->read)
            data[i] = o->registers[o->pointer++ % OTHER_REGISTERS];
        else if (i == 0)
            o->pointer = data[0];
        else if (o->pointer % OTHER_REGISTERS != WHO_AM_I)
            o->registers[o->pointer++ % OTHER_REGISTERS] = data[i];
    }
    return BUS_ACK;
}

/* ---- the wire --------------------------------------------------------------------------------------- */

static void count(struct bus *b, const struct bus_message *m, enum bus_status status, bool chip)
{
    bool refused = status == BUS_NACK || (m->len == 0 && status == BUS_ACK);

    if (status != BUS_DISTURBED) {
        sim_stats.bits += refused ? 11 : 9 * (m->len + 1) + 2;
        sim_stats.bus_us += wire_us(b->hz == 0 ? DEFAULT_HZ : b->hz, refused ? 0 : m->len);
    }
    if (!chip)
        return;
    sim_stats.messages++;
    sim_stats.nacks += status == BUS_NACK;
    sim_stats.data_nacks += status == BUS_DATA_NACK;
    sim_stats.disturbed += status == BUS_DISTURBED;
    if (status == BUS_ACK && m->read) {
        sim_stats.reads++;
        sim_stats.bytes_in += m->len;
    } else if (status == BUS_ACK) {
        sim_stats.writes++;
        sim_stats.bytes_out += m->len;
    }
}

static bool is_held_low(struct bus *b, uint64_t now_us)
{
    if (fault_strikes(FAULT_STUCK_LOW))
        b->stuck_until_us = now_us + 1000 * fault_value(FAULT_STUCK_LOW);
    return now_us < b->stuck_until_us;
}

enum bus_status bus_transfer(struct bus *b, const struct bus_message *m, uint8_t *data, uint64_t now_us,
                             uint64_t *took_us)
{
    static const char *const words[] = { "ACK", "NACK", "NACK on data", "bus disturbed" };
    bool chip = m->address == b->address;
    enum bus_status status;
    char what[32];

    snprintf(what, sizeof(what), "%c %02X%s", m->read ? 'R' : 'W', m->address, m->no_stop ? " no-stop" : "");
    if (!m->read && m->len != 0)
        trace_bytes(now_us, what, data, m->len, "");
    if (is_held_low(b, now_us))
        status = BUS_DISTURBED;
    else
        status = chip ? chip_message(b, m, data, now_us) : other_message(b, m, data);
    count(b, m, status, chip);
    *took_us = status == BUS_DISTURBED ? 0 : wire_us(b->hz, status == BUS_NACK ? 0 : m->len);
    trace_bytes(now_us + *took_us, m->read ? what : "  ", data, m->read && status == BUS_ACK ? m->len : 0,
                words[status]);
    return status;
}

/* ---- control ---------------------------------------------------------------------------------------- */

static bool control_challenge(struct card *card, const char *hex)
{
    uint8_t challenge[8];

    if (*hex != '\0' && hex_decode(hex, challenge, sizeof(challenge)) != sizeof(challenge))
        return false;
    card_fix_challenge(card, *hex == '\0' ? NULL : challenge);
    return true;
}

static bool control_fault(const char *spec, FILE *out)
{
    const char *wrong;

    if (strcmp(spec, "clear") == 0) {
        fault_clear();
        return true;
    }
    if (*spec == '\0') {
        fault_print(out);
        return true;
    }
    wrong = fault_add(spec);
    if (wrong != NULL)
        fputs(wrong, out);
    return wrong == NULL;
}

static const char *argument(const char *command, const char *verb)
{
    size_t len = strlen(verb);

    if (strncmp(command, verb, len) != 0 || (command[len] != ' ' && command[len] != '\0'))
        return NULL;
    return command + len + (command[len] == ' ');
}

bool bus_control(struct bus *b, struct card *card, const char *command, FILE *out, uint64_t now_us)
{
    const char *rest;

    if ((rest = argument(command, "fault")) != NULL)
        return control_fault(rest, out);
    if ((rest = argument(command, "challenge")) != NULL)
        return control_challenge(card, rest);
    if ((rest = argument(command, "apdus")) != NULL)
        stats_print_recent(out, *rest == '\0' ? SIZE_MAX : (size_t)strtoul(rest, NULL, 10));
    else if (strcmp(command, "reset") == 0)
        bus_chip_reset(b, now_us);
    else if (strcmp(command, "power-off") == 0)
        bus_power(b, false, now_us);
    else if (strcmp(command, "power-on") == 0)
        bus_power(b, true, now_us);
    else if (strcmp(command, "stats") == 0)
        stats_print(out);
    else if (strcmp(command, "stats-clear") == 0)
        stats_clear();
    else if (strcmp(command, "flush") == 0)
        trace_flush();
    else
        return false;
    return true;
}
