/* SPDX-License-Identifier: Apache-2.0 */
/* The NVM file: "SE05XNV1", records { tag, length (4 bytes), value }, SHA-256 of all before it. Records may
 * hold records. Written whole to a temporary file and renamed, so that what is there is always one complete
 * state. It is not synced: it has to outlive the simulator, not the host. Keys are in it in the clear;
 * nothing in a simulator is a secret.
 */
#include "applet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC_LEN = 8, SUM_LEN = 32, RECORD_HEAD = 5, FILE_MAX = 8 << 20 };
static const uint8_t magic[MAGIC_LEN + 1] = "SE05XNV1";

enum record {
    REC_PART = 1, /* version and AppletConfig the file was made for */
    REC_STATE,    /* lock, restriction, boots, export key */
    REC_FACT,
    REC_CURVE,
    REC_CRYPTO,
    REC_OBJECT,
    /* within REC_OBJECT */
    REC_ATTRIBUTES = 32,
    REC_POLICY,
    REC_VALUE, /* + slot */
    /* within REC_CURVE: + index */
    REC_PARAM = 64,
};

/* ---- writing ------------------------------------------------------------------------------------------ */

static void put_record(struct buf *out, uint8_t tag, const void *value, size_t len)
{
    uint8_t head[RECORD_HEAD] = { tag };

    put_be(head + 1, len, 4);
    buf_append(out, head, sizeof(head));
    buf_append(out, value, len);
}

enum { ATTRIBUTES_LEN = 4 + 8 + 6 * 2 + 2 * 4 };

static void pack_attributes(const struct object *o, uint8_t p[ATTRIBUTES_LEN])
{
    const uint8_t bytes[8] = { o->kind,      o->part,    o->curve,     o->origin,
                               o->rsa_plain, o->is_auth, o->transient, 0 };
    const uint16_t words[6] = { o->size, o->attempts, o->max_attempts, o->min_tag, o->min_output, 0 };

    put_be(p, o->id, 4);
    memcpy(p + 4, bytes, 8);
    for (size_t i = 0; i < 6; i++)
        put_be(p + 12 + 2 * i, words[i], 2);
    put_be(p + 24, o->owner, 4);
    put_be(p + 28, o->version, 4);
}

static void pack_object(struct buf *out, const struct object *o)
{
    struct buf body = { NULL, 0 };
    uint8_t attributes[ATTRIBUTES_LEN];

    pack_attributes(o, attributes);
    put_record(&body, REC_ATTRIBUTES, attributes, sizeof(attributes));
    put_record(&body, REC_POLICY, o->policy.ptr, o->policy.len);
    for (size_t i = 0; i < V_COUNT; i++)
        if (o->value[i].len > 0 && (!o->transient || i == V_INITIAL))
            put_record(&body, (uint8_t)(REC_VALUE + i), o->value[i].ptr, o->value[i].len);
    put_record(out, REC_OBJECT, body.ptr, body.len);
    buf_clear(&body);
}

static void pack_curve(struct buf *out, uint8_t id, const struct curve *c)
{
    struct buf body = { NULL, 0 };

    put_record(&body, REC_ATTRIBUTES, &id, 1);
    for (size_t i = 0; i < CURVE_PARAMS; i++)
        if (c->set & (1 << i))
            put_record(&body, (uint8_t)(REC_PARAM + i), c->param[i].ptr, c->param[i].len);
    put_record(out, REC_CURVE, body.ptr, body.len);
    buf_clear(&body);
}

static void pack_state(const struct applet *a, struct buf *out)
{
    uint8_t part[5] = { a->p.version[0], a->p.version[1], a->p.version[2] }, state[6 + EXPORT_KEY_LEN];

    put_be(part + 3, a->p.config, 2);
    put_record(out, REC_PART, part, sizeof(part));
    state[0] = a->locked_persistent;
    state[1] = a->restrict_persistent;
    put_be(state + 2, a->boots, 4);
    memcpy(state + 6, a->export_key, EXPORT_KEY_LEN);
    put_record(out, REC_STATE, state, sizeof(state));
}

static void pack_lists(const struct applet *a, struct buf *out)
{
    for (size_t i = 0; i < a->fact_count; i++) {
        struct buf body = { NULL, 0 };

        buf_append(&body, a->facts[i].name, strlen(a->facts[i].name) + 1);
        buf_append(&body, a->facts[i].value.ptr, a->facts[i].value.len);
        put_record(out, REC_FACT, body.ptr, body.len);
        buf_clear(&body);
    }
    for (uint8_t id = 1; id <= CURVE_MAX; id++)
        if (a->curves[id].created)
            pack_curve(out, id, &a->curves[id]);
    for (size_t i = 0; i < a->crypto_count; i++) {
        uint8_t body[8] = { 0, 0, a->crypto[i]->context, a->crypto[i]->subtype };

        put_be(body, a->crypto[i]->id, 2);
        put_be(body + 4, a->crypto[i]->owner, 4);
        put_record(out, REC_CRYPTO, body, sizeof(body));
    }
    for (size_t i = 0; i < a->object_count; i++)
        pack_object(out, a->objects[i]);
}

static bool write_all(int fd, struct sim_bytes in)
{
    while (in.len > 0) {
        ssize_t n = write(fd, in.ptr, in.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        in.ptr += n;
        in.len -= (size_t)n;
    }
    return true;
}

static bool replace_file(const char *path, struct sim_bytes content)
{
    size_t len = strlen(path) + 8;
    char *tmp = sim_alloc(len);
    int fd, saved;
    bool ok;

    snprintf(tmp, len, "%s.XXXXXX", path);
    fd = mkstemp(tmp);
    ok = fd >= 0 && write_all(fd, content);
    saved = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        saved = errno;
        ok = false;
    }
    if (ok && rename(tmp, path) != 0) {
        saved = errno;
        ok = false;
    }
    if (!ok) {
        if (fd >= 0)
            unlink(tmp);
        fprintf(stderr, "se05x-sim: cannot write %s: %s\n", path, strerror(saved));
    }
    free(tmp);
    return ok;
}

bool nvm_save(struct applet *a)
{
    struct buf out = { NULL, 0 };
    uint8_t sum[SUM_LEN];
    bool ok;

    if (a->nvm_path == NULL) {
        a->dirty = false;
        return true;
    }
    buf_append(&out, magic, MAGIC_LEN);
    pack_state(a, &out);
    pack_lists(a, &out);
    ok = sha256(a, buf_view(&out), sum);
    if (ok) {
        buf_append(&out, sum, sizeof(sum));
        ok = replace_file(a->nvm_path, buf_view(&out));
    }
    buf_clear(&out);
    a->dirty = a->dirty && !ok;
    return ok;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static bool take_record(struct sim_bytes *in, uint8_t *tag, struct sim_bytes *value)
{
    if (in->len < RECORD_HEAD)
        return false;
    *tag = in->ptr[0];
    *value = (struct sim_bytes){ in->ptr + RECORD_HEAD, get_be((struct sim_bytes){ in->ptr + 1, 4 }) };
    if (value->len > in->len - RECORD_HEAD)
        return false;
    in->ptr += RECORD_HEAD + value->len;
    in->len -= RECORD_HEAD + value->len;
    return true;
}

static uint16_t word_at(struct sim_bytes in, size_t at)
{
    return (uint16_t)get_be((struct sim_bytes){ in.ptr + at, 2 });
}

static bool unpack_attributes(struct object *o, struct sim_bytes in)
{
    if (in.len != ATTRIBUTES_LEN)
        return false;
    o->id = get_be((struct sim_bytes){ in.ptr, 4 });
    o->kind = in.ptr[4];
    o->part = in.ptr[5];
    o->curve = in.ptr[6];
    o->origin = in.ptr[7];
    o->rsa_plain = in.ptr[8] != 0;
    o->is_auth = in.ptr[9] != 0;
    o->transient = in.ptr[10] != 0;
    o->size = word_at(in, 12);
    o->attempts = word_at(in, 14);
    o->max_attempts = word_at(in, 16);
    o->min_tag = word_at(in, 18);
    o->min_output = word_at(in, 20);
    o->owner = get_be((struct sim_bytes){ in.ptr + 24, 4 });
    o->version = get_be((struct sim_bytes){ in.ptr + 28, 4 });
    return o->kind >= KIND_EC && o->kind <= KIND_PCR && (o->kind != KIND_EC || curve_info(o->curve) != NULL);
}

static void append_object(struct applet *a, struct object *o)
{
    struct object **grown = sim_alloc((a->object_count + 1) * sizeof(*grown));

    if (a->object_count > 0)
        memcpy(grown, a->objects, a->object_count * sizeof(*grown));
    free(a->objects);
    a->objects = grown;
    a->objects[a->object_count++] = o;
}

static bool unpack_object(struct applet *a, struct sim_bytes in)
{
    struct object *o = object_new(0, 0);
    struct sim_bytes value;
    bool ok = true;
    uint8_t tag;

    while (ok && in.len > 0) {
        ok = take_record(&in, &tag, &value);
        if (ok && tag == REC_ATTRIBUTES)
            ok = unpack_attributes(o, value);
        else if (ok && tag == REC_POLICY)
            buf_set(&o->policy, value.ptr, value.len);
        else if (ok && tag >= REC_VALUE && tag < REC_VALUE + V_COUNT)
            buf_set(&o->value[tag - REC_VALUE], value.ptr, value.len);
    }
    ok = ok && o->kind != 0 && store_find(a, o->id) == NULL &&
         policy_check(a, o->kind, buf_view(&o->policy)) == SW_OK;
    if (ok)
        append_object(a, o);
    else
        object_free(o);
    return ok;
}

static bool unpack_curve(struct applet *a, struct sim_bytes in)
{
    struct sim_bytes value;
    struct curve *c;
    uint8_t tag, id;

    if (!take_record(&in, &tag, &value) || tag != REC_ATTRIBUTES || value.len != 1)
        return false;
    id = value.ptr[0];
    if (id == 0 || id > CURVE_MAX || curve_info(id) == NULL)
        return false;
    c = &a->curves[id];
    c->created = true;
    while (in.len > 0) {
        if (!take_record(&in, &tag, &value) || tag < REC_PARAM || tag >= REC_PARAM + CURVE_PARAMS)
            return false;
        buf_set(&c->param[tag - REC_PARAM], value.ptr, value.len);
        c->set |= (uint8_t)(1 << (tag - REC_PARAM));
    }
    return true;
}

static bool unpack_crypto(struct applet *a, struct sim_bytes in)
{
    struct crypto_object c = { 0 };

    if (in.len != 8)
        return false;
    c.id = word_at(in, 0);
    c.context = in.ptr[2];
    c.subtype = in.ptr[3];
    c.owner = get_be((struct sim_bytes){ in.ptr + 4, 4 });
    crypto_add(a, &c);
    return true;
}

static bool unpack_state(struct applet *a, struct sim_bytes in)
{
    if (in.len != 6 + EXPORT_KEY_LEN)
        return false;
    a->locked_persistent = in.ptr[0] != 0;
    a->restrict_persistent = in.ptr[1];
    a->boots = get_be((struct sim_bytes){ in.ptr + 2, 4 });
    memcpy(a->export_key, in.ptr + 6, EXPORT_KEY_LEN);
    return true;
}

static bool unpack_fact(struct applet *a, struct sim_bytes in)
{
    size_t name_len = in.len == 0 ? 0 : strnlen((const char *)in.ptr, in.len);

    return name_len < in.len &&
           fact_set(a, (const char *)in.ptr, in.ptr + name_len + 1, in.len - name_len - 1);
}

static const char *unpack_part(struct applet *a, struct sim_bytes in)
{
    if (in.len != 5)
        return "damaged";
    if (memcmp(in.ptr, a->p.version, 3) != 0)
        return "made for a part with another applet version";
    if (word_at(in, 3) & ~a->p.config) /* fewer bits are the work of SetAppletFeatures */
        return "made for a part with other features";
    a->p.config = word_at(in, 3);
    return NULL;
}

static const char *unpack(struct applet *a, struct sim_bytes in)
{
    const char *why = NULL;
    struct sim_bytes value;
    bool ok = true;
    uint8_t tag;

    while (why == NULL && ok && in.len > 0) {
        ok = take_record(&in, &tag, &value);
        if (!ok)
            break;
        if (tag == REC_PART)
            why = unpack_part(a, value);
        else
            ok = tag == REC_STATE    ? unpack_state(a, value)
                 : tag == REC_FACT   ? unpack_fact(a, value)
                 : tag == REC_CURVE  ? unpack_curve(a, value)
                 : tag == REC_CRYPTO ? unpack_crypto(a, value)
                 : tag == REC_OBJECT ? unpack_object(a, value)
                                     : false;
    }
    return why != NULL ? why : ok ? NULL : "damaged";
}

static const char *check_and_unpack(struct applet *a, struct sim_bytes file)
{
    struct sim_bytes body = { file.ptr, file.len - SUM_LEN };
    uint8_t sum[SUM_LEN];

    if (file.len < MAGIC_LEN + SUM_LEN || memcmp(file.ptr, magic, MAGIC_LEN) != 0)
        return "not an NVM file of this simulator";
    if (!sha256(a, body, sum) || memcmp(sum, file.ptr + body.len, SUM_LEN) != 0)
        return "damaged (checksum)";
    return unpack(a, (struct sim_bytes){ body.ptr + MAGIC_LEN, body.len - MAGIC_LEN });
}

static bool read_all(int fd, struct buf *out)
{
    uint8_t chunk[16384];
    ssize_t n;

    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || out->len + (size_t)n > FILE_MAX)
            return false;
        buf_append(out, chunk, (size_t)n);
    }
    return true;
}

bool nvm_load(struct applet *a, bool *exists)
{
    const char *why = "unreadable or too long";
    struct buf file = { NULL, 0 };
    int fd;

    *exists = false;
    if (a->nvm_path == NULL)
        return true;
    fd = open(a->nvm_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    *exists = true;
    if (fd < 0) {
        fprintf(stderr, "se05x-sim: cannot read %s: %s\n", a->nvm_path, strerror(errno));
        return false;
    }
    if (read_all(fd, &file))
        why = check_and_unpack(a, buf_view(&file));
    close(fd);
    buf_clear(&file);
    if (why != NULL)
        fprintf(stderr, "se05x-sim: %s: %s; delete it to start with a fresh part\n", a->nvm_path, why);
    a->dirty = false;
    return why == NULL;
}
