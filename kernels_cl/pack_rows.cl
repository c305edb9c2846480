/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows which[0] < which[1] < … of x, in place to its front: one work-item a column, which goes down the rows, so that none is
 * overwritten before it was moved. */
kernel void pack_rows(global float *x, uint cols, global const uint *which, uint count)
{
    const uint k = get_global_id(0);
    if (k >= cols)
        return;
    for (uint r = 0; r < count; r++)
        x[(size_t)r * cols + k] = x[(size_t)which[r] * cols + k];
}
