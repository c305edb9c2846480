/* SPDX-License-Identifier: Apache-2.0
 *
 * What encoders need beside linears, gates and attention: positions added to embedded tokens, layer norm, and a span's rows
 * pooled to one vector. Pooling sums rows in ascending order, a column at a time, and squares in 16 virtual accumulators: the
 * same in every tier, since it is the same code. */
#include "hal/cpu/cpu.h"

#include <math.h>

enum { ROWS_AN_ITEM = 16 };

typedef struct rows_job {
    hob_cpu_device *dev;
    hob_tensor *x;
    const hob_weight *table, *norm, *bias;
    float eps;
} rows_job;

static uint32_t items_of(const hob_batch *batch)
{
    return (batch->row_count + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM;
}

static uint32_t end_of(const hob_batch *batch, uint32_t item)
{
    const uint32_t end = (item + 1) * ROWS_AN_ITEM;
    return end < batch->row_count ? end : batch->row_count;
}

/* ---- positions ---- */

static void add_rows(void *arg, uint32_t item, uint32_t worker)
{
    const rows_job *job = arg;
    const hob_batch *batch = job->dev->batch;
    const hob_span *span = batch->spans;
    const uint32_t cols = job->x->cols, end = end_of(batch, item);
    float *position = hob_cpu_scratch(job->dev, worker);

    for (uint32_t r = item * ROWS_AN_ITEM; r < end; r++) {
        float *x = job->x->data + (size_t)r * cols;
        while (r >= span->first_row + span->row_count)
            span++;
        hob_cpu_weight_row(job->table, span->first_position + (r - span->first_row), 1, position);
        for (uint32_t k = 0; k < cols; k++)
            x[k] += position[k];
    }
}

/* Thread: step */
int hob_cpu_add_positions(hob_device *base, const hob_weight *table, hob_tensor *x)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_batch *batch = dev->batch;
    rows_job job = {.dev = dev, .x = x, .table = table};

    if (table->matrix.cols != x->cols || x->rows < batch->row_count)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->span_count; i++)
        if (batch->spans[i].first_position + batch->spans[i].row_count > table->matrix.rows)
            return HOB_EINVAL;
    if (hob_cpu_scratch_ensure(dev, x->cols * sizeof(float)) < 0)
        return HOB_ENOMEM;
    hob_cpu_gate_now(dev);
    hob_pool_run(dev->pool, add_rows, &job, items_of(batch));
    return 0;
}

/* ---- layer norm ---- */

static void norm_rows(void *arg, uint32_t item, uint32_t worker)
{
    const rows_job *job = arg;
    const uint32_t cols = job->x->cols, end = end_of(job->dev->batch, item);

    (void)worker;
    for (uint32_t r = item * ROWS_AN_ITEM; r < end; r++) {
        float *x = job->x->data + (size_t)r * cols;
        job->dev->kernels.layer_norm(x, job->norm->vector, job->bias->vector, job->eps, x, cols);
    }
}

/* Thread: step */
int hob_cpu_layer_norm(hob_device *base, hob_tensor *x, const hob_weight *norm,
                       const hob_weight *bias, float eps)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    rows_job job = {.dev = dev, .x = x, .norm = norm, .bias = bias, .eps = eps};

    if (!norm->vector || norm->matrix.cols != x->cols || !bias->vector ||
        bias->matrix.cols != x->cols || x->rows < dev->batch->row_count)
        return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    hob_pool_run(dev->pool, norm_rows, &job, items_of(dev->batch));
    return 0;
}

/* ---- pooling ---- */

typedef struct pool_job {
    const hob_batch *batch;
    hob_pool_kind kind;
    const hob_tensor *x;
    hob_tensor *out;
} pool_job;

static void pool_span(void *arg, uint32_t item, uint32_t worker)
{
    const pool_job *job = arg;
    const hob_span *span = &job->batch->spans[item];
    const uint32_t cols = job->x->cols, rows = job->kind == HOB_POOL_MEAN ? span->row_count : 1;
    const float *x = job->x->data + (size_t)span->first_row * cols;
    float *y = job->out->data + (size_t)item * cols, a[16] = {0};

    (void)worker;
    memcpy(y, x, cols * sizeof *y);
    for (uint32_t r = 1; r < rows; r++)
        for (uint32_t k = 0; k < cols; k++)
            y[k] = y[k] + x[(size_t)r * cols + k];
    for (uint32_t k = 0; k < cols; k++) {
        y[k] = y[k] / (float)rows;
        a[k % 16] = fmaf(y[k], y[k], a[k % 16]);
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            a[i] = a[i] + a[i + half];
    const float length = sqrtf(a[0]), scale = 1.0f / (length > 1e-12f ? length : 1e-12f);
    for (uint32_t k = 0; k < cols; k++)
        y[k] = y[k] * scale;
}

/* Thread: step */
int hob_cpu_pool(hob_device *base, hob_pool_kind kind, const hob_tensor *x, hob_tensor *out)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    pool_job job = {.batch = dev->batch, .kind = kind, .x = x, .out = out};

    if (x->cols != out->cols || x->rows < dev->batch->row_count ||
        out->rows < dev->batch->span_count)
        return HOB_EINVAL;
    hob_cpu_gate_now(dev);
    hob_pool_run(dev->pool, pool_span, &job, dev->batch->span_count);
    return 0;
}
