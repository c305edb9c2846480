/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV block allocator: a stack of free blocks, a list of kept ones by age, and a hash table of names. See kv.h. */
#include "models/kv.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = HOB_KV_BLOCK_TOKENS };

enum { SIBLINGS_LOOKED_AT = 64 };

typedef struct block {
    uint32_t holders;
    bool named;
    uint32_t tenant, parent; /* of the name, with tokens */
    uint32_t chain;          /* next of the same bucket */
    uint32_t child;          /* the youngest that follows this one */
    uint32_t before,
        after; /* among those that follow the same block, or are the first of their sequences: younger, older */
    uint32_t older, younger; /* of kept blocks */
    uint32_t tokens[TOKENS];
} block;

struct hob_kv_pool {
    pthread_mutex_t lock; /* of everything: `step` changes it, others look prefixes up */
    uint32_t block_count, free_count, kept_count, kept_most;
    block *blocks;       /* [block_count] */
    uint32_t *free_list; /* [block_count], free_count valid; last in, first out keeps caches warm */
    uint32_t oldest, youngest; /* of kept blocks */
    uint32_t root;             /* the youngest block that follows none */
    uint32_t *buckets;         /* [bucket_mask + 1] */
    uint32_t bucket_mask;
};

int hob_kv_pool_new(uint32_t block_count, uint32_t kept, hob_kv_pool **ret)
{
    hob_kv_pool *p = calloc(1, sizeof *p);
    const uint32_t count = block_count ? block_count : 1;
    uint32_t buckets = 1;
    while (buckets < count && buckets < 1u << 31)
        buckets *= 2;
    if (!p)
        return HOB_ENOMEM;
    pthread_mutex_init(&p->lock, NULL);
    p->blocks = calloc(count, sizeof *p->blocks);
    p->free_list = calloc(count, sizeof *p->free_list);
    p->buckets = malloc(buckets * sizeof *p->buckets);
    if (!p->blocks || !p->free_list || !p->buckets) {
        hob_kv_pool_free(p);
        return HOB_ENOMEM;
    }
    memset(p->buckets, 0xff, buckets * sizeof *p->buckets);
    p->bucket_mask = buckets - 1;
    p->oldest = p->youngest = p->root = HOB_KV_NONE;
    p->kept_most = kept;
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
    free(p->blocks);
    free(p->free_list);
    free(p->buckets);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

uint32_t hob_kv_pool_free_blocks(const hob_kv_pool *p)
{
    return p->free_count + p->kept_count;
}

uint32_t hob_kv_pool_kept_blocks(const hob_kv_pool *p)
{
    return p->kept_count;
}

/* ---- names ---- */

static uint32_t *bucket_of(const hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                           const uint32_t *tokens)
{
    uint64_t h = (uint64_t)tenant << 32 | parent;
    for (int i = 0; i < TOKENS; i++) {
        h = (h ^ tokens[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    return &p->buckets[h & p->bucket_mask];
}

static uint32_t find_named(const hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                           const uint32_t *tokens)
{
    uint32_t id = *bucket_of(p, tenant, parent, tokens);
    for (; id != HOB_KV_NONE; id = p->blocks[id].chain) {
        const block *b = &p->blocks[id];
        if (b->tenant == tenant && b->parent == parent &&
            memcmp(b->tokens, tokens, sizeof b->tokens) == 0)
            break;
    }
    return id;
}

static uint32_t *children_of(hob_kv_pool *p, uint32_t parent)
{
    return parent == HOB_KV_NONE ? &p->root : &p->blocks[parent].child;
}

static void forget_name(hob_kv_pool *p, uint32_t id)
{
    block *b = &p->blocks[id];
    uint32_t *at = bucket_of(p, b->tenant, b->parent, b->tokens);
    while (*at != id)
        at = &p->blocks[*at].chain;
    *at = b->chain;
    *(b->before == HOB_KV_NONE ? children_of(p, b->parent) : &p->blocks[b->before].after) =
        b->after;
    if (b->after != HOB_KV_NONE)
        p->blocks[b->after].before = b->before;
    b->named = false;
}

/* ---- kept blocks ---- */

static void unlink_kept(hob_kv_pool *p, uint32_t id)
{
    const block *b = &p->blocks[id];
    *(b->older == HOB_KV_NONE ? &p->oldest : &p->blocks[b->older].younger) = b->younger;
    *(b->younger == HOB_KV_NONE ? &p->youngest : &p->blocks[b->younger].older) = b->older;
    p->kept_count--;
}

static void drop_oldest(hob_kv_pool *p)
{
    const uint32_t id = p->oldest;
    unlink_kept(p, id);
    forget_name(p, id);
    p->free_list[p->free_count++] = id;
}

static void keep(hob_kv_pool *p, uint32_t id)
{
    block *b = &p->blocks[id];
    b->older = p->youngest;
    b->younger = HOB_KV_NONE;
    *(p->youngest == HOB_KV_NONE ? &p->oldest : &p->blocks[p->youngest].younger) = id;
    p->youngest = id;
    p->kept_count++;
    if (p->kept_count > p->kept_most)
        drop_oldest(p);
}

/* ---- holders ---- */

uint32_t hob_kv_pool_take(hob_kv_pool *p)
{
    uint32_t id = HOB_KV_NONE;
    pthread_mutex_lock(&p->lock);
    if (p->free_count == 0 && p->kept_count > 0)
        drop_oldest(p);
    if (p->free_count > 0) {
        id = p->free_list[--p->free_count];
        p->blocks[id].holders = 1;
    }
    pthread_mutex_unlock(&p->lock);
    return id;
}

static void give(hob_kv_pool *p, uint32_t id)
{
    block *b = &p->blocks[id];
    assert(b->holders > 0);
    if (--b->holders > 0)
        return;
    if (b->named)
        keep(p, id);
    else
        p->free_list[p->free_count++] = id;
}

void hob_kv_pool_give(hob_kv_pool *p, const uint32_t *blocks, uint32_t count)
{
    pthread_mutex_lock(&p->lock);
    while (count > 0)
        give(p, blocks[--count]);
    pthread_mutex_unlock(&p->lock);
}

uint32_t hob_kv_prefix_find(hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                            const uint32_t *tokens, uint32_t most, uint32_t *ret_blocks)
{
    uint32_t count = 0;
    pthread_mutex_lock(&p->lock);
    while (count < most) {
        const uint32_t id = find_named(p, tenant, parent, tokens + (size_t)count * TOKENS);
        if (id == HOB_KV_NONE)
            break;
        if (ret_blocks)
            ret_blocks[count] = id;
        parent = id;
        count++;
    }
    pthread_mutex_unlock(&p->lock);
    return count;
}

uint32_t hob_kv_prefix_part(const hob_kv_pool *p, uint32_t tenant, uint32_t parent,
                            const uint32_t *tokens, uint32_t most, uint32_t *ret_block)
{
    uint32_t best = 0, looked_at = 0;
    for (uint32_t id = parent == HOB_KV_NONE ? p->root : p->blocks[parent].child;
         id != HOB_KV_NONE && looked_at < SIBLINGS_LOOKED_AT;
         id = p->blocks[id].after, looked_at++) {
        const block *b = &p->blocks[id];
        uint32_t n = 0;
        while (n < most && n < TOKENS && b->tenant == tenant && b->tokens[n] == tokens[n])
            n++;
        if (n > best) {
            best = n;
            *ret_block = id;
        }
    }
    return best;
}

static void hold(hob_kv_pool *p, uint32_t id)
{
    if (p->blocks[id].holders++ == 0)
        unlink_kept(p, id);
}

void hob_kv_prefix_hold(hob_kv_pool *p, const uint32_t *blocks, uint32_t count)
{
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < count; i++)
        hold(p, blocks[i]);
    pthread_mutex_unlock(&p->lock);
}

/* Gives a block that has no name its name. */
static void set_name(hob_kv_pool *p, uint32_t tenant, uint32_t parent, uint32_t block_id,
                     const uint32_t *tokens)
{
    block *b = &p->blocks[block_id];
    assert(b->holders > 0 && !b->named);
    b->tenant = tenant;
    b->parent = parent;
    memcpy(b->tokens, tokens, sizeof b->tokens);
    uint32_t *bucket = bucket_of(p, tenant, parent, tokens);
    b->chain = *bucket;
    *bucket = block_id;
    uint32_t *children = children_of(p, parent);
    b->child = b->before = HOB_KV_NONE;
    b->after = *children;
    if (b->after != HOB_KV_NONE)
        p->blocks[b->after].before = block_id;
    *children = block_id;
    b->named = true;
}

uint32_t hob_kv_prefix_name(hob_kv_pool *p, uint32_t tenant, uint32_t parent, uint32_t block_id,
                            const uint32_t *tokens)
{
    pthread_mutex_lock(&p->lock);
    const uint32_t same = find_named(p, tenant, parent, tokens);
    if (same == HOB_KV_NONE) {
        set_name(p, tenant, parent, block_id, tokens);
    } else {
        hold(p, same);
        give(p, block_id);
    }
    pthread_mutex_unlock(&p->lock);
    return same == HOB_KV_NONE ? block_id : same;
}
