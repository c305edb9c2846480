/* SPDX-License-Identifier: Apache-2.0
 *
 * Search by words alone: what a score means, and that it is BM25's order; collections by name. */
#include "daemon/store/search.h"

#include <math.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "tests/support/store_maker.h"

static made_store m;
static hob_diag diag;
static hob_collection store;
static hob_search_result found;

static const char *const texts[] = {
    "The crane of the harbour lifts red containers.",
    "Bread is baked for forty minutes. Bread, bread and again bread.",
    "A neutron star is what remains of a star.",
    "The harbour is closed on Sundays.",
    "Letters are carried in winter as well.",
};
enum { TEXTS = sizeof texts / sizeof *texts };

static int open_it(void **state)
{
    (void)state;
    made_store_open(&m);
    store = made_collection(&m, &m.mine, "house");
    const hob_file f = made_file(&m, &m.mine, "a.txt", "all");
    made_attachment(&m, &m.mine, &store, &f, "{}");
    (void)made_content(&m, texts, TEXTS, NULL, 0);
    return 0;
}

static int close_it(void **state)
{
    (void)state;
    hob_search_result_free(&found);
    made_store_close(&m);
    return 0;
}

static int look(const char *query, const char *collection, double threshold)
{
    hob_search s = {.scope = m.mine,
                    .collection_count = 1,
                    .named = true,
                    .queries = &query,
                    .query_count = 1,
                    .apart = true,
                    .k = 10,
                    .words_threshold = threshold};
    snprintf(s.collections[0], sizeof s.collections[0], "%s", collection);
    hob_search_result_free(&found);
    return hob_search_run(m.db, &s, &found, &diag);
}

static double score_of(const char *query)
{
    ok(look(query, "house", 0));
    assert_true(found.count > 0);
    return found.list[0].score;
}

static void test_scores(void **state)
{
    (void)state;
    /* All words are there, about once in a text of about the usual length. */
    assert_true(score_of("neutron") > 0.8);
    assert_int_equal(found.list[0].first, 2);
    assert_true(score_of("crane lifts containers") > 0.8);
    /* Half of them, a third: what is not there weighs the most. */
    const double half = score_of("neutron xylophone"),
                 third = score_of("neutron xylophone trombone");
    assert_true(half > 0.3 && half < 0.5);
    assert_true(third > 0.15 && third < half - 0.1);
    /* What many texts have says little. */
    assert_true(score_of("the neutron") > score_of("harbour neutron"));
    assert_true(score_of("is") <= 1 && found.count == 3);
    /* Often is more, with measure, and not more than all. */
    assert_true(score_of("bread") == 1);
    ok(look("nothing of this", "house", 0));
    ok(look("?!", "house", 0));
    assert_int_equal(found.count, 0);
}

static void test_order_and_threshold(void **state)
{
    (void)state;
    ok(look("harbour crane", "house", 0));
    assert_int_equal(found.count, 2);
    assert_int_equal(found.list[0].first, 0);
    assert_int_equal(found.list[1].first, 3);
    assert_int_equal(found.list[0].rank, 0);
    assert_int_equal(found.list[1].rank, 1);
    assert_int_equal(found.list[0].tokens, 10);
    assert_string_equal(found.list[0].text, texts[0]);
    ok(look("harbour crane", "house", 0.8));
    assert_int_equal(found.count, 1);
}

static void test_names(void **state)
{
    (void)state;
    const hob_collection second = made_collection(&m, &m.mine, "house");
    (void)made_collection(&m, &m.theirs, "garden");
    ok(look("crane", store.public, 0));
    assert_int_equal(found.count, 1);
    ok(look("crane", "house", 0)); /* the oldest */
    assert_int_equal(found.count, 1);
    ok(look("crane", second.public, 0));
    assert_int_equal(found.count, 0);
    assert_int_equal(look("crane", "garden", 0), HOB_ENOENT);
    assert_non_null(strstr(diag.text, "\"garden\""));
    assert_int_equal(look("crane", "vs_none", 0), HOB_ENOENT);
    assert_int_equal(look("crane", "", 0), HOB_ENOENT);
}

/* Neighbours stay what they are. */
static void test_apart(void **state)
{
    (void)state;
    const char *query = "star letters winter sundays";
    hob_search s = {.scope = m.mine,
                    .collection_count = 1,
                    .named = true,
                    .collections = {"house"},
                    .queries = &query,
                    .query_count = 1,
                    .k = 10};
    hob_search_result_free(&found);
    ok(hob_search_run(m.db, &s, &found, &diag));
    assert_int_equal(found.count, 1);
    assert_int_equal(found.list[0].tokens, 30);
    ok(look(query, "house", 0));
    assert_int_equal(found.count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scores, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_order_and_threshold, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_names, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_apart, open_it, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
