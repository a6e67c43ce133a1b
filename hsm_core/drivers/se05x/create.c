/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a token on a chip. TOKEN comes first and says "half made", so that what follows can be cleaned away
 * with the same SO PIN should the power fail; it says "ready" last. The authentication objects of an earlier
 * token are deleted only if nothing is left that they open: or somebody could make one with the same id and a
 * key of his own.
 */
#include "token.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

static hsm_status check_init(const struct hsm_token_init *init)
{
    size_t label_len = init->label == NULL ? 0 : strlen(init->label);
    hsm_status st;

    if (label_len < 1 || label_len > HSM_LABEL_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "a token label has 1 to %d bytes", HSM_LABEL_MAX);
    if (init->pin_tries_max > SE05X_TRIES_LIMIT)
        return hsm_fail(HSM_ERR_ARGUMENT, "at most %d tries for a PIN", SE05X_TRIES_LIMIT);
    if (init->user_pin.len != 0 &&
        (st = se05x_pin_format(init->user_pin, HSM_ROLE_USER, init->machine_pin)) != HSM_OK)
        return st;
    return se05x_pin_format(init->so_pin, HSM_ROLE_SO, false);
}

/* ---- what was there before
 * ------------------------------------------------------------------------------------ */

static hsm_status look(struct se05x_token *t, const struct hsm_token_init *init)
{
    hsm_status st = se05x_token_read(t);

    if (st == HSM_ERR_TOKEN_FORMAT || st == HSM_ERR_TOKEN_VERSION) {
        if (!init->force)
            return st;
        memset(&t->directory->info, 0, sizeof(t->directory->info));
        st = HSM_OK;
    }
    if (st == HSM_OK && t->directory->initialised && !init->force)
        return hsm_fail(
            HSM_ERR_EXISTS,
            "%s is initialised already: nothing was changed; --force makes it anew and destroys its keys",
            t->where);
    return st;
}

/* The old SO may delete everything. If the given PIN is not his, what everybody may delete goes. */
static enum se05x_auth old_so(struct se05x_token *t, struct hsm_bytes so_pin)
{
    const struct se05x_token_info *info = &t->directory->info;
    const struct se05x_pin_params *both[] = { &info->pin[HSM_ROLE_SO].now, &info->pin[HSM_ROLE_SO].next };
    struct se05x_credential *cred = hsm_secret_alloc(sizeof(*cred));
    enum se05x_auth auth = SE05X_ANYBODY;
    size_t i;

    for (i = 0; cred != NULL && auth == SE05X_ANYBODY && i < 2; i++)
        if (both[i]->kdf != SE05X_KDF_NONE &&
            se05x_pin_credential(t, both[i], HSM_ROLE_SO, so_pin, cred) == HSM_OK &&
            se05x_login(t, SE05X_SO, cred) == HSM_OK)
            auth = SE05X_SO;
    hsm_secret_free(cred, sizeof(*cred));
    return auth;
}

/* Delete those that @p which picks. @p left: counts those that may not be deleted. */
static hsm_status wipe(struct se05x_token *t, enum se05x_auth auth, const uint32_t *ids, size_t count,
                       bool (*which)(uint32_t id), unsigned *left)
{
    hsm_status st = HSM_OK;
    size_t i;

    for (i = 0; i < count && st == HSM_OK; i++) {
        if (!which(ids[i]))
            continue;
        st = se05x_remove(t, auth, ids[i]);
        if (st == HSM_ERR_DENIED) {
            ++*left;
            st = HSM_OK;
        }
    }
    return st;
}

static bool is_journal(uint32_t id)
{
    return id == SE05X_ID_JOURNAL;
}

static bool is_user_object(uint32_t id)
{
    return se05x_is_auth(id) && (id - SE05X_ID_AUTH) % 2 == 0;
}

static bool is_so_object(uint32_t id)
{
    return se05x_is_auth(id) && (id - SE05X_ID_AUTH) % 2 == 1;
}

static hsm_status next_generation(const struct se05x_token *t, const uint32_t *ids, size_t count,
                                  uint32_t *generation)
{
    size_t i;

    *generation = t->directory->info.state != 0 ? t->directory->info.generation + 1 : 0;
    for (i = 0; i < count; i++)
        if (se05x_is_auth(ids[i]) && (ids[i] - SE05X_ID_AUTH) / 2 >= *generation)
            *generation = (ids[i] - SE05X_ID_AUTH) / 2 + 1;
    if (se05x_auth_id(*generation, HSM_ROLE_SO) > SE05X_ID_AUTH_LAST)
        return hsm_fail(HSM_ERR_TOKEN_FULL, "%s: no more ids for authentication objects", t->where);
    return HSM_OK;
}

static hsm_status clean(struct se05x_token *t, const struct hsm_token_init *init, uint32_t *generation)
{
    enum se05x_auth auth = old_so(t, init->so_pin);
    unsigned keys_left = 0, ignored = 0;
    uint32_t *ids = NULL;
    size_t count = 0;
    hsm_status st;

    if ((st = se05x_all_ids(t, &ids, &count)) != HSM_OK ||
        (st = next_generation(t, ids, count, generation)) != HSM_OK ||
        (st = wipe(t, auth, ids, count, se05x_is_value, &keys_left)) != HSM_OK ||
        (st = wipe(t, auth, ids, count, se05x_is_record, &ignored)) != HSM_OK ||
        (st = wipe(t, auth, ids, count, is_journal, &ignored)) != HSM_OK)
        goto out;
    if (keys_left == 0 && (st = wipe(t, auth, ids, count, is_user_object, &ignored)) == HSM_OK)
        st = wipe(t, auth, ids, count, is_so_object, &ignored);
    se05x_logout(t, SE05X_SO);
    if (st == HSM_OK)
        st = se05x_remove(t, SE05X_ANYBODY, SE05X_ID_TOKEN);
out:
    free(ids);
    return st;
}

/* ---- the new one
 * ------------------------------------------------------------------------------------------------ */

static hsm_status describe(struct se05x_token *t, const struct hsm_token_init *init, uint32_t generation)
{
    struct se05x_token_info *info = &t->directory->info;
    hsm_status st;

    memset(info, 0, sizeof(*info));
    info->state = SE05X_TOKEN_HALF_MADE;
    info->no_pin = init->user_pin.len == 0;
    info->tries_max = (uint8_t)(init->pin_tries_max != 0 ? init->pin_tries_max : SE05X_TRIES_DEFAULT);
    info->generation = generation;
    memcpy(info->label, init->label, strlen(init->label));
    if (RAND_bytes_ex(t->libctx, info->instance, sizeof(info->instance), 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    if (!info->no_pin && (st = se05x_pin_new_params(t, init->kdf_memory, init->machine_pin,
                                                    &info->pin[HSM_ROLE_USER].now)) != HSM_OK)
        return st;
    return se05x_pin_new_params(t, init->kdf_memory, false, &info->pin[HSM_ROLE_SO].now);
}

static hsm_status create_file(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                              const struct se05x_policy *policy, struct hsm_bytes value)
{
    struct se05x_write w = { .auth = auth, .id = id, .policy = policy };
    unsigned tries = 0;
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    do {
        st = se05x_write_binary(t, &w, 0, (uint16_t)value.len, value, &sw);
        if (!se05x_unsure(t, st, id, &exists))
            break;
        if (exists)
            return HSM_OK;
    } while (++tries < 2);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "writing the token");
}

/* Everybody may delete TOKEN: a chip whose PINs are lost can be used again. Its keys cannot. */
static hsm_status create_token_file(struct se05x_token *t)
{
    const struct se05x_token_info *info = &t->directory->info;
    uint32_t all = SE05X_MAY_READ | SE05X_MAY_DELETE;
    struct se05x_policy policy = { .len = 0 };
    uint8_t bytes[SE05X_TOKEN_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    hsm_status st;

    se05x_policy_add(&policy, 0, all);
    if (!info->no_pin)
        se05x_policy_add(&policy, se05x_auth_id(info->generation, HSM_ROLE_USER), all | SE05X_MAY_WRITE);
    se05x_policy_add(&policy, se05x_auth_id(info->generation, HSM_ROLE_SO), all | SE05X_MAY_WRITE);
    if ((st = se05x_token_encode(info, &out)) != HSM_OK)
        return hsm_fail(st, "%s: the token's description does not fit", t->where);
    return create_file(t, SE05X_ANYBODY, SE05X_ID_TOKEN, &policy, (struct hsm_bytes){ out.ptr, out.len });
}

static hsm_status create_role(struct se05x_token *t, enum se05x_auth auth, enum hsm_role role,
                              struct hsm_bytes pin)
{
    struct se05x_credential *cred = hsm_secret_alloc(sizeof(*cred));
    hsm_status st;

    if (cred == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a PIN");
    if ((st = se05x_pin_credential(t, &t->directory->info.pin[role].now, role, pin, cred)) == HSM_OK)
        st = se05x_pin_create_object(t, auth, role, cred);
    if (st == HSM_OK && role == HSM_ROLE_SO)
        st = se05x_login(t, SE05X_SO, cred);
    hsm_secret_free(cred, sizeof(*cred));
    return st;
}

static hsm_status create_journal(struct se05x_token *t)
{
    struct se05x_policy policy = { .len = 0 };
    uint8_t bytes[SE05X_JOURNAL_LEN];
    struct se05x_journal j;

    memset(&j, 0, sizeof(j));
    memcpy(j.instance, t->directory->info.instance, SE05X_INSTANCE_LEN);
    se05x_journal_policy(t, &policy);
    se05x_journal_encode(&j, bytes);
    return create_file(t, SE05X_SO, SE05X_ID_JOURNAL, &policy, (struct hsm_bytes){ bytes, sizeof(bytes) });
}

static hsm_status make_ready(struct se05x_token *t)
{
    static const uint8_t ready[1] = { SE05X_TOKEN_READY };
    struct se05x_write w = { .auth = SE05X_SO, .id = SE05X_ID_TOKEN, .repeatable = true };
    uint16_t sw;
    hsm_status st = se05x_write_binary(t, &w, SE05X_RECORD_STATE_AT, 0, (struct hsm_bytes){ ready, 1 }, &sw);

    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "finishing the token");
}

/* The user's key goes through the SO's session: of the two only the SO's crosses the bus in clear. */
static hsm_status create_locked(struct se05x_token *t, const struct hsm_token_init *init)
{
    uint32_t generation;
    hsm_status st;

    if ((st = look(t, init)) != HSM_OK || (st = clean(t, init, &generation)) != HSM_OK ||
        (st = describe(t, init, generation)) != HSM_OK || (st = create_token_file(t)) != HSM_OK ||
        (st = create_role(t, SE05X_ANYBODY, HSM_ROLE_SO, init->so_pin)) != HSM_OK ||
        (init->user_pin.len != 0 &&
         (st = create_role(t, SE05X_SO, HSM_ROLE_USER, init->user_pin)) != HSM_OK) ||
        (st = create_journal(t)) != HSM_OK)
        return st;
    return make_ready(t);
}

hsm_status se05x_create(const struct hsm_open_args *args, const struct hsm_token_init *init)
{
    struct se05x_token *t = NULL;
    hsm_status st;

    if ((st = check_init(init)) != HSM_OK || (st = se05x_token_open(args, &t)) != HSM_OK)
        return st;
    if ((st = se05x_begin(t)) == HSM_OK) {
        st = create_locked(t, init);
        se05x_end(t);
    }
    se05x_token_close(t);
    return st;
}
