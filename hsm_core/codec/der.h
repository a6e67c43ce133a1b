/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A strict DER reader and writer over the caller's memory: definite lengths, minimal length octets,
 * single-byte tags. Pure. Source: ITU-T X.690 (02/2021) sections 8 and 10.
 */
#ifndef HSM_DER_H
#define HSM_DER_H

#include "hsm/error.h"
#include "hsm/types.h"

enum {
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_NULL = 0x05,
    DER_OID = 0x06,
    DER_UTF8_STRING = 0x0c,
    DER_SEQUENCE = 0x30,
    DER_CONTEXT_0 = 0xa0 /* [0], constructed */
};

/** Take one element with tag @p tag off the front of @p in. @return false (and @p in unchanged) if it is not
 * there */
bool der_take(struct hsm_bytes *in, uint8_t tag, struct hsm_bytes *content);
/** Take any one element, header included. */
bool der_take_any(struct hsm_bytes *in, uint8_t *tag, struct hsm_bytes *whole);
/** Take a non-negative INTEGER as its big-endian octets without the leading zero. */
bool der_take_uint(struct hsm_bytes *in, struct hsm_bytes *value);

/** A writer that fills from the end of @p buf towards its front, so that lengths are known when headers are
 * written. */
struct der_writer {
    uint8_t *start, *pos, *end;
    bool full; /* something did not fit; everything after is ignored */
};
void der_writer_init(struct der_writer *w, struct hsm_buf *buf);
size_t der_len(const struct der_writer *w);
void der_put(struct der_writer *w, struct hsm_bytes bytes);
/** Wrap everything written since der_len() was @p mark into an element. */
void der_wrap(struct der_writer *w, size_t mark, uint8_t tag);
void der_put_element(struct der_writer *w, uint8_t tag, struct hsm_bytes content);
/** INTEGER from big-endian octets, a zero octet added where the sign bit is set. */
void der_put_uint(struct der_writer *w, struct hsm_bytes value);
/** Move the result to the front of the buffer and set its len. */
HSM_MUST_USE hsm_status der_finish(struct der_writer *w, struct hsm_buf *buf);

#endif
