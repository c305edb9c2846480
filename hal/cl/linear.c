/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding rows and linears. A linear's rows are prepared once, as bytes or floats; then each matrix is multiplied in one of
 * three ways, by how many rows there are: kernels of up to 8 rows, which read a matrix once; tiles; or slices made floats
 * and handed to CLBlast. tune.c measured where one way becomes better than another. */
#include "hal/cl/cl.h"

enum { GROUP = 64, TILE = 64, SLICE_BYTES = 32 << 20 };

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

int hob_cl_prepare(hob_cl_device *dev, const hob_tensor *x, const hob_weight *norm, float eps,
                   uint32_t rows, cl_mem which, bool bytes, bool floats)
{
    const uint32_t has_which = which != NULL, has_norm = norm != NULL;
    const cl_mem norm_mem = norm ? norm->parts[0].mem : NULL;
    const size_t cols = x->cols, groups[3] = {rows, 1, 1}, size[3] = {GROUP, 1, 1};
    int rc = 0;

    if (floats) {
        if ((rc = hob_cl_buffer_ensure(dev, &dev->input, rows * cols * sizeof(float))) < 0 ||
            (rc = hob_cl_buffer_ensure(dev, &dev->sums, (rows * (cols / 16) + 1) * sizeof(float))) <
                0)
            return rc;
        const hob_cl_arg args[] = {HOB_CL_ARG(x->mem),        HOB_CL_ARG(x->cols),
                                   HOB_CL_ARG(which),         HOB_CL_ARG(has_which),
                                   HOB_CL_ARG(norm_mem),      HOB_CL_ARG(has_norm),
                                   HOB_CL_ARG(eps),           HOB_CL_ARG(dev->input.mem),
                                   HOB_CL_ARG(dev->sums.mem), {GROUP * sizeof(float), NULL}};
        rc = hob_cl_run(dev, HOB_CL_PREPARE, 0, groups, size, args, sizeof args / sizeof *args);
    }
    if (rc == 0 && bytes) {
        if ((rc = hob_cl_buffer_ensure(dev, &dev->bytes, rows * cols)) < 0 ||
            (rc = hob_cl_buffer_ensure(dev, &dev->side, rows * (cols / 32) * sizeof(cl_float4))) <
                0)
            return rc;
        const hob_cl_arg args[] = {HOB_CL_ARG(x->mem),        HOB_CL_ARG(x->cols),
                                   HOB_CL_ARG(which),         HOB_CL_ARG(has_which),
                                   HOB_CL_ARG(norm_mem),      HOB_CL_ARG(has_norm),
                                   HOB_CL_ARG(eps),           HOB_CL_ARG(dev->bytes.mem),
                                   HOB_CL_ARG(dev->side.mem), {2 * GROUP * sizeof(float), NULL}};
        rc = hob_cl_run(dev, HOB_CL_PREPARE_BYTES, 0, groups, size, args,
                        sizeof args / sizeof *args);
    }
    return rc;
}

/* A matrix multiplied with the prepared rows. */
typedef struct product {
    const hob_weight *w, *bias; /* bias NULL: none */
    uint32_t rows;
    bool add;
    const hob_tensor *y;
} product;

static uint32_t part_rows(const hob_weight *w, const hob_cl_part *p)
{
    const uint32_t left = w->panels.rows - p->first * HOB_PANEL_ROWS;
    return left < p->count * HOB_PANEL_ROWS ? left : p->count * HOB_PANEL_ROWS;
}

/* What the kernels of few rows and of tiles take alike. */
typedef struct operands {
    cl_mem x, side, bias;
    uint32_t first, count; /* rows of the matrix */
    cl_ulong panel_bytes;
    cl_int add;
} operands;

static operands operands_of(const hob_cl_device *dev, const product *o, const hob_cl_part *p)
{
    const bool dot = dev->dot[o->w->panels.kind] != HOB_CL_DOT_NONE;
    return (operands){.x = dot ? dev->bytes.mem : dev->input.mem,
                      .side = dot ? dev->side.mem : dev->sums.mem,
                      .bias = o->bias ? o->bias->parts[0].mem : NULL,
                      .first = p->first * HOB_PANEL_ROWS,
                      .count = part_rows(o->w, p),
                      .panel_bytes = o->w->panels.panel_bytes,
                      .add = o->add};
}

static int multiply_few(hob_cl_device *dev, const product *o, const hob_cl_part *p)
{
    const hob_panels *m = &o->w->panels;
    const operands of = operands_of(dev, o, p);
    int rc = 0;

    for (uint32_t x_first = 0; rc == 0 && x_first < o->rows; x_first += HOB_CL_ROWS_MAX) {
        const uint32_t left = o->rows - x_first,
                       rows = left < HOB_CL_ROWS_MAX ? left : HOB_CL_ROWS_MAX;
        const hob_cl_kernel kernel = rows == 1   ? HOB_CL_LINEAR_1
                                     : rows == 2 ? HOB_CL_LINEAR_2
                                     : rows <= 4 ? HOB_CL_LINEAR_4
                                                 : HOB_CL_LINEAR_8;
        const hob_cl_arg args[] = {
            HOB_CL_ARG(p->mem),    HOB_CL_ARG(of.first),       HOB_CL_ARG(of.count),
            HOB_CL_ARG(m->cols),   HOB_CL_ARG(of.panel_bytes), HOB_CL_ARG(of.x),
            HOB_CL_ARG(of.side),   HOB_CL_ARG(x_first),        HOB_CL_ARG(rows),
            HOB_CL_ARG(of.bias),   HOB_CL_ARG(of.add),         HOB_CL_ARG(o->y->mem),
            HOB_CL_ARG(o->y->cols)};
        rc = hob_cl_run(dev, kernel, m->kind, (size_t[]){p->count, 1, 1},
                        (size_t[]){HOB_PANEL_ROWS, dev->tuning.splits, 1}, args,
                        sizeof args / sizeof *args);
    }
    return rc;
}

static int multiply_tiles(hob_cl_device *dev, const product *o, const hob_cl_part *p)
{
    const hob_panels *m = &o->w->panels;
    const operands of = operands_of(dev, o, p);
    const hob_cl_arg args[] = {
        HOB_CL_ARG(p->mem),    HOB_CL_ARG(p->count), HOB_CL_ARG(of.first),
        HOB_CL_ARG(of.count),  HOB_CL_ARG(m->cols),  HOB_CL_ARG(of.panel_bytes),
        HOB_CL_ARG(of.x),      HOB_CL_ARG(of.side),  HOB_CL_ARG(o->rows),
        HOB_CL_ARG(of.bias),   HOB_CL_ARG(of.add),   HOB_CL_ARG(o->y->mem),
        HOB_CL_ARG(o->y->cols)};
    return hob_cl_run(dev, HOB_CL_LINEAR_TILE, m->kind,
                      (size_t[]){(of.count + TILE - 1) / TILE, (o->rows + TILE - 1) / TILE, 1},
                      (size_t[]){16, 16, 1}, args, sizeof args / sizeof *args);
}

/* A slice of at most SLICE_BYTES as floats, then CLBlast, and so on. */
static int multiply_slices(hob_cl_device *dev, const product *o, const hob_cl_part *p)
{
    const hob_panels *m = &o->w->panels;
    const size_t each_bytes = (size_t)m->cols * HOB_PANEL_ROWS * sizeof(float),
                 fitting = SLICE_BYTES / each_bytes;
    const uint32_t each = fitting < p->count ? (uint32_t)fitting : p->count;
    const cl_ulong panel_bytes = m->panel_bytes;
    int rc = hob_cl_buffer_ensure(dev, &dev->slice, SLICE_BYTES);

    for (uint32_t at = 0; rc == 0 && at < p->count; at += each) {
        const uint32_t panels = p->count - at < each ? p->count - at : each,
                       padded = panels * HOB_PANEL_ROWS, first = (p->first + at) * HOB_PANEL_ROWS,
                       left = m->rows - first, count = left < padded ? left : padded;
        const cl_ulong from = at * panel_bytes;
        const hob_cl_arg args[] = {HOB_CL_ARG(p->mem),      HOB_CL_ARG(from),
                                   HOB_CL_ARG(padded),      HOB_CL_ARG(m->cols),
                                   HOB_CL_ARG(panel_bytes), HOB_CL_ARG(dev->slice.mem)};
        rc = hob_cl_run(dev, HOB_CL_DEQUANTIZE, m->kind,
                        (size_t[]){(padded + GROUP - 1) / GROUP, (m->cols + 31) / 32, 1},
                        (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
        if (rc < 0)
            return rc;
        rc = hob_cl_blas_multiply(dev, dev->input.mem, dev->slice.mem, padded, o->rows, count,
                                  m->cols, o->add, o->y->mem, first, o->y->cols);
        if (rc < 0)
            return rc;
        if (!o->bias)
            continue;
        const hob_cl_arg bias[] = {HOB_CL_ARG(o->bias->parts[0].mem), HOB_CL_ARG(first),
                                   HOB_CL_ARG(count), HOB_CL_ARG(o->y->mem),
                                   HOB_CL_ARG(o->y->cols)};
        rc =
            hob_cl_run(dev, HOB_CL_ADD_BIAS, 0, (size_t[]){(count + GROUP - 1) / GROUP, o->rows, 1},
                       (size_t[]){GROUP, 1, 1}, bias, sizeof bias / sizeof *bias);
    }
    return rc;
}

static bool takes_slices(const hob_cl_device *dev, uint32_t rows, uint32_t cols)
{
    return rows >= dev->tuning.gemm_rows && cols <= SLICE_BYTES / sizeof(float) / HOB_PANEL_ROWS;
}

static int multiply(hob_cl_device *dev, const product *o)
{
    const bool slices = takes_slices(dev, o->rows, o->w->panels.cols);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < o->w->part_count; i++) {
        const hob_cl_part *p = &o->w->parts[i];
        rc = slices                            ? multiply_slices(dev, o, p)
             : o->rows <= dev->tuning.few_rows ? multiply_few(dev, o, p)
                                               : multiply_tiles(dev, o, p);
    }
    return rc;
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
    const bool slices = takes_slices(dev, rows, cols);
    bool bytes = false, floats = slices;
    for (uint32_t i = 0; i < op->count && !slices; i++) {
        bytes |= dev->dot[op->w[i]->panels.kind] != HOB_CL_DOT_NONE;
        floats |= dev->dot[op->w[i]->panels.kind] == HOB_CL_DOT_NONE;
    }
    int rc =
        hob_cl_prepare(dev, op->x, op->norm, op->norm_eps, rows,
                       op->logit_rows && dev->batch->logit_rows ? dev->logit_rows.buffer.mem : NULL,
                       bytes, floats);
    for (uint32_t i = 0; rc == 0 && i < op->count; i++)
        rc = multiply(dev, &(product){op->w[i], op->bias[i], rows, op->add, op->y[i]});
    return rc;
}
