/* SPDX-License-Identifier: Apache-2.0
 *
 * A work-group for each row and head, the KV heads after the query heads: optional RMSNorm of the head, rotary embedding
 * (Su et al. 2021) in place; a KV head's K and V go into the cache. A cache block of one KV head is K [head_dim][32
 * positions] and V [32 positions][width], f16, or int8, turned, with f16 scales: K [groups][32], V [32][groups]. */
static inline void store_half(float v, size_t i, global uchar *to)
{
    vstore_half_rte(v, i, (global half *)to);
}

/* Rows lie one after another; row r is at position positions[r], in cache block blocks[block_at[r] + position / 32]. */
kernel void rope_kv(global float *q, global float *k, global const float *v, uint heads, uint kv_heads,
                    uint head_dim, uint n_rot, int neox, global const float *cosine,
                    global const float *sine, global const float *q_norm, global const float *k_norm,
                    uint has_norms, float eps, global const uint *positions,
                    global const uint *block_at, global const uint *blocks, global uchar *cache,
                    ulong head_bytes, ulong k_bytes, uint width, local float *x, local float *scratch)
{
    const uint i = get_local_id(0), n = get_local_size(0), r = get_group_id(0), h = get_group_id(1);
    const bool is_q = h < heads;
    const uint head = is_q ? h : h - heads;
    const uint position = positions[r];
    global float *from = (is_q ? q + (size_t)r * heads * head_dim : k + (size_t)r * kv_heads * head_dim) +
                         (size_t)head * head_dim;
    float scale = 1;
    if (has_norms & (is_q ? 1 : 2)) {
        float sum = 0;
        for (uint d = i; d < head_dim; d += n)
            sum += from[d] * from[d];
        scale = rsqrt(group_sum(sum, scratch) / head_dim + eps);
        global const float *norm = is_q ? q_norm : k_norm;
        for (uint d = i; d < head_dim; d += n)
            x[d] = from[d] * scale * norm[d];
    } else {
        for (uint d = i; d < head_dim; d += n)
            x[d] = from[d];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = i; p < n_rot / 2; p += n) {
        const uint a = neox ? p : 2 * p, b = neox ? p + n_rot / 2 : 2 * p + 1;
        const float c = cosine[(size_t)position * (n_rot / 2) + p],
                    s = sine[(size_t)position * (n_rot / 2) + p], xa = x[a], xb = x[b];
        x[a] = xa * c - xb * s;
        x[b] = xb * c + xa * s;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint d = i; d < head_dim; d += n)
        from[d] = x[d];
    if (is_q)
        return;

    const uint slot = position % KV_TOKENS;
    global uchar *to = cache + ((size_t)blocks[block_at[r] + position / KV_TOKENS] * kv_heads + head) * head_bytes;
    v += ((size_t)r * kv_heads + head) * head_dim;
#if !KV_Q8
    for (uint d = i; d < head_dim; d += n) {
        store_half(x[d], (size_t)d * KV_TOKENS + slot, to);
        store_half(v[d], (size_t)slot * width + d, to + k_bytes);
    }
#else
    const uint groups = (head_dim + 31) / 32;
    const float turn_scale = 1.0f / TURN_SPAN(head_dim);
    for (uint is_v = 0; is_v < 2; is_v++) {
        for (uint d = i; d < head_dim; d += n)
            x[d] = (is_v ? v[d] : x[d]) * turn_scale;
        turn(x, head_dim, head_dim);
        for (uint g = i; g < groups; g += n) {
            const uint first = g * 32, last = min(first + 32, head_dim);
            float most = 0;
            for (uint d = first; d < last; d++)
                most = fmax(most, fabs(x[d]));
            const float inverse = most > 0 ? 127 / most : 0;
            for (uint d = first; d < last; d++)
                ((global char *)to)[is_v ? k_bytes + (size_t)slot * width + d : (size_t)d * KV_TOKENS + slot] =
                    convert_char_sat_rte(x[d] * inverse);
            if (is_v)
                store_half(most / 127, slot * groups + g, to + k_bytes + (size_t)KV_TOKENS * width);
            else
                store_half(most / 127, g * KV_TOKENS + slot, to + (size_t)head_dim * KV_TOKENS);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#endif
}
