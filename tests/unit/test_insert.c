/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces in front of a message: the best so many that fit both bounds, counted in the prompt's own tokens; broken requests. */
#include "daemon/engine/insert.h"

#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on

static uint32_t made;
static char last[4096];

/* hob_prompt_maker: a byte is a token. */
static int make(void *user, json_t *messages, hob_ids *ids, hob_diag *diag)
{
    size_t i;
    json_t *m;
    (void)user;
    (void)diag;
    made++;
    last[0] = '\0';
    json_array_foreach(messages, i, m)
    {
        const char *s = json_string_value(json_object_get(m, "content"));
        strcat(strcat(last, s), "|");
    }
    for (const char *s = last; *s; s++)
        if (hob_ids_push(ids, (unsigned char)*s) < 0)
            return HOB_ENOMEM;
    return 0;
}

static hob_diag diag;
static hob_inserted got;

static int insert(const char *what, hob_ids *ids)
{
    json_t *messages = json_loads("[{\"role\": \"system\", \"content\": \"s\"},"
                                  " {\"role\": \"user\", \"content\": \"question\"}]",
                                  0, NULL),
           *o = json_loads(what, 0, NULL);
    assert_non_null(o);
    hob_ids_free(ids);
    assert_int_equal(make(NULL, messages, ids, &diag), 0);
    made = 0;
    const int code = hob_insert(messages, o, make, NULL, ids, &got, &diag);
    assert_string_equal(json_string_value(json_object_get(json_array_get(messages, 1), "content")),
                        "question");
    json_decref(messages);
    json_decref(o);
    return code;
}

#define PIECES                                                                                     \
    "\"message\": 1, \"before\": \"[\", \"after\": \"] \", \"texts\": [\"aaaa\", \"bb\", "         \
    "\"cccccc\"],"                                                                                 \
    " \"ranks\": [1, 2, 0]"

static void test_as_many_as_fit(void **state)
{
    (void)state;
    static const struct {
        uint32_t added, in_all, pieces;
        const char *prompt;
    } cases[] = {
        {100, 100, 3, "s|[aaaabbcccccc] question|"},
        {15, 100, 3, "s|[aaaabbcccccc] question|"},
        {14, 100, 2, "s|[aaaacccccc] question|"},
        {13, 100, 2, "s|[aaaacccccc] question|"},
        {12, 100, 1, "s|[cccccc] question|"},
        {9, 100, 1, "s|[cccccc] question|"},
        {8, 100, 0, "s|question|"},
        {0, 100, 0, "s|question|"},
        {100, 26, 3, "s|[aaaabbcccccc] question|"},
        {100, 25, 2, "s|[aaaacccccc] question|"},
        {100, 11, 0, "s|question|"},
        {100, 5, 0, "s|question|"},
    };
    hob_ids ids = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[256];
        snprintf(what, sizeof what, "{" PIECES ", \"max_tokens\": %u, \"max_prompt_tokens\": %u}",
                 cases[i].added, cases[i].in_all);
        assert_int_equal(insert(what, &ids), 0);
        assert_int_equal(got.pieces, cases[i].pieces);
        assert_int_equal(ids.count, strlen(cases[i].prompt));
        for (size_t k = 0; k < ids.count; k++)
            assert_int_equal(ids.data[k], (unsigned char)cases[i].prompt[k]);
        assert_int_equal(got.tokens, ids.count - 11);
    }
    hob_ids_free(&ids);
}

/* A prompt is not made anew for each of many pieces. */
static void test_many_pieces(void **state)
{
    (void)state;
    hob_ids ids = {0};
    json_t *o =
        json_pack("{s:i, s:s, s:s, s:[], s:[], s:i, s:i}", "message", 1, "before", "[", "after",
                  "]", "texts", "ranks", "max_tokens", 103, "max_prompt_tokens", 5000);
    for (int i = 0; i < 50; i++) {
        json_array_append_new(json_object_get(o, "texts"),
                              json_string("0123456789012345678901234567890123456789012345678"));
        json_array_append_new(json_object_get(o, "ranks"), json_integer(49 - i));
    }
    char *what = json_dumps(o, 0);
    assert_int_equal(insert(what, &ids), 0);
    assert_int_equal(got.pieces, 2);
    assert_in_range(made, 2, 5);
    free(what);
    json_decref(o);
    hob_ids_free(&ids);
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{}",
        "[]",
        "{\"message\": 2, \"before\": \"\", \"after\": \"\", \"texts\": [], \"ranks\": []}",
        "{\"message\": -1, \"before\": \"\", \"after\": \"\", \"texts\": [], \"ranks\": []}",
        "{\"message\": 1.0, \"before\": \"\", \"after\": \"\", \"texts\": [], \"ranks\": []}",
        "{\"message\": 1, \"after\": \"\", \"texts\": [], \"ranks\": []}",
        "{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [\"a\"], \"ranks\": []}",
        "{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [1], \"ranks\": [0]}",
        "{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [\"a\"], \"ranks\": [1]}",
        "{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [\"a\"], \"ranks\": [-1]}",
        "{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [\"a\"], \"ranks\": "
        "[null]}",
    };
    hob_ids ids = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (insert(cases[i], &ids) != HOB_EFORMAT)
            fail_msg("%s", cases[i]);
    assert_int_equal(insert("{\"message\": 1, \"before\": \"\", \"after\": \"\", \"texts\": [],"
                            " \"ranks\": []}",
                            &ids),
                     0);
    assert_int_equal(got.pieces, 0);
    hob_ids_free(&ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_as_fit),
        cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
