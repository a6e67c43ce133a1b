/* SPDX-License-Identifier: Apache-2.0 */
/**
 * ISO 7816-4 APDUs and the simple TLVs of NXP's IoT applet, over the caller's memory. Pure.
 * Source: ISO/IEC 7816-4 section 5; NXP AN12413 (TLV lengths: one byte, 81 xx, 82 hh ll)
 */
#ifndef HSM_APDU_H
#define HSM_APDU_H

#include "hsm/error.h"
#include "hsm/types.h"

struct apdu {
    uint8_t cla, ins, p1, p2;
    bool extended; /* 3-byte Lc (if there is data) */
    bool has_le;   /* Le 00 or 00 00 follows */
    struct hsm_bytes data;
};

/** Write a command APDU. No data: 4 bytes, or 5 with has_le. HSM_ERR_BUFFER if it does not fit. */
HSM_MUST_USE hsm_status apdu_encode(const struct apdu *a, struct hsm_buf *out);
/** The inverse; @p a->data borrowed. HSM_ERR_DATA if lengths do not add up. */
HSM_MUST_USE hsm_status apdu_parse(struct hsm_bytes in, struct apdu *a);

/** A writer that keeps going after it is full, so that a caller checks once at the end. */
struct tlv_writer {
    struct hsm_buf *out;
    bool full;
};
void tlv_init(struct tlv_writer *w, struct hsm_buf *out);
void tlv_put(struct tlv_writer *w, uint8_t tag,
             struct hsm_bytes value); /* shortest length form; empty values too */
void tlv_put_u8(struct tlv_writer *w, uint8_t tag, uint8_t value);
void tlv_put_u16(struct tlv_writer *w, uint8_t tag, uint16_t value);
void tlv_put_u32(struct tlv_writer *w, uint8_t tag, uint32_t value);
HSM_MUST_USE hsm_status tlv_finish(struct tlv_writer *w); /* HSM_ERR_BUFFER if something did not fit */

/** Take the TLV with @p tag off the front of @p in; any of the three length forms. @return false, @p in
 * unchanged, if the next one has another tag or is malformed. */
bool tlv_take(struct hsm_bytes *in, uint8_t tag, struct hsm_bytes *value);
bool tlv_take_u8(struct hsm_bytes *in, uint8_t tag, uint8_t *value);
/** One to four value bytes, big-endian. */
bool tlv_take_uint(struct hsm_bytes *in, uint8_t tag, uint32_t *value);

#endif
