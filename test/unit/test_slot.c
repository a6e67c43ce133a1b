/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core's own promises, on a driver made for it: fork, login on demand, a wrong PIN tried once, a vanished
 * token opened again, calls of a driver that is not concurrent one at a time. This file answers driver_find()
 * in place of registry.c.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm/driver.h"
#include "hsm/pubkey.h"

const struct hsm_driver *driver_find(const char *name);
const char *driver_names(void);

static struct fake_state {
    atomic_int opens, closes, abandons, logins, inside, overlaps;
    unsigned tries;
    hsm_handle handle; /* of the key called "key" */
    bool vanish;       /* the next call finds the token gone */
    uint8_t key_byte;  /* changes when the key is made anew */
    char pin[16];
} state;

struct fake_token {
    struct hsm_token base;
    bool logged_in, gone;
};

static hsm_status fake_open(const struct hsm_open_args *args, struct hsm_token **tok)
{
    struct fake_token *t = calloc(1, sizeof(*t));

    if (strcmp(args->spec->location, "absent") == 0) {
        free(t);
        return hsm_fail(HSM_ERR_NO_TOKEN, "token is absent");
    }
    state.opens++;
    *tok = &t->base;
    return HSM_OK;
}

static void fake_close(struct hsm_token *tok)
{
    state.closes++;
    free(tok);
}

static void fake_abandon(struct hsm_token *tok)
{
    state.abandons++;
    free(tok); /* has no lock, so that it can be freed */
}

static hsm_status fake_info(struct hsm_token *tok, struct hsm_token_info *info)
{
    (void)snprintf(info->label, sizeof(info->label), "label");
    info->logged_in = ((struct fake_token *)tok)->logged_in;
    info->pin_tries_left = state.tries;
    return HSM_OK;
}

static hsm_status fake_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin)
{
    state.logins++;
    if (pin.len != strlen(state.pin) || memcmp(pin.ptr, state.pin, pin.len) != 0) {
        state.tries--;
        return hsm_fail(HSM_ERR_PIN_INCORRECT, "wrong PIN: %u tries left", state.tries);
    }
    state.tries = 3;
    ((struct fake_token *)tok)->logged_in = true;
    return HSM_OK;
}

static hsm_status check_gone(struct hsm_token *tok)
{
    struct fake_token *t = (struct fake_token *)tok;

    if (state.vanish) {
        state.vanish = false;
        t->gone = true;
    }
    return t->gone ? hsm_fail(HSM_ERR_TOKEN_GONE, "gone") : HSM_OK;
}

static hsm_status fake_enumerate(struct hsm_token *tok, enum hsm_class cls, const char *label,
                                 hsm_object_fn *each, void *arg)
{
    static struct hsm_object obj;
    struct hsm_pubkey pub = { .kind = { HSM_KEY_ED25519, HSM_CURVE_NONE, 256 } };
    struct hsm_buf out = { obj.spki, sizeof(obj.spki), 0 };
    uint8_t raw[32];
    hsm_status st;

    if ((st = check_gone(tok)) != HSM_OK)
        return st;
    memset(raw, state.key_byte, sizeof(raw));
    pub.point = (struct hsm_bytes){ raw, sizeof(raw) };
    obj.cls = HSM_CLASS_KEY;
    obj.handle = state.handle;
    (void)snprintf(obj.label, sizeof(obj.label), "key");
    ck_assert_int_eq(hsm_pubkey_encode(&pub, &out), HSM_OK);
    obj.spki_len = out.len;
    return state.handle == 0 ? HSM_OK : each(arg, tok, &obj);
}

static hsm_status fake_sign(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                            struct hsm_bytes in, struct hsm_buf *out)
{
    hsm_status st;

    if (atomic_fetch_add(&state.inside, 1) != 0)
        state.overlaps++;
    sched_yield();
    atomic_fetch_sub(&state.inside, 1);
    if ((st = check_gone(tok)) != HSM_OK)
        return st;
    if (!((struct fake_token *)tok)->logged_in)
        return HSM_ERR_PIN_REQUIRED;
    if (key != state.handle)
        return hsm_fail(HSM_ERR_NO_OBJECT, "stale handle");
    out->ptr[0] = (uint8_t)state.handle;
    out->len = 1;
    return HSM_OK;
}

static const struct hsm_driver fake = { .name = "fake",
                                        .open = fake_open,
                                        .close = fake_close,
                                        .abandon = fake_abandon,
                                        .info = fake_info,
                                        .login = fake_login,
                                        .enumerate = fake_enumerate,
                                        .sign = fake_sign };

const struct hsm_driver *driver_find(const char *name)
{
    return strcmp(name, "fake") == 0 ? &fake : NULL;
}

const char *driver_names(void)
{
    return "fake";
}

static struct hsm_ctx *ctx;

static void setup(void)
{
    struct hsm_config *cfg;

    unsetenv("HSM_TOKEN");
    unsetenv("HSM_PIN_SOURCE");
    memset(&state, 0, sizeof(state));
    state.handle = 7;
    state.tries = 3;
    (void)snprintf(state.pin, sizeof(state.pin), "1234");
    setenv("FAKE_PIN", "1234", 1);
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token", "fake:here"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source", "env:FAKE_PIN"), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_OK);
    unsetenv("FAKE_PIN"); /* programs wipe their environment; the PIN was read at init */
    ck_assert_int_eq(hsm_ctx_new(cfg, &ctx), HSM_OK);
}

static void teardown(void)
{
    int opens = state.opens;

    hsm_ctx_free(ctx);
    ck_assert_int_eq(state.closes, opens);
}

static struct hsm_key *new_key(const char *text, struct hsm_bytes spki)
{
    struct hsm_key *key;
    struct hsm_uri uri;

    ck_assert_int_eq(hsm_uri_parse(text, &uri), HSM_OK);
    ck_assert_int_eq(hsm_key_new(ctx, &uri, spki, &key), HSM_OK);
    return key;
}

static hsm_status sign(struct hsm_key *key)
{
    struct hsm_mech mech = { .type = HSM_MECH_EDDSA };
    uint8_t sig[64] = { 0 };
    struct hsm_buf out = { sig, sizeof(sig), 0 };
    hsm_status st = hsm_key_sign(key, &mech, (struct hsm_bytes){ (const uint8_t *)"x", 1 }, &out);

    if (st == HSM_OK)
        ck_assert_uint_eq(sig[0], state.handle);
    return st;
}

START_TEST(first_use_opens_and_logs_in_once)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });

    ck_assert_int_eq(state.opens, 0);
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(state.opens, 1);
    ck_assert_int_eq(state.logins, 1);
    hsm_key_free(key);
}
END_TEST

START_TEST(child_opens_anew_and_abandons_the_parents)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    int status;
    pid_t pid;

    ck_assert_int_eq(sign(key), HSM_OK);
    if ((pid = fork()) == 0) {
        bool good = sign(key) == HSM_OK && state.opens == 2 && state.abandons == 1 && state.logins == 2;

        hsm_key_free(key);
        hsm_ctx_free(ctx); /* closes its own, not the parent's */
        _exit(good && state.closes == 1 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(state.opens, 1);
    hsm_key_free(key);
}
END_TEST

START_TEST(child_that_only_tears_down_touches_nothing)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    int status;
    pid_t pid;

    ck_assert_int_eq(sign(key), HSM_OK);
    if ((pid = fork()) == 0) {
        hsm_key_free(key);
        hsm_ctx_free(ctx);
        _exit(state.closes == 0 && state.abandons == 1 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    hsm_key_free(key);
}
END_TEST

START_TEST(vanished_token_is_opened_again_by_the_same_call)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });

    ck_assert_int_eq(sign(key), HSM_OK);
    state.vanish = true;
    state.handle = 9; /* handles of the old opening mean nothing on the new one */
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(state.opens, 2);
    hsm_key_free(key);
}
END_TEST

START_TEST(many_vanishings_do_not_pile_up)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    int i;

    for (i = 0; i < 100; i++) {
        state.vanish = i > 0;
        ck_assert_int_eq(sign(key), HSM_OK);
    }
    ck_assert_int_eq(state.opens, 100);
    ck_assert_int_ge(state.closes, 90);
    hsm_key_free(key);
}
END_TEST

START_TEST(key_made_anew_is_found_but_not_mistaken)
{
    struct hsm_token *tok;
    struct hsm_object obj;
    struct hsm_uri uri;
    struct hsm_key *key, *bound;

    ck_assert_int_eq(hsm_uri_parse("hsm:key", &uri), HSM_OK);
    ck_assert_int_eq(hsm_token_get(ctx, 0, &tok), HSM_OK);
    ck_assert_int_eq(hsm_find_one(tok, &uri, &obj), HSM_OK);
    key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    bound = new_key("hsm:key", (struct hsm_bytes){ obj.spki, obj.spki_len });
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(sign(bound), HSM_OK);
    state.handle = 8;
    state.key_byte = 1;
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(sign(bound), HSM_ERR_KEY_CHANGED);
    state.handle = 0;
    ck_assert_int_eq(sign(key), HSM_ERR_NO_OBJECT);
    hsm_key_free(key);
    hsm_key_free(bound);
}
END_TEST

START_TEST(wrong_pin_is_tried_once_only)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });

    (void)snprintf(state.pin, sizeof(state.pin), "9999");
    ck_assert_int_eq(sign(key), HSM_ERR_PIN_INCORRECT);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_PIN_INCORRECT), "2 tries left"));
    ck_assert_int_eq(sign(key), HSM_ERR_PIN_INCORRECT);
    ck_assert_int_eq(sign(key), HSM_ERR_PIN_INCORRECT);
    ck_assert_int_eq(state.logins, 1);
    ck_assert_uint_eq(state.tries, 2);
    (void)snprintf(state.pin, sizeof(state.pin),
                   "1234"); /* somebody set the PIN right and reset the counter */
    state.tries = 3;
    ck_assert_int_eq(sign(key), HSM_OK);
    hsm_key_free(key);
}
END_TEST

START_TEST(pin_of_the_uri_goes_before_the_configured_one)
{
    struct hsm_key *key = new_key("hsm:key?pin-value=5678", (struct hsm_bytes){ NULL, 0 });

    (void)snprintf(state.pin, sizeof(state.pin), "5678");
    ck_assert_int_eq(sign(key), HSM_OK);
    hsm_key_free(key);
}
END_TEST

START_TEST(given_pin_survives_fork)
{
    struct hsm_key *key;
    struct hsm_config *cfg;
    int status;
    pid_t pid;

    hsm_ctx_free(ctx);
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token", "fake:here"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source", "prompt"), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_OK);
    ck_assert_int_eq(hsm_ctx_new(cfg, &ctx), HSM_OK);
    key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    ck_assert(hsm_key_wants_pin(key, false));
    ck_assert_int_eq(hsm_key_give_pin(key, (struct hsm_bytes){ (const uint8_t *)"1234", 4 }), HSM_OK);
    ck_assert(!hsm_key_wants_pin(key, false));
    if ((pid = fork()) == 0) {
        bool good = sign(key) == HSM_OK;

        hsm_key_free(key);
        hsm_ctx_free(ctx);
        _exit(good ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    hsm_key_free(key);
}
END_TEST

START_TEST(missing_pin_says_what_to_configure)
{
    struct hsm_config *cfg;
    struct hsm_key *key;

    hsm_ctx_free(ctx);
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token", "fake:here"), HSM_OK);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_OK);
    ck_assert_int_eq(hsm_ctx_new(cfg, &ctx), HSM_OK);
    key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    ck_assert_int_eq(sign(key), HSM_ERR_PIN_REQUIRED);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_PIN_REQUIRED), "pin-source"));
    hsm_key_free(key);
}
END_TEST

START_TEST(key_is_searched_on_every_token_and_absence_explained)
{
    struct hsm_config *cfg;
    struct hsm_key *key, *missing;

    hsm_ctx_free(ctx);
    ck_assert_int_eq(hsm_config_new(&cfg), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "tokens", "a b"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token.a", "fake:absent"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "token.b", "fake:here"), HSM_OK);
    ck_assert_int_eq(hsm_config_set(cfg, "pin-source", "env:FAKE_PIN"), HSM_OK);
    setenv("FAKE_PIN", "1234", 1);
    ck_assert_int_eq(hsm_config_finish(cfg), HSM_OK);
    ck_assert_int_eq(hsm_ctx_new(cfg, &ctx), HSM_OK);
    key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    missing = new_key("hsm:other", (struct hsm_bytes){ NULL, 0 });
    ck_assert_int_eq(sign(key), HSM_OK);
    ck_assert_int_eq(sign(missing), HSM_ERR_NO_TOKEN); /* it may be on the token that cannot be reached */
    hsm_key_free(key);
    hsm_key_free(missing);
    key = new_key("hsm:token=label;object=key", (struct hsm_bytes){ NULL, 0 });
    ck_assert_int_eq(sign(key), HSM_OK);
    hsm_key_free(key);
    key = new_key("hsm:token=a;object=key", (struct hsm_bytes){ NULL, 0 });
    ck_assert_int_eq(sign(key), HSM_ERR_NO_TOKEN);
    hsm_key_free(key);
}
END_TEST

static void *sign_often(void *arg)
{
    int i;

    for (i = 0; i < 500; i++)
        if (sign(arg) != HSM_OK)
            return arg;
    return NULL;
}

START_TEST(calls_of_a_serial_driver_never_overlap)
{
    struct hsm_key *key = new_key("hsm:key", (struct hsm_bytes){ NULL, 0 });
    pthread_t threads[4];
    void *failed;
    size_t i;

    for (i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sign_often, key), 0);
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    ck_assert_int_eq(state.overlaps, 0);
    ck_assert_int_eq(state.opens, 1);
    ck_assert_int_eq(state.logins, 1);
    hsm_key_free(key);
}
END_TEST

START_TEST(what_a_driver_lacks_is_unsupported)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY,
                                    .kind = { HSM_KEY_ED25519, HSM_CURVE_NONE, 256 },
                                    .label = "a" };
    struct hsm_token *tok;
    hsm_handle handle;

    ck_assert_int_eq(hsm_token_get(ctx, 0, &tok), HSM_OK);
    ck_assert_int_eq(hsm_generate(tok, &spec, &handle), HSM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(hsm_error_text(HSM_ERR_UNSUPPORTED), "fake"));
    ck_assert_int_eq(hsm_destroy(tok, 7), HSM_ERR_UNSUPPORTED);
    spec.label = "a\n";
    ck_assert_int_eq(hsm_generate(tok, &spec, &handle), HSM_ERR_ARGUMENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slot");
    TCase *t = tcase_create("slot");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, first_use_opens_and_logs_in_once);
    tcase_add_test(t, child_opens_anew_and_abandons_the_parents);
    tcase_add_test(t, child_that_only_tears_down_touches_nothing);
    tcase_add_test(t, vanished_token_is_opened_again_by_the_same_call);
    tcase_add_test(t, many_vanishings_do_not_pile_up);
    tcase_add_test(t, key_made_anew_is_found_but_not_mistaken);
    tcase_add_test(t, wrong_pin_is_tried_once_only);
    tcase_add_test(t, pin_of_the_uri_goes_before_the_configured_one);
    tcase_add_test(t, given_pin_survives_fork);
    tcase_add_test(t, missing_pin_says_what_to_configure);
    tcase_add_test(t, key_is_searched_on_every_token_and_absence_explained);
    tcase_add_test(t, calls_of_a_serial_driver_never_overlap);
    tcase_add_test(t, what_a_driver_lacks_is_unsupported);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
