/* SPDX-License-Identifier: Apache-2.0 */
/* Always in the library context that is handed in, always the default provider. */
#include "private.h"

#include <pthread.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "der.h"

#define PROPQ "provider=default"
enum { SECURE_HEAP_LEN = 1 << 20, SECURE_HEAP_MIN_BLOCK = 32 };

hsm_status hsm_crypto_fail(hsm_status st, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

    return hsm_fail(st, "%s: %s", what, reason != NULL ? reason : "libcrypto gives no reason");
}

/* ---- libcrypto's heap for secrets -----------------------------------------------------------------------
 */

static pthread_once_t secure_heap_once = PTHREAD_ONCE_INIT;
static bool secure_heap_ours;

static void secure_heap_init(void)
{
    if (!CRYPTO_secure_malloc_initialized())
        secure_heap_ours = CRYPTO_secure_malloc_init(SECURE_HEAP_LEN, SECURE_HEAP_MIN_BLOCK) != 0;
}

void hsm_secure_heap(void)
{
    (void)pthread_once(&secure_heap_once, secure_heap_init);
}

bool hsm_secure_heap_tight(void)
{
    return secure_heap_ours && CRYPTO_secure_used() > SECURE_HEAP_LEN / 4 * 3;
}

/* ---- making keys ----------------------------------------------------------------------------------------
 */

static const char *algorithm_name(enum hsm_key_type type)
{
    switch (type) {
    case HSM_KEY_RSA:
        return "RSA";
    case HSM_KEY_RSA_PSS:
        return "RSA-PSS";
    case HSM_KEY_EC:
        return "EC";
    case HSM_KEY_ED25519:
        return "ED25519";
    case HSM_KEY_ED448:
        return "ED448";
    case HSM_KEY_X25519:
        return "X25519";
    case HSM_KEY_X448:
        return "X448";
    case HSM_KEY_NONE:
        break;
    }
    return "";
}

hsm_status hsm_pkey_generate(OSSL_LIB_CTX *libctx, const struct hsm_key_kind *kind, EVP_PKEY **pkey)
{
    const struct hsm_curve_info *curve = hsm_curve_info(kind->curve);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(libctx, algorithm_name(kind->type), PROPQ);
    size_t bits = kind->bits;
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end() };
    hsm_status st = HSM_OK;

    if (kind->type == HSM_KEY_RSA || kind->type == HSM_KEY_RSA_PSS)
        params[0] = OSSL_PARAM_construct_size_t(OSSL_PKEY_PARAM_RSA_BITS, &bits);
    else if (kind->type == HSM_KEY_EC && curve != NULL)
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
                                                     (char *)(uintptr_t)curve->group_name, 0);
    if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 || EVP_PKEY_CTX_set_params(ctx, params) != 1 ||
        EVP_PKEY_generate(ctx, pkey) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "key generation failed");
    EVP_PKEY_CTX_free(ctx);
    return st;
}

static const char *const rsa_names[RSA_NUMBERS] = {
    OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
    OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
    OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
    OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
};

/* Append one number of the key to `numbers`; `len` octets, or as many as it needs if 0. */
static bool take_number(const EVP_PKEY *pkey, const char *name, int len, struct hsm_buf *numbers,
                        struct hsm_bytes *out)
{
    BIGNUM *bn = BN_secure_new();
    uint8_t *to = numbers->ptr + numbers->len;
    bool ok = false;

    if (bn == NULL || EVP_PKEY_get_bn_param(pkey, name, &bn) != 1)
        goto out;
    if (len == 0)
        len = BN_num_bytes(bn);
    if ((size_t)len > numbers->cap - numbers->len || BN_bn2binpad(bn, to, len) != len)
        goto out;
    *out = (struct hsm_bytes){ to, (size_t)len };
    numbers->len += (size_t)len;
    ok = true;
out:
    BN_clear_free(bn);
    return ok;
}

static bool take_octets(const EVP_PKEY *pkey, const char *name, struct hsm_buf *numbers,
                        struct hsm_bytes *out)
{
    uint8_t *to = numbers->ptr + numbers->len;
    size_t len;

    if (EVP_PKEY_get_octet_string_param(pkey, name, to, numbers->cap - numbers->len, &len) != 1)
        return false;
    *out = (struct hsm_bytes){ to, len };
    numbers->len += len;
    return true;
}

/* Number by number, because libcrypto's encoders leave a copy of the whole key in freed memory. */
hsm_status hsm_pkey_numbers(const EVP_PKEY *pkey, const struct hsm_key_kind *kind, struct hsm_buf *numbers,
                            struct pkcs8_private *priv)
{
    bool ok = true;
    size_t i;

    *priv = (struct pkcs8_private){ .kind = *kind };
    numbers->len = 0;
    if (kind->type == HSM_KEY_EC)
        ok = take_number(pkey, OSSL_PKEY_PARAM_PRIV_KEY, (int)pkcs8_scalar_len(kind), numbers,
                         &priv->scalar) &&
             take_octets(pkey, OSSL_PKEY_PARAM_PUB_KEY, numbers, &priv->point);
    else if (pkcs8_scalar_len(kind) != 0)
        ok = take_octets(pkey, OSSL_PKEY_PARAM_PRIV_KEY, numbers, &priv->scalar);
    else
        for (i = 0; i < RSA_NUMBERS && ok; i++)
            ok = take_number(pkey, rsa_names[i], 0, numbers, &priv->rsa[i]);
    return ok ? HSM_OK : hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot read the new key");
}

/* Memory for secrets in, memory for secrets out: OSSL_PARAM_BLD keeps a secure BIGNUM secure. */
static bool push_number(OSSL_PARAM_BLD *bld, const char *name, struct hsm_bytes value, BIGNUM **keep)
{
    BIGNUM *bn = BN_secure_new();

    *keep = bn; /* the builder only borrows it */
    return bn != NULL && BN_bin2bn(value.ptr, (int)value.len, bn) != NULL &&
           OSSL_PARAM_BLD_push_BN(bld, name, bn) == 1;
}

static bool push_ec(OSSL_PARAM_BLD *bld, const struct pkcs8_private *priv, BIGNUM **keep)
{
    const struct hsm_curve_info *curve = hsm_curve_info(priv->kind.curve);

    return curve != NULL &&
           OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, curve->group_name, 0) == 1 &&
           OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, priv->point.ptr, priv->point.len) ==
               1 &&
           push_number(bld, OSSL_PKEY_PARAM_PRIV_KEY, priv->scalar, keep);
}

static bool push_hash(OSSL_PARAM_BLD *bld, const char *name, const X509_ALGOR *algorithm, char text[64])
{
    const ASN1_OBJECT *oid;

    if (algorithm == NULL)
        return true; /* absent: SHA-1, which is also libcrypto's default */
    X509_ALGOR_get0(&oid, NULL, NULL, algorithm);
    return OBJ_obj2txt(text, 64, oid, 1) > 0 && OSSL_PARAM_BLD_push_utf8_string(bld, name, text, 0) == 1;
}

static X509_ALGOR *mgf1_hash(const X509_ALGOR *mask)
{
    const ASN1_OBJECT *oid;
    const void *value;
    int type;

    X509_ALGOR_get0(&oid, &type, &value, mask);
    if (OBJ_obj2nid(oid) != NID_mgf1 || type != V_ASN1_SEQUENCE)
        return NULL;
    return ASN1_item_unpack(value, ASN1_ITEM_rptr(X509_ALGOR));
}

/* What an RSA-PSS key restricts its signatures to. `text`: memory that must live until the parameters are
 * made. */
static bool push_pss(OSSL_PARAM_BLD *bld, struct hsm_bytes der, char text[2][64])
{
    const unsigned char *at = der.ptr;
    RSA_PSS_PARAMS *pss = d2i_RSA_PSS_PARAMS(NULL, &at, (long)der.len);
    X509_ALGOR *hash = NULL;
    int64_t salt_len = 20, trailer = 1; /* RFC 8017 A.2.3: the defaults */
    bool ok = false;

    if (pss == NULL || at != der.ptr + der.len)
        goto out;
    if (pss->maskGenAlgorithm != NULL && (hash = mgf1_hash(pss->maskGenAlgorithm)) == NULL)
        goto out;
    if ((pss->saltLength != NULL && ASN1_INTEGER_get_int64(&salt_len, pss->saltLength) != 1) ||
        (pss->trailerField != NULL && ASN1_INTEGER_get_int64(&trailer, pss->trailerField) != 1) ||
        trailer != 1 || salt_len < 0 || salt_len > HSM_SIGNATURE_MAX)
        goto out;
    ok = push_hash(bld, OSSL_PKEY_PARAM_RSA_DIGEST, pss->hashAlgorithm, text[0]) &&
         push_hash(bld, OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, hash, text[1]) &&
         OSSL_PARAM_BLD_push_int(bld, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, (int)salt_len) == 1;
out:
    X509_ALGOR_free(hash);
    RSA_PSS_PARAMS_free(pss);
    return ok;
}

static hsm_status pkey_from(OSSL_LIB_CTX *libctx, enum hsm_key_type type, OSSL_PARAM *params, EVP_PKEY **pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(libctx, algorithm_name(type), PROPQ);
    hsm_status st = HSM_OK;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, pkey, EVP_PKEY_KEYPAIR, params) != 1)
        st = hsm_crypto_fail(HSM_ERR_DATA, "libcrypto refuses the private key");
    EVP_PKEY_CTX_free(ctx);
    return st;
}

/* libcrypto imports a raw private key into ordinary memory, but copies a key into memory for secrets. */
static hsm_status pkey_from_raw(OSSL_LIB_CTX *libctx, const struct pkcs8_private *priv, EVP_PKEY **pkey)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, (void *)(uintptr_t)priv->scalar.ptr,
                                          priv->scalar.len),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *plain = NULL;
    hsm_status st;

    if ((st = pkey_from(libctx, priv->kind.type, params, &plain)) == HSM_OK &&
        (*pkey = EVP_PKEY_dup(plain)) == NULL)
        st = hsm_crypto_fail(HSM_ERR_MEMORY, "cannot copy a key");
    EVP_PKEY_free(plain);
    return st;
}

/*
 * EVP_PKEY_fromdata() and not a decoder: decoders read the key into ordinary memory and free it without
 * cleansing. An EC scalar then lives in libcrypto's heap for secrets; RSA numbers in ordinary memory,
 * cleansed when the key is freed: libcrypto keeps the primes there anyway, in the Montgomery contexts of the
 * first signature. hide.c leaves those pages out of core dumps.
 */
hsm_status hsm_private_pkey(OSSL_LIB_CTX *libctx, const struct pkcs8_private *priv, EVP_PKEY **pkey)
{
    OSSL_PARAM_BLD *bld;
    OSSL_PARAM *params = NULL;
    BIGNUM *keep[RSA_NUMBERS] = { NULL };
    char text[2][64];
    hsm_status st;
    bool ok;
    size_t i;

    hsm_secure_heap();
    if (priv->kind.type != HSM_KEY_EC && pkcs8_scalar_len(&priv->kind) != 0)
        return pkey_from_raw(libctx, priv, pkey);
    bld = OSSL_PARAM_BLD_new();
    ok = bld != NULL;
    if (ok && priv->kind.type == HSM_KEY_EC)
        ok = push_ec(bld, priv, &keep[0]);
    else
        for (i = 0; i < RSA_NUMBERS && ok; i++)
            ok = push_number(bld, rsa_names[i], priv->rsa[i], &keep[i]);
    if (ok && priv->kind.type == HSM_KEY_RSA_PSS && priv->pss_params.len > 0 &&
        !push_pss(bld, priv->pss_params, text))
        st = hsm_fail(HSM_ERR_KEY_TYPE, "RSA-PSS key with parameters that are not supported");
    else if (!ok || (params = OSSL_PARAM_BLD_to_param(bld)) == NULL)
        st = hsm_crypto_fail(HSM_ERR_MEMORY, "no memory for a private key");
    else
        st = pkey_from(libctx, priv->kind.type, params, pkey);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    for (i = 0; i < RSA_NUMBERS; i++)
        BN_clear_free(keep[i]);
    return st;
}

/* ---- public keys of others ------------------------------------------------------------------------------
 */

size_t hsm_secret_len(const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_EC:
    case HSM_KEY_X25519:
    case HSM_KEY_X448:
        return (kind->bits + 7) / 8;
    default:
        return 0;
    }
}

/* libcrypto looks whether an EC point is on the curve when it takes one in. */
hsm_status hsm_peer_pkey(OSSL_LIB_CTX *libctx, const struct hsm_key_kind *kind, struct hsm_bytes peer,
                         const char *whose, EVP_PKEY **pkey)
{
    const struct hsm_curve_info *curve = hsm_curve_info(kind->curve);
    size_t field = hsm_secret_len(kind), want = kind->type == HSM_KEY_EC ? 1 + 2 * field : field;
    EVP_PKEY_CTX *ctx = NULL;
    OSSL_PARAM params[3], *p = params;
    char name[32];
    hsm_status st = HSM_OK;

    if (peer.len != want || (kind->type == HSM_KEY_EC && peer.ptr[0] != POINT_CONVERSION_UNCOMPRESSED))
        return hsm_fail(HSM_ERR_DATA,
                        "%s: the peer's public key has %zu bytes and is none of type %s, which has %zu%s",
                        whose, peer.len, hsm_kind_format(kind, name), want,
                        kind->type == HSM_KEY_EC ? " and begins with 04" : "");
    if (curve != NULL)
        *p++ = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
                                                (char *)(uintptr_t)curve->group_name, 0);
    *p++ = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)peer.ptr, peer.len);
    *p = OSSL_PARAM_construct_end();
    ctx = EVP_PKEY_CTX_new_from_name(libctx, algorithm_name(kind->type), PROPQ);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot take in a public key");
    else if (EVP_PKEY_fromdata(ctx, pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        st = hsm_fail(HSM_ERR_DATA, "%s: the peer's public key is no point on %s", whose,
                      hsm_kind_format(kind, name));
    EVP_PKEY_CTX_free(ctx);
    return st;
}

/* ---- facts about keys -----------------------------------------------------------------------------------
 */

hsm_status hsm_private_point(OSSL_LIB_CTX *libctx, const struct pkcs8_private *priv, struct hsm_buf *point)
{
    const struct hsm_curve_info *curve = hsm_curve_info(priv->kind.curve);
    int nid = curve == NULL ? NID_undef : OBJ_sn2nid(curve->group_name);
    EC_GROUP *group = EC_GROUP_new_by_curve_name_ex(libctx, PROPQ, nid);
    EC_POINT *q = group == NULL ? NULL : EC_POINT_new(group);
    BIGNUM *d = BN_secure_new();
    hsm_status st = HSM_OK;

    hsm_secure_heap();
    if (q == NULL || d == NULL || BN_bin2bn(priv->scalar.ptr, (int)priv->scalar.len, d) == NULL) {
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot compute a public key");
    } else if (BN_is_zero(d) || BN_cmp(d, EC_GROUP_get0_order(group)) >= 0) {
        st = hsm_fail(HSM_ERR_DATA, "malformed private key: EC private value is not between 1 and the order");
    } else {
        BN_set_flags(d, BN_FLG_CONSTTIME);
        if (EC_POINT_mul(group, q, d, NULL, NULL, NULL) != 1 ||
            (point->len = EC_POINT_point2oct(group, q, POINT_CONVERSION_UNCOMPRESSED, point->ptr, point->cap,
                                             NULL)) == 0)
            st = hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot compute a public key");
    }
    BN_clear_free(d);
    EC_POINT_free(q);
    EC_GROUP_free(group);
    return st;
}

hsm_status hsm_pkey_check(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, pkey, PROPQ);
    hsm_status st = HSM_OK;

    if (ctx == NULL || EVP_PKEY_check(ctx) != 1)
        st = hsm_crypto_fail(HSM_ERR_DATA, "private key is not consistent");
    EVP_PKEY_CTX_free(ctx);
    return st;
}

hsm_status hsm_pkey_spki(EVP_PKEY *pkey, struct hsm_buf *spki)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(pkey, &der);
    hsm_status st = HSM_OK;

    if (len <= 0)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "cannot encode a public key");
    if ((size_t)len > spki->cap) {
        st = hsm_fail(HSM_ERR_KEY_TYPE, "public key of %d bytes is too large", len);
    } else {
        memcpy(spki->ptr, der, (size_t)len);
        spki->len = (size_t)len;
    }
    OPENSSL_free(der);
    return st;
}

static hsm_status rfc7093_id(OSSL_LIB_CTX *libctx, struct hsm_bytes key, uint8_t id[HSM_KEY_ID_LEN])
{
    uint8_t digest[32];
    size_t len;

    if (EVP_Q_digest(libctx, "SHA2-256", PROPQ, key.ptr, key.len, digest, &len) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "SHA-256 failed");
    memcpy(id, digest, HSM_KEY_ID_LEN);
    return HSM_OK;
}

hsm_status hsm_spki_id(OSSL_LIB_CTX *libctx, struct hsm_bytes spki, uint8_t id[HSM_KEY_ID_LEN])
{
    struct hsm_bytes outer, algorithm, bits;

    if (!der_take(&spki, DER_SEQUENCE, &outer) || !der_take(&outer, DER_SEQUENCE, &algorithm) ||
        !der_take(&outer, DER_BIT_STRING, &bits) || bits.len < 2)
        return hsm_fail(HSM_ERR_DATA, "malformed public key: not a SubjectPublicKeyInfo");
    return rfc7093_id(libctx, (struct hsm_bytes){ bits.ptr + 1, bits.len - 1 }, id);
}

static struct hsm_key_kind certificate_kind(const X509 *x509)
{
    struct hsm_pubkey pub = { .kind = { HSM_KEY_NONE, HSM_CURVE_NONE, 0 } };
    uint8_t *spki = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &spki);

    if (len <= 0 || hsm_pubkey_parse((struct hsm_bytes){ spki, (size_t)len }, &pub) != HSM_OK)
        pub.kind = (struct hsm_key_kind){ HSM_KEY_NONE, HSM_CURVE_NONE, 0 }; /* a certificate all the same */
    OPENSSL_free(spki);
    return pub.kind;
}

hsm_status hsm_certificate_id(OSSL_LIB_CTX *libctx, struct hsm_bytes der, struct hsm_key_kind *kind,
                              uint8_t id[HSM_KEY_ID_LEN])
{
    const unsigned char *at = der.ptr;
    X509 *x509 = X509_new_ex(libctx, PROPQ);
    const ASN1_BIT_STRING *key;
    hsm_status st;

    if (x509 == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a certificate");
    if (d2i_X509(&x509, &at, (long)der.len) == NULL) {
        st = hsm_crypto_fail(HSM_ERR_DATA, "not an X.509 certificate in DER");
    } else if (at != der.ptr + der.len) {
        st = hsm_fail(HSM_ERR_DATA, "%td bytes follow the certificate: store one at a time",
                      der.ptr + der.len - at);
    } else {
        *kind = certificate_kind(x509);
        key = X509_get0_pubkey_bitstr(x509);
        st = rfc7093_id(
            libctx, (struct hsm_bytes){ ASN1_STRING_get0_data(key), (size_t)ASN1_STRING_length(key) }, id);
    }
    X509_free(x509); /* d2i_X509() has set it to NULL if it failed */
    return st;
}

/* Does the point that came with an EC key (if any) belong to it? `point`: uncompressed, computed from the
 * scalar. */
static bool point_fits(struct hsm_bytes given, struct hsm_bytes point)
{
    size_t field_len = (point.len - 1) / 2;

    if (given.len == 0)
        return true;
    if (given.len == point.len)
        return memcmp(given.ptr, point.ptr, point.len) == 0;
    return given.len == 1 + field_len && given.ptr[0] == (0x02 | (point.ptr[point.len - 1] & 1)) &&
           memcmp(given.ptr + 1, point.ptr + 1, field_len) == 0;
}

hsm_status hsm_private_complete(OSSL_LIB_CTX *libctx, struct pkcs8_private *priv, struct hsm_buf *point)
{
    hsm_status st;

    if (priv->kind.type != HSM_KEY_EC)
        return HSM_OK;
    if ((st = hsm_private_point(libctx, priv, point)) != HSM_OK)
        return st;
    if (!point_fits(priv->point, (struct hsm_bytes){ point->ptr, point->len }))
        return hsm_fail(HSM_ERR_DATA, "malformed private key: its public point does not belong to it");
    priv->point = (struct hsm_bytes){ point->ptr, point->len };
    return HSM_OK;
}

hsm_status hsm_private_check(OSSL_LIB_CTX *libctx, struct pkcs8_private *priv, uint8_t point[HSM_POINT_MAX],
                             struct hsm_buf *spki)
{
    struct hsm_buf computed = { point, HSM_POINT_MAX, 0 };
    EVP_PKEY *pkey = NULL;
    hsm_status st;

    if ((st = hsm_private_complete(libctx, priv, &computed)) != HSM_OK)
        return st;
    if ((st = hsm_private_pkey(libctx, priv, &pkey)) == HSM_OK &&
        (st = hsm_pkey_check(libctx, pkey)) == HSM_OK)
        st = hsm_pkey_spki(pkey, spki);
    EVP_PKEY_free(pkey);
    return st;
}
