/* SPDX-License-Identifier: Apache-2.0 */
/* Object policies: rules of { length, authentication object, rights, extension }, section 4.4 of the
 * reference. */
#include "applet.h"

enum { RULE_HEAD = 8, PCR_EXTENSION = 36, POLICY_MAX = 256, PCR_LEN = 32 };
#define RIGHTS_V7                                                                                            \
    (ALLOW_TLS_KDF | ALLOW_TLS_PMS | FORBID_DERIVED_OUTPUT | ALLOW_KDF_EXT_RANDOM |                          \
     ALLOW_DESFIRE_CHANGEKEY | ALLOW_DERIVED_INPUT | ALLOW_PBKDF | ALLOW_DESFIRE_KDF | FORBID_EXTERNAL_IV |  \
     ALLOW_PEPPER)
#define RIGHTS_ANY        (FORBID_ALL | ALLOW_READ | ALLOW_WRITE | ALLOW_DELETE | REQUIRE_SM | REQUIRE_PCR_VALUE)
#define RIGHTS_ASYMMETRIC (ALLOW_SIGN | ALLOW_VERIFY | ALLOW_GEN | ALLOW_ATTESTATION | ALLOW_IMPORT_EXPORT)
#define RIGHTS_SYMMETRIC                                                                                     \
    (ALLOW_SIGN | ALLOW_VERIFY | ALLOW_ENC | ALLOW_DEC | ALLOW_KDF | ALLOW_WRAP | ALLOW_IMPORT_EXPORT |      \
     ALLOW_DESFIRE_AUTHENTICATION | ALLOW_DESFIRE_DUMP | ALLOW_DESFIRE_CHANGEKEY | ALLOW_DESFIRE_KDF |       \
     FORBID_DERIVED_OUTPUT | ALLOW_KDF_EXT_RANDOM | ALLOW_DERIVED_INPUT | FORBID_EXTERNAL_IV)

struct rule {
    uint32_t auth_id, rights;
    struct sim_bytes extension;
};

static uint32_t rights_of(const struct applet *a, uint8_t kind)
{
    static const uint32_t fit[] = {
        [KIND_EC] = RIGHTS_ASYMMETRIC | ALLOW_KA | FORBID_DERIVED_OUTPUT | ALLOW_TLS_PMS,
        [KIND_RSA] = RIGHTS_ASYMMETRIC | ALLOW_ENC | ALLOW_DEC | ALLOW_WRAP | ALLOW_TLS_PMS,
        [KIND_AES] = RIGHTS_SYMMETRIC,
        [KIND_DES] = RIGHTS_SYMMETRIC,
        [KIND_HMAC] = ALLOW_SIGN | ALLOW_VERIFY | ALLOW_KDF | ALLOW_PBKDF | ALLOW_TLS_KDF | ALLOW_TLS_PMS |
                      ALLOW_IMPORT_EXPORT | FORBID_DERIVED_OUTPUT | ALLOW_KDF_EXT_RANDOM |
                      ALLOW_DERIVED_INPUT | ALLOW_PEPPER | ALLOW_DESFIRE_KDF,
        [KIND_PCR] = 0,
    };

    return (RIGHTS_ANY | fit[kind]) & ~(a->p.v7 ? 0 : RIGHTS_V7);
}

static size_t extension_len(uint32_t rights)
{
    return (rights & REQUIRE_PCR_VALUE ? PCR_EXTENSION : 0) + (rights & ALLOW_DESFIRE_CHANGEKEY ? 4 : 0) +
           (rights & ALLOW_DERIVED_INPUT ? 4 : 0);
}

static bool next_rule(struct sim_bytes *policy, struct rule *r)
{
    size_t len;

    if (policy->len < 1 || (len = policy->ptr[0]) < RULE_HEAD || policy->len < 1 + len)
        return false;
    r->auth_id = get_be((struct sim_bytes){ policy->ptr + 1, 4 });
    r->rights = get_be((struct sim_bytes){ policy->ptr + 5, 4 });
    r->extension = (struct sim_bytes){ policy->ptr + 1 + RULE_HEAD, len - RULE_HEAD };
    policy->ptr += 1 + len;
    policy->len -= 1 + len;
    return true;
}

uint16_t policy_check(const struct applet *a, uint8_t kind, struct sim_bytes policy)
{
    struct rule r;

    if (policy.len == 0 || policy.len > POLICY_MAX)
        return SW_DATA;
    while (policy.len > 0) {
        if (!next_rule(&policy, &r))
            return SW_DATA;
        if (r.rights & ~rights_of(a, kind))
            return SW_POLICY_TYPE;
        if (r.extension.len != extension_len(r.rights))
            return SW_DATA;
    }
    return SW_OK;
}

/* Everything that fits the type, for everyone */
void policy_default(const struct applet *a, const struct object *o, struct buf *policy)
{
    const uint32_t not_granted = FORBID_ALL | REQUIRE_SM | REQUIRE_PCR_VALUE | FORBID_DERIVED_OUTPUT |
                                 ALLOW_DESFIRE_CHANGEKEY | ALLOW_DERIVED_INPUT | FORBID_EXTERNAL_IV;
    uint8_t rule[1 + RULE_HEAD] = { RULE_HEAD };

    put_be(rule + 5, rights_of(a, o->kind) & ~not_granted, 4);
    buf_set(policy, rule, sizeof(rule));
}

static bool pcr_matches(const struct applet *a, const struct rule *r)
{
    const struct object *pcr = store_find(a, get_be((struct sim_bytes){ r->extension.ptr, 4 }));

    return pcr != NULL && pcr->kind == KIND_PCR &&
           bytes_equal(buf_view(&pcr->value[V_DATA]), (struct sim_bytes){ r->extension.ptr + 4, PCR_LEN });
}

static bool rule_is_met(const struct applet *a, const struct rule *r, const struct sim_caller *who)
{
    if (r->auth_id != 0 && r->auth_id != who->auth_id)
        return false;
    if ((r->rights & REQUIRE_SM) && !who->secure)
        return false;
    return !(r->rights & REQUIRE_PCR_VALUE) || pcr_matches(a, r);
}

/* FORBID_ALL for the caller's own session beats what everyone may; for everyone it only grants nothing, so
 * that a session named in another rule keeps its rights. */
static bool forbidden(const struct object *o, const struct sim_caller *who)
{
    struct sim_bytes policy = buf_view(&o->policy);
    struct rule r;

    while (who->auth_id != 0 && next_rule(&policy, &r))
        if (r.auth_id == who->auth_id && (r.rights & FORBID_ALL))
            return true;
    return false;
}

bool policy_allows(const struct applet *a, const struct object *o, const struct sim_caller *who,
                   uint32_t right)
{
    struct sim_bytes policy = buf_view(&o->policy);
    uint32_t granted = 0;
    struct rule r;

    if (forbidden(o, who))
        return false;
    while (next_rule(&policy, &r))
        if (rule_is_met(a, &r, who) && !(r.rights & FORBID_ALL))
            granted |= r.rights;
    return (granted & right) == right;
}

bool policy_restricts(const struct applet *a, const struct object *o, const struct sim_caller *who,
                      uint32_t bit)
{
    struct sim_bytes policy = buf_view(&o->policy);
    struct rule r;

    while (next_rule(&policy, &r))
        if (rule_is_met(a, &r, who) && (r.rights & bit))
            return true;
    return false;
}

bool policy_takes_derived(const struct applet *a, const struct object *target, const struct sim_caller *who,
                          uint32_t master)
{
    struct sim_bytes policy = buf_view(&target->policy);
    struct rule r;

    if (policy_allows(a, target, who, ALLOW_WRITE))
        return true;
    while (!forbidden(target, who) && next_rule(&policy, &r))
        if (rule_is_met(a, &r, who) && (r.rights & ALLOW_DERIVED_INPUT) &&
            get_be((struct sim_bytes){ r.extension.ptr + r.extension.len - 4, 4 }) == master)
            return true;
    return false;
}
