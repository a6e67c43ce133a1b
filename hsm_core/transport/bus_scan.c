/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for buses and devices. Source: Linux Documentation/i2c/dev-interface.rst; i2cdetect(8) for the ways
 * to ask */
#include "hsm/bus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/i2c-dev.h>
#include <linux/i2c.h>

#include <i2c/smbus.h>

enum { ADDR_FIRST = 0x08, ADDR_LAST = 0x77, BUSES_MAX = 256 };

/* ---- buses --------------------------------------------------------------------------------------------- */

static void read_name(unsigned number, char *out, size_t out_len)
{
    char path[64];
    FILE *f;

    out[0] = '\0';
    (void)snprintf(path, sizeof(path), "/sys/class/i2c-dev/i2c-%u/name", number);
    if ((f = fopen(path, "re")) == NULL)
        return;
    if (fgets(out, (int)out_len, f) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    (void)fclose(f);
}

static void describe(unsigned number, struct hsm_bus *bus)
{
    unsigned long funcs = 0;
    int fd;

    *bus = (struct hsm_bus){ .accessible = false };
    (void)snprintf(bus->path, sizeof(bus->path), "/dev/i2c-%u", number);
    read_name(number, bus->name, sizeof(bus->name));
    if ((fd = open(bus->path, O_RDWR | O_CLOEXEC)) < 0)
        return;
    bus->accessible = true;
    bus->plain_messages = ioctl(fd, I2C_FUNCS, &funcs) == 0 && (funcs & I2C_FUNC_I2C) != 0;
    (void)close(fd);
}

static int by_number(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

    return (x > y) - (x < y);
}

static size_t find_numbers(unsigned numbers[BUSES_MAX])
{
    DIR *dir = opendir("/dev");
    struct dirent *e;
    size_t count = 0;
    int end = 0;

    while (dir != NULL && count < BUSES_MAX && (e = readdir(dir)) != NULL)
        if (sscanf(e->d_name, "i2c-%5u%n", &numbers[count], &end) == 1 && e->d_name[end] == '\0')
            count++;
    if (dir != NULL)
        (void)closedir(dir);
    qsort(numbers, count, sizeof(numbers[0]), by_number);
    return count;
}

hsm_status hsm_bus_list(hsm_bus_fn *each, void *arg)
{
    unsigned numbers[BUSES_MAX];
    size_t i, count = find_numbers(numbers);
    struct hsm_bus bus;
    hsm_status st = HSM_OK;

    for (i = 0; i < count && st == HSM_OK; i++) {
        describe(numbers[i], &bus);
        st = each(arg, &bus);
    }
    return st;
}

/* ---- devices ------------------------------------------------------------------------------------------- */

/* An empty write is a write to some EEPROMs and clock chips; a read is one of little consequence. */
static bool reads(unsigned addr, unsigned long funcs)
{
    return (addr >= 0x30 && addr <= 0x37) || (addr >= 0x50 && addr <= 0x5f) ||
           (funcs & I2C_FUNC_SMBUS_QUICK) == 0;
}

/** @return false: nobody there */
static bool ask(int fd, unsigned addr, unsigned long funcs, enum hsm_bus_answer *answer)
{
    bool by_read = reads(addr, funcs);

    *answer = HSM_BUS_ANSWERS;
    if (ioctl(fd, I2C_SLAVE, (unsigned long)addr) != 0) {
        *answer = errno == EBUSY ? HSM_BUS_KERNEL : HSM_BUS_TROUBLE;
        return true;
    }
    if (by_read && (funcs & I2C_FUNC_SMBUS_READ_BYTE) == 0) {
        *answer = HSM_BUS_NOT_ASKED;
        return true;
    }
    if ((by_read ? i2c_smbus_read_byte(fd) : i2c_smbus_write_quick(fd, I2C_SMBUS_WRITE)) >= 0)
        return true;
    *answer = HSM_BUS_TROUBLE;
    return errno == ETIMEDOUT || errno == EAGAIN || errno == EBUSY;
}

static hsm_status scan(int fd, const char *path, unsigned spare, hsm_bus_device_fn *each, void *arg)
{
    enum hsm_bus_answer answer;
    unsigned long funcs = 0;
    hsm_status st = HSM_OK;
    unsigned addr;

    if (ioctl(fd, I2C_FUNCS, &funcs) != 0)
        return hsm_fail(HSM_ERR_NO_TOKEN, "%s is no I2C bus: %s; `hsmctl bus scan` lists those there are",
                        path, strerror(errno));
    if ((funcs & (I2C_FUNC_SMBUS_QUICK | I2C_FUNC_SMBUS_READ_BYTE)) == 0)
        return hsm_fail(HSM_ERR_UNSUPPORTED,
                        "the adapter of %s can send no message that only asks who is there", path);
    for (addr = ADDR_FIRST; addr <= ADDR_LAST && st == HSM_OK; addr++) {
        if (addr == spare)
            st = each(arg, addr, HSM_BUS_NOT_ASKED);
        else if (ask(fd, addr, funcs, &answer))
            st = each(arg, addr, answer);
    }
    return st;
}

hsm_status hsm_bus_scan(const char *path, unsigned spare, hsm_bus_device_fn *each, void *arg)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    hsm_status st;

    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return hsm_fail(HSM_ERR_DENIED, "%s may not be opened by uid %u: be root, or a member of its group",
                        path, (unsigned)geteuid());
    if (fd < 0)
        return hsm_fail(HSM_ERR_NO_TOKEN,
                        "%s: %s; `hsmctl bus scan` lists the buses there are (modprobe i2c-dev)", path,
                        strerror(errno));
    st = scan(fd, path, spare, each, arg);
    (void)close(fd);
    return st;
}
