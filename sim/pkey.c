/* SPDX-License-Identifier: Apache-2.0 */
/* Objects to libcrypto keys and back, in the byte orders of section 4.2: what the chip calls a 25519 or 448
 * value is the RFC's string reversed, except the Ed25519 seed.
 */
#include "applet.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <string.h>

static EVP_PKEY *from_params(struct applet *a, const char *type, OSSL_PARAM_BLD *bld, bool has_private)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(a->libctx, type, NULL);
    EVP_PKEY *pkey = NULL;

    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, has_private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

/* ---- EC
 * ------------------------------------------------------------------------------------------------------- */

static EVP_PKEY *weierstrass(struct applet *a, const struct curve_info *info, struct sim_bytes priv,
                             struct sim_bytes pub)
{
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    BIGNUM *d = priv.len > 0 ? BN_bin2bn(priv.ptr, (int)priv.len, NULL) : NULL;
    EVP_PKEY *pkey = NULL;

    if (bld != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, info->group, 0) == 1 &&
        (pub.len == 0 ||
         OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, pub.ptr, pub.len) == 1) &&
        (d == NULL || OSSL_PARAM_BLD_push_BN_pad(bld, OSSL_PKEY_PARAM_PRIV_KEY, d, info->order_len) == 1))
        pkey = from_params(a, "EC", bld, d != NULL);
    BN_clear_free(d);
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

static EVP_PKEY *raw_key(struct applet *a, const struct curve_info *info, struct sim_bytes priv,
                         struct sim_bytes pub)
{
    bool is_private = priv.len > 0;
    struct sim_bytes in = is_private ? priv : pub;
    uint8_t raw[COORD_MAX] = { 0 };
    EVP_PKEY *pkey;

    if (in.len != info->field_len)
        return NULL;
    if (is_private && info->id == CURVE_ED25519)
        memcpy(raw, in.ptr, in.len);
    else
        reverse(raw, in);
    pkey = is_private ? EVP_PKEY_new_raw_private_key_ex(a->libctx, info->group, NULL, raw, in.len)
                      : EVP_PKEY_new_raw_public_key_ex(a->libctx, info->group, NULL, raw, in.len);
    OPENSSL_cleanse(raw, sizeof(raw));
    return pkey;
}

EVP_PKEY *pkey_ec(struct applet *a, uint8_t curve, struct sim_bytes priv, struct sim_bytes pub)
{
    const struct curve_info *info = curve_info(curve);

    if (info == NULL || (priv.len == 0 && pub.len != curve_public_len(info)))
        return NULL;
    if (!is_weierstrass(curve))
        return raw_key(a, info, priv, pub);
    if (pub.len > 0 && pub.ptr[0] != 0x04)
        return NULL;
    return weierstrass(a, info, priv, pub);
}

static bool export_weierstrass(EVP_PKEY *pkey, const struct curve_info *info, struct object *o)
{
    BIGNUM *d = NULL;
    bool ok;

    buf_zero(&o->value[V_DATA], info->field_len);
    buf_zero(&o->value[V_PUBLIC], curve_public_len(info));
    ok = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 &&
         BN_num_bytes(d) <= info->field_len &&
         BN_bn2binpad(d, o->value[V_DATA].ptr, info->field_len) == info->field_len &&
         EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, o->value[V_PUBLIC].ptr,
                                         o->value[V_PUBLIC].len, NULL) == 1;
    BN_clear_free(d);
    return ok;
}

static bool export_raw(EVP_PKEY *pkey, const struct curve_info *info, struct object *o)
{
    uint8_t priv[COORD_MAX], pub[COORD_MAX];
    size_t priv_len = sizeof(priv), pub_len = sizeof(pub);
    bool ok = EVP_PKEY_get_raw_private_key(pkey, priv, &priv_len) == 1 && priv_len == info->field_len &&
              EVP_PKEY_get_raw_public_key(pkey, pub, &pub_len) == 1 && pub_len == info->field_len;

    if (ok) {
        buf_set(&o->value[V_DATA], priv, priv_len);
        buf_zero(&o->value[V_PUBLIC], pub_len);
        reverse(o->value[V_PUBLIC].ptr, (struct sim_bytes){ pub, pub_len });
        if (info->id != CURVE_ED25519)
            reverse(o->value[V_DATA].ptr, (struct sim_bytes){ priv, priv_len });
    }
    OPENSSL_cleanse(priv, sizeof(priv));
    return ok;
}

static void spend_ec_generate(struct applet *a, const struct curve_info *info)
{
    if (is_weierstrass(info->id))
        spend(a, TIME_EC_GENERATE + info->time_class);
    else
        spend(a, info->id == CURVE_ED25519  ? TIME_ED25519_GENERATE
                 : info->id == CURVE_X25519 ? TIME_X25519_GENERATE
                                            : TIME_X448_GENERATE);
}

bool pkey_generate_ec(struct applet *a, struct object *o)
{
    const struct curve_info *info = curve_info(o->curve);
    bool ok = false;

    /* a few private values of secp160k1 and secp224k1 do not fit the field length: take another one */
    for (int i = 0; !ok && i < 4; i++) {
        EVP_PKEY *pkey = is_weierstrass(o->curve) ? EVP_PKEY_Q_keygen(a->libctx, NULL, "EC", info->group)
                                                  : EVP_PKEY_Q_keygen(a->libctx, NULL, info->group);

        ok = pkey != NULL &&
             (is_weierstrass(o->curve) ? export_weierstrass(pkey, info, o) : export_raw(pkey, info, o));
        EVP_PKEY_free(pkey);
    }
    spend_ec_generate(a, info);
    return ok;
}

/* ---- RSA
 * ------------------------------------------------------------------------------------------------------ */

static BIGNUM *bn_of(const struct object *o, enum value_slot slot)
{
    return o->value[slot].len == 0 ? NULL : BN_bin2bn(o->value[slot].ptr, (int)o->value[slot].len, NULL);
}

/* e from d by trial, for a plain private key that came without it: (2^e)^d = 2 mod n */
static BIGNUM *guess_exponent(const BIGNUM *n, const BIGNUM *d, BN_CTX *bn)
{
    static const BN_ULONG candidates[] = { 65537, 3, 5, 17, 257, 35 };
    BIGNUM *e = BN_new(), *two = BN_new(), *x = BN_new(), *found = NULL;

    for (size_t i = 0; found == NULL && i < sizeof(candidates) / sizeof(candidates[0]); i++)
        if (e != NULL && two != NULL && x != NULL && BN_set_word(e, candidates[i]) && BN_set_word(two, 2) &&
            BN_mod_exp(x, two, e, n, bn) && BN_mod_exp(x, x, d, n, bn) && BN_is_word(x, 2))
            found = BN_dup(e);
    BN_free(e);
    BN_free(two);
    BN_free(x);
    return found;
}

struct rsa_parts {
    BIGNUM *n, *e, *d, *p, *q, *dp, *dq, *qinv;
};

static void rsa_parts_free(struct rsa_parts *r)
{
    BN_free(r->n);
    BN_free(r->e);
    BN_clear_free(r->d);
    BN_clear_free(r->p);
    BN_clear_free(r->q);
    BN_clear_free(r->dp);
    BN_clear_free(r->dq);
    BN_clear_free(r->qinv);
}

/* What libcrypto wants and a CRT key on the chip does not have: n and e of a private-only key, and d. */
static bool rsa_complete_crt(struct rsa_parts *r, BN_CTX *bn)
{
    BIGNUM *p1 = BN_dup(r->p), *q1 = BN_dup(r->q), *phi = BN_new();
    bool ok = p1 != NULL && q1 != NULL && phi != NULL && BN_sub_word(p1, 1) && BN_sub_word(q1, 1) &&
              BN_mul(phi, p1, q1, bn);

    if (ok && r->n == NULL)
        ok = (r->n = BN_new()) != NULL && BN_mul(r->n, r->p, r->q, bn);
    if (ok && r->e == NULL) /* e is far below p, so its value mod p - 1 is itself */
        ok = (r->e = BN_mod_inverse(NULL, r->dp, p1, bn)) != NULL;
    if (ok)
        ok = (r->d = BN_mod_inverse(NULL, r->e, phi, bn)) != NULL;
    BN_clear_free(p1);
    BN_clear_free(q1);
    BN_clear_free(phi);
    return ok;
}

static bool push(OSSL_PARAM_BLD *bld, const char *name, const BIGNUM *value)
{
    return value == NULL || OSSL_PARAM_BLD_push_BN(bld, name, value) == 1;
}

static EVP_PKEY *rsa_assemble(struct applet *a, const struct rsa_parts *r)
{
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;

    if (bld != NULL && push(bld, OSSL_PKEY_PARAM_RSA_N, r->n) && push(bld, OSSL_PKEY_PARAM_RSA_E, r->e) &&
        push(bld, OSSL_PKEY_PARAM_RSA_D, r->d) && push(bld, OSSL_PKEY_PARAM_RSA_FACTOR1, r->p) &&
        push(bld, OSSL_PKEY_PARAM_RSA_FACTOR2, r->q) && push(bld, OSSL_PKEY_PARAM_RSA_EXPONENT1, r->dp) &&
        push(bld, OSSL_PKEY_PARAM_RSA_EXPONENT2, r->dq) &&
        push(bld, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, r->qinv))
        pkey = from_params(a, "RSA", bld, r->d != NULL);
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

static EVP_PKEY *pkey_rsa(struct applet *a, const struct object *o, bool need_private)
{
    struct rsa_parts r = { .n = bn_of(o, V_RSA_N), .e = bn_of(o, V_RSA_E) };
    BN_CTX *bn = BN_CTX_new();
    EVP_PKEY *pkey = NULL;
    bool ok = bn != NULL;

    if (ok && need_private && o->rsa_plain) {
        r.d = bn_of(o, V_RSA_D);
        if (r.e == NULL && r.n != NULL && r.d != NULL)
            r.e = guess_exponent(r.n, r.d, bn);
    } else if (ok && need_private) {
        r.p = bn_of(o, V_RSA_P);
        r.q = bn_of(o, V_RSA_Q);
        r.dp = bn_of(o, V_RSA_DP);
        r.dq = bn_of(o, V_RSA_DQ);
        r.qinv = bn_of(o, V_RSA_QINV);
        ok = r.p != NULL && r.q != NULL && r.dp != NULL && rsa_complete_crt(&r, bn);
    }
    if (ok && r.n != NULL && r.e != NULL && (!need_private || r.d != NULL))
        pkey = rsa_assemble(a, &r);
    rsa_parts_free(&r);
    BN_CTX_free(bn);
    return pkey;
}

static bool take_bn(EVP_PKEY *pkey, const char *name, struct buf *out)
{
    BIGNUM *n = NULL;
    bool ok = EVP_PKEY_get_bn_param(pkey, name, &n) == 1;

    if (ok) {
        buf_zero(out, (size_t)BN_num_bytes(n));
        BN_bn2bin(n, out->ptr);
    }
    BN_clear_free(n);
    return ok;
}

bool pkey_generate_rsa(struct applet *a, struct object *o)
{
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(a->libctx, NULL, "RSA", (size_t)o->size);
    bool ok = pkey != NULL && take_bn(pkey, OSSL_PKEY_PARAM_RSA_N, &o->value[V_RSA_N]) &&
              take_bn(pkey, OSSL_PKEY_PARAM_RSA_E, &o->value[V_RSA_E]);

    if (ok && o->rsa_plain)
        ok = take_bn(pkey, OSSL_PKEY_PARAM_RSA_D, &o->value[V_RSA_D]);
    else if (ok)
        ok = take_bn(pkey, OSSL_PKEY_PARAM_RSA_FACTOR1, &o->value[V_RSA_P]) &&
             take_bn(pkey, OSSL_PKEY_PARAM_RSA_FACTOR2, &o->value[V_RSA_Q]) &&
             take_bn(pkey, OSSL_PKEY_PARAM_RSA_EXPONENT1, &o->value[V_RSA_DP]) &&
             take_bn(pkey, OSSL_PKEY_PARAM_RSA_EXPONENT2, &o->value[V_RSA_DQ]) &&
             take_bn(pkey, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, &o->value[V_RSA_QINV]);
    EVP_PKEY_free(pkey);
    spend_rsa(a, TIME_RSA_GENERATE, o);
    return ok;
}

/* ---- operations
 * ----------------------------------------------------------------------------------------------- */

EVP_PKEY *pkey_object(struct applet *a, const struct object *o, bool need_private)
{
    struct sim_bytes none = { NULL, 0 };

    if (need_private && !object_has_private(o))
        return NULL;
    if (o->kind == KIND_RSA)
        return need_private || (o->part & PART_PUBLIC) ? pkey_rsa(a, o, need_private) : NULL;
    if (o->kind != KIND_EC || !curve_usable(a, o->curve))
        return NULL;
    if (!need_private)
        return pkey_ec(a, o->curve, none, buf_view(&o->value[V_PUBLIC]));
    return pkey_ec(a, o->curve, buf_view(&o->value[V_DATA]), buf_view(&o->value[V_PUBLIC]));
}

static const struct signature_algo {
    uint8_t code, kind;
    bool pss;
    const char *digest;
    size_t digest_len;
} signature_algos[] = {
    { 0x11, KIND_EC, false, "SHA1", 20 },      { 0x25, KIND_EC, false, "SHA2-224", 28 },
    { 0x21, KIND_EC, false, "SHA2-256", 32 },  { 0x22, KIND_EC, false, "SHA2-384", 48 },
    { 0x26, KIND_EC, false, "SHA2-512", 64 },  { 0x0A, KIND_RSA, false, "SHA1", 20 },
    { 0x27, KIND_RSA, false, "SHA2-224", 28 }, { 0x28, KIND_RSA, false, "SHA2-256", 32 },
    { 0x29, KIND_RSA, false, "SHA2-384", 48 }, { 0x2A, KIND_RSA, false, "SHA2-512", 64 },
    { 0x15, KIND_RSA, true, "SHA1", 20 },      { 0x2B, KIND_RSA, true, "SHA2-224", 28 },
    { 0x2C, KIND_RSA, true, "SHA2-256", 32 },  { 0x2D, KIND_RSA, true, "SHA2-384", 48 },
    { 0x2E, KIND_RSA, true, "SHA2-512", 64 },
};

enum { ALGO_EDDSA = 0xA3, RSA_NO_PAD = 0x0C, RSA_PKCS1 = 0x0A, RSA_OAEP = 0x0F, SALT_AS_DIGEST = -1 };

static const struct signature_algo *signature_algo(uint8_t kind, uint8_t code)
{
    for (size_t i = 0; i < sizeof(signature_algos) / sizeof(signature_algos[0]); i++)
        if (signature_algos[i].kind == kind && signature_algos[i].code == code)
            return &signature_algos[i];
    return NULL;
}

size_t ecdsa_digest_len(uint8_t algo)
{
    const struct signature_algo *s = signature_algo(KIND_EC, algo);

    return s == NULL ? 0 : s->digest_len;
}

const char *ecdsa_digest_name(uint8_t algo)
{
    const struct signature_algo *s = signature_algo(KIND_EC, algo);

    return s == NULL ? NULL : s->digest;
}

static bool set_rsa_scheme(EVP_PKEY_CTX *ctx, const struct signature_algo *s, int salt_len)
{
    if (!s->pss)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt_len < 0 ? (int)s->digest_len : salt_len) == 1;
}

static bool ecdsa_sign(struct applet *a, EVP_PKEY *pkey, struct sim_bytes digest, uint8_t *sig, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(a->libctx, pkey, NULL);
    bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
              EVP_PKEY_sign(ctx, sig, len, digest.ptr, digest.len) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool ecdsa_verify(struct applet *a, EVP_PKEY *pkey, struct sim_bytes digest, struct sim_bytes sig)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(a->libctx, pkey, NULL);
    bool ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
              EVP_PKEY_verify(ctx, sig.ptr, sig.len, digest.ptr, digest.len) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* RSA (s is its scheme) or Ed25519 (s is NULL) over a message */
static bool message_sign(struct applet *a, EVP_PKEY *pkey, const struct signature_algo *s, int salt_len,
                         struct sim_bytes in, uint8_t *sig, size_t *len)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    bool ok =
        md != NULL &&
        EVP_DigestSignInit_ex(md, &ctx, s == NULL ? NULL : s->digest, a->libctx, NULL, pkey, NULL) == 1 &&
        (s == NULL || set_rsa_scheme(ctx, s, salt_len)) && EVP_DigestSign(md, sig, len, in.ptr, in.len) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

static bool message_verify(struct applet *a, EVP_PKEY *pkey, const struct signature_algo *s, int salt_len,
                           struct sim_bytes in, struct sim_bytes sig)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    bool ok =
        md != NULL &&
        EVP_DigestVerifyInit_ex(md, &ctx, s == NULL ? NULL : s->digest, a->libctx, NULL, pkey, NULL) == 1 &&
        (s == NULL || set_rsa_scheme(ctx, s, salt_len)) &&
        EVP_DigestVerify(md, sig.ptr, sig.len, in.ptr, in.len) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

/* R and S of Ed25519 are integers to the chip: each half reversed */
static void reverse_halves(uint8_t out[64], const uint8_t in[64])
{
    uint8_t copy[64];

    memcpy(copy, in, 64);
    reverse(out, (struct sim_bytes){ copy, 32 });
    reverse(out + 32, (struct sim_bytes){ copy + 32, 32 });
}

static bool scheme_fits(const struct object *o, uint8_t algo, struct sim_bytes in,
                        const struct signature_algo **s)
{
    *s = NULL;
    if (o->kind == KIND_EC && o->curve == CURVE_ED25519)
        return algo == ALGO_EDDSA;
    *s = signature_algo(o->kind, algo);
    if (*s == NULL || (o->kind == KIND_EC && !is_weierstrass(o->curve)))
        return false;
    return o->kind == KIND_RSA || in.len == (*s)->digest_len;
}

uint16_t pkey_sign(struct applet *a, const struct object *o, uint8_t algo, struct sim_bytes in, int salt_len,
                   uint8_t *sig, size_t *len)
{
    const struct signature_algo *s;
    EVP_PKEY *pkey;
    bool ok;

    if (!scheme_fits(o, algo, in, &s) || (pkey = pkey_object(a, o, true)) == NULL)
        return SW_CONDITIONS;
    if (o->kind == KIND_RSA || s == NULL) {
        ok = message_sign(a, pkey, s, salt_len, in, sig, len);
        if (ok && s == NULL)
            reverse_halves(sig, sig);
    } else {
        ok = ecdsa_sign(a, pkey, in, sig, len);
    }
    EVP_PKEY_free(pkey);
    if (o->kind == KIND_RSA)
        spend_rsa(a, TIME_RSA_PRIVATE, o);
    else
        spend(a, s == NULL ? TIME_ED25519_SIGN : TIME_ECDSA_SIGN + curve_info(o->curve)->time_class);
    return ok ? SW_OK : SW_CONDITIONS;
}

uint16_t pkey_verify(struct applet *a, const struct object *o, uint8_t algo, struct sim_bytes in,
                     int salt_len, struct sim_bytes sig, bool *good)
{
    const struct signature_algo *s;
    uint8_t rfc[64];
    EVP_PKEY *pkey;

    if (!scheme_fits(o, algo, in, &s) || !(o->part & PART_PUBLIC) ||
        (pkey = pkey_object(a, o, false)) == NULL)
        return SW_CONDITIONS;
    if (s == NULL && sig.len == sizeof(rfc)) {
        reverse_halves(rfc, sig.ptr);
        sig.ptr = rfc;
    }
    *good = o->kind == KIND_RSA || s == NULL ? message_verify(a, pkey, s, salt_len, in, sig)
                                             : ecdsa_verify(a, pkey, in, sig);
    EVP_PKEY_free(pkey);
    if (o->kind == KIND_RSA)
        spend_rsa(a, TIME_RSA_PUBLIC, o);
    else
        spend(a, s == NULL ? TIME_ED25519_VERIFY : TIME_ECDSA_VERIFY + curve_info(o->curve)->time_class);
    return SW_OK;
}

static void spend_agree(struct applet *a, uint8_t curve)
{
    if (is_weierstrass(curve))
        spend(a, TIME_ECDH + curve_info(curve)->time_class);
    else
        spend(a, curve == CURVE_X25519 ? TIME_X25519 : TIME_X448);
}

bool pkey_agree(struct applet *a, const struct object *o, struct sim_bytes peer, uint8_t *secret, size_t *len)
{
    EVP_PKEY *mine = pkey_object(a, o, true);
    EVP_PKEY *theirs = pkey_ec(a, o->curve, (struct sim_bytes){ NULL, 0 }, peer);
    EVP_PKEY_CTX *ctx = mine == NULL ? NULL : EVP_PKEY_CTX_new_from_pkey(a->libctx, mine, NULL);
    bool ok = o->curve != CURVE_ED25519 && ctx != NULL && theirs != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
              EVP_PKEY_derive_set_peer(ctx, theirs) == 1 && EVP_PKEY_derive(ctx, secret, len) == 1;

    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(mine);
    spend_agree(a, o->curve);
    return ok;
}

static int rsa_padding(uint8_t algo)
{
    return algo == RSA_NO_PAD  ? RSA_NO_PADDING
           : algo == RSA_PKCS1 ? RSA_PKCS1_PADDING
           : algo == RSA_OAEP
               ? RSA_PKCS1_OAEP_PADDING /* SHA-1 and MGF1 with SHA-1, libcrypto's default too */
               : 0;
}

uint16_t pkey_rsa_crypt(struct applet *a, const struct object *o, uint8_t algo, bool encrypt,
                        struct sim_bytes in, uint8_t *out, size_t *len)
{
    int padding = rsa_padding(algo);
    EVP_PKEY *pkey = padding == 0 ? NULL : pkey_object(a, o, !encrypt);
    EVP_PKEY_CTX *ctx = pkey == NULL ? NULL : EVP_PKEY_CTX_new_from_pkey(a->libctx, pkey, NULL);
    bool ok = ctx != NULL && (padding != RSA_NO_PADDING || in.len == o->size / 8);

    if (ok && encrypt)
        ok = EVP_PKEY_encrypt_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1 &&
             EVP_PKEY_encrypt(ctx, out, len, in.ptr, in.len) == 1;
    else if (ok)
        ok = EVP_PKEY_decrypt_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1 &&
             EVP_PKEY_decrypt(ctx, out, len, in.ptr, in.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    spend_rsa(a, encrypt ? TIME_RSA_PUBLIC : TIME_RSA_PRIVATE, o);
    return ok ? SW_OK : SW_CONDITIONS;
}
