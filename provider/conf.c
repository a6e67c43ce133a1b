/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the configuration comes from. libcrypto hands over the provider's section of openssl.cnf, but answers
 * only for names it is asked for; a program with a library context of its own hands over nothing, and then
 * the default file is read. A fault never makes init fail: a broken HSM must not take remote access down with
 * it. It is raised at first use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/params.h>

#include "keymgmt.h"

static const char *core_value(struct prov_ctx *prov, const char *name)
{
    char *value = NULL;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_ptr(name, &value, 0), OSSL_PARAM_construct_end() };

    if (prov->up.get_params == NULL || !prov->up.get_params(prov->handle, params))
        return NULL;
    return value;
}

static hsm_status take(struct prov_ctx *prov, struct hsm_config *cfg, const char *name)
{
    const char *value = core_value(prov, name);

    return value == NULL ? HSM_OK : hsm_config_set(cfg, name, value);
}

/* `tokens = board backup` is the index without which token.board and token.backup could not be asked for. */
static hsm_status take_named_tokens(struct prov_ctx *prov, struct hsm_config *cfg)
{
    static const char separators[] = " \t,";
    const char *word = core_value(prov, "tokens");
    char key[96];
    hsm_status st = HSM_OK;

    for (; word != NULL && st == HSM_OK && *(word += strspn(word, separators)) != '\0';
         word += strcspn(word, separators)) {
        int len = (int)strcspn(word, separators);

        if (len > 64)
            return hsm_fail(HSM_ERR_CONFIG, "configuration: a name in `tokens` is longer than 64 characters");
        (void)snprintf(key, sizeof(key), "token.%.*s", len, word);
        if ((st = take(prov, cfg, key)) != HSM_OK)
            break;
        (void)snprintf(key, sizeof(key), "pin-source.%.*s", len, word);
        st = take(prov, cfg, key);
    }
    return st;
}

static hsm_status take_all(struct prov_ctx *prov, struct hsm_config *cfg)
{
    static const char *const names[] = {
        "log", "log-level", "token", "tokens", "pin-source", "alias-scheme"
    };
    hsm_status st;
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((st = take(prov, cfg, names[i])) != HSM_OK)
            return st;
    return take_named_tokens(prov, cfg);
}

static hsm_status fill(struct prov_ctx *prov, struct hsm_config *cfg)
{
    const char *env = secure_getenv("HSM_TOKEN");
    hsm_status st = take_all(prov, cfg);

    if (st != HSM_OK || hsm_config_has_token(cfg) || (env != NULL && *env != '\0'))
        return st;
    if ((st = hsm_config_load_file(cfg, NULL, NULL)) != HSM_OK)
        return st;
    return take_all(prov, cfg); /* what was handed over wins over the file */
}

static void remember_fault(struct prov_ctx *prov, struct hsm_config *cfg, hsm_status st)
{
    prov->config_status = st;
    (void)snprintf(prov->config_error, sizeof(prov->config_error), "%s", hsm_error_text(st));
    if (cfg != NULL && hsm_ctx_new_for_log(cfg, &prov->spare) != HSM_OK)
        hsm_config_free(cfg);
    hsm_log(prov->spare, HSM_LOG_ERROR, "%s", prov->config_error);
}

void prov_configure(struct prov_ctx *prov)
{
    struct hsm_config *cfg = NULL;
    hsm_status st = hsm_config_new(&cfg);

    if (st == HSM_OK)
        st = fill(prov, cfg);
    if (st == HSM_OK)
        st = hsm_config_finish(cfg);
    prov->alias_pkcs11 = st == HSM_OK && hsm_config_has(cfg, "alias-scheme");
    if (st == HSM_OK)
        st = hsm_ctx_new(cfg, &prov->hsm);
    if (st != HSM_OK)
        remember_fault(prov, cfg, st);
}
