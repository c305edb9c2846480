/* SPDX-License-Identifier: Apache-2.0
 *
 * Small pieces that the NEON units share; included only by files compiled for aarch64 with the dot product. */
#ifndef HOB_HAL_CPU_LINEAR_NEON_H
#define HOB_HAL_CPU_LINEAR_NEON_H

#include "hal/cpu/traits.h"

#include <arm_neon.h>

enum { TILE_COLUMNS = 4 };

INLINE float32x4_t load_half4(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

/* acc + w * x[lane]; the lane must be a constant in the end, which a switch lets an unrolled loop promise. */
INLINE float32x4_t fma_lane(float32x4_t acc, float32x4_t w, float32x4_t x, int lane)
{
    switch (lane) {
    case 0: return vfmaq_laneq_f32(acc, w, x, 0);
    case 1: return vfmaq_laneq_f32(acc, w, x, 1);
    case 2: return vfmaq_laneq_f32(acc, w, x, 2);
    default: return vfmaq_laneq_f32(acc, w, x, 3);
    }
}

/* acc + the 4 products of w with x's lane, which must be a constant in the end. */
INLINE int32x4_t dot_lane(int32x4_t acc, int8x16_t w, int8x16_t x, int lane)
{
    switch (lane) {
    case 0: return vdotq_laneq_s32(acc, w, x, 0);
    case 1: return vdotq_laneq_s32(acc, w, x, 1);
    case 2: return vdotq_laneq_s32(acc, w, x, 2);
    default: return vdotq_laneq_s32(acc, w, x, 3);
    }
}

/* 16 neighbouring weights of a float type; kind is a constant. */
INLINE void load_lanes(hob_kind kind, const void *p, float32x4_t w[4])
{
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        if (kind == HOB_KIND_F32)
            w[v] = vld1q_f32((const float *)p + 4 * v);
        else if (kind == HOB_KIND_F16)
            w[v] = load_half4((const uint16_t *)p + 4 * v);
        else
            w[v] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)p + 4 * v), 16));
}

/* acc[c][lane] = fma(w[k][lane], x[c][k], acc[c][lane]), k ascending below count. w: rows of 16 lanes, w_stride bytes apart.
 * kind and n, the columns, are constants at each call, so that the accumulators live in registers. */
INLINE void fma_tile(hob_kind kind, const uint8_t *w, size_t w_stride, const float *x,
                     size_t x_stride, uint32_t n, uint32_t count, float32x4_t acc[TILE_COLUMNS][4])
{
    uint32_t k = 0;

    for (; k + 4 <= count; k += 4) {
        float32x4_t four[TILE_COLUMNS], lanes[4];
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n; c++)
            four[c] = vld1q_f32(x + c * x_stride + k);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++, w += w_stride) {
            load_lanes(kind, w, lanes);
#pragma GCC unroll 4
            for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 4
                for (int v = 0; v < 4; v++)
                    acc[c][v] = fma_lane(acc[c][v], lanes[v], four[c], i);
        }
    }
    for (; k < count; k++, w += w_stride) {
        float32x4_t lanes[4];
        load_lanes(kind, w, lanes);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                acc[c][v] = vfmaq_n_f32(acc[c][v], lanes[v], x[c * x_stride + k]);
    }
}

void hob_cpu_fill_linear_neon(hob_cpu_kernels *k);

#endif
