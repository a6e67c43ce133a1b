/* SPDX-License-Identifier: Apache-2.0 */
/** The I2C buses of this machine, and what answers on them. For setting up; signing needs none of this. */
#ifndef HSM_BUS_H
#define HSM_BUS_H

#include "hsm/error.h"
#include "hsm/types.h"

/** A plain value. */
struct hsm_bus {
    char path[64];       /* "/dev/i2c-3" */
    char name[96];       /* of the adapter, as the kernel says; "" if it says none */
    bool plain_messages; /* can carry any message: an SE05x needs that. false also if it may not be opened */
    bool accessible;     /* by this process */
};

/** Return anything but HSM_OK to stop with it. */
typedef hsm_status hsm_bus_fn(void *arg, const struct hsm_bus *bus);
/** Every I2C bus that has a device node, by number. No message is sent. */
HSM_MUST_USE hsm_status hsm_bus_list(hsm_bus_fn *each, void *arg);

enum hsm_bus_answer {
    HSM_BUS_ANSWERS,   /* somebody acknowledges this address */
    HSM_BUS_KERNEL,    /* a kernel driver owns it; nothing was sent */
    HSM_BUS_NOT_ASKED, /* an address that the scan must leave alone, or cannot ask in a harmless way */
    HSM_BUS_TROUBLE    /* the bus is stuck or disturbed: what was found before may be incomplete */
};

typedef hsm_status hsm_bus_device_fn(void *arg, unsigned addr, enum hsm_bus_answer answer);

/**
 * Ask each 7-bit address 0x08 to 0x77, in the way that does least harm: an empty write, or one byte read
 * where that could change something (0x30 to 0x37 and 0x50 to 0x5f, as i2cdetect does).
 * @param path   "/dev/i2c-3"
 * @param spare  address that is sent nothing (HSM_BUS_NOT_ASKED): an SE05x can fall silent after an empty
 * message, and a stray read takes a byte of somebody else's answer
 * @return HSM_ERR_NO_TOKEN (no such bus), HSM_ERR_DENIED, HSM_ERR_UNSUPPORTED (the adapter cannot probe)
 */
HSM_MUST_USE hsm_status hsm_bus_scan(const char *path, unsigned spare, hsm_bus_device_fn *each, void *arg);

#endif
