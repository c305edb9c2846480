/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph of a pre-norm decoder (Touvron et al. 2023): RMSNorm, grouped-query attention (Ainslie et al. 2023) with
 * rotary positions, gated feed-forward or a mixture of those. What an architecture adds (biases, QK norm, norms after a branch, local layers,
 * layers without rotation, scales) is there when its weights or hyper-parameters are. */
#include "models/arch.h"

/* x = x + f(x): straight onto the stream, or normed first. */
static int add_branch(hob_context *c, const hob_tensor *from, const hob_weight *w,
                      const hob_weight *post_norm, float eps)
{
    hob_device *dev = c->model->dev;
    const hob_linear op = {
        .x = from, .count = 1, .w = {w}, .y = {post_norm ? c->branch : c->x}, .add = !post_norm};
    int rc = dev->ops->linear(dev, &op);
    return rc < 0 || !post_norm ? rc : dev->ops->norm_add(dev, c->branch, post_norm, eps, c->x);
}

static int feed_forward(hob_context *c, const hob_layer *l, float eps)
{
    const hob_hyper *h = &c->model->hyper;
    hob_device *dev = c->model->dev;
    int rc;

    if (h->experts) {
        const hob_experts op = {.x = c->x,
                                .norm = l->ffn_norm,
                                .norm_eps = eps,
                                .count = h->experts,
                                .used = h->experts_used,
                                .router = l->router,
                                .gate = l->gate,
                                .up = l->up,
                                .down = l->down,
                                .kind = h->gate,
                                .scores = c->scores,
                                .gated = c->gate,
                                .up_out = c->up,
                                .down_out = c->down};
        return dev->ops->experts(dev, &op);
    }
    const hob_linear up = {.x = c->x,
                           .norm = l->ffn_norm,
                           .norm_eps = eps,
                           .count = 2,
                           .w = {l->gate, l->up},
                           .y = {c->gate, c->up}};
    if ((rc = dev->ops->linear(dev, &up)) < 0 ||
        (rc = dev->ops->gate(dev, h->gate, c->gate, c->up, c->gate)) < 0)
        return rc;
    return add_branch(c, c->gate, l->down, l->ffn_post_norm, h->norm_eps);
}

static int layer_graph(hob_context *c, const hob_batch *batch, uint32_t index)
{
    const hob_hyper *h = &c->model->hyper;
    const hob_weights *w = &c->model->weights;
    const hob_layer *l = &w->layers[index];
    const bool local = h->window && (!h->global_every || (index + 1) % h->global_every),
               own_base = local && h->local_freq_base > 0;
    /* Scaling what branches add by r is the same as running the stream at 1 / r, where RMSNorm sees epsilon / r^2. */
    const float eps = h->norm_eps / (h->residual_scale * h->residual_scale);
    hob_device *dev = c->model->dev;
    int rc;

    const hob_linear qkv = {.x = c->x,
                            .norm = l->attn_norm,
                            .norm_eps = eps,
                            .count = 3,
                            .w = {l->q, l->k, l->v},
                            .bias = {l->q_bias, l->k_bias, l->v_bias},
                            .y = {c->q, c->k, c->v}};
    if ((rc = dev->ops->linear(dev, &qkv)) < 0)
        return rc;
    const bool rotated = !h->no_rope_every || (index + 1) % h->no_rope_every;
    const hob_rope_kv rope = {.q = c->q,
                              .k = c->k,
                              .v = c->v,
                              .layer = index,
                              .heads = h->heads,
                              .kv_heads = h->kv_heads,
                              .head_dim = h->head_dim,
                              .n_rot = rotated ? h->n_rot : 0,
                              .neox = h->neox,
                              .freq_base = own_base ? h->local_freq_base : h->freq_base,
                              .freq_scale = own_base ? 1 : h->freq_scale,
                              .magnitude = h->magnitude,
                              .factors = rotated ? c->rope_factors : NULL,
                              .q_norm = l->q_norm,
                              .k_norm = l->k_norm,
                              .norm_eps = h->norm_eps};
    /* Of the last layer only the logit rows go on once its keys and values are cached. */
    const bool last = index + 1 == h->layers,
               narrows = last && batch->logit_count < batch->row_count;
    if ((rc = dev->ops->rope_kv(dev, &rope)) < 0 || (last && batch->logit_count == 0))
        return rc;
    const hob_attention attention = {.q = c->q,
                                     .out = c->attended,
                                     .layer = index,
                                     .heads = h->heads,
                                     .kv_heads = h->kv_heads,
                                     .head_dim = h->head_dim,
                                     .scale = h->attention_scale,
                                     .window = local ? h->window : 0};
    if ((rc = dev->ops->attention(dev, &attention)) < 0 ||
        (narrows && (rc = dev->ops->narrow(dev, (hob_tensor *[]){c->x, c->attended}, 2)) < 0) ||
        (rc = add_branch(c, c->attended, l->attn_out, l->attn_post_norm, h->norm_eps)) < 0)
        return rc;
    return feed_forward(c, l, eps);
}

int hob_decoder_graph(hob_context *c, const hob_batch *batch)
{
    const hob_weights *w = &c->model->weights;
    const hob_hyper *h = &c->model->hyper;
    hob_device *dev = c->model->dev;
    int rc = dev->ops->embed(dev, w->embedding, h->embedding_scale / h->residual_scale, c->x);

    for (uint32_t i = 0; rc >= 0 && i < h->layers; i++)
        rc = layer_graph(c, batch, i);
    if (rc < 0 || batch->logit_count == 0)
        return rc;
    const hob_linear logits = {.x = c->x,
                               .norm = w->output_norm,
                               .norm_eps = h->norm_eps / (h->residual_scale * h->residual_scale),
                               .count = 1,
                               .w = {w->output},
                               .y = {c->logits},
                               .logit_rows = true};
    return dev->ops->linear(dev, &logits);
}
