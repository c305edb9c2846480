/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts, beside linear.cl's multiplication by slots. */

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
