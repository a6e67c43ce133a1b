/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing: one command per signature. The chip hashes RSA messages only, so ECDSA gets its digest, and RSA a
 * padded block for the raw private operation unless the message itself is shorter.
 */
#include "token.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rand.h>

#include "der.h"

#define PROPQ    "provider=default"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
enum { DIGEST_MAX = 64, ED25519_LEN = 64, PKCS1_OVERHEAD = 11 };

/* ---- what does not fit -------------------------------------------------------------------------------- */

hsm_status se05x_asked(const struct se05x_token *t, const struct se05x_object *o, struct mech_key *asked)
{
    if (o->cls != HSM_CLASS_KEY)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", o->label, t->where);
    *asked = (struct mech_key){ &o->kind, o->usage, o->label, t->where };
    return HSM_OK;
}

/* A key of type RSA-PSS may say with what it signs. */
static hsm_status check_restrictions(const struct se05x_token *t, const struct se05x_object *o,
                                     const struct hsm_mech *mech)
{
    if (mech->type != HSM_MECH_RSA_PSS || o->pss.type == HSM_MECH_NONE ||
        (mech->hash == o->pss.hash && mech_mgf1(mech) == o->pss.mgf1_hash &&
         mech->salt_len >= o->pss.salt_len))
        return HSM_OK;
    return hsm_fail(HSM_ERR_MECH, "key '%s' on %s may only sign with %s and a salt of at least %u bytes",
                    o->label, t->where,
                    o->pss.hash == HSM_HASH_NONE ? "an unknown digest" : hsm_hash_name(o->pss.hash),
                    o->pss.salt_len);
}

static hsm_status check_message(const struct se05x_token *t, const struct se05x_object *o,
                                const struct hsm_mech *mech, size_t len)
{
    if (mech->type != HSM_MECH_EDDSA || len <= SE05X_SIGN_INPUT_MAX)
        return HSM_OK;
    return hsm_fail(
        HSM_ERR_DATA_LEN,
        "key '%s' on %s: the chip takes an Ed25519 message in one command, at most %d bytes; this one "
        "has %zu",
        o->label, t->where, SE05X_SIGN_INPUT_MAX, len);
}

enum se05x_auth se05x_user_of(const struct se05x_object *o)
{
    return o->open ? SE05X_ANYBODY : SE05X_USER;
}

hsm_status se05x_use_refused(struct se05x_token *t, const struct se05x_object *o, uint16_t sw,
                             const char *use)
{
    bool exists = true;
    hsm_status st;

    if (sw == SE05X_SW_NOT_ALLOWED)
        return hsm_fail(HSM_ERR_USAGE, "key '%s' on %s: its policy on the chip does not allow %s%s", o->label,
                        t->where, use,
                        o->foreign ? "; auth= in the token specification may log in to it" : "");
    if (sw != SE05X_SW_CONDITIONS && sw != SE05X_SW_DATA)
        return se05x_refused(t, sw, use);
    if ((st = se05x_exists(t, o->id, &exists)) != HSM_OK)
        return st;
    return exists ? HSM_OK : se05x_vanished(t, o);
}

static hsm_status refused(struct se05x_token *t, const struct se05x_object *o, uint16_t sw, bool raw)
{
    hsm_status st = se05x_use_refused(t, o, sw, "this signature");

    if (st != HSM_OK)
        return st;
    if (raw)
        return hsm_fail(HSM_ERR_DATA, "key '%s' on %s: the number to sign is not smaller than the modulus",
                        o->label, t->where);
    return hsm_fail(HSM_ERR_MECH, "key '%s' on %s: this chip does not sign in this way (status %04x)",
                    o->label, t->where, sw);
}

/* ---- ECDSA, EdDSA
 * ------------------------------------------------------------------------------------------ */

/* Only the leftmost bits of a digest count, as many as the order has, so it can be cut; it is a number, so
 * zeros in front change nothing as long as nothing is cut. */
static hsm_status fit_digest(const struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes in,
                             uint8_t digest[DIGEST_MAX], size_t *len, uint8_t *algorithm)
{
    static const struct {
        uint8_t len, code;
    } codes[] = { { 20, SE05X_ECDSA_SHA1 },
                  { 28, SE05X_ECDSA_SHA224 },
                  { 32, SE05X_ECDSA_SHA256 },
                  { 48, SE05X_ECDSA_SHA384 },
                  { 64, SE05X_ECDSA_SHA512 } };
    size_t order = (o->kind.bits + 7) / 8, i;

    if (in.len > order)
        in.len = order;
    for (i = t->caps.fips ? 1 : 0; i < COUNT(codes) && codes[i].len < in.len; i++)
        ;
    if (i == COUNT(codes))
        return hsm_fail(HSM_ERR_DATA_LEN, "key '%s' on %s: the chip takes digests of at most %d bytes",
                        o->label, t->where, DIGEST_MAX);
    *len = codes[i].len;
    *algorithm = codes[i].code;
    memset(digest, 0, *len);
    memcpy(digest + *len - in.len, in.ptr, in.len);
    return HSM_OK;
}

/* Two INTEGERs in a SEQUENCE; every other one needs a zero in front. Of P-521, every other one is a byte
 * shorter. */
static size_t likely_len(const struct hsm_key_kind *kind)
{
    return 2 * ((kind->bits + 7) / 8) + (kind->bits % 8 == 0 ? 7 : 6);
}

static hsm_status sign_ecdsa(struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes in,
                             struct hsm_buf *out)
{
    uint8_t digest[DIGEST_MAX], algorithm = 0;
    uint16_t sw;
    size_t len = 0;
    hsm_status st;

    if ((st = fit_digest(t, o, in, digest, &len, &algorithm)) != HSM_OK ||
        (st = se05x_ec_sign(t, se05x_user_of(o), o->id, se05x_time_of(&o->kind), algorithm,
                            (struct hsm_bytes){ digest, len }, likely_len(&o->kind), out, &sw)) != HSM_OK)
        return st;
    return sw == SE05X_SW_OK ? HSM_OK : refused(t, o, sw, false);
}

/* R and S come byte-reversed, each by itself. */
static hsm_status sign_eddsa(struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes in,
                             struct hsm_buf *out)
{
    uint8_t sig[ED25519_LEN];
    struct hsm_buf answer = { sig, sizeof(sig), 0 };
    uint16_t sw;
    hsm_status st = se05x_ec_sign(t, se05x_user_of(o), o->id, SE05X_TIME_ED25519, SE05X_EDDSA, in,
                                  sizeof(sig), &answer, &sw);

    if (st != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return refused(t, o, sw, false);
    if (answer.len != sizeof(sig))
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: an Ed25519 signature of %zu bytes", t->where, answer.len);
    se05x_reverse(out->ptr, sig, ED25519_LEN / 2);
    se05x_reverse(out->ptr + ED25519_LEN / 2, sig + ED25519_LEN / 2, ED25519_LEN / 2);
    out->len = ED25519_LEN;
    return HSM_OK;
}

/* ---- RSA: encoding on the host, the private operation on the chip
 * -------------------------------------------- */

EVP_MD *se05x_fetch_md(const struct se05x_token *t, enum hsm_hash hash)
{
    return hsm_hash_name(hash) == NULL ? NULL : EVP_MD_fetch(t->libctx, hsm_hash_name(hash), PROPQ);
}

hsm_status se05x_no_md(const struct se05x_token *t, enum hsm_hash hash)
{
    return hsm_crypto_fail(HSM_ERR_MECH, hsm_hash_name(hash) == NULL ? t->where : hsm_hash_name(hash));
}

/* DigestInfo of RFC 8017 section 9.2; MD5-SHA1 (old TLS) and no hash at all: the bytes as they are. */
static hsm_status digest_info(const struct se05x_token *t, enum hsm_hash hash, struct hsm_bytes in,
                              struct hsm_buf *out)
{
    const ASN1_OBJECT *oid = NULL;
    struct der_writer w;
    EVP_MD *md;
    size_t mark;

    der_writer_init(&w, out);
    if (hash == HSM_HASH_NONE || hash == HSM_HASH_MD5_SHA1) {
        der_put(&w, in);
        return der_finish(&w, out);
    }
    if ((md = se05x_fetch_md(t, hash)) != NULL)
        oid = OBJ_nid2obj(EVP_MD_get_type(md));
    EVP_MD_free(md);
    if (oid == NULL || OBJ_length(oid) == 0)
        return se05x_no_md(t, hash);
    der_put_element(&w, 0x04, in);
    mark = der_len(&w);
    der_put_element(&w, DER_NULL, (struct hsm_bytes){ NULL, 0 });
    der_put_element(&w, DER_OID, (struct hsm_bytes){ OBJ_get0_data(oid), OBJ_length(oid) });
    der_wrap(&w, mark, DER_SEQUENCE);
    der_wrap(&w, 0, DER_SEQUENCE);
    return der_finish(&w, out);
}

/* EMSA-PKCS1-v1_5: 00 01 FF..FF 00 T */
static hsm_status encode_pkcs1(const struct se05x_token *t, const struct hsm_mech *mech, struct hsm_bytes in,
                               uint8_t *em, size_t em_len)
{
    uint8_t info[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { info, sizeof(info), 0 };
    hsm_status st = digest_info(t, mech->hash, in, &out);

    if (st != HSM_OK)
        return st;
    if (out.len + PKCS1_OVERHEAD > em_len)
        return hsm_fail(HSM_ERR_DATA_LEN, "%s: the digest is too long for this RSA key", t->where);
    em[0] = 0x00;
    em[1] = 0x01;
    memset(em + 2, 0xff, em_len - out.len - 3);
    em[em_len - out.len - 1] = 0x00;
    memcpy(em + em_len - out.len, out.ptr, out.len);
    return HSM_OK;
}

bool se05x_add_mask(EVP_MD *md, const uint8_t *seed, size_t seed_len, uint8_t *out, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t block[EVP_MAX_MD_SIZE], count[4] = { 0 };
    unsigned block_len = 0;
    uint32_t n;
    size_t at = 0, i;
    bool ok = ctx != NULL;

    for (n = 0; ok && at < len; n++) {
        count[2] = (uint8_t)(n >> 8);
        count[3] = (uint8_t)n;
        ok = EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, seed, seed_len) == 1 &&
             EVP_DigestUpdate(ctx, count, sizeof(count)) == 1 &&
             EVP_DigestFinal_ex(ctx, block, &block_len) == 1;
        for (i = 0; ok && i < block_len && at < len; i++)
            out[at++] ^= block[i];
    }
    hsm_cleanse(block, sizeof(block));
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool hash_with_salt(EVP_MD *md, struct hsm_bytes digest, struct hsm_bytes salt, uint8_t *out)
{
    static const uint8_t zeros[8];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex2(ctx, md, NULL) == 1 &&
              EVP_DigestUpdate(ctx, zeros, sizeof(zeros)) == 1 &&
              EVP_DigestUpdate(ctx, digest.ptr, digest.len) == 1 &&
              (salt.len == 0 || EVP_DigestUpdate(ctx, salt.ptr, salt.len) == 1) &&
              EVP_DigestFinal_ex(ctx, out, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

/*
 * EMSA-PSS of RFC 8017 section 9.1.1, because libcrypto offers it alone only through deprecated calls:
 * EM = (PS 01 salt) xor MGF1(H) | H | BC. @p em_len is the modulus length; with 8k + 1 bits EM is one byte
 * shorter.
 */
static hsm_status encode_pss(const struct se05x_token *t, const struct hsm_mech *mech, unsigned bits,
                             struct hsm_bytes in, uint8_t *em, size_t em_len)
{
    EVP_MD *md = se05x_fetch_md(t, mech->hash), *mgf1 = se05x_fetch_md(t, mech_mgf1(mech));
    size_t lead = (bits - 1) % 8 == 0 ? 1 : 0, h_len = in.len, db_len = em_len - lead - h_len - 1;
    uint8_t *db = em + lead, *h = db + db_len, *salt = h - mech->salt_len;
    hsm_status st = HSM_OK;

    memset(em, 0, em_len);
    if (md == NULL || mgf1 == NULL) {
        st = se05x_no_md(t, md == NULL ? mech->hash : mech_mgf1(mech));
    } else if (RAND_bytes_ex(t->libctx, salt, mech->salt_len, 0) != 1 ||
               !hash_with_salt(md, in, (struct hsm_bytes){ salt, mech->salt_len }, h)) {
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, "PSS encoding failed");
    } else {
        salt[-1] = 0x01;
        if (!se05x_add_mask(mgf1, h, h_len, db, db_len))
            st = hsm_crypto_fail(HSM_ERR_CRYPTO, "PSS encoding failed");
        db[0] &= (uint8_t)(0xff >> (8 * (em_len - lead) - (bits - 1)));
        em[em_len - 1] = 0xbc;
    }
    EVP_MD_free(md);
    EVP_MD_free(mgf1);
    return st;
}

static hsm_status encode(const struct se05x_token *t, const struct se05x_object *o,
                         const struct hsm_mech *mech, struct hsm_bytes in, uint8_t *em, size_t em_len)
{
    if (mech->type == HSM_MECH_RSA_PKCS1)
        return encode_pkcs1(t, mech, in, em, em_len);
    if (mech->type == HSM_MECH_RSA_PSS)
        return encode_pss(t, mech, o->kind.bits, in, em, em_len);
    if (o->modulus_len == em_len && memcmp(in.ptr, o->modulus, em_len) >= 0)
        return hsm_fail(HSM_ERR_DATA, "key '%s' on %s: the number to sign is not smaller than the modulus",
                        o->label, t->where);
    memcpy(em, in.ptr, em_len);
    return HSM_OK;
}

static hsm_status sign_rsa(struct se05x_token *t, const struct se05x_object *o, const struct hsm_mech *mech,
                           struct hsm_bytes in, struct hsm_buf *out)
{
    uint8_t em[HSM_SIGNATURE_MAX];
    size_t em_len = (o->kind.bits + 7) / 8;
    uint16_t sw;
    hsm_status st;

    if (em_len > sizeof(em))
        return hsm_fail(HSM_ERR_KEY_TYPE, "key '%s' on %s is too long", o->label, t->where);
    if ((st = encode(t, o, mech, in, em, em_len)) != HSM_OK ||
        (st = se05x_rsa_decrypt(t, se05x_user_of(o), o->id, se05x_time_of(&o->kind), SE05X_RSA_RAW,
                                (struct hsm_bytes){ em, em_len }, out, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK)
        return refused(t, o, sw, mech->type == HSM_MECH_RSA_RAW);
    return out->len == em_len ? HSM_OK
                              : hsm_fail(HSM_ERR_TOKEN_IO, "%s: an RSA signature of %zu bytes, not of %zu",
                                         t->where, out->len, em_len);
}

hsm_status se05x_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech, struct hsm_bytes in,
                      struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    struct mech_key asked;
    hsm_status st;

    if ((st = se05x_lookup(t, key, &o)) != HSM_OK || (st = se05x_asked(t, o, &asked)) != HSM_OK ||
        (st = mech_check_sign(&asked, mech, in.len, out->cap)) != HSM_OK ||
        (st = check_restrictions(t, o, mech)) != HSM_OK || (st = check_message(t, o, mech, in.len)) != HSM_OK)
        return st;
    if (mech->type == HSM_MECH_ECDSA)
        return sign_ecdsa(t, o, in, out);
    if (mech->type == HSM_MECH_EDDSA)
        return sign_eddsa(t, o, in, out);
    return sign_rsa(t, o, mech, in, out);
}

/* ---- the chip hashes
 * ----------------------------------------------------------------------------------------- */

/* The chip's code for this padding and digest, 0 if it has none. MGF1 always with the same digest. */
static uint8_t message_algorithm(const struct se05x_object *o, const struct hsm_mech *mech)
{
    static const struct {
        enum hsm_hash hash;
        uint8_t pkcs1, pss;
    } rows[] = { { HSM_HASH_SHA1, 0x0a, 0x15 },
                 { HSM_HASH_SHA224, 0x27, 0x2b },
                 { HSM_HASH_SHA256, 0x28, 0x2c },
                 { HSM_HASH_SHA384, 0x29, 0x2d },
                 { HSM_HASH_SHA512, 0x2a, 0x2e } };
    size_t i;

    for (i = 0; i < COUNT(rows); i++)
        if (rows[i].hash == mech->hash)
            return mech->type == HSM_MECH_RSA_PKCS1                                  ? rows[i].pkcs1
                   : mech->type == HSM_MECH_RSA_PSS && mech_mgf1(mech) == mech->hash ? rows[i].pss
                                                                                     : 0;
    return 0;
}

hsm_status se05x_sign_message(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                              struct hsm_bytes in, struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    size_t modulus, salt_len = 0;
    const struct se05x_object *o;
    struct mech_key asked;
    uint8_t algorithm;
    uint16_t sw;
    hsm_status st;

    if (mech->type != HSM_MECH_RSA_PKCS1 && mech->type != HSM_MECH_RSA_PSS)
        return HSM_ERR_UNSUPPORTED;
    if ((st = se05x_lookup(t, key, &o)) != HSM_OK || (st = se05x_asked(t, o, &asked)) != HSM_OK ||
        (st = mech_check_signature(&asked, mech, out->cap)) != HSM_OK ||
        (st = check_restrictions(t, o, mech)) != HSM_OK)
        return st;
    if (mech->type == HSM_MECH_RSA_PSS && mech->salt_len != hsm_hash_len(mech->hash))
        salt_len = mech->salt_len;
    modulus = (o->kind.bits + 7) / 8;
    algorithm = message_algorithm(o, mech);
    if (algorithm == 0 || in.len == 0 || in.len + salt_len >= modulus ||
        (mech->type == HSM_MECH_RSA_PSS && mech->salt_len == 0) || (salt_len != 0 && !t->caps.v7) ||
        salt_len > 64)
        return HSM_ERR_UNSUPPORTED;
    st = se05x_rsa_sign(t, se05x_user_of(o), o->id, se05x_time_of(&o->kind), algorithm, salt_len, in, modulus,
                        out, &sw);
    if (st != HSM_OK || sw == SE05X_SW_OK)
        return st;
    st = refused(t, o, sw, false);
    return st == HSM_ERR_MECH ? HSM_ERR_UNSUPPORTED : st; /* a chip without it: hash on the host */
}
