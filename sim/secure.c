/* SPDX-License-Identifier: Apache-2.0 */
/* SCP03 as the card computes it: GlobalPlatform Amendment D in the profile of section 5.3 of the reference.
 */
#include "lower.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

enum { BLOCK = 16, MAC_LEN = 8, HEADER_MAX = 7 };
enum {
    LABEL_CARD = 0x00,
    LABEL_HOST = 0x01,
    LABEL_ENC = 0x04,
    LABEL_MAC = 0x06,
    LABEL_RMAC = 0x07,
    LABEL_MCV = 0x08
};

static const char *cipher_name(size_t key_len, bool cbc)
{
    if (key_len == 16)
        return cbc ? "AES-128-CBC" : "AES-128-ECB";
    if (key_len == 24)
        return cbc ? "AES-192-CBC" : "AES-192-ECB";
    return cbc ? "AES-256-CBC" : "AES-256-ECB";
}

bool aes_cmac(const uint8_t *key, size_t key_len, const struct sim_bytes *parts, size_t count,
              uint8_t mac[16])
{
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(algorithm);
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER,
                                                             (char *)cipher_name(key_len, true), 0),
                            OSSL_PARAM_construct_end() };
    size_t len = 0;
    bool ok = ctx != NULL && EVP_MAC_init(ctx, key, key_len, params) == 1;

    for (size_t i = 0; ok && i < count; i++)
        ok = parts[i].len == 0 || EVP_MAC_update(ctx, parts[i].ptr, parts[i].len) == 1;
    ok = ok && EVP_MAC_final(ctx, mac, &len, BLOCK) == 1 && len == BLOCK;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(algorithm);
    return ok;
}

static bool aes_run(const uint8_t *key, size_t key_len, const uint8_t *iv, bool encrypt, const uint8_t *in,
                    size_t len, uint8_t *out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, cipher_name(key_len, iv != NULL), NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int done = 0;
    bool ok = cipher != NULL && ctx != NULL && len <= INT32_MAX &&
              EVP_CipherInit_ex2(ctx, cipher, key, iv, encrypt, NULL) == 1 &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
              EVP_CipherUpdate(ctx, out, &done, in, (int)len) == 1 && (size_t)done == len;

    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

bool aes_block(const uint8_t *key, size_t key_len, bool encrypt, const uint8_t in[16], uint8_t out[16])
{
    return aes_run(key, key_len, NULL, encrypt, in, BLOCK, out);
}

bool scp_key_check_value(const uint8_t *key, size_t len, uint8_t kcv[3])
{
    uint8_t ones[BLOCK], block[BLOCK];

    memset(ones, 1, sizeof(ones));
    if (!aes_block(key, len, true, ones, block))
        return false;
    memcpy(kcv, block, 3);
    return true;
}

void scp_close(struct scp *s)
{
    bool every = s->every_command_counts;

    OPENSSL_cleanse(s, sizeof(*s));
    s->every_command_counts = every;
}

/* SP 800-108 counter mode as SCP03 lays it out; whole blocks are computed, the caller takes what it needs. */
static bool derive(const uint8_t *key, size_t key_len, uint8_t label, size_t bits,
                   const struct sim_bytes *context, uint8_t out[2 * BLOCK])
{
    uint8_t head[BLOCK] = { 0 };
    bool ok = true;

    head[11] = label;
    head[13] = (uint8_t)(bits >> 8);
    head[14] = (uint8_t)bits;
    for (size_t i = 0; ok && i * 8 * BLOCK < bits; i++) {
        struct sim_bytes parts[] = { { head, sizeof(head) }, *context };

        head[15] = (uint8_t)(i + 1);
        ok = aes_cmac(key, key_len, parts, 2, out + i * BLOCK);
    }
    return ok;
}

bool scp_begin(struct scp *s, const struct scp_keys *keys, const uint8_t host[8], const uint8_t card[8],
               uint8_t card_cryptogram[8])
{
    uint8_t challenges[16], block[2 * BLOCK];
    struct sim_bytes context = { challenges, sizeof(challenges) };
    size_t bits = 8 * keys->len;
    bool ok;

    scp_close(s);
    memcpy(challenges, host, 8);
    memcpy(challenges + 8, card, 8);
    s->key_len = keys->len;
    ok = derive(keys->enc, keys->len, LABEL_ENC, bits, &context, s->enc) &&
         derive(keys->mac, keys->len, LABEL_MAC, bits, &context, s->mac) &&
         derive(keys->mac, keys->len, LABEL_RMAC, bits, &context, s->rmac);
    if ((ok = ok && derive(s->mac, keys->len, LABEL_CARD, 64, &context, block)))
        memcpy(card_cryptogram, block, 8);
    if ((ok = ok && derive(s->mac, keys->len, LABEL_HOST, 64, &context, block)))
        memcpy(s->host_cryptogram, block, 8);
    s->state = ok ? SCP_BEGUN : SCP_CLOSED;
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

bool scp_from_master(struct scp *s, const uint8_t master[16])
{
    const struct sim_bytes nothing = { NULL, 0 };
    uint8_t block[2 * BLOCK];
    bool ok;

    scp_close(s);
    ok = derive(master, BLOCK, LABEL_ENC, 128, &nothing, s->enc) &&
         derive(master, BLOCK, LABEL_MAC, 128, &nothing, s->mac) &&
         derive(master, BLOCK, LABEL_RMAC, 128, &nothing, s->rmac) &&
         derive(master, BLOCK, LABEL_MCV, 128, &nothing, block);
    if (ok)
        memcpy(s->mcv, block, BLOCK);
    s->key_len = BLOCK;
    s->level = SCP_ALL;
    s->counter = 1;
    s->state = ok ? SCP_OPEN : SCP_CLOSED;
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

/* The last 8 bytes of the data are the C-MAC; on success they are taken off and the chaining value moves on.
 */
static bool check_command_mac(struct scp *s, struct sim_apdu *apdu)
{
    struct sim_bytes parts[] = { { s->mcv, BLOCK }, { apdu->whole.ptr, 0 } };
    uint8_t mac[BLOCK];

    if (apdu->data.len < MAC_LEN)
        return false;
    parts[1].len = apdu->whole.len - MAC_LEN;
    if (!aes_cmac(s->mac, s->key_len, parts, 2, mac) ||
        CRYPTO_memcmp(mac, apdu->data.ptr + apdu->data.len - MAC_LEN, MAC_LEN) != 0)
        return false;
    memcpy(s->mcv, mac, BLOCK);
    apdu->data.len -= MAC_LEN;
    return true;
}

static bool known_level(uint8_t level)
{
    return level == 0x00 || level == 0x01 || level == 0x03 || level == 0x11 || level == 0x13 ||
           level == SCP_ALL;
}

uint16_t scp_authenticate(struct scp *s, const struct sim_apdu *apdu)
{
    struct sim_apdu a = *apdu;

    if (s->state != SCP_BEGUN)
        return SW_CONDITIONS;
    if (a.data.len != 8 + MAC_LEN || !known_level(a.p1) || a.p2 != 0) {
        scp_close(s);
        return a.data.len != 8 + MAC_LEN ? SW_LENGTH : SW_P1P2;
    }
    if (CRYPTO_memcmp(a.data.ptr, s->host_cryptogram, 8) != 0 || !check_command_mac(s, &a)) {
        scp_close(s);
        return SW_SECURITY;
    }
    s->level = a.p1;
    s->counter = 1;
    s->state = SCP_OPEN;
    return SW_OK;
}

static bool counter_iv(const struct scp *s, uint64_t counter, bool reply, uint8_t iv[BLOCK])
{
    uint8_t block[BLOCK] = { 0 };

    for (int i = 0; i < 8; i++)
        block[15 - i] = (uint8_t)(counter >> (8 * i));
    if (reply)
        block[0] = 0x80;
    return aes_block(s->enc, s->key_len, true, block, iv);
}

/* Decrypted data at @p plain; its length without the padding, or 0: bad (a command without data is not
 * encrypted). */
static size_t decrypt(struct scp *s, struct sim_bytes in, uint8_t *plain)
{
    size_t len = in.len;
    uint8_t iv[BLOCK];

    if (len % BLOCK != 0 || !counter_iv(s, s->counter, false, iv) ||
        !aes_run(s->enc, s->key_len, iv, false, in.ptr, len, plain))
        return 0;
    while (len > 0 && plain[len - 1] == 0)
        len--;
    return len > 1 && plain[len - 1] == 0x80 ? len - 1 : 0;
}

/* The command as the host had it before wrapping: attested reads sign a digest of it. */
static void rebuild(struct sim_apdu *apdu, uint8_t *plain, size_t len)
{
    bool extended = apdu->whole.len > 4 && apdu->whole.ptr[4] == 0;
    size_t lc_len = len == 0 ? 0 : extended ? 3 : 1, at = HEADER_MAX - lc_len - 4;
    uint8_t *head = plain + at;

    apdu->cla &= (uint8_t)~0x04;
    memcpy(head, (const uint8_t[]){ apdu->cla, apdu->ins, apdu->p1, apdu->p2 }, 4);
    if (lc_len == 3)
        memcpy(head + 4, (const uint8_t[]){ 0, (uint8_t)(len >> 8), (uint8_t)len }, 3);
    else if (lc_len == 1)
        head[4] = (uint8_t)len;
    apdu->data = (struct sim_bytes){ plain + HEADER_MAX, len };
    apdu->whole = (struct sim_bytes){ head, 4 + lc_len + len };
}

uint16_t scp_unwrap(struct scp *s, struct sim_apdu *apdu, uint8_t plain[SIM_APDU_MAX])
{
    bool had_data;
    size_t len;

    if (s->level & SCP_C_MAC && !check_command_mac(s, apdu)) {
        scp_close(s);
        return SW_SECURITY;
    }
    len = apdu->data.len;
    had_data = len != 0;
    if (len > SIM_APDU_MAX - HEADER_MAX)
        return SW_LENGTH;
    if (had_data && s->level & SCP_C_DEC && (len = decrypt(s, apdu->data, plain + HEADER_MAX)) == 0) {
        scp_close(s);
        return SW_SM_INCORRECT;
    }
    if (had_data && !(s->level & SCP_C_DEC))
        memcpy(plain + HEADER_MAX, apdu->data.ptr, len);
    rebuild(apdu, plain, len);
    /* Before applet 4.3 only commands with data count; the answer to one without uses the count before it. */
    s->reply_counter = s->every_command_counts || had_data ? s->counter : s->counter - 1;
    if (s->every_command_counts || had_data)
        s->counter++;
    return SW_OK;
}

static bool encrypt_reply(const struct scp *s, struct sim_out *out)
{
    uint8_t iv[BLOCK];

    if (out->len + BLOCK + MAC_LEN > sizeof(out->data) || !counter_iv(s, s->reply_counter, true, iv))
        return false;
    out->data[out->len++] = 0x80;
    while (out->len % BLOCK != 0)
        out->data[out->len++] = 0;
    return aes_run(s->enc, s->key_len, iv, true, out->data, out->len, out->data);
}

bool scp_wrap(struct scp *s, struct sim_out *out, uint16_t sw)
{
    uint8_t status[2] = { (uint8_t)(sw >> 8), (uint8_t)sw }, mac[BLOCK];
    struct sim_bytes parts[] = { { s->mcv, BLOCK }, { out->data, 0 }, { status, 2 } };

    if (s->level & SCP_R_ENC && out->len != 0 && !encrypt_reply(s, out))
        return false;
    if (!(s->level & SCP_R_MAC))
        return true;
    parts[1].len = out->len;
    if (out->len + MAC_LEN > sizeof(out->data) || !aes_cmac(s->rmac, s->key_len, parts, 3, mac))
        return false;
    memcpy(out->data + out->len, mac, MAC_LEN);
    out->len += MAC_LEN;
    return true;
}
