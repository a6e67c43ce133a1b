/* SPDX-License-Identifier: Apache-2.0 */
/* --self-test: the frames and the SCP03 vector of the reference (1.4, 5.3), byte for byte. */
#include "lower.h"

#include <string.h>

static unsigned failures;

static void check(const char *what, const uint8_t *got, size_t len, const char *expected_hex)
{
    uint8_t expected[512];
    int expected_len = hex_decode(expected_hex, expected, sizeof(expected));

    if (expected_len < 0 || (size_t)expected_len != len || memcmp(got, expected, len) != 0) {
        fprintf(stderr, "self-test: %s differs\n", what);
        failures++;
    }
}

static void check_frames(void)
{
    static const char *const frames[] = {
        "5AC000FFFC",
        "A5E0003F19",
        "5AC101FE09A2",
        "A5E101FEE064",
        "5AC2004FCF",
        "A5E2008F2A",
        "A5C301011BDD",
        "5AE30101F21B",
        "5AC5004782",
        "A5E5008767",
        "5AC6002FA8",
        "A5E600EF4D",
        "5AC700F7B1",
        "5ACF00377F",
        "5ADF00A6EA",
        "A5FF00660F",
        "5A800099BA",
        "5A810041A3",
        "5A82002989",
        "5A9000082F",
        "5A9100D036",
        "5A9200B81C",
        "A580006A7C",
        "A59000FBE9",
        "A58100B265",
        "5A20028004BE06",
        "5A400580040020002293",
        "A5E72300A0000003960403E800FE020B03E80801000000006400000A4A434F5034204154504F2A8D",
        "A5EF2300A0000003960403E800FE020B03E80801000000006400000A4A434F5034204154504F8777",
        "5A001600A4040010A000000396545300000001030000000000A8C8",
        "A500090301016FFF010B9000CC8B",
        "A500090702003F9FFFFF9000C276",
        "5A400D800400490000044102001000006408",
        "5A400A80040049044102001000B1FD",
    };
    uint8_t frame[300];

    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        int len = hex_decode(frames[i], frame, sizeof(frame));
        uint16_t crc = len < 5 ? 0 : t1_crc(frame, (size_t)len - 2);

        if (len < 5 || frame[len - 2] != (crc & 0xFF) || frame[len - 1] != crc >> 8) {
            fprintf(stderr, "self-test: CRC of frame %s\n", frames[i]);
            failures++;
        }
    }
}

static void check_kdf(void)
{
    struct scp_keys keys = { .version = 0x0B, .len = 16 };
    uint8_t context[16], cryptogram[8];
    struct scp s = { .state = SCP_CLOSED };

    for (uint8_t i = 0; i < 16; i++) {
        keys.enc[i] = keys.mac[i] = i;
        context[i] = (uint8_t)(0x10 + i);
    }
    if (!scp_begin(&s, &keys, context, context + 8, cryptogram))
        failures++;
    check("KDF, constant 04", s.enc, 16, "769D7643FF743806CF840C19B0877CD8");
    check("KDF, constant 06", s.mac, 16, "EF5625BF4F1F72D72B000646539A48B3");
    scp_close(&s);
}

/* One command of the vector: unwrap, compare the plain command, wrap the plain answer, compare. */
static void exchange(struct scp *s, const char *command_hex, const char *plain_hex, const char *answer_hex,
                     const char *wrapped_hex)
{
    uint8_t command[256], plain[SIM_APDU_MAX];
    int len = hex_decode(command_hex, command, sizeof(command));
    struct sim_apdu apdu;
    struct sim_out out = { .len = 0 };

    if (len < 0 || apdu_parse(command, (size_t)len, &apdu) != SW_OK || scp_unwrap(s, &apdu, plain) != SW_OK) {
        fprintf(stderr, "self-test: command %s refused\n", command_hex);
        failures++;
        return;
    }
    check("unwrapped command", apdu.whole.ptr, apdu.whole.len, plain_hex);
    out.len = (size_t)hex_decode(answer_hex, out.data, sizeof(out.data));
    if (!scp_wrap(s, &out, SW_OK))
        failures++;
    check("wrapped answer", out.data, out.len, wrapped_hex);
}

static void check_channel(void)
{
    static const uint8_t host[8] = { 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7 };
    static const uint8_t card[8] = { 0x4E, 0xCD, 0x90, 0x6D, 0x32, 0x5D, 0x3D, 0x8A };
    struct scp s = { .every_command_counts = true };
    struct scp_keys keys;
    struct sim_apdu apdu;
    uint8_t cryptogram[8], command[32], kcv[9];
    int len = hex_decode("8482330010AD5E484A81D592D9253FD658601447E9", command, sizeof(command));

    if (!personality_keys("SE050E", &keys) || !scp_begin(&s, &keys, host, card, cryptogram) ||
        !scp_key_check_value(keys.enc, 16, kcv) || !scp_key_check_value(keys.mac, 16, kcv + 3) ||
        !scp_key_check_value(keys.dek, 16, kcv + 6))
        failures++;
    check("key check values", kcv, sizeof(kcv), "74FBDF8B5E16B584F5");
    check("S-ENC", s.enc, 16, "CB15CC71072B273BD9F9CD943390D56A");
    check("S-MAC", s.mac, 16, "260B4454B2FEFC55D9768FCBF5ED749F");
    check("S-RMAC", s.rmac, 16, "FE5E4E39C9D7282E3B4F148D25CB6C90");
    check("card cryptogram", cryptogram, 8, "F7BE9F05EAA0A661");
    if (apdu_parse(command, (size_t)len, &apdu) != SW_OK || scp_authenticate(&s, &apdu) != SW_OK)
        failures++;
    check("MAC chaining value", s.mcv, 16, "253FD658601447E904D5528DCEB9DE1D");
    exchange(&s, "8404002008844EE0BB94921979", "80040020", "41070702003F9FFFFF",
             "D7D063B6A5D9C0DB48ADD46D05387AC67E62FD1023CA2957");
    exchange(&s,
             "84040049000018"
             "39D95CA1094D599D56E1B01E5DFF2C1A"
             "DF14DB1C62CD6D9A"
             "0000",
             "80040049000004"
             "41020010",
             "41820010"
             "000102030405060708090A0B0C0D0E0F",
             "B46105B90750F29059C8399419BF5A6A29F37C70E4A35E434FC45594716B6D1D25E906A014E74FFE");
    exchange(&s, "840400281823C9EA410EFCC7C8724EA66F4FE5853F9AA9D5092187AAF0",
             "80040028"
             "06"
             "410400001234",
             "", "8187C238B03DC8FA");
    scp_close(&s);
}

int self_test(void)
{
    check_frames();
    check_kdf();
    check_channel();
    if (failures == 0)
        puts("self-test passed");
    return failures == 0 ? 0 : 1;
}
