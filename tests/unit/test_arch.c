/* SPDX-License-Identifier: Apache-2.0
 *
 * Every architecture on a tiny random model, against a forward pass written here in plain double arithmetic from the
 * papers' formulas: the logits of every position, however the text is cut into steps. And what damaged files say.
 *
 *     test_arch --write DIR              writes the tiny models, for a comparison with other programs
 *     test_arch --logits FILE < IDS      hob's logits after 100 token ids, one a line (tests/slow/test_arch.py) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/select.h"
#include "models/model.h"
#include "tests/support/tiny_model.h"

enum { LENGTH = 100, CHUNK = 37, KV_BLOCKS = 4 };

typedef struct pass {
    const tiny *t;
    const hob_gguf *g;
    double x[LENGTH][TINY_WIDTH];
    double q[LENGTH][TINY_HEADS * 64], k[LENGTH][TINY_KV_HEADS * 64], v[LENGTH][TINY_KV_HEADS * 64];
} pass;

/* The values of a tensor, as they lie in the file. */
static const float *weights(const pass *p, int layer, const char *name)
{
    char full[64];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    const hob_gguf_tensor *t = hob_gguf_find_tensor(p->g, full);
    return t ? t->data : NULL;
}

static void multiply(const float *w, const float *bias, const double *x, uint32_t cols,
                     uint32_t rows, double *y)
{
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = bias ? (double)bias[r] : 0;
        for (uint32_t c = 0; c < cols; c++)
            y[r] += (double)w[(size_t)r * cols + c] * x[c];
    }
}

static void rms_norm(const double *x, const float *w, uint32_t n, double *y)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    const double scale = 1 / sqrt(sum / n + (double)1e-5f);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * scale * (double)w[i];
}

static double yarn_frequency(double plain, uint32_t i, const tiny *t)
{
    const double d = t->head_dim, turn = 2 * acos(-1);
    double low =
               floor(d * log(t->original_context / (32 * turn)) / (2 * log((double)t->freq_base))),
           high = ceil(d * log(t->original_context / turn) / (2 * log((double)t->freq_base)));
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    const double kept = 1 - fmin(1, fmax(0, (i - low) / fmax(high - low, 0.001)));
    return plain / (double)t->factor * (1 - kept) + plain * kept;
}

static void rotate(const pass *p, int layer, double *head, uint32_t position)
{
    const tiny *t = p->t;
    const bool local = t->window && (layer + 1) % (int)t->global_every;
    const float *factors = weights(p, -1, "rope_freqs.weight");
    double magnitude = 1;
    if (t->no_rope_every && (layer + 1) % (int)t->no_rope_every == 0)
        return;
    if (tiny_is(t->scaling, "longrope")) {
        const bool past = KV_BLOCKS * HOB_KV_BLOCK_TOKENS > t->original_context;
        factors = weights(p, -1, past ? "rope_factors_long.weight" : "rope_factors_short.weight");
        magnitude = (double)t->factor;
    } else if (tiny_is(t->scaling, "yarn")) {
        magnitude = 0.1 * log((double)t->factor) + 1;
    }
    for (uint32_t i = 0; i < t->head_dim / 2; i++) {
        double f = pow((double)(local ? t->local_base : t->freq_base), -2.0 * i / t->head_dim);
        if (factors)
            f /= (double)factors[i];
        if (tiny_is(t->scaling, "yarn"))
            f = yarn_frequency(f, i, t);
        else if (tiny_is(t->scaling, "linear") && !local)
            f /= (double)t->factor;
        double *a = t->neox ? head + i : head + 2 * i,
               *b = t->neox ? head + i + t->head_dim / 2 : head + 2 * i + 1;
        const double angle = position * f, x = *a, y = *b;
        *a = (x * cos(angle) - y * sin(angle)) * magnitude;
        *b = (y * cos(angle) + x * sin(angle)) * magnitude;
    }
}

static void project(pass *p, int layer, uint32_t at)
{
    const tiny *t = p->t;
    const uint32_t d = t->head_dim, q = TINY_HEADS * d, kv = TINY_KV_HEADS * d;
    double h[TINY_WIDTH];
    rms_norm(p->x[at], weights(p, layer, "attn_norm.weight"), TINY_WIDTH, h);
    const float *fused = weights(p, layer, "attn_qkv.weight");
    multiply(fused ? fused : weights(p, layer, "attn_q.weight"), weights(p, layer, "attn_q.bias"),
             h, TINY_WIDTH, q, p->q[at]);
    multiply(fused ? fused + (size_t)q * TINY_WIDTH : weights(p, layer, "attn_k.weight"),
             weights(p, layer, "attn_k.bias"), h, TINY_WIDTH, kv, p->k[at]);
    multiply(fused ? fused + (size_t)(q + kv) * TINY_WIDTH : weights(p, layer, "attn_v.weight"),
             weights(p, layer, "attn_v.bias"), h, TINY_WIDTH, kv, p->v[at]);
    for (uint32_t head = 0; head < TINY_HEADS + TINY_KV_HEADS; head++) {
        const bool is_q = head < TINY_HEADS;
        double *one = is_q ? p->q[at] + head * d : p->k[at] + (head - TINY_HEADS) * d;
        if (t->qk_norm)
            rms_norm(one, weights(p, layer, is_q ? "attn_q_norm.weight" : "attn_k_norm.weight"), d,
                     one);
        rotate(p, layer, one, at);
    }
}

static void attend(const pass *p, int layer, uint32_t at, double *out)
{
    const tiny *t = p->t;
    const uint32_t d = t->head_dim;
    const bool local = t->window && (layer + 1) % (int)t->global_every;
    const uint32_t first = local && at + 1 > t->window ? at + 1 - t->window : 0;
    const double scale = t->attention_scale > 0 ? (double)t->attention_scale : 1 / sqrt(d);
    for (uint32_t head = 0; head < TINY_HEADS; head++) {
        const uint32_t kv = head / (TINY_HEADS / TINY_KV_HEADS) * d;
        double s[LENGTH], most = -INFINITY, sum = 0;
        for (uint32_t j = first; j <= at; j++) {
            s[j] = 0;
            for (uint32_t i = 0; i < d; i++)
                s[j] += p->q[at][head * d + i] * p->k[j][kv + i];
            s[j] *= scale;
            most = fmax(most, s[j]);
        }
        for (uint32_t j = first; j <= at; j++)
            sum += s[j] = exp(s[j] - most);
        for (uint32_t i = 0; i < d; i++) {
            out[head * d + i] = 0;
            for (uint32_t j = first; j <= at; j++)
                out[head * d + i] += s[j] / sum * p->v[j][kv + i];
        }
    }
}

static void add_branch(pass *p, int layer, uint32_t at, double *y, const char *post_norm)
{
    const float *norm = weights(p, layer, post_norm);
    const double scale = p->t->residual_scale > 0 ? (double)p->t->residual_scale : 1;
    if (norm)
        rms_norm(y, norm, TINY_WIDTH, y);
    for (uint32_t i = 0; i < TINY_WIDTH; i++)
        p->x[at][i] += scale * y[i];
}

static void gated(const pass *p, const float *gate_w, const float *up_w, const float *down_w,
                  const double *h, double *y)
{
    double gate[TINY_FF], up[TINY_FF];
    multiply(gate_w, NULL, h, TINY_WIDTH, TINY_FF, gate);
    multiply(up_w, NULL, h, TINY_WIDTH, TINY_FF, up);
    for (uint32_t i = 0; i < TINY_FF; i++) {
        const double g = gate[i];
        const double act =
            p->t->gelu ? 0.5 * g * (1 + tanh(sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g)))
                       : g / (1 + exp(-g));
        gate[i] = act * up[i];
    }
    multiply(down_w, NULL, gate, TINY_FF, TINY_WIDTH, y);
}

/* The best experts of one position; the weight of the others is 0. */
static void mixture(const pass *p, int layer, const double *h, double *y)
{
    const size_t each = (size_t)TINY_FF * TINY_WIDTH;
    double score[TINY_EXPERTS], share[TINY_EXPERTS] = {0}, sum = 0, one[TINY_WIDTH];
    multiply(weights(p, layer, "ffn_gate_inp.weight"), NULL, h, TINY_WIDTH, TINY_EXPERTS, score);
    for (int n = 0; n < TINY_EXPERTS_USED; n++) {
        int best = -1;
        for (int e = 0; e < TINY_EXPERTS; e++)
            if (share[e] == 0 && (best < 0 || score[e] > score[best]))
                best = e;
        sum += share[best] = exp(score[best]);
    }
    for (int i = 0; i < TINY_WIDTH; i++)
        y[i] = 0;
    for (size_t e = 0; e < TINY_EXPERTS; e++) {
        gated(p, weights(p, layer, "ffn_gate_exps.weight") + e * each,
              weights(p, layer, "ffn_up_exps.weight") + e * each,
              weights(p, layer, "ffn_down_exps.weight") + e * each, h, one);
        for (int i = 0; i < TINY_WIDTH; i++)
            y[i] += share[e] / sum * one[i];
    }
}

static void feed_forward(const pass *p, int layer, uint32_t at, double *y)
{
    const float *up = weights(p, layer, "ffn_up.weight"),
                *gate = weights(p, layer, "ffn_gate.weight");
    double h[TINY_WIDTH];
    rms_norm(p->x[at], weights(p, layer, "ffn_norm.weight"), TINY_WIDTH, h);
    if (p->t->experts) {
        mixture(p, layer, h, y);
        return;
    }
    if (!gate) { /* fused: the gate comes first */
        gate = up;
        up += (size_t)TINY_FF * TINY_WIDTH;
    }
    gated(p, gate, up, weights(p, layer, "ffn_down.weight"), h, y);
}

/* logits [LENGTH][TINY_VOCAB] */
static void forward_in_doubles(pass *p, const uint32_t *tokens, double *logits)
{
    const tiny *t = p->t;
    const float *table = weights(p, -1, "token_embd.weight"),
                *output = weights(p, -1, "output.weight");
    double scale = t->embedding_scale > 0 ? (double)t->embedding_scale : 1;
    if (t->embedding_root)
        scale = sqrt(TINY_WIDTH);
    for (uint32_t at = 0; at < LENGTH; at++)
        for (uint32_t i = 0; i < TINY_WIDTH; i++)
            p->x[at][i] = scale * (double)table[tokens[at] * TINY_WIDTH + i];
    for (int layer = 0; layer < TINY_LAYERS; layer++) {
        for (uint32_t at = 0; at < LENGTH; at++)
            project(p, layer, at);
        for (uint32_t at = 0; at < LENGTH; at++) {
            double attended[TINY_HEADS * 64], y[TINY_WIDTH];
            attend(p, layer, at, attended);
            multiply(weights(p, layer, "attn_output.weight"), NULL, attended,
                     TINY_HEADS * t->head_dim, TINY_WIDTH, y);
            add_branch(p, layer, at, y, "post_attention_norm.weight");
            feed_forward(p, layer, at, y);
            add_branch(p, layer, at, y, "post_ffw_norm.weight");
        }
    }
    for (uint32_t at = 0; at < LENGTH; at++) {
        double h[TINY_WIDTH], *row = logits + (size_t)at * TINY_VOCAB;
        rms_norm(p->x[at], weights(p, -1, "output_norm.weight"), TINY_WIDTH, h);
        multiply(output ? output : table, NULL, h, TINY_WIDTH, TINY_VOCAB, row);
        for (uint32_t i = 0; i < TINY_VOCAB && t->logit_scale > 0; i++)
            row[i] /= (double)t->logit_scale;
    }
}

static void forward_in_hob(hob_model *m, const uint32_t *tokens, uint32_t chunk, float *logits)
{
    static const uint32_t blocks[KV_BLOCKS] = {2, 0, 3, 1};
    const hob_context_options o = {.max_rows = LENGTH,
                                   .max_logit_rows = LENGTH,
                                   .kv_blocks = KV_BLOCKS,
                                   .kv_type = HOB_TYPE_F16};
    hob_context *c = NULL;
    hob_diag diag = {""};
    uint32_t rows[LENGTH];
    if (hob_context_new(m, &o, &c, &diag) < 0)
        fail_msg("%s", diag.text);
    for (uint32_t i = 0; i < LENGTH; i++)
        rows[i] = i;
    for (uint32_t at = 0; at < LENGTH; at += chunk) {
        const uint32_t n = LENGTH - at < chunk ? LENGTH - at : chunk;
        const hob_span span = {.row_count = n, .first_position = at, .blocks = blocks};
        const hob_batch batch = {.row_count = n,
                                 .tokens = tokens + at,
                                 .span_count = 1,
                                 .spans = &span,
                                 .logit_count = n,
                                 .logit_rows = rows};
        assert_int_equal(hob_context_step(c, &batch), 0);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(hob_context_logits(c, i, logits + (size_t)(at + i) * TINY_VOCAB), 0);
    }
    hob_context_free(c);
}

static bool save(const tiny *t, char *path, size_t size)
{
    mk file = {0};
    snprintf(path, size, "/tmp/hob-arch-%d-%s.gguf", (int)getpid(), t->name);
    tiny_write(&file, t);
    const bool saved = mk_save(&file, path);
    mk_free(&file);
    return saved;
}

static void test_forward(void **state)
{
    const tiny *t = *state;
    const size_t count = (size_t)LENGTH * TINY_VOCAB;
    double *want = malloc(count * sizeof *want), error = 0, size = 0;
    float *got = malloc(count * sizeof *got), *cut = malloc(count * sizeof *cut);
    pass *p = calloc(1, sizeof *p);
    char path[128];
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    hob_device *device = NULL;
    hob_model *model = NULL;
    uint32_t tokens[LENGTH];
    assert_true(want && got && cut && p && save(t, path, sizeof path));
    for (uint32_t i = 0; i < LENGTH; i++)
        tokens[i] = (i * 7919 + 13) % TINY_VOCAB;
    int rc = hob_gguf_open(path, &g, &diag);
    if (rc == 0)
        rc = hob_hal_open("cpu", &(hob_device_options){.threads = 2}, &device, &diag);
    if (rc == 0)
        rc = hob_model_open(path, device, &model, &diag);
    unlink(path);
    if (rc < 0)
        fail_msg("%s: %s", t->name, diag.text);
    p->t = t;
    p->g = g;
    forward_in_doubles(p, tokens, want);
    forward_in_hob(model, tokens, LENGTH, got);
    forward_in_hob(model, tokens, CHUNK, cut);
    assert_memory_equal(got, cut, count * sizeof *got);
    for (size_t i = 0; i < count; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    print_message("%s: relative RMS error of the logits %.1e\n", t->name, sqrt(error / size));
    assert_true(isfinite(size) && sqrt(error / size) <= 1e-3);
    hob_model_close(model);
    hob_device_close(device);
    hob_gguf_close(g);
    free(p);
    free(want);
    free(got);
    free(cut);
}

static void expect_refusal(const tiny *t, int code, const char *names)
{
    mk file = {0};
    hob_gguf *g = NULL;
    hob_model_info info;
    hob_diag diag = {""};
    tiny_write(&file, t);
    if (hob_gguf_parse(file.data, file.bytes, &g, &diag) < 0)
        fail_msg("%s", diag.text);
    const int rc = hob_model_inspect(g, t->name, &info, &diag);
    if (rc != code || !strstr(diag.text, names))
        fail_msg("%s: got %s \"%s\", expected %s naming %s", t->name, hob_error_name(rc), diag.text,
                 hob_error_name(code), names);
    hob_gguf_close(g);
    mk_free(&file);
}

/* Each key that an architecture needs, left out or far too large; each tensor, left out or of another shape. */
static void test_damaged_files(void **state)
{
    static const char *const needed[] = {"block_count",          "context_length",
                                         "embedding_length",     "feed_forward_length",
                                         "attention.head_count", "attention.layer_norm_rms_epsilon",
                                         "expert_used_count"};
    static const char *const bounded[] = {"attention.head_count_kv",
                                          "attention.key_length",
                                          "rope.dimension_count",
                                          "rope.freq_base",
                                          "attention.sliding_window",
                                          "embedding_scale",
                                          "expert_count",
                                          "expert_feed_forward_length",
                                          "attention.scale",
                                          "residual_scale",
                                          "logit_scale",
                                          "rope.scaling.factor",
                                          "rope.scaling.attn_factor",
                                          "rope.scaling.original_context_length"};
    (void)state;
    for (size_t i = 0; i < TINY_MODELS; i++) {
        mk file = {0};
        hob_gguf *g = NULL;
        hob_model_info info;
        hob_diag diag = {""};
        tiny_write(&file, &tiny_models[i]);
        assert_int_equal(hob_gguf_parse(file.data, file.bytes, &g, &diag), 0);
        assert_int_equal(hob_model_inspect(g, "whole", &info, &diag), 0);
        for (size_t k = 0; k < sizeof needed / sizeof *needed; k++) {
            tiny t = tiny_models[i];
            if (!t.experts && strncmp(needed[k], "expert", 6) == 0)
                continue;
            t.omit = needed[k];
            expect_refusal(&t, HOB_EFORMAT, needed[k]);
            t.omit = NULL;
            t.huge = needed[k];
            expect_refusal(&t, HOB_EFORMAT, needed[k]);
        }
        for (size_t k = 0; k < sizeof bounded / sizeof *bounded; k++) {
            char key[96], text[64];
            hob_string name;
            bool there = false;
            snprintf(key, sizeof key, "%s.%s", tiny_models[i].arch, bounded[k]);
            for (uint64_t n = 0; hob_gguf_describe_key(g, n, &name, text, sizeof text); n++)
                there |= name.len == strlen(key) && memcmp(name.data, key, name.len) == 0;
            tiny t = tiny_models[i];
            t.huge = bounded[k];
            if (there)
                expect_refusal(&t, HOB_EFORMAT, bounded[k]);
        }
        for (uint64_t n = 0; n < hob_gguf_tensor_count(g); n++) {
            const hob_gguf_tensor *one = hob_gguf_tensor_at(g, n);
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)one->name.len, one->name.data);
            tiny t = tiny_models[i];
            t.wide = name;
            expect_refusal(&t, HOB_EFORMAT, name);
            t.wide = NULL;
            t.omit = name;
            if (!strstr(name, "bias") && strncmp(name, "output.", 7) != 0 &&
                strncmp(name, "rope_", 5) != 0)
                expect_refusal(&t, HOB_EFORMAT, name);
        }
        hob_gguf_close(g);
        mk_free(&file);
    }
}

static void test_variants_that_are_not_known(void **state)
{
    (void)state;
    tiny t = tiny_models[0];
    t.scaling = "sideways";
    t.factor = 2;
    expect_refusal(&t, HOB_EUNSUPPORTED, "llama.rope.scaling.type: \"sideways\" is not known");
    t = tiny_models[0];
    t.arch = "mamba";
    expect_refusal(&t, HOB_EUNSUPPORTED,
                   "general.architecture: \"mamba\" is not known; known: llama");
    t = tiny_models[0];
    t.head_dim = 40;
    expect_refusal(&t, HOB_EUNSUPPORTED, "head dimension 40");
    t = tiny_models[0];
    t.arch = "qwen3moe";
    expect_refusal(&t, HOB_EUNSUPPORTED,
                   "qwen3moe.expert_count: 0, the architecture needs experts");
    t = tiny_models[0];
    t.arch = "qwen3";
    t.experts = true;
    expect_refusal(&t, HOB_EUNSUPPORTED,
                   "qwen3.expert_count: 6, this architecture is only known without experts");
}

static int write_models(const char *folder)
{
    for (size_t i = 0; i < TINY_MODELS; i++) {
        mk file = {0};
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.gguf", folder, tiny_models[i].name);
        tiny_write(&file, &tiny_models[i]);
        if (!mk_save(&file, path)) {
            fprintf(stderr, "test_arch: cannot write %s\n", path);
            return 1;
        }
        mk_free(&file);
    }
    return 0;
}

static int print_logits(const char *path)
{
    static float logits[LENGTH * TINY_VOCAB];
    hob_device *device = NULL;
    hob_model *model = NULL;
    hob_diag diag = {""};
    uint32_t tokens[LENGTH];
    for (uint32_t i = 0; i < LENGTH; i++)
        if (scanf("%u", &tokens[i]) != 1)
            return 1;
    if (hob_hal_open("cpu", &(hob_device_options){.threads = 2}, &device, &diag) < 0 ||
        hob_model_open(path, device, &model, &diag) < 0) {
        fprintf(stderr, "test_arch: %s\n", diag.text);
        return 1;
    }
    forward_in_hob(model, tokens, LENGTH, logits);
    for (uint32_t i = 0; i < TINY_VOCAB; i++)
        printf("%.9g\n", (double)logits[(LENGTH - 1) * TINY_VOCAB + i]);
    hob_model_close(model);
    hob_device_close(device);
    return 0;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[TINY_MODELS + 2];
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_models(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--logits") == 0)
        return print_logits(argv[2]);
    for (size_t i = 0; i < TINY_MODELS; i++)
        tests[i] = (struct CMUnitTest){.name = tiny_models[i].name,
                                       .test_func = test_forward,
                                       .initial_state = (void *)&tiny_models[i]};
    tests[TINY_MODELS] = (struct CMUnitTest)cmocka_unit_test(test_damaged_files);
    tests[TINY_MODELS + 1] = (struct CMUnitTest)cmocka_unit_test(test_variants_that_are_not_known);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
