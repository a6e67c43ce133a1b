/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects: keys and data sealed with AES-256-GCM, certificates in clear. The seal of an object also covers
 * all its attributes, its handle and the token, so that nobody can make a key extractable, give it another
 * name or swap two keys by editing the file.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 16 };

/** What a new key passes through on its way into the token. Secret memory. */
struct scratch {
    uint8_t numbers[HSM_PKCS8_MAX], pkcs8[HSM_PKCS8_MAX];
};

static void put_be(struct hsm_buf *out, uint64_t value, size_t len)
{
    while (len-- > 0)
        out->ptr[out->len++] = (uint8_t)(value >> (8 * len));
}

static void put_bytes(struct hsm_buf *out, const void *ptr, size_t len)
{
    put_be(out, len, 2);
    if (len > 0)
        memcpy(out->ptr + out->len, ptr, len);
    out->len += len;
}

_Static_assert(16 + SOFT_UUID_LEN + 8 + 4 + 8 + 8 + 2 + HSM_LABEL_MAX + 2 + HSM_ID_MAX + 2 + HSM_SPKI_MAX <=
                   SOFT_AAD_MAX,
               "attributes fit");

void soft_object_aad(const struct soft_token *t, const struct hsm_object *obj, struct hsm_buf *out)
{
    memcpy(out->ptr, "hsm soft object1", 16);
    memcpy(out->ptr + 16, t->uuid, SOFT_UUID_LEN);
    out->len = 16 + SOFT_UUID_LEN;
    put_be(out, obj->handle, 8);
    put_be(out, (uint64_t)obj->cls, 1);
    put_be(out, (uint64_t)obj->kind.type, 1);
    put_be(out, (uint64_t)obj->kind.curve, 1);
    put_be(out, obj->kind.bits, 4);
    put_be(out, obj->usage, 2);
    put_be(out, obj->extractable, 1);
    put_be(out, (uint64_t)obj->origin, 1);
    put_be(out, (uint64_t)obj->created_s, 8);
    put_bytes(out, obj->label, strlen(obj->label));
    put_bytes(out, obj->id, obj->id_len);
    put_bytes(out, obj->spki, obj->spki_len);
}

hsm_status soft_require_login(const struct soft_token *t)
{
    if (t->seal_key == NULL)
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "%s: log in first (pin-source in the configuration)", t->where);
    return HSM_OK;
}

hsm_status soft_object_unseal(struct soft_token *t, const struct soft_row *row, struct hsm_buf *out)
{
    uint8_t aad[SOFT_AAD_MAX];
    struct hsm_buf a = { aad, sizeof(aad), 0 };
    hsm_status st;

    if ((st = soft_require_login(t)) != HSM_OK)
        return st;
    soft_object_aad(t, &row->obj, &a);
    st = soft_unseal(t, t->seal_key, (struct hsm_bytes){ a.ptr, a.len },
                     (struct hsm_bytes){ row->value, row->value_len }, out);
    if (st == HSM_ERR_DATA)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT,
                        "'%s' on %s is damaged or was tampered with: its seal does not fit; restore "
                        "the token from a backup",
                        row->obj.label, t->where);
    return st == HSM_ERR_BUFFER ? hsm_fail(st, "'%s' does not fit into %zu bytes", row->obj.label, out->cap)
                                : st;
}

/* ---- looking --------------------------------------------------------------------------------------------
 */

/* Page by page, with the lock released while the caller looks: he may call back. */
hsm_status soft_enumerate(struct hsm_token *tok, enum hsm_class cls, const char *label, hsm_object_fn *each,
                          void *arg)
{
    struct soft_token *t = soft_of(tok);
    struct hsm_object *objs;
    hsm_handle after = 0;
    size_t count = PAGE, i;
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    if ((objs = malloc(PAGE * sizeof(*objs))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory listing %s", t->where);
    while (st == HSM_OK && count == PAGE) {
        soft_sql_lock(t);
        st = soft_store_page(t, after, cls, label, objs, PAGE, &count);
        soft_sql_unlock(t);
        for (i = 0; st == HSM_OK && i < count; i++) {
            after = objs[i].handle;
            st = each(arg, tok, &objs[i]);
        }
    }
    free(objs);
    return st;
}

/* ---- adding ---------------------------------------------------------------------------------------------
 */

static hsm_status insert_sealed(struct soft_token *t, struct hsm_object *obj, struct hsm_bytes plain)
{
    uint8_t aad[SOFT_AAD_MAX];
    struct hsm_buf a = { aad, sizeof(aad), 0 }, sealed = { NULL, plain.len + SOFT_SEAL_EXTRA, 0 };
    hsm_status st;

    if ((st = soft_require_login(t)) != HSM_OK)
        return st;
    if ((sealed.ptr = malloc(sealed.cap)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory sealing '%s'", obj->label);
    if ((st = soft_store_insert(t, obj)) == HSM_OK) {
        soft_object_aad(t, obj, &a); /* the handle is known only now */
        st = soft_seal(t, t->seal_key, (struct hsm_bytes){ a.ptr, a.len }, plain, &sealed);
    }
    if (st == HSM_OK)
        st = soft_store_set_value(t, obj->handle, (struct hsm_bytes){ sealed.ptr, sealed.len });
    free(sealed.ptr);
    return st;
}

static hsm_status insert_clear(struct soft_token *t, struct hsm_object *obj, struct hsm_bytes value)
{
    hsm_status st;

    if ((st = soft_require_login(t)) != HSM_OK || (st = soft_store_insert(t, obj)) != HSM_OK)
        return st;
    return soft_store_set_value(t, obj->handle, value);
}

static hsm_status add(struct soft_token *t, struct hsm_object *obj, struct hsm_bytes value,
                      hsm_handle *handle)
{
    hsm_status st;

    soft_sql_lock(t);
    if ((st = soft_store_begin(t, true)) == HSM_OK &&
        (st = soft_store_label_free(t, obj->cls, obj->label)) == HSM_OK)
        st = obj->cls == HSM_CLASS_CERT ? insert_clear(t, obj, value) : insert_sealed(t, obj, value);
    if (st == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    if (st == HSM_OK)
        *handle = obj->handle;
    return st;
}

/* Everything that can fail early, before a minute of key generation. */
hsm_status soft_object_may_add(struct soft_token *t, const struct hsm_object_spec *spec, enum hsm_class cls)
{
    hsm_status st;

    if (spec->so_destroys)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "%s cannot keep '%s' from being deleted by its user: whoever may write a file may "
                        "delete it; leave out --protect",
                        t->where, spec->label);
    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    if ((st = soft_store_want_writable(t)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_store_label_free(t, cls, spec->label)) == HSM_OK)
        st = soft_require_login(t);
    soft_sql_unlock(t);
    return st;
}

hsm_status soft_object_describe(const struct soft_token *t, const struct hsm_object_spec *spec,
                                enum hsm_class cls, enum hsm_origin origin, struct hsm_object *obj)
{
    size_t len = strlen(spec->label);

    memset(obj, 0, sizeof(*obj));
    if (len == 0 || len > HSM_LABEL_MAX || spec->id.len > HSM_ID_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "label or id of the wrong length for %s", t->where);
    memcpy(obj->label, spec->label, len);
    if (spec->id.len > 0)
        memcpy(obj->id, spec->id.ptr, spec->id.len);
    obj->id_len = spec->id.len;
    obj->cls = cls;
    obj->origin = origin;
    obj->created_s = (int64_t)time(NULL);
    return HSM_OK;
}

/* Public key, kind, id and usage of a new key. */
static hsm_status describe_key(struct soft_token *t, const struct hsm_object_spec *spec, EVP_PKEY *pkey,
                               struct hsm_object *obj)
{
    struct hsm_buf spki = { obj->spki, sizeof(obj->spki), 0 };
    struct hsm_pubkey pub;
    char usage[96], kind[32];
    unsigned possible;
    hsm_status st;

    if ((st = hsm_pkey_spki(pkey, &spki)) != HSM_OK ||
        (st = hsm_pubkey_parse((struct hsm_bytes){ spki.ptr, spki.len }, &pub)) != HSM_OK)
        return st;
    obj->spki_len = spki.len;
    obj->kind = pub.kind;
    obj->extractable = spec->extractable;
    possible = hsm_kind_usages(&obj->kind);
    obj->usage = spec->usage != 0 ? spec->usage : possible;
    if ((obj->usage & ~possible) != 0)
        return hsm_fail(HSM_ERR_USAGE, "a key of type %s can only be used for %s",
                        hsm_kind_format(&obj->kind, kind), hsm_usage_format(possible, usage));
    if (obj->id_len > 0)
        return HSM_OK;
    obj->id_len = SOFT_ID_LEN;
    return hsm_spki_id(t->libctx, (struct hsm_bytes){ obj->spki, obj->spki_len }, obj->id);
}

static hsm_status add_key(struct soft_token *t, const struct hsm_object_spec *spec,
                          const struct pkcs8_private *priv, EVP_PKEY *pkey, struct hsm_object *obj,
                          struct scratch *scratch, hsm_handle *handle)
{
    struct hsm_buf pkcs8 = { scratch->pkcs8, sizeof(scratch->pkcs8), 0 };
    hsm_status st;

    if ((st = describe_key(t, spec, pkey, obj)) != HSM_OK || (st = pkcs8_encode(priv, &pkcs8)) != HSM_OK)
        return st;
    return add(t, obj, (struct hsm_bytes){ pkcs8.ptr, pkcs8.len }, handle);
}

hsm_status soft_generate(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle)
{
    struct soft_token *t = soft_of(tok);
    struct scratch *scratch = NULL;
    struct hsm_buf numbers;
    struct pkcs8_private priv;
    struct hsm_object obj;
    EVP_PKEY *pkey = NULL;
    hsm_status st;

    if ((st = soft_object_may_add(t, spec, HSM_CLASS_KEY)) != HSM_OK ||
        (st = soft_object_describe(t, spec, HSM_CLASS_KEY, HSM_ORIGIN_GENERATED, &obj)) != HSM_OK)
        return st;
    if ((scratch = hsm_secret_alloc(sizeof(*scratch))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a key");
    hsm_secure_heap();
    numbers = (struct hsm_buf){ scratch->numbers, sizeof(scratch->numbers), 0 };
    if ((st = hsm_pkey_generate(t->libctx, &spec->kind, &pkey)) == HSM_OK &&
        (st = hsm_pkey_numbers(pkey, &spec->kind, &numbers, &priv)) == HSM_OK)
        st = add_key(t, spec, &priv, pkey, &obj, scratch, handle);
    EVP_PKEY_free(pkey);
    hsm_secret_free(scratch, sizeof(*scratch));
    return st;
}

hsm_status soft_import(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                       hsm_handle *handle)
{
    struct soft_token *t = soft_of(tok);
    struct scratch *scratch = NULL;
    struct pkcs8_private priv;
    struct hsm_object obj;
    uint8_t point[HSM_POINT_MAX];
    struct hsm_buf q = { point, sizeof(point), 0 };
    EVP_PKEY *pkey = NULL;
    hsm_status st;

    if ((st = pkcs8_decode(pkcs8, &priv)) != HSM_OK ||
        (st = soft_object_may_add(t, spec, HSM_CLASS_KEY)) != HSM_OK ||
        (st = soft_object_describe(t, spec, HSM_CLASS_KEY, HSM_ORIGIN_IMPORTED, &obj)) != HSM_OK ||
        (st = hsm_private_complete(t->libctx, &priv, &q)) != HSM_OK)
        return st;
    if ((scratch = hsm_secret_alloc(sizeof(*scratch))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for a key");
    if ((st = hsm_private_pkey(t->libctx, &priv, &pkey)) == HSM_OK &&
        (st = hsm_pkey_check(t->libctx, pkey)) == HSM_OK)
        st = add_key(t, spec, &priv, pkey, &obj, scratch, handle);
    EVP_PKEY_free(pkey);
    hsm_secret_free(scratch, sizeof(*scratch));
    return st;
}

hsm_status soft_put(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                    hsm_handle *handle)
{
    struct soft_token *t = soft_of(tok);
    struct hsm_object obj;
    uint8_t id[SOFT_ID_LEN];
    hsm_status st;

    if (value.len > HSM_DATA_MAX)
        return hsm_fail(HSM_ERR_DATA_LEN, "'%s': an object has at most %d bytes", spec->label, HSM_DATA_MAX);
    if ((st = soft_object_may_add(t, spec, spec->cls)) != HSM_OK ||
        (st = soft_object_describe(t, spec, spec->cls, HSM_ORIGIN_IMPORTED, &obj)) != HSM_OK)
        return st;
    if (obj.cls == HSM_CLASS_CERT) {
        if ((st = hsm_certificate_id(t->libctx, value, &obj.kind, id)) != HSM_OK)
            return st;
        if (obj.id_len == 0) {
            memcpy(obj.id, id, sizeof(id));
            obj.id_len = sizeof(id);
        }
    }
    return add(t, &obj, value, handle);
}

/* ---- reading and destroying -----------------------------------------------------------------------------
 */

static hsm_status copy_out(struct hsm_bytes from, const char *label, struct hsm_buf *out)
{
    if (out->cap < from.len)
        return hsm_fail(HSM_ERR_BUFFER, "'%s' has %zu bytes, the buffer only %zu", label, from.len, out->cap);
    if (from.len > 0)
        memcpy(out->ptr, from.ptr, from.len);
    out->len = from.len;
    return HSM_OK;
}

/* Through secret memory: a caller's buffer gets the value only if its seal fits and it is large enough. */
static hsm_status unseal_out(struct soft_token *t, const struct soft_row *row, struct hsm_buf *out)
{
    struct hsm_buf plain = { hsm_secret_alloc(row->value_len), row->value_len, 0 };
    hsm_status st;

    if (plain.ptr == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "no memory for '%s'", row->obj.label);
    if ((st = soft_object_unseal(t, row, &plain)) == HSM_OK)
        st = copy_out((struct hsm_bytes){ plain.ptr, plain.len }, row->obj.label, out);
    hsm_secret_free(plain.ptr, row->value_len);
    return st;
}

hsm_status soft_export_private(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8)
{
    struct soft_token *t = soft_of(tok);
    struct soft_row row = { .value = NULL };
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_store_object(t, handle, true, &row)) != HSM_OK)
        goto out;
    if (row.obj.cls != HSM_CLASS_KEY)
        st = hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", row.obj.label, t->where);
    else if (!row.obj.extractable)
        st = hsm_fail(HSM_ERR_NOT_EXTRACTABLE,
                      "key '%s' on %s may not leave the token: it was created without "
                      "--extractable",
                      row.obj.label, t->where);
    else
        st = unseal_out(t, &row, pkcs8);
out:
    soft_sql_unlock(t);
    soft_row_clear(&row);
    return st;
}

hsm_status soft_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value)
{
    struct soft_token *t = soft_of(tok);
    struct soft_row row = { .value = NULL };
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_store_object(t, handle, true, &row)) != HSM_OK)
        goto out;
    if (row.obj.cls == HSM_CLASS_CERT)
        st = copy_out((struct hsm_bytes){ row.value, row.value_len }, row.obj.label, value);
    else if (row.obj.cls == HSM_CLASS_DATA)
        st = unseal_out(t, &row, value);
    else
        st = hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is a %s, not a certificate or data object", row.obj.label,
                      t->where, row.obj.cls == HSM_CLASS_COUNTER ? "counter" : "key");
out:
    soft_sql_unlock(t);
    soft_row_clear(&row);
    return st;
}

hsm_status soft_destroy(struct hsm_token *tok, hsm_handle handle)
{
    struct soft_token *t = soft_of(tok);
    hsm_status st;

    if ((st = soft_check_file(t, true)) != HSM_OK)
        return st;
    soft_sql_lock(t);
    if ((st = soft_require_login(t)) == HSM_OK && (st = soft_store_begin(t, true)) == HSM_OK &&
        (st = soft_store_delete(t, handle)) == HSM_OK)
        st = soft_store_commit(t);
    soft_store_rollback(t);
    soft_sql_unlock(t);
    return st;
}
