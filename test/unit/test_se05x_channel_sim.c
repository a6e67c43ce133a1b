/* SPDX-License-Identifier: Apache-2.0 */
/* The channel layer over the real link, against the chip simulator: both applet generations, plain and
 * PlatformSCP03. */
#include "token_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "se05x/internal.h"

enum {
    USER_OBJECT = 0x20000001,
    SO_OBJECT = 0x20000002,
    UNIQUE_ID = 0x7fff0206,
    READY_MS = 10000,
    TRIES = 3
};

static const struct variant {
    const char *applet, *params;
} variants[] = {
    { "3.1.1", "" }, { "3.1.1", "?scp03=public" }, { "7.2.0", "" }, { "7.2.0", "?scp03=public" }
};
enum { VARIANTS = COUNT(variants) };

static const struct variant *variant;
static pid_t sim;
static char socket_path[96];
static struct se05x_token token;

/* ---- the simulator ------------------------------------------------------------------------------------- */

static void wait_ready(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char line[256] = "";
    size_t len = 0;

    while (strstr(line, "ready") == NULL) {
        ssize_t n;

        ck_assert_msg(poll(&p, 1, READY_MS) == 1, "the simulator is not ready: %s", line);
        n = read(fd, line + len, sizeof(line) - 1 - len);
        ck_assert_msg(n > 0, "the simulator ended: %s", line);
        len += (size_t)n;
    }
}

static void start_simulator(const char *applet)
{
    char nvm[96];
    int out[2];

    (void)snprintf(socket_path, sizeof(socket_path), "%s/sim.sock", temp_dir);
    (void)snprintf(nvm, sizeof(nvm), "%s/sim.nvm", temp_dir);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    if ((sim = fork()) == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* even if the test fails */
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(out[1], STDERR_FILENO);
        execl(getenv("HSM_SIM"), "se05x-sim", "--socket", socket_path, "--nvm", nvm, "--applet", applet,
              (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    wait_ready(out[0]);
    close(out[0]);
}

static void stop_simulator(void)
{
    kill(sim, SIGTERM);
    (void)waitpid(sim, NULL, 0);
}

/* One message past the driver, as another program on the bus would. */
static void bus_message(int fd, char op, const uint8_t *data, uint16_t len, uint8_t *answer)
{
    uint8_t head[] = { (uint8_t)op, 0x48, (uint8_t)(len >> 8), (uint8_t)len }, state = 1;
    int tries;

    for (tries = 0; state != 0; tries++) { /* busy is no answer yet */
        ck_assert_int_lt(tries, 1000000);
        ck_assert_int_eq(write(fd, head, sizeof(head)), sizeof(head));
        if (op == 'W')
            ck_assert_int_eq(write(fd, data, len), len);
        ck_assert_int_eq(read(fd, &state, 1), 1);
    }
    if (op == 'R')
        ck_assert_int_eq(recv(fd, answer, len, MSG_WAITALL), len);
}

static void reset_chip_unseen(void)
{
    static const uint8_t reset[] = { 0x5a, 0xc6, 0x00, 0x2f, 0xa8 };
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t answer[5];

    (void)snprintf(where.sun_path, sizeof(where.sun_path), "%s", socket_path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&where, sizeof(where)), 0);
    bus_message(fd, 'W', reset, sizeof(reset), NULL);
    bus_message(fd, 'R', NULL, sizeof(answer), answer);
    ck_assert_int_eq(answer[1], 0xe6);
    close(fd);
}

/* ---- the host ------------------------------------------------------------------------------------------ */

static hsm_status open_params(struct se05x_token *t, const char *params)
{
    static struct hsm_token_spec spec;
    struct hsm_open_args args = { .spec = &spec, .name = "board" };
    char whole[400];
    hsm_status st;

    memset(t, 0, sizeof(*t));
    (void)snprintf(whole, sizeof(whole), "se05x:unix:%s%s", socket_path, params);
    (void)snprintf(t->where, sizeof(t->where), "token 'board' (%.100s)", socket_path);
    ck_ok(hsm_token_spec_parse(whole, &spec));
    if ((st = se05x_link_open(&args, &t->link)) != HSM_OK)
        return st;
    if ((st = se05x_channel_open(t, &args)) != HSM_OK) {
        se05x_link_close(t->link);
        t->link = NULL;
    }
    return st;
}

static void close_token(struct se05x_token *t)
{
    if (t->link == NULL)
        return;
    se05x_channel_close(t);
    se05x_link_close(t->link);
    t->link = NULL;
}

static void setup(int i)
{
    variant = &variants[i];
    make_temp_dir();
    start_simulator(variant->applet);
    ck_ok(open_params(&token, variant->params));
}

static void teardown(void)
{
    close_token(&token);
    stop_simulator();
    remove_temp_dir();
}

static uint16_t command(struct se05x_token *t, enum se05x_auth auth, uint8_t ins, uint8_t p1, uint8_t p2,
                        struct hsm_buf *tlvs, struct hsm_buf *answer)
{
    struct se05x_cmd cmd = { .ins = ins,
                             .p1 = p1,
                             .p2 = p2,
                             .auth = auth,
                             .extended = answer != NULL,
                             .data = { tlvs->ptr, tlvs->len } };
    uint16_t sw = 0;

    ck_ok(se05x_exchange(t, &cmd, answer, &sw));
    return sw;
}

static hsm_status random_as(struct se05x_token *t, enum se05x_auth auth, uint16_t len)
{
    uint8_t tlv[] = { 0x41, 2, (uint8_t)(len >> 8), (uint8_t)len }, bytes[SE05X_APDU_MAX];
    struct hsm_buf answer = { .ptr = bytes, .cap = sizeof(bytes) };
    struct hsm_bytes in, value;
    struct se05x_cmd cmd = { .ins = 0x04,
                             .p2 = 0x49,
                             .auth = auth,
                             .extended = true,
                             .repeatable = true,
                             .data = { tlv, sizeof(tlv) } };
    uint16_t sw = 0;
    hsm_status st = se05x_exchange(t, &cmd, &answer, &sw);

    if (st != HSM_OK)
        return st;
    ck_assert_uint_eq(sw, 0x9000);
    in = (struct hsm_bytes){ answer.ptr, answer.len };
    ck_assert(tlv_take(&in, 0x41, &value));
    ck_assert_uint_eq(value.len, len);
    return HSM_OK;
}

/* An authentication object with a few tries. */
static void make_auth_object(uint32_t id, uint8_t p1, const uint8_t *value, size_t len, uint8_t value_tag)
{
    uint8_t bytes[128];
    struct hsm_buf out = { .ptr = bytes, .cap = sizeof(bytes) };
    struct tlv_writer w;

    tlv_init(&w, &out);
    tlv_put_u16(&w, 0x12, TRIES);
    tlv_put_u32(&w, 0x41, id);
    tlv_put(&w, value_tag, (struct hsm_bytes){ value, len });
    ck_ok(tlv_finish(&w));
    ck_assert_uint_eq(command(&token, SE05X_ANYBODY, 0x41, p1, 0x00, &out, NULL), 0x9000);
}

static const struct se05x_credential user = { SE05X_CRED_USERID, USER_OBJECT, "12345678", 8 };
static const struct se05x_credential so = { SE05X_CRED_AES, SO_OBJECT, "sixteen bytes ..", 16 };

static void make_users(void)
{
    make_auth_object(USER_OBJECT, 0x07, user.value, user.len, 0x42);
    make_auth_object(SO_OBJECT, 0x03, so.value, so.len, 0x43);
}

/* ---- tests --------------------------------------------------------------------------------------------- */

START_TEST(commands_run_in_and_out_of_sessions)
{
    uint16_t lens[] = { 1, 15, 16, 200, 250, 500 };
    size_t i;

    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    for (i = 0; i < COUNT(lens); i++) {
        ck_ok(random_as(&token, SE05X_ANYBODY, lens[i]));
        ck_ok(random_as(&token, SE05X_USER, lens[i]));
        ck_ok(random_as(&token, SE05X_SO, lens[i]));
    }
    se05x_logout(&token, SE05X_USER);
    ck_status(random_as(&token, SE05X_USER, 1), HSM_ERR_PIN_REQUIRED);
    ck_ok(random_as(&token, SE05X_SO, 1));
    ck_assert_str_eq(se05x_channel_name(&token),
                     variant->params[0] == '\0' ? "plain" : "scp03 (public keys)");
}
END_TEST

START_TEST(commands_without_data_keep_the_counters_in_step)
{
    int i;

    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    for (i = 0; i < 4; i++) {
        uint8_t bytes[64];
        struct hsm_buf answer = { .ptr = bytes, .cap = sizeof(bytes) };
        struct se05x_cmd cmd = {
            .ins = 0x04, .p2 = 0x20, .auth = i % 2 == 0 ? SE05X_ANYBODY : SE05X_SO, .expect = 9
        };
        uint16_t sw;

        ck_ok(se05x_exchange(&token, &cmd, &answer, &sw));
        ck_assert_uint_eq(sw, 0x9000);
        ck_ok(random_as(&token, cmd.auth, 16));
    }
}
END_TEST

START_TEST(wrong_pin_counts_and_locks)
{
    struct se05x_credential wrong = _i % 2 == 0 ? user : so;
    int i;

    setup(_i / 2);
    make_users();
    wrong.value[2] ^= 1;
    for (i = 0; i < TRIES - 1; i++)
        ck_status(se05x_login(&token, SE05X_USER, &wrong), HSM_ERR_PIN_INCORRECT);
    wrong.value[2] ^= 1;
    ck_ok(se05x_login(&token, SE05X_USER, &wrong)); /* the last try is right: all are back */
    wrong.value[2] ^= 1;
    for (i = 0; i < TRIES; i++)
        (void)!se05x_login(&token, SE05X_USER, &wrong);
    wrong.value[2] ^= 1;
    ck_status(se05x_login(&token, SE05X_USER, &wrong), HSM_ERR_PIN_LOCKED);
}
END_TEST

START_TEST(missing_auth_object_is_told_from_no_free_session)
{
    setup(_i);
    ck_status(se05x_login(&token, SE05X_USER, &user), HSM_ERR_NO_OBJECT);
    ck_status(se05x_login(&token, SE05X_SO, &so), HSM_ERR_NO_OBJECT);
}
END_TEST

START_TEST(everything_is_back_after_a_reset_by_us)
{
    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    ck_ok(se05x_begin(&token));
    ck_ok(se05x_link_recover(token.link, true));
    se05x_end(&token);
    ck_ok(random_as(&token, SE05X_SO, 16));
    ck_ok(random_as(&token, SE05X_USER, 16));
    ck_ok(random_as(&token, SE05X_ANYBODY, 16));
}
END_TEST

START_TEST(everything_is_back_after_a_reset_by_nobody)
{
    int i;

    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    for (i = 0; i < 4; i++) { /* with either sequence number of the link */
        reset_chip_unseen();
        ck_ok(random_as(&token, (enum se05x_auth)(i % 3), 16));
        ck_ok(random_as(&token, SE05X_SO, 16));
    }
}
END_TEST

START_TEST(sessions_of_a_killed_process_are_freed)
{
    int i;

    setup(_i);
    make_users();
    for (i = 0; i < 3; i++) {
        pid_t child = fork();

        if (child == 0) { /* opens a session and dies with it */
            struct se05x_token own;

            se05x_channel_abandon(&token);
            se05x_link_abandon(token.link);
            if (open_params(&own, variant->params) == HSM_OK &&
                se05x_login(&own, SE05X_USER, &user) == HSM_OK)
                raise(SIGKILL);
            _exit(1);
        }
        ck_assert_int_eq(waitpid(child, &(int){ 0 }, 0), child);
    }
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(random_as(&token, SE05X_USER, 16));
}
END_TEST

START_TEST(two_processes_with_sessions_take_turns)
{
    int result = -1, i;
    pid_t child;

    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    if ((child = fork()) == 0) {
        struct se05x_token own;

        se05x_channel_abandon(&token);
        se05x_link_abandon(token.link);
        if (open_params(&own, variant->params) != HSM_OK || se05x_login(&own, SE05X_USER, &user) != HSM_OK)
            _exit(1);
        for (i = 0; i < 20; i++)
            if (random_as(&own, SE05X_USER, 16) != HSM_OK)
                _exit(2);
        close_token(&own);
        _exit(0);
    }
    for (i = 0; i < 20; i++)
        ck_ok(random_as(&token, SE05X_SO, 16));
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(part_is_identified)
{
    uint16_t oef_id = 0;

    setup(_i);
    make_users();
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_identify(&token, &oef_id));
    ck_assert_ptr_nonnull(scp03_default_by_oef(oef_id));
    ck_ok(random_as(&token, SE05X_USER, 16));
}
END_TEST

START_TEST(rotated_keys_are_the_only_ones_afterwards)
{
    char path[128], params[160];
    int i;

    setup(_i * 2 + 1);
    for (i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/keys.%d", temp_dir, i);
        (void)snprintf(params, sizeof(params), "?scp03=%s", path);
        ck_ok(se05x_rotate_keys(&token, path));
        ck_ok(random_as(&token, SE05X_ANYBODY, 16));
        close_token(&token);
        ck_ok(open_params(&token, params));
        ck_ok(random_as(&token, SE05X_ANYBODY, 16));
    }
    ck_assert_str_eq(se05x_channel_name(&token), "scp03");
    close_token(&token);
    ck_status(open_params(&token, "?scp03=public"), HSM_ERR_DENIED);
    ck_ok(open_params(&token, params));
}
END_TEST

START_TEST(part_that_demands_scp03_says_so)
{
    static const char *const parts[] = { "3.6.0-se050f", "7.2.22-se052f" };

    make_temp_dir();
    start_simulator(parts[_i]);
    ck_status(open_params(&token, ""), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "scp03=");
    ck_ok(open_params(&token, "?scp03=public"));
    ck_assert(token.caps.fips);
    make_users();
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    ck_ok(random_as(&token, SE05X_SO, 16));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("se05x_channel_sim");
    TCase *tc = tcase_create("channel");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_loop_test(tc, commands_run_in_and_out_of_sessions, 0, VARIANTS);
    tcase_add_loop_test(tc, commands_without_data_keep_the_counters_in_step, 0, VARIANTS);
    tcase_add_loop_test(tc, wrong_pin_counts_and_locks, 0, 2 * VARIANTS);
    tcase_add_loop_test(tc, missing_auth_object_is_told_from_no_free_session, 0, VARIANTS);
    tcase_add_loop_test(tc, everything_is_back_after_a_reset_by_us, 0, VARIANTS);
    tcase_add_loop_test(tc, everything_is_back_after_a_reset_by_nobody, 0, VARIANTS);
    tcase_add_loop_test(tc, sessions_of_a_killed_process_are_freed, 0, VARIANTS);
    tcase_add_loop_test(tc, two_processes_with_sessions_take_turns, 0, VARIANTS);
    tcase_add_loop_test(tc, part_is_identified, 0, VARIANTS);
    tcase_add_loop_test(tc, rotated_keys_are_the_only_ones_afterwards, 0, VARIANTS / 2);
    tcase_add_loop_test(tc, part_that_demands_scp03_says_so, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    const char *program = getenv("HSM_SIM");

    if (program == NULL || access(program, X_OK) != 0) {
        printf("HSM_SIM names no simulator\n");
        return 77;
    }
    return run_suite(suite());
}
