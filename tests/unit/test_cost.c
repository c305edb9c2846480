/* SPDX-License-Identifier: Apache-2.0
 *
 * The cost model finds a machine's times from its steps and follows when they change; a memory budget's arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/budget.h"
#include "daemon/engine/cost.h"

static uint64_t random_state = 7;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* A machine whose steps read weights for 4 ms, or multiply for 0.4 ms a row; and attend. */
static double machine_us(uint32_t rows, uint64_t attended, double slowness)
{
    const double multiply = 500 + 400.0 * rows, read = 4000;
    return slowness *
           ((multiply > read ? multiply : read) + 900.0 * (double)attended / HOB_COST_ATTENDED);
}

static hob_cost begun(void)
{
    static const uint32_t rows[] = {1, 4, 16};
    const double us[] = {machine_us(1, 1, 1), machine_us(4, 10, 1), machine_us(16, 136, 1)};
    hob_cost c;
    hob_cost_begin(&c, rows, us, 3, 0);
    return c;
}

static void run(hob_cost *c, int steps, double slowness)
{
    for (int i = 0; i < steps; i++) {
        const uint32_t decoding = 1 + random_below(16), rows = decoding + random_below(200);
        const uint64_t attended = hob_cost_attended(random_below(4000), rows);
        hob_cost_learn(c, rows, attended,
                       machine_us(rows, attended, slowness) * (0.95 + random_below(100) / 1000.0));
    }
}

static double worst_error(const hob_cost *c, double slowness)
{
    double worst = 0;
    for (uint32_t rows = 8; rows <= 200; rows += 7) { /* fewer are rare among the steps of run() */
        const uint64_t attended = hob_cost_attended(1000, rows);
        const double is = machine_us(rows, attended, slowness),
                     error = fabs(hob_cost_predict(c, rows, attended) - is) / is;
        worst = error > worst ? error : worst;
    }
    return worst;
}

static void test_begins_with_what_was_measured(void **state)
{
    (void)state;
    const hob_cost c = begun();
    assert_true(fabs(hob_cost_predict(&c, 1, 0) - 4000) < 10);
    assert_true(fabs(hob_cost_predict(&c, 16, 0) - 6900) < 10);
    assert_true(hob_cost_predict(&c, 200, 0) > hob_cost_predict(&c, 16, 0) * 2);
}

static void test_learns_and_follows(void **state)
{
    (void)state;
    hob_cost c = begun();
    run(&c, 4000, 1);
    assert_true(worst_error(&c, 1) < 0.15);
    assert_true(c.error > 0 && c.error < 0.1);
    assert_true(c.attend_us > 600 && c.attend_us < 1200);
    run(&c, 4000, 2.5);
    assert_true(worst_error(&c, 2.5) < 0.15);
    for (int i = 0; i + 1 < HOB_COST_POINTS; i++)
        assert_true(c.step_us[i] <= c.step_us[i + 1]);
}

static void test_one_hiccup_changes_little(void **state)
{
    (void)state;
    hob_cost c = begun();
    run(&c, 2000, 1);
    const double before = hob_cost_predict(&c, 64, 0);
    hob_cost_learn(&c, 64, 2080, 5e6);
    assert_true(hob_cost_predict(&c, 64, 0) < before * 1.25);
}

static void test_a_wrong_beginning_is_soon_forgotten(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 4};
    static const double us[] = {4000, 100000}; /* something else ran during the second */
    hob_cost c;
    hob_cost_begin(&c, rows, us, 2, 0);
    for (int i = 0; i < 12; i++)
        hob_cost_learn(&c, 16, 136, machine_us(16, 136, 1));
    assert_true(hob_cost_predict(&c, 16, 136) < 2.5 * machine_us(16, 136, 1));
}

static void test_rows_fill_the_time(void **state)
{
    (void)state;
    hob_cost c = begun();
    run(&c, 4000, 1);
    uint32_t before = 0;
    for (double us = 10000; us <= 80000; us += 10000) {
        const uint32_t rows = hob_cost_fit(&c, 4, 2000, 500, 16, 4096, us);
        assert_true(hob_cost_predict(&c, 4 + rows, 2000 + hob_cost_attended(500, rows)) <= us);
        assert_true(hob_cost_predict(&c, 5 + rows, 2000 + hob_cost_attended(500, rows + 1)) > us);
        assert_true(rows > before);
        before = rows;
    }
    assert_int_equal(hob_cost_fit(&c, 4, 2000, 500, 16, 4096, 1),
                     16); /* the quantum, however little time */
    assert_int_equal(hob_cost_fit(&c, 4, 2000, 500, 16, 9, 1), 9);
    assert_int_equal(hob_cost_fit(&c, 4, 2000, 500, 0, 4096, 1), 0);
    assert_int_equal(hob_cost_fit(&c, 4, 2000, 500, 16, 100, 1e9), 100);
}

static void test_budget_makes_smaller_what_nobody_asked_for(void **state)
{
    (void)state;
    uint32_t context = 0, kv = 0;
    hob_diag diag = {""};
    hob_budget b = {.limit_bytes = 0,
                    .resident_bytes = 100 << 20,
                    .step_bytes = 50 << 20,
                    .kv_token_bytes = 32768,
                    .context_default = 8192};
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), 0);
    assert_int_equal(context, 8192);
    assert_int_equal(kv, 16384);
    b.limit_bytes = 400 << 20; /* 250 MiB are left: 8000 tokens */
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), 0);
    assert_int_equal(context, 8000);
    assert_int_equal(kv, 8000);
    b.context = 2048;
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), 0);
    assert_int_equal(context, 2048);
    assert_int_equal(kv, 4096);
    b.kv_tokens = 8001; /* rounded up it would not fit */
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), HOB_ELIMIT);
    b.kv_tokens = 8000;
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), 0);
    assert_int_equal(kv, 8000);
}

static void test_budget_refuses_with_the_arithmetic(void **state)
{
    (void)state;
    uint32_t context = 0, kv = 0;
    hob_diag diag = {""};
    hob_budget b = {.limit_bytes = 400 << 20,
                    .resident_bytes = 300 << 20,
                    .step_bytes = 50 << 20,
                    .kv_token_bytes = 32768,
                    .context = 8192,
                    .context_default = 8192};
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), HOB_ELIMIT);
    static const char *const says[] = {"400 MiB",     "300",         "50",     "1600 tokens",
                                       "32768 bytes", "8192 tokens", "256 MiB"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        assert_non_null(strstr(diag.text, says[i]));
    b.context = 0;
    b.limit_bytes = 351 << 20;
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), HOB_ELIMIT);
    b.limit_bytes = 10 << 20;
    assert_int_equal(hob_budget_fit(&b, &context, &kv, &diag), HOB_ELIMIT);
    assert_int_equal(context, 0);
    assert_int_equal(kv, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begins_with_what_was_measured),
        cmocka_unit_test(test_learns_and_follows),
        cmocka_unit_test(test_one_hiccup_changes_little),
        cmocka_unit_test(test_a_wrong_beginning_is_soon_forgotten),
        cmocka_unit_test(test_rows_fill_the_time),
        cmocka_unit_test(test_budget_makes_smaller_what_nobody_asked_for),
        cmocka_unit_test(test_budget_refuses_with_the_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
