/* SPDX-License-Identifier: Apache-2.0
 *
 * y = W x + bias, added onto y when `add`; x was prepared by prepare.cl. W is one part of a matrix, in panels of 16 rows:
 * neighbouring work-items are neighbouring rows and read neighbouring words. */

/* Sums of x over 16 columns: what a type's minimum is multiplied with. */
#if FLOAT_BITS == 0 && MINIMUM
#define ADD_MINIMUM(acc, half_index, r) acc += block.minimum[half_index] * sums[(size_t)(r) * (cols / 16) + b * 2 + half_index]
#else
#define ADD_MINIMUM(acc, half_index, r)
#endif

static inline void finish(float sum, uint row, uint rows, size_t at, global const float *bias, int add,
                   global float *y)
{
    if (row >= rows)
        return;
    if (bias)
        sum += bias[row];
    y[at] = add ? y[at] + sum : sum;
}

/* Up to `n` rows of x. A work-group is one panel: 16 lanes by SPLITS parts of the columns, joined in local memory. */
#if FLOAT_BITS
#define MULTIPLY(n)                                                                                \
    for (uint k = split; k < cols; k += SPLITS) {                                                  \
        const float w = float_value(panel, k, lane);                                               \
        for (uint r = 0; r < n; r++)                                                               \
            acc[r] += w * x[(size_t)min(r, x_rows - 1) * cols + k];                                \
    }
#else
#define MULTIPLY(n)                                                                                \
    for (uint b = split; b < cols / 32; b += SPLITS) {                                             \
        const block32 block = load_block(panel, cols / 32, b, lane);                               \
        for (uint h = 0; h < 2; h++) {                                                             \
            float part[n];                                                                         \
            for (uint r = 0; r < n; r++)                                                           \
                part[r] = 0;                                                                       \
            for (uint j = h * 4; j < h * 4 + 4; j++) {                                             \
                const float4 w = block_values(&block, j);                                          \
                for (uint r = 0; r < n; r++)                                                       \
                    part[r] += dot(w, vload4(j, x + (size_t)min(r, x_rows - 1) * cols + b * 32));  \
            }                                                                                      \
            for (uint r = 0; r < n; r++) {                                                         \
                acc[r] += block.scale[h] * part[r];                                                \
                ADD_MINIMUM(acc[r], h, min(r, x_rows - 1));                                        \
            }                                                                                      \
        }                                                                                          \
    }
#endif

#define LINEAR_ROWS(n)                                                                             \
    kernel __attribute__((reqd_work_group_size(PANEL_ROWS, SPLITS, 1))) void linear_rows_##n(      \
        global const uchar *w, uint first_row, uint rows, uint cols, ulong panel_bytes,            \
        global const float *x, global const float *sums, uint x_rows, global const float *bias,    \
        int add, global float *y, uint y_cols)                                                     \
    {                                                                                              \
        local float joined[n][SPLITS][PANEL_ROWS];                                                 \
        const uint lane = get_local_id(0), split = get_local_id(1), p = get_group_id(0);           \
        global const uchar *panel = w + (size_t)p * panel_bytes;                                   \
        float acc[n];                                                                              \
        for (uint r = 0; r < n; r++)                                                               \
            acc[r] = 0;                                                                            \
        MULTIPLY(n)                                                                                \
        for (uint r = 0; r < n; r++)                                                               \
            joined[r][split][lane] = acc[r];                                                       \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        for (uint r = split; r < n && r < x_rows; r += SPLITS) {                                   \
            float sum = 0;                                                                         \
            for (uint s = 0; s < SPLITS; s++)                                                      \
                sum += joined[r][s][lane];                                                         \
            const uint row = p * PANEL_ROWS + lane;                                                \
            finish(sum, row, rows, (size_t)r * y_cols + first_row + row,                           \
                   bias ? bias + first_row : bias, add, y);                                        \
        }                                                                                          \
    }
LINEAR_ROWS(1)
LINEAR_ROWS(2)
LINEAR_ROWS(4)
LINEAR_ROWS(8)

/* One slot a group in dimension 1: row slot / per_row of x, at the expert of the slot. W joins the experts' matrices of
 * `panels` panels each. */
kernel __attribute__((reqd_work_group_size(PANEL_ROWS, SPLITS, 1))) void
linear_experts(global const uchar *w, uint panels, uint cols, ulong panel_bytes, global const float *x,
               global const float *sums, uint per_row, global const uint *experts, global float *y,
               uint y_cols)
{
    local float joined[SPLITS][PANEL_ROWS];
    const uint lane = get_local_id(0), split = get_local_id(1), p = get_group_id(0),
               slot = get_group_id(1), x_rows = 1;
    global const uchar *panel = w + ((size_t)experts[slot] * panels + p) * panel_bytes;
    float acc[1] = {0};
    x += (size_t)(slot / per_row) * cols;
    sums += (size_t)(slot / per_row) * (cols / 16);
    MULTIPLY(1)
    joined[split][lane] = acc[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (split == 0) {
        float sum = 0;
        for (uint s = 0; s < SPLITS; s++)
            sum += joined[s][lane];
        y[(size_t)slot * y_cols + p * PANEL_ROWS + lane] = sum;
    }
}

/* Many rows of x: a work-group makes TILE x TILE outputs, an item 4 x 4 of them, 32 columns at a time through local
 * memory. */
#define TILE 64
#define TILE_STRIDE (TILE + 1)
kernel __attribute__((reqd_work_group_size(16, 16, 1))) void
linear_tile(global const uchar *w, uint first_row, uint rows, uint cols, ulong panel_bytes,
            global const float *x, uint x_rows, global const float *bias, int add, global float *y,
            uint y_cols)
{
    local float w_tile[32 * TILE_STRIDE], x_tile[32 * TILE_STRIDE];
    const uint i = get_local_id(0), j = get_local_id(1), item = j * 16 + i;
    const uint w_first = get_group_id(0) * TILE, x_first = get_group_id(1) * TILE;
    const uint lane = item % TILE, quarter = item / TILE; /* which row and 8 columns this item loads */
    const uint panel_index = w_first / PANEL_ROWS + lane / PANEL_ROWS;
    const bool inside = panel_index * PANEL_ROWS < rows;
    global const uchar *panel = w + (size_t)(inside ? panel_index : 0) * panel_bytes;
    const uint x_row = min(x_first + lane, x_rows - 1);
    float acc[4][4];
    for (uint a = 0; a < 4; a++)
        for (uint c = 0; c < 4; c++)
            acc[a][c] = 0;

    for (uint first = 0; first < cols; first += 32) {
        barrier(CLK_LOCAL_MEM_FENCE);
#if FLOAT_BITS
        for (uint k = quarter * 8; k < quarter * 8 + 8; k++)
            w_tile[k * TILE_STRIDE + lane] =
                inside && first + k < cols ? float_value(panel, first + k, lane % PANEL_ROWS) : 0;
        for (uint k = quarter * 8; k < quarter * 8 + 8; k++)
            x_tile[k * TILE_STRIDE + lane] =
                first + k < cols ? x[(size_t)x_row * cols + first + k] : 0;
#else
        const block32 block = load_block(panel, cols / 32, first / 32, lane % PANEL_ROWS);
        for (uint s = quarter * 2; s < quarter * 2 + 2; s++) {
            const float4 v = block_values(&block, s) * block.scale[s / 4] + block.minimum[s / 4];
            const float4 u = vload4(s, x + (size_t)x_row * cols + first);
            w_tile[(4 * s + 0) * TILE_STRIDE + lane] = v.x;
            w_tile[(4 * s + 1) * TILE_STRIDE + lane] = v.y;
            w_tile[(4 * s + 2) * TILE_STRIDE + lane] = v.z;
            w_tile[(4 * s + 3) * TILE_STRIDE + lane] = v.w;
            x_tile[(4 * s + 0) * TILE_STRIDE + lane] = u.x;
            x_tile[(4 * s + 1) * TILE_STRIDE + lane] = u.y;
            x_tile[(4 * s + 2) * TILE_STRIDE + lane] = u.z;
            x_tile[(4 * s + 3) * TILE_STRIDE + lane] = u.w;
        }
#endif
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint k = 0; k < 32; k++) {
            float a[4], c[4];
            for (uint n = 0; n < 4; n++) {
                a[n] = w_tile[k * TILE_STRIDE + n * 16 + i];
                c[n] = x_tile[k * TILE_STRIDE + n * 16 + j];
            }
            for (uint n = 0; n < 4; n++)
                for (uint m = 0; m < 4; m++)
                    acc[n][m] += a[n] * c[m];
        }
    }
    for (uint m = 0; m < 4; m++)
        for (uint n = 0; n < 4; n++) {
            const uint row = w_first + n * 16 + i, r = x_first + m * 16 + j;
            if (r < x_rows)
                finish(acc[n][m], row, rows, (size_t)r * y_cols + first_row + row,
                       bias ? bias + first_row : bias, add, y);
        }
}
