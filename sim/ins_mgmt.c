/* SPDX-License-Identifier: Apache-2.0 */
/* Module management, section 3.1. */
#include "applet.h"

#include <string.h>

static void version_bytes(const struct applet *a, uint8_t out[VERSION_LEN])
{
    memcpy(out, a->p.version, 3);
    put_be(out + 3, a->p.config, 2);
    put_be(out + 5, a->p.secure_box, 2);
}

uint16_t ins_version(struct applet *a, struct command *c)
{
    uint8_t version[VERSION_LEN];

    version_bytes(a, version);
    put_bytes(c->out, TAG_1, version, sizeof(version));
    return SW_OK;
}

uint16_t ins_version_ext(struct applet *a, struct command *c)
{
    uint8_t version[VERSION_LEN + 30];

    version_bytes(a, version);
    memset(version + VERSION_LEN, 0xFF, sizeof(version) - VERSION_LEN);
    put_bytes(c->out, TAG_1, version, sizeof(version));
    return SW_OK;
}

/* 4 bytes that grow with each power-up, then 8 in steps of 100 ms since then */
void timestamp(struct applet *a, uint8_t out[TIMESTAMP_LEN])
{
    if (!a->boot_counted) {
        a->boots++;
        a->boot_counted = true;
        a->dirty = true;
    }
    put_be(out, a->boots, 4);
    put_be(out + 4, (now_ms() - a->started_ms) / 100, 8);
}

uint16_t ins_timestamp(struct applet *a, struct command *c)
{
    uint8_t now[TIMESTAMP_LEN];

    timestamp(a, now);
    put_bytes(c->out, TAG_1, now, sizeof(now));
    return SW_OK;
}

static bool is_se052(const struct applet *a)
{
    return (a->p.version[2] & 0xF0) == 0x10;
}

uint16_t ins_free_memory(struct applet *a, struct command *c)
{
    uint8_t wide[4];
    uint32_t kind;
    size_t free_len;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &kind) || kind < 1 || kind > 3)
        return SW_DATA;
    free_len = kind == 1   ? memory_persistent_free(a)
               : kind == 2 ? memory_transient_reset_free(a)
                           : memory_transient_deselect_free(a);
    if (is_se052(a)) {
        put_be(wide, free_len, sizeof(wide));
        put_bytes(c->out, TAG_1, wide, sizeof(wide));
    } else {
        put_u16(c->out, TAG_1, (uint16_t)(free_len > 0x7FFF ? 0x7FFF : free_len));
    }
    return SW_OK;
}

uint16_t ins_random(struct applet *a, struct command *c)
{
    uint8_t random[SIM_APDU_MAX];
    uint32_t len;

    if (!tlv_uint(&c->tlv, TAG_1, 2, &len))
        return SW_DATA;
    if (len == 0 || len > a->p.random_max || !random_bytes(a, random, len))
        return SW_CONDITIONS;
    spend(a, TIME_RANDOM);
    put_bytes(c->out, TAG_1, random, len);
    return SW_OK;
}

uint16_t ins_delete_all(struct applet *a, struct command *c)
{
    if (c->who->auth_id != ID_FACTORY_RESET)
        return SW_CONDITIONS;
    for (size_t i = a->object_count; i-- > 0;)
        if (a->objects[i]->origin != ORIGIN_PROVISIONED)
            store_remove(a, a->objects[i]);
    while (a->crypto_count > 0)
        crypto_remove(a, a->crypto[0]);
    for (size_t id = 1; id <= CURVE_MAX; id++)
        for (size_t i = 0; i < CURVE_PARAMS; i++) { /* also P-256: the device keys rest until it is back */
            buf_clear(&a->curves[id].param[i]);
            a->curves[id].created = false;
            a->curves[id].set = 0;
        }
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_lock_state(struct applet *a, struct command *c)
{
    uint32_t indicator, state;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &indicator) || !tlv_uint(&c->tlv, TAG_2, 1, &state) || indicator < 1 ||
        indicator > 2)
        return SW_DATA;
    if (c->who->auth_id != ID_TRANSPORT)
        return SW_CONDITIONS;
    if (indicator == 1) {
        a->unlocked_transient = state != 1;
    } else {
        a->dirty = a->locked_persistent != (state == 1);
        a->locked_persistent = state == 1;
    }
    return SW_OK;
}

/* Features can be taken away, never given. */
uint16_t ins_features(struct applet *a, struct command *c)
{
    struct sim_bytes value = c->tlv.value[TAG_1];
    uint16_t config;

    if (value.len != 2 && !(a->p.v7 && value.len == 32))
        return SW_DATA;
    if (c->who->auth_id != ID_FEATURE)
        return SW_CONDITIONS;
    config = (uint16_t)get_be((struct sim_bytes){ value.ptr, 2 });
    if (config & ~a->p.config)
        return SW_CONDITIONS;
    a->p.config = config;
    a->dirty = true;
    return SW_OK;
}

uint16_t ins_restrict(struct applet *a, struct command *c)
{
    uint32_t indicator, mode;

    if (!tlv_uint(&c->tlv, TAG_1, 1, &indicator) || !tlv_uint(&c->tlv, TAG_2, 1, &mode) || indicator < 1 ||
        indicator > 2 || mode < 1 || mode > 2)
        return SW_DATA;
    if (c->who->auth_id != ID_RESTRICT)
        return SW_CONDITIONS;
    if (indicator == 1) {
        a->restrict_transient = (uint8_t)mode;
    } else {
        a->restrict_persistent = (uint8_t)mode;
        a->dirty = true;
    }
    return SW_OK;
}

uint16_t ins_self_test(struct applet *a, struct command *c)
{
    static const uint16_t modes[] = { 0xF906, 0xFE01, 0xFD02, 0xFC03, 0xFB04, 0xFA05 };
    bool known = false;
    uint32_t mode;

    if (!tlv_uint(&c->tlv, TAG_1, 2, &mode))
        return SW_DATA;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        known = known || modes[i] == mode;
    if (!known || (mode == 0xF906 && !is_fips(a)))
        return SW_CONDITIONS;
    if (c->attest) {
        put_bytes(c->out, TAG_1, (uint8_t[]){ 1 }, 1); /* signed answers have three-byte lengths */
        return attest(a, c, NULL);
    }
    put_u8(c->out, TAG_1, 1);
    return SW_OK;
}

/* Lock state, restriction, platform SCP request: the last is card.c's and kept under its name */
uint16_t ins_read_state(struct applet *a, struct command *c)
{
    uint8_t required = a->p.platform_scp_required, state[3];
    size_t len = 1;

    applet_nvm_get(a, "platform-scp", &required, &len);
    state[0] = a->locked_persistent && !a->unlocked_transient ? 1 : 2;
    state[1] =
        a->restrict_persistent > a->restrict_transient ? a->restrict_persistent : a->restrict_transient;
    state[2] = required ? 1 : 2;
    put_bytes(c->out, TAG_1, state, sizeof(state));
    return SW_OK;
}
