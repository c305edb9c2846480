/* SPDX-License-Identifier: Apache-2.0
 *
 * y = W x + bias as linear.cl has it, on NVIDIA's matrix units (mma.sync of bytes, PTX ISA 7.0, compute capability 8.0 and
 * later): one instruction multiplies a block of 32 columns of a panel's 16 rows with 8 rows of x, exactly, in int32. A warp is 32
 * items along dimension 0; item 4 g + t holds rows g and g + 8 of the weights, and of the result columns 2 t and 2 t + 1.
 * Codes are read from where they lie: the four that an item needs at once are a word. */
#if FLOAT_BITS == 0 && DOT == 5
/* 16 x 32 by 32 x 8. */
static inline int4 mma(uint4 a, uint2 b)
{
    int4 d;
    __asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
          "{%10,%10,%10,%10};"
          : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w)
          : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y), "r"(0));
    return d;
}

/* 16 x 16 by 16 x 8. */
static inline int4 mma_half(uint2 a, uint b)
{
    int4 d;
    __asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
          : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w)
          : "r"(a.x), "r"(a.y), "r"(b), "r"(0));
    return d;
}

/* acc += the products' part of one block: rows' scales k0, k1 by columns' scales (and sums) s0, s1. */
static inline float4 scaled(float4 acc, int4 d, const scales32 *k0, const scales32 *k1, uint h, float4 s0, float4 s1)
{
    acc += (float4)(k0->scale[h] * s0.x, k0->scale[h] * s1.x, k1->scale[h] * s0.x, k1->scale[h] * s1.x) *
           convert_float4(d);
    if (HAS_MINIMUM) {
        const float m0 = HALVES == 1 ? s0.w : h ? s0.z : s0.y, m1 = HALVES == 1 ? s1.w : h ? s1.z : s1.y;
        acc += (float4)(k0->minimum[h] * m0, k0->minimum[h] * m1, k1->minimum[h] * m0, k1->minimum[h] * m1);
    }
    return acc;
}

/* Blocks warp, warp + warps, ... of the panels at p0 .. p0 + m - 1, those past the last one being the last, by 8 n rows of x from
 * x_first on, likewise: acc[m][n]. depth blocks are read at once, so that a warp waits for memory once. */
#define CODES(low, high, j) codes_of((low)[LOW_AT(j) * 16], HIGH_BITS ? (high)[HIGH_AT(j) * 16] : 0, j)
#define MULTIPLY(m, n, depth)                                                                           \
    const uint item = get_local_id(0), warp = get_local_id(1), warps = get_local_size(1), g = item / 4, \
               t = item % 4, last = x_rows - 1, panels = (shape.z + PANEL_ROWS - 1) / PANEL_ROWS;  \
    float4 acc[m][n];                                                                              \
    UNROLL for (uint i = 0; i < m; i++)                                                            \
        UNROLL for (uint f = 0; f < n; f++)                                                        \
            acc[i][f] = (float4)(0);                                                               \
    for (uint at = warp; at < cols / 32; at += depth * warps)                                      \
        UNROLL for (uint u = 0; u < depth; u++) {                                                  \
        const uint b = min(at + u * warps, cols / 32 - 1);                                         \
        const float counts = at + u * warps <= b; /* or it is the last one once more */            \
        uint2 xs[n];                                                                               \
        float4 s0[n], s1[n];                                                                       \
        UNROLL for (uint f = 0; f < n; f++) {                                                      \
            const uint column = x_first + 8 * f;                                                   \
            global const uint *of = x + (size_t)min(column + g, last) * (cols / 4) + 8 * b + t;    \
            xs[f] = (uint2)(of[0], of[4]);                                                         \
            s0[f] = side[(size_t)min(column + 2 * t, last) * (cols / 32) + b] * counts;            \
            s1[f] = side[(size_t)min(column + 2 * t + 1, last) * (cols / 32) + b] * counts;        \
        }                                                                                          \
        UNROLL for (uint i = 0; i < m; i++) {                                                      \
            global const uchar *panel = w + (size_t)min(p0 + i, panels - 1) * panel_bytes;         \
            global const uint *low0 = low_words(panel, b, g), *low1 = low0 + 8,                    \
                              *high0 = high_words(panel, cols / 32, b, g), *high1 = high0 + 8;     \
            const uint4 a = (uint4)(CODES(low0, high0, t), CODES(low1, high1, t),                  \
                                    CODES(low0, high0, t + 4), CODES(low1, high1, t + 4));         \
            const scales32 k0 = load_scales(panel, cols / 32, b, g),                               \
                           k1 = load_scales(panel, cols / 32, b, g + 8);                           \
            UNROLL for (uint f = 0; f < n; f++) {                                                  \
                if (HALVES == 1) {                                                                 \
                    acc[i][f] = scaled(acc[i][f], mma(a, xs[f]), &k0, &k1, 0, s0[f], s1[f]);       \
                } else {                                                                           \
                    acc[i][f] = scaled(acc[i][f], mma_half(a.xy, xs[f].x), &k0, &k1, 0, s0[f], s1[f]); \
                    acc[i][f] =                                                                    \
                        scaled(acc[i][f], mma_half(a.zw, xs[f].y), &k0, &k1, HALVES - 1, s0[f], s1[f]); \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    UNROLL for (uint i = 0; i < m; i++)                                                            \
        UNROLL for (uint f = 0; f < n; f++)                                                        \
            joined[((warp * m + i) * n + f) * 32 + item] = acc[i][f];                              \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                  \
    for (uint e = warp * 32 + item; e < 128 * m * n; e += warps * 32) {                            \
        float sum = 0;                                                                             \
        for (uint s = 0; s < warps; s++)                                                           \
            sum += ((local const float *)joined)[s * (128 * m * n) + e];                           \
        /* e names panel e / 128 / n, rows of x e / 128 % n, item e / 4 % 32, and one of its four results */ \
        const uint row = (p0 + e / 128 / n) * PANEL_ROWS + e / 16 % 8 + (e & 2) * 4,               \
                   x_row = x_first + e / 128 % n * 8 + e / 4 % 4 * 2 + (e & 1);                    \
        if (x_row < x_rows)                                                                        \
            finish(sum, row, x_row, shape, bias, add, y);                                          \
    }

/* A work-group's warps take parts of the columns, joined in local memory. Few rows: a panel by 8 rows of x. */
kernel void linear_mma_8(MATRICES, uint cols, ulong panel_bytes, global const uint *x, global const float4 *side,
                         uint x_rows, int add, local float4 *joined)
{
    CHOOSE_MATRIX(get_group_id(0))
    const uint p0 = p, x_first = get_group_id(1) * 8;
    MULTIPLY(1, 1, 4)
}

/* Many: two panels by 32 rows of x. */
kernel void linear_mma_32(MATRICES, uint cols, ulong panel_bytes, global const uint *x, global const float4 *side,
                          uint x_rows, int add, local float4 *joined)
{
    CHOOSE_MATRIX(get_group_id(0))
    const uint p0 = p * 2, x_first = get_group_id(1) * 32;
    MULTIPLY(2, 4, 1)
}
#endif
