/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX2 tier's scan of stored vectors. maddubs wants one unsigned side: the query's magnitudes, with its signs moved to
 * the rows. Both are at most 127, so that two products fit its 16 bits. */
#include "hal/cpu/linear_avx2.h"
#include "hal/cpu/scan_tiles.h"

enum { FETCH_BYTES = 8192 };

/* n is a constant at each call. */
INLINE void tile_of(uint32_t n, const int8_t *v, const float *d, uint32_t dim, const int8_t *q,
                    float *y, size_t y_stride)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[SCAN_TILE_QUERIES][2];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
        sum[i][0] = sum[i][1] = _mm256_setzero_si256();
    for (uint32_t k = 0; k < dim; k += 4) {
        const __m256i *at = (const __m256i *)(v + (size_t)k * 16);
        if (n == SCAN_TILE_QUERIES) /* too slow for the processor's own fetching to follow */
            _mm_prefetch((const char *)at + FETCH_BYTES, _MM_HINT_T0);
        const __m256i rows[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++) {
            const __m256i four = broadcast4(q + i * dim + k), size = _mm256_abs_epi8(four);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                const __m256i pairs =
                    _mm256_maddubs_epi16(size, _mm256_sign_epi8(rows[half], four));
                sum[i][half] = _mm256_add_epi32(sum[i][half], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            _mm256_storeu_ps(
                y + i * y_stride + 8 * half,
                _mm256_mul_ps(_mm256_loadu_ps(d + 8 * half), _mm256_cvtepi32_ps(sum[i][half])));
}

void hob_cpu_scan_avx2(const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                       const int8_t *q, uint32_t n, float *y, size_t y_stride)
{
    scan_by_tiles(tile_of, v, d, panel_count, dim, q, n, y, y_stride);
}
