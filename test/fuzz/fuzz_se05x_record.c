/* SPDX-License-Identifier: Apache-2.0 */
/** Records, TOKEN and JOURNAL of an SE05x: what decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "drivers/se05x/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_record(struct hsm_bytes in)
{
    static uint8_t bytes[4096];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct se05x_record a, b;

    if (se05x_record_decode(in, &a) != HSM_OK || a.state != SE05X_RECORD_LIVE)
        return;
    if (se05x_record_encode(&a, &out) != HSM_OK || out.len != in.len ||
        se05x_record_decode((struct hsm_bytes){ bytes, out.len }, &b) != HSM_OK ||
        memcmp(&a, &b, sizeof(a)) != 0)
        abort();
}

static void try_token(struct hsm_bytes in)
{
    uint8_t bytes[SE05X_TOKEN_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct se05x_token_info a, b;

    if (se05x_token_decode(in, &a) != HSM_OK)
        return;
    if (se05x_token_encode(&a, &out) != HSM_OK || out.len != in.len ||
        se05x_token_decode((struct hsm_bytes){ bytes, out.len }, &b) != HSM_OK ||
        memcmp(&a, &b, sizeof(a)) != 0)
        abort();
}

static void try_journal(struct hsm_bytes in)
{
    uint8_t bytes[SE05X_JOURNAL_LEN];
    struct se05x_journal a, b;

    if (se05x_journal_decode(in, &a) != HSM_OK)
        return;
    se05x_journal_encode(&a, bytes);
    if (se05x_journal_decode((struct hsm_bytes){ bytes, sizeof(bytes) }, &b) != HSM_OK ||
        memcmp(&a, &b, sizeof(a)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hsm_bytes in = { data, size };

    try_record(in);
    try_token(in);
    try_journal(in);
    return 0;
}
