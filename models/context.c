/* SPDX-License-Identifier: Apache-2.0
 *
 * The working memory of one model: activations for a step's rows and the KV arena, and the step itself. See model.h. */
#include "models/arch.h"

#include <stdlib.h>
#include <string.h>

/* One of a context's tensors; cols 0: this model has none. */
typedef struct activation {
    size_t slot; /* offset in hob_context */
    uint32_t rows_each, cols;
} activation;

enum { ACTIVATIONS = 11 };

static void list_activations(const hob_hyper *h, activation ret[ACTIVATIONS])
{
    const uint32_t slots = h->experts ? h->experts_used : 1, q = h->heads * h->head_dim,
                   kv = h->kv_heads * h->head_dim;
    const bool encoder = h->pooling != HOB_POOLING_NONE;
    const activation all[ACTIVATIONS] = {
        {offsetof(hob_context, x), 1, h->width},
        {offsetof(hob_context, branch), 1, h->post_norms ? h->width : 0},
        {offsetof(hob_context, q), 1, q},
        {offsetof(hob_context, attended), 1, q},
        {offsetof(hob_context, k), 1, kv},
        {offsetof(hob_context, v), 1, kv},
        {offsetof(hob_context, gate), slots, encoder ? 0 : h->ff},
        {offsetof(hob_context, up), slots, h->ff},
        {offsetof(hob_context, scores), 1, h->experts},
        {offsetof(hob_context, down), slots, h->experts ? h->width : 0},
        {offsetof(hob_context, pooled), 1, encoder ? h->width : 0},
    };
    memcpy(ret, all, sizeof all);
}

uint64_t hob_hyper_row_bytes(const hob_hyper *h)
{
    activation all[ACTIVATIONS];
    uint64_t bytes = 0;
    list_activations(h, all);
    for (size_t i = 0; i < ACTIVATIONS; i++)
        bytes += (uint64_t)all[i].rows_each * all[i].cols * sizeof(float);
    return bytes;
}

static hob_tensor **slot_of(hob_context *c, const activation *a)
{
    return (hob_tensor **)((char *)c + a->slot);
}

static int new_context(hob_model *m, const hob_context_options *o, hob_context **ret,
                       hob_diag *diag)
{
    const hob_hyper *h = &m->hyper;
    const hob_device_ops *ops = m->dev->ops;
    const bool encoder = m->arch->encoder;
    hob_context *c = calloc(1, sizeof *c);
    if (!c)
        return hob_fail(diag, HOB_ENOMEM, "context: no memory");
    c->model = m;
    c->options = *o;
    c->rope_factors = m->weights.rope_factors;
    if (h->original_context) /* LongRoPE: chosen once, so that a sequence is rotated in one way */
        c->rope_factors = (uint64_t)o->kv_blocks * HOB_KV_BLOCK_TOKENS > h->original_context
                              ? m->weights.rope_long
                              : m->weights.rope_short;
    activation all[ACTIVATIONS];
    int rc = encoder ? 0 : ops->tensor_new(m->dev, o->max_logit_rows, h->vocab, &c->logits, diag);
    list_activations(h, all);
    for (size_t i = 0; rc >= 0 && i < ACTIVATIONS; i++)
        if (all[i].cols)
            rc = ops->tensor_new(m->dev, o->max_rows * all[i].rows_each, all[i].cols,
                                 slot_of(c, &all[i]), diag);
    if (rc < 0)
        goto fail;
    const hob_kv_shape shape = {.layers = h->layers,
                                .kv_heads = h->kv_heads,
                                .head_dim = h->head_dim,
                                .block_count = o->kv_blocks,
                                .type = o->kv_type};
    if (!encoder && (rc = ops->kv_new(m->dev, &shape, &c->kv, diag)) < 0)
        goto fail;
    *ret = c;
    return 0;

fail:
    hob_context_free(c);
    return rc;
}

int hob_context_new(hob_model *m, const hob_context_options *o, hob_context **ret, hob_diag *diag)
{
    if (m->arch->encoder)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "model %s (%s) makes embeddings: it generates no text", m->info.name,
                        m->arch->name);
    return new_context(m, o, ret, diag);
}

int hob_context_new_encoder(hob_model *m, uint32_t max_rows, hob_context **ret, hob_diag *diag)
{
    if (!m->arch->encoder)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "model %s (%s) generates text: it makes no embeddings", m->info.name,
                        m->arch->name);
    return new_context(m, &(hob_context_options){.max_rows = max_rows}, ret, diag);
}

void hob_context_free(hob_context *c)
{
    if (!c)
        return;
    hob_device *dev = c->model->dev;
    activation all[ACTIVATIONS];
    list_activations(&c->model->hyper, all);
    for (size_t i = 0; i < ACTIVATIONS; i++)
        dev->ops->tensor_free(dev, *slot_of(c, &all[i]));
    dev->ops->tensor_free(dev, c->logits);
    dev->ops->kv_free(dev, c->kv);
    free(c);
}

int hob_context_copy_block(hob_context *c, uint32_t from, uint32_t to)
{
    return c->model->dev->ops->kv_copy_block(c->model->dev, c->kv, from, to);
}

int hob_context_touch(hob_context *c)
{
    int rc = 0;
    for (uint32_t i = 1; rc >= 0 && i < c->options.kv_blocks; i++)
        rc = hob_context_copy_block(c, 0, i);
    return rc;
}

int hob_context_step(hob_context *c, const hob_batch *batch)
{
    hob_device *dev = c->model->dev;
    if (batch->row_count == 0 || batch->row_count > c->options.max_rows ||
        batch->logit_count > c->options.max_logit_rows)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->row_count; i++)
        if (batch->tokens[i] >= c->model->hyper.vocab)
            return HOB_EINVAL;
    int rc = dev->ops->step_begin(dev, c->kv, batch);
    if (rc < 0)
        return rc;
    rc = c->model->arch->graph(c, batch);
    int end = dev->ops->step_end(dev);
    return rc < 0 ? rc : end;
}

int hob_context_candidates(hob_context *c, const hob_candidates_in *in, uint32_t count,
                           hob_candidates *ret)
{
    return c->model->dev->ops->candidates(c->model->dev, c->logits, in, count, ret);
}

int hob_context_logits(hob_context *c, uint32_t row, float *ret)
{
    return c->model->dev->ops->read_rows(c->model->dev, c->logits, row, 1, ret);
}
