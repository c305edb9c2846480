/* SPDX-License-Identifier: Apache-2.0
 *
 * Who owns which KV block. Hands out block ids of a device's arena (hob_kv) and takes them back; does not touch the
 * arena itself. A sequence's worst case is reserved before it starts, so that taking a block cannot fail in mid-stream.
 * Thread: step. */
#ifndef HOB_MODELS_KV_H
#define HOB_MODELS_KV_H

#include "hal/hal.h"

typedef struct hob_kv_pool hob_kv_pool;

HOB_MUST_CHECK int hob_kv_pool_new(uint32_t block_count, hob_kv_pool **ret);
void hob_kv_pool_free(hob_kv_pool *p);
uint32_t hob_kv_pool_free_blocks(const hob_kv_pool *p); /* neither in use nor reserved */
static inline uint32_t hob_kv_blocks_for(uint32_t tokens)
{
    return tokens / HOB_KV_BLOCK_TOKENS + (tokens % HOB_KV_BLOCK_TOKENS != 0);
}

/* HOB_ENOMEM, with nothing changed, when count blocks are not free. */
HOB_MUST_CHECK int hob_kv_pool_reserve(hob_kv_pool *p, uint32_t count);
void hob_kv_pool_unreserve(hob_kv_pool *p, uint32_t count);
/* Takes one block out of an earlier reservation; the caller must hold one. */
uint32_t hob_kv_pool_take(hob_kv_pool *p);
void hob_kv_pool_give(hob_kv_pool *p, const uint32_t *blocks, uint32_t count);

#endif
