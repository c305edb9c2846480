/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts, beside the multiplications of linear.cl and tile.cl. A slot is one row's choice of one expert. */

/* One work-item a row: its `used` best experts, ascending by number, and the softmax of their scores. */
kernel void route(global const float *scores, uint rows, uint count, uint used, global uint *experts,
                  global float *shares)
{
    const uint r = get_global_id(0);
    if (r >= rows)
        return;
    scores += (size_t)r * count;
    experts += (size_t)r * used;
    shares += (size_t)r * used;
    for (uint u = 0; u < used; u++) { /* ordered by score first: NaN is less than any number */
        uint best = count;
        for (uint e = 0; e < count; e++) {
            bool taken = false;
            for (uint t = 0; t < u; t++)
                taken |= experts[t] == e;
            if (!taken && (best == count || scores[e] > scores[best] || (isnan(scores[best]) && !isnan(scores[e]))))
                best = e;
        }
        experts[u] = best;
    }
    const float most = scores[experts[0]];
    float sum = 0;
    for (uint u = 1; u < used; u++) {
        const uint e = experts[u];
        uint at = u;
        for (; at > 0 && experts[at - 1] > e; at--)
            experts[at] = experts[at - 1];
        experts[at] = e;
    }
    for (uint u = 0; u < used; u++)
        sum += shares[u] = exp(scores[experts[u]] - most);
    for (uint u = 0; u < used; u++)
        shares[u] /= sum;
}

/* Slots by expert, ascending: expert e has order[starts[e]] .. before order[starts[e + 1]]. One work-group. */
kernel void group_slots(global const uint *experts, uint slots, uint count, global uint *starts, global uint *order)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    for (uint e = i; e < count; e += n) {
        uint sum = 0;
        for (uint s = 0; s < slots; s++)
            sum += experts[s] == e;
        starts[e + 1] = sum;
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    if (i == 0) {
        starts[0] = 0;
        for (uint e = 0; e < count; e++)
            starts[e + 1] += starts[e];
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (uint e = i; e < count; e += n) {
        uint at = starts[e];
        for (uint s = 0; s < slots; s++)
            if (experts[s] == e)
                order[at++] = s;
    }
}

/* x[r] += sum of shares[slot] * down[slot] */
kernel void add_shares(global const float *down, uint cols, uint used, global const float *shares, global float *x)
{
    const uint k = get_global_id(0), r = get_global_id(1);
    if (k >= cols)
        return;
    float sum = x[(size_t)r * cols + k];
    for (uint u = r * used; u < (r + 1) * used; u++)
        sum += shares[u] * down[(size_t)u * cols + k];
    x[(size_t)r * cols + k] = sum;
}
