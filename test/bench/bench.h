/* SPDX-License-Identifier: Apache-2.0 */
/** hsm-bench: a contest between the default provider with a key in a file and hsm with the same key in a
 * token. */
#ifndef HSM_BENCH_H
#define HSM_BENCH_H

#include <stdbool.h>
#include <sys/types.h>

enum side { SIDE_DEFAULT, SIDE_HSM, SIDE_COUNT };

/** One operation of the kind that is measured. @return false if it failed; the contest then ends */
typedef bool bench_op(void *arg);

struct contest {
    bench_op *run;
    void *arg[SIDE_COUNT];
    unsigned threads; /* how many run it at once */
};

struct score {
    double ops_per_s[SIDE_COUNT]; /* median over the slices */
    double ratio; /* median over neighbouring slices of hsm / default; above 1: hsm is faster */
};

/** Run both sides in turns, in short slices, for about @p seconds each. @return false if an operation failed
 */
bool contest_run(const struct contest *contest, double seconds, struct score *score);

/** What one run works with. */
struct bench {
    char dir[64];      /* temporary; removed at the end */
    char build[4096];  /* build tree with hsmctl and hsm.so */
    const char *token; /* specification, as asked for or "soft:DIR/token.db" */
    bool own_token;    /* made for this run */
    unsigned threads;
    double seconds;   /* per side and operation */
    char keys[8][32]; /* what was imported, to be deleted at the end */
    unsigned key_count;
};

/** The same private key twice. */
struct key_pair_files {
    char path[SIDE_COUNT][256]; /* PEM key; PEM reference */
};

/** Environment, temporary directory and token; must come before anything uses libcrypto. */
bool fixture_open(struct bench *bench);
void fixture_close(struct bench *bench);
/** Make (once) a key of type "ec", "rsa" or "ed25519" as a file and import it into the token. */
bool fixture_key(struct bench *bench, const char *type, struct key_pair_files *files);

/** Start a program with standard input and output on /dev/null. @return its process id, -1 on failure */
pid_t process_start(const char *const argv[], char *const envp[]);
/** Wait for its end. @return true if it exited with 0 */
bool process_finish(pid_t pid);

/** One line on standard error. @return false */
bool bench_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same, and libcrypto's first error. */
bool bench_fail_crypto(const char *what);

/* The operations; each fills @p score. */
bool bench_sign(struct bench *bench, const char *key_type, bool pss, struct score *score);
bool bench_load(struct bench *bench, bool configured, struct score *score);
bool bench_cold(struct bench *bench, bool configured, struct score *score);
bool bench_handshake(struct bench *bench, unsigned clients, struct score *score);

#endif
