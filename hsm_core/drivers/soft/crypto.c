/* SPDX-License-Identifier: Apache-2.0 */
/* All use of libcrypto but signing. Always in the token's own library context, always the default provider.
 */
#include "internal.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

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

hsm_status soft_hkdf(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes salt, const char *info,
                     uint8_t out[SOFT_KEY_LEN])
{
    struct hsm_buf buf = { out, SOFT_KEY_LEN, 0 };

    return hsm_hkdf(libctx, key, salt, (struct hsm_bytes){ (const uint8_t *)info, strlen(info) }, &buf);
}

hsm_status soft_kdf(OSSL_LIB_CTX *libctx, const struct soft_kdf_params *params, struct hsm_bytes pin,
                    uint8_t key[SOFT_KEY_LEN])
{
    struct hsm_scrypt_cost cost = { params->n, params->r, params->p };
    struct hsm_bytes salt = { params->salt, sizeof(params->salt) };
    struct hsm_buf out = { key, SOFT_KEY_LEN, 0 };

    if (params->kdf == SOFT_KDF_SCRYPT)
        return hsm_scrypt(libctx, &cost, pin, salt, &out);
    return soft_hkdf(libctx, pin, salt, "hsm soft token: PIN", key);
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
