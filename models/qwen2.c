/* SPDX-License-Identifier: Apache-2.0
 *
 * Qwen 2 and 2.5 (Yang et al. 2024): biases on Q, K and V; halves are rotated against each other. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_QKV_BIAS(false),
    HOB_TENSORS_GATE_UP,
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    (void)g;
    (void)diag;
    h->neox = true;
    return 0;
}

const hob_arch hob_arch_qwen2 = {
    .name = "qwen2",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
