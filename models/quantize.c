/* SPDX-License-Identifier: Apache-2.0
 *
 * Floats to GGUF's element types. See quantize.h. */
#include "models/quantize.h"

#include <math.h>
#include <string.h>

#include "hal/half.h"

enum { Q8_0_LEN = 32, Q8_0_BYTES = 34, HALF_INFINITY = 0x7c00 };

bool hob_quantizes_to(hob_type type)
{
    return type == HOB_TYPE_F32 || type == HOB_TYPE_F16 || type == HOB_TYPE_Q8_0;
}

static size_t first_not_finite(const float *src, size_t count)
{
    size_t i = 0;
    while (i < count && isfinite(src[i]))
        i++;
    return i;
}

static size_t to_f16(const float *src, size_t count, uint8_t *dst)
{
    for (size_t i = 0; i < count; i++) {
        const uint16_t h = hob_float_to_half(src[i]);
        if ((h & HALF_INFINITY) == HALF_INFINITY)
            return i;
        memcpy(dst + 2 * i, &h, sizeof h);
    }
    return count;
}

/* Returns Q8_0_LEN, or the index of a weight too large for the block. */
static size_t to_q8_0(const float src[Q8_0_LEN], uint8_t *dst)
{
    size_t largest = 0;
    for (size_t i = 1; i < Q8_0_LEN; i++)
        if (fabsf(src[i]) > fabsf(src[largest]))
            largest = i;
    const float d = fabsf(src[largest]) / 127, inverse = d > 0 ? 1 / d : 0;
    const uint16_t half = hob_float_to_half(d);
    if (half >= HALF_INFINITY)
        return largest;
    memcpy(dst, &half, sizeof half);
    /* So small that d has no inverse: nothing is left of it in an f16 either. */
    const bool vanishes = !isfinite(inverse);
    for (int i = 0; i < Q8_0_LEN; i++)
        dst[2 + i] = vanishes ? 0 : (uint8_t)(int8_t)roundf(src[i] * inverse);
    return Q8_0_LEN;
}

size_t hob_quantize(hob_type type, const float *src, size_t count, void *dst)
{
    if (type == HOB_TYPE_F16)
        return to_f16(src, count, dst);
    const size_t finite = first_not_finite(src, count);
    if (finite < count)
        return finite;
    if (type == HOB_TYPE_F32) {
        if (count)
            memcpy(dst, src, count * sizeof *src);
        return count;
    }
    for (size_t i = 0; i < count; i += Q8_0_LEN) {
        const size_t good = to_q8_0(src + i, (uint8_t *)dst + i / Q8_0_LEN * Q8_0_BYTES);
        if (good < Q8_0_LEN)
            return i + good;
    }
    return count;
}
