/* SPDX-License-Identifier: Apache-2.0 */
/** SubjectPublicKeyInfo: what parses must encode to bytes that parse to the same key. */
#include <stdlib.h>

#include "hsm/pubkey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct hsm_pubkey *pub)
{
    static uint8_t der[2 * HSM_SPKI_MAX];
    struct hsm_buf out = { .ptr = der, .cap = sizeof(der) };
    struct hsm_pubkey again;

    if (hsm_pubkey_encode(pub, &out) != HSM_OK || out.len > out.cap)
        abort();
    if (hsm_pubkey_parse((struct hsm_bytes){ der, out.len }, &again) != HSM_OK ||
        !hsm_pubkey_equal(pub, &again))
        abort();
}

static void check_facts(const struct hsm_key_kind *kind)
{
    struct hsm_key_kind again;
    char text[32];

    if (hsm_kind_signature_max(kind) > HSM_SIGNATURE_MAX * 4)
        abort();
    (void)hsm_kind_security_bits(kind);
    (void)hsm_kind_usages(kind);
    if (hsm_kind_parse(hsm_kind_format(kind, text), &again) == HSM_OK &&
        (again.type != kind->type || again.curve != kind->curve || again.bits != kind->bits))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hsm_pubkey pub;

    if (hsm_pubkey_parse((struct hsm_bytes){ data, size }, &pub) != HSM_OK)
        return 0;
    check_facts(&pub.kind);
    check_round_trip(&pub);
    return 0;
}
