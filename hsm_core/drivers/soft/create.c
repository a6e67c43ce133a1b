/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a token: all of it in a file under another name, on the disk, and then given its name in one step. A
 * crash leaves the old token or the new one, and perhaps a file PATH.new-XXXXXX to delete.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

enum { DEFAULT_MODE = 0600 };

static hsm_status check_init(const struct hsm_token_init *init)
{
    size_t label_len = init->label == NULL ? 0 : strlen(init->label);
    hsm_status st;

    if (label_len < 1 || label_len > HSM_LABEL_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "a token label has 1 to %d bytes", HSM_LABEL_MAX);
    if (init->pin_tries_max > SOFT_TRIES_LIMIT)
        return hsm_fail(HSM_ERR_ARGUMENT, "at most %d tries for a PIN", SOFT_TRIES_LIMIT);
    if ((init->mode & ~(uint32_t)0770) != 0 || (init->mode != 0 && (init->mode & 0600) != 0600))
        return hsm_fail(HSM_ERR_ARGUMENT,
                        "mode %04o for a token: its owner must be able to read and write it, others must "
                        "not",
                        (unsigned)init->mode);
    if (init->user_pin.len == 0)
        return hsm_fail(
            HSM_ERR_PIN_FORMAT,
            "a software token cannot be without a PIN: its keys are sealed under it; let a program "
            "have one by --generate-pin");
    if ((st = soft_pin_check_format(init->user_pin, HSM_ROLE_USER, init->machine_pin)) != HSM_OK)
        return st;
    return soft_pin_check_format(init->so_pin, HSM_ROLE_SO, false);
}

/* The token key exists only here, wrapped twice, and is forgotten. */
static hsm_status make_pins(struct soft_token *t, const struct hsm_token_init *init, struct soft_pin *user,
                            struct soft_pin *so)
{
    uint8_t *token_key = hsm_secret_alloc(SOFT_KEY_LEN);
    hsm_status st;

    if (token_key == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a key");
    user->role = HSM_ROLE_USER;
    so->role = HSM_ROLE_SO;
    user->tries_max = user->tries_left = init->pin_tries_max != 0 ? init->pin_tries_max : SOFT_TRIES_DEFAULT;
    so->tries_max = so->tries_left = SOFT_TRIES_DEFAULT;
    if ((st = soft_random_bytes(t->libctx, t->uuid, sizeof(t->uuid))) == HSM_OK &&
        (st = soft_random_bytes(t->libctx, token_key, SOFT_KEY_LEN)) == HSM_OK &&
        (st = soft_pin_wrap(t, init->user_pin, init->machine_pin, init->kdf_memory, token_key, user)) ==
            HSM_OK)
        st = soft_pin_wrap(t, init->so_pin, false, init->kdf_memory, token_key, so);
    hsm_secret_free(token_key, SOFT_KEY_LEN);
    return st;
}

static hsm_status fail_create(const struct soft_token *t, const char *path, int err)
{
    char dir[sizeof(t->path)];
    char *slash;

    (void)snprintf(dir, sizeof(dir), "%s", path);
    if ((slash = strrchr(dir, '/')) != NULL)
        slash[slash == dir ? 1 : 0] = '\0';
    switch (err) {
    case ENOENT:
    case ENOTDIR:
        return hsm_fail(HSM_ERR_NO_TOKEN, "%s cannot be made: there is no directory %s; create it (mkdir -p)",
                        t->where, dir);
    case EACCES:
    case EPERM:
        return hsm_fail(HSM_ERR_DENIED, "%s cannot be made: uid %u may not write to %s", t->where,
                        (unsigned)geteuid(), dir);
    case EROFS:
        return hsm_fail(HSM_ERR_READ_ONLY, "%s cannot be made: %s is on a read-only file system", t->where,
                        dir);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return hsm_fail(HSM_ERR_TOKEN_FULL, "%s cannot be made: no space left in %s", t->where, dir);
    case EEXIST:
        return hsm_fail(HSM_ERR_EXISTS,
                        "%s exists already: nothing was changed; --force replaces it and destroys its keys",
                        t->where);
    default:
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s cannot be made: %s", t->where, strerror(err));
    }
}

static hsm_status make_temporary(struct soft_token *t, const char *target, mode_t mode)
{
    int fd, err;

    if ((size_t)snprintf(t->path, sizeof(t->path), "%s.new-XXXXXX", target) >= sizeof(t->path))
        return hsm_fail(HSM_ERR_CONFIG, "%s: the path is too long", t->where);
    if ((fd = mkostemp(t->path, O_CLOEXEC)) < 0)
        return fail_create(t, target, errno);
    err = fchmod(fd, mode) == 0 ? 0 : errno; /* exactly this, whatever the umask */
    (void)close(fd);
    if (err == 0)
        return HSM_OK;
    (void)unlink(t->path);
    return fail_create(t, target, err);
}

static int sync_directory(const char *path)
{
    char dir[sizeof(((struct soft_token *)NULL)->path)];
    int fd, err;

    (void)snprintf(dir, sizeof(dir), "%s", path);
    strrchr(dir, '/')[dir == strrchr(dir, '/') ? 1 : 0] = '\0';
    if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return errno;
    err = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
    (void)close(fd);
    return err;
}

/* A journal without its token, or of a damaged one, would be played back into the new token. */
static int drop_journal(const char *target)
{
    char journal[sizeof(((struct soft_token *)NULL)->path) + 16];

    (void)snprintf(journal, sizeof(journal), "%s-journal", target);
    return unlink(journal) == 0 || errno == ENOENT ? 0 : errno;
}

static int rename_new(const char *from, const char *to)
{
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != ENOSYS && errno != EINVAL)
        return errno;
    if (link(from, to) != 0) /* an old kernel or file system */
        return errno;
    return unlink(from) == 0 ? 0 : errno;
}

static hsm_status name_new(struct soft_token *t, const char *target)
{
    struct stat sb;
    int err;

    if (lstat(target, &sb) == 0)
        return fail_create(t, target, EEXIST);
    if ((err = drop_journal(target)) == 0 && (err = rename_new(t->path, target)) == 0)
        err = sync_directory(target);
    return err == 0 ? HSM_OK : fail_create(t, target, err);
}

/* Whoever has the old token open notices by its inode; whoever waits to write to it finds that it has moved.
 */
static hsm_status name_replacing(struct soft_token *t, const char *target)
{
    struct stat sb;
    sqlite3 *lock = NULL;
    hsm_status st = HSM_OK;
    int err;

    if (lstat(target, &sb) != 0)
        return name_new(t, target);
    if ((st = soft_store_freeze(t, target, &lock)) != HSM_OK)
        return st;
    if ((err = drop_journal(target)) == 0 && rename(t->path, target) != 0)
        err = errno;
    (void)sqlite3_close(lock);
    if (err == 0)
        err = sync_directory(target);
    return err == 0 ? HSM_OK : fail_create(t, target, err);
}

/* What a link points to is replaced, not the link. */
static hsm_status resolve(const struct soft_token *t, char *target, size_t cap)
{
    char *real = realpath(t->path, NULL);
    int len = snprintf(target, cap, "%s", real != NULL ? real : t->path);

    free(real);
    return (size_t)len < cap ? HSM_OK : hsm_fail(HSM_ERR_CONFIG, "%s: the path is too long", t->where);
}

static hsm_status create_as(struct soft_token *t, const char *target, const struct hsm_token_init *init)
{
    struct soft_pin user = { .tries_max = 0 }, so = { .tries_max = 0 };
    hsm_status st;

    if ((st = make_pins(t, init, &user, &so)) != HSM_OK ||
        (st = make_temporary(t, target, init->mode != 0 ? init->mode : DEFAULT_MODE)) != HSM_OK)
        return st;
    if ((st = soft_store_format(t, &user, &so)) == HSM_OK)
        st = init->force ? name_replacing(t, target) : name_new(t, target);
    if (st != HSM_OK)
        (void)unlink(t->path);
    return st;
}

hsm_status soft_create(const struct hsm_open_args *args, const struct hsm_token_init *init)
{
    struct soft_token *t = NULL;
    char target[sizeof(t->path)];
    struct stat sb;
    hsm_status st;

    if ((st = check_init(init)) != HSM_OK || (st = soft_token_new(args, &t)) != HSM_OK)
        return st;
    (void)snprintf(t->label, sizeof(t->label), "%s", init->label);
    if ((st = resolve(t, target, sizeof(target))) != HSM_OK)
        goto out;
    if (!init->force && lstat(target, &sb) == 0) /* before a second of stretching PINs */
        st = fail_create(t, target, EEXIST);
    else
        st = create_as(t, target, init);
out:
    soft_token_free(t);
    return st;
}
