/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RSA decryption. What is wrong with a padding must not show: there is one error for all of it, and that the
 * time is the same for all of it is libcrypto's care. From 3.2 on it answers a bad PKCS#1 v1.5 padding with
 * random bytes (implicit rejection, its default), which is left as it is.
 */
#include "internal.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#define PROPQ "provider=default"

static OSSL_PARAM text_param(const char *name, const char *value)
{
    return OSSL_PARAM_construct_utf8_string(name, (char *)(uintptr_t)value, 0); /* only read */
}

static OSSL_PARAM *oaep_params(const struct hsm_mech *mech, OSSL_PARAM *p)
{
    enum hsm_hash mgf1 = mech_mgf1(mech);

    *p++ = text_param(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, hsm_hash_name(mech->hash));
    *p++ = text_param(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST_PROPS, PROPQ);
    *p++ = text_param(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, hsm_hash_name(mgf1));
    *p++ = text_param(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST_PROPS, PROPQ);
    if (mech->label.len > 0)
        *p++ = OSSL_PARAM_construct_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL,
                                                 (void *)(uintptr_t)mech->label.ptr, mech->label.len);
    return p;
}

static EVP_PKEY_CTX *new_context(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey, const struct hsm_mech *mech)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, pkey, PROPQ);
    OSSL_PARAM params[8], *p = params;

    *p++ = text_param(OSSL_ASYM_CIPHER_PARAM_PAD_MODE,
                      mech->type == HSM_MECH_RSA_DECRYPT_OAEP    ? OSSL_PKEY_RSA_PAD_MODE_OAEP
                      : mech->type == HSM_MECH_RSA_DECRYPT_PKCS1 ? OSSL_PKEY_RSA_PAD_MODE_PKCSV15
                                                                 : OSSL_PKEY_RSA_PAD_MODE_NONE);
    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP)
        p = oaep_params(mech, p);
    *p = OSSL_PARAM_construct_end();
    if (ctx != NULL && EVP_PKEY_decrypt_init_ex(ctx, params) == 1)
        return ctx;
    EVP_PKEY_CTX_free(ctx);
    return NULL;
}

static hsm_status decrypt(struct soft_token *t, const struct soft_held *key, const struct hsm_mech *mech,
                          struct hsm_bytes in, struct hsm_buf *out)
{
    EVP_PKEY_CTX *ctx = new_context(t->libctx, key->pkey, mech);
    size_t len = out->cap;
    hsm_status st = HSM_OK;

    if (ctx == NULL)
        return hsm_crypto_fail(HSM_ERR_MECH, "libcrypto does not decrypt in this way");
    if (EVP_PKEY_decrypt(ctx, out->ptr, &len, in.ptr, in.len) == 1) {
        out->len = len;
    } else { /* without libcrypto's reason */
        hsm_cleanse(out->ptr, (key->asked.kind->bits + 7) / 8);
        st = hsm_fail(HSM_ERR_DATA, "key '%s' on %s: this was not encrypted for the key in this way",
                      key->asked.label, t->where);
    }
    EVP_PKEY_CTX_free(ctx);
    return st;
}

hsm_status soft_decrypt(struct hsm_token *tok, hsm_handle handle, const struct hsm_mech *mech,
                        struct hsm_bytes in, struct hsm_buf *out)
{
    struct soft_token *t = soft_of(tok);
    struct soft_held key = { .key = NULL };
    bool used = false;
    hsm_status st;

    (void)ERR_set_mark(); /* the error queue is the application's */
    if ((st = soft_key_hold(t, handle, &key)) == HSM_OK &&
        (st = mech_check_decrypt(&key.asked, mech, in.len, out->cap)) == HSM_OK) {
        st = decrypt(t, &key, mech, in, out);
        used = true;
    }
    soft_key_release(t, &key, used);
    (void)ERR_pop_to_mark();
    return st;
}
