/* SPDX-License-Identifier: Apache-2.0
 *
 * How the index of vectors is searched: all rows by their bytes, up to eight queries in one pass, keeping the best few of
 * each; those again by their half floats. Only rows that would be kept are looked at any closer, so neither removed rows
 * nor a set of groups cost anything elsewhere. */
#include "daemon/store/vectors_view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEPT = 64, /* of each query, or KEPT_OF_K times k when that is more */
    KEPT_OF_K = 2,
    BLOCK_ROWS = 512, /* scores of so many are worked on at once, in the first-level cache */
};

typedef struct candidate {
    float score;
    uint32_t row, group;
    const hob_vectors_chunk *chunk;
    uint64_t id;
} candidate;

/* The best of a query so far: a heap, the worst on top. */
typedef struct kept {
    candidate *all;
    uint32_t count, most;
} kept;

/* All that a search works in. */
typedef struct work {
    hob_vectors *v;
    const hob_vectors_query *query;
    uint32_t n; /* queries of this pass */
    kept kept[HOB_SCAN_QUERIES];
    float *scores;   /* [n][BLOCK_ROWS] */
    uint32_t *found; /* [BLOCK_ROWS + 16] */
    int8_t *bytes;   /* [n][dim] */
    uint16_t *half;  /* [dim] */
} work;

static bool is_better(const candidate *a, const candidate *b)
{
    return a->score != b->score ? a->score > b->score : a->id < b->id;
}

static void keep(kept *k, const candidate *c)
{
    candidate *all = k->all;
    uint32_t at = 0; /* a hole that moves to where c belongs */

    if (k->count < k->most) {
        for (at = k->count++; at && is_better(&all[(at - 1) / 2], c); at = (at - 1) / 2)
            all[at] = all[(at - 1) / 2];
    } else if (is_better(c, &all[0])) {
        for (uint32_t child; (child = 2 * at + 1) < k->count; at = child) {
            if (child + 1 < k->count && is_better(&all[child], &all[child + 1]))
                child++;
            if (!is_better(c, &all[child]))
                break;
            all[at] = all[child];
        }
    } else {
        return;
    }
    all[at] = *c;
}

static bool is_allowed(const hob_group_set *set, uint32_t group)
{
    return group != HOB_VECTORS_NO_GROUP &&
           (!set || (group < set->count && set->words[group / 64] >> group % 64 & 1));
}

/* Some panels of a chunk, of which `rows` rows are there; first: of them, in the chunk. */
static void scan_block(work *w, const hob_vectors_chunk *c, uint32_t first, uint32_t rows,
                       const int8_t *panels, const float *d)
{
    hob_scan_scores(w->v->scan, panels, d, (rows + HOB_SCAN_ROWS - 1) / HOB_SCAN_ROWS, w->bytes,
                    w->n, w->scores, BLOCK_ROWS);
    for (uint32_t i = 0; i < w->n; i++) {
        kept *k = &w->kept[i];
        const float *scores = w->scores + (size_t)i * BLOCK_ROWS,
                    floor = k->count < k->most ? -INFINITY : k->all[0].score;
        const uint32_t count = hob_scan_at_least(w->v->scan, scores, rows, floor, w->found);
        for (uint32_t f = 0; f < count; f++) {
            const uint32_t row = first + w->found[f];
            candidate one = {.score = scores[w->found[f]], .row = row, .chunk = c};
            if (k->count == k->most && one.score < k->all[0].score) /* it has risen meanwhile */
                continue;
            one.group = atomic_load_explicit(&c->groups[row], memory_order_relaxed);
            if (!is_allowed(w->query->allowed, one.group))
                continue;
            one.id = c->ids[row];
            keep(k, &one);
        }
    }
}

static void scan_view(work *w, const hob_vectors_view *view)
{
    for (uint32_t i = 0; i < view->count; i++) {
        const hob_vectors_chunk *c = view->chunks[i];
        const uint32_t rows = i + 1 < view->count ? w->v->chunk_rows : view->rows,
                       tail = rows % HOB_SCAN_ROWS, in_panels = rows - tail;
        for (uint32_t row = 0, some; row < in_panels; row += some) {
            some = in_panels - row < BLOCK_ROWS ? in_panels - row : BLOCK_ROWS;
            scan_block(w, c, row, some, c->panels + (size_t)row * w->v->dim, c->d + row);
        }
        if (tail)
            scan_block(w, c, in_panels, tail, view->tail, view->tail_d);
    }
}

static int by_rank(const void *a, const void *b)
{
    return is_better(a, b) ? -1 : is_better(b, a);
}

/* Scores what was kept of a query from the file and writes its hits. */
static int rescore(work *w, kept *k, const float *query, hob_vector_hit *ret, uint32_t *ret_count,
                   hob_diag *diag)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < k->count; i++) {
        candidate c = k->all[i];
        const int code = hob_vectors_read(w->v, c.chunk, c.row, w->half, diag);
        if (code < 0)
            return code;
        c.score = (float)hob_scan_dot(w->v->scan, query, w->half);
        if (c.score >= w->query->min_score)
            k->all[count++] = c;
    }
    qsort(k->all, count, sizeof *k->all, by_rank);
    count = count < w->query->k ? count : w->query->k;
    for (uint32_t i = 0; i < count; i++)
        ret[i] = (hob_vector_hit){k->all[i].id, k->all[i].group, k->all[i].score};
    *ret_count = count;
    return 0;
}

/* The next w->n queries. */
static int search_some(work *w, const hob_vectors_view *view, const float *queries,
                       hob_vector_hit *ret, uint32_t *ret_counts, hob_diag *diag)
{
    const uint32_t dim = w->v->dim;
    int code = 0;
    float d; /* does not change the order */

    for (uint32_t i = 0; i < w->n && code == 0; i++) {
        w->kept[i].count = 0;
        code = hob_scan_quantize(w->v->scan, queries + (size_t)i * dim, w->bytes + (size_t)i * dim,
                                 &d, diag);
    }
    if (code == 0)
        scan_view(w, view);
    for (uint32_t i = 0; i < w->n && code == 0; i++)
        code = rescore(w, &w->kept[i], queries + (size_t)i * dim, ret + (size_t)i * w->query->k,
                       &ret_counts[i], diag);
    return code;
}

int hob_vectors_search(hob_vectors *v, const hob_vectors_query *query, hob_vector_hit *ret,
                       uint32_t *ret_counts, hob_diag *diag)
{
    work w = {.v = v, .query = query};
    int code = 0;

    if (query->k == 0 || query->k > HOB_VECTORS_K_MAX || query->min_score != query->min_score)
        return hob_fail(diag, HOB_EINVAL,
                        "vector search for %u hits that score %g: allowed are 1 to %d hits",
                        query->k, (double)query->min_score, HOB_VECTORS_K_MAX);
    const uint32_t most = KEPT_OF_K * query->k > KEPT ? KEPT_OF_K * query->k : KEPT;
    candidate *all = malloc(HOB_SCAN_QUERIES * most * sizeof *all);
    w.scores = malloc(HOB_SCAN_QUERIES * BLOCK_ROWS * sizeof *w.scores);
    w.found = malloc((BLOCK_ROWS + 16) * sizeof *w.found);
    w.bytes = malloc((size_t)HOB_SCAN_QUERIES * v->dim);
    w.half = malloc(v->half_bytes);
    hob_vectors_view *view = NULL;
    if (!all || !w.scores || !w.found || !w.bytes || !w.half) {
        code = hob_fail(diag, HOB_ENOMEM, "vector search: out of memory");
        goto end;
    }
    for (uint32_t i = 0; i < HOB_SCAN_QUERIES; i++)
        w.kept[i] = (kept){.all = all + (size_t)i * most, .most = most};
    view = hob_vectors_take(v);
    for (uint32_t i = 0; i < query->n && code == 0; i += w.n) {
        w.n = query->n - i < HOB_SCAN_QUERIES ? query->n - i : HOB_SCAN_QUERIES;
        code = search_some(&w, view, query->queries + (size_t)i * v->dim,
                           ret + (size_t)i * query->k, ret_counts + i, diag);
    }
end:
    hob_vectors_drop(v, view);
    free(all);
    free(w.scores);
    free(w.found);
    free(w.bytes);
    free(w.half);
    return code;
}
