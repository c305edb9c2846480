/* SPDX-License-Identifier: Apache-2.0
 *
 * Gemma (Gemma Team 2024): embeddings scaled by the root of the width, GELU-gated feed-forward, tied embeddings. GGUF's
 * converter has added 1 to the norm weights. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_GATE_UP,
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    (void)g;
    (void)diag;
    h->neox = true;
    h->gate = HOB_GATE_GELU_TANH;
    h->embedding_scale = __builtin_sqrtf((float)h->width);
    return 0;
}

const hob_arch hob_arch_gemma = {
    .name = "gemma",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
