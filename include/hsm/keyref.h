/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The key reference: what a program that only takes a key file is given. PEM label "HSM KEY REFERENCE", DER
 *   SEQUENCE { version INTEGER (1), uri UTF8String, publicKey [0] EXPLICIT SubjectPublicKeyInfo OPTIONAL }
 * Nothing in it is secret. Pure.
 */
#ifndef HSM_KEYREF_H
#define HSM_KEYREF_H

#include "hsm/error.h"
#include "hsm/types.h"

#define HSM_KEYREF_PEM_LABEL "HSM KEY REFERENCE"
enum { HSM_KEYREF_MAX = HSM_SPKI_MAX + 2048 + 64 }; /* bytes of DER */

struct hsm_keyref {
    struct hsm_bytes uri;  /* UTF-8, not NUL-terminated, begins with "hsm:"; borrowed */
    struct hsm_bytes spki; /* whole DER SubjectPublicKeyInfo; empty if absent; borrowed */
};

/** Does this DER look like a reference (SEQUENCE, INTEGER 1, UTF8String "hsm:...")? Cheap; for probing. */
bool hsm_keyref_probe(struct hsm_bytes der);

/** Strict parse. HSM_ERR_REFERENCE says what is wrong (newer version, truncated, trailing bytes, ...). */
HSM_MUST_USE hsm_status hsm_keyref_decode(struct hsm_bytes der, struct hsm_keyref *ref);

/** DER into @p out (HSM_KEYREF_MAX always suffices). */
HSM_MUST_USE hsm_status hsm_keyref_encode(const struct hsm_keyref *ref, struct hsm_buf *out);

#endif
