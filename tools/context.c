/* SPDX-License-Identifier: Apache-2.0 */
/* From the command line to a token and the objects on it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <openssl/asn1.h>

#include "hsm/secret.h"
#include "tool.h"

/* The command line speaks where the environment would, so that both have the same last word. */
static hsm_status override(const char *option, const char *variable, const char *value)
{
    if (value == NULL)
        return HSM_OK;
    if (getauxval(AT_SECURE) != 0)
        return hsm_fail(HSM_ERR_ARGUMENT, "%s is refused in a set-uid program; configure it in openssl.cnf",
                        option);
    if (setenv(variable, value, 1) != 0)
        return hsm_fail(HSM_ERR_MEMORY, "%s: %s", option, strerror(errno));
    return HSM_OK;
}

static hsm_status make_config(struct tool *t, bool named, struct hsm_config **out)
{
    struct hsm_config *cfg = NULL;
    struct hsm_token_spec spec;
    hsm_status st;

    if (t->opt.token != NULL && !named) {
        if ((st = hsm_token_spec_parse(t->opt.token, &spec)) != HSM_OK)
            return st;
        if ((st = override("--token", "HSM_TOKEN", t->opt.token)) != HSM_OK)
            return st;
    }
    if ((st = override("--pin-source", "HSM_PIN_SOURCE", t->opt.pin_source)) != HSM_OK)
        return st;
    if ((st = hsm_config_new(&cfg)) != HSM_OK)
        return st;
    if ((st = hsm_config_load_file(cfg, t->opt.config, NULL)) == HSM_OK)
        st = hsm_config_finish(cfg);
    if (st == HSM_OK)
        *out = cfg;
    else
        hsm_config_free(cfg);
    return st;
}

static hsm_status pick_named(struct tool *t, const char *name)
{
    for (size_t i = 0; i < hsm_token_count(t->ctx); i++) {
        if (strcmp(hsm_token_name(t->ctx, i), name) == 0) {
            t->token_index = i;
            return HSM_OK;
        }
    }
    return hsm_fail(HSM_ERR_NO_TOKEN,
                    "no token named '%s' is configured; give driver:location, or see hsmctl token list",
                    name);
}

hsm_status tool_open(struct tool *t)
{
    bool named = t->opt.token != NULL && strchr(t->opt.token, ':') == NULL;
    struct hsm_config *cfg = NULL;
    hsm_status st;

    if (t->ctx != NULL)
        return HSM_OK;
    if ((st = make_config(t, named, &cfg)) != HSM_OK)
        return st;
    if ((st = hsm_ctx_new(cfg, &t->ctx)) != HSM_OK) {
        hsm_config_free(cfg);
        return st;
    }
    hsm_ctx_set_prompt(t->ctx, prompt_pin, t);
    return named ? pick_named(t, t->opt.token) : HSM_OK;
}

hsm_status tool_token(struct tool *t, struct hsm_token **tok)
{
    hsm_status st;

    if ((st = tool_open(t)) != HSM_OK)
        return st;
    return hsm_token_get(t->ctx, t->token_index, tok);
}

static hsm_status check_label(struct tool *t, const char *label)
{
    const unsigned char *p = (const unsigned char *)label;
    size_t left = strlen(label);
    unsigned long ch = 0;

    if (left == 0 || left > HSM_LABEL_MAX)
        return tool_usage(t, "a name has 1 to %d bytes, this one %zu", HSM_LABEL_MAX, left);
    while (left > 0) {
        int used = UTF8_getc(p, (int)left, &ch);

        if (used <= 0)
            return tool_usage(t, "name '%s' is not valid UTF-8 at byte %td", label, (const char *)p - label);
        if (ch < 0x20 || ch == 0x7f)
            return tool_usage(t, "name '%s' holds a control character; use printable text", label);
        p += used;
        left -= (size_t)used;
    }
    return HSM_OK;
}

hsm_status tool_name(struct tool *t, const char *name, enum hsm_uri_type type, struct hsm_uri *uri)
{
    hsm_status st;

    memset(uri, 0, sizeof(*uri));
    if (strncmp(name, "hsm:", 4) == 0) {
        if ((st = hsm_uri_parse(name, uri)) != HSM_OK)
            return st;
    } else {
        if ((st = check_label(t, name)) != HSM_OK)
            return st;
        memcpy(uri->object, name, strlen(name) + 1);
    }
    if (uri->type == HSM_URI_TYPE_ANY || (uri->type == HSM_URI_TYPE_PUBLIC && type == HSM_URI_TYPE_PRIVATE))
        uri->type = type;
    if (uri->type != type) {
        hsm_uri_clear(uri);
        return hsm_fail(HSM_ERR_URI,
                        "%s names another type of object than this command works on; leave out type=", name);
    }
    return HSM_OK;
}

static hsm_status login_with_uri(struct tool *t, const struct hsm_uri *uri, struct hsm_token *tok)
{
    uint8_t pin[HSM_PIN_MAX];
    struct hsm_buf buf = { .ptr = pin, .cap = sizeof(pin) };
    hsm_status st = HSM_OK;

    if (uri->has_pin_value)
        return hsm_login(tok, HSM_ROLE_USER,
                         (struct hsm_bytes){ (const uint8_t *)uri->pin_value, strlen(uri->pin_value) });
    if (uri->pin_source[0] == '\0')
        return HSM_OK;
    if ((st = hsm_pin_read(t->ctx, uri->pin_source, HSM_ROLE_USER, &buf)) == HSM_OK)
        st = hsm_login(tok, HSM_ROLE_USER, (struct hsm_bytes){ pin, buf.len });
    hsm_cleanse(pin, sizeof(pin));
    return st;
}

hsm_status tool_uri_token(struct tool *t, const struct hsm_uri *uri, struct hsm_token **tok)
{
    hsm_status st;

    if ((st = tool_open(t)) != HSM_OK)
        return st;
    if (uri->token[0] != '\0')
        st = hsm_token_find(t->ctx, uri->token, tok);
    else
        st = hsm_token_get(t->ctx, t->token_index, tok);
    if (st != HSM_OK)
        return st;
    return login_with_uri(t, uri, *tok);
}

hsm_status tool_object(struct tool *t, const char *name, enum hsm_uri_type type, struct hsm_token **tok,
                       struct hsm_object *obj)
{
    struct hsm_uri uri;
    hsm_status st;

    if ((st = tool_name(t, name, type, &uri)) != HSM_OK)
        return st;
    if ((st = tool_uri_token(t, &uri, tok)) == HSM_OK)
        st = hsm_find_one(*tok, &uri, obj);
    hsm_uri_clear(&uri);
    return st;
}

static enum hsm_uri_type uri_type_of(enum hsm_class cls)
{
    switch (cls) {
    case HSM_CLASS_KEY:
        return HSM_URI_TYPE_PRIVATE;
    case HSM_CLASS_CERT:
        return HSM_URI_TYPE_CERT;
    case HSM_CLASS_COUNTER:
        return HSM_URI_TYPE_COUNTER;
    default:
        return HSM_URI_TYPE_DATA;
    }
}

hsm_status tool_new_object(struct tool *t, enum hsm_class cls, struct hsm_uri *uri,
                           struct hsm_object_spec *spec, struct hsm_token **tok)
{
    struct hsm_buf id = { .ptr = uri->id, .cap = sizeof(uri->id) };
    hsm_status st;

    if ((st = tool_name(t, t->arg[0], uri_type_of(cls), uri)) != HSM_OK)
        return st;
    if (uri->object[0] == '\0')
        return tool_usage(t, "%s names no object; a new one needs a name (object=...)", t->arg[0]);
    if ((st = check_label(t, uri->object)) != HSM_OK)
        return st;
    if (t->opt.id != NULL) {
        if ((st = hex_decode(t->opt.id, &id)) != HSM_OK)
            return tool_usage(t, "--id '%s' is not 1 to %d bytes in hexadecimal digits", t->opt.id,
                              HSM_ID_MAX);
        uri->id_len = id.len;
    }
    spec->cls = cls;
    spec->label = uri->object;
    spec->id = (struct hsm_bytes){ uri->id, uri->id_len };
    spec->extractable = t->opt.extractable;
    spec->so_destroys = t->opt.protect;
    if (t->opt.usage != NULL && (st = hsm_usage_parse(t->opt.usage, &spec->usage)) != HSM_OK) {
        t->usage_error = true;
        return st;
    }
    return tool_uri_token(t, uri, tok);
}

/* What the token said during hsm_find(), which may hold its lock: more is asked afterwards. */
struct found {
    struct hsm_object *objs;
    size_t count;
};

static hsm_status keep(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    struct found *found = arg;
    struct hsm_object *grown = realloc(found->objs, (found->count + 1) * sizeof(*grown));

    (void)tok;
    if (grown == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for the list of objects");
    found->objs = grown;
    grown[found->count++] = *obj;
    return HSM_OK;
}

hsm_status tool_list(struct tool *t, enum hsm_uri_type type, const char *const fields[],
                     tool_describe_fn *describe)
{
    struct hsm_uri uri = { .type = type };
    struct found found = { .objs = NULL };
    struct hsm_token *tok = NULL;
    struct json_object *list;
    hsm_status st;

    if ((st = tool_token(t, &tok)) != HSM_OK)
        return st;
    list = json_object_new_array();
    st = hsm_find(tok, &uri, keep, &found);
    for (size_t i = 0; i < found.count && st == HSM_OK; i++) {
        struct json_object *record = json_object_new_object();

        json_object_array_add(list, record);
        st = describe(t, tok, &found.objs[i], record);
    }
    free(found.objs);
    if (st == HSM_OK)
        return out_list(t, list, fields);
    json_object_put(list);
    return st;
}

static hsm_status login_as_so(struct tool *t, struct hsm_token *tok)
{
    uint8_t pin[HSM_PIN_MAX];
    struct hsm_buf buf = { .ptr = pin, .cap = sizeof(pin) };
    hsm_status st = tool_pin(t, t->opt.so_pin_source, HSM_ROLE_SO, false, &buf);

    if (st == HSM_OK)
        st = hsm_login(tok, HSM_ROLE_SO, (struct hsm_bytes){ pin, buf.len });
    hsm_cleanse(pin, sizeof(pin));
    return st;
}

hsm_status tool_delete(struct tool *t, enum hsm_uri_type type, const char *what)
{
    char question[HSM_LABEL_MAX + 96];
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    bool yes = t->opt.yes;
    hsm_status st;

    if ((st = tool_object(t, t->arg[0], type, &tok, &obj)) != HSM_OK)
        return st;
    if (!yes) {
        snprintf(question, sizeof(question), "Delete %s '%s'? It cannot be brought back.", what, obj.label);
        if ((st = prompt_confirm(question, &yes)) != HSM_OK)
            return st;
    }
    if (!yes)
        return hsm_fail(HSM_ERR_ARGUMENT, "%s '%s' was not deleted, as you answered", what, obj.label);
    if (t->opt.so_pin_source != NULL && (st = login_as_so(t, tok)) != HSM_OK)
        return st;
    return hsm_destroy(tok, obj.handle);
}

hsm_status tool_number(struct tool *t, const char *what, const char *text, unsigned long min,
                       unsigned long max, unsigned long *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != '\0' || *out < min || *out > max)
        return tool_usage(t, "%s must be a whole number from %lu to %lu, not '%s'", what, min, max, text);
    return HSM_OK;
}

const char *tool_driver(const struct tool *t)
{
    return hsm_token_spec(t->ctx, t->token_index)->driver;
}
