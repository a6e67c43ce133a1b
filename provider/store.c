/* SPDX-License-Identifier: Apache-2.0 */
/**
 * OSSL_STORE for "hsm:" URIs: keys, public keys and certificates of one token or of all. The tokens are
 * searched at the first load(); what was found is handed out one by one, private keys before certificates.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#include "dispatch.h"
#include "passphrase.h"
#include "prov.h"

/* Function numbers that OpenSSL 3.0 does not know and therefore ignores. Source: core_dispatch.h of 3.2 */
enum { STORE_FUNC_OPEN_EX = 10 };
typedef void *store_open_ex_fn(void *provctx, const char *uri, const OSSL_PARAM params[],
                               OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg);

static OSSL_FUNC_store_open_fn store_open;
static store_open_ex_fn store_open_ex;
static OSSL_FUNC_store_settable_ctx_params_fn store_settable_ctx_params;
static OSSL_FUNC_store_set_ctx_params_fn store_set_ctx_params;
static OSSL_FUNC_store_load_fn store_load;
static OSSL_FUNC_store_eof_fn store_eof;
static OSSL_FUNC_store_close_fn store_close;
static OSSL_FUNC_store_export_object_fn store_export_object;

struct entry {
    size_t token; /* index of its token */
    int type;     /* OSSL_STORE_INFO_* it is handed out as */
    struct hsm_object obj;
};

/* What OSSL_STORE_find() looks for; NULL and "" are not looked at. */
struct search {
    X509_NAME *subject, *issuer;
    BIGNUM *serial;
    char alias[HSM_LABEL_MAX + 1];
};

struct store_ctx {
    struct prov_ctx *prov;
    struct hsm_uri uri;
    int expect; /* OSSL_STORE_INFO_*, 0 = whatever there is */
    struct search search;
    bool searched, asked_pin;
    struct entry *entries;
    size_t count, room, next;
    size_t token; /* the one that is being searched */
    int adding;   /* as what its objects are to be handed out */
};

/* ---- life ---------------------------------------------------------------------------------------------- */

static hsm_status parse_uri(struct prov_ctx *prov, const char *text, struct hsm_uri *uri)
{
    if (prov->alias_pkcs11 && OPENSSL_strncasecmp(text, "pkcs11:", 7) == 0)
        return hsm_uri_parse_scheme(text, "pkcs11", uri);
    return hsm_uri_parse(text, uri);
}

static void *store_open(void *provctx, const char *uri)
{
    struct prov_ctx *prov = provctx;
    struct store_ctx *ctx;
    hsm_status st;

    if (prov_hsm(prov) == NULL)
        return NULL;
    if ((ctx = OPENSSL_zalloc(sizeof(*ctx))) == NULL)
        return NULL;
    ctx->prov = prov;
    if ((st = parse_uri(prov, uri, &ctx->uri)) == HSM_OK)
        return ctx;
    prov_raise(prov, st);
    store_close(ctx);
    return NULL;
}

/* The PIN is asked for when a private key was found, not before. */
static void *store_open_ex(void *provctx, const char *uri, const OSSL_PARAM params[],
                           OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct store_ctx *ctx = store_open(provctx, uri);

    if (ctx == NULL || store_set_ctx_params(ctx, params))
        return ctx;
    store_close(ctx);
    return NULL;
}

static int store_close(void *vctx)
{
    struct store_ctx *ctx = vctx;

    X509_NAME_free(ctx->search.subject);
    X509_NAME_free(ctx->search.issuer);
    BN_free(ctx->search.serial);
    free(ctx->entries);
    hsm_uri_clear(&ctx->uri);
    OPENSSL_free(ctx);
    return 1;
}

static const OSSL_PARAM *store_settable_ctx_params(void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
        OSSL_PARAM_octet_string(OSSL_STORE_PARAM_SUBJECT, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_STORE_PARAM_ISSUER, NULL, 0),
        OSSL_PARAM_BN(OSSL_STORE_PARAM_SERIAL, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_ALIAS, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_END,
    };

    return settable;
}

static bool set_name(const OSSL_PARAM *p, X509_NAME **name)
{
    const void *der = NULL;
    const unsigned char *in;
    size_t len = 0;

    if (!OSSL_PARAM_get_octet_string_ptr(p, &der, &len))
        return false;
    in = der;
    X509_NAME_free(*name);
    *name = d2i_X509_NAME(NULL, &in, (long)len);
    return *name != NULL;
}

static bool set_alias(const OSSL_PARAM *p, char alias[HSM_LABEL_MAX + 1])
{
    const char *text = NULL;

    if (!OSSL_PARAM_get_utf8_string_ptr(p, &text) || text == NULL || strlen(text) > HSM_LABEL_MAX)
        return false;
    memcpy(alias, text, strlen(text) + 1);
    return true;
}

static bool set_param(struct store_ctx *ctx, const OSSL_PARAM *p)
{
    if (strcmp(p->key, OSSL_STORE_PARAM_EXPECT) == 0)
        return OSSL_PARAM_get_int(p, &ctx->expect);
    if (strcmp(p->key, OSSL_STORE_PARAM_SUBJECT) == 0)
        return set_name(p, &ctx->search.subject);
    if (strcmp(p->key, OSSL_STORE_PARAM_ISSUER) == 0)
        return set_name(p, &ctx->search.issuer);
    if (strcmp(p->key, OSSL_STORE_PARAM_SERIAL) == 0)
        return OSSL_PARAM_get_BN(p, &ctx->search.serial);
    if (strcmp(p->key, OSSL_STORE_PARAM_ALIAS) == 0)
        return set_alias(p, ctx->search.alias);
    /* to ignore a criterion would be to answer with the wrong object */
    return strcmp(p->key, OSSL_STORE_PARAM_DIGEST) != 0 && strcmp(p->key, OSSL_STORE_PARAM_FINGERPRINT) != 0;
}

static int store_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct store_ctx *ctx = vctx;

    for (const OSSL_PARAM *p = params; p != NULL && p->key != NULL; p++)
        if (!set_param(ctx, p))
            return prov_fail(ctx->prov, HSM_ERR_ARGUMENT,
                             "hsm: URIs cannot be searched by %s, or its value is not understood", p->key);
    return 1;
}

/* ---- searching ----------------------------------------------------------------------------------------- */

static bool is_cert_search(const struct search *s)
{
    return s->subject != NULL || s->issuer != NULL || s->serial != NULL;
}

/* Does the URI, or a search, single out something? Else the whole token is listed. */
static bool is_named(const struct store_ctx *ctx)
{
    return ctx->uri.object[0] != '\0' || ctx->uri.id_len != 0 || ctx->search.alias[0] != '\0';
}

static hsm_status add_entry(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    struct store_ctx *ctx = arg;
    size_t room = ctx->room == 0 ? 4 : 2 * ctx->room;

    if ((obj->cls != HSM_CLASS_KEY && obj->cls != HSM_CLASS_CERT) ||
        (ctx->search.alias[0] != '\0' && strcmp(ctx->search.alias, obj->label) != 0))
        return HSM_OK;
    if (ctx->count == ctx->room) {
        struct entry *more = realloc(ctx->entries, room * sizeof(*more));

        if (more == NULL)
            return hsm_fail(HSM_ERR_MEMORY, "out of memory for a list of %zu objects", room);
        ctx->entries = more;
        ctx->room = room;
    }
    ctx->entries[ctx->count++] = (struct entry){ ctx->token, ctx->adding, *obj };
    return HSM_OK;
}

static bool expects(const struct store_ctx *ctx, int type)
{
    return ctx->expect == 0 || ctx->expect == type;
}

static bool type_is(const struct store_ctx *ctx, enum hsm_uri_type a, enum hsm_uri_type b)
{
    return ctx->uri.type == HSM_URI_TYPE_ANY || ctx->uri.type == a || ctx->uri.type == b;
}

/* What kinds to hand out, in this order. A private key also answers for its public half, if that was asked
 * for. */
static bool wants(const struct store_ctx *ctx, int info_type)
{
    switch (info_type) {
    case OSSL_STORE_INFO_PKEY:
        return expects(ctx, OSSL_STORE_INFO_PKEY) && !is_cert_search(&ctx->search) &&
               type_is(ctx, HSM_URI_TYPE_PRIVATE, HSM_URI_TYPE_PRIVATE);
    case OSSL_STORE_INFO_PUBKEY:
        if (is_cert_search(&ctx->search))
            return false;
        if (ctx->expect == OSSL_STORE_INFO_PUBKEY)
            return type_is(ctx, HSM_URI_TYPE_PRIVATE, HSM_URI_TYPE_PUBLIC);
        return ctx->expect == 0 && ctx->uri.type == HSM_URI_TYPE_PUBLIC;
    case OSSL_STORE_INFO_CERT:
        return expects(ctx, OSSL_STORE_INFO_CERT) && type_is(ctx, HSM_URI_TYPE_CERT, HSM_URI_TYPE_CERT);
    default:
        return ctx->expect == OSSL_STORE_INFO_NAME && !is_cert_search(&ctx->search);
    }
}

static hsm_status search_token(struct store_ctx *ctx, struct hsm_token *tok)
{
    static const struct {
        int info_type;
        enum hsm_uri_type uri_type;
    } passes[] = {
        { OSSL_STORE_INFO_PKEY, HSM_URI_TYPE_PRIVATE },
        { OSSL_STORE_INFO_PUBKEY, HSM_URI_TYPE_PUBLIC },
        { OSSL_STORE_INFO_CERT, HSM_URI_TYPE_CERT },
        { OSSL_STORE_INFO_NAME, HSM_URI_TYPE_ANY },
    };
    struct hsm_uri uri = ctx->uri;
    hsm_status st = HSM_OK;

    hsm_uri_clear(&uri);
    for (size_t i = 0; st == HSM_OK && i < sizeof(passes) / sizeof(passes[0]); i++) {
        if (!wants(ctx, passes[i].info_type))
            continue;
        ctx->adding = passes[i].info_type;
        uri.type = passes[i].info_type == OSSL_STORE_INFO_NAME ? ctx->uri.type : passes[i].uri_type;
        st = hsm_find(tok, &uri, add_entry, ctx);
    }
    return st;
}

static hsm_status entry_token(const struct store_ctx *ctx, size_t index, struct hsm_token **tok)
{
    if (ctx->uri.token[0] != '\0')
        return hsm_token_find(ctx->prov->hsm, ctx->uri.token, tok);
    return hsm_token_get(ctx->prov->hsm, index, tok);
}

/* One token that cannot be read does not hide the others; it is the explanation if nothing is found. */
static hsm_status search_tokens(struct store_ctx *ctx)
{
    size_t tokens = ctx->uri.token[0] != '\0' ? 1 : hsm_token_count(ctx->prov->hsm);
    hsm_status st = HSM_OK, one;

    for (ctx->token = 0; ctx->token < tokens; ctx->token++) {
        struct hsm_token *tok = NULL;

        if ((one = entry_token(ctx, ctx->token, &tok)) == HSM_OK)
            one = search_token(ctx, tok);
        if (one != HSM_OK && one != HSM_ERR_NO_OBJECT) {
            hsm_log(ctx->prov->hsm, HSM_LOG_ERROR, "%s", hsm_error_text(one));
            st = one;
        }
    }
    return st;
}

static const char *wanted_thing(const struct store_ctx *ctx)
{
    int expect = ctx->expect;

    if (expect == OSSL_STORE_INFO_PKEY || (expect == 0 && ctx->uri.type == HSM_URI_TYPE_PRIVATE))
        return "private key";
    if (expect == OSSL_STORE_INFO_PUBKEY || (expect == 0 && ctx->uri.type == HSM_URI_TYPE_PUBLIC))
        return "public key";
    if (expect == OSSL_STORE_INFO_CERT || (expect == 0 && ctx->uri.type == HSM_URI_TYPE_CERT))
        return "certificate";
    return expect == 0 || expect == OSSL_STORE_INFO_NAME ? "key or certificate"
                                                         : "object of the kind asked for";
}

static int raise_nothing(struct store_ctx *ctx, hsm_status st)
{
    char text[HSM_URI_MAX + 1];
    struct hsm_buf out = { .ptr = (uint8_t *)text, .cap = sizeof(text) };

    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    if (hsm_uri_format(&ctx->uri, &out) != HSM_OK)
        text[0] = '\0';
    return prov_fail(ctx->prov, HSM_ERR_NO_OBJECT,
                     "%s: no such %s%s; see `hsmctl key list` and `hsmctl cert list`", text,
                     wanted_thing(ctx), is_cert_search(&ctx->search) ? " with that name or number" : "");
}

/* ---- handing out --------------------------------------------------------------------------------------- */

/* The URI by which exactly this object is found again, with the PIN that the program's URI brought. */
static void entry_uri(const struct store_ctx *ctx, const struct entry *e, struct hsm_uri *uri)
{
    *uri = ctx->uri;
    if (uri->token[0] == '\0' && hsm_token_count(ctx->prov->hsm) > 1)
        snprintf(uri->token, sizeof(uri->token), "%s", hsm_token_name(ctx->prov->hsm, e->token));
    memcpy(uri->object, e->obj.label, sizeof(uri->object));
    uri->id_len = 0;
    uri->type = e->obj.cls == HSM_CLASS_CERT ? HSM_URI_TYPE_CERT : HSM_URI_TYPE_PRIVATE;
}

static int hand_out_key(struct store_ctx *ctx, const struct entry *e, OSSL_CALLBACK *object_cb,
                        void *object_arg, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct prov_key *key = NULL;
    struct hsm_uri uri;
    int type = OSSL_OBJECT_PKEY, ok;
    hsm_status st;

    entry_uri(ctx, e, &uri);
    st = prov_key_from_uri(ctx->prov, &uri, (struct hsm_bytes){ e->obj.spki, e->obj.spki_len }, &key);
    hsm_uri_clear(&uri);
    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    if (!ctx->asked_pin && (is_named(ctx) || ctx->expect == OSSL_STORE_INFO_PKEY) &&
        hsm_key_wants_pin(key->key, true)) {
        ctx->asked_pin = true;
        prov_ask_pin(ctx->prov, key->key, pw_cb, pw_arg);
    }
    {
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
            OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
                                             (char *)prov_key_type_name(key->type), 0),
            OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, &key, sizeof(key)),
            OSSL_PARAM_construct_end(),
        };

        ok = object_cb(params, object_arg);
    }
    prov_key_free(key); /* keymgmt load() takes it over and zeroes the pointer */
    return ok;
}

/* As plain data, which the default provider decodes: verifying is its work. */
static int hand_out_public(struct entry *e, OSSL_CALLBACK *object_cb, void *object_arg)
{
    char structure[] = "SubjectPublicKeyInfo", input[] = "DER";
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, e->obj.spki, e->obj.spki_len),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure, 0),
        OSSL_PARAM_construct_utf8_string("input-type", input, 0), /* OSSL_OBJECT_PARAM_INPUT_TYPE, 3.2 */
        OSSL_PARAM_construct_end(),
    };

    return object_cb(params, object_arg);
}

static hsm_status describe(const struct store_ctx *ctx, const struct entry *e, char name[HSM_URI_MAX + 1],
                           char what[64])
{
    struct hsm_buf out = { .ptr = (uint8_t *)name, .cap = HSM_URI_MAX + 1 };
    char kind[32];
    struct hsm_uri uri;
    hsm_status st;

    entry_uri(ctx, e, &uri);
    st = hsm_uri_format(&uri, &out);
    hsm_uri_clear(&uri);
    if (e->obj.cls == HSM_CLASS_CERT)
        snprintf(what, 64, "certificate");
    else
        snprintf(what, 64, "%s private key", hsm_kind_format(&e->obj.kind, kind));
    return st;
}

static int hand_out_name(struct store_ctx *ctx, const struct entry *e, OSSL_CALLBACK *object_cb,
                         void *object_arg)
{
    char name[HSM_URI_MAX + 1], what[64];
    int type = OSSL_OBJECT_NAME;
    OSSL_PARAM params[4];
    hsm_status st = describe(ctx, e, name, what);

    if (st != HSM_OK)
        return prov_raise(ctx->prov, st);
    params[0] = OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type);
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA, name, 0);
    params[2] = OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DESC, what, 0);
    params[3] = OSSL_PARAM_construct_end();
    return object_cb(params, object_arg);
}

static hsm_status read_cert(const struct store_ctx *ctx, const struct entry *e, struct hsm_buf *der)
{
    struct hsm_token *tok = NULL;
    hsm_status st = entry_token(ctx, e->token, &tok);

    if (st != HSM_OK)
        return st;
    if (e->obj.value_len == 0 || e->obj.value_len > HSM_DATA_MAX)
        return hsm_fail(HSM_ERR_DATA, "certificate %s has %zu bytes", e->obj.label, e->obj.value_len);
    der->cap = e->obj.value_len;
    if ((der->ptr = malloc(der->cap)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for certificate %s", e->obj.label);
    return hsm_get(tok, e->obj.handle, der);
}

static bool matches_serial(const X509 *cert, const BIGNUM *serial)
{
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    bool same = bn != NULL && BN_cmp(bn, serial) == 0;

    BN_free(bn);
    return same;
}

static bool matches(const struct search *s, struct hsm_bytes der)
{
    const unsigned char *in = der.ptr;
    X509 *cert;
    bool ok;

    if (!is_cert_search(s))
        return true;
    ERR_set_mark();
    cert = d2i_X509(NULL, &in, (long)der.len);
    ok = cert != NULL &&
         (s->subject == NULL || X509_NAME_cmp(s->subject, X509_get_subject_name(cert)) == 0) &&
         (s->issuer == NULL || X509_NAME_cmp(s->issuer, X509_get_issuer_name(cert)) == 0) &&
         (s->serial == NULL || matches_serial(cert, s->serial));
    ERR_pop_to_mark();
    X509_free(cert);
    return ok;
}

/* Drop the certificates that do not fit a search by name or number; the others were kept from entering the
 * list. */
static hsm_status filter_certs(struct store_ctx *ctx)
{
    size_t kept = 0;
    hsm_status st = HSM_OK;

    if (!is_cert_search(&ctx->search))
        return HSM_OK;
    for (size_t i = 0; st == HSM_OK && i < ctx->count; i++) {
        struct hsm_buf der = { NULL, 0, 0 };

        st = read_cert(ctx, &ctx->entries[i], &der);
        if (st == HSM_OK && matches(&ctx->search, (struct hsm_bytes){ der.ptr, der.len }))
            memmove(&ctx->entries[kept++], &ctx->entries[i], sizeof(ctx->entries[i]));
        free(der.ptr);
    }
    ctx->count = kept;
    return st;
}

static int hand_out_cert(struct store_ctx *ctx, const struct entry *e, OSSL_CALLBACK *object_cb,
                         void *object_arg)
{
    struct hsm_buf der = { NULL, 0, 0 };
    int type = OSSL_OBJECT_CERT, ok;
    hsm_status st = read_cert(ctx, e, &der);

    if (st != HSM_OK) {
        ok = prov_raise(ctx->prov, st);
    } else {
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
            OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der.ptr, der.len),
            OSSL_PARAM_construct_end(),
        };

        ok = object_cb(params, object_arg);
    }
    free(der.ptr);
    return ok;
}

/* @return 0 after raising, with nothing left to hand out */
static int search_once(struct store_ctx *ctx)
{
    hsm_status st;

    if (ctx->searched)
        return 1;
    ctx->searched = true;
    st = search_tokens(ctx);
    if (st == HSM_OK || ctx->count != 0)
        st = filter_certs(ctx);
    return ctx->count != 0 ? 1 : raise_nothing(ctx, st);
}

static int store_load(void *vctx, OSSL_CALLBACK *object_cb, void *object_arg, OSSL_PASSPHRASE_CALLBACK *pw_cb,
                      void *pw_arg)
{
    struct store_ctx *ctx = vctx;
    struct entry *e;

    if (!search_once(ctx) || ctx->next >= ctx->count)
        return 0;
    e = &ctx->entries[ctx->next++];
    switch (e->type) {
    case OSSL_STORE_INFO_PKEY:
        return hand_out_key(ctx, e, object_cb, object_arg, pw_cb, pw_arg);
    case OSSL_STORE_INFO_PUBKEY:
        return hand_out_public(e, object_cb, object_arg);
    case OSSL_STORE_INFO_CERT:
        return hand_out_cert(ctx, e, object_cb, object_arg);
    default:
        return hand_out_name(ctx, e, object_cb, object_arg);
    }
}

static int store_eof(void *vctx)
{
    const struct store_ctx *ctx = vctx;

    return ctx->searched && ctx->next >= ctx->count;
}

/*
 * libcrypto asks for this first, to move the key into the default provider. Only private keys are handed out
 * by reference, and they stay: an export of the public half alone would end as "missing private key".
 */
static int store_export_object(void *ctx, const void *reference, size_t reference_sz,
                               OSSL_CALLBACK *export_cb, void *export_arg)
{
    return 0;
}

const OSSL_DISPATCH prov_store_functions[] = {
    { OSSL_FUNC_STORE_OPEN, (void (*)(void))store_open },
    { STORE_FUNC_OPEN_EX, (void (*)(void))store_open_ex },
    { OSSL_FUNC_STORE_SETTABLE_CTX_PARAMS, (void (*)(void))store_settable_ctx_params },
    { OSSL_FUNC_STORE_SET_CTX_PARAMS, (void (*)(void))store_set_ctx_params },
    { OSSL_FUNC_STORE_LOAD, (void (*)(void))store_load },
    { OSSL_FUNC_STORE_EOF, (void (*)(void))store_eof },
    { OSSL_FUNC_STORE_CLOSE, (void (*)(void))store_close },
    { OSSL_FUNC_STORE_EXPORT_OBJECT, (void (*)(void))store_export_object },
    { 0, NULL },
};
