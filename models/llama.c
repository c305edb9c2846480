/* SPDX-License-Identifier: Apache-2.0
 *
 * The llama architecture (Touvron et al. 2023; grouped queries as in Ainslie et al. 2023): pre-norm transformer with
 * RMSNorm, rotary positions on interleaved pairs, SiLU-gated feed-forward, optionally tied embeddings. GGUF's
 * converters permute Q and K so that pairs are (2i, 2i+1). */
#include "models/arch.h"

#define LAYER(n, field, r, c, opt)                                                                 \
    {                                                                                              \
        n, offsetof(hob_layer, field), HOB_DIM_##r, HOB_DIM_##c, true, opt                         \
    }
#define MODEL(n, field, r, c, opt)                                                                 \
    {                                                                                              \
        n, offsetof(hob_weights, field), HOB_DIM_##r, HOB_DIM_##c, false, opt                      \
    }

static const hob_tensor_spec tensors[] = {
    MODEL("token_embd.weight", embedding, VOCAB, WIDTH, false),
    MODEL("output_norm.weight", output_norm, 1, WIDTH, false),
    MODEL("output.weight", output, VOCAB, WIDTH, true),
    MODEL("rope_freqs.weight", rope_factors, 1, HALF_ROT, true),
    LAYER("blk.%u.attn_norm.weight", attn_norm, 1, WIDTH, false),
    LAYER("blk.%u.attn_q.weight", q, Q, WIDTH, false),
    LAYER("blk.%u.attn_k.weight", k, KV, WIDTH, false),
    LAYER("blk.%u.attn_v.weight", v, KV, WIDTH, false),
    LAYER("blk.%u.attn_q.bias", q_bias, 1, Q, true),
    LAYER("blk.%u.attn_k.bias", k_bias, 1, KV, true),
    LAYER("blk.%u.attn_v.bias", v_bias, 1, KV, true),
    LAYER("blk.%u.attn_output.weight", attn_out, WIDTH, Q, false),
    LAYER("blk.%u.ffn_norm.weight", ffn_norm, 1, WIDTH, false),
    LAYER("blk.%u.ffn_gate.weight", gate, FF, WIDTH, false),
    LAYER("blk.%u.ffn_up.weight", up, FF, WIDTH, false),
    LAYER("blk.%u.ffn_down.weight", down, WIDTH, FF, false),
};

/* A key that may be missing keeps the default already in *ret. */
static int optional_u32(const hob_gguf *g, const char *key, uint64_t max, uint32_t *ret,
                        hob_diag *diag)
{
    uint64_t v;
    int rc = hob_gguf_u64(g, key, 1, max, &v, diag);
    if (rc == 0)
        *ret = (uint32_t)v;
    return rc == HOB_ENOENT ? 0 : rc;
}

static int required_u32(const hob_gguf *g, const char *key, uint64_t max, uint32_t *ret,
                        hob_diag *diag)
{
    uint64_t v;
    int rc = hob_gguf_u64(g, key, 1, max, &v, diag);
    if (rc == HOB_ENOENT)
        return hob_fail(diag, HOB_EFORMAT, "%s: missing, and the architecture needs it", key);
    if (rc == 0)
        *ret = (uint32_t)v;
    return rc;
}

static int optional_f32(const hob_gguf *g, const char *key, float min, float max, float *ret,
                        hob_diag *diag)
{
    int rc = hob_gguf_f32(g, key, min, max, ret, diag);
    return rc == HOB_ENOENT ? 0 : rc;
}

/* A scaling or mixture that this graph would silently get wrong is refused here. */
static int refuse_variants(const hob_gguf *g, hob_diag *diag)
{
    hob_string scaling;
    uint64_t experts;
    int rc = hob_gguf_string(g, "llama.rope.scaling.type", &scaling, diag);
    if (rc == 0 && !(scaling.len == 4 && __builtin_memcmp(scaling.data, "none", 4) == 0))
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "llama.rope.scaling.type: \"%.*s\", only \"none\" is known",
                        (int)(scaling.len < 32 ? scaling.len : 32), scaling.data);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    rc = hob_gguf_u64(g, "llama.expert_count", 0, UINT64_MAX, &experts, diag);
    if (rc == 0 && experts > 0)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "llama.expert_count: %llu, mixtures of experts are not known",
                        (unsigned long long)experts);
    return rc < 0 && rc != HOB_ENOENT ? rc : 0;
}

static int read_hyper(const hob_gguf *g, hob_hyper *ret, hob_diag *diag)
{
    hob_hyper h = {.freq_base = 10000, .freq_scale = 1};
    int rc;

    if ((rc = refuse_variants(g, diag)) < 0 ||
        (rc = required_u32(g, "llama.block_count", HOB_LAYERS_MAX, &h.layers, diag)) < 0 ||
        (rc = required_u32(g, "llama.embedding_length", 65536, &h.width, diag)) < 0 ||
        (rc = required_u32(g, "llama.feed_forward_length", 1 << 20, &h.ff, diag)) < 0 ||
        (rc = required_u32(g, "llama.attention.head_count", 1024, &h.heads, diag)) < 0 ||
        (rc = required_u32(g, "llama.context_length", 1 << 30, &h.context_train, diag)) < 0)
        return rc;
    h.kv_heads = h.heads;
    h.head_dim = h.width / h.heads;
    if ((rc = optional_u32(g, "llama.attention.head_count_kv", 1024, &h.kv_heads, diag)) < 0 ||
        (rc = optional_u32(g, "llama.attention.key_length", 1024, &h.head_dim, diag)) < 0)
        return rc;
    h.n_rot = h.head_dim;
    uint32_t value_length = h.head_dim;
    if ((rc = optional_u32(g, "llama.attention.value_length", 1024, &value_length, diag)) < 0 ||
        (rc = optional_u32(g, "llama.rope.dimension_count", 1024, &h.n_rot, diag)) < 0 ||
        (rc = optional_f32(g, "llama.rope.freq_base", 1, 1e12f, &h.freq_base, diag)) < 0)
        return rc;
    rc = hob_gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", 0, 1, &h.norm_eps, diag);
    if (rc < 0)
        return rc == HOB_ENOENT
                   ? hob_fail(diag, HOB_EFORMAT, "llama.attention.layer_norm_rms_epsilon: missing")
                   : rc;
    if (value_length != h.head_dim)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "llama.attention.value_length: %u, only key_length (%u) is known",
                        value_length, h.head_dim);
    if (h.heads % h.kv_heads)
        return hob_fail(diag, HOB_EFORMAT,
                        "llama.attention.head_count: %u is no multiple of head_count_kv %u",
                        h.heads, h.kv_heads);
    if (h.n_rot > h.head_dim || h.n_rot % 2)
        return hob_fail(diag, HOB_EFORMAT,
                        "llama.rope.dimension_count: %u, must be even and at most %u", h.n_rot,
                        h.head_dim);
    if (h.head_dim == 0 || h.head_dim % 32)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "llama: head dimension %u, must be a multiple of 32", h.head_dim);
    *ret = h;
    return 0;
}

static int layer_graph(hob_context *c, uint32_t index)
{
    const hob_hyper *h = &c->model->hyper;
    const hob_layer *l = &c->model->weights.layers[index];
    hob_device *dev = c->model->dev;
    int rc;

    const hob_linear qkv = {.x = c->x,
                            .norm = l->attn_norm,
                            .norm_eps = h->norm_eps,
                            .count = 3,
                            .w = {l->q, l->k, l->v},
                            .bias = {l->q_bias, l->k_bias, l->v_bias},
                            .y = {c->q, c->k, c->v}};
    if ((rc = dev->ops->linear(dev, &qkv)) < 0)
        return rc;
    const hob_rope_kv rope = {.q = c->q,
                              .k = c->k,
                              .v = c->v,
                              .layer = index,
                              .heads = h->heads,
                              .kv_heads = h->kv_heads,
                              .head_dim = h->head_dim,
                              .n_rot = h->n_rot,
                              .freq_base = h->freq_base,
                              .freq_scale = h->freq_scale,
                              .factors = c->model->weights.rope_factors};
    if ((rc = dev->ops->rope_kv(dev, &rope)) < 0)
        return rc;
    const hob_attention attention = {.q = c->q,
                                     .out = c->attended,
                                     .layer = index,
                                     .heads = h->heads,
                                     .kv_heads = h->kv_heads,
                                     .head_dim = h->head_dim,
                                     .scale = 1.0f / __builtin_sqrtf((float)h->head_dim)};
    if ((rc = dev->ops->attention(dev, &attention)) < 0)
        return rc;
    const hob_linear out = {
        .x = c->attended, .count = 1, .w = {l->attn_out}, .y = {c->x}, .add = true};
    if ((rc = dev->ops->linear(dev, &out)) < 0)
        return rc;
    const hob_linear up = {.x = c->x,
                           .norm = l->ffn_norm,
                           .norm_eps = h->norm_eps,
                           .count = 2,
                           .w = {l->gate, l->up},
                           .y = {c->gate, c->up}};
    if ((rc = dev->ops->linear(dev, &up)) < 0)
        return rc;
    if ((rc = dev->ops->gate(dev, HOB_GATE_SILU, c->gate, c->up, c->gate)) < 0)
        return rc;
    const hob_linear down = {.x = c->gate, .count = 1, .w = {l->down}, .y = {c->x}, .add = true};
    return dev->ops->linear(dev, &down);
}

static int graph(hob_context *c, const hob_batch *batch)
{
    const hob_weights *w = &c->model->weights;
    hob_device *dev = c->model->dev;
    int rc = dev->ops->embed(dev, w->embedding, 1.0f, c->x);

    for (uint32_t i = 0; rc >= 0 && i < c->model->hyper.layers; i++)
        rc = layer_graph(c, i);
    if (rc < 0 || batch->logit_count == 0)
        return rc;
    const hob_linear logits = {.x = c->x,
                               .norm = w->output_norm,
                               .norm_eps = c->model->hyper.norm_eps,
                               .count = 1,
                               .w = {w->output},
                               .y = {c->logits},
                               .logit_rows = true};
    return dev->ops->linear(dev, &logits);
}

const hob_arch hob_arch_llama = {
    .name = "llama",
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = graph,
};
