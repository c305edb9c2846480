/* SPDX-License-Identifier: Apache-2.0
 *
 * See golden.h. Activations of the linears are whole numbers whose blocks of 32 hold 127, so that the CPU's rounding to 8
 * bits changes nothing; KV caches are F16 on both sides. */
#include "hal/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hal/half.h"

enum {
    WIDTH = 256,
    ROWS = 70,
    OUTPUTS = 40,
    HEADS = 4,
    KV_HEADS = 2,
    DIM = 64,
    EXPERTS = 4,
    USED = 2,
    VOCAB = 2500
};

/* What a run gave, in order; `what` names each part. */
typedef struct record {
    struct {
        const char *what;
        uint32_t first, count;
        bool exact;
    } parts[32];
    uint32_t part_count, count;
    float values[65536];
} record;

typedef struct golden {
    hob_device *dev;
    record *to;
    uint32_t seed;
    int rc; /* the first failure; nothing runs after it */
    hob_diag *diag;
    hob_weight *weights[24];
    hob_tensor *tensors[24];
    uint32_t weight_count, tensor_count;
    float numbers[ROWS * WIDTH];
    uint8_t bytes[OUTPUTS * WIDTH * 4];
} golden;

static float next(golden *g)
{
    g->seed = g->seed * 1664525u + 1013904223u;
    return (float)(g->seed >> 8) / 8388608.0f - 1.0f;
}

static void check(golden *g, int rc)
{
    if (g->rc == 0 && rc < 0)
        g->rc = rc;
}

static hob_weight *weight(golden *g, hob_type type, uint32_t rows, uint32_t cols, const void *data)
{
    const hob_type_info *t = hob_type_find((uint32_t)type);
    hob_weight *w = NULL;
    if (g->rc == 0) {
        check(g, g->dev->ops->weight_upload(g->dev, type, rows, cols, data,
                                            (size_t)rows * cols / t->block_len * t->block_bytes, &w,
                                            g->diag));
        g->weights[g->weight_count++] = w;
    }
    return w;
}

static hob_weight *floats(golden *g, uint32_t rows, uint32_t cols, float scale, float offset)
{
    float *data = malloc((size_t)rows * cols * sizeof *data);
    if (!data) {
        check(g, HOB_ENOMEM);
        return NULL;
    }
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        data[i] = next(g) * scale + offset;
    hob_weight *w = weight(g, HOB_TYPE_F32, rows, cols, data);
    free(data);
    return w;
}

static hob_tensor *tensor(golden *g, uint32_t rows, uint32_t cols)
{
    hob_tensor *t = NULL;
    if (g->rc == 0) {
        check(g, g->dev->ops->tensor_new(g->dev, rows, cols, &t, g->diag));
        g->tensors[g->tensor_count++] = t;
    }
    return t;
}

/* Room for a part of the record. */
static float *add_part(record *r, const char *what, uint32_t count, bool exact)
{
    float *values = r->values + r->count;
    r->parts[r->part_count].what = what;
    r->parts[r->part_count].first = r->count;
    r->parts[r->part_count].count = count;
    r->parts[r->part_count++].exact = exact;
    r->count += count;
    return values;
}

static void keep(golden *g, const char *what, const hob_tensor *t, uint32_t rows, uint32_t cols)
{
    if (g->rc == 0)
        check(g, g->dev->ops->read_rows(g->dev, t, 0, rows,
                                        add_part(g->to, what, rows * cols, false)));
}

/* Rows of whole numbers, every 32 with a 127 among them. */
static void whole_numbers(golden *g, float *x, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] = i % 32 == 5 ? 127.0f : floorf(next(g) * 100.0f);
}

static void type_part(golden *g, hob_type type)
{
    static const uint32_t counts[] = {1, 2, 3, 7, 9, ROWS};
    float *x = g->numbers;
    uint8_t *bytes = g->bytes;
    const hob_type_info *t = hob_type_find((uint32_t)type);
    const uint32_t blocks = OUTPUTS * WIDTH / t->block_len;
    uint32_t tokens[ROWS], none = 0;

    for (uint32_t i = 0; i < sizeof g->bytes; i++)
        bytes[i] = (uint8_t)(g->seed = g->seed * 1664525u + 1013904223u, g->seed >> 24);
    for (uint32_t b = 0; b < blocks; b++) { /* scales, and float weights, of a usual size */
        uint8_t *block = bytes + b * t->block_bytes;
        const float d = next(g) * 0.05f;
        const uint16_t half = hob_float_to_half(d), upper = (uint16_t)(hob_float_bits(d) >> 16);
        if (type == HOB_TYPE_F32)
            memcpy(block, &d, sizeof d);
        else
            memcpy(block + t->d_at, type == HOB_TYPE_BF16 ? &upper : &half, sizeof half);
        if (t->minimum)
            memcpy(block + t->d_at + 2, &half, sizeof half);
    }
    whole_numbers(g, x, ROWS * WIDTH);
    hob_weight *table = weight(g, HOB_TYPE_F32, ROWS, WIDTH, x),
               *w = weight(g, type, OUTPUTS, WIDTH, bytes);
    hob_tensor *in = tensor(g, ROWS, WIDTH), *out = tensor(g, ROWS, OUTPUTS);
    for (uint32_t i = 0; i < ROWS; i++)
        tokens[i] = i % OUTPUTS;
    for (size_t n = 0; g->rc == 0 && n < sizeof counts / sizeof *counts; n++) {
        const hob_span span = {0, counts[n], 0, &none};
        const hob_batch batch = {counts[n], tokens, 1, &span, 0, NULL};
        const hob_linear op = {.x = in, .count = 1, .w = {w}, .y = {out}};
        check(g, g->dev->ops->step_begin(g->dev, NULL, &batch));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->embed(g->dev, table, 1, in));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->linear(g->dev, &op));
        if (g->rc == 0 && n == 0)
            check(g, g->dev->ops->embed(g->dev, w, 0.5f, in));
        check(g, g->dev->ops->step_end(g->dev));
        keep(g, "linear", out, counts[n], OUTPUTS);
        if (n == 0)
            keep(g, "embed", in, 1, WIDTH);
    }
}

static void candidates_part(golden *g, hob_weight *table)
{
    static hob_candidates got[2];
    static hob_logit_edit edits[] = {{3, 1.5f, 0.25f}, {2400, 1, -INFINITY}, {1111, 1, 40}};
    uint32_t tokens[2] = {0, 1}, none = 0;
    const hob_span span = {0, 2, 0, &none};
    const hob_batch batch = {2, tokens, 1, &span, 2, tokens};
    const hob_candidates_in in[2] = {{0, 40, 1, 0, NULL}, {1, 7, 0.7f, 3, edits}};
    hob_tensor *logits = tensor(g, 2, VOCAB);

    if (g->rc < 0)
        return;
    check(g, g->dev->ops->step_begin(g->dev, NULL, &batch));
    check(g, g->rc < 0 ? g->rc : g->dev->ops->embed(g->dev, table, 1, logits));
    check(g, g->dev->ops->step_end(g->dev));
    check(g, g->rc < 0 ? g->rc : g->dev->ops->candidates(g->dev, logits, in, 2, got));
    if (g->rc < 0)
        return;
    float *best = add_part(g->to, "candidates", 2 * (in[0].k + in[1].k),
                           true), /* sorted, not computed */
        *sums = add_part(g->to, "log-sum-exps", 4, false);
    for (int i = 0; i < 2; i++) {
        for (uint32_t k = 0; k < in[i].k; k++) {
            *best++ = (float)got[i].ids[k];
            *best++ = got[i].raw[k];
        }
        *sums++ = got[i].lse;
        *sums++ = got[i].lse_raw;
    }
}

/* Two sequences, one of which goes on in a second step. */
static void attention_part(golden *g, hob_weight *x_table, hob_tensor *x)
{
    static const uint32_t blocks[] = {3, 1, 0}, others[] = {2, 4};
    static uint32_t tokens[ROWS];
    const hob_kv_shape shape = {1, KV_HEADS, DIM, 5, HOB_TYPE_F16};
    hob_kv *kv = NULL;
    hob_weight *q_w = floats(g, HEADS * DIM, WIDTH, 0.1f, 0),
               *k_w = floats(g, KV_HEADS * DIM, WIDTH, 0.1f, 0),
               *v_w = floats(g, KV_HEADS * DIM, WIDTH, 0.1f, 0),
               *norm = floats(g, 1, WIDTH, 0.3f, 1), *bias = floats(g, 1, HEADS * DIM, 0.5f, 0),
               *head_norm = floats(g, 1, DIM, 0.3f, 1);
    hob_tensor *q = tensor(g, ROWS, HEADS * DIM), *k = tensor(g, ROWS, KV_HEADS * DIM),
               *v = tensor(g, ROWS, KV_HEADS * DIM), *out = tensor(g, ROWS, HEADS * DIM);

    if (g->rc == 0)
        check(g, g->dev->ops->kv_new(g->dev, &shape, &kv, g->diag));
    for (uint32_t i = 0; i < ROWS; i++)
        tokens[i] = i;
    for (uint32_t step = 0; g->rc == 0 && step < 2; step++) {
        const hob_span spans[2] = {{0, step ? 1 : 37, step ? 37 : 0, blocks},
                                   {step ? 1 : 37, 33, 0, others}};
        const hob_batch batch = {step ? 34 : 70, tokens, 2, spans, 0, NULL};
        const hob_linear qkv = {.x = x,
                                .norm = norm,
                                .norm_eps = 1e-5f,
                                .count = 3,
                                .w = {q_w, k_w, v_w},
                                .bias = {bias},
                                .y = {q, k, v}};
        const hob_rope_kv rope = {.q = q,
                                  .k = k,
                                  .v = v,
                                  .heads = HEADS,
                                  .kv_heads = KV_HEADS,
                                  .head_dim = DIM,
                                  .n_rot = DIM - 8,
                                  .neox = step == 0,
                                  .freq_base = 10000,
                                  .freq_scale = 1,
                                  .magnitude = 1,
                                  .q_norm = head_norm,
                                  .norm_eps = 1e-5f};
        const hob_attention attention = {.q = q,
                                         .out = out,
                                         .heads = HEADS,
                                         .kv_heads = KV_HEADS,
                                         .head_dim = DIM,
                                         .scale = 0.125f,
                                         .window = step ? 20 : 0};
        check(g, g->dev->ops->step_begin(g->dev, kv, &batch));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->embed(g->dev, x_table, 0.01f, x));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->linear(g->dev, &qkv));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->rope_kv(g->dev, &rope));
        check(g, g->rc < 0 ? g->rc : g->dev->ops->attention(g->dev, &attention));
        check(g, g->dev->ops->step_end(g->dev));
        keep(g, "rope_kv", q, batch.row_count, HEADS * DIM);
        keep(g, "attention", out, batch.row_count, HEADS * DIM);
    }
    g->dev->ops->kv_free(g->dev, kv);
}

/* Two texts through what encoders use. */
static void encoder_part(golden *g, hob_weight *table, hob_weight *norm)
{
    static const uint32_t tokens[] = {4, 0, 9};
    const hob_span spans[2] = {{.first_row = 0, .row_count = 2}, {.first_row = 2, .row_count = 1}};
    const hob_batch batch = {3, tokens, 2, spans, 0, NULL};
    hob_weight *bias = floats(g, 1, WIDTH, 0.5f, 0);
    hob_tensor *x = tensor(g, 3, WIDTH), *y = tensor(g, 3, WIDTH), *z = tensor(g, 3, WIDTH),
               *out = tensor(g, 3, WIDTH), *pooled = tensor(g, 2, WIDTH);
    const hob_attention attention = {.q = x,
                                     .k = y,
                                     .v = z,
                                     .out = out,
                                     .heads = HEADS,
                                     .kv_heads = HEADS,
                                     .head_dim = DIM,
                                     .scale = 0.125f};
    const hob_device_ops *ops = g->dev->ops;

    check(g, g->rc < 0 ? g->rc : ops->step_begin(g->dev, NULL, &batch));
    if (g->rc < 0)
        return;
    check(g, ops->embed(g->dev, table, 0.01f, x));
    check(g, g->rc < 0 ? g->rc : ops->embed(g->dev, table, 0.02f, y));
    check(g, g->rc < 0 ? g->rc : ops->add_positions(g->dev, table, x));
    check(g, g->rc < 0 ? g->rc : ops->layer_norm(g->dev, x, norm, bias, 1e-5f));
    check(g, g->rc < 0 ? g->rc : ops->gate(g->dev, HOB_GATE_GELU, y, NULL, z));
    check(g, g->rc < 0 ? g->rc : ops->attention(g->dev, &attention));
    check(g, g->rc < 0 ? g->rc : ops->pool(g->dev, HOB_POOL_MEAN, out, pooled));
    check(g, ops->step_end(g->dev));
    keep(g, "add_positions and layer_norm", x, 3, WIDTH);
    keep(g, "gelu", z, 3, WIDTH);
    keep(g, "attention over rows", out, 3, WIDTH);
    keep(g, "pool", pooled, 2, WIDTH);
}

static void operations_part(golden *g, hob_type unused)
{
    float *values = g->numbers;
    static const uint32_t tokens[] = {4, 0, 9};
    uint32_t none = 0;
    const hob_span span = {0, 3, 0, &none};
    const hob_batch batch = {3, tokens, 1, &span, 0, NULL};
    (void)unused;
    whole_numbers(g, values, ROWS * WIDTH);
    hob_weight *table = weight(g, HOB_TYPE_F32, ROWS, WIDTH, values),
               *norm = floats(g, 1, WIDTH, 0.3f, 1), *router = floats(g, EXPERTS, WIDTH, 0.5f, 0),
               *gate_w = floats(g, EXPERTS * WIDTH, WIDTH, 0.1f, 0),
               *up_w = floats(g, EXPERTS * WIDTH, WIDTH, 0.1f, 0),
               *down_w = floats(g, EXPERTS * WIDTH, WIDTH, 0.1f, 0),
               *vocabulary = floats(g, 2, VOCAB, 20, 0);
    hob_tensor *x = tensor(g, ROWS, WIDTH), *y = tensor(g, ROWS, WIDTH),
               *z = tensor(g, ROWS, WIDTH), *scores = tensor(g, 3, EXPERTS),
               *gated = tensor(g, 3 * USED, WIDTH), *up = tensor(g, 3 * USED, WIDTH),
               *down = tensor(g, 3 * USED, WIDTH);
    attention_part(g, table, x);
    if (g->rc < 0)
        return;
    const hob_experts experts = {.x = x,
                                 .norm = norm,
                                 .norm_eps = 1e-5f,
                                 .count = EXPERTS,
                                 .used = USED,
                                 .router = router,
                                 .gate = gate_w,
                                 .up = up_w,
                                 .down = down_w,
                                 .kind = HOB_GATE_SILU,
                                 .scores = scores,
                                 .gated = gated,
                                 .up_out = up,
                                 .down_out = down};
    const hob_device_ops *ops = g->dev->ops;
    check(g, ops->step_begin(g->dev, NULL, &batch));
    check(g, g->rc < 0 ? g->rc : ops->embed(g->dev, table, 0.01f, x));
    check(g, g->rc < 0 ? g->rc : ops->embed(g->dev, table, 0.02f, y));
    check(g, g->rc < 0 ? g->rc : ops->gate(g->dev, HOB_GATE_GELU_TANH, x, y, z));
    check(g, g->rc < 0 ? g->rc : ops->norm_add(g->dev, y, norm, 1e-5f, x));
    check(g, g->rc < 0 ? g->rc : ops->experts(g->dev, &experts));
    check(g, ops->step_end(g->dev));
    keep(g, "gate", z, 3, WIDTH);
    keep(g, "norm_add and experts", x, 3, WIDTH);
    encoder_part(g, table, norm);
    candidates_part(g, vocabulary);
}

static int run(hob_device *dev, void (*part)(golden *, hob_type), hob_type type, record *to,
               hob_diag *diag)
{
    golden *g = calloc(1, sizeof *g); /* an upload in it may want a test of its own */
    if (!g)
        return hob_fail(diag, HOB_ENOMEM, "out of memory");
    *g = (golden){.dev = dev, .to = to, .seed = 20261124, .diag = diag};
    part(g, type);
    const int rc = g->rc;
    for (uint32_t i = 0; i < g->weight_count; i++)
        dev->ops->weight_free(dev, g->weights[i]);
    for (uint32_t i = 0; i < g->tensor_count; i++)
        dev->ops->tensor_free(dev, g->tensors[i]);
    free(g);
    return rc;
}

static int compare(const record *got, const record *want, const char *type, const char *device,
                   hob_diag *diag)
{
    for (uint32_t p = 0; p < want->part_count; p++) {
        const float *a = got->values + want->parts[p].first,
                    *b = want->values + want->parts[p].first;
        double most = 0;
        for (uint32_t i = 0; i < want->parts[p].count; i++)
            most = fmax(most, fabs((double)b[i]));
        for (uint32_t i = 0; i < want->parts[p].count; i++)
            if (!(fabs((double)a[i] - (double)b[i]) <= (want->parts[p].exact ? 0 : 1e-3 * most)))
                return hob_fail(diag, HOB_EDEVICE,
                                "%s: self-test: %s%s%s: value %u is %g, the CPU's %g", device,
                                want->parts[p].what, type[0] ? " " : "", type, i, (double)a[i],
                                (double)b[i]);
    }
    return 0;
}

static int run_both(hob_device *dev, void (*part)(golden *, hob_type), hob_type type,
                    const char *name, hob_diag *diag)
{
    hob_device *cpu = NULL;
    record *got = calloc(1, sizeof *got), *want = calloc(1, sizeof *want);
    hob_diag why = {""};
    int rc = got && want ? 0 : hob_fail(&why, HOB_ENOMEM, "out of memory");
    if (rc == 0)
        rc = hob_backend_cpu.open(NULL, &(hob_device_options){.threads = 1}, &cpu, &why);
    if (rc == 0 && (rc = run(cpu, part, type, want, &why)) == 0)
        rc = run(dev, part, type, got, &why);
    if (rc == 0)
        rc = compare(got, want, name, dev->info.name, diag);
    else
        hob_fail(diag, rc, "%s: self-test: %.180s", dev->info.name,
                 why.text[0]            ? why.text
                 : dev->failure.text[0] ? dev->failure.text
                                        : hob_error_name(rc));
    hob_device_close(cpu);
    free(got);
    free(want);
    return rc;
}

int hob_golden_operations(hob_device *dev, hob_diag *diag)
{
    return run_both(dev, operations_part, HOB_TYPE_F32, "", diag);
}

int hob_golden_type(hob_device *dev, hob_type type, hob_diag *diag)
{
    return run_both(dev, type_part, type, hob_type_find((uint32_t)type)->name, diag);
}
