/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key agreement: one command. The chip's Montgomery numbers are big-endian, RFC 7748 is not. Whether the
 * peer's public key is one is looked at here, for all that is known of chips is that they may.
 */
#include "token.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

enum { X25519_LEN = 32 };

static bool is_montgomery(const struct se05x_object *o)
{
    return o->kind.type == HSM_KEY_X25519 || o->kind.type == HSM_KEY_X448;
}

static hsm_status check_peer(const struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes peer)
{
    char whose[sizeof(t->where) + 300];
    EVP_PKEY *pkey = NULL;
    hsm_status st;

    (void)snprintf(whose, sizeof(whose), "key '%s' on %s", o->label, t->where);
    (void)ERR_set_mark(); /* the error queue is the application's */
    st = hsm_peer_pkey(t->libctx, &o->kind, peer, whose, &pkey);
    (void)ERR_pop_to_mark();
    EVP_PKEY_free(pkey);
    return st;
}

static hsm_status zero_secret(const struct se05x_token *t, const struct se05x_object *o)
{
    return hsm_fail(HSM_ERR_DATA, "key '%s' on %s: the peer's public key makes the shared secret zero",
                    o->label, t->where);
}

static hsm_status refused(struct se05x_token *t, const struct se05x_object *o, uint16_t sw)
{
    hsm_status st = se05x_use_refused(t, o, sw, "key agreement");

    if (st != HSM_OK)
        return st;
    if (t->caps.fips)
        return hsm_fail(HSM_ERR_MECH,
                        "key '%s' on %s: this chip is in FIPS mode, in which it does no key agreement; use "
                        "another token for that",
                        o->label, t->where);
    if (is_montgomery(o)) /* a point of small order */
        return zero_secret(t, o);
    return hsm_fail(HSM_ERR_MECH, "key '%s' on %s: this chip does no key agreement with it (status %04x)",
                    o->label, t->where, sw);
}

/* The peer's key as the chip wants it. RFC 7748 section 5: the unused bit of X25519 is ignored. */
static struct hsm_bytes for_chip(const struct se05x_object *o, struct hsm_bytes peer,
                                 uint8_t turned[HSM_POINT_MAX])
{
    if (!is_montgomery(o))
        return peer;
    se05x_reverse(turned, peer.ptr, peer.len);
    if (peer.len == X25519_LEN)
        turned[0] &= 0x7f;
    return (struct hsm_bytes){ turned, peer.len };
}

/* RFC 7748 section 6: a secret of zeros, without a branch on any of its bytes. */
static hsm_status take_montgomery(const struct se05x_token *t, const struct se05x_object *o,
                                  const uint8_t *secret, size_t len, struct hsm_buf *out)
{
    uint8_t any = 0;
    size_t i;

    for (i = 0; i < len; i++)
        any |= secret[i];
    if (any == 0)
        return zero_secret(t, o);
    se05x_reverse(out->ptr, secret, len);
    out->len = len;
    return HSM_OK;
}

static hsm_status agree(struct se05x_token *t, const struct se05x_object *o, struct hsm_bytes peer,
                        struct hsm_buf *out)
{
    uint8_t turned[HSM_POINT_MAX], secret[HSM_POINT_MAX];
    struct hsm_buf answer = { secret, sizeof(secret), 0 };
    size_t len = hsm_secret_len(&o->kind);
    uint16_t sw;
    hsm_status st = se05x_ecdh(t, se05x_user_of(o), o->id, se05x_time_of(&o->kind), for_chip(o, peer, turned),
                               len, &answer, &sw);

    if (st == HSM_OK && sw != SE05X_SW_OK) {
        st = refused(t, o, sw);
    } else if (st == HSM_OK && answer.len != len) {
        st = hsm_fail(HSM_ERR_TOKEN_IO, "%s: a shared secret of %zu bytes, not of %zu", t->where, answer.len,
                      len);
    } else if (st == HSM_OK && is_montgomery(o)) {
        st = take_montgomery(t, o, secret, len, out);
    } else if (st == HSM_OK) {
        memcpy(out->ptr, secret, len);
        out->len = len;
    }
    hsm_cleanse(secret, sizeof(secret));
    return st;
}

hsm_status se05x_derive(struct hsm_token *tok, hsm_handle key, const struct hsm_mech *mech,
                        struct hsm_bytes in, struct hsm_buf *out)
{
    struct se05x_token *t = se05x_of(tok);
    const struct se05x_object *o;
    struct mech_key asked;
    hsm_status st;

    if ((st = se05x_lookup(t, key, &o)) != HSM_OK || (st = se05x_asked(t, o, &asked)) != HSM_OK ||
        (st = mech_check_derive(&asked, mech, hsm_secret_len(&o->kind), out->cap)) != HSM_OK ||
        (st = check_peer(t, o, in)) != HSM_OK)
        return st;
    return agree(t, o, in, out);
}
