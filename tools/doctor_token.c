/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor, fourth part: the tokens, their PINs, and whether a service's user can reach them. */
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"
#include "hsm/secret.h"

void check_context(struct doctor *d)
{
    struct tool *t = d->t;
    hsm_status st;

    if ((st = tool_open(t)) != HSM_OK) {
        doctor_say(d, VERDICT_FAIL, NULL, "%s", hsm_error_text(st));
        return;
    }
    d->facts |= HAVE_CONTEXT;
    for (size_t i = 0; i < hsm_token_count(t->ctx); i++)
        doctor_say(d, VERDICT_OK, NULL, "token '%s' is %s:%s", hsm_token_name(t->ctx, i),
                   hsm_token_spec(t->ctx, i)->driver, hsm_token_spec(t->ctx, i)->location);
}

static void judge_token(struct doctor *d, size_t index)
{
    const char *name = hsm_token_name(d->t->ctx, index);
    struct hsm_token_info info = { .driver = "" };
    struct hsm_token *tok = NULL;
    hsm_status st = hsm_token_get(d->t->ctx, index, &tok);

    if (st == HSM_OK)
        st = hsm_token_info(tok, &info);
    if (st != HSM_OK)
        doctor_say(d, VERDICT_FAIL, NULL, "does not open: %s", hsm_error_text(st));
    else if (!info.initialised)
        doctor_say(d, VERDICT_WARN, "make it with: hsmctl token init",
                   "token '%s' is not initialised: only what its maker put there can be used", name);
    else if (info.pin_locked)
        doctor_say(d, VERDICT_FAIL, "set a new PIN with: hsmctl pin unblock",
                   "the PIN of token '%s' is locked", name);
    else if (!info.no_pin && info.pin_tries_left < info.pin_tries_max)
        doctor_say(d, VERDICT_WARN, "somebody uses a wrong PIN; the right one resets the counter",
                   "token '%s' (label '%s') opens; %u of %u PIN tries are left", name, info.label,
                   info.pin_tries_left, info.pin_tries_max);
    else
        doctor_say(d, VERDICT_OK, NULL, "token '%s' (label '%s') opens%s", name, info.label,
                   info.writable ? "" : ", read-only");
}

void check_token(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++)
        judge_token(d, i);
}

/* ---- files -------------------------------------------------------------------------------------------- */

static void judge_directory(struct doctor *d, const char *path)
{
    char copy[PATH_MAX];
    struct stat sb;

    snprintf(copy, sizeof(copy), "%s", path);
    if (stat(dirname(copy), &sb) == 0 && (sb.st_mode & S_IWOTH) != 0 && (sb.st_mode & S_ISVTX) == 0)
        doctor_say(d, VERDICT_FAIL, "chmod o-w the directory",
                   "everybody can replace %s: its directory is writable by all", path);
}

static void judge_token_file(struct doctor *d, const struct hsm_token_spec *spec)
{
    const char *path = spec->location;
    struct stat sb;

    if (strcmp(spec->driver, "soft") != 0)
        return;
    if (path[0] != '/')
        doctor_say(d, VERDICT_WARN, "name it by its whole path",
                   "token file %s is relative: services run elsewhere", path);
    if (stat(path, &sb) != 0)
        return; /* check_token() has said it */
    if ((sb.st_mode & S_IWOTH) != 0)
        doctor_say(d, VERDICT_FAIL, "chmod 0600 it, or 0640 with a group",
                   "token file %s can be written by everybody", path);
    else if ((sb.st_mode & S_IROTH) != 0)
        doctor_say(d, VERDICT_WARN, "chmod 0600 it, or 0640 with a group",
                   "token file %s can be read by everybody: its PIN can be guessed elsewhere", path);
    else
        doctor_say(d, VERDICT_OK, NULL, "token file %s has mode %04o, owner %u, group %u", path,
                   (unsigned)(sb.st_mode & 07777), (unsigned)sb.st_uid, (unsigned)sb.st_gid);
    judge_directory(d, path);
}

void check_token_file(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++)
        judge_token_file(d, hsm_token_spec(d->t->ctx, i));
}

/* Where `pin change --generate-pin` stages the new PIN: it stays only if that was cut off by a crash. */
static void look_for_staged_pin(struct doctor *d, const char *path)
{
    char staged[PATH_MAX];

    if (snprintf(staged, sizeof(staged), "%s.new", path) < (int)sizeof(staged) && access(staged, F_OK) == 0)
        doctor_say(d, VERDICT_WARN, "if the PIN file is refused, move this one over it, else delete it",
                   "%s is left over from an interrupted PIN change", staged);
}

static void judge_pin_file(struct doctor *d, const char *path)
{
    struct stat sb;

    if (stat(path, &sb) != 0)
        doctor_say(d, VERDICT_FAIL, "make it with: hsmctl token init --generate-pin, or write the PIN there",
                   "PIN file %s: %s", path, strerror(errno));
    else if ((sb.st_mode & (S_IROTH | S_IWOTH)) != 0)
        doctor_say(d, VERDICT_FAIL,
                   "chmod 0600 it, or 0640 with the group of the service; then change the PIN",
                   "PIN file %s is open to everybody (mode %04o)", path, (unsigned)(sb.st_mode & 07777));
    else
        doctor_say(d, VERDICT_OK, NULL, "PIN file %s has mode %04o, owner %u, group %u", path,
                   (unsigned)(sb.st_mode & 07777), (unsigned)sb.st_uid, (unsigned)sb.st_gid);
    if (path[0] != '/')
        doctor_say(d, VERDICT_WARN, "name it by its whole path",
                   "PIN file %s is relative: services run elsewhere", path);
    look_for_staged_pin(d, path);
    judge_directory(d, path);
}

static void judge_pin_source(struct doctor *d, const char *name, const char *source)
{
    if (source == NULL || source[0] == '\0')
        doctor_say(d, VERDICT_WARN, "add `pin-source = file:PATH`",
                   "token '%s' has no pin-source: servers cannot sign", name);
    else if (strncmp(source, "file:", 5) == 0)
        judge_pin_file(d, source + 5);
    else if (strcmp(source, "prompt") == 0)
        doctor_say(d, VERDICT_WARN, "use file: or cred: for servers",
                   "pin-source = prompt: a daemon has nobody to ask");
    else if (strncmp(source, "env:", 4) == 0 && getenv(source + 4) == NULL)
        doctor_say(d, VERDICT_FAIL, "set it where the service is started, or use file:",
                   "pin-source = %s: that variable is not set", source);
    else if (strncmp(source, "env:", 4) == 0)
        doctor_say(d, VERDICT_WARN, "use file: or cred: for servers",
                   "pin-source = %s: the environment of a process can "
                   "be read by its user",
                   source);
    else
        doctor_say(d, VERDICT_WARN,
                   "run doctor inside the service (systemd-run with the same LoadCredential=)",
                   "pin-source = %s exists only inside the service", source);
}

static bool needs_no_pin(struct doctor *d, size_t index)
{
    struct hsm_token_info info = { .no_pin = false };
    struct hsm_token *tok = NULL;

    return hsm_token_get(d->t->ctx, index, &tok) == HSM_OK && hsm_token_info(tok, &info) == HSM_OK &&
           info.no_pin;
}

void check_pin_source(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++) {
        if (needs_no_pin(d, i))
            doctor_say(d, VERDICT_OK, NULL, "token '%s' was made without a PIN: who reaches it uses its keys",
                       hsm_token_name(d->t->ctx, i));
        else
            judge_pin_source(d, hsm_token_name(d->t->ctx, i), hsm_pin_source(d->t->ctx, i));
    }
}

/* A wrong PIN costs a try, so nothing is tried when it might be the last one. */
static void judge_pin(struct doctor *d, size_t index)
{
    const char *name = hsm_token_name(d->t->ctx, index), *source = hsm_pin_source(d->t->ctx, index);
    struct hsm_token_info info = { .driver = "" };
    struct hsm_token *tok = NULL;
    hsm_status st;

    if (hsm_token_get(d->t->ctx, index, &tok) != HSM_OK || hsm_token_info(tok, &info) != HSM_OK ||
        info.pin_locked || info.no_pin || !info.initialised)
        return; /* said already */
    if (source == NULL || source[0] == '\0' || strcmp(source, "prompt") == 0)
        return;
    if (info.pin_tries_left <= 1) {
        doctor_say(d, VERDICT_WARN, "check the PIN by hand, or set a new one with: hsmctl pin unblock",
                   "the PIN of token '%s' was not tried: a wrong one would lock the token", name);
        return;
    }
    if ((st = hsm_login_configured(tok)) == HSM_OK)
        doctor_say(d, VERDICT_OK, NULL, "the PIN of token '%s' is right", name);
    else
        doctor_say(d, VERDICT_FAIL,
                   st == HSM_ERR_PIN_INCORRECT ? "correct the PIN source; this try counted" : NULL, "%s",
                   hsm_error_text(st));
}

void check_pin(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++)
        judge_pin(d, i);
}

/* ---- as the user of a service ------------------------------------------------------------------------- */

/* The first directory on the way to @p path that this user cannot pass. */
static bool blocked_at(const char *path, char out[PATH_MAX])
{
    for (size_t i = 1; path[0] == '/' && path[i] != '\0'; i++) {
        if (path[i] != '/')
            continue;
        snprintf(out, PATH_MAX, "%.*s", (int)i, path);
        if (access(out, X_OK) != 0)
            return true;
    }
    return false;
}

void doctor_judge_access(struct doctor *d, const char *what, const char *path, int mode)
{
    const char *verb = mode == R_OK ? "read" : "open";
    char stop[PATH_MAX];

    if (access(path, mode) == 0)
        doctor_say(d, VERDICT_OK, NULL, "user %s can %s %s %s", d->t->opt.user, verb, what, path);
    else if (errno == EACCES && blocked_at(path, stop))
        doctor_say(d, VERDICT_FAIL, "chmod o+x that directory, or give it the group of the user",
                   "user %s cannot reach %s %s: it cannot pass %s", d->t->opt.user, what, path, stop);
    else
        doctor_say(d, VERDICT_FAIL,
                   mode == R_OK
                       ? "give the file the group of the user, and mode 0640"
                       : "add the user to the group of the device, or let a udev rule give it another",
                   "user %s cannot %s %s %s: %s", d->t->opt.user, verb, what, path, strerror(errno));
}

static void judge_token_as_user(struct doctor *d, size_t index)
{
    const struct hsm_token_spec *spec = hsm_token_spec(d->t->ctx, index);
    const char *source = hsm_pin_source(d->t->ctx, index);
    struct hsm_token *tok = NULL;
    hsm_status st;

    if (strcmp(spec->driver, "soft") == 0)
        doctor_judge_access(d, "token file", spec->location, R_OK);
    if (doctor_chip_node(spec) != NULL)
        doctor_judge_access(d, "bus", doctor_chip_node(spec), R_OK | W_OK);
    if (source != NULL && strncmp(source, "file:", 5) == 0)
        doctor_judge_access(d, "PIN file", source + 5, R_OK);
    st = hsm_token_get(d->t->ctx, index, &tok);
    if (st == HSM_OK)
        doctor_say(d, VERDICT_OK, NULL, "user %s can open token '%s'", d->t->opt.user,
                   hsm_token_name(d->t->ctx, index));
    else
        doctor_say(d, VERDICT_FAIL, NULL, "user %s cannot open token '%s': %s", d->t->opt.user,
                   hsm_token_name(d->t->ctx, index), hsm_error_text(st));
}

static void become_user(struct doctor *d)
{
    const struct passwd *user = getpwnam(d->t->opt.user);

    if (user == NULL || initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
        setuid(user->pw_uid) != 0) {
        doctor_say(d, VERDICT_FAIL, "run doctor as root", "cannot become user %s: %s", d->t->opt.user,
                   strerror(errno));
        return;
    }
    if (d->facts & HAVE_TEXT)
        doctor_judge_access(d, "configuration", d->path, R_OK);
    if (d->facts & HAVE_MODULE)
        doctor_judge_access(d, "module", d->module, R_OK);
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++)
        judge_token_as_user(d, i);
}

void check_user(struct doctor *d)
{
    if (d->t->opt.user == NULL)
        return;
    if (getpwnam(d->t->opt.user) == NULL)
        doctor_say(d, VERDICT_FAIL, "name a user of this machine", "there is no user '%s'", d->t->opt.user);
    else
        doctor_in_child(d, become_user);
}
