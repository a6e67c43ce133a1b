/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket: each connection is one opener of the bus, one event loop takes their messages one at a time.
 * With a bus speed the answer leaves when the last bit would have; until then the bus belongs to that
 * message.
 */
#include "lower.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    CLIENTS_MAX = 64,
    HEADER_LEN = 4,
    REQUEST_MAX = HEADER_LEN + BUS_MESSAGE_MAX,
    NO_STOP = 0x80,
    SPIN_US = 60
};

struct client {
    int fd;
    uint8_t in[REQUEST_MAX], out[REQUEST_MAX];
    size_t in_len, out_len;
    uint64_t due_us; /* out may leave then */
};

struct server {
    struct bus *bus;
    struct card *card;
    int listener;
    struct client *clients[CLIENTS_MAX];
    struct client *holder; /* the one between a message without STOP and its last one */
    uint64_t free_us;      /* the bus is free again */
    size_t turn;
};

static volatile sig_atomic_t stop_asked, reset_asked;

static void on_signal(int number)
{
    if (number == SIGHUP)
        reset_asked = 1;
    else
        stop_asked = 1;
}

uint64_t clock_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- the listening socket --------------------------------------------------------------------------- */

/* Bound and listening under another name first: whoever sees @p path can connect. */
static int listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd, n = snprintf(address.sun_path, sizeof(address.sun_path), "%s.%d", path, (int)getpid());

    if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
        fprintf(stderr, "se05x-sim: --socket %s: path too long for a socket\n", path);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(address.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, CLIENTS_MAX) != 0 || rename(address.sun_path, path) != 0) {
        fprintf(stderr, "se05x-sim: --socket %s: %s\n", path, strerror(errno));
        (void)unlink(address.sun_path);
        if (fd >= 0)
            (void)close(fd);
        return -1;
    }
    return fd;
}

static void accept_client(struct server *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    for (size_t i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
        if (s->clients[i] == NULL && (s->clients[i] = calloc(1, sizeof(struct client))) != NULL) {
            s->clients[i]->fd = fd;
            return;
        }
    }
    if (fd >= 0)
        (void)close(fd);
}

static void drop_client(struct server *s, size_t i)
{
    if (s->holder == s->clients[i])
        s->holder = NULL;
    (void)close(s->clients[i]->fd);
    free(s->clients[i]);
    s->clients[i] = NULL;
}

/* ---- requests --------------------------------------------------------------------------------------- */

static size_t request_len(const struct client *c)
{
    size_t len;

    if (c->in_len < HEADER_LEN)
        return 0;
    len = HEADER_LEN + (c->in[0] == 'R' ? 0 : (size_t)(c->in[2] << 8 | c->in[3]));
    return c->in_len >= len ? len : 0;
}

static void run_control(struct server *s, struct client *c, size_t len)
{
    char *text = NULL;
    size_t text_len = 0;
    FILE *out = open_memstream(&text, &text_len);
    char *command = strndup((const char *)c->in + HEADER_LEN, len - HEADER_LEN);
    bool ok = out != NULL && command != NULL && bus_control(s->bus, s->card, command, out, clock_us());

    if (out != NULL)
        (void)fclose(out);
    if (text_len > BUS_MESSAGE_MAX - 3)
        text_len = BUS_MESSAGE_MAX - 3;
    c->out[0] = ok ? 0 : 1;
    c->out[1] = (uint8_t)(text_len >> 8);
    c->out[2] = (uint8_t)text_len;
    if (text_len != 0)
        memcpy(c->out + 3, text, text_len);
    c->out_len = 3 + text_len;
    c->due_us = 0;
    free(command);
    free(text);
}

static void run_message(struct server *s, struct client *c)
{
    struct bus_message m = { .read = c->in[0] == 'R',
                             .no_stop = (c->in[1] & NO_STOP) != 0,
                             .address = c->in[1] & 0x7F,
                             .len = (size_t)(c->in[2] << 8 | c->in[3]) };
    uint64_t now_us = clock_us(), took_us;
    enum bus_status status;

    status = bus_transfer(s->bus, &m, m.read ? c->out + 1 : c->in + HEADER_LEN, now_us, &took_us);
    c->out[0] = (uint8_t)status;
    c->out_len = 1 + (m.read && status == BUS_ACK ? m.len : 0);
    c->due_us = s->free_us = now_us + took_us;
    s->holder = m.no_stop && status == BUS_ACK ? c : NULL;
}

/* @return false: not a request, the connection is of no more use */
static bool take_request(struct server *s, struct client *c)
{
    size_t len = request_len(c);
    bool message = c->in_len > 0 && (c->in[0] == 'W' || c->in[0] == 'R');

    if (c->in_len > 0 && !message && c->in[0] != 'C')
        return false;
    if (len == 0 || c->out_len != 0)
        return true;
    if (message && (clock_us() < s->free_us || (s->holder != NULL && s->holder != c)))
        return true;
    if (message)
        run_message(s, c);
    else
        run_control(s, c, len);
    c->in_len -= len;
    memmove(c->in, c->in + len, c->in_len);
    return true;
}

static bool send_answer(struct client *c, uint64_t now_us)
{
    ssize_t n;

    if (c->out_len == 0 || now_us < c->due_us)
        return true;
    n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->out_len -= (size_t)n;
    memmove(c->out, c->out + n, c->out_len);
    return true;
}

static bool receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);

    if (n > 0)
        c->in_len += (size_t)n;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* ---- the loop --------------------------------------------------------------------------------------- */

/* Let every connection go on as far as it can, each in its turn. @return when to look again, UINT64_MAX: on
 * input */
static uint64_t serve(struct server *s)
{
    uint64_t wake_us = UINT64_MAX;

    s->turn++;
    for (size_t k = 0; k < CLIENTS_MAX; k++) {
        size_t i = (s->turn + k) % CLIENTS_MAX;
        struct client *c = s->clients[i];

        if (c != NULL && (!take_request(s, c) || !send_answer(c, clock_us())))
            drop_client(s, i);
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = s->clients[i];
        uint64_t due_us;

        if (c == NULL || (c->out_len == 0 && request_len(c) == 0))
            continue;
        if (c->out_len == 0 && s->holder != NULL && s->holder != c)
            continue; /* waits for another's STOP */
        due_us = c->out_len != 0 ? c->due_us : s->free_us;
        if (due_us < wake_us)
            wake_us = due_us;
    }
    return wake_us;
}

static size_t fill_poll(struct server *s, struct pollfd *fds, size_t *who)
{
    size_t n = 1;

    fds[0] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (s->clients[i] == NULL)
            continue;
        fds[n] = (struct pollfd){ .fd = s->clients[i]->fd };
        if (s->clients[i]->in_len < sizeof(s->clients[i]->in))
            fds[n].events |= POLLIN;
        if (s->clients[i]->out_len != 0 && clock_us() >= s->clients[i]->due_us)
            fds[n].events |= POLLOUT;
        who[n++] = i;
    }
    return n;
}

static void wait_input(struct server *s, uint64_t wake_us, const sigset_t *while_waiting)
{
    struct pollfd fds[CLIENTS_MAX + 1];
    size_t who[CLIENTS_MAX + 1], n = fill_poll(s, fds, who);
    uint64_t now_us = clock_us(), wait_us = wake_us > now_us ? wake_us - now_us : 0;
    struct timespec timeout;

    /* a sleep ends late by about as much: the rest is waited for awake, or each message would cost it */
    wait_us = wait_us > SPIN_US ? wait_us - SPIN_US : 0;
    timeout = (struct timespec){ .tv_sec = (time_t)(wait_us / 1000000),
                                 .tv_nsec = (long)(wait_us % 1000000) * 1000 };

    if (ppoll(fds, n, wake_us == UINT64_MAX ? NULL : &timeout, while_waiting) <= 0)
        return;
    for (size_t i = 1; i < n; i++) {
        if ((fds[i].revents & POLLIN && !receive(s->clients[who[i]])) ||
            (fds[i].revents & (POLLHUP | POLLERR) && !(fds[i].revents & POLLIN)))
            drop_client(s, who[i]);
    }
    if (fds[0].revents & POLLIN)
        accept_client(s);
}

static void catch_signals(sigset_t *while_waiting)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t blocked;

    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)sigaction(numbers[i], &action, NULL);
        sigaddset(&blocked, numbers[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &blocked, while_waiting);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sigdelset(while_waiting, numbers[i]);
    (void)signal(SIGPIPE, SIG_IGN);
}

int server_run(const char *path, struct bus *b, struct card *card)
{
    struct server s = { .bus = b, .card = card };
    sigset_t while_waiting;
    struct stat mine, now;

    catch_signals(&while_waiting); /* first: a signal right after "ready" must find its handler */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    s.listener = listen_at(path);
    if (s.listener < 0)
        return 1;
    if (stat(path, &mine) != 0)
        memset(&mine, 0, sizeof(mine));
    puts("ready");
    (void)fflush(stdout);
    while (!stop_asked) {
        uint64_t wake_us = serve(&s);

        wait_input(&s, wake_us, &while_waiting);
        if (reset_asked) {
            reset_asked = 0;
            bus_chip_reset(b, clock_us());
        }
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (s.clients[i] != NULL)
            drop_client(&s, i);
    }
    (void)close(s.listener);
    if (stat(path, &now) == 0 && now.st_ino == mine.st_ino && now.st_dev == mine.st_dev)
        (void)unlink(path); /* not the socket of one who came after */
    return 0;
}
