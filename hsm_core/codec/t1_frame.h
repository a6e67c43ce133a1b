/* SPDX-License-Identifier: Apache-2.0 */
/**
 * T=1 blocks as the SE05x speaks them over I2C (UM11225 flavour): NAD PCB LEN INF CRC, the CRC low byte
 * first. Pure. Source: NXP UM11225; ISO/IEC 7816-3 section 11 (block types); CRC-16/X-25 of ISO/IEC 13239
 */
#ifndef T1_FRAME_H
#define T1_FRAME_H

#include "hsm/error.h"
#include "hsm/types.h"

enum {
    T1_NAD_HOST = 0x5a,
    T1_NAD_CHIP = 0xa5,
    T1_HEADER = 3,
    T1_CRC = 2,
    T1_OVERHEAD = T1_HEADER + T1_CRC,
    T1_INF_MAX = 254,
    T1_FRAME_MAX = T1_INF_MAX + T1_OVERHEAD
};

enum t1_kind { T1_I, T1_R, T1_S_REQUEST, T1_S_RESPONSE, T1_INVALID };

enum t1_s {
    T1_S_RESYNCH = 0x00,
    T1_S_IFS = 0x01,
    T1_S_ABORT = 0x02,
    T1_S_WTX = 0x03,
    T1_S_END_SESSION = 0x05,
    T1_S_CHIP_RESET = 0x06,
    T1_S_GET_ATR = 0x07,
    T1_S_SOFT_RESET = 0x0f
};

enum t1_error { T1_ACK = 0, T1_ERR_CRC = 1, T1_ERR_OTHER = 2 };

struct t1_frame {
    uint8_t nad, pcb;
    struct hsm_bytes inf; /* borrowed */
};

uint16_t t1_crc(struct hsm_bytes bytes);
/** One whole block and nothing behind it. HSM_ERR_DATA_LEN: lengths do not fit; HSM_ERR_DATA: wrong CRC. No
 * error line. */
HSM_MUST_USE hsm_status t1_frame_decode(struct hsm_bytes in, struct t1_frame *f);
/** @p out: cap >= inf.len + T1_OVERHEAD; inf.len <= T1_INF_MAX */
HSM_MUST_USE hsm_status t1_frame_encode(const struct t1_frame *f, struct hsm_buf *out);

enum t1_kind t1_kind(uint8_t pcb);
static inline uint8_t t1_pcb_i(unsigned seq, bool more)
{
    return (uint8_t)((seq & 1) << 6 | (more ? 0x20 : 0));
}
static inline uint8_t t1_pcb_r(unsigned seq, enum t1_error error)
{
    return (uint8_t)(0x80 | (seq & 1) << 4 | error);
}
static inline unsigned t1_i_seq(uint8_t pcb)
{
    return pcb >> 6 & 1;
}
static inline bool t1_i_more(uint8_t pcb)
{
    return (pcb & 0x20) != 0;
}
static inline unsigned t1_r_seq(uint8_t pcb)
{
    return pcb >> 4 & 1;
}

#endif
