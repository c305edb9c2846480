/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations with weights: embedding rows, linears and mixtures of experts. */
#include "hal/cl/cl.h"

enum { GROUP = 64, TILE = 64, FEW_ROWS = 8 };

/* Thread: step */
int hob_cl_embed(hob_device *base, const hob_weight *table, float scale, hob_tensor *out)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_panels *m = &table->panels;
    const uint32_t rows = dev->batch->row_count;
    const cl_ulong panel_bytes = m->panel_bytes;

    if (m->cols != out->cols || out->rows < rows)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < rows; i++)
        if (dev->batch->tokens[i] >= m->rows)
            return HOB_EINVAL;
    for (uint32_t i = 0; i < table->part_count; i++) {
        const hob_cl_part *p = &table->parts[i];
        const uint32_t first = p->first * HOB_PANEL_ROWS, left = m->rows - first,
                       part_rows = table->vector                      ? 1
                                   : left < p->count * HOB_PANEL_ROWS ? left
                                                                      : p->count * HOB_PANEL_ROWS;
        const hob_cl_arg args[] = {HOB_CL_ARG(p->mem),      HOB_CL_ARG(first),
                                   HOB_CL_ARG(part_rows),   HOB_CL_ARG(m->cols),
                                   HOB_CL_ARG(panel_bytes), HOB_CL_ARG(dev->tokens.buffer.mem),
                                   HOB_CL_ARG(scale),       HOB_CL_ARG(out->mem)};
        const int rc = hob_cl_run(dev, HOB_CL_EMBED, m->kind,
                                  (size_t[]){((m->cols + 31) / 32 + GROUP - 1) / GROUP, rows, 1},
                                  (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The rows that `which` (NULL: the first ones) names, normed, in dev->input; their sums by 16 in dev->sums. */
static int prepare(hob_cl_device *dev, const hob_tensor *x, const hob_weight *norm, float eps,
                   uint32_t rows, cl_mem which)
{
    const uint32_t has_which = which != NULL, has_norm = norm != NULL;
    const cl_mem norm_mem = norm ? norm->parts[0].mem : NULL;
    int rc;

    if ((rc = hob_cl_buffer_ensure(dev, &dev->input, (size_t)rows * x->cols * sizeof(float))) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->sums,
                                   ((size_t)rows * (x->cols / 16) + 1) * sizeof(float))) < 0)
        return rc;
    const hob_cl_arg args[] = {HOB_CL_ARG(x->mem),        HOB_CL_ARG(x->cols),
                               HOB_CL_ARG(which),         HOB_CL_ARG(has_which),
                               HOB_CL_ARG(norm_mem),      HOB_CL_ARG(has_norm),
                               HOB_CL_ARG(eps),           HOB_CL_ARG(dev->input.mem),
                               HOB_CL_ARG(dev->sums.mem), {GROUP * sizeof(float), NULL}};
    return hob_cl_run(dev, HOB_CL_PREPARE, 0, (size_t[]){rows, 1, 1}, (size_t[]){GROUP, 1, 1}, args,
                      sizeof args / sizeof *args);
}

/* dev->input, `rows` of them, times one part of w. */
static int multiply_part(hob_cl_device *dev, const hob_weight *w, const hob_cl_part *p,
                         uint32_t rows, const hob_weight *bias, bool add, const hob_tensor *y)
{
    const hob_panels *m = &w->panels;
    const uint32_t first = p->first * HOB_PANEL_ROWS, left = m->rows - first,
                   part_rows = left < p->count * HOB_PANEL_ROWS ? left : p->count * HOB_PANEL_ROWS;
    const cl_ulong panel_bytes = m->panel_bytes;
    const cl_mem bias_mem = bias ? bias->parts[0].mem : NULL;
    const cl_int adds = add;

    if (rows > FEW_ROWS) {
        const hob_cl_arg args[] = {
            HOB_CL_ARG(p->mem),  HOB_CL_ARG(first),       HOB_CL_ARG(part_rows),
            HOB_CL_ARG(m->cols), HOB_CL_ARG(panel_bytes), HOB_CL_ARG(dev->input.mem),
            HOB_CL_ARG(rows),    HOB_CL_ARG(bias_mem),    HOB_CL_ARG(adds),
            HOB_CL_ARG(y->mem),  HOB_CL_ARG(y->cols)};
        return hob_cl_run(dev, HOB_CL_LINEAR_TILE, m->kind,
                          (size_t[]){(part_rows + TILE - 1) / TILE, (rows + TILE - 1) / TILE, 1},
                          (size_t[]){16, 16, 1}, args, sizeof args / sizeof *args);
    }
    const hob_cl_kernel kernel = rows == 1   ? HOB_CL_LINEAR_1
                                 : rows == 2 ? HOB_CL_LINEAR_2
                                 : rows <= 4 ? HOB_CL_LINEAR_4
                                             : HOB_CL_LINEAR_8;
    const hob_cl_arg args[] = {
        HOB_CL_ARG(p->mem),        HOB_CL_ARG(first),       HOB_CL_ARG(part_rows),
        HOB_CL_ARG(m->cols),       HOB_CL_ARG(panel_bytes), HOB_CL_ARG(dev->input.mem),
        HOB_CL_ARG(dev->sums.mem), HOB_CL_ARG(rows),        HOB_CL_ARG(bias_mem),
        HOB_CL_ARG(adds),          HOB_CL_ARG(y->mem),      HOB_CL_ARG(y->cols)};
    return hob_cl_run(dev, kernel, m->kind, (size_t[]){p->count, 1, 1},
                      (size_t[]){HOB_PANEL_ROWS, HOB_CL_SPLITS, 1}, args,
                      sizeof args / sizeof *args);
}

/* Thread: step */
int hob_cl_linear(hob_device *base, const hob_linear *op)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = op->logit_rows ? dev->batch->logit_count : dev->batch->row_count,
                   cols = op->x->cols;

    if (op->count < 1 || op->count > HOB_LINEAR_MAX ||
        (op->norm && (!op->norm->vector || op->norm->panels.cols != cols)))
        return HOB_EINVAL;
    if (rows == 0)
        return 0;
    for (uint32_t i = 0; i < op->count; i++) {
        const hob_weight *w = op->w[i], *bias = op->bias[i];
        if (w->vector || w->panels.cols != cols || op->y[i]->cols != w->panels.rows ||
            op->y[i]->rows < rows ||
            (bias && (!bias->vector || bias->panels.cols != w->panels.rows)))
            return HOB_EINVAL;
    }
    int rc = prepare(dev, op->x, op->norm, op->norm_eps, rows,
                     op->logit_rows ? dev->logit_rows.buffer.mem : NULL);
    for (uint32_t i = 0; i < op->count; i++)
        for (uint32_t p = 0; rc == 0 && p < op->w[i]->part_count; p++)
            rc = multiply_part(dev, op->w[i], &op->w[i]->parts[p], rows, op->bias[i], op->add,
                               op->y[i]);
    return rc;
}

/* y[slot] = expert of the slot times row slot / per_row of dev->input */
static int multiply_slots(hob_cl_device *dev, const hob_experts *op, const hob_weight *w,
                          uint32_t slots, uint32_t per_row, const hob_tensor *y)
{
    const hob_panels *m = &w->panels;
    const uint32_t panels = m->panels / op->count;
    const cl_ulong panel_bytes = m->panel_bytes;
    const hob_cl_arg args[] = {HOB_CL_ARG(w->parts[0].mem), HOB_CL_ARG(panels),
                               HOB_CL_ARG(m->cols),         HOB_CL_ARG(panel_bytes),
                               HOB_CL_ARG(dev->input.mem),  HOB_CL_ARG(dev->sums.mem),
                               HOB_CL_ARG(per_row),         HOB_CL_ARG(dev->experts.mem),
                               HOB_CL_ARG(y->mem),          HOB_CL_ARG(y->cols)};
    return hob_cl_run(dev, HOB_CL_LINEAR_EXPERTS, m->kind, (size_t[]){panels, slots, 1},
                      (size_t[]){HOB_PANEL_ROWS, HOB_CL_SPLITS, 1}, args,
                      sizeof args / sizeof *args);
}

static bool experts_fit(const hob_experts *op, uint32_t rows)
{
    const uint32_t width = op->x->cols, ff = op->gated->cols;

    return op->used >= 1 && op->used <= op->count && op->count <= HOB_EXPERTS_MAX &&
           op->x->rows >= rows && op->scores->cols == op->count && op->norm->vector &&
           op->norm->panels.cols == width && width % HOB_PANEL_ROWS == 0 &&
           ff % HOB_PANEL_ROWS == 0 && op->gate->panels.cols == width &&
           op->up->panels.cols == width && op->down->panels.cols == ff &&
           op->gate->panels.rows == (uint64_t)op->count * ff &&
           op->up->panels.rows == (uint64_t)op->count * ff &&
           op->down->panels.rows == (uint64_t)op->count * width && op->up_out->cols == ff &&
           op->down_out->cols == width && op->gated->rows / op->used >= rows &&
           op->up_out->rows / op->used >= rows && op->down_out->rows / op->used >= rows;
}

/* Thread: step */
int hob_cl_experts(hob_device *base, const hob_experts *op)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = dev->batch->row_count, slots = rows * op->used, width = op->x->cols;
    const hob_linear scores = {.x = op->x,
                               .norm = op->norm,
                               .norm_eps = op->norm_eps,
                               .count = 1,
                               .w = {op->router},
                               .y = {op->scores}};
    int rc;

    if (!experts_fit(op, rows))
        return HOB_EINVAL;
    if (op->gate->part_count > 1 || op->up->part_count > 1 || op->down->part_count > 1)
        return HOB_EUNSUPPORTED; /* an expert's matrices lie in one allocation */
    if ((rc = hob_cl_buffer_ensure(dev, &dev->experts, (size_t)slots * sizeof(uint32_t))) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->shares, (size_t)slots * sizeof(float))) < 0 ||
        (rc = hob_cl_linear(base, &scores)) < 0) /* which leaves the normed rows in dev->input */
        return rc;
    const hob_cl_arg route[] = {HOB_CL_ARG(op->scores->mem),  HOB_CL_ARG(rows),
                                HOB_CL_ARG(op->count),        HOB_CL_ARG(op->used),
                                HOB_CL_ARG(dev->experts.mem), HOB_CL_ARG(dev->shares.mem)};
    if ((rc = hob_cl_run(dev, HOB_CL_ROUTE, 0, (size_t[]){(rows + GROUP - 1) / GROUP, 1, 1},
                         (size_t[]){GROUP, 1, 1}, route, sizeof route / sizeof *route)) < 0 ||
        (rc = multiply_slots(dev, op, op->gate, slots, op->used, op->gated)) < 0 ||
        (rc = multiply_slots(dev, op, op->up, slots, op->used, op->up_out)) < 0)
        return rc;
    const cl_ulong count = (cl_ulong)slots * op->gated->cols;
    const cl_int gelu = op->kind == HOB_GATE_GELU_TANH;
    const hob_cl_arg gate[] = {HOB_CL_ARG(op->gated->mem), HOB_CL_ARG(op->up_out->mem),
                               HOB_CL_ARG(op->gated->mem), HOB_CL_ARG(count), HOB_CL_ARG(gelu)};
    if ((rc = hob_cl_run(dev, HOB_CL_GATE, 0, (size_t[]){(count + GROUP - 1) / GROUP, 1, 1},
                         (size_t[]){GROUP, 1, 1}, gate, sizeof gate / sizeof *gate)) < 0 ||
        (rc = prepare(dev, op->gated, NULL, 0, slots, NULL)) < 0 ||
        (rc = multiply_slots(dev, op, op->down, slots, 1, op->down_out)) < 0)
        return rc;
    const hob_cl_arg sum[] = {HOB_CL_ARG(op->down_out->mem), HOB_CL_ARG(width),
                              HOB_CL_ARG(op->used), HOB_CL_ARG(dev->shares.mem),
                              HOB_CL_ARG(op->x->mem)};
    return hob_cl_run(dev, HOB_CL_ADD_SHARES, 0, (size_t[]){(width + GROUP - 1) / GROUP, rows, 1},
                      (size_t[]){GROUP, 1, 1}, sum, sizeof sum / sizeof *sum);
}
