/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule above all: an I-block goes out a second time only when the chip has said that it did not take it.
 * When an answer is lost, an R-block asks for it again; so no command is executed twice.
 */
#include "t1_link.h"

#include <string.h>

void t1_link_init(struct t1_link *link)
{
    *link = (struct t1_link){ .ns = 0 };
}

static enum t1_action fail(struct t1_link *link, const char *cause)
{
    link->cause = cause;
    return T1_FAIL;
}

static enum t1_action send(struct t1_link *link, uint8_t pcb, struct hsm_bytes inf)
{
    struct t1_frame f = { T1_NAD_HOST, pcb, inf };
    struct hsm_buf out = { link->out, sizeof(link->out), 0 };

    if (t1_frame_encode(&f, &out) != HSM_OK)
        return fail(link, "a block does not fit");
    link->out_len = out.len;
    link->last_was_i = t1_kind(pcb) == T1_I;
    return T1_SEND;
}

static enum t1_action send_empty(struct t1_link *link, uint8_t pcb)
{
    return send(link, pcb, (struct hsm_bytes){ NULL, 0 });
}

static enum t1_action send_piece(struct t1_link *link)
{
    size_t left = link->command.len - link->sent;
    bool more = left > T1_INF_MAX;

    link->piece = more ? T1_INF_MAX : left;
    if (!more)
        link->executed = true; /* from now on nobody knows, until the chip says otherwise */
    return send(link, t1_pcb_i(link->ns, more),
                (struct hsm_bytes){ link->command.ptr + link->sent, link->piece });
}

static enum t1_action resend_piece(struct t1_link *link)
{
    if (link->resends++ >= T1_RESENDS) {
        link->executed = false; /* every time the chip said that it did not take it */
        return fail(link, "the chip refuses every repetition of a block");
    }
    return send_piece(link);
}

static enum t1_action ask_again(struct t1_link *link, enum t1_error error)
{
    if (link->retries++ >= T1_RETRIES)
        return fail(link, error == T1_ERR_CRC ? "what arrives is garbled" : "the chip does not answer");
    if (!link->is_apdu)
        return send_empty(link, (uint8_t)(0xc0 | link->s_code));
    link->asked = true;
    return send_empty(link, t1_pcb_r(link->nr, error));
}

static enum t1_action begin(struct t1_link *link, struct hsm_buf *answer)
{
    link->answer = answer;
    link->sent = link->piece = 0;
    link->answering = link->asked = link->executed = false;
    link->retries = link->resends = link->wtx_seen = link->wtx = 0;
    link->cause = NULL;
    if (answer != NULL)
        answer->len = 0;
    return T1_SEND;
}

enum t1_action t1_link_apdu(struct t1_link *link, struct hsm_bytes command, struct hsm_buf *answer)
{
    (void)begin(link, answer);
    link->is_apdu = true;
    link->command = command;
    return send_piece(link);
}

enum t1_action t1_link_request(struct t1_link *link, enum t1_s code, struct hsm_buf *answer)
{
    (void)begin(link, answer);
    link->is_apdu = false;
    link->s_code = (uint8_t)code;
    return send_empty(link, (uint8_t)(0xc0 | code));
}

static bool append(struct hsm_buf *answer, struct hsm_bytes inf)
{
    if (answer == NULL)
        return true;
    if (answer->cap - answer->len < inf.len)
        return false;
    if (inf.len > 0)
        memcpy(answer->ptr + answer->len, inf.ptr, inf.len);
    answer->len += inf.len;
    return true;
}

/* ---- what arrives ---------------------------------------------------------------------------------------
 */

static enum t1_action got_i(struct t1_link *link, const struct t1_frame *f)
{
    if (!link->is_apdu)
        return ask_again(link, T1_ERR_OTHER);
    if (t1_i_seq(f->pcb) != link->nr) {
        /* The chip repeats the answer before: having been asked, that means it never got our block. */
        if (link->asked && !link->answering)
            return resend_piece(link);
        return ask_again(link, T1_ERR_OTHER);
    }
    if (link->sent + link->piece < link->command.len)
        return fail(link, "the chip answers before the command is complete");
    if (!link->answering) {
        link->answering = true;
        link->ns ^= 1;
    }
    link->retries = 0;
    link->asked = false;
    link->nr ^= 1;
    if (!append(link->answer, f->inf))
        return fail(link, "the answer is longer than any the chip may give");
    if (!t1_i_more(f->pcb))
        return T1_DONE;
    return send_empty(link, t1_pcb_r(link->nr, T1_ACK));
}

/* Our block arrived and there is another one. */
static enum t1_action next_piece(struct t1_link *link)
{
    link->retries = 0;
    link->asked = false;
    link->ns ^= 1;
    link->sent += link->piece;
    return send_piece(link);
}

static enum t1_action repeat_last(struct t1_link *link)
{
    if (link->resends++ >= T1_RESENDS)
        return fail(link, "the chip complains about every repetition of a block");
    return T1_SEND; /* link->out still holds it */
}

static enum t1_action got_r(struct t1_link *link, const struct t1_frame *f)
{
    bool wants_outstanding = t1_r_seq(f->pcb) == link->ns,
         more = link->sent + link->piece < link->command.len;

    if (!link->is_apdu || link->answering)
        return repeat_last(link); /* about the S- or R-block that we sent last */
    if ((f->pcb & 0x03) == T1_ACK && !wants_outstanding && more)
        return next_piece(link);
    if (wants_outstanding || link->last_was_i)
        return resend_piece(link);
    return (f->pcb & 0x03) == T1_ACK ? ask_again(link, T1_ERR_OTHER) : repeat_last(link);
}

static enum t1_action got_request(struct t1_link *link, const struct t1_frame *f)
{
    switch (f->pcb & 0x1f) {
    case T1_S_WTX:
        if (f->inf.len != 1 || link->wtx_seen++ >= T1_WTX_MAX)
            return fail(link, "the chip asks for more and more time");
        link->wtx = f->inf.ptr[0] == 0 ? 1 : f->inf.ptr[0];
        link->retries = 0;
        break;
    case T1_S_IFS: /* we never send more than the smallest maximum it could name */
        break;
    case T1_S_ABORT:
        return fail(link, "the chip aborted the exchange");
    default:
        return ask_again(link, T1_ERR_OTHER);
    }
    return send(link, (uint8_t)(f->pcb | 0x20), f->inf);
}

static enum t1_action got_response(struct t1_link *link, const struct t1_frame *f)
{
    if (link->is_apdu || (f->pcb & 0x1f) != link->s_code)
        return ask_again(link, T1_ERR_OTHER);
    if (link->s_code == T1_S_RESYNCH || link->s_code == T1_S_SOFT_RESET || link->s_code == T1_S_CHIP_RESET)
        link->ns = link->nr = 0;
    return append(link->answer, f->inf) ? T1_DONE
                                        : fail(link, "the answer is longer than any the chip may give");
}

static enum t1_action got_frame(struct t1_link *link)
{
    struct t1_frame f;

    if (t1_frame_decode((struct hsm_bytes){ link->in, link->in_len }, &f) != HSM_OK)
        return ask_again(link, T1_ERR_CRC);
    if (f.nad != T1_NAD_CHIP)
        return ask_again(link, T1_ERR_OTHER);
    switch (t1_kind(f.pcb)) {
    case T1_I:
        return got_i(link, &f);
    case T1_R:
        return got_r(link, &f);
    case T1_S_REQUEST:
        return got_request(link, &f);
    case T1_S_RESPONSE:
        return got_response(link, &f);
    case T1_INVALID:
        break;
    }
    return ask_again(link, T1_ERR_OTHER);
}

enum t1_action t1_link_step(struct t1_link *link, enum t1_event event)
{
    switch (event) {
    case T1_EV_SENT:
        return T1_RECEIVE;
    case T1_EV_WRITE_FAILED:
        if (link->last_was_i && !link->asked)
            link->executed = false; /* the block did not arrive whole, so the chip cannot have acted on it */
        return fail(link, "the chip does not acknowledge its address");
    case T1_EV_FRAME:
        link->wtx = 0;
        return got_frame(link);
    case T1_EV_GARBLED:
        link->wtx = 0;
        return ask_again(link, T1_ERR_CRC);
    case T1_EV_TIMEOUT:
        link->wtx = 0;
        return ask_again(link, T1_ERR_OTHER);
    }
    return fail(link, "internal error");
}
