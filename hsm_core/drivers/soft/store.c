/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token file: SQLite with a rollback journal, so that whoever may only read the file can use the token
 * (WAL needs write access to readers), and so that one number in the header changes with every commit. The
 * file is not trusted: its schema must be ours word by word, and every column is checked for type, length and
 * range before use.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* clang-format off */
static const char *const tables[][2] = {
    { "token", "CREATE TABLE token(id INTEGER PRIMARY KEY CHECK(id = 1), uuid BLOB NOT NULL, label TEXT NOT NULL,"
               " created INTEGER NOT NULL)" },
    { "pin", "CREATE TABLE pin(role INTEGER PRIMARY KEY, kdf INTEGER NOT NULL, salt BLOB NOT NULL, n INTEGER NOT NULL,"
             " r INTEGER NOT NULL, p INTEGER NOT NULL, wrapped BLOB NOT NULL, digest BLOB NOT NULL,"
             " tries_max INTEGER NOT NULL, tries_left INTEGER NOT NULL)" },
    { "object", "CREATE TABLE object(handle INTEGER PRIMARY KEY AUTOINCREMENT, class INTEGER NOT NULL,"
                " type INTEGER NOT NULL, curve INTEGER NOT NULL, bits INTEGER NOT NULL, label TEXT NOT NULL,"
                " id BLOB NOT NULL, usage INTEGER NOT NULL, extractable INTEGER NOT NULL, origin INTEGER NOT NULL,"
                " created INTEGER NOT NULL, spki BLOB NOT NULL, value BLOB NOT NULL, UNIQUE(class, label))" },
};
/* clang-format on */

/* The header of a SQLite file: https://www.sqlite.org/fileformat2.html section 1.3 */
enum {
    HEADER_LEN = 100,
    HEADER_WRITE_VERSION = 18,
    HEADER_COUNTER = 24,
    HEADER_USER_VERSION = 60,
    HEADER_APP_ID = 68
};
static const char header_magic[16] = "SQLite format 3";

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void soft_sql_lock(struct soft_token *t)
{
    (void)pthread_mutex_lock(&t->sql);
}

void soft_sql_unlock(struct soft_token *t)
{
    (void)pthread_mutex_unlock(&t->sql);
}

/* ---- rights ---------------------------------------------------------------------------------------------
 */

bool soft_store_writable(const struct soft_token *t)
{
    char dir[sizeof(t->real_path)];
    char *slash;

    if (t->read_only)
        return false;
    (void)snprintf(dir, sizeof(dir), "%s", t->real_path);
    if ((slash = strrchr(dir, '/')) == NULL)
        return false;
    slash[slash == dir ? 1 : 0] = '\0';
    return faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0; /* for the journal */
}

hsm_status soft_store_want_writable(const struct soft_token *t)
{
    if (soft_store_writable(t))
        return HSM_OK;
    return hsm_fail(HSM_ERR_READ_ONLY,
                    "%s cannot be written by uid %u: the file and its directory must be writable", t->where,
                    (unsigned)geteuid());
}

/* ---- errors ---------------------------------------------------------------------------------------------
 */

hsm_status soft_store_damaged(const struct soft_token *t, const char *what)
{
    return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s is damaged or was tampered with (%s): restore it from a backup",
                    t->where, what);
}

static hsm_status fail_io(struct soft_token *t, const char *doing)
{
    int err = 0, code = sqlite3_extended_errcode(t->db);

    if (code == SQLITE_IOERR_NOMEM)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory %s %s", doing, t->where);
    (void)sqlite3_file_control(t->db, "main", SQLITE_FCNTL_LAST_ERRNO,
                               &err); /* errno itself is lost in the rollback */
    if (err == ENOSPC || err == EDQUOT || err == EFBIG)
        return hsm_fail(HSM_ERR_TOKEN_FULL, "no space left %s %s: free some space; nothing was changed",
                        doing, t->where);
    return hsm_fail(HSM_ERR_TOKEN_IO, "input/output error %s %s: %s (SQLite %d)", doing, t->where,
                    err != 0 ? strerror(err) : "cause unknown", code);
}

static hsm_status fail_read_only(struct soft_token *t, const char *doing)
{
    switch (sqlite3_extended_errcode(t->db)) {
    case SQLITE_READONLY_DBMOVED:
        return hsm_fail(HSM_ERR_TOKEN_GONE, "%s was replaced by another file while it was open", t->where);
    case SQLITE_READONLY_ROLLBACK:
        return hsm_fail(HSM_ERR_READ_ONLY,
                        "%s holds an interrupted write that must be undone, and uid %u may not write "
                        "to it: run `hsmctl token info` as its owner",
                        t->where, (unsigned)geteuid());
    default:
        return hsm_fail(HSM_ERR_READ_ONLY,
                        "%s cannot be written by uid %u (%s): the file and its directory must be "
                        "writable",
                        t->where, (unsigned)geteuid(), doing);
    }
}

hsm_status soft_store_fail(struct soft_token *t, const char *doing)
{
    switch (sqlite3_errcode(t->db) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return hsm_fail(HSM_ERR_BUSY, "%s is busy: another program kept it locked for %d s; try again",
                        t->where, SOFT_BUSY_MS / 1000);
    case SQLITE_NOMEM:
        return hsm_fail(HSM_ERR_MEMORY, "out of memory %s %s", doing, t->where);
    case SQLITE_FULL:
        return hsm_fail(HSM_ERR_TOKEN_FULL, "no space left %s %s: free some space; nothing was changed",
                        doing, t->where);
    case SQLITE_IOERR:
        return fail_io(t, doing);
    case SQLITE_READONLY:
        return fail_read_only(t, doing);
    case SQLITE_CANTOPEN: /* the journal */
    case SQLITE_PERM:
    case SQLITE_AUTH:
        if (!soft_store_writable(t))
            return hsm_fail(HSM_ERR_DENIED, "%s cannot be opened by uid %u", t->where, (unsigned)geteuid());
        return fail_read_only(t, doing);
    case SQLITE_NOTADB:
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s is not a token: the file has another format", t->where);
    default:
        return soft_store_damaged(t, sqlite3_errmsg(t->db));
    }
}

/* ---- statements -----------------------------------------------------------------------------------------
 */

hsm_status soft_store_prepare(struct soft_token *t, const char *sql, sqlite3_stmt **stmt)
{
    if (sqlite3_prepare_v2(t->db, sql, -1, stmt, NULL) != SQLITE_OK)
        return soft_store_fail(t, "reading");
    return HSM_OK;
}

static hsm_status run(struct soft_token *t, const char *sql, const char *doing)
{
    if (sqlite3_exec(t->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return soft_store_fail(t, doing);
    return HSM_OK;
}

/* ---- transactions ---------------------------------------------------------------------------------------
 */

hsm_status soft_store_begin(struct soft_token *t, bool write)
{
    hsm_status st;

    if (!write)
        return run(t, "BEGIN", "reading");
    if ((st = soft_store_want_writable(t)) != HSM_OK)
        return st;
    return run(t, "BEGIN IMMEDIATE", "writing");
}

hsm_status soft_store_commit(struct soft_token *t)
{
    hsm_status st = run(t, "COMMIT", "writing");

    soft_store_rollback(t); /* a COMMIT that failed leaves the transaction open */
    return st;
}

void soft_store_rollback(struct soft_token *t)
{
    if (sqlite3_get_autocommit(t->db) == 0)
        (void)sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL);
}

static bool read_file(struct soft_token *t, void *out, int len, sqlite3_int64 offset)
{
    return t->file->pMethods != NULL && t->file->pMethods->xRead(t->file, out, len, offset) == SQLITE_OK;
}

/*
 * Bytes 24..27 change with every commit that is not in WAL mode. A counter seen here may belong to a commit
 * that is still under way or will be undone; so it is only ever compared, and remembered only when read
 * within a transaction.
 */
bool soft_store_counter_locked(struct soft_token *t, uint32_t *counter)
{
    uint8_t buf[4];

    if (!read_file(t, buf, sizeof(buf), HEADER_COUNTER))
        return false;
    *counter = get_be32(buf);
    return true;
}

bool soft_store_counter(struct soft_token *t, uint32_t *counter)
{
    bool ok;

    if (t->concurrent_read)
        return soft_store_counter_locked(t, counter);
    soft_sql_lock(t);
    ok = soft_store_counter_locked(t, counter);
    soft_sql_unlock(t);
    return ok;
}

/* ---- opening --------------------------------------------------------------------------------------------
 */

static hsm_status fail_path(const struct soft_token *t, int err)
{
    if (err == ENOENT || err == ENOTDIR)
        return hsm_fail(HSM_ERR_NO_TOKEN,
                        "%s does not exist: make it with `hsmctl token init`, or correct `token =`",
                        t->where);
    if (err == EACCES || err == EPERM)
        return hsm_fail(HSM_ERR_DENIED,
                        "%s may not be opened by uid %u gid %u: give its group access to the file (chgrp, "
                        "chmod g+r) and to the directories above it",
                        t->where, (unsigned)geteuid(), (unsigned)getegid());
    return hsm_fail(HSM_ERR_TOKEN_IO, "cannot open %s: %s", t->where, strerror(err));
}

static hsm_status check_header(struct soft_token *t)
{
    uint8_t h[HEADER_LEN];

    if (!read_file(t, h, sizeof(h), 0) || memcmp(h, header_magic, sizeof(header_magic)) != 0 ||
        get_be32(h + HEADER_APP_ID) != SOFT_APPLICATION_ID)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s is not a token: the file has another format", t->where);
    if (get_be32(h + HEADER_USER_VERSION) > SOFT_FORMAT)
        return hsm_fail(HSM_ERR_TOKEN_VERSION,
                        "%s has format version %" PRIu32 ", this program knows only %d: update hsm", t->where,
                        get_be32(h + HEADER_USER_VERSION), SOFT_FORMAT);
    if (get_be32(h + HEADER_USER_VERSION) < 1)
        return soft_store_damaged(t, "no format version");
    if (h[HEADER_WRITE_VERSION] != 1 || h[HEADER_WRITE_VERSION + 1] != 1)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT,
                        "%s was switched to another journal mode by some other program: stop its "
                        "users and run sqlite3 %s 'PRAGMA journal_mode=DELETE'",
                        t->where, t->path);
    return HSM_OK;
}

/* Nothing in the file may run code or take memory at will, and nothing goes to another file but the journal.
 */
static hsm_status configure(struct soft_token *t)
{
    static const int off[] = { SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_ENABLE_TRIGGER,
                               SQLITE_DBCONFIG_ENABLE_VIEW,    SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION,
                               SQLITE_DBCONFIG_DQS_DDL,        SQLITE_DBCONFIG_DQS_DML };
    size_t i;

    (void)sqlite3_extended_result_codes(t->db, 1);
    (void)sqlite3_busy_timeout(t->db, SOFT_BUSY_MS);
    (void)sqlite3_db_config(t->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    for (i = 0; i < COUNT(off); i++)
        (void)sqlite3_db_config(t->db, off[i], 0, NULL);
    (void)sqlite3_limit(t->db, SQLITE_LIMIT_LENGTH, 2 * HSM_DATA_MAX);
    (void)sqlite3_limit(t->db, SQLITE_LIMIT_SQL_LENGTH, 4096);
    (void)sqlite3_limit(t->db, SQLITE_LIMIT_ATTACHED, 0);
    return run(
        t,
        "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA secure_delete=ON;"
        "PRAGMA synchronous=EXTRA",
        "opening");
}

static bool schema_entry_known(const char *type, const char *name, const char *sql, unsigned *seen)
{
    size_t i;

    if (strcmp(type, "index") == 0)
        return strcmp(name, "sqlite_autoindex_object_1") == 0 && sql[0] == '\0';
    if (strcmp(type, "table") != 0)
        return false;
    for (i = 0; i < COUNT(tables); i++)
        if (strcmp(name, tables[i][0]) == 0 && strcmp(sql, tables[i][1]) == 0) {
            *seen |= 1u << i;
            return true;
        }
    return strcmp(name, "sqlite_sequence") == 0 || strncmp(name, "sqlite_stat", 11) == 0;
}

/* A view, a trigger or a table with other columns would make our statements do something else. */
static hsm_status check_schema(struct soft_token *t)
{
    sqlite3_stmt *stmt = NULL;
    unsigned seen = 0;
    hsm_status st;
    int rc = SQLITE_DONE;

    if ((st = soft_store_prepare(
             t, "SELECT ifnull(type, ''), ifnull(name, ''), ifnull(sql, '') FROM sqlite_master", &stmt)) !=
        HSM_OK)
        return st;
    while (st == HSM_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *type = (const char *)sqlite3_column_text(stmt, 0),
                   *name = (const char *)sqlite3_column_text(stmt, 1),
                   *sql = (const char *)sqlite3_column_text(stmt, 2);

        if (type == NULL || name == NULL || sql == NULL || !schema_entry_known(type, name, sql, &seen))
            st = soft_store_damaged(t, "unknown table, view or trigger");
    }
    if (st == HSM_OK && rc != SQLITE_DONE)
        st = soft_store_fail(t, "reading");
    (void)sqlite3_finalize(stmt);
    if (st == HSM_OK && seen != (1u << COUNT(tables)) - 1)
        st = soft_store_damaged(t, "a table is missing");
    return st;
}

static hsm_status open_connection(struct soft_token *t)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    struct stat sb;
    hsm_status st;

    if (stat(t->path, &sb) != 0)
        return fail_path(t, errno);
    if (!S_ISREG(sb.st_mode))
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s is not a token: not a regular file", t->where);
    /* falls back to reading only if it may not write */
    if (sqlite3_open_v2(t->path, &t->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK) {
        st = t->db == NULL
                 ? hsm_fail(HSM_ERR_MEMORY, "out of memory opening %s", t->where)
                 : fail_path(t, sqlite3_system_errno(t->db) != 0 ? sqlite3_system_errno(t->db) : EIO);
        soft_store_close(t);
        return st;
    }
    (void)sqlite3_file_control(t->db, "main", SQLITE_FCNTL_FILE_POINTER, &t->file);
    t->concurrent_read =
        vfs != NULL && vfs->iVersion >= 3 && vfs->xGetSystemCall != NULL &&
        (vfs->xGetSystemCall(vfs, "pread") != NULL || vfs->xGetSystemCall(vfs, "pread64") != NULL);
    (void)snprintf(t->real_path, sizeof(t->real_path), "%s", sqlite3_db_filename(t->db, "main"));
    t->read_only = sqlite3_db_readonly(t->db, "main") != 0;
    return HSM_OK;
}

/* Which file did we open? The path may have been given another one in between. */
static bool identify(struct soft_token *t)
{
    struct stat sb;
    int moved = 1;

    if (stat(t->path, &sb) != 0)
        return false;
    t->dev = sb.st_dev;
    t->ino = sb.st_ino;
    return sqlite3_file_control(t->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved == 0;
}

hsm_status soft_store_open(struct soft_token *t)
{
    hsm_status st;
    int tries = 3;

    while ((st = open_connection(t)) == HSM_OK && !identify(t) && --tries > 0)
        soft_store_close(t);
    if (st != HSM_OK)
        return st;
    if (tries == 0)
        st = hsm_fail(HSM_ERR_BUSY, "%s is being replaced: try again", t->where);
    else if ((st = check_header(t)) == HSM_OK && (st = configure(t)) == HSM_OK &&
             (st = soft_store_begin(t, false)) == HSM_OK && (st = check_schema(t)) == HSM_OK &&
             (st = soft_store_token(t)) == HSM_OK)
        st = soft_store_commit(t);
    if (st != HSM_OK)
        soft_store_close(t);
    return st;
}

void soft_store_close(struct soft_token *t)
{
    if (t->db != NULL) {
        soft_store_rollback(t);
        (void)sqlite3_close(t->db);
    }
    t->db = NULL;
    t->file = NULL;
}

/* ---- making a token -------------------------------------------------------------------------------------
 */

static hsm_status make_tables(struct soft_token *t)
{
    char pragmas[96];
    hsm_status st = HSM_OK;
    size_t i;

    for (i = 0; i < COUNT(tables) && st == HSM_OK; i++)
        st = run(t, tables[i][1], "writing");
    (void)snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id=%d; PRAGMA user_version=%d",
                   SOFT_APPLICATION_ID, SOFT_FORMAT);
    return st == HSM_OK ? run(t, pragmas, "writing") : st;
}

hsm_status soft_store_format(struct soft_token *t, const struct soft_pin *user, const struct soft_pin *so)
{
    hsm_status st;

    if ((st = open_connection(t)) != HSM_OK)
        return st;
    if ((st = configure(t)) == HSM_OK && (st = soft_store_begin(t, true)) == HSM_OK &&
        (st = make_tables(t)) == HSM_OK && (st = soft_store_put_token(t)) == HSM_OK &&
        (st = soft_store_put_pin(t, user)) == HSM_OK && (st = soft_store_put_pin(t, so)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_close(t);
    return st;
}

/* The header of whatever is there; through SQLite, because closing a descriptor of our own would drop its
 * locks. */
static bool looks_like_token(struct soft_token *t)
{
    uint8_t h[HEADER_LEN];

    return read_file(t, h, sizeof(h), 0) && memcmp(h, header_magic, sizeof(header_magic)) == 0 &&
           get_be32(h + HEADER_APP_ID) == SOFT_APPLICATION_ID;
}

hsm_status soft_store_freeze(struct soft_token *t, const char *path, sqlite3 **lock)
{
    struct soft_token old = { .db = NULL };
    struct stat sb;
    hsm_status st;
    int rc;

    *lock = NULL;
    (void)snprintf(old.where, sizeof(old.where), "%s", t->where);
    (void)snprintf(old.path, sizeof(old.path), "%s", path);
    if ((st = open_connection(&old)) != HSM_OK)
        return st;
    if (stat(path, &sb) == 0 && sb.st_size > 0 && !looks_like_token(&old)) {
        st = hsm_fail(HSM_ERR_TOKEN_FORMAT,
                      "%s is not a token: it is not overwritten; delete it or choose another path", t->where);
    } else {
        (void)sqlite3_busy_timeout(old.db, SOFT_BUSY_MS);
        rc = sqlite3_exec(old.db, "BEGIN EXCLUSIVE", NULL, NULL, NULL);
        if (rc == SQLITE_BUSY || rc == SQLITE_READONLY || rc == SQLITE_CANTOPEN)
            st = soft_store_fail(&old, "replacing");
    }
    if (st == HSM_OK)
        *lock = old.db;
    else
        soft_store_close(&old);
    return st;
}
