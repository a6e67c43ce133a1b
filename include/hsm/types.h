/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The nouns of hsm: byte ranges, key types, mechanisms, objects. Needs only the C standard library.
 */
#ifndef HSM_TYPES_H
#define HSM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes that somebody else owns; only read. ptr may be NULL when len is 0. */
struct hsm_bytes {
    const uint8_t *ptr;
    size_t len;
};

/** The caller's memory for an output: cap bytes at ptr; the callee sets len on success only. */
struct hsm_buf {
    uint8_t *ptr;
    size_t cap;
    size_t len;
};

/** Names one object on one token, in this process, while the token stays open. 0 is never valid. */
typedef uint64_t hsm_handle;

enum {
    HSM_LABEL_MAX = 255,     /* bytes of UTF-8, without the final NUL */
    HSM_ID_MAX = 64,         /* bytes */
    HSM_SPKI_MAX = 2816,     /* bytes of a DER SubjectPublicKeyInfo; ML-DSA-87 needs 2614 */
    HSM_POINT_MAX = 133,     /* bytes of an uncompressed P-521 point */
    HSM_SIGNATURE_MAX = 512, /* bytes: RSA-4096 */
    HSM_PIN_MAX = 255,       /* bytes of UTF-8 */
    HSM_CHALLENGE_LEN = 16,  /* bytes, for an attestation */
    HSM_DATA_MAX = 1 << 20   /* bytes of a certificate or data object */
};

enum hsm_class { HSM_CLASS_ANY, HSM_CLASS_KEY, HSM_CLASS_CERT, HSM_CLASS_DATA, HSM_CLASS_COUNTER };

/** Values are stored in tokens; never renumber. */
enum hsm_key_type {
    HSM_KEY_NONE = 0,
    HSM_KEY_RSA = 1,
    HSM_KEY_RSA_PSS = 2, /* RFC 4055 id-RSASSA-PSS: an RSA key that may only do PSS */
    HSM_KEY_EC = 3,
    HSM_KEY_ED25519 = 4,
    HSM_KEY_ED448 = 5,
    HSM_KEY_X25519 = 6,
    HSM_KEY_X448 = 7
};

/** Values are stored in tokens; never renumber. */
enum hsm_curve {
    HSM_CURVE_NONE = 0,
    HSM_CURVE_P256 = 1,
    HSM_CURVE_P384 = 2,
    HSM_CURVE_P521 = 3,
    HSM_CURVE_SECP256K1 = 4,
    HSM_CURVE_BP256R1 = 5,
    HSM_CURVE_BP384R1 = 6
};

/** What a key may be used for; a bit set, stored in tokens. */
enum {
    HSM_USAGE_SIGN = 1 << 0,
    HSM_USAGE_DECRYPT = 1 << 1,
    HSM_USAGE_DERIVE = 1 << 2,
    HSM_USAGE_WRAP = 1 << 3,
    HSM_USAGE_UNWRAP = 1 << 4,
    HSM_USAGE_ENCRYPT = 1 << 5,
    HSM_USAGE_VERIFY = 1 << 6
};

enum hsm_origin {
    HSM_ORIGIN_NONE = 0,
    HSM_ORIGIN_GENERATED = 1,
    HSM_ORIGIN_IMPORTED = 2,
    HSM_ORIGIN_FACTORY = 3 /* put there by the maker of the token */
};

/** A fully determined key type: "ec:P-256" is { HSM_KEY_EC, HSM_CURVE_P256, 256 }. */
struct hsm_key_kind {
    enum hsm_key_type type;
    enum hsm_curve curve; /* EC only */
    unsigned bits;        /* RSA modulus, EC field, 256/456/253/448 for Ed25519/Ed448/X25519/X448 */
};

/** What to create. Strings and bytes are borrowed for the call. */
struct hsm_object_spec {
    enum hsm_class cls;       /* KEY, CERT, DATA or COUNTER */
    struct hsm_key_kind kind; /* keys: what to generate; ignored for import, it is in the data */
    const char *label;        /* UTF-8, 1..HSM_LABEL_MAX bytes; unique per class on a token */
    struct hsm_bytes id; /* empty: keys and certificates get the RFC 7093 identifier of their public key */
    unsigned usage;      /* HSM_USAGE_* bits; 0: all that the type can do */
    bool extractable;    /* the private part may leave by hsm_export(); false unless the user asked */
    bool so_destroys;    /* keys: only the SO can destroy it; HSM_ERR_UNSUPPORTED if the token cannot promise
                            that */
};

/** What a token tells about one object; readable without the PIN. A plain value, nothing to free. */
struct hsm_object {
    hsm_handle handle;
    enum hsm_class cls;
    struct hsm_key_kind kind;
    char label[HSM_LABEL_MAX + 1];
    uint8_t id[HSM_ID_MAX];
    size_t id_len;
    unsigned usage;
    bool extractable;
    enum hsm_origin origin;
    int64_t created_s;          /* seconds since the epoch, UTC */
    size_t value_len;           /* CERT, DATA: length in bytes */
    uint8_t spki[HSM_SPKI_MAX]; /* KEY: DER SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7 */
    size_t spki_len;
};

enum hsm_hash {
    HSM_HASH_NONE = 0,
    HSM_HASH_MD5_SHA1,
    HSM_HASH_MD5,
    HSM_HASH_RIPEMD160,
    HSM_HASH_SHA1,
    HSM_HASH_SHA224,
    HSM_HASH_SHA256,
    HSM_HASH_SHA384,
    HSM_HASH_SHA512,
    HSM_HASH_SHA512_224,
    HSM_HASH_SHA512_256,
    HSM_HASH_SHA3_224,
    HSM_HASH_SHA3_256,
    HSM_HASH_SHA3_384,
    HSM_HASH_SHA3_512,
    HSM_HASH_COUNT
};

enum hsm_mech_type {
    HSM_MECH_NONE = 0,
    HSM_MECH_ECDSA,     /* in: a digest, cut to the order by the token; out: DER ECDSA-Sig-Value */
    HSM_MECH_RSA_PKCS1, /* in: a digest of `hash` (DigestInfo is added), or with HSM_HASH_NONE any bytes <=
                           n-11 */
    HSM_MECH_RSA_PSS,   /* in: a digest of `hash`; mgf1_hash and salt_len in bytes */
    HSM_MECH_RSA_RAW,   /* in: exactly one modulus length; no padding (RFC 8017 RSASP1) */
    HSM_MECH_EDDSA,     /* in: the message itself (pure Ed25519, Ed448; RFC 8032) */
    /* hsm_derive(); in: the peer's public key, an uncompressed EC point or the octets of RFC 7748; out: the
       shared secret, the X coordinate in the length of the field or the octets of RFC 7748 */
    HSM_MECH_ECDH,
    /* hsm_decrypt(); in: exactly one modulus length; out: the message */
    HSM_MECH_RSA_DECRYPT_PKCS1,
    HSM_MECH_RSA_DECRYPT_OAEP, /* hash, mgf1_hash (HSM_HASH_NONE: as hash) and label */
    HSM_MECH_RSA_DECRYPT_RAW,  /* no padding (RFC 8017 RSADP): out has one modulus length, too */
    HSM_MECH_COUNT
};

struct hsm_mech {
    enum hsm_mech_type type;
    enum hsm_hash hash;      /* what made the digest; OAEP: of the label */
    enum hsm_hash mgf1_hash; /* PSS, OAEP */
    unsigned salt_len;       /* PSS, bytes */
    struct hsm_bytes label;  /* OAEP; borrowed for the call */
};

enum hsm_role { HSM_ROLE_USER, HSM_ROLE_SO };

struct hsm_token_info {
    char driver[16];
    char label[HSM_LABEL_MAX + 1];
    char serial[65];
    char location[512]; /* where it is: path, bus, socket */
    unsigned format_version;
    bool logged_in;
    bool writable;    /* by this process */
    bool machine_pin; /* the user PIN was made by --generate-pin and is not stretched */
    unsigned pin_tries_left, so_tries_left, pin_tries_max;
    bool pin_locked, so_locked;
    bool no_pin;       /* keys need no login */
    bool initialised;  /* `token init` was done; if not, only factory objects can be used */
    char model[64];    /* "SE050 applet 3.1.1" */
    char channel[32];  /* "plain", "scp03", "scp03 (public keys)", "" if there is no wire */
    size_t free_bytes; /* persistent memory left, 0: unknown */
};

/** Proof by the token's maker that a key was generated inside; see hsm_attest(). All bytes as the token gave
 * them. */
struct hsm_attestation {
    char format[24];       /* "nxp-se05x-3" or "nxp-se05x-7": what `message` looks like */
    uint8_t message[3072]; /* the signed bytes: ECDSA with SHA-256 over them */
    size_t message_len;
    uint8_t signature[144]; /* DER ECDSA-Sig-Value */
    size_t signature_len;
    uint8_t certificate[2048]; /* DER, of the attestation key, if the token holds it */
    size_t certificate_len;
    uint8_t attester[133]; /* attestation public key, uncompressed point */
    size_t attester_len;
    uint8_t chip_id[32];
    size_t chip_id_len;
    enum hsm_origin origin; /* of the attested key, as signed */
};

/** Called once per line of text, without newline. */
typedef void hsm_line_fn(void *arg, const char *line);

#endif
