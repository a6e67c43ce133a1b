/* SPDX-License-Identifier: Apache-2.0 */
/* A read that the chip signs with the key NXP put into it. */
#include "token.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#define PROPQ "provider=default"

enum { DIGEST_LEN = 32 };

static hsm_status malformed(const struct se05x_token *t)
{
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip's attestation cannot be understood", t->where);
}

static bool append(struct hsm_attestation *out, const void *ptr, size_t len)
{
    if (len > sizeof(out->message) - out->message_len)
        return false;
    if (len > 0)
        memcpy(out->message + out->message_len, ptr, len);
    out->message_len += len;
    return true;
}

static bool keep(uint8_t *to, size_t cap, size_t *len, struct hsm_bytes from)
{
    if (from.len == 0 || from.len > cap)
        return false;
    memcpy(to, from.ptr, from.len);
    *len = from.len;
    return true;
}

static enum hsm_origin origin_of(const struct se05x_token *t, struct hsm_bytes attributes)
{
    struct se05x_attributes a;

    if (!se05x_attributes_parse(attributes, t->caps.v7, &a))
        return HSM_ORIGIN_NONE;
    return a.origin == 1   ? HSM_ORIGIN_IMPORTED
           : a.origin == 2 ? HSM_ORIGIN_GENERATED
           : a.origin == 3 ? HSM_ORIGIN_FACTORY
                           : HSM_ORIGIN_NONE;
}

/* 3.x: the signed bytes are the values of TAG_1 to TAG_5, one behind the other. */
static bool take_v3(const struct se05x_token *t, struct hsm_bytes in, struct hsm_attestation *out)
{
    struct hsm_bytes value, attributes = { NULL, 0 }, chip = { NULL, 0 }, signature;
    uint8_t tag;

    for (tag = TAG_1; tag <= TAG_5; tag++) {
        if (!tlv_take(&in, tag, &value)) {
            if (tag == TAG_1) /* the object may not be read */
                continue;
            return false;
        }
        if (tag == TAG_2)
            attributes = value;
        if (tag == TAG_5)
            chip = value;
        if (!append(out, value.ptr, value.len))
            return false;
    }
    out->origin = origin_of(t, attributes);
    return tlv_take(&in, TAG_6, &signature) && in.len == 0 &&
           keep(out->signature, sizeof(out->signature), &out->signature_len, signature) &&
           keep(out->chip_id, sizeof(out->chip_id), &out->chip_id_len, chip);
}

/* 7.x: a digest of the command, then the answer's TLVs, each with a length of three bytes. */
static bool take_v7(const struct se05x_token *t, struct hsm_bytes in, struct hsm_attestation *out)
{
    static const uint8_t tags[] = { TAG_1, TAG_2, TAG_3, TAG_4, TAG_TIME };
    struct hsm_bytes value, attributes = { NULL, 0 }, chip = { NULL, 0 }, signature;
    uint8_t head[4];
    size_t i;

    for (i = 0; i < sizeof(tags); i++) {
        if (!tlv_take(&in, tags[i], &value)) {
            if (tags[i] == TAG_1)
                continue;
            return false;
        }
        if (tags[i] == TAG_2)
            chip = value;
        if (tags[i] == TAG_3)
            attributes = value;
        head[0] = tags[i];
        head[1] = 0x82;
        head[2] = (uint8_t)(value.len >> 8);
        head[3] = (uint8_t)value.len;
        if (!append(out, head, sizeof(head)) || !append(out, value.ptr, value.len))
            return false;
    }
    out->origin = origin_of(t, attributes);
    return tlv_take(&in, TAG_SIGNATURE, &signature) && in.len == 0 &&
           keep(out->signature, sizeof(out->signature), &out->signature_len, signature) &&
           keep(out->chip_id, sizeof(out->chip_id), &out->chip_id_len, chip);
}

/* Who signed: the key itself, and NXP's certificate of it if the chip holds one. */
static hsm_status read_attester(struct se05x_token *t, struct hsm_attestation *out)
{
    struct hsm_buf point = { out->attester, sizeof(out->attester), 0 };
    size_t len = 0;
    uint16_t sw;
    hsm_status st = se05x_read_object(t, SE05X_ANYBODY, SE05X_ID_ATTESTER, 0, 0, 0, &point, &sw);

    if (st != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return hsm_fail(HSM_ERR_UNSUPPORTED, "%s: there is no attestation key %08X on this chip", t->where,
                        (unsigned)SE05X_ID_ATTESTER);
    out->attester_len = point.len;
    if ((st = se05x_read_size(t, SE05X_ID_ATTESTER_CERT, &len, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK || len == 0 || len > sizeof(out->certificate))
        return HSM_OK;
    if ((st = se05x_file_read(t, SE05X_ANYBODY, SE05X_ID_ATTESTER_CERT, len, out->certificate)) == HSM_OK)
        out->certificate_len = len;
    return st == HSM_ERR_NO_OBJECT || st == HSM_ERR_DENIED ? HSM_OK : st;
}

static hsm_status attested_read(struct se05x_token *t, const struct se05x_object *o,
                                struct hsm_bytes challenge, struct hsm_attestation *out)
{
    bool rsa = o->kind.type == HSM_KEY_RSA || o->kind.type == HSM_KEY_RSA_PSS;
    uint8_t command[128], bytes[SE05X_APDU_MAX], digest[DIGEST_LEN];
    struct hsm_buf cmd = { command, sizeof(command), 0 }, answer = { bytes, sizeof(bytes), 0 };
    struct hsm_bytes in;
    size_t digest_len;
    uint16_t sw;
    hsm_status st;

    if ((st = se05x_read_attested(t, o->id, rsa, SE05X_ID_ATTESTER, challenge.ptr, &cmd, &answer, &sw)) !=
        HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return sw == SE05X_SW_CONDITIONS ? HSM_ERR_NO_OBJECT : se05x_refused(t, sw, "an attestation");
    in = (struct hsm_bytes){ answer.ptr, answer.len };
    (void)snprintf(out->format, sizeof(out->format), "nxp-se05x-%d", t->caps.v7 ? 7 : 3);
    if (!t->caps.v7)
        return take_v3(t, in, out) ? HSM_OK : malformed(t);
    if (EVP_Q_digest(t->libctx, "SHA2-256", PROPQ, cmd.ptr, cmd.len, digest, &digest_len) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "SHA-256 failed");
    return append(out, digest, digest_len) && take_v7(t, in, out) ? HSM_OK : malformed(t);
}

hsm_status se05x_attest(struct hsm_token *tok, hsm_handle handle, struct hsm_bytes challenge,
                        struct hsm_attestation *out)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    hsm_status st;

    memset(out, 0, sizeof(*out));
    if (challenge.len != HSM_CHALLENGE_LEN)
        return hsm_fail(HSM_ERR_DATA_LEN, "%s: a challenge has %d bytes, this one %zu", t->where,
                        HSM_CHALLENGE_LEN, challenge.len);
    if ((st = se05x_lookup(t, handle, &o)) != HSM_OK)
        return st;
    if (o->cls != HSM_CLASS_KEY)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", o->label, t->where);
    if ((st = read_attester(t, out)) != HSM_OK)
        return st;
    st = attested_read(t, o, challenge, out);
    return st == HSM_ERR_NO_OBJECT ? se05x_vanished(t, o) : st;
}
