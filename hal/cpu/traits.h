/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tuned kernels of quantized types need of hal/types.c's table as constants. */
#ifndef HOB_HAL_CPU_TRAITS_H
#define HOB_HAL_CPU_TRAITS_H

#include "hal/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct traits {
    uint32_t low_bits, high_bits, offset, group;
    bool minimum, table;
} traits;

INLINE traits traits_of(hob_kind kind)
{
    switch (kind) {
    case HOB_KIND_Q4_0: return (traits){4, 0, 8, 0, false, false};
    case HOB_KIND_Q4_1: return (traits){4, 0, 0, 0, true, false};
    case HOB_KIND_Q5_0: return (traits){4, 1, 16, 0, false, false};
    case HOB_KIND_Q5_1: return (traits){4, 1, 0, 0, true, false};
    case HOB_KIND_Q2_K: return (traits){2, 0, 0, 16, true, false};
    case HOB_KIND_Q3_K: return (traits){2, 1, 4, 16, false, false};
    case HOB_KIND_Q4_K: return (traits){4, 0, 0, 32, true, false};
    case HOB_KIND_Q5_K: return (traits){4, 1, 0, 32, true, false};
    case HOB_KIND_Q6_K: return (traits){4, 2, 32, 16, false, false};
    case HOB_KIND_IQ4_NL: return (traits){4, 0, 0, 0, false, true};
    case HOB_KIND_IQ4_XS: return (traits){4, 0, 0, 32, false, true};
    default: return (traits){8, 0, 0, 0, false, false};
    }
}

#endif
