/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the token file. Whatever is read is checked for type, length and range first: the file is not
 * trusted. */
#include "internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

#define OBJECT_COLUMNS                                                                                       \
    "handle, class, type, curve, bits, label, id, usage, extractable, origin, created, spki, "               \
    "length(value), "                                                                                        \
    "typeof(value)"

/* Step a statement that returns no row, and finalize it. */
static hsm_status finish(struct soft_token *t, sqlite3_stmt *stmt)
{
    hsm_status st = HSM_OK;

    if (sqlite3_step(stmt) != SQLITE_DONE)
        st = soft_store_fail(t, "writing");
    (void)sqlite3_finalize(stmt);
    return st;
}

static void bind_blob(sqlite3_stmt *stmt, int i, const void *ptr, size_t len)
{
    if (len == 0)
        (void)sqlite3_bind_zeroblob(stmt, i, 0); /* a NULL pointer would bind NULL */
    else
        (void)sqlite3_bind_blob(stmt, i, ptr, (int)len, SQLITE_STATIC);
}

static bool column_int(sqlite3_stmt *stmt, int i, int64_t min, int64_t max, int64_t *value)
{
    *value = sqlite3_column_int64(stmt, i);
    return sqlite3_column_type(stmt, i) == SQLITE_INTEGER && *value >= min && *value <= max;
}

static bool column_blob(sqlite3_stmt *stmt, int i, size_t min, size_t max, void *out, size_t *len)
{
    const void *blob;
    size_t n;

    if (sqlite3_column_type(stmt, i) != SQLITE_BLOB)
        return false;
    blob = sqlite3_column_blob(stmt, i);
    n = (size_t)sqlite3_column_bytes(stmt, i);
    if (n < min || n > max || (n > 0 && blob == NULL))
        return false;
    if (n > 0)
        memcpy(out, blob, n);
    *len = n;
    return true;
}

static bool column_label(sqlite3_stmt *stmt, int i, char out[HSM_LABEL_MAX + 1])
{
    const unsigned char *text;
    size_t n;

    if (sqlite3_column_type(stmt, i) != SQLITE_TEXT || (text = sqlite3_column_text(stmt, i)) == NULL)
        return false;
    n = (size_t)sqlite3_column_bytes(stmt, i);
    if (n < 1 || n > HSM_LABEL_MAX || memchr(text, 0, n) != NULL ||
        !hsm_utf8_valid((struct hsm_bytes){ text, n }))
        return false;
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

/* ---- table token ----------------------------------------------------------------------------------------
 */

hsm_status soft_store_token(struct soft_token *t)
{
    sqlite3_stmt *stmt = NULL;
    size_t len;
    hsm_status st;
    int rc;

    if ((st = soft_store_prepare(t, "SELECT uuid, label FROM token WHERE id = 1", &stmt)) != HSM_OK)
        return st;
    if ((rc = sqlite3_step(stmt)) != SQLITE_ROW)
        st = rc == SQLITE_DONE ? soft_store_damaged(t, "no token row") : soft_store_fail(t, "reading");
    else if (!column_blob(stmt, 0, SOFT_UUID_LEN, SOFT_UUID_LEN, t->uuid, &len) ||
             !column_label(stmt, 1, t->label))
        st = soft_store_damaged(t, "token row");
    (void)sqlite3_finalize(stmt);
    return st;
}

hsm_status soft_store_put_token(struct soft_token *t)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_store_prepare(t, "INSERT INTO token VALUES(1, ?, ?, strftime('%s', 'now') + 0)", &stmt)) !=
        HSM_OK)
        return st;
    bind_blob(stmt, 1, t->uuid, sizeof(t->uuid));
    (void)sqlite3_bind_text(stmt, 2, t->label, -1, SQLITE_STATIC);
    return finish(t, stmt);
}

/* ---- table pin ------------------------------------------------------------------------------------------
 */

static bool read_pin_columns(sqlite3_stmt *stmt, struct soft_pin *pin, uint8_t digest[SOFT_DIGEST_LEN])
{
    int64_t kdf, n, r, p, max, left;
    size_t len;

    if (!column_int(stmt, 0, SOFT_KDF_SCRYPT, SOFT_KDF_HKDF, &kdf) ||
        !column_int(stmt, 2, 0, INT64_MAX, &n) || !column_int(stmt, 3, 0, UINT32_MAX, &r) ||
        !column_int(stmt, 4, 0, UINT32_MAX, &p) ||
        !column_blob(stmt, 1, SOFT_SALT_LEN, SOFT_SALT_LEN, pin->params.salt, &len) ||
        !column_blob(stmt, 5, SOFT_WRAPPED_LEN, SOFT_WRAPPED_LEN, pin->wrapped, &len) ||
        !column_blob(stmt, 6, SOFT_DIGEST_LEN, SOFT_DIGEST_LEN, digest, &len) ||
        !column_int(stmt, 7, 1, SOFT_TRIES_LIMIT, &max) || !column_int(stmt, 8, 0, max, &left))
        return false;
    pin->params.kdf = (enum soft_kdf)kdf;
    pin->params.n = (uint64_t)n;
    pin->params.r = (uint32_t)r;
    pin->params.p = (uint32_t)p;
    pin->tries_max = (unsigned)max;
    pin->tries_left = (unsigned)left;
    return soft_kdf_params_sane(&pin->params);
}

hsm_status soft_store_pin(struct soft_token *t, enum hsm_role role, struct soft_pin *pin)
{
    static const char sql[] =
        "SELECT kdf, salt, n, r, p, wrapped, digest, tries_max, tries_left FROM pin WHERE role = ?";
    uint8_t stored[SOFT_DIGEST_LEN], digest[SOFT_DIGEST_LEN];
    sqlite3_stmt *stmt = NULL;
    hsm_status st;
    int rc;

    *pin = (struct soft_pin){ .role = role };
    if ((st = soft_store_prepare(t, sql, &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int(stmt, 1, (int)role);
    if ((rc = sqlite3_step(stmt)) != SQLITE_ROW)
        st = rc == SQLITE_DONE ? soft_store_damaged(t, "no PIN row") : soft_store_fail(t, "reading");
    else if (!read_pin_columns(stmt, pin, stored))
        st = soft_store_damaged(t, "PIN row");
    (void)sqlite3_finalize(stmt);
    if (st == HSM_OK && (st = soft_pin_digest(t, pin, digest)) == HSM_OK &&
        memcmp(digest, stored, sizeof(digest)) != 0)
        st = soft_store_damaged(t, "PIN row");
    return st;
}

hsm_status soft_store_put_pin(struct soft_token *t, const struct soft_pin *pin)
{
    uint8_t digest[SOFT_DIGEST_LEN];
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_pin_digest(t, pin, digest)) != HSM_OK ||
        (st = soft_store_prepare(t, "INSERT OR REPLACE INTO pin VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                 &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int(stmt, 1, (int)pin->role);
    (void)sqlite3_bind_int(stmt, 2, (int)pin->params.kdf);
    bind_blob(stmt, 3, pin->params.salt, sizeof(pin->params.salt));
    (void)sqlite3_bind_int64(stmt, 4, (sqlite3_int64)pin->params.n);
    (void)sqlite3_bind_int64(stmt, 5, pin->params.r);
    (void)sqlite3_bind_int64(stmt, 6, pin->params.p);
    bind_blob(stmt, 7, pin->wrapped, sizeof(pin->wrapped));
    bind_blob(stmt, 8, digest, sizeof(digest));
    (void)sqlite3_bind_int(stmt, 9, (int)pin->tries_max);
    (void)sqlite3_bind_int(stmt, 10, (int)pin->tries_left);
    return finish(t, stmt);
}

hsm_status soft_store_set_tries(struct soft_token *t, enum hsm_role role, unsigned tries_left)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_store_prepare(t, "UPDATE pin SET tries_left = ? WHERE role = ?", &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int(stmt, 1, (int)tries_left);
    (void)sqlite3_bind_int(stmt, 2, (int)role);
    return finish(t, stmt);
}

/* ---- table object ---------------------------------------------------------------------------------------
 */

static bool read_numbers(sqlite3_stmt *stmt, struct hsm_object *obj)
{
    int64_t handle, cls, type, curve, bits, usage, extractable, origin, created;

    if (!column_int(stmt, 0, 1, INT64_MAX, &handle) ||
        !column_int(stmt, 1, HSM_CLASS_KEY, HSM_CLASS_COUNTER, &cls) ||
        !column_int(stmt, 2, HSM_KEY_NONE, HSM_KEY_X448, &type) ||
        !column_int(stmt, 3, HSM_CURVE_NONE, HSM_CURVE_BP384R1, &curve) ||
        !column_int(stmt, 4, 0, 65536, &bits) ||
        !column_int(stmt, 7, 0, (HSM_USAGE_VERIFY << 1) - 1, &usage) ||
        !column_int(stmt, 8, 0, 1, &extractable) ||
        !column_int(stmt, 9, HSM_ORIGIN_NONE, HSM_ORIGIN_IMPORTED, &origin) ||
        !column_int(stmt, 10, INT64_MIN, INT64_MAX, &created))
        return false;
    obj->handle = (hsm_handle)handle;
    obj->cls = (enum hsm_class)cls;
    obj->kind = (struct hsm_key_kind){ (enum hsm_key_type)type, (enum hsm_curve)curve, (unsigned)bits };
    obj->usage = (unsigned)usage;
    obj->extractable = extractable != 0;
    obj->origin = (enum hsm_origin)origin;
    obj->created_s = created;
    return true;
}

/* A key must say the same in its columns and in its public key. */
static bool kind_consistent(const struct hsm_object *obj)
{
    struct hsm_pubkey pub;

    if (obj->cls != HSM_CLASS_KEY)
        return obj->spki_len == 0;
    return hsm_pubkey_parse((struct hsm_bytes){ obj->spki, obj->spki_len }, &pub) == HSM_OK &&
           pub.kind.type == obj->kind.type && pub.kind.curve == obj->kind.curve &&
           pub.kind.bits == obj->kind.bits;
}

static bool value_len_sane(struct hsm_object *obj, int64_t len)
{
    if (obj->cls == HSM_CLASS_CERT) {
        obj->value_len = (size_t)len;
        return len <= HSM_DATA_MAX;
    }
    if (obj->cls == HSM_CLASS_COUNTER)
        return len == SOFT_COUNTER_VALUE_LEN;
    if (len < SOFT_SEAL_EXTRA || len > HSM_DATA_MAX + SOFT_SEAL_EXTRA)
        return false;
    obj->value_len = obj->cls == HSM_CLASS_DATA ? (size_t)len - SOFT_SEAL_EXTRA : 0;
    return obj->cls == HSM_CLASS_DATA || len <= HSM_PKCS8_MAX + SOFT_SEAL_EXTRA;
}

static hsm_status read_object(struct soft_token *t, sqlite3_stmt *stmt, struct hsm_object *obj)
{
    int64_t len;
    const unsigned char *type;

    memset(obj, 0, sizeof(*obj));
    type = sqlite3_column_text(stmt, 13);
    if (!read_numbers(stmt, obj) || !column_label(stmt, 5, obj->label) ||
        !column_blob(stmt, 6, 0, HSM_ID_MAX, obj->id, &obj->id_len) ||
        !column_blob(stmt, 11, 0, HSM_SPKI_MAX, obj->spki, &obj->spki_len) ||
        !column_int(stmt, 12, 0, HSM_DATA_MAX + SOFT_SEAL_EXTRA, &len) || type == NULL ||
        strcmp((const char *)type, "blob") != 0 || !value_len_sane(obj, len) || !kind_consistent(obj))
        return soft_store_damaged(t, "an object row");
    return HSM_OK;
}

static hsm_status copy_value(struct soft_token *t, sqlite3_stmt *stmt, int column, struct soft_row *row)
{
    const void *blob = sqlite3_column_blob(stmt, column);
    size_t len = (size_t)sqlite3_column_bytes(stmt, column);

    if (len > 0 && blob == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory reading %s", t->where);
    if ((row->value = malloc(len + 1)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory reading %s", t->where);
    if (len > 0)
        memcpy(row->value, blob, len);
    row->value_len = len;
    return HSM_OK;
}

hsm_status soft_store_object(struct soft_token *t, hsm_handle handle, bool want_value, struct soft_row *row)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;
    int rc;

    row->value = NULL;
    row->value_len = 0;
    if (handle == 0 || handle > INT64_MAX)
        return hsm_fail(HSM_ERR_NO_OBJECT, "no object with handle %" PRIu64 " on %s", handle, t->where);
    if ((st = soft_store_prepare(t, "SELECT " OBJECT_COLUMNS ", value FROM object WHERE handle = ?",
                                 &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)handle);
    if ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if ((st = read_object(t, stmt, &row->obj)) == HSM_OK && want_value)
            st = copy_value(t, stmt, 14, row);
    } else if (rc == SQLITE_DONE) {
        st = hsm_fail(HSM_ERR_NO_OBJECT, "object %" PRIu64 " is no longer on %s: it was deleted", handle,
                      t->where);
    } else {
        st = soft_store_fail(t, "reading");
    }
    (void)sqlite3_finalize(stmt);
    return st;
}

void soft_row_clear(struct soft_row *row)
{
    free(row->value);
    row->value = NULL;
    row->value_len = 0;
}

hsm_status soft_store_page(struct soft_token *t, hsm_handle after, enum hsm_class cls, const char *label,
                           struct hsm_object *objs, size_t max, size_t *count)
{
    bool narrow = cls != HSM_CLASS_ANY && label != NULL;
    sqlite3_stmt *stmt = NULL;
    hsm_status st;
    int rc = SQLITE_DONE;

    *count = 0;
    st = soft_store_prepare(
        t,
        narrow ? "SELECT " OBJECT_COLUMNS " FROM object WHERE handle > ?1 AND class = ?3 AND label = ?4"
               : "SELECT " OBJECT_COLUMNS " FROM object WHERE handle > ?1 ORDER BY handle LIMIT ?2",
        &stmt);
    if (st != HSM_OK)
        return st;
    (void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)after);
    (void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)max);
    if (narrow) {
        (void)sqlite3_bind_int(stmt, 3, (int)cls);
        (void)sqlite3_bind_text(stmt, 4, label, -1, SQLITE_STATIC);
    }
    while (st == HSM_OK && *count < max && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if ((st = read_object(t, stmt, &objs[*count])) == HSM_OK)
            (*count)++;
    if (st == HSM_OK && *count < max && rc != SQLITE_DONE)
        st = soft_store_fail(t, "reading");
    (void)sqlite3_finalize(stmt);
    return st;
}

hsm_status soft_store_label_free(struct soft_token *t, enum hsm_class cls, const char *label)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;
    int rc;

    if ((st = soft_store_prepare(t, "SELECT 1 FROM object WHERE class = ? AND label = ?", &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int(stmt, 1, (int)cls);
    (void)sqlite3_bind_text(stmt, 2, label, -1, SQLITE_STATIC);
    if ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        st = hsm_fail(HSM_ERR_EXISTS, "'%s' already exists on %s: delete it first or choose another name",
                      label, t->where);
    else if (rc != SQLITE_DONE)
        st = soft_store_fail(t, "reading");
    (void)sqlite3_finalize(stmt);
    return st;
}

hsm_status soft_store_insert(struct soft_token *t, struct hsm_object *obj)
{
    static const char sql[] = "INSERT INTO object VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, zeroblob(0))";
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_store_prepare(t, sql, &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int(stmt, 1, (int)obj->cls);
    (void)sqlite3_bind_int(stmt, 2, (int)obj->kind.type);
    (void)sqlite3_bind_int(stmt, 3, (int)obj->kind.curve);
    (void)sqlite3_bind_int(stmt, 4, (int)obj->kind.bits);
    (void)sqlite3_bind_text(stmt, 5, obj->label, -1, SQLITE_STATIC);
    bind_blob(stmt, 6, obj->id, obj->id_len);
    (void)sqlite3_bind_int(stmt, 7, (int)obj->usage);
    (void)sqlite3_bind_int(stmt, 8, obj->extractable);
    (void)sqlite3_bind_int(stmt, 9, (int)obj->origin);
    (void)sqlite3_bind_int64(stmt, 10, obj->created_s);
    bind_blob(stmt, 11, obj->spki, obj->spki_len);
    st = finish(t, stmt);
    obj->handle = (hsm_handle)sqlite3_last_insert_rowid(t->db);
    return st;
}

hsm_status soft_store_set_value(struct soft_token *t, hsm_handle handle, struct hsm_bytes value)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_store_prepare(t, "UPDATE object SET value = ? WHERE handle = ?", &stmt)) != HSM_OK)
        return st;
    bind_blob(stmt, 1, value.ptr, value.len);
    (void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)handle);
    return finish(t, stmt);
}

hsm_status soft_store_delete(struct soft_token *t, hsm_handle handle)
{
    sqlite3_stmt *stmt = NULL;
    hsm_status st;

    if ((st = soft_store_prepare(t, "DELETE FROM object WHERE handle = ?", &stmt)) != HSM_OK)
        return st;
    (void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)handle);
    if ((st = finish(t, stmt)) == HSM_OK && sqlite3_changes(t->db) == 0)
        st = hsm_fail(HSM_ERR_NO_OBJECT, "object %" PRIu64 " is no longer on %s: it was deleted", handle,
                      t->where);
    return st;
}
