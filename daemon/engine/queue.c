/* SPDX-License-Identifier: Apache-2.0
 *
 * The waiting list and the tenants' shares. See queue.h. */
#include "daemon/engine/queue.h"

#include <stdlib.h>

int hob_queue_join(hob_queue *q, hob_sequence *s)
{
    hob_share *found = NULL;
    const hob_share *least = NULL;
    for (hob_share *h = q->shares; h; h = h->next) {
        if (h->priority != s->priority)
            continue;
        if (h->tenant == s->tenant)
            found = h;
        if (!least || h->served < least->served)
            least = h;
    }
    if (!found) {
        if (!(found = calloc(1, sizeof *found)))
            return HOB_ENOMEM;
        *found = (hob_share){.next = q->shares,
                             .tenant = s->tenant,
                             .priority = s->priority,
                             .served = least ? least->served : 0};
        q->shares = found;
    }
    found->sequences++;
    s->share = found;
    return 0;
}

void hob_queue_leave(hob_queue *q, hob_sequence *s)
{
    hob_share *h = s->share, **at = &q->shares;
    s->share = NULL;
    if (!h || --h->sequences > 0)
        return;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    free(h);
}

void hob_queue_put(hob_queue *q, hob_sequence *s)
{
    hob_sequence **at = &q->waiting;
    while (*at && (*at)->arrival <= s->arrival)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
    q->count++;
}

void hob_queue_remove(hob_queue *q, hob_sequence *s)
{
    hob_sequence **at = &q->waiting;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->next = NULL;
    q->count--;
}

bool hob_queue_before(const hob_sequence *a, const hob_sequence *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank;
    if (a->share != b->share && a->share->served != b->share->served)
        return a->share->served < b->share->served;
    return a->arrival < b->arrival;
}

hob_sequence *hob_queue_first(hob_queue *q, uint64_t now_us)
{
    hob_sequence *first = NULL;
    for (hob_sequence *s = q->waiting; s; s = s->next) {
        const uint64_t risen =
            now_us > s->waits_since_us ? (now_us - s->waits_since_us) / HOB_AGING_US : 0;
        s->rank = risen < (uint64_t)s->priority ? (uint32_t)s->priority - (uint32_t)risen : 0;
        if (!first || hob_queue_before(s, first))
            first = s;
    }
    return first;
}
