/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The card manager: SELECT, PlatformSCP03, key rotation in the supplementary security domain, IDENTIFY and
 * CPLC; and the way from an APDU to whoever answers it. Sessions are in session.c.
 */
#include "lower.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

enum {
    CLA_ISO = 0x00,
    CLA_GP = 0x80,
    CLA_SECURE = 0x04,
    INS_INITIALIZE_UPDATE = 0x50,
    INS_EXTERNAL_AUTHENTICATE = 0x82,
    INS_SELECT = 0xA4,
    INS_GET_DATA = 0xCA,
    INS_PUT_KEY = 0xD8,
    PLATFORM_KEY_VERSION = 0x0B,
    KEY_TYPE_AES = 0x88,
    ID_PLATFORM_SCP = 0x7FFF0207,
    P2_SCP_REQUEST = 0x52
};
static const char nvm_keys[] = "platform-keys", nvm_request[] = "platform-scp";

const uint8_t iot_aid[16] = { 0xA0, 0x00, 0x00, 0x03, 0x96, 0x54, 0x53, 0x00, 0x00, 0x00, 0x01, 0x03 };
static const uint8_t ssd_aid[] = { 0xD2, 0x76, 0x00, 0x00, 0x85, 0x30, 0x4A, 0x43, 0x4F, 0x90, 0x03 };
static const uint8_t isd_aid[] = { 0xA0, 0x00, 0x00, 0x01, 0x51, 0x00, 0x00, 0x00 };
/* Key diversification data of the SE050E on which the vector of section 5.3 was taken */
static const uint8_t diversification[10] = { 0x90, 0x03, 0x20, 0x19, 0x07, 0x38, 0x24, 0x20, 0x25, 0x02 };

/* ---- times ------------------------------------------------------------------------------------------ */

static struct {
    const char *name;
    uint32_t us;
} times[CARD_TIMES] = {
    [TIME_SELECT] = { "select", 3000 },
    [TIME_INIT_UPDATE] = { "initialize-update", 6000 },
    [TIME_EXTERNAL_AUTH] = { "external-authenticate", 4000 },
    [TIME_MESSAGING] = { "secure-messaging", 1500 },
    [TIME_PUT_KEY] = { "put-key", 20000 },
    [TIME_SESSION] = { "session", 2000 },
    [TIME_USERID] = { "verify-userid", 4000 },
    [TIME_ECKEY] = { "eckey-authenticate", 160000 },
    [TIME_GET_DATA] = { "get-data", 1000 },
};

bool card_set_time(const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    char *end;
    unsigned long us;

    if (equals == NULL || equals[1] < '0' || equals[1] > '9')
        return false;
    us = strtoul(equals + 1, &end, 10);
    if (*end != '\0' || us > UINT32_MAX)
        return false;
    for (size_t i = 0; i < CARD_TIMES; i++) {
        if (strlen(times[i].name) == (size_t)(equals - assignment) &&
            strncmp(times[i].name, assignment, (size_t)(equals - assignment)) == 0) {
            times[i].us = (uint32_t)us;
            return true;
        }
    }
    return false;
}

void card_print_times(void)
{
    for (size_t i = 0; i < CARD_TIMES; i++)
        printf("  %s=%u\n", times[i].name, times[i].us);
}

void card_spend(struct card *c, enum card_time what)
{
    c->time_us += times[what].us;
}

/* ---- small helpers ---------------------------------------------------------------------------------- */

bool out_put(struct sim_out *out, const void *ptr, size_t len)
{
    if (len > sizeof(out->data) - out->len)
        return false;
    memcpy(out->data + out->len, ptr, len);
    out->len += len;
    return true;
}

bool out_tlv(struct sim_out *out, uint8_t tag, const void *ptr, size_t len)
{
    uint8_t head[4] = { tag, 0x82, (uint8_t)(len >> 8), (uint8_t)len };

    return out_put(out, head, sizeof(head)) && out_put(out, ptr, len);
}

/* The tag (one or two bytes) must come next; length in one of the three forms. */
bool tlv_next(struct sim_bytes *in, unsigned tag, struct sim_bytes *value)
{
    size_t at = tag > 0xFF ? 2 : 1, len, extra;

    if (in->len < at + 1 || (at == 2 ? (unsigned)(in->ptr[0] << 8 | in->ptr[1]) : in->ptr[0]) != tag)
        return false;
    len = in->ptr[at++];
    extra = len == 0x81 ? 1 : len == 0x82 ? 2 : 0;
    if ((extra == 0 && len > 0x7F) || in->len < at + extra)
        return false;
    if (extra != 0)
        len = extra == 1 ? in->ptr[at] : (size_t)(in->ptr[at] << 8 | in->ptr[at + 1]);
    at += extra;
    if (in->len - at < len)
        return false;
    *value = (struct sim_bytes){ in->ptr + at, len };
    *in = (struct sim_bytes){ in->ptr + at + len, in->len - at - len };
    return true;
}

uint16_t apdu_parse(const uint8_t *cmd, size_t len, struct sim_apdu *apdu)
{
    size_t lc = 0, at = 4, le;

    if (len < 4)
        return SW_LENGTH;
    *apdu = (struct sim_apdu){ .cla = cmd[0], .ins = cmd[1], .p1 = cmd[2], .p2 = cmd[3] };
    if (len > 5 && cmd[4] != 0) {
        lc = cmd[4];
        at = 5;
    } else if (len > 7 && cmd[4] == 0) {
        lc = (size_t)(cmd[5] << 8 | cmd[6]);
        at = 7;
    }
    if (len < at + lc || (at > 4 && lc == 0))
        return SW_LENGTH;
    apdu->data = (struct sim_bytes){ cmd + at, lc };
    apdu->whole = (struct sim_bytes){ cmd, at + lc };
    le = len - at - lc; /* absent, one byte, two; three where no Lc went before */
    if (le > 2 && !(le == 3 && at == 4))
        return SW_LENGTH;
    for (size_t i = at + lc; i < len; i++) {
        if (cmd[i] != 0) /* only "as much as there is"; silicon refuses a number */
            return SW_LENGTH;
    }
    return SW_OK;
}

/* ---- life ------------------------------------------------------------------------------------------- */

/* Platform keys as kept in the NVM: version, length, ENC, MAC, DEK. */
static bool store_keys(struct card *c, const struct scp_keys *keys)
{
    uint8_t record[2 + 3 * SCP_KEY_MAX];
    bool ok;

    record[0] = keys->version;
    record[1] = (uint8_t)keys->len;
    memcpy(record + 2, keys->enc, SCP_KEY_MAX);
    memcpy(record + 2 + SCP_KEY_MAX, keys->mac, SCP_KEY_MAX);
    memcpy(record + 2 + 2 * SCP_KEY_MAX, keys->dek, SCP_KEY_MAX);
    ok = applet_nvm_put(c->applet, nvm_keys, record, sizeof(record));
    OPENSSL_cleanse(record, sizeof(record));
    return ok;
}

static void load_persistent(struct card *c)
{
    uint8_t record[2 + 3 * SCP_KEY_MAX], required;
    size_t len = sizeof(record), flag_len = sizeof(required);

    if (applet_nvm_get(c->applet, nvm_keys, record, &len) && len == sizeof(record)) {
        c->keys.version = record[0];
        c->keys.len = record[1];
        memcpy(c->keys.enc, record + 2, SCP_KEY_MAX);
        memcpy(c->keys.mac, record + 2 + SCP_KEY_MAX, SCP_KEY_MAX);
        memcpy(c->keys.dek, record + 2 + 2 * SCP_KEY_MAX, SCP_KEY_MAX);
    }
    if (applet_nvm_get(c->applet, nvm_request, &required, &flag_len) && flag_len == 1)
        c->scp_required = required != 0;
    OPENSSL_cleanse(record, sizeof(record));
}

struct card *card_new(const struct sim_personality *personality, struct applet *applet,
                      const struct scp_keys *keys, const uint8_t *fixed_challenge)
{
    struct card *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->personality = personality;
    c->applet = applet;
    c->keys = *keys;
    c->scp_required = personality->platform_scp_required;
    c->scp.every_command_counts = personality->every_command_counts;
    card_fix_challenge(c, fixed_challenge);
    load_persistent(c);
    return c;
}

void card_free(struct card *c)
{
    if (c != NULL)
        OPENSSL_cleanse(c, sizeof(*c));
    free(c);
}

void card_reset(struct card *c)
{
    scp_close(&c->scp);
    sessions_close_all(c);
    c->selected = SELECTED_NONE;
    applet_reset(c->applet);
}

void card_fix_challenge(struct card *c, const uint8_t *challenge)
{
    c->fixed = challenge != NULL;
    if (c->fixed)
        memcpy(c->fixed_challenge, challenge, sizeof(c->fixed_challenge));
}

bool card_challenge(struct card *c, uint8_t challenge[8])
{
    if (!c->fixed)
        return RAND_bytes(challenge, 8) == 1;
    memcpy(challenge, c->fixed_challenge, 8);
    return true;
}

/* ---- SELECT ----------------------------------------------------------------------------------------- */

static bool is_aid(struct sim_bytes aid, const uint8_t *name, size_t len)
{
    return aid.len == len && memcmp(aid.ptr, name, len) == 0;
}

static uint16_t select_application(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    const struct sim_personality *p = c->personality;
    enum selected chosen = SELECTED_NONE;

    card_spend(c, TIME_SELECT);
    if (apdu->p1 != 0x04 || apdu->p2 != 0x00)
        return SW_P1P2;
    if (apdu->data.len == 0 || is_aid(apdu->data, isd_aid, sizeof(isd_aid)))
        chosen = SELECTED_ISD;
    else if (is_aid(apdu->data, ssd_aid, sizeof(ssd_aid)))
        chosen = SELECTED_SSD;
    else if (is_aid(apdu->data, iot_aid, sizeof(iot_aid)))
        chosen = SELECTED_APPLET;
    if (chosen == SELECTED_NONE)
        return SW_NO_FILE;
    if (c->selected == SELECTED_APPLET)
        applet_deselected(c->applet);
    scp_close(&c->scp);
    sessions_close_all(c);
    c->selected = chosen;
    if (chosen == SELECTED_APPLET) {
        uint8_t version[7] = { p->version[0],         p->version[1],
                               p->version[2],         (uint8_t)(p->config >> 8),
                               (uint8_t)p->config,    (uint8_t)(p->secure_box >> 8),
                               (uint8_t)p->secure_box };

        (void)out_put(out, version, sizeof(version));
    }
    return SW_OK;
}

/* ---- the platform channel --------------------------------------------------------------------------- */

static uint16_t initialize_update(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    uint8_t challenge[8], cryptogram[8], info[3] = { c->keys.version, 0x03, 0x00 };
    uint8_t version = apdu->p1;

    card_spend(c, TIME_INIT_UPDATE);
    scp_close(&c->scp);
    if (c->selected != SELECTED_APPLET && c->selected != SELECTED_SSD)
        return SW_NOT_FOUND;
    if (!c->personality->v7 && version != 0 && version != c->keys.version)
        return SW_NOT_FOUND;
    if (apdu->p2 != 0)
        return SW_P1P2;
    if (apdu->data.len != 8)
        return SW_LENGTH;
    if (c->personality->v7 && version != 0)
        info[0] = version; /* 7.x takes any version and echoes it */
    if (!card_challenge(c, challenge) || !scp_begin(&c->scp, &c->keys, apdu->data.ptr, challenge, cryptogram))
        return SW_CONDITIONS;
    (void)out_put(out, diversification, sizeof(diversification));
    (void)out_put(out, info, sizeof(info));
    (void)out_put(out, challenge, sizeof(challenge));
    (void)out_put(out, cryptogram, sizeof(cryptogram));
    return SW_OK;
}

/* ---- PUT KEY ---------------------------------------------------------------------------------------- */

static bool decrypt_key(const struct scp_keys *dek, struct sim_bytes in, bool chained, uint8_t *key)
{
    bool ok = in.len % 16 == 0 && in.len <= SCP_KEY_MAX;

    for (size_t i = 0; ok && i < in.len; i += 16) {
        ok = aes_block(dek->dek, dek->len, false, in.ptr + i, key + i);
        for (size_t j = 0; ok && chained && i > 0 && j < 16; j++)
            key[i + j] ^= in.ptr[i - 16 + j];
    }
    return ok;
}

/* One key: 88, length of what follows, key length, encrypted key, 03, check value. */
static uint16_t take_key(const struct scp_keys *dek, struct sim_bytes *in, size_t *key_len, uint8_t *key)
{
    const uint8_t *p = in->ptr;
    struct sim_bytes value;
    uint8_t kcv[3];
    size_t total;

    if (in->len < 3 || p[0] != KEY_TYPE_AES || p[1] < 1)
        return SW_DATA;
    total = 2 + (size_t)p[1] + 1 + sizeof(kcv);
    *key_len = p[2];
    value = (struct sim_bytes){ p + 3, (size_t)p[1] - 1 };
    if (in->len < total || (*key_len != 16 && *key_len != 24 && *key_len != 32) ||
        value.len != (*key_len + 15) / 16 * 16 || p[total - 4] != sizeof(kcv))
        return SW_DATA;
    /* Block by block as NXP's host does it, or chained as GlobalPlatform has it: the check value tells. */
    for (int chained = 0; chained < 2; chained++) {
        if (decrypt_key(dek, value, chained == 1, key) && scp_key_check_value(key, *key_len, kcv) &&
            memcmp(kcv, p + total - 3, sizeof(kcv)) == 0) {
            *in = (struct sim_bytes){ p + total, in->len - total };
            return SW_OK;
        }
    }
    return SW_DATA;
}

static uint16_t take_key_set(const struct scp_keys *old, struct sim_bytes in, struct scp_keys *fresh)
{
    uint8_t *targets[] = { fresh->enc, fresh->mac, fresh->dek };
    size_t lens[3] = { 0 };
    uint16_t sw = in.len < 1 ? SW_DATA : SW_OK;

    if (sw == SW_OK) {
        fresh->version = in.ptr[0];
        in = (struct sim_bytes){ in.ptr + 1, in.len - 1 };
    }
    for (size_t i = 0; sw == SW_OK && i < 3; i++)
        sw = take_key(old, &in, &lens[i], targets[i]);
    if (sw == SW_OK && (in.len != 0 || lens[0] != lens[1] || lens[1] != lens[2]))
        sw = SW_DATA;
    fresh->len = lens[0];
    return sw;
}

static uint16_t put_key(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    struct scp_keys fresh = { 0 };
    uint8_t kcv[3][3];
    uint16_t sw;

    card_spend(c, TIME_PUT_KEY);
    if (c->selected != SELECTED_SSD)
        return SW_DATA;
    if (c->scp.state != SCP_OPEN || (c->scp.level & 0x03) != 0x03)
        return SW_SECURITY;
    if (apdu->p1 != c->keys.version || apdu->p2 != 0x81)
        return SW_P1P2;
    sw = take_key_set(&c->keys, apdu->data, &fresh);
    if (sw == SW_OK && !(scp_key_check_value(fresh.enc, fresh.len, kcv[0]) &&
                         scp_key_check_value(fresh.mac, fresh.len, kcv[1]) &&
                         scp_key_check_value(fresh.dek, fresh.len, kcv[2]) && store_keys(c, &fresh)))
        sw = SW_CONDITIONS;
    if (sw == SW_OK) {
        c->keys = fresh;
        (void)out_put(out, &fresh.version, 1);
        (void)out_put(out, kcv, sizeof(kcv));
    }
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return sw;
}

/* ---- GET DATA --------------------------------------------------------------------------------------- */

static void put_item(struct sim_out *out, uint8_t tag, const void *ptr, size_t len)
{
    uint8_t head[2] = { tag, (uint8_t)len };

    (void)out_put(out, head, sizeof(head));
    (void)out_put(out, ptr, len);
}

/* IDENTIFY: FE { DF28 { 01 configuration, 02 patch, 03 platform build, 05 FIPS mode, 07 pre-perso state, 08
 * ROM } } */
static uint16_t get_identify(struct card *c, struct sim_out *out)
{
    uint8_t configuration[12] = { 0x00, 0x01, (uint8_t)(c->personality->oef_id >> 8),
                                  (uint8_t)c->personality->oef_id };
    uint8_t patch[8] = { [7] = 0x01 };
    uint8_t fips = (c->personality->config & 0x1000) == 0, pre_perso = 0;
    struct sim_out items = { .len = 0 };
    uint8_t head[] = { 0xFE, 0, 0xDF, 0x28, 0 };

    put_item(&items, 0x01, configuration, sizeof(configuration));
    put_item(&items, 0x02, patch, sizeof(patch));
    put_item(&items, 0x03, "J3R3510236351100", 16);
    put_item(&items, 0x05, &fips, 1);
    put_item(&items, 0x07, &pre_perso, 1);
    put_item(&items, 0x08, "\x2E\x5A\xD8\x84\x09\xC9\xBA\xDB", 8);
    head[4] = (uint8_t)items.len;
    head[1] = (uint8_t)(items.len + 3);
    (void)out_put(out, head, sizeof(head));
    (void)out_put(out, items.data, items.len);
    return SW_OK;
}

static uint16_t get_cplc(struct sim_out *out)
{
    static const uint8_t record[] = {
        0x9F, 0x7F, 0x2A, 0x47, 0x90, 0xD3, 0x21, 0x47, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 0x03,
        0x20, 0x19, 0x07, 0x38, 0x24, 0x20, 0x25, 0x02, 0x48, 0x12, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };

    (void)out_put(out, record, sizeof(record));
    return SW_OK;
}

static uint16_t get_data(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    unsigned object = (unsigned)(apdu->p1 << 8 | apdu->p2);

    card_spend(c, TIME_GET_DATA);
    if (object == 0x9F7F)
        return get_cplc(out);
    if (object == 0x00FE && is_aid(apdu->data, (const uint8_t[]){ 0xDF, 0x28 }, 2))
        return get_identify(c, out);
    return SW_NOT_FOUND;
}

/* ---- dispatch --------------------------------------------------------------------------------------- */

/* SetPlatformSCPRequest: TAG_1, 1 required, 2 not; only for the session of the object made for it. */
static uint16_t set_scp_request(struct card *c, const struct sim_caller *caller, const struct sim_apdu *apdu)
{
    struct sim_bytes in = apdu->data, value;
    uint8_t required;

    if (caller->auth_id != ID_PLATFORM_SCP)
        return SW_BLOCKED;
    if (!tlv_next(&in, 0x41, &value) || value.len != 1 || in.len != 0 || value.ptr[0] < 1 || value.ptr[0] > 2)
        return SW_DATA;
    required = value.ptr[0] == 1;
    if (!applet_nvm_put(c->applet, nvm_request, &required, 1))
        return SW_CONDITIONS;
    c->scp_required = required;
    return SW_OK;
}

uint16_t card_applet_command(struct card *c, const struct sim_caller *caller, const struct sim_apdu *apdu,
                             struct sim_out *out)
{
    uint64_t time_us = 0;
    uint16_t sw;

    if (apdu->cla != CLA_GP)
        return SW_CLA;
    if (apdu->ins == 0x04 && apdu->p1 == 0 && apdu->p2 == P2_SCP_REQUEST)
        return set_scp_request(c, caller, apdu);
    sw = applet_command(c->applet, caller, apdu, out, &time_us);
    c->time_us += time_us;
    if (sw != SW_OK)
        out->len = 0;
    return sw;
}

static uint16_t in_applet(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    bool open = c->scp.state == SCP_OPEN;
    struct sim_caller caller = { .secure = open && (c->scp.level & 0x03) == 0x03 };

    if (c->scp_required && !(open && c->scp.level == SCP_ALL))
        return SW_CONDITIONS;
    if (apdu->ins == INS_PUT_KEY)
        return SW_DATA;
    if (apdu->ins == 0x04 && apdu->p1 == 0 && apdu->p2 == 0x1B)
        return session_create(c, apdu, out);
    if (apdu->ins == 0x05)
        return session_process(c, caller.secure, apdu, out);
    if (is_session_command(apdu))
        return SW_CONDITIONS;
    return card_applet_command(c, &caller, apdu, out);
}

/* A command after secure messaging has been taken off. */
static uint16_t execute(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    if (apdu->cla != CLA_GP)
        return SW_CLA;
    if (c->selected == SELECTED_APPLET)
        return in_applet(c, apdu, out);
    if (apdu->ins == INS_GET_DATA)
        return get_data(c, apdu, out);
    if (apdu->ins == INS_PUT_KEY && c->selected == SELECTED_SSD)
        return put_key(c, apdu, out);
    return SW_INS;
}

static uint16_t in_channel(struct card *c, struct sim_apdu *apdu, struct sim_out *out)
{
    uint8_t plain[SIM_APDU_MAX];
    uint16_t sw;

    card_spend(c, TIME_MESSAGING);
    sw = scp_unwrap(&c->scp, apdu, plain);
    if (sw == SW_OK) {
        c->innermost = *apdu;
        sw = execute(c, apdu, out);
    }
    if (sw == SW_OK && c->scp.state == SCP_OPEN && !scp_wrap(&c->scp, out, sw))
        sw = SW_CONDITIONS;
    OPENSSL_cleanse(plain, sizeof(plain));
    return sw;
}

static uint16_t external_authenticate(struct card *c, const struct sim_apdu *apdu)
{
    card_spend(c, TIME_EXTERNAL_AUTH);
    return scp_authenticate(&c->scp, apdu);
}

static uint16_t dispatch(struct card *c, struct sim_apdu *apdu, struct sim_out *out)
{
    if (apdu->cla == CLA_ISO && apdu->ins == INS_SELECT)
        return select_application(c, apdu, out);
    if (apdu->cla == CLA_GP && apdu->ins == INS_INITIALIZE_UPDATE)
        return initialize_update(c, apdu, out);
    if (apdu->cla == (CLA_GP | CLA_SECURE) && apdu->ins == INS_EXTERNAL_AUTHENTICATE &&
        c->scp.state != SCP_OPEN)
        return external_authenticate(c, apdu);
    if (apdu->cla == (CLA_GP | CLA_SECURE))
        return c->scp.state == SCP_OPEN ? in_channel(c, apdu, out) : SW_SECURITY;
    if (c->scp.state == SCP_OPEN && c->scp.level != 0) {
        scp_close(&c->scp); /* an unprotected command ends a protected channel */
        return SW_SECURITY;
    }
    return execute(c, apdu, out);
}

size_t card_apdu(struct card *c, const uint8_t *cmd, size_t len, uint8_t rsp[SIM_APDU_MAX + 2],
                 uint64_t *time_us)
{
    struct sim_out out = { .len = 0 };
    struct sim_apdu apdu = { 0 };
    uint16_t sw;

    c->time_us = 0;
    c->in_session = false;
    trace_bytes(0, "C-APDU", cmd, len, "");
    sw = apdu_parse(cmd, len, &apdu);
    c->innermost = apdu;
    if (sw == SW_OK)
        sw = dispatch(c, &apdu, &out);
    if (sw != SW_OK)
        out.len = 0;
    memcpy(rsp, out.data, out.len);
    rsp[out.len] = (uint8_t)(sw >> 8);
    rsp[out.len + 1] = (uint8_t)sw;
    trace_bytes(0, "R-APDU", rsp, out.len + 2, apdu_name(&c->innermost));
    stats_apdu(&c->innermost, c->in_session, sw, c->time_us);
    *time_us = c->time_us;
    return out.len + 2;
}
