/* SPDX-License-Identifier: Apache-2.0 */
/* se05x-sim below its applet: blocks, bus, faults, power, SCP03, key rotation and sessions, seen through the
 * socket. */
#include "client.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

static const uint8_t atr[35] = { 0x00, 0xA0, 0x00, 0x00, 0x03, 0x96, 0x04, 0x03, 0xE8, 0x00, 0xFE, 0x02,
                                 0x0B, 0x03, 0xE8, 0x08, 0x01, 0x00, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00,
                                 0x0A, 'J',  'C',  'O',  'P',  '4',  ' ',  'A',  'T',  'P',  'O' };
static const uint8_t devkit_enc[16] = { 0x35, 0xC2, 0x56, 0x45, 0x89, 0x58, 0xA3, 0x4F,
                                        0x61, 0x36, 0x15, 0x5F, 0x82, 0x09, 0xD6, 0xCD };
static const uint8_t devkit_mac[16] = { 0xAF, 0x17, 0x7D, 0x5D, 0xBD, 0xF7, 0xC0, 0xD5,
                                        0xC1, 0x0A, 0x05, 0xB9, 0xF1, 0x60, 0x7F, 0x78 };
static const uint8_t devkit_dek[16] = { 0xA1, 0xBC, 0x84, 0x38, 0xBF, 0x77, 0x93, 0x5B,
                                        0x36, 0x1A, 0x44, 0x25, 0xFE, 0x79, 0xFA, 0x29 };
static const uint8_t se050e_enc[16] = { 0xD2, 0xDB, 0x63, 0xE7, 0xA0, 0xA5, 0xAE, 0xD7,
                                        0x2A, 0x64, 0x60, 0xC4, 0xDF, 0xDC, 0xAF, 0x64 };
static const uint8_t se050e_mac[16] = { 0x73, 0x8D, 0x5B, 0x79, 0x8E, 0xD2, 0x41, 0xB0,
                                        0xB2, 0x47, 0x68, 0x51, 0x4B, 0xFB, 0xA9, 0x5B };

static struct sim sim, fresh; /* the latter: a chip nobody has used yet, for copies */
static struct line line;

static void start(const char *const *args)
{
    sim_start(&sim, args);
    line = line_open(&sim);
}

static void make_fresh(void)
{
    sim_start(&fresh, NULL);
    ck_assert_int_eq(sim_stop(&fresh), 0);
}

static void remove_fresh(void)
{
    sim_remove(&fresh);
}

static void start_plain(void)
{
    sim_start_like(&sim, &fresh);
    line = line_open(&sim);
}

static void finish(void)
{
    line_close(&line);
    sim_remove(&sim);
}

static void control(const char *command)
{
    char answer[256];

    ck_assert_msg(line_control(&line, command, answer, sizeof(answer)) == 0, "%s: %s", command, answer);
}

/* Send a block given in hexadecimal and compare the answer. */
static void blocks(const char *sent_hex, const char *answer_hex)
{
    uint8_t sent[300], want[300], got[259];
    size_t sent_len = unhex(sent_hex, sent, sizeof(sent)), want_len = unhex(answer_hex, want, sizeof(want));

    ck_assert_int_eq(line_write(&line, sent, sent_len), 0);
    ck_assert_msg(block_read(&line, got) == want_len && memcmp(got, want, want_len) == 0,
                  "after %s: %02X %02X %02X", sent_hex, got[0], got[1], got[2]);
}

static size_t send_block(uint8_t pcb, const char *inf_hex, uint8_t answer[259])
{
    uint8_t inf[254], block[259];
    size_t len = unhex(inf_hex, inf, sizeof(inf));

    return block_exchange(&line, block, block_build(pcb, inf, len, block), answer);
}

static const char select_block[] =
    "5A 00 16 00 A4 04 00 10 A0 00 00 03 96 54 53 00 00 00 01 03 00 00 00 00 00 A8 C8";
static const char select_answer[] = "A5 00 09 03 01 01 6F FF 01 0B 90 00 CC 8B";

/* ---- blocks ----------------------------------------------------------------------------------------- */

START_TEST(s_blocks_are_answered)
{
    uint8_t answer[259];

    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
    blocks("5A C1 01 FE 09 A2", "A5 E1 01 FE E0 64");
    blocks("5A C2 00 4F CF", "A5 E2 00 8F 2A");
    blocks("5A C5 00 47 82", "A5 E5 00 87 67");
    blocks("5A C6 00 2F A8", "A5 E6 00 EF 4D");
    ck_assert_uint_eq(send_block(0xC7, "", answer), 40);
    ck_assert_mem_eq(answer + 3, atr, 35);
    ck_assert_uint_eq(send_block(0xCF, "", answer), 40);
    ck_assert_uint_eq(answer[1], 0xEF);
    ck_assert_mem_eq(answer + 3, atr, 35);
    ck_assert_uint_eq(send_block(0xDF, "", answer), 5);
    ck_assert_uint_eq(answer[1], 0x82); /* deep power-down: SE052 only */
}
END_TEST

START_TEST(select_is_answered_and_sequence_numbers_alternate)
{
    uint8_t answer[259];

    blocks(select_block, select_answer);
    ck_assert_uint_gt(send_block(0x40, "80040020", answer), 14);
    ck_assert_uint_eq(answer[1], 0x40);
    ck_assert_uint_gt(send_block(0x00, "80040020", answer), 14);
    ck_assert_uint_eq(answer[1], 0x00);
}
END_TEST

START_TEST(answer_is_a_byte_stream)
{
    uint8_t sent[40], byte, want[20], rest[8];
    size_t len = unhex(select_block, sent, sizeof(sent)), want_len = unhex(select_answer, want, sizeof(want));

    ck_assert_int_eq(line_read(&line, &byte, 1), 1); /* nothing to say */
    ck_assert_int_eq(line_write(&line, sent, len), 0);
    for (size_t i = 0; i + 1 < want_len; i++) {
        ck_assert_int_eq(line_read(&line, &byte, 1), 0);
        ck_assert_uint_eq(byte, want[i]);
    }
    ck_assert_int_eq(line_read(&line, rest, 4), 0);
    ck_assert_uint_eq(rest[0], want[want_len - 1]);
    ck_assert_mem_eq(rest + 1, "\xFF\xFF\xFF", 3); /* beyond the end */
    ck_assert_int_eq(line_read(&line, &byte, 1), 1);
}
END_TEST

START_TEST(unread_answer_is_dropped_by_next_write)
{
    uint8_t sent[40], some[2];
    size_t len = unhex(select_block, sent, sizeof(sent));

    ck_assert_int_eq(line_write(&line, sent, len), 0);
    ck_assert_int_eq(line_read(&line, some, 2), 0);
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
}
END_TEST

START_TEST(bad_block_gets_r_error)
{
    blocks("5A C0 00 FF FD", "A5 81 00 B2 65"); /* CRC */
    blocks("5A C0 01 FF FC", "A5 82 00 DA 4F"); /* length */
    blocks("A5 C0 00 FF FC", "A5 82 00 DA 4F"); /* NAD */
    blocks("5A 00 00 00 00", "A5 81 00 B2 65"); /* the short frame of NXP's work-around */
    blocks("5A 5A", "A5 82 00 DA 4F");
    blocks(select_block, select_answer);
    blocks("5A 40 05 80 04 00 20 00 22 94", "A5 91 00 23 F0"); /* N(R) is the number expected */
    ck_assert_int_ge(line_stat(&line, "bad-blocks"), 6);
}
END_TEST

START_TEST(i0_i0_gets_r_error_and_resynch_helps)
{
    uint8_t answer[259];

    blocks(select_block, select_answer);
    ck_assert_uint_eq(send_block(0x00, "80040020", answer), 5);
    ck_assert_uint_eq(answer[1], 0x92);
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
    ck_assert_uint_gt(send_block(0x00, "80040020", answer), 5); /* the applet is still selected */
    ck_assert_uint_eq(answer[1], 0x00);
}
END_TEST

START_TEST(repeat_old_ns_repeats_answer)
{
    control("fault repeat-old-ns");
    blocks(select_block, select_answer);
    blocks(select_block, select_answer);
    ck_assert_int_eq(line_stat(&line, "apdus"), 1);
}
END_TEST

START_TEST(r_error_repeats_last_answer)
{
    blocks(select_block, select_answer);
    blocks("5A 81 00 41 A3", select_answer);
    blocks("5A 82 00 29 89", select_answer);
    blocks("5A 80 00 99 BA", select_answer);
    ck_assert_int_eq(line_stat(&line, "apdus"), 1);
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
    blocks("5A 82 00 29 89", "A5 E0 00 3F 19");
}
END_TEST

START_TEST(r_error_without_answer_gets_r_error)
{
    uint8_t answer[259];

    blocks(select_block, select_answer);
    blocks("5A 40 05 80 04 00 20 00 22 94", "A5 91 00 23 F0"); /* never came in */
    ck_assert_uint_eq(send_block(0x91, "", answer), 5);        /* the host asks for the answer to it */
    ck_assert_uint_eq(answer[1], 0x92);                        /* and learns which block is missing */
}
END_TEST

START_TEST(long_answer_is_chained)
{
    uint8_t answer[259];

    line_select(&line);
    ck_assert_uint_eq(send_block(0x40, "80040049 000004 41020258 0000", answer), 259);
    ck_assert_uint_eq(answer[1], 0x60);
    ck_assert_uint_eq(send_block(0x91, "", answer), 259); /* that one again */
    ck_assert_uint_eq(answer[1], 0x60);
    ck_assert_uint_eq(send_block(0x80, "", answer), 259);
    ck_assert_uint_eq(answer[1], 0x20);
    ck_assert_uint_eq(send_block(0x90, "", answer), 5 + 606 - 2 * 254);
    ck_assert_uint_eq(answer[1], 0x40);
}
END_TEST

START_TEST(ifs_of_host_limits_blocks)
{
    uint8_t answer[259];

    blocks("5A C1 01 FE 09 A2", "A5 E1 01 FE E0 64");
    ck_assert_uint_eq(send_block(0xC1, "20", answer), 6);
    line_select(&line);
    ck_assert_uint_eq(send_block(0x40, "80040049 000004 41020040 0000", answer), 5 + 32);
    ck_assert_uint_eq(answer[1], 0x60);
    ck_assert_uint_eq(send_block(0x80, "", answer), 5 + 32);
    ck_assert_uint_eq(send_block(0xC1, "00", answer), 5);
    ck_assert_uint_eq(answer[1] & 0xEF, 0x82);
}
END_TEST

START_TEST(chained_command_is_put_together)
{
    uint8_t answer[259];

    line_select(&line);
    ck_assert_uint_eq(send_block(0x60, "8004", answer), 5);
    ck_assert_uint_eq(answer[1], 0x80);
    ck_assert_uint_eq(send_block(0x82, "", answer), 5); /* R error in between: which block is next */
    ck_assert_uint_eq(answer[1], 0x80);
    ck_assert_uint_gt(send_block(0x00, "0020", answer), 7);
    ck_assert_uint_eq(answer[1], 0x40);
    ck_assert_uint_eq(send_block(0x60, "8004", answer), 5);
    ck_assert_uint_eq(send_block(0xC2, "", answer), 5); /* abort */
    ck_assert_uint_eq(answer[1], 0xE2);
    ck_assert_uint_gt(send_block(0x00, "80040020", answer), 7);
    ck_assert_int_eq(line_stat(&line, "apdu GetVersion"), 2);
}
END_TEST

START_TEST(overlong_command_gets_6700)
{
    uint8_t cmd[2100] = { 0x80, 0x01, 0x06, 0x00, 0x00, 0x08, 0x2D }, rsp[RSP_MAX];

    line_select(&line);
    ck_assert_uint_eq(apdu_raw(&line, cmd, sizeof(cmd), rsp), 2);
    ck_assert_mem_eq(rsp, "\x67\x00", 2);
    apdu_expect(&line, "80040020", 0x9000);
}
END_TEST

START_TEST(wtx_precedes_answer_and_any_multiplier_is_taken)
{
    uint8_t answer[259];

    control("fault slow-wtx=3");
    ck_assert_uint_eq(send_block(0x00, "00A4040010A0000003965453000000010300000000 00", answer), 6);
    ck_assert_uint_eq(answer[1], 0xC3);
    ck_assert_uint_eq(send_block(0xE3, "01", answer), 6);
    ck_assert_uint_eq(answer[1], 0xC3);
    ck_assert_uint_eq(send_block(0x81, "", answer), 6); /* R error: the request again */
    ck_assert_uint_eq(answer[1], 0xC3);
    ck_assert_uint_eq(send_block(0xE3, "05", answer), 6);
    ck_assert_uint_eq(send_block(0xE3, "01", answer), 14);
    ck_assert_uint_eq(answer[1], 0x00);
}
END_TEST

START_TEST(resynch_during_wtx_is_answered_by_wtx_and_soft_reset_ends_it)
{
    uint8_t answer[259];

    control("fault slow-wtx=2");
    ck_assert_uint_eq(send_block(0x00, "00A4040010A0000003965453000000010300000000 00", answer), 6);
    ck_assert_uint_eq(send_block(0xC0, "", answer), 6);
    ck_assert_uint_eq(answer[1], 0xC3);
    ck_assert_uint_eq(send_block(0xCF, "", answer), 40);
    ck_assert_uint_eq(answer[1], 0xEF);
    control("fault clear");
    line_select(&line);
}
END_TEST

START_TEST(wtx_while_chaining)
{
    uint8_t rsp[RSP_MAX];
    size_t len;

    line_select(&line);
    control("fault slow-wtx=2");
    ck_assert_uint_eq(apdu(&line, "80040049 000004 41020258 0000", rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 604);
    ck_assert_int_eq(line_stat(&line, "wtx"), 2);
}
END_TEST

START_TEST(end_of_session_keeps_applet)
{
    line_select(&line);
    blocks("5A C5 00 47 82", "A5 E5 00 87 67");
    line_resynch(&line);
    apdu_expect(&line, "80040020", 0x9000);
}
END_TEST

START_TEST(reset_deselects_applet)
{
    uint8_t answer[259];

    line_select(&line);
    if (_i == 0)
        line_soft_reset(&line);
    else if (_i == 1)
        ck_assert_uint_eq(send_block(0xC6, "", answer), 5);
    else
        control("reset");
    line_resynch(&line);
    apdu_expect(&line, "80040020", 0x6D00);
    line_select(&line);
}
END_TEST

/* ---- bus -------------------------------------------------------------------------------------------- */

START_TEST(other_addresses_are_nacked_and_other_device_counts)
{
    static const char *const args[] = { "--other", "0x19", NULL };
    uint8_t who = 0x0F;

    start(args);
    ck_assert_int_eq(line_message(&line, 'R', 0x50, &who, 1), 1);
    ck_assert_int_eq(line_message(&line, 'W', 0x19 | 0x80, &who, 1), 0);
    ck_assert_int_eq(line_message(&line, 'R', 0x19, &who, 1), 0);
    ck_assert_uint_eq(who, 0x33);
    ck_assert_int_eq(line_stat(&line, "other-transactions"), 2);
    ck_assert_int_eq(line_stat(&line, "transactions"), 0);
    finish();
}
END_TEST

START_TEST(combined_transfer_excludes_others)
{
    static const char *const args[] = { "--other", "0x19", NULL };
    uint8_t who = 0x0F, request[4] = { 'R', 0x19, 0, 1 }, answer[2];
    struct line second;

    start(args);
    second = line_open(&sim);
    ck_assert_int_eq(line_message(&line, 'W', 0x19 | 0x80, &who, 1), 0);
    ck_assert_int_eq(write(second.fd, request, 4), 4);
    ck_assert_int_eq(line_message(&line, 'R', 0x19 | 0x80, answer, 1), 0);
    ck_assert_uint_eq(answer[0], 0x33);
    ck_assert_int_eq(line_message(&line, 'R', 0x19, answer, 1), 0);
    ck_assert_int_eq(read(second.fd, answer, 2), 2); /* served once the STOP has come */
    line_close(&second);
    finish();
}
END_TEST

START_TEST(empty_frame_is_counted_and_hangs_on_request)
{
    uint8_t byte = 0;

    ck_assert_int_eq(line_write(&line, &byte, 0), 1);
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
    control("fault empty-frame-hang");
    ck_assert_int_eq(line_write(&line, &byte, 0), 0);
    ck_assert_int_eq(line_write(&line, "\x5A\xC0\x00\xFF\xFC", 5), 1);
    control("power-off");
    control("power-on");
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
    ck_assert_int_eq(line_stat(&line, "empty-frames"), 2);
}
END_TEST

START_TEST(repeated_start_is_counted_and_not_understood)
{
    uint8_t block[5] = { 0x5A, 0xC0, 0x00, 0xFF, 0xFC }, answer[5];

    ck_assert_int_eq(line_message(&line, 'W', 0x48 | 0x80, block, 5), 0);
    ck_assert_int_eq(line_message(&line, 'R', 0x48, answer, 5), 1);
    ck_assert_int_eq(line_stat(&line, "repeated-starts"), 1);
    blocks("5A C0 00 FF FC", "A5 E0 00 3F 19");
}
END_TEST

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

START_TEST(bus_speed_takes_time)
{
    static const char *const args[] = { "--bus-hz", "10000", NULL };
    uint8_t answer[259];
    double begin, took;

    start(args);
    begin = seconds();
    ck_assert_uint_eq(send_block(0xC7, "", answer), 40);
    took = seconds() - begin;
    /* 5 out: 56 bits; 3 + 37 back: 38 + 344 bits, all at 10 kHz */
    ck_assert_msg(took >= 0.0438, "%.4f s", took);
    ck_assert_int_eq(line_stat(&line, "bus-bits"), 56 + 38 + 344);
    ck_assert_int_eq(line_stat(&line, "bus-us"), 43800);
    finish();
}
END_TEST

START_TEST(chip_time_is_busy_time_and_wtx_comes_each_second)
{
    static const char *const args[] = { "--chip-timing", "--time", "select=1200000", NULL };
    double begin, took;

    start(args);
    begin = seconds();
    for (;;) { /* a poll each 5 ms, so that the count below means something */
        uint8_t sent[40], answer[259];
        size_t len = unhex(select_block, sent, sizeof(sent));

        ck_assert_int_eq(line_write(&line, sent, len), 0);
        while (line_read(&line, answer, 3) != 0)
            nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
        ck_assert_uint_eq(answer[1], 0xC3);
        ck_assert_int_eq(line_read(&line, answer + 3, 3), 0);
        ck_assert_int_eq(line_write(&line, "\x5A\xE3\x01\x01\xF2\x1B", 6), 0);
        while (line_read(&line, answer, 14) != 0)
            nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
        ck_assert_uint_eq(answer[1], 0x00);
        break;
    }
    took = seconds() - begin;
    ck_assert_msg(took >= 1.2, "%.3f s", took);
    ck_assert_int_ge(line_stat(&line, "nacks"), 2);
    ck_assert_int_eq(line_stat(&line, "chip-us"), 1200000);
    finish();
}
END_TEST

START_TEST(busy_is_counted_in_polls_on_request)
{
    static const char *const args[] = { "--busy-nacks", "7", NULL };

    start(args);
    line_select(&line);
    ck_assert_int_eq(line_stat(&line, "nacks"), 7);
    finish();
}
END_TEST

/* ---- faults ----------------------------------------------------------------------------------------- */

START_TEST(fault_changes_one_answer_and_repetition_is_right)
{
    static const struct {
        const char *fault;
        uint8_t first_pcb;
        size_t first_len; /* 0: nothing to read */
    } cases[] = {
        { "fault bad-crc", 0x00, 14 },
        { "fault wrong-ns", 0x40, 14 },
        { "fault drop-answer", 0, 0 },
    };
    uint8_t sent[40], answer[259] = { 0 };
    size_t len = unhex(select_block, sent, sizeof(sent));

    control(cases[_i].fault);
    ck_assert_int_eq(line_write(&line, sent, len), 0);
    ck_assert_uint_eq(block_read(&line, answer), cases[_i].first_len);
    if (cases[_i].first_len != 0)
        ck_assert_uint_eq(answer[1], cases[_i].first_pcb);
    blocks("5A 81 00 41 A3", select_answer);
    ck_assert_int_eq(line_stat(&line, "faults"), 1);
}
END_TEST

START_TEST(truncated_answer_ends_early)
{
    uint8_t sent[40], answer[14];
    size_t len = unhex(select_block, sent, sizeof(sent));

    control("fault truncate-answer,seed=3");
    ck_assert_int_eq(line_write(&line, sent, len), 0);
    ck_assert_int_eq(line_read(&line, answer, 14), 0);
    ck_assert_uint_eq(answer[13], 0xFF);
    ck_assert_int_eq(line_read(&line, answer, 1), 1);
    blocks("5A 82 00 29 89", select_answer);
}
END_TEST

START_TEST(duplicate_comes_before_next_answer)
{
    uint8_t answer[259], want[20];

    control("fault duplicate-answer");
    blocks(select_block, select_answer);
    ck_assert_uint_eq(send_block(0x40, "80040020", answer), unhex(select_answer, want, sizeof(want)));
    ck_assert_mem_eq(answer, want, 14);
    ck_assert_uint_gt(block_read(&line, answer), 5);
    ck_assert_uint_eq(answer[1], 0x40);
}
END_TEST

START_TEST(r_error_fault_does_not_execute)
{
    uint8_t answer[259];

    control("fault r-error");
    ck_assert_uint_eq(send_block(0x00, "00A4040000", answer), 5);
    ck_assert_uint_eq(answer[1] & 0xFC, 0x80);
    ck_assert_int_eq(line_stat(&line, "apdus"), 0);
    ck_assert_uint_eq(send_block(0x00, "00A4040000", answer), 7);
}
END_TEST

START_TEST(nack_storm_passes)
{
    uint8_t block[5] = { 0x5A, 0xC0, 0x00, 0xFF, 0xFC };

    control("fault nack-storm=4@after=1");
    ck_assert_int_eq(line_write(&line, block, 5), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(line_write(&line, block, 5), 1);
    ck_assert_int_eq(line_write(&line, block, 5), 0);
}
END_TEST

START_TEST(random_faults_repeat_with_their_seed)
{
    uint8_t block[5] = { 0x5A, 0xC0, 0x00, 0xFF, 0xFC }, seen[2][64];

    for (int run = 0; run < 2; run++) {
        control("fault clear");
        control("fault seed=11,nack=0.3,bitflip=0.01");
        for (int i = 0; i < 64; i++)
            seen[run][i] = (uint8_t)line_write(&line, block, 5);
    }
    ck_assert_mem_eq(seen[0], seen[1], 64);
    ck_assert_ptr_nonnull(memchr(seen[0], 1, 64));
    ck_assert_ptr_nonnull(memchr(seen[0], 0, 64));
    ck_assert_int_gt(line_stat(&line, "bad-blocks"), 0);
}
END_TEST

START_TEST(stuck_busy_lasts_until_reset)
{
    uint8_t sent[40], byte;
    size_t len = unhex(select_block, sent, sizeof(sent));

    control("fault stuck-busy");
    ck_assert_int_eq(line_write(&line, sent, len), 0);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(line_read(&line, &byte, 1), 1);
    ck_assert_int_eq(line_write(&line, sent, len), 1);
    control("reset");
    blocks(select_block, select_answer);
}
END_TEST

START_TEST(stuck_low_disturbs_every_message)
{
    uint8_t block[5] = { 0x5A, 0xC0, 0x00, 0xFF, 0xFC };
    int status;

    control("fault stuck-low=30");
    ck_assert_int_eq(line_write(&line, block, 5), 3);
    while ((status = line_write(&line, block, 5)) == 3) {
    }
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(late_boot_is_silent_for_a_while)
{
    static const char *const args[] = { "--fault", "late-boot@polls=5", NULL };
    uint8_t block[5] = { 0x5A, 0xC0, 0x00, 0xFF, 0xFC };

    start(args);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(line_write(&line, block, 5), 1);
    ck_assert_int_eq(line_write(&line, block, 5), 0);
    finish();
}
END_TEST

START_TEST(power_cut_inside_command_means_not_executed)
{
    uint8_t sent[40];
    size_t len = unhex(select_block, sent, sizeof(sent));
    char fault[64];

    snprintf(fault, sizeof(fault), "fault power-cut-at-byte=%d@polls=2", _i);
    control(fault);
    ck_assert_int_eq(line_write(&line, sent, len), _i < (int)len ? 2 : 0);
    if (_i < (int)len)
        ck_assert_int_eq(line_stat(&line, "apdus"), 0);
    ck_assert_int_eq(line_write(&line, sent, len), 1);
    ck_assert_int_eq(line_write(&line, sent, len), 1);
    blocks(select_block, select_answer);
    ck_assert_int_eq(line_stat(&line, "power-cuts"), 1);
}
END_TEST

START_TEST(power_cut_inside_answer_reads_ff)
{
    uint8_t sent[40], want[20], answer[14];
    size_t len = unhex(select_block, sent, sizeof(sent));

    unhex(select_answer, want, sizeof(want));
    control("fault power-cut-at-byte=32@command");
    ck_assert_int_eq(line_write(&line, sent, len), 0);
    ck_assert_int_eq(line_read(&line, answer, 14), 0);
    ck_assert_mem_eq(answer, want, 5);
    ck_assert_mem_eq(answer + 5, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 9);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(line_write(&line, sent, len), 1);
    control("power-on");
    blocks(select_block, select_answer);
}
END_TEST

START_TEST(power_cut_in_command_is_before_or_after_it)
{
    uint8_t sent[40];
    size_t len = unhex(select_block, sent, sizeof(sent));
    int executed = 0;

    for (int i = 0; i < 40; i++) {
        long before = line_stat(&line, "apdus");

        control("fault power-cut-in-apdu@polls=1+once");
        ck_assert_int_eq(line_write(&line, sent, len), 0);
        executed += line_stat(&line, "apdus") != before;
        ck_assert_int_eq(line_write(&line, sent, len), 1);
        blocks(select_block, select_answer);
        line_resynch(&line);
    }
    ck_assert_int_gt(executed, 5);
    ck_assert_int_lt(executed, 35);
}
END_TEST

START_TEST(bad_control_commands_are_refused)
{
    char text[256];

    ck_assert_int_eq(line_control(&line, "dance", text, sizeof(text)), 1);
    ck_assert_int_eq(line_control(&line, "fault nonsense=1", text, sizeof(text)), 1);
    ck_assert_str_eq(text, "no such fault");
    ck_assert_int_eq(line_control(&line, "fault nack=2", text, sizeof(text)), 1);
    ck_assert_int_eq(line_control(&line, "fault nack-storm", text, sizeof(text)), 1);
    ck_assert_int_eq(line_control(&line, "challenge 00", text, sizeof(text)), 1);
    line_select(&line);
    ck_assert_int_eq(line_control(&line, "apdus 1", text, sizeof(text)), 0);
    ck_assert_msg(strncmp(text, "SELECT 9000 ", 12) == 0, "%s", text);
}
END_TEST

/* ---- card manager ----------------------------------------------------------------------------------- */

START_TEST(every_lc_and_le_form_is_taken)
{
    static const char *const good[] = { "80040020",
                                        "80040020 00",
                                        "80040020 000000",
                                        "80040049 04 41020010",
                                        "80040049 04 41020010 00",
                                        "80040049 000004 41020010",
                                        "80040049 000004 41020010 0000" };
    static const char *const bad[] = { "800400",
                                       "80040020 0B",
                                       "80040049 05 41020010",
                                       "80040049 03 41020010 0000",
                                       "80040049 000005 41020010",
                                       "80040049 04 41020010 10" };

    line_select(&line);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        apdu_expect(&line, good[i], 0x9000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        apdu_expect(&line, bad[i], 0x6700);
}
END_TEST

START_TEST(nothing_selected_refuses_applet_commands)
{
    apdu_expect(&line, "80040020", 0x6D00);
    apdu_expect(&line, "80500B0008 0102030405060708", 0x6A88);
    apdu_expect(&line, "00A40400 05 0102030405 00", 0x6A82);
    apdu_expect(&line, "00A40400 10 A0000003965453000000010330000000 00", 0x6A82);
    apdu_expect(&line, "90040020", 0x6E00);
}
END_TEST

START_TEST(card_data_is_read_in_issuer_domain)
{
    uint8_t rsp[RSP_MAX];
    size_t len;

    apdu_expect(&line, "00A4040000", 0x9000);
    ck_assert_uint_eq(apdu(&line, "80CA00FE 02 DF28 00", rsp, &len), 0x9000);
    ck_assert_mem_eq(rsp, "\xFE", 1);
    ck_assert_mem_eq(rsp + 2, "\xDF\x28", 2);
    ck_assert_mem_eq(rsp + 5, "\x01\x0C\x00\x01\xA1\xF4",
                     6); /* OEF id: bytes 3 and 4 of the configuration id */
    ck_assert_uint_eq(rsp[1], len - 2);
    ck_assert_uint_eq(apdu(&line, "80CA9F7F00", rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 45);
    apdu_expect(&line, "80CA1234 00", 0x6A88);
}
END_TEST

/* ---- the platform channel --------------------------------------------------------------------------- */

static const char *const e_args[] = { "--applet", "7.2.0-se050e", NULL };

/* Commands with data, without, and refused ones, one after the other. */
static void talk_wrapped(bool with_errors)
{
    for (int i = 0; i < 4; i++) {
        uint8_t rsp[RSP_MAX];
        size_t len;

        ck_assert_uint_eq(apdu(&line, "80040049 000004 41020010 0000", rsp, &len), 0x9000);
        ck_assert_uint_eq(len, 20);
        ck_assert_uint_eq(apdu(&line, "80040020", rsp, &len), 0x9000);
        ck_assert_uint_ge(len, 9);
        ck_assert_uint_eq(apdu(&line, "80040049 000004 41020300 0000", rsp, &len), 0x9000);
        ck_assert_uint_eq(len, 0x304);
        if (with_errors)
            apdu_expect(&line, "80040028 06 410400001234", 0x6985);
    }
}

START_TEST(channel_of_7x_counts_every_command)
{
    start(e_args);
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, se050e_enc, se050e_mac, true), 0x9000);
    talk_wrapped(true);
    finish();
}
END_TEST

START_TEST(channel_of_3x_counts_commands_with_data)
{
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    talk_wrapped(true);
}
END_TEST

START_TEST(wrong_mac_ends_channel)
{
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    line.mcv[3] ^= 1;
    apdu_expect(&line, "80040020", 0x6982);
    apdu_expect(&line, "80040020", 0x6982);
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    apdu_expect(&line, "80040020", 0x9000);
}
END_TEST

START_TEST(plain_command_ends_channel)
{
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    line.secure = false;
    apdu_expect(&line, "80040020", 0x6982);
    line.secure = true;
    apdu_expect(&line, "80040020", 0x6982);
    line.secure = false;
    apdu_expect(&line, "80040020", 0x9000); /* not required, so plain commands go on */
}
END_TEST

START_TEST(wrong_host_cryptogram_is_refused)
{
    line_select(&line);
    apdu_expect(&line, "80500B0008 0102030405060708", 0x9000);
    apdu_expect(&line, "8482330010 01020304050607080102030405060708", 0x6982);
    apdu_expect(&line, "8482330010 01020304050607080102030405060708", 0x6985);
    apdu_expect(&line, "8050110008 0102030405060708", 0x6A88); /* 3.1.1 knows its versions */
    apdu_expect(&line, "8050000008 0102030405060708", 0x9000);
}
END_TEST

START_TEST(known_vector_is_answered)
{
    static const char *const args[] = { "--applet", "7.2.0-se050e", "--fixed-challenge", "4ECD906D325D3D8A",
                                        NULL };
    uint8_t rsp[RSP_MAX], want[40];
    size_t len;

    start(args);
    line_select(&line);
    ck_assert_uint_eq(apdu(&line, "80500B0008 A0A1A2A3A4A5A6A7", rsp, &len), 0x9000);
    unhex("90032019073824202502 0B0300 4ECD906D325D3D8A F7BE9F05EAA0A661", want, sizeof(want));
    ck_assert_uint_eq(len, 29);
    ck_assert_mem_eq(rsp, want, 29);
    apdu_expect(&line, "8482330010 AD5E484A81D592D9 253FD658601447E9", 0x9000);
    ck_assert_uint_eq(apdu(&line, "84040020 08 844EE0BB94921979", rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 24);
    finish();
}
END_TEST

START_TEST(required_channel_refuses_everything_else)
{
    static const char *const args[] = { "--scp03", NULL };

    start(args);
    line_select(&line);
    apdu_expect(&line, "80040020", 0x6985);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    apdu_expect(&line, "80040020", 0x9000);
    finish();
}
END_TEST

START_TEST(channel_dies_with_select_and_reset)
{
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    if (_i == 0)
        line_select(&line);
    else
        line_soft_reset(&line);
    line.secure = true;
    apdu_expect(&line, "80040020", 0x6982);
}
END_TEST

static void put_key_hex(char *hex, const uint8_t *dek, uint8_t start_value)
{
    static const char head[] = "80D80B81460B";
    uint8_t key[16], wrapped[16], ones[16], kcv[16];
    size_t n = strlen(head);

    strcpy(hex, head);
    memset(ones, 1, sizeof(ones));
    for (uint8_t k = 0; k < 3; k++) {
        for (uint8_t i = 0; i < 16; i++)
            key[i] = (uint8_t)(start_value + 16 * k + i);
        host_aes(dek, NULL, true, key, 16, wrapped);
        host_aes(key, NULL, true, ones, 16, kcv);
        n += (size_t)sprintf(hex + n, "881110");
        for (int i = 0; i < 16; i++)
            n += (size_t)sprintf(hex + n, "%02X", wrapped[i]);
        n += (size_t)sprintf(hex + n, "03%02X%02X%02X", kcv[0], kcv[1], kcv[2]);
    }
}

START_TEST(rotated_keys_survive_restart)
{
    uint8_t enc[16], mac[16], rsp[RSP_MAX];
    char hex[256];
    size_t len;

    for (uint8_t i = 0; i < 16; i++) {
        enc[i] = (uint8_t)(0x10 + i);
        mac[i] = (uint8_t)(0x20 + i);
    }
    put_key_hex(hex, devkit_dek, 0x10);
    line_select(&line);
    apdu_expect(&line, hex, 0x6A80); /* in the applet */
    apdu_expect(&line, "00A40400 0B D276000085304A434F9003", 0x9000);
    apdu_expect(&line, hex, 0x6982); /* without a channel */
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    hex[60] ^= 1; /* a check value or key that does not fit */
    apdu_expect(&line, hex, 0x6A80);
    hex[60] ^= 1;
    ck_assert_uint_eq(apdu(&line, hex, rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 10);
    line_close(&line);
    ck_assert_int_eq(sim_stop(&sim), 0);
    sim_restart(&sim, NULL);
    line = line_open(&sim);
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0); /* card cryptogram differs */
    line_select(&line);
    ck_assert_uint_eq(line_scp03(&line, enc, mac, false), 0x9000);
    apdu_expect(&line, "80040020", 0x9000);
}
END_TEST

/* ---- sessions --------------------------------------------------------------------------------------- */

static void create_session(const char *id_hex, char sid_hex[17])
{
    char hex[64];
    uint8_t rsp[RSP_MAX];
    size_t len;

    snprintf(hex, sizeof(hex), "8004001B 06 4104%s", id_hex);
    ck_assert_uint_eq(apdu(&line, hex, rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 12);
    for (int i = 0; i < 8; i++)
        sprintf(sid_hex + 2 * i, "%02X", rsp[4 + i]);
}

/* @return status word of a command inside PROCESS */
static uint16_t inside_get(const char *sid_hex, const char *inner_hex, uint8_t rsp[RSP_MAX], size_t *len)
{
    uint8_t inner[256];
    char hex[700];
    size_t n = unhex(inner_hex, inner, sizeof(inner)), at;

    if (n < 128)
        at = (size_t)sprintf(hex, "80050000%02X1008%s41%02X", (unsigned)(12 + n), sid_hex, (unsigned)n);
    else
        at = (size_t)sprintf(hex, "8005000000%04X1008%s4181%02X", (unsigned)(13 + n), sid_hex, (unsigned)n);
    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(hex + at, "%02X", inner[i]);
    return apdu(&line, hex, rsp, len);
}

static void inside(const char *sid_hex, const char *inner_hex, uint16_t sw)
{
    uint8_t rsp[RSP_MAX];
    size_t len;
    uint16_t got = inside_get(sid_hex, inner_hex, rsp, &len);

    ck_assert_msg(got == sw, "in session, %s: %04X instead of %04X", inner_hex, got, sw);
}

static void with_userid(void)
{
    line_select(&line);
    apdu_expect(&line, "80410700 10 12020003 41047DA00001 420431323334", 0x9000);
}

START_TEST(userid_session_opens_with_pin)
{
    char sid[17];

    with_userid();
    create_session("7DA00001", sid);
    inside(sid, "80040020", 0x6982); /* not yet */
    inside(sid, "8004002C06410431323335", 0x6982);
    inside(sid, "8004002C06410431323334", 0x9000);
    inside(sid, "80040020", 0x9000);
    inside(sid, "8004004900000441020020", 0x9000);
    inside(sid, "8004001C", 0x9000);
    inside(sid, "80040020", 0x6982); /* closed */
    inside("0102030405060708", "80040020", 0x6982);
    apdu_expect(&line, "8004001C", 0x6985); /* session commands need a session */
    apdu_expect(&line, "8004001B 06 410412345678", 0x6985);
}
END_TEST

START_TEST(pin_locks_for_good_after_three_attempts)
{
    char sid[17];

    with_userid();
    create_session("7DA00001", sid);
    for (int i = 0; i < 3; i++)
        inside(sid, "8004002C06410431323335", 0x6982);
    inside(sid, "8004002C06410431323334", 0x6986);
    line_soft_reset(&line);
    line_select(&line);
    apdu_expect(&line, "8004001B 06 41047DA00001", 0x6986);
}
END_TEST

START_TEST(two_sessions_at_most_and_select_ends_them)
{
    char one[17], two[17];

    with_userid();
    create_session("7DA00001", one);
    create_session("7DA00001", two);
    apdu_expect(&line, "8004001B 06 41047DA00001", 0x6985);
    inside(one, "8004002C06410431323334", 0x9000);
    inside(two, "80040020", 0x6982);
    inside(two, "8004001C", 0x9000);
    create_session("7DA00001", two);
    line_select(&line);
    inside(one, "80040020", 0x6982);
}
END_TEST

START_TEST(session_policy_ends_session)
{
    char sid[17];

    with_userid();
    create_session("7DA00001", sid);
    inside(sid, "8004002C06410431323334", 0x9000);
    inside(sid, "8004001F0741 05 03A0000002", 0x6A80); /* length and flags disagree */
    inside(sid, "8004001F0741 05 04A0000002", 0x9000); /* two commands, may be refreshed */
    inside(sid, "80040020", 0x9000);
    inside(sid, "8004001E0711 05 04A0000002", 0x9000);
    inside(sid, "80040020", 0x9000);
    inside(sid, "80040020", 0x9000);
    inside(sid, "80040020", 0x6982);
}
END_TEST

/* An AESKey session's channel: the fields of struct line, with the keys of the session. */
static uint16_t aes_session(struct line *inner, const char *sid, const uint8_t key[16], uint8_t level)
{
    uint8_t rsp[RSP_MAX], challenges[16] = { 1, 2, 3, 4, 5, 6, 7, 8 }, card[8], host[8], in[29] = { 0 },
                          mac[16];
    char hex[64];
    size_t len, n;

    ck_assert_uint_eq(inside_get(sid, "80500000080102030405060708", rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 29);
    memcpy(challenges + 8, rsp + 13, 8);
    *inner = (struct line){ .every_command_counts = true };
    scp_host_keys(inner, key, key, challenges, card, host);
    ck_assert_mem_eq(card, rsp + 21, 8);
    unhex("8482330010", in + 16, 5);
    in[18] = level;
    memcpy(in + 21, host, 8);
    host_cmac(inner->mac, in, sizeof(in), mac);
    memcpy(inner->mcv, mac, 16);
    n = (size_t)sprintf(hex, "8482%02X0010", level);
    for (int i = 0; i < 16; i++)
        n += (size_t)sprintf(hex + n, "%02X", i < 8 ? host[i] : mac[i - 8]);
    return inside_get(sid, hex, rsp, &len);
}

static uint16_t inside_wrapped(struct line *inner, const char *sid, const char *cmd_hex, int *plain_len)
{
    uint8_t cmd[256], rsp[RSP_MAX + 2];
    char hex[600];
    size_t n = unhex(cmd_hex, cmd, sizeof(cmd)), len, at = 0;
    bool had_data = n > 5;
    uint16_t sw;

    n = scp_host_wrap(inner, cmd, n);
    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(hex + at, "%02X", cmd[i]);
    sw = inside_get(sid, hex, rsp, &len);
    rsp[len] = (uint8_t)(sw >> 8);
    rsp[len + 1] = (uint8_t)sw;
    *plain_len = scp_host_unwrap(inner, had_data, rsp, len + 2);
    return sw;
}

START_TEST(aeskey_session_wraps_inside_process)
{
    static const uint8_t key[16] = "@ABCDEFGHIJKLMNO";
    struct line inner;
    char sid[17];
    int len;

    line_select(&line);
    if (_i == 1)
        ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    apdu_expect(&line, "80410300 18 41047DA00002 4310404142434445464748494A4B4C4D4E4F", 0x9000);
    create_session("7DA00002", sid);
    ck_assert_uint_eq(aes_session(&inner, sid, key, 0x33), 0x9000);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040020", &len), 0x9000);
    ck_assert_int_ge(len, 9);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040049 04 41020010", &len), 0x9000);
    ck_assert_int_eq(len, 20);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040028 06 410400001234", &len), 0x6985);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040020", &len), 0x9000);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "8004001C", &len), 0x9000);
    ck_assert_int_eq(len, 0);
    inside(sid, "80040020", 0x6982);
}
END_TEST

START_TEST(aeskey_session_of_level_00_is_plain)
{
    static const uint8_t key[16] = "@ABCDEFGHIJKLMNO";
    struct line inner;
    char sid[17];

    line_select(&line);
    apdu_expect(&line, "80410300 18 41047DA00002 4310404142434445464748494A4B4C4D4E4F", 0x9000);
    create_session("7DA00002", sid);
    ck_assert_uint_eq(aes_session(&inner, sid, key, 0x00), 0x9000);
    inside(sid, "80040020", 0x9000);
    inside(sid, "8004001C", 0x9000);
}
END_TEST

START_TEST(platform_scp_request_is_kept_and_needs_its_session)
{
    char sid[17];

    line_select(&line);
    apdu_expect(&line, "80040052 03 410101", 0x6986);
    apdu_expect(&line, "80410700 0C 41047FFF0207 420431323334", 0x9000);
    create_session("7FFF0207", sid);
    inside(sid, "8004002C06410431323334", 0x9000);
    inside(sid, "80040052 03 410103", 0x6A80);
    inside(sid, "80040052 03 410101", 0x9000);
    line_close(&line);
    ck_assert_int_eq(sim_stop(&sim), 0);
    sim_restart(&sim, NULL);
    line = line_open(&sim);
    line_select(&line);
    apdu_expect(&line, "80040020", 0x6985);
    ck_assert_uint_eq(line_scp03(&line, devkit_enc, devkit_mac, false), 0x9000);
    apdu_expect(&line, "80040020", 0x9000);
}
END_TEST

/* The A6, 7F49 and 5F37 objects of INTERNAL AUTHENTICATE; the first two are what is signed and receipted. */
static size_t ec_offer(EVP_PKEY *host, EVP_PKEY *ephemeral, uint8_t *out, size_t *signed_len)
{
    size_t n = unhex("A600 4F10 A0000003965453000000010300000000 9003AB0133 800188 810110", out, 64);
    size_t point, sig = 80;
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    out[1] = (uint8_t)(n - 2);
    n += unhex("7F49 46 B041", out + n, 8);
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(ephemeral, OSSL_PKEY_PARAM_PUB_KEY, out + n, 65, &point),
                     1);
    n += point;
    n += unhex("F00103", out + n, 3);
    *signed_len = n;
    ck_assert_int_eq(EVP_DigestSignInit_ex(md, NULL, "SHA256", NULL, NULL, host, NULL), 1);
    ck_assert_int_eq(EVP_DigestSign(md, out + n + 3, &sig, out, n), 1);
    EVP_MD_CTX_free(md);
    out[n] = 0x5F;
    out[n + 1] = 0x37;
    out[n + 2] = (uint8_t)sig;
    return n + 3 + sig;
}

static void hex_of(const uint8_t *in, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++)
        sprintf(out + 2 * i, "%02X", in[i]);
}

static void register_host(EVP_PKEY *host)
{
    uint8_t point[65];
    char hex[200] = "80412100 4C 41047DA00003 420103 4441", *end = hex + strlen(hex);
    size_t len;

    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(host, OSSL_PKEY_PARAM_PUB_KEY, point, 65, &len), 1);
    hex_of(point, len, end);
    apdu_expect(&line, hex, 0x9000);
}

/* Z: our ephemeral key with the chip's 7FFF0201 */
static void agree(EVP_PKEY *ephemeral, uint8_t z[32])
{
    uint8_t rsp[RSP_MAX];
    size_t len, z_len = 32;
    EVP_PKEY *chip = EVP_PKEY_new();
    EVP_PKEY_CTX *ctx;

    ck_assert_uint_eq(apdu(&line, "80020000 000006 41047FFF0201 0000", rsp, &len), 0x9000);
    ck_assert_int_eq(EVP_PKEY_copy_parameters(chip, ephemeral), 1);
    ck_assert_int_eq(EVP_PKEY_set1_encoded_public_key(chip, rsp + len - 65, 65), 1);
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, ephemeral, NULL);
    ck_assert_int_eq(EVP_PKEY_derive_init(ctx), 1);
    ck_assert_int_eq(EVP_PKEY_derive_set_peer(ctx, chip), 1);
    ck_assert_int_eq(EVP_PKEY_derive(ctx, z, &z_len), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(chip);
}

/* 3.1.1: no counter word before Z. One CMAC per key, the label in its 12th byte. */
static void ec_session_keys(struct line *inner, const uint8_t z[32], const uint8_t random[16])
{
    static const uint8_t labels[4] = { 4, 6, 7, 8 };
    uint8_t in[52], digest[32], block[16] = { [14] = 128, [15] = 1 };
    uint8_t *const keys[4] = { inner->enc, inner->mac, inner->rmac, inner->mcv };

    memcpy(in, z, 32);
    memcpy(in + 32, random, 16);
    memcpy(in + 48, "\x01\x33\x88\x10", 4);
    ck_assert_int_eq(EVP_Digest(in, sizeof(in), digest, NULL, EVP_sha256(), NULL), 1);
    for (int i = 0; i < 4; i++) {
        block[11] = labels[i];
        host_cmac(digest, block, sizeof(block), keys[i]);
    }
    inner->counter = 1;
    inner->every_command_counts = true;
}

START_TEST(eckey_session_authenticates_both_sides)
{
    EVP_PKEY *host = EVP_EC_gen("P-256"), *ephemeral = EVP_EC_gen("P-256");
    uint8_t offer[256], z[32], rsp[RSP_MAX], receipt[16];
    struct line inner = { .fd = -1 };
    char sid[17], hex[600] = "84880000";
    size_t len, signed_len, n;
    int plain;

    line_select(&line);
    register_host(host);
    create_session("7DA00003", sid);
    n = ec_offer(host, ephemeral, offer, &signed_len);
    sprintf(hex + 8, "%02X", (unsigned)n);
    offer[60] ^= 1;
    hex_of(offer, n, hex + 10);
    inside(sid, hex, 0x6982);
    offer[60] ^= 1;
    hex_of(offer, n, hex + 10);
    agree(ephemeral, z);
    ck_assert_uint_eq(inside_get(sid, hex, rsp, &len), 0x9000);
    ck_assert_uint_eq(len, 36);
    ec_session_keys(&inner, z, rsp + 2);
    host_cmac(inner.rmac, offer, signed_len, receipt);
    ck_assert_mem_eq(receipt, rsp + 20, 16);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040020", &plain), 0x9000);
    ck_assert_int_ge(plain, 9);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "80040049 04 41020010", &plain), 0x9000);
    ck_assert_uint_eq(inside_wrapped(&inner, sid, "8004001C", &plain), 0x9000);
    EVP_PKEY_free(host);
    EVP_PKEY_free(ephemeral);
}
END_TEST

/* ---- life ------------------------------------------------------------------------------------------- */

static void read_text(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");

    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

START_TEST(signals_reset_and_end_with_summary)
{
    char path[96], text[4096];
    const char *args[] = { "--summary", path, NULL };

    sim_make_dir(&sim);
    snprintf(path, sizeof(path), "%s/summary", sim.dir);
    sim_restart(&sim, args);
    line = line_open(&sim);
    line_select(&line);
    ck_assert_int_eq(kill(sim.pid, SIGHUP), 0);
    while (line_stat(&line, "resets") == 0) {
    }
    line_resynch(&line);
    apdu_expect(&line, "80040020", 0x6D00);
    line_close(&line);
    ck_assert_int_eq(sim_stop(&sim), 0);
    read_text(path, text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "apdu SELECT: 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "transactions: "));
    sim_remove(&sim);
}
END_TEST

START_TEST(trace_shows_messages_and_commands)
{
    char path[96], text[8192];
    const char *args[] = { "--trace", path, NULL };

    sim_make_dir(&sim);
    snprintf(path, sizeof(path), "%s/trace", sim.dir);
    sim_restart(&sim, args);
    line = line_open(&sim);
    line_select(&line);
    control("flush");
    read_text(path, text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, " W 48 5A001600A4040010A0"));
    ck_assert_ptr_nonnull(strstr(text, " C-APDU 00A4040010"));
    ck_assert_ptr_nonnull(strstr(text, " R-APDU 0301016FFF010B9000 SELECT"));
    ck_assert_ptr_nonnull(strstr(text, " R 48 A50009 ACK"));
    finish();
}
END_TEST

START_TEST(self_test_passes)
{
    char command[300];

    snprintf(command, sizeof(command), "'%s' --self-test > /dev/null", getenv("HSM_SIM"));
    ck_assert_int_eq(system(command), 0);
}
END_TEST

static TCase *group(Suite *suite, const char *name, bool started)
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 60);
    if (started) {
        tcase_add_unchecked_fixture(tc, make_fresh, remove_fresh);
        tcase_add_checked_fixture(tc, start_plain, finish);
    }
    suite_add_tcase(suite, tc);
    return tc;
}

static void add_blocks(TCase *tc)
{
    tcase_add_test(tc, s_blocks_are_answered);
    tcase_add_test(tc, select_is_answered_and_sequence_numbers_alternate);
    tcase_add_test(tc, answer_is_a_byte_stream);
    tcase_add_test(tc, unread_answer_is_dropped_by_next_write);
    tcase_add_test(tc, bad_block_gets_r_error);
    tcase_add_test(tc, i0_i0_gets_r_error_and_resynch_helps);
    tcase_add_test(tc, repeat_old_ns_repeats_answer);
    tcase_add_test(tc, r_error_repeats_last_answer);
    tcase_add_test(tc, r_error_without_answer_gets_r_error);
    tcase_add_test(tc, long_answer_is_chained);
    tcase_add_test(tc, ifs_of_host_limits_blocks);
    tcase_add_test(tc, chained_command_is_put_together);
    tcase_add_test(tc, overlong_command_gets_6700);
    tcase_add_test(tc, wtx_precedes_answer_and_any_multiplier_is_taken);
    tcase_add_test(tc, resynch_during_wtx_is_answered_by_wtx_and_soft_reset_ends_it);
    tcase_add_test(tc, wtx_while_chaining);
    tcase_add_test(tc, end_of_session_keeps_applet);
    tcase_add_loop_test(tc, reset_deselects_applet, 0, 3);
}

static void add_faults(TCase *tc)
{
    tcase_add_test(tc, empty_frame_is_counted_and_hangs_on_request);
    tcase_add_test(tc, repeated_start_is_counted_and_not_understood);
    tcase_add_loop_test(tc, fault_changes_one_answer_and_repetition_is_right, 0, 3);
    tcase_add_test(tc, truncated_answer_ends_early);
    tcase_add_test(tc, duplicate_comes_before_next_answer);
    tcase_add_test(tc, r_error_fault_does_not_execute);
    tcase_add_test(tc, nack_storm_passes);
    tcase_add_test(tc, random_faults_repeat_with_their_seed);
    tcase_add_test(tc, stuck_busy_lasts_until_reset);
    tcase_add_test(tc, stuck_low_disturbs_every_message);
    tcase_add_loop_test(tc, power_cut_inside_command_means_not_executed, 1, 28);
    tcase_add_test(tc, power_cut_inside_answer_reads_ff);
    tcase_add_test(tc, power_cut_in_command_is_before_or_after_it);
    tcase_add_test(tc, bad_control_commands_are_refused);
}

static void add_card(TCase *tc)
{
    tcase_add_test(tc, every_lc_and_le_form_is_taken);
    tcase_add_test(tc, nothing_selected_refuses_applet_commands);
    tcase_add_test(tc, card_data_is_read_in_issuer_domain);
    tcase_add_test(tc, channel_of_3x_counts_commands_with_data);
    tcase_add_test(tc, wrong_mac_ends_channel);
    tcase_add_test(tc, plain_command_ends_channel);
    tcase_add_test(tc, wrong_host_cryptogram_is_refused);
    tcase_add_loop_test(tc, channel_dies_with_select_and_reset, 0, 2);
    tcase_add_test(tc, rotated_keys_survive_restart);
    tcase_add_test(tc, userid_session_opens_with_pin);
    tcase_add_test(tc, pin_locks_for_good_after_three_attempts);
    tcase_add_test(tc, two_sessions_at_most_and_select_ends_them);
    tcase_add_test(tc, session_policy_ends_session);
    tcase_add_loop_test(tc, aeskey_session_wraps_inside_process, 0, 2);
    tcase_add_test(tc, aeskey_session_of_level_00_is_plain);
    tcase_add_test(tc, eckey_session_authenticates_both_sides);
    tcase_add_test(tc, platform_scp_request_is_kept_and_needs_its_session);
}

static void add_own_start(TCase *tc)
{
    tcase_add_test(tc, other_addresses_are_nacked_and_other_device_counts);
    tcase_add_test(tc, combined_transfer_excludes_others);
    tcase_add_test(tc, bus_speed_takes_time);
    tcase_add_test(tc, chip_time_is_busy_time_and_wtx_comes_each_second);
    tcase_add_test(tc, busy_is_counted_in_polls_on_request);
    tcase_add_test(tc, late_boot_is_silent_for_a_while);
    tcase_add_test(tc, channel_of_7x_counts_every_command);
    tcase_add_test(tc, known_vector_is_answered);
    tcase_add_test(tc, required_channel_refuses_everything_else);
    tcase_add_test(tc, signals_reset_and_end_with_summary);
    tcase_add_test(tc, trace_shows_messages_and_commands);
    tcase_add_test(tc, self_test_passes);
}

int main(void)
{
    Suite *suite = suite_create("sim_link");
    SRunner *runner;
    int failed;

    add_blocks(group(suite, "blocks", true));
    add_faults(group(suite, "faults", true));
    add_card(group(suite, "card", true));
    add_own_start(group(suite, "options", false));
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
