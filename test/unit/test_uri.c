/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsm/uri.h"

static void parse_ok(const char *text, struct hsm_uri *uri)
{
    ck_assert_msg(hsm_uri_parse(text, uri) == HSM_OK, "%s: %s", text, hsm_error_text(HSM_ERR_URI));
}

START_TEST(bare_word_is_the_object)
{
    struct hsm_uri uri;

    parse_ok("hsm:tls-server", &uri);
    ck_assert_str_eq(uri.object, "tls-server");
    ck_assert_str_eq(uri.token, "");
    ck_assert_int_eq(uri.type, HSM_URI_TYPE_ANY);
}
END_TEST

START_TEST(attributes_are_decoded)
{
    struct hsm_uri uri;

    parse_ok("hsm:token=my%20board;object=t%C3%BCr%3b;id=%00%ff1;type=private?pin-source=file:/"
             "a%20b&pin-value=1%3d2",
             &uri);
    ck_assert_str_eq(uri.token, "my board");
    ck_assert_str_eq(uri.object, "t\xc3\xbcr;");
    ck_assert_uint_eq(uri.id_len, 3);
    ck_assert_mem_eq(uri.id, "\x00\xff\x31", 3);
    ck_assert_int_eq(uri.type, HSM_URI_TYPE_PRIVATE);
    ck_assert_str_eq(uri.pin_source, "file:/a b");
    ck_assert(uri.has_pin_value);
    ck_assert_str_eq(uri.pin_value, "1=2");
}
END_TEST

START_TEST(scheme_alone_means_everything)
{
    struct hsm_uri uri;

    parse_ok("hsm:", &uri);
    parse_ok("HSM:x", &uri);
    ck_assert_int_eq(hsm_uri_parse_scheme("pkcs11:object=a", "pkcs11", &uri), HSM_OK);
    ck_assert_str_eq(uri.object, "a");
}
END_TEST

static const char *const bad[] = {
    "",
    "hsm",
    "file:x",
    "hsm:object=a;object=b",
    "hsm:colour=red",
    "hsm:object=%zz",
    "hsm:object=%2",
    "hsm:object=%00",
    "hsm:object=%0a",
    "hsm:object=%ff",
    "hsm:object=%c0%80",
    "hsm:type=purple",
    "hsm:id=",
    "hsm:object=a;b",
    "hsm:object=a?pin-value",
    "hsm:object=a?pin=1",
    "hsm:pin-value=1",
    "hsm:object=a?token=b",
};

START_TEST(malformed_is_refused)
{
    struct hsm_uri uri;
    hsm_status st = hsm_uri_parse(bad[_i], &uri);

    ck_assert_msg(st == HSM_ERR_URI, "'%s' gave %d", bad[_i], st);
}
END_TEST

START_TEST(overlong_values_are_refused)
{
    char text[4096];
    struct hsm_uri uri;
    int n = snprintf(text, sizeof(text), "hsm:");

    memset(text + n, 'a', 255);
    text[n + 255] = '\0';
    ck_assert_int_eq(hsm_uri_parse(text, &uri), HSM_OK);
    strcat(text, "a");
    ck_assert_int_eq(hsm_uri_parse(text, &uri), HSM_ERR_URI);
    memset(text + n, 'a', 3000);
    text[n + 3000] = '\0';
    ck_assert_int_eq(hsm_uri_parse(text, &uri), HSM_ERR_URI);
}
END_TEST

START_TEST(error_line_never_repeats_a_pin)
{
    struct hsm_uri uri;

    ck_assert_int_eq(hsm_uri_parse("hsm:a?pin-value=s3cr3t&pin-value=s3cr3t", &uri), HSM_ERR_URI);
    ck_assert_ptr_null(strstr(hsm_error_text(HSM_ERR_URI), "s3cr3t"));
    ck_assert_int_eq(hsm_uri_parse("hsm:a?s3cr3t", &uri), HSM_ERR_URI);
    ck_assert_ptr_null(strstr(hsm_error_text(HSM_ERR_URI), "s3cr3t"));
    ck_assert_int_eq(hsm_uri_parse("hsm:a?pin-value=s3cr3t%zz", &uri), HSM_ERR_URI);
    ck_assert_ptr_null(strstr(hsm_error_text(HSM_ERR_URI), "s3cr3t"));
    ck_assert(!uri.has_pin_value);
    ck_assert_str_eq(uri.pin_value, "");
}
END_TEST

START_TEST(format_round_trips_and_drops_the_pin)
{
    char text[HSM_URI_MAX];
    struct hsm_buf out = { (uint8_t *)text, sizeof(text), 0 };
    struct hsm_uri uri, again;

    parse_ok("hsm:token=b;object=a%20%3b%25/;id=%01a;type=private?pin-value=1234&pin-source=file:/x", &uri);
    ck_assert_int_eq(hsm_uri_format(&uri, &out), HSM_OK);
    ck_assert_uint_eq(out.len, strlen(text));
    ck_assert_ptr_null(strstr(text, "pin"));
    parse_ok(text, &again);
    ck_assert_str_eq(again.object, uri.object);
    ck_assert_str_eq(again.token, uri.token);
    ck_assert_mem_eq(again.id, uri.id, sizeof(uri.id));
    ck_assert_int_eq(again.type, uri.type);
}
END_TEST

START_TEST(format_refuses_a_short_buffer)
{
    char text[16];
    struct hsm_buf out = { (uint8_t *)text, (size_t)_i, 0 };
    struct hsm_uri uri;

    parse_ok("hsm:object=abcdef", &uri);
    ck_assert_int_eq(hsm_uri_format(&uri, &out), HSM_ERR_BUFFER);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("uri");
    TCase *t = tcase_create("uri");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, bare_word_is_the_object);
    tcase_add_test(t, attributes_are_decoded);
    tcase_add_test(t, scheme_alone_means_everything);
    tcase_add_loop_test(t, malformed_is_refused, 0, (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(t, overlong_values_are_refused);
    tcase_add_test(t, error_line_never_repeats_a_pin);
    tcase_add_test(t, format_round_trips_and_drops_the_pin);
    tcase_add_loop_test(t, format_refuses_a_short_buffer, 0, 16);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
