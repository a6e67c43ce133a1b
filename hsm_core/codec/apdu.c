/* SPDX-License-Identifier: Apache-2.0 */
#include "apdu.h"

#include <string.h>

hsm_status apdu_encode(const struct apdu *a, struct hsm_buf *out)
{
    bool wide = a->extended || a->data.len > 255;
    size_t lc_len = a->data.len == 0 ? 0
                    : wide           ? 3
                                     : 1,
           le_len = !a->has_le    ? 0
                    : !wide       ? 1
                    : lc_len == 0 ? 3
                                  : 2;
    uint8_t *p = out->ptr;

    if (a->data.len > 0xffff || out->cap < 4 + lc_len + a->data.len + le_len)
        return HSM_ERR_BUFFER;
    *p++ = a->cla;
    *p++ = a->ins;
    *p++ = a->p1;
    *p++ = a->p2;
    if (lc_len == 3) {
        *p++ = 0;
        *p++ = (uint8_t)(a->data.len >> 8);
    }
    if (lc_len > 0) {
        *p++ = (uint8_t)a->data.len;
        memcpy(p, a->data.ptr, a->data.len);
        p += a->data.len;
    }
    memset(p, 0, le_len);
    out->len = (size_t)(p - out->ptr) + le_len;
    return HSM_OK;
}

static bool parse_body(struct hsm_bytes body, struct apdu *a)
{
    const uint8_t *p = body.ptr;
    size_t lc, rest;

    if (body.len == 0)
        return true;
    if (body.len == 1) { /* case 2S */
        a->has_le = true;
        return true;
    }
    if (body.len == 3 && p[0] == 0) { /* case 2E */
        a->extended = a->has_le = true;
        return true;
    }
    a->extended = p[0] == 0 && body.len > 3;
    lc = a->extended ? (size_t)p[1] << 8 | p[2] : p[0];
    a->data = (struct hsm_bytes){ p + (a->extended ? 3 : 1), lc };
    rest = body.len - (a->extended ? 3 : 1);
    if (lc == 0 || rest < lc)
        return false;
    rest -= lc;
    a->has_le = rest > 0;
    return rest == 0 || rest == (a->extended ? 2 : 1);
}

hsm_status apdu_parse(struct hsm_bytes in, struct apdu *a)
{
    if (in.len < 4)
        return HSM_ERR_DATA;
    *a = (struct apdu){ .cla = in.ptr[0], .ins = in.ptr[1], .p1 = in.ptr[2], .p2 = in.ptr[3] };
    return parse_body((struct hsm_bytes){ in.ptr + 4, in.len - 4 }, a) ? HSM_OK : HSM_ERR_DATA;
}

/* ---- TLV ------------------------------------------------------------------------------------------------
 */

void tlv_init(struct tlv_writer *w, struct hsm_buf *out)
{
    out->len = 0;
    *w = (struct tlv_writer){ out, false };
}

void tlv_put(struct tlv_writer *w, uint8_t tag, struct hsm_bytes value)
{
    size_t header = value.len < 0x80 ? 2 : value.len < 0x100 ? 3 : 4;
    uint8_t *p;

    if (w->full || value.len > 0xffff || w->out->cap - w->out->len < header + value.len) {
        w->full = true;
        return;
    }
    p = w->out->ptr + w->out->len;
    *p++ = tag;
    if (header == 3)
        *p++ = 0x81;
    if (header == 4) {
        *p++ = 0x82;
        *p++ = (uint8_t)(value.len >> 8);
    }
    *p++ = (uint8_t)value.len;
    if (value.len > 0)
        memcpy(p, value.ptr, value.len);
    w->out->len += header + value.len;
}

static void put_uint(struct tlv_writer *w, uint8_t tag, uint32_t value, size_t len)
{
    uint8_t bytes[4] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                         (uint8_t)value };

    tlv_put(w, tag, (struct hsm_bytes){ bytes + sizeof(bytes) - len, len });
}

void tlv_put_u8(struct tlv_writer *w, uint8_t tag, uint8_t value)
{
    put_uint(w, tag, value, 1);
}

void tlv_put_u16(struct tlv_writer *w, uint8_t tag, uint16_t value)
{
    put_uint(w, tag, value, 2);
}

void tlv_put_u32(struct tlv_writer *w, uint8_t tag, uint32_t value)
{
    put_uint(w, tag, value, 4);
}

hsm_status tlv_finish(struct tlv_writer *w)
{
    return w->full ? hsm_fail(HSM_ERR_BUFFER, "a command does not fit into one APDU") : HSM_OK;
}

bool tlv_take(struct hsm_bytes *in, uint8_t tag, struct hsm_bytes *value)
{
    size_t header = 2, len;

    if (in->len < 2 || in->ptr[0] != tag)
        return false;
    len = in->ptr[1];
    if (len == 0x81 && in->len >= 3) {
        header = 3;
        len = in->ptr[2];
    } else if (len == 0x82 && in->len >= 4) {
        header = 4;
        len = (size_t)in->ptr[2] << 8 | in->ptr[3];
    } else if (len >= 0x80) {
        return false;
    }
    if (in->len - header < len)
        return false;
    *value = (struct hsm_bytes){ in->ptr + header, len };
    *in = (struct hsm_bytes){ in->ptr + header + len, in->len - header - len };
    return true;
}

bool tlv_take_uint(struct hsm_bytes *in, uint8_t tag, uint32_t *value)
{
    struct hsm_bytes rest = *in, v;
    size_t i;

    if (!tlv_take(&rest, tag, &v) || v.len < 1 || v.len > 4)
        return false;
    *in = rest;
    *value = 0;
    for (i = 0; i < v.len; i++)
        *value = *value << 8 | v.ptr[i];
    return true;
}

bool tlv_take_u8(struct hsm_bytes *in, uint8_t tag, uint8_t *value)
{
    struct hsm_bytes rest = *in, v;

    if (!tlv_take(&rest, tag, &v) || v.len != 1)
        return false;
    *in = rest;
    *value = v.ptr[0];
    return true;
}
