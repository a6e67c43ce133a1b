/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NXP's middleware sent, sent again to the simulator: every block of test/vectors/se05x, and every
 * answer compared with the recorded one: byte for byte where nothing random is in it, else by tags, lengths
 * and status word. The wrapped traces are replayed in their own session: the card challenge of each trace is
 * given to the simulator.
 */
#include "client.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

enum { GENERATED_MAX = 32, TRACE_LINES_MAX = 400 };

static const struct variant {
    const char *file, *applet;
    bool secure, counts; /* PlatformSCP03; every command counts */
    unsigned traces;
} variants[] = {
    { "plain-0702", "7.2.0", false, true, 30 },
    { "plain-0301", "3.1.1", false, false, 27 },
    { "scp03-0702", "7.2.0", true, true, 27 },
    { "scp03-0301", "3.1.1", true, false, 27 },
};

struct replay {
    const struct variant *variant;
    char trace[64];
    struct line sim, recorded; /* the latter only for its channel */
    uint32_t generated[GENERATED_MAX];
    size_t generated_count;
    unsigned exact, by_form; /* answers compared in the one way and the other */
};

struct frame {
    char kind; /* '>', '<', or '2': written, and read back by one long read */
    size_t len;
    uint8_t bytes[259];
};

struct trace {
    struct frame frames[TRACE_LINES_MAX];
    size_t count;
};

/* ---- comparing -------------------------------------------------------------------------------------- */

struct tlv {
    uint8_t tag;
    size_t len;
    const uint8_t *value;
};

static bool take_tlv(const uint8_t **p, const uint8_t *end, struct tlv *t)
{
    const uint8_t *q = *p;
    size_t extra;

    if (end - q < 2)
        return false;
    t->tag = *q++;
    t->len = *q++;
    extra = t->len == 0x81 ? 1 : t->len == 0x82 ? 2 : 0;
    if ((extra == 0 && t->len > 0x7F) || (size_t)(end - q) < extra)
        return false;
    if (extra != 0)
        t->len = extra == 1 ? q[0] : (size_t)(q[0] << 8 | q[1]);
    t->value = q + extra;
    *p = t->value + t->len;
    return t->len <= (size_t)(end - t->value);
}

/** How far an answer is determined. */
enum match { EXACT, LENGTH, TAGS, ANY };

static uint32_t object_of(const uint8_t *cmd, size_t len)
{
    size_t head = len > 7 && cmd[4] == 0 ? 7 : 5;
    const uint8_t *p = cmd + head, *end = cmd + len;
    struct tlv t;

    while (len > head && take_tlv(&p, end, &t)) {
        if (t.tag == 0x41 && t.len == 4)
            return (uint32_t)t.value[0] << 24 | (uint32_t)t.value[1] << 16 | (uint32_t)t.value[2] << 8 |
                   t.value[3];
    }
    return 0;
}

static bool has_tag(const uint8_t *cmd, size_t len, uint8_t first, uint8_t last)
{
    size_t head = len > 7 && cmd[4] == 0 ? 7 : 5;
    const uint8_t *p = cmd + head, *end = cmd + len;
    struct tlv t;

    while (len > head && take_tlv(&p, end, &t)) {
        if (t.tag >= first && t.tag <= last)
            return true;
    }
    return false;
}

static bool is_generated(const struct replay *r, uint32_t id)
{
    for (size_t i = 0; i < r->generated_count; i++) {
        if (r->generated[i] == id)
            return true;
    }
    return false;
}

/* Keys the chip makes differ from the recorded ones, and so does all that comes from them. */
static void note_generation(struct replay *r, const uint8_t *cmd, size_t len)
{
    bool made = (cmd[1] & 0x1F) == 1 && ((cmd[2] == 0x61 && !has_tag(cmd, len, 0x43, 0x44)) ||
                                         (cmd[2] == 0x62 && !has_tag(cmd, len, 0x43, 0x4A)));

    if (made && r->generated_count < GENERATED_MAX)
        r->generated[r->generated_count++] = object_of(cmd, len);
}

static enum match how_determined(const struct replay *r, const uint8_t *cmd, size_t len)
{
    unsigned ins = cmd[1] & 0x1F, p1 = cmd[2] & 0x1F, p2 = cmd[3];
    bool generated = is_generated(r, object_of(cmd, len));

    if (ins == 4 && p2 == 0x20 && r->variant->counts)
        return LENGTH; /* the recorded model's AppletConfig says FIPS mode, in which it would have to refuse
                          ECDH */
    if (ins == 2 && p2 == 0x26 && generated)
        return TAGS; /* it calls an RSA key with CRT parts a plain one */

    if (ins == 4 && p2 == 0x49)
        return LENGTH;
    if (ins == 4 && p2 == 0x22)
        return LENGTH;
    if (ins == 2 && p2 == 0x25 && p1 == 0)
        return TAGS; /* pre-provisioned objects differ */
    if (ins == 3 && p1 == 0x0C && p2 == 9)
        return TAGS; /* ECDSA: even the length is random */
    if (ins == 3 && p1 == 2 && generated)
        return ANY; /* recorded ciphertexts mean nothing to another key */
    if (generated && (ins == 3 || (ins == 2 && p2 == 0)))
        return LENGTH;
    return EXACT;
}

static void compare_values(struct replay *r, const uint8_t *cmd, enum match how, const struct tlv *want,
                           const struct tlv *got)
{
    ck_assert_msg(want->tag == got->tag, "%s: tag %02X instead of %02X", r->trace, got->tag, want->tag);
    if (how == TAGS)
        return;
    ck_assert_msg(want->len == got->len, "%s: %zu bytes instead of %zu in %02X", r->trace, got->len,
                  want->len, want->tag);
    if (how == EXACT)
        ck_assert_msg(memcmp(want->value, got->value, want->len) == 0,
                      "%s: value of %02X in answer to %02X%02X%02X differs", r->trace, want->tag, cmd[1],
                      cmd[2], cmd[3]);
}

static void compare(struct replay *r, const uint8_t *cmd, size_t cmd_len, const uint8_t *want,
                    size_t want_len, const uint8_t *got, size_t got_len)
{
    const uint8_t *p = want, *q = got;
    struct tlv a, b;
    enum match how = how_determined(r, cmd, cmd_len);

    if (how == EXACT)
        r->exact++;
    else
        r->by_form++;
    if (cmd[0] == 0x00) { /* SELECT answers without tags: version, and what GetVersion answers */
        ck_assert_uint_eq(want_len, got_len);
        ck_assert_mem_eq(want, got, r->variant->counts ? 3 : want_len);
        return;
    }
    if (how == ANY || (want_len == got_len && memcmp(want, got, want_len) == 0))
        return;
    while (take_tlv(&p, want + want_len, &a)) {
        ck_assert_msg(take_tlv(&q, got + got_len, &b), "%s: answer to %02X%02X%02X ends early", r->trace,
                      cmd[1], cmd[2], cmd[3]);
        compare_values(r, cmd, how, &a, &b);
    }
    ck_assert_msg(p == want + want_len && q == got + got_len, "%s: answer to %02X%02X%02X is longer",
                  r->trace, cmd[1], cmd[2], cmd[3]);
}

static void compare_status(struct replay *r, const uint8_t *cmd, size_t cmd_len, unsigned want, unsigned got)
{
    bool other_key = how_determined(r, cmd, cmd_len) == ANY;

    ck_assert_msg(want == got || (other_key && (got == 0x6985 || got == 0x6A80)),
                  "%s: %02X%02X%02X%02X answered %04X instead of %04X", r->trace, cmd[0], cmd[1], cmd[2],
                  cmd[3], got, want);
}

/* ---- one exchange ----------------------------------------------------------------------------------- */

/* INITIALIZE UPDATE: all but diversification data and the i parameter (the recorded model said 60, chips 00);
 * then both sides have the same session keys. */
static void compare_update(struct replay *r, const uint8_t *cmd, const uint8_t *want, const uint8_t *got)
{
    static const uint8_t enc[16] = { 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47,
                                     0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F };
    static const uint8_t mac[16] = { 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57,
                                     0x58, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x5E, 0x5F };
    uint8_t challenges[16], card[8], host[8];

    ck_assert_msg(memcmp(want + 10, got + 10, 2) == 0 && memcmp(want + 13, got + 13, 16) == 0,
                  "%s: INITIALIZE UPDATE", r->trace);
    memcpy(challenges, cmd + 5, 8);
    memcpy(challenges + 8, want + 13, 8);
    scp_host_keys(&r->recorded, enc, mac, challenges, card, host);
    scp_host_keys(&r->sim, enc, mac, challenges, card, host);
    ck_assert_mem_eq(card, want + 21, 8);
}

static void compare_exchange(struct replay *r, const uint8_t *cmd, size_t cmd_len, uint8_t *want,
                             size_t want_len, uint8_t *got, size_t got_len)
{
    uint8_t plain[RSP_MAX];
    int want_plain = (int)want_len - 2, got_plain = (int)got_len - 2;
    unsigned want_sw = (unsigned)(want[want_len - 2] << 8 | want[want_len - 1]);
    unsigned got_sw = (unsigned)(got[got_len - 2] << 8 | got[got_len - 1]);

    if (cmd[1] == 0x50) {
        ck_assert_uint_eq(got_len, want_len);
        compare_update(r, cmd, want, got);
        return;
    }
    if (cmd[0] == 0x84 && cmd[1] == 0x82) { /* the C-MAC becomes the chaining value */
        uint8_t in[16 + 13] = { 0 };

        memcpy(in + 16, cmd, 13);
        host_cmac(r->recorded.mac, in, sizeof(in), r->recorded.mcv);
        memcpy(r->sim.mcv, r->recorded.mcv, 16);
    } else if (cmd[0] == 0x84) {
        bool had_data;

        cmd_len = scp_host_read(&r->recorded, cmd, cmd_len, plain);
        cmd = plain;
        had_data = cmd_len > 5;
        memcpy(r->sim.mcv, r->recorded.mcv, 16);
        want_plain = scp_host_unwrap(&r->recorded, had_data, want, want_len);
        got_plain = scp_host_unwrap(&r->sim, had_data, got, got_len);
        ck_assert_int_ge(want_plain, 0);
        ck_assert_msg(got_plain >= 0, "%s: R-MAC or padding of the answer to %02X%02X%02X", r->trace, cmd[1],
                      cmd[2], cmd[3]);
    }
    note_generation(r, cmd, cmd_len);
    compare_status(r, cmd, cmd_len, want_sw, got_sw);
    compare(r, cmd, cmd_len, want, (size_t)want_plain, got, (size_t)got_plain);
}

/* ---- one trace -------------------------------------------------------------------------------------- */

static bool is_i(const struct frame *f)
{
    return f->bytes[1] < 0x80;
}

static void replay_s(struct replay *r, const struct frame *sent, const struct frame *want)
{
    uint8_t got[260];

    ck_assert_int_eq(line_write(&r->sim, sent->bytes, sent->len), 0);
    if (sent->kind == '2') {
        ck_assert_int_eq(line_read(&r->sim, got, sizeof(got)), 0);
        ck_assert_uint_eq(got[want->len], 0xFF);
    } else {
        ck_assert_uint_eq(block_read(&r->sim, got), want->len);
    }
    ck_assert_msg(memcmp(got, want->bytes, want->len) == 0, "%s: answer to S-block %02X", r->trace,
                  sent->bytes[1]);
    if (sent->bytes[1] == 0xC0 || sent->bytes[1] == 0xCF)
        r->sim.next_in = false;
}

/* The recorded answer: the I-blocks from @p i on, with the acknowledgements between them. */
static size_t recorded_answer(const struct trace *t, size_t *i, uint8_t *out)
{
    size_t len = 0;
    const struct frame *f;

    for (;;) {
        f = &t->frames[*i];
        memcpy(out + len, f->bytes + 3, f->bytes[2]);
        len += f->bytes[2];
        (*i)++;
        if (!(f->bytes[1] & 0x20))
            return len;
        (*i)++; /* the host's R-block; the simulator may cut elsewhere, so ours are made for its own blocks */
    }
}

static size_t collect(struct replay *r, uint8_t *out)
{
    uint8_t block[259], ack[259];
    size_t len = block_read(&r->sim, block), total = 0;

    for (;;) {
        ck_assert_msg(len >= 5 && block[1] < 0x80, "%s: no I-block", r->trace);
        ck_assert_int_eq((block[1] & 0x40) != 0, r->sim.next_in);
        r->sim.next_in = !r->sim.next_in;
        memcpy(out + total, block + 3, block[2]);
        total += block[2];
        if (!(block[1] & 0x20))
            return total;
        len = block_exchange(&r->sim, ack, block_build(r->sim.next_in ? 0x90 : 0x80, NULL, 0, ack), block);
    }
}

static size_t replay_i(struct replay *r, const struct trace *t, size_t i)
{
    uint8_t cmd[RSP_MAX], want[RSP_MAX], got[RSP_MAX], ack[259];
    size_t cmd_len = 0, want_len;

    for (;;) {
        const struct frame *f = &t->frames[i++];

        memcpy(cmd + cmd_len, f->bytes + 3, f->bytes[2]);
        cmd_len += f->bytes[2];
        ck_assert_int_eq(line_write(&r->sim, f->bytes, f->len), 0);
        if (!(f->bytes[1] & 0x20))
            break;
        ck_assert_uint_eq(block_read(&r->sim, ack), t->frames[i].len);
        ck_assert_mem_eq(ack, t->frames[i].bytes, t->frames[i].len);
        i++;
    }
    want_len = recorded_answer(t, &i, want);
    compare_exchange(r, cmd, cmd_len, want, want_len, got, collect(r, got));
    return i;
}

static void give_challenge(struct replay *r, const struct trace *t)
{
    char command[64] = "challenge ";

    for (size_t i = 0; i + 1 < t->count; i++) {
        const uint8_t *answer = t->frames[i + 1].bytes + 3 + 13;

        if (t->frames[i].kind == '<' || !is_i(&t->frames[i]) || t->frames[i].bytes[4] != 0x50)
            continue;
        for (int k = 0; k < 8; k++)
            snprintf(command + 10 + 2 * k, 3, "%02X", answer[k]);
    }
    ck_assert_int_eq(line_control(&r->sim, command, NULL, 0), 0);
}

static void replay_trace(struct replay *r, const struct trace *t)
{
    ck_assert_int_eq(line_control(&r->sim, "reset", NULL, 0), 0);
    r->sim.next_in = r->sim.next_out = false;
    r->sim.every_command_counts = r->recorded.every_command_counts = r->variant->counts;
    give_challenge(r, t);
    for (size_t i = 0; i < t->count;) {
        ck_assert_int_ne(t->frames[i].kind, '<');
        if (is_i(&t->frames[i])) {
            i = replay_i(r, t, i);
        } else {
            replay_s(r, &t->frames[i], &t->frames[i + 1]);
            i += 2;
        }
    }
}

/* ---- the state the recording started from ----------------------------------------------------------- */

static void set_curve_param(struct line *l, unsigned id, const uint8_t *value, size_t len)
{
    char hex[256];
    int n = snprintf(hex, sizeof(hex), "80010B40%02X4101044201%02X43%02X", (unsigned)(8 + len), id,
                     (unsigned)len);

    for (size_t i = 0; i < len; i++)
        n += snprintf(hex + n, sizeof(hex) - (size_t)n, "%02X", value[i]);
    apdu_expect(l, hex, 0x9000);
}

static void create_p384(struct line *l)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_secp384r1);
    BIGNUM *p = BN_new(), *a = BN_new(), *b = BN_new();
    uint8_t value[97];
    size_t len;

    ck_assert_int_eq(EC_GROUP_get_curve(group, p, a, b, NULL), 1);
    apdu_expect(l, "80010B0403410104", 0x9000);
    BN_bn2binpad(a, value, 48);
    set_curve_param(l, 1, value, 48);
    BN_bn2binpad(b, value, 48);
    set_curve_param(l, 2, value, 48);
    len = EC_POINT_point2oct(group, EC_GROUP_get0_generator(group), POINT_CONVERSION_UNCOMPRESSED, value,
                             sizeof(value), NULL);
    set_curve_param(l, 4, value, len);
    BN_bn2binpad(EC_GROUP_get0_order(group), value, 48);
    set_curve_param(l, 8, value, 48);
    BN_bn2binpad(p, value, 48);
    set_curve_param(l, 16, value, 48);
    BN_free(p);
    BN_free(a);
    BN_free(b);
    EC_GROUP_free(group);
}

/* Some object 20000009; for the wrapped traces, which were recorded after the plain ones, the curve those had
 * made. */
static void prepare(struct replay *r)
{
    line_resynch(&r->sim);
    line_select(&r->sim);
    apdu_expect(&r->sim, "80010600 0A 410420000009 43020004", 0x9000);
    if (r->variant->secure)
        create_p384(&r->sim);
}

static void without_20000009(struct replay *r)
{
    line_resynch(&r->sim);
    line_select(&r->sim);
    apdu_expect(&r->sim, "80040028 06 410420000009", 0x9000);
}

/* ---- the files -------------------------------------------------------------------------------------- */

static void run_trace(struct replay *r, const struct trace *t)
{
    if (strncmp(r->trace, "25-", 3) == 0 || strncmp(r->trace, "26-", 3) == 0)
        without_20000009(
            r); /* these write a file where trace 11 left a public key: the recorded model overwrote it */
    replay_trace(r, t);
}

static void add_frame(struct trace *t, const char *line)
{
    struct frame *f = &t->frames[t->count++];
    bool twice = line[0] == '>' && line[1] == '>';

    ck_assert_uint_le(t->count, TRACE_LINES_MAX);
    f->kind = twice ? '2' : line[0];
    f->len = unhex(line + 1 + twice, f->bytes, sizeof(f->bytes));
}

static unsigned run_file(struct replay *r)
{
    char path[512], line[600];
    const char *root = getenv("HSM_SOURCE_DIR");
    struct trace *t = calloc(1, sizeof(*t));
    unsigned done = 0;
    FILE *f;

    snprintf(path, sizeof(path), "%s/test/vectors/se05x/%s.txt", root == NULL ? "." : root, r->variant->file);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    while (fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '=') {
            if (t->count != 0)
                run_trace(r, t);
            t->count = 0;
            snprintf(r->trace, sizeof(r->trace), "%.60s", line + 2);
            done++;
        } else if (line[0] == '>' || line[0] == '<') {
            add_frame(t, line);
        }
    }
    run_trace(r, t);
    fclose(f);
    free(t);
    return done;
}

START_TEST(replay_answers_as_recorded)
{
    struct replay r = { .variant = &variants[_i] };
    char keys[96];
    const char *args[] = { "--applet", r.variant->applet, "--historical", "JCOP4 ATPO", "--scp-keys", keys,
                           NULL };
    struct sim s;
    FILE *f;

    sim_make_dir(&s);
    snprintf(keys, sizeof(keys), "%s/keys", s.dir);
    f = fopen(keys, "w");
    ck_assert_ptr_nonnull(f);
    fputs("ENC 404142434445464748494A4B4C4D4E4F\nMAC 505152535455565758595A5B5C5D5E5F\n"
          "DEK 606162636465666768696A6B6C6D6E6F\n",
          f);
    fclose(f);
    sim_restart(&s, args);
    r.sim = line_open(&s);
    prepare(&r);
    ck_assert_uint_eq(run_file(&r), r.variant->traces);
    ck_assert_uint_gt(r.exact, 60);
    if (getenv("HSM_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s: %u traces, %u answers equal, %u alike in form\n", r.variant->file,
                r.variant->traces, r.exact, r.by_form);
    line_close(&r.sim);
    sim_remove(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim_replay");
    TCase *tc = tcase_create("traces");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, replay_answers_as_recorded, 0, sizeof(variants) / sizeof(variants[0]));
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
