/* SPDX-License-Identifier: Apache-2.0
 *
 * RMSNorm (Zhang and Sennrich 2019), a work-group for each row. */

/* What a linear reads: rows of x, chosen by `which` and normed when these are there, and their sums over 16 columns. */
kernel void prepare(global const float *x, uint cols, global const uint *which, uint has_which,
                    global const float *norm, uint has_norm, float eps, global float *y,
                    global float *sums, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0), r = get_group_id(0);
    float scale = 1;
    x += (size_t)(has_which ? which[r] : r) * cols;
    y += (size_t)r * cols;
    if (has_norm) {
        float sum = 0;
        for (uint k = i; k < cols; k += n)
            sum += x[k] * x[k];
        scale = rsqrt(group_sum(sum, scratch) / cols + eps);
    }
    for (uint k = i; k < cols; k += n)
        y[k] = has_norm ? x[k] * scale * norm[k] : x[k];
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (uint g = i; g < cols / 16; g += n) {
        float sum = 0;
        for (uint k = 0; k < 16; k++)
            sum += y[g * 16 + k];
        sums[(size_t)r * (cols / 16) + g] = sum;
    }
}

/* x += RMSNorm(y) * norm */
kernel void norm_add(global const float *y, uint cols, global const float *norm, float eps,
                     global float *x, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const size_t row = (size_t)get_group_id(0) * cols;
    float sum = 0;
    for (uint k = i; k < cols; k += n)
        sum += y[row + k] * y[row + k];
    const float scale = rsqrt(group_sum(sum, scratch) / cols + eps);
    for (uint k = i; k < cols; k += n)
        x[row + k] += y[row + k] * scale * norm[k];
}
