/* SPDX-License-Identifier: Apache-2.0
 *
 * A model as Hugging Face's libraries store it, turned into a GGUF file in llama.cpp's conventions: a folder with config.json,
 * weights in model.safetensors (or in shards that model.safetensors.index.json names), tokenizer.json or vocab.txt,
 * tokenizer_config.json, and what sentence-transformers adds: modules.json, sentence_bert_config.json and the pooling's
 * config.json. All of it is read as hostile. What the graph would compute otherwise than the folder's own program is refused
 * by name; a tensor without a place in the result is refused too.
 *
 * Weights go through a buffer of a few megabytes, one tensor after the other. The same folder gives the same bytes, wherever
 * it lies and whenever it is imported. */
#ifndef HOB_MODELS_IMPORT_H
#define HOB_MODELS_IMPORT_H

#include "hal/hal.h"

typedef struct hob_import_options {
    const char *folder;
    const char *out;  /* the GGUF file, replaced as a whole or left as it is */
    const char *name; /* UTF-8, becomes general.name; NULL: the one in config.json */
    hob_type
        type; /* of matrices: HOB_TYPE_F16, or HOB_TYPE_Q8_0, where rows that are no whole number of blocks are F16 */
    /* Called now and then with the bytes of weights written, of all; false ends the import. May be NULL. */
    bool (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
} hob_import_options;

typedef struct hob_import_result {
    char architecture[32];
    uint64_t tensors, bytes; /* of weights */
    uint32_t context;        /* tokens */
} hob_import_result;

/* HOB_ENOENT (a file of the folder is missing), HOB_EIO, HOB_EFORMAT, HOB_EUNSUPPORTED, HOB_ELIMIT, HOB_ENOMEM, HOB_ECANCELED
 * by progress; the diagnosis names the file, and the tensor or key. Nothing is left under any name then. Blocks; any
 * thread. */
HOB_MUST_CHECK int hob_import(const hob_import_options *options, hob_import_result *ret,
                              hob_diag *diag);

#endif
