/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's socket: one request per bus message, op(1) addr(1) len(2) [data]; answer status(1) [data].
 * Status 0 = acknowledged, 1 and 2 = not acknowledged (address, data), 3 = bus disturbed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

enum { MESSAGE_MAX = 8192, ANSWER_TIMEOUT_S = 30 };

struct stream {
    struct hsm_transport base;
    int fd;
    uint8_t addr;
};

static struct stream *stream_of(struct hsm_transport *t)
{
    return (struct stream *)(void *)t;
}

static bool send_all(int fd, const uint8_t *ptr, size_t len)
{
    ssize_t n;

    for (; len > 0; ptr += n, len -= (size_t)n) {
        n = send(fd, ptr, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            return false;
    }
    return true;
}

static bool receive_all(int fd, uint8_t *ptr, size_t len)
{
    ssize_t n;

    for (; len > 0; ptr += n, len -= (size_t)n) {
        n = recv(fd, ptr, len, 0);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0) {
            errno = n == 0 ? ENODEV : errno;
            return false;
        }
    }
    return true;
}

static enum bus_result result_of(struct hsm_transport *t, uint8_t status)
{
    switch (status) {
    case 0:
        return BUS_OK;
    case 1:
    case 2:
        t->error = ENXIO;
        return BUS_NACK;
    case 3:
        t->error = ETIMEDOUT;
        return BUS_DISTURBED;
    default:
        t->error = EPROTO;
        return BUS_GONE;
    }
}

static enum bus_result gone(struct hsm_transport *t)
{
    t->error = errno == EPIPE || errno == ECONNRESET ? ENODEV : errno;
    return BUS_GONE;
}

static enum bus_result stream_write(struct hsm_transport *t, struct hsm_bytes message)
{
    struct stream *s = stream_of(t);
    uint8_t request[4 + MESSAGE_MAX] = { 'W', s->addr, (uint8_t)(message.len >> 8), (uint8_t)message.len },
                        status;

    if (message.len > MESSAGE_MAX) {
        t->error = EMSGSIZE;
        return BUS_GONE;
    }
    memcpy(request + 4, message.ptr, message.len);
    if (!send_all(s->fd, request, 4 + message.len) || !receive_all(s->fd, &status, 1))
        return gone(t);
    return result_of(t, status);
}

static enum bus_result stream_read(struct hsm_transport *t, uint8_t *ptr, size_t len)
{
    struct stream *s = stream_of(t);
    uint8_t request[4] = { 'R', s->addr, (uint8_t)(len >> 8), (uint8_t)len }, status;

    if (!send_all(s->fd, request, sizeof(request)) || !receive_all(s->fd, &status, 1) ||
        (status == 0 && !receive_all(s->fd, ptr, len)))
        return gone(t);
    return result_of(t, status);
}

static void stream_close(struct hsm_transport *t)
{
    struct stream *s = stream_of(t);

    if (s->fd >= 0)
        (void)close(s->fd);
    if (t->lock_fd >= 0)
        (void)close(t->lock_fd);
    free(s);
}

static const struct hsm_transport_ops stream_ops = {
    .write = stream_write,
    .read = stream_read,
    .now_us = clock_now_us,
    .sleep_until_us = clock_sleep_until_us,
    .close = stream_close,
    .abandon = stream_close, /* closing a socket or a lock of its own says nothing on the bus */
};

/* Whoever may use the socket may lock: the lock file takes its group and mode from it. */
static int open_lock(const char *socket_path, const struct stat *node)
{
    char path[300];
    int fd;

    (void)snprintf(path, sizeof(path), "%s.lock", socket_path);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) /* another process was faster */
        return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fchown(fd, (uid_t)-1, node->st_gid) != 0 || fchmod(fd, node->st_mode & 0666) != 0)
        errno = 0; /* then only this user can share the bus */
    return fd;
}

static hsm_status connect_to(struct stream *s, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval timeout = { ANSWER_TIMEOUT_S, 0 };
    struct stat node;

    if (strlen(path) >= sizeof(address.sun_path))
        return hsm_fail(HSM_ERR_CONFIG, "socket path %s is too long", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if ((s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return hsm_fail(HSM_ERR_TOKEN_IO, "no socket: %s", strerror(errno));
    if (connect(s->fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || stat(path, &node) != 0)
        return hsm_fail(errno == EACCES ? HSM_ERR_DENIED : HSM_ERR_NO_TOKEN,
                        "cannot reach the simulated bus at %s: %s; start se05x-sim --socket %s", path,
                        strerror(errno), path);
    (void)setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if ((s->base.lock_fd = open_lock(path, &node)) < 0)
        return hsm_fail(HSM_ERR_DENIED, "cannot open the lock file %s.lock: %s", path, strerror(errno));
    return HSM_OK;
}

hsm_status bus_open_stream(const char *socket_path, unsigned addr, struct hsm_transport **out)
{
    struct stream *s = calloc(1, sizeof(*s));
    hsm_status st;

    if (s == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a bus");
    s->base.ops = &stream_ops;
    s->base.lock_fd = s->fd = -1;
    s->base.write_max = s->base.read_max = MESSAGE_MAX;
    s->addr = (uint8_t)addr;
    (void)snprintf(s->base.name, sizeof(s->base.name), "%.90s address 0x%02x", socket_path, addr);
    if ((st = connect_to(s, socket_path)) != HSM_OK) {
        stream_close(&s->base);
        return st;
    }
    *out = &s->base;
    return HSM_OK;
}
