/* SPDX-License-Identifier: Apache-2.0
 *
 * Forecasts against sums done by hand: with a step of 1 ms and 0.1 ms a row, whatever it holds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "daemon/gateway/forecast.h"

static hob_cost cost;

static double step_us(double rows)
{
    return 1000 + 100 * rows;
}

static int begin(void **state)
{
    const uint32_t rows[] = {1, 64};
    const double us[] = {step_us(1), step_us(64)};
    (void)state;
    hob_cost_begin(&cost, rows, us, 2, 0);
    return 0;
}

static hob_forecast_engine engine(uint32_t places)
{
    return (hob_forecast_engine){
        .cost = &cost, .target_us = 10000, .places = places, .kv_tokens = 100000};
}

static void assert_near(double got, double want)
{
    if (fabs(got - want) > 0.02 * want + 1)
        fail_msg("got %f, expected %f", got, want);
}

static void test_alone(void **state)
{
    const hob_forecast_engine e = engine(4);
    hob_forecast_job jobs[] = {{100, 20, 120}};
    (void)state;
    const hob_forecast f = hob_forecast_last(&e, jobs, 1);
    assert_near(f.first_us, step_us(100));
    assert_near(f.end_us, step_us(100) + 19 * step_us(1));
}

/* Beside streams a prompt comes in chunks that keep the target: 88 rows beside 2, in 10 ms. */
static void test_beside_streams(void **state)
{
    const hob_forecast_engine e = engine(4);
    hob_forecast_job jobs[] = {{0, 1000, 1100}, {0, 1000, 1100}, {880, 5, 885}};
    (void)state;
    assert_near(hob_forecast_last(&e, jobs, 3).first_us, 10 * step_us(90));
}

/* Two places, both taken; the first is free after 50 steps. */
static void test_waits_for_a_place(void **state)
{
    const hob_forecast_engine e = engine(2);
    hob_forecast_job jobs[] = {{0, 50, 100}, {0, 200, 250}, {10, 5, 15}};
    (void)state;
    assert_near(hob_forecast_last(&e, jobs, 3).first_us, 50 * step_us(2) + step_us(11));
}

static void test_waits_for_room(void **state)
{
    hob_forecast_engine e = engine(8);
    hob_forecast_job jobs[] = {{0, 50, 600}, {10, 5, 500}};
    (void)state;
    e.kv_tokens = 1000;
    assert_near(hob_forecast_last(&e, jobs, 2).first_us, 50 * step_us(1) + step_us(10));
    hob_forecast_job large[] = {{10, 5, 5000}}; /* alone it is let in: the engine has checked it */
    assert_near(hob_forecast_last(&e, large, 1).first_us, step_us(10));
}

/* In their order: the prompts before it come first. */
static void test_prompts_in_turn(void **state)
{
    const hob_forecast_engine e = engine(8);
    hob_forecast_job jobs[] = {{200, 1, 201}, {200, 1, 201}, {200, 1, 201}};
    (void)state;
    assert_near(hob_forecast_last(&e, jobs, 3).first_us, 3 * step_us(200));
}

/* More in the queue never makes it earlier, and it comes to an end. */
static void test_grows_with_the_queue(void **state)
{
    const hob_forecast_engine e = engine(16);
    double before = 0;
    (void)state;
    for (uint32_t count = 1; count <= 300; count++) {
        hob_forecast_job jobs[300];
        for (uint32_t i = 0; i < count; i++)
            jobs[i] = (hob_forecast_job){20 + i % 8 * 60, 64, 84 + i % 8 * 60};
        jobs[count - 1] = (hob_forecast_job){100, 64, 164};
        const double first = hob_forecast_last(&e, jobs, count).first_us;
        assert_true(isfinite(first) && first > 0);
        assert_true(first > 0.97 * before);
        before = first;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_alone, begin),
        cmocka_unit_test_setup(test_beside_streams, begin),
        cmocka_unit_test_setup(test_waits_for_a_place, begin),
        cmocka_unit_test_setup(test_waits_for_room, begin),
        cmocka_unit_test_setup(test_prompts_in_turn, begin),
        cmocka_unit_test_setup(test_grows_with_the_queue, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
