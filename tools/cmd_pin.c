/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl pin init | change | unblock */
#include <string.h>

#include "hsm/secret.h"
#include "tool.h"

enum change { CHANGE_USER, CHANGE_SO, CHANGE_UNBLOCK };

static hsm_status apply(struct hsm_token *tok, enum change change, struct hsm_bytes old_pin,
                        struct hsm_bytes new_pin, bool machine_pin)
{
    if (change == CHANGE_UNBLOCK)
        return hsm_pin_unblock(tok, old_pin, new_pin, machine_pin);
    return hsm_pin_change(tok, change == CHANGE_SO ? HSM_ROLE_SO : HSM_ROLE_USER, old_pin, new_pin,
                          machine_pin);
}

/* The new PIN from its source, or drawn and staged in its file; the change; then the file takes its place. */
static hsm_status replace_pin(struct tool *t, struct hsm_token *tok, enum change change,
                              struct hsm_bytes old_pin)
{
    uint8_t pin[HSM_PIN_MAX];
    struct hsm_buf new_pin = { .ptr = pin, .cap = sizeof(pin) };
    struct pin_file pf = { .written = false };
    hsm_status st = HSM_OK;

    if (!t->opt.generate_pin)
        st = tool_pin(t, t->opt.new_pin_source, change == CHANGE_SO ? HSM_ROLE_SO : HSM_ROLE_USER, true,
                      &new_pin);
    signals_hold();
    if (st == HSM_OK && t->opt.generate_pin)
        st = pin_file_begin(t, true, &pf, &new_pin);
    if (st == HSM_OK) {
        st = apply(tok, change, old_pin, (struct hsm_bytes){ pin, new_pin.len }, t->opt.generate_pin);
        if (st == HSM_OK)
            st = pin_file_commit(&pf);
        else
            pin_file_abort(&pf);
    }
    signals_release();
    hsm_cleanse(pin, sizeof(pin));
    return st;
}

/* Programs go on reading the configured file: say so if it was not that file that got the new PIN. */
static void remind(struct tool *t)
{
    const char *source = hsm_pin_source(t->ctx, t->token_index);

    if (t->opt.generate_pin || source == NULL || strcmp(source, "prompt") == 0)
        return;
    if (t->opt.new_pin_source == NULL || strcmp(source, t->opt.new_pin_source) != 0)
        out_note(t, "the PIN is changed; programs still read it from pin-source %s: put the new one there",
                 source);
}

static hsm_status change_pin(struct tool *t, enum change change)
{
    uint8_t pin[HSM_PIN_MAX];
    struct hsm_buf old_pin = { .ptr = pin, .cap = sizeof(pin) };
    enum hsm_role role = change == CHANGE_USER ? HSM_ROLE_USER : HSM_ROLE_SO;
    struct hsm_token *tok = NULL;
    const char *source;
    hsm_status st;

    if (t->opt.generate_pin && (t->opt.new_pin_source != NULL || change == CHANGE_SO))
        return tool_usage(t, "--generate-pin goes neither with --new-pin-source nor with --so");
    if (t->opt.pin_file != NULL && !t->opt.generate_pin)
        return tool_usage(t, "--pin-file goes with --generate-pin");
    if ((st = tool_token(t, &tok)) != HSM_OK)
        return st;
    source = role == HSM_ROLE_SO ? t->opt.so_pin_source : hsm_pin_source(t->ctx, t->token_index);
    if ((st = tool_pin(t, source, role, false, &old_pin)) == HSM_OK)
        st = replace_pin(t, tok, change, (struct hsm_bytes){ pin, old_pin.len });
    hsm_cleanse(pin, sizeof(pin));
    if (st == HSM_OK && change != CHANGE_SO)
        remind(t);
    return st;
}

hsm_status cmd_pin_change(struct tool *t)
{
    return change_pin(t, t->opt.so ? CHANGE_SO : CHANGE_USER);
}

hsm_status cmd_pin_unblock(struct tool *t)
{
    return change_pin(t, CHANGE_UNBLOCK);
}
