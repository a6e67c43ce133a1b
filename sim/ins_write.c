/* SPDX-License-Identifier: Apache-2.0 */
/* Writing secure objects, section 3.3. */
#include "applet.h"

#include <string.h>

enum {
    RESTRICT_NEW = 1,
    RESTRICT_ALL = 2,
    PCR_LEN = 32,
    COUNTER_MAX = 8,
    USERID_MAX = 16,
    BINARY_MAX = 0x7FFF
};

static uint8_t restriction(const struct applet *a)
{
    return a->restrict_persistent > a->restrict_transient ? a->restrict_persistent : a->restrict_transient;
}

/* ---- what all writes share ---------------------------------------------------------------------------- */

/* Ids of the applet: only its authentication objects are for users to make. */
static bool is_reserved(uint32_t id)
{
    if (id >> 16 != 0x7FFF)
        return false;
    return id != ID_TRANSPORT && id != ID_FEATURE && id != ID_FACTORY_RESET && id != ID_PLATFORM_SCP &&
           id != ID_I2CM && id != ID_RESTRICT;
}

static bool may_authenticate(uint8_t kind)
{
    return kind == KIND_USERID || kind == KIND_AES || kind == KIND_EC;
}

static uint16_t set_attributes(const struct applet *a, const struct command *c, struct object *o)
{
    struct sim_bytes policy = c->tlv.value[TAG_POLICY], attempts = c->tlv.value[TAG_MAX_ATTEMPTS];
    uint16_t sw;

    if (c->tlv.has[TAG_POLICY] && (sw = policy_check(a, o->kind, policy)) != SW_OK)
        return sw;
    if (c->tlv.has[TAG_MAX_ATTEMPTS] && (attempts.len < 1 || attempts.len > 2 || get_be(attempts) > 0xFF))
        return SW_DATA;
    if (c->tlv.has[TAG_POLICY])
        buf_set(&o->policy, policy.ptr, policy.len);
    else
        policy_default(a, o, &o->policy);
    o->max_attempts = o->is_auth ? (uint16_t)get_be(attempts) : 0;
    o->owner = c->who->auth_id;
    return SW_OK;
}

static uint16_t begin_new(const struct applet *a, const struct command *c, uint8_t kind, uint32_t id,
                          struct object **draft)
{
    uint16_t sw;

    if (id == 0)
        return SW_DATA;
    if (is_reserved(id) || restriction(a) >= RESTRICT_NEW || (c->auth && !may_authenticate(kind)))
        return SW_CONDITIONS;
    *draft = object_new(id, kind);
    (*draft)->is_auth = c->auth;
    (*draft)->transient = c->transient;
    if ((sw = set_attributes(a, c, *draft)) != SW_OK) {
        object_free(*draft);
        *draft = NULL;
    }
    return sw;
}

/* An RSA key that is still arriving has no policy to ask. */
static bool is_arriving(const struct object *o)
{
    return o->kind == KIND_RSA && !o->transient && !object_ready(o);
}

static uint16_t begin_update(const struct applet *a, const struct command *c, uint8_t kind,
                             struct object *old, uint32_t right, struct object **draft)
{
    if (old->kind != kind || old->origin == ORIGIN_PROVISIONED || restriction(a) >= RESTRICT_ALL)
        return SW_CONDITIONS;
    if (c->tlv.has[TAG_POLICY_CHECK] && !bytes_equal(c->tlv.value[TAG_POLICY_CHECK], buf_view(&old->policy)))
        return SW_CONDITIONS;
    if (!is_arriving(old) && !policy_allows(a, old, c->who, right))
        return SW_CONDITIONS;
    *draft = object_copy(old);
    (*draft)->attempts = 0; /* a new value, a new start */
    return SW_OK;
}

uint16_t write_begin(const struct applet *a, const struct command *c, uint8_t kind, uint32_t right,
                     struct object **draft, bool *is_new)
{
    struct object *old;
    uint32_t id, version;
    uint16_t sw;

    *draft = NULL;
    if (!tlv_uint(&c->tlv, TAG_1, 4, &id) || !tlv_uint_or(&c->tlv, TAG_11, 4, 0, &version))
        return SW_DATA;
    old = store_find(a, id);
    *is_new = old == NULL;
    sw = *is_new ? begin_new(a, c, kind, id, draft) : begin_update(a, c, kind, old, right, draft);
    if (sw == SW_OK && c->tlv.has[TAG_11])
        (*draft)->version = version;
    return sw;
}

uint16_t write_finish(struct applet *a, struct object *draft, uint16_t sw)
{
    if (sw == SW_OK)
        return store_commit(a, draft);
    object_free(draft);
    return sw;
}

/* ---- EC ----------------------------------------------------------------------------------------------- */

static uint16_t ec_curve(const struct applet *a, const struct command *c, struct object *o, bool is_new)
{
    uint32_t curve;

    if (!tlv_uint_or(&c->tlv, TAG_2, 1, o->curve, &curve) || (is_new && !c->tlv.has[TAG_2]))
        return SW_DATA;
    if (!is_new && curve != o->curve)
        return SW_CONDITIONS;
    o->curve = (uint8_t)curve;
    return curve_usable(a, o->curve) ? SW_OK : SW_CONDITIONS;
}

static uint16_t ec_import(struct applet *a, const struct command *c, struct object *o)
{
    const struct curve_info *info = curve_info(o->curve);
    struct sim_bytes priv = c->tlv.value[TAG_3], pub = c->tlv.value[TAG_4];
    EVP_PKEY *pkey;

    if (c->tlv.has[TAG_3] != object_has_private(o) || c->tlv.has[TAG_4] != ((o->part & PART_PUBLIC) != 0))
        return SW_DATA;
    if ((c->tlv.has[TAG_3] && priv.len != info->field_len) ||
        (c->tlv.has[TAG_4] && pub.len != curve_public_len(info)))
        return SW_DATA;
    if ((pkey = pkey_ec(a, o->curve, priv, pub)) == NULL) /* not on the curve, or out of range */
        return SW_DATA;
    EVP_PKEY_free(pkey);
    buf_set(&o->value[V_DATA], priv.ptr, priv.len);
    buf_set(&o->value[V_PUBLIC], pub.ptr, pub.len);
    o->origin = ORIGIN_EXTERNAL;
    return SW_OK;
}

static uint16_t ec_generate(struct applet *a, struct object *o)
{
    if (o->part != PART_PAIR || o->is_auth)
        return SW_CONDITIONS;
    o->origin = ORIGIN_INTERNAL;
    return pkey_generate_ec(a, o) ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_write_ec(struct applet *a, struct command *c)
{
    bool generate = !c->tlv.has[TAG_3] && !c->tlv.has[TAG_4], is_new;
    struct object *o;
    uint16_t sw;

    if (!(a->p.config & 0x000F))
        return SW_CONDITIONS;
    if ((sw = write_begin(a, c, KIND_EC, generate ? ALLOW_GEN : ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    if (is_new)
        o->part = c->apdu->p1 & PART_PAIR; /* ignored when the object exists */
    if (o->part == 0 || (o->is_auth && o->part != PART_PUBLIC))
        sw = SW_DATA;
    if (sw == SW_OK)
        sw = ec_curve(a, c, o, is_new);
    if (sw == SW_OK)
        sw = generate ? ec_generate(a, o) : ec_import(a, c, o);
    o->size = sw == SW_OK ? curve_info(o->curve)->field_len : 0;
    return write_finish(a, o, sw);
}

/* ---- symmetric keys ----------------------------------------------------------------------------------- */

static bool symm_len_ok(const struct object *o, size_t len)
{
    if (o->is_auth) /* a session key */
        return len == 16;
    if (o->kind == KIND_AES)
        return len == 16 || len == 24 || len == 32;
    return o->kind == KIND_DES ? len == 8 || len == 16 || len == 24 : len >= 1 && len <= 256;
}

/* T2: the value comes wrapped (RFC 3394) by an AES key with ALLOW_WRAP */
static uint16_t unwrap(struct applet *a, const struct command *c, struct sim_bytes in, struct buf *value)
{
    struct object *kek;
    uint16_t sw = command_key(a, c, TAG_2, KIND_AES, ALLOW_WRAP, &kek);
    const char *name;
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx;
    int len = 0;
    bool ok;

    if (sw != SW_OK)
        return sw;
    if (in.len < 24 || in.len > 264 || in.len % 8 != 0)
        return SW_DATA;
    name = kek->size == 16 ? "AES-128-WRAP" : kek->size == 24 ? "AES-192-WRAP" : "AES-256-WRAP";
    cipher = EVP_CIPHER_fetch(a->libctx, name, NULL);
    ctx = EVP_CIPHER_CTX_new();
    buf_zero(value, in.len);
    ok = cipher != NULL && ctx != NULL &&
         EVP_DecryptInit_ex2(ctx, cipher, kek->value[V_DATA].ptr, NULL, NULL) == 1 &&
         EVP_DecryptUpdate(ctx, value->ptr, &len, in.ptr, (int)in.len) == 1 && len == (int)in.len - 8;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    if (ok)
        value->len = (size_t)len;
    return ok ? SW_OK : SW_DATA;
}

static uint16_t symm_value(struct applet *a, const struct command *c, struct object *o, bool is_new)
{
    struct buf value = { NULL, 0 };
    uint16_t sw = SW_OK;

    if (c->tlv.has[TAG_2])
        sw = unwrap(a, c, c->tlv.value[TAG_3], &value);
    else
        buf_set(&value, c->tlv.value[TAG_3].ptr, c->tlv.value[TAG_3].len);
    if (sw == SW_OK && !symm_len_ok(o, value.len))
        sw = SW_DATA;
    if (sw == SW_OK && !is_new && value.len != o->size) /* the size is fixed at creation */
        sw = SW_CONDITIONS;
    if (sw == SW_OK) {
        o->size = (uint16_t)value.len;
        o->origin = ORIGIN_EXTERNAL;
        buf_clear(&o->value[V_DATA]);
        o->value[V_DATA] = value;
    } else {
        buf_clear(&value);
    }
    return sw;
}

static bool symm_configured(const struct applet *a, uint8_t kind)
{
    return (a->p.config & (kind == KIND_AES ? 0x0080 : kind == KIND_DES ? 0x0100 : 0x0010)) != 0;
}

uint16_t ins_write_symm(struct applet *a, struct command *c)
{
    uint8_t kind = c->apdu->p1 & 0x1F;
    uint32_t min_tag, min_output;
    struct object *o;
    bool is_new;
    uint16_t sw;

    if (!symm_configured(a, kind))
        return SW_CONDITIONS;
    if (!c->tlv.has[TAG_3] || !tlv_uint_or(&c->tlv, TAG_4, 2, 0, &min_tag) ||
        !tlv_uint_or(&c->tlv, TAG_5, 2, 0, &min_output))
        return SW_DATA;
    if ((sw = write_begin(a, c, kind, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    if (is_new) {
        o->min_tag = a->p.v7 ? (uint16_t)min_tag : 0;
        o->min_output = a->p.v7 ? (uint16_t)min_output : 0;
    }
    return write_finish(a, o, symm_value(a, c, o, is_new));
}

/* ---- files, UserIDs ----------------------------------------------------------------------------------- */

static uint16_t binary_value(const struct command *c, struct object *o, bool is_new)
{
    struct sim_bytes data = c->tlv.value[TAG_4];
    uint32_t offset, size;

    if (!tlv_uint_or(&c->tlv, TAG_2, 2, 0, &offset) ||
        !tlv_uint_or(&c->tlv, TAG_3, 2, is_new ? offset + (uint32_t)data.len : o->size, &size))
        return SW_DATA;
    if (is_new && (size == 0 || size > BINARY_MAX))
        return SW_DATA;
    if (!is_new && size != o->size)
        return SW_CONDITIONS;
    if (offset > size || data.len > size - offset)
        return SW_DATA;
    o->size = (uint16_t)size;
    if (o->value[V_DATA].len != size) /* new, or a transient file after a reset */
        buf_zero(&o->value[V_DATA], size);
    if (data.len > 0)
        memcpy(o->value[V_DATA].ptr + offset, data.ptr, data.len);
    return SW_OK;
}

uint16_t ins_write_binary(struct applet *a, struct command *c)
{
    struct object *o;
    bool is_new;
    uint16_t sw = write_begin(a, c, KIND_BINARY, ALLOW_WRITE, &o, &is_new);

    return sw == SW_OK ? write_finish(a, o, binary_value(c, o, is_new)) : sw;
}

uint16_t ins_write_userid(struct applet *a, struct command *c)
{
    struct sim_bytes value = c->tlv.value[TAG_2];
    size_t least = a->p.v7 || a->p.version[1] >= 4 ? 4 : 1;
    struct object *o;
    bool is_new;
    uint16_t sw;

    if (!c->auth || c->transient)
        return SW_CONDITIONS;
    if (value.len < least || value.len > USERID_MAX)
        return SW_DATA;
    if ((sw = write_begin(a, c, KIND_USERID, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    o->size = (uint16_t)value.len;
    buf_set(&o->value[V_DATA], value.ptr, value.len);
    return write_finish(a, o, SW_OK);
}

/* ---- counters and PCRs -------------------------------------------------------------------------------- */

static bool increment(struct buf *value)
{
    for (size_t i = value->len; i-- > 0;)
        if (++value->ptr[i] != 0)
            return true;
    return false; /* was at its maximum */
}

static uint16_t counter_new(const struct command *c, struct object *o)
{
    struct sim_bytes value = c->tlv.value[TAG_3];
    uint32_t size;

    if (!tlv_uint_or(&c->tlv, TAG_2, 2, (uint32_t)value.len, &size) || size < 1 || size > COUNTER_MAX ||
        (c->tlv.has[TAG_3] && value.len != size))
        return SW_DATA;
    buf_zero(&o->value[V_DATA], size);
    if (value.len > 0)
        memcpy(o->value[V_DATA].ptr, value.ptr, value.len);
    o->size = (uint16_t)size;
    return SW_OK;
}

static uint16_t counter_change(const struct command *c, struct object *o)
{
    struct sim_bytes value = c->tlv.value[TAG_3];

    if (c->tlv.has[TAG_2])
        return SW_CONDITIONS;
    if (!object_ready(o) && !c->tlv.has[TAG_3]) /* transient, after a reset */
        return SW_CONDITIONS;
    if (!c->tlv.has[TAG_3])
        return increment(&o->value[V_DATA]) ? SW_OK : SW_CONDITIONS;
    if (value.len != o->size)
        return SW_DATA;
    if (object_ready(o) && memcmp(value.ptr, o->value[V_DATA].ptr, value.len) < 0)
        return SW_CONDITIONS; /* never down */
    buf_set(&o->value[V_DATA], value.ptr, value.len);
    return SW_OK;
}

uint16_t ins_write_counter(struct applet *a, struct command *c)
{
    struct object *o;
    bool is_new;
    uint16_t sw;

    if (command_object(a, c, TAG_1) == NULL && !c->tlv.has[TAG_2] && !c->tlv.has[TAG_3])
        return SW_CONDITIONS; /* an increment of nothing */
    if ((sw = write_begin(a, c, KIND_COUNTER, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    return write_finish(a, o, is_new ? counter_new(c, o) : counter_change(c, o));
}

static uint16_t pcr_extend(struct applet *a, struct object *o, struct sim_bytes data)
{
    struct buf in = { NULL, 0 };
    uint8_t next[PCR_LEN];
    bool ok;

    buf_append(&in, o->value[V_DATA].ptr, o->value[V_DATA].len);
    buf_append(&in, data.ptr, data.len);
    ok = sha256(a, buf_view(&in), next);
    buf_clear(&in);
    spend(a, TIME_DIGEST);
    if (ok)
        buf_set(&o->value[V_DATA], next, sizeof(next));
    return ok ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_write_pcr(struct applet *a, struct command *c)
{
    struct sim_bytes initial = c->tlv.value[TAG_2], data = c->tlv.value[TAG_3];
    bool reset = !c->tlv.has[TAG_2] && !c->tlv.has[TAG_3], is_new;
    struct object *o;
    uint16_t sw;

    if (command_object(a, c, TAG_1) == NULL && !c->tlv.has[TAG_2])
        return SW_CONDITIONS;
    if (c->tlv.has[TAG_2] && initial.len != PCR_LEN)
        return SW_DATA;
    if ((sw = write_begin(a, c, KIND_PCR, reset ? ALLOW_DELETE : ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    if (is_new)
        buf_set(&o->value[V_INITIAL], initial.ptr, initial.len);
    else if (c->tlv.has[TAG_2]) /* fixed at creation */
        sw = SW_CONDITIONS;
    if (is_new || reset || !object_ready(o))
        buf_set(&o->value[V_DATA], o->value[V_INITIAL].ptr, o->value[V_INITIAL].len);
    o->size = PCR_LEN;
    if (sw == SW_OK && c->tlv.has[TAG_3])
        sw = pcr_extend(a, o, data);
    return write_finish(a, o, sw);
}
