/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte pair encoding (Sennrich et al. 2016) over token ids: a piece starts as one symbol a byte,
 * and the pair of neighbors with the lowest rank (leftmost first) is merged until none is left.
 * Thread: a hob_bpe is immutable once filled; a hob_bpe_work belongs to one call. */
#ifndef HOB_MODELS_BPE_H
#define HOB_MODELS_BPE_H

#include "models/intmap.h"

typedef struct hob_bpe_merge {
    uint32_t left, right, result; /* token ids; UINT32_MAX left: a merge that is not applied */
} hob_bpe_merge;

typedef struct hob_bpe {
    hob_bpe_merge *merges; /* [merge_count], by rank */
    uint32_t merge_count;
    hob_intmap ranks;       /* left << 32 | right -> rank; the first of equal pairs */
    uint32_t byte_ids[256]; /* token of one byte, UINT32_MAX: none */
} hob_bpe;

typedef struct hob_bpe_work { /* zero-initialize, grows, released by hob_bpe_work_free */
    struct hob_bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity; /* symbols; the heap has twice as many */
    size_t heap_count;
} hob_bpe_work;

/* Fills ranks from merges. */
HOB_MUST_CHECK int hob_bpe_index(hob_bpe *b);
void hob_bpe_free(hob_bpe *b); /* what it points to */
void hob_bpe_work_free(hob_bpe_work *w);

/* Encodes one piece of 1 .. INT32_MAX bytes. Calls push with each id in order; a byte without a
 * token gives none. */
HOB_MUST_CHECK int hob_bpe_encode(const hob_bpe *b, hob_bpe_work *w, const char *piece, size_t len,
                                  int (*push)(void *context, uint32_t id), void *context);

#endif
