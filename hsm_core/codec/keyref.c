/* SPDX-License-Identifier: Apache-2.0 */
#include "hsm/keyref.h"

#include <string.h>

#include "der.h"
#include "utf8.h"

static const uint8_t version_1[1] = { 1 };

static bool is_version_1(struct hsm_bytes v)
{
    return v.len == 1 && v.ptr[0] == 1;
}

static bool has_scheme(struct hsm_bytes uri)
{
    return uri.len > 4 && memcmp(uri.ptr, "hsm:", 4) == 0;
}

bool hsm_keyref_probe(struct hsm_bytes der)
{
    struct hsm_bytes seq, version, uri;

    return der_take(&der, DER_SEQUENCE, &seq) && der_take_uint(&seq, &version) &&
           der_take(&seq, DER_UTF8_STRING, &uri) && has_scheme(uri);
}

static hsm_status bad(const char *what)
{
    return hsm_fail(HSM_ERR_REFERENCE,
                    "key reference is damaged: %s; write it anew with `hsmctl key ref NAME`", what);
}

hsm_status hsm_keyref_decode(struct hsm_bytes der, struct hsm_keyref *ref)
{
    struct hsm_bytes seq, version, wrapped, check;

    *ref = (struct hsm_keyref){ { NULL, 0 }, { NULL, 0 } };
    if (!der_take(&der, DER_SEQUENCE, &seq))
        return bad("not a DER SEQUENCE, or truncated");
    if (der.len != 0)
        return bad("trailing bytes");
    if (!der_take_uint(&seq, &version))
        return bad("no version");
    if (!is_version_1(version))
        return hsm_fail(HSM_ERR_REFERENCE,
                        "key reference has a newer version than this program knows; update hsm");
    if (!der_take(&seq, DER_UTF8_STRING, &ref->uri) || !has_scheme(ref->uri) || !hsm_utf8_valid(ref->uri))
        return bad("no hsm: URI in UTF-8");
    if (seq.len == 0)
        return HSM_OK;
    if (!der_take(&seq, DER_CONTEXT_0, &wrapped) || seq.len != 0)
        return bad("unknown element behind the URI");
    ref->spki = wrapped;
    if (!der_take(&wrapped, DER_SEQUENCE, &check) || wrapped.len != 0)
        return bad("public key is not a SubjectPublicKeyInfo");
    return HSM_OK;
}

hsm_status hsm_keyref_encode(const struct hsm_keyref *ref, struct hsm_buf *out)
{
    struct der_writer w;

    if (!has_scheme(ref->uri) || !hsm_utf8_valid(ref->uri))
        return hsm_fail(HSM_ERR_REFERENCE, "a key reference needs a hsm: URI in UTF-8");
    der_writer_init(&w, out);
    if (ref->spki.len != 0)
        der_put_element(&w, DER_CONTEXT_0, ref->spki);
    der_put_element(&w, DER_UTF8_STRING, ref->uri);
    der_put_uint(&w, (struct hsm_bytes){ version_1, 1 });
    der_wrap(&w, 0, DER_SEQUENCE);
    return der_finish(&w, out);
}
