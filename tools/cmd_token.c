/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl token init | info | list */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsm/secret.h"
#include "tool.h"

/* "64M", "1G", "65536K" or plain bytes; scrypt is not asked for less than 1 MiB or more than 1 GiB. */
static hsm_status parse_size(struct tool *t, const char *text, uint64_t *out)
{
    char *end = NULL;
    unsigned shift = 0;

    errno = 0;
    *out = strtoull(text, &end, 10);
    if (*end != '\0' && end[1] == '\0')
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (text[0] < '0' || text[0] > '9' || errno != 0 || (*end != '\0' && shift == 0) || *out > 1ULL << 32 ||
        (*out << shift) < 1ULL << 20 || (*out << shift) > 1ULL << 30)
        return tool_usage(t, "--kdf-memory must be a size from 1M to 1G, not '%s'", text);
    *out <<= shift;
    return HSM_OK;
}

static hsm_status parse_mode(struct tool *t, const char *text, uint32_t *out)
{
    char *end = NULL;
    unsigned long mode = strtoul(text, &end, 8);

    if (text[0] < '0' || text[0] > '7' || *end != '\0' || mode > 0777 || (mode & 0600) != 0600)
        return tool_usage(t, "--mode must be an octal mode in which the owner can read and write, not '%s'",
                          text);
    if ((mode & 07) != 0)
        return tool_usage(t, "--mode %s would let everybody at the token; use --group and a mode like 0640",
                          text);
    *out = (uint32_t)mode;
    return HSM_OK;
}

static hsm_status read_init_options(struct tool *t, struct hsm_token_init *init)
{
    unsigned long tries = 0;
    hsm_status st;

    init->label = t->opt.label != NULL ? t->opt.label : hsm_token_name(t->ctx, t->token_index);
    init->machine_pin = t->opt.generate_pin;
    init->force = t->opt.force;
    if (init->label[0] == '\0' || strlen(init->label) > HSM_LABEL_MAX)
        return tool_usage(t, "--label has 1 to %d bytes", HSM_LABEL_MAX);
    if (t->opt.no_pin && (t->opt.generate_pin || t->opt.pin_file != NULL))
        return tool_usage(t, "--no-pin goes neither with --generate-pin nor with --pin-file");
    if (t->opt.pin_file != NULL && !t->opt.generate_pin)
        return tool_usage(
            t, "--pin-file goes with --generate-pin; an existing PIN is read by --pin-source file:PATH");
    if (t->opt.group != NULL)
        init->mode = 0640;
    if (t->opt.mode != NULL && (st = parse_mode(t, t->opt.mode, &init->mode)) != HSM_OK)
        return st;
    if (t->opt.kdf_memory != NULL && (st = parse_size(t, t->opt.kdf_memory, &init->kdf_memory)) != HSM_OK)
        return st;
    if (t->opt.pin_tries != NULL) {
        if ((st = tool_number(t, "--pin-tries", t->opt.pin_tries, 1, 255, &tries)) != HSM_OK)
            return st;
        init->pin_tries_max = (unsigned)tries;
    }
    return HSM_OK;
}

/* Only a token that is a file has a group; a socket or a bus keeps what udev or the daemon gave it. */
static hsm_status give_group(struct tool *t, gid_t gid)
{
    const struct hsm_token_spec *spec = hsm_token_spec(t->ctx, t->token_index);

    if (gid == (gid_t)-1 || strcmp(spec->driver, "soft") != 0)
        return HSM_OK;
    if (chown(spec->location, (uid_t)-1, gid) != 0)
        return hsm_fail(HSM_ERR_DENIED, "token %s is made, but cannot be given to group %s: %s",
                        spec->location, t->opt.group, strerror(errno));
    return HSM_OK;
}

static hsm_status make_token_directory(struct tool *t)
{
    const struct hsm_token_spec *spec = hsm_token_spec(t->ctx, t->token_index);

    return strcmp(spec->driver, "soft") == 0 ? tool_make_parent(spec->location, 0755) : HSM_OK;
}

/* PIN file and token belong together: no signal comes between; what was written goes if the token fails. */
static hsm_status create(struct tool *t, struct hsm_token_init *init, struct hsm_buf *user_pin)
{
    struct pin_file pf = { .written = false };
    gid_t gid = (gid_t)-1;
    hsm_status st;

    if ((st = tool_group(t, &gid)) != HSM_OK || (st = make_token_directory(t)) != HSM_OK)
        return st;
    signals_hold();
    if (t->opt.generate_pin)
        st = pin_file_begin(t, t->opt.force, &pf, user_pin);
    if (st == HSM_OK) {
        init->user_pin = (struct hsm_bytes){ user_pin->ptr, user_pin->len };
        st = hsm_token_create(t->ctx, t->token_index, init);
        if (st == HSM_OK)
            st = pin_file_commit(&pf);
        else
            pin_file_abort(&pf);
    }
    if (st == HSM_OK)
        st = give_group(t, gid);
    signals_release();
    return st;
}

static hsm_status report_new_token(struct tool *t, const struct hsm_token_init *init, bool so_pin_made)
{
    struct json_object *record;
    char so_pin[HSM_PIN_MAX + 1];

    snprintf(so_pin, sizeof(so_pin), "%.*s", (int)init->so_pin.len, (const char *)init->so_pin.ptr);
    if (!t->opt.json) {
        out_note(t, "token '%s' is made: %s:%s", init->label, hsm_token_spec(t->ctx, t->token_index)->driver,
                 hsm_token_spec(t->ctx, t->token_index)->location);
        if (so_pin_made)
            out_note(t, "SO PIN, shown only now, keep it safe: %s", so_pin);
        hsm_cleanse(so_pin, sizeof(so_pin));
        return HSM_OK;
    }
    record = json_object_new_object();
    out_text(record, "label", init->label);
    out_text(record, "driver", hsm_token_spec(t->ctx, t->token_index)->driver);
    out_text(record, "location", hsm_token_spec(t->ctx, t->token_index)->location);
    if (so_pin_made)
        out_text(record, "so_pin", so_pin);
    hsm_cleanse(so_pin, sizeof(so_pin));
    return out_record(t, record);
}

hsm_status cmd_token_init(struct tool *t)
{
    uint8_t user[HSM_PIN_MAX], so[HSM_PIN_MAX];
    struct hsm_buf user_pin = { .ptr = user, .cap = sizeof(user) }, so_pin = { .ptr = so, .cap = sizeof(so) };
    struct hsm_token_init init = { .label = NULL };
    hsm_status st;

    if ((st = tool_open(t)) != HSM_OK || (st = read_init_options(t, &init)) != HSM_OK)
        return st;
    if (!t->opt.generate_pin && !t->opt.no_pin)
        st = tool_pin(t, hsm_pin_source(t->ctx, t->token_index), HSM_ROLE_USER, true, &user_pin);
    if (st == HSM_OK && t->opt.so_pin_source != NULL)
        st = tool_pin(t, t->opt.so_pin_source, HSM_ROLE_SO, true, &so_pin);
    else if (st == HSM_OK)
        st = tool_paper_pin(&so_pin);
    if (st == HSM_OK) {
        init.so_pin = (struct hsm_bytes){ so, so_pin.len };
        st = create(t, &init, &user_pin);
    }
    if (st == HSM_OK)
        st = report_new_token(t, &init, t->opt.so_pin_source == NULL);
    hsm_cleanse(user, sizeof(user));
    hsm_cleanse(so, sizeof(so));
    return st;
}

hsm_status cmd_token_info(struct tool *t)
{
    struct hsm_token_info info = { .driver = "" };
    struct hsm_token *tok = NULL;
    struct json_object *record;
    hsm_status st;

    if ((st = tool_token(t, &tok)) != HSM_OK || (st = hsm_token_info(tok, &info)) != HSM_OK)
        return st;
    record = json_object_new_object();
    out_text(record, "label", info.label);
    out_text(record, "name", hsm_token_name(t->ctx, t->token_index));
    out_text(record, "driver", info.driver);
    out_text(record, "location", info.location);
    out_text(record, "serial", info.serial);
    out_text(record, "model", info.model[0] != '\0' ? info.model : NULL);
    out_text(record, "channel", info.channel[0] != '\0' ? info.channel : NULL);
    out_bool(record, "initialised", info.initialised);
    out_int(record, "format_version", info.format_version);
    out_bool(record, "writable", info.writable);
    if (info.free_bytes != 0)
        out_uint(record, "free_bytes", info.free_bytes);
    out_bool(record, "no_pin", info.no_pin);
    out_bool(record, "machine_pin", info.machine_pin);
    out_int(record, "pin_tries_max", info.pin_tries_max);
    out_int(record, "pin_tries_left", info.pin_tries_left);
    out_bool(record, "pin_locked", info.pin_locked);
    out_int(record, "so_tries_left", info.so_tries_left);
    out_bool(record, "so_locked", info.so_locked);
    return out_record(t, record);
}

static void describe_token(struct tool *t, size_t index, struct json_object *record)
{
    const struct hsm_token_spec *spec = hsm_token_spec(t->ctx, index);
    struct hsm_token_info info = { .driver = "" };
    struct hsm_token *tok = NULL;
    hsm_status st = hsm_token_get(t->ctx, index, &tok);

    if (st == HSM_OK)
        st = hsm_token_info(tok, &info);
    out_text(record, "name", hsm_token_name(t->ctx, index));
    out_text(record, "driver", spec->driver);
    out_text(record, "location", spec->location);
    out_text(record, "label", st == HSM_OK ? info.label : NULL);
    out_text(record, "status",
             st != HSM_OK        ? hsm_strerror(st)
             : !info.initialised ? "not initialised"
             : info.pin_locked   ? "PIN is locked"
                                 : "ok");
}

hsm_status cmd_token_list(struct tool *t)
{
    static const char *const fields[] = { "name", "label", "driver", "location", "status", NULL };
    struct json_object *list;
    hsm_status st;

    if ((st = tool_open(t)) != HSM_OK)
        return st;
    list = json_object_new_array();
    for (size_t i = 0; i < hsm_token_count(t->ctx); i++) {
        struct json_object *record = json_object_new_object();

        describe_token(t, i, record);
        json_object_array_add(list, record);
    }
    return out_list(t, list, fields);
}
