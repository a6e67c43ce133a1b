/* SPDX-License-Identifier: Apache-2.0 */
#include "hsm/pubkey.h"

#include <string.h>

#include "der.h"

#define OID(...)                                                                                             \
    {                                                                                                        \
        (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })                           \
    }

static const struct hsm_bytes oid_rsa = OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01);
static const struct hsm_bytes oid_rsa_pss = OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a);
static const struct hsm_bytes oid_ec = OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01);

/* RFC 8410 section 3: parameters absent, the BIT STRING is the raw key */
static const struct raw_type {
    struct hsm_key_kind kind;
    struct hsm_bytes oid;
    size_t len;
} raw_types[] = {
    { { HSM_KEY_X25519, HSM_CURVE_NONE, 253 }, OID(0x2b, 0x65, 0x6e), 32 },
    { { HSM_KEY_X448, HSM_CURVE_NONE, 448 }, OID(0x2b, 0x65, 0x6f), 56 },
    { { HSM_KEY_ED25519, HSM_CURVE_NONE, 256 }, OID(0x2b, 0x65, 0x70), 32 },
    { { HSM_KEY_ED448, HSM_CURVE_NONE, 456 }, OID(0x2b, 0x65, 0x71), 57 },
};

static const struct hsm_curve_info curves[] = {
    { HSM_CURVE_P256, "prime256v1", "P-256", 256, OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07) },
    { HSM_CURVE_P384, "secp384r1", "P-384", 384, OID(0x2b, 0x81, 0x04, 0x00, 0x22) },
    { HSM_CURVE_P521, "secp521r1", "P-521", 521, OID(0x2b, 0x81, 0x04, 0x00, 0x23) },
    { HSM_CURVE_SECP256K1, "secp256k1", "secp256k1", 256, OID(0x2b, 0x81, 0x04, 0x00, 0x0a) },
    { HSM_CURVE_BP256R1, "brainpoolP256r1", "brainpoolP256r1", 256,
      OID(0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07) },
    { HSM_CURVE_BP384R1, "brainpoolP384r1", "brainpoolP384r1", 384,
      OID(0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b) },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096, RSA_EXPONENT_MAX_LEN = 8 };

static bool same(struct hsm_bytes a, struct hsm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static const struct raw_type *raw_type(enum hsm_key_type type)
{
    size_t i;

    for (i = 0; i < COUNT(raw_types); i++)
        if (raw_types[i].kind.type == type)
            return &raw_types[i];
    return NULL;
}

const struct hsm_curve_info *hsm_curve_info(enum hsm_curve curve)
{
    size_t i;

    for (i = 0; i < COUNT(curves); i++)
        if (curves[i].curve == curve)
            return &curves[i];
    return NULL;
}

const struct hsm_curve_info *hsm_curve_by_name(const char *name)
{
    size_t i;

    for (i = 0; i < COUNT(curves); i++)
        if (strcasecmp(curves[i].group_name, name) == 0 || strcasecmp(curves[i].common_name, name) == 0)
            return &curves[i];
    return strcasecmp(name, "secp256r1") == 0 ? &curves[0] : NULL; /* SEC 2's name for P-256 */
}

static hsm_status parse_raw(const struct raw_type *raw, struct hsm_bytes params, struct hsm_bytes key,
                            struct hsm_pubkey *pub)
{
    if (params.len != 0 || key.len != raw->len)
        return hsm_fail(HSM_ERR_DATA,
                        "malformed public key: wrong length or unexpected parameters (RFC 8410)");
    pub->kind = raw->kind;
    pub->point = key;
    return HSM_OK;
}

static hsm_status parse_ec(struct hsm_bytes params, struct hsm_bytes key, struct hsm_pubkey *pub)
{
    struct hsm_bytes oid;
    size_t i, field_len;

    if (!der_take(&params, DER_OID, &oid) || params.len != 0)
        return hsm_fail(HSM_ERR_KEY_TYPE, "EC key with explicit curve parameters: use a named curve");
    for (i = 0; i < COUNT(curves) && !same(curves[i].oid, oid); i++)
        ;
    if (i == COUNT(curves))
        return hsm_fail(HSM_ERR_KEY_TYPE, "EC curve not supported: use P-256, P-384, P-521, secp256k1, "
                                          "brainpoolP256r1 or brainpoolP384r1");
    field_len = (curves[i].bits + 7) / 8;
    if (!(key.len == 1 + 2 * field_len && key.ptr[0] == 0x04) &&
        !(key.len == 1 + field_len && (key.ptr[0] | 1) == 0x03))
        return hsm_fail(HSM_ERR_DATA, "malformed public key: EC point of the wrong length or form");
    pub->kind = (struct hsm_key_kind){ HSM_KEY_EC, curves[i].curve, curves[i].bits };
    pub->point = key;
    return HSM_OK;
}

static unsigned bit_length(struct hsm_bytes v)
{
    unsigned bits = (unsigned)v.len * 8;
    uint8_t top;

    if (v.len == 0)
        return 0;
    for (top = v.ptr[0]; top != 0 && (top & 0x80) == 0; top = (uint8_t)(top << 1))
        bits--;
    return bits;
}

static hsm_status parse_rsa(enum hsm_key_type type, struct hsm_bytes params, struct hsm_bytes key,
                            struct hsm_pubkey *pub)
{
    struct hsm_bytes seq, null;
    unsigned bits;

    if (type == HSM_KEY_RSA && params.len != 0 &&
        (!der_take(&params, DER_NULL, &null) || null.len != 0 || params.len != 0))
        return hsm_fail(HSM_ERR_DATA, "malformed public key: RSA parameters are not NULL (RFC 3279)");
    if (!der_take(&key, DER_SEQUENCE, &seq) || key.len != 0 || !der_take_uint(&seq, &pub->n) ||
        !der_take_uint(&seq, &pub->e) || seq.len != 0)
        return hsm_fail(HSM_ERR_DATA, "malformed public key: not an RSAPublicKey");
    bits = bit_length(pub->n);
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return hsm_fail(HSM_ERR_KEY_TYPE, "RSA key of %u bits: %s; use 2048 to 4096 bits", bits,
                        bits < RSA_BITS_MIN ? "too weak (less than 112 bits of security, NIST SP 800-131A)"
                                            : "too large");
    if (pub->e.len > RSA_EXPONENT_MAX_LEN || (pub->e.ptr[pub->e.len - 1] & 1) == 0)
        return hsm_fail(HSM_ERR_DATA, "RSA public exponent is even or too large");
    pub->kind = (struct hsm_key_kind){ type, HSM_CURVE_NONE, bits };
    pub->pss_params = type == HSM_KEY_RSA_PSS ? params : (struct hsm_bytes){ NULL, 0 };
    return HSM_OK;
}

hsm_status hsm_pubkey_parse(struct hsm_bytes spki, struct hsm_pubkey *pub)
{
    struct hsm_bytes outer, algorithm, oid, key;
    size_t i;

    *pub = (struct hsm_pubkey){ .kind = { HSM_KEY_NONE, HSM_CURVE_NONE, 0 } };
    if (spki.len > HSM_SPKI_MAX || !der_take(&spki, DER_SEQUENCE, &outer) || spki.len != 0 ||
        !der_take(&outer, DER_SEQUENCE, &algorithm) || !der_take(&algorithm, DER_OID, &oid) ||
        !der_take(&outer, DER_BIT_STRING, &key) || outer.len != 0 || key.len < 2 || key.ptr[0] != 0)
        return hsm_fail(HSM_ERR_DATA, "malformed public key: not a SubjectPublicKeyInfo");
    key.ptr++; /* the count of unused bits, zero */
    key.len--;
    if (same(oid, oid_ec))
        return parse_ec(algorithm, key, pub);
    if (same(oid, oid_rsa))
        return parse_rsa(HSM_KEY_RSA, algorithm, key, pub);
    if (same(oid, oid_rsa_pss))
        return parse_rsa(HSM_KEY_RSA_PSS, algorithm, key, pub);
    for (i = 0; i < COUNT(raw_types); i++)
        if (same(oid, raw_types[i].oid))
            return parse_raw(&raw_types[i], algorithm, key, pub);
    return hsm_fail(HSM_ERR_KEY_TYPE,
                    "public key of a type that is not supported: use RSA, EC, Ed25519, Ed448, "
                    "X25519 or X448");
}

/* AlgorithmIdentifier and BIT STRING are written back to front, see struct der_writer. */
static void put_key_bits(struct der_writer *w, const struct hsm_pubkey *pub)
{
    static const uint8_t unused[1] = { 0 };
    size_t mark = der_len(w), seq = mark;

    if (pub->kind.type == HSM_KEY_RSA || pub->kind.type == HSM_KEY_RSA_PSS) {
        der_put_uint(w, pub->e);
        der_put_uint(w, pub->n);
        der_wrap(w, seq, DER_SEQUENCE);
    } else {
        der_put(w, pub->point);
    }
    der_put(w, (struct hsm_bytes){ unused, 1 });
    der_wrap(w, mark, DER_BIT_STRING);
}

static hsm_status put_algorithm(struct der_writer *w, const struct hsm_pubkey *pub)
{
    const struct hsm_curve_info *curve = hsm_curve_info(pub->kind.curve);
    const struct raw_type *raw = raw_type(pub->kind.type);
    size_t mark = der_len(w);

    if (pub->kind.type == HSM_KEY_EC && curve != NULL) {
        der_put_element(w, DER_OID, curve->oid);
        der_put_element(w, DER_OID, oid_ec);
    } else if (pub->kind.type == HSM_KEY_RSA) {
        der_put_element(w, DER_NULL, (struct hsm_bytes){ NULL, 0 });
        der_put_element(w, DER_OID, oid_rsa);
    } else if (pub->kind.type == HSM_KEY_RSA_PSS) {
        der_put(w, pub->pss_params);
        der_put_element(w, DER_OID, oid_rsa_pss);
    } else if (raw != NULL) {
        der_put_element(w, DER_OID, raw->oid);
    } else {
        return hsm_fail(HSM_ERR_KEY_TYPE, "no SubjectPublicKeyInfo for this key type");
    }
    der_wrap(w, mark, DER_SEQUENCE);
    return HSM_OK;
}

hsm_status hsm_pubkey_encode(const struct hsm_pubkey *pub, struct hsm_buf *out)
{
    struct der_writer w;
    hsm_status st;

    der_writer_init(&w, out);
    put_key_bits(&w, pub);
    if ((st = put_algorithm(&w, pub)) != HSM_OK)
        return st;
    der_wrap(&w, 0, DER_SEQUENCE);
    return der_finish(&w, out);
}

/* X coordinate and the parity of Y, which a compressed point spells out (SEC 1 section 2.3.3). */
static bool same_point(struct hsm_bytes a, struct hsm_bytes b, size_t field_len)
{
    uint8_t ya, yb;

    if (a.len == b.len && a.len > 0 && a.ptr[0] == b.ptr[0])
        return same(a, b);
    if (a.len < 1 + field_len || b.len < 1 + field_len || memcmp(a.ptr + 1, b.ptr + 1, field_len) != 0)
        return false;
    ya = a.ptr[0] == 0x04 ? a.ptr[a.len - 1] & 1 : a.ptr[0] & 1;
    yb = b.ptr[0] == 0x04 ? b.ptr[b.len - 1] & 1 : b.ptr[0] & 1;
    return ya == yb;
}

bool hsm_pubkey_equal(const struct hsm_pubkey *a, const struct hsm_pubkey *b)
{
    if (a->kind.type != b->kind.type || a->kind.curve != b->kind.curve)
        return false;
    if (a->kind.type == HSM_KEY_EC)
        return same_point(a->point, b->point, (a->kind.bits + 7) / 8);
    return same(a->point, b->point) && same(a->n, b->n) && same(a->e, b->e);
}
