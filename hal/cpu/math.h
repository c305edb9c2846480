/* SPDX-License-Identifier: Apache-2.0
 *
 * The constants and the exponential that all tiers share. exp(x) = 2^n * e^r with n = round(x / ln 2): n is found by
 * adding 1.5 * 2^23, which leaves it in the low bits without a float-to-integer conversion (NaN passes through), r is
 * reduced in two parts, and e^r is its Taylor series to r^7 (relative error below 1e-8 before rounding). x is cut to
 * -87 .. 88, so that 2^n is always a normal number. */
#ifndef HOB_HAL_CPU_MATH_H
#define HOB_HAL_CPU_MATH_H

#include "hal/half.h"

#include <math.h>

#define HOB_EXP_LOW (-87.0f)
#define HOB_EXP_HIGH 88.0f
#define HOB_EXP_LOG2E 1.44269504f
#define HOB_EXP_MAGIC 12582912.0f /* 1.5 * 2^23 */
#define HOB_EXP_LN2_HIGH 0.693359375f
#define HOB_EXP_LN2_LOW (-2.12194440e-4f)
#define HOB_EXP_C7 (1.0f / 5040)
#define HOB_EXP_C6 (1.0f / 720)
#define HOB_EXP_C5 (1.0f / 120)
#define HOB_EXP_C4 (1.0f / 24)
#define HOB_EXP_C3 (1.0f / 6)
#define HOB_EXP_C2 0.5f

/* 2 sqrt(2 / pi) * (1, 0.044715) */
#define HOB_GELU_LINEAR 1.59576912f
#define HOB_GELU_CUBIC 0.0713548163f

/* Bits of 2^-100: a block whose largest magnitude is below becomes zeros, as 127 / max would overflow. */
#define HOB_QUANT_TINY 0x0d800000u

static inline float hob_exp(float x)
{
    x = HOB_EXP_LOW > x ? HOB_EXP_LOW : x;
    x = HOB_EXP_HIGH < x ? HOB_EXP_HIGH : x;
    float t = fmaf(x, HOB_EXP_LOG2E, HOB_EXP_MAGIC), n = t - HOB_EXP_MAGIC;
    float r = fmaf(n, -HOB_EXP_LN2_HIGH, x);
    r = fmaf(n, -HOB_EXP_LN2_LOW, r);
    float p = HOB_EXP_C7;
    p = fmaf(p, r, HOB_EXP_C6);
    p = fmaf(p, r, HOB_EXP_C5);
    p = fmaf(p, r, HOB_EXP_C4);
    p = fmaf(p, r, HOB_EXP_C3);
    p = fmaf(p, r, HOB_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return p * hob_bits_float((hob_float_bits(t) + 127u) << 23);
}

#endif
