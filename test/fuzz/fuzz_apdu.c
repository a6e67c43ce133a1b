/* SPDX-License-Identifier: Apache-2.0 */
/* APDUs and TLVs. First byte: 0 the rest is an APDU, 1 it is a list of TLVs. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "apdu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was parsed gives the same bytes again, but for an Le that is not 0. */
static void try_apdu(struct hsm_bytes in)
{
    static uint8_t bytes[1 << 17];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    size_t le_len;
    struct apdu a;

    if (apdu_parse(in, &a) != HSM_OK)
        return;
    if (a.data.len > in.len ||
        (a.data.len > 0 && (a.data.ptr < in.ptr || a.data.ptr + a.data.len > in.ptr + in.len)))
        abort();
    if (apdu_encode(&a, &out) != HSM_OK || out.len != in.len)
        abort();
    le_len = !a.has_le ? 0 : a.extended ? 2 : 1;
    if (memcmp(bytes, in.ptr, in.len - le_len) != 0)
        abort();
}

static void try_tlv(struct hsm_bytes in)
{
    struct hsm_bytes value, before;
    uint32_t number;
    uint8_t small;

    while (in.len > 0) {
        before = in;
        if (!tlv_take(&in, in.ptr[0], &value))
            break;
        if (value.ptr < before.ptr || value.ptr + value.len != in.ptr ||
            in.ptr + in.len != before.ptr + before.len)
            abort();
        if (tlv_take_uint(&before, before.ptr[0], &number) != (value.len >= 1 && value.len <= 4))
            abort();
        if (value.len == 1 && number != value.ptr[0])
            abort();
    }
    before = in;
    if (in.len > 0 && (tlv_take_u8(&in, in.ptr[0], &small) || in.ptr != before.ptr || in.len != before.len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    (data[0] == 0 ? try_apdu : try_tlv)((struct hsm_bytes){ data + 1, size - 1 });
    return 0;
}
