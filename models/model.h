/* SPDX-License-Identifier: Apache-2.0
 *
 * A model is a GGUF file whose hyper-parameters were checked and whose weights live on one device; a context is the
 * working memory to run steps of it: activations for a bounded number of rows, and the KV arena.
 *
 * An architecture is one file (llama.c, gemma3.c, …): its hyper-parameter keys with bounds, the shape of every tensor, and
 * its graph over the operations of hal/hal.h.
 * Thread: open from any one thread; steps from one thread (`step`). The tokenizer and template may be used by others. */
#ifndef HOB_MODELS_MODEL_H
#define HOB_MODELS_MODEL_H

#include "models/kv.h"
#include "models/template.h"
#include "models/tokenizer.h"

typedef struct hob_model hob_model;
typedef struct hob_context hob_context;

/* What a text's vector is made of, with GGUF's numbers; NONE: the model generates text. */
typedef enum hob_pooling { HOB_POOLING_NONE, HOB_POOLING_MEAN, HOB_POOLING_CLS } hob_pooling;

typedef struct hob_model_info {
    char name[64]; /* general.name, or the file's name */
    char architecture[32];
    uint32_t layers, width, heads, kv_heads, head_dim, vocab;
    uint32_t ff;            /* width of a feed-forward, or of one expert's */
    uint32_t context_train; /* the longest context it was trained for */
    bool has_template;
    uint32_t window; /* of the layers that see a sliding window, 0: none do */
    uint32_t experts,
        experts_used;    /* of each layer, and of those the ones that a row takes; 0: none */
    hob_pooling pooling; /* not NONE: it embeds texts (embedding.h) in vectors of `width` */
    uint64_t row_bytes;  /* working memory for each row of a step, logits not included */
    uint64_t parameters, file_bytes;
    uint64_t weight_bytes; /* of a loaded model: on the device; of an inspected file: in the file */
} hob_model_info;

/* Whether the file is a model that hob can run: architecture, hyper-parameters, every tensor's shape and type, tokenizer,
 * chat template. Loads no weights. */
HOB_MUST_CHECK int hob_model_inspect(const hob_gguf *g, const char *path, hob_model_info *ret,
                                     hob_diag *diag);
/* Bytes that one token takes in the KV cache; 0: it has none, since it embeds. */
uint64_t hob_model_kv_token_bytes(const hob_model_info *info, hob_type kv_type);

/* dev must outlive the model. */
HOB_MUST_CHECK int hob_model_open(const char *path, hob_device *dev, hob_model **ret,
                                  hob_diag *diag);
/* The same, and the file's SHA-256 has to be the given one: 32 bytes; NULL: any. It is computed by another thread while the
 * weights are prepared. HOB_EDIGEST with what was got and wanted. */
HOB_MUST_CHECK int hob_model_open_checked(const char *path, const uint8_t *sha256, hob_device *dev,
                                          hob_model **ret, hob_diag *diag);
void hob_model_close(hob_model *m);
const hob_model_info *hob_model_get_info(const hob_model *m);
const hob_device *hob_model_device(const hob_model *m);
const hob_tokenizer *hob_model_tokenizer(const hob_model *m);
const hob_template *hob_model_template(
    const hob_model *m); /* the file's, or the architecture's; NULL when neither */

typedef struct hob_context_options {
    uint32_t max_rows;       /* of one step */
    uint32_t max_logit_rows; /* of one step */
    uint32_t kv_blocks;
    hob_type kv_type; /* HOB_TYPE_F16 or HOB_TYPE_Q8_0 */
} hob_context_options;

/* HOB_ENOMEM names what did not fit. HOB_EUNSUPPORTED: the model generates no text. */
HOB_MUST_CHECK int hob_context_new(hob_model *m, const hob_context_options *o, hob_context **ret,
                                   hob_diag *diag);
void hob_context_free(hob_context *c);

/* Copies a block of the KV cache. HOB_EDEVICE. */
HOB_MUST_CHECK int hob_context_copy_block(hob_context *c, uint32_t from, uint32_t to);
/* Writes every block of the KV cache, so that its memory is there from now on. HOB_EDEVICE. */
HOB_MUST_CHECK int hob_context_touch(hob_context *c);
/* One forward pass over the batch; on return the logits of its logit_rows may be looked at. */
HOB_MUST_CHECK int hob_context_step(hob_context *c, const hob_batch *batch);
HOB_MUST_CHECK int hob_context_candidates(hob_context *c, const hob_candidates_in *in,
                                          uint32_t count, hob_candidates *ret);
/* The whole row of logits: ret [vocab]. row counts within the step's logit_rows. */
HOB_MUST_CHECK int hob_context_logits(hob_context *c, uint32_t row, float *ret);

#endif
