/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The applet: selected, behind PlatformSCP03 if configured, and kept so. An epoch is a time in which nobody
 * selected the applet or reset the chip (link.c knows across processes); channels and sessions live no longer
 * than their epoch.
 */
#include "channel.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/rand.h>

#include "private.h"

enum {
    ATTEMPTS = 3,
    RECOVERIES_MAX = 2,
    PAUSES_MAX = 6,
    PAUSE_FIRST_MS = 50, /* doubled each time: 3 s in all */
    LEVEL_ALL = 0x33,    /* C-MAC, C-DECRYPTION, R-MAC, R-ENCRYPTION */
    RANDOM_MAX_3 = 880,
    RANDOM_MAX_7 = 1003,
    RANDOM_MAX_SECURED = 512
};

static const uint8_t applet_aid[] = { 0xa0, 0x00, 0x00, 0x03, 0x96, 0x54, 0x53, 0x00,
                                      0x00, 0x00, 0x01, 0x03, 0x00, 0x00, 0x00, 0x00 };

/* ---- one APDU ------------------------------------------------------------------------------------------ */

size_t channel_wrapped_len(size_t len)
{
    return (len == 0 ? 0 : (len / 16 + 1) * 16) + 8;
}

/* The link lost its step. Put it in order at once, so that whoever comes next finds it so; then the applet is
 * deselected. */
static hsm_status link_failed(struct se05x_token *t, hsm_status st)
{
    struct se05x_channel *ch = t->channel;
    char cause[400];
    hsm_status recovered;

    ch->stale = true;
    ch->wrapping = false;
    if (st != HSM_ERR_TOKEN_IO || ch->recoveries >= RECOVERIES_MAX)
        return st;
    (void)snprintf(cause, sizeof(cause), "%s", hsm_error_text(st));
    if ((recovered = se05x_link_recover(t->link, ch->recoveries++ > 0)) != HSM_OK)
        return recovered;
    ch->again = true;
    return hsm_fail(st, "%s", cause);
}

/* Somebody else's bytes, or the counters differ: the command may have been executed, the channel is of no
 * more use. */
static hsm_status channel_lost(struct se05x_token *t, hsm_status st)
{
    struct se05x_channel *ch = t->channel;

    ch->stale = true;
    ch->wrapping = false;
    ch->again = true;
    return hsm_fail(st, "%s: %s%s", t->where, hsm_error_text(st),
                    ch->contended ? "; other processes open secure channels on this chip: let hsmd own it"
                                  : "");
}

static hsm_status too_long(const struct se05x_token *t, size_t len)
{
    return hsm_fail(HSM_ERR_DATA_LEN, "%s: %zu bytes are more than the chip takes in one command", t->where,
                    len);
}

hsm_status channel_send(struct se05x_token *t, enum se05x_time time, struct hsm_bytes apdu, size_t expect,
                        struct hsm_bytes *data, uint16_t *sw)
{
    struct se05x_channel *ch = t->channel;
    struct hsm_buf wire = { .ptr = ch->work.wire, .cap = sizeof(ch->work.wire) };
    struct hsm_buf answer = { .ptr = ch->work.answer, .cap = sizeof(ch->work.answer) };
    struct hsm_buf plain = { .ptr = ch->work.plain, .cap = sizeof(ch->work.plain) };
    bool wrapped = ch->wrapping;
    hsm_status st = HSM_OK;

    ch->delivery = SE05X_NOT_EXECUTED;
    if (wrapped && (st = scp03_wrap(ch->platform, apdu, &wire)) == HSM_ERR_BUFFER)
        return too_long(t, apdu.len);
    if (wrapped && st != HSM_OK)
        return channel_lost(t, st);
    if (expect > 0)
        expect = (wrapped ? channel_wrapped_len(expect) : expect) + 2;
    st = se05x_link_exchange(t->link, time, wrapped ? (struct hsm_bytes){ wire.ptr, wire.len } : apdu, expect,
                             &answer, &ch->delivery);
    ch->resent = ch->delivery == SE05X_MAYBE_EXECUTED;
    if (st != HSM_OK)
        return link_failed(t, st);
    ch->delivery = SE05X_MAYBE_EXECUTED;
    if (wrapped &&
        (st = scp03_unwrap(ch->platform, (struct hsm_bytes){ answer.ptr, answer.len }, &plain)) != HSM_OK)
        return channel_lost(t, st);
    if (!wrapped)
        plain = answer;
    if (plain.len < 2)
        return channel_lost(t, hsm_fail(HSM_ERR_TOKEN_IO, "the chip's answer has no status word"));
    ch->delivery = SE05X_ANSWERED;
    *data = (struct hsm_bytes){ plain.ptr, plain.len - 2 };
    *sw = (uint16_t)(plain.ptr[plain.len - 2] << 8 | plain.ptr[plain.len - 1]);
    /* Old applets: nobody knows whether a refused command counts. A wrong counter is found late, so begin
     * anew. */
    if (wrapped && ch->rule == SCP03_WITH_DATA && *sw != SW_OK)
        ch->stale = true;
    return HSM_OK;
}

hsm_status channel_send_apdu(struct se05x_token *t, enum se05x_time time, const struct apdu *apdu,
                             size_t expect, struct hsm_bytes *data, uint16_t *sw)
{
    struct hsm_buf out = { .ptr = t->channel->work.apdu, .cap = sizeof(t->channel->work.apdu) };
    hsm_status st = apdu_encode(apdu, &out);

    if (st != HSM_OK)
        return too_long(t, apdu->data.len);
    return channel_send(t, time, (struct hsm_bytes){ out.ptr, out.len }, expect, data, sw);
}

hsm_status channel_refused(struct se05x_token *t, uint16_t sw, const char *what)
{
    if (sw == SW_THROTTLED) {
        t->channel->throttled = true;
        return hsm_fail(HSM_ERR_BUSY, "%s: the chip limits the rate of commands: try again later", t->where);
    }
    return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip refuses %s with status %04x", t->where, what, sw);
}

/* ---- SELECT -------------------------------------------------------------------------------------------- */

hsm_status channel_select(struct se05x_token *t, struct hsm_bytes aid, struct hsm_bytes *data, uint16_t *sw)
{
    struct apdu apdu = { .ins = 0xa4, .p1 = 0x04, .has_le = true, .data = aid };
    struct se05x_channel *ch = t->channel;

    ch->wrapping = false;
    ch->stale = true;
    se05x_link_set_selected(t->link, false);
    return channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, data, sw);
}

static bool at_least(const uint8_t version[3], uint8_t major, uint8_t minor)
{
    return version[0] > major || (version[0] == major && version[1] >= minor);
}

static size_t random_max(const struct se05x_token *t)
{
    if (t->channel->secured)
        return RANDOM_MAX_SECURED;
    return t->caps.version[0] >= 7 ? RANDOM_MAX_7 : RANDOM_MAX_3;
}

/* Four bytes on the oldest applets, without features: then everything is tried. */
static hsm_status take_caps(struct se05x_token *t, struct hsm_bytes answer)
{
    struct se05x_caps *caps = &t->caps;

    if (answer.len != 4 && answer.len != 5 && answer.len != 7)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s: the applet tells its version in %zu bytes: no SE05x",
                        t->where, answer.len);
    memset(caps, 0, sizeof(*caps));
    memcpy(caps->version, answer.ptr, 3);
    caps->config = answer.len == 4 ? 0xffff : (uint16_t)(answer.ptr[3] << 8 | answer.ptr[4]);
    caps->v7 = at_least(caps->version, 4, 4);
    caps->has_ec = (caps->config & 0x0002) != 0;
    caps->has_ed25519 = (caps->config & 0x0004) != 0;
    caps->has_x25519 = (caps->config & 0x0008) != 0;
    caps->has_hmac = (caps->config & 0x0010) != 0;
    caps->has_rsa = (caps->config & 0x0060) != 0;
    caps->has_rsa_crt = (caps->config & 0x0040) != 0;
    caps->has_aes = (caps->config & 0x0080) != 0;
    caps->fips = at_least(caps->version, 3, 4) && (caps->config & 0x1000) == 0;
    caps->random_max = random_max(t);
    t->channel->rule = at_least(caps->version, 4, 3) ? SCP03_EVERY_COMMAND : SCP03_WITH_DATA;
    t->channel->caps_known = true;
    return HSM_OK;
}

static hsm_status plain_refused(struct se05x_token *t)
{
    return hsm_fail(HSM_ERR_DENIED,
                    "%s: the chip demands PlatformSCP03: add scp03=/path/to/keys to the token specification "
                    "(scp03=public for a fresh part)",
                    t->where);
}

/* Random is what every part gives to everybody, unless platform SCP is required. */
static hsm_status check_plain(struct se05x_token *t)
{
    static const uint8_t one_byte[] = { 0x41, 0x02, 0x00, 0x01 };
    struct apdu apdu = { .cla = 0x80,
                         .ins = 0x04,
                         .p2 = 0x49,
                         .extended = true,
                         .has_le = true,
                         .data = { one_byte, sizeof(one_byte) } };
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, &sw);

    if (st != HSM_OK)
        return st;
    if (sw == SW_SECURITY || sw == SW_CONDITIONS)
        return plain_refused(t);
    if (sw == SW_THROTTLED)
        return channel_refused(t, sw, "random numbers");
    t->channel->answered = true;
    return HSM_OK;
}

static hsm_status select_applet(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st;

    st = channel_select(t, (struct hsm_bytes){ applet_aid, sizeof(applet_aid) }, &data, &sw);
    if (st != HSM_OK)
        return st;
    if (sw == 0x6a82)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s: there is no IoT applet on this chip", t->where);
    if (sw != SW_OK)
        return channel_refused(t, sw, "SELECT");
    if ((st = take_caps(t, data)) != HSM_OK)
        return st;
    se05x_link_set_selected(t->link, true);
    ch->epoch = se05x_link_epoch(t->link);
    ch->stale = false;
    ch->fresh = true;
    ch->answered = false;
    if (ch->secured)
        return channel_authenticate(t);
    return t->caps.fips ? check_plain(t) : HSM_OK; /* such parts come with platform SCP required */
}

/* ---- PlatformSCP03 ------------------------------------------------------------------------------------- */

static hsm_status keys_refused(struct se05x_token *t, const char *why)
{
    return hsm_fail(HSM_ERR_DENIED,
                    "%s: the chip does not have the platform keys of %s (%s): another chip's, or they were "
                    "rotated",
                    t->where, t->channel->key_source, why);
}

static hsm_status initialize_update(struct se05x_token *t, struct scp03 *scp)
{
    struct se05x_channel *ch = t->channel;
    uint8_t challenge[SE05X_CHALLENGE_LEN];
    struct apdu apdu = {
        .cla = 0x80, .ins = 0x50, .p1 = ch->keys.version, .data = { challenge, sizeof(challenge) }
    };
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st;

    if (RAND_bytes_ex(t->libctx, challenge, sizeof(challenge), 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    if ((st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, &sw)) != HSM_OK)
        return st;
    if (sw == SW_NO_KEY_SET)
        return keys_refused(t, "no key set of this version");
    if (sw != SW_OK)
        return channel_refused(t, sw, "INITIALIZE UPDATE");
    if ((st = scp03_begin(scp, &ch->keys, challenge, data)) == HSM_ERR_DENIED)
        return keys_refused(
            t, "card cryptogram differs"); /* and no EXTERNAL AUTHENTICATE: failures may be counted */
    return st == HSM_OK ? HSM_OK : hsm_fail(st, "%s: %s", t->where, hsm_error_text(st));
}

static hsm_status external_authenticate(struct se05x_token *t, struct scp03 *scp)
{
    struct hsm_buf apdu = { .ptr = t->channel->work.apdu, .cap = sizeof(t->channel->work.apdu) };
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = scp03_authenticate(scp, LEVEL_ALL, &apdu)) != HSM_OK ||
        (st = channel_send(t, SE05X_TIME_SHORT, (struct hsm_bytes){ apdu.ptr, apdu.len }, 0, &data, &sw)) !=
            HSM_OK)
        return st;
    if (sw == SW_THROTTLED)
        return channel_refused(t, sw, "EXTERNAL AUTHENTICATE");
    return sw == SW_OK ? HSM_OK : keys_refused(t, "host cryptogram refused");
}

hsm_status channel_authenticate(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;
    hsm_status st;

    scp03_free(ch->platform);
    ch->platform = NULL;
    se05x_link_set_channel_owner(t->link, ch->owner); /* first: from here on nobody else's channel is left */
    if ((st = scp03_new(t->libctx, ch->rule, &ch->platform)) == HSM_OK &&
        (st = initialize_update(t, ch->platform)) == HSM_OK)
        st = external_authenticate(t, ch->platform);
    ch->wrapping = st == HSM_OK;
    if (st != HSM_OK)
        ch->stale = true;
    return st;
}

/* ---- up ------------------------------------------------------------------------------------------------ */

bool channel_is_up(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;
    uint64_t epoch = se05x_link_epoch(t->link);

    return !ch->stale && epoch != 0 && epoch == ch->epoch &&
           se05x_link_channel_owner(t->link) == (ch->secured ? ch->owner : 0);
}

/* Another process has selected the applet already. Its sessions live on if we do not select it once more. */
static hsm_status join(struct se05x_token *t, uint64_t epoch)
{
    struct apdu apdu = { .cla = 0x80, .ins = 0x04, .p2 = 0x20, .has_le = true }; /* GetVersion */
    struct se05x_channel *ch = t->channel;
    struct hsm_bytes data, version;
    uint16_t sw = 0;
    hsm_status st;

    if (!ch->caps_known) {
        if ((st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, &sw)) != HSM_OK)
            return st;
        if (sw != SW_OK || !tlv_take(&data, 0x41, &version) || take_caps(t, version) != HSM_OK)
            return select_applet(t);
    }
    ch->epoch = epoch;
    return HSM_OK;
}

hsm_status channel_up(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;
    uint64_t epoch = se05x_link_epoch(t->link), owner = se05x_link_channel_owner(t->link);

    if (channel_is_up(t))
        return HSM_OK;
    ch->wrapping = false;
    if (ch->secured && ch->epoch != 0 && epoch != 0 && owner != 0 && owner != ch->owner)
        ch->contended = true;
    if (!ch->secured && !ch->stale && epoch != 0 && owner == 0)
        return join(t, epoch);
    return select_applet(t);
}

/* ---- one piece of work, as often as it takes ----------------------------------------------------------- */

static void pause_ms(unsigned ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    while (nanosleep(&left, &left) != 0)
        ;
}

hsm_status channel_run(struct se05x_token *t, se05x_step_fn *step, void *arg)
{
    struct se05x_channel *ch = t->channel;
    unsigned attempts = 0, pauses = 0;
    hsm_status st = se05x_link_lock(t->link);

    if (st != HSM_OK)
        return st;
    ch->maybe_executed = false;
    ch->recoveries = 0;
    do {
        if (ch->throttled)
            pause_ms(PAUSE_FIRST_MS << pauses++);
        else
            attempts++;
        ch->again = ch->throttled = ch->fresh = false;
        st = step(t, arg);
    } while (ch->throttled ? pauses < PAUSES_MAX : ch->again && attempts < ATTEMPTS);
    ch->throttled = false;
    hsm_cleanse(&ch->work, sizeof(ch->work));
    se05x_link_unlock(t->link);
    return st;
}

hsm_status se05x_begin(struct se05x_token *t)
{
    return se05x_link_lock(t->link);
}

void se05x_end(struct se05x_token *t)
{
    se05x_link_unlock(t->link);
}

/* ---- commands ------------------------------------------------------------------------------------------ */

struct exchange {
    const struct se05x_cmd *cmd;
    struct hsm_buf *answer;
    uint16_t *sw;
};

/* Words of a chip that has been reset, or has lost a channel or session: it has executed nothing. A card
 * manager that gets a wrapped command may say what an applet says of a missing object, and such words carry
 * no MAC. */
static bool says_lost(uint16_t sw, bool wrapped)
{
    return sw == SW_SECURITY || sw == 0x6987 || sw == 0x6988 || sw == 0x6d00 || sw == 0x6e00 ||
           (sw & 0xfff0) == 0x6880 || (wrapped && (sw == SW_CONDITIONS || sw == SW_NO_KEY_SET));
}

/* The chip has answered. Is it the command's answer, or must we begin again? */
static hsm_status judge(struct se05x_token *t, const struct exchange *x, struct hsm_bytes data)
{
    struct se05x_channel *ch = t->channel;
    uint16_t sw = *x->sw;

    if (sw == SW_THROTTLED) {
        ch->throttled = true;
        ch->stale = ch->wrapping || x->cmd->auth != SE05X_ANYBODY; /* did it count? */
        return HSM_OK;
    }
    if (says_lost(sw, ch->wrapping) && !ch->fresh) {
        ch->stale = true;
        if (!x->cmd->repeatable &&
            ch->resent) { /* and the first time it may have been executed, before the reset */
            ch->maybe_executed = true;
            return hsm_fail(HSM_ERR_TOKEN_IO,
                            "%s: the chip was reset, or lost its channel, during a command (status %04x)",
                            t->where, sw);
        }
        ch->again = true;
        return HSM_OK;
    }
    if (sw == SW_OK)
        ch->answered = true;
    else if (!ch->secured && !ch->answered && (sw == SW_SECURITY || sw == SW_CONDITIONS))
        return check_plain(t);
    if (x->answer == NULL)
        return HSM_OK;
    if (data.len > x->answer->cap)
        return hsm_fail(HSM_ERR_BUFFER, "%s: the chip answers with %zu bytes, more than expected", t->where,
                        data.len);
    if (data.len > 0)
        memcpy(x->answer->ptr, data.ptr, data.len);
    x->answer->len = data.len;
    return HSM_OK;
}

static hsm_status send_to_applet(struct se05x_token *t, const struct se05x_cmd *cmd, struct hsm_bytes *data,
                                 uint16_t *sw)
{
    struct apdu apdu = {
        .cla = 0x80,
        .ins = cmd->ins,
        .p1 = cmd->p1,
        .p2 = cmd->p2,
        .extended = cmd->extended || cmd->data.len > 254,
        .has_le = cmd->extended || (cmd->data.len == 0 && !t->channel->wrapping),
        .data = cmd->data,
    };

    return channel_send_apdu(t, cmd->time, &apdu, cmd->expect, data, sw);
}

static hsm_status exchange_step(struct se05x_token *t, void *arg)
{
    const struct exchange *x = arg;
    struct se05x_channel *ch = t->channel;
    struct hsm_bytes data = { 0 };
    hsm_status st;

    if ((st = channel_up(t)) != HSM_OK ||
        (x->cmd->auth != SE05X_ANYBODY && (st = session_up(t, x->cmd->auth)) != HSM_OK))
        return st;
    if (x->cmd->auth == SE05X_ANYBODY)
        st = send_to_applet(t, x->cmd, &data, x->sw);
    else
        st = session_send(t, x->cmd->auth, x->cmd, &data, x->sw);
    if (st == HSM_OK)
        return judge(t, x, data);
    if (ch->delivery != SE05X_NOT_EXECUTED) {
        ch->maybe_executed = true;
        ch->again = ch->again && x->cmd->repeatable;
    }
    return st;
}

hsm_status se05x_exchange(struct se05x_token *t, const struct se05x_cmd *cmd, struct hsm_buf *answer,
                          uint16_t *sw)
{
    struct exchange x = { cmd, answer, sw };

    *sw = 0;
    return channel_run(t, exchange_step, &x);
}

bool se05x_maybe_executed(const struct se05x_token *t)
{
    return t->channel->maybe_executed;
}

hsm_status channel_object_exists(struct se05x_token *t, uint32_t id, bool *exists)
{
    uint8_t tlv[] = { 0x41, 4, (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id };
    struct apdu apdu = { .cla = 0x80, .ins = 0x04, .p2 = 0x27, .data = { tlv, sizeof(tlv) } };
    struct hsm_bytes data;
    uint16_t sw = 0;
    uint8_t result = 0;
    hsm_status st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, &sw);

    if (st != HSM_OK)
        return st;
    if (sw != SW_OK || !tlv_take_u8(&data, 0x41, &result))
        return channel_refused(t, sw, "CheckObjectExists");
    *exists = result == 1;
    return HSM_OK;
}

/* ---- which part is it? --------------------------------------------------------------------------------- */

/* FE { DF28 { 01 configuration id, ... } }; the outer tags may be left out. @return the configuration id, or
 * empty */
static struct hsm_bytes find_configuration(struct hsm_bytes in)
{
    struct hsm_bytes value;

    if (tlv_take(&in, 0xfe, &value))
        in = value;
    if (in.len > 2 && in.ptr[0] == 0xdf && in.ptr[1] == 0x28) {
        in = (struct hsm_bytes){ in.ptr + 1, in.len - 1 };
        if (!tlv_take(&in, 0x28, &value))
            return (struct hsm_bytes){ 0 };
        in = value;
    }
    return tlv_take(&in, 0x01, &value) ? value : (struct hsm_bytes){ 0 };
}

static hsm_status identify_step(struct se05x_token *t, void *arg)
{
    static const uint8_t card_data[] = { 0xdf, 0x28 };
    struct apdu apdu = {
        .cla = 0x80, .ins = 0xca, .p2 = 0xfe, .has_le = true, .data = { card_data, sizeof(card_data) }
    };
    struct hsm_bytes data, id;
    uint16_t sw = 0, *oef_id = arg;
    hsm_status st;

    if ((st = channel_select(t, (struct hsm_bytes){ 0 }, &data, &sw)) != HSM_OK)
        return st;
    if (sw != SW_OK)
        return channel_refused(t, sw, "SELECT of the card manager");
    if ((st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, &sw)) != HSM_OK)
        return st;
    if (sw != SW_OK)
        return channel_refused(t, sw, "IDENTIFY");
    id = find_configuration(data);
    if (id.len < 4)
        return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s: the chip's IDENTIFY answer holds no configuration id",
                        t->where);
    *oef_id = (uint16_t)(id.ptr[2] << 8 | id.ptr[3]);
    return HSM_OK;
}

static hsm_status up_step(struct se05x_token *t, void *arg)
{
    return channel_up(t);
}

hsm_status se05x_identify(struct se05x_token *t, uint16_t *oef_id)
{
    hsm_status st;

    if ((st = channel_run(t, identify_step, oef_id)) != HSM_OK)
        return st;
    return channel_run(t, up_step, NULL);
}

/* ---- open and close ------------------------------------------------------------------------------------ */

static hsm_status use_public_keys(struct se05x_token *t, const struct hsm_open_args *args)
{
    struct se05x_channel *ch = t->channel;
    const struct scp03_default *found;
    char part[32];
    uint16_t oef_id = 0;
    hsm_status st;

    if (hsm_token_spec_param(args->spec, "scp03-part", part, sizeof(part))) {
        if ((found = scp03_default_find(part)) == NULL)
            return hsm_fail(HSM_ERR_CONFIG,
                            "%s: no published keys are known for scp03-part '%s' (e.g. SE050C1, SE050E, "
                            "SE051C)",
                            t->where, part);
    } else {
        if ((st = channel_run(t, identify_step, &oef_id)) != HSM_OK)
            return st;
        if ((found = scp03_default_by_oef(oef_id)) == NULL)
            return hsm_fail(HSM_ERR_CONFIG,
                            "%s: no published keys are known for this part (OEF id %04X): name a key file "
                            "with scp03=, or a part with scp03-part=",
                            t->where, oef_id);
    }
    memcpy(ch->keys.enc, found->enc, sizeof(found->enc));
    memcpy(ch->keys.mac, found->mac, sizeof(found->mac));
    memcpy(ch->keys.dek, found->dek, sizeof(found->dek));
    ch->keys.len = sizeof(found->enc);
    ch->keys.version = 0x0b;
    ch->public_keys = true;
    (void)snprintf(ch->key_source, sizeof(ch->key_source), "%s as published by NXP", found->part);
    return HSM_OK;
}

static hsm_status take_keys(struct se05x_token *t, const struct hsm_open_args *args)
{
    struct se05x_channel *ch = t->channel;
    char source[sizeof(ch->key_source) - 2];
    hsm_status st;

    if (!hsm_token_spec_param(args->spec, "scp03", source, sizeof(source))) {
        if (strstr(args->spec->params, "scp03") == NULL)
            return HSM_OK;
        return hsm_fail(HSM_ERR_CONFIG,
                        "%s: scp03= must name a key file of at most %zu characters, or be 'public'", t->where,
                        sizeof(source) - 1);
    }
    if (strcmp(source, "public") == 0)
        st = use_public_keys(t, args);
    else if (source[0] != '/')
        st = hsm_fail(HSM_ERR_CONFIG, "%s: scp03=%s must be an absolute path, or 'public'", t->where, source);
    else if ((st = scp03_keys_read(source, &ch->keys)) == HSM_OK)
        (void)snprintf(ch->key_source, sizeof(ch->key_source), "'%s'", source);
    else
        st = hsm_fail(st, "%s: %s", t->where, hsm_error_text(st));
    ch->secured = st == HSM_OK;
    return st;
}

static hsm_status name_ourselves(struct se05x_token *t)
{
    uint64_t owner = 0;

    if (RAND_bytes_ex(t->libctx, (unsigned char *)&owner, sizeof(owner), 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    t->channel->owner = owner | 1; /* 0 is nobody */
    return HSM_OK;
}

static void channel_free(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;

    scp03_free(ch->platform);
    scp03_free(ch->sessions[0].scp);
    scp03_free(ch->sessions[1].scp);
    hsm_secret_free(ch, sizeof(*ch));
    t->channel = NULL;
}

hsm_status se05x_channel_open(struct se05x_token *t, const struct hsm_open_args *args)
{
    hsm_status st;

    if ((t->channel = hsm_secret_alloc(sizeof(*t->channel))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for %s", t->where);
    if ((st = name_ourselves(t)) != HSM_OK || (st = take_keys(t, args)) != HSM_OK ||
        (st = channel_run(t, up_step, NULL)) != HSM_OK)
        channel_free(t);
    return st;
}

void se05x_channel_close(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;

    if (ch == NULL)
        return;
    if ((ch->sessions[0].epoch != 0 || ch->sessions[1].epoch != 0) && se05x_link_lock(t->link) == HSM_OK) {
        ch->recoveries = RECOVERIES_MAX; /* not worth a reset */
        sessions_close(t);
        se05x_link_unlock(t->link);
    }
    channel_free(t);
}

void se05x_channel_abandon(struct se05x_token *t)
{
    struct se05x_channel *ch = t->channel;

    if (ch == NULL)
        return;
    sessions_abandon(ch);
    scp03_abandon(ch->platform);
    hsm_cleanse(ch, sizeof(*ch));
    t->channel = NULL;
}

const char *se05x_channel_name(const struct se05x_token *t)
{
    const struct se05x_channel *ch = t->channel;

    if (ch == NULL || !ch->secured)
        return "plain";
    if (ch->public_keys)
        return ch->contended ? "scp03 (public keys, contended)" : "scp03 (public keys)";
    return ch->contended ? "scp03 (contended)" : "scp03";
}
