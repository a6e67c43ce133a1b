/* SPDX-License-Identifier: Apache-2.0 */
/* GCM and CCM of 7.x parts, section 3.9. In steps, the message is kept and worked on at Final for CCM, which
 * needs it whole; GCM goes along.
 */
#include "applet.h"

#include <stdio.h>
#include <string.h>

enum { CONTEXT_AEAD = 4, P2_ENCRYPT = 0x42, P2_ENCRYPT_ONESHOT = 0x37, TYPE_FIPS = 0x12 };
enum { TAG_LEN = 16, TAG_MIN = 4, GCM_IV_MIN = 12, GCM_IV_MAX = 60, CCM_IV_MIN = 7, CCM_IV_MAX = 13 };

struct aead_run {
    bool ccm, encrypt;
    struct sim_bytes key, iv, aad, data;
    uint8_t tag[TAG_LEN];
    size_t tag_len; /* made, or given */
};

static bool is_ccm(uint8_t mode)
{
    return mode == AEAD_CCM || mode == AEAD_CCM_CHIP_IV;
}

static EVP_CIPHER *aead_cipher(struct applet *a, bool ccm, size_t key_len)
{
    char name[16];

    snprintf(name, sizeof(name), "AES-%zu-%s", 8 * key_len, ccm ? "CCM" : "GCM");
    return EVP_CIPHER_fetch(a->libctx, name, NULL);
}

static bool aead_begin(struct applet *a, EVP_CIPHER_CTX *ctx, const struct aead_run *r)
{
    EVP_CIPHER *cipher = aead_cipher(a, r->ccm, r->key.len);
    uint8_t tag[TAG_LEN];
    bool ok, set_tag = r->ccm || !r->encrypt;

    memcpy(tag, r->tag, sizeof(tag));
    ok = cipher != NULL && EVP_CipherInit_ex2(ctx, cipher, NULL, NULL, r->encrypt, NULL) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)r->iv.len, NULL) == 1 &&
         (!set_tag || r->tag_len == 0 ||
          EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)r->tag_len, r->encrypt ? NULL : tag) == 1) &&
         EVP_CipherInit_ex2(ctx, NULL, r->key.ptr, r->iv.ptr, r->encrypt, NULL) == 1;
    EVP_CIPHER_free(cipher);
    return ok;
}

/* @return 1 done, 0 the tag is wrong, -1 cannot be done */
static int aead_all(struct applet *a, struct aead_run *r, uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    static const uint8_t nothing[1];
    const uint8_t *data = r->data.len > 0 ? r->data.ptr : nothing;
    int len, result = -1;

    if (ctx == NULL || !aead_begin(a, ctx, r) ||
        (r->ccm && EVP_CipherUpdate(ctx, NULL, &len, NULL, (int)r->data.len) != 1) ||
        (r->aad.len > 0 && EVP_CipherUpdate(ctx, NULL, &len, r->aad.ptr, (int)r->aad.len) != 1))
        goto out;
    /* CCM checks the tag here, GCM at the end */
    if ((r->ccm || r->data.len > 0) && EVP_CipherUpdate(ctx, out, &len, data, (int)r->data.len) != 1)
        result = r->encrypt ? -1 : 0;
    else if (!r->ccm && EVP_CipherFinal_ex(ctx, out + r->data.len, &len) != 1)
        result = r->encrypt ? -1 : 0;
    else
        result = 1;
    if (result == 1 && r->encrypt &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, (int)r->tag_len, r->tag) != 1)
        result = -1;
out:
    EVP_CIPHER_CTX_free(ctx);
    return result;
}

static bool iv_len_ok(bool ccm, size_t len)
{
    return ccm ? len >= CCM_IV_MIN && len <= CCM_IV_MAX : len >= GCM_IV_MIN && len <= GCM_IV_MAX;
}

/* T5: the IV, or two bytes: the length of one the chip makes */
static uint16_t aead_iv(struct applet *a, const struct command *c, const struct object *key, bool ccm,
                        bool encrypt, uint8_t made[GCM_IV_MAX], struct sim_bytes *iv, bool *is_made)
{
    *iv = c->tlv.value[TAG_5];
    *is_made = encrypt && iv->len == 2;
    if (*is_made)
        *iv = (struct sim_bytes){ made, get_be(*iv) };
    if (!iv_len_ok(ccm, iv->len))
        return SW_CONDITIONS;
    if (*is_made)
        return random_bytes(a, made, iv->len) ? SW_OK : SW_CONDITIONS;
    if (encrypt && c->apdu->p1 == TYPE_FIPS) /* SP 800-38D: the chip chooses */
        return SW_CONDITIONS;
    return encrypt && policy_restricts(a, key, c->who, FORBID_EXTERNAL_IV) ? SW_DENIED : SW_OK;
}

static bool aead_offered(const struct applet *a, const struct command *c)
{
    return !is_fips(a) || c->apdu->p1 == TYPE_FIPS;
}

static void spend_aead(struct applet *a, size_t len)
{
    spend(a, TIME_SYMMETRIC);
    spend_times(a, TIME_SYMMETRIC_BLOCK, 2 * ((len + 15) / 16));
}

static uint16_t take_tag(const struct command *c, const struct object *key, struct aead_run *r)
{
    struct sim_bytes tag = c->tlv.value[TAG_6];

    if (!c->tlv.has[TAG_6] || tag.len > TAG_LEN)
        return SW_DATA;
    if (tag.len < TAG_MIN || tag.len < key->min_tag)
        return SW_CONDITIONS;
    memcpy(r->tag, tag.ptr, tag.len);
    r->tag_len = tag.len;
    return SW_OK;
}

uint16_t ins_aead_oneshot(struct applet *a, struct command *c)
{
    struct aead_run r = { .encrypt = c->apdu->p2 == P2_ENCRYPT_ONESHOT, .tag_len = TAG_LEN };
    uint8_t out[SIM_APDU_MAX + 32], made[GCM_IV_MAX];
    struct object *key;
    bool is_made;
    uint32_t mode;
    uint16_t sw;
    int result;

    if (!tlv_uint(&c->tlv, TAG_2, 1, &mode))
        return SW_DATA;
    if (!aead_offered(a, c) ||
        (mode != AEAD_GCM && mode != AEAD_CCM && mode != AEAD_GCM_CHIP_IV && mode != AEAD_CCM_CHIP_IV))
        return SW_CONDITIONS;
    r.ccm = is_ccm((uint8_t)mode);
    if ((sw = command_key(a, c, TAG_1, KIND_AES, r.encrypt ? ALLOW_ENC : ALLOW_DEC, &key)) != SW_OK ||
        (sw = aead_iv(a, c, key, r.ccm, r.encrypt, made, &r.iv, &is_made)) != SW_OK ||
        (!r.encrypt && (sw = take_tag(c, key, &r)) != SW_OK))
        return sw;
    r.key = buf_view(&key->value[V_DATA]);
    r.data = c->tlv.value[TAG_3];
    r.aad = c->tlv.value[TAG_4];
    spend_aead(a, r.data.len + r.aad.len);
    result = aead_all(a, &r, out);
    if (result == 1 && c->tlv.has[TAG_3])
        put_bytes(c->out, TAG_1, out, r.data.len);
    if (result >= 0 && r.encrypt)
        put_bytes(c->out, TAG_2, r.tag, r.tag_len);
    else if (result >= 0)
        put_u8(c->out, TAG_2, result == 1 ? 1 : 2);
    if (result == 1 && is_made)
        put_bytes(c->out, TAG_3, r.iv.ptr, r.iv.len);
    OPENSSL_cleanse(out, sizeof(out));
    return result < 0 ? SW_CONDITIONS : SW_OK;
}

/* ---- in steps ----------------------------------------------------------------------------------------- */

static uint16_t ccm_lengths(const struct command *c, struct crypto_object *o)
{
    uint32_t aad, payload, tag;

    if (!tlv_uint_or(&c->tlv, TAG_6, 2, 0, &aad) || !tlv_uint_or(&c->tlv, TAG_7, 2, 0, &payload) ||
        !tlv_uint(&c->tlv, TAG_8, 2, &tag))
        return SW_DATA;
    if (tag < TAG_MIN || tag > TAG_LEN || tag % 2 != 0 || payload > SIM_APDU_MAX)
        return SW_CONDITIONS;
    o->aad_len = aad;
    o->payload_len = payload;
    o->tag_len = tag;
    return SW_OK;
}

static uint16_t gcm_start(struct applet *a, struct crypto_object *o)
{
    struct aead_run r = { .encrypt = o->purpose == P2_ENCRYPT,
                          .key = buf_view(&o->key),
                          .iv = buf_view(&o->iv) };

    o->tag_len = TAG_LEN;
    o->cipher = EVP_CIPHER_CTX_new();
    return o->cipher != NULL && aead_begin(a, o->cipher, &r) ? SW_OK : SW_CONDITIONS;
}

uint16_t ins_aead_init(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_AEAD);
    bool encrypt = c->apdu->p2 == P2_ENCRYPT, is_made;
    uint8_t made[GCM_IV_MAX];
    struct sim_bytes iv;
    struct object *key;
    uint16_t sw;

    if (o == NULL || !aead_offered(a, c))
        return SW_CONDITIONS;
    if ((sw = command_key(a, c, TAG_1, KIND_AES, encrypt ? ALLOW_ENC : ALLOW_DEC, &key)) != SW_OK ||
        (sw = aead_iv(a, c, key, is_ccm(o->subtype), encrypt, made, &iv, &is_made)) != SW_OK)
        return sw;
    crypto_stop(o);
    o->purpose = c->apdu->p2;
    o->key_id = key->id;
    buf_set(&o->key, key->value[V_DATA].ptr, key->value[V_DATA].len);
    buf_set(&o->iv, iv.ptr, iv.len);
    sw = is_ccm(o->subtype) ? ccm_lengths(c, o) : gcm_start(a, o);
    if (sw != SW_OK) {
        crypto_stop(o);
        return sw;
    }
    if (is_made)
        put_bytes(c->out, TAG_3, made, iv.len);
    spend(a, TIME_SYMMETRIC);
    a->dirty = true;
    return SW_OK;
}

static uint16_t gcm_update(struct command *c, struct crypto_object *o, bool is_aad, struct sim_bytes in)
{
    uint8_t out[SIM_APDU_MAX + 32];
    int len = 0;

    if (in.len > 0 && EVP_CipherUpdate(o->cipher, is_aad ? NULL : out, &len, in.ptr, (int)in.len) != 1)
        return SW_CONDITIONS;
    if (!is_aad)
        put_bytes(c->out, TAG_1, out, (size_t)len);
    OPENSSL_cleanse(out, sizeof(out));
    return SW_OK;
}

static uint16_t ccm_update(struct crypto_object *o, bool is_aad, struct sim_bytes in)
{
    struct buf *into = is_aad ? &o->aad : &o->input;

    if (into->len + in.len > (is_aad ? o->aad_len : o->payload_len))
        return SW_CONDITIONS;
    buf_append(into, in.ptr, in.len);
    return SW_OK;
}

uint16_t ins_aead_update(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_AEAD);
    bool is_aad = c->tlv.has[TAG_4];
    struct sim_bytes in = c->tlv.value[is_aad ? TAG_4 : TAG_3];
    uint16_t sw;

    if (is_aad == c->tlv.has[TAG_3]) /* one of the two */
        return SW_DATA;
    if (o == NULL || o->purpose == 0 || !aead_offered(a, c) || (is_aad && o->data_started))
        return SW_CONDITIONS;
    sw = is_ccm(o->subtype) ? ccm_update(o, is_aad, in) : gcm_update(c, o, is_aad, in);
    o->data_started = o->data_started || !is_aad;
    spend_aead(a, in.len);
    a->dirty = true;
    return sw;
}

static uint16_t gcm_final(const struct command *c, struct crypto_object *o, struct aead_run *r, int *result)
{
    uint8_t rest[TAG_LEN];
    int len = 0;

    if (!r->encrypt && EVP_CIPHER_CTX_ctrl(o->cipher, EVP_CTRL_AEAD_SET_TAG, (int)r->tag_len, r->tag) != 1)
        return SW_CONDITIONS;
    *result = EVP_CipherFinal_ex(o->cipher, rest, &len) == 1 ? 1 : 0;
    if (r->encrypt &&
        (*result == 0 || EVP_CIPHER_CTX_ctrl(o->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, r->tag) != 1))
        return SW_CONDITIONS;
    return SW_OK;
}

static uint16_t ccm_final(struct applet *a, struct command *c, struct crypto_object *o, struct aead_run *r,
                          int *result)
{
    uint8_t out[SIM_APDU_MAX + 32];

    if (o->aad.len != o->aad_len || o->input.len != o->payload_len || r->tag_len != o->tag_len)
        return SW_CONDITIONS;
    r->ccm = true;
    r->key = buf_view(&o->key);
    r->iv = buf_view(&o->iv);
    r->aad = buf_view(&o->aad);
    r->data = buf_view(&o->input);
    *result = aead_all(a, r, out);
    if (*result == 1 && r->data.len > 0)
        put_bytes(c->out, TAG_1, out, r->data.len);
    OPENSSL_cleanse(out, sizeof(out));
    return *result < 0 ? SW_CONDITIONS : SW_OK;
}

uint16_t ins_aead_final(struct applet *a, struct command *c)
{
    struct crypto_object *o = command_crypto(a, c, TAG_2, CONTEXT_AEAD);
    const struct object *key = o == NULL ? NULL : store_find(a, o->key_id);
    struct aead_run r = { .tag_len = o == NULL ? 0 : o->tag_len };
    uint16_t sw;
    int result = 0;

    if (o == NULL || o->purpose == 0 || key == NULL || !aead_offered(a, c))
        return SW_CONDITIONS;
    r.encrypt = o->purpose == P2_ENCRYPT;
    if (!r.encrypt && (sw = take_tag(c, key, &r)) != SW_OK)
        return sw;
    sw = is_ccm(o->subtype) ? ccm_final(a, c, o, &r, &result) : gcm_final(c, o, &r, &result);
    spend_aead(a, o->input.len);
    if (sw == SW_OK && r.encrypt)
        put_bytes(c->out, TAG_2, r.tag, r.tag_len);
    else if (sw == SW_OK)
        put_u8(c->out, TAG_2, result == 1 ? 1 : 2);
    crypto_stop(o);
    a->dirty = true;
    return sw;
}
