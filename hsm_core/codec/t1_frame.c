/* SPDX-License-Identifier: Apache-2.0 */
#include "t1_frame.h"

#include <string.h>

uint16_t t1_crc(struct hsm_bytes bytes)
{
    uint16_t crc = 0xffff;
    size_t i;
    int bit;

    for (i = 0; i < bytes.len; i++) {
        crc ^= bytes.ptr[i];
        for (bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0x8408 : crc >> 1);
    }
    return (uint16_t)~crc;
}

hsm_status t1_frame_decode(struct hsm_bytes in, struct t1_frame *f)
{
    size_t inf_len;

    if (in.len < T1_OVERHEAD)
        return HSM_ERR_DATA_LEN;
    inf_len = in.ptr[2];
    if (inf_len > T1_INF_MAX || in.len != inf_len + T1_OVERHEAD)
        return HSM_ERR_DATA_LEN;
    if (t1_crc((struct hsm_bytes){ in.ptr, in.len - T1_CRC }) !=
        (in.ptr[in.len - 2] | in.ptr[in.len - 1] << 8))
        return HSM_ERR_DATA;
    *f = (struct t1_frame){ .nad = in.ptr[0], .pcb = in.ptr[1], .inf = { in.ptr + T1_HEADER, inf_len } };
    return HSM_OK;
}

hsm_status t1_frame_encode(const struct t1_frame *f, struct hsm_buf *out)
{
    size_t len = f->inf.len + T1_HEADER;
    uint16_t crc;

    if (f->inf.len > T1_INF_MAX)
        return HSM_ERR_DATA_LEN;
    if (out->cap < len + T1_CRC)
        return HSM_ERR_BUFFER;
    out->ptr[0] = f->nad;
    out->ptr[1] = f->pcb;
    out->ptr[2] = (uint8_t)f->inf.len;
    if (f->inf.len > 0)
        memcpy(out->ptr + T1_HEADER, f->inf.ptr, f->inf.len);
    crc = t1_crc((struct hsm_bytes){ out->ptr, len });
    out->ptr[len] = (uint8_t)crc;
    out->ptr[len + 1] = (uint8_t)(crc >> 8);
    out->len = len + T1_CRC;
    return HSM_OK;
}

enum t1_kind t1_kind(uint8_t pcb)
{
    if ((pcb & 0x9f) == 0)
        return T1_I;
    if ((pcb & 0xec) == 0x80)
        return T1_R;
    if ((pcb & 0xe0) == 0xc0)
        return T1_S_REQUEST;
    return (pcb & 0xe0) == 0xe0 ? T1_S_RESPONSE : T1_INVALID;
}
