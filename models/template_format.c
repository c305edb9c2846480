/* SPDX-License-Identifier: Apache-2.0
 *
 * Values as text: Python's str() and repr(), which is what printing a value gives, and JSON as
 * json.dumps writes it. The text of a string is itself, ranges and all; everything else is trusted
 * only if every value in it is. */
#include "models/template_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The shortest digits that read back as f, laid out as Python's repr does. */
size_t hob_tmpl_format_float(double f, char ret[40])
{
    char digits[40];
    if (f != f)
        return (size_t)snprintf(ret, 40, "nan");
    if (isinf(f))
        return (size_t)snprintf(ret, 40, f < 0 ? "-inf" : "inf");
    for (int precision = 14; precision <= 16; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    char mantissa[24];
    size_t n = 0, at = 0;
    for (const char *p = digits; p < e; p++) {
        if (*p >= '0' && *p <= '9')
            mantissa[n++] = *p;
    }
    while (n > 1 && mantissa[n - 1] == '0')
        n--;
    if (digits[0] == '-')
        ret[at++] = '-';
    if (exponent < -4 || exponent >= 16) {
        ret[at++] = mantissa[0];
        if (n > 1) {
            ret[at++] = '.';
            memcpy(ret + at, mantissa + 1, n - 1);
            at += n - 1;
        }
        return at + (size_t)snprintf(ret + at, 40 - at, "e%c%02d", exponent < 0 ? '-' : '+',
                                     abs(exponent));
    }
    if (exponent < 0) {
        ret[at++] = '0';
        ret[at++] = '.';
        for (int i = exponent + 1; i < 0; i++)
            ret[at++] = '0';
        memcpy(ret + at, mantissa, n);
        return at + n;
    }
    for (size_t i = 0; i <= (size_t)exponent; i++)
        ret[at++] = i < n ? mantissa[i] : '0';
    ret[at++] = '.';
    if (n > (size_t)exponent + 1) {
        memcpy(ret + at, mantissa + exponent + 1, n - (size_t)exponent - 1);
        at += n - (size_t)exponent - 1;
    } else {
        ret[at++] = '0';
    }
    return at;
}

typedef struct writer {
    tmpl_run *r;
    tmpl_buf *b;
    bool trusted;
    const tmpl_json_style *style;
} writer;

static bool put(writer *w, const char *s, size_t len)
{
    return hob_tmpl_buf_put(w->r, w->b, s, len, w->trusted);
}
static bool put_z(writer *w, const char *s)
{
    return put(w, s, strlen(s));
}

static bool put_scalar(writer *w, tmpl_value v)
{
    char text[40];
    if (v.kind == TV_INT) {
        int n = snprintf(text, sizeof text, "%" PRId64, v.u.i);
        return put(w, text, (size_t)n);
    }
    return put(w, text, hob_tmpl_format_float(v.u.f, text));
}

/* --- repr --- */
static bool is_printable(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return c == ' ';
    default: return true;
    }
}

static bool repr_string(writer *w, const tmpl_str *s)
{
    char quote = memchr(s->s, '\'', s->len) && !memchr(s->s, '"', s->len) ? '"' : '\'';
    if (!hob_tmpl_charge(w->r, s->len / 16) || !put(w, &quote, 1))
        return false;
    for (size_t i = 0, n; i < s->len; i += n) {
        n = hob_tmpl_char_len(s->s + i);
        uint32_t c = hob_tmpl_char_at(s->s + i);
        char text[16];
        bool ok;
        if (c == (uint32_t)quote || c == '\\') {
            text[0] = '\\';
            text[1] = (char)c;
            ok = put(w, text, 2);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            ok = put_z(w, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (is_printable(c)) {
            ok = put(w, s->s + i, n);
        } else {
            snprintf(text, sizeof text,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     c);
            ok = put_z(w, text);
        }
        if (!ok)
            return false;
    }
    return put(w, &quote, 1);
}

static bool repr(writer *w, tmpl_value v, unsigned depth)
{
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(w->r, HOB_ELIMIT, "a printed value nests deeper than %d",
                             TMPL_DATA_DEPTH);
    if (!hob_tmpl_charge(w->r, 1))
        return false;
    switch (v.kind) {
    case TV_UNDEFINED: return depth == 0 || put_z(w, "Undefined");
    case TV_NONE: return put_z(w, "None");
    case TV_BOOL: return put_z(w, v.u.b ? "True" : "False");
    case TV_INT:
    case TV_FLOAT: return put_scalar(w, v);
    case TV_STRING: return repr_string(w, v.u.s);
    case TV_LIST:
    case TV_TUPLE: {
        const tmpl_list *l = v.u.list;
        if (!put_z(w, v.kind == TV_LIST ? "[" : "("))
            return false;
        for (size_t i = 0; i < l->count; i++) {
            if ((i > 0 && !put_z(w, ", ")) || !repr(w, l->items[i], depth + 1))
                return false;
        }
        return put_z(w, v.kind == TV_LIST ? "]" : l->count == 1 ? ",)" : ")");
    }
    case TV_DICT: {
        const tmpl_dict *d = v.u.dict;
        if (!put_z(w, "{"))
            return false;
        for (size_t i = 0; i < d->count; i++) {
            if ((i > 0 && !put_z(w, ", ")) || !repr(w, d->entries[i].key, depth + 1) ||
                !put_z(w, ": ") || !repr(w, d->entries[i].value, depth + 1))
                return false;
        }
        return put_z(w, "}");
    }
    default:
        return hob_tmpl_fail(w->r, HOB_EINVAL, "a %s cannot be printed", hob_tmpl_type_name(v));
    }
}

bool hob_tmpl_to_text(tmpl_run *r, tmpl_value v, tmpl_value *ret)
{
    if (v.kind == TV_STRING) {
        *ret = v;
        return true;
    }
    writer w = {.r = r, .b = hob_tmpl_run_alloc(r, 1, sizeof(tmpl_buf))};
    return w.b && hob_tmpl_is_trusted(r, v, &w.trusted) && repr(&w, v, 0) &&
           hob_tmpl_buf_str(r, w.b, ret);
}

bool hob_tmpl_text_of(tmpl_run *r, tmpl_value v, const tmpl_str **ret)
{
    tmpl_value text;
    if (!hob_tmpl_to_text(r, v, &text))
        return false;
    *ret = text.u.s;
    return true;
}

/* --- JSON --- */
static bool json_string_out(writer *w, const tmpl_str *s)
{
    if (!hob_tmpl_charge(w->r, s->len / 16) || !put_z(w, "\""))
        return false;
    size_t plain = 0; /* start of what needs no escape */
    for (size_t i = 0, n; i < s->len; i += n) {
        n = hob_tmpl_char_len(s->s + i);
        uint32_t c = hob_tmpl_char_at(s->s + i);
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const char *hit = c != 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
        char text[16];
        if (hit)
            snprintf(text, sizeof text, "\\%c", to[hit - from]);
        else if (c >= 0x10000 && w->style->ascii)
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                     0xdc00 + ((c - 0x10000) & 0x3ff));
        else if (c < 0x20 || (c > 0x7e && w->style->ascii))
            snprintf(text, sizeof text, "\\u%04x", c);
        else
            continue;
        if (!put(w, s->s + plain, i - plain) || !put_z(w, text))
            return false;
        plain = i + n;
    }
    return put(w, s->s + plain, s->len - plain) && put_z(w, "\"");
}

static bool json_line(writer *w, unsigned depth)
{
    if (!w->style->indent)
        return true;
    if (!put_z(w, "\n"))
        return false;
    for (unsigned i = 0; i < depth; i++) {
        if (!put(w, w->style->indent, w->style->indent_len))
            return false;
    }
    return true;
}

static bool json_out(writer *w, tmpl_value v, unsigned depth);

static bool json_key(writer *w, tmpl_value k)
{
    if (k.kind == TV_STRING)
        return json_string_out(w, k.u.s);
    if (k.kind > TV_STRING || k.kind < TV_NONE)
        return hob_tmpl_fail(w->r, HOB_EINVAL, "tojson: a %s cannot be a key",
                             hob_tmpl_type_name(k));
    return put_z(w, "\"") && json_out(w, k, 0) && put_z(w, "\"");
}

static bool json_dict(writer *w, const tmpl_dict *d, unsigned depth)
{
    size_t *order = NULL;
    if (d->count == 0)
        return put_z(w, "{}");
    if (w->style->sort_keys) {
        tmpl_value *keys = hob_tmpl_run_alloc(w->r, d->count, sizeof *keys);
        order = hob_tmpl_run_alloc(w->r, d->count, sizeof *order);
        if (!keys || !order)
            return false;
        for (size_t i = 0; i < d->count; i++)
            keys[i] = d->entries[i].key;
        if (!hob_tmpl_sort(w->r, keys, d->count, false, order))
            return false;
    }
    if (!put_z(w, "{"))
        return false;
    for (size_t i = 0; i < d->count; i++) {
        const tmpl_entry *e = &d->entries[order ? order[i] : i];
        if ((i > 0 && !put(w, w->style->item, w->style->item_len)) || !json_line(w, depth + 1) ||
            !json_key(w, e->key) || !put(w, w->style->key, w->style->key_len) ||
            !json_out(w, e->value, depth + 1))
            return false;
    }
    return json_line(w, depth) && put_z(w, "}");
}

static bool json_out(writer *w, tmpl_value v, unsigned depth)
{
    if (depth > TMPL_DATA_DEPTH)
        return hob_tmpl_fail(w->r, HOB_ELIMIT, "tojson: a value nests deeper than %d",
                             TMPL_DATA_DEPTH);
    if (!hob_tmpl_charge(w->r, 1))
        return false;
    switch (v.kind) {
    case TV_NONE: return put_z(w, "null");
    case TV_BOOL: return put_z(w, v.u.b ? "true" : "false");
    case TV_FLOAT:
        if (v.u.f != v.u.f || isinf(v.u.f))
            return put_z(w, v.u.f != v.u.f ? "NaN" : v.u.f < 0 ? "-Infinity" : "Infinity");
        return put_scalar(w, v);
    case TV_INT: return put_scalar(w, v);
    case TV_STRING: return json_string_out(w, v.u.s);
    case TV_LIST:
    case TV_TUPLE: {
        const tmpl_list *l = v.u.list;
        if (l->count == 0)
            return put_z(w, "[]");
        if (!put_z(w, "["))
            return false;
        for (size_t i = 0; i < l->count; i++) {
            if ((i > 0 && !put(w, w->style->item, w->style->item_len)) ||
                !json_line(w, depth + 1) || !json_out(w, l->items[i], depth + 1))
                return false;
        }
        return json_line(w, depth) && put_z(w, "]");
    }
    case TV_DICT: return json_dict(w, v.u.dict, depth);
    default:
        return hob_tmpl_require(w->r, v) &&
               hob_tmpl_fail(w->r, HOB_EINVAL, "tojson: a %s has no JSON", hob_tmpl_type_name(v));
    }
}

bool hob_tmpl_to_json(tmpl_run *r, tmpl_value v, const tmpl_json_style *style, tmpl_value *ret)
{
    writer w = {.r = r, .b = hob_tmpl_run_alloc(r, 1, sizeof(tmpl_buf)), .style = style};
    return w.b && hob_tmpl_is_trusted(r, v, &w.trusted) && json_out(&w, v, 0) &&
           hob_tmpl_buf_str(r, w.b, ret);
}
