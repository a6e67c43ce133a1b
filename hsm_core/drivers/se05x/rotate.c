/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New platform keys. Irreversible, and fatal if the new keys are lost: so they are on disk before the chip
 * hears of them, the present keys are tried first, the new ones afterwards, and every error line says which
 * keys are in force. Source: GlobalPlatform Card Specification 2.3, section 11.8 (PUT KEY); Amendment D,
 * section 7.2
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "private.h"

/* The security domain that holds the keys. */
static const uint8_t domain_aid[] = { 0xd2, 0x76, 0x00, 0x00, 0x85, 0x30, 0x4a, 0x43, 0x4f, 0x90, 0x03 };
enum {
    KEYS = 3,
    KCV_LEN = 3,
    PUT_KEY = 0xd8,
    PUT_ALL_FROM_1 = 0x81,
    KEY_TYPE_AES = 0x88,
    PUT_KEY_MAX = 1 + KEYS * (4 + SE05X_AES_KEY_MAX + KCV_LEN),
    TEXT_MAX = 512
};

/* What came of PUT KEY. */
enum put_result { PUT_NOT_SENT, PUT_REFUSED, PUT_LOST, PUT_DONE, PUT_DOUBTFUL };

/* In secret memory. */
struct rotation {
    struct scp03_keys old_keys, new_keys;
    const char *path; /* of the new keys */
    char cause[256];  /* why PUT KEY failed */
    enum put_result result;
    uint8_t command[PUT_KEY_MAX];
    uint8_t kcvs[KEYS * KCV_LEN];
    char text[TEXT_MAX];
};

/* ---- the new key file ---------------------------------------------------------------------------------- */

static hsm_status file_error(const char *path, const char *what)
{
    return hsm_fail(HSM_ERR_CONFIG, "new SCP03 key file '%s': %s: %s; the chip's keys are unchanged", path,
                    what, strerror(errno));
}

static void put_line(struct rotation *r, size_t *len, const char *name, const uint8_t *key, size_t key_len)
{
    size_t i;

    *len += (size_t)snprintf(r->text + *len, TEXT_MAX - *len, "%s ", name);
    for (i = 0; i < key_len; i++)
        *len +=
            (size_t)snprintf(r->text + *len, TEXT_MAX - *len, "%02x%s", key[i], i + 1 == key_len ? "\n" : "");
}

/* At most 3 * 69 + 11 characters. */
static size_t format_keys(struct rotation *r)
{
    const struct scp03_keys *keys = &r->new_keys;
    size_t len = 0;

    put_line(r, &len, "ENC", keys->enc, keys->len);
    put_line(r, &len, "MAC", keys->mac, keys->len);
    put_line(r, &len, "DEK", keys->dek, keys->len);
    put_line(r, &len, "VERSION", &keys->version, 1);
    return len;
}

static hsm_status random_keys(struct se05x_token *t, struct scp03_keys *keys)
{
    keys->len = t->channel->keys.len;
    keys->version = t->channel->keys.version;
    if (RAND_priv_bytes_ex(t->libctx, keys->enc, keys->len, 0) != 1 ||
        RAND_priv_bytes_ex(t->libctx, keys->mac, keys->len, 0) != 1 ||
        RAND_priv_bytes_ex(t->libctx, keys->dek, keys->len, 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    return HSM_OK;
}

static hsm_status write_all(int fd, const struct rotation *r, size_t len)
{
    size_t done = 0;
    ssize_t n;

    while (done < len) {
        if ((n = write(fd, r->text + done, len - done)) > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return file_error(r->path, "write");
    }
    return HSM_OK;
}

/* The name must be on disk too, not only what it names. */
static hsm_status sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char dir[512];
    hsm_status st = HSM_OK;
    int fd;

    if (slash == NULL)
        (void)snprintf(dir, sizeof(dir), ".");
    else
        (void)snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return file_error(path, "its directory");
    if (fsync(fd) != 0)
        st = file_error(path, "fsync of its directory");
    (void)close(fd);
    return st;
}

static hsm_status sync_file(int fd, const char *path)
{
    if (fsync(fd) != 0)
        return file_error(path, "fsync");
    return sync_directory(path);
}

static hsm_status fill_file(struct se05x_token *t, struct rotation *r, int fd)
{
    hsm_status st;

    if ((st = random_keys(t, &r->new_keys)) != HSM_OK || (st = write_all(fd, r, format_keys(r))) != HSM_OK)
        return st;
    return sync_file(fd, r->path);
}

static hsm_status take_file(struct rotation *r)
{
    hsm_status st;
    int fd;

    if ((st = scp03_keys_read(r->path, &r->new_keys)) != HSM_OK)
        return st;
    if ((fd = open(r->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return file_error(r->path, "open");
    st = sync_file(fd, r->path);
    (void)close(fd);
    return st;
}

/* A file that is there already has the keys to use; else make it. */
static hsm_status prepare_file(struct se05x_token *t, struct rotation *r)
{
    int fd = open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    hsm_status st;

    if (fd < 0)
        return errno == EEXIST ? take_file(r) : file_error(r->path, "create");
    st = fill_file(t, r, fd);
    (void)close(fd);
    if (st != HSM_OK)
        (void)unlink(r->path); /* ours, and no chip has these keys */
    return st;
}

static bool same_keys(const struct scp03_keys *a, const struct scp03_keys *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->enc, b->enc, a->len) == 0 &&
           CRYPTO_memcmp(a->mac, b->mac, a->len) == 0 && CRYPTO_memcmp(a->dek, b->dek, a->len) == 0;
}

static hsm_status check_new_keys(struct se05x_token *t, const struct rotation *r)
{
    const struct scp03_keys *now = &r->old_keys, *next = &r->new_keys;

    if (same_keys(now, next))
        return hsm_fail(HSM_ERR_ARGUMENT, "%s: '%s' holds the keys that the chip has now", t->where, r->path);
    if (next->len != now->len || next->len == 24)
        return hsm_fail(HSM_ERR_ARGUMENT, "%s: keys of %zu bytes cannot be replaced by keys of %zu bytes",
                        t->where, now->len, next->len);
    if (next->version != now->version)
        return hsm_fail(HSM_ERR_ARGUMENT, "%s: '%s' says VERSION %02x, but the chip's key set is %02x",
                        t->where, r->path, next->version, now->version);
    return HSM_OK;
}

/* ---- PUT KEY ------------------------------------------------------------------------------------------- */

/* One key: type, length of what follows, key length, key under the present DEK, its check value. */
static hsm_status put_key(struct se05x_token *t, struct rotation *r, const uint8_t *key, size_t index,
                          struct hsm_buf *out)
{
    size_t len = r->new_keys.len;
    uint8_t *at = out->ptr + out->len, *kcv = r->kcvs + index * KCV_LEN;
    hsm_status st;

    at[0] = KEY_TYPE_AES;
    at[1] = (uint8_t)(len + 1);
    at[2] = (uint8_t)len;
    st = scp03_wrap_key(t->libctx, (struct hsm_bytes){ r->old_keys.dek, r->old_keys.len },
                        (struct hsm_bytes){ key, len }, at + 3, kcv);
    if (st != HSM_OK)
        return st;
    at[3 + len] = KCV_LEN;
    memcpy(at + 4 + len, kcv, KCV_LEN);
    out->len += 4 + len + KCV_LEN;
    return HSM_OK;
}

static hsm_status build_command(struct se05x_token *t, struct rotation *r, struct hsm_bytes *data)
{
    struct hsm_buf out = { .ptr = r->command, .cap = sizeof(r->command), .len = 1 };
    hsm_status st;

    r->command[0] = r->new_keys.version;
    if ((st = put_key(t, r, r->new_keys.enc, 0, &out)) != HSM_OK ||
        (st = put_key(t, r, r->new_keys.mac, 1, &out)) != HSM_OK ||
        (st = put_key(t, r, r->new_keys.dek, 2, &out)) != HSM_OK)
        return st;
    *data = (struct hsm_bytes){ out.ptr, out.len };
    return HSM_OK;
}

static hsm_status open_domain(struct se05x_token *t)
{
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = channel_select(t, (struct hsm_bytes){ domain_aid, sizeof(domain_aid) }, &data, &sw)) != HSM_OK)
        return st;
    if (sw != SW_OK)
        return channel_refused(t, sw, "SELECT of the security domain");
    return channel_authenticate(t);
}

static void take_receipt(struct rotation *r, struct hsm_bytes data)
{
    bool same = data.len == 1 + sizeof(r->kcvs) && data.ptr[0] == r->new_keys.version &&
                memcmp(data.ptr + 1, r->kcvs, sizeof(r->kcvs)) == 0;

    r->result = same ? PUT_DONE : PUT_DOUBTFUL;
}

static hsm_status put_step(struct se05x_token *t, void *arg)
{
    struct rotation *r = arg;
    struct apdu apdu = { .cla = 0x80, .ins = PUT_KEY, .p1 = r->old_keys.version, .p2 = PUT_ALL_FROM_1 };
    struct hsm_bytes answer;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = open_domain(t)) != HSM_OK || (st = build_command(t, r, &apdu.data)) != HSM_OK)
        return st;
    st = channel_send_apdu(t, SE05X_TIME_WRITE, &apdu, 0, &answer, &sw);
    t->channel->stale = true; /* the applet is not selected */
    if (st != HSM_OK) {
        if (t->channel->delivery != SE05X_NOT_EXECUTED) {
            r->result = PUT_LOST;
            t->channel->again = false;
        }
        return st;
    }
    if (sw == SW_OK) {
        take_receipt(r, answer);
        return HSM_OK;
    }
    r->result = PUT_REFUSED;
    return channel_refused(t, sw, "PUT KEY");
}

/* ---- which keys are in force? -------------------------------------------------------------------------- */

/*
 * Both cryptograms come from the MAC key alone: a channel opens with a wrong ENC key as well. So a command
 * with data goes through it, both ways.
 */
static hsm_status reopen_step(struct se05x_token *t, void *arg)
{
    enum { UNIQUE_ID = 0x7fff0206 };
    bool exists;
    hsm_status st;

    t->channel->stale = true;
    if ((st = channel_up(t)) != HSM_OK)
        return st;
    st = channel_object_exists(t, UNIQUE_ID, &exists);
    if (st != HSM_OK && !t->channel->throttled && t->channel->delivery == SE05X_ANSWERED)
        st = hsm_fail(HSM_ERR_DENIED, "%s: the chip has another ENC key than %s", t->where,
                      t->channel->key_source);
    return st;
}

/* Open the applet's channel with @p keys; they stay the channel's. */
static hsm_status try_keys(struct se05x_token *t, const struct scp03_keys *keys)
{
    t->channel->keys = *keys;
    return channel_run(t, reopen_step, NULL);
}

static void adopt(struct se05x_token *t, const struct rotation *r)
{
    struct se05x_channel *ch = t->channel;

    ch->public_keys = false;
    (void)snprintf(ch->key_source, sizeof(ch->key_source), "'%.*s'", (int)sizeof(ch->key_source) - 3,
                   r->path);
}

static hsm_status new_keys_in_force(struct se05x_token *t, const struct rotation *r)
{
    adopt(t, r);
    if (r->result == PUT_DOUBTFUL)
        return hsm_fail(HSM_ERR_TOKEN_IO,
                        "%s: the NEW keys of '%s' are in force, but the chip reports other check values, so "
                        "its DEK may differ: "
                        "keep both key files",
                        t->where, r->path);
    return HSM_OK;
}

static hsm_status old_keys_in_force(struct se05x_token *t, const struct rotation *r)
{
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the OLD keys are still in force, those of '%s' are not: %s",
                    t->where, r->path, r->cause[0] != '\0' ? r->cause : "the chip did not keep them");
}

static hsm_status unknown_in_force(struct se05x_token *t, const struct rotation *r, const char *why)
{
    return hsm_fail(HSM_ERR_TOKEN_IO,
                    "%s: it is NOT KNOWN whether the old keys or the new ones of '%s' are in force: keep "
                    "both key files and try "
                    "each (%.200s)",
                    t->where, r->path, why);
}

/* Try the likelier keys first, the others if the chip says no. */
static hsm_status find_out(struct se05x_token *t, struct rotation *r)
{
    bool new_first = r->result != PUT_REFUSED;
    const struct scp03_keys *first = new_first ? &r->new_keys : &r->old_keys;
    const struct scp03_keys *second = new_first ? &r->old_keys : &r->new_keys;
    bool is_new = new_first;
    char why[256];
    hsm_status st;

    if (r->result == PUT_NOT_SENT)
        return old_keys_in_force(t, r);
    if ((st = try_keys(t, first)) == HSM_ERR_DENIED) {
        is_new = !new_first;
        st = try_keys(t, second);
    }
    if (st == HSM_OK)
        return is_new ? new_keys_in_force(t, r) : old_keys_in_force(t, r);
    t->channel->keys = *first;
    if (new_first)
        adopt(t, r);
    (void)snprintf(why, sizeof(why), "%s", hsm_error_text(st));
    return unknown_in_force(t, r, why);
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static hsm_status rotate_locked(struct se05x_token *t, struct rotation *r)
{
    hsm_status st = try_keys(t, &r->old_keys); /* whoever cannot open it now must not change it */

    if (st != HSM_OK)
        return hsm_fail(st, "the chip's keys are unchanged, nothing was tried: %s", hsm_error_text(st));
    if ((st = channel_run(t, put_step, r)) != HSM_OK)
        (void)snprintf(r->cause, sizeof(r->cause), "%s", hsm_error_text(st));
    return find_out(t, r);
}

static hsm_status rotate(struct se05x_token *t, struct rotation *r)
{
    hsm_status st;

    r->old_keys = t->channel->keys;
    if ((st = prepare_file(t, r)) != HSM_OK || (st = check_new_keys(t, r)) != HSM_OK ||
        (st = se05x_link_lock(t->link)) != HSM_OK)
        return st;
    st = rotate_locked(t, r);
    se05x_link_unlock(t->link);
    return st;
}

hsm_status se05x_rotate_keys(struct se05x_token *t, const char *new_key_file)
{
    struct rotation *r;
    hsm_status st;

    if (!t->channel->secured)
        return hsm_fail(HSM_ERR_ARGUMENT,
                        "%s: the chip's present keys are needed to change them: add scp03= to the token "
                        "specification",
                        t->where);
    if ((r = hsm_secret_alloc(sizeof(*r))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for SCP03 keys");
    r->path = new_key_file;
    st = rotate(t, r);
    hsm_secret_free(r, sizeof(*r));
    return st;
}
