/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding rows and linears. A linear's rows are prepared once, as bytes or floats; then its matrices are multiplied in one of
 * three ways, by how many rows there are: kernels of up to 8 rows, which read a matrix once; tiles; or slices made floats
 * and handed to CLBlast. Where there are matrix units they take the place of the first two, but for single rows. tune.c measured where one way becomes better than another. */
#include "hal/cl/cl.h"

enum {
    GROUP = 64,
    PREPARE_COLS = 1024, /* norm.cl's */
    TILE = 64,
    MMA_WARPS = 8, /* of a work-group */
    SLICE_BYTES = 32 << 20
};

/* which: of table's rows, one for each row of out. */
static int gather_rows(hob_cl_device *dev, const hob_weight *table, const hob_cl_staged *which,
                       float scale, cl_int add, hob_tensor *out)
{
    const hob_panels *m = &table->panels;
    const uint32_t rows = dev->batch->row_count;
    const cl_ulong panel_bytes = m->panel_bytes;
    int rc;

    if (m->cols != out->cols || out->rows < rows)
        return HOB_EINVAL;
    if ((rc = hob_cl_gate_now(dev)) < 0)
        return rc;
    for (uint32_t i = 0; i < table->part_count; i++) {
        const hob_cl_part *p = &table->parts[i];
        const uint32_t first = p->first * HOB_PANEL_ROWS, left = m->rows - first,
                       part_rows = table->vector                      ? 1
                                   : left < p->count * HOB_PANEL_ROWS ? left
                                                                      : p->count * HOB_PANEL_ROWS;
        const hob_cl_arg args[] = {
            HOB_CL_ARG(p->mem),  HOB_CL_ARG(first),       HOB_CL_ARG(part_rows),
            HOB_CL_ARG(m->cols), HOB_CL_ARG(panel_bytes), HOB_CL_ARG(which->buffer.mem),
            HOB_CL_ARG(scale),   HOB_CL_ARG(add),         HOB_CL_ARG(out->mem)};
        rc = hob_cl_run(dev, HOB_CL_EMBED, m->kind,
                        (size_t[]){((m->cols + 31) / 32 + GROUP - 1) / GROUP, rows, 1},
                        (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Thread: step */
int hob_cl_embed(hob_device *base, const hob_weight *table, float scale, hob_tensor *out)
{
    hob_cl_device *dev = (hob_cl_device *)base;

    for (uint32_t i = 0; i < dev->batch->row_count; i++)
        if (dev->batch->tokens[i] >= table->panels.rows)
            return HOB_EINVAL;
    return gather_rows(dev, table, &dev->tokens, scale, 0, out);
}

/* Thread: step */
int hob_cl_add_positions(hob_device *base, const hob_weight *table, hob_tensor *x)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_batch *batch = dev->batch;

    for (uint32_t i = 0; i < batch->span_count; i++)
        if (batch->spans[i].first_position + batch->spans[i].row_count > table->panels.rows)
            return HOB_EINVAL;
    return gather_rows(dev, table, &dev->positions, 1, 1, x);
}

int hob_cl_prepare(hob_cl_device *dev, const hob_cl_input *from, bool bytes, bool floats)
{
    const hob_tensor *x = from->x;
    const hob_cl_gate *gate = from->gate;
    const uint32_t has_which = from->which != NULL, has_norm = from->norm != NULL,
                   gating = !gate      ? 0
                            : gate->up ? 1
                                       : 2; /* norm.cl's */
    const cl_mem norm = from->norm ? from->norm->parts[0].mem : NULL,
                 in = gate ? gate->gate->mem : x->mem, up = gate && gate->up ? gate->up->mem : NULL;
    const cl_int act = gate ? (cl_int)gate->kind : 0;
    const size_t cols = x->cols, rows = from->rows, items = dev->large_group;
    const size_t groups[3] = {(cols + PREPARE_COLS - 1) / PREPARE_COLS, rows, 1},
                 size[3] = {items, 1, 1};
    int rc = 0;

    if (gate) /* from here on it is done */
        dev->gate.out = NULL;
    if (floats) {
        if ((rc = hob_cl_buffer_ensure(dev, &dev->input, rows * cols * sizeof(float))) < 0 ||
            (rc = hob_cl_buffer_ensure(dev, &dev->sums, (rows * (cols / 16) + 1) * sizeof(float))) <
                0)
            return rc;
        const hob_cl_arg args[] = {HOB_CL_ARG(in),
                                   HOB_CL_ARG(x->cols),
                                   HOB_CL_ARG(from->which),
                                   HOB_CL_ARG(has_which),
                                   HOB_CL_ARG(norm),
                                   HOB_CL_ARG(has_norm),
                                   HOB_CL_ARG(from->eps),
                                   HOB_CL_ARG(up),
                                   HOB_CL_ARG(gating),
                                   HOB_CL_ARG(act),
                                   HOB_CL_ARG(x->mem),
                                   HOB_CL_ARG(dev->input.mem),
                                   HOB_CL_ARG(dev->sums.mem),
                                   {items * sizeof(float), NULL}};
        rc = hob_cl_run(dev, HOB_CL_PREPARE, 0, groups, size, args, sizeof args / sizeof *args);
    }
    if (rc == 0 && bytes) {
        if ((rc = hob_cl_buffer_ensure(dev, &dev->bytes, rows * cols)) < 0 ||
            (rc = hob_cl_buffer_ensure(dev, &dev->side, rows * (cols / 32) * sizeof(cl_float4))) <
                0)
            return rc;
        /* where floats were made too, the gate's result lies in x */
        const uint32_t left = floats ? 0 : gating;
        const hob_cl_arg args[] = {floats ? (hob_cl_arg)HOB_CL_ARG(x->mem)
                                          : (hob_cl_arg)HOB_CL_ARG(in),
                                   HOB_CL_ARG(x->cols),
                                   HOB_CL_ARG(from->which),
                                   HOB_CL_ARG(has_which),
                                   HOB_CL_ARG(norm),
                                   HOB_CL_ARG(has_norm),
                                   HOB_CL_ARG(from->eps),
                                   HOB_CL_ARG(up),
                                   HOB_CL_ARG(left),
                                   HOB_CL_ARG(act),
                                   HOB_CL_ARG(x->mem),
                                   HOB_CL_ARG(dev->bytes.mem),
                                   HOB_CL_ARG(dev->side.mem),
                                   {2 * items * sizeof(float), NULL}};
        rc = hob_cl_run(dev, HOB_CL_PREPARE_BYTES, 0, groups, size, args,
                        sizeof args / sizeof *args);
    }
    return rc;
}

/* Matrices of one type, or one part of a matrix, multiplied with the prepared rows. */
typedef struct product {
    uint32_t rows, kind, cols, count; /* rows of x; count: of the matrices */
    cl_int add;
    cl_ulong panel_bytes;
    struct {
        cl_mem w, bias, y; /* bias NULL: none */
        uint32_t panels;
        cl_uint shape[4]; /* common.clh's */
    } of[HOB_LINEAR_MAX];
} product;

_Static_assert(HOB_LINEAR_MAX == 3, "as common.clh's MATRICES");

static void add_matrix(product *o, const hob_linear *op, uint32_t index, const hob_cl_part *part)
{
    const hob_panels *m = &op->w[index]->panels;
    const uint32_t first = part->first * HOB_PANEL_ROWS, left = m->rows - first,
                   padded = part->count * HOB_PANEL_ROWS, at = o->count++;

    o->of[at].w = part->mem;
    o->of[at].bias = op->bias[index] ? op->bias[index]->parts[0].mem : NULL;
    o->of[at].y = op->y[index]->mem;
    o->of[at].panels = part->count;
    o->of[at].shape[1] = first;
    o->of[at].shape[2] = left < padded ? left : padded;
    o->of[at].shape[3] = op->y[index]->cols;
}

/* Work-groups of a launch, `panels` of a matrix each. */
static uint32_t lay_out(product *o, uint32_t panels)
{
    uint32_t groups = 0;
    for (uint32_t i = 0; i < HOB_LINEAR_MAX; i++) {
        o->of[i].shape[0] = i < o->count ? groups : UINT32_MAX;
        groups += i < o->count ? (o->of[i].panels + panels - 1) / panels : 0;
    }
    return groups;
}

enum { MATRIX_ARGS = 4 * HOB_LINEAR_MAX };

static void matrix_args(const product *o, hob_cl_arg args[MATRIX_ARGS])
{
    for (uint32_t i = 0; i < HOB_LINEAR_MAX; i++) {
        args[4 * i] = (hob_cl_arg)HOB_CL_ARG(o->of[i].w);
        args[4 * i + 1] = (hob_cl_arg)HOB_CL_ARG(o->of[i].bias);
        args[4 * i + 2] = (hob_cl_arg)HOB_CL_ARG(o->of[i].y);
        args[4 * i + 3] = (hob_cl_arg)HOB_CL_ARG(o->of[i].shape);
    }
}

uint32_t hob_cl_splits(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind, uint32_t panels,
                       uint32_t cols)
{
    uint32_t splits = dev->tuning.splits, most;

    if (hob_cl_build(dev, kernel, kind) < 0)
        return splits; /* running it says so again */
    most = dev->group_most[kernel][kind] / HOB_PANEL_ROWS;
    while (splits * 2 <= most && splits * 2 <= (cols + 31) / 32 &&
           panels * splits < dev->wanted_splits)
        splits *= 2;
    return splits > most && most > 0 ? most : splits;
}

static int multiply_few(hob_cl_device *dev, product *o)
{
    const bool dot = dev->dot[o->kind] != HOB_CL_DOT_NONE;
    const cl_mem x = dot ? dev->bytes.mem : dev->input.mem,
                 side = dot ? dev->side.mem : dev->sums.mem;
    const uint32_t groups = lay_out(o, 1);
    int rc = 0;

    for (uint32_t x_first = 0; rc == 0 && x_first < o->rows; x_first += HOB_CL_ROWS_MAX) {
        const uint32_t left = o->rows - x_first,
                       rows = left < HOB_CL_ROWS_MAX ? left : HOB_CL_ROWS_MAX,
                       made = o->rows > HOB_CL_ROWS_MAX
                                  ? HOB_CL_ROWS_MAX /* all passes sum up alike */
                              : rows <= 2 ? rows
                              : rows <= 4 ? 4
                                          : HOB_CL_ROWS_MAX;
        const hob_cl_kernel kernel = made == 1   ? HOB_CL_LINEAR_1
                                     : made == 2 ? HOB_CL_LINEAR_2
                                     : made == 4 ? HOB_CL_LINEAR_4
                                                 : HOB_CL_LINEAR_8;
        const uint32_t splits = hob_cl_splits(dev, kernel, o->kind, groups, o->cols);
        hob_cl_arg args[MATRIX_ARGS + 8] = {
            [MATRIX_ARGS] = HOB_CL_ARG(o->cols),
            HOB_CL_ARG(o->panel_bytes),
            HOB_CL_ARG(x),
            HOB_CL_ARG(side),
            HOB_CL_ARG(x_first),
            HOB_CL_ARG(rows),
            HOB_CL_ARG(o->add),
            {(size_t)made * splits * HOB_PANEL_ROWS * sizeof(float), NULL}};
        matrix_args(o, args);
        rc = hob_cl_run(dev, kernel, o->kind, (size_t[]){groups, 1, 1},
                        (size_t[]){HOB_PANEL_ROWS, splits, 1}, args, sizeof args / sizeof *args);
    }
    return rc;
}

static int multiply_tiles(hob_cl_device *dev, product *o)
{
    const bool dot = dev->dot[o->kind] != HOB_CL_DOT_NONE;
    const cl_mem x = dot ? dev->bytes.mem : dev->input.mem,
                 side = dot ? dev->side.mem : dev->sums.mem;
    hob_cl_arg args[MATRIX_ARGS + 6] = {[MATRIX_ARGS] = HOB_CL_ARG(o->cols),
                                        HOB_CL_ARG(o->panel_bytes),
                                        HOB_CL_ARG(x),
                                        HOB_CL_ARG(side),
                                        HOB_CL_ARG(o->rows),
                                        HOB_CL_ARG(o->add)};
    const uint32_t groups = lay_out(o, TILE / HOB_PANEL_ROWS);
    matrix_args(o, args);
    return hob_cl_run(dev, HOB_CL_LINEAR_TILE, o->kind,
                      (size_t[]){groups, (o->rows + TILE - 1) / TILE, 1}, (size_t[]){16, 16, 1},
                      args, sizeof args / sizeof *args);
}

/* On matrix units: groups of one panel by 8 rows of x, or, of many rows, two by 32. */
static int multiply_mma(hob_cl_device *dev, product *o, bool few)
{
    const hob_cl_kernel kernel = few ? HOB_CL_LINEAR_MMA_8 : HOB_CL_LINEAR_MMA_32;
    const uint32_t groups = lay_out(o, few ? 1 : 2), rows = few ? 8 : 32, fragments = few ? 1 : 8;
    const size_t joined = (size_t)MMA_WARPS * fragments * 32 * sizeof(cl_float4);
    hob_cl_arg args[MATRIX_ARGS + 7] = {[MATRIX_ARGS] = HOB_CL_ARG(o->cols),
                                        HOB_CL_ARG(o->panel_bytes),
                                        HOB_CL_ARG(dev->bytes.mem),
                                        HOB_CL_ARG(dev->side.mem),
                                        HOB_CL_ARG(o->rows),
                                        HOB_CL_ARG(o->add),
                                        {joined, NULL}};
    matrix_args(o, args);
    return hob_cl_run(dev, kernel, o->kind, (size_t[]){groups, (o->rows + rows - 1) / rows, 1},
                      (size_t[]){32, MMA_WARPS, 1}, args, sizeof args / sizeof *args);
}

/* A slice of at most SLICE_BYTES as floats, then CLBlast, and so on. */
static int multiply_slices(hob_cl_device *dev, const hob_linear *op, uint32_t index,
                           const hob_cl_part *p, uint32_t rows)
{
    const hob_panels *m = &op->w[index]->panels;
    const hob_weight *bias = op->bias[index];
    const hob_tensor *y = op->y[index];
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
        rc = hob_cl_blas_multiply(dev, dev->input.mem, dev->slice.mem, padded, rows, count, m->cols,
                                  op->add, y->mem, first, y->cols);
        if (rc < 0)
            return rc;
        if (!bias)
            continue;
        const hob_cl_arg add[] = {HOB_CL_ARG(bias->parts[0].mem), HOB_CL_ARG(first),
                                  HOB_CL_ARG(count), HOB_CL_ARG(y->mem), HOB_CL_ARG(y->cols)};
        rc = hob_cl_run(dev, HOB_CL_ADD_BIAS, 0, (size_t[]){(count + GROUP - 1) / GROUP, rows, 1},
                        (size_t[]){GROUP, 1, 1}, add, sizeof add / sizeof *add);
    }
    return rc;
}

static bool takes_slices(const hob_cl_device *dev, uint32_t rows, uint32_t cols)
{
    return rows >= dev->tuning.gemm_rows && cols <= SLICE_BYTES / sizeof(float) / HOB_PANEL_ROWS;
}

static int multiply(hob_cl_device *dev, product *o)
{
    const bool mma = dev->dot[o->kind] == HOB_CL_DOT_MMA, few = o->rows <= dev->tuning.few_rows;

    return mma && o->rows > 1 ? multiply_mma(dev, o, few)
           : few              ? multiply_few(dev, o)
                              : multiply_tiles(dev, o);
}

/* The matrices, those of one type in one launch where they are in one part. */
static int multiply_all(hob_cl_device *dev, const hob_linear *op, uint32_t rows, bool slices)
{
    bool done[HOB_LINEAR_MAX] = {false};
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < op->count; i++) {
        const hob_weight *w = op->w[i];
        product o = {.rows = rows,
                     .kind = w->panels.kind,
                     .cols = w->panels.cols,
                     .add = op->add,
                     .panel_bytes = w->panels.panel_bytes};
        if (done[i])
            continue;
        for (uint32_t p = 0; rc == 0 && p < w->part_count && (slices || w->part_count > 1); p++) {
            if (slices) {
                rc = multiply_slices(dev, op, i, &w->parts[p], rows);
                continue;
            }
            o.count = 0;
            add_matrix(&o, op, i, &w->parts[p]);
            rc = multiply(dev, &o);
        }
        if (slices || w->part_count > 1)
            continue;
        for (uint32_t k = i; k < op->count; k++)
            if (op->w[k]->panels.kind == o.kind && op->w[k]->part_count == 1) {
                add_matrix(&o, op, k, &op->w[k]->parts[0]);
                done[k] = true;
            }
        rc = multiply(dev, &o);
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
    const hob_cl_gate gate = dev->gate;
    const bool gated = gate.out && gate.out == op->x && !op->norm && !op->logit_rows;
    bool bytes = false, floats = slices;
    for (uint32_t i = 0; i < op->count && !slices; i++) {
        bytes |= dev->dot[op->w[i]->panels.kind] != HOB_CL_DOT_NONE;
        floats |= dev->dot[op->w[i]->panels.kind] == HOB_CL_DOT_NONE;
    }
    const hob_cl_input from = {
        .x = op->x,
        .rows = rows,
        .which = op->logit_rows && dev->batch->logit_rows ? dev->logit_rows.buffer.mem : NULL,
        .norm = op->norm,
        .eps = op->norm_eps,
        .gate = gated ? &gate : NULL};
    const int rc = hob_cl_prepare(dev, &from, bytes, floats);
    return rc < 0 ? rc : multiply_all(dev, op, rows, slices);
}
