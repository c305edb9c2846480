/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands behind a dot, in square brackets and before round ones: attributes, items, slices,
 * the methods of lists, dictionaries and loops, and the global functions. As in jinja2 an attribute
 * looks for a method first and an index for an item first; what is in neither is undefined, and
 * asking an undefined value for anything is an error. */
#include "models/template_internal.h"

#include <string.h>
#include <time.h>

const tmpl_builtin *hob_tmpl_find_builtin(const tmpl_builtin *table, size_t count, const char *name,
                                          size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return NULL;
}

bool hob_tmpl_bind(tmpl_run *r, const char *what, const tmpl_args *args, const char *const *names,
                   size_t count, size_t required, tmpl_value *ret)
{
    if (args->count > count)
        return hob_tmpl_fail(r, HOB_EINVAL, "%s takes at most %zu arguments, got %zu", what, count,
                             args->count);
    for (size_t i = 0; i < count; i++)
        ret[i] = i < args->count ? args->pos[i] : (tmpl_value){.kind = TV_MISSING};
    for (size_t k = 0; k < args->named_count; k++) {
        const tmpl_str *name = args->names[k];
        size_t i = 0;
        while (i < count &&
               !(strlen(names[i]) == name->len && memcmp(names[i], name->s, name->len) == 0))
            i++;
        if (i == count || tmpl_given(ret[i]))
            return hob_tmpl_fail(r, HOB_EINVAL, "%s does not take \"%.*s\"%s", what,
                                 (int)(name->len < 40 ? name->len : 40), name->s,
                                 i < count ? " twice" : "");
        ret[i] = args->named[k];
    }
    for (size_t i = 0; i < required; i++) {
        if (!tmpl_given(ret[i]))
            return hob_tmpl_fail(r, HOB_EINVAL, "%s needs the argument \"%s\"", what, names[i]);
    }
    return true;
}

bool hob_tmpl_want_string(tmpl_run *r, const char *what, tmpl_value v, const tmpl_str **ret)
{
    if (!hob_tmpl_require(r, v))
        return false;
    if (v.kind != TV_STRING)
        return hob_tmpl_fail(r, HOB_EINVAL, "%s wants a string, got a %s", what,
                             hob_tmpl_type_name(v));
    *ret = v.u.s;
    return true;
}

bool hob_tmpl_want_int(tmpl_run *r, const char *what, tmpl_value v, int64_t *ret)
{
    if (!hob_tmpl_require(r, v))
        return false;
    if (v.kind != TV_INT && v.kind != TV_BOOL)
        return hob_tmpl_fail(r, HOB_EINVAL, "%s wants an integer, got a %s", what,
                             hob_tmpl_type_name(v));
    *ret = v.kind == TV_INT ? v.u.i : v.u.b;
    return true;
}

/* --- methods of containers --- */
static bool no_args(tmpl_run *r, const char *what, const tmpl_args *args)
{
    return hob_tmpl_bind(r, what, args, NULL, 0, 0, NULL);
}

static bool make_list(tmpl_run *r, size_t cap, bool trusted, tmpl_value *ret)
{
    *ret = (tmpl_value){.kind = TV_LIST, .trusted = trusted};
    return hob_tmpl_charge(r, cap) && hob_tmpl_list_new(r, cap, &ret->u.list);
}

static bool m_items(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_dict *d = self.u.dict;
    if (!no_args(r, "items()", args) || !make_list(r, d->count, self.trusted, ret))
        return false;
    for (size_t i = 0; i < d->count; i++) {
        tmpl_value pair = {.kind = TV_TUPLE, .trusted = self.trusted};
        if (!hob_tmpl_list_new(r, 2, &pair.u.list))
            return false;
        pair.u.list->items[0] = d->entries[i].key;
        pair.u.list->items[1] = d->entries[i].value;
        pair.u.list->count = 2;
        ret->u.list->items[ret->u.list->count++] = pair;
    }
    return true;
}

static bool m_keys(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_dict *d = self.u.dict;
    if (!no_args(r, "keys()", args) || !make_list(r, d->count, self.trusted, ret))
        return false;
    for (size_t i = 0; i < d->count; i++)
        ret->u.list->items[ret->u.list->count++] = d->entries[i].key;
    return true;
}

static bool m_values(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_dict *d = self.u.dict;
    if (!no_args(r, "values()", args) || !make_list(r, d->count, self.trusted, ret))
        return false;
    for (size_t i = 0; i < d->count; i++)
        ret->u.list->items[ret->u.list->count++] = d->entries[i].value;
    return true;
}

static bool m_get(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"key", "default"};
    tmpl_value v[2], *hit;
    if (!hob_tmpl_bind(r, "get()", args, names, 2, 1, v) ||
        !hob_tmpl_dict_get(r, self.u.dict, v[0], &hit))
        return false;
    *ret = hit ? *hit : tmpl_given(v[1]) ? v[1] : tmpl_none();
    return true;
}

static bool m_copy(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    *ret = self;
    if (!no_args(r, "copy()", args))
        return false;
    if (self.kind == TV_LIST) {
        if (!make_list(r, self.u.list->count, self.trusted, ret))
            return false;
        for (size_t i = 0; i < self.u.list->count; i++)
            ret->u.list->items[ret->u.list->count++] = self.u.list->items[i];
        return true;
    }
    if (!hob_tmpl_charge(r, self.u.dict->count) ||
        !hob_tmpl_dict_new(r, self.u.dict->count, &ret->u.dict))
        return false;
    for (size_t i = 0; i < self.u.dict->count; i++)
        ret->u.dict->entries[ret->u.dict->count++] = self.u.dict->entries[i];
    return true;
}

/* jinja2's sandbox refuses this one; other runners of chat templates have it, and templates use it.
 */
static bool m_append(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"item"};
    tmpl_value v;
    *ret = tmpl_none();
    return hob_tmpl_bind(r, "append()", args, names, 1, 1, &v) &&
           hob_tmpl_list_push(r, self.u.list, v);
}

static bool m_list_index(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"item"};
    tmpl_value v;
    bool same = false;
    size_t i = 0;
    if (!hob_tmpl_bind(r, "index()", args, names, 1, 1, &v))
        return false;
    for (; i < self.u.list->count && !same; i++) {
        if (!hob_tmpl_equal(r, self.u.list->items[i], v, &same))
            return false;
    }
    if (!same)
        return hob_tmpl_fail(r, HOB_EINVAL, "index(): the item is not in the list");
    *ret = tmpl_int((int64_t)i - 1, self.trusted);
    return true;
}

static bool m_list_count(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"item"};
    tmpl_value v;
    bool same;
    int64_t n = 0;
    if (!hob_tmpl_bind(r, "count()", args, names, 1, 1, &v))
        return false;
    for (size_t i = 0; i < self.u.list->count; i++) {
        if (!hob_tmpl_equal(r, self.u.list->items[i], v, &same))
            return false;
        n += same;
    }
    *ret = tmpl_int(n, self.trusted);
    return true;
}

/* --- loops, cyclers --- */
static bool m_cycle(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    if (args->count == 0 || args->named_count > 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "cycle() wants values to go through");
    *ret = args->pos[self.u.loop->index % args->count];
    return true;
}

static bool m_changed(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    tmpl_loop *l = self.u.loop;
    bool same = l->changed_set && l->changed.count == args->count;
    for (size_t i = 0; i < args->count && same; i++) {
        if (!hob_tmpl_equal(r, l->changed.items[i], args->pos[i], &same))
            return false;
    }
    l->changed_set = true;
    l->changed.count = 0;
    for (size_t i = 0; i < args->count; i++) {
        if (!hob_tmpl_list_push(r, &l->changed, args->pos[i]))
            return false;
    }
    *ret = tmpl_bool(!same, true);
    return true;
}

static bool m_next(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    tmpl_counter *c = self.u.counter;
    if (!no_args(r, "next()", args))
        return false;
    *ret = c->items.items[c->next];
    c->next = (c->next + 1) % c->items.count;
    return true;
}

static bool m_reset(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    self.u.counter->next = 0;
    *ret = tmpl_none();
    return no_args(r, "reset()", args);
}

static bool loop_attr(tmpl_run *r, tmpl_loop *l, const char *name, size_t len, tmpl_value *ret)
{
    static const char *const names[] = {"index",  "index0",   "revindex", "revindex0",
                                        "length", "depth",    "depth0",   "first",
                                        "last",   "previtem", "nextitem"};
    size_t k = 0, i = l->index, n = l->items->count;
    while (k < sizeof names / sizeof names[0] &&
           !(strlen(names[k]) == len && memcmp(names[k], name, len) == 0))
        k++;
    switch (k) {
    case 0: *ret = tmpl_int((int64_t)i + 1, true); return true;
    case 1: *ret = tmpl_int((int64_t)i, true); return true;
    case 2: *ret = tmpl_int((int64_t)(n - i), true); return true;
    case 3: *ret = tmpl_int((int64_t)(n - i) - 1, true); return true;
    case 4: *ret = tmpl_int((int64_t)n, true); return true;
    case 5: *ret = tmpl_int((int64_t)l->depth, true); return true;
    case 6: *ret = tmpl_int((int64_t)l->depth - 1, true); return true;
    case 7: *ret = tmpl_bool(i == 0, true); return true;
    case 8: *ret = tmpl_bool(i + 1 == n, true); return true;
    case 9:
        if (i > 0) {
            *ret = l->items->items[i - 1];
            return true;
        }
        break;
    case 10:
        if (i + 1 < n) {
            *ret = l->items->items[i + 1];
            return true;
        }
        break;
    default: break;
    }
    return hob_tmpl_undefined(r, name, len, ret);
}

/* --- attributes and items --- */
static const tmpl_builtin *method_of(tmpl_value v, const char *name, size_t len)
{
    static const tmpl_builtin dict[] = {{"items", m_items},
                                        {"keys", m_keys},
                                        {"values", m_values},
                                        {"get", m_get},
                                        {"copy", m_copy}};
    static const tmpl_builtin list[] = {
        {"append", m_append}, {"index", m_list_index}, {"count", m_list_count}, {"copy", m_copy}};
    static const tmpl_builtin loop[] = {{"cycle", m_cycle}, {"changed", m_changed}};
    static const tmpl_builtin cycler[] = {{"next", m_next}, {"reset", m_reset}};
    switch (v.kind) {
    case TV_STRING: return hob_tmpl_string_method(name, len);
    case TV_DICT: return hob_tmpl_find_builtin(dict, 5, name, len);
    case TV_LIST: return hob_tmpl_find_builtin(list, 4, name, len);
    case TV_TUPLE: return hob_tmpl_find_builtin(list + 1, 2, name, len);
    case TV_LOOP: return hob_tmpl_find_builtin(loop, 2, name, len);
    case TV_CYCLER: return hob_tmpl_find_builtin(cycler, 2, name, len);
    default: return NULL;
    }
}

bool hob_tmpl_attr(tmpl_run *r, tmpl_value v, const tmpl_str *name, tmpl_value *ret)
{
    if (!hob_tmpl_require(r, v))
        return false;
    const tmpl_builtin *b = method_of(v, name->s, name->len);
    if (b) {
        tmpl_method *m = hob_tmpl_run_alloc(r, 1, sizeof *m);
        if (!m)
            return false;
        *m = (tmpl_method){v, b};
        *ret = (tmpl_value){.kind = TV_METHOD, .trusted = true, .u.method = m};
        return true;
    }
    if (v.kind == TV_DICT || v.kind == TV_NAMESPACE) {
        tmpl_value *hit;
        if (!hob_tmpl_dict_find(r, v.u.dict, name->s, name->len, &hit))
            return false;
        if (hit) {
            *ret = *hit;
            return true;
        }
    } else if (v.kind == TV_LOOP) {
        return loop_attr(r, v.u.loop, name->s, name->len, ret);
    } else if (v.kind == TV_CYCLER && name->len == 7 && memcmp(name->s, "current", 7) == 0) {
        *ret = v.u.counter->items.items[v.u.counter->next];
        return true;
    }
    return hob_tmpl_undefined(r, name->s, name->len, ret);
}

bool hob_tmpl_item(tmpl_run *r, tmpl_value v, tmpl_value key, tmpl_value *ret)
{
    if (!hob_tmpl_require(r, v))
        return false;
    if (v.kind == TV_DICT) {
        tmpl_value *hit;
        if (!hob_tmpl_dict_get(r, v.u.dict, key, &hit))
            return false;
        if (hit) {
            *ret = *hit;
            return true;
        }
    }
    if (key.kind == TV_STRING)
        return hob_tmpl_attr(r, v, key.u.s, ret);
    bool list = v.kind == TV_LIST || v.kind == TV_TUPLE;
    if ((list || v.kind == TV_STRING) && (key.kind == TV_INT || key.kind == TV_BOOL)) {
        int64_t i = key.kind == TV_INT ? key.u.i : key.u.b;
        size_t n = list ? v.u.list->count : hob_tmpl_chars(v.u.s->s, v.u.s->len);
        if (i < 0)
            i += (int64_t)n;
        if (i >= 0 && (size_t)i < n) {
            if (list) {
                *ret = v.u.list->items[i];
                return true;
            }
            size_t at = hob_tmpl_char_offset(v.u.s->s, v.u.s->len, (size_t)i);
            return hob_tmpl_charge(r, v.u.s->len / 64) &&
                   hob_tmpl_substr(r, v.u.s, at, at + hob_tmpl_char_len(v.u.s->s + at), ret);
        }
    }
    return hob_tmpl_undefined(r, "an item", 7, ret);
}

static bool slice_bound(tmpl_run *r, tmpl_value v, int64_t otherwise, int64_t *ret)
{
    *ret = otherwise;
    return !tmpl_given(v) || v.kind == TV_NONE || hob_tmpl_want_int(r, "a slice", v, ret);
}

static int64_t clamp(int64_t i, int64_t lo, int64_t hi)
{
    return i < lo ? lo : i > hi ? hi : i;
}

bool hob_tmpl_slice(tmpl_run *r, tmpl_value v, const tmpl_value bounds[3], tmpl_value *ret)
{
    bool list = v.kind == TV_LIST || v.kind == TV_TUPLE;
    int64_t start, end, step;
    if (!hob_tmpl_require(r, v))
        return false;
    if (!list && v.kind != TV_STRING)
        return hob_tmpl_fail(r, HOB_EINVAL, "a %s cannot be sliced", hob_tmpl_type_name(v));
    int64_t n = (int64_t)(list ? v.u.list->count : hob_tmpl_chars(v.u.s->s, v.u.s->len));
    if (!slice_bound(r, bounds[2], 1, &step))
        return false;
    if (step == 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "a slice with step zero");
    if (step < -n - 1 || step > n + 1)
        step = step < 0 ? -n - 1 : n + 1;
    if (!slice_bound(r, bounds[0], step > 0 ? 0 : n - 1, &start) ||
        !slice_bound(r, bounds[1], step > 0 ? n : -n - 1, &end))
        return false;
    start = start < 0 ? clamp(start, -n - 1, 0) + n : start;
    end = end < 0 ? clamp(end, -n - 1, 0) + n : end;
    start = step > 0 ? clamp(start, 0, n) : clamp(start, -1, n - 1);
    end = step > 0 ? clamp(end, 0, n) : clamp(end, -1, n - 1);
    if (v.kind == TV_STRING) {
        const tmpl_str *s = v.u.s;
        if (!hob_tmpl_charge(r, s->len / 64))
            return false;
        if (step == 1) {
            size_t a = hob_tmpl_char_offset(s->s, s->len, (size_t)start);
            size_t b = end > start
                           ? a + hob_tmpl_char_offset(s->s + a, s->len - a, (size_t)(end - start))
                           : a;
            return hob_tmpl_substr(r, s, a, b, ret);
        }
    }
    tmpl_list *from, *to;
    if (!hob_tmpl_iterate(r, v, &from) || !hob_tmpl_list_new(r, 0, &to))
        return false;
    tmpl_buf *b = list ? NULL : hob_tmpl_run_alloc(r, 1, sizeof *b);
    if (!list && !b)
        return false;
    for (int64_t i = start; step > 0 ? i < end : i > end; i += step) {
        if (!hob_tmpl_charge(r, 1) || !(list ? hob_tmpl_list_push(r, to, from->items[i])
                                             : hob_tmpl_buf_put_str(r, b, from->items[i].u.s)))
            return false;
    }
    if (!list)
        return hob_tmpl_buf_str(r, b, ret);
    *ret = (tmpl_value){.kind = v.kind, .trusted = v.trusted, .u.list = to};
    return true;
}

/* --- globals --- */
static bool g_range(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"start", "stop", "step"};
    tmpl_value v[3];
    int64_t start = 0, stop, step = 1, span;
    bool trusted = true;
    (void)self;
    if (!hob_tmpl_bind(r, "range()", args, names, 3, 1, v) ||
        !hob_tmpl_want_int(r, "range()", v[tmpl_given(v[1])], &stop) ||
        (tmpl_given(v[1]) && !hob_tmpl_want_int(r, "range()", v[0], &start)) ||
        (tmpl_given(v[2]) && !hob_tmpl_want_int(r, "range()", v[2], &step)))
        return false;
    for (size_t i = 0; i < 3; i++)
        trusted = trusted && (!tmpl_given(v[i]) || v[i].trusted);
    if (step == 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "range() with step zero");
    if (__builtin_sub_overflow(stop, start, &span) || span == INT64_MIN || step == INT64_MIN)
        return hob_tmpl_fail(r, HOB_ELIMIT, "range() of more than %d items", TMPL_RANGE_MAX);
    int64_t count =
        (span > 0) != (step > 0) || span == 0 ? 0 : (span - (step > 0 ? 1 : -1)) / step + 1;
    if (count > TMPL_RANGE_MAX)
        return hob_tmpl_fail(r, HOB_ELIMIT, "range() of %lld items, at most %d", (long long)count,
                             TMPL_RANGE_MAX);
    if (!make_list(r, (size_t)count, trusted, ret))
        return false;
    for (int64_t i = 0; i < count; i++)
        ret->u.list->items[ret->u.list->count++] = tmpl_int(start + i * step, trusted);
    return true;
}

static bool from_args(tmpl_run *r, const char *what, int kind, const tmpl_args *args,
                      tmpl_value *ret)
{
    *ret = (tmpl_value){.kind = (uint8_t)kind, .trusted = true};
    if (args->count > 1 ||
        (args->count == 1 && args->pos[0].kind != TV_DICT && args->pos[0].kind != TV_NAMESPACE))
        return hob_tmpl_fail(r, HOB_EINVAL, "%s wants keyword arguments or one dictionary", what);
    if (!hob_tmpl_dict_new(r, args->named_count, &ret->u.dict))
        return false;
    for (size_t i = 0; args->count == 1 && i < args->pos[0].u.dict->count; i++) {
        const tmpl_entry *e = &args->pos[0].u.dict->entries[i];
        if (!hob_tmpl_charge(r, 1) || !hob_tmpl_dict_set(r, ret->u.dict, e->key, e->value))
            return false;
    }
    for (size_t i = 0; i < args->named_count; i++) {
        if (!hob_tmpl_dict_set(r, ret->u.dict, tmpl_string(args->names[i]), args->named[i]))
            return false;
    }
    return true;
}
static bool g_namespace(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    (void)self;
    return from_args(r, "namespace()", TV_NAMESPACE, args, ret);
}
static bool g_dict(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    (void)self;
    return from_args(r, "dict()", TV_DICT, args, ret);
}

static bool g_raise_exception(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"message"};
    tmpl_value v, text;
    (void)self;
    (void)ret;
    if (!hob_tmpl_bind(r, "raise_exception()", args, names, 1, 1, &v) ||
        !hob_tmpl_to_text(r, v, &text))
        return false;
    return hob_tmpl_fail(r, HOB_EINVAL, "%.*s", (int)(text.u.s->len < 160 ? text.u.s->len : 160),
                         text.u.s->s);
}

/* The date of now in UTC: an engine in its sandbox reads no time zone files. */
static bool g_strftime_now(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"format"};
    tmpl_value v;
    const tmpl_str *format = NULL;
    (void)self;
    if (!hob_tmpl_bind(r, "strftime_now()", args, names, 1, 1, &v) ||
        !hob_tmpl_want_string(r, "strftime_now()", v, &format))
        return false;
    char pattern[128], text[512];
    if (format->len >= sizeof pattern - 1 || memchr(format->s, 0, format->len))
        return hob_tmpl_fail(r, HOB_ELIMIT, "strftime_now() with a format of %zu bytes",
                             format->len);
    memcpy(pattern, format->s, format->len);
    pattern[format->len] = 'x'; /* so that 0 means only that text is too small */
    pattern[format->len + 1] = 0;
    time_t now = time(NULL);
    struct tm t;
    if (!gmtime_r(&now, &t))
        return hob_tmpl_fail(r, HOB_EIO, "the clock shows no valid date");
    size_t n = strftime(text, sizeof text, pattern, &t);
    if (n == 0 || !hob_tmpl_utf8_ok(text, n - 1))
        return hob_tmpl_fail(r, HOB_ELIMIT, "strftime_now() gives more than %zu bytes",
                             sizeof text);
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    return b && hob_tmpl_buf_put(r, b, text, n - 1, format->trust == TMPL_TRUSTED) &&
           hob_tmpl_buf_str(r, b, ret);
}

static bool counter(tmpl_run *r, int kind, const tmpl_args *args, tmpl_value *ret)
{
    tmpl_counter *c = hob_tmpl_run_alloc(r, 1, sizeof *c);
    if (!c)
        return false;
    for (size_t i = 0; i < args->count; i++) {
        if (!hob_tmpl_list_push(r, &c->items, args->pos[i]))
            return false;
    }
    *ret = (tmpl_value){.kind = (uint8_t)kind, .trusted = true, .u.counter = c};
    return true;
}
static bool g_cycler(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    (void)self;
    if (args->count == 0 || args->named_count > 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "cycler() wants values to go through");
    return counter(r, TV_CYCLER, args, ret);
}
static bool g_joiner(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"sep"};
    tmpl_value sep;
    (void)self;
    if (!hob_tmpl_bind(r, "joiner()", args, names, 1, 0, &sep))
        return false;
    if (!tmpl_given(sep) && !hob_tmpl_str_ref(r, ", ", 2, true, &sep))
        return false;
    const tmpl_args one = {.pos = &sep, .count = 1};
    return counter(r, TV_JOINER, &one, ret);
}

const tmpl_builtin *hob_tmpl_global(const char *name, size_t len)
{
    static const tmpl_builtin globals[] = {
        {"range", g_range},
        {"namespace", g_namespace},
        {"dict", g_dict},
        {"cycler", g_cycler},
        {"joiner", g_joiner},
        {"raise_exception", g_raise_exception},
        {"strftime_now", g_strftime_now},
    };
    return hob_tmpl_find_builtin(globals, sizeof globals / sizeof globals[0], name, len);
}
