/* SPDX-License-Identifier: Apache-2.0 */
/**
 * One function per command of the IoT applet: parameters to TLVs, answer TLVs to values, nothing more.
 *
 * Each returns HSM_OK whenever the chip answered; @p sw then is its status word and outputs are set only if
 * that is SE05X_SW_OK. Failures are se05x_exchange()'s. Source: NXP AN12413 (applet 3.x) and AN12543 (7.x):
 * instruction, P1, P2, tags.
 */
#ifndef SE05X_COMMAND_H
#define SE05X_COMMAND_H

#include "internal.h"

/** Tags of commands and answers: NXP AN12413, TLV tables */
enum {
    TAG_POLICY = 0x11,
    TAG_MAX_ATTEMPTS = 0x12,
    TAG_1 = 0x41,
    TAG_2,
    TAG_3,
    TAG_4,
    TAG_5,
    TAG_6,
    TAG_7,
    TAG_8,
    TAG_9,
    TAG_10,
    TAG_TIME = 0x4f,     /* 7.x */
    TAG_SIGNATURE = 0x52 /* 7.x */
};

enum {
    SE05X_SW_OK = 0x9000,
    SE05X_SW_LENGTH = 0x6700,
    SE05X_SW_SECURITY = 0x6982,
    SE05X_SW_POLICY_TYPE = 0x6984, /* a policy bit that does not fit the type of object */
    SE05X_SW_CONDITIONS = 0x6985,  /* no such object, among much else */
    SE05X_SW_NOT_ALLOWED = 0x6986, /* by the object's policy */
    SE05X_SW_DATA = 0x6a80,
    SE05X_SW_MEMORY = 0x6a84,
    SE05X_SW_P1P2 = 0x6a86,
    SE05X_SW_INS = 0x6d00,
    SE05X_SW_THROTTLED = 0x66a6
};

/** The line and the code for a status word that nobody expected. @p what: "the signature" ... */
hsm_status se05x_refused(const struct se05x_token *t, uint16_t sw, const char *what);

/* ---- policies --------------------------------------------------------------------------------------------
 */

enum {
    SE05X_MAY_SIGN = 0x10000000,
    SE05X_MAY_VERIFY = 0x08000000,
    SE05X_MAY_AGREE = 0x04000000,
    SE05X_MAY_ENCRYPT = 0x02000000,
    SE05X_MAY_DECRYPT = 0x01000000,
    SE05X_MAY_DERIVE = 0x00800000,
    SE05X_MAY_WRAP = 0x00400000,
    SE05X_MAY_READ = 0x00200000,
    SE05X_MAY_WRITE = 0x00100000,
    SE05X_MAY_GENERATE = 0x00080000,
    SE05X_MAY_DELETE = 0x00040000
};

enum { SE05X_RULES_MAX = 3, SE05X_RULE_LEN = 9 };

/** Rules in the order they were added; auth id 0 is everybody. */
struct se05x_policy {
    uint8_t bytes[SE05X_RULES_MAX * SE05X_RULE_LEN];
    size_t len;
};
/** Nothing is added if @p rights is 0. */
void se05x_policy_add(struct se05x_policy *p, uint32_t auth_id, uint32_t rights);

/* ---- types of objects ------------------------------------------------------------------------------------
 */

enum se05x_type {
    SE05X_TYPE_EC_PAIR = 0x01, /* of applet 3.x; 7.x has one triple of codes per curve */
    SE05X_TYPE_EC_PRIVATE = 0x02,
    SE05X_TYPE_EC_PUBLIC = 0x03,
    SE05X_TYPE_RSA_PAIR = 0x04,
    SE05X_TYPE_RSA_PAIR_CRT = 0x05,
    SE05X_TYPE_RSA_PRIVATE = 0x06,
    SE05X_TYPE_RSA_PRIVATE_CRT = 0x07,
    SE05X_TYPE_RSA_PUBLIC = 0x08,
    SE05X_TYPE_AES = 0x09,
    SE05X_TYPE_DES = 0x0a,
    SE05X_TYPE_BINARY = 0x0b,
    SE05X_TYPE_USERID = 0x0c,
    SE05X_TYPE_COUNTER = 0x0d,
    SE05X_TYPE_PCR = 0x0f,
    SE05X_TYPE_CURVE = 0x10,
    SE05X_TYPE_HMAC = 0x11,
    SE05X_TYPE_ALL = 0xff /* filter only */
};

enum se05x_part {
    SE05X_PART_NONE = 0x00,
    SE05X_PART_PUBLIC = 0x20,
    SE05X_PART_PRIVATE = 0x40,
    SE05X_PART_PAIR = 0x60
};

enum se05x_curve_id {
    SE05X_CURVE_P256 = 0x03,
    SE05X_CURVE_P384 = 0x04,
    SE05X_CURVE_P521 = 0x05,
    SE05X_CURVE_BP256R1 = 0x09,
    SE05X_CURVE_BP384R1 = 0x0b,
    SE05X_CURVE_SECP256K1 = 0x10,
    SE05X_CURVE_WEIERSTRASS_LAST = 0x11,
    SE05X_CURVE_ED25519 = 0x40,
    SE05X_CURVE_X25519 = 0x41,
    SE05X_CURVE_X448 = 0x43
};
/** What a chip calls the curve of a key type; 0: it has none. */
uint8_t se05x_curve_of(const struct hsm_key_kind *kind);
/** The inverse: HSM_KEY_NONE for what hsm does not handle. */
struct hsm_key_kind se05x_kind_of_curve(uint8_t curve);
/** "EC key pair P-256", "binary file" ...; static. */
const char *se05x_type_name(uint8_t type);
/** A 7.x type code of an elliptic-curve key taken apart; false for all other codes. */
bool se05x_type_is_ec(uint8_t type, uint8_t *curve, enum se05x_part *part);
enum se05x_time se05x_time_of(const struct hsm_key_kind *kind);

/* ---- objects ---------------------------------------------------------------------------------------------
 */

/** Everything that is common to commands which write an object. */
struct se05x_write {
    enum se05x_auth auth;
    uint32_t id;
    const struct se05x_policy *policy; /* at creation only; NULL: none */
    uint16_t max_attempts;             /* authentication objects, at creation only; 0: unlimited */
    bool is_auth;                      /* an authentication object */
    bool repeatable;                   /* executing it twice does no harm */
};

/** EC, Edwards, Montgomery: @p curve 0 on an update; @p priv and @p pub empty with PART_PAIR: the chip
 * generates. */
HSM_MUST_USE hsm_status se05x_write_ec(struct se05x_token *t, const struct se05x_write *w,
                                       enum se05x_part part, uint8_t curve, struct hsm_bytes priv,
                                       struct hsm_bytes pub, uint16_t *sw);
enum se05x_rsa_tag {
    SE05X_RSA_TAG_NONE = 0,
    SE05X_RSA_TAG_P = 0x43,
    SE05X_RSA_TAG_Q = 0x44,
    SE05X_RSA_TAG_DP = 0x45,
    SE05X_RSA_TAG_DQ = 0x46,
    SE05X_RSA_TAG_QINV = 0x47,
    SE05X_RSA_TAG_E = 0x48,
    SE05X_RSA_TAG_D = 0x49,
    SE05X_RSA_TAG_N = 0x4a
};
/** One component, or none: the chip generates. @p bits 0 behind the first component. */
HSM_MUST_USE hsm_status se05x_write_rsa(struct se05x_token *t, const struct se05x_write *w,
                                        enum se05x_part part, bool crt, uint16_t bits, enum se05x_rsa_tag tag,
                                        struct hsm_bytes value, uint16_t *sw);
/** @p type: SE05X_TYPE_AES, _DES or _HMAC. */
HSM_MUST_USE hsm_status se05x_write_symmetric(struct se05x_token *t, const struct se05x_write *w,
                                              enum se05x_type type, struct hsm_bytes key, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_write_userid(struct se05x_token *t, const struct se05x_write *w,
                                           struct hsm_bytes value, uint16_t *sw);
/** @p file_len 0: the file exists. */
HSM_MUST_USE hsm_status se05x_write_binary(struct se05x_token *t, const struct se05x_write *w,
                                           uint16_t offset, uint16_t file_len, struct hsm_bytes data,
                                           uint16_t *sw);
/** Creates with @p size bytes and @p value; size 0: adds one to an existing counter. */
HSM_MUST_USE hsm_status se05x_write_counter(struct se05x_token *t, const struct se05x_write *w, uint16_t size,
                                            uint64_t value, uint16_t *sw);

/** Public key, file or counter. @p len 0: all of it from @p offset on. @p expect_len: bytes if known, 0 if
 * not. */
HSM_MUST_USE hsm_status se05x_read_object(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                          uint16_t offset, uint16_t len, size_t expect_len,
                                          struct hsm_buf *out, uint16_t *sw);
enum se05x_rsa_component { SE05X_RSA_MODULUS = 0, SE05X_RSA_EXPONENT = 1 };
HSM_MUST_USE hsm_status se05x_read_rsa(struct se05x_token *t, uint32_t id, enum se05x_rsa_component component,
                                       struct hsm_buf *out, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_read_type(struct se05x_token *t, uint32_t id, uint8_t *type, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_read_size(struct se05x_token *t, uint32_t id, size_t *size, uint16_t *sw);
/** One page of ids of objects from number @p offset on. @p more: out, ask again with offset + count. */
HSM_MUST_USE hsm_status se05x_read_ids(struct se05x_token *t, uint16_t offset, uint8_t type, uint32_t *ids,
                                       size_t max, size_t *count, bool *more, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_read_exists(struct se05x_token *t, uint32_t id, bool *exists, uint16_t *sw);
struct se05x_attributes {
    uint8_t type;
    uint16_t attempts, max_attempts; /* authentication objects */
    uint32_t owner;
    uint8_t origin; /* 1 external, 2 internal, 3 provisioned */
};
/** 7.x only. */
HSM_MUST_USE hsm_status se05x_read_attributes(struct se05x_token *t, uint32_t id, struct se05x_attributes *a,
                                              uint16_t *sw);
/** @return false: too short to be one */
bool se05x_attributes_parse(struct hsm_bytes in, bool v7, struct se05x_attributes *a);
HSM_MUST_USE hsm_status se05x_delete(struct se05x_token *t, enum se05x_auth auth, uint32_t id, uint16_t *sw);

/** The answer to an attested read, TLVs as they came. @p command: out, what the chip hashes on 7.x. */
HSM_MUST_USE hsm_status se05x_read_attested(struct se05x_token *t, uint32_t id, bool rsa_modulus,
                                            uint32_t attester, const uint8_t challenge[16],
                                            struct hsm_buf *command, struct hsm_buf *answer, uint16_t *sw);

/* ---- curves ----------------------------------------------------------------------------------------------
 */

enum { SE05X_CURVE_LIST_LEN = 17 };
enum se05x_curve_param {
    SE05X_CURVE_A = 0x01,
    SE05X_CURVE_B = 0x02,
    SE05X_CURVE_G = 0x04,
    SE05X_CURVE_N = 0x08,
    SE05X_CURVE_P = 0x10
};
/** set[i]: is curve i + 1 there? */
HSM_MUST_USE hsm_status se05x_curve_list(struct se05x_token *t, bool set[SE05X_CURVE_LIST_LEN], uint16_t *sw);
/** Never on a curve that is there: applet 3.1.1 would wipe its parameters. */
HSM_MUST_USE hsm_status se05x_curve_create(struct se05x_token *t, uint8_t curve, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_curve_set_param(struct se05x_token *t, uint8_t curve,
                                              enum se05x_curve_param param, struct hsm_bytes value,
                                              uint16_t *sw);
HSM_MUST_USE hsm_status se05x_curve_delete(struct se05x_token *t, uint8_t curve, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_curve_of_object(struct se05x_token *t, uint32_t id, uint8_t *curve,
                                              uint16_t *sw);

/* ---- using keys ------------------------------------------------------------------------------------------
 */

enum se05x_ecdsa {
    SE05X_ECDSA_SHA1 = 0x11,
    SE05X_ECDSA_SHA224 = 0x25,
    SE05X_ECDSA_SHA256 = 0x21,
    SE05X_ECDSA_SHA384 = 0x22,
    SE05X_ECDSA_SHA512 = 0x26,
    SE05X_EDDSA = 0xa3
};
/** A digest of exactly the algorithm's length, or with SE05X_EDDSA a message. @p sig_len: bytes of the
 * signature, about; 0: unknown. */
HSM_MUST_USE hsm_status se05x_ec_sign(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                      enum se05x_time time, uint8_t algorithm, struct hsm_bytes in,
                                      size_t sig_len, struct hsm_buf *sig, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_ec_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                        enum se05x_time time, uint8_t algorithm, struct hsm_bytes in,
                                        struct hsm_bytes sig, bool *ok, uint16_t *sw);
/** RSASign: the chip hashes. @p salt_len: PSS on 7.x, if not the digest's length; 0: not sent. */
HSM_MUST_USE hsm_status se05x_rsa_sign(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                       enum se05x_time time, uint8_t algorithm, size_t salt_len,
                                       struct hsm_bytes message, size_t sig_len, struct hsm_buf *sig,
                                       uint16_t *sw);
HSM_MUST_USE hsm_status se05x_rsa_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                         uint8_t algorithm, struct hsm_bytes message, struct hsm_bytes sig,
                                         bool *ok, uint16_t *sw);
enum se05x_rsa_padding { SE05X_RSA_RAW = 0x0c, SE05X_RSA_PKCS1 = 0x0a, SE05X_RSA_OAEP_SHA1 = 0x0f };
HSM_MUST_USE hsm_status se05x_rsa_decrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                          enum se05x_time time, enum se05x_rsa_padding padding,
                                          struct hsm_bytes in, struct hsm_buf *out, uint16_t *sw);
HSM_MUST_USE hsm_status se05x_rsa_encrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                          enum se05x_rsa_padding padding, struct hsm_bytes in,
                                          struct hsm_buf *out, uint16_t *sw);
/** The shared secret as the chip gives it: X coordinate, or a Montgomery secret byte-reversed. */
HSM_MUST_USE hsm_status se05x_ecdh(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                   enum se05x_time time, struct hsm_bytes peer, size_t secret_len,
                                   struct hsm_buf *secret, uint16_t *sw);
/** 7.x: into HMAC object @p target, which must have exactly the secret's length. @p reversed: Montgomery, RFC
 * order */
HSM_MUST_USE hsm_status se05x_ecdh_to_object(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                             enum se05x_time time, struct hsm_bytes peer, uint32_t target,
                                             bool reversed, uint16_t *sw);

enum se05x_cipher { SE05X_AES_ECB = 0x0e, SE05X_AES_CBC = 0x0d, SE05X_AES_CTR = 0xf0 };
/** @p iv: 16 bytes, empty with ECB. @p in: multiple of 16 bytes. */
HSM_MUST_USE hsm_status se05x_cipher(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                     enum se05x_cipher mode, bool encrypt, struct hsm_bytes iv,
                                     struct hsm_bytes in, struct hsm_buf *out, uint16_t *sw);
enum se05x_aead { SE05X_AES_GCM = 0xb0, SE05X_AES_CCM = 0xf4 };
HSM_MUST_USE hsm_status se05x_aead_encrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                           enum se05x_aead mode, struct hsm_bytes iv, struct hsm_bytes aad,
                                           struct hsm_bytes in, struct hsm_buf *out, uint8_t tag[16],
                                           uint16_t *sw);
/** @p ok: out, does the tag fit; @p out is filled only then. */
HSM_MUST_USE hsm_status se05x_aead_decrypt(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                           enum se05x_aead mode, struct hsm_bytes iv, struct hsm_bytes aad,
                                           struct hsm_bytes in, struct hsm_bytes tag, struct hsm_buf *out,
                                           bool *ok, uint16_t *sw);
enum se05x_mac {
    SE05X_HMAC_SHA1 = 0x18,
    SE05X_HMAC_SHA256 = 0x19,
    SE05X_HMAC_SHA384 = 0x1a,
    SE05X_HMAC_SHA512 = 0x1b,
    SE05X_CMAC = 0x31
};
HSM_MUST_USE hsm_status se05x_mac(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                  enum se05x_mac algorithm, struct hsm_bytes in, struct hsm_buf *mac,
                                  uint16_t *sw);
HSM_MUST_USE hsm_status se05x_mac_verify(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                         enum se05x_mac algorithm, struct hsm_bytes in, struct hsm_bytes mac,
                                         bool *ok, uint16_t *sw);
enum se05x_digest { SE05X_SHA1 = 0x01, SE05X_SHA256 = 0x04, SE05X_SHA384 = 0x05, SE05X_SHA512 = 0x06 };
/** RFC 5869 with HMAC key @p id as input keying material; out->cap bytes come. */
HSM_MUST_USE hsm_status se05x_hkdf(struct se05x_token *t, enum se05x_auth auth, uint32_t id,
                                   enum se05x_digest digest, struct hsm_bytes salt, struct hsm_bytes info,
                                   struct hsm_buf *out, uint16_t *sw);

/* ---- the chip --------------------------------------------------------------------------------------------
 */

enum { SE05X_RANDOM_MAX = 800 /* every applet gives that many bytes at once, also inside two channels */ };
HSM_MUST_USE hsm_status se05x_get_random(struct se05x_token *t, struct hsm_buf *out, uint16_t *sw);
enum se05x_memory {
    SE05X_MEMORY_PERSISTENT = 1,
    SE05X_MEMORY_TRANSIENT_RESET = 2,
    SE05X_MEMORY_TRANSIENT_DESELECT = 3
};
HSM_MUST_USE hsm_status se05x_free_memory(struct se05x_token *t, enum se05x_memory kind, uint32_t *bytes,
                                          uint16_t *sw);
/** Applet version 3, AppletConfig 2, secure box 2. */
HSM_MUST_USE hsm_status se05x_get_version(struct se05x_token *t, uint8_t version[7], uint16_t *sw);

#endif
