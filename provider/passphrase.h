/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HSM_PROV_PASSPHRASE_H
#define HSM_PROV_PASSPHRASE_H

#include "prov.h"

/**
 * Ask the program's passphrase callback for the PIN of this key's token, and hand it to the key: the way by
 * which
 * `-passin`, nginx's ssl_password_file and the like reach us. That nobody answers is no failure: the first
 * private operation then says what is missing.
 * @param pw_cb  may be NULL
 */
void prov_ask_pin(struct prov_ctx *prov, struct hsm_key *key, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg);

#endif
