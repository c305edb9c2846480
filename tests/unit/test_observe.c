/* SPDX-License-Identifier: Apache-2.0
 *
 * Histograms and quantile sketches against sorted arrays of what was added; windows against lists of events. With the
 * argument --bench: what a record costs. */
#include "daemon/observe/histogram.h"
#include "daemon/observe/sketch.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 20000, SECOND = 1000000 };

static uint64_t random_state = 88172645463325252u;

static double draw(void)
{
    random_state ^= random_state << 13; /* Marsaglia, Xorshift RNGs, 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* ---- distributions of times, in microseconds ---- */

static uint64_t even(void)
{
    return 1000 + (uint64_t)(draw() * 60e6);
}
static uint64_t over_decades(void)
{
    return (uint64_t)(200 * exp(draw() * 16));
}
static uint64_t with_a_tail(void)
{
    return (uint64_t)(20000 / pow(1 - draw(), 1.5)) % 3000000000u;
}
static uint64_t with_two_peaks(void)
{
    return draw() < 0.95 ? 7000 + (uint64_t)(draw() * 500) : 900000 + (uint64_t)(draw() * 1000);
}
static uint64_t (*const kinds[])(void) = {even, over_decades, with_a_tail, with_two_peaks};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void check_quantiles(const hob_sketch *s, uint64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    assert_int_equal(hob_sketch_count(s), count);
    for (int percent = 0; percent <= 100; percent++) {
        const double q = percent / 100.0, told = hob_sketch_quantile(s, q);
        const uint64_t first = (uint64_t)ceil(q * (double)count), rank = first ? first - 1 : 0;
        const double is =
            (double)values[rank] < HOB_SKETCH_LEAST_US ? HOB_SKETCH_LEAST_US : (double)values[rank];
        if (fabs(told - is) > HOB_SKETCH_ERROR * is * (1 + 1e-9))
            fail_msg("P%d of %zu: %.1f us is told, %.1f us it is", percent, count, told, is);
    }
}

static void test_quantiles(void **state)
{
    static const size_t counts[] = {1, 2, 3, 10, 101, MANY};
    uint64_t *values = malloc(MANY * sizeof *values);
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            hob_sketch s = {0};
            for (size_t i = 0; i < counts[c]; i++) {
                values[i] = kinds[k]();
                hob_sketch_add(&s, hob_sketch_bucket(values[i]), 1);
            }
            check_quantiles(&s, values, counts[c]);
        }
    free(values);
}

static void test_range(void **state)
{
    hob_sketch s = {0};
    (void)state;
    assert_true(hob_sketch_quantile(&s, 0.5) == 0);
    hob_sketch_add(&s, hob_sketch_bucket(0), 1);
    assert_true(hob_sketch_quantile(&s, 0.5) == HOB_SKETCH_LEAST_US);
    for (uint64_t us = 1; us < 5400u * SECOND; us += us / 97 + 1) { /* each value by itself */
        hob_sketch one = {0};
        uint64_t value = us;
        hob_sketch_add(&one, hob_sketch_bucket(us), 1);
        check_quantiles(&one, &value, 1);
    }
    assert_int_equal(hob_sketch_bucket(UINT64_MAX), HOB_SKETCH_BUCKETS - 1);
    hob_sketch_add(&s, 3, UINT32_MAX);
    hob_sketch_add(&s, 3, 7);
    assert_int_equal(s.counts[3], UINT32_MAX);
}

/* Whatever parts it is made of, a merged sketch is the sketch of all. */
static void test_merge(void **state)
{
    enum { PARTS = 7 };
    uint64_t *values = malloc(MANY * sizeof *values);
    hob_sketch all = {0}, merged = {0}, *parts = calloc(PARTS, sizeof *parts);
    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        values[i] = kinds[i % KINDS]();
        const uint32_t bucket = hob_sketch_bucket(values[i]);
        hob_sketch_add(&all, bucket, 1);
        hob_sketch_add(&parts[(size_t)(draw() * PARTS)], bucket, 1);
    }
    for (size_t i = 0; i < PARTS; i++)
        hob_sketch_merge(&merged, &parts[i]);
    assert_memory_equal(&merged, &all, sizeof all);
    check_quantiles(&merged, values, MANY);
    free(parts);
    free(values);
}

/* Random times of day, with pauses up to hours: a window holds all that is younger than it, and nothing that is older than it
 * and a sixth. */
static void test_windows(void **state)
{
    typedef struct event {
        uint64_t at_us, us;
    } event;
    enum { EVENTS = 4000 };
    event *events = malloc(EVENTS * sizeof *events);
    hob_recent *r = calloc(1, sizeof *r);
    uint64_t now = 12345;

    (void)state;
    for (size_t n = 0; n < EVENTS; n++) {
        const double pause = draw();
        now += (uint64_t)(pause < 0.9 ? draw() * 20 * SECOND : draw() * draw() * 9000 * SECOND);
        events[n] = (event){now, over_decades()};
        hob_recent_add(r, now, events[n].us, 1);
        if (n % 3)
            continue;
        const uint64_t later = now + (uint64_t)(draw() * 200 * SECOND);
        for (uint32_t w = 0; w < HOB_RECENT_WINDOWS; w++) {
            const uint64_t window = hob_recent_windows_s[w] * (uint64_t)SECOND;
            hob_sketch told = {0}, least = {0}, most = {0};
            hob_recent_read(r, w, later, &told);
            for (size_t i = 0; i <= n; i++) {
                const uint64_t age = later - events[i].at_us;
                if (age <= window)
                    hob_sketch_add(&least, hob_sketch_bucket(events[i].us), 1);
                if (age <= window + window / HOB_RECENT_PARTS)
                    hob_sketch_add(&most, hob_sketch_bucket(events[i].us), 1);
            }
            for (uint32_t b = 0; b < HOB_SKETCH_BUCKETS; b++)
                assert_in_range(told.counts[b], least.counts[b], most.counts[b]);
        }
    }
    free(events);
    free(r);
}

static void test_histogram(void **state)
{
    uint64_t *values = malloc(MANY * sizeof *values), sum = 0;
    hob_histogram h = {0};
    (void)state;
    for (uint32_t i = 1; i < HOB_HISTOGRAM_BOUNDS; i++)
        assert_true(hob_histogram_bounds_us[i] > hob_histogram_bounds_us[i - 1]);
    assert_int_equal(hob_histogram_bounds_us[0], 1000);
    assert_int_equal(hob_histogram_bounds_us[HOB_HISTOGRAM_BOUNDS - 1], 600u * SECOND);
    for (size_t i = 0; i < MANY; i++) {
        /* some of them on a bound and just beside it */
        values[i] = i % 5 ? kinds[i % KINDS]()
                          : hob_histogram_bounds_us[i / 5 % HOB_HISTOGRAM_BOUNDS] + i % 3 - 1;
        hob_histogram_add(&h, values[i], 1);
        sum += values[i];
    }
    uint64_t below = 0;
    for (uint32_t b = 0; b < HOB_HISTOGRAM_BOUNDS; b++) {
        uint64_t expected = 0;
        for (size_t i = 0; i < MANY; i++)
            expected += values[i] <= hob_histogram_bounds_us[b];
        below += h.counts[b];
        assert_int_equal(below, expected);
    }
    assert_int_equal(hob_histogram_count(&h), MANY);
    assert_int_equal(h.sum_us, sum);
    hob_histogram_add(&h, 4000, 3);
    assert_int_equal(h.sum_us, sum + 12000);
    assert_int_equal(hob_histogram_count(&h), MANY + 3);
    free(values);
}

/* ---- what it costs ---- */

static int bench(void)
{
    enum { RUNS = 5000000, VALUES = 4096 };
    static uint64_t values[VALUES];
    static hob_recent r;
    hob_histogram h = {0};
    uint64_t begin;

    for (size_t i = 0; i < VALUES; i++)
        values[i] = with_a_tail();
    begin = hob_now_us();
    for (uint64_t i = 0; i < RUNS; i++)
        hob_histogram_add(&h, values[i % VALUES], 1);
    printf("histogram: %.1f ns a record\n", (double)(hob_now_us() - begin) * 1000 / RUNS);
    begin = hob_now_us();
    for (uint64_t i = 0; i < RUNS;
         i++) /* a record each 10 ms: windows move on as they do in service */
        hob_recent_add(&r, i * 10000, values[i % VALUES], 1);
    printf("three windows of sketches: %.1f ns a record\n",
           (double)(hob_now_us() - begin) * 1000 / RUNS);
    return hob_histogram_count(&h) == RUNS ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles), cmocka_unit_test(test_range),
        cmocka_unit_test(test_merge),     cmocka_unit_test(test_windows),
        cmocka_unit_test(test_histogram),
    };
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
