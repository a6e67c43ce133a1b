/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A bus on which one device is addressed by plain messages: each write or read is START, address, bytes,
 * STOP. Implementations: i2c_linux.c (/dev/i2c-N), stream.c (the simulator's socket), and scripted ones in
 * tests.
 */
#ifndef HSM_TRANSPORT_H
#define HSM_TRANSPORT_H

#include "hsm/error.h"
#include "hsm/types.h"

/** What became of one message. */
enum bus_result {
    BUS_OK,        /* every byte was acknowledged */
    BUS_NACK,      /* nobody answered to the address, or a data byte was refused: "not ready" on this chip */
    BUS_DISTURBED, /* arbitration lost, bus busy or stuck, adapter timeout: may work later */
    BUS_GONE       /* the adapter is no more, or refuses this kind of message: trying again is pointless */
};

struct hsm_transport {
    const struct hsm_transport_ops *ops;
    int error;        /* errno of the last message that was not BUS_OK; 0 otherwise */
    size_t write_max; /* bytes of the longest message; a T=1 block needs 259 in one write */
    size_t read_max;  /* longer reads are split into several messages by bus_read() */
    char name[128];   /* "/dev/i2c-3 address 0x48", for error lines */
    int lock_fd; /* descriptor on which the inter-process lock of this bus is taken; not owned; -1: none */
    char state_name[64]; /* unique name of this bus and address in this system: for the shared link state; "":
                            it is kept in the file behind lock_fd */
};

struct hsm_transport_ops {
    enum bus_result (*write)(struct hsm_transport *t, struct hsm_bytes message);
    enum bus_result (*read)(struct hsm_transport *t, uint8_t *ptr,
                            size_t len); /* exactly len bytes, or not OK */
    /** Pulse the enable pin: a hard reset. NULL if there is none. */
    hsm_status (*power_cycle)(struct hsm_transport *t);
    uint64_t (*now_us)(struct hsm_transport *t); /* monotonic */
    void (*sleep_until_us)(struct hsm_transport *t, uint64_t when_us);
    void (*close)(struct hsm_transport *t); /* frees @p t */
    void (*abandon)(
        struct hsm_transport *t); /* in a forked child: close descriptors, say nothing on the bus, free */
};

/** One message; @return as the ops. Sets t->error. Refuses empty messages (BUS_GONE, EINVAL): the chip must
 * never see one. */
enum bus_result bus_write(struct hsm_transport *t, struct hsm_bytes message);
/** Like write; split at read_max: the device keeps its read position between messages. */
enum bus_result bus_read(struct hsm_transport *t, uint8_t *ptr, size_t len);

/**
 * Open an i2c-dev node. No message is sent.
 * @param path      "/dev/i2c-3"
 * @param addr      7-bit address
 * @param ena_gpio  "" or "gpiochip0:12[:low]" (character device) or "/sys/class/gpio/gpio12[:low]"
 * @return HSM_ERR_NO_TOKEN (no such node, no adapter), HSM_ERR_DENIED (permission; says which group),
 * HSM_ERR_BUSY (a kernel driver is bound to the address), HSM_ERR_UNSUPPORTED (adapter without plain I2C
 * messages)
 */
HSM_MUST_USE hsm_status bus_open_i2c(const char *path, unsigned addr, const char *ena_gpio,
                                     struct hsm_transport **out);
/** Connect to the simulator's UNIX socket (protocol: docs/WIRE.md). */
HSM_MUST_USE hsm_status bus_open_stream(const char *socket_path, unsigned addr, struct hsm_transport **out);

#endif
