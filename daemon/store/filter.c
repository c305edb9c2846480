/* SPDX-License-Identifier: Apache-2.0
 *
 * Attribute filters. See filter.h. */
#include "daemon/store/filter.h"

#include <string.h>

typedef enum operation { EQ, NE, GT, GTE, LT, LTE, IN, NIN, AND, OR, OPERATIONS } operation;

static operation operation_of(const json_t *filter)
{
    static const char *const names[] = {"eq",  "ne", "gt",  "gte", "lt",
                                        "lte", "in", "nin", "and", "or"};
    const char *type = json_string_value(json_object_get(filter, "type"));
    operation o = EQ;
    while (o < OPERATIONS && (!type || strcmp(type, names[o]) != 0))
        o++;
    return o;
}

/* ---- the check ---- */

static bool is_value(const json_t *v)
{
    return json_is_string(v) || json_is_number(v) || json_is_boolean(v);
}

static int check_comparison(const json_t *filter, operation o, uint32_t *size, hob_diag *diag)
{
    const json_t *value = json_object_get(filter, "value");
    size_t i;
    json_t *one;
    if (!json_is_string(json_object_get(filter, "key")) || json_object_size(filter) != 3)
        return hob_fail(diag, HOB_EINVAL,
                        "filters: a comparison has a type, a key and a value, and nothing else");
    if (o != IN && o != NIN)
        return is_value(value) && (o <= NE || !json_is_boolean(value))
                   ? 0
                   : hob_fail(diag, HOB_EINVAL, "filters: the value is a text%s",
                              o <= NE ? ", a number or a boolean" : " or a number");
    if (!json_is_array(value))
        return hob_fail(diag, HOB_EINVAL, "filters: in and nin take a list of values");
    json_array_foreach(value, i, one)
    {
        if (!is_value(one))
            return hob_fail(diag, HOB_EINVAL,
                            "filters: a list holds texts, numbers and booleans only");
    }
    *size += (uint32_t)json_array_size(value);
    return 0;
}

static int check(const json_t *filter, int depth, uint32_t *size, hob_diag *diag)
{
    const operation o = operation_of(filter);
    const json_t *filters = json_object_get(filter, "filters");
    int code = 0;
    size_t i;
    json_t *one;
    if (depth > HOB_FILTER_DEPTH_MAX)
        return hob_fail(diag, HOB_EINVAL, "filters: they are nested deeper than %d levels",
                        HOB_FILTER_DEPTH_MAX);
    if (o == OPERATIONS)
        return hob_fail(diag, HOB_EINVAL,
                        "filters: the type is eq, ne, gt, gte, lt, lte, in, nin, and, or");
    if (o < AND)
        code = check_comparison(filter, o, size, diag);
    else if (!json_is_array(filters) || json_object_size(filter) != 2)
        return hob_fail(diag, HOB_EINVAL,
                        "filters: and and or have a list of filters, and nothing else");
    if (code == 0 && ++*size > HOB_FILTER_SIZE_MAX)
        return hob_fail(diag, HOB_EINVAL, "filters: they have more than %d parts",
                        HOB_FILTER_SIZE_MAX);
    if (code < 0 || o < AND)
        return code;
    json_array_foreach(filters, i, one)
    {
        if ((code = check(one, depth + 1, size, diag)) < 0)
            return code;
    }
    return 0;
}

int hob_filter_check(const json_t *filter, hob_diag *diag)
{
    uint32_t size = 0;
    return check(filter, 1, &size, diag);
}

/* ---- the match ---- */

/* Whether they can be compared; *ret: below, equal or above 0. */
static bool compare(const json_t *a, const json_t *b, int *ret)
{
    if (json_is_string(a) && json_is_string(b)) {
        *ret = strcmp(json_string_value(a), json_string_value(b));
        return true;
    }
    if (json_is_boolean(a) && json_is_boolean(b)) {
        *ret = json_is_true(a) - json_is_true(b);
        return true;
    }
    if (!json_is_number(a) || !json_is_number(b))
        return false;
    if (json_is_integer(a) && json_is_integer(b)) {
        const json_int_t x = json_integer_value(a), y = json_integer_value(b);
        *ret = (x > y) - (x < y);
        return true;
    }
    const double x = json_number_value(a), y = json_number_value(b);
    *ret = (x > y) - (x < y);
    return true;
}

static bool is_in(const json_t *value, const json_t *list)
{
    size_t i;
    json_t *one;
    int order;
    json_array_foreach(list, i, one)
    {
        if (compare(value, one, &order) && order == 0)
            return true;
    }
    return false;
}

bool hob_filter_matches(const json_t *filter, const json_t *attributes)
{
    const operation o = operation_of(filter);
    size_t i;
    json_t *one;
    int order = 0;
    if (o >= AND) {
        json_array_foreach(json_object_get(filter, "filters"), i, one)
        {
            if (hob_filter_matches(one, attributes) != (o == AND))
                return o == OR;
        }
        return o == AND;
    }
    const json_t *value = json_object_get(filter, "value"),
                 *has =
                     json_object_get(attributes, json_string_value(json_object_get(filter, "key")));
    if (o == IN || o == NIN)
        return is_in(has, value) == (o == IN);
    const bool known = compare(has, value, &order);
    switch (o) {
    case EQ: return known && order == 0;
    case NE: return !known || order != 0;
    case GT: return known && order > 0;
    case GTE: return known && order >= 0;
    case LT: return known && order < 0;
    default: return known && order <= 0;
    }
}
