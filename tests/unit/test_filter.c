/* SPDX-License-Identifier: Apache-2.0
 *
 * Attribute filters: what they match, what is none. */
#include "daemon/store/filter.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

static json_t *load(const char *text)
{
    json_t *v = json_loads(text, 0, NULL);
    if (!v)
        fail_msg("not JSON: %s", text);
    return v;
}

#define ATTRIBUTES "{\"s\":\"m\",\"n\":5,\"x\":2.5,\"b\":true}"

static void test_matches(void **state)
{
    (void)state;
    static const struct {
        const char *type, *key, *value;
        bool matches;
    } cases[] = {
        {"eq", "s", "\"m\"", true},     {"eq", "s", "\"M\"", false}, {"eq", "n", "5", true},
        {"eq", "n", "5.0", true},       {"eq", "n", "\"5\"", false}, {"eq", "b", "true", true},
        {"eq", "b", "1", false},        {"eq", "none", "1", false},  {"ne", "none", "1", true},
        {"ne", "s", "\"m\"", false},    {"ne", "s", "1", true},      {"gt", "n", "4", true},
        {"gt", "n", "5", false},        {"gte", "n", "5", true},     {"lt", "x", "2.6", true},
        {"lt", "x", "2.5", false},      {"lte", "x", "2.5", true},   {"gt", "s", "\"a\"", true},
        {"gt", "s", "1", false},        {"lt", "s", "1", false},     {"lt", "none", "1", false},
        {"in", "n", "[1,5]", true},     {"in", "n", "[]", false},    {"in", "none", "[1]", false},
        {"nin", "n", "[1,5]", false},   {"nin", "n", "[1]", true},   {"nin", "none", "[1]", true},
        {"in", "s", "[1,\"m\"]", true}, {"gt", "n", "4.999", true},
    };
    json_t *attributes = load(ATTRIBUTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_diag diag = {""};
        json_t *f = json_pack("{s:s, s:s, s:o}", "type", cases[i].type, "key", cases[i].key,
                              "value", json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        if (hob_filter_check(f, &diag) < 0 || hob_filter_matches(f, attributes) != cases[i].matches)
            fail_msg("%s %s %s: %s", cases[i].key, cases[i].type, cases[i].value, diag.text);
        json_decref(f);
    }
    json_decref(attributes);
}

#define YES "{\"type\":\"eq\",\"key\":\"n\",\"value\":5}"
#define NO "{\"type\":\"eq\",\"key\":\"n\",\"value\":6}"

static void test_joined(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        bool matches;
    } cases[] = {
        {"{\"type\":\"and\",\"filters\":[" YES "," YES "]}", true},
        {"{\"type\":\"and\",\"filters\":[" YES "," NO "]}", false},
        {"{\"type\":\"or\",\"filters\":[" NO "," YES "]}", true},
        {"{\"type\":\"or\",\"filters\":[" NO "," NO "]}", false},
        {"{\"type\":\"and\",\"filters\":[]}", true},
        {"{\"type\":\"or\",\"filters\":[]}", false},
        {"{\"type\":\"and\",\"filters\":[" YES ",{\"type\":\"or\",\"filters\":[" NO "," YES "]}]}",
         true},
    };
    json_t *attributes = load(ATTRIBUTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_diag diag = {""};
        json_t *f = load(cases[i].filter);
        if (hob_filter_check(f, &diag) < 0 || hob_filter_matches(f, attributes) != cases[i].matches)
            fail_msg("case %zu: %s", i, diag.text);
        json_decref(f);
    }
    json_decref(attributes);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{}",
        "[]",
        "{\"type\":\"like\",\"key\":\"n\",\"value\":5}",
        "{\"type\":\"eq\",\"key\":\"n\"}",
        "{\"type\":\"eq\",\"key\":1,\"value\":5}",
        "{\"type\":\"eq\",\"key\":\"n\",\"value\":null}",
        "{\"type\":\"eq\",\"key\":\"n\",\"value\":[5]}",
        "{\"type\":\"eq\",\"key\":\"n\",\"value\":5,\"more\":1}",
        "{\"type\":\"gt\",\"key\":\"n\",\"value\":true}",
        "{\"type\":\"in\",\"key\":\"n\",\"value\":5}",
        "{\"type\":\"in\",\"key\":\"n\",\"value\":[[5]]}",
        "{\"type\":\"and\"}",
        "{\"type\":\"and\",\"filters\":{}}",
        "{\"type\":\"and\",\"filters\":[5]}",
        "{\"type\":\"or\",\"filters\":[],\"key\":\"n\"}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_diag diag = {""};
        json_t *f = load(cases[i]);
        if (hob_filter_check(f, &diag) != HOB_EINVAL || !strstr(diag.text, "filters: "))
            fail_msg("%s: \"%s\"", cases[i], diag.text);
        json_decref(f);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    hob_diag diag = {""};
    json_t *f = load(YES), *wide = json_array();
    for (int i = 1; i < HOB_FILTER_DEPTH_MAX; i++)
        f = json_pack("{s:s, s:[o]}", "type", "and", "filters", f);
    assert_int_equal(hob_filter_check(f, &diag), 0);
    f = json_pack("{s:s, s:[o]}", "type", "and", "filters", f);
    assert_int_equal(hob_filter_check(f, &diag), HOB_EINVAL);
    json_decref(f);
    for (int i = 0; i < HOB_FILTER_SIZE_MAX; i++)
        json_array_append_new(wide, json_integer(i));
    f = json_pack("{s:s, s:s, s:o}", "type", "in", "key", "n", "value", wide);
    assert_int_equal(hob_filter_check(f, &diag), HOB_EINVAL);
    json_array_remove(wide, 0);
    assert_int_equal(hob_filter_check(f, &diag), 0);
    json_decref(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
