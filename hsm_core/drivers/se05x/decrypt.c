/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RSA decryption: one command. The chip removes PKCS#1 v1.5 padding, and OAEP with SHA-1 and no label; other
 * OAEP is removed here, from what the raw private operation gives. What is wrong with a padding must not
 * show: there is one error for all of it.
 */
#include "token.h"

#include <string.h>

#include <openssl/crypto.h>

static hsm_status check_key(const struct se05x_token *t, const struct se05x_object *o,
                            const struct hsm_mech *mech)
{
    char kind[32], usage[96];

    if (o->cls != HSM_CLASS_KEY)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", o->label, t->where);
    if ((o->usage & HSM_USAGE_DECRYPT) == 0)
        return hsm_fail(HSM_ERR_USAGE, "key '%s' on %s may not decrypt; its usage is %s", o->label, t->where,
                        hsm_usage_format(o->usage, usage));
    if (hsm_mech_usage(mech->type) != HSM_USAGE_DECRYPT)
        return hsm_fail(HSM_ERR_MECH, "%s: unknown mechanism for decryption", t->where);
    if (o->kind.type != HSM_KEY_RSA)
        return hsm_fail(HSM_ERR_KEY_TYPE, "key '%s' on %s is of type %s, which does not decrypt", o->label,
                        t->where, hsm_kind_format(&o->kind, kind));
    return HSM_OK;
}

static hsm_status check_request(const struct se05x_token *t, const struct se05x_object *o,
                                const struct hsm_mech *mech, struct hsm_bytes in, size_t cap)
{
    size_t modulus = (o->kind.bits + 7) / 8;

    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP &&
        (hsm_hash_name(mech->hash) == NULL || mech->mgf1_hash >= HSM_HASH_COUNT ||
         2 * hsm_hash_len(mech->hash) + 2 > modulus))
        return hsm_fail(HSM_ERR_MECH, "key '%s' on %s: OAEP needs a digest", o->label, t->where);
    if (in.len != modulus || modulus > HSM_SIGNATURE_MAX)
        return hsm_fail(HSM_ERR_DATA_LEN,
                        "key '%s' on %s: %zu bytes to decrypt, but this key takes exactly %zu", o->label,
                        t->where, in.len, modulus);
    if (cap < modulus)
        return hsm_fail(HSM_ERR_BUFFER, "what key '%s' decrypts takes up to %zu bytes, the buffer has %zu",
                        o->label, modulus, cap);
    return HSM_OK;
}

static hsm_status not_for_us(const struct se05x_token *t, const struct se05x_object *o)
{
    return hsm_fail(HSM_ERR_DATA, "key '%s' on %s: this was not encrypted for the key in this way", o->label,
                    t->where);
}

static hsm_status on_chip(struct se05x_token *t, const struct se05x_object *o, enum se05x_rsa_padding padding,
                          struct hsm_bytes in, struct hsm_buf *out)
{
    uint16_t sw;
    hsm_status st;

    if (o->modulus_len == in.len && memcmp(in.ptr, o->modulus, in.len) >= 0)
        return not_for_us(t, o); /* both are public */
    st = se05x_rsa_decrypt(t, se05x_user_of(o), o->id, se05x_time_of(&o->kind), padding, in, out, &sw);
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    st = se05x_use_refused(t, o, sw, "decryption");
    return st == HSM_OK ? not_for_us(t, o) : st;
}

/* ---- OAEP: RFC 8017 section 7.1.2, step 3
 * -------------------------------------------------------------------- */

/* 0xff if @p x is 0, else 0. */
static uint8_t is_zero(uint8_t x)
{
    return (uint8_t)((((uint32_t)x) - 1) >> 24);
}

/*
 * lHash | 00..00 | 01 | message. Reads every byte whatever it finds.
 * @param bad  in: 0 as long as nothing was wrong
 * @return where the message begins, if nothing is wrong
 */
static size_t message_start(const uint8_t *db, size_t len, const uint8_t *label_hash, size_t h_len,
                            uint8_t *bad)
{
    uint8_t looking = 0xff, one;
    size_t start = 0, i;

    *bad |= (uint8_t)(CRYPTO_memcmp(db, label_hash, h_len) != 0);
    for (i = h_len; i < len; i++) {
        one = looking & is_zero(db[i] ^ 0x01);
        start |= (i + 1) & (0 - (size_t)(one & 1));
        looking &= (uint8_t)~one;
        *bad |= looking & (uint8_t)~is_zero(db[i]);
    }
    *bad |= looking;
    return start;
}

/* Undo both masks in @p em, which then is Y | seed | DB. */
static bool unmask(EVP_MD *mgf1, uint8_t *em, size_t len, size_t h_len)
{
    uint8_t *seed = em + 1, *db = seed + h_len;
    size_t db_len = len - h_len - 1;

    return se05x_add_mask(mgf1, db, db_len, seed, h_len) && se05x_add_mask(mgf1, seed, h_len, db, db_len);
}

static hsm_status remove_oaep(struct se05x_token *t, const struct se05x_object *o,
                              const struct hsm_mech *mech, uint8_t *em, size_t len, struct hsm_buf *out)
{
    EVP_MD *md = se05x_fetch_md(t, mech->hash), *mgf1 = se05x_fetch_md(t, se05x_mgf1_of(mech));
    size_t h_len = hsm_hash_len(mech->hash), db_at = 1 + h_len, start;
    uint8_t label_hash[EVP_MAX_MD_SIZE], bad = em[0];
    hsm_status st = HSM_OK;

    if (md == NULL || mgf1 == NULL) {
        st = se05x_no_md(t, md == NULL ? mech->hash : se05x_mgf1_of(mech));
    } else if (EVP_Digest(mech->label.len > 0 ? mech->label.ptr : em, mech->label.len, label_hash, NULL, md,
                          NULL) != 1 ||
               !unmask(mgf1, em, len, h_len)) {
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "OAEP decoding failed");
    } else {
        start = db_at + message_start(em + db_at, len - db_at, label_hash, h_len, &bad);
        if (bad != 0) {
            st = not_for_us(t, o);
        } else {
            memcpy(out->ptr, em + start, len - start);
            out->len = len - start;
        }
    }
    EVP_MD_free(md);
    EVP_MD_free(mgf1);
    return st;
}

static hsm_status decrypt_oaep(struct se05x_token *t, const struct se05x_object *o,
                               const struct hsm_mech *mech, struct hsm_bytes in, struct hsm_buf *out)
{
    uint8_t em[HSM_SIGNATURE_MAX];
    struct hsm_buf answer = { em, sizeof(em), 0 };
    hsm_status st;

    if (mech->hash == HSM_HASH_SHA1 && se05x_mgf1_of(mech) == HSM_HASH_SHA1 && mech->label.len == 0)
        return on_chip(t, o, SE05X_RSA_OAEP_SHA1, in, out);
    st = on_chip(t, o, SE05X_RSA_RAW, in, &answer);
    if (st == HSM_OK && answer.len != in.len)
        st = hsm_fail(HSM_ERR_TOKEN_IO, "%s: %zu decrypted bytes, not %zu", t->where, answer.len, in.len);
    if (st == HSM_OK)
        st = remove_oaep(t, o, mech, em, in.len, out);
    hsm_cleanse(em, sizeof(em));
    return st;
}

hsm_status se05x_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                         struct hsm_bytes in, struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    hsm_status st;

    if ((st = se05x_lookup(t, key, &o)) != HSM_OK || (st = check_key(t, o, mech)) != HSM_OK ||
        (st = check_request(t, o, mech, in, out->cap)) != HSM_OK)
        return st;
    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP)
        return decrypt_oaep(t, o, mech, in, out);
    return on_chip(t, o, mech->type == HSM_MECH_RSA_DECRYPT_PKCS1 ? SE05X_RSA_PKCS1 : SE05X_RSA_RAW, in, out);
}
