/* SPDX-License-Identifier: Apache-2.0 */
/* Writing RSA keys, section 3.3: one component per command, or all by the chip. */
#include "applet.h"

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
    if (o->part != PART_PUBLIC && !(a->p.config & (o->rsa_plain ? 0x0020 : 0x0040)))
        return SW_CONDITIONS;
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
    if ((sw = write_begin(a, c, KIND_RSA, generate ? ALLOW_GEN : ALLOW_WRITE, &o, &is_new)) != SW_OK)
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
    return write_finish(a, o, sw);
}
