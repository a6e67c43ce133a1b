/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What a token must offer. A driver is one constant table; what its token cannot do stays NULL and the core
 * answers HSM_ERR_UNSUPPORTED. See docs/DRIVER.md.
 *
 * Rules: the core has checked arguments (pointers, label and id lengths, usage bits) before it calls. A call
 * that needs the user logged in returns HSM_ERR_PIN_REQUIRED when he is not; the core logs in and calls
 * again. Calls are serialised per token unless the driver says `concurrent`. After fork the core abandons the
 * token: it calls abandon(), never close(), in the child.
 */
#ifndef HSM_DRIVER_H
#define HSM_DRIVER_H

#include "hsm/config.h"
#include "hsm/error.h"
#include "hsm/hsm.h"
#include "hsm/types.h"

/** First member of every driver's own token struct. */
struct hsm_token {
    const struct hsm_driver *driver;
    struct hsm_slot *slot; /* the core's; set by the core after open() */
    bool no_pin;           /* the driver's: known to need no login. Saves a person the question */
};

struct hsm_open_args {
    const struct hsm_token_spec *spec;
    const char *name;               /* configured name, for error lines */
    struct ossl_lib_ctx_st *libctx; /* isolated, default provider; valid longer than the token */
};

typedef hsm_status hsm_key_op(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                              struct hsm_bytes in, struct hsm_buf *out);

struct hsm_driver {
    const char *name;
    bool concurrent; /* calls on one token may come from several threads at once */
    /** Does I/O. HSM_ERR_NO_TOKEN, _DENIED, _TOKEN_FORMAT, _TOKEN_VERSION ... with a line that says what to
     * do. */
    hsm_status (*open)(const struct hsm_open_args *args, struct hsm_token **tok);
    void (*close)(struct hsm_token *tok);
    /** In a forked child: wipe secrets, close descriptors without any protocol goodbye, touch nothing shared.
     * Locks may be held by threads that no longer exist. Memory that cannot be freed safely is leaked. */
    void (*abandon)(struct hsm_token *tok);
    hsm_status (*create)(const struct hsm_open_args *args, const struct hsm_token_init *init);
    hsm_status (*info)(struct hsm_token *tok, struct hsm_token_info *info);
    hsm_status (*login)(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes pin);
    hsm_status (*pin_change)(struct hsm_token *tok, enum hsm_role role, struct hsm_bytes old_pin,
                             struct hsm_bytes new_pin, bool machine_pin);
    hsm_status (*pin_unblock)(struct hsm_token *tok, struct hsm_bytes so_pin, struct hsm_bytes new_pin,
                              bool machine_pin);
    /** Every object, or those of @p cls with @p label if given (a driver may ignore both and return more). */
    hsm_status (*enumerate)(struct hsm_token *tok, enum hsm_class cls, const char *label, hsm_object_fn *each,
                            void *arg);
    hsm_status (*generate)(struct hsm_token *tok, const struct hsm_object_spec *spec, hsm_handle *handle);
    hsm_status (*import)(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes pkcs8,
                         hsm_handle *handle);
    hsm_status (*export_private)(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *pkcs8);
    hsm_status (*put)(struct hsm_token *tok, const struct hsm_object_spec *spec, struct hsm_bytes value,
                      hsm_handle *handle);
    hsm_status (*get)(struct hsm_token *tok, hsm_handle handle, struct hsm_buf *value);
    hsm_status (*destroy)(struct hsm_token *tok, hsm_handle handle);
    hsm_key_op *sign;
    /** As sign, but `in` is the message and the token hashes it with mech->hash: fewer bytes on a slow wire.
     * HSM_ERR_UNSUPPORTED: hash it yourself and call sign. */
    hsm_key_op *sign_message;
    /** See hsm_derive() and hsm_decrypt(). What is wrong with a padding must not show. */
    hsm_key_op *derive, *decrypt;
    hsm_status (*random)(struct hsm_token *tok, struct hsm_buf *out);
    hsm_status (*counter_create)(struct hsm_token *tok, const struct hsm_object_spec *spec, uint64_t value,
                                 hsm_handle *handle);
    hsm_status (*counter_get)(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
    hsm_status (*counter_increment)(struct hsm_token *tok, hsm_handle handle, uint64_t *value);
    hsm_status (*attest)(struct hsm_token *tok, hsm_handle handle, struct hsm_bytes challenge,
                         struct hsm_attestation *out);
    /** Administration that only this driver knows, by name; `print` is called once per line of answer. */
    hsm_status (*control)(struct hsm_token *tok, const char *command, const char *argument,
                          hsm_line_fn *print, void *arg);
};

#endif
