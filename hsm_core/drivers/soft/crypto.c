/* SPDX-License-Identifier: Apache-2.0 */
/* All use of libcrypto but signing. Always in the token's own library context, always the default provider.
 */
#include "internal.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "der.h"

#define PROPQ "provider=default"
enum { SECURE_HEAP_LEN = 1 << 20, SECURE_HEAP_MIN_BLOCK = 32 };

/* ---- small things ---------------------------------------------------------------------------------------
 */

hsm_status soft_random_bytes(OSSL_LIB_CTX *libctx, void *out, size_t len)
{
    if (RAND_priv_bytes_ex(libctx, out, len, 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    return HSM_OK;
}

hsm_status soft_sha256(OSSL_LIB_CTX *libctx, struct hsm_bytes in, uint8_t digest[SOFT_DIGEST_LEN])
{
    size_t len;

    if (EVP_Q_digest(libctx, "SHA2-256", PROPQ, in.ptr, in.len, digest, &len) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "SHA-256 failed");
    return HSM_OK;
}

static hsm_status derive(OSSL_LIB_CTX *libctx, const char *name, const OSSL_PARAM *params,
                         uint8_t key[SOFT_KEY_LEN])
{
    EVP_KDF *kdf = EVP_KDF_fetch(libctx, name, PROPQ);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    hsm_status st = HSM_OK;

    if (ctx == NULL || EVP_KDF_derive(ctx, key, SOFT_KEY_LEN, params) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "key derivation failed");
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return st;
}

hsm_status soft_hkdf(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes salt, const char *info,
                     uint8_t out[SOFT_KEY_LEN])
{
    /* OSSL_PARAM has no const; a KDF only reads these */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA2-256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key.ptr, key.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.ptr, salt.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, strlen(info)),
        OSSL_PARAM_construct_end(),
    };

    return derive(libctx, "HKDF", params, out);
}

static hsm_status scrypt(OSSL_LIB_CTX *libctx, const struct soft_kdf_params *kdf, struct hsm_bytes pin,
                         uint8_t key[SOFT_KEY_LEN])
{
    uint64_t n = kdf->n, memory = 128 * n * kdf->r + 128 * (uint64_t)kdf->r * (kdf->p + 4) + (1 << 16);
    uint32_t r = kdf->r, p = kdf->p;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)(uintptr_t)pin.ptr, pin.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)kdf->salt,
                                          sizeof(kdf->salt)),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };

    return derive(libctx, "SCRYPT", params, key);
}

hsm_status soft_kdf(OSSL_LIB_CTX *libctx, const struct soft_kdf_params *params, struct hsm_bytes pin,
                    uint8_t key[SOFT_KEY_LEN])
{
    if (params->kdf == SOFT_KDF_SCRYPT)
        return scrypt(libctx, params, pin, key);
    return soft_hkdf(libctx, pin, (struct hsm_bytes){ params->salt, sizeof(params->salt) },
                     "hsm soft token: PIN", key);
}

/* ---- AES-256-GCM ----------------------------------------------------------------------------------------
 */

hsm_status soft_seal(struct soft_token *t, const uint8_t key[SOFT_KEY_LEN], struct hsm_bytes aad,
                     struct hsm_bytes plain, struct hsm_buf *out)
{
    EVP_CIPHER_CTX *ctx = NULL;
    uint8_t *nonce = out->ptr, *body = nonce + SOFT_NONCE_LEN, *tag = body + plain.len;
    hsm_status st;
    int len;

    if (plain.len > HSM_DATA_MAX || out->cap < plain.len + SOFT_SEAL_EXTRA)
        return hsm_fail(HSM_ERR_INTERNAL, "no room to seal %zu bytes", plain.len);
    if ((st = soft_random_bytes(t->libctx, nonce, SOFT_NONCE_LEN)) != HSM_OK)
        return st;
    if ((ctx = EVP_CIPHER_CTX_new()) == NULL || EVP_EncryptInit_ex2(ctx, t->gcm, key, nonce, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &len, aad.ptr, (int)aad.len) != 1 ||
        (plain.len > 0 && EVP_EncryptUpdate(ctx, body, &len, plain.ptr, (int)plain.len) != 1) ||
        EVP_EncryptFinal_ex(ctx, tag, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SOFT_TAG_LEN, tag) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "sealing failed");
    else
        out->len = plain.len + SOFT_SEAL_EXTRA;
    EVP_CIPHER_CTX_free(ctx);
    return st;
}

hsm_status soft_unseal(struct soft_token *t, const uint8_t key[SOFT_KEY_LEN], struct hsm_bytes aad,
                       struct hsm_bytes sealed, struct hsm_buf *out)
{
    EVP_CIPHER_CTX *ctx;
    const uint8_t *body = sealed.ptr + SOFT_NONCE_LEN;
    size_t body_len;
    uint8_t tag[SOFT_TAG_LEN], none[1];
    hsm_status st = HSM_ERR_DATA;
    int len;

    if (sealed.len < SOFT_SEAL_EXTRA || sealed.len > HSM_DATA_MAX + SOFT_SEAL_EXTRA)
        return HSM_ERR_DATA;
    body_len = sealed.len - SOFT_SEAL_EXTRA;
    if (out->cap < body_len)
        return HSM_ERR_BUFFER;
    memcpy(tag, body + body_len, sizeof(tag));
    ctx = EVP_CIPHER_CTX_new();
    if (ctx != NULL && EVP_DecryptInit_ex2(ctx, t->gcm, key, sealed.ptr, NULL) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SOFT_TAG_LEN, tag) == 1 &&
        EVP_DecryptUpdate(ctx, NULL, &len, aad.ptr, (int)aad.len) == 1 &&
        (body_len == 0 || EVP_DecryptUpdate(ctx, out->ptr, &len, body, (int)body_len) == 1) &&
        EVP_DecryptFinal_ex(ctx, none, &len) == 1) {
        out->len = body_len;
        st = HSM_OK;
    } else if (body_len > 0) {
        hsm_cleanse(out->ptr, body_len); /* unauthenticated plaintext is nobody's business */
    }
    EVP_CIPHER_CTX_free(ctx);
    return st;
}
