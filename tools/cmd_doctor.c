/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor: the table of checks, and how their results are collected and shown. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"

enum { CHILD_LIMIT_S = 30, LINE_MAX_LEN = 1024 };
#define FIELD_END '\x1f' /* between the fields of a result on its way from a child */

static const struct check {
    const char *name;
    unsigned needs; /* HAVE_* */
    doctor_check *run;
} checks[] = {
    { "environment", 0, check_environment },
    { "config-file", 0, check_file },
    { "syntax", HAVE_TEXT, check_syntax },
    { "openssl_conf", HAVE_CONF, check_openssl_conf },
    { "providers", HAVE_INIT, check_providers },
    { "hsm", HAVE_LIST, check_hsm },
    { "default", HAVE_LIST, check_default },
    { "order", HAVE_LIST | HAVE_HSM, check_order },
    { "activate", HAVE_SECTION, check_activate },
    { "keys", HAVE_SECTION, check_keys },
    { "values", HAVE_SECTION, check_values },
    { "tokens", HAVE_SECTION, check_tokens },
    { "pin-text", HAVE_SECTION, check_pin_text },
    { "properties", HAVE_INIT, check_properties },
    { "programs", HAVE_CONF, check_other_programs },
    { "module", 0, check_module },
    { "module-load", HAVE_MODULE, check_module_load },
    { "activation", HAVE_CONF, check_activation },
    { "token-config", 0, check_context },
    { "chip-spec", HAVE_CONTEXT, check_chip_spec },
    { "chip-node", HAVE_CONTEXT, check_chip_node },
    { "token", HAVE_CONTEXT, check_token },
    { "chip", HAVE_CONTEXT, check_chip },
    { "token-file", HAVE_CONTEXT, check_token_file },
    { "pin-source", HAVE_CONTEXT, check_pin_source },
    { "pin", HAVE_CONTEXT, check_pin },
    { "user", HAVE_CONTEXT, check_user },
};

static const char *const verdict_words[] = { "ok", "warn", "fail" };

static void record(struct doctor *d, enum verdict verdict, const char *check, const char *what,
                   const char *remedy)
{
    struct json_object *result = json_object_new_object();

    d->warned += verdict == VERDICT_WARN;
    d->failed += verdict == VERDICT_FAIL;
    out_text(result, "result", verdict_words[verdict]);
    out_text(result, "check", check);
    out_text(result, "what", what);
    out_text(result, "remedy", remedy);
    json_object_array_add(d->results, result);
    if (!d->t->opt.json)
        printf("%-4s  %-12s  %s%s%s\n", verdict_words[verdict], check, what, remedy != NULL ? "  -> " : "",
               remedy != NULL ? remedy : "");
}

static void send_to_parent(struct doctor *d, enum verdict verdict, const char *what, const char *remedy)
{
    dprintf(d->report_fd, "%d%c%s%c%s%c%s\n", (int)verdict, FIELD_END, d->check, FIELD_END, what, FIELD_END,
            remedy != NULL ? remedy : "");
}

void doctor_say(struct doctor *d, enum verdict verdict, const char *remedy, const char *fmt, ...)
{
    char raw[LINE_MAX_LEN], what[LINE_MAX_LEN];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    out_printable(raw, what, sizeof(what));
    if (d->report_fd >= 0)
        send_to_parent(d, verdict, what, remedy);
    else
        record(d, verdict, d->check, what, remedy);
}

/* Cut the next field off a line. */
static char *field(char **rest)
{
    static const char separator[] = { FIELD_END, '\0' };

    return strsep(rest, separator);
}

static void receive(struct doctor *d, FILE *from)
{
    char line[3 * LINE_MAX_LEN];

    while (fgets(line, sizeof(line), from) != NULL) {
        char *rest = line, *verdict, *check, *what, *remedy;

        line[strcspn(line, "\n")] = '\0';
        verdict = field(&rest);
        check = field(&rest);
        what = field(&rest);
        remedy = field(&rest);
        if (remedy != NULL && verdict[0] >= '0' && verdict[0] <= '2')
            record(d, (enum verdict)(verdict[0] - '0'), check, what, remedy[0] != '\0' ? remedy : NULL);
    }
}

static void run_child(struct doctor *d, void (*fn)(struct doctor *d), const int pipe_fds[2])
{
    close(pipe_fds[0]);
    d->report_fd = pipe_fds[1];
    alarm(CHILD_LIMIT_S);
    fn(d);
    _exit(0); /* no atexit handlers: they belong to the parent, or to a module under suspicion */
}

void doctor_in_child(struct doctor *d, void (*fn)(struct doctor *d))
{
    int pipe_fds[2], status = 0;
    FILE *from = NULL;
    pid_t pid;

    fflush(stdout);
    if (pipe(pipe_fds) != 0 || (pid = fork()) < 0) {
        doctor_say(d, VERDICT_FAIL, NULL, "cannot start a child process: %s", strerror(errno));
        return;
    }
    if (pid == 0)
        run_child(d, fn, pipe_fds);
    close(pipe_fds[1]);
    if ((from = fdopen(pipe_fds[0], "r")) != NULL) {
        receive(d, from);
        fclose(from);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        doctor_say(d, VERDICT_FAIL, "look at the token and the module", "no answer within %d seconds",
                   CHILD_LIMIT_S);
    else if (WIFSIGNALED(status))
        doctor_say(d, VERDICT_FAIL, "install the module that belongs to this release",
                   "the child that tried it was killed by signal %d", WTERMSIG(status));
}

static void run_checks(struct doctor *d)
{
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        d->check = checks[i].name;
        if ((d->facts & checks[i].needs) == checks[i].needs)
            checks[i].run(d);
    }
}

static hsm_status conclude(struct doctor *d)
{
    hsm_status st = HSM_OK;

    if (d->t->opt.json)
        st = out_list(d->t, json_object_get(d->results), NULL);
    if (st == HSM_OK && d->failed > 0)
        st = hsm_fail(HSM_ERR_CONFIG,
                      "doctor: %zu of %zu results are faults; remedies stand behind the arrows", d->failed,
                      json_object_array_length(d->results));
    return st;
}

hsm_status cmd_doctor(struct tool *t)
{
    struct doctor *d = calloc(1, sizeof(*d));
    hsm_status st;

    if (d == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory");
    d->t = t;
    d->report_fd = -1;
    d->results = json_object_new_array();
    run_checks(d);
    st = conclude(d);
    json_object_put(d->results);
    NCONF_free(d->conf);
    free(d->text);
    free(d);
    return st;
}
