/* SPDX-License-Identifier: Apache-2.0
 *
 * Places and KV blocks. See places.h. */
#include "daemon/engine/places.h"

#include <stdlib.h>
#include <string.h>

#include "models/model.h"

enum {
    PARK_US = 1000000, /* a reader may stall for so long before its place goes to others */
    PROTECTED_US =
        5000000,    /* a sequence that waited too long runs for so long before it can be set back */
    PART_LEAST = 4, /* tokens of a block that are worth a copy */
};

int hob_places_open(hob_places *p, uint32_t most, uint32_t blocks, uint32_t kept, uint32_t longest)
{
    *p = (hob_places){.most = most};
    p->prefix = calloc(hob_kv_blocks_for(longest) + 1, sizeof *p->prefix);
    if (!p->prefix || hob_kv_pool_new(blocks, kept, &p->pool) < 0)
        return HOB_ENOMEM;
    return 0;
}

static void forget(hob_places *p, hob_sequence *s)
{
    hob_queue_leave(&p->queue, s);
    hob_sequence_free(s);
}

static void free_list(hob_places *p, hob_sequence *s)
{
    while (s) {
        hob_sequence *next = s->next;
        forget(p, s);
        s = next;
    }
}

void hob_places_close(hob_places *p)
{
    free_list(p, p->running);
    free_list(p, p->parked);
    free_list(p, p->queue.waiting);
    hob_kv_pool_free(p->pool);
    free(p->prefix);
}

/* ---- sequences come and go ---- */

static void append(hob_sequence **list, hob_sequence *s)
{
    while (*list)
        list = &(*list)->next;
    s->next = NULL;
    *list = s;
}

static void take_out(hob_sequence **list, const hob_sequence *s)
{
    while (*list != s)
        list = &(*list)->next;
    *list = s->next;
}

/* In list, or NULL. */
static hob_sequence *find(hob_sequence *list, uint64_t id)
{
    while (list && list->id != id)
        list = list->next;
    return list;
}

/* Off the running list, its blocks given back: those that are named stay known. */
static void stop_running(hob_places *p, hob_sequence *s)
{
    take_out(&p->running, s);
    p->running_count--;
    hob_kv_pool_give(p->pool, s->blocks, s->block_count);
    s->block_count = s->named_count = s->computed = 0;
}

/* What it has computed is the prefix cache's now, for as long as there is room. */
static void set_back(hob_places *p, hob_sequence *s, uint64_t now_us)
{
    stop_running(p, s);
    if (!s->began)
        s->cached_count = 0;
    s->waits_since_us = now_us;
    if (s->credit == 0) {
        append(&p->parked, s);
        p->parked_times++;
    } else {
        hob_queue_put(&p->queue, s);
        p->preempted++;
    }
}

int hob_places_join(hob_places *p, hob_sequence *s)
{
    const int rc = hob_queue_join(&p->queue, s);
    if (rc < 0)
        return rc;
    s->arrival = ++p->arrivals;
    s->waits_since_us = s->queued_us = hob_now_us();
    hob_queue_put(&p->queue, s);
    return 0;
}

hob_sequence *hob_places_find(const hob_places *p, uint64_t id)
{
    hob_sequence *s = find(p->running, id);
    if (!s)
        s = find(p->queue.waiting, id);
    return s ? s : find(p->parked, id);
}

void hob_places_remove(hob_places *p, hob_sequence *s)
{
    if (find(p->running, s->id))
        stop_running(p, s);
    else if (find(p->parked, s->id))
        take_out(&p->parked, s);
    else
        hob_queue_remove(&p->queue, s);
    forget(p, s);
}

void hob_places_credit(hob_places *p, hob_sequence *s, uint32_t tokens)
{
    if (__builtin_add_overflow(s->credit, tokens, &s->credit))
        s->credit = UINT32_MAX;
    if (tokens > 0 && find(p->parked, s->id)) {
        take_out(&p->parked, s);
        hob_queue_put(&p->queue, s);
    }
}

/* ---- the prefix cache ---- */

/* Known blocks that the sequence's tokens go on with; at least its last token stays to be computed. They are in p->prefix. */
static uint32_t find_prefix(hob_places *p, const hob_sequence *s)
{
    const uint32_t most = (s->token_count - 1) / HOB_KV_BLOCK_TOKENS, at = s->named_count;
    return most <= at ? 0
                      : hob_kv_prefix_find(p->pool, s->tenant, at ? s->blocks[at - 1] : HOB_KV_NONE,
                                           s->tokens + (size_t)at * HOB_KV_BLOCK_TOKENS, most - at,
                                           p->prefix);
}

static void count_cached(hob_places *p, hob_sequence *s, uint32_t tokens)
{
    p->cached_tokens += tokens;
    if (!s->began)
        s->cached_count += tokens;
}

/* Goes on behind what others have computed meanwhile, in place of blocks of its own. */
static void adopt_blocks(hob_places *p, hob_sequence *s)
{
    const uint32_t at = s->named_count, count = find_prefix(p, s);
    if (count == 0)
        return;
    hob_kv_prefix_hold(p->pool, p->prefix, count);
    if (s->block_count > at) {
        const uint32_t own = s->block_count - at < count ? s->block_count - at : count;
        hob_kv_pool_give(p->pool, s->blocks + at, own);
    }
    memcpy(s->blocks + at, p->prefix, count * sizeof *s->blocks);
    s->named_count += count;
    s->block_count = s->block_count > s->named_count ? s->block_count : s->named_count;
    s->computed = s->named_count * HOB_KV_BLOCK_TOKENS;
    count_cached(p, s, count * HOB_KV_BLOCK_TOKENS);
}

/* Where the known blocks end, one more may begin alike: so much of it is copied. */
static int copy_part(hob_places *p, hob_sequence *s)
{
    const uint32_t at = s->named_count, left = s->token_count - 1 - s->computed;
    uint32_t from;
    const uint32_t tokens =
        hob_kv_prefix_part(p->pool, s->tenant, at ? s->blocks[at - 1] : HOB_KV_NONE,
                           s->tokens + s->computed, left, &from);
    if (tokens < PART_LEAST)
        return 0;
    const int rc = hob_context_copy_block(p->context, from, s->blocks[at]);
    if (rc < 0)
        return rc;
    s->computed += tokens;
    count_cached(p, s, tokens);
    return 0;
}

int hob_places_adopt(hob_places *p, hob_sequence *s)
{
    if (s->computed != s->named_count * HOB_KV_BLOCK_TOKENS)
        return 0;
    adopt_blocks(p, s);
    return copy_part(p, s);
}

void hob_places_name(hob_places *p, hob_sequence *s)
{
    while ((s->named_count + 1) * HOB_KV_BLOCK_TOKENS <= s->computed) {
        const uint32_t at = s->named_count++;
        s->blocks[at] =
            hob_kv_prefix_name(p->pool, s->tenant, at ? s->blocks[at - 1] : HOB_KV_NONE,
                               s->blocks[at], s->tokens + (size_t)at * HOB_KV_BLOCK_TOKENS);
    }
}

/* ---- who runs ---- */

static bool is_stalled(const hob_sequence *s, uint64_t now_us)
{
    return !hob_sequence_runnable(s) && now_us - s->stalled_since_us >= PARK_US;
}

/* May be set back for w; NULL: for blocks that the running ones need. */
static bool may_yield(const hob_sequence *s, const hob_sequence *w, uint64_t now_us)
{
    if (!w || is_stalled(s, now_us))
        return true;
    return s->priority > w->priority && now_us >= s->protected_until_us;
}

/* Stalled ones first, then the lowest class, then the one that started last. */
static bool yields_before(const hob_sequence *a, const hob_sequence *b)
{
    if (hob_sequence_runnable(a) != hob_sequence_runnable(b))
        return !hob_sequence_runnable(a);
    return a->priority != b->priority ? a->priority > b->priority : a->started > b->started;
}

static hob_sequence *find_victim(const hob_places *p, const hob_sequence *w, uint64_t now_us)
{
    hob_sequence *victim = NULL;
    for (hob_sequence *s = p->running; s; s = s->next)
        if (may_yield(s, w, now_us) && (!victim || yields_before(s, victim)))
            victim = s;
    return victim;
}

/* Blocks that stay free when w starts now, with one to spare for each that runs; negative: so many are missing. */
static int64_t spare_blocks(hob_places *p, const hob_sequence *w)
{
    const uint32_t found = find_prefix(p, w);
    hob_kv_prefix_hold(p->pool, p->prefix, found);
    const int64_t left = hob_kv_pool_free_blocks(p->pool);
    hob_kv_pool_give(p->pool, p->prefix, found);
    return left - (hob_kv_blocks_for(w->token_count) - found) - p->running_count;
}

/* Alone it always fits: see submit. */
static bool fits(hob_places *p, const hob_sequence *w)
{
    return p->running_count < p->most && spare_blocks(p, w) >= 0;
}

/* Whether w fits when all that may yield for it have: then it is worth setting them back. */
static bool can_start(hob_places *p, const hob_sequence *w, uint64_t now_us)
{
    uint32_t places = p->most - p->running_count;
    int64_t blocks = spare_blocks(p, w);
    for (const hob_sequence *s = p->running; s; s = s->next)
        if (may_yield(s, w, now_us)) {
            places++;
            blocks +=
                s->block_count + 1; /* shared ones may be counted twice: then w waits after all */
        }
    return places > 0 && blocks >= 0;
}

/* A sequence that rose by waiting must not be set back at once; but most places stay open to higher classes. */
static void protect(hob_places *p, hob_sequence *s, uint64_t now_us)
{
    uint32_t others = 0;
    for (const hob_sequence *o = p->running; o; o = o->next)
        others += now_us < o->protected_until_us;
    if (s->rank < (uint32_t)s->priority && others < (p->most + 3) / 4)
        s->protected_until_us = now_us + PROTECTED_US;
}

static void start(hob_places *p, hob_sequence *s, uint64_t now_us)
{
    hob_queue_remove(&p->queue, s);
    protect(p, s, now_us);
    append(&p->running, s);
    p->running_count++;
    s->started = ++p->starts;
    s->stalled_since_us = now_us;
    adopt_blocks(p, s);
    while (s->block_count < hob_kv_blocks_for(s->token_count))
        s->blocks[s->block_count++] = hob_kv_pool_take(p->pool);
}

bool hob_places_can_start(hob_places *p, uint64_t now_us)
{
    const hob_sequence *w = hob_queue_first(&p->queue, now_us);
    return w && can_start(p, w, now_us);
}

hob_sequence *hob_places_start(hob_places *p, uint64_t now_us)
{
    hob_sequence *w = hob_queue_first(&p->queue, now_us), *victim;
    if (!w || !can_start(p, w, now_us))
        return NULL;
    while (!fits(p, w) && (victim = find_victim(p, w, now_us)))
        set_back(p, victim, now_us);
    if (!fits(p, w))
        return NULL;
    start(p, w, now_us);
    return w;
}

void hob_places_grow(hob_places *p, uint64_t now_us)
{
    for (hob_sequence *s = p->running, *next; s; s = next) {
        next = s->next;
        while (hob_sequence_runnable(s) && s->block_count < hob_kv_blocks_for(s->token_count)) {
            const uint32_t block = hob_kv_pool_take(p->pool);
            if (block != HOB_KV_NONE) {
                s->blocks[s->block_count++] = block;
                continue;
            }
            hob_sequence *victim = find_victim(p, NULL, now_us);
            set_back(p, victim, now_us);
            if (victim == s)
                break;
            next = s->next;
        }
    }
}
