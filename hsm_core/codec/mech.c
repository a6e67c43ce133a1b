/* SPDX-License-Identifier: Apache-2.0 */
#include "mech.h"

enum { PKCS1_OVERHEAD = 11 /* RFC 8017 section 7.2.1 */ };

enum hsm_hash mech_mgf1(const struct hsm_mech *mech)
{
    return mech->mgf1_hash != HSM_HASH_NONE ? mech->mgf1_hash : mech->hash;
}

static size_t modulus_len(const struct mech_key *key)
{
    return (key->kind->bits + 7) / 8;
}

static hsm_status check_usage(const struct mech_key *key, unsigned usage, const char *verb)
{
    char text[96];

    if ((key->usage & usage) != 0)
        return HSM_OK;
    return hsm_fail(HSM_ERR_USAGE, "key '%s' on %s may not %s; its usage is %s", key->label, key->where, verb,
                    hsm_usage_format(key->usage, text));
}

static hsm_status wrong_type(const struct mech_key *key, const char *reason)
{
    char kind[32];

    return hsm_fail(HSM_ERR_KEY_TYPE, "key '%s' on %s is of type %s, which %s", key->label, key->where,
                    hsm_kind_format(key->kind, kind), reason);
}

/* ---- signing ------------------------------------------------------------------------------------------- */

static bool can_sign(enum hsm_mech_type mech, enum hsm_key_type key)
{
    switch (mech) {
    case HSM_MECH_ECDSA:
        return key == HSM_KEY_EC;
    case HSM_MECH_RSA_PKCS1:
    case HSM_MECH_RSA_RAW:
        return key == HSM_KEY_RSA;
    case HSM_MECH_RSA_PSS:
        return key == HSM_KEY_RSA || key == HSM_KEY_RSA_PSS;
    case HSM_MECH_EDDSA:
        return key == HSM_KEY_ED25519 || key == HSM_KEY_ED448;
    default:
        return false;
    }
}

/* The encoded message must hold hash, salt and two more octets. */
static hsm_status check_pss(const struct mech_key *key, const struct hsm_mech *mech)
{
    size_t room = (key->kind->bits - 1 + 7) / 8;

    if (mech->hash == HSM_HASH_NONE || hsm_hash_name(mech->hash) == NULL)
        return hsm_fail(HSM_ERR_MECH, "key '%s' on %s: RSA-PSS needs a digest", key->label, key->where);
    if (mech->salt_len > room || hsm_hash_len(mech->hash) + mech->salt_len + 2 > room)
        return hsm_fail(HSM_ERR_MECH,
                        "key '%s' on %s: a PSS salt of %u bytes is too long for RSA with %u bits and %s",
                        key->label, key->where, mech->salt_len, key->kind->bits, hsm_hash_name(mech->hash));
    return HSM_OK;
}

hsm_status mech_check_signature(const struct mech_key *key, const struct hsm_mech *mech, size_t cap)
{
    size_t most = hsm_kind_signature_max(key->kind);
    hsm_status st;

    if ((st = check_usage(key, HSM_USAGE_SIGN, "sign")) != HSM_OK)
        return st;
    if (hsm_mech_usage(mech->type) != HSM_USAGE_SIGN || mech->hash >= HSM_HASH_COUNT ||
        mech->mgf1_hash >= HSM_HASH_COUNT)
        return hsm_fail(HSM_ERR_MECH, "%s: unknown signature mechanism", key->where);
    if (!can_sign(mech->type, key->kind->type))
        return wrong_type(key, "this signature mechanism cannot use");
    if (mech->type == HSM_MECH_RSA_PSS && (st = check_pss(key, mech)) != HSM_OK)
        return st;
    if (cap < most)
        return hsm_fail(HSM_ERR_BUFFER, "a signature by key '%s' takes up to %zu bytes, the buffer has %zu",
                        key->label, most, cap);
    return HSM_OK;
}

static hsm_status check_input(const struct mech_key *key, const struct hsm_mech *mech, size_t len)
{
    size_t modulus = modulus_len(key), want = 0;

    if (mech->type == HSM_MECH_EDDSA)
        return HSM_OK;
    if (mech->type == HSM_MECH_RSA_RAW)
        want = modulus;
    else if (mech->hash != HSM_HASH_NONE)
        want = hsm_hash_len(mech->hash);
    if (want != 0 && len != want)
        return hsm_fail(HSM_ERR_DATA_LEN, "key '%s' on %s: %zu bytes to sign, but %s takes exactly %zu",
                        key->label, key->where, len,
                        mech->type == HSM_MECH_RSA_RAW ? "raw RSA" : hsm_hash_name(mech->hash), want);
    if (mech->type == HSM_MECH_RSA_PKCS1 && len > modulus - PKCS1_OVERHEAD)
        return hsm_fail(HSM_ERR_DATA_LEN,
                        "key '%s' on %s: %zu bytes to sign, RSA PKCS#1 with this key takes at most %zu",
                        key->label, key->where, len, modulus - PKCS1_OVERHEAD);
    if (mech->type == HSM_MECH_ECDSA && len == 0)
        return hsm_fail(HSM_ERR_DATA_LEN, "key '%s' on %s: nothing to sign", key->label, key->where);
    return HSM_OK;
}

hsm_status mech_check_sign(const struct mech_key *key, const struct hsm_mech *mech, size_t in_len, size_t cap)
{
    hsm_status st = mech_check_signature(key, mech, cap);

    return st != HSM_OK ? st : check_input(key, mech, in_len);
}

/* ---- decrypting, agreeing -------------------------------------------------------------------------------
 */

hsm_status mech_check_decrypt(const struct mech_key *key, const struct hsm_mech *mech, size_t in_len,
                              size_t cap)
{
    size_t modulus = modulus_len(key);
    hsm_status st;

    if ((st = check_usage(key, HSM_USAGE_DECRYPT, "decrypt")) != HSM_OK)
        return st;
    if (hsm_mech_usage(mech->type) != HSM_USAGE_DECRYPT)
        return hsm_fail(HSM_ERR_MECH, "%s: unknown mechanism for decryption", key->where);
    if (key->kind->type != HSM_KEY_RSA)
        return wrong_type(key, "does not decrypt");
    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP &&
        (hsm_hash_name(mech->hash) == NULL || mech->mgf1_hash >= HSM_HASH_COUNT ||
         2 * hsm_hash_len(mech->hash) + 2 > modulus))
        return hsm_fail(HSM_ERR_MECH, "key '%s' on %s: OAEP needs a digest", key->label, key->where);
    if (in_len != modulus)
        return hsm_fail(HSM_ERR_DATA_LEN,
                        "key '%s' on %s: %zu bytes to decrypt, but this key takes exactly %zu", key->label,
                        key->where, in_len, modulus);
    if (cap < modulus)
        return hsm_fail(HSM_ERR_BUFFER, "what key '%s' decrypts takes up to %zu bytes, the buffer has %zu",
                        key->label, modulus, cap);
    return HSM_OK;
}

hsm_status mech_check_derive(const struct mech_key *key, const struct hsm_mech *mech, size_t secret_len,
                             size_t cap)
{
    hsm_status st;

    if ((st = check_usage(key, HSM_USAGE_DERIVE, "derive")) != HSM_OK)
        return st;
    if (mech->type != HSM_MECH_ECDH)
        return hsm_fail(HSM_ERR_MECH, "%s: unknown mechanism for key agreement", key->where);
    if (secret_len == 0)
        return wrong_type(key, "agrees on no secrets");
    if (cap < secret_len)
        return hsm_fail(HSM_ERR_BUFFER, "a secret of key '%s' takes %zu bytes, the buffer has %zu",
                        key->label, secret_len, cap);
    return HSM_OK;
}
