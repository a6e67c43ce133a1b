/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rule above all: when an answer is lost, an R-block asks for it again. An I-block goes out a second time
 * only when the chip says that it has not got it; so no command is executed twice. What a chip puts into the
 * N(R) of an error is not known of every part: where it contradicts the rest, ask first.
 */
#include "t1_link.h"

#include <string.h>

void t1_link_init(struct t1_link *link)
{
    *link = (struct t1_link){ .inf_max = T1_INF_MAX };
}

static enum t1_action fail(struct t1_link *link, const char *cause)
{
    link->cause = cause;
    return T1_FAIL;
}

/* ---- what we say ----------------------------------------------------------------------------------------
 */

static enum t1_action send(struct t1_link *link, enum t1_last what, uint8_t pcb, struct hsm_bytes inf)
{
    struct t1_frame f = { T1_NAD_HOST, pcb, inf };
    struct hsm_buf out = { link->out, sizeof(link->out), 0 };

    if (t1_frame_encode(&f, &out) != HSM_OK)
        return fail(link, "a block does not fit");
    link->out_len = out.len;
    link->last = what;
    return T1_SEND;
}

static enum t1_action send_empty(struct t1_link *link, enum t1_last what, uint8_t pcb)
{
    return send(link, what, pcb, (struct hsm_bytes){ NULL, 0 });
}

static bool more_pieces(const struct t1_link *link)
{
    return link->sent + link->piece < link->command.len;
}

static enum t1_action send_piece(struct t1_link *link)
{
    size_t left = link->command.len - link->sent;

    link->piece = left < link->inf_max ? left : link->inf_max;
    if (!more_pieces(link))
        link->executed = true; /* from now on nobody knows, until the chip says otherwise */
    return send(link, T1_LAST_I, t1_pcb_i(link->ns, more_pieces(link)),
                (struct hsm_bytes){ link->command.ptr + link->sent, link->piece });
}

static enum t1_action resend_piece(struct t1_link *link)
{
    link->executed = link->executed && link->doubt;
    if (link->resends++ >= T1_RESENDS)
        return fail(link, "the chip refuses every repetition of a block");
    if (link->executed)
        link->repeated = true;
    return send_piece(link);
}

static enum t1_action repeat_last(struct t1_link *link)
{
    if (link->resends++ >= T1_RESENDS)
        return fail(link, "the chip complains about every repetition of a block");
    return T1_SEND; /* link->out still holds it */
}

static enum t1_action ask_again(struct t1_link *link, enum t1_error error)
{
    if (link->retries++ >= (error == T1_ERR_CRC ? T1_RETRIES_GARBLED : T1_RETRIES))
        return fail(link, error == T1_ERR_CRC ? "what arrives is garbled" : "the chip does not answer");
    if (!link->is_apdu)
        return send_empty(link, T1_LAST_REQUEST, (uint8_t)(0xc0 | link->s_code));
    link->doubt = true;
    return send_empty(link, T1_LAST_ASK, t1_pcb_r(link->nr, error));
}

static enum t1_action acknowledge(struct t1_link *link)
{
    return send_empty(link, T1_LAST_ACK, t1_pcb_r(link->nr, T1_ACK));
}

static void begin(struct t1_link *link, struct hsm_buf *answer)
{
    link->answer = answer;
    link->command = (struct hsm_bytes){ NULL, 0 };
    link->sent = link->piece = 0;
    link->answering = link->aborted = link->executed = link->doubt = link->repeated = link->refused = false;
    link->retries = link->resends = link->wtx_seen = link->wtx_total = link->wtx = 0;
    link->cause = NULL;
    if (answer != NULL)
        answer->len = 0;
}

enum t1_action t1_link_apdu(struct t1_link *link, struct hsm_bytes command, struct hsm_buf *answer)
{
    begin(link, answer);
    link->is_apdu = true;
    link->command = command;
    return send_piece(link);
}

enum t1_action t1_link_request(struct t1_link *link, enum t1_s code, struct hsm_buf *answer)
{
    begin(link, answer);
    link->is_apdu = false;
    link->s_code = (uint8_t)code;
    return send_empty(link, T1_LAST_REQUEST, (uint8_t)(0xc0 | code));
}

bool t1_link_computing(const struct t1_link *link)
{
    return link->is_apdu && !link->answering && !more_pieces(link);
}

/* ---- I-blocks: the answer --------------------------------------------------------------------------------
 */

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

/* One that we have already. */
static enum t1_action got_old_i(struct t1_link *link)
{
    if (link->answering) { /* it never got our acknowledgement */
        if (link->retries++ >= T1_RETRIES)
            return fail(link, "the chip repeats itself");
        return acknowledge(link);
    }
    if (link->last == T1_LAST_ASK) /* it has nothing newer: our block never arrived */
        return resend_piece(link);
    return ask_again(link, T1_ERR_OTHER);
}

static enum t1_action got_i(struct t1_link *link, const struct t1_frame *f)
{
    if (!link->is_apdu) /* what a predecessor left behind */
        return ask_again(link, T1_ERR_OTHER);
    if (t1_i_seq(f->pcb) != link->nr)
        return got_old_i(link);
    if (more_pieces(link))
        return fail(link, "the chip answers before the command is complete");
    if (!link->answering) {
        link->answering = true;
        link->ns ^= 1;
    }
    link->retries = 0;
    link->nr ^= 1;
    if (!append(link->answer, f->inf))
        return fail(link, "the answer is longer than any the chip may give");
    return t1_i_more(f->pcb) ? acknowledge(link) : T1_DONE;
}

/* ---- R-blocks: what became of ours -----------------------------------------------------------------------
 */

static enum t1_action next_piece(struct t1_link *link)
{
    link->retries = 0;
    link->doubt = link->refused = false;
    link->ns ^= 1;
    link->sent += link->piece;
    return send_piece(link);
}

/* N(R) says that it still waits for our block. */
static enum t1_action got_r_waiting(struct t1_link *link, unsigned error)
{
    if (error == T1_ACK && link->last == T1_LAST_I && !link->doubt) {
        /* An acknowledgement of the block before, again. If it is more than that, silence follows. */
        if (link->retries++ >= T1_RETRIES)
            return fail(link, "the chip repeats itself");
        return T1_RECEIVE;
    }
    return resend_piece(link);
}

static enum t1_action out_of_step(struct t1_link *link)
{
    return fail(link, "chip and host count their blocks differently");
}

/* An error in direct answer to a block that was sent once, and another number expected. Either N(R) means
 * something else in this chip: then it takes the block now. Or a reset or another host has changed the
 * numbers: then asking could bring the answer to somebody else's command. */
static enum t1_action got_refusal(struct t1_link *link)
{
    if (link->refused)
        return out_of_step(link);
    link->refused = link->doubt = true;
    return resend_piece(link);
}

/* N(R) says that it has got our block. Not even when asked for does an error prove that of the first piece of
 * a command: out of step, the chip would take what is left for a command of its own. */
static enum t1_action got_r_beyond(struct t1_link *link, unsigned error)
{
    if (more_pieces(link) && error == T1_ACK)
        return next_piece(link);
    if (link->last == T1_LAST_I && error == T1_ERR_CRC)
        return resend_piece(link);
    if (link->last == T1_LAST_I && error != T1_ACK && (!link->doubt || link->refused))
        return got_refusal(link);
    if (link->last == T1_LAST_I)
        return ask_again(link, T1_ERR_OTHER);
    if (more_pieces(link))
        return link->sent > 0 ? next_piece(link) : out_of_step(link);
    if (error == T1_ACK || error == T1_ERR_CRC) /* of our question */
        return ask_again(link, T1_ERR_OTHER);
    return resend_piece(link); /* asked for the answer it has none: its N(R) means something else */
}

static enum t1_action got_r(struct t1_link *link, const struct t1_frame *f)
{
    unsigned error = f->pcb & 0x03;
    bool waiting = t1_r_seq(f->pcb) == link->ns;

    if (!link->is_apdu || link->answering)
        return repeat_last(link); /* about the S- or R-block that we sent last */
    if (link->last == T1_LAST_RESPONSE && (error != T1_ACK || waiting || !more_pieces(link)))
        return repeat_last(link);
    return waiting ? got_r_waiting(link, error) : got_r_beyond(link, error);
}

/* ---- S-blocks --------------------------------------------------------------------------------------------
 */

static bool grant_time(struct t1_link *link, unsigned multiplier)
{
    link->wtx = multiplier == 0 ? 1 : multiplier;
    link->wtx_total += link->wtx;
    return link->wtx_seen++ < T1_WTX_MAX && link->wtx_total <= T1_WTX_TOTAL;
}

static enum t1_action got_request(struct t1_link *link, const struct t1_frame *f)
{
    unsigned value = f->inf.len == 1 ? f->inf.ptr[0] : 0;

    switch (f->pcb & 0x1f) {
    case T1_S_WTX:
        if (!grant_time(link, value))
            return fail(link, "the chip asks for more and more time");
        link->retries = 0;
        break;
    case T1_S_IFS:
        if (value == 0 || value > T1_INF_MAX)
            return ask_again(link, T1_ERR_OTHER);
        link->inf_max = (uint8_t)value;
        break;
    case T1_S_ABORT:
        link->aborted = true;
        break;
    default:
        return ask_again(link, T1_ERR_OTHER);
    }
    if ((f->pcb & 0x1f) != T1_S_WTX && link->resends++ >= T1_RESENDS)
        return fail(link, "the chip repeats itself");
    return send(link, T1_LAST_RESPONSE, (uint8_t)(f->pcb | 0x20), f->inf);
}

static enum t1_action got_response(struct t1_link *link, const struct t1_frame *f)
{
    if (link->is_apdu || (f->pcb & 0x1f) != link->s_code)
        return ask_again(link, T1_ERR_OTHER);
    if (link->s_code == T1_S_RESYNCH || link->s_code == T1_S_SOFT_RESET || link->s_code == T1_S_CHIP_RESET) {
        link->ns = link->nr = 0;
        link->inf_max = T1_INF_MAX;
    }
    return append(link->answer, f->inf) ? T1_DONE
                                        : fail(link, "the answer is longer than any the chip may give");
}

/* ---- the step --------------------------------------------------------------------------------------------
 */

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
        return f.inf.len == 0 ? got_r(link, &f) : ask_again(link, T1_ERR_OTHER);
    case T1_S_REQUEST:
        return got_request(link, &f);
    case T1_S_RESPONSE:
        return got_response(link, &f);
    case T1_INVALID:
        break;
    }
    return ask_again(link, T1_ERR_OTHER);
}

static enum t1_action write_failed(struct t1_link *link)
{
    if (link->last == T1_LAST_I && !link->doubt)
        link->executed = false; /* the block did not arrive whole, so the chip cannot have acted on it */
    return fail(link, "the chip does not acknowledge its address");
}

enum t1_action t1_link_step(struct t1_link *link, enum t1_event event)
{
    if (event != T1_EV_SENT && event != T1_EV_SENT_AGAIN)
        link->wtx = 0;
    switch (event) {
    case T1_EV_SENT_AGAIN:
        link->doubt = link->doubt || link->last == T1_LAST_I;
        /* fall through */
    case T1_EV_SENT:
        return link->aborted ? fail(link, "the chip aborted the exchange") : T1_RECEIVE;
    case T1_EV_WRITE_FAILED:
        return write_failed(link);
    case T1_EV_WRITE_DOUBTFUL:
        return link->last == T1_LAST_I ? ask_again(link, T1_ERR_OTHER) : repeat_last(link);
    case T1_EV_FRAME:
        return got_frame(link);
    case T1_EV_GARBLED:
        return ask_again(link, T1_ERR_CRC);
    case T1_EV_TIMEOUT:
        return ask_again(link, T1_ERR_OTHER);
    }
    return fail(link, "internal error");
}
