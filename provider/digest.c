/* SPDX-License-Identifier: Apache-2.0 */
/* Digests by name. Common spellings meet a table, because libssl asks once per handshake; the rest is
 * fetched. */
#include <string.h>
#include <strings.h>

#include <openssl/err.h>

#include "keymgmt.h"

/* Names of the default provider, and the signature-flavoured ones that old code passes. */
static const struct alias {
    const char *name;
    enum hsm_hash hash;
} aliases[] = {
    { "SHA256", HSM_HASH_SHA256 },
    { "SHA2-256", HSM_HASH_SHA256 },
    { "SHA384", HSM_HASH_SHA384 },
    { "SHA2-384", HSM_HASH_SHA384 },
    { "SHA512", HSM_HASH_SHA512 },
    { "SHA2-512", HSM_HASH_SHA512 },
    { "SHA1", HSM_HASH_SHA1 },
    { "SHA-1", HSM_HASH_SHA1 },
    { "SSL3-SHA1", HSM_HASH_SHA1 },
    { "SHA-256", HSM_HASH_SHA256 },
    { "SHA-384", HSM_HASH_SHA384 },
    { "SHA-512", HSM_HASH_SHA512 },
    { "SHA224", HSM_HASH_SHA224 },
    { "SHA2-224", HSM_HASH_SHA224 },
    { "SHA-224", HSM_HASH_SHA224 },
    { "SHA512-224", HSM_HASH_SHA512_224 },
    { "SHA2-512/224", HSM_HASH_SHA512_224 },
    { "SHA-512/224", HSM_HASH_SHA512_224 },
    { "SHA512-256", HSM_HASH_SHA512_256 },
    { "SHA2-512/256", HSM_HASH_SHA512_256 },
    { "SHA-512/256", HSM_HASH_SHA512_256 },
    { "SHA3-224", HSM_HASH_SHA3_224 },
    { "SHA3-256", HSM_HASH_SHA3_256 },
    { "SHA3-384", HSM_HASH_SHA3_384 },
    { "SHA3-512", HSM_HASH_SHA3_512 },
    { "MD5", HSM_HASH_MD5 },
    { "SSL3-MD5", HSM_HASH_MD5 },
    { "MD5-SHA1", HSM_HASH_MD5_SHA1 },
    { "RIPEMD-160", HSM_HASH_RIPEMD160 },
    { "RIPEMD160", HSM_HASH_RIPEMD160 },
    { "RIPEMD", HSM_HASH_RIPEMD160 },
    { "RMD160", HSM_HASH_RIPEMD160 },
    { "2.16.840.1.101.3.4.2.1", HSM_HASH_SHA256 },
    { "2.16.840.1.101.3.4.2.2", HSM_HASH_SHA384 },
    { "2.16.840.1.101.3.4.2.3", HSM_HASH_SHA512 },
    { "1.3.14.3.2.26", HSM_HASH_SHA1 },
};

static enum hsm_hash hash_of_name(const char *name)
{
    size_t i;

    for (i = 0; i < PROV_COUNT(aliases); i++)
        if (strcasecmp(aliases[i].name, name) == 0)
            return aliases[i].hash;
    return HSM_HASH_NONE;
}

static enum hsm_hash hash_of_md(const EVP_MD *md)
{
    int hash;

    for (hash = HSM_HASH_NONE + 1; hash < HSM_HASH_COUNT; hash++)
        if (EVP_MD_is_a(md, hsm_hash_name((enum hsm_hash)hash)))
            return (enum hsm_hash)hash;
    return HSM_HASH_NONE;
}

static EVP_MD *fetch(struct prov_ctx *prov, const char *name)
{
    OSSL_LIB_CTX *libctx = prov_libctx(prov);
    EVP_MD *md;

    if (libctx == NULL)
        return NULL;
    ERR_set_mark(); /* "no such digest" is an answer, not an error */
    md = EVP_MD_fetch(libctx, name, PROV_DEFAULT);
    ERR_pop_to_mark();
    return md;
}

static EVP_MD *cached(struct prov_ctx *prov, enum hsm_hash hash)
{
    EVP_MD *md = atomic_load_explicit(&prov->md[hash], memory_order_acquire), *expected = NULL;

    if (md != NULL || (md = fetch(prov, hsm_hash_name(hash))) == NULL)
        return md;
    if (!atomic_compare_exchange_strong(&prov->md[hash], &expected, md)) {
        EVP_MD_free(md);
        md = expected;
    }
    return md;
}

EVP_MD *prov_digest(struct prov_ctx *prov, const char *name, enum hsm_hash *hash, bool *owned)
{
    enum hsm_hash known = hash_of_name(name);
    EVP_MD *md;

    *owned = known == HSM_HASH_NONE;
    md = *owned ? fetch(prov, name) : cached(prov, known);
    if (*owned && md != NULL)
        known = hash_of_md(md);
    if (hash != NULL)
        *hash = known;
    return md;
}
