/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of drivers built in; CMake writes driver_list.inc from HSM_DRIVERS as X(name) lines. */
#include <string.h>

#include "internal.h"

#define X(name) extern const struct hsm_driver hsm_driver_##name;
#include "driver_list.inc"
#undef X

static const struct hsm_driver *const drivers[] = {
#define X(name) &hsm_driver_##name,
#include "driver_list.inc"
#undef X
};

const struct hsm_driver *driver_find(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    return NULL;
}

const char *driver_names(void)
{
    return ""
#define X(name) #name " "
#include "driver_list.inc"
#undef X
        ;
}
