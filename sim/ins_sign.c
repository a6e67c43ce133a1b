/* SPDX-License-Identifier: Apache-2.0 */
/* Private and public operations of EC and RSA keys, sections 3.5 to 3.7. */
#include "applet.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/objects.h>

#include <string.h>

/* ---- signatures --------------------------------------------------------------------------------------- */

static uint16_t signature_key(const struct applet *a, const struct command *c, uint32_t right,
                              struct object **o)
{
    *o = command_object(a, c, TAG_1);
    return command_key(a, c, TAG_1, *o != NULL && (*o)->kind == KIND_RSA ? KIND_RSA : KIND_EC, right, o);
}

/* PSS with a salt of its own length: 7.x only */
static uint16_t salt_len(const struct applet *a, const struct command *c, int *len)
{
    *len = -1;
    if (!c->tlv.has[TAG_4])
        return SW_OK;
    if (!a->p.v7)
        return SW_DATA;
    *len = (int)c->tlv.value[TAG_4].len;
    return SW_OK;
}

uint16_t ins_sign(struct applet *a, struct command *c)
{
    uint8_t sig[SIGNATURE_MAX];
    size_t len = sizeof(sig);
    struct object *o;
    uint32_t algo;
    uint16_t sw;
    int salt;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &algo) || !c->tlv.has[TAG_3])
        return SW_DATA;
    if ((sw = signature_key(a, c, ALLOW_SIGN, &o)) != SW_OK || (sw = salt_len(a, c, &salt)) != SW_OK)
        return sw;
    if ((sw = pkey_sign(a, o, (uint8_t)algo, c->tlv.value[TAG_3], salt, sig, &len)) == SW_OK)
        put_bytes(c->out, TAG_1, sig, len);
    return sw;
}

uint16_t ins_verify(struct applet *a, struct command *c)
{
    bool good = false;
    struct object *o;
    uint32_t algo;
    uint16_t sw;
    int salt;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &algo) || !c->tlv.has[TAG_3] || !c->tlv.has[TAG_5])
        return SW_DATA;
    if ((sw = signature_key(a, c, ALLOW_VERIFY, &o)) != SW_OK || (sw = salt_len(a, c, &salt)) != SW_OK)
        return sw;
    sw = pkey_verify(a, o, (uint8_t)algo, c->tlv.value[TAG_3], salt, c->tlv.value[TAG_5], &good);
    if (sw == SW_OK)
        put_u8(c->out, TAG_1, good ? 1 : 2);
    return sw;
}

/* ---- key agreement ------------------------------------------------------------------------------------ */

/* The peer: bytes in T2, or (7.x) the public key of the object in T3 */
static uint16_t agreement_peer(const struct applet *a, const struct command *c, const struct object *mine,
                               struct sim_bytes *peer)
{
    const struct object *o;

    *peer = c->tlv.value[TAG_2];
    if (c->tlv.has[TAG_2])
        return SW_OK;
    if (!a->p.v7 || !c->tlv.has[TAG_3])
        return SW_DATA;
    o = command_object(a, c, TAG_3);
    if (o == NULL || o->kind != KIND_EC || o->curve != mine->curve || !(o->part & PART_PUBLIC) ||
        !object_ready(o))
        return SW_CONDITIONS;
    *peer = buf_view(&o->value[V_PUBLIC]);
    return SW_OK;
}

/* T4: SHA-1 of the secret, or the secret */
static uint16_t agreement_format(struct applet *a, const struct command *c, uint8_t *secret, size_t *len)
{
    uint32_t algo;

    if (!tlv_uint_or(&c->tlv, TAG_4, 1, 0x03, &algo) || (algo != 0x01 && algo != 0x03))
        return SW_DATA;
    if (algo == 0x01 && EVP_Q_digest(a->libctx, "SHA1", NULL, secret, *len, secret, len) != 1)
        return SW_CONDITIONS;
    return SW_OK;
}

static uint16_t agreement_deliver(struct applet *a, struct command *c, const struct object *o,
                                  struct sim_bytes secret)
{
    if (c->tlv.has[TAG_7])
        return a->p.v7 ? store_derived(a, c, TAG_7, o, secret) : SW_DATA;
    if (policy_restricts(a, o, c->who, FORBID_DERIVED_OUTPUT))
        return SW_DENIED;
    put_bytes(c->out, TAG_1, secret.ptr, secret.len);
    return SW_OK;
}

/* rfc_order: as DH_REVERSE stores it; else Montgomery secrets are big-endian integers like all else */
static uint16_t agree(struct applet *a, struct command *c, bool rfc_order)
{
    uint8_t secret[POINT_MAX], chip[POINT_MAX];
    size_t len = sizeof(secret);
    struct sim_bytes peer;
    struct object *o;
    uint16_t sw;

    if (is_fips(a))
        return SW_CONDITIONS;
    if ((sw = command_key(a, c, TAG_1, KIND_EC, ALLOW_KA, &o)) != SW_OK ||
        (sw = agreement_peer(a, c, o, &peer)) != SW_OK)
        return sw;
    if (!pkey_agree(a, o, peer, secret, &len))
        return SW_CONDITIONS;
    if (is_weierstrass(o->curve) || rfc_order)
        memcpy(chip, secret, len);
    else
        reverse(chip, (struct sim_bytes){ secret, len });
    if ((sw = agreement_format(a, c, chip, &len)) == SW_OK)
        sw = agreement_deliver(a, c, o, (struct sim_bytes){ chip, len });
    OPENSSL_cleanse(secret, sizeof(secret));
    OPENSSL_cleanse(chip, sizeof(chip));
    return sw;
}

uint16_t ins_ecdh(struct applet *a, struct command *c)
{
    return agree(a, c, false);
}

/* Only for Montgomery curves and into an object */
uint16_t ins_ecdh_reverse(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);

    if (!c->tlv.has[TAG_7])
        return SW_DATA;
    if (o == NULL || o->kind != KIND_EC || is_weierstrass(o->curve))
        return SW_CONDITIONS;
    return agree(a, c, true);
}

/* ---- point multiplication ----------------------------------------------------------------------------- */

enum { ECPM_PACE_GM = 0x05, ECPM_XY = 0x06 };

static bool multiply(struct applet *a, const struct object *key, const struct object *point, uint8_t *out)
{
    const struct curve_info *info = curve_info(key->curve);
    EC_GROUP *group = EC_GROUP_new_by_curve_name_ex(a->libctx, NULL, OBJ_txt2nid(info->group));
    BIGNUM *d = BN_bin2bn(key->value[V_DATA].ptr, (int)key->value[V_DATA].len, NULL);
    EC_POINT *p = group == NULL ? NULL : EC_POINT_new(group);
    size_t len = curve_public_len(info);
    bool ok =
        p != NULL && d != NULL &&
        EC_POINT_oct2point(group, p, point->value[V_PUBLIC].ptr, point->value[V_PUBLIC].len, NULL) == 1 &&
        EC_POINT_mul(group, p, NULL, p, d, NULL) == 1 &&
        EC_POINT_point2oct(group, p, POINT_CONVERSION_UNCOMPRESSED, out, len, NULL) == len;

    EC_POINT_clear_free(p);
    BN_clear_free(d);
    EC_GROUP_free(group);
    return ok;
}

/* X and Y of private key times the other object's point. PACE's generic mapping gives a point too, by facts
 * that are not public; it is not offered. */
uint16_t ins_ecpm(struct applet *a, struct command *c)
{
    const struct object *point = command_object(a, c, TAG_3);
    uint8_t out[POINT_MAX];
    struct object *o;
    uint32_t algo;
    size_t len;
    uint16_t sw;

    if (is_fips(a))
        return SW_CONDITIONS;
    if (!tlv_uint(&c->tlv, TAG_4, 1, &algo) || (algo != ECPM_PACE_GM && algo != ECPM_XY))
        return SW_DATA;
    if ((sw = command_key(a, c, TAG_1, KIND_EC, ALLOW_KA, &o)) != SW_OK)
        return sw;
    if (algo != ECPM_XY || point == NULL || point->kind != KIND_EC || point->curve != o->curve ||
        !(point->part & PART_PUBLIC) || !object_ready(point) || !object_has_private(o) ||
        !is_weierstrass(o->curve) || !curve_usable(a, o->curve) || !multiply(a, o, point, out))
        return SW_CONDITIONS;
    spend(a, TIME_ECDH + curve_info(o->curve)->time_class);
    len = curve_public_len(curve_info(o->curve)) - 1; /* without the 04 */
    sw = agreement_deliver(a, c, o, (struct sim_bytes){ out + 1, len });
    OPENSSL_cleanse(out, sizeof(out));
    return sw;
}

/* ---- RSA encryption ----------------------------------------------------------------------------------- */

static uint16_t rsa_crypt(struct applet *a, struct command *c, bool encrypt)
{
    uint8_t out[SIGNATURE_MAX];
    size_t len = sizeof(out);
    struct object *o;
    uint32_t algo;
    uint16_t sw;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &algo) || !c->tlv.has[TAG_3])
        return SW_DATA;
    if ((sw = command_key(a, c, TAG_1, KIND_RSA, encrypt ? ALLOW_ENC : ALLOW_DEC, &o)) != SW_OK)
        return sw;
    if ((sw = pkey_rsa_crypt(a, o, (uint8_t)algo, encrypt, c->tlv.value[TAG_3], out, &len)) == SW_OK)
        put_bytes(c->out, TAG_1, out, len);
    OPENSSL_cleanse(out, sizeof(out));
    return sw;
}

uint16_t ins_rsa_encrypt(struct applet *a, struct command *c)
{
    return rsa_crypt(a, c, true);
}

uint16_t ins_rsa_decrypt(struct applet *a, struct command *c)
{
    return rsa_crypt(a, c, false);
}
