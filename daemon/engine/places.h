/* SPDX-License-Identifier: Apache-2.0
 *
 * Who runs, and with which KV blocks. A sequence waits in the queue, runs in a place, or is parked: its reader has stalled,
 * and its place went to others. It starts when its tokens so far fit, with a block to spare for each that runs; what answers
 * still need is promised to nobody. When blocks run out, or a sequence of a higher class waits, another is set back: its
 * blocks go to the prefix cache and it to the queue, and when its turn comes again it goes on with what the cache still has.
 * Thread: step. */
#ifndef HOB_DAEMON_ENGINE_PLACES_H
#define HOB_DAEMON_ENGINE_PLACES_H

#include "daemon/engine/queue.h"
#include "models/kv.h"

typedef struct hob_places {
    uint32_t most; /* that run at once */
    hob_queue queue;
    hob_sequence *running, *parked; /* in the order in which they started; were parked */
    uint32_t running_count;
    hob_kv_pool *pool;
    hob_context *context; /* whose KV blocks these are; not owned */
    uint64_t arrivals, starts;
    uint64_t cached_tokens, preempted, parked_times; /* for hob_batcher_stats */
    uint32_t *prefix;                                /* working memory: [blocks of one sequence] */
} hob_places;

/* blocks: of the KV cache; kept: hob_kv_pool_new; longest: tokens of one sequence at most. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_places_open(hob_places *p, uint32_t most, uint32_t blocks, uint32_t kept,
                                   uint32_t longest);
void hob_places_close(hob_places *p); /* frees the sequences too */

/* Takes the sequence over, into the queue. HOB_ENOMEM: it has not. */
HOB_MUST_CHECK int hob_places_join(hob_places *p, hob_sequence *s);
/* NULL: unknown. */
hob_sequence *hob_places_find(const hob_places *p, uint64_t id);
/* Frees the sequence, wherever it is. */
void hob_places_remove(hob_places *p, hob_sequence *s);
void hob_places_credit(hob_places *p, hob_sequence *s, uint32_t tokens);

/* Whether hob_places_start would start one. */
bool hob_places_can_start(hob_places *p, uint64_t now_us);
/* Starts the sequence whose turn it is, setting others back for it; NULL when it has to wait or none does. */
hob_sequence *hob_places_start(hob_places *p, uint64_t now_us);
/* Gives every sequence that decodes a block for its next row, from others if need be. */
void hob_places_grow(hob_places *p, uint64_t now_us);

/* Before rows of its prompt are computed: goes on behind what is known by now. HOB_EDEVICE. */
HOB_MUST_CHECK int hob_places_adopt(hob_places *p, hob_sequence *s);
/* After rows were computed: full blocks are known from now on. */
void hob_places_name(hob_places *p, hob_sequence *s);

static inline uint32_t hob_sequence_missing(const hob_sequence *s)
{
    return s->token_count - s->computed;
}

/* Could compute rows now: a prompt may be prefilled on no credit, all but its last row. */
static inline bool hob_sequence_runnable(const hob_sequence *s)
{
    return s->credit > 0 || hob_sequence_missing(s) > 1;
}

#endif
