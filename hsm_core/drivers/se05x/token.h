/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The token on top of the applet's commands: what directory.c, change.c, key.c, object.c, import.c, create.c,
 * pin.c, sign.c, derive.c, decrypt.c, attest.c, counter.c and driver.c share.
 */
#ifndef SE05X_TOKEN_H
#define SE05X_TOKEN_H

#include "command.h"
#include "internal.h"
#include "kdf.h"
#include "mech.h"
#include "private.h"
#include "record.h"

enum {
    SE05X_KNOWN_MAX = 64,
    SE05X_FILE_CHUNK = SE05X_RECORD_MAX, /* of a file, written or read at once */
    SE05X_FILE_MAX = 0x7fff,
    SE05X_SIGN_INPUT_MAX = 800, /* message bytes in one command, inside two secure channels */
    SE05X_FORMAT = 1,
    SE05X_PIN_MIN = 4,
    SE05X_TRIES_DEFAULT = 10,
    SE05X_TRIES_LIMIT = 255
};

#define SE05X_ID_UNIQUE        UINT32_C(0x7fff0206) /* 18 bytes, readable by all */
#define SE05X_ID_ATTESTER      UINT32_C(0xf0000012) /* NXP's attestation key pair, P-256 */
#define SE05X_ID_ATTESTER_CERT UINT32_C(0xf0000013)

/** What must be known of an object to use it without asking again. */
struct se05x_object {
    hsm_handle handle; /* 0: free place */
    uint32_t id;       /* of the value */
    enum hsm_class cls;
    struct hsm_key_kind kind;
    unsigned usage;
    bool open, foreign, so_destroys;
    char label[HSM_LABEL_MAX + 1];
    size_t value_len;
    struct hsm_mech pss; /* what an RSASSA-PSS key is restricted to; type NONE: nothing */
    size_t modulus_len;
    uint8_t modulus[HSM_SIGNATURE_MAX];
};

struct se05x_directory {
    bool read; /* TOKEN has been read in this process */
    bool initialised;
    struct se05x_token_info info;
    unsigned wrong_pins[2];          /* by role: seen by this process since the last right one */
    struct se05x_credential foreign; /* auth= : what the PIN opens instead of our own user; value unused */
    struct se05x_object known[SE05X_KNOWN_MAX];
    size_t next; /* place to be used next */
};

/* ---- directory.c -----------------------------------------------------------------------------------------
 */

HSM_MUST_USE hsm_status se05x_directory_new(struct se05x_token *t, const struct hsm_open_args *args);
void se05x_directory_free(struct se05x_token *t);

/** Read TOKEN now. No token there is HSM_OK and !initialised. HSM_ERR_TOKEN_GONE: another one than before. */
HSM_MUST_USE hsm_status se05x_token_read(struct se05x_token *t);
/** Read TOKEN if this process has not yet. */
HSM_MUST_USE hsm_status se05x_token_need(struct se05x_token *t);
/** As se05x_token_read(), and there must be one. */
HSM_MUST_USE hsm_status se05x_token_ready(struct se05x_token *t);
static inline uint32_t se05x_auth_id(uint32_t generation, enum hsm_role role)
{
    return SE05X_ID_AUTH + 2 * generation + (role == HSM_ROLE_SO ? 1 : 0);
}

HSM_MUST_USE hsm_status se05x_exists(struct se05x_token *t, uint32_t id, bool *exists);
/** After a write that failed with @p st: may it have been done, and was it? @return true if so; *exists is
 * valid then. */
bool se05x_unsure(struct se05x_token *t, hsm_status st, uint32_t id, bool *exists);
/** Delete; HSM_OK also if it was not there. HSM_ERR_DENIED: the policy does not allow it. */
HSM_MUST_USE hsm_status se05x_remove(struct se05x_token *t, enum se05x_auth auth, uint32_t id);
/** All of a file of @p len bytes. HSM_ERR_NO_OBJECT (no line), HSM_ERR_DENIED */
HSM_MUST_USE hsm_status se05x_file_read(struct se05x_token *t, enum se05x_auth auth, uint32_t id, size_t len,
                                        uint8_t *out);
/** Ids of all objects on the chip, in memory to be freed. */
HSM_MUST_USE hsm_status se05x_all_ids(struct se05x_token *t, uint32_t **ids, size_t *count);

/** HSM_ERR_NO_OBJECT (no line): free place; HSM_ERR_DATA: occupied by something that is no record. */
HSM_MUST_USE hsm_status se05x_record_read(struct se05x_token *t, uint32_t record_id, struct se05x_record *r);
/** Where a new record goes. HSM_ERR_EXISTS if the label is taken. */
HSM_MUST_USE hsm_status se05x_record_place(struct se05x_token *t, enum hsm_class cls, const char *label,
                                           uint32_t *record_id);
/** Take a record out of its chain: delete, or leave a tombstone if others come behind it. */
HSM_MUST_USE hsm_status se05x_record_bury(struct se05x_token *t, enum se05x_auth auth, uint32_t record_id);

hsm_status se05x_enumerate(struct hsm_token *tok, enum hsm_class cls, const char *label, hsm_object_fn *each,
                           void *arg);
/** Facts about @p handle; borrowed until the next call. HSM_ERR_NO_OBJECT */
HSM_MUST_USE hsm_status se05x_lookup(struct se05x_token *t, hsm_handle handle,
                                     const struct se05x_object **obj);
void se05x_remember(struct se05x_token *t, hsm_handle handle, const struct se05x_record *r);
void se05x_forget(struct se05x_token *t, hsm_handle handle);
/** The chip knows nothing of an object that we thought is there: HSM_ERR_NO_OBJECT, or HSM_ERR_TOKEN_GONE. */
hsm_status se05x_vanished(struct se05x_token *t, const struct se05x_object *obj);

/* ---- change.c: writers -----------------------------------------------------------------------------------
 */

struct se05x_change {
    enum se05x_auth auth; /* whose session writes */
    struct se05x_journal journal;
    size_t slot; /* entry in use; SE05X_JOURNAL_ENTRIES: none */
};

/** Rights to write as @p role; HSM_ERR_PIN_REQUIRED. No I/O but TOKEN. */
HSM_MUST_USE hsm_status se05x_writer(struct se05x_token *t, enum se05x_auth *auth);
/** Take the chip, check that the token is there, finish or undo what a writer before us left unfinished. */
HSM_MUST_USE hsm_status se05x_change_begin(struct se05x_token *t, enum se05x_auth auth,
                                           struct se05x_change *c);
void se05x_change_end(struct se05x_token *t);
HSM_MUST_USE hsm_status se05x_change_intend(struct se05x_token *t, struct se05x_change *c,
                                            enum se05x_journal_op op, uint32_t record_id, uint32_t value_id);
HSM_MUST_USE hsm_status se05x_change_done(struct se05x_token *t, struct se05x_change *c);
/** Undo (or, if it is a destruction, finish) what was intended. @return @p st, its line kept */
hsm_status se05x_change_undo(struct se05x_token *t, struct se05x_change *c, hsm_status st);
void se05x_journal_policy(const struct se05x_token *t, struct se05x_policy *p);

/** A new object: a value and the record that names it. */
struct se05x_creation {
    struct se05x_change change;
    struct se05x_record record; /* record.obj.spki, .id and .value_len: before finish */
    uint32_t record_id;
    struct se05x_policy policy; /* of the value */
    struct se05x_write write;   /* for the first command that writes the value */
};
/** @p in_pieces: a file that takes several commands, so that its owner may write to it. */
HSM_MUST_USE hsm_status se05x_creation_begin(struct se05x_token *t, const struct hsm_object_spec *spec,
                                             enum hsm_class cls, enum hsm_origin origin,
                                             const struct hsm_key_kind *kind, bool in_pieces,
                                             struct se05x_creation *c);
/** Write the record, close the journal; on any failure, or if @p st is one already, undo all. */
HSM_MUST_USE hsm_status se05x_creation_finish(struct se05x_token *t, struct se05x_creation *c, hsm_status st,
                                              hsm_handle *handle);

/* ---- key.c: public keys and curves ------------------------------------------------------------------------
 */

/** Can this chip have such a key? HSM_ERR_KEY_TYPE with the reason. */
HSM_MUST_USE hsm_status se05x_kind_check(const struct se05x_token *t, const struct hsm_key_kind *kind);
/** Make a Weierstrass curve known to the chip if it is not. */
HSM_MUST_USE hsm_status se05x_curve_ensure(struct se05x_token *t, const struct hsm_key_kind *kind);
/** After a refusal to make a key: set what is missing of the curve's parameters. @p filled: out, there was
 * something. */
HSM_MUST_USE hsm_status se05x_curve_complete(struct se05x_token *t, const struct hsm_key_kind *kind,
                                             bool *filled);
/** DER SubjectPublicKeyInfo of key object @p id. HSM_ERR_NO_OBJECT (no line) */
HSM_MUST_USE hsm_status se05x_key_spki(struct se05x_token *t, uint32_t id, const struct hsm_key_kind *kind,
                                       struct hsm_bytes pss_params, struct hsm_buf *spki);
/** Copy backwards: RFC 7748 and 8032 are little-endian, the chip is not. */
void se05x_reverse(uint8_t *out, const uint8_t *in, size_t len);
/** Usage and, if none was given, id from record->obj.spki. */
HSM_MUST_USE hsm_status se05x_describe_key(struct se05x_token *t, const struct hsm_object_spec *spec,
                                           struct se05x_record *r);
hsm_status se05x_generate(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle);

/* ---- import.c, object.c -----------------------------------------------------------------------------------
 */

hsm_status se05x_import(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                        hsm_handle *handle);
hsm_status se05x_put(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                     hsm_handle *handle);
hsm_status se05x_get(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value);
hsm_status se05x_export_private(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8);
hsm_status se05x_destroy(struct hsm_token *tok, hsm_handle handle);

/* ---- create.c, pin.c
 * --------------------------------------------------------------------------------------- */

hsm_status se05x_create(const struct hsm_open_args *args, const struct hsm_token_init *init);
hsm_status se05x_pin_login(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin);
hsm_status se05x_pin_change(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                            struct hsm_bytes new_pin, bool machine_pin);
hsm_status se05x_pin_unblock(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                             bool machine_pin);
HSM_MUST_USE hsm_status se05x_pin_format(struct hsm_bytes pin, enum hsm_role role, bool machine_pin);
/** Parameters and a fresh salt for a new PIN. @p memory: bytes for stretching, 0: the default. */
HSM_MUST_USE hsm_status se05x_pin_new_params(struct se05x_token *t, uint64_t memory, bool machine_pin,
                                             struct se05x_pin_params *params);
/** The key of the authentication object of @p role in this generation. HSM_ERR_PIN_INCORRECT (no line): no
 * PIN of this length was made with such parameters. */
HSM_MUST_USE hsm_status se05x_pin_credential(struct se05x_token *t, const struct se05x_pin_params *params,
                                             enum hsm_role role, struct hsm_bytes pin,
                                             struct se05x_credential *cred);
/** Create the authentication object of @p role. */
HSM_MUST_USE hsm_status se05x_pin_create_object(struct se05x_token *t, enum se05x_auth auth,
                                                enum hsm_role role, const struct se05x_credential *cred);
/** Log in, and count what the chip says of it. */
HSM_MUST_USE hsm_status se05x_pin_prove(struct se05x_token *t, enum hsm_role role, struct hsm_bytes pin);
unsigned se05x_pin_tries_left(struct se05x_token *t, enum hsm_role role);

/* ---- sign.c, derive.c, decrypt.c
 * ---------------------------------------------------------------------------
 */

hsm_key_op se05x_sign, se05x_sign_message, se05x_derive, se05x_decrypt;
/** Whose session uses a key. */
enum se05x_auth se05x_user_of(const struct se05x_object *o);
/** The chip refused the @p use of a key. What it says of a missing object it says of much else, too.
 *  @return HSM_OK: the key is there and may be used, what was asked for is at fault */
HSM_MUST_USE hsm_status se05x_use_refused(struct se05x_token *t, const struct se05x_object *o, uint16_t sw,
                                          const char *use);
/** What mech_check_...() must know of a key. HSM_ERR_KEY_TYPE if it is none. */
HSM_MUST_USE hsm_status se05x_asked(const struct se05x_token *t, const struct se05x_object *o,
                                    struct mech_key *asked);
/** NULL: libcrypto has no such digest. se05x_no_md() is the line for that. */
EVP_MD *se05x_fetch_md(const struct se05x_token *t, enum hsm_hash hash);
hsm_status se05x_no_md(const struct se05x_token *t, enum hsm_hash hash);
/** MGF1 of RFC 8017 appendix B.2.1, added to @p out. */
HSM_MUST_USE bool se05x_add_mask(EVP_MD *md, const uint8_t *seed, size_t seed_len, uint8_t *out, size_t len);

/* ---- attest.c, counter.c, driver.c ------------------------------------------------------------------------
 */

hsm_status se05x_attest(struct hsm_token *tok, hsm_handle handle, struct hsm_bytes challenge,
                        struct hsm_attestation *out);
hsm_status se05x_counter_create(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                                hsm_handle *handle);
hsm_status se05x_counter_get(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
hsm_status se05x_counter_increment(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
hsm_status se05x_control(struct hsm_token *tok, const char *command, const char *argument, hsm_line_fn *print,
                         void *arg);

/** A token that is open as far as its channel; for open and create. */
HSM_MUST_USE hsm_status se05x_token_open(const struct hsm_open_args *args, struct se05x_token **out);
void se05x_token_close(struct se05x_token *t);
HSM_MUST_USE hsm_status se05x_read_unique_id(struct se05x_token *t);
const char *se05x_model(const struct se05x_token *t, char out[64]);

#endif
