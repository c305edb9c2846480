/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to models/: what an architecture file (llama.c, gemma3.c, …) provides and what a loaded model and its context
 * look like inside. An architecture is one file: its hyper-parameters with bounds, a table of tensors whose shapes
 * follow from them, and its graph over the device's operations. Those that generate are pre-norm decoders which
 * differ in details that hob_hyper names, so their graph is the one of decoder.c; bert.c's is an encoder. */
#ifndef HOB_MODELS_ARCH_H
#define HOB_MODELS_ARCH_H

#include "models/model.h"

enum { HOB_LAYERS_MAX = 512 };

typedef struct hob_hyper {
    uint32_t layers, width, heads, kv_heads, head_dim, ff, vocab, context_train;
    float norm_eps;
    hob_pooling pooling;  /* of an encoder */
    uint32_t token_types; /* of an encoder */
    hob_gate_kind gate;

    uint32_t n_rot;
    bool neox;
    float freq_base, freq_scale, magnitude; /* as in hob_rope_kv */
    uint32_t no_rope_every; /* layers every, 2 every, … counted from 1 are not rotated; 0: none */
    float
        *factors; /* [n_rot / 2] of YaRN, computed from the keys; NULL: none. Owned by the model */
    uint32_t
        original_context; /* LongRoPE: contexts up to this one use the short factors; 0: none */

    uint32_t window;       /* positions that a local layer sees; 0: all layers see all */
    uint32_t global_every; /* layers every, 2 every, … counted from 1 see all; 0: none of them */
    float local_freq_base; /* rotation of local layers, never scaled; 0: as the others */

    float embedding_scale, attention_scale; /* attention_scale 0: 1 / sqrt(head_dim) */
    float residual_scale;                   /* of what a branch adds to the stream */
    float logit_divisor;

    bool post_norms;                /* what a branch adds is normed first */
    uint32_t experts, experts_used; /* of each layer and row; experts 0: one dense feed-forward */
} hob_hyper;

typedef struct hob_layer {
    hob_weight *attn_norm, *q, *k, *v, *attn_out, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm;
    hob_weight *ffn_norm, *gate, *up, *down; /* of all experts, one after another */
    hob_weight *router;
    hob_weight *attn_post_norm,
        *ffn_post_norm; /* of a branch, before it is added; of an encoder, after */
    hob_weight *attn_out_bias, *attn_post_bias, *up_bias, *down_bias, *ffn_post_bias;
} hob_layer;

typedef struct hob_weights {
    hob_weight *embedding, *output_norm, *output; /* output is embedding itself when tied */
    hob_weight *rope_factors, *rope_long, *rope_short;
    hob_weight *positions, *embedding_norm, *embedding_bias; /* of an encoder */
    hob_layer *layers;                                       /* [hyper.layers] */
} hob_weights;

/* A dimension of a tensor, as a function of the hyper-parameters. */
typedef enum hob_dim {
    HOB_DIM_1,
    HOB_DIM_WIDTH,
    HOB_DIM_Q,
    HOB_DIM_KV,
    HOB_DIM_HEAD,
    HOB_DIM_FF,
    HOB_DIM_EXPERTS,
    HOB_DIM_VOCAB,
    HOB_DIM_HALF_ROT,
    HOB_DIM_CONTEXT,
    HOB_DIM_TOKEN_TYPES
} hob_dim;

enum { HOB_PARTS_MAX = 3 };

typedef struct hob_tensor_spec {
    const char *name;   /* with %u for the layer when per_layer */
    size_t slot;        /* offset of the hob_weight * in hob_layer (per_layer) or hob_weights */
    hob_dim rows, cols; /* rows is HOB_DIM_1 for a vector, which must be F32 */
    bool per_layer, optional;
    bool dense;   /* not in a mixture of experts */
    bool experts; /* only there; a matrix, unless it is the router, is one of each expert */
    bool by_hand; /* the architecture's load takes it, into whatever it makes of it */
    /* A tensor that joins several matrices by rows: their rows in order, this one being parts[part]. */
    uint32_t part_count, part;
    hob_dim parts[HOB_PARTS_MAX];
} hob_tensor_spec;

#define HOB_LAYER(n, field, r, c, opt)                                                             \
    {                                                                                              \
        .name = n, .slot = offsetof(hob_layer, field), .rows = HOB_DIM_##r, .cols = HOB_DIM_##c,   \
        .per_layer = true, .optional = opt                                                         \
    }
#define HOB_LAYER_PART(n, field, r, c, i, count, ...)                                              \
    {                                                                                              \
        .name = n, .slot = offsetof(hob_layer, field), .rows = HOB_DIM_##r, .cols = HOB_DIM_##c,   \
        .per_layer = true, .part_count = count, .part = i, .parts = {                              \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define HOB_LAYER_DENSE(n, field, r, c)                                                            \
    {                                                                                              \
        .name = n, .slot = offsetof(hob_layer, field), .rows = HOB_DIM_##r, .cols = HOB_DIM_##c,   \
        .per_layer = true, .dense = true                                                           \
    }
#define HOB_LAYER_EXPERTS(n, field, r, c)                                                          \
    {                                                                                              \
        .name = n, .slot = offsetof(hob_layer, field), .rows = HOB_DIM_##r, .cols = HOB_DIM_##c,   \
        .per_layer = true, .experts = true                                                         \
    }
#define HOB_MODEL(n, field, r, c, opt)                                                             \
    {                                                                                              \
        .name = n, .slot = offsetof(hob_weights, field), .rows = HOB_DIM_##r, .cols = HOB_DIM_##c, \
        .optional = opt                                                                            \
    }
#define HOB_MODEL_BY_HAND(n, r, c)                                                                 \
    {                                                                                              \
        .name = n, .rows = HOB_DIM_##r, .cols = HOB_DIM_##c, .by_hand = true                       \
    }
/* What every decoder has. */
#define HOB_TENSORS_COMMON                                                                         \
    HOB_MODEL("token_embd.weight", embedding, VOCAB, WIDTH, false),                                \
        HOB_MODEL("output_norm.weight", output_norm, 1, WIDTH, false),                             \
        HOB_MODEL("output.weight", output, VOCAB, WIDTH, true),                                    \
        HOB_LAYER("blk.%u.attn_norm.weight", attn_norm, 1, WIDTH, false),                          \
        HOB_LAYER("blk.%u.attn_output.weight", attn_out, WIDTH, Q, false),                         \
        HOB_LAYER("blk.%u.ffn_norm.weight", ffn_norm, 1, WIDTH, false),                            \
        HOB_LAYER_DENSE("blk.%u.ffn_down.weight", down, WIDTH, FF)
#define HOB_TENSORS_QKV                                                                            \
    HOB_LAYER("blk.%u.attn_q.weight", q, Q, WIDTH, false),                                         \
        HOB_LAYER("blk.%u.attn_k.weight", k, KV, WIDTH, false),                                    \
        HOB_LAYER("blk.%u.attn_v.weight", v, KV, WIDTH, false)
#define HOB_TENSORS_QKV_BIAS(opt)                                                                  \
    HOB_LAYER("blk.%u.attn_q.bias", q_bias, 1, Q, opt),                                            \
        HOB_LAYER("blk.%u.attn_k.bias", k_bias, 1, KV, opt),                                       \
        HOB_LAYER("blk.%u.attn_v.bias", v_bias, 1, KV, opt)
#define HOB_TENSORS_QK_NORM                                                                        \
    HOB_LAYER("blk.%u.attn_q_norm.weight", q_norm, 1, HEAD, false),                                \
        HOB_LAYER("blk.%u.attn_k_norm.weight", k_norm, 1, HEAD, false)
#define HOB_TENSORS_GATE_UP                                                                        \
    HOB_LAYER_DENSE("blk.%u.ffn_gate.weight", gate, FF, WIDTH),                                    \
        HOB_LAYER_DENSE("blk.%u.ffn_up.weight", up, FF, WIDTH)
#define HOB_TENSORS_EXPERTS                                                                        \
    HOB_LAYER_EXPERTS("blk.%u.ffn_gate_inp.weight", router, EXPERTS, WIDTH),                       \
        HOB_LAYER_EXPERTS("blk.%u.ffn_gate_exps.weight", gate, FF, WIDTH),                         \
        HOB_LAYER_EXPERTS("blk.%u.ffn_up_exps.weight", up, FF, WIDTH),                             \
        HOB_LAYER_EXPERTS("blk.%u.ffn_down_exps.weight", down, WIDTH, FF)

typedef struct hob_arch {
    const char *name;    /* general.architecture */
    bool dense, experts; /* which feed-forwards it may have */
    bool encoder;        /* it makes vectors, and has neither KV cache nor logits */
    /* Changes what is particular in *h, which hob_hyper_read has filled with what all have in common. */
    int (*read_hyper)(const hob_gguf *g, hob_hyper *h, hob_diag *diag);
    const hob_tensor_spec *tensors;
    size_t tensor_count;
    int (*load)(hob_model *m, const hob_gguf *g, hob_diag *diag); /* what is by_hand; may be NULL */
    int (*graph)(hob_context *c, const hob_batch *batch);
} hob_arch;

extern const hob_arch hob_arch_bert, hob_arch_gemma, hob_arch_gemma3, hob_arch_granite,
    hob_arch_granitemoe, hob_arch_llama, hob_arch_phi3, hob_arch_qwen2, hob_arch_qwen3,
    hob_arch_qwen3moe, hob_arch_smollm3;

/* NULL: not known; names: of all, for messages. */
const hob_arch *hob_arch_find(hob_string name);
void hob_arch_names(char *text, size_t size);

/* The keys that all architectures share, with bounds, and the arch's own. vocab is left 0. h->factors is from malloc. */
HOB_MUST_CHECK int hob_hyper_read(const hob_gguf *g, const hob_arch *arch, hob_hyper *ret,
                                  hob_diag *diag);
/* A key "<architecture>.<name>"; missing: *ret is kept. */
HOB_MUST_CHECK int hob_hyper_u32(const hob_gguf *g, const hob_arch *arch, const char *name,
                                 uint32_t min, uint32_t max, uint32_t *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_hyper_f32(const hob_gguf *g, const hob_arch *arch, const char *name,
                                 float min, float max, float *ret, hob_diag *diag);
uint32_t hob_hyper_dim(const hob_hyper *h, hob_dim d);
/* Bytes of activations that each row of a step takes. */
uint64_t hob_hyper_row_bytes(const hob_hyper *h);

/* The graph of decoder.c. */
int hob_decoder_graph(hob_context *c, const hob_batch *batch);

struct hob_model {
    hob_device *dev;
    const hob_arch *arch;
    hob_hyper hyper;
    hob_weights weights;
    hob_tokenizer *tokenizer;
    hob_template *chat_template;
    hob_model_info info;
};

/* The context of an encoder: hob_context_step leaves a vector of each span in `pooled`. HOB_ENOMEM; HOB_EUNSUPPORTED: it is
 * none. */
HOB_MUST_CHECK int hob_context_new_encoder(hob_model *m, uint32_t max_rows, hob_context **ret,
                                           hob_diag *diag);

struct hob_context {
    hob_model *model;
    hob_context_options options;
    hob_kv *kv;
    const hob_weight *rope_factors; /* for contexts of this size, or NULL */
    hob_tensor *x;                  /* [max_rows, width] the residual stream */
    hob_tensor *branch;             /* [max_rows, width] where branches are normed; else NULL */
    hob_tensor *q, *attended;       /* [max_rows, heads * head_dim] */
    hob_tensor *k, *v;              /* [max_rows, kv_heads * head_dim] */
    hob_tensor *gate, *up;          /* [max_rows, ff]; with experts [max_rows * experts_used, ff] */
    hob_tensor *scores;             /* [max_rows, experts] */
    hob_tensor *down;               /* [max_rows * experts_used, width] */
    hob_tensor *logits;             /* [max_logit_rows, vocab]; an encoder has none */
    hob_tensor *pooled;             /* [max_rows, width] of an encoder: a vector of each span */
};

#endif
