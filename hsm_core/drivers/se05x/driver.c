/* SPDX-License-Identifier: Apache-2.0 */
/* The driver table, and the life of an open token. */
#include "link.h"
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- open and close
 * ------------------------------------------------------------------------------------------- */

static bool is_among(const char *const *names, const char *name, size_t len)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == len && memcmp(*names, name, len) == 0)
            return true;
    return false;
}

static void list_names(const char *const *names, char *out, size_t out_len)
{
    size_t used = strlen(out);

    for (; *names != NULL && used < out_len; names++)
        used += (size_t)snprintf(out + used, out_len - used, "%s%s", used > 0 ? ", " : "", *names);
}

static hsm_status check_params(const struct hsm_open_args *args)
{
    static const char *const ours[] = { "scp03", "scp03-part", "auth", NULL };
    const char *at = args->spec->params, *end;
    char known[200] = "";
    size_t len;

    if (args->spec->location[0] == '\0')
        return hsm_fail(HSM_ERR_CONFIG, "token '%s': 'se05x:' needs a bus, e.g. se05x:/dev/i2c-3",
                        args->name);
    list_names(se05x_link_params, known, sizeof(known));
    list_names(ours, known, sizeof(known));
    for (; *at != '\0'; at = *end == '\0' ? end : end + 1) {
        end = at + strcspn(at, "&");
        len = strcspn(at, "=&");
        if (!is_among(se05x_link_params, at, len) && !is_among(ours, at, len))
            return hsm_fail(HSM_ERR_CONFIG, "token '%s': unknown parameter '%.*s'; known: %s", args->name,
                            (int)(end - at), at, known);
    }
    return HSM_OK;
}

void se05x_token_close(struct se05x_token *t)
{
    if (t == NULL)
        return;
    if (t->channel != NULL)
        se05x_channel_close(t);
    if (t->link != NULL)
        se05x_link_close(t->link);
    se05x_directory_free(t);
    free(t);
}

hsm_status se05x_token_open(const struct hsm_open_args *args, struct se05x_token **out)
{
    struct se05x_token *t;
    hsm_status st;

    if ((st = check_params(args)) != HSM_OK)
        return st;
    if ((t = calloc(1, sizeof(*t))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for token '%s'", args->name);
    (void)snprintf(t->where, sizeof(t->where), "token '%.64s' (%.100s)", args->name, args->spec->location);
    t->libctx = args->libctx;
    t->base.driver = &hsm_driver_se05x;
    if ((st = se05x_directory_new(t, args)) != HSM_OK || (st = se05x_link_open(args, &t->link)) != HSM_OK ||
        (st = se05x_channel_open(t, args)) != HSM_OK) {
        se05x_token_close(t);
        return st;
    }
    *out = t;
    return HSM_OK;
}

static hsm_status se05x_open(const struct hsm_open_args *args, struct hsm_token **tok)
{
    struct se05x_token *t = NULL;
    hsm_status st = se05x_token_open(args, &t);

    if (st == HSM_OK)
        *tok = &t->base;
    return st;
}

static void se05x_close(struct hsm_token *tok)
{
    se05x_token_close(se05x_of(tok));
}

static void se05x_abandon(struct hsm_token *tok)
{
    struct se05x_token *t = se05x_of(tok);

    if (t->channel != NULL)
        se05x_channel_abandon(t);
    if (t->link != NULL)
        se05x_link_abandon(t->link);
    t->link = NULL;
}

/* ---- facts
 * ---------------------------------------------------------------------------------------------------- */

hsm_status se05x_read_unique_id(struct se05x_token *t)
{
    static const uint8_t none[sizeof(t->unique_id)];
    struct hsm_buf out = { t->unique_id, sizeof(t->unique_id), 0 };
    uint16_t sw;
    hsm_status st;

    if (memcmp(t->unique_id, none, sizeof(none)) != 0)
        return HSM_OK;
    st = se05x_read_object(t, SE05X_ANYBODY, SE05X_ID_UNIQUE, 0, 0, sizeof(t->unique_id), &out, &sw);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "reading its unique id");
}

/* By what the applet says of itself; the exact part is a matter of `identify`. */
const char *se05x_model(const struct se05x_token *t, char out[64])
{
    const struct se05x_caps *caps = &t->caps;
    const char *family = "SE050";

    if (caps->version[2] >= 0x10 && caps->version[2] <= 0x1f)
        family = "SE052";
    else if (caps->version[0] == 3 && caps->version[1] >= 6)
        family = "SE050F";
    else if (caps->version[0] >= 4)
        family = caps->has_rsa ? "SE051" : "SE050E";
    (void)snprintf(out, 64, "%s applet %u.%u.%u", family, caps->version[0], caps->version[1],
                   caps->version[2]);
    return out;
}

static void fill_pins(struct se05x_token *t, struct hsm_token_info *info)
{
    const struct se05x_token_info *token = &t->directory->info;

    info->initialised = t->directory->initialised;
    info->logged_in = se05x_logged_in(t, SE05X_USER);
    if (!info->initialised)
        return;
    info->format_version = SE05X_FORMAT;
    memcpy(info->label, token->label, sizeof(info->label));
    info->no_pin = token->no_pin;
    info->logged_in = info->logged_in || token->no_pin;
    info->machine_pin = token->pin[HSM_ROLE_USER].now.kdf == SE05X_KDF_HKDF;
    info->pin_tries_max = token->tries_max;
    info->pin_tries_left = token->no_pin ? token->tries_max : se05x_pin_tries_left(t, HSM_ROLE_USER);
    info->pin_locked = info->pin_tries_left == 0;
    info->so_tries_left = se05x_pin_tries_left(t, HSM_ROLE_SO);
    info->so_locked = info->so_tries_left == 0;
}

static hsm_status se05x_info(struct hsm_token *tok, struct hsm_token_info *info)
{
    struct se05x_token *t = se05x_of(tok);
    uint32_t free_bytes = 0;
    uint16_t sw;
    hsm_status st;
    size_t i;

    memset(info, 0, sizeof(*info));
    if ((st = se05x_token_read(t)) != HSM_OK || (st = se05x_read_unique_id(t)) != HSM_OK ||
        (st = se05x_free_memory(t, SE05X_MEMORY_PERSISTENT, &free_bytes, &sw)) != HSM_OK)
        return st;
    (void)snprintf(info->driver, sizeof(info->driver), "%s", hsm_driver_se05x.name);
    (void)snprintf(info->location, sizeof(info->location), "%s", se05x_link_name(t->link));
    (void)snprintf(info->channel, sizeof(info->channel), "%s", se05x_channel_name(t));
    for (i = 0; i < sizeof(t->unique_id); i++)
        (void)snprintf(info->serial + 2 * i, 3, "%02x", t->unique_id[i]);
    (void)se05x_model(t, info->model);
    info->writable = true;
    info->free_bytes = sw == SE05X_SW_OK ? free_bytes : 0;
    fill_pins(t, info);
    return HSM_OK;
}

static hsm_status se05x_random(struct hsm_token *tok, struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    size_t at = 0, most = t->caps.random_max != 0 ? t->caps.random_max : SE05X_RANDOM_MAX;
    struct hsm_buf piece;
    uint16_t sw;
    hsm_status st;

    if (most > SE05X_RANDOM_MAX)
        most = SE05X_RANDOM_MAX;
    while (at < out->cap) {
        piece = (struct hsm_buf){ out->ptr + at, out->cap - at < most ? out->cap - at : most, 0 };
        if ((st = se05x_get_random(t, &piece, &sw)) != HSM_OK)
            return st;
        if (sw != SE05X_SW_OK)
            return se05x_refused(t, sw, "random numbers");
        at += piece.len;
    }
    out->len = out->cap;
    return HSM_OK;
}

const struct hsm_driver hsm_driver_se05x = {
    .name = "se05x",
    .concurrent = false,
    .open = se05x_open,
    .close = se05x_close,
    .abandon = se05x_abandon,
    .create = se05x_create,
    .info = se05x_info,
    .login = se05x_pin_login,
    .pin_change = se05x_pin_change,
    .pin_unblock = se05x_pin_unblock,
    .enumerate = se05x_enumerate,
    .generate = se05x_generate,
    .import = se05x_import,
    .export_private = se05x_export_private,
    .put = se05x_put,
    .get = se05x_get,
    .destroy = se05x_destroy,
    .sign = se05x_sign,
    .sign_message = se05x_sign_message,
    .derive = se05x_derive,
    .decrypt = se05x_decrypt,
    .random = se05x_random,
    .counter_create = se05x_counter_create,
    .counter_get = se05x_counter_get,
    .counter_increment = se05x_counter_increment,
    .attest = se05x_attest,
    .control = se05x_control,
};
