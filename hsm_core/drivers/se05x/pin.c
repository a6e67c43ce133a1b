/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PINs. Each role has an authentication object on the chip, an AES key that is derived from the PIN and a
 * salt in TOKEN. The chip checks it and counts wrong tries. Its own cryptogram, which it sends before the
 * proof and to everybody who asks, can be used to try PINs offline: against that only stretching helps.
 *
 * A PIN is changed in three steps: TOKEN gets the new salt beside the old one; the authentication object gets
 * the new key; TOKEN drops the old salt. Wherever the power fails, one of the two PINs fits one of the two
 * salts, and login tries both.
 */
#include "token.h"

#include <string.h>

#include <openssl/rand.h>

#define PROPQ              "provider=default"
#define KDF_MEMORY_DEFAULT (UINT64_C(64) << 20)
#define KDF_MEMORY_MIN     (UINT64_C(1) << 20)
#define KDF_MEMORY_MAX     (UINT64_C(1) << 30)
enum { MACHINE_PIN_MIN = 32 /* 256 bits in any text form are longer */, SCRYPT_R = 8, AES_LEN = 16 };

static const char *role_name(enum hsm_role role)
{
    return role == HSM_ROLE_SO ? "SO PIN" : "PIN";
}

static enum se05x_auth auth_of(enum hsm_role role)
{
    return role == HSM_ROLE_SO ? SE05X_SO : SE05X_USER;
}

hsm_status se05x_pin_format(struct hsm_bytes pin, enum hsm_role role, bool machine_pin)
{
    if (pin.len < SE05X_PIN_MIN || pin.len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_FORMAT, "the %s must have %d to %d bytes", role_name(role), SE05X_PIN_MIN,
                        HSM_PIN_MAX);
    if (machine_pin && pin.len < MACHINE_PIN_MIN)
        return hsm_fail(HSM_ERR_PIN_FORMAT,
                        "a machine-made PIN holds 256 random bits; %zu bytes of text cannot", pin.len);
    return HSM_OK;
}

/* ---- from a PIN to a key
 * ----------------------------------------------------------------------------------- */

hsm_status se05x_pin_new_params(struct se05x_token *t, uint64_t memory, bool machine_pin,
                                struct se05x_pin_params *params)
{
    *params = (struct se05x_pin_params){ .kdf = machine_pin ? SE05X_KDF_HKDF : SE05X_KDF_SCRYPT };
    if (memory == 0)
        memory = KDF_MEMORY_DEFAULT;
    if (memory < KDF_MEMORY_MIN || memory > KDF_MEMORY_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "memory for stretching a PIN must be 1 MiB to 1 GiB");
    if (!machine_pin) {
        params->r = SCRYPT_R;
        params->p = 1;
        for (params->log2_n = 1; (UINT64_C(256) << params->log2_n) * SCRYPT_R <= memory;)
            params->log2_n++;
    }
    if (RAND_bytes_ex(t->libctx, params->salt, sizeof(params->salt), 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    return HSM_OK;
}

/* Salt and role together, so that the two roles never share a key. */
static hsm_status stretch(struct se05x_token *t, const struct se05x_pin_params *p, struct hsm_bytes info,
                          struct hsm_bytes pin, struct hsm_buf *key)
{
    struct hsm_scrypt_cost cost = { UINT64_C(1) << p->log2_n, p->r, p->p };
    uint8_t salt[SE05X_SALT_LEN + 32];

    memcpy(salt, p->salt, SE05X_SALT_LEN);
    memcpy(salt + SE05X_SALT_LEN, info.ptr, info.len);
    return hsm_scrypt(t->libctx, &cost, pin, (struct hsm_bytes){ salt, SE05X_SALT_LEN + info.len }, key);
}

hsm_status se05x_pin_credential(struct se05x_token *t, const struct se05x_pin_params *params,
                                enum hsm_role role, struct hsm_bytes pin, struct se05x_credential *cred)
{
    const char *text = role == HSM_ROLE_SO ? "hsm se05x SO PIN" : "hsm se05x user PIN";
    struct hsm_bytes info = { (const uint8_t *)text, strlen(text) };
    struct hsm_buf key = { cred->value, AES_LEN, 0 };

    memset(cred, 0, sizeof(*cred));
    /* Everybody may make another TOKEN, to see how a person's PIN does in a proof when it is not stretched.
     */
    if (params->kdf != SE05X_KDF_SCRYPT && pin.len < MACHINE_PIN_MIN)
        return HSM_ERR_PIN_INCORRECT;
    cred->kind = SE05X_CRED_AES;
    cred->auth_id = se05x_auth_id(t->directory->info.generation, role);
    cred->len = AES_LEN;
    if (params->kdf == SE05X_KDF_SCRYPT)
        return stretch(t, params, info, pin, &key);
    return hsm_hkdf(t->libctx, pin, (struct hsm_bytes){ params->salt, SE05X_SALT_LEN }, info, &key);
}

/* ---- authentication objects
 * --------------------------------------------------------------------------------- */

static hsm_status create_object(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                                const struct se05x_credential *cred, bool readable, uint16_t *sw)
{
    uint32_t generation = t->directory->info.generation;
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write w = { .auth = auth, .id = cred->auth_id, .policy = &policy, .is_auth = true };

    w.max_attempts = role == HSM_ROLE_SO ? SE05X_TRIES_DEFAULT : t->directory->info.tries_max;
    if (readable) /* the attributes: how many tries are left */
        se05x_policy_add(&policy, 0, SE05X_MAY_READ);
    if (role == HSM_ROLE_USER)
        se05x_policy_add(&policy, se05x_auth_id(generation, HSM_ROLE_USER), SE05X_MAY_WRITE);
    se05x_policy_add(&policy, se05x_auth_id(generation, HSM_ROLE_SO), SE05X_MAY_WRITE | SE05X_MAY_DELETE);
    return se05x_write_symmetric(t, &w, SE05X_TYPE_AES, (struct hsm_bytes){ cred->value, cred->len }, sw);
}

hsm_status se05x_pin_create_object(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                                   const struct se05x_credential *cred)
{
    bool readable = true, exists = false;
    uint16_t sw = 0;
    hsm_status st = HSM_OK;
    unsigned tries;

    for (tries = 0; tries < 3; tries++) {
        st = create_object(t, auth, role, cred, readable, &sw);
        if (se05x_unsure(t, st, cred->auth_id, &exists)) {
            if (exists)
                return HSM_OK;
        } else if (st == HSM_OK && readable &&
                   (sw == SE05X_SW_POLICY_TYPE || sw == SE05X_SW_CONDITIONS || sw == SE05X_SW_DATA)) {
            readable = false; /* perhaps this chip does not want that right here */
        } else {
            break;
        }
    }
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "an authentication object");
}

static hsm_status write_pin(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                            const struct se05x_pin *pin)
{
    struct se05x_write w = { .auth = auth, .id = SE05X_ID_TOKEN, .repeatable = true };
    uint8_t bytes[2 * SE05X_PIN_PARAMS_LEN];
    uint16_t sw;
    hsm_status st;

    se05x_pin_encode(pin, bytes);
    if ((st = se05x_write_binary(t, &w, se05x_pin_offset(role), 0, (struct hsm_bytes){ bytes, sizeof(bytes) },
                                 &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return se05x_refused(t, sw, "writing what belongs to a PIN");
    t->directory->info.pin[role] = *pin;
    return HSM_OK;
}

/* ---- logging in
 * --------------------------------------------------------------------------------------------- */

static unsigned tries_max(const struct se05x_token *t, enum hsm_role role)
{
    return role == HSM_ROLE_SO ? SE05X_TRIES_DEFAULT : t->directory->info.tries_max;
}

/* What the chip says of it, or, where it says nothing (3.x, or a field that stays 0), what this process has
 * seen. */
unsigned se05x_pin_tries_left(struct se05x_token *t, enum hsm_role role)
{
    unsigned max = tries_max(t, role), used = t->directory->wrong_pins[role];
    struct se05x_attributes a = { .attempts = 0 };
    uint16_t sw = 0;

    if (t->caps.v7 &&
        se05x_read_attributes(t, se05x_auth_id(t->directory->info.generation, role), &a, &sw) == HSM_OK &&
        sw == SE05X_SW_OK && a.attempts > 0)
        used = a.attempts;
    return used < max ? max - used : 0;
}

static hsm_status fail_locked(const struct se05x_token *t, enum hsm_role role)
{
    if (role == HSM_ROLE_SO)
        return hsm_fail(HSM_ERR_PIN_LOCKED,
                        "the SO PIN of %s is locked after %u wrong tries; it cannot be unlocked", t->where,
                        tries_max(t, role));
    return hsm_fail(
        HSM_ERR_PIN_LOCKED,
        "the PIN of %s is locked after %u wrong tries: set a new one with the SO PIN, `hsmctl pin unblock`",
        t->where, tries_max(t, role));
}

static hsm_status fail_wrong(struct se05x_token *t, enum hsm_role role)
{
    unsigned left = se05x_pin_tries_left(t, role);

    if (left == 0)
        return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong %s for %s: 0 tries left, it is locked now",
                        role_name(role), t->where);
    return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong %s for %s: %u %s left", role_name(role), t->where, left,
                    left == 1 ? "try" : "tries");
}

/* One try. */
static hsm_status try_params(struct se05x_token *t, enum hsm_role role, const struct se05x_pin_params *params,
                             struct hsm_bytes pin)
{
    unsigned *wrong = &t->directory->wrong_pins[role];
    struct se05x_credential *cred = hsm_secret_alloc(sizeof(*cred));
    hsm_status st;

    if (cred == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    if ((st = se05x_pin_credential(t, params, role, pin, cred)) != HSM_OK) {
        hsm_secret_free(cred, sizeof(*cred));
        return st;
    }
    st = se05x_login(t, auth_of(role), cred);
    hsm_secret_free(cred, sizeof(*cred));
    if (st == HSM_OK)
        *wrong = 0;
    if (st == HSM_ERR_PIN_INCORRECT && *wrong >= tries_max(t, role))
        st = HSM_ERR_PIN_LOCKED; /* some chips do not tell the two apart */
    if (st == HSM_ERR_PIN_INCORRECT)
        ++*wrong;
    if (st == HSM_ERR_PIN_LOCKED)
        *wrong = tries_max(t, role);
    return st;
}

/* A change of the PIN was interrupted behind its second step: do the third. Another process may have done so.
 */
static hsm_status roll_forward(struct se05x_token *t, enum hsm_role role, const struct se05x_pin *seen)
{
    struct se05x_pin pin = { .now = seen->next };
    hsm_status st;

    if ((st = se05x_begin(t)) != HSM_OK)
        return st;
    if ((st = se05x_token_ready(t)) == HSM_OK &&
        memcmp(t->directory->info.pin[role].next.salt, seen->next.salt, SE05X_SALT_LEN) == 0)
        st = write_pin(t, auth_of(role), role, &pin);
    se05x_end(t);
    return st;
}

hsm_status se05x_pin_prove(struct se05x_token *t, enum hsm_role role, struct hsm_bytes pin)
{
    struct se05x_pin seen;
    hsm_status st;

    if ((st = se05x_pin_format(pin, role, false)) != HSM_OK || (st = se05x_token_ready(t)) != HSM_OK)
        return st;
    if (role == HSM_ROLE_USER && t->directory->info.no_pin)
        return HSM_OK;
    seen = t->directory->info.pin[role];
    st = try_params(t, role, &seen.now, pin);
    if (st == HSM_ERR_PIN_INCORRECT && seen.next.kdf != SE05X_KDF_NONE &&
        (st = try_params(t, role, &seen.next, pin)) == HSM_OK)
        st = roll_forward(t, role, &seen);
    if (st == HSM_ERR_PIN_LOCKED)
        return fail_locked(t, role);
    if (st == HSM_ERR_NO_OBJECT)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s: what the %s opens is missing; %s", t->where,
                        role_name(role),
                        role == HSM_ROLE_USER ? "`hsmctl pin unblock` makes it anew"
                                              : "`hsmctl token init --force` makes a new token");
    return st == HSM_ERR_PIN_INCORRECT ? fail_wrong(t, role) : st;
}

/* "hex:C001020304", or the bytes of the text; for an AES key also 32 hexadecimal digits. */
static bool take_hex(struct hsm_bytes text, struct se05x_credential *cred)
{
    size_t i;
    int digit;

    if (text.len == 0 || text.len % 2 != 0 || text.len / 2 > AES_LEN)
        return false;
    memset(cred->value, 0, sizeof(cred->value));
    for (i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];

        digit = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (digit < 0)
            return false;
        cred->value[i / 2] = (uint8_t)(cred->value[i / 2] << 4 | digit);
    }
    cred->len = text.len / 2;
    return true;
}

static bool take_foreign(struct hsm_bytes pin, struct se05x_credential *cred)
{
    bool aes = cred->kind == SE05X_CRED_AES;

    if (pin.len > 4 && memcmp(pin.ptr, "hex:", 4) == 0) {
        if (!take_hex((struct hsm_bytes){ pin.ptr + 4, pin.len - 4 }, cred))
            return false;
    } else if (!(aes && pin.len == 2 * AES_LEN && take_hex(pin, cred))) {
        if (pin.len > AES_LEN)
            return false;
        memcpy(cred->value, pin.ptr, pin.len);
        cred->len = pin.len;
    }
    return aes ? cred->len == AES_LEN : cred->len >= 1;
}

static hsm_status login_foreign(struct se05x_token *t, struct hsm_bytes pin)
{
    struct se05x_credential *cred = hsm_secret_alloc(sizeof(*cred));
    hsm_status st;

    if (cred == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    *cred = t->directory->foreign;
    if (take_foreign(pin, cred))
        st = se05x_login(t, SE05X_USER, cred);
    else
        st = hsm_fail(HSM_ERR_PIN_FORMAT, "%s: the PIN for authentication object %08X is %s", t->where,
                      (unsigned)cred->auth_id,
                      cred->kind == SE05X_CRED_AES
                          ? "an AES key: 32 hexadecimal digits"
                          : "a UserID: at most 16 bytes, as text or as hex:C0FFEE...");
    hsm_secret_free(cred, sizeof(*cred));
    return st;
}

hsm_status se05x_pin_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin)
{
    struct se05x_token *t = se05x_of(tok);

    if (role == HSM_ROLE_USER && t->directory->foreign.kind != SE05X_CRED_NONE)
        return login_foreign(t, pin);
    return se05x_pin_prove(t, role, pin);
}

/* ---- changing
 * ------------------------------------------------------------------------------------------------- */

static uint64_t memory_of(const struct se05x_pin_params *p)
{
    return p->kdf == SE05X_KDF_SCRYPT ? (UINT64_C(128) << p->log2_n) * p->r : 0;
}

/* As much memory for stretching as before, or as the other PIN takes. */
static uint64_t memory_for(const struct se05x_token *t, enum hsm_role role)
{
    const struct se05x_pin *pin = t->directory->info.pin;
    uint64_t memory = memory_of(&pin[role].now);

    return memory != 0 ? memory : memory_of(&pin[role == HSM_ROLE_USER ? HSM_ROLE_SO : HSM_ROLE_USER].now);
}

/* HSM_OK also if nobody knows: the login that follows tells. */
static hsm_status update_object(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                                const struct se05x_credential *cred)
{
    struct se05x_write w = { .auth = auth, .id = cred->auth_id, .is_auth = true };
    bool exists = true;
    uint16_t sw;
    hsm_status st;

    st = se05x_write_symmetric(t, &w, SE05X_TYPE_AES, (struct hsm_bytes){ cred->value, cred->len }, &sw);
    if (st == HSM_ERR_TOKEN_IO && se05x_maybe_executed(t))
        return HSM_OK;
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    if ((st = se05x_exists(t, cred->auth_id, &exists)) != HSM_OK)
        return st;
    return exists ? se05x_refused(t, sw, "a new PIN") : se05x_pin_create_object(t, auth, role, cred);
}

/* Is the new key in force? An object that stays locked although it has a new key is made anew. */
static hsm_status confirm(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                          const struct se05x_credential *cred)
{
    hsm_status st = se05x_login(t, auth_of(role), cred);

    if ((st == HSM_ERR_PIN_LOCKED || st == HSM_ERR_NO_OBJECT) && auth == SE05X_SO && role == HSM_ROLE_USER &&
        (st = se05x_remove(t, auth, cred->auth_id)) == HSM_OK &&
        (st = se05x_pin_create_object(t, auth, role, cred)) == HSM_OK)
        st = se05x_login(t, auth_of(role), cred);
    if (st == HSM_ERR_PIN_INCORRECT)
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the connection was disturbed; the %s was not changed",
                        t->where, role_name(role));
    return st;
}

/* In the session of @p auth. */
static hsm_status replace(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                          struct hsm_bytes new_pin, bool machine_pin)
{
    struct se05x_pin pin = { .now = t->directory->info.pin[role].now },
                     done = { .now = { .kdf = SE05X_KDF_NONE } };
    struct se05x_credential *cred = hsm_secret_alloc(sizeof(*cred));
    hsm_status st;

    if (cred == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    if ((st = se05x_pin_new_params(t, memory_for(t, role), machine_pin, &pin.next)) == HSM_OK &&
        (st = se05x_pin_credential(t, &pin.next, role, new_pin, cred)) == HSM_OK &&
        (st = write_pin(t, auth, role, &pin)) == HSM_OK &&
        (st = update_object(t, auth, role, cred)) == HSM_OK &&
        (st = confirm(t, auth, role, cred)) == HSM_OK) {
        t->directory->wrong_pins[role] = 0;
        done.now = pin.next;
        st = write_pin(t, auth, role, &done);
    }
    hsm_secret_free(cred, sizeof(*cred));
    return st;
}

/* Neither call logs anybody in; who was logged in stays so. */
static hsm_status change_locked(struct se05x_token *t, enum hsm_role by, struct hsm_bytes by_pin,
                                enum hsm_role role, struct hsm_bytes new_pin, bool machine_pin)
{
    bool by_before = se05x_logged_in(t, auth_of(by)), role_before = se05x_logged_in(t, auth_of(role));
    hsm_status st = se05x_pin_prove(t, by, by_pin);

    if (st == HSM_OK)
        st = replace(t, auth_of(by), role, new_pin, machine_pin);
    if (!by_before)
        se05x_logout(t, auth_of(by));
    if (!role_before)
        se05x_logout(t, auth_of(role));
    return st;
}

static hsm_status change(struct se05x_token *t, enum hsm_role by, struct hsm_bytes by_pin, enum hsm_role role,
                         struct hsm_bytes new_pin, bool machine_pin)
{
    hsm_status st;

    if ((st = se05x_pin_format(new_pin, role, machine_pin)) != HSM_OK ||
        (st = se05x_pin_format(by_pin, by, false)) != HSM_OK || (st = se05x_begin(t)) != HSM_OK)
        return st;
    if ((st = se05x_token_ready(t)) == HSM_OK) {
        if (t->directory->foreign.kind != SE05X_CRED_NONE)
            st = hsm_fail(HSM_ERR_UNSUPPORTED,
                          "%s: a PIN cannot be changed with auth= in the token specification", t->where);
        else if (role == HSM_ROLE_USER && t->directory->info.no_pin)
            st = hsm_fail(HSM_ERR_UNSUPPORTED, "%s was initialised without a user PIN", t->where);
        else
            st = change_locked(t, by, by_pin, role, new_pin, machine_pin);
    }
    se05x_end(t);
    return st;
}

hsm_status se05x_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                            struct hsm_bytes new_pin, bool machine_pin)
{
    return change(se05x_of(tok), role, old_pin, role, new_pin, machine_pin);
}

hsm_status se05x_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                             bool machine_pin)
{
    return change(se05x_of(tok), HSM_ROLE_SO, so_pin, HSM_ROLE_USER, new_pin, machine_pin);
}
