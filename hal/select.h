/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing a device: what there is, what each is good for, and why one is used or not. */
#ifndef HOB_HAL_SELECT_H
#define HOB_HAL_SELECT_H

#include "hal/hal.h"

enum { HOB_CHOICES_MAX = 16 };

/* The choice for one device: what was found and why it is or is not used. */
typedef struct hob_choice {
    hob_device_info info;
    bool usable;
    float speed; /* of decoding, the CPU's is 1; 0: not timed */
    char reason[160];
} hob_choice;

/* Looks at all devices, tests and ranks them: `auto` takes the first usable one. Returns the number written. May take
 * seconds where kernels are to be compiled. Forks: call it before the process opens an OpenCL device, whose driver's threads
 * a child would lack, and from its only thread. */
int hob_hal_list(hob_choice *ret, size_t cap);

/* The device of that name: "auto", "cpu", "opencl:<n>"; NULL is "auto". HOB_ENOENT when there is none, HOB_EDEVICE with the
 * reason when it must not be used. options: with which devices are tried; NULL: the usual ones. Forks, as hob_hal_list. */
HOB_MUST_CHECK int hob_hal_choose(const char *name, const hob_device_options *options,
                                  hob_choice *ret, hob_diag *diag);

/* Whether choosing that name loads OpenCL drivers: one is named, or auto meets a machine with a GPU's node. Thread: any. */
bool hob_hal_tries_drivers(const char *name);

/* Opens what was chosen. */
HOB_MUST_CHECK int hob_hal_open_chosen(const hob_choice *c, const hob_device_options *options,
                                       hob_device **ret, hob_diag *diag);
/* Both. */
HOB_MUST_CHECK int hob_hal_open(const char *name, const hob_device_options *options,
                                hob_device **ret, hob_diag *diag);

#endif
