/* SPDX-License-Identifier: Apache-2.0
 *
 * Search by words alone: what a score means, and that it is BM25's order; collections by name. */
#include "daemon/store/search_words.h"

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

/* ---- against the definition ---- */

enum { MANY = 300, VOCABULARY = 9, LONGEST = 40, QUERY_WORDS = 10, BEST = 50 };

static uint32_t counts[MANY][VOCABULARY], lengths[MANY]; /* times of each word; words in all */

static uint32_t pick(uint32_t below)
{
    static uint64_t state = 9;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static int open_many(void **state)
{
    (void)state;
    static char words[MANY][3 * LONGEST + 1];
    const char *list[MANY];
    made_store_open(&m);
    store = made_collection(&m, &m.mine, "house");
    const hob_file f = made_file(&m, &m.mine, "a.txt", "all");
    made_attachment(&m, &m.mine, &store, &f, "{}");
    for (uint32_t i = 0; i < MANY; i++) {
        const uint32_t length = 1 + pick(LONGEST);
        memset(counts[i], 0, sizeof counts[i]);
        for (uint32_t k = 0; k < length; k++) { /* some words are common, some are rare */
            const uint32_t a = pick(VOCABULARY), b = pick(VOCABULARY), c = pick(VOCABULARY),
                           least = a < b ? a : b, word = least < c ? least : c;
            snprintf(words[i] + 3 * k, 4, "w%u ", word);
            counts[i][word]++;
        }
        lengths[i] = length + 1; /* and the heading's */
        list[i] = words[i];
    }
    (void)made_content(&m, list, MANY, NULL, 0);
    return 0;
}

/* BM25 as search_words.c describes it. words: of the vocabulary; past it: in no chunk. */
static double defined_score(uint32_t chunk, const uint32_t *words, uint32_t word_count)
{
    double average = 0, score = 0, sum = 0;
    for (uint32_t i = 0; i < MANY; i++)
        average += (double)lengths[i] / MANY;
    for (uint32_t w = 0; w < word_count; w++) {
        uint32_t with = 0;
        for (uint32_t i = 0; i < MANY && words[w] < VOCABULARY; i++)
            with += counts[i][words[w]] > 0;
        with = with > 2 ? with : 2;
        const double weight = fmax(1e-6, log((MANY - with + 0.5) / (with + 0.5))),
                     times = words[w] < VOCABULARY ? counts[chunk][words[w]] : 0;
        sum += weight;
        score += weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * lengths[chunk] / average));
    }
    return score / sum;
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void test_definition(void **state)
{
    (void)state;
    static const uint32_t queries[][QUERY_WORDS] = {
        {0}, {8}, {0, 1, 2}, {8, 0, 5, 9}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}};
    static const uint32_t query_words[] = {1, 1, 3, 4, QUERY_WORDS};
    uint64_t all[8];
    memset(all, 0xff, sizeof all);
    const hob_group_set any = {.words = all, .count = 512};

    for (size_t q = 0; q < sizeof query_words / sizeof *query_words; q++) {
        char text[4 * QUERY_WORDS + 1] = "";
        double scores[MANY];
        hob_ranked got[BEST];
        uint32_t count = 0, with = 0;
        for (uint32_t w = 0; w < query_words[q]; w++)
            snprintf(text + strlen(text), 5, "w%u, ", queries[q][w]);
        for (uint32_t i = 0; i < MANY; i++) {
            scores[i] = defined_score(i, queries[q], query_words[q]);
            with += scores[i] > 0;
        }
        ok(hob_search_words(m.db, m.mine.tenant, text, &any, 0, BEST, got, &count, &diag));
        assert_int_equal(count, with < BEST ? with : BEST);
        for (uint32_t i = 0; i < count; i++)
            assert_true(fabs(got[i].score - scores[hob_stored_ordinal(got[i].chunk)]) < 1e-12);
        qsort(scores, MANY, sizeof *scores, falling);
        for (uint32_t i = 0; i < count; i++)
            assert_true(fabs(got[i].score - scores[i]) < 1e-12);
    }
    const hob_group_set none = {.words = all, .count = 1};
    hob_ranked got[1];
    uint32_t count = 0;
    ok(hob_search_words(m.db, m.mine.tenant, "w1", &none, 0, 1, got, &count, &diag));
    assert_int_equal(count, 0);
    assert_int_equal(hob_search_words(m.db, m.mine.tenant, "w0", &any, 1, 1, got, &count, &diag),
                     HOB_ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scores, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_order_and_threshold, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_names, open_it, close_it),
        cmocka_unit_test_setup_teardown(test_definition, open_many, close_it),
        cmocka_unit_test_setup_teardown(test_apart, open_it, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
