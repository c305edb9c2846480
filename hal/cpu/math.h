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

/* x Phi(x) = max(x, 0) - a Phi(-a) with a = |x|, and Phi(-a) is a polynomial in u = a / 2.75 - 1 up to a = 5.5, where the
 * product has come down to 1e-7: fitted by least squares reweighted to the least largest error. |error| <= 4e-7, and
 * <= 2.2e-7 |x|. */
#define HOB_GELU_EDGE 5.5f
#define HOB_GELU_NARROW 0.363636364f
enum { HOB_GELU_DEGREE = 16 };
static const float hob_gelu_tail[HOB_GELU_DEGREE + 1] = {
    0.00297977134f, -0.0250076978f, 0.0945579559f,   -0.206825754f,   0.271898863f,  -0.176923426f,
    -0.0515669214f, 0.217006489f,   -0.161927481f,   -0.030670286f,   0.129609114f,  -0.055765613f,
    -0.0376213949f, 0.0354212876f,  0.000545202399f, -0.00723504126f, 0.00152494065f};

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
