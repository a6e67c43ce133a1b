/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and data in files, and the end of any object. */
#include "token.h"

#include <stdlib.h>
#include <string.h>

/* ---- storing ---------------------------------------------------------------------------------------------
 */

static hsm_status put_piece(struct se05x_token *t, const struct se05x_write *w, size_t at, size_t total,
                            struct hsm_bytes piece)
{
    unsigned tries = 0;
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    do {
        st = se05x_write_binary(t, w, (uint16_t)at, at == 0 ? (uint16_t)total : 0, piece, &sw);
        if (at != 0 || !se05x_unsure(t, st, w->id, &exists))
            break;
        if (exists)
            return HSM_OK;
    } while (++tries < 2);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "writing a file");
}

static hsm_status put_value(struct se05x_token *t, const struct se05x_creation *c, struct hsm_bytes value)
{
    struct se05x_write w = c->write;
    size_t at, len;
    hsm_status st = HSM_OK;

    for (at = 0; at < value.len && st == HSM_OK; at += len) {
        len = value.len - at < SE05X_FILE_CHUNK ? value.len - at : SE05X_FILE_CHUNK;
        st = put_piece(t, &w, at, value.len, (struct hsm_bytes){ value.ptr + at, len });
        w.policy = NULL;
        w.repeatable = true;
    }
    return st;
}

static hsm_status describe_certificate(struct se05x_token *t, struct hsm_bytes der, struct hsm_object *o)
{
    uint8_t id[HSM_KEY_ID_LEN];
    struct hsm_key_kind kind;
    hsm_status st = hsm_certificate_id(t->libctx, der, &kind, id);

    if (st != HSM_OK)
        return st;
    o->kind = kind;
    if (o->id_len == 0) {
        memcpy(o->id, id, sizeof(id));
        o->id_len = sizeof(id);
    }
    return HSM_OK;
}

hsm_status se05x_put(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                     hsm_handle *handle)
{
    struct se05x_token *t = se05x_of(tok);
    struct hsm_object probe = { .id_len = 1 };
    struct se05x_creation *c;
    hsm_status st;

    if (value.len == 0 || value.len > SE05X_FILE_MAX)
        return hsm_fail(HSM_ERR_DATA_LEN, "'%s': a file on this chip has 1 to %d bytes, this one %zu",
                        spec->label, SE05X_FILE_MAX, value.len);
    if (spec->cls == HSM_CLASS_CERT && (st = describe_certificate(t, value, &probe)) != HSM_OK)
        return st;
    if ((c = malloc(sizeof(*c))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for '%s'", spec->label);
    if ((st = se05x_creation_begin(t, spec, spec->cls, HSM_ORIGIN_IMPORTED, NULL,
                                   value.len > SE05X_FILE_CHUNK, c)) == HSM_OK) {
        c->record.obj.value_len = value.len;
        if (spec->cls == HSM_CLASS_CERT)
            st = describe_certificate(t, value, &c->record.obj);
        if (st == HSM_OK)
            st = put_value(t, c, value);
        st = se05x_creation_finish(t, c, st, handle);
    }
    free(c);
    return st;
}

/* ---- reading ---------------------------------------------------------------------------------------------
 */

static hsm_status check_readable(const struct se05x_token *t, const struct se05x_object *o, size_t cap)
{
    if (o->cls != HSM_CLASS_CERT && o->cls != HSM_CLASS_DATA)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is a %s, not a certificate or data object", o->label,
                        t->where, o->cls == HSM_CLASS_COUNTER ? "counter" : "key");
    if (o->cls == HSM_CLASS_DATA && !o->open && !se05x_logged_in(t, SE05X_USER))
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "%s: log in first (pin-source in the configuration)", t->where);
    if (cap < o->value_len)
        return hsm_fail(HSM_ERR_BUFFER, "'%s' has %zu bytes, the buffer only %zu", o->label, o->value_len,
                        cap);
    return HSM_OK;
}

hsm_status se05x_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    enum se05x_auth auth;
    hsm_status st;

    if ((st = se05x_lookup(t, handle, &o)) != HSM_OK || (st = check_readable(t, o, value->cap)) != HSM_OK)
        return st;
    auth = o->cls == HSM_CLASS_DATA && !o->open ? SE05X_USER : SE05X_ANYBODY;
    st = se05x_file_read(t, auth, o->id, o->value_len, value->ptr);
    if (st == HSM_ERR_NO_OBJECT)
        return se05x_vanished(t, o);
    if (st == HSM_OK)
        value->len = o->value_len;
    return st;
}

/* Never; so that the answer is the same as from tokens that could. */
hsm_status se05x_export_private(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    hsm_status st;

    if ((st = se05x_lookup(t, handle, &o)) != HSM_OK)
        return st;
    if (o->cls != HSM_CLASS_KEY)
        return hsm_fail(HSM_ERR_KEY_TYPE, "'%s' on %s is not a key", o->label, t->where);
    return hsm_fail(HSM_ERR_NOT_EXTRACTABLE, "key '%s' on %s may not leave the chip", o->label, t->where);
}

/* ---- destroying ------------------------------------------------------------------------------------------
 */

/* Whose session destroys it. */
static hsm_status destroyer(struct se05x_token *t, const struct se05x_object *o, enum se05x_auth *auth)
{
    hsm_status st;

    if (o->foreign)
        return hsm_fail(HSM_ERR_DENIED,
                        "%s on %s was put there by %s: hsm does not delete what is not its own", o->label,
                        t->where, o->id >= UINT32_C(0xf0000000) ? "NXP" : "another program");
    if (!o->so_destroys)
        return se05x_writer(t, auth);
    if ((st = se05x_token_need(t)) != HSM_OK)
        return st;
    *auth = SE05X_SO;
    if (!se05x_logged_in(t, SE05X_SO))
        return hsm_fail(HSM_ERR_DENIED, "'%s' on %s can only be deleted by the SO: give the SO PIN", o->label,
                        t->where);
    return HSM_OK;
}

/* Under the lock nobody else removes it between the question and the deed. */
static hsm_status destroy_locked(struct se05x_token *t, struct se05x_change *c, uint32_t record_id,
                                 uint32_t value_id)
{
    struct se05x_record r;
    hsm_status st = se05x_record_read(t, record_id, &r);

    if (st == HSM_ERR_DATA || (st == HSM_OK && (r.state != SE05X_RECORD_LIVE || r.value_id != value_id)))
        st = HSM_ERR_NO_OBJECT;
    if (st != HSM_OK)
        return st;
    if ((st = se05x_change_intend(t, c, SE05X_OP_DESTROY, record_id, value_id)) != HSM_OK ||
        (st = se05x_remove(t, c->auth, value_id)) != HSM_OK ||
        (st = se05x_record_bury(t, c->auth, record_id)) != HSM_OK)
        return se05x_change_undo(t, c, st);
    return se05x_change_done(t, c);
}

hsm_status se05x_destroy(struct hsm_token *tok, hsm_handle handle)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    struct se05x_object copy;
    struct se05x_change c;
    enum se05x_auth auth;
    hsm_status st;

    if ((st = se05x_lookup(t, handle, &o)) != HSM_OK || (st = destroyer(t, o, &auth)) != HSM_OK ||
        (st = se05x_change_begin(t, auth, &c)) != HSM_OK)
        return st;
    copy = *o;
    st = destroy_locked(t, &c, (uint32_t)(handle >> 32), copy.id);
    se05x_change_end(t);
    se05x_forget(t, handle);
    return st == HSM_ERR_NO_OBJECT ? se05x_vanished(t, &copy) : st;
}
