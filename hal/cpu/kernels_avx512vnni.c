/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX-512 VNNI tier. */
#include "hal/cpu/kernels.h"

void hob_cpu_fill_avx512vnni(hob_cpu_kernels *k)
{
    k->isa = "avx512vnni";
}
