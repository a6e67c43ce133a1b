/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All integers big-endian.
 *
 * record:  "hR" version state | class type curve origin | flags 0 | bits 2 | usage 2 | created 8 | value id 4
 * | value length 4 | label length 1 | id length 1 | SPKI length 2 | label | id | SPKI TOKEN:   "hT" version
 * state | flags tries_max 0 0 | generation 4 | instance 8 | user now, user next, SO now, SO next: each kdf
 * log2_n r p salt 16 | label length 1 | label JOURNAL: "hJ" version 0 | instance 8 | entries: op 0 0 0 |
 * record id 4 | value id 4
 */
#include "record.h"

#include <string.h>

#include "hsm/pubkey.h"
#include "utf8.h"

enum {
    FORMAT = 1,
    RECORD_HEAD = 34,
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 4096,
    TOKEN_FLAG_NO_PIN = 1,
    SCRYPT_LOG2_MAX = 20,
    SCRYPT_MEMORY_MIN = 1 << 20,
    SCRYPT_MEMORY_MAX = 1 << 30
};

static void put_be(uint8_t **at, uint64_t value, size_t len)
{
    while (len-- > 0)
        *(*at)++ = (uint8_t)(value >> (8 * len));
}

static uint64_t get_be(const uint8_t **at, size_t len)
{
    uint64_t value = 0;

    while (len-- > 0)
        value = value << 8 | *(*at)++;
    return value;
}

static void put_bytes(uint8_t **at, const void *from, size_t len)
{
    if (len > 0)
        memcpy(*at, from, len);
    *at += len;
}

static bool has_magic(struct hsm_bytes in, char kind, size_t least)
{
    return in.len >= least && in.ptr[0] == 'h' && in.ptr[1] == (uint8_t)kind && in.ptr[2] == FORMAT;
}

static void put_magic(uint8_t **at, char kind, unsigned state)
{
    put_be(at, 'h', 1);
    put_be(at, (uint8_t)kind, 1);
    put_be(at, FORMAT, 1);
    put_be(at, state, 1);
}

/* ---- records of objects ----------------------------------------------------------------------------------
 */

hsm_status se05x_record_encode(const struct se05x_record *r, struct hsm_buf *out)
{
    const struct hsm_object *o = &r->obj;
    size_t label_len = strlen(o->label);
    uint8_t *at = out->ptr;

    if (out->cap < RECORD_HEAD + label_len + o->id_len + o->spki_len)
        return HSM_ERR_BUFFER;
    put_magic(&at, 'R', r->state);
    put_be(&at, o->cls, 1);
    put_be(&at, o->kind.type, 1);
    put_be(&at, o->kind.curve, 1);
    put_be(&at, o->origin, 1);
    put_be(&at, r->flags, 1);
    put_be(&at, 0, 1);
    put_be(&at, o->kind.bits, 2);
    put_be(&at, o->usage, 2);
    put_be(&at, (uint64_t)o->created_s, 8);
    put_be(&at, r->value_id, 4);
    put_be(&at, o->value_len, 4);
    put_be(&at, label_len, 1);
    put_be(&at, o->id_len, 1);
    put_be(&at, o->spki_len, 2);
    put_bytes(&at, o->label, label_len);
    put_bytes(&at, o->id, o->id_len);
    put_bytes(&at, o->spki, o->spki_len);
    out->len = (size_t)(at - out->ptr);
    return HSM_OK;
}

static bool known_kind(const struct hsm_key_kind *kind)
{
    if (kind->type == HSM_KEY_EC)
        return hsm_curve_info(kind->curve) != NULL && kind->bits == hsm_curve_info(kind->curve)->bits;
    if (kind->type == HSM_KEY_RSA || kind->type == HSM_KEY_RSA_PSS)
        return kind->curve == HSM_CURVE_NONE && kind->bits >= RSA_BITS_MIN && kind->bits <= RSA_BITS_MAX;
    return kind->type >= HSM_KEY_RSA && kind->type <= HSM_KEY_X448 && kind->curve == HSM_CURVE_NONE;
}

/* The public key that stands in the record must be of the kind that stands in the record. */
static bool spki_fits(const struct se05x_record *r)
{
    const struct hsm_object *o = &r->obj;
    struct hsm_pubkey pub;

    if (o->cls != HSM_CLASS_KEY)
        return o->spki_len == 0;
    if ((r->flags & SE05X_FLAG_SPKI_IN_KEY) != 0)
        return (o->kind.type == HSM_KEY_RSA && o->spki_len == 0) ||
               (o->kind.type == HSM_KEY_RSA_PSS && o->spki_len <= SE05X_PSS_PARAMS_MAX);
    return hsm_pubkey_parse((struct hsm_bytes){ o->spki, o->spki_len }, &pub) == HSM_OK &&
           pub.kind.type == o->kind.type && pub.kind.curve == o->kind.curve && pub.kind.bits == o->kind.bits;
}

static bool plausible(const struct se05x_record *r)
{
    const struct hsm_object *o = &r->obj;
    size_t label_len = strlen(o->label);

    if (o->cls < HSM_CLASS_KEY || o->cls > HSM_CLASS_COUNTER || label_len == 0 ||
        !hsm_utf8_valid((struct hsm_bytes){ (const uint8_t *)o->label, label_len }))
        return false;
    if (o->origin < HSM_ORIGIN_GENERATED || o->origin > HSM_ORIGIN_IMPORTED || !se05x_is_value(r->value_id) ||
        o->value_len > HSM_DATA_MAX)
        return false;
    if (o->cls == HSM_CLASS_KEY && (!known_kind(&o->kind) || (o->usage & ~hsm_kind_usages(&o->kind)) != 0))
        return false;
    return spki_fits(r);
}

static bool decode_head(const uint8_t *at, struct se05x_record *r)
{
    struct hsm_object *o = &r->obj;

    at += SE05X_RECORD_STATE_AT;
    r->state = (enum se05x_record_state)get_be(&at, 1);
    o->cls = (enum hsm_class)get_be(&at, 1);
    o->kind.type = (enum hsm_key_type)get_be(&at, 1);
    o->kind.curve = (enum hsm_curve)get_be(&at, 1);
    o->origin = (enum hsm_origin)get_be(&at, 1);
    r->flags = (unsigned)get_be(&at, 1);
    at++;
    o->kind.bits = (unsigned)get_be(&at, 2);
    o->usage = (unsigned)get_be(&at, 2);
    o->created_s = (int64_t)get_be(&at, 8);
    r->value_id = (uint32_t)get_be(&at, 4);
    o->value_len = get_be(&at, 4);
    return r->state == SE05X_RECORD_LIVE || r->state == SE05X_RECORD_TOMBSTONE;
}

hsm_status se05x_record_decode(struct hsm_bytes in, struct se05x_record *r)
{
    const uint8_t *at = in.ptr + RECORD_HEAD - 4;
    struct hsm_object *o = &r->obj;
    size_t label_len;

    memset(r, 0, sizeof(*r));
    if (!has_magic(in, 'R', RECORD_HEAD) || !decode_head(in.ptr, r))
        return HSM_ERR_DATA;
    if (r->state == SE05X_RECORD_TOMBSTONE)
        return HSM_OK;
    label_len = get_be(&at, 1);
    o->id_len = get_be(&at, 1);
    o->spki_len = get_be(&at, 2);
    if (label_len > HSM_LABEL_MAX || o->id_len > HSM_ID_MAX || o->spki_len > HSM_SPKI_MAX ||
        in.len != RECORD_HEAD + label_len + o->id_len + o->spki_len)
        return HSM_ERR_DATA;
    memcpy(o->label, at, label_len);
    if (strlen(o->label) != label_len)
        return HSM_ERR_DATA;
    memcpy(o->id, at + label_len, o->id_len);
    memcpy(o->spki, at + label_len + o->id_len, o->spki_len);
    return plausible(r) ? HSM_OK : HSM_ERR_DATA;
}

/* ---- TOKEN -----------------------------------------------------------------------------------------------
 */

static void put_params(uint8_t **at, const struct se05x_pin_params *p)
{
    put_be(at, p->kdf, 1);
    put_be(at, p->log2_n, 1);
    put_be(at, p->r, 1);
    put_be(at, p->p, 1);
    put_bytes(at, p->salt, SE05X_SALT_LEN);
}

/* Parameters that a damaged or hostile chip may hold would cost gigabytes or hours, or protect no PIN. */
static bool sane_params(const struct se05x_pin_params *p)
{
    if (p->kdf == SE05X_KDF_SCRYPT)
        return p->log2_n >= 1 && p->log2_n <= SCRYPT_LOG2_MAX && p->r >= 1 && p->p >= 1 && p->p <= 16 &&
               (UINT64_C(128) << p->log2_n) * p->r >= SCRYPT_MEMORY_MIN &&
               (UINT64_C(128) << p->log2_n) * p->r <= SCRYPT_MEMORY_MAX;
    return (p->kdf == SE05X_KDF_NONE || p->kdf == SE05X_KDF_HKDF) && p->log2_n == 0 && p->r == 0 && p->p == 0;
}

static bool get_params(const uint8_t **at, struct se05x_pin_params *p)
{
    p->kdf = (enum se05x_kdf)get_be(at, 1);
    p->log2_n = (uint8_t)get_be(at, 1);
    p->r = (uint8_t)get_be(at, 1);
    p->p = (uint8_t)get_be(at, 1);
    memcpy(p->salt, *at, SE05X_SALT_LEN);
    *at += SE05X_SALT_LEN;
    return sane_params(p);
}

void se05x_pin_encode(const struct se05x_pin *pin, uint8_t out[2 * SE05X_PIN_PARAMS_LEN])
{
    uint8_t *at = out;

    put_params(&at, &pin->now);
    put_params(&at, &pin->next);
}

uint16_t se05x_pin_offset(enum hsm_role role)
{
    return (uint16_t)(SE05X_TOKEN_PINS_AT + (role == HSM_ROLE_SO ? 2 * SE05X_PIN_PARAMS_LEN : 0));
}

hsm_status se05x_token_encode(const struct se05x_token_info *info, struct hsm_buf *out)
{
    size_t label_len = strlen(info->label), i;
    uint8_t *at = out->ptr;

    if (out->cap < SE05X_TOKEN_MAX)
        return HSM_ERR_BUFFER;
    put_magic(&at, 'T', info->state);
    put_be(&at, info->no_pin ? TOKEN_FLAG_NO_PIN : 0, 1);
    put_be(&at, info->tries_max, 1);
    put_be(&at, 0, 2);
    put_be(&at, info->generation, 4);
    put_bytes(&at, info->instance, SE05X_INSTANCE_LEN);
    for (i = 0; i < 2; i++) {
        se05x_pin_encode(&info->pin[i], at);
        at += 2 * SE05X_PIN_PARAMS_LEN;
    }
    put_be(&at, label_len, 1);
    put_bytes(&at, info->label, label_len);
    out->len = (size_t)(at - out->ptr);
    return HSM_OK;
}

hsm_status se05x_token_decode(struct hsm_bytes in, struct se05x_token_info *info)
{
    const uint8_t *at = in.ptr + SE05X_RECORD_STATE_AT;
    size_t label_len, i;

    memset(info, 0, sizeof(*info));
    if (!has_magic(in, 'T', SE05X_TOKEN_MAX - HSM_LABEL_MAX))
        return HSM_ERR_DATA;
    info->state = (enum se05x_token_state)get_be(&at, 1);
    info->no_pin = (get_be(&at, 1) & TOKEN_FLAG_NO_PIN) != 0;
    info->tries_max = (uint8_t)get_be(&at, 1);
    at += 2;
    info->generation = (uint32_t)get_be(&at, 4);
    memcpy(info->instance, at, SE05X_INSTANCE_LEN);
    at += SE05X_INSTANCE_LEN;
    for (i = 0; i < 2; i++)
        if (!get_params(&at, &info->pin[i].now) || !get_params(&at, &info->pin[i].next))
            return HSM_ERR_DATA;
    label_len = get_be(&at, 1);
    if (label_len == 0 || in.len != SE05X_TOKEN_MAX - HSM_LABEL_MAX + label_len ||
        (info->state != SE05X_TOKEN_HALF_MADE && info->state != SE05X_TOKEN_READY) || info->tries_max == 0 ||
        info->generation > (SE05X_ID_AUTH_LAST - SE05X_ID_AUTH) / 2)
        return HSM_ERR_DATA;
    memcpy(info->label, at, label_len);
    return hsm_utf8_valid((struct hsm_bytes){ at, label_len }) ? HSM_OK : HSM_ERR_DATA;
}

/* ---- JOURNAL ---------------------------------------------------------------------------------------------
 */

void se05x_journal_entry_encode(const struct se05x_journal_entry *e, uint8_t out[SE05X_JOURNAL_ENTRY_LEN])
{
    uint8_t *at = out;

    put_be(&at, e->op, 1);
    put_be(&at, 0, 3);
    put_be(&at, e->record_id, 4);
    put_be(&at, e->value_id, 4);
}

uint16_t se05x_journal_offset(size_t index)
{
    return (uint16_t)(SE05X_JOURNAL_ENTRIES_AT + index * SE05X_JOURNAL_ENTRY_LEN);
}

void se05x_journal_encode(const struct se05x_journal *j, uint8_t out[SE05X_JOURNAL_LEN])
{
    uint8_t *at = out;
    size_t i;

    put_magic(&at, 'J', 0);
    put_bytes(&at, j->instance, SE05X_INSTANCE_LEN);
    for (i = 0; i < SE05X_JOURNAL_ENTRIES; i++)
        se05x_journal_entry_encode(&j->entries[i], out + se05x_journal_offset(i));
}

/* Whatever a journal says will be deleted: it must name objects of ours. */
static bool decode_entry(const uint8_t *at, struct se05x_journal_entry *e)
{
    e->op = (enum se05x_journal_op)get_be(&at, 1);
    at += 3;
    e->record_id = (uint32_t)get_be(&at, 4);
    e->value_id = (uint32_t)get_be(&at, 4);
    if (e->op == SE05X_OP_NONE)
        return true;
    return e->op <= SE05X_OP_ORPHAN && se05x_is_record(e->record_id) && se05x_is_value(e->value_id);
}

hsm_status se05x_journal_decode(struct hsm_bytes in, struct se05x_journal *j)
{
    size_t i;

    memset(j, 0, sizeof(*j));
    if (!has_magic(in, 'J', SE05X_JOURNAL_LEN) || in.len != SE05X_JOURNAL_LEN)
        return HSM_ERR_DATA;
    memcpy(j->instance, in.ptr + 4, SE05X_INSTANCE_LEN);
    for (i = 0; i < SE05X_JOURNAL_ENTRIES; i++)
        if (!decode_entry(in.ptr + se05x_journal_offset(i), &j->entries[i]))
            return HSM_ERR_DATA;
    return HSM_OK;
}
