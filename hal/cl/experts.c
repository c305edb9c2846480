/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts. A slot is one row's choice of one expert. Few slots are multiplied one by one; more are grouped by expert
 * on the device and go through tiles, so that an expert's matrix is read once for up to 64 of its slots. */
#include "hal/cl/cl.h"

enum { GROUP = 64, TILE = 64 };

typedef struct slots {
    const hob_experts *op;
    uint32_t count, per_row; /* per_row slots share a row of the input */
    bool grouped;
} slots;

/* y[slot] = expert of the slot times its prepared row */
static int multiply_slots(hob_cl_device *dev, const slots *s, const hob_weight *w,
                          const hob_tensor *y)
{
    const hob_panels *m = &w->panels;
    const uint32_t experts = s->op->count, panels = m->panels / experts;
    const cl_ulong panel_bytes = m->panel_bytes;
    const bool dot = dev->dot[m->kind];
    const cl_mem x = dot ? dev->bytes.mem : dev->input.mem,
                 side = dot ? dev->side.mem : dev->sums.mem;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < w->part_count; i++) {
        const hob_cl_part *p = &w->parts[i];
        if (s->grouped) {
            const hob_cl_arg args[] = {HOB_CL_ARG(p->mem),
                                       HOB_CL_ARG(p->first),
                                       HOB_CL_ARG(p->count),
                                       HOB_CL_ARG(panels),
                                       HOB_CL_ARG(m->cols),
                                       HOB_CL_ARG(panel_bytes),
                                       HOB_CL_ARG(x),
                                       HOB_CL_ARG(side),
                                       HOB_CL_ARG(s->per_row),
                                       HOB_CL_ARG(dev->order.mem),
                                       HOB_CL_ARG(dev->starts.mem),
                                       HOB_CL_ARG(y->mem),
                                       HOB_CL_ARG(y->cols)};
            const size_t tiles = ((size_t)panels * HOB_PANEL_ROWS + TILE - 1) / TILE;
            rc = hob_cl_run(dev, HOB_CL_TILE_EXPERTS, m->kind,
                            (size_t[]){tiles, (s->count + TILE - 1) / TILE, experts},
                            (size_t[]){16, 16, 1}, args, sizeof args / sizeof *args);
        } else {
            const uint32_t splits =
                hob_cl_splits(dev, HOB_CL_LINEAR_EXPERTS, m->kind, panels * s->count, m->cols);
            const hob_cl_arg args[] = {HOB_CL_ARG(p->mem),
                                       HOB_CL_ARG(p->first),
                                       HOB_CL_ARG(p->count),
                                       HOB_CL_ARG(panels),
                                       HOB_CL_ARG(m->cols),
                                       HOB_CL_ARG(panel_bytes),
                                       HOB_CL_ARG(x),
                                       HOB_CL_ARG(side),
                                       HOB_CL_ARG(s->per_row),
                                       HOB_CL_ARG(dev->experts.mem),
                                       HOB_CL_ARG(y->mem),
                                       HOB_CL_ARG(y->cols),
                                       {splits * HOB_PANEL_ROWS * sizeof(float), NULL}};
            rc =
                hob_cl_run(dev, HOB_CL_LINEAR_EXPERTS, m->kind, (size_t[]){panels, s->count, 1},
                           (size_t[]){HOB_PANEL_ROWS, splits, 1}, args, sizeof args / sizeof *args);
        }
    }
    return rc;
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

/* Which experts each row takes, their shares, and, where there are many slots, which slots each expert has. */
static int route(hob_cl_device *dev, const slots *s, uint32_t rows)
{
    const hob_experts *op = s->op;
    const hob_linear scores = {.x = op->x,
                               .norm = op->norm,
                               .norm_eps = op->norm_eps,
                               .count = 1,
                               .w = {op->router},
                               .y = {op->scores}};
    int rc;

    if ((rc = hob_cl_buffer_ensure(dev, &dev->experts, s->count * sizeof(uint32_t))) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->order, s->count * sizeof(uint32_t))) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->starts, (op->count + 1) * sizeof(uint32_t))) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->shares, s->count * sizeof(float))) < 0 ||
        (rc = hob_cl_linear(&dev->base, &scores)) < 0)
        return rc;
    const hob_cl_arg choose[] = {HOB_CL_ARG(op->scores->mem),  HOB_CL_ARG(rows),
                                 HOB_CL_ARG(op->count),        HOB_CL_ARG(op->used),
                                 HOB_CL_ARG(dev->experts.mem), HOB_CL_ARG(dev->shares.mem)};
    rc = hob_cl_run(dev, HOB_CL_ROUTE, 0, (size_t[]){(rows + GROUP - 1) / GROUP, 1, 1},
                    (size_t[]){GROUP, 1, 1}, choose, sizeof choose / sizeof *choose);
    if (rc < 0 || !s->grouped)
        return rc;
    const hob_cl_arg group[] = {HOB_CL_ARG(dev->experts.mem), HOB_CL_ARG(s->count),
                                HOB_CL_ARG(op->count), HOB_CL_ARG(dev->starts.mem),
                                HOB_CL_ARG(dev->order.mem)};
    return hob_cl_run(dev, HOB_CL_GROUP_SLOTS, 0, (size_t[]){1, 1, 1}, (size_t[]){GROUP, 1, 1},
                      group, sizeof group / sizeof *group);
}

/* Thread: step */
int hob_cl_experts(hob_device *base, const hob_experts *op)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = dev->batch->row_count, width = op->x->cols;
    slots s = {.op = op, .count = rows * op->used, .per_row = op->used};
    int rc;

    if (!experts_fit(op, rows))
        return HOB_EINVAL;
    s.grouped = rows > dev->tuning.few_rows;
    const bool in_dot = dev->dot[op->gate->panels.kind] || dev->dot[op->up->panels.kind],
               in_float = !dev->dot[op->gate->panels.kind] || !dev->dot[op->up->panels.kind],
               down_dot = dev->dot[op->down->panels.kind] != HOB_CL_DOT_NONE;
    const hob_cl_input in = {.x = op->x, .rows = rows, .norm = op->norm, .eps = op->norm_eps};
    if ((rc = route(dev, &s, rows)) < 0 || (rc = hob_cl_prepare(dev, &in, in_dot, in_float)) < 0 ||
        (rc = multiply_slots(dev, &s, op->gate, op->gated)) < 0 ||
        (rc = multiply_slots(dev, &s, op->up, op->up_out)) < 0)
        return rc;
    const hob_cl_gate gate = {
        .kind = op->kind, .gate = op->gated, .up = op->up_out, .out = op->gated};
    const hob_cl_input between = {.x = op->gated, .rows = s.count, .gate = &gate};
    s.per_row = 1;
    if ((rc = hob_cl_prepare(dev, &between, down_dot, !down_dot)) < 0 ||
        (rc = multiply_slots(dev, &s, op->down, op->down_out)) < 0)
        return rc;
    const hob_cl_arg sum[] = {HOB_CL_ARG(op->down_out->mem), HOB_CL_ARG(width),
                              HOB_CL_ARG(op->used), HOB_CL_ARG(dev->shares.mem),
                              HOB_CL_ARG(op->x->mem)};
    return hob_cl_run(dev, HOB_CL_ADD_SHARES, 0, (size_t[]){(width + GROUP - 1) / GROUP, rows, 1},
                      (size_t[]){GROUP, 1, 1}, sum, sizeof sum / sizeof *sum);
}
