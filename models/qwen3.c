/* SPDX-License-Identifier: Apache-2.0
 *
 * Qwen 3, dense (Yang et al. 2025): RMSNorm of each head's query and key; the head dimension is not width / heads. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_QK_NORM,
    HOB_TENSORS_GATE_UP,
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
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
