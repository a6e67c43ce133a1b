/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server loads its key as root, then signs in another process, as another user, with no environment and
 * another root directory. Only root can be put there, so without it the tests are skipped.
 */
#include <check.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>

#include "fixture.h"

enum { NOBODY = 65534, SKIPPED = 77 };

static struct fixture fx;

static void setup(void)
{
    fixture_open(&fx);
    fixture_generate(&fx, "key", "ec:P-256");
}

static void teardown(void)
{
    fixture_close(&fx);
}

static void shell(const char *command)
{
    ck_assert_msg(system(command) == 0, "%s", command);
}

/* A root directory; the token's directory stands in it under the same path, and belongs to nobody, if asked
 * for. */
static void make_root(char root[FIXTURE_PATH_MAX], bool with_token)
{
    char command[4 * FIXTURE_PATH_MAX];

    (void)snprintf(root, FIXTURE_PATH_MAX, "%s-root", fx.dir);
    (void)snprintf(command, sizeof(command), "mkdir -p '%s%s'", root, fx.dir);
    shell(command);
    if (!with_token)
        return;
    (void)snprintf(command, sizeof(command), "cp -a '%s/.' '%s%s/' && chown -R %d:%d '%s'", fx.dir, root,
                   fx.dir, NOBODY, NOBODY, root);
    shell(command);
}

static void remove_root(const char *root)
{
    char command[FIXTURE_PATH_MAX + 16];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
    shell(command);
}

static bool go_elsewhere(const char *root)
{
    return chroot(root) == 0 && chdir("/") == 0 && setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 &&
           setuid(NOBODY) == 0 && clearenv() == 0;
}

/* As the program's: loaded from its reference, which touches nothing. */
static EVP_PKEY *load(EVP_PKEY **pub)
{
    EVP_PKEY *named = fixture_store_key(fx.app, "hsm:key"), *key;
    char *reference = fixture_reference(named);

    ck_assert_ptr_nonnull(key = fixture_read_pem(fx.app, reference, strlen(reference)));
    *pub = fixture_public(&fx, named);
    free(reference);
    EVP_PKEY_free(named);
    return key;
}

/* Exit status of @p body in a child that went to @p root. */
static int in_child(const char *root, bool (*body)(EVP_PKEY *key, EVP_PKEY *pub), EVP_PKEY *key,
                    EVP_PKEY *pub)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(!go_elsewhere(root) ? 2 : body(key, pub) ? 0 : 1);
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static bool signs(EVP_PKEY *key, EVP_PKEY *pub)
{
    return fixture_can_sign(&fx, key, pub);
}

static bool fails_with_the_path(EVP_PKEY *key, EVP_PKEY *pub)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sig[256];
    size_t len = sizeof(sig);

    ERR_clear_error();
    if (EVP_DigestSignInit_ex(ctx, NULL, "SHA256", fx.app, NULL, key, NULL) != 1 ||
        EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"x", 1) == 1)
        return false;
    EVP_MD_CTX_free(ctx);
    return fixture_error_has(fx.token_path);
}

START_TEST(token_inside_the_new_root_signs)
{
    char root[FIXTURE_PATH_MAX];
    EVP_PKEY *pub, *key = load(&pub);

    make_root(root, true);
    ck_assert_int_eq(in_child(root, signs, key, pub), 0);
    remove_root(root);
    EVP_PKEY_free(key);
    EVP_PKEY_free(pub);
}
END_TEST

START_TEST(token_outside_the_new_root_is_named)
{
    char root[FIXTURE_PATH_MAX];
    EVP_PKEY *pub, *key = load(&pub);

    make_root(root, false);
    ck_assert_int_eq(in_child(root, fails_with_the_path, key, pub), 0);
    remove_root(root);
    EVP_PKEY_free(key);
    EVP_PKEY_free(pub);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("elsewhere");
    TCase *t = tcase_create("elsewhere");
    SRunner *r = srunner_create(s);
    int failed;

    if (geteuid() != 0)
        return SKIPPED;
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, token_inside_the_new_root_signs);
    tcase_add_test(t, token_outside_the_new_root_is_named);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
