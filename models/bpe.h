/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte pair encoding (Sennrich et al. 2016) over token ids: the pair of neighbors with the lowest
 * rank (leftmost first) is merged until none is left. hob_bpe_encode starts a piece as one symbol a
 * byte and takes ranks from a table of merges; spm.c has symbols and ranks of its own.
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

typedef struct hob_bpe_symbol {
    uint32_t id;
    uint32_t prev, next; /* positions; HOB_BPE_NONE at the ends */
} hob_bpe_symbol;

#define HOB_BPE_NONE UINT32_MAX

typedef struct hob_bpe_work { /* zero-initialize, grows, released by hob_bpe_work_free */
    hob_bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity; /* symbols; the heap has twice as many */
    size_t heap_count;
} hob_bpe_work;

/* Fills ranks from merges. */
HOB_MUST_CHECK int hob_bpe_index(hob_bpe *b);
void hob_bpe_free(hob_bpe *b); /* what it points to */
void hob_bpe_work_free(hob_bpe_work *w);

/* Room for `count` symbols, 1 .. INT32_MAX; what was there is lost. */
HOB_MUST_CHECK int hob_bpe_reserve(hob_bpe_work *w, size_t count);

typedef struct hob_bpe_joined {
    uint32_t rank, id; /* rank HOB_BPE_NONE: the two do not merge */
} hob_bpe_joined;
typedef hob_bpe_joined hob_bpe_join_fn(void *context, uint32_t left, uint32_t right);

/* Links the first `count` symbols, whose ids the caller has filled in, and merges them as `join`
 * says. What is left is the list from symbols[0] on. */
void hob_bpe_merge_symbols(hob_bpe_work *w, uint32_t count, hob_bpe_join_fn *join, void *context);

/* Encodes one piece of 1 .. INT32_MAX bytes. Calls push with each id in order; a byte without a
 * token gives none. */
HOB_MUST_CHECK int hob_bpe_encode(const hob_bpe *b, hob_bpe_work *w, const char *piece, size_t len,
                                  int (*push)(void *context, uint32_t id), void *context);

#endif
