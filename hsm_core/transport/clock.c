/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <errno.h>
#include <time.h>

uint64_t clock_now_us(struct hsm_transport *t)
{
    struct timespec now;

    (void)t;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void clock_sleep_until_us(struct hsm_transport *t, uint64_t when_us)
{
    struct timespec when = { (time_t)(when_us / 1000000), (long)(when_us % 1000000) * 1000 };

    (void)t;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
}
