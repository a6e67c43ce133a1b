/* SPDX-License-Identifier: Apache-2.0 */
/** Does this request fit this key? The same answer, in the same words, from every token. Pure. */
#ifndef HSM_MECH_H
#define HSM_MECH_H

#include "hsm/pubkey.h"

/** What the checks must know of a key, and how their lines call it. Borrowed for the call. */
struct mech_key {
    const struct hsm_key_kind *kind;
    unsigned usage;
    const char *label, *where; /* "key 'LABEL' on WHERE" */
};

/** The digest that MGF1 uses: the message's if none is named. */
enum hsm_hash mech_mgf1(const struct hsm_mech *mech);

/**
 * Everything about a signature but the length of its input.
 * @param cap  bytes of the buffer for the signature
 * @return HSM_ERR_USAGE, HSM_ERR_MECH, HSM_ERR_KEY_TYPE, HSM_ERR_BUFFER
 * Source: RFC 8017 section 9.1.1 (room for a PSS salt)
 */
HSM_MUST_USE hsm_status mech_check_signature(const struct mech_key *key, const struct hsm_mech *mech,
                                             size_t cap);
/** As mech_check_signature(), and HSM_ERR_DATA_LEN: @p in_len as enum hsm_mech_type says. */
HSM_MUST_USE hsm_status mech_check_sign(const struct mech_key *key, const struct hsm_mech *mech,
                                        size_t in_len, size_t cap);
/** RSA decryption: @p in_len must be, and @p cap hold, one modulus. */
HSM_MUST_USE hsm_status mech_check_decrypt(const struct mech_key *key, const struct hsm_mech *mech,
                                           size_t in_len, size_t cap);
/** Key agreement; @p secret_len: bytes of the shared secret of this kind of key, 0 if it makes none. */
HSM_MUST_USE hsm_status mech_check_derive(const struct mech_key *key, const struct hsm_mech *mech,
                                          size_t secret_len, size_t cap);

#endif
