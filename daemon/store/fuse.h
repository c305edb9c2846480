/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of the results of several searches: a chunk's two scores are made one, and chunks that are neighbours in their
 * document are put together. Pure functions; the same input gives the same bytes. Thread: any. */
#ifndef HOB_DAEMON_STORE_FUSE_H
#define HOB_DAEMON_STORE_FUSE_H

#include "hal/base.h"

/* A convex combination of the part of the question that the chunk's words are about (above 1 when it repeats them, which makes
 * it about no more) and its cosine to the question, both of which are as large in every store. It ranks better than fusing
 * ranks, which forget by how much one is better (Bruch, Gai, Ingber, An Analysis of Fusion Functions for Hybrid Retrieval,
 * 2023; tests/bench/quality.py). */
double hob_fuse_scores(double words, double cosine);

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
