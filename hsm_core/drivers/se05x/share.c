/* SPDX-License-Identifier: Apache-2.0 */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHARE_MAGIC = 0x48534d31, /* "HSM1" */
    FILE_MODE_MASK = 0666,
    POLL_FIRST_US = 100,
    POLL_NEXT_US = 400, /* of the one whose turn is next: what a switch between processes costs at most */
    POLL_QUEUE_US = 2000
};

/* ---- the shared file ------------------------------------------------------------------------------------
 */

/* Owner, group and mode of the bus node: whoever may talk to the chip may share its state, nobody else. */
static int create_file(const char *path, const struct stat *node)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return errno == EEXIST ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (ftruncate(fd, sizeof(struct share_state)) != 0 || fchown(fd, (uid_t)-1, node->st_gid) != 0 ||
        fchmod(fd, node->st_mode & FILE_MODE_MASK) != 0)
        errno = 0; /* then it is this user's alone, and others do without */
    return fd;
}

static bool map_fd(struct share *s, int fd)
{
    struct stat st;
    void *map;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
        (st.st_size < (off_t)sizeof(struct share_state) && ftruncate(fd, sizeof(struct share_state)) != 0) ||
        (map = mmap(NULL, sizeof(struct share_state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) ==
            MAP_FAILED)
        return false;
    s->map = map;
    return true;
}

static void map_file(struct share *s, const char *path, const struct stat *node)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT)
        fd = create_file(path, node);
    if (fd >= 0 && map_fd(s, fd))
        s->state_fd = fd;
    else if (fd >= 0)
        (void)close(fd);
}

void share_open(struct share *s, const struct hsm_transport *t, unsigned addr, const char *dir)
{
    static const char *const usual[] = { "/run/lock", "/dev/shm" };
    struct stat node = { .st_mode = 0600 };
    char path[400];
    size_t i;

    *s = (struct share){ .lock_fd = t->lock_fd, .lock_at = 2 * (long)addr, .state_fd = -1, .fresh = true };
    if (t->lock_fd < 0)
        return;
    (void)fstat(t->lock_fd, &node);
    if (t->state_name[0] == '\0') {
        (void)map_fd(s, t->lock_fd);
        return;
    }
    for (i = 0; i < sizeof(usual) / sizeof(usual[0]) && s->map == NULL; i++) {
        (void)snprintf(path, sizeof(path), "%.300s/hsm-%s", dir[0] != '\0' ? dir : usual[i], t->state_name);
        map_file(s, path, &node);
        if (dir[0] != '\0')
            break;
    }
}

void share_close(struct share *s)
{
    if (s->map != NULL)
        (void)munmap(s->map, sizeof(*s->map));
    if (s->state_fd >= 0)
        (void)close(s->state_fd);
    s->map = NULL;
    s->state_fd = -1;
}

/* ---- the lock: two bytes, a queue of one before the lock itself, so that nobody takes it twice in a row
 * while another one waits ---- */

static int set_lock(const struct share *s, long at, short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

    return fcntl(s->lock_fd, F_OFD_SETLK, &lock);
}

static hsm_status wait_for(struct share *s, struct hsm_transport *t, long at, unsigned step_us,
                           uint64_t until_us)
{
    uint64_t now;
    unsigned pause = POLL_FIRST_US;

    while (set_lock(s, at, F_WRLCK) != 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return hsm_fail(HSM_ERR_TOKEN_IO, "%s: cannot be locked: %s", t->name, strerror(errno));
        now = t->ops->now_us(t);
        if (now >= until_us)
            return hsm_fail(HSM_ERR_BUSY, "%s: in use by another process (last known: %u)", t->name,
                            share_state(s)->holder);
        t->ops->sleep_until_us(t, now + pause);
        pause = pause * 2 < step_us ? pause * 2 : step_us;
    }
    return HSM_OK;
}

static void check_state(struct share *s, uint64_t now_us)
{
    struct share_state *state = share_state(s);

    if (state->magic != SHARE_MAGIC || state->ns > 1 || state->nr > 1) {
        memset(state, 0, sizeof(*state));
        state->magic = SHARE_MAGIC;
        state->dirty = 1;      /* nothing is known */
        state->epoch = now_us; /* never one that somebody remembers */
    }
    if (s->map == NULL && s->fresh)
        state->dirty = 1; /* others may have been here, unseen */
}

hsm_status share_lock(struct share *s, struct hsm_transport *t, unsigned timeout_ms)
{
    uint64_t until_us = t->ops->now_us(t) + (uint64_t)timeout_ms * 1000;
    hsm_status st;

    if (s->lock_fd >= 0) {
        if ((st = wait_for(s, t, s->lock_at + 1, POLL_QUEUE_US, until_us)) != HSM_OK)
            return st;
        st = wait_for(s, t, s->lock_at, POLL_NEXT_US, until_us);
        (void)set_lock(s, s->lock_at + 1, F_UNLCK);
        if (st != HSM_OK)
            return st;
    }
    check_state(s, t->ops->now_us(t));
    share_state(s)->holder = (uint32_t)getpid();
    return HSM_OK;
}

void share_unlock(struct share *s)
{
    s->fresh = s->map == NULL && s->lock_fd >= 0;
    if (s->lock_fd >= 0)
        (void)set_lock(s, s->lock_at, F_UNLCK);
}
