/* SPDX-License-Identifier: Apache-2.0
 *
 * The best k of each asked row, by rounds: every work-group sorts CHUNK keys (bitonic, Batcher 1968) and passes its best
 * on, until one group is left. A key is the logit's bits, ordered, above the complement of its token id: keys descend by
 * logit and then by ascending id. NaN counts as -infinity. */
#define CHUNK 1024

#pragma OPENCL FP_CONTRACT OFF

/* a / b as IEEE 754 rounds it, which OpenCL's division need not. */
static inline float divided(float a, float b)
{
    const float q = a / b, left = fma(-q, b, a);
    return isfinite(q) ? q + left / b : q;
}

/* edits [count]: request, token, and the bits of divide and add. rows [requests][vocab]: copies of the asked rows. */
kernel void edit_logits(global const uint4 *edits, uint count, uint vocab, global float *rows)
{
    const uint i = get_global_id(0);
    if (i >= count)
        return;
    const uint4 e = edits[i];
    global float *at = rows + (size_t)e.x * vocab + e.y;
    const float logit = *at, divide = as_float(e.z);
    *at = (logit > 0 ? divided(logit, divide) : logit * divide) + as_float(e.w);
}

/* rows[request] = logits[which[request]] */
kernel void copy_rows(global const float *logits, global const uint *which, uint vocab, global float *rows)
{
    const uint i = get_global_id(0), r = get_global_id(1);
    if (i < vocab)
        rows[(size_t)r * vocab + i] = logits[(size_t)which[r] * vocab + i];
}

static inline float largest_and_sum(global const float *row, uint first, uint end, float inverse, local float *scratch,
                             float *ret_sum)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    float most = -INFINITY, sum = 0;
    for (uint e = first + i; e < end; e += n)
        most = fmax(most, row[e]);
    most = group_max(most, scratch);
    for (uint e = first + i; most > -INFINITY && e < end; e += n)
        sum += exp((row[e] - most) * inverse);
    *ret_sum = group_sum(sum, scratch);
    return most;
}

/* parts [requests][chunks]: largest edited logit, sum of exp((logit - largest) / T), and the same of the raw ones. */
kernel void log_sum_parts(global const float *rows, global const float *logits, global const uint *which,
                          global const float *inverse, uint vocab, uint chunks, global float4 *parts,
                          local float *scratch)
{
    const uint r = get_group_id(1), first = get_group_id(0) * CHUNK, end = min(first + CHUNK, vocab);
    float sum, raw_sum;
    const float most = largest_and_sum(rows + (size_t)r * vocab, first, end, inverse[r], scratch, &sum),
                raw = largest_and_sum(logits + (size_t)which[r] * vocab, first, end, 1, scratch, &raw_sum);
    if (get_local_id(0) == 0)
        parts[(size_t)r * chunks + get_group_id(0)] = (float4)(most, sum, raw, raw_sum);
}

static inline ulong key_of(float logit, uint token)
{
    uint u = as_uint(logit);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        u = 0xff800000u;
    if (u == 0x80000000u)
        u = 0; /* -0 equals +0 */
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (ulong)u << 32 | (uint)~token;
}

static inline void sort_descending(local ulong *keys)
{
    const uint n = get_local_size(0);
    for (uint size = 2; size <= CHUNK; size *= 2)
        for (uint gap = size / 2; gap > 0; gap /= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint e = get_local_id(0); e < CHUNK / 2; e += n) {
                const uint a = e / gap * gap * 2 + e % gap, b = a + gap;
                const bool down = (a & size) == 0;
                const ulong x = keys[a], y = keys[b];
                if ((x < y) == down) {
                    keys[a] = y;
                    keys[b] = x;
                }
            }
        }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* The first round, from logits; out [requests][chunks][keep]. */
kernel void best_logits(global const float *rows, uint vocab, uint chunks, uint keep, global ulong *out)
{
    local ulong keys[CHUNK];
    const uint r = get_group_id(1), first = get_group_id(0) * CHUNK;
    for (uint e = get_local_id(0); e < CHUNK; e += get_local_size(0))
        keys[e] = first + e < vocab ? key_of(rows[(size_t)r * vocab + first + e], first + e) : 0;
    sort_descending(keys);
    for (uint e = get_local_id(0); e < keep; e += get_local_size(0))
        out[((size_t)r * chunks + get_group_id(0)) * keep + e] = keys[e];
}

/* The next ones, from keys [requests][count]. */
kernel void best_keys(global const ulong *in, uint count, uint chunks, uint keep, global ulong *out)
{
    local ulong keys[CHUNK];
    const uint r = get_group_id(1), first = get_group_id(0) * CHUNK;
    for (uint e = get_local_id(0); e < CHUNK; e += get_local_size(0))
        keys[e] = first + e < count ? in[(size_t)r * count + first + e] : 0;
    sort_descending(keys);
    for (uint e = get_local_id(0); e < keep; e += get_local_size(0))
        out[((size_t)r * chunks + get_group_id(0)) * keep + e] = keys[e];
}

/* The last round's keys and their tokens' unedited logits, to where the host reads: results as ulong and as float. */
kernel void raw_logits(global const ulong *keys, uint keep, global const float *logits, global const uint *which,
                       uint vocab, global ulong *results, ulong keys_at, ulong raw_at)
{
    const uint i = get_global_id(0), r = get_global_id(1);
    if (i >= keep)
        return;
    const ulong key = keys[(size_t)r * keep + i];
    const uint token = ~(uint)key;
    results[keys_at + (size_t)r * keep + i] = key;
    ((global float *)results)[raw_at + (size_t)r * keep + i] =
        token < vocab ? logits[(size_t)which[r] * vocab + token] : 0;
}
