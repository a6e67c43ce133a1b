/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every token must do, whatever its driver. HSM_TEST_TOKEN names another token than the soft one; it is
 * initialised with --force, or, if its driver cannot do that, emptied, and must then have the PINs of
 * token_fixture.h. HSM_TEST_TOKEN=se05x-sim[:APPLET[:scp03]] starts a chip simulator for each test.
 */
#include "chip_fixture.h"
#include "token_fixture.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct hsm_ctx *ctx;
static struct hsm_token *tok;

static bool is_soft(void)
{
    return strncmp(token_spec, "soft:", 5) == 0;
}

/* What a kind of token truly lacks. Nothing else is left out. */
static const struct lack {
    const char *driver, *what, *reason;
} lacks_table[] = {
    { "se05x", "ed448", "the chip has no such curve" },
    { "se05x", "export", "private keys never leave the chip" },
    { "se05x", "data of 1 MiB", "a file has at most 32767 bytes" },
};

static bool lacks(const char *what)
{
    size_t i;

    for (i = 0; i < COUNT(lacks_table); i++)
        if (strncmp(token_spec, lacks_table[i].driver, strlen(lacks_table[i].driver)) == 0 &&
            strcmp(lacks_table[i].what, what) == 0)
            return true;
    return false;
}

static void print_lacks(const char *driver)
{
    size_t i;

    for (i = 0; i < COUNT(lacks_table); i++)
        if (strncmp(driver, lacks_table[i].driver, strlen(lacks_table[i].driver)) == 0)
            printf("left out: %s (%s)\n", lacks_table[i].what, lacks_table[i].reason);
    (void)fflush(stdout);
}

static hsm_status destroy_one(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    return hsm_destroy(t, obj->handle);
}

/* "se05x-sim:3.1.1:scp03" */
static bool start_chip(const char *text)
{
    char applet[32] = "7.2.0";
    const char *colon;

    if (text == NULL || strncmp(text, "se05x-sim", 9) != 0)
        return false;
    if (text[9] == ':') {
        (void)snprintf(applet, sizeof(applet), "%s", text + 10);
        applet[strcspn(applet, ":")] = '\0';
    }
    colon = strrchr(text, ':');
    chip_start(applet, colon != NULL && strcmp(colon, ":scp03") == 0);
    return true;
}

static void setup(void)
{
    struct hsm_token_init init = default_init();
    const char *other = getenv("HSM_TEST_TOKEN");
    hsm_status st;

    make_temp_dir();
    if (start_chip(other))
        init.force = false;
    else if (other != NULL)
        (void)snprintf(token_spec, sizeof(token_spec), "%s", other);
    else
        (void)snprintf(token_spec, sizeof(token_spec), "soft:%s/token.db", temp_dir);
    ctx = new_context(NULL);
    st = hsm_token_create(ctx, 0, &init);
    if (st != HSM_ERR_UNSUPPORTED)
        ck_ok(st);
    tok = login(ctx);
    if (st == HSM_ERR_UNSUPPORTED)
        ck_ok(hsm_find(tok, NULL, destroy_one, NULL));
}

static void teardown(void)
{
    hsm_ctx_free(ctx);
    chip_stop();
    remove_temp_dir();
}

/* ---- token ----------------------------------------------------------------------------------------------
 */

START_TEST(info_describes_the_token)
{
    struct hsm_token_info info;

    ck_ok(hsm_token_info(tok, &info));
    ck_assert_str_ne(info.driver, "");
    ck_assert_str_ne(info.label, "");
    ck_assert_uint_ge(strlen(info.serial), 8);
    ck_assert_str_ne(info.location, "");
    ck_assert(info.logged_in && info.writable && !info.pin_locked && !info.so_locked);
    ck_assert_uint_eq(info.pin_tries_left, info.pin_tries_max);
    ck_assert_uint_ge(info.pin_tries_max, 3);
}
END_TEST

START_TEST(create_refuses_to_overwrite)
{
    struct hsm_token_init init = default_init();
    hsm_status st;

    (void)generate(tok, "ec:P-256", "kept");
    init.force = false;
    st = hsm_token_create(ctx, 0, &init);
    ck_status(st, st == HSM_ERR_UNSUPPORTED ? st : HSM_ERR_EXISTS);
    ck_assert_uint_eq(count_objects(tok), 1);
}
END_TEST

START_TEST(create_with_force_destroys_all)
{
    struct hsm_token_init init = default_init();
    hsm_status st;

    (void)generate(tok, "ec:P-256", "lost");
    if ((st = hsm_token_create(ctx, 0, &init)) == HSM_ERR_UNSUPPORTED)
        return;
    ck_ok(st);
    tok = login(ctx);
    ck_assert_uint_eq(count_objects(tok), 0);
}
END_TEST

START_TEST(random_numbers_differ)
{
    uint8_t a[64] = { 0 }, b[64] = { 0 };
    struct hsm_buf out_a = { a, sizeof(a), 0 }, out_b = { b, sizeof(b), 0 };

    ck_ok(hsm_random(tok, &out_a));
    ck_ok(hsm_random(tok, &out_b));
    ck_assert_uint_eq(out_a.len, sizeof(a));
    ck_assert_mem_ne(a, b, sizeof(a));
}
END_TEST

/* ---- keys of every type ---------------------------------------------------------------------------------
 */

static void check_rfc7093_id(const struct hsm_object *obj)
{
    const unsigned char *at = obj->spki;
    X509_PUBKEY *pub = d2i_X509_PUBKEY(NULL, &at, (long)obj->spki_len);
    const unsigned char *key;
    unsigned char digest[32];
    int len;

    ck_assert_ptr_nonnull(pub);
    ck_assert_int_eq(X509_PUBKEY_get0_param(NULL, &key, &len, NULL, pub), 1);
    ck_assert_int_eq(EVP_Digest(key, (size_t)len, digest, NULL, EVP_sha256(), NULL), 1);
    ck_assert_uint_eq(obj->id_len, 20);
    ck_assert_mem_eq(obj->id, digest, 20);
    X509_PUBKEY_free(pub);
}

START_TEST(generated_key_lists_signs_and_goes)
{
    struct hsm_object_spec spec = key_spec(kinds[_i], "key");
    struct hsm_mech mech = default_mech(&spec.kind);
    uint8_t pkcs8[4096], sig[HSM_SIGNATURE_MAX], in[64] = { 1 };
    struct hsm_buf out = { pkcs8, sizeof(pkcs8), 0 }, sig_out = { sig, sizeof(sig), 0 };
    struct hsm_object obj;
    hsm_handle handle;

    if (lacks(kinds[_i])) {
        ck_status(hsm_generate(tok, &spec, &handle), HSM_ERR_KEY_TYPE);
        return;
    }
    ck_ok(hsm_generate(tok, &spec, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_assert_uint_eq(obj.handle, handle);
    ck_assert_int_eq(obj.cls, HSM_CLASS_KEY);
    ck_assert(obj.kind.type == spec.kind.type && obj.kind.curve == spec.kind.curve &&
              obj.kind.bits == spec.kind.bits);
    ck_assert_uint_eq(obj.usage, hsm_kind_usages(&obj.kind));
    ck_assert(!obj.extractable);
    ck_assert_int_eq(obj.origin, HSM_ORIGIN_GENERATED);
    ck_assert_int_le(labs((long)(obj.created_s - time(NULL))), 600);
    check_rfc7093_id(&obj);
    ck_ok(sign_default(tok, &obj));
    ck_ok(sign_default(tok, &obj));
    ck_status(hsm_export(tok, handle, &out), HSM_ERR_NOT_EXTRACTABLE);
    ck_ok(hsm_destroy(tok, handle));
    ck_status(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj), HSM_ERR_NO_OBJECT);
    if (mech.type != HSM_MECH_NONE)
        ck_status(hsm_sign(tok, handle, &mech, (struct hsm_bytes){ in, 32 }, &sig_out), HSM_ERR_NO_OBJECT);
    ck_status(hsm_destroy(tok, handle), HSM_ERR_NO_OBJECT);
}
END_TEST

START_TEST(imported_key_signs_like_the_original)
{
    EVP_PKEY *pkey = software_key(kinds[_i]), *again;
    struct hsm_bytes pkcs8 = to_pkcs8(pkey);
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY,
                                    .label = "imported",
                                    .extractable = !lacks("export") };
    uint8_t exported[4096];
    struct hsm_buf out = { exported, sizeof(exported), 0 };
    const unsigned char *at = exported;
    struct hsm_object obj;
    hsm_handle handle;

    if (lacks(kinds[_i])) {
        ck_status(hsm_import(tok, &spec, pkcs8, &handle), HSM_ERR_KEY_TYPE);
        goto out;
    }
    ck_ok(hsm_import(tok, &spec, pkcs8, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "imported", &obj));
    ck_assert_int_eq(obj.origin, HSM_ORIGIN_IMPORTED);
    ck_assert(obj.extractable == spec.extractable);
    again = public_key(&obj);
    ck_assert_int_eq(EVP_PKEY_eq(pkey, again), 1);
    EVP_PKEY_free(again);
    ck_ok(sign_default(tok, &obj));
    if (lacks("export")) {
        ck_status(hsm_export(tok, handle, &out), HSM_ERR_NOT_EXTRACTABLE);
        goto out;
    }
    ck_ok(hsm_export(tok, handle, &out));
    again = d2i_AutoPrivateKey(NULL, &at, (long)out.len);
    ck_assert_ptr_nonnull(again);
    ck_assert_int_eq(EVP_PKEY_eq(pkey, again), 1);
    EVP_PKEY_free(again);
out:
    free_bytes(pkcs8);
    EVP_PKEY_free(pkey);
}
END_TEST

/* RFC 8032 section 7.1, TEST 2: the token's own arithmetic and encoding against a published vector */
START_TEST(ed25519_matches_rfc8032)
{
    static const uint8_t pkcs8[] = { 0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70,
                                     0x04, 0x22, 0x04, 0x20, 0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda,
                                     0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a, 0x31, 0x9f,
                                     0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb };
    static const uint8_t want[64] = { 0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82,
                                      0x0b, 0x5f, 0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50,
                                      0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08,
                                      0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13,
                                      0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae, 0xb4, 0x30, 0x2a,
                                      0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00 };
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "rfc8032" };
    struct hsm_mech mech = { .type = HSM_MECH_EDDSA };
    uint8_t message[1] = { 0x72 }, sig[64];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    hsm_handle handle;

    ck_ok(hsm_import(tok, &spec, (struct hsm_bytes){ pkcs8, sizeof(pkcs8) }, &handle));
    ck_ok(hsm_sign(tok, handle, &mech, (struct hsm_bytes){ message, 1 }, &out));
    ck_assert_uint_eq(out.len, 64);
    ck_assert_mem_eq(sig, want, 64);
    ck_ok(hsm_sign(tok, handle, &mech, (struct hsm_bytes){ NULL, 0 },
                   &out)); /* an empty message is a message */
}
END_TEST

/* ---- mechanisms -----------------------------------------------------------------------------------------
 */

START_TEST(rsa_signs_with_every_digest)
{
    hsm_handle key = generate(tok, "rsa:2048", "rsa");
    struct hsm_object obj;
    EVP_PKEY *pub;
    int hash, round;

    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "rsa", &obj));
    pub = public_key(&obj);
    for (round = 0; round < 2; round++) /* the second round uses contexts of the first */
        for (hash = HSM_HASH_NONE; hash < HSM_HASH_COUNT; hash++) {
            struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_PKCS1, .hash = (enum hsm_hash)hash };
            struct hsm_mech pss = { .type = HSM_MECH_RSA_PSS,
                                    .hash = (enum hsm_hash)hash,
                                    .mgf1_hash = (enum hsm_hash)hash,
                                    .salt_len = (unsigned)hash * 7 };
            hsm_status st = sign_and_verify(tok, key, pub, &pkcs1);

            ck_assert_msg(st == HSM_OK, "hash %d: %s", hash, hsm_error_text(st));
            if (hash == HSM_HASH_NONE || hash == HSM_HASH_MD5_SHA1)
                continue;
            st = sign_and_verify(tok, key, pub, &pss);
            ck_assert_msg(st == HSM_OK, "pss hash %d: %s", hash, hsm_error_text(st));
        }
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(pss_takes_every_salt_that_fits)
{
    hsm_handle key = generate(tok, "rsa:2048", "rsa");
    struct hsm_object obj;
    EVP_PKEY *pub;
    struct hsm_mech mech = {
        .type = HSM_MECH_RSA_PSS, .hash = HSM_HASH_SHA256, .mgf1_hash = HSM_HASH_SHA256, .salt_len = 0
    };

    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "rsa", &obj));
    pub = public_key(&obj);
    for (; mech.salt_len <= 256 - 2 - 32;
         mech.salt_len += 37) /* 0 ... 222: the largest for 2048 bits and SHA-256 */
        ck_ok(sign_and_verify(tok, key, pub, &mech));
    mech.salt_len = 222;
    ck_ok(sign_and_verify(tok, key, pub, &mech));
    mech.salt_len = 223;
    ck_status(sign_and_verify(tok, key, pub, &mech), HSM_ERR_MECH);
    mech.salt_len = 0xffffffff;
    ck_status(sign_and_verify(tok, key, pub, &mech), HSM_ERR_MECH);
    mech = (struct hsm_mech){
        .type = HSM_MECH_RSA_PSS, .hash = HSM_HASH_SHA512, .mgf1_hash = HSM_HASH_SHA1, .salt_len = 20
    };
    ck_ok(sign_and_verify(tok, key, pub, &mech));
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(ecdsa_takes_digests_of_any_length)
{
    hsm_handle key = generate(tok, "ec:P-256", "ec");
    struct hsm_object obj;
    EVP_PKEY *pub;
    int hash;

    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "ec", &obj));
    pub = public_key(&obj);
    for (hash = HSM_HASH_NONE; hash < HSM_HASH_COUNT; hash++) {
        struct hsm_mech mech = { .type = HSM_MECH_ECDSA, .hash = (enum hsm_hash)hash };

        ck_ok(sign_and_verify(tok, key, pub, &mech));
    }
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(raw_rsa_inverts_the_public_operation)
{
    hsm_handle key = generate(tok, "rsa:2048", "rsa");
    struct hsm_mech mech = { .type = HSM_MECH_RSA_RAW };
    uint8_t in[257], sig[256];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_object obj;
    EVP_PKEY *pub;

    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "rsa", &obj));
    pub = public_key(&obj);
    ck_ok(sign_and_verify(tok, key, pub, &mech));
    EVP_PKEY_free(pub);
    memset(in, 0xff, sizeof(in)); /* not below the modulus */
    ck_status(hsm_sign(tok, key, &mech, (struct hsm_bytes){ in, 256 }, &out), HSM_ERR_DATA);
    ck_status(hsm_sign(tok, key, &mech, (struct hsm_bytes){ in, 255 }, &out), HSM_ERR_DATA_LEN);
    ck_status(hsm_sign(tok, key, &mech, (struct hsm_bytes){ in, 257 }, &out), HSM_ERR_DATA_LEN);
}
END_TEST

START_TEST(sign_refuses_what_does_not_fit)
{
    hsm_handle ec = generate(tok, "ec:P-256", "ec"), rsa = generate(tok, "rsa:2048", "rsa");
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA256 };
    struct hsm_mech eddsa = { .type = HSM_MECH_EDDSA }, none = { .type = HSM_MECH_NONE };
    struct hsm_mech plain = { .type = HSM_MECH_RSA_PKCS1 }, odd = { .type = HSM_MECH_COUNT };
    uint8_t in[256] = { 1 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 }, small = { sig, 8, 0 };
    struct hsm_bytes digest = { in, 32 };

    ck_status(hsm_sign(tok, ec, &pkcs1, digest, &out), HSM_ERR_KEY_TYPE);
    ck_line_has(HSM_ERR_KEY_TYPE, "ec");
    ck_status(hsm_sign(tok, rsa, &ecdsa, digest, &out), HSM_ERR_KEY_TYPE);
    ck_status(hsm_sign(tok, ec, &eddsa, digest, &out), HSM_ERR_KEY_TYPE);
    ck_status(hsm_sign(tok, ec, &none, digest, &out), HSM_ERR_MECH);
    ck_status(hsm_sign(tok, ec, &odd, digest, &out), HSM_ERR_MECH);
    ck_status(hsm_sign(tok, ec, &ecdsa, (struct hsm_bytes){ in, 31 }, &out), HSM_ERR_DATA_LEN);
    ck_status(hsm_sign(tok, rsa, &pkcs1, (struct hsm_bytes){ in, 33 }, &out), HSM_ERR_DATA_LEN);
    ck_status(hsm_sign(tok, rsa, &plain, (struct hsm_bytes){ in, 246 }, &out), HSM_ERR_DATA_LEN);
    ck_ok(hsm_sign(tok, rsa, &plain, (struct hsm_bytes){ in, 245 }, &out));
    ck_status(hsm_sign(tok, ec, &ecdsa, digest, &small), HSM_ERR_BUFFER);
    ck_assert_uint_eq(small.len, 0);
    ck_status(hsm_sign(tok, rsa, &pkcs1, digest, &small), HSM_ERR_BUFFER);
    ck_status(hsm_sign(tok, 0, &ecdsa, digest, &out), HSM_ERR_NO_OBJECT);
    ck_status(hsm_sign(tok, UINT64_MAX, &ecdsa, digest, &out), HSM_ERR_NO_OBJECT);
}
END_TEST

START_TEST(usage_is_enforced)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "derive only");
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    uint8_t in[32] = { 1 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_object obj;
    hsm_handle key;

    spec.usage = HSM_USAGE_DERIVE;
    ck_ok(hsm_generate(tok, &spec, &key));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "derive only", &obj));
    ck_assert_uint_eq(obj.usage, HSM_USAGE_DERIVE);
    ck_status(hsm_sign(tok, key, &ecdsa, (struct hsm_bytes){ in, 32 }, &out), HSM_ERR_USAGE);
    ck_line_has(HSM_ERR_USAGE, "derive only");
    spec = key_spec("ed25519", "impossible");
    spec.usage = HSM_USAGE_DECRYPT;
    ck_status(hsm_generate(tok, &spec, &key), HSM_ERR_USAGE);
}
END_TEST

/* ---- key agreement --------------------------------------------------------------------------------------
 */

static const char *const agreeing[] = {
    "ec:P-256",           "ec:P-384",           "ec:P-521", "ec:secp256k1",
    "ec:brainpoolP256r1", "ec:brainpoolP384r1", "x25519",   "x448"
};
static const struct hsm_mech ecdh = { .type = HSM_MECH_ECDH };

/* The public key as a peer sends it; to be freed with free_bytes(). */
static struct hsm_bytes encoded(EVP_PKEY *pkey)
{
    unsigned char *octets = NULL;
    size_t len = EVP_PKEY_get1_encoded_public_key(pkey, &octets);

    ck_assert_uint_gt(len, 0);
    return (struct hsm_bytes){ octets, len };
}

static size_t software_secret(EVP_PKEY *mine, EVP_PKEY *theirs, uint8_t out[HSM_POINT_MAX])
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, mine, NULL);
    size_t len = HSM_POINT_MAX;

    ck_assert_int_eq(EVP_PKEY_derive_init(c), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(c, theirs), 1);
    ck_assert_int_eq(EVP_PKEY_derive(c, out, &len), 1);
    EVP_PKEY_CTX_free(c);
    return len;
}

/* The token's key against the software's, seen from both sides. */
static void check_agreement(hsm_handle key, EVP_PKEY *token_side, EVP_PKEY *peer)
{
    uint8_t want[HSM_POINT_MAX], got[HSM_POINT_MAX];
    struct hsm_bytes point = encoded(peer);
    size_t len = software_secret(peer, token_side, want);
    struct hsm_buf exact = { got, len, 0 }, small = { got, len - 1, 0 };

    ck_ok(hsm_derive(tok, key, &ecdh, point, &exact));
    ck_assert_uint_eq(exact.len, len);
    ck_assert_mem_eq(got, want, len);
    ck_status(hsm_derive(tok, key, &ecdh, point, &small), HSM_ERR_BUFFER);
    ck_assert_uint_eq(small.len, 0);
    free_bytes(point);
}

START_TEST(both_sides_agree_on_a_secret)
{
    EVP_PKEY *original = software_key(agreeing[_i]), *peer = software_key(agreeing[_i]), *pub;
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "imported" };
    struct hsm_bytes pkcs8 = to_pkcs8(original);
    hsm_handle made = generate(tok, agreeing[_i], "made"), imported;
    struct hsm_object obj;
    int round;

    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "made", &obj));
    pub = public_key(&obj);
    ck_ok(hsm_import(tok, &spec, pkcs8, &imported));
    for (round = 0; round < 4; round++) { /* secrets that begin with a zero come by chance only */
        check_agreement(made, pub, peer);
        check_agreement(imported, original, peer);
        EVP_PKEY_free(peer);
        peer = software_key(agreeing[_i]);
    }
    free_bytes(pkcs8);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(original);
}
END_TEST

static void refuse_peer(hsm_handle key, struct hsm_bytes peer)
{
    uint8_t secret[HSM_POINT_MAX];
    struct hsm_buf out = { secret, sizeof(secret), 0 };

    ck_status(hsm_derive(tok, key, &ecdh, peer, &out), HSM_ERR_DATA);
    ck_line_has(HSM_ERR_DATA, "peer");
    ck_assert_uint_eq(out.len, 0);
}

START_TEST(peers_on_other_curves_are_refused)
{
    hsm_handle key = generate(tok, "ec:P-256", "key");
    uint8_t copy[HSM_POINT_MAX + 1];
    EVP_PKEY *other;
    size_t i;

    for (i = 1; i < COUNT(agreeing); i++) {
        struct hsm_bytes peer = encoded(other = software_key(agreeing[i]));

        refuse_peer(key, peer);
        free_bytes(peer);
        EVP_PKEY_free(other);
    }
    {
        struct hsm_bytes peer = encoded(other = software_key("ec:P-256"));

        memcpy(copy, peer.ptr, peer.len);
        copy[peer.len - 1] ^= 1; /* not on the curve */
        refuse_peer(key, (struct hsm_bytes){ copy, peer.len });
        copy[peer.len - 1] ^= 1;
        copy[0] = 0x06; /* the hybrid form */
        refuse_peer(key, (struct hsm_bytes){ copy, peer.len });
        copy[0] = 0x02; /* compressed */
        refuse_peer(key, (struct hsm_bytes){ copy, 33 });
        copy[0] = 0x04;
        refuse_peer(key, (struct hsm_bytes){ copy, peer.len - 1 });
        refuse_peer(key, (struct hsm_bytes){ copy, peer.len + 1 });
        refuse_peer(key, (struct hsm_bytes){ (const uint8_t *)"", 1 }); /* infinity */
        refuse_peer(key, (struct hsm_bytes){ NULL, 0 });
        free_bytes(peer);
        EVP_PKEY_free(other);
    }
}
END_TEST

/* RFC 7748 section 6.1: points of small order; section 5: the highest bit does not count. */
START_TEST(x25519_refuses_a_secret_of_zeros)
{
    hsm_handle key = generate(tok, "x25519", "key");
    uint8_t low[32] = { 0 }, peer[32], secret[2][32];
    struct hsm_buf out[2] = { { secret[0], 32, 0 }, { secret[1], 32, 0 } };
    EVP_PKEY *other = software_key("x25519");
    struct hsm_bytes octets = encoded(other);

    refuse_peer(key, (struct hsm_bytes){ low, 32 });
    low[0] = 1;
    refuse_peer(key, (struct hsm_bytes){ low, 32 });
    refuse_peer(key, (struct hsm_bytes){ octets.ptr, 31 });
    memcpy(peer, octets.ptr, 32);
    ck_ok(hsm_derive(tok, key, &ecdh, (struct hsm_bytes){ peer, 32 }, &out[0]));
    peer[31] ^= 0x80;
    ck_ok(hsm_derive(tok, key, &ecdh, (struct hsm_bytes){ peer, 32 }, &out[1]));
    ck_assert_mem_eq(secret[0], secret[1], 32);
    free_bytes(octets);
    EVP_PKEY_free(other);
}
END_TEST

START_TEST(agreement_wants_the_right_key_mechanism_and_usage)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "signs");
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    hsm_handle ec = generate(tok, "ec:P-256", "ec"), rsa = generate(tok, "rsa:2048", "rsa"),
               ed = generate(tok, "ed25519", "ed"), signs;
    uint8_t buf[HSM_SIGNATURE_MAX] = { 1 };
    struct hsm_buf out = { buf, sizeof(buf), 0 };
    EVP_PKEY *other = software_key("ec:P-256");
    struct hsm_bytes peer = encoded(other);

    spec.usage = HSM_USAGE_SIGN;
    ck_ok(hsm_generate(tok, &spec, &signs));
    ck_status(hsm_derive(tok, signs, &ecdh, peer, &out), HSM_ERR_USAGE);
    ck_line_has(HSM_ERR_USAGE, "signs");
    ck_status(hsm_derive(tok, rsa, &ecdh, peer, &out), HSM_ERR_USAGE);
    ck_status(hsm_derive(tok, ed, &ecdh, peer, &out), HSM_ERR_USAGE);
    ck_status(hsm_derive(tok, ec, &ecdsa, peer, &out), HSM_ERR_MECH);
    ck_status(hsm_sign(tok, ec, &ecdh, (struct hsm_bytes){ buf, 32 }, &out), HSM_ERR_MECH);
    ck_status(hsm_derive(tok, 0, &ecdh, peer, &out), HSM_ERR_NO_OBJECT);
    ck_ok(hsm_destroy(tok, ec));
    ck_status(hsm_derive(tok, ec, &ecdh, peer, &out), HSM_ERR_NO_OBJECT);
    free_bytes(peer);
    EVP_PKEY_free(other);
}
END_TEST

static void write_pin(char source[600])
{
    FILE *f;

    (void)snprintf(source, 600, "file:%s/pin", temp_dir);
    ck_assert_ptr_nonnull(f = fopen(source + 5, "w"));
    ck_assert_int_ge(fputs(user_pin, f), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(source + 5, 0600), 0);
}

static bool derives(struct hsm_key *key, struct hsm_bytes peer, const uint8_t want[32])
{
    uint8_t secret[32];
    struct hsm_buf out = { secret, sizeof(secret), 0 };

    return hsm_key_derive(key, &ecdh, peer, &out) == HSM_OK && out.len == 32 && memcmp(secret, want, 32) == 0;
}

START_TEST(a_key_by_reference_derives_after_fork)
{
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE, .object = "key" };
    uint8_t want[HSM_POINT_MAX];
    char source[600];
    struct hsm_ctx *other;
    struct hsm_object obj;
    struct hsm_key *key;
    EVP_PKEY *peer = software_key("ec:P-256"), *pub;
    struct hsm_bytes point = encoded(peer);
    int status;
    pid_t pid;

    write_pin(source);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    pub = public_key(&obj);
    ck_assert_uint_eq(software_secret(peer, pub, want), 32);
    other = new_context(source);
    ck_ok(hsm_key_new(other, &uri, (struct hsm_bytes){ obj.spki, obj.spki_len }, &key));
    ck_assert(derives(key, point, want)); /* logs in by itself */
    pid = fork();
    if (pid == 0)
        _exit(derives(key, point, want) ? 0 : 1);
    ck_assert(derives(key, point, want));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    hsm_key_free(key);
    hsm_ctx_free(other);
    free_bytes(point);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(peer);
}
END_TEST

/* ---- decryption -----------------------------------------------------------------------------------------
 */

enum { RSA_LEN = 256 };

static int padding_of(const struct hsm_mech *mech)
{
    return mech->type == HSM_MECH_RSA_DECRYPT_OAEP    ? RSA_PKCS1_OAEP_PADDING
           : mech->type == HSM_MECH_RSA_DECRYPT_PKCS1 ? RSA_PKCS1_PADDING
                                                      : RSA_NO_PADDING;
}

/* By libcrypto, for a key of 2048 bits. */
static void encrypt(EVP_PKEY *pub, const struct hsm_mech *mech, struct hsm_bytes in, uint8_t out[RSA_LEN])
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, pub, NULL);
    size_t len = RSA_LEN;

    ck_assert_int_eq(EVP_PKEY_encrypt_init(c), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_padding(c, padding_of(mech)), 1);
    if (mech->type == HSM_MECH_RSA_DECRYPT_OAEP) {
        enum hsm_hash mgf1 = mech->mgf1_hash != HSM_HASH_NONE ? mech->mgf1_hash : mech->hash;

        ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_oaep_md_name(c, hsm_hash_name(mech->hash), NULL), 1);
        ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_mgf1_md_name(c, hsm_hash_name(mgf1), NULL), 1);
    }
    if (mech->label.len > 0)
        ck_assert_int_eq(EVP_PKEY_CTX_set0_rsa_oaep_label(c, OPENSSL_memdup(mech->label.ptr, mech->label.len),
                                                          (int)mech->label.len),
                         1);
    ck_assert_int_eq(EVP_PKEY_encrypt(c, out, &len, in.ptr, in.len), 1);
    ck_assert_uint_eq(len, RSA_LEN);
    EVP_PKEY_CTX_free(c);
}

static hsm_status decrypt(hsm_handle key, const struct hsm_mech *mech, const uint8_t in[RSA_LEN],
                          struct hsm_buf *out)
{
    out->len = 0;
    return hsm_decrypt(tok, key, mech, (struct hsm_bytes){ in, RSA_LEN }, out);
}

static void check_decryption(hsm_handle key, EVP_PKEY *pub, const struct hsm_mech *mech, size_t len)
{
    uint8_t plain[RSA_LEN], cipher[RSA_LEN], got[RSA_LEN];
    struct hsm_buf out = { got, sizeof(got), 0 };
    size_t i;

    for (i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 7); /* zeros in front and in between, 01 too */
    encrypt(pub, mech, (struct hsm_bytes){ plain, len }, cipher);
    ck_ok(decrypt(key, mech, cipher, &out));
    ck_assert_uint_eq(out.len, len);
    ck_assert(len == 0 || memcmp(got, plain, len) == 0);
}

static EVP_PKEY *rsa_key(hsm_handle *key)
{
    struct hsm_object obj;

    *key = generate(tok, "rsa:2048", "rsa");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "rsa", &obj));
    return public_key(&obj);
}

START_TEST(rsa_decrypts_what_libcrypto_encrypted)
{
    struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_DECRYPT_PKCS1 },
                    raw = { .type = HSM_MECH_RSA_DECRYPT_RAW };
    struct hsm_mech oaep = { .type = HSM_MECH_RSA_DECRYPT_OAEP, .hash = HSM_HASH_SHA1 };
    hsm_handle key;
    EVP_PKEY *pub = rsa_key(&key);
    size_t i;
    static const struct {
        enum hsm_hash hash, mgf1_hash;
        const char *label;
    } rows[] = { { HSM_HASH_SHA1, HSM_HASH_NONE, "" },      { HSM_HASH_SHA1, HSM_HASH_NONE, "label" },
                 { HSM_HASH_SHA1, HSM_HASH_SHA256, "" },    { HSM_HASH_SHA256, HSM_HASH_NONE, "" },
                 { HSM_HASH_SHA256, HSM_HASH_SHA1, "" },    { HSM_HASH_SHA256, HSM_HASH_SHA256, "label" },
                 { HSM_HASH_SHA512, HSM_HASH_SHA384, "l" }, { HSM_HASH_SHA3_256, HSM_HASH_NONE, "" } };

    for (i = 1; i <= RSA_LEN - 11; i += 61)
        check_decryption(key, pub, &pkcs1, i);
    check_decryption(key, pub, &pkcs1, RSA_LEN - 11);
    check_decryption(key, pub, &raw, RSA_LEN);
    for (i = 0; i < COUNT(rows); i++) {
        oaep.hash = rows[i].hash;
        oaep.mgf1_hash = rows[i].mgf1_hash;
        oaep.label = text(rows[i].label);
        check_decryption(key, pub, &oaep, 1);
        check_decryption(key, pub, &oaep, 33);
        check_decryption(key, pub, &oaep, RSA_LEN - 2 * hsm_hash_len(oaep.hash) - 2);
        check_decryption(key, pub, &oaep, 0);
    }
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(a_key_by_reference_decrypts)
{
    struct hsm_mech oaep = { .type = HSM_MECH_RSA_DECRYPT_OAEP, .hash = HSM_HASH_SHA256 };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE, .object = "rsa" };
    uint8_t cipher[RSA_LEN], got[RSA_LEN];
    struct hsm_buf out = { got, sizeof(got), 0 };
    char source[600];
    struct hsm_ctx *other;
    struct hsm_key *key;
    hsm_handle handle;
    EVP_PKEY *pub = rsa_key(&handle);

    write_pin(source);
    other = new_context(source);
    encrypt(pub, &oaep, text("hello"), cipher);
    ck_ok(hsm_key_new(other, &uri, (struct hsm_bytes){ NULL, 0 }, &key));
    ck_ok(hsm_key_decrypt(key, &oaep, (struct hsm_bytes){ cipher, RSA_LEN }, &out));
    ck_assert_uint_eq(out.len, 5);
    ck_assert_mem_eq(got, "hello", 5);
    hsm_key_free(key);
    hsm_ctx_free(other);
    EVP_PKEY_free(pub);
}
END_TEST

/* Each must give the very same answer. */
static void check_same_refusal(hsm_handle key, const struct hsm_mech *mech, const uint8_t cipher[RSA_LEN],
                               char line[512])
{
    uint8_t got[RSA_LEN];
    struct hsm_buf out = { got, sizeof(got), 0 };

    ck_status(decrypt(key, mech, cipher, &out), HSM_ERR_DATA);
    ck_assert_uint_eq(out.len, 0);
    if (line[0] == '\0')
        (void)snprintf(line, 512, "%s", hsm_error_text(HSM_ERR_DATA));
    ck_assert_str_eq(hsm_error_text(HSM_ERR_DATA), line);
}

START_TEST(oaep_says_the_same_whatever_is_wrong)
{
    static const char *const labels[] = { "", "label" };
    struct hsm_mech raw = { .type = HSM_MECH_RSA_DECRYPT_RAW }, other;
    struct hsm_mech oaep = { .type = HSM_MECH_RSA_DECRYPT_OAEP,
                             .hash = _i < 2 ? HSM_HASH_SHA256 : HSM_HASH_SHA1,
                             .label = text(labels[_i % 2]) };
    uint8_t cipher[RSA_LEN], em[RSA_LEN] = { 0 };
    char line[512] = "";
    hsm_handle key;
    EVP_PKEY *pub = rsa_key(&key);
    struct hsm_bytes hello = text("hello");

    other = oaep;
    other.hash = HSM_HASH_SHA384;
    encrypt(pub, &other, hello, cipher);
    check_same_refusal(key, &oaep, cipher, line);
    other = oaep;
    other.mgf1_hash = HSM_HASH_SHA384;
    encrypt(pub, &other, hello, cipher);
    check_same_refusal(key, &oaep, cipher, line);
    other = oaep;
    other.label = text("another label");
    encrypt(pub, &other, hello, cipher);
    check_same_refusal(key, &oaep, cipher, line);
    encrypt(pub, &raw, (struct hsm_bytes){ em, RSA_LEN }, cipher);
    check_same_refusal(key, &oaep, cipher, line);
    em[0] = 1; /* the octet that Manger's attack asks for */
    encrypt(pub, &raw, (struct hsm_bytes){ em, RSA_LEN }, cipher);
    check_same_refusal(key, &oaep, cipher, line);
    memset(cipher, 0xff, sizeof(cipher)); /* not below the modulus */
    check_same_refusal(key, &oaep, cipher, line);
    EVP_PKEY_free(pub);
}
END_TEST

/* 00 02, eight octets that are not 0, 0, message: all of the ways to be wrong look alike. libcrypto 3.2 and
 * later make something up instead, never the message. */
START_TEST(pkcs1_says_the_same_whatever_is_wrong)
{
    struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_DECRYPT_PKCS1 },
                    raw = { .type = HSM_MECH_RSA_DECRYPT_RAW };
    static const struct {
        size_t at;
        uint8_t value;
    } rows[] = { { 0, 0x01 }, { 1, 0x01 }, { 2, 0x00 }, { 9, 0x00 }, { 200, 0xff } };
    uint8_t em[RSA_LEN], cipher[RSA_LEN], got[RSA_LEN];
    struct hsm_buf out = { got, sizeof(got), 0 };
    char line[512] = "";
    hsm_handle key;
    EVP_PKEY *pub = rsa_key(&key);
    hsm_status st;
    size_t i;

    for (i = 0; i < COUNT(rows); i++) {
        memset(em, 0xff, sizeof(em));
        em[0] = 0x00;
        em[1] = 0x02;
        em[200] = 0x00;
        em[rows[i].at] = rows[i].value;
        encrypt(pub, &raw, (struct hsm_bytes){ em, RSA_LEN }, cipher);
        if ((st = decrypt(key, &pkcs1, cipher, &out)) == HSM_OK)
            ck_assert(out.len != RSA_LEN - 201 || memcmp(got, em + 201, out.len) != 0);
        else
            check_same_refusal(key, &pkcs1, cipher, line);
    }
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(decryption_wants_the_right_key_length_mechanism_and_usage)
{
    static const enum hsm_mech_type types[] = { HSM_MECH_RSA_DECRYPT_PKCS1, HSM_MECH_RSA_DECRYPT_OAEP,
                                                HSM_MECH_RSA_DECRYPT_RAW };
    struct hsm_object_spec spec = key_spec("rsa:2048", "signs");
    struct hsm_mech mech = { .hash = HSM_HASH_SHA256 };
    hsm_handle ec = generate(tok, "ec:P-256", "ec"), key, signs;
    uint8_t in[RSA_LEN + 1] = { 0 }, buf[RSA_LEN];
    struct hsm_buf out = { buf, sizeof(buf), 0 }, small = { buf, RSA_LEN - 1, 0 };
    struct hsm_bytes data = { in, RSA_LEN };
    EVP_PKEY *pub = rsa_key(&key);
    size_t i;

    spec.usage = HSM_USAGE_SIGN;
    ck_ok(hsm_generate(tok, &spec, &signs));
    for (i = 0; i < COUNT(types); i++) {
        mech.type = types[i];
        ck_status(hsm_decrypt(tok, signs, &mech, data, &out), HSM_ERR_USAGE);
        ck_line_has(HSM_ERR_USAGE, "signs");
        ck_status(hsm_decrypt(tok, ec, &mech, data, &out), HSM_ERR_USAGE);
        ck_status(hsm_decrypt(tok, key, &mech, (struct hsm_bytes){ in, RSA_LEN - 1 }, &out),
                  HSM_ERR_DATA_LEN);
        ck_status(hsm_decrypt(tok, key, &mech, (struct hsm_bytes){ in, RSA_LEN + 1 }, &out),
                  HSM_ERR_DATA_LEN);
        ck_status(hsm_decrypt(tok, key, &mech, (struct hsm_bytes){ NULL, 0 }, &out), HSM_ERR_DATA_LEN);
        ck_status(hsm_decrypt(tok, key, &mech, data, &small), HSM_ERR_BUFFER);
        ck_status(hsm_sign(tok, key, &mech, data, &out), HSM_ERR_MECH);
        ck_status(hsm_decrypt(tok, 0, &mech, data, &out), HSM_ERR_NO_OBJECT);
    }
    mech = (struct hsm_mech){ .type = HSM_MECH_RSA_DECRYPT_OAEP };
    ck_status(hsm_decrypt(tok, key, &mech, data, &out), HSM_ERR_MECH);
    mech.type = HSM_MECH_RSA_RAW;
    ck_status(hsm_decrypt(tok, key, &mech, data, &out), HSM_ERR_MECH);
    mech.type = HSM_MECH_RSA_DECRYPT_RAW;
    memset(in, 0xff, sizeof(in));
    ck_status(hsm_decrypt(tok, key, &mech, data, &out), HSM_ERR_DATA);
    EVP_PKEY_free(pub);
}
END_TEST

/* A key that only decrypts is one on the chip, too. */
START_TEST(a_key_for_one_use_has_that_use)
{
    struct hsm_object_spec spec = key_spec("rsa:2048", "decrypts");
    struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_DECRYPT_PKCS1 };
    struct hsm_object obj;
    EVP_PKEY *pub, *peer = software_key("ec:P-256");
    hsm_handle key;

    spec.usage = HSM_USAGE_DECRYPT;
    ck_ok(hsm_generate(tok, &spec, &key));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "decrypts", &obj));
    pub = public_key(&obj);
    check_decryption(key, pub, &pkcs1, 48);
    ck_status(sign_default(tok, &obj), HSM_ERR_USAGE);
    EVP_PKEY_free(pub);
    spec = key_spec("ec:P-256", "derives");
    spec.usage = HSM_USAGE_DERIVE;
    ck_ok(hsm_generate(tok, &spec, &key));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "derives", &obj));
    pub = public_key(&obj);
    check_agreement(key, pub, peer);
    EVP_PKEY_free(pub);
    EVP_PKEY_free(peer);
}
END_TEST

/* ---- import ---------------------------------------------------------------------------------------------
 */

static hsm_status import_bytes(const void *ptr, size_t len)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "bad" };
    hsm_handle handle;

    return hsm_import(tok, &spec, (struct hsm_bytes){ ptr, len }, &handle);
}

static hsm_status import_pkey(EVP_PKEY *pkey)
{
    struct hsm_bytes der = to_pkcs8(pkey);
    hsm_status st = import_bytes(der.ptr, der.len);

    free_bytes(der);
    EVP_PKEY_free(pkey);
    return st;
}

START_TEST(import_refuses_every_truncation)
{
    static const char *const some[] = { "ec:P-256", "ed25519", "rsa:2048" };
    EVP_PKEY *pkey = software_key(some[_i]);
    struct hsm_bytes der = to_pkcs8(pkey);
    uint8_t *copy;
    size_t len;
    hsm_status st;

    for (len = 0; len < der.len; len++) {
        copy = malloc(len + 1); /* so that a sanitizer sees a byte too many */
        memcpy(copy, der.ptr, len);
        st = import_bytes(copy, len);
        ck_assert_msg(st == HSM_ERR_DATA || st == HSM_ERR_KEY_TYPE, "%zu bytes: %s", len, hsm_strerror(st));
        free(copy);
    }
    copy = malloc(der.len + 1);
    memcpy(copy, der.ptr, der.len);
    copy[der.len] = 0;
    ck_status(import_bytes(copy, der.len + 1), HSM_ERR_DATA);
    ck_assert_uint_eq(count_objects(tok), 0);
    free(copy);
    free_bytes(der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(import_refuses_weak_and_foreign_keys)
{
    EVP_PKEY *explicit_ec = software_key("ec:P-256");

    ck_status(import_pkey(software_key("rsa:1024")), HSM_ERR_KEY_TYPE);
    ck_line_has(HSM_ERR_KEY_TYPE, "1024");
    ck_status(import_pkey(software_key("ec:P-224")), HSM_ERR_KEY_TYPE);
    ck_line_has(HSM_ERR_KEY_TYPE, "curve");
    ck_assert_int_eq(EVP_PKEY_set_utf8_string_param(explicit_ec, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"), 1);
    ck_status(import_pkey(explicit_ec), HSM_ERR_KEY_TYPE);
    ck_line_has(HSM_ERR_KEY_TYPE, "explicit");
    ck_status(import_bytes("hello", 5), HSM_ERR_DATA);
    ck_status(import_bytes(NULL, 0), HSM_ERR_DATA);
}
END_TEST

/* The public point stands last in an EC key: another one, and a private value that is none. */
START_TEST(import_refuses_inconsistent_keys)
{
    EVP_PKEY *a = software_key("ec:P-256"), *b = software_key("ec:P-256"), *rsa = software_key("rsa:2048");
    struct hsm_bytes da = to_pkcs8(a), db = to_pkcs8(b), dr = to_pkcs8(rsa);
    uint8_t *mixed = malloc(da.len), *bad = malloc(dr.len);

    memcpy(mixed, da.ptr, da.len);
    memcpy(mixed + da.len - 65, db.ptr + db.len - 65, 65);
    ck_status(import_bytes(mixed, da.len), HSM_ERR_DATA);
    memset(mixed + 36, 0, 32);
    ck_status(import_bytes(mixed, da.len), HSM_ERR_DATA);
    memset(mixed + 36, 0xff, 32);
    ck_status(import_bytes(mixed, da.len), HSM_ERR_DATA);
    memcpy(bad, dr.ptr, dr.len);
    bad[dr.len - 1] ^= 2; /* the CRT coefficient */
    ck_status(import_bytes(bad, dr.len), HSM_ERR_DATA);
    memcpy(bad, dr.ptr, dr.len);
    bad[60] ^= 2; /* the modulus */
    ck_status(import_bytes(bad, dr.len), HSM_ERR_DATA);
    ck_assert_uint_eq(count_objects(tok), 0);
    free(mixed);
    free(bad);
    free_bytes(da);
    free_bytes(db);
    free_bytes(dr);
    EVP_PKEY_free(a);
    EVP_PKEY_free(b);
    EVP_PKEY_free(rsa);
}
END_TEST

/* RFC 5915 lets an EC key come without its public point. */
START_TEST(import_computes_a_missing_point)
{
    EVP_PKEY *pkey = software_key("ec:P-256"), *pub;
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "bare" };
    struct hsm_bytes der;
    struct hsm_object obj;
    hsm_handle handle;

    ck_assert_int_eq(EVP_PKEY_set_int_param(pkey, OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, 0), 1);
    der = to_pkcs8(pkey);
    ck_assert_uint_lt(der.len, 80);
    ck_ok(hsm_import(tok, &spec, der, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "bare", &obj));
    pub = public_key(&obj);
    ck_assert_int_eq(EVP_PKEY_eq(pkey, pub), 1);
    EVP_PKEY_free(pub);
    ck_ok(sign_default(tok, &obj));
    free_bytes(der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(restricted_pss_key_keeps_its_restrictions)
{
    EVP_PKEY_CTX *gen = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "pss" };
    struct hsm_mech good = { .type = HSM_MECH_RSA_PSS,
                             .hash = HSM_HASH_SHA384,
                             .mgf1_hash = HSM_HASH_SHA384,
                             .salt_len = 48 },
                    bad = good, pkcs1 = { .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA384 };
    EVP_PKEY *pkey = NULL, *pub;
    struct hsm_bytes der;
    struct hsm_object obj;
    hsm_handle key;

    ck_assert_int_eq(EVP_PKEY_keygen_init(gen), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_keygen_bits(gen, 2048), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_pss_keygen_md_name(gen, "SHA384", NULL), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md_name(gen, "SHA384"), 1);
    ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(gen, 40), 1);
    ck_assert_int_eq(EVP_PKEY_generate(gen, &pkey), 1);
    EVP_PKEY_CTX_free(gen);
    der = to_pkcs8(pkey);
    ck_ok(hsm_import(tok, &spec, der, &key));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "pss", &obj));
    pub = public_key(&obj);
    ck_ok(sign_and_verify(tok, key, pub, &good));
    bad.hash = bad.mgf1_hash = HSM_HASH_SHA256;
    ck_status(sign_and_verify(tok, key, pub, &bad), HSM_ERR_MECH);
    bad = good;
    bad.salt_len = 20; /* less than the key demands */
    ck_status(sign_and_verify(tok, key, pub, &bad), HSM_ERR_MECH);
    ck_status(sign_and_verify(tok, key, pub, &pkcs1), HSM_ERR_KEY_TYPE);
    EVP_PKEY_free(pub);
    free_bytes(der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(export_needs_room_and_a_key)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "out");
    uint8_t buf[4096];
    struct hsm_buf small = { buf, 16, 0 };
    hsm_handle key;

    spec.extractable = true;
    if (lacks("export")) {
        ck_status(hsm_generate(tok, &spec, &key), HSM_ERR_UNSUPPORTED);
        ck_assert_uint_eq(count_objects(tok), 0);
        return;
    }
    ck_ok(hsm_generate(tok, &spec, &key));
    ck_status(hsm_export(tok, key, &small), HSM_ERR_BUFFER);
    ck_assert_uint_eq(small.len, 0);
    ck_status(hsm_export(tok, 999999, &small), HSM_ERR_NO_OBJECT);
}
END_TEST

/* ---- names, certificates, data --------------------------------------------------------------------------
 */

START_TEST(labels_are_unique_per_class)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "näme; with=odd/characters%");
    struct hsm_object_spec data = { .cls = HSM_CLASS_DATA, .label = spec.label };
    struct hsm_object obj;
    hsm_handle a, b;

    ck_ok(hsm_generate(tok, &spec, &a));
    ck_status(hsm_generate(tok, &spec, &b), HSM_ERR_EXISTS);
    ck_line_has(HSM_ERR_EXISTS, spec.label);
    ck_ok(hsm_put(tok, &data, text("x"), &b));
    ck_status(hsm_put(tok, &data, text("y"), &b), HSM_ERR_EXISTS);
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, spec.label, &obj));
    ck_assert_uint_eq(obj.handle, a);
    ck_ok(hsm_destroy(tok, a));
    ck_ok(hsm_generate(tok, &spec, &b));
    ck_assert_uint_ne(a, b);
}
END_TEST

START_TEST(given_id_is_kept)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "with id");
    static const uint8_t id[3] = { 0x00, 0x01, 0xff };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE, .id_len = 3 };
    struct hsm_object obj;
    hsm_handle key;

    spec.id = (struct hsm_bytes){ id, 3 };
    ck_ok(hsm_generate(tok, &spec, &key));
    memcpy(uri.id, id, 3);
    ck_ok(hsm_find_one(tok, &uri, &obj));
    ck_assert_str_eq(obj.label, "with id");
}
END_TEST

START_TEST(certificate_comes_back_and_has_its_keys_id)
{
    EVP_PKEY *pkey = software_key("ec:P-256");
    struct hsm_bytes der = certificate(pkey), key_der = to_pkcs8(pkey);
    struct hsm_object_spec spec = { .cls = HSM_CLASS_CERT, .label = "cert" },
                           key_spec_ = { .cls = HSM_CLASS_KEY, .label = "key" };
    uint8_t buf[4096];
    struct hsm_buf out = { buf, sizeof(buf), 0 }, small = { buf, 8, 0 };
    struct hsm_object cert, key;
    hsm_handle handle;

    ck_ok(hsm_put(tok, &spec, der, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_CERT, "cert", &cert));
    ck_assert_uint_eq(cert.value_len, der.len);
    ck_ok(hsm_get(tok, handle, &out));
    ck_assert_uint_eq(out.len, der.len);
    ck_assert_mem_eq(buf, der.ptr, der.len);
    ck_status(hsm_get(tok, handle, &small), HSM_ERR_BUFFER);
    ck_ok(hsm_import(tok, &key_spec_, key_der, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &key));
    ck_assert_uint_eq(cert.id_len, key.id_len);
    ck_assert_mem_eq(cert.id, key.id, key.id_len);
    free_bytes(der);
    free_bytes(key_der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(certificate_must_be_one)
{
    EVP_PKEY *pkey = software_key("ec:P-256");
    struct hsm_bytes der = certificate(pkey);
    struct hsm_object_spec spec = { .cls = HSM_CLASS_CERT, .label = "cert" };
    uint8_t *two = malloc(2 * der.len);
    hsm_handle handle;

    memcpy(two, der.ptr, der.len);
    memcpy(two + der.len, der.ptr, der.len);
    ck_status(hsm_put(tok, &spec, text("-----BEGIN CERTIFICATE-----"), &handle), HSM_ERR_DATA);
    ck_status(hsm_put(tok, &spec, (struct hsm_bytes){ der.ptr, der.len - 1 }, &handle), HSM_ERR_DATA);
    ck_status(hsm_put(tok, &spec, (struct hsm_bytes){ two, 2 * der.len }, &handle), HSM_ERR_DATA);
    ck_assert_uint_eq(count_objects(tok), 0);
    free(two);
    free_bytes(der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(data_object_comes_back)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA, .label = "data" };
    size_t len = lacks("data of 1 MiB") ? 5000 : is_soft() ? HSM_DATA_MAX : 512;
    uint8_t *value = malloc(len), *back = malloc(len);
    struct hsm_buf out = { back, len, 0 };
    struct hsm_object obj;
    hsm_handle handle;

    memset(value, 0xa5, len);
    ck_ok(hsm_put(tok, &spec, (struct hsm_bytes){ value, len }, &handle));
    ck_ok(find(tok, HSM_URI_TYPE_DATA, "data", &obj));
    ck_assert_uint_eq(obj.value_len, len);
    ck_ok(hsm_get(tok, handle, &out));
    ck_assert_uint_eq(out.len, len);
    ck_assert_mem_eq(value, back, len);
    ck_status(hsm_get(tok, 12345678, &out), HSM_ERR_NO_OBJECT);
    free(value);
    free(back);
}
END_TEST

static hsm_status get_each(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    char value[16];
    struct hsm_buf out = { (uint8_t *)value, sizeof(value), 0 };
    bool *seen = arg;

    if (obj->origin == HSM_ORIGIN_FACTORY)
        return HSM_OK;
    ck_ok(hsm_get(t, obj->handle, &out));
    ck_assert(!seen[atoi(value)]);
    seen[atoi(value)] = true;
    return HSM_OK;
}

/* More than one page, and the callback calls back. */
START_TEST(listing_sees_every_object_once)
{
    enum { MANY = 40 };
    bool seen[MANY] = { false };
    char label[32], value[16];
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA, .label = label };
    hsm_handle handle;
    int i;

    for (i = 0; i < MANY; i++) {
        (void)snprintf(label, sizeof(label), "object %d", i);
        memset(value, 0, sizeof(value));
        (void)snprintf(value, sizeof(value), "%d", i);
        ck_ok(hsm_put(tok, &spec, (struct hsm_bytes){ (uint8_t *)value, sizeof(value) }, &handle));
    }
    ck_ok(hsm_find(tok, NULL, get_each, seen));
    for (i = 0; i < MANY; i++)
        ck_assert(seen[i]);
    ck_assert_uint_eq(count_objects(tok), MANY);
}
END_TEST

static hsm_status stop_at_once(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    ++*(int *)arg;
    return HSM_ERR_DENIED;
}

START_TEST(listing_stops_when_told)
{
    int calls = 0;

    (void)generate(tok, "ec:P-256", "a");
    (void)generate(tok, "ec:P-256", "b");
    ck_status(hsm_find(tok, NULL, stop_at_once, &calls), HSM_ERR_DENIED);
    ck_assert_int_eq(calls, 1);
}
END_TEST

/* ---- PINs -----------------------------------------------------------------------------------------------
 */

static unsigned tries_left(void)
{
    struct hsm_token_info info;

    ck_ok(hsm_token_info(tok, &info));
    return info.pin_tries_left;
}

START_TEST(without_pin_all_is_listed_and_nothing_signs)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "other");
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    struct hsm_object_spec data = { .cls = HSM_CLASS_DATA, .label = "data" };
    uint8_t in[32] = { 1 }, buf[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { buf, sizeof(buf), 0 };
    struct hsm_ctx *other = new_context(NULL);
    struct hsm_token *t = get_token(other);
    struct hsm_object obj;
    hsm_handle key = generate(tok, "ec:P-256", "key"), handle;

    ck_ok(hsm_put(tok, &data, text("secret"), &handle));
    ck_ok(find(t, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_assert_uint_gt(obj.spki_len, 0);
    ck_assert_uint_eq(count_objects(t), 2);
    ck_status(hsm_sign(t, key, &ecdsa, (struct hsm_bytes){ in, 32 }, &out), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_get(t, handle, &out), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_generate(t, &spec, &handle), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_destroy(t, key), HSM_ERR_PIN_REQUIRED);
    ck_ok(hsm_login(t, HSM_ROLE_USER, text(user_pin)));
    ck_ok(hsm_sign(t, key, &ecdsa, (struct hsm_bytes){ in, 32 }, &out));
    hsm_ctx_free(other);
}
END_TEST

START_TEST(so_login_gives_no_keys)
{
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    uint8_t in[32] = { 1 }, buf[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { buf, sizeof(buf), 0 };
    struct hsm_ctx *other = new_context(NULL);
    struct hsm_token *t = get_token(other);
    hsm_handle key = generate(tok, "ec:P-256", "key");

    ck_ok(hsm_login(t, HSM_ROLE_SO, text(so_pin)));
    ck_status(hsm_sign(t, key, &ecdsa, (struct hsm_bytes){ in, 32 }, &out), HSM_ERR_PIN_REQUIRED);
    hsm_ctx_free(other);
}
END_TEST

START_TEST(wrong_pins_are_counted_and_the_right_one_resets)
{
    unsigned max = tries_left();
    char want[32];

    (void)snprintf(want, sizeof(want), "%u tries left", max - 1);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text("wrong pin")), HSM_ERR_PIN_INCORRECT);
    ck_line_has(HSM_ERR_PIN_INCORRECT, want);
    ck_assert_uint_eq(tries_left(), max - 1);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text("wrong pin")), HSM_ERR_PIN_INCORRECT);
    ck_assert_uint_eq(tries_left(), max - 2);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text(user_pin)));
    ck_assert_uint_eq(tries_left(), max);
}
END_TEST

START_TEST(pin_locks_and_is_unblocked_by_the_so)
{
    unsigned max = tries_left(), i;
    struct hsm_token_info info;

    for (i = 0; i < max; i++)
        ck_status(hsm_login(tok, HSM_ROLE_USER, text("wrong pin")), HSM_ERR_PIN_INCORRECT);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text(user_pin)), HSM_ERR_PIN_LOCKED);
    ck_line_has(HSM_ERR_PIN_LOCKED, "hsmctl pin unblock");
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(info.pin_locked && info.pin_tries_left == 0 && !info.so_locked);
    ck_status(hsm_pin_change(tok, HSM_ROLE_USER, text(user_pin), text("new pin"), false), HSM_ERR_PIN_LOCKED);
    ck_status(hsm_pin_unblock(tok, text("not the so pin"), text("new pin"), false), HSM_ERR_PIN_INCORRECT);
    ck_line_has(HSM_ERR_PIN_INCORRECT, "SO PIN");
    ck_ok(hsm_pin_unblock(tok, text(so_pin), text("new pin"), false));
    ck_status(hsm_login(tok, HSM_ROLE_USER, text(user_pin)), HSM_ERR_PIN_INCORRECT);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text("new pin")));
    ck_assert_uint_eq(tries_left(), max);
    ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text("new pin"), text(user_pin), false));
}
END_TEST

START_TEST(pin_change_keeps_the_keys)
{
    struct hsm_ctx *other = new_context(NULL);
    struct hsm_object obj;
    struct hsm_token *t;

    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_status(hsm_pin_change(tok, HSM_ROLE_USER, text("wrong pin"), text("new pin"), false),
              HSM_ERR_PIN_INCORRECT);
    ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text(user_pin), text("new pin"), false));
    ck_ok(sign_default(tok, &obj)); /* logged in before */
    t = get_token(other);
    ck_status(hsm_login(t, HSM_ROLE_USER, text(user_pin)), HSM_ERR_PIN_INCORRECT);
    ck_ok(hsm_login(t, HSM_ROLE_USER, text("new pin")));
    ck_ok(sign_default(t, &obj));
    ck_ok(hsm_pin_change(tok, HSM_ROLE_SO, text(so_pin), text("new so pin"), false));
    ck_status(hsm_login(tok, HSM_ROLE_SO, text(so_pin)), HSM_ERR_PIN_INCORRECT);
    ck_ok(hsm_pin_unblock(tok, text("new so pin"), text(user_pin), false));
    ck_ok(hsm_pin_change(tok, HSM_ROLE_SO, text("new so pin"), text(so_pin), false));
    hsm_ctx_free(other);
}
END_TEST

START_TEST(pin_format_is_checked)
{
    char longest[HSM_PIN_MAX + 2];
    unsigned max = tries_left();

    memset(longest, 'x', sizeof(longest));
    longest[HSM_PIN_MAX + 1] = '\0';
    ck_status(hsm_login(tok, HSM_ROLE_USER, text("abc")), HSM_ERR_PIN_FORMAT);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text(longest)), HSM_ERR_PIN_FORMAT);
    ck_status(hsm_pin_change(tok, HSM_ROLE_USER, text(user_pin), text("abc"), false), HSM_ERR_PIN_FORMAT);
    ck_assert_uint_eq(tries_left(), max); /* none of these was a try */
    longest[HSM_PIN_MAX] = '\0';
    ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text(user_pin), text(longest), false));
    ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text(longest), text(user_pin), false));
}
END_TEST

/* ---- threads, processes, other openers ------------------------------------------------------------------
 */

struct worker {
    pthread_t thread;
    hsm_handle key;
    EVP_PKEY *pub;
    struct hsm_mech mech;
    int failures;
};

static void *sign_many(void *arg)
{
    struct worker *w = arg;
    uint8_t in[64], sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    struct hsm_bytes data = { in, 32 };
    int i;

    for (i = 0; i < 200; i++) {
        memset(in, i, sizeof(in));
        if (hsm_sign(tok, w->key, &w->mech, data, &out) != HSM_OK ||
            !verify(w->pub, &w->mech, data, (struct hsm_bytes){ sig, out.len }))
            w->failures++;
    }
    return NULL;
}

START_TEST(threads_sign_at_once)
{
    static const char *const some[] = { "ec:P-256", "rsa:2048", "ed25519" };
    struct worker workers[9] = { { .key = 0 } };
    struct hsm_object obj;
    size_t i;

    for (i = 0; i < COUNT(some); i++)
        (void)generate(tok, some[i], some[i]);
    for (i = 0; i < COUNT(workers); i++) {
        ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, some[i % COUNT(some)], &obj));
        workers[i].key = obj.handle;
        workers[i].pub = public_key(&obj);
        workers[i].mech = default_mech(&obj.kind);
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, sign_many, &workers[i]), 0);
    }
    for (i = 0; i < COUNT(workers); i++) {
        (void)pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].failures, 0);
        EVP_PKEY_free(workers[i].pub);
    }
}
END_TEST

static int child_signs(struct hsm_ctx *c, const struct hsm_object *obj)
{
    struct hsm_token *t;

    if (hsm_token_get(c, 0, &t) != HSM_OK || hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK)
        return 1;
    return sign_default(t, obj) == HSM_OK ? 0 : 2;
}

START_TEST(child_signs_after_fork_and_so_does_the_parent)
{
    struct hsm_object obj;
    int status, i;
    pid_t pid;

    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(tok, &obj));
    for (i = 0; i < 3; i++) {
        pid = fork();
        if (pid == 0)
            _exit(child_signs(ctx, &obj));
        ck_ok(sign_default(tok, &obj));
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
    }
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(a_write_by_one_is_seen_by_the_others)
{
    struct hsm_ctx *other = new_context(NULL);
    struct hsm_token *t = login(other);
    struct hsm_object obj, obj2;

    (void)generate(tok, "ec:P-256", "one");
    ck_ok(find(t, HSM_URI_TYPE_PRIVATE, "one", &obj));
    ck_ok(sign_default(t, &obj));
    ck_ok(sign_default(tok, &obj));
    (void)generate(t, "ec:P-256", "two");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "two", &obj2));
    ck_ok(sign_default(tok, &obj2));
    ck_ok(sign_default(tok, &obj)); /* still there, though the token was written to */
    ck_ok(hsm_destroy(tok, obj.handle));
    ck_status(sign_default(t, &obj), HSM_ERR_NO_OBJECT);
    ck_ok(sign_default(t, &obj2));
    hsm_ctx_free(other);
}
END_TEST

static Suite *token_suite(void)
{
    Suite *s = suite_create("token");
    TCase *tc = tcase_create("token");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, info_describes_the_token);
    tcase_add_test(tc, create_refuses_to_overwrite);
    tcase_add_test(tc, create_with_force_destroys_all);
    tcase_add_test(tc, random_numbers_differ);
    tcase_add_loop_test(tc, generated_key_lists_signs_and_goes, 0, COUNT(kinds));
    tcase_add_loop_test(tc, imported_key_signs_like_the_original, 0, COUNT(kinds));
    tcase_add_test(tc, ed25519_matches_rfc8032);
    tcase_add_test(tc, rsa_signs_with_every_digest);
    tcase_add_test(tc, pss_takes_every_salt_that_fits);
    tcase_add_test(tc, ecdsa_takes_digests_of_any_length);
    tcase_add_test(tc, raw_rsa_inverts_the_public_operation);
    tcase_add_test(tc, sign_refuses_what_does_not_fit);
    tcase_add_test(tc, usage_is_enforced);
    tcase_add_loop_test(tc, both_sides_agree_on_a_secret, 0, COUNT(agreeing));
    tcase_add_test(tc, peers_on_other_curves_are_refused);
    tcase_add_test(tc, x25519_refuses_a_secret_of_zeros);
    tcase_add_test(tc, agreement_wants_the_right_key_mechanism_and_usage);
    tcase_add_test(tc, a_key_by_reference_derives_after_fork);
    tcase_add_test(tc, rsa_decrypts_what_libcrypto_encrypted);
    tcase_add_test(tc, a_key_by_reference_decrypts);
    tcase_add_loop_test(tc, oaep_says_the_same_whatever_is_wrong, 0, 4);
    tcase_add_test(tc, pkcs1_says_the_same_whatever_is_wrong);
    tcase_add_test(tc, decryption_wants_the_right_key_length_mechanism_and_usage);
    tcase_add_test(tc, a_key_for_one_use_has_that_use);
    tcase_add_loop_test(tc, import_refuses_every_truncation, 0, 3);
    tcase_add_test(tc, import_refuses_weak_and_foreign_keys);
    tcase_add_test(tc, import_refuses_inconsistent_keys);
    tcase_add_test(tc, import_computes_a_missing_point);
    tcase_add_test(tc, restricted_pss_key_keeps_its_restrictions);
    tcase_add_test(tc, export_needs_room_and_a_key);
    tcase_add_test(tc, labels_are_unique_per_class);
    tcase_add_test(tc, given_id_is_kept);
    tcase_add_test(tc, certificate_comes_back_and_has_its_keys_id);
    tcase_add_test(tc, certificate_must_be_one);
    tcase_add_test(tc, data_object_comes_back);
    tcase_add_test(tc, listing_sees_every_object_once);
    tcase_add_test(tc, listing_stops_when_told);
    tcase_add_test(tc, without_pin_all_is_listed_and_nothing_signs);
    tcase_add_test(tc, so_login_gives_no_keys);
    tcase_add_test(tc, wrong_pins_are_counted_and_the_right_one_resets);
    tcase_add_test(tc, pin_locks_and_is_unblocked_by_the_so);
    tcase_add_test(tc, pin_change_keeps_the_keys);
    tcase_add_test(tc, pin_format_is_checked);
    tcase_add_test(tc, threads_sign_at_once);
    tcase_add_test(tc, child_signs_after_fork_and_so_does_the_parent);
    tcase_add_test(tc, a_write_by_one_is_seen_by_the_others);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    clean_environment();
    print_lacks(getenv("HSM_TEST_TOKEN") == NULL ? "soft" : getenv("HSM_TEST_TOKEN"));
    return run_suite(token_suite());
}
