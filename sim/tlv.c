/* SPDX-License-Identifier: Apache-2.0 */
/* Tag-length-value of requests and answers, and bytes on the heap. */
#include "applet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *sim_alloc(size_t len)
{
    void *p = calloc(1, len > 0 ? len : 1);

    if (p == NULL) {
        fputs("se05x-sim: out of memory\n", stderr);
        abort();
    }
    return p;
}

void buf_clear(struct buf *b)
{
    OPENSSL_cleanse(b->ptr, b->ptr == NULL ? 0 : b->len);
    free(b->ptr);
    *b = (struct buf){ NULL, 0 };
}

void buf_append(struct buf *b, const void *ptr, size_t len)
{
    struct buf next = { sim_alloc(b->len + len), b->len + len };

    if (b->len > 0)
        memcpy(next.ptr, b->ptr, b->len);
    if (len > 0)
        memcpy(next.ptr + b->len, ptr, len);
    buf_clear(b);
    *b = next;
}

void buf_set(struct buf *b, const void *ptr, size_t len)
{
    struct buf next = { NULL, 0 };

    if (len > 0)
        buf_append(&next, ptr, len);
    buf_clear(b);
    *b = next;
}

void buf_zero(struct buf *b, size_t len)
{
    buf_clear(b);
    *b = (struct buf){ sim_alloc(len), len };
}

struct sim_bytes buf_view(const struct buf *b)
{
    return (struct sim_bytes){ b->ptr, b->len };
}

bool bytes_equal(struct sim_bytes a, struct sim_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

void reverse(uint8_t *out, struct sim_bytes in)
{
    for (size_t i = 0; i < in.len; i++)
        out[i] = in.ptr[in.len - 1 - i];
}

uint32_t get_be(struct sim_bytes in)
{
    uint32_t value = 0;

    for (size_t i = 0; i < in.len; i++)
        value = value << 8 | in.ptr[i];
    return value;
}

void put_be(uint8_t *out, uint64_t value, size_t len)
{
    for (size_t i = len; i-- > 0; value >>= 8)
        out[i] = (uint8_t)value;
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

static bool take_len(struct sim_bytes *in, size_t *len)
{
    size_t more;

    if (in->len < 1)
        return false;
    *len = in->ptr[0];
    more = *len < 0x80 ? 0 : *len - 0x80;
    if (*len == 0x80 || more > 2 || in->len < 1 + more)
        return false;
    if (more > 0)
        *len = get_be((struct sim_bytes){ in->ptr + 1, more });
    in->ptr += 1 + more;
    in->len -= 1 + more;
    return *len <= in->len;
}

bool tlv_parse(struct sim_bytes in, struct tlvs *t)
{
    uint8_t last = 0;
    size_t len;

    memset(t, 0, sizeof(*t));
    while (in.len > 0) {
        uint8_t tag = *in.ptr++;

        in.len--;
        if (tag <= last || tag >= TAG_LIMIT || !take_len(&in, &len))
            return false;
        t->has[tag] = true;
        t->value[tag] = (struct sim_bytes){ in.ptr, len };
        in.ptr += len;
        in.len -= len;
        last = tag;
    }
    return true;
}

bool tlv_uint(const struct tlvs *t, uint8_t tag, size_t len, uint32_t *value)
{
    if (!t->has[tag] || t->value[tag].len != len)
        return false;
    *value = get_be(t->value[tag]);
    return true;
}

bool tlv_uint_or(const struct tlvs *t, uint8_t tag, size_t len, uint32_t fallback, uint32_t *value)
{
    *value = fallback;
    return !t->has[tag] || tlv_uint(t, tag, len, value);
}

/* ---- answers
 * -------------------------------------------------------------------------------------------------- */

static void put_raw(struct sim_out *out, const void *ptr, size_t len)
{
    if (len > sizeof(out->data) - out->len) { /* every handler bounds its answer before it gets here */
        fputs("se05x-sim: answer too long, a fault of the simulator\n", stderr);
        abort();
    }
    if (len > 0)
        memcpy(out->data + out->len, ptr, len);
    out->len += len;
}

void put_bytes(struct sim_out *out, uint8_t tag, const void *ptr, size_t len)
{
    put_raw(out, (uint8_t[]){ tag, 0x82, (uint8_t)(len >> 8), (uint8_t)len }, 4);
    put_raw(out, ptr, len);
}

void put_u8(struct sim_out *out, uint8_t tag, uint8_t value)
{
    put_raw(out, (uint8_t[]){ tag, 1, value }, 3);
}

void put_u16(struct sim_out *out, uint8_t tag, uint16_t value)
{
    put_raw(out, (uint8_t[]){ tag, 2, (uint8_t)(value >> 8), (uint8_t)value }, 4);
}
