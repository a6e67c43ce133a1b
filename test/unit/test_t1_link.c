/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of T=1, one scenario a line, named by its blocks. Host and chip speak in turn:
 *   iNM   I-block with N(S)=N; M=1: more follow         rN0E  R-block with N(R)=N; error E, 0:
 * acknowledgement sXX   S-block with control byte XX                  sXX:V S-block with one byte of
 * information bad   something with a wrong CRC arrives            junk  something arrives that is no block
 *   -     nothing arrives in time
 * Behind a block of the host: ! it was not acknowledged, ? the bus was disturbed and nobody knows, + it was
 * acknowledged after having been refused.
 * At the end: ok; no: failed, and the chip did not execute it; maybe: failed, and it may have.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "t1_link.h"

#include "run_suite.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { COMMAND_MAX = 600, INF_LEN = 2, SHORT = 10, TWO = 300, THREE = 600 };

struct scenario {
    size_t command_len;
    const char *blocks;
};

static struct t1_link link;
static uint8_t command[COMMAND_MAX], answer_bytes[64], chip_inf[INF_LEN];
static struct hsm_buf answer;
static const char *script, *at; /* at: the next block */

/* ---- blocks by name --------------------------------------------------------------------------------------
 */

static bool word_is(const char *word)
{
    size_t len = strlen(word);

    return strncmp(at, word, len) == 0 && (at[len] == ' ' || at[len] == '\0');
}

static void next_word(void)
{
    at += strcspn(at, " ");
    at += strspn(at, " ");
}

static unsigned digit(char c)
{
    ck_assert_msg(c == '0' || c == '1' || c == '2' || c == '3', "no digit '%c' in: %s", c, script);
    return (unsigned)(c - '0');
}

/* The control byte of the block at @p at; S-blocks: also its information, if any. */
static uint8_t pcb_at(uint8_t *value, bool *has_value)
{
    unsigned pcb = 0, number = 0;
    int read;

    *has_value = false;
    if (at[0] == 'i')
        return t1_pcb_i(digit(at[1]), digit(at[2]) != 0);
    if (at[0] == 'r')
        return t1_pcb_r(digit(at[1]), (enum t1_error)digit(at[3]));
    read = sscanf(at, "s%2x:%3u", &pcb, &number);
    ck_assert_msg(read >= 1, "no block at '%s' in: %s", at, script);
    *has_value = read == 2;
    *value = (uint8_t)number;
    return (uint8_t)pcb;
}

/* ---- the two sides ---------------------------------------------------------------------------------------
 */

static void check_host_block(size_t begun)
{
    uint8_t want, value = 0;
    struct t1_frame f;
    bool has_value;

    ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ link.out, link.out_len }, &f), HSM_OK);
    want = pcb_at(&value, &has_value);
    ck_assert_msg(f.nad == T1_NAD_HOST && f.pcb == want, "host says %02x, not %02x, at '%s' in: %s", f.pcb,
                  want, at, script);
    if (t1_kind(f.pcb) != T1_I) {
        ck_assert_uint_eq(f.inf.len, has_value ? 1 : 0);
        ck_assert_int_eq(has_value ? f.inf.ptr[0] : 0, value);
        return;
    }
    ck_assert_uint_le(begun + f.inf.len, link.command.len);
    ck_assert_int_eq(t1_i_more(f.pcb), begun + f.inf.len < link.command.len);
    ck_assert_mem_eq(f.inf.ptr, command + begun, f.inf.len);
}

static enum t1_event host_speaks(void)
{
    char end;

    check_host_block(link.sent);
    end = at[strcspn(at, " ") - 1];
    next_word();
    return end == '!'   ? T1_EV_WRITE_FAILED
           : end == '?' ? T1_EV_WRITE_DOUBTFUL
           : end == '+' ? T1_EV_SENT_AGAIN
                        : T1_EV_SENT;
}

/* Two bytes in each I-block: its number in the answer, so that repeated blocks are alike and lost ones are
 * missed. */
static struct hsm_bytes chip_inf_of(uint8_t pcb)
{
    static unsigned number;

    if (!link.answering)
        number = 0;
    else if (t1_i_seq(pcb) == link.nr)
        number++;
    chip_inf[0] = (uint8_t)number;
    chip_inf[1] = t1_i_more(pcb);
    return (struct hsm_bytes){ chip_inf, INF_LEN };
}

static enum t1_event chip_speaks(void)
{
    struct hsm_buf in = { link.in, sizeof(link.in), 0 };
    struct t1_frame f = { .nad = T1_NAD_CHIP };
    uint8_t value = 0;
    bool has_value, garble = word_is("bad");

    if (word_is("-") || word_is("junk")) {
        garble = word_is("junk");
        next_word();
        return garble ? T1_EV_GARBLED : T1_EV_TIMEOUT;
    }
    if (!garble) {
        f.pcb = pcb_at(&value, &has_value);
        f.inf = t1_kind(f.pcb) == T1_I ? chip_inf_of(f.pcb) : (struct hsm_bytes){ &value, has_value };
    }
    ck_assert_int_eq(t1_frame_encode(&f, &in), HSM_OK);
    link.in_len = in.len;
    link.in[in.len - 1] ^= garble;
    next_word();
    return T1_EV_FRAME;
}

static void check_answer(void)
{
    size_t i;

    for (i = 0; i < answer.len / INF_LEN; i++) {
        ck_assert_msg(answer.ptr[i * INF_LEN] == i, "a block is missing or doubled in: %s", script);
        ck_assert_int_eq(answer.ptr[i * INF_LEN + 1], i + 1 < answer.len / INF_LEN);
    }
}

static void check_end(enum t1_action action)
{
    if (action == T1_DONE) {
        ck_assert_msg(word_is("ok"), "done, at '%s' in: %s", at, script);
        check_answer();
        return;
    }
    ck_assert_ptr_nonnull(link.cause);
    ck_assert_msg(word_is(link.executed ? "maybe" : "no"), "failed (%s, %s), at '%s' in: %s", link.cause,
                  link.executed ? "maybe executed" : "not executed", at, script);
}

static void play(enum t1_action action, const char *blocks)
{
    at = script = blocks;
    while (action == T1_SEND || action == T1_RECEIVE)
        action = t1_link_step(&link, action == T1_SEND ? host_speaks() : chip_speaks());
    check_end(action);
    next_word();
    ck_assert_msg(*at == '\0', "not reached: '%s' in: %s", at, script);
}

static void set_up(void)
{
    size_t i;

    for (i = 0; i < sizeof(command); i++)
        command[i] = (uint8_t)(i * 3 + i / 256);
    t1_link_init(&link);
    answer = (struct hsm_buf){ answer_bytes, sizeof(answer_bytes), 0 };
}

static void play_command(size_t len, const char *blocks)
{
    play(t1_link_apdu(&link, (struct hsm_bytes){ command, len }, &answer), blocks);
}

/* ---- commands --------------------------------------------------------------------------------------------
 */

static const struct scenario commands[] = {
    /* nothing goes wrong */
    { SHORT, "i00 i00 ok" },
    { 254, "i00 i00 ok" },
    { 255, "i01 r100 i10 i00 ok" },
    { 508, "i01 r100 i10 i00 ok" },
    { THREE, "i01 r100 i11 r000 i00 i00 ok" },
    { SHORT, "i00 i01 r100 i10 ok" },
    { SHORT, "i00 i01 r100 i11 r000 i01 r100 i10 ok" },
    { TWO, "i01 r100 i10 i01 r100 i10 ok" },
    /* our block arrived garbled, and the chip says so */
    { SHORT, "i00 r001 i00 i00 ok" },
    { SHORT, "i00 r002 i00 i00 ok" },
    { SHORT, "i00 r003 i00 i00 ok" },
    { SHORT, "i00 r001 i00 r001 i00 i00 ok" },
    { SHORT, "i00 r101 i00 i00 ok" }, /* with the N(R) of some other reading */
    { TWO, "i01 r001 i01 r100 i10 i00 ok" },
    { TWO, "i01 r100 i10 r101 i10 i00 ok" },
    { TWO, "i01 r101 i01 r100 i10 i00 ok" },
    { SHORT, "i00 r001 i00 r001 i00 r001 i00 r001 i00 r001 i00 r001 i00 r001 no" },
    /* its answer got lost or garbled: ask, and never say the command again */
    { SHORT, "i00 - r002 i00 ok" },
    { SHORT, "i00 bad r001 i00 ok" },
    { SHORT, "i00 junk r001 i00 ok" },
    { SHORT, "i00 bad r001 bad r001 i00 ok" },
    { SHORT, "i00 i01 r100 - r102 i10 ok" },
    { SHORT, "i00 i01 r100 bad r101 i10 ok" },
    { SHORT, "i00 - r002 - r002 - r002 - maybe" },
    { SHORT, "i00 bad r001 bad r001 bad r001 bad r001 bad r001 bad r001 bad r001 bad maybe" },
    /* asked, the chip says that it has nothing: then our block got lost */
    { SHORT, "i00 - r002 r002 i00 i00 ok" },
    { SHORT, "i00 - r002 r000 i00 i00 ok" },
    { SHORT, "i00 - r002 i10 i00 i00 ok" }, /* by repeating the answer before */
    { TWO, "i01 - r002 r000 i01 r100 i10 i00 ok" },
    { TWO, "i01 r100 i10 - r002 r100 i10 i00 ok" },
    /* the acknowledgement of a piece got lost */
    { TWO, "i01 - r002 r100 i10 i00 ok" },
    { TWO, "i01 bad r001 r100 i10 i00 ok" },
    { THREE, "i01 r100 i11 - r002 r002 i00 i00 ok" },
    { THREE, "i01 r100 i11+ r002 r002 r002 i00 i00 ok" },
    /* the chip counts differently: the rest of a command must not become a command of its own */
    { TWO, "i01 r102 i01 r100 i10 i00 ok" },
    { TWO, "i01 r102 i01 r102 no" },
    { TWO, "i01 - r002 r102 no" },
    { TWO, "i01+ r102 r002 r102 no" },
    { TWO, "i01+ r100 i10 i00 ok" },
    { TWO, "i01? r002 r102 no" },
    { THREE, "i01 r100 i11 r002 i11 r002 no" },
    /* the question got garbled */
    { SHORT, "i00 - r002 r101 r002 i00 ok" },
    { SHORT, "i00 - r002 r100 r002 i00 ok" },
    /* the chip insists that it has everything, and that there is nothing to say */
    { SHORT, "i00 r102 i00 i00 ok" },
    { SHORT, "i00 r102 i00 r102 maybe" },
    { SHORT, "i00 r102 i00 - r002 i00 ok" },
    { SHORT, "i00 r102 i00! maybe" },
    { SHORT, "i00 r103 i00 r103 maybe" },
    /* the same of a block that was refused first and may have arrived all the same */
    { SHORT, "i00+ i00 ok" },
    { SHORT, "i00+ r102 r002 i00 ok" },
    { SHORT, "i00+ r102 r002 r102 i00 i00 ok" },
    { SHORT, "i00+ r102 r002 r102 i00 r102 r002 r102 i00 r102 r002 r102 i00 r102 maybe" },
    /* our acknowledgement got lost */
    { SHORT, "i00 i01 r100 r101 r100 i10 ok" },
    { SHORT, "i00 i01 r100 r001 r100 i10 ok" },
    { SHORT, "i00 i01 r100 i01 r100 i10 ok" },
    { SHORT, "i00 i01 r100 - r102 i01 r100 i10 ok" },
    { SHORT, "i00 i01 r100 i01 r100 i01 r100 i01 r100 i01 maybe" },
    /* blocks that come twice */
    { TWO, "i01 r100 i10 r100 i00 ok" },
    { SHORT, "i00 i10 r002 i00 ok" },
    { TWO, "i01 r100 i10 r100 r100 r100 r100 maybe" },
    /* the wrong N(S), once or for good */
    { SHORT, "i00 i10 r002 i10 i00 r102 r002 i00 ok" },
    { SHORT, "i00 i10 r002 i10 i00 r102 r002 i10 i00 r102 r002 i10 i00 r102 maybe" },
    /* more time */
    { SHORT, "i00 sc3:1 se3:1 i00 ok" },
    { SHORT, "i00 sc3:5 se3:5 sc3:2 se3:2 i00 ok" },
    { SHORT, "i00 sc3:1 se3:1 - r002 i00 ok" },
    { SHORT, "i00 sc3:1 se3:1 r001 se3:1 i00 ok" },
    { SHORT, "i00 sc3:1 se3:1 r101 se3:1 i00 ok" },
    { SHORT, "i00 - r002 sc3:1 se3:1 i00 ok" },
    { SHORT, "i00 i01 r100 sc3:1 se3:1 i10 ok" },
    { TWO, "i01 sc3:1 se3:1 r100 i10 i00 ok" },
    { SHORT, "i00 sc3 se3 i00 ok" },
    /* other requests of the chip */
    { TWO, "i01 sc1:32 se1:32 r100 i11 r000 i00 i00 ok" },
    { SHORT, "i00 sc1:0 r002 i00 ok" },
    { SHORT, "i00 sc1:255 r002 i00 ok" },
    { SHORT, "i00 sc2 se2 maybe" },
    { TWO, "i01 sc2 se2 no" },
    { SHORT, "i00 sc4 r002 i00 ok" },
    { SHORT, "i00 se0 r002 i00 ok" },
    { TWO, "i01 i00 no" },
    /* the write itself */
    { SHORT, "i00! no" },
    { TWO, "i01! no" },
    { TWO, "i01 r100 i10! no" },
    { SHORT, "i00 r001 i00! no" },
    { SHORT, "i00 - r002! maybe" },
    { SHORT, "i00 i01 r100! maybe" },
    { SHORT, "i00 - r002 r002 i00! maybe" },
    { SHORT, "i00? r002 i00 ok" },
    { SHORT, "i00? r002 r002 i00 i00 ok" },
    { TWO, "i01? r002 r100 i10 i00 ok" },
    { SHORT, "i00? r002! maybe" },
    { SHORT, "i00 - r002? r002 i00 ok" },
};

static const struct {
    enum t1_s code;
    const char *blocks;
} requests[] = {
    { T1_S_RESYNCH, "sc0 se0 ok" },
    { T1_S_GET_ATR, "sc7 se7 ok" },
    { T1_S_SOFT_RESET, "scf sef ok" },
    { T1_S_CHIP_RESET, "sc6 se6 ok" },
    { T1_S_END_SESSION, "sc5 se5 ok" },
    { T1_S_RESYNCH, "sc0 - sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 bad sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 junk sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 r002 sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 se7 sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0? sc0 se0 ok" },
    /* what a dead predecessor left behind: an answer, or a chip at work */
    { T1_S_RESYNCH, "sc0 i00 sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 i11 sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 sc3:1 se3:1 se0 ok" },
    { T1_S_RESYNCH, "sc0 sc3:1 se3:1 sc3:1 se3:1 i00 sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0 sc3:1 se3:1 - sc0 se0 ok" },
    { T1_S_RESYNCH, "sc0! no" },
    { T1_S_RESYNCH, "sc0 - sc0 - sc0 - sc0 - no" },
};

START_TEST(command_goes_as_its_blocks_say)
{
    set_up();
    play_command(commands[_i].command_len, commands[_i].blocks);
}
END_TEST

/* The same with all sequence numbers the other way round. */
START_TEST(command_goes_the_same_with_the_other_numbers)
{
    char blocks[200], *c;

    set_up();
    link.ns = link.nr = 1;
    (void)snprintf(blocks, sizeof(blocks), "%s", commands[_i].blocks);
    for (c = blocks; *c != '\0'; c++)
        if ((*c == 'i' || *c == 'r') && (c == blocks || c[-1] == ' '))
            c[1] ^= 1;
    play_command(commands[_i].command_len, blocks);
}
END_TEST

START_TEST(request_goes_as_its_blocks_say)
{
    set_up();
    play(t1_link_request(&link, requests[_i].code, NULL), requests[_i].blocks);
}
END_TEST

START_TEST(numbers_go_on_from_command_to_command_and_restart)
{
    set_up();
    play_command(SHORT, "i00 i00 ok");
    play_command(SHORT, "i10 i10 ok");
    play_command(TWO, "i01 r100 i10 i01 r100 i10 ok");
    play_command(SHORT, "i00 i00 ok");
    play(t1_link_request(&link, T1_S_GET_ATR, NULL), "sc7 se7 ok");
    play_command(SHORT, "i10 i10 ok");
    play_command(SHORT, "i00 i00 ok");
    play(t1_link_request(&link, T1_S_RESYNCH, NULL), "sc0 se0 ok");
    play_command(SHORT, "i00 i00 ok");
    play(t1_link_request(&link, T1_S_SOFT_RESET, NULL), "scf sef ok");
    play_command(SHORT, "i00 i00 ok");
    play(t1_link_request(&link, T1_S_CHIP_RESET, NULL), "sc6 se6 ok");
    play_command(SHORT, "i00 i00 ok");
}
END_TEST

/* Chains of every length from 1 to 3 blocks each way, 100 times: each side must keep its own count. */
START_TEST(numbers_stay_right_over_many_exchanges)
{
    static const size_t lengths[] = { SHORT, 254, TWO, 508, THREE };
    unsigned round, pieces, i, ns = 0, nr = 0;
    char blocks[200];
    int len;

    set_up();
    for (round = 0; round < 100; round++) {
        pieces = (unsigned)(lengths[round % 5] + T1_INF_MAX - 1) / T1_INF_MAX;
        for (len = 0, i = 1; i < pieces; i++, ns ^= 1)
            len += snprintf(blocks + len, sizeof(blocks) - (size_t)len, "i%u1 r%u00 ", ns, ns ^ 1);
        len += snprintf(blocks + len, sizeof(blocks) - (size_t)len, "i%u0 ", ns);
        ns ^= 1;
        for (i = 1; i < 1 + round % 3; i++, nr ^= 1)
            len += snprintf(blocks + len, sizeof(blocks) - (size_t)len, "i%u1 r%u00 ", nr, nr ^ 1);
        (void)snprintf(blocks + len, sizeof(blocks) - (size_t)len, "i%u0 ok", nr);
        nr ^= 1;
        play_command(lengths[round % 5], blocks);
    }
}
END_TEST

START_TEST(command_sent_again_in_doubt_is_told)
{
    set_up();
    play_command(SHORT, "i00 r001 i00 i00 ok");
    ck_assert(!link.repeated);
    play_command(SHORT, "i10 - r102 r102 i10 i10 ok");
    ck_assert(link.repeated);
    play_command(SHORT, "i00 - r002 i00 ok");
    ck_assert(!link.repeated);
}
END_TEST

START_TEST(time_is_granted_for_one_wait)
{
    static const uint8_t wtx[] = { 7 };
    struct t1_frame f = { T1_NAD_CHIP, 0xc3, { wtx, 1 } };
    struct hsm_buf in = { link.in, sizeof(link.in), 0 };

    set_up();
    ck_assert_int_eq(t1_link_apdu(&link, (struct hsm_bytes){ command, SHORT }, &answer), T1_SEND);
    ck_assert_int_eq(t1_link_step(&link, T1_EV_SENT), T1_RECEIVE);
    ck_assert_uint_eq(link.wtx, 0);
    ck_assert_int_eq(t1_frame_encode(&f, &in), HSM_OK);
    link.in_len = in.len;
    ck_assert_int_eq(t1_link_step(&link, T1_EV_FRAME), T1_SEND);
    ck_assert_int_eq(t1_link_step(&link, T1_EV_SENT), T1_RECEIVE);
    ck_assert_uint_eq(link.wtx, 7);
    ck_assert_int_eq(t1_link_step(&link, T1_EV_TIMEOUT), T1_SEND);
    ck_assert_uint_eq(link.wtx, 0);
}
END_TEST

START_TEST(time_is_not_granted_for_ever)
{
    static const uint8_t multipliers[] = { 1, 255 };
    struct t1_frame f = { T1_NAD_CHIP, 0xc3, { &multipliers[_i], 1 } };
    struct hsm_buf in = { link.in, sizeof(link.in), 0 };
    enum t1_action action;
    unsigned n = 0;

    set_up();
    action = t1_link_apdu(&link, (struct hsm_bytes){ command, SHORT }, &answer);
    for (; action == T1_SEND; n++) {
        ck_assert_int_eq(t1_link_step(&link, T1_EV_SENT), T1_RECEIVE);
        ck_assert_int_eq(t1_frame_encode(&f, &in), HSM_OK);
        link.in_len = in.len;
        action = t1_link_step(&link, T1_EV_FRAME);
    }
    ck_assert_int_eq(action, T1_FAIL);
    ck_assert_uint_eq(n - 1, _i == 0 ? T1_WTX_MAX : T1_WTX_TOTAL / 255);
}
END_TEST

/* One I-block, or whatever @p f is, in answer to a fresh command. */
static enum t1_action hear(const struct t1_frame *f)
{
    struct hsm_buf in = { link.in, sizeof(link.in), 0 };

    ck_assert_int_eq(t1_link_apdu(&link, (struct hsm_bytes){ command, SHORT }, &answer), T1_SEND);
    ck_assert_int_eq(t1_link_step(&link, T1_EV_SENT), T1_RECEIVE);
    ck_assert_int_eq(t1_frame_encode(f, &in), HSM_OK);
    link.in_len = in.len;
    return t1_link_step(&link, T1_EV_FRAME);
}

START_TEST(answer_longer_than_its_buffer_fails)
{
    static const uint8_t inf[sizeof(answer_bytes) + 1];
    struct t1_frame f = { T1_NAD_CHIP, 0, { inf, sizeof(inf) } };

    set_up();
    ck_assert_int_eq(hear(&f), T1_FAIL);
    ck_assert(link.executed);
    f.inf.len--;
    t1_link_init(&link);
    ck_assert_int_eq(hear(&f), T1_DONE);
}
END_TEST

START_TEST(block_that_is_not_the_chips_is_asked_for_again)
{
    static const uint8_t inf[] = { 0x90, 0x00 };
    static const struct t1_frame odd[] = {
        { T1_NAD_HOST, 0x00, { NULL, 0 } },   /* ours, come back */
        { 0x4b, 0x00, { inf, sizeof(inf) } }, /* another node */
        { T1_NAD_CHIP, 0x01, { inf, sizeof(inf) } }, { T1_NAD_CHIP, 0xa0, { NULL, 0 } },
        { T1_NAD_CHIP, 0x80, { inf, sizeof(inf) } }, /* an R-block has no information */
    };
    struct t1_frame f;

    set_up();
    ck_assert_int_eq(hear(&odd[_i]), T1_SEND);
    ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ link.out, link.out_len }, &f), HSM_OK);
    ck_assert_uint_eq(f.pcb, 0x82);
}
END_TEST

static Suite *t1_link_suite(void)
{
    Suite *s = suite_create("t1_link");
    TCase *tc = tcase_create("t1_link");

    tcase_add_loop_test(tc, command_goes_as_its_blocks_say, 0, COUNT(commands));
    tcase_add_loop_test(tc, command_goes_the_same_with_the_other_numbers, 0, COUNT(commands));
    tcase_add_loop_test(tc, request_goes_as_its_blocks_say, 0, COUNT(requests));
    tcase_add_test(tc, numbers_go_on_from_command_to_command_and_restart);
    tcase_add_test(tc, numbers_stay_right_over_many_exchanges);
    tcase_add_test(tc, command_sent_again_in_doubt_is_told);
    tcase_add_test(tc, time_is_granted_for_one_wait);
    tcase_add_loop_test(tc, time_is_not_granted_for_ever, 0, 2);
    tcase_add_test(tc, answer_longer_than_its_buffer_fails);
    tcase_add_loop_test(tc, block_that_is_not_the_chips_is_asked_for_again, 0, 5);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return run_suite(t1_link_suite());
}
