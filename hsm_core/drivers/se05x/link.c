/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out on the bus what codec/t1_link.c decides. The chip says "not ready" by not acknowledging its
 * address, so waiting is polling; pace.c says when. Between processes, share.c holds the lock and what the
 * next one must know.
 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "pace.h"
#include "share.h"
#include "t1_link.h"

enum {
    ADDR_DEFAULT = 0x48,
    TIMEOUT_MS_DEFAULT = 3000,
    TIMEOUT_MS_MIN = 100,
    TIMEOUT_MS_MAX = 600000,
    GUARD_US = 100,      /* SEGT of the ATR: from a block of the chip to one of ours */
    WRITE_STEP_US = 200, /* between attempts to write while the chip is busy */
    WRITE_STEP_MAX_US = 10000,
    READ_REST_TRIES = 4,
    RESYNCH_MS_MIN = 1500, /* a chip at work speaks once in a block waiting time, of 1000 ms */
    GOODBYE_MS = 100
};

const char *const se05x_link_params[] = { "addr", "ena-gpio", "timeout", "lock-dir", "end-session", NULL };

struct se05x_link {
    struct hsm_transport *bus;
    struct share share;
    struct t1_link t1;
    unsigned timeout_ms;
    unsigned depth;   /* nested se05x_link_lock() */
    bool broken;      /* needs se05x_link_recover() */
    bool gone;        /* the bus is no more */
    bool end_session; /* tell the chip on closing that it may sleep */
    uint64_t instance;
    uint64_t heard_us;     /* when the chip's last block ended */
    bool hard_to_say;      /* the last block of the command was refused at least once */
    char pin_trouble[200]; /* why the enable pin could not be used, if so */
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

/* ---- one block each way ---------------------------------------------------------------------------------
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

/* Lost arbitration ends a message in the middle; any other disturbance may have come behind its end. */
static bool may_have_arrived(const struct se05x_link *link, enum bus_result result)
{
    return result == BUS_DISTURBED && link->bus->error != EAGAIN && link->t1.last == T1_LAST_I;
}

/* A block goes out in one message. A busy chip refuses it; then it is tried again until @p until_us. */
static enum t1_event write_block(struct se05x_link *link, uint64_t until_us)
{
    struct hsm_bytes block = { link->t1.out, link->t1.out_len };
    uint64_t step = WRITE_STEP_US;
    enum bus_result result;
    bool refused = false;

    sleep_until(link, link->heard_us + GUARD_US);
    for (;; refused = true) {
        result = count(link, bus_write(link->bus, block));
        link->stats.writes++;
        if (result == BUS_OK) {
            link->stats.bytes_out += block.len;
            return refused ? T1_EV_SENT_AGAIN : T1_EV_SENT;
        }
        if (may_have_arrived(link, result)) /* even if the time is up */
            return T1_EV_WRITE_DOUBTFUL;
        if (result == BUS_GONE || now_us(link) >= until_us)
            return T1_EV_WRITE_FAILED;
        if (link->t1.last == T1_LAST_I && t1_link_computing(&link->t1))
            link->hard_to_say = true;
        sleep_until(link, now_us(link) + step);
        step = step * 3 / 2 < WRITE_STEP_MAX_US ? step * 3 / 2 : WRITE_STEP_MAX_US;
    }
}

/* One wait for a block. */
struct wait {
    struct pace pace;
    uint64_t sent_us;
    unsigned refused; /* out: polls */
    uint64_t took_us; /* out: from sent_us to the poll that was not refused */
};

/* Poll until the first bytes of a block come. One message at most: behind the end of a block that is shorter
 * than foreseen, a second one would be refused. @p len: in, bytes hoped for; out: bytes read */
static enum bus_result poll_for(struct se05x_link *link, struct wait *w, uint8_t *ptr, size_t *len)
{
    uint64_t at = w->pace.first_us;
    enum bus_result result;
    size_t hoped = *len;

    for (;; at = pace_next(&w->pace, w->took_us), w->refused++) {
        sleep_until(link, w->sent_us + at);
        w->took_us = now_us(link) - w->sent_us;
        *len = hoped < link->bus->read_max ? hoped : link->bus->read_max;
        result = read_once(link, ptr, *len);
        if (result == BUS_OK || result == BUS_GONE || w->took_us >= w->pace.longest_us)
            return result;
    }
}

static bool read_rest(struct se05x_link *link, size_t have, size_t want)
{
    unsigned i;

    for (i = 0; i < READ_REST_TRIES && !link->gone; i++) {
        if (read_once(link, link->t1.in + have, want - have) == BUS_OK)
            return true;
        sleep_until(link, now_us(link) + WRITE_STEP_US);
    }
    return false;
}

/* Bytes before NAD are leftovers of a read that was cut short. @return bytes from NAD on; 0: there is none */
static size_t align(uint8_t *ptr, size_t len)
{
    const uint8_t *nad = memchr(ptr, T1_NAD_CHIP, len);

    if (nad == NULL)
        return 0;
    len -= (size_t)(nad - ptr);
    memmove(ptr, nad, len);
    return len;
}

/* Read what is left, so that the next block is found at its beginning. */
static enum t1_event garbled(struct se05x_link *link)
{
    uint8_t rest[T1_FRAME_MAX];

    (void)read_once(link, rest, sizeof(rest));
    OPENSSL_cleanse(rest, sizeof(rest));
    return T1_EV_GARBLED;
}

/* Too many bytes read do no harm: what lies behind a block is filler. */
static enum t1_event read_block(struct se05x_link *link, struct wait *w, size_t likely)
{
    uint8_t *in = link->t1.in;
    size_t have = likely, want;

    if (poll_for(link, w, in, &have) != BUS_OK)
        return T1_EV_TIMEOUT;
    if ((have = align(in, have)) == 0)
        return garbled(link);
    if (have < T1_HEADER) {
        if (!read_rest(link, have, T1_HEADER))
            return garbled(link);
        have = T1_HEADER;
    }
    want = (size_t)in[2] + T1_OVERHEAD;
    if (want > T1_FRAME_MAX || (want > have && !read_rest(link, have, want)))
        return garbled(link);
    link->t1.in_len = want;
    return T1_EV_FRAME;
}

/* ---- one exchange ----------------------------------------------------------------------------------------
 */

struct exchange {
    struct pace pace;          /* of the computing */
    struct pace_memory *learn; /* NULL: nothing to be learned, or not any more */
    size_t expect;             /* bytes of the whole answer, 0: not known */
    uint64_t until_us;         /* of the whole */
};

/* @return how many bytes the first read of the next block asks for */
static size_t likely_block(const struct se05x_link *link, const struct exchange *x)
{
    const struct t1_link *t1 = &link->t1;
    size_t got = t1->is_apdu && t1->answer != NULL ? t1->answer->len : 0;

    if (!t1->is_apdu)
        return x->expect > 0 ? x->expect + T1_OVERHEAD : T1_OVERHEAD;
    if (!t1->answering && !t1_link_computing(t1))
        return T1_OVERHEAD; /* an R-block */
    if (x->expect <= got)
        return t1->answering ? T1_OVERHEAD : T1_HEADER;
    return (x->expect - got < T1_INF_MAX ? x->expect - got : T1_INF_MAX) + T1_OVERHEAD;
}

static struct pace pace_of(struct se05x_link *link, struct exchange *x, uint64_t sent_us)
{
    struct pace p;

    if (link->t1.wtx == 0)
        return t1_link_computing(&link->t1) && link->t1.last == T1_LAST_I ? x->pace : pace_protocol();
    p = pace_extended(link->t1.wtx); /* no step further, but time: the chip works on */
    if (x->until_us < sent_us + p.longest_us)
        x->until_us = sent_us + p.longest_us;
    x->learn = NULL;
    return p;
}

static enum t1_event receive(struct se05x_link *link, struct exchange *x, uint64_t sent_us)
{
    bool computing = t1_link_computing(&link->t1) && link->t1.last == T1_LAST_I;
    struct wait w = { .pace = pace_of(link, x, sent_us), .sent_us = sent_us };
    enum t1_event event = read_block(link, &w, likely_block(link, x));

    link->heard_us = now_us(link);
    if (computing && event == T1_EV_FRAME && x->learn != NULL && t1_kind(link->t1.in[1]) == T1_I)
        pace_learn(x->learn, w.took_us, w.refused > 0);
    if (computing)
        x->learn = NULL; /* what comes later tells of something else */
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
        if (!link->gone)
            action = t1_link_step(&link->t1, event);
        if (link->gone)
            action = T1_FAIL;
        if ((action == T1_SEND || action == T1_RECEIVE) && now_us(link) >= x->until_us) {
            link->t1.cause = "the chip came to no end in time";
            action = T1_FAIL;
        }
    }
    OPENSSL_cleanse(link->t1.in, sizeof(link->t1.in));
    OPENSSL_cleanse(link->t1.out, sizeof(link->t1.out));
    link->t1.command = (struct hsm_bytes){ NULL, 0 };
    link->t1.answer = NULL;
    return action;
}

static bool request(struct se05x_link *link, enum t1_s code, struct hsm_buf *answer, size_t expect,
                    uint64_t until_us)
{
    struct exchange x = { .expect = expect, .until_us = until_us };

    return run(link, t1_link_request(&link->t1, code, answer), &x) == T1_DONE;
}

static void begin(struct se05x_link *link)
{
    struct share_state *state = &link->share.state;

    state->dirty = 1;
    state->instance = link->instance;
    share_store(&link->share);
}

static void end(struct se05x_link *link)
{
    struct share_state *state = &link->share.state;

    state->ns = link->t1.ns;
    state->nr = link->t1.nr;
    state->dirty = 0;
    link->broken = false;
    share_store(&link->share);
}

static hsm_status gone(struct se05x_link *link)
{
    int error = link->bus->error;

    if (error == EMSGSIZE || error == EOPNOTSUPP)
        return hsm_fail(
            HSM_ERR_TOKEN_GONE,
            "%s: the adapter does not take a message of %zu bytes, and a block must go out in one: "
            "another adapter, or another driver for it, is needed",
            link->bus->name, link->t1.out_len);
    return hsm_fail(HSM_ERR_TOKEN_GONE, "%s: the bus is gone: %s", link->bus->name, strerror(error));
}

static hsm_status failed(struct se05x_link *link)
{
    const char *cause = link->t1.cause != NULL ? link->t1.cause : "no answer";
    int error = link->bus->error;

    link->broken = true;
    if (link->gone)
        return gone(link);
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: %s%s%s%s; is the chip powered and the bus free?%s",
                    link->bus->name, cause, error != 0 ? " (" : "", error != 0 ? strerror(error) : "",
                    error != 0 ? ")" : "", link->pin_trouble);
}

static enum se05x_delivery delivered(const struct t1_link *t1)
{
    return t1->executed ? SE05X_MAYBE_EXECUTED : SE05X_NOT_EXECUTED;
}

hsm_status se05x_link_exchange(struct se05x_link *link, enum se05x_time time, struct hsm_bytes command,
                               size_t expect, struct hsm_buf *answer, enum se05x_delivery *delivery)
{
    struct pace_memory *memory = &link->share.state.time[time];
    struct exchange x = { .pace = pace_command(time, memory), .expect = expect };

    *delivery = SE05X_NOT_EXECUTED;
    if (link->depth == 0)
        return hsm_fail(HSM_ERR_INTERNAL, "%s: used without its lock", link->bus->name);
    if (link->broken)
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the link is out of step", link->bus->name);
    if (time != SE05X_TIME_RSA_GENERATE)
        x.learn = memory;
    x.until_us = now_us(link) + (uint64_t)link->timeout_ms * 1000 + x.pace.longest_us;
    begin(link);
    link->hard_to_say = false;
    link->stats.apdus++;
    if (run(link, t1_link_apdu(&link->t1, command, answer), &x) != T1_DONE) {
        *delivery = delivered(&link->t1);
        return failed(link);
    }
    end(link);
    if (answer->len < 2) {
        link->broken = true;
        *delivery = SE05X_MAYBE_EXECUTED;
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: an answer without status word", link->bus->name);
    }
    *delivery = link->t1.repeated || link->hard_to_say ? SE05X_MAYBE_EXECUTED : SE05X_ANSWERED;
    return HSM_OK;
}

/* ---- recovery --------------------------------------------------------------------------------------------
 */

static bool reset_by_pin(struct se05x_link *link, uint64_t step_us)
{
    hsm_status st;

    if (link->bus->ops->power_cycle == NULL)
        return false;
    if ((st = link->bus->ops->power_cycle(link->bus)) != HSM_OK)
        (void)snprintf(link->pin_trouble, sizeof(link->pin_trouble), "; %.190s", hsm_error_text(st));
    return st == HSM_OK && request(link, T1_S_SOFT_RESET, NULL, 0, now_us(link) + step_us);
}

/* Each rung has its share of the time-out; a chip that works on what a dead process asked of it asks for more
 * time and gets it. Soft and chip reset end what runs in the applet, and every session. */
static bool climb(struct se05x_link *link, bool hard)
{
    uint64_t step_us = (uint64_t)link->timeout_ms * 1000 / 3,
             resynch_us = step_us > RESYNCH_MS_MIN * 1000 ? step_us : RESYNCH_MS_MIN * 1000;

    if (!hard) {
        link->stats.resynchs++;
        if (request(link, T1_S_RESYNCH, NULL, 0, now_us(link) + resynch_us))
            return true;
    }
    if (link->gone)
        return false;
    link->stats.resets++;
    se05x_link_set_selected(link, false);
    return request(link, T1_S_SOFT_RESET, NULL, 0, now_us(link) + step_us) ||
           (!link->gone && request(link, T1_S_CHIP_RESET, NULL, 0, now_us(link) + step_us)) ||
           (!link->gone && reset_by_pin(link, step_us));
}

static hsm_status bring_up(struct se05x_link *link, bool hard)
{
    link->pin_trouble[0] = '\0';
    begin(link);
    if (!climb(link, hard))
        return failed(link);
    end(link);
    return HSM_OK;
}

hsm_status se05x_link_recover(struct se05x_link *link, bool hard)
{
    if (link->depth == 0)
        return hsm_fail(HSM_ERR_INTERNAL, "%s: used without its lock", link->bus->name);
    if (link->gone)
        return gone(link);
    se05x_link_set_selected(link, false);
    return bring_up(link, hard);
}

/* ---- the lock --------------------------------------------------------------------------------------------
 */

hsm_status se05x_link_lock(struct se05x_link *link)
{
    const struct share_state *state = &link->share.state;
    hsm_status st;

    if (link->gone)
        return gone(link);
    if (link->depth > 0) {
        link->depth++;
        return HSM_OK;
    }
    if ((st = share_lock(&link->share, link->bus, link->timeout_ms)) != HSM_OK)
        return st;
    link->depth = 1;
    link->t1.ns = (uint8_t)state->ns;
    link->t1.nr = (uint8_t)state->nr;
    if ((state->dirty || link->broken) && (st = bring_up(link, false)) != HSM_OK)
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
    const struct share_state *state = &link->share.state;

    return state->selected ? state->epoch : 0;
}

void se05x_link_set_selected(struct se05x_link *link, bool selected)
{
    struct share_state *state = &link->share.state;

    state->selected = selected;
    state->channel_owner = 0;
    if (selected && ++state->epoch == 0)
        state->epoch = 1;
    share_store(&link->share);
}

uint64_t se05x_link_channel_owner(struct se05x_link *link)
{
    return link->share.state.channel_owner;
}

void se05x_link_set_channel_owner(struct se05x_link *link, uint64_t owner)
{
    link->share.state.channel_owner = owner;
    share_store(&link->share);
}

/* ---- life ------------------------------------------------------------------------------------------------
 */

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
    link->instance = share_random();
    t1_link_init(&link->t1);
    share_open(&link->share, t, addr, lock_dir);
    *out = link;
    return HSM_OK;
}

static hsm_status number_param(const struct hsm_open_args *args, const char *name, unsigned long min,
                               unsigned long max, unsigned *value)
{
    char text[512], *end;
    unsigned long number;

    if (!hsm_token_spec_param(args->spec, name, text, sizeof(text)))
        return HSM_OK;
    errno = 0;
    number = strtoul(text, &end, 0);
    if (end == text || *end != '\0' || text[0] == '-' || errno != 0 || number < min || number > max)
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': %s=%.40s must be a number from %lu to %lu", args->name,
                        name, text, min, max);
    *value = (unsigned)number;
    return HSM_OK;
}

static hsm_status yes_no_param(const struct hsm_open_args *args, const char *name, bool *value)
{
    char text[512];

    if (!hsm_token_spec_param(args->spec, name, text, sizeof(text)))
        return HSM_OK;
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': %s=%.40s must be yes or no", args->name, name, text);
    *value = text[0] == 'y';
    return HSM_OK;
}

static hsm_status open_bus(const struct hsm_open_args *args, unsigned addr, struct hsm_transport **t)
{
    const char *location = args->spec->location;
    char ena[512] = "";

    (void)hsm_token_spec_param(args->spec, "ena-gpio", ena, sizeof(ena));
    if (strncmp(location, "unix:", 5) != 0)
        return bus_open_i2c(location, addr, ena, t);
    if (ena[0] != '\0')
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': ena-gpio= means nothing on a socket", args->name);
    return bus_open_stream(location + 5, addr, t);
}

hsm_status se05x_link_open(const struct hsm_open_args *args, struct se05x_link **out)
{
    unsigned addr = ADDR_DEFAULT, timeout_ms = TIMEOUT_MS_DEFAULT;
    bool end_session = false;
    char lock_dir[512] = "";
    struct hsm_transport *t;
    hsm_status st;

    if ((st = number_param(args, "addr", 0x08, 0x77, &addr)) != HSM_OK ||
        (st = number_param(args, "timeout", TIMEOUT_MS_MIN, TIMEOUT_MS_MAX, &timeout_ms)) != HSM_OK ||
        (st = yes_no_param(args, "end-session", &end_session)) != HSM_OK)
        return st;
    (void)hsm_token_spec_param(args->spec, "lock-dir", lock_dir, sizeof(lock_dir));
    if ((st = open_bus(args, addr, &t)) == HSM_OK &&
        (st = se05x_link_new(t, addr, timeout_ms, lock_dir, out)) == HSM_OK)
        (*out)->end_session = end_session;
    return st;
}

/* Only if nobody else has used the chip since: it would lose its place. Nobody waits for that. */
static void say_goodbye(struct se05x_link *link)
{
    const struct share_state *state = &link->share.state;

    if (link->gone || link->depth > 0 || share_lock(&link->share, link->bus, GOODBYE_MS) != HSM_OK)
        return;
    if (state->instance == link->instance && !state->dirty) {
        se05x_link_set_selected(link, false); /* whether the applet stays selected is not known */
        begin(link);
        (void)request(link, T1_S_END_SESSION, NULL, 0,
                      now_us(link) + GOODBYE_MS * 1000); /* stays dirty: RESYNCH is due */
    }
    share_unlock(&link->share);
}

static void release(struct se05x_link *link)
{
    share_close(&link->share);
    OPENSSL_cleanse(&link->t1, sizeof(link->t1));
    free(link);
}

void se05x_link_close(struct se05x_link *link)
{
    if (link == NULL)
        return;
    if (link->end_session)
        say_goodbye(link);
    link->bus->ops->close(link->bus);
    release(link);
}

void se05x_link_abandon(struct se05x_link *link)
{
    if (link == NULL)
        return;
    link->bus->ops->abandon(link->bus);
    release(link);
}

void se05x_link_get_stats(const struct se05x_link *link, struct se05x_link_stats *stats)
{
    *stats = link->stats;
}

const char *se05x_link_name(const struct se05x_link *link)
{
    return link->bus->name;
}

/* ---- the ATR ---------------------------------------------------------------------------------------------
 */

static hsm_status read_atr(struct se05x_link *link)
{
    enum { ATR_USUAL = 35 };
    struct hsm_buf own = { link->atr, sizeof(link->atr), 0 };

    begin(link);
    if (!request(link, T1_S_GET_ATR, &own, ATR_USUAL, now_us(link) + (uint64_t)link->timeout_ms * 1000))
        return failed(link);
    end(link);
    link->atr_len = own.len;
    return HSM_OK;
}

hsm_status se05x_link_atr(struct se05x_link *link, struct hsm_buf *atr)
{
    hsm_status st = HSM_OK;

    if (link->atr_len == 0) {
        if ((st = se05x_link_lock(link)) != HSM_OK)
            return st;
        st = read_atr(link);
        se05x_link_unlock(link);
    }
    if (st != HSM_OK)
        return st;
    if (atr->cap < link->atr_len)
        return hsm_fail(HSM_ERR_BUFFER, "the ATR has %zu bytes", link->atr_len);
    memcpy(atr->ptr, link->atr, link->atr_len);
    atr->len = link->atr_len;
    return HSM_OK;
}
