/* SPDX-License-Identifier: Apache-2.0
 *
 * Search in collections: words and vectors fused, what a scope and a filter leave, neighbours joined, thresholds; ranks that
 * do not depend on what others have stored. */
#include "daemon/store/search.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <math.h>

#include "hal/half.h"
#include "tests/support/store_maker.h"

enum { DIM = 32 };

static made_store m;
static hob_diag diag;
static hob_vectors *index_of_vectors;
static uint32_t groups;

static int open_it(void **state)
{
    (void)state;
    char path[96];
    made_store_open(&m);
    snprintf(path, sizeof path, "%s/vectors", m.dir);
    FILE *f = fopen(path, "w+");
    ok(hob_vectors_new(dup(fileno(f)), DIM, HOB_VECTORS_BYTES_MIN, &index_of_vectors, &diag));
    fclose(f);
    groups = 0;
    return 0;
}

static int close_it(void **state)
{
    (void)state;
    hob_vectors_free(index_of_vectors);
    made_store_close(&m);
    return 0;
}

/* A unit vector at `angle` in the plane of the first two. */
static void point(double angle, float ret[DIM])
{
    memset(ret, 0, DIM * sizeof *ret);
    ret[0] = (float)cos(angle);
    ret[1] = (float)sin(angle);
}

/* A document of these texts in the collection, chunk i at angles[i]. */
static hob_content put(const hob_scope *scope, const hob_collection *c, const char *name,
                       const char *attributes, const char *const *texts, const double *angles,
                       uint32_t count)
{
    uint16_t halves[8 * DIM];
    float rows[8 * DIM];
    uint64_t ids[8];
    uint32_t group[8];
    char bytes[40];
    snprintf(bytes, sizeof bytes, "%s %u", name, ++groups);
    const hob_file f = made_file(&m, scope, name, bytes);
    made_attachment(&m, scope, c, &f, attributes);
    for (uint32_t i = 0; i < count; i++) {
        point(angles[i], rows + i * DIM);
        for (uint32_t k = 0; k < DIM; k++)
            halves[i * DIM + k] = hob_float_to_half(rows[i * DIM + k]);
    }
    const hob_content t = made_content(&m, texts, count, halves, DIM);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint64_t)hob_stored_id(t.id, i);
        group[i] = (uint32_t)t.id;
    }
    ok(hob_vectors_add(index_of_vectors, rows, ids, group, count, &diag));
    return t;
}

#define PUT(scope, c, name, attributes, angle, text)                                               \
    (void)put(scope, c, name, attributes, (const char *const[]){text}, (const double[]){angle}, 1)

static hob_search ask(const hob_scope *scope, const hob_collection *c, const char *const *query,
                      const float *vector)
{
    hob_search s = {.scope = *scope,
                    .collection_count = 1,
                    .queries = query,
                    .query_count = 1,
                    .vectors = vector,
                    .dim = DIM,
                    .index = index_of_vectors,
                    .k = 10};
    memcpy(s.collections[0], c->public, sizeof c->public);
    return s;
}

/* The names of what is found, in order. */
static const char *names(const hob_search *s)
{
    static char list[512];
    hob_search_result r = {0};
    list[0] = '\0';
    ok(hob_search_run(m.db, s, &r, &diag));
    for (uint32_t i = 0; i < r.count; i++)
        strcat(strcat(list, i ? " " : ""), r.list[i].name);
    hob_search_result_free(&r);
    return list;
}

static void test_words_and_meaning(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c");
    float v[DIM];
    PUT(&m.mine, &c, "words", "{}", 1.5, "amber lamps in the harbour");
    PUT(&m.mine, &c, "meaning", "{}", 0.1, "lights of a port");
    PUT(&m.mine, &c, "both", "{}", 0.2, "amber lights");
    PUT(&m.mine, &c, "neither", "{}", 3.0, "bread and butter");
    const char *const query[] = {"amber?"};
    point(0, v);
    hob_search s = ask(&m.mine, &c, query, v);
    s.k = 3;
    assert_string_equal(names(&s),
                        "both words meaning"); /* first and second; first and third; first */
    s.meaning_only = true;
    assert_string_equal(names(&s), "meaning both words");
    s.threshold = 0.9;
    assert_string_equal(names(&s), "meaning both");
    s = ask(&m.mine, &c, query, NULL);
    assert_string_equal(names(&s), "both words"); /* the shorter one first */
    const char *const nothing[] = {"??? !"};
    s = ask(&m.mine, &c, nothing, NULL);
    assert_string_equal(names(&s), "");
    const char *const quoted[] = {"\"amber\" OR (NEAR text: * ^"}; /* no syntax of FTS5's */
    s = ask(&m.mine, &c, quoted, NULL);
    assert_string_equal(names(&s), "both words");
    const char *const accents[] = {"Ämber"};
    s = ask(&m.mine, &c, accents, NULL);
    assert_string_equal(names(&s), "both words");
}

/* The best by its words alone, which is not among those near in meaning, and the best by meaning alone. */
static void test_who_names_a_thing_gets_it(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c");
    const char *const query[] = {"amber"};
    float v[DIM];
    char name[16];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "near%d", i);
        PUT(&m.mine, &c, name, "{}", 0.001 * i, "stone");
    }
    PUT(&m.mine, &c, "named", "{}", 1.5, "amber");
    point(0, v);
    hob_search s = ask(&m.mine, &c, query, v);
    s.k = 2;
    assert_string_equal(names(&s), "named near0");
}

static void test_scores_are_cosines(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c");
    const char *const query[] = {"amber"};
    hob_search_result r = {0};
    float v[DIM];
    for (int i = 0; i < 150; i++) { /* more than are looked at by meaning */
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        PUT(&m.mine, &c, name, "{}", 0.3, "other");
    }
    PUT(&m.mine, &c, "far", "{}", 1.2, "amber");
    point(0, v);
    hob_search s = ask(&m.mine, &c, query, v);
    ok(hob_search_run(m.db, &s, &r, &diag));
    assert_int_equal(r.count, 10);
    for (uint32_t i = 0; i < r.count; i++) {
        const double wanted = strcmp(r.list[i].name, "far") == 0 ? cos(1.2) : cos(0.3);
        assert_true(fabs(r.list[i].score - wanted) < 0.002);
    }
    hob_search_result_free(&r);
    s.k = 50;
    s.threshold = 0.5;
    assert_null(strstr(names(&s), "far"));
}

static void test_several_queries(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c");
    float v[2 * DIM];
    PUT(&m.mine, &c, "amber", "{}", 0, "amber");
    PUT(&m.mine, &c, "bread", "{}", 1.5, "bread");
    PUT(&m.mine, &c, "cloth", "{}", 3.0, "cloth");
    const char *const queries[] = {"amber", "bread"};
    point(0, v);
    point(1.6, v + DIM); /* bread is what it asks for, amber the other exactly so */
    hob_search s = ask(&m.mine, &c, queries, v);
    s.query_count = 2;
    s.k = 2;
    assert_string_equal(names(&s), "amber bread");
    s.threshold = 0.99;
    s.k = 10;
    assert_string_equal(names(&s), "amber bread");
}

static void test_neighbours_are_joined(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c");
    static const char *const texts[] = {"amber one", "amber two", "bread", "amber four"};
    static const double angles[] = {0, 0, 1, 0};
    const char *const query[] = {"amber"};
    hob_search_result r = {0};
    const hob_content t = put(&m.mine, &c, "doc", "{}", texts, angles, 4);
    hob_search s = ask(&m.mine, &c, query, NULL);
    ok(hob_search_run(m.db, &s, &r, &diag));
    assert_int_equal(r.count, 2);
    const hob_found *f = &r.list[r.list[0].first == 0 ? 0 : 1];
    assert_int_equal(f->content, t.id);
    assert_int_equal(f->first, 0);
    assert_int_equal(f->last, 1);
    assert_string_equal(f->text, "amber one\namber two");
    assert_int_equal(f->first_byte, 0);
    assert_int_equal(f->end_byte, 19);
    assert_string_equal(f->heading, "Heading");
    hob_search_result_free(&r);
}

static void test_filters(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c"), d = made_collection(&m, &m.mine, "d");
    const char *const query[] = {"amber"};
    float v[DIM];
    PUT(&m.mine, &c, "old", "{\"year\":1990}", 0, "amber");
    PUT(&m.mine, &c, "new", "{\"year\":2020}", 0.1, "amber");
    PUT(&m.mine, &d, "elsewhere", "{\"year\":2020}", 0, "amber");
    point(0, v);
    hob_search s = ask(&m.mine, &c, query, v);
    assert_string_equal(names(&s), "old new");
    json_t *filter = json_pack("{s:s, s:s, s:i}", "type", "gt", "key", "year", "value", 2000);
    s.filter = filter;
    assert_string_equal(names(&s), "new");
    memcpy(s.collections[s.collection_count++], d.public, sizeof d.public);
    assert_string_equal(names(&s),
                        "elsewhere new"); /* the words are the same, the meaning is nearer */
    json_decref(filter);
}

static void test_scopes(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c"),
                   theirs = made_collection(&m, &m.theirs, "c");
    const char *const query[] = {"amber"};
    hob_search_result r = {0};
    float v[DIM];
    PUT(&m.mine, &c, "mine", "{}", 0, "amber");
    PUT(&m.theirs, &theirs, "theirs", "{}", 0, "amber");
    point(0, v);
    hob_search s = ask(&m.theirs, &c, query, v);
    assert_int_equal(hob_search_run(m.db, &s, &r, &diag), HOB_ENOENT);
    assert_int_equal(r.count, 0);
    s = ask(&m.theirs, &theirs, query, v);
    assert_string_equal(names(&s), "theirs");
    memcpy(s.collections[s.collection_count++], c.public, sizeof c.public);
    assert_int_equal(hob_search_run(m.db, &s, &r, &diag), HOB_ENOENT);
    hob_scope few = m.mine;
    few.all = false;
    snprintf(few.names, sizeof few.names, " other ");
    s = ask(&few, &c, query, v);
    assert_int_equal(hob_search_run(m.db, &s, &r, &diag), HOB_ENOENT);
}

/* What others store changes no rank and no score, so that nobody can find out about it. */
static void test_others_do_not_count(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "c"),
                   theirs = made_collection(&m, &m.theirs, "c");
    const char *const query[] = {"amber harbour"};
    hob_search_result before = {0}, after = {0};
    for (int i = 0; i < 6; i++)
        PUT(&m.mine, &c, "mine", "{}", 0, i % 2 ? "amber amber lamp" : "the harbour of amber");
    hob_search s = ask(&m.mine, &c, query, NULL);
    ok(hob_search_run(m.db, &s, &before, &diag));
    for (int i = 0; i < 50; i++)
        PUT(&m.theirs, &theirs, "theirs", "{}", 0, "harbour harbour harbour");
    ok(hob_search_run(m.db, &s, &after, &diag));
    assert_int_equal(before.count, after.count);
    for (uint32_t i = 0; i < before.count; i++) {
        assert_int_equal(before.list[i].content, after.list[i].content);
        assert_memory_equal(&before.list[i].score, &after.list[i].score, sizeof(double));
    }
    hob_search_result_free(&before);
    hob_search_result_free(&after);
}

/* Chunks that are stored, and even indexed, before their content is complete: however many and however near they are, they
 * take nobody's place. */
static void test_what_is_not_complete(void **state)
{
    (void)state;
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_collection c = made_collection(&m, &m.mine, "c");
    const char *const query[] = {"amber"};
    const hob_file f = made_file(&m, &m.mine, "half", "x");
    enum { CHUNKS = 300 };
    static float rows[CHUNKS * DIM];
    static uint64_t ids[CHUNKS];
    static uint32_t group[CHUNKS];
    hob_stored_chunk list[CHUNKS];
    hob_content t;
    float v[DIM];
    PUT(&m.mine, &c, "whole", "{}", 0.5, "amber among many other words that are of no interest");
    made_attachment(&m, &m.mine, &c, &f, "{}");
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    for (uint32_t i = 0; i < CHUNKS; i++) {
        list[i] = (hob_stored_chunk){2 * i, 2 * i + 1, 1, "", "amber", 5};
        point(0, rows + (size_t)i * DIM);
        ids[i] = (uint64_t)hob_stored_id(t.id, i);
        group[i] = (uint32_t)t.id;
    }
    ok(hob_content_add_chunks(m.db, &t, list, CHUNKS, 1, &diag));
    point(0, v);
    hob_search s = ask(&m.mine, &c, query, v);
    assert_string_equal(names(&s), "whole");
    ok(hob_content_extracted(m.db, &t, &diag));
    ok(hob_vectors_add(index_of_vectors, rows, ids, group, CHUNKS, &diag));
    assert_string_equal(names(&s), "whole");
    s = ask(&m.mine, &c, query, NULL);
    assert_string_equal(names(&s), "whole");
    s = ask(&m.mine, &c, query, v);
    ok(hob_content_fail(m.db, &t, "server_error", "no reason", &diag));
    assert_string_equal(names(&s), "whole");
    made_attachment(&m, &m.mine, &c, &f, "{}"); /* it begins again */
    bool left = true;
    ok(hob_content_cut(m.db, t.id, t.tenant, CHUNKS, &left, &diag));
    ok(hob_content_add_chunks(m.db, &t, list, 1, 1, &diag));
    ok(hob_content_extracted(m.db, &t, &diag));
    ok(hob_content_complete(m.db, &t, "", &diag));
    assert_string_equal(names(&s), "half whole");
    ok(hob_file_remove(m.db, &m.mine, f.public,
                       &diag)); /* at once, though its vector is still there */
    assert_string_equal(names(&s), "whole");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_it, close_it)
    const struct CMUnitTest tests[] = {
        TEST(test_words_and_meaning),
        TEST(test_who_names_a_thing_gets_it),
        TEST(test_scores_are_cosines),
        TEST(test_several_queries),
        TEST(test_neighbours_are_joined),
        TEST(test_filters),
        TEST(test_scopes),
        TEST(test_others_do_not_count),
        TEST(test_what_is_not_complete),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
