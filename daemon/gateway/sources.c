/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns by source: see sources.h. A source is there as long as a turn names it, or it is in a queue. */
#include "daemon/gateway/sources.h"

#include <stdlib.h>
#include <string.h>

void hob_source_of(const uint8_t address[16], uint8_t ret[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memset(ret, 0, 16);
    memcpy(ret, address, memcmp(address, mapped, 12) == 0 ? 16 : 8);
}

uint64_t hob_source_hash(uint64_t seed, const uint8_t address[16])
{
    uint64_t a, b;
    memcpy(&a, address, 8);
    memcpy(&b, address + 8, 8);
    uint64_t h = (a ^ seed) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 32 ^ b) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 29;
}

static size_t bucket_of(const hob_sources *s, const uint8_t address[16])
{
    return hob_source_hash(s->seed, address) % HOB_SOURCE_BUCKETS;
}

static hob_source *find(const hob_sources *s, const uint8_t address[16])
{
    hob_source *at = s->buckets[bucket_of(s, address)];
    while (at && memcmp(at->address, address, sizeof at->address) != 0)
        at = at->next;
    return at;
}

uint32_t hob_source_turns(const hob_sources *s, const uint8_t address[16])
{
    const hob_source *source = find(s, address);
    return source ? source->turns : 0;
}

static void free_unused(hob_sources *s, hob_source *source)
{
    hob_source **at = &s->buckets[bucket_of(s, source->address)];
    if (source->turns > 0 || source->in || source->held)
        return;
    while (*at != source)
        at = &(*at)->next;
    *at = source->next;
    free(source);
}

static void enqueue(hob_source_queue *q, hob_source *source)
{
    source->in = q;
    source->behind = NULL;
    if (q->first)
        q->last->behind = source;
    else
        q->first = source;
    q->last = source;
}

static void dequeue_first(hob_source_queue *q)
{
    hob_source *source = q->first;
    q->first = source->behind;
    source->in = NULL;
}

/* ---- turns ---- */

int hob_turn_open(hob_sources *s, hob_turn *t, const uint8_t address[16])
{
    hob_source *source = find(s, address);
    if (!source) {
        if (!(source = calloc(1, sizeof *source)))
            return HOB_ENOMEM;
        memcpy(source->address, address, sizeof source->address);
        source->credit_us = HOB_SOURCE_CREDIT_US;
        hob_source **bucket = &s->buckets[bucket_of(s, address)];
        source->next = *bucket;
        *bucket = source;
    }
    source->turns++;
    *t = (hob_turn){.source = source};
    return 0;
}

static void unlink_turn(hob_turn *t)
{
    hob_source *source = t->source;
    if (t->prev)
        t->prev->next = t->next;
    else
        source->first = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        source->last = t->prev;
    t->next = t->prev = NULL;
    t->waits = false;
}

void hob_turn_close(hob_sources *s, hob_turn *t)
{
    hob_source *source = t->source;
    if (!source)
        return;
    if (t->waits)
        unlink_turn(t);
    t->source = NULL;
    source->turns--;
    free_unused(s, source); /* in a queue it goes when it gets to the front */
}

void hob_turn_wait(hob_sources *s, hob_turn *t)
{
    hob_source *source = t->source;
    if (t->waits)
        return;
    t->waits = true;
    t->next = NULL;
    t->prev = source->first ? source->last : NULL;
    if (source->first)
        source->last->next = t;
    else
        source->first = t;
    source->last = t;
    if (source->in)
        return;
    if (source->credit_us > 0)
        source->credit_us = HOB_SOURCE_CREDIT_US;
    enqueue(source->credit_us > 0 ? &s->fresh : &s->served, source);
}

/* The queue whose first source has a turn that it may take; NULL: there is none. Those that have none leave, and those
 * without credit get more for the round that they wait. */
static hob_source_queue *choose(hob_sources *s)
{
    for (;;) {
        hob_source_queue *q = s->served_first ? &s->served : &s->fresh;
        if (!q->first)
            q = s->served_first ? &s->fresh : &s->served;
        hob_source *source = q->first;
        if (!source)
            return NULL;
        if (source->first && source->credit_us > 0)
            return q;
        dequeue_first(q);
        if (source->first) {
            source->credit_us += HOB_SOURCE_CREDIT_US;
            enqueue(&s->served, source);
        } else
            free_unused(s, source);
    }
}

bool hob_turn_any(const hob_sources *s)
{
    return s->fresh.first || s->served.first; /* or it only seems so, until the next choice */
}

hob_turn *hob_turn_next(hob_sources *s)
{
    hob_source_queue *q = choose(s);
    if (!q)
        return NULL;
    hob_turn *t = q->first->first;
    s->served_first = q == &s->fresh;
    s->serving = t->source;
    s->serving->held = true;
    unlink_turn(t);
    return t;
}

void hob_turn_done(hob_sources *s, uint64_t us)
{
    hob_source *source = s->serving;
    source->credit_us -= (int64_t)us;
    source->held = false;
    s->serving = NULL;
    free_unused(s, source);
}
