/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

enum {
    BWT_US = 1000000, /* block waiting time: every ATR seen says 1000 ms */
    STEP_PERCENT = 3,
    STEP_MIN_US = 300,
    STEP_MAX_US = 2000,
    STEP_LATE_US = 10000, /* one part hung when polled faster than this for long (se05x.md 1.7) */
    SILENCE_US = 250000,  /* what a chip may add to any time we know of, before we ask */
    LEARNED_MAX_US = 20000000
};

/* Before anything is learned: the soonest that any part can be done, and the longest that was seen or is
 * plausible. Source: se05x.md section 7.1; the spread between parts is large. */
static const struct {
    uint32_t soonest_us, longest_us;
} known[SE05X_TIME_COUNT] = {
    [SE05X_TIME_SHORT] = { 500, 20000 },          [SE05X_TIME_WRITE] = { 1000, 100000 },
    [SE05X_TIME_EC_SMALL] = { 10000, 250000 },    [SE05X_TIME_EC_LARGE] = { 20000, 700000 },
    [SE05X_TIME_ED25519] = { 30000, 300000 },     [SE05X_TIME_X25519] = { 10000, 200000 },
    [SE05X_TIME_EC_GENERATE] = { 10000, 500000 }, [SE05X_TIME_RSA2048] = { 20000, 400000 },
    [SE05X_TIME_RSA3072] = { 40000, 1000000 },    [SE05X_TIME_RSA4096] = { 80000, 2000000 },
    [SE05X_TIME_RSA_PUBLIC] = { 1000, 100000 },   [SE05X_TIME_RSA_GENERATE] = { 300000, 120000000 },
    [SE05X_TIME_SYMMETRIC] = { 500, 50000 },
};

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

static uint64_t step(uint64_t elapsed_us, uint64_t min_us, uint64_t max_us)
{
    return clamp(elapsed_us * STEP_PERCENT / 100, min_us, max_us);
}

static bool is_learned(const struct pace_memory *m)
{
    return m->mean_us > 0 && m->mean_us <= LEARNED_MAX_US;
}

/* How far before the mean the first poll is worth its while. */
static uint64_t margin(const struct pace_memory *m)
{
    uint64_t one_step = step(m->mean_us, STEP_MIN_US, STEP_MAX_US), spread = 2 * (uint64_t)m->spread_us;

    return spread > one_step ? spread : one_step;
}

struct pace pace_command(enum se05x_time time, const struct pace_memory *memory)
{
    struct pace p = { .first_us = known[time].soonest_us,
                      .step_us = STEP_MIN_US,
                      .late_us = known[time].longest_us,
                      .longest_us = known[time].longest_us };

    if (time == SE05X_TIME_RSA_GENERATE) { /* a search: nothing to learn, and no hurry */
        p.step_us = STEP_LATE_US;
    } else if (is_learned(memory)) {
        p.first_us = margin(memory) < memory->mean_us ? memory->mean_us - margin(memory) : 0;
        p.late_us = 2 * (uint64_t)memory->mean_us + STEP_MAX_US;
        if (p.longest_us < 4 * (uint64_t)memory->mean_us)
            p.longest_us = 4 * (uint64_t)memory->mean_us;
    }
    p.longest_us += SILENCE_US;
    return p;
}

struct pace pace_protocol(void)
{
    return (struct pace){ .step_us = STEP_MIN_US, .late_us = STEP_MAX_US, .longest_us = SILENCE_US };
}

struct pace pace_extended(unsigned waits)
{
    return (struct pace){ .first_us = STEP_LATE_US,
                          .step_us = STEP_LATE_US,
                          .longest_us = (uint64_t)waits * BWT_US + SILENCE_US };
}

uint64_t pace_next(const struct pace *p, uint64_t elapsed_us)
{
    uint64_t max_us = elapsed_us > p->late_us ? STEP_LATE_US : STEP_MAX_US;

    return elapsed_us + step(elapsed_us, p->step_us, max_us > p->step_us ? max_us : p->step_us);
}

void pace_learn(struct pace_memory *memory, uint64_t took_us, bool refused)
{
    uint32_t took, off;

    if (took_us > LEARNED_MAX_US)
        return;
    took = (uint32_t)(refused ? took_us : took_us * 7 / 8) | 1; /* never 0, which is "nothing" */
    if (!is_learned(memory)) {
        *memory = (struct pace_memory){ took, took / 8 };
        return;
    }
    off = took > memory->mean_us ? took - memory->mean_us : memory->mean_us - took;
    if (memory->spread_us > memory->mean_us)
        memory->spread_us = memory->mean_us;
    memory->spread_us = (uint32_t)((3 * (uint64_t)memory->spread_us + off) / 4);
    memory->mean_us = (uint32_t)(((uint64_t)memory->mean_us + took) / 2) | 1;
}
