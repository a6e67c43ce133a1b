/* SPDX-License-Identifier: Apache-2.0 */
/** What test_token.c and test_soft.c share: a temporary directory, a token, keys made by plain OpenSSL,
 * verification. */
#ifndef TOKEN_FIXTURE_H
#define TOKEN_FIXTURE_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsm/hsm.h"
#include "hsm/pubkey.h"
#include "hsm/secret.h"
#include "run_suite.h"

#define UNUSED              __attribute__((unused))
#define COUNT(a)            (sizeof(a) / sizeof((a)[0]))
#define ck_ok(st)           ck_hsm((st), HSM_OK, __LINE__)
#define ck_status(st, want) ck_hsm((st), (want), __LINE__)

static const char user_pin[] = "correct horse";
static const char so_pin[] = "battery staple";
static char temp_dir[64];
static char token_spec[512];

UNUSED static struct hsm_bytes text(const char *s)
{
    return (struct hsm_bytes){ (const uint8_t *)s, strlen(s) };
}

UNUSED static void ck_hsm(hsm_status got, hsm_status want, int line)
{
    if (got != want)
        ck_abort_msg("line %d: got %s (%s), want %s", line, hsm_strerror(got), hsm_error_text(got),
                     hsm_strerror(want));
}

/* Every line must say which token it is about. */
UNUSED static void ck_line_has(hsm_status st, const char *needle)
{
    ck_assert_msg(strstr(hsm_error_text(st), needle) != NULL, "no '%s' in: %s", needle, hsm_error_text(st));
}

UNUSED static void make_temp_dir(void)
{
    (void)snprintf(temp_dir, sizeof(temp_dir), "%s/hsm-test-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(temp_dir));
}

UNUSED static void remove_temp_dir(void)
{
    DIR *dir = opendir(temp_dir);
    struct dirent *e;
    char path[512];

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", temp_dir, e->d_name);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    if (dir != NULL)
        (void)closedir(dir);
    (void)rmdir(temp_dir);
}

UNUSED static struct hsm_ctx *new_context(const char *pin_source)
{
    struct hsm_config *cfg;
    struct hsm_ctx *ctx;

    ck_ok(hsm_config_new(&cfg));
    ck_ok(hsm_config_set(cfg, "token", token_spec));
    if (pin_source != NULL)
        ck_ok(hsm_config_set(cfg, "pin-source", pin_source));
    ck_ok(hsm_config_finish(cfg));
    ck_ok(hsm_ctx_new(cfg, &ctx));
    return ctx;
}

UNUSED static struct hsm_token *get_token(struct hsm_ctx *ctx)
{
    struct hsm_token *tok;

    ck_ok(hsm_token_get(ctx, 0, &tok));
    return tok;
}

UNUSED static struct hsm_token_init default_init(void)
{
    return (struct hsm_token_init){ .label = "test token",
                                    .user_pin = text(user_pin),
                                    .so_pin = text(so_pin),
                                    .kdf_memory = 1 << 20,
                                    .force = true };
}

UNUSED static struct hsm_token *login(struct hsm_ctx *ctx)
{
    struct hsm_token *tok = get_token(ctx);

    ck_ok(hsm_login(tok, HSM_ROLE_USER, text(user_pin)));
    return tok;
}

/* ---- keys -----------------------------------------------------------------------------------------------
 */

UNUSED static const char *const kinds[] = {
    "ec:P-256", "ec:P-384", "ec:P-521", "ec:secp256k1", "ec:brainpoolP256r1", "ec:brainpoolP384r1", "ed25519",
    "ed448",    "x25519",   "x448",     "rsa:2048",     "rsa-pss:2048",       "rsa:3072",           "rsa:4096"
};

UNUSED static struct hsm_key_kind kind_of(const char *name)
{
    struct hsm_key_kind kind;

    ck_ok(hsm_kind_parse(name, &kind));
    return kind;
}

UNUSED static struct hsm_object_spec key_spec(const char *kind, const char *label)
{
    return (struct hsm_object_spec){ .cls = HSM_CLASS_KEY, .kind = kind_of(kind), .label = label };
}

UNUSED static hsm_handle generate(struct hsm_token *tok, const char *kind, const char *label)
{
    struct hsm_object_spec spec = key_spec(kind, label);
    hsm_handle handle = 0;

    ck_ok(hsm_generate(tok, &spec, &handle));
    ck_assert_uint_ne(handle, 0);
    return handle;
}

UNUSED static hsm_status find(struct hsm_token *tok, enum hsm_uri_type type, const char *label,
                              struct hsm_object *obj)
{
    struct hsm_uri uri = { .type = type };

    (void)snprintf(uri.object, sizeof(uri.object), "%s", label);
    return hsm_find_one(tok, &uri, obj);
}

UNUSED static EVP_PKEY *public_key(const struct hsm_object *obj)
{
    const unsigned char *at = obj->spki;
    EVP_PKEY *pub = d2i_PUBKEY(NULL, &at, (long)obj->spki_len);

    ck_assert_ptr_nonnull(pub);
    ck_assert_ptr_eq(at, obj->spki + obj->spki_len);
    return pub;
}

UNUSED static const char *openssl_type(const char *kind)
{
    return strncmp(kind, "rsa-pss:", 8) == 0 ? "RSA-PSS"
           : strncmp(kind, "rsa:", 4) == 0   ? "RSA"
           : strncmp(kind, "ec:", 3) == 0    ? "EC"
           : strcmp(kind, "ed25519") == 0    ? "ED25519"
           : strcmp(kind, "ed448") == 0      ? "ED448"
           : strcmp(kind, "x25519") == 0     ? "X25519"
                                             : "X448";
}

/** A software key, made by libcrypto alone. */
UNUSED static EVP_PKEY *software_key(const char *kind)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, openssl_type(kind), NULL);
    const char *size = strchr(kind, ':');
    EVP_PKEY *pkey = NULL;

    ck_assert_int_eq(EVP_PKEY_keygen_init(ctx), 1);
    if (strncmp(kind, "rsa", 3) == 0)
        ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, atoi(size + 1)), 1);
    else if (size != NULL)
        ck_assert_int_eq(EVP_PKEY_CTX_set_group_name(ctx, size + 1), 1);
    ck_assert_int_eq(EVP_PKEY_generate(ctx, &pkey), 1);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

UNUSED static struct hsm_bytes to_pkcs8(EVP_PKEY *pkey)
{
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(pkey);
    unsigned char *der = NULL;
    int len = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);

    ck_assert_int_gt(len, 0);
    PKCS8_PRIV_KEY_INFO_free(p8);
    return (struct hsm_bytes){ der, (size_t)len };
}

UNUSED static void free_bytes(struct hsm_bytes b)
{
    OPENSSL_free((void *)(uintptr_t)b.ptr);
}

/* ---- signatures -----------------------------------------------------------------------------------------
 */

UNUSED static struct hsm_mech default_mech(const struct hsm_key_kind *kind)
{
    switch (kind->type) {
    case HSM_KEY_RSA:
        return (struct hsm_mech){ .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA256 };
    case HSM_KEY_RSA_PSS:
        return (struct hsm_mech){
            .type = HSM_MECH_RSA_PSS, .hash = HSM_HASH_SHA256, .mgf1_hash = HSM_HASH_SHA256, .salt_len = 32
        };
    case HSM_KEY_EC:
        return (struct hsm_mech){ .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    case HSM_KEY_ED25519:
    case HSM_KEY_ED448:
        return (struct hsm_mech){ .type = HSM_MECH_EDDSA };
    default:
        return (struct hsm_mech){ .type = HSM_MECH_NONE };
    }
}

/** Does plain OpenSSL accept the signature? */
UNUSED static bool verify(EVP_PKEY *pub, const struct hsm_mech *mech, struct hsm_bytes in,
                          struct hsm_bytes sig)
{
    EVP_PKEY_CTX *ctx;
    EVP_MD_CTX *md;
    bool ok;

    if (mech->type == HSM_MECH_EDDSA) {
        md = EVP_MD_CTX_new();
        ok = EVP_DigestVerifyInit_ex(md, NULL, NULL, NULL, NULL, pub, NULL) == 1 &&
             EVP_DigestVerify(md, sig.ptr, sig.len, in.ptr, in.len) == 1;
        EVP_MD_CTX_free(md);
        return ok;
    }
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pub, NULL);
    ok = EVP_PKEY_verify_init(ctx) == 1;
    if (mech->type == HSM_MECH_RSA_PSS)
        ok = ok && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1;
    if (mech->type == HSM_MECH_RSA_RAW)
        ok = ok && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) == 1;
    if (mech->hash != HSM_HASH_NONE)
        ok = ok && EVP_PKEY_CTX_set_signature_md(
                       ctx, EVP_get_digestbyname(hsm_hash_name(mech->hash)) != NULL
                                ? EVP_get_digestbyname(hsm_hash_name(mech->hash))
                                : EVP_MD_fetch(NULL, hsm_hash_name(mech->hash), NULL)) == 1;
    if (mech->type == HSM_MECH_RSA_PSS)
        ok = ok && EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, hsm_hash_name(mech->mgf1_hash), NULL) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)mech->salt_len) == 1;
    ok = ok && EVP_PKEY_verify(ctx, sig.ptr, sig.len, in.ptr, in.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/** Sign something that fits @p mech and have plain OpenSSL verify it. */
UNUSED static hsm_status sign_and_verify(struct hsm_token *tok, hsm_handle key, EVP_PKEY *pub,
                                         const struct hsm_mech *mech)
{
    uint8_t in[HSM_SIGNATURE_MAX] = { 0x00, 0x5a }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_bytes data = { in, mech->hash != HSM_HASH_NONE ? hsm_hash_len(mech->hash) : 33 };
    hsm_status st;

    if (mech->type == HSM_MECH_RSA_RAW)
        data.len = (size_t)EVP_PKEY_get_size(pub);
    st = hsm_sign(tok, key, mech, data, &out);
    if (st == HSM_OK)
        ck_assert_msg(verify(pub, mech, data, (struct hsm_bytes){ sig, out.len }),
                      "signature does not verify");
    return st;
}

UNUSED static hsm_status sign_default(struct hsm_token *tok, const struct hsm_object *obj)
{
    struct hsm_mech mech = default_mech(&obj->kind);
    EVP_PKEY *pub = public_key(obj);
    hsm_status st = mech.type == HSM_MECH_NONE ? HSM_OK : sign_and_verify(tok, obj->handle, pub, &mech);

    EVP_PKEY_free(pub);
    return st;
}

/* ---- certificates ---------------------------------------------------------------------------------------
 */

UNUSED static struct hsm_bytes certificate(EVP_PKEY *pkey)
{
    X509 *x = X509_new();
    unsigned char *der = NULL;
    int len;

    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    (void)X509_set_pubkey(x, pkey);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                     (const unsigned char *)"test", -1, -1, 0);
    (void)X509_set_issuer_name(x, X509_get_subject_name(x));
    ck_assert_int_gt(X509_sign(x, pkey, EVP_sha256()), 0);
    len = i2d_X509(x, &der);
    ck_assert_int_gt(len, 0);
    X509_free(x);
    return (struct hsm_bytes){ der, (size_t)len };
}

/* ---- counting objects -----------------------------------------------------------------------------------
 */

/* What the maker of a token put there is always there. */
UNUSED static hsm_status count_one(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    (void)tok;
    if (obj->origin != HSM_ORIGIN_FACTORY)
        ++*(size_t *)arg;
    return HSM_OK;
}

UNUSED static size_t count_objects(struct hsm_token *tok)
{
    size_t n = 0;

    ck_ok(hsm_find(tok, NULL, count_one, &n));
    return n;
}

UNUSED static void clean_environment(void)
{
    static const char *const names[] = { "HSM_TOKEN", "HSM_PIN_SOURCE", "HSM_LOG", "HSM_LOG_LEVEL",
                                         "OPENSSL_CONF" };
    size_t i;

    for (i = 0; i < COUNT(names); i++)
        (void)unsetenv(names[i]);
    (void)setenv("OPENSSL_CONF", "/dev/null", 1);
}

#endif
