/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The host side of T=1: chaining, sequence numbers, waiting-time extension and recovery, as one step function
 * without I/O and without a clock. The caller carries out what a step asks for and reports what became of it.
 * Source: ISO/IEC 7816-3 section 11; NXP UM11225
 */
#ifndef T1_LINK_H
#define T1_LINK_H

#include "t1_frame.h"

/** What happened. */
enum t1_event {
    T1_EV_SENT,           /* the block of T1_SEND was acknowledged byte by byte */
    T1_EV_SENT_AGAIN,     /* the same, after it had been refused: it may have arrived before */
    T1_EV_WRITE_FAILED,   /* it was not, until the time was up */
    T1_EV_WRITE_DOUBTFUL, /* the message ended in a way that leaves open whether it arrived */
    T1_EV_FRAME,          /* link->in holds as many bytes as the LEN of the block says */
    T1_EV_GARBLED,        /* something arrived, but no block; what was left of it has been read and dropped */
    T1_EV_TIMEOUT         /* nothing arrived in time */
};

/** What to do now. */
enum t1_action {
    T1_SEND,    /* write link->out in one message, then report how that ended */
    T1_RECEIVE, /* read one block; link->wtx: so many waiting times more than usual */
    T1_DONE,    /* the answer is complete */
    T1_FAIL     /* link->cause says why, link->executed whether the chip may have executed the command */
};

enum {
    T1_RETRIES = 3,         /* questions in a row that bring no good block */
    T1_RETRIES_GARBLED = 7, /* the same if something arrives: that costs no waiting */
    T1_RESENDS = 6,         /* blocks sent again in one exchange */
    T1_WTX_MAX = 600,       /* requests for more time in one exchange */
    T1_WTX_TOTAL = 1200     /* waiting times granted in one exchange */
};

/** What the block in link->out is. */
enum t1_last { T1_LAST_I, T1_LAST_ACK, T1_LAST_ASK, T1_LAST_REQUEST, T1_LAST_RESPONSE };

/** Plain values. ns and nr may be kept elsewhere between exchanges. */
struct t1_link {
    uint8_t ns;      /* N(S) of the next I-block we send */
    uint8_t nr;      /* N(S) of the next I-block we expect */
    uint8_t inf_max; /* bytes that the chip takes in one block */

    bool is_apdu;
    uint8_t s_code;           /* of the S-request under way, if it is none */
    struct hsm_bytes command; /* borrowed during the exchange */
    size_t sent;              /* bytes of it acknowledged */
    size_t piece;             /* bytes in the outstanding I-block */
    struct hsm_buf *answer;
    enum t1_last last;
    bool answering; /* a part of the answer has arrived: the command was executed */
    bool aborted;   /* the chip asked to give up; fail once it has its answer */
    bool executed;  /* the chip may have executed the command */
    bool doubt;     /* nobody knows whether it did: contact was lost since the last block of the command */
    bool repeated;  /* that block was sent again in spite of a doubt */
    bool refused;   /* the chip refused the outstanding block, and said that it expects another number */

    unsigned retries;   /* in a row, since the last good block */
    unsigned resends;   /* of this exchange in all */
    unsigned wtx_seen;  /* of this exchange */
    unsigned wtx_total; /* of this exchange */
    unsigned wtx;       /* multiplier granted for the next wait; 0: none */

    uint8_t out[T1_FRAME_MAX];
    size_t out_len;
    uint8_t in[T1_FRAME_MAX];
    size_t in_len;
    const char *cause; /* static text */
};

void t1_link_init(struct t1_link *link);
/** Begin a command; the first action is T1_SEND. @p answer: filled as blocks arrive. */
enum t1_action t1_link_apdu(struct t1_link *link, struct hsm_bytes command, struct hsm_buf *answer);
/** Begin an S-request without information field; its answer's goes to @p answer, which may be NULL. */
enum t1_action t1_link_request(struct t1_link *link, enum t1_s code, struct hsm_buf *answer);
enum t1_action t1_link_step(struct t1_link *link, enum t1_event event);

/** Is the whole command out, and its answer the next thing to come? */
bool t1_link_computing(const struct t1_link *link);

#endif
