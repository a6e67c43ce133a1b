/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T=1 from a chip that says anything. First byte: what to do. 0: the rest is a block to decode. Else: a
 * command of 0, 10, 300 or 600 bytes (bits 0-1) or an S-request (bit 7), then what happens, one record each:
 * an event, and for an arrived block its length, control byte and information; its CRC is made to fit unless
 * bit 6 of the event is set.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "t1_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_AFTER = 64, FRAME_BIT = 0x80, BAD_CRC_BIT = 0x40 };

static struct t1_link machine;
static uint8_t command[600], answer_bytes[1100];
static struct hsm_buf answer = { answer_bytes, sizeof(answer_bytes), 0 };

static void try_decode(struct hsm_bytes in)
{
    uint8_t bytes[T1_FRAME_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct t1_frame f;

    if (t1_frame_decode(in, &f) != HSM_OK)
        return;
    if (t1_frame_encode(&f, &out) != HSM_OK || out.len != in.len || memcmp(bytes, in.ptr, in.len) != 0)
        abort();
}

/* What we say is well-formed, whatever we hear. */
static void check(enum t1_action action)
{
    struct t1_frame f;

    if (action == T1_SEND &&
        (t1_frame_decode((struct hsm_bytes){ machine.out, machine.out_len }, &f) != HSM_OK ||
         f.nad != T1_NAD_HOST || t1_kind(f.pcb) == T1_INVALID))
        abort();
    if (answer.len > answer.cap || machine.sent + machine.piece > machine.command.len)
        abort();
    if (action == T1_FAIL && machine.cause == NULL)
        abort();
}

static enum t1_event next_event(struct hsm_bytes *in)
{
    static const enum t1_event events[] = { T1_EV_TIMEOUT, T1_EV_GARBLED };
    uint8_t what = in->ptr[0], inf[T1_INF_MAX] = { 0 };
    struct t1_frame f = { .nad = T1_NAD_CHIP, .inf = { inf, 0 } };
    struct hsm_buf out = { machine.in, sizeof(machine.in), 0 };
    size_t have;

    in->ptr++;
    in->len--;
    if ((what & FRAME_BIT) == 0 || in->len < 2)
        return events[what & 1];
    f.inf.len = in->ptr[0] <= T1_INF_MAX ? in->ptr[0] : T1_INF_MAX;
    f.pcb = in->ptr[1];
    in->ptr += 2;
    in->len -= 2;
    have = f.inf.len < in->len ? f.inf.len : in->len;
    memcpy(inf, in->ptr, have);
    in->ptr += have;
    in->len -= have;
    if (t1_frame_encode(&f, &out) != HSM_OK)
        abort();
    machine.in_len = out.len;
    if ((what & BAD_CRC_BIT) != 0)
        machine.in[out.len - 1] ^= 1;
    return T1_EV_FRAME;
}

static enum t1_action begin(uint8_t what)
{
    static const size_t lengths[] = { 0, 10, 300, 600 };

    t1_link_init(&machine);
    machine.ns = what >> 2 & 1;
    machine.nr = what >> 3 & 1;
    if ((what & 0x80) != 0)
        return t1_link_request(&machine, (enum t1_s)(what & 0x0f), &answer);
    return t1_link_apdu(&machine, (struct hsm_bytes){ command, lengths[what & 3] }, &answer);
}

static void try_link(uint8_t what, struct hsm_bytes in)
{
    enum t1_action action = begin(what);
    unsigned after = 0;

    check(action);
    while (action == T1_SEND || action == T1_RECEIVE) {
        enum t1_event event = T1_EV_SENT;

        if (action == T1_RECEIVE)
            event = in.len > 0 ? next_event(&in) : T1_EV_TIMEOUT;
        if (in.len == 0 && after++ > STEPS_AFTER) /* silence must come to an end */
            abort();
        action = t1_link_step(&machine, event);
        check(action);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] == 0)
        try_decode((struct hsm_bytes){ data + 1, size - 1 });
    else
        try_link(data[0], (struct hsm_bytes){ data + 1, size - 1 });
    return 0;
}
