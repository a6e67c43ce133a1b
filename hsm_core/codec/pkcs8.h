/* SPDX-License-Identifier: Apache-2.0 */
/** A private key as numbers, and its PKCS#8 form. Pure: no libcrypto, so that no copy is left in its heap. */
#ifndef HSM_PKCS8_H
#define HSM_PKCS8_H

#include "hsm/error.h"
#include "hsm/types.h"

/** Bytes that always suffice for a canonical PrivateKeyInfo: RSA-4096 with restricted PSS parameters needs
 * 2443. */
enum { HSM_PKCS8_MAX = 4096 };

/** The order of RFC 8017 A.1.2 */
enum pkcs8_rsa_number { RSA_N, RSA_E, RSA_D, RSA_P, RSA_Q, RSA_DP, RSA_DQ, RSA_QI, RSA_NUMBERS };

/** All bytes borrowed; integers are big-endian without leading zeros. */
struct pkcs8_private {
    struct hsm_key_kind kind; /* of RSA without `bits` until the modulus was measured */
    struct hsm_bytes rsa[RSA_NUMBERS];
    struct hsm_bytes pss_params; /* DER RSASSA-PSS-params; empty: unrestricted */
    struct hsm_bytes scalar;     /* EC: exactly the field's length after encode; raw key of Ed and X */
    struct hsm_bytes point;      /* EC: public point if it was there */
};

/**
 * @param der  one PrivateKeyInfo and nothing behind it
 * @return HSM_ERR_DATA malformed; HSM_ERR_KEY_TYPE a type, curve or form hsm does not handle, with the reason
 * Source: RFC 5958, RFC 8017 A.1.2, RFC 5915, RFC 8410 section 7
 */
HSM_MUST_USE hsm_status pkcs8_decode(struct hsm_bytes der, struct pkcs8_private *priv);

/** The canonical form: version 0, no attributes, named curve, EC point included. */
HSM_MUST_USE hsm_status pkcs8_encode(const struct pkcs8_private *priv, struct hsm_buf *der);

/** Octets of the raw private key of an Ed or X type, or of an EC scalar. */
size_t pkcs8_scalar_len(const struct hsm_key_kind *kind);

#endif
