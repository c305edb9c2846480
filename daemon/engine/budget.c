/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic of an engine's memory. See budget.h. */
#include "daemon/engine/budget.h"

#include "models/kv.h"

enum { CONTEXT_LEAST = 256 };

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

int hob_budget_fit(const hob_budget *b, uint32_t *ret_context, uint32_t *ret_kv_tokens,
                   hob_diag *diag)
{
    uint32_t context = b->context ? b->context : b->context_default;
    const uint32_t needed = b->kv_tokens ? b->kv_tokens : b->context ? b->context : CONTEXT_LEAST;
    uint64_t kv = b->kv_tokens ? b->kv_tokens : 2 * (uint64_t)context;

    if (b->limit_bytes) {
        const uint64_t taken = b->resident_bytes + b->step_bytes,
                       left = b->limit_bytes > taken ? b->limit_bytes - taken : 0,
                       room = left / b->kv_token_bytes / HOB_KV_BLOCK_TOKENS * HOB_KV_BLOCK_TOKENS;
        if (kv > room && !b->kv_tokens)
            kv = room;
        if (context > kv && !b->context)
            context = (uint32_t)kv;
        if (kv > room || context > kv || context < CONTEXT_LEAST)
            return hob_fail(
                diag, HOB_ELIMIT,
                "memory: of %.0f MiB the weights and the program take %.0f, steps and requests "
                "%.0f, so %.0f are left: a KV cache of %llu tokens at %llu bytes; needed are "
                "%u tokens (%.0f MiB)",
                mib(b->limit_bytes), mib(b->resident_bytes), mib(b->step_bytes), mib(left),
                (unsigned long long)room, (unsigned long long)b->kv_token_bytes, needed,
                mib(needed * b->kv_token_bytes));
    }
    *ret_context = context;
    *ret_kv_tokens = hob_kv_blocks_for((uint32_t)kv) * HOB_KV_BLOCK_TOKENS;
    return 0;
}
