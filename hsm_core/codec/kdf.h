/* SPDX-License-Identifier: Apache-2.0 */
/** From a PIN or a key to a key, by libcrypto's own functions. */
#ifndef HSM_KDF_H
#define HSM_KDF_H

#include <openssl/types.h>

#include "hsm/error.h"
#include "hsm/types.h"

/** HKDF with SHA-256, extract and expand, into exactly out->cap bytes. Source: RFC 5869 */
HSM_MUST_USE hsm_status hsm_hkdf(OSSL_LIB_CTX *libctx, struct hsm_bytes key, struct hsm_bytes salt,
                                 struct hsm_bytes info, struct hsm_buf *out);

struct hsm_scrypt_cost {
    uint64_t n; /* a power of two */
    uint32_t r, p;
};
/** Takes 128 * n * r bytes of memory. Into exactly out->cap bytes. Source: RFC 7914 */
HSM_MUST_USE hsm_status hsm_scrypt(OSSL_LIB_CTX *libctx, const struct hsm_scrypt_cost *cost,
                                   struct hsm_bytes pin, struct hsm_bytes salt, struct hsm_buf *out);

#endif
