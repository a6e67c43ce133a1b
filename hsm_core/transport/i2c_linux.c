/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device on an I2C bus through i2c-dev. Plain read() and write(): each is START, address, bytes, STOP;
 * I2C_RDWR would allow a repeated START, which this chip must not see. Adapters do not agree on what a
 * refused address is (ENXIO, EREMOTEIO, EIO, even a count of 0), so all of these mean "not ready".
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/i2c-dev.h>
#include <linux/i2c.h>

#include "clock.h"
#include "gpio.h"

enum { I2C_DEV_MAX = 8192, QUIRK_READ_MAX = 255, ENA_OFF_US = 2000, ENA_SETTLE_US = 3000 };

struct i2c_bus {
    struct hsm_transport base;
    int fd;
    char ena_gpio[128];
};

static struct i2c_bus *i2c_of(struct hsm_transport *t)
{
    return (struct i2c_bus *)(void *)t;
}

static enum bus_result result_of(struct hsm_transport *t, ssize_t n, size_t len)
{
    if (n >= 0 && (size_t)n == len)
        return BUS_OK;
    t->error = n >= 0 ? EIO : errno;
    switch (t->error) {
    case ENXIO:
    case EREMOTEIO:
    case EIO:
        return BUS_NACK;
    case ENODEV:
    case EBADF:
    case EINVAL:
    case EOPNOTSUPP:
    case EPERM:
    case ENOSYS:
    case EFAULT:
        return BUS_GONE;
    default: /* EAGAIN, ETIMEDOUT, EBUSY; ESHUTDOWN and EACCES while the system goes to sleep or wakes up */
        return BUS_DISTURBED;
    }
}

static enum bus_result i2c_write(struct hsm_transport *t, struct hsm_bytes message)
{
    ssize_t n;

    do
        n = write(i2c_of(t)->fd, message.ptr, message.len);
    while (n < 0 && errno == EINTR);
    return result_of(t, n, message.len);
}

static enum bus_result i2c_read(struct hsm_transport *t, uint8_t *ptr, size_t len)
{
    enum bus_result result;
    ssize_t n;

    do
        n = read(i2c_of(t)->fd, ptr, len);
    while (n < 0 && errno == EINTR);
    result = result_of(t, n, len);
    if (result != BUS_GONE || t->error != EOPNOTSUPP || len <= QUIRK_READ_MAX)
        return result;
    t->read_max = QUIRK_READ_MAX; /* an adapter that cannot read so much at once */
    return bus_read(t, ptr, len);
}

static hsm_status i2c_power_cycle(struct hsm_transport *t)
{
    return gpio_pulse(i2c_of(t)->ena_gpio, ENA_OFF_US, ENA_SETTLE_US);
}

static void i2c_close(struct hsm_transport *t)
{
    struct i2c_bus *b = i2c_of(t);

    if (b->fd >= 0)
        (void)close(b->fd);
    free(b);
}

static const struct hsm_transport_ops i2c_ops = {
    .write = i2c_write,
    .read = i2c_read,
    .now_us = clock_now_us,
    .sleep_until_us = clock_sleep_until_us,
    .close = i2c_close,
    .abandon = i2c_close,
};

static const struct hsm_transport_ops i2c_ops_with_ena = {
    .write = i2c_write,
    .read = i2c_read,
    .power_cycle = i2c_power_cycle,
    .now_us = clock_now_us,
    .sleep_until_us = clock_sleep_until_us,
    .close = i2c_close,
    .abandon = i2c_close,
};

static hsm_status denied(const char *path)
{
    struct group entry, *group = NULL;
    char names[1024]; /* getgrgid() is not for threads */
    struct stat node;

    if (stat(path, &node) == 0 && (node.st_mode & 060) == 060)
        (void)getgrgid_r(node.st_gid, &entry, names, sizeof(names), &group);
    if (group == NULL)
        return hsm_fail(HSM_ERR_DENIED,
                        "%s: permission denied to uid %u; give the node to a group (udev: GROUP=\"i2c\", "
                        "MODE=\"0660\") and this user to the group",
                        path, (unsigned)geteuid());
    return hsm_fail(HSM_ERR_DENIED, "%s: permission denied to uid %u; add this user to group %s", path,
                    (unsigned)geteuid(), group->gr_name);
}

static hsm_status open_node(struct i2c_bus *b, const char *path)
{
    struct stat node;

    if ((b->fd = open(path, O_RDWR | O_CLOEXEC)) < 0) {
        if (errno == EACCES || errno == EPERM)
            return denied(path);
        return hsm_fail(HSM_ERR_NO_TOKEN, "%s: %s; %s", path, strerror(errno),
                        errno == ENOENT
                            ? "is i2c-dev loaded (modprobe i2c-dev) and the bus enabled in the device tree? "
                              "`hsmctl bus scan` lists the buses"
                            : "the adapter behind it is gone");
    }
    if (fstat(b->fd, &node) != 0 || !S_ISCHR(node.st_mode) || major(node.st_rdev) != 89)
        return hsm_fail(HSM_ERR_NO_TOKEN, "%s is not an i2c-dev node", path);
    b->base.lock_fd = b->fd;
    (void)snprintf(b->base.state_name, sizeof(b->base.state_name), "i2c-%u", minor(node.st_rdev));
    return HSM_OK;
}

/* "lm75", or "" if nothing is known of it. */
static void driver_at(unsigned bus, unsigned addr, char *out, size_t out_len)
{
    char path[96], target[256];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/sys/bus/i2c/devices/%u-%04x/driver", bus, addr);
    n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    (void)snprintf(out, out_len, "%s", strrchr(target, '/') != NULL ? strrchr(target, '/') + 1 : "");
}

/* Its driver would be disturbed in the middle of its own messages: no I2C_SLAVE_FORCE. */
static hsm_status in_use(struct i2c_bus *b, const char *path, unsigned addr)
{
    struct stat node = { 0 };
    char driver[64];

    (void)fstat(b->fd, &node);
    driver_at(minor(node.st_rdev), addr, driver, sizeof(driver));
    return hsm_fail(
        HSM_ERR_BUSY,
        "%s: kernel driver %s%sholds address 0x%02x; unbind it (/sys/bus/i2c/devices/%u-%04x), or take "
        "it out of the device tree",
        path, driver, driver[0] != '\0' ? " " : "", addr, minor(node.st_rdev), addr);
}

static hsm_status set_address(struct i2c_bus *b, const char *path, unsigned addr)
{
    unsigned long functions = 0;
    size_t len;

    if (ioctl(b->fd, I2C_FUNCS, &functions) != 0)
        return hsm_fail(HSM_ERR_NO_TOKEN, "%s: the adapter does not answer: %s", path, strerror(errno));
    if ((functions & I2C_FUNC_I2C) == 0)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "%s: this adapter only speaks SMBus; the chip needs plain I2C messages", path);
    if (ioctl(b->fd, I2C_SLAVE, (unsigned long)addr) != 0)
        return errno == EBUSY ? in_use(b, path, addr)
                              : hsm_fail(HSM_ERR_CONFIG, "%s: address 0x%02x is refused: %s", path, addr,
                                         strerror(errno));
    (void)ioctl(b->fd, I2C_PEC, 0UL);
    len = strlen(b->base.state_name);
    (void)snprintf(b->base.state_name + len, sizeof(b->base.state_name) - len, "-%02x", addr);
    return HSM_OK;
}

hsm_status bus_open_i2c(const char *path, unsigned addr, const char *ena_gpio, struct hsm_transport **out)
{
    struct i2c_bus *b;
    hsm_status st;

    if (addr < 0x03 || addr > 0x77)
        return hsm_fail(HSM_ERR_CONFIG, "address 0x%x: 7-bit addresses are 0x03 to 0x77", addr);
    if (ena_gpio[0] != '\0' && (st = gpio_check(ena_gpio)) != HSM_OK)
        return st;
    if ((b = calloc(1, sizeof(*b))) == NULL)
        return hsm_fail(HSM_ERR_MEMORY, "out of memory for a bus");
    b->base.ops = ena_gpio[0] != '\0' ? &i2c_ops_with_ena : &i2c_ops;
    b->base.lock_fd = b->fd = -1;
    b->base.write_max = b->base.read_max = I2C_DEV_MAX;
    (void)snprintf(b->ena_gpio, sizeof(b->ena_gpio), "%s", ena_gpio);
    (void)snprintf(b->base.name, sizeof(b->base.name), "%.90s address 0x%02x", path, addr);
    if ((st = open_node(b, path)) != HSM_OK || (st = set_address(b, path, addr)) != HSM_OK) {
        i2c_close(&b->base);
        return st;
    }
    *out = &b->base;
    return HSM_OK;
}
