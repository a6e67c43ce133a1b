/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl counter create | get | increment | list | delete */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "tool.h"

static hsm_status parse_value(struct tool *t, uint64_t *value)
{
    const char *text = t->opt.value;
    char *end = NULL;

    *value = 0;
    if (text == NULL)
        return HSM_OK;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != '\0')
        return tool_usage(t, "--value must be a whole number below 2^64, not '%s'", text);
    return HSM_OK;
}

hsm_status cmd_counter_create(struct tool *t)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_COUNTER };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_COUNTER };
    struct hsm_token *tok = NULL;
    hsm_handle handle;
    uint64_t value;
    hsm_status st;

    if ((st = parse_value(t, &value)) != HSM_OK)
        return st;
    if ((st = tool_new_object(t, HSM_CLASS_COUNTER, &uri, &spec, &tok)) == HSM_OK)
        st = hsm_counter_create(tok, &spec, value, &handle);
    hsm_uri_clear(&uri);
    return st;
}

static hsm_status print_value(struct tool *t, const struct hsm_object *obj, uint64_t value)
{
    struct json_object *record;

    if (!t->opt.json) {
        out_note(t, "%" PRIu64, value);
        return HSM_OK;
    }
    record = json_object_new_object();
    out_text(record, "label", obj->label);
    out_uint(record, "value", value);
    return out_record(t, record);
}

typedef hsm_status counter_call(struct hsm_token *tok, hsm_handle handle, uint64_t *value);

static hsm_status call_and_print(struct tool *t, counter_call *call)
{
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    uint64_t value;
    hsm_status st;

    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_COUNTER, &tok, &obj)) != HSM_OK ||
        (st = call(tok, obj.handle, &value)) != HSM_OK)
        return st;
    return print_value(t, &obj, value);
}

hsm_status cmd_counter_get(struct tool *t)
{
    return call_and_print(t, hsm_counter_get);
}

hsm_status cmd_counter_increment(struct tool *t)
{
    return call_and_print(t, hsm_counter_increment);
}

static hsm_status describe(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj,
                           struct json_object *record)
{
    uint64_t value;
    hsm_status st = hsm_counter_get(tok, obj->handle, &value);

    (void)t;
    out_text(record, "label", obj->label);
    out_uint(record, "value", st == HSM_OK ? value : 0);
    return st;
}

hsm_status cmd_counter_list(struct tool *t)
{
    static const char *const fields[] = { "label", "value", NULL };

    return tool_list(t, HSM_URI_TYPE_COUNTER, fields, describe);
}

hsm_status cmd_counter_delete(struct tool *t)
{
    return tool_delete(t, HSM_URI_TYPE_COUNTER, "counter");
}
