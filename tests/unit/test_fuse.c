/* SPDX-License-Identifier: Apache-2.0
 *
 * Scores made one; neighbouring chunks become passages, in whatever order
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

static void test_scores(void **state)
{
    (void)state;
    assert_true(hob_fuse_scores(0, 0) == 0);
    assert_true(fabs(hob_fuse_scores(1, 1) - 1) < 1e-15);
    for (double x = -1; x < 1; x += 0.25) { /* each counts, whatever the other is */
        assert_true(hob_fuse_scores(0.5, x) < hob_fuse_scores(0.5, x + 0.25));
        assert_true(hob_fuse_scores(x, 0.5) < hob_fuse_scores(x + 0.25, 0.5));
    }
    assert_true(hob_fuse_scores(1, 0.2) > hob_fuse_scores(0.2, 1)); /* who names a thing wants it */
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
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
