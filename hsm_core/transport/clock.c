/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

enum { SLACK_NS = 1000 };

uint64_t clock_now_us(struct hsm_transport *t)
{
    struct timespec now;

    (void)t;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The kernel may wake a thread later by its timer slack, by default 50 us: much for a pause of 300 us. It is
 * the application's thread, so it gets its slack back. */
void clock_sleep_until_us(struct hsm_transport *t, uint64_t when_us)
{
    struct timespec when = { (time_t)(when_us / 1000000), (long)(when_us % 1000000) * 1000 };
    int slack_ns = prctl(PR_GET_TIMERSLACK);

    (void)t;
    if (slack_ns > SLACK_NS)
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)SLACK_NS);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
    if (slack_ns > SLACK_NS)
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack_ns);
}
