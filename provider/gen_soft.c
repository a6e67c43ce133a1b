/* SPDX-License-Identifier: Apache-2.0 */
/* Key generation handed on to the default provider, for the volatile keys of an application that prefers hsm.
 */
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "keymgmt.h"

struct progress {
    OSSL_CALLBACK *cb;
    void *arg;
};

/* The application may cancel, and `openssl genrsa` draws its dots by it. */
static int report(EVP_PKEY_CTX *ctx)
{
    const struct progress *progress = EVP_PKEY_CTX_get_app_data(ctx);
    int potential = EVP_PKEY_CTX_get_keygen_info(ctx, 0), iteration = EVP_PKEY_CTX_get_keygen_info(ctx, 1);
    OSSL_PARAM params[] = { OSSL_PARAM_construct_int(OSSL_GEN_PARAM_POTENTIAL, &potential),
                            OSSL_PARAM_construct_int(OSSL_GEN_PARAM_ITERATION, &iteration),
                            OSSL_PARAM_construct_end() };

    return progress->cb(params, progress->arg);
}

/* A template of a kind that hsm knows is just a curve; any other is held by the default provider. */
static EVP_PKEY_CTX *new_context(struct prov_ctx *prov, enum hsm_key_type type, struct prov_key *template)
{
    OSSL_LIB_CTX *libctx = prov_libctx(prov);

    if (libctx == NULL)
        return NULL;
    if (template != NULL && template->soft != NULL)
        return EVP_PKEY_CTX_new_from_pkey(libctx, template->soft, PROV_DEFAULT);
    return EVP_PKEY_CTX_new_from_name(libctx, prov_key_type_name(type), PROV_DEFAULT);
}

static bool set_curve_of(EVP_PKEY_CTX *ctx, const struct prov_key *template)
{
    const struct hsm_curve_info *curve = template == NULL ? NULL : hsm_curve_info(template->kind.curve);

    return curve == NULL || template->soft != NULL || EVP_PKEY_CTX_set_group_name(ctx, curve->group_name) > 0;
}

EVP_PKEY *prov_soft_generate(struct prov_ctx *prov, enum hsm_key_type type, int selection,
                             const OSSL_PARAM params[], struct prov_key *template, OSSL_CALLBACK *cb,
                             void *arg)
{
    bool pair = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0;
    struct progress progress = { cb, arg };
    EVP_PKEY_CTX *ctx = new_context(prov, type, template);
    EVP_PKEY *pkey = NULL;

    if (ctx == NULL || (pair ? EVP_PKEY_keygen_init(ctx) : EVP_PKEY_paramgen_init(ctx)) <= 0 ||
        !set_curve_of(ctx, template) || (params != NULL && EVP_PKEY_CTX_set_params(ctx, params) <= 0))
        goto out;
    if (cb != NULL) {
        EVP_PKEY_CTX_set_app_data(ctx, &progress);
        EVP_PKEY_CTX_set_cb(ctx, report);
    }
    if (EVP_PKEY_generate(ctx, &pkey) <= 0)
        pkey = NULL;
out:
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}
