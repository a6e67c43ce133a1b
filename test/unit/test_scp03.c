/* SPDX-License-Identifier: Apache-2.0 */
/* SCP03 arithmetic against published and recorded bytes, key files, and what a liar on the bus can send. */
#include "token_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "se05x/internal.h"
#include "scp03_sessions.h"

/* Reference exchange with a real SE050E under its published keys; continued by computation. */
static const char challenge[] = "a0a1a2a3a4a5a6a7";
static const char update[] = "90032019073824202502"
                             "0b0300"
                             "4ecd906d325d3d8a"
                             "f7be9f05eaa0a661";
static const char authenticate[] = "8482330010"
                                   "ad5e484a81d592d9"
                                   "253fd658601447e9";

static struct scp03 *scp;
static struct scp03_keys keys;

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t len = strlen(hex) / 2, i;

    for (i = 0; i < len; i++)
        ck_assert_int_eq(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
    return len;
}

static void ck_hex(struct hsm_buf got, const char *want, const char *what)
{
    uint8_t bytes[SE05X_APDU_MAX];
    size_t len = unhex(want, bytes);

    ck_assert_msg(got.len == len && memcmp(got.ptr, bytes, len) == 0, "%s differs from %s", what, want);
}

static void use_default(const char *part)
{
    const struct scp03_default *d = scp03_default_find(part);

    ck_assert_ptr_nonnull(d);
    memset(&keys, 0, sizeof(keys));
    memcpy(keys.enc, d->enc, 16);
    memcpy(keys.mac, d->mac, 16);
    memcpy(keys.dek, d->dek, 16);
    keys.len = 16;
}

static hsm_status begin(const char *host, const char *answer)
{
    uint8_t host_challenge[8], bytes[64];
    size_t len = unhex(answer, bytes);

    ck_assert_uint_eq(unhex(host, host_challenge), 8);
    return scp03_begin(scp, &keys, host_challenge, (struct hsm_bytes){ bytes, len });
}

static void ck_authenticate(const char *want)
{
    uint8_t bytes[64];
    struct hsm_buf apdu = { .ptr = bytes, .cap = sizeof(bytes) };

    ck_ok(scp03_authenticate(scp, 0x33, &apdu));
    ck_hex(apdu, want, "EXTERNAL AUTHENTICATE");
}

static void ck_wrap(const char *command, const char *want)
{
    uint8_t plain[SE05X_APDU_MAX], wrapped[SE05X_APDU_MAX];
    struct hsm_buf apdu = { .ptr = wrapped, .cap = sizeof(wrapped) };
    size_t len = unhex(command, plain);

    ck_ok(scp03_wrap(scp, (struct hsm_bytes){ plain, len }, &apdu));
    ck_hex(apdu, want, command);
}

static hsm_status unwrap(const uint8_t *answer, size_t len, struct hsm_buf *plain)
{
    static uint8_t bytes[SE05X_APDU_MAX];

    *plain = (struct hsm_buf){ .ptr = bytes, .cap = sizeof(bytes) };
    return scp03_unwrap(scp, (struct hsm_bytes){ answer, len }, plain);
}

static void ck_unwrap(const char *answer, const char *want)
{
    uint8_t bytes[SE05X_APDU_MAX];
    size_t len = unhex(answer, bytes);
    struct hsm_buf plain;

    ck_ok(unwrap(bytes, len, &plain));
    ck_hex(plain, want, answer);
}

static void setup(void)
{
    ck_ok(scp03_new(NULL, SCP03_EVERY_COMMAND, &scp));
    use_default("SE050E");
}

static void open_reference(void)
{
    setup();
    ck_ok(begin(challenge, update));
    ck_authenticate(authenticate);
}

static void teardown(void)
{
    scp03_free(scp);
    scp = NULL;
}

START_TEST(reference_session_matches_every_byte)
{
    ck_wrap("80040020", "8404002008844ee0bb94921979");
    ck_unwrap("d7d063b6a5d9c0db48add46d05387ac67e62fd1023ca29579000", "41070702003f9fffff9000");
    ck_wrap("80040049000004410200100000", "840400490000"
                                          "18"
                                          "39d95ca109"
                                          "4d599d56e1b01e5dff2c1a"
                                          "df14db1c62cd6d9a"
                                          "0000");
    ck_unwrap("b461"
              "05b90750f29059c8399419bf5a6a29f37c70e4a35e434fc45594716b6d1d25e906a014e74ffe9000",
              "41820010"
              "000102030405060708090a0b0c0d0e0f"
              "9000");
    ck_wrap("8004002806410400001234", "840400281823c9ea410efcc7c8724ea66f4fe5853f9aa9d5092187aaf0");
    ck_unwrap("8187c238b03dc8fa9000", "9000");
}
END_TEST

START_TEST(recorded_session_is_reproduced)
{
    const struct recorded_session *s = &recorded_sessions[_i];
    const struct recorded_exchange *e;
    int i;

    ck_ok(scp03_new(NULL, s->rule, &scp));
    memset(&keys, 0, sizeof(keys));
    keys.len = 16;
    for (i = 0; i < 16; i++) {
        keys.enc[i] = (uint8_t)(0x40 + i);
        keys.mac[i] = (uint8_t)(0x50 + i);
    }
    ck_ok(begin(s->challenge, s->update));
    ck_authenticate(s->authenticate);
    for (e = s->exchanges; e->command != NULL; e++) {
        ck_wrap(e->command, e->wrapped);
        ck_unwrap(e->answer, e->plain);
    }
}
END_TEST

/* The other rule decrypts to noise behind the first command without data. */
START_TEST(wrong_counter_rule_is_noticed)
{
    const struct recorded_session *s = &recorded_sessions[RECORDED_SESSIONS - 3];
    uint8_t bytes[SE05X_APDU_MAX], out[SE05X_APDU_MAX];
    struct hsm_buf apdu = { .ptr = out, .cap = sizeof(out) }, plain;
    size_t len = unhex(s->exchanges[0].command, bytes);
    int i;

    for (i = 0; i < 16; i++) {
        keys.enc[i] = (uint8_t)(0x40 + i);
        keys.mac[i] = (uint8_t)(0x50 + i);
    }
    ck_assert_int_eq(s->rule, SCP03_WITH_DATA);
    ck_ok(begin(s->challenge, s->update));
    ck_authenticate(s->authenticate);
    ck_ok(scp03_wrap(scp, (struct hsm_bytes){ bytes, len }, &apdu));
    ck_hex(apdu, s->exchanges[0].wrapped, "a command without data");
    len = unhex(s->exchanges[0].answer, bytes);
    ck_status(unwrap(bytes, len, &plain), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "counter differs");
}
END_TEST

START_TEST(error_status_is_bare_and_the_chain_goes_on)
{
    ck_wrap("80040020", "8404002008844ee0bb94921979");
    ck_unwrap("6985", "6985");
    ck_wrap("80040049000004410200100000", "84040049000018"
                                          "39d95ca1094d599d56e1b01e5dff2c1a"
                                          "df14db1c62cd6d9a"
                                          "0000");
    ck_unwrap("6300", "6300");
    ck_wrap("8004002806410400001234", "840400281823c9ea410efcc7c8724ea66f4fe5853f9aa9d5092187aaf0");
    ck_unwrap("8187c238b03dc8fa9000", "9000");
}
END_TEST

/* Any single bit, anywhere but in an error status word. */
START_TEST(unwrap_rejects_every_flipped_bit)
{
    uint8_t answer[64];
    struct hsm_buf plain;
    size_t len = unhex("d7d063b6a5d9c0db48add46d05387ac67e62fd1023ca29579000", answer), bit;

    for (bit = 0; bit < (len - 2) * 8; bit++) {
        teardown();
        open_reference();
        ck_wrap("80040020", "8404002008844ee0bb94921979");
        answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_status(unwrap(answer, len, &plain), HSM_ERR_TOKEN_IO);
        answer[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_status(unwrap(answer, len, &plain), HSM_ERR_TOKEN_IO); /* dead, even for the right one */
    }
}
END_TEST

START_TEST(unwrap_rejects_every_truncation)
{
    uint8_t answer[64], cut[64];
    struct hsm_buf plain;
    size_t len = unhex("d7d063b6a5d9c0db48add46d05387ac67e62fd1023ca29579000", answer);

    ck_wrap("80040020", "8404002008844ee0bb94921979");
    memcpy(cut, answer, (size_t)_i); /* the status word stays at the end */
    memcpy(cut + _i, "\x90\0", 2);
    ck_status(unwrap(cut, (size_t)_i + 2, &plain), HSM_ERR_TOKEN_IO);
    ck_status(unwrap(answer, len, &plain), HSM_ERR_TOKEN_IO);
}
END_TEST

START_TEST(unwrap_rejects_less_than_a_status_word)
{
    struct hsm_buf plain;

    ck_wrap("80040020", "8404002008844ee0bb94921979");
    ck_status(unwrap((const uint8_t *)"\x90", (size_t)_i, &plain), HSM_ERR_TOKEN_IO);
}
END_TEST

START_TEST(begin_tells_foreign_keys)
{
    use_default("SE051C");
    ck_status(begin(challenge, update), HSM_ERR_DENIED);
}
END_TEST

START_TEST(begin_rejects_other_lengths)
{
    char text[2 * 40 + 1];

    if (_i == 29 || _i == 32)
        return;
    memset(text, '0', sizeof(text));
    text[2 * _i] = '\0';
    ck_status(begin(challenge, text), HSM_ERR_DATA);
}
END_TEST

START_TEST(begin_takes_a_sequence_counter)
{
    char text[80];

    (void)snprintf(text, sizeof(text), "%s000001", update);
    ck_ok(begin(challenge, text));
    ck_authenticate(authenticate);
}
END_TEST

START_TEST(begin_rejects_another_protocol)
{
    char text[80];

    (void)snprintf(text, sizeof(text), "%s", update);
    text[23] = '2';
    ck_status(begin(challenge, text), HSM_ERR_DATA);
}
END_TEST

START_TEST(wrap_before_authentication_fails)
{
    uint8_t bytes[64];
    struct hsm_buf apdu = { .ptr = bytes, .cap = sizeof(bytes) };

    ck_status(scp03_wrap(scp, (struct hsm_bytes){ (const uint8_t *)"\x80\x04\0\x20", 4 }, &apdu),
              HSM_ERR_TOKEN_IO);
    ck_status(scp03_authenticate(scp, 0x33, &apdu), HSM_ERR_INTERNAL);
}
END_TEST

START_TEST(wrap_needs_room_for_everything)
{
    uint8_t bytes[64];
    struct hsm_buf apdu = { .ptr = bytes, .cap = 30 };
    static const uint8_t command[] = { 0x80, 0x04, 0x00, 0x28, 0x06, 0x41, 0x04, 0, 0, 0x12, 0x34 };

    ck_status(scp03_wrap(scp, (struct hsm_bytes){ command, sizeof(command) }, &apdu), HSM_ERR_BUFFER);
}
END_TEST

/* Put into @p answer what a card with these keys would say; a second reading of the derivation. */
static void card_cryptogram(size_t key_len, uint8_t answer[29])
{
    uint8_t s_mac[32],
        head[16] = { [11] = 6, [13] = (uint8_t)(key_len * 8 >> 8), [14] = (uint8_t)(key_len * 8) };
    const char *cipher = key_len == 16 ? "AES-128-CBC" : key_len == 24 ? "AES-192-CBC" : "AES-256-CBC";
    uint8_t input[32], mac[16];
    size_t done, len;

    unhex(challenge, input + 16);
    memcpy(input + 24, answer + 13, 8);
    for (done = 0; done < key_len; done += 16) {
        head[15]++;
        memcpy(input, head, 16);
        ck_assert_ptr_nonnull(
            EVP_Q_mac(NULL, "CMAC", NULL, cipher, NULL, keys.mac, key_len, input, 32, mac, 16, &len));
        memcpy(s_mac + done, mac, key_len - done < 16 ? key_len - done : 16);
    }
    memset(input, 0, 16);
    input[14] = 0x40;
    input[15] = 1;
    ck_assert_ptr_nonnull(
        EVP_Q_mac(NULL, "CMAC", NULL, cipher, NULL, s_mac, key_len, input, 32, mac, 16, &len));
    memcpy(answer + 21, mac, 8);
}

START_TEST(long_keys_are_derived_in_two_blocks)
{
    uint8_t answer[29], host_challenge[8], bytes[64];
    struct hsm_buf apdu = { .ptr = bytes, .cap = sizeof(bytes) };

    unhex(challenge, host_challenge);
    unhex(update, answer);
    keys.len = (size_t)(16 + 8 * _i);
    memset(keys.enc, 0x11, sizeof(keys.enc));
    memset(keys.mac, 0x22, sizeof(keys.mac));
    card_cryptogram(keys.len, answer);
    ck_ok(scp03_begin(scp, &keys, host_challenge, (struct hsm_bytes){ answer, sizeof(answer) }));
    ck_ok(scp03_authenticate(scp, 0x33, &apdu));
    ck_ok(scp03_wrap(scp, (struct hsm_bytes){ (const uint8_t *)"\x80\x04\0\x20", 4 }, &apdu));
    ck_assert_uint_eq(apdu.len, 13);
}
END_TEST

static void aes_block(int direction, const uint8_t key[16], const uint8_t *iv, const uint8_t in[16],
                      uint8_t out[16])
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, iv == NULL ? "AES-128-ECB" : "AES-128-CBC", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;

    ck_assert_int_eq(EVP_CipherInit_ex2(ctx, cipher, key, iv, direction, NULL), 1);
    ck_assert_int_eq(EVP_CIPHER_CTX_set_padding(ctx, 0), 1);
    ck_assert_int_eq(EVP_CipherUpdate(ctx, out, &len, in, 16), 1);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
}

/* Key 00..0F, context 10..1F: the session keys show in what they encrypt and authenticate. */
START_TEST(derivation_matches_known_session_keys)
{
    static const uint8_t command[] = { 0x80, 0x04, 0x00, 0x28, 0x06, 0x41, 0x04, 0, 0, 0x12, 0x34 };
    static const uint8_t first[16] = { [15] = 1 };
    uint8_t s_enc[16], s_mac[16], answer[29] = { [11] = 3 }, host[8], bytes[64], iv[16], plain[16], mac[16];
    uint8_t input[16 + 13] = { 0 };
    struct hsm_buf apdu = { .ptr = bytes, .cap = sizeof(bytes) };
    size_t len;
    int i;

    unhex("769d7643ff743806cf840c19b0877cd8", s_enc);
    unhex("ef5625bf4f1f72d72b000646539a48b3", s_mac);
    for (i = 0; i < 16; i++) {
        keys.enc[i] = keys.mac[i] = (uint8_t)i;
        *(i < 8 ? &host[i] : &answer[5 + i]) = (uint8_t)(0x10 + i);
    }
    ck_status(scp03_begin(scp, &keys, host, (struct hsm_bytes){ answer, sizeof(answer) }), HSM_ERR_DENIED);
    ck_ok(scp03_authenticate(scp, 0x33, &apdu));
    memcpy(input + 16, bytes, 13);
    ck_assert_ptr_nonnull(
        EVP_Q_mac(NULL, "CMAC", NULL, "AES-128-CBC", NULL, s_mac, 16, input, sizeof(input), mac, 16, &len));
    ck_assert_mem_eq(bytes + 13, mac, 8);
    ck_ok(scp03_wrap(scp, (struct hsm_bytes){ command, sizeof(command) }, &apdu));
    aes_block(1, s_enc, NULL, first, iv);
    aes_block(0, s_enc, iv, bytes + 5, plain);
    ck_assert_mem_eq(plain, command + 5, 6);
    ck_assert_int_eq(plain[6], 0x80);
}
END_TEST

START_TEST(one_channel_can_be_begun_again)
{
    open_reference();
    ck_wrap("80040020", "8404002008844ee0bb94921979");
    ck_ok(begin(challenge, update));
    ck_authenticate(authenticate);
    ck_wrap("80040020", "8404002008844ee0bb94921979");
}
END_TEST

START_TEST(check_values_of_published_keys)
{
    static const struct {
        size_t at;
        const char *kcv;
    } rows[] = { { offsetof(struct scp03_keys, enc), "74fbdf" },
                 { offsetof(struct scp03_keys, mac), "8b5e16" },
                 { offsetof(struct scp03_keys, dek), "b584f5" } };
    uint8_t wrapped[32], kcv[3];
    size_t i;

    for (i = 0; i < COUNT(rows); i++) {
        const uint8_t *key = (const uint8_t *)&keys + rows[i].at;

        ck_ok(scp03_wrap_key(NULL, (struct hsm_bytes){ keys.dek, 16 }, (struct hsm_bytes){ key, 16 }, wrapped,
                             kcv));
        ck_hex((struct hsm_buf){ .ptr = kcv, .len = 3 }, rows[i].kcv, "KCV");
    }
    ck_status(scp03_wrap_key(NULL, (struct hsm_bytes){ keys.dek, 16 }, (struct hsm_bytes){ keys.enc, 24 },
                             wrapped, kcv),
              HSM_ERR_DATA_LEN);
}
END_TEST

START_TEST(published_keys_are_found_by_name_and_number)
{
    ck_assert_ptr_eq(scp03_default_by_oef(0xa921), scp03_default_find("se050e"));
    ck_assert_ptr_nonnull(scp03_default_by_oef(0xa200));
    ck_assert_ptr_null(scp03_default_find("SE050D"));
    ck_assert_ptr_null(scp03_default_by_oef(0xa739));
}
END_TEST

/* ---- key files ----------------------------------------------------------------------------------------- */

#define K16 "000102030405060708090A0B0C0D0E0F"
#define K24 K16 "1011121314151617"
#define K32 K16 "101112131415161718191a1b1c1d1e1f"

static char key_path[128];

static void write_keys(const char *content, mode_t mode)
{
    int fd = open(key_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void file_setup(void)
{
    make_temp_dir();
    (void)snprintf(key_path, sizeof(key_path), "%s/scp03.keys", temp_dir);
}

START_TEST(key_text_is_taken_in_all_lengths_and_layouts)
{
    static const struct {
        const char *text;
        size_t len;
        uint8_t version;
    } rows[] = {
        { "ENC " K16 "\nMAC " K16 "\nDEK " K16 "\n", 16, 0x0b },
        { "# mine\n\n dek\t" K16 " # last first\r\nMAC " K16 "\r\nENC " K16, 16, 0x0b },
        { "ENC " K24 "\nMAC " K24 "\nDEK " K24 "\nVERSION 0c\n", 24, 0x0c },
        { "ENC " K32 "\nMAC " K32 "\nDEK " K32 "\nVERSION 0B", 32, 0x0b },
    };
    size_t i;

    for (i = 0; i < COUNT(rows); i++) {
        ck_ok(scp03_keys_parse(text(rows[i].text), "x", &keys));
        ck_assert_uint_eq(keys.len, rows[i].len);
        ck_assert_uint_eq(keys.version, rows[i].version);
        ck_assert_uint_eq(keys.enc[15], 0x0f);
        ck_assert_uint_eq(keys.dek[rows[i].len - 1], rows[i].len - 1);
    }
}
END_TEST

START_TEST(key_text_with_faults_is_refused_without_showing_it)
{
    static const char *const rows[] = {
        "",
        "ENC " K16 "\nMAC " K16 "\n",
        "ENC " K16 "\nMAC " K16 "\nDEK " K24 "\n",
        "ENC " K16 "\nMAC " K16 "\nDEK 00\n",
        "ENC " K16 "\nMAC " K16 "\nDEK " K16 "\nENC " K16 "\n",
        "ENC " K16 "\nMAC " K16 "\nDEK " K32 "00\n",
        "ENC " K16 "\nMAC " K16 "\nDEK 0G" K16 "\n",
        "ENC " K16 " " K16 "\nMAC " K16 "\nDEK " K16 "\n",
        "KEY " K16 "\n",
        "ENC\n",
        "ENC 0\n",
        "VERSION 0b0c\n",
        "<html>\n",
    };
    size_t i;

    for (i = 0; i < COUNT(rows); i++) {
        ck_status(scp03_keys_parse(text(rows[i]), "/some/file", &keys), HSM_ERR_CONFIG);
        ck_line_has(HSM_ERR_CONFIG, "/some/file");
        ck_assert_ptr_null(strstr(hsm_error_text(HSM_ERR_CONFIG), "0001"));
        ck_assert_uint_eq(keys.enc[1], 0);
    }
}
END_TEST

START_TEST(key_file_of_ones_own_is_read)
{
    write_keys("ENC " K16 "\nMAC " K16 "\nDEK " K16 "\n", 0600);
    ck_ok(scp03_keys_read(key_path, &keys));
    ck_assert_uint_eq(keys.len, 16);
    ck_assert_int_eq(chmod(key_path, 0400), 0);
    ck_ok(scp03_keys_read(key_path, &keys));
}
END_TEST

START_TEST(key_file_that_others_can_touch_is_refused)
{
    static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0644, 0660 };

    write_keys("ENC " K16 "\nMAC " K16 "\nDEK " K16 "\n", modes[_i]);
    ck_status(scp03_keys_read(key_path, &keys), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "chmod 600");
    ck_assert_uint_eq(keys.enc[1], 0);
}
END_TEST

START_TEST(key_file_of_another_user_is_refused)
{
    if (geteuid() != 0)
        return;
    write_keys("ENC " K16 "\nMAC " K16 "\nDEK " K16 "\n", 0600);
    ck_assert_int_eq(chown(key_path, 65534, 65534), 0);
    ck_status(scp03_keys_read(key_path, &keys), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "65534");
}
END_TEST

START_TEST(key_file_must_be_a_plain_file)
{
    char path[160];

    write_keys("ENC " K16 "\nMAC " K16 "\nDEK " K16 "\n", 0600);
    (void)snprintf(path, sizeof(path), "%s/link", temp_dir);
    ck_assert_int_eq(symlink(key_path, path), 0);
    ck_status(scp03_keys_read(path, &keys), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "symbolic link");
    (void)snprintf(path, sizeof(path), "%s/fifo", temp_dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_status(scp03_keys_read(path, &keys), HSM_ERR_DENIED);
    ck_status(scp03_keys_read(temp_dir, &keys), HSM_ERR_DENIED);
    (void)snprintf(path, sizeof(path), "%s/none", temp_dir);
    ck_status(scp03_keys_read(path, &keys), HSM_ERR_CONFIG);
    ck_line_has(HSM_ERR_CONFIG, path);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("scp03");
    TCase *closed = tcase_create("closed"), *open = tcase_create("open"),
          *recorded = tcase_create("recorded");
    TCase *file = tcase_create("file");

    tcase_add_checked_fixture(closed, setup, teardown);
    tcase_add_test(closed, wrong_counter_rule_is_noticed);
    tcase_add_test(closed, begin_tells_foreign_keys);
    tcase_add_loop_test(closed, begin_rejects_other_lengths, 0, 40);
    tcase_add_test(closed, begin_takes_a_sequence_counter);
    tcase_add_test(closed, begin_rejects_another_protocol);
    tcase_add_test(closed, wrap_before_authentication_fails);
    tcase_add_loop_test(closed, long_keys_are_derived_in_two_blocks, 0, 3);
    tcase_add_test(closed, derivation_matches_known_session_keys);
    tcase_add_test(closed, check_values_of_published_keys);
    tcase_add_test(closed, published_keys_are_found_by_name_and_number);
    suite_add_tcase(s, closed);
    tcase_add_checked_fixture(open, open_reference, teardown);
    tcase_add_test(open, reference_session_matches_every_byte);
    tcase_add_test(open, error_status_is_bare_and_the_chain_goes_on);
    tcase_add_test(open, unwrap_rejects_every_flipped_bit);
    tcase_add_loop_test(open, unwrap_rejects_every_truncation, 0, 24);
    tcase_add_loop_test(open, unwrap_rejects_less_than_a_status_word, 0, 2);
    tcase_add_test(open, wrap_needs_room_for_everything);
    suite_add_tcase(s, open);
    tcase_add_checked_fixture(recorded, NULL, teardown);
    tcase_add_loop_test(recorded, recorded_session_is_reproduced, 0, RECORDED_SESSIONS);
    tcase_add_test(recorded, one_channel_can_be_begun_again);
    suite_add_tcase(s, recorded);
    tcase_add_checked_fixture(file, file_setup, remove_temp_dir);
    tcase_add_test(file, key_text_is_taken_in_all_lengths_and_layouts);
    tcase_add_test(file, key_text_with_faults_is_refused_without_showing_it);
    tcase_add_test(file, key_file_of_ones_own_is_read);
    tcase_add_loop_test(file, key_file_that_others_can_touch_is_refused, 0, 6);
    tcase_add_test(file, key_file_of_another_user_is_refused);
    tcase_add_test(file, key_file_must_be_a_plain_file);
    suite_add_tcase(s, file);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
