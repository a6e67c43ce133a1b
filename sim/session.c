/* SPDX-License-Identifier: Apache-2.0 */
/* Applet sessions: UserID, AESKey and ECKey, the commands inside PROCESS, and session policies (section 5).
 */
#include "lower.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

enum {
    CLA_PLAIN = 0x80,
    CLA_SECURE = 0x84,
    INS_MGMT = 0x04,
    INS_INITIALIZE_UPDATE = 0x50,
    INS_EXTERNAL_AUTHENTICATE = 0x82,
    INS_INTERNAL_AUTHENTICATE = 0x88,
    P2_CREATE = 0x1B,
    P2_CLOSE = 0x1C,
    P2_REFRESH = 0x1E,
    P2_POLICY = 0x1F,
    P2_DELETE_ALL = 0x2A,
    P2_USERID = 0x2C,
    TAG_SESSION_ID = 0x10,
    TAG_POLICY = 0x11,
    TAG_1 = 0x41,
    POLICY_APDUS = 0x8000,
    POLICY_SECONDS = 0x4000,
    POLICY_REFRESH = 0x2000,
    POINT_LEN = 65,
    RANDOM_LEN = 16
};

static void session_close(struct session *s)
{
    OPENSSL_cleanse(s, sizeof(*s));
}

void sessions_close_all(struct card *c)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        session_close(&c->sessions[i]);
}

static bool is_management(const struct sim_apdu *apdu, uint8_t p2)
{
    return apdu->ins == INS_MGMT && apdu->p1 == 0 && apdu->p2 == p2;
}

bool is_session_command(const struct sim_apdu *apdu)
{
    return is_management(apdu, P2_CREATE) || is_management(apdu, P2_CLOSE) ||
           is_management(apdu, P2_REFRESH) || is_management(apdu, P2_POLICY) ||
           is_management(apdu, P2_USERID);
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static struct session *free_session(struct card *c)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (!c->sessions[i].used)
            return &c->sessions[i];
    }
    return NULL;
}

uint16_t session_create(struct card *c, const struct sim_apdu *apdu, struct sim_out *out)
{
    struct sim_bytes in = apdu->data, id;
    struct sim_auth_object auth = { .kind = SIM_AUTH_NONE };
    struct session *s;
    uint32_t auth_id;
    uint16_t sw = SW_OK;

    card_spend(c, TIME_SESSION);
    if (!tlv_next(&in, TAG_1, &id) || id.len != 4 || in.len != 0)
        return SW_DATA;
    auth_id = (uint32_t)id.ptr[0] << 24 | (uint32_t)id.ptr[1] << 16 | (uint32_t)id.ptr[2] << 8 | id.ptr[3];
    s = free_session(c);
    if (s == NULL || !applet_auth_object(c->applet, auth_id, &auth) || auth.kind == SIM_AUTH_NONE)
        sw = SW_CONDITIONS;
    else if (auth.locked)
        sw = SW_BLOCKED;
    OPENSSL_cleanse(auth.value, sizeof(auth.value));
    if (sw != SW_OK)
        return sw;
    *s = (struct session){ .used = true, .auth_id = auth_id, .kind = auth.kind };
    s->scp.every_command_counts = true; /* on all applets (5.4) */
    if (RAND_bytes(s->id, sizeof(s->id)) != 1) {
        session_close(s);
        return SW_CONDITIONS;
    }
    (void)out_tlv(out, TAG_1, s->id, sizeof(s->id));
    return SW_OK;
}

/* ---- UserID ----------------------------------------------------------------------------------------- */

/* Count the attempt and say what the host hears of it. */
static uint16_t conclude(struct card *c, struct session *s, bool good)
{
    applet_auth_attempt(c->applet, s->auth_id, good);
    s->authenticated = good;
    return good ? SW_OK : SW_SECURITY;
}

static uint16_t verify_userid(struct card *c, struct session *s, const struct sim_apdu *apdu)
{
    struct sim_bytes in = apdu->data, pin = { NULL, 0 };
    struct sim_auth_object auth = { .kind = SIM_AUTH_NONE };
    uint16_t sw;

    card_spend(c, TIME_USERID);
    if (in.len != 0 && (!tlv_next(&in, TAG_1, &pin) || in.len != 0))
        return SW_DATA;
    if (!applet_auth_object(c->applet, s->auth_id, &auth) || auth.kind != SIM_AUTH_USERID)
        sw = SW_CONDITIONS;
    else if (auth.locked)
        sw = SW_BLOCKED;
    else
        sw = conclude(c, s, pin.len == auth.len && CRYPTO_memcmp(pin.ptr, auth.value, auth.len) == 0);
    OPENSSL_cleanse(auth.value, sizeof(auth.value));
    return sw;
}

/* ---- AESKey ----------------------------------------------------------------------------------------- */

static uint16_t aes_initialize_update(struct card *c, struct session *s, const struct sim_apdu *apdu,
                                      struct sim_out *out)
{
    static const uint8_t head[13] = { [10] = 0x0B, [11] = 0x03 };
    struct sim_auth_object auth = { .kind = SIM_AUTH_NONE };
    struct scp_keys keys = { 0 };
    uint8_t challenge[8], cryptogram[8];
    uint16_t sw = SW_OK;

    card_spend(c, TIME_INIT_UPDATE);
    if (apdu->data.len != 8)
        return SW_LENGTH;
    if (!applet_auth_object(c->applet, s->auth_id, &auth) || auth.kind != SIM_AUTH_AES ||
        (auth.len != 16 && auth.len != 24 && auth.len != 32)) {
        sw = SW_CONDITIONS;
        goto out;
    }
    if (auth.locked) {
        sw = SW_BLOCKED;
        goto out;
    }
    keys.len = auth.len;
    memcpy(keys.enc, auth.value, auth.len); /* one key in all roles */
    memcpy(keys.mac, auth.value, auth.len);
    if (!card_challenge(c, challenge) || !scp_begin(&s->scp, &keys, apdu->data.ptr, challenge, cryptogram)) {
        sw = SW_CONDITIONS;
        goto out;
    }
    (void)out_put(out, head, sizeof(head));
    (void)out_put(out, challenge, sizeof(challenge));
    (void)out_put(out, cryptogram, sizeof(cryptogram));
out:
    OPENSSL_cleanse(&keys, sizeof(keys));
    OPENSSL_cleanse(auth.value, sizeof(auth.value));
    return sw;
}

static uint16_t aes_external_authenticate(struct card *c, struct session *s, const struct sim_apdu *apdu)
{
    uint16_t sw;

    card_spend(c, TIME_EXTERNAL_AUTH);
    if (s->scp.state != SCP_BEGUN)
        return SW_CONDITIONS;
    sw = scp_authenticate(&s->scp, apdu);
    if (sw == SW_OK || sw == SW_SECURITY)
        sw = conclude(c, s, sw == SW_OK);
    return sw;
}

/* ---- ECKey ------------------------------------------------------------------------------------------ */

/** What INTERNAL AUTHENTICATE brings; borrowed from the command. */
struct host_offer {
    struct sim_bytes reference, key, signature; /* the A6 and 7F49 TLVs whole, the DER signature */
    const uint8_t *point;
};

static bool check_reference(struct sim_bytes in)
{
    struct sim_bytes value;

    return tlv_next(&in, 0x4F, &value) && value.len == sizeof(iot_aid) &&
           memcmp(value.ptr, iot_aid, sizeof(iot_aid)) == 0 && tlv_next(&in, 0x90, &value) &&
           value.len == 3 && memcmp(value.ptr, "\xAB\x01\x33", 3) == 0 && tlv_next(&in, 0x80, &value) &&
           value.len == 1 && value.ptr[0] == 0x88 && tlv_next(&in, 0x81, &value) && value.len == 1 &&
           value.ptr[0] == RANDOM_LEN && in.len == 0;
}

static bool parse_offer(struct sim_bytes in, struct host_offer *offer)
{
    struct sim_bytes reference, key, point;
    const uint8_t *start = in.ptr;

    if (!tlv_next(&in, 0xA6, &reference) || !check_reference(reference))
        return false;
    offer->reference = (struct sim_bytes){ start, (size_t)(in.ptr - start) };
    start = in.ptr;
    if (!tlv_next(&in, 0x7F49, &key))
        return false;
    offer->key = (struct sim_bytes){ start, (size_t)(in.ptr - start) };
    if (!tlv_next(&key, 0xB0, &point) || point.len != POINT_LEN)
        return false;
    offer->point = point.ptr;
    return tlv_next(&in, 0x5F37, &offer->signature) && in.len == 0;
}

static bool verify_host(const struct sim_auth_object *auth, const struct host_offer *offer)
{
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)"P-256", 0),
                            OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)auth->value,
                                                              auth->len),
                            OSSL_PARAM_construct_end() };
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY *key = NULL;
    bool good = maker != NULL && md != NULL && EVP_PKEY_fromdata_init(maker) == 1 &&
                EVP_PKEY_fromdata(maker, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
                EVP_DigestVerifyInit_ex(md, NULL, "SHA256", NULL, NULL, key, NULL) == 1 &&
                EVP_DigestVerifyUpdate(md, offer->reference.ptr, offer->reference.len) == 1 &&
                EVP_DigestVerifyUpdate(md, offer->key.ptr, offer->key.len) == 1 &&
                EVP_DigestVerifyFinal(md, offer->signature.ptr, offer->signature.len) == 1;

    EVP_PKEY_free(key);
    EVP_MD_CTX_free(md);
    EVP_PKEY_CTX_free(maker);
    return good;
}

/* SHA-256([00000001] | Z | DR.SE | 01 33 88 10), the first half; the counter word since applet 3.5 */
static bool master_key(const struct sim_personality *p, const uint8_t z[32], const uint8_t random[RANDOM_LEN],
                       uint8_t digest[32])
{
    bool counted = p->version[0] > 3 || (p->version[0] == 3 && p->version[1] >= 5);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex2(md, EVP_sha256(), NULL) == 1 &&
              (!counted || EVP_DigestUpdate(md, "\0\0\0\1", 4) == 1) && EVP_DigestUpdate(md, z, 32) == 1 &&
              EVP_DigestUpdate(md, random, RANDOM_LEN) == 1 &&
              EVP_DigestUpdate(md, "\x01\x33\x88\x10", 4) == 1 && EVP_DigestFinal_ex(md, digest, NULL) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

static bool ec_agree(struct card *c, struct session *s, const struct host_offer *offer,
                     uint8_t random[RANDOM_LEN], uint8_t receipt[16])
{
    const struct sim_bytes parts[] = { offer->reference, offer->key };
    uint8_t z[32], digest[32];
    bool ok = RAND_bytes(random, RANDOM_LEN) == 1 && applet_eckey_ecdh(c->applet, offer->point, z) &&
              master_key(c->personality, z, random, digest) && scp_from_master(&s->scp, digest) &&
              aes_cmac(s->scp.rmac, s->scp.key_len, parts, 2, receipt);

    OPENSSL_cleanse(z, sizeof(z));
    OPENSSL_cleanse(digest, sizeof(digest));
    return ok;
}

static uint16_t ec_internal_authenticate(struct card *c, struct session *s, const struct sim_apdu *apdu,
                                         struct sim_out *out)
{
    struct sim_auth_object auth = { .kind = SIM_AUTH_NONE };
    struct host_offer offer;
    uint8_t random[2 + RANDOM_LEN] = { 0x85, RANDOM_LEN }, receipt[2 + 16] = { 0x86, 16 };

    card_spend(c, TIME_ECKEY);
    if (!parse_offer(apdu->data, &offer))
        return SW_DATA;
    if (!applet_auth_object(c->applet, s->auth_id, &auth) || auth.kind != SIM_AUTH_EC ||
        auth.len != POINT_LEN)
        return SW_CONDITIONS;
    if (auth.locked)
        return SW_BLOCKED;
    if (!verify_host(&auth, &offer))
        return conclude(c, s, false);
    if (!ec_agree(c, s, &offer, random + 2, receipt + 2))
        return SW_CONDITIONS;
    (void)out_put(out, random, sizeof(random));
    (void)out_put(out, receipt, sizeof(receipt));
    return conclude(c, s, true);
}

/* ---- session policy --------------------------------------------------------------------------------- */

/* [length] flags, then the values in the order of their flags; one client leaves the length out. */
static uint16_t set_policy(struct session *s, struct sim_bytes p)
{
    unsigned flags;
    size_t at = 2;

    if (p.len >= 3 && p.ptr[0] == p.len - 1)
        p = (struct sim_bytes){ p.ptr + 1, p.len - 1 };
    if (p.len < 2)
        return SW_DATA;
    flags = (unsigned)(p.ptr[0] << 8 | p.ptr[1]);
    if (p.len != 2 + ((flags & POLICY_APDUS) ? 2U : 0) + ((flags & POLICY_SECONDS) ? 2U : 0))
        return SW_DATA;
    s->limited_apdus = (flags & POLICY_APDUS) != 0;
    s->limited_time = (flags & POLICY_SECONDS) != 0;
    s->may_refresh = (flags & POLICY_REFRESH) != 0;
    if (s->limited_apdus) {
        s->apdus_left = (uint32_t)(p.ptr[at] << 8 | p.ptr[at + 1]);
        at += 2;
    }
    if (s->limited_time)
        s->ends_us = clock_us() + 1000000 * (uint64_t)(p.ptr[at] << 8 | p.ptr[at + 1]);
    return SW_OK;
}

static uint16_t policy_command(struct session *s, const struct sim_apdu *apdu)
{
    bool refresh = apdu->p2 == P2_REFRESH;
    struct sim_bytes in = apdu->data, policy = { NULL, 0 };

    if (refresh && (s->limited_apdus || s->limited_time) && !s->may_refresh)
        return SW_CONDITIONS;
    if (refresh && in.len == 0) {
        s->limited_apdus = s->limited_time = false;
        return SW_OK;
    }
    if (!tlv_next(&in, refresh ? TAG_POLICY : TAG_1, &policy) || in.len != 0)
        return SW_DATA;
    return set_policy(s, policy);
}

/* @return false: the session is over */
static bool session_lives(struct session *s)
{
    if ((s->limited_time && clock_us() >= s->ends_us) || (s->limited_apdus && s->apdus_left == 0)) {
        session_close(s);
        return false;
    }
    if (s->limited_apdus)
        s->apdus_left--;
    return true;
}

/* ---- PROCESS ---------------------------------------------------------------------------------------- */

/* A command on behalf of an authenticated session, out of its wrapping. */
static uint16_t run(struct card *c, struct session *s, bool secure, const struct sim_apdu *apdu,
                    struct sim_out *out)
{
    struct sim_caller caller = { .auth_id = s->auth_id, .secure = secure, .in_session = true };
    uint16_t sw;

    c->innermost = *apdu;
    if (apdu->cla != CLA_PLAIN)
        return SW_CLA;
    if (is_management(apdu, P2_CLOSE))
        return SW_OK; /* closed by the caller, who still has to protect the answer */
    if (is_management(apdu, P2_REFRESH) || is_management(apdu, P2_POLICY))
        return policy_command(s, apdu);
    if (is_session_command(apdu) || apdu->ins == 0x05)
        return SW_CONDITIONS;
    sw = card_applet_command(c, &caller, apdu, out);
    if (sw == SW_OK && is_management(apdu, P2_DELETE_ALL))
        sessions_close_all(c); /* with their authentication objects; the answer leaves unprotected */
    return sw;
}

static uint16_t run_wrapped(struct card *c, struct session *s, bool outer_secure, struct sim_apdu *apdu,
                            struct sim_out *out)
{
    uint8_t plain[SIM_APDU_MAX];
    bool secure = outer_secure || (s->scp.level & 0x03) == 0x03, closing;
    uint16_t sw;

    card_spend(c, TIME_MESSAGING);
    sw = scp_unwrap(&s->scp, apdu, plain);
    closing = sw != SW_OK || is_management(apdu, P2_CLOSE);
    if (sw == SW_OK)
        sw = run(c, s, secure, apdu, out);
    if (sw == SW_OK && s->used && !scp_wrap(&s->scp, out, sw))
        sw = SW_CONDITIONS;
    if (closing)
        session_close(s);
    OPENSSL_cleanse(plain, sizeof(plain));
    return sw;
}

static uint16_t authenticate(struct card *c, struct session *s, const struct sim_apdu *apdu,
                             struct sim_out *out)
{
    if (s->kind == SIM_AUTH_USERID && apdu->cla == CLA_PLAIN && is_management(apdu, P2_USERID))
        return verify_userid(c, s, apdu);
    if (s->kind == SIM_AUTH_AES && apdu->cla == CLA_PLAIN && apdu->ins == INS_INITIALIZE_UPDATE)
        return aes_initialize_update(c, s, apdu, out);
    if (s->kind == SIM_AUTH_AES && apdu->cla == CLA_SECURE && apdu->ins == INS_EXTERNAL_AUTHENTICATE)
        return aes_external_authenticate(c, s, apdu);
    if (s->kind == SIM_AUTH_EC && apdu->cla == CLA_SECURE && apdu->ins == INS_INTERNAL_AUTHENTICATE)
        return ec_internal_authenticate(c, s, apdu, out);
    if (apdu->cla == CLA_PLAIN && is_management(apdu, P2_CLOSE)) {
        session_close(s);
        return SW_OK;
    }
    return SW_SECURITY;
}

static struct session *find_session(struct card *c, struct sim_bytes id)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        if (c->sessions[i].used && id.len == 8 && CRYPTO_memcmp(c->sessions[i].id, id.ptr, 8) == 0)
            return &c->sessions[i];
    }
    return NULL;
}

static uint16_t inside(struct card *c, struct session *s, bool outer_secure, struct sim_apdu *inner,
                       struct sim_out *out)
{
    uint16_t sw;

    if (!s->authenticated)
        return authenticate(c, s, inner, out);
    if (!session_lives(s))
        return SW_SECURITY;
    if (inner->cla == CLA_SECURE && s->scp.state == SCP_OPEN)
        return run_wrapped(c, s, outer_secure, inner, out);
    if (inner->cla == CLA_SECURE || (s->scp.state == SCP_OPEN && s->scp.level != 0)) {
        session_close(s); /* protection expected, or protection of nothing */
        return SW_SECURITY;
    }
    sw = run(c, s, outer_secure, inner, out);
    if (sw == SW_OK && is_management(inner, P2_CLOSE))
        session_close(s);
    return sw;
}

uint16_t session_process(struct card *c, bool outer_secure, const struct sim_apdu *apdu, struct sim_out *out)
{
    struct sim_bytes in = apdu->data, id, command;
    struct sim_apdu inner;
    struct session *s;
    uint16_t sw;

    if (apdu->p1 != 0 || apdu->p2 != 0)
        return SW_P1P2;
    if (!tlv_next(&in, TAG_SESSION_ID, &id) || !tlv_next(&in, TAG_1, &command) || in.len != 0)
        return SW_DATA;
    s = find_session(c, id);
    if (s == NULL)
        return SW_SECURITY;
    if ((sw = apdu_parse(command.ptr, command.len, &inner)) != SW_OK)
        return sw;
    c->in_session = true;
    c->innermost = inner;
    return inside(c, s, outer_secure, &inner, out);
}
