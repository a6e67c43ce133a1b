/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

enum { ARGS_MAX = 32 };

/* ---- process ---------------------------------------------------------------------------------------- */

static void run_child(const struct sim *s, const char *const *argv, int out)
{
    char socket_path[80], nvm_path[80];
    const char *program = getenv("HSM_SIM"),
               *args[ARGS_MAX] = { program, "--socket", socket_path, "--nvm", nvm_path };
    size_t n = 5;

    snprintf(socket_path, sizeof(socket_path), "%s/s", s->dir);
    snprintf(nvm_path, sizeof(nvm_path), "%s/nvm", s->dir);
    while (argv != NULL && *argv != NULL && n < ARGS_MAX - 1)
        args[n++] = *argv++;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that times out leaves nothing behind */
    (void)dup2(out, STDOUT_FILENO);
    if (program != NULL)
        (void)execv(program, (char *const *)args);
    _exit(127);
}

void sim_restart(struct sim *s, const char *const *argv)
{
    int ends[2];
    char word[8] = { 0 };

    ck_assert_int_eq(pipe(ends), 0);
    s->pid = fork();
    if (s->pid == 0)
        run_child(s, argv, ends[1]);
    (void)close(ends[1]);
    s->out = ends[0];
    ck_assert_int_gt(s->pid, 0);
    for (size_t n = 0; n < 6;) {
        ssize_t got = read(s->out, word + n, 6 - n);

        ck_assert_msg(got > 0, "se05x-sim did not start (HSM_SIM=%s)", getenv("HSM_SIM"));
        n += (size_t)got;
    }
    ck_assert_str_eq(word, "ready\n");
}

void sim_make_dir(struct sim *s)
{
    strcpy(s->dir, "/tmp/sim-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
}

void sim_start(struct sim *s, const char *const *argv)
{
    sim_make_dir(s);
    sim_restart(s, argv);
}

void sim_start_like(struct sim *s, const struct sim *fresh)
{
    char from[80], to[80], block[4096];
    FILE *in, *out;
    size_t n;

    sim_make_dir(s);
    snprintf(from, sizeof(from), "%s/nvm", fresh->dir);
    snprintf(to, sizeof(to), "%s/nvm", s->dir);
    in = fopen(from, "r");
    out = fopen(to, "w");
    ck_assert_msg(in != NULL && out != NULL, "%s to %s", from, to);
    while ((n = fread(block, 1, sizeof(block), in)) > 0)
        ck_assert_uint_eq(fwrite(block, 1, n, out), n);
    fclose(in);
    ck_assert_int_eq(fclose(out), 0);
    sim_restart(s, NULL);
}

int sim_stop(struct sim *s)
{
    int status = -1;

    (void)kill(s->pid, SIGTERM);
    while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR) {
    }
    (void)close(s->out);
    s->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void sim_remove(struct sim *s)
{
    static const char *const files[] = { "nvm", "trace", "keys", "summary" };
    char path[96];

    if (s->pid > 0)
        ck_assert_int_eq(sim_stop(s), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", s->dir, files[i]);
        (void)unlink(path);
    }
    ck_assert_msg(rmdir(s->dir) == 0, "%s: something was left behind", s->dir);
}

/* ---- socket ----------------------------------------------------------------------------------------- */

struct line line_open(const struct sim *s)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct line l = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .address = 0x48 };

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", s->dir);
    ck_assert_int_eq(connect(l.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return l;
}

void line_close(struct line *l)
{
    (void)close(l->fd);
}

static void put_all(int fd, const void *data, size_t len)
{
    ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void get_all(int fd, void *data, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = recv(fd, (uint8_t *)data + n, len - n, 0);

        ck_assert_msg(got > 0, "the simulator hung up");
        n += (size_t)got;
    }
}

int line_message(struct line *l, char op, unsigned address, void *data, size_t len)
{
    uint8_t head[4] = { (uint8_t)op, (uint8_t)address, (uint8_t)(len >> 8), (uint8_t)len }, status;

    put_all(l->fd, head, sizeof(head));
    if (op == 'W' && len != 0)
        put_all(l->fd, data, len);
    get_all(l->fd, &status, 1);
    if (op == 'R' && status == 0)
        get_all(l->fd, data, len);
    return status;
}

int line_write(struct line *l, const void *data, size_t len)
{
    return line_message(l, 'W', l->address, (void *)data, len);
}

int line_read(struct line *l, void *data, size_t len)
{
    return line_message(l, 'R', l->address, data, len);
}

int line_control(struct line *l, const char *command, char *answer, size_t size)
{
    size_t len = strlen(command), n;
    uint8_t head[4] = { 'C', 0, (uint8_t)(len >> 8), (uint8_t)len }, reply[3];
    char *text;

    put_all(l->fd, head, sizeof(head));
    if (len != 0)
        put_all(l->fd, command, len);
    get_all(l->fd, reply, sizeof(reply));
    n = (size_t)(reply[1] << 8 | reply[2]);
    text = calloc(1, n + 1);
    ck_assert_ptr_nonnull(text);
    get_all(l->fd, text, n);
    if (answer != NULL)
        snprintf(answer, size, "%s", text);
    free(text);
    return reply[0];
}

long line_stat(struct line *l, const char *name)
{
    char text[8192], key[64];
    const char *at;

    ck_assert_int_eq(line_control(l, "stats", text, sizeof(text)), 0);
    snprintf(key, sizeof(key), "%s: ", name);
    at = strncmp(text, key, strlen(key)) == 0 ? text : NULL;
    if (at == NULL) {
        snprintf(key, sizeof(key), "\n%s: ", name);
        at = strstr(text, key);
    }
    return at == NULL ? 0 : strtol(at + strlen(key), NULL, 10);
}

/* ---- T=1 -------------------------------------------------------------------------------------------- */

static uint16_t crc_x25(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xFFFF;

    while (len-- > 0) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = (crc >> 1) ^ (0x8408U & (0U - (crc & 1)));
    }
    return (uint16_t)~crc;
}

size_t block_build(uint8_t pcb, const void *inf, size_t len, uint8_t block[259])
{
    uint16_t crc;

    block[0] = 0x5A;
    block[1] = pcb;
    block[2] = (uint8_t)len;
    if (len != 0)
        memcpy(block + 3, inf, len);
    crc = crc_x25(block, len + 3);
    block[len + 3] = (uint8_t)crc;
    block[len + 4] = (uint8_t)(crc >> 8);
    return len + 5;
}

size_t block_read(struct line *l, uint8_t answer[259])
{
    for (int i = 0; i < HOST_POLLS; i++) {
        if (line_read(l, answer, 3) != 0)
            continue;
        if (answer[2] > 254 || line_read(l, answer + 3, answer[2] + 2U) != 0)
            return 0;
        return answer[2] + 5U;
    }
    return 0;
}

size_t block_exchange(struct line *l, const uint8_t *block, size_t len, uint8_t answer[259])
{
    int polls = 0;

    while (line_write(l, block, len) != 0) {
        if (++polls > HOST_POLLS)
            return 0;
    }
    return block_read(l, answer);
}

static void check_block(const uint8_t *block, size_t len)
{
    ck_assert_uint_ge(len, 5);
    ck_assert_uint_eq(block[0], 0xA5);
    ck_assert_uint_eq(crc_x25(block, len - 2), block[len - 2] | block[len - 1] << 8);
}

static void s_exchange(struct line *l, uint8_t code)
{
    uint8_t block[259], answer[259];
    size_t len = block_exchange(l, block, block_build((uint8_t)(0xC0 | code), NULL, 0, block), answer);

    check_block(answer, len);
    ck_assert_uint_eq(answer[1], 0xE0 | code);
    l->next_in = l->next_out = false;
}

void line_resynch(struct line *l)
{
    s_exchange(l, 0);
}

void line_soft_reset(struct line *l)
{
    s_exchange(l, 15);
    l->secure = false;
}

/* Take I-blocks and grant time until the last; @p len bytes of @p block were just received. */
static size_t collect(struct line *l, uint8_t *block, size_t len, uint8_t rsp[RSP_MAX])
{
    uint8_t reply[259];
    size_t total = 0;

    for (;;) {
        check_block(block, len);
        if (block[1] == 0xC3) {
            len = block_exchange(l, reply, block_build(0xE3, block + 3, 1, reply), block);
            continue;
        }
        ck_assert_msg((block[1] & 0x80) == 0, "PCB %02X where an I-block was due", block[1]);
        ck_assert_int_eq((block[1] & 0x40) != 0, l->next_in);
        l->next_in = !l->next_in;
        ck_assert_uint_le(total + block[2], RSP_MAX);
        memcpy(rsp + total, block + 3, block[2]);
        total += block[2];
        if (!(block[1] & 0x20))
            return total;
        len = block_exchange(l, reply, block_build(l->next_in ? 0x90 : 0x80, NULL, 0, reply), block);
    }
}

size_t apdu_raw(struct line *l, const uint8_t *cmd, size_t len, uint8_t rsp[RSP_MAX])
{
    uint8_t block[259], answer[259];
    size_t answer_len;

    for (;;) {
        size_t part = len > 254 ? 254 : len;
        uint8_t pcb = (uint8_t)((l->next_out ? 0x40 : 0) | (part < len ? 0x20 : 0));

        answer_len = block_exchange(l, block, block_build(pcb, cmd, part, block), answer);
        l->next_out = !l->next_out;
        cmd += part;
        len -= part;
        if (len == 0)
            return collect(l, answer, answer_len, rsp);
        check_block(answer, answer_len);
        ck_assert_uint_eq(answer[1], l->next_out ? 0x90 : 0x80);
    }
}

/* ---- cryptography ----------------------------------------------------------------------------------- */

void host_cmac(const uint8_t key[16], const uint8_t *data, size_t len, uint8_t mac[16])
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, (char *)"AES-128-CBC", 0),
                            OSSL_PARAM_construct_end() };
    size_t n;

    ck_assert_ptr_nonnull(EVP_Q_mac(NULL, "CMAC", NULL, NULL, params, key, 16, data, len, mac, 16, &n));
}

void host_aes(const uint8_t key[16], const uint8_t *iv, bool encrypt, const uint8_t *in, size_t len,
              uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;

    ck_assert_int_eq(
        EVP_CipherInit_ex2(ctx, iv == NULL ? EVP_aes_128_ecb() : EVP_aes_128_cbc(), key, iv, encrypt, NULL),
        1);
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    ck_assert_int_eq(EVP_CipherUpdate(ctx, out, &n, in, (int)len), 1);
    EVP_CIPHER_CTX_free(ctx);
}

static void kdf(const uint8_t key[16], uint8_t label, uint8_t bits, const uint8_t challenges[16],
                uint8_t out[16])
{
    uint8_t in[32] = { 0 };

    in[11] = label;
    in[14] = bits;
    in[15] = 1;
    memcpy(in + 16, challenges, 16);
    host_cmac(key, in, sizeof(in), out);
}

void scp_host_keys(struct line *l, const uint8_t enc[16], const uint8_t mac[16], const uint8_t challenges[16],
                   uint8_t card[8], uint8_t host[8])
{
    uint8_t block[16];

    kdf(enc, 4, 128, challenges, l->enc);
    kdf(mac, 6, 128, challenges, l->mac);
    kdf(mac, 7, 128, challenges, l->rmac);
    kdf(l->mac, 0, 64, challenges, block);
    memcpy(card, block, 8);
    kdf(l->mac, 1, 64, challenges, block);
    memcpy(host, block, 8);
    memset(l->mcv, 0, 16);
    l->counter = 1;
}

static void counter_iv(struct line *l, uint32_t counter, uint8_t first, uint8_t iv[16])
{
    uint8_t block[16] = { first };

    for (int i = 0; i < 4; i++)
        block[15 - i] = (uint8_t)(counter >> (8 * i));
    host_aes(l->enc, NULL, true, block, 16, iv);
}

static void chain_mac(struct line *l, const uint8_t *cmd, size_t len)
{
    uint8_t in[16 + RSP_MAX];

    memcpy(in, l->mcv, 16);
    memcpy(in + 16, cmd, len);
    host_cmac(l->mac, in, 16 + len, l->mcv);
}

size_t scp_host_wrap(struct line *l, uint8_t *cmd, size_t len)
{
    bool extended = len > 7 && cmd[4] == 0;
    size_t head = len <= 5 ? 4 : extended ? 7 : 5;
    size_t n = len <= 5 ? 0 : extended ? (size_t)(cmd[5] << 8 | cmd[6]) : cmd[4];
    uint8_t data[RSP_MAX], iv[16];

    memcpy(data, cmd + head, n);
    if (n != 0) {
        data[n++] = 0x80;
        while (n % 16 != 0)
            data[n++] = 0;
        counter_iv(l, l->counter, 0, iv);
        host_aes(l->enc, iv, true, data, n, data);
    }
    cmd[0] |= 4;
    extended = extended || n + 8 > 255;
    head = extended ? 7 : 5;
    cmd[4] = extended ? 0 : (uint8_t)(n + 8);
    if (extended) {
        cmd[5] = (uint8_t)((n + 8) >> 8);
        cmd[6] = (uint8_t)(n + 8);
    }
    memcpy(cmd + head, data, n);
    chain_mac(l, cmd, head + n);
    memcpy(cmd + head + n, l->mcv, 8);
    return head + n + 8;
}

size_t scp_host_read(struct line *l, const uint8_t *cmd, size_t len, uint8_t *plain)
{
    size_t head = cmd[4] == 0 ? 7 : 5, lc = cmd[4] == 0 ? (size_t)(cmd[5] << 8 | cmd[6]) : cmd[4], n = lc - 8;
    uint8_t iv[16];

    ck_assert_uint_ge(len, head + lc);
    chain_mac(l, cmd, head + n);
    ck_assert_mem_eq(l->mcv, cmd + head + n, 8);
    memcpy(plain, cmd, head);
    plain[0] &= (uint8_t)~4;
    if (n == 0)
        return 4;
    counter_iv(l, l->counter, 0, iv);
    host_aes(l->enc, iv, false, cmd + head, n, plain + head);
    while (plain[head + n - 1] == 0)
        n--;
    ck_assert_uint_eq(plain[head + n - 1], 0x80);
    n--;
    plain[head - 1] = (uint8_t)n;
    if (head == 7)
        plain[5] = (uint8_t)(n >> 8);
    return head + n;
}

int scp_host_unwrap(struct line *l, bool had_data, uint8_t *rsp, size_t len)
{
    uint32_t counter = l->counter - (had_data || l->every_command_counts ? 0 : 1);
    uint8_t in[16 + RSP_MAX], mac[16], iv[16];
    size_t n = len < 10 ? 0 : len - 10;

    if (had_data || l->every_command_counts)
        l->counter++;
    if (len == 2)
        return 0;
    memcpy(in, l->mcv, 16);
    memcpy(in + 16, rsp, n);
    memcpy(in + 16 + n, rsp + len - 2, 2);
    host_cmac(l->rmac, in, 18 + n, mac);
    if (len < 10 || memcmp(mac, rsp + n, 8) != 0)
        return -1;
    if (n == 0)
        return 0;
    counter_iv(l, counter, 0x80, iv);
    host_aes(l->enc, iv, false, rsp, n, rsp);
    while (n > 0 && rsp[n - 1] == 0)
        n--;
    return n > 0 && rsp[n - 1] == 0x80 ? (int)n - 1 : -1;
}

/* ---- commands --------------------------------------------------------------------------------------- */

size_t unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t n = 0;
    unsigned value;

    for (; *hex != '\0'; hex++) {
        if (*hex == ' ')
            continue;
        ck_assert_int_eq(sscanf(hex, "%2x", &value), 1);
        ck_assert_uint_lt(n, max);
        out[n++] = (uint8_t)value;
        hex++;
    }
    return n;
}

uint16_t apdu(struct line *l, const char *hex, uint8_t rsp[RSP_MAX], size_t *len)
{
    uint8_t cmd[RSP_MAX];
    size_t n = unhex(hex, cmd, sizeof(cmd)), got;
    bool had_data = n > 5;
    uint16_t sw;
    int plain;

    if (l->secure)
        n = scp_host_wrap(l, cmd, n);
    got = apdu_raw(l, cmd, n, rsp);
    ck_assert_uint_ge(got, 2);
    sw = (uint16_t)(rsp[got - 2] << 8 | rsp[got - 1]);
    plain = l->secure ? scp_host_unwrap(l, had_data, rsp, got) : (int)got - 2;
    ck_assert_msg(plain >= 0, "R-MAC or padding of the answer to %s is wrong", hex);
    *len = (size_t)plain;
    return sw;
}

void apdu_expect(struct line *l, const char *hex, uint16_t sw)
{
    uint8_t rsp[RSP_MAX];
    size_t len;
    uint16_t got = apdu(l, hex, rsp, &len);

    ck_assert_msg(got == sw, "%s: %04X instead of %04X", hex, got, sw);
}

void line_select(struct line *l)
{
    l->secure = false;
    apdu_expect(l, "00A40400 10 A0000003965453000000010300000000 00", 0x9000);
}

uint16_t line_scp03(struct line *l, const uint8_t enc[16], const uint8_t mac[16], bool every_command_counts)
{
    uint8_t cmd[64], rsp[RSP_MAX], challenges[16], card[8], host[8];
    size_t n;

    unhex("80500B0008 0102030405060708", cmd, sizeof(cmd));
    n = apdu_raw(l, cmd, 13, rsp);
    ck_assert_uint_eq(n, 31);
    memcpy(challenges, cmd + 5, 8);
    memcpy(challenges + 8, rsp + 13, 8);
    scp_host_keys(l, enc, mac, challenges, card, host);
    if (memcmp(card, rsp + 21, 8) != 0)
        return 0;
    unhex("8482330010", cmd, sizeof(cmd));
    memcpy(cmd + 5, host, 8);
    chain_mac(l, cmd, 13);
    memcpy(cmd + 13, l->mcv, 8);
    ck_assert_uint_eq(apdu_raw(l, cmd, 21, rsp), 2);
    l->secure = rsp[0] == 0x90;
    l->every_command_counts = every_command_counts;
    return (uint16_t)(rsp[0] << 8 | rsp[1]);
}
