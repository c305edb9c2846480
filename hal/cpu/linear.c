/* SPDX-License-Identifier: Apache-2.0
 *
 * The linear operation: norm and quantization of the input once, shared by the weights, then panels handed to the
 * workers. With few rows the preparation is cheaper than waking anyone. */
#include "hal/cpu/cpu.h"

enum {
    SERIAL_ROWS = 4,     /* prepared by the caller alone */
    ROWS_AN_ITEM = 16,   /* prepared by a worker at a time */
    PREFILL_PANELS = 4,  /* a worker takes at a time when there are many rows */
    CHUNKS_A_THREAD = 4, /* when there are few */
};

typedef struct prepare_job {
    hob_cpu_device *dev;
    const hob_linear *op;
    uint32_t rows, cols, stride;
    bool quantize;
} prepare_job;

static void prepare_rows(void *arg, uint32_t item, uint32_t worker)
{
    const prepare_job *job = arg;
    const hob_linear *op = job->op;
    hob_cpu_device *dev = job->dev;
    uint32_t end = (item + 1) * ROWS_AN_ITEM < job->rows ? (item + 1) * ROWS_AN_ITEM : job->rows;
    size_t blocks = job->cols / HOB_QUANT_BLOCK;

    (void)worker;
    for (uint32_t i = item * ROWS_AN_ITEM; i < end; i++) {
        uint32_t from = op->logit_rows ? dev->batch->logit_rows[i] : i;
        const float *x = op->x->data + (size_t)from * job->cols;
        if (op->norm) {
            float *y = (float *)dev->input_f32.data + (size_t)i * job->stride;
            dev->kernels.rms_norm(x, op->norm->vector, op->norm_eps, y, job->cols);
            x = y;
        } else if (op->logit_rows && !job->quantize) {
            float *y = (float *)dev->input_f32.data + (size_t)i * job->stride;
            memcpy(y, x, job->cols * sizeof *y);
        }
        if (job->quantize)
            dev->kernels.quantize(x, (uint32_t)blocks,
                                  (int8_t *)dev->input_q.data + (size_t)i * job->stride,
                                  (hob_cpu_scale *)dev->input_scales.data + i * blocks);
    }
}

typedef struct multiply_job {
    hob_cpu_device *dev;
    hob_cpu_input x;
    hob_cpu_output out[HOB_LINEAR_MAX];
    const hob_cpu_matrix *w[HOB_LINEAR_MAX];
    uint32_t item_end[HOB_LINEAR_MAX]; /* items of weights 0 .. i */
    uint32_t count, panels_an_item;
} multiply_job;

static void multiply_panels(void *arg, uint32_t item, uint32_t worker)
{
    const multiply_job *job = arg;
    uint32_t i = 0;

    while (item >= job->item_end[i])
        i++;
    uint32_t first = (item - (i ? job->item_end[i - 1] : 0)) * job->panels_an_item,
             left = job->w[i]->panels - first;
    job->dev->kernels.linear[job->w[i]->kind](
        job->w[i], &job->x, &job->out[i], first,
        left < job->panels_an_item ? left : job->panels_an_item, hob_cpu_scratch(job->dev, worker));
}

static int ensure_input(hob_cpu_device *dev, size_t rows, size_t cols, bool quantize)
{
    size_t blocks = cols / HOB_QUANT_BLOCK;

    if (hob_cpu_buffer_ensure(&dev->input_f32, rows * cols * sizeof(float)) < 0)
        return HOB_ENOMEM;
    if (!quantize)
        return 0;
    if (hob_cpu_buffer_ensure(&dev->input_q, rows * cols) < 0 ||
        hob_cpu_buffer_ensure(&dev->input_scales, rows * blocks * sizeof(hob_cpu_scale)) < 0)
        return HOB_ENOMEM;
    return 0;
}

/* Thread: step */
int hob_cpu_linear(hob_device *base, const hob_linear *op)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    uint32_t rows = op->logit_rows ? dev->batch->logit_count : dev->batch->row_count,
             cols = op->x->cols;
    bool quantize = false, floats = false;

    if (op->count < 1 || op->count > HOB_LINEAR_MAX ||
        (op->norm && (!op->norm->vector || op->norm->matrix.cols != cols)))
        return HOB_EINVAL;
    if (rows == 0)
        return 0;
    for (uint32_t i = 0; i < op->count; i++) {
        const hob_weight *w = op->w[i];
        if (w->vector || w->matrix.cols != cols || op->y[i]->cols != w->matrix.rows ||
            op->y[i]->rows < rows ||
            (op->bias[i] && (!op->bias[i]->vector || op->bias[i]->matrix.cols != w->matrix.rows)))
            return HOB_EINVAL;
        if (w->matrix.blocks)
            quantize = true;
        else
            floats = true;
    }
    if (ensure_input(dev, rows, cols, quantize) < 0 ||
        hob_cpu_scratch_ensure(dev, hob_cpu_scratch_bytes(dev->max_cols)) < 0)
        return HOB_ENOMEM;
    if (floats && quantize && op->logit_rows && !op->norm)
        return HOB_EINVAL; /* gathered rows are kept in one form only */

    prepare_job prepare = {
        .dev = dev, .op = op, .rows = rows, .cols = cols, .stride = cols, .quantize = quantize};
    uint32_t items = (rows + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM;
    if (op->norm || quantize || op->logit_rows) {
        if (rows <= SERIAL_ROWS)
            prepare_rows(&prepare, 0, 0);
        else
            hob_pool_run(dev->pool, prepare_rows, &prepare, items);
    }

    size_t blocks = cols / HOB_QUANT_BLOCK;
    multiply_job job = {.dev = dev, .count = op->count};
    job.x = (hob_cpu_input){
        .rows = rows,
        .f32 = op->norm || op->logit_rows ? dev->input_f32.data : op->x->data,
        .f32_stride = cols,
        .q = dev->input_q.data,
        .q_stride = cols,
        .scales = dev->input_scales.data,
        .scale_stride = blocks,
    };
    uint32_t panels = 0, total = 0;
    for (uint32_t i = 0; i < op->count; i++)
        panels += op->w[i]->matrix.panels;
    job.panels_an_item = panels / (dev->threads * CHUNKS_A_THREAD) / 2 * 2;
    if (job.panels_an_item < 2)
        job.panels_an_item = 2;
    if (rows > SERIAL_ROWS && job.panels_an_item > PREFILL_PANELS)
        job.panels_an_item = PREFILL_PANELS;
    for (uint32_t i = 0; i < op->count; i++) {
        job.w[i] = &op->w[i]->matrix;
        job.out[i] =
            (hob_cpu_output){.y = op->y[i]->data, .stride = op->y[i]->cols, .add = op->add};
        job.out[i].bias = op->bias[i] ? op->bias[i]->vector : NULL;
        total += (job.w[i]->panels + job.panels_an_item - 1) / job.panels_an_item;
        job.item_end[i] = total;
    }
    hob_pool_run(dev->pool, multiply_panels, &job, total);
    return 0;
}
