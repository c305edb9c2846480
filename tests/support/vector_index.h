/* SPDX-License-Identifier: Apache-2.0
 *
 * An index of vectors as tests make one: in a file of memory, of vectors that belong to a seed. */
#ifndef HOB_TESTS_VECTOR_INDEX_H
#define HOB_TESTS_VECTOR_INDEX_H

#include "daemon/store/vectors_view.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MUCH ((size_t)64 << 20)

static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static inline float next_float(uint64_t *state)
{
    return (float)next_random(state) * 0x1p-30f - 1;
}

/* A vector of length 1 that belongs to the seed, in one of `clusters` clusters; 0: in none. */
static inline void make_vector(uint64_t seed, uint32_t dim, uint32_t clusters, float *ret)
{
    uint64_t noise = seed * 2 + 1, center = clusters ? seed % clusters * 1000003 + 7 : 0;
    double square = 0;
    for (uint32_t k = 0; k < dim; k++) {
        ret[k] = next_float(&noise) + (clusters ? next_float(&center) : 0);
        square += (double)ret[k] * ret[k];
    }
    for (uint32_t k = 0; k < dim; k++)
        ret[k] = (float)(ret[k] / sqrt(square));
}

static inline float *make_vectors(uint64_t seed, size_t n, uint32_t dim, uint32_t clusters)
{
    float *v = malloc(n * dim * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        make_vector(seed + i, dim, clusters, v + i * dim);
    return v;
}

static inline hob_vectors *new_index(uint32_t dim, size_t bytes_max)
{
    hob_vectors *v = NULL;
    hob_diag diag = {""};
    const int code =
        hob_vectors_new(memfd_create("vectors", MFD_CLOEXEC), dim, bytes_max, &v, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    return v;
}

/* Rows with the ids first, first + 1, ... of one group. */
static inline int try_add(hob_vectors *v, const float *rows, uint64_t first, uint32_t group,
                          size_t n, hob_diag *diag)
{
    uint64_t *ids = malloc((n + 1) * sizeof *ids);
    uint32_t *groups = malloc((n + 1) * sizeof *groups);
    assert_true(ids && groups);
    for (size_t i = 0; i < n; i++) {
        ids[i] = first + i;
        groups[i] = group;
    }
    const int code = hob_vectors_add(v, rows, ids, groups, n, diag);
    free(ids);
    free(groups);
    return code;
}

static inline void add(hob_vectors *v, const float *rows, uint64_t first, uint32_t group, size_t n)
{
    hob_diag diag = {""};
    const int code = try_add(v, rows, first, group, n, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
}

static inline uint32_t search(hob_vectors *v, const float *query, uint32_t k,
                              const hob_group_set *allowed, float min_score, hob_vector_hit *ret)
{
    uint32_t count = UINT32_MAX;
    hob_diag diag = {""};
    const hob_vectors_query q = {query, 1, k, allowed, min_score};
    const int code = hob_vectors_search(v, &q, ret, &count, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    return count;
}

static inline hob_vectors_stats stats_of(hob_vectors *v)
{
    hob_vectors_stats s;
    hob_vectors_get_stats(v, &s);
    return s;
}

#endif
