/* SPDX-License-Identifier: Apache-2.0 */
/* Secure objects and crypto objects in memory. */
#include "applet.h"

#include <stdlib.h>
#include <string.h>

struct object *object_new(uint32_t id, uint8_t kind)
{
    struct object *o = sim_alloc(sizeof(*o));

    o->id = id;
    o->kind = kind;
    o->origin = ORIGIN_EXTERNAL;
    return o;
}

struct object *object_copy(const struct object *o)
{
    struct object *copy = sim_alloc(sizeof(*copy));

    *copy = *o;
    copy->policy = (struct buf){ NULL, 0 };
    buf_set(&copy->policy, o->policy.ptr, o->policy.len);
    for (size_t i = 0; i < V_COUNT; i++) {
        copy->value[i] = (struct buf){ NULL, 0 };
        buf_set(&copy->value[i], o->value[i].ptr, o->value[i].len);
    }
    return copy;
}

void object_free(struct object *o)
{
    if (o == NULL)
        return;
    buf_clear(&o->policy);
    for (size_t i = 0; i < V_COUNT; i++)
        buf_clear(&o->value[i]);
    free(o);
}

bool object_has_private(const struct object *o)
{
    return (o->part & PART_PRIVATE) != 0;
}

static bool has_values(const struct object *o, const enum value_slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (o->value[slots[i]].len == 0)
            return false;
    return true;
}

static bool rsa_ready(const struct object *o)
{
    static const enum value_slot crt[] = { V_RSA_P, V_RSA_Q, V_RSA_DP, V_RSA_DQ, V_RSA_QINV };
    static const enum value_slot public[] = { V_RSA_N, V_RSA_E }, plain[] = { V_RSA_N, V_RSA_D };

    if ((o->part & PART_PUBLIC) && !has_values(o, public, 2))
        return false;
    return !object_has_private(o) || (o->rsa_plain ? has_values(o, plain, 2) : has_values(o, crt, 5));
}

bool object_ready(const struct object *o)
{
    switch (o->kind) {
    case KIND_RSA:
        return rsa_ready(o);
    case KIND_EC:
        return (!object_has_private(o) || o->value[V_DATA].len > 0) &&
               (!(o->part & PART_PUBLIC) || o->value[V_PUBLIC].len > 0);
    default:
        return o->value[V_DATA].len == o->size;
    }
}

/* 0: key pair, 1: private, 2: public, the order of all type codes */
static uint8_t part_index(const struct object *o)
{
    return o->part == PART_PAIR ? 0 : o->part == PART_PRIVATE ? 1 : 2;
}

uint8_t object_type(const struct applet *a, const struct object *o)
{
    static const uint8_t other[] = {
        [KIND_AES] = 0x09,    [KIND_DES] = 0x0A,     [KIND_HMAC] = 0x11, [KIND_BINARY] = 0x0B,
        [KIND_USERID] = 0x0C, [KIND_COUNTER] = 0x0D, [KIND_PCR] = 0x0F
    };

    if (o->kind == KIND_EC)
        return (uint8_t)((a->p.v7 ? curve_info(o->curve)->type : 0x01) + part_index(o));
    if (o->kind != KIND_RSA)
        return other[o->kind];
    if (o->part == PART_PUBLIC)
        return 0x08;
    return (uint8_t)(0x04 + 2 * part_index(o) + (o->rsa_plain ? 0 : 1));
}

struct object *store_find(const struct applet *a, uint32_t id)
{
    for (size_t i = 0; i < a->object_count; i++)
        if (a->objects[i]->id == id)
            return a->objects[i];
    return NULL;
}

static size_t index_of(const struct applet *a, uint32_t id)
{
    size_t i = 0;

    while (i < a->object_count && a->objects[i]->id != id)
        i++;
    return i;
}

uint16_t store_commit(struct applet *a, struct object *draft)
{
    size_t at = index_of(a, draft->id);
    struct object *old = at < a->object_count ? a->objects[at] : NULL;
    size_t persistent = old == NULL ? 0 : object_persistent_cost(old);
    size_t transient = old == NULL ? 0 : object_transient_cost(old);

    if (draft->origin != ORIGIN_PROVISIONED &&
        (object_persistent_cost(draft) > memory_persistent_free(a) + persistent ||
         object_transient_cost(draft) > memory_transient_deselect_free(a) + transient)) {
        object_free(draft);
        return SW_MEMORY;
    }
    if (old == NULL) {
        struct object **grown = sim_alloc((a->object_count + 1) * sizeof(*grown));

        if (a->object_count > 0)
            memcpy(grown, a->objects, a->object_count * sizeof(*grown));
        free(a->objects);
        a->objects = grown;
        a->object_count++;
    }
    a->dirty = a->dirty || old == NULL || !draft->transient; /* a transient value is RAM only */
    a->objects[at] = draft;
    object_free(old);
    return SW_OK;
}

void store_remove(struct applet *a, struct object *o)
{
    size_t at = index_of(a, o->id);

    memmove(a->objects + at, a->objects + at + 1, (a->object_count - at - 1) * sizeof(*a->objects));
    a->object_count--;
    a->dirty = true;
    object_free(o);
}

void store_forget_transient(struct applet *a)
{
    for (size_t i = 0; i < a->object_count; i++)
        for (size_t v = 0; a->objects[i]->transient && v < V_COUNT; v++)
            if (v != V_INITIAL)
                buf_clear(&a->objects[i]->value[v]);
    for (size_t i = 0; i < a->crypto_count; i++)
        crypto_stop(a->crypto[i]);
}

/* ---- crypto objects
 * ------------------------------------------------------------------------------------------- */

struct crypto_object *crypto_find(const struct applet *a, uint16_t id)
{
    for (size_t i = 0; i < a->crypto_count; i++)
        if (a->crypto[i]->id == id)
            return a->crypto[i];
    return NULL;
}

void crypto_stop(struct crypto_object *c)
{
    EVP_MD_CTX_free(c->digest);
    EVP_MAC_CTX_free(c->mac);
    EVP_CIPHER_CTX_free(c->cipher);
    buf_clear(&c->key);
    buf_clear(&c->iv);
    buf_clear(&c->aad);
    buf_clear(&c->input);
    *c = (struct crypto_object){
        .id = c->id, .context = c->context, .subtype = c->subtype, .owner = c->owner
    };
}

void crypto_add(struct applet *a, const struct crypto_object *c)
{
    struct crypto_object **grown = sim_alloc((a->crypto_count + 1) * sizeof(*grown));

    if (a->crypto_count > 0)
        memcpy(grown, a->crypto, a->crypto_count * sizeof(*grown));
    free(a->crypto);
    a->crypto = grown;
    a->crypto[a->crypto_count] = sim_alloc(sizeof(*c));
    *a->crypto[a->crypto_count++] = *c;
    a->dirty = true;
}

void crypto_remove(struct applet *a, struct crypto_object *c)
{
    size_t at = 0;

    while (a->crypto[at] != c)
        at++;
    memmove(a->crypto + at, a->crypto + at + 1, (a->crypto_count - at - 1) * sizeof(*a->crypto));
    a->crypto_count--;
    a->dirty = true;
    crypto_stop(c);
    free(c);
}
