/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PINs and their retry counters.
 *
 * A PIN that a person chose is stretched (scrypt) and counted before it is checked: the try is taken away and
 * committed, then the PIN is checked, then the counter is set back if it was right. Whoever kills the process
 * in between has lost a try. So that many programs which log in at the same moment with the right PIN do not
 * eat up each other's tries, all of this happens under a file lock on PATH-login, which the kernel releases
 * when its holder dies. It is a file of its own because closing any descriptor of the token file would drop
 * SQLite's locks on it; whoever may write the token may create files beside it (SQLite's journal), so the
 * lock is there exactly when counting is possible.
 *
 * A machine-made PIN (256 random bits) cannot be guessed, so it is checked first and only failures are
 * written.
 *
 * A process that may only read the token cannot count. It checks all the same: with a copy of the file
 * anybody could try PINs without counting. A locked PIN stays locked for it, too.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    MACHINE_PIN_MIN = 32, /* 256 bits in any text form are longer */
    LOGIN_WAIT_MS = 60000,
    SCRYPT_R = 8,
    SCRYPT_P = 1
};
#define KDF_MEMORY_DEFAULT (UINT64_C(64) << 20)
#define KDF_MEMORY_MIN     (UINT64_C(1) << 20)
#define KDF_MEMORY_MAX     (UINT64_C(1) << 30)

struct keys {
    uint8_t kek[SOFT_KEY_LEN], token[SOFT_KEY_LEN];
};

static const char *role_name(enum hsm_role role)
{
    return role == HSM_ROLE_SO ? "SO PIN" : "PIN";
}

hsm_status soft_pin_check_format(struct hsm_bytes text, enum hsm_role role, bool machine_pin)
{
    if (text.len < SOFT_PIN_MIN || text.len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_FORMAT, "the %s must have %d to %d bytes", role_name(role), SOFT_PIN_MIN,
                        HSM_PIN_MAX);
    if (machine_pin && text.len < MACHINE_PIN_MIN)
        return hsm_fail(HSM_ERR_PIN_FORMAT,
                        "a machine-made PIN holds 256 random bits; %zu bytes of text cannot", text.len);
    return HSM_OK;
}

/* ---- wrapping the token key -----------------------------------------------------------------------------
 */

bool soft_kdf_params_sane(const struct soft_kdf_params *params)
{
    uint64_t n = params->n;

    if (params->kdf == SOFT_KDF_HKDF)
        return n == 0 && params->r == 0 && params->p == 0;
    return n >= 2 && (n & (n - 1)) == 0 && n <= KDF_MEMORY_MAX / 128 && params->r >= 1 && params->r <= 32 &&
           params->p >= 1 && params->p <= 16 && 128 * n * params->r <= KDF_MEMORY_MAX &&
           n * params->r * params->p <= KDF_MEMORY_MAX / 32;
}

static uint64_t kdf_memory_of(const struct soft_kdf_params *params)
{
    return params->kdf == SOFT_KDF_SCRYPT ? 128 * params->n * params->r : 0;
}

static void put_be(uint8_t *out, size_t *at, uint64_t value, size_t len)
{
    while (len-- > 0)
        out[(*at)++] = (uint8_t)(value >> (8 * len));
}

enum { PIN_AAD_MAX = 16 + SOFT_UUID_LEN + 1 + HSM_LABEL_MAX + 1 + 1 + 8 + 4 + 4 + SOFT_SALT_LEN };

static size_t pin_aad(const struct soft_token *t, const struct soft_pin *pin, uint8_t aad[PIN_AAD_MAX])
{
    size_t label_len = strlen(t->label), at = 16;

    memcpy(aad, "hsm soft pin 1\0", 16);
    memcpy(aad + at, t->uuid, SOFT_UUID_LEN);
    at += SOFT_UUID_LEN;
    put_be(aad, &at, label_len, 1);
    memcpy(aad + at, t->label, label_len);
    at += label_len;
    put_be(aad, &at, (uint64_t)pin->role, 1);
    put_be(aad, &at, (uint64_t)pin->params.kdf, 1);
    put_be(aad, &at, pin->params.n, 8);
    put_be(aad, &at, pin->params.r, 4);
    put_be(aad, &at, pin->params.p, 4);
    memcpy(aad + at, pin->params.salt, SOFT_SALT_LEN);
    return at + SOFT_SALT_LEN;
}

hsm_status soft_pin_digest(struct soft_token *t, const struct soft_pin *pin, uint8_t digest[SOFT_DIGEST_LEN])
{
    uint8_t buf[PIN_AAD_MAX + SOFT_WRAPPED_LEN];
    size_t len = pin_aad(t, pin, buf);

    memcpy(buf + len, pin->wrapped, SOFT_WRAPPED_LEN);
    return soft_sha256(t->libctx, (struct hsm_bytes){ buf, len + SOFT_WRAPPED_LEN }, digest);
}

static hsm_status choose_params(uint64_t memory, bool machine_pin, struct soft_kdf_params *params)
{
    params->kdf = machine_pin ? SOFT_KDF_HKDF : SOFT_KDF_SCRYPT;
    params->n = params->r = params->p = 0;
    if (machine_pin)
        return HSM_OK;
    if (memory == 0)
        memory = KDF_MEMORY_DEFAULT;
    if (memory < KDF_MEMORY_MIN || memory > KDF_MEMORY_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "memory for stretching a PIN must be 1 MiB to 1 GiB");
    params->r = SCRYPT_R;
    params->p = SCRYPT_P;
    for (params->n = 2; params->n * 2 * 128 * SCRYPT_R <= memory;)
        params->n *= 2;
    return HSM_OK;
}

hsm_status soft_pin_wrap(struct soft_token *t, struct hsm_bytes text, bool machine_pin, uint64_t kdf_memory,
                         const uint8_t token_key[SOFT_KEY_LEN], struct soft_pin *pin)
{
    uint8_t aad[PIN_AAD_MAX], *kek;
    struct hsm_buf wrapped = { pin->wrapped, sizeof(pin->wrapped), 0 };
    hsm_status st;

    if ((st = choose_params(kdf_memory, machine_pin, &pin->params)) != HSM_OK ||
        (st = soft_random_bytes(t->libctx, pin->params.salt, sizeof(pin->params.salt))) != HSM_OK)
        return st;
    if ((kek = hsm_secret_alloc(SOFT_KEY_LEN)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    if ((st = soft_kdf(t->libctx, &pin->params, text, kek)) == HSM_OK)
        st = soft_seal(t, kek, (struct hsm_bytes){ aad, pin_aad(t, pin, aad) },
                       (struct hsm_bytes){ token_key, SOFT_KEY_LEN }, &wrapped);
    hsm_secret_free(kek, SOFT_KEY_LEN);
    return st;
}

/* HSM_ERR_DATA: the PIN is wrong */
static hsm_status unwrap(struct soft_token *t, const struct soft_pin *pin, struct hsm_bytes text,
                         struct keys *keys)
{
    uint8_t aad[PIN_AAD_MAX];
    struct hsm_buf token_key = { keys->token, SOFT_KEY_LEN, 0 };
    hsm_status st = soft_kdf(t->libctx, &pin->params, text, keys->kek);

    if (st == HSM_OK)
        st = soft_unseal(t, keys->kek, (struct hsm_bytes){ aad, pin_aad(t, pin, aad) },
                         (struct hsm_bytes){ pin->wrapped, SOFT_WRAPPED_LEN }, &token_key);
    hsm_cleanse(keys->kek, SOFT_KEY_LEN);
    return st;
}

/* ---- one login at a time ---------------------------------------------------------------------------------
 */

/* Like SQLite's journal: whoever may use the token file may use the lock file. */
static int open_lock_file(const struct soft_token *t, const char *path)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 || errno != ENOENT || stat(t->real_path, &sb) != 0)
        return fd;
    fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno == EEXIST ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fchown(fd, sb.st_uid, sb.st_gid) != 0) {
        /* not root, or not of that group: then those who are make do with the mode */
    }
    (void)fchmod(fd, sb.st_mode & 0666);
    return fd;
}

static hsm_status lock_file(struct soft_token *t)
{
    const struct timespec pause = { 0, 5 * 1000 * 1000 };
    int64_t until = soft_now_ms() + LOGIN_WAIT_MS;
    char path[sizeof(t->real_path) + 8];

    (void)snprintf(path, sizeof(path), "%s-login", t->real_path);
    if ((t->login_fd = open_lock_file(t, path)) < 0)
        return hsm_fail(HSM_ERR_DENIED, "cannot open %s: %s; it may be deleted while nobody logs in", path,
                        strerror(errno));
    while (flock(t->login_fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || soft_now_ms() > until)
            return hsm_fail(HSM_ERR_BUSY, "%s: another program has been logging in for %d s (%s is locked)",
                            t->where, LOGIN_WAIT_MS / 1000, path);
        (void)nanosleep(&pause, NULL);
    }
    return HSM_OK;
}

static void unlock_file(struct soft_token *t)
{
    if (t->login_fd < 0)
        return;
    (void)flock(t->login_fd, LOCK_UN); /* a child forked meanwhile may have the descriptor, too */
    (void)close(t->login_fd);
    t->login_fd = -1;
}

/* ---- checking a PIN -------------------------------------------------------------------------------------
 */

static hsm_status fail_locked(const struct soft_token *t, const struct soft_pin *pin)
{
    if (pin->role == HSM_ROLE_SO)
        return hsm_fail(HSM_ERR_PIN_LOCKED,
                        "the SO PIN of %s is locked after %u wrong tries; it cannot be unlocked", t->where,
                        pin->tries_max);
    return hsm_fail(HSM_ERR_PIN_LOCKED,
                    "the PIN of %s is locked after %u wrong tries: set a new one with the SO PIN, "
                    "`hsmctl pin unblock`",
                    t->where, pin->tries_max);
}

static hsm_status fail_wrong(const struct soft_token *t, const struct soft_pin *pin)
{
    if (!soft_store_writable(t))
        return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong %s for %s", role_name(pin->role), t->where);
    if (pin->tries_left == 0)
        return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong %s for %s: 0 tries left, it is locked now",
                        role_name(pin->role), t->where);
    return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong %s for %s: %u %s left", role_name(pin->role), t->where,
                    pin->tries_left, pin->tries_left == 1 ? "try" : "tries");
}

static hsm_status read_pin(struct soft_token *t, enum hsm_role role, struct soft_pin *pin)
{
    hsm_status st;

    soft_sql_lock(t);
    st = soft_store_pin(t, role, pin);
    soft_sql_unlock(t);
    return st;
}

/* Take one try away, on the disk. */
static hsm_status charge(struct soft_token *t, struct soft_pin *pin)
{
    hsm_status st;

    soft_sql_lock(t);
    if ((st = soft_store_begin(t, true)) == HSM_OK && (st = soft_store_pin(t, pin->role, pin)) == HSM_OK &&
        pin->tries_left == 0)
        st = fail_locked(t, pin);
    if (st == HSM_OK && (st = soft_store_set_tries(t, pin->role, --pin->tries_left)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    return st;
}

/* Should that fail, the counter stays low: the safe side, and no reason to refuse the right PIN. */
static void settle(struct soft_token *t, const struct soft_pin *pin)
{
    soft_sql_lock(t);
    if (soft_store_begin(t, true) == HSM_OK && soft_store_set_tries(t, pin->role, pin->tries_max) == HSM_OK)
        (void)!soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
}

static hsm_status check_then_charge(struct soft_token *t, struct soft_pin *pin, struct hsm_bytes text,
                                    struct keys *keys)
{
    hsm_status st = unwrap(t, pin, text, keys);

    if (st == HSM_OK && soft_store_writable(t) && pin->tries_left < pin->tries_max)
        settle(t, pin);
    if (st != HSM_ERR_DATA)
        return st;
    if (soft_store_writable(t) && (st = charge(t, pin)) != HSM_OK)
        return st;
    return fail_wrong(t, pin);
}

static hsm_status charge_then_check(struct soft_token *t, struct soft_pin *pin, struct hsm_bytes text,
                                    struct keys *keys)
{
    hsm_status st;

    if ((st = charge(t, pin)) != HSM_OK)
        return st;
    st = unwrap(t, pin, text, keys);
    if (st == HSM_OK)
        settle(t, pin);
    return st == HSM_ERR_DATA ? fail_wrong(t, pin) : st;
}

/* No tries left may mean that somebody is just using the last one: wait until he has finished, if we may. */
static hsm_status check_uncounted(struct soft_token *t, struct soft_pin *pin, struct hsm_bytes text,
                                  struct keys *keys)
{
    hsm_status st = HSM_OK;

    if (pin->tries_left == 0 && pin->params.kdf == SOFT_KDF_SCRYPT && lock_file(t) == HSM_OK)
        st = read_pin(t, pin->role, pin);
    if (st == HSM_OK && pin->tries_left == 0)
        st = fail_locked(t, pin);
    return st == HSM_OK ? check_then_charge(t, pin, text, keys) : st;
}

/* t->login held. keys->token is the token key afterwards. */
static hsm_status check_pin(struct soft_token *t, enum hsm_role role, struct hsm_bytes text,
                            struct keys *keys)
{
    struct soft_pin pin;
    hsm_status st;

    if ((st = soft_pin_check_format(text, role, false)) != HSM_OK || (st = read_pin(t, role, &pin)) != HSM_OK)
        return st;
    if (!soft_store_writable(t) || pin.params.kdf == SOFT_KDF_HKDF)
        return check_uncounted(t, &pin, text, keys);
    if (t->login_fd < 0)
        st = lock_file(t);
    return st == HSM_OK ? charge_then_check(t, &pin, text, keys) : st;
}

static hsm_status enter(struct soft_token *t, struct keys **keys)
{
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    if ((*keys = hsm_secret_alloc(sizeof(**keys))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    (void)pthread_mutex_lock(&t->login);
    return HSM_OK;
}

static void leave(struct soft_token *t, struct keys *keys)
{
    unlock_file(t);
    (void)pthread_mutex_unlock(&t->login);
    hsm_secret_free(keys, sizeof(*keys));
}

/* ---- the driver's calls ---------------------------------------------------------------------------------
 */

/* Only what seals objects is kept; the token key itself goes with `keys`. */
static hsm_status logged_in(struct soft_token *t, const struct keys *keys)
{
    uint8_t *seal = hsm_secret_alloc(SOFT_KEY_LEN);
    hsm_status st;

    if (seal == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a key");
    st = soft_hkdf(t->libctx, (struct hsm_bytes){ keys->token, SOFT_KEY_LEN },
                   (struct hsm_bytes){ t->uuid, SOFT_UUID_LEN }, "hsm soft token: seal", seal);
    soft_sql_lock(t);
    if (st == HSM_OK && t->seal_key == NULL) {
        t->seal_key = seal;
        seal = NULL;
    }
    soft_sql_unlock(t);
    hsm_secret_free(seal, SOFT_KEY_LEN);
    return st;
}

hsm_status soft_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin)
{
    struct soft_token *t = soft_of(tok);
    struct keys *keys;
    hsm_status st;

    if ((st = enter(t, &keys)) != HSM_OK)
        return st;
    if ((st = check_pin(t, role, pin, keys)) == HSM_OK && role == HSM_ROLE_USER)
        st = logged_in(t, keys);
    leave(t, keys);
    return st;
}

/* Wrap the token key again; as much memory for stretching as before, or as the other PIN takes. */
static hsm_status rewrap(struct soft_token *t, enum hsm_role role, struct hsm_bytes text, bool machine_pin,
                         const struct keys *keys)
{
    enum hsm_role other_role = role == HSM_ROLE_USER ? HSM_ROLE_SO : HSM_ROLE_USER;
    struct soft_pin pin, other;
    uint64_t memory;
    hsm_status st;

    soft_sql_lock(t);
    if ((st = soft_store_pin(t, role, &pin)) == HSM_OK)
        st = soft_store_pin(t, other_role, &other);
    soft_sql_unlock(t);
    if (st != HSM_OK)
        return st;
    memory = kdf_memory_of(&pin.params) != 0 ? kdf_memory_of(&pin.params) : kdf_memory_of(&other.params);
    if ((st = soft_pin_wrap(t, text, machine_pin, memory, keys->token, &pin)) != HSM_OK)
        return st;
    pin.tries_left = pin.tries_max;
    soft_sql_lock(t);
    if ((st = soft_store_begin(t, true)) == HSM_OK && (st = soft_store_put_pin(t, &pin)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    return st;
}

static hsm_status replace_pin(struct soft_token *t, enum hsm_role by, struct hsm_bytes by_pin,
                              enum hsm_role role, struct hsm_bytes new_pin, bool machine_pin)
{
    struct keys *keys;
    hsm_status st;

    if ((st = soft_pin_check_format(new_pin, role, machine_pin)) != HSM_OK ||
        (st = enter(t, &keys)) != HSM_OK)
        return st;
    if ((st = soft_store_want_writable(t)) == HSM_OK)
        st = lock_file(t); /* held to the end, so that of two changes the second checks against the first */
    if (st == HSM_OK && (st = check_pin(t, by, by_pin, keys)) == HSM_OK)
        st = rewrap(t, role, new_pin, machine_pin, keys);
    leave(t, keys);
    return st;
}

hsm_status soft_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                           struct hsm_bytes new_pin, bool machine_pin)
{
    return replace_pin(soft_of(tok), role, old_pin, role, new_pin, machine_pin);
}

hsm_status soft_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                            bool machine_pin)
{
    return replace_pin(soft_of(tok), HSM_ROLE_SO, so_pin, HSM_ROLE_USER, new_pin, machine_pin);
}
