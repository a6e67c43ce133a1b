/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SE05X_LINK_H
#define SE05X_LINK_H

#include "internal.h"

/** Parameters of the token specification that the link takes; NULL at the end. */
extern const char *const se05x_link_params[];

/** For tests: a link over any transport, which it then owns. @p timeout_ms 0: the default. */
HSM_MUST_USE hsm_status se05x_link_new(struct hsm_transport *t, unsigned addr, unsigned timeout_ms,
                                       const char *lock_dir, struct se05x_link **out);

#endif
