/* SPDX-License-Identifier: Apache-2.0
 *
 * The index of vectors: it finds what double precision finds, by group, above a minimum, ties by id; whatever was removed
 * is gone and its room comes back; an add that fails leaves nothing behind; threads build, write and search at once. */
#include "daemon/store/vectors_view.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { K = 10, WIDE = 4096, WIDE_BLOCK = 496 }; /* the latter: rows of WIDE numbers in a chunk */
#define MUCH ((size_t)64 << 20)

/* ---- vectors ---- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static float next_float(uint64_t *state)
{
    return (float)next_random(state) * 0x1p-30f - 1;
}

/* A vector of length 1 that belongs to the seed, in one of `clusters` clusters; 0: in none. */
static void make_vector(uint64_t seed, uint32_t dim, uint32_t clusters, float *ret)
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

static float *make_vectors(uint64_t seed, size_t n, uint32_t dim, uint32_t clusters)
{
    float *v = malloc(n * dim * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        make_vector(seed + i, dim, clusters, v + i * dim);
    return v;
}

static double dot(const float *a, const float *b, uint32_t dim)
{
    double sum[4] = {0};
    for (uint32_t k = 0; k < dim; k += 4)
        for (uint32_t l = 0; l < 4; l++)
            sum[l] += (double)a[k + l] * b[k + l];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

/* ---- an index, and what it must find ---- */

static hob_vectors *new_index(uint32_t dim, size_t bytes_max)
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
static int try_add(hob_vectors *v, const float *rows, uint64_t first, uint32_t group, size_t n,
                   hob_diag *diag)
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

static void add(hob_vectors *v, const float *rows, uint64_t first, uint32_t group, size_t n)
{
    hob_diag diag = {""};
    const int code = try_add(v, rows, first, group, n, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
}

static uint32_t search(hob_vectors *v, const float *query, uint32_t k, const hob_group_set *allowed,
                       float min_score, hob_vector_hit *ret)
{
    uint32_t count = UINT32_MAX;
    hob_diag diag = {""};
    const hob_vectors_query q = {query, 1, k, allowed, min_score};
    const int code = hob_vectors_search(v, &q, ret, &count, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    return count;
}

typedef struct scored {
    double score;
    uint64_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : (x->id > y->id) - (x->id < y->id);
}

/* All rows by their scores; of the ids in ids, or 0, 1, ... */
static scored *brute_force(const float *rows, const uint64_t *ids, size_t n, uint32_t dim,
                           const float *query)
{
    scored *all = malloc((n + 1) * sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < n; i++)
        all[i] = (scored){dot(rows + i * dim, query, dim), ids ? ids[i] : i};
    qsort(all, n, sizeof *all, by_score);
    return all;
}

static hob_vectors_stats stats_of(hob_vectors *v)
{
    hob_vectors_stats s;
    hob_vectors_get_stats(v, &s);
    return s;
}

/* ---- tests ---- */

static void test_refusals(void **state)
{
    (void)state;
    enum { DIM = 64 };
    hob_vectors *v = NULL;
    hob_diag diag;
    hob_vector_hit hits[HOB_VECTORS_K_MAX];
    uint32_t count;
    const int fd = memfd_create("vectors", MFD_CLOEXEC);
    static const uint32_t dims[] = {0, 33, 4128};
    float *rows = make_vectors(1, 3, DIM, 0);

    for (int i = 0; i < 3; i++) {
        assert_int_equal(hob_vectors_new(fd, dims[i], MUCH, &v, &diag), HOB_EINVAL);
        assert_non_null(strstr(diag.text, "multiples of 32 to 4096"));
    }
    assert_int_equal(hob_vectors_new(fd, DIM, HOB_VECTORS_BYTES_MIN - 1, &v, &diag), HOB_EINVAL);
    assert_int_equal(hob_vectors_new(-1, DIM, MUCH, &v, &diag), HOB_EIO);
    assert_null(v);
    assert_int_equal(hob_vectors_new(fd, DIM, MUCH, &v, &diag), 0);
    assert_int_equal(search(v, rows, K, NULL, -INFINITY, hits), 0); /* nothing yet */

    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e38f, 3.0f};
    for (int i = 0; i < 5; i++) {
        const float was = rows[2 * DIM + 5];
        rows[2 * DIM + 5] = bad[i];
        assert_int_equal(try_add(v, rows, 0, 1, 3, &diag), HOB_EINVAL);
        assert_non_null(strstr(diag.text, "length"));
        const hob_vectors_query q = {rows + 2 * DIM, 1, K, NULL, 0};
        assert_int_equal(hob_vectors_search(v, &q, hits, &count, &diag), HOB_EINVAL);
        rows[2 * DIM + 5] = was;
    }
    const float zeros[DIM] = {0};
    assert_int_equal(try_add(v, zeros, 0, 1, 1, &diag), HOB_EINVAL);
    assert_int_equal(try_add(v, rows, 0, HOB_VECTORS_NO_GROUP, 3, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "group"));
    assert_int_equal(try_add(v, rows, 0, 1, 0, &diag), 0);
    assert_int_equal(stats_of(v).rows, 0); /* not one of those before the bad one */
    assert_int_equal(search(v, rows, K, NULL, -INFINITY, hits), 0);

    hob_vectors_query q = {rows, 1, 0, NULL, 0};
    assert_int_equal(hob_vectors_search(v, &q, hits, &count, &diag), HOB_EINVAL);
    q.k = HOB_VECTORS_K_MAX + 1;
    assert_int_equal(hob_vectors_search(v, &q, hits, &count, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "1 to 100"));
    q.k = 1;
    q.min_score = NAN;
    assert_int_equal(hob_vectors_search(v, &q, hits, &count, &diag), HOB_EINVAL);
    assert_int_equal(hob_vectors_remove(v, HOB_VECTORS_NO_GROUP), 0);
    hob_vectors_free(v);
    hob_vectors_free(NULL);
    free(rows);
}

static void test_finds_what_double_precision_finds(void **state)
{
    (void)state;
    enum { DIM = 384, ROWS = 6000, MOST = 1000, BATCH = 11 };
    const bool slow = getenv("HOB_SANITIZED") && *getenv("HOB_SANITIZED");
    const uint32_t n = slow ? MOST / 10 : MOST;
    hob_vectors *v = new_index(DIM, MUCH);
    float *rows = make_vectors(0, ROWS, DIM, 50), *queries = make_vectors(1000000, MOST, DIM, 50);
    static hob_vector_hit hits[MOST][K], single[K];
    uint32_t counts[MOST], same = 0;
    hob_diag diag = {""};

    add(v, rows, 0, 1, 5500); /* a block, and what is left */
    add(v, rows + 5500 * DIM, 5500, 2, ROWS - 5500);
    for (uint32_t i = 0; i < n; i += BATCH) { /* of eight and three in a pass */
        const hob_vectors_query q = {queries + i * DIM, i + BATCH < n ? BATCH : n - i, K, NULL,
                                     -INFINITY};
        assert_int_equal(hob_vectors_search(v, &q, hits[i], counts + i, &diag), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        scored *all = brute_force(rows, NULL, ROWS, DIM, queries + i * DIM);
        uint32_t found = 0;
        assert_int_equal(counts[i], K);
        for (uint32_t h = 0; h < K; h++) {
            const double exact = dot(rows + hits[i][h].id * DIM, queries + i * DIM, DIM);
            assert_true(fabs(hits[i][h].score - exact) < 2e-4);
            assert_true(h == 0 || hits[i][h].score <= hits[i][h - 1].score);
            assert_int_equal(hits[i][h].group, hits[i][h].id < 5500 ? 1 : 2);
            for (uint32_t a = 0; a < K; a++)
                found += all[a].id == hits[i][h].id;
        }
        same += found == K;
        free(all);
        if (i % 97 == 0) { /* alone as among others */
            assert_int_equal(search(v, queries + i * DIM, K, NULL, -INFINITY, single), K);
            assert_memory_equal(single, hits[i], sizeof single);
        }
    }
    if (same < n * 99 / 100)
        fail_msg("the top 10 is right for %u of %u queries", same, n);
    hob_vectors_free(v);
    free(rows);
    free(queries);
}

/* Of groups 0 .. 9 by turns: some, none, one beyond the set's end; with a minimum. */
static void test_groups_and_minimum(void **state)
{
    (void)state;
    enum { DIM = 96, ROWS = 3001, GROUPS = 10, MANY = 100 };
    hob_vectors *v = new_index(DIM, MUCH);
    float *rows = make_vectors(0, ROWS, DIM, 7), *query = make_vectors(70000, 1, DIM, 7);
    static uint64_t ids[ROWS];
    static uint32_t groups[ROWS];
    static hob_vector_hit hits[MANY];
    hob_diag diag = {""};

    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = UINT64_MAX - i;
        groups[i] = i % GROUPS + (i % GROUPS > 7 ? 100 : 0);
    }
    assert_int_equal(hob_vectors_add(v, rows, ids, groups, ROWS, &diag), 0);
    static const uint64_t words[] = {1 << 2 | 1 << 5, UINT64_C(1) << (108 - 64)};
    for (uint32_t count = 0; count <= 109; count += count < 6 ? 1 : 103) {
        const hob_group_set set = {words, count};
        float *left = malloc(sizeof(float) * ROWS * DIM);
        uint64_t left_ids[ROWS];
        uint32_t n = 0;
        assert_non_null(left);
        for (uint32_t i = 0; i < ROWS; i++)
            if (groups[i] < count && (groups[i] == 2 || groups[i] == 5 || groups[i] == 108)) {
                memcpy(left + n * DIM, rows + i * DIM, DIM * sizeof(float));
                left_ids[n++] = ids[i];
            }
        scored *all = brute_force(left, left_ids, n, DIM, query);
        const uint32_t found = search(v, query, MANY, &set, -INFINITY, hits);
        assert_int_equal(found, n < MANY ? n : MANY);
        for (uint32_t h = 0; h < found; h++)
            assert_true(fabs(hits[h].score - all[h].score) < 2e-4);
        if (n) { /* halfway between two of them */
            const float least = (hits[30].score + hits[31].score) / 2;
            assert_int_equal(search(v, query, MANY, &set, least, hits), 31);
            assert_int_equal(search(v, query, 7, &set, hits[5].score, hits), 6);
            assert_int_equal(search(v, query, 7, &set, 1.5f, hits), 0);
        }
        free(all);
        free(left);
    }
    hob_vectors_free(v);
    free(rows);
    free(query);
}

static void test_equal_rows_come_by_id(void **state)
{
    (void)state;
    enum { DIM = 32, TWINS = 300, OTHERS = 500 };
    hob_vectors *v = new_index(DIM, MUCH);
    float *rows = make_vectors(5, 1 + OTHERS, DIM, 0);
    hob_vector_hit hits[HOB_VECTORS_K_MAX];

    add(v, rows + DIM, 1000, 1, OTHERS);
    for (uint32_t i = 0; i < TWINS; i++) /* 7 and 300 have no common divisor: each id once */
        add(v, rows, i * 7 % TWINS, 2, 1);
    for (uint32_t k = 1; k <= HOB_VECTORS_K_MAX; k += 33) {
        assert_int_equal(search(v, rows, k, NULL, -1, hits), k);
        for (uint32_t h = 0; h < k; h++)
            assert_int_equal(hits[h].id, h);
    }
    hob_vectors_free(v);
    free(rows);
}

/* After each of 40 adds of one to four rows, each row is found. */
static void test_ends_that_fill_no_panel(void **state)
{
    (void)state;
    enum { DIM = 64, ADDS = 40 };
    hob_vectors *v = new_index(DIM, MUCH);
    float *rows = make_vectors(9, ADDS * 4, DIM, 0);
    hob_vector_hit hits[K];
    uint32_t n = 0;

    for (uint32_t i = 0; i < ADDS; i++) {
        const uint32_t more = 1 + i * 7 % 4;
        add(v, rows + n * DIM, n, n, more);
        n += more;
        for (uint32_t r = 0; r < n; r++) {
            assert_int_equal(search(v, rows + r * DIM, K, NULL, -1, hits), n < K ? n : K);
            assert_int_equal(hits[0].id, r);
            assert_true(fabsf(hits[0].score - 1) < 1e-3f);
        }
    }
    hob_vectors_free(v);
    free(rows);
}

/* Rows that are there are found, and no other ones: eight of every 56 are looked for. n is a multiple of 8. */
static void assert_holds(hob_vectors *v, const float *rows, const bool *there, uint32_t n)
{
    enum { EACH = 8 };
    hob_vector_hit hits[EACH];
    uint32_t counts[EACH], left = 0;
    for (uint32_t r = 0; r < n; r += EACH) {
        const hob_vectors_query q = {rows + (size_t)r * WIDE, EACH, 1, NULL, 0.9f};
        const bool look = r % (7 * EACH) == 0;
        if (look)
            assert_int_equal(hob_vectors_search(v, &q, hits, counts, NULL), 0);
        for (uint32_t i = 0; i < EACH; i++) {
            left += there[r + i];
            assert_true(!look || counts[i] == there[r + i]);
            assert_true(!look || counts[i] == 0 || hits[i].id == r + i);
        }
    }
    assert_int_equal(stats_of(v).rows, left);
}

static void test_room_comes_back(void **state)
{
    (void)state;
    enum { BLOCKS = 4, ROWS = BLOCKS * WIDE_BLOCK, GROUPS = 40 };
    hob_vectors *v = new_index(WIDE, MUCH);
    float *rows = make_vectors(0, ROWS, WIDE, 0);
    static bool there[ROWS];
    static uint64_t ids[ROWS];
    static uint32_t groups[ROWS];
    hob_diag diag = {""};

    assert_int_equal(hob_vectors_block(v), WIDE_BLOCK);
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = i;
        groups[i] = i * 7 % GROUPS; /* each in every chunk */
        there[i] = true;
    }
    assert_int_equal(hob_vectors_add(v, rows, ids, groups, ROWS, &diag), 0);
    const size_t full = stats_of(v).bytes;
    uint64_t most = 0;
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint32_t gone = 0;
        for (uint32_t i = 0; i < ROWS; i++)
            if (groups[i] == g) {
                there[i] = false;
                gone++;
            }
        assert_int_equal(hob_vectors_remove(v, g), gone);
        assert_int_equal(hob_vectors_remove(v, g), 0);
        const hob_vectors_stats s = stats_of(v);
        most = s.removed > most ? s.removed : most;
        assert_true(s.bytes <= full + ((size_t)2 << 20)); /* and the chunk that the rest moves to */
        if (g % 16 == 3)
            assert_holds(v, rows, there, ROWS);
    }
    assert_int_equal(stats_of(v).rows, 0);
    assert_true(most < ROWS / 2);
    for (uint32_t i = 0; i < BLOCKS; i++) /* whatever still waits */
        assert_int_equal(hob_vectors_remove(v, 0), 0);
    assert_true(stats_of(v).bytes <= (size_t)2 << 20);
    assert_true(stats_of(v).removed < WIDE_BLOCK);
    add(v, rows, 0, 1, ROWS);
    memset(there, true, sizeof there);
    assert_holds(v, rows, there, ROWS);
    hob_vectors_free(v);
    free(rows);
}

/* What a search began with stays as it was, whatever is written meanwhile. */
static void test_a_view_outlasts_its_rows(void **state)
{
    (void)state;
    enum { BLOCKS = 3 };
    hob_vectors *v = new_index(WIDE, MUCH);
    float *rows = make_vectors(3, (BLOCKS + 1) * WIDE_BLOCK, WIDE, 0);
    uint16_t before[WIDE], after[WIDE];
    hob_diag diag = {""};

    for (uint32_t i = 0; i <= BLOCKS; i++)
        add(v, rows, i * WIDE_BLOCK, i, WIDE_BLOCK);
    hob_vectors_view *view = hob_vectors_take(v);
    const hob_vectors_chunk *c = view->chunks[1];
    int8_t *panels = malloc((size_t)WIDE_BLOCK * WIDE);
    assert_non_null(panels);
    memcpy(panels, c->panels, (size_t)WIDE_BLOCK * WIDE);
    assert_int_equal(hob_vectors_read(v, c, 17, before, &diag), 0);
    for (uint32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(hob_vectors_remove(v, i), WIDE_BLOCK);
    add(v, rows + WIDE_BLOCK * WIDE, 9999, 9, BLOCKS * WIDE_BLOCK);
    assert_int_equal(stats_of(v).bytes, (size_t)(2 * BLOCKS + 1) << 21);
    assert_memory_equal(panels, c->panels, (size_t)WIDE_BLOCK * WIDE);
    assert_int_equal(hob_vectors_read(v, c, 17, after, &diag), 0);
    assert_memory_equal(before, after, sizeof before);
    hob_vectors_drop(v, view);
    assert_int_equal(stats_of(v).bytes, (size_t)(BLOCKS + 1) << 21);
    hob_vectors_free(v);
    free(panels);
    free(rows);
}

static void test_limits(void **state)
{
    (void)state;
    hob_vectors *v = new_index(WIDE, (size_t)8 << 20); /* three chunks, and one to clean with */
    float *rows = make_vectors(0, 5 * WIDE_BLOCK, WIDE, 0);
    static bool there[5 * WIDE_BLOCK];
    hob_diag diag = {""};

    assert_int_equal(try_add(v, rows, 0, 1, 4 * WIDE_BLOCK, &diag), HOB_ELIMIT);
    assert_non_null(strstr(diag.text, "6291456 bytes"));
    assert_int_equal(stats_of(v).bytes, 0);
    add(v, rows, 0, 0, 100);
    add(v, rows + 100 * WIDE, 100, 1, 3 * WIDE_BLOCK - 150);
    memset(there, true, 3 * WIDE_BLOCK - 50);
    assert_int_equal(
        try_add(v, rows + (3 * WIDE_BLOCK - 50) * WIDE, 3 * WIDE_BLOCK - 50, 2, 51, &diag),
        HOB_ELIMIT);
    assert_holds(v, rows, there, 5 * WIDE_BLOCK);
    add(v, rows + (3 * WIDE_BLOCK - 50) * WIDE, 3 * WIDE_BLOCK - 50, 2, 50);
    memset(there, true, 3 * WIDE_BLOCK);
    assert_holds(v, rows, there, 5 * WIDE_BLOCK);
    /* full, and cleaned all the same */
    for (uint32_t i = 0; i < 100; i++)
        there[i] = false;
    assert_int_equal(hob_vectors_remove(v, 0), 100);
    assert_int_equal(hob_vectors_remove(v, 2), 50);
    memset(there + 3 * WIDE_BLOCK - 50, false, 50);
    assert_holds(v, rows, there, 5 * WIDE_BLOCK);
    hob_vectors_free(v);
    free(rows);
}

static void test_disk_full(void **state)
{
    (void)state;
    enum { FIT = 40, ROWS = 3 * WIDE_BLOCK, HALF = WIDE * 2 };
    const int fd = memfd_create("vectors", MFD_CLOEXEC), other = dup(fd);
    float *rows = make_vectors(0, ROWS, WIDE, 0);
    static bool there[ROWS];
    hob_vector_hit hits[K];
    hob_vectors *v = NULL;
    hob_diag diag = {""};
    uint32_t count;
    struct rlimit limit, was;

    assert_int_equal(hob_vectors_new(fd, WIDE, MUCH, &v, &diag), 0);
    add(v, rows, 0, 1, FIT);
    memset(there, true, FIT);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    static const uint32_t steps[] = {0, 1, 7, 8, 9, 100, WIDE_BLOCK, WIDE_BLOCK + 200};
    for (uint32_t i = 0; i < sizeof steps / sizeof *steps; i++) { /* in mid-row */
        limit = (struct rlimit){(FIT + steps[i]) * HALF + HALF / 2, was.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const int code = try_add(v, rows + FIT * WIDE, FIT, 1, ROWS - FIT, &diag);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_int_equal(code, HOB_EIO);
        assert_non_null(strstr(diag.text, "cannot be written"));
        assert_int_equal(stats_of(v).bytes, (size_t)2 << 20);
        assert_holds(v, rows, there, ROWS);
    }
    add(v, rows + FIT * WIDE, FIT, 2, ROWS - FIT); /* once there is room */
    memset(there, true, ROWS);
    assert_holds(v, rows, there, ROWS);
    /* nor can rows be moved while it is full: later */
    limit.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(hob_vectors_remove(v, 1), FIT);
    assert_int_equal(hob_vectors_remove(v, 2), ROWS - FIT);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    memset(there, false, ROWS);
    assert_holds(v, rows, there, ROWS);
    add(v, rows, 0, 3, 20);
    memset(there, true, 20);
    assert_holds(v, rows, there, ROWS);

    /* a file that somebody cut short is an error */
    assert_int_equal(ftruncate(other, HALF / 2), 0);
    const hob_vectors_query q = {rows, 1, K, NULL, -1};
    assert_int_equal(hob_vectors_search(v, &q, hits, &count, &diag), HOB_EIO);
    assert_non_null(strstr(diag.text, "cut short"));
    close(other);
    hob_vectors_free(v);
    free(rows);
}

/* ---- threads ---- */

enum { BUILD_DIM = 1024, BUILD_ROWS = 9000, BUILDERS = 4 };
static const float *build_rows;

static void *build(void *user)
{
    hob_vectors *v = user;
    static atomic_uint turns;
    const uint32_t turn = atomic_fetch_add(&turns, 1) % BUILDERS, each = BUILD_ROWS / BUILDERS;
    assert_int_equal(
        try_add(v, build_rows + (size_t)turn * each * BUILD_DIM, turn * each, turn, each, NULL), 0);
    return NULL;
}

static void test_built_by_several_threads(void **state)
{
    (void)state;
    hob_vectors *v[2] = {new_index(BUILD_DIM, MUCH), new_index(BUILD_DIM, MUCH)};
    float *rows = make_vectors(0, BUILD_ROWS, BUILD_DIM, 20);
    hob_vector_hit hits[2][K];
    pthread_t ids[BUILDERS];

    build_rows = rows;
    for (uint32_t i = 0; i < BUILDERS; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, build, v[0]), 0);
    for (uint32_t i = 0; i < BUILDERS; i++)
        pthread_join(ids[i], NULL);
    for (uint32_t i = 0; i < BUILDERS; i++)
        build(v[1]);
    assert_int_equal(stats_of(v[0]).rows, BUILD_ROWS);
    for (uint32_t r = 0; r < BUILD_ROWS; r += 71) {
        for (int i = 0; i < 2; i++)
            assert_int_equal(search(v[i], rows + (size_t)r * BUILD_DIM, K, NULL, -1, hits[i]), K);
        assert_memory_equal(hits[0], hits[1], sizeof hits[0]);
        assert_int_equal(hits[0][0].id, r);
    }
    hob_vectors_free(v[0]);
    hob_vectors_free(v[1]);
    free(rows);
}

/* One thread writes: row by row those that stay, of even groups; and those of odd groups, which it removes some time later.
 * Two search meanwhile: for a row that stays, which must be found; and must not meet what was removed before. */
enum { LIVE_DIM = 2048, LIVE_ROUNDS = 260, LIVE_EACH = 13, LIVE_LAG = 20, READERS = 2 };
typedef struct live {
    hob_vectors *v;
    atomic_uint kept, removed; /* rounds whose rows were added; whose rows that go were removed */
    atomic_bool end;
    atomic_uint wrong, searches;
} live;

static void make_live(uint32_t group, uint32_t i, float *ret)
{
    make_vector((uint64_t)group * LIVE_EACH + i, LIVE_DIM, 0, ret);
}

static void *read_live(void *user)
{
    live *l = user;
    float query[LIVE_DIM];
    hob_vector_hit hits[K];
    uint32_t count;
    uint64_t random = (uint64_t)(uintptr_t)&query;

    while (!atomic_load(&l->end)) {
        const uint32_t kept = atomic_load(&l->kept), removed = atomic_load(&l->removed);
        if (kept == 0)
            continue;
        const uint32_t group = 2 * (next_random(&random) % kept),
                       i = next_random(&random) % LIVE_EACH;
        const hob_vectors_query q = {query, 1, K, NULL, -1};
        make_live(group, i, query);
        bool right = hob_vectors_search(l->v, &q, hits, &count, NULL) == 0 && count == K &&
                     hits[0].id == group * LIVE_EACH + i;
        for (uint32_t h = 0; right && h < K; h++)
            right = hits[h].group == hits[h].id / LIVE_EACH &&
                    (hits[h].group % 2 == 0 || hits[h].group / 2 >= removed);
        atomic_fetch_add(&l->wrong, !right);
        atomic_fetch_add(&l->searches, 1);
    }
    return NULL;
}

static void test_searched_while_written(void **state)
{
    (void)state;
    static live l;
    static float rows[LIVE_EACH * LIVE_DIM];
    pthread_t readers[READERS];

    l.v = new_index(LIVE_DIM, MUCH);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_live, &l), 0);
    for (uint32_t round = 0; round < LIVE_ROUNDS; round++) {
        for (uint32_t group = 2 * round; group < 2 * round + 2; group++) {
            for (uint32_t i = 0; i < LIVE_EACH; i++)
                make_live(group, i, rows + i * LIVE_DIM);
            add(l.v, rows, group * LIVE_EACH, group, LIVE_EACH);
        }
        atomic_store(&l.kept, round + 1);
        if (round >= LIVE_LAG) {
            assert_int_equal(hob_vectors_remove(l.v, 2 * (round - LIVE_LAG) + 1), LIVE_EACH);
            atomic_store(&l.removed, round - LIVE_LAG + 1);
        }
    }
    while (atomic_load(&l.searches) < 50)
        usleep(1000);
    atomic_store(&l.end, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&l.wrong), 0);
    assert_int_equal(stats_of(l.v).rows, (LIVE_ROUNDS + LIVE_LAG) * LIVE_EACH);
    hob_vectors_free(l.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_finds_what_double_precision_finds),
        cmocka_unit_test(test_groups_and_minimum),
        cmocka_unit_test(test_equal_rows_come_by_id),
        cmocka_unit_test(test_ends_that_fill_no_panel),
        cmocka_unit_test(test_room_comes_back),
        cmocka_unit_test(test_a_view_outlasts_its_rows),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_built_by_several_threads),
        cmocka_unit_test(test_searched_while_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
