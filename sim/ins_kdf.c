/* SPDX-License-Identifier: Apache-2.0 */
/* Key derivation and the TLS 1.2 commands, section 3.11. */
#include "applet.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <string.h>

enum { P2_EXPAND_ONLY = 0x2F, SALT_MAX = 64, INFO_MAX = 80, OUTPUT_MAX = 512, ITERATIONS_MAX = 0x7FFF };
enum { TLS_RANDOM_LEN = 32, TLS_LABEL_MAX = 64, TLS_PMS_LEN = 48 };

static bool kdf(struct applet *a, const char *name, const OSSL_PARAM *params, uint8_t *out, size_t len)
{
    EVP_KDF *k = EVP_KDF_fetch(a->libctx, name, NULL);
    EVP_KDF_CTX *ctx = k == NULL ? NULL : EVP_KDF_CTX_new(k);
    bool ok = ctx != NULL && EVP_KDF_derive(ctx, out, len, params) == 1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(k);
    return ok;
}

/* OSSL_PARAM has no const; a KDF only reads these */
static OSSL_PARAM octets(const char *key, struct sim_bytes value)
{
    return OSSL_PARAM_construct_octet_string(key, (void *)(uintptr_t)value.ptr, value.len);
}

static OSSL_PARAM text(const char *key, const char *value)
{
    return OSSL_PARAM_construct_utf8_string(key, (char *)(uintptr_t)value, 0);
}

/* Salt as bytes, or (7.x) the value of an HMAC object; an id of 0 is none */
static uint16_t take_salt(const struct applet *a, const struct command *c, uint8_t bytes_tag, uint8_t id_tag,
                          struct sim_bytes *salt)
{
    const struct object *o;
    uint32_t id;

    *salt = c->tlv.value[bytes_tag];
    if (salt->len > SALT_MAX || !tlv_uint_or(&c->tlv, id_tag, 4, 0, &id))
        return SW_DATA;
    if (id == 0)
        return SW_OK;
    if (!a->p.v7 || salt->len > 0)
        return SW_DATA;
    o = store_find(a, id);
    if (o == NULL || o->kind != KIND_HMAC || o->is_auth || !object_ready(o))
        return SW_CONDITIONS;
    if (!policy_allows(a, o, c->who, ALLOW_KDF))
        return SW_DENIED;
    *salt = buf_view(&o->value[V_DATA]);
    return SW_OK;
}

static uint16_t deliver(struct applet *a, struct command *c, const struct object *key, struct sim_bytes out)
{
    uint32_t target;

    if (!tlv_uint_or(&c->tlv, TAG_7, 4, 0, &target))
        return SW_DATA;
    if (out.len < key->min_output)
        return SW_CONDITIONS;
    if (target != 0)
        return a->p.v7 ? store_derived(a, c, TAG_7, key, out) : SW_DATA;
    if (policy_restricts(a, key, c->who, FORBID_DERIVED_OUTPUT))
        return SW_DENIED;
    put_bytes(c->out, TAG_1, out.ptr, out.len);
    return SW_OK;
}

static bool hkdf(struct applet *a, const struct object *key, const char *digest, bool expand_only,
                 struct sim_bytes salt, struct sim_bytes info, uint8_t *out, size_t len)
{
    OSSL_PARAM params[6] = {
        text(OSSL_KDF_PARAM_DIGEST, digest),
        text(OSSL_KDF_PARAM_MODE, expand_only ? "EXPAND_ONLY" : "EXTRACT_AND_EXPAND"),
        octets(OSSL_KDF_PARAM_KEY, buf_view(&key->value[V_DATA])),
        OSSL_PARAM_construct_end(),
        OSSL_PARAM_construct_end(),
        OSSL_PARAM_construct_end(),
    };
    size_t n = 3;

    if (info.len > 0)
        params[n++] = octets(OSSL_KDF_PARAM_INFO, info);
    if (salt.len > 0 && !expand_only)
        params[n++] = octets(OSSL_KDF_PARAM_SALT, salt);
    return kdf(a, "HKDF", params, out, len);
}

uint16_t ins_hkdf(struct applet *a, struct command *c)
{
    struct sim_bytes info = c->tlv.value[TAG_4], salt = { NULL, 0 };
    uint8_t out[SIM_APDU_MAX];
    const char *digest;
    struct object *key;
    uint32_t mode, len;
    uint16_t sw;

    if (is_fips(a)) /* refused on SE050F and SE052F */
        return SW_CONDITIONS;
    if (!tlv_uint(&c->tlv, TAG_2, 1, &mode) || !tlv_uint(&c->tlv, TAG_5, 2, &len) || info.len > INFO_MAX)
        return SW_DATA;
    digest = digest_name((uint8_t)mode);
    if (digest == NULL || len == 0 || len > answer_max(a))
        return SW_CONDITIONS;
    if ((sw = command_key(a, c, TAG_1, KIND_HMAC, ALLOW_KDF, &key)) != SW_OK ||
        (sw = take_salt(a, c, TAG_3, TAG_6, &salt)) != SW_OK)
        return sw;
    spend(a, TIME_KDF);
    if (!hkdf(a, key, digest, c->apdu->p2 == P2_EXPAND_ONLY, salt, info, out, len))
        return SW_CONDITIONS;
    sw = deliver(a, c, key, (struct sim_bytes){ out, len });
    OPENSSL_cleanse(out, sizeof(out));
    return sw;
}

static const char *hmac_digest(uint32_t algo)
{
    return algo == 0x18   ? "SHA1"
           : algo == 0x19 ? "SHA2-256"
           : algo == 0x1A ? "SHA2-384"
           : algo == 0x1B ? "SHA2-512"
                          : NULL;
}

static bool pbkdf2(struct applet *a, const struct object *key, const char *digest, struct sim_bytes salt,
                   unsigned iterations, uint8_t *out, size_t len)
{
    int no_lower_bounds = 1; /* the chip has none, libcrypto's are SP 800-132's */
    OSSL_PARAM params[] = {
        octets(OSSL_KDF_PARAM_PASSWORD, buf_view(&key->value[V_DATA])),
        octets(OSSL_KDF_PARAM_SALT, salt),
        text(OSSL_KDF_PARAM_DIGEST, digest),
        OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &iterations),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &no_lower_bounds),
        OSSL_PARAM_construct_end(),
    };

    return kdf(a, "PBKDF2", params, out, len);
}

uint16_t ins_pbkdf2(struct applet *a, struct command *c)
{
    uint32_t right = a->p.v7 ? ALLOW_PBKDF : ALLOW_KDF, iterations, len, algo;
    static const uint8_t no_salt[1];
    uint8_t out[OUTPUT_MAX];
    struct sim_bytes salt;
    struct object *key;
    uint16_t sw;

    if (!(a->p.config & 0x0200))
        return SW_CONDITIONS;
    if (!tlv_uint(&c->tlv, TAG_3, 2, &iterations) || !tlv_uint(&c->tlv, TAG_4, 2, &len) ||
        !tlv_uint_or(&c->tlv, TAG_5, 1, 0x18, &algo))
        return SW_DATA;
    if (iterations == 0 || iterations > ITERATIONS_MAX || len == 0 || len > OUTPUT_MAX ||
        hmac_digest(algo) == NULL)
        return SW_CONDITIONS;
    if ((sw = command_key(a, c, TAG_1, KIND_HMAC, right, &key)) != SW_OK ||
        (sw = take_salt(a, c, TAG_2, TAG_6, &salt)) != SW_OK)
        return sw;
    if (salt.len == 0)
        salt.ptr = no_salt;
    spend(a, TIME_KDF);
    spend_times(a, TIME_PBKDF_ITERATION, iterations * ((len + 19) / 20));
    if (!pbkdf2(a, key, hmac_digest(algo), salt, iterations, out, len))
        return SW_CONDITIONS;
    sw = deliver(a, c, key, (struct sim_bytes){ out, len });
    OPENSSL_cleanse(out, sizeof(out));
    return sw;
}

/* ---- TLS ---------------------------------------------------------------------------------------------- */

static bool has_tls(const struct applet *a)
{
    return (a->p.config & 0x0400) != 0;
}

uint16_t ins_tls_random(struct applet *a, struct command *c)
{
    if (!has_tls(a) || !random_bytes(a, a->tls_random, sizeof(a->tls_random)))
        return SW_CONDITIONS;
    a->has_tls_random = true;
    spend(a, TIME_RANDOM);
    put_bytes(c->out, TAG_1, a->tls_random, sizeof(a->tls_random));
    return SW_OK;
}

/* RFC 5246: the version in an RSA secret must be the client's */
static uint16_t rsa_secret(struct applet *a, const struct command *c, const struct object *pair,
                           struct buf *secret)
{
    uint8_t out[512];
    size_t len = sizeof(out);
    uint32_t version;
    uint16_t sw;

    if (!tlv_uint(&c->tlv, TAG_6, 2, &version))
        return SW_DATA;
    sw = pkey_rsa_crypt(a, pair, 0x0A, false, c->tlv.value[TAG_4], out, &len);
    if (sw == SW_OK && (len != TLS_PMS_LEN || get_be((struct sim_bytes){ out, 2 }) != version))
        sw = SW_CONDITIONS;
    if (sw == SW_OK)
        buf_set(secret, out, len);
    OPENSSL_cleanse(out, sizeof(out));
    return sw;
}

static uint16_t pair_secret(struct applet *a, const struct command *c, struct buf *secret)
{
    const struct object *named = command_object(a, c, TAG_2);
    uint32_t right = a->p.v7 ? ALLOW_TLS_PMS : ALLOW_KA;
    uint8_t out[POINT_MAX];
    size_t len = sizeof(out);
    struct object *pair;
    uint16_t sw;

    if (named != NULL && named->kind == KIND_RSA) {
        sw = command_key(a, c, TAG_2, KIND_RSA, a->p.v7 ? ALLOW_TLS_PMS : ALLOW_DEC, &pair);
        return sw == SW_OK ? rsa_secret(a, c, pair, secret) : sw;
    }
    if ((sw = command_key(a, c, TAG_2, KIND_EC, right, &pair)) != SW_OK)
        return sw;
    if (!pkey_agree(a, pair, c->tlv.value[TAG_4], out, &len)) /* RFC order, which is TLS's */
        return SW_CONDITIONS;
    buf_set(secret, out, len);
    OPENSSL_cleanse(out, sizeof(out));
    return SW_OK;
}

static void append_opaque16(struct buf *b, struct sim_bytes in)
{
    buf_append(b, (uint8_t[]){ (uint8_t)(in.len >> 8), (uint8_t)in.len }, 2);
    buf_append(b, in.ptr, in.len);
}

/* RFC 4279 and 5489: other secret (zeros of the key's length when there is none), then the key */
static uint16_t add_psk(struct applet *a, const struct command *c, struct buf *secret)
{
    struct buf both = { NULL, 0 };
    struct object *psk;
    uint16_t sw = command_key(a, c, TAG_1, KIND_HMAC, a->p.v7 ? ALLOW_TLS_PMS : ALLOW_KDF, &psk);

    if (sw != SW_OK)
        return sw;
    if (secret->len == 0)
        buf_zero(secret, psk->value[V_DATA].len);
    append_opaque16(&both, buf_view(secret));
    append_opaque16(&both, buf_view(&psk->value[V_DATA]));
    buf_clear(secret);
    *secret = both;
    return SW_OK;
}

uint16_t ins_tls_pms(struct applet *a, struct command *c)
{
    const struct object *source = command_object(a, c, c->tlv.has[TAG_2] ? TAG_2 : TAG_1);
    struct buf secret = { NULL, 0 };
    uint16_t sw = SW_OK;

    if (!has_tls(a))
        return SW_CONDITIONS;
    if (!c->tlv.has[TAG_3] || (!c->tlv.has[TAG_1] && !c->tlv.has[TAG_2]))
        return SW_DATA;
    if (source == NULL)
        return SW_CONDITIONS;
    if (c->tlv.has[TAG_2])
        sw = pair_secret(a, c, &secret);
    if (sw == SW_OK && c->tlv.has[TAG_1])
        sw = add_psk(a, c, &secret);
    spend(a, TIME_KDF);
    if (sw == SW_OK)
        sw = store_derived(a, c, TAG_3, source, buf_view(&secret));
    buf_clear(&secret);
    return sw;
}

/* The two randoms in the order of the PRF: client, server for the master secret, the other way for key
 * expansion */
static uint16_t prf_seed(struct applet *a, const struct command *c, uint8_t seed[2 * TLS_RANDOM_LEN])
{
    struct sim_bytes given = c->tlv.value[TAG_4];
    bool given_first = c->apdu->p2 == 0x4B || c->apdu->p2 == 0x4E;

    if (c->apdu->p2 == 0x5A) {
        if (given.len != 2 * TLS_RANDOM_LEN)
            return SW_DATA;
        memcpy(seed, given.ptr, given.len);
        return SW_OK;
    }
    if (given.len != TLS_RANDOM_LEN)
        return SW_DATA;
    if (!a->has_tls_random)
        return SW_CONDITIONS;
    memcpy(seed + (given_first ? 0 : TLS_RANDOM_LEN), given.ptr, TLS_RANDOM_LEN);
    memcpy(seed + (given_first ? TLS_RANDOM_LEN : 0), a->tls_random, TLS_RANDOM_LEN);
    a->has_tls_random = false; /* each call wants a new one */
    return SW_OK;
}

static bool tls_prf(struct applet *a, const struct object *key, const char *digest, struct sim_bytes label,
                    struct sim_bytes seed, uint8_t *out, size_t len)
{
    OSSL_PARAM params[] = {
        text(OSSL_KDF_PARAM_DIGEST, digest), octets(OSSL_KDF_PARAM_SECRET, buf_view(&key->value[V_DATA])),
        octets(OSSL_KDF_PARAM_SEED, label),  octets(OSSL_KDF_PARAM_SEED, seed),
        OSSL_PARAM_construct_end(),
    };

    return kdf(a, "TLS1-PRF", params, out, len);
}

uint16_t ins_tls_prf(struct applet *a, struct command *c)
{
    uint32_t right = a->p.v7 ? ALLOW_TLS_KDF : ALLOW_KDF, mode, len;
    struct sim_bytes label = c->tlv.value[TAG_3];
    uint8_t seed[2 * TLS_RANDOM_LEN], out[SIM_APDU_MAX];
    struct object *key;
    uint16_t sw;

    if (!has_tls(a))
        return SW_CONDITIONS;
    if (!tlv_uint(&c->tlv, TAG_2, 1, &mode) || !tlv_uint(&c->tlv, TAG_5, 2, &len) || label.len < 1 ||
        label.len > TLS_LABEL_MAX)
        return SW_DATA;
    if ((sw = command_key(a, c, TAG_1, KIND_HMAC, right, &key)) != SW_OK)
        return sw;
    if (digest_name((uint8_t)mode) == NULL || len == 0 || len > answer_max(a))
        return SW_CONDITIONS;
    if ((sw = prf_seed(a, c, seed)) != SW_OK)
        return sw;
    spend(a, TIME_KDF);
    if (!tls_prf(a, key, digest_name((uint8_t)mode), label, (struct sim_bytes){ seed, sizeof(seed) }, out,
                 len))
        return SW_CONDITIONS;
    if (len < key->min_output)
        return SW_CONDITIONS;
    put_bytes(c->out, TAG_1, out, len);
    OPENSSL_cleanse(out, sizeof(out));
    return SW_OK;
}
