/* SPDX-License-Identifier: Apache-2.0
 *
 * See embedding.h. */
#include "models/embedding.h"

#include <stdlib.h>
#include <string.h>

#include "models/arch.h"

struct hob_embedder {
    hob_context *context;
    uint32_t rows;    /* of a step */
    uint32_t *tokens; /* [rows] */
    hob_span *spans;  /* [rows] */
};

int hob_embedder_new(hob_model *m, uint32_t step_rows, hob_embedder **ret, hob_diag *diag)
{
    const hob_model_info *info = hob_model_get_info(m);
    int rc;

    if (info->pooling != HOB_POOLING_NONE && step_rows < info->context_train)
        return hob_fail(diag, HOB_EINVAL, "embeddings: %u tokens a step, texts may have %u",
                        step_rows, info->context_train);
    hob_embedder *e = calloc(1, sizeof *e);
    if (!e)
        return hob_fail(diag, HOB_ENOMEM, "embeddings: no memory");
    e->rows = step_rows;
    e->tokens = calloc(step_rows, sizeof *e->tokens);
    e->spans = calloc(step_rows, sizeof *e->spans);
    if (!e->tokens || !e->spans)
        rc = hob_fail(diag, HOB_ENOMEM, "embeddings: no memory for %u tokens", step_rows);
    else
        rc = hob_context_new_encoder(m, step_rows, &e->context, diag);
    if (rc < 0) {
        hob_embedder_free(e);
        return rc;
    }
    *ret = e;
    return 0;
}

void hob_embedder_free(hob_embedder *e)
{
    if (!e)
        return;
    hob_context_free(e->context);
    free(e->tokens);
    free(e->spans);
    free(e);
}

int hob_embedder_step(hob_embedder *e, const hob_embed_text *texts, uint32_t count, float *ret)
{
    const hob_model *m = e->context->model;
    uint32_t rows = 0;

    if (count == 0 || count > e->rows)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        const hob_embed_text *t = &texts[i];
        if (t->count == 0 || t->count > m->hyper.context_train || t->count > e->rows - rows)
            return HOB_EINVAL;
        memcpy(e->tokens + rows, t->ids, t->count * sizeof *e->tokens);
        e->spans[i] = (hob_span){.first_row = rows, .row_count = t->count};
        rows += t->count;
    }
    const hob_batch batch = {
        .row_count = rows, .tokens = e->tokens, .span_count = count, .spans = e->spans};
    const int rc = hob_context_step(e->context, &batch);
    return rc < 0 ? rc : m->dev->ops->read_rows(m->dev, e->context->pooled, 0, count, ret);
}

int hob_embedder_run(hob_embedder *e, const hob_embed_text *texts, uint32_t count, float *ret)
{
    const size_t width = e->context->model->hyper.width;

    for (uint32_t first = 0, end; first < count; first = end) {
        uint64_t rows = texts[first].count;
        for (end = first + 1; end < count && rows + texts[end].count <= e->rows; end++)
            rows += texts[end].count;
        const int rc = hob_embedder_step(e, texts + first, end - first, ret + first * width);
        if (rc < 0)
            return rc;
    }
    return 0;
}
