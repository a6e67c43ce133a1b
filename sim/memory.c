/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the part. The real allocator is unknown; costs are header + values in steps of 16 bytes, as
 * GetFreeMemory moves. What the factory put on the part is not in the figures of a fresh one, so it costs
 * nothing here.
 */
#include "applet.h"

enum { OBJECT_HEADER = 48, TRANSIENT_HEADER = 16, CURVE_HEADER = 32 };

static size_t round_up(size_t len)
{
    return (len + 15) / 16 * 16;
}

static size_t value_len(const struct object *o)
{
    size_t len = 0;

    for (size_t i = 0; i < V_COUNT; i++)
        len += o->value[i].len;
    return len;
}

size_t object_persistent_cost(const struct object *o)
{
    if (o->origin == ORIGIN_PROVISIONED)
        return 0;
    return round_up(OBJECT_HEADER + o->policy.len + (o->transient ? 0 : value_len(o)));
}

size_t object_transient_cost(const struct object *o)
{
    return o->transient && value_len(o) > 0 ? round_up(TRANSIENT_HEADER + value_len(o)) : 0;
}

size_t crypto_transient_cost(uint8_t context)
{
    return context == 1 || context == 3 ? 96 : 64; /* a hash state is larger than a cipher's */
}

size_t curve_cost(const struct curve *c, uint8_t id)
{
    size_t len = CURVE_HEADER;

    if (!c->created || id == 0x03) /* P-256 is there from the factory */
        return 0;
    for (size_t i = 0; i < CURVE_PARAMS; i++)
        len += c->param[i].len;
    return round_up(len);
}

static size_t left(size_t total, size_t used)
{
    return used < total ? total - used : 0;
}

size_t memory_persistent_free(const struct applet *a)
{
    size_t used = a->crypto_count * CRYPTO_PERSISTENT_COST;

    for (size_t i = 0; i < a->object_count; i++)
        used += object_persistent_cost(a->objects[i]);
    for (uint8_t id = 1; id <= CURVE_MAX; id++)
        used += curve_cost(&a->curves[id], id);
    return left(a->p.persistent_free, used);
}

static size_t transient_used(const struct applet *a)
{
    size_t used = 0;

    for (size_t i = 0; i < a->object_count; i++)
        used += object_transient_cost(a->objects[i]);
    for (size_t i = 0; i < a->crypto_count; i++)
        used += crypto_transient_cost(a->crypto[i]->context);
    return used;
}

/* both kinds of transient memory come from one heap */
size_t memory_transient_reset_free(const struct applet *a)
{
    return left(a->p.transient_reset_free, transient_used(a));
}

size_t memory_transient_deselect_free(const struct applet *a)
{
    return left(a->p.transient_deselect_free, transient_used(a));
}
