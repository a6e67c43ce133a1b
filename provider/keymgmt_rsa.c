/* SPDX-License-Identifier: Apache-2.0 */
/* RSA keys, and RSA-PSS keys (RFC 4055) with or without restrictions. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "keymgmt.h"

static bool has_params(const struct prov_key *key)
{
    return true; /* restrictions are optional */
}

static bool is_restricted(const struct prov_key *key)
{
    return key->has_pub && key->pub.pss_params.len > 0;
}

/* ---- get ----------------------------------------------------------------------------------------------- */

static int get_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || OSSL_PARAM_set_uint(p, key->kind.bits);
}

static int get_security_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || OSSL_PARAM_set_uint(p, hsm_kind_security_bits(&key->kind));
}

static int get_max_size(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || OSSL_PARAM_set_size_t(p, hsm_kind_signature_max(&key->kind));
}

/* A restricted key has a mandatory digest instead, which is forwarded. */
static int get_default_digest(struct prov_key *key, OSSL_PARAM *p)
{
    return is_restricted(key) || OSSL_PARAM_set_utf8_string(p, "SHA256");
}

static int set_number(OSSL_PARAM *p, struct hsm_bytes number)
{
    BIGNUM *bn = BN_bin2bn(number.ptr, (int)number.len, NULL);
    int ok = bn != NULL && OSSL_PARAM_set_BN(p, bn);

    BN_free(bn);
    return ok;
}

static int get_n(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || set_number(p, key->pub.n);
}

static int get_e(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || set_number(p, key->pub.e);
}

/* Restrictions of an RSA-PSS key: what the default provider reads in its SubjectPublicKeyInfo. */
static int get_restriction(struct prov_key *key, OSSL_PARAM *p)
{
    OSSL_PARAM one[2] = { *p, OSSL_PARAM_construct_end() };
    EVP_PKEY *pub = is_restricted(key) ? prov_key_public(key) : NULL;
    int ok = pub == NULL || EVP_PKEY_get_params(pub, one);

    p->return_size = one[0].return_size;
    return ok;
}

static const struct key_param rsa_params[] = { { OSSL_PKEY_PARAM_BITS, get_bits },
                                               { OSSL_PKEY_PARAM_SECURITY_BITS, get_security_bits },
                                               { OSSL_PKEY_PARAM_MAX_SIZE, get_max_size },
                                               { OSSL_PKEY_PARAM_DEFAULT_DIGEST, get_default_digest },
                                               { OSSL_PKEY_PARAM_RSA_N, get_n },
                                               { OSSL_PKEY_PARAM_RSA_E, get_e },
                                               { OSSL_PKEY_PARAM_MANDATORY_DIGEST, get_restriction },
                                               { OSSL_PKEY_PARAM_RSA_DIGEST, get_restriction },
                                               { OSSL_PKEY_PARAM_RSA_MASKGENFUNC, get_restriction },
                                               { OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, get_restriction },
                                               { OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, get_restriction },
                                               { NULL, NULL } };
static const char *const rsa_forwarded[] = { NULL };
static const char *const rsa_private[] = { OSSL_PKEY_PARAM_RSA_D,
                                           OSSL_PKEY_PARAM_RSA_FACTOR1,
                                           OSSL_PKEY_PARAM_RSA_FACTOR2,
                                           OSSL_PKEY_PARAM_RSA_EXPONENT1,
                                           OSSL_PKEY_PARAM_RSA_EXPONENT2,
                                           OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
                                           NULL };

/* ---- import, export ------------------------------------------------------------------------------------ */

enum { RSA_NUMBER_MAX = 512 };

static bool number_of(const OSSL_PARAM params[], const char *name, uint8_t buf[RSA_NUMBER_MAX],
                      struct hsm_bytes *number)
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, name);
    BIGNUM *bn = NULL;
    bool ok =
        p != NULL && OSSL_PARAM_get_BN(p, &bn) && BN_num_bytes(bn) > 0 && BN_num_bytes(bn) <= RSA_NUMBER_MAX;

    if (ok)
        *number = (struct hsm_bytes){ buf, (size_t)BN_bn2bin(bn, buf) };
    BN_free(bn);
    return ok;
}

static int import_plain(struct prov_key *key, const OSSL_PARAM params[])
{
    struct hsm_pubkey pub = { .kind = { key->type, HSM_CURVE_NONE, 0 } };
    uint8_t n[RSA_NUMBER_MAX], e[RSA_NUMBER_MAX], spki[2 * RSA_NUMBER_MAX + 64];
    struct hsm_buf buf = { .ptr = spki, .cap = sizeof(spki) };

    if (!number_of(params, OSSL_PKEY_PARAM_RSA_N, n, &pub.n) ||
        !number_of(params, OSSL_PKEY_PARAM_RSA_E, e, &pub.e) || hsm_pubkey_encode(&pub, &buf) != HSM_OK)
        return 0;
    return prov_key_set_spki(key, (struct hsm_bytes){ spki, buf.len }) == HSM_OK;
}

/* Restrictions come as five separate parameters with defaults; libcrypto writes their DER. */
static int import_restricted(struct prov_key *key, const OSSL_PARAM params[])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(prov_libctx(key->prov), "RSA-PSS", PROV_DEFAULT);
    EVP_PKEY *pkey = NULL;
    unsigned char *der = NULL;
    int len = -1, ok;

    ERR_set_mark();
    if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) > 0 &&
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)params) > 0)
        len = i2d_PUBKEY(pkey, &der);
    ok = len > 0 && prov_key_set_spki(key, (struct hsm_bytes){ der, (size_t)len }) == HSM_OK;
    ERR_pop_to_mark();
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool names_restrictions(const OSSL_PARAM params[])
{
    return OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_DIGEST) != NULL ||
           OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_MGF1_DIGEST) != NULL ||
           OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_PSS_SALTLEN) != NULL;
}

static int rsa_import(struct prov_key *key, const OSSL_PARAM params[])
{
    if (!names_restrictions(params))
        return import_plain(key, params);
    return key->type == HSM_KEY_RSA_PSS && import_restricted(key, params);
}

static OSSL_PARAM *export_plain(const struct prov_key *key)
{
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(key->pub.n.ptr, (int)key->pub.n.len, NULL);
    BIGNUM *e = BN_bin2bn(key->pub.e.ptr, (int)key->pub.e.len, NULL);
    OSSL_PARAM *params = NULL;

    if (bld != NULL && n != NULL && e != NULL && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e))
        params = OSSL_PARAM_BLD_to_param(bld);
    OSSL_PARAM_BLD_free(bld);
    BN_free(n);
    BN_free(e);
    return params;
}

static OSSL_PARAM *rsa_export(struct prov_key *key, int selection)
{
    OSSL_PARAM *params = NULL;

    if (!key->has_pub || (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return NULL;
    if (!is_restricted(key))
        return export_plain(key);
    if (prov_key_public(key) == NULL ||
        EVP_PKEY_todata(prov_key_public(key), EVP_PKEY_PUBLIC_KEY, &params) <= 0)
        return NULL;
    return params;
}

static int rsa_set_encoded(struct prov_key *key, struct hsm_bytes encoded)
{
    return 0; /* RSA has no such encoding */
}

const struct key_class key_class_rsa = { .params = rsa_params,
                                         .forwarded = rsa_forwarded,
                                         .private_names = rsa_private,
                                         .has_params = has_params,
                                         .import = rsa_import,
                                         .export = rsa_export,
                                         .set_encoded = rsa_set_encoded };

/* ---- the tables ---------------------------------------------------------------------------------------- */

static OSSL_FUNC_keymgmt_new_fn rsa_new;
static void *rsa_new(void *provctx)
{
    return keymgmt_new(provctx, HSM_KEY_RSA);
}

static OSSL_FUNC_keymgmt_new_fn pss_new;
static void *pss_new(void *provctx)
{
    return keymgmt_new(provctx, HSM_KEY_RSA_PSS);
}

static OSSL_FUNC_keymgmt_load_fn rsa_load;
static void *rsa_load(const void *reference, size_t reference_sz)
{
    return keymgmt_load(reference, reference_sz, HSM_KEY_RSA);
}

static OSSL_FUNC_keymgmt_load_fn pss_load;
static void *pss_load(const void *reference, size_t reference_sz)
{
    return keymgmt_load(reference, reference_sz, HSM_KEY_RSA_PSS);
}

static OSSL_FUNC_keymgmt_gen_init_fn rsa_gen_init;
static void *rsa_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
    return keymgmt_gen_init(provctx, selection, params, HSM_KEY_RSA);
}

static OSSL_FUNC_keymgmt_gen_init_fn pss_gen_init;
static void *pss_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
    return keymgmt_gen_init(provctx, selection, params, HSM_KEY_RSA_PSS);
}

#define RSA_GEN_PARAMS                                                                                       \
    OSSL_PARAM_size_t(OSSL_PKEY_PARAM_RSA_BITS, NULL), OSSL_PARAM_size_t(OSSL_PKEY_PARAM_RSA_PRIMES, NULL),  \
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0)

#define PSS_RESTRICTIONS                                                                                     \
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_DIGEST, NULL, 0),                                             \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_MASKGENFUNC, NULL, 0),                                    \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, NULL, 0),                                    \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, NULL)

static OSSL_FUNC_keymgmt_gen_settable_params_fn rsa_gen_settable_params;
static const OSSL_PARAM *rsa_gen_settable_params(void *genctx, void *provctx)
{
    static const OSSL_PARAM table[] = { RSA_GEN_PARAMS, KEYMGMT_GEN_OWN_PARAMS, OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_gen_settable_params_fn pss_gen_settable_params;
static const OSSL_PARAM *pss_gen_settable_params(void *genctx, void *provctx)
{
    static const OSSL_PARAM table[] = { RSA_GEN_PARAMS, PSS_RESTRICTIONS,
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_RSA_DIGEST_PROPS, NULL, 0),
                                        KEYMGMT_GEN_OWN_PARAMS, OSSL_PARAM_END };

    return table;
}

#define RSA_PUBLIC                                                                                           \
    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0), OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0)

#define RSA_GETTABLE                                                                                         \
    OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL), OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),         \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),                                                      \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0), RSA_PUBLIC,                         \
        OSSL_PARAM_utf8_string(PROV_PARAM_URI, NULL, 0)

static OSSL_FUNC_keymgmt_gettable_params_fn rsa_gettable_params;
static const OSSL_PARAM *rsa_gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { RSA_GETTABLE, OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_gettable_params_fn pss_gettable_params;
static const OSSL_PARAM *pss_gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { RSA_GETTABLE, PSS_RESTRICTIONS,
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
                                        OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_import_types_fn rsa_types;
static const OSSL_PARAM *rsa_types(int selection)
{
    static const OSSL_PARAM table[] = { RSA_PUBLIC, OSSL_PARAM_END };

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? table : NULL;
}

static OSSL_FUNC_keymgmt_import_types_fn pss_types;
static const OSSL_PARAM *pss_types(int selection)
{
    static const OSSL_PARAM table[] = { RSA_PUBLIC, PSS_RESTRICTIONS, OSSL_PARAM_END };

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? table : NULL;
}

/* One implementation serves both key types. */
static OSSL_FUNC_keymgmt_query_operation_name_fn rsa_query_operation_name;
static const char *rsa_query_operation_name(int operation_id)
{
    return "RSA";
}

#define RSA_FUNCTIONS(prefix)                                                                                \
    {                                                                                                        \
        { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))prefix##_new },                                             \
            { OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))prefix##_gen_init },                               \
            { OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE, (void (*)(void))keymgmt_gen_set_template },                \
            { OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))keymgmt_gen_set_params },                    \
            { OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))prefix##_gen_settable_params },         \
            { OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))keymgmt_gen },                                          \
            { OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))keymgmt_gen_cleanup },                          \
            { OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))prefix##_load },                                       \
            { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keymgmt_free },                                        \
            { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))keymgmt_get_params },                            \
            { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))prefix##_gettable_params },                 \
            { OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))rsa_query_operation_name },            \
            { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))keymgmt_has },                                          \
            { OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))keymgmt_validate },                                \
            { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))keymgmt_match },                                      \
            { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))keymgmt_import },                                    \
            { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))prefix##_types },                              \
            { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))keymgmt_export },                                    \
            { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))prefix##_types },                              \
            { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))keymgmt_dup },                                          \
        {                                                                                                    \
            0, NULL                                                                                          \
        }                                                                                                    \
    }

const OSSL_DISPATCH prov_rsa_keymgmt_functions[] = RSA_FUNCTIONS(rsa);
const OSSL_DISPATCH prov_rsa_pss_keymgmt_functions[] = RSA_FUNCTIONS(pss);
