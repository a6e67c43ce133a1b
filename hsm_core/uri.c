/* SPDX-License-Identifier: Apache-2.0 */
#include "hsm/uri.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "utf8.h"

static const char *const type_names[] = {
    [HSM_URI_TYPE_PRIVATE] = "private", [HSM_URI_TYPE_PUBLIC] = "public",
    [HSM_URI_TYPE_CERT] = "cert",       [HSM_URI_TYPE_SECRET] = "secret-key",
    [HSM_URI_TYPE_DATA] = "data",       [HSM_URI_TYPE_COUNTER] = "counter",
};

enum {
    SEEN_TOKEN = 1,
    SEEN_OBJECT = 2,
    SEEN_ID = 4,
    SEEN_TYPE = 8,
    SEEN_PIN_SOURCE = 16,
    SEEN_PIN_VALUE = 32
};

/* The path and query attributes of RFC 7512 sections 2.3 and 2.4 that mean something here. */
static const struct attribute {
    const char *name;
    bool query;
    unsigned seen;
} attributes[] = {
    { "token", false, SEEN_TOKEN },
    { "object", false, SEEN_OBJECT },
    { "id", false, SEEN_ID },
    { "type", false, SEEN_TYPE },
    { "pin-source", true, SEEN_PIN_SOURCE },
    { "pin-value", true, SEEN_PIN_VALUE },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decode text[0..len) into out[0..cap). @return the decoded length, or -1 */
static long decode(const char *text, size_t len, uint8_t *out, size_t cap)
{
    size_t i, n = 0;

    for (i = 0; i < len; i++) {
        int high, low;

        if (n == cap)
            return -1;
        if (text[i] != '%') {
            out[n++] = (uint8_t)text[i];
            continue;
        }
        if (len - i < 3 || (high = hex_digit(text[i + 1])) < 0 || (low = hex_digit(text[i + 2])) < 0)
            return -1;
        out[n++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    return (long)n;
}

static hsm_status decode_text(const char *name, const char *text, size_t len, char *out, size_t cap)
{
    long n = decode(text, len, (uint8_t *)out, cap - 1);

    if (n < 0 || !hsm_utf8_valid((struct hsm_bytes){ (uint8_t *)out, (size_t)n })) {
        OPENSSL_cleanse(out, cap);
        return hsm_fail(HSM_ERR_URI,
                        "key URI: the value of '%s' is too long, badly percent-encoded or not UTF-8", name);
    }
    out[n] = '\0';
    return HSM_OK;
}

static hsm_status set_type(const char *text, size_t len, struct hsm_uri *uri)
{
    size_t i;

    for (i = HSM_URI_TYPE_PRIVATE; i < COUNT(type_names); i++)
        if (strlen(type_names[i]) == len && memcmp(type_names[i], text, len) == 0) {
            uri->type = (enum hsm_uri_type)i;
            return HSM_OK;
        }
    return hsm_fail(
        HSM_ERR_URI,
        "key URI: type '%.*s' is not known: use private, public, cert, secret-key, data or counter",
        len > 32 ? 32 : (int)len, text);
}

static hsm_status set_attribute(const struct attribute *a, const char *text, size_t len, struct hsm_uri *uri)
{
    long n;

    switch (a->seen) {
    case SEEN_TOKEN:
        return decode_text(a->name, text, len, uri->token, sizeof(uri->token));
    case SEEN_OBJECT:
        return decode_text(a->name, text, len, uri->object, sizeof(uri->object));
    case SEEN_TYPE:
        return set_type(text, len, uri);
    case SEEN_PIN_SOURCE:
        return decode_text(a->name, text, len, uri->pin_source, sizeof(uri->pin_source));
    case SEEN_PIN_VALUE:
        uri->has_pin_value = true;
        return decode_text(a->name, text, len, uri->pin_value, sizeof(uri->pin_value));
    default:
        if ((n = decode(text, len, uri->id, sizeof(uri->id))) <= 0)
            return hsm_fail(HSM_ERR_URI,
                            "key URI: 'id' is empty, longer than %d bytes or badly percent-encoded",
                            HSM_ID_MAX);
        uri->id_len = (size_t)n;
        return HSM_OK;
    }
}

static hsm_status parse_attribute(const char *text, size_t len, bool query, unsigned *seen,
                                  struct hsm_uri *uri)
{
    const char *equals = memchr(text, '=', len);
    size_t i, name_len = equals == NULL ? len : (size_t)(equals - text);

    if (equals == NULL)
        return hsm_fail(HSM_ERR_URI, "key URI: '%.*s' has no value; write %s",
                        query || len > 32 ? 0 : (int)len, text,
                        query ? "pin-source=... behind the '?'" : "name=value;name=value");
    for (i = 0; i < COUNT(attributes); i++) {
        const struct attribute *a = &attributes[i];

        if (a->query != query || strlen(a->name) != name_len || memcmp(a->name, text, name_len) != 0)
            continue;
        if ((*seen & a->seen) != 0)
            return hsm_fail(HSM_ERR_URI, "key URI: '%s' is given twice", a->name);
        *seen |= a->seen;
        return set_attribute(a, equals + 1, len - name_len - 1, uri);
    }
    return hsm_fail(HSM_ERR_URI, "key URI: attribute '%.*s' is not known: use %s",
                    name_len > 32 ? 32 : (int)name_len, text,
                    query ? "pin-source or pin-value" : "token, object, id or type");
}

static hsm_status parse_list(const char *text, size_t len, char separator, struct hsm_uri *uri)
{
    unsigned seen = 0;
    hsm_status st;

    while (len > 0) {
        const char *end = memchr(text, separator, len);
        size_t n = end == NULL ? len : (size_t)(end - text);

        if (n > 0 && (st = parse_attribute(text, n, separator == '&', &seen, uri)) != HSM_OK)
            return st;
        if (end == NULL)
            break;
        text += n + 1;
        len -= n + 1;
    }
    return HSM_OK;
}

hsm_status hsm_uri_parse_scheme(const char *text, const char *scheme, struct hsm_uri *uri)
{
    size_t scheme_len = strlen(scheme), path_len;
    const char *path, *query;
    hsm_status st;

    *uri = (struct hsm_uri){ .type = HSM_URI_TYPE_ANY };
    if (strlen(text) > HSM_URI_MAX)
        return hsm_fail(HSM_ERR_URI, "key URI is longer than %d bytes", HSM_URI_MAX);
    if (strncasecmp(text, scheme, scheme_len) != 0 || text[scheme_len] != ':')
        return hsm_fail(HSM_ERR_URI, "key URI does not begin with '%s:'", scheme);
    path = text + scheme_len + 1;
    path_len = strcspn(path, "?");
    query = path[path_len] == '?' ? path + path_len + 1 : "";
    if (path_len > 0 && memchr(path, '=', path_len) == NULL && memchr(path, ';', path_len) == NULL)
        st = decode_text("object", path, path_len, uri->object, sizeof(uri->object));
    else
        st = parse_list(path, path_len, ';', uri);
    if (st == HSM_OK)
        st = parse_list(query, strlen(query), '&', uri);
    if (st != HSM_OK)
        hsm_uri_clear(uri);
    return st;
}

hsm_status hsm_uri_parse(const char *text, struct hsm_uri *uri)
{
    return hsm_uri_parse_scheme(text, "hsm", uri);
}

static bool unreserved(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void put(struct hsm_buf *out, const char *text)
{
    for (; *text != '\0'; text++, out->len++)
        if (out->len < out->cap)
            out->ptr[out->len] = (uint8_t)*text;
}

static void put_encoded(struct hsm_buf *out, const uint8_t *bytes, size_t len, bool all)
{
    char code[4];
    size_t i;

    for (i = 0; i < len; i++) {
        if (!all && unreserved(bytes[i]))
            (void)snprintf(code, sizeof(code), "%c", bytes[i]);
        else
            (void)snprintf(code, sizeof(code), "%%%02X", bytes[i]);
        put(out, code);
    }
}

static void put_attribute(struct hsm_buf *out, bool *first, const char *name, const uint8_t *value,
                          size_t len, bool all)
{
    if (len == 0)
        return;
    put(out, *first ? "" : ";");
    put(out, name);
    put(out, "=");
    put_encoded(out, value, len, all);
    *first = false;
}

hsm_status hsm_uri_format(const struct hsm_uri *uri, struct hsm_buf *out)
{
    const char *type = uri->type == HSM_URI_TYPE_ANY ? "" : type_names[uri->type];
    struct hsm_buf text = { out->ptr, out->cap == 0 ? 0 : out->cap - 1, 0 };
    bool first = true;

    put(&text, "hsm:");
    put_attribute(&text, &first, "token", (const uint8_t *)uri->token, strlen(uri->token), false);
    put_attribute(&text, &first, "object", (const uint8_t *)uri->object, strlen(uri->object), false);
    put_attribute(&text, &first, "id", uri->id, uri->id_len, true);
    put_attribute(&text, &first, "type", (const uint8_t *)type, strlen(type), false);
    if (out->cap == 0 || text.len > text.cap)
        return hsm_fail(HSM_ERR_BUFFER, "key URI does not fit into %zu bytes", out->cap);
    out->ptr[text.len] = '\0';
    out->len = text.len;
    return HSM_OK;
}

void hsm_uri_clear(struct hsm_uri *uri)
{
    OPENSSL_cleanse(uri->pin_value, sizeof(uri->pin_value));
    uri->has_pin_value = false;
}
