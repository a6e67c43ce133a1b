/* SPDX-License-Identifier: Apache-2.0 */
/** Key URIs: "hsm:" with the attributes of RFC 7512, e.g. hsm:token=board;object=tls-server;type=private */
#ifndef HSM_URI_H
#define HSM_URI_H

#include "hsm/error.h"
#include "hsm/types.h"

enum hsm_uri_type {
    HSM_URI_TYPE_ANY,
    HSM_URI_TYPE_PRIVATE,
    HSM_URI_TYPE_PUBLIC,
    HSM_URI_TYPE_CERT,
    HSM_URI_TYPE_SECRET,
    HSM_URI_TYPE_DATA,
    HSM_URI_TYPE_COUNTER /* not in RFC 7512 */
};

/** A parsed URI; all strings percent-decoded. A plain value; pin_value is a secret: hsm_uri_clear() it. */
struct hsm_uri {
    char token[HSM_LABEL_MAX + 1];  /* "" = any */
    char object[HSM_LABEL_MAX + 1]; /* "" = any */
    uint8_t id[HSM_ID_MAX];
    size_t id_len;
    enum hsm_uri_type type;
    char pin_source[512]; /* "file:/path", "" = none */
    char pin_value[HSM_PIN_MAX + 1];
    bool has_pin_value;
};

/**
 * Parse "hsm:name", "hsm:attr=value;...?query". Unknown, repeated or over-long attributes, bad percent codes,
 * NUL bytes and invalid UTF-8 are HSM_ERR_URI; the text says which, and never repeats a pin-value.
 * Pure: no I/O. Source: RFC 7512 sections 2.3 and 2.4; RFC 3986 section 2.1.
 */
HSM_MUST_USE hsm_status hsm_uri_parse(const char *text, struct hsm_uri *uri);

/** Same for @p scheme instead of "hsm" (an alias scheme such as "pkcs11"). */
HSM_MUST_USE hsm_status hsm_uri_parse_scheme(const char *text, const char *scheme, struct hsm_uri *uri);

/** Write the canonical URI, NUL-terminated, without any PIN attribute. HSM_ERR_BUFFER if out->cap is short.
 *  out->len counts without the NUL. */
HSM_MUST_USE hsm_status hsm_uri_format(const struct hsm_uri *uri, struct hsm_buf *out);

/** Cleanse the PIN. */
void hsm_uri_clear(struct hsm_uri *uri);

enum { HSM_URI_MAX = 2048 };

#endif
