/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of several commands that must happen as a whole, though the power may fail between any two.
 *
 * JOURNAL holds what is going on. A new value is announced before it is made; it counts once its record,
 * which one command writes, refers to it. A destruction is announced and then finished, by whoever comes;
 * that of a protected object or a counter only if its value is gone, else it has not begun.
 * Every writer looks at JOURNAL first, so that nothing is leaked and nothing half-made is seen for long; a
 * writer whose own command failed does the same before it returns.
 */
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/rand.h>

enum { VALUE_ID_TRIES = 8 };

/* ---- who may write ---------------------------------------------------------------------------------------
 */

hsm_status se05x_writer(struct se05x_token *t, enum se05x_auth *auth)
{
    hsm_status st;

    if ((st = se05x_token_need(t)) != HSM_OK)
        return st;
    if (!t->directory->initialised && (st = se05x_token_ready(t)) != HSM_OK) /* perhaps it is by now */
        return st;
    if (t->directory->foreign.kind != SE05X_CRED_NONE)
        return hsm_fail(HSM_ERR_DENIED,
                        "%s: with auth= only objects of others can be used, and none can be written",
                        t->where);
    *auth = t->directory->info.no_pin ? SE05X_ANYBODY : SE05X_USER;
    if (*auth == SE05X_USER && !se05x_logged_in(t, SE05X_USER))
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "%s: log in first (pin-source in the configuration)", t->where);
    return HSM_OK;
}

void se05x_journal_policy(const struct se05x_token *t, struct se05x_policy *p)
{
    const struct se05x_token_info *info = &t->directory->info;
    uint32_t all = SE05X_MAY_READ | SE05X_MAY_DELETE;

    se05x_policy_add(p, 0, all | (info->no_pin ? SE05X_MAY_WRITE : 0));
    if (!info->no_pin)
        se05x_policy_add(p, se05x_auth_id(info->generation, HSM_ROLE_USER), all | SE05X_MAY_WRITE);
    se05x_policy_add(p, se05x_auth_id(info->generation, HSM_ROLE_SO), all | SE05X_MAY_WRITE);
}

/* ---- the journal -----------------------------------------------------------------------------------------
 */

static hsm_status write_entry(struct se05x_token *t, struct se05x_change *c, size_t slot,
                              const struct se05x_journal_entry *e)
{
    struct se05x_write w = { .auth = c->auth, .id = SE05X_ID_JOURNAL, .repeatable = true };
    uint8_t bytes[SE05X_JOURNAL_ENTRY_LEN];
    uint16_t sw;
    hsm_status st;

    se05x_journal_entry_encode(e, bytes);
    if ((st = se05x_write_binary(t, &w, se05x_journal_offset(slot), 0,
                                 (struct hsm_bytes){ bytes, sizeof(bytes) }, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return se05x_refused(t, sw, "writing the journal");
    c->journal.entries[slot] = *e;
    return HSM_OK;
}

static hsm_status clear_entry(struct se05x_token *t, struct se05x_change *c, size_t slot)
{
    static const struct se05x_journal_entry none;

    return write_entry(t, c, slot, &none);
}

static hsm_status read_journal(struct se05x_token *t, struct se05x_change *c)
{
    uint8_t bytes[SE05X_JOURNAL_LEN];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    uint16_t sw;
    hsm_status st = se05x_read_object(t, SE05X_ANYBODY, SE05X_ID_JOURNAL, 0, 0, sizeof(bytes), &out, &sw);

    if (st != HSM_OK && st != HSM_ERR_BUFFER)
        return st;
    if (st == HSM_ERR_BUFFER || sw != SE05X_SW_OK ||
        se05x_journal_decode((struct hsm_bytes){ bytes, out.len }, &c->journal) != HSM_OK ||
        memcmp(c->journal.instance, t->directory->info.instance, SE05X_INSTANCE_LEN) != 0) {
        if ((st = se05x_token_ready(t)) != HSM_OK) /* another token than we knew? */
            return st;
        return hsm_fail(HSM_ERR_TOKEN_FORMAT,
                        "%s: its journal is missing or damaged; `hsmctl token init --force`", t->where);
    }
    return HSM_OK;
}

/* Delete with the writer's rights, or with the SO's if he is logged in. */
static hsm_status remove_as_may(struct se05x_token *t, enum se05x_auth auth, uint32_t id)
{
    hsm_status st = se05x_remove(t, auth, id);

    if (st == HSM_ERR_DENIED && auth != SE05X_SO && se05x_logged_in(t, SE05X_SO))
        st = se05x_remove(t, SE05X_SO, id);
    return st;
}

/* The record may meanwhile be another object's. */
static hsm_status drop_record(struct se05x_token *t, enum se05x_auth auth,
                              const struct se05x_journal_entry *e)
{
    struct se05x_record r;
    hsm_status st = se05x_record_read(t, e->record_id, &r);

    if (st == HSM_ERR_NO_OBJECT || st == HSM_ERR_DATA)
        return HSM_OK;
    if (st != HSM_OK || r.state != SE05X_RECORD_LIVE || r.value_id != e->value_id)
        return st;
    st = se05x_record_bury(t, auth, e->record_id);
    if (st == HSM_ERR_DENIED && auth != SE05X_SO && se05x_logged_in(t, SE05X_SO))
        st = se05x_record_bury(t, SE05X_SO, e->record_id);
    return st;
}

static hsm_status was_created(struct se05x_token *t, const struct se05x_journal_entry *e, bool *yes)
{
    struct se05x_record r;
    hsm_status st = se05x_record_read(t, e->record_id, &r);

    *yes = st == HSM_OK && r.state == SE05X_RECORD_LIVE && r.value_id == e->value_id;
    return st == HSM_ERR_NO_OBJECT || st == HSM_ERR_DATA ? HSM_OK : st;
}

/* Does any record refer to this value? */
static hsm_status is_named(struct se05x_token *t, uint32_t value_id, bool *named)
{
    uint32_t *ids = NULL;
    struct se05x_record r;
    size_t count = 0, i;
    hsm_status st = se05x_all_ids(t, &ids, &count);

    *named = false;
    for (i = 0; st == HSM_OK && !*named && i < count; i++) {
        if (!se05x_is_record(ids[i]))
            continue;
        st = se05x_record_read(t, ids[i], &r);
        *named = st == HSM_OK && r.state == SE05X_RECORD_LIVE && r.value_id == value_id;
        st = st == HSM_ERR_NO_OBJECT || st == HSM_ERR_DATA ? HSM_OK : st;
    }
    free(ids);
    return st;
}

/*
 * Whoever reaches the bus can put a journal of his own in the place of ours. So its word is worth no more
 * than his: what a record refers to goes only if everybody may delete it. Otherwise it is @p kept.
 */
static hsm_status remove_value(struct se05x_token *t, enum se05x_auth auth, uint32_t value_id, bool *kept)
{
    hsm_status st = se05x_remove(t, SE05X_ANYBODY, value_id);

    *kept = false;
    if (st != HSM_ERR_DENIED || (st = is_named(t, value_id, kept)) != HSM_OK || *kept)
        return st;
    return remove_as_may(t, auth, value_id);
}

static hsm_status settle_entry(struct se05x_token *t, struct se05x_change *c, size_t slot)
{
    struct se05x_journal_entry e = c->journal.entries[slot];
    bool created = false, kept = false;
    hsm_status st = HSM_OK;

    if (e.op == SE05X_OP_NONE || (e.op == SE05X_OP_ORPHAN && !se05x_logged_in(t, SE05X_SO)))
        return HSM_OK;
    if (e.op == SE05X_OP_CREATE && (st = was_created(t, &e, &created)) != HSM_OK)
        return st;
    if (!created && (st = remove_value(t, c->auth, e.value_id, &kept)) == HSM_OK && !kept &&
        e.op != SE05X_OP_CREATE)
        st = drop_record(t, c->auth, &e);
    if (st == HSM_ERR_DENIED) { /* somebody with more rights will come */
        e.op = SE05X_OP_ORPHAN;
        return write_entry(t, c, slot, &e);
    }
    return st == HSM_OK ? clear_entry(t, c, slot) : st;
}

hsm_status se05x_change_begin(struct se05x_token *t, enum se05x_auth auth, struct se05x_change *c)
{
    hsm_status st;
    size_t i;

    *c = (struct se05x_change){ .auth = auth, .slot = SE05X_JOURNAL_ENTRIES };
    if ((st = se05x_begin(t)) != HSM_OK)
        return st;
    st = read_journal(t, c);
    for (i = 0; i < SE05X_JOURNAL_ENTRIES && st == HSM_OK; i++)
        st = settle_entry(t, c, i);
    if (st != HSM_OK)
        se05x_end(t);
    return st;
}

void se05x_change_end(struct se05x_token *t)
{
    se05x_end(t);
}

hsm_status se05x_change_intend(struct se05x_token *t, struct se05x_change *c, enum se05x_journal_op op,
                               uint32_t record_id, uint32_t value_id)
{
    struct se05x_journal_entry e = { op, record_id, value_id };
    size_t slot;

    for (slot = 0; slot < SE05X_JOURNAL_ENTRIES && c->journal.entries[slot].op != SE05X_OP_NONE; slot++)
        ;
    if (slot == SE05X_JOURNAL_ENTRIES)
        return hsm_fail(
            HSM_ERR_TOKEN_FULL,
            "%s: objects that only the SO may delete were left unfinished; delete something as SO first",
            t->where);
    c->slot = slot;
    return write_entry(t, c, slot, &e);
}

hsm_status se05x_change_done(struct se05x_token *t, struct se05x_change *c)
{
    hsm_status st = clear_entry(t, c, c->slot);

    if (st == HSM_OK)
        c->slot = SE05X_JOURNAL_ENTRIES;
    return st;
}

/* What cannot be done now, because the chip does not answer, the next writer does. */
hsm_status se05x_change_undo(struct se05x_token *t, struct se05x_change *c, hsm_status st)
{
    char line[512];
    hsm_status ignored = HSM_OK;

    (void)snprintf(line, sizeof(line), "%s", hsm_error_text(st));
    if (c->slot < SE05X_JOURNAL_ENTRIES && c->journal.entries[c->slot].op != SE05X_OP_NONE)
        ignored = settle_entry(t, c, c->slot);
    (void)ignored;
    return hsm_fail(st, "%s", line);
}

/* ---- new objects -----------------------------------------------------------------------------------------
 */

static hsm_status choose_value_id(struct se05x_token *t, uint32_t *id)
{
    bool taken = true;
    uint8_t r[3];
    unsigned tries;
    hsm_status st;

    for (tries = 0; taken && tries < VALUE_ID_TRIES; tries++) {
        if (RAND_bytes_ex(t->libctx, r, sizeof(r), 0) != 1)
            return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
        *id = SE05X_ID_VALUES | (uint32_t)r[0] << 16 | (uint32_t)r[1] << 8 | r[2];
        if ((st = se05x_exists(t, *id, &taken)) != HSM_OK)
            return st;
    }
    return taken ? hsm_fail(HSM_ERR_TOKEN_FULL, "%s: no free object id found", t->where) : HSM_OK;
}

/* A digest is signed by the raw private operation, so an RSA key that signs may decrypt as far as the chip
 * cares. */
static uint32_t rights_of_usage(const struct hsm_key_kind *kind, unsigned usage)
{
    bool rsa = kind->type == HSM_KEY_RSA || kind->type == HSM_KEY_RSA_PSS;
    uint32_t rights = 0;

    if ((usage & HSM_USAGE_SIGN) != 0)
        rights |= rsa ? SE05X_MAY_SIGN | SE05X_MAY_DECRYPT : SE05X_MAY_SIGN;
    if ((usage & (HSM_USAGE_DECRYPT | HSM_USAGE_UNWRAP)) != 0)
        rights |= SE05X_MAY_DECRYPT;
    if ((usage & (HSM_USAGE_ENCRYPT | HSM_USAGE_WRAP)) != 0)
        rights |= SE05X_MAY_ENCRYPT;
    if ((usage & HSM_USAGE_VERIFY) != 0)
        rights |= SE05X_MAY_VERIFY;
    if ((usage & HSM_USAGE_DERIVE) != 0)
        rights |= SE05X_MAY_AGREE;
    return rights;
}

static void add_rules(const struct se05x_token *t, struct se05x_policy *p, uint32_t all, uint32_t user,
                      uint32_t so)
{
    const struct se05x_token_info *info = &t->directory->info;

    p->len = 0;
    se05x_policy_add(p, 0, info->no_pin ? all | user : all);
    if (!info->no_pin)
        se05x_policy_add(p, se05x_auth_id(info->generation, HSM_ROLE_USER), all | user);
    se05x_policy_add(p, se05x_auth_id(info->generation, HSM_ROLE_SO), all | so);
}

/* No WRITE and no GENERATE on keys: what is in them stays. Everybody may delete what is not protected, as
 * everybody on the bus may delete TOKEN; a counter is worth protecting, or it could be made anew with a lower
 * value. */
static void value_policy(const struct se05x_token *t, const struct se05x_record *r, bool in_pieces,
                         struct se05x_policy *p)
{
    bool so_only = (r->flags & SE05X_FLAG_SO_DESTROYS) != 0;
    uint32_t all = r->obj.cls == HSM_CLASS_DATA ? 0 : SE05X_MAY_READ;
    uint32_t user = SE05X_MAY_READ | (so_only ? 0 : SE05X_MAY_DELETE);

    if (!so_only && r->obj.cls != HSM_CLASS_COUNTER)
        all |= SE05X_MAY_DELETE;
    if (in_pieces || r->obj.cls == HSM_CLASS_COUNTER)
        user |= SE05X_MAY_WRITE;
    if (r->obj.cls == HSM_CLASS_KEY)
        user |= rights_of_usage(&r->obj.kind, r->obj.usage);
    add_rules(t, p, all, user, SE05X_MAY_DELETE);
}

static void record_policy(const struct se05x_token *t, const struct se05x_record *r, struct se05x_policy *p)
{
    bool so_only = (r->flags & SE05X_FLAG_SO_DESTROYS) != 0;
    uint32_t all = SE05X_MAY_READ, user = SE05X_MAY_WRITE | (so_only ? 0 : SE05X_MAY_DELETE);

    if (!so_only && r->obj.cls != HSM_CLASS_COUNTER) /* as value_policy() */
        all |= SE05X_MAY_DELETE;
    add_rules(t, p, all, user, SE05X_MAY_WRITE | SE05X_MAY_DELETE);
}

static void describe(const struct se05x_token *t, const struct hsm_object_spec *spec, enum hsm_class cls,
                     enum hsm_origin origin, const struct hsm_key_kind *kind, struct se05x_record *r)
{
    memset(r, 0, sizeof(*r));
    r->state = SE05X_RECORD_LIVE;
    r->flags =
        (spec->so_destroys ? SE05X_FLAG_SO_DESTROYS : 0) | (t->directory->info.no_pin ? SE05X_FLAG_OPEN : 0);
    r->obj.cls = cls;
    r->obj.origin = origin;
    r->obj.created_s = (int64_t)time(NULL);
    (void)snprintf(r->obj.label, sizeof(r->obj.label), "%s", spec->label);
    r->obj.id_len = spec->id.len <= HSM_ID_MAX ? spec->id.len : 0;
    if (r->obj.id_len > 0)
        memcpy(r->obj.id, spec->id.ptr, r->obj.id_len);
    if (kind != NULL) {
        r->obj.kind = *kind;
        r->obj.usage = spec->usage != 0 ? spec->usage : hsm_kind_usages(kind);
    }
}

static hsm_status prepare(struct se05x_token *t, const struct hsm_object_spec *spec, enum hsm_class cls,
                          const struct hsm_key_kind *kind, bool in_pieces, struct se05x_creation *c)
{
    hsm_status st;

    if ((st = se05x_record_place(t, cls, spec->label, &c->record_id)) != HSM_OK ||
        (kind != NULL && (st = se05x_curve_ensure(t, kind)) != HSM_OK) ||
        (st = choose_value_id(t, &c->record.value_id)) != HSM_OK)
        return st;
    value_policy(t, &c->record, in_pieces, &c->policy);
    c->write = (struct se05x_write){ .auth = c->change.auth, .id = c->record.value_id, .policy = &c->policy };
    return se05x_change_intend(t, &c->change, SE05X_OP_CREATE, c->record_id, c->record.value_id);
}

hsm_status se05x_creation_begin(struct se05x_token *t, const struct hsm_object_spec *spec, enum hsm_class cls,
                                enum hsm_origin origin, const struct hsm_key_kind *kind, bool in_pieces,
                                struct se05x_creation *c)
{
    enum se05x_auth auth;
    hsm_status st;

    if ((st = se05x_writer(t, &auth)) != HSM_OK || (st = se05x_change_begin(t, auth, &c->change)) != HSM_OK)
        return st;
    describe(t, spec, cls, origin, kind, &c->record);
    if ((st = prepare(t, spec, cls, kind, in_pieces, c)) == HSM_OK)
        return HSM_OK;
    st = se05x_change_undo(t, &c->change, st);
    se05x_change_end(t);
    return st;
}

/* If all does not fit into one command, the public key is left out: it is in the key itself. */
static hsm_status encode(const struct se05x_record *r, struct hsm_buf *out)
{
    struct se05x_record shorter = *r;
    struct hsm_pubkey pub;
    hsm_status st = se05x_record_encode(r, out);

    if (st != HSM_ERR_BUFFER || r->obj.cls != HSM_CLASS_KEY)
        return st;
    if ((st = hsm_pubkey_parse((struct hsm_bytes){ r->obj.spki, r->obj.spki_len }, &pub)) != HSM_OK)
        return st;
    if (pub.n.len == 0 || pub.pss_params.len > SE05X_PSS_PARAMS_MAX)
        return hsm_fail(HSM_ERR_DATA_LEN, "name, id and public key of '%s' are too long for a record",
                        r->obj.label);
    shorter.flags |= SE05X_FLAG_SPKI_IN_KEY;
    shorter.obj.spki_len = pub.pss_params.len;
    if (pub.pss_params.len > 0)
        memcpy(shorter.obj.spki, pub.pss_params.ptr, pub.pss_params.len);
    return se05x_record_encode(&shorter, out);
}

static hsm_status write_record(struct se05x_token *t, const struct se05x_creation *c)
{
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write w = { .auth = c->change.auth, .id = c->record_id, .policy = &policy };
    uint8_t bytes[SE05X_RECORD_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    unsigned tries = 0;
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    record_policy(t, &c->record, &policy);
    if ((st = encode(&c->record, &out)) != HSM_OK)
        return st;
    do {
        st = se05x_write_binary(t, &w, 0, (uint16_t)out.len, (struct hsm_bytes){ out.ptr, out.len }, &sw);
        if (!se05x_unsure(t, st, c->record_id, &exists))
            break;
        if (exists)
            return HSM_OK; /* one command wrote all of it */
    } while (++tries < 2);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "writing a record");
}

hsm_status se05x_creation_finish(struct se05x_token *t, struct se05x_creation *c, hsm_status st,
                                 hsm_handle *handle)
{
    hsm_status cleared;

    if (st == HSM_OK)
        st = write_record(t, c);
    if (st == HSM_OK) {
        *handle = (hsm_handle)c->record_id << 32 | c->record.value_id;
        se05x_remember(t, *handle, &c->record);
        cleared =
            se05x_change_done(t, &c->change); /* the object is there, and stays, whoever clears the journal */
        (void)cleared;
    } else {
        st = se05x_change_undo(t, &c->change, st);
    }
    se05x_change_end(t);
    return st;
}
