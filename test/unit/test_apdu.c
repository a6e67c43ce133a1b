/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "apdu.h"

#include "run_suite.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES(...)                                                                                           \
    {                                                                                                        \
        (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })                           \
    }
#define DATA 0x41, 0x02, 0x00, 0x10

/* ---- APDUs -----------------------------------------------------------------------------------------------
 */

static const struct form {
    struct apdu apdu;
    struct hsm_bytes bytes;
} forms[] = {
    { { 0x80, 0x04, 0x00, 0x20, false, false, { NULL, 0 } }, BYTES(0x80, 0x04, 0x00, 0x20) },
    { { 0x80, 0x04, 0x00, 0x20, false, true, { NULL, 0 } }, BYTES(0x80, 0x04, 0x00, 0x20, 0x00) },
    { { 0x80, 0x04, 0x00, 0x20, true, true, { NULL, 0 } }, BYTES(0x80, 0x04, 0x00, 0x20, 0x00, 0x00, 0x00) },
    { { 0x80, 0x04, 0x00, 0x49, false, false, BYTES(DATA) }, BYTES(0x80, 0x04, 0x00, 0x49, 0x04, DATA) },
    { { 0x80, 0x04, 0x00, 0x49, false, true, BYTES(DATA) }, BYTES(0x80, 0x04, 0x00, 0x49, 0x04, DATA, 0x00) },
    { { 0x80, 0x04, 0x00, 0x49, true, false, BYTES(DATA) },
      BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x04, DATA) },
    { { 0x80, 0x04, 0x00, 0x49, true, true, BYTES(DATA) },
      BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x04, DATA, 0x00, 0x00) },
};

static void same_apdu(const struct apdu *a, const struct apdu *b)
{
    ck_assert_uint_eq(a->cla, b->cla);
    ck_assert_uint_eq(a->ins, b->ins);
    ck_assert_uint_eq(a->p1, b->p1);
    ck_assert_uint_eq(a->p2, b->p2);
    ck_assert_int_eq(a->extended, b->extended);
    ck_assert_int_eq(a->has_le, b->has_le);
    ck_assert_uint_eq(a->data.len, b->data.len);
    if (a->data.len > 0)
        ck_assert_mem_eq(a->data.ptr, b->data.ptr, a->data.len);
}

START_TEST(encode_gives_each_form)
{
    uint8_t bytes[32];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };

    ck_assert_int_eq(apdu_encode(&forms[_i].apdu, &out), HSM_OK);
    ck_assert_uint_eq(out.len, forms[_i].bytes.len);
    ck_assert_mem_eq(bytes, forms[_i].bytes.ptr, out.len);
}
END_TEST

START_TEST(parse_takes_each_form)
{
    struct apdu a;

    ck_assert_int_eq(apdu_parse(forms[_i].bytes, &a), HSM_OK);
    same_apdu(&a, &forms[_i].apdu);
}
END_TEST

START_TEST(encode_refuses_a_buffer_one_byte_short)
{
    uint8_t bytes[32];
    struct hsm_buf out = { bytes, forms[_i].bytes.len - 1, 0 };

    ck_assert_int_eq(apdu_encode(&forms[_i].apdu, &out), HSM_ERR_BUFFER);
}
END_TEST

/* A shorter prefix may be another valid form, but never with the data of the whole. */
START_TEST(parse_never_reads_beyond_a_truncation)
{
    struct hsm_bytes in = forms[_i].bytes;
    struct apdu a;

    for (in.len = 0; in.len < forms[_i].bytes.len; in.len++) {
        uint8_t *exact = malloc(in.len > 0 ? in.len : 1);

        memcpy(exact, in.ptr, in.len);
        if (apdu_parse((struct hsm_bytes){ exact, in.len }, &a) == HSM_OK && a.data.len > 0)
            ck_assert_ptr_eq(a.data.ptr + a.data.len + (a.has_le ? (a.extended ? 2 : 1) : 0), exact + in.len);
        free(exact);
    }
}
END_TEST

static const struct hsm_bytes bad_apdus[] = {
    BYTES(0x80, 0x04, 0x00),                                     /* no header */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x05, DATA),                   /* less than Lc */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x03, DATA, 0x00),             /* more than Lc and Le */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x04, DATA, 0x00), /* half of an extended Le */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x05, DATA),       /* less than extended Lc */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x00, 0x00),       /* extended Lc of 0 */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00),                   /* half a length */
    BYTES(0x80, 0x04, 0x00, 0x49, 0x00, 0x00, 0x04, DATA, 0x00, 0x00, 0x00),
};

START_TEST(parse_refuses_lengths_that_do_not_add_up)
{
    struct apdu a;

    ck_assert_int_eq(apdu_parse(bad_apdus[_i], &a), HSM_ERR_DATA);
}
END_TEST

START_TEST(encode_then_parse_keeps_every_length)
{
    static uint8_t data[1000], bytes[1010];
    struct apdu a = { .cla = 0x80, .ins = 1, .extended = _i & 1, .has_le = _i >> 1 & 1, .data = { data, 0 } },
                b;
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };

    for (a.data.len = 0; a.data.len <= sizeof(data); a.data.len++) {
        struct apdu want = a;

        want.extended = (a.extended && (a.data.len > 0 || a.has_le)) || a.data.len > 255;
        ck_assert_int_eq(apdu_encode(&a, &out), HSM_OK);
        ck_assert_int_eq(apdu_parse((struct hsm_bytes){ bytes, out.len }, &b), HSM_OK);
        same_apdu(&b, &want);
    }
}
END_TEST

/* ---- TLV -------------------------------------------------------------------------------------------------
 */

static const struct {
    size_t len;
    struct hsm_bytes head;
} length_cases[] = {
    { 0, BYTES(0x41, 0x00) },
    { 1, BYTES(0x41, 0x01) },
    { 0x7f, BYTES(0x41, 0x7f) },
    { 0x80, BYTES(0x41, 0x81, 0x80) },
    { 0xff, BYTES(0x41, 0x81, 0xff) },
    { 0x100, BYTES(0x41, 0x82, 0x01, 0x00) },
    { 0x378, BYTES(0x41, 0x82, 0x03, 0x78) },
};

START_TEST(tlv_put_uses_the_shortest_length)
{
    static uint8_t value[0x378], bytes[1024];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct tlv_writer w;
    size_t i;

    memset(value, 0xee, sizeof(value));
    for (i = 0; i < COUNT(length_cases); i++) {
        tlv_init(&w, &out);
        tlv_put(&w, 0x41, (struct hsm_bytes){ value, length_cases[i].len });
        ck_assert_int_eq(tlv_finish(&w), HSM_OK);
        ck_assert_uint_eq(out.len, length_cases[i].head.len + length_cases[i].len);
        ck_assert_mem_eq(bytes, length_cases[i].head.ptr, length_cases[i].head.len);
    }
}
END_TEST

START_TEST(tlv_numbers_are_big_endian)
{
    static const uint8_t want[] = { 0x41, 1, 0xab, 0x42, 2, 0x12, 0x34, 0x43, 4, 0xde, 0xad, 0xbe, 0xef };
    uint8_t bytes[32], small;
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    struct hsm_bytes in;
    struct tlv_writer w;
    uint32_t value;

    tlv_init(&w, &out);
    tlv_put_u8(&w, 0x41, 0xab);
    tlv_put_u16(&w, 0x42, 0x1234);
    tlv_put_u32(&w, 0x43, 0xdeadbeef);
    ck_assert_int_eq(tlv_finish(&w), HSM_OK);
    ck_assert_uint_eq(out.len, sizeof(want));
    ck_assert_mem_eq(bytes, want, sizeof(want));

    in = (struct hsm_bytes){ bytes, out.len };
    ck_assert(tlv_take_u8(&in, 0x41, &small) && small == 0xab);
    ck_assert(tlv_take_uint(&in, 0x42, &value) && value == 0x1234);
    ck_assert(tlv_take_uint(&in, 0x43, &value) && value == 0xdeadbeef);
    ck_assert_uint_eq(in.len, 0);
}
END_TEST

START_TEST(tlv_writer_that_is_full_says_so_at_the_end)
{
    uint8_t bytes[8];
    struct hsm_buf out = { bytes, 7, 0 };
    struct tlv_writer w;

    tlv_init(&w, &out);
    tlv_put_u16(&w, 0x41, 1);
    tlv_put_u16(&w, 0x42, 2); /* does not fit */
    tlv_put_u8(&w, 0x43, 3);  /* would, but comes too late */
    ck_assert_int_eq(tlv_finish(&w), HSM_ERR_BUFFER);
    ck_assert_uint_eq(out.len, 4);
}
END_TEST

static const struct hsm_bytes same_values[] = {
    BYTES(0x41, 0x02, 0xaa, 0xbb, 0x42, 0x00),
    BYTES(0x41, 0x81, 0x02, 0xaa, 0xbb, 0x42, 0x00),
    BYTES(0x41, 0x82, 0x00, 0x02, 0xaa, 0xbb, 0x42, 0x00),
};

START_TEST(tlv_take_knows_three_length_forms)
{
    struct hsm_bytes in = same_values[_i], value;

    ck_assert(tlv_take(&in, 0x41, &value));
    ck_assert_uint_eq(value.len, 2);
    ck_assert_mem_eq(value.ptr, "\xaa\xbb", 2);
    ck_assert(tlv_take(&in, 0x42, &value));
    ck_assert_uint_eq(value.len, 0);
    ck_assert(!tlv_take(&in, 0x42, &value));
}
END_TEST

static void stays(struct hsm_bytes in, uint8_t tag)
{
    struct hsm_bytes before = in, value;
    uint32_t number;
    uint8_t small;

    ck_assert(!tlv_take(&in, tag, &value));
    ck_assert(!tlv_take_uint(&in, tag, &number));
    ck_assert(!tlv_take_u8(&in, tag, &small));
    ck_assert_ptr_eq(in.ptr, before.ptr);
    ck_assert_uint_eq(in.len, before.len);
}

static const struct hsm_bytes bad_tlvs[] = {
    BYTES(0x42, 0x01, 0x00),
    BYTES(0x41),
    BYTES(0x41, 0x01),
    BYTES(0x41, 0x81),
    BYTES(0x41, 0x81, 0x01),
    BYTES(0x41, 0x82, 0x00),
    BYTES(0x41, 0x82, 0x00, 0x01),
    BYTES(0x41, 0x80, 0x00, 0x00, 0x00),
    BYTES(0x41, 0x83, 0x00, 0x00, 0x01, 0x00),
    BYTES(0x41, 0xff, 0x00),
};

START_TEST(tlv_take_leaves_what_it_cannot_take)
{
    size_t i;

    for (i = 0; i < COUNT(bad_tlvs); i++)
        stays(bad_tlvs[i], 0x41);
    stays((struct hsm_bytes){ NULL, 0 }, 0x41);
}
END_TEST

START_TEST(tlv_take_refuses_every_truncation)
{
    static uint8_t bytes[4 + 300] = { 0x41, 0x82, 0x01, 0x2c };
    struct hsm_bytes in, value;
    size_t len;

    for (len = 0; len < sizeof(bytes); len++)
        stays((struct hsm_bytes){ bytes, len }, 0x41);
    in = (struct hsm_bytes){ bytes, sizeof(bytes) };
    ck_assert(tlv_take(&in, 0x41, &value));
    ck_assert_uint_eq(value.len, 300);
}
END_TEST

static const struct hsm_bytes odd_numbers[] = { BYTES(0x41, 0x00), BYTES(0x41, 0x05, 0, 0, 0, 0, 1) };

START_TEST(tlv_numbers_of_other_lengths_are_left)
{
    struct hsm_bytes in = BYTES(0x41, 0x02, 0x01, 0x02);
    uint32_t number;
    uint8_t small;
    size_t i;

    ck_assert(!tlv_take_u8(&in, 0x41, &small));
    ck_assert_uint_eq(in.len, 4);
    for (i = 0; i < COUNT(odd_numbers); i++) {
        in = odd_numbers[i];
        ck_assert(!tlv_take_uint(&in, 0x41, &number));
        ck_assert_uint_eq(in.len, odd_numbers[i].len);
    }
}
END_TEST

static Suite *apdu_suite(void)
{
    Suite *s = suite_create("apdu");
    TCase *tc = tcase_create("apdu");

    tcase_add_loop_test(tc, encode_gives_each_form, 0, COUNT(forms));
    tcase_add_loop_test(tc, parse_takes_each_form, 0, COUNT(forms));
    tcase_add_loop_test(tc, encode_refuses_a_buffer_one_byte_short, 0, COUNT(forms));
    tcase_add_loop_test(tc, parse_never_reads_beyond_a_truncation, 0, COUNT(forms));
    tcase_add_loop_test(tc, parse_refuses_lengths_that_do_not_add_up, 0, COUNT(bad_apdus));
    tcase_add_loop_test(tc, encode_then_parse_keeps_every_length, 0, 4);
    tcase_add_test(tc, tlv_put_uses_the_shortest_length);
    tcase_add_test(tc, tlv_numbers_are_big_endian);
    tcase_add_test(tc, tlv_writer_that_is_full_says_so_at_the_end);
    tcase_add_loop_test(tc, tlv_take_knows_three_length_forms, 0, COUNT(same_values));
    tcase_add_test(tc, tlv_take_leaves_what_it_cannot_take);
    tcase_add_test(tc, tlv_take_refuses_every_truncation);
    tcase_add_test(tc, tlv_numbers_of_other_lengths_are_left);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return run_suite(apdu_suite());
}
