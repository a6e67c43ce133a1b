/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HSM_UTF8_H
#define HSM_UTF8_H

#include "hsm/types.h"

/** Well-formed UTF-8 (RFC 3629 section 4) without NUL and other control characters. Pure. */
bool hsm_utf8_valid(struct hsm_bytes text);

#endif
