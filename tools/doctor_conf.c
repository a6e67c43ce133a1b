/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor, first part: the file, and the way from openssl_conf to our section. libcrypto swallows most
 * of these faults, so nobody else reports them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>

#include "doctor.h"

enum { FILE_MAX = 1 << 20 };

/* ---- the file ----------------------------------------------------------------------------------------- */

void check_environment(struct doctor *d)
{
    static const struct {
        const char *name, *means;
    } variables[] = { { "HSM_TOKEN", "the token" },
                      { "HSM_PIN_SOURCE", "the PIN source" },
                      { "HSM_LOG", "where the log goes" },
                      { "HSM_LOG_LEVEL", "how much is logged" },
                      { "OPENSSL_MODULES", "where modules are looked for" },
                      { "OPENSSL_CONF_INCLUDE", "where .include looks" } };
    bool any = false;

    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = getenv(variables[i].name);

        if (value == NULL || value[0] == '\0')
            continue;
        any = true;
        doctor_say(d, VERDICT_WARN, "unset it, or set it for the service as well (systemd: Environment=)",
                   "%s=%s decides %s here; services do not inherit it", variables[i].name, value,
                   variables[i].means);
    }
    if (!any)
        doctor_say(d, VERDICT_OK, NULL, "no environment variable overrides the configuration");
}

static void choose_file(struct doctor *d)
{
    char *standard = CONF_get1_default_config_file();
    const char *from_environment = getenv("OPENSSL_CONF"), *origin = "default file";

    snprintf(d->path, sizeof(d->path), "%s",
             d->t->opt.config != NULL ? d->t->opt.config
             : standard != NULL       ? standard
                                      : "");
    if (d->t->opt.config != NULL)
        origin = "--config";
    else if (from_environment != NULL && from_environment[0] != '\0')
        origin = "OPENSSL_CONF; set-uid programs ignore it and read the default file";
    doctor_say(d, VERDICT_OK, NULL, "%s (%s)", d->path, origin);
    if (d->t->opt.config != NULL && standard != NULL && strcmp(standard, d->path) != 0)
        doctor_say(d, VERDICT_WARN, "set OPENSSL_CONF for the programs that need a key",
                   "a program started from here reads %s instead", standard);
    OPENSSL_free(standard);
}

static bool read_text(struct doctor *d, int fd, size_t size)
{
    ssize_t n;
    size_t have = 0;

    if ((d->text = calloc(1, size + 1)) == NULL)
        return false;
    while (have < size && (n = read(fd, d->text + have, size - have)) > 0)
        have += (size_t)n;
    return have == size;
}

static void judge_file(struct doctor *d, int fd)
{
    struct stat sb;

    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        doctor_say(d, VERDICT_FAIL, "name a file", "%s is not a regular file", d->path);
        return;
    }
    if ((sb.st_mode & S_IWOTH) != 0)
        doctor_say(d, VERDICT_FAIL, "chmod o-w the file",
                   "%s can be written by everybody, who thereby loads code into "
                   "every program that reads it",
                   d->path);
    if ((sb.st_mode & S_IROTH) == 0)
        doctor_say(d, VERDICT_WARN, "chmod 0644 the file; nothing in it is secret",
                   "%s is not readable by everybody (mode %04o): programs that run as another user ignore it",
                   d->path, (unsigned)(sb.st_mode & 07777));
    if (sb.st_size > FILE_MAX || !read_text(d, fd, (size_t)sb.st_size))
        doctor_say(d, VERDICT_FAIL, "give a file of less than 1 MiB", "%s cannot be read as a whole",
                   d->path);
    else
        d->facts |= HAVE_TEXT;
}

void check_file(struct doctor *d)
{
    int fd;

    choose_file(d);
    fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        doctor_say(d, VERDICT_FAIL,
                   errno == ENOENT ? "copy examples/openssl.cnf there, or set OPENSSL_CONF"
                                   : "check the permissions of the file and of each directory above it",
                   "%s cannot be opened: %s", d->path, strerror(errno));
        return;
    }
    judge_file(d, fd);
    close(fd);
}

void check_syntax(struct doctor *d)
{
    char reason[256];

    d->conf = NCONF_new(NULL);
    if (d->conf != NULL && NCONF_load(d->conf, d->path, NULL) > 0) {
        d->facts |= HAVE_CONF;
        doctor_say(d, VERDICT_OK, NULL, "the file parses");
        return;
    }
    doctor_openssl_error(reason, sizeof(reason));
    doctor_say(d, VERDICT_FAIL, "correct that line; until then every program ignores the whole file",
               "%s: %s", d->path, reason);
}

/* ---- the way from openssl_conf to the section --------------------------------------------------------- */

/* Where a key stands in the text: for faults that the parsed form no longer shows. */
struct place {
    size_t line; /* 0: nowhere */
    bool commented;
    char section[DOCTOR_WORD_MAX]; /* "" = before the first section */
};

/* A line "key = ..." (or "# key = ..."); longer words that begin alike do not count. */
static bool line_sets(const char *line, const char *key, bool *commented)
{
    line = doctor_skip_blanks(line);
    *commented = *line == '#';
    if (*commented)
        line = doctor_skip_blanks(line + 1);
    if (strncmp(line, key, strlen(key)) != 0)
        return false;
    return *doctor_skip_blanks(line + strlen(key)) == '=';
}

/* The first line that sets the key, a live one before a commented one. */
static struct place find_place(const char *text, const char *key)
{
    struct place found = { .line = 0 };
    char section[DOCTOR_WORD_MAX] = "";
    bool commented = false;

    for (size_t number = 1; *text != '\0'; number++) {
        doctor_note_section(text, section);
        if (line_sets(text, key, &commented) && (found.line == 0 || (found.commented && !commented))) {
            found.line = number;
            found.commented = commented;
            memcpy(found.section, section, sizeof(section));
        }
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return found;
}

void check_openssl_conf(struct doctor *d)
{
    struct place place = find_place(d->text, "openssl_conf");

    d->init = doctor_get(d, "default", "openssl_conf");
    if (d->init != NULL && doctor_section_exists(d, d->init)) {
        d->facts |= HAVE_INIT;
        doctor_say(d, VERDICT_OK, NULL, "openssl_conf = %s", d->init);
    } else if (d->init != NULL) {
        doctor_say(d, VERDICT_FAIL, "add that section, as in examples/openssl.cnf",
                   "openssl_conf = %s, but there is no section [%s]", d->init, d->init);
    } else if (place.line == 0) {
        doctor_say(d, VERDICT_FAIL, "put `openssl_conf = openssl_init` above the first [section]",
                   "openssl_conf is missing: no program looks for providers");
    } else if (place.commented) {
        doctor_say(d, VERDICT_FAIL, "remove the # in front of it",
                   "openssl_conf is commented out on line %zu", place.line);
    } else {
        doctor_say(d, VERDICT_FAIL, "move that line above the first [section]",
                   "openssl_conf stands on line %zu, inside [%s], where nobody reads it", place.line,
                   place.section);
    }
}

void check_providers(struct doctor *d)
{
    struct place place = find_place(d->text, "providers");

    d->providers = doctor_get(d, d->init, "providers");
    if (d->providers == NULL) {
        doctor_say(d, VERDICT_FAIL, "put `providers = provider_sect` into that section",
                   "[%s] has no `providers`%s", d->init,
                   place.commented ? " (it is commented out, as in the file that Debian ships)" : "");
    } else if (!doctor_section_exists(d, d->providers)) {
        doctor_say(d, VERDICT_FAIL, "add that section with `default = default_sect` and `hsm = hsm_sect`",
                   "providers = %s, but there is no section [%s]", d->providers, d->providers);
    } else {
        d->facts |= HAVE_LIST;
        doctor_say(d, VERDICT_OK, NULL, "providers are listed in [%s]", d->providers);
    }
}

static bool is_our_module(const char *module)
{
    const char *base = module != NULL ? strrchr(module, '/') : NULL;

    return module != NULL && strcmp(base != NULL ? base + 1 : module, "hsm.so") == 0;
}

/* The list may name us in another way: a provider whose section says module = hsm.so. */
static const char *other_name(const struct doctor *d)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->providers);

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if (v->value != NULL && doctor_section_exists(d, v->value) &&
            is_our_module(doctor_get(d, v->value, "module")))
            return doctor_skip_dot(v->name);
    }
    return NULL;
}

void check_hsm(struct doctor *d)
{
    const char *section = doctor_get(d, d->providers, "hsm");

    d->name = "hsm";
    if (section == NULL && (d->name = other_name(d)) != NULL) {
        doctor_say(d, VERDICT_WARN, "call it hsm: what asks for provider=hsm does not find it",
                   "the hsm module is listed as provider '%s'", d->name);
        section = doctor_get(d, d->providers, d->name);
    }
    if (section == NULL) {
        doctor_say(d, VERDICT_FAIL, "add `hsm = hsm_sect` to that section, below default",
                   "hsm is not listed in [%s]", d->providers);
        return;
    }
    d->facts |= HAVE_HSM;
    if (!doctor_section_exists(d, section)) {
        doctor_say(d, VERDICT_FAIL, "add that section, as in examples/openssl.cnf",
                   "%s = %s, but there is no section [%s]", d->name, section, section);
        return;
    }
    d->section = section;
    d->facts |= HAVE_SECTION;
    doctor_say(d, VERDICT_OK, NULL, "%s is configured in [%s]", d->name, section);
}

/* As soon as one provider is activated by hand, the default one is no longer activated by itself. */
void check_default(struct doctor *d)
{
    const char *section = doctor_get(d, d->providers, "default");
    enum truth active = section != NULL ? doctor_truth(doctor_get(d, section, "activate")) : TRUTH_ABSENT;

    if (section == NULL && doctor_get(d, d->providers, "fips") != NULL)
        doctor_say(d, VERDICT_WARN, "list default as well, unless fips and base are all you want",
                   "fips is listed in [%s], default is not", d->providers);
    else if (section == NULL)
        doctor_say(d, VERDICT_FAIL,
                   "add `default = default_sect`, first in that section, and [default_sect] with "
                   "`activate = 1`",
                   "default is not listed in [%s]: without it there are no digests, ciphers or files",
                   d->providers);
    else if (active == TRUTH_ABSENT)
        doctor_say(d, VERDICT_FAIL, "put `activate = 1` into that section",
                   "the default provider is not activated in [%s]: nothing works beside it", section);
    else if (active != TRUTH_ON)
        doctor_say(d, VERDICT_FAIL, "write `activate = 1`",
                   "[%s] says activate = %s for the default provider", section,
                   doctor_get(d, section, "activate"));
    else
        doctor_say(d, VERDICT_OK, NULL, "the default provider is activated");
}

static int position(const struct doctor *d, const char *name)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->providers);

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        if (strcmp(doctor_skip_dot(sk_CONF_VALUE_value(values, i)->name), name) == 0)
            return i;
    }
    return -1;
}

void check_order(struct doctor *d)
{
    int ours = position(d, d->name), standard = position(d, "default");

    if (standard < 0)
        return; /* said already */
    if (ours < standard)
        doctor_say(d, VERDICT_WARN, "move the line of default above it",
                   "%s is listed before default: every fetch asks "
                   "it first, which costs time in programs that use no HSM key",
                   d->name);
    else
        doctor_say(d, VERDICT_OK, NULL, "default stands before %s", d->name);
}
