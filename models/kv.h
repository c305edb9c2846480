/* SPDX-License-Identifier: Apache-2.0
 *
 * Who owns which KV block, and what the blocks hold that nobody owns. Hands out block ids of a device's arena (hob_kv)
 * and counts their holders; does not touch the arena itself.
 *
 * A full block may be named by what it holds: its tokens, the named block before it, and at the beginning of a sequence the
 * tenant. So named blocks are a forest of prefixes, and a new sequence takes over those that its prompt begins with (Kwon
 * et al. 2023, PagedAttention; Zheng et al. 2024, RadixAttention). Names are compared whole, never by hash alone, and two
 * tenants share no block. A named block without holders stays until its place is needed, the one longest unused first; since
 * a sequence holds the blocks before a block too, and gives the last back first, that is always a leaf.
 * Thread: step, and for hob_kv_prefix_find any. */
#ifndef HOB_MODELS_KV_H
#define HOB_MODELS_KV_H

#include "hal/hal.h"

enum { HOB_KV_NONE = UINT32_MAX }; /* no block */

typedef struct hob_kv_pool hob_kv_pool;

/* kept: named blocks without holders, at most. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_kv_pool_new(uint32_t block_count, uint32_t kept, hob_kv_pool **ret);
void hob_kv_pool_free(hob_kv_pool *p);
uint32_t hob_kv_pool_free_blocks(const hob_kv_pool *p); /* that can be taken, kept ones included */
uint32_t hob_kv_pool_kept_blocks(const hob_kv_pool *p); /* of those, named ones */
static inline uint32_t hob_kv_blocks_for(uint32_t tokens)
{
    return tokens / HOB_KV_BLOCK_TOKENS + (tokens % HOB_KV_BLOCK_TOKENS != 0);
}

/* A block for one holder, its contents undefined; HOB_KV_NONE when all have holders. */
uint32_t hob_kv_pool_take(hob_kv_pool *p);
/* Each block loses a holder. blocks: in order of position, as one sequence held them. */
void hob_kv_pool_give(hob_kv_pool *p, const uint32_t *blocks, uint32_t count);

/* The longest run of named blocks that hold the tokens, behind the named block `parent` (HOB_KV_NONE: from the beginning), at
 * most `most` blocks; their number. ret_blocks may be NULL; another thread than `step` learns no more than the number, since
 * the blocks may have gone when it looks. */
uint32_t hob_kv_prefix_find(hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                            const uint32_t *tokens, uint32_t most, uint32_t *ret_blocks);
/* The named block behind `parent` whose first tokens are most like these: how many are the same, at most `most`; 0 when
 * there is none. It may be copied at once; it is not held. */
uint32_t hob_kv_prefix_part(const hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                            const uint32_t *tokens, uint32_t most, uint32_t *ret_block);
/* One more holder for each of these found blocks. */
void hob_kv_prefix_hold(hob_kv_pool *p, const uint32_t *blocks, uint32_t count);
/* Names a held block, full and computed, that follows the named block `parent` (HOB_KV_NONE: it is the first of its tenant's).
 * tokens: HOB_KV_BLOCK_TOKENS. Returns the block that has that name from now on: this one, or another with the same contents,
 * which has then taken this one's holder over. */
uint32_t hob_kv_prefix_name(hob_kv_pool *p, uint32_t tenant, uint32_t parent, uint32_t block,
                            const uint32_t *tokens);

#endif
