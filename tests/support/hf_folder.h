/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes folders of tiny models on disk, as Hugging Face's libraries store them: a sentence-transformers BERT of one layer of
 * width 32, with twelve tokens and eight positions, and a Llama of one layer of width 64 whose tokens are the bytes. */
#ifndef HOB_TESTS_HF_FOLDER_H
#define HOB_TESTS_HF_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/gguf_maker.h"

typedef struct hf_text {
    const char *name, *text;
} hf_text;

typedef struct hf_tensor {
    const char *name;
    unsigned rows, cols; /* rows 0: a vector */
} hf_tensor;

static const hf_text hf_bert_texts[] = {
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
static const hf_text hf_llama_texts[] = {
    {"config.json",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_act\":\"silu\",\"hidden_size\":64,"
     "\"intermediate_size\":32,\"max_position_embeddings\":128,\"model_type\":\"llama\","
     "\"num_attention_heads\":2,\"num_hidden_layers\":1,\"num_key_value_heads\":1,"
     "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\","
     "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
     "\"original_max_position_embeddings\":64},\"tie_word_embeddings\":true,\"vocab_size\":262}"},
    {"tokenizer_config.json",
     "{\"bos_token\":\"<|begin|>\",\"eos_token\":{\"content\":\"<|end|>\"},"
     "\"chat_template\":\"{{ messages[0].content }}\"}"},
    {"tokenizer.json",
     "{\"added_tokens\":[{\"id\":258,\"content\":\"<|begin|>\",\"special\":true},"
     "{\"id\":259,\"content\":\"<|end|>\",\"special\":false},{\"id\":260,\"content\":\"<u>\","
     "\"special\":false,\"lstrip\":false}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
     "\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
     "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
     "false,"
     "\"use_regex\":false}]},\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":"
     "\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
     "\"<|begin|>\"}},{\"Sequence\":{\"id\":\"A\"}}]}]},\"model\":{\"type\":\"BPE\","
     "\"ignore_merges\":true,\"byte_fallback\":false,\"merges\":[\"t h\",[\"th\",\"e\"]],"
     "\"vocab\":{\"th\":256,\"the\":257,@BYTES@}}}"},
};
enum {
    HF_BERT_TEXTS = sizeof hf_bert_texts / sizeof *hf_bert_texts,
    HF_LLAMA_TEXTS = sizeof hf_llama_texts / sizeof *hf_llama_texts
};

static inline bool hf_write(const char *folder, const char *name, const void *data, size_t len)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    const bool ok = fwrite(data, 1, len, f) == len;
    return fclose(f) == 0 && ok;
}

static const hf_tensor hf_bert_tensors[] = {
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
static const hf_tensor hf_llama_tensors[] = {
    {"model.embed_tokens.weight", 262, 64},
    {"model.layers.0.input_layernorm.weight", 0, 64},
    {"model.layers.0.mlp.down_proj.weight", 64, 32},
    {"model.layers.0.mlp.gate_proj.weight", 32, 64},
    {"model.layers.0.mlp.up_proj.weight", 32, 64},
    {"model.layers.0.post_attention_layernorm.weight", 0, 64},
    {"model.layers.0.self_attn.k_proj.weight", 32, 64},
    {"model.layers.0.self_attn.o_proj.weight", 64, 64},
    {"model.layers.0.self_attn.q_proj.weight", 64, 64},
    {"model.layers.0.self_attn.rotary_emb.inv_freq", 0, 16},
    {"model.layers.0.self_attn.v_proj.weight", 32, 64},
    {"model.norm.weight", 0, 64},
};

/* The bytes of a safetensors file with these tensors, F32. */
static inline void hf_weights(mk *m, const hf_tensor *tensors, size_t count)
{
    char header[8192];
    size_t used = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
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

/* A text with each byte in GPT-2's alphabet as a key, and the byte as its id, for @BYTES@. */
static inline void hf_text_bytes(mk *m, const char *text)
{
    const char *at = strstr(text, "@BYTES@");
    if (!at) {
        mk_bytes(m, text, strlen(text));
        return;
    }
    mk_bytes(m, text, (size_t)(at - text));
    for (unsigned b = 0; b < 256; b++) {
        char word[3], item[32];
        mk_byte_word(b, word);
        snprintf(item, sizeof item, "%s\"%s%s\":%u", b ? "," : "",
                 word[0] == '"' || word[0] == '\\' ? "\\" : "", word, b);
        mk_bytes(m, item, strlen(item));
    }
    mk_bytes(m, at + 7, strlen(at + 7));
}

static inline bool hf_make(char folder[256], const hf_text *texts, size_t text_count,
                           const hf_tensor *tensors, size_t tensor_count)
{
    const char *base = getenv("TMPDIR");
    char pooling[512];
    snprintf(folder, 256, "%s/hob_test_import_XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder))
        return false;
    snprintf(pooling, sizeof pooling, "%s/1_Pooling", folder);
    bool ok = mkdir(pooling, 0700) == 0;
    for (size_t i = 0; i < text_count; i++) {
        mk text = {0};
        hf_text_bytes(&text, texts[i].text);
        ok = ok && hf_write(folder, texts[i].name, text.data, text.bytes);
        mk_free(&text);
    }
    mk m = {0};
    hf_weights(&m, tensors, tensor_count);
    ok = ok && hf_write(folder, "model.safetensors", m.data, m.bytes);
    mk_free(&m);
    return ok;
}

/* Puts all files into a new folder below $TMPDIR or /tmp, whose path goes to folder. */
static inline bool hf_make_bert(char folder[256])
{
    return hf_make(folder, hf_bert_texts, HF_BERT_TEXTS, hf_bert_tensors,
                   sizeof hf_bert_tensors / sizeof *hf_bert_tensors);
}

static inline bool hf_make_llama(char folder[256])
{
    return hf_make(folder, hf_llama_texts, HF_LLAMA_TEXTS, hf_llama_tensors,
                   sizeof hf_llama_tensors / sizeof *hf_llama_tensors);
}

/* Removes what those have made; false when something else is in there. */
static inline bool hf_remove(const char *folder)
{
    static const char *const others[] = {"model.safetensors", "model.safetensors.index.json",
                                         "vocab.txt", "out.gguf"};
    char path[512];
    for (size_t i = 0; i < HF_BERT_TEXTS + sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "%s/%s", folder,
                 i < HF_BERT_TEXTS ? hf_bert_texts[i].name : others[i - HF_BERT_TEXTS]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    return rmdir(path) == 0 && rmdir(folder) == 0;
}

#endif
