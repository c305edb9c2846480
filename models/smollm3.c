/* SPDX-License-Identifier: Apache-2.0
 *
 * SmolLM3: llama, with every fourth layer not rotated (Yang et al. 2025, "RoPE to NoPE and back again"). */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_QKV_BIAS(true),
    HOB_TENSORS_GATE_UP,
    HOB_MODEL("rope_freqs.weight", rope_factors, 1, HALF_ROT, true),
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    (void)g;
    (void)diag;
    h->no_rope_every = 4;
    return 0;
}

const hob_arch hob_arch_smollm3 = {
    .name = "smollm3",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
