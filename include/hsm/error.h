/* SPDX-License-Identifier: Apache-2.0 */
/**
 * One status type for the whole of hsm, and the one readable line that goes with it.
 *
 * A failing call returns a code (for programs) and leaves one line of text (for people) in the calling
 * thread: what was tried, on what, and what to do. The line never holds a PIN or key bytes.
 */
#ifndef HSM_ERROR_H
#define HSM_ERROR_H

#include <stddef.h>

#if defined(__GNUC__)
#define HSM_MUST_USE          __attribute__((warn_unused_result))
#define HSM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define HSM_MUST_USE
#define HSM_PRINTF(fmt, args)
#endif

/* X(name, value, text): the values are fixed, they travel over the wire and into OpenSSL's error queue */
#define HSM_STATUS_LIST(X)                                                                                   \
    X(HSM_OK, 0, "success")                                                                                  \
    X(HSM_ERR_INTERNAL, 1, "internal error")                                                                 \
    X(HSM_ERR_MEMORY, 2, "out of memory")                                                                    \
    X(HSM_ERR_ARGUMENT, 3, "invalid argument")                                                               \
    X(HSM_ERR_BUFFER, 4, "output buffer too small")                                                          \
    X(HSM_ERR_UNSUPPORTED, 5, "not supported by this token")                                                 \
    X(HSM_ERR_MECH, 6, "mechanism or parameter not supported")                                               \
    X(HSM_ERR_KEY_TYPE, 7, "wrong key type for this operation")                                              \
    X(HSM_ERR_USAGE, 8, "key usage does not allow this operation")                                           \
    X(HSM_ERR_NO_OBJECT, 9, "object not found")                                                              \
    X(HSM_ERR_EXISTS, 10, "object already exists")                                                           \
    X(HSM_ERR_AMBIGUOUS, 11, "more than one object matches")                                                 \
    X(HSM_ERR_KEY_CHANGED, 12, "the token holds another key under this name")                                \
    X(HSM_ERR_NOT_EXTRACTABLE, 13, "key is not extractable")                                                 \
    X(HSM_ERR_CONFIG, 14, "configuration error")                                                             \
    X(HSM_ERR_URI, 15, "invalid key URI")                                                                    \
    X(HSM_ERR_REFERENCE, 16, "invalid key reference")                                                        \
    X(HSM_ERR_NO_TOKEN, 17, "token not found")                                                               \
    X(HSM_ERR_TOKEN_FORMAT, 18, "not a token, or damaged")                                                   \
    X(HSM_ERR_TOKEN_VERSION, 19, "token format is newer than this program")                                  \
    X(HSM_ERR_TOKEN_IO, 20, "token input/output error")                                                      \
    X(HSM_ERR_TOKEN_FULL, 21, "no space left for the token")                                                 \
    X(HSM_ERR_READ_ONLY, 22, "token is read-only")                                                           \
    X(HSM_ERR_DENIED, 23, "permission denied")                                                               \
    X(HSM_ERR_BUSY, 24, "token is busy")                                                                     \
    X(HSM_ERR_TOKEN_GONE, 25, "token vanished")                                                              \
    X(HSM_ERR_PIN_REQUIRED, 26, "PIN required")                                                              \
    X(HSM_ERR_PIN_INCORRECT, 27, "wrong PIN")                                                                \
    X(HSM_ERR_PIN_LOCKED, 28, "PIN is locked")                                                               \
    X(HSM_ERR_PIN_FORMAT, 29, "PIN not acceptable")                                                          \
    X(HSM_ERR_PIN_SOURCE, 30, "PIN source cannot be read")                                                   \
    X(HSM_ERR_DATA, 31, "malformed input data")                                                              \
    X(HSM_ERR_DATA_LEN, 32, "input has the wrong length")                                                    \
    X(HSM_ERR_CRYPTO, 33, "cryptographic library failure")

typedef enum hsm_status {
#define HSM_STATUS_ENUM(name, value, text) name = (value),
    HSM_STATUS_LIST(HSM_STATUS_ENUM)
#undef HSM_STATUS_ENUM
} hsm_status;

/** The fixed text of a code, e.g. "wrong PIN". Never NULL; static storage. */
const char *hsm_strerror(hsm_status st);

/**
 * Record the line that explains a failure in the calling thread, and return the code: `return hsm_fail(...)`.
 * @param st   the code; HSM_OK is not allowed
 * @param fmt  printf format of the line, at most 511 bytes survive; no PIN, no key bytes, no newline
 */
hsm_status hsm_fail(hsm_status st, const char *fmt, ...) HSM_PRINTF(2, 3);

/**
 * The line recorded by the last hsm_fail() in this thread, if it belongs to @p st; else hsm_strerror(st).
 * Valid until the next failing call in this thread. Never NULL.
 */
const char *hsm_error_text(hsm_status st);

#endif
