/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A chip that only speaks T=1, on a bus and with a clock of its own: nothing here waits. Its command is an
 * echo with a status word. It may live in memory that processes share.
 */
#ifndef FAKE_CHIP_H
#define FAKE_CHIP_H

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "t1_frame.h"
#include "transport.h"

enum { FAKE_BYTES_MAX = 2048, BYTE_US = 90, MESSAGE_US = 110, GAP_LOG = 4096 };

struct fake_chip {
    uint64_t now_us;
    uint64_t work_us;   /* a command takes; then the answer is there */
    uint64_t ready_us;  /* until then the address is refused */
    unsigned wtx_first; /* so often the chip asks for more time, */
    uint64_t wtx_us;    /* after working so long each time */
    size_t answer_len;  /* 0: echo */
    bool absent;        /* no power */
    uint64_t absent_until_us;
    bool deaf;                /* writes are refused, whatever else */
    int gone;                 /* errno of an adapter that is no more */
    unsigned lose, garble;    /* blocks of the chip that get lost, or a flipped bit */
    unsigned disturb;         /* writes that end in ETIMEDOUT; they arrive */
    unsigned arbitration;     /* writes that end in EAGAIN; they do not arrive */
    unsigned dead_codes;      /* bit: S-request without effect */
    size_t write_limit;       /* longer: EOPNOTSUPP */
    bool kill_after_command;  /* the writer dies */
    bool reset_after_command; /* once, before it answers */
    int misaligned;           /* stray bytes before the next block of the chip */

    unsigned commands, resynchs, soft_resets, chip_resets, goodbyes, power_cycles, writes, reads, refused,
        odd;
    uint64_t refused_at_us[GAP_LOG];
    uint64_t done_us; /* when the last work ended */

    uint8_t want, own; /* N(S) */
    uint8_t command[FAKE_BYTES_MAX], answer[FAKE_BYTES_MAX];
    size_t command_len, answer_total, answer_sent;
    unsigned wtx_left;
    uint8_t block[T1_FRAME_MAX + 8], kept[T1_FRAME_MAX]; /* kept: what can be asked for again */
    size_t block_len, block_at, kept_len;
};

struct fake_bus {
    struct hsm_transport base;
    struct fake_chip *chip;
    bool *closed, *abandoned;
};

static inline struct fake_chip *chip_of(struct hsm_transport *t)
{
    return ((struct fake_bus *)(void *)t)->chip;
}

/* ---- the chip speaks -------------------------------------------------------------------------------------
 */

static inline void fake_say(struct fake_chip *c, uint8_t pcb, const uint8_t *inf, size_t inf_len)
{
    struct t1_frame f = { T1_NAD_CHIP, pcb, { inf, inf_len } };
    struct hsm_buf out = { c->kept, sizeof(c->kept), 0 };
    hsm_status st = t1_frame_encode(&f, &out);

    if (st != HSM_OK)
        abort();
    c->kept_len = out.len;
    c->block_at = 0;
    memset(c->block, 0xff, 8);
    memcpy(c->block + c->misaligned, c->kept, c->kept_len);
    c->block_len = c->kept_len + (size_t)c->misaligned;
    c->misaligned = 0;
    if (c->lose > 0) {
        c->lose--;
        c->block_len = 0;
    } else if (c->garble > 0) {
        c->garble--;
        c->block[c->block_len / 2] ^= 0x10;
    }
}

static inline void fake_say_answer(struct fake_chip *c)
{
    size_t left = c->answer_total - c->answer_sent, n = left < T1_INF_MAX ? left : T1_INF_MAX;

    fake_say(c, t1_pcb_i(c->own, n < left), c->answer + c->answer_sent, n);
    c->answer_sent += n;
    c->own ^= 1;
}

static inline void fake_say_next(struct fake_chip *c)
{
    static const uint8_t one = 1;

    if (c->wtx_left > 0) {
        c->wtx_left--;
        c->ready_us = c->now_us + c->wtx_us;
        fake_say(c, 0xc3, &one, 1);
    } else {
        fake_say_answer(c);
    }
    c->done_us = c->ready_us;
}

static inline void fake_forget(struct fake_chip *c)
{
    c->want = c->own = 0;
    c->command_len = c->answer_total = c->answer_sent = c->kept_len = c->block_len = 0;
    c->ready_us = 0;
}

static inline void fake_execute(struct fake_chip *c)
{
    size_t n = c->answer_len > 0 ? c->answer_len : c->command_len;

    c->commands++;
    if (c->reset_after_command) {
        c->reset_after_command = false;
        fake_forget(c);
        return;
    }
    memcpy(c->answer, c->command, n);
    memcpy(c->answer + n, "\x90\x00", 2);
    c->answer_total = n + 2;
    c->answer_sent = c->command_len = 0;
    c->wtx_left = c->wtx_first;
    c->ready_us = c->now_us + c->work_us;
    fake_say_next(c);
    if (c->kill_after_command) {
        c->kill_after_command = false;
        (void)kill(getpid(), SIGKILL);
    }
}

/* ---- the chip hears --------------------------------------------------------------------------------------
 */

static inline void fake_hear_i(struct fake_chip *c, const struct t1_frame *f)
{
    if (t1_i_seq(f->pcb) != c->want) {
        fake_say(c, t1_pcb_r(c->want, T1_ERR_OTHER), NULL, 0);
        return;
    }
    c->want ^= 1;
    memcpy(c->command + c->command_len, f->inf.ptr, f->inf.len);
    c->command_len += f->inf.len;
    if (t1_i_more(f->pcb))
        fake_say(c, t1_pcb_r(c->want, T1_ACK), NULL, 0);
    else
        fake_execute(c);
}

static inline void fake_hear_r(struct fake_chip *c, const struct t1_frame *f)
{
    uint8_t again[T1_FRAME_MAX];
    size_t len = c->kept_len;
    bool have = len > 0 && (t1_kind(c->kept[1]) != T1_I || t1_i_seq(c->kept[1]) == t1_r_seq(f->pcb));

    if (have && (f->pcb & 3) != T1_ACK) {
        memcpy(again, c->kept, len);
        fake_say(c, again[1], again + T1_HEADER, len - T1_OVERHEAD);
    } else if (c->answer_sent < c->answer_total && t1_r_seq(f->pcb) == c->own) {
        fake_say_answer(c);
    } else {
        fake_say(c, t1_pcb_r(c->want, T1_ERR_OTHER), NULL, 0);
    }
}

static inline void fake_hear_s(struct fake_chip *c, const struct t1_frame *f)
{
    static const uint8_t atr[35] = { 0x00, 0xa0, 0x00, 0x00, 0x03, 0x96, [24] = 0x0a, [34] = 0x4f };
    unsigned code = f->pcb & 0x1f;
    bool resets = code == T1_S_SOFT_RESET || code == T1_S_CHIP_RESET;

    if (f->pcb == 0xe3) {
        fake_say_next(c);
        return;
    }
    if ((c->dead_codes >> code & 1) != 0) {
        c->block_len = 0;
        return;
    }
    c->resynchs += code == T1_S_RESYNCH;
    c->soft_resets += code == T1_S_SOFT_RESET;
    c->chip_resets += code == T1_S_CHIP_RESET;
    c->goodbyes += code == T1_S_END_SESSION;
    if (code == T1_S_RESYNCH || resets)
        fake_forget(c);
    fake_say(c, f->pcb | 0x20, atr, resets || code == T1_S_GET_ATR ? sizeof(atr) : 0);
}

static inline void fake_hear(struct fake_chip *c, struct hsm_bytes message)
{
    struct t1_frame f;

    c->block_len = 0; /* what was not fetched is gone */
    if (t1_frame_decode(message, &f) != HSM_OK || f.nad != T1_NAD_HOST) {
        c->odd++;
        fake_say(c, t1_pcb_r(c->want, T1_ERR_CRC), NULL, 0);
        return;
    }
    switch (t1_kind(f.pcb)) {
    case T1_I:
        fake_hear_i(c, &f);
        break;
    case T1_R:
        fake_hear_r(c, &f);
        break;
    default:
        fake_hear_s(c, &f);
    }
}

/* ---- the bus ---------------------------------------------------------------------------------------------
 */

static inline enum bus_result fake_fail(struct hsm_transport *t, int error, enum bus_result result)
{
    t->error = error;
    return result;
}

static inline enum bus_result fake_refuse(struct hsm_transport *t)
{
    struct fake_chip *c = chip_of(t);

    c->now_us += MESSAGE_US;
    c->refused_at_us[c->refused++ % GAP_LOG] = c->now_us;
    return fake_fail(t, ENXIO, BUS_NACK);
}

static inline bool fake_is_away(const struct fake_chip *c)
{
    return c->absent || c->now_us < c->absent_until_us || c->now_us < c->ready_us;
}

static inline enum bus_result fake_write(struct hsm_transport *t, struct hsm_bytes message)
{
    struct fake_chip *c = chip_of(t);

    c->writes++;
    if (c->gone != 0)
        return fake_fail(t, c->gone, BUS_GONE);
    if (c->write_limit > 0 && message.len > c->write_limit)
        return fake_fail(t, EOPNOTSUPP, BUS_GONE);
    if (fake_is_away(c) || c->deaf)
        return fake_refuse(t);
    c->now_us += MESSAGE_US + BYTE_US * message.len;
    if (c->arbitration > 0) {
        c->arbitration--;
        return fake_fail(t, EAGAIN, BUS_DISTURBED);
    }
    fake_hear(c, message);
    if (c->disturb == 0)
        return BUS_OK;
    c->disturb--;
    return fake_fail(t, ETIMEDOUT, BUS_DISTURBED);
}

static inline enum bus_result fake_read(struct hsm_transport *t, uint8_t *ptr, size_t len)
{
    struct fake_chip *c = chip_of(t);
    size_t i;

    c->reads++;
    if (c->gone != 0)
        return fake_fail(t, c->gone, BUS_GONE);
    if (fake_is_away(c) || c->block_at >= c->block_len)
        return fake_refuse(t);
    c->now_us += MESSAGE_US + BYTE_US * len;
    for (i = 0; i < len; i++)
        ptr[i] = c->block_at < c->block_len ? c->block[c->block_at++] : 0xff;
    return BUS_OK;
}

static inline uint64_t fake_now(struct hsm_transport *t)
{
    return chip_of(t)->now_us;
}

static inline void fake_sleep(struct hsm_transport *t, uint64_t when_us)
{
    if (when_us > chip_of(t)->now_us)
        chip_of(t)->now_us = when_us;
}

static inline hsm_status fake_power_cycle(struct hsm_transport *t)
{
    struct fake_chip *c = chip_of(t);

    c->power_cycles++;
    c->dead_codes = 0;
    c->deaf = false;
    fake_forget(c);
    return HSM_OK;
}

static inline void fake_close(struct hsm_transport *t)
{
    struct fake_bus *b = (struct fake_bus *)(void *)t;

    if (b->closed != NULL)
        *b->closed = true;
    if (t->lock_fd >= 0)
        (void)close(t->lock_fd);
    free(b);
}

static inline void fake_abandon(struct hsm_transport *t)
{
    struct fake_bus *b = (struct fake_bus *)(void *)t;

    if (b->abandoned != NULL)
        *b->abandoned = true;
    fake_close(t);
}

static const struct hsm_transport_ops fake_ops = { .write = fake_write,
                                                   .read = fake_read,
                                                   .now_us = fake_now,
                                                   .sleep_until_us = fake_sleep,
                                                   .close = fake_close,
                                                   .abandon = fake_abandon };
static const struct hsm_transport_ops fake_ops_with_pin = { .write = fake_write,
                                                            .read = fake_read,
                                                            .power_cycle = fake_power_cycle,
                                                            .now_us = fake_now,
                                                            .sleep_until_us = fake_sleep,
                                                            .close = fake_close,
                                                            .abandon = fake_abandon };

/** @param lock_fd  owned by the bus from now on; -1: none */
static inline struct fake_bus *fake_bus_new(struct fake_chip *c, int lock_fd)
{
    struct fake_bus *b = calloc(1, sizeof(*b));

    if (b == NULL)
        abort();
    b->base = (struct hsm_transport){
        .ops = &fake_ops, .write_max = 8192, .read_max = 8192, .name = "fake bus", .lock_fd = lock_fd
    };
    b->chip = c;
    return b;
}

#endif
