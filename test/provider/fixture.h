/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A temporary token, a program's library context that has found it by its configuration file, and a plain
 * context to judge the results. What fails here fails the running test.
 */
#ifndef HSM_TEST_FIXTURE_H
#define HSM_TEST_FIXTURE_H

#include <limits.h>
#include <stdbool.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "hsm/hsm.h"
#include "hsm/pubkey.h"

enum { FIXTURE_PATH_MAX = 256 };

struct fixture {
    char dir[FIXTURE_PATH_MAX / 2];
    char token_path[FIXTURE_PATH_MAX];
    char conf_path[FIXTURE_PATH_MAX];
    char log_path[FIXTURE_PATH_MAX]; /* the provider's own log */
    OSSL_LIB_CTX *app;               /* default and hsm active, in this order */
    OSSL_LIB_CTX *plain;             /* default only */
    struct hsm_ctx *hsm;             /* the token without libcrypto in between */
    struct hsm_token *tok;
};

#define FIXTURE_PIN "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/** Directory, empty token, both contexts. Unchecked setups may call it: the keys then serve all tests of a
 * case. */
void fixture_open(struct fixture *fx);
void fixture_close(struct fixture *fx);
/** The first token again: after fork, before which it was opened. */
struct hsm_token *fixture_token(struct fixture *fx);

/**
 * Write a configuration that activates the two providers, and load it into a new context.
 * @param order  "default hsm", "hsm default" or "hsm"
 * @param extra  further lines for the section of hsm, e.g. "pin-source = prompt\n"; NULL: the PIN file and
 * the log. With `tokens = ` in it, the fixture's own `token` is left out
 */
OSSL_LIB_CTX *fixture_context(struct fixture *fx, const char *order, const char *extra);

/** Generate in the token; @p kind as hsm_kind_parse() takes it. */
void fixture_generate(struct fixture *fx, const char *label, const char *kind);
/** A software key in the plain context; "rsa-pss:2048:SHA256:32" is one restricted to that digest and salt.
 */
EVP_PKEY *fixture_software_key(struct fixture *fx, const char *kind);
/** Put a software key into the token. */
void fixture_import(struct fixture *fx, const char *label, EVP_PKEY *key);
/** A self-signed certificate of @p key, made and signed in the plain context. */
X509 *fixture_certificate(struct fixture *fx, EVP_PKEY *key, const char *common_name);
void fixture_put_certificate(struct fixture *fx, const char *label, X509 *cert);

/** The private key of @p uri through OSSL_STORE; NULL if there is none (reasons stay queued). */
EVP_PKEY *fixture_store_key(OSSL_LIB_CTX *libctx, const char *uri);
/** As a program does with a key file. */
EVP_PKEY *fixture_read_pem(OSSL_LIB_CTX *libctx, const void *pem, size_t pem_len);
/** The PEM reference that libcrypto writes for @p key; free with free(). */
char *fixture_reference(EVP_PKEY *key);
/** The public half of @p key, as plain OpenSSL sees it. */
EVP_PKEY *fixture_public(struct fixture *fx, EVP_PKEY *key);

/** Sign "message" and verify it with @p pub in the plain context. */
bool fixture_can_sign(struct fixture *fx, EVP_PKEY *key, EVP_PKEY *pub);
/** Does the queue hold an entry of the hsm provider whose text has @p part? Empties the queue. */
bool fixture_error_has(const char *part);
/** Number of entries in the queue that the hsm provider raised. Empties the queue. */
unsigned fixture_errors(void);
/** Does the provider's log have a line with @p part? */
bool fixture_log_has(struct fixture *fx, const char *part);

#endif
