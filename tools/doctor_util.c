/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl doctor: reading openssl.cnf as libcrypto does, and as text. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/err.h>

#include "doctor.h"

const char *doctor_skip_dot(const char *key)
{
    const char *dot = strchr(key, '.');

    return dot != NULL ? dot + 1 : key;
}

const char *doctor_get(const struct doctor *d, const char *section, const char *key)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(d->conf, section);
    const char *found = NULL;

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if (strcmp(v->name, key) == 0 || strcmp(doctor_skip_dot(v->name), key) == 0)
            found = v->value;
    }
    return found;
}

bool doctor_section_exists(const struct doctor *d, const char *section)
{
    bool exists = NCONF_get_section(d->conf, section) != NULL;

    ERR_clear_error();
    return exists;
}

const char *doctor_openssl_error(char *out, size_t out_len)
{
    const char *data = NULL, *reason;
    int flags = 0;
    unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);

    reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (code == 0)
        snprintf(out, out_len, "no reason given");
    else if ((flags & ERR_TXT_STRING) && data[0] != '\0')
        snprintf(out, out_len, "%s (%s)", reason != NULL ? reason : "error", data);
    else
        snprintf(out, out_len, "%s", reason != NULL ? reason : "error");
    ERR_clear_error();
    return out;
}

enum truth doctor_truth(const char *value)
{
    static const char *const on[] = { "1", "yes", "true", "on" };
    static const char *const off[] = { "0", "no", "false", "off" };

    if (value == NULL)
        return TRUTH_ABSENT;
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
        if (strcasecmp(value, on[i]) == 0)
            return TRUTH_ON;
        if (strcasecmp(value, off[i]) == 0)
            return TRUTH_OFF;
    }
    return TRUTH_OTHER;
}

const char *doctor_skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

void doctor_note_section(const char *line, char section[DOCTOR_WORD_MAX])
{
    size_t len;

    line = doctor_skip_blanks(line);
    if (*line != '[')
        return;
    line = doctor_skip_blanks(line + 1);
    len = strcspn(line, " \t]\r\n");
    snprintf(section, DOCTOR_WORD_MAX, "%.*s", (int)len, line);
}
