/* SPDX-License-Identifier: Apache-2.0
 *
 * Granite 3 and 4 (IBM), dense and as a mixture of experts: llama with four scales: of embeddings, attention, residual branches and logits. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_GATE_UP,
    HOB_TENSORS_EXPERTS,
    HOB_MODEL("rope_freqs.weight", rope_factors, 1, HALF_ROT, true),
};

static int read_scales(const hob_gguf *g, const hob_arch *arch, hob_hyper *h, hob_diag *diag)
{
    float logit = 1;
    int rc;

    if ((rc = hob_hyper_f32(g, arch, "embedding_scale", 1e-6f, 1e6f, &h->embedding_scale, diag)) <
            0 ||
        (rc = hob_hyper_f32(g, arch, "attention.scale", 1e-6f, 1e6f, &h->attention_scale, diag)) <
            0 ||
        (rc = hob_hyper_f32(g, arch, "residual_scale", 1e-6f, 1e6f, &h->residual_scale, diag)) <
            0 ||
        (rc = hob_hyper_f32(g, arch, "logit_scale", 1e-6f, 1e6f, &logit, diag)) < 0)
        return rc;
    h->logit_divisor = logit;
    return 0;
}

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    return read_scales(g, h->experts ? &hob_arch_granitemoe : &hob_arch_granite, h, diag);
}

const hob_arch hob_arch_granite = {
    .name = "granite",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};

const hob_arch hob_arch_granitemoe = {
    .name = "granitemoe",
    .experts = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
