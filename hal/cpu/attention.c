/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary embedding, the KV cache, and attention over it or over the rows of a step. K and V are read from the cache only, block by block of 32
 * absolute positions, in ascending order, by the online softmax (Milakov and Gimelshein 2018): so a row's result
 * depends on its own positions alone. All query heads of a KV head, and up to 48 queries of neighbouring rows, share
 * one unpacked block. Blocks that not all of these queries see whole are summed row by row, each in its own bounds, so
 * that no value of a later position is ever multiplied in, not even by zero. A q8_0 cache holds K and V turned by a
 * Walsh-Hadamard transform, and q is turned likewise: products stay what they were, but a channel of large values (a bias
 * of K makes some) is spread over its whole head and no longer coarsens the scale of its 31 neighbours (Ashkboos et al.
 * 2024, QuaRot).
 *
 * Over rows it goes alike: keys and values are first laid out as a cache's unpacked blocks, those of each span for itself, so
 * that here too nothing depends on the other texts of the step. */
#include "hal/cpu/cpu.h"

#include <math.h>

enum { ROWS_AN_ITEM = 16, TOKENS = HOB_KV_BLOCK_TOKENS };

static uint8_t *kv_head_at(const hob_kv *kv, uint32_t block, uint32_t layer, uint32_t head)
{
    return kv->data + block * kv->block_bytes +
           ((size_t)layer * kv->shape.kv_heads + head) * (kv->k_bytes + kv->v_bytes);
}

/* Largest power of two that divides head_dim: what a transform spans. */
static uint32_t turn_span(uint32_t head_dim)
{
    return head_dim & -head_dim;
}

/* x [head_dim], in spans: x = H x, with H H = span * identity, unscaled. */
static void turn(float *x, uint32_t head_dim)
{
    const uint32_t span = turn_span(head_dim);

    for (uint32_t half = 1; half < span; half *= 2)
        for (float *a = x; a < x + head_dim; a += 2 * half)
            for (uint32_t i = 0; i < half; i++) {
                const float sum = a[i] + a[half + i], difference = a[i] - a[half + i];
                a[i] = sum;
                a[half + i] = difference;
            }
}

/* k, v: [head_dim] of one position of one head. */
static void kv_write(const hob_cpu_device *dev, uint8_t *at, uint32_t slot, const float *k,
                     const float *v)
{
    const hob_kv *kv = dev->kv;
    uint32_t head_dim = kv->shape.head_dim;

    if (kv->shape.type == HOB_TYPE_F16) {
        uint16_t half[HOB_CPU_HEAD_DIM_MAX], *to = (uint16_t *)at;
        dev->kernels.to_half(k, half, head_dim);
        for (uint32_t j = 0; j < head_dim; j++)
            to[j * TOKENS + slot] = half[j];
        dev->kernels.to_half(v, (uint16_t *)(at + kv->k_bytes) + (size_t)slot * kv->width,
                             head_dim);
        return;
    }
    float padded[2][HOB_CPU_HEAD_DIM_MAX] = {{0}};
    int8_t q[2][HOB_CPU_HEAD_DIM_MAX];
    hob_cpu_scale scales[2][HOB_CPU_HEAD_DIM_MAX / 32];
    const float scale = 1.0f / (float)turn_span(head_dim);
    for (uint32_t j = 0; j < head_dim; j++) {
        padded[0][j] = k[j] * scale;
        padded[1][j] = v[j] * scale;
    }
    for (int i = 0; i < 2; i++) {
        turn(padded[i], head_dim);
        dev->kernels.quantize(padded[i], kv->groups, q[i], scales[i]);
    }
    int8_t *k_to = (int8_t *)at, *v_to = (int8_t *)at + kv->k_bytes;
    uint16_t *k_scales = (uint16_t *)(at + (size_t)head_dim * TOKENS);
    uint16_t *v_scales =
        (uint16_t *)(at + kv->k_bytes + (size_t)TOKENS * kv->width) + (size_t)slot * kv->groups;
    for (uint32_t j = 0; j < head_dim; j++)
        k_to[j * TOKENS + slot] = q[0][j];
    memcpy(v_to + (size_t)slot * kv->width, q[1], head_dim);
    for (uint32_t g = 0; g < kv->groups; g++) {
        k_scales[g * TOKENS + slot] = hob_float_to_half(scales[0][g].d);
        v_scales[g] = hob_float_to_half(scales[1][g].d);
    }
}

/* k [head_dim][32]; v [32][width], rows lo .. hi; of a q8_0 cache, turned. */
static void kv_unpack(const hob_cpu_device *dev, const uint8_t *at, uint32_t lo, uint32_t hi,
                      float *k, float *v)
{
    const hob_kv *kv = dev->kv;
    uint32_t head_dim = kv->shape.head_dim, width = kv->width;

    if (kv->shape.type == HOB_TYPE_F16) {
        dev->kernels.from_half((const uint16_t *)at, k, (size_t)head_dim * TOKENS);
        dev->kernels.from_half((const uint16_t *)(at + kv->k_bytes) + (size_t)lo * width,
                               v + (size_t)lo * width, (size_t)(hi - lo) * width);
        return;
    }
    const int8_t *k_from = (const int8_t *)at, *v_from = (const int8_t *)at + kv->k_bytes;
    const uint16_t *k_scales = (const uint16_t *)(at + (size_t)head_dim * TOKENS);
    const uint16_t *v_scales = (const uint16_t *)(at + kv->k_bytes + (size_t)TOKENS * width);
    float d[TOKENS];
    for (uint32_t g = 0; g < kv->groups; g++) {
        dev->kernels.from_half(k_scales + g * TOKENS, d, TOKENS);
        for (uint32_t j = g * 32; j < head_dim && j < g * 32 + 32; j++)
            dev->kernels.scale_lanes(k_from + j * TOKENS, d, k + j * TOKENS, TOKENS);
    }
    for (uint32_t p = lo; p < hi; p++)
        for (uint32_t g = 0; g < kv->groups; g++) {
            size_t from = (size_t)p * width + g * 32,
                   count = width - g * 32 < 32 ? width - g * 32 : 32;
            float scale = hob_half_to_float(v_scales[(size_t)p * kv->groups + g]);
            for (uint32_t i = 0; i < TOKENS; i++)
                d[i] = scale;
            dev->kernels.scale_lanes(v_from + from, d, v + from, count);
        }
}

typedef struct rope_job {
    hob_cpu_device *dev;
    const hob_rope_kv *op;
    const hob_rope_table *table;
} rope_job;

static void rotate_head_rows(const rope_job *job, float *x, uint32_t heads, const hob_weight *norm,
                             uint32_t position)
{
    const hob_rope_kv *op = job->op;

    for (uint32_t h = 0; norm && h < heads; h++)
        job->dev->kernels.rms_norm(x + h * op->head_dim, norm->vector, op->norm_eps,
                                   x + h * op->head_dim, op->head_dim);
    if (op->n_rot) {
        size_t at = (size_t)position * (op->n_rot / 2);
        job->dev->kernels.rope(x, heads, op->head_dim, op->n_rot, op->neox, job->table->cosine + at,
                               job->table->sine + at);
    }
}

static void rope_rows(void *arg, uint32_t item, uint32_t worker)
{
    const rope_job *job = arg;
    const hob_rope_kv *op = job->op;
    const hob_batch *batch = job->dev->batch;
    uint32_t first = item * ROWS_AN_ITEM, end = first + ROWS_AN_ITEM < batch->row_count
                                                    ? first + ROWS_AN_ITEM
                                                    : batch->row_count;
    const hob_span *span = batch->spans;

    (void)worker;
    for (uint32_t row = first; row < end; row++) {
        while (row >= span->first_row + span->row_count)
            span++;
        uint32_t position = span->first_position + (row - span->first_row);
        float *q = op->q->data + (size_t)row * op->q->cols,
              *k = op->k->data + (size_t)row * op->k->cols;
        const float *v = op->v->data + (size_t)row * op->v->cols;
        rotate_head_rows(job, q, op->heads, op->q_norm, position);
        rotate_head_rows(job, k, op->kv_heads, op->k_norm, position);
        for (uint32_t h = 0; h < op->kv_heads; h++)
            kv_write(job->dev,
                     kv_head_at(job->dev->kv, span->blocks[position / TOKENS], op->layer, h),
                     position % TOKENS, k + h * op->head_dim, v + h * op->head_dim);
    }
}

/* Thread: step */
int hob_cpu_rope_kv(hob_device *base, const hob_rope_kv *op)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_batch *batch = dev->batch;
    rope_job job = {.dev = dev, .op = op};
    uint32_t positions = 0;

    if (!dev->kv || op->layer >= dev->kv->shape.layers || op->kv_heads != dev->kv->shape.kv_heads ||
        op->head_dim != dev->kv->shape.head_dim || op->n_rot > op->head_dim || op->n_rot % 2 ||
        op->q->cols != op->heads * op->head_dim || op->k->cols != op->kv_heads * op->head_dim ||
        op->v->cols != op->k->cols ||
        (op->q_norm && (!op->q_norm->vector || op->q_norm->matrix.cols != op->head_dim)) ||
        (op->k_norm && (!op->k_norm->vector || op->k_norm->matrix.cols != op->head_dim)) ||
        (op->factors && (!op->factors->vector || op->factors->matrix.cols != op->n_rot / 2)))
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->span_count; i++) {
        uint32_t end = batch->spans[i].first_position + batch->spans[i].row_count;
        positions = end > positions ? end : positions;
    }
    if (op->n_rot) {
        const int table = hob_rope_table_find(dev->ropes, op,
                                              op->factors ? op->factors->vector : NULL, positions);
        if (table < 0)
            return table;
        job.table = &dev->ropes[table];
    }
    uint32_t items = (batch->row_count + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM;
    hob_pool_run(dev->pool, rope_rows, &job, items);
    return 0;
}

/* Working memory of one item; every part begins on 64 bytes. */
typedef struct attend_memory {
    float *k, *v;      /* [head_dim][32], [32][width] */
    float *q, *s, *o;  /* [queries][head_dim], [queries][32], [queries][width] */
    float (*state)[2]; /* [queries] */
    float *scale;      /* [queries] */
} attend_memory;

static size_t attend_bytes(size_t width)
{
    return sizeof(float) *
               (TOKENS * width * 2 + HOB_CPU_ATTEND_QUERIES * (width * 2 + TOKENS + 3)) +
           1024;
}

/* width: a multiple of 16, so that rows begin on 64 bytes. */
static attend_memory attend_lay_out(size_t width, void *scratch)
{
    attend_memory m;

    m.k = scratch;
    m.v = m.k + TOKENS * width;
    m.q = m.v + TOKENS * width;
    m.s = m.q + HOB_CPU_ATTEND_QUERIES * width;
    m.o = m.s + HOB_CPU_ATTEND_QUERIES * TOKENS;
    m.scale = m.o + HOB_CPU_ATTEND_QUERIES * width;
    m.state = (float(*)[2])(m.scale + HOB_CPU_ATTEND_QUERIES);
    return m;
}

typedef struct attend_job {
    hob_cpu_device *dev;
    const hob_attention *op;
    uint32_t group;     /* query heads of a KV head */
    uint32_t rows_each; /* of an item */
    uint32_t items;
} attend_job;

static uint32_t first_seen(const hob_attention *op, uint32_t position)
{
    return op->window && position + 1 > op->window ? position + 1 - op->window : 0;
}

/* One block for `rows` neighbouring rows, the first at `position`; next: the block after it, itself when it is the last. */
static void attend_block(const attend_job *job, const attend_memory *m, const uint8_t *at,
                         const uint8_t *next, uint32_t block_start, uint32_t position,
                         uint32_t rows)
{
    const hob_cpu_kernels *kernels = &job->dev->kernels;
    const hob_attention *op = job->op;
    const hob_kv *kv = job->dev->kv;
    uint32_t last = position + rows - 1,
             seen_end = last - block_start < TOKENS - 1 ? last - block_start + 1 : TOKENS;
    uint32_t seen_from =
        first_seen(op, position) > block_start ? first_seen(op, position) - block_start : 0;
    bool whole = position >= block_start + TOKENS - 1 && first_seen(op, last) <= block_start;
    /* one row's few queries read f16 as it lies */
    const bool half = rows == 1 && kv->shape.type == HOB_TYPE_F16;
    const uint16_t *v_half = (const uint16_t *)(at + kv->k_bytes),
                   *next_v = (const uint16_t *)(next + kv->k_bytes);

    if (half) {
        kernels->attend_scores_half(m->q, op->head_dim, job->group, (const uint16_t *)at,
                                    (const uint16_t *)next, op->head_dim, m->s);
    } else {
        kv_unpack(job->dev, at, seen_from, seen_end, m->k, m->v);
        kernels->attend_scores(m->q, op->head_dim, rows * job->group, m->k, op->head_dim, m->s);
    }
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t p = position + r, from = first_seen(op, p), query = r * job->group;
        if (p < block_start || from >= block_start + TOKENS)
            continue;
        uint32_t lo = from > block_start ? from - block_start : 0,
                 hi = p - block_start < TOKENS ? p - block_start + 1 : TOKENS;
        for (uint32_t g = 0; g < job->group; g++)
            m->scale[query + g] =
                kernels->attend_softmax(m->s + (query + g) * TOKENS, lo, hi, m->state[query + g]);
        if (half)
            kernels->attend_values_half(m->s, m->scale, job->group, lo, hi, v_half, next_v,
                                        kv->width, m->o);
        else if (!whole)
            kernels->attend_values(m->s + query * TOKENS, m->scale + query, job->group, lo, hi,
                                   m->v, kv->width, m->o + query * kv->width);
    }
    if (whole && !half)
        kernels->attend_values(m->s, m->scale, rows * job->group, 0, TOKENS, m->v, kv->width, m->o);
}

/* What an item computes: neighbouring rows of one span, for the query heads of one KV head. */
typedef struct attend_part {
    const hob_span *span;
    uint32_t head, first, rows, queries; /* first: row of the span */
    size_t width;
} attend_part;

static attend_part part_of(const attend_job *job, uint32_t item, size_t width)
{
    const uint32_t kv_heads = job->op->kv_heads;
    attend_part p = {.span = job->dev->batch->spans, .head = item % kv_heads, .width = width};
    uint32_t chunk = item / kv_heads, chunks;

    while (chunk >= (chunks = (p.span->row_count + job->rows_each - 1) / job->rows_each)) {
        chunk -= chunks;
        p.span++;
    }
    p.first = chunk * job->rows_each;
    p.rows = p.span->row_count - p.first;
    p.rows = p.rows < job->rows_each ? p.rows : job->rows_each;
    p.queries = p.rows * job->group;
    return p;
}

/* Where query i of a part lies in q, and its result in out. */
static size_t query_at(const attend_job *job, const attend_part *p, uint32_t i)
{
    return (size_t)(p->span->first_row + p->first + i / job->group) * job->op->q->cols +
           (size_t)(p->head * job->group + i % job->group) * job->op->head_dim;
}

/* y = x * scale. Sixteen at a time, a number that compilers see. */
static void scale_row(const float *restrict x, float scale, float *restrict y, uint32_t n)
{
    uint32_t j = 0;

    for (; j + 16 <= n; j += 16)
        for (uint32_t i = 0; i < 16; i++)
            y[j + i] = x[j + i] * scale;
    for (; j < n; j++)
        y[j] = x[j] * scale;
}

static void begin_queries(const attend_job *job, const attend_part *p, const attend_memory *m,
                          bool turned)
{
    const hob_attention *op = job->op;

    for (uint32_t i = 0; i < p->queries; i++) {
        scale_row(op->q->data + query_at(job, p, i), op->scale, m->q + i * op->head_dim,
                  op->head_dim);
        if (turned)
            turn(m->q + i * op->head_dim, op->head_dim);
        m->state[i][0] = -INFINITY;
        m->state[i][1] = 0;
    }
    memset(m->o, 0, p->queries * p->width * sizeof *m->o);
}

static void end_queries(const attend_job *job, const attend_part *p, const attend_memory *m,
                        bool turned)
{
    const hob_attention *op = job->op;

    for (uint32_t i = 0; i < p->queries; i++) {
        float *out = op->out->data + query_at(job, p, i);
        const float inverse = 1.0f / m->state[i][1];
        if (turned)
            turn(m->o + i * p->width, op->head_dim);
        scale_row(m->o + i * p->width, inverse, out, op->head_dim);
    }
}

static void attend_item(void *arg, uint32_t item, uint32_t worker)
{
    const attend_job *job = arg;
    const hob_attention *op = job->op;
    const hob_kv *kv = job->dev->kv;
    const bool turned = kv->shape.type != HOB_TYPE_F16;
    const attend_memory m = attend_lay_out(kv->width, hob_cpu_scratch(job->dev, worker));
    /* later rows see more: they go first */
    const attend_part p = part_of(job, job->items - 1 - item, kv->width);
    const uint32_t position = p.span->first_position + p.first,
                   last = (position + p.rows - 1) / TOKENS;

    begin_queries(job, &p, &m, turned);
    for (uint32_t b = first_seen(op, position) / TOKENS; b <= last; b++)
        attend_block(job, &m, kv_head_at(kv, p.span->blocks[b], op->layer, p.head),
                     kv_head_at(kv, p.span->blocks[b < last ? b + 1 : b], op->layer, p.head),
                     b * TOKENS, position, p.rows);
    end_queries(job, &p, &m, turned);
}

/* ---- over rows ---- */

/* Where span rows are laid out: [block of all spans][KV head], each K [head_dim][32] and V [32][width]. */
static size_t row_block_floats(const hob_attention *op, size_t width)
{
    return (op->head_dim + width) * TOKENS;
}

static size_t width_of(const hob_attention *op)
{
    return (op->head_dim + 15) / 16 * 16;
}

static uint32_t blocks_of(const hob_span *s)
{
    return (s->row_count + TOKENS - 1) / TOKENS;
}

/* One block of one KV head; what lies behind the span's end is left as it was, and read by nobody. */
static void lay_out_rows(void *arg, uint32_t item, uint32_t worker)
{
    const attend_job *job = arg;
    const hob_attention *op = job->op;
    const size_t width = width_of(op), cols = op->k->cols;
    const uint32_t head = item % op->kv_heads, block = item / op->kv_heads;
    const hob_span *span = job->dev->batch->spans;
    float *k = (float *)job->dev->rows.data + item * row_block_floats(op, width),
          *v = k + op->head_dim * TOKENS;
    uint32_t at = block;

    (void)worker;
    for (; at >= blocks_of(span); span++)
        at -= blocks_of(span);
    const uint32_t left = span->row_count - at * TOKENS, rows = left < TOKENS ? left : TOKENS;
    const size_t from =
        (size_t)(span->first_row + at * TOKENS) * cols + (size_t)head * op->head_dim;
    for (uint32_t p = 0; p < rows; p++) {
        const float *key = op->k->data + from + p * cols;
        for (uint32_t j = 0; j < op->head_dim; j++)
            k[j * TOKENS + p] = key[j];
        memcpy(v + p * width, op->v->data + from + p * cols, op->head_dim * sizeof *v);
    }
}

static void attend_rows_item(void *arg, uint32_t item, uint32_t worker)
{
    const attend_job *job = arg;
    const hob_cpu_kernels *kernels = &job->dev->kernels;
    const hob_attention *op = job->op;
    const size_t width = width_of(op), floats = row_block_floats(op, width);
    const attend_memory m = attend_lay_out(width, hob_cpu_scratch(job->dev, worker));
    const attend_part p = part_of(job, item, width);
    uint32_t block = 0;

    for (const hob_span *s = job->dev->batch->spans; s < p.span; s++)
        block += blocks_of(s);
    begin_queries(job, &p, &m, false);
    for (uint32_t start = 0; start < p.span->row_count; start += TOKENS, block++) {
        const uint32_t left = p.span->row_count - start, seen = left < TOKENS ? left : TOKENS;
        const float *k =
            (const float *)job->dev->rows.data + ((size_t)block * op->kv_heads + p.head) * floats;
        kernels->attend_scores(m.q, op->head_dim, p.queries, k, op->head_dim, m.s);
        for (uint32_t i = 0; i < p.queries; i++)
            m.scale[i] = kernels->attend_softmax(m.s + i * TOKENS, 0, seen, m.state[i]);
        kernels->attend_values(m.s, m.scale, p.queries, 0, seen, k + op->head_dim * TOKENS,
                               (uint32_t)width, m.o);
    }
    end_queries(job, &p, &m, false);
}

static int attend_rows(hob_cpu_device *dev, attend_job *job)
{
    const hob_attention *op = job->op;
    const hob_batch *batch = dev->batch;
    size_t blocks = 0, count, bytes;

    if (!op->v || op->window || op->head_dim == 0 || op->head_dim > HOB_CPU_HEAD_DIM_MAX ||
        op->k->cols != op->kv_heads * op->head_dim || op->v->cols != op->k->cols ||
        op->q->rows < batch->row_count || op->k->rows < batch->row_count ||
        op->v->rows < batch->row_count || op->out->rows < batch->row_count)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->span_count; i++)
        blocks += blocks_of(&batch->spans[i]);
    if (!hob_mul_size(blocks, op->kv_heads, &count) || count > UINT32_MAX ||
        !hob_mul_size(count, row_block_floats(op, width_of(op)) * sizeof(float), &bytes) ||
        hob_cpu_buffer_ensure(&dev->rows, bytes) < 0 ||
        hob_cpu_scratch_ensure(dev, attend_bytes(width_of(op))) < 0)
        return HOB_ENOMEM;
    const hob_pool_phase phases[] = {{lay_out_rows, job, (uint32_t)count},
                                     {attend_rows_item, job, job->items}};
    hob_pool_run_phases(dev->pool, phases, 2);
    return 0;
}

/* Thread: step */
int hob_cpu_attention(hob_device *base, const hob_attention *op)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_batch *batch = dev->batch;
    attend_job job = {.dev = dev, .op = op};

    if (op->kv_heads == 0 || op->heads % op->kv_heads || op->q->cols != op->heads * op->head_dim ||
        op->out->cols != op->q->cols || op->heads / op->kv_heads > HOB_CPU_ATTEND_QUERIES ||
        op->heads == 0)
        return HOB_EINVAL;
    job.group = op->heads / op->kv_heads;
    job.rows_each = HOB_CPU_ATTEND_QUERIES / job.group;
    for (uint32_t i = 0; i < batch->span_count; i++)
        job.items += (batch->spans[i].row_count + job.rows_each - 1) / job.rows_each * op->kv_heads;
    if (op->k)
        return attend_rows(dev, &job);
    if (!dev->kv || op->layer >= dev->kv->shape.layers || op->kv_heads != dev->kv->shape.kv_heads ||
        op->head_dim != dev->kv->shape.head_dim)
        return HOB_EINVAL;
    int rc = hob_cpu_scratch_ensure(dev, attend_bytes(dev->kv->width));
    if (rc < 0)
        return rc;
    hob_pool_run(dev->pool, attend_item, &job, job.items);
    return 0;
}
