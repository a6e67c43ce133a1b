/* SPDX-License-Identifier: Apache-2.0 */
/* TLVs go in ascending order of their tags; NXP's sources warn that the applet wants that. */
#include "command.h"

#include <string.h>

enum {
    INS_WRITE = 0x01,
    INS_READ = 0x02,
    INS_CRYPTO = 0x03,
    INS_MGMT = 0x04,
    INS_AUTH_OBJECT = 0x40,
    INS_ATTEST = 0x20
};
enum {
    P1_DEFAULT = 0x00,
    P1_EC = 0x01,
    P1_RSA = 0x02,
    P1_AES = 0x03,
    P1_DES = 0x04,
    P1_HMAC = 0x05,
    P1_BINARY = 0x06,
    P1_USERID = 0x07,
    P1_COUNTER = 0x08,
    P1_CURVE = 0x0b,
    P1_SIGNATURE = 0x0c,
    P1_MAC = 0x0d,
    P1_CIPHER = 0x0e,
    P1_AEAD = 0x11
};
enum {
    P2_DEFAULT = 0x00,
    P2_CREATE = 0x04,
    P2_SIZE = 0x07,
    P2_SIGN = 0x09,
    P2_VERIFY = 0x0a,
    P2_DH = 0x0f,
    P2_VERSION = 0x20,
    P2_MEMORY = 0x22,
    P2_LIST = 0x25,
    P2_TYPE = 0x26,
    P2_EXIST = 0x27,
    P2_DELETE = 0x28,
    P2_HKDF = 0x2d,
    P2_ID = 0x36,
    P2_ENCRYPT_ONESHOT = 0x37,
    P2_DECRYPT_ONESHOT = 0x38,
    P2_ATTRIBUTES = 0x3b,
    P2_PARAM = 0x40,
    P2_GENERATE_ONESHOT = 0x45,
    P2_VALIDATE_ONESHOT = 0x46,
    P2_RANDOM = 0x49,
    P2_RAW = 0x4f,
    P2_DH_REVERSE = 0x59
};
enum { RESULT_YES = 0x01, MORE_YES = 0x02, CURVE_SET = 0x02 };
enum { ATTRIBUTES_HEAD = 14, TLV_HEAD_MAX = 4 };

/** A command under construction. May hold key bytes: end with run() or drop(). */
struct request {
    struct se05x_cmd cmd;
    uint8_t data[SE05X_DATA_MAX];
    struct hsm_buf buf;
    struct tlv_writer w;
};

/** An answer: `left` is what has not been taken yet. */
struct reply {
    uint8_t bytes[SE05X_APDU_MAX];
    struct hsm_bytes left;
};

static void start(struct request *r, uint8_t ins, uint8_t p1, uint8_t p2, enum se05x_auth auth,
                  enum se05x_time time)
{
    r->cmd =
        (struct se05x_cmd){ .ins = ins, .p1 = p1, .p2 = p2, .auth = auth, .time = time, .repeatable = true };
    r->buf = (struct hsm_buf){ r->data, sizeof(r->data), 0 };
    tlv_init(&r->w, &r->buf);
}

/* As start(), for a command that says something about one object. */
static void start_id(struct request *r, uint8_t ins, uint8_t p1, uint8_t p2, enum se05x_auth auth,
                     enum se05x_time time, uint32_t id)
{
    start(r, ins, p1, p2, auth, time);
    tlv_put_u32(&r->w, TAG_1, id);
}

static void put_optional(struct request *r, uint8_t tag, struct hsm_bytes value)
{
    if (value.len > 0)
        tlv_put(&r->w, tag, value);
}

/* A 16-bit value of 0 is left out (AN12413). */
static void put_optional_u16(struct request *r, uint8_t tag, size_t value)
{
    if (value != 0)
        tlv_put_u16(&r->w, tag, (uint16_t)value);
}

/* An answer of one TLV with a value of this length, in the length form real chips use. */
static void expect_value(struct request *r, size_t len)
{
    r->cmd.expect = len == 0 ? 0 : TLV_HEAD_MAX + len;
}

/* Send; cleanses the request. @p a may be NULL. */
static hsm_status run(struct se05x_token *t, struct request *r, struct reply *a, uint16_t *sw)
{
    struct hsm_buf out = { a == NULL ? NULL : a->bytes, a == NULL ? 0 : sizeof(a->bytes), 0 };
    hsm_status st = tlv_finish(&r->w);

    if (st != HSM_OK) {
        st = hsm_fail(HSM_ERR_DATA_LEN, "%s: the data does not fit into one command of the chip", t->where);
    } else {
        r->cmd.data = (struct hsm_bytes){ r->buf.ptr, r->buf.len };
        st = se05x_exchange(t, &r->cmd, a == NULL ? NULL : &out, sw);
    }
    if (a != NULL)
        a->left = (struct hsm_bytes){ a->bytes, st == HSM_OK && *sw == SE05X_SW_OK ? out.len : 0 };
    hsm_cleanse(r->data, sizeof(r->data));
    return st;
}

static hsm_status malformed(const struct se05x_token *t)
{
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip's answer cannot be understood", t->where);
}

static hsm_status copy_out(const struct se05x_token *t, struct hsm_bytes from, struct hsm_buf *out)
{
    if (from.len > out->cap)
        return hsm_fail(HSM_ERR_BUFFER, "%s: the answer has %zu bytes, the buffer %zu", t->where, from.len,
                        out->cap);
    if (from.len > 0)
        memcpy(out->ptr, from.ptr, from.len);
    out->len = from.len;
    return HSM_OK;
}

/* The value of one TLV into @p out. */
static hsm_status run_for_value(struct se05x_token *t, struct request *r, uint8_t tag, struct hsm_buf *out,
                                uint16_t *sw)
{
    struct reply a;
    struct hsm_bytes value;
    hsm_status st = run(t, r, &a, sw);

    if (st == HSM_OK && *sw == SE05X_SW_OK)
        st = tlv_take(&a.left, tag, &value) ? copy_out(t, value, out) : malformed(t);
    hsm_cleanse(a.bytes, sizeof(a.bytes));
    return st;
}

static hsm_status run_for_uint(struct se05x_token *t, struct request *r, uint32_t *value, uint16_t *sw)
{
    struct reply a;
    hsm_status st = run(t, r, &a, sw);

    if (st == HSM_OK && *sw == SE05X_SW_OK && !tlv_take_uint(&a.left, TAG_1, value))
        st = malformed(t);
    return st;
}

static hsm_status run_for_bool(struct se05x_token *t, struct request *r, bool *yes, uint16_t *sw)
{
    uint32_t value = 0;
    hsm_status st = run_for_uint(t, r, &value, sw);

    if (st == HSM_OK && *sw == SE05X_SW_OK)
        *yes = value == RESULT_YES;
    return st;
}

/* ---- policies, types, curves -----------------------------------------------------------------------------
 */

void se05x_policy_add(struct se05x_policy *p, uint32_t auth_id, uint32_t rights)
{
    uint8_t *at = p->bytes + p->len;
    unsigned i;

    if (rights == 0 || p->len + SE05X_RULE_LEN > sizeof(p->bytes))
        return;
    *at++ = SE05X_RULE_LEN - 1;
    for (i = 0; i < 4; i++) {
        at[i] = (uint8_t)(auth_id >> (24 - 8 * i));
        at[4 + i] = (uint8_t)(rights >> (24 - 8 * i));
    }
    p->len += SE05X_RULE_LEN;
}

static const struct curve_row {
    enum hsm_key_type type;
    enum hsm_curve curve;
    unsigned bits;
    uint8_t id;
    enum se05x_time time;
} curve_rows[] = {
    { HSM_KEY_EC, HSM_CURVE_P256, 256, SE05X_CURVE_P256, SE05X_TIME_EC_SMALL },
    { HSM_KEY_EC, HSM_CURVE_P384, 384, SE05X_CURVE_P384, SE05X_TIME_EC_LARGE },
    { HSM_KEY_EC, HSM_CURVE_P521, 521, SE05X_CURVE_P521, SE05X_TIME_EC_LARGE },
    { HSM_KEY_EC, HSM_CURVE_SECP256K1, 256, SE05X_CURVE_SECP256K1, SE05X_TIME_EC_SMALL },
    { HSM_KEY_EC, HSM_CURVE_BP256R1, 256, SE05X_CURVE_BP256R1, SE05X_TIME_EC_SMALL },
    { HSM_KEY_EC, HSM_CURVE_BP384R1, 384, SE05X_CURVE_BP384R1, SE05X_TIME_EC_LARGE },
    { HSM_KEY_ED25519, HSM_CURVE_NONE, 256, SE05X_CURVE_ED25519, SE05X_TIME_ED25519 },
    { HSM_KEY_X25519, HSM_CURVE_NONE, 253, SE05X_CURVE_X25519, SE05X_TIME_X25519 },
    { HSM_KEY_X448, HSM_CURVE_NONE, 448, SE05X_CURVE_X448, SE05X_TIME_X25519 },
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct curve_row *row_of(const struct hsm_key_kind *kind)
{
    size_t i;

    for (i = 0; i < COUNT(curve_rows); i++)
        if (curve_rows[i].type == kind->type && curve_rows[i].curve == kind->curve)
            return &curve_rows[i];
    return NULL;
}

uint8_t se05x_curve_of(const struct hsm_key_kind *kind)
{
    const struct curve_row *row = row_of(kind);

    return row == NULL ? 0 : row->id;
}

struct hsm_key_kind se05x_kind_of_curve(uint8_t curve)
{
    size_t i;

    for (i = 0; i < COUNT(curve_rows); i++)
        if (curve_rows[i].id == curve)
            return (struct hsm_key_kind){ curve_rows[i].type, curve_rows[i].curve, curve_rows[i].bits };
    return (struct hsm_key_kind){ HSM_KEY_NONE, HSM_CURVE_NONE, 0 };
}

enum se05x_time se05x_time_of(const struct hsm_key_kind *kind)
{
    const struct curve_row *row = row_of(kind);

    if (row != NULL)
        return row->time;
    return kind->bits <= 2048   ? SE05X_TIME_RSA2048
           : kind->bits <= 3072 ? SE05X_TIME_RSA3072
                                : SE05X_TIME_RSA4096;
}

/* 7.x: pair, private, public follow each other; 0x1d + 4 * curve, and by table from Ed25519 on. */
bool se05x_type_is_ec(uint8_t type, uint8_t *curve, enum se05x_part *part)
{
    static const enum se05x_part parts[] = { SE05X_PART_PAIR, SE05X_PART_PRIVATE, SE05X_PART_PUBLIC };
    static const uint8_t special[] = { SE05X_CURVE_ED25519, SE05X_CURVE_X25519, 0, SE05X_CURVE_X448 };
    enum { FIRST = 0x21, SPECIAL = 0x65, LAST = 0x73 };
    unsigned index = (type - FIRST) / 4u, which = (type - FIRST) % 4u;

    if (type < FIRST || type > LAST || which == 3)
        return false;
    *curve = type < SPECIAL ? (uint8_t)(index + 1) : special[(type - SPECIAL) / 4u];
    *part = parts[which];
    return *curve != 0;
}

const char *se05x_type_name(uint8_t type)
{
    static const char *const names[] = {
        [SE05X_TYPE_EC_PAIR] = "EC key pair",
        [SE05X_TYPE_EC_PRIVATE] = "EC private key",
        [SE05X_TYPE_EC_PUBLIC] = "EC public key",
        [SE05X_TYPE_RSA_PAIR] = "RSA key pair",
        [SE05X_TYPE_RSA_PAIR_CRT] = "RSA key pair (CRT)",
        [SE05X_TYPE_RSA_PRIVATE] = "RSA private key",
        [SE05X_TYPE_RSA_PRIVATE_CRT] = "RSA private key (CRT)",
        [SE05X_TYPE_RSA_PUBLIC] = "RSA public key",
        [SE05X_TYPE_AES] = "AES key",
        [SE05X_TYPE_DES] = "DES key",
        [SE05X_TYPE_BINARY] = "binary file",
        [SE05X_TYPE_USERID] = "UserID",
        [SE05X_TYPE_COUNTER] = "counter",
        [SE05X_TYPE_PCR] = "PCR",
        [SE05X_TYPE_CURVE] = "curve",
        [SE05X_TYPE_HMAC] = "HMAC key",
    };
    enum se05x_part part;
    uint8_t curve;

    if (se05x_type_is_ec(type, &curve, &part))
        type = part == SE05X_PART_PAIR     ? SE05X_TYPE_EC_PAIR
               : part == SE05X_PART_PUBLIC ? SE05X_TYPE_EC_PUBLIC
                                           : SE05X_TYPE_EC_PRIVATE;
    return type < COUNT(names) && names[type] != NULL ? names[type] : "object of unknown type";
}

/* ---- writing objects -------------------------------------------------------------------------------------
 */

static void start_write(struct request *r, const struct se05x_write *w, uint8_t p1, uint8_t p2,
                        enum se05x_time time)
{
    start(r, (uint8_t)(INS_WRITE | (w->is_auth ? INS_AUTH_OBJECT : 0)), p1, p2, w->auth, time);
    r->cmd.repeatable = w->repeatable;
    if (w->policy != NULL)
        tlv_put(&r->w, TAG_POLICY, (struct hsm_bytes){ w->policy->bytes, w->policy->len });
    put_optional_u16(r, TAG_MAX_ATTEMPTS, w->max_attempts);
    tlv_put_u32(&r->w, TAG_1, w->id);
}

hsm_status se05x_write_ec(struct se05x_token *t, const struct se05x_write *w, enum se05x_part part,
                          uint8_t curve, struct hsm_bytes priv, struct hsm_bytes pub, uint16_t *sw)
{
    bool generates = priv.len == 0 && pub.len == 0;
    struct request r;

    start_write(&r, w, (uint8_t)(P1_EC | part), P2_DEFAULT,
                generates ? SE05X_TIME_EC_GENERATE : SE05X_TIME_WRITE);
    if (curve != 0)
        tlv_put_u8(&r.w, TAG_2, curve);
    put_optional(&r, TAG_3, priv);
    put_optional(&r, TAG_4, pub);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_write_rsa(struct se05x_token *t, const struct se05x_write *w, enum se05x_part part, bool crt,
                           uint16_t bits, enum se05x_rsa_tag tag, struct hsm_bytes value, uint16_t *sw)
{
    struct request r;

    start_write(&r, w, (uint8_t)(P1_RSA | part), crt ? P2_DEFAULT : P2_RAW,
                tag == SE05X_RSA_TAG_NONE ? SE05X_TIME_RSA_GENERATE : SE05X_TIME_WRITE);
    put_optional_u16(&r, TAG_2, bits);
    if (tag != SE05X_RSA_TAG_NONE)
        tlv_put(&r.w, (uint8_t)tag, value);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_write_symmetric(struct se05x_token *t, const struct se05x_write *w, enum se05x_type type,
                                 struct hsm_bytes key, uint16_t *sw)
{
    struct request r;

    start_write(&r, w,
                type == SE05X_TYPE_AES   ? P1_AES
                : type == SE05X_TYPE_DES ? P1_DES
                                         : P1_HMAC,
                P2_DEFAULT, SE05X_TIME_WRITE);
    tlv_put(&r.w, TAG_3, key);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_write_userid(struct se05x_token *t, const struct se05x_write *w, struct hsm_bytes value,
                              uint16_t *sw)
{
    struct request r;

    start_write(&r, w, P1_USERID, P2_DEFAULT, SE05X_TIME_WRITE);
    tlv_put(&r.w, TAG_2, value);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_write_binary(struct se05x_token *t, const struct se05x_write *w, uint16_t offset,
                              uint16_t file_len, struct hsm_bytes data, uint16_t *sw)
{
    struct request r;

    start_write(&r, w, P1_BINARY, P2_DEFAULT, SE05X_TIME_WRITE);
    put_optional_u16(&r, TAG_2, offset);
    put_optional_u16(&r, TAG_3, file_len);
    put_optional(&r, TAG_4, data);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_write_counter(struct se05x_token *t, const struct se05x_write *w, uint16_t size,
                               uint64_t value, uint16_t *sw)
{
    uint8_t bytes[8];
    struct request r;
    unsigned i;

    for (i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    start_write(&r, w, P1_COUNTER, P2_DEFAULT, SE05X_TIME_WRITE);
    if (size != 0 && value == 0)
        tlv_put_u16(&r.w, TAG_2, size);
    else if (size != 0 && size <= sizeof(bytes))
        tlv_put(&r.w, TAG_3, (struct hsm_bytes){ bytes + sizeof(bytes) - size, size });
    return run(t, &r, NULL, sw);
}

hsm_status se05x_delete(struct se05x_token *t, enum se05x_auth auth, uint32_t id, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_MGMT, P1_DEFAULT, P2_DELETE, auth, SE05X_TIME_WRITE, id);
    return run(t, &r, NULL, sw);
}

/* ---- reading objects -------------------------------------------------------------------------------------
 */

hsm_status se05x_read_object(struct se05x_token *t, enum se05x_auth auth, uint32_t id, uint16_t offset,
                             uint16_t len, size_t expect_len, struct hsm_buf *out, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_READ, P1_DEFAULT, P2_DEFAULT, auth, SE05X_TIME_SHORT, id);
    r.cmd.extended = true;
    put_optional_u16(&r, TAG_2, offset);
    put_optional_u16(&r, TAG_3, len);
    expect_value(&r, expect_len);
    return run_for_value(t, &r, TAG_1, out, sw);
}

hsm_status se05x_read_rsa(struct se05x_token *t, uint32_t id, enum se05x_rsa_component component,
                          struct hsm_buf *out, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_READ, P1_DEFAULT, P2_DEFAULT, SE05X_ANYBODY, SE05X_TIME_SHORT, id);
    r.cmd.extended = true;
    tlv_put_u8(&r.w, TAG_4, (uint8_t)component);
    return run_for_value(t, &r, TAG_1, out, sw);
}

static hsm_status read_uint(struct se05x_token *t, uint8_t p2, uint32_t id, uint32_t *value, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_READ, P1_DEFAULT, p2, SE05X_ANYBODY, SE05X_TIME_SHORT, id);
    return run_for_uint(t, &r, value, sw);
}

hsm_status se05x_read_type(struct se05x_token *t, uint32_t id, uint8_t *type, uint16_t *sw)
{
    uint32_t value = 0;
    hsm_status st = read_uint(t, P2_TYPE, id, &value, sw);

    if (st == HSM_OK && *sw == SE05X_SW_OK)
        *type = (uint8_t)value;
    return st;
}

hsm_status se05x_read_size(struct se05x_token *t, uint32_t id, size_t *size, uint16_t *sw)
{
    uint32_t value = 0;
    hsm_status st = read_uint(t, P2_SIZE, id, &value, sw);

    if (st == HSM_OK && *sw == SE05X_SW_OK)
        *size = value;
    return st;
}

static bool take_ids(struct hsm_bytes left, uint32_t *ids, size_t max, size_t *count, bool *more)
{
    struct hsm_bytes list;
    uint8_t flag;
    size_t i;

    if (!tlv_take_u8(&left, TAG_1, &flag) || !tlv_take(&left, TAG_2, &list) || list.len % 4 != 0)
        return false;
    *more = flag == MORE_YES && list.len > 0;
    if (list.len / 4 > max)
        return false;
    *count = list.len / 4;
    for (i = 0; i < *count; i++)
        ids[i] = (uint32_t)list.ptr[4 * i] << 24 | (uint32_t)list.ptr[4 * i + 1] << 16 |
                 (uint32_t)list.ptr[4 * i + 2] << 8 | list.ptr[4 * i + 3];
    return true;
}

hsm_status se05x_read_ids(struct se05x_token *t, uint16_t offset, uint8_t type, uint32_t *ids, size_t max,
                          size_t *count, bool *more, uint16_t *sw)
{
    struct request r;
    struct reply a;
    hsm_status st;

    start(&r, INS_READ, P1_DEFAULT, P2_LIST, SE05X_ANYBODY, SE05X_TIME_SHORT);
    r.cmd.extended = true;
    tlv_put_u16(&r.w, TAG_1, offset);
    tlv_put_u8(&r.w, TAG_2, type);
    st = run(t, &r, &a, sw);
    if (st == HSM_OK && *sw == SE05X_SW_OK && !take_ids(a.left, ids, max, count, more))
        st = malformed(t);
    return st;
}

hsm_status se05x_read_exists(struct se05x_token *t, uint32_t id, bool *exists, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_MGMT, P1_DEFAULT, P2_EXIST, SE05X_ANYBODY, SE05X_TIME_SHORT, id);
    return run_for_bool(t, &r, exists, sw);
}

bool se05x_attributes_parse(struct hsm_bytes in, bool v7, struct se05x_attributes *a)
{
    size_t tail = v7 ? 5 : 1; /* origin, and on 7.x a version of four bytes */
    const uint8_t *p = in.ptr;

    if (in.len < ATTRIBUTES_HEAD + tail)
        return false;
    a->type = p[4];
    a->attempts = (uint16_t)(p[6] << 8 | p[7]);
    a->owner = (uint32_t)p[8] << 24 | (uint32_t)p[9] << 16 | (uint32_t)p[10] << 8 | p[11];
    a->max_attempts = (uint16_t)(p[12] << 8 | p[13]);
    a->origin = p[in.len - tail];
    return true;
}

/* TAG_3 on 7.2; NXP's older sources expect TAG_2. */
hsm_status se05x_read_attributes(struct se05x_token *t, uint32_t id, struct se05x_attributes *a, uint16_t *sw)
{
    struct hsm_bytes value;
    struct request r;
    struct reply answer;
    hsm_status st;

    start_id(&r, INS_READ, P1_DEFAULT, P2_ATTRIBUTES, SE05X_ANYBODY, SE05X_TIME_SHORT, id);
    st = run(t, &r, &answer, sw);
    if (st == HSM_OK && *sw == SE05X_SW_OK &&
        ((!tlv_take(&answer.left, TAG_3, &value) && !tlv_take(&answer.left, TAG_2, &value)) ||
         !se05x_attributes_parse(value, t->caps.v7, a)))
        st = malformed(t);
    return st;
}

/* What the chip hashes: header, extended Lc, data; before any wrapping, without Le. */
static hsm_status put_command(const struct se05x_token *t, const struct request *r, struct hsm_buf *out)
{
    struct apdu a = { .cla = 0x80, .ins = r->cmd.ins, .extended = true };

    a.data = (struct hsm_bytes){ r->buf.ptr, r->buf.len };
    return apdu_encode(&a, out) == HSM_OK ? HSM_OK : malformed(t);
}

hsm_status se05x_read_attested(struct se05x_token *t, uint32_t id, bool rsa_modulus, uint32_t attester,
                               const uint8_t challenge[16], struct hsm_buf *command, struct hsm_buf *answer,
                               uint16_t *sw)
{
    struct request r;
    struct reply a;
    hsm_status st;

    start_id(&r, INS_READ | INS_ATTEST, P1_DEFAULT, P2_DEFAULT, SE05X_ANYBODY, SE05X_TIME_EC_SMALL, id);
    r.cmd.extended = true;
    if (rsa_modulus)
        tlv_put_u8(&r.w, TAG_4, SE05X_RSA_MODULUS);
    tlv_put_u32(&r.w, TAG_5, attester);
    tlv_put_u8(&r.w, TAG_6, SE05X_ECDSA_SHA256);
    tlv_put(&r.w, TAG_7, (struct hsm_bytes){ challenge, 16 });
    if ((st = put_command(t, &r, command)) != HSM_OK)
        return st;
    st = run(t, &r, &a, sw);
    return st == HSM_OK && *sw == SE05X_SW_OK ? copy_out(t, a.left, answer) : st;
}

/* ---- curves ----------------------------------------------------------------------------------------------
 */

hsm_status se05x_curve_list(struct se05x_token *t, bool set[SE05X_CURVE_LIST_LEN], uint16_t *sw)
{
    uint8_t states[SE05X_CURVE_LIST_LEN] = { 0 };
    struct hsm_buf out = { states, sizeof(states), 0 };
    struct request r;
    hsm_status st;
    size_t i;

    start(&r, INS_READ, P1_CURVE, P2_LIST, SE05X_ANYBODY, SE05X_TIME_SHORT);
    if ((st = run_for_value(t, &r, TAG_1, &out, sw)) == HSM_OK && *sw == SE05X_SW_OK)
        for (i = 0; i < SE05X_CURVE_LIST_LEN; i++)
            set[i] = states[i] == CURVE_SET;
    return st;
}

hsm_status se05x_curve_create(struct se05x_token *t, uint8_t curve, uint16_t *sw)
{
    struct request r;

    start(&r, INS_WRITE, P1_CURVE, P2_CREATE, SE05X_ANYBODY, SE05X_TIME_WRITE);
    r.cmd.repeatable = false;
    tlv_put_u8(&r.w, TAG_1, curve);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_curve_set_param(struct se05x_token *t, uint8_t curve, enum se05x_curve_param param,
                                 struct hsm_bytes value, uint16_t *sw)
{
    struct request r;

    start(&r, INS_WRITE, P1_CURVE, P2_PARAM, SE05X_ANYBODY, SE05X_TIME_WRITE);
    tlv_put_u8(&r.w, TAG_1, curve);
    tlv_put_u8(&r.w, TAG_2, (uint8_t)param);
    tlv_put(&r.w, TAG_3, value);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_curve_delete(struct se05x_token *t, uint8_t curve, uint16_t *sw)
{
    struct request r;

    start(&r, INS_MGMT, P1_CURVE, P2_DELETE, SE05X_ANYBODY, SE05X_TIME_WRITE);
    tlv_put_u8(&r.w, TAG_1, curve);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_curve_of_object(struct se05x_token *t, uint32_t id, uint8_t *curve, uint16_t *sw)
{
    uint32_t value = 0;
    struct request r;
    hsm_status st;

    start_id(&r, INS_READ, P1_CURVE, P2_ID, SE05X_ANYBODY, SE05X_TIME_SHORT, id);
    if ((st = run_for_uint(t, &r, &value, sw)) == HSM_OK && *sw == SE05X_SW_OK)
        *curve = (uint8_t)value;
    return st;
}

/* ---- signatures ------------------------------------------------------------------------------------------
 */

hsm_status se05x_ec_sign(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                         uint8_t algorithm, struct hsm_bytes in, size_t sig_len, struct hsm_buf *sig,
                         uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_SIGNATURE, P2_SIGN, auth, time, id);
    tlv_put_u8(&r.w, TAG_2, algorithm);
    tlv_put(&r.w, TAG_3, in);
    expect_value(&r, sig_len);
    return run_for_value(t, &r, TAG_1, sig, sw);
}

static hsm_status verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                         uint8_t algorithm, struct hsm_bytes in, struct hsm_bytes sig, bool *ok, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_SIGNATURE, P2_VERIFY, auth, time, id);
    tlv_put_u8(&r.w, TAG_2, algorithm);
    tlv_put(&r.w, TAG_3, in);
    tlv_put(&r.w, TAG_5, sig);
    return run_for_bool(t, &r, ok, sw);
}

hsm_status se05x_ec_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                           uint8_t algorithm, struct hsm_bytes in, struct hsm_bytes sig, bool *ok,
                           uint16_t *sw)
{
    return verify(t, auth, id, time, algorithm, in, sig, ok, sw);
}

hsm_status se05x_rsa_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id, uint8_t algorithm,
                            struct hsm_bytes message, struct hsm_bytes sig, bool *ok, uint16_t *sw)
{
    return verify(t, auth, id, SE05X_TIME_RSA_PUBLIC, algorithm, message, sig, ok, sw);
}

hsm_status se05x_rsa_sign(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                          uint8_t algorithm, size_t salt_len, struct hsm_bytes message, size_t sig_len,
                          struct hsm_buf *sig, uint16_t *sw)
{
    static const uint8_t zeros[64]; /* only its length counts */
    struct request r;

    start_id(&r, INS_CRYPTO, P1_SIGNATURE, P2_SIGN, auth, time, id);
    r.cmd.extended = true;
    tlv_put_u8(&r.w, TAG_2, algorithm);
    tlv_put(&r.w, TAG_3, message);
    if (salt_len > sizeof(zeros))
        return hsm_fail(HSM_ERR_MECH, "%s: a salt of %zu bytes is too long", t->where, salt_len);
    put_optional(&r, TAG_4, (struct hsm_bytes){ zeros, salt_len });
    expect_value(&r, sig_len);
    return run_for_value(t, &r, TAG_1, sig, sw);
}

static hsm_status rsa_crypt(struct se05x_token *t, struct request *r, enum se05x_rsa_padding padding,
                            struct hsm_bytes in, struct hsm_buf *out, uint16_t *sw)
{
    r->cmd.extended = true;
    tlv_put_u8(&r->w, TAG_2, (uint8_t)padding);
    tlv_put(&r->w, TAG_3, in);
    expect_value(r, padding == SE05X_RSA_RAW ? in.len : 0);
    return run_for_value(t, r, TAG_1, out, sw);
}

hsm_status se05x_rsa_decrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                             enum se05x_rsa_padding padding, struct hsm_bytes in, struct hsm_buf *out,
                             uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_RSA, P2_DECRYPT_ONESHOT, auth, time, id);
    return rsa_crypt(t, &r, padding, in, out, sw);
}

hsm_status se05x_rsa_encrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                             enum se05x_rsa_padding padding, struct hsm_bytes in, struct hsm_buf *out,
                             uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_RSA, P2_ENCRYPT_ONESHOT, auth, SE05X_TIME_RSA_PUBLIC, id);
    return rsa_crypt(t, &r, padding, in, out, sw);
}

/* ---- key agreement, ciphers, MACs, derivation ------------------------------------------------------------
 */

hsm_status se05x_ecdh(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_time time,
                      struct hsm_bytes peer, size_t secret_len, struct hsm_buf *secret, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_EC, P2_DH, auth, time, id);
    r.cmd.extended = true;
    tlv_put(&r.w, TAG_2, peer);
    expect_value(&r, secret_len);
    return run_for_value(t, &r, TAG_1, secret, sw);
}

hsm_status se05x_ecdh_to_object(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                enum se05x_time time, struct hsm_bytes peer, uint32_t target, bool reversed,
                                uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_EC, reversed ? P2_DH_REVERSE : P2_DH, auth, time, id);
    tlv_put(&r.w, TAG_2, peer);
    tlv_put_u32(&r.w, TAG_7, target);
    return run(t, &r, NULL, sw);
}

hsm_status se05x_cipher(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_cipher mode,
                        bool encrypt, struct hsm_bytes iv, struct hsm_bytes in, struct hsm_buf *out,
                        uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_CIPHER, encrypt ? P2_ENCRYPT_ONESHOT : P2_DECRYPT_ONESHOT, auth,
             SE05X_TIME_SYMMETRIC, id);
    r.cmd.extended = true;
    tlv_put_u8(&r.w, TAG_2, (uint8_t)mode);
    tlv_put(&r.w, TAG_3, in);
    put_optional(&r, TAG_4, iv);
    expect_value(&r, in.len);
    return run_for_value(t, &r, TAG_1, out, sw);
}

static void start_aead(struct request *r, enum se05x_auth auth, uint32_t id, uint8_t p2, enum se05x_aead mode,
                       struct hsm_bytes iv, struct hsm_bytes aad, struct hsm_bytes in)
{
    start_id(r, INS_CRYPTO, P1_AEAD, p2, auth, SE05X_TIME_SYMMETRIC, id);
    r->cmd.extended = true;
    tlv_put_u8(&r->w, TAG_2, (uint8_t)mode);
    put_optional(r, TAG_3, in);
    put_optional(r, TAG_4, aad);
    tlv_put(&r->w, TAG_5, iv);
}

hsm_status se05x_aead_encrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_aead mode,
                              struct hsm_bytes iv, struct hsm_bytes aad, struct hsm_bytes in,
                              struct hsm_buf *out, uint8_t tag[16], uint16_t *sw)
{
    struct hsm_bytes data = { NULL, 0 }, mac;
    struct request r;
    struct reply a;
    hsm_status st;

    start_aead(&r, auth, id, P2_ENCRYPT_ONESHOT, mode, iv, aad, in);
    st = run(t, &r, &a, sw);
    if (st != HSM_OK || *sw != SE05X_SW_OK)
        return st;
    (void)tlv_take(&a.left, TAG_1, &data); /* absent if there was nothing to encrypt */
    if (!tlv_take(&a.left, TAG_2, &mac) || mac.len != 16 || data.len != in.len)
        return malformed(t);
    if ((st = copy_out(t, data, out)) == HSM_OK)
        memcpy(tag, mac.ptr, 16);
    return st;
}

hsm_status se05x_aead_decrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_aead mode,
                              struct hsm_bytes iv, struct hsm_bytes aad, struct hsm_bytes in,
                              struct hsm_bytes tag, struct hsm_buf *out, bool *ok, uint16_t *sw)
{
    struct hsm_bytes data = { NULL, 0 };
    struct request r;
    struct reply a;
    uint8_t result;
    hsm_status st;

    start_aead(&r, auth, id, P2_DECRYPT_ONESHOT, mode, iv, aad, in);
    tlv_put(&r.w, TAG_6, tag);
    st = run(t, &r, &a, sw);
    if (st == HSM_OK && *sw == SE05X_SW_OK) {
        (void)tlv_take(&a.left, TAG_1, &data);
        if (!tlv_take_u8(&a.left, TAG_2, &result) || (result == RESULT_YES && data.len != in.len)) {
            st = malformed(t);
        } else {
            *ok = result == RESULT_YES;
            st = *ok ? copy_out(t, data, out) : HSM_OK;
        }
    }
    hsm_cleanse(a.bytes, sizeof(a.bytes));
    return st;
}

hsm_status se05x_mac(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_mac algorithm,
                     struct hsm_bytes in, struct hsm_buf *mac, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_MAC, P2_GENERATE_ONESHOT, auth, SE05X_TIME_SYMMETRIC, id);
    tlv_put_u8(&r.w, TAG_2, (uint8_t)algorithm);
    tlv_put(&r.w, TAG_3, in);
    return run_for_value(t, &r, TAG_1, mac, sw);
}

hsm_status se05x_mac_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                            enum se05x_mac algorithm, struct hsm_bytes in, struct hsm_bytes mac, bool *ok,
                            uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_MAC, P2_VALIDATE_ONESHOT, auth, SE05X_TIME_SYMMETRIC, id);
    tlv_put_u8(&r.w, TAG_2, (uint8_t)algorithm);
    tlv_put(&r.w, TAG_3, in);
    tlv_put(&r.w, TAG_5, mac);
    return run_for_bool(t, &r, ok, sw);
}

hsm_status se05x_hkdf(struct se05x_token *t, enum se05x_auth auth, uint32_t id, enum se05x_digest digest,
                      struct hsm_bytes salt, struct hsm_bytes info, struct hsm_buf *out, uint16_t *sw)
{
    struct request r;

    start_id(&r, INS_CRYPTO, P1_DEFAULT, P2_HKDF, auth, SE05X_TIME_SYMMETRIC, id);
    tlv_put_u8(&r.w, TAG_2, (uint8_t)digest);
    put_optional(&r, TAG_3, salt);
    put_optional(&r, TAG_4, info);
    tlv_put_u16(&r.w, TAG_5, (uint16_t)out->cap);
    expect_value(&r, out->cap);
    return run_for_value(t, &r, TAG_1, out, sw);
}

/* ---- the chip --------------------------------------------------------------------------------------------
 */

hsm_status se05x_get_random(struct se05x_token *t, struct hsm_buf *out, uint16_t *sw)
{
    struct request r;
    hsm_status st;

    start(&r, INS_MGMT, P1_DEFAULT, P2_RANDOM, SE05X_ANYBODY, SE05X_TIME_SHORT);
    r.cmd.extended = true;
    tlv_put_u16(&r.w, TAG_1, (uint16_t)out->cap);
    expect_value(&r, out->cap);
    st = run_for_value(t, &r, TAG_1, out, sw);
    return st == HSM_OK && *sw == SE05X_SW_OK && out->len != out->cap ? malformed(t) : st;
}

hsm_status se05x_free_memory(struct se05x_token *t, enum se05x_memory kind, uint32_t *bytes, uint16_t *sw)
{
    struct request r;

    start(&r, INS_MGMT, P1_DEFAULT, P2_MEMORY, SE05X_ANYBODY, SE05X_TIME_SHORT);
    tlv_put_u8(&r.w, TAG_1, (uint8_t)kind);
    return run_for_uint(t, &r, bytes, sw);
}

hsm_status se05x_get_version(struct se05x_token *t, uint8_t version[7], uint16_t *sw)
{
    struct hsm_buf out = { version, 7, 0 };
    struct request r;

    start(&r, INS_MGMT, P1_DEFAULT, P2_VERSION, SE05X_ANYBODY, SE05X_TIME_SHORT);
    return run_for_value(t, &r, TAG_1, &out, sw);
}

hsm_status se05x_refused(const struct se05x_token *t, uint16_t sw, const char *what)
{
    switch (sw) {
    case SE05X_SW_MEMORY:
        return hsm_fail(HSM_ERR_TOKEN_FULL,
                        "%s: no memory left on the chip for %s; delete objects that are not needed", t->where,
                        what);
    case SE05X_SW_NOT_ALLOWED:
        return hsm_fail(HSM_ERR_DENIED, "%s: the object's policy on the chip does not allow %s", t->where,
                        what);
    case SE05X_SW_SECURITY:
        return hsm_fail(HSM_ERR_DENIED,
                        "%s: the chip refuses %s: it wants another login or channel (status 6982)", t->where,
                        what);
    case SE05X_SW_THROTTLED:
        return hsm_fail(HSM_ERR_BUSY, "%s: the chip limits the rate of commands: try %s later", t->where,
                        what);
    case SE05X_SW_INS:
    case SE05X_SW_P1P2:
    case SE05X_SW_POLICY_TYPE:
        return hsm_fail(HSM_ERR_UNSUPPORTED, "%s: this chip does not support %s (status %04x)", t->where,
                        what, sw);
    default:
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip refuses %s with status %04x", t->where, what, sw);
    }
}
