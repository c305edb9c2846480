/* SPDX-License-Identifier: Apache-2.0
 *
 * Qwen 3 (Yang et al. 2025), dense and as a mixture of experts: RMSNorm of each head's query and key; the head dimension
 * is not width / heads. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,  HOB_TENSORS_QKV,     HOB_TENSORS_QK_NORM,
    HOB_TENSORS_GATE_UP, HOB_TENSORS_EXPERTS,
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    (void)g;
    (void)diag;
    h->neox = true;
    return 0;
}

const hob_arch hob_arch_qwen3 = {
    .name = "qwen3",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};

const hob_arch hob_arch_qwen3moe = {
    .name = "qwen3moe",
    .experts = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
