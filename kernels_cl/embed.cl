/* SPDX-License-Identifier: Apache-2.0
 *
 * out[r] = table[tokens[r]] * scale, onto what is there with `add`; one work-item for 32 columns of a row. The table may be one part of a larger one:
 * tokens outside of first_row .. first_row + rows - 1 are another part's. */
kernel void embed(global const uchar *table, uint first_row, uint rows, uint cols, ulong panel_bytes,
                  global const uint *tokens, float scale, int add, global float *out)
{
    const uint b = get_global_id(0), r = get_global_id(1), token = tokens[r] - first_row;
    if (b * 32 >= cols || token >= rows)
        return;
    global const uchar *panel = table + (size_t)(token / PANEL_ROWS) * panel_bytes;
    const uint lane = token % PANEL_ROWS;
    out += (size_t)r * cols + b * 32;
#if FLOAT_BITS
    for (uint k = 0; k < 32 && b * 32 + k < cols; k++)
        out[k] = float_value(panel, b * 32 + k, lane) * scale + (add ? out[k] : 0);
#else
    const scales32 scales = load_scales(panel, cols / 32, b, lane);
    global const uint *low = low_words(panel, b, lane), *high = high_words(panel, cols / 32, b, lane);
    for (uint j = 0; j < 8; j++) {
        const uint codes = codes_of(low[LOW_AT(j) * 16], HIGH_BITS ? high[HIGH_AT(j) * 16] : 0, j);
        vstore4(weights_of(codes, &scales, j) * scale + (add ? vload4(j, out) : (float4)(0)), j, out);
    }
#endif
}
