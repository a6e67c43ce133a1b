/* SPDX-License-Identifier: Apache-2.0 */
#include "hsm/secret.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

static size_t whole_pages(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return len > SIZE_MAX - page ? 0 : (len + page - 1) / page * page;
}

void *hsm_secret_alloc(size_t len)
{
    size_t size = len == 0 ? 0 : whole_pages(len);
    void *ptr;

    if (size == 0)
        return NULL;
    ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ptr == MAP_FAILED)
        return NULL;
    (void)mlock(ptr, size); /* RLIMIT_MEMLOCK may forbid it; the key must work all the same */
    (void)madvise(ptr, size, MADV_DONTDUMP);
    return ptr;
}

void hsm_secret_free(void *ptr, size_t len)
{
    if (ptr == NULL)
        return;
    OPENSSL_cleanse(ptr, whole_pages(len));
    (void)munmap(ptr, whole_pages(len));
}

void hsm_cleanse(void *ptr, size_t len)
{
    OPENSSL_cleanse(ptr, len);
}
