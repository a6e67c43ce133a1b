/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: which kinds the chip can have, curves, public keys, generation. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/objects.h>

#define PROPQ "provider=default"

void se05x_reverse(uint8_t *out, const uint8_t *in, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++)
        out[i] = in[len - 1 - i];
}

static bool is_rsa(const struct hsm_key_kind *kind)
{
    return kind->type == HSM_KEY_RSA || kind->type == HSM_KEY_RSA_PSS;
}

/* ---- which kinds -----------------------------------------------------------------------------------------
 */

static bool chip_has(const struct se05x_caps *caps, const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_RSA:
    case HSM_KEY_RSA_PSS:
        return caps->has_rsa;
    case HSM_KEY_EC:
        return caps->has_ec;
    case HSM_KEY_ED25519:
        return caps->has_ed25519;
    case HSM_KEY_X25519:
    case HSM_KEY_X448:
        return caps->has_x25519;
    default:
        return false;
    }
}

hsm_status se05x_kind_check(const struct se05x_token *t, const struct hsm_key_kind *kind)
{
    char name[32];

    if (!chip_has(&t->caps, kind))
        return hsm_fail(HSM_ERR_KEY_TYPE, "%s: this chip (applet %u.%u.%u) cannot have keys of type %s",
                        t->where, t->caps.version[0], t->caps.version[1], t->caps.version[2],
                        hsm_kind_format(kind, name));
    if (is_rsa(kind) && kind->bits != 2048 && kind->bits != 3072 && kind->bits != 4096)
        return hsm_fail(HSM_ERR_KEY_TYPE, "%s: RSA with %u bits: the chip takes 2048, 3072 or 4096", t->where,
                        kind->bits);
    return HSM_OK;
}

/* ---- curves ----------------------------------------------------------------------------------------------
 */

/* @p filled: NULL, or set if the chip took the parameter; that it refuses what it has is no failure then. */
static hsm_status set_param(struct se05x_token *t, uint8_t curve, enum se05x_curve_param param,
                            struct hsm_bytes value, bool *filled)
{
    uint16_t sw;
    hsm_status st = se05x_curve_set_param(t, curve, param, value, &sw);

    if (filled != NULL && st == HSM_OK) {
        *filled = *filled || sw == SE05X_SW_OK;
        sw = SE05X_SW_OK;
    }
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "a curve parameter");
}

static hsm_status set_number(struct se05x_token *t, uint8_t curve, enum se05x_curve_param param,
                             const BIGNUM *value, size_t len, bool *filled)
{
    uint8_t bytes[HSM_POINT_MAX];

    if (len > sizeof(bytes) || BN_bn2binpad(value, bytes, (int)len) != (int)len)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot write a curve parameter");
    return set_param(t, curve, param, (struct hsm_bytes){ bytes, len }, filled);
}

/* In NXP's own order; the chip checks them when the fifth arrives. */
static hsm_status set_params(struct se05x_token *t, uint8_t curve, const EC_GROUP *group, size_t len,
                             bool *filled)
{
    BIGNUM *p = BN_new(), *a = BN_new(), *b = BN_new();
    uint8_t g[HSM_POINT_MAX];
    size_t g_len = EC_POINT_point2oct(group, EC_GROUP_get0_generator(group), POINT_CONVERSION_UNCOMPRESSED, g,
                                      sizeof(g), NULL);
    hsm_status st;

    if (p == NULL || a == NULL || b == NULL || g_len == 0 || EC_GROUP_get_curve(group, p, a, b, NULL) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot read a curve's parameters");
    else if ((st = set_number(t, curve, SE05X_CURVE_A, a, len, filled)) == HSM_OK &&
             (st = set_number(t, curve, SE05X_CURVE_B, b, len, filled)) == HSM_OK &&
             (st = set_param(t, curve, SE05X_CURVE_G, (struct hsm_bytes){ g, g_len }, filled)) == HSM_OK &&
             (st = set_number(t, curve, SE05X_CURVE_N, EC_GROUP_get0_order(group), len, filled)) == HSM_OK)
        st = set_number(t, curve, SE05X_CURVE_P, p, len, filled);
    BN_free(p);
    BN_free(a);
    BN_free(b);
    return st;
}

static hsm_status make_curve(struct se05x_token *t, const struct hsm_curve_info *info, uint8_t curve)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name_ex(t->libctx, PROPQ, OBJ_sn2nid(info->group_name));
    bool set[SE05X_CURVE_LIST_LEN] = { false };
    uint16_t sw = 0;
    hsm_status st;

    if (group == NULL)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no such curve in libcrypto");
    st = se05x_curve_create(t, curve, &sw);
    if (st == HSM_ERR_TOKEN_IO && se05x_maybe_executed(t) && se05x_curve_list(t, set, &sw) == HSM_OK &&
        sw == SE05X_SW_OK)
        st = set[curve - 1] ? HSM_OK : se05x_curve_create(t, curve, &sw);
    if (st == HSM_OK && sw != SE05X_SW_OK)
        st = se05x_refused(t, sw, "the creation of a curve");
    if (st == HSM_OK && (st = set_params(t, curve, group, (info->bits + 7) / 8, NULL)) != HSM_OK) {
        hsm_status deleted =
            se05x_curve_delete(t, curve, &sw); /* a curve without parameters would look complete */

        (void)deleted;
    }
    EC_GROUP_free(group);
    return st;
}

/* Never CreateECCurve for a curve that is there: applet 3.1.1 would wipe its parameters. */
hsm_status se05x_curve_ensure(struct se05x_token *t, const struct hsm_key_kind *kind)
{
    const struct hsm_curve_info *info = hsm_curve_info(kind->curve);
    uint8_t curve = se05x_curve_of(kind);
    bool set[SE05X_CURVE_LIST_LEN] = { false };
    uint16_t sw;
    hsm_status st;

    if (kind->type != HSM_KEY_EC || info == NULL || curve == 0)
        return HSM_OK;
    if ((st = se05x_curve_list(t, set, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return se05x_refused(t, sw, "the list of curves");
    return set[curve - 1] ? HSM_OK : make_curve(t, info, curve);
}

/* If the power failed before the last parameter, the curve is listed all the same. */
hsm_status se05x_curve_complete(struct se05x_token *t, const struct hsm_key_kind *kind, bool *filled)
{
    const struct hsm_curve_info *info = hsm_curve_info(kind->curve);
    EC_GROUP *group;
    hsm_status st;

    *filled = false;
    if (kind->type != HSM_KEY_EC || info == NULL)
        return HSM_OK;
    if ((group = EC_GROUP_new_by_curve_name_ex(t->libctx, PROPQ, OBJ_sn2nid(info->group_name))) == NULL)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no such curve in libcrypto");
    st = set_params(t, se05x_curve_of(kind), group, (info->bits + 7) / 8, filled);
    EC_GROUP_free(group);
    return st;
}

/* ---- public keys -----------------------------------------------------------------------------------------
 */

static struct hsm_bytes without_zeros(const struct hsm_buf *b)
{
    struct hsm_bytes out = { b->ptr, b->len };

    for (; out.len > 1 && out.ptr[0] == 0; out.len--)
        out.ptr++;
    return out;
}

static hsm_status answered(const struct se05x_token *t, hsm_status st, uint16_t sw)
{
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    return sw == SE05X_SW_CONDITIONS ? HSM_ERR_NO_OBJECT : se05x_refused(t, sw, "reading a public key");
}

static hsm_status rsa_spki(struct se05x_token *t, uint32_t id, const struct hsm_key_kind *kind,
                           struct hsm_bytes pss_params, struct hsm_buf *spki)
{
    uint8_t n[HSM_SIGNATURE_MAX + 1], e[16];
    struct hsm_buf n_out = { n, sizeof(n), 0 }, e_out = { e, sizeof(e), 0 };
    struct hsm_pubkey pub = { .kind = *kind };
    uint16_t sw;
    hsm_status st;

    st = se05x_read_rsa(t, id, SE05X_RSA_MODULUS, &n_out, &sw);
    if ((st = answered(t, st, sw)) != HSM_OK)
        return st;
    st = se05x_read_rsa(t, id, SE05X_RSA_EXPONENT, &e_out, &sw);
    if ((st = answered(t, st, sw)) != HSM_OK)
        return st;
    pub.n = without_zeros(&n_out);
    pub.e = without_zeros(&e_out);
    pub.pss_params = pss_params;
    return hsm_pubkey_encode(&pub, spki);
}

hsm_status se05x_key_spki(struct se05x_token *t, uint32_t id, const struct hsm_key_kind *kind,
                          struct hsm_bytes pss_params, struct hsm_buf *spki)
{
    uint8_t raw[HSM_POINT_MAX], turned[HSM_POINT_MAX];
    struct hsm_buf out = { raw, sizeof(raw), 0 };
    struct hsm_pubkey pub = { .kind = *kind };
    size_t field = (kind->bits + 7) / 8, expect = kind->type == HSM_KEY_EC ? 1 + 2 * field : field;
    uint16_t sw;
    hsm_status st;

    if (is_rsa(kind))
        return rsa_spki(t, id, kind, pss_params, spki);
    st = se05x_read_object(t, SE05X_ANYBODY, id, 0, 0, expect, &out, &sw);
    if ((st = answered(t, st, sw)) != HSM_OK)
        return st;
    pub.point = (struct hsm_bytes){ raw, out.len };
    if (kind->type != HSM_KEY_EC) {
        se05x_reverse(turned, raw, out.len);
        pub.point.ptr = turned;
    }
    if (out.len != expect)
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: a public key of %zu bytes, not of %zu", t->where, out.len,
                        expect);
    return hsm_pubkey_encode(&pub, spki);
}

hsm_status se05x_describe_key(struct se05x_token *t, const struct hsm_object_spec *spec,
                              struct se05x_record *r)
{
    struct hsm_object *o = &r->obj;
    struct hsm_pubkey pub;
    hsm_status st;

    if ((st = hsm_pubkey_parse((struct hsm_bytes){ o->spki, o->spki_len }, &pub)) != HSM_OK)
        return st;
    if (pub.kind.type != o->kind.type || pub.kind.bits != o->kind.bits)
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip made another key than it was told to", t->where);
    if (o->id_len > 0)
        return HSM_OK;
    o->id_len = HSM_KEY_ID_LEN;
    return hsm_spki_id(t->libctx, (struct hsm_bytes){ o->spki, o->spki_len }, o->id);
}

/* ---- generation ------------------------------------------------------------------------------------------
 */

static hsm_status generate_once(struct se05x_token *t, const struct se05x_creation *c, uint16_t *sw)
{
    const struct hsm_key_kind *kind = &c->record.obj.kind;
    struct hsm_bytes none = { NULL, 0 };

    if (is_rsa(kind))
        return se05x_write_rsa(t, &c->write, SE05X_PART_PAIR, t->caps.has_rsa_crt, (uint16_t)kind->bits,
                               SE05X_RSA_TAG_NONE, none, sw);
    return se05x_write_ec(t, &c->write, SE05X_PART_PAIR, se05x_curve_of(kind), none, none, sw);
}

/* If the answer was lost, the key may be there all the same. */
static hsm_status generate_surely(struct se05x_token *t, const struct se05x_creation *c, uint16_t *sw)
{
    unsigned tries = 0;
    bool exists = false;
    hsm_status st;

    do {
        st = generate_once(t, c, sw);
        if (!se05x_unsure(t, st, c->record.value_id, &exists))
            break;
        if (exists) {
            *sw = SE05X_SW_OK;
            return HSM_OK;
        }
    } while (++tries < 2);
    return st;
}

static hsm_status generate_value(struct se05x_token *t, const struct se05x_creation *c)
{
    char kind[32], what[64] = "a key of type ";
    bool filled = false;
    uint16_t sw = 0;
    hsm_status st = generate_surely(t, c, &sw);

    if (st == HSM_OK && sw == SE05X_SW_CONDITIONS &&
        (st = se05x_curve_complete(t, &c->record.obj.kind, &filled)) == HSM_OK && filled)
        st = generate_surely(t, c, &sw);
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    (void)strncat(what, hsm_kind_format(&c->record.obj.kind, kind), sizeof(what) - strlen(what) - 1);
    if (sw == SE05X_SW_CONDITIONS) /* the id is free and the curve there: the feature is off */
        return hsm_fail(HSM_ERR_KEY_TYPE, "%s: the chip does not make %s", t->where, what);
    return se05x_refused(t, sw, what);
}

static hsm_status may_create(struct se05x_token *t, const struct hsm_object_spec *spec)
{
    unsigned possible = hsm_kind_usages(&spec->kind);
    char kind[32], usage[96];

    if ((spec->usage & ~possible) != 0)
        return hsm_fail(HSM_ERR_USAGE, "a key of type %s can only be used for %s",
                        hsm_kind_format(&spec->kind, kind), hsm_usage_format(possible, usage));
    if (spec->extractable)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "%s: private keys never leave the chip: make it without --extractable", t->where);
    return se05x_kind_check(t, &spec->kind);
}

hsm_status se05x_generate(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle)
{
    struct se05x_token *t = se05x_of(tok);
    struct se05x_creation *c = NULL;
    struct hsm_buf spki;
    hsm_status st;

    if ((st = may_create(t, spec)) != HSM_OK)
        return st;
    if ((c = malloc(sizeof(*c))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for '%s'", spec->label);
    if ((st = se05x_creation_begin(t, spec, HSM_CLASS_KEY, HSM_ORIGIN_GENERATED, &spec->kind, false, c)) !=
        HSM_OK)
        goto out;
    spki = (struct hsm_buf){ c->record.obj.spki, sizeof(c->record.obj.spki), 0 };
    if ((st = generate_value(t, c)) == HSM_OK) {
        st = se05x_key_spki(t, c->record.value_id, &spec->kind, (struct hsm_bytes){ NULL, 0 }, &spki);
        if (st == HSM_ERR_NO_OBJECT)
            st = hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip lost a new key", t->where);
    }
    c->record.obj.spki_len = spki.len;
    if (st == HSM_OK)
        st = se05x_describe_key(t, spec, &c->record);
    st = se05x_creation_finish(t, c, st, handle);
out:
    free(c);
    return st;
}
