/* SPDX-License-Identifier: Apache-2.0
 *
 * See fuse.h. */
#include "daemon/store/fuse.h"

#include <stdlib.h>

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* An id's best rank in a list before others; ranks are 0 where they are of the other list. */
static int by_id(const void *a, const void *b)
{
    const hob_fused *x = a, *y = b;
    if (x->id != y->id)
        return order_of(x->id, y->id);
    return x->rank[0] != y->rank[0] ? order_of(x->rank[0], y->rank[0])
                                    : order_of(x->rank[1], y->rank[1]);
}

static int by_score(const void *a, const void *b)
{
    const hob_fused *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : order_of(x->id, y->id);
}

size_t hob_fuse_ranks(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count,
                      hob_fused *ret)
{
    size_t count = 0;

    for (size_t i = 0; i < a_count; i++)
        ret[i] = (hob_fused){.id = a[i], .rank = {(uint32_t)i + 1, 0}};
    for (size_t i = 0; i < b_count; i++)
        ret[a_count + i] = (hob_fused){.id = b[i], .rank = {0, (uint32_t)i + 1}};
    qsort(ret, a_count + b_count, sizeof *ret, by_id);
    for (size_t i = 0; i < a_count + b_count; i++) {
        const hob_fused one = ret[i];
        if (count == 0 || ret[count - 1].id != one.id)
            ret[count++] = (hob_fused){.id = one.id};
        hob_fused *to = &ret[count - 1];
        for (int l = 0; l < 2; l++)
            if (one.rank[l] && to->rank[l] == 0) {
                to->rank[l] = one.rank[l];
                to->score += 1.0 / (HOB_FUSE_K + (double)one.rank[l]);
            }
    }
    qsort(ret, count, sizeof *ret, by_score);
    return count;
}

static int by_place(const void *a, const void *b)
{
    const hob_passage *x = a, *y = b;
    if (x->group != y->group)
        return order_of(x->group, y->group);
    return x->first != y->first ? order_of(x->first, y->first) : order_of(x->last, y->last);
}

size_t hob_fuse_neighbours(hob_passage *passages, size_t count)
{
    size_t kept = 0;

    qsort(passages, count, sizeof *passages, by_place);
    for (size_t i = 0; i < count; i++) {
        const hob_passage one = passages[i];
        hob_passage *to = kept ? &passages[kept - 1] : NULL;
        if (!to || to->group != one.group || (uint64_t)to->last + 1 < one.first) {
            passages[kept++] = one;
            continue;
        }
        to->last = one.last > to->last ? one.last : to->last;
        to->begin = one.begin < to->begin ? one.begin : to->begin;
        to->end = one.end > to->end ? one.end : to->end;
        to->score = one.score > to->score ? one.score : to->score;
    }
    return kept;
}
