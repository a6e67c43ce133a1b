/* SPDX-License-Identifier: Apache-2.0 */
/* Files in and out: bounded when read, all or nothing when written. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "hsm/secret.h"
#include "tool.h"

/* Fill the buffer until the end of the file; more than fits is an error. */
static hsm_status read_all(int fd, const char *path, struct hsm_buf *buf)
{
    while (buf->len < buf->cap) {
        ssize_t n = read(fd, buf->ptr + buf->len, buf->cap - buf->len);

        if (n == 0)
            return HSM_OK;
        if (n < 0 && errno != EINTR)
            return hsm_fail(HSM_ERR_ARGUMENT, "cannot read %s: %s", path, strerror(errno));
        if (n > 0)
            buf->len += (size_t)n;
    }
    return hsm_fail(HSM_ERR_DATA_LEN, "%s is too big: at most %zu bytes are taken here", path, buf->cap - 1);
}

hsm_status tool_read_file(const char *path, size_t max, struct hsm_buf *out)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    const char *name = is_stdin ? "standard input" : path;
    hsm_status st;

    memset(out, 0, sizeof(*out));
    if (fd < 0)
        return hsm_fail(HSM_ERR_ARGUMENT, "cannot open %s: %s; check the path and its permissions", path,
                        strerror(errno));
    out->cap = max + 1;
    out->ptr = hsm_secret_alloc(out->cap);
    if (out->ptr == NULL)
        st = hsm_fail(HSM_ERR_MEMORY, "out of memory for %s", name);
    else
        st = read_all(fd, name, out);
    if (st == HSM_OK && out->len == 0)
        st = hsm_fail(HSM_ERR_DATA, "%s is empty", name);
    if (!is_stdin)
        close(fd);
    if (st != HSM_OK)
        tool_buf_free(out);
    return st;
}

void tool_buf_free(struct hsm_buf *buf)
{
    hsm_secret_free(buf->ptr, buf->cap);
    memset(buf, 0, sizeof(*buf));
}

static bool write_all(int fd, struct hsm_bytes data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.ptr, data.len);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            data.ptr += n;
            data.len -= (size_t)n;
        }
    }
    return true;
}

/* A device, FIFO or the like: nothing to rename over. */
static hsm_status write_special(const char *path, struct hsm_bytes data)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write_all(fd, data);
    int error = errno;

    if (fd >= 0 && close(fd) != 0 && ok) {
        error = errno;
        ok = false;
    }
    return ok ? HSM_OK : hsm_fail(HSM_ERR_ARGUMENT, "cannot write %s: %s", path, strerror(error));
}

static hsm_status replace_file(const char *path, struct hsm_bytes data, mode_t mode)
{
    char temporary[PATH_MAX];
    bool ok = false;
    int error = 0, fd;

    if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
        return hsm_fail(HSM_ERR_ARGUMENT, "cannot write %s: the name is too long", path);
    if ((fd = mkstemp(temporary)) < 0)
        return hsm_fail(HSM_ERR_ARGUMENT, "cannot write %s: %s; check the directory and its permissions",
                        path, strerror(errno));
    ok = fchmod(fd, mode) == 0 && write_all(fd, data) && fsync(fd) == 0;
    error = errno;
    if (close(fd) != 0 && ok) {
        error = errno;
        ok = false;
    }
    if (ok && rename(temporary, path) != 0) {
        error = errno;
        ok = false;
    }
    if (ok)
        return HSM_OK;
    unlink(temporary);
    return hsm_fail(HSM_ERR_ARGUMENT, "cannot write %s: %s", path, strerror(error));
}

hsm_status tool_write_file(const char *path, struct hsm_bytes data, mode_t mode)
{
    struct stat sb;

    if (path == NULL || strcmp(path, "-") == 0) {
        fflush(stdout);
        return write_all(STDOUT_FILENO, data)
                   ? HSM_OK
                   : hsm_fail(HSM_ERR_ARGUMENT, "cannot write to standard output: %s", strerror(errno));
    }
    if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode))
        return write_special(path, data);
    return replace_file(path, data, mode);
}

hsm_status tool_write_pem(const char *path, const char *label, struct hsm_bytes der, mode_t mode)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    long len = 0;
    hsm_status st;

    if (bio == NULL || PEM_write_bio(bio, label, "", der.ptr, (long)der.len) <= 0 ||
        (len = BIO_get_mem_data(bio, &text)) <= 0)
        st = hsm_fail(HSM_ERR_CRYPTO, "cannot encode PEM '%s'", label);
    else
        st = tool_write_file(path, (struct hsm_bytes){ (const uint8_t *)text, (size_t)len }, mode);
    BIO_free(bio);
    return st;
}

hsm_status tool_make_parent(const char *path, mode_t mode)
{
    char copy[PATH_MAX];
    const char *parent;

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return hsm_fail(HSM_ERR_ARGUMENT, "path %s is too long", path);
    parent = dirname(copy);
    if (mkdir(parent, mode) == 0 || errno == EEXIST)
        return HSM_OK;
    if (errno == ENOENT)
        return hsm_fail(HSM_ERR_ARGUMENT,
                        "directory %s cannot be made, the one above it is missing; mkdir -p it first",
                        parent);
    return hsm_fail(errno == EACCES ? HSM_ERR_DENIED : HSM_ERR_ARGUMENT, "cannot make directory %s: %s",
                    parent, strerror(errno));
}
