/* SPDX-License-Identifier: Apache-2.0
 *
 * Causal attention over the paged cache (layout: rope_kv.cl) with the online softmax (Milakov and Gimelshein 2018). A
 * work-group takes a tile: up to rows x heads queries of one KV head, neighbouring rows of one sequence, and one part of
 * the positions; with more than one part (Dao et al. 2023, flash decoding) attend_join sums them up. */

/* Tiles: four numbers each: first row, rows, position of the first row, where its sequence's blocks begin. */
#if !KV_Q8
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

kernel void attend(global const float *q, global float *out, global const uchar *cache, uint heads,
                   uint kv_heads, uint head_dim, ulong head_bytes, ulong k_bytes, uint width, float scale,
                   uint window, global const uint4 *tiles, global const uint *blocks, uint tile_heads,
                   uint part_tokens, uint parts, global float *partial, local float *memory,
                   uint queries_max)
{
    const uint i = get_local_id(0), n = get_local_size(0);
    const uint4 tile = tiles[get_group_id(0)];
    const uint group = heads / kv_heads, head_tiles = (group + tile_heads - 1) / tile_heads;
    const uint kv_head = get_group_id(1) / head_tiles,
               first_head = kv_head * group + get_group_id(1) % head_tiles * tile_heads,
               head_count = min(tile_heads, (kv_head + 1) * group - first_head);
    const uint rows = tile.y, position = tile.z, queries = rows * head_count, part = get_group_id(2);
    local float *qs = memory;                          /* [queries][head_dim] */
    local float *o = qs + queries_max * head_dim;      /* [queries][head_dim] */
    local float *s = o + queries_max * head_dim;       /* [queries][32] */
    local float *state = s + queries_max * KV_TOKENS;  /* [queries][3]: largest, sum, factor */

    for (uint e = i; e < queries * head_dim; e += n) {
        const uint query = e / head_dim, d = e % head_dim;
        qs[e] = q[((size_t)(tile.x + query / head_count) * heads + first_head + query % head_count) * head_dim + d] *
                scale;
        o[e] = 0;
    }
#if KV_Q8
    turn(qs, queries * head_dim, head_dim);
#endif
    for (uint e = i; e < queries; e += n) {
        state[e * 3] = -INFINITY;
        state[e * 3 + 1] = 0;
    }
    const uint seen_from = window && position + 1 > window ? position + 1 - window : 0,
               seen_end = position + rows;
    const uint from = max(part * part_tokens, seen_from / KV_TOKENS * KV_TOKENS),
               end = parts > 1 ? min((part + 1) * part_tokens, seen_end) : seen_end;

    for (uint start = from; start < end; start += KV_TOKENS) {
        global const uchar *at =
            cache + ((size_t)blocks[tile.w + start / KV_TOKENS] * kv_heads + kv_head) * head_bytes;
        barrier(CLK_LOCAL_MEM_FENCE);
        const uint p = i % KV_TOKENS;
        for (uint query = i / KV_TOKENS * 4; query < queries; query += n / KV_TOKENS * 4) {
            float sum[4] = {0, 0, 0, 0};
            for (uint d = 0; d < head_dim; d++) {
                const float k = K_AT(d, p);
                for (uint e = 0; e < 4; e++)
                    sum[e] += k * qs[min(query + e, queries - 1) * head_dim + d];
            }
            for (uint e = 0; e < 4 && query + e < queries; e++) {
                const uint own = position + (query + e) / head_count, other = start + p;
                const bool seen = other <= own && (!window || other + window > own);
                s[(query + e) * KV_TOKENS + p] = seen ? sum[e] : -INFINITY;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint query = i; query < queries; query += n) {
            local float *row = s + query * KV_TOKENS;
            float most = state[query * 3];
            for (uint e = 0; e < KV_TOKENS; e++)
                most = fmax(most, row[e]);
            const float factor = most == -INFINITY ? 1 : exp(state[query * 3] - most);
            float sum = state[query * 3 + 1] * factor;
            for (uint e = 0; e < KV_TOKENS; e++) {
                row[e] = row[e] == -INFINITY ? 0 : exp(row[e] - most);
                sum += row[e];
            }
            state[query * 3] = most;
            state[query * 3 + 1] = sum;
            state[query * 3 + 2] = factor;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        /* What lies behind the last position, or before a window, was perhaps never written: it is not read. */
        const uint low = seen_from > start ? seen_from - start : 0, high = min(seen_end - start, (uint)KV_TOKENS);
        for (uint d = i; d < head_dim; d += n) {
            float v[KV_TOKENS];
            for (uint e = 0; e < KV_TOKENS; e++)
                v[e] = e >= low && e < high ? V_AT(e, d) : 0;
            for (uint query = 0; query < queries; query++) {
                float sum = o[query * head_dim + d] * state[query * 3 + 2];
                for (uint e = 0; e < KV_TOKENS; e++)
                    sum += s[query * KV_TOKENS + e] * v[e];
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
kernel void attend_join(global const float *partial, global float *out, uint head_dim, uint parts)
{
    const size_t at = get_group_id(0);
    partial += at * parts * (head_dim + 2);
    float most = -INFINITY, sum = 0;
    for (uint p = 0; p < parts; p++)
        most = fmax(most, partial[p * (head_dim + 2) + head_dim]);
    for (uint p = 0; p < parts; p++) {
        const float own = partial[p * (head_dim + 2) + head_dim];
        sum += own == -INFINITY ? 0 : exp(own - most) * partial[p * (head_dim + 2) + head_dim + 1];
    }
    for (uint d = get_local_id(0); d < head_dim; d += get_local_size(0)) {
        float o = 0;
        for (uint p = 0; p < parts; p++) {
            const float own = partial[p * (head_dim + 2) + head_dim];
            o += own == -INFINITY ? 0 : exp(own - most) * partial[p * (head_dim + 2) + d];
        }
        out[at * head_dim + d] = o / sum;
    }
}
