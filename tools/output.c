/* SPDX-License-Identifier: Apache-2.0 */
/* Output: one record structure, printed as JSON for programs or as columns for people. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool.h"

enum { CELL_MAX = 320, COLUMNS_MAX = 12, CREATED_MAX = 32 };

const char *out_printable(const char *text, char *out, size_t out_len)
{
    size_t i = 0;

    for (; text[i] != '\0' && i + 1 < out_len; i++)
        out[i] = ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) ? '?' : text[i];
    out[i] = '\0';
    return out;
}

void out_text(struct json_object *record, const char *field, const char *text)
{
    json_object_object_add(record, field, text != NULL ? json_object_new_string(text) : NULL);
}

void out_hex(struct json_object *record, const char *field, struct hsm_bytes bytes)
{
    char *text = malloc(2 * bytes.len + 1);

    if (text != NULL)
        hex_encode(bytes, text);
    out_text(record, field, text);
    free(text);
}

void out_bool(struct json_object *record, const char *field, bool value)
{
    json_object_object_add(record, field, json_object_new_boolean(value));
}

void out_int(struct json_object *record, const char *field, int64_t value)
{
    json_object_object_add(record, field, json_object_new_int64(value));
}

void out_uint(struct json_object *record, const char *field, uint64_t value)
{
    json_object_object_add(record, field, json_object_new_uint64(value));
}

void out_time(struct json_object *record, const char *field, int64_t seconds)
{
    char text[CREATED_MAX];
    time_t when = (time_t)seconds;
    struct tm tm;

    if (gmtime_r(&when, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out_text(record, field, NULL);
    else
        out_text(record, field, text);
}

static const char *cell_text(struct json_object *value, char out[CELL_MAX])
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return out_printable("-", out, CELL_MAX);
    case json_type_boolean:
        return out_printable(json_object_get_boolean(value) ? "yes" : "no", out, CELL_MAX);
    default:
        return out_printable(json_object_get_string(value), out, CELL_MAX);
    }
}

/* Columns on the terminal, counted as characters: continuation bytes of UTF-8 take no room. */
static size_t width(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static const char *cell(struct json_object *row, const char *field, char out[CELL_MAX])
{
    return cell_text(json_object_object_get(row, field), out);
}

static void print_cell(const char *text, size_t room, bool last)
{
    printf("%s", text);
    for (size_t n = width(text); !last && n < room + 2; n++)
        putchar(' ');
}

static void print_table(struct json_object *list, const char *const fields[])
{
    size_t room[COLUMNS_MAX] = { 0 }, rows = json_object_array_length(list), columns = 0;
    char text[CELL_MAX];

    for (; fields[columns] != NULL && columns < COLUMNS_MAX; columns++) {
        room[columns] = width(fields[columns]);
        for (size_t r = 0; r < rows; r++) {
            size_t w = width(cell(json_object_array_get_idx(list, r), fields[columns], text));

            room[columns] = w > room[columns] ? w : room[columns];
        }
    }
    for (size_t c = 0; rows > 0 && c < columns; c++)
        print_cell(fields[c], room[c], c + 1 == columns);
    if (rows > 0)
        putchar('\n');
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++)
            print_cell(cell(json_object_array_get_idx(list, r), fields[c], text), room[c], c + 1 == columns);
        putchar('\n');
    }
}

static void print_json(struct json_object *value)
{
    puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

hsm_status out_list(struct tool *t, struct json_object *list, const char *const fields[])
{
    if (list == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory while preparing the list");
    if (t->opt.json)
        print_json(list);
    else
        print_table(list, fields);
    json_object_put(list);
    return HSM_OK;
}

hsm_status out_record(struct tool *t, struct json_object *record)
{
    char text[CELL_MAX];

    if (record == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory while preparing the output");
    if (t->opt.json) {
        print_json(record);
    } else {
        json_object_object_foreach(record, field, value)
        {
            printf("%-16s %s\n", field, cell_text(value, text));
        }
    }
    json_object_put(record);
    return HSM_OK;
}

void out_note(struct tool *t, const char *fmt, ...)
{
    va_list ap;

    if (t->opt.json)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

hsm_status out_finish(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return HSM_OK;
    return hsm_fail(HSM_ERR_TOKEN_IO, "cannot write to standard output: %s; the command itself was done",
                    errno != 0 ? strerror(errno) : "write error");
}

void hex_encode(struct hsm_bytes in, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < in.len; i++) {
        *out++ = digits[in.ptr[i] >> 4];
        *out++ = digits[in.ptr[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = c != '\0' ? strchr(digits, c | 0x20) : NULL;

    return p != NULL ? (int)(p - digits) : -1;
}

hsm_status hex_decode(const char *text, struct hsm_buf *out)
{
    size_t len = strlen(text);

    if (len == 0 || len % 2 != 0 || len / 2 > out->cap)
        return HSM_ERR_ARGUMENT;
    for (size_t i = 0; i < len / 2; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return HSM_ERR_ARGUMENT;
        out->ptr[i] = (uint8_t)(high << 4 | low);
    }
    out->len = len / 2;
    return HSM_OK;
}
