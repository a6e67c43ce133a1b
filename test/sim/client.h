/* SPDX-License-Identifier: Apache-2.0 */
/* Fixture of the simulator's own tests: a process of se05x-sim, its socket, and a host side of T=1 and SCP03
 * that is written for tests only and shares nothing with the driver. A check fails the test. */
#ifndef SIM_TEST_CLIENT_H
#define SIM_TEST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { RSP_MAX = 2100, HOST_POLLS = 4000 };

struct sim {
    pid_t pid;
    int out; /* its stdout */
    char dir[64];
};

/** A fresh directory, for sim_restart() to start in. */
void sim_make_dir(struct sim *s);
/** Start with --socket and --nvm in a fresh directory and the options of @p argv (NULL-terminated, may be
 * NULL). */
void sim_start(struct sim *s, const char *const *argv);
/** The same on a copy of the NVM file that @p fresh left behind: making a part's own keys takes a while. */
void sim_start_like(struct sim *s, const struct sim *fresh);
/** End by SIGTERM. @return exit status; the directory stays */
int sim_stop(struct sim *s);
/** The same NVM again. */
void sim_restart(struct sim *s, const char *const *argv);
void sim_remove(struct sim *s); /* stop and remove everything */

struct line {
    int fd;
    unsigned address;
    bool next_out, next_in; /* N(S) of our next I-block; expected of the chip */
    /* SCP03, if open */
    bool secure, every_command_counts;
    uint8_t enc[16], mac[16], rmac[16], mcv[16];
    uint32_t counter;
};

struct line line_open(const struct sim *s);
void line_close(struct line *l);
/** One message. @return status byte of the socket protocol */
int line_write(struct line *l, const void *data, size_t len);
int line_read(struct line *l, void *data, size_t len);
int line_message(struct line *l, char op, unsigned address, void *data, size_t len);
/** Control command. @return 0 understood; @p answer gets the text */
int line_control(struct line *l, const char *command, char *answer, size_t size);
/** A number of the "stats" answer; 0 if absent. */
long line_stat(struct line *l, const char *name);

/** Write a block; read one, polling. @return its length, 0: nothing came within HOST_POLLS */
size_t block_exchange(struct line *l, const uint8_t *block, size_t len, uint8_t answer[259]);
size_t block_read(struct line *l, uint8_t answer[259]);
size_t block_build(uint8_t pcb, const void *inf, size_t len, uint8_t block[259]);
/** S-block exchange: request code to answered code. */
void line_resynch(struct line *l);
void line_soft_reset(struct line *l);

/** One APDU as it is, chained both ways, WTX granted. @return length with status word */
size_t apdu_raw(struct line *l, const uint8_t *cmd, size_t len, uint8_t rsp[RSP_MAX]);
/** The same in hexadecimal (blanks allowed), wrapped if the channel is open. @return status word; data in
 * rsp, *len */
uint16_t apdu(struct line *l, const char *hex, uint8_t rsp[RSP_MAX], size_t *len);
/** apdu() and compare the status word. */
void apdu_expect(struct line *l, const char *hex, uint16_t sw);

void line_select(struct line *l);
/** INITIALIZE UPDATE and EXTERNAL AUTHENTICATE. @return status word of the latter */
uint16_t line_scp03(struct line *l, const uint8_t enc[16], const uint8_t mac[16], bool every_command_counts);
size_t unhex(const char *hex, uint8_t *out, size_t max);
void host_cmac(const uint8_t key[16], const uint8_t *data, size_t len, uint8_t mac[16]);
void host_aes(const uint8_t key[16], const uint8_t *iv, bool encrypt, const uint8_t *in, size_t len,
              uint8_t *out);
/** Session keys and cryptograms. */
void scp_host_keys(struct line *l, const uint8_t enc[16], const uint8_t mac[16], const uint8_t challenges[16],
                   uint8_t card[8], uint8_t host[8]);
/** Wrap in place; the chaining value moves on. */
size_t scp_host_wrap(struct line *l, uint8_t *cmd, size_t len);
/** Read a command that another host wrapped with the same keys: checks its MAC, moves the chaining value on.
 *  @return length of the plain command */
size_t scp_host_read(struct line *l, const uint8_t *cmd, size_t len, uint8_t *plain);
/** Unwrap an answer to a command that had data or not. @return plain length without status word, -1: wrong
 * R-MAC */
int scp_host_unwrap(struct line *l, bool had_data, uint8_t *rsp, size_t len);

#endif
