/* SPDX-License-Identifier: Apache-2.0
 *
 * A span's rows to one vector of length 1: their mean, or their first; a work-group each. spans: first row and rows. */
kernel void pool(global const float *x, uint cols, global const uint2 *spans, int mean, global float *out,
                 local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const uint2 span = spans[get_group_id(0)];
    const uint rows = mean ? span.y : 1;
    float squares = 0;
    x += (size_t)span.x * cols;
    out += (size_t)get_group_id(0) * cols;
    for (uint k = i; k < cols; k += n) {
        float sum = 0;
        for (uint r = 0; r < rows; r++)
            sum += x[(size_t)r * cols + k];
        sum /= rows;
        out[k] = sum; /* read again by the same item */
        squares += sum * sum;
    }
    const float scale = 1 / fmax(sqrt(group_sum(squares, scratch)), 1e-12f);
    for (uint k = i; k < cols; k += n)
        out[k] *= scale;
}
