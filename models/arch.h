/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to models/: what an architecture file (llama.c) provides and what a loaded model and its context look like
 * inside. An architecture is its hyper-parameters with bounds, a table of tensors whose shapes follow from them, and
 * a graph over the device's operations. */
#ifndef HOB_MODELS_ARCH_H
#define HOB_MODELS_ARCH_H

#include "models/model.h"

enum { HOB_LAYERS_MAX = 512 };

typedef struct hob_hyper {
    uint32_t layers, width, heads, kv_heads, head_dim, ff, vocab, context_train, n_rot;
    float norm_eps, freq_base, freq_scale;
} hob_hyper;

typedef struct hob_layer {
    hob_weight *attn_norm, *q, *k, *v, *attn_out, *q_bias, *k_bias, *v_bias;
    hob_weight *ffn_norm, *gate, *up, *down;
} hob_layer;

typedef struct hob_weights {
    hob_weight *embedding, *output_norm, *output; /* output is embedding itself when tied */
    hob_weight *rope_factors;
    hob_layer *layers; /* [hyper.layers] */
} hob_weights;

/* A dimension of a tensor, as a function of the hyper-parameters. */
typedef enum hob_dim {
    HOB_DIM_1,
    HOB_DIM_WIDTH,
    HOB_DIM_Q,
    HOB_DIM_KV,
    HOB_DIM_FF,
    HOB_DIM_VOCAB,
    HOB_DIM_HALF_ROT
} hob_dim;

typedef struct hob_tensor_spec {
    const char *name;   /* with %u for the layer when per_layer */
    size_t slot;        /* offset of the hob_weight * in hob_layer (per_layer) or hob_weights */
    hob_dim rows, cols; /* rows is HOB_DIM_1 for a vector, which must be F32 */
    bool per_layer, optional;
} hob_tensor_spec;

typedef struct hob_arch {
    const char *name; /* general.architecture */
    int (*read_hyper)(const hob_gguf *g, hob_hyper *ret, hob_diag *diag);
    const hob_tensor_spec *tensors;
    size_t tensor_count;
    int (*graph)(hob_context *c, const hob_batch *batch);
} hob_arch;

extern const hob_arch hob_arch_llama;

struct hob_model {
    hob_device *dev;
    const hob_arch *arch;
    hob_hyper hyper;
    hob_weights weights;
    hob_tokenizer *tokenizer;
    hob_template *chat_template;
    hob_model_info info;
};

struct hob_context {
    hob_model *model;
    hob_context_options options;
    hob_kv *kv;
    hob_tensor *x;            /* [max_rows, width] the residual stream */
    hob_tensor *q, *attended; /* [max_rows, heads * head_dim] */
    hob_tensor *k, *v;        /* [max_rows, kv_heads * head_dim] */
    hob_tensor *gate, *up;    /* [max_rows, ff] */
    hob_tensor *logits;       /* [max_logit_rows, vocab] */
};

#endif
