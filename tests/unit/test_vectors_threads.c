/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that build an index of vectors, write it and search in it at once. */
#include "tests/support/vector_index.h"

#include <unistd.h>

enum { K = 10, BUILD_DIM = 1024, BUILD_ROWS = 9000, BUILDERS = 4 };

typedef struct part {
    hob_vectors *v;
    const float *rows;
    uint32_t number;
    int code;
} part;

static void *build(void *user)
{
    enum { EACH = BUILD_ROWS / BUILDERS }; /* a block and more */
    part *p = user;
    p->code = try_add(p->v, p->rows + (size_t)p->number * EACH * BUILD_DIM, p->number * EACH,
                      p->number, EACH, NULL);
    return NULL;
}

static void test_built_by_several_threads(void **state)
{
    (void)state;
    hob_vectors *v[2] = {new_index(BUILD_DIM, MUCH), new_index(BUILD_DIM, MUCH)};
    float *rows = make_vectors(0, BUILD_ROWS, BUILD_DIM, 20);
    hob_vector_hit hits[2][K];
    pthread_t ids[BUILDERS];
    part parts[2][BUILDERS];

    for (uint32_t i = 0; i < BUILDERS; i++) {
        parts[0][i] = (part){v[0], rows, i, 1};
        parts[1][i] = (part){v[1], rows, i, 1};
        assert_int_equal(pthread_create(&ids[i], NULL, build, &parts[0][i]), 0);
    }
    for (uint32_t i = 0; i < BUILDERS; i++) {
        pthread_join(ids[i], NULL);
        build(&parts[1][i]);
        assert_int_equal(parts[0][i].code, 0);
        assert_int_equal(parts[1][i].code, 0);
    }
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
        cmocka_unit_test(test_built_by_several_threads),
        cmocka_unit_test(test_searched_while_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
