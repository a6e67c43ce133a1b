/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volatile keys of a kind that no token takes (P-224, RSA-1024 ...). An application that prefers hsm made one
 * without asking for a token; it gets its file as the default provider writes it, encrypted if it said so.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/encoder.h>
#include <openssl/params.h>

#include "prov.h"

enum { PASSPHRASE_MAX = 1024 }; /* PEM_BUFSIZE */

static bool set_encryption(OSSL_ENCODER_CTX *enc, const struct prov_encryption *how)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_PASSPHRASE_PARAM_INFO, (char *)"key", 0),
                            OSSL_PARAM_construct_end() };
    char phrase[PASSPHRASE_MAX];
    size_t len = 0;
    bool ok;

    if (how->cipher == NULL || how->cipher[0] == '\0')
        return true;
    ok = OSSL_ENCODER_CTX_set_cipher(enc, how->cipher, PROV_DEFAULT) && how->ask != NULL &&
         how->ask(phrase, sizeof(phrase), &len, params, how->arg) &&
         OSSL_ENCODER_CTX_set_passphrase(enc, (const unsigned char *)phrase, len);
    OPENSSL_cleanse(phrase, sizeof(phrase));
    return ok;
}

int prov_encode_soft(struct prov_ctx *prov, OSSL_CORE_BIO *out, EVP_PKEY *soft, int selection,
                     const char *type, const char *structure, const struct prov_encryption *how)
{
    OSSL_ENCODER_CTX *enc = OSSL_ENCODER_CTX_new_for_pkey(soft, selection, type, structure, PROV_DEFAULT);
    unsigned char *data = NULL;
    size_t len = 0, written = 0;
    int ok = enc != NULL && set_encryption(enc, how) && OSSL_ENCODER_to_data(enc, &data, &len) &&
             prov->up.bio_write_ex != NULL && prov->up.bio_write_ex(out, data, len, &written) &&
             written == len;

    OPENSSL_clear_free(data, len);
    OSSL_ENCODER_CTX_free(enc);
    return ok;
}
