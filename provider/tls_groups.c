/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS groups are for ephemeral keys, so a token has none to offer. But older libssl keeps a group only if the
 * keymgmt it fetches for it belongs to the provider that advertised the group (ssl/t1_lib.c,
 * add_provider_groups: so in 3.0, no longer in 3.5; advertising where it is not needed does no harm, since
 * libssl takes the first entry of an id). When hsm is preferred that keymgmt is ours, and the default
 * provider's groups vanish: X25519 and all curves. Then, and only then, the groups of the key types we manage
 * are advertised again, word for word as the default provider has them (providers/common/capabilities.c);
 * their keys are volatile ones, and the default provider does the work.
 */
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/prov_ssl.h>

#include "keymgmt.h"

enum { GROUPS_NEED_US_BEFORE = 0x030500, TLS13_BRAINPOOL_SINCE = 0x030200 };

/* TLS Supported Groups registry, IANA */
static const struct tls_group {
    const char *name, *group, *keytype;
    unsigned id, security_bits;
    int min_tls, max_tls, min_dtls, max_dtls; /* 0: no limit, -1: never */
    unsigned since;                           /* the libcrypto whose default provider has it */
} groups[] = {
    { "secp256k1", "secp256k1", "EC", 22, 128, TLS1_VERSION, TLS1_2_VERSION, DTLS1_VERSION, DTLS1_2_VERSION,
      0 },
    { "secp256r1", "prime256v1", "EC", 23, 128, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "P-256", "prime256v1", "EC", 23, 128, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "secp384r1", "secp384r1", "EC", 24, 192, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "P-384", "secp384r1", "EC", 24, 192, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "secp521r1", "secp521r1", "EC", 25, 256, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "P-521", "secp521r1", "EC", 25, 256, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "brainpoolP256r1", "brainpoolP256r1", "EC", 26, 128, TLS1_VERSION, TLS1_2_VERSION, DTLS1_VERSION,
      DTLS1_2_VERSION, 0 },
    { "brainpoolP384r1", "brainpoolP384r1", "EC", 27, 192, TLS1_VERSION, TLS1_2_VERSION, DTLS1_VERSION,
      DTLS1_2_VERSION, 0 },
    { "brainpoolP512r1", "brainpoolP512r1", "EC", 28, 256, TLS1_VERSION, TLS1_2_VERSION, DTLS1_VERSION,
      DTLS1_2_VERSION, 0 },
    { "x25519", "X25519", "X25519", 29, 128, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "x448", "X448", "X448", 30, 224, TLS1_VERSION, 0, DTLS1_VERSION, 0, 0 },
    { "brainpoolP256r1tls13", "brainpoolP256r1", "EC", 31, 128, TLS1_3_VERSION, 0, -1, -1,
      TLS13_BRAINPOOL_SINCE },
    { "brainpoolP384r1tls13", "brainpoolP384r1", "EC", 32, 192, TLS1_3_VERSION, 0, -1, -1,
      TLS13_BRAINPOOL_SINCE },
};

static int advertise(const struct tls_group *group, OSSL_CALLBACK *cb, void *arg)
{
    struct tls_group g = *group; /* OSSL_PARAM takes no pointer to const */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, (char *)g.name, 0),
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL, (char *)g.group, 0),
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, (char *)g.keytype, 0),
        OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_ID, &g.id),
        OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &g.security_bits),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &g.min_tls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &g.max_tls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &g.min_dtls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &g.max_dtls),
        OSSL_PARAM_construct_end()
    };

    return cb(params, arg);
}

int prov_get_capabilities(void *provctx, const char *capability, OSSL_CALLBACK *cb, void *arg)
{
    struct prov_ctx *prov = provctx;
    size_t i;

    if (strcasecmp(capability, "TLS-GROUP") != 0 || prov->version >= GROUPS_NEED_US_BEFORE)
        return 1;
    for (i = 0; i < PROV_COUNT(groups); i++) {
        if (prov->version < groups[i].since || !prov_is_preferred(prov, groups[i].keytype))
            continue;
        if (!advertise(&groups[i], cb, arg))
            return 0;
    }
    return 1;
}
