/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Key references, as files of untrusted origin: PEM or DER, then the URI and the public key inside. What
 * parses must encode to bytes that parse to the same, and a reference that is written never holds a PIN.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "hsm/keyref.h"
#include "hsm/pubkey.h"
#include "hsm/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(struct hsm_bytes a, struct hsm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static void check_round_trip(const struct hsm_keyref *ref)
{
    static uint8_t der[1 << 17];
    struct hsm_buf out = { .ptr = der, .cap = sizeof(der) };
    struct hsm_keyref again;

    if (hsm_keyref_encode(ref, &out) != HSM_OK || !hsm_keyref_probe((struct hsm_bytes){ der, out.len }))
        abort();
    if (hsm_keyref_decode((struct hsm_bytes){ der, out.len }, &again) != HSM_OK ||
        !same(ref->uri, again.uri) || !same(ref->spki, again.spki))
        abort();
}

static void check_uri(struct hsm_bytes text)
{
    char copy[HSM_URI_MAX + 1], again[4 * HSM_URI_MAX];
    struct hsm_buf out = { .ptr = (uint8_t *)again, .cap = sizeof(again) };
    struct hsm_uri uri;

    if (text.len > HSM_URI_MAX || memchr(text.ptr, '\0', text.len) != NULL)
        return;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    if (hsm_uri_parse(copy, &uri) != HSM_OK)
        return;
    if (hsm_uri_format(&uri, &out) == HSM_OK && strchr(again, '?') != NULL)
        abort();
    hsm_uri_clear(&uri);
}

static void check_der(struct hsm_bytes der)
{
    struct hsm_keyref ref;
    struct hsm_pubkey pub;

    if (hsm_keyref_decode(der, &ref) != HSM_OK)
        return;
    if (!hsm_keyref_probe(der))
        abort();
    check_round_trip(&ref);
    check_uri(ref.uri);
    if (hsm_pubkey_parse(ref.spki, &pub) == HSM_OK && (ref.spki.len == 0 || pub.kind.type == HSM_KEY_NONE))
        abort();
}

static void check_pem(const uint8_t *data, size_t size)
{
    BIO *in = BIO_new_mem_buf(data, (int)size);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len = 0;

    if (in != NULL && PEM_read_bio(in, &name, &header, &der, &len) == 1 &&
        strcmp(name, HSM_KEYREF_PEM_LABEL) == 0)
        check_der((struct hsm_bytes){ der, (size_t)len });
    ERR_clear_error();
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 16)
        return 0;
    if (size > 0 && data[0] == '-')
        check_pem(data, size);
    else
        check_der((struct hsm_bytes){ data, size });
    return 0;
}
