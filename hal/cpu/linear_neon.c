/* SPDX-License-Identifier: Apache-2.0
 *
 * Linears in NEON with the dot product. A vector of a panel is 4 rows by 4 k, lane = row, and the instruction takes its
 * other factor, 4 quants of one column, from any lane of a register: there is no horizontal sum and no broadcast.
 *
 * Many columns share a panel unpacked to signed bytes once, by tiles of 8 rows and up to 4 columns: 8 integer and 8 float
 * accumulators, with group 16 8 more, 4 registers of quants and 2 of weights fit the 32 there are. Up to 3 columns, as
 * decode has them, take all 16 rows and unpack as they go; an offset of the codes is then where the sums begin. */
#include "hal/cpu/linear_neon.h"

#include <string.h>

enum { DIRECT_COLUMNS = 3, TILE_ROWS = 8 };

/* A block's unpacked scales, as kernels.h defines them. */
typedef struct record {
    float d[16], m[16];
    int32_t sub[2][16];     /* these with group 16 only */
    int16_t sub_min[2][16]; /* and a minimum */
} record;

INLINE size_t record_bytes(traits t)
{
    return t.group == 16 ? sizeof(record) : offsetof(record, sub);
}

/* Codes of step j of a block, rows 4 v .. 4 v + 3, from the block's planes, before their offset; t, j, v are constants. */
INLINE int8x16_t codes_at(traits t, const uint8_t *low, const uint8_t *high, int j, int v)
{
    uint8x16_t code;

    if (t.low_bits == 8)
        return vreinterpretq_s8_u8(vld1q_u8(low + 64 * j + 16 * v));
    if (t.low_bits == 4) {
        code = vld1q_u8(low + 64 * (j % 4) + 16 * v);
        code = j < 4 ? vandq_u8(code, vdupq_n_u8(15)) : vshrq_n_u8(code, 4);
    } else {
        code = vld1q_u8(low + 64 * (j / 4) + 16 * v);
        code = vandq_u8(vshlq_u8(code, vdupq_n_s8((int8_t)(-2 * (j % 4)))), vdupq_n_u8(3));
    }
    if (t.high_bits) {
        /* the plane's bits move to low_bits and above */
        const int at = t.high_bits == 1 ? j : 2 * (j % 4), to = (int)t.low_bits;
        uint8x16_t top = vld1q_u8(high + (t.high_bits == 1 ? 0 : 64 * (j / 4)) + 16 * v);
        top = vshlq_u8(top, vdupq_n_s8((int8_t)(to - at)));
        code =
            vorrq_u8(code, vandq_u8(top, vdupq_n_u8((uint8_t)((t.high_bits == 1 ? 1 : 3) << to))));
    }
    if (t.table) {
        static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};
        return vqtbl1q_s8(vld1q_s8(iq4_values), code);
    }
    return vreinterpretq_s8_u8(code);
}

/* 16 bytes as 4 vectors. */
INLINE void widen16(int8x16_t bytes, int32x4_t ret[4])
{
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    ret[0] = vmovl_s16(vget_low_s16(low));
    ret[1] = vmovl_high_s16(low);
    ret[2] = vmovl_s16(vget_low_s16(high));
    ret[3] = vmovl_high_s16(high);
}

/* The scales of block b in all lanes. */
typedef struct scales {
    float32x4_t d[4], m[4];
    int32x4_t sub[2][4];
    int16x8_t sub_min[2][2];
} scales;

INLINE scales scales_at(traits t, const hob_panels *w, const uint8_t *panel, uint32_t b)
{
    const size_t super = (size_t)(b >> (t.group ? 3 : 0)) * 16;
    const int8_t *sub = (const int8_t *)panel + w->sub_at + (size_t)b * (t.group == 16 ? 32 : 16);
    const int subs = t.group == 16 ? 2 : 0;
    int32x4_t factor[4];
    scales s;

#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        s.d[v] = load_half4((const uint16_t *)(panel + w->d_at) + super + 4 * v);
        if (t.minimum)
            s.m[v] = load_half4((const uint16_t *)(panel + w->m_at) + super + 4 * v);
    }
    if (t.group == 32) {
        widen16(vld1q_s8(sub), factor);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            s.d[v] = vmulq_f32(s.d[v], vcvtq_f32_s32(factor[v]));
    }
    if (t.group == 32 && t.minimum) {
        widen16(vld1q_s8((const int8_t *)panel + w->sub_min_at + (size_t)b * 16), factor);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            s.m[v] = vmulq_f32(s.m[v], vcvtq_f32_s32(factor[v]));
    }
    if (t.minimum && t.group)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            s.m[v] = vnegq_f32(s.m[v]);
#pragma GCC unroll 2
    for (int i = 0; i < subs; i++) {
        int8x16_t factors = vld1q_s8(sub + 16 * i);
        if (t.minimum) { /* both in one byte */
            const uint8x16_t minimums = vshrq_n_u8(vreinterpretq_u8_s8(factors), 4);
            s.sub_min[i][0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(minimums)));
            s.sub_min[i][1] = vreinterpretq_s16_u16(vmovl_high_u8(minimums));
            factors = vandq_s8(factors, vdupq_n_s8(15));
        }
        widen16(factors, s.sub[i]);
    }
    return s;
}

/* acc after a block: isum is the integer sum; min0, min1 the sub-minimums of both halves, with group 16; x a hob_cpu_scale. */
INLINE float32x4_t finish(traits t, float32x4_t acc, float32x4_t d, float32x4_t m, int32x4_t isum,
                          int16x4_t min0, int16x4_t min1, float32x4_t x)
{
    acc = vfmaq_f32(acc, vmulq_laneq_f32(d, x, 0), vcvtq_f32_s32(isum));
    if (t.minimum && t.group == 16) {
        const int16x8_t halves = vreinterpretq_s16_f32(x);
        const int32x4_t sum = vmlal_laneq_s16(vmull_laneq_s16(min0, halves, 6), min1, halves, 7);
        acc = vfmaq_f32(acc, vmulq_laneq_f32(m, x, 0), vcvtq_f32_s32(sum));
    } else if (t.minimum) {
        acc = vfmaq_laneq_f32(acc, m, x, 1);
    }
    return acc;
}
_Static_assert(offsetof(hob_cpu_scale, d) == 0 && offsetof(hob_cpu_scale, s) == 4 &&
                   offsetof(hob_cpu_scale, half) == 12,
               "finish takes its lanes");

INLINE float32x4_t load_scale(const hob_cpu_scale *s)
{
    return vld1q_f32((const float *)s);
}

/* tile [n][16]: rows of one panel, n neighbouring columns. */
static void store_tile(const hob_panels *w, const hob_cpu_output *out, uint32_t panel,
                       uint32_t column, uint32_t n, const float *tile)
{
    const uint32_t row = panel * HOB_PANEL_ROWS,
                   count = w->rows - row < HOB_PANEL_ROWS ? w->rows - row : HOB_PANEL_ROWS;
    float *y = out->y + column * out->stride + row;

    for (uint32_t c = 0; c < n; c++, y += out->stride, tile += HOB_PANEL_ROWS) {
        uint32_t r = 0;
        for (; r + 4 <= count; r += 4) {
            float32x4_t v = vld1q_f32(tile + r);
            if (out->bias)
                v = vaddq_f32(v, vld1q_f32(out->bias + row + r));
            if (out->add)
                v = vaddq_f32(vld1q_f32(y + r), v);
            vst1q_f32(y + r, v);
        }
        for (; r < count; r++) {
            const float v = out->bias ? tile[r] + out->bias[row + r] : tile[r];
            y[r] = out->add ? y[r] + v : v;
        }
    }
}

/* A panel's blocks as the tiles want them: codes to signed bytes [blocks][8][16][4], scales to records. */
INLINE void unpack_panel(traits t, const hob_panels *w, const uint8_t *panel, int8_t *bytes,
                         uint8_t *records)
{
    const uint8_t *low = panel, *high = panel + w->high_at;
    const int codes = t.low_bits == 8 ? 0 : 4 /* vectors of them; bytes are used as they lie */,
              subs = t.group == 16 ? 2 : 0;

    for (uint32_t b = 0; b < w->blocks; b++) {
#pragma GCC unroll 4
        for (int v = 0; v < codes; v++)
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                vst1q_s8(bytes + 64 * j + 16 * v,
                         vsubq_s8(codes_at(t, low, high, j, v), vdupq_n_s8((int8_t)t.offset)));
        const scales s = scales_at(t, w, panel, b);
        record *to = (record *)records;
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            vst1q_f32(to->d + 4 * v, s.d[v]);
            if (t.minimum)
                vst1q_f32(to->m + 4 * v, s.m[v]);
#pragma GCC unroll 2
            for (int i = 0; i < subs; i++) {
                vst1q_s32(to->sub[i] + 4 * v, s.sub[i][v]);
                if (t.minimum && v < 2)
                    vst1q_s16(to->sub_min[i] + 8 * v, s.sub_min[i][v]);
            }
        }
        bytes += 512;
        records += record_bytes(t);
        low += 64 * (size_t)t.low_bits;
        high += 64 * (size_t)t.high_bits;
    }
}

/* 8 rows, from row `first` of a panel, by n columns of all blocks; t and n are constants. */
INLINE void tile_of(traits t, uint32_t blocks, uint32_t first, const int8_t *bytes,
                    const uint8_t *records, const int8_t *q, size_t q_stride,
                    const hob_cpu_scale *scale, size_t scale_stride, uint32_t n, float *tile)
{
    float32x4_t acc[TILE_COLUMNS][2];

#pragma GCC unroll 4
    for (uint32_t c = 0; c < n; c++)
        acc[c][0] = acc[c][1] = vdupq_n_f32(0);
    bytes += 4 * first;
    for (uint32_t b = 0; b < blocks; b++) {
        const record *s = (const record *)records;
        int32x4_t sum[TILE_COLUMNS][2], half[TILE_COLUMNS][2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            int8x16_t x[TILE_COLUMNS];
#pragma GCC unroll 4
            for (uint32_t c = 0; c < n; c++) {
                x[c] = vld1q_s8(q + c * q_stride + 16 * i);
                if (i == 0 || t.group == 16)
                    half[c][0] = half[c][1] = vdupq_n_s32(0);
            }
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const int8x16_t w0 = vld1q_s8(bytes + 64 * (4 * i + j)),
                                w1 = vld1q_s8(bytes + 64 * (4 * i + j) + 16);
#pragma GCC unroll 4
                for (uint32_t c = 0; c < n; c++) {
                    half[c][0] = dot_lane(half[c][0], w0, x[c], j);
                    half[c][1] = dot_lane(half[c][1], w1, x[c], j);
                }
            }
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) {
                int32x4_t sub;
                if (t.group == 16)
                    sub = vld1q_s32(s->sub[i] + first + 4 * v);
#pragma GCC unroll 4
                for (uint32_t c = 0; c < n; c++)
                    if (t.group != 16)
                        sum[c][v] = half[c][v];
                    else
                        sum[c][v] =
                            i ? vmlaq_s32(sum[c][v], half[c][v], sub) : vmulq_s32(half[c][v], sub);
            }
        }
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
            const float32x4_t d = vld1q_f32(s->d + first + 4 * v);
            float32x4_t m = d;
            int16x4_t min0 = vdup_n_s16(0), min1 = min0;
            if (t.minimum)
                m = vld1q_f32(s->m + first + 4 * v);
            if (t.minimum && t.group == 16) {
                min0 = vld1_s16(s->sub_min[0] + first + 4 * v);
                min1 = vld1_s16(s->sub_min[1] + first + 4 * v);
            }
#pragma GCC unroll 4
            for (uint32_t c = 0; c < n; c++)
                acc[c][v] = finish(t, acc[c][v], d, m, sum[c][v], min0, min1,
                                   load_scale(scale + c * scale_stride));
        }
        bytes += 512;
        records += record_bytes(t);
        q += HOB_QUANT_BLOCK;
        scale++;
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n; c++) {
        vst1q_f32(tile + 16 * c + first, acc[c][0]);
        vst1q_f32(tile + 16 * c + first + 4, acc[c][1]);
    }
}

/* Tiles over all columns, as even in width as can be. t is a constant at each call. */
INLINE void linear_tiles(traits t, const hob_panels *w, const hob_cpu_input *x,
                         const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count,
                         void *scratch)
{
    uint8_t *records = scratch;
    int8_t *unpacked = (int8_t *)scratch + w->blocks * record_bytes(t);
    const uint32_t groups = (x->rows + TILE_COLUMNS - 1) / TILE_COLUMNS;

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        const int8_t *bytes = t.low_bits == 8 ? (const int8_t *)data : unpacked;
        unpack_panel(t, w, data, unpacked, records);
        for (uint32_t g = 0, column = 0, n; g < groups; g++, column += n) {
            const int8_t *q = x->q + column * x->q_stride;
            const hob_cpu_scale *s = x->scales + column * x->scale_stride;
            float tile[TILE_COLUMNS * 16];
            n = (x->rows - column + groups - g - 1) / (groups - g);
            for (uint32_t r = 0; r < HOB_PANEL_ROWS; r += TILE_ROWS)
                if (n == 4)
                    tile_of(t, w->blocks, r, bytes, records, q, x->q_stride, s, x->scale_stride, 4,
                            tile);
                else if (n == 3)
                    tile_of(t, w->blocks, r, bytes, records, q, x->q_stride, s, x->scale_stride, 3,
                            tile);
                else /* more than DIRECT_COLUMNS in even parts leave no single one */
                    tile_of(t, w->blocks, r, bytes, records, q, x->q_stride, s, x->scale_stride, 2,
                            tile);
            store_tile(w, out, panel, column, n, tile);
        }
    }
}

/* One panel by n columns; t and n are constants. */
INLINE void direct_of(traits t, const hob_panels *w, const uint8_t *panel, const hob_cpu_input *x,
                      uint32_t n, float *tile)
{
    const uint8_t *low = panel, *high = panel + w->high_at;
    float32x4_t acc[DIRECT_COLUMNS][4];

#pragma GCC unroll 3
    for (uint32_t c = 0; c < n; c++)
        acc[c][0] = acc[c][1] = acc[c][2] = acc[c][3] = vdupq_n_f32(0);
    for (uint32_t b = 0; b < w->blocks; b++) {
        const scales s = scales_at(t, w, panel, b);
        int8x16_t q[DIRECT_COLUMNS][2];
        float32x4_t s_x[DIRECT_COLUMNS];
        int32x4_t begin[DIRECT_COLUMNS][2]; /* what the offset makes of each half */
#pragma GCC unroll 3
        for (uint32_t c = 0; c < n; c++) {
            const hob_cpu_scale *scale = x->scales + c * x->scale_stride + b;
            s_x[c] = load_scale(scale);
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                q[c][i] = vld1q_s8(x->q + c * x->q_stride + b * HOB_QUANT_BLOCK + 16 * i);
                begin[c][i] =
                    vdupq_n_s32(-(int32_t)t.offset * (t.group == 16 ? scale->half[i] : scale->sum));
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            int32x4_t sum[DIRECT_COLUMNS][2];
#pragma GCC unroll 3
            for (uint32_t c = 0; c < n; c++) {
                sum[c][0] = begin[c][0];
                sum[c][1] = begin[c][1];
            }
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                const int8x16_t code = codes_at(t, low, high, j, v);
                const int half = t.group == 16 ? j / 4 : 0;
#pragma GCC unroll 3
                for (uint32_t c = 0; c < n; c++)
                    sum[c][half] = dot_lane(sum[c][half], code, q[c][j / 4], j % 4);
            }
            int16x4_t min0 = vdup_n_s16(0), min1 = min0;
            if (t.minimum && t.group == 16) {
                min0 =
                    v % 2 ? vget_high_s16(s.sub_min[0][v / 2]) : vget_low_s16(s.sub_min[0][v / 2]);
                min1 =
                    v % 2 ? vget_high_s16(s.sub_min[1][v / 2]) : vget_low_s16(s.sub_min[1][v / 2]);
            }
#pragma GCC unroll 3
            for (uint32_t c = 0; c < n; c++) {
                int32x4_t isum = sum[c][0];
                if (t.group == 16)
                    isum = vmlaq_s32(vmulq_s32(isum, s.sub[0][v]), sum[c][1], s.sub[1][v]);
                acc[c][v] = finish(t, acc[c][v], s.d[v], s.m[v], isum, min0, min1, s_x[c]);
            }
        }
        low += 64 * (size_t)t.low_bits;
        high += 64 * (size_t)t.high_bits;
    }
#pragma GCC unroll 3
    for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            vst1q_f32(tile + 16 * c + 4 * v, acc[c][v]);
}

INLINE void linear_direct(traits t, const hob_panels *w, const hob_cpu_input *x,
                          const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count)
{
    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        float tile[DIRECT_COLUMNS * 16];
        if (x->rows == 3)
            direct_of(t, w, data, x, 3, tile);
        else if (x->rows == 2)
            direct_of(t, w, data, x, 2, tile);
        else
            direct_of(t, w, data, x, 1, tile);
        store_tile(w, out, panel, 0, x->rows, tile);
    }
}

#define LINEAR(name, kind)                                                                         \
    static void linear_##name(const hob_panels *w, const hob_cpu_input *x,                         \
                              const hob_cpu_output *out, uint32_t first_panel,                     \
                              uint32_t panel_count, void *scratch)                                 \
    {                                                                                              \
        const traits t = traits_of(HOB_KIND_##kind);                                               \
        if (x->rows <= DIRECT_COLUMNS)                                                             \
            linear_direct(t, w, x, out, first_panel, panel_count);                                 \
        else                                                                                       \
            linear_tiles(t, w, x, out, first_panel, panel_count, scratch);                         \
    }
HOB_QUANTIZED_TYPES(LINEAR)

/* One panel by n columns; kind and n are constants. */
INLINE void float_of(hob_kind kind, const hob_panels *w, const uint8_t *panel, const float *x,
                     size_t x_stride, uint32_t n, float *tile)
{
    float32x4_t acc[TILE_COLUMNS][4];

#pragma GCC unroll 4
    for (uint32_t c = 0; c < n; c++)
        acc[c][0] = acc[c][1] = acc[c][2] = acc[c][3] = vdupq_n_f32(0);
    fma_tile(kind, panel, kind == HOB_KIND_F32 ? 64 : 32, x, x_stride, n, w->cols, acc);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            vst1q_f32(tile + 16 * c + 4 * v, acc[c][v]);
}

INLINE void linear_float(hob_kind kind, const hob_panels *w, const hob_cpu_input *x,
                         const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count)
{
    const uint32_t groups = (x->rows + TILE_COLUMNS - 1) / TILE_COLUMNS;

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        for (uint32_t g = 0, column = 0, n; g < groups; g++, column += n) {
            const float *f = x->f32 + column * x->f32_stride;
            float tile[TILE_COLUMNS * 16];
            n = (x->rows - column + groups - g - 1) / (groups - g);
            switch (n) {
            case 4: float_of(kind, w, data, f, x->f32_stride, 4, tile); break;
            case 3: float_of(kind, w, data, f, x->f32_stride, 3, tile); break;
            case 2: float_of(kind, w, data, f, x->f32_stride, 2, tile); break;
            default: float_of(kind, w, data, f, x->f32_stride, 1, tile);
            }
            store_tile(w, out, panel, column, n, tile);
        }
    }
}

#define LINEAR_FLOAT(name, kind)                                                                   \
    static void linear_##name(const hob_panels *w, const hob_cpu_input *x,                         \
                              const hob_cpu_output *out, uint32_t first_panel,                     \
                              uint32_t panel_count, void *scratch)                                 \
    {                                                                                              \
        (void)scratch;                                                                             \
        linear_float(HOB_KIND_##kind, w, x, out, first_panel, panel_count);                        \
    }
LINEAR_FLOAT(f16, F16)
LINEAR_FLOAT(bf16, BF16)
LINEAR_FLOAT(f32, F32)

void hob_cpu_fill_linear_neon(hob_cpu_kernels *k)
{
#define FILL(name, kind) k->linear[HOB_KIND_##kind] = linear_##name;
    HOB_QUANTIZED_TYPES(FILL)
    FILL(f16, F16)
    FILL(bf16, BF16)
    FILL(f32, F32)
#undef FILL
}
