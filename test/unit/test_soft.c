/* SPDX-License-Identifier: Apache-2.0 */
/* What only the soft token promises: its file, its rights, crashes, tampering, many processes, what a core
 * dump shows. */
#include "token_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <sqlite3.h>

#include <openssl/bn.h>
#include <openssl/rand.h>

enum { NOBODY = 65534 };

static struct hsm_ctx *ctx;
static struct hsm_token *tok;
static char token_path[256];

static void setup(void)
{
    struct hsm_token_init init = default_init();

    make_temp_dir();
    (void)snprintf(token_path, sizeof(token_path), "%s/token.db", temp_dir);
    (void)snprintf(token_spec, sizeof(token_spec), "soft:%s", token_path);
    ctx = new_context(NULL);
    ck_ok(hsm_token_create(ctx, 0, &init));
    tok = login(ctx);
}

static void teardown(void)
{
    hsm_ctx_free(ctx);
    remove_temp_dir();
}

static double now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Run SQL on the token file as an attacker or an administrator would: from another process. */
static void sql(const char *statement)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        sqlite3 *db;
        int rc = sqlite3_open(token_path, &db);

        if (rc == SQLITE_OK)
            rc = sqlite3_busy_timeout(db, 10000);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(db, statement, NULL, NULL, NULL);
        _exit(rc);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(status == 0, "SQL failed (%d): %s", WEXITSTATUS(status), statement);
}

static void check_integrity(void)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;

    ck_assert_int_eq(sqlite3_open(token_path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), "ok");
    (void)sqlite3_finalize(stmt);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* A context that has just opened the token, as a new process would. */
static hsm_status open_anew(struct hsm_ctx **fresh, struct hsm_token **t)
{
    *fresh = new_context(NULL);
    return hsm_token_get(*fresh, 0, t);
}

static hsm_status status_of_opening(void)
{
    struct hsm_ctx *fresh;
    struct hsm_token *t;
    hsm_status st = open_anew(&fresh, &t);

    hsm_ctx_free(fresh);
    return st;
}

static hsm_status sign_one(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    return obj->cls == HSM_CLASS_KEY ? sign_default(t, obj) : HSM_OK;
}

static struct hsm_token_info info_of(struct hsm_token *t)
{
    struct hsm_token_info info;

    ck_ok(hsm_token_info(t, &info));
    return info;
}

static bool sanitized(void)
{
    return dlsym(RTLD_DEFAULT, "__asan_init") != NULL || dlsym(RTLD_DEFAULT, "__tsan_init") != NULL;
}

/* ---- the file -------------------------------------------------------------------------------------------
 */

static mode_t mode_of(const char *path)
{
    struct stat sb;

    ck_assert_int_eq(stat(path, &sb), 0);
    return sb.st_mode & 07777;
}

static size_t files_in_temp_dir(void)
{
    DIR *dir = opendir(temp_dir);
    struct dirent *e;
    size_t n = 0;

    while ((e = readdir(dir)) != NULL)
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

START_TEST(file_mode_is_exactly_what_was_asked_for)
{
    struct hsm_token_init init = default_init();
    mode_t old = umask(0);

    ck_assert_uint_eq(mode_of(token_path), 0600);
    init.mode = 0640;
    (void)umask(077);
    ck_ok(hsm_token_create(ctx, 0, &init));
    ck_assert_uint_eq(mode_of(token_path), 0640);
    init.mode = 0644;
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_ARGUMENT);
    init.mode = 0440;
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_ARGUMENT);
    (void)umask(old);
}
END_TEST

START_TEST(failed_creation_leaves_nothing)
{
    struct hsm_token_init init = default_init();
    size_t before = files_in_temp_dir();

    init.force = false;
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_EXISTS);
    ck_line_has(HSM_ERR_EXISTS, token_path);
    init.force = true;
    init.user_pin = text("abc");
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_PIN_FORMAT);
    init = default_init();
    init.kdf_memory = 1000;
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_ARGUMENT);
    init = default_init();
    init.machine_pin = true; /* "correct horse" is no machine-made PIN */
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_PIN_FORMAT);
    init = default_init();
    init.label = "";
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_ARGUMENT);
    ck_assert_uint_eq(files_in_temp_dir(), before);
    ck_ok(status_of_opening());
}
END_TEST

START_TEST(missing_file_and_directory_are_told_apart)
{
    struct hsm_token_init init = default_init();
    struct hsm_ctx *other;
    struct hsm_token *t;

    ck_assert_int_eq(unlink(token_path), 0);
    ck_status(status_of_opening(), HSM_ERR_NO_TOKEN);
    ck_line_has(HSM_ERR_NO_TOKEN, "hsmctl token init");
    (void)snprintf(token_spec, sizeof(token_spec), "soft:%s/no/where/token.db", temp_dir);
    other = new_context(NULL);
    ck_status(hsm_token_get(other, 0, &t), HSM_ERR_NO_TOKEN);
    ck_status(hsm_token_create(other, 0, &init), HSM_ERR_NO_TOKEN);
    ck_line_has(HSM_ERR_NO_TOKEN, "no directory");
    hsm_ctx_free(other);
}
END_TEST

static void write_file(const char *content, size_t len)
{
    FILE *f;

    (void)unlink(token_path);
    ck_assert_ptr_nonnull(f = fopen(token_path, "w"));
    ck_assert_uint_eq(fwrite(content, 1, len, f), len);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(foreign_files_are_refused_and_kept)
{
    struct hsm_token_init init = default_init();
    static const char text_file[] =
        "this is somebody's letter, not a token; it is longer than a header of one hundred bytes, "
        "which is what is looked at first.";
    struct stat sb;

    write_file(text_file, sizeof(text_file));
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_TOKEN_FORMAT); /* even with force */
    ck_line_has(HSM_ERR_TOKEN_FORMAT, "not overwritten");
    ck_assert_int_eq(stat(token_path, &sb), 0);
    ck_assert_int_eq(sb.st_size, sizeof(text_file));
    write_file("", 0);
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
    (void)unlink(token_path);
    sql("CREATE TABLE other(x)");
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
    ck_status(hsm_token_create(ctx, 0, &init), HSM_ERR_TOKEN_FORMAT);
    (void)unlink(token_path);
    ck_assert_int_eq(mkdir(token_path, 0700), 0);
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
    ck_assert_int_eq(rmdir(token_path), 0);
    ck_assert_int_eq(mkfifo(token_path, 0600), 0); /* must not hang */
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
}
END_TEST

START_TEST(newer_format_is_refused_clearly)
{
    sql("PRAGMA user_version = 2");
    ck_status(status_of_opening(), HSM_ERR_TOKEN_VERSION);
    ck_line_has(HSM_ERR_TOKEN_VERSION, "version 2");
    sql("PRAGMA user_version = 0");
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
}
END_TEST

START_TEST(other_journal_mode_is_refused_clearly)
{
    sql("PRAGMA journal_mode = WAL");
    ck_status(status_of_opening(), HSM_ERR_TOKEN_FORMAT);
    ck_line_has(HSM_ERR_TOKEN_FORMAT, "journal_mode=DELETE");
}
END_TEST

START_TEST(parameters_are_refused)
{
    struct hsm_ctx *other;
    struct hsm_token *t;

    (void)snprintf(token_spec, sizeof(token_spec), "soft:%s?fast=yes", token_path);
    other = new_context(NULL);
    ck_status(hsm_token_get(other, 0, &t), HSM_ERR_CONFIG);
    ck_line_has(HSM_ERR_CONFIG, "fast");
    hsm_ctx_free(other);
}
END_TEST

START_TEST(every_truncation_of_the_file_is_survived)
{
    struct stat sb;
    off_t len;

    (void)generate(tok, "ec:P-256", "key");
    ck_assert_int_eq(stat(token_path, &sb), 0);
    hsm_ctx_free(ctx);
    ctx = NULL;
    for (len = sb.st_size - 1; len >= 0; len -= len > 4200 ? 509 : 97) {
        struct hsm_ctx *fresh;
        struct hsm_token *t;
        size_t n = 0;
        hsm_status st;

        ck_assert_int_eq(truncate(token_path, len), 0);
        st = open_anew(&fresh, &t);
        if (st == HSM_OK) /* what is missing may be a page that opening does not read */
            st = hsm_find(t, NULL, count_one, &n);
        if (st == HSM_OK)
            st = hsm_login(t, HSM_ROLE_USER, text(user_pin));
        ck_assert_msg(st == HSM_OK || st == HSM_ERR_TOKEN_FORMAT || st == HSM_ERR_TOKEN_IO, "%ld bytes: %s",
                      (long)len, hsm_error_text(st));
        hsm_ctx_free(fresh);
    }
}
END_TEST

/* ---- tampering ------------------------------------------------------------------------------------------
 */

static const char *const object_edits[] = {
    "UPDATE object SET extractable = 1 WHERE label = 'a'",
    "UPDATE object SET usage = 7 WHERE label = 'a'",
    "UPDATE object SET origin = 2 WHERE label = 'a'",
    "UPDATE object SET created = created + 1 WHERE label = 'a'",
    "UPDATE object SET id = x'00' WHERE label = 'a'",
    "UPDATE object SET value = (SELECT value FROM object WHERE label = 'b') WHERE label = 'a'",
    "UPDATE object SET value = substr(value, 1, length(value) - 1) || x'00' WHERE label = 'a'",
    "UPDATE object SET value = zeroblob(length(value)) WHERE label = 'a'",
    "UPDATE object SET value = x'' WHERE label = 'a'",
    "UPDATE object SET value = 5 WHERE label = 'a'",
    "UPDATE object SET value = zeroblob(100000) WHERE label = 'a'",
    "UPDATE object SET spki = (SELECT spki FROM object WHERE label = 'b') WHERE label = 'a'",
    "UPDATE object SET spki = x'3000' WHERE label = 'a'",
    "UPDATE object SET spki = zeroblob(5000) WHERE label = 'a'",
    "UPDATE object SET type = 5 WHERE label = 'a'",
    "UPDATE object SET type = 99 WHERE label = 'a'",
    "UPDATE object SET curve = 2 WHERE label = 'a'",
    "UPDATE object SET bits = 257 WHERE label = 'a'",
    "UPDATE object SET bits = 'x' WHERE label = 'a'",
    "UPDATE object SET usage = -1 WHERE label = 'a'",
    "UPDATE object SET extractable = 2 WHERE label = 'a'",
    "UPDATE object SET id = zeroblob(65) WHERE label = 'a'",
    "UPDATE object SET id = 'text' WHERE label = 'a'",
    "UPDATE object SET handle = handle + 100 WHERE label = 'a'",
    "UPDATE object SET label = 'c' WHERE label = 'a'; UPDATE object SET label = 'a' WHERE label = 'b'",
    "DELETE FROM object WHERE label = 'a'; UPDATE object SET label = 'a' WHERE label = 'b'",
    "UPDATE token SET uuid = zeroblob(16)",
};

/* First with the key in the cache of this process, then in a new one. */
START_TEST(edited_object_is_never_used)
{
    struct hsm_object obj;
    struct hsm_ctx *fresh;
    struct hsm_token *t;
    hsm_status st;

    (void)generate(tok, "ec:P-256", "a");
    (void)generate(tok, "ec:P-256", "b");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "a", &obj));
    ck_ok(sign_default(tok, &obj));
    sql(object_edits[_i]);
    st = sign_default(tok, &obj);
    if (strstr(object_edits[_i], "UPDATE token") == NULL) /* the open token has read its own row already */
        ck_assert_msg(st == HSM_ERR_TOKEN_FORMAT || st == HSM_ERR_NO_OBJECT, "cached: %s",
                      hsm_error_text(st));
    if ((st = open_anew(&fresh, &t)) == HSM_OK &&
        (st = hsm_login(t, HSM_ROLE_USER, text(user_pin))) == HSM_OK &&
        (st = find(t, HSM_URI_TYPE_PRIVATE, "a", &obj)) == HSM_OK)
        st = sign_default(t, &obj);
    ck_status(st, HSM_ERR_TOKEN_FORMAT);
    ck_line_has(st, token_path);
    hsm_ctx_free(fresh);
}
END_TEST

START_TEST(edited_data_object_is_never_returned)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA, .label = "data" };
    uint8_t buf[64] = { 0 };
    struct hsm_buf out = { buf, sizeof(buf), 0 };
    hsm_handle handle;

    ck_ok(hsm_put(tok, &spec, text("secret"), &handle));
    sql("UPDATE object SET created = 1");
    ck_status(hsm_get(tok, handle, &out), HSM_ERR_TOKEN_FORMAT);
    ck_assert_uint_eq(out.len, 0);
    ck_assert_uint_eq(buf[0], 0);
}
END_TEST

static const char *const pin_edits[] = {
    "UPDATE pin SET wrapped = zeroblob(60)",
    "UPDATE pin SET wrapped = x'00'",
    "UPDATE pin SET salt = zeroblob(16)",
    "UPDATE pin SET n = 1073741824", /* a terabyte of memory */
    "UPDATE pin SET n = 1025",
    "UPDATE pin SET r = 4000000000",
    "UPDATE pin SET p = 1000000",
    "UPDATE pin SET kdf = 2",
    "UPDATE pin SET kdf = 3",
    "UPDATE pin SET digest = zeroblob(32)",
    "UPDATE pin SET tries_left = 11",
    "UPDATE pin SET tries_left = -1",
    "UPDATE pin SET tries_max = 100000000, tries_left = 100000000",
    "DELETE FROM pin",
    "DELETE FROM token",
    "UPDATE token SET label = 'other'",
    "UPDATE token SET label = x'ff'",
    "CREATE TRIGGER t AFTER UPDATE ON pin BEGIN UPDATE pin SET tries_left = tries_max; END",
    "CREATE VIEW v AS SELECT * FROM pin",
    "DROP TABLE object",
    "ALTER TABLE object ADD COLUMN more",
    "CREATE TABLE more(x)",
};

/* Damage is told from a wrong PIN, costs no try, and no gigabytes. */
START_TEST(edited_pin_or_schema_is_refused)
{
    struct hsm_ctx *fresh;
    struct hsm_token *t;
    double start = now_s();
    hsm_status st;

    sql(pin_edits[_i]);
    if ((st = open_anew(&fresh, &t)) == HSM_OK)
        st = hsm_login(t, HSM_ROLE_USER, text(user_pin));
    ck_status(st, HSM_ERR_TOKEN_FORMAT);
    ck_line_has(st, token_path);
    ck_assert(now_s() - start < 60.0);
    hsm_ctx_free(fresh);
}
END_TEST

/* ---- rights ---------------------------------------------------------------------------------------------
 */

/* In a child that is somebody else (or, without root, in one whose file and directory are write-protected).
 */
static int as_reader(int (*body)(void))
{
    int status;
    pid_t pid;

    if (geteuid() == 0) {
        ck_assert_int_eq(chown(token_path, 0, NOBODY), 0);
        ck_assert_int_eq(chmod(token_path, 0640), 0);
        ck_assert_int_eq(chmod(temp_dir, 0755), 0);
    } else {
        ck_assert_int_eq(chmod(token_path, 0400), 0);
        ck_assert_int_eq(chmod(temp_dir, 0500), 0);
    }
    if ((pid = fork()) == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
                               setresuid(NOBODY, NOBODY, NOBODY) != 0))
            _exit(100);
        _exit(body());
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(chmod(temp_dir, 0700), 0);
    ck_assert_int_eq(chmod(token_path, 0600), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int reader_body(void)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "more" };
    struct hsm_ctx *c = new_context(NULL);
    struct hsm_token_info info;
    struct hsm_token *t;
    struct hsm_object obj;
    hsm_handle handle;
    hsm_status st;

    if (hsm_token_get(c, 0, &t) != HSM_OK || hsm_token_info(t, &info) != HSM_OK || info.writable)
        return 1;
    if (hsm_login(t, HSM_ROLE_USER, text("wrong pin")) != HSM_ERR_PIN_INCORRECT)
        return 2;
    if (hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK)
        return 3;
    if (find(t, HSM_URI_TYPE_PRIVATE, "key", &obj) != HSM_OK || sign_default(t, &obj) != HSM_OK)
        return 4;
    if (hsm_kind_parse("ec:P-256", &spec.kind) != HSM_OK)
        return 8;
    if ((st = hsm_generate(t, &spec, &handle)) != HSM_ERR_READ_ONLY ||
        strstr(hsm_error_text(st), "written") == NULL)
        return 5;
    if (hsm_destroy(t, obj.handle) != HSM_ERR_READ_ONLY)
        return 6;
    if (hsm_pin_change(t, HSM_ROLE_USER, text(user_pin), text("new pin"), false) != HSM_ERR_READ_ONLY)
        return 7;
    hsm_ctx_free(c);
    return 0;
}

START_TEST(reader_without_write_access_signs_and_cannot_write)
{
    (void)generate(tok, "ec:P-256", "key");
    ck_assert_int_eq(as_reader(reader_body), 0);
    ck_assert_uint_eq(info_of(tok).pin_tries_left, info_of(tok).pin_tries_max);
}
END_TEST

static int locked_reader_body(void)
{
    struct hsm_ctx *c = new_context(NULL);
    struct hsm_token *t;

    if (hsm_token_get(c, 0, &t) != HSM_OK)
        return 1;
    return hsm_login(t, HSM_ROLE_USER, text(user_pin)) == HSM_ERR_PIN_LOCKED ? 0 : 2;
}

static int dropping_body(void)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = "more" };
    struct hsm_ctx *c = new_context(NULL);
    struct hsm_token *t;
    struct hsm_object obj;
    hsm_handle handle;

    if (hsm_token_get(c, 0, &t) != HSM_OK || find(t, HSM_URI_TYPE_PRIVATE, "key", &obj) != HSM_OK ||
        hsm_kind_parse("ec:P-256", &spec.kind) != HSM_OK || setgroups(0, NULL) != 0 ||
        setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return 1;
    if (hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK || sign_default(t, &obj) != HSM_OK)
        return 2;
    return hsm_generate(t, &spec, &handle) == HSM_ERR_READ_ONLY ? 0 : 3;
}

/* A daemon that opens the token as root, drops its rights and then logs in and signs. */
START_TEST(program_that_drops_its_rights_still_signs)
{
    int status;
    pid_t pid;

    if (geteuid() != 0)
        return;
    (void)generate(tok, "ec:P-256", "key");
    ck_assert_int_eq(chmod(temp_dir, 0755), 0);
    if ((pid = fork()) == 0)
        _exit(dropping_body());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Journal and login lock stand beside the file, not beside a link to it; replacing follows the link. */
START_TEST(link_to_a_token_is_followed)
{
    struct hsm_token_init init = default_init();
    char dir[128], real[160], journal[200];
    struct hsm_ctx *other;
    struct hsm_token *t;
    struct stat sb;

    (void)snprintf(dir, sizeof(dir), "%s/real", temp_dir);
    (void)snprintf(real, sizeof(real), "%s/token.db", dir);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    ck_assert_int_eq(rename(token_path, real), 0);
    ck_assert_int_eq(symlink(real, token_path), 0);
    other = new_context(NULL);
    t = login(other);
    (void)generate(t, "ec:P-256", "key");
    ck_ok(hsm_token_create(other, 0, &init));
    ck_assert_int_eq(lstat(token_path, &sb), 0);
    ck_assert(S_ISLNK(sb.st_mode));
    t = login(other);
    ck_assert_uint_eq(count_objects(t), 0);
    hsm_ctx_free(other);
    (void)snprintf(journal, sizeof(journal), "%s-login", real);
    ck_assert_int_eq(unlink(journal), 0);
    ck_assert_int_eq(unlink(real), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(locked_pin_is_locked_for_readers_too)
{
    sql("UPDATE pin SET tries_left = 0");
    ck_assert_int_eq(as_reader(locked_reader_body), 0);
}
END_TEST

static int stranger_body(void)
{
    return status_of_opening() == HSM_ERR_DENIED &&
                   strstr(hsm_error_text(HSM_ERR_DENIED), "uid 65534") != NULL
               ? 0
               : 1;
}

START_TEST(stranger_is_told_who_may_not)
{
    int status;
    pid_t pid;

    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(temp_dir, 0755), 0);
    if ((pid = fork()) == 0)
        _exit(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
                      setresuid(NOBODY, NOBODY, NOBODY) == 0
                  ? stranger_body()
                  : 100);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- machine-made PIN -----------------------------------------------------------------------------------
 */

START_TEST(machine_pin_is_fast_counted_and_replaced)
{
    static const char machine[] = "8f1c2b3a4d5e6f708192a3b4c5d6e7f80123456789abcdef0123456789abcdef";
    struct hsm_token_init init = default_init();
    struct hsm_token *t;
    double start, machine_s;

    init.user_pin = text(machine);
    init.machine_pin = true;
    init.kdf_memory = 0; /* the SO PIN takes the full 64 MiB */
    ck_ok(hsm_token_create(ctx, 0, &init));
    t = get_token(ctx);
    ck_assert(info_of(t).machine_pin);
    start = now_s();
    ck_ok(hsm_login(t, HSM_ROLE_USER, text(machine)));
    machine_s = now_s() - start;
    ck_status(hsm_login(t, HSM_ROLE_USER, text("wrong pin")), HSM_ERR_PIN_INCORRECT);
    ck_assert_uint_eq(info_of(t).pin_tries_left, info_of(t).pin_tries_max - 1);
    ck_ok(hsm_login(t, HSM_ROLE_USER, text(machine)));
    ck_assert_uint_eq(info_of(t).pin_tries_left, info_of(t).pin_tries_max);
    ck_status(hsm_pin_change(t, HSM_ROLE_USER, text(machine), text("short"), true), HSM_ERR_PIN_FORMAT);
    ck_ok(hsm_pin_change(t, HSM_ROLE_USER, text(machine), text(user_pin), false));
    ck_assert(!info_of(t).machine_pin);
    start = now_s();
    ck_ok(hsm_login(t, HSM_ROLE_USER, text(user_pin)));
    ck_assert(now_s() - start > machine_s); /* stretched, with as much memory as the SO PIN */
}
END_TEST

/* ---- retry counters and processes -----------------------------------------------------------------------
 */

/* Children that all start logging in at the same moment; how many got which status. */
static void login_at_once(const char *pin, int children, int *ok, int *wrong, int *locked)
{
    int go[2], i, status;
    char c;

    *ok = *wrong = *locked = 0;
    ck_assert_int_eq(pipe(go), 0);
    for (i = 0; i < children; i++)
        if (fork() == 0) {
            struct hsm_ctx *own = new_context(NULL);
            struct hsm_token *t = NULL;
            hsm_status st = hsm_token_get(own, 0, &t);

            (void)close(go[1]);
            if (read(go[0], &c, 1) != 0 || st != HSM_OK)
                _exit(100);
            _exit((int)hsm_login(t, HSM_ROLE_USER, text(pin)));
        }
    (void)close(go[0]);
    (void)close(go[1]);
    for (i = 0; i < children; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert(WIFEXITED(status));
        *ok += WEXITSTATUS(status) == HSM_OK;
        *wrong += WEXITSTATUS(status) == HSM_ERR_PIN_INCORRECT;
        *locked += WEXITSTATUS(status) == HSM_ERR_PIN_LOCKED;
    }
}

static void create_with_tries(unsigned tries, uint64_t kdf_memory)
{
    struct hsm_token_init init = default_init();

    init.pin_tries_max = tries;
    init.kdf_memory = kdf_memory;
    ck_ok(hsm_token_create(ctx, 0, &init));
    tok = get_token(ctx);
}

START_TEST(many_right_logins_at_once_never_lock)
{
    int ok, wrong, locked;

    create_with_tries(1, 4 << 20);
    login_at_once(user_pin, 12, &ok, &wrong, &locked);
    ck_assert_int_eq(ok, 12);
    ck_assert_uint_eq(info_of(tok).pin_tries_left, 1);
}
END_TEST

START_TEST(many_wrong_logins_at_once_get_no_extra_tries)
{
    int ok, wrong, locked;

    create_with_tries(3, 4 << 20);
    login_at_once("wrong pin", 12, &ok, &wrong, &locked);
    ck_assert_int_eq(ok, 0);
    ck_assert_int_eq(wrong, 3);
    ck_assert_int_eq(locked, 9);
}
END_TEST

/* Killed between the counting and the check: the try is lost, and nobody waits for the dead. */
START_TEST(retry_counter_survives_a_kill_in_mid_login)
{
    double deadline = now_s() + 60;
    int status;
    pid_t pid;

    create_with_tries(5, 128 << 20);
    if ((pid = fork()) == 0) {
        struct hsm_ctx *own = new_context(NULL);
        struct hsm_token *t = NULL;

        while (hsm_token_get(own, 0, &t) == HSM_OK &&
               hsm_login(t, HSM_ROLE_USER, text("wrong pin")) == HSM_ERR_PIN_INCORRECT)
            ;
        _exit(0);
    }
    while (info_of(tok).pin_tries_left == 5 && now_s() < deadline)
        (void)sched_yield();
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    ck_assert_uint_lt(info_of(tok).pin_tries_left, 5);
    ck_ok(hsm_login(tok, HSM_ROLE_USER, text(user_pin)));
    ck_assert_uint_eq(info_of(tok).pin_tries_left, 5);
}
END_TEST

/* ---- crashes --------------------------------------------------------------------------------------------
 */

static void write_until_killed(int progress)
{
    struct hsm_ctx *own = new_context(NULL);
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY }, data = { .cls = HSM_CLASS_DATA };
    struct hsm_token *t = NULL;
    char label[32], big[20000] = { 0 };
    hsm_handle key, blob;
    int i;

    spec.label = data.label = label;
    if (hsm_token_get(own, 0, &t) != HSM_OK || hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK ||
        hsm_kind_parse("ec:P-256", &spec.kind) != HSM_OK)
        _exit(1);
    for (i = 0;; i++) {
        (void)snprintf(label, sizeof(label), "%d-%d", (int)getpid(), i);
        if (hsm_generate(t, &spec, &key) != HSM_OK ||
            hsm_put(t, &data, (struct hsm_bytes){ (uint8_t *)big, sizeof(big) }, &blob) != HSM_OK ||
            hsm_destroy(t, blob) != HSM_OK || (i % 3 != 0 && hsm_destroy(t, key) != HSM_OK) ||
            write(progress, "x", 1) != 1)
            _exit(2);
    }
}

START_TEST(killed_writers_leave_the_token_whole)
{
    int round, rounds = getenv("HSM_TEST_CRASH_ROUNDS") != NULL ? atoi(getenv("HSM_TEST_CRASH_ROUNDS")) : 60;
    struct hsm_ctx *fresh;
    struct hsm_token *t;
    int progress[2], status;
    unsigned short delay;
    struct timespec pause = { 0, 0 };
    char c;
    pid_t pid;

    for (round = 0; round < rounds; round++) {
        ck_assert_int_eq(pipe(progress), 0);
        if ((pid = fork()) == 0)
            write_until_killed(progress[1]);
        (void)close(progress[1]);
        ck_assert_int_eq(read(progress[0], &c, 1), 1); /* it is in the thick of it */
        ck_assert_int_eq(RAND_bytes((unsigned char *)&delay, sizeof(delay)), 1);
        pause.tv_nsec = delay * 100L; /* a random instant of the next 6.5 ms */
        (void)nanosleep(&pause, NULL);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status));
        (void)close(progress[0]);
        ck_ok(open_anew(&fresh, &t));
        ck_ok(hsm_login(t, HSM_ROLE_USER, text(user_pin)));
        ck_ok(hsm_find(t, NULL, sign_one, NULL));
        hsm_ctx_free(fresh);
        check_integrity();
    }
    ck_assert_uint_gt(count_objects(tok), 0);
}
END_TEST

/* As after a power cut in mid-commit: pages are overwritten, the journal lies beside the file. */
static void leave_hot_journal(void)
{
    char journal[sizeof(token_path) + 16];
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        sqlite3 *db;

        if (sqlite3_open(token_path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "BEGIN IMMEDIATE; UPDATE object SET label = 'half', value = zeroblob(9000)",
                         NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_db_cacheflush(db) != SQLITE_OK)
            _exit(1);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    (void)snprintf(journal, sizeof(journal), "%s-journal", token_path);
    ck_assert_int_eq(access(journal, F_OK), 0);
}

START_TEST(interrupted_write_is_undone)
{
    struct hsm_object obj;
    struct hsm_ctx *fresh;
    struct hsm_token *t;

    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(tok, &obj));
    leave_hot_journal();
    ck_ok(sign_default(tok, &obj)); /* a process that was running */
    leave_hot_journal();
    ck_ok(open_anew(&fresh, &t)); /* and one that starts */
    ck_ok(hsm_login(t, HSM_ROLE_USER, text(user_pin)));
    ck_ok(find(t, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(sign_default(t, &obj));
    hsm_ctx_free(fresh);
    check_integrity();
}
END_TEST

static int hot_reader_body(void)
{
    hsm_status st = status_of_opening();

    return st == HSM_ERR_READ_ONLY && strstr(hsm_error_text(st), "interrupted write") != NULL ? 0 : 1;
}

START_TEST(interrupted_write_is_explained_to_readers)
{
    (void)generate(tok, "ec:P-256", "key");
    leave_hot_journal();
    ck_assert_int_eq(as_reader(hot_reader_body), 0);
    ck_ok(status_of_opening());
}
END_TEST

START_TEST(old_journal_never_gets_into_a_new_token)
{
    struct hsm_token_init init = default_init();

    (void)generate(tok, "ec:P-256", "key");
    leave_hot_journal();
    ck_ok(hsm_token_create(ctx, 0, &init));
    ck_ok(status_of_opening());
    check_integrity();
    tok = login(ctx);
    ck_assert_uint_eq(count_objects(tok), 0);
    (void)generate(tok, "ec:P-256", "key");
    leave_hot_journal();
    ck_assert_int_eq(unlink(token_path), 0); /* its journal stays */
    init.force = false;
    ck_ok(hsm_token_create(ctx, 0, &init));
    ck_ok(status_of_opening());
    check_integrity();
}
END_TEST

/* ---- no space -------------------------------------------------------------------------------------------
 */

static int fill_up(void)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA };
    struct hsm_ctx *own = new_context(NULL);
    struct hsm_token *t = NULL;
    char label[32], big[3000] = { 0 };
    hsm_handle handle;
    hsm_status st = HSM_OK;
    int i;

    spec.label = label;
    if (hsm_token_get(own, 0, &t) != HSM_OK || hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK)
        return 1;
    for (i = 0; i < 1000 && st == HSM_OK; i++) {
        (void)snprintf(label, sizeof(label), "fill %d", i);
        st = hsm_put(t, &spec, (struct hsm_bytes){ (uint8_t *)big, sizeof(big) }, &handle);
    }
    if (st != HSM_ERR_TOKEN_FULL || strstr(hsm_error_text(st), token_path) == NULL) {
        (void)fprintf(stderr, "%s\n", hsm_error_text(st));
        return 2;
    }
    return hsm_find(t, NULL, sign_one, NULL) == HSM_OK ? 0 : 3;
}

static int fill_up_limited(void)
{
    struct rlimit limit = { 100000, 100000 };

    (void)signal(SIGXFSZ, SIG_IGN);
    return setrlimit(RLIMIT_FSIZE, &limit) == 0 ? fill_up() : 99;
}

START_TEST(no_space_is_reported_and_loses_nothing)
{
    int status;
    pid_t pid;

    (void)generate(tok, "ec:P-256", "key");
    if ((pid = fork()) == 0)
        _exit(fill_up_limited());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    check_integrity();
    ck_assert_uint_gt(count_objects(tok), 5);
    ck_ok(hsm_find(tok, NULL, sign_one, NULL));
}
END_TEST

/* A real full file system, in a mount namespace of its own. */
static int fill_up_tmpfs(void)
{
    struct hsm_token_init init = default_init();
    struct hsm_ctx *own;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", temp_dir, "tmpfs", 0, "size=200k") != 0)
        return 77;
    own = new_context(NULL);
    init.force = false;
    if (hsm_token_create(own, 0, &init) != HSM_OK)
        return 98;
    hsm_ctx_free(own);
    return fill_up();
}

START_TEST(full_file_system_is_reported_and_loses_nothing)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(fill_up_tmpfs());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77, "exit status %d",
                  WEXITSTATUS(status));
}
END_TEST

START_TEST(creation_without_space_leaves_nothing)
{
    struct rlimit limit = { 5000, 5000 };
    struct hsm_token_init init = default_init();
    size_t before = files_in_temp_dir();
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)signal(SIGXFSZ, SIG_IGN);
        _exit(setrlimit(RLIMIT_FSIZE, &limit) == 0 ? (int)hsm_token_create(ctx, 0, &init) : 99);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), HSM_ERR_TOKEN_FULL);
    ck_assert_uint_eq(files_in_temp_dir(), before);
    ck_ok(status_of_opening());
}
END_TEST

/* ---- several processes ----------------------------------------------------------------------------------
 */

static const char *worker_name;

static void *create_sign_destroy(void *arg)
{
    struct hsm_token *t = arg;
    struct hsm_object_spec spec = key_spec("ec:P-256", NULL);
    struct hsm_object obj;
    char label[64];
    static atomic_int counter;
    int i;

    spec.label = label;
    for (i = 0; i < 10; i++) {
        (void)snprintf(label, sizeof(label), "%s %d %d", worker_name, (int)getpid(), counter++);
        if (hsm_generate(t, &spec, &obj.handle) != HSM_OK ||
            find(t, HSM_URI_TYPE_PRIVATE, label, &obj) != HSM_OK || sign_default(t, &obj) != HSM_OK ||
            sign_default(t, &obj) != HSM_OK || hsm_destroy(t, obj.handle) != HSM_OK ||
            sign_default(t, &obj) != HSM_ERR_NO_OBJECT)
            return arg;
    }
    return NULL;
}

static int worker_process(void)
{
    struct hsm_ctx *own = new_context(NULL);
    struct hsm_token *t = NULL;
    pthread_t threads[2];
    void *failed[2];
    int i;

    worker_name = "worker";
    if (hsm_token_get(own, 0, &t) != HSM_OK || hsm_login(t, HSM_ROLE_USER, text(user_pin)) != HSM_OK)
        return 1;
    for (i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, create_sign_destroy, t) != 0)
            return 2;
    for (i = 0; i < 2; i++)
        (void)pthread_join(threads[i], &failed[i]);
    hsm_ctx_free(own);
    return failed[0] == NULL && failed[1] == NULL ? 0 : 3;
}

START_TEST(processes_and_threads_share_one_token)
{
    enum { PROCESSES = 4 };
    int i, status;
    struct hsm_object obj;

    (void)generate(tok, "ed25519", "permanent");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "permanent", &obj));
    for (i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            _exit(worker_process());
    for (i = 0; i < PROCESSES; i++) {
        while (waitpid(-1, &status, WNOHANG) == 0)
            ck_ok(sign_default(tok, &obj)); /* meanwhile */
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(count_objects(tok), 1);
    check_integrity();
}
END_TEST

START_TEST(destroyed_elsewhere_is_gone_at_the_next_signature)
{
    struct hsm_object obj;
    int status, i;
    pid_t pid;

    for (i = 0; i < 20; i++) {
        (void)generate(tok, "ec:P-256", "key");
        ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
        ck_ok(sign_default(tok, &obj));
        if ((pid = fork()) == 0) {
            struct hsm_ctx *own = new_context(NULL);
            struct hsm_token *t = NULL;

            _exit(hsm_token_get(own, 0, &t) == HSM_OK &&
                          hsm_login(t, HSM_ROLE_USER, text(user_pin)) == HSM_OK &&
                          hsm_destroy(t, obj.handle) == HSM_OK
                      ? 0
                      : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_status(sign_default(tok, &obj), HSM_ERR_NO_OBJECT);
    }
}
END_TEST

START_TEST(replaced_file_is_noticed)
{
    struct hsm_token_init init = default_init();
    struct hsm_ctx *other = new_context(NULL);
    double deadline = now_s() + 60;
    struct hsm_object obj;
    hsm_status st = HSM_OK;

    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_ok(hsm_token_create(other, 0, &init));
    while (st == HSM_OK && now_s() < deadline)
        st = sign_default(tok, &obj);
    ck_status(st, HSM_ERR_TOKEN_GONE);
    tok = login(ctx); /* opened anew */
    ck_assert_uint_eq(count_objects(tok), 0);
    (void)generate(tok, "ec:P-256", "key");
    hsm_ctx_free(other);
}
END_TEST

START_TEST(vanished_path_does_not_stop_an_open_token)
{
    struct hsm_object obj;
    char moved[sizeof(token_path) + 8];

    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    (void)snprintf(moved, sizeof(moved), "%s.away", token_path);
    ck_assert_int_eq(rename(token_path, moved), 0);
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj)); /* looks at the path at once */
    ck_ok(sign_default(tok, &obj));
}
END_TEST

START_TEST(more_keys_than_the_cache_holds)
{
    enum { MANY = 100 };
    char label[32];
    struct hsm_object obj;
    int i, round;

    for (i = 0; i < MANY; i++) {
        (void)snprintf(label, sizeof(label), "k%d", i);
        (void)generate(tok, "ed25519", label);
    }
    for (round = 0; round < 2; round++)
        for (i = 0; i < MANY; i++) {
            (void)snprintf(label, sizeof(label), "k%d", i);
            ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, label, &obj));
            ck_ok(sign_default(tok, &obj));
        }
}
END_TEST

static void *fork_all_the_time(void *arg)
{
    struct hsm_object *obj = arg;
    int status, i;
    pid_t pid;

    for (i = 0; i < 30; i++) {
        if ((pid = fork()) == 0) {
            struct hsm_token *t;

            (void)alarm(100); /* a child that waits for a lock nobody holds */
            _exit(hsm_token_get(ctx, 0, &t) == HSM_OK && find(t, HSM_URI_TYPE_PRIVATE, "key", obj) == HSM_OK
                      ? 0
                      : 1);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return arg;
    }
    return NULL;
}

/* SQLite's knowledge of its locks is inherited, the locks are not: no fork may happen inside SQLite. */
START_TEST(fork_while_other_threads_use_the_file)
{
    struct hsm_object obj, mine;
    pthread_t forker;
    void *failed = &obj;

    if (dlsym(RTLD_DEFAULT, "__asan_init") != NULL)
        return; /* its malloc() is not made for a fork while other threads run */
    (void)generate(tok, "ec:P-256", "key");
    ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &obj));
    ck_assert_int_eq(pthread_create(&forker, NULL, fork_all_the_time, &obj), 0);
    while (pthread_tryjoin_np(forker, &failed) == EBUSY)
        ck_ok(find(tok, HSM_URI_TYPE_PRIVATE, "key", &mine));
    ck_assert_ptr_null(failed);
}
END_TEST

/* ---- core dumps -----------------------------------------------------------------------------------------
 */

static hsm_status victim_signs(void *arg, struct hsm_token *t, const struct hsm_object *obj)
{
    struct hsm_mech mech = default_mech(&obj->kind);
    uint8_t in[32] = { 1 }, sig[HSM_SIGNATURE_MAX];
    struct hsm_buf out = { sig, sizeof(sig), 0 };

    return mech.type == HSM_MECH_NONE ? HSM_OK
                                      : hsm_sign(t, obj->handle, &mech, (struct hsm_bytes){ in, 32 }, &out);
}

static int victim_lives(const char *pin_source)
{
    struct hsm_config *cfg;
    struct hsm_token *t;

    if (hsm_config_new(&cfg) != HSM_OK || hsm_config_set(cfg, "token", token_spec) != HSM_OK ||
        hsm_config_set(cfg, "pin-source", pin_source) != HSM_OK || hsm_config_finish(cfg) != HSM_OK ||
        hsm_ctx_new(cfg, &ctx) != HSM_OK || hsm_token_get(ctx, 0, &t) != HSM_OK ||
        hsm_login_configured(t) != HSM_OK || hsm_find(t, NULL, victim_signs, NULL) != HSM_OK ||
        hsm_find(t, NULL, victim_signs, NULL) != HSM_OK)
        return 1;
    (void)puts("ready");
    (void)fflush(stdout);
    (void)pause();
    return 0;
}

/*
 * The program whose core is taken: this one, started anew, so that nothing of the test is in its memory. It
 * logs in with the PIN from the file, signs with every key, says so and waits.
 */
static int core_victim(const char *spec, const char *pin_source)
{
    char *marker = malloc(32); /* proves that the search finds what is in ordinary memory */
    size_t i;

    (void)snprintf(token_spec, sizeof(token_spec), "%s", spec);
    for (i = 0; i < 32; i++)
        marker[i] = (char)('A' + (i * 7) % 26);
    return victim_lives(pin_source) + (marker[31] == 0);
}

static bool image_has(const uint8_t *image, size_t image_len, const uint8_t *needle, size_t len)
{
    uint8_t reversed[512];
    size_t i;

    for (i = 0; i < len; i++)
        reversed[i] = needle[len - 1 - i]; /* libcrypto's numbers are little-endian */
    return memmem(image, image_len, needle, len) != NULL || memmem(image, image_len, reversed, len) != NULL;
}

static pid_t start_victim(const char *pin_source)
{
    char line[16] = "", self[512] = "";
    int out[2];
    pid_t pid;

    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
    ck_assert_int_eq(pipe(out), 0);
    if ((pid = fork()) == 0) {
        (void)dup2(out[1], 1);
        (void)execl(self, "test_soft", "--core-victim", token_spec, pin_source, (char *)NULL);
        _exit(99);
    }
    (void)close(out[1]);
    ck_assert_int_eq(read(out[0], line, 5), 5);
    ck_assert_str_eq(line, "ready");
    (void)close(out[0]);
    return pid;
}

static uint8_t *read_image(const char *path, size_t *len)
{
    struct stat sb;
    uint8_t *image;
    FILE *f;

    ck_assert_int_eq(stat(path, &sb), 0);
    ck_assert_ptr_nonnull(image = malloc((size_t)sb.st_size));
    ck_assert_ptr_nonnull(f = fopen(path, "r"));
    *len = fread(image, 1, (size_t)sb.st_size, f);
    (void)fclose(f);
    return image;
}

static size_t import_and_note(const char *kind, uint8_t secret[64])
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = kind };
    EVP_PKEY *pkey = software_key(kind);
    struct hsm_bytes der = to_pkcs8(pkey);
    BIGNUM *d = NULL;
    hsm_handle handle;
    size_t len = 64;

    ck_ok(hsm_import(tok, &spec, der, &handle));
    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1)
        len = (size_t)BN_bn2bin(d, secret);
    else
        ck_assert_int_eq(EVP_PKEY_get_raw_private_key(pkey, secret, &len), 1);
    BN_clear_free(d);
    free_bytes(der);
    EVP_PKEY_free(pkey);
    return len;
}

/* The private exponent, the primes and the rest of the private numbers of an RSA key. */
enum { RSA_SECRETS = 6 };
static void import_rsa_and_note(const char *label, BIGNUM *numbers[RSA_SECRETS])
{
    static const char *const names[RSA_SECRETS] = {
        OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
        OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1
    };
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY, .label = label };
    EVP_PKEY *pkey = software_key("rsa:2048");
    struct hsm_bytes der = to_pkcs8(pkey);
    hsm_handle handle;
    size_t i;

    ck_ok(hsm_import(tok, &spec, der, &handle));
    for (i = 0; i < RSA_SECRETS; i++) {
        numbers[i] = NULL;
        ck_assert_int_eq(EVP_PKEY_get_bn_param(pkey, names[i], &numbers[i]), 1);
    }
    free_bytes(der);
    EVP_PKEY_free(pkey);
}

static void check_rsa_absent(const uint8_t *image, size_t image_len, BIGNUM *numbers[RSA_SECRETS])
{
    uint8_t bytes[512];
    size_t i;

    for (i = 0; i < RSA_SECRETS; i++) {
        int len = BN_bn2bin(numbers[i], bytes);

        ck_assert_msg(!image_has(image, image_len, bytes, (size_t)len),
                      "private number %zu of RSA is in the core", i);
        BN_free(numbers[i]);
    }
}

/* A core image of a process that has logged in and signed holds neither PIN nor key. */
START_TEST(core_image_holds_no_secret)
{
    static const char *const some[] = { "ec:P-256", "ec:P-384", "ed25519", "ed448", "x25519" };
    static const char pin[] = "Zq7-this PIN is looked for-Zq7";
    uint8_t secrets[COUNT(some)][64], marker[32], *image;
    size_t lens[COUNT(some)], image_len, i;
    BIGNUM *rsa[RSA_SECRETS];
    char command[512], path[128], source[160];
    int status;
    FILE *f;
    pid_t pid;

    if (system("command -v gdb >/dev/null 2>&1") != 0) {
        (void)fprintf(stderr, "core_image_holds_no_secret: skipped, there is no gdb\n");
        return;
    }
    if (sanitized()) {
        (void)fprintf(stderr, "core_image_holds_no_secret: skipped, a sanitizer's core has terabytes\n");
        return;
    }
    for (i = 0; i < COUNT(some); i++)
        lens[i] = import_and_note(some[i], secrets[i]);
    import_rsa_and_note("rsa", rsa);
    ck_ok(hsm_pin_change(tok, HSM_ROLE_USER, text(user_pin), text(pin), false));
    (void)snprintf(path, sizeof(path), "%s/pin", temp_dir);
    ck_assert_ptr_nonnull(f = fopen(path, "w"));
    (void)fputs(pin, f);
    (void)fclose(f);
    ck_assert_int_eq(chmod(path, 0600), 0);
    (void)snprintf(source, sizeof(source), "file:%s", path);
    pid = start_victim(source);
    (void)snprintf(command, sizeof(command),
                   "gdb -q -batch -p %d -ex 'gcore %s/core' </dev/null >%s/gdb.log 2>&1", (int)pid, temp_dir,
                   temp_dir);
    status = system(command);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)snprintf(path, sizeof(path), "%s/core", temp_dir);
    if (status != 0 || access(path, R_OK) != 0) {
        (void)fprintf(stderr, "core_image_holds_no_secret: skipped, gdb may not attach\n");
        return;
    }
    image = read_image(path, &image_len);
    for (i = 0; i < sizeof(marker); i++)
        marker[i] = (uint8_t)('A' + (i * 7) % 26);
    ck_assert_msg(image_has(image, image_len, marker, sizeof(marker)), "the search finds nothing at all");
    for (i = 0; i < COUNT(some); i++)
        ck_assert_msg(!image_has(image, image_len, secrets[i], lens[i]),
                      "the private key of %s is in the core", some[i]);
    check_rsa_absent(image, image_len, rsa);
    ck_assert_msg(!image_has(image, image_len, (const uint8_t *)pin, strlen(pin)), "the PIN is in the core");
    free(image);
}
END_TEST

static void add_file_tests(Suite *s)
{
    TCase *tc = tcase_create("file");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, file_mode_is_exactly_what_was_asked_for);
    tcase_add_test(tc, failed_creation_leaves_nothing);
    tcase_add_test(tc, missing_file_and_directory_are_told_apart);
    tcase_add_test(tc, foreign_files_are_refused_and_kept);
    tcase_add_test(tc, newer_format_is_refused_clearly);
    tcase_add_test(tc, other_journal_mode_is_refused_clearly);
    tcase_add_test(tc, parameters_are_refused);
    tcase_add_test(tc, every_truncation_of_the_file_is_survived);
    tcase_add_loop_test(tc, edited_object_is_never_used, 0, COUNT(object_edits));
    tcase_add_test(tc, edited_data_object_is_never_returned);
    tcase_add_loop_test(tc, edited_pin_or_schema_is_refused, 0, COUNT(pin_edits));
    tcase_add_test(tc, reader_without_write_access_signs_and_cannot_write);
    tcase_add_test(tc, program_that_drops_its_rights_still_signs);
    tcase_add_test(tc, link_to_a_token_is_followed);
    tcase_add_test(tc, locked_pin_is_locked_for_readers_too);
    tcase_add_test(tc, stranger_is_told_who_may_not);
    tcase_add_test(tc, no_space_is_reported_and_loses_nothing);
    tcase_add_test(tc, full_file_system_is_reported_and_loses_nothing);
    tcase_add_test(tc, creation_without_space_leaves_nothing);
    suite_add_tcase(s, tc);
}

static void add_process_tests(Suite *s)
{
    TCase *tc = tcase_create("processes");

    tcase_set_timeout(tc, 170);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, machine_pin_is_fast_counted_and_replaced);
    tcase_add_test(tc, many_right_logins_at_once_never_lock);
    tcase_add_test(tc, many_wrong_logins_at_once_get_no_extra_tries);
    tcase_add_test(tc, retry_counter_survives_a_kill_in_mid_login);
    tcase_add_test(tc, killed_writers_leave_the_token_whole);
    tcase_add_test(tc, interrupted_write_is_undone);
    tcase_add_test(tc, interrupted_write_is_explained_to_readers);
    tcase_add_test(tc, old_journal_never_gets_into_a_new_token);
    tcase_add_test(tc, processes_and_threads_share_one_token);
    tcase_add_test(tc, destroyed_elsewhere_is_gone_at_the_next_signature);
    tcase_add_test(tc, replaced_file_is_noticed);
    tcase_add_test(tc, vanished_path_does_not_stop_an_open_token);
    tcase_add_test(tc, more_keys_than_the_cache_holds);
    tcase_add_test(tc, fork_while_other_threads_use_the_file);
    tcase_add_test(tc, core_image_holds_no_secret);
    suite_add_tcase(s, tc);
}

int main(int argc, char **argv)
{
    Suite *s = suite_create("soft");

    clean_environment();
    if (argc == 4 && strcmp(argv[1], "--core-victim") == 0)
        return core_victim(argv[2], argv[3]);
    add_file_tests(s);
    add_process_tests(s);
    return run_suite(s);
}
