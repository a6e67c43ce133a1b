/* SPDX-License-Identifier: Apache-2.0 */
/* What a fresh part holds (section 4.6): unique id, the applet's own keys, device keys with certificates of a
 * test root. The root's key is below for everyone to read: it vouches for nothing.
 */
#include "applet.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdio.h>
#include <string.h>

static const uint8_t root_key[32] = {
    0x99, 0x81, 0xab, 0x72, 0x20, 0x27, 0xb2, 0x99, 0x2b, 0x87, 0x2d, 0x10, 0x50, 0xc9, 0x36, 0x21,
    0xd7, 0x34, 0x6d, 0xd4, 0xf8, 0xbe, 0x87, 0xa6, 0x90, 0x77, 0x15, 0x62, 0xf3, 0xa1, 0xcd, 0x3d,
};
static const char root_certificate[] = "-----BEGIN CERTIFICATE-----\n"
                                       "MIIBmjCCAUCgAwIBAgIBATAKBggqhkjOPQQDAjAyMRIwEAYDVQQKDAlzZTA1eC1z\n"
                                       "aW0xHDAaBgNVBAMME3NlMDV4LXNpbSB0ZXN0IHJvb3QwIBcNMjYxMTI1MTQzMDU2\n"
                                       "WhgPMjEwMDEwMjgxNDMwNTZaMDIxEjAQBgNVBAoMCXNlMDV4LXNpbTEcMBoGA1UE\n"
                                       "AwwTc2UwNXgtc2ltIHRlc3Qgcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\n"
                                       "BD4AJaE0Undyk22ICRC8TWFUcUpOui5XIQ1TDgCtjuZUZw/uKVM/A0/inVhupIEN\n"
                                       "TClbBtHzJGhaArAJeXUs7T2jRTBDMBIGA1UdEwEB/wQIMAYBAf8CAQAwDgYDVR0P\n"
                                       "AQH/BAQDAgEGMB0GA1UdDgQWBBT2HQUKFqnvheeFIeoz92uAuFjOCzAKBggqhkjO\n"
                                       "PQQDAgNIADBFAiEAsPKx+ITD7Dsb3v3ojJNXHT153ME0jfv3lFLuU5HXcU0CIBCj\n"
                                       "8Rm9QNoqb16c0b2dn+pJnsrkIyZX7+UVLuNSZxKw\n"
                                       "-----END CERTIFICATE-----\n";

#define ID_ROOT_CERTIFICATE 0xF0000001U

struct device_key {
    uint32_t id, certificate; /* certificate 0: none */
    const char *name;
    bool rsa;
    uint32_t rights;
};

static const struct device_key device_keys[] = {
    { ID_ECKEY_SESSION, 0, "ECKey session", false, ALLOW_READ },
    { ID_ECKEY_IMPORT, 0, "ECKey import", false, ALLOW_READ },
    { 0xF0000012U, 0xF0000013U, "attestation", false, ALLOW_READ | ALLOW_ATTESTATION },
    { 0xF0000100U, 0xF0000101U, "device EC", false,
      ALLOW_READ | ALLOW_SIGN | ALLOW_VERIFY | ALLOW_KA | ALLOW_ATTESTATION },
    { 0xF0000102U, 0xF0000103U, "gateway EC", false,
      ALLOW_READ | ALLOW_SIGN | ALLOW_VERIFY | ALLOW_KA | ALLOW_ATTESTATION },
    { 0xF0000110U, 0xF0000111U, "device RSA", true,
      ALLOW_READ | ALLOW_SIGN | ALLOW_VERIFY | ALLOW_ENC | ALLOW_DEC | ALLOW_ATTESTATION },
};

/* Nothing of the factory's can be written or deleted: its rule, for everyone, gives only what it must. */
static struct object *factory_object(uint32_t id, uint8_t kind, uint32_t rights)
{
    struct object *o = object_new(id, kind);
    uint8_t rule[9] = { 8 };

    put_be(rule + 5, rights, 4);
    buf_set(&o->policy, rule, sizeof(rule));
    o->origin = ORIGIN_PROVISIONED;
    return o;
}

static void add_file(struct applet *a, uint32_t id, const void *data, size_t len)
{
    struct object *o = factory_object(id, KIND_BINARY, ALLOW_READ);

    buf_set(&o->value[V_DATA], data, len);
    o->size = (uint16_t)len;
    store_commit(a, o);
}

/* ---- certificates ------------------------------------------------------------------------------------- */

static X509 *root(void)
{
    BIO *bio = BIO_new_mem_buf(root_certificate, -1);
    X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    return cert;
}

static bool set_names(X509 *cert, const char *key_name, const uint8_t unique_id[UNIQUE_ID_LEN], X509 *issuer)
{
    X509_NAME *name = X509_get_subject_name(cert);
    char serial[2 * UNIQUE_ID_LEN + 1], common[64];

    for (size_t i = 0; i < UNIQUE_ID_LEN; i++)
        snprintf(serial + 2 * i, 3, "%02X", unique_id[i]);
    snprintf(common, sizeof(common), "se05x-sim %s key", key_name);
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0) ==
               1 &&
           X509_NAME_add_entry_by_txt(name, "serialNumber", MBSTRING_ASC, (const unsigned char *)serial, -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1;
}

static bool set_fields(X509 *cert, uint32_t serial)
{
    return X509_set_version(cert, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial) == 1 &&
           ASN1_TIME_set_string(X509_getm_notBefore(cert), "20200101000000Z") == 1 &&
           ASN1_TIME_set_string(X509_getm_notAfter(cert), "20991231235959Z") == 1;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *ext;
    X509V3_CTX ctx;
    bool ok;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool add_certificate(struct applet *a, const struct device_key *k, const struct object *o,
                            const uint8_t unique_id[UNIQUE_ID_LEN])
{
    EVP_PKEY *subject = pkey_object(a, o, false);
    EVP_PKEY *signer =
        pkey_ec(a, 0x03, (struct sim_bytes){ root_key, sizeof(root_key) }, (struct sim_bytes){ NULL, 0 });
    EVP_MD *md = EVP_MD_fetch(a->libctx, "SHA2-256", NULL);
    X509 *cert = X509_new_ex(a->libctx, NULL), *issuer = root();
    unsigned char *der = NULL;
    int len = 0;

    if (subject != NULL && signer != NULL && md != NULL && cert != NULL && issuer != NULL &&
        set_fields(cert, k->id) && set_names(cert, k->name, unique_id, issuer) &&
        X509_set_pubkey(cert, subject) == 1 &&
        add_extension(cert, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, issuer, NID_authority_key_identifier, "keyid") && X509_sign(cert, signer, md) > 0)
        len = i2d_X509(cert, &der);
    if (len > 0)
        add_file(a, k->certificate, der, (size_t)len);
    OPENSSL_free(der);
    X509_free(cert);
    X509_free(issuer);
    EVP_MD_free(md);
    EVP_PKEY_free(signer);
    EVP_PKEY_free(subject);
    return len > 0;
}

static bool add_root(struct applet *a)
{
    X509 *cert = root();
    unsigned char *der = NULL;
    int len = cert == NULL ? 0 : i2d_X509(cert, &der);

    if (len > 0)
        add_file(a, ID_ROOT_CERTIFICATE, der, (size_t)len);
    OPENSSL_free(der);
    X509_free(cert);
    return len > 0;
}

/* ---- the part ----------------------------------------------------------------------------------------- */

static bool add_key(struct applet *a, const struct device_key *k, const uint8_t unique_id[UNIQUE_ID_LEN])
{
    struct object *o = factory_object(k->id, k->rsa ? KIND_RSA : KIND_EC, k->rights);
    bool ok;

    o->part = PART_PAIR;
    o->curve = k->rsa ? 0 : 0x03;
    o->size = k->rsa ? 2048 : 32;
    ok = (k->rsa ? pkey_generate_rsa(a, o) : pkey_generate_ec(a, o)) &&
         (k->certificate == 0 || add_certificate(a, k, o, unique_id));
    if (ok)
        store_commit(a, o);
    else
        object_free(o);
    return ok;
}

bool provision(struct applet *a)
{
    uint8_t unique_id[UNIQUE_ID_LEN] = { 0x04, 0x00, 0x50, 0x01 };
    const struct curve_info *p256 = curve_info(0x03);

    /* the device keys are on P-256, so the curve is complete from the start */
    a->curves[0x03].created = true;
    a->curves[0x03].set = (1 << CURVE_PARAMS) - 1;
    if (!curve_standard(a, p256, a->curves[0x03].param) ||
        !random_bytes(a, unique_id + 4, UNIQUE_ID_LEN - 4) ||
        !random_bytes(a, a->export_key, sizeof(a->export_key)) || !add_root(a))
        return false;
    add_file(a, ID_UNIQUE, unique_id, sizeof(unique_id));
    for (size_t i = 0; i < sizeof(device_keys) / sizeof(device_keys[0]); i++)
        if ((!device_keys[i].rsa || (a->p.config & 0x0040)) && !add_key(a, &device_keys[i], unique_id))
            return false;
    a->time_us = 0; /* the factory's time */
    return true;
}
