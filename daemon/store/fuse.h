/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of the results of several searches: two rankings are made one, and chunks that are neighbours in their
 * document are put together. Pure functions; the same input gives the same bytes. Thread: any. */
#ifndef HOB_DAEMON_STORE_FUSE_H
#define HOB_DAEMON_STORE_FUSE_H

#include "hal/base.h"

enum { HOB_FUSE_K = 60 };

typedef struct hob_fused {
    uint64_t id;
    uint32_t rank[2]; /* in the lists, from 1 on; 0: not there */
    double score;
} hob_fused;

/* Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009): the score of an id is the sum of 1 / (HOB_FUSE_K + rank) over the
 * lists that it is in. a and b are ids, the best first; of an id that a list has twice the first counts. Writes each id once,
 * the highest score first, of equal ones the lowest id, to ret, which has room for a_count + b_count; returns how many. */
size_t hob_fuse_ranks(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count,
                      hob_fused *ret);

typedef struct hob_passage {
    uint32_t group;       /* the document */
    uint32_t first, last; /* chunks, by their place in it */
    uint64_t begin, end;  /* bytes of it, end not included */
    double score;         /* the best of its chunks' */
} hob_passage;

/* Merges chunks of one group that follow one another, given as passages of one chunk or more, in place; a chunk that is there
 * twice counts once. Returns how many passages there are then. They come by group and place whatever their scores are: a
 * prompt that has the same ones has the same bytes. */
size_t hob_fuse_neighbours(hob_passage *passages, size_t count);

#endif
