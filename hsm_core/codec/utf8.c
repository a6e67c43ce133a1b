/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

/* Length of the sequence a first byte announces, and the range its second byte must be in. */
static size_t sequence(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (first >= 0x20 && first < 0x7f)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef) {
        if (first == 0xe0)
            *low = 0xa0; /* no over-long forms */
        if (first == 0xed)
            *high = 0x9f; /* no surrogates */
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (first == 0xf0)
            *low = 0x90;
        if (first == 0xf4)
            *high = 0x8f; /* nothing above U+10FFFF */
        return 4;
    }
    return 0;
}

bool hsm_utf8_valid(struct hsm_bytes text)
{
    size_t i = 0, n, k;
    uint8_t low, high;

    while (i < text.len) {
        n = sequence(text.ptr[i], &low, &high);
        if (n == 0 || n > text.len - i)
            return false;
        if (n > 1 && (text.ptr[i + 1] < low || text.ptr[i + 1] > high))
            return false;
        for (k = 2; k < n; k++)
            if ((text.ptr[i + k] & 0xc0) != 0x80)
                return false;
        i += n;
    }
    return true;
}
