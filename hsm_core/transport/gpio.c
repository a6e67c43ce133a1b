/* SPDX-License-Identifier: Apache-2.0 */
#include "gpio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/gpio.h>

#include "clock.h"

#define SYSFS "/sys/class/gpio/"

struct pin {
    char path[128]; /* character device, or the sysfs folder of the line */
    bool sysfs, active_low;
    unsigned line;
};

static hsm_status parse(const char *spec, struct pin *pin)
{
    char text[128], *colon, *end;
    size_t len = strlen(spec);

    *pin = (struct pin){ .line = 0 };
    if (len < 3 || len >= sizeof(text) - 8)
        goto bad;
    memcpy(text, spec, len + 1);
    if (len > 4 && strcmp(text + len - 4, ":low") == 0) {
        pin->active_low = true;
        text[len - 4] = '\0';
    }
    if (strncmp(text, SYSFS, strlen(SYSFS)) == 0) {
        pin->sysfs = true;
        (void)snprintf(pin->path, sizeof(pin->path), "%s", text);
        return HSM_OK;
    }
    if ((colon = strrchr(text, ':')) == NULL || colon == text)
        goto bad;
    *colon++ = '\0';
    pin->line = (unsigned)strtoul(colon, &end, 10);
    if (*colon < '0' || *colon > '9' || *end != '\0' || end - colon > 5)
        goto bad;
    (void)snprintf(pin->path, sizeof(pin->path), "%s%.100s", text[0] == '/' ? "" : "/dev/", text);
    return HSM_OK;
bad:
    return hsm_fail(
        HSM_ERR_CONFIG,
        "ena-gpio=%s is not known: use gpiochip0:12 or /sys/class/gpio/gpio12, with :low behind it if low "
        "means enabled",
        spec);
}

hsm_status gpio_check(const char *spec)
{
    struct pin pin;

    return parse(spec, &pin);
}

static hsm_status cannot(const struct pin *pin, const char *what)
{
    return hsm_fail(errno == EACCES || errno == EPERM ? HSM_ERR_DENIED : HSM_ERR_TOKEN_IO,
                    "enable pin %s line %u: cannot %s: %s", pin->path, pin->line, what, strerror(errno));
}

/* Not usleep(): a signal would cut it short. */
static void wait_us(unsigned us)
{
    clock_sleep_until_us(NULL, clock_now_us(NULL) + us);
}

static hsm_status pulse_sysfs(const struct pin *pin, unsigned off_us, unsigned settle_us)
{
    hsm_status st = HSM_OK;
    char path[160];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/value", pin->path);
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return cannot(pin, "open it (exported, direction out?)");
    if (write(fd, pin->active_low ? "1" : "0", 1) != 1) {
        st = cannot(pin, "switch it off");
    } else {
        wait_us(off_us);
        if (write(fd, pin->active_low ? "0" : "1", 1) != 1)
            st = cannot(pin, "switch it on again");
        wait_us(settle_us);
    }
    (void)close(fd);
    return st;
}

/* Others that use the line are named; and an input with a pull-up, as a board may have it, becomes one again.
 */
static hsm_status look_at_line(const struct pin *pin, int chip, bool *was_input)
{
    struct gpio_v2_line_info info = { .offset = pin->line };

    if (ioctl(chip, GPIO_V2_GET_LINEINFO_IOCTL, &info) != 0)
        return cannot(pin, "look at the line");
    if ((info.flags & GPIO_V2_LINE_FLAG_USED) != 0)
        return hsm_fail(HSM_ERR_BUSY, "enable pin %s line %u is in use by '%.32s'", pin->path, pin->line,
                        info.consumer);
    *was_input = (info.flags & GPIO_V2_LINE_FLAG_OUTPUT) == 0;
    return HSM_OK;
}

static void back_to_input(int fd)
{
    struct gpio_v2_line_config input = { .flags = GPIO_V2_LINE_FLAG_INPUT };

    (void)ioctl(fd, GPIO_V2_LINE_SET_CONFIG_IOCTL, &input);
}

static bool set_line(int fd, bool on)
{
    struct gpio_v2_line_values values = { .bits = on, .mask = 1 };

    return ioctl(fd, GPIO_V2_LINE_SET_VALUES_IOCTL, &values) == 0;
}

static hsm_status pulse_chip(const struct pin *pin, unsigned off_us, unsigned settle_us)
{
    struct gpio_v2_line_request request = { .num_lines = 1, .consumer = "hsm se05x enable" };
    int chip = open(pin->path, O_RDWR | O_CLOEXEC);
    bool was_input = false;
    hsm_status st;

    if (chip < 0)
        return cannot(pin, "open it");
    if ((st = look_at_line(pin, chip, &was_input)) != HSM_OK) {
        (void)close(chip);
        return st;
    }
    request.offsets[0] = pin->line;
    request.config.flags = GPIO_V2_LINE_FLAG_OUTPUT | (pin->active_low ? GPIO_V2_LINE_FLAG_ACTIVE_LOW : 0);
    if (ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &request) != 0) {
        st = cannot(pin, "take the line");
    } else { /* requested as 0: the chip is off already */
        wait_us(off_us);
        if (!set_line(request.fd, true))
            st = cannot(pin, "switch it on again");
        if (was_input)
            back_to_input(request.fd);
        wait_us(settle_us);
        (void)close(request.fd);
    }
    (void)close(chip);
    return st;
}

hsm_status gpio_pulse(const char *spec, unsigned off_us, unsigned settle_us)
{
    struct pin pin;
    hsm_status st = parse(spec, &pin);

    if (st != HSM_OK)
        return st;
    return pin.sysfs ? pulse_sysfs(&pin, off_us, settle_us) : pulse_chip(&pin, off_us, settle_us);
}
