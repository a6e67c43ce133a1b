/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secure messaging SCP03 as the SE05x speaks it: key derivation, cryptograms, command and answer protection.
 * No I/O. Source: GlobalPlatform Card Specification 2.3, Amendment D (SCP03); NIST SP 800-108 (KDF in counter
 * mode)
 */
#include "internal.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "private.h"

#define PROPQ "provider=default"
enum {
    BLOCK_LEN = 16,
    MAC_LEN = 8, /* of a command or an answer; a cryptogram is as long */
    CONTEXT_LEN = 2 * SE05X_CHALLENGE_LEN,
    HEADER_MAX = 7, /* CLA INS P1 P2 and an extended Lc */
    UPDATE_LEN = 29,
    UPDATE_COUNTER_LEN = 3, /* INITIALIZE UPDATE's answer, and its optional sequence counter */
    UPDATE_KVN = 10,
    UPDATE_SCP_ID = 11,
    UPDATE_CHALLENGE = 13,
    SCP_ID = 3,
    CLA_SECURE = 0x04,
    PADDING = 0x80
};

/* Amendment D, table 4-1: derivation constants */
enum { DERIVE_CARD = 0x00, DERIVE_HOST = 0x01, DERIVE_ENC = 0x04, DERIVE_MAC = 0x06, DERIVE_RMAC = 0x07 };

enum stage { STAGE_NEW, STAGE_KEYED, STAGE_OPEN, STAGE_DEAD };

/* In memory of its own that is locked, not dumped, and cleansed when released. */
struct scp03 {
    enum scp03_counter_rule rule;
    enum stage stage;
    OSSL_LIB_CTX *libctx;
    EVP_MAC *cmac;
    EVP_MAC_CTX *mac_ctx;
    EVP_CIPHER *cbc;
    EVP_CIPHER_CTX *encrypt, *decrypt;
    size_t key_len;
    uint8_t enc[SE05X_AES_KEY_MAX], mac[SE05X_AES_KEY_MAX], rmac[SE05X_AES_KEY_MAX];
    uint8_t chain[BLOCK_LEN]; /* the MAC of the last command, whole */
    uint8_t host_cryptogram[MAC_LEN];
    uint64_t counter;        /* of the next command that counts; 1 is the first */
    uint64_t answer_counter; /* of the answer that is due */
};

/* By key length. */
static const char *cbc_name(size_t key_len)
{
    return key_len == 16   ? "AES-128-CBC"
           : key_len == 24 ? "AES-192-CBC"
           : key_len == 32 ? "AES-256-CBC"
                           : NULL;
}

static const char *ecb_name(size_t key_len)
{
    return key_len == 16   ? "AES-128-ECB"
           : key_len == 24 ? "AES-192-ECB"
           : key_len == 32 ? "AES-256-ECB"
                           : NULL;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

hsm_status scp03_new(OSSL_LIB_CTX *libctx, enum scp03_counter_rule rule, struct scp03 **out)
{
    struct scp03 *s = hsm_secret_alloc(sizeof(*s));

    if (s == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a secure channel");
    s->libctx = libctx;
    s->rule = rule;
    if ((s->cmac = EVP_MAC_fetch(libctx, "CMAC", PROPQ)) == NULL ||
        (s->mac_ctx = EVP_MAC_CTX_new(s->cmac)) == NULL || (s->encrypt = EVP_CIPHER_CTX_new()) == NULL ||
        (s->decrypt = EVP_CIPHER_CTX_new()) == NULL) {
        scp03_free(s);
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no CMAC in libcrypto's default provider");
    }
    *out = s;
    return HSM_OK;
}

void scp03_free(struct scp03 *s)
{
    if (s == NULL)
        return;
    EVP_MAC_CTX_free(s->mac_ctx);
    EVP_MAC_free(s->cmac);
    EVP_CIPHER_CTX_free(s->encrypt);
    EVP_CIPHER_CTX_free(s->decrypt);
    EVP_CIPHER_free(s->cbc);
    hsm_secret_free(s, sizeof(*s));
}

/*
 * libcrypto's contexts hold key schedules too, on its heap. They are leaked: the parent's thread may have
 * been inside them when it forked, and freeing something half done would bring the child down.
 */
void scp03_abandon(struct scp03 *s)
{
    if (s != NULL)
        hsm_cleanse(s, sizeof(*s));
}

/* ---- AES and CMAC -------------------------------------------------------------------------------------- */

static void set_block_number(uint8_t block[BLOCK_LEN], uint64_t n)
{
    int i;

    memset(block, 0, BLOCK_LEN);
    for (i = BLOCK_LEN - 1; i >= BLOCK_LEN - 8; i--, n >>= 8)
        block[i] = (uint8_t)n;
}

/* CMAC over up to three pieces. The key is set anew each time, which costs less than a microsecond: not every
 * release of libcrypto starts over when it is initialised without one. */
static hsm_status cmac(struct scp03 *s, const uint8_t *key, const struct hsm_bytes *pieces, size_t count,
                       uint8_t mac[BLOCK_LEN])
{
    bool ok = EVP_MAC_init(s->mac_ctx, key, s->key_len, NULL) == 1;
    size_t len = 0, i;

    for (i = 0; ok && i < count; i++)
        ok = pieces[i].len == 0 || EVP_MAC_update(s->mac_ctx, pieces[i].ptr, pieces[i].len) == 1;
    if (!ok || EVP_MAC_final(s->mac_ctx, mac, &len, BLOCK_LEN) != 1 || len != BLOCK_LEN)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "CMAC failed");
    return HSM_OK;
}

/* One block under S-ENC with an IV of zeros: what the specification calls ECB. */
static hsm_status message_iv(struct scp03 *s, uint64_t counter, bool answer, uint8_t iv[BLOCK_LEN])
{
    static const uint8_t zero[BLOCK_LEN];
    uint8_t block[BLOCK_LEN];
    int len = 0;

    set_block_number(block, counter);
    if (answer)
        block[0] = PADDING;
    if (EVP_EncryptInit_ex2(s->encrypt, NULL, NULL, zero, NULL) != 1 ||
        EVP_EncryptUpdate(s->encrypt, iv, &len, block, BLOCK_LEN) != 1 || len != BLOCK_LEN)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "AES failed");
    return HSM_OK;
}

static hsm_status encrypt(struct scp03 *s, struct hsm_bytes padded, uint8_t *out)
{
    uint8_t iv[BLOCK_LEN];
    hsm_status st;
    int len = 0;

    if ((st = message_iv(s, s->counter, false, iv)) != HSM_OK)
        return st;
    if (EVP_EncryptInit_ex2(s->encrypt, NULL, NULL, iv, NULL) != 1 ||
        EVP_EncryptUpdate(s->encrypt, out, &len, padded.ptr, (int)padded.len) != 1 ||
        (size_t)len != padded.len)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "AES failed");
    return HSM_OK;
}

static hsm_status decrypt(struct scp03 *s, struct hsm_bytes in, uint8_t *out)
{
    uint8_t iv[BLOCK_LEN];
    hsm_status st;
    int len = 0;

    if ((st = message_iv(s, s->answer_counter, true, iv)) != HSM_OK)
        return st;
    if (EVP_DecryptInit_ex2(s->decrypt, NULL, NULL, iv, NULL) != 1 ||
        EVP_DecryptUpdate(s->decrypt, out, &len, in.ptr, (int)in.len) != 1 || (size_t)len != in.len)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "AES failed");
    return HSM_OK;
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* SP 800-108 in counter mode with CMAC, the context being the two challenges. */
static hsm_status derive(struct scp03 *s, const uint8_t *key, uint8_t constant,
                         const uint8_t context[CONTEXT_LEN], uint8_t *out, size_t out_len)
{
    uint8_t head[BLOCK_LEN] = {
        [11] = constant, [13] = (uint8_t)(out_len * 8 >> 8), [14] = (uint8_t)(out_len * 8)
    };
    uint8_t block[BLOCK_LEN] = { 0 };
    struct hsm_bytes pieces[] = { { head, sizeof(head) }, { context, CONTEXT_LEN } };
    hsm_status st = HSM_OK;
    size_t at, part;

    for (at = 0; at < out_len && st == HSM_OK; at += part) {
        head[15]++;
        part = out_len - at < BLOCK_LEN ? out_len - at : BLOCK_LEN;
        if ((st = cmac(s, key, pieces, 2, block)) == HSM_OK)
            memcpy(out + at, block, part);
    }
    OPENSSL_cleanse(block, sizeof(block));
    return st;
}

static hsm_status use_key_len(struct scp03 *s, size_t key_len)
{
    const char *name = cbc_name(key_len);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, (char *)(uintptr_t)name, 0),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_PROPERTIES, (char *)(uintptr_t)PROPQ, 0),
        OSSL_PARAM_construct_end(),
    };

    if (name == NULL)
        return hsm_fail(HSM_ERR_DATA_LEN, "keys of a secure channel have 16, 24 or 32 bytes, not %zu",
                        key_len);
    EVP_CIPHER_free(s->cbc);
    s->key_len = key_len;
    if ((s->cbc = EVP_CIPHER_fetch(s->libctx, name, PROPQ)) == NULL ||
        EVP_MAC_CTX_set_params(s->mac_ctx, params) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no AES in libcrypto's default provider");
    return HSM_OK;
}

static hsm_status derive_keys(struct scp03 *s, const struct scp03_keys *keys,
                              const uint8_t context[CONTEXT_LEN])
{
    hsm_status st;

    if ((st = derive(s, keys->enc, DERIVE_ENC, context, s->enc, s->key_len)) != HSM_OK ||
        (st = derive(s, keys->mac, DERIVE_MAC, context, s->mac, s->key_len)) != HSM_OK ||
        (st = derive(s, keys->mac, DERIVE_RMAC, context, s->rmac, s->key_len)) != HSM_OK)
        return st;
    if (EVP_EncryptInit_ex2(s->encrypt, s->cbc, s->enc, NULL, NULL) != 1 ||
        EVP_DecryptInit_ex2(s->decrypt, s->cbc, s->enc, NULL, NULL) != 1 ||
        EVP_CIPHER_CTX_set_padding(s->encrypt, 0) != 1 || EVP_CIPHER_CTX_set_padding(s->decrypt, 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "AES failed");
    return HSM_OK;
}

/* 29 bytes, or 32 with a sequence counter at the end (pseudo-random challenges). */
static hsm_status check_update(struct hsm_bytes answer)
{
    if (answer.len != UPDATE_LEN && answer.len != UPDATE_LEN + UPDATE_COUNTER_LEN)
        return hsm_fail(HSM_ERR_DATA, "the chip answers INITIALIZE UPDATE with %zu bytes instead of 29",
                        answer.len);
    if (answer.ptr[UPDATE_SCP_ID] != SCP_ID)
        return hsm_fail(HSM_ERR_DATA, "the chip offers secure channel protocol %02x, not 03",
                        answer.ptr[UPDATE_SCP_ID]);
    return HSM_OK;
}

hsm_status scp03_begin(struct scp03 *s, const struct scp03_keys *keys,
                       const uint8_t host_challenge[SE05X_CHALLENGE_LEN], struct hsm_bytes answer)
{
    uint8_t context[CONTEXT_LEN], cryptogram[MAC_LEN];
    hsm_status st;

    s->stage = STAGE_DEAD;
    if ((st = check_update(answer)) != HSM_OK || (st = use_key_len(s, keys->len)) != HSM_OK)
        return st;
    memcpy(context, host_challenge, SE05X_CHALLENGE_LEN);
    memcpy(context + SE05X_CHALLENGE_LEN, answer.ptr + UPDATE_CHALLENGE, SE05X_CHALLENGE_LEN);
    if ((st = derive_keys(s, keys, context)) != HSM_OK ||
        (st = derive(s, s->mac, DERIVE_CARD, context, cryptogram, MAC_LEN)) != HSM_OK ||
        (st = derive(s, s->mac, DERIVE_HOST, context, s->host_cryptogram, MAC_LEN)) != HSM_OK)
        return st;
    memset(s->chain, 0, sizeof(s->chain));
    s->counter = 1;
    s->stage = STAGE_KEYED;
    if (CRYPTO_memcmp(cryptogram, answer.ptr + UPDATE_CHALLENGE + SE05X_CHALLENGE_LEN, MAC_LEN) != 0)
        return hsm_fail(HSM_ERR_DENIED, "the chip holds other secure channel keys (key version %02x)",
                        answer.ptr[UPDATE_KVN]);
    return HSM_OK;
}

/* ---- commands ------------------------------------------------------------------------------------------ */

/* The header as it is sent and as the MAC covers it. @return its length */
static size_t put_header(const struct apdu *a, bool extended, size_t lc, uint8_t header[HEADER_MAX])
{
    uint8_t fields[] = { (uint8_t)(a->cla | CLA_SECURE), a->ins, a->p1, a->p2 };

    memcpy(header, fields, sizeof(fields));
    if (!extended) {
        header[4] = (uint8_t)lc;
        return 5;
    }
    header[4] = 0;
    header[5] = (uint8_t)(lc >> 8);
    header[6] = (uint8_t)lc;
    return 7;
}

/* Append the MAC over the first @p len bytes of @p apdu, and make it the next link of the chain. */
static hsm_status append_mac(struct scp03 *s, struct hsm_buf *apdu, size_t len)
{
    struct hsm_bytes pieces[] = { { s->chain, BLOCK_LEN }, { apdu->ptr, len } };
    uint8_t mac[BLOCK_LEN];
    hsm_status st = cmac(s, s->mac, pieces, 2, mac);

    if (st != HSM_OK)
        return st;
    memcpy(s->chain, mac, BLOCK_LEN);
    memcpy(apdu->ptr + len, mac, MAC_LEN);
    return HSM_OK;
}

hsm_status scp03_authenticate(struct scp03 *s, uint8_t level, struct hsm_buf *apdu)
{
    struct apdu a = { .cla = 0x80, .ins = 0x82, .p1 = level };
    size_t len;
    hsm_status st;

    if (s->stage != STAGE_KEYED)
        return hsm_fail(HSM_ERR_INTERNAL, "EXTERNAL AUTHENTICATE without INITIALIZE UPDATE");
    if (apdu->cap < 5 + MAC_LEN + MAC_LEN)
        return HSM_ERR_BUFFER;
    len = put_header(&a, false, MAC_LEN + MAC_LEN, apdu->ptr);
    memcpy(apdu->ptr + len, s->host_cryptogram, MAC_LEN);
    if ((st = append_mac(s, apdu, len + MAC_LEN)) != HSM_OK)
        return st;
    apdu->len = len + MAC_LEN + MAC_LEN;
    s->stage = STAGE_OPEN;
    return HSM_OK;
}

/* Pad in place at @p at and encrypt there. */
static hsm_status put_data(struct scp03 *s, struct hsm_bytes data, size_t padded_len, uint8_t *at)
{
    memmove(at, data.ptr, data.len);
    memset(at + data.len, 0, padded_len - data.len);
    at[data.len] = PADDING;
    return encrypt(s, (struct hsm_bytes){ at, padded_len }, at);
}

/* Both sides count alike, or every later answer decrypts to noise. The answer to a command that does not
 * count is read with the last number used. */
static void count_command(struct scp03 *s, bool has_data)
{
    if (has_data || s->rule == SCP03_EVERY_COMMAND)
        s->answer_counter = s->counter++;
    else
        s->answer_counter = s->counter - 1;
}

hsm_status scp03_wrap(struct scp03 *s, struct hsm_bytes command, struct hsm_buf *apdu)
{
    size_t padded_len, lc, len, le_len;
    struct apdu a;
    bool extended;
    hsm_status st;

    if (s->stage != STAGE_OPEN)
        return hsm_fail(HSM_ERR_TOKEN_IO, "the secure channel to the chip is not open");
    if ((st = apdu_parse(command, &a)) != HSM_OK)
        return st;
    padded_len = a.data.len == 0 ? 0 : (a.data.len / BLOCK_LEN + 1) * BLOCK_LEN;
    lc = padded_len + MAC_LEN;
    extended = a.extended || lc > 254;
    le_len = !a.has_le ? 0 : extended ? 2 : 1;
    if (lc > UINT16_MAX || apdu->cap < HEADER_MAX + lc + le_len)
        return HSM_ERR_BUFFER;
    len = put_header(&a, extended, lc, apdu->ptr);
    if (padded_len > 0 && (st = put_data(s, a.data, padded_len, apdu->ptr + len)) != HSM_OK)
        return st;
    if ((st = append_mac(s, apdu, len + padded_len)) != HSM_OK)
        return st;
    memset(apdu->ptr + len + lc, 0, le_len); /* Le is no part of what the MAC covers */
    apdu->len = len + lc + le_len;
    count_command(s, a.data.len > 0);
    return HSM_OK;
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static hsm_status check_answer_mac(struct scp03 *s, struct hsm_bytes data, const uint8_t *mac,
                                   const uint8_t *sw)
{
    struct hsm_bytes pieces[] = { { s->chain, BLOCK_LEN }, data, { sw, 2 } };
    uint8_t want[BLOCK_LEN];
    hsm_status st = cmac(s, s->rmac, pieces, 3, want);

    if (st == HSM_OK && CRYPTO_memcmp(want, mac, MAC_LEN) != 0)
        st = hsm_fail(HSM_ERR_TOKEN_IO, "the chip's answer is not authentic: the secure channel is lost");
    return st;
}

/* Where the data ends, before 80 00 ... 00. SIZE_MAX if there is no such padding. */
static size_t unpadded_len(const uint8_t *data, size_t len)
{
    size_t end = len;

    while (end > 0 && data[end - 1] == 0)
        end--;
    if (end == 0 || data[end - 1] != PADDING || len - end >= BLOCK_LEN)
        return SIZE_MAX;
    return end - 1;
}

static hsm_status open_answer(struct scp03 *s, struct hsm_bytes answer, struct hsm_buf *plain)
{
    const uint8_t *sw = answer.ptr + answer.len - 2, *mac = sw - MAC_LEN;
    struct hsm_bytes data = { answer.ptr, answer.len - 2 - MAC_LEN };
    size_t len = 0;
    hsm_status st;

    if (data.len % BLOCK_LEN != 0)
        return hsm_fail(HSM_ERR_TOKEN_IO, "the chip's answer has no whole number of cipher blocks");
    if (plain->cap < data.len + 2)
        return HSM_ERR_BUFFER;
    if ((st = check_answer_mac(s, data, mac, sw)) != HSM_OK)
        return st;
    if (data.len > 0 && (st = decrypt(s, data, plain->ptr)) != HSM_OK)
        return st;
    if (data.len > 0 && (len = unpadded_len(plain->ptr, data.len)) == SIZE_MAX) {
        hsm_cleanse(plain->ptr, data.len);
        return hsm_fail(HSM_ERR_TOKEN_IO,
                        "the chip's answer does not decrypt: the ENC key or the command counter differs");
    }
    memcpy(plain->ptr + len, sw, 2);
    plain->len = len + 2;
    return HSM_OK;
}

/* Only two bytes, and no MAC: how the chip refuses a command. */
static hsm_status bare_status(struct hsm_bytes answer, struct hsm_buf *plain)
{
    if (plain->cap < 2)
        return HSM_ERR_BUFFER;
    memcpy(plain->ptr, answer.ptr + answer.len - 2, 2);
    plain->len = 2;
    return HSM_OK;
}

hsm_status scp03_unwrap(struct scp03 *s, struct hsm_bytes answer, struct hsm_buf *plain)
{
    hsm_status st;
    uint8_t sw1;

    if (s->stage != STAGE_OPEN)
        return hsm_fail(HSM_ERR_TOKEN_IO, "the secure channel to the chip is not open");
    if (answer.len < 2) {
        s->stage = STAGE_DEAD;
        return hsm_fail(HSM_ERR_TOKEN_IO, "the chip's answer has no status word");
    }
    sw1 = answer.ptr[answer.len - 2];
    /* warnings (62xx, 63xx) may or may not be protected; everything else but 90xx never is */
    if (sw1 != 0x90 && !((sw1 == 0x62 || sw1 == 0x63) && answer.len > 2))
        return bare_status(answer, plain);
    if (answer.len < MAC_LEN + 2)
        st = hsm_fail(HSM_ERR_TOKEN_IO, "the chip's answer is not authentic: it has no MAC");
    else
        st = open_answer(s, answer, plain);
    if (st != HSM_OK)
        s->stage = STAGE_DEAD;
    return st;
}

/* ---- keys for PUT KEY ---------------------------------------------------------------------------------- */

static hsm_status ecb(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes in, uint8_t *out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, ecb_name(key.len), PROPQ);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    hsm_status st = HSM_OK;
    int len = 0;

    if (cipher == NULL || ctx == NULL || EVP_EncryptInit_ex2(ctx, cipher, key.ptr, NULL, NULL) != 1 ||
        EVP_CIPHER_CTX_set_padding(ctx, 0) != 1 ||
        EVP_EncryptUpdate(ctx, out, &len, in.ptr, (int)in.len) != 1 || (size_t)len != in.len)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "AES failed");
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return st;
}

hsm_status scp03_wrap_key(OSSL_LIB_CTX *libctx, struct hsm_bytes dek, struct hsm_bytes key, uint8_t *wrapped,
                          uint8_t kcv[3])
{
    uint8_t ones[BLOCK_LEN], check[BLOCK_LEN];
    hsm_status st;

    if (ecb_name(dek.len) == NULL ||
        (key.len != 16 && key.len != 32)) /* 24 bytes are no whole number of blocks */
        return hsm_fail(HSM_ERR_DATA_LEN, "a key of %zu bytes cannot be wrapped under one of %zu", key.len,
                        dek.len);
    memset(ones, 1, sizeof(ones));
    if ((st = ecb(libctx, dek, key, wrapped)) != HSM_OK ||
        (st = ecb(libctx, key, (struct hsm_bytes){ ones, sizeof(ones) }, check)) != HSM_OK)
        return st;
    memcpy(kcv, check, 3);
    return HSM_OK;
}
