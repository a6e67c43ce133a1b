/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hsm_transport on a real /dev/i2c-N: what it makes of every errno and short count that i2c-dev and adapters
 * give. Run by inside.sh in User-Mode Linux, as root. Bus 7 has the test chips of i2c_pump.c and, at 0x48,
 * the simulator; bus 8 takes messages of at most 255 bytes. I2C_PUMP names the program, for a bus that goes
 * away.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "transport.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { SIMULATOR = 0x48, MEMORY = 0x4a, NOBODY = 0x20, SILENT = 0x54, LIMIT = 255, I2C_MAJOR = 89 };

static const char bus[] = "/dev/i2c-7";
static const char limited_bus[] = "/dev/i2c-8";
static const char gone_bus[] = "/dev/i2c-9";

static struct hsm_transport *open_chip(const char *path, unsigned addr)
{
    struct hsm_transport *t = NULL;
    hsm_status st = bus_open_i2c(path, addr, "", &t);

    ck_assert_msg(st == HSM_OK, "%s address 0x%02x: %s", path, addr, hsm_error_text(st));
    ck_assert_ptr_nonnull(t);
    return t;
}

static void close_chip(struct hsm_transport *t)
{
    t->ops->close(t);
}

static void ck_open_fails(const char *path, unsigned addr, hsm_status want)
{
    struct hsm_transport *t = NULL;
    hsm_status st = bus_open_i2c(path, addr, "", &t);

    ck_assert_msg(st == want, "%s address 0x%02x: %s (%s), want %s", path, addr, hsm_strerror(st),
                  hsm_error_text(st), hsm_strerror(want));
    ck_assert_msg(strstr(hsm_error_text(st), path) != NULL, "no '%s' in: %s", path, hsm_error_text(st));
}

static enum bus_result write_some(struct hsm_transport *t)
{
    static const uint8_t message[] = { 1, 2, 3 };

    return bus_write(t, (struct hsm_bytes){ message, sizeof(message) });
}

static enum bus_result read_some(struct hsm_transport *t)
{
    uint8_t answer[3];

    return bus_read(t, answer, sizeof(answer));
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- what becomes of a message ---- */

static const struct {
    unsigned addr;
    enum bus_result result;
    int error; /* 0: any */
} answers[] = {
    { NOBODY, BUS_NACK, ENXIO },          { 0x50, BUS_NACK, EREMOTEIO },   { 0x51, BUS_NACK, EIO },
    { 0x52, BUS_DISTURBED, ETIMEDOUT },   { 0x53, BUS_DISTURBED, EAGAIN }, { 0x55, BUS_NACK, 0 },
    { SILENT, BUS_DISTURBED, ETIMEDOUT },
};

static void ck_answer(const struct hsm_transport *t, enum bus_result got, int i)
{
    ck_assert_msg(got == answers[i].result, "0x%02x: result %d, want %d (error %d)", answers[i].addr, got,
                  answers[i].result, t->error);
    ck_assert_int_ne(t->error, 0);
    if (answers[i].error != 0)
        ck_assert_int_eq(t->error, answers[i].error);
}

START_TEST(each_errno_and_short_count_has_its_meaning)
{
    struct hsm_transport *t = open_chip(bus, answers[_i].addr);
    double begin = now_s();

    ck_answer(t, write_some(t), _i);
    ck_answer(t, read_some(t), _i);
    ck_assert_double_lt(now_s() - begin, 8); /* two adapter timeouts at most, on a slow machine */
    close_chip(t);
}
END_TEST

START_TEST(a_bus_works_again_after_any_failure)
{
    struct hsm_transport *bad = open_chip(bus, answers[_i].addr), *good = open_chip(bus, MEMORY);
    uint8_t answer[3] = { 0 };

    (void)write_some(bad);
    ck_assert_int_eq(write_some(good), BUS_OK);
    (void)read_some(bad);
    ck_assert_int_eq(bus_read(good, answer, sizeof(answer)), BUS_OK);
    ck_assert_mem_eq(answer, "\1\2\3", 3);
    ck_assert_int_eq(good->error, 0);
    close_chip(bad);
    close_chip(good);
}
END_TEST

/* ---- lengths ---- */

static const size_t lengths[] = { 1, 3, 32, 33, 254, 255, 256, 259, 260, 4095, 4096, 8191, 8192 };

static void fill(uint8_t *p, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++)
        p[i] = (uint8_t)(i * 7 + i / 256 + len);
}

START_TEST(messages_arrive_whole)
{
    static uint8_t out[8192], in[8192];
    struct hsm_transport *t = open_chip(bus, MEMORY);
    size_t len = lengths[_i];

    fill(out, len);
    memset(in, 0, sizeof(in));
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, len }), BUS_OK);
    ck_assert_int_eq(bus_read(t, in, len), BUS_OK);
    ck_assert_mem_eq(in, out, len);
    close_chip(t);
}
END_TEST

/* write() of i2c-dev would cut this to 8192 bytes and say so only by its count */
START_TEST(a_message_that_would_be_cut_is_refused_and_not_sent)
{
    static uint8_t out[20000], in[3];
    struct hsm_transport *t = open_chip(bus, MEMORY);

    fill(out, sizeof(out));
    ck_assert_int_eq(write_some(t), BUS_OK);
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, 8193 }), BUS_GONE);
    ck_assert_int_ne(t->error, 0);
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, sizeof(out) }), BUS_GONE);
    ck_assert_int_eq(bus_read(t, in, sizeof(in)), BUS_OK);
    ck_assert_mem_eq(in, "\1\2\3", 3);
    close_chip(t);
}
END_TEST

START_TEST(a_long_read_is_split)
{
    static uint8_t out[8192], in[20000];
    struct hsm_transport *t = open_chip(bus, MEMORY);

    fill(out, sizeof(out));
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, sizeof(out) }), BUS_OK);
    ck_assert_int_eq(bus_read(t, in, sizeof(in)), BUS_OK);
    ck_assert_mem_eq(in, out, sizeof(out));
    ck_assert_int_eq(in[sizeof(out)], 0xff); /* nothing came twice */
    close_chip(t);
}
END_TEST

START_TEST(an_empty_message_is_refused)
{
    struct hsm_transport *t = open_chip(bus, MEMORY);

    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ NULL, 0 }), BUS_GONE);
    ck_assert_int_eq(t->error, EINVAL);
    ck_assert_int_eq(bus_read(t, NULL, 0), BUS_GONE);
    ck_assert_int_eq(t->error, EINVAL);
    close_chip(t);
}
END_TEST

START_TEST(a_limit_of_the_adapter_is_final_for_writes)
{
    static uint8_t out[259];
    struct hsm_transport *t = open_chip(limited_bus, MEMORY);

    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, sizeof(out) }), BUS_GONE);
    ck_assert_int_eq(t->error, EOPNOTSUPP);
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, LIMIT }), BUS_OK);
    close_chip(t);
}
END_TEST

START_TEST(a_limit_of_the_adapter_splits_reads)
{
    static uint8_t out[LIMIT], in[259];
    struct hsm_transport *t = open_chip(limited_bus, MEMORY);

    fill(out, sizeof(out));
    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, sizeof(out) }), BUS_OK);
    ck_assert_int_eq(bus_read(t, in, sizeof(in)), BUS_OK);
    ck_assert_mem_eq(in, out, sizeof(out));
    ck_assert_int_eq(in[sizeof(out)], 0xff);
    close_chip(t);
}
END_TEST

/* ---- opening ---- */

START_TEST(open_without_adapter_finds_no_token)
{
    ck_open_fails("/dev/i2c-99", SIMULATOR, HSM_ERR_NO_TOKEN);
}
END_TEST

START_TEST(open_of_a_node_without_adapter_finds_no_token)
{
    static const char stale[] = "/dev/i2c-98";

    ck_assert_int_eq(mknod(stale, S_IFCHR | 0600, makedev(I2C_MAJOR, 98)), 0);
    ck_open_fails(stale, SIMULATOR, HSM_ERR_NO_TOKEN);
    (void)unlink(stale);
}
END_TEST

START_TEST(open_of_something_else_fails)
{
    struct hsm_transport *t = NULL;

    ck_assert_int_ne(bus_open_i2c("/dev/null", SIMULATOR, "", &t), HSM_OK);
    ck_assert_int_ne(bus_open_i2c("/dev", SIMULATOR, "", &t), HSM_OK);
    ck_assert_int_ne(bus_open_i2c("/etc/passwd", SIMULATOR, "", &t), HSM_OK);
}
END_TEST

START_TEST(open_refuses_an_address_out_of_range)
{
    struct hsm_transport *t = NULL;

    ck_assert_int_ne(bus_open_i2c(bus, 0x80, "", &t), HSM_OK);
    ck_assert_int_ne(bus_open_i2c(bus, 0x348, "", &t), HSM_OK);
}
END_TEST

START_TEST(open_without_permission_is_denied)
{
    ck_assert_int_eq(setgid(65534), 0); /* check runs each test in a process of its own */
    ck_assert_int_eq(setuid(65534), 0);
    ck_open_fails(bus, SIMULATOR, HSM_ERR_DENIED);
}
END_TEST

static void write_line(const char *path, const char *line)
{
    FILE *f = fopen(path, "w");

    ck_assert_msg(f != NULL && fputs(line, f) >= 0 && fclose(f) == 0, "%s: %s", path, strerror(errno));
}

START_TEST(open_is_busy_while_a_kernel_driver_has_the_chip)
{
    write_line("/sys/bus/i2c/devices/i2c-7/new_device", "dummy 0x4a\n");
    ck_open_fails(bus, MEMORY, HSM_ERR_BUSY);
    write_line("/sys/bus/i2c/devices/i2c-7/delete_device", "0x4a\n");
    close_chip(open_chip(bus, MEMORY));
}
END_TEST

static bool first_line_is(const char *path, const char *want)
{
    char line[64] = "";
    FILE *f = fopen(path, "r");

    if (f == NULL)
        return false;
    if (fgets(line, sizeof(line), f) == NULL)
        line[0] = '\0';
    (void)fclose(f);
    return strncmp(line, want, strlen(want)) == 0;
}

/* The adapter of i2c-stub knows SMBus commands only. Its number is whatever was free. */
START_TEST(open_of_an_smbus_adapter_is_unsupported)
{
    char path[32] = "";
    glob_t found;
    int number;
    size_t i;

    ck_assert_int_eq(system("/run/modprobe i2c-stub chip_addr=0x1d"), 0);
    ck_assert_int_eq(glob("/sys/class/i2c-adapter/i2c-*", 0, NULL, &found), 0);
    for (i = 0; i < found.gl_pathc; i++) {
        char name[128];

        (void)snprintf(name, sizeof(name), "%s/name", found.gl_pathv[i]);
        if (first_line_is(name, "SMBus stub driver") &&
            sscanf(found.gl_pathv[i], "/sys/class/i2c-adapter/i2c-%d", &number) == 1)
            (void)snprintf(path, sizeof(path), "/dev/i2c-%d", number);
    }
    globfree(&found);
    ck_assert_str_ne(path, "");
    ck_open_fails(path, 0x1d, HSM_ERR_UNSUPPORTED);
    ck_assert_int_eq(system("rmmod i2c-stub"), 0);
}
END_TEST

/* ---- a bus that goes away ---- */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void wait_until(const char *path, bool present)
{
    double end = now_s() + 20;

    while (exists(path) != present && now_s() < end)
        (void)usleep(10000);
    ck_assert_msg(exists(path) == present, "%s is %s", path, present ? "not there" : "still there");
}

static pid_t add_bus(void)
{
    const char *pump = getenv("I2C_PUMP");
    pid_t pid;

    ck_assert_ptr_nonnull(pump);
    if ((pid = fork()) == 0) {
        (void)execl(pump, pump, "--bus", "9", "--test-chips", (char *)NULL);
        _exit(127);
    }
    ck_assert_int_gt(pid, 0);
    wait_until(gone_bus, true);
    return pid;
}

static void remove_bus(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid); /* does not wait for those who have the bus open */
    wait_until(gone_bus, false);
}

START_TEST(a_bus_that_went_away_is_gone_and_comes_back)
{
    pid_t pid = add_bus();
    struct hsm_transport *t = open_chip(gone_bus, MEMORY);

    ck_assert_int_eq(write_some(t), BUS_OK);
    remove_bus(pid);
    ck_assert_int_eq(write_some(t), BUS_GONE);
    ck_assert_int_eq(t->error, ENODEV);
    ck_assert_int_eq(read_some(t), BUS_GONE);
    ck_assert_int_eq(t->error, ENODEV);
    ck_open_fails(gone_bus, MEMORY, HSM_ERR_NO_TOKEN);
    close_chip(t);

    pid = add_bus();
    t = open_chip(gone_bus, MEMORY);
    ck_assert_int_eq(write_some(t), BUS_OK);
    close_chip(t);
    remove_bus(pid);
}
END_TEST

START_TEST(a_stopped_adapter_times_out_and_goes_on)
{
    pid_t pid = add_bus();
    struct hsm_transport *t = open_chip(gone_bus, MEMORY);
    double begin;

    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    begin = now_s();
    ck_assert_int_eq(write_some(t), BUS_DISTURBED);
    ck_assert_int_eq(t->error, ETIMEDOUT);
    ck_assert_double_lt(now_s() - begin, 8);
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    ck_assert_int_eq(write_some(t), BUS_OK);
    close_chip(t);
    remove_bus(pid);
}
END_TEST

static Suite *i2c_dev_suite(void)
{
    Suite *s = suite_create("i2c_dev");
    TCase *tc = tcase_create("i2c_dev");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, each_errno_and_short_count_has_its_meaning, 0, COUNT(answers));
    tcase_add_loop_test(tc, a_bus_works_again_after_any_failure, 0, COUNT(answers));
    tcase_add_loop_test(tc, messages_arrive_whole, 0, COUNT(lengths));
    tcase_add_test(tc, a_message_that_would_be_cut_is_refused_and_not_sent);
    tcase_add_test(tc, a_long_read_is_split);
    tcase_add_test(tc, an_empty_message_is_refused);
    tcase_add_test(tc, a_limit_of_the_adapter_is_final_for_writes);
    tcase_add_test(tc, a_limit_of_the_adapter_splits_reads);
    tcase_add_test(tc, open_without_adapter_finds_no_token);
    tcase_add_test(tc, open_of_a_node_without_adapter_finds_no_token);
    tcase_add_test(tc, open_of_something_else_fails);
    tcase_add_test(tc, open_refuses_an_address_out_of_range);
    tcase_add_test(tc, open_without_permission_is_denied);
    tcase_add_test(tc, open_is_busy_while_a_kernel_driver_has_the_chip);
    tcase_add_test(tc, open_of_an_smbus_adapter_is_unsupported);
    tcase_add_test(tc, a_bus_that_went_away_is_gone_and_comes_back);
    tcase_add_test(tc, a_stopped_adapter_times_out_and_goes_on);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(i2c_dev_suite());
    int failed;

    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
