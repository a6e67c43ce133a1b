/* SPDX-License-Identifier: Apache-2.0 */
/** A chip simulator in the temporary directory of token_fixture.h, for the tests that want one. */
#ifndef CHIP_FIXTURE_H
#define CHIP_FIXTURE_H

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "token_fixture.h"

enum { CHIP_READY_MS = 20000 };

static pid_t chip_pid;

UNUSED static void chip_wait_ready(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char line[256] = "";
    size_t len = 0;
    ssize_t n;

    while (strstr(line, "ready") == NULL) {
        ck_assert_msg(poll(&p, 1, CHIP_READY_MS) == 1, "the simulator is not ready: %s", line);
        n = read(fd, line + len, sizeof(line) - 1 - len);
        ck_assert_msg(n > 0, "the simulator ended: %s", line);
        len += (size_t)n;
    }
}

/* In the child: nothing of it survives a test that is killed. */
UNUSED static void chip_exec(const char *const args[], int out)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(out, STDOUT_FILENO);
    execv(args[0], (char *const *)(uintptr_t)args);
    _exit(127);
}

/** Start it; token_spec then names it. @p applet: "3.1.1", "7.2.0" ...; what was in its memory before is
 * still there. */
UNUSED static void chip_start(const char *applet, bool scp03)
{
    const char *program = getenv("HSM_SIM");
    char socket_path[96], nvm[96];
    const char *args[] = { program, "--socket", socket_path, "--nvm",
                           nvm,     "--applet", applet,      scp03 ? "--scp03" : NULL,
                           NULL };
    int out[2];

    ck_assert_msg(program != NULL, "HSM_SIM does not name the simulator");
    (void)snprintf(socket_path, sizeof(socket_path), "%s/sim.sock", temp_dir);
    (void)snprintf(nvm, sizeof(nvm), "%s/chip.nvm", temp_dir);
    ck_assert_int_eq(pipe(out), 0);
    ck_assert_int_ge(chip_pid = fork(), 0);
    if (chip_pid == 0)
        chip_exec(args, out[1]);
    (void)close(out[1]);
    chip_wait_ready(out[0]);
    (void)close(out[0]);
    (void)snprintf(token_spec, sizeof(token_spec), "se05x:unix:%s%s", socket_path,
                   scp03 ? "?scp03=public" : "");
}

/** Say something to the simulator beside the bus: "power-on", "fault ...", "stats". @p answer: at least 1,
 * NUL-ended */
UNUSED static void chip_say(const char *text, char *answer, size_t cap)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(text);
    uint8_t head[4] = { 'C', 0, (uint8_t)(len >> 8), (uint8_t)len }, reply[3];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t n;

    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/sim.sock", temp_dir);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(send(fd, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
    ck_assert_int_eq(recv(fd, reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
    ck_assert_msg(reply[0] == 0, "the simulator does not understand '%s'", text);
    len = (size_t)reply[1] << 8 | reply[2];
    ck_assert_uint_lt(len, cap);
    n = len == 0 ? 0 : recv(fd, answer, len, MSG_WAITALL);
    ck_assert_int_eq(n, (ssize_t)len);
    answer[len] = '\0';
    (void)close(fd);
}

UNUSED static void chip_do(const char *text)
{
    char answer[4096];

    chip_say(text, answer, sizeof(answer));
}

/** How many commands the applet has executed so far. */
UNUSED static unsigned chip_count(const char *name)
{
    char answer[8192], line[64];
    const char *at;

    chip_say("stats", answer, sizeof(answer));
    (void)snprintf(line, sizeof(line), "%s: ", name);
    at = strstr(answer, line);
    return at == NULL ? 0 : (unsigned)strtoul(at + strlen(line), NULL, 10);
}

UNUSED static void chip_stop(void)
{
    if (chip_pid <= 0)
        return;
    (void)kill(chip_pid, SIGKILL);
    (void)waitpid(chip_pid, NULL, 0);
    chip_pid = 0;
}

#endif
