/* SPDX-License-Identifier: Apache-2.0
 *
 * Rank fusion against its formula, ties and repeated ids included; neighbouring chunks become passages, in whatever order
 * they come. */
#include "daemon/store/fuse.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <string.h>

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static void test_formula(void **state)
{
    (void)state;
    static const uint64_t a[] = {7, UINT64_MAX, 3}, b[] = {3, 9, 7, 1};
    hob_fused got[7];

    assert_int_equal(hob_fuse_ranks(a, 3, b, 4, got), 5);
    static const uint64_t ids[] = {3, 7, 9, UINT64_MAX,
                                   1}; /* 9 and the largest tie, as do 3 and 7 */
    static const uint32_t ranks[][2] = {{3, 1}, {1, 3}, {0, 2}, {2, 0}, {0, 4}};
    for (int i = 0; i < 5; i++) {
        double score = 0;
        for (int l = 0; l < 2; l++)
            score += ranks[i][l] ? 1.0 / (60 + ranks[i][l]) : 0;
        assert_int_equal(got[i].id, ids[i]);
        assert_int_equal(got[i].rank[0], ranks[i][0]);
        assert_int_equal(got[i].rank[1], ranks[i][1]);
        assert_true(fabs(got[i].score - score) < 1e-15);
    }
    assert_int_equal(hob_fuse_ranks(a, 0, b, 0, got), 0);
    assert_int_equal(hob_fuse_ranks(a, 0, b, 2, got), 2);
    assert_int_equal(got[1].id, 9);
    assert_int_equal(hob_fuse_ranks(a, 2, b, 0, got), 2);
    assert_int_equal(got[0].id, 7);
    assert_true(got[0].score == 1.0 / 61);

    static const uint64_t twice[] = {5, 4, 5, 5, 4};
    hob_fused doubled[10];
    assert_int_equal(hob_fuse_ranks(twice, 5, twice + 1, 4, doubled), 2);
    assert_int_equal(doubled[0].id, 4); /* equal to 5: once second, once first */
    assert_int_equal(doubled[0].rank[0], 2);
    assert_int_equal(doubled[0].rank[1], 1);
    assert_int_equal(doubled[1].rank[0], 1);
    assert_int_equal(doubled[1].rank[1], 2);
    assert_true(doubled[0].score == doubled[1].score);
}

/* Random lists, against looking each id up. The lists' roles can be exchanged. */
static void test_any_lists(void **state)
{
    (void)state;
    enum { MOST = 60, IDS = 50, ROUNDS = 300 };
    uint64_t random = 1, lists[2][MOST];
    hob_fused got[2 * MOST], swapped[2 * MOST];

    for (int round = 0; round < ROUNDS; round++) {
        size_t counts[2], ids = 0;
        for (int l = 0; l < 2; l++) {
            counts[l] = next_random(&random) % (MOST + 1);
            for (size_t i = 0; i < counts[l]; i++)
                lists[l][i] = next_random(&random) % IDS;
        }
        const size_t count = hob_fuse_ranks(lists[0], counts[0], lists[1], counts[1], got);
        assert_int_equal(hob_fuse_ranks(lists[1], counts[1], lists[0], counts[0], swapped), count);
        for (uint64_t id = 0; id < IDS; id++) {
            double score = 0;
            for (int l = 0; l < 2; l++)
                for (size_t i = 0; i < counts[l]; i++)
                    if (lists[l][i] == id) {
                        score += 1.0 / (HOB_FUSE_K + (double)i + 1);
                        break;
                    }
            ids += score > 0;
            for (size_t i = 0; i < count; i++)
                assert_true(got[i].id != id || fabs(got[i].score - score) < 1e-15);
        }
        assert_int_equal(ids, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(got[i].id, swapped[i].id);
            assert_true(got[i].score == swapped[i].score);
            assert_true(i == 0 || got[i].score < got[i - 1].score ||
                        (got[i].score == got[i - 1].score && got[i].id > got[i - 1].id));
        }
    }
}

static void test_neighbours(void **state)
{
    (void)state;
    static const hob_passage chunks[] = {
        {2, 5, 5, 500, 620, 0.1}, /* follows the next two, which overlap as chunks do */
        {2, 3, 3, 300, 420, 0.5},
        {2, 4, 4, 400, 520, 0.3},
        {2, 7, 7, 700, 820, 0.2}, /* a gap */
        {1, 6, 6, 600, 610, 0.9}, /* another document, with the number between */
        {3, 0, 1, 0, 90, 0.05},   /* already two */
        {3, 1, 1, 50, 90, 0.06},  /* twice */
        {3, 2, 2, 95, 100, 0.04}, /* no byte in common */
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 2, 0}, /* ends of the range */
        {UINT32_MAX, 0, 0, 0, 1, -1},
    };
    static const hob_passage wanted[] = {
        {1, 6, 6, 600, 610, 0.9},     {2, 3, 5, 300, 620, 0.5},
        {2, 7, 7, 700, 820, 0.2},     {3, 0, 2, 0, 100, 0.06},
        {UINT32_MAX, 0, 0, 0, 1, -1}, {UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 2, 0},
    };
    enum { N = sizeof chunks / sizeof *chunks, WANTED = sizeof wanted / sizeof *wanted };
    uint64_t random = 5;
    hob_passage p[N];

    memcpy(p, chunks, sizeof p);
    for (int round = 0; round < 200; round++) {
        assert_int_equal(hob_fuse_neighbours(p, N), WANTED);
        for (int i = 0; i < WANTED; i++) {
            assert_int_equal(p[i].group, wanted[i].group);
            assert_int_equal(p[i].first, wanted[i].first);
            assert_int_equal(p[i].last, wanted[i].last);
            assert_int_equal(p[i].begin, wanted[i].begin);
            assert_int_equal(p[i].end, wanted[i].end);
            assert_true(p[i].score == wanted[i].score);
        }
        assert_int_equal(hob_fuse_neighbours(p, WANTED), WANTED); /* nothing more to merge */
        memcpy(p, chunks, sizeof p);
        for (uint32_t i = N - 1; i > 0; i--) { /* in any order */
            const uint32_t other = next_random(&random) % (i + 1);
            const hob_passage one = p[i];
            p[i] = p[other];
            p[other] = one;
        }
    }
    assert_int_equal(hob_fuse_neighbours(p, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_any_lists),
        cmocka_unit_test(test_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
