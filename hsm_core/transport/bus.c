/* SPDX-License-Identifier: Apache-2.0 */
#include "transport.h"

#include <errno.h>

enum bus_result bus_write(struct hsm_transport *t, struct hsm_bytes message)
{
    t->error = 0;
    if (message.len == 0) { /* erratum I2C.2: an empty message can silence the chip for good */
        t->error = EINVAL;
        return BUS_GONE;
    }
    if (message.len > t->write_max) { /* a block may not be split */
        t->error = EMSGSIZE;
        return BUS_GONE;
    }
    return t->ops->write(t, message);
}

enum bus_result bus_read(struct hsm_transport *t, uint8_t *ptr, size_t len)
{
    enum bus_result result = BUS_OK;
    size_t n;

    t->error = 0;
    if (len == 0) {
        t->error = EINVAL;
        return BUS_GONE;
    }
    for (; len > 0 && result == BUS_OK; ptr += n, len -= n) {
        n = len < t->read_max ? len : t->read_max;
        result = t->ops->read(t, ptr, n);
    }
    return result;
}
