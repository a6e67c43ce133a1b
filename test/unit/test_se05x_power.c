/* SPDX-License-Identifier: Apache-2.0 */
/* The power fails, the chip resets, answers are lost: nothing leaks, nothing is lost, nothing happens twice.
 */
#include "se05x_fixture.h"

/* ---- changes
 * ------------------------------------------------------------------------------------------------- */

/* The power fails in the n-th command of a change, for every n; whatever comes back, nothing is left over. */
static hsm_status change_once(int what)
{
    struct hsm_object_spec spec = key_spec("ec:P-256", "victim");
    struct hsm_object obj;
    hsm_handle handle;
    hsm_status st;

    if (what == 0)
        return hsm_generate(tok, &spec, &handle);
    if ((st = find(tok, HSM_URI_TYPE_PRIVATE, "victim", &obj)) != HSM_OK)
        return st == HSM_ERR_NO_OBJECT ? HSM_OK : st;
    return hsm_destroy(tok, obj.handle);
}

static void check_intact(bool may_exist)
{
    struct hsm_object obj;
    hsm_status st;

    (void)generate(tok, "ec:P-256", "probe"); /* a writer: it puts things in order */
    st = find(tok, HSM_URI_TYPE_PRIVATE, "victim", &obj);
    ck_assert_msg(st == HSM_OK || st == HSM_ERR_NO_OBJECT, "%s", hsm_error_text(st));
    ck_assert(st == HSM_ERR_NO_OBJECT || may_exist);
    if (st == HSM_OK) {
        ck_ok(sign_default(tok, &obj));
        ck_ok(hsm_destroy(tok, obj.handle));
    }
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "witness", &obj));
    ck_ok(sign_default(tok, &obj));
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "probe", &obj));
    ck_ok(hsm_destroy(tok, obj.handle));
    ck_assert_uint_eq(object_count(), 2); /* the witness */
}

START_TEST(power_may_fail_in_any_command_of_a_change)
{
    int generation = _i % GENERATIONS, what = _i / GENERATIONS, n;
    char fault[64];
    unsigned before;
    hsm_status st = HSM_ERR_TOKEN_IO;

    begin(generation);
    (void)generate(tok, "ec:P-256", "witness");
    for (n = 0; n < 60; n++) {
        if (what == 1)
            (void)generate(tok, "ec:P-256", "victim");
        (void)snprintf(fault, sizeof(fault), "fault power-cut-in-apdu@after=%d+polls=4", n);
        chip_do(fault);
        before = chip_count("power-cuts");
        st = change_once(what);
        chip_do("fault clear");
        chip_do("power-on");
        if (chip_count("power-cuts") == before)
            break; /* it was over before its n-th command */
        check_intact(true);
    }
    ck_ok(st);
    ck_assert_int_gt(n, 4);
    ck_assert_int_lt(n, 60);
}
END_TEST

/* ---- PINs
 * -------------------------------------------------------------------------------------------------- */

static hsm_status login_afresh(const char *pin)
{
    hsm_status st;

    hsm_ctx_free(ctx);
    ctx = new_context(NULL);
    tok = get_token(ctx);
    chip = se05x_of(tok);
    st = hsm_login(tok, HSM_ROLE_USER, text(pin));
    return st;
}

START_TEST(interrupted_pin_change_leaves_one_of_the_two)
{
    char fault[64];
    unsigned before;
    int n;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    for (n = 0; n < 40; n++) {
        const char *old = n % 2 == 0 ? user_pin : "new pin", *new = n % 2 == 0 ? "new pin" : user_pin;
        hsm_status st;

        (void)snprintf(fault, sizeof(fault), "fault power-cut-in-apdu@after=%d+polls=4", n);
        chip_do(fault);
        before = chip_count("power-cuts");
        st = hsm_pin_change(tok, HSM_ROLE_USER, text(old), text(new), false);
        chip_do("fault clear");
        chip_do("power-on");
        if (login_afresh(new) != HSM_OK) {
            ck_assert_int_ne(st, HSM_OK);
            ck_ok(login_afresh(old));
            ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text(old), text(new), false));
            ck_ok(login_afresh(new));
        }
        if (chip_count("power-cuts") == before)
            break;
    }
    ck_assert_int_gt(n, 3);
    ck_assert_int_lt(n, 40);
}
END_TEST

/* ---- counting, signing
 * ---------------------------------------------------------------------------------------- */

/* Whether a command whose answer was lost was executed must not be guessed. */
START_TEST(lost_answers_neither_skip_nor_repeat_a_count)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_COUNTER, .label = "boots" };
    uint64_t value = 0, expected = 0;
    hsm_handle handle;
    char fault[64];
    int n;

    begin(_i);
    ck_ok(hsm_counter_create(tok, &spec, 0, &handle));
    for (n = 0; n < 12; n++) {
        hsm_status st;

        (void)snprintf(fault, sizeof(fault), "fault power-cut-in-apdu@after=%d+polls=4", n % 6);
        chip_do(fault);
        st = hsm_counter_increment(tok, handle, &value);
        chip_do("fault clear");
        chip_do("power-on");
        if (st == HSM_OK)
            ck_assert_uint_eq(value, ++expected);
        ck_ok(hsm_counter_get(tok, handle, &value));
        ck_assert_msg(value == expected || (st != HSM_OK && value == expected + 1), "%llu, want %llu",
                      (unsigned long long)value, (unsigned long long)expected);
        expected = value;
    }
}
END_TEST

START_TEST(signatures_go_on_after_a_reset)
{
    struct hsm_object obj;

    begin(_i);
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(tok, &obj));
    chip_do("reset");
    ck_ok(sign_default(tok, &obj));
    chip_do("power-off");
    chip_do("power-on");
    ck_ok(sign_default(tok, &obj));
}
END_TEST

static Suite *power_suite(void)
{
    Suite *s = suite_create("se05x_power");
    TCase *tc = tcase_create("power");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, power_may_fail_in_any_command_of_a_change, 0, 2 * GENERATIONS);
    tcase_add_loop_test(tc, interrupted_pin_change_leaves_one_of_the_two, 0, GENERATIONS);
    tcase_add_loop_test(tc, lost_answers_neither_skip_nor_repeat_a_count, 0, GENERATIONS);
    tcase_add_loop_test(tc, signatures_go_on_after_a_reset, 0, GENERATIONS);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    clean_environment();
    return run_suite(power_suite());
}
