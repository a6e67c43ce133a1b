/* SPDX-License-Identifier: Apache-2.0 */
/** A token file with any content: open, list, log in, use and change everything. Errors are fine, crashes are
 * not. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "hsm/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const struct hsm_driver hsm_driver_soft;

/* what the seeds were made with: a machine-made PIN, so that a login takes no time */
static const char pin[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static const struct hsm_mech mechs[] = {
    { .type = HSM_MECH_ECDSA, .hash = HSM_HASH_SHA256 },
    { .type = HSM_MECH_RSA_PKCS1, .hash = HSM_HASH_SHA256 },
    { .type = HSM_MECH_EDDSA },
};

static struct hsm_token_spec spec = { .driver = "soft" };
static struct hsm_open_args args = { .spec = &spec, .name = "fuzz" };

/* The leak checker does not look into libcrypto's heap for secrets, where the only pointers to the DRBGs'
 * ciphers are. */
static void free_libctx(void)
{
    OSSL_LIB_CTX_free(args.libctx);
}

static void write_token(const uint8_t *data, size_t size)
{
    int fd;

    if (args.libctx == NULL) {
        args.libctx = OSSL_LIB_CTX_new();
        (void)atexit(free_libctx);
        (void)snprintf(spec.location, sizeof(spec.location), "%s/hsm-fuzz-%d.db",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    }
    fd = open(spec.location, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (args.libctx == NULL || fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0)
        abort();
}

static void remove_token(void)
{
    static const char *const suffixes[] = { "", "-journal", "-wal", "-shm", "-login" };
    char path[sizeof(spec.location) + 16];
    size_t i;

    for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", spec.location, suffixes[i]);
        (void)unlink(path);
    }
}

static hsm_status use_object(void *arg, struct hsm_token *tok, const struct hsm_object *obj)
{
    static uint8_t value[HSM_DATA_MAX];
    struct hsm_buf out = { value, sizeof(value), 0 };
    const uint8_t digest[32] = { 1 };
    size_t i;

    if (strlen(obj->label) > HSM_LABEL_MAX || obj->id_len > HSM_ID_MAX || obj->spki_len > HSM_SPKI_MAX ||
        obj->value_len > HSM_DATA_MAX)
        abort();
    for (i = 0; i < sizeof(mechs) / sizeof(mechs[0]); i++)
        if (hsm_driver_soft.sign(tok, obj->handle, &mechs[i], (struct hsm_bytes){ digest, 32 }, &out) ==
                HSM_OK &&
            out.len > HSM_SIGNATURE_MAX)
            abort();
    (void)!hsm_driver_soft.get(tok, obj->handle, &out);
    (void)!hsm_driver_soft.export_private(tok, obj->handle, &out);
    return HSM_OK;
}

static void use_token(struct hsm_token *tok)
{
    struct hsm_object_spec data = { .cls = HSM_CLASS_DATA, .label = "new" };
    struct hsm_bytes secret = { (const uint8_t *)pin, sizeof(pin) - 1 };
    struct hsm_token_info info;
    hsm_handle handle = 0;

    (void)!hsm_driver_soft.info(tok, &info);
    (void)!hsm_driver_soft.enumerate(tok, HSM_CLASS_ANY, NULL, use_object, NULL);
    if (hsm_driver_soft.login(tok, HSM_ROLE_USER, secret) != HSM_OK)
        return;
    (void)!hsm_driver_soft.enumerate(tok, HSM_CLASS_ANY, NULL, use_object, NULL);
    (void)!hsm_driver_soft.enumerate(tok, HSM_CLASS_KEY, "ec", use_object, NULL);
    if (hsm_driver_soft.put(tok, &data, secret, &handle) == HSM_OK)
        (void)!hsm_driver_soft.destroy(tok, handle);
    (void)!hsm_driver_soft.destroy(tok, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hsm_token *tok = NULL;

    write_token(data, size);
    if (hsm_driver_soft.open(&args, &tok) == HSM_OK) {
        use_token(tok);
        hsm_driver_soft.close(tok);
    }
    remove_token();
    return 0;
}
