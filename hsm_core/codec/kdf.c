/* SPDX-License-Identifier: Apache-2.0 */
#include "kdf.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "private.h"

#define PROPQ "provider=default"

static hsm_status derive(OSSL_LIB_CTX *libctx, const char *name, const OSSL_PARAM *params,
                         struct hsm_buf *out)
{
    EVP_KDF *kdf = EVP_KDF_fetch(libctx, name, PROPQ);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    hsm_status st = HSM_OK;

    if (ctx == NULL || EVP_KDF_derive(ctx, out->ptr, out->cap, params) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "key derivation failed");
    else
        out->len = out->cap;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return st;
}

/* OSSL_PARAM has no const; a KDF only reads these. */
static OSSL_PARAM octets(const char *name, struct hsm_bytes value)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)value.ptr, value.len);
}

hsm_status hsm_hkdf(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes salt, struct hsm_bytes info,
                    struct hsm_buf *out)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA2-256", 0),
        octets(OSSL_KDF_PARAM_KEY, key),
        octets(OSSL_KDF_PARAM_SALT, salt),
        octets(OSSL_KDF_PARAM_INFO, info),
        OSSL_PARAM_construct_end(),
    };

    return derive(libctx, "HKDF", params, out);
}

hsm_status hsm_scrypt(OSSL_LIB_CTX *libctx, const struct hsm_scrypt_cost *cost, struct hsm_bytes pin,
                      struct hsm_bytes salt, struct hsm_buf *out)
{
    uint64_t n = cost->n, memory = 128 * (n + cost->p + 4) * cost->r + (1 << 16);
    uint32_t r = cost->r, p = cost->p;
    OSSL_PARAM params[] = {
        octets(OSSL_KDF_PARAM_PASSWORD, pin),
        octets(OSSL_KDF_PARAM_SALT, salt),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };

    return derive(libctx, "SCRYPT", params, out);
}
