/* SPDX-License-Identifier: Apache-2.0 */
/** Time for transports that are real: monotonic, microseconds. */
#ifndef TRANSPORT_CLOCK_H
#define TRANSPORT_CLOCK_H

#include "transport.h"

uint64_t clock_now_us(struct hsm_transport *t);
void clock_sleep_until_us(struct hsm_transport *t, uint64_t when_us);

#endif
