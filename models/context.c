/* SPDX-License-Identifier: Apache-2.0
 *
 * The working memory of one model: activations for a step's rows and the KV arena, and the step itself. See model.h. */
#include "models/arch.h"

#include <stdlib.h>

int hob_context_new(hob_model *m, const hob_context_options *o, hob_context **ret, hob_diag *diag)
{
    const hob_hyper *h = &m->hyper;
    const hob_device_ops *ops = m->dev->ops;
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
    const struct {
        hob_tensor **slot;
        uint32_t rows, cols;
    } wanted[] = {
        {&c->x, o->max_rows, h->width},
        {&c->branch, o->max_rows, h->width},
        {&c->q, o->max_rows, h->heads * h->head_dim},
        {&c->attended, o->max_rows, h->heads * h->head_dim},
        {&c->k, o->max_rows, h->kv_heads * h->head_dim},
        {&c->v, o->max_rows, h->kv_heads * h->head_dim},
        {&c->gate, o->max_rows, h->ff},
        {&c->up, o->max_rows, h->ff},
        {&c->logits, o->max_logit_rows, h->vocab},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if ((wanted[i].slot != &c->branch || m->weights.layers[0].attn_post_norm) &&
            (rc = ops->tensor_new(m->dev, wanted[i].rows, wanted[i].cols, wanted[i].slot, diag)) <
                0)
            goto fail;
    const hob_kv_shape shape = {.layers = h->layers,
                                .kv_heads = h->kv_heads,
                                .head_dim = h->head_dim,
                                .block_count = o->kv_blocks,
                                .type = o->kv_type};
    if ((rc = ops->kv_new(m->dev, &shape, &c->kv, diag)) < 0)
        goto fail;
    *ret = c;
    return 0;

fail:
    hob_context_free(c);
    return rc;
}

void hob_context_free(hob_context *c)
{
    if (!c)
        return;
    hob_device *dev = c->model->dev;
    hob_tensor *const all[] = {c->x, c->branch, c->q,  c->attended, c->k,
                               c->v, c->gate,   c->up, c->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->ops->tensor_free(dev, all[i]);
    dev->ops->kv_free(dev, c->kv);
    free(c);
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
