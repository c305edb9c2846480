/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts. A slot is one row at one expert; slots lie in the order of the experts, so each expert multiplies
 * its rows at once, from panels that are read once. An expert's matrices are a range of panels of the joined ones. What a
 * row gets depends on that row alone: its experts are added in ascending order whatever the slots' order. */
#include "hal/cpu/cpu.h"
#include "hal/cpu/math.h"

enum { ROWS_AN_ITEM = 4 };

/* Where everything lies in dev->experts. */
typedef struct routing {
    hob_cpu_device *dev;
    const hob_experts *op;
    uint32_t rows, slots;
    uint32_t *first;           /* [count + 1]: an expert's first slot */
    uint32_t *row;             /* [slots] */
    uint32_t *slot;            /* [rows][used], experts ascending */
    float *share;              /* [rows][used] */
    uint32_t *expert;          /* [rows][used] */
    hob_cpu_product *products; /* [2 * count] */
} routing;

static int reserve(routing *r)
{
    const size_t each = sizeof(uint32_t), count = r->op->count, slots = r->slots,
                 at_first = 2 * count * sizeof *r->products;

    if (hob_cpu_buffer_ensure(&r->dev->experts, at_first + (count + 1 + 4 * slots) * each) < 0)
        return HOB_ENOMEM;
    r->products = r->dev->experts.data;
    r->first = (uint32_t *)((uint8_t *)r->dev->experts.data + at_first);
    r->row = r->first + count + 1;
    r->slot = r->row + slots;
    r->expert = r->slot + slots;
    r->share = (float *)(r->expert + slots);
    return 0;
}

/* The `used` largest scores' experts, ascending by number, and their softmax. NaN counts as less than any number. */
static void choose(const float *scores, uint32_t count, uint32_t used, uint32_t *expert,
                   float *share)
{
    uint32_t best[HOB_EXPERTS_MAX], chosen = 0;

    for (uint32_t e = 0; e < count; e++) {
        uint32_t at = chosen;
        while (at > 0 && (scores[e] > scores[best[at - 1]] ||
                          (isnan(scores[best[at - 1]]) && !isnan(scores[e]))))
            at--;
        if (at == used)
            continue;
        chosen += chosen < used;
        memmove(best + at + 1, best + at, (chosen - at - 1) * sizeof *best);
        best[at] = e;
    }
    const float most = scores[best[0]];
    float sum = 0;
    for (uint32_t i = 0; i < used; i++) { /* insertion by number */
        uint32_t at = i;
        for (; at > 0 && expert[at - 1] > best[i]; at--)
            expert[at] = expert[at - 1];
        expert[at] = best[i];
    }
    for (uint32_t i = 0; i < used; i++)
        sum += share[i] = hob_exp(scores[expert[i]] - most);
    for (uint32_t i = 0; i < used; i++)
        share[i] /= sum;
}

static void route(routing *r)
{
    const uint32_t count = r->op->count, used = r->op->used;

    memset(r->first, 0, (count + 1) * sizeof *r->first);
    for (uint32_t i = 0; i < r->rows; i++)
        choose(r->op->scores->data + (size_t)i * count, count, used, r->expert + i * used,
               r->share + i * used);
    for (uint32_t s = 0; s < r->slots; s++)
        r->first[r->expert[s] + 1]++;
    for (uint32_t e = 0; e < count; e++)
        r->first[e + 1] += r->first[e];
    for (uint32_t s = 0; s < r->slots; s++) { /* first[e] moves up to first[e + 1] … */
        const uint32_t at = r->first[r->expert[s]]++;
        r->row[at] = s / used;
        r->slot[s] = at;
    }
    memmove(r->first + 1, r->first, count * sizeof *r->first); /* … and back */
    r->first[0] = 0;
}

/* One product for each expert that has rows: its part of w with its slots of x. Returns how many. */
static uint32_t add_products(const routing *r, const hob_weight *w, const hob_cpu_input *x,
                             const hob_tensor *y, hob_cpu_product *ret)
{
    uint32_t added = 0;

    for (uint32_t e = 0; e < r->op->count; e++) {
        const size_t at = r->first[e];
        if (r->first[e + 1] == at)
            continue;
        hob_cpu_product *p = &ret[added++];
        *p = (hob_cpu_product){.w = w->matrix, .x = *x};
        p->w.rows /= r->op->count;
        p->w.panels /= r->op->count;
        p->w.data += (size_t)e * p->w.panels * p->w.panel_bytes;
        p->x.rows = r->first[e + 1] - (uint32_t)at;
        p->x.f32 += at * x->f32_stride;
        if (w->matrix.blocks) {
            p->x.q += at * x->q_stride;
            p->x.scales += at * x->scale_stride;
        }
        p->out = (hob_cpu_output){.y = y->data + at * y->cols, .stride = y->cols};
    }
    return added;
}

static void add_shares(void *arg, uint32_t item, uint32_t worker)
{
    const routing *r = arg;
    const hob_experts *op = r->op;
    const uint32_t cols = op->x->cols, last = (item + 1) * ROWS_AN_ITEM;

    (void)worker;
    for (uint32_t i = item * ROWS_AN_ITEM; i < last && i < r->rows; i++)
        for (uint32_t j = i * op->used; j < (i + 1) * op->used; j++) {
            const float *from = op->down_out->data + (size_t)r->slot[j] * cols, share = r->share[j];
            float *x = op->x->data + (size_t)i * cols;
            for (uint32_t k = 0; k < cols; k++)
                x[k] += share * from[k];
        }
}

static bool fits(const hob_experts *op, uint32_t rows)
{
    const uint32_t width = op->x->cols, ff = op->gated->cols;

    return op->used >= 1 && op->used <= op->count && op->count <= HOB_EXPERTS_MAX &&
           op->x->rows >= rows && op->scores->cols == op->count && op->norm->vector &&
           op->norm->matrix.cols == width && !op->gate->vector && !op->up->vector &&
           !op->down->vector && width % HOB_PANEL_ROWS == 0 && ff % HOB_PANEL_ROWS == 0 &&
           op->gate->matrix.cols == width && op->up->matrix.cols == width &&
           op->down->matrix.cols == ff && op->gate->matrix.rows == (uint64_t)op->count * ff &&
           op->up->matrix.rows == (uint64_t)op->count * ff &&
           op->down->matrix.rows == (uint64_t)op->count * width && op->up_out->cols == ff &&
           op->down_out->cols == width && op->gated->rows / op->used >= rows &&
           op->up_out->rows / op->used >= rows && op->down_out->rows / op->used >= rows;
}

/* Thread: step */
int hob_cpu_experts(hob_device *base, const hob_experts *op)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    routing r = {.dev = dev, .op = op, .rows = dev->batch->row_count};
    hob_cpu_prepare prepare;
    hob_cpu_input x;
    int rc;

    if (!fits(op, r.rows))
        return HOB_EINVAL;
    r.slots = r.rows * op->used;
    const hob_linear scores = {.x = op->x,
                               .norm = op->norm,
                               .norm_eps = op->norm_eps,
                               .count = 1,
                               .w = {op->router},
                               .y = {op->scores}};
    if ((rc = reserve(&r)) < 0 || (rc = hob_cpu_linear(base, &scores)) < 0)
        return rc;
    route(&r);

    const bool gate_blocks = op->gate->matrix.blocks > 0, up_blocks = op->up->matrix.blocks > 0,
               down_blocks = op->down->matrix.blocks > 0;
    const hob_cpu_source rows = {
        .x = op->x, .norm = op->norm, .norm_eps = op->norm_eps, .rows = r.slots, .which = r.row};
    if ((rc = hob_cpu_prepare_plan(dev, &rows, gate_blocks || up_blocks, !gate_blocks || !up_blocks,
                                   &prepare, &x)) < 0)
        return rc;
    uint32_t count = add_products(&r, op->gate, &x, op->gated, r.products);
    count += add_products(&r, op->up, &x, op->up_out, r.products + count);
    if ((rc = hob_cpu_multiply(dev, &prepare, r.products, count)) < 0)
        return rc;

    const hob_cpu_gate act = {
        .kind = op->kind, .gate = op->gated, .up = op->up_out, .out = op->gated};
    const hob_cpu_source slots = {.x = op->gated, .rows = r.slots, .gate = &act};
    if ((rc = hob_cpu_prepare_plan(dev, &slots, down_blocks, !down_blocks, &prepare, &x)) < 0)
        return rc;
    count = add_products(&r, op->down, &x, op->down_out, r.products);
    if ((rc = hob_cpu_multiply(dev, &prepare, r.products, count)) < 0)
        return rc;
    hob_pool_run(dev->pool, add_shares, &r, (r.rows + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM);
    return 0;
}
