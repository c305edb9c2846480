/* SPDX-License-Identifier: Apache-2.0
 *
 * Between import.c, which runs an import, the files of the architectures (import_bert.c, …), which say what a model's
 * configuration and tensors become, import_weights.c, which moves the weights, and the files of the vocabularies. */
#ifndef HOB_MODELS_IMPORT_PRIVATE_H
#define HOB_MODELS_IMPORT_PRIVATE_H

#include <limits.h>

#include "models/gguf_write.h"
#include "models/import.h"
#include "models/model.h"
#include "models/safetensors.h"
#include "models/strict_json.h"

#define HOB_IMPORT_CONFIG "config.json"
#define HOB_IMPORT_TOKENIZER "tokenizer.json"
#define HOB_IMPORT_TOKENIZER_CONFIG "tokenizer_config.json"

enum {
    HOB_IMPORT_CONFIG_MAX = 4 << 20,      /* bytes of a config.json and the like */
    HOB_IMPORT_TOKENIZER_MAX = 128 << 20, /* of a tokenizer.json */
    HOB_IMPORT_VOCAB_MAX = 1 << 22,       /* tokens, as the tokenizer's own bound */
};

/* --- sentence-transformers: import_sentence.c --- */

typedef struct hob_import_sentence {
    bool present;         /* the folder has a modules.json */
    char transformer[64]; /* the model's folder inside it; "": itself */
    bool lowercases;      /* text is lower-cased before it is tokenized */
    uint32_t max_tokens;  /* longest input; 0: not said */
    hob_pooling pooling;
    uint32_t width; /* of what is pooled; 0: not said */
} hob_import_sentence;

/* Without a modules.json: present is false, and the pooling mean, as sentence-transformers has it for such a folder. */
HOB_MUST_CHECK int hob_import_sentence_read(const char *folder, hob_import_sentence *ret,
                                            hob_diag *diag);

/* --- weights: import_weights.c --- */

typedef struct hob_import_shard {
    char name[128]; /* the file's */
    hob_safetensors *file;
    bool *used; /* [tensors] has a place in the result, or is known to need none */
} hob_import_shard;

typedef struct hob_import_weights { /* zero-initialize; released by hob_import_weights_close */
    hob_import_shard *shards;
    size_t count;
} hob_import_weights;

/* Opens all shards of a folder; no name is in two of them, and index and shards agree. */
HOB_MUST_CHECK int hob_import_weights_open(const char *folder, hob_import_weights *ret,
                                           hob_diag *diag);
void hob_import_weights_close(hob_import_weights *w);
/* NULL: none of that name. Marks it as used. */
const hob_safetensors_tensor *hob_import_weights_take(hob_import_weights *w, const char *name,
                                                      const hob_import_shard **ret_shard);
/* Marks those named; a name that ends in * stands for all that begin so. */
void hob_import_weights_ignore(hob_import_weights *w, const char *const *names, size_t count);
/* HOB_EUNSUPPORTED names a tensor that is not used. */
HOB_MUST_CHECK int hob_import_weights_all_used(const hob_import_weights *w, hob_diag *diag);

/* --- an import --- */

/* What a dimension is, in the tables of tensors. */
typedef enum hob_import_size {
    HOB_SIZE_NONE, /* no such dimension */
    HOB_SIZE_WIDTH,
    HOB_SIZE_FF,
    HOB_SIZE_VOCAB,
    HOB_SIZE_POSITIONS,
    HOB_SIZE_TYPES,
    HOB_SIZE_Q,  /* heads * head_dim */
    HOB_SIZE_KV, /* kv_heads * head_dim */
    HOB_SIZES
} hob_import_size;

enum {
    HOB_IMPORT_F32 = 1,     /* a matrix that stays F32 */
    HOB_IMPORT_CONTEXT = 2, /* only the first `context` rows are kept */
    /* Rows of each head from halves to pairs: row i of the first half becomes row 2i, of the second half row 2i + 1, as
     * GGUF's llama rotates them. */
    HOB_IMPORT_PAIRS = 4,
};

/* A tensor of the folder and what becomes of it; %u in the names: one for each layer. */
typedef struct hob_import_spec {
    const char *from;           /* several spellings are separated by spaces */
    const char *to;             /* NULL: it may be there and has no place in the result */
    hob_import_size rows, cols; /* rows HOB_SIZE_NONE: a vector, which stays F32 */
    uint32_t flags;
} hob_import_spec;

typedef struct hob_import_tensor {
    const hob_import_shard *shard;
    const hob_safetensors_tensor *from; /* NULL: values */
    const float *values;                /* [count], of the job's */
    hob_type type;
    uint64_t count;     /* elements that are written, the first ones */
    uint32_t head_rows; /* rows of a head, from halves to pairs; 0: they stay where they are */
    uint32_t cols;
} hob_import_tensor;

typedef struct hob_import_job {
    const hob_import_options *options;
    char folder[PATH_MAX]; /* of config.json, weights and tokenizer */
    hob_import_sentence sentence;
    json_t *config;
    const char *architecture; /* GGUF's */
    const char *prefix;       /* in front of all names of tensors, "" or "bert." */
    uint32_t sizes[HOB_SIZES];
    uint32_t layers, context, heads, head_dim;
    hob_import_weights weights;
    hob_import_tensor *tensors; /* [tensor_count] in the file's order */
    size_t tensor_count;
    float *computed; /* weights that are in no file, from malloc */
    hob_gguf_writer *out;
    hob_diag *diag;
} hob_import_job;

/* Adds the tensors of a table to the result: those of the model, then layer by layer. HOB_EFORMAT: one is missing, or its
 * shape is not what the configuration says. */
HOB_MUST_CHECK int hob_import_add(hob_import_job *job, const hob_import_spec *specs, size_t count);
/* Adds a vector that is in no file; values [count] are the job's. */
HOB_MUST_CHECK int hob_import_add_values(hob_import_job *job, const char *name, const float *values,
                                         uint32_t count);
/* Reads, converts and writes the data of all tensors that were added; *ret_bytes: how much that is in the result. */
HOB_MUST_CHECK int hob_import_copy(const hob_import_job *job, uint64_t *ret_bytes);

/* "<architecture>.<name>" */
void hob_import_put_u32(const hob_import_job *job, const char *name, uint32_t value);
void hob_import_put_f32(const hob_import_job *job, const char *name, float value);
void hob_import_put_bool(const hob_import_job *job, const char *name, bool value);

/* A key of config.json that must be there, 1 .. max. */
HOB_MUST_CHECK int hob_import_config_u32(const hob_import_job *job, const char *key, uint32_t max,
                                         uint32_t *ret);
/* Those that all architectures have: layers, heads, and the sizes WIDTH, FF, VOCAB and POSITIONS. */
HOB_MUST_CHECK int hob_import_config_common(hob_import_job *job);
/* What of them and of context GGUF has keys for. */
void hob_import_put_common(const hob_import_job *job);

/* One that config.json names by model_type. */
typedef struct hob_import_arch {
    const char *model_type;
    const char *architecture; /* GGUF's */
    /* Checks the configuration, puts its keys and the vocabulary's, adds the tensors. */
    int (*convert)(hob_import_job *job);
} hob_import_arch;

extern const hob_import_arch hob_import_bert, hob_import_llama, hob_import_qwen2;

/* --- vocabularies: import_vocab.c --- */

/* What a vocabulary is made of; NULL where the folder does not have it. */
typedef struct hob_import_texts {
    json_t *tokenizer; /* tokenizer.json */
    json_t *config;    /* tokenizer_config.json */
    char *vocab_txt;   /* NUL-terminated; only where there is no tokenizer.json */
    size_t vocab_txt_len;
    char *chat_template; /* chat_template.jinja */
} hob_import_texts;

HOB_MUST_CHECK int hob_import_texts_read(const char *folder, hob_import_texts *ret, hob_diag *diag);
void hob_import_texts_free(hob_import_texts *t);
/* What tokenizer_config.json calls by a role such as "eos_token": a string, or an object with one. NULL: nothing. */
const char *hob_import_role(const hob_import_texts *t, const char *role);

typedef struct hob_import_vocab { /* released by hob_import_vocab_free */
    uint32_t rows;                /* of the model's table: ids are below */
    hob_string *tokens;           /* [rows] */
    int32_t *types;               /* [rows] GGUF's; 0: no token has this id */
    char *bytes;                  /* of tokens that were spelled anew */
} hob_import_vocab;

HOB_MUST_CHECK int hob_import_vocab_new(uint32_t rows, hob_import_vocab *ret, hob_diag *diag);
void hob_import_vocab_free(hob_import_vocab *v);
/* Gives the id in id_value to text, which must live as long. HOB_EFORMAT: out of range, another token's, or the text is too long. */
HOB_MUST_CHECK int hob_import_vocab_place(hob_import_vocab *v, const char *text,
                                          const json_t *id_value, int32_t type, hob_diag *diag);
/* All of an object of texts and ids, as normal tokens. */
HOB_MUST_CHECK int hob_import_vocab_place_all(hob_import_vocab *v, json_t *ids, hob_diag *diag);
/* tokenizer.json's added_tokens: special ones are control tokens, others of other_type; 0: there may be no others. */
HOB_MUST_CHECK int hob_import_vocab_place_added(hob_import_vocab *v, const json_t *tokenizer,
                                                int32_t other_type, hob_diag *diag);
/* HOB_TOKEN_NONE (models/tokenizer.h): no token has this text. */
uint32_t hob_import_vocab_find(const hob_import_vocab *v, const char *text);
/* Writes the tokens anew: spell copies one to `to`, at most 3 bytes longer than it was, and returns its length; NULL: they
 * stay. An id without a token becomes "[PAD<id>]" of type unused. */
typedef size_t hob_import_spell(hob_string token, int32_t type, char *to);
HOB_MUST_CHECK int hob_import_vocab_spell(hob_import_vocab *v, hob_import_spell *spell,
                                          hob_diag *diag);
/* tokenizer.ggml.model, tokens and token_type. */
void hob_import_vocab_put(const hob_import_vocab *v, const char *model, hob_gguf_writer *out);

/* A text of tokenizer.json that must be there and be this one. HOB_EUNSUPPORTED. */
HOB_MUST_CHECK int hob_import_must_be(const json_t *o, const char *key, const char *wanted,
                                      hob_diag *diag);

/* The keys of a WordPiece vocabulary of that many rows. lowercases: see hob_import_sentence. */
HOB_MUST_CHECK int hob_import_wordpiece(const hob_import_texts *texts, uint32_t rows,
                                        bool lowercases, hob_gguf_writer *out, hob_diag *diag);
/* The keys of a byte-level BPE vocabulary, its merges and the chat template. config: config.json, for ids that
 * tokenizer_config.json does not name. */
HOB_MUST_CHECK int hob_import_bpe(const hob_import_texts *texts, const json_t *config,
                                  uint32_t rows, hob_gguf_writer *out, hob_diag *diag);

#endif
