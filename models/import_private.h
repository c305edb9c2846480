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
    HOB_SIZES
} hob_import_size;

enum {
    HOB_IMPORT_F32 = 1,     /* a matrix that stays F32 */
    HOB_IMPORT_CONTEXT = 2, /* only the first `context` rows are kept */
};

/* A tensor of the folder and what becomes of it; %u in the names: one for each layer. */
typedef struct hob_import_spec {
    const char *from; /* several spellings are separated by spaces */
    const char *to;
    hob_import_size rows, cols; /* rows HOB_SIZE_NONE: a vector, which stays F32 */
    uint32_t flags;
} hob_import_spec;

typedef struct hob_import_tensor {
    char name[64];
    const hob_import_shard *shard;
    const hob_safetensors_tensor *from;
    hob_type type;
    uint64_t count; /* elements that are written, the first ones */
} hob_import_tensor;

typedef struct hob_import_job {
    const hob_import_options *options;
    char folder[PATH_MAX]; /* of config.json, weights and tokenizer */
    hob_import_sentence sentence;
    json_t *config;
    const char *architecture; /* GGUF's */
    const char *prefix;       /* in front of all names of tensors, "" or "bert." */
    uint32_t sizes[HOB_SIZES];
    uint32_t layers, context;
    hob_import_weights weights;
    hob_import_tensor *tensors; /* [tensor_count] in the file's order */
    size_t tensor_count;
    hob_gguf_writer *out;
    hob_diag *diag;
} hob_import_job;

/* Adds the tensors of a table to the result: those of the model, then layer by layer. HOB_EFORMAT: one is missing, or its
 * shape is not what the configuration says. */
HOB_MUST_CHECK int hob_import_add(hob_import_job *job, const hob_import_spec *specs, size_t count);
/* Reads, converts and writes the data of all tensors that were added; *ret_bytes: how much that is in the result. */
HOB_MUST_CHECK int hob_import_copy(const hob_import_job *job, uint64_t *ret_bytes);

/* "<architecture>.<name>" */
void hob_import_put_u32(const hob_import_job *job, const char *name, uint32_t value);
void hob_import_put_f32(const hob_import_job *job, const char *name, float value);
void hob_import_put_bool(const hob_import_job *job, const char *name, bool value);

/* A key of config.json that must be there, 1 .. max. */
HOB_MUST_CHECK int hob_import_config_u32(const hob_import_job *job, const char *key, uint32_t max,
                                         uint32_t *ret);

/* One that config.json names by model_type. */
typedef struct hob_import_arch {
    const char *model_type;
    const char *architecture; /* GGUF's */
    /* Checks the configuration, puts its keys and the vocabulary's, adds the tensors. */
    int (*convert)(hob_import_job *job);
} hob_import_arch;

extern const hob_import_arch hob_import_bert;

/* --- vocabularies --- */

/* What a vocabulary is made of; NULL where the folder does not have it. */
typedef struct hob_import_texts {
    json_t *tokenizer; /* tokenizer.json */
    json_t *config;    /* tokenizer_config.json */
    char *vocab_txt;   /* NUL-terminated */
    size_t vocab_txt_len;
} hob_import_texts;

HOB_MUST_CHECK int hob_import_texts_read(const char *folder, hob_import_texts *ret, hob_diag *diag);
void hob_import_texts_free(hob_import_texts *t);

/* The keys of a WordPiece vocabulary: rows tokens, of which those that the folder does not name are written as unused.
 * lowercases: see hob_import_sentence. */
HOB_MUST_CHECK int hob_import_wordpiece(const hob_import_texts *texts, uint32_t rows,
                                        bool lowercases, hob_gguf_writer *out, hob_diag *diag);

#endif
