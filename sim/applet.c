/* SPDX-License-Identifier: Apache-2.0 */
/* The IoT applet: its life, and which handler serves which command. */
#include "applet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>

enum { ALLOW_LOCKED = 1, TAKES_PART = 2, MAY_ATTEST = 4, V7_ONLY = 8, CREATES = 16 };

static const struct entry {
    uint8_t ins, p1, p2;
    uint8_t flags;
    handler *run;
} table[] = {
    { INS_WRITE, KIND_EC, 0x00, TAKES_PART | CREATES, ins_write_ec },
    { INS_WRITE, KIND_RSA, 0x00, TAKES_PART | CREATES, ins_write_rsa },
    { INS_WRITE, KIND_RSA, 0x4F, TAKES_PART | CREATES, ins_write_rsa },
    { INS_WRITE, KIND_AES, 0x00, CREATES, ins_write_symm },
    { INS_WRITE, KIND_DES, 0x00, CREATES, ins_write_symm },
    { INS_WRITE, KIND_HMAC, 0x00, CREATES, ins_write_symm },
    { INS_WRITE, KIND_BINARY, 0x00, CREATES, ins_write_binary },
    { INS_WRITE, KIND_USERID, 0x00, CREATES, ins_write_userid },
    { INS_WRITE, KIND_COUNTER, 0x00, CREATES, ins_write_counter },
    { INS_WRITE, KIND_PCR, 0x00, CREATES, ins_write_pcr },
    { INS_WRITE, 0x00, 0x18, 0, ins_import_object },
    { INS_WRITE, 0x0B, 0x04, 0, ins_curve_create },
    { INS_WRITE, 0x0B, 0x40, 0, ins_curve_param },
    { INS_WRITE, 0x10, 0x00, 0, ins_crypto_create },
    { INS_READ, 0x00, 0x00, MAY_ATTEST, ins_read_object },
    { INS_READ, 0x00, 0x26, 0, ins_read_type },
    { INS_READ, 0x00, 0x07, 0, ins_read_size },
    { INS_READ, 0x00, 0x25, 0, ins_read_id_list },
    { INS_READ, 0x00, 0x3B, MAY_ATTEST, ins_attributes },
    { INS_READ, 0x00, 0x19, 0, ins_export_object },
    { INS_READ, 0x00, 0x5B, ALLOW_LOCKED | V7_ONLY, ins_read_state },
    { INS_READ, 0x0B, 0x25, 0, ins_curve_list },
    { INS_READ, 0x0B, 0x36, 0, ins_curve_of },
    { INS_READ, 0x10, 0x25, 0, ins_crypto_list },
    { INS_MGMT, 0x00, 0x20, ALLOW_LOCKED, ins_version },
    { INS_MGMT, 0x00, 0x21, ALLOW_LOCKED | V7_ONLY, ins_version_ext },
    { INS_MGMT, 0x00, 0x22, 0, ins_free_memory },
    { INS_MGMT, 0x00, 0x27, ALLOW_LOCKED, ins_exists },
    { INS_MGMT, 0x00, 0x28, 0, ins_delete },
    { INS_MGMT, 0x00, 0x2A, 0, ins_delete_all },
    { INS_MGMT, 0x00, 0x3D, ALLOW_LOCKED, ins_timestamp },
    { INS_MGMT, 0x00, 0x3E, ALLOW_LOCKED, ins_lock_state },
    { INS_MGMT, 0x00, 0x3F, 0, ins_features },
    { INS_MGMT, 0x00, 0x49, ALLOW_LOCKED, ins_random },
    { INS_MGMT, 0x00, 0x57, V7_ONLY, ins_restrict },
    { INS_MGMT, 0x00, 0x58, V7_ONLY | MAY_ATTEST, ins_self_test },
    { INS_MGMT, 0x0B, 0x28, 0, ins_curve_delete },
    { INS_MGMT, 0x10, 0x28, 0, ins_crypto_delete },
    { INS_CRYPTO, 0x0C, 0x09, 0, ins_sign },
    { INS_CRYPTO, 0x0C, 0x0A, 0, ins_verify },
    { INS_CRYPTO, 0x01, 0x0F, 0, ins_ecdh },
    { INS_CRYPTO, 0x01, 0x59, V7_ONLY, ins_ecdh_reverse },
    { INS_CRYPTO, 0x01, 0x62, V7_ONLY, ins_ecpm },
    { INS_CRYPTO, 0x02, 0x37, 0, ins_rsa_encrypt },
    { INS_CRYPTO, 0x02, 0x38, 0, ins_rsa_decrypt },
    { INS_CRYPTO, 0x0E, 0x42, 0, ins_cipher_init },
    { INS_CRYPTO, 0x0E, 0x43, 0, ins_cipher_init },
    { INS_CRYPTO, 0x0E, 0x0C, 0, ins_cipher_update },
    { INS_CRYPTO, 0x0E, 0x0D, 0, ins_cipher_final },
    { INS_CRYPTO, 0x0E, 0x37, 0, ins_cipher_oneshot },
    { INS_CRYPTO, 0x0E, 0x38, 0, ins_cipher_oneshot },
    { INS_CRYPTO, 0x00, 0x0B, 0, ins_digest_init },
    { INS_CRYPTO, 0x00, 0x0C, 0, ins_digest_update },
    { INS_CRYPTO, 0x00, 0x0D, 0, ins_digest_final },
    { INS_CRYPTO, 0x00, 0x0E, 0, ins_digest_oneshot },
    { INS_CRYPTO, 0x0D, 0x03, 0, ins_mac_init },
    { INS_CRYPTO, 0x0D, 0x44, 0, ins_mac_init },
    { INS_CRYPTO, 0x0D, 0x0C, 0, ins_mac_update },
    { INS_CRYPTO, 0x0D, 0x0D, 0, ins_mac_final },
    { INS_CRYPTO, 0x0D, 0x45, 0, ins_mac_oneshot },
    { INS_CRYPTO, 0x0D, 0x46, 0, ins_mac_oneshot },
    { INS_CRYPTO, 0x11, 0x37, V7_ONLY, ins_aead_oneshot },
    { INS_CRYPTO, 0x11, 0x38, V7_ONLY, ins_aead_oneshot },
    { INS_CRYPTO, 0x11, 0x42, V7_ONLY, ins_aead_init },
    { INS_CRYPTO, 0x11, 0x43, V7_ONLY, ins_aead_init },
    { INS_CRYPTO, 0x11, 0x0C, V7_ONLY, ins_aead_update },
    { INS_CRYPTO, 0x11, 0x0D, V7_ONLY, ins_aead_final },
    /* the SP 800-38D credential type: the same, and the only one in FIPS mode */
    { INS_CRYPTO, 0x12, 0x37, V7_ONLY, ins_aead_oneshot },
    { INS_CRYPTO, 0x12, 0x38, V7_ONLY, ins_aead_oneshot },
    { INS_CRYPTO, 0x12, 0x42, V7_ONLY, ins_aead_init },
    { INS_CRYPTO, 0x12, 0x43, V7_ONLY, ins_aead_init },
    { INS_CRYPTO, 0x12, 0x0C, V7_ONLY, ins_aead_update },
    { INS_CRYPTO, 0x12, 0x0D, V7_ONLY, ins_aead_final },
    { INS_CRYPTO, 0x00, 0x2D, 0, ins_hkdf },
    { INS_CRYPTO, 0x00, 0x2F, V7_ONLY, ins_hkdf },
    { INS_CRYPTO, 0x00, 0x2E, 0, ins_pbkdf2 },
    { INS_CRYPTO, 0x0F, 0x49, 0, ins_tls_random },
    { INS_CRYPTO, 0x0F, 0x4A, 0, ins_tls_pms },
    { INS_CRYPTO, 0x0F, 0x4B, 0, ins_tls_prf },
    { INS_CRYPTO, 0x0F, 0x4C, 0, ins_tls_prf },
    { INS_CRYPTO, 0x0F, 0x4D, 0, ins_tls_prf },
    { INS_CRYPTO, 0x0F, 0x4E, 0, ins_tls_prf },
    { INS_CRYPTO, 0x0F, 0x5A, 0, ins_tls_prf },
};

/* ---- life --------------------------------------------------------------------------------------------- */

uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool is_fips(const struct applet *a)
{
    bool has_mode = a->p.v7 || (a->p.version[0] == 3 && a->p.version[1] >= 4);

    return has_mode && !(a->p.config & 0x1000);
}

struct applet *applet_new(const struct sim_personality *personality, const char *nvm_path)
{
    struct applet *a = sim_alloc(sizeof(*a));
    bool exists, ok;

    /* no configuration file may bring a provider that talks to this very simulator */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    a->p = *personality;
    a->libctx = OSSL_LIB_CTX_new();
    a->nvm_path = nvm_path == NULL ? NULL : strdup(nvm_path);
    a->started_ms = now_ms();
    times_init(a);
    ok = a->libctx != NULL && nvm_load(a, &exists);
    if (ok && !exists) {
        ok = provision(a);
        if (!ok)
            fputs("se05x-sim: libcrypto cannot make the keys of a fresh part\n", stderr);
        ok = ok && nvm_save(a);
    }
    if (!ok) {
        applet_free(a);
        return NULL;
    }
    return a;
}

void applet_free(struct applet *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; i < a->object_count; i++)
        object_free(a->objects[i]);
    for (size_t i = 0; i < a->crypto_count; i++) {
        crypto_stop(a->crypto[i]);
        free(a->crypto[i]);
    }
    for (size_t i = 0; i < a->fact_count; i++) {
        buf_clear(&a->facts[i].value);
        free(a->facts[i].name);
    }
    for (size_t id = 0; id <= CURVE_MAX; id++)
        for (size_t i = 0; i < CURVE_PARAMS; i++)
            buf_clear(&a->curves[id].param[i]);
    free(a->objects);
    free(a->crypto);
    free(a->facts);
    free(a->times);
    free(a->nvm_path);
    OSSL_LIB_CTX_free(a->libctx);
    OPENSSL_cleanse(a, sizeof(*a));
    free(a);
}

void applet_deselected(struct applet *a)
{
    store_forget_transient(a);
    a->unlocked_transient = false;
    a->has_tls_random = false;
    OPENSSL_cleanse(a->tls_random, sizeof(a->tls_random));
}

void applet_reset(struct applet *a)
{
    applet_deselected(a);
    a->restrict_transient = 0;
    a->boot_counted = false;
    a->started_ms = now_ms();
}

/* ---- commands ----------------------------------------------------------------------------------------- */

static const struct entry *entry_of(const struct applet *a, const struct sim_apdu *apdu, bool *ins_known)
{
    *ins_known = false;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct entry *e = &table[i];

        if (e->ins != (apdu->ins & 0x1F))
            continue;
        *ins_known = true;
        if (e->p1 == (e->flags & TAKES_PART ? apdu->p1 & 0x1F : apdu->p1) && e->p2 == apdu->p2 &&
            (a->p.v7 || !(e->flags & V7_ONLY)))
            return e;
    }
    return NULL;
}

static bool flags_fit(const struct command *c, const struct entry *e)
{
    return (!c->attest || (e->flags & MAY_ATTEST)) && ((!c->transient && !c->auth) || (e->flags & CREATES));
}

static bool is_locked(const struct applet *a)
{
    return a->locked_persistent && !a->unlocked_transient;
}

static uint16_t dispatch(struct applet *a, struct command *c)
{
    bool ins_known;
    const struct entry *e;

    if ((c->apdu->cla & ~0x04) != 0x80)
        return SW_CLA;
    e = entry_of(a, c->apdu, &ins_known);
    if (e == NULL)
        return ins_known ? SW_P1P2 : SW_INS;
    if (!flags_fit(c, e))
        return SW_INS;
    if (c->apdu->data.len > answer_max(a) + 9) /* the buffer of the part: 889 bytes on 3.x */
        return SW_LENGTH;
    if (is_locked(a) && !(e->flags & ALLOW_LOCKED))
        return SW_CONDITIONS;
    if (!tlv_parse(c->apdu->data, &c->tlv))
        return SW_DATA;
    return e->run(a, c);
}

uint16_t applet_command(struct applet *a, const struct sim_caller *caller, const struct sim_apdu *apdu,
                        struct sim_out *out, uint64_t *time_us)
{
    struct command c = { .who = caller, .apdu = apdu, .out = out };
    uint16_t sw;

    c.transient = (apdu->ins & INS_FLAG_TRANSIENT) != 0;
    c.auth = (apdu->ins & INS_FLAG_AUTH) != 0;
    c.attest = (apdu->ins & INS_FLAG_ATTEST) != 0;
    out->len = 0;
    a->time_us = 0;
    spend(a, TIME_COMMAND);
    sw = dispatch(a, &c);
    if (a->dirty) {
        spend(a, TIME_NVM_WRITE);
        if (!nvm_save(a))
            sw = SW_FAILURE;
    }
    if (sw != SW_OK)
        out->len = 0;
    ERR_clear_error();
    *time_us = a->time_us;
    return sw;
}

size_t answer_max(const struct applet *a)
{
    return a->p.random_max; /* the largest answer measured */
}

struct object *command_object(const struct applet *a, const struct command *c, uint8_t tag)
{
    uint32_t id;

    return tlv_uint(&c->tlv, tag, 4, &id) ? store_find(a, id) : NULL;
}

uint16_t command_key(const struct applet *a, const struct command *c, uint8_t tag, uint8_t kind,
                     uint32_t right, struct object **o)
{
    uint32_t id;

    if (!tlv_uint(&c->tlv, tag, 4, &id))
        return SW_DATA;
    *o = store_find(a, id);
    if (*o == NULL || (*o)->kind != kind || (*o)->is_auth || !object_ready(*o))
        return SW_CONDITIONS;
    return policy_allows(a, *o, c->who, right) ? SW_OK : SW_DENIED;
}

uint16_t store_derived(struct applet *a, const struct command *c, uint8_t tag, const struct object *master,
                       struct sim_bytes secret)
{
    struct object *target = command_object(a, c, tag), *draft;

    if (target == NULL || (target->kind != KIND_HMAC && target->kind != KIND_AES) || target->is_auth ||
        target->size != secret.len)
        return SW_CONDITIONS;
    if (!policy_takes_derived(a, target, c->who, master->id))
        return SW_CONDITIONS;
    draft = object_copy(target);
    buf_set(&draft->value[V_DATA], secret.ptr, secret.len);
    draft->origin = ORIGIN_INTERNAL;
    return store_commit(a, draft);
}

/* ---- for card.c --------------------------------------------------------------------------------------- */

bool applet_auth_object(struct applet *a, uint32_t id, struct sim_auth_object *out)
{
    const struct object *o = store_find(a, id);
    const struct buf *value;

    memset(out, 0, sizeof(*out));
    if (o == NULL || !o->is_auth || !object_ready(o))
        return false;
    value = &o->value[o->kind == KIND_EC ? V_PUBLIC : V_DATA];
    if (value->len > sizeof(out->value))
        return false;
    out->kind = o->kind == KIND_USERID ? SIM_AUTH_USERID : o->kind == KIND_AES ? SIM_AUTH_AES : SIM_AUTH_EC;
    memcpy(out->value, value->ptr, value->len);
    out->len = value->len;
    out->locked = o->max_attempts != 0 && o->attempts >= o->max_attempts;
    return true;
}

void applet_auth_attempt(struct applet *a, uint32_t id, bool success)
{
    struct object *o = store_find(a, id);
    uint16_t next;

    if (o == NULL || !o->is_auth)
        return;
    next = success ? 0 : (uint16_t)(o->attempts < UINT16_MAX ? o->attempts + 1 : o->attempts);
    if (next == o->attempts)
        return;
    o->attempts = next;
    a->dirty = true;
    nvm_save(a);
}

bool applet_eckey_ecdh(struct applet *a, const uint8_t point[65], uint8_t secret[32])
{
    const struct object *o = store_find(a, ID_ECKEY_SESSION);
    size_t len = 32;
    bool ok = o != NULL && pkey_agree(a, o, (struct sim_bytes){ point, 65 }, secret, &len) && len == 32;

    ERR_clear_error();
    return ok;
}

bool fact_set(struct applet *a, const char *name, const void *value, size_t len)
{
    size_t i = 0;

    while (i < a->fact_count && strcmp(a->facts[i].name, name) != 0)
        i++;
    if (i == a->fact_count) {
        struct fact *grown = sim_alloc((i + 1) * sizeof(*grown));

        if (i > 0)
            memcpy(grown, a->facts, i * sizeof(*grown));
        free(a->facts);
        a->facts = grown;
        a->facts[i].name = strdup(name);
        a->fact_count++;
    }
    buf_set(&a->facts[i].value, value, len);
    return true;
}

bool applet_nvm_get(struct applet *a, const char *name, void *value, size_t *len)
{
    for (size_t i = 0; i < a->fact_count; i++) {
        const struct fact *f = &a->facts[i];

        if (strcmp(f->name, name) != 0 || f->value.len > *len)
            continue;
        if (f->value.len > 0)
            memcpy(value, f->value.ptr, f->value.len);
        *len = f->value.len;
        return true;
    }
    return false;
}

bool applet_nvm_put(struct applet *a, const char *name, const void *value, size_t len)
{
    a->dirty = fact_set(a, name, value, len);
    return nvm_save(a);
}
