/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs8.h"

#include <string.h>

#include "der.h"
#include "hsm/pubkey.h"

enum { DER_OCTET_STRING = 0x04, DER_CONTEXT_1 = 0xa1, DER_CONTEXT_1_PRIMITIVE = 0x81 };
enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096 };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OID(...)                                                                                             \
    {                                                                                                        \
        (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })                           \
    }

static const struct algorithm {
    enum hsm_key_type type;
    unsigned bits;
    size_t scalar_len; /* of the raw types */
    struct hsm_bytes oid;
} algorithms[] = {
    { HSM_KEY_RSA, 0, 0, OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01) },
    { HSM_KEY_RSA_PSS, 0, 0, OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a) },
    { HSM_KEY_EC, 0, 0, OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01) },
    { HSM_KEY_X25519, 253, 32, OID(0x2b, 0x65, 0x6e) },
    { HSM_KEY_X448, 448, 56, OID(0x2b, 0x65, 0x6f) },
    { HSM_KEY_ED25519, 256, 32, OID(0x2b, 0x65, 0x70) },
    { HSM_KEY_ED448, 456, 57, OID(0x2b, 0x65, 0x71) },
};

static bool same(struct hsm_bytes a, struct hsm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static const struct algorithm *algorithm_of(enum hsm_key_type type)
{
    size_t i;

    for (i = 0; i < COUNT(algorithms); i++)
        if (algorithms[i].type == type)
            return &algorithms[i];
    return NULL;
}

size_t pkcs8_scalar_len(const struct hsm_key_kind *kind)
{
    const struct algorithm *algorithm = algorithm_of(kind->type);
    const struct hsm_curve_info *curve = hsm_curve_info(kind->curve);

    if (kind->type == HSM_KEY_EC)
        return curve == NULL ? 0 : (curve->bits + 7) / 8;
    return algorithm == NULL ? 0 : algorithm->scalar_len;
}

static hsm_status malformed(const char *what)
{
    return hsm_fail(HSM_ERR_DATA, "malformed private key: %s", what);
}

static unsigned bit_length(struct hsm_bytes v)
{
    unsigned bits = (unsigned)v.len * 8;
    uint8_t top;

    if (v.len == 0)
        return 0;
    for (top = v.ptr[0]; bits > 0 && (top & 0x80) == 0; top = (uint8_t)(top << 1))
        bits--;
    return bits;
}

static hsm_status check_rsa_size(const struct pkcs8_private *priv)
{
    struct hsm_bytes e = priv->rsa[RSA_E];

    if (priv->kind.bits < RSA_BITS_MIN)
        return hsm_fail(HSM_ERR_KEY_TYPE,
                        "RSA key of %u bits is refused: less than 112 bits of security "
                        "(NIST SP 800-131A); use 2048 to 4096 bits",
                        priv->kind.bits);
    if (priv->kind.bits > RSA_BITS_MAX)
        return hsm_fail(HSM_ERR_KEY_TYPE, "RSA key of %u bits is not supported: use 2048 to 4096 bits",
                        priv->kind.bits);
    if (bit_length(e) < 2 || e.len > 8 || (e.ptr[e.len - 1] & 1) == 0)
        return malformed("the RSA public exponent must be odd, at least 3 and at most 64 bits long");
    return HSM_OK;
}

static hsm_status decode_rsa(struct hsm_bytes params, struct hsm_bytes key, struct pkcs8_private *priv)
{
    struct hsm_bytes seq, version, null;
    size_t i;

    if (priv->kind.type == HSM_KEY_RSA && params.len != 0 &&
        (!der_take(&params, DER_NULL, &null) || null.len != 0 || params.len != 0))
        return malformed("RSA parameters are not NULL (RFC 3279)");
    if (!der_take(&key, DER_SEQUENCE, &seq) || key.len != 0 || !der_take_uint(&seq, &version) ||
        version.len != 1)
        return malformed("not an RSAPrivateKey (RFC 8017)");
    if (version.ptr[0] == 1)
        return hsm_fail(HSM_ERR_KEY_TYPE, "RSA key of more than two primes is not supported");
    for (i = 0; i < RSA_NUMBERS; i++)
        if (!der_take_uint(&seq, &priv->rsa[i]))
            return malformed("not an RSAPrivateKey (RFC 8017)");
    if (version.ptr[0] != 0 || seq.len != 0)
        return malformed("not an RSAPrivateKey (RFC 8017)");
    priv->pss_params = priv->kind.type == HSM_KEY_RSA_PSS ? params : (struct hsm_bytes){ NULL, 0 };
    priv->kind.bits = bit_length(priv->rsa[RSA_N]);
    for (i = RSA_D; i < RSA_NUMBERS; i++)
        if (bit_length(priv->rsa[i]) == 0)
            return hsm_fail(HSM_ERR_KEY_TYPE,
                            "RSA private key without its primes or CRT numbers is not supported");
    return check_rsa_size(priv);
}

static hsm_status decode_curve(struct hsm_bytes params, struct hsm_key_kind *kind)
{
    const struct hsm_curve_info *curve;
    struct hsm_bytes oid, explicit_params;
    int c;

    if (der_take(&params, DER_SEQUENCE, &explicit_params))
        return hsm_fail(HSM_ERR_KEY_TYPE, "EC key with explicit curve parameters: "
                                          "convert it first (openssl ec -param_enc named_curve)");
    if (!der_take(&params, DER_OID, &oid) || params.len != 0)
        return malformed("no curve in an EC key (RFC 5480)");
    for (c = HSM_CURVE_P256; c <= HSM_CURVE_BP384R1; c++) {
        curve = hsm_curve_info((enum hsm_curve)c);
        if (curve != NULL && same(curve->oid, oid)) {
            kind->curve = curve->curve;
            kind->bits = curve->bits;
            return HSM_OK;
        }
    }
    return hsm_fail(HSM_ERR_KEY_TYPE, "EC curve not supported: use P-256, P-384, P-521, secp256k1, "
                                      "brainpoolP256r1 or brainpoolP384r1");
}

/* RFC 5915: the curve may be named again, and the point may be missing */
static hsm_status decode_ec(struct hsm_bytes params, struct hsm_bytes key, struct pkcs8_private *priv)
{
    struct hsm_bytes seq, version, again, bits;
    hsm_status st;

    if ((st = decode_curve(params, &priv->kind)) != HSM_OK)
        return st;
    if (!der_take(&key, DER_SEQUENCE, &seq) || key.len != 0 || !der_take_uint(&seq, &version) ||
        version.len != 1 || version.ptr[0] != 1 || !der_take(&seq, DER_OCTET_STRING, &priv->scalar))
        return malformed("not an ECPrivateKey (RFC 5915)");
    if (der_take(&seq, DER_CONTEXT_0, &again) && !same(again, params))
        return malformed("two different curves in one EC key");
    if (der_take(&seq, DER_CONTEXT_1, &bits)) {
        if (!der_take(&bits, DER_BIT_STRING, &priv->point) || bits.len != 0 || priv->point.len < 2 ||
            priv->point.ptr[0] != 0)
            return malformed("not an ECPrivateKey (RFC 5915)");
        priv->point.ptr++;
        priv->point.len--;
    }
    for (; priv->scalar.len > 0 && priv->scalar.ptr[0] == 0; priv->scalar.len--)
        priv->scalar.ptr++;
    if (seq.len != 0 || priv->scalar.len == 0 || priv->scalar.len > pkcs8_scalar_len(&priv->kind))
        return malformed("EC private value of the wrong length");
    return HSM_OK;
}

static hsm_status decode_raw(const struct algorithm *algorithm, struct hsm_bytes params, struct hsm_bytes key,
                             struct pkcs8_private *priv)
{
    priv->kind.bits = algorithm->bits;
    if (params.len != 0 || !der_take(&key, DER_OCTET_STRING, &priv->scalar) || key.len != 0 ||
        priv->scalar.len != algorithm->scalar_len)
        return malformed("wrong length or unexpected parameters (RFC 8410)");
    return HSM_OK;
}

/* Attributes and the public key that RFC 5958 allows behind the key are skipped: neither is kept. */
static bool only_known_extras(struct hsm_bytes rest)
{
    struct hsm_bytes whole;
    uint8_t tag;

    while (rest.len > 0)
        if (!der_take_any(&rest, &tag, &whole) ||
            (tag != DER_CONTEXT_0 && tag != DER_CONTEXT_1 && tag != DER_CONTEXT_1_PRIMITIVE))
            return false;
    return true;
}

hsm_status pkcs8_decode(struct hsm_bytes der, struct pkcs8_private *priv)
{
    struct hsm_bytes outer, version, algorithm, oid, key;
    size_t i;

    *priv = (struct pkcs8_private){ .kind = { HSM_KEY_NONE, HSM_CURVE_NONE, 0 } };
    if (!der_take(&der, DER_SEQUENCE, &outer) || der.len != 0 || !der_take_uint(&outer, &version) ||
        version.len != 1 || version.ptr[0] > 1 || !der_take(&outer, DER_SEQUENCE, &algorithm) ||
        !der_take(&algorithm, DER_OID, &oid) || !der_take(&outer, DER_OCTET_STRING, &key) ||
        !only_known_extras(outer))
        return malformed("not a PrivateKeyInfo (PKCS#8, RFC 5958)");
    for (i = 0; i < COUNT(algorithms) && !same(algorithms[i].oid, oid); i++)
        ;
    if (i == COUNT(algorithms))
        return hsm_fail(HSM_ERR_KEY_TYPE,
                        "private key of a type that is not supported: use RSA, RSA-PSS, EC, "
                        "Ed25519, Ed448, X25519 or X448");
    priv->kind.type = algorithms[i].type;
    if (algorithms[i].scalar_len != 0)
        return decode_raw(&algorithms[i], algorithm, key, priv);
    return priv->kind.type == HSM_KEY_EC ? decode_ec(algorithm, key, priv) : decode_rsa(algorithm, key, priv);
}

static const uint8_t zeros[66];

/* The writer fills from the end, so everything below is in reverse order. */
static void encode_rsa_key(struct der_writer *w, const struct pkcs8_private *priv)
{
    size_t mark = der_len(w), i;

    for (i = RSA_NUMBERS; i-- > 0;)
        der_put_uint(w, priv->rsa[i]);
    der_put_uint(w, (struct hsm_bytes){ zeros, 1 });
    der_wrap(w, mark, DER_SEQUENCE);
}

static void encode_ec_key(struct der_writer *w, const struct pkcs8_private *priv)
{
    static const uint8_t one[1] = { 1 };
    size_t len = pkcs8_scalar_len(&priv->kind), mark = der_len(w), inner;

    if (priv->point.len > 0) {
        inner = der_len(w);
        der_put(w, priv->point);
        der_put(w, (struct hsm_bytes){ zeros, 1 });
        der_wrap(w, inner, DER_BIT_STRING);
        der_wrap(w, inner, DER_CONTEXT_1);
    }
    inner = der_len(w);
    der_put(w, priv->scalar);
    if (priv->scalar.len < len)
        der_put(w, (struct hsm_bytes){ zeros, len - priv->scalar.len });
    der_wrap(w, inner, DER_OCTET_STRING);
    der_put_uint(w, (struct hsm_bytes){ one, 1 });
    der_wrap(w, mark, DER_SEQUENCE);
}

static void encode_algorithm(struct der_writer *w, const struct algorithm *algorithm,
                             const struct pkcs8_private *priv)
{
    size_t mark = der_len(w);

    if (algorithm->type == HSM_KEY_RSA)
        der_put_element(w, DER_NULL, (struct hsm_bytes){ NULL, 0 });
    else if (algorithm->type == HSM_KEY_RSA_PSS)
        der_put(w, priv->pss_params);
    else if (algorithm->type == HSM_KEY_EC)
        der_put_element(w, DER_OID, hsm_curve_info(priv->kind.curve)->oid);
    der_put_element(w, DER_OID, algorithm->oid);
    der_wrap(w, mark, DER_SEQUENCE);
}

hsm_status pkcs8_encode(const struct pkcs8_private *priv, struct hsm_buf *der)
{
    const struct algorithm *algorithm = algorithm_of(priv->kind.type);
    struct der_writer w;
    size_t mark;

    if (algorithm == NULL || (priv->kind.type == HSM_KEY_EC && hsm_curve_info(priv->kind.curve) == NULL))
        return hsm_fail(HSM_ERR_INTERNAL, "private key of unknown type %d", (int)priv->kind.type);
    der_writer_init(&w, der);
    mark = der_len(&w);
    if (priv->kind.type == HSM_KEY_EC)
        encode_ec_key(&w, priv);
    else if (algorithm->scalar_len != 0)
        der_put_element(&w, DER_OCTET_STRING, priv->scalar);
    else
        encode_rsa_key(&w, priv);
    der_wrap(&w, mark, DER_OCTET_STRING);
    encode_algorithm(&w, algorithm, priv);
    der_put_uint(&w, (struct hsm_bytes){ zeros, 1 });
    der_wrap(&w, mark, DER_SEQUENCE);
    return der_finish(&w, der);
}
