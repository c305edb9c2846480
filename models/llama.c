/* SPDX-License-Identifier: Apache-2.0
 *
 * The llama architecture (Touvron et al. 2023), which Mistral's and Mixtral's files use too: pairs (2i, 2i+1) are rotated, as GGUF's
 * converters permute Q and K. Llama 3.1's scaled frequencies come as rope_freqs.weight. Optionally tied embeddings. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,         HOB_TENSORS_QKV,
    HOB_TENSORS_QKV_BIAS(true), HOB_TENSORS_GATE_UP,
    HOB_TENSORS_EXPERTS,        HOB_MODEL("rope_freqs.weight", rope_factors, 1, HALF_ROT, true),
};

const hob_arch hob_arch_llama = {
    .name = "llama",
    .dense = true,
    .experts = true,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
