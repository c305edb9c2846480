/* SPDX-License-Identifier: Apache-2.0
 *
 * BPE in O(n log n): symbols are a doubly linked list in an array; possible merges are in a binary
 * heap ordered by (rank, position), so that the best and leftmost one is on top. A merge that a
 * neighbor's merge made stale is recognized when it is taken out: the two that stand there now have
 * another rank, or none. See bpe.h. */
#include "models/bpe.h"

#include <string.h>

#define DEAD_SYMBOL (UINT32_MAX - 1) /* an id that no token has: merged into its left neighbor */

int hob_bpe_index(hob_bpe *b)
{
    int r = hob_intmap_reserve(&b->ranks, b->merge_count);
    for (uint32_t rank = 0; r >= 0 && rank < b->merge_count; rank++) {
        const hob_bpe_merge *m = &b->merges[rank];
        uint64_t key = (uint64_t)m->left << 32 | m->right;
        if (m->left != UINT32_MAX && hob_intmap_find(&b->ranks, key) == HOB_INTMAP_NONE)
            r = hob_intmap_set(&b->ranks, key, rank);
    }
    return r;
}

void hob_bpe_free(hob_bpe *b)
{
    free(b->merges);
    hob_intmap_free(&b->ranks);
}

void hob_bpe_work_free(hob_bpe_work *w)
{
    free(w->symbols);
    free(w->heap);
    *w = (hob_bpe_work){0};
}

int hob_bpe_reserve(hob_bpe_work *w, size_t count)
{
    size_t capacity = w->capacity ? w->capacity : 256;
    if (count <= w->capacity)
        return 0;
    while (capacity < count)
        capacity *= 2;
    free(w->symbols);
    free(w->heap);
    w->capacity = 0;
    w->symbols = malloc(capacity * sizeof *w->symbols);
    w->heap = malloc(2 * capacity * sizeof *w->heap);
    if (!w->symbols || !w->heap)
        return HOB_ENOMEM;
    w->capacity = capacity;
    return 0;
}

static void sift_down(uint64_t *heap, size_t count, size_t i)
{
    uint64_t moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moved)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

static void heap_push(hob_bpe_work *w, uint64_t entry)
{
    size_t i = w->heap_count++;
    for (; i > 0 && w->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = entry;
}

static uint64_t heap_pop(hob_bpe_work *w)
{
    uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->heap_count];
    if (w->heap_count)
        sift_down(w->heap, w->heap_count, 0);
    return top;
}

static inline void merge_symbols(hob_bpe_work *w, uint32_t count, hob_bpe_join_fn *join,
                                 void *context)
{
    hob_bpe_symbol *s = w->symbols;
    w->heap_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        s[i].prev = i ? i - 1 : HOB_BPE_NONE;
        s[i].next = i + 1 < count ? i + 1 : HOB_BPE_NONE;
        if (i + 1 == count)
            break;
        hob_bpe_joined j = join(context, s[i].id, s[i + 1].id);
        if (j.rank != HOB_BPE_NONE)
            w->heap[w->heap_count++] = (uint64_t)j.rank << 32 | i;
    }
    for (size_t i = w->heap_count / 2; i-- > 0;)
        sift_down(w->heap, w->heap_count, i);

    /* Each merge takes one entry out and puts at most two in, and there are fewer merges than
     * symbols: the heap never holds more than 2 * count. */
    while (w->heap_count) {
        uint64_t top = heap_pop(w);
        uint32_t left = (uint32_t)top, right = s[left].next;
        if (s[left].id == DEAD_SYMBOL || right == HOB_BPE_NONE)
            continue;
        hob_bpe_joined j = join(context, s[left].id, s[right].id);
        if (j.rank != top >> 32)
            continue;
        s[left].id = j.id;
        s[left].next = s[right].next;
        s[right].id = DEAD_SYMBOL;
        if (s[left].next != HOB_BPE_NONE) {
            s[s[left].next].prev = left;
            j = join(context, s[left].id, s[s[left].next].id);
            if (j.rank != HOB_BPE_NONE)
                heap_push(w, (uint64_t)j.rank << 32 | left);
        }
        if (s[left].prev != HOB_BPE_NONE) {
            j = join(context, s[s[left].prev].id, s[left].id);
            if (j.rank != HOB_BPE_NONE)
                heap_push(w, (uint64_t)j.rank << 32 | s[left].prev);
        }
    }
}

void hob_bpe_merge_symbols(hob_bpe_work *w, uint32_t count, hob_bpe_join_fn *join, void *context)
{
    merge_symbols(w, count, join, context);
}

static inline hob_bpe_joined join_by_table(void *context, uint32_t left, uint32_t right)
{
    const hob_bpe *b = context;
    uint32_t rank = hob_intmap_find(&b->ranks, (uint64_t)left << 32 | right);
    return (hob_bpe_joined){rank, rank == HOB_INTMAP_NONE ? 0 : b->merges[rank].result};
}

int hob_bpe_encode(const hob_bpe *b, hob_bpe_work *w, const char *piece, size_t len,
                   int (*push)(void *context, uint32_t id), void *context)
{
    int r = hob_bpe_reserve(w, len);
    if (r < 0)
        return r;
    hob_bpe_symbol *s = w->symbols;
    for (size_t i = 0; i < len; i++)
        s[i].id = b->byte_ids[(unsigned char)piece[i]];
    merge_symbols(w, (uint32_t)len, join_by_table, (void *)(uintptr_t)b);
    for (uint32_t i = 0; i != HOB_BPE_NONE; i = s[i].next)
        if (s[i].id != UINT32_MAX && (r = push(context, s[i].id)) < 0)
            return r;
    return 0;
}
