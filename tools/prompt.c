/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the person at the terminal, and signals that must wait. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "hsm/secret.h"
#include "tool.h"

static const int caught_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
enum { CAUGHT_COUNT = sizeof(caught_signals) / sizeof(caught_signals[0]) };

static volatile sig_atomic_t caught;
static sigset_t held_before;

static void note_signal(int number)
{
    caught = number;
}

void signals_hold(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, &held_before);
}

void signals_release(void)
{
    sigprocmask(SIG_SETMASK, &held_before, NULL);
}

static int open_terminal(void)
{
    return open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
}

/* Best effort: a terminal that takes no text will not give an answer either. */
static void say(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* Signals get through only while this waits: one that came just before is not slept over. */
static bool wait_for_input(int fd, const sigset_t *unblocked)
{
    struct pollfd input = { .fd = fd, .events = POLLIN };

    return ppoll(&input, 1, NULL, unblocked) == 1;
}

/* One line without its newline. False at end of file, on a signal, or if it does not fit. */
static bool read_line(int fd, const sigset_t *unblocked, struct hsm_buf *line)
{
    uint8_t byte = 0;
    bool fits = true;

    line->len = 0;
    for (;;) {
        if (!wait_for_input(fd, unblocked) || read(fd, &byte, 1) != 1) {
            hsm_cleanse(&byte, 1);
            return false;
        }
        if (byte == '\n')
            return fits;
        if (line->len < line->cap)
            line->ptr[line->len++] = byte;
        else
            fits = false;
    }
}

struct signal_state {
    sigset_t mask;
    struct sigaction actions[CAUGHT_COUNT];
};

static void catch_signals(struct signal_state *saved)
{
    struct sigaction act = { .sa_handler = note_signal };
    sigset_t block;

    caught = 0;
    sigemptyset(&act.sa_mask);
    sigemptyset(&block);
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        sigaddset(&block, caught_signals[i]);
    sigprocmask(SIG_BLOCK, &block, &saved->mask);
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        sigaction(caught_signals[i], &act, &saved->actions[i]);
}

/* What was caught, or came and waits, now takes effect with the disposition it should have found. */
static void restore_signals(const struct signal_state *saved)
{
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        sigaction(caught_signals[i], &saved->actions[i], NULL);
    if (caught != 0)
        raise(caught);
    sigprocmask(SIG_SETMASK, &saved->mask, NULL);
}

static bool ask_hidden(int fd, const char *question, struct hsm_buf *secret)
{
    struct signal_state saved;
    struct termios old, quiet;
    bool ok;

    if (tcgetattr(fd, &old) != 0)
        return false;
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    catch_signals(&saved);
    ok = tcsetattr(fd, TCSAFLUSH, &quiet) == 0;
    if (ok) {
        say(fd, question);
        ok = read_line(fd, &saved.mask, secret);
        tcsetattr(fd, TCSAFLUSH, &old);
        say(fd, "\n");
    }
    restore_signals(&saved);
    return ok && caught == 0;
}

hsm_status prompt_secret(const char *question, struct hsm_buf *secret)
{
    int fd = open_terminal();
    bool ok;

    if (fd < 0)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "no terminal to ask '%s' on; give a file:PATH or env:NAME source",
                        question);
    ok = ask_hidden(fd, question, secret);
    close(fd);
    if (!ok) {
        hsm_cleanse(secret->ptr, secret->cap);
        return hsm_fail(HSM_ERR_PIN_SOURCE, "no usable answer to '%s' (at most %zu bytes)", question,
                        secret->cap);
    }
    return HSM_OK;
}

hsm_status prompt_pin(void *arg, const char *token_name, enum hsm_role role, struct hsm_buf *pin)
{
    char question[HSM_LABEL_MAX + 64], name[HSM_LABEL_MAX + 1];

    (void)arg;
    snprintf(question, sizeof(question), "%s of token '%s': ", role == HSM_ROLE_SO ? "SO PIN" : "PIN",
             out_printable(token_name != NULL ? token_name : "", name, sizeof(name)));
    return prompt_secret(question, pin);
}

hsm_status prompt_confirm(const char *question, bool *yes)
{
    uint8_t answer[8];
    struct hsm_buf line = { .ptr = answer, .cap = sizeof(answer) };
    int fd = open_terminal();
    bool ok;

    if (fd < 0)
        return hsm_fail(HSM_ERR_ARGUMENT, "no terminal to ask '%s' on; give --yes if you are sure", question);
    say(fd, question);
    say(fd, " [y/N] ");
    ok = read_line(fd, NULL, &line);
    close(fd);
    *yes = ok && line.len > 0 && (answer[0] == 'y' || answer[0] == 'Y');
    return HSM_OK;
}
