/* SPDX-License-Identifier: Apache-2.0 */
/* Reading objects, their attributes and lists of them, with and without attestation: section 3.4. */
#include "applet.h"

#include <string.h>

enum { ATTEST_RANDOM_LEN = 16, IDS_PER_ANSWER = 200, ATTRIBUTES_MAX = 14 + 256 + 5 };

uint16_t object_reported_size(const struct object *o)
{
    return o->kind == KIND_RSA ? o->size / 8 : o->kind == KIND_EC ? curve_info(o->curve)->field_len : o->size;
}

size_t object_attributes(const struct applet *a, const struct object *o, uint8_t *out, size_t cap)
{
    size_t len = 14 + o->policy.len + 1 + (a->p.v7 ? 4 : 0);

    if (len > cap)
        return 0;
    memset(out, 0, len);
    put_be(out, o->id, 4);
    out[4] = object_type(a, o);
    out[5] = o->is_auth ? 2 : 1;
    put_be(out + 6, o->is_auth ? o->attempts : o->min_tag, 2);
    put_be(out + 8, o->owner, 4);
    put_be(out + 12, o->is_auth ? o->max_attempts : o->min_output, 2);
    memcpy(out + 14, o->policy.ptr, o->policy.len);
    out[14 + o->policy.len] = o->origin;
    if (a->p.v7)
        put_be(out + 15 + o->policy.len, o->version, 4);
    return len;
}

/* ---- values ------------------------------------------------------------------------------------------- */

/* A part of a file or value: never cut at its end, but refused. */
static uint16_t read_range(const struct applet *a, const struct command *c, const struct buf *value,
                           struct sim_bytes *out)
{
    uint32_t offset, len;

    if (!tlv_uint_or(&c->tlv, TAG_2, 2, 0, &offset) || !tlv_uint_or(&c->tlv, TAG_3, 2, 0, &len))
        return SW_DATA;
    if (offset > value->len)
        return SW_CONDITIONS;
    if (len == 0)
        len = (uint32_t)value->len - offset;
    if (len > value->len - offset || len > answer_max(a))
        return SW_CONDITIONS;
    *out = (struct sim_bytes){ value->ptr + offset, len };
    return SW_OK;
}

static uint16_t read_rsa(const struct command *c, const struct object *o, struct sim_bytes *out)
{
    uint32_t component;

    if (!tlv_uint(&c->tlv, TAG_4, 1, &component))
        return SW_DATA;
    if (component > 1 || !(o->part & PART_PUBLIC))
        return SW_CONDITIONS;
    *out = buf_view(&o->value[V_RSA_N + component]);
    return SW_OK;
}

static uint16_t read_value(const struct applet *a, const struct command *c, const struct object *o,
                           struct sim_bytes *out)
{
    if (o->kind == KIND_AES || o->kind == KIND_DES || o->kind == KIND_HMAC)
        return SW_DENIED; /* whatever the policy says */
    if (o->kind == KIND_USERID || (o->kind == KIND_EC && !(o->part & PART_PUBLIC)) || !object_ready(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_READ))
        return SW_DENIED;
    if (o->kind == KIND_RSA)
        return read_rsa(c, o, out);
    return read_range(a, c, &o->value[o->kind == KIND_EC ? V_PUBLIC : V_DATA], out);
}

uint16_t ins_read_object(struct applet *a, struct command *c)
{
    struct object *o = command_object(a, c, TAG_1);
    struct sim_bytes value = { NULL, 0 };
    uint16_t sw;

    if (!c->tlv.has[TAG_1] || c->tlv.value[TAG_1].len != 4)
        return SW_DATA;
    if (o == NULL)
        return SW_CONDITIONS;
    sw = read_value(a, c, o, &value);
    if (!c->attest) {
        if (sw == SW_OK)
            put_bytes(c->out, TAG_1, value.ptr, value.len);
        return sw;
    }
    if (sw == SW_OK)
        put_bytes(c->out, TAG_1, value.ptr, value.len);
    else if (sw != SW_DENIED && sw != SW_CONDITIONS)
        return sw;
    return attest(a, c, o); /* what may not be read is attested without its value */
}

uint16_t ins_attributes(struct applet *a, struct command *c)
{
    struct object *o = command_object(a, c, TAG_1);
    uint8_t record[ATTRIBUTES_MAX];
    size_t len;

    if (!a->p.v7 || o == NULL)
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_READ))
        return SW_DENIED;
    if (c->attest)
        return attest(a, c, o);
    len = object_attributes(a, o, record, sizeof(record));
    put_bytes(c->out, TAG_3, record, len);
    return SW_OK;
}

uint16_t ins_read_type(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);

    if (o == NULL)
        return SW_CONDITIONS;
    put_u8(c->out, TAG_1, object_type(a, o));
    put_u8(c->out, TAG_2, o->transient ? 2 : 1);
    return SW_OK;
}

uint16_t ins_read_size(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);

    if (o == NULL || o->kind == KIND_USERID)
        return SW_CONDITIONS;
    put_u16(c->out, TAG_1, object_reported_size(o));
    return SW_OK;
}

uint16_t ins_exists(struct applet *a, struct command *c)
{
    uint32_t id;

    if (!tlv_uint(&c->tlv, TAG_1, 4, &id))
        return SW_DATA;
    put_u8(c->out, TAG_1, store_find(a, id) != NULL ? 1 : 2);
    return SW_OK;
}

uint16_t ins_read_id_list(struct applet *a, struct command *c)
{
    uint8_t ids[4 * IDS_PER_ANSWER];
    uint32_t offset, filter;
    size_t seen = 0, count = 0;

    if (!tlv_uint(&c->tlv, TAG_1, 2, &offset) || !tlv_uint(&c->tlv, TAG_2, 1, &filter))
        return SW_DATA;
    for (size_t i = 0; i < a->object_count; i++) {
        const struct object *o = a->objects[i];

        if ((filter != 0xFF && object_type(a, o) != filter) || seen++ < offset)
            continue;
        if (count < IDS_PER_ANSWER)
            put_be(ids + 4 * count, o->id, 4);
        count++;
    }
    put_u8(c->out, TAG_1, count > IDS_PER_ANSWER ? 2 : 1);
    put_bytes(c->out, TAG_2, ids, 4 * (count > IDS_PER_ANSWER ? IDS_PER_ANSWER : count));
    return SW_OK;
}

uint16_t ins_delete(struct applet *a, struct command *c)
{
    struct object *o = command_object(a, c, TAG_1);

    if (!c->tlv.has[TAG_1] || c->tlv.value[TAG_1].len != 4)
        return SW_DATA;
    if (o == NULL || o->origin == ORIGIN_PROVISIONED)
        return SW_CONDITIONS;
    /* the policy of an RSA key applies when all components are there */
    if ((o->kind != KIND_RSA || o->transient || object_ready(o)) &&
        !policy_allows(a, o, c->who, ALLOW_DELETE))
        return SW_CONDITIONS;
    store_remove(a, o);
    return SW_OK;
}

/* ---- attestation -------------------------------------------------------------------------------------- */

static uint16_t sign_attestation(struct applet *a, const struct object *key, uint8_t algo,
                                 struct sim_bytes in, uint8_t *sig, size_t *len)
{
    uint8_t digest[64];
    unsigned digest_len = 0;
    EVP_MD *md;
    bool ok;

    if (key->kind == KIND_RSA || key->curve == CURVE_ED25519)
        return pkey_sign(a, key, algo, in, -1, sig, len);
    if (ecdsa_digest_name(algo) == NULL)
        return SW_CONDITIONS;
    md = EVP_MD_fetch(a->libctx, ecdsa_digest_name(algo), NULL);
    ok = md != NULL && EVP_Digest(in.ptr, in.len, digest, &digest_len, md, NULL) == 1;
    EVP_MD_free(md);
    return ok ? pkey_sign(a, key, algo, (struct sim_bytes){ digest, digest_len }, -1, sig, len)
              : SW_CONDITIONS;
}

/* 3.x: T1 data, T2 attributes, T3 time, T4 random, T5 unique id; signed are the values in that order */
static uint16_t attest_v3(struct applet *a, struct command *c, const struct object *o,
                          const struct object *key, uint8_t algo)
{
    const struct object *unique = store_find(a, ID_UNIQUE);
    uint8_t attributes[ATTRIBUTES_MAX], now[TIMESTAMP_LEN], sig[SIGNATURE_MAX];
    size_t attributes_len = object_attributes(a, o, attributes, sizeof(attributes)), sig_len = sizeof(sig);
    struct buf tbs = { NULL, 0 };
    uint16_t sw;

    timestamp(a, now);
    if (c->out->len > 0)
        buf_append(&tbs, c->out->data + 4, c->out->len - 4);
    buf_append(&tbs, attributes, attributes_len);
    buf_append(&tbs, now, sizeof(now));
    buf_append(&tbs, c->tlv.value[TAG_7].ptr, ATTEST_RANDOM_LEN);
    buf_append(&tbs, unique->value[V_DATA].ptr, unique->value[V_DATA].len);
    sw = sign_attestation(a, key, algo, buf_view(&tbs), sig, &sig_len);
    buf_clear(&tbs);
    if (sw != SW_OK)
        return sw;
    put_bytes(c->out, TAG_2, attributes, attributes_len);
    put_bytes(c->out, TAG_3, now, sizeof(now));
    put_bytes(c->out, TAG_4, c->tlv.value[TAG_7].ptr, ATTEST_RANDOM_LEN);
    put_bytes(c->out, TAG_5, unique->value[V_DATA].ptr, unique->value[V_DATA].len);
    put_bytes(c->out, TAG_6, sig, sig_len);
    return SW_OK;
}

/* 7.x: signed are SHA-256 of the command and the answer as it stands, all lengths in three bytes */
static uint16_t attest_v7(struct applet *a, struct command *c, const struct object *o,
                          const struct object *key, uint8_t algo)
{
    const struct object *unique = store_find(a, ID_UNIQUE);
    uint8_t attributes[ATTRIBUTES_MAX], now[TIMESTAMP_LEN], sig[SIGNATURE_MAX], size[2], command[32];
    size_t sig_len = sizeof(sig);
    struct buf tbs = { NULL, 0 };
    uint16_t sw;

    put_bytes(c->out, TAG_2, unique->value[V_DATA].ptr, unique->value[V_DATA].len);
    if (o != NULL) {
        put_bytes(c->out, TAG_3, attributes, object_attributes(a, o, attributes, sizeof(attributes)));
        put_be(size, object_reported_size(o), sizeof(size));
        put_bytes(c->out, TAG_4, size, sizeof(size));
    }
    timestamp(a, now);
    put_bytes(c->out, TAG_TIMESTAMP, now, sizeof(now));
    if (!sha256(a, c->apdu->whole, command))
        return SW_CONDITIONS;
    buf_append(&tbs, command, sizeof(command));
    buf_append(&tbs, c->out->data, c->out->len);
    sw = sign_attestation(a, key, algo, buf_view(&tbs), sig, &sig_len);
    buf_clear(&tbs);
    if (sw == SW_OK)
        put_bytes(c->out, TAG_SIGNATURE, sig, sig_len);
    return sw;
}

uint16_t attest(struct applet *a, struct command *c, const struct object *o)
{
    const struct object *key = command_object(a, c, TAG_5);
    uint32_t algo;

    if (!tlv_uint(&c->tlv, TAG_6, 1, &algo) || c->tlv.value[TAG_7].len != ATTEST_RANDOM_LEN)
        return SW_DATA;
    if (key == NULL || (key->kind != KIND_EC && key->kind != KIND_RSA) || key->is_auth ||
        !object_has_private(key) || !object_ready(key))
        return SW_CONDITIONS;
    if (!policy_allows(a, key, c->who, ALLOW_ATTESTATION))
        return SW_DENIED;
    return a->p.v7 ? attest_v7(a, c, o, key, (uint8_t)algo) : attest_v3(a, c, o, key, (uint8_t)algo);
}
