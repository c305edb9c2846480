/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes the folder of a tiny sentence-transformers model on disk: one layer of width 32, ten tokens, eight positions. */
#ifndef HOB_TESTS_BERT_FOLDER_H
#define HOB_TESTS_BERT_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/gguf_maker.h"

/* The files that are text, in the order in which bert_folder_text counts them. */
static const char *const bert_folder_texts[][2] = {
    {"config.json",
     "{\"architectures\":[\"BertModel\"],\"_name_or_path\":\"somebody/"
     "tiny\",\"hidden_act\":\"gelu\","
     "\"hidden_size\":32,\"intermediate_size\":64,\"layer_norm_eps\":1e-12,"
     "\"max_position_embeddings\":8,\"model_type\":\"bert\",\"num_attention_heads\":2,"
     "\"num_hidden_layers\":1,\"position_embedding_type\":\"absolute\",\"type_vocab_size\":2,"
     "\"vocab_size\":12}"},
    {"tokenizer.json",
     "{\"added_tokens\":[{\"id\":0,\"content\":\"[PAD]\",\"special\":true},"
     "{\"id\":1,\"content\":\"[UNK]\",\"special\":true},{\"id\":2,\"content\":\"[CLS]\","
     "\"special\":true},"
     "{\"id\":3,\"content\":\"[SEP]\",\"special\":true},{\"id\":10,\"content\":\"[MASK]\","
     "\"special\":true}],"
     "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":"
     "true,"
     "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
     "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"["
     "CLS]\"}},"
     "{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"[SEP]\"}}]},"
     "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"
     "\","
     "\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,"
     "\"a\":4,\"b\":5,\"##a\":6,\"##b\":7,\"hello\":8,\"##\\u00e9\":9}}}"},
    {"tokenizer_config.json",
     "{\"do_lower_case\":true,\"tokenize_chinese_chars\":true,\"model_max_length\":512,"
     "\"cls_token\":{\"content\":\"[CLS]\"}}"},
    {"modules.json",
     "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
     "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
     "{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]"},
    {"1_Pooling/config.json",
     "{\"word_embedding_dimension\":32,\"pooling_mode_cls_token\":false,"
     "\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false}"},
    {"sentence_bert_config.json", "{\"max_seq_length\":6,\"do_lower_case\":false}"},
    {"config_sentence_transformers.json", "{\"default_prompt_name\":null,\"prompts\":{}}"},
};
enum { BERT_FOLDER_TEXTS = sizeof bert_folder_texts / sizeof *bert_folder_texts };

static inline bool bert_folder_write(const char *folder, const char *name, const void *data,
                                     size_t len)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    const bool ok = fwrite(data, 1, len, f) == len;
    return fclose(f) == 0 && ok;
}

/* The bytes of model.safetensors: every tensor that BertModel has, F32. */
static inline void bert_folder_weights(mk *m)
{
    static const struct {
        const char *name;
        unsigned rows, cols; /* rows 0: a vector */
    } tensors[] = {
        {"embeddings.LayerNorm.bias", 0, 32},
        {"embeddings.LayerNorm.weight", 0, 32},
        {"embeddings.position_embeddings.weight", 8, 32},
        {"embeddings.token_type_embeddings.weight", 2, 32},
        {"embeddings.word_embeddings.weight", 12, 32},
        {"encoder.layer.0.attention.output.LayerNorm.bias", 0, 32},
        {"encoder.layer.0.attention.output.LayerNorm.weight", 0, 32},
        {"encoder.layer.0.attention.output.dense.bias", 0, 32},
        {"encoder.layer.0.attention.output.dense.weight", 32, 32},
        {"encoder.layer.0.attention.self.key.bias", 0, 32},
        {"encoder.layer.0.attention.self.key.weight", 32, 32},
        {"encoder.layer.0.attention.self.query.bias", 0, 32},
        {"encoder.layer.0.attention.self.query.weight", 32, 32},
        {"encoder.layer.0.attention.self.value.bias", 0, 32},
        {"encoder.layer.0.attention.self.value.weight", 32, 32},
        {"encoder.layer.0.intermediate.dense.bias", 0, 64},
        {"encoder.layer.0.intermediate.dense.weight", 64, 32},
        {"encoder.layer.0.output.LayerNorm.bias", 0, 32},
        {"encoder.layer.0.output.LayerNorm.weight", 0, 32},
        {"encoder.layer.0.output.dense.bias", 0, 32},
        {"encoder.layer.0.output.dense.weight", 32, 64},
        {"pooler.dense.bias", 0, 32},
        {"pooler.dense.weight", 32, 32},
    };
    enum { COUNT = sizeof tensors / sizeof *tensors };
    char header[8192];
    size_t used = 0, at = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const size_t bytes = 4 * (tensors[i].rows ? tensors[i].rows : 1) * (size_t)tensors[i].cols;
        char rows[16] = "";
        if (tensors[i].rows)
            snprintf(rows, sizeof rows, "%u,", tensors[i].rows);
        used += (size_t)snprintf(
            header + used, sizeof header - used,
            "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%s%u],\"data_offsets\":[%zu,%zu]}",
            i ? ',' : '{', tensors[i].name, rows, tensors[i].cols, at, at + bytes);
        at += bytes;
    }
    snprintf(header + used, sizeof header - used, "}");
    mk_u64(m, strlen(header));
    mk_bytes(m, header, strlen(header));
    mk_weights_f32(m, at / 4, 1, 0.5f, 0);
}

/* Puts all files into a new folder below $TMPDIR or /tmp; template has room for its path. */
static inline bool bert_folder_make(char folder[256])
{
    const char *base = getenv("TMPDIR");
    char pooling[512];
    mk m = {0};
    snprintf(folder, 256, "%s/hob_test_import_XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder))
        return false;
    snprintf(pooling, sizeof pooling, "%s/1_Pooling", folder);
    bool ok = mkdir(pooling, 0700) == 0;
    for (size_t i = 0; i < BERT_FOLDER_TEXTS; i++)
        ok = ok && bert_folder_write(folder, bert_folder_texts[i][0], bert_folder_texts[i][1],
                                     strlen(bert_folder_texts[i][1]));
    bert_folder_weights(&m);
    ok = ok && bert_folder_write(folder, "model.safetensors", m.data, m.bytes);
    mk_free(&m);
    return ok;
}

/* Removes what bert_folder_make has made; false when something else is in there. */
static inline bool bert_folder_remove(const char *folder)
{
    static const char *const others[] = {"model.safetensors", "model.safetensors.index.json",
                                         "vocab.txt", "out.gguf"};
    char path[512];
    for (size_t i = 0; i < BERT_FOLDER_TEXTS + sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "%s/%s", folder,
                 i < BERT_FOLDER_TEXTS ? bert_folder_texts[i][0] : others[i - BERT_FOLDER_TEXTS]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    return rmdir(path) == 0 && rmdir(folder) == 0;
}

#endif
