/* SPDX-License-Identifier: Apache-2.0
 *
 * See scan.h. */
#include "hal/scan.h"
#include "hal/cpu/kernels.h"
#include "hal/half.h"

#include <math.h>
#include <stdlib.h>

struct hob_scan {
    uint32_t dim;
    hob_cpu_kernels kernels;
};

int hob_scan_new(uint32_t dim, hob_scan **ret, hob_diag *diag)
{
    hob_cpu_tier tier = HOB_CPU_SCALAR;

    if (dim == 0 || dim > HOB_SCAN_DIM_MAX || dim % HOB_SCAN_DIM_STEP != 0)
        return hob_fail(diag, HOB_EINVAL,
                        "vectors of %u numbers: allowed are multiples of %d to %d", dim,
                        HOB_SCAN_DIM_STEP, HOB_SCAN_DIM_MAX);
    int rc = hob_cpu_best_tier(&tier, diag);
    if (rc < 0)
        return rc;
    hob_scan *s = calloc(1, sizeof *s);
    if (!s)
        return hob_fail(diag, HOB_ENOMEM, "vector search: out of memory");
    s->dim = dim;
    hob_cpu_kernels_fill(tier, &s->kernels);
    rc = hob_cpu_self_test(&s->kernels, diag);
    if (rc < 0) {
        free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void hob_scan_free(hob_scan *s)
{
    free(s);
}

int hob_scan_quantize(const hob_scan *s, const float *v, int8_t *ret_q, float *ret_d,
                      hob_diag *diag)
{
    enum { LANES = 4 }; /* sums that do not wait for one another */
    const float round =
        12582912.0f; /* 1.5 * 2^23: what is added to it loses its fraction, to even */
    float square[LANES] = {0};
    uint32_t most[LANES] = {0}; /* magnitudes compare as their bits do */

    for (const float *f = v; f < v + s->dim; f += LANES)
#pragma GCC unroll 4
        for (size_t l = 0; l < LANES; l++) {
            const uint32_t size = hob_float_bits(f[l]) & 0x7fffffffu;
            most[l] = size > most[l] ? size : most[l];
            square[l] += f[l] * f[l];
        }
    const float length = sqrtf((square[0] + square[1]) + (square[2] + square[3]));
    if (!(length >= 0.99f && length <= 1.01f)) /* nor NaN */
        return hob_fail(diag, HOB_EINVAL, "a vector has the length %g: allowed 1", (double)length);
    for (uint32_t l = 1; l < LANES; l++)
        most[0] = most[l] > most[0] ? most[l] : most[0];
    const float largest = hob_bits_float(most[0]), inverse = 127.0f / largest;
    for (uint32_t k = 0; k < s->dim; k++)
        ret_q[k] = (int8_t)(hob_float_bits(v[k] * inverse + round) & 0xffu);
    *ret_d = largest / 127.0f;
    return 0;
}

void hob_scan_put(const hob_scan *s, const int8_t *q, uint32_t row, int8_t *panel)
{
    for (uint32_t k = 0; k < s->dim; k += 4)
        memcpy(panel + (size_t)k * HOB_SCAN_ROWS + row * 4, q + k, 4);
}

void hob_scan_get(const hob_scan *s, const int8_t *panel, uint32_t row, int8_t *ret_q)
{
    for (uint32_t k = 0; k < s->dim; k += 4)
        memcpy(ret_q + k, panel + (size_t)k * HOB_SCAN_ROWS + row * 4, 4);
}

void hob_scan_scores(const hob_scan *s, const int8_t *panels, const float *d, uint32_t panel_count,
                     const int8_t *queries, uint32_t n, float *y, size_t y_stride)
{
    s->kernels.scan(panels, d, panel_count, s->dim, queries, n, y, y_stride);
}

uint32_t hob_scan_at_least(const hob_scan *s, const float *y, uint32_t n, float floor,
                           uint32_t *ids)
{
    return s->kernels.at_least(y, n, floor, ids);
}

void hob_scan_to_half(const hob_scan *s, const float *v, uint16_t *ret_half)
{
    s->kernels.to_half(v, ret_half, s->dim);
}

double hob_scan_dot(const hob_scan *s, const float *v, const uint16_t *half)
{
    enum { PART = HOB_SCAN_DIM_STEP, LANES = 8 };
    float row[PART];
    double sum[LANES] = {0};

    for (const float *end = v + s->dim; v < end; half += PART) {
        s->kernels.from_half(half, row, PART);
        for (const float *r = row; r < row + PART; r += LANES, v += LANES)
#pragma GCC unroll 8
            for (size_t l = 0; l < LANES; l++)
                sum[l] += (double)v[l] * (double)r[l]; /* the product is exact */
    }
    for (uint32_t width = LANES / 2; width; width /= 2)
        for (uint32_t l = 0; l < width; l++)
            sum[l] += sum[l + width];
    return sum[0];
}
