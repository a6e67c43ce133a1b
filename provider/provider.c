/* SPDX-License-Identifier: Apache-2.0 */
/* OSSL_provider_init, the constant tables, teardown. No global state, and no I/O but for configuration files.
 */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "keymgmt.h"

/* Names and aliases of the default provider: EVP_PKEY_get_id(), EVP_PKEY_is_a() and libssl decide by them. */
#define NAMES_RSA     "RSA:rsaEncryption:1.2.840.113549.1.1.1"
#define NAMES_RSA_PSS "RSA-PSS:RSASSA-PSS:1.2.840.113549.1.1.10"
#define NAMES_EC      "EC:id-ecPublicKey:1.2.840.10045.2.1"
#define NAMES_ED25519 "ED25519:1.3.101.112"
#define NAMES_ED448   "ED448:1.3.101.113"
#define NAMES_X25519  "X25519:1.3.101.110"
#define NAMES_X448    "X448:1.3.101.111"

#define PROPERTY        "provider=hsm"
#define PROPERTY_DER    "provider=hsm,input=der,structure=hsm-reference"
#define PROPERTY_TO_PEM "provider=hsm,output=pem,structure=PrivateKeyInfo"
#define PROPERTY_TO_PEM_EC                                                                                   \
    "provider=hsm,output=pem,structure=type-specific" /* what `openssl ec` asks for                          \
                                                       */
#define PROPERTY_TO_DER  "provider=hsm,output=der,structure=hsm-reference"
#define PROPERTY_TO_TEXT "provider=hsm,output=text"

static const OSSL_ALGORITHM keymgmt_table[] = {
    { NAMES_RSA, PROPERTY, prov_rsa_keymgmt_functions, "RSA key in a token" },
    { NAMES_RSA_PSS, PROPERTY, prov_rsa_pss_keymgmt_functions, "RSA-PSS key in a token" },
    { NAMES_EC, PROPERTY, prov_ec_keymgmt_functions, "EC key in a token" },
    { NAMES_ED25519, PROPERTY, prov_ed25519_keymgmt_functions, "Ed25519 key in a token" },
    { NAMES_ED448, PROPERTY, prov_ed448_keymgmt_functions, "Ed448 key in a token" },
    { NAMES_X25519, PROPERTY, prov_x25519_keymgmt_functions, "X25519 key in a token" },
    { NAMES_X448, PROPERTY, prov_x448_keymgmt_functions, "X448 key in a token" },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM signature_table[] = {
    { NAMES_RSA, PROPERTY, prov_rsa_signature_functions, "RSA signature by a token" },
    { "ECDSA", PROPERTY, prov_ecdsa_signature_functions, "ECDSA signature by a token" },
    { PROV_NAME_ED25519_SIGNATURE, PROPERTY, prov_eddsa25519_signature_functions,
      "Ed25519 signature by a token" },
    { PROV_NAME_ED448_SIGNATURE, PROPERTY, prov_eddsa448_signature_functions, "Ed448 signature by a token" },
    { NAMES_ED25519, PROPERTY, prov_eddsa25519_signature_functions, "Ed25519 signature by a token" },
    { NAMES_ED448, PROPERTY, prov_eddsa448_signature_functions, "Ed448 signature by a token" },
    { NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM decoder_table[] = {
    { "DER", "provider=hsm,input=pem", prov_pem_decoder_functions, "PEM key reference" },
    { NAMES_RSA, PROPERTY_DER, prov_rsa_decoder_functions, "reference to an RSA key" },
    { NAMES_RSA_PSS, PROPERTY_DER, prov_rsa_pss_decoder_functions, "reference to an RSA-PSS key" },
    { NAMES_EC, PROPERTY_DER, prov_ec_decoder_functions, "reference to an EC key" },
    { NAMES_ED25519, PROPERTY_DER, prov_ed25519_decoder_functions, "reference to an Ed25519 key" },
    { NAMES_ED448, PROPERTY_DER, prov_ed448_decoder_functions, "reference to an Ed448 key" },
    { NAMES_X25519, PROPERTY_DER, prov_x25519_decoder_functions, "reference to an X25519 key" },
    { NAMES_X448, PROPERTY_DER, prov_x448_decoder_functions, "reference to an X448 key" },
    { NULL, NULL, NULL, NULL }
};

#define ENCODERS(names)                                                                                      \
    { names, PROPERTY_TO_PEM, prov_pem_encoder_functions, "key reference as PEM" },                          \
        { names, PROPERTY_TO_DER, prov_der_encoder_functions, "key reference as DER" },                      \
    {                                                                                                        \
        names, PROPERTY_TO_TEXT, prov_text_encoder_functions, "key reference as text"                        \
    }

static const OSSL_ALGORITHM encoder_table[] = { ENCODERS(NAMES_RSA),
                                                ENCODERS(NAMES_RSA_PSS),
                                                ENCODERS(NAMES_EC),
                                                { NAMES_EC, PROPERTY_TO_PEM_EC, prov_pem_encoder_functions,
                                                  "key reference as PEM" },
                                                ENCODERS(NAMES_ED25519),
                                                ENCODERS(NAMES_ED448),
                                                ENCODERS(NAMES_X25519),
                                                ENCODERS(NAMES_X448),
                                                { NULL, NULL, NULL, NULL } };

static const OSSL_ALGORITHM store_table[] = {
    { "hsm", PROPERTY, prov_store_functions, "objects of a token by URI" }, { NULL, NULL, NULL, NULL }
};

/* Scheme names are not split at ':' as other names are: one entry each. */
static const OSSL_ALGORITHM store_table_with_alias[] = {
    { "hsm", PROPERTY, prov_store_functions, "objects of a token by URI" },
    { "pkcs11", PROPERTY, prov_store_functions, "objects of a token by URI" },
    { NULL, NULL, NULL, NULL }
};

static OSSL_FUNC_provider_query_operation_fn query_operation;
static const OSSL_ALGORITHM *query_operation(void *provctx, int operation_id, int *no_cache)
{
    const struct prov_ctx *prov = provctx;

    *no_cache = 0;
    switch (operation_id) {
    case OSSL_OP_KEYMGMT:
        return keymgmt_table;
    case OSSL_OP_SIGNATURE:
        return signature_table;
    case OSSL_OP_DECODER:
        return decoder_table;
    case OSSL_OP_ENCODER:
        return encoder_table;
    case OSSL_OP_STORE:
        return prov->alias_pkcs11 ? store_table_with_alias : store_table;
    default:
        return NULL;
    }
}

static OSSL_FUNC_provider_gettable_params_fn gettable_params;
static const OSSL_PARAM *gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
                                        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
                                        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_BUILDINFO, NULL, 0),
                                        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL), OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_provider_get_params_fn get_params;
static int get_params(void *provctx, OSSL_PARAM params[])
{
    OSSL_PARAM *p;

    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME)) != NULL && !OSSL_PARAM_set_utf8_ptr(p, "hsm"))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_VERSION)) != NULL &&
        !OSSL_PARAM_set_utf8_ptr(p, HSM_VERSION))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_BUILDINFO)) != NULL &&
        !OSSL_PARAM_set_utf8_ptr(p, "hsm " HSM_VERSION " for OpenSSL " OPENSSL_VERSION_STR))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS)) != NULL && !OSSL_PARAM_set_int(p, 1))
        return 0;
    return 1;
}

static OSSL_FUNC_provider_get_reason_strings_fn get_reason_strings;
static const OSSL_ITEM *get_reason_strings(void *provctx)
{
    return prov_reason_strings;
}

static OSSL_FUNC_provider_teardown_fn teardown;
static void teardown(void *provctx)
{
    struct prov_ctx *prov = provctx;
    size_t i;

    for (i = 0; i < HSM_HASH_COUNT; i++)
        EVP_MD_free(atomic_load(&prov->md[i]));
    hsm_ctx_free(prov->hsm); /* knows whether this process is the one that opened the tokens */
    hsm_ctx_free(prov->spare);
    OSSL_LIB_CTX_free(atomic_load(&prov->own_libctx));
    free(prov);
}

static const OSSL_DISPATCH provider_functions[] = {
    { OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown },
    { OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable_params },
    { OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params },
    { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation },
    { OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, (void (*)(void))get_reason_strings },
    { OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))prov_get_capabilities },
    { 0, NULL }
};

static void collect_upcalls(struct prov_upcalls *up, const OSSL_DISPATCH *in)
{
    for (; in != NULL && in->function_id != 0; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_CORE_GET_PARAMS:
            up->get_params = OSSL_FUNC_core_get_params(in);
            break;
        case OSSL_FUNC_CORE_GET_LIBCTX:
            up->get_libctx = OSSL_FUNC_core_get_libctx(in);
            break;
        case OSSL_FUNC_CORE_NEW_ERROR:
            up->new_error = OSSL_FUNC_core_new_error(in);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            up->set_error_debug = OSSL_FUNC_core_set_error_debug(in);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            up->vset_error = OSSL_FUNC_core_vset_error(in);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_MARK:
            up->set_error_mark = OSSL_FUNC_core_set_error_mark(in);
            break;
        case OSSL_FUNC_CORE_CLEAR_LAST_ERROR_MARK:
            up->clear_last_error_mark = OSSL_FUNC_core_clear_last_error_mark(in);
            break;
        case OSSL_FUNC_CORE_POP_ERROR_TO_MARK:
            up->pop_error_to_mark = OSSL_FUNC_core_pop_error_to_mark(in);
            break;
        case OSSL_FUNC_BIO_READ_EX:
            up->bio_read_ex = OSSL_FUNC_BIO_read_ex(in);
            break;
        case OSSL_FUNC_BIO_WRITE_EX:
            up->bio_write_ex = OSSL_FUNC_BIO_write_ex(in);
            break;
        case OSSL_FUNC_BIO_GETS:
            up->bio_gets = OSSL_FUNC_BIO_gets(in);
            break;
        default:
            break; /* newer cores offer more */
        }
    }
}

/* The libcrypto that runs, not the one we were built with: "3.0.19" is 0x030000. */
static unsigned core_version(struct prov_ctx *prov)
{
    char *text = NULL;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_CORE_VERSION, &text, 0),
                            OSSL_PARAM_construct_end() };
    unsigned major = 3, minor = 0;

    if (prov->up.get_params == NULL || !prov->up.get_params(prov->handle, params) || text == NULL ||
        sscanf(text, "%u.%u", &major, &minor) != 2)
        return 0x030000;
    return major << 16 | minor << 8;
}

OSSL_provider_init_fn OSSL_provider_init;
__attribute__((visibility("default"))) int OSSL_provider_init(const OSSL_CORE_HANDLE *handle,
                                                              const OSSL_DISPATCH *in,
                                                              const OSSL_DISPATCH **out, void **provctx)
{
    struct prov_ctx *prov = calloc(1, sizeof(*prov));

    if (prov == NULL)
        return 0;
    prov->handle = handle;
    collect_upcalls(&prov->up, in);
    prov->version = core_version(prov);
    prov_configure(prov);
    *provctx = prov;
    *out = provider_functions;
    return 1;
}
