/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention with the online softmax (Milakov and Gimelshein 2018): causal over the paged cache (layout: rope_kv.cl), or with
 * KV_ROWS over all rows of a span. A work-group takes a tile: up to rows x heads queries of one KV head, neighbouring rows of one sequence, and one part of
 * the positions; with more than one part (Dao et al. 2023, flash decoding) attend_join sums them up. */

/* Tiles: four numbers each: first row, rows, position of the first row, where its sequence's blocks begin; of rows: first row,
 * rows, the span's first row, its rows. */
#if KV_ROWS
#define KV_PARAMETERS global const float *keys, global const float *values
#define ROW_AT(x, p, d)                                                                            \
    (x)[((size_t)(tile.z + min(start + (p), seen_end - 1)) * kv_heads + kv_head) * head_dim + (d)]
#define K_AT(d, p) ROW_AT(keys, p, d)
#define V_AT(p, d) ROW_AT(values, p, d)
#else
#define KV_PARAMETERS                                                                              \
    global const uchar *cache, ulong head_bytes, ulong k_bytes, uint width, global const uint *blocks
#endif
#if KV_ROWS
#elif !KV_Q8
#define K_AT(d, p) vload_half((d) * KV_TOKENS + (p), (global const half *)at)
#define V_AT(p, d) vload_half((p) * width + (d), (global const half *)(at + k_bytes))
#else
#define K_AT(d, p)                                                                                 \
    ((float)((global const char *)at)[(d) * KV_TOKENS + (p)] *                                     \
     vload_half((d) / 32 * KV_TOKENS + (p), (global const half *)(at + head_dim * KV_TOKENS)))
#define V_AT(p, d)                                                                                 \
    ((float)((global const char *)at)[k_bytes + (p) * width + (d)] *                               \
     vload_half((p) * ((head_dim + 31) / 32) + (d) / 32,                                           \
                (global const half *)(at + k_bytes + KV_TOKENS * width)))
#endif

kernel void attend(global const float *q, global float *out, uint heads, uint kv_heads, uint head_dim, float scale,
                   uint window, global const uint4 *tiles, uint tile_heads, uint part_tokens, uint parts,
                   global float *partial, local float4 *memory, uint queries_max, KV_PARAMETERS)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const uint4 tile = tiles[get_group_id(0)];
    const uint group = heads / kv_heads, head_tiles = (group + tile_heads - 1) / tile_heads;
    const uint kv_head = get_group_id(1) / head_tiles,
               first_head = kv_head * group + get_group_id(1) % head_tiles * tile_heads,
               head_count = min(tile_heads, (kv_head + 1) * group - first_head);
    const uint rows = tile.y, queries = rows * head_count, part = get_group_id(2);
    const uint fours = (head_dim + 3) / 4;
    local float4 *qs = memory, *s = qs + queries_max * fours; /* [queries][fours], [queries][8]: scores */
    local float *o = (local float *)(s + queries_max * KV_TOKENS / 4); /* [queries][head_dim] */
    local float *state = o + queries_max * head_dim;                   /* [queries][3]: largest, sum, factor */

    for (uint e = i; e < queries * head_dim; e += n) {
        const uint query = e / head_dim, d = e % head_dim;
        const float v =
            q[((size_t)(tile.x + query / head_count) * heads + first_head + query % head_count) * head_dim + d] *
            scale;
#if KV_Q8
        o[e] = v; /* turned, then moved */
#else
        ((local float *)(qs + query * fours))[d] = v;
        o[e] = 0;
#endif
    }
#if KV_Q8
    turn(o, queries * head_dim, head_dim);
    for (uint e = i; e < queries * head_dim; e += n) {
        ((local float *)(qs + e / head_dim * fours))[e % head_dim] = o[e];
        o[e] = 0;
    }
#endif
    for (uint e = i; e < queries; e += n) {
        state[e * 3] = -INFINITY;
        state[e * 3 + 1] = 0;
    }
#if KV_ROWS
    const uint seen_from = 0, seen_end = tile.w;
#else
    const uint position = tile.z, seen_from = window && position + 1 > window ? position + 1 - window : 0,
               seen_end = position + rows;
#endif
    const uint from = max(part * part_tokens, seen_from / KV_TOKENS * KV_TOKENS),
               end = parts > 1 ? min((part + 1) * part_tokens, seen_end) : seen_end;

    for (uint start = from; start < end; start += KV_TOKENS) {
#if !KV_ROWS
        global const uchar *at =
            cache + ((size_t)blocks[tile.w + start / KV_TOKENS] * kv_heads + kv_head) * head_bytes;
#endif
        barrier(CLK_LOCAL_MEM_FENCE);
        const uint p = i % KV_TOKENS;
        for (uint query = i / KV_TOKENS * 4; query < queries; query += n / KV_TOKENS * 4) {
            float sum[4] = {0, 0, 0, 0};
#pragma unroll 8
            for (uint d = 0; d < head_dim / 4; d++) {
                const float4 k = (float4)(K_AT(4 * d, p), K_AT(4 * d + 1, p), K_AT(4 * d + 2, p), K_AT(4 * d + 3, p));
                UNROLL for (uint e = 0; e < 4; e++)
                    sum[e] += dot(k, qs[min(query + e, queries - 1) * fours + d]);
            }
            for (uint d = head_dim / 4 * 4; d < head_dim; d++) {
                const float k = K_AT(d, p);
                UNROLL for (uint e = 0; e < 4; e++)
                    sum[e] += k * ((local const float *)(qs + min(query + e, queries - 1) * fours))[d];
            }
            UNROLL for (uint e = 0; e < 4; e++)
                if (query + e < queries) {
                    const uint other = start + p;
#if KV_ROWS
                    const bool seen = other < seen_end;
#else
                    const uint own = position + (query + e) / head_count;
                    const bool seen = other <= own && (!window || other + window > own);
#endif
                    ((local float *)(s + (query + e) * (KV_TOKENS / 4)))[p] = seen ? sum[e] : -INFINITY;
                }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint query = i; query < queries; query += n) {
            local const float4 *row = s + query * (KV_TOKENS / 4);
            float4 most4 = row[0];
            UNROLL for (uint e = 1; e < KV_TOKENS / 4; e++)
                most4 = fmax(most4, row[e]);
            const float most = fmax(fmax(fmax(most4.x, most4.y), fmax(most4.z, most4.w)), state[query * 3]);
            state[query * 3 + 2] = most == -INFINITY ? 1 : exp(state[query * 3] - most);
            state[query * 3] = most;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint e = i; e < queries * KV_TOKENS; e += n) {
            local float *score = (local float *)s + e;
            *score = *score == -INFINITY ? 0 : exp(*score - state[e / KV_TOKENS * 3]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint query = i; query < queries; query += n) {
            float4 sum = (float4)(0);
            UNROLL for (uint e = 0; e < KV_TOKENS / 4; e++)
                sum += s[query * (KV_TOKENS / 4) + e];
            state[query * 3 + 1] = state[query * 3 + 1] * state[query * 3 + 2] + (sum.x + sum.y) + (sum.z + sum.w);
        }
        /* What lies behind the last position, or before a window, was perhaps never written: it is not read. */
        const uint low = seen_from > start ? seen_from - start : 0, high = min(seen_end - start, (uint)KV_TOKENS);
        for (uint d = i; d < head_dim; d += n) {
            float v[KV_TOKENS];
            UNROLL for (uint e = 0; e < KV_TOKENS; e++) { /* no branches: the reads are on their way together */
                const float read = V_AT(min(max(e, low), high - 1), d);
                v[e] = e >= low && e < high ? read : 0;
            }
            for (uint query = 0; query < queries; query++) {
                float sum = o[query * head_dim + d] * state[query * 3 + 2];
                UNROLL for (uint e = 0; e < KV_TOKENS / 4; e++)
                    sum += dot(s[query * (KV_TOKENS / 4) + e],
                               (float4)(v[4 * e], v[4 * e + 1], v[4 * e + 2], v[4 * e + 3]));
                o[query * head_dim + d] = sum;
            }
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if KV_Q8
    turn(o, queries * head_dim, head_dim);
#endif
    for (uint e = i; e < queries * head_dim; e += n) {
        const uint query = e / head_dim, d = e % head_dim;
        const size_t at = (size_t)(tile.x + query / head_count) * heads + first_head + query % head_count;
        if (parts == 1)
            out[at * head_dim + d] = o[e] / state[query * 3 + 1];
        else
            partial[(at * parts + part) * (head_dim + 2) + d] = o[e];
    }
    for (uint query = i; parts > 1 && query < queries; query += n) {
        const size_t at = (size_t)(tile.x + query / head_count) * heads + first_head + query % head_count;
        global float *to = partial + (at * parts + part) * (head_dim + 2) + head_dim;
        to[0] = state[query * 3];
        to[1] = state[query * 3 + 1];
    }
}

/* One work-group for each row and head. */
kernel void attend_join(global const float *partial, global float *out, uint head_dim, uint parts, local float *factor)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const size_t at = get_group_id(0);
    partial += at * parts * (head_dim + 2);
    float most = -INFINITY, sum = 0;
    for (uint p = i; p < parts; p += n)
        factor[p] = partial[p * (head_dim + 2) + head_dim];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = 0; p < parts; p++)
        most = fmax(most, factor[p]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint p = i; p < parts; p += n)
        factor[p] = factor[p] == -INFINITY ? 0 : exp(factor[p] - most);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 4
    for (uint p = 0; p < parts; p++)
        sum += factor[p] * partial[p * (head_dim + 2) + head_dim + 1];
    for (uint d = i; d < head_dim; d += n) {
        float o = 0;
#pragma unroll 8
        for (uint p = 0; p < parts; p++)
            o += factor[p] * partial[p * (head_dim + 2) + d];
        out[at * head_dim + d] = o / sum;
    }
}
