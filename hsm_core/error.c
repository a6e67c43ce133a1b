/* SPDX-License-Identifier: Apache-2.0 */
#include "hsm/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERROR_TEXT_MAX = 512 };

static _Thread_local struct {
    hsm_status st;
    char text[ERROR_TEXT_MAX];
} last;

const char *hsm_strerror(hsm_status st)
{
    switch (st) {
#define CASE(name, value, text)                                                                              \
    case name:                                                                                               \
        return text;
        HSM_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

/* One line stays one line whatever a label, a path or a library's message contains. */
static void flatten(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

hsm_status hsm_fail(hsm_status st, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX]; /* the arguments may point into last.text */
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    flatten(text);
    memcpy(last.text, text, sizeof(text));
    last.st = st;
    return st;
}

const char *hsm_error_text(hsm_status st)
{
    return st != HSM_OK && last.st == st && last.text[0] != '\0' ? last.text : hsm_strerror(st);
}
