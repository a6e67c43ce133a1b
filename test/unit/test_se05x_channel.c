/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel layer over a link that this file plays: one letter per command in the log, faults on demand.
 * S select applet, M card manager, D security domain, U/A INITIALIZE UPDATE and EXTERNAL AUTHENTICATE, N
 * identify, P put key, G version, R random, O object exists, C create session, V verify UserID, u/a SCP03 in
 * a session, X close session, E any command, e the same in a session, L recover, H recover hard
 */
#include "token_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <openssl/rand.h>

#include "se05x/link.h"

enum { USER_OBJECT = 0x7da00001, AES_OBJECT = 0x7da00002, NO_SUCH_OBJECT = 0x7da00003, SESSIONS = 2 };

/* ---- the card's side of SCP03, a second reading -------------------------------------------------------- */

struct card_channel {
    bool begun, open, every;
    uint8_t host[8], card[8], enc[16], mac[16], rmac[16], chain[16];
    uint8_t block[16]; /* counter */
    uint64_t counter;
};

static void aes(const char *mode, int enc, const uint8_t key[16], const uint8_t *iv, const uint8_t *in,
                size_t len, uint8_t *out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, mode, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;

    ck_assert_int_eq(EVP_CipherInit_ex2(ctx, cipher, key, iv, enc, NULL), 1);
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    ck_assert_int_eq(EVP_CipherUpdate(ctx, out, &n, in, (int)len), 1);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
}

static void card_mac(const uint8_t key[16], const uint8_t *chain, const uint8_t *in, size_t len,
                     uint8_t mac[16])
{
    uint8_t all[2048];
    size_t n;

    memcpy(all, chain, 16);
    memcpy(all + 16, in, len);
    ck_assert_ptr_nonnull(
        EVP_Q_mac(NULL, "CMAC", NULL, "AES-128-CBC", NULL, key, 16, all, len + 16, mac, 16, &n));
}

static void card_derive(const struct card_channel *c, const uint8_t key[16], uint8_t constant, uint8_t bits,
                        uint8_t out[16])
{
    uint8_t head[16] = { [11] = constant, [14] = bits, [15] = 1 }, context[16];

    memcpy(context, c->host, 8);
    memcpy(context + 8, c->card, 8);
    card_mac(key, head, context, 16, out);
}

static size_t card_begin(struct card_channel *c, const uint8_t *enc, const uint8_t *mac,
                         const uint8_t host[8], uint8_t version, uint8_t out[29])
{
    uint8_t cryptogram[16];

    memset(c, 0, sizeof(*c));
    c->begun = c->every = true;
    memcpy(c->host, host, 8);
    ck_assert_int_eq(RAND_bytes(c->card, 8), 1);
    card_derive(c, enc, 4, 0x80, c->enc);
    card_derive(c, mac, 6, 0x80, c->mac);
    card_derive(c, mac, 7, 0x80, c->rmac);
    card_derive(c, c->mac, 0, 0x40, cryptogram);
    memset(out, 0, 10);
    memcpy(out + 10, (uint8_t[]){ version, 3, 0x60 }, 3);
    memcpy(out + 13, c->card, 8);
    memcpy(out + 21, cryptogram, 8);
    return 29;
}

static bool card_authenticate(struct card_channel *c, const uint8_t *apdu, size_t len)
{
    uint8_t mac[16], want[16];

    if (!c->begun || len != 21 || apdu[2] != 0x33)
        return false;
    card_derive(c, c->mac, 1, 0x40, want);
    card_mac(c->mac, c->chain, apdu, 13, mac);
    if (memcmp(want, apdu + 5, 8) != 0 || memcmp(mac, apdu + 13, 8) != 0)
        return false;
    memcpy(c->chain, mac, 16);
    c->counter = 1;
    return c->open = true;
}

static void card_iv(const struct card_channel *c, uint64_t counter, uint8_t first, uint8_t iv[16])
{
    uint8_t block[16] = { first };

    block[15] = (uint8_t)counter;
    block[14] = (uint8_t)(counter >> 8);
    aes("AES-128-ECB", 1, c->enc, NULL, block, 16, iv);
}

/* @return length of the plain APDU (no Le, Lc form kept), 0 if the MAC is wrong */
static size_t card_open(struct card_channel *c, const uint8_t *in, size_t len, uint8_t *out)
{
    bool extended = len > 7 && in[4] == 0;
    size_t head = extended ? 7 : 5, lc = extended ? (size_t)(in[5] << 8 | in[6]) : in[4], data;
    uint8_t mac[16], iv[16];

    if (!c->open || len < head + lc || lc < 8 || (in[0] & 4) == 0)
        return 0;
    card_mac(c->mac, c->chain, in, head + lc - 8, mac);
    if (memcmp(mac, in + head + lc - 8, 8) != 0)
        return 0;
    memcpy(c->chain, mac, 16);
    memcpy(out, in, 4);
    out[0] &= (uint8_t)~4;
    card_iv(c, lc > 8 || c->every ? c->counter : c->counter - 1, 0x80, c->block);
    if (lc == 8) {
        c->counter += c->every;
        return 4;
    }
    card_iv(c, c->counter++, 0, iv);
    aes("AES-128-CBC", 0, c->enc, iv, in + head, lc - 8, out + head);
    for (data = lc - 8; out[head + data - 1] == 0; data--)
        ;
    if (out[head + --data] != 0x80)
        return 0;
    out[4] = extended ? 0 : (uint8_t)data;
    if (extended) {
        out[5] = (uint8_t)(data >> 8);
        out[6] = (uint8_t)data;
    }
    return head + data;
}

static size_t card_close(struct card_channel *c, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t padded[1200] = { 0 }, mac[16];
    size_t data = len - 2, n = data == 0 ? 0 : (data / 16 + 1) * 16;

    if (in[len - 2] != 0x90) {
        memcpy(out, in + len - 2, 2);
        return 2;
    }
    memcpy(padded, in, data);
    padded[data] = 0x80;
    if (n > 0)
        aes("AES-128-CBC", 1, c->enc, c->block, padded, n, out);
    memcpy(out + n, in + data, 2);
    card_mac(c->rmac, c->chain, out, n + 2, mac);
    memcpy(out + n, mac, 8);
    memcpy(out + n + 8, in + data, 2);
    return n + 10;
}

/* ---- the chip ------------------------------------------------------------------------------------------ */

enum selected { NOTHING, MANAGER, DOMAIN, APPLET };

static struct {
    uint8_t version[3];
    uint16_t config, oef_id;
    uint8_t enc[16], mac[16], dek[16];
    bool scp_required, wrong_receipt, put_refused;
    enum selected selected;
    struct card_channel platform;
    struct session {
        bool used, proved;
        uint8_t id;
        uint32_t object;
        struct card_channel scp;
    } sessions[SESSIONS];
    uint8_t user_id[8], aes_key[16], next_id;
    unsigned tries_left;
    unsigned executed;    /* E and e */
    uint16_t refuse_with; /* the next `refusals` commands E or e get this status word */
    unsigned refusals;
} chip;

static char steps[256];

static void step(char c)
{
    size_t len = strlen(steps);

    ck_assert_uint_lt(len, sizeof(steps) - 1);
    steps[len] = c;
}

static void ck_steps(const char *want)
{
    ck_assert_str_eq(steps, want);
    memset(steps, 0, sizeof(steps));
}

static void chip_deselect(enum selected now)
{
    chip.selected = now;
    memset(&chip.platform, 0, sizeof(chip.platform));
    memset(chip.sessions, 0, sizeof(chip.sessions));
}

static size_t status(uint8_t *out, size_t data, uint16_t sw)
{
    out[data] = (uint8_t)(sw >> 8);
    out[data + 1] = (uint8_t)sw;
    return data + 2;
}

static size_t chip_select(const uint8_t *in, uint8_t *out)
{
    if (in[4] == 0) {
        step('M');
        chip_deselect(MANAGER);
        return status(out, 0, 0x9000);
    }
    step(in[4] == 11 ? 'D' : 'S');
    chip_deselect(in[4] == 11 ? DOMAIN : APPLET);
    if (in[4] == 11)
        return status(out, 0, 0x9000);
    memcpy(out, chip.version, 3);
    memcpy(out + 3, (uint8_t[]){ (uint8_t)(chip.config >> 8), (uint8_t)chip.config, 1, 0x0b }, 4);
    return status(out, 7, 0x9000);
}

static void decrypt_key(const uint8_t *in, uint8_t key[16], uint8_t *kcv, const uint8_t dek[16])
{
    uint8_t ones[16], check[16];

    memset(ones, 1, 16);
    ck_assert_int_eq(in[0], 0x88);
    ck_assert_int_eq(in[1], 17);
    ck_assert_int_eq(in[2], 16);
    ck_assert_int_eq(in[19], 3);
    aes("AES-128-ECB", 0, dek, NULL, in + 3, 16, key);
    aes("AES-128-ECB", 1, key, NULL, ones, 16, check);
    ck_assert_mem_eq(check, in + 20, 3);
    memcpy(kcv, check, 3);
}

static size_t chip_put_key(const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t dek[16];

    step('P');
    ck_assert_uint_eq(len, 5 + 70);
    ck_assert_mem_eq(in, "\x80\xd8\x0b\x81\x46\x0b", 6);
    if (chip.put_refused)
        return status(out, 0, 0x6a80);
    memcpy(dek, chip.dek, 16);
    out[0] = 0x0b;
    decrypt_key(in + 6, chip.enc, out + 1, dek);
    decrypt_key(in + 29, chip.mac, out + 4, dek);
    decrypt_key(in + 52, chip.dek, out + 7, dek);
    out[9] ^= chip.wrong_receipt;
    return status(out, 10, 0x9000);
}

static size_t chip_manager(const uint8_t *in, uint8_t *out)
{
    static const uint8_t head[] = { 0xfe, 0x11, 0xdf, 0x28, 0x0e, 0x01, 0x0c, 0, 1 };

    if (in[1] != 0xca)
        return status(out, 0, 0x6d00);
    step('N');
    memset(out, 0, 19);
    memcpy(out, head, sizeof(head));
    out[9] = (uint8_t)(chip.oef_id >> 8);
    out[10] = (uint8_t)chip.oef_id;
    return status(out, 19, 0x9000);
}

static uint32_t object_of(const uint8_t *tlv)
{
    return (uint32_t)tlv[2] << 24 | (uint32_t)tlv[3] << 16 | (uint32_t)tlv[4] << 8 | tlv[5];
}

static bool exists(uint32_t id)
{
    return id == USER_OBJECT || id == AES_OBJECT;
}

static size_t chip_create_session(const uint8_t *in, uint8_t *out)
{
    int i;

    step('C');
    if (!exists(object_of(in + 5)))
        return status(out, 0, 0x6985);
    if (chip.tries_left == 0)
        return status(out, 0, 0x6986);
    for (i = 0; i < SESSIONS && chip.sessions[i].used; i++)
        ;
    if (i == SESSIONS)
        return status(out, 0, 0x6985);
    chip.sessions[i] = (struct session){ .used = true, .id = ++chip.next_id, .object = object_of(in + 5) };
    memcpy(out, (uint8_t[]){ 0x41, 0x82, 0, 8, 0, 0, 0, 0, 0, 0, 0, chip.next_id }, 12);
    return status(out, 12, 0x9000);
}

static size_t any_command(const uint8_t *in, size_t len, bool in_session, uint8_t *out)
{
    step(in_session ? 'e' : 'E');
    if (chip.refusals > 0) {
        chip.refusals--;
        return status(out, 0, chip.refuse_with);
    }
    chip.executed++;
    if (in[1] == 0x02 && len > 5) { /* an echo */
        size_t head = in[4] == 0 ? 7 : 5, n = head == 7 ? (size_t)(in[5] << 8 | in[6]) : in[4];

        memcpy(out, in + head, n);
        return status(out, n, 0x9000);
    }
    return status(out, 0, 0x9000);
}

static size_t count_proof(struct session *s, bool right, uint8_t *out)
{
    s->proved = right;
    if (right) {
        chip.tries_left = 3;
        return status(out, 0, 0x9000);
    }
    if (chip.tries_left > 0)
        chip.tries_left--;
    return status(out, 0, chip.tries_left == 0 ? 0x6986 : 0x6982);
}

static size_t in_session(struct session *s, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t plain[1200], answer[1200];

    if (in[1] == 0x50) {
        step('u');
        return status(out, card_begin(&s->scp, chip.aes_key, chip.aes_key, in + 5, 0, out), 0x9000);
    }
    if (in[1] == 0x82) {
        step('a');
        return count_proof(s, card_authenticate(&s->scp, in, len), out);
    }
    if (in[1] == 0x04 && in[3] == 0x2c) {
        step('V');
        return count_proof(s, in[4] == 10 && memcmp(in + 7, chip.user_id, 8) == 0, out);
    }
    if (s->scp.open && (in[0] & 4) != 0) {
        if ((len = card_open(&s->scp, in, len, plain)) == 0)
            return status(out, 0, 0x6982);
        in = plain;
    }
    if (in[1] == 0x04 && in[3] == 0x1c) {
        step('X');
        s->used = false;
        len = status(answer, 0, 0x9000);
    } else if (!s->proved) {
        return status(out, 0, 0x6982);
    } else {
        len = any_command(in, len, true, answer);
    }
    if (in == plain)
        return card_close(&s->scp, answer, len, out);
    memcpy(out, answer, len);
    return len;
}

static size_t chip_process(const uint8_t *in, size_t len, uint8_t *out)
{
    const uint8_t *tlv = in + (in[4] == 0 ? 7 : 5), *inner = tlv + 10;
    size_t inner_len;
    int i;

    ck_assert_int_eq(tlv[0], 0x10);
    ck_assert_int_eq(inner[0], 0x41);
    inner_len = inner[1] < 0x80 ? inner[1] : inner[1] == 0x81 ? inner[2] : (size_t)(inner[2] << 8 | inner[3]);
    inner += inner[1] < 0x80 ? 2 : inner[1] == 0x81 ? 3 : 4;
    for (i = 0; i < SESSIONS; i++)
        if (chip.sessions[i].used && chip.sessions[i].id == tlv[9])
            return in_session(&chip.sessions[i], inner, inner_len, out);
    return status(out, 0, 0x6982);
}

static size_t chip_applet(const uint8_t *in, size_t len, uint8_t *out)
{
    if (in[1] == 0x05)
        return chip_process(in, len, out);
    if (in[1] != 0x04)
        return any_command(in, len, false, out);
    switch (in[3]) {
    case 0x1b:
        return chip_create_session(in, out);
    case 0x20:
        step('G');
        memcpy(out, "\x41\x07", 2);
        memcpy(out + 2, chip.version, 3);
        memcpy(out + 5, "\x3f\xff\xff\xff", 4);
        return status(out, 9, 0x9000);
    case 0x27:
        step('O');
        memcpy(out, (uint8_t[]){ 0x41, 1, exists(object_of(in + 5)) ? 1 : 2 }, 3);
        return status(out, 3, 0x9000);
    case 0x49:
        step('R');
        memcpy(out, "\x41\x01\x55", 3);
        return status(out, 3, 0x9000);
    default:
        return any_command(in, len, false, out);
    }
}

static size_t chip_plain(const uint8_t *in, size_t len, uint8_t *out)
{
    switch (chip.selected) {
    case MANAGER:
        return chip_manager(in, out);
    case DOMAIN:
        return chip.platform.open ? chip_put_key(in, len, out) : status(out, 0, 0x6985);
    case APPLET:
        if (chip.scp_required && !chip.platform.open)
            return status(out, 0, 0x6985);
        return chip_applet(in, len, out);
    default:
        return status(out, 0, 0x6d00);
    }
}

static size_t chip_apdu(const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t plain[1200], answer[1200];

    if (in[0] == 0x00)
        return chip_select(in, out);
    if (chip.selected >= DOMAIN && in[1] == 0x50) {
        step('U');
        if (in[2] != 0x0b)
            return status(out, 0, 0x6a88);
        len = card_begin(&chip.platform, chip.enc, chip.mac, in + 5, 0x0b, out);
        chip.platform.every = chip.version[0] >= 7;
        return status(out, len, 0x9000);
    }
    if (chip.selected >= DOMAIN && in[1] == 0x82 && !chip.platform.open) {
        step('A');
        return status(out, 0, card_authenticate(&chip.platform, in, len) ? 0x9000 : 0x6982);
    }
    if (!chip.platform.open)
        return chip_plain(in, len, out);
    if ((len = card_open(&chip.platform, in, len, plain)) == 0) {
        memset(&chip.platform, 0, sizeof(chip.platform));
        return status(out, 0, 0x6982);
    }
    return card_close(&chip.platform, answer, chip_plain(plain, len, answer), out);
}

/* ---- the link ------------------------------------------------------------------------------------------ */

static struct {
    unsigned depth;
    uint64_t epoch, last_epoch, owner;
    int fail_in; /* exchanges until one fails; 0: none */
    unsigned fail_count;
    enum se05x_delivery fail_how;
    int garble_in; /* exchanges until an answer has a wrong bit */
    bool recover_fails;
    size_t expect, answer_len;
} wire;

const char *const se05x_link_params[] = { NULL };

hsm_status se05x_link_open(const struct hsm_open_args *args, struct se05x_link **out)
{
    *out = NULL;
    return HSM_OK;
}

void se05x_link_close(struct se05x_link *link)
{
}

void se05x_link_abandon(struct se05x_link *link)
{
}

hsm_status se05x_link_lock(struct se05x_link *link)
{
    wire.depth++;
    return HSM_OK;
}

void se05x_link_unlock(struct se05x_link *link)
{
    ck_assert_uint_gt(wire.depth, 0);
    wire.depth--;
}

uint64_t se05x_link_epoch(struct se05x_link *link)
{
    ck_assert_uint_gt(wire.depth, 0);
    return wire.epoch;
}

void se05x_link_set_selected(struct se05x_link *link, bool selected)
{
    ck_assert_uint_gt(wire.depth, 0);
    wire.epoch = selected ? ++wire.last_epoch : 0;
    wire.owner = 0;
}

uint64_t se05x_link_channel_owner(struct se05x_link *link)
{
    ck_assert_uint_gt(wire.depth, 0);
    return wire.owner;
}

void se05x_link_set_channel_owner(struct se05x_link *link, uint64_t owner)
{
    wire.owner = owner;
}

hsm_status se05x_link_exchange(struct se05x_link *link, enum se05x_time time, struct hsm_bytes command,
                               size_t expect, struct hsm_buf *answer, enum se05x_delivery *delivery)
{
    bool fails = wire.fail_in > 0 && --wire.fail_in == 0;

    ck_assert_uint_gt(wire.depth, 0);
    ck_assert_uint_ge(answer->cap, SE05X_APDU_MAX);
    if (fails && wire.fail_count > 1) {
        wire.fail_count--;
        wire.fail_in = 1;
    }
    *delivery = SE05X_ANSWERED;
    if (!fails || wire.fail_how != SE05X_NOT_EXECUTED)
        answer->len = chip_apdu(command.ptr, command.len, answer->ptr);
    if (fails) {
        *delivery = wire.fail_how;
        return hsm_fail(HSM_ERR_TOKEN_IO, "bus: no answer");
    }
    if (wire.garble_in > 0 && --wire.garble_in == 0)
        answer->ptr[0] ^= 1;
    wire.expect = expect;
    wire.answer_len = answer->len;
    return HSM_OK;
}

hsm_status se05x_link_recover(struct se05x_link *link, bool hard)
{
    step(hard ? 'H' : 'L');
    if (wire.recover_fails)
        return hsm_fail(HSM_ERR_TOKEN_IO, "bus: dead");
    se05x_link_set_selected(link, false);
    chip_deselect(NOTHING);
    return HSM_OK;
}

void se05x_link_get_stats(const struct se05x_link *link, struct se05x_link_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
}

const char *se05x_link_name(const struct se05x_link *link)
{
    return "bus";
}

hsm_status se05x_link_atr(struct se05x_link *link, struct hsm_buf *atr)
{
    return HSM_ERR_UNSUPPORTED;
}

/* ---- the host ------------------------------------------------------------------------------------------ */

static struct se05x_token token, other;
static struct hsm_token_spec spec;

static hsm_status open_token(struct se05x_token *t, const char *params)
{
    struct hsm_open_args args = { .spec = &spec, .name = "board" };
    char whole[400];

    (void)snprintf(whole, sizeof(whole), "se05x:/dev/i2c-3%s%s", params[0] == '\0' ? "" : "?", params);
    ck_ok(hsm_token_spec_parse(whole, &spec));
    memset(t, 0, sizeof(*t));
    (void)snprintf(t->where, sizeof(t->where), "token 'board' (/dev/i2c-3)");
    return se05x_channel_open(t, &args);
}

static void use_chip(const char *part, uint8_t major, uint16_t config)
{
    const struct scp03_default *d = scp03_default_find(part);

    memset(&chip, 0, sizeof(chip));
    memcpy(chip.version, (uint8_t[]){ major, major == 7 ? 2 : 1, major == 7 ? 0 : 1 }, 3);
    chip.config = config;
    chip.oef_id = d->oef_id;
    memcpy(chip.enc, d->enc, 16);
    memcpy(chip.mac, d->mac, 16);
    memcpy(chip.dek, d->dek, 16);
    memset(chip.user_id, 0x31, 8);
    memset(chip.aes_key, 0x77, 16);
    chip.tries_left = 3;
}

static void setup(void)
{
    memset(&wire, 0, sizeof(wire));
    memset(steps, 0, sizeof(steps));
    use_chip("SE050E", 7, 0x3f9f);
    make_temp_dir();
}

static void teardown(void)
{
    se05x_channel_close(&token);
    se05x_channel_close(&other);
    ck_assert_uint_eq(wire.depth, 0);
    remove_temp_dir();
}

static const struct se05x_credential user = { SE05X_CRED_USERID, USER_OBJECT, "11111111", 8 };
static const struct se05x_credential so = { SE05X_CRED_AES,
                                            AES_OBJECT,
                                            { 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77,
                                              0x77, 0x77, 0x77, 0x77, 0x77, 0x77 },
                                            16 };

static uint8_t echo_data[880];

static hsm_status run_as(struct se05x_token *t, enum se05x_auth auth, size_t len, bool repeatable)
{
    uint8_t bytes[SE05X_APDU_MAX];
    struct hsm_buf answer = { .ptr = bytes, .cap = sizeof(bytes) };
    struct se05x_cmd cmd = { .ins = 0x02,
                             .repeatable = repeatable,
                             .auth = auth,
                             .data = { echo_data, len },
                             .extended = len > 300,
                             .expect = len };
    uint16_t sw;
    size_t i;
    hsm_status st;

    for (i = 0; i < len; i++)
        echo_data[i] = (uint8_t)(i * 7 + len);
    if ((st = se05x_exchange(t, &cmd, &answer, &sw)) != HSM_OK)
        return st;
    ck_assert_uint_eq(wire.depth, 0);
    if (sw != 0x9000)
        return HSM_ERR_DATA;
    ck_assert_uint_eq(answer.len, len);
    ck_assert_mem_eq(bytes, echo_data, len);
    ck_assert_uint_eq(wire.expect, len == 0 ? 0 : wire.answer_len);
    return HSM_OK;
}

static hsm_status run(bool repeatable)
{
    return run_as(&token, SE05X_ANYBODY, 20, repeatable);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

START_TEST(plain_open_selects_once)
{
    ck_ok(open_token(&token, ""));
    ck_steps("S");
    ck_ok(run(false));
    ck_ok(run_as(&token, SE05X_ANYBODY, 0, false));
    ck_steps("EE");
    ck_assert_str_eq(se05x_channel_name(&token), "plain");
    ck_assert(token.caps.v7 && token.caps.has_ec && !token.caps.has_rsa && !token.caps.fips);
}
END_TEST

START_TEST(old_applets_tell_less)
{
    use_chip("SE050C1", 3, 0x6fff);
    ck_ok(open_token(&token, ""));
    ck_assert(!token.caps.v7 && token.caps.has_rsa_crt && !token.caps.fips);
    ck_assert_uint_eq(token.caps.random_max, 880);
}
END_TEST

START_TEST(second_process_joins_without_select)
{
    ck_ok(open_token(&token, ""));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_steps("SCV");
    ck_ok(open_token(&other, ""));
    ck_ok(run_as(&other, SE05X_ANYBODY, 20, false));
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_steps("GEe");
}
END_TEST

START_TEST(public_keys_are_chosen_by_oef_id)
{
    ck_ok(open_token(&token, "scp03=public"));
    ck_steps("MNSUA");
    ck_ok(run(false));
    ck_steps("E");
    ck_assert_str_eq(se05x_channel_name(&token), "scp03 (public keys)");
}
END_TEST

START_TEST(public_keys_of_an_unknown_part_are_refused)
{
    chip.oef_id = 0xa739;
    ck_status(open_token(&token, "scp03=public"), HSM_ERR_CONFIG);
    ck_line_has(HSM_ERR_CONFIG, "A739");
    ck_status(open_token(&token, "scp03=public&scp03-part=SE050X"), HSM_ERR_CONFIG);
    ck_status(open_token(&token, "scp03-part=SE050E"), HSM_ERR_CONFIG);
    ck_status(open_token(&token, "scp03=keys"), HSM_ERR_CONFIG);
    ck_line_has(HSM_ERR_CONFIG, "absolute");
}
END_TEST

START_TEST(named_part_saves_the_question)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    ck_steps("SUA");
}
END_TEST

START_TEST(foreign_platform_keys_are_denied_without_costing_an_attempt)
{
    ck_status(open_token(&token, "scp03=public&scp03-part=SE051C"), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "SE051C as published");
    ck_steps("SU");
    ck_assert_ptr_null(token.channel);
}
END_TEST

START_TEST(fips_part_without_scp03_says_what_to_do)
{
    use_chip("SE052F", 7, 0x26f2);
    chip.scp_required = true;
    ck_status(open_token(&token, ""), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "scp03=");
}
END_TEST

START_TEST(part_made_to_require_scp03_says_what_to_do)
{
    chip.scp_required = true;
    ck_ok(open_token(&token, ""));
    ck_status(run(false), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "scp03=");
}
END_TEST

START_TEST(ordinary_refusal_is_the_callers)
{
    ck_ok(open_token(&token, ""));
    chip.refuse_with = 0x6985;
    chip.refusals = 2;
    ck_status(run(false), HSM_ERR_DATA);
    ck_status(run(false), HSM_ERR_DATA);
    ck_ok(run(false));
    ck_steps("SEREE");
}
END_TEST

/* ---- sizes --------------------------------------------------------------------------------------------- */

START_TEST(all_lengths_pass_through_all_wrappings)
{
    static const size_t lens[] = { 0,   1,   7,   8,   15,  16,  17,  100, 200, 225, 226, 227, 239, 240,
                                   241, 244, 245, 246, 247, 248, 254, 255, 256, 300, 500, 800, 880 };
    size_t i;

    ck_ok(open_token(&token, _i < 3 ? "" : "scp03=public"));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    for (i = 0; i < COUNT(lens); i++)
        ck_ok(run_as(&token, (enum se05x_auth)(_i % 3), lens[i], false));
}
END_TEST

START_TEST(too_much_data_is_refused_before_it_is_sent)
{
    struct se05x_cmd cmd = { .ins = 0x02, .auth = SE05X_SO, .data = { (uint8_t[1090]){ 0 }, 1090 } };
    uint16_t sw;

    ck_ok(open_token(&token, "scp03=public"));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    ck_status(se05x_exchange(&token, &cmd, NULL, &sw), HSM_ERR_DATA_LEN);
    ck_assert(!se05x_maybe_executed(&token));
    ck_ok(run_as(&token, SE05X_SO, 20, false));
}
END_TEST

/* ---- recovery ------------------------------------------------------------------------------------------ */

START_TEST(reset_chip_is_selected_again)
{
    ck_ok(open_token(&token, _i == 0 ? "" : "scp03=public&scp03-part=SE050E"));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    memset(steps, 0, sizeof(steps));
    chip_deselect(NOTHING); /* and nobody noticed */
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_steps(_i == 0 ? "SCVe" : "SUACVe");
    ck_assert_uint_eq(chip.executed, 1);
}
END_TEST

START_TEST(new_epoch_opens_sessions_again)
{
    ck_ok(open_token(&token, ""));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    ck_steps("SCVCua");
    wire.depth++;
    se05x_link_set_selected(NULL, false);
    wire.depth--;
    chip_deselect(NOTHING);
    ck_ok(run_as(&token, SE05X_SO, 20, false));
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_ok(run_as(&token, SE05X_SO, 20, false));
    ck_steps("SCuaeCVee");
}
END_TEST

START_TEST(command_that_was_not_executed_is_sent_again)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    wire.fail_in = 1;
    wire.fail_how = SE05X_NOT_EXECUTED;
    ck_ok(run(false));
    ck_steps("SUALSUAE");
}
END_TEST

START_TEST(second_failure_resets_hard_and_the_third_is_final)
{
    ck_ok(open_token(&token, ""));
    wire.fail_in = 1;
    wire.fail_count = 2;
    wire.fail_how = SE05X_NOT_EXECUTED;
    ck_ok(run(false));
    ck_steps("SLHSE");
    wire.fail_in = 1;
    wire.fail_count = 99;
    ck_status(run(true), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "no answer");
    ck_assert(!se05x_maybe_executed(&token));
    ck_steps("LH");
    wire.fail_in = 0;
    ck_ok(run(false));
}
END_TEST

START_TEST(lost_answer_is_final_unless_repeatable)
{
    ck_ok(open_token(&token, ""));
    wire.fail_in = 1;
    wire.fail_how = SE05X_MAYBE_EXECUTED;
    ck_status(run(false), HSM_ERR_TOKEN_IO);
    ck_assert(se05x_maybe_executed(&token));
    ck_assert_uint_eq(chip.executed, 1);
    ck_steps("SEL");
    wire.fail_in = 2;
    ck_ok(run(true));
    ck_steps("SELSE");
    ck_assert_uint_eq(chip.executed, 3);
}
END_TEST

START_TEST(dead_bus_is_reported_and_used_again_later)
{
    ck_ok(open_token(&token, ""));
    wire.fail_in = 1;
    wire.recover_fails = true;
    ck_status(run(true), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "dead");
    wire.recover_fails = false;
    ck_ok(run(false));
}
END_TEST

START_TEST(forged_answer_is_never_taken)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    wire.garble_in = 1;
    ck_status(run(false), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "not authentic");
    ck_assert(se05x_maybe_executed(&token));
    ck_steps("SUAE");
    wire.garble_in = 4;
    ck_ok(run(true));
    ck_steps("SUAESUAE");
}
END_TEST

START_TEST(forged_answer_in_a_session_is_never_taken)
{
    ck_ok(open_token(&token, ""));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    wire.garble_in = 1;
    ck_status(run_as(&token, SE05X_SO, 20, false), HSM_ERR_TOKEN_IO);
    ck_assert(se05x_maybe_executed(&token));
    wire.garble_in = 5;
    ck_ok(run_as(&token, SE05X_SO, 20, true));
    ck_steps("SCuaeSCuaeSCuae");
}
END_TEST

START_TEST(status_without_proof_is_tried_once_more_then_the_callers)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    chip.refuse_with = _i == 0 ? 0x6982 : 0x6985;
    chip.refusals = 1;
    ck_ok(run(false));
    ck_steps("SUAESUAE");
    chip.refusals = 9;
    ck_status(run(false), HSM_ERR_DATA);
    ck_steps("ESUAE");
}
END_TEST

START_TEST(rate_limit_is_waited_for)
{
    ck_ok(open_token(&token, ""));
    chip.refuse_with = 0x66a6;
    chip.refusals = 2;
    ck_ok(run(false));
    ck_steps("SEEE");
}
END_TEST

/* Nobody knows how such a chip counts refused commands. */
START_TEST(old_applet_gets_a_new_channel_after_a_refusal)
{
    use_chip("SE050C1", 3, 0x6fff);
    ck_ok(open_token(&token, "scp03=public"));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    ck_ok(run_as(&token, SE05X_ANYBODY, 0, false));
    ck_ok(run_as(&token, SE05X_SO, 0, false));
    ck_ok(run_as(&token, SE05X_SO, 20, false));
    ck_steps("MNSUACuaEee");
    chip.refuse_with = 0x6986;
    chip.refusals = 1;
    ck_status(run(false), HSM_ERR_DATA);
    ck_ok(run_as(&token, SE05X_SO, 20, false));
    ck_steps("ESUACuae");
}
END_TEST

START_TEST(two_secure_processes_take_turns_and_say_so)
{
    const char *params = "scp03=public&scp03-part=SE050E";

    ck_ok(open_token(&token, params));
    ck_ok(open_token(&other, params));
    ck_ok(run(false));
    ck_ok(run_as(&other, SE05X_ANYBODY, 20, false));
    ck_ok(run(false));
    ck_steps("SUASUASUAESUAESUAE");
    ck_assert_str_eq(se05x_channel_name(&token), "scp03 (public keys, contended)");
}
END_TEST

START_TEST(plain_process_beside_a_secure_one_selects_anew)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    ck_ok(open_token(&other, ""));
    ck_ok(run_as(&other, SE05X_ANYBODY, 20, false));
    ck_ok(run(false));
    ck_steps("SUASESUAE");
}
END_TEST

/* ---- sessions ------------------------------------------------------------------------------------------ */

START_TEST(command_of_a_role_needs_login)
{
    ck_ok(open_token(&token, ""));
    ck_status(run_as(&token, SE05X_USER, 20, false), HSM_ERR_PIN_REQUIRED);
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_assert(se05x_logged_in(&token, SE05X_USER) && !se05x_logged_in(&token, SE05X_SO));
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_status(run_as(&token, SE05X_SO, 20, false), HSM_ERR_PIN_REQUIRED);
    se05x_logout(&token, SE05X_USER);
    ck_status(run_as(&token, SE05X_USER, 20, false), HSM_ERR_PIN_REQUIRED);
    ck_steps("SCVeX");
}
END_TEST

START_TEST(wrong_pin_costs_one_attempt_and_leaves_the_old_login)
{
    struct se05x_credential wrong = _i == 0 ? user : so;

    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    ck_ok(se05x_login(&token, SE05X_USER, _i == 0 ? &user : &so));
    wrong.value[3] ^= 1;
    ck_status(se05x_login(&token, SE05X_USER, &wrong), HSM_ERR_PIN_INCORRECT);
    ck_line_has(HSM_ERR_PIN_INCORRECT, "token 'board'");
    ck_assert_uint_eq(chip.tries_left, 2); /* counted although the host knew better, AES */
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_status(se05x_login(&token, SE05X_SO, &wrong), HSM_ERR_PIN_INCORRECT);
    ck_status(se05x_login(&token, SE05X_SO, &wrong), HSM_ERR_PIN_LOCKED);
    ck_status(se05x_login(&token, SE05X_SO, &wrong), HSM_ERR_PIN_LOCKED);
    ck_assert(!se05x_logged_in(&token, SE05X_SO));
}
END_TEST

START_TEST(missing_object_is_found_out_only_on_failure)
{
    struct se05x_credential missing = user;

    missing.auth_id = NO_SUCH_OBJECT;
    ck_ok(open_token(&token, ""));
    ck_status(se05x_login(&token, SE05X_USER, &missing), HSM_ERR_NO_OBJECT);
    ck_line_has(HSM_ERR_NO_OBJECT, "7DA00003");
    ck_steps("SCSO");
}
END_TEST

START_TEST(sessions_of_dead_processes_are_freed)
{
    ck_ok(open_token(&token, ""));
    chip.sessions[0].used = chip.sessions[1].used = true;
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_steps("SCSOCV");
}
END_TEST

START_TEST(three_processes_share_two_sessions)
{
    static struct se05x_token third;
    int i;

    ck_ok(open_token(&token, ""));
    ck_ok(open_token(&other, ""));
    ck_ok(open_token(&third, ""));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&other, SE05X_USER, &user));
    ck_ok(se05x_login(&third, SE05X_USER, &user));
    for (i = 0; i < 5; i++) {
        ck_ok(run_as(&token, SE05X_USER, 20, false));
        ck_ok(run_as(&other, SE05X_USER, 20, false));
        ck_ok(run_as(&third, SE05X_USER, 20, false));
    }
    ck_assert_uint_eq(chip.executed, 15);
    se05x_channel_close(&third);
}
END_TEST

START_TEST(changed_pin_asks_for_login_again)
{
    ck_ok(open_token(&token, ""));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    memset(chip.user_id, 0x32, 8);
    chip_deselect(NOTHING);
    ck_status(run_as(&token, SE05X_USER, 20, false), HSM_ERR_PIN_REQUIRED);
    ck_status(run_as(&token, SE05X_USER, 20, false), HSM_ERR_PIN_REQUIRED);
    ck_assert_uint_eq(chip.tries_left, 2);
}
END_TEST

START_TEST(pin_whose_answer_was_lost_is_not_sent_again)
{
    ck_ok(open_token(&token, ""));
    wire.fail_in = 2;
    wire.fail_how = SE05X_MAYBE_EXECUTED;
    ck_status(se05x_login(&token, SE05X_USER, &user), HSM_ERR_TOKEN_IO);
    ck_steps("SCVL");
    wire.fail_in = 1;
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_steps("SLSCV");
}
END_TEST

START_TEST(credentials_of_wrong_length_are_not_sent)
{
    struct se05x_credential odd = so;

    ck_ok(open_token(&token, ""));
    odd.len = 15;
    ck_status(se05x_login(&token, SE05X_SO, &odd), HSM_ERR_PIN_FORMAT);
    odd.kind = SE05X_CRED_NONE;
    ck_status(se05x_login(&token, SE05X_SO, &odd), HSM_ERR_PIN_FORMAT);
    ck_steps("S");
}
END_TEST

START_TEST(close_gives_sessions_back)
{
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    se05x_channel_close(&token);
    ck_steps("SUACVCuaXX");
    ck_assert(!chip.sessions[0].used && !chip.sessions[1].used);
}
END_TEST

START_TEST(abandon_says_nothing)
{
    int result = -1;
    pid_t child;

    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    ck_ok(se05x_login(&token, SE05X_SO, &so));
    memset(steps, 0, sizeof(steps));
    if ((child = fork()) == 0) {
        se05x_channel_abandon(&token);
        _exit(steps[0] != '\0' || token.channel != NULL);
    }
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
    ck_ok(run_as(&token, SE05X_SO, 20, false));
    ck_steps("e");
}
END_TEST

/* ---- identify and rotate ------------------------------------------------------------------------------- */

START_TEST(identify_returns_to_the_applet)
{
    uint16_t oef_id = 0;

    ck_ok(open_token(&token, ""));
    ck_ok(se05x_login(&token, SE05X_USER, &user));
    ck_ok(se05x_identify(&token, &oef_id));
    ck_assert_uint_eq(oef_id, 0xa921);
    ck_ok(run_as(&token, SE05X_USER, 20, false));
    ck_steps("SCVMNSCVe");
}
END_TEST

static char new_path[128];

static void rotation_setup(void)
{
    setup();
    (void)snprintf(new_path, sizeof(new_path), "%s/new.keys", temp_dir);
    ck_ok(open_token(&token, "scp03=public&scp03-part=SE050E"));
    memset(steps, 0, sizeof(steps));
}

static bool chip_has_file(void)
{
    struct scp03_keys keys;

    ck_ok(scp03_keys_read(new_path, &keys));
    return memcmp(keys.enc, chip.enc, 16) == 0 && memcmp(keys.mac, chip.mac, 16) == 0 &&
           memcmp(keys.dek, chip.dek, 16) == 0;
}

START_TEST(rotation_makes_keys_and_uses_them)
{
    char params[200];
    struct stat sb;

    ck_ok(se05x_rotate_keys(&token, new_path));
    ck_steps("SUAODUAPSUAO");
    ck_assert(chip_has_file());
    ck_assert_int_eq(stat(new_path, &sb), 0);
    ck_assert_uint_eq(sb.st_mode & 0777, 0600);
    ck_assert_str_eq(se05x_channel_name(&token), "scp03");
    ck_ok(run(false));
    se05x_channel_close(&token);
    (void)snprintf(params, sizeof(params), "scp03=%s", new_path);
    ck_ok(open_token(&token, params));
    ck_status(open_token(&other, "scp03=public"), HSM_ERR_DENIED);
}
END_TEST

START_TEST(rotation_takes_a_file_that_exists)
{
    FILE *f = fopen(new_path, "w");

    fprintf(f, "ENC 000102030405060708090a0b0c0d0e0f\nMAC 000102030405060708090a0b0c0d0e0e\n"
               "DEK 000102030405060708090a0b0c0d0e0d\n");
    fclose(f);
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_DENIED); /* mode 644 */
    ck_steps("");
    ck_assert_int_eq(chmod(new_path, 0600), 0);
    ck_ok(se05x_rotate_keys(&token, new_path));
    ck_assert(chip_has_file());
    ck_assert_uint_eq(chip.dek[15], 0x0d);
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_ARGUMENT); /* the same again */
}
END_TEST

START_TEST(rotation_needs_the_present_keys)
{
    ck_ok(open_token(&other, ""));
    ck_status(se05x_rotate_keys(&other, new_path), HSM_ERR_ARGUMENT);
    chip.enc[0] ^= 1;
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "unchanged");
    ck_line_has(HSM_ERR_DENIED, "ENC");
    ck_steps("SSUA"); /* the question did not decrypt */
    chip.enc[0] ^= 1;
    chip.mac[0] ^= 1;
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_DENIED);
    ck_line_has(HSM_ERR_DENIED, "unchanged");
    ck_steps("SU");
    chip.mac[0] ^= 1;
    ck_ok(run(false));
}
END_TEST

START_TEST(rotation_without_a_place_for_the_file_touches_nothing)
{
    (void)snprintf(new_path, sizeof(new_path), "%s/none/new.keys", temp_dir);
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_CONFIG);
    ck_steps("");
}
END_TEST

START_TEST(rotation_refused_by_the_chip_keeps_the_old_keys)
{
    chip.put_refused = true;
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "OLD keys are still in force");
    ck_steps("SUAODUAPSUAO");
    ck_ok(run(false));
    ck_assert(!chip_has_file());
}
END_TEST

/* The answer to PUT KEY is lost; it was executed, or it was not. */
START_TEST(rotation_finds_out_after_a_lost_answer)
{
    wire.fail_in = 8;
    wire.fail_how = SE05X_MAYBE_EXECUTED;
    chip.put_refused = _i == 1;
    if (_i == 0) {
        ck_ok(se05x_rotate_keys(&token, new_path));
        ck_steps("SUAODUAPLSUAO");
    } else {
        ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_TOKEN_IO);
        ck_line_has(HSM_ERR_TOKEN_IO, "OLD keys are still in force");
        ck_steps("SUAODUAPLSUSUAO");
    }
    ck_assert(chip_has_file() == (_i == 0));
    ck_ok(run(false));
}
END_TEST

START_TEST(rotation_that_never_reached_the_chip_begins_again)
{
    wire.fail_in = 8;
    wire.fail_how = SE05X_NOT_EXECUTED;
    ck_ok(se05x_rotate_keys(&token, new_path));
    ck_steps("SUAODUALDUAPSUAO");
}
END_TEST

START_TEST(rotation_that_cannot_find_out_says_keep_both)
{
    wire.fail_in = 8;
    wire.fail_count = 99;
    wire.fail_how = SE05X_MAYBE_EXECUTED;
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "NOT KNOWN");
    wire.fail_in = 0;
    ck_assert(chip_has_file());
}
END_TEST

START_TEST(rotation_with_a_wrong_receipt_says_so)
{
    chip.wrong_receipt = true;
    ck_status(se05x_rotate_keys(&token, new_path), HSM_ERR_TOKEN_IO);
    ck_line_has(HSM_ERR_TOKEN_IO, "NEW keys");
    ck_ok(run(false));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("se05x_channel");
    TCase *open = tcase_create("open"), *size = tcase_create("size"), *recovery = tcase_create("recovery");
    TCase *session = tcase_create("session"), *rotation = tcase_create("rotation");

    tcase_add_checked_fixture(open, setup, teardown);
    tcase_add_test(open, plain_open_selects_once);
    tcase_add_test(open, old_applets_tell_less);
    tcase_add_test(open, second_process_joins_without_select);
    tcase_add_test(open, public_keys_are_chosen_by_oef_id);
    tcase_add_test(open, public_keys_of_an_unknown_part_are_refused);
    tcase_add_test(open, named_part_saves_the_question);
    tcase_add_test(open, foreign_platform_keys_are_denied_without_costing_an_attempt);
    tcase_add_test(open, fips_part_without_scp03_says_what_to_do);
    tcase_add_test(open, part_made_to_require_scp03_says_what_to_do);
    tcase_add_test(open, ordinary_refusal_is_the_callers);
    tcase_add_test(open, identify_returns_to_the_applet);
    suite_add_tcase(s, open);
    tcase_add_checked_fixture(size, setup, teardown);
    tcase_add_loop_test(size, all_lengths_pass_through_all_wrappings, 0, 6);
    tcase_add_test(size, too_much_data_is_refused_before_it_is_sent);
    suite_add_tcase(s, size);
    tcase_add_checked_fixture(recovery, setup, teardown);
    tcase_add_loop_test(recovery, reset_chip_is_selected_again, 0, 2);
    tcase_add_test(recovery, new_epoch_opens_sessions_again);
    tcase_add_test(recovery, command_that_was_not_executed_is_sent_again);
    tcase_add_test(recovery, second_failure_resets_hard_and_the_third_is_final);
    tcase_add_test(recovery, lost_answer_is_final_unless_repeatable);
    tcase_add_test(recovery, dead_bus_is_reported_and_used_again_later);
    tcase_add_test(recovery, forged_answer_is_never_taken);
    tcase_add_test(recovery, forged_answer_in_a_session_is_never_taken);
    tcase_add_loop_test(recovery, status_without_proof_is_tried_once_more_then_the_callers, 0, 2);
    tcase_add_test(recovery, rate_limit_is_waited_for);
    tcase_add_test(recovery, old_applet_gets_a_new_channel_after_a_refusal);
    tcase_add_test(recovery, two_secure_processes_take_turns_and_say_so);
    tcase_add_test(recovery, plain_process_beside_a_secure_one_selects_anew);
    suite_add_tcase(s, recovery);
    tcase_add_checked_fixture(session, setup, teardown);
    tcase_add_test(session, command_of_a_role_needs_login);
    tcase_add_loop_test(session, wrong_pin_costs_one_attempt_and_leaves_the_old_login, 0, 2);
    tcase_add_test(session, missing_object_is_found_out_only_on_failure);
    tcase_add_test(session, sessions_of_dead_processes_are_freed);
    tcase_add_test(session, three_processes_share_two_sessions);
    tcase_add_test(session, changed_pin_asks_for_login_again);
    tcase_add_test(session, pin_whose_answer_was_lost_is_not_sent_again);
    tcase_add_test(session, credentials_of_wrong_length_are_not_sent);
    tcase_add_test(session, close_gives_sessions_back);
    tcase_add_test(session, abandon_says_nothing);
    suite_add_tcase(s, session);
    tcase_add_checked_fixture(rotation, rotation_setup, teardown);
    tcase_add_test(rotation, rotation_makes_keys_and_uses_them);
    tcase_add_test(rotation, rotation_takes_a_file_that_exists);
    tcase_add_test(rotation, rotation_needs_the_present_keys);
    tcase_add_test(rotation, rotation_without_a_place_for_the_file_touches_nothing);
    tcase_add_test(rotation, rotation_refused_by_the_chip_keeps_the_old_keys);
    tcase_add_loop_test(rotation, rotation_finds_out_after_a_lost_answer, 0, 2);
    tcase_add_test(rotation, rotation_that_never_reached_the_chip_begins_again);
    tcase_add_test(rotation, rotation_that_cannot_find_out_says_keep_both);
    tcase_add_test(rotation, rotation_with_a_wrong_receipt_says_so);
    suite_add_tcase(s, rotation);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
