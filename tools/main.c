/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl: the table of commands, the command line, and the one line on stderr when something fails. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "tool.h"

#define GLOBAL_USAGE "[-t|--token SPEC] [--config FILE] [--pin-source SOURCE] [--json] [--help] [--version]"

static const struct command commands[] = {
    { "token init",
      "[--label LABEL] [--generate-pin] [--no-pin] [--pin-file PATH] [--so-pin-source SOURCE] [--group "
      "GROUP] "
      "[--mode OCTAL] [--kdf-memory SIZE] [--pin-tries N] [--force]",
      "make a new token", 0, 0, cmd_token_init },
    { "token info", "", "show the token: label, PIN tries left, format", 0, 0, cmd_token_info },
    { "token list", "", "list the configured tokens and whether they open", 0, 0, cmd_token_list },
    { "key generate", "NAME --type TYPE [--id HEX] [--usage LIST] [--extractable] [--protect]",
      "make a key inside the token", 1, 1, cmd_key_generate },
    { "key import", "NAME FILE [--passin SOURCE] [--id HEX] [--usage LIST] [--extractable] [--protect]",
      "copy a private key (PEM or DER, - is standard input) into the token", 2, 2, cmd_key_import },
    { "key list", "", "list the keys", 0, 0, cmd_key_list },
    { "key show", "NAME [--pubout] [-o FILE]", "show one key, or its public half as PEM", 1, 1,
      cmd_key_show },
    { "key ref", "NAME [-o FILE]", "write the PEM reference that programs take as key file", 1, 1,
      cmd_key_ref },
    { "key export", "NAME --passout SOURCE | --plain [-o FILE]",
      "write an extractable private key as PKCS#8 PEM", 1, 1, cmd_key_export },
    { "key delete", "NAME [--yes] [--so-pin-source SOURCE]", "destroy a key for good", 1, 1, cmd_key_delete },
    { "key attest", "NAME [--challenge HEX] [-o FILE] [--ca FILE]",
      "have the token prove that the key was made in it, and check that", 1, 1, cmd_key_attest },
    { "cert put", "NAME FILE [--id HEX]", "store a certificate (PEM or DER)", 2, 2, cmd_cert_put },
    { "cert get", "NAME [--der] [-o FILE]", "write a certificate", 1, 1, cmd_cert_get },
    { "cert list", "", "list the certificates", 0, 0, cmd_cert_list },
    { "cert delete", "NAME [--yes]", "delete a certificate", 1, 1, cmd_cert_delete },
    { "data put", "NAME FILE [--id HEX]", "store a data object", 2, 2, cmd_data_put },
    { "data get", "NAME [-o FILE]", "write a data object", 1, 1, cmd_data_get },
    { "data list", "", "list the data objects", 0, 0, cmd_data_list },
    { "data delete", "NAME [--yes]", "delete a data object", 1, 1, cmd_data_delete },
    { "counter create", "NAME [--value N]", "make a counter that only goes up", 1, 1, cmd_counter_create },
    { "counter get", "NAME", "print a counter", 1, 1, cmd_counter_get },
    { "counter increment", "NAME", "add one and print the new value", 1, 1, cmd_counter_increment },
    { "counter list", "", "list the counters", 0, 0, cmd_counter_list },
    { "counter delete", "NAME [--yes]", "delete a counter", 1, 1, cmd_counter_delete },
    { "random", "N [--hex] [-o FILE]", "write N random bytes from the token", 1, 1, cmd_random },
    { "pin init", "[--so-pin-source SOURCE] [--new-pin-source SOURCE] [--generate-pin] [--pin-file PATH]",
      "set the user PIN with the SO PIN (same as unblock)", 0, 0, cmd_pin_unblock },
    { "pin change",
      "[--so] [--so-pin-source SOURCE] [--new-pin-source SOURCE] [--generate-pin] [--pin-file PATH]",
      "change the user PIN, or with --so the SO PIN", 0, 0, cmd_pin_change },
    { "pin unblock", "[--so-pin-source SOURCE] [--new-pin-source SOURCE] [--generate-pin] [--pin-file PATH]",
      "set a new user PIN with the SO PIN and clear the retry counter", 0, 0, cmd_pin_unblock },
    { "bus scan", "[PATH]", "list the I2C buses, or what answers on one", 0, 1, cmd_bus_scan },
    { "se05x info", "", "show applet, channel and features of the chip", 0, 0, cmd_se05x },
    { "se05x identify", "", "show the exact part", 0, 0, cmd_se05x },
    { "se05x objects", "", "list every object on the chip by its number", 0, 0, cmd_se05x },
    { "se05x stats", "", "show the bus traffic of opening the token", 0, 0, cmd_se05x },
    { "se05x reset", "", "reset the chip and bring it up again", 0, 0, cmd_se05x },
    { "se05x rotate-keys", "FILE [--yes]",
      "replace the chip's platform keys, for good; FILE gets the new ones", 1, 1, cmd_se05x_rotate_keys },
    { "doctor", "[--user NAME]", "find what is wrong with the configuration and say the remedy", 0, 0,
      cmd_doctor },
    { "selftest", "", "make, use and delete a temporary key of each type", 0, 0, cmd_selftest },
};

struct option_def {
    const char *name;
    char letter;
    bool global, takes_value;
    size_t offset; /* of a const char * or a bool in struct options */
};

/* clang-format off */
#define OPTION(text, letter, global, field)                                                                  \
    { text, letter, global, true, offsetof(struct options, field) }
#define SWITCH(text, letter, global, field)                                                                  \
    { text, letter, global, false, offsetof(struct options, field) }
/* clang-format on */

static const struct option_def option_defs[] = {
    OPTION("--token", 't', true, token),
    OPTION("--config", 0, true, config),
    OPTION("--pin-source", 0, true, pin_source),
    SWITCH("--json", 0, true, json),
    SWITCH("--help", 'h', true, help),
    SWITCH("--version", 'V', true, version),
    OPTION("--label", 0, false, label),
    OPTION("--pin-file", 0, false, pin_file),
    OPTION("--so-pin-source", 0, false, so_pin_source),
    OPTION("--new-pin-source", 0, false, new_pin_source),
    OPTION("--group", 0, false, group),
    OPTION("--mode", 0, false, mode),
    OPTION("--kdf-memory", 0, false, kdf_memory),
    OPTION("--pin-tries", 0, false, pin_tries),
    OPTION("--type", 0, false, type),
    OPTION("--id", 0, false, id),
    OPTION("--usage", 0, false, usage),
    OPTION("--passin", 0, false, passin),
    OPTION("--passout", 0, false, passout),
    OPTION("--user", 0, false, user),
    OPTION("--value", 0, false, value),
    OPTION("--challenge", 0, false, challenge),
    OPTION("--ca", 0, false, ca),
    OPTION("-o", 'o', false, out),
    SWITCH("--generate-pin", 0, false, generate_pin),
    SWITCH("--no-pin", 0, false, no_pin),
    SWITCH("--force", 0, false, force),
    SWITCH("--extractable", 0, false, extractable),
    SWITCH("--protect", 0, false, protect),
    SWITCH("--pubout", 0, false, pubout),
    SWITCH("--plain", 0, false, plain),
    SWITCH("--der", 0, false, der),
    SWITCH("--so", 0, false, so),
    SWITCH("--hex", 0, false, hex),
    SWITCH("--yes", 0, false, yes),
};

enum {
    COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]),
    OPTION_COUNT = sizeof(option_defs) / sizeof(option_defs[0])
};

hsm_status tool_usage(struct tool *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    t->usage_error = true;
    return hsm_fail(HSM_ERR_ARGUMENT, "%s", line);
}

/* Does this usage line name the option as a whole word? */
static bool usage_names(const char *usage, const char *option)
{
    size_t len = strlen(option);

    for (const char *p = usage; (p = strstr(p, option)) != NULL; p += len) {
        if ((p == usage || p[-1] == ' ' || p[-1] == '[') && (p[len] == '\0' || strchr(" ]", p[len]) != NULL))
            return true;
    }
    return false;
}

static const struct option_def *find_option(const struct command *cmd, const char *word, size_t len)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_def *def = &option_defs[i];
        bool named = strlen(def->name) == len && strncmp(def->name, word, len) == 0;
        bool lettered = word[1] == def->letter && def->letter != 0 && word[1] != '-';

        if ((named || lettered) && (def->global || (cmd != NULL && usage_names(cmd->usage, def->name))))
            return def;
    }
    return NULL;
}

/* One option at argv[*pos]; *pos is moved past it. Forms: --name[=value], --name value, -x value, -xvalue. */
static hsm_status take_option(struct tool *t, char **argv, int argc, int *pos)
{
    const char *word = argv[*pos], *value = NULL;
    bool is_long = word[1] == '-';
    size_t len = is_long ? strcspn(word, "=") : 2;
    const struct option_def *def = find_option(t->cmd, word, len);

    if (def == NULL)
        return tool_usage(t, "unknown option %s%s%s; see hsmctl %s%s--help", word, t->cmd ? " of " : "",
                          t->cmd ? t->cmd->name : "", t->cmd ? t->cmd->name : "", t->cmd ? " " : "");
    (*pos)++;
    if (word[len] != '\0')
        value = word + len + (is_long ? 1 : 0);
    if (!def->takes_value) {
        if (value != NULL)
            return tool_usage(t, "option %s takes no value", def->name);
        *(bool *)((char *)&t->opt + def->offset) = true;
        return HSM_OK;
    }
    if (value == NULL && *pos >= argc)
        return tool_usage(t, "option %s needs a value", def->name);
    *(const char **)((char *)&t->opt + def->offset) = value != NULL ? value : argv[(*pos)++];
    return HSM_OK;
}

static const struct command *find_command(char **words, int count, int *used)
{
    char two[64];

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, words[0]) == 0) {
            *used = 1;
            return &commands[i];
        }
    }
    if (count < 2)
        return NULL;
    snprintf(two, sizeof(two), "%s %s", words[0], words[1]);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, two) == 0) {
            *used = 2;
            return &commands[i];
        }
    }
    return NULL;
}

static bool is_group(const char *word)
{
    size_t len = strlen(word);

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strncmp(commands[i].name, word, len) == 0 && commands[i].name[len] == ' ')
            return true;
    }
    return false;
}

static void print_help(const char *group)
{
    if (group == NULL)
        printf("usage: hsmctl %s COMMAND ...\n", GLOBAL_USAGE);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *cmd = &commands[i];

        if (group == NULL)
            printf("  %-17s %s\n", cmd->name, cmd->help);
        else if (strncmp(cmd->name, group, strlen(group)) == 0)
            printf("usage: hsmctl %s%s%s\n       %s\n", cmd->name, cmd->usage[0] ? " " : "", cmd->usage,
                   cmd->help);
    }
    if (group == NULL)
        printf("SPEC is driver:location, as soft:/var/lib/hsm/token.db, or the name of a configured token.\n"
               "SOURCE is file:PATH, env:NAME, cred:NAME or prompt. See hsmctl(1), hsm-provider(7).\n");
}

static hsm_status take_arguments(struct tool *t, int argc, char **argv, int pos)
{
    bool options_over = false;
    hsm_status st;

    while (pos < argc) {
        if (!options_over && strcmp(argv[pos], "--") == 0) {
            options_over = true;
            pos++;
        } else if (!options_over && argv[pos][0] == '-' && argv[pos][1] != '\0') {
            if ((st = take_option(t, argv, argc, &pos)) != HSM_OK)
                return st;
        } else if (t->arg_count == t->cmd->max_args) {
            return tool_usage(t, "too many arguments at '%s'; see hsmctl %s --help", argv[pos], t->cmd->name);
        } else {
            t->arg[t->arg_count++] = argv[pos++];
        }
    }
    if (!t->opt.help && !t->opt.version && t->arg_count < t->cmd->min_args)
        return tool_usage(t, "too few arguments; usage: hsmctl %s %s", t->cmd->name, t->cmd->usage);
    return HSM_OK;
}

/* Global options, the command's words, its options and arguments. t->cmd stays NULL if help says it all. */
static hsm_status parse(struct tool *t, int argc, char **argv)
{
    int pos = 1, words = 0;
    hsm_status st;

    while (pos < argc && argv[pos][0] == '-') {
        if ((st = take_option(t, argv, argc, &pos)) != HSM_OK)
            return st;
    }
    if (t->opt.help || t->opt.version)
        return HSM_OK;
    if (pos == argc)
        return tool_usage(t, "no command given; see hsmctl --help");
    t->cmd = find_command(argv + pos, argc - pos, &words);
    if (t->cmd != NULL)
        return take_arguments(t, argc, argv, pos + words);
    if (!is_group(argv[pos]))
        return tool_usage(t, "unknown command '%s'; see hsmctl --help", argv[pos]);
    if (pos + 1 < argc && strcmp(argv[pos + 1], "--help") != 0)
        return tool_usage(t, "unknown command '%s %s'; see hsmctl %s --help", argv[pos], argv[pos + 1],
                          argv[pos]);
    if (pos + 1 == argc)
        return tool_usage(t, "'%s' needs one more word; see hsmctl %s --help", argv[pos], argv[pos]);
    print_help(argv[pos]);
    return HSM_OK;
}

/* What to do when the library had no more to say than the code. */
static const char *remedy(hsm_status st)
{
    switch (st) {
    case HSM_ERR_NO_OBJECT:
        return "list what is there with: hsmctl key list";
    case HSM_ERR_EXISTS:
        return "choose another name or delete the old object first";
    case HSM_ERR_NO_TOKEN:
        return "make it with: hsmctl token init";
    case HSM_ERR_PIN_REQUIRED:
        return "set pin-source in the configuration or give --pin-source";
    case HSM_ERR_PIN_LOCKED:
        return "set a new PIN with: hsmctl pin unblock";
    case HSM_ERR_CONFIG:
        return "find the fault with: hsmctl doctor";
    case HSM_ERR_DENIED:
        return "run as the owner of the token, or check with: hsmctl doctor --user NAME";
    case HSM_ERR_USAGE:
        return "see what the key may do with: hsmctl key show NAME";
    default:
        return NULL;
    }
}

static void report(hsm_status st)
{
    char line[640];
    const char *text = hsm_error_text(st), *more = NULL;

    if (strcmp(text, hsm_strerror(st)) == 0)
        more = remedy(st);
    out_printable(text, line, sizeof(line));
    fflush(stdout);
    fprintf(stderr, "hsmctl: %s%s%s\n", line, more != NULL ? "; " : "", more != NULL ? more : "");
}

static hsm_status run(struct tool *t, int argc, char **argv)
{
    hsm_status st;

    if ((st = parse(t, argc, argv)) != HSM_OK)
        return st;
    if (t->opt.version)
        printf("hsmctl %s (%s)\n", HSM_VERSION, OpenSSL_version(OPENSSL_VERSION));
    else if (t->opt.help)
        print_help(t->cmd != NULL ? t->cmd->name : NULL);
    else if (t->cmd != NULL && (st = t->cmd->run(t)) != HSM_OK)
        return st;
    return out_finish();
}

int main(int argc, char **argv)
{
    struct tool t = { 0 };
    hsm_status st;

    /* openssl.cnf may be the very thing that is broken, and it loads hsm.so: not into this program */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
    st = run(&t, argc, argv);
    if (st != HSM_OK)
        report(st);
    hsm_ctx_free(t.ctx);
    if (st == HSM_OK)
        return TOOL_OK;
    return t.usage_error ? TOOL_USAGE : TOOL_FAILED;
}
