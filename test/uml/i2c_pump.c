/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program behind an adapter of i2c-userbus.c: hands each I2C message to the simulator's socket
 * (docs/WIRE.md) and its answer back. Without a simulator, or while it is away, nobody answers on the bus.
 * With --test-chips, a few chips of its own answer as no simulated SE05x does; see chips[].
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATA_MAX = 65535, HEADER = 8, SIM_HEADER = 4, NUMBER = 4, SHORT = 1 };

static const char device[] = "/dev/i2c-userbus";

struct bus {
    int kernel;            /* /dev/i2c-userbus */
    const char *simulator; /* socket; NULL: none */
    int sim;               /* connected; -1: not */
    int nack;              /* errno by which this adapter reports a refused address */
    bool test_chips;
};

/* One message, and its answer: status as i2c-userbus.c defines it. */
struct message {
    char op;
    uint8_t addr;
    uint16_t len;
    uint8_t data[DATA_MAX];
    const uint8_t *wire; /* op, addr, len and data as they came */
    size_t wire_len;
    int32_t status;
};

static uint32_t get_be(const uint8_t *p, size_t n)
{
    uint32_t v = 0;

    while (n-- > 0)
        v = v << 8 | *p++;
    return v;
}

static void put_be(uint8_t *p, size_t n, uint32_t v)
{
    while (n-- > 0) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}

/* ---- chips of our own ---- */

static uint8_t memory[DATA_MAX];
static size_t memory_len, memory_at;

/* A write replaces the contents, reads go on where the last one ended. */
static int32_t memory_chip(struct message *m)
{
    size_t i;

    if (m->op == 'W') {
        memcpy(memory, m->data, m->len);
        memory_len = m->len;
        memory_at = 0;
        return 0;
    }
    for (i = 0; i < m->len; i++)
        m->data[i] = memory_at < memory_len ? memory[memory_at++] : 0xff;
    return 0;
}

enum { MEMORY = 1, SILENT };

/* What is not an errno or SHORT: MEMORY, and SILENT, which never answers at all. */
static const struct {
    uint8_t addr;
    int32_t status;
    int special;
} chips[] = {
    { 0x4a, 0, MEMORY },  { 0x50, -EREMOTEIO, 0 }, { 0x51, -EIO, 0 },  { 0x52, -ETIMEDOUT, 0 },
    { 0x53, -EAGAIN, 0 }, { 0x54, 0, SILENT },     { 0x55, SHORT, 0 },
};

/** @return false: another chip is meant */
static bool ask_test_chip(struct message *m, bool *silent)
{
    size_t i;

    for (i = 0; i < sizeof(chips) / sizeof(chips[0]); i++) {
        if (chips[i].addr != m->addr)
            continue;
        *silent = chips[i].special == SILENT;
        m->status = chips[i].special == MEMORY ? memory_chip(m) : chips[i].status;
        return true;
    }
    return false;
}

/* ---- the simulator ---- */

static bool write_all(int fd, const uint8_t *p, size_t len)
{
    ssize_t n;

    for (; len > 0; p += n, len -= (size_t)n)
        if ((n = write(fd, p, len)) < 0 && (n = 0, errno != EINTR))
            return false;
    return true;
}

static bool read_all(int fd, uint8_t *p, size_t len)
{
    ssize_t n;

    for (; len > 0; p += n, len -= (size_t)n)
        if ((n = read(fd, p, len)) == 0 || (n < 0 && (n = 0, errno != EINTR)))
            return false;
    return true;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (path == NULL || strlen(path) >= sizeof(address.sun_path) ||
        (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return -1;
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static int32_t status_of(const struct bus *b, uint8_t answer)
{
    switch (answer) {
    case 0:
        return 0;
    case 1: /* address refused */
        return b->nack;
    case 2: /* data refused */
        return -EIO;
    case 3: /* clock held low for longer than an adapter waits */
        return -ETIMEDOUT;
    default:
        return -EPROTO;
    }
}

static bool exchange(struct bus *b, struct message *m)
{
    uint8_t answer;

    if (b->sim < 0 && (b->sim = connect_to(b->simulator)) < 0)
        return false;
    if (!write_all(b->sim, m->wire, m->wire_len) || !read_all(b->sim, &answer, 1))
        return false;
    m->status = status_of(b, answer);
    return m->op == 'W' || m->status != 0 || read_all(b->sim, m->data, m->len);
}

/* A simulator that ended is a chip without power. */
static void ask_simulator(struct bus *b, struct message *m)
{
    if (exchange(b, m))
        return;
    if (b->sim >= 0)
        (void)close(b->sim);
    b->sim = -1;
    m->status = b->nack;
}

/* ---- the kernel ---- */

static bool receive(const struct bus *b, uint8_t *frame, struct message *m)
{
    ssize_t n;

    while ((n = read(b->kernel, frame, HEADER + DATA_MAX)) < 0)
        if (errno != EINTR && errno != EAGAIN)
            return false;
    m->op = (char)frame[NUMBER];
    m->addr = frame[NUMBER + 1] & 0x7f;
    m->len = (uint16_t)get_be(frame + NUMBER + 2, 2);
    m->wire = frame + NUMBER;
    m->wire_len = SIM_HEADER + (m->op == 'W' ? m->len : 0);
    if (m->op == 'W')
        memcpy(m->data, frame + HEADER, m->len);
    return n == HEADER + (m->op == 'W' ? m->len : 0);
}

/* ESTALE: the adapter no longer waited */
static bool answer(const struct bus *b, uint8_t *frame, const struct message *m)
{
    size_t len = m->op == 'R' && m->status == 0 ? m->len : 0;

    put_be(frame + NUMBER, 4, (uint32_t)m->status);
    memcpy(frame + HEADER, m->data, len);
    return write(b->kernel, frame, HEADER + len) == (ssize_t)(HEADER + len) || errno == ESTALE;
}

static void pump(struct bus *b)
{
    static uint8_t frame[HEADER + DATA_MAX];
    static struct message m;
    bool silent;

    while (receive(b, frame, &m)) {
        silent = false;
        if (!b->test_chips || !ask_test_chip(&m, &silent))
            ask_simulator(b, &m);
        if (!silent && !answer(b, frame, &m))
            return;
    }
}

/* ---- options ---- */

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } names[] = { { "ENXIO", ENXIO }, { "EREMOTEIO", EREMOTEIO }, { "EIO", EIO }, { "short", -SHORT } };
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].value;
    return 0;
}

static int usage(void)
{
    (void)fputs(
        "usage: i2c-pump [--bus N] [--simulator SOCKET] [--test-chips] [--nack ENXIO|EREMOTEIO|EIO|short]\n"
        "                [--max-write N] [--max-read N] [--no-empty]\n"
        "Adds adapter N (7) to the kernel through /dev/i2c-userbus until it is ended.\n"
        "  --nack      how the adapter reports a refused address; short: by a count of 0\n"
        "  --max-*     longest message the adapter takes\n"
        "  --no-empty  it refuses empty messages\n",
        stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "bus", required_argument, NULL, 'b' },       { "simulator", required_argument, NULL, 's' },
        { "test-chips", no_argument, NULL, 't' },      { "nack", required_argument, NULL, 'n' },
        { "max-write", required_argument, NULL, 'w' }, { "max-read", required_argument, NULL, 'r' },
        { "no-empty", no_argument, NULL, 'e' },        { NULL, 0, NULL, 0 }
    };
    struct bus b = { .sim = -1, .nack = -ENXIO };
    uint8_t setup[8] = { 0, 7 };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            put_be(setup, 2, (uint32_t)atoi(optarg));
            break;
        case 's':
            b.simulator = optarg;
            break;
        case 't':
            b.test_chips = true;
            break;
        case 'n':
            if ((b.nack = -errno_of(optarg)) == 0)
                return usage();
            break;
        case 'w':
            put_be(setup + 4, 2, (uint32_t)atoi(optarg));
            break;
        case 'r':
            put_be(setup + 6, 2, (uint32_t)atoi(optarg));
            break;
        case 'e':
            setup[3] = 1;
            break;
        default:
            return usage();
        }
    }
    if (optind != argc)
        return usage();
    (void)signal(SIGPIPE, SIG_IGN);
    if ((b.kernel = open(device, O_RDWR | O_CLOEXEC)) < 0 || write(b.kernel, setup, sizeof(setup)) < 0) {
        perror(device);
        return 1;
    }
    pump(&b);
    perror(device);
    return 1;
}
