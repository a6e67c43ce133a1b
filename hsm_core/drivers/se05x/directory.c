/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which objects there are. A record is found by its id, which is computed from class and label, so that
 * finding a key costs one command. Where two labels meet, the later record moves on to the next free id; a
 * record that is deleted while another stands behind it leaves a tombstone.
 *
 * Objects of others (NXP's own keys, those made by other tools) are listed by their id, "0xF0000100".
 */
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define PROPQ          "provider=default"
#define FIRST_RESERVED UINT32_C(0x7fff0000) /* the applet's own: 7FFFxxxx */
#define LAST_RESERVED  UINT32_C(0x7fffffff)
#define FIRST_FACTORY  UINT32_C(0xf0000000)
enum { CERTIFICATE_MAX = 8192, IDS_PER_PAGE = 256, PAGES_MAX = 64 };

/* ---- small things ----------------------------------------------------------------------------------------
 */

static bool is_foreign(uint32_t id)
{
    return id != 0 && !se05x_is_ours(id) && !(id >= FIRST_RESERVED && id <= LAST_RESERVED);
}

static hsm_status parse_auth(struct se05x_token *t, const struct hsm_open_args *args)
{
    struct se05x_credential *cred = &t->directory->foreign;
    char text[64], *end = NULL;
    const char *number;
    unsigned long id;

    if (!hsm_token_spec_param(args->spec, "auth", text, sizeof(text)))
        return HSM_OK;
    number = strchr(text, ':');
    id = number == NULL ? 0 : strtoul(number + 1, &end, 16);
    cred->kind = strncmp(text, "userid:", 7) == 0   ? SE05X_CRED_USERID
                 : strncmp(text, "aeskey:", 7) == 0 ? SE05X_CRED_AES
                                                    : SE05X_CRED_NONE;
    if (cred->kind == SE05X_CRED_NONE || id == 0 || id > UINT32_MAX || *end != '\0' ||
        se05x_is_ours((uint32_t)id))
        return hsm_fail(
            HSM_ERR_CONFIG,
            "%s: auth=%s must be userid:0xID or aeskey:0xID, of an authentication object of others", t->where,
            text);
    cred->auth_id = (uint32_t)id;
    return HSM_OK;
}

hsm_status se05x_directory_new(struct se05x_token *t, const struct hsm_open_args *args)
{
    if ((t->directory = calloc(1, sizeof(*t->directory))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for %s", t->where);
    return parse_auth(t, args);
}

void se05x_directory_free(struct se05x_token *t)
{
    free(t->directory);
    t->directory = NULL;
}

hsm_status se05x_exists(struct se05x_token *t, uint32_t id, bool *exists)
{
    uint16_t sw;
    hsm_status st = se05x_read_exists(t, id, exists, &sw);

    return st != HSM_OK || sw == SE05X_SW_OK ? st
                                             : se05x_refused(t, sw, "the question whether an object exists");
}

bool se05x_unsure(struct se05x_token *t, hsm_status st, uint32_t id, bool *exists)
{
    char line[400];
    bool known;

    if (st != HSM_ERR_TOKEN_IO || !se05x_maybe_executed(t))
        return false;
    (void)snprintf(line, sizeof(line), "%s", hsm_error_text(st));
    known = se05x_exists(t, id, exists) == HSM_OK;
    if (!known)
        (void)hsm_fail(st, "%s", line);
    return known;
}

hsm_status se05x_remove(struct se05x_token *t, enum se05x_auth auth, uint32_t id)
{
    bool exists = true;
    uint16_t sw = 0;
    hsm_status st;

    if ((st = se05x_delete(t, auth, id, &sw)) != HSM_OK || sw == SE05X_SW_OK)
        return st;
    if ((st = se05x_exists(t, id, &exists)) != HSM_OK || !exists)
        return st;
    return sw == SE05X_SW_CONDITIONS ? se05x_refused(t, SE05X_SW_NOT_ALLOWED, "its deletion")
                                     : se05x_refused(t, sw, "its deletion");
}

/* How the chip refuses a read: missing, or not for us. */
static hsm_status read_refused(const struct se05x_token *t, uint16_t sw)
{
    return sw == SE05X_SW_CONDITIONS ? HSM_ERR_NO_OBJECT : se05x_refused(t, sw, "reading");
}

hsm_status se05x_file_read(struct se05x_token *t, enum se05x_auth auth, uint32_t id, size_t len, uint8_t *out)
{
    struct hsm_buf piece;
    size_t at = 0, take;
    uint16_t sw;
    hsm_status st;

    while (at < len) {
        take = len - at < SE05X_FILE_CHUNK ? len - at : SE05X_FILE_CHUNK;
        piece = (struct hsm_buf){ out + at, take, 0 };
        if ((st = se05x_read_object(t, auth, id, (uint16_t)at, len > SE05X_FILE_CHUNK ? (uint16_t)take : 0,
                                    take, &piece, &sw)) != HSM_OK)
            return st;
        if (sw != SE05X_SW_OK)
            return read_refused(t, sw);
        if (piece.len != take)
            return hsm_fail(HSM_ERR_TOKEN_FORMAT, "%s: an object is shorter than its record says", t->where);
        at += take;
    }
    return HSM_OK;
}

/* ---- TOKEN -----------------------------------------------------------------------------------------------
 */

static hsm_status take_token(struct se05x_token *t, struct hsm_bytes bytes)
{
    struct se05x_directory *d = t->directory;
    struct se05x_token_info info;

    if (bytes.len == 0) {
        memset(&info, 0, sizeof(info));
    } else if (se05x_token_decode(bytes, &info) != HSM_OK) {
        if (bytes.len > 2 && bytes.ptr[0] == 'h' && bytes.ptr[1] == 'T' && bytes.ptr[2] > SE05X_FORMAT)
            return hsm_fail(HSM_ERR_TOKEN_VERSION, "%s was initialised by a newer version of hsm (format %u)",
                            t->where, bytes.ptr[2]);
        return hsm_fail(HSM_ERR_TOKEN_FORMAT,
                        "%s: object %08X is damaged or not ours; `hsmctl token init --force`", t->where,
                        SE05X_ID_TOKEN);
    }
    if (d->read && d->initialised &&
        (info.state != SE05X_TOKEN_READY || memcmp(info.instance, d->info.instance, SE05X_INSTANCE_LEN) != 0))
        return hsm_fail(HSM_ERR_TOKEN_GONE, "%s was initialised again by somebody else", t->where);
    d->info = info;
    d->initialised = info.state == SE05X_TOKEN_READY;
    d->read = true;
    t->base.no_pin = d->initialised && info.no_pin;
    return HSM_OK;
}

hsm_status se05x_token_read(struct se05x_token *t)
{
    uint8_t bytes[SE05X_APDU_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    uint16_t sw;
    hsm_status st = se05x_read_object(t, SE05X_ANYBODY, SE05X_ID_TOKEN, 0, 0, 0, &out, &sw);

    if (st != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK && sw != SE05X_SW_CONDITIONS)
        return se05x_refused(t, sw, "reading what the token is");
    return take_token(t, (struct hsm_bytes){ bytes, sw == SE05X_SW_OK ? out.len : 0 });
}

hsm_status se05x_token_need(struct se05x_token *t)
{
    return t->directory->read ? HSM_OK : se05x_token_read(t);
}

static hsm_status must_be_initialised(const struct se05x_token *t)
{
    if (t->directory->initialised)
        return HSM_OK;
    return hsm_fail(HSM_ERR_TOKEN_FORMAT,
                    "%s is not initialised: only keys that others put there can be used; `hsmctl token init`",
                    t->where);
}

hsm_status se05x_token_ready(struct se05x_token *t)
{
    hsm_status st = se05x_token_read(t);

    return st == HSM_OK ? must_be_initialised(t) : st;
}

/* ---- records ---------------------------------------------------------------------------------------------
 */

static hsm_status hash_label(const struct se05x_token *t, enum hsm_class cls, const char *label,
                             uint32_t *hash)
{
    uint8_t in[1 + HSM_LABEL_MAX], digest[32];
    size_t len = strlen(label), digest_len;

    if (len == 0 || len > HSM_LABEL_MAX)
        return hsm_fail(HSM_ERR_ARGUMENT, "%s: a label has 1 to %d bytes", t->where, HSM_LABEL_MAX);
    in[0] = (uint8_t)cls;
    memcpy(in + 1, label, len);
    if (EVP_Q_digest(t->libctx, "SHA2-256", PROPQ, in, 1 + len, digest, &digest_len) != 1)
        return hsm_crypto_fail(HSM_ERR_CRYPTO, "SHA-256 failed");
    *hash = (uint32_t)digest[0] << 16 | (uint32_t)digest[1] << 8 | digest[2];
    return HSM_OK;
}

hsm_status se05x_record_read(struct se05x_token *t, uint32_t record_id, struct se05x_record *r)
{
    uint8_t bytes[SE05X_APDU_MAX];
    struct hsm_buf out = { bytes, sizeof(bytes), 0 };
    uint16_t sw;
    hsm_status st = se05x_read_object(t, SE05X_ANYBODY, record_id, 0, 0, 0, &out, &sw);

    if (st != HSM_OK)
        return st == HSM_ERR_BUFFER ? HSM_ERR_DATA : st;
    if (sw == SE05X_SW_CONDITIONS)
        return HSM_ERR_NO_OBJECT;
    if (sw == SE05X_SW_NOT_ALLOWED)
        return HSM_ERR_DATA;
    if (sw != SE05X_SW_OK)
        return se05x_refused(t, sw, "reading a record");
    return se05x_record_decode((struct hsm_bytes){ out.ptr, out.len }, r);
}

/* The record of this label. HSM_ERR_NO_OBJECT without a line. */
static hsm_status find_record(struct se05x_token *t, enum hsm_class cls, const char *label,
                              struct se05x_record *r, uint32_t *record_id)
{
    uint32_t hash;
    unsigned probe;
    hsm_status st;

    if ((st = hash_label(t, cls, label, &hash)) != HSM_OK)
        return st;
    for (probe = 0; probe < SE05X_PROBES_MAX; probe++) {
        *record_id = se05x_record_id(hash, probe);
        st = se05x_record_read(t, *record_id, r);
        if (st == HSM_OK && r->state == SE05X_RECORD_LIVE && r->obj.cls == cls &&
            strcmp(r->obj.label, label) == 0)
            return HSM_OK;
        if (st != HSM_OK && st != HSM_ERR_DATA)
            return st;
    }
    return HSM_ERR_NO_OBJECT;
}

hsm_status se05x_record_place(struct se05x_token *t, enum hsm_class cls, const char *label,
                              uint32_t *record_id)
{
    struct se05x_record r;
    bool exists = false;
    uint32_t hash;
    unsigned probe;
    hsm_status st;

    if ((st = hash_label(t, cls, label, &hash)) != HSM_OK)
        return st;
    for (probe = 0; probe < SE05X_PROBES_MAX; probe++) {
        *record_id = se05x_record_id(hash, probe);
        if ((st = se05x_exists(t, *record_id, &exists)) != HSM_OK || !exists)
            return st;
        st = se05x_record_read(t, *record_id, &r);
        if (st == HSM_OK && r.state == SE05X_RECORD_LIVE && r.obj.cls == cls &&
            strcmp(r.obj.label, label) == 0)
            return hsm_fail(HSM_ERR_EXISTS, "'%s' exists already on %s: nothing was changed; delete it first",
                            label, t->where);
        if (st != HSM_OK && st != HSM_ERR_DATA)
            return st;
    }
    return hsm_fail(HSM_ERR_TOKEN_FULL, "%s: no place for a record of '%s'; take another name", t->where,
                    label);
}

static hsm_status bury_before(struct se05x_token *t, enum se05x_auth auth, uint32_t record_id)
{
    struct se05x_record r;
    bool exists = false;
    unsigned n;
    hsm_status st;

    for (n = 1; n < SE05X_PROBES_MAX; n++) {
        uint32_t id = se05x_record_id(record_id - n, 0);

        if ((st = se05x_exists(t, id, &exists)) != HSM_OK || !exists)
            return st;
        if (se05x_record_read(t, id, &r) != HSM_OK || r.state != SE05X_RECORD_TOMBSTONE)
            return HSM_OK;
        if ((st = se05x_remove(t, auth, id)) != HSM_OK)
            return st == HSM_ERR_DENIED ? HSM_OK : st; /* stays, and does no harm */
    }
    return HSM_OK;
}

hsm_status se05x_record_bury(struct se05x_token *t, enum se05x_auth auth, uint32_t record_id)
{
    static const uint8_t tombstone[1] = { SE05X_RECORD_TOMBSTONE };
    struct se05x_write w = { .auth = auth, .id = record_id, .repeatable = true };
    bool has_successor = false;
    uint16_t sw;
    hsm_status st;

    if ((st = se05x_exists(t, se05x_record_id(record_id, 1), &has_successor)) != HSM_OK)
        return st;
    if (!has_successor)
        return (st = se05x_remove(t, auth, record_id)) != HSM_OK ? st : bury_before(t, auth, record_id);
    st = se05x_write_binary(t, &w, SE05X_RECORD_STATE_AT, 0, (struct hsm_bytes){ tombstone, 1 }, &sw);
    return st != HSM_OK || sw == SE05X_SW_OK ? st : se05x_refused(t, sw, "deleting a record");
}

/* ---- known objects ---------------------------------------------------------------------------------------
 */

static hsm_handle make_handle(uint32_t record_id, uint32_t value_id)
{
    return (hsm_handle)record_id << 32 | value_id;
}

static enum hsm_hash hash_of(const struct se05x_token *t, const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *oid;
    char name[64];
    EVP_MD *md;
    int h;

    if (algorithm == NULL)
        return HSM_HASH_SHA1; /* RFC 4055: the default */
    X509_ALGOR_get0(&oid, NULL, NULL, algorithm);
    if (OBJ_obj2txt(name, sizeof(name), oid, 1) <= 0 || (md = EVP_MD_fetch(t->libctx, name, PROPQ)) == NULL)
        return HSM_HASH_NONE;
    for (h = HSM_HASH_NONE + 1; h < HSM_HASH_COUNT; h++)
        if (hsm_hash_name((enum hsm_hash)h) != NULL && EVP_MD_is_a(md, hsm_hash_name((enum hsm_hash)h)))
            break;
    EVP_MD_free(md);
    return h < HSM_HASH_COUNT ? (enum hsm_hash)h : HSM_HASH_NONE;
}

static enum hsm_hash mgf1_hash_of(const struct se05x_token *t, const X509_ALGOR *mask)
{
    const ASN1_OBJECT *oid;
    const void *value;
    X509_ALGOR *inner;
    enum hsm_hash h;
    int type;

    if (mask == NULL)
        return HSM_HASH_SHA1;
    X509_ALGOR_get0(&oid, &type, &value, mask);
    if (OBJ_obj2nid(oid) != NID_mgf1 || type != V_ASN1_SEQUENCE)
        return HSM_HASH_NONE;
    if ((inner = ASN1_item_unpack(value, ASN1_ITEM_rptr(X509_ALGOR))) == NULL)
        return HSM_HASH_NONE;
    h = hash_of(t, inner);
    X509_ALGOR_free(inner);
    return h;
}

/* What an RSASSA-PSS key restricts its signatures to: the salt at least this long. */
static void take_restrictions(const struct se05x_token *t, struct hsm_bytes der, struct hsm_mech *mech)
{
    const unsigned char *at = der.ptr;
    RSA_PSS_PARAMS *pss = der.len == 0 ? NULL : d2i_RSA_PSS_PARAMS(NULL, &at, (long)der.len);
    int64_t salt_len = 20;

    *mech = (struct hsm_mech){ .type = HSM_MECH_NONE };
    if (pss == NULL)
        return;
    mech->type = HSM_MECH_RSA_PSS;
    mech->hash = hash_of(t, pss->hashAlgorithm);
    mech->mgf1_hash = mgf1_hash_of(t, pss->maskGenAlgorithm);
    if (pss->saltLength != NULL)
        (void)ASN1_INTEGER_get_int64(&salt_len, pss->saltLength);
    mech->salt_len = salt_len >= 0 && salt_len <= HSM_SIGNATURE_MAX ? (unsigned)salt_len : HSM_SIGNATURE_MAX;
    RSA_PSS_PARAMS_free(pss);
}

static struct se05x_object *known(struct se05x_token *t, hsm_handle handle)
{
    size_t i;

    for (i = 0; i < SE05X_KNOWN_MAX; i++)
        if (handle != 0 && t->directory->known[i].handle == handle)
            return &t->directory->known[i];
    return NULL;
}

static struct se05x_object *place_for(struct se05x_token *t, hsm_handle handle)
{
    struct se05x_directory *d = t->directory;
    struct se05x_object *o = known(t, handle);

    if (o == NULL) {
        o = &d->known[d->next];
        d->next = (d->next + 1) % SE05X_KNOWN_MAX;
    }
    memset(o, 0, sizeof(*o));
    return o;
}

static void fill(struct se05x_token *t, hsm_handle handle, const struct hsm_object *from,
                 struct se05x_object *o)
{
    struct hsm_pubkey pub;

    o->handle = handle;
    o->id = (uint32_t)handle;
    o->cls = from->cls;
    o->kind = from->kind;
    o->usage = from->usage;
    o->value_len = from->value_len;
    memcpy(o->label, from->label, sizeof(o->label));
    if (from->cls != HSM_CLASS_KEY ||
        hsm_pubkey_parse((struct hsm_bytes){ from->spki, from->spki_len }, &pub) != HSM_OK)
        return;
    if (pub.n.len <= sizeof(o->modulus)) {
        o->modulus_len = pub.n.len;
        if (pub.n.len > 0)
            memcpy(o->modulus, pub.n.ptr, pub.n.len);
    }
    take_restrictions(t, pub.pss_params, &o->pss);
}

void se05x_remember(struct se05x_token *t, hsm_handle handle, const struct se05x_record *r)
{
    struct se05x_object *o = place_for(t, handle);

    fill(t, handle, &r->obj, o);
    o->open = (r->flags & SE05X_FLAG_OPEN) != 0;
    o->so_destroys = (r->flags & SE05X_FLAG_SO_DESTROYS) != 0;
}

static void remember_foreign(struct se05x_token *t, const struct hsm_object *obj)
{
    struct se05x_object *o = place_for(t, obj->handle);

    fill(t, obj->handle, obj, o);
    o->foreign = true;
    o->open = t->directory->foreign.kind == SE05X_CRED_NONE; /* else with the session of auth= */
}

void se05x_forget(struct se05x_token *t, hsm_handle handle)
{
    struct se05x_object *o = known(t, handle);

    if (o != NULL)
        memset(o, 0, sizeof(*o));
}

/* A record whose SPKI did not fit into it. */
static hsm_status complete(struct se05x_token *t, struct se05x_record *r)
{
    struct hsm_object *o = &r->obj;
    uint8_t params[SE05X_PSS_PARAMS_MAX];
    struct hsm_bytes pss = { params, o->spki_len };
    struct hsm_buf spki = { o->spki, sizeof(o->spki), 0 };
    hsm_status st;

    if ((r->flags & SE05X_FLAG_SPKI_IN_KEY) == 0)
        return HSM_OK;
    memcpy(params, o->spki, o->spki_len);
    st = se05x_key_spki(t, r->value_id, &o->kind, pss, &spki);
    o->spki_len = st == HSM_OK ? spki.len : 0;
    return st;
}

/* ---- objects of others -----------------------------------------------------------------------------------
 */

static hsm_status foreign_key(struct se05x_token *t, uint32_t id, struct hsm_object *o)
{
    struct hsm_buf spki = { o->spki, sizeof(o->spki), 0 };
    struct hsm_pubkey pub;
    hsm_status st;

    if (o->kind.type == HSM_KEY_NONE)
        return HSM_ERR_NO_OBJECT;
    if ((st = se05x_key_spki(t, id, &o->kind, (struct hsm_bytes){ NULL, 0 }, &spki)) != HSM_OK)
        return st == HSM_ERR_DENIED || st == HSM_ERR_BUFFER ? HSM_ERR_NO_OBJECT : st; /* of no use to us */
    if (hsm_pubkey_parse((struct hsm_bytes){ spki.ptr, spki.len }, &pub) != HSM_OK)
        return HSM_ERR_NO_OBJECT;
    o->cls = HSM_CLASS_KEY;
    o->kind = pub.kind;
    o->usage = hsm_kind_usages(&o->kind);
    o->spki_len = spki.len;
    return HSM_OK;
}

static hsm_status foreign_certificate(struct se05x_token *t, uint32_t id, struct hsm_object *o)
{
    uint8_t ignored[HSM_KEY_ID_LEN], *der = NULL;
    size_t len = 0;
    uint16_t sw;
    hsm_status st;

    if ((st = se05x_read_size(t, id, &len, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK || len == 0 || len > CERTIFICATE_MAX)
        return HSM_ERR_NO_OBJECT;
    if ((der = malloc(len)) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory listing %s", t->where);
    if ((st = se05x_file_read(t, SE05X_ANYBODY, id, len, der)) == HSM_ERR_DENIED ||
        (st == HSM_OK &&
         hsm_certificate_id(t->libctx, (struct hsm_bytes){ der, len }, &o->kind, ignored) != HSM_OK))
        st = HSM_ERR_NO_OBJECT;
    free(der);
    o->cls = HSM_CLASS_CERT;
    o->value_len = len;
    return st;
}

static hsm_status foreign_kind(struct se05x_token *t, uint32_t id, uint8_t type, struct hsm_key_kind *kind)
{
    enum se05x_part part = SE05X_PART_PAIR;
    uint8_t curve = 0;
    uint16_t sw;
    hsm_status st;

    *kind = (struct hsm_key_kind){ HSM_KEY_NONE, HSM_CURVE_NONE, 0 };
    if (type == SE05X_TYPE_RSA_PAIR || type == SE05X_TYPE_RSA_PAIR_CRT) {
        kind->type = HSM_KEY_RSA; /* bits come with the modulus */
        return HSM_OK;
    }
    if (type == SE05X_TYPE_EC_PAIR) {
        if ((st = se05x_curve_of_object(t, id, &curve, &sw)) != HSM_OK)
            return st;
        curve = sw == SE05X_SW_OK ? curve : 0;
    } else if (!se05x_type_is_ec(type, &curve, &part)) {
        return HSM_OK;
    }
    if (part == SE05X_PART_PAIR)
        *kind = se05x_kind_of_curve(curve);
    return HSM_OK;
}

/* HSM_ERR_NO_OBJECT without a line: not there, nothing for us, or not of the class that is wanted. */
static hsm_status foreign_object(struct se05x_token *t, uint32_t id, enum hsm_class cls, struct hsm_object *o)
{
    uint8_t type = 0;
    uint16_t sw;
    unsigned i;
    hsm_status st;

    memset(o, 0, sizeof(*o));
    if (cls == HSM_CLASS_DATA || cls == HSM_CLASS_COUNTER)
        return HSM_ERR_NO_OBJECT;
    if ((st = se05x_read_type(t, id, &type, &sw)) != HSM_OK)
        return st;
    if (sw != SE05X_SW_OK || (cls == HSM_CLASS_KEY && type == SE05X_TYPE_BINARY) ||
        (cls == HSM_CLASS_CERT && type != SE05X_TYPE_BINARY))
        return HSM_ERR_NO_OBJECT;
    o->handle = make_handle(0, id);
    o->origin = id >= FIRST_FACTORY ? HSM_ORIGIN_FACTORY : HSM_ORIGIN_NONE;
    o->id_len = 4;
    for (i = 0; i < 4; i++)
        o->id[i] = (uint8_t)(id >> (24 - 8 * i));
    (void)snprintf(o->label, sizeof(o->label), "0x%08X", (unsigned)id);
    if (type == SE05X_TYPE_BINARY)
        st = foreign_certificate(t, id, o);
    else if ((st = foreign_kind(t, id, type, &o->kind)) == HSM_OK)
        st = foreign_key(t, id, o);
    if (st == HSM_OK)
        remember_foreign(t, o);
    return st;
}

/* "0xF0000100" */
static bool parse_foreign(const char *label, uint32_t *id)
{
    char *end;
    unsigned long value;

    if (strncmp(label, "0x", 2) != 0 || strlen(label) != 10)
        return false;
    value = strtoul(label + 2, &end, 16);
    *id = (uint32_t)value;
    return *end == '\0' && is_foreign(*id);
}

/* ---- looking ---------------------------------------------------------------------------------------------
 */

hsm_status se05x_all_ids(struct se05x_token *t, uint32_t **ids, size_t *count)
{
    uint32_t *all = NULL, *grown;
    size_t n = 0, page = 0;
    unsigned pages;
    bool more = true;
    uint16_t sw;
    hsm_status st = HSM_OK;

    for (pages = 0; st == HSM_OK && more && pages < PAGES_MAX; pages++) {
        if ((grown = realloc(all, (n + IDS_PER_PAGE) * sizeof(*all))) == NULL) {
            st = hsm_fail(HSM_ERR_MEMORY, "out of memory listing %s", t->where);
            break;
        }
        all = grown;
        st = se05x_read_ids(t, (uint16_t)n, SE05X_TYPE_ALL, all + n, IDS_PER_PAGE, &page, &more, &sw);
        if (st == HSM_OK && sw != SE05X_SW_OK)
            st = se05x_refused(t, sw, "the list of objects");
        n += st == HSM_OK ? page : 0;
    }
    if (st != HSM_OK) {
        free(all);
        all = NULL;
    }
    *ids = all;
    *count = st == HSM_OK ? n : 0;
    return st;
}

/* One of our records, or one object of others, if it is something to be listed. */
static hsm_status describe(struct se05x_token *t, uint32_t id, enum hsm_class cls, struct hsm_object *o)
{
    struct se05x_record *r;
    hsm_status st;

    if (!se05x_is_record(id))
        return is_foreign(id) ? foreign_object(t, id, cls, o) : HSM_ERR_NO_OBJECT;
    if ((r = malloc(sizeof(*r))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory listing %s", t->where);
    st = se05x_record_read(t, id, r);
    if (st == HSM_OK && r->state != SE05X_RECORD_LIVE)
        st = HSM_ERR_NO_OBJECT;
    if (st == HSM_OK && (st = complete(t, r)) == HSM_OK) {
        r->obj.handle = make_handle(id, r->value_id);
        se05x_remember(t, r->obj.handle, r);
        *o = r->obj;
    }
    free(r);
    return st;
}

/* The chip is not held while the caller looks: he may call back, and others want it, too. */
static hsm_status list_all(struct se05x_token *t, enum hsm_class cls, hsm_object_fn *each, void *arg,
                           struct hsm_object *o)
{
    uint32_t *ids = NULL;
    size_t count, i;
    hsm_status st = se05x_all_ids(t, &ids, &count);

    for (i = 0; st == HSM_OK && i < count; i++) {
        st = describe(t, ids[i], cls, o);
        if (st == HSM_OK)
            st = each(arg, &t->base, o);
        else if (st == HSM_ERR_NO_OBJECT || st == HSM_ERR_DATA) /* vanished meanwhile, or not for us */
            st = HSM_OK;
    }
    free(ids);
    return st;
}

static hsm_status list_label(struct se05x_token *t, enum hsm_class cls, const char *label,
                             hsm_object_fn *each, void *arg, struct hsm_object *o)
{
    struct se05x_record *r = malloc(sizeof(*r));
    uint32_t record_id;
    hsm_status st;

    if (r == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory searching %s", t->where);
    if ((st = find_record(t, cls, label, r, &record_id)) == HSM_OK && (st = complete(t, r)) == HSM_OK) {
        r->obj.handle = make_handle(record_id, r->value_id);
        se05x_remember(t, r->obj.handle, r);
        *o = r->obj;
    }
    free(r);
    if (st == HSM_ERR_NO_OBJECT)
        return HSM_OK;
    return st == HSM_OK ? each(arg, &t->base, o) : st;
}

hsm_status se05x_enumerate(struct hsm_token *tok, enum hsm_class cls, const char *label, hsm_object_fn *each,
                           void *arg)
{
    struct se05x_token *t = se05x_of(tok);
    struct hsm_object *o = malloc(sizeof(*o));
    uint32_t id;
    int c;
    hsm_status st = HSM_OK;

    if (o == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory listing %s", t->where);
    if (label == NULL) {
        st = list_all(t, cls, each, arg, o);
    } else if (parse_foreign(label, &id)) {
        if ((st = foreign_object(t, id, cls, o)) == HSM_OK)
            st = each(arg, tok, o);
        else if (st == HSM_ERR_NO_OBJECT)
            st = HSM_OK;
    } else if (cls != HSM_CLASS_ANY) {
        st = list_label(t, cls, label, each, arg, o);
    } else {
        for (c = HSM_CLASS_KEY; c <= HSM_CLASS_COUNTER && st == HSM_OK; c++)
            st = list_label(t, (enum hsm_class)c, label, each, arg, o);
    }
    free(o);
    return st;
}

hsm_status se05x_vanished(struct se05x_token *t, const struct se05x_object *obj)
{
    char label[HSM_LABEL_MAX + 1];
    hsm_handle handle = obj->handle;
    hsm_status st = HSM_OK;

    memcpy(label, obj->label, sizeof(label));
    se05x_forget(t, handle);
    if (t->directory->read && t->directory->initialised && (st = se05x_token_read(t)) != HSM_OK)
        return st;
    return hsm_fail(HSM_ERR_NO_OBJECT, "'%s' is no longer on %s", label, t->where);
}

static hsm_status no_such(const struct se05x_token *t, hsm_status st)
{
    if (st != HSM_ERR_NO_OBJECT && st != HSM_ERR_DATA)
        return st;
    return hsm_fail(HSM_ERR_NO_OBJECT, "no such object on %s", t->where);
}

hsm_status se05x_lookup(struct se05x_token *t, hsm_handle handle, const struct se05x_object **obj)
{
    uint32_t record_id = (uint32_t)(handle >> 32), id = (uint32_t)handle;
    struct hsm_object *o;
    hsm_status st;

    if ((*obj = known(t, handle)) != NULL)
        return HSM_OK;
    if (record_id == 0 ? !is_foreign(id) : !se05x_is_record(record_id) || !se05x_is_value(id))
        return no_such(t, HSM_ERR_NO_OBJECT);
    if ((o = malloc(sizeof(*o))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory");
    st = describe(t, record_id == 0 ? id : record_id, HSM_CLASS_ANY, o);
    if (st == HSM_OK && (*obj = known(t, handle)) == NULL) /* the record refers to another value by now */
        st = HSM_ERR_NO_OBJECT;
    free(o);
    return no_such(t, st);
}
