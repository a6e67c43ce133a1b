/* SPDX-License-Identifier: Apache-2.0 */
/* PINs: asked for, drawn, and put safely into the file that programs will read them from. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "hsm/secret.h"
#include "tool.h"

static hsm_status draw(uint8_t *out, size_t len)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = getrandom(out + have, len - have, 0);

        if (n < 0 && errno != EINTR)
            return hsm_fail(HSM_ERR_INTERNAL, "the kernel gives no random numbers: %s", strerror(errno));
        if (n > 0)
            have += (size_t)n;
    }
    return HSM_OK;
}

static hsm_status ask_twice(const char *what, struct hsm_buf *pin)
{
    uint8_t again[HSM_PIN_MAX];
    struct hsm_buf second = { .ptr = again, .cap = sizeof(again) };
    char question[64];
    hsm_status st;

    snprintf(question, sizeof(question), "New %s: ", what);
    if ((st = prompt_secret(question, pin)) != HSM_OK)
        return st;
    snprintf(question, sizeof(question), "New %s, once more: ", what);
    st = prompt_secret(question, &second);
    if (st == HSM_OK && (second.len != pin->len || CRYPTO_memcmp(again, pin->ptr, pin->len) != 0))
        st = hsm_fail(HSM_ERR_PIN_FORMAT, "the two entries of the new %s differ; nothing was changed", what);
    hsm_cleanse(again, sizeof(again));
    return st;
}

hsm_status tool_pin(struct tool *t, const char *source, enum hsm_role role, bool is_new, struct hsm_buf *pin)
{
    const char *what = role == HSM_ROLE_SO ? "SO PIN" : "PIN";

    if (is_new && (source == NULL || strcmp(source, "prompt") == 0))
        return ask_twice(what, pin);
    return hsm_pin_read(t->ctx, source != NULL ? source : "prompt", role, pin);
}

hsm_status tool_paper_pin(struct hsm_buf *pin)
{
    static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* nothing that reads like 1 or 0 */
    enum { GROUPS = 5, GROUP_LEN = 5, DIGITS = GROUPS * GROUP_LEN, TEXT_LEN = DIGITS + GROUPS - 1 };
    uint8_t random[DIGITS];
    hsm_status st;

    if (pin->cap < TEXT_LEN)
        return hsm_fail(HSM_ERR_BUFFER, "no room for a PIN of %d characters", TEXT_LEN);
    if ((st = draw(random, sizeof(random))) != HSM_OK)
        return st;
    pin->len = 0;
    for (size_t i = 0; i < DIGITS; i++) {
        if (i > 0 && i % GROUP_LEN == 0)
            pin->ptr[pin->len++] = '-';
        pin->ptr[pin->len++] = (uint8_t)alphabet[random[i] % 32];
    }
    hsm_cleanse(random, sizeof(random));
    return HSM_OK;
}

hsm_status tool_group(struct tool *t, gid_t *gid)
{
    struct group *entry;

    *gid = (gid_t)-1;
    if (t->opt.group == NULL)
        return HSM_OK;
    if ((entry = getgrnam(t->opt.group)) == NULL)
        return tool_usage(t, "there is no group '%s' on this machine", t->opt.group);
    *gid = entry->gr_gid;
    return HSM_OK;
}

static hsm_status choose_path(struct tool *t, struct pin_file *pf)
{
    const char *source = t->opt.pin_file, *configured = hsm_pin_source(t->ctx, t->token_index);

    if (source == NULL && configured != NULL && strncmp(configured, "file:", 5) == 0)
        source = configured + 5;
    if (source == NULL || source[0] == '\0')
        return tool_usage(
            t, "--generate-pin needs a file to write to: give --pin-file PATH or pin-source = file:PATH");
    if (snprintf(pf->path, sizeof(pf->path), "%s", source) >= (int)sizeof(pf->path))
        return tool_usage(t, "the path of the PIN file is longer than %zu bytes", sizeof(pf->path) - 1);
    return HSM_OK;
}

static hsm_status sync_directory_of(const char *path)
{
    char copy[512];
    int fd;
    bool ok;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok ? HSM_OK
              : hsm_fail(HSM_ERR_TOKEN_IO, "cannot sync the directory of %s: %s", path, strerror(errno));
}

/* Owner and mode come before the first secret byte. */
static hsm_status write_pin(struct pin_file *pf, struct hsm_bytes pin)
{
    int fd = open(pf->staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok;
    int error;

    if (fd < 0)
        return hsm_fail(errno == EACCES ? HSM_ERR_DENIED : HSM_ERR_PIN_SOURCE, "cannot make PIN file %s: %s",
                        pf->staged, strerror(errno));
    pf->written = true;
    ok = fchown(fd, pf->uid, pf->gid) == 0 && fchmod(fd, pf->mode) == 0;
    ok = ok && write(fd, pin.ptr, pin.len) == (ssize_t)pin.len && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    error = errno;
    if (close(fd) != 0 && ok) {
        error = errno;
        ok = false;
    }
    if (ok)
        return sync_directory_of(pf->path);
    return hsm_fail(error == ENOSPC ? HSM_ERR_TOKEN_FULL : HSM_ERR_PIN_SOURCE, "cannot write PIN file %s: %s",
                    pf->staged, strerror(error));
}

/* Where the PIN is written first, and whose it is: a file that is replaced keeps owner, group and mode. */
static hsm_status plan_pin_file(struct tool *t, bool replace, struct pin_file *pf)
{
    struct stat sb;
    hsm_status st;

    if ((st = choose_path(t, pf)) != HSM_OK || (st = tool_group(t, &pf->gid)) != HSM_OK)
        return st;
    pf->uid = (uid_t)-1;
    pf->mode = pf->gid == (gid_t)-1 ? 0600 : 0640;
    snprintf(pf->staged, sizeof(pf->staged), "%s", pf->path);
    if (lstat(pf->path, &sb) != 0)
        return tool_make_parent(pf->path, 0755);
    if (!replace)
        return hsm_fail(HSM_ERR_EXISTS, "PIN file %s exists and is not overwritten; remove it or use --force",
                        pf->path);
    snprintf(pf->staged, sizeof(pf->staged), "%s.new", pf->path);
    pf->uid = sb.st_uid;
    if (pf->gid == (gid_t)-1) {
        pf->gid = sb.st_gid;
        pf->mode = sb.st_mode & 0640;
    }
    return HSM_OK;
}

hsm_status pin_file_begin(struct tool *t, bool replace, struct pin_file *pf, struct hsm_buf *pin)
{
    uint8_t random[TOOL_MACHINE_PIN_LEN / 2];
    char text[TOOL_MACHINE_PIN_LEN + 1];
    hsm_status st;

    if ((st = plan_pin_file(t, replace, pf)) != HSM_OK || (st = draw(random, sizeof(random))) != HSM_OK)
        return st;
    hex_encode((struct hsm_bytes){ random, sizeof(random) }, text);
    memcpy(pin->ptr, text, TOOL_MACHINE_PIN_LEN);
    pin->len = TOOL_MACHINE_PIN_LEN;
    hsm_cleanse(random, sizeof(random));
    hsm_cleanse(text, sizeof(text));
    st = write_pin(pf, (struct hsm_bytes){ pin->ptr, pin->len });
    if (st != HSM_OK)
        pin_file_abort(pf);
    return st;
}

hsm_status pin_file_commit(struct pin_file *pf)
{
    if (!pf->written || strcmp(pf->path, pf->staged) == 0)
        return HSM_OK;
    if (rename(pf->staged, pf->path) != 0)
        return hsm_fail(HSM_ERR_PIN_SOURCE,
                        "the new PIN is in force and stands in %s, which cannot be renamed to %s: %s",
                        pf->staged, pf->path, strerror(errno));
    return sync_directory_of(pf->path);
}

void pin_file_abort(struct pin_file *pf)
{
    if (pf->written)
        unlink(pf->staged);
    pf->written = false;
}
