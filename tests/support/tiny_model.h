/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiny random models of each architecture, as GGUF files in F32: small enough for a forward pass in plain double
 * arithmetic, with more layers than any pattern of layers is long, and a window shorter than the text. */
#ifndef HOB_TESTS_TINY_MODEL_H
#define HOB_TESTS_TINY_MODEL_H

#include <math.h>

#include "tests/support/gguf_maker.h"

enum {
    TINY_LAYERS = 7,
    TINY_WIDTH = 128,
    TINY_HEADS = 4,
    TINY_KV_HEADS = 2,
    TINY_FF = 96,
    TINY_EXPERTS = 6,
    TINY_EXPERTS_USED = 2,
    TINY_CONTEXT = 512,
    TINY_VOCAB = MK_LLAMA_VOCAB,
    TINY_TENSORS_MAX = 8 + 16 * TINY_LAYERS,
};

typedef struct tiny {
    const char *name, *arch; /* of the case; general.architecture */
    uint32_t head_dim;
    bool neox, gelu, tied, bias, qk_norm, post_norm, fused, rope_freqs, experts;
    bool embedding_root; /* embeddings times sqrt(width) */
    uint32_t window, global_every, no_rope_every;
    float freq_base, local_base;
    const char *scaling; /* rope.scaling.type, NULL: none */
    float factor;
    uint32_t original_context;
    float embedding_scale, attention_scale, residual_scale, logit_scale; /* 0: no such key */
    /* Damage: a key or tensor that is left out, a key that is far too large, a tensor with a column too many. */
    const char *omit, *huge, *wide;
} tiny;

static const tiny tiny_models[] = {
    {.name = "llama", .arch = "llama", .head_dim = 32, .freq_base = 10000},
    {.name = "llama-tied-bias",
     .arch = "llama",
     .head_dim = 64,
     .freq_base = 500000,
     .tied = true,
     .bias = true},
    {.name = "llama-freqs",
     .arch = "llama",
     .head_dim = 32,
     .freq_base = 500000,
     .rope_freqs = true},
    {.name = "llama-linear",
     .arch = "llama",
     .head_dim = 32,
     .freq_base = 10000,
     .scaling = "linear",
     .factor = 4},
    {.name = "llama-yarn",
     .arch = "llama",
     .head_dim = 32,
     .freq_base = 10000,
     .scaling = "yarn",
     .factor = 4,
     .original_context = 64},
    {.name = "qwen2",
     .arch = "qwen2",
     .head_dim = 32,
     .freq_base = 1000000,
     .neox = true,
     .bias = true},
    {.name = "qwen2-yarn",
     .arch = "qwen2",
     .head_dim = 32,
     .freq_base = 1000000,
     .neox = true,
     .bias = true,
     .scaling = "yarn",
     .factor = 4,
     .original_context = 128,
     .tied = true},
    {.name = "qwen3",
     .arch = "qwen3",
     .head_dim = 64,
     .freq_base = 1000000,
     .neox = true,
     .qk_norm = true,
     .tied = true},
    {.name = "qwen3moe",
     .arch = "qwen3moe",
     .head_dim = 64,
     .freq_base = 1000000,
     .neox = true,
     .qk_norm = true,
     .experts = true},
    {.name = "llama-experts",
     .arch = "llama",
     .head_dim = 32,
     .freq_base = 1000000,
     .experts = true},
    {.name = "gemma",
     .arch = "gemma",
     .head_dim = 64,
     .freq_base = 10000,
     .neox = true,
     .gelu = true,
     .embedding_root = true,
     .tied = true},
    {.name = "gemma3",
     .arch = "gemma3",
     .head_dim = 32,
     .freq_base = 1000000,
     .local_base = 10000,
     .neox = true,
     .gelu = true,
     .embedding_root = true,
     .tied = true,
     .qk_norm = true,
     .post_norm = true,
     .window = 8,
     .global_every = 6},
    {.name = "gemma3-linear",
     .arch = "gemma3",
     .head_dim = 64,
     .freq_base = 1000000,
     .local_base = 10000,
     .neox = true,
     .gelu = true,
     .embedding_root = true,
     .tied = true,
     .qk_norm = true,
     .post_norm = true,
     .window = 8,
     .global_every = 6,
     .scaling = "linear",
     .factor = 8},
    {.name = "granite",
     .arch = "granite",
     .head_dim = 32,
     .freq_base = 10000,
     .tied = true,
     .embedding_scale = 12,
     .attention_scale = 0.015625f,
     .residual_scale = 0.22f,
     .logit_scale = 8},
    {.name = "granitemoe",
     .arch = "granitemoe",
     .head_dim = 32,
     .freq_base = 10000,
     .tied = true,
     .embedding_scale = 12,
     .attention_scale = 0.015625f,
     .residual_scale = 0.22f,
     .logit_scale = 8,
     .experts = true},
    {.name = "phi3",
     .arch = "phi3",
     .head_dim = 32,
     .freq_base = 10000,
     .neox = true,
     .fused = true},
    {.name = "phi3-longrope",
     .arch = "phi3",
     .head_dim = 32,
     .freq_base = 10000,
     .neox = true,
     .fused = true,
     .scaling = "longrope",
     .factor = 1.19f,
     .original_context = 64},
    {.name = "phi3-longrope-short",
     .arch = "phi3",
     .head_dim = 32,
     .freq_base = 10000,
     .neox = true,
     .fused = true,
     .scaling = "longrope",
     .factor = 1.19f,
     .original_context = TINY_CONTEXT},
    {.name = "smollm3",
     .arch = "smollm3",
     .head_dim = 32,
     .freq_base = 5000000,
     .tied = true,
     .no_rope_every = 4},
};
enum { TINY_MODELS = sizeof tiny_models / sizeof *tiny_models };

typedef struct tiny_tensor {
    char name[64];
    uint64_t dims[3]; /* columns, rows, matrices; rows 0: a vector */
    float scale, offset;
} tiny_tensor;

typedef struct tiny_writer {
    mk *m;
    const tiny *t;
    uint64_t keys;
    tiny_tensor tensors[TINY_TENSORS_MAX];
    uint32_t tensor_count;
} tiny_writer;

static inline bool tiny_is(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static inline void tiny_u32(tiny_writer *w, const char *name, uint32_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", w->t->arch, name);
    if (tiny_is(w->t->omit, name))
        return;
    mk_key_u32(w->m, key, tiny_is(w->t->huge, name) ? UINT32_MAX : v);
    w->keys++;
}

static inline void tiny_f32(tiny_writer *w, const char *name, float v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", w->t->arch, name);
    if (tiny_is(w->t->omit, name))
        return;
    mk_key_f32(w->m, key, tiny_is(w->t->huge, name) ? 3e38f : v);
    w->keys++;
}

/* layer < 0: not of a layer. rows 0: a vector of values around offset. */
static inline void tiny_add(tiny_writer *w, int layer, const char *name, uint64_t cols,
                            uint64_t rows, float scale, float offset)
{
    tiny_tensor *t = &w->tensors[w->tensor_count];
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    if (tiny_is(w->t->omit, t->name))
        return;
    t->dims[0] = cols + tiny_is(w->t->wide, t->name);
    t->dims[1] = rows;
    t->dims[2] = 1;
    t->scale = scale;
    t->offset = offset;
    w->tensor_count++;
}

static inline void tiny_experts(tiny_writer *w, int layer, const char *name, uint64_t cols,
                                uint64_t rows)
{
    const uint32_t before = w->tensor_count;
    tiny_add(w, layer, name, cols, rows, 0.15f, 0);
    if (w->tensor_count > before)
        w->tensors[before].dims[2] = TINY_EXPERTS;
}

static inline void tiny_layer(tiny_writer *w, int i)
{
    const tiny *t = w->t;
    const uint64_t width = TINY_WIDTH, q = (uint64_t)TINY_HEADS * t->head_dim,
                   kv = (uint64_t)TINY_KV_HEADS * t->head_dim, ff = TINY_FF;
    tiny_add(w, i, "attn_norm.weight", width, 0, 0.3f, 1);
    if (t->fused) {
        tiny_add(w, i, "attn_qkv.weight", width, q + 2 * kv, 0.15f, 0);
    } else {
        tiny_add(w, i, "attn_q.weight", width, q, 0.15f, 0);
        tiny_add(w, i, "attn_k.weight", width, kv, 0.15f, 0);
        tiny_add(w, i, "attn_v.weight", width, kv, 0.15f, 0);
    }
    if (t->bias) {
        tiny_add(w, i, "attn_q.bias", q, 0, 0.5f, 0);
        tiny_add(w, i, "attn_k.bias", kv, 0, 0.5f, 0);
        tiny_add(w, i, "attn_v.bias", kv, 0, 0.5f, 0);
    }
    if (t->qk_norm) {
        tiny_add(w, i, "attn_q_norm.weight", t->head_dim, 0, 0.3f, 1);
        tiny_add(w, i, "attn_k_norm.weight", t->head_dim, 0, 0.3f, 1);
    }
    tiny_add(w, i, "attn_output.weight", q, width, 0.15f, 0);
    if (t->post_norm) {
        tiny_add(w, i, "post_attention_norm.weight", width, 0, 0.3f, 1);
        tiny_add(w, i, "post_ffw_norm.weight", width, 0, 0.3f, 1);
    }
    tiny_add(w, i, "ffn_norm.weight", width, 0, 0.3f, 1);
    if (t->experts) {
        tiny_add(w, i, "ffn_gate_inp.weight", width, TINY_EXPERTS, 0.5f, 0);
        tiny_experts(w, i, "ffn_gate_exps.weight", width, ff);
        tiny_experts(w, i, "ffn_up_exps.weight", width, ff);
        tiny_experts(w, i, "ffn_down_exps.weight", ff, width);
        return;
    }
    if (!t->fused)
        tiny_add(w, i, "ffn_gate.weight", width, ff, 0.15f, 0);
    tiny_add(w, i, "ffn_up.weight", width, t->fused ? 2 * ff : ff, 0.15f, 0);
    tiny_add(w, i, "ffn_down.weight", ff, width, 0.15f, 0);
}

/* Appends the whole file to m. */
static inline void tiny_write(mk *m, const tiny *t)
{
    tiny_writer *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    *w = (tiny_writer){.m = m, .t = t};
    const size_t start = m->bytes;
    mk_header(m, 3, 0, 0);
    mk_key_string(m, "general.architecture", t->arch);
    mk_key_string(m, "general.name",
                  "tiny"); /* llama.cpp treats files called phi-3 in their own way */
    w->keys = 2;
    tiny_u32(w, "block_count", TINY_LAYERS);
    tiny_u32(w, "context_length", TINY_CONTEXT);
    tiny_u32(w, "embedding_length", TINY_WIDTH);
    tiny_u32(w, "feed_forward_length", TINY_FF);
    tiny_u32(w, "attention.head_count", TINY_HEADS);
    tiny_u32(w, "attention.head_count_kv", TINY_KV_HEADS);
    tiny_u32(w, "attention.key_length", t->head_dim);
    tiny_u32(w, "attention.value_length", t->head_dim);
    tiny_u32(w, "rope.dimension_count", t->head_dim);
    tiny_u32(w, "vocab_size", TINY_VOCAB);
    tiny_f32(w, "attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_f32(w, "rope.freq_base", t->freq_base);
    if (t->experts) {
        tiny_u32(w, "expert_count", TINY_EXPERTS);
        tiny_u32(w, "expert_used_count", TINY_EXPERTS_USED);
        tiny_u32(w, "expert_feed_forward_length", TINY_FF);
    }
    if (t->window)
        tiny_u32(w, "attention.sliding_window", t->window);
    if (t->embedding_scale > 0)
        tiny_f32(w, "embedding_scale", t->embedding_scale);
    if (t->attention_scale > 0)
        tiny_f32(w, "attention.scale", t->attention_scale);
    if (t->residual_scale > 0)
        tiny_f32(w, "residual_scale", t->residual_scale);
    if (t->logit_scale > 0)
        tiny_f32(w, "logit_scale", t->logit_scale);
    if (t->scaling) {
        char key[64];
        snprintf(key, sizeof key, "%s.rope.scaling.type", t->arch);
        mk_key_string(m, key, t->scaling);
        w->keys++;
        if (strcmp(t->scaling, "longrope") == 0)
            tiny_f32(w, "rope.scaling.attn_factor", t->factor);
        else
            tiny_f32(w, "rope.scaling.factor", t->factor);
        if (t->original_context)
            tiny_u32(w, "rope.scaling.original_context_length", t->original_context);
    }
    w->keys += mk_vocabulary(m, MK_GOOD);

    tiny_add(w, -1, "token_embd.weight", TINY_WIDTH, TINY_VOCAB, 0.5f, 0);
    tiny_add(w, -1, "output_norm.weight", TINY_WIDTH, 0, 0.3f, 1);
    if (!t->tied)
        tiny_add(w, -1, "output.weight", TINY_WIDTH, TINY_VOCAB, 0.5f, 0);
    if (t->rope_freqs)
        tiny_add(w, -1, "rope_freqs.weight", t->head_dim / 2, 0, 3.0f, 4);
    if (tiny_is(t->scaling, "longrope")) {
        tiny_add(w, -1, "rope_factors_long.weight", t->head_dim / 2, 0, 3.0f, 4);
        tiny_add(w, -1, "rope_factors_short.weight", t->head_dim / 2, 0, 0.2f, 1);
    }
    for (int i = 0; i < TINY_LAYERS; i++)
        tiny_layer(w, i);
    const uint64_t counts[2] = {w->tensor_count, w->keys};
    memcpy(m->data + start + 8, counts, sizeof counts);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < w->tensor_count; i++) {
        const tiny_tensor *one = &w->tensors[i];
        const uint64_t rows = one->dims[1] ? one->dims[1] : 1;
        mk_tensor(m, one->name, MK_TYPE_F32,
                  one->dims[2] > 1 ? 3
                  : one->dims[1]   ? 2
                                   : 1,
                  one->dims, offset);
        offset += (one->dims[0] * rows * one->dims[2] * sizeof(float) + 31) / 32 * 32;
    }
    for (uint32_t i = 0; i < w->tensor_count; i++) {
        const tiny_tensor *one = &w->tensors[i];
        const uint64_t rows = one->dims[1] ? one->dims[1] : 1;
        mk_pad(m, 32);
        mk_weights_f32(m, one->dims[0] * rows * one->dims[2], i + 1, one->scale, one->offset);
    }
    free(w);
}

#endif
