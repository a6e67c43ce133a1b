/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The byte form of what this driver keeps on a chip beside the keys themselves: who the token is (TOKEN),
 * what a writer was in the middle of (JOURNAL), and one record per object that gives it a name. Pure.
 */
#ifndef SE05X_RECORD_H
#define SE05X_RECORD_H

#include "hsm/error.h"
#include "hsm/types.h"

/** Object ids that are ours. Everything else on the chip belongs to others and is never written. */
enum {
    SE05X_ID_TOKEN = 0x48000000,
    SE05X_ID_JOURNAL = 0x48000001,
    SE05X_ID_AUTH = 0x48000010, /* + 2 * generation: the user's; the SO's follows it */
    SE05X_ID_AUTH_LAST = 0x48ffffff,
    SE05X_ID_RECORDS = 0x49000000, /* | 24 bits of a digest of class and label */
    SE05X_ID_VALUES = 0x4a000000,  /* | 24 random bits */
    SE05X_ID_LOW_MASK = 0x00ffffff,
    SE05X_PROBES_MAX = 16 /* records that may have to move on because their place is taken */
};

enum {
    SE05X_RECORD_MAX = 768, /* fits into one command also inside two secure channels */
    SE05X_RECORD_STATE_AT = 3,
    SE05X_PSS_PARAMS_MAX = 128,
    SE05X_INSTANCE_LEN = 8,
    SE05X_SALT_LEN = 16,
    SE05X_PIN_PARAMS_LEN = 20,
    SE05X_TOKEN_PINS_AT = 20,
    SE05X_TOKEN_MAX = SE05X_TOKEN_PINS_AT + 4 * SE05X_PIN_PARAMS_LEN + 1 + HSM_LABEL_MAX,
    SE05X_JOURNAL_ENTRIES = 4,
    SE05X_JOURNAL_ENTRY_LEN = 12,
    SE05X_JOURNAL_ENTRIES_AT = 12,
    SE05X_JOURNAL_LEN = SE05X_JOURNAL_ENTRIES_AT + SE05X_JOURNAL_ENTRIES * SE05X_JOURNAL_ENTRY_LEN
};

/* ---- records of objects ----------------------------------------------------------------------------------
 */

enum se05x_record_state {
    SE05X_RECORD_LIVE = 1,
    SE05X_RECORD_TOMBSTONE = 2 /* of a deleted object: whoever looks for another one must go on behind it */
};

/** Stored; never renumber. */
enum {
    SE05X_FLAG_SO_DESTROYS = 1 << 0, /* only the SO may destroy it */
    SE05X_FLAG_OPEN = 1 << 1,        /* the token has no user PIN: usable by everybody */
    SE05X_FLAG_SPKI_IN_KEY = 1 << 2  /* too long for one command: read the public key from the key itself */
};

struct se05x_record {
    enum se05x_record_state state;
    unsigned flags;
    uint32_t value_id;
    struct hsm_object obj; /* without handle; with SPKI_IN_KEY obj.spki holds RSASSA-PSS-params or nothing */
};

/** HSM_ERR_BUFFER if out->cap is too small; SE05X_RECORD_MAX always suffices with SPKI_IN_KEY. */
HSM_MUST_USE hsm_status se05x_record_encode(const struct se05x_record *r, struct hsm_buf *out);
/** HSM_ERR_DATA (without a line): not a record of ours. */
HSM_MUST_USE hsm_status se05x_record_decode(struct hsm_bytes in, struct se05x_record *r);

/* ---- TOKEN -----------------------------------------------------------------------------------------------
 */

enum se05x_kdf { SE05X_KDF_NONE = 0, SE05X_KDF_SCRYPT = 1, SE05X_KDF_HKDF = 2 }; /* stored; never renumber */

/** How the key of an authentication object comes from a PIN. */
struct se05x_pin_params {
    enum se05x_kdf kdf;
    uint8_t log2_n, r, p; /* scrypt */
    uint8_t salt[SE05X_SALT_LEN];
};

/** `next`: a change of the PIN has begun; the PIN fits one of the two. */
struct se05x_pin {
    struct se05x_pin_params now, next;
};

enum se05x_token_state { SE05X_TOKEN_HALF_MADE = 1, SE05X_TOKEN_READY = 2 };

struct se05x_token_info {
    enum se05x_token_state state;
    bool no_pin;
    uint8_t tries_max;
    uint32_t generation;
    uint8_t instance[SE05X_INSTANCE_LEN]; /* random, new with every initialisation */
    struct se05x_pin pin[2];              /* by enum hsm_role */
    char label[HSM_LABEL_MAX + 1];
};

HSM_MUST_USE hsm_status se05x_token_encode(const struct se05x_token_info *info, struct hsm_buf *out);
HSM_MUST_USE hsm_status se05x_token_decode(struct hsm_bytes in, struct se05x_token_info *info);
/** Just the two parameter sets of one role, to be written at se05x_pin_offset(): one command, so all or
 * nothing. */
void se05x_pin_encode(const struct se05x_pin *pin, uint8_t out[2 * SE05X_PIN_PARAMS_LEN]);
uint16_t se05x_pin_offset(enum hsm_role role);

/* ---- JOURNAL ---------------------------------------------------------------------------------------------
 */

enum se05x_journal_op {
    SE05X_OP_NONE = 0,
    SE05X_OP_CREATE = 1,  /* the value is being made; unless the record refers to it, it must go */
    SE05X_OP_DESTROY = 2, /* value and record must go */
    SE05X_OP_ORPHAN = 3   /* must go, but only the SO may do that */
};

struct se05x_journal_entry {
    enum se05x_journal_op op;
    uint32_t record_id, value_id;
};

struct se05x_journal {
    uint8_t instance[SE05X_INSTANCE_LEN]; /* of the token it belongs to */
    struct se05x_journal_entry entries[SE05X_JOURNAL_ENTRIES];
};

void se05x_journal_encode(const struct se05x_journal *j, uint8_t out[SE05X_JOURNAL_LEN]);
HSM_MUST_USE hsm_status se05x_journal_decode(struct hsm_bytes in, struct se05x_journal *j);
/** One entry, to be written at se05x_journal_offset(). */
void se05x_journal_entry_encode(const struct se05x_journal_entry *e, uint8_t out[SE05X_JOURNAL_ENTRY_LEN]);
uint16_t se05x_journal_offset(size_t index);

/* ---- ids -------------------------------------------------------------------------------------------------
 */

static inline bool se05x_is_record(uint32_t id)
{
    return (id & ~(uint32_t)SE05X_ID_LOW_MASK) == SE05X_ID_RECORDS;
}

static inline bool se05x_is_value(uint32_t id)
{
    return (id & ~(uint32_t)SE05X_ID_LOW_MASK) == SE05X_ID_VALUES;
}

static inline bool se05x_is_auth(uint32_t id)
{
    return id >= SE05X_ID_AUTH && id <= SE05X_ID_AUTH_LAST;
}

/** In a range that is ours? */
static inline bool se05x_is_ours(uint32_t id)
{
    return id >= SE05X_ID_TOKEN && id <= (SE05X_ID_VALUES | SE05X_ID_LOW_MASK);
}

/** The @p probe-th place for a record whose digest begins with @p hash. */
static inline uint32_t se05x_record_id(uint32_t hash, unsigned probe)
{
    return SE05X_ID_RECORDS | ((hash + probe) & SE05X_ID_LOW_MASK);
}

#endif
