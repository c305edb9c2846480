/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of a whole device through hal.h's table, the CPU's opened at each tier: packing and linears against the GGUF rows'
 * own values, attention over the paged cache against a plain softmax, the contract that a row does not depend on the
 * rows beside it, on how its prompt was cut, or on the number of threads, and candidates against a full sort. */
#include "tests/kernels/check.h"

#include <string.h>

bool is_cpu(const check *c)
{
    return strcmp(c->device->info.name, "cpu") == 0;
}

void expect_same_row(check *c, const char *what, uint32_t row, const float *got, const float *want,
                     uint32_t n, double tolerance)
{
    double most = 0;

    if (is_cpu(c)) {
        if (memcmp(got, want, n * sizeof *got) != 0)
            fail(c, "%s: row %u differs", what, row);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    for (uint32_t i = 0; i < n; i++)
        expect_near(c, what, (size_t)row * n + i, got[i], want[i], tolerance * most);
}

hob_device *open_at(check *c, uint32_t threads)
{
    hob_device_options options = {.threads = threads};
    hob_device *dev = NULL;
    hob_diag diag = {""};

    setenv("HOB_CPU", hob_cpu_tier_name(c->tier), 1);
    if (hob_hal_open_chosen(c->device, &options, &dev, &diag) < 0) {
        fail(c, "open: %s", diag.text);
        return NULL;
    }
    c->rounds = dev->rounds;
    if (is_cpu(c) && strcmp(dev->info.isa, hob_cpu_tier_name(c->tier)) != 0)
        fail(c, "opened at %s: the tier fails its self-test", dev->info.isa);
    return dev;
}

hob_tensor *tensor(check *c, hob_device *dev, uint32_t rows, uint32_t cols)
{
    hob_tensor *t = NULL;
    if (dev->ops->tensor_new(dev, rows, cols, &t, NULL) < 0) {
        fail(c, "tensor_new");
        abort();
    }
    return t;
}

hob_weight *table_of(hob_device *dev, const float *x, uint32_t rows, uint32_t cols)
{
    hob_weight *w = NULL;
    if (dev->ops->weight_upload(dev, HOB_TYPE_F32, rows, cols, x, (size_t)rows * cols * 4, &w,
                                NULL) < 0)
        abort();
    return w;
}

static void linear_type(check *c, hob_type type)
{
    enum { ROWS = 83, COLS = 256, COUNT = 70, TRIED = 13 };
    size_t bytes;
    float *values, x[COUNT * COLS], norm[COLS], bias[ROWS], got[COUNT * ROWS], alone[ROWS],
        embedded[COUNT * COLS];
    void *gguf = random_rows(c, type, ROWS, COLS, &bytes, &values);
    uint32_t tokens[COUNT], block = 0, logit_rows[] = {2, 3, 12};
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    const bool rounded = dev->rounds && hob_type_find(type)->block_len > 1;
    /* Another order of norm's sum can round an activation the other way. */
    const double tolerance = rounded && !is_cpu(c) ? 3e-4 : 1e-5;
    fill_random(c, x, COUNT * COLS, 2.0f);
    fill_random(c, norm, COLS, 1.5f);
    fill_random(c, bias, ROWS, 1.5f);
    const uint32_t count = c->brief ? 17 : COUNT, tried = c->brief ? 2 : TRIED;
    for (uint32_t i = 0; i < COUNT; i++)
        tokens[i] = i;
    hob_weight *table = table_of(dev, x, COUNT, COLS), *norm_w = table_of(dev, norm, 1, COLS),
               *bias_w = table_of(dev, bias, 1, ROWS);
    hob_weight *w = NULL;
    hob_tensor *in = tensor(c, dev, COUNT, COLS), *out = tensor(c, dev, COUNT, ROWS);
    uint64_t before = 0;
    for (int i = 0; i < 2; i++) { /* the first of a type may have made room for its own test */
        dev->ops->weight_free(dev, w);
        before = dev->resident_bytes;
        if (dev->ops->weight_upload(dev, type, ROWS, COLS, gguf, bytes, &w, NULL) < 0)
            abort();
    }
    if (dev->resident_bytes - before > bytes * 3 / 2) /* 83 rows fill 96; larger ones waste less */
        fail(c, "%zu bytes take %llu", bytes, (unsigned long long)(dev->resident_bytes - before));
    if (dev->ops->weight_upload(dev, type, ROWS, COLS, gguf, bytes - 1, &norm_w, NULL) !=
        HOB_EINVAL)
        fail(c, "weight_upload takes too few bytes");
    hob_span span = {.first_row = 0, .row_count = count, .first_position = 0, .blocks = &block};
    hob_batch batch = {count, tokens, 1, &span, 3, logit_rows};
    hob_linear op = {.x = in,
                     .norm = norm_w,
                     .norm_eps = 1e-6f,
                     .count = 1,
                     .w = {w},
                     .bias = {bias_w},
                     .y = {out}};
    dev->ops->step_begin(dev, NULL, &batch);
    dev->ops->embed(dev, table, 1.0f, in);
    if (dev->ops->linear(dev, &op) < 0)
        fail(c, "linear refuses");
    dev->ops->step_end(dev);
    dev->ops->read_rows(dev, out, 0, count, got);

    for (uint32_t i = 0; i < count && !c->failed;
         i += i < tried ? 1 : 19) { /* against the GGUF rows; each row alone gives the same */
        float y[COLS];
        int8_t q[COLS];
        hob_cpu_scale s[COLS / 32];
        c->scalar->rms_norm(x + i * COLS, norm, 1e-6f, y, COLS);
        c->scalar->quantize(y, COLS / 32, q, s);
        for (uint32_t r = 0; r < ROWS; r++) {
            double sum = bias[r], size = 1;
            for (uint32_t k = 0; k < COLS; k++) {
                double v = rounded ? (double)s[k / 32].d * q[k] : y[k];
                sum += v * values[r * COLS + k];
                size += fabs(v * values[r * COLS + k]);
            }
            expect_near(c, "y", i * ROWS + r, got[i * ROWS + r], sum, tolerance * size);
        }
        hob_span one = {0, 1, 0, &block};
        hob_batch single = {1, &tokens[i], 1, &one, 0, NULL};
        dev->ops->step_begin(dev, NULL, &single);
        dev->ops->embed(dev, table, 1.0f, in);
        dev->ops->linear(dev, &op);
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, out, 0, 1, alone);
        expect_same_row(c, "alone", i, alone, got + i * ROWS, ROWS, 1e-5);
    }
    static const uint32_t few[] = {2, 4, 8, 9, 64, 65};
    for (size_t n = 0; n < sizeof few / sizeof *few && few[n] <= count && !c->failed; n++) {
        hob_span first = {0, few[n], 0, &block};
        hob_batch some = {few[n], tokens, 1, &first, 0, NULL};
        dev->ops->step_begin(dev, NULL, &some);
        dev->ops->embed(dev, table, 1.0f, in);
        dev->ops->linear(dev, &op);
        dev->ops->step_end(dev);
        for (uint32_t i = 0; i < few[n]; i++) {
            dev->ops->read_rows(dev, out, i, 1, alone);
            expect_same_row(c, "some", i, alone, got + i * ROWS, ROWS, 1e-5);
        }
    }
    dev->ops->step_begin(dev, NULL, &batch); /* selected rows */
    dev->ops->embed(dev, table, 1.0f, in);
    op.logit_rows = true;
    dev->ops->linear(dev, &op);
    dev->ops->step_end(dev);
    for (uint32_t i = 0; i < 3; i++) {
        dev->ops->read_rows(dev, out, i, 1, alone);
        expect_same_row(c, "selected", i, alone, got + logit_rows[i] * ROWS, ROWS, 1e-5);
    }
    hob_tensor *rows_out =
        tensor(c, dev, COUNT, COLS); /* embedding rows out of the packed weights */
    dev->ops->step_begin(dev, NULL, &batch);
    dev->ops->embed(dev, w, 0.5f, rows_out);
    dev->ops->step_end(dev);
    dev->ops->read_rows(dev, rows_out, 0, count, embedded);
    for (uint32_t i = 0; i < count * COLS; i++)
        expect_near(c, "embedding", i, embedded[i], values[i] * 0.5f,
                    is_cpu(c) ? 0 : 1e-6 * (1 + fabs((double)values[i])));
    hob_weight *const weights[] = {w, table, norm_w, bias_w};
    hob_tensor *const tensors[] = {in, out, rows_out};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++)
        dev->ops->weight_free(dev, weights[i]);
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++)
        dev->ops->tensor_free(dev, tensors[i]);
    hob_device_close(dev);
    free(gguf);
    free(values);
}

#define DEVICE_LINEAR(name, kind)                                                                  \
    static void device_linear_##name(check *c)                                                     \
    {                                                                                              \
        linear_type(c, HOB_TYPE_##kind);                                                           \
    }
HOB_QUANTIZED_TYPES(DEVICE_LINEAR)
DEVICE_LINEAR(f16, F16)
DEVICE_LINEAR(bf16, BF16)
DEVICE_LINEAR(f32, F32)

enum { LENGTH = 101, HEADS = 6, KV_HEADS = 2, DIM = 48, WINDOW = 37, ARENA_BLOCKS = 16 };

/* Attention of LENGTH positions, cut into steps of `step` rows, with another sequence beside it when `company`. */
static void attend_run(check *c, hob_type kv_type, uint32_t threads, uint32_t step, bool company,
                       uint32_t window, const float *qkv, float *ret)
{
    enum { WIDE = (HEADS + 2 * KV_HEADS) * DIM };
    static const uint32_t blocks[] = {5, 2, 9, 0}, others[] = {1, 3, 4, 6};
    hob_device *dev = open_at(c, threads);
    hob_kv *kv = NULL;
    hob_kv_shape shape = {2, KV_HEADS, DIM, ARENA_BLOCKS, kv_type};

    if (!dev)
        return;
    if (dev->ops->kv_new(dev, &shape, &kv, NULL) < 0)
        abort();
    float *parts = malloc((size_t)LENGTH * WIDE * 4), *part = parts;
    uint32_t widths[3] = {HEADS * DIM, KV_HEADS * DIM, KV_HEADS * DIM}, at = 0;
    hob_weight *tables[3];
    hob_tensor *t[3], *out = tensor(c, dev, 2 * LENGTH, HEADS * DIM);
    for (int i = 0; i < 3; i++, at += widths[i - 1]) {
        for (uint32_t p = 0; p < LENGTH; p++)
            memcpy(part + p * widths[i], qkv + p * WIDE + at, widths[i] * 4);
        tables[i] = table_of(dev, part, LENGTH, widths[i]);
        t[i] = tensor(c, dev, 2 * LENGTH, widths[i]);
        part += (size_t)LENGTH * widths[i];
    }
    for (uint32_t first = 0; first < LENGTH; first += step) {
        uint32_t rows = LENGTH - first < step ? LENGTH - first : step, tokens[2 * LENGTH],
                 extra = company ? 3 : 0;
        for (uint32_t i = 0; i < extra + rows; i++)
            tokens[i] = i < extra ? (first * 7 + i) % LENGTH : first + i - extra;
        hob_span spans[2] = {{0, extra, first / 2, others}, {extra, rows, first, blocks}};
        hob_batch batch = {extra + rows, tokens, company ? 2 : 1, company ? spans : spans + 1, 0,
                           NULL};
        int rc = dev->ops->step_begin(dev, kv, &batch);
        for (int i = 0; i < 3; i++)
            dev->ops->embed(dev, tables[i], 1.0f, t[i]);
        hob_rope_kv rope = {.q = t[0],
                            .k = t[1],
                            .v = t[2],
                            .layer = 1,
                            .heads = HEADS,
                            .kv_heads = KV_HEADS,
                            .head_dim = DIM,
                            .n_rot = DIM - 8,
                            .freq_base = 10000,
                            .freq_scale = 1,
                            .magnitude = 1};
        hob_attention attention = {.q = t[0],
                                   .out = out,
                                   .layer = 1,
                                   .heads = HEADS,
                                   .kv_heads = KV_HEADS,
                                   .head_dim = DIM,
                                   .scale = 0.15f,
                                   .window = window};
        if (rc < 0 || dev->ops->rope_kv(dev, &rope) < 0 || dev->ops->attention(dev, &attention) < 0)
            fail(c, "the step is refused");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, out, extra, rows, ret + (size_t)first * HEADS * DIM);
    }
    free(parts);
    for (int i = 0; i < 3; i++) {
        dev->ops->weight_free(dev, tables[i]);
        dev->ops->tensor_free(dev, t[i]);
    }
    dev->ops->tensor_free(dev, out);
    dev->ops->kv_free(dev, kv);
    hob_device_close(dev);
}

static void rotate(double *x, uint32_t position)
{
    for (int i = 0; i < (DIM - 8) / 2; i++) {
        double angle = position * pow(10000, -2.0 * i / (DIM - 8)), a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos(angle) - b * sin(angle);
        x[2 * i + 1] = b * cos(angle) + a * sin(angle);
    }
}

static void attend_reference(check *c, const float *qkv, uint32_t window, const float *got,
                             double tolerance)
{
    enum { WIDE = (HEADS + 2 * KV_HEADS) * DIM };

    for (uint32_t p = 0; p < LENGTH && !c->failed; p++)
        for (uint32_t h = 0; h < HEADS; h++) {
            double q[DIM], k[DIM], s[LENGTH], sum = 0, o[DIM] = {0};
            uint32_t kv_head = h / (HEADS / KV_HEADS),
                     from = window && p + 1 > window ? p + 1 - window : 0;
            for (int j = 0; j < DIM; j++)
                q[j] = qkv[p * WIDE + h * DIM + j];
            rotate(q, p);
            for (uint32_t t = from; t <= p; t++) {
                for (int j = 0; j < DIM; j++)
                    k[j] = qkv[t * WIDE + (HEADS + kv_head) * DIM + j];
                rotate(k, t);
                s[t] = 0;
                for (int j = 0; j < DIM; j++)
                    s[t] += q[j] * k[j] * 0.15;
                s[t] = exp(s[t]);
                sum += s[t];
            }
            for (uint32_t t = from; t <= p; t++)
                for (int j = 0; j < DIM; j++)
                    o[j] += s[t] / sum * qkv[t * WIDE + (HEADS + KV_HEADS + kv_head) * DIM + j];
            for (uint32_t j = 0; j < DIM; j++)
                expect_near(c, "out", p * HEADS * DIM + h * DIM + j,
                            got[p * HEADS * DIM + h * DIM + j], o[j], tolerance);
        }
}

static void attention_type(check *c, hob_type kv_type)
{
    enum { WIDE = (HEADS + 2 * KV_HEADS) * DIM, OUT = LENGTH * HEADS * DIM };
    float *qkv = malloc((size_t)LENGTH * WIDE * 4), *whole = malloc((size_t)OUT * 4),
          *cut = malloc((size_t)OUT * 4);
    static const struct {
        uint32_t threads, step;
        bool company;
    } ways[] = {
        {2, LENGTH, false}, {1, 1, false},  {2, 1, true},
        {2, 7, true},       {3, 33, false}, {2, 64, true},
    };

    if (!qkv || !whole || !cut)
        abort();
    fill_random(c, qkv, (size_t)LENGTH * WIDE, 2.0f);
    /* A K channel far from zero, as a bias makes it, must not drown its neighbours. */
    for (uint32_t p = 0; p < LENGTH; p++)
        qkv[p * WIDE + HEADS * DIM + DIM - 3] += 30;
    for (uint32_t window = 0; window <= WINDOW; window += WINDOW) {
        attend_run(c, kv_type, 1, LENGTH, false, window, qkv, whole);
        attend_reference(c, qkv, window, whole, kv_type == HOB_TYPE_F16 ? 4e-3 : 0.06);
        for (size_t i = c->brief ? 5 : 0; i < sizeof ways / sizeof ways[0] && !c->failed; i++) {
            memset(cut, 0xff, (size_t)OUT * 4);
            attend_run(c, kv_type, ways[i].threads, ways[i].step, ways[i].company, window, qkv,
                       cut);
            if (is_cpu(c) && memcmp(whole, cut, (size_t)OUT * 4) != 0)
                fail(c, "steps of %u rows, %u threads%s: another result than in one step",
                     ways[i].step, ways[i].threads,
                     ways[i].company ? ", another sequence beside" : "");
            for (uint32_t r = 0; r < LENGTH && !c->failed; r++)
                expect_same_row(c, "cut", r, cut + r * HEADS * DIM, whole + r * HEADS * DIM,
                                HEADS * DIM, 1e-5);
        }
    }
    free(qkv);
    free(whole);
    free(cut);
}

static void attention_f16(check *c)
{
    attention_type(c, HOB_TYPE_F16);
}

static void attention_q8_0(check *c)
{
    attention_type(c, HOB_TYPE_Q8_0);
}

enum { MIX_COUNT = 5, MIX_USED = 2, MIX_WIDTH = 256, MIX_FF = 256, MIX_ROWS = 21 };

/* A row multiplied with `count` rows of weights, as kernels do it: on values rounded to 8 bits when quantized. */
static void mix_multiply(check *c, hob_type type, const float *w, const float *x, uint32_t cols,
                         uint32_t count, double *y)
{
    int8_t q[MIX_WIDTH];
    hob_cpu_scale s[MIX_WIDTH / 32];
    const bool quantized = c->rounds && hob_type_find(type)->block_len > 1;

    if (quantized)
        c->scalar->quantize(x, cols / 32, q, s);
    for (uint32_t r = 0; r < count; r++) {
        y[r] = 0;
        for (uint32_t k = 0; k < cols; k++)
            y[r] += (double)w[(size_t)r * cols + k] *
                    (quantized ? (double)s[k / 32].d * q[k] : (double)x[k]);
    }
}

/* What the mixture of `op` adds to one row: experts by score, each a gated feed-forward. */
static void mix_reference(check *c, hob_type in, hob_type out, const float *const values[4],
                          const float *h, double *ret)
{
    double score[MIX_COUNT], share[MIX_COUNT] = {0}, sum = 0, gate[MIX_FF], up[MIX_FF],
                             down[MIX_WIDTH];
    const size_t each = (size_t)MIX_FF * MIX_WIDTH;

    mix_multiply(c, HOB_TYPE_F32, values[0], h, MIX_WIDTH, MIX_COUNT, score);
    for (int n = 0; n < MIX_USED; n++) {
        int best = -1;
        for (int e = 0; e < MIX_COUNT; e++)
            if (share[e] == 0 && (best < 0 || score[e] > score[best]))
                best = e;
        sum += share[best] = exp(score[best]);
    }
    memset(ret, 0, MIX_WIDTH * sizeof *ret);
    for (size_t e = 0; e < MIX_COUNT; e++) {
        float act[MIX_FF];
        mix_multiply(c, in, values[1] + e * each, h, MIX_WIDTH, MIX_FF, gate);
        mix_multiply(c, in, values[2] + e * each, h, MIX_WIDTH, MIX_FF, up);
        for (int i = 0; i < MIX_FF; i++)
            act[i] = (float)(gate[i] / (1 + exp(-gate[i])) * up[i]);
        mix_multiply(c, out, values[3] + e * each, act, MIX_FF, MIX_WIDTH, down);
        for (int i = 0; i < MIX_WIDTH; i++)
            ret[i] += share[e] / sum * down[i];
    }
}

/* All rows at once, then each alone: the same bits; and near the reference. */
static void experts_type(check *c, hob_type in, hob_type out)
{
    const hob_type types[4] = {HOB_TYPE_F32, in, in, out};
    const uint32_t rows_of[4] = {MIX_COUNT, MIX_COUNT * MIX_FF, MIX_COUNT * MIX_FF,
                                 MIX_COUNT * MIX_WIDTH};
    static float x[MIX_ROWS * MIX_WIDTH], norm[MIX_WIDTH], got[MIX_ROWS * MIX_WIDTH];
    float alone[MIX_WIDTH], *values[4];
    void *gguf[4];
    hob_weight *w[4];
    uint32_t tokens[MIX_ROWS], block = 0;
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    fill_random(c, x, MIX_ROWS * MIX_WIDTH, 2.0f);
    fill_random(c, norm, MIX_WIDTH, 1.0f);
    for (int i = 0; i < 4; i++) {
        size_t bytes;
        gguf[i] = random_rows(c, types[i], rows_of[i], 256, &bytes, &values[i]);
        if (dev->ops->weight_upload(dev, types[i], rows_of[i], 256, gguf[i], bytes, &w[i], NULL) <
            0)
            abort();
    }
    for (uint32_t i = 0; i < MIX_ROWS; i++)
        tokens[i] = i;
    hob_weight *table = table_of(dev, x, MIX_ROWS, MIX_WIDTH),
               *norm_w = table_of(dev, norm, 1, MIX_WIDTH);
    hob_tensor *t[5] = {tensor(c, dev, MIX_ROWS, MIX_WIDTH), tensor(c, dev, MIX_ROWS, MIX_COUNT),
                        tensor(c, dev, MIX_ROWS * MIX_USED, MIX_FF),
                        tensor(c, dev, MIX_ROWS * MIX_USED, MIX_FF),
                        tensor(c, dev, MIX_ROWS * MIX_USED, MIX_WIDTH)};
    hob_experts op = {.x = t[0],
                      .norm = norm_w,
                      .norm_eps = 1e-6f,
                      .count = MIX_COUNT,
                      .used = MIX_USED,
                      .router = w[0],
                      .gate = w[1],
                      .up = w[2],
                      .down = w[3],
                      .kind = HOB_GATE_SILU,
                      .scores = t[1],
                      .gated = t[2],
                      .up_out = t[3],
                      .down_out = t[4]};
    for (uint32_t first = 0; first <= (c->brief ? 2 : MIX_ROWS) && !c->failed; first++) {
        const uint32_t rows = first ? 1 : MIX_ROWS, *ids = first ? tokens + first - 1 : tokens;
        hob_span span = {0, rows, 0, &block};
        hob_batch batch = {rows, ids, 1, &span, 0, NULL};
        dev->ops->step_begin(dev, NULL, &batch);
        dev->ops->embed(dev, table, 1.0f, t[0]);
        if (dev->ops->experts(dev, &op) < 0)
            fail(c, "experts refuses");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, t[0], 0, rows, first ? alone : got);
        if (first)
            expect_same_row(c, "alone", first - 1, alone, got + (first - 1) * MIX_WIDTH, MIX_WIDTH,
                            c->rounds ? 5e-3 : 1e-5);
    }
    for (uint32_t i = 0; i < MIX_ROWS && !c->failed; i += 5) {
        float h[MIX_WIDTH];
        double want[MIX_WIDTH], size = 0;
        c->scalar->rms_norm(x + i * MIX_WIDTH, norm, 1e-6f, h, MIX_WIDTH);
        mix_reference(c, in, out, (const float *const *)values, h, want);
        for (uint32_t k = 0; k < MIX_WIDTH; k++)
            size += want[k] * want[k] / MIX_WIDTH;
        for (uint32_t k = 0; k < MIX_WIDTH; k++) /* one activation may be rounded the other way */
            expect_near(c, "x", i * MIX_WIDTH + k, got[i * MIX_WIDTH + k],
                        x[i * MIX_WIDTH + k] + want[k], 5e-3 * sqrt(size) + 1e-6);
    }
    op.used = MIX_COUNT + 1;
    if (dev->ops->step_begin(
            dev, NULL, &(hob_batch){1, tokens, 1, &(hob_span){0, 1, 0, &block}, 0, NULL}) < 0 ||
        dev->ops->experts(dev, &op) != HOB_EINVAL)
        fail(c, "experts takes more of them than there are");
    dev->ops->step_end(dev);
    for (int i = 0; i < 4; i++) {
        dev->ops->weight_free(dev, w[i]);
        free(gguf[i]);
        free(values[i]);
    }
    for (int i = 0; i < 5; i++)
        dev->ops->tensor_free(dev, t[i]);
    dev->ops->weight_free(dev, table);
    dev->ops->weight_free(dev, norm_w);
    hob_device_close(dev);
}

static void experts_q4_k(check *c)
{
    experts_type(c, HOB_TYPE_Q4_K, HOB_TYPE_Q6_K);
}

static void experts_q8_0(check *c)
{
    experts_type(c, HOB_TYPE_Q8_0, HOB_TYPE_F16);
}

static void experts_f32(check *c)
{
    experts_type(c, HOB_TYPE_F32, HOB_TYPE_Q4_0);
}

static const float *sorting; /* of the check now running */

static int by_logit(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (sorting[i] != sorting[j])
        return sorting[i] > sorting[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static void candidates(check *c)
{
    enum { VOCAB_MAX = 20011, ROWS = 3, EDITS_MAX = 300 };
    const uint32_t vocab = c->brief ? 1500 : VOCAB_MAX, edit_count = c->brief ? 20 : EDITS_MAX;
    static float w[VOCAB_MAX], row[VOCAB_MAX];
    static uint32_t order[VOCAB_MAX];
    static hob_logit_edit edits[EDITS_MAX];
    static hob_candidates got[ROWS];
    static const float one[ROWS] = {1.0f, -0.5f, 2.0f};
    uint32_t tokens[ROWS] = {0, 1, 2}, block = 0;
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    for (uint32_t i = 0; i < vocab; i++) /* many ties */
        w[i] = (float)random_below(c, 4001) / 100.0f - 20.0f;
    for (uint32_t i = 0; i < edit_count; i++)
        edits[i] = (hob_logit_edit){i * 61, i % 3 ? 1.3f : 1.0f,
                                    i % 5 ? random_float(c, 9.0f) : -INFINITY};
    hob_weight *table = table_of(dev, one, ROWS, 1), *head = table_of(dev, w, vocab, 1);
    hob_tensor *x = tensor(c, dev, ROWS, 1), *logits = tensor(c, dev, ROWS, vocab);
    hob_span span = {0, ROWS, 0, &block};
    hob_batch batch = {ROWS, tokens, 1, &span, ROWS, tokens};
    hob_linear op = {.x = x, .count = 1, .w = {head}, .y = {logits}, .logit_rows = true};
    dev->ops->step_begin(dev, NULL, &batch);
    dev->ops->embed(dev, table, 1.0f, x);
    dev->ops->linear(dev, &op);
    dev->ops->step_end(dev);
    static const uint32_t ks[] = {1, 2, 40, 255, 256};
    for (size_t n = c->brief ? 4 : 0; n < sizeof ks / sizeof ks[0] && !c->failed; n++) {
        hob_candidates_in in[ROWS] = {{0, ks[n], 1.0f, 0, NULL},
                                      {1, ks[n], 0.7f, edit_count, edits},
                                      {2, ks[n], 3.0f, 0, NULL}};
        memset(got, 0xff, sizeof got);
        if (dev->ops->candidates(dev, logits, in, ROWS, got) < 0)
            fail(c, "candidates refuses");
        for (uint32_t r = 0; r < ROWS && !c->failed; r++) {
            double sum = 0, sum_raw = 0;
            for (uint32_t i = 0; i < vocab; i++) {
                row[i] = w[i] * one[r];
                sum_raw += exp(row[i]);
                order[i] = i;
            }
            for (uint32_t i = 0; i < in[r].edit_count; i++) {
                float *l = &row[edits[i].token];
                *l = (*l > 0 ? *l / edits[i].divide : *l * edits[i].divide) + edits[i].add;
            }
            for (uint32_t i = 0; i < vocab; i++)
                sum += exp((double)row[i] * in[r].inverse_temperature);
            sorting = row;
            qsort(order, vocab, sizeof order[0], by_logit);
            if (got[r].count != ks[n])
                fail(c, "row %u: %u candidates, asked for %u", r, got[r].count, ks[n]);
            for (uint32_t i = 0; i < ks[n] && !c->failed; i++)
                if (got[r].ids[i] != order[i] || got[r].logits[i] != row[order[i]] ||
                    got[r].raw[i] != w[order[i]] * one[r])
                    fail(c, "row %u, candidate %u of %u: got %u, is %u", r, i, ks[n], got[r].ids[i],
                         order[i]);
            expect_near(c, "lse", r, got[r].lse, log(sum), 1e-5 * fabs(log(sum)));
            expect_near(c, "lse_raw", r, got[r].lse_raw, log(sum_raw), 1e-5 * fabs(log(sum_raw)));
        }
    }
    hob_candidates_in wrong = {ROWS, 1, 1.0f, 0, NULL};
    if (dev->ops->candidates(dev, logits, &wrong, 1, got) != HOB_EINVAL)
        fail(c, "candidates takes a row that is not there");
    dev->ops->weight_free(dev, table);
    dev->ops->weight_free(dev, head);
    dev->ops->tensor_free(dev, x);
    dev->ops->tensor_free(dev, logits);
    hob_device_close(dev);
}

/* A gate is the same whether its result is read, or multiplied, or both; for few rows and for many. */
static void gate_linear(check *c)
{
    enum { FF = 1120, OUT = 48, COUNT = 40 };
    static const uint32_t few[] = {1, 2, 9, COUNT};
    static float x[2][COUNT * FF], gated[COUNT * FF], again[COUNT * FF], want[COUNT * OUT],
        got[COUNT * OUT];
    size_t bytes;
    float *values;
    void *gguf = random_rows(c, HOB_TYPE_Q8_0, OUT, FF, &bytes, &values);
    uint32_t tokens[COUNT], block = 0;
    hob_device *dev = open_at(c, 2);
    hob_weight *w = NULL, *tables[3];

    if (!dev)
        return;
    if (dev->ops->weight_upload(dev, HOB_TYPE_Q8_0, OUT, FF, gguf, bytes, &w, NULL) < 0)
        abort();
    for (uint32_t i = 0; i < COUNT; i++)
        tokens[i] = i;
    hob_tensor *gate = tensor(c, dev, COUNT, FF), *up = tensor(c, dev, COUNT, FF),
               *out = tensor(c, dev, COUNT, OUT);
    for (int i = 0; i < 2; i++) {
        fill_random(c, x[i], COUNT * FF, 2.0f);
        tables[i] = table_of(dev, x[i], COUNT, FF);
    }
    hob_span span = {0, COUNT, 0, &block};
    hob_batch batch = {COUNT, tokens, 1, &span, 0, NULL};
    const hob_linear op = {.x = gate, .count = 1, .w = {w}, .y = {out}};
    dev->ops->step_begin(dev, NULL, &batch);
    dev->ops->embed(dev, tables[0], 1.0f, gate);
    dev->ops->embed(dev, tables[1], 1.0f, up);
    if (dev->ops->gate(dev, HOB_GATE_SILU, gate, up, gate) < 0)
        fail(c, "gate refuses");
    dev->ops->step_end(dev);
    dev->ops->read_rows(dev, gate, 0, COUNT, gated);
    for (uint32_t i = 0; i < COUNT * FF; i++) {
        double g = x[0][i], silu = g / (1 + exp(-g)) * x[1][i];
        expect_near(c, "gated", i, gated[i], silu, 1e-5 * (1 + fabs(silu)));
    }
    tables[2] = table_of(dev, gated, COUNT, FF);
    dev->ops->step_begin(dev, NULL, &batch);
    dev->ops->embed(dev, tables[2], 1.0f, gate);
    dev->ops->linear(dev, &op);
    dev->ops->step_end(dev);
    dev->ops->read_rows(dev, out, 0, COUNT, want);
    for (size_t n = 0; n < sizeof few / sizeof *few && !c->failed; n++) {
        span.row_count = batch.row_count = few[n];
        dev->ops->step_begin(dev, NULL, &batch);
        dev->ops->embed(dev, tables[0], 1.0f, gate);
        dev->ops->embed(dev, tables[1], 1.0f, up);
        dev->ops->gate(dev, HOB_GATE_SILU, gate, up, gate);
        if (dev->ops->linear(dev, &op) < 0)
            fail(c, "linear refuses");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, gate, 0, few[n], again);
        dev->ops->read_rows(dev, out, 0, few[n], got);
        for (uint32_t i = 0; i < few[n]; i++) {
            expect_same_row(c, "gate", i, again + i * FF, gated + i * FF, FF, 1e-6);
            expect_same_row(c, "multiplied", i, got + i * OUT, want + i * OUT, OUT, 1e-5);
        }
    }
    dev->ops->weight_free(dev, w);
    for (int i = 0; i < 3; i++)
        dev->ops->weight_free(dev, tables[i]);
    dev->ops->tensor_free(dev, gate);
    dev->ops->tensor_free(dev, up);
    dev->ops->tensor_free(dev, out);
    hob_device_close(dev);
    free(gguf);
    free(values);
}

/* x += RMSNorm(y) * w, against doubles, and row by row the same bits. */
static void norm_add(check *c)
{
    enum { COLS = 131, COUNT = 21 };
    float x[COUNT * COLS], y[COUNT * COLS], norm[COLS], got[COUNT * COLS], alone[COLS];
    uint32_t tokens[COUNT], block = 0;
    hob_device *dev = open_at(c, 2);

    if (!dev)
        return;
    fill_random(c, x, COUNT * COLS, 2.0f);
    fill_random(c, y, COUNT * COLS, 3.0f);
    fill_random(c, norm, COLS, 1.5f);
    for (uint32_t i = 0; i < COUNT; i++)
        tokens[i] = COUNT - 1 - i;
    hob_weight *const weights[] = {table_of(dev, x, COUNT, COLS), table_of(dev, y, COUNT, COLS),
                                   table_of(dev, norm, 1, COLS)};
    hob_tensor *to = tensor(c, dev, COUNT, COLS), *from = tensor(c, dev, COUNT, COLS);
    for (uint32_t first = 0; first <= COUNT; first++) { /* all rows, then each alone */
        const uint32_t rows = first ? 1 : COUNT, *ids = first ? tokens + first - 1 : tokens;
        hob_span span = {0, rows, 0, &block};
        hob_batch batch = {rows, ids, 1, &span, 0, NULL};
        dev->ops->step_begin(dev, NULL, &batch);
        dev->ops->embed(dev, weights[0], 1.0f, to);
        dev->ops->embed(dev, weights[1], 1.0f, from);
        if (dev->ops->norm_add(dev, from, weights[2], 1e-6f, to) < 0)
            fail(c, "norm_add refuses");
        dev->ops->step_end(dev);
        dev->ops->read_rows(dev, to, 0, rows, first ? alone : got);
        if (first)
            expect_same_row(c, "alone", first - 1, alone, got + (first - 1) * COLS, COLS, 1e-5);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        const float *y_row = y + tokens[i] * COLS, *x_row = x + tokens[i] * COLS;
        double sum = 0;
        for (uint32_t k = 0; k < COLS; k++)
            sum += (double)y_row[k] * y_row[k];
        for (uint32_t k = 0; k < COLS; k++)
            expect_near(c, "x", i * COLS + k, got[i * COLS + k],
                        x_row[k] + y_row[k] / sqrt(sum / COLS + 1e-6) * norm[k], 1e-5);
    }
    for (size_t i = 0; i < 3; i++)
        dev->ops->weight_free(dev, weights[i]);
    dev->ops->tensor_free(dev, to);
    dev->ops->tensor_free(dev, from);
    hob_device_close(dev);
}

const check_case device_cases[] = {
#define CASE(name, kind) {"device-linear", #kind, device_linear_##name},
    HOB_QUANTIZED_TYPES(CASE) CASE(f16, F16) CASE(bf16, BF16) CASE(f32, F32)
#undef CASE
        {"device-attend", "F16", attention_f16},
    {"device-attend", "Q8_0", attention_q8_0},
    {"norm_add", "f32", norm_add},
    {"gate", "Q8_0", gate_linear},
    {"experts", "Q4_K/Q6_K", experts_q4_k},
    {"experts", "Q8_0/F16", experts_q8_0},
    {"experts", "F32/Q4_0", experts_f32},
    {"candidates", "f32", candidates},
    {NULL, NULL, NULL},
};
