/* SPDX-License-Identifier: Apache-2.0
 *
 * y = W x + bias, added onto y when `add`, of up to three matrices of one type that share x. W is in panels of 16 rows:
 * neighbouring work-items are neighbouring rows and read neighbouring words. x was prepared by norm.cl: with DOT as bytes, and for each block of 32 their
 * scale d, d times the sum of each half, and of all; else as floats, and their sums over 16 columns. The sums are what a
 * minimum is multiplied with. */
#ifdef SPLITS /* always the same on this device, whose compiler makes use of that */
#define ROWS_KERNEL kernel __attribute__((reqd_work_group_size(PANEL_ROWS, SPLITS, 1)))
#else
#define ROWS_KERNEL kernel
#define SPLITS get_local_size(1)
#endif

#if FLOAT_BITS == 0 && DOT
typedef uint x_type;      /* four columns */
typedef float4 side_type;
#define ROW_OF_X ((size_t)cols / 4)
#define ROW_OF_SIDE ((size_t)cols / 32)
#else
typedef float x_type;
typedef float side_type;
#define ROW_OF_X ((size_t)cols)
#define ROW_OF_SIDE ((size_t)cols / 16)
#endif

#if FLOAT_BITS
#define MULTIPLY(n)                                                                                \
    for (uint k = split; k < cols; k += splits) {                                                  \
        const float w = float_value(panel, k, lane);                                               \
        UNROLL for (uint r = 0; r < n; r++)                                                        \
            acc[r] = multiply_add(w, x[(size_t)min(r, x_rows - 1) * cols + k], acc[r]);                    \
    }
#else
/* Block b of a lane: its codes by 4, and its scales. */
#define LOAD_BLOCK                                                                                 \
    global const uint *low = low_words(panel, b, lane), *high = high_words(panel, cols / 32, b, lane); \
    uint lows[LOW_WORDS], highs[HIGH_WORDS], codes[8];                                             \
    UNROLL for (uint i = 0; i < LOW_WORDS; i++)                                                    \
        lows[i] = low[i * 16];                                                                     \
    UNROLL for (uint i = 0; i < HIGH_WORDS; i++)                                                   \
        highs[i] = HIGH_BITS ? high[i * 16] : 0;                                                   \
    UNROLL for (uint j = 0; j < 8; j++)                                                            \
        codes[j] = codes_of(lows[LOW_AT(j)], highs[HIGH_AT(j)], j);                                \
    const scales32 k = load_scales(panel, cols / 32, b, lane);
#if DOT
/* Blocks that an item reads at once, so that it waits for memory once. */
#define DEPTH (DOT == 3 || DOT == 5 ? 4 : 1)
#define MULTIPLY(n)                                                                                \
    for (uint at = split; at < cols / 32; at += DEPTH * splits) {                                  \
        UNROLL for (uint u = 0; u < DEPTH; u++) {                                                  \
            const uint b = min(at + u * splits, cols / 32 - 1);                                    \
            const float counts = at + u * splits <= b; /* or it is the last one once more */       \
            LOAD_BLOCK                                                                             \
            UNROLL for (uint r = 0; r < n; r++) {                                                  \
                const uint row = min(r, x_rows - 1);                                               \
                const float4 s = side[row * ROW_OF_SIDE + b] * counts;                             \
                uint q[8];                                                                         \
                global const uint4 *of = (global const uint4 *)(x + row * ROW_OF_X);               \
                vstore4(of[2 * b], 0, q);                                                          \
                vstore4(of[2 * b + 1], 1, q);                                                      \
                UNROLL for (uint h = 0; h < HALVES; h++) {                                         \
                    int sum = 0;                                                                   \
                    UNROLL for (uint j = h * STEPS; j < (h + 1) * STEPS; j++)                      \
                        sum = DOT4(codes[j], q[j], sum);                                           \
                    acc[r] = multiply_add(k.scale[h] * s.x, (float)sum, acc[r]);                   \
                    if (HAS_MINIMUM)                                                               \
                        acc[r] = multiply_add(k.minimum[h], HALVES == 1 ? s.w : h ? s.z : s.y, acc[r]); \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#else
#define MULTIPLY(n)                                                                                \
    for (uint b = split; b < cols / 32; b += splits) {                                             \
        LOAD_BLOCK                                                                                 \
        UNROLL for (uint h = 0; h < HALVES; h++) {                                                 \
            float part[n];                                                                         \
            UNROLL for (uint r = 0; r < n; r++)                                                    \
                part[r] = 0;                                                                       \
            UNROLL for (uint j = h * STEPS; j < (h + 1) * STEPS; j++) {                            \
                const float4 w = float_codes(codes[j]);                                            \
                UNROLL for (uint r = 0; r < n; r++)                                                \
                    part[r] = dot_add(w, vload4(8 * b + j, x + min(r, x_rows - 1) * ROW_OF_X), part[r]); \
            }                                                                                      \
            UNROLL for (uint r = 0; r < n; r++) {                                                  \
                global const float *s = side + min(r, x_rows - 1) * ROW_OF_SIDE + b * 2;           \
                acc[r] = multiply_add(k.scale[h], part[r], acc[r]);                                \
                if (HAS_MINIMUM)                                                                   \
                    acc[r] = multiply_add(k.minimum[h], HALVES == 2 ? s[h] : s[0] + s[1], acc[r]); \
            }                                                                                      \
        }                                                                                          \
    }
#endif
#endif

/* Up to `n` rows of x. A work-group is one panel: 16 lanes by some parts of the columns, joined in local memory,
 * [n][parts][16]. */
#define LINEAR_ROWS(n)                                                                             \
    ROWS_KERNEL void linear_rows_##n(MATRICES, uint cols, ulong panel_bytes, global const x_type *x,    \
                                global const side_type *side, uint x_first, uint x_rows, int add,  \
                                local float *joined)                                               \
    {                                                                                              \
        const uint lane = get_local_id(0), split = get_local_id(1), splits = SPLITS;    \
        CHOOSE_MATRIX(get_group_id(0))                                                             \
        global const uchar *panel = w + (size_t)p * panel_bytes;                                   \
        x += x_first * ROW_OF_X;                                                                   \
        side += x_first * ROW_OF_SIDE;                                                             \
        float acc[n];                                                                              \
        UNROLL for (uint r = 0; r < n; r++)                                                        \
            acc[r] = 0;                                                                            \
        MULTIPLY(n)                                                                                \
        UNROLL for (uint r = 0; r < n; r++)                                                        \
            joined[(r * splits + split) * PANEL_ROWS + lane] = acc[r];                             \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        for (uint r = split; r < n && r < x_rows; r += splits) {                                   \
            float sum = 0;                                                                         \
            for (uint s = 0; s < splits; s++)                                                      \
                sum += joined[(r * splits + s) * PANEL_ROWS + lane];                               \
            finish(sum, p * PANEL_ROWS + lane, x_first + r, shape, bias, add, y);                  \
        }                                                                                          \
    }
LINEAR_ROWS(1)
LINEAR_ROWS(2)
LINEAR_ROWS(4)
LINEAR_ROWS(8)

/* Few slots of a mixture of experts, one a group in dimension 1: row slot / per_row of x, at the expert of the slot. The joined
 * matrix has `panels` panels of each expert; W are those from first_panel on, part_panels of them. */
ROWS_KERNEL void
linear_experts(global const uchar *w, uint first_panel, uint part_panels, uint panels, uint cols,
               ulong panel_bytes, global const x_type *x, global const side_type *side, uint per_row,
               global const uint *experts, global float *y, uint y_cols, local float *joined)
{
    const uint lane = get_local_id(0), split = get_local_id(1), splits = SPLITS, p = get_group_id(0),
               slot = get_group_id(1), x_rows = 1, index = experts[slot] * panels + p - first_panel;
    if (index >= part_panels)
        return;
    global const uchar *panel = w + (size_t)index * panel_bytes;
    float acc[1] = {0};
    x += slot / per_row * ROW_OF_X;
    side += slot / per_row * ROW_OF_SIDE;
    MULTIPLY(1)
    joined[split * PANEL_ROWS + lane] = acc[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (split == 0) {
        float sum = 0;
        for (uint s = 0; s < splits; s++)
            sum += joined[s * PANEL_ROWS + lane];
        y[(size_t)slot * y_cols + p * PANEL_ROWS + lane] = sum;
    }
}
