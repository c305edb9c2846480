/* SPDX-License-Identifier: Apache-2.0
 *
 * How the index of vectors is written. See vectors.h, and vectors_view.h for its parts.
 *
 * Whoever writes drafts the next view: rows go behind those that the last chunk of the current one has, where nobody reads
 * yet, and the draft is published when all of them are there. If anything fails before that the draft is dropped, and nothing
 * has happened. Chunks that lost many rows are cleaned in the same way: the draft lacks the chunk and has its rows again. */
#include "daemon/store/vectors_view.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PAGE_BYTES =
        2 << 20,    /* of a chunk: a huge page, which is scanned a third faster than small ones */
    ROW_BYTES = 16, /* beside its numbers: d, group, id */
    CHUNKS_MOST = 1 << 20,
    PEN_BYTES = 16 << 10,
    CLEAN_EACH = 2,    /* chunks that a write cleans at most */
    CLEAN_FRACTION = 4 /* of which at least 1 / it is removed */
};

/* ---- chunks and views ---- */

/* HOB_ELIMIT, HOB_ENOMEM. over: chunks beyond chunk_max that the caller may have. */
static int new_chunk(hob_vectors *v, uint32_t over, hob_vectors_chunk **ret, hob_diag *diag)
{
    uint32_t slot = 0;

    pthread_mutex_lock(&v->lock);
    const bool full = v->chunk_count >= v->chunk_max + over;
    if (!full) {
        while (v->slots[slot / 64] >> slot % 64 & 1)
            slot++;
        v->slots[slot / 64] |= UINT64_C(1) << slot % 64;
        v->chunk_count++;
    }
    pthread_mutex_unlock(&v->lock);
    if (full)
        return hob_fail(diag, HOB_ELIMIT, "the vector index has %zu bytes: more is not allowed",
                        (size_t)v->chunk_max * PAGE_BYTES);
    hob_vectors_chunk *c = calloc(1, sizeof *c);
    /* mapped with room to begin at a huge page's border; both ends are given back */
    uint8_t *page = c ? mmap(NULL, 2 * (size_t)PAGE_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                      : MAP_FAILED;
    if (page == MAP_FAILED) {
        free(c);
        pthread_mutex_lock(&v->lock);
        v->slots[slot / 64] &= ~(UINT64_C(1) << slot % 64);
        v->chunk_count--;
        pthread_mutex_unlock(&v->lock);
        return hob_fail(diag, HOB_ENOMEM, "the vector index: out of memory");
    }
    const size_t before = (PAGE_BYTES - (uintptr_t)page % PAGE_BYTES) % PAGE_BYTES;
    if (before)
        munmap(page, before);
    page += before;
    munmap(page + PAGE_BYTES, PAGE_BYTES - before);
    c->panels = (int8_t *)page;
    c->d = (float *)(page + (size_t)v->chunk_rows * v->dim);
    c->ids = (uint64_t *)(c->d + v->chunk_rows);
    c->groups = (_Atomic(uint32_t) *)(c->ids + v->chunk_rows);
    c->slot = slot;
    c->refs = 1;
    *ret = c;
    return 0;
}

/* Thread: that holds the lock. Adds to *dead what nobody holds any more. */
static void drop_chunk(hob_vectors *v, hob_vectors_chunk *c, hob_vectors_chunk **dead)
{
    if (--c->refs)
        return;
    v->slots[c->slot / 64] &= ~(UINT64_C(1) << c->slot % 64);
    v->chunk_count--;
    c->next = *dead;
    *dead = c;
}

static void free_chunks(hob_vectors_chunk *c)
{
    for (hob_vectors_chunk *next; c; c = next) {
        next = c->next;
        munmap(c->panels, PAGE_BYTES);
        free(c);
    }
}

hob_vectors_view *hob_vectors_take(hob_vectors *v)
{
    pthread_mutex_lock(&v->lock);
    hob_vectors_view *view = v->view;
    view->refs++;
    pthread_mutex_unlock(&v->lock);
    return view;
}

void hob_vectors_drop(hob_vectors *v, hob_vectors_view *view)
{
    hob_vectors_chunk *dead = NULL;

    if (!view)
        return;
    pthread_mutex_lock(&v->lock);
    const bool last = --view->refs == 0;
    for (uint32_t i = 0; last && i < view->count; i++)
        drop_chunk(v, view->chunks[i], &dead);
    pthread_mutex_unlock(&v->lock);
    free_chunks(dead);
    if (last)
        free(view);
}

/* What `from` (NULL: nothing) has without that chunk, with room for more. NULL: out of memory. */
static hob_vectors_view *draft_view(hob_vectors *v, const hob_vectors_view *from,
                                    const hob_vectors_chunk *without, size_t more)
{
    const size_t capacity = (from ? from->count : 0) + more, tail = (size_t)HOB_SCAN_ROWS * v->dim;
    hob_vectors_view *view;

    if (capacity > CHUNKS_MOST)
        return NULL;
    const size_t bytes = sizeof *view + capacity * sizeof *view->chunks;
    view = calloc(1, bytes + tail);
    if (!view)
        return NULL;
    view->refs = 1;
    view->capacity = (uint32_t)capacity;
    view->tail = (int8_t *)view + bytes;
    if (!from)
        return view;
    view->rows = from->rows;
    memcpy(view->tail, from->tail, tail);
    memcpy(view->tail_d, from->tail_d, sizeof view->tail_d);
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < from->count; i++)
        if (from->chunks[i] != without) {
            view->chunks[view->count++] = from->chunks[i];
            from->chunks[i]->refs++;
        }
    pthread_mutex_unlock(&v->lock);
    return view;
}

/* Adds the chunks of `from`, which are full, and leaves a last one that is not where it belongs. */
static void insert_full(hob_vectors *v, hob_vectors_view *draft, const hob_vectors_view *from)
{
    const bool open = draft->count && draft->rows < v->chunk_rows;
    const uint32_t before = draft->count - open;

    if (from->count == 0)
        return;
    if (open)
        draft->chunks[before + from->count] = draft->chunks[before];
    else
        draft->rows = v->chunk_rows;
    memcpy(draft->chunks + before, from->chunks, from->count * sizeof *from->chunks);
    draft->count += from->count;
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < from->count; i++)
        from->chunks[i]->refs++;
    pthread_mutex_unlock(&v->lock);
}

/* Makes a draft what searches see; more and fewer: rows that can be found now or no longer take room. */
static void publish(hob_vectors *v, hob_vectors_view *draft, uint64_t more, uint64_t fewer)
{
    pthread_mutex_lock(&v->lock);
    hob_vectors_view *old = v->view;
    v->view = draft;
    v->rows += more;
    v->removed -= fewer;
    pthread_mutex_unlock(&v->lock);
    hob_vectors_drop(v, old);
}

/* ---- the file ---- */

static off_t place_of(const hob_vectors *v, const hob_vectors_chunk *c, uint32_t row)
{
    return (off_t)(((uint64_t)c->slot * v->chunk_rows + row) * v->half_bytes);
}

int hob_vectors_read(const hob_vectors *v, const hob_vectors_chunk *c, uint32_t row,
                     uint16_t *ret_half, hob_diag *diag)
{
    const off_t at = place_of(v, c, row);

    for (size_t done = 0; done < v->half_bytes;) {
        const ssize_t n =
            pread(v->fd, (uint8_t *)ret_half + done, v->half_bytes - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hob_fail(diag, HOB_EIO, "the vector file cannot be read at %lld: %s",
                            (long long)at, n ? strerror(errno) : "it was cut short");
        done += (size_t)n;
    }
    return 0;
}

/* ---- rows ---- */

/* Writes rows behind those of a draft; their half floats go to the file a few at a time. */
typedef struct pen {
    hob_vectors *v;
    hob_vectors_view *draft;
    uint32_t over;    /* as of new_chunk */
    uint16_t *halves; /* [most][dim]: of the last `waiting` rows */
    uint32_t waiting, most;
} pen;

static int pen_init(pen *p, hob_vectors *v, hob_vectors_view *draft, uint32_t over, hob_diag *diag)
{
    *p = (pen){.v = v, .draft = draft, .over = over};
    p->most = (uint32_t)(PEN_BYTES / v->half_bytes);
    p->halves = draft ? malloc(p->most * v->half_bytes) : NULL;
    return p->halves ? 0 : hob_fail(diag, HOB_ENOMEM, "the vector index: out of memory");
}

static int pen_flush(pen *p, hob_diag *diag)
{
    const hob_vectors_view *draft = p->draft;
    const uint8_t *from = (const uint8_t *)p->halves;
    size_t left = p->waiting * p->v->half_bytes;

    if (left == 0)
        return 0;
    off_t at = place_of(p->v, draft->chunks[draft->count - 1], draft->rows - p->waiting);
    while (left) {
        const ssize_t n = pwrite(p->v->fd, from, left, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hob_fail(diag, HOB_EIO, "the vector file cannot be written at %lld: %s",
                            (long long)at, n ? strerror(errno) : "nothing was taken");
        from += n;
        at += n;
        left -= (size_t)n;
    }
    p->waiting = 0;
    return 0;
}

/* Where the half floats of the next row go: it is the caller's to fill them in and to call pen_add. */
static int pen_next(pen *p, uint16_t **ret_half, hob_diag *diag)
{
    hob_vectors_view *draft = p->draft;
    const bool chunk_ends = draft->count == 0 || draft->rows == p->v->chunk_rows;
    int code = p->waiting == p->most || chunk_ends ? pen_flush(p, diag) : 0;

    if (code == 0 && chunk_ends) {
        assert(draft->count < draft->capacity);
        code = new_chunk(p->v, p->over, &draft->chunks[draft->count], diag);
        if (code == 0) {
            draft->count++;
            draft->rows = 0;
        }
    }
    if (code == 0)
        *ret_half = p->halves + (size_t)p->waiting * p->v->dim;
    return code;
}

static void pen_add(pen *p, const int8_t *q, float d, uint64_t id, uint32_t group)
{
    enum { COLLAPSE = 25 }; /* MADV_COLLAPSE, which the C library may not know yet */
    hob_vectors_view *draft = p->draft;
    hob_vectors_chunk *c = draft->chunks[draft->count - 1];
    const uint32_t row = draft->rows++, lane = row % HOB_SCAN_ROWS;

    p->waiting++;
    hob_scan_put(p->v->scan, q, lane, draft->tail);
    draft->tail_d[lane] = d;
    c->ids[row] = id;
    atomic_store_explicit(&c->groups[row], group, memory_order_relaxed);
    if (lane + 1 < HOB_SCAN_ROWS)
        return;
    memcpy(c->panels + (size_t)(row - lane) * p->v->dim, draft->tail,
           (size_t)HOB_SCAN_ROWS * p->v->dim);
    memcpy(c->d + row - lane, draft->tail_d, sizeof draft->tail_d);
    if (draft->rows ==
        p->v->chunk_rows) /* small pages until then, so that memory is what there is of rows */
        (void)madvise(c->panels, PAGE_BYTES, COLLAPSE);
}

static int pen_write(pen *p, const float *rows, const uint64_t *ids, const uint32_t *groups,
                     size_t n, hob_diag *diag)
{
    int8_t q[HOB_SCAN_DIM_MAX];
    uint16_t *half;
    float d;
    int code;

    for (size_t i = 0; i < n; i++, rows += p->v->dim) {
        if (groups[i] == HOB_VECTORS_NO_GROUP)
            return hob_fail(diag, HOB_EINVAL, "row %zu: group %u is not allowed", i, groups[i]);
        if ((code = hob_scan_quantize(p->v->scan, rows, q, &d, diag)) < 0 ||
            (code = pen_next(p, &half, diag)) < 0)
            return code;
        hob_scan_to_half(p->v->scan, rows, half);
        pen_add(p, q, d, ids[i], groups[i]);
    }
    return pen_flush(p, diag);
}

/* Brings into the draft the rows of a chunk that were not removed. */
static int pen_copy(pen *p, const hob_vectors_chunk *c)
{
    int8_t q[HOB_SCAN_DIM_MAX];
    uint16_t *half;

    for (uint32_t row = 0; row < p->v->chunk_rows; row++) {
        const uint32_t group = atomic_load_explicit(&c->groups[row], memory_order_relaxed),
                       lane = row % HOB_SCAN_ROWS;
        if (group == HOB_VECTORS_NO_GROUP)
            continue;
        int code = pen_next(p, &half, NULL);
        if (code < 0 || (code = hob_vectors_read(p->v, c, row, half, NULL)) < 0)
            return code;
        hob_scan_get(p->v->scan, c->panels + (size_t)(row - lane) * p->v->dim, lane, q);
        pen_add(p, q, c->d[row], c->ids[row], group);
    }
    return pen_flush(p, NULL);
}

/* Thread: that holds `writing`. Whether a chunk was worth it and could be cleaned: if not now, then later. */
static bool clean_one(hob_vectors *v)
{
    const hob_vectors_view *now = v->view;
    hob_vectors_chunk *worst = NULL;
    pen p;

    for (uint32_t i = 0; i + (now->rows < v->chunk_rows) < now->count; i++) /* full ones */
        if (!worst || now->chunks[i]->removed > worst->removed)
            worst = now->chunks[i];
    if (!worst || worst->removed < v->chunk_rows / CLEAN_FRACTION)
        return false;
    const bool done =
        pen_init(&p, v, draft_view(v, now, worst, 1), 1, NULL) == 0 && pen_copy(&p, worst) == 0;
    if (done)
        publish(v, p.draft, 0, worst->removed);
    else
        hob_vectors_drop(v, p.draft);
    free(p.halves);
    return done;
}

static void clean(hob_vectors *v)
{
    for (int i = 0; i < CLEAN_EACH && clean_one(v); i++)
        ;
}

/* ---- the index ---- */

uint32_t hob_vectors_block(const hob_vectors *v)
{
    return v->chunk_rows;
}

int hob_vectors_add(hob_vectors *v, const float *rows, const uint64_t *ids, const uint32_t *groups,
                    size_t n, hob_diag *diag)
{
    const size_t blocks = n / v->chunk_rows, whole = blocks * v->chunk_rows;
    hob_vectors_view *aside = draft_view(v, NULL, NULL, blocks), *draft = NULL;
    pen p;
    int code = pen_init(&p, v, aside, 0, diag);

    if (code == 0)
        code = pen_write(&p, rows, ids, groups, whole, diag);
    pthread_mutex_lock(&v->writing);
    if (code == 0) {
        draft = draft_view(v, v->view, NULL, blocks + 1);
        code = draft ? 0 : hob_fail(diag, HOB_ENOMEM, "the vector index: out of memory");
    }
    if (code == 0) {
        insert_full(v, draft, aside);
        p.draft = draft;
        code = pen_write(&p, rows + whole * v->dim, ids + whole, groups + whole, n - whole, diag);
    }
    if (code == 0) {
        publish(v, draft, n, 0);
        clean(v);
    }
    pthread_mutex_unlock(&v->writing);
    if (code < 0)
        hob_vectors_drop(v, draft);
    hob_vectors_drop(v, aside);
    free(p.halves);
    return code;
}

uint32_t hob_vectors_remove(hob_vectors *v, uint32_t group)
{
    uint32_t total = 0;

    if (group == HOB_VECTORS_NO_GROUP)
        return 0;
    pthread_mutex_lock(&v->writing);
    const hob_vectors_view *view = v->view;
    for (uint32_t i = 0; i < view->count; i++) {
        hob_vectors_chunk *c = view->chunks[i];
        const uint32_t rows = i + 1 < view->count ? v->chunk_rows : view->rows, before = total;
        for (uint32_t row = 0; row < rows; row++)
            if (atomic_load_explicit(&c->groups[row], memory_order_relaxed) == group) {
                atomic_store_explicit(&c->groups[row], HOB_VECTORS_NO_GROUP, memory_order_relaxed);
                total++;
            }
        c->removed += total - before;
    }
    pthread_mutex_lock(&v->lock); /* searches that begin after this see it */
    v->rows -= total;
    v->removed += total;
    pthread_mutex_unlock(&v->lock);
    clean(v);
    pthread_mutex_unlock(&v->writing);
    return total;
}

void hob_vectors_get_stats(hob_vectors *v, hob_vectors_stats *ret)
{
    pthread_mutex_lock(&v->lock);
    *ret = (hob_vectors_stats){
        .rows = v->rows, .removed = v->removed, .bytes = (size_t)v->chunk_count * PAGE_BYTES};
    pthread_mutex_unlock(&v->lock);
}

int hob_vectors_new(int fd, uint32_t dim, size_t bytes_max, hob_vectors **ret, hob_diag *diag)
{
    hob_vectors *v = calloc(1, sizeof *v);
    size_t chunks = bytes_max / PAGE_BYTES;
    int code = HOB_ENOMEM;

    if (!v || pthread_mutex_init(&v->writing, NULL) != 0)
        goto no_memory;
    if (pthread_mutex_init(&v->lock, NULL) != 0) {
        pthread_mutex_destroy(&v->writing);
        goto no_memory;
    }
    v->fd = -1;
    if (bytes_max < HOB_VECTORS_BYTES_MIN) {
        code = hob_fail(diag, HOB_EINVAL, "memory for vectors: got %zu bytes, allowed from %d on",
                        bytes_max, HOB_VECTORS_BYTES_MIN);
        goto fail;
    }
    if ((code = hob_scan_new(dim, &v->scan, diag)) < 0)
        goto fail;
    chunks = chunks < CHUNKS_MOST ? chunks : CHUNKS_MOST;
    v->dim = dim;
    v->half_bytes = (size_t)dim * 2;
    v->chunk_rows = PAGE_BYTES / (dim + ROW_BYTES) / HOB_SCAN_ROWS * HOB_SCAN_ROWS;
    v->chunk_max = (uint32_t)chunks - 1; /* cleaning needs one */
    v->slots = calloc(chunks / 64 + 1, sizeof *v->slots);
    v->view = draft_view(v, NULL, NULL, 0);
    if (!v->slots || !v->view) {
        code = hob_fail(diag, HOB_ENOMEM, "the vector index: out of memory");
        goto fail;
    }
    if (ftruncate(fd, 0) != 0) {
        code = hob_fail(diag, HOB_EIO, "the vector file cannot be emptied: %s", strerror(errno));
        goto fail;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    v->fd = fd;
    *ret = v;
    return 0;
no_memory:
    free(v);
    return hob_fail(diag, code, "the vector index: out of memory");
fail:
    hob_vectors_free(v);
    return code;
}

void hob_vectors_free(hob_vectors *v)
{
    if (!v)
        return;
    hob_vectors_drop(v, v->view);
    if (v->fd >= 0)
        close(v->fd);
    hob_scan_free(v->scan);
    free(v->slots);
    pthread_mutex_destroy(&v->lock);
    pthread_mutex_destroy(&v->writing);
    free(v);
}
