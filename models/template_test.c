/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests: what may follow "is", and what select and its kin are given by name. */
#include "models/template_internal.h"

#include <string.h>

#define TEST(name)                                                                                 \
    static bool name(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)

static bool one(tmpl_run *r, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"value"};
    return hob_tmpl_bind(r, "this test", args, names, 1, 1, ret);
}

static bool two(tmpl_run *r, const tmpl_args *args, tmpl_value ret[2])
{
    static const char *const names[] = {"value", "other"};
    return hob_tmpl_bind(r, "this test", args, names, 2, 2, ret);
}

/* A test of the kind of one value. The answer is the template's own word on a value, so that it is
 * trusted. */
#define KIND_TEST(name, condition)                                                                 \
    TEST(name)                                                                                     \
    {                                                                                              \
        tmpl_value v;                                                                              \
        (void)self;                                                                                \
        if (!one(r, args, &v))                                                                     \
            return false;                                                                          \
        *ret = tmpl_bool(condition, true);                                                         \
        return true;                                                                               \
    }
KIND_TEST(t_defined, v.kind != TV_UNDEFINED)
KIND_TEST(t_undefined, v.kind == TV_UNDEFINED)
KIND_TEST(t_none, v.kind == TV_NONE)
KIND_TEST(t_string, v.kind == TV_STRING)
KIND_TEST(t_mapping, v.kind == TV_DICT)
KIND_TEST(t_iterable, v.kind == TV_UNDEFINED || (v.kind >= TV_STRING && v.kind <= TV_DICT))
KIND_TEST(t_sequence, v.kind == TV_UNDEFINED || (v.kind >= TV_STRING && v.kind <= TV_DICT))
KIND_TEST(t_number, tmpl_is_number(v))
KIND_TEST(t_integer, v.kind == TV_INT)
KIND_TEST(t_float, v.kind == TV_FLOAT)
KIND_TEST(t_boolean, v.kind == TV_BOOL)
KIND_TEST(t_true, v.kind == TV_BOOL && v.u.b)
KIND_TEST(t_false, v.kind == TV_BOOL && !v.u.b)
KIND_TEST(t_callable, v.kind == TV_UNDEFINED || (v.kind >= TV_BUILTIN && v.kind <= TV_LOOP) ||
                          v.kind == TV_JOINER)

static bool compare(tmpl_run *r, const tmpl_args *args, int op, tmpl_value *ret)
{
    tmpl_value v[2];
    bool result;
    if (!two(r, args, v) || !hob_tmpl_compare(r, op, v[0], v[1], &result))
        return false;
    *ret = tmpl_bool(result, true);
    return true;
}
#define COMPARE_TEST(name, op)                                                                     \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)self;                                                                                \
        return compare(r, args, op, ret);                                                          \
    }
COMPARE_TEST(t_eq, TMPL_OP2('=', '='))
COMPARE_TEST(t_ne, TMPL_OP2('!', '='))
COMPARE_TEST(t_lt, '<')
COMPARE_TEST(t_gt, '>')
COMPARE_TEST(t_le, TMPL_OP2('<', '='))
COMPARE_TEST(t_ge, TMPL_OP2('>', '='))
COMPARE_TEST(t_in, TMPL_OP_IN)

TEST(t_sameas)
{
    tmpl_value v[2];
    (void)self;
    if (!two(r, args, v))
        return false;
    bool same = v[0].kind == v[1].kind;
    if (same && v[0].kind >= TV_LIST)
        same = v[0].u.list == v[1].u.list;
    else if (same && !hob_tmpl_equal(r, v[0], v[1], &same))
        return false;
    *ret = tmpl_bool(same, true);
    return true;
}

static bool remainder_is(tmpl_run *r, tmpl_value v, tmpl_value by, int64_t want, tmpl_value *ret)
{
    tmpl_value rest;
    if (!hob_tmpl_require(r, v) || !hob_tmpl_require(r, by))
        return false;
    if (!tmpl_is_number(v) || !tmpl_is_number(by))
        return hob_tmpl_fail(r, HOB_EINVAL, "odd, even and divisibleby want numbers, got a %s",
                             hob_tmpl_type_name(v));
    bool same;
    if (!hob_tmpl_binary(r, '%', v, by, &rest) ||
        !hob_tmpl_equal(r, rest, tmpl_int(want, true), &same))
        return false;
    *ret = tmpl_bool(same, true);
    return true;
}
TEST(t_odd)
{
    tmpl_value v;
    (void)self;
    return one(r, args, &v) && remainder_is(r, v, tmpl_int(2, true), 1, ret);
}
TEST(t_even)
{
    tmpl_value v;
    (void)self;
    return one(r, args, &v) && remainder_is(r, v, tmpl_int(2, true), 0, ret);
}
TEST(t_divisibleby)
{
    tmpl_value v[2];
    (void)self;
    return two(r, args, v) && remainder_is(r, v[0], v[1], 0, ret);
}

static bool all_case(tmpl_run *r, const tmpl_args *args, const char *method, tmpl_value *ret)
{
    static const tmpl_args none = {0};
    tmpl_value v;
    return one(r, args, &v) && hob_tmpl_to_text(r, v, &v) &&
           hob_tmpl_string_method(method, strlen(method))->call(r, v, &none, ret);
}
TEST(t_upper)
{
    (void)self;
    return all_case(r, args, "isupper", ret);
}
TEST(t_lower)
{
    (void)self;
    return all_case(r, args, "islower", ret);
}

const tmpl_builtin *hob_tmpl_test(const char *name, size_t len)
{
    static const tmpl_builtin tests[] = {
        {"defined", t_defined},
        {"undefined", t_undefined},
        {"none", t_none},
        {"string", t_string},
        {"mapping", t_mapping},
        {"iterable", t_iterable},
        {"sequence", t_sequence},
        {"number", t_number},
        {"integer", t_integer},
        {"float", t_float},
        {"boolean", t_boolean},
        {"true", t_true},
        {"false", t_false},
        {"callable", t_callable},
        {"eq", t_eq},
        {"equalto", t_eq},
        {"==", t_eq},
        {"ne", t_ne},
        {"!=", t_ne},
        {"lt", t_lt},
        {"lessthan", t_lt},
        {"<", t_lt},
        {"gt", t_gt},
        {"greaterthan", t_gt},
        {">", t_gt},
        {"le", t_le},
        {"<=", t_le},
        {"ge", t_ge},
        {">=", t_ge},
        {"in", t_in},
        {"sameas", t_sameas},
        {"odd", t_odd},
        {"even", t_even},
        {"divisibleby", t_divisibleby},
        {"upper", t_upper},
        {"lower", t_lower},
    };
    return hob_tmpl_find_builtin(tests, sizeof tests / sizeof tests[0], name, len);
}
