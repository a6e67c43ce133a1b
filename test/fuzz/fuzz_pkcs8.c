/* SPDX-License-Identifier: Apache-2.0 */
/** PrivateKeyInfo: what decodes must encode to bytes that decode to the same numbers. */
#include <stdlib.h>
#include <string.h>

#include "pkcs8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(struct hsm_bytes a, struct hsm_bytes b)
{
    if (a.len != b.len || (a.len > 0 && memcmp(a.ptr, b.ptr, a.len) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t der[1 << 17];
    struct hsm_buf out = { der, sizeof(der), 0 };
    struct pkcs8_private a, b;
    size_t i;

    if (size > sizeof(der) / 2 || pkcs8_decode((struct hsm_bytes){ data, size }, &a) != HSM_OK)
        return 0;
    if (pkcs8_encode(&a, &out) != HSM_OK || pkcs8_decode((struct hsm_bytes){ der, out.len }, &b) != HSM_OK)
        abort();
    for (i = 0; i < RSA_NUMBERS; i++)
        check_same(a.rsa[i], b.rsa[i]);
    check_same(a.scalar, b.scalar);
    check_same(a.point, b.point);
    check_same(a.pss_params, b.pss_params);
    if (a.kind.type != b.kind.type || a.kind.curve != b.kind.curve || a.kind.bits != b.kind.bits)
        abort();
    return 0;
}
