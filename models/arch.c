/* SPDX-License-Identifier: Apache-2.0
 *
 * The architectures that are known, and the hyper-parameters that they share. A variant that the graph would silently
 * compute wrongly is refused here by name and value. */
#include "models/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const hob_arch *const architectures[] = {
    &hob_arch_llama, &hob_arch_qwen2,   &hob_arch_qwen3,   &hob_arch_qwen3moe,
    &hob_arch_gemma, &hob_arch_gemma3,  &hob_arch_granite, &hob_arch_granitemoe,
    &hob_arch_phi3,  &hob_arch_smollm3, &hob_arch_bert,
};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures, KEY_MAX = 96 };

static bool string_is(hob_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

const hob_arch *hob_arch_find(hob_string name)
{
    for (size_t i = 0; i < ARCHITECTURES; i++)
        if (string_is(name, architectures[i]->name))
            return architectures[i];
    return NULL;
}

void hob_arch_names(char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < ARCHITECTURES && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? " " : "",
                                 architectures[i]->name);
}

uint32_t hob_hyper_dim(const hob_hyper *h, hob_dim d)
{
    switch (d) {
    case HOB_DIM_1: return 1;
    case HOB_DIM_WIDTH: return h->width;
    case HOB_DIM_Q: return h->heads * h->head_dim;
    case HOB_DIM_KV: return h->kv_heads * h->head_dim;
    case HOB_DIM_HEAD: return h->head_dim;
    case HOB_DIM_FF: return h->ff;
    case HOB_DIM_EXPERTS: return h->experts;
    case HOB_DIM_VOCAB: return h->vocab;
    case HOB_DIM_HALF_ROT: return h->n_rot / 2;
    case HOB_DIM_CONTEXT: return h->context_train;
    case HOB_DIM_TOKEN_TYPES: return h->token_types;
    }
    return 0;
}

static const char *key_of(const hob_arch *arch, const char *name, char key[KEY_MAX])
{
    snprintf(key, KEY_MAX, "%s.%s", arch->name, name);
    return key;
}

int hob_hyper_u32(const hob_gguf *g, const hob_arch *arch, const char *name, uint32_t min,
                  uint32_t max, uint32_t *ret, hob_diag *diag)
{
    char key[KEY_MAX];
    uint64_t v;
    int rc = hob_gguf_u64(g, key_of(arch, name, key), min, max, &v, diag);
    if (rc == 0)
        *ret = (uint32_t)v;
    return rc == HOB_ENOENT ? 0 : rc;
}

int hob_hyper_f32(const hob_gguf *g, const hob_arch *arch, const char *name, float min, float max,
                  float *ret, hob_diag *diag)
{
    char key[KEY_MAX];
    int rc = hob_gguf_f32(g, key_of(arch, name, key), min, max, ret, diag);
    return rc == HOB_ENOENT ? 0 : rc;
}

/* Missing: *ret stays 0, which is outside all bounds. */
static int required_u32(const hob_gguf *g, const hob_arch *arch, const char *name, uint32_t max,
                        uint32_t *ret, hob_diag *diag)
{
    *ret = 0;
    int rc = hob_hyper_u32(g, arch, name, 1, max, ret, diag);
    if (rc == 0 && *ret == 0)
        return hob_fail(diag, HOB_EFORMAT, "%s.%s: missing, and the architecture needs it",
                        arch->name, name);
    return rc;
}

/* YaRN (Peng et al. 2023, section 3.2): dimensions that turn often keep their frequency, those that turn less than once
 * in the original context are interpolated, with a ramp between. As divisors of the unscaled frequency. */
static int yarn_factors(const hob_gguf *g, const hob_arch *arch, float factor, hob_hyper *h,
                        hob_diag *diag)
{
    uint32_t original = h->context_train, half = h->n_rot / 2;
    float fast = 32, slow = 1;
    int rc;
    if ((rc = hob_hyper_u32(g, arch, "rope.scaling.original_context_length", 1, 1 << 30, &original,
                            diag)) < 0 ||
        (rc = hob_hyper_f32(g, arch, "rope.scaling.yarn_beta_fast", 1e-3f, 1e6f, &fast, diag)) <
            0 ||
        (rc = hob_hyper_f32(g, arch, "rope.scaling.yarn_beta_slow", 1e-3f, 1e6f, &slow, diag)) < 0)
        return rc;
    h->factors = malloc(half * sizeof *h->factors);
    if (!h->factors)
        return hob_fail(diag, HOB_ENOMEM, "out of memory for YaRN's %u factors", half);
    const double turn = 2 * 3.14159265358979323846, spread = 2 * log(h->freq_base);
    double low = floor(h->n_rot * log(original / (fast * turn)) / spread),
           high = ceil(h->n_rot * log(original / (slow * turn)) / spread);
    low = low > 0 ? low : 0;
    high = high < h->n_rot - 1 ? high : h->n_rot - 1;
    const double width = high - low > 0.001 ? high - low : 0.001;
    for (uint32_t i = 0; i < half; i++) {
        double ramp = (i - low) / width;
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        h->factors[i] = (float)(1 / (ramp / factor + (1 - ramp)));
    }
    h->magnitude = 1 + 0.1f * logf(factor);
    return 0;
}

static int read_rope_scaling(const hob_gguf *g, const hob_arch *arch, hob_hyper *h, hob_diag *diag)
{
    char key[KEY_MAX];
    hob_string type = {.data = "linear", .len = 6};
    float factor = 1;
    int rc = hob_gguf_string(g, key_of(arch, "rope.scaling.type", key), &type, diag);
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    if ((rc = hob_hyper_f32(g, arch, "rope.scale_linear", 0, 1e6f, &factor, diag)) < 0 ||
        (rc = hob_hyper_f32(g, arch, "rope.scaling.factor", 0, 1e6f, &factor, diag)) < 0)
        return rc;
    if (factor == 0) /* written where there is none */
        factor = 1;
    if (string_is(type, "none"))
        return 0;
    if (string_is(type, "linear")) {
        h->freq_scale = 1 / factor;
        return 0;
    }
    if (string_is(type, "yarn"))
        return factor > 1 ? yarn_factors(g, arch, factor, h, diag) : 0;
    if (string_is(type, "longrope")) {
        h->original_context = h->context_train;
        if ((rc = hob_hyper_u32(g, arch, "rope.scaling.original_context_length", 1, 1 << 30,
                                &h->original_context, diag)) < 0)
            return rc;
        return hob_hyper_f32(g, arch, "rope.scaling.attn_factor", 1e-3f, 1e3f, &h->magnitude, diag);
    }
    return hob_fail(
        diag, HOB_EUNSUPPORTED, "%s: \"%.*s\" is not known; known: none linear yarn longrope",
        key_of(arch, "rope.scaling.type", key), (int)(type.len < 32 ? type.len : 32), type.data);
}

/* Of a mixture, ff is that of one expert. */
static int read_experts(const hob_gguf *g, const hob_arch *arch, hob_hyper *h, hob_diag *diag)
{
    uint32_t shared = 0;
    int rc;
    if ((rc = hob_hyper_u32(g, arch, "expert_count", 0, HOB_EXPERTS_MAX, &h->experts, diag)) < 0)
        return rc;
    if (h->experts > 0 ? !arch->experts : !arch->dense)
        return hob_fail(diag, HOB_EUNSUPPORTED, "%s.expert_count: %u, %s", arch->name, h->experts,
                        h->experts > 0 ? "this architecture is only known without experts"
                                       : "the architecture needs experts");
    if (h->experts == 0)
        return 0;
    if ((rc = required_u32(g, arch, "expert_used_count", h->experts, &h->experts_used, diag)) < 0 ||
        (rc = hob_hyper_u32(g, arch, "expert_feed_forward_length", 1, 1 << 20, &h->ff, diag)) < 0 ||
        (rc = hob_hyper_u32(g, arch, "expert_shared_feed_forward_length", 0, UINT32_MAX, &shared,
                            diag)) < 0)
        return rc;
    if (shared > 0)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s.expert_shared_feed_forward_length: %u, shared experts are not known",
                        arch->name, shared);
    if (h->ff % 16 || h->width % 16)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: experts of %u by %u, both must be multiples of 16", arch->name, h->ff,
                        h->width);
    return 0;
}

static int read_common(const hob_gguf *g, const hob_arch *arch, hob_hyper *h, hob_diag *diag)
{
    char key[KEY_MAX];
    uint32_t value_length;
    int rc;

    if ((rc = required_u32(g, arch, "block_count", HOB_LAYERS_MAX, &h->layers, diag)) < 0 ||
        (rc = required_u32(g, arch, "embedding_length", 65536, &h->width, diag)) < 0 ||
        (rc = required_u32(g, arch, "feed_forward_length", 1 << 20, &h->ff, diag)) < 0 ||
        (rc = required_u32(g, arch, "attention.head_count", 1024, &h->heads, diag)) < 0 ||
        (rc = required_u32(g, arch, "context_length", 1 << 30, &h->context_train, diag)) < 0)
        return rc;
    h->kv_heads = h->heads;
    h->head_dim = h->width / h->heads;
    if ((rc = hob_hyper_u32(g, arch, "attention.head_count_kv", 1, 1024, &h->kv_heads, diag)) < 0 ||
        (rc = hob_hyper_u32(g, arch, "attention.key_length", 1, 1024, &h->head_dim, diag)) < 0)
        return rc;
    h->n_rot = value_length = h->head_dim;
    if ((rc = hob_hyper_u32(g, arch, "attention.value_length", 1, 1024, &value_length, diag)) < 0 ||
        (rc = hob_hyper_u32(g, arch, "rope.dimension_count", 1, 1024, &h->n_rot, diag)) < 0 ||
        (rc = hob_hyper_f32(g, arch, "rope.freq_base", 1, 1e12f, &h->freq_base, diag)) < 0)
        return rc;
    rc = hob_gguf_f32(
        g,
        key_of(arch,
               arch->encoder ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
               key),
        0, 1, &h->norm_eps, diag);
    if (rc < 0)
        return rc == HOB_ENOENT ? hob_fail(diag, HOB_EFORMAT, "%s: missing", key) : rc;
    if (value_length != h->head_dim)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s.attention.value_length: %u, only key_length (%u) is known", arch->name,
                        value_length, h->head_dim);
    if (h->heads % h->kv_heads)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s.attention.head_count: %u is no multiple of head_count_kv %u",
                        arch->name, h->heads, h->kv_heads);
    if (h->n_rot > h->head_dim || h->n_rot % 2)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s.rope.dimension_count: %u, must be even and at most %u", arch->name,
                        h->n_rot, h->head_dim);
    if (h->head_dim == 0 || h->head_dim % 32 || h->head_dim > 512)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: head dimension %u, must be a multiple of 32, at most 512", arch->name,
                        h->head_dim);
    if ((rc = read_experts(g, arch, h, diag)) < 0)
        return rc;
    return read_rope_scaling(g, arch, h, diag);
}

int hob_hyper_read(const hob_gguf *g, const hob_arch *arch, hob_hyper *ret, hob_diag *diag)
{
    hob_hyper h = {.freq_base = 10000,
                   .freq_scale = 1,
                   .magnitude = 1,
                   .gate = HOB_GATE_SILU,
                   .embedding_scale = 1,
                   .residual_scale = 1,
                   .logit_divisor = 1};
    int rc = read_common(g, arch, &h, diag);
    if (rc >= 0 && arch->read_hyper)
        rc = arch->read_hyper(g, &h, diag);
    if (rc < 0) {
        free(h.factors);
        return rc;
    }
    *ret = h;
    return 0;
}
