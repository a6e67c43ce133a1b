/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RSA decryption: one command. The chip removes PKCS#1 v1.5 padding, and OAEP with SHA-1 and no label; other
 * OAEP is removed here, from what the raw private operation gives. What is wrong with a padding must not
 * show: there is one error for all of it.
 */
#include "token.h"

#include <string.h>

#include <openssl/crypto.h>

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

static hsm_status raw(struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes in,
                      struct hsm_buf *out)
{
    hsm_status st = on_chip(t, o, SE05X_RSA_RAW, in, out);

    if (st != HSM_OK || out->len == in.len)
        return st;
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: %zu decrypted bytes, not %zu", t->where, out->len, in.len);
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
    EVP_MD *md = se05x_fetch_md(t, mech->hash), *mgf1 = se05x_fetch_md(t, mech_mgf1(mech));
    size_t h_len = hsm_hash_len(mech->hash), db_at = 1 + h_len, start;
    uint8_t label_hash[EVP_MAX_MD_SIZE], bad = em[0];
    hsm_status st = HSM_OK;

    if (md == NULL || mgf1 == NULL) {
        st = se05x_no_md(t, md == NULL ? mech->hash : mech_mgf1(mech));
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

    if (mech->hash == HSM_HASH_SHA1 && mech_mgf1(mech) == HSM_HASH_SHA1 && mech->label.len == 0)
        return on_chip(t, o, SE05X_RSA_OAEP_SHA1, in, out);
    if ((st = raw(t, o, in, &answer)) == HSM_OK)
        st = remove_oaep(t, o, mech, em, in.len, out);
    hsm_cleanse(em, sizeof(em));
    return st;
}

hsm_status se05x_decrypt(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                         struct hsm_bytes in, struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    struct mech_key asked;
    hsm_status st;

    if ((st = se05x_lookup(t, key, &o)) != HSM_OK || (st = se05x_asked(t, o, &asked)) != HSM_OK ||
        (st = mech_check_decrypt(&asked, mech, in.len, out->cap)) != HSM_OK)
        return st;
    if (in.len > HSM_SIGNATURE_MAX) /* a foreign key larger than any of ours */
        return hsm_fail(HSM_ERR_KEY_TYPE, "key '%s' on %s: RSA with %u bits is too large", o->label, t->where,
                        o->kind.bits);
    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP)
        return decrypt_oaep(t, o, mech, in, out);
    if (mech->type == HSM_MECH_RSA_DECRYPT_PKCS1)
        return on_chip(t, o, SE05X_RSA_PKCS1, in, out);
    return raw(t, o, in, out);
}
