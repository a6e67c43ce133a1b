/* SPDX-License-Identifier: Apache-2.0 */
/* Crypto objects, ciphers, digests and MACs, section 3.8. */
#include "applet.h"

#include <string.h>

enum { CONTEXT_DIGEST = 1, CONTEXT_CIPHER = 2, CONTEXT_MAC = 3, CONTEXT_AEAD = 4 };
enum {
    P2_ENCRYPT = 0x42,
    P2_DECRYPT = 0x43,
    P2_ENCRYPT_ONESHOT = 0x37,
    P2_MAC_VALIDATE = 0x44,
    P2_MAC_VALIDATE_ONESHOT = 0x46
};

/* ---- crypto objects ----------------------------------------------------------------------------------- */

static bool subtype_known(const struct applet *a, uint8_t context, uint8_t subtype)
{
    switch (context) {
    case CONTEXT_DIGEST:
        return digest_name(subtype) != NULL;
    case CONTEXT_CIPHER:
        return cipher_mode(subtype) != NULL;
    case CONTEXT_MAC:
        return mac_len(subtype) != 0;
    case CONTEXT_AEAD:
        return a->p.v7 && (subtype == AEAD_GCM || subtype == AEAD_CCM || subtype == AEAD_GCM_CHIP_IV ||
                           subtype == AEAD_CCM_CHIP_IV);
    default:
        return false;
    }
}

uint16_t ins_crypto_create(struct applet *a, struct command *c)
{
    uint32_t id, context, subtype;
    struct crypto_object made = { 0 };

    if (!tlv_uint(&c->tlv, TAG_1, 2, &id) || !tlv_uint(&c->tlv, TAG_2, 1, &context) ||
        !tlv_uint(&c->tlv, TAG_3, 1, &subtype))
        return SW_DATA;
    if (id == 0 || crypto_find(a, (uint16_t)id) != NULL ||
        !subtype_known(a, (uint8_t)context, (uint8_t)subtype))
        return SW_CONDITIONS;
    if (crypto_transient_cost((uint8_t)context) > memory_transient_deselect_free(a) ||
        CRYPTO_PERSISTENT_COST > memory_persistent_free(a))
        return SW_MEMORY;
    made.id = (uint16_t)id;
    made.context = (uint8_t)context;
    made.subtype = (uint8_t)subtype;
    made.owner = c->who->auth_id;
    crypto_add(a, &made);
    return SW_OK;
}

uint16_t ins_crypto_list(struct applet *a, struct command *c)
{
    struct buf list = { NULL, 0 };

    for (size_t i = 0; i < a->crypto_count; i++) {
        const struct crypto_object *o = a->crypto[i];

        buf_append(&list, (uint8_t[]){ (uint8_t)(o->id >> 8), (uint8_t)o->id, o->context, o->subtype }, 4);
    }
    put_bytes(c->out, TAG_1, list.ptr, list.len < answer_max(a) ? list.len : answer_max(a) / 4 * 4);
    buf_clear(&list);
    return SW_OK;
}

uint16_t ins_crypto_delete(struct applet *a, struct command *c)
{
    struct crypto_object *o;
    uint32_t id;

    if (!tlv_uint(&c->tlv, TAG_1, 2, &id))
        return SW_DATA;
    o = crypto_find(a, (uint16_t)id);
    if (o == NULL || o->owner != c->who->auth_id)
        return SW_CONDITIONS;
    crypto_remove(a, o);
    return SW_OK;
}

struct crypto_object *command_crypto(const struct applet *a, const struct command *c, uint8_t tag,
                                     uint8_t context)
{
    struct crypto_object *o;
    uint32_t id;

    if (!tlv_uint(&c->tlv, tag, 2, &id))
        return NULL;
    o = crypto_find(a, (uint16_t)id);
    return o != NULL && o->context == context && o->owner == c->who->auth_id ? o : NULL;
}

/* ---- ciphers ------------------------------------------------------------------------------------------ */

static void spend_blocks(struct applet *a, size_t len)
{
    spend(a, TIME_SYMMETRIC);
    spend_times(a, TIME_SYMMETRIC_BLOCK, (len + 15) / 16);
}

/* T4: the IV; or, for CTR encryption on 7.x, two bytes that ask the chip for one, which goes out in T3. The
 * rights are those of the key. */
static uint16_t take_iv(struct applet *a, struct command *c, const struct object *key,
                        const struct cipher_mode *m, bool encrypt, uint8_t made[16], struct sim_bytes *iv,
                        bool *is_made)
{
    *iv = c->tlv.value[TAG_4];
    *is_made = a->p.v7 && encrypt && m->code == CIPHER_CTR && iv->len == 2;
    if (*is_made) {
        if (get_be(*iv) != 16)
            return SW_DATA;
        *iv = (struct sim_bytes){ made, 16 };
        return random_bytes(a, made, 16) ? SW_OK : SW_CONDITIONS;
    }
    if (encrypt && iv->len > 0 && policy_restricts(a, key, c->who, FORBID_EXTERNAL_IV))
        return SW_DENIED;
    return SW_OK;
}

/* Message and padding through a started cipher. @return false: not whole blocks, or a fault */
static bool cipher_whole(EVP_CIPHER_CTX *ctx, const struct cipher_mode *m, bool encrypt, struct sim_bytes in,
                         size_t before, uint8_t *out, size_t *len)
{
    uint8_t pad[16];
    size_t pad_len = encrypt ? cipher_padding(m, before + in.len, pad) : 0;
    int n1 = 0, n2 = 0, n3 = 0;

    if (m->code != CIPHER_CTR && (before + in.len + pad_len) % cipher_block_len(m) != 0)
        return false;
    if ((in.len > 0 && EVP_CipherUpdate(ctx, out, &n1, in.ptr, (int)in.len) != 1) ||
        (pad_len > 0 && EVP_CipherUpdate(ctx, out + n1, &n2, pad, (int)pad_len) != 1) ||
        EVP_CipherFinal_ex(ctx, out + n1 + n2, &n3) != 1)
        return false;
    *len = (size_t)(n1 + n2 + n3);
    if (!encrypt)
        *len = cipher_unpad(m, out, *len);
    return true;
}

uint16_t ins_cipher_oneshot(struct applet *a, struct command *c)
{
    bool encrypt = c->apdu->p2 == P2_ENCRYPT_ONESHOT, is_made = false;
    uint8_t out[SIM_APDU_MAX + 32], made[16];
    const struct cipher_mode *m;
    EVP_CIPHER_CTX *ctx;
    struct sim_bytes iv;
    struct object *key;
    uint32_t mode;
    size_t len;
    uint16_t sw;
    bool ok;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &mode) || !c->tlv.has[TAG_3])
        return SW_DATA;
    if ((m = cipher_mode((uint8_t)mode)) == NULL)
        return SW_CONDITIONS;
    if ((sw = command_key(a, c, TAG_1, m->kind, encrypt ? ALLOW_ENC : ALLOW_DEC, &key)) != SW_OK ||
        (sw = take_iv(a, c, key, m, encrypt, made, &iv, &is_made)) != SW_OK)
        return sw;
    ctx = cipher_start(a, m, buf_view(&key->value[V_DATA]), iv, encrypt);
    ok = ctx != NULL && cipher_whole(ctx, m, encrypt, c->tlv.value[TAG_3], 0, out, &len);
    EVP_CIPHER_CTX_free(ctx);
    spend_blocks(a, c->tlv.value[TAG_3].len);
    if (ok) {
        put_bytes(c->out, TAG_1, out, len);
        if (is_made)
            put_bytes(c->out, TAG_3, made, sizeof(made));
    }
    OPENSSL_cleanse(out, sizeof(out));
    return ok ? SW_OK : SW_CONDITIONS;
}

static bool cipher_restart(struct applet *a, struct crypto_object *o)
{
    EVP_CIPHER_CTX_free(o->cipher);
    o->cipher = cipher_start(a, cipher_mode(o->subtype), buf_view(&o->key), buf_view(&o->iv),
                             o->purpose == P2_ENCRYPT);
    o->total = 0;
    return o->cipher != NULL;
}

uint16_t ins_cipher_init(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_CIPHER);
    bool encrypt = c->apdu->p2 == P2_ENCRYPT, is_made = false;
    const struct cipher_mode *m;
    struct sim_bytes iv;
    struct object *key;
    uint8_t made[16];
    uint16_t sw;

    if (o == NULL)
        return SW_CONDITIONS;
    m = cipher_mode(o->subtype);
    if ((sw = command_key(a, c, TAG_1, m->kind, encrypt ? ALLOW_ENC : ALLOW_DEC, &key)) != SW_OK ||
        (sw = take_iv(a, c, key, m, encrypt, made, &iv, &is_made)) != SW_OK)
        return sw;
    crypto_stop(o);
    o->purpose = c->apdu->p2;
    o->key_id = key->id;
    buf_set(&o->key, key->value[V_DATA].ptr, key->value[V_DATA].len);
    buf_set(&o->iv, iv.ptr, iv.len);
    spend(a, TIME_SYMMETRIC);
    if (!cipher_restart(a, o)) {
        crypto_stop(o);
        return SW_CONDITIONS;
    }
    if (is_made)
        put_bytes(c->out, TAG_3, made, sizeof(made));
    a->dirty = true; /* by NXP's notes each step of a crypto object writes NVM */
    return SW_OK;
}

uint16_t ins_cipher_update(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_CIPHER);
    struct sim_bytes in = c->tlv.value[TAG_3];
    uint8_t out[SIM_APDU_MAX + 32];
    int len = 0;

    if (!c->tlv.has[TAG_3])
        return SW_DATA;
    if (o == NULL || o->cipher == NULL ||
        (in.len > 0 && EVP_CipherUpdate(o->cipher, out, &len, in.ptr, (int)in.len) != 1))
        return SW_CONDITIONS;
    o->total += in.len;
    spend_blocks(a, in.len);
    put_bytes(c->out, TAG_1, out, (size_t)len);
    OPENSSL_cleanse(out, sizeof(out));
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_cipher_final(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_CIPHER);
    uint8_t out[SIM_APDU_MAX + 32];
    size_t len;
    bool ok;

    if (o == NULL || o->cipher == NULL)
        return SW_CONDITIONS;
    ok = cipher_whole(o->cipher, cipher_mode(o->subtype), o->purpose == P2_ENCRYPT, c->tlv.value[TAG_3],
                      o->total, out, &len);
    spend_blocks(a, c->tlv.value[TAG_3].len);
    if (ok)
        put_bytes(c->out, TAG_1, out, len);
    OPENSSL_cleanse(out, sizeof(out));
    cipher_restart(a, o); /* as right after Init */
    a->dirty = true;
    return ok ? SW_OK : SW_CONDITIONS;
}

/* ---- digests ------------------------------------------------------------------------------------------ */

static void spend_digest(struct applet *a, size_t len)
{
    spend(a, TIME_DIGEST);
    spend_times(a, TIME_DIGEST_BLOCK, (len + 63) / 64);
}

static bool digest_restart(struct applet *a, struct crypto_object *o)
{
    EVP_MD *md = EVP_MD_fetch(a->libctx, digest_name(o->subtype), NULL);

    EVP_MD_CTX_free(o->digest);
    o->digest = EVP_MD_CTX_new();
    if (md == NULL || o->digest == NULL || EVP_DigestInit_ex2(o->digest, md, NULL) != 1) {
        EVP_MD_CTX_free(o->digest);
        o->digest = NULL;
    }
    EVP_MD_free(md);
    return o->digest != NULL;
}

uint16_t ins_digest_init(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_DIGEST);

    if (o == NULL || !digest_restart(a, o))
        return SW_CONDITIONS;
    spend(a, TIME_DIGEST);
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_digest_update(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_DIGEST);
    struct sim_bytes in = c->tlv.value[TAG_3];

    if (!c->tlv.has[TAG_3])
        return SW_DATA;
    if (o == NULL || o->digest == NULL || EVP_DigestUpdate(o->digest, in.ptr, in.len) != 1)
        return SW_CONDITIONS;
    spend_digest(a, in.len);
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_digest_final(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_DIGEST);
    struct sim_bytes in = c->tlv.value[TAG_3];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (o == NULL || o->digest == NULL || EVP_DigestUpdate(o->digest, in.ptr, in.len) != 1 ||
        EVP_DigestFinal_ex(o->digest, digest, &len) != 1)
        return SW_CONDITIONS;
    spend_digest(a, in.len);
    put_bytes(c->out, TAG_1, digest, len);
    crypto_stop(o);
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_digest_oneshot(struct applet *a, struct command *c)
{
    struct sim_bytes in = c->tlv.value[TAG_2];
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t len = 0;
    uint32_t mode;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &mode) || !c->tlv.has[TAG_2])
        return SW_DATA;
    if (digest_name((uint8_t)mode) == NULL ||
        EVP_Q_digest(a->libctx, digest_name((uint8_t)mode), NULL, in.ptr, in.len, digest, &len) != 1)
        return SW_CONDITIONS;
    spend_digest(a, in.len);
    put_bytes(c->out, TAG_1, digest, len);
    return SW_OK;
}

/* ---- MAC ---------------------------------------------------------------------------------------------- */

static uint8_t mac_kind(uint8_t algo)
{
    return algo == 0x31 ? KIND_AES : algo == 0x7A ? KIND_DES : KIND_HMAC;
}

static bool mac_result(EVP_MAC_CTX *ctx, uint8_t algo, struct sim_bytes in, uint8_t *mac, size_t *len)
{
    if ((in.len > 0 && EVP_MAC_update(ctx, in.ptr, in.len) != 1) ||
        EVP_MAC_final(ctx, mac, len, EVP_MAX_MD_SIZE) != 1)
        return false;
    *len = mac_len(algo); /* DES CMAC8 as all: full length */
    return true;
}

static void mac_answer(struct command *c, bool validate, struct sim_bytes given, const uint8_t *mac,
                       size_t len)
{
    if (validate)
        put_u8(c->out, TAG_1, given.len == len && CRYPTO_memcmp(given.ptr, mac, len) == 0 ? 1 : 2);
    else
        put_bytes(c->out, TAG_1, mac, len);
}

uint16_t ins_mac_oneshot(struct applet *a, struct command *c)
{
    bool validate = c->apdu->p2 == P2_MAC_VALIDATE_ONESHOT, ok;
    uint8_t mac[EVP_MAX_MD_SIZE];
    EVP_MAC_CTX *ctx;
    struct object *key;
    uint32_t algo;
    size_t len;
    uint16_t sw;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &algo) || !c->tlv.has[TAG_3] || (validate && !c->tlv.has[TAG_5]))
        return SW_DATA;
    if (mac_len((uint8_t)algo) == 0)
        return SW_CONDITIONS;
    sw = command_key(a, c, TAG_1, mac_kind((uint8_t)algo), validate ? ALLOW_VERIFY : ALLOW_SIGN, &key);
    if (sw != SW_OK)
        return sw;
    ctx = mac_start(a, (uint8_t)algo, key);
    ok = ctx != NULL && mac_result(ctx, (uint8_t)algo, c->tlv.value[TAG_3], mac, &len);
    EVP_MAC_CTX_free(ctx);
    spend_digest(a, c->tlv.value[TAG_3].len);
    if (ok)
        mac_answer(c, validate, c->tlv.value[TAG_5], mac, len);
    return ok ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_mac_init(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_MAC);
    bool validate = c->apdu->p2 == P2_MAC_VALIDATE;
    struct object *key;
    uint16_t sw;

    if (o == NULL)
        return SW_CONDITIONS;
    sw = command_key(a, c, TAG_1, mac_kind(o->subtype), validate ? ALLOW_VERIFY : ALLOW_SIGN, &key);
    if (sw != SW_OK)
        return sw;
    crypto_stop(o);
    o->purpose = c->apdu->p2;
    o->key_id = key->id;
    o->mac = mac_start(a, o->subtype, key);
    spend(a, TIME_DIGEST);
    a->dirty = true;
    return o->mac != NULL ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_mac_update(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_MAC);
    struct sim_bytes in = c->tlv.value[TAG_1];

    if (!c->tlv.has[TAG_1])
        return SW_DATA;
    if (o == NULL || o->mac == NULL || (in.len > 0 && EVP_MAC_update(o->mac, in.ptr, in.len) != 1))
        return SW_CONDITIONS;
    spend_digest(a, in.len);
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_mac_final(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_MAC);
    uint8_t mac[EVP_MAX_MD_SIZE];
    bool validate;
    size_t len;

    if (o == NULL || o->mac == NULL)
        return SW_CONDITIONS;
    validate = o->purpose == P2_MAC_VALIDATE;
    if (validate && !c->tlv.has[TAG_3])
        return SW_DATA;
    if (!mac_result(o->mac, o->subtype, c->tlv.value[TAG_1], mac, &len))
        return SW_CONDITIONS;
    spend_digest(a, c->tlv.value[TAG_1].len);
    mac_answer(c, validate, c->tlv.value[TAG_3], mac, len);
    crypto_stop(o);
    a->dirty = true;
    return SW_OK;
}
