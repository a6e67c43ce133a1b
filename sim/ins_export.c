/* SPDX-License-Identifier: Apache-2.0 */
/* Transient objects out of the chip and back into it, section 3.3. */
#include "applet.h"

#include <string.h>

enum { BLOB_IV_LEN = 12, BLOB_TAG_LEN = 16, COMPONENT_NONE = 0xFF };

static const enum value_slot component_slots[] = { V_RSA_N, V_RSA_E,  V_RSA_D,  V_RSA_P,
                                                   V_RSA_Q, V_RSA_DP, V_RSA_DQ, V_RSA_QINV };

static bool may_travel(const struct object *o)
{
    return o->transient && !o->is_auth &&
           (o->kind == KIND_EC || o->kind == KIND_RSA || o->kind == KIND_AES || o->kind == KIND_DES);
}

/* The slots that belong to a component: the one of an RSA key, or all of another key. */
static bool in_component(const struct object *o, uint32_t component, size_t slot)
{
    if (o->kind == KIND_RSA)
        return component < sizeof(component_slots) / sizeof(component_slots[0]) &&
               component_slots[component] == slot;
    return component == COMPONENT_NONE && (slot == V_DATA || slot == V_PUBLIC);
}

/* AES-256-GCM under the chip's own key: iv, text, tag; bound to id, kind and component */
static bool blob_crypt(struct applet *a, const struct object *o, uint32_t component, bool encrypt,
                       struct sim_bytes in, uint8_t *iv, uint8_t *tag, uint8_t *out)
{
    uint8_t aad[8] = { 0, 0, 0, 0, o->kind, o->part, o->curve, (uint8_t)component };
    EVP_CIPHER *gcm = EVP_CIPHER_fetch(a->libctx, "AES-256-GCM", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok;

    put_be(aad, o->id, 4);
    ok = gcm != NULL && ctx != NULL && EVP_CipherInit_ex2(ctx, gcm, a->export_key, iv, encrypt, NULL) == 1 &&
         (encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, BLOB_TAG_LEN, tag) == 1) &&
         EVP_CipherUpdate(ctx, NULL, &len, aad, sizeof(aad)) == 1 &&
         EVP_CipherUpdate(ctx, out, &len, in.ptr, (int)in.len) == 1 &&
         EVP_CipherFinal_ex(ctx, out + in.len, &len) == 1 &&
         (!encrypt || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, BLOB_TAG_LEN, tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(gcm);
    return ok;
}

uint16_t ins_export_object(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);
    struct buf plain = { NULL, 0 }, blob = { NULL, 0 };
    uint32_t component;
    bool ok;

    if (!tlv_uint_or(&c->tlv, TAG_2, 1, COMPONENT_NONE, &component))
        return SW_DATA;
    if (o == NULL || !may_travel(o) || !object_ready(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_IMPORT_EXPORT))
        return SW_DENIED;
    for (size_t i = 0; i < V_COUNT; i++)
        if (in_component(o, component, i) && o->value[i].len > 0) {
            buf_append(&plain,
                       (uint8_t[]){ (uint8_t)i, (uint8_t)(o->value[i].len >> 8), (uint8_t)o->value[i].len },
                       3);
            buf_append(&plain, o->value[i].ptr, o->value[i].len);
        }
    buf_zero(&blob, BLOB_IV_LEN + plain.len + BLOB_TAG_LEN);
    ok = plain.len > 0 && random_bytes(a, blob.ptr, BLOB_IV_LEN) &&
         blob_crypt(a, o, component, true, buf_view(&plain), blob.ptr, blob.ptr + BLOB_IV_LEN + plain.len,
                    blob.ptr + BLOB_IV_LEN);
    if (ok)
        put_bytes(c->out, TAG_1, blob.ptr, blob.len);
    buf_clear(&plain);
    buf_clear(&blob);
    return ok ? SW_OK : SW_CONDITIONS;
}

static bool take_values(struct object *o, struct sim_bytes in)
{
    while (in.len >= 3) {
        size_t len = (size_t)in.ptr[1] << 8 | in.ptr[2];

        if (in.ptr[0] >= V_COUNT || len > in.len - 3)
            return false;
        buf_set(&o->value[in.ptr[0]], in.ptr + 3, len);
        in.ptr += 3 + len;
        in.len -= 3 + len;
    }
    return in.len == 0;
}

uint16_t ins_import_object(struct applet *a, struct command *c)
{
    const struct object *o = command_object(a, c, TAG_1);
    struct sim_bytes blob = c->tlv.value[TAG_3];
    uint8_t iv[BLOB_IV_LEN], tag[BLOB_TAG_LEN];
    struct object *draft;
    struct buf plain = { NULL, 0 };
    uint32_t component;
    bool ok;

    if (!tlv_uint_or(&c->tlv, TAG_2, 1, COMPONENT_NONE, &component) || blob.len <= BLOB_IV_LEN + BLOB_TAG_LEN)
        return SW_DATA;
    if (o == NULL || !may_travel(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_IMPORT_EXPORT))
        return SW_DENIED;
    memcpy(iv, blob.ptr, sizeof(iv));
    memcpy(tag, blob.ptr + blob.len - sizeof(tag), sizeof(tag));
    buf_zero(&plain, blob.len - BLOB_IV_LEN - BLOB_TAG_LEN);
    draft = object_copy(o);
    ok = blob_crypt(a, o, component, false, (struct sim_bytes){ blob.ptr + BLOB_IV_LEN, plain.len }, iv, tag,
                    plain.ptr) &&
         take_values(draft, buf_view(&plain));
    buf_clear(&plain);
    return write_finish(a, draft, ok ? SW_OK : SW_DATA);
}
