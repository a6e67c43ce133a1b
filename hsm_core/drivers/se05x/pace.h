/* SPDX-License-Identifier: Apache-2.0 */
/**
 * When to poll a chip whose only sign of being busy is silence. Pure. The time that a kind of command takes
 * is learned; the first poll comes shortly before the earliest end that is plausible, then steps of 3 % of
 * the time gone by: whoever waits loses little, and the bus stays free for others.
 */
#ifndef SE05X_PACE_H
#define SE05X_PACE_H

#include "internal.h"

/** What was learned of one kind of command; all zero: nothing. Any content is acceptable. */
struct pace_memory {
    uint32_t mean_us, spread_us;
};

/** Times count from the moment the last byte of the command was out. */
struct pace {
    uint64_t first_us;   /* first poll */
    uint64_t step_us;    /* shortest step */
    uint64_t late_us;    /* from here on it takes much longer than usual: longer steps are allowed */
    uint64_t longest_us; /* silence beyond is a lost answer, not work */
};

/** A command of kind @p time is under way. */
struct pace pace_command(enum se05x_time time, const struct pace_memory *memory);
/** An answer that needs no computing. */
struct pace pace_protocol(void);
/** The chip asked for @p waits block waiting times. */
struct pace pace_extended(unsigned waits);
/** @return when to poll after a poll at @p elapsed_us that was refused */
uint64_t pace_next(const struct pace *p, uint64_t elapsed_us);
/** An answer was there at @p took_us. @p refused: a poll shortly before had been refused, else it may have
 * been there for long. */
void pace_learn(struct pace_memory *memory, uint64_t took_us, bool refused);

#endif
