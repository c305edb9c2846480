/* SPDX-License-Identifier: Apache-2.0
 *
 * Small pieces that the AVX2 and later units share; included only by files compiled with at least AVX2, FMA, F16C. */
#ifndef HOB_HAL_CPU_LINEAR_AVX2_H
#define HOB_HAL_CPU_LINEAR_AVX2_H

#include "hal/cpu/traits.h"

#include <immintrin.h>
#include <string.h>

static inline __m256 load_half8(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Floats in a record of a block's unpacked scales: d[16], m[16]; with group 16 also, in lanes of 32 bits, sub[2][16] and
 * (sub_min of both halves, as a pair of int16)[16]. */
INLINE size_t record_floats(traits t)
{
    return t.group == 16 ? 80 : 32;
}

static inline __m256 load_bf16x8(const uint16_t *p)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline __m256i broadcast4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}

/* tile [n][16]: rows of one panel, n neighbouring columns. */
static inline void hob_store_tile(const hob_panels *w, const hob_cpu_output *out, uint32_t panel,
                                  uint32_t column, uint32_t n, const float *tile)
{
    uint32_t row = panel * HOB_PANEL_ROWS,
             count = w->rows - row < HOB_PANEL_ROWS ? w->rows - row : HOB_PANEL_ROWS;
    float *y = out->y + column * out->stride + row;

    for (uint32_t c = 0; c < n; c++, y += out->stride, tile += 16) {
        if (count == HOB_PANEL_ROWS) {
            __m256 low = _mm256_load_ps(tile), high = _mm256_load_ps(tile + 8);
            if (out->bias) {
                low = _mm256_add_ps(low, _mm256_loadu_ps(out->bias + row));
                high = _mm256_add_ps(high, _mm256_loadu_ps(out->bias + row + 8));
            }
            if (out->add) {
                low = _mm256_add_ps(_mm256_loadu_ps(y), low);
                high = _mm256_add_ps(_mm256_loadu_ps(y + 8), high);
            }
            _mm256_storeu_ps(y, low);
            _mm256_storeu_ps(y + 8, high);
        } else {
            for (uint32_t r = 0; r < count; r++) {
                float v = out->bias ? tile[r] + out->bias[row + r] : tile[r];
                y[r] = out->add ? y[r] + v : v;
            }
        }
    }
}

extern const hob_cpu_linear_fn hob_cpu_linear_avx2[HOB_KINDS];

#endif
