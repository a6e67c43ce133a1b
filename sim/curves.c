/* SPDX-License-Identifier: Apache-2.0 */
/* The curves of section 4.1 and the commands that make and remove them (3.10). */
#include "applet.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/objects.h>

#include <string.h>

static const struct curve_info curves[] = {
    { 0x01, "prime192v1", 24, 24, 0x21, 0 },
    { 0x02, "secp224r1", 28, 28, 0x25, 0 },
    { 0x03, "prime256v1", 32, 32, 0x29, 1 },
    { 0x04, "secp384r1", 48, 48, 0x2D, 2 },
    { 0x05, "secp521r1", 66, 66, 0x31, 3 },
    { 0x06, "brainpoolP160r1", 20, 20, 0x35, 0 },
    { 0x07, "brainpoolP192r1", 24, 24, 0x39, 0 },
    { 0x08, "brainpoolP224r1", 28, 28, 0x3D, 0 },
    { 0x09, "brainpoolP256r1", 32, 32, 0x41, 1 },
    { 0x0A, "brainpoolP320r1", 40, 40, 0x45, 2 },
    { 0x0B, "brainpoolP384r1", 48, 48, 0x49, 2 },
    { 0x0C, "brainpoolP512r1", 64, 64, 0x4D, 3 },
    { 0x0D, "secp160k1", 20, 21, 0x51, 0 },
    { 0x0E, "secp192k1", 24, 24, 0x55, 0 },
    { 0x0F, "secp224k1", 28, 29, 0x59, 0 },
    { 0x10, "secp256k1", 32, 32, 0x5D, 1 },
    /* 11, TPM_BN_P256, is for ECDAA; libcrypto has no such group and the simulator does not offer it */
    { CURVE_ED25519, "ED25519", 32, 32, 0x65, 1 },
    { CURVE_X25519, "X25519", 32, 32, 0x69, 1 },
    { CURVE_X448, "X448", 56, 56, 0x71, 2 },
};

const struct curve_info *curve_info(uint8_t id)
{
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
        if (curves[i].id == id)
            return &curves[i];
    return NULL;
}

bool is_weierstrass(uint8_t id)
{
    return id <= CURVE_MAX;
}

size_t curve_public_len(const struct curve_info *c)
{
    return is_weierstrass(c->id) ? 1 + 2 * (size_t)c->field_len : c->field_len;
}

bool curve_usable(const struct applet *a, uint8_t id)
{
    const struct curve_info *info = curve_info(id);

    if (info == NULL)
        return false;
    if (id == CURVE_ED25519)
        return (a->p.config & 0x0004) != 0;
    if (!is_weierstrass(id))
        return (a->p.config & 0x0008) != 0;
    return a->curves[id].created && a->curves[id].set == (1 << CURVE_PARAMS) - 1;
}

size_t curve_param_len(const struct curve_info *c, size_t index)
{
    return index == 2 ? curve_public_len(c) : index == 3 ? c->order_len : c->field_len;
}

static bool put_bn(struct buf *b, const BIGNUM *n, size_t len)
{
    buf_zero(b, len);
    return n != NULL && BN_bn2binpad(n, b->ptr, (int)len) == (int)len;
}

bool curve_standard(struct applet *a, const struct curve_info *c, struct buf params[CURVE_PARAMS])
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name_ex(a->libctx, NULL, OBJ_txt2nid(c->group));
    BIGNUM *p = BN_new(), *ca = BN_new(), *cb = BN_new();
    bool ok = group != NULL && p != NULL && ca != NULL && cb != NULL &&
              EC_GROUP_get_curve(group, p, ca, cb, NULL) == 1 && put_bn(&params[0], ca, c->field_len) &&
              put_bn(&params[1], cb, c->field_len) &&
              put_bn(&params[3], EC_GROUP_get0_order(group), c->order_len) &&
              put_bn(&params[4], p, c->field_len);

    if (ok) {
        buf_zero(&params[2], curve_public_len(c));
        ok = EC_POINT_point2oct(group, EC_GROUP_get0_generator(group), POINT_CONVERSION_UNCOMPRESSED,
                                params[2].ptr, params[2].len, NULL) == params[2].len;
    }
    BN_free(p);
    BN_free(ca);
    BN_free(cb);
    EC_GROUP_free(group);
    return ok;
}

/* ---- commands
 * ------------------------------------------------------------------------------------------------- */

static void curve_wipe(struct applet *a, uint8_t id)
{
    for (size_t i = 0; i < CURVE_PARAMS; i++)
        buf_clear(&a->curves[id].param[i]);
    a->curves[id].set = 0;
    a->dirty = true;
}

uint16_t ins_curve_create(struct applet *a, struct command *c)
{
    uint32_t id;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &id))
        return SW_DATA;
    if (curve_info((uint8_t)id) == NULL)
        return SW_CONDITIONS;
    if (!is_weierstrass((uint8_t)id)) /* always there, and hosts that create them look for no error */
        return SW_OK;
    if (a->curves[id].created && a->p.v7)
        return SW_CONDITIONS;
    a->curves[id].created = true;
    curve_wipe(a, (uint8_t)id); /* 3.x: also the parameters of a complete curve */
    return SW_OK;
}

static int param_index(uint32_t bit)
{
    static const uint8_t bits[CURVE_PARAMS] = { 0x01, 0x02, 0x04, 0x08, 0x10 };

    for (int i = 0; i < CURVE_PARAMS; i++)
        if (bits[i] == bit)
            return i;
    return -1;
}

static bool params_are_standard(struct applet *a, const struct curve_info *info, const struct curve *curve)
{
    struct buf standard[CURVE_PARAMS] = { { NULL, 0 } };
    bool same = curve_standard(a, info, standard);

    for (size_t i = 0; i < CURVE_PARAMS; i++) {
        same = same && bytes_equal(buf_view(&standard[i]), buf_view(&curve->param[i]));
        buf_clear(&standard[i]);
    }
    return same;
}

uint16_t ins_curve_param(struct applet *a, struct command *c)
{
    const struct curve_info *info;
    struct sim_bytes value = c->tlv.value[TAG_3];
    struct curve *curve;
    uint32_t id, bit;
    int index;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &id) || !tlv_uint(&c->tlv, TAG_2, 1, &bit) ||
        (index = param_index(bit)) < 0)
        return SW_DATA;
    info = curve_info((uint8_t)id);
    if (info == NULL || !is_weierstrass(info->id) || !a->curves[id].created)
        return SW_CONDITIONS;
    curve = &a->curves[id];
    if (curve->set & (1 << index))
        return SW_CONDITIONS;
    if (value.len != curve_param_len(info, (size_t)index))
        return SW_DATA;
    if (value.len > memory_persistent_free(a))
        return SW_MEMORY;
    buf_set(&curve->param[index], value.ptr, value.len);
    curve->set |= (uint8_t)(1 << index);
    a->dirty = true;
    if (curve->set == (1 << CURVE_PARAMS) - 1 && !params_are_standard(a, info, curve)) {
        curve_wipe(a, info->id);
        return SW_DATA;
    }
    return SW_OK;
}

uint16_t ins_curve_list(struct applet *a, struct command *c)
{
    uint8_t list[CURVE_MAX];

    for (size_t i = 0; i < CURVE_MAX; i++)
        list[i] = a->curves[i + 1].created ? 2 : 1;
    put_bytes(c->out, TAG_1, list, sizeof(list));
    return SW_OK;
}

uint16_t ins_curve_of(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);

    if (o == NULL || o->kind != KIND_EC)
        return SW_CONDITIONS;
    put_u8(c->out, TAG_1, o->curve);
    return SW_OK;
}

uint16_t ins_curve_delete(struct applet *a, struct command *c)
{
    uint32_t id;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &id))
        return SW_DATA;
    if (id == 0 || id > CURVE_MAX || !a->curves[id].created)
        return SW_CONDITIONS;
    curve_wipe(a, (uint8_t)id);
    a->curves[id].created = false;
    return SW_OK;
}
