/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoders as transformers' LlamaForCausalLM and Qwen2ForCausalLM store them. Both are the same graph; Llama's queries and
 * keys are rotated in pairs by GGUF's convention, and by halves in the folder, so that the rows of its heads change places.
 * The scaled frequencies of Llama 3.1 become a tensor of divisors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/arch.h"
#include "models/import_private.h"

#define MODEL(from, to, rows, cols)                                                                \
    {                                                                                              \
        from, to, HOB_SIZE_##rows, HOB_SIZE_##cols, 0                                              \
    }
#define LAYER(from, to, rows, cols, flags)                                                         \
    {                                                                                              \
        "model.layers.%u." from, "blk.%u." to, HOB_SIZE_##rows, HOB_SIZE_##cols, flags             \
    }
#define COMMON                                                                                     \
    MODEL("model.embed_tokens.weight", "token_embd.weight", VOCAB, WIDTH),                         \
        MODEL("model.norm.weight", "output_norm.weight", NONE, WIDTH),                             \
        LAYER("input_layernorm.weight", "attn_norm.weight", NONE, WIDTH, 0),                       \
        LAYER("self_attn.v_proj.weight", "attn_v.weight", KV, WIDTH, 0),                           \
        LAYER("self_attn.o_proj.weight", "attn_output.weight", WIDTH, Q, 0),                       \
        LAYER("post_attention_layernorm.weight", "ffn_norm.weight", NONE, WIDTH, 0),               \
        LAYER("mlp.gate_proj.weight", "ffn_gate.weight", FF, WIDTH, 0),                            \
        LAYER("mlp.up_proj.weight", "ffn_up.weight", FF, WIDTH, 0),                                \
        LAYER("mlp.down_proj.weight", "ffn_down.weight", WIDTH, FF, 0)

static const hob_import_spec llama_tensors[] = {
    COMMON,
    LAYER("self_attn.q_proj.weight", "attn_q.weight", Q, WIDTH, HOB_IMPORT_PAIRS),
    LAYER("self_attn.k_proj.weight", "attn_k.weight", KV, WIDTH, HOB_IMPORT_PAIRS),
    /* Old checkpoints carry what follows from the configuration. */
    {"model.layers.%u.self_attn.rotary_emb.inv_freq", NULL, 0, 0, 0},
};
static const hob_import_spec qwen2_tensors[] = {
    COMMON,
    LAYER("self_attn.q_proj.weight", "attn_q.weight", Q, WIDTH, 0),
    LAYER("self_attn.q_proj.bias", "attn_q.bias", NONE, Q, 0),
    LAYER("self_attn.k_proj.weight", "attn_k.weight", KV, WIDTH, 0),
    LAYER("self_attn.k_proj.bias", "attn_k.bias", NONE, KV, 0),
    LAYER("self_attn.v_proj.bias", "attn_v.bias", NONE, KV, 0),
};
static const hob_import_spec output = MODEL("lm_head.weight", "output.weight", VOCAB, WIDTH);
static const hob_import_spec tied = {"lm_head.weight", NULL, 0, 0, 0}; /* written all the same */

static int text_is(const hob_import_job *job, const char *key, const char *known)
{
    const char *text;
    const int rc = hob_strict_string(HOB_IMPORT_CONFIG, job->config, key, &text, job->diag);
    if (rc == 0 && strcmp(text, known) != 0)
        return hob_fail(job->diag, HOB_EUNSUPPORTED, "%s: %s: got \"%.60s\", supported is %s",
                        HOB_IMPORT_CONFIG, key, text, known);
    return hob_strict_required(rc);
}

static int check_variant(const hob_import_job *job, const char *class)
{
    json_t *list;
    bool slides = false;
    int rc = text_is(job, "hidden_act", "silu");
    if (rc < 0)
        return rc;
    rc = hob_strict_bool(HOB_IMPORT_CONFIG, job->config, "use_sliding_window", &slides, job->diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    if (slides)
        return hob_fail(job->diag, HOB_EUNSUPPORTED,
                        "%s: use_sliding_window: got true, supported is false", HOB_IMPORT_CONFIG);
    if (job->sentence.present)
        return hob_fail(job->diag, HOB_EUNSUPPORTED,
                        "modules.json: embedding models are supported of the architecture bert");
    rc = hob_strict_member(HOB_IMPORT_CONFIG, job->config, "architectures", JSON_ARRAY, &list,
                           job->diag);
    if (rc < 0)
        return hob_strict_required(rc);
    const char *name = json_string_value(json_array_get(list, 0));
    if (json_array_size(list) != 1 || !name || strcmp(name, class) != 0)
        return hob_fail(job->diag, HOB_EUNSUPPORTED,
                        "%s: architectures: got %.60s, supported is %s", HOB_IMPORT_CONFIG,
                        name ? name : "no name", class);
    return 0;
}

static int read_sizes(hob_import_job *job, uint32_t *ret_kv_heads)
{
    uint32_t *s = job->sizes;
    int rc = hob_import_config_common(job);
    if (rc < 0)
        return rc;
    job->context = s[HOB_SIZE_POSITIONS];
    uint64_t kv_heads = job->heads, head_dim = s[HOB_SIZE_WIDTH] / job->heads;
    rc = hob_strict_u64(HOB_IMPORT_CONFIG, job->config, "num_key_value_heads", 1, job->heads,
                        &kv_heads, job->diag);
    if (rc == 0 || rc == HOB_ENOENT)
        rc = hob_strict_u64(HOB_IMPORT_CONFIG, job->config, "head_dim", 1, 1024, &head_dim,
                            job->diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    if (head_dim == 0 || head_dim % 2)
        return hob_fail(job->diag, HOB_EFORMAT,
                        "%s: heads of %llu dimensions, allowed are even numbers", HOB_IMPORT_CONFIG,
                        (unsigned long long)head_dim);
    job->head_dim = (uint32_t)head_dim;
    *ret_kv_heads = (uint32_t)kv_heads;
    s[HOB_SIZE_Q] = job->heads * job->head_dim;
    s[HOB_SIZE_KV] = *ret_kv_heads * job->head_dim;
    return 0;
}

/* --- rotation --- */

/* Llama 3.1: a frequency that turns less than low_freq_factor times in the original context is divided by factor, one that
 * turns more than high_freq_factor times stays, and between them the divisor follows the number of turns. */
static int add_scaled_frequencies(hob_import_job *job, const json_t *rope, double base)
{
    double factor = 0, low = 0, high = 0;
    uint64_t original = 0;
    static const char what[] = HOB_IMPORT_CONFIG ": rope_scaling";
    int rc;
    if ((rc = hob_strict_number(what, rope, "factor", 1, 1e6, &factor, job->diag)) < 0 ||
        (rc = hob_strict_number(what, rope, "low_freq_factor", 1e-3, 1e3, &low, job->diag)) < 0 ||
        (rc = hob_strict_number(what, rope, "high_freq_factor", 1e-3, 1e3, &high, job->diag)) < 0 ||
        (rc = hob_strict_u64(what, rope, "original_max_position_embeddings", 1, 1 << 30, &original,
                             job->diag)) < 0)
        return hob_strict_required(rc);
    if (low >= high)
        return hob_fail(job->diag, HOB_EFORMAT,
                        "%s: high_freq_factor: got %g, allowed is more than low_freq_factor %g",
                        what, high, low);
    const uint32_t count = job->head_dim / 2;
    job->computed = calloc(count, sizeof *job->computed);
    if (!job->computed)
        return hob_fail(job->diag, HOB_ENOMEM, "no memory for %u frequencies", count);
    for (uint32_t i = 0; i < count; i++) {
        const double wavelength = 2 * 3.14159265358979323846 * pow(base, 2.0 * i / job->head_dim);
        const double turns = (double)original / wavelength;
        const double ramp = (turns - low) / (high - low);
        job->computed[i] = (float)(turns < low    ? factor
                                   : turns > high ? 1
                                                  : 1 / ((1 - ramp) / factor + ramp));
    }
    return hob_import_add_values(job, "rope_freqs.weight", job->computed, count);
}

/* rope_theta and rope_scaling, which newer versions of transformers write together as rope_parameters. */
static int convert_rope(hob_import_job *job, bool known_scaling)
{
    json_t *rope = json_object_get(job->config, "rope_parameters");
    const json_t *theta_of = job->config;
    const char *type = "default";
    double base = 10000;
    if (json_is_object(rope))
        theta_of = rope;
    else
        rope = json_object_get(job->config, "rope_scaling");
    int rc =
        hob_strict_number(HOB_IMPORT_CONFIG, theta_of, "rope_theta", 1, 1e12, &base, job->diag);
    if (rc == 0 || rc == HOB_ENOENT)
        rc = hob_strict_string(HOB_IMPORT_CONFIG, rope, "type", &type, job->diag);
    if (rc == 0 || rc == HOB_ENOENT)
        rc = hob_strict_string(HOB_IMPORT_CONFIG, rope, "rope_type", &type, job->diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    hob_import_put_f32(job, "rope.freq_base", (float)base);
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "llama3") == 0 && known_scaling)
        return add_scaled_frequencies(job, rope, base);
    return hob_fail(job->diag, HOB_EUNSUPPORTED, "%s: rope_scaling: got \"%.40s\", supported %s",
                    HOB_IMPORT_CONFIG, type,
                    known_scaling ? "are default and llama3" : "is default");
}

static int convert(hob_import_job *job, const char *class, const hob_import_spec *specs,
                   size_t count, bool known_scaling)
{
    hob_import_texts texts = {0};
    uint32_t kv_heads = 0;
    double epsilon = 0;
    bool is_tied = false;
    int rc;
    if ((rc = check_variant(job, class)) < 0 || (rc = read_sizes(job, &kv_heads)) < 0)
        return rc;
    rc = hob_strict_number(HOB_IMPORT_CONFIG, job->config, "rms_norm_eps", 1e-30, 1, &epsilon,
                           job->diag);
    if (rc < 0)
        return hob_strict_required(rc);
    rc =
        hob_strict_bool(HOB_IMPORT_CONFIG, job->config, "tie_word_embeddings", &is_tied, job->diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    hob_import_put_common(job);
    hob_import_put_u32(job, "attention.head_count_kv", kv_heads);
    hob_import_put_u32(job, "attention.key_length", job->head_dim);
    hob_import_put_u32(job, "attention.value_length", job->head_dim);
    hob_import_put_f32(job, "attention.layer_norm_rms_epsilon", (float)epsilon);
    hob_import_put_u32(job, "rope.dimension_count", job->head_dim);
    hob_import_put_u32(job, "vocab_size", job->sizes[HOB_SIZE_VOCAB]);
    if ((rc = convert_rope(job, known_scaling)) < 0 ||
        (rc = hob_import_texts_read(job->folder, &texts, job->diag)) < 0)
        return rc;
    rc = hob_import_bpe(&texts, job->config, job->sizes[HOB_SIZE_VOCAB], job->out, job->diag);
    hob_import_texts_free(&texts);
    if (rc < 0 || (rc = hob_import_add(job, specs, count)) < 0)
        return rc;
    return hob_import_add(job, is_tied ? &tied : &output, 1);
}

static int convert_llama(hob_import_job *job)
{
    return convert(job, "LlamaForCausalLM", llama_tensors,
                   sizeof llama_tensors / sizeof *llama_tensors, true);
}

static int convert_qwen2(hob_import_job *job)
{
    return convert(job, "Qwen2ForCausalLM", qwen2_tensors,
                   sizeof qwen2_tensors / sizeof *qwen2_tensors, false);
}

const hob_import_arch hob_import_llama = {
    .model_type = "llama", .architecture = "llama", .convert = convert_llama};
const hob_import_arch hob_import_qwen2 = {
    .model_type = "qwen2", .architecture = "qwen2", .convert = convert_qwen2};
