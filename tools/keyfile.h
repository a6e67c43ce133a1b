/* SPDX-License-Identifier: Apache-2.0 */
/** Private keys in files: to PKCS#8 and back. Used by key import and key export only. */
#ifndef HSMCTL_KEYFILE_H
#define HSMCTL_KEYFILE_H

#include "tool.h"

/**
 * A private key file in any form the default provider reads: PEM or DER, PKCS#8 or traditional, encrypted
 * too.
 * @param path   file, "-" for standard input
 * @param pkcs8  out: DER PrivateKeyInfo in locked memory; tool_buf_free() it
 */
HSM_MUST_USE hsm_status keyfile_read(struct tool *t, const char *path, struct hsm_buf *pkcs8);

/** Write PKCS#8 as PEM: AES-256-CBC and PBKDF2 under the --passout passphrase, or with --plain as it is. */
HSM_MUST_USE hsm_status keyfile_write(struct tool *t, const char *path, struct hsm_bytes pkcs8);

#endif
