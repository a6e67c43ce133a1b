/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping RSA keys out of core dumps.
 *
 * libcrypto holds the numbers of an RSA key, and the Montgomery contexts that it makes of the primes for the
 * first signature, in the ordinary heap, and offers no way to have them elsewhere. So after that first
 * signature the pages that hold them are looked up and marked MADV_DONTDUMP. It is best effort: what cannot
 * be read is not marked, and only so much memory is searched. /proc/self/mem is read, because another thread
 * may unmap what is being looked at.
 */
#include "internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK_LEN = 256 * 1024, WORDS = CHUNK_LEN / 8, SEARCH_LIMIT = 128 << 20 };

/** The two lowest limbs of a private number: enough to know it by. */
struct pattern {
    uint64_t low, high;
    size_t len; /* bytes of the whole number */
};

struct search {
    struct pattern patterns[RSA_NUMBERS];
    size_t count;
    uintptr_t near; /* the mapping with this address is searched whatever its size */
    size_t budget;  /* bytes of other mappings */
    int mem;        /* /proc/self/mem */
    uint64_t words[WORDS];
};

static uint64_t limb(struct hsm_bytes number, size_t index)
{
    const uint8_t *end = number.ptr + number.len - 8 * index;
    uint64_t value = 0;
    size_t i;

    for (i = 8; i > 0; i--)
        value = value << 8 | end[-(ptrdiff_t)i];
    return value;
}

static void add_pattern(struct search *s, struct hsm_bytes number)
{
    if (number.len >= 32) /* any number of a key that is in use */
        s->patterns[s->count++] = (struct pattern){ limb(number, 0), limb(number, 1), number.len };
}

static void hide_number(uintptr_t at, size_t len)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = at & ~(page - 1);

    (void)madvise((void *)from, (at + len + page - 1 - from) & ~(page - 1), MADV_DONTDUMP);
}

static void search_words(const struct search *s, uintptr_t base, size_t count)
{
    size_t i, k;

    for (i = 0; i + 1 < count; i++)
        for (k = 0; k < s->count; k++)
            if (s->words[i] == s->patterns[k].low && s->words[i + 1] == s->patterns[k].high)
                hide_number(base + 8 * i, s->patterns[k].len);
}

/* Chunks overlap by a word, so that no pair of limbs is cut apart. */
static void search_mapping(struct search *s, uintptr_t from, uintptr_t to)
{
    while (from + 8 < to) {
        size_t want = to - from < CHUNK_LEN ? to - from : CHUNK_LEN;
        ssize_t got = pread(s->mem, s->words, want, (off_t)from);

        if (got <= 8)
            return;
        search_words(s, from, (size_t)got / 8);
        from += ((size_t)got & ~(size_t)7) - 8;
    }
}

static void search_maps(struct search *s, FILE *maps)
{
    uintptr_t from, to;
    unsigned long inode;
    char line[512], mode[5];

    while (fgets(line, sizeof(line), maps) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*s %lu", &from, &to, mode, &inode) != 4 ||
            inode != 0 || strcmp(mode, "rw-p") != 0)
            continue;
        if (s->near < from || s->near >= to) {
            if (to - from > s->budget)
                continue;
            s->budget -= to - from;
        }
        search_mapping(s, from, to);
    }
}

static bool make_patterns(struct search *s, const EVP_PKEY *pkey, const struct hsm_key_kind *kind)
{
    struct hsm_buf numbers = { hsm_secret_alloc(HSM_PKCS8_MAX), HSM_PKCS8_MAX, 0 };
    struct pkcs8_private priv;
    bool ok = numbers.ptr != NULL && hsm_pkey_numbers(pkey, kind, &numbers, &priv) == HSM_OK;
    size_t i;

    for (i = RSA_D; ok && i < RSA_NUMBERS; i++)
        add_pattern(s, priv.rsa[i]);
    hsm_secret_free(numbers.ptr, HSM_PKCS8_MAX);
    return ok;
}

void soft_hide_rsa(const EVP_PKEY *pkey, const struct hsm_key_kind *kind)
{
    struct search *s = hsm_secret_alloc(sizeof(*s)); /* it comes to hold copies of what it looks for */
    FILE *maps = NULL;

    if (s == NULL)
        return;
    s->near = (uintptr_t)pkey;
    s->budget = SEARCH_LIMIT;
    s->mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (s->mem >= 0 && make_patterns(s, pkey, kind) && (maps = fopen("/proc/self/maps", "re")) != NULL)
        search_maps(s, maps);
    if (maps != NULL)
        (void)fclose(maps);
    if (s->mem >= 0)
        (void)close(s->mem);
    hsm_secret_free(s, sizeof(*s));
}
