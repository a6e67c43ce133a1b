/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor, second part: the keys and values of our section, and what else in openssl.cnf bears on us.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>

#include "doctor.h"

/* ---- our section -------------------------------------------------------------------------------------- */

static void judge_switch(struct doctor *d, const char *key)
{
    const char *value = doctor_get(d, d->section, key);

    switch (doctor_truth(value)) {
    case TRUTH_OFF:
        doctor_say(d, VERDICT_FAIL,
                   "to switch hsm off, remove its line from the provider list; to use it, say 1",
                   "%s = %s: OpenSSL 3.0 takes the mere word as yes, later releases as no", key, value);
        break;
    case TRUTH_OTHER:
        doctor_say(d, VERDICT_FAIL, "write 1",
                   "%s = %s: newer releases refuse that word and with it the provider", key, value);
        break;
    case TRUTH_ON:
        doctor_say(d, VERDICT_OK, NULL, "%s = %s", key, value);
        break;
    case TRUTH_ABSENT:
        break;
    }
}

void check_activate(struct doctor *d)
{
    if (doctor_get(d, d->section, "activate") == NULL)
        doctor_say(d, VERDICT_FAIL, "add `activate = 1` to that section",
                   "[%s] has no `activate`: hsm is not loaded", d->section);
    judge_switch(d, "activate");
    judge_switch(d, "soft_load");
}

/* How many letters one word is away from the other. */
static size_t distance(const char *a, const char *b)
{
    size_t row[DOCTOR_WORD_MAX + 1], la = strlen(a), lb = strlen(b);

    if (la > DOCTOR_WORD_MAX || lb > DOCTOR_WORD_MAX)
        return DOCTOR_WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t replaced =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            size_t shifted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[lb];
}

static const char *closest_key(const char *key)
{
    const char *best = NULL, *known;
    size_t best_distance = strlen(key) / 2 + 1;

    for (size_t i = 0; (known = hsm_config_known_key(i)) != NULL; i++) {
        size_t away = distance(key, known);

        if (away < best_distance) {
            best_distance = away;
            best = known;
        }
    }
    return best;
}

static bool judge_key(struct doctor *d, struct hsm_config *scratch, const CONF_VALUE *v)
{
    const char *close;
    char remedy[128];
    hsm_status st;

    if (!hsm_config_key_known(v->name) && !hsm_config_key_known(doctor_skip_dot(v->name))) {
        if ((close = closest_key(v->name)) != NULL)
            snprintf(remedy, sizeof(remedy), "did you mean %s?", close);
        else
            snprintf(remedy, sizeof(remedy), "remove it; hsm-provider(7) lists the keys");
        doctor_say(d, VERDICT_FAIL, remedy, "[%s] has the unknown key '%s'", d->section, v->name);
        return false;
    }
    if (!hsm_config_key_known(v->name))
        return true; /* 1.activate: libcrypto's business */
    st = hsm_config_set(scratch, v->name, v->value != NULL ? v->value : "");
    if (st != HSM_OK)
        doctor_say(d, VERDICT_FAIL, "correct the value", "[%s] %s", d->section, hsm_error_text(st));
    return st == HSM_OK;
}

void check_keys(struct doctor *d)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->section);
    struct hsm_config *scratch = NULL;
    bool good = true;

    if (hsm_config_new(&scratch) != HSM_OK)
        return;
    for (int i = 0; i < sk_CONF_VALUE_num(values); i++)
        good = judge_key(d, scratch, sk_CONF_VALUE_value(values, i)) && good;
    if (good)
        doctor_say(d, VERDICT_OK, NULL, "all keys of [%s] are known", d->section);
    hsm_config_free(scratch);
}

/* A value that equals a section's name is a sub-section to libcrypto; "default" recurses: no activation. */
void check_values(struct doctor *d)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->section);
    bool good = true;

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if (v->value == NULL || !doctor_section_exists(d, v->value))
            continue;
        good = false;
        if (strcmp(v->value, "default") == 0)
            doctor_say(
                d, VERDICT_FAIL, "choose another word",
                "%s = default: that is the unnamed section, libcrypto recurses and does not activate hsm",
                v->name);
        else
            doctor_say(d, VERDICT_FAIL, "choose another word, or rename that section",
                       "%s = %s: there is a section of that name, so libcrypto eats the key", v->name,
                       v->value);
    }
    if (good)
        doctor_say(d, VERDICT_OK, NULL, "no value is taken for a section");
}

static bool listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = list; (p = strstr(p, name)) != NULL; p += len) {
        bool begins = p == list || strchr(" \t,", p[-1]) != NULL, ends = strchr(" \t,", p[len]) != NULL;

        if (begins && ends) /* strchr() finds the final NUL too */
            return true;
    }
    return false;
}

static void check_indexed(struct doctor *d, const CONF_VALUE *v, const char *prefix, const char *list)
{
    const char *name = v->name + strlen(prefix);

    if (strncmp(v->name, prefix, strlen(prefix)) != 0 || (list != NULL && listed(list, name)))
        return;
    doctor_say(d, VERDICT_FAIL, "list the name in `tokens = ...`",
               "%s is never read: libcrypto hands over only names that are asked for, and `tokens` does not "
               "name '%s'",
               v->name, name);
}

void check_tokens(struct doctor *d)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->section);
    const char *list = doctor_get(d, d->section, "tokens");

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        check_indexed(d, sk_CONF_VALUE_value(values, i), "token.", list);
        check_indexed(d, sk_CONF_VALUE_value(values, i), "pin-source.", list);
    }
    if (list == NULL && doctor_get(d, d->section, "token") == NULL)
        doctor_say(d, VERDICT_WARN, "add `token = driver:location`", "no token is named: %s is used",
                   HSM_DEFAULT_TOKEN);
}

/* '#' begins a comment and '$' expands: what a person wrote is not what a program reads. */
static void judge_line(struct doctor *d, const char *line, size_t len, size_t number)
{
    const char *value = memchr(line, '=', len), *end = line + len;

    if (value == NULL || *doctor_skip_blanks(line) == '#')
        return;
    for (const char *p = value + 1; p < end; p++) {
        if (*p == '$' && p[-1] != '\\')
            doctor_say(d, VERDICT_WARN, "write \\$ for a dollar sign", "line %zu: $ in the value is expanded",
                       number);
        if (*p == '#' && p[-1] != ' ' && p[-1] != '\t' && p[-1] != '\\')
            doctor_say(d, VERDICT_WARN, "write \\# for a hash sign, or put a blank before a comment",
                       "line %zu: # in the middle of a value cuts it off there", number);
        if (*p == '#')
            return;
    }
}

static void judge_pin_words(struct doctor *d)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, d->section);

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if (strcasecmp(v->name, "pin") == 0 || strcasecmp(v->name, "pin-value") == 0 ||
            (v->value != NULL && strstr(v->value, "pin-value=") != NULL))
            doctor_say(d, VERDICT_FAIL, "put it into a file of mode 0600 and say pin-source = file:PATH",
                       "%s holds a PIN: everybody can read openssl.cnf", v->name);
    }
}

void check_pin_text(struct doctor *d)
{
    char section[DOCTOR_WORD_MAX] = "";
    const char *line = d->text;

    judge_pin_words(d);
    for (size_t number = 1; *line != '\0'; number++) {
        size_t len = strcspn(line, "\n");

        doctor_note_section(line, section);
        if (strcmp(section, d->section) == 0)
            judge_line(d, line, len, number);
        line += len + (line[len] == '\n');
    }
}

/* ---- the rest of the file ----------------------------------------------------------------------------- */

void check_properties(struct doctor *d)
{
    const char *algorithms = doctor_get(d, d->init, "alg_section"), *query = NULL;

    if (algorithms != NULL && doctor_section_exists(d, algorithms))
        query = doctor_get(d, algorithms, "default_properties");
    if (query == NULL)
        doctor_say(d, VERDICT_OK, NULL, "no default_properties");
    else if (strstr(query, "provider=") != NULL && strstr(query, "?provider=") == NULL)
        doctor_say(d, VERDICT_FAIL, "remove it; keys find their provider by themselves",
                   "default_properties = %s binds every operation of every program to one provider", query);
    else if (strstr(query, "?provider=hsm") != NULL)
        doctor_say(d, VERDICT_WARN, "remove it; keys find their provider by themselves",
                   "default_properties = %s makes new keys in the token and sends software keys through hsm",
                   query);
    else
        doctor_say(d, VERDICT_WARN, "make sure that keys of hsm still match (property provider=hsm)",
                   "default_properties = %s is added to every fetch", query);
}

void check_other_programs(struct doctor *d)
{
    if (doctor_get(d, "default", "nodejs_conf") == NULL)
        doctor_say(d, VERDICT_OK,
                   "where Node.js is used, add `nodejs_conf = openssl_init` beside openssl_conf",
                   "nodejs_conf is not set: Node.js loads no provider from this file");
    if (!doctor_section_exists(d, "req"))
        doctor_say(d, VERDICT_WARN,
                   "add a section [req] with `distinguished_name = req_dn`, and an empty [req_dn]",
                   "there is no section [req]: `openssl req` fails with this file");
    if (OPENSSL_version_major() >= 4 && doctor_get(d, "default", "extensions") == NULL)
        doctor_say(d, VERDICT_WARN,
                   "add `extensions = no_extensions` above the first section, and an empty "
                   "[no_extensions]",
                   "`openssl x509 -req -CA` of OpenSSL 4 aborts with this file");
}
