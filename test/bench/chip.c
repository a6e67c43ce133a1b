/* SPDX-License-Identifier: Apache-2.0 */
/*
 * se05x-bench: what operations cost on the bus and how close their wall time is to the least possible, which
 * is wire time plus chip time. Starts a simulator of its own with the bus at 100 kHz and the chip's computing
 * times. se05x-bench [--count N] [--applet 3.1.1]       HSM_SIM names the simulator
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hsm/hsm.h"
#include "hsm/pubkey.h"

enum { STATS_MAX = 8192, BIT_US = 10 };

static char dir[64], sock[96];
static pid_t sim_pid;
static int control_fd = -1;

static void die(const char *what)
{
    (void)fprintf(stderr, "se05x-bench: %s\n", what);
    exit(1);
}

static void check(hsm_status st)
{
    if (st != HSM_OK)
        die(hsm_error_text(st));
}

/* ---- the simulator ----------------------------------------------------------------------------------------
 */

static void clean_up(void)
{
    char command[96];

    if (sim_pid > 0) {
        (void)kill(sim_pid, SIGTERM);
        (void)waitpid(sim_pid, NULL, 0);
    }
    if (dir[0] != '\0') {
        (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
        (void)!system(command);
    }
}

static void start_sim(const char *applet)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *program = getenv("HSM_SIM");
    char nvm[96], ready[16] = "";
    int out[2];

    (void)snprintf(dir, sizeof(dir), "/tmp/se05x-bench-XXXXXX");
    if (program == NULL || mkdtemp(dir) == NULL || pipe(out) != 0)
        die("set HSM_SIM to the path of se05x-sim");
    (void)atexit(clean_up);
    (void)snprintf(sock, sizeof(sock), "%s/sim", dir);
    (void)snprintf(nvm, sizeof(nvm), "%s/nvm", dir);
    if ((sim_pid = fork()) == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], 1);
        execl(program, program, "--socket", sock, "--nvm", nvm, "--applet", applet, "--bus-hz", "100000",
              "--chip-timing", (char *)NULL);
        _exit(127);
    }
    if (read(out[0], ready, sizeof(ready) - 1) <= 0)
        die("the simulator does not start");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", sock);
    control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(control_fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        die("the simulator cannot be reached");
}

struct cost {
    long transactions, nacks, apdus, out, in, bus_us, chip_us;
    double wall_us;
};

static long number(const char *stats, const char *name)
{
    const char *at = strstr(stats, name);

    return at == NULL ? 0 : atol(at + strlen(name));
}

static void bus_cost(struct cost *c)
{
    static char stats[STATS_MAX];
    uint8_t head[3];
    size_t len = 0;

    if (send(control_fd, "C\0\0\5stats", 9, 0) != 9 || recv(control_fd, head, 3, MSG_WAITALL) != 3 ||
        (len = (size_t)head[1] << 8 | head[2]) >= sizeof(stats) ||
        recv(control_fd, stats + 1, len, MSG_WAITALL) != (ssize_t)len)
        die("the simulator gives no statistics");
    stats[0] = '\n';
    stats[len] = '\0';
    *c = (struct cost){ .transactions = number(stats, "\ntransactions: "),
                        .nacks = number(stats, "\nnacks: "),
                        .apdus = number(stats, "\napdus: "),
                        .out = number(stats, "\nbytes-to-chip: "),
                        .in = number(stats, "\nbytes-from-chip: "),
                        .bus_us = number(stats, "\nbus-us: "),
                        .chip_us = number(stats, "\nchip-us: ") };
}

static double now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- one line of the table --------------------------------------------------------------------------------
 */

struct bench {
    struct hsm_token *tok;
    hsm_handle key;
    struct hsm_mech mech;
    bool message;
};
typedef void work_fn(struct bench *b);

/* @param floor_bits  of the reference's table, 0: what actually went over the wire, without refused polls */
static void measure(const char *name, work_fn *work, struct bench *b, int count, long floor_bits)
{
    struct cost before, after;
    double start, wall, floor_us;
    int i;

    bus_cost(&before);
    start = now_us();
    for (i = 0; i < count; i++)
        work(b);
    wall = (now_us() - start) / count;
    bus_cost(&after);
    floor_us =
        floor_bits > 0
            ? (double)floor_bits * BIT_US
            : (double)(after.bus_us - before.bus_us - (after.nacks - before.nacks) * 11 * BIT_US) / count;
    floor_us += (double)(after.chip_us - before.chip_us) / count;
    printf("%-34s %6.1f %6.1f %6.1f %7.1f %7.1f %9.2f %9.2f %7.3f\n", name,
           (double)(after.transactions - before.transactions - (after.nacks - before.nacks)) / count,
           (double)(after.nacks - before.nacks) / count, (double)(after.apdus - before.apdus) / count,
           (double)(after.out - before.out) / count, (double)(after.in - before.in) / count, wall / 1000,
           floor_us / 1000, wall / floor_us);
}

static void work_sign(struct bench *b)
{
    uint8_t in[32] = { 1 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_bytes data = { in, sizeof(in) };

    check(b->message ? hsm_sign_message(b->tok, b->key, &b->mech, data, &out)
                     : hsm_sign(b->tok, b->key, &b->mech, data, &out));
}

static void work_random(struct bench *b)
{
    uint8_t bytes[32];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };

    check(hsm_random(b->tok, &out));
}

static hsm_handle make_key(struct hsm_token *tok, const char *kind)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = kind };
    hsm_handle key;

    check(hsm_kind_parse(kind, &spec.kind));
    check(hsm_generate(tok, &spec, &key));
    return key;
}

static struct hsm_ctx *context(const char *params, const char *pin_source)
{
    struct hsm_config *cfg;
    struct hsm_ctx *ctx;
    char spec[200];

    (void)snprintf(spec, sizeof(spec), "se05x:unix:%s%s", sock, params);
    check(hsm_config_new(&cfg));
    check(hsm_config_set(cfg, "token", spec));
    check(hsm_config_set(cfg, "pin-source", pin_source));
    check(hsm_config_finish(cfg));
    check(hsm_ctx_new(cfg, &ctx));
    return ctx;
}

struct cold {
    const char *params, *pin_source;
};
static struct cold cold;

/* All that a process pays once: context, opening, finding the key, login, signature. */
static void work_cold(struct bench *b)
{
    struct hsm_ctx *ctx = context(cold.params, cold.pin_source);
    struct hsm_uri uri = { .object = "ec:P-256" };
    uint8_t in[32] = { 1 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_key *key;

    check(hsm_key_new(ctx, &uri, (struct hsm_bytes){ NULL, 0 }, &key));
    check(hsm_key_sign(key, &b->mech, (struct hsm_bytes){ in, sizeof(in) }, &out));
    hsm_key_free(key);
    hsm_ctx_free(ctx);
}

static void run(const char *applet, const char *title, bool pin, const char *params, const long floors[3],
                int count)
{
    struct hsm_token_init init = { .label = "bench",
                                   .so_pin = { (const uint8_t *)"so-pin-bench", 12 },
                                   .kdf_memory = 1 << 20,
                                   .force = true };
    char pin_path[96], pin_source[128];
    struct bench b = { .mech = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 } };
    struct hsm_ctx *ctx;
    FILE *f;

    (void)snprintf(pin_path, sizeof(pin_path), "%s/pin", dir);
    (void)snprintf(pin_source, sizeof(pin_source), "file:%s", pin_path);
    if ((f = fopen(pin_path, "w")) == NULL || fputs("0123456789abcdef", f) < 0 || fclose(f) != 0)
        die("no PIN file");
    if (pin)
        init.user_pin = (struct hsm_bytes){ (const uint8_t *)"0123456789abcdef", 16 };
    ctx = context(params, pin_source);
    check(hsm_token_create(ctx, 0, &init));
    check(hsm_token_get(ctx, 0, &b.tok));
    if (pin)
        check(hsm_login_configured(b.tok));
    printf("\napplet %s, %s\n%-34s %6s %6s %6s %7s %7s %9s %9s %7s\n", applet, title, "operation", "msgs",
           "polls", "APDUs", "out", "in", "wall ms", "floor ms", "ratio");
    cold = (struct cold){ params, pin_source };
    b.key = make_key(b.tok, "ec:P-256");
    measure("first signatures in a new process", work_cold, &b, 3, 0);
    measure("ECDSA P-256, warming up", work_sign, &b, 5, floors[0]);
    measure("ECDSA P-256", work_sign, &b, count, floors[0]);
    measure("random 32", work_random, &b, 5, floors[2]);
    measure("random 32", work_random, &b, count, floors[2]);
    b.key = make_key(b.tok, "rsa:2048");
    b.mech = (struct hsm_mech){ .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA256 };
    measure("RSA-2048 PKCS#1, warming up", work_sign, &b, 5, floors[1]);
    measure("RSA-2048 PKCS#1", work_sign, &b, count, floors[1]);
    b.message = true;
    measure("RSA-2048 PKCS#1 of 32-byte message", work_sign, &b, count, 0);
    hsm_ctx_free(ctx);
}

int main(int argc, char **argv)
{
    /* bits on the wire, se05x.md 7.2: ECDSA, RSA-2048 raw, random 32 */
    static const long plain[3] = { 1237, 5196, 571 }, scp03[3] = { 1471, 5475, 931 },
                      session[3] = { 0, 0, 0 };
    const char *applet = "3.1.1";
    int i, count = 50;

    for (i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--count") == 0)
            count = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--applet") == 0)
            applet = argv[i + 1];
        else
            die("usage: se05x-bench [--count N] [--applet NAME]");
    }
    if (i < argc || count < 1)
        die("usage: se05x-bench [--count N] [--applet NAME]");
    (void)setenv("OPENSSL_CONF", "/dev/null", 1);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    start_sim(applet);
    run(applet, "plain, keys without PIN", false, "", plain, count);
    run(applet, "PIN: AESKey session", true, "", session, count);
    run(applet, "PlatformSCP03, keys without PIN", false, "?scp03=public", scp03, count);
    return 0;
}
