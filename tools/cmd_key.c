/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl key generate | import | list | show | ref | export | delete */
#include <stdio.h>
#include <string.h>

#include <openssl/pem.h>

#include "hsm/keyref.h"
#include "hsm/secret.h"
#include "keyfile.h"
#include "tool.h"

enum { EXPORT_MAX = 4096, SLOW_RSA_BITS = 3072 };

/* The URI by which a program names this key; the token stands in it only where there is more than one. */
static hsm_status format_uri(struct tool *t, const struct hsm_object *obj, size_t token_index,
                             struct hsm_buf *out)
{
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE };

    if (hsm_token_count(t->ctx) > 1)
        snprintf(uri.token, sizeof(uri.token), "%s", hsm_token_name(t->ctx, token_index));
    memcpy(uri.object, obj->label, sizeof(uri.object));
    return hsm_uri_format(&uri, out);
}

static size_t index_of(struct tool *t, const struct hsm_token *tok)
{
    struct hsm_token *other = NULL;

    for (size_t i = 0; i < hsm_token_count(t->ctx); i++) {
        if (i != t->token_index && hsm_token_get(t->ctx, i, &other) == HSM_OK && other == tok)
            return i;
    }
    return t->token_index;
}

static hsm_status describe(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj,
                           struct json_object *record)
{
    static const char *const origins[] = { "-", "generated", "imported", "factory" };
    char type[32], usage[96];

    (void)t;
    (void)tok;
    out_text(record, "label", obj->label);
    out_text(record, "type", hsm_kind_format(&obj->kind, type));
    out_hex(record, "id", (struct hsm_bytes){ obj->id, obj->id_len });
    out_text(record, "usage", hsm_usage_format(obj->usage, usage));
    out_bool(record, "extractable", obj->extractable);
    out_text(record, "origin", obj->origin <= HSM_ORIGIN_FACTORY ? origins[obj->origin] : "-");
    if (obj->created_s != 0)
        out_time(record, "created", obj->created_s);
    else
        out_text(record, "created", NULL); /* a chip has no clock */
    return HSM_OK;
}

static hsm_status show_object(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj)
{
    char text[HSM_URI_MAX];
    struct hsm_buf uri = { .ptr = (uint8_t *)text, .cap = sizeof(text) };
    struct json_object *record;
    hsm_status st;

    if ((st = format_uri(t, obj, index_of(t, tok), &uri)) != HSM_OK)
        return st;
    record = json_object_new_object();
    (void)describe(t, tok, obj, record);
    out_text(record, "uri", text);
    return out_record(t, record);
}

/* What was made: the whole record with --json, else the URI, which is what a script or a person needs next.
 */
static hsm_status report_new_key(struct tool *t, struct hsm_token *tok, const struct hsm_uri *name)
{
    struct hsm_uri uri = *name;
    struct hsm_object obj;
    char text[HSM_URI_MAX];
    struct hsm_buf buf = { .ptr = (uint8_t *)text, .cap = sizeof(text) };
    hsm_status st;

    uri.id_len = 0; /* the label alone is unique */
    if ((st = hsm_find_one(tok, &uri, &obj)) != HSM_OK)
        return st;
    if (t->opt.json)
        return show_object(t, tok, &obj);
    if ((st = format_uri(t, &obj, index_of(t, tok), &buf)) == HSM_OK)
        out_note(t, "%s", text);
    return st;
}

/* A chip searches for primes even of 2048 bits for seconds. */
static bool takes_long(const struct tool *t, const struct hsm_key_kind *kind)
{
    bool rsa = kind->type == HSM_KEY_RSA || kind->type == HSM_KEY_RSA_PSS;

    return rsa && (kind->bits >= SLOW_RSA_BITS || strcmp(tool_driver(t), "soft") != 0);
}

hsm_status cmd_key_generate(struct tool *t)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE };
    struct hsm_token *tok = NULL;
    hsm_handle handle;
    hsm_status st;

    if (t->opt.type == NULL)
        return tool_usage(t, "key generate needs --type, for example --type ec:P-256");
    if ((st = hsm_kind_parse(t->opt.type, &spec.kind)) != HSM_OK) {
        t->usage_error = true;
        return st;
    }
    if ((st = tool_new_object(t, HSM_CLASS_KEY, &uri, &spec, &tok)) == HSM_OK) {
        if (takes_long(t, &spec.kind))
            progress_begin("generating the key");
        st = hsm_generate(tok, &spec, &handle);
        progress_end();
    }
    if (st == HSM_OK)
        st = report_new_key(t, tok, &uri);
    hsm_uri_clear(&uri);
    return st;
}

hsm_status cmd_key_import(struct tool *t)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_KEY };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_PRIVATE };
    struct hsm_buf pkcs8 = { .ptr = NULL };
    struct hsm_token *tok = NULL;
    hsm_handle handle;
    hsm_status st;

    if ((st = tool_new_object(t, HSM_CLASS_KEY, &uri, &spec, &tok)) != HSM_OK)
        goto out;
    if ((st = keyfile_read(t, t->arg[1], &pkcs8)) != HSM_OK)
        goto out;
    if ((st = hsm_import(tok, &spec, (struct hsm_bytes){ pkcs8.ptr, pkcs8.len }, &handle)) == HSM_OK)
        st = report_new_key(t, tok, &uri);
out:
    tool_buf_free(&pkcs8);
    hsm_uri_clear(&uri);
    return st;
}

hsm_status cmd_key_list(struct tool *t)
{
    static const char *const fields[] = { "label",  "type",    "usage", "extractable",
                                          "origin", "created", "id",    NULL };

    return tool_list(t, HSM_URI_TYPE_PRIVATE, fields, describe);
}

hsm_status cmd_key_show(struct tool *t)
{
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    hsm_status st;

    if (t->opt.out != NULL && !t->opt.pubout)
        return tool_usage(t, "-o goes with --pubout");
    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_PRIVATE, &tok, &obj)) != HSM_OK)
        return st;
    if (!t->opt.pubout)
        return show_object(t, tok, &obj);
    return tool_write_pem(t->opt.out, PEM_STRING_PUBLIC, (struct hsm_bytes){ obj.spki, obj.spki_len }, 0644);
}

hsm_status cmd_key_ref(struct tool *t)
{
    uint8_t der[HSM_KEYREF_MAX];
    char text[HSM_URI_MAX];
    struct hsm_buf uri = { .ptr = (uint8_t *)text, .cap = sizeof(text) },
                   out = { .ptr = der, .cap = sizeof(der) };
    struct hsm_keyref ref = { .uri = { .len = 0 } };
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    hsm_status st;

    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_PRIVATE, &tok, &obj)) != HSM_OK)
        return st;
    if ((st = format_uri(t, &obj, index_of(t, tok), &uri)) != HSM_OK)
        return st;
    ref.uri = (struct hsm_bytes){ uri.ptr, uri.len };
    ref.spki = (struct hsm_bytes){ obj.spki, obj.spki_len };
    if ((st = hsm_keyref_encode(&ref, &out)) != HSM_OK)
        return st;
    return tool_write_pem(t->opt.out, HSM_KEYREF_PEM_LABEL, (struct hsm_bytes){ der, out.len }, 0644);
}

hsm_status cmd_key_export(struct tool *t)
{
    struct hsm_buf pkcs8 = { .ptr = NULL };
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    hsm_status st;

    if ((t->opt.passout == NULL) == !t->opt.plain)
        return tool_usage(
            t, "key export needs either --passout SOURCE (encrypted) or --plain (readable by anybody)");
    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_PRIVATE, &tok, &obj)) != HSM_OK)
        return st;
    pkcs8.cap = EXPORT_MAX;
    if ((pkcs8.ptr = hsm_secret_alloc(pkcs8.cap)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for key '%s'", obj.label);
    if ((st = hsm_export(tok, obj.handle, &pkcs8)) == HSM_OK)
        st = keyfile_write(t, t->opt.out, (struct hsm_bytes){ pkcs8.ptr, pkcs8.len });
    tool_buf_free(&pkcs8);
    return st;
}

hsm_status cmd_key_delete(struct tool *t)
{
    return tool_delete(t, HSM_URI_TYPE_PRIVATE, "key");
}
