/* SPDX-License-Identifier: Apache-2.0
 *
 * The linear operation: gate or norm, and quantization of the input once, shared by the weights, then panels handed to
 * the workers: two phases of one job. */
#include "hal/cpu/cpu.h"

enum {
    FEW_ROWS = 4,
    ALONE_VALUES = 4096,   /* prepared by the caller alone, at most */
    PREPARE_VALUES = 2048, /* a worker prepares at a time, at least */
    PREPARE_ROWS = 16,     /* at most */
    PREFILL_PANELS = 4,    /* a worker takes at a time when there are many rows */
    CHUNKS_A_THREAD = 4,   /* when there are few */
};

static void prepare_rows(void *arg, uint32_t item, uint32_t worker)
{
    const hob_cpu_prepare *job = arg;
    const hob_cpu_source *from = &job->from;
    hob_cpu_device *dev = job->dev;
    const hob_cpu_gate *gate = from->gate;
    const uint32_t cols = from->x->cols, last = (item + 1) * job->rows_each,
                   end = last < from->rows ? last : from->rows;
    const size_t blocks = cols / HOB_QUANT_BLOCK;

    (void)worker;
    for (uint32_t i = item * job->rows_each; i < end; i++) {
        const size_t at = (size_t)i * cols;
        const float *x = from->x->data + (size_t)(from->which ? from->which[i] : i) * cols;
        float *y = (float *)dev->input_f32.data + at;
        if (gate)
            dev->kernels.gate(gate->kind, gate->gate->data + at,
                              gate->up ? gate->up->data + at : NULL, gate->out->data + at, cols);
        if (from->norm) {
            dev->kernels.rms_norm(x, from->norm->vector, from->norm_eps, y, cols);
            x = y;
        } else if (job->copy) {
            memcpy(y, x, cols * sizeof *y);
        }
        if (job->quantize)
            dev->kernels.quantize(x, (uint32_t)blocks, (int8_t *)dev->input_q.data + at,
                                  (hob_cpu_scale *)dev->input_scales.data + i * blocks);
    }
}

int hob_cpu_prepare_plan(hob_cpu_device *dev, const hob_cpu_source *from, bool quantized,
                         bool floats, hob_cpu_prepare *ret, hob_cpu_input *ret_x)
{
    const size_t rows = from->rows, cols = from->x->cols, blocks = cols / HOB_QUANT_BLOCK;
    hob_cpu_prepare job = {.dev = dev,
                           .from = *from,
                           .quantize = quantized,
                           .copy = floats && from->which,
                           .rows_each = 1};

    if (((from->norm || job.copy) &&
         hob_cpu_buffer_ensure(&dev->input_f32, rows * cols * sizeof(float)) < 0) ||
        (quantized &&
         (hob_cpu_buffer_ensure(&dev->input_q, rows * cols) < 0 ||
          hob_cpu_buffer_ensure(&dev->input_scales, rows * blocks * sizeof(hob_cpu_scale)) < 0)))
        return HOB_ENOMEM;
    while (job.rows_each < PREPARE_ROWS && job.rows_each < rows &&
           (rows * cols <= ALONE_VALUES || job.rows_each * cols < PREPARE_VALUES))
        job.rows_each *= 2;
    if (from->norm || from->gate || quantized || job.copy)
        job.items = (uint32_t)((rows + job.rows_each - 1) / job.rows_each);
    *ret = job;
    *ret_x = (hob_cpu_input){
        .rows = from->rows,
        .f32 = from->norm || job.copy ? dev->input_f32.data : from->x->data,
        .f32_stride = cols,
        .q = dev->input_q.data,
        .q_stride = cols,
        .scales = dev->input_scales.data,
        .scale_stride = blocks,
    };
    return 0;
}

typedef struct multiply_job {
    hob_cpu_device *dev;
    const hob_cpu_product *products;
    uint32_t panels_an_item;
} multiply_job;

static void multiply_panels(void *arg, uint32_t item, uint32_t worker)
{
    const multiply_job *job = arg;
    const hob_cpu_product *p = job->products;
    uint32_t begin = 0;

    for (; item >= p->item_end; p++)
        begin = p->item_end;
    uint32_t first = (item - begin) * job->panels_an_item, left = p->w.panels - first;
    job->dev->kernels.linear[p->w.kind](&p->w, &p->x, &p->out, first,
                                        left < job->panels_an_item ? left : job->panels_an_item,
                                        hob_cpu_scratch(job->dev, worker));
}

int hob_cpu_multiply(hob_cpu_device *dev, hob_cpu_prepare *prepare, hob_cpu_product *products,
                     uint32_t count)
{
    multiply_job job = {.dev = dev, .products = products};
    uint32_t rows = 0, panels = 0, items = 0;

    if (hob_cpu_scratch_ensure(dev, hob_cpu_scratch_bytes(dev->max_cols)) < 0)
        return HOB_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        panels += products[i].w.panels;
        rows = products[i].x.rows > rows ? products[i].x.rows : rows;
    }
    job.panels_an_item = panels / (dev->threads * CHUNKS_A_THREAD) / 2 * 2;
    if (job.panels_an_item < 2)
        job.panels_an_item = 2;
    if (rows > FEW_ROWS && job.panels_an_item > PREFILL_PANELS)
        job.panels_an_item = PREFILL_PANELS;
    for (uint32_t i = 0; i < count; i++) {
        /* A kernel fetches weights ahead: those of the other workers' items would go to the wrong cache. */
        products[i].x.skip_panels = job.panels_an_item * (dev->threads - 1);
        items += (products[i].w.panels + job.panels_an_item - 1) / job.panels_an_item;
        products[i].item_end = items;
    }
    const hob_pool_phase phases[] = {{prepare_rows, prepare, prepare->items},
                                     {multiply_panels, &job, items}};
    hob_pool_run_phases(dev->pool, phases, 2);
    return 0;
}

/* Thread: step */
int hob_cpu_linear(hob_device *base, const hob_linear *op)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_cpu_gate gate = dev->gate;
    const bool gated = gate.out && gate.out == op->x && !op->norm && !op->logit_rows;
    const hob_cpu_source from = {.x = op->x,
                                 .norm = op->norm,
                                 .norm_eps = op->norm_eps,
                                 .rows = op->logit_rows ? dev->batch->logit_count
                                                        : dev->batch->row_count,
                                 .which = op->logit_rows ? dev->batch->logit_rows : NULL,
                                 .gate = gated ? &gate : NULL};
    hob_cpu_product products[HOB_LINEAR_MAX];
    hob_cpu_prepare prepare;
    hob_cpu_input x;
    bool quantized = false, floats = false;

    if (op->count < 1 || op->count > HOB_LINEAR_MAX ||
        (op->norm && (!op->norm->vector || op->norm->matrix.cols != op->x->cols)))
        return HOB_EINVAL;
    if (!gated)
        hob_cpu_gate_now(dev);
    if (from.rows == 0)
        return 0;
    for (uint32_t i = 0; i < op->count; i++) {
        const hob_weight *w = op->w[i];
        if (w->vector || w->matrix.cols != op->x->cols || op->y[i]->cols != w->matrix.rows ||
            op->y[i]->rows < from.rows ||
            (op->bias[i] && (!op->bias[i]->vector || op->bias[i]->matrix.cols != w->matrix.rows)))
            return HOB_EINVAL;
        if (w->matrix.blocks)
            quantized = true;
        else
            floats = true;
    }
    if (hob_cpu_prepare_plan(dev, &from, quantized, floats, &prepare, &x) < 0)
        return HOB_ENOMEM;
    dev->gate.out = NULL;
    for (uint32_t i = 0; i < op->count; i++)
        products[i] = (hob_cpu_product){
            .w = op->w[i]->matrix,
            .x = x,
            .out = {.y = op->y[i]->data,
                    .stride = op->y[i]->cols,
                    .bias = op->bias[i] ? op->bias[i]->vector : NULL,
                    .add = op->add},
        };
    return hob_cpu_multiply(dev, &prepare, products, op->count);
}
