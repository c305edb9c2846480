/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading: a GGUF file becomes hyper-parameters, weights on a device, a tokenizer and a chat template; nothing of the
 * file stays mapped. Every tensor's shape must be the one that follows from the hyper-parameters. See model.h. */
#include "models/arch.h"
#include "models/digest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Matrices of that name, one after another in the file. */
static uint32_t matrix_count(const hob_hyper *h, const hob_tensor_spec *spec)
{
    return spec->experts && spec->rows != HOB_DIM_EXPERTS ? h->experts : 1;
}

/* The name of a tensor, and the tensor when it has the shape and a type that its row of the table asks for.
 * *ret NULL: it is not there and need not be, or this model has no such tensor. */
static int find_tensor(const hob_gguf *g, const hob_hyper *h, const hob_tensor_spec *spec,
                       uint32_t layer, const hob_gguf_tensor **ret, hob_diag *diag)
{
    char name[64];
    snprintf(name, sizeof name, spec->name, layer);
    *ret = NULL;
    if (h->experts ? spec->dense : spec->experts)
        return 0;
    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, name);
    *ret = t;
    if (!t)
        return spec->optional ? 0 : hob_fail(diag, HOB_EFORMAT, "tensor %s: missing", name);
    uint64_t rows = hob_hyper_dim(h, spec->rows), cols = hob_hyper_dim(h, spec->cols);
    const uint64_t count = matrix_count(h, spec);
    if (spec->part_count)
        rows = 0;
    for (uint32_t i = 0; i < spec->part_count; i++)
        rows += hob_hyper_dim(h, spec->parts[i]);
    const hob_type_info *type = hob_type_find(t->type);
    if (!type)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tensor %s: type %s (%u) cannot be computed with; known: %s", name,
                        hob_gguf_type_name(t->type), t->type, hob_type_names());
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != count || t->dims[3] != 1)
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %s: shape %llu x %llu x %llu x %llu, expected %llu x %llu x %llu",
                        name, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                        (unsigned long long)t->dims[2], (unsigned long long)t->dims[3],
                        (unsigned long long)cols, (unsigned long long)rows,
                        (unsigned long long)count);
    if (spec->rows == HOB_DIM_1 && t->type != HOB_TYPE_F32)
        return hob_fail(diag, HOB_EUNSUPPORTED, "tensor %s: type %s, a vector must be F32", name,
                        type->name);
    return 0;
}

/* A vector whose values hob multiplies with a factor on the way. */
static int upload_scaled(hob_model *m, const hob_gguf_tensor *t, float factor, hob_weight **slot,
                         hob_diag *diag)
{
    const uint32_t cols = (uint32_t)t->dims[0];
    float *scaled = malloc(t->bytes);
    if (!scaled)
        return hob_fail(diag, HOB_ENOMEM, "model: no memory for %u weights", cols);
    memcpy(scaled, t->data, t->bytes);
    for (uint32_t i = 0; i < cols; i++)
        scaled[i] *= factor;
    int rc =
        m->dev->ops->weight_upload(m->dev, HOB_TYPE_F32, 1, cols, scaled, t->bytes, slot, diag);
    free(scaled);
    return rc;
}

static int load_tensor(hob_model *m, const hob_gguf *g, const hob_tensor_spec *spec, uint32_t layer,
                       hob_weight **slot, hob_diag *diag)
{
    const hob_gguf_tensor *t;
    int rc = find_tensor(g, &m->hyper, spec, layer, &t, diag);
    if (rc < 0 || !t || spec->by_hand || (rc = hob_gguf_check_size(g, diag)) < 0)
        return rc;
    const uint32_t cols = (uint32_t)t->dims[0], count = matrix_count(&m->hyper, spec),
                   rows = hob_hyper_dim(&m->hyper, spec->rows) * count;
    const size_t row_bytes = t->bytes / ((size_t)t->dims[1] * count);
    size_t first = 0; /* row of the tensor */
    for (uint32_t i = 0; i < spec->part; i++)
        first += hob_hyper_dim(&m->hyper, spec->parts[i]);
    if (slot == &m->weights.output_norm && m->hyper.logit_divisor != 1)
        rc = upload_scaled(m, t, 1 / m->hyper.logit_divisor, slot, diag);
    else
        rc = m->dev->ops->weight_upload(m->dev, (hob_type)t->type, rows, cols,
                                        (const uint8_t *)t->data + first * row_bytes,
                                        rows * row_bytes, slot, diag);
    if (rc < 0)
        return rc;
    if (!spec->part_count || spec->part == spec->part_count - 1)
        hob_gguf_drop(g, t);
    return 0;
}

static int load_weights(hob_model *m, const hob_gguf *g, hob_diag *diag)
{
    m->weights.layers = calloc(m->hyper.layers, sizeof *m->weights.layers);
    if (!m->weights.layers)
        return hob_fail(diag, HOB_ENOMEM, "model: no memory for %u layers", m->hyper.layers);
    for (size_t i = 0; i < m->arch->tensor_count; i++) {
        const hob_tensor_spec *spec = &m->arch->tensors[i];
        for (uint32_t l = 0; l < (spec->per_layer ? m->hyper.layers : 1); l++) {
            char *base = spec->per_layer ? (char *)&m->weights.layers[l] : (char *)&m->weights;
            int rc = load_tensor(m, g, spec, l, (hob_weight **)(base + spec->slot), diag);
            if (rc < 0)
                return rc;
        }
    }
    if (m->arch->load)
        return m->arch->load(m, g, diag);
    if (!m->weights.output)
        m->weights.output = m->weights.embedding;
    if (m->hyper.original_context && (!m->weights.rope_long || !m->weights.rope_short))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s.rope.scaling.type is longrope: rope_factors_long.weight and "
                        "rope_factors_short.weight are needed",
                        m->arch->name);
    if (m->hyper.factors && !m->weights.rope_factors) {
        const uint32_t half = m->hyper.n_rot / 2;
        return m->dev->ops->weight_upload(m->dev, HOB_TYPE_F32, 1, half, m->hyper.factors,
                                          half * sizeof *m->hyper.factors, &m->weights.rope_factors,
                                          diag);
    }
    return 0;
}

static int load_template(hob_model *m, const hob_gguf *g, hob_diag *diag)
{
    int rc = hob_template_of_file(g, m->tokenizer, &m->chat_template, diag);
    return rc == HOB_ENOENT ? 0 : rc;
}

/* What the file says of itself: its architecture, checked hyper-parameters and tensors. h->factors is from malloc. */
static int read_description(const hob_gguf *g, const char *path, const hob_arch **ret_arch,
                            hob_hyper *h, hob_model_info *info, hob_diag *diag)
{
    hob_string name;
    uint64_t vocab;
    int rc = hob_gguf_string(g, "general.architecture", &name, diag);
    if (rc < 0)
        return rc == HOB_ENOENT ? hob_fail(diag, HOB_EFORMAT, "general.architecture: missing") : rc;
    const hob_arch *arch = hob_arch_find(name);
    if (!arch) {
        char known[256];
        hob_arch_names(known, sizeof known);
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "general.architecture: \"%.*s\" is not known; known: %s",
                        (int)(name.len < 64 ? name.len : 64), name.data, known);
    }
    if ((rc = hob_hyper_read(g, arch, h, diag)) < 0)
        return rc;
    if ((rc = hob_gguf_array_strings(g, "tokenizer.ggml.tokens", &vocab, diag)) < 0)
        return rc == HOB_ENOENT ? hob_fail(diag, HOB_EFORMAT, "tokenizer.ggml.tokens: missing")
                                : rc;
    if (vocab == 0 || vocab > 1u << 24)
        return hob_fail(diag, HOB_EFORMAT,
                        "tokenizer.ggml.tokens: %llu tokens, allowed are 1 to %u",
                        (unsigned long long)vocab, 1u << 24);
    h->vocab = (uint32_t)vocab;
    if (h->attention_scale == 0)
        h->attention_scale = 1.0f / sqrtf((float)h->head_dim);
    *info = (hob_model_info){.layers = h->layers,
                             .width = h->width,
                             .heads = h->heads,
                             .kv_heads = h->kv_heads,
                             .head_dim = h->head_dim,
                             .ff = h->ff,
                             .vocab = h->vocab,
                             .context_train = h->context_train,
                             .window = h->window,
                             .pooling = h->pooling,
                             .experts = h->experts,
                             .experts_used = h->experts_used,
                             .row_bytes = hob_hyper_row_bytes(h),
                             .file_bytes = hob_gguf_file_bytes(g)};
    snprintf(info->architecture, sizeof info->architecture, "%s", arch->name);
    const char *slash = strrchr(path, '/');
    snprintf(info->name, sizeof info->name, "%s", slash ? slash + 1 : path);
    if (hob_gguf_string(g, "general.name", &name, NULL) == 0 && name.len > 0)
        snprintf(info->name, sizeof info->name, "%.*s", (int)(name.len < 63 ? name.len : 63),
                 name.data);
    for (size_t i = 0; i < arch->tensor_count; i++)
        for (uint32_t l = 0; l < (arch->tensors[i].per_layer ? h->layers : 1); l++) {
            const hob_gguf_tensor *t;
            if ((rc = find_tensor(g, h, &arch->tensors[i], l, &t, diag)) < 0)
                return rc;
            if (t && arch->tensors[i].part == 0) {
                info->parameters += t->dims[0] * t->dims[1] * t->dims[2];
                info->weight_bytes += t->bytes;
            }
        }
    *ret_arch = arch;
    return 0;
}

int hob_model_inspect(const hob_gguf *g, const char *path, hob_model_info *ret, hob_diag *diag)
{
    hob_model m = {0};
    int rc = read_description(g, path, &m.arch, &m.hyper, &m.info, diag);
    if (rc == 0 && (rc = hob_tokenizer_open(g, &m.tokenizer, diag)) == 0)
        rc = load_template(&m, g, diag);
    m.info.has_template = m.chat_template;
    free(m.hyper.factors);
    hob_template_free(m.chat_template);
    hob_tokenizer_close(m.tokenizer);
    if (rc == 0)
        *ret = m.info;
    return rc;
}

uint64_t hob_model_kv_token_bytes(const hob_model_info *info, hob_type kv_type)
{
    const uint64_t each = kv_type == HOB_TYPE_Q8_0 ? info->head_dim + (info->head_dim + 31) / 32 * 2
                                                   : 2 * (uint64_t)info->head_dim;
    return info->pooling == HOB_POOLING_NONE ? 2 * each * info->layers * info->kv_heads : 0;
}

int hob_model_open(const char *path, hob_device *dev, hob_model **ret, hob_diag *diag)
{
    return hob_model_open_checked(path, NULL, dev, ret, diag);
}

/* Takes the job over. */
static int check_digest(hob_digest_job *job, const char *path, const uint8_t *wanted,
                        hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
    char texts[2][HOB_DIGEST_TEXT];
    const char *slash = strrchr(path, '/');
    const int rc = hob_digest_wait(job, digest, diag);
    if (rc < 0 || memcmp(digest, wanted, sizeof digest) == 0)
        return rc;
    hob_digest_text(digest, texts[0]);
    hob_digest_text(wanted, texts[1]);
    return hob_fail(diag, HOB_EDIGEST, "%.60s: its SHA-256 is %s, wanted is %s",
                    slash ? slash + 1 : path, texts[0], texts[1]);
}

int hob_model_open_checked(const char *path, const uint8_t *sha256, hob_device *dev,
                           hob_model **ret, hob_diag *diag)
{
    hob_gguf *g = NULL;
    hob_digest_job *job = NULL;
    hob_model *m = calloc(1, sizeof *m);
    if (!m)
        return hob_fail(diag, HOB_ENOMEM, "model: no memory");
    m->dev = dev;
    uint64_t before = dev->resident_bytes;
    int rc = hob_gguf_open(path, &g, diag);
    if (rc == 0 && sha256)
        rc = hob_digest_start(hob_gguf_fd(g), &job, diag);
    if (rc < 0 || (rc = read_description(g, path, &m->arch, &m->hyper, &m->info, diag)) < 0 ||
        (rc = hob_tokenizer_open(g, &m->tokenizer, diag)) < 0 ||
        (rc = load_template(m, g, diag)) < 0 || (rc = load_weights(m, g, diag)) < 0)
        goto fail;
    if (job) {
        rc = check_digest(job, path, sha256, diag);
        job = NULL;
        if (rc < 0)
            goto fail;
    }
    m->info.has_template = m->chat_template;
    m->info.weight_bytes = dev->resident_bytes - before;
    hob_gguf_close(g);
    *ret = m;
    return 0;

fail:
    hob_digest_drop(job);
    hob_gguf_close(g);
    hob_model_close(m);
    return rc;
}

/* Two rows of a table may have one slot. */
static void free_weight(hob_model *m, hob_weight **slot)
{
    m->dev->ops->weight_free(m->dev, *slot);
    *slot = NULL;
}

void hob_model_close(hob_model *m)
{
    if (!m)
        return;
    if (m->weights.layers) {
        if (m->weights.output == m->weights.embedding)
            m->weights.output = NULL;
        free_weight(m, &m->weights.rope_factors); /* computed, it may be in no table */
        free_weight(m, &m->weights.positions);
        for (size_t i = 0; i < m->arch->tensor_count; i++) {
            const hob_tensor_spec *spec = &m->arch->tensors[i];
            for (uint32_t l = 0; !spec->by_hand && l < (spec->per_layer ? m->hyper.layers : 1);
                 l++) {
                char *base = spec->per_layer ? (char *)&m->weights.layers[l] : (char *)&m->weights;
                free_weight(m, (hob_weight **)(base + spec->slot));
            }
        }
    }
    free(m->hyper.factors);
    free(m->weights.layers);
    hob_template_free(m->chat_template);
    hob_tokenizer_close(m->tokenizer);
    free(m);
}

const hob_model_info *hob_model_get_info(const hob_model *m)
{
    return &m->info;
}

const hob_device *hob_model_device(const hob_model *m)
{
    return m->dev;
}

const hob_tokenizer *hob_model_tokenizer(const hob_model *m)
{
    return m->tokenizer;
}

const hob_template *hob_model_template(const hob_model *m)
{
    return m->chat_template;
}
