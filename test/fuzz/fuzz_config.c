/* SPDX-License-Identifier: Apache-2.0 */
/** Configuration: the bytes once as a whole openssl.cnf, once as lines of key=value, once as a token
 * specification. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hsm/config.h"
#include "hsm/hsm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finished configuration must make a context, or say why not; neither touches a token. */
static void finish(struct hsm_config *cfg)
{
    struct hsm_ctx *ctx = NULL;

    if (hsm_config_finish(cfg) != HSM_OK || hsm_ctx_new(cfg, &ctx) != HSM_OK) {
        hsm_config_free(cfg);
        return;
    }
    for (size_t i = 0; i < hsm_token_count(ctx); i++) {
        if (hsm_token_name(ctx, i) == NULL || hsm_token_spec(ctx, i) == NULL)
            abort();
    }
    hsm_ctx_free(ctx);
}

static void as_file(const uint8_t *data, size_t size)
{
    struct hsm_config *cfg = NULL;
    char path[64];
    int fd;

    if (memmem(data, size, ".include", 8) != NULL) /* libcrypto would read whatever file the input names */
        return;
    if ((fd = memfd_create("openssl.cnf", MFD_CLOEXEC)) < 0)
        return;
    if (write(fd, data, size) == (ssize_t)size && hsm_config_new(&cfg) == HSM_OK) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (hsm_config_load_file(cfg, path, NULL) == HSM_OK)
            finish(cfg);
        else
            hsm_config_free(cfg);
    }
    close(fd);
}

static void as_pairs(char *text)
{
    struct hsm_config *cfg = NULL;
    char *line, *value, *rest = text;

    if (hsm_config_new(&cfg) != HSM_OK)
        return;
    while ((line = strsep(&rest, "\n")) != NULL) {
        value = strchr(line, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        if (hsm_config_set(cfg, line, value) == HSM_OK && !hsm_config_has(cfg, line) &&
            strcmp(line, "activate") != 0 && strcmp(line, "module") != 0 && strcmp(line, "identity") != 0 &&
            strcmp(line, "soft_load") != 0)
            abort();
    }
    finish(cfg);
}

static void as_token_specification(const char *text)
{
    struct hsm_token_spec spec;
    char value[64];

    if (hsm_token_spec_parse(text, &spec) != HSM_OK)
        return;
    (void)hsm_token_spec_param(&spec, "addr", value, sizeof(value));
    (void)hsm_token_spec_param(&spec, "", value, sizeof(value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    as_file(data, size);
    as_token_specification(text);
    as_pairs(text);
    free(text);
    return 0;
}
