/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions on the chip for the roles USER and SO: opened with a PIN by login, and opened again without asking
 * after each new epoch. Within PlatformSCP03 if that is configured.
 */
#include "channel.h"

#include <stdio.h>
#include <string.h>

#include <openssl/rand.h>

#include "private.h"

enum { TAG_SESSION = 0x10, TAG_1 = 0x41, INS_PROCESS = 0x05, INS_MGMT = 0x04, LEVEL_ALL = 0x33 };

static struct se05x_session *session_of(struct se05x_channel *ch, enum se05x_auth role)
{
    return &ch->sessions[role == SE05X_SO];
}

static void forget(struct se05x_session *s)
{
    scp03_free(s->scp);
    hsm_cleanse(s, sizeof(*s));
}

/* ---- commands in a session ----------------------------------------------------------------------------- */

/* PROCESS around @p inner: an APDU without Le. */
static hsm_status process(struct se05x_token *t, const struct se05x_session *s, enum se05x_time time,
                          struct hsm_bytes inner, bool extended, size_t expect, struct hsm_bytes *data,
                          uint16_t *sw)
{
    struct se05x_channel *ch = t->channel;
    struct hsm_buf body = { .ptr = ch->work.process, .cap = sizeof(ch->work.process) };
    struct apdu apdu = { .cla = 0x80, .ins = INS_PROCESS };
    struct tlv_writer w;
    hsm_status st;

    ch->delivery = SE05X_NOT_EXECUTED;
    tlv_init(&w, &body);
    tlv_put(&w, TAG_SESSION, (struct hsm_bytes){ s->id, sizeof(s->id) });
    tlv_put(&w, TAG_1, inner);
    if ((st = tlv_finish(&w)) != HSM_OK)
        return hsm_fail(HSM_ERR_DATA_LEN, "%s: a command of %zu bytes is more than a session takes", t->where,
                        inner.len);
    apdu.data = (struct hsm_bytes){ body.ptr, body.len };
    apdu.extended = extended || body.len > 254;
    apdu.has_le = extended;
    return channel_send_apdu(t, time, &apdu, expect, data, sw);
}

/* The answer of a session that has its own SCP03; @p data becomes the plain data. */
static hsm_status unwrap(struct se05x_token *t, struct se05x_session *s, struct hsm_bytes *data, uint16_t *sw)
{
    struct se05x_channel *ch = t->channel;
    struct hsm_buf plain = { .ptr = ch->work.inner_plain, .cap = sizeof(ch->work.inner_plain) };
    struct hsm_bytes answer = { data->ptr,
                                data->len + 2 }; /* channel_send() leaves the status word behind the data */
    hsm_status st;

    if ((st = scp03_unwrap(s->scp, answer, &plain)) == HSM_OK) {
        *data = (struct hsm_bytes){ plain.ptr, plain.len - 2 };
        return HSM_OK;
    }
    s->epoch = 0;
    ch->delivery = SE05X_MAYBE_EXECUTED;
    ch->stale = ch->again = true;
    return hsm_fail(st, "%s: %s", t->where, hsm_error_text(st));
}

static hsm_status send_in(struct se05x_token *t, struct se05x_session *s, const struct se05x_cmd *cmd,
                          struct hsm_bytes *data, uint16_t *sw)
{
    struct se05x_channel *ch = t->channel;
    struct apdu apdu = { .cla = 0x80,
                         .ins = cmd->ins,
                         .p1 = cmd->p1,
                         .p2 = cmd->p2,
                         .data = cmd->data,
                         .extended = cmd->extended || cmd->data.len > 254 };
    struct hsm_buf inner = { .ptr = ch->work.inner, .cap = sizeof(ch->work.inner) };
    struct hsm_buf wrapped = { .ptr = ch->work.wrapped, .cap = sizeof(ch->work.wrapped) };
    size_t expect = cmd->expect;
    hsm_status st;

    ch->delivery = SE05X_NOT_EXECUTED;
    if (apdu_encode(&apdu, &inner) != HSM_OK)
        return hsm_fail(HSM_ERR_DATA_LEN, "%s: %zu bytes of data are more than the chip takes", t->where,
                        cmd->data.len);
    if (s->scp == NULL)
        return process(t, s, cmd->time, (struct hsm_bytes){ inner.ptr, inner.len }, cmd->extended, expect,
                       data, sw);
    if ((st = scp03_wrap(s->scp, (struct hsm_bytes){ inner.ptr, inner.len }, &wrapped)) == HSM_ERR_BUFFER)
        st = HSM_ERR_DATA_LEN;
    if (st != HSM_OK)
        return hsm_fail(st, "%s: %s", t->where, hsm_error_text(st));
    if (expect > 0)
        expect = channel_wrapped_len(expect);
    st = process(t, s, cmd->time, (struct hsm_bytes){ wrapped.ptr, wrapped.len }, cmd->extended, expect, data,
                 sw);
    if (st != HSM_OK) {
        s->epoch = 0; /* the chain of MACs may have moved on, on one side only */
        return st;
    }
    return unwrap(t, s, data, sw);
}

hsm_status session_send(struct se05x_token *t, enum se05x_auth role, const struct se05x_cmd *cmd,
                        struct hsm_bytes *data, uint16_t *sw)
{
    return send_in(t, session_of(t->channel, role), cmd, data, sw);
}

static bool is_open(struct se05x_token *t, const struct se05x_session *s)
{
    return s->epoch != 0 && s->epoch == t->channel->epoch && channel_is_up(t);
}

/* So that others find a free one; whatever comes back. */
static void close_session(struct se05x_token *t, struct se05x_session *s)
{
    static const struct se05x_cmd close_command = { .ins = INS_MGMT, .p2 = 0x1c, .time = SE05X_TIME_SHORT };
    struct hsm_bytes data;
    uint16_t sw;
    hsm_status st = HSM_OK;

    if (is_open(t, s))
        st = send_in(t, s, &close_command, &data, &sw);
    s->epoch = 0;
    (void)st;
}

/* ---- opening: CreateSession ---------------------------------------------------------------------------- */

static hsm_status create_once(struct se05x_token *t, struct se05x_session *s, uint16_t *sw)
{
    uint32_t id = s->cred.auth_id;
    uint8_t tlv[] = { TAG_1, 4, (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id };
    struct apdu apdu = { .cla = 0x80, .ins = INS_MGMT, .p2 = 0x1b, .data = { tlv, sizeof(tlv) } };
    struct hsm_bytes data, value;
    hsm_status st = channel_send_apdu(t, SE05X_TIME_SHORT, &apdu, 0, &data, sw);

    if (st != HSM_OK || *sw != SW_OK)
        return st;
    if (!tlv_take(&data, TAG_1, &value) || value.len != sizeof(s->id))
        return hsm_fail(HSM_ERR_TOKEN_IO, "%s: the chip's CreateSession answer holds no session id",
                        t->where);
    memcpy(s->id, value.ptr, sizeof(s->id));
    s->epoch = t->channel->epoch;
    return HSM_OK;
}

static hsm_status no_object(struct se05x_token *t, uint32_t id)
{
    return hsm_fail(HSM_ERR_NO_OBJECT, "%s: there is no authentication object %08X", t->where, (unsigned)id);
}

static hsm_status locked(struct se05x_token *t, const struct se05x_session *s, uint16_t sw)
{
    return hsm_fail(HSM_ERR_PIN_LOCKED,
                    "%s: the chip has locked authentication object %08X after too many wrong attempts "
                    "(status %04x)",
                    t->where, (unsigned)s->cred.auth_id, sw);
}

static hsm_status create_refused(struct se05x_token *t, const struct se05x_session *s, uint16_t sw)
{
    if (sw == SW_SECURITY)
        return locked(t, s, sw);
    if (sw == SW_CONDITIONS)
        return hsm_fail(HSM_ERR_BUSY, "%s: the chip has no free session", t->where);
    return channel_refused(t, sw, "CreateSession");
}

/*
 * A refusal says little: no such object, no session free (the chip has two, and those of dead processes
 * stay), channel lost, object locked. So ask, and select the applet anew, which frees all sessions; the
 * living log in again by themselves.
 */
static hsm_status create(struct se05x_token *t, struct se05x_session *s)
{
    bool exists = false;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = create_once(t, s, &sw)) != HSM_OK || sw == SW_OK)
        return st;
    if (sw == SW_NOT_ALLOWED || sw == SW_BLOCKED)
        return locked(t, s, sw);
    if (sw == SW_THROTTLED)
        return channel_refused(t, sw, "CreateSession");
    t->channel->stale = true;
    if ((st = channel_up(t)) != HSM_OK || (st = channel_object_exists(t, s->cred.auth_id, &exists)) != HSM_OK)
        return st;
    if (!exists)
        return no_object(t, s->cred.auth_id);
    if ((st = create_once(t, s, &sw)) != HSM_OK || sw == SW_OK)
        return st;
    return sw == SW_NOT_ALLOWED || sw == SW_BLOCKED ? locked(t, s, sw) : create_refused(t, s, sw);
}

/* ---- opening: the proof -------------------------------------------------------------------------------- */

/* What the chip says to a proof. */
static hsm_status verdict(struct se05x_token *t, const struct se05x_session *s, uint16_t sw)
{
    if (sw == SW_OK)
        return HSM_OK;
    if (sw == SW_NOT_ALLOWED || sw == SW_BLOCKED)
        return locked(t, s, sw);
    if (sw == SW_SECURITY || sw == SW_CONDITIONS || sw == 0x6988 || sw == 0x6a80 || (sw & 0xff00) == 0x6300)
        return hsm_fail(HSM_ERR_PIN_INCORRECT, "%s: wrong PIN (authentication object %08X, status %04x)",
                        t->where, (unsigned)s->cred.auth_id, sw);
    return channel_refused(t, sw, "the PIN");
}

static hsm_status prove_user_id(struct se05x_token *t, struct se05x_session *s)
{
    struct hsm_buf value = { .ptr = t->channel->work.wrapped, .cap = sizeof(t->channel->work.wrapped) };
    struct se05x_cmd cmd = { .ins = INS_MGMT, .p2 = 0x2c, .time = SE05X_TIME_SHORT };
    struct hsm_bytes data;
    struct tlv_writer w;
    uint16_t sw = 0;
    hsm_status st;

    tlv_init(&w, &value);
    tlv_put(&w, TAG_1, (struct hsm_bytes){ s->cred.value, s->cred.len });
    if ((st = tlv_finish(&w)) != HSM_OK)
        return st;
    cmd.data = (struct hsm_bytes){ value.ptr, value.len };
    if ((st = send_in(t, s, &cmd, &data, &sw)) != HSM_OK)
        return st;
    return verdict(t, s, sw);
}

static hsm_status initialize_update(struct se05x_token *t, struct se05x_session *s, struct scp03 *scp)
{
    uint8_t challenge[SE05X_CHALLENGE_LEN];
    struct se05x_cmd cmd = { .ins = 0x50,
                             .time = SE05X_TIME_SHORT,
                             .data = { challenge, sizeof(challenge) } };
    struct scp03_keys keys = { .len = s->cred.len };
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st;

    if (RAND_bytes_ex(t->libctx, challenge, sizeof(challenge), 0) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "no random numbers");
    st = send_in(t, s, &cmd, &data, &sw);
    t->channel->delivery = SE05X_NOT_EXECUTED; /* nothing is proved yet: it does no harm to begin again */
    if (st != HSM_OK)
        return st;
    if (sw == SW_SECURITY || sw == SW_CONDITIONS || sw == SW_NOT_ALLOWED || sw == SW_BLOCKED)
        return locked(t, s, sw);
    if (sw != SW_OK)
        return channel_refused(t, sw, "INITIALIZE UPDATE");
    memcpy(keys.enc, s->cred.value, s->cred.len);
    memcpy(keys.mac, s->cred.value, s->cred.len);
    st = scp03_begin(scp, &keys, challenge, data);
    hsm_cleanse(&keys, sizeof(keys));
    return st;
}

/*
 * A wrong key shows on the card cryptogram already. The proof is sent all the same: only then does the chip
 * count the attempt. A host that stopped here could be asked for guesses without limit, and the chip's lock
 * would never fall.
 */
static hsm_status prove_aes(struct se05x_token *t, struct se05x_session *s)
{
    struct hsm_buf proof = { .ptr = t->channel->work.wrapped, .cap = sizeof(t->channel->work.wrapped) };
    struct scp03 *scp = NULL;
    struct hsm_bytes data;
    uint16_t sw = 0;
    hsm_status st, card;

    if ((st = scp03_new(t->libctx, SCP03_EVERY_COMMAND, &scp)) != HSM_OK)
        return st;
    if ((card = st = initialize_update(t, s, scp)) != HSM_OK && card != HSM_ERR_DENIED)
        goto out;
    if ((st = scp03_authenticate(scp, LEVEL_ALL, &proof)) != HSM_OK ||
        (st = process(t, s, SE05X_TIME_SHORT, (struct hsm_bytes){ proof.ptr, proof.len }, false, 0, &data,
                      &sw)) != HSM_OK ||
        (st = verdict(t, s, sw)) != HSM_OK)
        goto out;
    if (card != HSM_OK) {
        st = hsm_fail(HSM_ERR_DENIED,
                      "%s: the chip does not know the key of authentication object %08X, yet accepts it",
                      t->where, (unsigned)s->cred.auth_id);
        goto out;
    }
    s->scp = scp;
    scp = NULL;
out:
    scp03_free(scp);
    return st;
}

/* @p s has a credential and no session. */
static hsm_status open_session(struct se05x_token *t, struct se05x_session *s)
{
    hsm_status st;

    scp03_free(s->scp);
    s->scp = NULL;
    s->epoch = 0;
    if ((st = create(t, s)) != HSM_OK) {
        t->channel->delivery = SE05X_NOT_EXECUTED;
        return st;
    }
    st = s->cred.kind == SE05X_CRED_AES ? prove_aes(t, s) : prove_user_id(t, s);
    if (st == HSM_ERR_PIN_INCORRECT || st == HSM_ERR_PIN_LOCKED) {
        char line[400];

        (void)snprintf(line, sizeof(line), "%s", hsm_error_text(st));
        close_session(t, s);
        st = hsm_fail(st, "%s", line);
    }
    if (st != HSM_OK)
        s->epoch = 0;
    return st;
}

hsm_status session_up(struct se05x_token *t, enum se05x_auth role)
{
    struct se05x_session *s = session_of(t->channel, role);
    hsm_status st;

    if (s->cred.kind == SE05X_CRED_NONE)
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "%s: %s PIN required", t->where,
                        role == SE05X_SO ? "SO" : "user");
    if (is_open(t, s))
        return HSM_OK;
    st = open_session(t, s);
    if (st == HSM_ERR_PIN_INCORRECT ||
        st == HSM_ERR_NO_OBJECT) { /* changed by somebody: each try would cost an attempt */
        forget(s);
        return hsm_fail(HSM_ERR_PIN_REQUIRED, "%s: the %s PIN has been changed since login", t->where,
                        role == SE05X_SO ? "SO" : "user");
    }
    if (st == HSM_ERR_PIN_LOCKED)
        forget(s);
    return st;
}

/* ---- login --------------------------------------------------------------------------------------------- */

static hsm_status login_step(struct se05x_token *t, void *arg)
{
    struct se05x_channel *ch = t->channel;
    hsm_status st;

    if ((st = channel_up(t)) != HSM_OK)
        return st;
    st = open_session(t, &ch->candidate);
    if (st != HSM_OK && ch->delivery != SE05X_NOT_EXECUTED)
        ch->again = false; /* a proof whose answer was lost may have cost an attempt: the user decides */
    return st;
}

static hsm_status check_credential(const struct se05x_token *t, const struct se05x_credential *cred)
{
    if ((cred->kind == SE05X_CRED_AES && cred->len == 16) ||
        (cred->kind == SE05X_CRED_USERID && cred->len >= 1 && cred->len <= 16))
        return HSM_OK;
    return hsm_fail(HSM_ERR_PIN_FORMAT, "%s: no credential of this kind has %zu bytes", t->where, cred->len);
}

hsm_status se05x_login(struct se05x_token *t, enum se05x_auth role, const struct se05x_credential *cred)
{
    struct se05x_channel *ch = t->channel;
    struct se05x_session *s = session_of(ch, role);
    hsm_status st;

    if (role == SE05X_ANYBODY)
        return hsm_fail(HSM_ERR_INTERNAL, "%s: nobody to log in", t->where);
    if ((st = check_credential(t, cred)) != HSM_OK || (st = se05x_link_lock(t->link)) != HSM_OK)
        return st;
    ch->candidate.cred = *cred;
    if ((st = channel_run(t, login_step, NULL)) == HSM_OK) {
        close_session(t, s);
        forget(s);
        *s = ch->candidate;
        ch->candidate.scp = NULL;
    }
    forget(&ch->candidate);
    hsm_cleanse(&ch->work, sizeof(ch->work));
    se05x_link_unlock(t->link);
    return st;
}

void se05x_logout(struct se05x_token *t, enum se05x_auth role)
{
    struct se05x_session *s = session_of(t->channel, role);

    if (s->epoch != 0 && se05x_link_lock(t->link) == HSM_OK) {
        close_session(t, s);
        se05x_link_unlock(t->link);
    }
    forget(s);
}

bool se05x_logged_in(const struct se05x_token *t, enum se05x_auth role)
{
    return role != SE05X_ANYBODY && t->channel->sessions[role == SE05X_SO].cred.kind != SE05X_CRED_NONE;
}

void sessions_close(struct se05x_token *t)
{
    close_session(t, &t->channel->sessions[0]);
    close_session(t, &t->channel->sessions[1]);
}

void sessions_abandon(struct se05x_channel *ch)
{
    scp03_abandon(ch->sessions[0].scp);
    scp03_abandon(ch->sessions[1].scp);
    scp03_abandon(ch->candidate.scp);
}
