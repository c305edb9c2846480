/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX-512 VNNI tier's scan of stored vectors. Rows become unsigned by adding 128, which is taken off exactly: sums
 * begin at -128 times that of the query's bytes. A panel by all queries is one tile, so each byte is read once. Few
 * queries wait for memory; the processor's own fetching keeps up with those, while many need to fetch ahead of it. */
#include "hal/cpu/linear_avx2.h"

enum { QUERIES = 8, FETCH_QUERIES = 5, FETCH_BYTES = 4096 };

/* n is a constant at each call. */
INLINE void scan_of(uint32_t n, const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                    const int8_t *q, float *y, size_t y_stride)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i begin[QUERIES];

#pragma GCC unroll 8
    for (uint32_t i = 0; i < n; i++) {
        __m256i sum = _mm256_setzero_si256();
        for (uint32_t k = 0; k < dim; k += 32)
            sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1),
                                      _mm256_loadu_si256((const __m256i *)(q + i * dim + k)));
        begin[i] = _mm512_set1_epi32(-128 * _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sum)));
    }
    for (uint32_t panel = 0; panel < panel_count; panel++, v += (size_t)16 * dim) {
        __m512i sum[QUERIES];
#pragma GCC unroll 8
        for (uint32_t i = 0; i < n; i++)
            sum[i] = begin[i];
        for (uint32_t k = 0; k < dim; k += 4) {
            if (n >= FETCH_QUERIES)
                _mm_prefetch((const char *)v + (size_t)k * 16 + FETCH_BYTES, _MM_HINT_T0);
            const __m512i rows = _mm512_xor_si512(_mm512_loadu_si512(v + (size_t)k * 16), flip);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < n; i++) {
                int32_t four;
                memcpy(&four, q + i * dim + k, 4);
                sum[i] = _mm512_dpbusd_epi32(sum[i], rows, _mm512_set1_epi32(four));
            }
        }
        const __m512 scale = _mm512_loadu_ps(d + panel * 16);
#pragma GCC unroll 8
        for (uint32_t i = 0; i < n; i++)
            _mm512_storeu_ps(y + i * y_stride + panel * 16,
                             _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum[i])));
    }
}

void hob_cpu_scan_avx512vnni(const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                             const int8_t *q, uint32_t n, float *y, size_t y_stride)
{
    switch (n) {
    case 1: scan_of(1, v, d, panel_count, dim, q, y, y_stride); break;
    case 2: scan_of(2, v, d, panel_count, dim, q, y, y_stride); break;
    case 3: scan_of(3, v, d, panel_count, dim, q, y, y_stride); break;
    case 4: scan_of(4, v, d, panel_count, dim, q, y, y_stride); break;
    case 5: scan_of(5, v, d, panel_count, dim, q, y, y_stride); break;
    case 6: scan_of(6, v, d, panel_count, dim, q, y, y_stride); break;
    case 7: scan_of(7, v, d, panel_count, dim, q, y, y_stride); break;
    default: scan_of(8, v, d, panel_count, dim, q, y, y_stride); break;
    }
}
