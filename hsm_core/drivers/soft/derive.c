/* SPDX-License-Identifier: Apache-2.0 */
/* Key agreement: ECDH, X25519, X448. */
#include "internal.h"

#include <stdio.h>

#include <openssl/err.h>

#define PROPQ "provider=default"

/* A Montgomery curve has points of small order, for which libcrypto refuses to answer with zeros. */
static hsm_status agree(struct soft_token *t, const struct soft_held *key, EVP_PKEY *peer, const char *whose,
                        struct hsm_buf *out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(t->libctx, key->pkey, PROPQ);
    size_t want = hsm_secret_len(key->asked.kind), len = out->cap;
    hsm_status st = HSM_OK;

    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1)
        st = hsm_crypto_fail(HSM_ERR_CRYPTO, whose);
    else if (EVP_PKEY_derive_set_peer(ctx, peer) != 1)
        st = hsm_fail(HSM_ERR_DATA, "%s: the peer's public key is not valid", whose);
    else if (EVP_PKEY_derive(ctx, out->ptr, &len) != 1)
        st = key->asked.kind->type == HSM_KEY_EC
                 ? hsm_crypto_fail(HSM_ERR_CRYPTO, whose)
                 : hsm_fail(HSM_ERR_DATA, "%s: the peer's public key makes the shared secret zero", whose);
    else if (len != want)
        st = hsm_fail(HSM_ERR_CRYPTO, "%s: libcrypto made a secret of %zu bytes, not of %zu", whose, len,
                      want);
    if (st == HSM_OK)
        out->len = len;
    else
        hsm_cleanse(out->ptr, want);
    EVP_PKEY_CTX_free(ctx);
    return st;
}

hsm_status soft_derive(struct hsm_token *tok, hsm_handle handle, const struct hsm_mech *mech,
                       struct hsm_bytes in, struct hsm_buf *out)
{
    struct soft_token *t = soft_of(tok);
    struct soft_held key = { .key = NULL };
    char whose[sizeof(t->where) + 300];
    EVP_PKEY *peer = NULL;
    hsm_status st;

    (void)ERR_set_mark(); /* the error queue is the application's: what went wrong goes into our line */
    if ((st = soft_key_hold(t, handle, &key)) != HSM_OK ||
        (st = mech_check_derive(&key.asked, mech, hsm_secret_len(key.asked.kind), out->cap)) != HSM_OK)
        goto out;
    (void)snprintf(whose, sizeof(whose), "key '%s' on %s", key.asked.label, t->where);
    if ((st = hsm_peer_pkey(t->libctx, key.asked.kind, in, whose, &peer)) == HSM_OK)
        st = agree(t, &key, peer, whose, out);
out:
    EVP_PKEY_free(peer);
    soft_key_release(t, &key, st == HSM_OK);
    (void)ERR_pop_to_mark();
    return st;
}
