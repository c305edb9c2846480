/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of what encoders use of a device: positions and layer norm, attention over the rows of each span, GELU on the way
 * into a linear, pooling; against doubles, and each text alone against the same text among others. */
#include "tests/kernels/check.h"

#include <string.h>

enum { SPANS = 5, ROWS_MAX = 180 };

/* Texts of several lengths, in one step; around a block of 32 and a part of 48 queries. */
typedef struct texts {
    hob_span spans[SPANS];
    uint32_t tokens[ROWS_MAX];
    hob_batch batch;
} texts;

static void lay_out(texts *t, const uint32_t *lengths, uint32_t count)
{
    uint32_t row = 0;

    for (uint32_t i = 0; i < count; i++) {
        t->spans[i] = (hob_span){.first_row = row, .row_count = lengths[i]};
        row += lengths[i];
    }
    for (uint32_t r = 0; r < row; r++)
        t->tokens[r] = r;
    t->batch = (hob_batch){row, t->tokens, count, t->spans, 0, NULL};
}

/* The rows of one of them, which the tables hold behind `first`. */
static void lay_out_alone(texts *t, uint32_t first, uint32_t length)
{
    lay_out(t, &length, 1);
    for (uint32_t r = 0; r < length; r++)
        t->tokens[r] = first + r;
}

static const uint32_t some_lengths[SPANS] = {1, 32, 70, 5, 49};
enum { SOME_ROWS = 1 + 32 + 70 + 5 + 49 };

static void attend(check *c, uint32_t heads, uint32_t kv_heads, uint32_t dim)
{
    const uint32_t widths[3] = {heads * dim, kv_heads * dim, kv_heads * dim};
    static float x[3][SOME_ROWS * 512], got[SOME_ROWS * 512], alone[70 * 512];
    texts t;
    hob_device *dev = open_at(c, 2);
    hob_weight *tables[3];
    hob_tensor *in[3];

    if (!dev)
        return;
    for (int i = 0; i < 3; i++) {
        fill_random(c, x[i], (size_t)SOME_ROWS * widths[i], 1.5f);
        tables[i] = table_of(dev, x[i], SOME_ROWS, widths[i]);
        in[i] = tensor(c, dev, SOME_ROWS, widths[i]);
    }
    hob_tensor *out = tensor(c, dev, SOME_ROWS, widths[0]);
    const float scale = 1.0f / sqrtf((float)dim);
    hob_attention op = {.q = in[0],
                        .k = in[1],
                        .v = in[2],
                        .out = out,
                        .heads = heads,
                        .kv_heads = kv_heads,
                        .head_dim = dim,
                        .scale = scale};
    for (uint32_t one = 0, first = 0; one <= SPANS && !c->failed;
         one++) { /* all, then each alone */
        if (one == 0)
            lay_out(&t, some_lengths, SPANS);
        else
            lay_out_alone(&t, first, some_lengths[one - 1]);
        dev->ops->step_begin(dev, NULL, &t.batch);
        for (int i = 0; i < 3; i++)
            dev->ops->embed(dev, tables[i], 1.0f, in[i]);
        if (dev->ops->attention(dev, &op) < 0)
            fail(c, "attention refuses");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, out, 0, t.batch.row_count, one ? alone : got);
        for (uint32_t r = 0; one && r < some_lengths[one - 1]; r++)
            expect_same_row(c, "alone", first + r, alone + r * widths[0],
                            got + (first + r) * widths[0], widths[0], 1e-5);
        first += one ? some_lengths[one - 1] : 0;
    }
    lay_out(&t, some_lengths, SPANS);
    for (uint32_t s = 0; s < SPANS && !c->failed; s++)
        for (uint32_t r = 0; r < some_lengths[s] * heads; r++) {
            const uint32_t row = t.spans[s].first_row + r / heads, h = r % heads,
                           kv = h / (heads / kv_heads);
            double e[70], sum = 0;
            for (uint32_t p = 0; p < some_lengths[s]; p++) {
                e[p] = 0;
                for (uint32_t j = 0; j < dim; j++)
                    e[p] += (double)x[0][row * widths[0] + h * dim + j] *
                            x[1][(t.spans[s].first_row + p) * widths[1] + kv * dim + j];
                e[p] = exp(e[p] * scale);
                sum += e[p];
            }
            for (uint32_t j = 0; j < dim; j++) {
                double want = 0;
                for (uint32_t p = 0; p < some_lengths[s]; p++)
                    want +=
                        e[p] / sum * x[2][(t.spans[s].first_row + p) * widths[1] + kv * dim + j];
                expect_near(c, "out", row, got[row * widths[0] + h * dim + j], want, 2e-5);
            }
        }
    op.v = NULL;
    dev->ops->step_begin(dev, NULL, &t.batch);
    if (dev->ops->attention(dev, &op) != HOB_EINVAL)
        fail(c, "attention takes keys without values");
    op.v = in[2];
    op.window = 3;
    if (dev->ops->attention(dev, &op) != HOB_EINVAL)
        fail(c, "attention over rows takes a window");
    op.k = op.v = NULL;
    op.window = 0;
    if (dev->ops->attention(dev, &op) != HOB_EINVAL)
        fail(c, "attention does without keys and without a cache");
    dev->ops->step_end(dev);
    for (int i = 0; i < 3; i++) {
        dev->ops->weight_free(dev, tables[i]);
        dev->ops->tensor_free(dev, in[i]);
    }
    dev->ops->tensor_free(dev, out);
    hob_device_close(dev);
}

static void attend_32(check *c)
{
    attend(c, 6, 6, 32);
}

static void attend_grouped(check *c)
{
    attend(c, 4, 2, 64);
}

static void attend_odd(check *c)
{
    attend(c, 3, 1, 20);
}

/* Embedded tokens and their positions, normed. */
static void positions(check *c)
{
    enum { COLS = 131 };
    static float x[SOME_ROWS * COLS], table[70 * COLS], norm[COLS], bias[COLS],
        got[SOME_ROWS * COLS], alone[70 * COLS];
    texts t;
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    fill_random(c, x, SOME_ROWS * COLS, 2.0f);
    fill_random(c, table, 70 * COLS, 2.0f);
    fill_random(c, norm, COLS, 1.5f);
    fill_random(c, bias, COLS, 1.5f);
    hob_weight *const w[] = {table_of(dev, x, SOME_ROWS, COLS), table_of(dev, table, 70, COLS),
                             table_of(dev, norm, 1, COLS), table_of(dev, bias, 1, COLS),
                             table_of(dev, table, 69, COLS)};
    hob_tensor *to = tensor(c, dev, SOME_ROWS, COLS);
    for (uint32_t one = 0, first = 0; one <= SPANS && !c->failed; one++) {
        if (one == 0)
            lay_out(&t, some_lengths, SPANS);
        else
            lay_out_alone(&t, first, some_lengths[one - 1]);
        dev->ops->step_begin(dev, NULL, &t.batch);
        dev->ops->embed(dev, w[0], 1.0f, to);
        if (dev->ops->add_positions(dev, w[1], to) < 0 ||
            dev->ops->layer_norm(dev, to, w[2], w[3], 1e-5f) < 0)
            fail(c, "a step is refused");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, to, 0, t.batch.row_count, one ? alone : got);
        for (uint32_t r = 0; one && r < some_lengths[one - 1]; r++)
            expect_same_row(c, "alone", first + r, alone + r * COLS, got + (first + r) * COLS, COLS,
                            1e-5);
        first += one ? some_lengths[one - 1] : 0;
    }
    lay_out(&t, some_lengths, SPANS);
    for (uint32_t s = 0; s < SPANS; s++)
        for (uint32_t r = 0; r < some_lengths[s]; r++) {
            const uint32_t row = t.spans[s].first_row + r;
            double v[COLS], mean = 0, squares = 0;
            for (uint32_t k = 0; k < COLS; k++) {
                v[k] = (double)x[row * COLS + k] + table[r * COLS + k];
                mean += v[k] / COLS;
            }
            for (uint32_t k = 0; k < COLS; k++)
                squares += (v[k] - mean) * (v[k] - mean);
            for (uint32_t k = 0; k < COLS; k++)
                expect_near(c, "x", row * COLS + k, got[row * COLS + k],
                            (v[k] - mean) / sqrt(squares / COLS + 1e-5) * norm[k] + bias[k], 1e-5);
        }
    dev->ops->step_begin(dev, NULL, &t.batch);
    if (dev->ops->add_positions(dev, w[4], to) != HOB_EINVAL)
        fail(c, "add_positions takes a table that is too short");
    if (dev->ops->layer_norm(dev, to, w[2], w[1], 1e-5f) != HOB_EINVAL)
        fail(c, "layer_norm takes a matrix for its bias");
    dev->ops->step_end(dev);
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        dev->ops->weight_free(dev, w[i]);
    dev->ops->tensor_free(dev, to);
    hob_device_close(dev);
}

static void pool(check *c)
{
    enum { COLS = 384 };
    static float x[SOME_ROWS * COLS], got[SPANS * COLS];
    texts t;
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    fill_random(c, x, SOME_ROWS * COLS, 2.0f);
    memset(x, 0, COLS * sizeof *x); /* the first text's: nothing to divide by */
    hob_weight *table = table_of(dev, x, SOME_ROWS, COLS);
    hob_tensor *in = tensor(c, dev, SOME_ROWS, COLS), *out = tensor(c, dev, SPANS, COLS),
               *few = tensor(c, dev, SPANS - 1, COLS);
    lay_out(&t, some_lengths, SPANS);
    for (int kind = 0; kind < 2; kind++) {
        dev->ops->step_begin(dev, NULL, &t.batch);
        dev->ops->embed(dev, table, 1.0f, in);
        if (dev->ops->pool(dev, (hob_pool_kind)kind, in, out) < 0)
            fail(c, "pool refuses");
        if (dev->ops->pool(dev, (hob_pool_kind)kind, in, few) != HOB_EINVAL)
            fail(c, "pool takes fewer rows than there are texts");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, out, 0, SPANS, got);
        for (uint32_t s = 0; s < SPANS; s++) {
            const uint32_t rows = kind == HOB_POOL_MEAN ? some_lengths[s] : 1;
            double want[COLS] = {0}, squares = 0;
            for (uint32_t k = 0; k < COLS; k++) {
                for (uint32_t r = 0; r < rows; r++)
                    want[k] += (double)x[(t.spans[s].first_row + r) * COLS + k] / rows;
                squares += want[k] * want[k];
            }
            for (uint32_t k = 0; k < COLS; k++)
                expect_near(c, "vector", s * COLS + k, got[s * COLS + k],
                            squares > 0 ? want[k] / sqrt(squares) : 0, 1e-6);
        }
    }
    dev->ops->weight_free(dev, table);
    dev->ops->tensor_free(dev, in);
    dev->ops->tensor_free(dev, out);
    dev->ops->tensor_free(dev, few);
    hob_device_close(dev);
}

/* GELU without an `up`: read, or multiplied by the next linear with its bias, onto what is there. */
static void gelu_linear(check *c, hob_type type)
{
    enum { FF = 352, OUT = 48, COUNT = 37 };
    static float x[COUNT * FF], gelu[COUNT * FF], residual[COUNT * OUT], bias[OUT],
        got[COUNT * OUT];
    size_t bytes;
    float *values;
    void *gguf = random_rows(c, type, OUT, FF, &bytes, &values);
    texts t;
    hob_device *dev = open_at(c, 2);
    hob_weight *w = NULL;

    if (!dev)
        return;
    fill_random(c, x, COUNT * FF, 2.0f);
    fill_random(c, residual, COUNT * OUT, 2.0f);
    fill_random(c, bias, OUT, 2.0f);
    if (dev->ops->weight_upload(dev, type, OUT, FF, gguf, bytes, &w, NULL) < 0)
        abort();
    hob_weight *const tables[] = {table_of(dev, x, COUNT, FF), table_of(dev, residual, COUNT, OUT),
                                  table_of(dev, bias, 1, OUT)};
    hob_tensor *in = tensor(c, dev, COUNT, FF), *out = tensor(c, dev, COUNT, OUT);
    const hob_linear op = {
        .x = in, .count = 1, .w = {w}, .bias = {tables[2]}, .y = {out}, .add = true};
    lay_out(&t, &(uint32_t){COUNT}, 1);
    dev->ops->step_begin(dev, NULL, &t.batch);
    dev->ops->embed(dev, tables[0], 1.0f, in);
    dev->ops->embed(dev, tables[1], 1.0f, out);
    if (dev->ops->gate(dev, HOB_GATE_GELU, in, NULL, in) < 0 || dev->ops->linear(dev, &op) < 0)
        fail(c, "a step is refused");
    dev->ops->step_end(dev);
    dev->ops->read_rows(dev, in, 0, COUNT, gelu);
    dev->ops->read_rows(dev, out, 0, COUNT, got);
    const bool rounded = dev->rounds && hob_type_find(type)->block_len > 1;
    for (uint32_t r = 0; r < COUNT && !c->failed; r++) {
        int8_t q[FF];
        hob_cpu_scale s[FF / 32];
        c->scalar->quantize(gelu + r * FF, FF / 32, q, s);
        for (uint32_t k = 0; k < FF; k++) {
            const double v = x[r * FF + k];
            expect_near(c, "gelu", r * FF + k, gelu[r * FF + k],
                        0.5 * v * erfc(-v * 0.70710678118654752), 1e-6);
        }
        for (uint32_t o = 0; o < OUT; o++) {
            double sum = residual[r * OUT + o] + bias[o], size = 1;
            for (uint32_t k = 0; k < FF; k++) {
                const double v = rounded ? (double)s[k / 32].d * q[k] : (double)gelu[r * FF + k];
                sum += v * values[o * FF + k];
                size += fabs(v * values[o * FF + k]);
            }
            expect_near(c, "y", r * OUT + o, got[r * OUT + o], sum,
                        (rounded && !is_cpu(c) ? 3e-4 : 1e-5) * size);
        }
    }
    dev->ops->weight_free(dev, w);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        dev->ops->weight_free(dev, tables[i]);
    dev->ops->tensor_free(dev, in);
    dev->ops->tensor_free(dev, out);
    hob_device_close(dev);
    free(gguf);
    free(values);
}

static void gelu_f16(check *c)
{
    gelu_linear(c, HOB_TYPE_F16);
}

static void gelu_q8_0(check *c)
{
    gelu_linear(c, HOB_TYPE_Q8_0);
}

const check_case encoder_cases[] = {
    {"attend-rows", "32", attend_32},
    {"attend-rows", "64 grouped", attend_grouped},
    {"attend-rows", "20", attend_odd},
    {"positions", "f32", positions},
    {"pool", "f32", pool},
    {"gelu-linear", "F16", gelu_f16},
    {"gelu-linear", "Q8_0", gelu_q8_0},
    {NULL, NULL, NULL},
};
