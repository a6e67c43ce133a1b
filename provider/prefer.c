/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are we preferred? An application that lists hsm first, or sets `default_properties = ?provider=hsm`, sends
 * us the keys it makes for one handshake as well as those it wants kept. Only its own library context can
 * tell.
 */
#include <dlfcn.h>

#include <openssl/err.h>
#include <openssl/provider.h>

#include "keymgmt.h"

/*
 * A program with a libcrypto of its own (statically linked, or of another major version) hands us a library
 * context that our libcrypto must not touch. Its upcalls then lie in another image than the functions we are
 * linked with.
 */
static bool same_libcrypto(const struct prov_ctx *prov)
{
    Dl_info theirs, ours;

    return dladdr((void *)prov->up.get_libctx, &theirs) != 0 &&
           dladdr((void *)OSSL_PROVIDER_do_all, &ours) != 0 && theirs.dli_fbase == ours.dli_fbase;
}

bool prov_is_preferred(struct prov_ctx *prov, const char *keytype)
{
    OSSL_LIB_CTX *app;
    EVP_KEYMGMT *keymgmt;
    bool preferred;

    if (prov->up.get_libctx == NULL || !same_libcrypto(prov))
        return false;
    app = (OSSL_LIB_CTX *)prov->up.get_libctx(prov->handle);
    ERR_set_mark();
    keymgmt = EVP_KEYMGMT_fetch(app, keytype, NULL);
    ERR_pop_to_mark();
    /* the handle libcrypto gave us at init is its OSSL_PROVIDER */
    preferred = keymgmt != NULL && EVP_KEYMGMT_get0_provider(keymgmt) == (const OSSL_PROVIDER *)prov->handle;
    EVP_KEYMGMT_free(keymgmt);
    return preferred;
}
