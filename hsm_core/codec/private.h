/* SPDX-License-Identifier: Apache-2.0 */
/** Private keys, public keys and certificates by way of libcrypto: what several drivers need when keys are
 * imported. */
#ifndef HSM_PRIVATE_H
#define HSM_PRIVATE_H

#include <openssl/evp.h>

#include "hsm/pubkey.h"
#include "hsm/secret.h"
#include "pkcs8.h"

enum { HSM_KEY_ID_LEN = 20 /* RFC 7093 section 2, method 1 */ };

/** hsm_fail() with libcrypto's own reason behind it. */
hsm_status hsm_crypto_fail(hsm_status st, const char *what);
/** Give libcrypto a heap for secrets that is locked and not dumped, if the program has not. */
void hsm_secure_heap(void);
/** Is little of that heap left? */
bool hsm_secure_heap_tight(void);

HSM_MUST_USE hsm_status hsm_pkey_generate(OSSL_LIB_CTX *libctx, const struct hsm_key_kind *kind,
                                          EVP_PKEY **pkey);
/** The numbers of @p pkey, in @p numbers: secret memory of HSM_PKCS8_MAX bytes. */
HSM_MUST_USE hsm_status hsm_pkey_numbers(const EVP_PKEY *pkey, const struct hsm_key_kind *kind,
                                         struct hsm_buf *numbers, struct pkcs8_private *priv);
HSM_MUST_USE hsm_status hsm_private_pkey(OSSL_LIB_CTX *libctx, const struct pkcs8_private *priv,
                                         EVP_PKEY **pkey);
/** The EC public point that belongs to priv->scalar. point->cap >= HSM_POINT_MAX */
HSM_MUST_USE hsm_status hsm_private_point(OSSL_LIB_CTX *libctx, const struct pkcs8_private *priv,
                                          struct hsm_buf *point);
/** Somebody else's public key, as HSM_MECH_ECDH takes it: for a key of @p kind, on its curve and not at
 * infinity.
 *  @param whose  "key 'NAME' on TOKEN", for the line
 *  @return HSM_ERR_DATA */
HSM_MUST_USE hsm_status hsm_peer_pkey(OSSL_LIB_CTX *libctx, const struct hsm_key_kind *kind,
                                      struct hsm_bytes peer, const char *whose, EVP_PKEY **pkey);
/** Bytes of a shared secret; 0: a key of this kind agrees on none. */
size_t hsm_secret_len(const struct hsm_key_kind *kind);
/** Does the private part belong to the public, are primes prime ...? HSM_ERR_DATA */
HSM_MUST_USE hsm_status hsm_pkey_check(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey);
HSM_MUST_USE hsm_status hsm_pkey_spki(EVP_PKEY *pkey, struct hsm_buf *spki);
/** RFC 7093 section 2 method 1: leftmost 160 bits of SHA-256 over the subjectPublicKey. */
HSM_MUST_USE hsm_status hsm_spki_id(OSSL_LIB_CTX *libctx, struct hsm_bytes spki, uint8_t id[HSM_KEY_ID_LEN]);
/** @p der must be one X.509 certificate and nothing behind it: identifier and kind (NONE if unknown to hsm)
 * of its public key. HSM_ERR_DATA */
HSM_MUST_USE hsm_status hsm_certificate_id(OSSL_LIB_CTX *libctx, struct hsm_bytes der,
                                           struct hsm_key_kind *kind, uint8_t id[HSM_KEY_ID_LEN]);
/** An EC key may come without its public point, or with a wrong one (HSM_ERR_DATA): compute it into @p point
 * and let priv->point be that. Other types: nothing to do. */
HSM_MUST_USE hsm_status hsm_private_complete(OSSL_LIB_CTX *libctx, struct pkcs8_private *priv,
                                             struct hsm_buf *point);
/** All checks an import needs: point and range, consistency of all numbers.
 *  @param point  memory that priv->point refers to afterwards
 *  @param spki   out: DER SubjectPublicKeyInfo; cap >= HSM_SPKI_MAX */
HSM_MUST_USE hsm_status hsm_private_check(OSSL_LIB_CTX *libctx, struct pkcs8_private *priv,
                                          uint8_t point[HSM_POINT_MAX], struct hsm_buf *spki);

#endif
