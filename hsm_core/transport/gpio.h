/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The enable pin of a chip, by the kernel's own interfaces: GPIO character device (uAPI v2, linux/gpio.h) or
 * sysfs. Not by libgpiod, whose versions 1 and 2 are different libraries under one name.
 */
#ifndef TRANSPORT_GPIO_H
#define TRANSPORT_GPIO_H

#include "hsm/error.h"

/** @param spec  "gpiochip0:12", "/dev/gpiochip0:12" or "/sys/class/gpio/gpio12"; ":low" behind it: low =
 * enabled */
HSM_MUST_USE hsm_status gpio_check(const char *spec);
/** Inactive for @p off_us, active, and @p settle_us more. */
HSM_MUST_USE hsm_status gpio_pulse(const char *spec, unsigned off_us, unsigned settle_us);

#endif
