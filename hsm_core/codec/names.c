/* SPDX-License-Identifier: Apache-2.0 */
/* Names and facts of key types, usages and digests. */
#include "hsm/pubkey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct type_info {
    enum hsm_key_type type;
    const char *name; /* with ':' a size or curve follows */
    unsigned bits;    /* of those that have one size */
    unsigned usages;
} types[] = {
    { HSM_KEY_RSA, "rsa:", 0,
      HSM_USAGE_SIGN | HSM_USAGE_DECRYPT | HSM_USAGE_UNWRAP | HSM_USAGE_VERIFY | HSM_USAGE_ENCRYPT |
          HSM_USAGE_WRAP },
    { HSM_KEY_RSA_PSS, "rsa-pss:", 0, HSM_USAGE_SIGN | HSM_USAGE_VERIFY },
    { HSM_KEY_EC, "ec:", 0, HSM_USAGE_SIGN | HSM_USAGE_VERIFY | HSM_USAGE_DERIVE },
    { HSM_KEY_ED25519, "ed25519", 256, HSM_USAGE_SIGN | HSM_USAGE_VERIFY },
    { HSM_KEY_ED448, "ed448", 456, HSM_USAGE_SIGN | HSM_USAGE_VERIFY },
    { HSM_KEY_X25519, "x25519", 253, HSM_USAGE_DERIVE },
    { HSM_KEY_X448, "x448", 448, HSM_USAGE_DERIVE },
};

static const struct usage_name {
    unsigned bit;
    const char *name;
} usages[] = {
    { HSM_USAGE_SIGN, "sign" },       { HSM_USAGE_VERIFY, "verify" }, { HSM_USAGE_ENCRYPT, "encrypt" },
    { HSM_USAGE_DECRYPT, "decrypt" }, { HSM_USAGE_DERIVE, "derive" }, { HSM_USAGE_WRAP, "wrap" },
    { HSM_USAGE_UNWRAP, "unwrap" },
};

static const struct hash_info {
    const char *name; /* the default provider's */
    size_t len;
} hashes[HSM_HASH_COUNT] = {
    [HSM_HASH_MD5_SHA1] = { "MD5-SHA1", 36 },       [HSM_HASH_MD5] = { "MD5", 16 },
    [HSM_HASH_RIPEMD160] = { "RIPEMD-160", 20 },    [HSM_HASH_SHA1] = { "SHA1", 20 },
    [HSM_HASH_SHA224] = { "SHA2-224", 28 },         [HSM_HASH_SHA256] = { "SHA2-256", 32 },
    [HSM_HASH_SHA384] = { "SHA2-384", 48 },         [HSM_HASH_SHA512] = { "SHA2-512", 64 },
    [HSM_HASH_SHA512_224] = { "SHA2-512/224", 28 }, [HSM_HASH_SHA512_256] = { "SHA2-512/256", 32 },
    [HSM_HASH_SHA3_224] = { "SHA3-224", 28 },       [HSM_HASH_SHA3_256] = { "SHA3-256", 32 },
    [HSM_HASH_SHA3_384] = { "SHA3-384", 48 },       [HSM_HASH_SHA3_512] = { "SHA3-512", 64 },
};

static const struct type_info *type_info(enum hsm_key_type type)
{
    size_t i;

    for (i = 0; i < COUNT(types); i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}

static hsm_status parse_rsa_size(const struct type_info *info, const char *text, struct hsm_key_kind *kind)
{
    char *end;
    unsigned long bits = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0')
        return hsm_fail(HSM_ERR_KEY_TYPE, "RSA size '%.32s' is not a number: use 2048, 3072 or 4096", text);
    if (bits < 2048)
        return hsm_fail(HSM_ERR_KEY_TYPE,
                        "RSA with %lu bits is refused: less than 112 bits of security "
                        "(NIST SP 800-131A); use 2048, 3072 or 4096",
                        bits);
    if (bits > 4096 || bits % 8 != 0)
        return hsm_fail(HSM_ERR_KEY_TYPE, "RSA with %lu bits is not supported: use 2048, 3072 or 4096", bits);
    *kind = (struct hsm_key_kind){ info->type, HSM_CURVE_NONE, (unsigned)bits };
    return HSM_OK;
}

static hsm_status parse_curve(const char *text, struct hsm_key_kind *kind)
{
    const struct hsm_curve_info *curve = hsm_curve_by_name(text);

    if (curve == NULL)
        return hsm_fail(HSM_ERR_KEY_TYPE,
                        "EC curve '%.32s' is not supported: use P-256, P-384, P-521, secp256k1, "
                        "brainpoolP256r1 or brainpoolP384r1",
                        text);
    *kind = (struct hsm_key_kind){ HSM_KEY_EC, curve->curve, curve->bits };
    return HSM_OK;
}

hsm_status hsm_kind_parse(const char *text, struct hsm_key_kind *kind)
{
    size_t i;

    for (i = 0; i < COUNT(types); i++) {
        size_t len = strlen(types[i].name);

        if (types[i].name[len - 1] != ':') {
            if (strcasecmp(text, types[i].name) != 0)
                continue;
            *kind = (struct hsm_key_kind){ types[i].type, HSM_CURVE_NONE, types[i].bits };
            return HSM_OK;
        }
        if (strncasecmp(text, types[i].name, len) == 0)
            return types[i].type == HSM_KEY_EC ? parse_curve(text + len, kind)
                                               : parse_rsa_size(&types[i], text + len, kind);
    }
    return hsm_fail(HSM_ERR_KEY_TYPE,
                    "key type '%.32s' is not known: use ec:P-256, ec:P-384, ec:P-521, ec:secp256k1, "
                    "ec:brainpoolP256r1, ec:brainpoolP384r1, rsa:2048, rsa:3072, rsa:4096, "
                    "rsa-pss:2048, ed25519, ed448, x25519 or x448",
                    text);
}

const char *hsm_kind_format(const struct hsm_key_kind *kind, char out[32])
{
    const struct type_info *info = type_info(kind->type);
    const struct hsm_curve_info *curve = hsm_curve_info(kind->curve);

    if (info == NULL)
        (void)snprintf(out, 32, "unknown");
    else if (kind->type == HSM_KEY_EC)
        (void)snprintf(out, 32, "ec:%s", curve == NULL ? "unknown" : curve->common_name);
    else if (info->bits == 0)
        (void)snprintf(out, 32, "%s%u", info->name, kind->bits);
    else
        (void)snprintf(out, 32, "%s", info->name);
    return out;
}

/* SEQUENCE of two INTEGERs, each as long as the order with a sign octet (RFC 3279 section 2.2.3) */
static size_t ecdsa_max(unsigned bits)
{
    size_t integer = 2 + (bits + 7) / 8 + (bits % 8 == 0), content = 2 * integer;

    return content + (content < 0x80 ? 2 : 3);
}

size_t hsm_kind_signature_max(const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_RSA:
    case HSM_KEY_RSA_PSS:
        return (kind->bits + 7) / 8;
    case HSM_KEY_EC:
        return ecdsa_max(kind->bits);
    case HSM_KEY_ED25519:
        return 64;
    case HSM_KEY_ED448:
        return 114;
    case HSM_KEY_X25519:
    case HSM_KEY_X448:
    case HSM_KEY_NONE:
        break;
    }
    return 0;
}

static unsigned rsa_security_bits(unsigned bits)
{
    return bits >= 7680 ? 192 : bits >= 4096 ? 152 : bits >= 3072 ? 128 : bits >= 2048 ? 112 : 80;
}

unsigned hsm_kind_security_bits(const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_RSA:
    case HSM_KEY_RSA_PSS:
        return rsa_security_bits(kind->bits);
    case HSM_KEY_EC:
        return kind->bits >= 512 ? 256 : kind->bits / 2;
    case HSM_KEY_ED25519:
    case HSM_KEY_X25519:
        return 128;
    case HSM_KEY_ED448:
    case HSM_KEY_X448:
        return 224;
    case HSM_KEY_NONE:
        break;
    }
    return 0;
}

unsigned hsm_kind_usages(const struct hsm_key_kind *kind)
{
    const struct type_info *info = type_info(kind->type);

    return info == NULL ? 0 : info->usages;
}

unsigned hsm_mech_usage(enum hsm_mech_type mech)
{
    switch (mech) {
    case HSM_MECH_ECDSA:
    case HSM_MECH_RSA_PKCS1:
    case HSM_MECH_RSA_PSS:
    case HSM_MECH_RSA_RAW:
    case HSM_MECH_EDDSA:
        return HSM_USAGE_SIGN;
    case HSM_MECH_ECDH:
        return HSM_USAGE_DERIVE;
    case HSM_MECH_RSA_DECRYPT_PKCS1:
    case HSM_MECH_RSA_DECRYPT_OAEP:
    case HSM_MECH_RSA_DECRYPT_RAW:
        return HSM_USAGE_DECRYPT;
    case HSM_MECH_NONE:
    case HSM_MECH_COUNT:
        break;
    }
    return 0;
}

static unsigned usage_bit(const char *word, size_t len)
{
    size_t i;

    for (i = 0; i < COUNT(usages); i++)
        if (strlen(usages[i].name) == len && strncasecmp(usages[i].name, word, len) == 0)
            return usages[i].bit;
    return 0;
}

hsm_status hsm_usage_parse(const char *text, unsigned *usage)
{
    unsigned all = 0, bit;

    for (;;) {
        size_t len = strcspn(text, ",");

        if ((bit = usage_bit(text, len)) == 0)
            return hsm_fail(HSM_ERR_ARGUMENT,
                            "key usage '%.*s' is not known: use a list of sign, verify, encrypt, "
                            "decrypt, derive, wrap, unwrap",
                            len > 32 ? 32 : (int)len, text);
        all |= bit;
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    *usage = all;
    return HSM_OK;
}

const char *hsm_usage_format(unsigned usage, char out[96])
{
    size_t i, len = 0;

    out[0] = '\0';
    for (i = 0; i < COUNT(usages); i++)
        if ((usage & usages[i].bit) != 0)
            len += (size_t)snprintf(out + len, 96 - len, "%s%s", len == 0 ? "" : ",", usages[i].name);
    return out;
}

const char *hsm_hash_name(enum hsm_hash hash)
{
    return hash > HSM_HASH_NONE && hash < HSM_HASH_COUNT ? hashes[hash].name : NULL;
}

size_t hsm_hash_len(enum hsm_hash hash)
{
    return hash > HSM_HASH_NONE && hash < HSM_HASH_COUNT ? hashes[hash].len : 0;
}
