/* SPDX-License-Identifier: Apache-2.0
 *
 * How large an engine's KV cache may be within its share of the box's memory, decided before it is allocated. Pure. */
#ifndef HOB_DAEMON_ENGINE_BUDGET_H
#define HOB_DAEMON_ENGINE_BUDGET_H

#include "hal/base.h"

typedef struct hob_budget {
    uint64_t limit_bytes;    /* of the process; 0: none */
    uint64_t resident_bytes; /* held already: weights, tokenizer, program */
    uint64_t
        step_bytes; /* activations and logits of a step, and what requests need beside the cache */
    uint64_t kv_token_bytes;
    uint32_t context;         /* wanted for one request; 0: context_default */
    uint32_t context_default; /* what the model is good for */
    uint32_t kv_tokens;       /* wanted for all; 0: two contexts, or what there is room for */
} hob_budget;

/* Writes context and kv_tokens, a whole number of blocks. What was not asked for by number is made smaller to fit.
 * HOB_ELIMIT with the arithmetic when that is not enough. */
HOB_MUST_CHECK int hob_budget_fit(const hob_budget *b, uint32_t *ret_context,
                                  uint32_t *ret_kv_tokens, hob_diag *diag);

#endif
