/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519, Ed448, X25519, X448 (RFC 8410): no parameters, and the public key is a string of octets. */
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/param_build.h>

#include "keymgmt.h"

static bool can_sign(const struct prov_key *key)
{
    return key->type == HSM_KEY_ED25519 || key->type == HSM_KEY_ED448;
}

static size_t public_len(enum hsm_key_type type)
{
    switch (type) {
    case HSM_KEY_ED448:
        return 57;
    case HSM_KEY_X448:
        return 56;
    default:
        return 32;
    }
}

static bool has_params(const struct prov_key *key)
{
    return true;
}

/* ---- get ----------------------------------------------------------------------------------------------- */

static int get_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_uint(p, key->kind.bits);
}

static int get_security_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_uint(p, hsm_kind_security_bits(&key->kind));
}

/* A signature, or for X25519 and X448 a shared secret, which is as long as a public key. */
static int get_max_size(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_size_t(p,
                                 can_sign(key) ? hsm_kind_signature_max(&key->kind) : public_len(key->type));
}

/* Empty: the message is signed as it is, and no digest may be named. */
static int get_mandatory_digest(struct prov_key *key, OSSL_PARAM *p)
{
    return !can_sign(key) || OSSL_PARAM_set_utf8_string(p, "");
}

static int get_pub(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || OSSL_PARAM_set_octet_string(p, key->pub.point.ptr, key->pub.point.len);
}

static int get_encoded_pub(struct prov_key *key, OSSL_PARAM *p)
{
    return can_sign(key) || get_pub(key, p);
}

static const struct key_param ecx_params[] = { { OSSL_PKEY_PARAM_BITS, get_bits },
                                               { OSSL_PKEY_PARAM_SECURITY_BITS, get_security_bits },
                                               { OSSL_PKEY_PARAM_MAX_SIZE, get_max_size },
                                               { OSSL_PKEY_PARAM_MANDATORY_DIGEST, get_mandatory_digest },
                                               { OSSL_PKEY_PARAM_PUB_KEY, get_pub },
                                               { OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, get_encoded_pub },
                                               { NULL, NULL } };
static const char *const ecx_forwarded[] = { NULL };
static const char *const ecx_private[] = { OSSL_PKEY_PARAM_PRIV_KEY, NULL };

/* ---- import, export ------------------------------------------------------------------------------------ */

static int set_public(struct prov_key *key, struct hsm_bytes octets)
{
    struct hsm_pubkey pub = { .kind = key->kind, .point = octets };
    uint8_t spki[128];
    struct hsm_buf buf = { .ptr = spki, .cap = sizeof(spki) };

    if (octets.len != public_len(key->type) || hsm_pubkey_encode(&pub, &buf) != HSM_OK)
        return 0;
    return prov_key_set_spki(key, (struct hsm_bytes){ spki, buf.len }) == HSM_OK;
}

static int ecx_import(struct prov_key *key, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
    const void *octets;
    size_t len;

    return p != NULL && OSSL_PARAM_get_octet_string_ptr(p, &octets, &len) &&
           set_public(key, (struct hsm_bytes){ octets, len });
}

static OSSL_PARAM *ecx_export(struct prov_key *key, int selection)
{
    OSSL_PARAM_BLD *bld;
    OSSL_PARAM *params = NULL;

    if (!key->has_pub || (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0 ||
        (bld = OSSL_PARAM_BLD_new()) == NULL)
        return NULL;
    if (OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, key->pub.point.ptr,
                                         key->pub.point.len))
        params = OSSL_PARAM_BLD_to_param(bld);
    OSSL_PARAM_BLD_free(bld);
    return params;
}

const struct key_class key_class_ecx = { .params = ecx_params,
                                         .forwarded = ecx_forwarded,
                                         .private_names = ecx_private,
                                         .has_params = has_params,
                                         .import = ecx_import,
                                         .export = ecx_export,
                                         .set_encoded = set_public };

/* ---- the tables ---------------------------------------------------------------------------------------- */

static OSSL_FUNC_keymgmt_gen_settable_params_fn ecx_gen_settable_params;
static const OSSL_PARAM *ecx_gen_settable_params(void *genctx, void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                        KEYMGMT_GEN_OWN_PARAMS, OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_gettable_params_fn ed_gettable_params;
static const OSSL_PARAM *ed_gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                        OSSL_PARAM_utf8_string(PROV_PARAM_URI, NULL, 0),
                                        OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_gettable_params_fn x_gettable_params;
static const OSSL_PARAM *x_gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
                                        OSSL_PARAM_utf8_string(PROV_PARAM_URI, NULL, 0),
                                        OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_import_types_fn ecx_types;
static const OSSL_PARAM *ecx_types(int selection)
{
    static const OSSL_PARAM public_key[] = { OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                             OSSL_PARAM_END };

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? public_key : NULL;
}

/* Everything per type: the four functions that must know it, and the table. A key exchange with an Ed key, or
 * a signature with an X key, has no name. */
#define ECX_TYPE(prefix, TYPE, gettable, OPERATION, operation_name)                                          \
    static OSSL_FUNC_keymgmt_new_fn prefix##_new;                                                            \
    static void *prefix##_new(void *provctx)                                                                 \
    {                                                                                                        \
        return keymgmt_new(provctx, TYPE);                                                                   \
    }                                                                                                        \
                                                                                                             \
    static OSSL_FUNC_keymgmt_load_fn prefix##_load;                                                          \
    static void *prefix##_load(const void *reference, size_t reference_sz)                                   \
    {                                                                                                        \
        return keymgmt_load(reference, reference_sz, TYPE);                                                  \
    }                                                                                                        \
                                                                                                             \
    static OSSL_FUNC_keymgmt_gen_init_fn prefix##_gen_init;                                                  \
    static void *prefix##_gen_init(void *provctx, int selection, const OSSL_PARAM params[])                  \
    {                                                                                                        \
        return keymgmt_gen_init(provctx, selection, params, TYPE);                                           \
    }                                                                                                        \
                                                                                                             \
    static OSSL_FUNC_keymgmt_query_operation_name_fn prefix##_query_operation_name;                          \
    static const char *prefix##_query_operation_name(int operation_id)                                       \
    {                                                                                                        \
        return operation_id == (OPERATION) ? (operation_name) : NULL;                                        \
    }                                                                                                        \
                                                                                                             \
    const OSSL_DISPATCH prov_##prefix##_keymgmt_functions[] = {                                              \
        { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))prefix##_new },                                             \
        { OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))prefix##_gen_init },                                   \
        { OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE, (void (*)(void))keymgmt_gen_set_template },                    \
        { OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))keymgmt_gen_set_params },                        \
        { OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))ecx_gen_settable_params },                  \
        { OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))keymgmt_gen },                                              \
        { OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))keymgmt_gen_cleanup },                              \
        { OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))prefix##_load },                                           \
        { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keymgmt_free },                                            \
        { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))keymgmt_get_params },                                \
        { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))gettable },                                     \
        { OSSL_FUNC_KEYMGMT_SET_PARAMS, (void (*)(void))keymgmt_set_params },                                \
        { OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, (void (*)(void))keymgmt_settable_params },                      \
        { OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))prefix##_query_operation_name },           \
        { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))keymgmt_has },                                              \
        { OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))keymgmt_validate },                                    \
        { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))keymgmt_match },                                          \
        { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))keymgmt_import },                                        \
        { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))ecx_types },                                       \
        { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))keymgmt_export },                                        \
        { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))ecx_types },                                       \
        { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))keymgmt_dup },                                              \
        { 0, NULL }                                                                                          \
    }

ECX_TYPE(ed25519, HSM_KEY_ED25519, ed_gettable_params, OSSL_OP_SIGNATURE, PROV_NAME_ED25519_SIGNATURE);
ECX_TYPE(ed448, HSM_KEY_ED448, ed_gettable_params, OSSL_OP_SIGNATURE, PROV_NAME_ED448_SIGNATURE);
ECX_TYPE(x25519, HSM_KEY_X25519, x_gettable_params, OSSL_OP_KEYEXCH, "X25519");
ECX_TYPE(x448, HSM_KEY_X448, x_gettable_params, OSSL_OP_KEYEXCH, "X448");
