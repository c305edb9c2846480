/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the index of vectors: chunks, which hold rows, and views, which say which rows there are. A chunk never moves.
 * A view is made, then published, then never changed; searches hold one while they work, and it holds its chunks. Rows that
 * a view has are not written any more, but for their group when they are removed; later rows of its last chunk may be.
 * Panels are read whole, so the last rows, which do not fill one, are the view's own copy. */
#ifndef HOB_DAEMON_STORE_VECTORS_VIEW_H
#define HOB_DAEMON_STORE_VECTORS_VIEW_H

#include "daemon/store/vectors.h"
#include "hal/scan.h"

#include <pthread.h>
#include <stdatomic.h>

/* Rows of one huge page. */
typedef struct hob_vectors_chunk hob_vectors_chunk;
struct hob_vectors_chunk {
    int8_t *panels;            /* the page: [rows / 16] panels */
    float *d;                  /* [rows] */
    uint64_t *ids;             /* [rows] */
    _Atomic(uint32_t) *groups; /* [rows]; HOB_VECTORS_NO_GROUP: removed */
    uint32_t slot;             /* of the file */
    uint32_t removed;          /* rows. Thread: the one that holds `writing` */
    uint32_t refs;             /* views. Under the lock */
    hob_vectors_chunk *next;   /* that is to be freed, too */
};

typedef struct hob_vectors_view {
    uint32_t refs;                  /* under the lock */
    uint32_t count, capacity, rows; /* rows: of the last chunk; the others are full */
    int8_t *tail;                   /* a panel with the last rows % 16 of the last chunk */
    float tail_d[HOB_SCAN_ROWS];
    hob_vectors_chunk *chunks[]; /* [capacity] */
} hob_vectors_view;

struct hob_vectors {
    hob_scan *scan;
    int fd; /* row r of a chunk: half floats [dim] at (slot * chunk_rows + r) * half_bytes */
    uint32_t dim, chunk_rows;
    size_t half_bytes;
    pthread_mutex_t writing; /* who adds or removes */
    pthread_mutex_t lock;    /* never held for long; taken within `writing` */
    /* Under the lock. The view may be read by who holds `writing`, too, as nobody else replaces it. */
    hob_vectors_view *view;
    uint64_t rows, removed;
    uint32_t chunk_count, chunk_max; /* those that only searches still hold included */
    uint64_t *slots;                 /* bits: taken */
};

/* The view as it is now, to be given back. Thread: any. */
hob_vectors_view *hob_vectors_take(hob_vectors *v);
void hob_vectors_drop(hob_vectors *v, hob_vectors_view *view);
/* HOB_EIO. Thread: any. */
HOB_MUST_CHECK int hob_vectors_read(const hob_vectors *v, const hob_vectors_chunk *c, uint32_t row,
                                    uint16_t *ret_half, hob_diag *diag);

#endif
