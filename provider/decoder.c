/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Key references from files. libcrypto offers every key file of the process to every decoder, so the contexts
 * are the provider itself, and what is not ours is waved through with 1: a 0 would stop certificates from
 * loading.
 */
#include <string.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>

#include "dispatch.h"
#include "hsm/keyref.h"
#include "passphrase.h"

#define STRUCTURE      "hsm-reference"
#define BEGIN_LINE     "-----BEGIN "
#define END_LINE       "-----END "
#define OWN_BEGIN_LINE "-----BEGIN " HSM_KEYREF_PEM_LABEL "-----"

enum {
    LINE_SIZE = 256,         /* as PEM_read_bio() cuts them */
    PEM_TEXT_MAX = 64 * 1024 /* bytes of one block of ours; a real one has at most 7 KiB */
};

static OSSL_FUNC_decoder_newctx_fn decoder_newctx;
static OSSL_FUNC_decoder_freectx_fn decoder_freectx;
static OSSL_FUNC_decoder_does_selection_fn decoder_does_selection;
static OSSL_FUNC_decoder_decode_fn pem_decode;

static void *decoder_newctx(void *provctx)
{
    return provctx;
}

static void decoder_freectx(void *ctx)
{
}

/* The reference carries the public key as well. */
static int decoder_does_selection(void *provctx, int selection)
{
    return selection == 0 ||
           (selection & (OSSL_KEYMGMT_SELECT_PRIVATE_KEY | OSSL_KEYMGMT_SELECT_PUBLIC_KEY)) != 0;
}

static int bad_reference(struct prov_ctx *prov, const char *what)
{
    return prov_fail(prov, HSM_ERR_REFERENCE,
                     "key reference is damaged: %s; write it anew with `hsmctl key ref NAME`", what);
}

/* ---- PEM to DER ---------------------------------------------------------------------------------------- */

/* One line without its end. @return false at the end of the input */
static bool read_line(struct prov_ctx *prov, OSSL_CORE_BIO *in, char line[LINE_SIZE], bool *has_nul)
{
    int len = prov->up.bio_gets(in, line, LINE_SIZE);

    if (len <= 0)
        return false;
    *has_nul = strlen(line) < (size_t)len;
    len = (int)strlen(line);
    while (len > 0 && (unsigned char)line[len - 1] <= ' ')
        line[--len] = '\0';
    return true;
}

static bool starts_with(const char *line, const char *prefix)
{
    return strncmp(line, prefix, strlen(prefix)) == 0;
}

static bool is_begin_line(const char *line)
{
    size_t len = strlen(line);

    return starts_with(line, BEGIN_LINE) && len > strlen(BEGIN_LINE) + 5 &&
           strcmp(line + len - 5, "-----") == 0;
}

/* Behind the block, as the default decoder leaves it: a program reads the next block from there. */
static int skip_block(struct prov_ctx *prov, OSSL_CORE_BIO *in)
{
    char line[LINE_SIZE];
    bool has_nul;

    while (read_line(prov, in, line, &has_nul) && !starts_with(line, END_LINE))
        ;
    return 1;
}

/* The text of our block, from its BEGIN to its END line, into @p text. */
static int collect_block(struct prov_ctx *prov, OSSL_CORE_BIO *in, BIO *text)
{
    char line[LINE_SIZE] = OWN_BEGIN_LINE;
    size_t total = 0;
    bool has_nul = false;

    do {
        total += strlen(line) + 1;
        if (total > PEM_TEXT_MAX)
            return bad_reference(prov, "far too long");
        if (has_nul)
            return bad_reference(prov, "binary data between its BEGIN and END lines");
        if (BIO_printf(text, "%s\n", line) < 0)
            return prov_fail(prov, HSM_ERR_MEMORY, "out of memory for a key reference");
        if (starts_with(line, END_LINE))
            return 1;
    } while (read_line(prov, in, line, &has_nul));
    return bad_reference(prov, "truncated, it has no END line");
}

static int pem_to_der(struct prov_ctx *prov, BIO *text, unsigned char **der, long *der_len)
{
    char *name = NULL, *header = NULL;
    int ok;

    ERR_set_mark();
    ok = PEM_read_bio(text, &name, &header, der, der_len);
    ERR_pop_to_mark(); /* our own line says it better */
    if (!ok)
        bad_reference(prov, "no base64 text between matching BEGIN and END lines");
    else if (header[0] != '\0')
        ok = bad_reference(prov, "it has PEM headers, which references never have");
    OPENSSL_free(name);
    OPENSSL_free(header);
    return ok;
}

static int hand_on_der(unsigned char *der, size_t der_len, OSSL_CALLBACK *data_cb, void *data_arg)
{
    char structure[] = STRUCTURE;
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der, der_len),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE, structure, 0),
        OSSL_PARAM_construct_end(),
    };

    return data_cb(params, data_arg);
}

static int decode_block(struct prov_ctx *prov, OSSL_CORE_BIO *in, OSSL_CALLBACK *data_cb, void *data_arg)
{
    struct hsm_keyref ref;
    unsigned char *der = NULL;
    long der_len = 0;
    hsm_status st;
    int ok = 0;
    BIO *text = BIO_new(BIO_s_mem());

    if (text == NULL)
        return prov_fail(prov, HSM_ERR_MEMORY, "out of memory for a key reference");
    if (!collect_block(prov, in, text) || !pem_to_der(prov, text, &der, &der_len))
        goto out;
    st = hsm_keyref_decode((struct hsm_bytes){ der, (size_t)der_len }, &ref);
    if (st != HSM_OK)
        prov_raise(prov, st);
    else
        ok = hand_on_der(der, (size_t)der_len, data_cb, data_arg);
out:
    OPENSSL_free(der);
    BIO_free(text);
    return ok;
}

static int pem_decode(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *data_cb, void *data_arg,
                      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    struct prov_ctx *prov = vctx;
    char line[LINE_SIZE];
    bool has_nul;

    if (prov->up.bio_gets == NULL)
        return 1;
    do {
        if (!read_line(prov, in, line, &has_nul))
            return 1;
    } while (!is_begin_line(line));
    if (strcmp(line, OWN_BEGIN_LINE) != 0)
        return skip_block(prov, in);
    return decode_block(prov, in, data_cb, data_arg);
}

/* ---- DER to key ---------------------------------------------------------------------------------------- */

/* @return how many of @p len bytes there were */
static size_t read_bytes(struct prov_ctx *prov, OSSL_CORE_BIO *in, uint8_t *buf, size_t len)
{
    size_t total = 0, n = 0;

    while (total < len && prov->up.bio_read_ex(in, buf + total, len - total, &n) && n > 0)
        total += n;
    return total;
}

/* Length of a DER element from its first bytes, header included; 0 if it is no SEQUENCE of a length a
 * reference can have. */
static size_t element_len(const uint8_t *head, size_t head_len, size_t *header_len)
{
    size_t octets, len = 0, i;

    if (head_len < 4 || head[0] != 0x30)
        return 0;
    if (head[1] < 0x80) {
        *header_len = 2;
        return 2 + (size_t)head[1];
    }
    octets = head[1] & 0x7f;
    if (octets == 0 || octets > 2)
        return 0;
    for (i = 0; i < octets; i++)
        len = len << 8 | head[2 + i];
    *header_len = 2 + octets;
    return len + *header_len <= HSM_KEYREF_MAX ? len + *header_len : 0;
}

/* Any other key or certificate differs here: SEQUENCE, INTEGER 1, UTF8String. */
static bool looks_like_reference(const uint8_t *head, size_t head_len, size_t header_len)
{
    static const uint8_t version_and_tag[] = { 0x02, 0x01, 0x01, 0x0c };

    return head_len >= header_len + sizeof(version_and_tag) &&
           memcmp(head + header_len, version_and_tag, sizeof(version_and_tag)) == 0;
}

/* @param der  out: HSM_KEYREF_MAX bytes of room
 * @return 1 and a length; 1 and no length for what is not ours; 0 after raising */
static int read_reference(struct prov_ctx *prov, OSSL_CORE_BIO *in, uint8_t *der, size_t *der_len)
{
    enum { HEAD_LEN = 12 };
    size_t header_len = 0, head_len, len;

    *der_len = 0;
    if (prov->up.bio_read_ex == NULL)
        return 1;
    head_len = read_bytes(prov, in, der, HEAD_LEN);
    len = element_len(der, head_len, &header_len);
    if (len == 0 || !looks_like_reference(der, head_len, header_len))
        return 1;
    if (len > head_len && read_bytes(prov, in, der + head_len, len - head_len) != len - head_len)
        return bad_reference(prov, "truncated");
    if (hsm_keyref_probe((struct hsm_bytes){ der, len }))
        *der_len = len;
    return 1;
}

static hsm_status parse_uri(struct hsm_bytes text, struct hsm_uri *uri)
{
    char copy[HSM_URI_MAX + 1];

    if (text.len > HSM_URI_MAX || memchr(text.ptr, '\0', text.len) != NULL)
        return hsm_fail(HSM_ERR_REFERENCE,
                        "key reference is damaged: its URI is too long or has a NUL byte; write it anew "
                        "with `hsmctl key ref NAME`");
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return hsm_uri_parse(copy, uri);
}

/* *key stays NULL with HSM_OK if the reference is to a key of another type. */
static hsm_status reference_key(struct prov_ctx *prov, struct hsm_bytes der, enum hsm_key_type type,
                                struct prov_key **key)
{
    struct hsm_keyref ref;
    struct hsm_pubkey pub;
    struct hsm_uri uri = { .type = HSM_URI_TYPE_ANY };
    hsm_status st;

    if ((st = hsm_keyref_decode(der, &ref)) != HSM_OK)
        return st;
    if (ref.spki.len != 0 && (st = hsm_pubkey_parse(ref.spki, &pub)) != HSM_OK)
        return st;
    if (ref.spki.len != 0 && pub.kind.type != type)
        return HSM_OK;
    if ((st = parse_uri(ref.uri, &uri)) == HSM_OK)
        st = prov_key_from_uri(prov, &uri, ref.spki, key);
    hsm_uri_clear(&uri);
    if (st == HSM_OK && (*key)->type != type) {
        prov_key_free(*key);
        *key = NULL;
    }
    return st;
}

/* keymgmt load() zeroes the pointer when it takes the key over. */
static int hand_on_key(struct prov_key **key, OSSL_CALLBACK *data_cb, void *data_arg)
{
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
                                         (char *)prov_key_type_name((*key)->type), 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, key, sizeof(*key)),
        OSSL_PARAM_construct_end(),
    };

    return data_cb(params, data_arg);
}

static int der_decode(struct prov_ctx *prov, OSSL_CORE_BIO *in, enum hsm_key_type type,
                      OSSL_CALLBACK *data_cb, void *data_arg, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)
{
    uint8_t der[HSM_KEYREF_MAX];
    struct prov_key *key = NULL;
    size_t der_len;
    hsm_status st;
    int ok;

    if (!read_reference(prov, in, der, &der_len))
        return 0;
    if (der_len == 0)
        return 1;
    st = reference_key(prov, (struct hsm_bytes){ der, der_len }, type, &key);
    if (st != HSM_OK)
        return prov_raise(prov, st);
    if (key == NULL)
        return 1;
    if (hsm_key_wants_pin(key->key, false))
        prov_ask_pin(prov, key->key, pw_cb, pw_arg);
    ok = hand_on_key(&key, data_cb, data_arg);
    prov_key_free(key);
    return ok;
}

const OSSL_DISPATCH prov_pem_decoder_functions[] = {
    { OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx },
    { OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx },
    { OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection },
    { OSSL_FUNC_DECODER_DECODE, (void (*)(void))pem_decode },
    { 0, NULL },
};

#define DER_DECODER(name, type)                                                                              \
    static OSSL_FUNC_decoder_decode_fn name##_decode;                                                        \
    static int name##_decode(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *data_cb,            \
                             void *data_arg, OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_arg)                  \
    {                                                                                                        \
        return der_decode(ctx, in, type, data_cb, data_arg, pw_cb, pw_arg);                                  \
    }                                                                                                        \
    const OSSL_DISPATCH prov_##name##_decoder_functions[] = {                                                \
        { OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decoder_newctx },                                        \
        { OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decoder_freectx },                                      \
        { OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))decoder_does_selection },                        \
        { OSSL_FUNC_DECODER_DECODE, (void (*)(void))name##_decode },                                         \
        { 0, NULL },                                                                                         \
    }

DER_DECODER(rsa, HSM_KEY_RSA);
DER_DECODER(rsa_pss, HSM_KEY_RSA_PSS);
DER_DECODER(ec, HSM_KEY_EC);
DER_DECODER(ed25519, HSM_KEY_ED25519);
DER_DECODER(ed448, HSM_KEY_ED448);
DER_DECODER(x25519, HSM_KEY_X25519);
DER_DECODER(x448, HSM_KEY_X448);
