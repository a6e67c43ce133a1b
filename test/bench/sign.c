/* SPDX-License-Identifier: Apache-2.0 */
/** In one process: signatures as TLS makes them (a new context for each), and reading a key file. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "bench.h"

struct signer {
    EVP_PKEY *key;
    const char *digest; /* NULL for EdDSA */
    bool pss;
};

static EVP_PKEY *read_key(const char *path, OSSL_LIB_CTX *libctx)
{
    BIO *in = BIO_new_file(path, "r");
    EVP_PKEY *key = in != NULL ? PEM_read_bio_PrivateKey_ex(in, NULL, NULL, NULL, libctx, NULL) : NULL;

    BIO_free(in);
    return key;
}

static bool sign_with(EVP_MD_CTX *ctx, const struct signer *signer)
{
    static const unsigned char message[64] = "TLS 1.3, server CertificateVerify";
    unsigned char signature[1024];
    size_t len = sizeof(signature);
    EVP_PKEY_CTX *pctx = NULL;

    if (EVP_DigestSignInit_ex(ctx, &pctx, signer->digest, NULL, NULL, signer->key, NULL) <= 0)
        return false;
    if (signer->pss && (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) <= 0 ||
                        EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) <= 0))
        return false;
    return EVP_DigestSign(ctx, signature, &len, message, sizeof(message)) > 0;
}

static bool sign_once(void *arg)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool signed_ok = ctx != NULL && sign_with(ctx, arg);

    EVP_MD_CTX_free(ctx);
    return signed_ok || bench_fail_crypto("signing failed");
}

bool bench_sign(struct bench *bench, const char *key_type, bool pss, struct score *score)
{
    struct key_pair_files files;
    struct signer signer[SIDE_COUNT] = { 0 };
    struct contest contest = { .run = sign_once, .threads = bench->threads };
    bool done = false;

    if (!fixture_key(bench, key_type, &files))
        return false;
    for (int side = 0; side < SIDE_COUNT; side++) {
        signer[side] = (struct signer){ .key = read_key(files.path[side], NULL), .pss = pss };
        contest.arg[side] = &signer[side];
        if (signer[side].key == NULL) {
            (void)bench_fail_crypto(files.path[side]);
            goto out;
        }
        if (!EVP_PKEY_is_a(signer[side].key, "ED25519"))
            signer[side].digest = "SHA256";
    }
    done = contest_run(&contest, bench->seconds, score);
out:
    for (int side = 0; side < SIDE_COUNT; side++)
        EVP_PKEY_free(signer[side].key);
    return done;
}

struct loader {
    const char *path;
    OSSL_LIB_CTX *libctx; /* NULL: the program's, as the configuration made it */
};

static bool load_once(void *arg)
{
    const struct loader *loader = arg;
    EVP_PKEY *key = read_key(loader->path, loader->libctx);

    EVP_PKEY_free(key);
    return key != NULL || bench_fail_crypto(loader->path);
}

/* Every provider that can decode makes libcrypto search longer, for other keys too: unconfigured shows it. */
bool bench_load(struct bench *bench, bool configured, struct score *score)
{
    struct key_pair_files files;
    struct loader loader[SIDE_COUNT] = { 0 };
    struct contest contest = { .run = load_once, .threads = bench->threads };
    OSSL_LIB_CTX *unconfigured = configured ? NULL : OSSL_LIB_CTX_new();
    bool done = false;

    if (!configured && unconfigured == NULL)
        return bench_fail_crypto("library context");
    if (fixture_key(bench, "ec", &files)) {
        for (int side = 0; side < SIDE_COUNT; side++) {
            loader[side].path = files.path[side];
            contest.arg[side] = &loader[side];
        }
        loader[SIDE_DEFAULT].libctx = unconfigured;
        done = contest_run(&contest, bench->seconds, score);
    }
    OSSL_LIB_CTX_free(unconfigured);
    return done;
}
