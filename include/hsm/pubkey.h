/* SPDX-License-Identifier: Apache-2.0 */
/** Public keys as bytes: a SubjectPublicKeyInfo to its parts and back, and the names of key types. Pure. */
#ifndef HSM_PUBKEY_H
#define HSM_PUBKEY_H

#include "hsm/error.h"
#include "hsm/types.h"

/** The parts of a SubjectPublicKeyInfo, borrowed from the DER that was parsed. */
struct hsm_pubkey {
    struct hsm_key_kind kind;
    struct hsm_bytes point;      /* EC: the ECPoint octets (02/03/04 ...); Ed/X: the raw public key */
    struct hsm_bytes n, e;       /* RSA: big-endian, no leading zero */
    struct hsm_bytes pss_params; /* RSA_PSS: DER RSASSA-PSS-params; empty = unrestricted */
};

/**
 * Parse DER strictly: one SubjectPublicKeyInfo and nothing behind it, of a supported type and size.
 * @return HSM_ERR_DATA malformed; HSM_ERR_KEY_TYPE a type, curve or RSA size hsm does not handle
 * Source: RFC 5280 4.1.2.7, RFC 3279 2.3.1, RFC 4055, RFC 5480, RFC 8410
 */
HSM_MUST_USE hsm_status hsm_pubkey_parse(struct hsm_bytes spki, struct hsm_pubkey *pub);

/** The inverse: DER SubjectPublicKeyInfo into @p out. HSM_ERR_BUFFER if it does not fit. */
HSM_MUST_USE hsm_status hsm_pubkey_encode(const struct hsm_pubkey *pub, struct hsm_buf *out);

/** Same public key? EC points compare equal across compressed and uncompressed form. */
bool hsm_pubkey_equal(const struct hsm_pubkey *a, const struct hsm_pubkey *b);

/** "rsa:2048", "ec:P-256", "ed25519", "rsa-pss:3072" ... to a kind. HSM_ERR_KEY_TYPE lists what is allowed;
 *  RSA below 2048 bits says why it is refused. */
HSM_MUST_USE hsm_status hsm_kind_parse(const char *text, struct hsm_key_kind *kind);

/** The inverse, e.g. "ec:P-256"; static or caller's memory. @return @p out */
const char *hsm_kind_format(const struct hsm_key_kind *kind, char out[32]);

/** Curve facts: OpenSSL group name ("prime256v1"), NIST/common name ("P-256"), field bytes, object
 * identifier. */
struct hsm_curve_info {
    enum hsm_curve curve;
    const char *group_name;  /* what OpenSSL prints: "prime256v1" */
    const char *common_name; /* "P-256", "secp256k1", "brainpoolP256r1" */
    unsigned bits;
    struct hsm_bytes oid; /* DER content octets */
};
const struct hsm_curve_info *hsm_curve_info(enum hsm_curve curve); /* NULL if none */
const struct hsm_curve_info *hsm_curve_by_name(const char *name);  /* either name, any case; NULL if none */

/** Largest signature in bytes: DER bound for ECDSA, modulus for RSA, 64/114 for EdDSA, 0 if it cannot sign.
 */
size_t hsm_kind_signature_max(const struct hsm_key_kind *kind);
/** Symmetric-equivalent strength in bits. Source: NIST SP 800-57 part 1 rev 5, table 2 (as libcrypto rates
 * them) */
unsigned hsm_kind_security_bits(const struct hsm_key_kind *kind);
/** All HSM_USAGE_* bits a type can have. */
unsigned hsm_kind_usages(const struct hsm_key_kind *kind);

/** The HSM_USAGE_* bit that a key needs for a mechanism: what kind of operation it is. 0: no such mechanism.
 */
unsigned hsm_mech_usage(enum hsm_mech_type mech);

/** "sign,decrypt" <-> bits. HSM_ERR_ARGUMENT names the unknown word. */
HSM_MUST_USE hsm_status hsm_usage_parse(const char *text, unsigned *usage);
const char *hsm_usage_format(unsigned usage, char out[96]);

/** Digest facts: name for libcrypto ("SHA2-256"), output length in bytes. NULL for HSM_HASH_NONE. */
const char *hsm_hash_name(enum hsm_hash hash);
size_t hsm_hash_len(enum hsm_hash hash);

#endif
