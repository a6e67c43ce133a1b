/* SPDX-License-Identifier: Apache-2.0 */
/* hsm_status to libcrypto's error queue, and the reason strings. */
#include <stdarg.h>
#include <string.h>

#include "keymgmt.h"

#define PLUS_ONE(name, value, text) +1
enum { STATUS_COUNT = 0 HSM_STATUS_LIST(PLUS_ONE) };
#undef PLUS_ONE

/* Indexed by status - 1. HSM_OK, whose number ends the list, comes last. */
#define REASON(name, value, text) [(value) == 0 ? STATUS_COUNT - 1 : (value)-1] = { (value), (char *)(text) },
const OSSL_ITEM prov_reason_strings[] = { HSM_STATUS_LIST(REASON) };
#undef REASON

struct hsm_ctx *prov_log_ctx(struct prov_ctx *prov)
{
    return prov->hsm != NULL ? prov->hsm : prov->spare;
}

static void set_error(struct prov_ctx *prov, uint32_t reason, const char *fmt, ...) HSM_PRINTF(3, 4);
static void set_error(struct prov_ctx *prov, uint32_t reason, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    prov->up.vset_error(prov->handle, reason, fmt, ap);
    va_end(ap);
}

int prov_raise_at(struct prov_ctx *prov, hsm_status st, const char *file, int line, const char *func)
{
    const char *text = hsm_error_text(st), *slash = strrchr(file, '/');

    hsm_log(prov_log_ctx(prov), HSM_LOG_ERROR, "%s: %s", hsm_strerror(st), text);
    if (prov->up.new_error == NULL || prov->up.vset_error == NULL)
        return 0;
    prov->up.new_error(prov->handle);
    if (prov->up.set_error_debug != NULL) /* the name alone: where it was built is nobody's business */
        prov->up.set_error_debug(prov->handle, slash == NULL ? file : slash + 1, line, func);
    set_error(prov, (uint32_t)st, "%s", text);
    return 0;
}

struct hsm_ctx *prov_hsm(struct prov_ctx *prov)
{
    if (prov->hsm == NULL)
        (void)prov_fail(prov, prov->config_status, "%s", prov->config_error);
    return prov->hsm;
}
