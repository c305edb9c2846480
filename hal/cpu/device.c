/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU device: opening it at the best tier that passes its self-test, tensors, the KV arena, and the small
 * operations (embedding rows, gate). linear.c, attention.c and candidates.c have the large ones. */
#include "hal/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20, ROWS_AN_ITEM = 16, GATE_AN_ITEM = 8192 };

int hob_cpu_buffer_ensure(hob_cpu_buffer *b, size_t bytes)
{
    if (bytes <= b->bytes)
        return 0;
    void *data = hob_cpu_pages_new(bytes);
    if (!data)
        return HOB_ENOMEM;
    hob_cpu_pages_free(b->data, b->bytes);
    b->data = data;
    b->bytes = bytes;
    return 0;
}

int hob_cpu_scratch_ensure(hob_cpu_device *dev, size_t bytes_each)
{
    size_t total;

    if (bytes_each <= dev->scratch_each)
        return 0;
    bytes_each =
        (bytes_each + 4095) / 4096 * 4096 + 64; /* workers' parts do not share sets of the cache */
    if (!hob_mul_size(bytes_each, dev->threads, &total) ||
        hob_cpu_buffer_ensure(&dev->scratch, total) < 0)
        return HOB_ENOMEM;
    dev->scratch_each = bytes_each;
    return 0;
}

void *hob_cpu_pages_new(size_t bytes)
{
    if (bytes < HUGE_PAGE) {
        void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return data == MAP_FAILED ? NULL : data;
    }
    /* the mapping is moved to a huge page's border by mapping more and giving back both ends */
    size_t rounded = (bytes + 4095) / 4096 * 4096, mapped;
    if (rounded < bytes || !hob_add_size(rounded, HUGE_PAGE, &mapped))
        return NULL;
    uint8_t *data = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)data % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        munmap(data, before);
    if (mapped - before > rounded)
        munmap(data + before + rounded, mapped - before - rounded);
    madvise(data + before, rounded, MADV_HUGEPAGE);
    return data + before;
}

void hob_cpu_pages_free(void *data, size_t bytes)
{
    if (data)
        munmap(data, (bytes + 4095) / 4096 * 4096);
}

static int tensor_new(hob_device *base, uint32_t rows, uint32_t cols, hob_tensor **ret,
                      hob_diag *diag)
{
    size_t count, bytes;

    if (rows == 0 || cols == 0 || !hob_mul_size(rows, cols, &count) ||
        !hob_mul_size(count, sizeof(float), &bytes))
        return hob_fail(diag, HOB_EINVAL, "tensor of %u rows, %u columns", rows, cols);
    hob_tensor *t = calloc(1, sizeof *t);
    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "tensor: out of memory");
    *t = (hob_tensor){.rows = rows, .cols = cols, .data = hob_cpu_pages_new(bytes), .bytes = bytes};
    if (!t->data) {
        free(t);
        return hob_fail(diag, HOB_ENOMEM, "tensor of %u rows, %u columns: out of memory", rows,
                        cols);
    }
    base->resident_bytes += bytes;
    *ret = t;
    return 0;
}

static void tensor_free(hob_device *base, hob_tensor *t)
{
    if (!t)
        return;
    base->resident_bytes -= t->bytes;
    hob_cpu_pages_free(t->data, t->bytes);
    free(t);
}

static int kv_new(hob_device *base, const hob_kv_shape *s, hob_kv **ret, hob_diag *diag)
{
    size_t heads;

    if (s->layers == 0 || s->kv_heads == 0 || s->head_dim == 0 ||
        s->head_dim > HOB_CPU_HEAD_DIM_MAX || s->block_count == 0 ||
        (s->type != HOB_TYPE_F16 && s->type != HOB_TYPE_Q8_0) ||
        !hob_mul_size(s->layers, s->kv_heads, &heads))
        return hob_fail(diag, HOB_EINVAL,
                        "KV cache of %u layers, %u heads of %u, %u blocks: head size is 1 to %d, "
                        "type F16 or Q8_0",
                        s->layers, s->kv_heads, s->head_dim, s->block_count, HOB_CPU_HEAD_DIM_MAX);
    hob_kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        return hob_fail(diag, HOB_ENOMEM, "KV cache: out of memory");
    kv->shape = *s;
    kv->width = (s->head_dim + 15) / 16 * 16;
    kv->groups = (s->head_dim + 31) / 32;
    size_t tokens = HOB_KV_BLOCK_TOKENS,
           scales = s->type == HOB_TYPE_Q8_0 ? tokens * kv->groups * 2 : 0;
    size_t each = s->type == HOB_TYPE_F16 ? 2 : 1;
    kv->k_bytes = (tokens * s->head_dim * each + scales + 63) / 64 * 64;
    kv->v_bytes = (tokens * kv->width * each + scales + 63) / 64 * 64;
    if (!hob_mul_size(heads, kv->k_bytes + kv->v_bytes, &kv->block_bytes) ||
        !hob_mul_size(kv->block_bytes, s->block_count, &kv->bytes) ||
        !(kv->data = hob_cpu_pages_new(kv->bytes))) {
        free(kv);
        return hob_fail(diag, HOB_ENOMEM, "KV cache of %u blocks: out of memory", s->block_count);
    }
    base->resident_bytes += kv->bytes;
    *ret = kv;
    return 0;
}

static void kv_free(hob_device *base, hob_kv *kv)
{
    if (!kv)
        return;
    base->resident_bytes -= kv->bytes;
    hob_cpu_pages_free(kv->data, kv->bytes);
    free(kv);
}

static int kv_copy_block(hob_device *base, hob_kv *kv, uint32_t from, uint32_t to)
{
    (void)base;
    if (from >= kv->shape.block_count || to >= kv->shape.block_count)
        return HOB_EINVAL;
    if (from != to)
        memcpy(kv->data + to * kv->block_bytes, kv->data + from * kv->block_bytes, kv->block_bytes);
    return 0;
}

typedef struct gate_job {
    const hob_cpu_kernels *kernels;
    const hob_cpu_gate *gate;
    size_t count;
} gate_job;

static void gate_part(void *arg, uint32_t item, uint32_t worker)
{
    const gate_job *job = arg;
    const hob_cpu_gate *gate = job->gate;
    size_t at = (size_t)item * GATE_AN_ITEM, left = job->count - at;

    (void)worker;
    job->kernels->gate(gate->kind, gate->gate->data + at, gate->up ? gate->up->data + at : NULL,
                       gate->out->data + at, left < GATE_AN_ITEM ? left : GATE_AN_ITEM);
}

void hob_cpu_gate_now(hob_cpu_device *dev)
{
    if (!dev->gate.out)
        return;
    gate_job job = {.kernels = &dev->kernels,
                    .gate = &dev->gate,
                    .count = (size_t)dev->batch->row_count * dev->gate.out->cols};
    hob_pool_run(dev->pool, gate_part, &job,
                 (uint32_t)((job.count + GATE_AN_ITEM - 1) / GATE_AN_ITEM));
    dev->gate.out = NULL;
}

/* Most gates are read by the next linear alone, which then does them row by row. */
static int gate(hob_device *base, hob_gate_kind kind, const hob_tensor *g, const hob_tensor *up,
                hob_tensor *out)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;

    if ((up && (g->cols != up->cols || up->rows < dev->batch->row_count)) || g->cols != out->cols ||
        g->rows < dev->batch->row_count || out->rows < dev->batch->row_count)
        return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    dev->gate = (hob_cpu_gate){.kind = kind, .gate = g, .up = up, .out = out};
    return 0;
}

static int step_begin(hob_device *base, hob_kv *kv, const hob_batch *batch)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const int rc = hob_batch_check(batch, kv ? kv->shape.block_count : 0);

    if (rc < 0)
        return rc;
    dev->kv = kv;
    dev->batch = batch;
    dev->gate.out = NULL;
    return 0;
}

static int step_end(hob_device *base)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    hob_cpu_gate_now(dev);
    dev->kv = NULL;
    dev->batch = NULL;
    return 0;
}

typedef struct embed_job {
    const hob_batch *batch;
    const hob_weight *table;
    float scale;
    hob_tensor *out;
} embed_job;

static void embed_rows(void *arg, uint32_t item, uint32_t worker)
{
    const embed_job *job = arg;
    uint32_t end = (item + 1) * ROWS_AN_ITEM;

    (void)worker;
    for (uint32_t i = item * ROWS_AN_ITEM; i < end && i < job->batch->row_count; i++)
        hob_cpu_weight_row(job->table, job->batch->tokens[i], job->scale,
                           job->out->data + (size_t)i * job->out->cols);
}

static int embed(hob_device *base, const hob_weight *table, float scale, hob_tensor *out)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    embed_job job = {.batch = dev->batch, .table = table, .scale = scale, .out = out};

    if (table->matrix.cols != out->cols || out->rows < dev->batch->row_count)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < dev->batch->row_count; i++)
        if (dev->batch->tokens[i] >= table->matrix.rows)
            return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    hob_pool_run(dev->pool, embed_rows, &job,
                 (dev->batch->row_count + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM);
    return 0;
}

static int narrow(hob_device *base, hob_tensor *const *tensors, uint32_t count)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_batch *batch = dev->batch;

    for (uint32_t i = 0; i < count; i++)
        if (batch->logit_count == 0 || tensors[i]->rows < batch->row_count)
            return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    for (uint32_t i = 0; i < count; i++) {
        const size_t cols = tensors[i]->cols;
        for (uint32_t r = 0; batch->logit_rows && r < batch->logit_count; r++)
            if (batch->logit_rows[r] != r)
                memcpy(tensors[i]->data + r * cols, tensors[i]->data + batch->logit_rows[r] * cols,
                       cols * sizeof(float));
    }
    dev->narrowed = hob_batch_narrowed(batch);
    dev->batch = &dev->narrowed;
    return 0;
}

typedef struct norm_job {
    hob_cpu_device *dev;
    const hob_weight *norm;
    float eps;
    hob_tensor *x, *y;
} norm_job;

static void norm_rows(void *arg, uint32_t item, uint32_t worker)
{
    const norm_job *job = arg;
    uint32_t cols = job->x->cols, end = (item + 1) * ROWS_AN_ITEM;

    (void)worker;
    for (uint32_t i = item * ROWS_AN_ITEM; i < end && i < job->dev->batch->row_count; i++) {
        float *x = job->x->data + (size_t)i * cols, *y = job->y->data + (size_t)i * cols;
        job->dev->kernels.rms_norm(y, job->norm->vector, job->eps, y, cols);
        for (uint32_t k = 0; k < cols; k++)
            x[k] += y[k];
    }
}

static int norm_add(hob_device *base, hob_tensor *y, const hob_weight *norm, float eps,
                    hob_tensor *x)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    norm_job job = {.dev = dev, .norm = norm, .eps = eps, .x = x, .y = y};

    if (!norm->vector || norm->matrix.cols != x->cols || x->cols != y->cols ||
        x->rows < dev->batch->row_count || y->rows < dev->batch->row_count)
        return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    hob_pool_run(dev->pool, norm_rows, &job,
                 (dev->batch->row_count + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM);
    return 0;
}

static int rope_kv(hob_device *base, const hob_rope_kv *op)
{
    hob_cpu_gate_now((hob_cpu_device *)base);
    return hob_cpu_rope_kv(base, op);
}

static int attention(hob_device *base, const hob_attention *op)
{
    hob_cpu_gate_now((hob_cpu_device *)base);
    return hob_cpu_attention(base, op);
}

static int read_rows(hob_device *base, const hob_tensor *t, uint32_t first_row, uint32_t rows,
                     float *ret)
{
    (void)base;
    if (first_row > t->rows || rows > t->rows - first_row)
        return HOB_EINVAL;
    memcpy(ret, t->data + (size_t)first_row * t->cols, (size_t)rows * t->cols * sizeof *ret);
    return 0;
}

static void close_device(hob_device *base)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    hob_cpu_buffer *buffers[] = {&dev->input_f32,  &dev->input_q, &dev->input_scales, &dev->scratch,
                                 &dev->candidates, &dev->experts, &dev->rows};

    hob_pool_free(dev->pool);
    hob_cpu_weights_drop(dev);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        hob_cpu_pages_free(buffers[i]->data, buffers[i]->bytes);
    hob_rope_tables_free(dev->ropes);
    free(dev);
}

static const hob_device_ops ops = {
    .close = close_device,
    .weight_upload = hob_cpu_weight_upload,
    .weight_free = hob_cpu_weight_free,
    .tensor_new = tensor_new,
    .tensor_free = tensor_free,
    .kv_new = kv_new,
    .kv_free = kv_free,
    .kv_copy_block = kv_copy_block,
    .step_begin = step_begin,
    .embed = embed,
    .add_positions = hob_cpu_add_positions,
    .linear = hob_cpu_linear,
    .norm_add = norm_add,
    .layer_norm = hob_cpu_layer_norm,
    .rope_kv = rope_kv,
    .attention = attention,
    .gate = gate,
    .experts = hob_cpu_experts,
    .pool = hob_cpu_pool,
    .narrow = narrow,
    .step_end = step_end,
    .candidates = hob_cpu_candidates,
    .read_rows = read_rows,
};

static uint32_t cores_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

static int probe(hob_device_info *ret, size_t cap)
{
    hob_cpu_tier tier = HOB_CPU_SCALAR;

    if (cap == 0)
        return 0;
    *ret = (hob_device_info){.name = "cpu", .threads = cores_available()};
    hob_cpu_describe(ret->description, sizeof ret->description);
    if (hob_cpu_best_tier(&tier, NULL) < 0)
        tier = HOB_CPU_SCALAR;
    snprintf(ret->isa, sizeof ret->isa, "%s", hob_cpu_tier_name(tier));
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    ret->memory_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    return 1;
}

static int open_device(const hob_device_info *which, const hob_device_options *options,
                       hob_device **ret, hob_diag *diag)
{
    hob_cpu_tier tier;
    int rc = hob_cpu_best_tier(&tier, diag);

    if (rc < 0)
        return rc;
    hob_cpu_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return hob_fail(diag, HOB_ENOMEM, "CPU device: out of memory");
    dev->base.ops = &ops;
    if (which)
        dev->base.info = *which;
    else
        probe(&dev->base.info, 1);
    dev->threads = options && options->threads ? options->threads : cores_available();
    dev->base.info.threads = dev->threads;
    dev->base.rounds = true;
    rc = hob_pool_new(dev->threads, &dev->pool, diag);
    if (rc < 0)
        goto fail;
    for (;; tier--) { /* a tier that disagrees with the definition is not used */
        hob_cpu_kernels_fill(tier, &dev->kernels);
        if (tier == HOB_CPU_SCALAR || hob_cpu_self_test(&dev->kernels, NULL) == 0)
            break;
    }
    snprintf(dev->base.info.isa, sizeof dev->base.info.isa, "%s", dev->kernels.isa);
    *ret = &dev->base;
    return 0;
fail:
    close_device(&dev->base);
    return rc;
}

const hob_backend hob_backend_cpu = {.name = "cpu", .probe = probe, .open = open_device};
