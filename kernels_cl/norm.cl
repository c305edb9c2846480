/* SPDX-License-Identifier: Apache-2.0
 *
 * RMSNorm (Zhang and Sennrich 2019), and the forms of a row that a linear reads: floats with their sums over 16 columns, or
 * bytes with the scales of blocks of 32. A work-group makes PREPARE_COLS columns of a row; the norm's sum is made by each. */
#define PREPARE_COLS 1024
#define GATED 1 /* `gating`: 0 none, GATED with an up, 2 without */

/* 1 / sqrt(mean of squares + eps) of a row, by its work-group. */
static inline float norm_scale(global const float *x, uint cols, float eps, local float *scratch)
{
    float sum = 0;
    const uint n = get_local_size(0);
    uint k = get_local_id(0);
    for (; k + 3 * n < cols; k += 4 * n) {
        const float a = x[k], b = x[k + n], c = x[k + 2 * n], d = x[k + 3 * n];
        sum += a * a + b * b + (c * c + d * d);
    }
    for (; k < cols; k += n)
        sum += x[k] * x[k];
    return rsqrt(group_sum(sum, scratch) / cols + eps);
}

/* Rows of x, chosen by `which` and normed when these are there; with `gating` x is act(x) * up, or without an up act(x), which is kept
 * in out.
 * sums [cols / 16] a row, where cols is a multiple of 16. */
kernel void prepare(global const float *x, uint cols, global const uint *which, uint has_which,
                    global const float *norm, uint has_norm, float eps, global const float *up, uint gating,
                    int act, global float *out, global float *y, global float *sums, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0), r = get_group_id(1),
               end = min((get_group_id(0) + 1) * PREPARE_COLS, (size_t)cols);
    const size_t row = (size_t)(has_which ? which[r] : r) * cols;
    x += row;
    y += (size_t)r * cols;
    sums += (size_t)r * (cols / 16);
    const float scale = has_norm ? norm_scale(x, cols, eps, scratch) : 1;
    for (uint first = get_group_id(0) * PREPARE_COLS; first < end; first += n) { /* n is a multiple of 16 */
        const uint k = first + i;
        float v = k >= end ? 0 : has_norm ? x[k] * scale * norm[k] : x[k];
        if (gating && k < end)
            out[row + k] = v = gated(v, gating == GATED ? up[row + k] : 1, act);
        if (k < end)
            y[k] = v;
        barrier(CLK_LOCAL_MEM_FENCE);
        scratch[i] = v;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (i % 16 == 0 && k + 16 <= cols) {
            float sum = 0;
            for (uint e = i; e < i + 16; e++)
                sum += scratch[e];
            sums[k / 16] = sum;
        }
    }
}

/* The same as bytes: q = round(x / d) with d = max|x| / 127 of a block of 32; side [cols / 32] a row: d, d times the sums of
 * both halves of q, and of all. A block that is not finite has d NaN. cols is a multiple of 32; four columns an item. */
kernel void prepare_bytes(global const float *x, uint cols, global const uint *which, uint has_which,
                          global const float *norm, uint has_norm, float eps, global const float *up, uint gating,
                          int act, global float *out, global char4 *q, global float4 *side, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0), r = get_group_id(1),
               end = min((get_group_id(0) + 1) * PREPARE_COLS, (size_t)cols) / 4;
    const size_t row = (size_t)(has_which ? which[r] : r) * cols;
    local float *sums = scratch + n;
    q += (size_t)r * (cols / 4);
    side += (size_t)r * (cols / 32);
    const float scale = has_norm ? norm_scale(x + row, cols, eps, scratch) : 1;
    global const float4 *from = (global const float4 *)(x + row), *ups = (global const float4 *)(up + row),
                        *norms = (global const float4 *)norm;
    for (uint first = get_group_id(0) * (PREPARE_COLS / 4); first < end; first += n) { /* of 8: blocks stay whole */
        const uint k = first + i;
        float4 v = (float4)(0);
        if (k < end) {
            v = from[k];
            if (has_norm)
                v = v * scale * norms[k];
            if (gating) {
                const float4 u = gating == GATED ? ups[k] : (float4)(1);
                v = (float4)(gated(v.x, u.x, act), gated(v.y, u.y, act), gated(v.z, u.z, act),
                             gated(v.w, u.w, act));
                ((global float4 *)(out + row))[k] = v;
            }
        }
        const float4 a = fabs(v);
        const bool finite = all(isfinite(v));
        barrier(CLK_LOCAL_MEM_FENCE);
        scratch[i] = finite ? fmax(fmax(a.x, a.y), fmax(a.z, a.w)) : INFINITY;
        barrier(CLK_LOCAL_MEM_FENCE);
        float most = 0;
        UNROLL for (uint e = 0; e < 8; e++)
            most = fmax(most, scratch[i / 8 * 8 + e]);
        const float inverse = most > 0 && most < INFINITY ? 127 / most : 0;
        const char4 codes = convert_char4_sat_rte(finite ? v * inverse : (float4)(0));
        sums[i] = codes.x + codes.y + codes.z + codes.w;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k < end) {
            q[k] = codes;
            if (i % 8 == 0) {
                const float d = most < INFINITY ? most / 127 : NAN;
                const float low = sums[i] + sums[i + 1] + sums[i + 2] + sums[i + 3],
                            high = sums[i + 4] + sums[i + 5] + sums[i + 6] + sums[i + 7];
                side[k / 8] = (float4)(d, d * low, d * high, d * (low + high));
            }
        }
    }
}

/* x += RMSNorm(y) * norm */
kernel void norm_add(global const float *y, uint cols, global const float *norm, float eps,
                     global float *x, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const size_t row = (size_t)get_group_id(0) * cols;
    const float scale = norm_scale(y + row, cols, eps, scratch);
    for (uint k = i; k < cols; k += n)
        x[row + k] += y[row + k] * scale * norm[k];
}

/* x = (x - mean) / sqrt(variance + eps) * norm + bias of each row (Ba et al. 2016), by its work-group. */
kernel void layer_norm(global float *x, uint cols, global const float *norm, global const float *bias, float eps,
                       local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    float sum = 0;
    x += (size_t)get_group_id(0) * cols;
    for (uint k = i; k < cols; k += n)
        sum += x[k];
    const float mean = group_sum(sum, scratch) / cols;
    sum = 0;
    for (uint k = i; k < cols; k += n)
        sum += (x[k] - mean) * (x[k] - mean);
    const float scale = rsqrt(group_sum(sum, scratch) / cols + eps);
    for (uint k = i; k < cols; k += n)
        x[k] = (x[k] - mean) * scale * norm[k] + bias[k];
}
