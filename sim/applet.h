/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the applet half of se05x-sim: objects, curves, policies, memory, the NVM file, and one handler
 * per command.
 *
 * A handler works on a draft of the object and hands it to store_commit(), so that a refused command leaves
 * no trace. The simulator is a tool: running out of host memory ends it.
 */
#ifndef SIM_APPLET_H
#define SIM_APPLET_H

#include "sim.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

enum {
    SW_OK = 0x9000,
    SW_FAILURE = 0x6581, /* the NVM file cannot be written */
    SW_LENGTH = 0x6700,
    SW_SECURITY = 0x6982,
    SW_POLICY_TYPE = 0x6984,
    SW_CONDITIONS = 0x6985,
    SW_DENIED = 0x6986,
    SW_DATA = 0x6A80,
    SW_MEMORY = 0x6A84,
    SW_P1P2 = 0x6A86,
    SW_INS = 0x6D00,
    SW_CLA = 0x6E00,
};

/* INS and its flags, P1 credential types and key parts */
enum {
    INS_WRITE = 0x01,
    INS_READ = 0x02,
    INS_CRYPTO = 0x03,
    INS_MGMT = 0x04,
    INS_FLAG_TRANSIENT = 0x80,
    INS_FLAG_AUTH = 0x40,
    INS_FLAG_ATTEST = 0x20,
    KIND_EC = 0x01,
    KIND_RSA = 0x02,
    KIND_AES = 0x03,
    KIND_DES = 0x04,
    KIND_HMAC = 0x05,
    KIND_BINARY = 0x06,
    KIND_USERID = 0x07,
    KIND_COUNTER = 0x08,
    KIND_PCR = 0x09,
    PART_PUBLIC = 0x20,
    PART_PRIVATE = 0x40,
    PART_PAIR = 0x60,
};

enum {
    TAG_POLICY = 0x11,
    TAG_MAX_ATTEMPTS = 0x12,
    TAG_POLICY_CHECK = 0x15,
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
    TAG_11,
    TAG_TIMESTAMP = 0x4F,
    TAG_SIGNATURE = 0x52,
    TAG_LIMIT = 0x60,
};

enum {
    ID_TRANSPORT = 0x7FFF0200,
    ID_ECKEY_SESSION = 0x7FFF0201,
    ID_ECKEY_IMPORT = 0x7FFF0202,
    ID_FEATURE = 0x7FFF0204,
    ID_FACTORY_RESET = 0x7FFF0205,
    ID_UNIQUE = 0x7FFF0206,
    ID_PLATFORM_SCP = 0x7FFF0207,
    ID_I2CM = 0x7FFF0208,
    ID_RESTRICT = 0x7FFF020A,
    UNIQUE_ID_LEN = 18,
    CURVE_MAX = 17,
    CURVE_PARAMS = 5,
    CURVE_ED25519 = 0x40,
    CURVE_X25519 = 0x41,
    CURVE_X448 = 0x43,
    COORD_MAX = 66,
    POINT_MAX = 2 * COORD_MAX + 1,
    SIGNATURE_MAX = 512, /* RSA-4096 */
    VERSION_LEN = 7,
    TIMESTAMP_LEN = 12,
    EXPORT_KEY_LEN = 32,
};

/* ---- bytes on the heap ------------------------------------------------------------------------------- */

struct buf {
    uint8_t *ptr;
    size_t len;
};

void *sim_alloc(size_t len);
void buf_set(struct buf *b, const void *ptr, size_t len);
void buf_append(struct buf *b, const void *ptr, size_t len);
void buf_zero(struct buf *b, size_t len);
void buf_clear(struct buf *b);
struct sim_bytes buf_view(const struct buf *b);
bool bytes_equal(struct sim_bytes a, struct sim_bytes b);
void reverse(uint8_t *out, struct sim_bytes in);
uint32_t get_be(struct sim_bytes in);
void put_be(uint8_t *out, uint64_t value, size_t len);

/* ---- tlv.c ------------------------------------------------------------------------------------------- */

struct tlvs {
    struct sim_bytes value[TAG_LIMIT];
    bool has[TAG_LIMIT];
};

/** Tags must ascend, as senders are told to. @return false: malformed */
bool tlv_parse(struct sim_bytes in, struct tlvs *t);
bool tlv_uint(const struct tlvs *t, uint8_t tag, size_t len, uint32_t *value);
/** Absent: @p fallback; present with another length: false. */
bool tlv_uint_or(const struct tlvs *t, uint8_t tag, size_t len, uint32_t fallback, uint32_t *value);

void put_bytes(struct sim_out *out, uint8_t tag, const void *ptr, size_t len); /* 82 hh ll */
void put_u8(struct sim_out *out, uint8_t tag, uint8_t value);                  /* short form, as all below */
void put_u16(struct sim_out *out, uint8_t tag, uint16_t value);

/* ---- objects ----------------------------------------------------------------------------------------- */

enum value_slot {
    V_DATA, /* private scalar, symmetric key, file, UserID, counter, PCR */
    V_PUBLIC,
    V_INITIAL, /* of a PCR */
    V_RSA_N,   /* from here in the order of the RSA component codes */
    V_RSA_E,
    V_RSA_D,
    V_RSA_P,
    V_RSA_Q,
    V_RSA_DP,
    V_RSA_DQ,
    V_RSA_QINV,
    V_COUNT,
};

enum origin { ORIGIN_EXTERNAL = 1, ORIGIN_INTERNAL = 2, ORIGIN_PROVISIONED = 3 };

struct object {
    uint32_t id;
    uint8_t kind, part, curve, origin;
    bool rsa_plain, is_auth, transient;
    uint16_t
        size; /* RSA: bits; else bytes of V_DATA, which a transient object keeps when its value is gone */
    uint16_t attempts, max_attempts;
    uint16_t min_tag, min_output;
    uint32_t owner, version;
    struct buf policy;
    struct buf value[V_COUNT];
};

struct crypto_object {
    uint16_t id;
    uint8_t context, subtype;
    uint32_t owner;
    /* running state: RAM */
    uint8_t purpose; /* P2 of Init, 0: not started */
    uint32_t key_id;
    EVP_MD_CTX *digest;
    EVP_MAC_CTX *mac;
    EVP_CIPHER_CTX *cipher;
    struct buf key, iv;    /* to start again after Final */
    struct buf aad, input; /* CCM works on the whole message */
    size_t total, aad_len, payload_len, tag_len;
    bool data_started;
};

struct curve {
    bool created;
    uint8_t set; /* bit i: param[i] */
    struct buf param[CURVE_PARAMS];
};

struct fact {
    char *name;
    struct buf value;
};

struct applet {
    struct sim_personality p; /* config: after SetAppletFeatures */
    OSSL_LIB_CTX *libctx;
    char *nvm_path;
    struct object **objects;
    size_t object_count;
    struct crypto_object **crypto;
    size_t crypto_count;
    struct curve curves[CURVE_MAX + 1]; /* by id */
    struct fact *facts;
    size_t fact_count;
    uint8_t export_key[EXPORT_KEY_LEN];
    bool locked_persistent;
    uint8_t restrict_persistent;
    uint32_t boots;
    bool dirty; /* persistent state differs from the file */
    /* RAM */
    bool unlocked_transient;
    uint8_t restrict_transient;
    bool boot_counted;
    uint64_t started_ms;
    uint8_t tls_random[32];
    bool has_tls_random;
    uint64_t time_us;
    uint32_t *times;
};

/* ---- store.c ----------------------------------------------------------------------------------------- */

struct object *object_new(uint32_t id, uint8_t kind);
struct object *object_copy(const struct object *o);
void object_free(struct object *o);
/** Every value the object needs is there. A transient object after a reset, or an RSA key half imported, is
 * not ready. */
bool object_ready(const struct object *o);
bool object_has_private(const struct object *o);
uint8_t object_type(const struct applet *a, const struct object *o);
struct object *store_find(const struct applet *a, uint32_t id);
/** Replace or add; the store owns @p draft from here, also after a refusal. */
uint16_t store_commit(struct applet *a, struct object *draft);
void store_remove(struct applet *a, struct object *o);
void store_forget_transient(struct applet *a);
struct crypto_object *crypto_find(const struct applet *a, uint16_t id);
void crypto_stop(struct crypto_object *c);
void crypto_remove(struct applet *a, struct crypto_object *c);
void crypto_add(struct applet *a, const struct crypto_object *c);

/* ---- memory.c ---------------------------------------------------------------------------------------- */

size_t object_persistent_cost(const struct object *o);
size_t object_transient_cost(const struct object *o);
enum { CRYPTO_PERSISTENT_COST = 32 };
size_t crypto_transient_cost(uint8_t context);
size_t curve_cost(const struct curve *c, uint8_t id);
size_t memory_persistent_free(const struct applet *a);
size_t memory_transient_reset_free(const struct applet *a);
size_t memory_transient_deselect_free(const struct applet *a);

/* ---- policy.c ---------------------------------------------------------------------------------------- */

enum {
    ALLOW_TLS_PMS = 0x40000000,
    FORBID_ALL = 0x20000000,
    ALLOW_SIGN = 0x10000000,
    ALLOW_VERIFY = 0x08000000,
    ALLOW_KA = 0x04000000,
    ALLOW_ENC = 0x02000000,
    ALLOW_DEC = 0x01000000,
    ALLOW_KDF = 0x00800000,
    ALLOW_WRAP = 0x00400000,
    ALLOW_READ = 0x00200000,
    ALLOW_WRITE = 0x00100000,
    ALLOW_GEN = 0x00080000,
    ALLOW_DELETE = 0x00040000,
    REQUIRE_SM = 0x00020000,
    REQUIRE_PCR_VALUE = 0x00010000,
    ALLOW_ATTESTATION = 0x00008000,
    ALLOW_DESFIRE_AUTHENTICATION = 0x00004000,
    ALLOW_DESFIRE_DUMP = 0x00002000,
    ALLOW_IMPORT_EXPORT = 0x00001000,
    FORBID_DERIVED_OUTPUT = 0x00000800,
    ALLOW_KDF_EXT_RANDOM = 0x00000400,
    ALLOW_DESFIRE_CHANGEKEY = 0x00000200,
    ALLOW_DERIVED_INPUT = 0x00000100,
    ALLOW_PBKDF = 0x00000080,
    ALLOW_DESFIRE_KDF = 0x00000040,
    FORBID_EXTERNAL_IV = 0x00000020,
    ALLOW_PEPPER = 0x00000010,
};
#define ALLOW_TLS_KDF 0x80000000U

/** @return SW_OK, SW_DATA (malformed) or SW_POLICY_TYPE (a right that does not fit the type) */
uint16_t policy_check(const struct applet *a, uint8_t kind, struct sim_bytes policy);
void policy_default(const struct applet *a, const struct object *o, struct buf *policy);
/** @p o may be used by the caller with all the rights of @p right. */
bool policy_allows(const struct applet *a, const struct object *o, const struct sim_caller *who,
                   uint32_t right);
/** A rule that applies to the caller has one of these restrictions. */
bool policy_restricts(const struct applet *a, const struct object *o, const struct sim_caller *who,
                      uint32_t bit);
/** May @p target take a value derived from @p master? */
bool policy_takes_derived(const struct applet *a, const struct object *target, const struct sim_caller *who,
                          uint32_t master);

/* ---- nvm.c, provision.c ------------------------------------------------------------------------------ */

/** @return false with a line on stderr; *exists tells whether there was a file */
bool nvm_load(struct applet *a, bool *exists);
bool nvm_save(struct applet *a);
bool fact_set(struct applet *a, const char *name, const void *value, size_t len);
bool provision(struct applet *a);
/** The part is run in FIPS mode. */
bool is_fips(const struct applet *a);

/* ---- times.c ----------------------------------------------------------------------------------------- */

enum { EC_CLASSES = 4, RSA_CLASSES = 4 };
enum time_key {
    TIME_COMMAND,
    TIME_NVM_WRITE,
    TIME_RANDOM,
    TIME_SYMMETRIC,
    TIME_SYMMETRIC_BLOCK,
    TIME_DIGEST,
    TIME_DIGEST_BLOCK,
    TIME_KDF,
    TIME_PBKDF_ITERATION,
    TIME_EC_GENERATE,
    TIME_ECDSA_SIGN = TIME_EC_GENERATE + EC_CLASSES,
    TIME_ECDSA_VERIFY = TIME_ECDSA_SIGN + EC_CLASSES,
    TIME_ECDH = TIME_ECDSA_VERIFY + EC_CLASSES,
    TIME_ED25519_GENERATE = TIME_ECDH + EC_CLASSES,
    TIME_ED25519_SIGN,
    TIME_ED25519_VERIFY,
    TIME_X25519_GENERATE,
    TIME_X25519,
    TIME_X448_GENERATE,
    TIME_X448,
    TIME_RSA_GENERATE,
    TIME_RSA_PRIVATE = TIME_RSA_GENERATE + RSA_CLASSES,
    TIME_RSA_PUBLIC = TIME_RSA_PRIVATE + RSA_CLASSES,
    TIME_COUNT = TIME_RSA_PUBLIC + RSA_CLASSES,
};

void times_init(struct applet *a);
void spend(struct applet *a, enum time_key key);
void spend_times(struct applet *a, enum time_key key, uint64_t count);
void spend_rsa(struct applet *a, enum time_key first, const struct object *o);

/* ---- curves.c ---------------------------------------------------------------------------------------- */

struct curve_info {
    uint8_t id;
    const char *group; /* OpenSSL's name */
    uint8_t field_len, order_len, type, time_class;
};

const struct curve_info *curve_info(uint8_t id);
bool is_weierstrass(uint8_t id);
/** Can keys on this curve be made or used now? */
bool curve_usable(const struct applet *a, uint8_t id);
size_t curve_public_len(const struct curve_info *c);
/** Length of a parameter; @p index as in struct curve: a, b, G, n, p */
size_t curve_param_len(const struct curve_info *c, size_t index);
/** Fill @p params with the curve's standard values. */
bool curve_standard(struct applet *a, const struct curve_info *c, struct buf params[CURVE_PARAMS]);

/* ---- pkey.c: objects to libcrypto keys and back ------------------------------------------------------ */

EVP_PKEY *pkey_ec(struct applet *a, uint8_t curve, struct sim_bytes priv, struct sim_bytes pub);
EVP_PKEY *pkey_object(struct applet *a, const struct object *o, bool need_private);
bool pkey_generate_ec(struct applet *a, struct object *o);
bool pkey_generate_rsa(struct applet *a, struct object *o);
/** Shared secret in RFC or ANSI byte order, before the chip's own reversal. */
bool pkey_agree(struct applet *a, const struct object *o, struct sim_bytes peer, uint8_t *secret,
                size_t *len);
/** By the codes of 4.3, over a digest (ECDSA) or message (RSA, EdDSA). *len: room, then length. */
uint16_t pkey_sign(struct applet *a, const struct object *o, uint8_t algo, struct sim_bytes in, int salt_len,
                   uint8_t *sig, size_t *len);
uint16_t pkey_verify(struct applet *a, const struct object *o, uint8_t algo, struct sim_bytes in,
                     int salt_len, struct sim_bytes sig, bool *good);
uint16_t pkey_rsa_crypt(struct applet *a, const struct object *o, uint8_t algo, bool encrypt,
                        struct sim_bytes in, uint8_t *out, size_t *len);
/** Digest length of an ECDSA code; 0: unknown. */
size_t ecdsa_digest_len(uint8_t algo);
const char *ecdsa_digest_name(uint8_t algo);

/* ---- symmetric.c ------------------------------------------------------------------------------------- */

enum {
    CIPHER_CTR = 0xF0,
    AEAD_GCM = 0xB0,
    AEAD_CCM = 0xF4,
    AEAD_GCM_CHIP_IV = 0xF3,
    AEAD_CCM_CHIP_IV = 0xF5
};
struct cipher_mode {
    uint8_t code, kind;
    const char *name; /* "ECB", "CBC", "CTR" */
    enum { PAD_NONE, PAD_ZERO, PAD_BIT } padding;
};

const struct cipher_mode *cipher_mode(uint8_t code);
size_t cipher_block_len(const struct cipher_mode *m);
EVP_CIPHER_CTX *cipher_start(struct applet *a, const struct cipher_mode *m, struct sim_bytes key,
                             struct sim_bytes iv, bool encrypt);
/** What has to be added to a message of @p len bytes; 0 also for a message that cannot be padded. */
size_t cipher_padding(const struct cipher_mode *m, size_t len, uint8_t pad[16]);
/** Length without the padding of a decrypted end. */
size_t cipher_unpad(const struct cipher_mode *m, const uint8_t *data, size_t len);
const char *digest_name(uint8_t mode);
EVP_MAC_CTX *mac_start(struct applet *a, uint8_t algo, const struct object *key);
size_t mac_len(uint8_t algo);
bool random_bytes(struct applet *a, void *out, size_t len);
bool sha256(struct applet *a, struct sim_bytes in, uint8_t digest[32]);

/* ---- applet.c ---------------------------------------------------------------------------------------- */

struct command {
    const struct sim_caller *who;
    const struct sim_apdu *apdu;
    struct tlvs tlv;
    struct sim_out *out;
    bool transient, auth, attest;
};

typedef uint16_t handler(struct applet *a, struct command *c);

/** The object named by a 4-byte id in @p tag. */
struct object *command_object(const struct applet *a, const struct command *c, uint8_t tag);
/** The same, of one kind, complete, not an authentication object, and allowed: or a status word. */
uint16_t command_key(const struct applet *a, const struct command *c, uint8_t tag, uint8_t kind,
                     uint32_t right, struct object **o);
/** Data the chip's answer buffer can hold. */
size_t answer_max(const struct applet *a);
/** Put a derived secret into the HMAC (or AES) object of @p tag. */
uint16_t store_derived(struct applet *a, const struct command *c, uint8_t tag, const struct object *master,
                       struct sim_bytes secret);
uint64_t now_ms(void);

handler ins_write_ec, ins_write_rsa, ins_write_symm, ins_write_binary, ins_write_userid, ins_write_counter,
    ins_write_pcr, ins_import_object, ins_export_object;
handler ins_read_object, ins_read_type, ins_read_size, ins_read_id_list, ins_exists, ins_attributes,
    ins_delete;
handler ins_version, ins_version_ext, ins_timestamp, ins_free_memory, ins_random, ins_delete_all,
    ins_lock_state, ins_features, ins_restrict, ins_self_test, ins_read_state;
handler ins_curve_create, ins_curve_param, ins_curve_list, ins_curve_of, ins_curve_delete;
handler ins_sign, ins_verify, ins_ecdh, ins_ecdh_reverse, ins_ecpm, ins_rsa_encrypt, ins_rsa_decrypt;
handler ins_crypto_create, ins_crypto_list, ins_crypto_delete, ins_cipher_init, ins_cipher_update,
    ins_cipher_final, ins_cipher_oneshot, ins_digest_init, ins_digest_update, ins_digest_final,
    ins_digest_oneshot, ins_mac_init, ins_mac_update, ins_mac_final, ins_mac_oneshot;
handler ins_aead_oneshot, ins_aead_init, ins_aead_update, ins_aead_final;
handler ins_hkdf, ins_pbkdf2, ins_tls_random, ins_tls_pms, ins_tls_prf;

/**
 * A draft of the object of T1, new or of the one that is there (then *is_new is false and TAG_POLICY
 * ignored).
 * @param right  what an update needs
 */
uint16_t write_begin(const struct applet *a, const struct command *c, uint8_t kind, uint32_t right,
                     struct object **draft, bool *is_new);
/** Commit the draft, or drop it and pass a refusal on. */
uint16_t write_finish(struct applet *a, struct object *draft, uint16_t sw);
/** Crypto object of T2 that the caller made, with this context; or NULL. */
struct crypto_object *command_crypto(const struct applet *a, const struct command *c, uint8_t tag,
                                     uint8_t context);
/** Attested answers: add the tail (unique id, attributes, size, time, signature) to what @p c already
 * answered. */
uint16_t attest(struct applet *a, struct command *c, const struct object *o);
size_t object_attributes(const struct applet *a, const struct object *o, uint8_t *out, size_t cap);
uint16_t object_reported_size(const struct object *o);
void timestamp(struct applet *a, uint8_t out[TIMESTAMP_LEN]);

#endif
