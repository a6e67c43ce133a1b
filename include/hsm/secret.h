/* SPDX-License-Identifier: Apache-2.0 */
/** Memory for secrets: page-locked where the system allows, left out of core dumps, cleansed on free. */
#ifndef HSM_SECRET_H
#define HSM_SECRET_H

#include <stddef.h>

/**
 * @param len  bytes, at least 1
 * @return zeroed memory of its own pages (mlock, MADV_DONTDUMP), or NULL. Free with hsm_secret_free().
 */
void *hsm_secret_alloc(size_t len);

/** Cleanse and release; NULL is allowed. @p len must be what was asked for. */
void hsm_secret_free(void *ptr, size_t len);

/** Overwrite memory in a way the compiler keeps (OPENSSL_cleanse). */
void hsm_cleanse(void *ptr, size_t len);

#endif
