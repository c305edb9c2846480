/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors of texts, by a model that is an encoder (hob_model_info.pooling): the working memory for steps of it, and the packing
 * of texts into steps. The texts of a step lie one behind another, without padding, and see nothing of each other: a text's
 * vector is the same bits alone and in any company (on CPU devices).
 * Thread: one at a time (`step`). */
#ifndef HOB_MODELS_EMBEDDING_H
#define HOB_MODELS_EMBEDDING_H

#include "models/model.h"

typedef struct hob_embedder hob_embedder;

typedef struct hob_embed_text {
    const uint32_t *ids; /* [count], [CLS] and [SEP] among them; borrowed */
    uint32_t count;      /* 1 .. context_train of the model */
} hob_embed_text;

/* m must outlive it. step_rows: tokens of one step at most, at least the model's context_train. HOB_EUNSUPPORTED: the model
 * generates text; HOB_EINVAL; HOB_ENOMEM names what did not fit. */
HOB_MUST_CHECK int hob_embedder_new(hob_model *m, uint32_t step_rows, hob_embedder **ret,
                                    hob_diag *diag);
void hob_embedder_free(hob_embedder *e);

/* One step. ret: [count][width], vectors of length 1. HOB_EINVAL: a text that is empty or longer than context_train, a token
 * id that is not in the vocabulary, or more tokens than a step has. HOB_EDEVICE. */
HOB_MUST_CHECK int hob_embedder_step(hob_embedder *e, const hob_embed_text *texts, uint32_t count,
                                     float *ret);
/* Any number of texts, in as many steps as they need. */
HOB_MUST_CHECK int hob_embedder_run(hob_embedder *e, const hob_embed_text *texts, uint32_t count,
                                    float *ret);

#endif
