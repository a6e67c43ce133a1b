/* SPDX-License-Identifier: Apache-2.0 */
/* se05x-sim: options, and the parts put together. */
#include "lower.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

enum { TIMES_MAX = 64 };

struct options {
    const char *socket_path, *nvm_path, *trace_path, *summary_path, *scp_keys;
    struct sim_personality personality;
    bool chip_timing, fixed;
    uint8_t challenge[8];
    uint32_t hz;
    unsigned address, busy_nacks, others[BUS_OTHERS_MAX];
    size_t other_count;
    const char *times[TIMES_MAX];
    size_t time_count;
};

enum option_code {
    OPT_SOCKET = 1,
    OPT_NVM,
    OPT_APPLET,
    OPT_SCP03,
    OPT_SCP_KEYS,
    OPT_CHALLENGE,
    OPT_HZ,
    OPT_TIMING,
    OPT_TIME,
    OPT_FAULT,
    OPT_TRACE,
    OPT_ADDRESS,
    OPT_BUSY,
    OPT_SUMMARY,
    OPT_OTHER,
    OPT_CONFIG,
    OPT_SECUREBOX,
    OPT_HISTORICAL,
    OPT_SELF_TEST,
    OPT_HELP
};

static const struct option long_options[] = {
    { "socket", required_argument, NULL, OPT_SOCKET },
    { "nvm", required_argument, NULL, OPT_NVM },
    { "applet", required_argument, NULL, OPT_APPLET },
    { "scp03", no_argument, NULL, OPT_SCP03 },
    { "scp-keys", required_argument, NULL, OPT_SCP_KEYS },
    { "fixed-challenge", required_argument, NULL, OPT_CHALLENGE },
    { "bus-hz", required_argument, NULL, OPT_HZ },
    { "chip-timing", no_argument, NULL, OPT_TIMING },
    { "time", required_argument, NULL, OPT_TIME },
    { "fault", required_argument, NULL, OPT_FAULT },
    { "trace", required_argument, NULL, OPT_TRACE },
    { "address", required_argument, NULL, OPT_ADDRESS },
    { "busy-nacks", required_argument, NULL, OPT_BUSY },
    { "summary", required_argument, NULL, OPT_SUMMARY },
    { "other", required_argument, NULL, OPT_OTHER },
    { "config", required_argument, NULL, OPT_CONFIG },
    { "securebox", required_argument, NULL, OPT_SECUREBOX },
    { "historical", required_argument, NULL, OPT_HISTORICAL },
    { "self-test", no_argument, NULL, OPT_SELF_TEST },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static void print_help(void)
{
    puts("Usage: se05x-sim --socket PATH --nvm FILE [options]\n"
         "\n"
         "Plays an NXP SE05x on an I2C bus that others open through the UNIX socket PATH (sim/README.md).\n"
         "\n"
         "  --socket PATH           listen here; one line \"ready\" on stdout when connections are taken\n"
         "  --nvm FILE              persistent state; made if missing\n"
         "  --applet NAME           the part to play, below (default 3.1.1)\n"
         "  --scp03                 PlatformSCP03 is required\n"
         "  --scp-keys FILE|PART    platform keys of a fresh chip: lines ENC, MAC, DEK with hexadecimal "
         "keys, or the\n"
         "                          name or OEF id of a part with published ones (default: by --applet)\n"
         "  --fixed-challenge HEX   every card challenge (8 bytes)\n"
         "  --bus-hz N              messages take the time they would at N bit/s (default: none)\n"
         "  --chip-timing           commands take the time a chip would\n"
         "  --time NAME=US          change one time, in microseconds; names below\n"
         "  --busy-nacks N          N polls are refused after each command, whatever the clock says\n"
         "  --address ADDR          7-bit address of the chip (default 0x48)\n"
         "  --other ADDR            a second device (registers, WHO_AM_I 0x33 at 0x0F); may be repeated\n"
         "  --config HEX --securebox HEX --historical TEXT\n"
         "                          AppletConfig, SecureBox version and ATR text instead of the part's own\n"
         "  --fault SPEC            a fault, below; may be repeated\n"
         "  --trace FILE            log every message and command\n"
         "  --summary FILE          counters at the end go to FILE instead of stdout\n"
         "  --self-test             check the arithmetic against known values, then exit\n"
         "\n"
         "SIGTERM, SIGINT: end. SIGHUP: reset the chip by its enable pin.\n"
         "\n"
         "Parts:");
    personality_print(stdout);
    fputc('\n', stdout);
    fault_print_grammar(stdout);
    puts("\nTimes (microseconds):");
    card_print_times();
    applet_print_times();
}

static bool parse_unsigned(const char *text, int base, unsigned long max, unsigned long *value)
{
    char *end;

    *value = strtoul(text, &end, base);
    return *text >= '0' && *text != '\0' && *end == '\0' && *value <= max;
}

static bool take_applet(struct options *o, const char *name)
{
    const struct sim_personality *p = personality_find(name);

    if (p != NULL)
        o->personality = *p;
    return p != NULL;
}

static bool take_fault(const char *spec)
{
    const char *wrong = fault_add(spec);

    if (wrong != NULL)
        fprintf(stderr, "se05x-sim: --fault %s: %s\n", spec, wrong);
    return wrong == NULL;
}

static bool take_number(struct options *o, int code, const char *text)
{
    unsigned long n;
    bool hex = code == OPT_CONFIG || code == OPT_SECUREBOX;
    unsigned long max = code == OPT_HZ ? 10000000 : code == OPT_ADDRESS || code == OPT_OTHER ? 0x7F : 0xFFFF;

    if (!parse_unsigned(text, hex ? 16 : 0, max, &n))
        return false;
    if (code == OPT_HZ)
        o->hz = (uint32_t)n;
    else if (code == OPT_ADDRESS)
        o->address = (unsigned)n;
    else if (code == OPT_BUSY)
        o->busy_nacks = (unsigned)n;
    else if (code == OPT_CONFIG)
        o->personality.config = (uint16_t)n;
    else if (code == OPT_SECUREBOX)
        o->personality.secure_box = (uint16_t)n;
    else if (o->other_count < BUS_OTHERS_MAX)
        o->others[o->other_count++] = (unsigned)n;
    else
        return false;
    return true;
}

static bool take_option(struct options *o, int code, const char *text)
{
    switch (code) {
    case OPT_SOCKET:
        o->socket_path = text;
        return true;
    case OPT_NVM:
        o->nvm_path = text;
        return true;
    case OPT_APPLET:
        return true; /* taken before all others, which change parts of it */
    case OPT_SCP03:
        o->personality.platform_scp_required = true;
        return true;
    case OPT_SCP_KEYS:
        o->scp_keys = text;
        return true;
    case OPT_CHALLENGE:
        o->fixed = true;
        return hex_decode(text, o->challenge, sizeof(o->challenge)) == sizeof(o->challenge);
    case OPT_TIMING:
        o->chip_timing = true;
        return true;
    case OPT_TIME:
        if (o->time_count == TIMES_MAX)
            return false;
        o->times[o->time_count++] = text;
        return true;
    case OPT_FAULT:
        return take_fault(text);
    case OPT_TRACE:
        o->trace_path = text;
        return true;
    case OPT_SUMMARY:
        o->summary_path = text;
        return true;
    case OPT_HISTORICAL:
        o->personality.historical = text;
        return true;
    default:
        return take_number(o, code, text);
    }
}

static int usage(const char *what)
{
    fprintf(stderr, "se05x-sim: %s; see se05x-sim --help\n", what);
    return 2;
}

/* @return -1: go on; else exit status */
static int parse_options(struct options *o, int argc, char **argv)
{
    char wrong[256];
    int code, index = 0;

    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (code == '?')
            return 2;
        if (code == OPT_APPLET && !take_applet(o, optarg))
            return usage("no such --applet");
        if (code == OPT_HELP) {
            print_help();
            return 0;
        }
        if (code == OPT_SELF_TEST)
            return self_test();
    }
    optind = 1;
    while ((code = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (!take_option(o, code, optarg)) {
            snprintf(wrong, sizeof(wrong), "bad value for --%s", long_options[index].name);
            return usage(wrong);
        }
    }
    if (optind < argc)
        return usage("only options are taken");
    return o->socket_path == NULL || o->nvm_path == NULL ? usage("--socket and --nvm are needed") : -1;
}

static bool choose_keys(const struct options *o, struct scp_keys *keys)
{
    const char *wrong;

    if (o->scp_keys == NULL)
        return personality_keys_by_oef(o->personality.oef_id, keys);
    if (personality_keys(o->scp_keys, keys))
        return true;
    wrong = keys_read_file(o->scp_keys, keys);
    if (wrong != NULL)
        fprintf(stderr, "se05x-sim: --scp-keys %s: neither a part nor a key file: %s\n", o->scp_keys, wrong);
    return wrong == NULL;
}

static bool set_times(const struct options *o, struct applet *applet)
{
    for (size_t i = 0; i < o->time_count; i++) {
        if (!card_set_time(o->times[i]) && !applet_set_time(applet, o->times[i])) {
            fprintf(stderr, "se05x-sim: --time %s: no such name, or not a number\n", o->times[i]);
            return false;
        }
    }
    return true;
}

static void print_summary(const char *path)
{
    FILE *f = path == NULL ? stdout : fopen(path, "we");

    if (f == NULL) {
        fprintf(stderr, "se05x-sim: --summary %s cannot be written\n", path);
        return;
    }
    stats_print(f);
    if (f == stdout)
        (void)fflush(f);
    else
        (void)fclose(f);
}

static int run(const struct options *o, const struct scp_keys *keys)
{
    struct applet *applet = applet_new(&o->personality, o->nvm_path);
    struct card *card = NULL;
    struct t1_target *chip = NULL;
    struct bus *bus = NULL;
    int status = 1;

    if (applet == NULL || !set_times(o, applet))
        goto out;
    card = card_new(&o->personality, applet, keys, o->fixed ? o->challenge : NULL);
    chip = card == NULL ? NULL : t1_target_new(&o->personality, card);
    bus = chip == NULL ? NULL : bus_new(chip, o->address, o->hz);
    if (bus == NULL)
        goto out;
    t1_target_set_timing(chip, o->hz, o->chip_timing, o->busy_nacks);
    for (size_t i = 0; i < o->other_count; i++) {
        if (!bus_add_other(bus, o->others[i])) {
            fprintf(stderr, "se05x-sim: --other 0x%02x: the chip's own address\n", o->others[i]);
            goto out;
        }
    }
    status = server_run(o->socket_path, bus, card);
    if (status == 0)
        print_summary(o->summary_path);
out:
    bus_free(bus);
    t1_target_free(chip);
    card_free(card);
    applet_free(applet);
    return status;
}

int main(int argc, char **argv)
{
    struct options o = { .address = 0x48, .personality = *personality_find("3.1.1") };
    struct scp_keys keys = { 0 };
    int status = parse_options(&o, argc, argv);

    if (status >= 0)
        return status;
    if (o.trace_path != NULL && !trace_open(o.trace_path)) {
        fprintf(stderr, "se05x-sim: --trace %s cannot be written\n", o.trace_path);
        return 1;
    }
    status = choose_keys(&o, &keys) ? run(&o, &keys) : 1;
    OPENSSL_cleanse(&keys, sizeof(keys));
    trace_close();
    return status;
}
