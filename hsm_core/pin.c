/* SPDX-License-Identifier: Apache-2.0 */
/* Where a PIN comes from: file:PATH | env:NAME | cred:NAME | prompt. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hsm/secret.h"
#include "internal.h"

bool pin_source_is_prompt(const char *source)
{
    return strcmp(source, "prompt") == 0;
}

hsm_status pin_source_check(const char *source)
{
    if (pin_source_is_prompt(source) || (strncmp(source, "file:", 5) == 0 && source[5] != '\0') ||
        (strncmp(source, "env:", 4) == 0 && source[4] != '\0') ||
        (strncmp(source, "cred:", 5) == 0 && source[5] != '\0' && strchr(source, '/') == NULL))
        return strlen(source) < sizeof(((struct token_config *)0)->pin_source)
                   ? HSM_OK
                   : hsm_fail(HSM_ERR_CONFIG, "pin-source is too long");
    return hsm_fail(HSM_ERR_CONFIG, "pin-source is not of the form file:PATH, env:NAME, cred:NAME or prompt");
}

/* Cut one trailing line end, then check the length. */
static hsm_status finish_pin(const char *source, struct hsm_buf *pin, size_t len)
{
    if (len > 0 && pin->ptr[len - 1] == '\n')
        len--;
    if (len > 0 && pin->ptr[len - 1] == '\r')
        len--;
    if (len == 0 || len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: %s", source,
                        len == 0 ? "there is no PIN in it" : "the PIN is longer than 255 bytes");
    pin->len = len;
    return HSM_OK;
}

static hsm_status read_file(const char *source, const char *path, struct hsm_buf *pin)
{
    uint8_t text[HSM_PIN_MAX + 3]; /* the longest PIN, a line end and one byte too much */
    struct hsm_buf cut = { text, sizeof(text), 0 };
    size_t len = 0;
    ssize_t n = 0;
    hsm_status st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: %s%s (uid %ld)", source, strerror(errno),
                        errno == EACCES ? "; give this user's group read permission" : "", (long)geteuid());
    while (len < sizeof(text) &&
           ((n = read(fd, text + len, sizeof(text) - len)) > 0 || (n < 0 && errno == EINTR)))
        len += n > 0 ? (size_t)n : 0;
    if (n < 0)
        st = hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: %s", source, strerror(errno));
    else
        st = finish_pin(source, &cut, len);
    if (st == HSM_OK) {
        memcpy(pin->ptr, text, cut.len);
        pin->len = cut.len;
    }
    (void)close(fd);
    hsm_cleanse(text, sizeof(text));
    return st;
}

static hsm_status read_environment(const char *source, const char *name, struct hsm_buf *pin)
{
    const char *value = secure_getenv(name);
    size_t len = value == NULL ? 0 : strlen(value);

    if (value == NULL)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: the environment variable is not set", source);
    if (len > HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: the PIN is longer than %d bytes", source,
                        HSM_PIN_MAX);
    memcpy(pin->ptr, value, len);
    return finish_pin(source, pin, len);
}

static hsm_status read_credential(const char *source, const char *name, struct hsm_buf *pin)
{
    const char *dir = secure_getenv("CREDENTIALS_DIRECTORY");
    char path[1024];

    if (dir == NULL)
        return hsm_fail(HSM_ERR_PIN_SOURCE,
                        "pin-source %.200s: CREDENTIALS_DIRECTORY is not set; add LoadCredential=%s:PATH "
                        "to the service",
                        source, name);
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return hsm_fail(HSM_ERR_PIN_SOURCE, "pin-source %.200s: the path is too long", source);
    return read_file(source, path, pin);
}

static hsm_status ask(struct hsm_ctx *ctx, enum hsm_role role, struct hsm_buf *pin)
{
    if (ctx == NULL || ctx->prompt == NULL)
        return hsm_fail(HSM_ERR_PIN_REQUIRED,
                        "the PIN must be asked for (pin-source = prompt), but this program "
                        "offers no way; use pin-source = file:PATH");
    return ctx->prompt(ctx->prompt_arg, ctx->cfg->tokens[0].name, role, pin);
}

hsm_status hsm_pin_read(struct hsm_ctx *ctx, const char *source, enum hsm_role role, struct hsm_buf *pin)
{
    if (pin->cap < HSM_PIN_MAX)
        return hsm_fail(HSM_ERR_BUFFER, "a PIN needs %d bytes", HSM_PIN_MAX);
    if (strncmp(source, "file:", 5) == 0)
        return read_file(source, source + 5, pin);
    if (strncmp(source, "env:", 4) == 0)
        return read_environment(source, source + 4, pin);
    if (strncmp(source, "cred:", 5) == 0 && strchr(source, '/') == NULL)
        return read_credential(source, source + 5, pin);
    if (pin_source_is_prompt(source))
        return ask(ctx, role, pin);
    return hsm_fail(HSM_ERR_PIN_SOURCE,
                    "pin-source is not of the form file:PATH, env:NAME, cred:NAME or prompt");
}

const char *hsm_pin_source(struct hsm_ctx *ctx, size_t index)
{
    const char *source = index < ctx->cfg->token_count ? ctx->cfg->tokens[index].pin_source : "";

    return source[0] == '\0' ? NULL : source;
}
