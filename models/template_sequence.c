/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters of sequences: choosing, mapping, sorting, joining. What jinja2 gives as a generator is a
 * list here. Items are passed on as they are, with their trust; join keeps it byte for byte. */
#include "models/template_internal.h"

#include <string.h>

static bool new_list(tmpl_run *r, size_t cap, tmpl_value *ret)
{
    *ret = (tmpl_value){.kind = TV_LIST, .trusted = true};
    return hob_tmpl_charge(r, cap) && hob_tmpl_list_new(r, cap, &ret->u.list);
}

/* --- choosing --- */
FILTER(f_default)
{
    BIND("default", 1, "value", "default_value", "boolean");
    bool use = v[0].kind == TV_UNDEFINED || (hob_tmpl_truthy(v[2]) && !hob_tmpl_truthy(v[0]));
    if (use && !tmpl_given(v[1]))
        return hob_tmpl_str_ref(r, "", 0, true, ret);
    *ret = use ? v[1] : v[0];
    return true;
}

FILTER(f_length)
{
    BIND("length", 1, "object");
    size_t n = 0;
    switch (v[0].kind) {
    case TV_UNDEFINED: break;
    case TV_STRING:
        n = hob_tmpl_chars(v[0].u.s->s, v[0].u.s->len);
        *ret = tmpl_int((int64_t)n, v[0].u.s->trust == TMPL_TRUSTED);
        return hob_tmpl_charge(r, v[0].u.s->len / 64);
    case TV_LIST:
    case TV_TUPLE: n = v[0].u.list->count; break;
    case TV_DICT: n = v[0].u.dict->count; break;
    default: return hob_tmpl_fail(r, HOB_EINVAL, "a %s has no length", hob_tmpl_type_name(v[0]));
    }
    *ret = tmpl_int((int64_t)n, v[0].trusted);
    return true;
}

static bool end_item(tmpl_run *r, tmpl_value v, bool last, tmpl_value *ret)
{
    tmpl_list *l;
    if (v.kind == TV_STRING && v.u.s->len > 0)
        return hob_tmpl_item(r, v, tmpl_int(last ? -1 : 0, true), ret);
    if (!hob_tmpl_iterate(r, v, &l))
        return false;
    if (l->count == 0)
        return hob_tmpl_undefined(r, "an item of an empty sequence", 28, ret);
    *ret = l->items[last ? l->count - 1 : 0];
    return true;
}
FILTER(f_first)
{
    BIND("first", 1, "seq");
    return end_item(r, v[0], false, ret);
}
FILTER(f_last)
{
    BIND("last", 1, "seq");
    return end_item(r, v[0], true, ret);
}

/* item.path: parts between dots, numbers being indices; what is undefined on the way becomes
 * `otherwise`, if given. */
static bool get_path_or(tmpl_run *r, tmpl_value item, tmpl_value path, tmpl_value otherwise,
                        tmpl_value *ret)
{
    const tmpl_str *s;
    *ret = item;
    if (path.kind == TV_INT) {
        if (!hob_tmpl_item(r, item, path, ret))
            return false;
        if (ret->kind == TV_UNDEFINED && tmpl_given(otherwise))
            *ret = otherwise;
        return true;
    }
    if (!hob_tmpl_want_string(r, "an attribute", path, &s))
        return false;
    for (size_t start = 0; start <= s->len;) {
        const char *dot = memchr(s->s + start, '.', s->len - start);
        size_t end = dot ? (size_t)(dot - s->s) : s->len;
        tmpl_value part;
        bool digits = end > start && end - start < 10;
        int64_t index = 0;
        for (size_t i = start; i < end && digits; i++) {
            digits = s->s[i] >= '0' && s->s[i] <= '9';
            index = index * 10 + (s->s[i] - '0');
        }
        if (digits)
            part = tmpl_int(index, true);
        else if (!hob_tmpl_str_ref(r, s->s + start, end - start, true, &part))
            return false;
        if (!hob_tmpl_charge(r, 1) || !hob_tmpl_item(r, *ret, part, ret))
            return false;
        if (ret->kind == TV_UNDEFINED && tmpl_given(otherwise))
            *ret = otherwise;
        start = end + 1;
    }
    return true;
}

static bool get_path(tmpl_run *r, tmpl_value item, tmpl_value path, tmpl_value *ret)
{
    return get_path_or(r, item, path, (tmpl_value){.kind = TV_MISSING}, ret);
}

FILTER(f_join)
{
    BIND("join", 1, "value", "d", "attribute");
    const tmpl_str *between = NULL, *s;
    tmpl_list *l;
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    if (!b || !hob_tmpl_iterate(r, v[0], &l) ||
        (tmpl_given(v[1]) && !hob_tmpl_text_of(r, v[1], &between)))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        tmpl_value item = l->items[i];
        if (tmpl_given(v[2]) && v[2].kind != TV_NONE && !get_path(r, item, v[2], &item))
            return false;
        if (!hob_tmpl_charge(r, 1) || (i > 0 && between && !hob_tmpl_buf_put_str(r, b, between)) ||
            !hob_tmpl_text_of(r, item, &s) || !hob_tmpl_buf_put_str(r, b, s))
            return false;
    }
    return hob_tmpl_buf_str(r, b, ret);
}

FILTER(f_list)
{
    BIND("list", 1, "value");
    tmpl_list *l;
    if (!hob_tmpl_iterate(r, v[0], &l) || !new_list(r, l->count, ret))
        return false;
    ret->trusted = v[0].trusted;
    for (size_t i = 0; i < l->count; i++)
        ret->u.list->items[ret->u.list->count++] = l->items[i];
    return true;
}

FILTER(f_reverse)
{
    BIND("reverse", 1, "value");
    const tmpl_value bounds[3] = {{.kind = TV_MISSING}, {.kind = TV_MISSING}, tmpl_int(-1, true)};
    tmpl_value all = v[0];
    if (v[0].kind == TV_STRING) {
        tmpl_value text;
        if (!hob_tmpl_slice(r, v[0], bounds, &text))
            return false;
        if (v[0].u.s->trust == TMPL_TRUSTED)
            *ret = text;
        else
            return hob_tmpl_str_ref(r, text.u.s->s, text.u.s->len, false, ret);
        return true;
    }
    all.kind = TV_LIST;
    return hob_tmpl_iterate(r, v[0], &all.u.list) && hob_tmpl_slice(r, all, bounds, ret);
}

FILTER(f_items)
{
    BIND("items", 1, "value");
    static const tmpl_str name = {.s = "items", .len = 5, .trust = TMPL_TRUSTED};
    static const tmpl_args none = {0};
    tmpl_value method;
    if (v[0].kind == TV_UNDEFINED)
        return new_list(r, 0, ret);
    if (v[0].kind != TV_DICT)
        return hob_tmpl_fail(r, HOB_EINVAL, "filter \"items\" wants a dictionary, got a %s",
                             hob_tmpl_type_name(v[0]));
    return hob_tmpl_attr(r, v[0], &name, &method) && hob_tmpl_call(r, method, &none, ret);
}

/* As jinja2 has it, map and select find nothing in what is false, even where it could not be
 * iterated over. */
static bool iterate_or_nothing(tmpl_run *r, tmpl_value v, tmpl_list **ret)
{
    return hob_tmpl_truthy(v) ? hob_tmpl_iterate(r, v, ret) : hob_tmpl_list_new(r, 0, ret);
}

/* The arguments of map or select after the first ones: a filter's or test's name and what it is
 * given. */
static bool apply(tmpl_run *r, const tmpl_builtin *b, tmpl_value item, const tmpl_args *args,
                  size_t skip, tmpl_value *ret)
{
    tmpl_args own = *args;
    own.count = args->count > skip ? args->count - skip + 1 : 1;
    if (!(own.pos = hob_tmpl_run_alloc(r, own.count, sizeof *own.pos)))
        return false;
    own.pos[0] = item;
    for (size_t i = 1; i < own.count; i++)
        own.pos[i] = args->pos[skip + i - 1];
    /* map(…, "map", "map", …) nests without a node of the tree */
    if (++r->depth > TMPL_EVAL_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "evaluation deeper than %d", TMPL_EVAL_DEPTH);
    bool ok = hob_tmpl_charge(r, 1) && b->call(r, tmpl_none(), &own, ret);
    r->depth--;
    return ok;
}

static bool find_by_name(tmpl_run *r, const char *what,
                         const tmpl_builtin *(*find)(const char *, size_t), tmpl_value name,
                         const tmpl_builtin **ret)
{
    const tmpl_str *s;
    if (!hob_tmpl_want_string(r, what, name, &s))
        return false;
    *ret = find(s->s, s->len);
    return *ret || hob_tmpl_fail(r, HOB_EUNSUPPORTED, "%s: no filter or test named \"%.*s\"", what,
                                 (int)(s->len < 40 ? s->len : 40), s->s);
}

FILTER(f_map)
{
    tmpl_value path = {.kind = TV_MISSING}, otherwise = path;
    const tmpl_builtin *filter = NULL;
    tmpl_list *l;
    (void)self;
    if (!iterate_or_nothing(r, args->pos[0], &l) || !new_list(r, l->count, ret))
        return false;
    if (args->count > 1) {
        if (!find_by_name(r, "map", hob_tmpl_filter, args->pos[1], &filter))
            return false;
    } else {
        static const char *const names[] = {"attribute", "default"};
        tmpl_value v[2];
        const tmpl_args named = {
            .names = args->names, .named = args->named, .named_count = args->named_count};
        if (!hob_tmpl_bind(r, "filter \"map\"", &named, names, 2, 1, v))
            return false;
        path = v[0];
        otherwise = v[1];
    }
    for (size_t i = 0; i < l->count && i < ret->u.list->cap; i++) {
        tmpl_value *to = &ret->u.list->items[i];
        if (!(filter ? apply(r, filter, l->items[i], args, 2, to)
                     : get_path_or(r, l->items[i], path, otherwise, to)))
            return false;
        ret->u.list->count = i + 1;
    }
    return true;
}

/* Keeps the items for which a test of the item (or of its attribute) gives `want`. */
static bool choose(tmpl_run *r, const tmpl_args *args, bool by_attribute, bool want,
                   tmpl_value *ret)
{
    const char *what = by_attribute ? "selectattr or rejectattr" : "select or reject";
    size_t skip = by_attribute ? 2 : 1;
    const tmpl_builtin *test = NULL;
    tmpl_list *l;
    if (args->count < skip)
        return hob_tmpl_fail(r, HOB_EINVAL, "%s needs an attribute", what);
    if (args->count > skip && !find_by_name(r, what, hob_tmpl_test, args->pos[skip], &test))
        return false;
    if (!iterate_or_nothing(r, args->pos[0], &l) || !new_list(r, 0, ret))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        tmpl_value item = l->items[i], v = item;
        if (!hob_tmpl_charge(r, 1) || (by_attribute && !get_path(r, item, args->pos[1], &v)) ||
            (test && !apply(r, test, v, args, skip + 1, &v)))
            return false;
        if (hob_tmpl_truthy(v) == want && !hob_tmpl_list_push(r, ret->u.list, item))
            return false;
    }
    return true;
}
FILTER(f_select)
{
    (void)self;
    return choose(r, args, false, true, ret);
}
FILTER(f_reject)
{
    (void)self;
    return choose(r, args, false, false, ret);
}
FILTER(f_selectattr)
{
    (void)self;
    return choose(r, args, true, true, ret);
}
FILTER(f_rejectattr)
{
    (void)self;
    return choose(r, args, true, false, ret);
}

/* --- order --- */

/* Equal values need no order, so that a list of nothing but None or undefined values can be sorted.
 */
static bool order_or_equal(tmpl_run *r, tmpl_value a, tmpl_value b, int *ret)
{
    bool same = false;
    if (a.kind == b.kind && a.kind != TV_STRING && !tmpl_is_number(a) &&
        !hob_tmpl_equal(r, a, b, &same))
        return false;
    *ret = 0;
    return same ||
           (hob_tmpl_require(r, a) && hob_tmpl_require(r, b) && hob_tmpl_order(r, a, b, ret));
}

bool hob_tmpl_sort(tmpl_run *r, const tmpl_value *keys, size_t count, bool reverse, size_t *order)
{
    size_t *from = order, *to = hob_tmpl_run_alloc(r, count, sizeof *to);
    if (!to)
        return false;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t mid = start + width < count ? start + width : count;
            size_t end = start + 2 * width < count ? start + 2 * width : count;
            for (size_t a = start, b = mid, k = start; k < end; k++) {
                int c = -1;
                if (a < mid && b < end && !order_or_equal(r, keys[from[a]], keys[from[b]], &c))
                    return false;
                bool left = b == end || (a < mid && (c == 2 || (reverse ? c >= 0 : c <= 0)));
                to[k] = left ? from[a++] : from[b++];
            }
        }
        size_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != order)
        memcpy(order, from, count * sizeof *order);
    return true;
}

static bool sort_key(tmpl_run *r, tmpl_value item, tmpl_value path, bool case_sensitive,
                     tmpl_value *ret)
{
    *ret = item;
    if (tmpl_given(path) && path.kind != TV_NONE && !get_path(r, item, path, ret))
        return false;
    return case_sensitive || ret->kind != TV_STRING ||
           hob_tmpl_change_case(r, ret->u.s, TMPL_LOWER, ret);
}

static bool sorted(tmpl_run *r, const tmpl_list *l, tmpl_value path, bool case_sensitive,
                   bool reverse, tmpl_value *ret)
{
    size_t n = l->count;
    tmpl_value *keys = hob_tmpl_run_alloc(r, n, sizeof *keys);
    size_t *order = hob_tmpl_run_alloc(r, n, sizeof *order);
    if (!keys || !order || !new_list(r, n, ret))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!sort_key(r, l->items[i], path, case_sensitive, &keys[i]))
            return false;
    }
    if (!hob_tmpl_sort(r, keys, n, reverse, order))
        return false;
    for (size_t i = 0; i < n; i++)
        ret->u.list->items[i] = l->items[order[i]];
    ret->u.list->count = n;
    return true;
}

FILTER(f_sort)
{
    BIND("sort", 1, "value", "reverse", "case_sensitive", "attribute");
    tmpl_list *l;
    return hob_tmpl_iterate(r, v[0], &l) &&
           sorted(r, l, v[3], hob_tmpl_truthy(v[2]), hob_tmpl_truthy(v[1]), ret);
}

FILTER(f_dictsort)
{
    BIND("dictsort", 1, "value", "case_sensitive", "by", "reverse");
    tmpl_value items, by = tmpl_int(0, true);
    const tmpl_args one = {.pos = v, .count = 1};
    if (v[2].kind == TV_STRING && v[2].u.s->len == 5 && memcmp(v[2].u.s->s, "value", 5) == 0)
        by = tmpl_int(1, true);
    return hob_tmpl_require(r, v[0]) && f_items(r, self, &one, &items) &&
           sorted(r, items.u.list, by, hob_tmpl_truthy(v[1]), hob_tmpl_truthy(v[3]), ret);
}

FILTER(f_unique)
{
    BIND("unique", 1, "value", "case_sensitive", "attribute");
    tmpl_list *l, *seen;
    if (!hob_tmpl_iterate(r, v[0], &l) || !hob_tmpl_list_new(r, 0, &seen) || !new_list(r, 0, ret))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        tmpl_value key;
        bool known = false;
        if (!sort_key(r, l->items[i], v[2], hob_tmpl_truthy(v[1]), &key))
            return false;
        for (size_t k = 0; k < seen->count && !known; k++) {
            if (!hob_tmpl_equal(r, seen->items[k], key, &known))
                return false;
        }
        if (!known &&
            (!hob_tmpl_list_push(r, seen, key) || !hob_tmpl_list_push(r, ret->u.list, l->items[i])))
            return false;
    }
    return true;
}

static bool extreme(tmpl_run *r, tmpl_value over, tmpl_value case_sensitive, tmpl_value path,
                    int sign, tmpl_value *ret)
{
    tmpl_list *l;
    tmpl_value best = tmpl_none();
    if (!hob_tmpl_iterate(r, over, &l))
        return false;
    if (l->count == 0)
        return hob_tmpl_undefined(r, "an item of an empty sequence", 28, ret);
    for (size_t i = 0; i < l->count; i++) {
        tmpl_value key;
        int c = sign;
        if (!sort_key(r, l->items[i], path, hob_tmpl_truthy(case_sensitive), &key) ||
            (i > 0 && !hob_tmpl_order(r, key, best, &c)))
            return false;
        if (c == sign) {
            best = key;
            *ret = l->items[i];
        }
    }
    return true;
}
FILTER(f_min)
{
    BIND("min", 1, "value", "case_sensitive", "attribute");
    return extreme(r, v[0], v[1], v[2], -1, ret);
}
FILTER(f_max)
{
    BIND("max", 1, "value", "case_sensitive", "attribute");
    return extreme(r, v[0], v[1], v[2], 1, ret);
}

FILTER(f_sum)
{
    BIND("sum", 1, "iterable", "attribute", "start");
    tmpl_list *l;
    tmpl_value sum = tmpl_given(v[2]) ? v[2] : tmpl_int(0, true);
    if (!hob_tmpl_iterate(r, v[0], &l))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        tmpl_value item = l->items[i];
        if ((tmpl_given(v[1]) && v[1].kind != TV_NONE && !get_path(r, item, v[1], &item)) ||
            !hob_tmpl_charge(r, 1) || !hob_tmpl_binary(r, '+', sum, item, &sum))
            return false;
    }
    *ret = sum;
    return true;
}

const tmpl_builtin *hob_tmpl_sequence_filter(const char *name, size_t len)
{
    static const tmpl_builtin filters[] = {
        {"length", f_length},
        {"count", f_length},
        {"first", f_first},
        {"last", f_last},
        {"join", f_join},
        {"default", f_default},
        {"d", f_default},
        {"map", f_map},
        {"select", f_select},
        {"reject", f_reject},
        {"selectattr", f_selectattr},
        {"list", f_list},
        {"rejectattr", f_rejectattr},
        {"sort", f_sort},
        {"unique", f_unique},
        {"reverse", f_reverse},
        {"items", f_items},
        {"dictsort", f_dictsort},
        {"min", f_min},
        {"max", f_max},
        {"sum", f_sum},
    };
    return hob_tmpl_find_builtin(filters, sizeof filters / sizeof filters[0], name, len);
}
