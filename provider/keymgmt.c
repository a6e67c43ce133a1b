/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key management that is the same for every type. A volatile key (soft != NULL) is answered for by the
 * default provider; everything else from the public part in the key object, without touching the token.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>

#include "keymgmt.h"

void *keymgmt_new(void *provctx, enum hsm_key_type type)
{
    return prov_key_new(provctx, type);
}

void *keymgmt_load(const void *reference, size_t reference_sz, enum hsm_key_type type)
{
    return prov_key_take_reference(reference, reference_sz, type);
}

void keymgmt_free(void *vkey)
{
    prov_key_free(vkey);
}

static bool is_private(const struct prov_key *key)
{
    return key->key != NULL || key->soft_private;
}

static bool is_public(const struct prov_key *key)
{
    return key->has_pub || key->soft_private;
}

int keymgmt_has(const void *vkey, int selection)
{
    const struct prov_key *key = vkey;
    bool ok = key != NULL;

    if (ok && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        ok = is_private(key);
    if (ok && (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0)
        ok = is_public(key);
    if (ok && (selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) != 0)
        ok = key->soft != NULL || key_class_of(key->type)->has_params(key);
    return ok;
}

/* ---- match --------------------------------------------------------------------------------------------- */

/* A kind that only the default provider knows, on one side or both. */
static bool match_soft(struct prov_key *a, struct prov_key *b, int selection)
{
    EVP_PKEY *pa = prov_key_public(a), *pb = prov_key_public(b);
    bool ok = pa != NULL && pb != NULL;

    ERR_set_mark();
    if (ok && (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        ok = is_public(a) && is_public(b) && EVP_PKEY_eq(pa, pb) == 1;
    else if (ok && (selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) != 0)
        ok = EVP_PKEY_parameters_eq(pa, pb) == 1;
    ERR_pop_to_mark();
    return ok;
}

int keymgmt_match(const void *va, const void *vb, int selection)
{
    struct prov_key *a = (struct prov_key *)va, *b = (struct prov_key *)vb; /* only their cache changes */

    if (a->type != b->type)
        return 0;
    if ((a->soft != NULL && !a->has_pub) || (b->soft != NULL && !b->has_pub))
        return match_soft(a, b, selection);
    if ((selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) != 0 && a->type == HSM_KEY_EC &&
        (a->kind.curve == HSM_CURVE_NONE || a->kind.curve != b->kind.curve))
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        return a->has_pub && b->has_pub && hsm_pubkey_equal(&a->pub, &b->pub);
    return 1;
}

/* ---- parameters ---------------------------------------------------------------------------------------- */

static const struct key_param *find_param(const struct key_param *table, const char *name)
{
    for (; table->name != NULL; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

static bool is_listed(const char *const *names, const char *name)
{
    for (; *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static int get_uri(struct prov_key *key, OSSL_PARAM *p)
{
    struct hsm_key *token_key = key->key != NULL ? key->key : atomic_load(&key->saved);
    char text[HSM_URI_MAX];
    struct hsm_buf buf = { .ptr = (uint8_t *)text, .cap = sizeof(text) };

    if (token_key == NULL)
        return 1;
    return hsm_uri_format(hsm_key_uri(token_key), &buf) == HSM_OK && OSSL_PARAM_set_utf8_string(p, text);
}

/* Facts of curves and restrictions that no TLS handshake asks for: the default provider knows them by heart.
 */
static int get_forwarded(struct prov_key *key, OSSL_PARAM *p)
{
    OSSL_PARAM one[2] = { *p, OSSL_PARAM_construct_end() };
    EVP_PKEY *pub = prov_key_public(key);
    int ok;

    if (pub == NULL)
        return 1;
    ok = EVP_PKEY_get_params(pub, one);
    p->return_size = one[0].return_size;
    return ok;
}

int keymgmt_get_params(void *vkey, OSSL_PARAM params[])
{
    struct prov_key *key = vkey;
    const struct key_class *class = key_class_of(key->type);
    const struct key_param *param;
    OSSL_PARAM *p;
    int ok = key->soft == NULL || EVP_PKEY_get_params(key->soft, params);

    for (p = params; ok && p != NULL && p->key != NULL; p++) {
        if (strcmp(p->key, PROV_PARAM_URI) == 0)
            ok = get_uri(key, p);
        else if (key->soft != NULL)
            continue;
        else if ((param = find_param(class->params, p->key)) != NULL)
            ok = param->get(key, p);
        else if (is_listed(class->forwarded, p->key))
            ok = get_forwarded(key, p);
    }
    return ok;
}

const OSSL_PARAM *keymgmt_settable_params(void *provctx)
{
    static const OSSL_PARAM table[] = { OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
                                        OSSL_PARAM_END };

    return table;
}

/* The key share of a TLS or CMS peer. A token key keeps the public key that belongs to its private one. */
int keymgmt_set_params(void *vkey, const OSSL_PARAM params[])
{
    struct prov_key *key = vkey;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
    const void *octets;
    size_t len;

    if (p == NULL)
        return 1;
    if (is_private(key))
        return prov_fail(key->prov, HSM_ERR_ARGUMENT, "the public key of a key pair cannot be replaced");
    if (!OSSL_PARAM_get_octet_string_ptr(p, &octets, &len))
        return 0;
    if (key->soft != NULL)
        return EVP_PKEY_set1_encoded_public_key(key->soft, octets, len);
    return key_class_of(key->type)->set_encoded(key, (struct hsm_bytes){ octets, len });
}

/* ---- import and export --------------------------------------------------------------------------------- */

/*
 * Public keys and parameters come in, whatever the selection says. Private keys do not, and silently:
 * libcrypto then lets the provider that has the key do the work, which is what its owner wants. Import into a
 * token is hsmctl's.
 */
int keymgmt_import(void *vkey, int selection, const OSSL_PARAM params[])
{
    struct prov_key *key = vkey;
    const struct key_class *class = key_class_of(key->type);
    const OSSL_PARAM *p;

    if (key->key != NULL || key->soft != NULL)
        return 0;
    for (p = params; p != NULL && p->key != NULL; p++)
        if (is_listed(class->private_names, p->key))
            return 0;
    return class->import(key, params);
}

static void free_secret_params(OSSL_PARAM *params)
{
    OSSL_PARAM *p;

    for (p = params; p != NULL && p->key != NULL; p++)
        if (p->data_type == OSSL_PARAM_OCTET_STRING || p->data_type == OSSL_PARAM_UNSIGNED_INTEGER)
            OPENSSL_cleanse(p->data, p->data_size);
    OSSL_PARAM_free(params);
}

static int export_soft(struct prov_key *key, int selection, OSSL_CALLBACK *cb, void *arg)
{
    OSSL_PARAM *params = NULL;
    int ok = EVP_PKEY_todata(key->soft, selection, &params) > 0 && cb(params, arg);

    free_secret_params(params);
    return ok;
}

int keymgmt_export(void *vkey, int selection, OSSL_CALLBACK *cb, void *arg)
{
    struct prov_key *key = vkey;
    OSSL_PARAM *params;
    int ok;

    if (key->soft != NULL)
        return export_soft(key, selection, cb, arg);
    /* No error entry: this is how libcrypto asks, for each operation, whether another provider could do it.
     */
    if (key->key != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return 0;
    if ((params = key_class_of(key->type)->export(key, selection)) == NULL)
        return 0;
    ok = cb(params, arg);
    OSSL_PARAM_free(params);
    return ok;
}

/* ---- dup ----------------------------------------------------------------------------------------------- */

static EVP_PKEY *copy_soft(const struct prov_key *key, int selection)
{
    EVP_PKEY_CTX *ctx = NULL;
    EVP_PKEY *copy = NULL;
    OSSL_PARAM *params = NULL;

    if (EVP_PKEY_todata(key->soft, selection, &params) <= 0 ||
        (ctx = EVP_PKEY_CTX_new_from_pkey(prov_libctx(key->prov), key->soft, PROV_DEFAULT)) == NULL ||
        EVP_PKEY_fromdata_init(ctx) <= 0 || EVP_PKEY_fromdata(ctx, &copy, selection, params) <= 0)
        copy = NULL;
    EVP_PKEY_CTX_free(ctx);
    free_secret_params(params);
    return copy;
}

static bool dup_soft(struct prov_key *copy, const struct prov_key *key, int selection)
{
    bool private_too = key->soft_private && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
    bool anything = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0 || key->type == HSM_KEY_EC;
    EVP_PKEY *soft = anything ? copy_soft(key, selection) : NULL;

    if (soft != NULL)
        prov_key_adopt(copy, soft, private_too);
    return soft != NULL || !anything;
}

/* Independent of the original: CMS sets the peer's key on what it copied from ours. */
void *keymgmt_dup(const void *vkey, int selection)
{
    const struct prov_key *key = vkey;
    struct prov_key *copy = prov_key_new(key->prov, key->type);
    bool ok = copy != NULL;

    if (ok)
        copy->kind = key->kind;
    if (ok && key->has_pub && (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        ok = prov_key_set_spki(copy, (struct hsm_bytes){ key->spki, key->spki_len }) == HSM_OK;
    if (ok && key->key != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        copy->key = hsm_key_ref(key->key);
    /* what the key object itself can hold needs no software key */
    if (ok && key->soft != NULL && (!key->has_pub || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0))
        ok = dup_soft(copy, key, selection);
    if (ok)
        return copy;
    prov_key_free(copy);
    return NULL;
}

/* ---- validate ------------------------------------------------------------------------------------------ */

static int check_public(struct prov_key *key, int (*check)(EVP_PKEY_CTX *ctx))
{
    EVP_PKEY *pkey = prov_key_public(key);
    EVP_PKEY_CTX *ctx =
        pkey == NULL ? NULL : EVP_PKEY_CTX_new_from_pkey(prov_libctx(key->prov), pkey, PROV_DEFAULT);
    int ok = ctx != NULL && check(ctx) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* Does the reference name a key, and on a full check: does the token hold it, with this public key? */
static int check_reference(struct prov_key *key, int checktype)
{
    const struct hsm_uri *uri = hsm_key_uri(key->key);
    struct hsm_object obj;
    hsm_status st;

    if (uri->object[0] == '\0' && uri->id_len == 0)
        return 0;
    if (checktype == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK)
        return 1;
    st = hsm_key_object(key->key, &obj);
    return st == HSM_OK ? 1 : prov_raise(key->prov, st);
}

static int validate_soft(struct prov_key *key, int selection)
{
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == OSSL_KEYMGMT_SELECT_KEYPAIR)
        return check_public(key, EVP_PKEY_pairwise_check);
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return check_public(key, EVP_PKEY_private_check);
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0)
        return check_public(key, EVP_PKEY_public_check);
    return check_public(key, EVP_PKEY_param_check);
}

int keymgmt_validate(const void *vkey, int selection, int checktype)
{
    struct prov_key *key = (struct prov_key *)vkey; /* only its cache changes */
    bool quick = checktype == OSSL_KEYMGMT_VALIDATE_QUICK_CHECK;

    if (key->soft != NULL)
        return validate_soft(key, selection);
    if ((selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) != 0 && !key_class_of(key->type)->has_params(key))
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 &&
        !check_public(key, quick ? EVP_PKEY_public_check_quick : EVP_PKEY_public_check))
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return key->key != NULL && check_reference(key, checktype);
    return 1;
}
