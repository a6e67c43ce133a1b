/* SPDX-License-Identifier: Apache-2.0 */
/* The parts that can be played, and the platform keys NXP published for fresh ones (AN12436, AN12973). */
#include "lower.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

enum { CONFIG_RSA = 0x0060, CONFIG_25519 = 0x000C, CONFIG_EC = 0x000F };

#define V3                                                                                                   \
    .version = { 3, 1, 1 }, .secure_box = 0x010B, .random_max = 880, .persistent_free = 31304,               \
    .transient_reset_free = 575, .transient_deselect_free = 560, .historical = "JCOP4 ATPO"
#define V7                                                                                                   \
    .version = { 7, 2, 0 }, .secure_box = 0xFFFF, .v7 = true, .every_command_counts = true,                  \
    .random_max = 1018, .historical = "JCOP4 SE051"
#define RAM_SE050E .persistent_free = 32767, .transient_reset_free = 796, .transient_deselect_free = 784
#define RAM_SE051  .persistent_free = 21000, .transient_reset_free = 605, .transient_deselect_free = 592

static const struct sim_personality personalities[] = {
    { .name = "3.1.1", V3, .config = 0x6FFF, .oef_id = 0xA1F4 },
    { .name = "3.1.1-se050a1", V3, .config = 0x6FFF & ~(CONFIG_RSA | CONFIG_25519), .oef_id = 0xA204 },
    { .name = "3.1.1-se050a2", V3, .config = 0x6FFF & ~(CONFIG_RSA | CONFIG_25519), .oef_id = 0xA205 },
    { .name = "3.1.1-se050b1", V3, .config = 0x6FFF & ~CONFIG_EC, .oef_id = 0xA202 },
    { .name = "3.1.1-se050b2", V3, .config = 0x6FFF & ~CONFIG_EC, .oef_id = 0xA203 },
    { .name = "3.1.1-se050c1", V3, .config = 0x6FFF, .oef_id = 0xA200 },
    { .name = "3.1.1-se050c2", V3, .config = 0x6FFF, .oef_id = 0xA201 },
    { .name = "3.6.0-se050f",
      .version = { 3, 6, 0 },
      .config = 0x61D2,
      .secure_box = 0x010B,
      .random_max = 880,
      .persistent_free = 31304,
      .transient_reset_free = 607,
      .transient_deselect_free = 592,
      .historical = "JCOP4 ATPO",
      .oef_id = 0xA92A,
      .platform_scp_required = true },
    { .name = "7.2.0", V7, RAM_SE051, .config = 0x3FFF, .oef_id = 0xA8FA },
    { .name = "7.2.0-se051a", V7, RAM_SE051, .config = 0x3FFF & ~CONFIG_RSA, .oef_id = 0xA920 },
    { .name = "7.2.0-se050e", V7, RAM_SE050E, .config = 0x3F9F, .oef_id = 0xA921 },
    { .name = "7.2.0-a5000", V7, RAM_SE050E, .config = 0x3F9F & ~CONFIG_25519, .oef_id = 0xA736 },
    { .name = "7.2.22-se052f",
      .version = { 7, 2, 0x16 },
      .config = 0x26F2,
      .secure_box = 0xFFFF,
      .v7 = true,
      .every_command_counts = true,
      .random_max = 1003,
      .persistent_free = 86336,
      .transient_reset_free = 1157,
      .transient_deselect_free = 1152,
      .historical = "JCOP4 SE051",
      .oef_id = 0xB501,
      .platform_scp_required = true },
};

static const struct {
    const char *part;
    uint16_t oef_id;
    const char *enc, *mac, *dek;
} published[] = {
    { "SE050A1", 0xA204, "34AE0967E329E9518E7265D5ADCC01C2", "52B253CADF472BDB3D0FB38E09770099",
      "ACC91431FE26811B5ECBC845620D8344" },
    { "SE050A2", 0xA205, "46A9C48C34EFE344A522E66744F8996A", "1203FF61DFBC9C86196A2274AEF4ED28",
      "F7561C6F48336119EE39439AAB34098E" },
    { "SE050B1", 0xA202, "D499BC90DEA542CF78D25E13D64CBB1F", "0815559643FB79EB8501A0DC833D901F",
      "BE7DDFB406E81AE4E9665A9FED64267C" },
    { "SE050B2", 0xA203, "5FA43D8202D25E9A85B1FE7E2D26478D", "105CEA2219F52BD167A07463C69379C3",
      "D7028157F2AD372C74BE969BCC390627" },
    { "SE050C1", 0xA200, "852B5962E9CCE5D0BE746B833BCC6287", "DB0AA319A408696C8E107AB4E3C26B47",
      "4C2F75C6A278A4AEE5C9AF7C50EEA80C" },
    { "SE050C2", 0xA201, "BD1DE20A81EAB2BF3B709A9D69A31254", "9A761B8DBA6BEDF22741E45D8D4236F5",
      "9B993B600F1C64F5ADC063192A96C947" },
    { "devkit", 0xA1F4, "35C256458958A34F6136155F8209D6CD", "AF177D5DBDF7C0D5C10A05B9F1607F78",
      "A1BC8438BF77935B361A4425FE79FA29" },
    { "SE051A2-early", 0xA565, "840A5D51795511C9CEF0C96FD2CBF041", "646BC2B8C3A4D9C1FA8D7116BE04FDFE",
      "03E6699ACA9426D9C38922F8914CE5F7" },
    { "SE051C2-early", 0xA564, "88DBCD65820D2AA06FFAB92AA8E79364", "A8644E2A04D9E9C8C0EA6086682999E5",
      "8A38723899881844E2C1513DACD9F80D" },
    { "SE050F2-early", 0xA77E, "9188DA8CF369CFA9A00891627B65345A", "CB20F809C7A03932BC203B0A01816C81",
      "278E619D83518E14C6F1E4FA968BE51C" },
    { "SE051C", 0xA8FA, "BFC2DBE1828E035D3E7FA36B902A05C6", "BEF85BD7BA0497D628781CE47B188C96",
      "D873F316BE297F2FC9C0E45F54710699" },
    { "SE051A", 0xA920, "88EA9FA686F3CF2FFCAF4B1CBA93E442", "4F163F59F07431F43EE2EE1834A52334",
      "D476CF47AA27B54AB3DBEBE7656D6770" },
    { "SE050E", 0xA921, "D2DB63E7A0A5AED72A6460C4DFDCAF64", "738D5B798ED241B0B24768514BFBA95B",
      "6702DAC30942B2C85E7F47B42CED4E7F" },
    { "A5000", 0xA736, "C9118500B5FFA1433A50226F489A0AA5", "29D2FE28F7FEEB153068BE381F61BC01",
      "6124D38402118060ED910360FC5A4278" },
    { "SE050F2", 0xA92A, "B50E1F12B81FE53B6C3B5387912A1A5A", "71936959D37F2B22C5A0C34919A2BC1F",
      "869593239854DC0D869900500CA79C15" },
    { "SE052F", 0xB501, "3AE441C747E32EBC16B3BB2D843C6DD8", "6C18F3D08FEE1CB96A3C8DE5D3538AAA",
      "B0E6A5697DBD929243A482CF9E4D6522" },
};

enum {
    PERSONALITIES = sizeof(personalities) / sizeof(personalities[0]),
    PUBLISHED = sizeof(published) / sizeof(published[0])
};

const struct sim_personality *personality_find(const char *name)
{
    for (size_t i = 0; i < PERSONALITIES; i++) {
        if (strcmp(personalities[i].name, name) == 0)
            return &personalities[i];
    }
    return NULL;
}

void personality_print(FILE *out)
{
    for (size_t i = 0; i < PERSONALITIES; i++) {
        fprintf(out, "  %-16s AppletConfig %04X, OEF id %04X%s\n", personalities[i].name,
                personalities[i].config, personalities[i].oef_id,
                personalities[i].platform_scp_required ? ", PlatformSCP03 required" : "");
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hex_decode(const char *text, uint8_t *out, size_t max)
{
    size_t n = 0;

    for (; *text != '\0'; text += 2) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

        if (low < 0 || n == max)
            return -1;
        out[n++] = (uint8_t)(high << 4 | low);
    }
    return (int)n;
}

static void take_published(size_t i, struct scp_keys *keys)
{
    *keys = (struct scp_keys){ .version = 0x0B, .len = 16 };
    (void)hex_decode(published[i].enc, keys->enc, 16);
    (void)hex_decode(published[i].mac, keys->mac, 16);
    (void)hex_decode(published[i].dek, keys->dek, 16);
}

bool personality_keys_by_oef(uint16_t oef_id, struct scp_keys *keys)
{
    for (size_t i = 0; i < PUBLISHED; i++) {
        if (published[i].oef_id == oef_id) {
            take_published(i, keys);
            return true;
        }
    }
    return false;
}

bool personality_keys(const char *part, struct scp_keys *keys)
{
    uint8_t oef[2];

    for (size_t i = 0; i < PUBLISHED; i++) {
        if (strcasecmp(published[i].part, part) == 0) {
            take_published(i, keys);
            return true;
        }
    }
    return hex_decode(part, oef, sizeof(oef)) == 2 &&
           personality_keys_by_oef((uint16_t)(oef[0] << 8 | oef[1]), keys);
}

static const char *take_line(char *line, struct scp_keys *keys)
{
    char *save, *name = strtok_r(line, " \t=:\r\n", &save), *hex = strtok_r(NULL, " \t=:\r\n", &save);
    uint8_t *target;
    int len;

    if (name == NULL || *name == '#')
        return NULL;
    target = strcasecmp(name, "ENC") == 0   ? keys->enc
             : strcasecmp(name, "MAC") == 0 ? keys->mac
             : strcasecmp(name, "DEK") == 0 ? keys->dek
                                            : NULL;
    if (target == NULL || hex == NULL)
        return "expected lines ENC, MAC, DEK with a key in hexadecimal";
    len = hex_decode(hex, target, SCP_KEY_MAX);
    if (len != 16 && len != 24 && len != 32)
        return "a key has 16, 24 or 32 bytes";
    if (keys->len != 0 && keys->len != (size_t)len)
        return "the three keys must have one length";
    keys->len = (size_t)len;
    return NULL;
}

const char *keys_read_file(const char *path, struct scp_keys *keys)
{
    FILE *f = fopen(path, "re");
    const char *wrong = NULL;
    char line[256];

    if (f == NULL)
        return "cannot be opened";
    *keys = (struct scp_keys){ .version = 0x0B };
    while (wrong == NULL && fgets(line, sizeof(line), f) != NULL)
        wrong = take_line(line, keys);
    OPENSSL_cleanse(line, sizeof(line));
    (void)fclose(f);
    return wrong != NULL || keys->len != 0 ? wrong : "no keys in it";
}
