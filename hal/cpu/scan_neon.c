/* SPDX-License-Identifier: Apache-2.0
 *
 * The NEON tier's scan of stored vectors: the dot product multiplies four bytes of four rows with a lane of the query. */
#include "hal/cpu/linear_neon.h"
#include "hal/cpu/scan_tiles.h"

/* n is a constant at each call. */
INLINE void tile_of(uint32_t n, const int8_t *v, const float *d, uint32_t dim, const int8_t *q,
                    float *y, size_t y_stride)
{
    int32x4_t sum[SCAN_TILE_QUERIES][4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
        sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = vdupq_n_s32(0);
    for (uint32_t k = 0; k < dim; k += 16) {
        int8x16_t some[SCAN_TILE_QUERIES];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < n; i++)
            some[i] = vld1q_s8(q + i * dim + k);
#pragma GCC unroll 4
        for (int step = 0; step < 4; step++)
#pragma GCC unroll 4
            for (int part = 0; part < 4; part++) {
                const int8x16_t rows = vld1q_s8(v + (size_t)k * 16 + 64 * step + 16 * part);
#pragma GCC unroll 4
                for (uint32_t i = 0; i < n; i++)
                    sum[i][part] = dot_lane(sum[i][part], rows, some[i], step);
            }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++)
            vst1q_f32(y + i * y_stride + 4 * part,
                      vmulq_f32(vld1q_f32(d + 4 * part), vcvtq_f32_s32(sum[i][part])));
}

void hob_cpu_scan_neon(const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                       const int8_t *q, uint32_t n, float *y, size_t y_stride)
{
    scan_by_tiles(tile_of, v, d, panel_count, dim, q, n, y, y_stride);
}
