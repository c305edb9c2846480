/* SPDX-License-Identifier: Apache-2.0
 *
 * Phi 3, 3.5 and 4 (Abdin et al. 2024): Q, K and V in one matrix, gate and up in another, halves rotated against each
 * other; LongRoPE's factors (Ding et al. 2024) for contexts up to the original one, and beyond. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_LAYER_PART("blk.%u.attn_qkv.weight", q, Q, WIDTH, 0, 3, HOB_DIM_Q, HOB_DIM_KV, HOB_DIM_KV),
    HOB_LAYER_PART("blk.%u.attn_qkv.weight", k, KV, WIDTH, 1, 3, HOB_DIM_Q, HOB_DIM_KV, HOB_DIM_KV),
    HOB_LAYER_PART("blk.%u.attn_qkv.weight", v, KV, WIDTH, 2, 3, HOB_DIM_Q, HOB_DIM_KV, HOB_DIM_KV),
    HOB_LAYER_PART("blk.%u.ffn_up.weight", gate, FF, WIDTH, 0, 2, HOB_DIM_FF, HOB_DIM_FF),
    HOB_LAYER_PART("blk.%u.ffn_up.weight", up, FF, WIDTH, 1, 2, HOB_DIM_FF, HOB_DIM_FF),
    HOB_MODEL("rope_factors_long.weight", rope_long, 1, HALF_ROT, true),
    HOB_MODEL("rope_factors_short.weight", rope_short, 1, HALF_ROT, true),
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    h->neox = true;
    return hob_hyper_u32(g, &hob_arch_phi3, "attention.sliding_window", 0, 1 << 30, &h->window,
                         diag);
}

const hob_arch hob_arch_phi3 = {
    .name = "phi3",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
