/* SPDX-License-Identifier: Apache-2.0 */
/** Checking an attestation with libcrypto alone: what was signed, by whom, and what it says. Used by key
 * attest. */
#ifndef HSMCTL_ATTEST_H
#define HSMCTL_ATTEST_H

#include "tool.h"

struct attest_verdict {
    bool signature_valid;   /* by the certificate's key, or the attestation key that the token named */
    bool challenge_valid;   /* it answers this challenge: fresh */
    bool key_valid;         /* it speaks of this public key */
    enum hsm_origin origin; /* as signed */
    bool chain_asked, chain_valid;
    char chain_text[160]; /* why not, or how */
};

/**
 * Judge a proof. What is wrong with it is said in @p v, not by the status.
 * @param ca  PEM file with the certificate of a CA (or an intermediate) that is trusted; NULL: the chain is
 * not checked
 * @return HSM_ERR_DATA if the CA file cannot be used, HSM_ERR_CRYPTO if libcrypto fails
 */
HSM_MUST_USE hsm_status attest_judge(struct tool *t, const struct hsm_attestation *proof,
                                     const struct hsm_object *key, struct hsm_bytes challenge, const char *ca,
                                     struct attest_verdict *v);

#endif
