/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hsmctl bus scan [PATH]. The address of the chip is left out of the scan and asked by its own driver, which
 * takes its turn with other processes and sends nothing but whole protocol blocks.
 */
#include <stdio.h>
#include <string.h>

#include "hsm/bus.h"
#include "tool.h"

enum { CHIP_ADDR = 0x48 };

/* ---- the buses ----------------------------------------------------------------------------------------- */

static hsm_status add_bus(void *arg, const struct hsm_bus *bus)
{
    struct json_object *record = json_object_new_object();

    out_text(record, "path", bus->path);
    out_text(record, "adapter", bus->name[0] != '\0' ? bus->name : NULL);
    out_bool(record, "accessible", bus->accessible);
    out_bool(record, "plain_messages", bus->plain_messages);
    json_object_array_add(arg, record);
    return HSM_OK;
}

static hsm_status list_buses(struct tool *t)
{
    static const char *const fields[] = { "path", "adapter", "accessible", "plain_messages", NULL };
    struct json_object *list = json_object_new_array();
    hsm_status st = hsm_bus_list(add_bus, list);

    if (st == HSM_OK && json_object_array_length(list) == 0)
        st = hsm_fail(HSM_ERR_NO_TOKEN, "there is no /dev/i2c-N: load the driver of the adapter, and i2c-dev "
                                        "(modprobe i2c-dev)");
    if (st == HSM_OK)
        return out_list(t, list, fields);
    json_object_put(list);
    return st;
}

/* ---- the devices on one -------------------------------------------------------------------------------- */

static void add_answer(struct json_object *list, unsigned addr, const char *what)
{
    struct json_object *record = json_object_new_object();
    char text[8];

    snprintf(text, sizeof(text), "0x%02x", addr);
    out_text(record, "address", text);
    out_text(record, "what", what);
    json_object_array_add(list, record);
}

static hsm_status open_chip(struct tool *t, const char *path, struct hsm_token_info *info)
{
    struct hsm_config *cfg = NULL;
    struct hsm_ctx *ctx = NULL;
    struct hsm_token *tok = NULL;
    char spec[600];
    hsm_status st;

    (void)t;
    if ((st = hsm_config_new(&cfg)) != HSM_OK)
        return st;
    snprintf(spec, sizeof(spec), "se05x:%s?timeout=500", path);
    if ((st = hsm_config_set(cfg, "token", spec)) == HSM_OK && (st = hsm_config_finish(cfg)) == HSM_OK)
        st = hsm_ctx_new(cfg, &ctx);
    if (st != HSM_OK) {
        hsm_config_free(cfg);
        return st;
    }
    if ((st = hsm_token_get(ctx, 0, &tok)) == HSM_OK)
        st = hsm_token_info(tok, info);
    hsm_ctx_free(ctx);
    return st;
}

static void ask_chip(struct tool *t, struct json_object *list)
{
    struct hsm_token_info info = { .driver = "" };
    char what[128];

    switch (open_chip(t, t->arg[0], &info)) {
    case HSM_OK:
        snprintf(what, sizeof(what), "SE05x: %s", info.model);
        add_answer(list, CHIP_ADDR, what);
        break;
    case HSM_ERR_BUSY:
        add_answer(list, CHIP_ADDR, "in use: by a kernel driver, or as a chip by another process");
        break;
    case HSM_ERR_DENIED:
        add_answer(list, CHIP_ADDR, "SE05x that wants a secure channel (scp03=)");
        break;
    default: /* nobody, or something that does not speak its protocol */
        break;
    }
}

struct walk {
    struct tool *t;
    struct json_object *list;
};

static hsm_status add_device(void *arg, unsigned addr, enum hsm_bus_answer answer)
{
    static const char *const words[] = {
        [HSM_BUS_ANSWERS] = "answers",
        [HSM_BUS_KERNEL] = "in use by a kernel driver",
        [HSM_BUS_NOT_ASKED] = "not asked: the adapter cannot do so harmlessly",
        [HSM_BUS_TROUBLE] = "the bus is disturbed or stuck",
    };
    struct walk *walk = arg;

    if (addr == CHIP_ADDR)
        ask_chip(walk->t, walk->list);
    else
        add_answer(walk->list, addr, words[answer]);
    return HSM_OK;
}

static hsm_status list_devices(struct tool *t)
{
    static const char *const fields[] = { "address", "what", NULL };
    struct walk walk = { t, json_object_new_array() };
    hsm_status st = hsm_bus_scan(t->arg[0], CHIP_ADDR, add_device, &walk);

    if (st == HSM_OK)
        return out_list(t, walk.list, fields);
    json_object_put(walk.list);
    return st;
}

hsm_status cmd_bus_scan(struct tool *t)
{
    return t->arg_count == 0 ? list_buses(t) : list_devices(t);
}
