/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsm/hsm.h"

static struct hsm_config *cfg;
static char dir[] = "/tmp/hsm-config-XXXXXX";

static void setup(void)
{
    unsetenv("HSM_TOKEN");
    unsetenv("HSM_PIN_SOURCE");
    unsetenv("HSM_LOG");
    unsetenv("HSM_LOG_LEVEL");
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
}

static void teardown(void)
{
    hsm_config_free(cfg);
}

static void write_file(const char *name, const char *text, char *path, size_t path_len)
{
    FILE *f;

    (void)snprintf(path, path_len, "%s/%s", dir, name);
    ck_assert_ptr_nonnull(f = fopen(path, "w"));
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

static struct hsm_ctx *finished(void)
{
    struct hsm_ctx *ctx;

    ck_assert_msg(hsm_config_finish(cfg) == HSM_OK, "%s", hsm_error_text(HSM_ERR_CONFIG));
    ck_assert_int_eq(hsm_ctx_new(cfg, &ctx), HSM_OK);
    cfg = NULL;
    return ctx;
}

START_TEST(nothing_configured_means_the_default_token)
{
    struct hsm_ctx *ctx = finished();

    ck_assert_uint_eq(hsm_token_count(ctx), 1);
    ck_assert_str_eq(hsm_token_spec(ctx, 0)->driver, "soft");
    ck_assert_str_eq(hsm_token_spec(ctx, 0)->location, "/var/lib/hsm/token.db");
    ck_assert_ptr_null(hsm_pin_source(ctx, 0));
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(several_tokens_keep_their_order_and_pins)
{
    struct hsm_ctx *ctx;

    ck_assert_int_eq(hsm_config_set(cfg, "token.b", "soft:/b"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "tokens", "a, b"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token.a", "soft:/a?x=1%202&y=3"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source", "file:/p"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source.b", "prompt"), HSM_OK);
    ctx = finished();
    ck_assert_uint_eq(hsm_token_count(ctx), 2);
    ck_assert_str_eq(hsm_token_name(ctx, 0), "a");
    ck_assert_str_eq(hsm_token_spec(ctx, 1)->location, "/b");
    ck_assert_str_eq(hsm_pin_source(ctx, 0), "file:/p");
    ck_assert_str_eq(hsm_pin_source(ctx, 1), "prompt");
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(specification_parameters_are_found_and_decoded)
{
    struct hsm_token_spec spec;
    char value[16];

    ck_assert_int_eq(hsm_token_spec_parse("se05x:/dev/i2c-3?addr=0x48&path=a%20b&empty=", &spec), HSM_OK);
    ck_assert_str_eq(spec.driver, "se05x");
    ck_assert_str_eq(spec.location, "/dev/i2c-3");
    ck_assert(hsm_token_spec_param(&spec, "addr", value, sizeof(value)));
    ck_assert_str_eq(value, "0x48");
    ck_assert(hsm_token_spec_param(&spec, "path", value, sizeof(value)));
    ck_assert_str_eq(value, "a b");
    ck_assert(hsm_token_spec_param(&spec, "empty", value, sizeof(value)));
    ck_assert_str_eq(value, "");
    ck_assert(!hsm_token_spec_param(&spec, "add", value, sizeof(value)));
    ck_assert(!hsm_token_spec_param(&spec, "addr", value, 4));
}
END_TEST

static const char *const bad[][2] = {
    { "tokn", "soft:/x" },
    { "token.", "soft:/x" },
    { "token.a b", "soft:/x" },
    { "token", "soft" },
    { "token", ":x" },
    { "token", "soft:" },
    { "token", "" },
    { "pin-source", "1234" },
    { "pin-source", "file:" },
    { "pin-source", "cred:../x" },
    { "log", "loud" },
    { "log", "file:x" },
    { "log-level", "9" },
    { "alias-scheme", "file" },
    { "pin-source.a", "pin:1" },
};

START_TEST(bad_keys_and_values_are_refused_by_name)
{
    ck_assert_int_eq(hsm_config_set(cfg, bad[_i][0], bad[_i][1]), HSM_ERR_CONFIG);
    ck_assert_str_ne(hsm_error_text(HSM_ERR_CONFIG), hsm_strerror(HSM_ERR_CONFIG));
}
END_TEST

START_TEST(contradictions_are_refused)
{
    ck_assert_int_eq(hsm_config_set(cfg, "token", "soft:/x"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "tokens", "a"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token.a", "soft:/a"), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_ERR_CONFIG);
}
END_TEST

START_TEST(listed_token_without_a_specification_is_refused)
{
    ck_assert_int_eq(hsm_config_set(cfg, "tokens", "a b"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token.a", "soft:/a"), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_CONFIG), "token.b"));
}
END_TEST

START_TEST(environment_wins)
{
    struct hsm_ctx *ctx;

    ck_assert_int_eq(hsm_config_set(cfg, "token", "soft:/file"), HSM_OK);
    setenv("HSM_TOKEN", "soft:/environment", 1);
    setenv("HSM_PIN_SOURCE", "env:MY_PIN", 1);
    ctx = finished();
    ck_assert_str_eq(hsm_token_spec(ctx, 0)->location, "/environment");
    ck_assert_str_eq(hsm_pin_source(ctx, 0), "env:MY_PIN");
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(file_section_is_found_through_openssl_conf)
{
    struct hsm_ctx *ctx;
    char path[256];
    bool found;

    write_file("good.cnf",
               "openssl_conf = init\n[init]\nproviders = p\n[p]\nhsm = my_hsm\n[my_hsm]\nactivate = 1\n"
               "token = soft:/from-file?a=b\npin-source = file:/pin\n[hsm_sect]\ntoken = soft:/wrong\n",
               path, sizeof(path));
    ck_assert_int_eq(hsm_config_load_file(cfg, path, &found), HSM_OK);
    ck_assert(found);
    ctx = finished();
    ck_assert_str_eq(hsm_token_spec(ctx, 0)->location, "/from-file");
    ck_assert_str_eq(hsm_token_spec(ctx, 0)->params, "a=b");
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(file_faults_name_the_file)
{
    char path[256];
    bool found = true;

    write_file("unknown.cnf", "[hsm_sect]\ntoken = soft:/x\ncolour = red\n", path, sizeof(path));
    ck_assert_int_eq(hsm_config_load_file(cfg, path, &found), HSM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_CONFIG), "colour"));
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_CONFIG), "unknown.cnf"));
    write_file("broken.cnf", "[hsm_sect\n", path, sizeof(path));
    ck_assert_int_eq(hsm_config_load_file(cfg, path, &found), HSM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_CONFIG), "line 1"));
    write_file("other.cnf", "a = b\n", path, sizeof(path));
    ck_assert_int_eq(hsm_config_load_file(cfg, path, &found), HSM_OK);
    ck_assert(!found);
    ck_assert_int_eq(hsm_config_load_file(cfg, "/nonexistent/x.cnf", &found), HSM_ERR_CONFIG);
}
END_TEST

START_TEST(pin_is_read_and_its_line_end_cut)
{
    uint8_t pin[HSM_PIN_MAX];
    struct hsm_buf out = { pin, sizeof(pin), 0 };
    char path[256], source[300], big[400];

    write_file("pin", "12 34\r\n", path, sizeof(path));
    (void)snprintf(source, sizeof(source), "file:%s", path);
    ck_assert_int_eq(hsm_pin_read(NULL, source, HSM_ROLE_USER, &out), HSM_OK);
    ck_assert_uint_eq(out.len, 5);
    ck_assert_mem_eq(pin, "12 34", 5);
    setenv("A_PIN", "5678", 1);
    ck_assert_int_eq(hsm_pin_read(NULL, "env:A_PIN", HSM_ROLE_USER, &out), HSM_OK);
    ck_assert_mem_eq(pin, "5678", 4);
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    ck_assert_int_eq(hsm_pin_read(NULL, "cred:pin", HSM_ROLE_USER, &out), HSM_OK);
    ck_assert_uint_eq(out.len, 5);
    write_file("empty", "\n", path, sizeof(path));
    (void)snprintf(source, sizeof(source), "file:%s", path);
    ck_assert_int_eq(hsm_pin_read(NULL, source, HSM_ROLE_USER, &out), HSM_ERR_PIN_SOURCE);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    write_file("big", big, path, sizeof(path));
    (void)snprintf(source, sizeof(source), "file:%s", path);
    ck_assert_int_eq(hsm_pin_read(NULL, source, HSM_ROLE_USER, &out), HSM_ERR_PIN_SOURCE);
    ck_assert_int_eq(hsm_pin_read(NULL, "file:/nonexistent", HSM_ROLE_USER, &out), HSM_ERR_PIN_SOURCE);
    ck_assert_int_eq(hsm_pin_read(NULL, "prompt", HSM_ROLE_USER, &out), HSM_ERR_PIN_REQUIRED);
}
END_TEST

START_TEST(unknown_driver_is_named_with_those_built_in)
{
    struct hsm_token *tok;
    struct hsm_ctx *ctx;

    ck_assert_int_eq(hsm_config_set(cfg, "token", "floppy:/dev/fd0"), HSM_OK);
    ctx = finished();
    ck_assert_int_eq(hsm_token_get(ctx, 0, &tok), HSM_ERR_NO_TOKEN);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_NO_TOKEN), "floppy"));
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_NO_TOKEN), "soft"));
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(log_goes_only_where_it_was_told)
{
    char path[256], line[512], *end;
    struct hsm_ctx *ctx;
    FILE *f;

    (void)snprintf(path, sizeof(path), "file:%s/log", dir);
    ck_assert_int_eq(hsm_config_set(cfg, "log", path), HSM_OK);
    ctx = finished();
    hsm_log(ctx, HSM_LOG_DEBUG, "too detailed");
    hsm_log(ctx, HSM_LOG_ERROR, "what %s", "happened");
    ck_assert_ptr_nonnull(f = fopen(path + 5, "r"));
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
    ck_assert_ptr_nonnull(end = strstr(line, ": error: what happened\n"));
    ck_assert_ptr_null(fgets(line, sizeof(line), f));
    (void)fclose(f);
    hsm_ctx_free(ctx);
}
END_TEST

START_TEST(fault_of_the_rest_does_not_stop_the_log)
{
    char path[256], line[512];
    struct hsm_token *tok;
    struct hsm_ctx *ctx;
    FILE *f;

    (void)snprintf(path, sizeof(path), "file:%s/faults", dir);
    setenv("HSM_LOG", path, 1);
    setenv("HSM_TOKEN", "nonsense", 1);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_ERR_CONFIG);
    ck_assert_int_eq(hsm_ctx_new_for_log(cfg, &ctx), HSM_OK);
    cfg = NULL;
    hsm_log(ctx, HSM_LOG_ERROR, "the fault");
    ck_assert_uint_eq(hsm_token_count(ctx), 0);
    ck_assert_int_eq(hsm_token_get(ctx, 0, &tok), HSM_ERR_NO_TOKEN);
    ck_assert_ptr_nonnull(f = fopen(path + 5, "r"));
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
    ck_assert_ptr_nonnull(strstr(line, "the fault"));
    (void)fclose(f);
    hsm_ctx_free(ctx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    SRunner *r = srunner_create(s);
    char command[64];
    int failed;

    if (mkdtemp(dir) == NULL)
        return EXIT_FAILURE;
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_configured_means_the_default_token);
    tcase_add_test(t, several_tokens_keep_their_order_and_pins);
    tcase_add_test(t, specification_parameters_are_found_and_decoded);
    tcase_add_loop_test(t, bad_keys_and_values_are_refused_by_name, 0, (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(t, contradictions_are_refused);
    tcase_add_test(t, listed_token_without_a_specification_is_refused);
    tcase_add_test(t, environment_wins);
    tcase_add_test(t, file_section_is_found_through_openssl_conf);
    tcase_add_test(t, file_faults_name_the_file);
    tcase_add_test(t, pin_is_read_and_its_line_end_cut);
    tcase_add_test(t, unknown_driver_is_named_with_those_built_in);
    tcase_add_test(t, log_goes_only_where_it_was_told);
    tcase_add_test(t, fault_of_the_rest_does_not_stop_the_log);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command) == 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
