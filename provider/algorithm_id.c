/* SPDX-License-Identifier: Apache-2.0 */
#include "signature.h"

#include <openssl/asn1.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

/* NIDs of a digest, and of its signatures with RSA PKCS#1 v1.5 and ECDSA (0: none has been registered). */
static const struct hash_nids {
    int hash, with_rsa, with_ecdsa;
} nids[HSM_HASH_COUNT] = {
    [HSM_HASH_MD5_SHA1] = { NID_md5_sha1, 0, 0 },
    [HSM_HASH_MD5] = { NID_md5, NID_md5WithRSAEncryption, 0 },
    [HSM_HASH_RIPEMD160] = { NID_ripemd160, NID_ripemd160WithRSA, 0 },
    [HSM_HASH_SHA1] = { NID_sha1, NID_sha1WithRSAEncryption, NID_ecdsa_with_SHA1 },
    [HSM_HASH_SHA224] = { NID_sha224, NID_sha224WithRSAEncryption, NID_ecdsa_with_SHA224 },
    [HSM_HASH_SHA256] = { NID_sha256, NID_sha256WithRSAEncryption, NID_ecdsa_with_SHA256 },
    [HSM_HASH_SHA384] = { NID_sha384, NID_sha384WithRSAEncryption, NID_ecdsa_with_SHA384 },
    [HSM_HASH_SHA512] = { NID_sha512, NID_sha512WithRSAEncryption, NID_ecdsa_with_SHA512 },
    [HSM_HASH_SHA512_224] = { NID_sha512_224, NID_sha512_224WithRSAEncryption, 0 },
    [HSM_HASH_SHA512_256] = { NID_sha512_256, NID_sha512_256WithRSAEncryption, 0 },
    [HSM_HASH_SHA3_224] = { NID_sha3_224, NID_RSA_SHA3_224, NID_ecdsa_with_SHA3_224 },
    [HSM_HASH_SHA3_256] = { NID_sha3_256, NID_RSA_SHA3_256, NID_ecdsa_with_SHA3_256 },
    [HSM_HASH_SHA3_384] = { NID_sha3_384, NID_RSA_SHA3_384, NID_ecdsa_with_SHA3_384 },
    [HSM_HASH_SHA3_512] = { NID_sha3_512, NID_RSA_SHA3_512, NID_ecdsa_with_SHA3_512 },
};

enum hsm_hash algid_nid_hash(int nid)
{
    for (int hash = HSM_HASH_NONE + 1; hash < HSM_HASH_COUNT; hash++)
        if (nids[hash].hash == nid)
            return (enum hsm_hash)hash;
    return HSM_HASH_NONE;
}

static hsm_status no_memory(void)
{
    return hsm_fail(HSM_ERR_MEMORY, "out of memory for an algorithm identifier");
}

static hsm_status no_identifier(enum hsm_hash hash, const char *scheme)
{
    const char *name = hsm_hash_name(hash);

    return hsm_fail(HSM_ERR_MECH, "there is no algorithm identifier for %s with digest %s; use SHA-256",
                    scheme, name != NULL ? name : "of this kind");
}

/* Takes over @p params (a DER SEQUENCE, or NULL). */
static hsm_status write_algid(int nid, int params_type, ASN1_STRING *params, struct hsm_buf *der)
{
    X509_ALGOR *alg = X509_ALGOR_new();
    unsigned char *end = der->ptr;
    hsm_status st = no_memory();
    int len;

    if (alg == NULL || !X509_ALGOR_set0(alg, OBJ_nid2obj(nid), params_type, params)) {
        ASN1_STRING_free(params);
        goto out;
    }
    len = i2d_X509_ALGOR(alg, NULL);
    if (len <= 0)
        goto out;
    if ((size_t)len > der->cap) {
        st = hsm_fail(HSM_ERR_BUFFER, "%d bytes of algorithm identifier do not fit", len);
        goto out;
    }
    der->len = (size_t)i2d_X509_ALGOR(alg, &end);
    st = HSM_OK;
out:
    X509_ALGOR_free(alg);
    return st;
}

hsm_status algid_rsa_pkcs1(enum hsm_hash hash, struct hsm_buf *der)
{
    if (nids[hash].with_rsa == 0)
        return no_identifier(hash, "RSA PKCS#1 v1.5");
    return write_algid(nids[hash].with_rsa, V_ASN1_NULL, NULL, der);
}

hsm_status algid_ecdsa(enum hsm_hash hash, struct hsm_buf *der)
{
    if (nids[hash].with_ecdsa == 0)
        return no_identifier(hash, "ECDSA");
    return write_algid(nids[hash].with_ecdsa, V_ASN1_UNDEF, NULL, der);
}

hsm_status algid_eddsa(enum hsm_key_type type, struct hsm_buf *der)
{
    return write_algid(type == HSM_KEY_ED448 ? NID_ED448 : NID_ED25519, V_ASN1_UNDEF, NULL, der);
}

/* RFC 4055 2.1: SHA-1 and SHA-2 with NULL parameters; NIST registered SHA-3 without. */
static X509_ALGOR *hash_algid(enum hsm_hash hash)
{
    X509_ALGOR *alg = X509_ALGOR_new();
    int params = hash >= HSM_HASH_SHA3_224 ? V_ASN1_UNDEF : V_ASN1_NULL;

    if (alg != NULL && X509_ALGOR_set0(alg, OBJ_nid2obj(nids[hash].hash), params, NULL))
        return alg;
    X509_ALGOR_free(alg);
    return NULL;
}

static X509_ALGOR *mgf1_algid(enum hsm_hash hash)
{
    X509_ALGOR *inner = hash_algid(hash), *alg = X509_ALGOR_new();
    ASN1_STRING *packed = NULL;

    if (inner != NULL && alg != NULL)
        packed = ASN1_item_pack(inner, ASN1_ITEM_rptr(X509_ALGOR), NULL);
    X509_ALGOR_free(inner);
    if (packed != NULL && X509_ALGOR_set0(alg, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, packed))
        return alg;
    ASN1_STRING_free(packed);
    X509_ALGOR_free(alg);
    return NULL;
}

static RSA_PSS_PARAMS *pss_params(enum hsm_hash hash, enum hsm_hash mgf1_hash, unsigned salt_len)
{
    const unsigned default_salt_len = 20; /* RFC 4055 3.1 */
    RSA_PSS_PARAMS *pss = RSA_PSS_PARAMS_new();

    if (pss == NULL)
        return NULL;
    if (hash != HSM_HASH_SHA1 && (pss->hashAlgorithm = hash_algid(hash)) == NULL)
        goto fail;
    if (mgf1_hash != HSM_HASH_SHA1 && (pss->maskGenAlgorithm = mgf1_algid(mgf1_hash)) == NULL)
        goto fail;
    if (salt_len == default_salt_len)
        return pss;
    if ((pss->saltLength = ASN1_INTEGER_new()) != NULL && ASN1_INTEGER_set(pss->saltLength, (long)salt_len))
        return pss;
fail:
    RSA_PSS_PARAMS_free(pss);
    return NULL;
}

hsm_status algid_rsa_pss(enum hsm_hash hash, enum hsm_hash mgf1_hash, unsigned salt_len, struct hsm_buf *der)
{
    RSA_PSS_PARAMS *pss;
    ASN1_STRING *packed;

    if (hash < HSM_HASH_SHA1 || mgf1_hash < HSM_HASH_SHA1)
        return no_identifier(hash < HSM_HASH_SHA1 ? hash : mgf1_hash, "RSA-PSS");
    if ((pss = pss_params(hash, mgf1_hash, salt_len)) == NULL)
        return no_memory();
    packed = ASN1_item_pack(pss, ASN1_ITEM_rptr(RSA_PSS_PARAMS), NULL);
    RSA_PSS_PARAMS_free(pss);
    if (packed == NULL)
        return no_memory();
    return write_algid(NID_rsassaPss, V_ASN1_SEQUENCE, packed, der);
}
