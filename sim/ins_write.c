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

/**
 * A draft of the object of T1, new or of the one that is there (then *is_new is false and TAG_POLICY
 * ignored).
 * @param right  what an update needs
 */
static uint16_t begin(const struct applet *a, const struct command *c, uint8_t kind, uint32_t right,
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

static uint16_t finish(struct applet *a, struct object *draft, uint16_t sw)
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
    if ((sw = begin(a, c, KIND_EC, generate ? ALLOW_GEN : ALLOW_WRITE, &o, &is_new)) != SW_OK)
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
    return finish(a, o, sw);
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
    if ((sw = begin(a, c, kind, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    if (is_new) {
        o->min_tag = a->p.v7 ? (uint16_t)min_tag : 0;
        o->min_output = a->p.v7 ? (uint16_t)min_output : 0;
    }
    return finish(a, o, symm_value(a, c, o, is_new));
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
    uint16_t sw = begin(a, c, KIND_BINARY, ALLOW_WRITE, &o, &is_new);

    return sw == SW_OK ? finish(a, o, binary_value(c, o, is_new)) : sw;
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
    if ((sw = begin(a, c, KIND_USERID, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    o->size = (uint16_t)value.len;
    buf_set(&o->value[V_DATA], value.ptr, value.len);
    return finish(a, o, SW_OK);
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
    if ((sw = begin(a, c, KIND_COUNTER, ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    return finish(a, o, is_new ? counter_new(c, o) : counter_change(c, o));
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
    if ((sw = begin(a, c, KIND_PCR, reset ? ALLOW_DELETE : ALLOW_WRITE, &o, &is_new)) != SW_OK)
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
    return finish(a, o, sw);
}

/* ---- RSA: one component per command, or all by the chip ------------------------------------------------ */

static const enum value_slot rsa_slots[] = { V_RSA_P,    V_RSA_Q, V_RSA_DP, V_RSA_DQ,
                                             V_RSA_QINV, V_RSA_E, V_RSA_D,  V_RSA_N };

static bool has_component(const struct command *c)
{
    for (uint8_t tag = TAG_3; tag <= TAG_10; tag++)
        if (c->tlv.has[tag])
            return true;
    return false;
}

static uint16_t rsa_size(const struct command *c, struct object *o, bool is_new)
{
    static const uint16_t sizes[] = { 512, 1024, 1152, 2048, 3072, 4096 };
    uint32_t bits;
    bool known = false;

    if (!tlv_uint_or(&c->tlv, TAG_2, 2, o->size, &bits))
        return SW_DATA;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        known = known || sizes[i] == bits;
    if (!known)
        return SW_DATA;
    if (!is_new && bits != o->size)
        return SW_CONDITIONS;
    o->size = (uint16_t)bits;
    return SW_OK;
}

/* What parts without RSA, without plain keys or in FIPS mode refuse */
static uint16_t rsa_allowed(const struct applet *a, const struct object *o, bool generate)
{
    if (!(a->p.config & (o->rsa_plain ? 0x0020 : 0x0040)) &&
        (o->part != PART_PUBLIC || !(a->p.config & 0x0060)))
        return generate || (a->p.config & 0x0060) ? SW_CONDITIONS : SW_DATA;
    if (!is_fips(a))
        return SW_OK;
    if (o->part == PART_PUBLIC && a->p.v7)
        return SW_DATA;
    return o->size < 2048 || (generate && !a->p.v7 && o->size > 3072) ? SW_CONDITIONS : SW_OK;
}

static size_t component_max(const struct object *o, enum value_slot slot)
{
    return slot >= V_RSA_P ? o->size / 16 : slot == V_RSA_E ? 8 : o->size / 8;
}

static bool component_expected(const struct object *o, enum value_slot slot)
{
    if (slot == V_RSA_N || slot == V_RSA_E)
        return (o->part & PART_PUBLIC) || (slot == V_RSA_N && o->rsa_plain);
    return object_has_private(o) && o->rsa_plain == (slot == V_RSA_D);
}

static uint16_t rsa_import(const struct command *c, struct object *o)
{
    for (size_t i = 0; i < sizeof(rsa_slots) / sizeof(rsa_slots[0]); i++) {
        struct sim_bytes in = c->tlv.value[TAG_3 + i];
        enum value_slot slot = rsa_slots[i];

        if (!c->tlv.has[TAG_3 + i])
            continue;
        while (in.len > 0 && in.ptr[0] == 0) { /* senders add one to make the length even */
            in.ptr++;
            in.len--;
        }
        if (in.len == 0 || in.len > component_max(o, slot) || !component_expected(o, slot) ||
            (slot == V_RSA_N && in.len != o->size / 8u))
            return SW_DATA;
        buf_set(&o->value[slot], in.ptr, in.len);
    }
    o->origin = ORIGIN_EXTERNAL;
    return SW_OK;
}

static void rsa_forget(struct object *o)
{
    for (size_t i = V_RSA_N; i < V_COUNT; i++)
        buf_clear(&o->value[i]);
}

static uint16_t rsa_fill(struct applet *a, const struct command *c, struct object *o, bool generate)
{
    if (!generate) {
        if (object_ready(o)) /* the first component of another key */
            rsa_forget(o);
        return rsa_import(c, o);
    }
    if (o->part != PART_PAIR)
        return SW_DATA;
    rsa_forget(o);
    o->origin = ORIGIN_INTERNAL;
    return pkey_generate_rsa(a, o) ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_write_rsa(struct applet *a, struct command *c)
{
    bool generate = !has_component(c), is_new;
    struct object *o;
    uint16_t sw;

    if (!(a->p.config & 0x0060))
        return generate ? SW_CONDITIONS : SW_DATA;
    if ((sw = begin(a, c, KIND_RSA, generate ? ALLOW_GEN : ALLOW_WRITE, &o, &is_new)) != SW_OK)
        return sw;
    if (is_new) {
        o->part = c->apdu->p1 & PART_PAIR;
        o->rsa_plain = c->apdu->p2 == 0x4F;
    }
    if (o->part == 0)
        sw = SW_DATA;
    if (sw == SW_OK)
        sw = rsa_size(c, o, is_new);
    if (sw == SW_OK)
        sw = rsa_allowed(a, o, generate);
    if (sw == SW_OK)
        sw = rsa_fill(a, c, o, generate);
    return finish(a, o, sw);
}

/* ---- export and import of transient objects ----------------------------------------------------------- */

enum { BLOB_IV_LEN = 12, BLOB_TAG_LEN = 16, COMPONENT_NONE = 0xFF };

static const enum value_slot component_slots[] = { V_RSA_N, V_RSA_E,  V_RSA_D,  V_RSA_P,
                                                   V_RSA_Q, V_RSA_DP, V_RSA_DQ, V_RSA_QINV };

static bool may_travel(const struct object *o)
{
    return o->transient && !o->is_auth &&
           (o->kind == KIND_EC || o->kind == KIND_RSA || o->kind == KIND_AES || o->kind == KIND_DES);
}

/* The slots that belong to a component: the one of an RSA key, or all of another key. */
static bool in_component(const struct object *o, uint32_t component, size_t slot)
{
    if (o->kind == KIND_RSA)
        return component < sizeof(component_slots) / sizeof(component_slots[0]) &&
               component_slots[component] == slot;
    return component == COMPONENT_NONE && (slot == V_DATA || slot == V_PUBLIC);
}

/* AES-256-GCM under the chip's own key: iv, text, tag; bound to id, kind and component */
static bool blob_crypt(struct applet *a, const struct object *o, uint32_t component, bool encrypt,
                       struct sim_bytes in, uint8_t *iv, uint8_t *tag, uint8_t *out)
{
    uint8_t aad[8] = { 0, 0, 0, 0, o->kind, o->part, o->curve, (uint8_t)component };
    EVP_CIPHER *gcm = EVP_CIPHER_fetch(a->libctx, "AES-256-GCM", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok;

    put_be(aad, o->id, 4);
    ok = gcm != NULL && ctx != NULL && EVP_CipherInit_ex2(ctx, gcm, a->export_key, iv, encrypt, NULL) == 1 &&
         (encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, BLOB_TAG_LEN, tag) == 1) &&
         EVP_CipherUpdate(ctx, NULL, &len, aad, sizeof(aad)) == 1 &&
         EVP_CipherUpdate(ctx, out, &len, in.ptr, (int)in.len) == 1 &&
         EVP_CipherFinal_ex(ctx, out + in.len, &len) == 1 &&
         (!encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, BLOB_TAG_LEN, tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(gcm);
    return ok;
}

uint16_t ins_export_object(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);
    struct buf plain = { NULL, 0 }, blob = { NULL, 0 };
    uint32_t component;
    bool ok;

    if (!tlv_uint_or(&c->tlv, TAG_2, 1, COMPONENT_NONE, &component))
        return SW_DATA;
    if (o == NULL || !may_travel(o) || !object_ready(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_IMPORT_EXPORT))
        return SW_DENIED;
    for (size_t i = 0; i < V_COUNT; i++)
        if (in_component(o, component, i) && o->value[i].len > 0) {
            buf_append(&plain,
                       (uint8_t[]){ (uint8_t)i, (uint8_t)(o->value[i].len >> 8), (uint8_t)o->value[i].len },
                       3);
            buf_append(&plain, o->value[i].ptr, o->value[i].len);
        }
    buf_zero(&blob, BLOB_IV_LEN + plain.len + BLOB_TAG_LEN);
    ok = plain.len > 0 && random_bytes(a, blob.ptr, BLOB_IV_LEN) &&
         blob_crypt(a, o, component, true, buf_view(&plain), blob.ptr, blob.ptr + BLOB_IV_LEN + plain.len,
                    blob.ptr + BLOB_IV_LEN);
    if (ok)
        put_bytes(c->out, TAG_1, blob.ptr, blob.len);
    buf_clear(&plain);
    buf_clear(&blob);
    return ok ? SW_OK : SW_CONDITIONS;
}

static bool take_values(struct object *o, struct sim_bytes in)
{
    while (in.len >= 3) {
        size_t len = (size_t)in.ptr[1] << 8 | in.ptr[2];

        if (in.ptr[0] >= V_COUNT || len > in.len - 3)
            return false;
        buf_set(&o->value[in.ptr[0]], in.ptr + 3, len);
        in.ptr += 3 + len;
        in.len -= 3 + len;
    }
    return in.len == 0;
}

uint16_t ins_import_object(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);
    struct sim_bytes blob = c->tlv.value[TAG_3];
    uint8_t iv[BLOB_IV_LEN], tag[BLOB_TAG_LEN];
    struct object *draft;
    struct buf plain = { NULL, 0 };
    uint32_t component;
    bool ok;

    if (!tlv_uint_or(&c->tlv, TAG_2, 1, COMPONENT_NONE, &component) || blob.len <= BLOB_IV_LEN + BLOB_TAG_LEN)
        return SW_DATA;
    if (o == NULL || !may_travel(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_IMPORT_EXPORT))
        return SW_DENIED;
    memcpy(iv, blob.ptr, sizeof(iv));
    memcpy(tag, blob.ptr + blob.len - sizeof(tag), sizeof(tag));
    buf_zero(&plain, blob.len - BLOB_IV_LEN - BLOB_TAG_LEN);
    draft = object_copy(o);
    ok = blob_crypt(a, o, component, false, (struct sim_bytes){ blob.ptr + BLOB_IV_LEN, plain.len }, iv, tag,
                    plain.ptr) &&
         take_values(draft, buf_view(&plain));
    buf_clear(&plain);
    return finish(a, draft, ok ? SW_OK : SW_DATA);
}
