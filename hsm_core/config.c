/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "hsm/secret.h"
#include "internal.h"

enum { CONFIG_ITEMS_MAX = 128, CONFIG_VALUE_MAX = 1024 };

static const char *const known_keys[] = { "token", "tokens", "pin-source", "log", "log-level", "alias-scheme",
                                          /* libcrypto's own words */
                                          "activate", "module", "identity", "soft_load" };
static const char *const known_prefixes[] = { "token.", "pin-source." };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

hsm_status hsm_config_new(struct hsm_config **cfg)
{
    *cfg = calloc(1, sizeof(**cfg));
    return *cfg == NULL ? hsm_fail(HSM_ERR_MEMORY, "out of memory for the configuration") : HSM_OK;
}

void hsm_config_free(struct hsm_config *cfg)
{
    size_t i;

    if (cfg == NULL)
        return;
    for (i = 0; i < cfg->item_count; i++) {
        free(cfg->items[i].key);
        free(cfg->items[i].value);
    }
    for (i = 0; i < TOKENS_MAX; i++)
        hsm_secret_free(cfg->tokens[i].env_pin, HSM_PIN_MAX + 1);
    free(cfg->items);
    free(cfg);
}

static struct config_item *find_item(const struct hsm_config *cfg, const char *key)
{
    size_t i;

    for (i = 0; i < cfg->item_count; i++)
        if (strcmp(cfg->items[i].key, key) == 0)
            return &cfg->items[i];
    return NULL;
}

const char *hsm_config_get(const struct hsm_config *cfg, const char *key)
{
    const struct config_item *item = find_item(cfg, key);

    return item == NULL ? NULL : item->value;
}

bool hsm_config_has(const struct hsm_config *cfg, const char *key)
{
    return find_item(cfg, key) != NULL;
}

bool hsm_config_has_token(const struct hsm_config *cfg)
{
    return hsm_config_has(cfg, "token") || hsm_config_has(cfg, "tokens");
}

static bool name_is_plain(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

    return len > 0 && name[len] == '\0' && len < CONFIG_NAME_MAX;
}

bool hsm_config_key_known(const char *key)
{
    size_t i;

    for (i = 0; i < COUNT(known_keys); i++)
        if (strcmp(key, known_keys[i]) == 0)
            return true;
    for (i = 0; i < COUNT(known_prefixes); i++)
        if (strncmp(key, known_prefixes[i], strlen(known_prefixes[i])) == 0)
            return name_is_plain(key + strlen(known_prefixes[i]));
    return false;
}

const char *hsm_config_known_key(size_t index)
{
    return index < COUNT(known_keys) ? known_keys[index] : NULL;
}

static hsm_status parse_log(struct hsm_config *cfg, const char *value)
{
    if (strcmp(value, "off") == 0) {
        cfg->log_target = LOG_NOWHERE;
    } else if (strcmp(value, "syslog") == 0) {
        cfg->log_target = LOG_TO_SYSLOG;
    } else if (strcmp(value, "stderr") == 0) {
        cfg->log_target = LOG_TO_STDERR;
    } else if (strncmp(value, "file:/", 6) == 0 && strlen(value + 5) < sizeof(cfg->log_path)) {
        cfg->log_target = LOG_TO_FILE;
        (void)snprintf(cfg->log_path, sizeof(cfg->log_path), "%s", value + 5);
    } else {
        return hsm_fail(HSM_ERR_CONFIG,
                        "configuration: log = %s is not known: use syslog, stderr, off or "
                        "file:/absolute/path",
                        value);
    }
    return HSM_OK;
}

static hsm_status parse_log_level(struct hsm_config *cfg, const char *value)
{
    static const char *const names[] = { "off", "error", "info", "debug" };
    size_t i;

    for (i = 0; i < COUNT(names); i++)
        if (strcmp(value, names[i]) == 0) {
            cfg->log_level = (enum hsm_log_level)i;
            return HSM_OK;
        }
    return hsm_fail(HSM_ERR_CONFIG,
                    "configuration: log-level = %s is not known: use error, info, debug or off", value);
}

static hsm_status check_value(const char *key, const char *value)
{
    struct hsm_config scratch = { .items = NULL };
    struct hsm_token_spec spec;

    if (strcmp(key, "token") == 0 || strncmp(key, "token.", 6) == 0)
        return hsm_token_spec_parse(value, &spec);
    if (strcmp(key, "pin-source") == 0 || strncmp(key, "pin-source.", 11) == 0)
        return pin_source_check(value);
    if (strcmp(key, "log") == 0)
        return parse_log(&scratch, value);
    if (strcmp(key, "log-level") == 0)
        return parse_log_level(&scratch, value);
    if (strcmp(key, "alias-scheme") == 0 && strcmp(value, "pkcs11") != 0)
        return hsm_fail(HSM_ERR_CONFIG,
                        "configuration: alias-scheme = %s is not known: only pkcs11 can be an alias", value);
    return HSM_OK;
}

static hsm_status store_item(struct hsm_config *cfg, const char *key, const char *value)
{
    struct config_item *item = find_item(cfg, key), *grown;
    char *copy = strdup(value);

    if (copy == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for the configuration");
    if (item != NULL) {
        free(item->value);
        item->value = copy;
        return HSM_OK;
    }
    grown = realloc(cfg->items, (cfg->item_count + 1) * sizeof(*grown));
    if (grown != NULL)
        cfg->items = grown;
    if (grown == NULL || (grown[cfg->item_count].key = strdup(key)) == NULL) {
        free(copy);
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for the configuration");
    }
    grown[cfg->item_count++].value = copy;
    return HSM_OK;
}

hsm_status hsm_config_set(struct hsm_config *cfg, const char *key, const char *value)
{
    hsm_status st;

    if (!hsm_config_key_known(key))
        return hsm_fail(HSM_ERR_CONFIG,
                        "configuration: key '%.64s' is not known: use token, tokens, token.NAME, "
                        "pin-source, pin-source.NAME, log, log-level or alias-scheme",
                        key);
    if (value[0] == '\0' || strlen(value) > CONFIG_VALUE_MAX || cfg->item_count >= CONFIG_ITEMS_MAX)
        return hsm_fail(HSM_ERR_CONFIG, "configuration: the value of '%.64s' is empty or too long", key);
    if ((st = check_value(key, value)) != HSM_OK)
        return st;
    return store_item(cfg, key, value);
}

/* ---- token specification ------------------------------------------------------------------------------- */

hsm_status hsm_token_spec_parse(const char *text, struct hsm_token_spec *spec)
{
    size_t driver_len = strcspn(text, ":"), location_len;
    const char *location = text + driver_len + 1;

    *spec = (struct hsm_token_spec){ .driver = "" };
    if (text[driver_len] != ':' || driver_len == 0 || driver_len >= sizeof(spec->driver))
        return hsm_fail(HSM_ERR_CONFIG,
                        "token '%.64s' names no driver: write driver:location, for example %s", text,
                        HSM_DEFAULT_TOKEN);
    location_len = strcspn(location, "?");
    if (location_len == 0 || location_len >= sizeof(spec->location))
        return hsm_fail(HSM_ERR_CONFIG, "token '%.64s': the location is empty or too long", text);
    memcpy(spec->driver, text, driver_len);
    memcpy(spec->location, location, location_len);
    if (location[location_len] == '?') {
        if (strlen(location + location_len + 1) >= sizeof(spec->params))
            return hsm_fail(HSM_ERR_CONFIG, "token '%.64s': the parameters are too long", text);
        (void)snprintf(spec->params, sizeof(spec->params), "%s", location + location_len + 1);
    }
    return HSM_OK;
}

static bool percent_decode(const char *text, size_t len, char *out, size_t out_len)
{
    size_t i, n = 0;
    unsigned code;

    for (i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            if (len - i < 3 || sscanf(text + i + 1, "%2x", &code) != 1 || code == 0)
                return false;
            c = (char)code;
            i += 2;
        }
        if (n + 1 >= out_len)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

bool hsm_token_spec_param(const struct hsm_token_spec *spec, const char *name, char *out, size_t out_len)
{
    const char *item = spec->params;
    size_t name_len = strlen(name);

    while (*item != '\0') {
        size_t len = strcspn(item, "&");

        if (len > name_len && strncmp(item, name, name_len) == 0 && item[name_len] == '=')
            return percent_decode(item + name_len + 1, len - name_len - 1, out, out_len);
        item += len + (item[len] == '&');
    }
    return false;
}

/* ---- openssl.cnf --------------------------------------------------------------------------------------- */

static hsm_status take_section(struct hsm_config *cfg, const CONF *conf, const char *path,
                               const char *section)
{
    STACK_OF(CONF_VALUE) *values = NCONF_get_section(conf, section);
    hsm_status st;
    int i;

    for (i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if ((st = hsm_config_set(cfg, v->name, v->value == NULL ? "" : v->value)) != HSM_OK) {
            char cause[400];

            (void)snprintf(cause, sizeof(cause), "%s", hsm_error_text(st));
            return hsm_fail(st, "%s (%.80s, section [%.40s])", cause, path, section);
        }
    }
    return HSM_OK;
}

/* openssl_conf -> providers -> hsm -> section name, as libcrypto follows it; hsm_sect where nothing leads
 * there */
static const char *find_section(const CONF *conf)
{
    const char *init = NCONF_get_string(conf, NULL, "openssl_conf"), *providers, *section = NULL;

    providers = init == NULL ? NULL : NCONF_get_string(conf, init, "providers");
    if (providers != NULL)
        section = NCONF_get_string(conf, providers, "hsm");
    if (section == NULL && NCONF_get_section(conf, "hsm_sect") != NULL)
        section = "hsm_sect";
    return section != NULL && NCONF_get_section(conf, section) != NULL ? section : NULL;
}

hsm_status hsm_config_load_file(struct hsm_config *cfg, const char *path, bool *found)
{
    char *default_path = path == NULL ? CONF_get1_default_config_file() : NULL;
    const char *name = path == NULL ? default_path : path, *section = NULL;
    CONF *conf = NULL;
    long error_line = 0;
    hsm_status st = HSM_OK;

    ERR_set_mark(); /* the queue belongs to the application */
    if (name == NULL || (conf = NCONF_new(NULL)) == NULL) {
        st = hsm_fail(HSM_ERR_MEMORY, "out of memory for the configuration");
    } else if (NCONF_load(conf, name, &error_line) > 0) {
        if ((section = find_section(conf)) != NULL)
            st = take_section(cfg, conf, name, section);
    } else if (error_line > 0) {
        st = hsm_fail(HSM_ERR_CONFIG, "configuration file %s, line %ld: syntax error", name, error_line);
    } else if (path != NULL) {
        st = hsm_fail(HSM_ERR_CONFIG, "configuration file %s cannot be read; check its path and permissions",
                      name);
    }
    if (found != NULL)
        *found = section != NULL;
    NCONF_free(conf);
    OPENSSL_free(default_path);
    ERR_pop_to_mark();
    return st;
}

/* ---- finish -------------------------------------------------------------------------------------------- */

/* One key from the environment, where it wins over the file. */
static hsm_status from_environment(struct hsm_config *cfg, const char *variable, const char *key)
{
    const char *value = secure_getenv(variable);
    char cause[400];
    hsm_status st;

    if (value == NULL || *value == '\0' || (st = hsm_config_set(cfg, key, value)) == HSM_OK)
        return HSM_OK;
    (void)snprintf(cause, sizeof(cause), "%s", hsm_error_text(st));
    return hsm_fail(st, "%s (environment variable %s)", cause, variable);
}

/* Before anything else, so that what is wrong with the rest can be logged. */
static hsm_status finish_log(struct hsm_config *cfg)
{
    const char *log, *level;
    hsm_status st;

    cfg->log_level = HSM_LOG_ERROR;
    if ((st = from_environment(cfg, "HSM_LOG", "log")) != HSM_OK ||
        (st = from_environment(cfg, "HSM_LOG_LEVEL", "log-level")) != HSM_OK)
        return st;
    if ((level = hsm_config_get(cfg, "log-level")) != NULL && (st = parse_log_level(cfg, level)) != HSM_OK)
        return st;
    return (log = hsm_config_get(cfg, "log")) == NULL ? HSM_OK : parse_log(cfg, log);
}

void config_log_only(struct hsm_config *cfg)
{
    if (finish_log(cfg) != HSM_OK)
        cfg->log_target = LOG_NOWHERE;
    cfg->token_count = 0;
    cfg->finished = true;
}

static hsm_status add_token(struct hsm_config *cfg, const char *name, const char *spec,
                            const char *pin_source)
{
    struct token_config *t = &cfg->tokens[cfg->token_count];

    if (cfg->token_count == TOKENS_MAX)
        return hsm_fail(HSM_ERR_CONFIG, "configuration: more than %d tokens", TOKENS_MAX);
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    if (pin_source != NULL)
        (void)snprintf(t->pin_source, sizeof(t->pin_source), "%s", pin_source);
    cfg->token_count++;
    return hsm_token_spec_parse(spec, &t->spec);
}

static hsm_status add_named_token(struct hsm_config *cfg, const char *name)
{
    char key[CONFIG_NAME_MAX + 16];
    const char *spec, *pin_source;
    size_t i;

    if (!name_is_plain(name))
        return hsm_fail(HSM_ERR_CONFIG, "configuration: token name '%.64s': use letters, digits, '-' and '_'",
                        name);
    for (i = 0; i < cfg->token_count; i++)
        if (strcmp(cfg->tokens[i].name, name) == 0)
            return hsm_fail(HSM_ERR_CONFIG, "configuration: token '%s' is listed twice in `tokens`", name);
    (void)snprintf(key, sizeof(key), "token.%s", name);
    if ((spec = hsm_config_get(cfg, key)) == NULL)
        return hsm_fail(HSM_ERR_CONFIG,
                        "configuration: `tokens` names '%s', but there is no `token.%s = ...`", name, name);
    (void)snprintf(key, sizeof(key), "pin-source.%s", name);
    if ((pin_source = hsm_config_get(cfg, key)) == NULL || secure_getenv("HSM_PIN_SOURCE") != NULL)
        pin_source = hsm_config_get(cfg, "pin-source");
    return add_token(cfg, name, spec, pin_source);
}

static hsm_status add_tokens(struct hsm_config *cfg)
{
    const char *list = hsm_config_get(cfg, "tokens"), *single = hsm_config_get(cfg, "token");
    char name[CONFIG_NAME_MAX + 1];
    hsm_status st;

    if (list == NULL || secure_getenv("HSM_TOKEN") != NULL)
        return add_token(cfg, "token", single == NULL ? HSM_DEFAULT_TOKEN : single,
                         hsm_config_get(cfg, "pin-source"));
    if (single != NULL)
        return hsm_fail(HSM_ERR_CONFIG, "configuration: both `token` and `tokens` are set; keep one");
    for (list += strspn(list, " \t,"); *list != '\0'; list += strspn(list, " \t,")) {
        size_t len = strcspn(list, " \t,");

        (void)snprintf(name, sizeof(name), "%.*s", len > CONFIG_NAME_MAX ? CONFIG_NAME_MAX : (int)len, list);
        if ((st = add_named_token(cfg, name)) != HSM_OK)
            return st;
        list += len;
    }
    return cfg->token_count > 0 ? HSM_OK : hsm_fail(HSM_ERR_CONFIG, "configuration: `tokens` is empty");
}

static hsm_status resolve_env_pin(struct token_config *t)
{
    const char *value = secure_getenv(t->pin_source + 4);
    size_t len = value == NULL ? 0 : strlen(value);

    if (len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %s: the PIN is longer than %d bytes", t->pin_source,
                        HSM_PIN_MAX);
    if (value == NULL)
        return HSM_OK; /* reported when a PIN is needed */
    if ((t->env_pin = hsm_secret_alloc(HSM_PIN_MAX + 1)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a PIN");
    memcpy(t->env_pin, value, len + 1);
    return HSM_OK;
}

/* $CREDENTIALS_DIRECTORY is gone in a worker, the path is not. Source: systemd.exec(5), LoadCredential= */
static hsm_status resolve_credential(struct token_config *t)
{
    const char *dir = secure_getenv("CREDENTIALS_DIRECTORY");
    char path[sizeof(t->pin_source)];

    if (dir == NULL)
        return HSM_OK; /* reported when a PIN is needed */
    if (snprintf(path, sizeof(path), "file:%s/%s", dir, t->pin_source + 5) >= (int)sizeof(path))
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %s: the path is too long", t->pin_source);
    (void)snprintf(t->pin_source, sizeof(t->pin_source), "%s", path);
    return HSM_OK;
}

hsm_status hsm_config_finish(struct hsm_config *cfg)
{
    hsm_status st;
    size_t i;

    if (cfg->finished)
        return HSM_OK;
    if ((st = finish_log(cfg)) != HSM_OK || (st = from_environment(cfg, "HSM_TOKEN", "token")) != HSM_OK ||
        (st = from_environment(cfg, "HSM_PIN_SOURCE", "pin-source")) != HSM_OK)
        return st;
    if ((st = add_tokens(cfg)) != HSM_OK)
        return st;
    for (i = 0; i < cfg->token_count && st == HSM_OK; i++) {
        if (strncmp(cfg->tokens[i].pin_source, "env:", 4) == 0)
            st = resolve_env_pin(&cfg->tokens[i]);
        else if (strncmp(cfg->tokens[i].pin_source, "cred:", 5) == 0)
            st = resolve_credential(&cfg->tokens[i]);
    }
    cfg->finished = st == HSM_OK;
    return st;
}
