/* SPDX-License-Identifier: Apache-2.0
 *
 * Gemma 3, text (Gemma Team 2025): as Gemma, with RMSNorm of queries and keys and of what a branch adds; five of six
 * layers see a sliding window and have their own rope base. */
#include "models/arch.h"

static const hob_tensor_spec tensors[] = {
    HOB_TENSORS_COMMON,
    HOB_TENSORS_QKV,
    HOB_TENSORS_QK_NORM,
    HOB_TENSORS_GATE_UP,
    HOB_LAYER("blk.%u.post_attention_norm.weight", attn_post_norm, 1, WIDTH, false),
    HOB_LAYER("blk.%u.post_ffw_norm.weight", ffn_post_norm, 1, WIDTH, false),
};

static int read_hyper(const hob_gguf *g, hob_hyper *h, hob_diag *diag)
{
    const hob_arch *arch = &hob_arch_gemma3;
    float softcap = 0;
    int rc;

    h->neox = true;
    h->gate = HOB_GATE_GELU_TANH;
    h->embedding_scale = __builtin_sqrtf((float)h->width);
    h->post_norms = true;
    h->global_every = 6;
    h->local_freq_base = 10000;
    if (h->layers == 62) /* the 27B was trained with another scale, which its file does not say */
        h->attention_scale = 1.0f / __builtin_sqrtf((float)(h->width / h->heads));
    if ((rc = hob_hyper_u32(g, arch, "attention.sliding_window", 0, 1 << 30, &h->window, diag)) <
            0 ||
        (rc = hob_hyper_u32(g, arch, "attention.sliding_window_pattern", 0, HOB_LAYERS_MAX,
                            &h->global_every, diag)) < 0 ||
        (rc = hob_hyper_f32(g, arch, "rope.freq_base_swa", 1, 1e12f, &h->local_freq_base, diag)) <
            0 ||
        (rc = hob_hyper_f32(g, arch, "final_logit_softcapping", 0, 1e6f, &softcap, diag)) < 0)
        return rc;
    if (softcap != 0)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "gemma3.final_logit_softcapping: %g, only 0 is known", (double)softcap);
    return 0;
}

const hob_arch hob_arch_gemma3 = {
    .name = "gemma3",
    .dense = true,
    .read_hyper = read_hyper,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .graph = hob_decoder_graph,
};
