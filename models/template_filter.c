/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters of single values: text, JSON, numbers. Those that cut text keep its trust byte for byte;
 * those that make new text are trusted only if all their inputs are. The filters of sequences are
 * in template_sequence.c. */
#include "models/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- text --- */
FILTER(f_string)
{
    BIND("string", 1, "value");
    return hob_tmpl_to_text(r, v[0], ret);
}

FILTER(f_trim)
{
    BIND("trim", 1, "value", "chars");
    const tmpl_str *s, *chars = NULL;
    if (!hob_tmpl_text_of(r, v[0], &s))
        return false;
    if (tmpl_given(v[1]) && v[1].kind != TV_NONE && !hob_tmpl_want_string(r, "trim", v[1], &chars))
        return false;
    return hob_tmpl_strip(r, s, chars, true, true, ret);
}

static bool case_filter(tmpl_run *r, const tmpl_args *args, tmpl_case to, tmpl_value *ret)
{
    tmpl_value self = tmpl_none();
    BIND("upper, lower or capitalize", 1, "s");
    const tmpl_str *s;
    return hob_tmpl_text_of(r, v[0], &s) && hob_tmpl_change_case(r, s, to, ret);
}
FILTER(f_upper)
{
    (void)self;
    return case_filter(r, args, TMPL_UPPER, ret);
}
FILTER(f_lower)
{
    (void)self;
    return case_filter(r, args, TMPL_LOWER, ret);
}
FILTER(f_capitalize)
{
    (void)self;
    return case_filter(r, args, TMPL_CAPITALIZE, ret);
}

/* Unlike the method, words begin after white space, hyphens and opening brackets only. */
FILTER(f_title)
{
    BIND("title", 1, "s");
    const tmpl_str *s;
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    if (!b || !hob_tmpl_text_of(r, v[0], &s))
        return false;
    for (size_t i = 0, start = 0; i < s->len;) {
        size_t n = hob_tmpl_char_len(s->s + i);
        bool begins = memchr("-({[<", s->s[i], 5) || hob_tmpl_space_prefix(s->s + i, n) == n;
        tmpl_value word;
        i += n;
        if (!begins && i < s->len)
            continue;
        if (!hob_tmpl_charge(r, 1) || !hob_tmpl_substr(r, s, start, i, &word) ||
            !hob_tmpl_change_case(r, word.u.s, TMPL_CAPITALIZE, &word) ||
            !hob_tmpl_buf_put_str(r, b, word.u.s))
            return false;
        start = i;
    }
    bool trusted = s->trust == TMPL_TRUSTED;
    tmpl_buf *plain = hob_tmpl_run_alloc(r, 1, sizeof *plain);
    return plain && hob_tmpl_buf_put(r, plain, b->data, b->len, trusted) &&
           hob_tmpl_buf_str(r, plain, ret);
}

FILTER(f_replace)
{
    BIND("replace", 3, "s", "old", "new", "count");
    const tmpl_str *s, *from, *to;
    int64_t count = -1;
    if (tmpl_given(v[3]) && v[3].kind != TV_NONE && !hob_tmpl_want_int(r, "replace", v[3], &count))
        return false;
    return hob_tmpl_text_of(r, v[0], &s) && hob_tmpl_text_of(r, v[1], &from) &&
           hob_tmpl_text_of(r, v[2], &to) && hob_tmpl_replace(r, s, from, to, count, ret);
}

FILTER(f_indent)
{
    BIND("indent", 1, "s", "width", "first", "blank");
    const tmpl_str *s, *by = NULL;
    int64_t width = 4;
    if (!hob_tmpl_want_string(r, "indent", v[0], &s))
        return false;
    if (v[1].kind == TV_STRING)
        by = v[1].u.s;
    else if (tmpl_given(v[1]) && !hob_tmpl_want_int(r, "indent", v[1], &width))
        return false;
    if (width < 0)
        width = 0;
    if (width > 1000)
        return hob_tmpl_fail(r, HOB_ELIMIT, "indent by %lld, at most 1000", (long long)width);
    char blanks[1000];
    memset(blanks, ' ', sizeof blanks);
    const tmpl_str spaces = {.s = blanks, .len = (size_t)width, .trust = TMPL_TRUSTED};
    if (!by)
        by = &spaces;
    bool trusted = s->trust == TMPL_TRUSTED && by->trust == TMPL_TRUSTED &&
                   (by != &spaces || !tmpl_given(v[1]) || v[1].trusted);
    tmpl_value lines;
    const tmpl_builtin *splitlines = hob_tmpl_string_method("splitlines", 10);
    static const tmpl_args none = {0};
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    /* a newline is added first, so that an empty last line counts */
    tmpl_value whole;
    static const tmpl_str newline = {.s = "\n", .len = 1, .trust = TMPL_TRUSTED};
    if (!b || !hob_tmpl_concat(r, s, &newline, &whole) ||
        !splitlines->call(r, whole, &none, &lines))
        return false;
    for (size_t i = 0; i < lines.u.list->count; i++) {
        const tmpl_str *line = lines.u.list->items[i].u.s;
        bool indented = i == 0 ? hob_tmpl_truthy(v[2]) : line->len > 0 || hob_tmpl_truthy(v[3]);
        if ((i > 0 && !hob_tmpl_buf_put(r, b, "\n", 1, trusted)) ||
            (indented && !hob_tmpl_buf_put(r, b, by->s, by->len, trusted)) ||
            !hob_tmpl_buf_put(r, b, line->s, line->len, trusted))
            return false;
    }
    return hob_tmpl_buf_str(r, b, ret);
}

FILTER(f_tojson)
{
    BIND("tojson", 1, "value", "ensure_ascii", "indent", "separators", "sort_keys");
    tmpl_json_style style = {.item = ", ", .key = ": ", .item_len = 2, .key_len = 2};
    style.ascii = hob_tmpl_truthy(v[1]);
    style.sort_keys = hob_tmpl_truthy(v[4]);
    char blanks[64];
    memset(blanks, ' ', sizeof blanks);
    if (v[2].kind == TV_STRING) {
        style.indent = v[2].u.s->s;
        style.indent_len = v[2].u.s->len;
    } else if (tmpl_given(v[2]) && v[2].kind != TV_NONE) {
        int64_t width;
        if (!hob_tmpl_want_int(r, "tojson's indent", v[2], &width))
            return false;
        if (width > (int64_t)sizeof blanks)
            return hob_tmpl_fail(r, HOB_ELIMIT, "tojson with indent %lld, at most %zu",
                                 (long long)width, sizeof blanks);
        style.indent = blanks;
        style.indent_len = width < 0 ? 0 : (size_t)width;
    }
    if (style.indent)
        style.item_len = 1;
    if (tmpl_given(v[3]) && v[3].kind != TV_NONE) {
        const tmpl_str *item, *key;
        if ((v[3].kind != TV_TUPLE && v[3].kind != TV_LIST) || v[3].u.list->count != 2)
            return hob_tmpl_fail(r, HOB_EINVAL, "tojson's separators are not a pair");
        if (!hob_tmpl_want_string(r, "tojson's separators", v[3].u.list->items[0], &item) ||
            !hob_tmpl_want_string(r, "tojson's separators", v[3].u.list->items[1], &key))
            return false;
        style.item = item->s;
        style.item_len = item->len;
        style.key = key->s;
        style.key_len = key->len;
    }
    /* the style can carry text too, so that it counts as an input */
    bool trusted = true, one;
    tmpl_value text;
    for (size_t i = 1; i < 5; i++) {
        if (!tmpl_given(v[i]))
            continue;
        if (!hob_tmpl_is_trusted(r, v[i], &one))
            return false;
        trusted = trusted && one;
    }
    if (!hob_tmpl_to_json(r, v[0], &style, &text))
        return false;
    if (trusted) {
        *ret = text;
        return true;
    }
    return hob_tmpl_str_ref(r, text.u.s->s, text.u.s->len, false, ret);
}

/* --- numbers --- */
static bool parse_number(const tmpl_str *s, double *ret)
{
    char text[64];
    size_t n = 0, start = hob_tmpl_space_prefix(s->s, s->len);
    size_t end = s->len - hob_tmpl_space_suffix(s->s + start, s->len - start);
    for (size_t i = start; i < end && n < sizeof text - 1; i++) {
        if (s->s[i] != '_')
            text[n++] = s->s[i];
    }
    if (n == 0 || n == sizeof text - 1)
        return false;
    text[n] = 0;
    if (strpbrk(text, "xXpP("))
        return false;
    char *stop;
    *ret = strtod(text, &stop);
    return *stop == 0;
}

static bool parse_integer(const tmpl_str *s, int64_t base, int64_t *ret)
{
    size_t i = hob_tmpl_space_prefix(s->s, s->len),
           end = s->len - hob_tmpl_space_suffix(s->s + i, s->len - i);
    bool negative = i < end && s->s[i] == '-', any = false;
    int64_t n = 0;
    if (i < end && (s->s[i] == '-' || s->s[i] == '+'))
        i++;
    if (end - i > 2 && s->s[i] == '0' &&
        ((base == 16 && (s->s[i + 1] | 32) == 'x') || (base == 8 && (s->s[i + 1] | 32) == 'o') ||
         (base == 2 && (s->s[i + 1] | 32) == 'b')))
        i += 2;
    for (; i < end; i++) {
        char c = s->s[i];
        int64_t d = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                         : 99;
        if (c == '_' && any)
            continue;
        if (d >= base || __builtin_mul_overflow(n, base, &n) || __builtin_sub_overflow(n, d, &n))
            return false;
        any = true;
    }
    if (!any || (!negative && n == INT64_MIN))
        return false;
    *ret = negative ? n : -n;
    return true;
}

FILTER(f_int)
{
    BIND("int", 1, "value", "default", "base");
    int64_t base = 10, i;
    double f;
    if (!hob_tmpl_require(r, v[0]) ||
        (tmpl_given(v[2]) && !hob_tmpl_want_int(r, "int", v[2], &base)))
        return false;
    bool trusted = v[0].kind == TV_STRING ? v[0].u.s->trust == TMPL_TRUSTED : v[0].trusted;
    if (v[0].kind == TV_BOOL || v[0].kind == TV_INT) {
        *ret = tmpl_int(v[0].kind == TV_INT ? v[0].u.i : v[0].u.b, trusted);
        return true;
    }
    if (v[0].kind == TV_STRING && base >= 2 && base <= 36 && parse_integer(v[0].u.s, base, &i)) {
        *ret = tmpl_int(i, trusted);
        return true;
    }
    bool real = v[0].kind == TV_FLOAT || (v[0].kind == TV_STRING && parse_number(v[0].u.s, &f));
    if (v[0].kind == TV_FLOAT)
        f = v[0].u.f;
    if (real && f > -9.2e18 && f < 9.2e18)
        *ret = tmpl_int((int64_t)f, trusted);
    else if (real && (isfinite(f) || (v[0].kind == TV_FLOAT && isinf(f))))
        return hob_tmpl_fail(r, HOB_ELIMIT, "an integer beyond 64 bits");
    else
        *ret = tmpl_given(v[1]) ? v[1] : tmpl_int(0, true);
    return true;
}

FILTER(f_float)
{
    BIND("float", 1, "value", "default");
    double f;
    if (!hob_tmpl_require(r, v[0]))
        return false;
    bool trusted = v[0].kind == TV_STRING ? v[0].u.s->trust == TMPL_TRUSTED : v[0].trusted;
    if (v[0].kind == TV_FLOAT)
        *ret = v[0];
    else if (v[0].kind == TV_INT || v[0].kind == TV_BOOL)
        *ret = tmpl_float(v[0].kind == TV_INT ? (double)v[0].u.i : v[0].u.b, trusted);
    else if (v[0].kind == TV_STRING && parse_number(v[0].u.s, &f))
        *ret = tmpl_float(f, trusted);
    else
        *ret = tmpl_given(v[1]) ? v[1] : tmpl_float(0, true);
    return true;
}

FILTER(f_round)
{
    BIND("round", 1, "value", "precision", "method");
    int64_t precision = 0;
    static const tmpl_str common = {.s = "common", .len = 6};
    const tmpl_str *method = &common;
    if (!hob_tmpl_require(r, v[0]) ||
        (tmpl_given(v[1]) && !hob_tmpl_want_int(r, "round", v[1], &precision)) ||
        (tmpl_given(v[2]) && !hob_tmpl_want_string(r, "round", v[2], &method)))
        return false;
    if (!tmpl_is_number(v[0]))
        return hob_tmpl_fail(r, HOB_EINVAL, "filter \"round\" wants a number, got a %s",
                             hob_tmpl_type_name(v[0]));
    if (precision < 0 || precision > 20)
        return hob_tmpl_fail(r, HOB_EUNSUPPORTED, "round to %lld places", (long long)precision);
    bool is_common = method->len == 6 && memcmp(method->s, "common", 6) == 0;
    bool up = method->len == 4 && memcmp(method->s, "ceil", 4) == 0;
    if (!is_common && !up && !(method->len == 5 && memcmp(method->s, "floor", 5) == 0))
        return hob_tmpl_fail(r, HOB_EINVAL,
                             "filter \"round\" knows the methods common, ceil and floor");
    if (is_common && v[0].kind != TV_FLOAT) {
        *ret = tmpl_int(v[0].kind == TV_INT ? v[0].u.i : v[0].u.b, v[0].trusted);
        return true;
    }
    double f = v[0].kind == TV_FLOAT ? v[0].u.f : v[0].kind == TV_INT ? (double)v[0].u.i : v[0].u.b;
    if (is_common) {
        char text[400]; /* 309 digits before the point, 20 behind it */
        snprintf(text, sizeof text, "%.*f", (int)precision,
                 f); /* exact decimal, ties to even, as Python rounds */
        *ret = tmpl_float(strtod(text, NULL), v[0].trusted);
        return true;
    }
    double scale = pow(10, (double)precision);
    *ret = tmpl_float((up ? ceil(f * scale) : floor(f * scale)) / scale, v[0].trusted);
    return true;
}

FILTER(f_abs)
{
    BIND("abs", 1, "x");
    if (!hob_tmpl_require(r, v[0]))
        return false;
    if (v[0].kind == TV_FLOAT) {
        *ret = tmpl_float(fabs(v[0].u.f), v[0].trusted);
        return true;
    }
    if (v[0].kind == TV_INT && v[0].u.i < 0)
        return hob_tmpl_negate(r, v[0], ret);
    return hob_tmpl_binary(r, '+', tmpl_int(0, true), v[0], ret);
}

const tmpl_builtin *hob_tmpl_filter(const char *name, size_t len)
{
    static const tmpl_builtin filters[] = {
        {"trim", f_trim},       {"tojson", f_tojson},         {"upper", f_upper},
        {"lower", f_lower},     {"capitalize", f_capitalize}, {"title", f_title},
        {"replace", f_replace}, {"string", f_string},         {"safe", f_string},
        {"int", f_int},         {"float", f_float},           {"round", f_round},
        {"abs", f_abs},         {"indent", f_indent},
    };
    const tmpl_builtin *hit =
        hob_tmpl_find_builtin(filters, sizeof filters / sizeof filters[0], name, len);
    return hit ? hit : hob_tmpl_sequence_filter(name, len);
}
