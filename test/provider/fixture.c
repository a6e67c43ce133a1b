/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/store.h>

/* ---- token --------------------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");

    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
}

static void make_token(struct fixture *fx)
{
    char spec[FIXTURE_PATH_MAX + 8], pin_source[FIXTURE_PATH_MAX + 8];
    struct hsm_bytes pin = { (const uint8_t *)FIXTURE_PIN, strlen(FIXTURE_PIN) };
    struct hsm_token_init init = { .label = "fixture", .user_pin = pin, .so_pin = pin, .machine_pin = true };
    struct hsm_config *cfg = NULL;
    hsm_status st;

    snprintf(spec, sizeof(spec), "soft:%s", fx->token_path);
    snprintf(pin_source, sizeof(pin_source), "file:%s/pin", fx->dir);
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token", spec), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source", pin_source), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_OK);
    ck_assert_int_eq(hsm_ctx_new(cfg, &fx->hsm), HSM_OK);
    st = hsm_token_create(fx->hsm, 0, &init);
    ck_assert_msg(st == HSM_OK, "%s", hsm_error_text(st));
    fx->tok = fixture_token(fx);
}

struct hsm_token *fixture_token(struct fixture *fx)
{
    struct hsm_token *tok = NULL;
    hsm_status st = hsm_token_get(fx->hsm, 0, &tok);

    ck_assert_msg(st == HSM_OK, "%s", hsm_error_text(st));
    return tok;
}

OSSL_LIB_CTX *fixture_context(struct fixture *fx, const char *order, const char *extra)
{
    const char *modules = getenv("HSM_MODULE_DIR");
    bool hsm_first = strncmp(order, "hsm", 3) == 0, with_default = strstr(order, "default") != NULL;
    bool several = extra != NULL && strstr(extra, "tokens =") != NULL;
    char text[4096], standard[1024];
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();

    ck_assert_msg(modules != NULL, "HSM_MODULE_DIR must name the directory of hsm.so");
    snprintf(standard, sizeof(standard), "pin-source = file:%s/pin\nlog = file:%s\nlog-level = error\n",
             fx->dir, fx->log_path);
    snprintf(
        text, sizeof(text),
        "openssl_conf = openssl_init\nconfig_diagnostics = 1\n[openssl_init]\nproviders = provider_sect\n"
        "[provider_sect]\n%s%s%s[default_sect]\nactivate = 1\n"
        "[hsm_sect]\nmodule = %s/hsm.so\nactivate = 1\n%s%s\n%s",
        hsm_first ? "hsm = hsm_sect\n" : "", with_default ? "default = default_sect\n" : "",
        hsm_first ? "" : "hsm = hsm_sect\n", modules,
        several ? "" : "token = soft:", several ? "" : fx->token_path, extra != NULL ? extra : standard);
    write_file(fx->conf_path, text);
    ck_assert_msg(OSSL_LIB_CTX_load_config(libctx, fx->conf_path) == 1, "%s",
                  ERR_error_string(ERR_peek_last_error(), NULL));
    ck_assert_int_eq(OSSL_PROVIDER_available(libctx, "hsm"), 1);
    return libctx;
}

void fixture_open(struct fixture *fx)
{
    const char *parent = getenv("TMPDIR");
    char path[FIXTURE_PATH_MAX];

    unsetenv("HSM_TOKEN"); /* they would win over the file */
    unsetenv("HSM_PIN_SOURCE");
    unsetenv("HSM_LOG");
    memset(fx, 0, sizeof(*fx));
    snprintf(fx->dir, sizeof(fx->dir), "%.80s/hsm-test.XXXXXX", parent != NULL ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(fx->dir));
    snprintf(fx->token_path, sizeof(fx->token_path), "%s/token.db", fx->dir);
    snprintf(fx->conf_path, sizeof(fx->conf_path), "%s/openssl.cnf", fx->dir);
    snprintf(fx->log_path, sizeof(fx->log_path), "%s/log", fx->dir);
    snprintf(path, sizeof(path), "%s/pin", fx->dir);
    write_file(path, FIXTURE_PIN "\n");
    chmod(path, 0600);
    make_token(fx);
    fx->app = fixture_context(fx, "default hsm", NULL);
    fx->plain = OSSL_LIB_CTX_new();
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void fixture_close(struct fixture *fx)
{
    OSSL_LIB_CTX_free(fx->app);
    OSSL_LIB_CTX_free(fx->plain);
    hsm_ctx_free(fx->hsm);
    if (fx->dir[0] != '\0')
        nftw(fx->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- objects ------------------------------------------------------------------------------------------- */

void fixture_generate(struct fixture *fx, const char *label, const char *kind)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = label };
    hsm_handle handle;
    hsm_status st = hsm_kind_parse(kind, &spec.kind);

    if (st == HSM_OK)
        st = hsm_generate(fixture_token(fx), &spec, &handle);
    ck_assert_msg(st == HSM_OK, "%s: %s", kind, hsm_error_text(st));
}

/* "rsa-pss:BITS:DIGEST:SALT" */
static EVP_PKEY *restricted_key(struct fixture *fx, const char *kind)
{
    unsigned bits = 0;
    int salt = 0;
    char digest[32] = "";
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx->plain, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;
    EVP_MD *md;

    ck_assert_int_eq(sscanf(kind, "rsa-pss:%u:%31[^:]:%d", &bits, digest, &salt), 3);
    md = EVP_MD_fetch(fx->plain, digest, NULL);
    ck_assert_int_gt(EVP_PKEY_keygen_init(ctx), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_pss_keygen_md(ctx, md), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md(ctx, md), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(ctx, salt), 0);
    ck_assert_int_gt(EVP_PKEY_generate(ctx, &key), 0);
    EVP_MD_free(md);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

EVP_PKEY *fixture_software_key(struct fixture *fx, const char *kind)
{
    struct hsm_key_kind k;
    EVP_PKEY *key;

    if (strncmp(kind, "rsa-pss:", 8) == 0 && strchr(kind + 8, ':') != NULL)
        return restricted_key(fx, kind);
    ck_assert_int_eq(hsm_kind_parse(kind, &k), HSM_OK);
    switch (k.type) {
    case HSM_KEY_RSA:
        key = EVP_PKEY_Q_keygen(fx->plain, NULL, "RSA", (size_t)k.bits);
        break;
    case HSM_KEY_RSA_PSS: {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(fx->plain, "RSA-PSS", NULL);

        key = NULL;
        ck_assert_int_gt(EVP_PKEY_keygen_init(ctx), 0);
        ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)k.bits), 0);
        ck_assert_int_gt(EVP_PKEY_generate(ctx, &key), 0);
        EVP_PKEY_CTX_free(ctx);
        break;
    }
    case HSM_KEY_EC:
        key = EVP_PKEY_Q_keygen(fx->plain, NULL, "EC", hsm_curve_info(k.curve)->group_name);
        break;
    default:
        key = EVP_PKEY_Q_keygen(fx->plain, NULL, kind);
    }
    ck_assert_msg(key != NULL, "%s", kind);
    return key;
}

void fixture_import(struct fixture *fx, const char *label, EVP_PKEY *key)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = label };
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    unsigned char *der = NULL;
    int len = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);
    hsm_handle handle;
    hsm_status st;

    ck_assert_int_gt(len, 0);
    st = hsm_import(fixture_token(fx), &spec, (struct hsm_bytes){ der, (size_t)len }, &handle);
    ck_assert_msg(st == HSM_OK, "%s: %s", label, hsm_error_text(st));
    OPENSSL_clear_free(der, (size_t)len);
    PKCS8_PRIV_KEY_INFO_free(p8);
}

X509 *fixture_certificate(struct fixture *fx, EVP_PKEY *key, const char *common_name)
{
    X509 *cert = X509_new_ex(fx->plain, NULL);
    X509_NAME *name = X509_get_subject_name(cert);
    bool edwards = EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448");

    ck_assert_int_eq(X509_set_version(cert, X509_VERSION_3), 1);
    ck_assert_int_eq(ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    ck_assert_int_eq(
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0),
        1);
    ck_assert_int_eq(X509_set_issuer_name(cert, name), 1);
    ck_assert_int_eq(X509_set_pubkey(cert, key), 1);
    ck_assert_int_gt(X509_sign(cert, key, edwards ? NULL : EVP_sha256()), 0);
    return cert;
}

void fixture_put_certificate(struct fixture *fx, const char *label, X509 *cert)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_CERT, .label = label };
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    hsm_handle handle;
    hsm_status st;

    ck_assert_int_gt(len, 0);
    st = hsm_put(fixture_token(fx), &spec, (struct hsm_bytes){ der, (size_t)len }, &handle);
    ck_assert_msg(st == HSM_OK, "%s: %s", label, hsm_error_text(st));
    OPENSSL_free(der);
}

/* ---- through libcrypto --------------------------------------------------------------------------------- */

EVP_PKEY *fixture_store_key(OSSL_LIB_CTX *libctx, const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, libctx, NULL, NULL, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;

    if (store == NULL)
        return NULL;
    ck_assert_int_eq(OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY), 1);
    while (key == NULL && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);

        if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
        if (info == NULL && OSSL_STORE_error(store))
            break;
    }
    OSSL_STORE_close(store);
    return key;
}

EVP_PKEY *fixture_read_pem(OSSL_LIB_CTX *libctx, const void *pem, size_t pem_len)
{
    BIO *in = BIO_new_mem_buf(pem, (int)pem_len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey_ex(in, NULL, NULL, NULL, libctx, NULL);

    BIO_free(in);
    return key;
}

char *fixture_reference(EVP_PKEY *key)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL, *text;
    long len;

    ck_assert_int_eq(PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(out, &data);
    text = strndup(data, (size_t)len);
    BIO_free(out);
    return text;
}

EVP_PKEY *fixture_public(struct fixture *fx, EVP_PKEY *key)
{
    unsigned char *der = NULL;
    const unsigned char *in;
    int len = i2d_PUBKEY(key, &der);
    EVP_PKEY *pub;

    ck_assert_int_gt(len, 0);
    in = der;
    pub = d2i_PUBKEY_ex(NULL, &in, len, fx->plain, NULL);
    ck_assert_ptr_nonnull(pub);
    OPENSSL_free(der);
    return pub;
}

bool fixture_can_sign(struct fixture *fx, EVP_PKEY *key, EVP_PKEY *pub)
{
    static const unsigned char message[] = "message";
    unsigned char sig[HSM_SIGNATURE_MAX + 64];
    size_t sig_len = sizeof(sig);
    EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit_ex(sign, NULL, NULL, fx->app, NULL, key, NULL) == 1 &&
              EVP_DigestSign(sign, sig, &sig_len, message, sizeof(message)) == 1 &&
              EVP_DigestVerifyInit_ex(verify, NULL, NULL, fx->plain, NULL, pub, NULL) == 1 &&
              EVP_DigestVerify(verify, sig, sig_len, message, sizeof(message)) == 1;

    EVP_MD_CTX_free(sign);
    EVP_MD_CTX_free(verify);
    return ok;
}

/* @return entries of ours; *found if one has @p part */
static unsigned drain_errors(const char *part, bool *found)
{
    const char *file, *func, *data;
    int line, flags;
    unsigned long code;
    unsigned ours = 0;

    *found = false;
    while ((code = ERR_get_error_all(&file, &line, &func, &data, &flags)) != 0) {
        const char *lib = ERR_lib_error_string(code);

        if (lib == NULL || strcmp(lib, "hsm") != 0)
            continue;
        ours++;
        if (part != NULL && (flags & ERR_TXT_STRING) != 0 && strstr(data, part) != NULL)
            *found = true;
    }
    return ours;
}

bool fixture_error_has(const char *part)
{
    bool found;

    (void)drain_errors(part, &found);
    return found;
}

unsigned fixture_errors(void)
{
    bool found;

    return drain_errors(NULL, &found);
}

bool fixture_log_has(struct fixture *fx, const char *part)
{
    FILE *in = fopen(fx->log_path, "r");
    char line[2048];
    bool found = false;

    while (in != NULL && !found && fgets(line, sizeof(line), in) != NULL)
        found = strstr(line, part) != NULL;
    if (in != NULL)
        fclose(in);
    return found;
}
