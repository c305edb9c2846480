/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice of a matrix, which begins `from` bytes into w, as floats for a matrix multiplication of a library, transposed:
 * out[k][r], r < rows, a multiple of 16. One work-item for 32 columns of a row; neighbouring items are neighbouring rows and write neighbouring words. */
kernel void dequantize(global const uchar *w, ulong from, uint rows, uint cols, ulong panel_bytes, global float *out)
{
    const uint r = get_global_id(0), b = get_global_id(1), lane = r % PANEL_ROWS;
    if (r >= rows)
        return;
    global const uchar *panel = w + from + (size_t)(r / PANEL_ROWS) * panel_bytes;
    out += (size_t)b * 32 * rows + r;
#if FLOAT_BITS
    for (uint k = 0; k < 32 && b * 32 + k < cols; k++)
        out[(size_t)k * rows] = float_value(panel, b * 32 + k, lane);
#else
    const scales32 scales = load_scales(panel, cols / 32, b, lane);
    global const uint *low = low_words(panel, b, lane), *high = high_words(panel, cols / 32, b, lane);
    for (uint j = 0; j < 8; j++, out += (size_t)4 * rows) {
        const uint codes = codes_of(low[LOW_AT(j) * 16], HIGH_BITS ? high[HIGH_AT(j) * 16] : 0, j);
        const float4 v = weights_of(codes, &scales, j);
        out[0] = v.x;
        out[rows] = v.y;
        out[(size_t)2 * rows] = v.z;
        out[(size_t)3 * rows] = v.w;
    }
#endif
}
