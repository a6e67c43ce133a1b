/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life on a vehicle: what the driver makes of bit errors, refused addresses, resets and power cuts at every
 * byte. Whatever happens, no wrong signature, no hang, no object that nobody knows, no key lost.
 * HSM_FAULT_ROUNDS=10000 for the long run.
 */
#include "chip_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

enum {
    ROUNDS_DEFAULT = 400,
    BYTES_MAX = 20000,
    PAIR_ROUNDS = 500,
    SIGN_BOUND_S = 30,
    SIGN_BYTES =
        240 /* a signature inside a session takes less, both ways; what lies beyond strikes nothing */
};

static const char *const applets[] = { "3.1.1", "7.2.0" };
static struct hsm_ctx *ctx;
static char pin_source[128];
static int control_fd;

/* ---- the simulator's control commands -------------------------------------------------------------------
 */

static void full(ssize_t n, size_t want)
{
    ck_assert_int_eq(n, (ssize_t)want);
}

/* @return the text of the answer, valid until the next call */
static const char *control(const char *command)
{
    size_t len = strlen(command);
    uint8_t head[4] = { 'C', 0, (uint8_t)(len >> 8), (uint8_t)len }, answer[3];
    static uint8_t text_buf[4096];

    full(send(control_fd, head, 4, MSG_NOSIGNAL), 4);
    full(send(control_fd, command, len, MSG_NOSIGNAL), len);
    full(recv(control_fd, answer, 3, MSG_WAITALL), 3);
    len = (size_t)answer[1] << 8 | answer[2];
    ck_assert_uint_lt(len, sizeof(text_buf));
    text_buf[len] = '\0';
    if (len > 0)
        full(recv(control_fd, text_buf, len, MSG_WAITALL), len);
    ck_assert_msg(answer[0] == 0, "the simulator does not understand: %s", command);
    return (const char *)text_buf;
}

/* How often the simulator has lost power or was reset: a fault that did not strike proves nothing. */
static long strikes(void)
{
    static const char *const names[] = { "\nresets: ", "\npower-cuts: " };
    const char *stats = control("stats"), *at;
    long n = 0;
    size_t i;

    for (i = 0; i < COUNT(names); i++) {
        ck_assert_ptr_nonnull(at = strstr(stats, names[i]));
        n += atol(at + strlen(names[i]));
    }
    return n;
}

static void control_open(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/sim.sock", temp_dir);
    control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(control_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
}

/* ---- fixture ----------------------------------------------------------------------------------------------
 */

static void setup_applet(const char *applet)
{
    struct hsm_token_init init = default_init();
    char path[96];
    FILE *f;

    make_temp_dir();
    chip_start(applet, false);
    (void)snprintf(path, sizeof(path), "%s/pin", temp_dir);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    (void)fprintf(f, "%s\n", user_pin);
    (void)fclose(f);
    (void)snprintf(pin_source, sizeof(pin_source), "file:%s", path);
    (void)strncat(token_spec, "?timeout=1000", sizeof(token_spec) - strlen(token_spec) - 1);
    ctx = new_context(pin_source);
    ck_ok(hsm_token_create(ctx, 0, &init));
    control_open();
}

static void teardown(void)
{
    (void)close(control_fd);
    hsm_ctx_free(ctx);
    chip_stop();
    remove_temp_dir();
}

static long rounds(void)
{
    const char *text_value = getenv("HSM_FAULT_ROUNDS");

    return text_value != NULL ? atol(text_value) : ROUNDS_DEFAULT;
}

static hsm_status may_fail(hsm_status st)
{
    ck_assert_msg(st == HSM_OK || st == HSM_ERR_TOKEN_IO || st == HSM_ERR_TOKEN_GONE || st == HSM_ERR_BUSY,
                  "unexpected: %s (%s)", hsm_strerror(st), hsm_error_text(st));
    return st;
}

/* A signature, or an honest failure, in bounded time. */
static hsm_status sign_once(hsm_handle key, EVP_PKEY *pub)
{
    struct hsm_mech mech = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    time_t start = time(NULL);
    struct hsm_token *tok;
    hsm_status st = hsm_token_get(ctx, 0, &tok);

    if (st == HSM_OK)
        st = sign_and_verify(tok, key, pub, &mech);
    ck_assert_int_le(time(NULL) - start, SIGN_BOUND_S);
    return may_fail(st);
}

static void must_sign(hsm_handle key, EVP_PKEY *pub)
{
    ck_ok(sign_once(key, pub));
}

static hsm_handle make_key(const char *label, EVP_PKEY **pub)
{
    hsm_handle key = generate(get_token(ctx), "ec:P-256", label);
    struct hsm_object obj;

    ck_ok(find(get_token(ctx), HSM_URI_TYPE_PRIVATE, label, &obj));
    *pub = public_key(&obj);
    return key;
}

static void count_line(void *arg, const char *line)
{
    if (strstr(line, "hsm: ") != NULL)
        ++*(size_t *)arg;
}

/* Objects of ours on the chip, directory and journal included. */
static size_t objects_on_chip(void)
{
    size_t n = 0;

    ck_ok(hsm_token_control(get_token(ctx), "objects", NULL, count_line, &n));
    ck_assert_uint_ge(n, 4); /* token, journal, two PINs */
    return n;
}

/* ---- noise ------------------------------------------------------------------------------------------------
 */

START_TEST(noise_never_gives_a_wrong_signature)
{
    long i, good = 0, bad = 0, n = rounds();
    EVP_PKEY *pub;
    hsm_handle key;
    size_t objects;

    setup_applet(applets[_i]);
    key = make_key("noisy", &pub);
    objects = objects_on_chip();
    (void)control("fault seed=4711,nack=0.02,bitflip=1e-4");
    for (i = 0; i < n; i++)
        sign_once(key, pub) == HSM_OK ? good++ : bad++;
    (void)control("fault clear");
    must_sign(key, pub);
    ck_assert_uint_eq(objects_on_chip(), objects);
    printf("noise on %s: %ld signatures, %ld failed\n", applets[_i], good, bad);
    ck_assert_int_ge(good, n - n / 100);
    EVP_PKEY_free(pub);
}
END_TEST

static const char *const cuts[] = { "fault power-cut-at-byte=%d@polls=5", "fault reset-at-byte=%d" };

static void arm(const char *format, int at)
{
    char command[96];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(command, sizeof(command), format, at);
#pragma GCC diagnostic pop
    (void)control("fault clear");
    (void)control(command);
}

START_TEST(cut_at_every_byte_of_a_signature_is_survived)
{
    int at, failed = 0;
    EVP_PKEY *pub;
    hsm_handle key;
    size_t objects;

    setup_applet(applets[_i / 2]);
    key = make_key("cut", &pub);
    must_sign(key, pub);
    objects = objects_on_chip();
    for (at = 1; at <= SIGN_BYTES; at++) {
        arm(cuts[_i % 2], at);
        failed += sign_once(key, pub) != HSM_OK;
        (void)control("fault clear");
        must_sign(key, pub);
    }
    ck_assert_uint_eq(objects_on_chip(), objects);
    ck_assert_int_ge(strikes(), SIGN_BYTES / 2);
    printf("%s on %s: %d positions, %d signatures failed, all others recovered\n", cuts[_i % 2],
           applets[_i / 2], SIGN_BYTES, failed);
    EVP_PKEY_free(pub);
}
END_TEST

/* ---- changes ----------------------------------------------------------------------------------------------
 */

static hsm_status change_generate(void)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "victim");
    struct hsm_token *tok;
    hsm_handle handle;
    hsm_status st = hsm_token_get(ctx, 0, &tok);

    return st != HSM_OK ? st : hsm_generate(tok, &spec, &handle);
}

static hsm_status change_destroy(void)
{
    struct hsm_token *tok;
    struct hsm_object obj;
    hsm_status st = hsm_token_get(ctx, 0, &tok);

    if (st == HSM_OK)
        st = find(tok, HSM_URI_TYPE_PRIVATE, "victim", &obj);
    return st != HSM_OK ? st : hsm_destroy(tok, obj.handle);
}

/* @return is the key there, whole? Half of one fails the test. */
static bool victim_is_there(void)
{
    struct hsm_object obj;
    hsm_status st = find(get_token(ctx), HSM_URI_TYPE_PRIVATE, "victim", &obj);

    if (st == HSM_ERR_NO_OBJECT)
        return false;
    ck_ok(st);
    ck_ok(sign_default(get_token(ctx), &obj));
    return true;
}

/* Any change finishes or undoes what was interrupted before. */
static void settle(void)
{
    EVP_PKEY *pub;
    hsm_handle key = make_key("settle", &pub);

    ck_ok(hsm_destroy(get_token(ctx), key));
    EVP_PKEY_free(pub);
}

struct change {
    const char *name;
    hsm_status (*run)(void);
    bool makes; /* afterwards the victim is there */
};
static const struct change changes[] = { { "generation", change_generate, true },
                                         { "destruction", change_destroy, false } };

/* After a cut: all or nothing, and nothing besides. */
static void check_whole(const struct change *c, hsm_status st, size_t without)
{
    bool there;

    settle();
    there = victim_is_there();
    ck_assert_msg(st != HSM_OK || there == c->makes, "%s said yes, but the key is %s", c->name,
                  there ? "there" : "not there");
    ck_assert_uint_eq(objects_on_chip(), without + (there ? 2 : 0));
    if (there == c->makes)
        ck_ok(c->makes ? change_destroy() : change_generate());
}

START_TEST(cut_at_every_byte_of_a_change_leaves_all_or_nothing)
{
    const struct change *c = &changes[_i % 2];
    int at, step = getenv("HSM_FAULT_ROUNDS") != NULL ? 1 : 7, failed = 0, positions = 0;
    size_t without;
    bool struck = true;
    hsm_status st;

    setup_applet(applets[_i / 4]);
    settle();
    without = objects_on_chip();
    if (!c->makes)
        ck_ok(change_generate());
    for (at = 1 + _i % 4; struck && at < BYTES_MAX; at += step) {
        arm(cuts[_i / 2 % 2], at);
        st = may_fail(c->run());
        failed += st != HSM_OK;
        positions++;
        struck = at < 1600; /* longer than any of these changes on the wire */
        (void)control("fault clear");
        check_whole(c, st, without);
    }
    ck_assert_int_ge(strikes(), positions / 4);
    printf("%s, %s on %s: %d positions, %d calls failed\n", c->name, cuts[_i / 2 % 2], applets[_i / 4],
           positions, failed);
}
END_TEST

/* ---- processes --------------------------------------------------------------------------------------------
 */

static pid_t signer(hsm_handle key, EVP_PKEY *pub, int n)
{
    struct hsm_mech mech = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    pid_t pid = fork();
    int i;

    if (pid != 0)
        return pid;
    for (i = 0; i < n; i++) {
        struct hsm_token *tok;

        if (hsm_token_get(ctx, 0, &tok) != HSM_OK || sign_and_verify(tok, key, pub, &mech) != HSM_OK) {
            _exit(1);
        }
    }
    _exit(0);
}

START_TEST(two_processes_interleave)
{
    EVP_PKEY *pub;
    hsm_handle key;
    pid_t a, b;
    int status;

    setup_applet(applets[_i]);
    key = make_key("shared", &pub);
    a = signer(key, pub, PAIR_ROUNDS);
    b = signer(key, pub, PAIR_ROUNDS);
    ck_assert_int_eq(waitpid(a, &status, 0), a);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(waitpid(b, &status, 0), b);
    ck_assert_int_eq(status, 0);
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(killed_process_does_not_stop_the_other)
{
    struct timespec pause = { 0, 0 };
    EVP_PKEY *pub;
    hsm_handle key;
    pid_t victim, other;
    int status, i;

    setup_applet(applets[_i]);
    key = make_key("shared", &pub);
    srand(4711);
    other = signer(key, pub, PAIR_ROUNDS);
    for (i = 0; i < 20; i++) {
        victim = signer(key, pub, PAIR_ROUNDS);
        pause.tv_nsec = rand() % 8000000;
        (void)nanosleep(&pause, NULL);
        (void)kill(victim, SIGKILL);
        ck_assert_int_eq(waitpid(victim, &status, 0), victim);
    }
    ck_assert_int_eq(waitpid(other, &status, 0), other);
    ck_assert_int_eq(status, 0);
    must_sign(key, pub);
    EVP_PKEY_free(pub);
}
END_TEST

static Suite *faults_suite(void)
{
    Suite *s = suite_create("se05x_faults");
    TCase *tc = tcase_create("faults");

    tcase_set_timeout(tc, getenv("HSM_FAULT_ROUNDS") != NULL ? 3600 : 120);
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_loop_test(tc, noise_never_gives_a_wrong_signature, 0, 2);
    tcase_add_loop_test(tc, cut_at_every_byte_of_a_signature_is_survived, 0, 4);
    tcase_add_loop_test(tc, cut_at_every_byte_of_a_change_leaves_all_or_nothing, 0, 8);
    tcase_add_loop_test(tc, two_processes_interleave, 0, 2);
    tcase_add_loop_test(tc, killed_process_does_not_stop_the_other, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    if (getenv("HSM_SIM") == NULL)
        return 77;
    clean_environment();
    return run_suite(faults_suite());
}
