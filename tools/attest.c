/* SPDX-License-Identifier: Apache-2.0 */
#include "attest.h"

#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509_vfy.h>

#define DEFAULT_PROVIDER "provider=default"

enum {
    DIGEST_LEN = 32,
    CHIP_ID_LEN = 18,
    TIMESTAMP_LEN = 12,
    ATTRIBUTES_MIN = 15, /* object id to origin, with an empty policy */
    VERSION_LEN = 4,     /* behind the origin, from applet 7 on */
    TAG_1 = 0x41,
    TAG_2,
    TAG_3,
    TAG_4,
    TAG_TIMESTAMP = 0x4f,
    ALGORITHM_ECDSA_SHA256 = 0x21
};

/** What the signed bytes say, borrowed from them. */
struct parts {
    struct hsm_bytes data;       /* the public key, as the applet writes it */
    struct hsm_bytes attributes; /* object id, type, owner, policy, origin */
    struct hsm_bytes chip_id;
    struct hsm_bytes challenge;    /* applet 3: as it is */
    struct hsm_bytes command_hash; /* applet 7: SHA-256 of the command that held it */
    uint8_t origin;
};

/* ---- the signed bytes ---------------------------------------------------------------------------------- */

/* Cut @p len bytes off the end. */
static struct hsm_bytes cut_end(struct hsm_bytes *in, size_t len)
{
    in->len -= len;
    return (struct hsm_bytes){ in->ptr + in->len, len };
}

/*
 * Applet 3: data, attributes, time, challenge and chip id in a row, without lengths. Where the attributes
 * begin follows from the length of the data, which is that of the key.
 */
static bool parse_v3(struct hsm_bytes in, size_t data_len, struct parts *p)
{
    if (in.len < data_len + ATTRIBUTES_MIN + TIMESTAMP_LEN + HSM_CHALLENGE_LEN + CHIP_ID_LEN)
        return false;
    p->chip_id = cut_end(&in, CHIP_ID_LEN);
    p->challenge = cut_end(&in, HSM_CHALLENGE_LEN);
    (void)cut_end(&in, TIMESTAMP_LEN);
    p->data = (struct hsm_bytes){ in.ptr, data_len };
    p->attributes = (struct hsm_bytes){ in.ptr + data_len, in.len - data_len };
    p->origin = p->attributes.ptr[p->attributes.len - 1];
    return true;
}

/* A TLV whose length has the three-byte form 82 hh ll. */
static bool take(struct hsm_bytes *in, uint8_t tag, struct hsm_bytes *value)
{
    size_t len;

    if (in->len < 4 || in->ptr[0] != tag || in->ptr[1] != 0x82)
        return false;
    len = (size_t)in->ptr[2] << 8 | in->ptr[3];
    if (len > in->len - 4)
        return false;
    *value = (struct hsm_bytes){ in->ptr + 4, len };
    in->ptr += 4 + len;
    in->len -= 4 + len;
    return true;
}

/* Applet 7: the hash of the command, then the answer's TLVs. */
static bool parse_v7(struct hsm_bytes in, struct parts *p)
{
    struct hsm_bytes size, timestamp;

    if (in.len < DIGEST_LEN)
        return false;
    p->command_hash = (struct hsm_bytes){ in.ptr, DIGEST_LEN };
    in.ptr += DIGEST_LEN;
    in.len -= DIGEST_LEN;
    if (!take(&in, TAG_1, &p->data) || !take(&in, TAG_2, &p->chip_id) || !take(&in, TAG_3, &p->attributes) ||
        !take(&in, TAG_4, &size) || !take(&in, TAG_TIMESTAMP, &timestamp) || in.len != 0 ||
        p->attributes.len < ATTRIBUTES_MIN + VERSION_LEN)
        return false;
    p->origin = p->attributes.ptr[p->attributes.len - 1 - VERSION_LEN];
    return true;
}

/* ---- is it this key, and this challenge? --------------------------------------------------------------- */

static struct hsm_bytes public_bytes(const struct hsm_pubkey *pub)
{
    bool rsa = pub->kind.type == HSM_KEY_RSA || pub->kind.type == HSM_KEY_RSA_PSS;

    return rsa ? pub->n : pub->point;
}

/* Keys of RFC 8410 are little-endian strings, which the applet turns round. */
static bool same_key(const struct hsm_pubkey *pub, struct hsm_bytes data)
{
    struct hsm_bytes want = public_bytes(pub);
    size_t i, same = 0, turned = 0;

    if (want.len != data.len || want.len == 0)
        return false;
    for (i = 0; i < want.len; i++) {
        same += want.ptr[i] == data.ptr[i];
        turned += want.ptr[i] == data.ptr[data.len - 1 - i];
    }
    return same == want.len || (turned == want.len && pub->kind.type >= HSM_KEY_ED25519);
}

/* The command as it was before any wrapping: what the applet hashes. */
static size_t read_command(const struct hsm_pubkey *pub, const struct parts *p, const uint8_t attester[4],
                           struct hsm_bytes challenge, uint8_t out[64])
{
    static const uint8_t header[] = { 0x80, 0x22, 0x00, 0x00, 0x00, 0x00 };
    bool rsa = pub->kind.type == HSM_KEY_RSA || pub->kind.type == HSM_KEY_RSA_PSS;
    size_t at = sizeof(header) + 1;

    memcpy(out, header, sizeof(header));
    out[at++] = TAG_1;
    out[at++] = 4;
    memcpy(out + at, p->attributes.ptr, 4);
    at += 4;
    if (rsa) {
        out[at++] = TAG_4;
        out[at++] = 1;
        out[at++] = 0; /* the modulus */
    }
    out[at++] = 0x45;
    out[at++] = 4;
    memcpy(out + at, attester, 4);
    at += 4;
    out[at++] = 0x46;
    out[at++] = 1;
    out[at++] = ALGORITHM_ECDSA_SHA256;
    out[at++] = 0x47;
    out[at++] = HSM_CHALLENGE_LEN;
    memcpy(out + at, challenge.ptr, HSM_CHALLENGE_LEN);
    at += HSM_CHALLENGE_LEN;
    out[sizeof(header)] = (uint8_t)(at - sizeof(header) - 1);
    return at;
}

static bool hashes_challenge(struct tool *t, const struct hsm_pubkey *pub, const struct parts *p,
                             struct hsm_bytes challenge)
{
    static const uint8_t attester[4] = { 0xf0, 0x00, 0x00, 0x12 }; /* NXP's attestation key */
    uint8_t command[64], digest[EVP_MAX_MD_SIZE];
    size_t len = read_command(pub, p, attester, challenge, command), digest_len = 0;

    return EVP_Q_digest(hsm_ctx_libctx(t->ctx), "SHA2-256", DEFAULT_PROVIDER, command, len, digest,
                        &digest_len) == 1 &&
           memcmp(digest, p->command_hash.ptr, DIGEST_LEN) == 0;
}

static enum hsm_origin origin_of(uint8_t code)
{
    static const enum hsm_origin origins[] = { HSM_ORIGIN_NONE, HSM_ORIGIN_IMPORTED, HSM_ORIGIN_GENERATED,
                                               HSM_ORIGIN_FACTORY };

    return code < sizeof(origins) / sizeof(origins[0]) ? origins[code] : HSM_ORIGIN_NONE;
}

static void judge_content(struct tool *t, const struct hsm_attestation *proof, const struct hsm_object *key,
                          struct hsm_bytes challenge, struct attest_verdict *v)
{
    struct hsm_bytes message = { proof->message, proof->message_len };
    struct parts p = { .origin = 0 };
    bool is_v7 = strcmp(proof->format, "nxp-se05x-7") == 0;
    struct hsm_pubkey pub;

    if (hsm_pubkey_parse((struct hsm_bytes){ key->spki, key->spki_len }, &pub) != HSM_OK ||
        !(is_v7 ? parse_v7(message, &p) : parse_v3(message, public_bytes(&pub).len, &p)))
        return;
    v->key_valid = same_key(&pub, p.data);
    v->challenge_valid = is_v7 ? hashes_challenge(t, &pub, &p, challenge)
                               : memcmp(p.challenge.ptr, challenge.ptr, HSM_CHALLENGE_LEN) == 0;
    v->origin = origin_of(p.origin);
}

/* ---- signature and chain ------------------------------------------------------------------------------- */

static X509 *certificate_of(struct tool *t, const struct hsm_attestation *proof)
{
    X509 *cert = proof->certificate_len > 0 ? X509_new_ex(hsm_ctx_libctx(t->ctx), DEFAULT_PROVIDER) : NULL;
    const unsigned char *p = proof->certificate;

    if (cert == NULL || d2i_X509(&cert, &p, (long)proof->certificate_len) != NULL)
        return cert;
    X509_free(cert); /* NULL already if d2i_X509() freed it */
    return NULL;
}

static EVP_PKEY *point_key(struct tool *t, const struct hsm_attestation *proof)
{
    struct hsm_pubkey pub = { .kind = { HSM_KEY_EC, HSM_CURVE_P256, 256 },
                              .point = { proof->attester, proof->attester_len } };
    uint8_t der[HSM_SPKI_MAX];
    struct hsm_buf out = { .ptr = der, .cap = sizeof(der) };
    const unsigned char *p = der;

    if (hsm_pubkey_encode(&pub, &out) != HSM_OK)
        return NULL;
    return d2i_PUBKEY_ex(NULL, &p, (long)out.len, hsm_ctx_libctx(t->ctx), DEFAULT_PROVIDER);
}

static bool signed_by(struct tool *t, EVP_PKEY *pub, const struct hsm_attestation *proof)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok =
        md != NULL && pub != NULL &&
        EVP_DigestVerifyInit_ex(md, NULL, "SHA2-256", hsm_ctx_libctx(t->ctx), DEFAULT_PROVIDER, pub, NULL) ==
            1 &&
        EVP_DigestVerify(md, proof->signature, proof->signature_len, proof->message, proof->message_len) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

/* By the certificate's key if there is one: the chain is then of use. */
static void judge_signature(struct tool *t, const struct hsm_attestation *proof, X509 *cert,
                            struct attest_verdict *v)
{
    EVP_PKEY *pub = cert == NULL ? point_key(t, proof) : NULL;

    v->signature_valid = signed_by(t, cert != NULL ? X509_get0_pubkey(cert) : pub, proof);
    EVP_PKEY_free(pub);
}

static hsm_status judge_chain(struct tool *t, X509 *cert, const char *ca, struct attest_verdict *v)
{
    OSSL_LIB_CTX *libctx = hsm_ctx_libctx(t->ctx);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new_ex(libctx, DEFAULT_PROVIDER);
    hsm_status st = HSM_OK;

    v->chain_asked = true;
    if (store == NULL || ctx == NULL) {
        st = hsm_fail(HSM_ERR_CRYPTO, "libcrypto cannot check a certificate chain");
    } else if (X509_STORE_load_file_ex(store, ca, libctx, DEFAULT_PROVIDER) != 1) {
        st = hsm_fail(HSM_ERR_DATA, "%s holds no certificate in PEM form", ca);
    } else if (cert == NULL) {
        snprintf(v->chain_text, sizeof(v->chain_text),
                 "the token holds no certificate of its attestation key");
    } else if (X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1 ||
               X509_STORE_CTX_init(ctx, store, cert, NULL) != 1) {
        st = hsm_fail(HSM_ERR_CRYPTO, "libcrypto cannot check a certificate chain");
    } else {
        v->chain_valid = X509_verify_cert(ctx) == 1;
        snprintf(v->chain_text, sizeof(v->chain_text), "%s",
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return st;
}

hsm_status attest_judge(struct tool *t, const struct hsm_attestation *proof, const struct hsm_object *key,
                        struct hsm_bytes challenge, const char *ca, struct attest_verdict *v)
{
    X509 *cert = certificate_of(t, proof);
    hsm_status st = HSM_OK;

    *v = (struct attest_verdict){ .origin = HSM_ORIGIN_NONE };
    judge_signature(t, proof, cert, v);
    judge_content(t, proof, key, challenge, v);
    if (ca != NULL)
        st = judge_chain(t, cert, ca, v);
    X509_free(cert);
    ERR_clear_error();
    return st;
}
