/* SPDX-License-Identifier: Apache-2.0 */
/**
 * hsm-bench [--json] [--op LIST] [--token SPEC] [--threads N] [--seconds S]
 * Exit 0 measured, 1 something failed, 2 usage.
 */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <openssl/err.h>

#include "bench.h"

static bool run_ecdsa(struct bench *bench, struct score *score)
{
    return bench_sign(bench, "ec", false, score);
}

static bool run_rsa(struct bench *bench, struct score *score)
{
    return bench_sign(bench, "rsa", false, score);
}

static bool run_pss(struct bench *bench, struct score *score)
{
    return bench_sign(bench, "rsa", true, score);
}

static bool run_eddsa(struct bench *bench, struct score *score)
{
    return bench_sign(bench, "ed25519", false, score);
}

static bool run_load(struct bench *bench, struct score *score)
{
    return bench_load(bench, true, score);
}

static bool run_load_plain(struct bench *bench, struct score *score)
{
    return bench_load(bench, false, score);
}

static bool run_cold(struct bench *bench, struct score *score)
{
    return bench_cold(bench, true, score);
}

static bool run_cold_plain(struct bench *bench, struct score *score)
{
    return bench_cold(bench, false, score);
}

/* One client alone leaves a core idle while it waits for the server. */
static unsigned handshake_clients(const struct bench *bench)
{
    return bench->threads < 2 ? 2 : bench->threads;
}

static bool run_handshake(struct bench *bench, struct score *score)
{
    return bench_handshake(bench, handshake_clients(bench), score);
}

static const struct op {
    const char *name;
    bool (*run)(struct bench *bench, struct score *score);
    const char *what;
} ops[] = {
    { "ecdsa-p256", run_ecdsa, "ECDSA P-256, SHA-256: one signature" },
    { "rsa-2048-pkcs1", run_rsa, "RSA-2048, PKCS#1 v1.5, SHA-256: one signature" },
    { "rsa-2048-pss", run_pss, "RSA-2048, PSS, SHA-256: one signature" },
    { "ed25519", run_eddsa, "Ed25519: one signature" },
    { "load", run_load, "PEM_read_bio_PrivateKey: key reference against PEM key (P-256)" },
    { "load-unconfigured", run_load_plain, "the same, but the PEM key where hsm is not loaded" },
    { "cold", run_cold, "a fresh `openssl pkeyutl -sign`, both with the same configuration" },
    { "cold-unconfigured", run_cold_plain, "the same, but the PEM key without any configuration" },
    { "handshake", run_handshake, "nginx: one full TLS 1.3 handshake (P-256)" },
};

enum { OP_COUNT = sizeof(ops) / sizeof(ops[0]) };

bool bench_fail(const char *fmt, ...)
{
    va_list args;

    flockfile(stderr);
    fputs("hsm-bench: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    funlockfile(stderr);
    return false;
}

bool bench_fail_crypto(const char *what)
{
    char reason[256];

    ERR_error_string_n(ERR_peek_error(), reason, sizeof(reason));
    return bench_fail("%s: %s", what, reason);
}

static void usage(FILE *out)
{
    fputs("usage: hsm-bench [--json] [--op LIST] [--token SPEC] [--threads N] [--seconds S]\n"
          "Each operation with a key in a token, against the default provider with the same key in a file.\n"
          "Without --token a temporary soft token is used. SPEC's PIN comes from HSM_PIN_SOURCE or "
          "OPENSSL_CONF.\n"
          "Operations (default: all):\n",
          out);
    for (size_t i = 0; i < OP_COUNT; i++)
        fprintf(out, "  %-18s %s\n", ops[i].name, ops[i].what);
}

static bool select_ops(char *list, bool wanted[OP_COUNT])
{
    char *name;
    size_t i;

    while ((name = strsep(&list, ",")) != NULL) {
        for (i = 0; i < OP_COUNT && strcmp(ops[i].name, name) != 0; i++)
            ;
        if (i == OP_COUNT)
            return bench_fail("no operation '%s'; see --help", name);
        wanted[i] = true;
    }
    return true;
}

static bool parse_number(const char *text, double min, double max, double *value)
{
    char *end = NULL;

    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !(*value >= min && *value <= max))
        return bench_fail("'%s' is not a number from %g to %g", text, min, max);
    return true;
}

static int parse_options(int argc, char **argv, struct bench *bench, bool *json, bool wanted[OP_COUNT])
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "op", required_argument, NULL, 'o' },
        { "token", required_argument, NULL, 't' },
        { "threads", required_argument, NULL, 'n' },
        { "seconds", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    double number = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            usage(stdout);
            exit(0);
        }
        if (option == 'j')
            *json = true;
        else if (option == 't')
            bench->token = optarg;
        else if (option == 'o' && select_ops(optarg, wanted))
            continue;
        else if (option == 'n' && parse_number(optarg, 1, 64, &number))
            bench->threads = (unsigned)number;
        else if (option == 's' && parse_number(optarg, 0.1, 3600, &number))
            bench->seconds = number;
        else
            return 2;
    }
    return optind == argc ? 0 : 2;
}

static void print_row(const struct bench *bench, const char *op, unsigned threads, const struct score *score)
{
    double best = score->ops_per_s[SIDE_DEFAULT], ours = score->ops_per_s[SIDE_HSM];

    printf("%-18s %7u %12.1f %12.1f %10.1f %10.1f %7.3f\n", op, threads, best, ours, 1e6 * threads / best,
           1e6 * threads / ours, score->ratio);
    fflush(stdout);
}

static void add_row(json_object *rows, const struct bench *bench, const char *op, unsigned threads,
                    const struct score *score)
{
    json_object *row = json_object_new_object();

    json_object_object_add(row, "op", json_object_new_string(op));
    json_object_object_add(row, "token", json_object_new_string(bench->token));
    json_object_object_add(row, "threads", json_object_new_int((int)threads));
    json_object_object_add(row, "ops_per_s", json_object_new_double(score->ops_per_s[SIDE_HSM]));
    json_object_object_add(row, "ratio", json_object_new_double(score->ratio));
    json_object_array_add(rows, row);
}

static unsigned threads_of(const struct bench *bench, const struct op *op)
{
    if (op->run == run_handshake)
        return handshake_clients(bench);
    return op->run == run_cold || op->run == run_cold_plain ? 1 : bench->threads;
}

static bool run_all(struct bench *bench, const bool wanted[OP_COUNT], json_object *rows)
{
    struct score score;

    if (rows == NULL)
        printf("token %s\n%-18s %7s %12s %12s %10s %10s %7s\n", bench->token, "operation", "threads",
               "default/s", "hsm/s", "default us", "hsm us", "ratio");
    for (size_t i = 0; i < OP_COUNT; i++) {
        unsigned threads = threads_of(bench, &ops[i]);

        if (!wanted[i])
            continue;
        if (!ops[i].run(bench, &score))
            return bench_fail("%s: not measured", ops[i].name);
        if (rows != NULL)
            add_row(rows, bench, ops[i].name, threads, &score);
        else
            print_row(bench, ops[i].name, threads, &score);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct bench bench = { .threads = 1, .seconds = 3 };
    bool wanted[OP_COUNT] = { false }, json = false, chosen = false, done;
    json_object *rows = NULL;

    if (parse_options(argc, argv, &bench, &json, wanted) != 0) {
        usage(stderr);
        return 2;
    }
    for (size_t i = 0; i < OP_COUNT; i++)
        chosen = chosen || wanted[i];
    for (size_t i = 0; i < OP_COUNT && !chosen; i++)
        wanted[i] = true;
    signal(SIGPIPE, SIG_IGN);
    if (json)
        rows = json_object_new_array();
    done = fixture_open(&bench) && run_all(&bench, wanted, rows);
    if (done && json)
        puts(json_object_to_json_string_ext(rows, JSON_C_TO_STRING_PRETTY));
    json_object_put(rows);
    fixture_close(&bench);
    return done ? 0 : 1;
}
