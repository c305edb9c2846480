/* SPDX-License-Identifier: Apache-2.0
 *
 * Budgets: 100,000 random operations against a model that keeps every event, the exact bound over any 60 s, the wait that
 * a refusal names, and how much of a budget is served when more is asked for. */
#include "daemon/gateway/quota.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>

enum { OPERATIONS = 100000, OPEN_MAX = 64 };

static uint64_t random_state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13; /* Marsaglia, Xorshift RNGs, 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % below;
}

static hob_quota_time at(uint64_t ms)
{
    return (hob_quota_time){.now_ms = ms, .now_s = (int64_t)(1800000000 + ms / 1000)};
}

/* Every token ever spent, with its time: what a window holds is a sum over the list. */
typedef struct model {
    struct event {
        uint64_t ms;
        uint32_t tokens;
    } * events;
    size_t count, first; /* those before first are older than any window */
    uint64_t reserved, day_spent;
    int64_t day;
} model;

/* By whole slots, as quota.h defines it. */
static uint64_t model_window(model *m, uint64_t now_ms)
{
    uint64_t sum = 0, now = now_ms / HOB_QUOTA_SLOT_MS;
    while (m->first < m->count &&
           m->events[m->first].ms / HOB_QUOTA_SLOT_MS + HOB_QUOTA_SLOTS <= now)
        m->first++;
    for (size_t i = m->first; i < m->count; i++)
        sum += m->events[i].tokens;
    return sum;
}

static void model_turn(model *m, hob_quota_time t)
{
    if (t.now_s / 86400 > m->day) {
        m->day = t.now_s / 86400;
        m->day_spent = 0;
    }
}

/* The most that was spent in any 60 s, to the millisecond. */
static uint64_t most_in_a_minute(const model *m)
{
    uint64_t sum = 0, most = 0;
    for (size_t i = 0, from = 0; i < m->count; i++) {
        sum += m->events[i].tokens;
        while (m->events[from].ms + HOB_QUOTA_WINDOW_MS <= m->events[i].ms)
            sum -= m->events[from++].tokens;
        most = sum > most ? sum : most;
    }
    return most;
}

static void test_random_operations(void **state)
{
    (void)state;
    const hob_quota_limits limits = {.tokens_per_minute = 10000, .tokens_per_day = 3000000};
    hob_quota q = {0};
    model m = {.events = calloc(OPERATIONS, sizeof *m.events)};
    uint32_t open[OPEN_MAX], count = 0, refused[6] = {0};
    uint64_t ms = 12345, granted = 0;
    assert_non_null(m.events);
    for (int i = 0; i < OPERATIONS; i++) {
        const uint32_t what = draw(10);
        const hob_quota_time t = at(ms);
        model_turn(&m, t);
        if (what < 4) { /* reserve */
            const uint32_t tokens = draw(50) == 0 ? 9000 + draw(2000) : 1 + draw(900);
            const uint64_t spent = model_window(&m, ms);
            hob_quota_refusal r = {0};
            const bool fits = spent + m.reserved + tokens <= limits.tokens_per_minute,
                       day_fits = m.day_spent + m.reserved + tokens <= limits.tokens_per_day;
            hob_quota_bound bound = count < OPEN_MAX ? hob_quota_reserve(&q, &limits, t, tokens, &r)
                                                     : hob_quota_ask(&q, &limits, t, tokens, &r);
            assert_int_equal(bound == HOB_QUOTA_OK, fits && day_fits);
            refused[bound]++;
            if (bound == HOB_QUOTA_OK && count < OPEN_MAX) {
                open[count++] = tokens;
                m.reserved += tokens;
                granted += tokens;
            } else if (bound == HOB_QUOTA_TOKENS && r.wait_ms > 0) {
                /* After exactly that wait, and not a millisecond sooner, it fits. */
                hob_quota copy = q;
                const uint64_t free_ms = ms + r.wait_ms;
                assert_int_not_equal(hob_quota_ask(&copy, &limits, at(free_ms - 1), tokens, &r),
                                     HOB_QUOTA_OK);
                const hob_quota_bound then = hob_quota_ask(&copy, &limits, at(free_ms), tokens, &r);
                assert_true(then == HOB_QUOTA_OK || then == HOB_QUOTA_DAY);
            }
        } else if (what < 8 && count > 0) { /* spend, or give back, some or all of a reservation */
            const uint32_t k = draw(count);
            const uint32_t part = draw(2) ? open[k] : draw(open[k] + 1);
            if (draw(3) > 0) {
                hob_quota_spend(&q, t, part);
                m.events[m.count].ms = ms;
                m.events[m.count++].tokens = part;
                m.day_spent += part;
            } else
                hob_quota_refund(&q, part);
            m.reserved -= part;
            open[k] -= part;
            if (open[k] == 0)
                open[k] = open[--count];
        } else
            ms += draw(200) == 0 ? draw(90000) : draw(1500);
        assert_int_equal(q.reserved, m.reserved);
        assert_int_equal(hob_window_sum(&q.tokens, ms), model_window(&m, ms));
        model_turn(&m, at(ms));
        if (q.day == m.day)
            assert_int_equal(q.day_spent, m.day_spent);
        assert_true(model_window(&m, ms) + q.reserved <= limits.tokens_per_minute);
        assert_true(q.day_spent + q.reserved <= limits.tokens_per_day);
    }
    assert_true(most_in_a_minute(&m) <= limits.tokens_per_minute);
    /* Every kind of answer came up. */
    assert_true(refused[HOB_QUOTA_OK] > 1000 && refused[HOB_QUOTA_TOKENS] > 1000 &&
                refused[HOB_QUOTA_DAY] > 100 && refused[HOB_QUOTA_TOO_LARGE] > 100);
    assert_true(granted > 1000000);
    free(m.events);
}

/* 64 clients that always want more: each asks, spends what it was given over the next moments, asks again. */
static void test_a_budget_is_served_in_full(void **state)
{
    (void)state;
    const hob_quota_limits limits = {.tokens_per_minute = 10000};
    enum { CLIENTS = 64, MINUTES = 30 };
    hob_quota q = {0};
    struct {
        uint64_t next_ms;
        uint32_t left;
    } clients[CLIENTS] = {{0}};
    uint64_t spent = 0;
    for (uint64_t ms = 0; ms < MINUTES * 60000; ms += 10)
        for (int i = 0; i < CLIENTS; i++) {
            hob_quota_refusal r = {0};
            if (clients[i].next_ms > ms)
                continue;
            if (clients[i].left > 0) {
                const uint32_t part = 1 + draw(clients[i].left), back = draw(4) == 0 ? part / 2 : 0;
                hob_quota_spend(&q, at(ms), part - back);
                hob_quota_refund(&q, back);
                spent += part - back;
                clients[i].left -= part;
                clients[i].next_ms = ms + draw(400);
                continue;
            }
            const uint32_t wanted = 20 + draw(180);
            if (hob_quota_reserve(&q, &limits, at(ms), wanted, &r) == HOB_QUOTA_OK)
                clients[i].left = wanted;
            else
                clients[i].next_ms = ms + (r.wait_ms ? r.wait_ms : 1000);
        }
    assert_true(spent <= (uint64_t)limits.tokens_per_minute * MINUTES);
    assert_true(spent >= limits.tokens_per_minute * MINUTES * 95 / 100);
}

static void test_requests(void **state)
{
    (void)state;
    const hob_quota_limits limits = {.requests_per_minute = 5, .concurrent_requests = 3};
    hob_quota q = {0};
    hob_quota_refusal r = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(hob_quota_begin(&q, &limits, at(1000), &r), HOB_QUOTA_OK);
    assert_int_equal(hob_quota_begin(&q, &limits, at(1000), &r), HOB_QUOTA_CONCURRENT);
    assert_int_equal(r.limit, 3);
    assert_int_equal(r.wait_ms, 0);
    hob_quota_end(&q, false, 1000);
    hob_quota_end(&q, true, 1000); /* did nothing: the minute holds two */
    assert_int_equal(q.running, 1);
    for (int i = 0; i < 3; i++) { /* the minute holds five, and none of them stays */
        assert_int_equal(hob_quota_begin(&q, &limits, at(2000), &r), HOB_QUOTA_OK);
        hob_quota_end(&q, false, 2000);
    }
    assert_int_equal(hob_quota_begin(&q, &limits, at(3000), &r), HOB_QUOTA_REQUESTS);
    assert_int_equal(r.wait_ms, 61500 - 3000); /* the slot of 1000 to 1499 */
    assert_int_equal(hob_quota_begin(&q, &limits, at(61499), &r), HOB_QUOTA_REQUESTS);
    assert_int_equal(hob_quota_begin(&q, &limits, at(61500), &r), HOB_QUOTA_OK);
    hob_quota_end(&q, true, 1000); /* long out of the window: nothing to take back */
    assert_int_equal(hob_window_sum(&q.requests, 61500), 4);
}

static void test_days(void **state)
{
    (void)state;
    const hob_quota_limits limits = {.tokens_per_day = 100};
    const int64_t midnight = (int64_t)20000 * 86400;
    hob_quota q = {.day = 19999, .day_spent = 60}; /* as the store remembers it */
    hob_quota_refusal r = {0};
    hob_quota_time t = {.now_ms = 5000, .now_s = midnight - 10};
    assert_int_equal(hob_quota_reserve(&q, &limits, t, 41, &r), HOB_QUOTA_DAY);
    assert_int_equal(r.wait_ms, 10000);
    assert_int_equal(r.spent, 60);
    assert_int_equal(hob_quota_reserve(&q, &limits, t, 101, &r), HOB_QUOTA_TOO_LARGE);
    assert_int_equal(hob_quota_reserve(&q, &limits, t, 40, &r), HOB_QUOTA_OK);
    assert_int_equal(hob_quota_ask(&q, &limits, t, 1, &r), HOB_QUOTA_DAY);
    assert_int_equal(r.wait_ms, 0); /* what runs may give some back */
    t.now_s = midnight;
    assert_int_equal(hob_quota_ask(&q, &limits, t, 61, &r), HOB_QUOTA_DAY);
    assert_int_equal(hob_quota_ask(&q, &limits, t, 60, &r), HOB_QUOTA_OK);
    hob_quota_spend(&q, t, 40); /* of the day on which it is used */
    assert_int_equal(q.day_spent, 40);
    t.now_s = midnight - 3600; /* a clock set back */
    assert_int_equal(hob_quota_ask(&q, &limits, t, 61, &r), HOB_QUOTA_DAY);
    assert_int_equal(q.day, 20000);
    t.now_s = midnight - 2 * 86400; /* one that was wrong by days */
    assert_int_equal(hob_quota_ask(&q, &limits, t, 61, &r), HOB_QUOTA_OK);
    assert_int_equal(q.day, 19998);
}

static void test_no_limits(void **state)
{
    (void)state;
    const hob_quota_limits limits = {0};
    hob_quota q = {0};
    hob_quota_refusal r = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(hob_quota_begin(&q, &limits, at(i), &r), HOB_QUOTA_OK);
        assert_int_equal(hob_quota_reserve(&q, &limits, at(i), UINT32_MAX, &r), HOB_QUOTA_OK);
        hob_quota_spend(&q, at(i),
                        UINT32_MAX); /* the slot is full: it stays so, and does not wrap */
    }
    assert_int_equal(hob_window_sum(&q.tokens, 1000), (uint64_t)2 * UINT32_MAX);
    assert_int_equal(hob_window_empty_ms(&q.tokens, 1000), 61000 - 1000);
    assert_int_equal(hob_window_sum(&q.tokens, 200000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations), cmocka_unit_test(test_a_budget_is_served_in_full),
        cmocka_unit_test(test_requests),          cmocka_unit_test(test_days),
        cmocka_unit_test(test_no_limits),
    };
    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
