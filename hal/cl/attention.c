/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary embedding with the write into the KV cache, and attention over it. */
#include "hal/cl/cl.h"

enum {
    GROUP = 64,
    QUERIES_MAX = 16, /* of a tile */
    PARTS_MAX = 64,   /* that attention is split into */
};

static int send_rope(hob_cl_device *dev, int table)
{
    const hob_rope_table *t = &dev->ropes[table];
    hob_cl_rope *r = &dev->rope_buffers[table];
    const size_t bytes = (size_t)t->positions * (t->n_rot / 2) * sizeof(float);
    int rc;

    if (r->generation == t->generation && r->positions >= t->positions)
        return 0;
    if ((rc = hob_cl_buffer_ensure(dev, &r->cosine, bytes)) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &r->sine, bytes)) < 0 ||
        (rc = hob_cl_write(dev, r->cosine.mem, 0, bytes, t->cosine)) < 0 ||
        (rc = hob_cl_write(dev, r->sine.mem, 0, bytes, t->sine)) < 0)
        return rc;
    r->generation = t->generation;
    r->positions = t->positions;
    return 0;
}

static bool norm_fits(const hob_weight *norm, uint32_t head_dim)
{
    return !norm || (norm->vector && norm->panels.cols == head_dim);
}

/* Thread: step */
int hob_cl_rope_kv(hob_device *base, const hob_rope_kv *op)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_kv *kv = dev->kv;
    const hob_batch *batch = dev->batch;
    uint32_t positions = 0;
    cl_mem cosine = NULL, sine = NULL;

    if (!kv || op->layer >= kv->shape.layers || op->kv_heads != kv->shape.kv_heads ||
        op->head_dim != kv->shape.head_dim || op->n_rot > op->head_dim || op->n_rot % 2 ||
        op->q->cols != op->heads * op->head_dim || op->k->cols != op->kv_heads * op->head_dim ||
        op->v->cols != op->k->cols || !norm_fits(op->q_norm, op->head_dim) ||
        !norm_fits(op->k_norm, op->head_dim) ||
        (op->factors && (!op->factors->vector || op->factors->panels.cols != op->n_rot / 2)))
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->span_count; i++) {
        const uint32_t end = batch->spans[i].first_position + batch->spans[i].row_count;
        positions = end > positions ? end : positions;
    }
    if (op->n_rot) {
        /* more than is needed now: a table is sent whole when it grows */
        const uint32_t ahead = (positions + 511) / 512 * 512;
        const int table =
            hob_rope_table_find(dev->ropes, op, op->factors ? op->factors->vector : NULL, ahead);
        if (table < 0)
            return table;
        const int rc = send_rope(dev, table);
        if (rc < 0)
            return rc;
        cosine = dev->rope_buffers[table].cosine.mem;
        sine = dev->rope_buffers[table].sine.mem;
    }
    const cl_mem q_norm = op->q_norm ? op->q_norm->parts[0].mem : NULL,
                 k_norm = op->k_norm ? op->k_norm->parts[0].mem : NULL;
    const uint32_t has_norms = (op->q_norm ? 1u : 0u) | (op->k_norm ? 2u : 0u);
    const cl_int neox = op->neox;
    const cl_ulong head_bytes = kv->head_bytes, k_bytes = kv->k_bytes;
    const hob_cl_arg args[] = {HOB_CL_ARG(op->q->mem),
                               HOB_CL_ARG(op->k->mem),
                               HOB_CL_ARG(op->v->mem),
                               HOB_CL_ARG(op->heads),
                               HOB_CL_ARG(op->kv_heads),
                               HOB_CL_ARG(op->head_dim),
                               HOB_CL_ARG(op->n_rot),
                               HOB_CL_ARG(neox),
                               HOB_CL_ARG(cosine),
                               HOB_CL_ARG(sine),
                               HOB_CL_ARG(q_norm),
                               HOB_CL_ARG(k_norm),
                               HOB_CL_ARG(has_norms),
                               HOB_CL_ARG(op->norm_eps),
                               HOB_CL_ARG(dev->positions.buffer.mem),
                               HOB_CL_ARG(dev->block_starts.buffer.mem),
                               HOB_CL_ARG(dev->blocks.buffer.mem),
                               HOB_CL_ARG(kv->layers[op->layer]),
                               HOB_CL_ARG(head_bytes),
                               HOB_CL_ARG(k_bytes),
                               HOB_CL_ARG(kv->width),
                               {op->head_dim * sizeof(float), NULL},
                               {GROUP * sizeof(float), NULL}};
    const uint32_t kind = kv->shape.type == HOB_TYPE_Q8_0 ? HOB_KIND_Q8_0 : HOB_KIND_F16;
    return hob_cl_run(dev, HOB_CL_ROPE_KV, kind,
                      (size_t[]){batch->row_count, op->heads + op->kv_heads, 1},
                      (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
}

/* The step's tiles of that many rows: see attention.cl. whole: rows see all of their span. */
static int make_tiles(hob_cl_device *dev, uint32_t tile_rows, bool whole)
{
    const hob_batch *batch = dev->batch;
    uint32_t count = 0, at = 0;
    int rc;

    if (dev->tile_rows == tile_rows && dev->tiles_whole == whole)
        return 0;
    if (dev->tile_rows && (rc = hob_cl_wait(dev)) < 0) /* the ones before may still be read */
        return rc;
    for (uint32_t i = 0; i < batch->span_count; i++)
        count += (batch->spans[i].row_count + tile_rows - 1) / tile_rows;
    uint32_t *tiles = hob_cl_stage(dev, &dev->tiles, 4 * count);
    if (!tiles)
        return dev->base.failure.text[0] ? HOB_EDEVICE : HOB_ENOMEM;
    const uint32_t *block_starts = dev->block_starts.host.data;
    for (uint32_t i = 0; i < batch->span_count; i++) {
        const hob_span *s = &batch->spans[i];
        for (uint32_t r = 0; r < s->row_count; r += tile_rows, at += 4) {
            const uint32_t left = s->row_count - r;
            tiles[at] = s->first_row + r;
            tiles[at + 1] = left < tile_rows ? left : tile_rows;
            tiles[at + 2] = whole ? s->first_row : s->first_position + r;
            tiles[at + 3] = whole ? s->row_count : block_starts[s->first_row];
        }
    }
    dev->tile_rows = tile_rows;
    dev->tiles_whole = whole;
    dev->tile_count = count;
    return hob_cl_send(dev, &dev->tiles);
}

/* Positions that the row of the step sees that sees most. */
static uint32_t longest(const hob_batch *batch, bool whole)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < batch->span_count; i++) {
        const hob_span *s = &batch->spans[i];
        const uint32_t end = (whole ? 0 : s->first_position) + s->row_count;
        most = end > most ? end : most;
    }
    return most;
}

/* Thread: step */
int hob_cl_attention(hob_device *base, const hob_attention *op)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_kv *kv = dev->kv;
    const hob_batch *batch = dev->batch;
    const bool whole = op->k != NULL;
    int rc;

    if (op->heads == 0 || op->kv_heads == 0 || op->head_dim == 0 || op->heads % op->kv_heads ||
        op->q->cols != op->heads * op->head_dim || op->out->cols != op->q->cols)
        return HOB_EINVAL;
    if (whole ? !op->v || op->window || op->k->cols != op->kv_heads * op->head_dim ||
                    op->v->cols != op->k->cols || op->q->rows < batch->row_count ||
                    op->k->rows < batch->row_count || op->v->rows < batch->row_count ||
                    op->out->rows < batch->row_count
              : !kv || op->layer >= kv->shape.layers || op->kv_heads != kv->shape.kv_heads ||
                    op->head_dim != kv->shape.head_dim)
        return HOB_EINVAL;
    /* A tile's queries share local memory: their q and output, scores and states. */
    const size_t each =
        ((op->head_dim + 3) / 4 * 4 + (size_t)op->head_dim + HOB_KV_BLOCK_TOKENS + 3) *
        sizeof(float);
    const uint32_t room = (uint32_t)(dev->local_bytes / each),
                   queries = room < QUERIES_MAX ? room : QUERIES_MAX,
                   group = op->heads / op->kv_heads;
    if (queries == 0)
        return HOB_EUNSUPPORTED;
    const uint32_t tile_heads = group < queries ? group : queries, tile_rows = queries / tile_heads,
                   heads_y = op->kv_heads * ((group + tile_heads - 1) / tile_heads);
    if ((rc = hob_cl_gate_now(dev)) < 0 || (rc = make_tiles(dev, tile_rows, whole)) < 0)
        return rc;
    const uint32_t blocks = (longest(batch, whole) + HOB_KV_BLOCK_TOKENS - 1) / HOB_KV_BLOCK_TOKENS,
                   groups = dev->tile_count * heads_y;
    uint32_t parts = groups < dev->wanted_groups ? dev->wanted_groups / groups : 1;
    parts = parts < PARTS_MAX ? parts : PARTS_MAX;
    const uint32_t part_blocks = (blocks + parts - 1) / parts,
                   part_tokens = part_blocks * HOB_KV_BLOCK_TOKENS;
    parts = (blocks + part_blocks - 1) / part_blocks;
    if (parts > 1 && (rc = hob_cl_buffer_ensure(dev, &dev->partial,
                                                (size_t)batch->row_count * op->heads * parts *
                                                    (op->head_dim + 2) * sizeof(float))) < 0)
        return rc;
    const cl_ulong head_bytes = whole ? 0 : kv->head_bytes, k_bytes = whole ? 0 : kv->k_bytes;
    const cl_mem cache = whole ? NULL : kv->layers[op->layer];
    enum { SHARED = 14, CACHE = 5, ROWS = 2 };
    hob_cl_arg args[SHARED + CACHE] = {HOB_CL_ARG(op->q->mem),   HOB_CL_ARG(op->out->mem),
                                       HOB_CL_ARG(op->heads),    HOB_CL_ARG(op->kv_heads),
                                       HOB_CL_ARG(op->head_dim), HOB_CL_ARG(op->scale),
                                       HOB_CL_ARG(op->window),   HOB_CL_ARG(dev->tiles.buffer.mem),
                                       HOB_CL_ARG(tile_heads),   HOB_CL_ARG(part_tokens),
                                       HOB_CL_ARG(parts),        HOB_CL_ARG(dev->partial.mem),
                                       {queries * each, NULL},   HOB_CL_ARG(queries)};
    if (whole) {
        args[SHARED] = (hob_cl_arg)HOB_CL_ARG(op->k->mem);
        args[SHARED + 1] = (hob_cl_arg)HOB_CL_ARG(op->v->mem);
    } else {
        args[SHARED] = (hob_cl_arg)HOB_CL_ARG(cache);
        args[SHARED + 1] = (hob_cl_arg)HOB_CL_ARG(head_bytes);
        args[SHARED + 2] = (hob_cl_arg)HOB_CL_ARG(k_bytes);
        args[SHARED + 3] = (hob_cl_arg)HOB_CL_ARG(kv->width);
        args[SHARED + 4] = (hob_cl_arg)HOB_CL_ARG(dev->blocks.buffer.mem);
    }
    const uint32_t kind = whole                             ? HOB_KIND_F32
                          : kv->shape.type == HOB_TYPE_Q8_0 ? HOB_KIND_Q8_0
                                                            : HOB_KIND_F16;
    rc = hob_cl_run(dev, HOB_CL_ATTEND, kind, (size_t[]){dev->tile_count, heads_y, parts},
                    (size_t[]){GROUP, 1, 1}, args, SHARED + (whole ? ROWS : CACHE));
    if (rc < 0 || parts == 1)
        return rc;
    const hob_cl_arg join[] = {HOB_CL_ARG(dev->partial.mem),
                               HOB_CL_ARG(op->out->mem),
                               HOB_CL_ARG(op->head_dim),
                               HOB_CL_ARG(parts),
                               {parts * sizeof(float), NULL}};
    return hob_cl_run(dev, HOB_CL_ATTEND_JOIN, kind,
                      (size_t[]){(size_t)batch->row_count * op->heads, 1, 1},
                      (size_t[]){GROUP, 1, 1}, join, sizeof join / sizeof *join);
}
