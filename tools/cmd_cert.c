/* SPDX-License-Identifier: Apache-2.0 */
/* hsmctl cert put | get | list | delete */
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "hsm/secret.h"
#include "tool.h"

static X509 *parse_der(struct tool *t, struct hsm_bytes der)
{
    X509 *cert = X509_new_ex(hsm_ctx_libctx(t->ctx), "provider=default");
    const unsigned char *p = der.ptr;

    if (cert != NULL && d2i_X509(&cert, &p, (long)der.len) != NULL && p == der.ptr + der.len)
        return cert;
    X509_free(cert); /* NULL already if d2i_X509() freed it */
    return NULL;
}

/* The first certificate of a PEM file; *more tells of a second one. */
static X509 *parse_pem(struct tool *t, struct hsm_bytes text, bool *more)
{
    BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
    X509 *cert = X509_new_ex(hsm_ctx_libctx(t->ctx), "provider=default"), *second = NULL;

    if (bio == NULL || cert == NULL || PEM_read_bio_X509(bio, &cert, NULL, NULL) == NULL) {
        X509_free(cert); /* NULL already if the decoder freed it */
        cert = NULL;
    }
    if (cert != NULL && (second = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        *more = true;
    X509_free(second);
    BIO_free(bio);
    return cert;
}

static hsm_status read_certificate(struct tool *t, const char *path, X509 **out)
{
    struct hsm_buf file = { .ptr = NULL };
    bool more = false;
    hsm_status st;

    if ((st = tool_read_file(path, HSM_DATA_MAX, &file)) != HSM_OK)
        return st;
    if (file.ptr[0] == 0x30)
        *out = parse_der(t, (struct hsm_bytes){ file.ptr, file.len });
    if (*out == NULL)
        *out = parse_pem(t, (struct hsm_bytes){ file.ptr, file.len }, &more);
    if (*out == NULL)
        st = hsm_fail(HSM_ERR_DATA, "%s holds no whole certificate in PEM or DER form", path);
    else if (more)
        st = hsm_fail(HSM_ERR_DATA,
                      "%s holds more than one certificate; give a file with just the one to store", path);
    ERR_clear_error();
    tool_buf_free(&file);
    return st;
}

hsm_status cmd_cert_put(struct tool *t)
{
    struct hsm_object_spec spec = { .cls = HSM_CLASS_CERT };
    struct hsm_uri uri = { .type = HSM_URI_TYPE_CERT };
    struct hsm_token *tok = NULL;
    unsigned char *der = NULL;
    X509 *cert = NULL;
    hsm_handle handle;
    hsm_status st;
    int len = 0;

    if ((st = tool_open(t)) != HSM_OK || (st = read_certificate(t, t->arg[1], &cert)) != HSM_OK)
        goto out;
    if ((st = tool_new_object(t, HSM_CLASS_CERT, &uri, &spec, &tok)) != HSM_OK)
        goto out;
    if ((len = i2d_X509(cert, &der)) <= 0)
        st = hsm_fail(HSM_ERR_CRYPTO, "cannot encode the certificate of %s", t->arg[1]);
    else
        st = hsm_put(tok, &spec, (struct hsm_bytes){ der, (size_t)len }, &handle);
out:
    hsm_uri_clear(&uri);
    OPENSSL_free(der);
    X509_free(cert);
    return st;
}

static hsm_status get_value(struct hsm_token *tok, const struct hsm_object *obj, struct hsm_buf *out)
{
    hsm_status st;

    out->cap = obj->value_len + 1;
    if ((out->ptr = hsm_secret_alloc(out->cap)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for certificate '%s' of %zu bytes", obj->label,
                        obj->value_len);
    if ((st = hsm_get(tok, obj->handle, out)) != HSM_OK)
        tool_buf_free(out);
    return st;
}

hsm_status cmd_cert_get(struct tool *t)
{
    struct hsm_buf der = { .ptr = NULL };
    struct hsm_token *tok = NULL;
    struct hsm_object obj;
    struct hsm_bytes bytes;
    hsm_status st;

    if ((st = tool_object(t, t->arg[0], HSM_URI_TYPE_CERT, &tok, &obj)) != HSM_OK)
        return st;
    if ((st = get_value(tok, &obj, &der)) != HSM_OK)
        return st;
    bytes = (struct hsm_bytes){ der.ptr, der.len };
    st = t->opt.der ? tool_write_file(t->opt.out, bytes, 0644)
                    : tool_write_pem(t->opt.out, PEM_STRING_X509, bytes, 0644);
    tool_buf_free(&der);
    return st;
}

static void add_subject(struct json_object *record, X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char text[256];
    int len = -1;

    if (bio != NULL &&
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
        len = BIO_read(bio, text, sizeof(text) - 1);
    text[len > 0 ? len : 0] = '\0';
    out_text(record, "subject", text);
    BIO_free(bio);
}

static void add_expiry(struct json_object *record, X509 *cert)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1)
        out_time(record, "not_after", (int64_t)timegm(&tm));
    else
        out_text(record, "not_after", NULL);
}

static hsm_status describe(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj,
                           struct json_object *record)
{
    struct hsm_buf der = { .ptr = NULL };
    X509 *cert;
    hsm_status st;

    if ((st = get_value(tok, obj, &der)) != HSM_OK)
        return st;
    out_text(record, "label", obj->label);
    out_hex(record, "id", (struct hsm_bytes){ obj->id, obj->id_len });
    out_int(record, "size", (int64_t)obj->value_len);
    out_time(record, "created", obj->created_s);
    if ((cert = parse_der(t, (struct hsm_bytes){ der.ptr, der.len })) != NULL) {
        add_subject(record, cert);
        add_expiry(record, cert);
    }
    X509_free(cert);
    tool_buf_free(&der);
    return HSM_OK;
}

hsm_status cmd_cert_list(struct tool *t)
{
    static const char *const fields[] = { "label", "subject", "not_after", "size", "id", NULL };

    return tool_list(t, HSM_URI_TYPE_CERT, fields, describe);
}

hsm_status cmd_cert_delete(struct tool *t)
{
    return tool_delete(t, HSM_URI_TYPE_CERT, "certificate");
}
