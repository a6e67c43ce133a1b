/* SPDX-License-Identifier: Apache-2.0 */
/* OSSL_STORE with hsm: URIs, as `openssl -key hsm:...`, storeutl and applications use it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>

#include "fixture.h"

static struct fixture fx;
static EVP_PKEY *server; /* public half of key "server", whose certificate has the same name */

static void setup(void)
{
    struct hsm_object_spec data = { .cls = HSM_CLASS_DATA, .label = "notes" };
    struct hsm_object_spec counter = { .cls = HSM_CLASS_COUNTER, .label = "boots" };
    EVP_PKEY *key;
    X509 *cert;
    hsm_handle handle;

    fixture_open(&fx);
    fixture_generate(&fx, "server", "ec:P-256");
    fixture_generate(&fx, "other", "rsa:2048");
    fixture_generate(&fx, "with space; and more", "ed25519");
    key = fixture_store_key(fx.app, "hsm:server");
    server = fixture_public(&fx, key);
    cert = fixture_certificate(&fx, key, "server.example");
    fixture_put_certificate(&fx, "server", cert);
    X509_free(cert);
    EVP_PKEY_free(key);
    key = fixture_software_key(&fx, "ec:P-256");
    cert = fixture_certificate(&fx, key, "ca.example");
    fixture_put_certificate(&fx, "ca", cert);
    X509_free(cert);
    EVP_PKEY_free(key);
    ck_assert_int_eq(
        hsm_put(fixture_token(&fx), &data, (struct hsm_bytes){ (const uint8_t *)"n", 1 }, &handle), HSM_OK);
    ck_assert_int_eq(hsm_counter_create(fixture_token(&fx), &counter, 1, &handle), HSM_OK);
}

static void teardown(void)
{
    EVP_PKEY_free(server);
    fixture_close(&fx);
}

/* What a walk over a store gave. */
struct haul {
    int keys, public_keys, certs, names, others, errors;
    EVP_PKEY *key, *public_key;
    X509 *cert;
    char name[256];
};

static void haul_free(struct haul *h)
{
    EVP_PKEY_free(h->key);
    EVP_PKEY_free(h->public_key);
    X509_free(h->cert);
    ERR_clear_error();
}

static void haul_one(struct haul *h, OSSL_STORE_INFO *info)
{
    switch (OSSL_STORE_INFO_get_type(info)) {
    case OSSL_STORE_INFO_PKEY:
        EVP_PKEY_free(h->key);
        h->key = OSSL_STORE_INFO_get1_PKEY(info);
        h->keys++;
        break;
    case OSSL_STORE_INFO_PUBKEY:
        EVP_PKEY_free(h->public_key);
        h->public_key = OSSL_STORE_INFO_get1_PUBKEY(info);
        h->public_keys++;
        break;
    case OSSL_STORE_INFO_CERT:
        X509_free(h->cert);
        h->cert = OSSL_STORE_INFO_get1_CERT(info);
        h->certs++;
        break;
    case OSSL_STORE_INFO_NAME:
        snprintf(h->name, sizeof(h->name), "%s", OSSL_STORE_INFO_get0_NAME(info));
        h->names++;
        break;
    default:
        h->others++;
    }
}

static void walk(OSSL_STORE_CTX *store, struct haul *h)
{
    for (int i = 0; i < 100 && !OSSL_STORE_eof(store); i++) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);

        if (info != NULL)
            haul_one(h, info);
        else if (OSSL_STORE_error(store))
            h->errors++;
        OSSL_STORE_INFO_free(info);
    }
    ck_assert_int_eq(OSSL_STORE_eof(store), 1);
}

static struct haul haul(const char *uri, int expect)
{
    struct haul h = { 0 };
    OSSL_STORE_CTX *store;

    ERR_clear_error();
    store = OSSL_STORE_open_ex(uri, fx.app, NULL, NULL, NULL, NULL, NULL, NULL);
    ck_assert_msg(store != NULL, "%s", uri);
    if (expect != 0)
        ck_assert_int_eq(OSSL_STORE_expect(store, expect), 1);
    walk(store, &h);
    OSSL_STORE_close(store);
    return h;
}

START_TEST(listing_gives_private_keys_and_certificates)
{
    struct haul h = haul("hsm:", 0);

    ck_assert_int_eq(h.keys, 3);
    ck_assert_int_eq(h.certs, 2);
    ck_assert_int_eq(h.public_keys + h.names + h.others + h.errors, 0);
    haul_free(&h);
    h = haul("hsm:token=fixture", 0);
    ck_assert_int_eq(h.keys, 3);
    ck_assert_int_eq(h.certs, 2);
    haul_free(&h);
}
END_TEST

START_TEST(uri_gives_what_it_names)
{
    static const struct {
        const char *uri;
        int expect, keys, public_keys, certs;
    } rows[] = {
        { "hsm:server", 0, 1, 0, 1 },
        { "hsm:object=server", 0, 1, 0, 1 },
        { "hsm:object=server;type=private", 0, 1, 0, 0 },
        { "hsm:object=server;type=public", 0, 0, 1, 0 },
        { "hsm:object=server;type=cert", 0, 0, 0, 1 },
        { "hsm:server", OSSL_STORE_INFO_PKEY, 1, 0, 0 },
        { "hsm:server", OSSL_STORE_INFO_PUBKEY, 0, 1, 0 },
        { "hsm:object=server;type=private", OSSL_STORE_INFO_PUBKEY, 0, 1, 0 },
        { "hsm:server", OSSL_STORE_INFO_CERT, 0, 0, 1 },
        { "hsm:", OSSL_STORE_INFO_CERT, 0, 0, 2 },
        { "hsm:type=public", 0, 0, 3, 0 },
        { "hsm:ca", 0, 0, 0, 1 },
        { "hsm:with%20space%3B%20and%20more", 0, 1, 0, 0 },
        { "hsm:token=fixture;object=other", 0, 1, 0, 0 },
        { "hsm:server?pin-value=" FIXTURE_PIN, 0, 1, 0, 1 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct haul h = haul(rows[i].uri, rows[i].expect);

        ck_assert_msg(h.keys == rows[i].keys && h.public_keys == rows[i].public_keys &&
                          h.certs == rows[i].certs && h.errors == 0,
                      "%s expecting %d: %d keys %d public %d certificates", rows[i].uri, rows[i].expect,
                      h.keys, h.public_keys, h.certs);
        haul_free(&h);
    }
}
END_TEST

START_TEST(key_and_certificate_belong_together)
{
    struct haul h = haul("hsm:server", 0);

    ck_assert_int_eq(X509_check_private_key(h.cert, h.key), 1);
    ck_assert(fixture_can_sign(&fx, h.key, server));
    haul_free(&h);
}
END_TEST

START_TEST(id_finds_the_same_key)
{
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE, .object = "server" };
    struct hsm_object obj;
    char text[300] = "hsm:id=";
    struct haul h;

    ck_assert_int_eq(hsm_find_one(fixture_token(&fx), &uri, &obj), HSM_OK);
    for (size_t i = 0; i < obj.id_len; i++)
        sprintf(text + strlen(text), "%%%02x", obj.id[i]);
    h = haul(text, OSSL_STORE_INFO_PKEY);
    ck_assert_int_eq(h.keys, 1);
    ck_assert(fixture_can_sign(&fx, h.key, server));
    haul_free(&h);
}
END_TEST

/* A public key is the default provider's: it verifies and encodes without us. */
START_TEST(public_key_is_an_ordinary_one)
{
    struct haul h = haul("hsm:object=server;type=public", 0);

    ck_assert_int_eq(EVP_PKEY_eq(h.public_key, server), 1);
    ck_assert_str_eq(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(h.public_key)), "default");
    haul_free(&h);
}
END_TEST

START_TEST(expected_names_are_uris_that_lead_back)
{
    struct haul h = haul("hsm:with%20space%3B%20and%20more", OSSL_STORE_INFO_NAME), again;

    ck_assert_int_eq(h.names, 1);
    ck_assert_int_eq(strncmp(h.name, "hsm:", 4), 0);
    again = haul(h.name, 0);
    ck_assert_int_eq(again.keys, 1);
    haul_free(&again);
    haul_free(&h);
    h = haul("hsm:", OSSL_STORE_INFO_NAME);
    ck_assert_int_eq(h.names, 5);
    haul_free(&h);
}
END_TEST

START_TEST(missing_object_ends_the_store_with_one_reason)
{
    static const struct {
        const char *uri;
        int expect;
        const char *reason;
    } rows[] = {
        { "hsm:never-made", OSSL_STORE_INFO_PKEY, "no such private key" },
        { "hsm:never-made", 0, "no such key or certificate" },
        { "hsm:other", OSSL_STORE_INFO_CERT, "no such certificate" },
        { "hsm:ca", OSSL_STORE_INFO_PKEY, "no such private key" },
        { "hsm:object=server;type=public", OSSL_STORE_INFO_PKEY, "no such private key" },
        { "hsm:server", OSSL_STORE_INFO_CRL, "no such object" },
        { "hsm:object=notes;type=data", 0, "no such" },
        { "hsm:object=boots;type=counter", 0, "no such" },
        { "hsm:boots", 0, "no such key or certificate" },
        { "hsm:token=elsewhere;object=server", 0, "elsewhere" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct haul h;

        h = haul(rows[i].uri, rows[i].expect);
        ck_assert_int_eq(h.keys + h.public_keys + h.certs, 0);
        ck_assert_msg(fixture_error_has(rows[i].reason), "%s", rows[i].uri);
        haul_free(&h);
        h = haul(rows[i].uri, rows[i].expect);
        ck_assert_msg(fixture_errors() == 1, "%s", rows[i].uri);
        haul_free(&h);
    }
}
END_TEST

START_TEST(malformed_uri_is_refused_at_open)
{
    static const char *const uris[] = { "hsm:object=a;colour=b", "hsm:object=%zz", "hsm:object=a;object=b",
                                        "hsm:object=a;type=house",
                                        "hsm:object=a?pin-value=hidden&pin-value=hidden" };

    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uris[i], fx.app, NULL, NULL, NULL, NULL, NULL, NULL);
        unsigned long code;
        const char *data;
        int flags;
        bool said = false;

        ck_assert_msg(store == NULL, "%s", uris[i]);
        while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
            if (strcmp(ERR_lib_error_string(code), "hsm") != 0)
                continue; /* libcrypto takes it for a file name first, and repeats it */
            ck_assert_msg(strstr(data, "hidden") == NULL, "%s: %s", uris[i], data);
            said = said || strstr(data, "key URI") != NULL;
        }
        ck_assert_msg(said, "%s", uris[i]);
    }
}
END_TEST

START_TEST(absent_token_says_where_it_was_looked_for)
{
    OSSL_LIB_CTX *other = fixture_context(&fx, "default hsm", NULL);
    char away[FIXTURE_PATH_MAX + 8];
    EVP_PKEY *key;

    snprintf(away, sizeof(away), "%s.away", fx.token_path);
    ck_assert_int_eq(rename(fx.token_path, away), 0);
    key = fixture_store_key(other, "hsm:server");
    ck_assert_int_eq(rename(away, fx.token_path), 0);
    ck_assert_ptr_null(key);
    ck_assert(fixture_error_has(fx.token_path));
    OSSL_LIB_CTX_free(other);
}
END_TEST

/* ---- searches ------------------------------------------------------------------------------------------ */

static struct haul find(OSSL_STORE_SEARCH *search, int expect)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex("hsm:", fx.app, NULL, NULL, NULL, NULL, NULL, NULL);
    struct haul h = { 0 };

    ck_assert_ptr_nonnull(store);
    if (expect != 0)
        ck_assert_int_eq(OSSL_STORE_expect(store, expect), 1);
    if (OSSL_STORE_find(store, search) == 1)
        walk(store, &h);
    else
        h.errors = -1;
    OSSL_STORE_close(store);
    OSSL_STORE_SEARCH_free(search);
    return h;
}

static X509_NAME *name_of(const char *common_name)
{
    X509_NAME *name = X509_NAME_new();

    /* another string type than in the certificate: names compare by value */
    X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_PRINTABLESTRING, (const unsigned char *)common_name, -1, -1,
                               0);
    return name;
}

START_TEST(certificates_are_found_by_subject_and_serial)
{
    X509_NAME *ca = name_of("ca.example"), *nobody = name_of("nobody.example");
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    struct haul h = find(OSSL_STORE_SEARCH_by_name(ca), OSSL_STORE_INFO_CERT);

    ck_assert_int_eq(h.certs, 1);
    ck_assert_int_eq(h.keys, 0);
    haul_free(&h);
    h = find(OSSL_STORE_SEARCH_by_name(nobody), OSSL_STORE_INFO_CERT);
    ck_assert_int_eq(h.certs, 0);
    haul_free(&h);
    ASN1_INTEGER_set(serial, 4711);
    h = find(OSSL_STORE_SEARCH_by_issuer_serial(ca, serial), 0);
    ck_assert_int_eq(h.certs, 1);
    haul_free(&h);
    ASN1_INTEGER_set(serial, 4712);
    h = find(OSSL_STORE_SEARCH_by_issuer_serial(ca, serial), 0);
    ck_assert_int_eq(h.certs, 0);
    haul_free(&h);
    ASN1_INTEGER_free(serial);
    X509_NAME_free(ca);
    X509_NAME_free(nobody);
}
END_TEST

START_TEST(objects_are_found_by_alias)
{
    struct haul h = find(OSSL_STORE_SEARCH_by_alias("server"), 0);

    ck_assert_int_eq(h.keys, 1);
    ck_assert_int_eq(h.certs, 1);
    haul_free(&h);
    h = find(OSSL_STORE_SEARCH_by_alias("nothing"), 0);
    ck_assert_int_eq(h.keys + h.certs, 0);
    haul_free(&h);
}
END_TEST

/* To ignore a criterion would be to answer with the wrong object. */
START_TEST(search_by_fingerprint_is_refused)
{
    static const unsigned char fingerprint[20] = { 1 };
    struct haul h =
        find(OSSL_STORE_SEARCH_by_key_fingerprint(EVP_sha1(), fingerprint, sizeof(fingerprint)), 0);

    ck_assert_int_eq(h.errors, -1);
    haul_free(&h);
}
END_TEST

/* ---- PIN ----------------------------------------------------------------------------------------------- */

static int prompts;
static char last_prompt[256];

static int ui_read(UI *ui, UI_STRING *string)
{
    if (UI_get_string_type(string) == UIT_PROMPT) {
        prompts++;
        snprintf(last_prompt, sizeof(last_prompt), "%s", UI_get0_output_string(string));
        UI_set_result(ui, string, FIXTURE_PIN);
    }
    return 1;
}

static EVP_PKEY *load_prompted(OSSL_LIB_CTX *libctx, UI_METHOD *ui, const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open_ex(uri, libctx, NULL, ui, NULL, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;

    ck_assert_ptr_nonnull(store);
    while (!OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);

        if (info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY) {
            EVP_PKEY_free(key);
            key = OSSL_STORE_INFO_get1_PKEY(info);
        }
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return key;
}

START_TEST(pin_is_asked_for_once_when_no_source_is_configured)
{
    OSSL_LIB_CTX *bare = fixture_context(&fx, "default hsm", "");
    UI_METHOD *ui = UI_create_method("test");
    EVP_PKEY *key, *again;

    UI_method_set_reader(ui, ui_read);
    key = load_prompted(bare, ui, "hsm:"); /* a listing asks for nothing */
    ck_assert_int_eq(prompts, 0);
    EVP_PKEY_free(key);
    key = load_prompted(bare, ui, "hsm:server");
    ck_assert_ptr_nonnull(key);
    ck_assert_int_eq(prompts, 1);
    ck_assert_ptr_nonnull(strstr(last_prompt, "PIN of hsm token"));
    ck_assert(fixture_can_sign(&fx, key, server));
    again = load_prompted(bare, ui, "hsm:server");
    ck_assert_int_eq(prompts, 1);
    EVP_PKEY_free(key);
    EVP_PKEY_free(again);
    UI_destroy_method(ui);
    OSSL_LIB_CTX_free(bare);
}
END_TEST

START_TEST(pin_of_the_uri_is_used)
{
    OSSL_LIB_CTX *bare = fixture_context(&fx, "default hsm", "");
    char uri[FIXTURE_PATH_MAX + 64];
    EVP_PKEY *key = fixture_store_key(bare, "hsm:server?pin-value=" FIXTURE_PIN);

    ck_assert_ptr_nonnull(key);
    ck_assert(fixture_can_sign(&fx, key, server));
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(bare);
    bare = fixture_context(&fx, "default hsm", "");
    snprintf(uri, sizeof(uri), "hsm:server?pin-source=file:%s/pin", fx.dir);
    key = fixture_store_key(bare, uri);
    ck_assert_ptr_nonnull(key);
    ck_assert(fixture_can_sign(&fx, key, server));
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(bare);
}
END_TEST

/* ---- several tokens, other schemes --------------------------------------------------------------------- */

START_TEST(unreadable_token_does_not_hide_the_others)
{
    OSSL_LIB_CTX *two;
    char extra[2 * FIXTURE_PATH_MAX + 128];
    EVP_PKEY *key;
    char *reference;

    snprintf(extra, sizeof(extra),
             "tokens = gone board\ntoken.gone = soft:%s/none.db\ntoken.board = soft:%s\n"
             "pin-source = file:%s/pin\n",
             fx.dir, fx.token_path, fx.dir);
    two = fixture_context(&fx, "default hsm", extra);
    key = fixture_store_key(two, "hsm:server");
    ck_assert_ptr_nonnull(key);
    ck_assert(fixture_can_sign(&fx, key, server));
    reference = fixture_reference(key); /* says on which of the two */
    EVP_PKEY_free(key);
    key = fixture_read_pem(two, reference, strlen(reference));
    ck_assert(fixture_can_sign(&fx, key, server));
    free(reference);
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(two);
}
END_TEST

START_TEST(pkcs11_scheme_answers_only_when_asked_for)
{
    OSSL_LIB_CTX *alias = fixture_context(&fx, "default hsm", "alias-scheme = pkcs11\n");
    EVP_PKEY *key = fixture_store_key(alias, "pkcs11:object=server;type=private");

    ck_assert_ptr_nonnull(key);
    EVP_PKEY_free(key);
    ck_assert_ptr_null(fixture_store_key(fx.app, "pkcs11:object=server;type=private"));
    ERR_clear_error();
    OSSL_LIB_CTX_free(alias);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *all = tcase_create("token");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_unchecked_fixture(all, setup, teardown);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, listing_gives_private_keys_and_certificates);
    tcase_add_test(all, uri_gives_what_it_names);
    tcase_add_test(all, key_and_certificate_belong_together);
    tcase_add_test(all, id_finds_the_same_key);
    tcase_add_test(all, public_key_is_an_ordinary_one);
    tcase_add_test(all, expected_names_are_uris_that_lead_back);
    tcase_add_test(all, missing_object_ends_the_store_with_one_reason);
    tcase_add_test(all, malformed_uri_is_refused_at_open);
    tcase_add_test(all, absent_token_says_where_it_was_looked_for);
    tcase_add_test(all, certificates_are_found_by_subject_and_serial);
    tcase_add_test(all, objects_are_found_by_alias);
    tcase_add_test(all, search_by_fingerprint_is_refused);
    tcase_add_test(all, pin_is_asked_for_once_when_no_source_is_configured);
    tcase_add_test(all, pin_of_the_uri_is_used);
    tcase_add_test(all, unreadable_token_does_not_hide_the_others);
    tcase_add_test(all, pkcs11_scheme_answers_only_when_asked_for);
    suite_add_tcase(suite, all);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
