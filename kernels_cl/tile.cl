/* SPDX-License-Identifier: Apache-2.0
 *
 * y = W x + bias as linear.cl has it, for many rows of x: a work-group makes TILE x TILE outputs, an item 4 x 4 of them, a
 * block of 32 columns at a time through local memory. Bytes stay bytes there, with DOT; else weights become floats. */
#define TILE 64

#if FLOAT_BITS == 0 && DOT
typedef uint tile_type;
#define TILE_STEPS 8 /* of four columns */
typedef float4 side_type;
#else
typedef float tile_type;
#define TILE_STEPS 32
typedef float side_type;
#endif

typedef struct __attribute__((aligned(16))) tile_memory {
    tile_type w[TILE_STEPS * TILE], x[TILE_STEPS * TILE];
#if FLOAT_BITS == 0 && DOT
    float scale[HALVES][TILE], minimum[HALVES][TILE];
    float4 side[TILE];
#endif
} tile_memory;

/* Where a row of x is, and its result: order names the slots of an expert, per_row of which share a row of x. */
static inline uint slot_of(global const uint *order, uint r)
{
    return order ? order[r] : r;
}

/* The blocks of 32 columns: acc[n][m] is row 4 i + n of the weights, row 4 j + m of x. */
static inline void multiply_tile(global const uchar *panel, bool inside, uint cols, global const tile_type *x,
                                 global const side_type *side, uint x_row, local tile_memory *at, float acc[4][4])
{
    const uint i = get_local_id(0), j = get_local_id(1), item = j * 16 + i;
    const uint lane = item % TILE, quarter = item / TILE; /* which row, and quarter of its block, this item loads */

    for (uint first = 0; first < cols; first += 32) {
        barrier(CLK_LOCAL_MEM_FENCE);
#if FLOAT_BITS
        for (uint k = quarter * 8; k < quarter * 8 + 8; k++) {
            at->w[k * TILE + lane] =
                inside && first + k < cols ? float_value(panel, first + k, lane % PANEL_ROWS) : 0;
            at->x[k * TILE + lane] = first + k < cols ? x[(size_t)x_row * cols + first + k] : 0;
        }
#else
        const uint b = first / 32;
        global const uint *low = low_words(panel, b, lane % PANEL_ROWS),
                          *high = high_words(panel, cols / 32, b, lane % PANEL_ROWS);
#if !DOT
        const scales32 scales = load_scales(panel, cols / 32, b, lane % PANEL_ROWS);
#endif
        UNROLL for (uint s = quarter * 2; s < quarter * 2 + 2; s++) {
            const uint codes = codes_of(low[LOW_AT(s) * 16], HIGH_BITS ? high[HIGH_AT(s) * 16] : 0, s);
#if DOT
            at->w[s * TILE + lane] = codes;
            at->x[s * TILE + lane] = x[(size_t)x_row * (cols / 4) + b * 8 + s];
#else
            const float4 v = weights_of(codes, &scales, s), u = vload4(s, x + (size_t)x_row * cols + first);
            at->w[(4 * s + 0) * TILE + lane] = v.x;
            at->w[(4 * s + 1) * TILE + lane] = v.y;
            at->w[(4 * s + 2) * TILE + lane] = v.z;
            at->w[(4 * s + 3) * TILE + lane] = v.w;
            at->x[(4 * s + 0) * TILE + lane] = u.x;
            at->x[(4 * s + 1) * TILE + lane] = u.y;
            at->x[(4 * s + 2) * TILE + lane] = u.z;
            at->x[(4 * s + 3) * TILE + lane] = u.w;
#endif
        }
#if DOT
        if (quarter == 0) {
            const scales32 scales = load_scales(panel, cols / 32, b, lane % PANEL_ROWS);
            UNROLL for (uint h = 0; h < HALVES; h++) {
                at->scale[h][lane] = scales.scale[h];
                at->minimum[h][lane] = scales.minimum[h];
            }
        } else if (quarter == 1) {
            at->side[lane] = side[(size_t)x_row * (cols / 32) + b];
        }
#endif
#endif
        barrier(CLK_LOCAL_MEM_FENCE);
#if FLOAT_BITS == 0 && DOT
        UNROLL for (uint h = 0; h < HALVES; h++) {
            int sum[4][4];
            UNROLL for (uint n = 0; n < 4; n++)
                UNROLL for (uint m = 0; m < 4; m++)
                    sum[n][m] = 0;
            UNROLL for (uint s = h * STEPS; s < (h + 1) * STEPS; s++) {
                uint a[4], c[4];
                vstore4(((local const uint4 *)(at->w + s * TILE))[i], 0, a);
                vstore4(((local const uint4 *)(at->x + s * TILE))[j], 0, c);
                UNROLL for (uint n = 0; n < 4; n++)
                    UNROLL for (uint m = 0; m < 4; m++)
                        sum[n][m] = DOT4(a[n], c[m], sum[n][m]);
            }
            UNROLL for (uint m = 0; m < 4; m++) {
                const float4 t = at->side[4 * j + m];
                UNROLL for (uint n = 0; n < 4; n++) {
                    acc[n][m] += at->scale[h][4 * i + n] * t.x * (float)sum[n][m];
                    if (HAS_MINIMUM)
                        acc[n][m] += at->minimum[h][4 * i + n] * (HALVES == 1 ? t.w : h ? t.z : t.y);
                }
            }
        }
#else
        for (uint k = 0; k < 32; k++) {
            float a[4], c[4];
            vstore4(((local const float4 *)(at->w + k * TILE))[i], 0, a);
            vstore4(((local const float4 *)(at->x + k * TILE))[j], 0, c);
            UNROLL for (uint n = 0; n < 4; n++)
                UNROLL for (uint m = 0; m < 4; m++)
                    acc[n][m] += a[n] * c[m];
        }
#endif
    }
}

/* The tile's panels are base + 4 * tile and the next three of W's part_panels, and no more than `panels` in all
 * (base wraps: a matrix may begin before W). x_rows: of x, or the slots that `order` names. */
static inline bool is_inside(uint panel, uint panels, uint base, uint part_panels)
{
    return panel < panels && base + panel < part_panels;
}

static inline void make_tile(global const uchar *w, uint base, uint part_panels, uint panels, uint tile, uint4 shape,
                             uint cols, ulong panel_bytes, global const tile_type *x,
                             global const side_type *side, uint x_first, uint x_rows,
                             global const uint *order, uint per_row, global const float *bias, int add,
                             global float *y, local tile_memory *memory)
{
    const uint i = get_local_id(0), j = get_local_id(1), lane = (j * 16 + i) % TILE;
    const uint w_first = tile * TILE, panel = (w_first + lane) / PANEL_ROWS;
    const bool inside = is_inside(panel, panels, base, part_panels);
    float acc[4][4];
    UNROLL for (uint n = 0; n < 4; n++)
        UNROLL for (uint m = 0; m < 4; m++)
            acc[n][m] = 0;
    multiply_tile(w + (size_t)(inside ? base + panel : 0) * panel_bytes, inside, cols, x, side,
                  slot_of(order, min(x_first + lane, x_rows - 1)) / per_row, memory, acc);
    if (!is_inside((w_first + 4 * i) / PANEL_ROWS, panels, base, part_panels))
        return;
    UNROLL for (uint m = 0; m < 4; m++) {
        const uint r = x_first + 4 * j + m;
        if (r >= x_rows)
            break;
        UNROLL for (uint n = 0; n < 4; n++)
            finish(acc[n][m], w_first + 4 * i + n, slot_of(order, r), shape, bias, add, y);
    }
}

kernel __attribute__((reqd_work_group_size(16, 16, 1))) void
linear_tile(MATRICES, uint cols, ulong panel_bytes, global const tile_type *x, global const side_type *side,
            uint x_rows, int add)
{
    local tile_memory memory;
    CHOOSE_MATRIX(get_group_id(0))
    const uint panels = (shape.z + PANEL_ROWS - 1) / PANEL_ROWS;
    make_tile(w, 0, panels, panels, p, shape, cols, panel_bytes, x, side, get_group_id(1) * TILE, x_rows, 0, 1, bias,
              add, y, &memory);
}

/* Many slots of a mixture of experts: expert get_group_id(2) has the slots order[starts[e]] .. before order[starts[e + 1]].
 * W: as in linear_experts. */
kernel __attribute__((reqd_work_group_size(16, 16, 1))) void
tile_experts(global const uchar *w, uint first_panel, uint part_panels, uint panels, uint cols, ulong panel_bytes,
             global const tile_type *x, global const side_type *side, uint per_row, global const uint *order,
             global const uint *starts, global float *y, uint y_cols)
{
    local tile_memory memory;
    const uint e = get_group_id(2), from = starts[e], slots = starts[e + 1] - from;
    if (get_group_id(1) * TILE >= slots)
        return;
    make_tile(w, e * panels - first_panel, part_panels, panels, get_group_id(0),
              (uint4)(0, 0, panels * PANEL_ROWS, y_cols), cols, panel_bytes, x, side, get_group_id(1) * TILE, slots,
              order + from, per_row, 0, 0, y, &memory);
}
