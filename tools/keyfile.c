/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include "hsm/keyref.h"
#include "hsm/secret.h"
#include "keyfile.h"

#define DEFAULT_PROVIDER "provider=default"
enum { PASSPHRASE_MAX = 1024, PBKDF2_ITERATIONS = 600000 }; /* OWASP's figure for HMAC-SHA-256 */

struct passphrase {
    struct tool *t;
    const char *path;
    bool asked;
    hsm_status st;
};

/* A passphrase source has the grammar of a PIN source; `prompt` asks about the file, not about the token. */
static hsm_status read_passphrase(struct tool *t, const char *source, const char *question,
                                  struct hsm_buf *out)
{
    if (source == NULL || strcmp(source, "prompt") == 0)
        return prompt_secret(question, out);
    return hsm_pin_read(t->ctx, source, HSM_ROLE_USER, out);
}

/* pem_password_cb: called only if the file is encrypted. */
static int give_passphrase(char *buf, int size, int writing, void *arg)
{
    struct passphrase *pass = arg;
    struct hsm_buf out = { .ptr = (uint8_t *)buf, .cap = size < 0 ? 0 : (size_t)size };
    char question[300];

    (void)writing;
    if (pass->asked && pass->st != HSM_OK)
        return -1;
    pass->asked = true;
    snprintf(question, sizeof(question), "Passphrase of %.255s: ", pass->path);
    pass->st = read_passphrase(pass->t, pass->t->opt.passin, question, &out);
    return pass->st == HSM_OK ? (int)out.len : -1;
}

/* Other PEM blocks (parameters, certificates) may stand before the key: go on while something is consumed. */
static EVP_PKEY *decode(struct tool *t, struct hsm_bytes file, struct passphrase *pass)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *dctx = OSSL_DECODER_CTX_new_for_pkey(&pkey, NULL, NULL, NULL, EVP_PKEY_KEYPAIR,
                                                           hsm_ctx_libctx(t->ctx), DEFAULT_PROVIDER);
    BIO *bio = BIO_new_mem_buf(file.ptr, (int)file.len);
    size_t left = file.len, before = 0;

    if (bio == NULL || dctx == NULL || OSSL_DECODER_CTX_set_pem_password_cb(dctx, give_passphrase, pass) != 1)
        goto out;
    while (pkey == NULL && left > 0 && left != before) {
        before = left;
        if (OSSL_DECODER_from_bio(dctx, bio) != 1 && pass->asked)
            break;
        left = BIO_ctrl_pending(bio);
    }
out:
    BIO_free(bio);
    OSSL_DECODER_CTX_free(dctx);
    return pkey;
}

static bool holds(struct hsm_bytes file, const char *text)
{
    return memmem(file.ptr, file.len, text, strlen(text)) != NULL;
}

static hsm_status explain(const char *path, struct hsm_bytes file, const struct passphrase *pass)
{
    if (pass->asked && pass->st != HSM_OK)
        return pass->st; /* the line of prompt_secret() or hsm_pin_read() says it */
    if (pass->asked)
        return hsm_fail(HSM_ERR_DATA,
                        "%s cannot be decrypted: wrong passphrase, damaged, or an algorithm of the legacy "
                        "provider; check --passin",
                        path);
    if (holds(file, HSM_KEYREF_PEM_LABEL))
        return hsm_fail(HSM_ERR_DATA,
                        "%s is a reference to a key that is in a token already; it holds no private key",
                        path);
    if (holds(file, "PRIVATE KEY-----") && !holds(file, "-----END "))
        return hsm_fail(HSM_ERR_DATA, "%s is cut short: the END line of the private key is missing", path);
    return hsm_fail(HSM_ERR_DATA, "%s holds no whole private key in PEM or DER form (PKCS#8 or traditional)",
                    path);
}

static hsm_status encode(const char *path, EVP_PKEY *pkey, struct hsm_buf *pkcs8)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    int len = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, NULL) : -1;
    hsm_status st = HSM_OK;
    unsigned char *p;

    if (len <= 0) {
        st = hsm_fail(HSM_ERR_DATA, "%s holds no private key that can be written as PKCS#8", path);
        goto out;
    }
    pkcs8->cap = pkcs8->len = (size_t)len;
    if ((p = pkcs8->ptr = hsm_secret_alloc(pkcs8->cap)) == NULL)
        st = hsm_fail(HSM_ERR_MEMORY, "out of memory for the key of %s", path);
    else
        (void)i2d_PKCS8_PRIV_KEY_INFO(info, &p);
out:
    PKCS8_PRIV_KEY_INFO_free(info); /* cleanses the key */
    return st;
}

hsm_status keyfile_read(struct tool *t, const char *path, struct hsm_buf *pkcs8)
{
    struct passphrase pass = { .t = t, .path = path, .st = HSM_OK };
    struct hsm_buf file = { .ptr = NULL };
    struct hsm_bytes bytes;
    EVP_PKEY *pkey = NULL;
    hsm_status st;

    memset(pkcs8, 0, sizeof(*pkcs8));
    if ((st = tool_read_file(path, TOOL_KEY_FILE_MAX, &file)) != HSM_OK)
        return st;
    bytes = (struct hsm_bytes){ file.ptr, file.len };
    pkey = decode(t, bytes, &pass);
    st = pkey != NULL ? encode(path, pkey, pkcs8) : explain(path, bytes, &pass);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    tool_buf_free(&file);
    return st;
}

static hsm_status read_new_passphrase(struct tool *t, struct hsm_buf *pass)
{
    uint8_t again[PASSPHRASE_MAX];
    struct hsm_buf second = { .ptr = again, .cap = sizeof(again) };
    bool asks = strcmp(t->opt.passout, "prompt") == 0;
    hsm_status st;

    if ((st = read_passphrase(t, t->opt.passout, "Passphrase for the exported key: ", pass)) != HSM_OK)
        return st;
    if (asks)
        st = prompt_secret("Passphrase for the exported key, once more: ", &second);
    if (asks && st == HSM_OK && (second.len != pass->len || memcmp(again, pass->ptr, pass->len) != 0))
        st = hsm_fail(HSM_ERR_DATA, "the two entries of the passphrase differ; nothing was written");
    if (st == HSM_OK && pass->len == 0)
        st = hsm_fail(HSM_ERR_DATA, "the passphrase of --passout is empty; nothing was written");
    hsm_cleanse(again, sizeof(again));
    return st;
}

static X509_SIG *encrypt(struct tool *t, struct hsm_bytes pkcs8, struct hsm_bytes pass)
{
    OSSL_LIB_CTX *libctx = hsm_ctx_libctx(t->ctx);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, "AES-256-CBC", DEFAULT_PROVIDER);
    const unsigned char *p = pkcs8.ptr;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)pkcs8.len);
    X509_SIG *sealed = NULL;

    if (cipher != NULL && info != NULL)
        sealed = PKCS8_encrypt_ex(-1, cipher, (const char *)pass.ptr, (int)pass.len, NULL, 0,
                                  PBKDF2_ITERATIONS, info, libctx, DEFAULT_PROVIDER);
    PKCS8_PRIV_KEY_INFO_free(info);
    EVP_CIPHER_free(cipher);
    return sealed;
}

hsm_status keyfile_write(struct tool *t, const char *path, struct hsm_bytes pkcs8)
{
    uint8_t pass[PASSPHRASE_MAX];
    struct hsm_buf passphrase = { .ptr = pass, .cap = sizeof(pass) };
    unsigned char *der = NULL;
    X509_SIG *sealed = NULL;
    int len = -1;
    hsm_status st;

    if (t->opt.plain)
        return tool_write_pem(path, PEM_STRING_PKCS8INF, pkcs8, 0600);
    if ((st = read_new_passphrase(t, &passphrase)) != HSM_OK)
        goto out;
    if ((sealed = encrypt(t, pkcs8, (struct hsm_bytes){ pass, passphrase.len })) != NULL)
        len = i2d_X509_SIG(sealed, &der);
    if (len <= 0)
        st = hsm_fail(HSM_ERR_CRYPTO, "cannot encrypt the exported key");
    else
        st = tool_write_pem(path, PEM_STRING_PKCS8, (struct hsm_bytes){ der, (size_t)len }, 0600);
out:
    hsm_cleanse(pass, sizeof(pass));
    OPENSSL_free(der);
    X509_SIG_free(sealed);
    ERR_clear_error();
    return st;
}
