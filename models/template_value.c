/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena, and what can be done with values: text that knows which of its bytes are trusted,
 * lists, dictionaries, truth, equality, order, membership, conversion from JSON. Everything here is
 * bounded by the run's arena and steps; recursion over data by TMPL_DATA_DEPTH (a list can contain
 * itself). */
#include "models/template_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- arena --- */
#ifndef TMPL_CHUNK_BYTES /* 0 gives every allocation a chunk of its own, for sanitizers */
#define TMPL_CHUNK_BYTES ((size_t)32 << 10)
#endif

struct tmpl_chunk {
    tmpl_chunk *next;
    size_t used, cap;
    size_t unused; /* keeps bytes aligned to 16 */
    unsigned char bytes[];
};

void *hob_tmpl_alloc(tmpl_arena *a, size_t bytes)
{
    size_t size;
    if (!hob_add_size(bytes, 15, &size))
        return NULL;
    size &= ~(size_t)15;
    if (size == 0)
        size = 16;
    tmpl_chunk *c = a->chunks;
    if (!c || c->cap - c->used < size) {
        size_t cap = size > TMPL_CHUNK_BYTES ? size : TMPL_CHUNK_BYTES;
        if (cap > a->max_bytes - a->used_bytes) {
            if (size > a->max_bytes - a->used_bytes)
                return NULL;
            cap = size;
        }
        c = calloc(1, sizeof *c + cap);
        if (!c)
            return NULL;
        c->cap = cap;
        a->used_bytes += cap;
        /* a large block goes behind the open chunk, which still has room for small ones */
        if (a->chunks && size > TMPL_CHUNK_BYTES / 4) {
            c->next = a->chunks->next;
            a->chunks->next = c;
        } else {
            c->next = a->chunks;
            a->chunks = c;
        }
    }
    void *m = c->bytes + c->used;
    c->used += size;
    return m;
}

void hob_tmpl_arena_free(tmpl_arena *a)
{
    while (a->chunks) {
        tmpl_chunk *next = a->chunks->next;
        free(a->chunks);
        a->chunks = next;
    }
    a->used_bytes = 0;
}

int hob_tmpl_report(hob_diag *diag, int code, uint32_t line, const char *what)
{
    hob_fail(diag, code, "template line %u: %s", line, what);
    for (char *s = diag ? diag->text : ""; *s;) {
        size_t n = strnlen(s, hob_tmpl_char_len(s));
        if (!hob_tmpl_utf8_ok(s, n)) {
            *s = '?';
            n = 1;
        } else if (n == 1 && ((unsigned char)*s < ' ' || *s == 0x7f)) {
            *s = ' ';
        }
        s += n;
    }
    return code;
}

bool hob_tmpl_fail(tmpl_run *r, int code, const char *format, ...)
{
    if (r->error)
        return false;
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    r->error = hob_tmpl_report(r->diag, code, r->line, what);
    return false;
}

bool hob_tmpl_charge(tmpl_run *r, size_t steps)
{
    if (steps > r->steps_left) {
        r->steps_left = 0;
        return hob_tmpl_fail(r, HOB_ELIMIT, "more than %llu steps",
                             (unsigned long long)r->steps_max);
    }
    r->steps_left -= steps;
    return true;
}

void *hob_tmpl_run_alloc(tmpl_run *r, size_t count, size_t size)
{
    size_t bytes;
    void *m = hob_mul_size(count, size, &bytes) ? hob_tmpl_alloc(&r->arena, bytes) : NULL;
    if (!m)
        hob_tmpl_fail(r, HOB_ELIMIT, "more than %zu bytes of values", r->arena.max_bytes);
    return m;
}

/* --- text --- */
static bool put_range(tmpl_run *r, tmpl_buf *b, size_t start, size_t end)
{
    if (start == end)
        return true;
    if (b->range_count > 0 && b->ranges[b->range_count - 1].end == start) {
        b->ranges[b->range_count - 1].end =
            end; /* prefixes of this buffer clamp it to their length */
        return true;
    }
    if (b->range_count == b->range_cap) {
        size_t cap = b->range_cap ? b->range_cap * 2 : 4;
        hob_text_range *ranges = hob_tmpl_run_alloc(r, cap, sizeof *ranges);
        if (!ranges)
            return false;
        if (b->range_count > 0)
            memcpy(ranges, b->ranges, b->range_count * sizeof *ranges);
        b->ranges = ranges;
        b->range_cap = cap;
    }
    b->ranges[b->range_count++] = (hob_text_range){start, end};
    return true;
}

static bool put_bytes(tmpl_run *r, tmpl_buf *b, const char *s, size_t len)
{
    if (len > r->max_bytes - b->len)
        return hob_tmpl_fail(r, HOB_ELIMIT, "a text of more than %zu bytes", r->max_bytes);
    if (!hob_tmpl_charge(r, len / 256))
        return false;
    if (len > b->cap - b->len) {
        size_t cap = (b->len + len) + (b->len + len) / 2 + 32;
        char *data = hob_tmpl_run_alloc(r, cap, 1);
        if (!data)
            return false;
        if (b->len > 0)
            memcpy(data, b->data, b->len);
        b->data = data;
        b->cap = cap;
    }
    if (len > 0)
        memcpy(b->data + b->len, s, len);
    b->len += len;
    return true;
}

bool hob_tmpl_buf_put(tmpl_run *r, tmpl_buf *b, const char *s, size_t len, bool trusted)
{
    size_t start = b->len;
    return put_bytes(r, b, s, len) && (!trusted || put_range(r, b, start, start + len));
}

bool hob_tmpl_buf_put_str(tmpl_run *r, tmpl_buf *b, const tmpl_str *s)
{
    if (s->trust != TMPL_MIXED)
        return hob_tmpl_buf_put(r, b, s->s, s->len, s->trust == TMPL_TRUSTED);
    size_t start = b->len;
    if (!put_bytes(r, b, s->s, s->len) || !hob_tmpl_charge(r, s->range_count / 16))
        return false;
    for (size_t i = 0; i < s->range_count && s->ranges[i].start < s->len; i++) {
        size_t end = s->ranges[i].end < s->len ? s->ranges[i].end : s->len;
        if (!put_range(r, b, start + s->ranges[i].start, start + end))
            return false;
    }
    return true;
}

bool hob_tmpl_buf_str(tmpl_run *r, tmpl_buf *b, tmpl_value *ret)
{
    tmpl_str *s = hob_tmpl_run_alloc(r, 1, sizeof *s);
    if (!s)
        return false;
    *s = (tmpl_str){.s = b->data ? b->data : "", .len = b->len, .owner = b, .trust = TMPL_MIXED};
    s->ranges = b->ranges;
    s->range_count = b->range_count;
    if (b->range_count == 0 && b->len > 0)
        s->trust = TMPL_UNTRUSTED;
    else if (b->len == 0 ||
             (b->range_count == 1 && b->ranges[0].start == 0 && b->ranges[0].end >= b->len))
        s->trust = TMPL_TRUSTED;
    *ret = tmpl_string(s);
    return true;
}

bool hob_tmpl_str_ref(tmpl_run *r, const char *s, size_t len, bool trusted, tmpl_value *ret)
{
    tmpl_str *t = hob_tmpl_run_alloc(r, 1, sizeof *t);
    if (!t)
        return false;
    *t = (tmpl_str){.s = s, .len = len, .trust = trusted ? TMPL_TRUSTED : TMPL_UNTRUSTED};
    *ret = tmpl_string(t);
    return true;
}

bool hob_tmpl_substr(tmpl_run *r, const tmpl_str *s, size_t start, size_t end, tmpl_value *ret)
{
    if (start == 0 && end == s->len) {
        *ret = tmpl_string(s);
        return true;
    }
    if (!hob_tmpl_str_ref(r, s->s + start, end - start, s->trust == TMPL_TRUSTED, ret))
        return false;
    if (s->trust != TMPL_MIXED)
        return true;
    size_t lo = 0, hi = s->range_count; /* the first range that ends after start */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->ranges[mid].end <= start)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t last = lo;
    while (last < s->range_count && s->ranges[last].start < end)
        last++;
    if (last == lo)
        return true;
    hob_text_range *ranges = hob_tmpl_run_alloc(r, last - lo, sizeof *ranges);
    tmpl_str *t = hob_tmpl_run_alloc(r, 1, sizeof *t);
    if (!ranges || !t || !hob_tmpl_charge(r, (last - lo) / 16))
        return false;
    for (size_t i = lo; i < last; i++) {
        size_t a = s->ranges[i].start > start ? s->ranges[i].start : start;
        size_t b = s->ranges[i].end < end ? s->ranges[i].end : end;
        ranges[i - lo] = (hob_text_range){a - start, b - start};
    }
    *t = (tmpl_str){
        .s = s->s + start, .len = end - start, .ranges = ranges, .range_count = last - lo};
    t->trust =
        last - lo == 1 && ranges[0].end - ranges[0].start == t->len ? TMPL_TRUSTED : TMPL_MIXED;
    *ret = tmpl_string(t);
    return true;
}

bool hob_tmpl_concat(tmpl_run *r, const tmpl_str *a, const tmpl_str *b, tmpl_value *ret)
{
    if (b->len == 0 || a->len == 0) {
        *ret = tmpl_string(b->len == 0 ? a : b);
        return true;
    }
    tmpl_buf *buf = a->owner;
    if (!buf || buf->data != a->s || buf->len != a->len) {
        buf = hob_tmpl_run_alloc(r, 1, sizeof *buf);
        if (!buf || !hob_tmpl_buf_put_str(r, buf, a))
            return false;
    }
    return hob_tmpl_buf_put_str(r, buf, b) && hob_tmpl_buf_str(r, buf, ret);
}

bool hob_tmpl_undefined(tmpl_run *r, const char *text, size_t len, tmpl_value *ret)
{
    if (!hob_tmpl_str_ref(r, text, len, true, ret))
        return false;
    ret->kind = TV_UNDEFINED;
    return true;
}

/* --- containers --- */
bool hob_tmpl_list_new(tmpl_run *r, size_t cap, tmpl_list **ret)
{
    tmpl_list *l = hob_tmpl_run_alloc(r, 1, sizeof *l);
    if (!l || (cap > 0 && !(l->items = hob_tmpl_run_alloc(r, cap, sizeof *l->items))))
        return false;
    l->cap = cap;
    *ret = l;
    return hob_tmpl_charge(r, cap / 16);
}

bool hob_tmpl_list_push(tmpl_run *r, tmpl_list *l, tmpl_value v)
{
    if (l->count == l->cap) {
        size_t cap = l->cap < 4 ? 8 : l->cap * 2;
        tmpl_value *items = hob_tmpl_run_alloc(r, cap, sizeof *items);
        if (!items)
            return false;
        if (l->count > 0)
            memcpy(items, l->items, l->count * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = v;
    return true;
}

bool hob_tmpl_dict_new(tmpl_run *r, size_t cap, tmpl_dict **ret)
{
    tmpl_dict *d = hob_tmpl_run_alloc(r, 1, sizeof *d);
    if (!d || (cap > 0 && !(d->entries = hob_tmpl_run_alloc(r, cap, sizeof *d->entries))))
        return false;
    d->cap = cap;
    *ret = d;
    return true;
}

bool hob_tmpl_dict_find(tmpl_run *r, const tmpl_dict *d, const char *key, size_t len,
                        tmpl_value **ret)
{
    *ret = NULL;
    for (size_t i = 0; i < d->count; i++) {
        const tmpl_value *k = &d->entries[i].key;
        if (k->kind == TV_STRING && k->u.s->len == len && memcmp(k->u.s->s, key, len) == 0) {
            *ret = &d->entries[i].value;
            break;
        }
    }
    return hob_tmpl_charge(r, d->count / 8 + len / 64);
}

bool hob_tmpl_dict_get(tmpl_run *r, const tmpl_dict *d, tmpl_value key, tmpl_value **ret)
{
    *ret = NULL;
    if (key.kind == TV_STRING)
        return hob_tmpl_dict_find(r, d, key.u.s->s, key.u.s->len, ret);
    if (key.kind == TV_LIST || key.kind == TV_DICT)
        return hob_tmpl_fail(r, HOB_EINVAL, "a %s cannot be a key", hob_tmpl_type_name(key));
    for (size_t i = 0; i < d->count; i++) {
        bool equal;
        if (!hob_tmpl_equal(r, d->entries[i].key, key, &equal))
            return false;
        if (equal) {
            *ret = &d->entries[i].value;
            break;
        }
    }
    return true;
}

bool hob_tmpl_dict_set(tmpl_run *r, tmpl_dict *d, tmpl_value key, tmpl_value value)
{
    tmpl_value *old;
    if (!hob_tmpl_dict_get(r, d, key, &old))
        return false;
    if (old) {
        *old = value;
        return true;
    }
    if (d->count == d->cap) {
        size_t cap = d->cap < 4 ? 8 : d->cap * 2;
        tmpl_entry *entries = hob_tmpl_run_alloc(r, cap, sizeof *entries);
        if (!entries)
            return false;
        if (d->count > 0)
            memcpy(entries, d->entries, d->count * sizeof *entries);
        d->entries = entries;
        d->cap = cap;
    }
    d->entries[d->count++] = (tmpl_entry){key, value};
    return true;
}

/* --- truth, equality, order --- */
bool hob_tmpl_truthy(tmpl_value v)
{
    switch (v.kind) {
    case TV_MISSING:
    case TV_UNDEFINED:
    case TV_NONE: return false;
    case TV_BOOL: return v.u.b;
    case TV_INT: return v.u.i != 0;
    case TV_FLOAT: return v.u.f != 0;
    case TV_STRING: return v.u.s->len > 0;
    case TV_LIST:
    case TV_TUPLE: return v.u.list->count > 0;
    case TV_DICT: return v.u.dict->count > 0;
    default: return true;
    }
}

static double as_double(tmpl_value v)
{
    return v.kind == TV_FLOAT ? v.u.f : v.kind == TV_INT ? (double)v.u.i : v.u.b;
}

static int64_t as_int(tmpl_value v)
{
    return v.kind == TV_INT ? v.u.i : v.u.b;
}

static bool equal_at(tmpl_run *r, tmpl_value a, tmpl_value b, unsigned depth, bool *ret)
{
    *ret = false;
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "compared values nest deeper than %d", TMPL_DATA_DEPTH);
    if (!hob_tmpl_charge(r, 1))
        return false;
    if (tmpl_is_number(a) && tmpl_is_number(b)) {
        if (a.kind == TV_FLOAT || b.kind == TV_FLOAT)
            *ret = as_double(a) == as_double(b);
        else
            *ret = as_int(a) == as_int(b);
        return true;
    }
    if (a.kind != b.kind)
        return true;
    switch (a.kind) {
    case TV_UNDEFINED:
    case TV_NONE: *ret = true; return true;
    case TV_STRING:
        *ret = a.u.s->len == b.u.s->len && memcmp(a.u.s->s, b.u.s->s, a.u.s->len) == 0;
        return hob_tmpl_charge(r, *ret ? a.u.s->len / 256 : 0);
    case TV_LIST:
    case TV_TUPLE:
        if (a.u.list->count != b.u.list->count)
            return true;
        for (size_t i = 0; i < a.u.list->count; i++) {
            bool same;
            if (!equal_at(r, a.u.list->items[i], b.u.list->items[i], depth + 1, &same))
                return false;
            if (!same)
                return true;
        }
        *ret = true;
        return true;
    case TV_DICT:
        if (a.u.dict->count != b.u.dict->count)
            return true;
        for (size_t i = 0; i < a.u.dict->count; i++) {
            tmpl_value *other;
            bool same;
            if (!hob_tmpl_dict_get(r, b.u.dict, a.u.dict->entries[i].key, &other))
                return false;
            if (!other)
                return true;
            if (!equal_at(r, a.u.dict->entries[i].value, *other, depth + 1, &same))
                return false;
            if (!same)
                return true;
        }
        *ret = true;
        return true;
    default: *ret = a.u.list == b.u.list; return true; /* the same object */
    }
}

bool hob_tmpl_equal(tmpl_run *r, tmpl_value a, tmpl_value b, bool *ret)
{
    return equal_at(r, a, b, 0, ret);
}

static bool order_at(tmpl_run *r, tmpl_value a, tmpl_value b, unsigned depth, int *ret)
{
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "compared values nest deeper than %d", TMPL_DATA_DEPTH);
    if (!hob_tmpl_charge(r, 1))
        return false;
    if (tmpl_is_number(a) && tmpl_is_number(b)) {
        if (a.kind == TV_FLOAT || b.kind == TV_FLOAT) {
            double x = as_double(a), y = as_double(b);
            *ret = x != x || y != y ? 2 : (x > y) - (x < y);
        } else {
            *ret = (as_int(a) > as_int(b)) - (as_int(a) < as_int(b));
        }
        return true;
    }
    if (a.kind == TV_STRING && b.kind == TV_STRING) {
        size_t n = a.u.s->len < b.u.s->len ? a.u.s->len : b.u.s->len;
        int c = memcmp(a.u.s->s, b.u.s->s, n); /* UTF-8 sorts as its code points do */
        *ret = c ? (c > 0) - (c < 0) : (a.u.s->len > b.u.s->len) - (a.u.s->len < b.u.s->len);
        return hob_tmpl_charge(r, n / 256);
    }
    if (a.kind == b.kind && (a.kind == TV_LIST || a.kind == TV_TUPLE)) {
        size_t x = a.u.list->count, y = b.u.list->count;
        for (size_t i = 0; i < x && i < y; i++) {
            bool same;
            if (!equal_at(r, a.u.list->items[i], b.u.list->items[i], depth + 1, &same))
                return false;
            if (!same)
                return order_at(r, a.u.list->items[i], b.u.list->items[i], depth + 1, ret);
        }
        *ret = (x > y) - (x < y);
        return true;
    }
    return hob_tmpl_fail(r, HOB_EINVAL, "%s and %s have no order", hob_tmpl_type_name(a),
                         hob_tmpl_type_name(b));
}

bool hob_tmpl_order(tmpl_run *r, tmpl_value a, tmpl_value b, int *ret)
{
    return order_at(r, a, b, 0, ret);
}

bool hob_tmpl_contains(tmpl_run *r, tmpl_value container, tmpl_value item, bool *ret)
{
    *ret = false;
    switch (container.kind) {
    case TV_UNDEFINED: return true;
    case TV_STRING:
        if (item.kind != TV_STRING)
            return hob_tmpl_fail(r, HOB_EINVAL, "\"in\" a string wants a string, got %s",
                                 hob_tmpl_type_name(item));
        *ret = memmem(container.u.s->s, container.u.s->len, item.u.s->s, item.u.s->len) != NULL;
        return hob_tmpl_charge(r, container.u.s->len / 64);
    case TV_LIST:
    case TV_TUPLE:
        for (size_t i = 0; i < container.u.list->count && !*ret; i++) {
            if (!hob_tmpl_equal(r, container.u.list->items[i], item, ret))
                return false;
        }
        return true;
    case TV_DICT: {
        tmpl_value *hit;
        if (!hob_tmpl_dict_get(r, container.u.dict, item, &hit))
            return false;
        *ret = hit != NULL;
        return true;
    }
    default:
        return hob_tmpl_fail(r, HOB_EINVAL, "\"in\" cannot search a %s",
                             hob_tmpl_type_name(container));
    }
}

bool hob_tmpl_iterate(tmpl_run *r, tmpl_value v, tmpl_list **ret)
{
    tmpl_list *l;
    if (v.kind == TV_LIST || v.kind == TV_TUPLE) {
        *ret = v.u.list;
        return true;
    }
    if (v.kind == TV_STRING) {
        const tmpl_str *s = v.u.s;
        if (!hob_tmpl_list_new(r, hob_tmpl_chars(s->s, s->len), &l))
            return false;
        for (size_t i = 0, n; i < s->len; i += n) {
            n = hob_tmpl_char_len(s->s + i);
            if (!hob_tmpl_charge(r, 1) || !hob_tmpl_substr(r, s, i, i + n, &l->items[l->count++]))
                return false;
        }
    } else if (v.kind == TV_DICT) {
        if (!hob_tmpl_list_new(r, v.u.dict->count, &l))
            return false;
        for (size_t i = 0; i < v.u.dict->count; i++)
            l->items[l->count++] = v.u.dict->entries[i].key;
    } else if (v.kind == TV_UNDEFINED) {
        if (!hob_tmpl_list_new(r, 0, &l))
            return false;
    } else {
        return hob_tmpl_fail(r, HOB_EINVAL, "cannot iterate over a %s", hob_tmpl_type_name(v));
    }
    *ret = l;
    return true;
}

/* --- trust --- */
static bool trusted_at(tmpl_run *r, tmpl_value v, unsigned depth, bool *ret)
{
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "a value nests deeper than %d", TMPL_DATA_DEPTH);
    if (!hob_tmpl_charge(r, 1))
        return false;
    *ret = v.trusted;
    if (v.kind == TV_STRING) {
        *ret = v.u.s->trust == TMPL_TRUSTED;
    } else if (v.kind == TV_LIST || v.kind == TV_TUPLE) {
        for (size_t i = 0; i < v.u.list->count && *ret; i++) {
            if (!trusted_at(r, v.u.list->items[i], depth + 1, ret))
                return false;
        }
    } else if (v.kind == TV_DICT || v.kind == TV_NAMESPACE) {
        for (size_t i = 0; i < v.u.dict->count && *ret; i++) {
            bool key;
            if (!trusted_at(r, v.u.dict->entries[i].key, depth + 1, &key) ||
                !trusted_at(r, v.u.dict->entries[i].value, depth + 1, ret))
                return false;
            *ret = *ret && key;
        }
    }
    return true;
}

bool hob_tmpl_is_trusted(tmpl_run *r, tmpl_value v, bool *ret)
{
    return trusted_at(r, v, 0, ret);
}

bool hob_tmpl_from_json(tmpl_run *r, json_t *j, bool trusted, unsigned depth, tmpl_value *ret)
{
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "the variables nest deeper than %d", TMPL_DATA_DEPTH);
    r->steps_left += 256; /* a template may look at each value of its input this often */
    r->steps_max += 256;
    *ret = (tmpl_value){.kind = TV_NONE, .trusted = trusted};
    switch (json_typeof(j)) {
    case JSON_NULL: return true;
    case JSON_TRUE:
    case JSON_FALSE: *ret = tmpl_bool(json_is_true(j), trusted); return true;
    case JSON_INTEGER: *ret = tmpl_int(json_integer_value(j), trusted); return true;
    case JSON_REAL: *ret = tmpl_float(json_real_value(j), trusted); return true;
    case JSON_STRING:
        r->steps_left += json_string_length(j) / 8;
        r->steps_max += json_string_length(j) / 8;
        return hob_tmpl_str_ref(r, json_string_value(j), json_string_length(j), trusted, ret);
    case JSON_ARRAY: {
        size_t i;
        json_t *item;
        ret->kind = TV_LIST;
        if (!hob_tmpl_list_new(r, json_array_size(j), &ret->u.list))
            return false;
        json_array_foreach(j, i, item)
        {
            if (!hob_tmpl_from_json(r, item, trusted, depth + 1, &ret->u.list->items[i]))
                return false;
            ret->u.list->count = i + 1;
        }
        return true;
    }
    case JSON_OBJECT: {
        const char *key;
        json_t *item;
        ret->kind = TV_DICT;
        if (!hob_tmpl_dict_new(r, json_object_size(j), &ret->u.dict))
            return false;
        json_object_foreach(j, key, item)
        {
            tmpl_entry *e = &ret->u.dict->entries[ret->u.dict->count];
            if (!hob_tmpl_str_ref(r, key, strlen(key), trusted, &e->key) ||
                !hob_tmpl_from_json(r, item, trusted, depth + 1, &e->value))
                return false;
            ret->u.dict->count++;
        }
        return true;
    }
    }
    return hob_tmpl_fail(r, HOB_EINVAL, "a variable of unknown type");
}

const char *hob_tmpl_type_name(tmpl_value v)
{
    static const char *const names[] = {"missing value", "undefined value", "None",      "boolean",
                                        "whole number",  "float",           "string",    "list",
                                        "tuple",         "dictionary",      "namespace", "function",
                                        "method",        "macro",           "loop",      "cycler",
                                        "joiner"};
    return v.kind < sizeof names / sizeof names[0] ? names[v.kind] : "value";
}
