/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl data put | get | list | delete */
#include "hsm/secret.h"
#include "tool.h"

hsm_status cmd_data_put(struct tool *t)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_DATA };
    struct hsm_buf value = { .ptr = NULL };
    struct hsm_token *tok = NULL;
    struct hsm_uri uri;
    hsm_handle handle;
    hsm_status st;

    if ((st = tool_read_file(t->arg[1], HSM_DATA_MAX, &value)) != HSM_OK)
        return st;
    if ((st = tool_new_object(t, HSM_CLASS_DATA, &uri, &spec, &tok)) == HSM_OK)
        st = hsm_put(tok, &spec, (struct hsm_bytes){ value.ptr, value.len }, &handle);
    hsm_uri_clear(&uri);
    tool_buf_free(&value);
    return st;
}

hsm_status cmd_data_get(struct tool *t)
{
    struct hsm_buf value = { .ptr = NULL };
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    hsm_status st;

    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_DATA, &tok, &obj)) != HSM_OK)
        return st;
    value.cap = obj.value_len + 1; /* so that an empty object has memory too */
    if ((value.ptr = hsm_secret_alloc(value.cap)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for data object '%s' of %zu bytes", obj.label,
                        obj.value_len);
    if ((st = hsm_get(tok, obj.handle, &value)) == HSM_OK)
        st = tool_write_file(t->opt.out, (struct hsm_bytes){ value.ptr, value.len }, 0600);
    tool_buf_free(&value);
    return st;
}

static hsm_status describe(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj,
                           struct json_object *record)
{
    (void)t;
    (void)tok;
    out_text(record, "label", obj->label);
    out_hex(record, "id", (struct hsm_bytes){ obj->id, obj->id_len });
    out_int(record, "size", (int64_t)obj->value_len);
    out_time(record, "created", obj->created_s);
    return HSM_OK;
}

hsm_status cmd_data_list(struct tool *t)
{
    static const char *const fields[] = { "label", "size", "created", "id", NULL };

    return tool_list(t, HSM_URI_TYPE_DATA, fields, describe);
}

hsm_status cmd_data_delete(struct tool *t)
{
    return tool_delete(t, HSM_URI_TYPE_DATA, "data object");
}
