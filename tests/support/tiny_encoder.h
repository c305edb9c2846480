/* SPDX-License-Identifier: Apache-2.0
 *
 * A tiny random BERT with a WordPiece vocabulary, as a GGUF file in F32: small enough for a forward pass in plain double
 * arithmetic. */
#ifndef HOB_TESTS_TINY_ENCODER_H
#define HOB_TESTS_TINY_ENCODER_H

#include "tests/support/gguf_maker.h"

enum {
    ENC_LAYERS = 3,
    ENC_WIDTH = 96,
    ENC_HEADS = 3,
    ENC_FF = 160,
    ENC_CONTEXT = 80,
    ENC_TYPES = 2,
    ENC_VOCAB = 5 + 26 + 26, /* specials, letters that begin a word and that continue one */
    ENC_TENSORS_MAX = 8 + 16 * ENC_LAYERS,
};

enum { ENC_PAD, ENC_UNK, ENC_CLS, ENC_SEP, ENC_MASK };

typedef struct tiny_encoder {
    uint32_t pooling; /* as GGUF has it */
    bool causal;
    uint32_t types, context; /* that the keys name; 0: ENC_TYPES, ENC_CONTEXT */
    const char *omit;        /* a key without "bert.", or a tensor, that is left out */
} tiny_encoder;

typedef struct enc_tensor {
    char name[64];
    uint64_t dims[2]; /* columns, rows; rows 0: a vector */
    float scale, offset;
} enc_tensor;

typedef struct enc_writer {
    const tiny_encoder *t;
    mk *m;
    enc_tensor tensors[ENC_TENSORS_MAX];
    uint64_t tensor_count, keys;
} enc_writer;

static inline bool enc_omits(const enc_writer *w, const char *name)
{
    return w->t->omit && strcmp(w->t->omit, name) == 0;
}

static inline void enc_u32(enc_writer *w, const char *name, uint32_t v)
{
    char key[64];
    snprintf(key, sizeof key, "bert.%s", name);
    if (enc_omits(w, name))
        return;
    mk_key_u32(w->m, key, v);
    w->keys++;
}

/* layer < 0: not of a layer. rows 0: a vector of values around offset. */
static inline void enc_add(enc_writer *w, int layer, const char *name, uint64_t cols, uint64_t rows,
                           float scale, float offset)
{
    enc_tensor *t = &w->tensors[w->tensor_count];
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    if (enc_omits(w, t->name))
        return;
    t->dims[0] = cols;
    t->dims[1] = rows;
    t->scale = scale;
    t->offset = offset;
    w->tensor_count++;
}

/* A matrix with its bias. */
static inline void enc_dense(enc_writer *w, int layer, const char *name, uint64_t cols,
                             uint64_t rows)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    enc_add(w, layer, full, cols, rows, 0.2f, 0);
    snprintf(full, sizeof full, "%s.bias", name);
    enc_add(w, layer, full, rows, 0, 0.3f, 0);
}

static inline void enc_norm(enc_writer *w, int layer, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    enc_add(w, layer, full, ENC_WIDTH, 0, 0.3f, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    enc_add(w, layer, full, ENC_WIDTH, 0, 0.3f, 0);
}

static inline void enc_vocabulary(enc_writer *w)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    char word[8];
    mk_key_string(w->m, "tokenizer.ggml.model", "bert");
    mk_key_array(w->m, "tokenizer.ggml.tokens", MK_STRING, ENC_VOCAB);
    for (int i = 0; i < 5; i++)
        mk_string(w->m, specials[i]);
    for (int i = 0; i < 52; i++) {
        snprintf(word, sizeof word, "%s%c", i < 26 ? "\xe2\x96\x81" : "", 'a' + i % 26);
        mk_string(w->m, word);
    }
    mk_key_array(w->m, "tokenizer.ggml.token_type", MK_I32, ENC_VOCAB);
    for (int i = 0; i < ENC_VOCAB; i++)
        mk_u32(w->m, i < 5 ? 3 : 1);
    mk_key_u32(w->m, "tokenizer.ggml.token_type_count", w->t->types ? w->t->types : ENC_TYPES);
    mk_key_u32(w->m, "tokenizer.ggml.unknown_token_id", ENC_UNK);
    mk_key_u32(w->m, "tokenizer.ggml.cls_token_id", ENC_CLS);
    mk_key_u32(w->m, "tokenizer.ggml.seperator_token_id", ENC_SEP);
    w->keys += 7;
}

/* Appends the whole file to m. */
static inline void tiny_encoder_write(mk *m, const tiny_encoder *t)
{
    enc_writer *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->m = m;
    w->t = t;
    const size_t start = m->bytes;
    mk_header(m, 3, 0, 0);
    mk_key_string(m, "general.architecture", "bert");
    w->keys = 1;
    enc_u32(w, "block_count", ENC_LAYERS);
    enc_u32(w, "context_length", t->context ? t->context : ENC_CONTEXT);
    enc_u32(w, "embedding_length", ENC_WIDTH);
    enc_u32(w, "feed_forward_length", ENC_FF);
    enc_u32(w, "attention.head_count", ENC_HEADS);
    enc_u32(w, "pooling_type", t->pooling);
    if (!enc_omits(w, "attention.layer_norm_epsilon")) {
        mk_key_f32(m, "bert.attention.layer_norm_epsilon", 1e-5f);
        w->keys++;
    }
    if (!enc_omits(w, "attention.causal")) {
        mk_key_bool(m, "bert.attention.causal", t->causal);
        w->keys++;
    }
    enc_vocabulary(w);
    enc_add(w, -1, "token_embd.weight", ENC_WIDTH, ENC_VOCAB, 1, 0);
    enc_add(w, -1, "token_types.weight", ENC_WIDTH, ENC_TYPES, 0.5f, 0);
    enc_add(w, -1, "position_embd.weight", ENC_WIDTH, ENC_CONTEXT, 0.5f, 0);
    enc_norm(w, -1, "token_embd_norm");
    for (int i = 0; i < ENC_LAYERS; i++) {
        enc_dense(w, i, "attn_q", ENC_WIDTH, ENC_WIDTH);
        enc_dense(w, i, "attn_k", ENC_WIDTH, ENC_WIDTH);
        enc_dense(w, i, "attn_v", ENC_WIDTH, ENC_WIDTH);
        enc_dense(w, i, "attn_output", ENC_WIDTH, ENC_WIDTH);
        enc_norm(w, i, "attn_output_norm");
        enc_dense(w, i, "ffn_up", ENC_WIDTH, ENC_FF);
        enc_dense(w, i, "ffn_down", ENC_FF, ENC_WIDTH);
        enc_norm(w, i, "layer_output_norm");
    }
    const uint64_t counts[2] = {w->tensor_count, w->keys};
    memcpy(m->data + start + 8, counts, sizeof counts);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < w->tensor_count; i++) {
        const enc_tensor *one = &w->tensors[i];
        mk_tensor(m, one->name, MK_TYPE_F32, one->dims[1] ? 2 : 1, one->dims, offset);
        offset += (one->dims[0] * (one->dims[1] ? one->dims[1] : 1) * sizeof(float) + 31) / 32 * 32;
    }
    for (uint32_t i = 0; i < w->tensor_count; i++) {
        const enc_tensor *one = &w->tensors[i];
        mk_pad(m, 32);
        mk_weights_f32(m, one->dims[0] * (one->dims[1] ? one->dims[1] : 1), i + 1, one->scale,
                       one->offset);
    }
    free(w);
}

#endif
