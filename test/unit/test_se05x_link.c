/* SPDX-License-Identifier: Apache-2.0 */
/* The link over a chip and a clock that this test plays (fake_chip.h): nothing here takes time. */
#include "token_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fake_chip.h"
#include "se05x/internal.h"
#include "se05x/link.h"
#include "se05x/pace.h"
#include "se05x/share.h"

enum { ADDR = 0x48, TIMEOUT_MS = 1000, TIMEOUT_US = TIMEOUT_MS * 1000 };

static struct fake_chip *chip; /* shared with children */
static struct fake_bus *bus;   /* of the link that was made last */
static uint8_t answer_bytes[SE05X_APDU_MAX];
static struct hsm_buf answer = { answer_bytes, sizeof(answer_bytes), 0 };
static enum se05x_delivery delivery;

static void setup(void)
{
    make_temp_dir();
    chip = mmap(NULL, sizeof(*chip), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(chip, MAP_FAILED);
    chip->now_us = 1000000;
    chip->work_us = 1000;
}

static void teardown(void)
{
    (void)munmap(chip, sizeof(*chip));
    remove_temp_dir();
}

static int open_lock(void)
{
    char path[300];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/lock", temp_dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static struct se05x_link *new_link_on(int lock_fd, const char *state_name)
{
    struct se05x_link *link = NULL;

    bus = fake_bus_new(chip, lock_fd);
    (void)snprintf(bus->base.state_name, sizeof(bus->base.state_name), "%s", state_name);
    ck_ok(se05x_link_new(&bus->base, ADDR, TIMEOUT_MS, temp_dir, &link));
    return link;
}

/* Alone on its bus. */
static struct se05x_link *new_link(void)
{
    return new_link_on(-1, "");
}

/* Sharing chip and state with others. */
static struct se05x_link *new_shared_link(void)
{
    return new_link_on(open_lock(), "");
}

static hsm_status try_exchange(struct se05x_link *link, enum se05x_time time, size_t len, size_t expect)
{
    static uint8_t command[FAKE_BYTES_MAX];
    hsm_status st;
    size_t i;

    for (i = 0; i < len; i++)
        command[i] = (uint8_t)(i + chip->commands);
    st = se05x_link_exchange(link, time, (struct hsm_bytes){ command, len }, expect, &answer, &delivery);
    if (st != HSM_OK)
        return st;
    ck_assert_uint_eq(answer.len, (chip->answer_len > 0 ? chip->answer_len : len) + 2);
    ck_assert_mem_eq(answer.ptr, command, answer.len - 2);
    ck_assert_mem_eq(answer.ptr + answer.len - 2, "\x90\x00", 2);
    return HSM_OK;
}

static void exchange(struct se05x_link *link, enum se05x_time time, size_t len, size_t expect)
{
    ck_ok(try_exchange(link, time, len, expect));
    ck_assert_int_eq(delivery, SE05X_ANSWERED);
}

static struct se05x_link_stats stats_of(struct se05x_link *link)
{
    struct se05x_link_stats s;

    se05x_link_get_stats(link, &s);
    return s;
}

/* ---- plain work ------------------------------------------------------------------------------------------
 */

START_TEST(opening_and_closing_send_nothing)
{
    bool closed = false;
    struct se05x_link *link = new_link();

    bus->closed = &closed;
    se05x_link_close(link);
    ck_assert(closed);
    ck_assert_uint_eq(chip->writes + chip->reads, 0);
    se05x_link_close(NULL);
    se05x_link_abandon(NULL);
}
END_TEST

START_TEST(first_lock_resynchronises_once)
{
    struct se05x_link *link = new_link();
    int i;

    for (i = 0; i < 5; i++) {
        ck_ok(se05x_link_lock(link));
        exchange(link, SE05X_TIME_SHORT, 10, 12);
        se05x_link_unlock(link);
    }
    ck_assert_uint_eq(chip->resynchs, 1);
    ck_assert_uint_eq(chip->commands, 5);
    ck_assert_uint_eq(stats_of(link).apdus, 5);
    ck_assert_uint_eq(stats_of(link).resynchs, 1);
    se05x_link_close(link);
}
END_TEST

START_TEST(locks_nest_and_work_needs_one)
{
    struct se05x_link *link = new_link();

    ck_hsm(try_exchange(link, SE05X_TIME_SHORT, 10, 0), HSM_ERR_INTERNAL, __LINE__);
    ck_hsm(se05x_link_recover(link, false), HSM_ERR_INTERNAL, __LINE__);
    ck_ok(se05x_link_lock(link));
    ck_ok(se05x_link_lock(link));
    se05x_link_unlock(link);
    exchange(link, SE05X_TIME_SHORT, 10, 0);
    se05x_link_unlock(link);
    ck_hsm(try_exchange(link, SE05X_TIME_SHORT, 10, 0), HSM_ERR_INTERNAL, __LINE__);
    se05x_link_close(link);
}
END_TEST

START_TEST(commands_of_every_length_arrive)
{
    static const size_t lengths[] = { 4, 253, 254, 255, 508, 509, 900, 1096 };
    struct se05x_link *link = new_link();
    size_t i;

    ck_ok(se05x_link_lock(link));
    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        exchange(link, SE05X_TIME_SHORT, lengths[i], 0);
        exchange(link, SE05X_TIME_SHORT, lengths[i], lengths[i] + 2);
        exchange(link, SE05X_TIME_SHORT, lengths[i], 20); /* wrongly foreseen */
        exchange(link, SE05X_TIME_SHORT, lengths[i], 1098);
    }
    ck_assert_uint_eq(chip->odd, 0);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(foreseen_answer_is_read_in_one_message)
{
    struct se05x_link *link = new_link();
    unsigned before;

    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 0);
    before = chip->reads - chip->refused;
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    ck_assert_uint_eq(chip->reads - chip->refused - before, 1);
    before = chip->reads - chip->refused;
    exchange(link, SE05X_TIME_SHORT, 10, 0);
    ck_assert_uint_eq(chip->reads - chip->refused - before, 2);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

static const size_t read_limits[] = { 8192, 259, 255, 128, 64, 32, 3, 1 };

/* Instead of a signature, say, comes an error word; behind it there is nothing to read in a second message.
 */
START_TEST(answer_shorter_than_foreseen_is_taken_whatever_the_adapter_reads_at_once)
{
    struct se05x_link *link = new_link();

    bus->base.read_max = read_limits[_i];
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_RSA2048, 10, 262);
    exchange(link, SE05X_TIME_RSA2048, 300, 700);
    ck_assert_uint_eq(chip->commands, 2);
    ck_assert_uint_le(chip->now_us, 1000000 + 6 * TIMEOUT_US / 10); /* nothing was asked for again */
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(long_answers_are_read_in_as_many_messages_as_it_takes)
{
    static const size_t lengths[] = { 10, 252, 253, 506, 900 };
    struct se05x_link *link = new_link();
    size_t i;

    bus->base.read_max = read_limits[_i];
    ck_ok(se05x_link_lock(link));
    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        exchange(link, SE05X_TIME_SHORT, lengths[i], 0);
        exchange(link, SE05X_TIME_SHORT, lengths[i], lengths[i] + 2);
    }
    ck_assert_uint_eq(chip->odd, 0);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(atr_is_read_once)
{
    uint8_t bytes[64];
    struct hsm_buf atr = { bytes, sizeof(bytes), 0 }, small = { bytes, 10, 0 };
    struct se05x_link *link = new_link();
    unsigned writes;

    ck_ok(se05x_link_atr(link, &atr));
    ck_assert_uint_eq(atr.len, 35);
    ck_assert_uint_eq(bytes[1], 0xa0);
    writes = chip->writes;
    ck_ok(se05x_link_atr(link, &atr));
    ck_hsm(se05x_link_atr(link, &small), HSM_ERR_BUFFER, __LINE__);
    ck_assert_uint_eq(chip->writes, writes);
    se05x_link_close(link);
}
END_TEST

/* ---- waiting ---------------------------------------------------------------------------------------------
 */

/* What a wait costs: how late the answer was noticed, and how many polls were refused. */
struct cost {
    uint64_t late_us;
    unsigned refused;
};

static struct cost cost_of(struct se05x_link *link, enum se05x_time time)
{
    unsigned before = chip->refused;
    struct cost c;

    exchange(link, time, 10, 12);
    c.late_us = chip->now_us - chip->done_us - MESSAGE_US - 17 * BYTE_US; /* reading the block itself */
    c.refused = chip->refused - before;
    return c;
}

static const struct {
    enum se05x_time time;
    uint64_t work_us;
} works[] = {
    { SE05X_TIME_SHORT, 300 },      { SE05X_TIME_SHORT, 2000 },       { SE05X_TIME_WRITE, 9000 },
    { SE05X_TIME_EC_SMALL, 60000 }, { SE05X_TIME_EC_SMALL, 103000 },  { SE05X_TIME_EC_LARGE, 400000 },
    { SE05X_TIME_ED25519, 258000 }, { SE05X_TIME_RSA2048, 150000 },   { SE05X_TIME_RSA4096, 850000 },
    { SE05X_TIME_SYMMETRIC, 2500 }, { SE05X_TIME_RSA_PUBLIC, 12000 },
};

START_TEST(learned_work_is_noticed_soon_and_with_few_polls)
{
    uint64_t work = works[_i].work_us, late_max = work * 4 / 100 > 450 ? work * 4 / 100 : 450;
    struct se05x_link *link = new_link();
    struct cost c;
    int i;

    chip->work_us = work;
    ck_ok(se05x_link_lock(link));
    for (i = 0; i < 40; i++) {
        c = cost_of(link, works[_i].time);
        if (i < 10)
            continue;
        ck_assert_msg(c.late_us <= late_max, "%u us of work noticed %u us late", (unsigned)work,
                      (unsigned)c.late_us);
        ck_assert_msg(c.refused <= 10, "%u us of work: %u polls refused", (unsigned)work, c.refused);
    }
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(first_work_is_noticed_soon_as_well)
{
    struct se05x_link *link = new_link();
    struct cost c;

    chip->work_us = works[_i].work_us;
    ck_ok(se05x_link_lock(link));
    c = cost_of(link, works[_i].time);
    ck_assert_uint_le(c.late_us, chip->work_us * 4 / 100 + 700);
    ck_assert_uint_le(c.refused, 400);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(work_that_varies_is_noticed_soon)
{
    struct se05x_link *link = new_link();
    struct cost c;
    int i;

    srand(1);
    ck_ok(se05x_link_lock(link));
    for (i = 0; i < 60; i++) {
        chip->work_us = 90000 + (uint64_t)(rand() % 20000);
        c = cost_of(link, SE05X_TIME_EC_SMALL);
        if (i > 15)
            ck_assert_uint_le(c.late_us, 5000);
        if (i > 15)
            ck_assert_uint_le(c.refused, 20);
    }
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(long_work_is_polled_gently)
{
    struct se05x_link *link = new_link();
    uint64_t last = 0;
    unsigned i, n;

    chip->work_us = 20000000;
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_RSA_GENERATE, 10, 12);
    n = chip->refused;
    ck_assert_uint_le(n, 2100);
    for (i = 0; i < n; i++) {
        ck_assert_uint_ge(chip->refused_at_us[i] - last, 10000);
        last = chip->refused_at_us[i];
    }
    ck_assert_uint_eq(chip->commands, 1);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(more_time_is_given)
{
    struct se05x_link *link = new_link();
    unsigned refused;

    chip->work_us = 950000;
    chip->wtx_us = 950000;
    chip->wtx_first = 30;
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_RSA_GENERATE, 300, 400);
    refused = chip->refused;
    exchange(link, SE05X_TIME_SHORT, 10,
             12); /* much longer than anything of its kind, and than the time-out */
    ck_assert_uint_eq(chip->commands, 2);
    ck_assert_uint_le(refused, 3100);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(busy_chip_takes_the_command_later)
{
    struct se05x_link *link = new_link();

    ck_ok(se05x_link_lock(link));
    chip->absent_until_us = chip->now_us + TIMEOUT_US / 2;
    ck_ok(try_exchange(link, SE05X_TIME_SHORT, 10, 12));
    ck_assert_uint_le(chip->refused, 100);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

/* ---- trouble ---------------------------------------------------------------------------------------------
 */

START_TEST(lost_and_garbled_answers_are_asked_for)
{
    static const size_t lengths[] = { 10, 300, 600 };
    struct se05x_link *link = new_link();
    unsigned i;

    ck_ok(se05x_link_lock(link));
    for (i = 0; i < 24; i++) {
        chip->lose = i % 3;
        chip->garble = i / 3 % 2;
        chip->misaligned = i % 5;
        exchange(link, SE05X_TIME_SHORT, lengths[i % 3], i % 2 == 0 ? lengths[i % 3] + 2 : 0);
        ck_assert_uint_eq(chip->commands, i + 1); /* none was executed twice */
    }
    ck_assert_uint_eq(chip->resynchs, 1);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(disturbed_write_is_not_repeated_blindly)
{
    struct se05x_link *link = new_link();

    ck_ok(se05x_link_lock(link));
    chip->disturb = 1; /* it has arrived all the same */
    exchange(link, SE05X_TIME_EC_SMALL, 10, 12);
    ck_assert_uint_eq(chip->commands, 1);
    chip->arbitration = 3; /* it surely has not */
    ck_ok(try_exchange(link, SE05X_TIME_EC_SMALL, 10, 12));
    ck_assert_uint_eq(chip->commands, 2);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(absent_chip_fails_in_bounded_time)
{
    struct se05x_link *link = new_link();
    uint64_t begin = chip->now_us;
    hsm_status st;

    chip->absent = true;
    st = se05x_link_lock(link);
    ck_hsm(st, HSM_ERR_TOKEN_IO, __LINE__);
    ck_line_has(st, "fake bus");
    ck_line_has(st, "powered");
    ck_assert_uint_le(chip->now_us - begin, 4 * TIMEOUT_US);
    chip->absent = false; /* and works as soon as it is there */
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(command_that_never_arrived_was_not_executed)
{
    struct se05x_link *link = new_link();
    uint64_t begin;

    ck_ok(se05x_link_lock(link));
    chip->deaf = true;
    begin = chip->now_us;
    ck_hsm(try_exchange(link, SE05X_TIME_SHORT, 10, 12), HSM_ERR_TOKEN_IO, __LINE__);
    ck_assert_int_eq(delivery, SE05X_NOT_EXECUTED);
    ck_assert_uint_le(chip->now_us - begin, 2 * TIMEOUT_US);
    ck_hsm(try_exchange(link, SE05X_TIME_SHORT, 10, 12), HSM_ERR_TOKEN_IO,
           __LINE__); /* out of step until ... */
    chip->deaf = false;
    ck_ok(se05x_link_recover(link, false));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(command_without_answer_may_have_been_executed)
{
    struct se05x_link *link = new_link();
    uint64_t begin;

    ck_ok(se05x_link_lock(link));
    chip->lose = 1000;
    begin = chip->now_us;
    ck_hsm(try_exchange(link, SE05X_TIME_SHORT, 10, 12), HSM_ERR_TOKEN_IO, __LINE__);
    ck_assert_int_eq(delivery, SE05X_MAYBE_EXECUTED);
    ck_assert_uint_eq(chip->commands, 1);
    ck_assert_uint_le(chip->now_us - begin, 3 * TIMEOUT_US);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(chip_that_dies_at_work_fails_in_bounded_time)
{
    struct se05x_link *link = new_link();
    uint64_t begin;

    ck_ok(se05x_link_lock(link));
    chip->work_us = UINT64_MAX / 2;
    begin = chip->now_us;
    ck_hsm(try_exchange(link, SE05X_TIME_EC_SMALL, 10, 12), HSM_ERR_TOKEN_IO, __LINE__);
    ck_assert_int_eq(delivery, SE05X_MAYBE_EXECUTED);
    ck_assert_uint_le(chip->now_us - begin, 3 * TIMEOUT_US);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

/* Busy until the time is nearly up, and then the bus is disturbed behind the end of the command. */
START_TEST(command_that_arrives_at_the_last_moment_is_not_called_unexecuted)
{
    struct se05x_link *link;
    unsigned before, i, at_the_end = 0;

    for (i = 0; i < 200; i++) {
        link = new_link();
        ck_ok(se05x_link_lock(link));
        before = chip->commands;
        chip->absent_until_us = chip->now_us + TIMEOUT_US + 650000 - 10000 + 200 * i;
        chip->disturb = 1;
        if (try_exchange(link, SE05X_TIME_RSA2048, 10, 12) != HSM_OK && chip->commands != before) {
            ck_assert_int_eq(delivery, SE05X_MAYBE_EXECUTED);
            at_the_end++;
        }
        se05x_link_unlock(link);
        se05x_link_close(link);
        chip->absent_until_us = chip->disturb = 0;
    }
    ck_assert_uint_gt(at_the_end, 0);
}
END_TEST

/* Another host that takes no lock, or a reset: whatever has become of the numbers, no piece of a command is
 * executed as a command, and no answer to the other one's is taken for ours. */
START_TEST(host_and_chip_out_of_step_do_no_harm)
{
    struct se05x_link *link = new_link(), *foreign = new_link();
    size_t len = _i % 2 == 0 ? 10 : 600;
    bool by_reset = _i / 4 % 2 != 0;
    int i;

    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    for (i = 0; i < _i / 2 % 2; i++)
        exchange(link, SE05X_TIME_SHORT, 10, 12);
    if (by_reset) {
        fake_forget(chip);
    } else {
        ck_ok(se05x_link_lock(foreign));
        for (i = 0; i < 1 + _i / 8; i++)
            exchange(foreign, SE05X_TIME_SHORT, 20, 22);
        se05x_link_unlock(foreign);
    }
    chip->answer_total = 0;
    if (try_exchange(link, SE05X_TIME_SHORT, len, len + 2) != HSM_OK) {
        ck_assert_uint_eq(chip->answer_total, 0); /* nothing was executed */
        ck_assert_int_eq(delivery, len > T1_INF_MAX ? SE05X_NOT_EXECUTED : SE05X_MAYBE_EXECUTED);
        ck_ok(se05x_link_recover(link, false));
        exchange(link, SE05X_TIME_SHORT, len, len + 2);
    }
    ck_assert_uint_eq(chip->answer_total, len + 2);
    se05x_link_unlock(link);
    se05x_link_close(link);
    se05x_link_close(foreign);
}
END_TEST

START_TEST(command_sent_again_after_a_reset_is_told)
{
    struct se05x_link *link = new_link();

    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    exchange(link, SE05X_TIME_SHORT, 10,
             12); /* so that the next has N(S)=0, which a chip after reset expects */
    chip->reset_after_command = true;
    (void)try_exchange(link, SE05X_TIME_SHORT, 10, 12);
    ck_assert_uint_eq(chip->commands, 4);
    ck_assert_int_eq(delivery, SE05X_MAYBE_EXECUTED);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

static const struct {
    unsigned dead_codes;
    bool pin, hard, up;
} ladders[] = {
    { 0, false, false, true },
    { 0, false, true, true },
    { 1u << T1_S_RESYNCH, false, false, true },
    { 1u << T1_S_RESYNCH | 1u << T1_S_SOFT_RESET, false, false, true },
    { 1u << T1_S_RESYNCH | 1u << T1_S_SOFT_RESET | 1u << T1_S_CHIP_RESET, true, false, true },
    { 1u << T1_S_RESYNCH | 1u << T1_S_SOFT_RESET | 1u << T1_S_CHIP_RESET, false, false, false },
};

START_TEST(recovery_climbs_as_far_as_it_must)
{
    struct se05x_link *link = new_link();
    unsigned resynchs;
    uint64_t begin;

    if (ladders[_i].pin)
        bus->base.ops = &fake_ops_with_pin;
    ck_ok(se05x_link_lock(link));
    se05x_link_set_selected(link, true);
    chip->dead_codes = ladders[_i].dead_codes;
    resynchs = chip->resynchs;
    begin = chip->now_us;
    ck_hsm(se05x_link_recover(link, ladders[_i].hard), ladders[_i].up ? HSM_OK : HSM_ERR_TOKEN_IO, __LINE__);
    ck_assert_uint_eq(se05x_link_epoch(link), 0);
    ck_assert_uint_eq(chip->resynchs - resynchs, _i == 0);
    ck_assert_uint_eq(chip->soft_resets, _i == 1 || _i == 2 || _i == 4);
    ck_assert_uint_eq(chip->chip_resets, _i == 3);
    ck_assert_uint_eq(chip->power_cycles, _i == 4);
    ck_assert_uint_le(chip->now_us - begin, 5 * TIMEOUT_US);
    if (ladders[_i].up)
        exchange(link, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

START_TEST(bus_that_is_no_more_is_final)
{
    struct se05x_link *link = new_link();
    hsm_status st;

    ck_ok(se05x_link_lock(link));
    chip->gone = ENODEV;
    st = try_exchange(link, SE05X_TIME_SHORT, 10, 12);
    ck_hsm(st, HSM_ERR_TOKEN_GONE, __LINE__);
    ck_line_has(st, strerror(ENODEV));
    ck_hsm(se05x_link_recover(link, true), HSM_ERR_TOKEN_GONE, __LINE__);
    se05x_link_unlock(link);
    ck_hsm(se05x_link_lock(link), HSM_ERR_TOKEN_GONE, __LINE__);
    se05x_link_close(link);
}
END_TEST

START_TEST(adapter_that_cannot_send_a_block_is_named)
{
    struct se05x_link *link = new_link();
    hsm_status st;

    chip->write_limit = 255;
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 250, 252);
    st = try_exchange(link, SE05X_TIME_SHORT, 300, 0);
    ck_hsm(st, HSM_ERR_TOKEN_GONE, __LINE__);
    ck_line_has(st, "259 bytes");
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

/* ---- epochs ----------------------------------------------------------------------------------------------
 */

START_TEST(epoch_changes_with_every_selection)
{
    struct se05x_link *link = new_link();
    uint64_t first;

    ck_ok(se05x_link_lock(link));
    ck_assert_uint_eq(se05x_link_epoch(link), 0);
    se05x_link_set_selected(link, true);
    first = se05x_link_epoch(link);
    ck_assert_uint_ne(first, 0);
    se05x_link_set_channel_owner(link, 77);
    ck_assert_uint_eq(se05x_link_channel_owner(link), 77);
    se05x_link_set_selected(link, true);
    ck_assert_uint_ne(se05x_link_epoch(link), first);
    ck_assert_uint_eq(se05x_link_channel_owner(link), 0);
    se05x_link_set_selected(link, false);
    ck_assert_uint_eq(se05x_link_epoch(link), 0);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

/* ---- several processes -----------------------------------------------------------------------------------
 */

START_TEST(next_one_goes_on_where_the_last_stopped)
{
    struct se05x_link *a = new_shared_link(), *b = new_shared_link();
    uint64_t epoch;
    int i;

    ck_ok(se05x_link_lock(a));
    se05x_link_set_selected(a, true);
    se05x_link_set_channel_owner(a, 5);
    epoch = se05x_link_epoch(a);
    se05x_link_unlock(a);
    for (i = 0; i < 9; i++) {
        ck_ok(se05x_link_lock(i % 3 == 0 ? a : b));
        exchange(i % 3 == 0 ? a : b, SE05X_TIME_SHORT, 10, 12);
        ck_assert_uint_eq(se05x_link_epoch(i % 3 == 0 ? a : b), epoch);
        ck_assert_uint_eq(se05x_link_channel_owner(i % 3 == 0 ? a : b), 5);
        se05x_link_unlock(i % 3 == 0 ? a : b);
    }
    ck_assert_uint_eq(chip->resynchs, 1);
    ck_assert_uint_eq(chip->odd, 0);
    se05x_link_close(a);
    se05x_link_close(b);
}
END_TEST

START_TEST(what_one_learned_the_other_knows)
{
    struct se05x_link *a = new_shared_link(), *b = new_shared_link();
    struct cost c;
    int i;

    chip->work_us = 80000;
    ck_ok(se05x_link_lock(a));
    for (i = 0; i < 20; i++)
        c = cost_of(a, SE05X_TIME_EC_SMALL);
    se05x_link_unlock(a);
    ck_ok(se05x_link_lock(b));
    c = cost_of(b, SE05X_TIME_EC_SMALL);
    ck_assert_uint_le(c.refused, 5);
    ck_assert_uint_le(c.late_us, 3300);
    se05x_link_unlock(b);
    se05x_link_close(a);
    se05x_link_close(b);
}
END_TEST

START_TEST(busy_names_the_holder)
{
    struct se05x_link *a = new_shared_link(), *b = new_shared_link();
    uint64_t begin;
    char pid[32];
    hsm_status st;

    ck_ok(se05x_link_lock(a));
    exchange(a, SE05X_TIME_SHORT, 10, 12);
    begin = chip->now_us;
    st = se05x_link_lock(b);
    ck_hsm(st, HSM_ERR_BUSY, __LINE__);
    (void)snprintf(pid, sizeof(pid), "process %ld ", (long)getpid());
    ck_line_has(st, pid);
    ck_assert_uint_ge(chip->now_us - begin, TIMEOUT_US);
    ck_assert_uint_le(chip->now_us - begin, 2 * TIMEOUT_US);
    se05x_link_unlock(a);
    ck_ok(se05x_link_lock(b));
    exchange(b, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(b);
    se05x_link_close(a);
    se05x_link_close(b);
}
END_TEST

static void child_that_dies_at_work(size_t len)
{
    struct se05x_link *link = new_shared_link();

    chip->kill_after_command = true;
    if (se05x_link_lock(link) == HSM_OK)
        (void)try_exchange(link, SE05X_TIME_EC_SMALL, len, 0);
    _exit(1);
}

START_TEST(holder_killed_at_work_is_cleaned_up_after)
{
    static const size_t lengths[] = { 10, 600 };
    struct se05x_link *link = new_shared_link();
    uint64_t epoch;
    int status;
    pid_t pid;

    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    se05x_link_set_selected(link, true);
    epoch = se05x_link_epoch(link);
    se05x_link_unlock(link);
    chip->work_us = 200000;
    chip->wtx_first = _i / 2 * 3;
    chip->wtx_us = 900000;
    if ((pid = fork()) == 0)
        child_that_dies_at_work(lengths[_i % 2]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    ck_ok(se05x_link_lock(link));
    ck_assert_uint_eq(chip->resynchs, 2);
    ck_assert_uint_eq(chip->soft_resets, 0);
    ck_assert_uint_eq(se05x_link_epoch(link), epoch); /* the applet was left alone */
    exchange(link, SE05X_TIME_EC_SMALL, 10, 12);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

static pid_t holder;

/* Somebody waits for the lock: the moment to kill its holder, and to see that it is dead. */
static void sleep_and_kill_the_holder(struct hsm_transport *t, uint64_t when_us)
{
    if (holder > 0) {
        (void)kill(holder, SIGKILL);
        (void)waitpid(holder, NULL, 0);
    }
    holder = 0;
    fake_sleep(t, when_us);
}

static void child_that_holds_the_lock(int told)
{
    struct se05x_link *link = new_shared_link();

    if (se05x_link_lock(link) == HSM_OK && try_exchange(link, SE05X_TIME_SHORT, 10, 12) == HSM_OK)
        (void)!write(told, "", 1);
    for (;;)
        (void)pause();
}

START_TEST(waiter_gets_the_lock_of_a_killed_holder)
{
    struct hsm_transport_ops ops = fake_ops;
    struct se05x_link *link;
    int told[2];
    char byte;

    ck_assert_int_eq(pipe2(told, O_CLOEXEC), 0);
    if ((holder = fork()) == 0)
        child_that_holds_the_lock(told[1]);
    ck_assert_int_eq(read(told[0], &byte, 1), 1);
    link = new_shared_link();
    ops.sleep_until_us = sleep_and_kill_the_holder;
    bus->base.ops = &ops;
    ck_ok(se05x_link_lock(link));
    ck_assert_int_eq(holder, 0); /* it did wait */
    ck_assert_uint_eq(chip->resynchs, 1);
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    ck_assert_uint_eq(chip->odd, 0);
    se05x_link_unlock(link);
    se05x_link_close(link);
    (void)close(told[0]);
    (void)close(told[1]);
}
END_TEST

START_TEST(without_shared_state_every_turn_begins_with_a_resynch)
{
    struct se05x_link *link = new_link_on(open_lock(), "state");
    char path[300];
    int i;

    se05x_link_close(link); /* its file, made unusable */
    (void)snprintf(path, sizeof(path), "%s/hsm-state", temp_dir);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    link = new_link_on(open_lock(), "state");
    for (i = 0; i < 4; i++) {
        ck_ok(se05x_link_lock(link));
        exchange(link, SE05X_TIME_SHORT, 10, 12);
        exchange(link, SE05X_TIME_SHORT, 10, 12);
        se05x_link_unlock(link);
    }
    ck_assert_uint_eq(chip->resynchs, 4);
    se05x_link_close(link);
}
END_TEST

START_TEST(shared_file_has_the_mode_of_the_bus)
{
    int lock_fd = open_lock();
    struct se05x_link *link;
    struct stat st;
    char path[300];

    ck_assert_int_eq(fchmod(lock_fd, 0660), 0);
    link = new_link_on(lock_fd, "i2c-3-48");
    (void)snprintf(path, sizeof(path), "%s/hsm-i2c-3-48", temp_dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0660);
    se05x_link_close(link);
}
END_TEST

static void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    (void)close(fd);
}

/* Another user of the bus may write anything into the state: nothing breaks but time. */
START_TEST(nonsense_in_the_shared_state_does_no_harm)
{
    struct se05x_link *link = new_shared_link();
    struct share_state state;
    char path[300];
    size_t i;
    int round;

    (void)snprintf(path, sizeof(path), "%s/lock", temp_dir);
    srand(4711);
    for (round = 0; round < 300; round++) {
        ck_ok(se05x_link_lock(link));
        exchange(link, SE05X_TIME_SHORT, 10, 12);
        state =
            (struct share_state){ .magic = 0x48534d32, .epoch = 1, .nr = round & 1, .ns = round >> 1 & 1 };
        for (i = round % 2 == 0 ? 0 : offsetof(struct share_state, holder); i < sizeof(state); i++)
            ((uint8_t *)&state)[i] = (uint8_t)rand();
        write_file(path, &state, round % 10 == 0 ? (size_t)rand() % sizeof(state) : sizeof(state));
        se05x_link_unlock(link);
        ck_ok(se05x_link_lock(link));
        if (try_exchange(link, SE05X_TIME_EC_SMALL, 10, 12) != HSM_OK)
            ck_ok(se05x_link_recover(link, false));
        se05x_link_unlock(link);
    }
    se05x_link_close(link);
}
END_TEST

START_TEST(state_of_somebody_who_may_not_use_the_bus_is_ignored)
{
    struct share_state state = { .magic = 0x48534d32, .epoch = 1, .selected = 1 };
    struct se05x_link *link;
    char path[300];

    if (geteuid() != 0)
        return;
    (void)snprintf(path, sizeof(path), "%s/hsm-state", temp_dir);
    write_file(path, &state, sizeof(state));
    ck_assert_int_eq(chown(path, 12345, 12345), 0);
    link = new_link_on(open_lock(), "state");
    ck_ok(se05x_link_lock(link));
    ck_assert_uint_eq(se05x_link_epoch(link), 0);
    ck_assert_uint_eq(chip->resynchs, 1);
    se05x_link_unlock(link);
    se05x_link_close(link);
}
END_TEST

/* In a directory for everybody, a link to a file of ours must not have us write into it. */
START_TEST(state_file_with_a_second_name_is_not_written)
{
    char path[300], victim[300], text[16] = { 0 };
    struct se05x_link *link;
    int fd;

    (void)snprintf(victim, sizeof(victim), "%s/victim", temp_dir);
    (void)snprintf(path, sizeof(path), "%s/hsm-state", temp_dir);
    write_file(victim, "precious", 8);
    ck_assert_int_eq(_i == 0 ? linkat(AT_FDCWD, victim, AT_FDCWD, path, 0) : symlink(victim, path), 0);
    link = new_link_on(open_lock(), "state");
    ck_ok(se05x_link_lock(link));
    exchange(link, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(link);
    se05x_link_close(link);
    fd = open(victim, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, text, sizeof(text)), 8);
    ck_assert_str_eq(text, "precious");
    (void)close(fd);
}
END_TEST

START_TEST(deleted_state_file_is_left)
{
    struct se05x_link *a = new_link_on(open_lock(), "state"), *b;
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/hsm-state", temp_dir);
    ck_ok(se05x_link_lock(a));
    se05x_link_set_selected(a, true);
    se05x_link_unlock(a);
    ck_assert_int_eq(unlink(path), 0);
    b = new_link_on(open_lock(), "state");
    ck_ok(se05x_link_lock(b));
    ck_assert_uint_eq(se05x_link_epoch(b), 0);
    exchange(b, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(b);
    ck_ok(se05x_link_lock(a));
    ck_assert_uint_eq(se05x_link_epoch(a), 0);
    exchange(a, SE05X_TIME_SHORT, 10, 12);
    ck_assert_uint_eq(chip->odd, 0);
    se05x_link_unlock(a);
    se05x_link_close(a);
    se05x_link_close(b);
}
END_TEST

START_TEST(abandoned_link_says_nothing_and_keeps_the_parents_lock)
{
    struct se05x_link *a = new_shared_link(), *b;
    bool abandoned = false;
    unsigned writes;
    int status;
    pid_t pid;

    bus->abandoned = &abandoned;
    ck_ok(se05x_link_lock(a));
    exchange(a, SE05X_TIME_SHORT, 10, 12);
    writes = chip->writes;
    if ((pid = fork()) == 0) {
        se05x_link_abandon(a);
        _exit(abandoned ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(chip->writes, writes);
    b = new_shared_link();
    ck_hsm(se05x_link_lock(b), HSM_ERR_BUSY, __LINE__);
    exchange(a, SE05X_TIME_SHORT, 10, 12);
    se05x_link_unlock(a);
    se05x_link_close(a);
    se05x_link_close(b);
}
END_TEST

/* ---- the specification -----------------------------------------------------------------------------------
 */

static hsm_status open_spec(const char *location)
{
    struct hsm_token_spec spec;
    struct hsm_open_args args = { .spec = &spec, .name = "board" };
    struct se05x_link *link = NULL;
    hsm_status st;

    ck_ok(hsm_token_spec_parse(location, &spec));
    st = se05x_link_open(&args, &link);
    se05x_link_close(st == HSM_OK ? link : NULL);
    return st;
}

START_TEST(bad_parameters_are_refused_by_name)
{
    static const char *const bad[] = {
        "se05x:/dev/i2c-3?addr=0x80",         "se05x:/dev/i2c-3?addr=",
        "se05x:/dev/i2c-3?addr=-1",           "se05x:/dev/i2c-3?addr=4x",
        "se05x:/dev/i2c-3?timeout=1",         "se05x:/dev/i2c-3?timeout=99999999999",
        "se05x:/dev/i2c-3?timeout=soon",      "se05x:/dev/i2c-3?end-session=1",
        "se05x:/dev/i2c-3?ena-gpio=12",       "se05x:/dev/i2c-3?ena-gpio=a:b",
        "se05x:unix:/x?ena-gpio=gpiochip0:1",
    };
    char name[32];
    hsm_status st;
    size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        st = open_spec(bad[i]);
        ck_assert_msg(st == HSM_ERR_CONFIG, "%s: %s", bad[i], hsm_strerror(st));
        (void)sscanf(strchr(bad[i], '?') + 1, "%31[^=]", name);
        ck_line_has(st, name);
    }
    ck_hsm(open_spec("se05x:/dev/i2c-99?addr=0x48&timeout=0x100"), HSM_ERR_NO_TOKEN, __LINE__);
}
END_TEST

/* ---- pace ------------------------------------------------------------------------------------------------
 */

START_TEST(pace_stands_any_memory)
{
    static const uint32_t values[] = { 0, 1, 2, 299, 100000, 20000000, 20000001, UINT32_MAX };
    struct pace_memory m;
    struct pace p;
    uint64_t at, next;
    unsigned t, polls;

    for (t = 0; t < SE05X_TIME_COUNT; t++) {
        m = (struct pace_memory){ values[_i / 8], values[_i % 8] };
        pace_learn(&m, values[_i % 8], _i & 1);
        if (values[_i % 8] <= 20000000)
            ck_assert_uint_le(m.mean_us, 20000001);
        m = (struct pace_memory){ values[_i / 8], values[_i % 8] };
        p = pace_command((enum se05x_time)t, &m);
        ck_assert_uint_le(p.longest_us, 121000000);
        ck_assert_uint_lt(p.first_us, p.longest_us);
        for (at = p.first_us, polls = 0; at < p.longest_us; at = next, polls++) {
            next = pace_next(&p, at);
            ck_assert_uint_ge(next - at, 300);
            ck_assert_uint_le(next - at, 10000);
        }
        ck_assert_uint_le(polls, 50000);
    }
}
END_TEST

static Suite *se05x_link_suite(void)
{
    Suite *s = suite_create("se05x_link");
    TCase *tc = tcase_create("se05x_link");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, opening_and_closing_send_nothing);
    tcase_add_test(tc, first_lock_resynchronises_once);
    tcase_add_test(tc, locks_nest_and_work_needs_one);
    tcase_add_test(tc, commands_of_every_length_arrive);
    tcase_add_test(tc, foreseen_answer_is_read_in_one_message);
    tcase_add_loop_test(tc, answer_shorter_than_foreseen_is_taken_whatever_the_adapter_reads_at_once, 0,
                        sizeof(read_limits) / sizeof(read_limits[0]));
    tcase_add_loop_test(tc, long_answers_are_read_in_as_many_messages_as_it_takes, 0,
                        sizeof(read_limits) / sizeof(read_limits[0]));
    tcase_add_test(tc, atr_is_read_once);
    tcase_add_loop_test(tc, learned_work_is_noticed_soon_and_with_few_polls, 0,
                        sizeof(works) / sizeof(works[0]));
    tcase_add_loop_test(tc, first_work_is_noticed_soon_as_well, 0, sizeof(works) / sizeof(works[0]));
    tcase_add_test(tc, work_that_varies_is_noticed_soon);
    tcase_add_test(tc, long_work_is_polled_gently);
    tcase_add_test(tc, more_time_is_given);
    tcase_add_test(tc, busy_chip_takes_the_command_later);
    tcase_add_test(tc, lost_and_garbled_answers_are_asked_for);
    tcase_add_test(tc, disturbed_write_is_not_repeated_blindly);
    tcase_add_test(tc, absent_chip_fails_in_bounded_time);
    tcase_add_test(tc, command_that_never_arrived_was_not_executed);
    tcase_add_test(tc, command_without_answer_may_have_been_executed);
    tcase_add_test(tc, chip_that_dies_at_work_fails_in_bounded_time);
    tcase_add_test(tc, command_that_arrives_at_the_last_moment_is_not_called_unexecuted);
    tcase_add_loop_test(tc, host_and_chip_out_of_step_do_no_harm, 0, 16);
    tcase_add_test(tc, command_sent_again_after_a_reset_is_told);
    tcase_add_loop_test(tc, recovery_climbs_as_far_as_it_must, 0, sizeof(ladders) / sizeof(ladders[0]));
    tcase_add_test(tc, bus_that_is_no_more_is_final);
    tcase_add_test(tc, adapter_that_cannot_send_a_block_is_named);
    tcase_add_test(tc, epoch_changes_with_every_selection);
    tcase_add_test(tc, next_one_goes_on_where_the_last_stopped);
    tcase_add_test(tc, what_one_learned_the_other_knows);
    tcase_add_test(tc, busy_names_the_holder);
    tcase_add_loop_test(tc, holder_killed_at_work_is_cleaned_up_after, 0, 4);
    tcase_add_test(tc, waiter_gets_the_lock_of_a_killed_holder);
    tcase_add_test(tc, without_shared_state_every_turn_begins_with_a_resynch);
    tcase_add_test(tc, shared_file_has_the_mode_of_the_bus);
    tcase_add_test(tc, nonsense_in_the_shared_state_does_no_harm);
    tcase_add_test(tc, state_of_somebody_who_may_not_use_the_bus_is_ignored);
    tcase_add_loop_test(tc, state_file_with_a_second_name_is_not_written, 0, 2);
    tcase_add_test(tc, deleted_state_file_is_left);
    tcase_add_test(tc, abandoned_link_says_nothing_and_keeps_the_parents_lock);
    tcase_add_test(tc, bad_parameters_are_refused_by_name);
    tcase_add_loop_test(tc, pace_stands_any_memory, 0, 64);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return run_suite(se05x_link_suite());
}
