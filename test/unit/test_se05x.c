/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is particular to a token on an SE05x: every command against the simulator, the directory and its
 * journal, PINs, objects of others. Loop tests: _i is the generation of the applet.
 */
#include "se05x_fixture.h"

/* ---- commands
 * -------------------------------------------------------------------------------------------------- */

START_TEST(ec_signature_verifies_on_chip_and_host)
{
    struct hsm_mech mech = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    uint8_t digest[32] = { 7 };
    struct hsm_bytes in = { digest, sizeof(digest) }, sig;
    struct hsm_buf out = room();
    EVP_PKEY *pub;
    bool ok = false;

    begin_blank(_i);
    make_foreign_key("ec:P-256", FOREIGN_KEY);
    ck_done(se05x_ec_sign(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_EC_SMALL, SE05X_ECDSA_SHA256, in, 0,
                          &out, &sw));
    sig = (struct hsm_bytes){ out.ptr, out.len };
    ck_done(se05x_ec_verify(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_EC_SMALL, SE05X_ECDSA_SHA256, in,
                            sig, &ok, &sw));
    ck_assert(ok);
    digest[0] ^= 1;
    ck_done(se05x_ec_verify(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_EC_SMALL, SE05X_ECDSA_SHA256, in,
                            sig, &ok, &sw));
    ck_assert(!ok);
    digest[0] ^= 1;
    pub = public_of(FOREIGN_KEY, "ec:P-256");
    ck_assert(verify(pub, &mech, in, sig));
    EVP_PKEY_free(pub);
}
END_TEST

static void host_agree(EVP_PKEY *mine, EVP_PKEY *peer, uint8_t *secret, size_t *len)
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, mine, NULL);

    ck_assert_int_eq(EVP_PKEY_derive_init(c), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(c, peer), 1);
    ck_assert_int_eq(EVP_PKEY_derive(c, secret, len), 1);
    EVP_PKEY_CTX_free(c);
}

START_TEST(agreement_gives_the_same_secret)
{
    static const char *const some[] = { "ec:P-256", "ec:P-384", "x25519", "x448" };
    const char *kind = some[_i / GENERATIONS];
    EVP_PKEY *mine = software_key(kind), *theirs;
    uint8_t peer[HSM_POINT_MAX], turned[HSM_POINT_MAX], secret[66];
    size_t peer_len, len = sizeof(secret);
    struct hsm_key_kind k = kind_of(kind);
    struct hsm_buf out = room();

    begin_blank(_i % GENERATIONS);
    make_foreign_key(kind, FOREIGN_KEY);
    ck_assert_int_eq(
        EVP_PKEY_get_octet_string_param(mine, OSSL_PKEY_PARAM_PUB_KEY, peer, sizeof(peer), &peer_len), 1);
    se05x_reverse(turned, peer, peer_len);
    ck_done(se05x_ecdh(chip, SE05X_ANYBODY, FOREIGN_KEY, se05x_time_of(&k),
                       (struct hsm_bytes){ k.type == HSM_KEY_EC ? peer : turned, peer_len }, 0, &out, &sw));
    theirs = public_of(FOREIGN_KEY, kind);
    host_agree(mine, theirs, secret, &len);
    ck_assert_uint_eq(out.len, len);
    if (k.type != HSM_KEY_EC)
        se05x_reverse(turned, out.ptr, len);
    ck_assert_mem_eq(k.type == HSM_KEY_EC ? out.ptr : turned, secret, len);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(theirs);
}
END_TEST

START_TEST(rsa_decrypts_what_the_host_encrypts)
{
    static const struct {
        enum se05x_rsa_padding chip;
        int host;
    } paddings[] = { { SE05X_RSA_PKCS1, RSA_PKCS1_PADDING },
                     { SE05X_RSA_OAEP_SHA1, RSA_PKCS1_OAEP_PADDING } };
    uint8_t cipher[256], plain[20] = { 1, 2, 3 };
    size_t len, i;
    struct hsm_buf out;
    EVP_PKEY *pub;

    begin_blank(_i);
    make_foreign_key("rsa:2048", FOREIGN_KEY);
    pub = public_of(FOREIGN_KEY, "rsa:2048");
    for (i = 0; i < COUNT(paddings); i++) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, pub, NULL);

        len = sizeof(cipher);
        ck_assert_int_eq(EVP_PKEY_encrypt_init(c), 1);
        ck_assert_int_eq(EVP_PKEY_CTX_set_rsa_padding(c, paddings[i].host), 1);
        ck_assert_int_eq(EVP_PKEY_encrypt(c, cipher, &len, plain, sizeof(plain)), 1);
        EVP_PKEY_CTX_free(c);
        out = room();
        ck_done(se05x_rsa_decrypt(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_RSA2048, paddings[i].chip,
                                  (struct hsm_bytes){ cipher, len }, &out, &sw));
        ck_assert_uint_eq(out.len, sizeof(plain));
        ck_assert_mem_eq(out.ptr, plain, sizeof(plain));
    }
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(rsa_raw_operations_undo_each_other)
{
    uint8_t in[256] = { 0, 1, 2 }, sealed[256];
    struct hsm_buf out = { sealed, sizeof(sealed), 0 }, back = room();

    begin_blank(_i);
    make_foreign_key("rsa:2048", FOREIGN_KEY);
    ck_done(se05x_rsa_encrypt(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_RSA_RAW, (struct hsm_bytes){ in, 256 },
                              &out, &sw));
    ck_assert_uint_eq(out.len, 256);
    ck_done(se05x_rsa_decrypt(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_RSA2048, SE05X_RSA_RAW,
                              (struct hsm_bytes){ sealed, 256 }, &back, &sw));
    ck_assert_uint_eq(back.len, 256);
    ck_assert_mem_eq(back.ptr, in, 256);
}
END_TEST

START_TEST(rsa_message_signature_verifies)
{
    struct hsm_bytes message = text("to be hashed by the chip");
    struct hsm_buf out = room();
    bool ok = false;

    begin_blank(_i);
    make_foreign_key("rsa:2048", FOREIGN_KEY);
    ck_done(se05x_rsa_sign(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_RSA2048, 0x28, 0, message, 256, &out,
                           &sw));
    ck_done(se05x_rsa_verify(chip, SE05X_ANYBODY, FOREIGN_KEY, 0x28, message,
                             (struct hsm_bytes){ out.ptr, out.len }, &ok, &sw));
    ck_assert(ok);
}
END_TEST

static const uint8_t aes_key[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static void import_symmetric(uint32_t id, enum se05x_type type, struct hsm_bytes key)
{
    struct se05x_write w = new_object(id);

    ck_done(se05x_write_symmetric(chip, &w, type, key, &sw));
}

START_TEST(aes_modes_agree_with_the_host)
{
    static const struct {
        enum se05x_cipher mode;
        const char *name;
    } modes[] = { { SE05X_AES_ECB, "AES-128-ECB" },
                  { SE05X_AES_CBC, "AES-128-CBC" },
                  { SE05X_AES_CTR, "AES-128-CTR" } };
    uint8_t iv[16] = { 9 }, plain[48] = { 1, 2, 3 }, want[64], sealed[64];
    struct hsm_buf out, back;
    size_t i;

    begin_blank(_i);
    import_symmetric(FOREIGN_AES, SE05X_TYPE_AES, (struct hsm_bytes){ aes_key, 16 });
    for (i = 0; i < COUNT(modes); i++) {
        EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, modes[i].name, NULL);
        EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
        struct hsm_bytes iv_in = { iv, modes[i].mode == SE05X_AES_ECB ? 0 : 16 };
        int len = 0;

        ck_assert_int_eq(EVP_EncryptInit_ex2(c, cipher, aes_key, iv, NULL), 1);
        (void)EVP_CIPHER_CTX_set_padding(c, 0);
        ck_assert_int_eq(EVP_EncryptUpdate(c, want, &len, plain, sizeof(plain)), 1);
        EVP_CIPHER_CTX_free(c);
        EVP_CIPHER_free(cipher);
        out = (struct hsm_buf){ sealed, sizeof(sealed), 0 };
        back = room();
        ck_done(se05x_cipher(chip, SE05X_ANYBODY, FOREIGN_AES, modes[i].mode, true, iv_in,
                             (struct hsm_bytes){ plain, sizeof(plain) }, &out, &sw));
        ck_assert_uint_eq(out.len, sizeof(plain));
        ck_assert_mem_eq(sealed, want, sizeof(plain));
        ck_done(se05x_cipher(chip, SE05X_ANYBODY, FOREIGN_AES, modes[i].mode, false, iv_in,
                             (struct hsm_bytes){ sealed, out.len }, &back, &sw));
        ck_assert_mem_eq(back.ptr, plain, sizeof(plain));
    }
}
END_TEST

START_TEST(aead_seals_and_notices_a_change)
{
    static const enum se05x_aead modes[] = { SE05X_AES_GCM, SE05X_AES_CCM };
    uint8_t iv[12] = { 3 }, plain[32] = { 5 }, sealed[32], tag[16];
    struct hsm_bytes iv_in = { iv, 12 }, aad = text("aad"), tag_in = { tag, 16 };
    struct hsm_buf out, back;
    bool ok = false;
    size_t i;

    begin_blank(1); /* 3.x has none */
    import_symmetric(FOREIGN_AES, SE05X_TYPE_AES, (struct hsm_bytes){ aes_key, 16 });
    for (i = 0; i < COUNT(modes); i++) {
        out = (struct hsm_buf){ sealed, sizeof(sealed), 0 };
        back = room();
        ck_done(se05x_aead_encrypt(chip, SE05X_ANYBODY, FOREIGN_AES, modes[i], iv_in, aad,
                                   (struct hsm_bytes){ plain, sizeof(plain) }, &out, tag, &sw));
        ck_done(se05x_aead_decrypt(chip, SE05X_ANYBODY, FOREIGN_AES, modes[i], iv_in, aad,
                                   (struct hsm_bytes){ sealed, out.len }, tag_in, &back, &ok, &sw));
        ck_assert(ok && back.len == sizeof(plain));
        ck_assert_mem_eq(back.ptr, plain, sizeof(plain));
        tag[0] ^= 1;
        back = room();
        ck_done(se05x_aead_decrypt(chip, SE05X_ANYBODY, FOREIGN_AES, modes[i], iv_in, aad,
                                   (struct hsm_bytes){ sealed, out.len }, tag_in, &back, &ok, &sw));
        ck_assert(!ok && back.len == 0);
    }
}
END_TEST

START_TEST(macs_agree_with_the_host)
{
    static const struct {
        enum se05x_mac algorithm;
        uint32_t key;
        const char *mac, *cipher, *digest;
    } macs[] = { { SE05X_CMAC, FOREIGN_AES, "CMAC", "AES-128-CBC", NULL },
                 { SE05X_HMAC_SHA1, FOREIGN_HMAC, "HMAC", NULL, "SHA1" },
                 { SE05X_HMAC_SHA256, FOREIGN_HMAC, "HMAC", NULL, "SHA2-256" },
                 { SE05X_HMAC_SHA384, FOREIGN_HMAC, "HMAC", NULL, "SHA2-384" },
                 { SE05X_HMAC_SHA512, FOREIGN_HMAC, "HMAC", NULL, "SHA2-512" } };
    struct hsm_bytes message = text("twenty bytes or more");
    uint8_t want[64];
    size_t i, len;
    bool ok;

    begin_blank(_i);
    import_symmetric(FOREIGN_AES, SE05X_TYPE_AES, (struct hsm_bytes){ aes_key, 16 });
    import_symmetric(FOREIGN_HMAC, SE05X_TYPE_HMAC, (struct hsm_bytes){ aes_key, 16 });
    for (i = 0; i < COUNT(macs); i++) {
        OSSL_PARAM params[2] = { OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end() };
        struct hsm_buf out = room();

        if (macs[i].digest != NULL)
            params[0] =
                OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)macs[i].digest, 0);
        ck_assert_ptr_nonnull(EVP_Q_mac(NULL, macs[i].mac, NULL, macs[i].cipher, params, aes_key, 16,
                                        message.ptr, message.len, want, sizeof(want), &len));
        ck_done(se05x_mac(chip, SE05X_ANYBODY, macs[i].key, macs[i].algorithm, message, &out, &sw));
        ck_assert_uint_eq(out.len, len);
        ck_assert_mem_eq(out.ptr, want, len);
        ck_done(se05x_mac_verify(chip, SE05X_ANYBODY, macs[i].key, macs[i].algorithm, message,
                                 (struct hsm_bytes){ want, len }, &ok, &sw));
        ck_assert(ok);
        want[0] ^= 1;
        ck_done(se05x_mac_verify(chip, SE05X_ANYBODY, macs[i].key, macs[i].algorithm, message,
                                 (struct hsm_bytes){ want, len }, &ok, &sw));
        ck_assert(!ok);
    }
}
END_TEST

/* RFC 5869 appendix A.1 */
START_TEST(hkdf_matches_rfc5869)
{
    static const uint8_t salt[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    static const uint8_t info[] = { 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9 };
    static const uint8_t want[] = { 0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f,
                                    0x64, 0xd0, 0x36, 0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a,
                                    0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf, 0x34,
                                    0x00, 0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65 };
    uint8_t ikm[22], okm[sizeof(want)];
    struct hsm_buf out = { okm, sizeof(okm), 0 };

    memset(ikm, 0x0b, sizeof(ikm));
    begin_blank(_i);
    import_symmetric(FOREIGN_HMAC, SE05X_TYPE_HMAC, (struct hsm_bytes){ ikm, sizeof(ikm) });
    ck_done(se05x_hkdf(chip, SE05X_ANYBODY, FOREIGN_HMAC, SE05X_SHA256,
                       (struct hsm_bytes){ salt, sizeof(salt) }, (struct hsm_bytes){ info, sizeof(info) },
                       &out, &sw));
    ck_assert_mem_eq(okm, want, sizeof(want));
}
END_TEST

START_TEST(agreed_secret_can_stay_inside)
{
    EVP_PKEY *mine = software_key("ec:P-256"), *theirs;
    struct hsm_bytes message = text("message");
    uint8_t peer[65], secret[32], want[32], zeros[32] = { 0 };
    size_t peer_len, len = sizeof(secret);
    struct hsm_buf out = room();

    begin_blank(1); /* 3.x has none */
    make_foreign_key("ec:P-256", FOREIGN_KEY);
    import_symmetric(FOREIGN_HMAC, SE05X_TYPE_HMAC, (struct hsm_bytes){ zeros, 32 });
    ck_assert_int_eq(
        EVP_PKEY_get_octet_string_param(mine, OSSL_PKEY_PARAM_PUB_KEY, peer, sizeof(peer), &peer_len), 1);
    ck_done(se05x_ecdh_to_object(chip, SE05X_ANYBODY, FOREIGN_KEY, SE05X_TIME_EC_SMALL,
                                 (struct hsm_bytes){ peer, peer_len }, FOREIGN_HMAC, false, &sw));
    theirs = public_of(FOREIGN_KEY, "ec:P-256");
    host_agree(mine, theirs, secret, &len);
    ck_assert_ptr_nonnull(EVP_Q_mac(NULL, "HMAC", NULL, "SHA2-256", NULL, secret, len, message.ptr,
                                    message.len, want, sizeof(want), &len));
    ck_done(se05x_mac(chip, SE05X_ANYBODY, FOREIGN_HMAC, SE05X_HMAC_SHA256, message, &out, &sw));
    ck_assert_mem_eq(out.ptr, want, 32);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(theirs);
}
END_TEST

START_TEST(chip_tells_about_itself)
{
    uint8_t version[7];
    uint32_t free_bytes = 0;

    begin_blank(_i);
    ck_done(se05x_get_version(chip, version, &sw));
    ck_assert_mem_eq(version, chip->caps.version, 3);
    ck_done(se05x_free_memory(chip, SE05X_MEMORY_PERSISTENT, &free_bytes, &sw));
    ck_assert_uint_gt(free_bytes, 1000);
    ck_assert_str_eq(se05x_model(chip, (char *)bytes), _i == 0 ? "SE050 applet 3.1.1" : "SE051 applet 7.2.0");
}
END_TEST

/* ---- a blank chip, objects of others
 * ------------------------------------------------------------------------------ */

START_TEST(blank_chip_opens_and_says_what_to_do)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "key");
    struct hsm_token_info info;
    hsm_handle key;
    hsm_status st;

    begin_blank(_i);
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(!info.initialised);
    ck_assert_uint_eq(strlen(info.serial), 36);
    st = hsm_generate(tok, &spec, &key);
    ck_assert_int_ne(st, HSM_OK);
    ck_line_has(st, "hsmctl token init");
    st = hsm_login(tok, HSM_ROLE_USER, text(user_pin));
    ck_assert_int_ne(st, HSM_OK);
    ck_line_has(st, "hsmctl token init");
}
END_TEST

static hsm_status remember_label(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    char *all = arg;

    (void)strncat(all, obj->label, 1000);
    (void)strncat(all, " ", 1000);
    return HSM_OK;
}

START_TEST(foreign_key_is_listed_and_signs_but_stays)
{
    struct hsm_object obj;
    char labels[4096] = "";

    begin_blank(_i);
    make_foreign_key("ec:P-384", FOREIGN_KEY);
    ck_ok(hsm_find(tok, NULL, remember_label, labels));
    ck_assert_ptr_nonnull(strstr(labels, "0x20000001 "));
    ck_assert_ptr_null(strstr(labels, "0x7FFF"));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "0x20000001", &obj));
    ck_assert_int_eq(obj.kind.curve, HSM_CURVE_P384);
    ck_assert_mem_eq(obj.id, "\x20\x00\x00\x01", 4);
    ck_ok(sign_default(tok, &obj));
    ck_status(hsm_destroy(tok, obj.handle), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "another program");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "0x20000001", &obj));
    ck_status(find(tok, HSM_URI_TYPE_PRIVATE, "0x20000002", &obj), HSM_ERR_NO_OBJECT);
}
END_TEST

START_TEST(foreign_certificate_is_listed_and_read)
{
    EVP_PKEY *pkey = software_key("ec:P-256");
    struct hsm_bytes der = certificate(pkey);
    struct se05x_write w = new_object(FOREIGN_KEY);
    struct hsm_buf out = room();
    struct hsm_object obj;

    begin_blank(_i);
    ck_done(se05x_write_binary(chip, &w, 0, (uint16_t)der.len, der, &sw));
    ck_ok(find(tok, HSM_URI_TYPE_CERT, "0x20000001", &obj));
    ck_assert_uint_eq(obj.value_len, der.len);
    ck_ok(hsm_get(tok, obj.handle, &out));
    ck_assert_mem_eq(out.ptr, der.ptr, der.len);
    free_bytes(der);
    EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(factory_keys_are_factory_made)
{
    struct hsm_object obj;

    begin_blank(_i);
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "0xF0000012", &obj));
    ck_assert_int_eq(obj.origin, HSM_ORIGIN_FACTORY);
    ck_status(hsm_destroy(tok, obj.handle), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "NXP");
}
END_TEST

START_TEST(a_given_userid_opens_foreign_keys)
{
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write id = { .id = FOREIGN_USERID, .is_auth = true, .max_attempts = 5 },
                       key = new_object(FOREIGN_KEY);
    struct hsm_key_kind k = kind_of("ec:P-256");
    struct hsm_bytes none = { NULL, 0 };
    struct hsm_object obj;
    char spec[sizeof(token_spec)];

    begin_blank(_i);
    ck_done(se05x_write_userid(chip, &id, text("12345678"), &sw));
    se05x_policy_add(&policy, 0, SE05X_MAY_READ);
    se05x_policy_add(&policy, FOREIGN_USERID, SE05X_MAY_SIGN | SE05X_MAY_READ);
    key.policy = &policy;
    ck_ok(se05x_curve_ensure(chip, &k));
    ck_done(se05x_write_ec(chip, &key, SE05X_PART_PAIR, SE05X_CURVE_P256, none, none, &sw));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "0x20000001", &obj));
    ck_status(sign_default(tok, &obj), HSM_ERR_USAGE);
    ck_line_has(HSM_ERR_USAGE, "auth=");
    hsm_ctx_free(ctx);
    (void)snprintf(spec, sizeof(spec), "%s", token_spec);
    (void)snprintf(token_spec, sizeof(token_spec), "%.300s?auth=userid:0x%08X", spec, FOREIGN_USERID);
    ctx = new_context(NULL);
    tok = get_token(ctx);
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "0x20000001", &obj));
    ck_status(sign_default(tok, &obj), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text("12345679")), HSM_ERR_PIN_INCORRECT);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text("12345678")));
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(unknown_parameters_are_refused)
{
    static const char *const bad[] = { "?adr=0x48", "?auth=pin:0x1", "?auth=userid:0x48000010",
                                       "?auth=userid:zz" };
    char spec[sizeof(token_spec)];
    struct hsm_token *t;

    chip_start(applets[0], false);
    (void)snprintf(spec, sizeof(spec), "%s", token_spec);
    (void)snprintf(token_spec, sizeof(token_spec), "%.300s%s", spec, bad[_i]);
    ctx = new_context(NULL);
    ck_status(hsm_token_get(ctx, 0, &t), HSM_ERR_CONFIG);
}
END_TEST

/* ---- initialisation
 * ------------------------------------------------------------------------------------------------- */

START_TEST(without_user_pin_everybody_uses_keys)
{
    struct hsm_token_init init = default_init();
    struct hsm_token_info info;
    struct hsm_object obj;

    init.user_pin = (struct hsm_bytes){ NULL, 0 };
    begin_with(_i, &init);
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(info.no_pin && info.logged_in && info.initialised);
    (void)generate(tok, "ec:P-256", "open");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "open", &obj));
    ck_ok(sign_default(tok, &obj));
    ck_ok(hsm_destroy(tok, obj.handle));
}
END_TEST

START_TEST(force_with_another_so_pin_leaves_nothing_but_what_it_may_not_delete)
{
    struct hsm_token_init init = default_init();
    struct hsm_object_spec kept = key_spec("ec:P-256", "kept");
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    kept.so_destroys = true;
    (void)generate(tok, "ec:P-256", "lost");
    ck_ok(hsm_generate(tok, &kept, &key));
    init.so_pin = text("another SO PIN");
    ck_ok(hsm_token_create(ctx, 0, &init));
    reopen();
    ck_assert_uint_eq(chip->directory->info.generation, 1);
    ck_assert_uint_eq(object_count(), 2); /* record and value of "kept" */
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "kept", &obj));
    ck_assert_int_ne(sign_default(tok, &obj), HSM_OK); /* the user of the new token is not its user */
    (void)generate(tok, "ec:P-256", "new");
}
END_TEST

START_TEST(force_with_the_so_pin_leaves_nothing)
{
    struct hsm_token_init init = default_init();
    struct hsm_object_spec kept = key_spec("ec:P-256", "kept");
    hsm_handle key;

    begin(_i);
    kept.so_destroys = true;
    ck_ok(hsm_generate(tok, &kept, &key));
    make_foreign_key("ec:P-256", FOREIGN_KEY);
    ck_ok(hsm_token_create(ctx, 0, &init));
    reopen();
    ck_assert_uint_eq(object_count(), 0);
    ck_assert_uint_eq(chip->directory->info.generation, 1);
    ck_done(se05x_read_type(chip, FOREIGN_KEY, bytes, &sw)); /* not ours, not touched */
}
END_TEST

START_TEST(open_token_notices_that_it_was_replaced)
{
    struct hsm_token_init init = default_init();
    struct hsm_ctx *other;
    struct hsm_object obj;
    hsm_status st;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(tok, &obj));
    other = new_context(NULL);
    ck_ok(hsm_token_create(other, 0, &init));
    hsm_ctx_free(other);
    st = sign_default(tok, &obj);
    ck_assert_msg(st == HSM_ERR_PIN_REQUIRED || st == HSM_ERR_TOKEN_GONE || st == HSM_ERR_NO_OBJECT, "%s",
                  hsm_error_text(st));
    tok = get_token(ctx);
    ck_status(hsm_login(tok, HSM_ROLE_USER, text(user_pin)),
              st == HSM_ERR_PIN_REQUIRED ? HSM_ERR_TOKEN_GONE : HSM_OK);
}
END_TEST

/* ---- directory
 * ------------------------------------------------------------------------------------------------------ */

/* Put a record with this label where another one belongs, as if the digests met. */
static void plant(uint32_t id, const char *label, uint32_t value_id)
{
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write w = { .auth = SE05X_USER, .id = id, .policy = &policy };
    struct se05x_record r;
    struct hsm_buf out = room();

    memset(&r, 0, sizeof(r));
    r.state = SE05X_RECORD_LIVE;
    r.value_id = value_id;
    r.obj.cls = HSM_CLASS_DATA;
    r.obj.origin = HSM_ORIGIN_IMPORTED;
    r.obj.value_len = 1;
    (void)snprintf(r.obj.label, sizeof(r.obj.label), "%s", label);
    se05x_policy_add(&policy, 0, SE05X_MAY_READ | SE05X_MAY_DELETE);
    se05x_policy_add(&policy, se05x_auth_id(0, HSM_ROLE_USER),
                     SE05X_MAY_READ | SE05X_MAY_WRITE | SE05X_MAY_DELETE);
    ck_ok(se05x_record_encode(&r, &out));
    ck_done(se05x_write_binary(chip, &w, 0, (uint16_t)out.len, (struct hsm_bytes){ out.ptr, out.len }, &sw));
}

START_TEST(labels_whose_digests_meet_live_side_by_side)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA, .label = "mine" };
    struct hsm_buf out;
    struct hsm_object obj;
    hsm_handle handle;
    uint32_t id;

    begin(_i);
    ck_ok(se05x_record_place(chip, HSM_CLASS_DATA, "mine", &id));
    plant(id, "first comer", 0x4a000001);
    ck_ok(hsm_put(tok, &spec, text("value"), &handle));
    ck_assert_uint_eq(handle >> 32, se05x_record_id(id, 1));
    ck_ok(find(tok, HSM_URI_TYPE_DATA, "mine", &obj));
    out = room();
    ck_ok(hsm_get(tok, obj.handle, &out));
    ck_ok(hsm_destroy(tok, (hsm_handle)id << 32 | 0x4a000001)); /* leaves a tombstone */
    ck_assert_uint_eq(count_objects(tok), 1);
    ck_ok(find(tok, HSM_URI_TYPE_DATA, "mine", &obj));
    ck_status(hsm_put(tok, &spec, text("value"), &handle), HSM_ERR_EXISTS);
    ck_ok(hsm_destroy(tok, obj.handle)); /* and the tombstone goes with the last one behind it */
    ck_assert_uint_eq(object_count(), 0);
}
END_TEST

START_TEST(long_names_leave_the_public_key_in_the_key)
{
    char label[HSM_LABEL_MAX + 1];
    struct hsm_object_spec spec;
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    memset(label, 'n', HSM_LABEL_MAX);
    label[HSM_LABEL_MAX] = '\0';
    spec = key_spec("rsa:4096", label);
    ck_ok(hsm_generate(tok, &spec, &key));
    reopen();
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, label, &obj));
    ck_assert_uint_gt(obj.spki_len, 512);
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(only_the_so_destroys_what_is_protected)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "protected");
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    spec.so_destroys = true;
    ck_ok(hsm_generate(tok, &spec, &key));
    ck_status(hsm_destroy(tok, key), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "SO");
    ck_status(se05x_remove(chip, SE05X_USER, (uint32_t)key), HSM_ERR_DENIED); /* the chip says so, too */
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "protected", &obj));
    ck_ok(sign_default(tok, &obj));
    ck_ok(hsm_login(tok, HSM_ROLE_SO, text(so_pin)));
    ck_ok(hsm_destroy(tok, key));
    ck_assert_uint_eq(object_count(), 0);
}
END_TEST

START_TEST(keys_cannot_be_replaced_in_place)
{
    struct hsm_bytes none = { NULL, 0 };
    struct se05x_write w = { .auth = SE05X_USER };
    hsm_handle key;

    begin(_i);
    key = generate(tok, "ec:P-256", "key");
    w.id = (uint32_t)key;
    ck_ok(se05x_write_ec(chip, &w, SE05X_PART_PAIR, 0, none, none, &sw));
    ck_assert_int_ne(sw, SE05X_SW_OK);
}
END_TEST

/* ---- the journal
 * ------------------------------------------------------------------------------------------------------ */

static void write_journal(enum se05x_journal_op op, uint32_t record_id, uint32_t value_id)
{
    struct se05x_change c;

    ck_ok(se05x_change_begin(chip, SE05X_USER, &c));
    ck_ok(se05x_change_intend(chip, &c, op, record_id, value_id));
    se05x_change_end(chip);
}

static bool there(uint32_t id)
{
    bool exists;

    ck_ok(se05x_exists(chip, id, &exists));
    return exists;
}

START_TEST(value_without_record_is_cleared_away)
{
    struct se05x_write w = new_object(0x4a00beef);

    begin(_i);
    write_journal(SE05X_OP_CREATE, 0x49000001, 0x4a00beef);
    ck_done(se05x_write_binary(chip, &w, 0, 4, text("half"), &sw));
    ck_assert(there(0x4a00beef));
    (void)generate(tok, "ec:P-256", "next");
    ck_assert(!there(0x4a00beef));
    ck_assert_uint_eq(object_count(), 2);
}
END_TEST

START_TEST(finished_creation_survives_an_open_journal)
{
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    key = generate(tok, "ec:P-256", "kept");
    write_journal(SE05X_OP_CREATE, (uint32_t)(key >> 32), (uint32_t)key);
    (void)generate(tok, "ec:P-256", "next");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "kept", &obj));
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(destruction_that_had_begun_is_finished)
{
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    key = generate(tok, "ec:P-256", "doomed");
    write_journal(SE05X_OP_DESTROY, (uint32_t)(key >> 32), (uint32_t)key);
    (void)generate(tok, "ec:P-256", "next");
    ck_status(find(tok, HSM_URI_TYPE_PRIVATE, "doomed", &obj), HSM_ERR_NO_OBJECT);
    ck_assert_uint_eq(object_count(), 2);
}
END_TEST

START_TEST(protected_orphan_waits_for_the_so)
{
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write w = { .id = 0x4a00beef, .policy = &policy };

    begin(_i);
    write_journal(SE05X_OP_CREATE, 0x49000001, 0x4a00beef);
    se05x_policy_add(&policy, 0, SE05X_MAY_READ);
    se05x_policy_add(&policy, se05x_auth_id(0, HSM_ROLE_SO), SE05X_MAY_DELETE);
    ck_done(se05x_write_binary(chip, &w, 0, 4, text("half"), &sw));
    (void)generate(tok, "ec:P-256", "one");
    (void)generate(tok, "ec:P-256", "two");
    ck_assert(there(0x4a00beef));
    ck_ok(hsm_login(tok, HSM_ROLE_SO, text(so_pin)));
    (void)generate(tok, "ec:P-256", "three");
    ck_assert(!there(0x4a00beef));
}
END_TEST

START_TEST(token_made_by_another_asks_for_login)
{
    struct hsm_token_init init = default_init();
    struct hsm_object_spec spec = key_spec("ec:P-256", "key");
    enum se05x_auth auth = SE05X_ANYBODY;
    struct hsm_token_info info;
    struct hsm_ctx *other;
    hsm_handle key;

    begin_blank(_i);
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(!info.initialised);
    other = new_context(NULL);
    ck_ok(hsm_token_create(other, 0, &init));
    hsm_ctx_free(other);
    ck_status(se05x_writer(chip, &auth), HSM_ERR_PIN_REQUIRED);
    ck_status(hsm_generate(tok, &spec, &key), HSM_ERR_PIN_REQUIRED);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text(user_pin)));
    ck_ok(hsm_generate(tok, &spec, &key));
}
END_TEST

/* ---- what somebody without a PIN may put in the place of ours
 * ------------------------------------------------------- */

static void forge(uint32_t id, struct hsm_bytes value)
{
    struct se05x_policy policy = { .len = 0 };
    struct se05x_write w = { .id = id, .policy = &policy };

    ck_ok(se05x_remove(chip, SE05X_ANYBODY, id));
    se05x_policy_add(&policy, 0, SE05X_MAY_READ | SE05X_MAY_WRITE | SE05X_MAY_DELETE);
    ck_done(se05x_write_binary(chip, &w, 0, (uint16_t)value.len, value, &sw));
}

static void forge_journal(enum se05x_journal_op op, uint32_t record_id, uint32_t value_id)
{
    uint8_t forged[SE05X_JOURNAL_LEN];
    struct se05x_journal j = { .entries = { { op, record_id, value_id } } };

    memcpy(j.instance, chip->directory->info.instance, sizeof(j.instance));
    se05x_journal_encode(&j, forged);
    forge(SE05X_ID_JOURNAL, (struct hsm_bytes){ forged, sizeof(forged) });
}

START_TEST(forged_journal_deletes_nothing_that_is_protected)
{
    static const enum se05x_journal_op ops[] = { SE05X_OP_CREATE, SE05X_OP_DESTROY, SE05X_OP_ORPHAN };
    struct hsm_object_spec count = { .cls = HSM_CLASS_COUNTER, .label = "boots" },
                           spec = key_spec("ec:P-256", "protected");
    hsm_handle victims[2];
    char label[32];
    size_t i, k;

    begin(_i);
    spec.so_destroys = true;
    ck_ok(hsm_generate(tok, &spec, &victims[0]));
    ck_ok(hsm_counter_create(tok, &count, 7, &victims[1]));
    ck_ok(hsm_login(tok, HSM_ROLE_SO, text(so_pin)));
    for (i = 0; i < 2; i++)
        for (k = 0; k < 2 * sizeof(ops) / sizeof(ops[0]); k++) {
            forge_journal(ops[k / 2], k % 2 == 0 ? (uint32_t)(victims[i] >> 32) : 0x49000001,
                          (uint32_t)victims[i]);
            (void)snprintf(label, sizeof(label), "key %zu", 10 * i + k);
            (void)generate(tok, "ec:P-256", label);
        }
    ck_assert(there((uint32_t)victims[0]) && there((uint32_t)victims[1]));
    ck_assert(there((uint32_t)(victims[0] >> 32)) && there((uint32_t)(victims[1] >> 32)));
    ck_ok(hsm_destroy(tok, victims[0]));
    ck_ok(hsm_destroy(tok, victims[1]));
    ck_assert(!there((uint32_t)victims[0]) && !there((uint32_t)victims[1]));
}
END_TEST

/* By another record of the same name, which refers to another counter. */
START_TEST(counter_is_not_replaced_without_pin)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_COUNTER, .label = "boots" };
    hsm_handle counter;

    begin(_i);
    ck_ok(hsm_counter_create(tok, &spec, 7, &counter));
    ck_status(se05x_remove(chip, SE05X_ANYBODY, (uint32_t)counter), HSM_ERR_DENIED);
    ck_status(se05x_remove(chip, SE05X_ANYBODY, (uint32_t)(counter >> 32)), HSM_ERR_DENIED);
    ck_ok(hsm_destroy(tok, counter));
    ck_assert_uint_eq(object_count(), 0);
}
END_TEST

START_TEST(short_pin_is_not_proved_without_stretching)
{
    struct se05x_token_info info;
    struct hsm_buf out = room();
    unsigned sessions;

    begin(_i);
    info = chip->directory->info;
    info.pin[HSM_ROLE_USER].now = (struct se05x_pin_params){ .kdf = SE05X_KDF_HKDF };
    ck_ok(se05x_token_encode(&info, &out));
    forge(SE05X_ID_TOKEN, (struct hsm_bytes){ out.ptr, out.len });
    hsm_ctx_free(ctx);
    ctx = new_context(NULL);
    tok = get_token(ctx);
    sessions = chip_count("apdu CreateSession");
    ck_status(hsm_login(tok, HSM_ROLE_USER, text(user_pin)), HSM_ERR_PIN_INCORRECT);
    ck_assert_uint_eq(chip_count("apdu CreateSession"), sessions);
}
END_TEST

/* ---- curves
 * ---------------------------------------------------------------------------------------------------------
 */

START_TEST(half_made_curve_is_completed)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "imported" };
    EVP_PKEY *pkey = software_key("ec:P-521");
    struct hsm_bytes pkcs8 = to_pkcs8(pkey);
    uint8_t zeros[66] = { 0 };
    struct hsm_object obj;
    hsm_handle key;

    begin(_i);
    ck_done(se05x_curve_create(chip, SE05X_CURVE_P384, &sw)); /* and there the power failed */
    (void)generate(tok, "ec:P-384", "made");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "made", &obj));
    ck_ok(sign_default(tok, &obj));
    ck_done(se05x_curve_create(chip, SE05X_CURVE_P521, &sw));
    ck_ok(hsm_import(tok, &spec, pkcs8, &key));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "imported", &obj));
    ck_ok(sign_default(tok, &obj));
    ck_ok(se05x_curve_set_param(chip, SE05X_CURVE_P384, SE05X_CURVE_A, (struct hsm_bytes){ zeros, 48 }, &sw));
    ck_assert_uint_eq(sw, SE05X_SW_CONDITIONS); /* complete */
    free_bytes(pkcs8);
    EVP_PKEY_free(pkey);
}
END_TEST

/* ---- PINs
 * ---------------------------------------------------------------------------------------------------------------
 */

START_TEST(machine_pin_is_not_stretched)
{
    struct hsm_token_init init = default_init();
    struct hsm_token_info info;

    init.user_pin = text("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    init.machine_pin = true;
    begin_blank(_i);
    ck_ok(hsm_token_create(ctx, 0, &init));
    tok = get_token(ctx);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, init.user_pin));
    ck_ok(hsm_token_info(tok, &info));
    ck_assert(info.machine_pin && info.logged_in);
}
END_TEST

/* The other process must not use up the tries with the PIN it remembers. */
START_TEST(pin_changed_by_another_asks_for_login)
{
    struct hsm_ctx *other;
    struct hsm_token_info info;
    struct hsm_object obj;
    int i;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    other = new_context(NULL);
    ck_ok(hsm_pin_change(get_token(other), HSM_ROLE_USER, text(user_pin), text("changed"), false));
    hsm_ctx_free(other);
    chip_do("reset");
    for (i = 0; i < 15; i++)
        ck_status(sign_default(tok, &obj), HSM_ERR_PIN_REQUIRED);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text("changed")));
    ck_ok(sign_default(tok, &obj));
    ck_ok(hsm_token_info(tok, &info));
    ck_assert_uint_eq(info.pin_tries_left, info.pin_tries_max);
}
END_TEST

/* ---- signatures, counters, attestation
 * -------------------------------------------------------------------------------- */

START_TEST(one_signature_is_one_command)
{
    struct hsm_object obj;
    unsigned before;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(tok, &obj));
    before = chip_count("apdus");
    ck_ok(sign_default(tok, &obj));
    ck_assert_uint_eq(chip_count("apdus"), before + 1);
}
END_TEST

static void check_message(hsm_handle key, EVP_PKEY *pub, const struct hsm_mech *mech,
                          struct hsm_bytes message, hsm_status want)
{
    uint8_t digest[EVP_MAX_MD_SIZE], sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    size_t len = 0;

    ck_status(hsm_sign_message(tok, key, mech, message, &out), want);
    if (want != HSM_OK)
        return;
    ck_assert_int_eq(
        EVP_Q_digest(NULL, hsm_hash_name(mech->hash), NULL, message.ptr, message.len, digest, &len), 1);
    ck_assert(verify(pub, mech, (struct hsm_bytes){ digest, len }, (struct hsm_bytes){ sig, out.len }));
}

START_TEST(chip_hashes_short_messages)
{
    struct hsm_mech pkcs1 = { .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA384 };
    struct hsm_mech pss = { .type = HSM_MECH_RSA_PSS,
                            .hash = HSM_HASH_SHA256,
                            .mgf1_hash = HSM_HASH_SHA256,
                            .salt_len = 32 },
                    other_salt = pss, other_mgf = pss;
    struct hsm_mech ecdsa = { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 };
    uint8_t message[300] = { 1, 2, 3 };
    struct hsm_bytes shorter = { message, 100 }, longer = { message, sizeof(message) };
    struct hsm_object obj;
    EVP_PKEY *pub;

    begin(_i);
    (void)generate(tok, "rsa:2048", "rsa");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "rsa", &obj));
    pub = public_key(&obj);
    other_salt.salt_len = 20;
    other_mgf.mgf1_hash = HSM_HASH_SHA1;
    check_message(obj.handle, pub, &pkcs1, shorter, HSM_OK);
    check_message(obj.handle, pub, &pss, shorter, HSM_OK);
    check_message(obj.handle, pub, &other_salt, shorter, _i == 0 ? HSM_ERR_UNSUPPORTED : HSM_OK);
    check_message(obj.handle, pub, &other_mgf, shorter, HSM_ERR_UNSUPPORTED);
    check_message(obj.handle, pub, &pkcs1, longer, HSM_ERR_UNSUPPORTED);
    check_message(obj.handle, pub, &ecdsa, shorter, HSM_ERR_UNSUPPORTED);
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(fips_part_says_that_it_agrees_on_nothing)
{
    static const char *const parts[] = { "3.6.0-se050f", "7.2.22-se052f" };
    struct hsm_token_init init = default_init();
    struct hsm_mech ecdh = { .type = HSM_MECH_ECDH };
    struct hsm_buf out = room();
    struct hsm_object obj;
    struct hsm_pubkey pub;

    init.force = false;
    chip_start(parts[_i], true);
    ctx = new_context(NULL);
    ck_ok(hsm_token_create(ctx, 0, &init));
    tok = login(ctx);
    (void)generate(tok, "ec:P-256", "ec");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "ec", &obj));
    ck_ok(hsm_pubkey_parse((struct hsm_bytes){ obj.spki, obj.spki_len }, &pub));
    ck_status(hsm_derive(tok, obj.handle, &ecdh, pub.point, &out), HSM_ERR_MECH);
    ck_line_has(HSM_ERR_MECH, "FIPS");
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(ed25519_message_limit_is_named)
{
    struct hsm_mech mech = { .type = HSM_MECH_EDDSA };
    uint8_t message[SE05X_SIGN_INPUT_MAX + 1] = { 9 };
    struct hsm_bytes in = { message, SE05X_SIGN_INPUT_MAX };
    struct hsm_buf out = room();
    struct hsm_object obj;
    EVP_PKEY *pub;

    begin(_i);
    (void)generate(tok, "ed25519", "ed");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "ed", &obj));
    pub = public_key(&obj);
    ck_ok(hsm_sign(tok, obj.handle, &mech, in, &out));
    ck_assert(verify(pub, &mech, in, (struct hsm_bytes){ out.ptr, out.len }));
    in.len++;
    ck_status(hsm_sign(tok, obj.handle, &mech, in, &out), HSM_ERR_DATA_LEN);
    ck_line_has(HSM_ERR_DATA_LEN, "800");
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(counter_only_goes_up)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_COUNTER, .label = "boots" };
    uint64_t value = 0;
    hsm_handle handle;

    begin(_i);
    ck_ok(hsm_counter_create(tok, &spec, 41, &handle));
    ck_ok(hsm_counter_increment(tok, handle, &value));
    ck_assert_uint_eq(value, 42);
    reopen();
    ck_ok(hsm_counter_get(tok, handle, &value));
    ck_assert_uint_eq(value, 42);
    ck_status(hsm_counter_create(tok, &spec, 0, &handle), HSM_ERR_EXISTS);
    spec.label = "full";
    ck_ok(hsm_counter_create(tok, &spec, UINT64_MAX, &handle));
    ck_status(hsm_counter_increment(tok, handle, &value), HSM_ERR_TOKEN_FULL);
    spec.label = "zero";
    ck_ok(hsm_counter_create(tok, &spec, 0, &handle));
    ck_ok(hsm_counter_increment(tok, handle, &value));
    ck_assert_uint_eq(value, 1);
    ck_status(hsm_counter_get(tok, generate(tok, "ec:P-256", "key"), &value), HSM_ERR_KEY_TYPE);
}
END_TEST

static void check_attestation(const struct hsm_attestation *a)
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t) "P-256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)a->attester,
                                          a->attester_len),
        OSSL_PARAM_construct_end(),
    };
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY *pub = NULL;

    ck_assert_int_eq(EVP_PKEY_fromdata_init(c), 1);
    ck_assert_int_eq(EVP_PKEY_fromdata(c, &pub, EVP_PKEY_PUBLIC_KEY, params), 1);
    ck_assert_int_eq(EVP_DigestVerifyInit_ex(md, NULL, "SHA2-256", NULL, NULL, pub, NULL), 1);
    ck_assert_int_eq(EVP_DigestVerify(md, a->signature, a->signature_len, a->message, a->message_len), 1);
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(pub);
    EVP_PKEY_CTX_free(c);
}

static bool contains(const struct hsm_attestation *a, struct hsm_bytes what)
{
    return memmem(a->message, a->message_len, what.ptr, what.len) != NULL;
}

START_TEST(attestation_proves_key_and_challenge)
{
    static const char *const some[] = { "ec:P-256", "rsa:2048", "ed25519" };
    static struct hsm_attestation a;
    uint8_t challenge[16] = { 0xc4, 0xa1 };
    struct hsm_pubkey pub;
    struct hsm_object obj;
    size_t i;

    begin(_i);
    for (i = 0; i < COUNT(some); i++) {
        (void)generate(tok, some[i], some[i]);
        ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, some[i], &obj));
        ck_ok(hsm_attest(tok, obj.handle, (struct hsm_bytes){ challenge, 16 }, &a));
        ck_assert_str_eq(a.format, _i == 0 ? "nxp-se05x-3" : "nxp-se05x-7");
        ck_assert_int_eq(a.origin, HSM_ORIGIN_GENERATED);
        ck_assert_uint_eq(a.chip_id_len, 18);
        check_attestation(&a);
        ck_ok(hsm_pubkey_parse((struct hsm_bytes){ obj.spki, obj.spki_len }, &pub));
        if (pub.kind.type == HSM_KEY_EC)
            ck_assert(contains(&a, pub.point));
        if (pub.kind.type == HSM_KEY_RSA)
            ck_assert(contains(&a, pub.n));
    }
}
END_TEST

static void print_line(void *arg, const char *line)
{
    (void)strncat(arg, line, 200);
    (void)strcat(arg, "\n");
}

START_TEST(control_answers_what_it_knows)
{
    static const char *const commands[] = { "info", "stats", "objects", "identify", "reset" };
    static char all[1 << 16];
    struct hsm_object obj;
    size_t i;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    for (i = 0; i < COUNT(commands); i++) {
        all[0] = '\0';
        ck_ok(hsm_token_control(tok, commands[i], NULL, print_line, all));
        ck_assert_str_ne(all, "");
        ck_ok(sign_default(tok, &obj));
    }
    ck_status(hsm_token_control(tok, "explode", NULL, print_line, all), HSM_ERR_UNSUPPORTED);
    ck_status(hsm_token_control(tok, "rotate-keys", NULL, print_line, all), HSM_ERR_ARGUMENT);
}
END_TEST

#define both(test) tcase_add_loop_test(tc, test, 0, GENERATIONS)

static TCase *commands(void)
{
    TCase *tc = tcase_create("commands");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    both(ec_signature_verifies_on_chip_and_host);
    tcase_add_loop_test(tc, agreement_gives_the_same_secret, 0, 4 * GENERATIONS);
    both(rsa_decrypts_what_the_host_encrypts);
    both(rsa_raw_operations_undo_each_other);
    both(rsa_message_signature_verifies);
    both(aes_modes_agree_with_the_host);
    tcase_add_test(tc, aead_seals_and_notices_a_change);
    both(macs_agree_with_the_host);
    both(hkdf_matches_rfc5869);
    tcase_add_test(tc, agreed_secret_can_stay_inside);
    both(chip_tells_about_itself);
    return tc;
}

static TCase *tokens(void)
{
    TCase *tc = tcase_create("token");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    both(blank_chip_opens_and_says_what_to_do);
    both(foreign_key_is_listed_and_signs_but_stays);
    both(foreign_certificate_is_listed_and_read);
    both(factory_keys_are_factory_made);
    both(a_given_userid_opens_foreign_keys);
    tcase_add_loop_test(tc, unknown_parameters_are_refused, 0, 4);
    both(without_user_pin_everybody_uses_keys);
    both(force_with_another_so_pin_leaves_nothing_but_what_it_may_not_delete);
    both(force_with_the_so_pin_leaves_nothing);
    both(open_token_notices_that_it_was_replaced);
    both(labels_whose_digests_meet_live_side_by_side);
    tcase_add_loop_test(tc, long_names_leave_the_public_key_in_the_key, 1, GENERATIONS);
    both(only_the_so_destroys_what_is_protected);
    both(keys_cannot_be_replaced_in_place);
    both(value_without_record_is_cleared_away);
    both(finished_creation_survives_an_open_journal);
    both(destruction_that_had_begun_is_finished);
    both(protected_orphan_waits_for_the_so);
    both(token_made_by_another_asks_for_login);
    both(forged_journal_deletes_nothing_that_is_protected);
    both(counter_is_not_replaced_without_pin);
    both(short_pin_is_not_proved_without_stretching);
    both(half_made_curve_is_completed);
    both(machine_pin_is_not_stretched);
    both(pin_changed_by_another_asks_for_login);
    both(one_signature_is_one_command);
    both(chip_hashes_short_messages);
    tcase_add_loop_test(tc, fips_part_says_that_it_agrees_on_nothing, 0, 2);
    both(ed25519_message_limit_is_named);
    both(counter_only_goes_up);
    both(attestation_proves_key_and_challenge);
    both(control_answers_what_it_knows);
    return tc;
}

int main(void)
{
    Suite *s = suite_create("se05x");

    clean_environment();
    suite_add_tcase(s, commands());
    suite_add_tcase(s, tokens());
    return run_suite(s);
}
