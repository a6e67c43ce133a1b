/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every signature against the default provider with the same key: what one refuses the other refuses, the
 * algorithm identifiers are the same bytes, and plain OpenSSL verifies what the token signed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "fixture.h"

enum { SIG_MAX = HSM_SIGNATURE_MAX, AID_MAX = 256, MESSAGE_MAX = 4096 };

static struct fixture fx;

/* One key on both sides. */
static struct subject {
    const char *kind;
    EVP_PKEY *soft;  /* in fx.plain */
    EVP_PKEY *token; /* in fx.app */
    EVP_PKEY *pub;   /* in fx.plain, from what the token key exports */
} subjects[] = {
    { "rsa:2048", NULL, NULL, NULL },
    { "rsa:3072", NULL, NULL, NULL },
    { "rsa-pss:2048", NULL, NULL, NULL },
    { "rsa-pss:2048:SHA256:32", NULL, NULL, NULL },
    { "ec:P-256", NULL, NULL, NULL },
    { "ec:P-384", NULL, NULL, NULL },
    { "ec:P-521", NULL, NULL, NULL },
    { "ec:secp256k1", NULL, NULL, NULL },
    { "ec:brainpoolP256r1", NULL, NULL, NULL },
    { "ec:brainpoolP384r1", NULL, NULL, NULL },
    { "ed25519", NULL, NULL, NULL },
    { "ed448", NULL, NULL, NULL },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void setup(void)
{
    char label[16], uri[32];

    fixture_open(&fx);
    for (size_t i = 0; i < COUNT(subjects); i++) {
        struct subject *s = &subjects[i];

        snprintf(label, sizeof(label), "key-%zu", i);
        snprintf(uri, sizeof(uri), "hsm:%s", label);
        s->soft = fixture_software_key(&fx, s->kind);
        fixture_import(&fx, label, s->soft);
        s->token = fixture_store_key(fx.app, uri);
        ck_assert_msg(s->token != NULL, "%s: %s", s->kind, ERR_error_string(ERR_peek_last_error(), NULL));
        s->pub = fixture_public(&fx, s->token);
    }
}

static void teardown(void)
{
    for (size_t i = 0; i < COUNT(subjects); i++) {
        EVP_PKEY_free(subjects[i].soft);
        EVP_PKEY_free(subjects[i].token);
        EVP_PKEY_free(subjects[i].pub);
    }
    fixture_close(&fx);
}

static bool is_rsa(const struct subject *s)
{
    return strncmp(s->kind, "rsa", 3) == 0;
}

static bool is_eddsa(const struct subject *s)
{
    return strncmp(s->kind, "ed", 2) == 0;
}

static struct subject *subject(const char *kind)
{
    for (size_t i = 0; i < COUNT(subjects); i++)
        if (strcmp(subjects[i].kind, kind) == 0)
            return &subjects[i];
    ck_abort_msg("no subject %s", kind);
    return NULL;
}

/* ---- a way to sign, applied alike on both sides -------------------------------------------------------- */

struct variant {
    const char *digest; /* NULL: by default */
    const char *pad;    /* NULL: not set */
    const char *salt;
    const char *mgf1;
};

static const char *describe(const struct subject *s, const struct variant *v)
{
    static char text[256];

    snprintf(text, sizeof(text), "%s digest %s pad %s salt %s mgf1 %s", s->kind, v->digest ? v->digest : "-",
             v->pad ? v->pad : "-", v->salt ? v->salt : "-", v->mgf1 ? v->mgf1 : "-");
    return text;
}

static bool apply(EVP_PKEY_CTX *pctx, const struct variant *v)
{
    return (v->pad == NULL || EVP_PKEY_CTX_ctrl_str(pctx, "rsa_padding_mode", v->pad) > 0) &&
           (v->mgf1 == NULL || EVP_PKEY_CTX_ctrl_str(pctx, "rsa_mgf1_md", v->mgf1) > 0) &&
           (v->salt == NULL || EVP_PKEY_CTX_ctrl_str(pctx, "rsa_pss_saltlen", v->salt) > 0);
}

/* NULL if this side refuses. */
static EVP_MD_CTX *begin_sign(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const struct variant *v,
                              EVP_PKEY_CTX **pctx)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (EVP_DigestSignInit_ex(ctx, pctx, v->digest, libctx, NULL, key, NULL) == 1 && apply(*pctx, v))
        return ctx;
    EVP_MD_CTX_free(ctx);
    return NULL;
}

static bool verifies(const struct subject *s, const struct variant *v, const unsigned char *sig,
                     size_t sig_len, const void *message, size_t message_len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    bool ok = EVP_DigestVerifyInit_ex(ctx, &pctx, v->digest, fx.plain, NULL, s->pub, NULL) == 1 &&
              apply(pctx, v) && EVP_DigestVerify(ctx, sig, sig_len, message, message_len) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Length 0: this side has none to offer. */
static size_t algorithm_id(EVP_PKEY_CTX *pctx, unsigned char aid[AID_MAX])
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, aid,
                                                              AID_MAX),
                            OSSL_PARAM_construct_end() };

    if (EVP_PKEY_CTX_get_params(pctx, params) <= 0 || !OSSL_PARAM_modified(&params[0]))
        return 0;
    return params[0].return_size;
}

static bool deterministic(const struct subject *s, const struct variant *v)
{
    return is_eddsa(s) ||
           (strncmp(s->kind, "rsa:", 4) == 0 && (v->pad == NULL || strcmp(v->pad, "pkcs1") == 0));
}

static void compare(const struct subject *s, const struct variant *v)
{
    static const unsigned char message[] = "what both sides sign";
    unsigned char ours[SIG_MAX], theirs[SIG_MAX], our_id[AID_MAX], their_id[AID_MAX];
    size_t our_len = sizeof(ours), their_len = sizeof(theirs), our_id_len, their_id_len;
    EVP_PKEY_CTX *our_pctx = NULL, *their_pctx = NULL;
    EVP_MD_CTX *us = begin_sign(fx.app, s->token, v, &our_pctx);
    EVP_MD_CTX *them = begin_sign(fx.plain, s->soft, v, &their_pctx);
    bool they_sign;

    if (them != NULL && us != NULL) {
        our_id_len = algorithm_id(our_pctx, our_id);
        their_id_len = algorithm_id(their_pctx, their_id);
        if (their_id_len > 0)
            ck_assert_msg(our_id_len == their_id_len && memcmp(our_id, their_id, our_id_len) == 0,
                          "algorithm id: %s", describe(s, v));
    }
    they_sign = them != NULL && EVP_DigestSign(them, theirs, &their_len, message, sizeof(message)) == 1;
    if (us == NULL) {
        ck_assert_msg(!they_sign, "we refuse, they sign: %s", describe(s, v));
    } else if (EVP_DigestSign(us, ours, &our_len, message, sizeof(message)) == 1) {
        ck_assert_msg(they_sign, "we sign, they refuse: %s", describe(s, v));
        ck_assert_msg(verifies(s, v, ours, our_len, message, sizeof(message)), "does not verify: %s",
                      describe(s, v));
        if (deterministic(s, v))
            ck_assert_msg(our_len == their_len && memcmp(ours, theirs, our_len) == 0, "other bytes: %s",
                          describe(s, v));
    } else {
        ck_assert_msg(!they_sign, "we cannot sign, they can: %s", describe(s, v));
    }
    EVP_MD_CTX_free(us);
    EVP_MD_CTX_free(them);
    ERR_clear_error();
}

static const char *const digests[] = {
    NULL,
    "SHA1",
    "sha224",
    "SHA256",
    "SHA2-256",
    "sha384",
    "SHA512",
    "SHA512-224",
    "SHA2-512/256",
    "SHA3-224",
    "SHA3-256",
    "sha3-384",
    "SHA3-512",
    "MD5",
    "MD5-SHA1",
    "RIPEMD160",
    "2.16.840.1.101.3.4.2.1",
    "BLAKE2s256",
    "SM3",
    "no-such-digest",
};

START_TEST(digest_sign_matches_default)
{
    const struct subject *s = &subjects[_i];

    for (size_t d = 0; d < COUNT(digests); d++)
        if (!is_rsa(s) || digests[d] == NULL ||
            strcmp(digests[d], "SM3") != 0) /* RSA with SM3: only newer releases */
            compare(s, &(struct variant){ .digest = digests[d] });
}
END_TEST

START_TEST(rsa_padding_matches_default)
{
    static const char *const pads[] = { "pkcs1", "pss", "none" }; /* words that it does not know it ignores */
    static const char *const hashes[] = {
        NULL, "SHA1", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA512-256"
    };
    const struct subject *s = &subjects[_i];

    if (!is_rsa(s))
        return;
    for (size_t p = 0; p < COUNT(pads); p++)
        for (size_t h = 0; h < COUNT(hashes); h++)
            compare(s, &(struct variant){ hashes[h], pads[p], NULL, NULL });
}
END_TEST

START_TEST(pss_salt_and_mgf1_match_default)
{
    static const char *const salts[] = { "digest", "max", "auto", "0",   "1",    "20",
                                         "32",     "48",  "64",   "222", "1000", "-5" };
    static const char *const hashes[] = { "SHA1", "SHA256", "SHA512" };
    static const char *const mgf1s[] = { NULL, "SHA1", "SHA256", "SHA384" };
    const struct subject *s = &subjects[_i];

    if (!is_rsa(s))
        return;
    for (size_t n = 0; n < COUNT(salts); n++)
        for (size_t h = 0; h < COUNT(hashes); h++)
            for (size_t m = 0; m < COUNT(mgf1s); m++)
                if (strcmp(s->kind, "rsa-pss:2048:SHA256:32") != 0 ||
                    strcmp(salts[n], "auto") != 0) /* releases differ */
                    compare(s, &(struct variant){ hashes[h], "pss", salts[n], mgf1s[m] });
}
END_TEST

/* ---- digests given from outside ------------------------------------------------------------------------ */

static int sign_digest(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const struct variant *v, const unsigned char *tbs,
                       size_t tbs_len, unsigned char *sig, size_t *sig_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    bool ok = EVP_PKEY_sign_init(ctx) > 0 && apply(ctx, v) &&
              (v->digest == NULL || EVP_PKEY_CTX_ctrl_str(ctx, "digest", v->digest) > 0) &&
              EVP_PKEY_sign(ctx, sig, sig_len, tbs, tbs_len) > 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static int verify_digest(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const struct variant *v,
                         const unsigned char *tbs, size_t tbs_len, const unsigned char *sig, size_t sig_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    bool ok = EVP_PKEY_verify_init(ctx) > 0 && apply(ctx, v) &&
              (v->digest == NULL || EVP_PKEY_CTX_ctrl_str(ctx, "digest", v->digest) > 0) &&
              EVP_PKEY_verify(ctx, sig, sig_len, tbs, tbs_len) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static void compare_digest(const struct subject *s, const struct variant *v, size_t tbs_len)
{
    unsigned char tbs[SIG_MAX], ours[SIG_MAX], theirs[SIG_MAX];
    size_t our_len = sizeof(ours), their_len = sizeof(theirs);
    bool we, they;

    memset(tbs, 0x5a, sizeof(tbs));
    tbs[0] = 0; /* below any modulus */
    we = sign_digest(fx.app, s->token, v, tbs, tbs_len, ours, &our_len);
    they = sign_digest(fx.plain, s->soft, v, tbs, tbs_len, theirs, &their_len);
    ck_assert_msg(we == they, "%zu bytes, we %d, they %d: %s", tbs_len, we, they, describe(s, v));
    if (we) {
        ck_assert_msg(verify_digest(fx.plain, s->pub, v, tbs, tbs_len, ours, our_len),
                      "%zu bytes do not verify: %s", tbs_len, describe(s, v));
        ck_assert(
            verify_digest(fx.app, s->token, v, tbs, tbs_len, theirs, their_len)); /* and the other way */
        tbs[0] ^= 1; /* not the last: it may be cut off */
        ck_assert(!verify_digest(fx.app, s->token, v, tbs, tbs_len, theirs, their_len));
    }
    ERR_clear_error();
}

START_TEST(sign_takes_digests_of_any_length_for_ecdsa)
{
    const struct subject *s = &subjects[_i];

    if (is_rsa(s) || is_eddsa(s))
        return;
    for (size_t len = 1; len <= 70; len++)
        compare_digest(s, &(struct variant){ 0 }, len);
    compare_digest(s, &(struct variant){ .digest = "SHA256" }, 32);
    compare_digest(s, &(struct variant){ .digest = "SHA256" }, 31);
    compare_digest(s, &(struct variant){ .digest = "sha512" }, 64);
}
END_TEST

START_TEST(sign_matches_default_for_rsa)
{
    static const struct variant variants[] = {
        { NULL, NULL, NULL, NULL },          { NULL, "pkcs1", NULL, NULL },
        { "SHA256", "pkcs1", NULL, NULL },   { "MD5-SHA1", "pkcs1", NULL, NULL },
        { NULL, "none", NULL, NULL },        { "SHA256", "none", NULL, NULL },
        { NULL, "pss", NULL, NULL },         { "SHA256", "pss", NULL, NULL },
        { "SHA256", "pss", "digest", NULL }, { "SHA384", "pss", "max", "SHA1" },
        { "SHA256", NULL, NULL, NULL },
    };
    static const size_t lengths[] = { 1, 20, 32, 36, 48, 244, 245, 246, 255, 256, 257, 384 };
    const struct subject *s = &subjects[_i];

    if (!is_rsa(s))
        return;
    for (size_t v = 0; v < COUNT(variants); v++)
        for (size_t n = 0; n < COUNT(lengths); n++)
            compare_digest(s, &variants[v], lengths[n]);
}
END_TEST

START_TEST(verify_recover_gives_the_digest_back)
{
    const struct subject *s = subject("rsa:2048");
    unsigned char tbs[32], sig[SIG_MAX], out[SIG_MAX];
    size_t sig_len = sizeof(sig), out_len = sizeof(out);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(fx.app, s->token, NULL);

    memset(tbs, 7, sizeof(tbs));
    ck_assert(sign_digest(fx.app, s->token, &(struct variant){ .digest = "SHA256" }, tbs, sizeof(tbs), sig,
                          &sig_len));
    ck_assert_int_eq(EVP_PKEY_verify_recover_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_ctrl_str(ctx, "digest", "SHA256"), 1);
    ck_assert_int_eq(EVP_PKEY_verify_recover(ctx, out, &out_len, sig, sig_len), 1);
    ck_assert_mem_eq(out, tbs, sizeof(tbs));
    ck_assert_uint_eq(out_len, sizeof(tbs));
    sig[10] ^= 1;
    out_len = sizeof(out);
    ck_assert_int_le(EVP_PKEY_verify_recover(ctx, out, &out_len, sig, sig_len), 0);
    EVP_PKEY_CTX_free(ctx);
}
END_TEST

START_TEST(digest_verify_accepts_the_right_and_refuses_the_wrong)
{
    static const unsigned char message[] = "verified by a token key";
    const struct subject *s = &subjects[_i];
    EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
    unsigned char sig[SIG_MAX];
    size_t sig_len = sizeof(sig);

    ck_assert_int_eq(EVP_DigestSignInit_ex(sign, NULL, NULL, fx.plain, NULL, s->soft, NULL), 1);
    ck_assert_int_eq(EVP_DigestSign(sign, sig, &sig_len, message, sizeof(message)), 1);
    ck_assert_int_eq(EVP_DigestVerifyInit_ex(verify, NULL, NULL, fx.app, NULL, s->token, NULL), 1);
    ck_assert_int_eq(EVP_DigestVerify(verify, sig, sig_len, message, sizeof(message)), 1);
    EVP_MD_CTX_reset(verify);
    ck_assert_int_eq(EVP_DigestVerifyInit_ex(verify, NULL, NULL, fx.app, NULL, s->token, NULL), 1);
    ck_assert_int_ne(EVP_DigestVerify(verify, sig, sig_len, message, sizeof(message) - 1), 1);
    if (!is_eddsa(s)) {
        EVP_MD_CTX_reset(verify);
        ck_assert_int_eq(EVP_DigestVerifyInit_ex(verify, NULL, NULL, fx.app, NULL, s->token, NULL), 1);
        ck_assert_int_eq(EVP_DigestVerifyUpdate(verify, message, 5), 1);
        ck_assert_int_eq(EVP_DigestVerifyUpdate(verify, message + 5, sizeof(message) - 5), 1);
        ck_assert_int_eq(EVP_DigestVerifyFinal(verify, sig, sig_len), 1);
    }
    EVP_MD_CTX_free(sign);
    EVP_MD_CTX_free(verify);
}
END_TEST

/* ---- any order of calls -------------------------------------------------------------------------------- */

struct walk {
    const struct subject *s;
    struct variant v;
    EVP_MD_CTX *us, *them;
    unsigned char message[MESSAGE_MAX];
    size_t len;
};

static void walk_begin(struct walk *w)
{
    EVP_PKEY_CTX *pctx = NULL;

    EVP_MD_CTX_free(w->us);
    EVP_MD_CTX_free(w->them);
    w->us = begin_sign(fx.app, w->s->token, &w->v, &pctx);
    w->them = begin_sign(fx.plain, w->s->soft, &w->v, &pctx);
    ck_assert_ptr_nonnull(w->us);
    ck_assert_ptr_nonnull(w->them);
    w->len = 0;
}

static void walk_update(struct walk *w)
{
    unsigned char chunk[300];
    size_t n = (size_t)rand() % sizeof(chunk);

    if (w->len + n > sizeof(w->message))
        return;
    for (size_t i = 0; i < n; i++)
        chunk[i] = (unsigned char)rand();
    ck_assert_int_eq(EVP_DigestSignUpdate(w->us, chunk, n), 1);
    ck_assert_int_eq(EVP_DigestSignUpdate(w->them, chunk, n), 1);
    memcpy(w->message + w->len, chunk, n);
    w->len += n;
}

static void walk_size(struct walk *w)
{
    size_t ours = 0, theirs = 0;

    ck_assert_int_eq(EVP_DigestSignFinal(w->us, NULL, &ours), 1);
    ck_assert_int_eq(EVP_DigestSignFinal(w->them, NULL, &theirs), 1);
    ck_assert_uint_eq(ours, theirs);
}

/* The size in between is too small: refused, and nothing is lost. */
static void walk_small(struct walk *w)
{
    unsigned char sig[SIG_MAX];
    size_t len = 8;

    ck_assert_int_ne(EVP_DigestSignFinal(w->us, sig, &len), 1);
    ERR_clear_error();
}

static void walk_final(struct walk *w)
{
    unsigned char sig[SIG_MAX];
    size_t len = sizeof(sig);

    ck_assert_int_eq(EVP_DigestSignFinal(w->us, sig, &len), 1);
    ck_assert_msg(verifies(w->s, &w->v, sig, len, w->message, w->len), "%s, %zu bytes", describe(w->s, &w->v),
                  w->len);
}

/* Sign with a copy that goes its own way; the original is not touched. */
static void walk_copy(struct walk *w)
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    unsigned char sig[SIG_MAX], other[MESSAGE_MAX + 4];
    size_t len = sizeof(sig);

    ck_assert_int_eq(EVP_MD_CTX_copy_ex(copy, w->us), 1);
    ck_assert_int_eq(EVP_DigestSignUpdate(copy, "tail", 4), 1);
    ck_assert_int_eq(EVP_DigestSignFinal(copy, sig, &len), 1);
    memcpy(other, w->message, w->len);
    memcpy(other + w->len, "tail", 4);
    ck_assert(verifies(w->s, &w->v, sig, len, other, w->len + 4));
    EVP_MD_CTX_free(copy);
}

/* As dgst does between two files. The padding falls back to the default on both sides. */
static void walk_reinit(struct walk *w)
{
    int ours = EVP_DigestSignInit(w->us, NULL, NULL, NULL, NULL),
        theirs = EVP_DigestSignInit(w->them, NULL, NULL, NULL, NULL);
    unsigned char a[AID_MAX], b[AID_MAX];
    size_t a_len, b_len;

    ck_assert_int_eq(ours, theirs);
    if (ours != 1) {
        walk_begin(w);
        return;
    }
    a_len = algorithm_id(EVP_MD_CTX_get_pkey_ctx(w->us), a);
    b_len = algorithm_id(EVP_MD_CTX_get_pkey_ctx(w->them), b);
    ck_assert(a_len == b_len && memcmp(a, b, a_len) == 0);
    ck_assert(apply(EVP_MD_CTX_get_pkey_ctx(w->us), &w->v));
    ck_assert(apply(EVP_MD_CTX_get_pkey_ctx(w->them), &w->v));
    w->len = 0;
}

static void walk_one_shot(struct walk *w)
{
    unsigned char sig[SIG_MAX], tail[] = "the rest at once";
    size_t len = 0;

    if (w->len + sizeof(tail) > sizeof(w->message))
        return;
    ck_assert_int_eq(EVP_DigestSign(w->us, NULL, &len, tail, sizeof(tail)), 1);
    len = sizeof(sig);
    ck_assert_int_eq(EVP_DigestSign(w->us, sig, &len, tail, sizeof(tail)), 1);
    memcpy(w->message + w->len, tail, sizeof(tail));
    ck_assert(verifies(w->s, &w->v, sig, len, w->message, w->len + sizeof(tail)));
    walk_begin(w);
}

START_TEST(any_order_of_calls_signs_what_was_given)
{
    static void (*const steps[])(struct walk *) = { walk_update, walk_update, walk_update,
                                                    walk_size,   walk_small,  walk_final,
                                                    walk_copy,   walk_reinit, walk_one_shot };
    static const struct variant variants[] = { { "SHA256", NULL, NULL, NULL },
                                               { "SHA384", NULL, NULL, NULL },
                                               { "SHA256", "pss", "digest", NULL },
                                               { "SHA512", "pss", "max", "SHA256" } };
    static const char *const kinds[] = { "rsa:2048", "ec:P-256" };

    srand(1);
    for (size_t k = 0; k < COUNT(kinds); k++)
        for (size_t i = 0; i < (k == 0 ? COUNT(variants) : 2); i++) {
            struct walk w = { .s = subject(kinds[k]), .v = variants[i] };

            walk_begin(&w);
            for (int step = 0; step < 150; step++)
                steps[(size_t)rand() % COUNT(steps)](&w);
            EVP_MD_CTX_free(w.us);
            EVP_MD_CTX_free(w.them);
        }
}
END_TEST

/* A part by update, the rest in one shot. */
static void sign_in_two(const struct subject *s, const struct variant *v, size_t first, size_t len)
{
    unsigned char message[600], sig[SIG_MAX];
    size_t sig_len = sizeof(sig);
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *us = begin_sign(fx.app, s->token, v, &pctx);

    memset(message, 0x5a, sizeof(message));
    ck_assert_ptr_nonnull(us);
    ck_assert(first == 0 || EVP_DigestSignUpdate(us, message, first) == 1);
    ck_assert_msg(EVP_DigestSign(us, sig, &sig_len, message + first, len - first) == 1, "%s, %zu of %zu",
                  describe(s, v), first, len);
    ck_assert_msg(verifies(s, v, sig, sig_len, message, len), "%s, %zu of %zu", describe(s, v), first, len);
    EVP_MD_CTX_free(us);
}

/* Short messages are kept whole beside their digest, and may go to a token that hashes by itself. */
START_TEST(messages_around_the_limit_sign_whole_and_in_pieces)
{
    static const struct variant variants[] = { { "SHA256", NULL, NULL, NULL },
                                               { "SHA256", "pss", "digest", NULL },
                                               { "SHA512", "pss", "max", "SHA256" } };
    static const size_t lengths[] = { 0, 1, 146, 255, 256, 257, 600 };

    for (size_t v = 0; v < COUNT(variants); v++)
        for (size_t i = 0; i < COUNT(lengths); i++) {
            sign_in_two(subject("rsa:2048"), &variants[v], 0, lengths[i]);
            sign_in_two(subject("rsa:2048"), &variants[v], lengths[i] / 2, lengths[i]);
            sign_in_two(subject("rsa:2048"), &variants[v], lengths[i], lengths[i]);
        }
}
END_TEST

START_TEST(finished_message_takes_no_more)
{
    const struct subject *s = subject("ec:P-256");
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sig[SIG_MAX];
    size_t len = sizeof(sig);

    EVP_MD_CTX_set_flags(ctx, EVP_MD_CTX_FLAG_FINALISE);
    ck_assert_int_eq(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", fx.app, NULL, s->token, NULL), 1);
    ck_assert_int_eq(EVP_DigestSignUpdate(ctx, "x", 1), 1);
    ck_assert_int_eq(EVP_DigestSignFinal(ctx, sig, &len), 1);
    ck_assert_int_ne(EVP_DigestSignUpdate(ctx, "x", 1), 1);
    EVP_MD_CTX_free(ctx);
}
END_TEST

/* ---- parameters ---------------------------------------------------------------------------------------- */

START_TEST(rsa_parameters_read_back_as_set)
{
    const struct subject *s = subject("rsa:2048");
    struct variant v = { "SHA256", NULL, NULL, NULL };
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *ctx = begin_sign(fx.app, s->token, &v, &pctx);
    char pad[16] = "", salt[16] = "", digest[32] = "", mgf1[32] = "";
    const EVP_MD *md = NULL;
    int pad_mode = 0, salt_len = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, pad, sizeof(pad)),
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, salt, sizeof(salt)),
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, digest, sizeof(digest)),
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, mgf1, sizeof(mgf1)),
        OSSL_PARAM_construct_end(),
    };

    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING),
                     0); /* as numbers, like libssl */
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_mgf1_md(pctx, EVP_sha384()), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_get_rsa_padding(pctx, &pad_mode), 0);
    ck_assert_int_eq(pad_mode, RSA_PKCS1_PSS_PADDING);
    ck_assert_int_gt(EVP_PKEY_CTX_get_rsa_pss_saltlen(pctx, &salt_len), 0);
    ck_assert_int_eq(salt_len, RSA_PSS_SALTLEN_DIGEST);
    ck_assert_int_gt(EVP_PKEY_CTX_get_rsa_mgf1_md(pctx, &md), 0);
    ck_assert(EVP_MD_is_a(md, "SHA384"));
    ck_assert_int_gt(EVP_PKEY_CTX_get_signature_md(pctx, &md), 0);
    ck_assert(EVP_MD_is_a(md, "SHA256"));
    ck_assert_int_gt(EVP_PKEY_CTX_get_params(pctx, params), 0);
    ck_assert_str_eq(pad, "pss");
    ck_assert_str_eq(salt, "digest");
    ck_assert_str_eq(digest, "SHA2-256");
    ck_assert_str_eq(mgf1, "SHA2-384");
    ck_assert_int_gt(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, 17), 0);
    ck_assert_int_gt(EVP_PKEY_CTX_get_params(pctx, params), 0);
    ck_assert_str_eq(salt, "17");
    EVP_MD_CTX_free(ctx);
}
END_TEST

START_TEST(settable_and_gettable_tables_name_what_is_understood)
{
    const struct subject *s = &subjects[_i];
    struct variant v = { 0 };
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *ctx = begin_sign(fx.app, s->token, &v, &pctx);

    ck_assert_ptr_nonnull(
        OSSL_PARAM_locate_const(EVP_PKEY_CTX_gettable_params(pctx), OSSL_SIGNATURE_PARAM_ALGORITHM_ID));
    if (!is_eddsa(s))
        ck_assert_ptr_nonnull(
            OSSL_PARAM_locate_const(EVP_PKEY_CTX_settable_params(pctx), OSSL_SIGNATURE_PARAM_DIGEST));
    if (is_rsa(s)) {
        ck_assert_ptr_nonnull(
            OSSL_PARAM_locate_const(EVP_PKEY_CTX_settable_params(pctx), OSSL_SIGNATURE_PARAM_PAD_MODE));
        ck_assert_ptr_nonnull(
            OSSL_PARAM_locate_const(EVP_PKEY_CTX_settable_params(pctx), OSSL_SIGNATURE_PARAM_PSS_SALTLEN));
    }
    EVP_MD_CTX_free(ctx);
}
END_TEST

START_TEST(unknown_parameters_are_ignored)
{
    const struct subject *s = &subjects[_i];
    struct variant v = { 0 };
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *ctx = begin_sign(fx.app, s->token, &v, &pctx);
    int value = 1;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_int("invented-by-the-test", &value),
                            OSSL_PARAM_construct_end() };

    ck_assert_int_gt(EVP_PKEY_CTX_set_params(pctx, params), 0);
    EVP_MD_CTX_free(ctx);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------------ */

static bool refused(const struct subject *s, const struct variant *v, const char *reason)
{
    EVP_PKEY_CTX *pctx = NULL;
    EVP_MD_CTX *ctx;

    ERR_clear_error();
    ctx = begin_sign(fx.app, s->token, v, &pctx);
    EVP_MD_CTX_free(ctx);
    return ctx == NULL && fixture_error_has(reason);
}

START_TEST(what_cannot_be_signed_is_refused_at_init_with_a_reason)
{
    const struct subject *rsa = subject("rsa:2048"), *bound = subject("rsa-pss:2048:SHA256:32");

    ck_assert(refused(rsa, &(struct variant){ .digest = "BLAKE2s256" }, "cannot carry digest"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", "x931", NULL, NULL }, "not for signatures here"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", "oaep", NULL, NULL }, "not for signatures here"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", "nonsense", NULL, NULL }, "not understood"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", "none", NULL, NULL }, "takes no digest"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", "pss", "223", NULL }, "does not fit"));
    ck_assert(refused(rsa, &(struct variant){ "SHA256", NULL, "20", NULL }, "goes with PSS only"));
    ck_assert(refused(bound, &(struct variant){ .digest = "SHA384" }, "restricted to digest"));
    ck_assert(refused(bound, &(struct variant){ "SHA256", "pss", "20", NULL }, "at least 32 bytes"));
    ck_assert(refused(bound, &(struct variant){ "SHA256", "pss", NULL, "SHA1" }, "restricted to MGF1"));
    ck_assert(refused(bound, &(struct variant){ "SHA256", "pkcs1", NULL, NULL }, "PSS padding only"));
    ck_assert(refused(subject("ec:P-256"), &(struct variant){ .digest = "SHAKE-256" }, "fixed length"));
    ck_assert(refused(subject("ed25519"), &(struct variant){ .digest = "SHA256" }, "name no digest"));
}
END_TEST

START_TEST(eddsa_refuses_digests_and_streams)
{
    const struct subject *s = subject("ed25519");
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(fx.app, s->token, NULL);
    EVP_MD_CTX *mctx = EVP_MD_CTX_new();

    ck_assert_int_le(EVP_PKEY_sign_init(ctx), 0);
    ck_assert(fixture_error_has("EdDSA signs messages"));
    ck_assert_int_eq(EVP_DigestSignInit_ex(mctx, NULL, NULL, fx.app, NULL, s->token, NULL), 1);
    ck_assert_int_ne(EVP_DigestSignUpdate(mctx, "x", 1), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_MD_CTX_free(mctx);
}
END_TEST

static int init_with(const struct subject *s, OSSL_PARAM param)
{
    OSSL_PARAM params[] = { param, OSSL_PARAM_construct_end() };
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = EVP_DigestSignInit_ex(ctx, NULL, NULL, fx.app, NULL, s->token, params);

    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

START_TEST(eddsa_takes_its_pure_instance_only)
{
    const struct subject *a = subject("ed25519"), *b = subject("ed448");
    char pure25519[] = "Ed25519", pure448[] = "Ed448", hashed[] = "Ed25519ph", context[] = "Ed25519ctx";
    unsigned char bytes[] = "context";

    ck_assert_int_eq(init_with(a, OSSL_PARAM_construct_utf8_string("instance", pure25519, 0)), 1);
    ck_assert_int_eq(init_with(b, OSSL_PARAM_construct_utf8_string("instance", pure448, 0)), 1);
    ck_assert_int_ne(init_with(a, OSSL_PARAM_construct_utf8_string("instance", hashed, 0)), 1);
    ck_assert_int_ne(init_with(a, OSSL_PARAM_construct_utf8_string("instance", context, 0)), 1);
    ck_assert_int_ne(init_with(a, OSSL_PARAM_construct_utf8_string("instance", pure448, 0)), 1);
    ck_assert_int_ne(init_with(a, OSSL_PARAM_construct_octet_string("context-string", bytes, sizeof(bytes))),
                     1);
    ck_assert_int_eq(init_with(a, OSSL_PARAM_construct_octet_string("context-string", bytes, 0)), 1);
}
END_TEST

/* libssl asks before every handshake which of its algorithms the key can do. */
START_TEST(init_answers_without_the_token)
{
    const struct subject *s = subject("ec:P-256");
    EVP_PKEY *fresh = fixture_store_key(fx.app, "hsm:key-4");
    OSSL_LIB_CTX *other = fixture_context(&fx, "default hsm", NULL);
    char *reference = fixture_reference(fresh);
    EVP_PKEY *key;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sig[SIG_MAX];
    size_t len = sizeof(sig);
    char away[FIXTURE_PATH_MAX + 8];

    snprintf(away, sizeof(away), "%s.away", fx.token_path);
    ck_assert_int_eq(rename(fx.token_path, away), 0);
    key = fixture_read_pem(other, reference, strlen(reference));
    ck_assert_ptr_nonnull(key);
    ck_assert_int_eq(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", other, NULL, key, NULL), 1);
    ck_assert_int_eq(EVP_DigestSign(ctx, NULL, &len, (const unsigned char *)"x", 1), 1);
    ck_assert_uint_eq(len, (size_t)EVP_PKEY_get_size(s->soft));
    ERR_clear_error();
    ck_assert_int_ne(EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"x", 1), 1);
    ck_assert(fixture_error_has(fx.token_path));
    ck_assert_int_eq(rename(away, fx.token_path), 0);
    len = sizeof(sig); /* the same key goes on once the token is back */
    EVP_MD_CTX_reset(ctx);
    ck_assert_int_eq(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", other, NULL, key, NULL), 1);
    ck_assert_int_eq(EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"x", 1), 1);
    ck_assert(verifies(s, &(struct variant){ .digest = "SHA256" }, sig, len, "x", 1));
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    EVP_PKEY_free(fresh);
    free(reference);
    OSSL_LIB_CTX_free(other);
}
END_TEST

START_TEST(certificates_are_signed_and_verify)
{
    const struct subject *s = &subjects[_i];
    X509 *cert = fixture_certificate(&fx, s->token, s->kind);

    ck_assert_int_eq(X509_verify(cert, s->pub), 1);
    ck_assert_int_eq(X509_check_private_key(cert, s->token), 1);
    X509_free(cert);
}
END_TEST

/* Listed first, keys that programs make for themselves end here; they sign like any software key. */
START_TEST(volatile_keys_sign_when_hsm_is_first)
{
    OSSL_LIB_CTX *first = fixture_context(&fx, "hsm default", NULL);
    EVP_PKEY *keys[] = {
        EVP_PKEY_Q_keygen(first, NULL, "EC", "P-256"),
        EVP_PKEY_Q_keygen(first, NULL, "RSA", (size_t)2048),
        EVP_PKEY_Q_keygen(first, NULL, "ED25519"),
    };

    for (size_t i = 0; i < COUNT(keys); i++) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_PKEY *pub;
        EVP_PKEY_CTX *pctx = NULL;
        unsigned char sig[SIG_MAX];
        size_t len = sizeof(sig);
        struct subject s = { "volatile", NULL, NULL, NULL };

        ck_assert_ptr_nonnull(keys[i]);
        s.pub = pub = fixture_public(&fx, keys[i]);
        ck_assert_int_eq(EVP_DigestSignInit_ex(ctx, &pctx, NULL, first, NULL, keys[i], NULL), 1);
        if (i == 1)
            ck_assert(apply(pctx, &(struct variant){ .pad = "pss" }));
        ck_assert_int_eq(EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"abc", 3), 1);
        ck_assert(verifies(&s, &(struct variant){ .pad = i == 1 ? "pss" : NULL }, sig, len, "abc", 3));
        EVP_MD_CTX_free(ctx);
        EVP_PKEY_free(pub);
        EVP_PKEY_free(keys[i]);
    }
    OSSL_LIB_CTX_free(first);
}
END_TEST

START_TEST(public_half_cannot_sign)
{
    const struct subject *s = subject("ec:P-256");
    OSSL_PARAM *params = NULL;
    EVP_PKEY_CTX *from = EVP_PKEY_CTX_new_from_name(fx.app, "EC", "provider=hsm");
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY *pub = NULL;

    ck_assert_int_eq(EVP_PKEY_todata(s->pub, EVP_PKEY_PUBLIC_KEY, &params), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata_init(from), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata(from, &pub, EVP_PKEY_PUBLIC_KEY, params), 1);
    ck_assert_int_ne(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", fx.app, "provider=hsm", pub, NULL), 1);
    ck_assert(fixture_error_has("public half"));
    EVP_PKEY_CTX_free(from);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pub);
    OSSL_PARAM_free(params);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("signature");
    TCase *all = tcase_create("token");
    SRunner *runner = srunner_create(suite);
    const int n = (int)COUNT(subjects);
    int failed;

    tcase_add_unchecked_fixture(all, setup, teardown);
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, digest_sign_matches_default, 0, n);
    tcase_add_loop_test(all, rsa_padding_matches_default, 0, n);
    tcase_add_loop_test(all, pss_salt_and_mgf1_match_default, 0, n);
    tcase_add_loop_test(all, sign_takes_digests_of_any_length_for_ecdsa, 0, n);
    tcase_add_loop_test(all, sign_matches_default_for_rsa, 0, n);
    tcase_add_test(all, verify_recover_gives_the_digest_back);
    tcase_add_loop_test(all, digest_verify_accepts_the_right_and_refuses_the_wrong, 0, n);
    tcase_add_test(all, any_order_of_calls_signs_what_was_given);
    tcase_add_test(all, messages_around_the_limit_sign_whole_and_in_pieces);
    tcase_add_test(all, finished_message_takes_no_more);
    tcase_add_test(all, rsa_parameters_read_back_as_set);
    tcase_add_loop_test(all, settable_and_gettable_tables_name_what_is_understood, 0, n);
    tcase_add_loop_test(all, unknown_parameters_are_ignored, 0, n);
    tcase_add_test(all, what_cannot_be_signed_is_refused_at_init_with_a_reason);
    tcase_add_test(all, eddsa_refuses_digests_and_streams);
    tcase_add_test(all, eddsa_takes_its_pure_instance_only);
    tcase_add_test(all, init_answers_without_the_token);
    tcase_add_loop_test(all, certificates_are_signed_and_verify, 0, n);
    tcase_add_test(all, volatile_keys_sign_when_hsm_is_first);
    tcase_add_test(all, public_half_cannot_sign);
    suite_add_tcase(suite, all);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
