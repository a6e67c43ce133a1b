/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys that come from outside. They cross the bus: in clear unless a session or PlatformSCP03 is in
 * force. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

enum { SCALAR_MAX = 66 };

/** What a private key passes through. Secret memory. */
struct scratch {
    uint8_t scalar[SCALAR_MAX], number[HSM_SIGNATURE_MAX + 1];
};

static hsm_status taken(const struct se05x_token *t, hsm_status st, uint16_t sw)
{
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    if (sw == SE05X_SW_DATA || sw == SE05X_SW_CONDITIONS)
        return hsm_fail(HSM_ERR_KEY_TYPE, "%s: the chip does not take this private key (status %04x)",
                        t->where, sw);
    return se05x_refused(t, sw, "the import of a private key");
}

/* ---- elliptic curves -------------------------------------------------------------------------------------
 */

/* RFC 7748 section 5: what every implementation does to a scalar before it is used. */
static void clamp(enum hsm_key_type type, uint8_t *k)
{
    if (type == HSM_KEY_X25519) {
        k[0] &= 248;
        k[31] = (uint8_t)((k[31] & 127) | 64);
    } else {
        k[0] &= 252;
        k[55] |= 128;
    }
}

/* The chip wants field length and big-endian integers, but an Ed25519 seed as it is. */
static struct hsm_bytes chip_scalar(const struct pkcs8_private *priv, struct scratch *s)
{
    size_t len = pkcs8_scalar_len(&priv->kind), pad = len - priv->scalar.len;
    uint8_t clamped[SCALAR_MAX];

    memset(s->scalar, 0, sizeof(s->scalar));
    memcpy(s->scalar + pad, priv->scalar.ptr, priv->scalar.len);
    if (priv->kind.type == HSM_KEY_X25519 || priv->kind.type == HSM_KEY_X448) {
        memcpy(clamped, s->scalar, len);
        clamp(priv->kind.type, clamped);
        se05x_reverse(s->scalar, clamped, len);
        hsm_cleanse(clamped, sizeof(clamped));
    }
    return (struct hsm_bytes){ s->scalar, len };
}

static hsm_status import_ec(struct se05x_token *t, const struct se05x_creation *c,
                            const struct pkcs8_private *priv, struct hsm_bytes point, struct scratch *s)
{
    uint8_t turned[HSM_POINT_MAX];
    struct hsm_bytes scalar = chip_scalar(priv, s);
    unsigned tries = 0;
    bool exists = false, filled = false;
    uint16_t sw = 0;
    hsm_status st;

    if (priv->kind.type != HSM_KEY_EC) {
        se05x_reverse(turned, point.ptr, point.len);
        point.ptr = turned;
    }
    do {
        st = se05x_write_ec(t, &c->write, SE05X_PART_PAIR, se05x_curve_of(&priv->kind), scalar, point, &sw);
        if (st == HSM_OK && sw == SE05X_SW_CONDITIONS && !filled &&
            (st = se05x_curve_complete(t, &priv->kind, &filled)) == HSM_OK && filled)
            continue;
        if (!se05x_unsure(t, st, c->write.id, &exists))
            break;
        if (exists)
            return HSM_OK;
    } while (++tries < 2);
    return taken(t, st, sw);
}

/* ---- RSA: one component per command, usable when all are there
 * --------------------------------------------- */

struct component {
    enum se05x_rsa_tag tag;
    enum pkcs8_rsa_number number;
};

static const struct component crt_components[] = {
    { SE05X_RSA_TAG_P, RSA_P },   { SE05X_RSA_TAG_Q, RSA_Q },          { SE05X_RSA_TAG_DP, RSA_DP },
    { SE05X_RSA_TAG_DQ, RSA_DQ }, { SE05X_RSA_TAG_QINV, RSA_QI },      { SE05X_RSA_TAG_E, RSA_E },
    { SE05X_RSA_TAG_N, RSA_N },   { SE05X_RSA_TAG_NONE, RSA_NUMBERS },
};
static const struct component plain_components[] = {
    { SE05X_RSA_TAG_E, RSA_E },
    { SE05X_RSA_TAG_D, RSA_D },
    { SE05X_RSA_TAG_N, RSA_N },
    { SE05X_RSA_TAG_NONE, RSA_NUMBERS },
};

/* Fixed lengths: a CRT number may begin with a zero byte. All but the exponent have an even one. */
static struct hsm_bytes component_value(const struct pkcs8_private *priv, const struct component *c,
                                        struct scratch *s)
{
    struct hsm_bytes value = priv->rsa[c->number];
    size_t modulus = (priv->kind.bits + 7) / 8, len = modulus / 2;

    if (c->tag == SE05X_RSA_TAG_E)
        return value;
    if (c->tag == SE05X_RSA_TAG_N || c->tag == SE05X_RSA_TAG_D)
        len = modulus;
    if (value.len > len) /* primes of unequal length */
        len = value.len + (value.len & 1);
    if (len > sizeof(s->number))
        return value;
    memset(s->number, 0, len);
    memcpy(s->number + len - value.len, value.ptr, value.len);
    return (struct hsm_bytes){ s->number, len };
}

static hsm_status import_component(struct se05x_token *t, const struct se05x_write *w, bool first, bool crt,
                                   const struct pkcs8_private *priv, const struct component *c,
                                   struct scratch *s)
{
    unsigned tries = 0;
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    do {
        st = se05x_write_rsa(t, w, first ? SE05X_PART_PAIR : SE05X_PART_NONE, crt,
                             first ? (uint16_t)priv->kind.bits : 0, c->tag, component_value(priv, c, s), &sw);
        if (!first || !se05x_unsure(t, st, w->id, &exists))
            break;
        if (exists)
            return HSM_OK;
    } while (++tries < 2);
    return taken(t, st, sw);
}

static hsm_status import_rsa(struct se05x_token *t, const struct se05x_creation *c,
                             const struct pkcs8_private *priv, struct scratch *s)
{
    bool crt = t->caps.has_rsa_crt;
    const struct component *at = crt ? crt_components : plain_components;
    struct se05x_write w = c->write;
    uint8_t n[HSM_SIGNATURE_MAX + 1];
    struct hsm_buf out = { n, sizeof(n), 0 };
    uint16_t sw = 0;
    hsm_status st = HSM_OK;
    bool first = true;

    for (; at->tag != SE05X_RSA_TAG_NONE && st == HSM_OK; at++) {
        st = import_component(t, &w, first, crt, priv, at, s);
        first = false;
        w.policy = NULL;
        w.repeatable = true; /* the same component again */
    }
    if (st != HSM_OK)
        return st;
    st = se05x_read_rsa(t, w.id, SE05X_RSA_MODULUS, &out, &sw);
    st = taken(t, st, sw);
    if (st == HSM_OK && (out.len != priv->rsa[RSA_N].len || memcmp(n, priv->rsa[RSA_N].ptr, out.len) != 0))
        st = hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip holds another modulus than it was given", t->where);
    return st;
}

/* ---- the call --------------------------------------------------------------------------------------------
 */

static hsm_status import_value(struct se05x_token *t, const struct se05x_creation *c,
                               const struct pkcs8_private *priv)
{
    const struct hsm_object *o = &c->record.obj;
    struct scratch *s = hsm_secret_alloc(sizeof(*s));
    struct hsm_pubkey pub;
    hsm_status st;

    if (s == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a private key");
    if ((st = hsm_pubkey_parse((struct hsm_bytes){ o->spki, o->spki_len }, &pub)) == HSM_OK)
        st = pub.n.len > 0 ? import_rsa(t, c, priv, s) : import_ec(t, c, priv, pub.point, s);
    hsm_secret_free(s, sizeof(*s));
    return st;
}

static hsm_status may_import(struct se05x_token *t, const struct hsm_object_spec *spec,
                             const struct hsm_key_kind *kind)
{
    unsigned possible = hsm_kind_usages(kind);
    char name[32], usage[96];

    if ((spec->usage & ~possible) != 0)
        return hsm_fail(HSM_ERR_USAGE, "a key of type %s can only be used for %s",
                        hsm_kind_format(kind, name), hsm_usage_format(possible, usage));
    if (spec->extractable)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "%s: private keys never leave the chip: import it without --extractable", t->where);
    return se05x_kind_check(t, kind);
}

hsm_status se05x_import(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                        hsm_handle *handle)
{
    struct se05x_token *t = se05x_of(tok);
    uint8_t point[HSM_POINT_MAX], bytes[HSM_SPKI_MAX];
    struct hsm_buf spki = { bytes, sizeof(bytes), 0 };
    struct pkcs8_private priv;
    struct se05x_creation *c;
    hsm_status st;

    if ((st = pkcs8_decode(pkcs8, &priv)) != HSM_OK ||
        (st = hsm_private_check(t->libctx, &priv, point, &spki)) != HSM_OK ||
        (st = may_import(t, spec, &priv.kind)) != HSM_OK)
        return st;
    if ((c = malloc(sizeof(*c))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for '%s'", spec->label);
    if ((st = se05x_creation_begin(t, spec, HSM_CLASS_KEY, HSM_ORIGIN_IMPORTED, &priv.kind, false, c)) ==
        HSM_OK) {
        memcpy(c->record.obj.spki, bytes, spki.len);
        c->record.obj.spki_len = spki.len;
        if ((st = se05x_describe_key(t, spec, &c->record)) == HSM_OK)
            st = import_value(t, c, &priv);
        st = se05x_creation_finish(t, c, st, handle);
    }
    free(c);
    return st;
}
