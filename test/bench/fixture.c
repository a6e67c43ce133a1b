/* SPDX-License-Identifier: Apache-2.0 */
/** A temporary directory, a token, and keys that exist both as a file and in the token. */
#include <errno.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "bench.h"

static bool hsmctl(const struct bench *bench, const char *const arguments[])
{
    char program[PATH_MAX + 32];
    const char *argv[16] = { program };
    size_t n = 1;

    (void)snprintf(program, sizeof(program), "%s/tools/hsmctl", bench->build);
    for (; *arguments != NULL && n + 1 < sizeof(argv) / sizeof(argv[0]); arguments++)
        argv[n++] = *arguments;
    return process_finish(process_start(argv, NULL));
}

/* The build tree is where this program lies: BUILD/test/bench/hsm-bench. */
static bool find_build(struct bench *bench)
{
    const char *named = getenv("HSM_BUILD_DIR");
    char self[PATH_MAX] = "";

    if (named == NULL) {
        if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
            return bench_fail("/proc/self/exe: %s", strerror(errno));
        named = dirname(dirname(dirname(self)));
    }
    if (snprintf(bench->build, sizeof(bench->build), "%s", named) >= (int)sizeof(bench->build))
        return bench_fail("path of the build tree is too long");
    return true;
}

/* libcrypto reads these at its first use, so they are set before. */
static bool set_environment(const struct bench *bench)
{
    char modules[PATH_MAX + 32], pin[256];

    (void)snprintf(modules, sizeof(modules), "%s/provider", bench->build);
    (void)snprintf(pin, sizeof(pin), "file:%s/pin", bench->dir);
    if (setenv("OPENSSL_MODULES", modules, 0) != 0 || setenv("HSM_TOKEN", bench->token, 1) != 0)
        return bench_fail("setenv: %s", strerror(errno));
    /* a token of the user's keeps the PIN source of the user's configuration */
    if (bench->own_token)
        return setenv("HSM_PIN_SOURCE", pin, 1) == 0 && setenv("OPENSSL_CONF", HSM_EXAMPLE_CONF, 1) == 0;
    return setenv("OPENSSL_CONF", HSM_EXAMPLE_CONF, 0) == 0;
}

bool fixture_open(struct bench *bench)
{
    static char own_token[256];
    const char *parent = getenv("TMPDIR");
    const char *const init[] = { "token", "init", "--label", "bench", "--generate-pin", NULL };

    if (snprintf(bench->dir, sizeof(bench->dir), "%s/hsm-bench.XXXXXX", parent != NULL ? parent : "/tmp") >=
        (int)sizeof(bench->dir))
        return bench_fail("TMPDIR is too long");
    if (!find_build(bench))
        return false;
    if (mkdtemp(bench->dir) == NULL) {
        bench->dir[0] = '\0';
        return bench_fail("temporary directory: %s", strerror(errno));
    }
    bench->own_token = bench->token == NULL;
    if (bench->own_token) {
        (void)snprintf(own_token, sizeof(own_token), "soft:%s/token.db", bench->dir);
        bench->token = own_token;
    }
    if (!set_environment(bench))
        return false;
    if (bench->own_token && !hsmctl(bench, init))
        return bench_fail("hsmctl token init failed");
    return true;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void fixture_close(struct bench *bench)
{
    for (unsigned i = 0; i < bench->key_count && !bench->own_token; i++) {
        const char *const delete_key[] = { "key", "delete", bench->keys[i], "--yes", NULL };

        if (!hsmctl(bench, delete_key))
            (void)bench_fail("key %s stays on the token", bench->keys[i]);
    }
    if (bench->dir[0] != '\0')
        (void)nftw(bench->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static EVP_PKEY *new_software_key(const char *type)
{
    static const char by_default[] = "provider=default";

    if (strcmp(type, "ec") == 0)
        return EVP_PKEY_Q_keygen(NULL, by_default, "EC", "P-256");
    if (strcmp(type, "rsa") == 0)
        return EVP_PKEY_Q_keygen(NULL, by_default, "RSA", (size_t)2048);
    return EVP_PKEY_Q_keygen(NULL, by_default, "ED25519");
}

static bool write_software_key(const char *type, const char *path)
{
    EVP_PKEY *key = new_software_key(type);
    BIO *out = key != NULL ? BIO_new_file(path, "w") : NULL;
    bool written = out != NULL && PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) > 0;

    BIO_free(out);
    EVP_PKEY_free(key);
    return written || bench_fail_crypto(path);
}

static bool import_key(struct bench *bench, const char *name, struct key_pair_files *files)
{
    char *own = bench->keys[bench->key_count];
    const char *const import[] = { "key", "import", own, files->path[SIDE_DEFAULT], NULL };
    const char *const ref[] = { "key", "ref", own, "-o", files->path[SIDE_HSM], NULL };

    if (bench->key_count == sizeof(bench->keys) / sizeof(bench->keys[0]))
        return bench_fail("too many keys");
    (void)snprintf(own, sizeof(bench->keys[0]), "%s", name);
    if (!hsmctl(bench, import))
        return bench_fail("hsmctl key import %s failed on %s", name, bench->token);
    bench->key_count++;
    return hsmctl(bench, ref) || bench_fail("hsmctl key ref %s failed", name);
}

bool fixture_key(struct bench *bench, const char *type, struct key_pair_files *files)
{
    char name[sizeof(bench->keys[0])];

    (void)snprintf(name, sizeof(name), "bench-%s-%d", type, (int)getpid());
    (void)snprintf(files->path[SIDE_DEFAULT], sizeof(files->path[0]), "%s/%s.key", bench->dir, type);
    (void)snprintf(files->path[SIDE_HSM], sizeof(files->path[0]), "%s/%s.ref", bench->dir, type);
    if (access(files->path[SIDE_HSM], R_OK) == 0)
        return true;
    return write_software_key(type, files->path[SIDE_DEFAULT]) && import_key(bench, name, files);
}
