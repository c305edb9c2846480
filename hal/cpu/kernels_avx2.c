/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX2 tier. */
#include "hal/cpu/kernels.h"

void hob_cpu_fill_avx2(hob_cpu_kernels *k)
{
    k->isa = "avx2";
}
