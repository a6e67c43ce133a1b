/* SPDX-License-Identifier: Apache-2.0 */
/* Ciphers, MACs, digests and random numbers of the part, by libcrypto. */
#include "applet.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <stdio.h>
#include <string.h>

static const struct cipher_mode modes[] = {
    { 0x01, KIND_DES, "CBC", PAD_NONE },       { 0x02, KIND_DES, "CBC", PAD_ZERO },
    { 0x03, KIND_DES, "CBC", PAD_BIT },        { 0x05, KIND_DES, "ECB", PAD_NONE },
    { 0x06, KIND_DES, "ECB", PAD_ZERO },       { 0x07, KIND_DES, "ECB", PAD_BIT },
    { 0x0E, KIND_AES, "ECB", PAD_NONE },       { 0x0D, KIND_AES, "CBC", PAD_NONE },
    { 0x16, KIND_AES, "CBC", PAD_ZERO },       { 0x17, KIND_AES, "CBC", PAD_BIT },
    { CIPHER_CTR, KIND_AES, "CTR", PAD_NONE },
};

const struct cipher_mode *cipher_mode(uint8_t code)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (modes[i].code == code)
            return &modes[i];
    return NULL;
}

size_t cipher_block_len(const struct cipher_mode *m)
{
    return m->kind == KIND_DES ? 8 : 16;
}

/* libcrypto's default provider has triple DES only; one- and two-key DES are cases of it */
static void des_expand(uint8_t out[24], struct sim_bytes key)
{
    for (size_t i = 0; i < 24; i++)
        out[i] = key.ptr[i % key.len];
}

EVP_CIPHER_CTX *cipher_start(struct applet *a, const struct cipher_mode *m, struct sim_bytes key,
                             struct sim_bytes iv, bool encrypt)
{
    bool needs_iv = strcmp(m->name, "ECB") != 0;
    EVP_CIPHER_CTX *ctx = NULL;
    EVP_CIPHER *cipher;
    uint8_t des[24];
    char name[24];

    if (needs_iv ? iv.len != cipher_block_len(m) : iv.len != 0)
        return NULL;
    if (m->kind == KIND_DES) /* ECB of triple DES has no mode in its name */
        snprintf(name, sizeof(name), "DES-EDE3%s", needs_iv ? "-CBC" : "");
    else
        snprintf(name, sizeof(name), "AES-%zu-%s", 8 * key.len, m->name);
    if (m->kind == KIND_DES) {
        des_expand(des, key);
        key = (struct sim_bytes){ des, sizeof(des) };
    }
    cipher = EVP_CIPHER_fetch(a->libctx, name, NULL);
    if (cipher != NULL && (ctx = EVP_CIPHER_CTX_new()) != NULL &&
        (EVP_CipherInit_ex2(ctx, cipher, key.ptr, needs_iv ? iv.ptr : NULL, encrypt ? 1 : 0, NULL) != 1 ||
         EVP_CIPHER_CTX_set_padding(ctx, 0) != 1)) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(cipher);
    OPENSSL_cleanse(des, sizeof(des));
    return ctx;
}

size_t cipher_padding(const struct cipher_mode *m, size_t len, uint8_t pad[16])
{
    size_t block = cipher_block_len(m), missing = (block - len % block) % block;

    memset(pad, 0, 16);
    if (m->padding == PAD_NONE)
        return 0;
    if (m->padding == PAD_ZERO)
        return missing;
    pad[0] = 0x80;
    return missing == 0 ? block : missing;
}

size_t cipher_unpad(const struct cipher_mode *m, const uint8_t *data, size_t len)
{
    size_t end = len;

    if (m->padding != PAD_BIT)
        return len; /* zeros of method 1 cannot be told from data */
    while (end > 0 && data[end - 1] == 0)
        end--;
    return end > 0 && data[end - 1] == 0x80 ? end - 1 : len;
}

const char *digest_name(uint8_t mode)
{
    switch (mode) {
    case 0x01:
        return "SHA1";
    case 0x07:
        return "SHA2-224";
    case 0x04:
        return "SHA2-256";
    case 0x05:
        return "SHA2-384";
    case 0x06:
        return "SHA2-512";
    default:
        return NULL;
    }
}

/* ---- MAC
 * ------------------------------------------------------------------------------------------------------ */

static const struct mac_algo {
    uint8_t code, kind;
    const char *mac, *digest;
    size_t len;
} macs[] = {
    { 0x18, KIND_HMAC, "HMAC", "SHA1", 20 },     { 0x19, KIND_HMAC, "HMAC", "SHA2-256", 32 },
    { 0x1A, KIND_HMAC, "HMAC", "SHA2-384", 48 }, { 0x1B, KIND_HMAC, "HMAC", "SHA2-512", 64 },
    { 0x31, KIND_AES, "CMAC", NULL, 16 },        { 0x7A, KIND_DES, "CMAC", NULL, 8 },
};

static const struct mac_algo *mac_algo(uint8_t code)
{
    for (size_t i = 0; i < sizeof(macs) / sizeof(macs[0]); i++)
        if (macs[i].code == code)
            return &macs[i];
    return NULL;
}

size_t mac_len(uint8_t algo)
{
    const struct mac_algo *m = mac_algo(algo);

    return m == NULL ? 0 : m->len;
}

EVP_MAC_CTX *mac_start(struct applet *a, uint8_t algo, const struct object *key)
{
    const struct mac_algo *m = mac_algo(algo);
    struct sim_bytes value = buf_view(&key->value[V_DATA]);
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end() };
    char cipher[16];
    EVP_MAC_CTX *ctx;
    uint8_t des[24];
    EVP_MAC *mac;

    if (m == NULL || m->kind != key->kind)
        return NULL;
    if (m->kind == KIND_DES) {
        des_expand(des, value);
        value = (struct sim_bytes){ des, sizeof(des) };
        snprintf(cipher, sizeof(cipher), "DES-EDE3-CBC");
    } else {
        snprintf(cipher, sizeof(cipher), "AES-%zu-CBC", 8 * value.len);
    }
    if (m->digest != NULL)
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)m->digest, 0);
    else
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0);
    mac = EVP_MAC_fetch(a->libctx, m->mac, NULL);
    ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    if (ctx != NULL && EVP_MAC_init(ctx, value.ptr, value.len, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_MAC_free(mac);
    OPENSSL_cleanse(des, sizeof(des));
    return ctx;
}

/* ---- small things
 * --------------------------------------------------------------------------------------------- */

bool random_bytes(struct applet *a, void *out, size_t len)
{
    return RAND_bytes_ex(a->libctx, out, len, 0) == 1;
}

bool sha256(struct applet *a, struct sim_bytes in, uint8_t digest[32])
{
    return EVP_Q_digest(a->libctx, "SHA2-256", NULL, in.ptr, in.len, digest, NULL) == 1;
}
