/* SPDX-License-Identifier: Apache-2.0
 *
 * Who waits for a place, and whose turn it is. A class of higher priority goes first; within a class the tenant that has
 * been served the least (virtual token counters: Sheng et al. 2024, Fairness in Serving Large Language Models), and of one
 * tenant the request that came first. Nobody starves: with each HOB_AGING_US of waiting a request rises by a class.
 * Thread: step. */
#ifndef HOB_DAEMON_ENGINE_QUEUE_H
#define HOB_DAEMON_ENGINE_QUEUE_H

#include "daemon/engine/sequence.h"

enum { HOB_AGING_US = 15000000 };

/* What one tenant has been given in one class; lives while the tenant has a sequence in it, waiting or running. */
typedef struct hob_share {
    struct hob_share *next;
    uint32_t tenant;
    hob_priority priority;
    uint32_t sequences;
    uint64_t served; /* rows computed, those of the answer twice */
} hob_share;

typedef struct hob_queue { /* zero-initialize */
    hob_sequence *waiting; /* in order of arrival */
    uint32_t count;
    hob_share *shares;
} hob_queue;

/* Gives the sequence its tenant's share; a tenant that comes back begins where the least served one stands. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_queue_join(hob_queue *q, hob_sequence *s);
void hob_queue_leave(hob_queue *q, hob_sequence *s); /* gives the share back; before it is freed */
/* Into and out of the waiting list. */
void hob_queue_put(hob_queue *q, hob_sequence *s);
void hob_queue_remove(hob_queue *q, hob_sequence *s);
/* The waiting sequence whose turn it is, its rank brought up to date; NULL when none waits. */
hob_sequence *hob_queue_first(hob_queue *q, uint64_t now_us);
/* Whether a goes before b, by rank, share and arrival. */
bool hob_queue_before(const hob_sequence *a, const hob_sequence *b);

#endif
