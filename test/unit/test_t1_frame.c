/* SPDX-License-Identifier: Apache-2.0 */
/* T=1 blocks against the worked frames of the chip's protocol, most of them seen on silicon. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "t1_frame.h"

#include "run_suite.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FRAME(...)                                                                                           \
    {                                                                                                        \
        { __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })                                            \
    }
#define ATR                                                                                                  \
    0x00, 0xa0, 0x00, 0x00, 0x03, 0x96, 0x04, 0x03, 0xe8, 0x00, 0xfe, 0x02, 0x0b, 0x03, 0xe8, 0x08, 0x01,    \
        0x00, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00, 0x0a, 0x4a, 0x43, 0x4f, 0x50, 0x34, 0x20, 0x41, 0x54,      \
        0x50, 0x4f

static const struct vector {
    struct {
        uint8_t bytes[48];
        size_t len;
    } frame;
    enum t1_kind kind;
} vectors[] = {
    { FRAME(0x5a, 0xc0, 0x00, 0xff, 0xfc), T1_S_REQUEST }, /* RESYNCH */
    { FRAME(0xa5, 0xe0, 0x00, 0x3f, 0x19), T1_S_RESPONSE },
    { FRAME(0x5a, 0xc1, 0x01, 0xfe, 0x09, 0xa2), T1_S_REQUEST }, /* IFS 254 */
    { FRAME(0xa5, 0xe1, 0x01, 0xfe, 0xe0, 0x64), T1_S_RESPONSE },
    { FRAME(0x5a, 0xc2, 0x00, 0x4f, 0xcf), T1_S_REQUEST }, /* ABORT */
    { FRAME(0xa5, 0xe2, 0x00, 0x8f, 0x2a), T1_S_RESPONSE },
    { FRAME(0xa5, 0xc3, 0x01, 0x01, 0x1b, 0xdd), T1_S_REQUEST }, /* WTX 1 */
    { FRAME(0x5a, 0xe3, 0x01, 0x01, 0xf2, 0x1b), T1_S_RESPONSE },
    { FRAME(0x5a, 0xc5, 0x00, 0x47, 0x82), T1_S_REQUEST }, /* END OF APDU SESSION */
    { FRAME(0xa5, 0xe5, 0x00, 0x87, 0x67), T1_S_RESPONSE },
    { FRAME(0x5a, 0xc6, 0x00, 0x2f, 0xa8), T1_S_REQUEST }, /* CHIP RESET */
    { FRAME(0xa5, 0xe6, 0x00, 0xef, 0x4d), T1_S_RESPONSE },
    { FRAME(0x5a, 0xc7, 0x00, 0xf7, 0xb1), T1_S_REQUEST }, /* GET ATR */
    { FRAME(0xa5, 0xe7, 0x23, ATR, 0x2a, 0x8d), T1_S_RESPONSE },
    { FRAME(0x5a, 0xcf, 0x00, 0x37, 0x7f), T1_S_REQUEST }, /* INTERFACE SOFT RESET */
    { FRAME(0xa5, 0xef, 0x23, ATR, 0x87, 0x77), T1_S_RESPONSE },
    { FRAME(0x5a, 0xdf, 0x00, 0xa6, 0xea), T1_S_REQUEST }, /* DEEP POWER DOWN */
    { FRAME(0xa5, 0xff, 0x00, 0x66, 0x0f), T1_S_RESPONSE },
    { FRAME(0x5a, 0x80, 0x00, 0x99, 0xba), T1_R },
    { FRAME(0x5a, 0x81, 0x00, 0x41, 0xa3), T1_R },
    { FRAME(0x5a, 0x82, 0x00, 0x29, 0x89), T1_R },
    { FRAME(0x5a, 0x90, 0x00, 0x08, 0x2f), T1_R },
    { FRAME(0x5a, 0x91, 0x00, 0xd0, 0x36), T1_R },
    { FRAME(0x5a, 0x92, 0x00, 0xb8, 0x1c), T1_R },
    { FRAME(0xa5, 0x80, 0x00, 0x6a, 0x7c), T1_R },
    { FRAME(0xa5, 0x90, 0x00, 0xfb, 0xe9), T1_R },
    { FRAME(0xa5, 0x81, 0x00, 0xb2, 0x65), T1_R },
    { FRAME(0x5a, 0x00, 0x16, 0x00, 0xa4, 0x04, 0x00, 0x10, 0xa0, 0x00, 0x00, 0x03, 0x96, 0x54, 0x53, 0x00,
            0x00, 0x00, 0x01, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa8, 0xc8),
      T1_I }, /* SELECT */
    { FRAME(0xa5, 0x00, 0x09, 0x03, 0x01, 0x01, 0x6f, 0xff, 0x01, 0x0b, 0x90, 0x00, 0xcc, 0x8b), T1_I },
    { FRAME(0xa5, 0x00, 0x09, 0x07, 0x02, 0x00, 0x3f, 0x9f, 0xff, 0xff, 0x90, 0x00, 0xc2, 0x76), T1_I },
    { FRAME(0x5a, 0x40, 0x05, 0x80, 0x04, 0x00, 0x20, 0x00, 0x22, 0x93), T1_I }, /* GetVersion */
    { FRAME(0x5a, 0x40, 0x0d, 0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x04, 0x41, 0x02, 0x00, 0x10, 0x00, 0x00,
            0x64, 0x08),
      T1_I }, /* GetRandom */
    { FRAME(0x5a, 0x40, 0x0a, 0x80, 0x04, 0x00, 0x49, 0x04, 0x41, 0x02, 0x00, 0x10, 0x00, 0xb1, 0xfd), T1_I },
    { FRAME(0x5a, 0x20, 0x02, 0x80, 0x04, 0xbe, 0x06), T1_I }, /* more follows */
};

static struct hsm_bytes bytes_of(const struct vector *v)
{
    return (struct hsm_bytes){ v->frame.bytes, v->frame.len };
}

START_TEST(crc_has_the_published_check_value)
{
    ck_assert_uint_eq(t1_crc((struct hsm_bytes){ (const uint8_t *)"123456789", 9 }), 0x906e);
}
END_TEST

START_TEST(decode_takes_known_frames)
{
    struct hsm_bytes in = bytes_of(&vectors[_i]);
    struct t1_frame f;

    ck_assert_int_eq(t1_frame_decode(in, &f), HSM_OK);
    ck_assert_uint_eq(f.nad, in.ptr[0]);
    ck_assert_uint_eq(f.pcb, in.ptr[1]);
    ck_assert_uint_eq(f.inf.len, in.len - T1_OVERHEAD);
    ck_assert_ptr_eq(f.inf.ptr, in.ptr + T1_HEADER);
    ck_assert_int_eq(t1_kind(f.pcb), vectors[_i].kind);
}
END_TEST

START_TEST(encode_gives_known_frames)
{
    struct hsm_bytes want = bytes_of(&vectors[_i]);
    struct t1_frame f;
    uint8_t bytes[T1_FRAME_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };

    ck_assert_int_eq(t1_frame_decode(want, &f), HSM_OK);
    ck_assert_int_eq(t1_frame_encode(&f, &out), HSM_OK);
    ck_assert_uint_eq(out.len, want.len);
    ck_assert_mem_eq(bytes, want.ptr, want.len);
}
END_TEST

START_TEST(decode_rejects_every_truncation_and_every_extra_byte)
{
    struct hsm_bytes in = bytes_of(&vectors[_i]);
    struct t1_frame f;
    size_t len;

    for (len = 0; len < in.len; len++)
        ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ in.ptr, len }, &f), HSM_ERR_DATA_LEN);
    ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ in.ptr, in.len + 1 }, &f), HSM_ERR_DATA_LEN);
}
END_TEST

START_TEST(decode_rejects_every_flipped_bit)
{
    struct vector v = vectors[_i];
    struct t1_frame f;
    size_t bit;

    for (bit = 0; bit < v.frame.len * 8; bit++) {
        v.frame.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_ne(t1_frame_decode(bytes_of(&v), &f), HSM_OK);
        v.frame.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(encode_refuses_what_does_not_fit)
{
    static const uint8_t inf[T1_INF_MAX + 1];
    struct t1_frame f = { T1_NAD_HOST, 0, { inf, (size_t)_i } };
    uint8_t bytes[T1_FRAME_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct t1_frame back;

    if (_i > T1_INF_MAX) {
        ck_assert_int_eq(t1_frame_encode(&f, &out), HSM_ERR_DATA_LEN);
        return;
    }
    out.cap = f.inf.len + T1_OVERHEAD - 1;
    ck_assert_int_eq(t1_frame_encode(&f, &out), HSM_ERR_BUFFER);
    out.cap++;
    ck_assert_int_eq(t1_frame_encode(&f, &out), HSM_OK);
    ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ bytes, out.len }, &back), HSM_OK);
    ck_assert_uint_eq(back.inf.len, f.inf.len);
}
END_TEST

START_TEST(decode_rejects_the_length_that_is_not_used)
{
    uint8_t bytes[255 + T1_OVERHEAD] = { T1_NAD_CHIP, 0, 255 };
    uint16_t crc = t1_crc((struct hsm_bytes){ bytes, sizeof(bytes) - T1_CRC });
    struct t1_frame f;

    bytes[sizeof(bytes) - 2] = (uint8_t)crc;
    bytes[sizeof(bytes) - 1] = (uint8_t)(crc >> 8);
    ck_assert_int_eq(t1_frame_decode((struct hsm_bytes){ bytes, sizeof(bytes) }, &f), HSM_ERR_DATA_LEN);
}
END_TEST

static enum t1_kind kind_by_bits(unsigned pcb)
{
    if (pcb < 0x80)
        return (pcb & 0x1f) == 0 ? T1_I : T1_INVALID;
    if (pcb < 0xc0)
        return (pcb & 0x2c) == 0 ? T1_R : T1_INVALID;
    return pcb < 0xe0 ? T1_S_REQUEST : T1_S_RESPONSE;
}

START_TEST(kind_knows_all_256_control_bytes)
{
    unsigned pcb;

    for (pcb = 0; pcb < 256; pcb++)
        ck_assert_int_eq(t1_kind((uint8_t)pcb), kind_by_bits(pcb));
}
END_TEST

START_TEST(control_bytes_say_what_was_put_in)
{
    unsigned seq, more, error;

    for (seq = 0; seq < 2; seq++) {
        for (more = 0; more < 2; more++) {
            ck_assert_uint_eq(t1_i_seq(t1_pcb_i(seq, more)), seq);
            ck_assert_int_eq(t1_i_more(t1_pcb_i(seq, more)), more);
        }
        for (error = 0; error < 3; error++)
            ck_assert_uint_eq(t1_r_seq(t1_pcb_r(seq, (enum t1_error)error)), seq);
    }
    ck_assert_uint_eq(t1_pcb_i(1, true), 0x60);
    ck_assert_uint_eq(t1_pcb_r(1, T1_ERR_OTHER), 0x92);
}
END_TEST

static Suite *t1_frame_suite(void)
{
    Suite *s = suite_create("t1_frame");
    TCase *tc = tcase_create("t1_frame");

    tcase_add_test(tc, crc_has_the_published_check_value);
    tcase_add_loop_test(tc, decode_takes_known_frames, 0, COUNT(vectors));
    tcase_add_loop_test(tc, encode_gives_known_frames, 0, COUNT(vectors));
    tcase_add_loop_test(tc, decode_rejects_every_truncation_and_every_extra_byte, 0, COUNT(vectors));
    tcase_add_loop_test(tc, decode_rejects_every_flipped_bit, 0, COUNT(vectors));
    tcase_add_loop_test(tc, encode_refuses_what_does_not_fit, 0, T1_INF_MAX + 2);
    tcase_add_test(tc, decode_rejects_the_length_that_is_not_used);
    tcase_add_test(tc, kind_knows_all_256_control_bytes);
    tcase_add_test(tc, control_bytes_say_what_was_put_in);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return run_suite(t1_frame_suite());
}
