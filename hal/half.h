/* SPDX-License-Identifier: Apache-2.0
 *
 * IEEE 754 binary16 in integer arithmetic, bit for bit what the processors' own conversions give: round to nearest
 * even, subnormals kept, NaN made quiet with the top of its payload. */
#ifndef HOB_HAL_HALF_H
#define HOB_HAL_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t hob_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float hob_bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float hob_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;

    if (exponent == 31)
        return hob_bits_float(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0));
    if (exponent)
        return hob_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    /* fraction * 2^-24 is exact in binary32 */
    float tiny = (float)fraction * 0x1p-24f;
    return hob_bits_float(sign | hob_float_bits(tiny));
}

static inline uint16_t hob_float_to_half(float f)
{
    uint32_t u = hob_float_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;

    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a >= 0x38800000u) { /* normal in binary16 */
        uint32_t round = 0xfffu + (a >> 13 & 1u);
        return (uint16_t)(sign | (a - 0x38000000u + round) >> 13);
    }
    if (a < 0x33000000u) /* below half the smallest subnormal */
        return (uint16_t)sign;
    uint32_t shift = 126 - (a >> 23), fraction = (a & 0x7fffffu) | 0x800000u;
    uint32_t kept = fraction >> shift, rest = fraction & ((1u << shift) - 1),
             half = 1u << (shift - 1);
    if (rest > half || (rest == half && (kept & 1u)))
        kept++;
    return (uint16_t)(sign | kept);
}

#endif
