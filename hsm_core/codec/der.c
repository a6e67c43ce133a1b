/* SPDX-License-Identifier: Apache-2.0 */
#include "der.h"

#include <string.h>

/* Header of the element at the front of `in`: tag, header length, content length; all inside `in`. */
static bool read_header(struct hsm_bytes in, uint8_t *tag, size_t *header_len, size_t *content_len)
{
    size_t count, i, len = 0;

    if (in.len < 2 || (in.ptr[0] & 0x1f) == 0x1f)
        return false;
    *tag = in.ptr[0];
    if (in.ptr[1] < 0x80) {
        *header_len = 2;
        *content_len = in.ptr[1];
        return *content_len <= in.len - 2;
    }
    count = in.ptr[1] & 0x7f;
    if (count == 0 || count > 4 || in.len - 2 < count || in.ptr[2] == 0)
        return false;
    for (i = 0; i < count; i++)
        len = len << 8 | in.ptr[2 + i];
    if (len < 0x80 || len > in.len - 2 - count)
        return false;
    *header_len = 2 + count;
    *content_len = len;
    return true;
}

static void advance(struct hsm_bytes *in, size_t n)
{
    in->ptr += n;
    in->len -= n;
}

bool der_take(struct hsm_bytes *in, uint8_t tag, struct hsm_bytes *content)
{
    uint8_t found;
    size_t header, len;

    if (!read_header(*in, &found, &header, &len) || found != tag)
        return false;
    *content = (struct hsm_bytes){ in->ptr + header, len };
    advance(in, header + len);
    return true;
}

bool der_take_any(struct hsm_bytes *in, uint8_t *tag, struct hsm_bytes *whole)
{
    size_t header, len;

    if (!read_header(*in, tag, &header, &len))
        return false;
    *whole = (struct hsm_bytes){ in->ptr, header + len };
    advance(in, header + len);
    return true;
}

bool der_take_uint(struct hsm_bytes *in, struct hsm_bytes *value)
{
    struct hsm_bytes rest = *in, v;

    if (!der_take(&rest, DER_INTEGER, &v) || v.len == 0 || (v.ptr[0] & 0x80) != 0)
        return false;
    if (v.len > 1 && v.ptr[0] == 0) {
        if ((v.ptr[1] & 0x80) == 0)
            return false; /* a padding octet that DER forbids */
        advance(&v, 1);
    }
    *in = rest;
    *value = v;
    return true;
}

void der_writer_init(struct der_writer *w, struct hsm_buf *buf)
{
    *w = (struct der_writer){ .start = buf->ptr, .pos = buf->ptr + buf->cap, .end = buf->ptr + buf->cap };
}

size_t der_len(const struct der_writer *w)
{
    return (size_t)(w->end - w->pos);
}

void der_put(struct der_writer *w, struct hsm_bytes bytes)
{
    if (w->full || (size_t)(w->pos - w->start) < bytes.len) {
        w->full = true;
        return;
    }
    w->pos -= bytes.len;
    if (bytes.len > 0)
        memcpy(w->pos, bytes.ptr, bytes.len);
}

void der_wrap(struct der_writer *w, size_t mark, uint8_t tag)
{
    uint8_t header[6];
    size_t len = der_len(w) - mark, n = 0, shift;

    header[n++] = tag;
    if (len < 0x80) {
        header[n++] = (uint8_t)len;
    } else {
        size_t count = len > 0xffffff ? 4 : len > 0xffff ? 3 : len > 0xff ? 2 : 1;

        header[n++] = (uint8_t)(0x80 | count);
        for (shift = count; shift-- > 0;)
            header[n++] = (uint8_t)(len >> (8 * shift));
    }
    der_put(w, (struct hsm_bytes){ header, n });
}

void der_put_element(struct der_writer *w, uint8_t tag, struct hsm_bytes content)
{
    size_t mark = der_len(w);

    der_put(w, content);
    der_wrap(w, mark, tag);
}

void der_put_uint(struct der_writer *w, struct hsm_bytes value)
{
    static const uint8_t zero[1] = { 0 };
    size_t mark = der_len(w);

    while (value.len > 0 && value.ptr[0] == 0)
        advance(&value, 1);
    der_put(w, value);
    if (value.len == 0 || (value.ptr[0] & 0x80) != 0)
        der_put(w, (struct hsm_bytes){ zero, 1 });
    der_wrap(w, mark, DER_INTEGER);
}

hsm_status der_finish(struct der_writer *w, struct hsm_buf *buf)
{
    size_t len = der_len(w);

    if (w->full)
        return hsm_fail(HSM_ERR_BUFFER, "encoding does not fit into %zu bytes", buf->cap);
    memmove(buf->ptr, w->pos, len);
    buf->len = len;
    return HSM_OK;
}
