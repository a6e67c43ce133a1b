/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl se05x ...: administration that only this kind of chip has; the driver knows it, this only asks for
 * it. */
#include <stdio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* A line of answer is "name: value", or free text. */
static void add_line(void *arg, const char *line)
{
    json_object_array_add(arg, json_object_new_string(line));
}

static hsm_status chip(struct tool *t, struct hsm_token **tok)
{
    const struct hsm_token_spec *spec;
    hsm_status st = tool_open(t);

    if (st != HSM_OK)
        return st;
    spec = hsm_token_spec(t->ctx, t->token_index);
    if (strcmp(spec->driver, "se05x") != 0)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "token '%s' is %s:%s, not an SE05x chip; name one with -t se05x:/dev/i2c-N",
                        hsm_token_name(t->ctx, t->token_index), spec->driver, spec->location);
    return tool_token(t, tok);
}

static hsm_status print_lines(struct tool *t, struct json_object *lines)
{
    static const char *const fields[] = { NULL };
    char text[1024];

    if (t->opt.json)
        return out_list(t, lines, fields);
    for (size_t i = 0; i < json_object_array_length(lines); i++)
        puts(out_printable(json_object_get_string(json_object_array_get_idx(lines, i)), text, sizeof(text)));
    json_object_put(lines);
    return HSM_OK;
}

static hsm_status control(struct tool *t, struct hsm_token *tok, const char *command, const char *argument)
{
    struct json_object *lines = json_object_new_array();
    hsm_status st = hsm_token_control(tok, command, argument, add_line, lines);

    if (st == HSM_OK)
        return print_lines(t, lines);
    json_object_put(lines);
    return st;
}

hsm_status cmd_se05x(struct tool *t)
{
    struct hsm_token *tok = NULL;
    hsm_status st = chip(t, &tok);

    return st != HSM_OK ? st : control(t, tok, strchr(t->cmd->name, ' ') + 1, NULL);
}

static hsm_status confirm_rotation(struct tool *t)
{
    char question[700];
    bool yes = t->opt.yes;
    hsm_status st;

    if (yes)
        return HSM_OK;
    snprintf(question, sizeof(question),
             "The platform keys of %.200s will be replaced by new ones, which go into %.200s. This cannot be "
             "undone: "
             "without that file nobody opens a secure channel to this chip again. Go on?",
             hsm_token_spec(t->ctx, t->token_index)->location, t->arg[0]);
    if ((st = prompt_confirm(question, &yes)) != HSM_OK)
        return st;
    return yes ? HSM_OK : hsm_fail(HSM_ERR_ARGUMENT, "the platform keys were not replaced, as you answered");
}

hsm_status cmd_se05x_rotate_keys(struct tool *t)
{
    struct hsm_token *tok = NULL;
    char path[PATH_MAX];
    hsm_status st;

    if ((st = chip(t, &tok)) != HSM_OK || (st = confirm_rotation(t)) != HSM_OK)
        return st;
    signals_hold(); /* the file, then the chip, then the check: nothing comes between */
    st = control(t, tok, "rotate-keys", t->arg[0]);
    signals_release();
    if (st != HSM_OK)
        return st;
    if (realpath(t->arg[0], path) == NULL) /* a specification wants an absolute one */
        (void)snprintf(path, sizeof(path), "%s", t->arg[0]);
    out_note(
        t,
        "the platform keys are replaced; the new ones are in %s: copy it to a safe place, and say scp03=%s "
        "in the token specification",
        path, path);
    return HSM_OK;
}
