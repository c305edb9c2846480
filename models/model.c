/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading: a GGUF file becomes hyper-parameters, weights on a device, a tokenizer and a chat template; nothing of the
 * file stays mapped. Every tensor's shape must be the one that follows from the hyper-parameters. See model.h. */
#include "models/arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const hob_arch *const architectures[] = {&hob_arch_llama};

static const hob_arch *find_arch(hob_string name)
{
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (strlen(architectures[i]->name) == name.len &&
            memcmp(architectures[i]->name, name.data, name.len) == 0)
            return architectures[i];
    return NULL;
}

static uint32_t dim_of(const hob_hyper *h, hob_dim d)
{
    switch (d) {
    case HOB_DIM_1: return 1;
    case HOB_DIM_WIDTH: return h->width;
    case HOB_DIM_Q: return h->heads * h->head_dim;
    case HOB_DIM_KV: return h->kv_heads * h->head_dim;
    case HOB_DIM_FF: return h->ff;
    case HOB_DIM_VOCAB: return h->vocab;
    case HOB_DIM_HALF_ROT: return h->n_rot / 2;
    }
    return 0;
}

static int load_tensor(hob_model *m, const hob_gguf *g, const hob_tensor_spec *spec, uint32_t layer,
                       hob_weight **slot, hob_diag *diag)
{
    char name[64];
    snprintf(name, sizeof name, spec->name, layer);
    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, name);
    if (!t)
        return spec->optional ? 0 : hob_fail(diag, HOB_EFORMAT, "tensor %s: missing", name);
    uint32_t rows = dim_of(&m->hyper, spec->rows), cols = dim_of(&m->hyper, spec->cols);
    const hob_type_info *type = hob_type_find(t->type);
    if (!type)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tensor %s: GGUF type %u cannot be computed with; known: %s", name, t->type,
                        hob_type_names());
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %s: shape %llu x %llu x %llu x %llu, expected %u x %u", name,
                        (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                        (unsigned long long)t->dims[2], (unsigned long long)t->dims[3], cols, rows);
    if (spec->rows == HOB_DIM_1 && t->type != HOB_TYPE_F32)
        return hob_fail(diag, HOB_EUNSUPPORTED, "tensor %s: type %s, a vector must be F32", name,
                        type->name);
    int rc = hob_gguf_check_size(g, diag);
    if (rc < 0)
        return rc;
    rc = m->dev->ops->weight_upload(m->dev, (hob_type)t->type, rows, cols, t->data, t->bytes, slot,
                                    diag);
    if (rc < 0)
        return rc;
    hob_gguf_drop(g, t);
    m->info.parameters += (uint64_t)rows * cols;
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
    if (!m->weights.output)
        m->weights.output = m->weights.embedding;
    return 0;
}

static int load_template(hob_model *m, const hob_gguf *g, hob_diag *diag)
{
    hob_string source;
    int rc = hob_gguf_string(g, "tokenizer.chat_template", &source, diag);
    if (rc == HOB_ENOENT)
        return 0;
    return rc < 0 ? rc : hob_template_compile(source.data, source.len, &m->chat_template, diag);
}

static void name_model(hob_model *m, const hob_gguf *g, const char *path)
{
    hob_string name;
    const char *slash = strrchr(path, '/');
    snprintf(m->info.name, sizeof m->info.name, "%s", slash ? slash + 1 : path);
    if (hob_gguf_string(g, "general.name", &name, NULL) == 0 && name.len > 0)
        snprintf(m->info.name, sizeof m->info.name, "%.*s", (int)(name.len < 63 ? name.len : 63),
                 name.data);
}

int hob_model_open(const char *path, hob_device *dev, hob_model **ret, hob_diag *diag)
{
    hob_gguf *g = NULL;
    hob_string arch;
    hob_model *m = calloc(1, sizeof *m);
    if (!m)
        return hob_fail(diag, HOB_ENOMEM, "model: no memory");
    m->dev = dev;
    uint64_t before = dev->resident_bytes;
    int rc = hob_gguf_open(path, &g, diag);
    if (rc < 0)
        goto fail;
    if ((rc = hob_gguf_string(g, "general.architecture", &arch, diag)) < 0) {
        rc = rc == HOB_ENOENT ? hob_fail(diag, HOB_EFORMAT, "general.architecture: missing") : rc;
        goto fail;
    }
    m->arch = find_arch(arch);
    if (!m->arch) {
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "general.architecture: \"%.*s\" is not known; known: llama",
                      (int)(arch.len < 64 ? arch.len : 64), arch.data);
        goto fail;
    }
    if ((rc = m->arch->read_hyper(g, &m->hyper, diag)) < 0 ||
        (rc = hob_tokenizer_open(g, &m->tokenizer, diag)) < 0)
        goto fail;
    m->hyper.vocab = hob_tokenizer_size(m->tokenizer);
    if ((rc = load_template(m, g, diag)) < 0 || (rc = load_weights(m, g, diag)) < 0)
        goto fail;
    name_model(m, g, path);
    snprintf(m->info.architecture, sizeof m->info.architecture, "%s", m->arch->name);
    m->info.layers = m->hyper.layers;
    m->info.width = m->hyper.width;
    m->info.heads = m->hyper.heads;
    m->info.kv_heads = m->hyper.kv_heads;
    m->info.head_dim = m->hyper.head_dim;
    m->info.vocab = m->hyper.vocab;
    m->info.context_train = m->hyper.context_train;
    m->info.file_bytes = hob_gguf_file_bytes(g);
    m->info.weight_bytes = dev->resident_bytes - before;
    hob_gguf_close(g);
    *ret = m;
    return 0;

fail:
    hob_gguf_close(g);
    hob_model_close(m);
    return rc;
}

void hob_model_close(hob_model *m)
{
    if (!m)
        return;
    if (m->arch) {
        if (m->weights.output == m->weights.embedding)
            m->weights.output = NULL;
        for (size_t i = 0; i < m->arch->tensor_count; i++) {
            const hob_tensor_spec *spec = &m->arch->tensors[i];
            for (uint32_t l = 0; l < (spec->per_layer ? m->hyper.layers : 1); l++) {
                char *base = spec->per_layer ? (char *)&m->weights.layers[l] : (char *)&m->weights;
                if (spec->per_layer && !m->weights.layers)
                    break;
                m->dev->ops->weight_free(m->dev, *(hob_weight **)(base + spec->slot));
            }
        }
    }
    free(m->weights.layers);
    hob_template_free(m->chat_template);
    hob_tokenizer_close(m->tokenizer);
    free(m);
}

const hob_model_info *hob_model_get_info(const hob_model *m)
{
    return &m->info;
}

const hob_tokenizer *hob_model_tokenizer(const hob_model *m)
{
    return m->tokenizer;
}

const hob_template *hob_model_template(const hob_model *m)
{
    return m->chat_template;
}
