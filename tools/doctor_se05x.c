/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor, fifth part: an SE05x chip. Its bus, its answer, and who else may talk to it. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"

const char *doctor_chip_node(const struct hsm_token_spec *spec)
{
    if (strcmp(spec->driver, "se05x") != 0)
        return NULL;
    return strncmp(spec->location, "unix:", 5) == 0 ? spec->location + 5 : spec->location;
}

/* ---- the specification --------------------------------------------------------------------------------- */

static bool parameter_known(const char *name, size_t len)
{
    static const char *const known[] = { "addr", "ena-gpio", "timeout", "scp03", "scp03-part", "auth" };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) == len && strncmp(known[i], name, len) == 0)
            return true;
    }
    return false;
}

static void judge_parameters(struct doctor *d, const char *name, const struct hsm_token_spec *spec)
{
    const char *item = spec->params;
    size_t unknown = 0;

    while (*item != '\0') {
        size_t len = strcspn(item, "&"), name_len = strcspn(item, "=&");

        if (!parameter_known(item, name_len)) {
            doctor_say(d, VERDICT_FAIL, "an SE05x takes addr, ena-gpio, timeout, scp03, scp03-part and auth",
                       "token '%s' has the unknown parameter '%.*s', which nobody heeds", name, (int)name_len,
                       item);
            unknown++;
        }
        item += len + (item[len] == '&');
    }
    if (unknown == 0)
        doctor_say(d, VERDICT_OK, NULL, "the parameters of token '%s' are known", name);
}

void check_chip_spec(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++) {
        const struct hsm_token_spec *spec = hsm_token_spec(d->t->ctx, i);

        if (doctor_chip_node(spec) != NULL)
            judge_parameters(d, hsm_token_name(d->t->ctx, i), spec);
    }
}

/* ---- the bus ------------------------------------------------------------------------------------------- */

static void judge_mode(struct doctor *d, const char *path, const struct stat *sb)
{
    const struct group *group = getgrgid(sb->st_gid);
    char name[64];

    if (group != NULL)
        snprintf(name, sizeof(name), "%s", group->gr_name);
    else
        snprintf(name, sizeof(name), "%u", (unsigned)sb->st_gid);
    if ((sb->st_mode & S_IWOTH) != 0)
        doctor_say(d, VERDICT_WARN, "give it a group of its own by a udev rule, and mode 0660",
                   "everybody may talk on %s (mode %04o): whoever does can reset the chip, and destroy what "
                   "is on it",
                   path, (unsigned)(sb->st_mode & 07777));
    else
        doctor_say(d, VERDICT_OK, NULL, "%s may be opened by uid %u%s%s (mode %04o)", path,
                   (unsigned)sb->st_uid, (sb->st_mode & S_IWGRP) != 0 ? " and group " : "",
                   (sb->st_mode & S_IWGRP) != 0 ? name : "", (unsigned)(sb->st_mode & 07777));
}

static void judge_node(struct doctor *d, const char *path, bool is_socket)
{
    struct stat sb;

    if (stat(path, &sb) != 0)
        doctor_say(d, VERDICT_FAIL,
                   is_socket
                       ? "start the simulator, or correct the path"
                       : "load i2c-dev (modprobe i2c-dev), and see `hsmctl bus scan` for the buses there are",
                   "bus %s: %s", path, strerror(errno));
    else if (is_socket ? !S_ISSOCK(sb.st_mode) : !S_ISCHR(sb.st_mode))
        doctor_say(d, VERDICT_FAIL, "name /dev/i2c-N, or unix:PATH for a simulator", "bus %s is no %s", path,
                   is_socket ? "socket" : "device");
    else if (access(path, R_OK | W_OK) != 0)
        doctor_say(d, VERDICT_FAIL, "run as root, or as a member of the group of the device",
                   "bus %s may not be opened by uid %u: %s", path, (unsigned)geteuid(), strerror(errno));
    else
        judge_mode(d, path, &sb);
}

void check_chip_node(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++) {
        const struct hsm_token_spec *spec = hsm_token_spec(d->t->ctx, i);
        const char *path = doctor_chip_node(spec);

        if (path != NULL)
            judge_node(d, path, path != spec->location);
    }
}

/* ---- the chip ------------------------------------------------------------------------------------------ */

static void judge_channel(struct doctor *d, const char *name, const char *channel)
{
    if (strstr(channel, "public keys") != NULL)
        doctor_say(
            d, VERDICT_WARN, "replace them, once and for all: hsmctl se05x rotate-keys FILE",
            "the platform keys of token '%s' are the PUBLISHED ones of its maker: everybody knows them, and "
            "the secure channel protects against nobody",
            name);
    else if (strcmp(channel, "plain") == 0)
        doctor_say(d, VERDICT_OK, "where somebody could listen to the bus, say scp03=FILE",
                   "token '%s' talks to its chip without a secure channel", name);
    if (strstr(channel, "contended") != NULL)
        doctor_say(
            d, VERDICT_FAIL, "let one process own the chip, and serve the others (hsmd)",
            "other processes open secure channels on the chip of token '%s': each breaks that of the other",
            name);
    else if (strncmp(channel, "scp03", 5) == 0)
        doctor_say(d, VERDICT_OK,
                   "where several processes sign (nginx workers), let one of them own the chip (hsmd)",
                   "token '%s' uses a secure channel, of which the chip has only one: processes that take "
                   "turns open it "
                   "anew each time",
                   name);
}

static void judge_chip(struct doctor *d, size_t index)
{
    const char *name = hsm_token_name(d->t->ctx, index);
    struct hsm_token_info info = { .driver = "" };
    struct hsm_token *tok = NULL;

    if (hsm_token_get(d->t->ctx, index, &tok) != HSM_OK || hsm_token_info(tok, &info) != HSM_OK)
        return; /* check_token() has said it */
    doctor_say(d, VERDICT_OK, NULL, "the chip of token '%s' answers: %s", name, info.model);
    judge_channel(d, name, info.channel);
}

void check_chip(struct doctor *d)
{
    for (size_t i = 0; i < hsm_token_count(d->t->ctx); i++) {
        if (doctor_chip_node(hsm_token_spec(d->t->ctx, i)) != NULL)
            judge_chip(d, i);
    }
}
