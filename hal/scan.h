/* SPDX-License-Identifier: Apache-2.0
 *
 * Exact search among stored vectors on the processor: bytes to scan and half floats to score by. A vector v of unit length
 * is kept as v ~ d * q, with one scale d and dim bytes q in -127 .. 127, in panels of 16 rows, [dim / 4][16][4], that a scan
 * reads once for up to 8 queries at the speed of memory. Its sums are exact integers, so every tier of the processor finds
 * the same. What it finds is scored again by hob_scan_dot. Owns no vectors; all functions are pure but the first two.
 * Thread: any. */
#ifndef HOB_HAL_SCAN_H
#define HOB_HAL_SCAN_H

#include "hal/base.h"

enum {
    HOB_SCAN_ROWS = 16, /* of a panel */
    HOB_SCAN_QUERIES = 8,
    HOB_SCAN_DIM_STEP = 32, /* dim is a multiple of it */
    HOB_SCAN_DIM_MAX = 4096,
};

typedef struct hob_scan hob_scan; /* the kernels of this processor, for vectors of one size */

/* HOB_EINVAL: dim; HOB_EDEVICE: the kernels fail their self-test; HOB_ENOMEM. */
HOB_MUST_CHECK int hob_scan_new(uint32_t dim, hob_scan **ret, hob_diag *diag);
void hob_scan_free(hob_scan *s);

/* q [dim] and d of v [dim]. HOB_EINVAL: v is not finite, or its length is not 1 to within a hundredth. */
HOB_MUST_CHECK int hob_scan_quantize(const hob_scan *s, const float *v, int8_t *ret_q, float *ret_d,
                                     hob_diag *diag);
/* Writes or reads one of a panel's rows; panel [16 * dim]. */
void hob_scan_put(const hob_scan *s, const int8_t *q, uint32_t row, int8_t *panel);
void hob_scan_get(const hob_scan *s, const int8_t *panel, uint32_t row, int8_t *ret_q);
/* y[i][row] = d[row] * (sum of q[i] * row), up to the query's own scale the dot product; d [16 * panel_count], queries
 * [n][dim], n 1 .. HOB_SCAN_QUERIES, y [n][y_stride]. */
void hob_scan_scores(const hob_scan *s, const int8_t *panels, const float *d, uint32_t panel_count,
                     const int8_t *queries, uint32_t n, float *y, size_t y_stride);
/* Indices, ascending, of y[i] >= floor; returns how many. ids has room for n + 16. */
uint32_t hob_scan_at_least(const hob_scan *s, const float *y, uint32_t n, float floor,
                           uint32_t *ids);

/* v [dim] to half floats; and the dot product of v with a row of those, in double precision. */
void hob_scan_to_half(const hob_scan *s, const float *v, uint16_t *ret_half);
double hob_scan_dot(const hob_scan *s, const float *v, const uint16_t *half);

#endif
