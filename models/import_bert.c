/* SPDX-License-Identifier: Apache-2.0
 *
 * BERT encoders (Devlin et al. 2018) as transformers' BertModel stores them, alone or inside a model for masked words, whose
 * head is left out: what is wanted of them here is an embedding. The pooler (a dense layer on [CLS]) belongs to the next-
 * sentence task and is left out too.
 *
 * An input may have as many tokens as the folder says: max_seq_length of sentence-transformers, else the tokenizer's
 * model_max_length, and no more than there are positions. That is the context length of the result, which keeps no rows of
 * the table of positions beyond it. */
#include <string.h>

#include "models/arch.h"
#include "models/import_private.h"

static const char config_name[] = "config.json";

#define LAYER(from, to, rows, cols)                                                                \
    {                                                                                              \
        "encoder.layer.%u." from, "blk.%u." to, HOB_SIZE_##rows, HOB_SIZE_##cols, 0                \
    }
#define DENSE(from, to, rows, cols)                                                                \
    LAYER(from ".weight", to ".weight", rows, cols), LAYER(from ".bias", to ".bias", NONE, rows)
/* Early checkpoints call weight and bias gamma and beta. */
#define NORM(from, to)                                                                             \
    {from ".weight " from ".gamma", to ".weight", HOB_SIZE_NONE, HOB_SIZE_WIDTH, 0},               \
    {                                                                                              \
        from ".bias " from ".beta", to ".bias", HOB_SIZE_NONE, HOB_SIZE_WIDTH, 0                   \
    }

static const hob_import_spec tensors[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight", HOB_SIZE_VOCAB, HOB_SIZE_WIDTH, 0},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", HOB_SIZE_TYPES,
     HOB_SIZE_WIDTH, HOB_IMPORT_F32},
    {"embeddings.position_embeddings.weight", "position_embd.weight", HOB_SIZE_POSITIONS,
     HOB_SIZE_WIDTH, HOB_IMPORT_F32 | HOB_IMPORT_CONTEXT},
    NORM("embeddings.LayerNorm", "token_embd_norm"),
    DENSE("attention.self.query", "attn_q", WIDTH, WIDTH),
    DENSE("attention.self.key", "attn_k", WIDTH, WIDTH),
    DENSE("attention.self.value", "attn_v", WIDTH, WIDTH),
    DENSE("attention.output.dense", "attn_output", WIDTH, WIDTH),
    NORM("encoder.layer.%u.attention.output.LayerNorm", "blk.%u.attn_output_norm"),
    DENSE("intermediate.dense", "ffn_up", FF, WIDTH),
    DENSE("output.dense", "ffn_down", WIDTH, FF),
    NORM("encoder.layer.%u.output.LayerNorm", "blk.%u.layer_output_norm"),
};

static const char *const left_out[] = {
    "embeddings.position_ids",  "pooler.dense.weight",
    "pooler.dense.bias",        "bert.embeddings.position_ids",
    "bert.pooler.dense.weight", "bert.pooler.dense.bias",
    "cls.predictions.*",        "cls.seq_relationship.*",
};

/* The graph is that of BertModel and knows nothing of its variants. */
static int check_variant(const hob_import_job *job)
{
    static const struct {
        const char *key, *known;
    } texts[] = {{"hidden_act", "gelu"}, {"position_embedding_type", "absolute"}};
    static const char *const flags[] = {"is_decoder", "add_cross_attention"};
    static const char *const classes[] = {"BertModel", "BertForMaskedLM", "BertForPreTraining"};
    json_t *list;
    int rc;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text;
        rc = hob_strict_string(config_name, job->config, texts[i].key, &text, job->diag);
        if (rc < 0 && rc != HOB_ENOENT)
            return rc;
        if (rc == 0 && strcmp(text, texts[i].known) != 0)
            return hob_fail(job->diag, HOB_EUNSUPPORTED, "%s: %s: got \"%.60s\", supported is %s",
                            config_name, texts[i].key, text, texts[i].known);
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool set = false;
        rc = hob_strict_bool(config_name, job->config, flags[i], &set, job->diag);
        if (rc < 0 && rc != HOB_ENOENT)
            return rc;
        if (set)
            return hob_fail(job->diag, HOB_EUNSUPPORTED, "%s: %s: got true, supported is false",
                            config_name, flags[i]);
    }
    rc = hob_strict_member(config_name, job->config, "architectures", JSON_ARRAY, &list, job->diag);
    if (rc < 0)
        return hob_strict_optional(rc);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        bool known = false;
        for (size_t k = 0; name && k < sizeof classes / sizeof *classes; k++)
            known = known || strcmp(name, classes[k]) == 0;
        if (!known)
            return hob_fail(job->diag, HOB_EUNSUPPORTED,
                            "%s: architectures: got %.60s, supported are BertModel, "
                            "BertForMaskedLM and BertForPreTraining",
                            config_name, name ? name : "something else than a string");
    }
    return 0;
}

static int read_sizes(hob_import_job *job, uint32_t *ret_heads, double *ret_epsilon)
{
    uint32_t *s = job->sizes;
    int rc;
    *ret_epsilon = 1e-12;
    if ((rc = hob_import_config_u32(job, "num_hidden_layers", HOB_LAYERS_MAX, &job->layers)) < 0 ||
        (rc = hob_import_config_u32(job, "hidden_size", 65536, &s[HOB_SIZE_WIDTH])) < 0 ||
        (rc = hob_import_config_u32(job, "intermediate_size", 1 << 20, &s[HOB_SIZE_FF])) < 0 ||
        (rc = hob_import_config_u32(job, "num_attention_heads", 1024, ret_heads)) < 0 ||
        (rc = hob_import_config_u32(job, "vocab_size", HOB_IMPORT_VOCAB_MAX, &s[HOB_SIZE_VOCAB])) <
            0 ||
        (rc = hob_import_config_u32(job, "type_vocab_size", 1024, &s[HOB_SIZE_TYPES])) < 0 ||
        (rc = hob_import_config_u32(job, "max_position_embeddings", 1 << 24,
                                    &s[HOB_SIZE_POSITIONS])) < 0)
        return rc;
    rc = hob_strict_number(config_name, job->config, "layer_norm_eps", 1e-30, 1, ret_epsilon,
                           job->diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    if (s[HOB_SIZE_WIDTH] % *ret_heads)
        return hob_fail(job->diag, HOB_EFORMAT,
                        "%s: hidden_size: got %u, which is no multiple of num_attention_heads %u",
                        config_name, s[HOB_SIZE_WIDTH], *ret_heads);
    if (job->sentence.width && job->sentence.width != s[HOB_SIZE_WIDTH])
        return hob_fail(job->diag, HOB_EFORMAT,
                        "the pooling's word_embedding_dimension: got %u, hidden_size is %u",
                        job->sentence.width, s[HOB_SIZE_WIDTH]);
    return 0;
}

static int read_context(hob_import_job *job, const hob_import_texts *texts)
{
    double most = job->sentence.max_tokens;
    /* model_max_length may be 1e30 and means none then. */
    if (most == 0 && texts->config) {
        const int rc = hob_strict_number("tokenizer_config.json", texts->config, "model_max_length",
                                         1, 1e300, &most, job->diag);
        if (rc < 0 && rc != HOB_ENOENT)
            return rc;
    }
    const uint32_t positions = job->sizes[HOB_SIZE_POSITIONS];
    job->context = most > 0 && most < positions ? (uint32_t)most : positions;
    return 0;
}

static int convert(hob_import_job *job)
{
    hob_import_texts texts = {0};
    uint32_t heads = 0;
    double epsilon;
    int rc;
    if ((rc = check_variant(job)) < 0 || (rc = read_sizes(job, &heads, &epsilon)) < 0 ||
        (rc = hob_import_texts_read(job->folder, &texts, job->diag)) < 0 ||
        (rc = read_context(job, &texts)) < 0)
        goto fail;
    hob_import_put_u32(job, "block_count", job->layers);
    hob_import_put_u32(job, "context_length", job->context);
    hob_import_put_u32(job, "embedding_length", job->sizes[HOB_SIZE_WIDTH]);
    hob_import_put_u32(job, "feed_forward_length", job->sizes[HOB_SIZE_FF]);
    hob_import_put_u32(job, "attention.head_count", heads);
    hob_import_put_f32(job, "attention.layer_norm_epsilon", (float)epsilon);
    hob_import_put_bool(job, "attention.causal", false);
    hob_import_put_u32(job, "pooling_type", job->sentence.pooling);
    hob_gguf_put_u32(job->out, "tokenizer.ggml.token_type_count", job->sizes[HOB_SIZE_TYPES]);
    rc = hob_import_wordpiece(&texts, job->sizes[HOB_SIZE_VOCAB], job->sentence.lowercases,
                              job->out, job->diag);
    if (rc < 0)
        goto fail;
    const hob_import_shard *shard;
    job->prefix =
        hob_import_weights_take(&job->weights, "bert.embeddings.word_embeddings.weight", &shard)
            ? "bert."
            : "";
    rc = hob_import_add(job, tensors, sizeof tensors / sizeof *tensors);
    hob_import_weights_ignore(&job->weights, left_out, sizeof left_out / sizeof *left_out);
fail:
    hob_import_texts_free(&texts);
    return rc;
}

const hob_import_arch hob_import_bert = {
    .model_type = "bert", .architecture = "bert", .convert = convert};
