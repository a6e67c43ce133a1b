/* SPDX-License-Identifier: Apache-2.0 */
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHARE_MAGIC = 0x48534d32, /* "HSM2" */
    FILE_MODE_MASK = 0666,
    POLL_FIRST_US = 100,
    POLL_NEXT_US = 400, /* of the one whose turn is next: what a switch between processes costs at most */
    POLL_QUEUE_US = 2000
};

uint64_t share_random(void)
{
    uint64_t value = 0;

    if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != sizeof(value) || value == 0)
        value = (uint64_t)getpid() << 32 |
                (uintptr_t)&value; /* early in boot; uniqueness is all that is needed */
    return value;
}

/* ---- the shared file --------------------------------------------------------------------------------------
 */

/* Group and mode of the bus node: whoever may talk to the chip may share its state, nobody else. */
static int create_file(const char *path, const struct stat *node)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return errno == EEXIST ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fchown(fd, (uid_t)-1, node->st_gid) != 0 || fchmod(fd, node->st_mode & FILE_MODE_MASK) != 0)
        errno = 0; /* then it is this user's alone, and others do without */
    return fd;
}

/* The directory may be writable for everybody: somebody who may not use the bus must not play its state, nor
 * have us write into a file of ours by a second name. */
static bool is_trusted(int fd, const struct stat *node)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink <= 1 &&
           (st.st_mode & ~node->st_mode & 0002) == 0 &&
           (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == node->st_uid ||
            st.st_gid == node->st_gid);
}

/* Not with O_CREAT at first: fs.protected_regular refuses that for another user's file in a sticky directory.
 */
static int open_file(const char *path, const struct stat *node)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        fd = create_file(path, node);
    if (fd >= 0 && !is_trusted(fd, node)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static void open_state(struct share *s)
{
    struct stat node = { .st_mode = 0600 };

    (void)fstat(s->lock_fd, &node);
    s->state_fd = open_file(s->path, &node);
    s->own_fd = s->state_fd >= 0;
}

void share_open(struct share *s, const struct hsm_transport *t, unsigned addr, const char *dir)
{
    static const char *const usual[] = { "/run/lock", "/dev/shm" };
    size_t i;

    *s = (struct share){ .lock_fd = t->lock_fd, .lock_at = 2 * (long)addr, .state_fd = -1 };
    if (t->lock_fd < 0)
        return;
    if (t->state_name[0] == '\0') { /* the file behind the lock is there for it */
        s->state_fd = t->lock_fd;
        return;
    }
    for (i = 0; i < sizeof(usual) / sizeof(usual[0]) && s->state_fd < 0; i++) {
        (void)snprintf(s->path, sizeof(s->path), "%.300s/hsm-%s", dir[0] != '\0' ? dir : usual[i],
                       t->state_name);
        open_state(s);
        if (dir[0] != '\0')
            break;
    }
}

void share_close(struct share *s)
{
    if (s->own_fd)
        (void)close(s->state_fd);
    s->state_fd = -1;
    s->own_fd = false;
}

/* ---- what is in it
 * ----------------------------------------------------------------------------------------- */

/* A file that was deleted is shared with nobody who comes new. */
static void follow(struct share *s)
{
    struct stat st;

    if (s->own_fd && fstat(s->state_fd, &st) == 0 && st.st_nlink == 0) {
        share_close(s);
        open_state(s);
    }
}

static bool is_plausible(const struct share_state *state)
{
    return state->magic == SHARE_MAGIC && state->ns <= 1 && state->nr <= 1 && state->epoch != 0;
}

static void load(struct share *s)
{
    struct share_state *state = &s->state;

    follow(s);
    if (s->state_fd >= 0 && pread(s->state_fd, state, sizeof(*state), 0) != (ssize_t)sizeof(*state))
        state->magic = 0;
    if (!is_plausible(state)) { /* an epoch that nobody remembers */
        *state = (struct share_state){ .magic = SHARE_MAGIC, .dirty = 1, .epoch = share_random() };
        return;
    }
    if (s->state_fd < 0 && s->lock_fd >= 0)
        state->dirty = 1; /* others may have been here, unseen */
}

void share_store(struct share *s)
{
    if (s->state_fd >= 0 && pwrite(s->state_fd, &s->state, sizeof(s->state), 0) != (ssize_t)sizeof(s->state))
        share_close(s); /* a full or vanished file system: do without */
}

/* ---- the lock: two bytes, a queue of one before the lock itself, so that nobody takes it twice in a row
 * while another one waits ---- */

static int set_lock(const struct share *s, long at, short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

    return fcntl(s->lock_fd, F_OFD_SETLK, &lock);
}

static hsm_status busy(const struct share *s, const struct hsm_transport *t)
{
    struct share_state seen = { .holder = 0 };

    if (s->state_fd >= 0 && pread(s->state_fd, &seen, sizeof(seen), 0) == (ssize_t)sizeof(seen) &&
        seen.magic == SHARE_MAGIC && seen.holder != 0)
        return hsm_fail(HSM_ERR_BUSY, "%s: process %u uses the chip; try again, or let hsmd own it", t->name,
                        seen.holder);
    return hsm_fail(HSM_ERR_BUSY, "%s: another process uses the chip; try again, or let hsmd own it",
                    t->name);
}

static hsm_status wait_for(const struct share *s, struct hsm_transport *t, long at, unsigned step_us,
                           uint64_t until_us)
{
    unsigned pause = POLL_FIRST_US;
    uint64_t now;

    while (set_lock(s, at, F_WRLCK) != 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return hsm_fail(HSM_ERR_TOKEN_IO, "%s: cannot be locked: %s", t->name, strerror(errno));
        now = t->ops->now_us(t);
        if (now >= until_us)
            return busy(s, t);
        t->ops->sleep_until_us(t, now + pause);
        pause = pause * 2 < step_us ? pause * 2 : step_us;
    }
    return HSM_OK;
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
    load(s);
    s->state.holder = (uint32_t)getpid();
    return HSM_OK;
}

void share_unlock(struct share *s)
{
    if (s->lock_fd >= 0)
        (void)set_lock(s, s->lock_at, F_UNLCK);
}
