/* SPDX-License-Identifier: Apache-2.0
 *
 * How a scan of stored vectors goes by tiles of a panel and up to four queries: each panel is read from memory once, by its
 * first tile, and found in the first-level cache by the others. */
#ifndef HOB_HAL_CPU_SCAN_TILES_H
#define HOB_HAL_CPU_SCAN_TILES_H

#include "hal/cpu/traits.h"

enum { SCAN_TILE_QUERIES = 4 };

/* One panel, n queries; otherwise as hob_cpu_scan_fn. n is a constant at each call, tile inlined. */
typedef void scan_tile_fn(uint32_t n, const int8_t *v, const float *d, uint32_t dim,
                          const int8_t *q, float *y, size_t y_stride);

INLINE void scan_by_tiles(scan_tile_fn *tile, const int8_t *v, const float *d, uint32_t panel_count,
                          uint32_t dim, const int8_t *q, uint32_t n, float *y, size_t y_stride)
{
    for (uint32_t panel = 0; panel < panel_count; panel++, v += (size_t)16 * dim, d += 16, y += 16)
        for (uint32_t i = 0; i < n; i += SCAN_TILE_QUERIES) {
            const int8_t *some = q + (size_t)i * dim;
            float *to = y + i * y_stride;
            switch (n - i) {
            case 1: tile(1, v, d, dim, some, to, y_stride); break;
            case 2: tile(2, v, d, dim, some, to, y_stride); break;
            case 3: tile(3, v, d, dim, some, to, y_stride); break;
            default: tile(4, v, d, dim, some, to, y_stride); break;
            }
        }
}

#endif
