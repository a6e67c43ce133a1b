/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl selftest: each key type made in the token, used, checked by OpenSSL, and deleted. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tool.h"

static const char *const types[] = {
    "ec:P-256",           "ec:P-384", "ec:P-521", "ec:secp256k1", "ec:brainpoolP256r1",
    "ec:brainpoolP384r1", "ed25519",  "ed448",    "x25519",       "x448",
    "rsa:2048",           "rsa:3072", "rsa:4096", "rsa-pss:2048"
};
static const uint8_t message[] = "hsmctl selftest";
static volatile sig_atomic_t stop;

struct trial {
    struct tool *t;
    struct hsm_token *tok;
    const char *type;
    struct hsm_key_kind kind;
    struct hsm_object obj;
    double make_ms, use_ms;
};

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static double now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static hsm_status make_key(struct trial *trial)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .kind = trial->kind };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE };
    uint64_t number = 0;
    hsm_handle handle;
    double begin;
    hsm_status st;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return hsm_fail(HSM_ERR_INTERNAL, "the kernel gives no random numbers: %s", strerror(errno));
    snprintf(uri.object, sizeof(uri.object), "hsmctl-selftest-%016llx", (unsigned long long)number);
    spec.label = uri.object;
    begin = now_ms();
    if ((st = hsm_generate(trial->tok, &spec, &handle)) != HSM_OK)
        return st;
    trial->make_ms = now_ms() - begin;
    if ((st = hsm_find_one(trial->tok, &uri, &trial->obj)) != HSM_OK) {
        trial->obj.handle = handle; /* still to be deleted */
        return st;
    }
    return HSM_OK;
}

static struct hsm_mech mech_for(enum hsm_key_type type)
{
    switch (type) {
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

static hsm_status verify(struct trial *trial, EVP_PKEY *pub, const struct hsm_mech *mech,
                         struct hsm_bytes sig)
{
    OSSL_LIB_CTX *libctx = hsm_ctx_libctx(trial->t->ctx);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    int ok =
        md != NULL && EVP_DigestVerifyInit_ex(md, &pctx, mech->type == HSM_MECH_EDDSA ? NULL : "SHA2-256",
                                              libctx, "provider=default", pub, NULL) == 1;

    if (ok && mech->type == HSM_MECH_RSA_PSS)
        ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, (int)mech->salt_len) == 1;
    if (ok)
        ok = EVP_DigestVerify(md, sig.ptr, sig.len, message, sizeof(message)) == 1;
    EVP_MD_CTX_free(md);
    return ok ? HSM_OK
              : hsm_fail(HSM_ERR_CRYPTO, "%s: OpenSSL rejects the signature of the token", trial->type);
}

/* The token signs what its mechanism takes: a digest, or for EdDSA the message. */
static hsm_status sign_and_verify(struct trial *trial, EVP_PKEY *pub)
{
    struct hsm_mech mech = mech_for(trial->kind.type);
    uint8_t digest[EVP_MAX_MD_SIZE], sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { .ptr = sig, .cap = sizeof(sig) };
    struct hsm_bytes in = { message, sizeof(message) };
    size_t digest_len = 0;
    double begin;
    hsm_status st;

    if (mech.type == HSM_MECH_NONE)
        return HSM_OK;
    if (mech.type != HSM_MECH_EDDSA) {
        if (EVP_Q_digest(hsm_ctx_libctx(trial->t->ctx), "SHA2-256", "provider=default", message,
                         sizeof(message), digest, &digest_len) != 1)
            return hsm_fail(HSM_ERR_CRYPTO, "SHA-256 of the default provider fails");
        in = (struct hsm_bytes){ digest, digest_len };
    }
    begin = now_ms();
    if ((st = hsm_sign(trial->tok, trial->obj.handle, &mech, in, &out)) != HSM_OK)
        return st;
    trial->use_ms = now_ms() - begin;
    return verify(trial, pub, &mech, (struct hsm_bytes){ sig, out.len });
}

static hsm_status use_key(struct trial *trial)
{
    OSSL_LIB_CTX *libctx = hsm_ctx_libctx(trial->t->ctx);
    const unsigned char *p = trial->obj.spki;
    EVP_PKEY *pub = d2i_PUBKEY_ex(NULL, &p, (long)trial->obj.spki_len, libctx, "provider=default");
    EVP_PKEY_CTX *ctx = pub != NULL ? EVP_PKEY_CTX_new_from_pkey(libctx, pub, "provider=default") : NULL;
    hsm_status st;

    if (ctx == NULL || EVP_PKEY_public_check(ctx) != 1)
        st = hsm_fail(HSM_ERR_CRYPTO, "%s: OpenSSL rejects the public key of the token", trial->type);
    else
        st = sign_and_verify(trial, pub);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pub);
    ERR_clear_error();
    return st;
}

static bool token_lacks(hsm_status st)
{
    return st == HSM_ERR_UNSUPPORTED || st == HSM_ERR_MECH || st == HSM_ERR_KEY_TYPE;
}

/* One type: make, use, delete. The key goes whatever happened to it. */
static hsm_status run_trial(struct trial *trial)
{
    hsm_status st = hsm_kind_parse(trial->type, &trial->kind), gone;

    if (st == HSM_OK)
        st = make_key(trial);
    if (st == HSM_OK)
        st = use_key(trial);
    if (trial->obj.handle != 0 && (gone = hsm_destroy(trial->tok, trial->obj.handle)) != HSM_OK &&
        st == HSM_OK)
        st = gone;
    return st;
}

static void record_result(struct json_object *list, const struct trial *trial, hsm_status st)
{
    struct json_object *record = json_object_new_object();
    char ms[32];

    out_text(record, "type", trial->type);
    out_text(record, "result", st == HSM_OK ? "ok" : token_lacks(st) ? "skipped" : "FAILED");
    snprintf(ms, sizeof(ms), "%.2f", trial->make_ms);
    json_object_object_add(record, "make_ms",
                           st == HSM_OK ? json_object_new_double_s(trial->make_ms, ms) : NULL);
    snprintf(ms, sizeof(ms), "%.2f", trial->use_ms);
    json_object_object_add(record, "sign_ms",
                           st == HSM_OK && trial->use_ms > 0 ? json_object_new_double_s(trial->use_ms, ms)
                                                             : NULL);
    out_text(record, "detail", st == HSM_OK ? NULL : hsm_error_text(st));
    json_object_array_add(list, record);
}

static hsm_status check_random(struct tool *t, struct hsm_token *tok)
{
    uint8_t a[32] = { 0 }, b[32] = { 0 };
    struct hsm_buf first = { .ptr = a, .cap = sizeof(a) }, second = { .ptr = b, .cap = sizeof(b) };
    hsm_status st;

    (void)t;
    if ((st = hsm_random(tok, &first)) != HSM_OK || (st = hsm_random(tok, &second)) != HSM_OK)
        return st;
    if (memcmp(a, b, sizeof(a)) == 0)
        return hsm_fail(HSM_ERR_CRYPTO, "the token gave the same random bytes twice");
    return HSM_OK;
}

/* Ends early, with all keys deleted, on SIGINT or SIGTERM. */
static size_t run_all(struct tool *t, struct hsm_token *tok, struct json_object *list)
{
    struct trial random = { .t = t, .type = "random" };
    size_t failed = 0;
    hsm_status st = check_random(t, tok);

    record_result(list, &random, st);
    failed += st != HSM_OK && !token_lacks(st);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && !stop; i++) {
        struct trial trial = { .t = t, .tok = tok, .type = types[i] };

        st = run_trial(&trial);
        record_result(list, &trial, st);
        failed += st != HSM_OK && !token_lacks(st);
    }
    return failed;
}

hsm_status cmd_selftest(struct tool *t)
{
    static const char *const fields[] = { "type", "result", "make_ms", "sign_ms", "detail", NULL };
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    struct hsm_token *tok = NULL;
    struct json_object *list;
    size_t failed;
    hsm_status st;

    if ((st = tool_token(t, &tok)) != HSM_OK || (st = hsm_login_configured(tok)) != HSM_OK)
        return st;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    list = json_object_new_array();
    failed = run_all(t, tok, list);
    if ((st = out_list(t, list, fields)) != HSM_OK)
        return st;
    if (stop)
        return hsm_fail(HSM_ERR_INTERNAL, "selftest was interrupted; its temporary keys are deleted");
    if (failed > 0)
        return hsm_fail(HSM_ERR_CRYPTO, "selftest: %zu of the tests failed; see the table", failed);
    return HSM_OK;
}
