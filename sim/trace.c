/* SPDX-License-Identifier: Apache-2.0 */
/* What happened: counters, the names of commands, the last commands, and the log of every transaction. */
#include "lower.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

enum { NAMES_MAX = 192, NAME_LEN = 48, RECENT_MAX = 1024 };

struct sim_stats sim_stats;

static FILE *log_file;
static struct {
    char name[NAME_LEN];
    uint64_t count, us;
} counts[NAMES_MAX];
static size_t count_used;
static struct {
    char name[NAME_LEN];
    uint16_t sw;
    uint64_t us;
} recent[RECENT_MAX];

/* ---- names ------------------------------------------------------------------------------------------ */

enum { ANY = 0xFF };
/* P1 is compared without its key-part bits, INS without its flags (2.2) */
static const struct {
    uint8_t ins, p1, p2;
    const char *name;
} names[] = {
    { 0x01, 0x01, ANY, "WriteECKey" },
    { 0x01, 0x02, ANY, "WriteRSAKey" },
    { 0x01, 0x03, ANY, "WriteSymmKey-AES" },
    { 0x01, 0x04, ANY, "WriteSymmKey-DES" },
    { 0x01, 0x05, ANY, "WriteSymmKey-HMAC" },
    { 0x01, 0x06, ANY, "WriteBinary" },
    { 0x01, 0x07, ANY, "WriteUserID" },
    { 0x01, 0x08, ANY, "WriteCounter" },
    { 0x01, 0x09, ANY, "WritePCR" },
    { 0x01, 0x0B, 0x04, "CreateECCurve" },
    { 0x01, 0x0B, 0x40, "SetECCurveParam" },
    { 0x01, 0x10, ANY, "CreateCryptoObject" },
    { 0x01, 0x00, 0x18, "ImportObject" },
    { 0x02, 0x00, 0x00, "ReadObject" },
    { 0x02, 0x00, 0x07, "ReadSize" },
    { 0x02, 0x00, 0x19, "ExportObject" },
    { 0x02, 0x00, 0x25, "ReadIDList" },
    { 0x02, 0x00, 0x26, "ReadType" },
    { 0x02, 0x00, 0x3B, "ReadObjectAttributes" },
    { 0x02, 0x00, 0x5B, "ReadState" },
    { 0x02, 0x0B, 0x25, "ReadECCurveList" },
    { 0x02, 0x0B, 0x36, "GetECCurveId" },
    { 0x02, 0x10, 0x25, "ReadCryptoObjectList" },
    { 0x03, 0x0C, 0x09, "Sign" },
    { 0x03, 0x0C, 0x0A, "Verify" },
    { 0x03, 0x01, 0x0F, "ECDH" },
    { 0x03, 0x01, 0x59, "ECDH-Reverse" },
    { 0x03, 0x01, 0x62, "ECPointMultiply" },
    { 0x03, 0x02, 0x37, "RSAEncrypt" },
    { 0x03, 0x02, 0x38, "RSADecrypt" },
    { 0x03, 0x0E, 0x37, "CipherOneShot-Encrypt" },
    { 0x03, 0x0E, 0x38, "CipherOneShot-Decrypt" },
    { 0x03, 0x0E, 0x42, "CipherInit-Encrypt" },
    { 0x03, 0x0E, 0x43, "CipherInit-Decrypt" },
    { 0x03, 0x0E, 0x0C, "CipherUpdate" },
    { 0x03, 0x0E, 0x0D, "CipherFinal" },
    { 0x03, 0x0D, 0x03, "MACInit" },
    { 0x03, 0x0D, 0x44, "MACInit-Validate" },
    { 0x03, 0x0D, 0x0C, "MACUpdate" },
    { 0x03, 0x0D, 0x0D, "MACFinal" },
    { 0x03, 0x0D, 0x45, "MACOneShot" },
    { 0x03, 0x0D, 0x46, "MACOneShot-Validate" },
    { 0x03, 0x11, 0x37, "AeadOneShot-Encrypt" },
    { 0x03, 0x11, 0x38, "AeadOneShot-Decrypt" },
    { 0x03, 0x11, 0x42, "AeadInit-Encrypt" },
    { 0x03, 0x11, 0x43, "AeadInit-Decrypt" },
    { 0x03, 0x11, 0x0C, "AeadUpdate" },
    { 0x03, 0x11, 0x0D, "AeadFinal" },
    { 0x03, 0x12, ANY, "AeadChipIV" },
    { 0x03, 0x0F, 0x49, "TLSGenerateRandom" },
    { 0x03, 0x0F, 0x4A, "TLSCalculatePreMasterSecret" },
    { 0x03, 0x0F, ANY, "TLSPerformPRF" },
    { 0x03, 0x00, 0x0B, "DigestInit" },
    { 0x03, 0x00, 0x0C, "DigestUpdate" },
    { 0x03, 0x00, 0x0D, "DigestFinal" },
    { 0x03, 0x00, 0x0E, "DigestOneShot" },
    { 0x03, 0x00, 0x2D, "HKDF" },
    { 0x03, 0x00, 0x2F, "HKDF-ExpandOnly" },
    { 0x03, 0x00, 0x2E, "PBKDF2" },
    { 0x03, 0x00, 0x30, "I2CM" },
    { 0x04, 0x00, 0x1B, "CreateSession" },
    { 0x04, 0x00, 0x1C, "CloseSession" },
    { 0x04, 0x00, 0x1E, "RefreshSession" },
    { 0x04, 0x00, 0x1F, "ExchangeSessionData" },
    { 0x04, 0x00, 0x2C, "VerifySessionUserID" },
    { 0x04, 0x00, 0x20, "GetVersion" },
    { 0x04, 0x00, 0x21, "GetExtVersion" },
    { 0x04, 0x00, 0x22, "GetFreeMemory" },
    { 0x04, 0x00, 0x27, "CheckObjectExists" },
    { 0x04, 0x00, 0x28, "DeleteSecureObject" },
    { 0x04, 0x00, 0x2A, "DeleteAll" },
    { 0x04, 0x00, 0x3D, "GetTimestamp" },
    { 0x04, 0x00, 0x3E, "SetLockState" },
    { 0x04, 0x00, 0x3F, "SetAppletFeatures" },
    { 0x04, 0x00, 0x49, "GetRandom" },
    { 0x04, 0x00, 0x52, "SetPlatformSCPRequest" },
    { 0x04, 0x00, 0x55, "SendCardManagerCmd" },
    { 0x04, 0x00, 0x57, "DisableObjCreation" },
    { 0x04, 0x00, 0x58, "TriggerSelfTest" },
    { 0x04, 0x0B, 0x28, "DeleteECCurve" },
    { 0x04, 0x10, 0x28, "DeleteCryptoObject" },
    { 0x05, 0x00, 0x00, "PROCESS" },
    { 0x06, 0x00, 0x00, "ImportExternalObject" },
};

static const char *platform_name(const struct sim_apdu *a)
{
    switch (a->ins) {
    case 0x50:
        return "INITIALIZE-UPDATE";
    case 0x82:
        return "EXTERNAL-AUTHENTICATE";
    case 0x88:
        return "INTERNAL-AUTHENTICATE";
    case 0xA4:
        return "SELECT";
    case 0xCA:
        return "GET-DATA";
    case 0xD8:
        return "PUT-KEY";
    default:
        return NULL;
    }
}

const char *apdu_name(const struct sim_apdu *a)
{
    const char *name = platform_name(a);

    if (name != NULL)
        return name;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].ins == (a->ins & 0x1F) && names[i].p1 == (a->p1 & 0x1F) &&
            (names[i].p2 == ANY || names[i].p2 == a->p2))
            return names[i].name;
    }
    return "unknown";
}

/* ---- counters --------------------------------------------------------------------------------------- */

static void count_name(const char *name, uint64_t us)
{
    size_t i = 0;

    while (i < count_used && strcmp(counts[i].name, name) != 0)
        i++;
    if (i == NAMES_MAX)
        return;
    if (i == count_used)
        snprintf(counts[count_used++].name, NAME_LEN, "%s", name);
    counts[i].count++;
    counts[i].us += us;
}

void stats_apdu(const struct sim_apdu *apdu, bool in_session, uint16_t sw, uint64_t chip_us)
{
    size_t slot = sim_stats.apdus % RECENT_MAX;

    snprintf(recent[slot].name, NAME_LEN, "%s%s", in_session ? "session/" : "", apdu_name(apdu));
    recent[slot].sw = sw;
    recent[slot].us = chip_us;
    count_name(recent[slot].name, chip_us);
    sim_stats.apdus++;
    sim_stats.chip_us += chip_us;
}

void stats_print(FILE *out)
{
    const struct sim_stats *s = &sim_stats;
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        { "transactions", s->messages },
        { "writes", s->writes },
        { "reads", s->reads },
        { "nacks", s->nacks },
        { "data-nacks", s->data_nacks },
        { "disturbed", s->disturbed },
        { "bytes-to-chip", s->bytes_out },
        { "bytes-from-chip", s->bytes_in },
        { "bus-bits", s->bits },
        { "bus-us", s->bus_us },
        { "chip-us", s->chip_us },
        { "blocks-to-chip", s->blocks_in },
        { "blocks-from-chip", s->blocks_out },
        { "bad-blocks", s->bad_blocks },
        { "wtx", s->wtx },
        { "resyncs", s->resyncs },
        { "resets", s->resets },
        { "power-cuts", s->power_cuts },
        { "empty-frames", s->empty_frames },
        { "repeated-starts", s->repeated_starts },
        { "faults", s->faults },
        { "other-transactions", s->other_messages },
        { "apdus", s->apdus },
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        fprintf(out, "%s: %" PRIu64 "\n", lines[i].name, lines[i].value);
    for (size_t i = 0; i < count_used; i++)
        fprintf(out, "apdu %s: %" PRIu64 "\n", counts[i].name, counts[i].count);
}

void stats_print_recent(FILE *out, size_t n)
{
    uint64_t kept = sim_stats.apdus < RECENT_MAX ? sim_stats.apdus : RECENT_MAX;

    if (n > kept)
        n = kept;
    for (uint64_t i = sim_stats.apdus - n; i < sim_stats.apdus; i++) {
        size_t slot = i % RECENT_MAX;

        fprintf(out, "%s %04X %" PRIu64 "\n", recent[slot].name, recent[slot].sw, recent[slot].us);
    }
}

void stats_clear(void)
{
    sim_stats = (struct sim_stats){ .messages = 0 };
    memset(counts, 0, sizeof(counts));
    count_used = 0;
}

/* ---- the log ---------------------------------------------------------------------------------------- */

bool trace_open(const char *path)
{
    log_file = fopen(path, "we");
    if (log_file == NULL)
        return false;
    (void)setvbuf(log_file, NULL, _IOLBF, 0);
    return true;
}

void trace_close(void)
{
    if (log_file != NULL)
        (void)fclose(log_file);
    log_file = NULL;
}

void trace_flush(void)
{
    if (log_file != NULL)
        (void)fflush(log_file);
}

static void stamp(uint64_t now_us)
{
    if (now_us == 0)
        now_us = clock_us();
    fprintf(log_file, "%" PRIu64 ".%06u ", now_us / 1000000, (unsigned)(now_us % 1000000));
}

void trace_bytes(uint64_t now_us, const char *what, const uint8_t *ptr, size_t len, const char *note)
{
    if (log_file == NULL)
        return;
    stamp(now_us);
    fprintf(log_file, "%s", what);
    if (len != 0)
        fputc(' ', log_file);
    for (size_t i = 0; i < len; i++)
        fprintf(log_file, "%02X", ptr[i]);
    fprintf(log_file, "%s%s\n", *note != '\0' ? " " : "", note);
}

void trace_note(uint64_t now_us, const char *format, ...)
{
    va_list args;

    if (log_file == NULL)
        return;
    stamp(now_us);
    va_start(args, format);
    vfprintf(log_file, format, args);
    va_end(args);
    fputc('\n', log_file);
}
