/* SPDX-License-Identifier: Apache-2.0
 *
 * BERT on a tiny random model, against a forward pass written here in plain double arithmetic; texts alone and packed among
 * others; and what damaged files and wrong texts are told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/select.h"
#include "models/embedding.h"
#include "tests/support/tiny_encoder.h"

enum { HEAD = ENC_WIDTH / ENC_HEADS, TEXTS = 9, STEP_ROWS = 100 };

static const uint32_t lengths[TEXTS] = {2, 80, 1, 33, 32, 31, 64, 7, 3};

typedef struct pass {
    const hob_gguf *g;
    double x[ENC_CONTEXT][ENC_WIDTH], q[ENC_CONTEXT][ENC_WIDTH], k[ENC_CONTEXT][ENC_WIDTH],
        v[ENC_CONTEXT][ENC_WIDTH];
} pass;

static const float *weights(const pass *p, int layer, const char *name)
{
    char full[64];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    const hob_gguf_tensor *t = hob_gguf_find_tensor(p->g, full);
    assert_non_null(t);
    return t->data;
}

static void dense(const pass *p, int layer, const char *name, const double *x, uint32_t cols,
                  uint32_t rows, double *y)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    const float *w = weights(p, layer, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const float *bias = weights(p, layer, full);
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = (double)bias[r];
        for (uint32_t c = 0; c < cols; c++)
            y[r] += (double)w[(size_t)r * cols + c] * x[c];
    }
}

static void norm(const pass *p, int layer, const char *name, double *x)
{
    char full[64];
    double mean = 0, squares = 0;
    snprintf(full, sizeof full, "%s.weight", name);
    const float *w = weights(p, layer, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const float *bias = weights(p, layer, full);
    for (int i = 0; i < ENC_WIDTH; i++)
        mean += x[i] / ENC_WIDTH;
    for (int i = 0; i < ENC_WIDTH; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    for (int i = 0; i < ENC_WIDTH; i++)
        x[i] = (x[i] - mean) / sqrt(squares / ENC_WIDTH + (double)1e-5f) * (double)w[i] +
               (double)bias[i];
}

static void layer(pass *p, int l, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        dense(p, l, "attn_q", p->x[r], ENC_WIDTH, ENC_WIDTH, p->q[r]);
        dense(p, l, "attn_k", p->x[r], ENC_WIDTH, ENC_WIDTH, p->k[r]);
        dense(p, l, "attn_v", p->x[r], ENC_WIDTH, ENC_WIDTH, p->v[r]);
    }
    for (uint32_t r = 0; r < n; r++) {
        double attended[ENC_WIDTH] = {0}, added[ENC_WIDTH], up[ENC_FF];
        for (int h = 0; h < ENC_HEADS; h++) {
            double e[ENC_CONTEXT], sum = 0;
            for (uint32_t t = 0; t < n; t++) {
                e[t] = 0;
                for (int j = h * HEAD; j < (h + 1) * HEAD; j++)
                    e[t] += p->q[r][j] * p->k[t][j];
                e[t] = exp(e[t] / sqrt(HEAD));
                sum += e[t];
            }
            for (uint32_t t = 0; t < n; t++)
                for (int j = h * HEAD; j < (h + 1) * HEAD; j++)
                    attended[j] += e[t] / sum * p->v[t][j];
        }
        dense(p, l, "attn_output", attended, ENC_WIDTH, ENC_WIDTH, added);
        for (int i = 0; i < ENC_WIDTH; i++)
            p->x[r][i] += added[i];
        norm(p, l, "attn_output_norm", p->x[r]);
        dense(p, l, "ffn_up", p->x[r], ENC_WIDTH, ENC_FF, up);
        for (int i = 0; i < ENC_FF; i++)
            up[i] = 0.5 * up[i] * erfc(-up[i] * M_SQRT1_2);
        dense(p, l, "ffn_down", up, ENC_FF, ENC_WIDTH, added);
        for (int i = 0; i < ENC_WIDTH; i++)
            p->x[r][i] += added[i];
        norm(p, l, "layer_output_norm", p->x[r]);
    }
}

static void embed_in_doubles(pass *p, const uint32_t *ids, uint32_t n, bool mean, double *ret)
{
    const float *tokens = weights(p, -1, "token_embd.weight"),
                *types = weights(p, -1, "token_types.weight"),
                *positions = weights(p, -1, "position_embd.weight");
    double squares = 0;
    for (uint32_t r = 0; r < n; r++) {
        for (int i = 0; i < ENC_WIDTH; i++)
            p->x[r][i] = (double)tokens[ids[r] * ENC_WIDTH + i] + (double)types[i] +
                         (double)positions[r * ENC_WIDTH + i];
        norm(p, -1, "token_embd_norm", p->x[r]);
    }
    for (int l = 0; l < ENC_LAYERS; l++)
        layer(p, l, n);
    for (int i = 0; i < ENC_WIDTH; i++) {
        ret[i] = p->x[0][i];
        for (uint32_t r = 1; mean && r < n; r++)
            ret[i] += p->x[r][i];
        squares += ret[i] * ret[i];
    }
    for (int i = 0; i < ENC_WIDTH; i++)
        ret[i] /= sqrt(squares);
}

static void save(const tiny_encoder *t, char path[64])
{
    mk file = {0};
    snprintf(path, 64, "/tmp/hob-embedding-%d.gguf", (int)getpid());
    tiny_encoder_write(&file, t);
    assert_true(mk_save(&file, path));
    mk_free(&file);
}

static void make_texts(hob_embed_text texts[TEXTS], uint32_t ids[TEXTS][ENC_CONTEXT])
{
    uint32_t seed = 7;
    for (uint32_t t = 0; t < TEXTS; t++) {
        for (uint32_t i = 0; i < lengths[t]; i++)
            ids[t][i] = (seed = seed * 1664525u + 1013904223u, seed >> 8) % ENC_VOCAB;
        texts[t] = (hob_embed_text){ids[t], lengths[t]};
    }
}

static void test_forward(void **state)
{
    const uint32_t pooling = *(const uint32_t *)*state;
    const tiny_encoder t = {.pooling = pooling};
    static uint32_t ids[TEXTS][ENC_CONTEXT];
    static float got[TEXTS][ENC_WIDTH], alone[ENC_WIDTH];
    hob_embed_text texts[TEXTS];
    pass *p = calloc(1, sizeof *p);
    hob_gguf *g = NULL;
    hob_device *device = NULL;
    hob_model *model = NULL;
    hob_embedder *e = NULL;
    hob_diag diag = {""};
    char path[64];

    assert_non_null(p);
    save(&t, path);
    int rc = hob_gguf_open(path, &g, &diag);
    if (rc == 0)
        rc = hob_hal_open("cpu", &(hob_device_options){.threads = 2}, &device, &diag);
    if (rc == 0)
        rc = hob_model_open(path, device, &model, &diag);
    if (rc == 0)
        rc = hob_embedder_new(model, STEP_ROWS, &e, &diag);
    unlink(path);
    if (rc < 0)
        fail_msg("%s", diag.text);
    assert_int_equal(hob_model_get_info(model)->pooling, pooling);
    p->g = g;
    make_texts(texts, ids);
    assert_int_equal(hob_embedder_run(e, texts, TEXTS, got[0]), 0);
    for (uint32_t i = 0; i < TEXTS; i++) {
        double want[ENC_WIDTH];
        embed_in_doubles(p, ids[i], lengths[i], pooling == HOB_POOLING_MEAN, want);
        for (int k = 0; k < ENC_WIDTH; k++)
            if (!(fabs((double)got[i][k] - want[k]) <= 1e-5))
                fail_msg("text %u: value %d is %g, in doubles %g", i, k, (double)got[i][k],
                         want[k]);
        assert_int_equal(hob_embedder_step(e, &texts[i], 1, alone), 0);
        assert_memory_equal(alone, got[i], sizeof alone);
    }
    /* what cannot be */
    static const uint32_t strange[2] = {ENC_CLS, ENC_VOCAB};
    assert_int_equal(hob_embedder_step(e, &(hob_embed_text){strange, 2}, 1, alone), HOB_EINVAL);
    assert_int_equal(hob_embedder_step(e, &(hob_embed_text){strange, 0}, 1, alone), HOB_EINVAL);
    assert_int_equal(hob_embedder_step(e, texts, 0, alone), HOB_EINVAL);
    assert_int_equal(hob_embedder_step(e, texts, 4, got[0]), HOB_EINVAL); /* 116 tokens */
    assert_int_equal(hob_embedder_step(e, &(hob_embed_text){ids[0], ENC_CONTEXT + 1}, 1, alone),
                     HOB_EINVAL);
    hob_embedder_free(e);
    assert_int_equal(hob_embedder_new(model, ENC_CONTEXT - 1, &e, &diag), HOB_EINVAL);
    hob_context *c = NULL;
    const hob_context_options o = {.max_rows = 4, .max_logit_rows = 1, .kv_blocks = 2};
    assert_int_equal(hob_context_new(model, &o, &c, &diag), HOB_EUNSUPPORTED);
    assert_non_null(strstr(diag.text, "embeddings"));
    hob_model_close(model);
    hob_device_close(device);
    hob_gguf_close(g);
    free(p);
}

static void test_a_model_that_generates(void **state)
{
    const char *path = getenv("HOB_TEST_MODEL");
    hob_device *device = NULL;
    hob_model *model = NULL;
    hob_embedder *e = NULL;
    hob_diag diag = {""};

    (void)state;
    if (!path)
        skip();
    assert_int_equal(hob_hal_open("cpu", NULL, &device, &diag), 0);
    assert_int_equal(hob_model_open(path, device, &model, &diag), 0);
    assert_int_equal(hob_embedder_new(model, STEP_ROWS, &e, &diag), HOB_EUNSUPPORTED);
    assert_non_null(strstr(diag.text, "generates text"));
    hob_model_close(model);
    hob_device_close(device);
}

static void test_files_that_are_refused(void **state)
{
    static const struct {
        tiny_encoder t;
        int code;
        const char *names;
    } cases[] = {
        {{.pooling = 0}, HOB_EUNSUPPORTED, "bert.pooling_type"},
        {{.pooling = 3}, HOB_EUNSUPPORTED, "bert.pooling_type"},
        {{.pooling = UINT32_MAX}, HOB_EUNSUPPORTED, "bert.pooling_type"},
        {{.pooling = 1, .omit = "pooling_type"}, HOB_EUNSUPPORTED, "bert.pooling_type"},
        {{.pooling = 1, .causal = true}, HOB_EUNSUPPORTED, "bert.attention.causal"},
        {{.pooling = 1, .omit = "attention.layer_norm_epsilon"},
         HOB_EFORMAT,
         "bert.attention.layer_norm_epsilon"},
        {{.pooling = 1, .types = 3}, HOB_EFORMAT, "token_types.weight"},
        {{.pooling = 1, .types = 2000}, HOB_EFORMAT, "tokenizer.ggml.token_type_count"},
        {{.pooling = 1, .context = ENC_CONTEXT + 1}, HOB_EFORMAT, "position_embd.weight"},
        {{.pooling = 1, .context = 1 << 30}, HOB_EFORMAT, "position_embd.weight"},
        {{.pooling = 1, .omit = "token_types.weight"}, HOB_EFORMAT, "token_types.weight"},
        {{.pooling = 1, .omit = "blk.2.attn_q.bias"}, HOB_EFORMAT, "blk.2.attn_q.bias"},
        {{.pooling = 1, .omit = "blk.1.layer_output_norm.weight"},
         HOB_EFORMAT,
         "blk.1.layer_output_norm.weight"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_gguf *g = NULL;
        hob_model_info info;
        hob_diag diag = {""};
        char path[64];
        save(&cases[i].t, path);
        assert_int_equal(hob_gguf_open(path, &g, &diag), 0);
        unlink(path);
        assert_int_equal(hob_model_inspect(g, path, &info, &diag), cases[i].code);
        if (!strstr(diag.text, cases[i].names))
            fail_msg("%zu: \"%s\" does not name %s", i, diag.text, cases[i].names);
        hob_gguf_close(g);
    }
    /* not said, it is not causal */
    const tiny_encoder silent = {.pooling = 1, .omit = "attention.causal"};
    hob_gguf *g = NULL;
    hob_model_info info;
    hob_diag diag = {""};
    char path[64];
    save(&silent, path);
    assert_int_equal(hob_gguf_open(path, &g, &diag), 0);
    unlink(path);
    assert_int_equal(hob_model_inspect(g, path, &info, &diag), 0);
    assert_int_equal(info.pooling, HOB_POOLING_MEAN);
    assert_int_equal(hob_model_kv_token_bytes(&info, HOB_TYPE_F16), 0);
    hob_gguf_close(g);
}

int main(void)
{
    static uint32_t mean = HOB_POOLING_MEAN, cls = HOB_POOLING_CLS;
    const struct CMUnitTest tests[] = {
        {"mean of the tokens", test_forward, NULL, NULL, &mean},
        {"the class token", test_forward, NULL, NULL, &cls},
        cmocka_unit_test(test_a_model_that_generates),
        cmocka_unit_test(test_files_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
