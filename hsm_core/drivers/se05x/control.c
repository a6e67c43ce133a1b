/* SPDX-License-Identifier: Apache-2.0 */
/* Administration that only this kind of chip has: `hsmctl se05x ...` */
#include "token.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct printer {
    hsm_line_fn *print;
    void *arg;
};

static void say(const struct printer *p, const char *fmt, ...) HSM_PRINTF(2, 3);
static void say(const struct printer *p, const char *fmt, ...)
{
    char line[400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    p->print(p->arg, line);
}

static hsm_status say_stats(struct se05x_token *t, const struct printer *p)
{
    struct se05x_link_stats s;

    se05x_link_get_stats(t->link, &s);
    say(p, "apdus: %" PRIu64, s.apdus);
    say(p, "messages written: %" PRIu64, s.writes);
    say(p, "messages read: %" PRIu64, s.reads);
    say(p, "bytes out: %" PRIu64, s.bytes_out);
    say(p, "bytes in: %" PRIu64, s.bytes_in);
    say(p, "not ready: %" PRIu64, s.nacks);
    say(p, "waited: %" PRIu64 " ms", s.sleep_us / 1000);
    say(p, "resynchronised: %" PRIu64, s.resynchs);
    say(p, "resets: %" PRIu64, s.resets);
    return HSM_OK;
}

static hsm_status say_memory(struct se05x_token *t, const struct printer *p)
{
    static const char *const names[] = { "persistent", "transient (reset)", "transient (deselect)" };
    uint32_t bytes = 0;
    uint16_t sw;
    hsm_status st;
    int i;

    for (i = 0; i < 3; i++) {
        if ((st = se05x_free_memory(t, (enum se05x_memory)(SE05X_MEMORY_PERSISTENT + i), &bytes, &sw)) !=
            HSM_OK)
            return st;
        if (sw == SE05X_SW_OK)
            say(p, "free %s: %" PRIu32 " bytes%s", names[i], bytes, bytes == 0x7fff ? " or more" : "");
    }
    return HSM_OK;
}

static hsm_status say_identity(struct se05x_token *t, const struct printer *p)
{
    const struct scp03_default *part;
    uint16_t oef_id = 0;
    hsm_status st = se05x_identify(t, &oef_id);

    if (st != HSM_OK)
        return st;
    part = scp03_default_by_oef(oef_id);
    say(p, "oef id: %04X", oef_id);
    say(p, "part: %s", part == NULL ? "unknown" : part->part);
    return HSM_OK;
}

static void say_features(const struct se05x_token *t, const struct printer *p)
{
    const struct se05x_caps *c = &t->caps;

    say(p, "features:%s%s%s%s%s%s%s%s", c->has_ec ? " ec" : "", c->has_rsa ? " rsa" : "",
        c->has_rsa_crt ? " rsa-crt" : "", c->has_ed25519 ? " ed25519" : "", c->has_x25519 ? " x25519" : "",
        c->has_aes ? " aes" : "", c->has_hmac ? " hmac" : "", c->fips ? " fips" : "");
}

static hsm_status say_info(struct se05x_token *t, const struct printer *p)
{
    char model[64], id[2 * sizeof(t->unique_id) + 1];
    uint8_t atr[64];
    struct hsm_buf out = { atr, sizeof(atr), 0 };
    hsm_status st;
    size_t i;

    if ((st = se05x_read_unique_id(t)) != HSM_OK || (st = se05x_token_read(t)) != HSM_OK)
        return st;
    for (i = 0; i < sizeof(t->unique_id); i++)
        (void)snprintf(id + 2 * i, 3, "%02x", t->unique_id[i]);
    say(p, "bus: %s", se05x_link_name(t->link));
    say(p, "model: %s", se05x_model(t, model));
    say(p, "unique id: %s", id);
    say(p, "applet configuration: %04X", t->caps.config);
    say_features(t, p);
    if (se05x_link_atr(t->link, &out) == HSM_OK && out.len > 25 && out.len - 25 <= 32) /* historical bytes */
        say(p, "operating system: %.*s", (int)(out.len - 25), (const char *)atr + 25);
    say(p, "channel: %s", se05x_channel_name(t));
    say(p, "token: %s", t->directory->initialised ? t->directory->info.label : "not initialised");
    say(p, "sessions: user %s, SO %s", se05x_logged_in(t, SE05X_USER) ? "logged in" : "none",
        se05x_logged_in(t, SE05X_SO) ? "logged in" : "none");
    if ((st = say_identity(t, p)) != HSM_OK && st != HSM_ERR_TOKEN_FORMAT && st != HSM_ERR_TOKEN_IO)
        return st;
    if ((st = say_memory(t, p)) != HSM_OK)
        return st;
    return say_stats(t, p);
}

static const char *whose(const struct se05x_token *t, uint32_t id)
{
    uint32_t generation = t->directory->info.generation;

    if (id == SE05X_ID_TOKEN)
        return "hsm: token";
    if (id == SE05X_ID_JOURNAL)
        return "hsm: journal";
    if (se05x_is_record(id))
        return "hsm: record";
    if (se05x_is_value(id))
        return "hsm: value";
    if (se05x_is_auth(id))
        return id == se05x_auth_id(generation, HSM_ROLE_USER) ? "hsm: user PIN"
               : id == se05x_auth_id(generation, HSM_ROLE_SO) ? "hsm: SO PIN"
                                                              : "hsm: PIN of an earlier token";
    if (id >> 16 == 0x7fff)
        return "applet";
    return id >> 24 == 0xf0 ? "NXP" : "other";
}

static hsm_status say_objects(struct se05x_token *t, const struct printer *p)
{
    uint32_t *ids = NULL;
    size_t count = 0, i;
    hsm_status st;

    if ((st = se05x_token_read(t)) != HSM_OK || (st = se05x_all_ids(t, &ids, &count)) != HSM_OK)
        return st;
    for (i = 0; i < count && st == HSM_OK; i++) {
        uint8_t type = 0;
        uint16_t sw = 0;

        st = se05x_read_type(t, ids[i], &type, &sw);
        if (st == HSM_OK && sw == SE05X_SW_OK)
            say(p, "%08X: %s (%s)", (unsigned)ids[i], se05x_type_name(type), whose(t, ids[i]));
    }
    free(ids);
    return st;
}

static hsm_status reset(struct se05x_token *t, const struct printer *p)
{
    hsm_status st = se05x_begin(t);

    if (st != HSM_OK)
        return st;
    st = se05x_link_recover(t->link, true);
    se05x_end(t);
    if (st == HSM_OK)
        say(p, "the chip was reset; sessions are opened again when needed");
    return st;
}

static hsm_status rotate(struct se05x_token *t, const char *path)
{
    if (path == NULL || path[0] == '\0')
        return hsm_fail(HSM_ERR_ARGUMENT, "%s: rotate-keys needs the path of a new key file", t->where);
    return se05x_rotate_keys(t, path);
}

hsm_status se05x_control(struct hsm_token *tok, const char *command, const char *argument, hsm_line_fn *print,
                         void *arg)
{
    struct se05x_token *t = se05x_of(tok);
    struct printer p = { print, arg };

    if (strcmp(command, "info") == 0)
        return say_info(t, &p);
    if (strcmp(command, "stats") == 0)
        return say_stats(t, &p);
    if (strcmp(command, "objects") == 0)
        return say_objects(t, &p);
    if (strcmp(command, "identify") == 0)
        return say_identity(t, &p);
    if (strcmp(command, "reset") == 0)
        return reset(t, &p);
    if (strcmp(command, "rotate-keys") == 0)
        return rotate(t, argument);
    return hsm_fail(HSM_ERR_UNSUPPORTED,
                    "%s: unknown command '%s'; known: info, stats, objects, identify, reset, rotate-keys",
                    t->where, command);
}
