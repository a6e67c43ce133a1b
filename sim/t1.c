/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The T=1 target of UM11225: one write is one block, answers are a byte stream. It never speaks first; while
 * it computes, or has nothing to say, its address is not acknowledged.
 */
#include "lower.h"

#include <stdlib.h>
#include <string.h>

enum {
    NAD_IN = 0x5A,
    NAD_OUT = 0xA5,
    OVERHEAD = 5,
    INF_MAX = 254,
    BLOCK_MAX = INF_MAX + OVERHEAD,
    PCB_N = 0x40,
    PCB_MORE = 0x20,
    PCB_R = 0x80,
    PCB_R_N = 0x10,
    PCB_S = 0xC0,
    PCB_S_RESPONSE = 0x20,
    R_OK = 0,
    R_CRC = 1,
    R_OTHER = 2,
    S_RESYNCH = 0,
    S_IFS = 1,
    S_ABORT = 2,
    S_WTX = 3,
    S_END = 5,
    S_CHIP_RESET = 6,
    S_ATR = 7,
    S_SOFT_RESET = 15,
    S_POWER_DOWN = 31,
    WTX_MULTIPLIER = 1,
    WTX_PERIOD_US = 950000, /* inside the block waiting time of 1000 ms that the ATR promises */
    FILLER = 0xFF
};

/** What the chip said last, as far as recovery needs to know. */
enum said { SAID_NOTHING, SAID_I, SAID_R, SAID_S };

struct t1_target {
    const struct sim_personality *personality;
    struct card *card;
    uint32_t hz;
    bool chip_timing;
    unsigned busy_nacks;

    bool next_in, next_out; /* N(S) expected of the host; N(S) of our next I-block */
    size_t ifs;             /* longest INF the host takes */
    uint8_t command[SIM_APDU_MAX];
    size_t command_len;
    bool command_too_long;
    uint8_t answer[SIM_APDU_MAX + 2];
    size_t answer_len, answer_sent;

    uint8_t last[BLOCK_MAX], last_i[BLOCK_MAX]; /* blocks as they should have left */
    size_t last_len, last_i_len;
    enum said said;

    uint8_t stream[2 * BLOCK_MAX];
    size_t stream_len, stream_pos;
    uint8_t stale[BLOCK_MAX]; /* fault: comes again before the next answer */
    size_t stale_len;

    bool computing; /* the answer is ready in memory; the clock says when it is ready in the world */
    bool wtx_open;  /* WTX asked, not yet answered */
    uint64_t ready_us, wtx_us;
    unsigned nacks_left, wtx_left;
    bool stuck, lost_power;
};

uint16_t t1_crc(const uint8_t *ptr, size_t len)
{
    uint16_t crc = 0xFFFF;

    for (size_t i = 0; i < len; i++) {
        crc ^= ptr[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0x8408 : crc >> 1);
    }
    return crc ^ 0xFFFF;
}

uint64_t wire_us(uint32_t hz, size_t bytes)
{
    uint64_t bits = bytes == 0 ? 11 : 9 * (uint64_t)(bytes + 1) + 2;

    return hz == 0 ? 0 : (bits * 1000000 + hz - 1) / hz;
}

size_t t1_atr(const struct sim_personality *personality, uint8_t atr[64])
{
    static const uint8_t head[] = { 0x00, 0xA0, 0x00, 0x00, 0x03, 0x96, 0x04, 0x03, 0xE8, 0x00, 0xFE, 0x02,
                                    0x0B, 0x03, 0xE8, 0x08, 0x01, 0x00, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00 };
    size_t text_len = strlen(personality->historical);

    if (text_len > 64 - sizeof(head) - 1)
        text_len = 64 - sizeof(head) - 1;
    memcpy(atr, head, sizeof(head));
    atr[sizeof(head)] = (uint8_t)text_len;
    memcpy(atr + sizeof(head) + 1, personality->historical, text_len);
    return sizeof(head) + 1 + text_len;
}

struct t1_target *t1_target_new(const struct sim_personality *personality, struct card *card)
{
    struct t1_target *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->personality = personality;
    t->card = card;
    t->ifs = INF_MAX;
    return t;
}

void t1_target_free(struct t1_target *t)
{
    free(t);
}

void t1_target_set_timing(struct t1_target *t, uint32_t hz, bool chip_timing, unsigned busy_nacks)
{
    t->hz = hz;
    t->chip_timing = chip_timing;
    t->busy_nacks = busy_nacks;
}

/* Both sequence numbers and everything half done; the applet keeps its state. */
static void link_reset(struct t1_target *t)
{
    t->next_in = t->next_out = false;
    t->command_len = t->answer_len = t->answer_sent = 0;
    t->command_too_long = t->computing = t->wtx_open = false;
    t->nacks_left = t->wtx_left = 0;
    t->last_i_len = 0;
    t->said = SAID_NOTHING;
}

static void drop_output(struct t1_target *t)
{
    t->stream_len = t->stream_pos = 0;
}

void t1_target_power_on(struct t1_target *t)
{
    link_reset(t);
    drop_output(t);
    t->last_len = t->stale_len = 0;
    t->ifs = INF_MAX;
    t->stuck = t->lost_power = false;
    card_reset(t->card);
}

bool t1_target_lost_power(struct t1_target *t)
{
    bool lost = t->lost_power;

    t->lost_power = false;
    return lost;
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static void stream_append(struct t1_target *t, const uint8_t *block, size_t len)
{
    if (len > sizeof(t->stream) - t->stream_len)
        return;
    memcpy(t->stream + t->stream_len, block, len);
    t->stream_len += len;
}

static void set_crc(uint8_t *block, size_t len)
{
    uint16_t crc = t1_crc(block, len - 2);

    block[len - 2] = (uint8_t)crc;
    block[len - 1] = (uint8_t)(crc >> 8);
}

/* Put the last block on the way out, with what may go wrong there. */
static void transmit(struct t1_target *t)
{
    uint8_t block[BLOCK_MAX];
    size_t len = t->last_len;

    sim_stats.blocks_out++;
    memcpy(block, t->last, len);
    drop_output(t);
    if (t->stale_len != 0)
        stream_append(t, t->stale, t->stale_len);
    t->stale_len = 0;
    if (fault_strikes(FAULT_DROP_ANSWER))
        return;
    if (!(block[1] & PCB_R) && fault_strikes(FAULT_WRONG_NS)) {
        block[1] ^= PCB_N;
        set_crc(block, len);
    }
    if (fault_strikes(FAULT_BAD_CRC))
        block[len - 1] ^= 0x80;
    if (fault_strikes(FAULT_DUPLICATE_ANSWER)) {
        memcpy(t->stale, block, len);
        t->stale_len = len;
    }
    if (fault_strikes(FAULT_TRUNCATE_ANSWER))
        len = 1 + fault_random((uint32_t)len - 1);
    stream_append(t, block, len);
}

static void send_block(struct t1_target *t, uint8_t pcb, const uint8_t *inf, size_t len)
{
    t->last[0] = NAD_OUT;
    t->last[1] = pcb;
    t->last[2] = (uint8_t)len;
    if (len != 0)
        memcpy(t->last + 3, inf, len);
    t->last_len = len + OVERHEAD;
    set_crc(t->last, t->last_len);
    t->said = pcb < PCB_R ? SAID_I : pcb < PCB_S ? SAID_R : SAID_S;
    if (t->said == SAID_I) {
        memcpy(t->last_i, t->last, t->last_len);
        t->last_i_len = t->last_len;
    }
    transmit(t);
}

static void send_r(struct t1_target *t, uint8_t error)
{
    if (error != R_OK)
        sim_stats.bad_blocks++;
    send_block(t, (uint8_t)(PCB_R | (t->next_in ? PCB_R_N : 0) | error), NULL, 0);
}

static void send_s(struct t1_target *t, uint8_t code, const uint8_t *inf, size_t len)
{
    send_block(t, (uint8_t)(PCB_S | PCB_S_RESPONSE | code), inf, len);
}

static void send_next_i(struct t1_target *t)
{
    size_t rest = t->answer_len - t->answer_sent, len = rest < t->ifs ? rest : t->ifs;
    uint8_t pcb = (uint8_t)((t->next_out ? PCB_N : 0) | (len < rest ? PCB_MORE : 0));

    send_block(t, pcb, t->answer + t->answer_sent, len);
    t->answer_sent += len;
    t->next_out = !t->next_out;
}

static void send_wtx_request(struct t1_target *t)
{
    static const uint8_t multiplier = WTX_MULTIPLIER;

    t->wtx_open = true;
    sim_stats.wtx++;
    send_block(t, PCB_S | S_WTX, &multiplier, 1);
}

static void repeat(struct t1_target *t, const uint8_t *block, size_t len)
{
    memmove(t->last, block, len);
    t->last_len = len;
    t->said = block[1] < PCB_R ? SAID_I : block[1] < PCB_S ? SAID_R : SAID_S;
    transmit(t);
}

/* ---- computing -------------------------------------------------------------------------------------- */

/* Let the clock do its work: the answer, or a request for more time, appears when it is due. */
static void advance(struct t1_target *t, uint64_t now_us)
{
    if (!t->computing || t->wtx_open || t->stuck || t->nacks_left > 0)
        return;
    if (t->wtx_left > 0 || (now_us < t->ready_us && now_us >= t->wtx_us)) {
        if (t->wtx_left > 0)
            t->wtx_left--;
        send_wtx_request(t);
    } else if (now_us >= t->ready_us) {
        t->computing = false;
        send_next_i(t);
    }
}

static bool execute(struct t1_target *t, uint64_t *time_us)
{
    bool cut = fault_strikes(FAULT_POWER_CUT_IN_APDU), before = cut && fault_random(2) == 0;

    *time_us = 0;
    t->answer_sent = 0;
    if (!before)
        t->answer_len = card_apdu(t->card, t->command, t->command_len, t->answer, time_us);
    if (cut)
        trace_note(0, "power fails %s the command took effect", before ? "before" : "after");
    t->lost_power = cut;
    return !cut;
}

static void start_apdu(struct t1_target *t, uint64_t now_us)
{
    uint64_t time_us = 0;

    if (t->command_too_long) {
        t->answer[0] = SW_LENGTH >> 8;
        t->answer[1] = SW_LENGTH & 0xFF;
        t->answer_len = 2;
        t->answer_sent = 0;
    } else if (!execute(t, &time_us)) {
        return;
    }
    t->command_len = 0;
    t->command_too_long = false;
    t->computing = true;
    t->ready_us = now_us + (t->chip_timing ? time_us : 0);
    t->wtx_us = now_us + WTX_PERIOD_US;
    t->nacks_left = t->busy_nacks;
    t->wtx_left = fault_strikes(FAULT_SLOW_WTX) ? (unsigned)fault_value(FAULT_SLOW_WTX) : 0;
    if (fault_strikes(FAULT_STUCK_BUSY)) {
        t->ready_us = now_us + 1000 * fault_value(FAULT_STUCK_BUSY);
        t->wtx_us = UINT64_MAX;
        t->stuck = fault_value(FAULT_STUCK_BUSY) == 0;
    }
}

/* ---- receiving -------------------------------------------------------------------------------------- */

static void append_command(struct t1_target *t, const uint8_t *inf, size_t len)
{
    if (len > sizeof(t->command) - t->command_len)
        t->command_too_long = true;
    else if (len != 0)
        memcpy(t->command + t->command_len, inf, len);
    if (!t->command_too_long)
        t->command_len += len;
}

static void receive_i(struct t1_target *t, uint8_t pcb, const uint8_t *inf, size_t len, uint64_t now_us)
{
    bool sequence = (pcb & PCB_N) != 0;

    if ((pcb & 0x1F) != 0) {
        send_r(t, R_OTHER);
        return;
    }
    if (fault_strikes(FAULT_R_ERROR)) {
        send_r(t, fault_random(2) ? R_CRC : R_OTHER);
        return;
    }
    if (sequence != t->next_in) {
        if (t->last_i_len != 0 && fault_strikes(FAULT_REPEAT_OLD_NS))
            repeat(t, t->last_i, t->last_i_len);
        else
            send_r(t, R_OTHER);
        return;
    }
    t->next_in = !t->next_in;
    t->answer_len = t->answer_sent = 0; /* a chain the host gave up */
    append_command(t, inf, len);
    if (pcb & PCB_MORE)
        send_r(t, R_OK);
    else
        start_apdu(t, now_us);
}

/* N(R) is the number of the I-block the host wants next: our last one again, or the one after it. */
static void receive_r(struct t1_target *t, uint8_t pcb, size_t len)
{
    bool wanted = (pcb & PCB_R_N) != 0;

    if ((pcb & 0x2C) != 0 || len != 0) {
        send_r(t, R_OTHER);
    } else if (t->said == SAID_S && t->last_len != 0) {
        repeat(t, t->last, t->last_len);
    } else if (t->command_len != 0 || t->command_too_long) {
        send_r(t, R_OK); /* in the middle of the host's chain: say again which block is next */
    } else if (t->last_i_len != 0 && wanted != t->next_out) {
        repeat(t, t->last_i, t->last_i_len);
    } else if (t->answer_sent < t->answer_len) {
        send_next_i(t);
    } else {
        send_r(t, R_OTHER); /* nothing to say: the host's last block never came in */
    }
}

static void reset_and_answer(struct t1_target *t, uint8_t code)
{
    uint8_t atr[64];

    sim_stats.resets++;
    t1_target_power_on(t);
    send_s(t, code, atr, code == S_SOFT_RESET ? t1_atr(t->personality, atr) : 0);
}

static void resynch(struct t1_target *t)
{
    sim_stats.resyncs++;
    link_reset(t);
    send_s(t, S_RESYNCH, NULL, 0);
}

static void receive_ifs(struct t1_target *t, const uint8_t *inf, size_t len)
{
    if (len != 1 || inf[0] == 0 || inf[0] > INF_MAX) {
        send_r(t, R_OTHER);
        return;
    }
    t->ifs = inf[0];
    send_s(t, S_IFS, inf, 1);
}

static void abort_chain(struct t1_target *t)
{
    t->command_len = t->answer_len = t->answer_sent = 0;
    t->command_too_long = false;
    send_s(t, S_ABORT, NULL, 0);
}

static bool has_deep_power_down(const struct t1_target *t)
{
    return (t->personality->version[2] & 0xF0) == 0x10; /* the SE052 family */
}

static void receive_s_request(struct t1_target *t, uint8_t code, const uint8_t *inf, size_t len)
{
    uint8_t atr[64];

    if (code == S_IFS) {
        receive_ifs(t, inf, len);
    } else if (len != 0) {
        send_r(t, R_OTHER);
    } else if (code == S_RESYNCH) {
        resynch(t);
    } else if (code == S_ABORT) {
        abort_chain(t);
    } else if (code == S_CHIP_RESET || code == S_SOFT_RESET) {
        reset_and_answer(t, code);
    } else if (code == S_ATR) {
        send_s(t, S_ATR, atr, t1_atr(t->personality, atr));
    } else if (code == S_END || (code == S_POWER_DOWN && has_deep_power_down(t))) {
        send_s(t, code, NULL, 0);
    } else {
        send_r(t, R_OTHER);
    }
}

static void receive_wtx_answer(struct t1_target *t, size_t len, uint64_t now_us)
{
    if (len != 1) {
        send_r(t, R_OTHER);
        return;
    }
    t->wtx_open = false;
    t->wtx_us = now_us + WTX_PERIOD_US;
}

/* While more time is asked for, only its grant or a reset gets through. */
static void receive_during_wtx(struct t1_target *t, uint8_t pcb, size_t len, uint64_t now_us)
{
    if (pcb == (PCB_S | PCB_S_RESPONSE | S_WTX))
        receive_wtx_answer(t, len, now_us);
    else if ((pcb == (PCB_S | S_CHIP_RESET) || pcb == (PCB_S | S_SOFT_RESET)) && len == 0)
        reset_and_answer(t, pcb & 0x1F);
    else
        send_wtx_request(t);
}

static void receive_block(struct t1_target *t, const uint8_t *block, size_t len, uint64_t now_us)
{
    uint8_t pcb = block[1];
    const uint8_t *inf = block + 3;
    size_t inf_len = len - OVERHEAD;

    if (t->wtx_open)
        receive_during_wtx(t, pcb, inf_len, now_us);
    else if (pcb < PCB_R)
        receive_i(t, pcb, inf, inf_len, now_us);
    else if (pcb < PCB_S)
        receive_r(t, pcb, inf_len);
    else if (pcb & PCB_S_RESPONSE)
        send_r(t, R_OTHER);
    else
        receive_s_request(t, pcb & 0x1F, inf, inf_len);
}

/* @return R_OK, or the error to report */
static uint8_t check_block(const uint8_t *data, size_t len)
{
    if (len < OVERHEAD || len > BLOCK_MAX || data[0] != NAD_IN || data[2] > INF_MAX ||
        data[2] + (size_t)OVERHEAD != len)
        return R_OTHER;
    return t1_crc(data, len - 2) == (data[len - 2] | data[len - 1] << 8) ? R_OK : R_CRC;
}

bool t1_target_listens(struct t1_target *t, bool reading, uint64_t now_us)
{
    if (t->nacks_left > 0) {
        t->nacks_left--;
        return false;
    }
    advance(t, now_us);
    if (t->computing && !t->wtx_open)
        return false;
    return !reading || t->stream_pos < t->stream_len;
}

bool t1_target_write(struct t1_target *t, const uint8_t *data, size_t len, uint64_t now_us)
{
    uint64_t end_us = now_us + wire_us(t->hz, len);
    uint8_t error;

    if (!t1_target_listens(t, false, now_us))
        return false;
    drop_output(t);
    sim_stats.blocks_in++;
    error = check_block(data, len);
    if (error == R_OK)
        receive_block(t, data, len, end_us);
    else if (t->wtx_open)
        send_wtx_request(t);
    else
        send_r(t, error);
    return true;
}

bool t1_target_read(struct t1_target *t, uint8_t *data, size_t len, uint64_t now_us)
{
    size_t rest;

    if (!t1_target_listens(t, true, now_us))
        return false;
    rest = t->stream_len - t->stream_pos;
    if (rest > len)
        rest = len;
    memcpy(data, t->stream + t->stream_pos, rest);
    memset(data + rest, FILLER, len - rest);
    t->stream_pos += rest;
    return true;
}
