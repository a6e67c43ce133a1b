/* SPDX-License-Identifier: Apache-2.0 */
#include "passphrase.h"

#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "hsm/secret.h"

static void describe(struct prov_ctx *prov, struct hsm_key *key, char *text, size_t text_len)
{
    const char *name = hsm_key_uri(key)->token;

    if (name[0] == '\0' && hsm_token_count(prov->hsm) > 0)
        name = hsm_token_name(prov->hsm, 0);
    snprintf(text, text_len, "PIN of hsm token %s", name);
}

void prov_ask_pin(struct prov_ctx *prov, struct hsm_key *key, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    char info[64 + HSM_LABEL_MAX];
    OSSL_PARAM params[2];
    char *pin = pw_cb == NULL ? NULL : hsm_secret_alloc(HSM_PIN_MAX);
    size_t len = 0;

    if (pin == NULL)
        return;
    describe(prov, key, info, sizeof(info));
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PASSPHRASE_PARAM_INFO, info, 0);
    params[1] = OSSL_PARAM_construct_end();
    if (prov->up.set_error_mark != NULL)
        prov->up.set_error_mark(prov->handle);
    if (pw_cb(pin, HSM_PIN_MAX, &len, params, pw_arg) > 0 && len > 0 && len <= HSM_PIN_MAX &&
        hsm_key_give_pin(key, (struct hsm_bytes){ (const uint8_t *)pin, len }) != HSM_OK)
        hsm_log(prov->hsm, HSM_LOG_ERROR, "the PIN that was typed in could not be kept");
    if (prov->up.pop_error_to_mark != NULL)
        prov->up.pop_error_to_mark(prov->handle);
    hsm_secret_free(pin, HSM_PIN_MAX);
}
