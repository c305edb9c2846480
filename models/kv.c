/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV block allocator: a stack of free ids and a count of promised ones. See kv.h. */
#include "models/kv.h"

#include <assert.h>
#include <stdlib.h>

struct hob_kv_pool {
    uint32_t block_count, free_count, reserved;
    uint32_t *free_list; /* [block_count], free_count valid; last in, first out keeps caches warm */
};

int hob_kv_pool_new(uint32_t block_count, hob_kv_pool **ret)
{
    hob_kv_pool *p = calloc(1, sizeof *p);
    if (!p)
        return HOB_ENOMEM;
    p->free_list = calloc(block_count ? block_count : 1, sizeof *p->free_list);
    if (!p->free_list) {
        free(p);
        return HOB_ENOMEM;
    }
    p->block_count = p->free_count = block_count;
    for (uint32_t i = 0; i < block_count; i++)
        p->free_list[i] = block_count - 1 - i;
    *ret = p;
    return 0;
}

void hob_kv_pool_free(hob_kv_pool *p)
{
    if (!p)
        return;
    free(p->free_list);
    free(p);
}

uint32_t hob_kv_pool_free_blocks(const hob_kv_pool *p)
{
    return p->free_count - p->reserved;
}

int hob_kv_pool_reserve(hob_kv_pool *p, uint32_t count)
{
    if (count > hob_kv_pool_free_blocks(p))
        return HOB_ENOMEM;
    p->reserved += count;
    return 0;
}

void hob_kv_pool_unreserve(hob_kv_pool *p, uint32_t count)
{
    assert(count <= p->reserved);
    p->reserved -= count;
}

uint32_t hob_kv_pool_take(hob_kv_pool *p)
{
    assert(p->reserved > 0 && p->free_count > 0);
    p->reserved--;
    return p->free_list[--p->free_count];
}

void hob_kv_pool_give(hob_kv_pool *p, const uint32_t *blocks, uint32_t count)
{
    assert(count <= p->block_count - p->free_count);
    for (uint32_t i = 0; i < count; i++)
        p->free_list[p->free_count++] = blocks[i];
}
