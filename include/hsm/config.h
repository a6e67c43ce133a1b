/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Configuration: key and value pairs from openssl.cnf, the environment or a command line, checked one by one.
 *
 * Known keys: token, tokens, token.NAME, pin-source, pin-source.NAME, log, log-level, alias-scheme.
 * `activate`, `module`, `identity` and `soft_load` belong to libcrypto and are accepted without effect.
 */
#ifndef HSM_CONFIG_H
#define HSM_CONFIG_H

#include "hsm/error.h"
#include "hsm/types.h"

#define HSM_DEFAULT_TOKEN "soft:/var/lib/hsm/token.db"

struct hsm_config;

/** Driver, location and parameters of "driver:location[?name=value&...]"; see hsm_token_spec_parse(). */
struct hsm_token_spec {
    char driver[16];
    char location[512];
    char params[512]; /* "name=value&name=value", percent-decoding left to hsm_token_spec_param() */
};

HSM_MUST_USE hsm_status hsm_config_new(struct hsm_config **cfg);
void hsm_config_free(struct hsm_config *cfg);

/**
 * Take one key. An unknown key, an empty value or a malformed token specification is HSM_ERR_CONFIG, and the
 * text names the key. A later value replaces an earlier one.
 */
HSM_MUST_USE hsm_status hsm_config_set(struct hsm_config *cfg, const char *key, const char *value);

/** True if at least one token was named by hsm_config_set(). */
bool hsm_config_has_token(const struct hsm_config *cfg);
/** True if hsm_config_set() took exactly this key. */
bool hsm_config_has(const struct hsm_config *cfg, const char *key);
/** The value last set for this key, or NULL; valid until the next call that changes @p cfg. */
const char *hsm_config_get(const struct hsm_config *cfg, const char *key);
/** Is this a key that hsm_config_set() takes? (`token.NAME` and `pin-source.NAME` included.) */
bool hsm_config_key_known(const char *key);
/** Known key number @p index, counting from 0, or NULL behind the last; without the NAME forms. For
 * suggestions. */
const char *hsm_config_known_key(size_t index);

/**
 * Read the provider's own section of an openssl.cnf: openssl_conf -> providers -> hsm -> its section; failing
 * that, a section called hsm_sect.
 * @param path   file; NULL: the default file (OPENSSL_CONF, ignored in set-uid programs, else
 * OPENSSLDIR/openssl.cnf)
 * @param found  out, may be NULL: whether such a section exists. A missing file or section is HSM_OK.
 * @return HSM_ERR_CONFIG for an unknown key or a file that cannot be parsed
 */
HSM_MUST_USE hsm_status hsm_config_load_file(struct hsm_config *cfg, const char *path, bool *found);

/**
 * Apply HSM_TOKEN, HSM_PIN_SOURCE, HSM_LOG and HSM_LOG_LEVEL (never in a set-uid program), on top of all
 * else, then fill in the built-in default token if none is named, and resolve what depends on the environment
 * (`env:NAME` is read now, `cred:NAME` becomes a path), because programs wipe it before they sign.
 */
HSM_MUST_USE hsm_status hsm_config_finish(struct hsm_config *cfg);

/** "soft:/path?x=y" to its parts. HSM_ERR_CONFIG names what is wrong; an unknown driver is found later. */
HSM_MUST_USE hsm_status hsm_token_spec_parse(const char *text, struct hsm_token_spec *spec);

/** Value of a parameter of the specification, percent-decoded into @p out (NUL-terminated).
 *  @return false if absent or longer than out_len-1 */
bool hsm_token_spec_param(const struct hsm_token_spec *spec, const char *name, char *out, size_t out_len);

#endif
