/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out on the bus what codec/t1_link.c decides. The chip says "not ready" by not acknowledging its
 * address, so waiting is polling: the time that a kind of command takes is learned, the first poll comes
 * shortly before that, and then short steps follow. So the bus stays quiet for its other devices while the
 * chip computes.
 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "share.h"
#include "t1_link.h"

enum {
    ADDR_DEFAULT = 0x48,
    TIMEOUT_MS_DEFAULT = 3000,
    TIMEOUT_MS_MIN = 100,
    TIMEOUT_MS_MAX = 600000,
    BWT_US = 1000000,  /* block waiting time; every ATR seen says 1000 ms */
    STEP_MIN_US = 300, /* between polls near the expected end */
    STEP_MAX_US = 2000,
    STEP_LATE_US = 10000, /* polled faster than this for long, one part hung (se05x.md 1.7) */
    WRITE_STEP_US = 200,  /* between attempts to write while the chip is busy */
    ASK_AFTER_US =
        250000, /* beyond four times the expected time the answer is taken for lost, and asked for */
    LEARNED_MAX_US = 20000000,
    GENERATE_DEADLINE_US = 120000000,
    RESET_MS = 1500 /* a reset must be answered within */
};

/* What a kind of command takes before anything was learned; from se05x.md section 7, less where it is a
 * guess. */
static const uint32_t first_guess_us[SE05X_TIME_COUNT] = {
    [SE05X_TIME_SHORT] = 1000,        [SE05X_TIME_WRITE] = 3000,      [SE05X_TIME_EC_SMALL] = 30000,
    [SE05X_TIME_EC_LARGE] = 60000,    [SE05X_TIME_ED25519] = 100000,  [SE05X_TIME_X25519] = 40000,
    [SE05X_TIME_EC_GENERATE] = 40000, [SE05X_TIME_RSA2048] = 60000,   [SE05X_TIME_RSA3072] = 120000,
    [SE05X_TIME_RSA4096] = 200000,    [SE05X_TIME_RSA_PUBLIC] = 5000, [SE05X_TIME_RSA_GENERATE] = 1000000,
    [SE05X_TIME_SYMMETRIC] = 2000,
};

const char *const se05x_link_params[] = { "addr", "ena-gpio", "timeout", "lock-dir", NULL };

struct se05x_link {
    struct hsm_transport *bus;
    struct share share;
    struct t1_link t1;
    unsigned timeout_ms;
    unsigned depth; /* nested se05x_link_lock() */
    bool broken;    /* needs se05x_link_recover() */
    bool gone;      /* the bus is no more */
    uint64_t instance;
    struct se05x_link_stats stats;
    uint8_t atr[64];
    size_t atr_len;
};

static uint64_t now_us(struct se05x_link *link)
{
    return link->bus->ops->now_us(link->bus);
}

static void sleep_until(struct se05x_link *link, uint64_t when_us)
{
    uint64_t now = now_us(link);

    if (when_us <= now)
        return;
    link->stats.sleep_us += when_us - now;
    link->bus->ops->sleep_until_us(link->bus, when_us);
}

/* ---- one message -----------------------------------------------------------------------------------------
 */

static enum bus_result count(struct se05x_link *link, enum bus_result result)
{
    if (result == BUS_NACK || result == BUS_DISTURBED)
        link->stats.nacks++;
    if (result == BUS_GONE)
        link->gone = true;
    return result;
}

static enum bus_result read_once(struct se05x_link *link, uint8_t *ptr, size_t len)
{
    enum bus_result result = count(link, bus_read(link->bus, ptr, len));

    link->stats.reads++;
    if (result == BUS_OK)
        link->stats.bytes_in += len;
    return result;
}

/* A block goes out in one message. A busy chip refuses it; then it is tried again until @p until_us. */
static enum t1_event write_block(struct se05x_link *link, uint64_t until_us)
{
    struct hsm_bytes block = { link->t1.out, link->t1.out_len };
    uint64_t step = WRITE_STEP_US;
    enum bus_result result;

    for (;;) {
        result = count(link, bus_write(link->bus, block));
        link->stats.writes++;
        if (result == BUS_OK) {
            link->stats.bytes_out += block.len;
            return T1_EV_SENT;
        }
        if (result == BUS_GONE || now_us(link) >= until_us)
            return T1_EV_WRITE_FAILED;
        sleep_until(link, now_us(link) + step);
        step = step * 3 / 2 < STEP_LATE_US ? step * 3 / 2 : STEP_LATE_US;
    }
}

/* How one wait is polled. */
struct wait {
    uint64_t sent_us;
    uint64_t until_us;
    uint64_t expected_us; /* after sent_us; 0: at once */
    unsigned polls;       /* that were refused */
    uint64_t answered_us; /* out: when the successful poll began */
};

static uint64_t poll_step(const struct wait *w)
{
    uint64_t step = w->expected_us * 3 / 100;

    if (step < STEP_MIN_US)
        return STEP_MIN_US;
    return step < STEP_MAX_US ? step : STEP_MAX_US;
}

/* Poll until the first bytes of a block come. */
static enum bus_result poll_for(struct se05x_link *link, struct wait *w, uint8_t *ptr, size_t len)
{
    uint64_t step = poll_step(w), late = w->sent_us + 2 * w->expected_us + 2000;
    enum bus_result result;

    if (w->expected_us > step)
        sleep_until(link,
                    w->sent_us + w->expected_us - (w->expected_us / 16 > step ? w->expected_us / 16 : step));
    for (;;) {
        w->answered_us = now_us(link);
        result = read_once(link, ptr, len);
        if (result == BUS_OK || result == BUS_GONE || w->answered_us >= w->until_us)
            return result;
        w->polls++;
        if (w->answered_us > late)
            step = step * 5 / 4 < STEP_LATE_US ? step * 5 / 4 : STEP_LATE_US;
        sleep_until(link, w->answered_us + step);
    }
}

static bool read_rest(struct se05x_link *link, size_t have, size_t want)
{
    unsigned attempt;

    for (attempt = 0; attempt < 3; attempt++) {
        if (read_once(link, link->t1.in + have, want - have) == BUS_OK)
            return true;
        if (link->gone)
            return false;
        sleep_until(link, now_us(link) + STEP_MIN_US);
    }
    return false;
}

/* Bytes before NAD are leftovers of a read that was cut short. */
static size_t align(uint8_t *ptr, size_t len)
{
    const uint8_t *nad = memchr(ptr, T1_NAD_CHIP, len);

    if (nad == NULL)
        return 0;
    len -= (size_t)(nad - ptr);
    memmove(ptr, nad, len);
    return len;
}

static enum t1_event garbled(struct se05x_link *link)
{
    uint8_t rest[T1_FRAME_MAX];

    (void)read_once(link, rest, sizeof(rest)); /* so that the next block starts at its beginning */
    return T1_EV_GARBLED;
}

/* @param likely  bytes of the block if its length is foreseen, else 0 */
static enum t1_event read_block(struct se05x_link *link, struct wait *w, size_t likely)
{
    uint8_t *in = link->t1.in;
    size_t have = likely >= T1_OVERHEAD && likely <= T1_FRAME_MAX ? likely : T1_HEADER, want;
    enum bus_result result = poll_for(link, w, in, have);

    if (result != BUS_OK)
        return T1_EV_TIMEOUT;
    if ((have = align(in, have)) == 0)
        return garbled(link);
    if (have < T1_HEADER) {
        if (!read_rest(link, have, T1_HEADER))
            return garbled(link);
        have = T1_HEADER;
    }
    want = (size_t)in[2] + T1_OVERHEAD;
    if (want > T1_FRAME_MAX)
        return garbled(link);
    if (want > have && !read_rest(link, have, want))
        return T1_EV_GARBLED;
    link->t1.in_len = want;
    return T1_EV_FRAME;
}

/* ---- one exchange ----------------------------------------------------------------------------------------
 */

/* The block that is awaited, if the whole answer has @p expect bytes. */
static size_t likely_block(const struct se05x_link *link, size_t expect)
{
    size_t got = link->t1.answer != NULL ? link->t1.answer->len : 0, left = expect > got ? expect - got : 0;

    if (expect == 0 || !link->t1.is_apdu || link->t1.sent + link->t1.piece < link->t1.command.len)
        return link->t1.is_apdu && expect == 0 ? 0 : T1_OVERHEAD; /* an R-block, or an empty S-block */
    return (left < T1_INF_MAX ? left : T1_INF_MAX) + T1_OVERHEAD;
}

struct exchange {
    enum se05x_time time;
    size_t expect;
    uint64_t until_us; /* of the whole */
    bool learn;        /* this exchange can still teach how long its kind takes */
};

static uint32_t learned_us(struct se05x_link *link, enum se05x_time time)
{
    uint32_t learned = share_state(&link->share)->time_us[time];

    return learned <= LEARNED_MAX_US ? learned : 0;
}

/* The first time, be early: a poll too many costs the bus 0.1 ms, one too late costs the caller. */
static uint32_t expected_us(struct se05x_link *link, enum se05x_time time)
{
    uint32_t learned = learned_us(link, time);

    return learned > 0 ? learned : first_guess_us[time] / 4;
}

static uint32_t longest_us(struct se05x_link *link, enum se05x_time time)
{
    uint32_t learned = learned_us(link, time);

    return learned > first_guess_us[time] ? learned : first_guess_us[time];
}

/* Refused polls say that the time lies just before the answer; none, that it may be much shorter. */
static void learn(struct se05x_link *link, const struct exchange *x, const struct wait *w)
{
    uint32_t *slot = &share_state(&link->share)->time_us[x->time];
    uint64_t took = w->answered_us - w->sent_us;

    if (x->time == SE05X_TIME_RSA_GENERATE || took > LEARNED_MAX_US)
        return;
    if (w->polls == 0)
        *slot = (uint32_t)(took * 3 / 4) | 1;
    else
        *slot = (uint32_t)((learned_us(link, x->time) == 0 ? took : (*slot + took) / 2) | 1);
}

static bool command_is_out(const struct t1_link *t1)
{
    return t1->is_apdu && t1->last_was_i && !t1->asked && t1->sent + t1->piece == t1->command.len;
}

static enum t1_event receive(struct se05x_link *link, struct exchange *x, uint64_t sent_us)
{
    struct wait w = { .sent_us = sent_us };
    bool computing = command_is_out(&link->t1);
    enum t1_event event;

    w.expected_us = computing ? expected_us(link, x->time) : 0;
    w.until_us = sent_us + (computing ? 4 * (uint64_t)longest_us(link, x->time) : 0) + ASK_AFTER_US;
    if (link->t1.wtx > 0) { /* no step before, but time: the chip works on */
        w.until_us = sent_us + (uint64_t)link->t1.wtx * BWT_US + ASK_AFTER_US;
        w.expected_us = STEP_LATE_US;
        if (x->until_us < w.until_us)
            x->until_us = w.until_us;
        x->learn = false;
    }
    event = read_block(link, &w,
                       computing || !link->t1.is_apdu || link->t1.answering ? likely_block(link, x->expect)
                                                                            : T1_OVERHEAD);
    if (event == T1_EV_FRAME && computing && x->learn)
        learn(link, x, &w);
    return event;
}

/* @return T1_DONE or T1_FAIL */
static enum t1_action run(struct se05x_link *link, enum t1_action action, struct exchange *x)
{
    uint64_t sent_us = 0;
    enum t1_event event;

    while (action == T1_SEND || action == T1_RECEIVE) {
        if (action == T1_SEND) {
            event = write_block(link, x->until_us);
            sent_us = now_us(link);
        } else {
            event = receive(link, x, sent_us);
        }
        if (link->gone) {
            link->t1.cause = strerror(link->bus->error);
            return T1_FAIL;
        }
        action = t1_link_step(&link->t1, event);
    }
    return action;
}

static bool request(struct se05x_link *link, enum t1_s code, struct hsm_buf *answer, unsigned timeout_ms)
{
    struct exchange x = { .until_us = now_us(link) + (uint64_t)timeout_ms * 1000 };

    return run(link, t1_link_request(&link->t1, code, answer), &x) == T1_DONE;
}

static void save(struct se05x_link *link)
{
    struct share_state *state = share_state(&link->share);

    state->ns = link->t1.ns;
    state->nr = link->t1.nr;
    state->instance = link->instance;
    state->dirty = 0;
    link->broken = false;
}

static hsm_status failed(struct se05x_link *link)
{
    const char *cause = link->t1.cause != NULL ? link->t1.cause : "no answer";

    link->broken = true;
    if (link->gone)
        return hsm_fail(HSM_ERR_TOKEN_GONE, "%s: the bus is gone: %s", link->bus->name, cause);
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: %s%s%s; is the chip powered and the bus free?", link->bus->name,
                    cause, link->bus->error != 0 ? ": " : "",
                    link->bus->error != 0 ? strerror(link->bus->error) : "");
}

hsm_status se05x_link_exchange(struct se05x_link *link, enum se05x_time time, struct hsm_bytes command,
                               size_t expect, struct hsm_buf *answer, enum se05x_delivery *delivery)
{
    struct exchange x = { .time = time, .expect = expect, .learn = true };

    *delivery = SE05X_NOT_EXECUTED;
    if (link->depth == 0)
        return hsm_fail(HSM_ERR_INTERNAL, "%s: used without its lock", link->bus->name);
    if (link->broken)
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the link is down", link->bus->name);
    x.until_us =
        now_us(link) + (uint64_t)link->timeout_ms * 1000 +
        (time == SE05X_TIME_RSA_GENERATE ? GENERATE_DEADLINE_US : 4 * (uint64_t)longest_us(link, time));
    share_state(&link->share)->dirty = 1;
    link->stats.apdus++;
    if (run(link, t1_link_apdu(&link->t1, command, answer), &x) != T1_DONE) {
        *delivery = link->t1.executed ? SE05X_MAYBE_EXECUTED : SE05X_NOT_EXECUTED;
        return failed(link);
    }
    save(link);
    *delivery = SE05X_ANSWERED;
    if (answer->len < 2) {
        link->broken = true;
        *delivery = SE05X_MAYBE_EXECUTED;
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: an answer without status word", link->bus->name);
    }
    return HSM_OK;
}

/* ---- the lock, and bringing the link up
 * -------------------------------------------------------------------- */

/* A predecessor may have died in the middle of an exchange: the chip may still compute, or have an answer
 * ready. */
static hsm_status bring_up(struct se05x_link *link)
{
    link->stats.resynchs++;
    if (request(link, T1_S_RESYNCH, NULL, link->timeout_ms) || link->gone)
        goto out;
    link->stats.resets++;
    if (request(link, T1_S_SOFT_RESET, NULL, RESET_MS))
        se05x_link_set_selected(link, false);
    else
        return failed(link);
out:
    if (link->gone)
        return failed(link);
    save(link);
    return HSM_OK;
}

hsm_status se05x_link_lock(struct se05x_link *link)
{
    struct share_state *state;
    hsm_status st;

    if (link->gone)
        return failed(link);
    if (link->depth > 0) {
        link->depth++;
        return HSM_OK;
    }
    if ((st = share_lock(&link->share, link->bus, link->timeout_ms)) != HSM_OK)
        return st;
    link->depth = 1;
    state = share_state(&link->share);
    link->t1.ns = (uint8_t)state->ns;
    link->t1.nr = (uint8_t)state->nr;
    if ((state->dirty || link->broken) && (st = bring_up(link)) != HSM_OK)
        se05x_link_unlock(link);
    return st;
}

void se05x_link_unlock(struct se05x_link *link)
{
    if (link->depth > 0 && --link->depth == 0)
        share_unlock(&link->share);
}

uint64_t se05x_link_epoch(struct se05x_link *link)
{
    const struct share_state *state = share_state(&link->share);

    return state->selected ? state->epoch : 0;
}

void se05x_link_set_selected(struct se05x_link *link, bool selected)
{
    struct share_state *state = share_state(&link->share);

    state->selected = selected;
    state->channel_owner = 0;
    if (selected && ++state->epoch == 0)
        state->epoch = 1;
}

uint64_t se05x_link_channel_owner(struct se05x_link *link)
{
    return share_state(&link->share)->channel_owner;
}

void se05x_link_set_channel_owner(struct se05x_link *link, uint64_t owner)
{
    share_state(&link->share)->channel_owner = owner;
}

static bool reset_by_pin(struct se05x_link *link)
{
    return link->bus->ops->power_cycle != NULL && link->bus->ops->power_cycle(link->bus) == HSM_OK &&
           request(link, T1_S_SOFT_RESET, NULL, RESET_MS);
}

hsm_status se05x_link_recover(struct se05x_link *link, bool hard)
{
    bool up = false;

    if (link->depth == 0)
        return hsm_fail(HSM_ERR_INTERNAL, "%s: used without its lock", link->bus->name);
    share_state(&link->share)->dirty = 1;
    if (!hard) {
        link->stats.resynchs++;
        up = request(link, T1_S_RESYNCH, NULL, link->timeout_ms);
    }
    if (!up && !link->gone) {
        link->stats.resets++;
        up = request(link, T1_S_SOFT_RESET, NULL, RESET_MS) ||
             (!link->gone && request(link, T1_S_CHIP_RESET, NULL, RESET_MS)) ||
             (!link->gone && reset_by_pin(link));
    }
    se05x_link_set_selected(link, false);
    if (!up || link->gone)
        return failed(link);
    save(link);
    return HSM_OK;
}

/* ---- life
 * -------------------------------------------------------------------------------------------------- */

hsm_status se05x_link_new(struct hsm_transport *t, unsigned addr, unsigned timeout_ms, const char *lock_dir,
                          struct se05x_link **out)
{
    struct se05x_link *link = calloc(1, sizeof(*link));

    if (link == NULL) {
        t->ops->close(t);
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a bus");
    }
    link->bus = t;
    link->timeout_ms = timeout_ms != 0 ? timeout_ms : TIMEOUT_MS_DEFAULT;
    link->instance = (uint64_t)getpid() << 32 ^ now_us(link);
    t1_link_init(&link->t1);
    share_open(&link->share, t, addr, lock_dir);
    *out = link;
    return HSM_OK;
}

static hsm_status number_param(const struct hsm_token_spec *spec, const char *name, unsigned long min,
                               unsigned long max, unsigned *value)
{
    char text[32], *end;
    unsigned long number;

    if (!hsm_token_spec_param(spec, name, text, sizeof(text)))
        return HSM_OK;
    number = strtoul(text, &end, 0);
    if (end == text || *end != '\0' || number < min || number > max)
        return hsm_fail(HSM_ERR_CONFIG, "token specification: %s=%s must be a number from %lu to %lu", name,
                        text, min, max);
    *value = (unsigned)number;
    return HSM_OK;
}

hsm_status se05x_link_open(const struct hsm_open_args *args, struct se05x_link **out)
{
    const struct hsm_token_spec *spec = args->spec;
    unsigned addr = ADDR_DEFAULT, timeout_ms = TIMEOUT_MS_DEFAULT;
    char ena[128] = "", lock_dir[300] = "";
    struct hsm_transport *t;
    hsm_status st;

    if ((st = number_param(spec, "addr", 0x03, 0x77, &addr)) != HSM_OK ||
        (st = number_param(spec, "timeout", TIMEOUT_MS_MIN, TIMEOUT_MS_MAX, &timeout_ms)) != HSM_OK)
        return st;
    (void)hsm_token_spec_param(spec, "ena-gpio", ena, sizeof(ena));
    (void)hsm_token_spec_param(spec, "lock-dir", lock_dir, sizeof(lock_dir));
    if (strncmp(spec->location, "unix:", 5) == 0)
        st = bus_open_stream(spec->location + 5, addr, &t);
    else
        st = bus_open_i2c(spec->location, addr, ena, &t);
    return st != HSM_OK ? st : se05x_link_new(t, addr, timeout_ms, lock_dir, out);
}

void se05x_link_close(struct se05x_link *link)
{
    if (link == NULL)
        return;
    share_close(&link->share);
    link->bus->ops->close(link->bus);
    OPENSSL_cleanse(&link->t1, sizeof(link->t1));
    free(link);
}

void se05x_link_abandon(struct se05x_link *link)
{
    if (link == NULL)
        return;
    share_close(&link->share);
    link->bus->ops->abandon(link->bus);
    OPENSSL_cleanse(&link->t1, sizeof(link->t1));
    free(link);
}

void se05x_link_get_stats(const struct se05x_link *link, struct se05x_link_stats *stats)
{
    *stats = link->stats;
}

const char *se05x_link_name(const struct se05x_link *link)
{
    return link->bus->name;
}

hsm_status se05x_link_atr(struct se05x_link *link, struct hsm_buf *atr)
{
    struct hsm_buf own = { link->atr, sizeof(link->atr), 0 };
    hsm_status st;

    if (link->atr_len == 0) {
        if ((st = se05x_link_lock(link)) != HSM_OK)
            return st;
        share_state(&link->share)->dirty = 1;
        st = request(link, T1_S_GET_ATR, &own, link->timeout_ms) ? HSM_OK : failed(link);
        if (st == HSM_OK) {
            save(link);
            link->atr_len = own.len;
        }
        se05x_link_unlock(link);
        if (st != HSM_OK)
            return st;
    }
    if (atr->cap < link->atr_len)
        return hsm_fail(HSM_ERR_BUFFER, "the ATR has %zu bytes", link->atr_len);
    memcpy(atr->ptr, link->atr, link->atr_len);
    atr->len = link->atr_len;
    return HSM_OK;
}
