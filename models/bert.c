/* SPDX-License-Identifier: Apache-2.0
 *
 * BERT (Devlin et al. 2018), as sentence embedders use it: an encoder whose norms come after each branch is added, with learnt
 * positions, biases everywhere, GELU, and attention in both directions. All tokens are of the first type; its row is added to
 * every position's once, when the model is loaded. */
#include "models/arch.h"

#include <stdlib.h>

static const hob_tensor_spec tensors[] = {
    HOB_MODEL("token_embd.weight", embedding, VOCAB, WIDTH, false),
    HOB_MODEL_BY_HAND("token_types.weight", TOKEN_TYPES, WIDTH),
    HOB_MODEL_BY_HAND("position_embd.weight", CONTEXT, WIDTH),
    HOB_MODEL("token_embd_norm.weight", embedding_norm, 1, WIDTH, false),
    HOB_MODEL("token_embd_norm.bias", embedding_bias, 1, WIDTH, false),
    HOB_TENSORS_QKV,
    HOB_TENSORS_QKV_BIAS(false),
    HOB_LAYER("blk.%u.attn_output.weight", attn_out, WIDTH, Q, false),
    HOB_LAYER("blk.%u.attn_output.bias", attn_out_bias, 1, WIDTH, false),
    HOB_LAYER("blk.%u.attn_output_norm.weight", attn_post_norm, 1, WIDTH, false),
    HOB_LAYER("blk.%u.attn_output_norm.bias", attn_post_bias, 1, WIDTH, false),
    HOB_LAYER("blk.%u.ffn_up.weight", up, FF, WIDTH, false),
    HOB_LAYER("blk.%u.ffn_up.bias", up_bias, 1, FF, false),
    HOB_LAYER("blk.%u.ffn_down.weight", down, WIDTH, FF, false),
    HOB_LAYER("blk.%u.ffn_down.bias", down_bias, 1, WIDTH, false),
    HOB_LAYER("blk.%u.layer_output_norm.weight", ffn_post_norm, 1, WIDTH, false),
    HOB_LAYER("blk.%u.layer_output_norm.bias", ffn_post_bias, 1, WIDTH, false),
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    bool causal = false;
    uint64_t types = 2;
    uint32_t pooling = HOB_POOLING_NONE;
    int rc = hob_gguf_bool(g, "bert.attention.causal", &causal, diag);

    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    if (causal)
        return hob_fail(diag, HOB_EUNSUPPORTED, "bert.attention.causal: true, only false is known");
    if ((rc = hob_gguf_u64(g, "tokenizer.ggml.token_type_count", 1, 1024, &types, diag)) < 0 &&
        rc != HOB_ENOENT)
        return rc;
    if ((rc = hob_hyper_u32(g, &hob_arch_bert, "pooling_type", 0, UINT32_MAX, &pooling, diag)) < 0)
        return rc;
    if (pooling != HOB_POOLING_MEAN && pooling != HOB_POOLING_CLS)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "bert.pooling_type: %u%s, known are 1 (mean) and 2 (CLS)", pooling,
                        pooling ? "" : " or missing");
    h->token_types = (uint32_t)types;
    h->pooling = (hob_pooling)pooling;
    return 0;
}

/* The table of positions, with the first token type's row added to each. */
static int load(hob_model *m, const hob_gguf *g, hob_diag *diag)
{
    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, "position_embd.weight"),
                          *types = hob_gguf_find_tensor(g, "token_types.weight");
    const size_t cols = m->hyper.width, rows = m->hyper.context_train;
    size_t count, bytes;
    int rc;

    if (!hob_mul_size(rows + 1, cols, &count) || !hob_mul_size(count, sizeof(float), &bytes))
        return hob_fail(diag, HOB_ENOMEM, "position_embd.weight: %zu rows are too many", rows);
    float *table = malloc(bytes);
    if (!table)
        return hob_fail(diag, HOB_ENOMEM, "position_embd.weight: no memory for %zu bytes", bytes);
    float *type = table + rows * cols;
    hob_type_dequantize(hob_type_find(t->type), t->data, table, rows * cols);
    hob_type_dequantize(hob_type_find(types->type), types->data, type, cols);
    for (size_t i = 0; i < rows * cols; i++)
        table[i] += type[i % cols];
    rc = m->dev->ops->weight_upload(m->dev, HOB_TYPE_F32, (uint32_t)rows, (uint32_t)cols, table,
                                    bytes - cols * sizeof *table, &m->weights.positions, diag);
    free(table);
    hob_gguf_drop(g, t);
    hob_gguf_drop(g, types);
    return rc;
}

static int layer_graph(hob_context *c, const hob_layer *l)
{
    const hob_hyper *h = &c->model->hyper;
    hob_device *dev = c->model->dev;
    const hob_device_ops *ops = dev->ops;
    const hob_linear qkv = {.x = c->x,
                            .count = 3,
                            .w = {l->q, l->k, l->v},
                            .bias = {l->q_bias, l->k_bias, l->v_bias},
                            .y = {c->q, c->k, c->v}};
    const hob_attention attention = {.q = c->q,
                                     .k = c->k,
                                     .v = c->v,
                                     .out = c->attended,
                                     .heads = h->heads,
                                     .kv_heads = h->kv_heads,
                                     .head_dim = h->head_dim,
                                     .scale = h->attention_scale};
    const hob_linear attended = {.x = c->attended,
                                 .count = 1,
                                 .w = {l->attn_out},
                                 .bias = {l->attn_out_bias},
                                 .y = {c->x},
                                 .add = true};
    const hob_linear up = {.x = c->x, .count = 1, .w = {l->up}, .bias = {l->up_bias}, .y = {c->up}};
    const hob_linear down = {
        .x = c->up, .count = 1, .w = {l->down}, .bias = {l->down_bias}, .y = {c->x}, .add = true};
    int rc;

    if ((rc = ops->linear(dev, &qkv)) < 0 || (rc = ops->attention(dev, &attention)) < 0 ||
        (rc = ops->linear(dev, &attended)) < 0 ||
        (rc = ops->layer_norm(dev, c->x, l->attn_post_norm, l->attn_post_bias, h->norm_eps)) < 0 ||
        (rc = ops->linear(dev, &up)) < 0 ||
        (rc = ops->gate(dev, HOB_GATE_GELU, c->up, NULL, c->up)) < 0 ||
        (rc = ops->linear(dev, &down)) < 0)
        return rc;
    return ops->layer_norm(dev, c->x, l->ffn_post_norm, l->ffn_post_bias, h->norm_eps);
}

static int graph(hob_context *c, const hob_batch *batch)
{
    const hob_hyper *h = &c->model->hyper;
    const hob_weights *w = &c->model->weights;
    hob_device *dev = c->model->dev;
    int rc;

    (void)batch;
    if ((rc = dev->ops->embed(dev, w->embedding, 1, c->x)) < 0 ||
        (rc = dev->ops->add_positions(dev, w->positions, c->x)) < 0)
        return rc;
    rc = dev->ops->layer_norm(dev, c->x, w->embedding_norm, w->embedding_bias, h->norm_eps);
    for (uint32_t i = 0; rc >= 0 && i < h->layers; i++)
        rc = layer_graph(c, &w->layers[i]);
    if (rc < 0)
        return rc;
    return dev->ops->pool(dev, h->pooling == HOB_POOLING_CLS ? HOB_POOL_FIRST : HOB_POOL_MEAN, c->x,
                          c->pooled);
}

const hob_arch hob_arch_bert = {
    .name = "bert",
    .dense = true,
    .encoder = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .load = load,
    .graph = graph,
};
