/* SPDX-License-Identifier: Apache-2.0 */
/** What the core and key management files of provider/ share among themselves. */
#ifndef HSM_PROV_KEYMGMT_H
#define HSM_PROV_KEYMGMT_H

#include "dispatch.h"
#include "prov.h"

/*
 * What our EdDSA keys call their signature. libcrypto first fetches that name by normal precedence and tries
 * to move the key there: a name that nobody else has saves the failing move, and with it the locks that
 * threads would meet at.
 */
#define PROV_NAME_ED25519_SIGNATURE "HSM-ED25519"
#define PROV_NAME_ED448_SIGNATURE   "HSM-ED448"

#define PROV_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Parameters of our own */
#define PROV_PARAM_URI         "hsm-uri"         /* get: the key's URI */
#define PROV_PARAM_LABEL       "hsm-label"       /* keygen: the name of the new key */
#define PROV_PARAM_ID          "hsm-id"          /* keygen: hexadecimal */
#define PROV_PARAM_USAGE       "hsm-usage"       /* keygen: "sign,derive" */
#define PROV_PARAM_EXTRACTABLE "hsm-extractable" /* keygen: yes or no */
#define PROV_PARAM_TOKEN       "hsm-token"       /* keygen: which token */

/* conf.c: fills prov->hsm, or config_status and config_error. Reads configuration files, opens no token. */
void prov_configure(struct prov_ctx *prov);

/* error.c: for hsm_log(), also when the configuration is unusable */
struct hsm_ctx *prov_log_ctx(struct prov_ctx *prov);

/* key.c */
/** "key-" and 16 random hexadecimal digits. */
hsm_status prov_random_label(char out[24]);
/** URI of a private key called @p label on token @p token ("" or NULL: the first configured one). */
void prov_label_uri(struct hsm_ctx *hsm, const char *token, const char *label, struct hsm_uri *uri);
/** Forget the public part and what was derived from it. */
void prov_key_drop_public(struct prov_key *key);
/** Take over a key of prov_libctx() as the volatile shape; fills kind and public part where hsm knows the
 * type. */
void prov_key_adopt(struct prov_key *key, EVP_PKEY *soft, bool is_private);

/** One parameter of a key, answered from the key object alone. Leaves @p p untouched if the key has no such
 * part. */
struct key_param {
    const char *name;
    int (*get)(struct prov_key *key, OSSL_PARAM *p);
};

/** What differs between RSA, EC and the types of RFC 8410. */
struct key_class {
    const struct key_param *params; /* ends with a NULL name */
    const char *const
        *forwarded; /* names answered by the default provider's view of the public key; NULL-ended */
    const char *const *private_names; /* an import that has one of these is refused; NULL-ended */
    bool (*has_params)(const struct prov_key *key);
    int (*import)(struct prov_key *key,
                  const OSSL_PARAM params[]); /* public part or parameters, whatever is there */
    OSSL_PARAM *(*export)(struct prov_key *key,
                          int selection); /* public part and parameters; NULL on failure */
    int (*set_encoded)(struct prov_key *key, struct hsm_bytes encoded);
};

extern const struct key_class key_class_rsa, key_class_ec, key_class_ecx;
const struct key_class *key_class_of(enum hsm_key_type type);

/* keymgmt.c: the same for every type; the key knows its own */
void *keymgmt_new(void *provctx, enum hsm_key_type type);
void *keymgmt_load(const void *reference, size_t reference_sz, enum hsm_key_type type);
OSSL_FUNC_keymgmt_free_fn keymgmt_free;
OSSL_FUNC_keymgmt_has_fn keymgmt_has;
OSSL_FUNC_keymgmt_match_fn keymgmt_match;
OSSL_FUNC_keymgmt_get_params_fn keymgmt_get_params;
OSSL_FUNC_keymgmt_set_params_fn keymgmt_set_params;
OSSL_FUNC_keymgmt_settable_params_fn keymgmt_settable_params;
OSSL_FUNC_keymgmt_import_fn keymgmt_import;
OSSL_FUNC_keymgmt_export_fn keymgmt_export;
OSSL_FUNC_keymgmt_dup_fn keymgmt_dup;
OSSL_FUNC_keymgmt_validate_fn keymgmt_validate;

/* gen.c */
void *keymgmt_gen_init(void *provctx, int selection, const OSSL_PARAM params[], enum hsm_key_type type);
OSSL_FUNC_keymgmt_gen_set_template_fn keymgmt_gen_set_template;
OSSL_FUNC_keymgmt_gen_set_params_fn keymgmt_gen_set_params;
OSSL_FUNC_keymgmt_gen_fn keymgmt_gen;
OSSL_FUNC_keymgmt_gen_cleanup_fn keymgmt_gen_cleanup;
/** Entries for the tables that gen_settable_params() answers with. */
#define KEYMGMT_GEN_OWN_PARAMS                                                                               \
    OSSL_PARAM_utf8_string(PROV_PARAM_LABEL, NULL, 0), OSSL_PARAM_utf8_string(PROV_PARAM_ID, NULL, 0),       \
        OSSL_PARAM_utf8_string(PROV_PARAM_USAGE, NULL, 0),                                                   \
        OSSL_PARAM_utf8_string(PROV_PARAM_EXTRACTABLE, NULL, 0),                                             \
        OSSL_PARAM_utf8_string(PROV_PARAM_TOKEN, NULL, 0)

/* gen_soft.c */
/** A key or, without the key pair in @p selection, parameters made by the default provider. NULL: reasons are
 * queued. */
EVP_PKEY *prov_soft_generate(struct prov_ctx *prov, enum hsm_key_type type, int selection,
                             const OSSL_PARAM params[], struct prov_key *template, OSSL_CALLBACK *progress,
                             void *arg);

#endif
