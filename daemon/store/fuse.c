/* SPDX-License-Identifier: Apache-2.0
 *
 * See fuse.h. */
#include "daemon/store/fuse.h"

#include <math.h>
#include <stdlib.h>

/* Up to 0.7 ranks nearly as well; who names a thing wants it. */
static const double COSINE_PART = 0.3;

static int order_of(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

double hob_fuse_scores(double words, double cosine)
{
    return COSINE_PART * cosine + (1 - COSINE_PART) * fmin(words, 1);
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
