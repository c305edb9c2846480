/* SPDX-License-Identifier: Apache-2.0
 *
 * The NEON tier apart from its linears: norm, quantization, rotation, gates, half conversion, attention, logits. The 16
 * virtual accumulators of a reduction are four vectors; tails are padded with zeros, which add nothing. */
#include "hal/cpu/linear_neon.h"
#include "hal/cpu/math.h"

#include <string.h>

INLINE float reduce16(const float32x4_t a[4])
{
    const float32x4_t four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* x where it is above most: NaN never is. */
INLINE float32x4_t larger4(float32x4_t x, float32x4_t most)
{
    return vbslq_f32(vcgtq_f32(x, most), x, most);
}

INLINE float32x4_t exp4(float32x4_t x)
{
    const float32x4_t magic = vdupq_n_f32(HOB_EXP_MAGIC);
    x = vmaxq_f32(x, vdupq_n_f32(HOB_EXP_LOW)); /* of NaN: NaN */
    x = vminq_f32(x, vdupq_n_f32(HOB_EXP_HIGH));
    const float32x4_t t = vfmaq_f32(magic, x, vdupq_n_f32(HOB_EXP_LOG2E)), n = vsubq_f32(t, magic);
    float32x4_t r = vfmaq_f32(x, n, vdupq_n_f32(-HOB_EXP_LN2_HIGH));
    r = vfmaq_f32(r, n, vdupq_n_f32(-HOB_EXP_LN2_LOW));
    float32x4_t p = vdupq_n_f32(HOB_EXP_C7);
    p = vfmaq_f32(vdupq_n_f32(HOB_EXP_C6), p, r);
    p = vfmaq_f32(vdupq_n_f32(HOB_EXP_C5), p, r);
    p = vfmaq_f32(vdupq_n_f32(HOB_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(HOB_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(HOB_EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(127)), 23);
    return vmulq_f32(p, vreinterpretq_f32_s32(power));
}

static void rms_norm(const float *x, const float *w, float eps, float *y, uint32_t n)
{
    float32x4_t a[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float rest[16] = {0};
    uint32_t i = 0;

    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const float32x4_t f = vld1q_f32(x + i + 4 * v);
            a[v] = vfmaq_f32(a[v], f, f);
        }
    memcpy(rest, x + i, (n - i) * sizeof *x);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const float32x4_t f = vld1q_f32(rest + 4 * v);
        a[v] = vfmaq_f32(a[v], f, f);
    }
    const float scale = 1.0f / sqrtf(reduce16(a) / (float)n + eps);
    for (i = 0; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), scale), vld1q_f32(w + i)));
    for (; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

/* 16 numbers from x on, of which `left` are there; zeros behind them. */
INLINE void load16(const float *x, uint32_t left, float32x4_t ret[4])
{
    float some[16] = {0};

    if (left < 16) {
        memcpy(some, x, left * sizeof *x);
        x = some;
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        ret[v] = vld1q_f32(x + 4 * v);
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    float32x4_t a[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)}, f[4];

    for (uint32_t i = 0; i < n; i += 16) {
        load16(x + i, n - i, f);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            a[v] = vaddq_f32(a[v], f[v]);
    }
    const float mean = reduce16(a) / (float)n;
    const float32x4_t mean4 = vdupq_n_f32(mean);
    float off[16]; /* of the last 16: zeros behind the end */
    a[0] = a[1] = a[2] = a[3] = vdupq_n_f32(0);
    for (uint32_t i = 0; i < n; i += 16) {
        load16(x + i, n - i, f);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            f[v] = vsubq_f32(f[v], mean4);
        if (n - i < 16) {
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                vst1q_f32(off + 4 * v, f[v]);
            load16(off, n - i, f);
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            a[v] = vfmaq_f32(a[v], f[v], f[v]);
    }
    const float scale = 1.0f / sqrtf(reduce16(a) / (float)n + eps);
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t d = vmulq_n_f32(vsubq_f32(vld1q_f32(x + i), mean4), scale);
        vst1q_f32(y + i, vfmaq_f32(vld1q_f32(b + i), d, vld1q_f32(w + i)));
    }
    for (; i < n; i++)
        y[i] = fmaf((x[i] - mean) * scale, w[i], b[i]);
}

static void quantize(const float *x, uint32_t blocks, int8_t *q, hob_cpu_scale *scales)
{
    for (uint32_t b = 0; b < blocks; b++, x += 32, q += 32) {
        float32x4_t f[8];
        uint32x4_t top = vdupq_n_u32(0); /* magnitudes compare as their bits do */
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            f[i] = vld1q_f32(x + 4 * i);
            top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(f[i])));
        }
        const uint32_t most_bits = vmaxvq_u32(top);
        if (most_bits >= 0x7f800000u || most_bits < HOB_QUANT_TINY) {
            const float d = most_bits >= 0x7f800000u ? hob_bits_float(0x7fc00000u) : 0.0f;
            memset(q, 0, 32);
            scales[b] = (hob_cpu_scale){.d = d, .s = d};
            continue;
        }
        const float most = hob_bits_float(most_bits), inverse = 127.0f / most;
        int32_t half[2];
        int16_t pairs[2][4]; /* sums of q with k % 4 in {0, 1}, and {2, 3} */
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            int32x4_t n[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                n[i] = vcvtnq_s32_f32(vmulq_n_f32(f[4 * h + i], inverse));
            const int16x8_t low = vmovn_high_s32(vmovn_s32(n[0]), n[1]),
                            high = vmovn_high_s32(vmovn_s32(n[2]), n[3]);
            vst1q_s8(q + 16 * h, vmovn_high_s16(vmovn_s16(low), high));
            const int16x8_t sums = vaddq_s16(low, high);
            half[h] = vaddvq_s16(sums); /* at most 16 * 127 */
            const int16x4_t four = vadd_s16(vget_low_s16(sums), vget_high_s16(sums));
            vst1_s16(pairs[h], vpadd_s16(four, four));
        }
        const int32_t total = half[0] + half[1];
        scales[b] = (hob_cpu_scale){.d = most / 127.0f,
                                    .s = most / 127.0f * (float)total,
                                    .sum = total,
                                    .half = {(int16_t)half[0], (int16_t)half[1]}};
        for (int i = 0; i < 2; i++) {
            scales[b].excess[i] = (int16_t)(16 * (pairs[0][i] + pairs[1][i]));
            scales[b].half_excess[0][i] = (int16_t)(32 * pairs[0][i]);
            scales[b].half_excess[1][i] = (int16_t)(32 * pairs[1][i]);
        }
    }
}

static void rope(float *x, uint32_t heads, uint32_t head_dim, uint32_t n_rot, bool neox,
                 const float *cosine, const float *sine)
{
    const uint32_t half = n_rot / 2;

    for (uint32_t h = 0; h < heads; h++, x += head_dim) {
        uint32_t i = 0;
        for (; i + 4 <= half; i += 4) {
            const float32x4_t c = vld1q_f32(cosine + i), s = vld1q_f32(sine + i);
            float32x4x2_t pair;
            if (neox) {
                pair.val[0] = vld1q_f32(x + i);
                pair.val[1] = vld1q_f32(x + half + i);
            } else {
                pair = vld2q_f32(x + 2 * i);
            }
            const float32x4_t a = pair.val[0], b = pair.val[1];
            pair.val[0] = vfmaq_f32(vnegq_f32(vmulq_f32(b, s)), a, c);
            pair.val[1] = vfmaq_f32(vmulq_f32(a, s), b, c);
            if (neox) {
                vst1q_f32(x + i, pair.val[0]);
                vst1q_f32(x + half + i, pair.val[1]);
            } else {
                vst2q_f32(x + 2 * i, pair);
            }
        }
        for (; i < half; i++) {
            float *a = neox ? x + i : x + 2 * i, *b = neox ? x + half + i : x + 2 * i + 1;
            const float a_sine = *a * sine[i], b_sine = *b * sine[i];
            *a = fmaf(*a, cosine[i], -b_sine);
            *b = fmaf(*b, cosine[i], a_sine);
        }
    }
}

INLINE float32x4_t gelu4(float32x4_t x)
{
    const float32x4_t zero = vdupq_n_f32(0),
                      a = vminq_f32(vdupq_n_f32(HOB_GELU_EDGE), vabsq_f32(x)),
                      u = vfmaq_f32(vdupq_n_f32(-1.0f), a, vdupq_n_f32(HOB_GELU_NARROW));
    float32x4_t p = vdupq_n_f32(hob_gelu_tail[HOB_GELU_DEGREE]);
#pragma GCC unroll 16
    for (int i = HOB_GELU_DEGREE - 1; i >= 0; i--)
        p = vfmaq_f32(vdupq_n_f32(hob_gelu_tail[i]), p, u);
    return vsubq_f32(vbslq_f32(vcgtq_f32(zero, x), zero, x), vmulq_f32(a, p));
}

/* kind is a constant at each call. */
INLINE float32x4_t activate(hob_gate_kind kind, float32x4_t g)
{
    float32x4_t z = g;
    if (kind == HOB_GATE_GELU)
        return gelu4(g);
    if (kind == HOB_GATE_GELU_TANH)
        z = vmulq_f32(z, vfmaq_f32(vdupq_n_f32(HOB_GELU_LINEAR), vmulq_f32(z, z),
                                   vdupq_n_f32(HOB_GELU_CUBIC)));
    return vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.0f), exp4(vnegq_f32(z))));
}

INLINE void gates(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    float rest[4] = {0};
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        const float32x4_t v = activate(kind, vld1q_f32(g + i));
        vst1q_f32(out + i, up ? vmulq_f32(v, vld1q_f32(up + i)) : v);
    }
    memcpy(rest, g + i, (n - i) * sizeof *g);
    vst1q_f32(rest, activate(kind, vld1q_f32(rest)));
    for (size_t k = 0; i + k < n; k++)
        out[i + k] = up ? rest[k] * up[i + k] : rest[k];
}

static void gate(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    switch (kind) {
    case HOB_GATE_SILU: gates(HOB_GATE_SILU, g, up, out, n); break;
    case HOB_GATE_GELU_TANH: gates(HOB_GATE_GELU_TANH, g, up, out, n); break;
    case HOB_GATE_GELU: gates(HOB_GATE_GELU, g, up, out, n); break;
    }
}

static void to_half(const float *x, uint16_t *y, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    for (; i < n; i++)
        y[i] = hob_float_to_half(x[i]);
}

static void from_half(const uint16_t *x, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, load_half4(x + i));
    for (; i < n; i++)
        y[i] = hob_half_to_float(x[i]);
}

static void scale_lanes(const int8_t *q, const float *d, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const int16x8_t v = vmovl_s8(vld1_s8(q + i));
        const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))),
                          high = vcvtq_f32_s32(vmovl_high_s16(v));
        vst1q_f32(y + i, vmulq_f32(vld1q_f32(d + i), low));
        vst1q_f32(y + i + 4, vmulq_f32(vld1q_f32(d + i + 4), high));
    }
    for (; i < n; i++)
        y[i] = d[i] * (float)q[i];
}

/* 16 of the 32 positions by n queries, k of f16 or f32; n and kind are constants at each call. */
INLINE void scores_of(hob_kind kind, const float *q, size_t q_stride, uint32_t n, const uint8_t *k,
                      uint32_t head_dim, float *s)
{
    float32x4_t acc[TILE_COLUMNS][4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = vdupq_n_f32(0);
    fma_tile(kind, k, kind == HOB_KIND_F16 ? 64 : 128, q, q_stride, n, head_dim, acc);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            vst1q_f32(s + 32 * i + 4 * v, acc[i][v]);
}

INLINE void scores(hob_kind kind, const float *q, size_t q_stride, uint32_t n, const void *from,
                   uint32_t head_dim, float *s)
{
    const size_t each = kind == HOB_KIND_F16 ? 2 : 4;

    for (uint32_t taken; n; n -= taken, q += taken * q_stride, s += 32 * taken) {
        taken = n < TILE_COLUMNS ? n : TILE_COLUMNS;
        for (int p = 0; p < 32; p += 16) {
            const uint8_t *k = (const uint8_t *)from + p * each;
            switch (taken) {
            case 4: scores_of(kind, q, q_stride, 4, k, head_dim, s + p); break;
            case 3: scores_of(kind, q, q_stride, 3, k, head_dim, s + p); break;
            case 2: scores_of(kind, q, q_stride, 2, k, head_dim, s + p); break;
            default: scores_of(kind, q, q_stride, 1, k, head_dim, s + p);
            }
        }
    }
}

static void attend_scores(const float *q, size_t q_stride, uint32_t n, const float *k,
                          uint32_t head_dim, float *s)
{
    scores(HOB_KIND_F32, q, q_stride, n, k, head_dim, s);
}

static void attend_scores_half(const float *q, size_t q_stride, uint32_t n, const uint16_t *k,
                               const uint16_t *next, uint32_t head_dim, float *s)
{
    (void)next;
    scores(HOB_KIND_F16, q, q_stride, n, k, head_dim, s);
}

/* 0 .. 3, whose lanes tell what lies within bounds. */
INLINE uint32x4_t lane_numbers(void)
{
    return vcombine_u32(vcreate_u32(UINT64_C(1) << 32), vcreate_u32(UINT64_C(3) << 32 | 2));
}

INLINE float32x4_t zero_unless(float32x4_t x, uint32x4_t mask)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), mask));
}

static float attend_softmax(float *s, uint32_t lo, uint32_t hi, float state[2])
{
    const uint32x4_t from = vdupq_n_u32(lo), to = vdupq_n_u32(hi);
    uint32x4_t lane = lane_numbers(), inside[8];
    float32x4_t v[8], sums[4], most4 = vdupq_n_f32(state[0]);

#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        inside[i] = vandq_u32(vcgeq_u32(lane, from), vcltq_u32(lane, to));
        v[i] = vld1q_f32(s + 4 * i);
        most4 = larger4(vbslq_f32(inside[i], v[i], vdupq_n_f32(-INFINITY)), most4);
        lane = vaddq_u32(lane, vdupq_n_u32(4));
    }
    const float most = vmaxvq_f32(most4);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        v[i] = zero_unless(exp4(vsubq_f32(v[i], vdupq_n_f32(most))), inside[i]);
        vst1q_f32(s + 4 * i, v[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        sums[i] = vaddq_f32(v[i], v[i + 4]);
    const float scale = hob_exp(state[0] - most);
    state[0] = most;
    state[1] = fmaf(state[1], scale, reduce16(sums));
    return scale;
}

/* n queries by 16 dimensions, v of f16 or f32; n and kind are constants at each call. */
INLINE void values_of(hob_kind kind, const float *s, const float *scale, uint32_t n, uint32_t lo,
                      uint32_t hi, const uint8_t *v, uint32_t width, float *o)
{
    const size_t row_bytes = (size_t)width * (kind == HOB_KIND_F16 ? 2 : 4);
    float32x4_t acc[TILE_COLUMNS][4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            acc[i][j] = vmulq_n_f32(vld1q_f32(o + i * width + 4 * j), scale[i]);
    fma_tile(kind, v + lo * row_bytes, row_bytes, s + lo, 32, n, hi - lo, acc);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            vst1q_f32(o + i * width + 4 * j, acc[i][j]);
}

INLINE void values(hob_kind kind, const float *s, const float *scale, uint32_t n, uint32_t lo,
                   uint32_t hi, const void *from, uint32_t width, float *o)
{
    const size_t each = kind == HOB_KIND_F16 ? 2 : 4;

    for (uint32_t taken; n; n -= taken, s += 32 * taken, scale += taken, o += taken * width) {
        taken = n < TILE_COLUMNS ? n : TILE_COLUMNS;
        for (uint32_t j = 0; j < width; j += 16) {
            const uint8_t *v = (const uint8_t *)from + j * each;
            switch (taken) {
            case 4: values_of(kind, s, scale, 4, lo, hi, v, width, o + j); break;
            case 3: values_of(kind, s, scale, 3, lo, hi, v, width, o + j); break;
            case 2: values_of(kind, s, scale, 2, lo, hi, v, width, o + j); break;
            default: values_of(kind, s, scale, 1, lo, hi, v, width, o + j);
            }
        }
    }
}

static void attend_values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                          const float *v, uint32_t width, float *o)
{
    values(HOB_KIND_F32, s, scale, n, lo, hi, v, width, o);
}

static void attend_values_half(const float *s, const float *scale, uint32_t n, uint32_t lo,
                               uint32_t hi, const uint16_t *v, const uint16_t *next, uint32_t width,
                               float *o)
{
    (void)next;
    values(HOB_KIND_F16, s, scale, n, lo, hi, v, width, o);
}

static float max_of(const float *x, size_t n)
{
    float32x4_t most4[4];
    size_t i = 0;

    most4[0] = most4[1] = most4[2] = most4[3] = vdupq_n_f32(-INFINITY);
    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            most4[v] = larger4(vld1q_f32(x + i + 4 * v), most4[v]);
    float most =
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(most4[0], most4[1]), vmaxq_f32(most4[2], most4[3])));
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static float exp_sum(const float *x, size_t n, float scale, float shift)
{
    const float32x4_t scale4 = vdupq_n_f32(scale), shift4 = vdupq_n_f32(-shift);
    float32x4_t a[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    uint32x4_t lane = lane_numbers();
    float rest[16] = {0};
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            a[v] = vaddq_f32(a[v], exp4(vfmaq_f32(shift4, vld1q_f32(x + i + 4 * v), scale4)));
    memcpy(rest, x + i, (n - i) * sizeof *x);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const float32x4_t e = exp4(vfmaq_f32(shift4, vld1q_f32(rest + 4 * v), scale4));
        a[v] = vaddq_f32(a[v], zero_unless(e, vcltq_u32(lane, vdupq_n_u32((uint32_t)(n - i)))));
        lane = vaddq_u32(lane, vdupq_n_u32(4));
    }
    return reduce16(a);
}

static uint32_t at_least(const float *x, uint32_t n, float floor, uint32_t *ids)
{
    const float32x4_t least = vdupq_n_f32(floor);
    uint32_t count = 0, i = 0;

    for (; i + 16 <= n; i += 16) {
        uint16x8_t hit[2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            hit[h] =
                vuzp1q_u16(vreinterpretq_u16_u32(vcgeq_f32(vld1q_f32(x + i + 8 * h), least)),
                           vreinterpretq_u16_u32(vcgeq_f32(vld1q_f32(x + i + 8 * h + 4), least)));
        const uint8x16_t bytes =
            vuzp1q_u8(vreinterpretq_u8_u16(hit[0]), vreinterpretq_u8_u16(hit[1]));
        /* 4 bits of each byte, of which one is kept */
        uint64_t bits =
            vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(bytes), 4)), 0);
        for (bits &= UINT64_C(0x1111111111111111); bits; bits &= bits - 1)
            ids[count++] = i + (uint32_t)__builtin_ctzll(bits) / 4;
    }
    for (; i < n; i++)
        if (x[i] >= floor)
            ids[count++] = i;
    return count;
}

void hob_cpu_fill_neon(hob_cpu_kernels *k)
{
    k->isa = "neon";
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->quantize = quantize;
    k->rope = rope;
    k->gate = gate;
    k->to_half = to_half;
    k->from_half = from_half;
    k->scale_lanes = scale_lanes;
    k->attend_scores = attend_scores;
    k->attend_scores_half = attend_scores_half;
    k->attend_softmax = attend_softmax;
    k->attend_values = attend_values;
    k->attend_values_half = attend_values_half;
    k->max = max_of;
    k->exp_sum = exp_sum;
    k->at_least = at_least;
    k->scan = hob_cpu_scan_neon;
    hob_cpu_fill_linear_neon(k);
}
