/* SPDX-License-Identifier: Apache-2.0
 *
 * The index of stored vectors: exact nearest neighbours by dot product. Each row has an id, and a group: the document that
 * it is a piece of. In memory there are dim + 16 bytes a row, scanned whole for each search (hal/scan.h); the best of that are
 * scored again from half floats in a file. Both are derived from what SQLite holds, and made anew at start.
 *
 * The file is read with pread rather than mapped: pages that searches touch do not count as hobd's memory, and a file that
 * was cut short or a disk that fails is an error, not a signal.
 *
 * Threads: any may call anything but hob_vectors_free. Adding and removing go one at a time, except that add prepares whole
 * blocks outside of that (hob_vectors_block): several threads build an index side by side. Searches wait for neither, nor
 * for one another. Each works on the index as it was when it began: with every add that had returned, without any row
 * whose remove had. */
#ifndef HOB_DAEMON_STORE_VECTORS_H
#define HOB_DAEMON_STORE_VECTORS_H

#include "hal/base.h"

enum {
    HOB_VECTORS_K_MAX = 100,
    HOB_VECTORS_BYTES_MIN = 4 << 20,
};
#define HOB_VECTORS_NO_GROUP UINT32_MAX /* not a group */

typedef struct hob_vectors hob_vectors;

typedef struct hob_vector_hit {
    uint64_t id;
    uint32_t group;
    float score; /* the dot product with the half floats */
} hob_vector_hit;

/* Group g is in it when g < count and bit g % 64 of words[g / 64] is set. */
typedef struct hob_group_set {
    const uint64_t *words;
    uint32_t count;
} hob_group_set;

typedef struct hob_vectors_query {
    const float *queries;         /* [n][dim], of length 1 */
    uint32_t n, k;                /* k: hits of each at most, 1 .. HOB_VECTORS_K_MAX */
    const hob_group_set *allowed; /* NULL: all */
    float min_score;              /* hits score at least this; -INFINITY: all */
} hob_vectors_query;

typedef struct hob_vectors_stats {
    uint64_t rows, removed; /* that can be found; that still take room */
    size_t bytes;           /* of memory, the unfilled end included */
} hob_vectors_stats;

/* An empty index of vectors of dim numbers (a multiple of 32, at most 4096), within bytes_max of memory. fd: a file open for
 * reading and writing; it is emptied, is the index's own, and closed with it. Whether it has a name is the caller's matter.
 * HOB_EINVAL; HOB_EIO; HOB_EDEVICE: the kernels fail their self-test; HOB_ENOMEM. On failure fd stays the caller's. */
HOB_MUST_CHECK int hob_vectors_new(int fd, uint32_t dim, size_t bytes_max, hob_vectors **ret,
                                   hob_diag *diag);
/* NULL is fine. Nobody may use it any more. */
void hob_vectors_free(hob_vectors *v);

/* Adds all rows [n][dim], of length 1, or none. ids and groups [n]; ids are the caller's to keep unique. HOB_EINVAL: a row, or
 * HOB_VECTORS_NO_GROUP; HOB_ELIMIT: bytes_max; HOB_ENOSPC, HOB_EIO: the file; HOB_ENOMEM. Blocks on the file. */
HOB_MUST_CHECK int hob_vectors_add(hob_vectors *v, const float *rows, const uint64_t *ids,
                                   const uint32_t *groups, size_t n, hob_diag *diag);
/* Rows that are best added at once, or a multiple of it: those are prepared without waiting for other writers. */
uint32_t hob_vectors_block(const hob_vectors *v);
/* Removes all rows of a group; returns how many. Their room comes back bit by bit: each add and remove moves what is left
 * of at most two blocks of which a quarter or more is removed. */
uint32_t hob_vectors_remove(hob_vectors *v, uint32_t group);

/* Writes the hits of query i, at most k, to ret[i * k] and their number to ret_counts[i]: the highest score first, of equal
 * ones the lowest id. ret [n * k], ret_counts [n]; they mean nothing on failure. HOB_EINVAL: the query; HOB_EIO: the file;
 * HOB_ENOMEM. */
HOB_MUST_CHECK int hob_vectors_search(hob_vectors *v, const hob_vectors_query *query,
                                      hob_vector_hit *ret, uint32_t *ret_counts, hob_diag *diag);

void hob_vectors_get_stats(hob_vectors *v, hob_vectors_stats *ret);

#endif
