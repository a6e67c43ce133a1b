/* SPDX-License-Identifier: Apache-2.0 */
/* EC keys on named curves. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>
#include <openssl/param_build.h>

#include "keymgmt.h"

static bool has_params(const struct prov_key *key)
{
    return key->kind.curve != HSM_CURVE_NONE;
}

/* ---- get ----------------------------------------------------------------------------------------------- */

static int get_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return !has_params(key) || OSSL_PARAM_set_uint(p, key->kind.bits);
}

static int get_security_bits(struct prov_key *key, OSSL_PARAM *p)
{
    return !has_params(key) || OSSL_PARAM_set_uint(p, hsm_kind_security_bits(&key->kind));
}

static int get_max_size(struct prov_key *key, OSSL_PARAM *p)
{
    return !has_params(key) || OSSL_PARAM_set_size_t(p, hsm_kind_signature_max(&key->kind));
}

static int get_default_digest(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_utf8_string(p, "SHA256");
}

static int get_group(struct prov_key *key, OSSL_PARAM *p)
{
    return !has_params(key) || OSSL_PARAM_set_utf8_string(p, hsm_curve_info(key->kind.curve)->group_name);
}

static int get_encoding(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_utf8_string(p, OSSL_PKEY_EC_ENCODING_GROUP);
}

static int get_point_format(struct prov_key *key, OSSL_PARAM *p)
{
    bool compressed = key->has_pub && key->pub.point.ptr[0] != POINT_CONVERSION_UNCOMPRESSED;

    return OSSL_PARAM_set_utf8_string(p, compressed ? OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_COMPRESSED
                                                    : OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED);
}

static int get_zero(struct prov_key *key, OSSL_PARAM *p)
{
    return OSSL_PARAM_set_int(p, 0);
}

static int get_pub(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || OSSL_PARAM_set_octet_string(p, key->pub.point.ptr, key->pub.point.len);
}

static bool is_uncompressed(const struct prov_key *key)
{
    return key->pub.point.ptr[0] == POINT_CONVERSION_UNCOMPRESSED;
}

/* TLS wants the uncompressed form; the square root is libcrypto's business. */
static int get_from_public(struct prov_key *key, OSSL_PARAM *p)
{
    OSSL_PARAM one[2] = { *p, OSSL_PARAM_construct_end() };
    EVP_PKEY *pub = prov_key_public(key);
    int ok = pub != NULL && EVP_PKEY_get_params(pub, one);

    p->return_size = one[0].return_size;
    return ok;
}

static int get_encoded_pub(struct prov_key *key, OSSL_PARAM *p)
{
    if (!key->has_pub)
        return 1;
    return is_uncompressed(key) ? get_pub(key, p) : get_from_public(key, p);
}

static int set_coordinate(OSSL_PARAM *p, const uint8_t *octets, size_t len)
{
    BIGNUM *bn = BN_bin2bn(octets, (int)len, NULL);
    int ok = bn != NULL && OSSL_PARAM_set_BN(p, bn);

    BN_free(bn);
    return ok;
}

static int get_qx(struct prov_key *key, OSSL_PARAM *p)
{
    return !key->has_pub || set_coordinate(p, key->pub.point.ptr + 1, (key->kind.bits + 7) / 8);
}

static int get_qy(struct prov_key *key, OSSL_PARAM *p)
{
    size_t field_len = (key->kind.bits + 7) / 8;

    if (!key->has_pub)
        return 1;
    return is_uncompressed(key) ? set_coordinate(p, key->pub.point.ptr + 1 + field_len, field_len)
                                : get_from_public(key, p);
}

static const struct key_param ec_params[] = { { OSSL_PKEY_PARAM_BITS, get_bits },
                                              { OSSL_PKEY_PARAM_SECURITY_BITS, get_security_bits },
                                              { OSSL_PKEY_PARAM_MAX_SIZE, get_max_size },
                                              { OSSL_PKEY_PARAM_GROUP_NAME, get_group },
                                              { OSSL_PKEY_PARAM_DEFAULT_DIGEST, get_default_digest },
                                              { OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, get_encoded_pub },
                                              { OSSL_PKEY_PARAM_PUB_KEY, get_pub },
                                              { OSSL_PKEY_PARAM_EC_PUB_X, get_qx },
                                              { OSSL_PKEY_PARAM_EC_PUB_Y, get_qy },
                                              { OSSL_PKEY_PARAM_EC_ENCODING, get_encoding },
                                              { OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                                get_point_format },
                                              { OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, get_zero },
                                              { OSSL_PKEY_PARAM_USE_COFACTOR_ECDH, get_zero },
                                              { NULL, NULL } };

static const char *const ec_forwarded[] = {
    OSSL_PKEY_PARAM_EC_FIELD_TYPE, OSSL_PKEY_PARAM_EC_P,         OSSL_PKEY_PARAM_EC_A,
    OSSL_PKEY_PARAM_EC_B,          OSSL_PKEY_PARAM_EC_GENERATOR, OSSL_PKEY_PARAM_EC_ORDER,
    OSSL_PKEY_PARAM_EC_COFACTOR,   OSSL_PKEY_PARAM_EC_SEED,      NULL
};
static const char *const ec_private[] = { OSSL_PKEY_PARAM_PRIV_KEY, NULL };

/* ---- import, export ------------------------------------------------------------------------------------ */

/* Text of either string type, NUL-terminated. */
static bool text_of(const OSSL_PARAM *p, char *buf, size_t buf_len)
{
    char *end = buf;
    const char *ptr;

    if (p->data_type != OSSL_PARAM_UTF8_PTR)
        return OSSL_PARAM_get_utf8_string(p, &end, buf_len);
    if (!OSSL_PARAM_get_utf8_ptr(p, &ptr) || strlen(ptr) >= buf_len)
        return false;
    memcpy(buf, ptr, strlen(ptr) + 1);
    return true;
}

/* Explicit curve parameters would be lost in our form of the key, even if a name comes with them. */
static bool is_explicit(const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_EC_ENCODING);
    char encoding[32];

    return p != NULL &&
           (!text_of(p, encoding, sizeof(encoding)) || strcmp(encoding, OSSL_PKEY_EC_ENCODING_GROUP) != 0);
}

static const struct hsm_curve_info *curve_of(const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
    char name[64];

    if (p == NULL || is_explicit(params) || !text_of(p, name, sizeof(name)))
        return NULL;
    return hsm_curve_by_name(name);
}

static int set_point(struct prov_key *key, struct hsm_bytes point)
{
    struct hsm_pubkey pub = { .kind = key->kind, .point = point };
    uint8_t spki[256];
    struct hsm_buf buf = { .ptr = spki, .cap = sizeof(spki) };

    if (point.len == 0 || point.len > HSM_POINT_MAX || hsm_pubkey_encode(&pub, &buf) != HSM_OK)
        return 0;
    return prov_key_set_spki(key, (struct hsm_bytes){ spki, buf.len }) == HSM_OK;
}

static int ec_import(struct prov_key *key, const OSSL_PARAM params[])
{
    const struct hsm_curve_info *curve = curve_of(params);
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
    const void *point;
    size_t len;

    if (curve == NULL)
        return 0;
    key->kind = (struct hsm_key_kind){ HSM_KEY_EC, curve->curve, curve->bits };
    if (p == NULL)
        return 1;
    return OSSL_PARAM_get_octet_string_ptr(p, &point, &len) &&
           set_point(key, (struct hsm_bytes){ point, len });
}

static OSSL_PARAM *ec_export(struct prov_key *key, int selection)
{
    OSSL_PARAM_BLD *bld;
    OSSL_PARAM *params = NULL;
    bool ok;

    if (!has_params(key) || (bld = OSSL_PARAM_BLD_new()) == NULL)
        return NULL;
    ok = OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
                                         hsm_curve_info(key->kind.curve)->group_name, 0);
    if (ok && key->has_pub && (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        ok = OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, key->pub.point.ptr,
                                              key->pub.point.len);
    if (ok)
        params = OSSL_PARAM_BLD_to_param(bld);
    OSSL_PARAM_BLD_free(bld);
    return params;
}

static int ec_set_encoded(struct prov_key *key, struct hsm_bytes encoded)
{
    return has_params(key) && set_point(key, encoded);
}

const struct key_class key_class_ec = { .params = ec_params,
                                        .forwarded = ec_forwarded,
                                        .private_names = ec_private,
                                        .has_params = has_params,
                                        .import = ec_import,
                                        .export = ec_export,
                                        .set_encoded = ec_set_encoded };

/* ---- the table ----------------------------------------------------------------------------------------- */

static OSSL_FUNC_keymgmt_new_fn ec_new;
static void *ec_new(void *provctx)
{
    return keymgmt_new(provctx, HSM_KEY_EC);
}

static OSSL_FUNC_keymgmt_load_fn ec_load;
static void *ec_load(const void *reference, size_t reference_sz)
{
    return keymgmt_load(reference, reference_sz, HSM_KEY_EC);
}

static OSSL_FUNC_keymgmt_gen_init_fn ec_gen_init;
static void *ec_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
    return keymgmt_gen_init(provctx, selection, params, HSM_KEY_EC);
}

static OSSL_FUNC_keymgmt_gen_settable_params_fn ec_gen_settable_params;
static const OSSL_PARAM *ec_gen_settable_params(void *genctx, void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_USE_COFACTOR_ECDH, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                                               NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_FIELD_TYPE, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_P, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_A, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_B, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_GENERATOR, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_ORDER, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_COFACTOR, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_SEED, NULL, 0),
                                        KEYMGMT_GEN_OWN_PARAMS,
                                        OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_gettable_params_fn ec_gettable_params;
static const OSSL_PARAM *ec_gettable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                                               NULL, 0),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, NULL),
                                        OSSL_PARAM_int(OSSL_PKEY_PARAM_USE_COFACTOR_ECDH, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_FIELD_TYPE, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_P, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_A, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_B, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_GENERATOR, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_ORDER, NULL, 0),
                                        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_COFACTOR, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_EC_SEED, NULL, 0),
                                        OSSL_PARAM_utf8_string(PROV_PARAM_URI, NULL, 0),
                                        OSSL_PARAM_END };

    return table;
}

static OSSL_FUNC_keymgmt_import_types_fn ec_types;
static const OSSL_PARAM *ec_types(int selection)
{
    static const OSSL_PARAM parameters[] = { OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                             OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
                                             OSSL_PARAM_END };
    static const OSSL_PARAM public_key[] = { OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                             OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
                                             OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
                                             OSSL_PARAM_END };

    return (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 ? public_key : parameters;
}

/* Without it, an operation would be looked for under the name of the key type. */
static OSSL_FUNC_keymgmt_query_operation_name_fn ec_query_operation_name;
static const char *ec_query_operation_name(int operation_id)
{
    switch (operation_id) {
    case OSSL_OP_SIGNATURE:
        return "ECDSA";
    case OSSL_OP_KEYEXCH:
        return "ECDH";
    default:
        return NULL;
    }
}

const OSSL_DISPATCH prov_ec_keymgmt_functions[] = {
    { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))ec_new },
    { OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))ec_gen_init },
    { OSSL_FUNC_KEYMGMT_GEN_SET_TEMPLATE, (void (*)(void))keymgmt_gen_set_template },
    { OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, (void (*)(void))keymgmt_gen_set_params },
    { OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, (void (*)(void))ec_gen_settable_params },
    { OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))keymgmt_gen },
    { OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))keymgmt_gen_cleanup },
    { OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))ec_load },
    { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keymgmt_free },
    { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))keymgmt_get_params },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))ec_gettable_params },
    { OSSL_FUNC_KEYMGMT_SET_PARAMS, (void (*)(void))keymgmt_set_params },
    { OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, (void (*)(void))keymgmt_settable_params },
    { OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))ec_query_operation_name },
    { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))keymgmt_has },
    { OSSL_FUNC_KEYMGMT_VALIDATE, (void (*)(void))keymgmt_validate },
    { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))keymgmt_match },
    { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))keymgmt_import },
    { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))ec_types },
    { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))keymgmt_export },
    { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))ec_types },
    { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))keymgmt_dup },
    { 0, NULL }
};
