/* SPDX-License-Identifier: Apache-2.0
 *
 * y[r] += bias after a matrix multiplication of a library, on `cols` columns from `first` on. */
kernel void add_bias(global const float *bias, uint first, uint cols, global float *y, uint y_cols)
{
    const uint i = get_global_id(0);
    if (i < cols)
        y[(size_t)get_global_id(1) * y_cols + first + i] += bias[first + i];
}
