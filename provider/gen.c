/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key generation. Whoever asks for hsm by name (-propquery provider=hsm, or any hsm-* parameter) gets a key
 * in the token. Where hsm is merely preferred, an unnamed key may be one for a single TLS handshake: it stays
 * in memory (a volatile key) and enters the token when it is first written as a reference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "keymgmt.h"

enum { RSA_BITS_DEFAULT = 2048 };

struct gen_ctx {
    struct prov_ctx *prov;
    enum hsm_key_type type;
    int selection;
    struct prov_key *template; /* where EC takes its curve from, if no parameter says it */
    OSSL_PARAM *params;        /* all that was set so far, ours included */
    bool for_token;            /* one of ours was */
};

/* ---- parameters ---------------------------------------------------------------------------------------- */

/* Text of a parameter; @p fallback if it was not set. Longer than the buffer is an error. */
static hsm_status get_text(const struct gen_ctx *gen, const char *name, const char *fallback, char *buf,
                           size_t buf_len)
{
    const OSSL_PARAM *p = gen->params == NULL ? NULL : OSSL_PARAM_locate_const(gen->params, name);
    const char *ptr = fallback;
    char *out = buf;

    if (p != NULL && p->data_type == OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_utf8_string(p, &out, buf_len)
                   ? HSM_OK
                   : hsm_fail(HSM_ERR_ARGUMENT, "parameter %s: at most %zu bytes are allowed", name,
                              buf_len - 1);
    if ((p != NULL && !OSSL_PARAM_get_utf8_ptr(p, &ptr)) || strlen(ptr) >= buf_len)
        return hsm_fail(HSM_ERR_ARGUMENT, "parameter %s: a text of at most %zu bytes is expected", name,
                        buf_len - 1);
    memcpy(buf, ptr, strlen(ptr) + 1);
    return HSM_OK;
}

static bool is_set(const struct gen_ctx *gen, const char *name)
{
    return gen->params != NULL && OSSL_PARAM_locate_const(gen->params, name) != NULL;
}

static hsm_status parse_id(const struct gen_ctx *gen, uint8_t id[HSM_ID_MAX], struct hsm_bytes *out)
{
    char text[2 * HSM_ID_MAX + 1];
    size_t len = 0;
    hsm_status st = get_text(gen, PROV_PARAM_ID, "", text, sizeof(text));

    if (st != HSM_OK)
        return st;
    ERR_set_mark();
    if (text[0] != '\0' && !OPENSSL_hexstr2buf_ex(id, HSM_ID_MAX, &len, text, '\0'))
        st = hsm_fail(HSM_ERR_ARGUMENT, PROV_PARAM_ID " '%s': give 1 to %d bytes in hexadecimal", text,
                      HSM_ID_MAX);
    ERR_pop_to_mark();
    *out = (struct hsm_bytes){ id, len };
    return st;
}

static hsm_status parse_extractable(const struct gen_ctx *gen, bool *extractable)
{
    char text[8];
    hsm_status st = get_text(gen, PROV_PARAM_EXTRACTABLE, "no", text, sizeof(text));

    if (st != HSM_OK)
        return st;
    *extractable = strcasecmp(text, "yes") == 0 || strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!*extractable && strcasecmp(text, "no") != 0 && strcasecmp(text, "false") != 0 &&
        strcmp(text, "0") != 0)
        return hsm_fail(HSM_ERR_ARGUMENT, PROV_PARAM_EXTRACTABLE " = %s: say yes or no", text);
    return HSM_OK;
}

static hsm_status parse_usage(const struct gen_ctx *gen, unsigned *usage)
{
    char text[96];
    hsm_status st = get_text(gen, PROV_PARAM_USAGE, "", text, sizeof(text));

    return st != HSM_OK || text[0] == '\0' ? st : hsm_usage_parse(text, usage);
}

static hsm_status parse_label(const struct gen_ctx *gen, char label[HSM_LABEL_MAX + 1])
{
    return is_set(gen, PROV_PARAM_LABEL) ? get_text(gen, PROV_PARAM_LABEL, "", label, HSM_LABEL_MAX + 1)
                                         : prov_random_label(label);
}

/* ---- what kind of key ---------------------------------------------------------------------------------- */

static hsm_status rsa_kind(const struct gen_ctx *gen, struct hsm_key_kind *kind)
{
    static const char *const restrictions[] = { OSSL_PKEY_PARAM_RSA_DIGEST, OSSL_PKEY_PARAM_RSA_MGF1_DIGEST,
                                                OSSL_PKEY_PARAM_RSA_PSS_SALTLEN };
    const OSSL_PARAM *p;
    size_t bits = RSA_BITS_DEFAULT, primes = 2, i;
    uint64_t exponent = RSA_F4;
    char text[32];

    if (gen->params != NULL && (p = OSSL_PARAM_locate_const(gen->params, OSSL_PKEY_PARAM_RSA_BITS)) != NULL &&
        !OSSL_PARAM_get_size_t(p, &bits))
        return hsm_fail(HSM_ERR_ARGUMENT, "RSA key generation: the number of bits is malformed");
    if (gen->params != NULL &&
        (p = OSSL_PARAM_locate_const(gen->params, OSSL_PKEY_PARAM_RSA_PRIMES)) != NULL &&
        (!OSSL_PARAM_get_size_t(p, &primes) || primes != 2))
        return hsm_fail(HSM_ERR_MECH, "RSA key generation in a token: only two primes are supported");
    if (gen->params != NULL && (p = OSSL_PARAM_locate_const(gen->params, OSSL_PKEY_PARAM_RSA_E)) != NULL &&
        (!OSSL_PARAM_get_uint64(p, &exponent) || exponent != RSA_F4))
        return hsm_fail(HSM_ERR_MECH,
                        "RSA key generation in a token: only the public exponent 65537 is supported");
    for (i = 0; i < PROV_COUNT(restrictions); i++)
        if (is_set(gen, restrictions[i]))
            return hsm_fail(HSM_ERR_MECH,
                            "RSA-PSS key generation in a token: restrictions of digest or salt length are "
                            "not supported; leave them out");
    (void)snprintf(text, sizeof(text), "%s:%zu", gen->type == HSM_KEY_RSA ? "rsa" : "rsa-pss", bits);
    return hsm_kind_parse(text, kind);
}

/* What a SubjectPublicKeyInfo of ours looks like cannot be chosen. */
static hsm_status check_ec_form(const struct gen_ctx *gen)
{
    char text[32];
    hsm_status st =
        get_text(gen, OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PKEY_EC_ENCODING_GROUP, text, sizeof(text));

    if (st != HSM_OK)
        return st;
    if (strcmp(text, OSSL_PKEY_EC_ENCODING_GROUP) != 0)
        return hsm_fail(HSM_ERR_MECH,
                        "EC key generation in a token: encoding %s is not supported; use named_curve", text);
    st = get_text(gen, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                  OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED, text, sizeof(text));
    if (st != HSM_OK)
        return st;
    if (strcmp(text, OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED) != 0)
        return hsm_fail(HSM_ERR_MECH,
                        "EC key generation in a token: point-format %s is not supported; use uncompressed",
                        text);
    return HSM_OK;
}

static hsm_status ec_kind(const struct gen_ctx *gen, struct hsm_key_kind *kind)
{
    char group[48], text[64];
    hsm_status st = check_ec_form(gen);

    if (st == HSM_OK)
        st = get_text(gen, OSSL_PKEY_PARAM_GROUP_NAME, "", group, sizeof(group));
    if (st != HSM_OK)
        return st;
    if (group[0] == '\0' && gen->template != NULL && gen->template->kind.curve != HSM_CURVE_NONE) {
        *kind = gen->template->kind;
        return HSM_OK;
    }
    if (group[0] == '\0')
        return hsm_fail(HSM_ERR_ARGUMENT,
                        "EC key generation: no curve is given; say for example -pkeyopt group:P-256");
    (void)snprintf(text, sizeof(text), "ec:%s", group);
    return hsm_kind_parse(text, kind);
}

/* libssl names the group of an X25519 key, too. */
static hsm_status ecx_kind(const struct gen_ctx *gen, struct hsm_key_kind *kind)
{
    const char *name = prov_key_type_name(gen->type);
    char group[32];
    hsm_status st = get_text(gen, OSSL_PKEY_PARAM_GROUP_NAME, name, group, sizeof(group));

    if (st != HSM_OK)
        return st;
    if (strcasecmp(group, name) != 0)
        return hsm_fail(HSM_ERR_ARGUMENT, "key generation: group %s does not belong to key type %s", group,
                        name);
    return hsm_kind_parse(name, kind);
}

static hsm_status wanted_kind(const struct gen_ctx *gen, struct hsm_key_kind *kind)
{
    switch (gen->type) {
    case HSM_KEY_RSA:
    case HSM_KEY_RSA_PSS:
        return rsa_kind(gen, kind);
    case HSM_KEY_EC:
        return ec_kind(gen, kind);
    default:
        return ecx_kind(gen, kind);
    }
}

/* ---- in the token -------------------------------------------------------------------------------------- */

/* Read back what was made, so that the key object has its public part. */
static hsm_status load_new_key(const struct gen_ctx *gen, struct hsm_token *tok, const struct hsm_uri *uri,
                               struct prov_key **out)
{
    struct hsm_object *obj = malloc(sizeof(*obj));
    hsm_status st;

    if (obj == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a key");
    if ((st = hsm_find_one(tok, uri, obj)) == HSM_OK)
        st = prov_key_from_uri(gen->prov, uri, (struct hsm_bytes){ obj->spki, obj->spki_len }, out);
    free(obj);
    return st;
}

static hsm_status generate_in_token(const struct gen_ctx *gen, struct hsm_ctx *hsm, struct prov_key **out)
{
    char label[HSM_LABEL_MAX + 1], token[HSM_LABEL_MAX + 1];
    uint8_t id[HSM_ID_MAX];
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = label };
    struct hsm_token *tok;
    struct hsm_uri uri;
    hsm_handle handle;
    hsm_status st;

    if ((st = wanted_kind(gen, &spec.kind)) != HSM_OK || (st = parse_label(gen, label)) != HSM_OK ||
        (st = parse_id(gen, id, &spec.id)) != HSM_OK || (st = parse_usage(gen, &spec.usage)) != HSM_OK ||
        (st = parse_extractable(gen, &spec.extractable)) != HSM_OK ||
        (st = get_text(gen, PROV_PARAM_TOKEN, "", token, sizeof(token))) != HSM_OK)
        return st;
    if ((st = hsm_token_find(hsm, token, &tok)) != HSM_OK ||
        (st = hsm_generate(tok, &spec, &handle)) != HSM_OK)
        return st;
    prov_label_uri(hsm, token, label, &uri);
    return load_new_key(gen, tok, &uri, out);
}

static struct prov_key *token_key(const struct gen_ctx *gen)
{
    struct hsm_ctx *hsm = prov_hsm(gen->prov);
    struct prov_key *key = NULL;
    hsm_status st;

    if (hsm != NULL && (st = generate_in_token(gen, hsm, &key)) != HSM_OK)
        (void)prov_raise(gen->prov, st);
    return key;
}

/* ---- in memory ----------------------------------------------------------------------------------------- */

static struct prov_key *volatile_key(const struct gen_ctx *gen, OSSL_CALLBACK *cb, void *arg)
{
    struct prov_key *key = prov_key_new(gen->prov, gen->type);
    EVP_PKEY *soft = NULL;

    if (key != NULL)
        soft = prov_soft_generate(gen->prov, gen->type, gen->selection, gen->params, gen->template, cb, arg);
    if (soft == NULL) {
        prov_key_free(key);
        return NULL;
    }
    prov_key_adopt(key, soft, (gen->selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0);
    return key;
}

/* Parameters alone: a curve, or nothing. TLS makes one for each peer and then sets the peer's public key on
 * it. */
static struct prov_key *parameter_key(const struct gen_ctx *gen)
{
    struct prov_key *key;
    struct hsm_key_kind kind;
    hsm_status st = gen->type == HSM_KEY_EC ? ec_kind(gen, &kind) : HSM_OK;

    if (st == HSM_OK && (key = prov_key_new(gen->prov, gen->type)) != NULL) {
        if (gen->type == HSM_KEY_EC)
            key->kind = kind;
        return key;
    }
    if (st != HSM_OK && prov_is_preferred(gen->prov, prov_key_type_name(gen->type)))
        return volatile_key(gen, NULL, NULL); /* a curve that only the default provider has */
    if (st != HSM_OK)
        (void)prov_raise(gen->prov, st);
    return NULL;
}

/* ---- the functions ------------------------------------------------------------------------------------- */

void *keymgmt_gen_init(void *provctx, int selection, const OSSL_PARAM params[], enum hsm_key_type type)
{
    struct gen_ctx *gen;
    bool is_rsa = type == HSM_KEY_RSA || type == HSM_KEY_RSA_PSS;

    if (is_rsa && (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return NULL; /* RSA has no parameters to make */
    if ((gen = calloc(1, sizeof(*gen))) == NULL)
        return NULL;
    gen->prov = provctx;
    gen->type = type;
    gen->selection = selection;
    if (keymgmt_gen_set_params(gen, params))
        return gen;
    keymgmt_gen_cleanup(gen);
    return NULL;
}

int keymgmt_gen_set_template(void *vgen, void *vkey)
{
    struct gen_ctx *gen = vgen;
    struct prov_key *template = vkey;

    if (template == NULL || template->type != gen->type)
        return 0;
    prov_key_free(gen->template);
    gen->template = prov_key_ref(template);
    return 1;
}

static bool has_ours(const OSSL_PARAM params[])
{
    static const char *const ours[] = { PROV_PARAM_LABEL, PROV_PARAM_ID, PROV_PARAM_USAGE,
                                        PROV_PARAM_EXTRACTABLE, PROV_PARAM_TOKEN };
    size_t i;

    for (i = 0; i < PROV_COUNT(ours); i++)
        if (OSSL_PARAM_locate_const(params, ours[i]) != NULL)
            return true;
    return false;
}

int keymgmt_gen_set_params(void *vgen, const OSSL_PARAM params[])
{
    struct gen_ctx *gen = vgen;
    OSSL_PARAM *merged, *copy;

    if (params == NULL || params->key == NULL)
        return 1;
    if (gen->params == NULL) {
        gen->params = OSSL_PARAM_dup(params);
    } else { /* the merged list borrows from both */
        merged = OSSL_PARAM_merge(gen->params, params);
        copy = merged == NULL ? NULL : OSSL_PARAM_dup(merged);
        OSSL_PARAM_free(merged);
        if (copy == NULL)
            return 0;
        OSSL_PARAM_free(gen->params);
        gen->params = copy;
    }
    gen->for_token = gen->for_token || has_ours(params);
    return gen->params != NULL;
}

void *keymgmt_gen(void *vgen, OSSL_CALLBACK *cb, void *arg)
{
    struct gen_ctx *gen = vgen;

    if ((gen->selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0)
        return parameter_key(gen);
    if (!gen->for_token && prov_is_preferred(gen->prov, prov_key_type_name(gen->type)))
        return volatile_key(gen, cb, arg);
    return token_key(gen);
}

void keymgmt_gen_cleanup(void *vgen)
{
    struct gen_ctx *gen = vgen;

    if (gen == NULL)
        return;
    prov_key_free(gen->template);
    OSSL_PARAM_free(gen->params);
    free(gen);
}
