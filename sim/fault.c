/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on request: what goes wrong, how often, from when on. Reproducible: one generator, one seed. */
#include "lower.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* How the number after '=' is read, and what its absence means. */
enum value_kind {
    RATE,  /* probability per opportunity; absent: once */
    COUNT, /* a number, mandatory */
    OPTIONAL_COUNT,
    FLAG
};

static const struct {
    const char *name;
    enum value_kind kind;
    bool once; /* unless a rule says otherwise */
    const char *help;
} kinds[FAULT_KINDS] = {
    [FAULT_NACK] = { "nack", RATE, false, "the address is refused at random" },
    [FAULT_NACK_STORM] = { "nack-storm", COUNT, true, "the next N messages are refused" },
    [FAULT_BITFLIP] = { "bitflip", RATE, false, "per byte, both directions: one bit is inverted" },
    [FAULT_BAD_CRC] = { "bad-crc", RATE, false, "an answer block leaves with a wrong CRC" },
    [FAULT_DROP_ANSWER] = { "drop-answer", RATE, false, "an answer block is lost: nothing to read" },
    [FAULT_DUPLICATE_ANSWER] = { "duplicate-answer", RATE, false,
                                 "a block comes again before the next answer" },
    [FAULT_TRUNCATE_ANSWER] = { "truncate-answer", RATE, false, "an answer block ends early" },
    [FAULT_WRONG_NS] = { "wrong-ns", RATE, false, "an I-block leaves with the other N(S)" },
    [FAULT_R_ERROR] = { "r-error", RATE, false, "an I-block is refused by R(error) and not looked at" },
    [FAULT_RESET_AT_BYTE] = { "reset-at-byte", COUNT, true, "the chip resets after the N-th byte" },
    [FAULT_POWER_CUT_AT_BYTE] = { "power-cut-at-byte", COUNT, true, "the power fails after the N-th byte" },
    [FAULT_POWER_CUT_IN_APDU] = { "power-cut-in-apdu", RATE, false,
                                  "the power fails while a command runs, before or after it took effect" },
    [FAULT_STUCK_BUSY] = { "stuck-busy", OPTIONAL_COUNT, true,
                           "after a command the chip is busy for N ms (absent: until reset)" },
    [FAULT_STUCK_LOW] = { "stuck-low", COUNT, true, "the bus is held low for N ms: status 3" },
    [FAULT_SLOW_WTX] = { "slow-wtx", COUNT, false, "N waiting-time extensions before each answer" },
    [FAULT_LATE_BOOT] = { "late-boot", OPTIONAL_COUNT, false, "silent for N ms after power-on or reset" },
    [FAULT_EMPTY_FRAME_HANG] = { "empty-frame-hang", FLAG, false,
                                 "a message without bytes makes the chip silent until a power cycle" },
    [FAULT_REPEAT_OLD_NS] = { "repeat-old-ns", FLAG, false,
                              "an I-block with the N(S) of the last one gets the last answer again, not "
                              "R(error)" },
};

struct fault {
    bool armed;
    double value;
    uint64_t left;  /* strikes; UINT64_MAX: no limit */
    uint64_t after; /* opportunities, or bytes, still to pass */
    uint64_t every, since_strike;
    struct fault_end end;
};

static struct fault faults[FAULT_KINDS];
static uint64_t state = 0x5E05;

/* splitmix64: faults need reproducible numbers, not secret ones. */
static uint64_t next_random(void)
{
    uint64_t z = state += 0x9E3779B97F4A7C15U;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    return z ^ z >> 31;
}

uint32_t fault_random(uint32_t below)
{
    return below == 0 ? 0 : (uint32_t)(next_random() % below);
}

static bool chance(double rate)
{
    return (double)(next_random() >> 11) * 0x1p-53 < rate;
}

/* ---- the grammar ------------------------------------------------------------------------------------ */

static bool parse_number(const char *text, double *value)
{
    char *end;

    if (text == NULL || *text == '\0')
        return false;
    errno = 0;
    *value = strtod(text, &end);
    return errno == 0 && *end == '\0' && *value >= 0 && *value <= 1e15;
}

static bool parse_rule(struct fault *f, char *rule)
{
    char *equals = strchr(rule, '=');
    double value = 0;

    if (equals != NULL)
        *equals++ = '\0';
    if (strcmp(rule, "once") == 0 && equals == NULL) {
        f->left = 1;
        return true;
    }
    if (strcmp(rule, "command") == 0 && equals == NULL) {
        f->end = (struct fault_end){ 0, 0 };
        return true;
    }
    if (!parse_number(equals, &value))
        return false;
    if (strcmp(rule, "times") == 0)
        f->left = (uint64_t)value;
    else if (strcmp(rule, "after") == 0)
        f->after = (uint64_t)value;
    else if (strcmp(rule, "every") == 0 && value >= 1)
        f->every = (uint64_t)value;
    else if (strcmp(rule, "polls") == 0)
        f->end = (struct fault_end){ .polls = (uint64_t)value };
    else if (strcmp(rule, "ms") == 0)
        f->end = (struct fault_end){ .ms = (uint64_t)value };
    else
        return false;
    return true;
}

static const char *parse_value(struct fault *f, enum value_kind kind, const char *text)
{
    if (text == NULL) {
        if (kind == COUNT)
            return "this fault needs a number";
        f->value = kind == RATE ? 1 : 0;
        if (kind == RATE)
            f->left = 1;
        return NULL;
    }
    if (kind == FLAG || !parse_number(text, &f->value) || (kind == RATE && f->value > 1))
        return "the value does not fit the fault";
    return NULL;
}

static const char *add_one(char *text)
{
    char *rules = strchr(text, '@'), *value, *save;
    enum fault_kind kind = 0;
    struct fault f = { .armed = true, .left = UINT64_MAX, .end = { .polls = 3 } };
    const char *wrong;
    double seed;

    if (rules != NULL)
        *rules++ = '\0';
    value = strchr(text, '=');
    if (value != NULL)
        *value++ = '\0';
    if (strcmp(text, "seed") == 0 && parse_number(value, &seed)) {
        state = (uint64_t)seed;
        return NULL;
    }
    while (kind < FAULT_KINDS && strcmp(kinds[kind].name, text) != 0)
        kind++;
    if (kind == FAULT_KINDS)
        return "no such fault";
    if (kinds[kind].once)
        f.left = 1;
    if ((wrong = parse_value(&f, kinds[kind].kind, value)) != NULL)
        return wrong;
    for (char *rule = rules == NULL ? NULL : strtok_r(rules, "+", &save); rule != NULL;
         rule = strtok_r(NULL, "+", &save)) {
        if (!parse_rule(&f, rule))
            return "rules are once, times=N, after=N, every=N, polls=N, ms=N, command";
    }
    faults[kind] = f;
    return NULL;
}

const char *fault_add(const char *spec)
{
    char *copy = strdup(spec), *save;
    const char *wrong = copy == NULL ? "out of memory" : NULL;

    for (char *one = copy == NULL ? NULL : strtok_r(copy, ",", &save); one != NULL && wrong == NULL;
         one = strtok_r(NULL, ",", &save))
        wrong = add_one(one);
    free(copy);
    return wrong;
}

void fault_clear(void)
{
    memset(faults, 0, sizeof(faults));
}

void fault_print(FILE *out)
{
    for (int i = 0; i < FAULT_KINDS; i++) {
        if (faults[i].armed)
            fprintf(out, "%s=%g left %" PRIu64 "\n", kinds[i].name, faults[i].value, faults[i].left);
    }
}

void fault_print_grammar(FILE *out)
{
    static const char *const forms[] = { "[=RATE]", "=N", "[=N]", "" };

    fputs(
        "Faults: name[=value][@rule[+rule...]], several joined by commas; seed=N makes them reproducible.\n",
        out);
    for (int i = 0; i < FAULT_KINDS; i++)
        fprintf(out, "  %s%-*s %s\n", kinds[i].name, (int)(24 - strlen(kinds[i].name)), forms[kinds[i].kind],
                kinds[i].help);
    fputs("Rules: once, times=N (strikes), after=N (opportunities let pass), every=N (only each N-th);\n"
          "  the power comes back, late-boot ends: polls=N (messages), ms=N, command (\"power-on\"); default "
          "polls=3.\n",
          out);
}

/* ---- opportunities ---------------------------------------------------------------------------------- */

static bool count_strike(enum fault_kind kind)
{
    struct fault *f = &faults[kind];

    if (f->left == 0)
        return false;
    if (f->left != UINT64_MAX)
        f->left--;
    sim_stats.faults++;
    return true;
}

bool fault_strikes(enum fault_kind kind)
{
    struct fault *f = &faults[kind];

    if (!f->armed || f->left == 0)
        return false;
    if (f->after > 0) {
        f->after--;
        return false;
    }
    if (f->every > 1 && ++f->since_strike < f->every)
        return false;
    f->since_strike = 0;
    if (kinds[kind].kind == RATE && !chance(f->value))
        return false;
    return count_strike(kind);
}

size_t fault_at_byte(enum fault_kind kind, size_t count)
{
    struct fault *f = &faults[kind];
    uint64_t target = (uint64_t)f->value, before = f->since_strike;

    if (!f->armed || f->left == 0)
        return 0;
    f->since_strike += count;
    if (target <= before || target > f->since_strike)
        return 0;
    f->since_strike = 0; /* with times=N: again after as many bytes */
    return count_strike(kind) ? (size_t)(target - before) : 0;
}

uint64_t fault_value(enum fault_kind kind)
{
    return (uint64_t)faults[kind].value;
}

struct fault_end fault_ends(enum fault_kind kind)
{
    return faults[kind].end;
}

void fault_flip(uint8_t *ptr, size_t len)
{
    if (!faults[FAULT_BITFLIP].armed)
        return;
    for (size_t i = 0; i < len; i++) {
        if (fault_strikes(FAULT_BITFLIP))
            ptr[i] ^= (uint8_t)(1U << fault_random(8));
    }
}
