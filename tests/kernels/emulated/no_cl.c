/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands for hal/cl where kernels-check runs under an emulator: hal/cl needs mbedTLS, which is not there for that
 * processor, and an emulated processor has no OpenCL driver. */
#include "hal/hal.h"

static int none(hob_device_info *ret, size_t cap)
{
    (void)ret;
    (void)cap;
    return 0;
}

const hob_backend hob_backend_cl = {.name = "opencl", .probe = none};
