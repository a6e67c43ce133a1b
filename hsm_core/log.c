/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

static const char *const level_names[] = {
    [HSM_LOG_OFF] = "off", [HSM_LOG_ERROR] = "error", [HSM_LOG_INFO] = "info", [HSM_LOG_DEBUG] = "debug"
};

static void to_syslog(enum hsm_log_level level, const char *text)
{
    int priority = level == HSM_LOG_ERROR ? LOG_ERR : level == HSM_LOG_INFO ? LOG_INFO : LOG_DEBUG;

    syslog(priority, "hsm: %s: %s", level_names[level],
           text); /* no openlog(): the identity is the program's */
}

/* One write() per line, so that lines of several processes do not mix. */
static void to_fd(int fd, enum hsm_log_level level, const char *text)
{
    char line[768], stamp[32];
    struct tm tm;
    time_t now = time(NULL);
    int len;

    if (gmtime_r(&now, &tm) == NULL || strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        stamp[0] = '\0';
    len =
        snprintf(line, sizeof(line), "%s hsm[%ld]: %s: %s", stamp, (long)getpid(), level_names[level], text);
    if (len < 0)
        return;
    if ((size_t)len > sizeof(line) - 2)
        len = (int)sizeof(line) - 2;
    line[len++] = '\n';
    if (write(fd, line, (size_t)len) < 0)
        return; /* nobody left to tell */
}

void hsm_log(struct hsm_ctx *ctx, enum hsm_log_level level, const char *fmt, ...)
{
    const struct hsm_config *cfg = ctx == NULL ? NULL : ctx->cfg;
    char text[640];
    va_list ap;
    int fd;

    if (cfg == NULL || cfg->log_target == LOG_NOWHERE || level == HSM_LOG_OFF || level > cfg->log_level)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (cfg->log_target == LOG_TO_SYSLOG) {
        to_syslog(level, text);
    } else if (cfg->log_target == LOG_TO_STDERR) {
        to_fd(STDERR_FILENO, level, text);
    } else if ((fd = open(cfg->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                          0640)) >= 0) {
        to_fd(fd, level, text); /* opened per line: files are rotated, processes fork and change user */
        (void)close(fd);
    }
}
