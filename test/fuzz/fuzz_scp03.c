/* SPDX-License-Identifier: Apache-2.0 */
/** What the chip, or somebody on its bus, may send: answers to INITIALIZE UPDATE and to commands, with and
 * without a right MAC. Also key files. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "drivers/se05x/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One session, always the same, after the command GetVersion: see test_scp03.c. */
static const uint8_t challenge[] = { 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7 };
static const uint8_t update[] = { 0x90, 0x03, 0x20, 0x19, 0x07, 0x38, 0x24, 0x20, 0x25, 0x02,
                                  0x0b, 0x03, 0x00, 0x4e, 0xcd, 0x90, 0x6d, 0x32, 0x5d, 0x3d,
                                  0x8a, 0xf7, 0xbe, 0x9f, 0x05, 0xea, 0xa0, 0xa6, 0x61 };
static const uint8_t rmac_key[] = { 0xfe, 0x5e, 0x4e, 0x39, 0xc9, 0xd7, 0x28, 0x2e,
                                    0x3b, 0x4f, 0x14, 0x8d, 0x25, 0xcb, 0x6c, 0x90 };
static const uint8_t chain[] = { 0x84, 0x4e, 0xe0, 0xbb, 0x94, 0x92, 0x19, 0x79,
                                 0x6a, 0xda, 0xf4, 0x1e, 0x7d, 0x89, 0xc5, 0xca };

static struct scp03 *scp;
static struct scp03_keys keys;
static uint8_t out_bytes[SE05X_APDU_MAX];

static void must(hsm_status st)
{
    if (st != HSM_OK)
        abort();
}

static void set_up(void)
{
    const struct scp03_default *d = scp03_default_find("SE050E");

    memcpy(keys.enc, d->enc, sizeof(d->enc));
    memcpy(keys.mac, d->mac, sizeof(d->mac));
    keys.len = sizeof(d->enc);
    must(scp03_new(NULL, SCP03_EVERY_COMMAND, &scp));
}

static void open_session(void)
{
    static const uint8_t get_version[] = { 0x80, 0x04, 0x00, 0x20 };
    struct hsm_buf out = { out_bytes, sizeof(out_bytes), 0 };

    must(scp03_begin(scp, &keys, challenge, (struct hsm_bytes){ update, sizeof(update) }));
    must(scp03_authenticate(scp, 0x33, &out));
    must(scp03_wrap(scp, (struct hsm_bytes){ get_version, sizeof(get_version) }, &out));
}

static void try_update(struct hsm_bytes answer)
{
    struct hsm_buf out = { out_bytes, sizeof(out_bytes), 0 };
    hsm_status st = scp03_begin(scp, &keys, challenge, answer);

    if ((st == HSM_OK || st == HSM_ERR_DENIED) != (scp03_authenticate(scp, 0x33, &out) == HSM_OK))
        abort();
}

static void try_answer(struct hsm_bytes answer)
{
    struct hsm_buf out = { out_bytes, sizeof(out_bytes), 0 };

    open_session();
    if (scp03_unwrap(scp, answer, &out) == HSM_OK && (out.len < 2 || out.len > answer.len))
        abort();
}

/* As a chip that has the keys would send it, whatever its plain text may be. */
static void try_sealed(struct hsm_bytes in)
{
    static uint8_t input[sizeof(chain) + SE05X_APDU_MAX], answer[SE05X_APDU_MAX + 10];
    size_t data_len = in.len < 2 ? 0 : (in.len - 2) / 16 * 16, mac_len = 0;
    uint8_t mac[16];

    if (in.len < 2 || data_len + 2 > SE05X_APDU_MAX)
        return;
    memcpy(input, chain, sizeof(chain));
    memcpy(input + sizeof(chain), in.ptr, data_len);
    memcpy(input + sizeof(chain) + data_len, in.ptr + in.len - 2, 2);
    if (EVP_Q_mac(NULL, "CMAC", NULL, "AES-128-CBC", NULL, rmac_key, sizeof(rmac_key), input,
                  sizeof(chain) + data_len + 2, mac, sizeof(mac), &mac_len) == NULL)
        abort();
    memcpy(answer, in.ptr, data_len);
    memcpy(answer + data_len, mac, 8);
    memcpy(answer + data_len + 8, in.ptr + in.len - 2, 2);
    try_answer((struct hsm_bytes){ answer, data_len + 10 });
}

static void try_command(struct hsm_bytes command)
{
    struct hsm_buf out = { out_bytes, sizeof(out_bytes), 0 };

    open_session();
    if (scp03_wrap(scp, command, &out) == HSM_OK && (out.len < command.len || (out_bytes[0] & 4) == 0))
        abort();
}

static void try_key_file(struct hsm_bytes content)
{
    struct scp03_keys parsed;

    if (scp03_keys_parse(content, "x", &parsed) == HSM_OK && parsed.len != 16 && parsed.len != 24 &&
        parsed.len != 32)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(struct hsm_bytes) = { try_key_file, try_update, try_answer, try_sealed,
                                                       try_command };

    set_up();
    if (size > 0 && data[0] < sizeof(tries) / sizeof(tries[0]))
        tries[data[0]]((struct hsm_bytes){ data + 1, size - 1 });
    scp03_free(scp);
    return 0;
}
