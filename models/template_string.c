/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 and the methods of strings, as Python has them. What only cuts (strip, split, splitlines,
 * removeprefix) or joins keeps trust byte for byte; what rewrites (upper, replace, …) is trusted
 * only if all it was made from is. Case and classes of characters come from utf8proc, without the
 * special casings of more than one character except the sharp s. */
#include "models/template_internal.h"

#include <string.h>
#include <utf8proc.h>

size_t hob_tmpl_char_len(const char *s)
{
    unsigned char c = (unsigned char)*s;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

uint32_t hob_tmpl_char_at(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    switch (hob_tmpl_char_len(s)) {
    case 1: return u[0];
    case 2: return (uint32_t)(u[0] & 31) << 6 | (u[1] & 63);
    case 3: return (uint32_t)(u[0] & 15) << 12 | (uint32_t)(u[1] & 63) << 6 | (u[2] & 63);
    default:
        return (uint32_t)(u[0] & 7) << 18 | (uint32_t)(u[1] & 63) << 12 |
               (uint32_t)(u[2] & 63) << 6 | (u[3] & 63);
    }
}

size_t hob_tmpl_char_put(char ret[4], uint32_t c)
{
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        ret[0] = (char)(0xc0 | c >> 6);
        ret[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        ret[0] = (char)(0xe0 | c >> 12);
        ret[1] = (char)(0x80 | (c >> 6 & 63));
        ret[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    ret[0] = (char)(0xf0 | c >> 18);
    ret[1] = (char)(0x80 | (c >> 12 & 63));
    ret[2] = (char)(0x80 | (c >> 6 & 63));
    ret[3] = (char)(0x80 | (c & 63));
    return 4;
}

bool hob_tmpl_utf8_ok(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i];
        size_t n = c < 0x80                ? 1
                   : c >= 0xc2 && c < 0xe0 ? 2
                   : c >= 0xe0 && c < 0xf0 ? 3
                   : c >= 0xf0 && c < 0xf5 ? 4
                                           : 0;
        if (n == 0 || n > len - i)
            return false;
        for (size_t k = 1; k < n; k++) {
            if (((unsigned char)s[i + k] & 0xc0) != 0x80)
                return false;
        }
        uint32_t v = hob_tmpl_char_at(s + i);
        if ((n == 3 && (v < 0x800 || (v >= 0xd800 && v < 0xe000))) ||
            (n == 4 && (v < 0x10000 || v > 0x10ffff)))
            return false;
        i += n;
    }
    return true;
}

size_t hob_tmpl_chars(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

size_t hob_tmpl_char_offset(const char *s, size_t len, size_t chars)
{
    size_t i = 0;
    while (i < len && chars-- > 0)
        i += hob_tmpl_char_len(s + i);
    return i;
}

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t last_char_start(const char *s, size_t len)
{
    size_t i = len - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80)
        i--;
    return i;
}

size_t hob_tmpl_space_prefix(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len && is_space(hob_tmpl_char_at(s + i)))
        i += hob_tmpl_char_len(s + i);
    return i;
}

size_t hob_tmpl_space_suffix(const char *s, size_t len)
{
    size_t end = len;
    while (end > 0) {
        size_t i = last_char_start(s, end);
        if (!is_space(hob_tmpl_char_at(s + i)))
            break;
        end = i;
    }
    return len - end;
}

static bool among(const tmpl_str *set, const char *c, size_t len)
{
    return memmem(set->s, set->len, c, len) !=
           NULL; /* UTF-8 synchronizes itself: a whole character matches only itself */
}

bool hob_tmpl_strip(tmpl_run *r, const tmpl_str *s, const tmpl_str *chars, bool left, bool right,
                    tmpl_value *ret)
{
    size_t start = 0, end = s->len;
    if (!chars) {
        if (left)
            start = hob_tmpl_space_prefix(s->s, end);
        if (right)
            end -= hob_tmpl_space_suffix(s->s + start, end - start);
    } else {
        size_t steps = chars->len / 64 + 1; /* a look through the set */
        while (left && start < end && among(chars, s->s + start, hob_tmpl_char_len(s->s + start))) {
            start += hob_tmpl_char_len(s->s + start);
            if (!hob_tmpl_charge(r, steps))
                return false;
        }
        while (right && end > start) {
            size_t i = last_char_start(s->s, end);
            if (!among(chars, s->s + i, end - i))
                break;
            end = i;
            if (!hob_tmpl_charge(r, steps))
                return false;
        }
    }
    return hob_tmpl_charge(r, (s->len - (end - start)) / 64) &&
           hob_tmpl_substr(r, s, start, end, ret);
}

bool hob_tmpl_replace(tmpl_run *r, const tmpl_str *s, const tmpl_str *from, const tmpl_str *to,
                      int64_t count, tmpl_value *ret)
{
    bool trusted =
        s->trust == TMPL_TRUSTED && from->trust == TMPL_TRUSTED && to->trust == TMPL_TRUSTED;
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    size_t at = 0;
    if (!b || !hob_tmpl_charge(r, s->len / 64))
        return false;
    for (; count != 0; count--) {
        size_t hit, n;
        if (from->len > 0) {
            const char *p = memmem(s->s + at, s->len - at, from->s, from->len);
            if (!p)
                break;
            hit = (size_t)(p - s->s);
            n = from->len;
        } else { /* between all characters */
            if (at > s->len)
                break;
            hit = at;
            n = 0;
        }
        if (!hob_tmpl_charge(r, 1) || !hob_tmpl_buf_put(r, b, s->s + at, hit - at, trusted) ||
            !hob_tmpl_buf_put(r, b, to->s, to->len, trusted))
            return false;
        at = hit + n;
        if (n == 0) {
            if (at == s->len)
                break;
            size_t len = hob_tmpl_char_len(s->s + at);
            if (!hob_tmpl_buf_put(r, b, s->s + at, len, trusted))
                return false;
            at += len;
        }
    }
    return hob_tmpl_buf_put(r, b, s->s + at, s->len - at, trusted) && hob_tmpl_buf_str(r, b, ret);
}

static bool is_cased(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

bool hob_tmpl_change_case(tmpl_run *r, const tmpl_str *s, tmpl_case to, tmpl_value *ret)
{
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    bool trusted = s->trust == TMPL_TRUSTED, first = true, in_word = false;
    if (!b || !hob_tmpl_charge(r, s->len / 16))
        return false;
    for (size_t i = 0; i < s->len; first = false) {
        uint32_t c = hob_tmpl_char_at(s->s + i);
        i += hob_tmpl_char_len(s->s + i);
        bool upper =
            to == TMPL_UPPER || (to == TMPL_CAPITALIZE && first) || (to == TMPL_TITLE && !in_word);
        in_word = is_cased(c);
        char out[4];
        if (upper && c == 0xdf) {
            if (!hob_tmpl_buf_put(r, b, to == TMPL_UPPER ? "SS" : "Ss", 2, trusted))
                return false;
            continue;
        }
        utf8proc_int32_t v = (utf8proc_int32_t)c;
        v = upper ? (to == TMPL_UPPER ? utf8proc_toupper(v) : utf8proc_totitle(v))
                  : utf8proc_tolower(v);
        if (!hob_tmpl_buf_put(r, b, out, hob_tmpl_char_put(out, (uint32_t)v), trusted))
            return false;
    }
    return hob_tmpl_buf_str(r, b, ret);
}

/* --- methods --- */
static bool strip_args(tmpl_run *r, tmpl_value self, const tmpl_args *args, bool left, bool right,
                       tmpl_value *ret)
{
    static const char *const names[] = {"chars"};
    tmpl_value chars;
    const tmpl_str *set = NULL;
    if (!hob_tmpl_bind(r, "strip()", args, names, 1, 0, &chars))
        return false;
    if (tmpl_given(chars) && chars.kind != TV_NONE &&
        !hob_tmpl_want_string(r, "strip()", chars, &set))
        return false;
    return hob_tmpl_strip(r, self.u.s, set, left, right, ret);
}
static bool m_strip(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return strip_args(r, self, args, true, true, ret);
}
static bool m_lstrip(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return strip_args(r, self, args, true, false, ret);
}
static bool m_rstrip(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return strip_args(r, self, args, false, true, ret);
}

static bool change_case(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_case to,
                        tmpl_value *ret)
{
    return hob_tmpl_bind(r, "a change of case", args, NULL, 0, 0, NULL) &&
           hob_tmpl_change_case(r, self.u.s, to, ret);
}
static bool m_upper(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return change_case(r, self, args, TMPL_UPPER, ret);
}
static bool m_lower(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return change_case(r, self, args, TMPL_LOWER, ret);
}
static bool m_title(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return change_case(r, self, args, TMPL_TITLE, ret);
}
static bool m_capitalize(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return change_case(r, self, args, TMPL_CAPITALIZE, ret);
}

static bool push_part(tmpl_run *r, tmpl_list *l, const tmpl_str *s, size_t start, size_t end)
{
    tmpl_value part;
    return hob_tmpl_charge(r, 1) && hob_tmpl_substr(r, s, start, end, &part) &&
           hob_tmpl_list_push(r, l, part);
}

static bool split_spaces(tmpl_run *r, const tmpl_str *s, int64_t max, tmpl_list *l)
{
    size_t at = hob_tmpl_space_prefix(s->s, s->len);
    while (at < s->len) {
        size_t end = at;
        if (max-- == 0)
            return push_part(r, l, s, at, s->len);
        while (end < s->len && !is_space(hob_tmpl_char_at(s->s + end)))
            end += hob_tmpl_char_len(s->s + end);
        if (!push_part(r, l, s, at, end))
            return false;
        at = end + hob_tmpl_space_prefix(s->s + end, s->len - end);
    }
    return true;
}

static bool split(tmpl_run *r, tmpl_value self, const tmpl_args *args, bool from_right,
                  tmpl_value *ret)
{
    static const char *const names[] = {"sep", "maxsplit"};
    tmpl_value v[2];
    const tmpl_str *s = self.u.s, *sep;
    int64_t max = -1;
    tmpl_list *l;
    if (!hob_tmpl_bind(r, "split()", args, names, 2, 0, v) || !hob_tmpl_list_new(r, 0, &l) ||
        (tmpl_given(v[1]) && !hob_tmpl_want_int(r, "split()", v[1], &max)) ||
        !hob_tmpl_charge(r, s->len / 64))
        return false;
    *ret = (tmpl_value){.kind = TV_LIST, .trusted = true, .u.list = l};
    if (!tmpl_given(v[0]) || v[0].kind == TV_NONE) {
        if (from_right && max >= 0)
            return hob_tmpl_fail(r, HOB_EUNSUPPORTED, "rsplit() with a maximum needs a separator");
        return split_spaces(r, s, max, l);
    }
    if (!hob_tmpl_want_string(r, "split()", v[0], &sep))
        return false;
    if (sep->len == 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "split() with an empty separator");
    size_t start = 0;
    if (from_right && max >= 0) { /* leave the first separators that are too many */
        int64_t hits = 0;
        for (size_t end = s->len; end >= sep->len && hits < max;) {
            if (!hob_tmpl_charge(r, sep->len / 64 + 1))
                return false;
            if (memcmp(s->s + end - sep->len, sep->s, sep->len) == 0) {
                hits++;
                end -= sep->len;
                start = end;
            } else {
                end--;
            }
        }
        if (hits == 0 || max == 0)
            return push_part(r, l, s, 0, s->len);
        if (!push_part(r, l, s, 0, start))
            return false;
        start += sep->len;
        max = -1;
    }
    for (;;) {
        const char *hit = max == 0 ? NULL : memmem(s->s + start, s->len - start, sep->s, sep->len);
        if (!hit)
            return push_part(r, l, s, start, s->len);
        size_t end = (size_t)(hit - s->s);
        if (!push_part(r, l, s, start, end))
            return false;
        start = end + sep->len;
        max -= max > 0;
    }
}
static bool m_split(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return split(r, self, args, false, ret);
}
static bool m_rsplit(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return split(r, self, args, true, ret);
}

static bool m_splitlines(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"keepends"};
    tmpl_value keep;
    const tmpl_str *s = self.u.s;
    tmpl_list *l;
    if (!hob_tmpl_bind(r, "splitlines()", args, names, 1, 0, &keep) ||
        !hob_tmpl_list_new(r, 0, &l) || !hob_tmpl_charge(r, s->len / 16))
        return false;
    for (size_t start = 0; start < s->len;) {
        size_t end = start, next;
        uint32_t c = 0;
        for (; end < s->len; end += hob_tmpl_char_len(s->s + end)) {
            c = hob_tmpl_char_at(s->s + end);
            if ((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
                c == 0x2029)
                break;
        }
        next = end < s->len ? end + hob_tmpl_char_len(s->s + end) : end;
        if (c == '\r' && next < s->len && s->s[next] == '\n')
            next++;
        if (!push_part(r, l, s, start, hob_tmpl_truthy(keep) ? next : end))
            return false;
        start = next;
    }
    *ret = (tmpl_value){.kind = TV_LIST, .trusted = true, .u.list = l};
    return true;
}

static bool begins(const tmpl_str *s, const tmpl_str *part, bool at_end)
{
    return part->len <= s->len &&
           memcmp(s->s + (at_end ? s->len - part->len : 0), part->s, part->len) == 0;
}

static bool with(tmpl_run *r, tmpl_value self, const tmpl_args *args, bool at_end, tmpl_value *ret)
{
    static const char *const names[] = {"prefix"};
    tmpl_value v;
    bool trusted, hit = false;
    const tmpl_str *part;
    if (!hob_tmpl_bind(r, at_end ? "endswith()" : "startswith()", args, names, 1, 1, &v) ||
        !hob_tmpl_is_trusted(r, v, &trusted))
        return false;
    size_t count = v.kind == TV_TUPLE ? v.u.list->count : 1;
    for (size_t i = 0; i < count && !hit; i++) {
        if (!hob_tmpl_want_string(r, "startswith() or endswith()",
                                  v.kind == TV_TUPLE ? v.u.list->items[i] : v, &part))
            return false;
        hit = begins(self.u.s, part, at_end);
    }
    *ret = tmpl_bool(hit, trusted && self.u.s->trust == TMPL_TRUSTED);
    return true;
}
static bool m_startswith(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return with(r, self, args, false, ret);
}
static bool m_endswith(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return with(r, self, args, true, ret);
}

static bool one_string(tmpl_run *r, const char *what, const tmpl_args *args, const tmpl_str **ret)
{
    static const char *const names[] = {"text"};
    tmpl_value v;
    return hob_tmpl_bind(r, what, args, names, 1, 1, &v) && hob_tmpl_want_string(r, what, v, ret);
}

static bool m_removeprefix(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_str *part, *s = self.u.s;
    return one_string(r, "removeprefix()", args, &part) &&
           hob_tmpl_substr(r, s, begins(s, part, false) ? part->len : 0, s->len, ret);
}
static bool m_removesuffix(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_str *part, *s = self.u.s;
    return one_string(r, "removesuffix()", args, &part) &&
           hob_tmpl_substr(r, s, 0, begins(s, part, true) ? s->len - part->len : s->len, ret);
}

static bool m_replace(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"old", "new", "count"};
    tmpl_value v[3];
    const tmpl_str *from, *to;
    int64_t count = -1;
    return hob_tmpl_bind(r, "replace()", args, names, 3, 2, v) &&
           hob_tmpl_want_string(r, "replace()", v[0], &from) &&
           hob_tmpl_want_string(r, "replace()", v[1], &to) &&
           (!tmpl_given(v[2]) || hob_tmpl_want_int(r, "replace()", v[2], &count)) &&
           hob_tmpl_replace(r, self.u.s, from, to, count, ret);
}

static bool m_join(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    static const char *const names[] = {"iterable"};
    tmpl_value v;
    tmpl_list *l;
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    if (!b || !hob_tmpl_bind(r, "join()", args, names, 1, 1, &v) || !hob_tmpl_iterate(r, v, &l))
        return false;
    for (size_t i = 0; i < l->count; i++) {
        const tmpl_str *item;
        if (!hob_tmpl_charge(r, 1) || !hob_tmpl_want_string(r, "join()", l->items[i], &item) ||
            (i > 0 && !hob_tmpl_buf_put_str(r, b, self.u.s)) || !hob_tmpl_buf_put_str(r, b, item))
            return false;
    }
    return hob_tmpl_buf_str(r, b, ret);
}

static bool find(tmpl_run *r, const tmpl_str *s, const tmpl_args *args, bool from_right,
                 int64_t *ret_char, bool *ret_trusted)
{
    const tmpl_str *part;
    if (!one_string(r, "find()", args, &part) || !hob_tmpl_charge(r, s->len / 16))
        return false;
    const char *hit = memmem(s->s, s->len, part->s, part->len);
    if (hit && from_right && part->len == 0)
        hit = s->s + s->len;
    else if (hit && from_right) {
        for (const char *next = hit; next;
             next = memmem(hit + 1, s->len - (size_t)(hit + 1 - s->s), part->s, part->len)) {
            hit = next;
            if (!hob_tmpl_charge(r, part->len / 64 + 1)) /* memmem prepares the needle anew */
                return false;
        }
    }
    *ret_char = hit ? (int64_t)hob_tmpl_chars(s->s, (size_t)(hit - s->s)) : -1;
    *ret_trusted = s->trust == TMPL_TRUSTED && part->trust == TMPL_TRUSTED;
    return true;
}

static bool find_int(tmpl_run *r, tmpl_value self, const tmpl_args *args, bool from_right,
                     tmpl_value *ret)
{
    int64_t at;
    bool trusted;
    if (!find(r, self.u.s, args, from_right, &at, &trusted))
        return false;
    *ret = tmpl_int(at, trusted);
    return true;
}
static bool m_find(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return find_int(r, self, args, false, ret);
}
static bool m_rfind(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    return find_int(r, self, args, true, ret);
}
static bool m_index(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    if (!find_int(r, self, args, false, ret))
        return false;
    return ret->u.i >= 0 || hob_tmpl_fail(r, HOB_EINVAL, "index(): the text is not there");
}

static bool m_count(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_str *part, *s = self.u.s;
    if (!one_string(r, "count()", args, &part) || !hob_tmpl_charge(r, s->len / 16))
        return false;
    size_t n = part->len == 0 ? hob_tmpl_chars(s->s, s->len) + 1 : 0;
    for (size_t at = 0; part->len > 0 && at < s->len; n++) {
        const char *hit = memmem(s->s + at, s->len - at, part->s, part->len);
        if (!hit)
            break;
        at = (size_t)(hit - s->s) + part->len;
    }
    *ret = tmpl_int((int64_t)n, s->trust == TMPL_TRUSTED && part->trust == TMPL_TRUSTED);
    return true;
}

typedef enum { IS_ALPHA, IS_DIGIT, IS_ALNUM, IS_SPACE, IS_UPPER, IS_LOWER } char_class;
static bool is_class(tmpl_run *r, tmpl_value self, const tmpl_args *args, char_class want,
                     tmpl_value *ret)
{
    const tmpl_str *s = self.u.s;
    bool all = s->len > 0, cased = false;
    if (!hob_tmpl_bind(r, "a test of characters", args, NULL, 0, 0, NULL) ||
        !hob_tmpl_charge(r, s->len / 16))
        return false;
    for (size_t i = 0; i < s->len && all; i += hob_tmpl_char_len(s->s + i)) {
        uint32_t c = hob_tmpl_char_at(s->s + i);
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
        bool alpha = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO,
             digit = k == UTF8PROC_CATEGORY_ND;
        bool upper = k == UTF8PROC_CATEGORY_LU, lower = k == UTF8PROC_CATEGORY_LL;
        switch (want) {
        case IS_ALPHA: all = alpha; break;
        case IS_DIGIT: all = digit; break;
        case IS_ALNUM: all = alpha || digit; break;
        case IS_SPACE: all = is_space(c); break;
        case IS_UPPER: all = !lower && k != UTF8PROC_CATEGORY_LT; break;
        case IS_LOWER: all = !upper && k != UTF8PROC_CATEGORY_LT; break;
        }
        cased = cased || upper || lower;
    }
    if (want == IS_UPPER || want == IS_LOWER)
        all = all && cased;
    *ret = tmpl_bool(all, s->trust == TMPL_TRUSTED);
    return true;
}
#define CLASS_METHOD(name, want)                                                                   \
    static bool name(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)         \
    {                                                                                              \
        return is_class(r, self, args, want, ret);                                                 \
    }
CLASS_METHOD(m_isalpha, IS_ALPHA)
CLASS_METHOD(m_isdigit, IS_DIGIT)
CLASS_METHOD(m_isalnum, IS_ALNUM)
CLASS_METHOD(m_isspace, IS_SPACE)
CLASS_METHOD(m_isupper, IS_UPPER)
CLASS_METHOD(m_islower, IS_LOWER)

/* The value of a replacement field: its number, its name, or the next argument. */
static bool format_field(tmpl_run *r, const char *field, size_t len, const tmpl_args *args,
                         size_t *next, tmpl_value *ret)
{
    size_t number = 0, digits = 0;
    while (digits < len && digits < 9 && field[digits] >= '0' && field[digits] <= '9')
        number = number * 10 + (size_t)(field[digits++] - '0');
    if (memchr(field, ':', len) || memchr(field, '!', len) || memchr(field, '.', len) ||
        memchr(field, '[', len))
        return hob_tmpl_fail(r, HOB_EUNSUPPORTED,
                             "format(): the field {%.*s}: only {}, {0} and {name} are known",
                             (int)(len < 40 ? len : 40), field);
    if (digits == len) {
        number = len ? number : (*next)++;
        if (number >= args->count)
            return hob_tmpl_fail(r, HOB_EINVAL, "format(): field %zu of %zu arguments", number,
                                 args->count);
        *ret = args->pos[number];
        return true;
    }
    for (size_t i = 0; i < args->named_count; i++)
        if (args->names[i]->len == len && memcmp(args->names[i]->s, field, len) == 0) {
            *ret = args->named[i];
            return true;
        }
    return hob_tmpl_fail(r, HOB_EINVAL, "format(): no argument is called \"%.*s\"",
                         (int)(len < 40 ? len : 40), field);
}

static bool m_format(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_str *s = self.u.s, *text;
    const bool trusted = s->trust == TMPL_TRUSTED;
    tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    size_t next = 0;
    tmpl_value v;
    if (!b || !hob_tmpl_charge(r, s->len / 64))
        return false;
    for (size_t i = 0; i < s->len;) {
        const char c = s->s[i];
        size_t run = 0;
        while (i + run < s->len && s->s[i + run] != '{' && s->s[i + run] != '}')
            run++;
        if (run == 0 && i + 1 < s->len && s->s[i + 1] == c) { /* doubled: the brace itself */
            if (!hob_tmpl_buf_put(r, b, s->s + i, 1, trusted))
                return false;
            i += 2;
            continue;
        }
        if (run == 0) {
            const char *end = c == '{' ? memchr(s->s + i, '}', s->len - i) : NULL;
            if (!end)
                return hob_tmpl_fail(r, HOB_EINVAL, "format(): a single '%c' in the string", c);
            const size_t len = (size_t)(end - s->s) - i - 1;
            if (!hob_tmpl_charge(r, 1) || !format_field(r, s->s + i + 1, len, args, &next, &v) ||
                !hob_tmpl_require(r, v) || !hob_tmpl_text_of(r, v, &text) ||
                !hob_tmpl_buf_put_str(r, b, text))
                return false;
            i += len + 2;
            continue;
        }
        if (!hob_tmpl_buf_put(r, b, s->s + i, run, trusted))
            return false;
        i += run;
    }
    return hob_tmpl_buf_str(r, b, ret);
}

const tmpl_builtin *hob_tmpl_string_method(const char *name, size_t len)
{
    static const tmpl_builtin methods[] = {
        {"strip", m_strip},
        {"lstrip", m_lstrip},
        {"rstrip", m_rstrip},
        {"upper", m_upper},
        {"lower", m_lower},
        {"title", m_title},
        {"capitalize", m_capitalize},
        {"split", m_split},
        {"rsplit", m_rsplit},
        {"splitlines", m_splitlines},
        {"startswith", m_startswith},
        {"endswith", m_endswith},
        {"replace", m_replace},
        {"join", m_join},
        {"find", m_find},
        {"rfind", m_rfind},
        {"index", m_index},
        {"count", m_count},
        {"removeprefix", m_removeprefix},
        {"removesuffix", m_removesuffix},
        {"isalpha", m_isalpha},
        {"isdigit", m_isdigit},
        {"isnumeric", m_isdigit},
        {"isdecimal", m_isdigit},
        {"isalnum", m_isalnum},
        {"isspace", m_isspace},
        {"isupper", m_isupper},
        {"islower", m_islower},
        {"format", m_format},
    };
    return hob_tmpl_find_builtin(methods, sizeof methods / sizeof methods[0], name, len);
}
