/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every bus does, the simulator's socket, and what can be said of i2c-dev without an adapter (the rest
 * runs in test/uml). The far end of the socket is a child whose device at 0x10 + N answers with status N.
 */
#include "chip_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "gpio.h"
#include "hsm/bus.h"
#include "se05x/internal.h"
#include "transport.h"

enum { ECHO = 0x10, HANG_UP = 0x1f };

static char socket_path[200];
static pid_t server_pid;

/* ---- the far end -----------------------------------------------------------------------------------------
 */

static bool take(int fd, uint8_t *ptr, size_t len)
{
    return recv(fd, ptr, len, MSG_WAITALL) == (ssize_t)len;
}

/* The answer comes in two pieces: a reader must not rely on one. */
static void give(int fd, uint8_t status, const uint8_t *ptr, size_t len)
{
    (void)send(fd, &status, 1, MSG_NOSIGNAL);
    if (status != 0 || len == 0)
        return;
    (void)send(fd, ptr, 1, MSG_NOSIGNAL);
    (void)send(fd, ptr + 1, len - 1, MSG_NOSIGNAL);
}

static void serve(int fd)
{
    static uint8_t memory[8192];
    uint8_t head[4];
    size_t len;

    while (take(fd, head, sizeof(head))) {
        len = (size_t)head[2] << 8 | head[3];
        if ((head[0] == 'W' && !take(fd, memory, len)) || head[1] == HANG_UP)
            break;
        give(fd, head[1] - ECHO, memory, head[0] == 'R' ? len : 0);
    }
    (void)close(fd);
}

static void server(int listener)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        serve(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void setup(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    make_temp_dir();
    (void)snprintf(socket_path, sizeof(socket_path), "%s/bus", temp_dir);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", temp_dir);
    ck_assert_int_eq(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(chmod(socket_path, 0640), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    if ((server_pid = fork()) == 0)
        server(listener);
    (void)close(listener);
}

static void stop_server(void)
{
    if (server_pid > 0) {
        (void)kill(server_pid, SIGKILL);
        (void)waitpid(server_pid, NULL, 0);
    }
    server_pid = 0;
}

static void teardown(void)
{
    stop_server();
    remove_temp_dir();
}

static struct hsm_transport *open_device(unsigned addr)
{
    struct hsm_transport *t = NULL;

    ck_ok(bus_open_stream(socket_path, addr, &t));
    return t;
}

static enum bus_result write_some(struct hsm_transport *t)
{
    return bus_write(t, (struct hsm_bytes){ (const uint8_t *)"abc", 3 });
}

static enum bus_result read_some(struct hsm_transport *t)
{
    uint8_t bytes[3];

    return bus_read(t, bytes, sizeof(bytes));
}

/* ---- messages --------------------------------------------------------------------------------------------
 */

START_TEST(messages_arrive_whole)
{
    static const size_t lengths[] = { 1, 2, 5, 259, 260, 4096, 8192 };
    static uint8_t out[8192], in[8192];
    struct hsm_transport *t = open_device(ECHO);
    size_t i, k;

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (k = 0; k < lengths[i]; k++)
            out[k] = (uint8_t)(k + k / 256 + i);
        ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ out, lengths[i] }), BUS_OK);
        memset(in, 0, sizeof(in));
        ck_assert_int_eq(bus_read(t, in, lengths[i]), BUS_OK);
        ck_assert_mem_eq(in, out, lengths[i]);
        ck_assert_int_eq(t->error, 0);
    }
    t->ops->close(t);
}
END_TEST

static const struct {
    unsigned addr;
    enum bus_result result;
    int error;
} statuses[] = {
    { 0x10, BUS_OK, 0 },        { 0x11, BUS_NACK, ENXIO },
    { 0x12, BUS_NACK, ENXIO },  { 0x13, BUS_DISTURBED, ETIMEDOUT },
    { 0x14, BUS_GONE, EPROTO }, { HANG_UP, BUS_GONE, ENODEV },
};

START_TEST(each_status_has_its_meaning)
{
    struct hsm_transport *t = open_device(statuses[_i].addr);

    ck_assert_int_eq(write_some(t), statuses[_i].result);
    ck_assert_int_eq(t->error, statuses[_i].error);
    ck_assert_int_eq(read_some(t), statuses[_i].result);
    ck_assert_int_eq(t->error, statuses[_i].error);
    t->ops->close(t);
}
END_TEST

START_TEST(empty_messages_are_never_sent)
{
    struct hsm_transport *t = open_device(HANG_UP); /* which would notice */

    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ NULL, 0 }), BUS_GONE);
    ck_assert_int_eq(t->error, EINVAL);
    ck_assert_int_eq(bus_read(t, NULL, 0), BUS_GONE);
    ck_assert_int_eq(t->error, EINVAL);
    t->ops->close(t);
}
END_TEST

START_TEST(too_long_writes_are_refused_and_too_long_reads_split)
{
    static uint8_t bytes[8193];
    struct hsm_transport *t = open_device(ECHO);

    ck_assert_int_eq(bus_write(t, (struct hsm_bytes){ bytes, sizeof(bytes) }), BUS_GONE);
    ck_assert_int_eq(t->error, EMSGSIZE);
    ck_assert_int_eq(write_some(t), BUS_OK);
    t->read_max = 2;
    ck_assert_int_eq(bus_read(t, bytes, 5), BUS_OK);
    ck_assert_mem_eq(bytes, "ababa", 5); /* this device starts again with each message */
    t->ops->close(t);
}
END_TEST

START_TEST(bus_that_goes_away_is_gone)
{
    struct hsm_transport *t = open_device(ECHO);

    ck_assert_int_eq(write_some(t), BUS_OK);
    stop_server();
    ck_assert_int_eq(read_some(t), BUS_GONE);
    ck_assert_int_eq(t->error, ENODEV);
    ck_assert_int_eq(write_some(t), BUS_GONE);
    t->ops->abandon(t);
}
END_TEST

/* ---- opening ---------------------------------------------------------------------------------------------
 */

START_TEST(lock_file_has_the_mode_of_the_socket)
{
    struct hsm_transport *a = open_device(ECHO), *b = open_device(ECHO);
    struct stat st;
    char path[220];

    (void)snprintf(path, sizeof(path), "%s.lock", socket_path);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    ck_assert_int_ge(a->lock_fd, 0);
    ck_assert_int_ne(a->lock_fd, b->lock_fd);
    a->ops->close(a);
    b->ops->close(b);
}
END_TEST

START_TEST(socket_that_is_not_there_is_no_token)
{
    char path[300];
    struct hsm_transport *t = NULL;
    hsm_status st;

    st = bus_open_stream("/nonexistent/bus", 0x48, &t);
    ck_hsm(st, HSM_ERR_NO_TOKEN, __LINE__);
    ck_line_has(st, "/nonexistent/bus");
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ck_hsm(bus_open_stream(path, 0x48, &t), HSM_ERR_CONFIG, __LINE__);
    stop_server();
    ck_hsm(bus_open_stream(socket_path, 0x48, &t), HSM_ERR_NO_TOKEN, __LINE__);
}
END_TEST

START_TEST(what_is_no_i2c_bus_is_named)
{
    static const char *const wrong[] = { "/dev/i2c-999", "/dev/null", "/", "/etc/passwd" };
    struct hsm_transport *t = NULL;
    hsm_status st;
    size_t i;

    for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        st = bus_open_i2c(wrong[i], 0x48, "", &t);
        ck_assert_int_eq(st, HSM_ERR_NO_TOKEN);
        ck_line_has(st, wrong[i]);
    }
    ck_line_has(bus_open_i2c("/dev/i2c-999", 0x48, "", &t), "modprobe i2c-dev");
    ck_hsm(bus_open_i2c("/dev/i2c-999", 0x78, "", &t), HSM_ERR_CONFIG, __LINE__);
    ck_hsm(bus_open_i2c("/dev/i2c-999", 0x02, "", &t), HSM_ERR_CONFIG, __LINE__);
    ck_hsm(bus_open_i2c("/dev/i2c-999", 0x48, "gpio", &t), HSM_ERR_CONFIG, __LINE__);
}
END_TEST

START_TEST(node_without_permission_names_the_remedy)
{
    struct hsm_transport *t = NULL;
    char path[300];
    hsm_status st;

    (void)snprintf(path, sizeof(path), "%s/node", temp_dir);
    ck_assert_int_ge(open(path, O_CREAT | O_CLOEXEC | O_RDWR, 0600), 0);
    ck_assert_int_eq(chmod(temp_dir, 0755), 0);
    if (geteuid() != 0 || seteuid(65534) != 0)
        return;
    st = bus_open_i2c(path, 0x48, "", &t);
    ck_assert_int_eq(seteuid(0), 0);
    ck_hsm(st, HSM_ERR_DENIED, __LINE__);
    ck_line_has(st, "65534");
    ck_line_has(st, "group");
}
END_TEST

/* ---- the enable pin --------------------------------------------------------------------------------------
 */

START_TEST(pin_names_are_understood)
{
    static const char *const good[] = { "gpiochip0:12", "gpiochip0:12:low", "/dev/gpiochip3:0",
                                        "/sys/class/gpio/gpio12", "/sys/class/gpio/gpio12:low" };
    static const char *const bad[] = {
        "",    "12",   "gpiochip0",         "gpiochip0:",   "gpiochip0:x",  "gpiochip0:1x",
        ":12", ":low", "gpiochip0:12:high", "gpiochip0:-1", "gpiochip0: 1", "gpiochip0:99999999999"
    };
    size_t i;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(gpio_check(good[i]) == HSM_OK, "%s", good[i]);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(gpio_check(bad[i]) == HSM_ERR_CONFIG, "%s", bad[i]);
}
END_TEST

START_TEST(pin_that_is_not_there_is_named)
{
    static const char *const pins[] = { "gpiochip999:12", "/sys/class/gpio/gpio999999", "/dev/null:3" };
    hsm_status st;
    size_t i;

    for (i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
        st = gpio_pulse(pins[i], 1, 1);
        ck_assert_int_eq(st, HSM_ERR_TOKEN_IO);
        ck_line_has(st, "enable pin");
    }
}
END_TEST

/* ---- looking around --------------------------------------------------------------------------------------
 */

static hsm_status count_bus(void *arg, const struct hsm_bus *bus)
{
    ck_assert_int_eq(strncmp(bus->path, "/dev/i2c-", 9), 0);
    ++*(unsigned *)arg;
    return HSM_OK;
}

static hsm_status no_device(void *arg, unsigned addr, enum hsm_bus_answer answer)
{
    ck_abort_msg("device %02x on no bus", addr);
    return HSM_OK;
}

START_TEST(buses_are_listed_and_absent_ones_not_scanned)
{
    unsigned n = 0;

    ck_ok(hsm_bus_list(count_bus, &n));
    ck_hsm(hsm_bus_scan("/dev/i2c-999", 0x48, no_device, NULL), HSM_ERR_NO_TOKEN, __LINE__);
    ck_hsm(hsm_bus_scan("/dev/null", 0x48, no_device, NULL), HSM_ERR_NO_TOKEN, __LINE__);
}
END_TEST

/* ---- time ------------------------------------------------------------------------------------------------
 */

START_TEST(sleeping_ends_in_time_and_gives_the_slack_back)
{
    int slack = prctl(PR_GET_TIMERSLACK), i;
    uint64_t begin, late, best = UINT64_MAX;

    for (i = 0; i < 20; i++) { /* the best of many: the machine may be busy */
        begin = clock_now_us(NULL);
        clock_sleep_until_us(NULL, begin + 300);
        late = clock_now_us(NULL) - begin;
        ck_assert_uint_ge(late, 300);
        best = late - 300 < best ? late - 300 : best;
    }
    ck_assert_uint_le(best, 1000);
    ck_assert_int_eq(prctl(PR_GET_TIMERSLACK), slack);
    clock_sleep_until_us(NULL, 0); /* long ago */
}
END_TEST

/* ---- the simulator ---------------------------------------------------------------------------------------
 */

static void use_chip(const char *params)
{
    static const uint8_t get_version[] = { 0x80, 0x04, 0x00, 0x20, 0x00 };
    uint8_t bytes[SE05X_APDU_MAX];
    struct hsm_buf answer = { bytes, sizeof(bytes), 0 };
    struct hsm_token_spec spec;
    struct hsm_open_args args = { .spec = &spec, .name = "board" };
    enum se05x_delivery delivery;
    struct se05x_link *link;
    char text_buf[600];

    (void)snprintf(text_buf, sizeof(text_buf), "%s?%s", token_spec, params);
    ck_ok(hsm_token_spec_parse(text_buf, &spec));
    ck_ok(se05x_link_open(&args, &link));
    ck_ok(se05x_link_lock(link));
    ck_ok(se05x_link_exchange(link, SE05X_TIME_SHORT, (struct hsm_bytes){ get_version, sizeof(get_version) },
                              0, &answer, &delivery));
    se05x_link_unlock(link);
    se05x_link_close(link);
}

START_TEST(session_is_ended_only_when_asked_for)
{
    unsigned writes;

    if (getenv("HSM_SIM") == NULL)
        return;
    chip_start("3.1.1", false);
    use_chip("timeout=1000");
    writes = chip_count("writes");
    use_chip("end-session=no");
    ck_assert_uint_eq(chip_count("writes") - writes, 1); /* the command alone */
    writes = chip_count("writes");
    use_chip("end-session=yes");
    ck_assert_uint_eq(chip_count("writes") - writes, 2);
    use_chip("end-session=no"); /* and the next one finds its way */
    ck_assert_uint_eq(chip_count("empty-frames"), 0);
    chip_stop();
}
END_TEST

static Suite *transport_suite(void)
{
    Suite *s = suite_create("transport");
    TCase *tc = tcase_create("transport");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, messages_arrive_whole);
    tcase_add_loop_test(tc, each_status_has_its_meaning, 0, sizeof(statuses) / sizeof(statuses[0]));
    tcase_add_test(tc, empty_messages_are_never_sent);
    tcase_add_test(tc, too_long_writes_are_refused_and_too_long_reads_split);
    tcase_add_test(tc, bus_that_goes_away_is_gone);
    tcase_add_test(tc, lock_file_has_the_mode_of_the_socket);
    tcase_add_test(tc, socket_that_is_not_there_is_no_token);
    tcase_add_test(tc, what_is_no_i2c_bus_is_named);
    tcase_add_test(tc, node_without_permission_names_the_remedy);
    tcase_add_test(tc, pin_names_are_understood);
    tcase_add_test(tc, pin_that_is_not_there_is_named);
    tcase_add_test(tc, buses_are_listed_and_absent_ones_not_scanned);
    tcase_add_test(tc, sleeping_ends_in_time_and_gives_the_slack_back);
    tcase_add_test(tc, session_is_ended_only_when_asked_for);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    clean_environment();
    return run_suite(transport_suite());
}
