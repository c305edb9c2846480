/* SPDX-License-Identifier: Apache-2.0
 *
 * See normalize.h. Two passes: the first looks at each code point and drops, replaces or keeps it; the second, for text
 * that is not ASCII, composes with utf8proc, line by line so that its arrays stay small. */
#include "daemon/extract/normalize.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

enum { MARKS_MAX = 30, DECOMPOSED_MAX = 24 };

static bool is_noncharacter(utf8proc_int32_t c)
{
    return (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF);
}

/* A character that is neither seen nor white space; *ret is where it counts. */
static bool is_invisible(utf8proc_int32_t c, hob_stripped *counts, uint32_t **ret)
{
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || is_noncharacter(c))
        *ret = &counts->control;
    else if ((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0x200E ||
             c == 0x200F || c == 0x061C)
        *ret = &counts->bidi;
    else if (c >= 0xE0000 && c <= 0xE007F)
        *ret = &counts->tags;
    else if ((c >= 0xFE00 && c <= 0xFE0F) || (c >= 0xE0100 && c <= 0xE01EF) ||
             (c >= 0x180B && c <= 0x180F && c != 0x180E))
        *ret = &counts->variation;
    else if (utf8proc_get_property(c)->ignorable || (c >= 0xFFF9 && c <= 0xFFFB))
        *ret = &counts->zero_width;
    else
        return false;
    return true;
}

/* Scripts whose letters change when a joiner stands between them. */
static bool joins_letters(utf8proc_int32_t c)
{
    static const utf8proc_int32_t blocks[][2] = {
        {0x0600, 0x08FF}, /* Arabic to Arabic Extended-A */
        {0x0900, 0x0DFF}, /* Indic */
        {0x1000, 0x109F}, /* Myanmar */
        {0x1780, 0x18AF}, /* Khmer, Mongolian */
        {0xA8E0, 0xA8FF}, /* Devanagari Extended */
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1])
            return true;
    return false;
}

static bool is_pictograph(utf8proc_int32_t c)
{
    return (c >= 0x2190 && c <= 0x2BFF) || (c >= 0x1F000 && c <= 0x1FAFF);
}

static bool is_joined(utf8proc_int32_t joiner, utf8proc_int32_t before, utf8proc_int32_t after)
{
    if (joiner == 0x200D && is_pictograph(before) && is_pictograph(after))
        return true;
    return (joiner == 0x200C || joiner == 0x200D) && joins_letters(before) && joins_letters(after);
}

/* Whether c differs from its compatibility decomposition in presentation only. */
static bool is_presentation(utf8proc_int32_t c)
{
    switch (utf8proc_get_property(c)->decomp_type) {
    case UTF8PROC_DECOMP_TYPE_FONT:
    case UTF8PROC_DECOMP_TYPE_INITIAL:
    case UTF8PROC_DECOMP_TYPE_MEDIAL:
    case UTF8PROC_DECOMP_TYPE_FINAL:
    case UTF8PROC_DECOMP_TYPE_ISOLATED:
    case UTF8PROC_DECOMP_TYPE_VERTICAL:
    case UTF8PROC_DECOMP_TYPE_WIDE:
    case UTF8PROC_DECOMP_TYPE_NARROW:
    case UTF8PROC_DECOMP_TYPE_SMALL: return true;
    case UTF8PROC_DECOMP_TYPE_COMPAT:
        return (c >= 0xFB00 && c <= 0xFB17) || (c >= 0x2E80 && c <= 0x2FDF);
    default: return false;
    }
}

typedef struct cleaning {
    hob_bytes *out;
    hob_stripped *counts;
    utf8proc_int32_t last; /* code point that was kept, and may be joined with the next */
    unsigned marks;        /* combining marks since the last letter */
} cleaning;

static int put(cleaning *k, utf8proc_int32_t c)
{
    utf8proc_uint8_t bytes[4];
    if (utf8proc_get_property(c)->combining_class == 0) {
        k->marks = 0;
    } else if (++k->marks > MARKS_MAX) {
        k->counts->marks++;
        return 0;
    }
    k->last = c;
    return hob_bytes_append(k->out, bytes, (size_t)utf8proc_encode_char(c, bytes));
}

/* The code point at text and its length; -1 at the end. */
static utf8proc_int32_t peek(const char *text, size_t len, size_t *ret_step)
{
    utf8proc_int32_t c = -1;
    if (len == 0)
        return c;
    const utf8proc_ssize_t step =
        utf8proc_iterate((const utf8proc_uint8_t *)text, len < 4 ? (utf8proc_ssize_t)len : 4, &c);
    *ret_step = step > 0 ? (size_t)step : 1;
    return step > 0 ? c : 0xFFFD;
}

/* What a code point becomes that is not plain ASCII. */
static int clean(cleaning *k, utf8proc_int32_t c, utf8proc_int32_t after)
{
    utf8proc_int32_t parts[DECOMPOSED_MAX];
    uint32_t *counter;
    int boundary = 0, r = 0;
    if (c == 0x85 || c == 0x2028)
        return put(k, '\n');
    if (c == '\f' || c == '\v' || c == 0x2029)
        return (r = put(k, '\n')) < 0 ? r : put(k, '\n');
    if (utf8proc_category(c) == UTF8PROC_CATEGORY_ZS)
        return put(k, ' ');
    if (is_invisible(c, k->counts, &counter)) {
        if (is_joined(c, k->last, after))
            return put(k, c);
        if (counter == &k->counts->zero_width)
            k->last = 0; /* several of them join nothing */
        ++*counter;
        return 0;
    }
    if (!is_presentation(c))
        return put(k, c);
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        c, parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundary);
    if (count < 1 || count > DECOMPOSED_MAX)
        return put(k, c);
    for (utf8proc_ssize_t i = 0; r >= 0 && i < count; i++)
        if (!is_invisible(parts[i], k->counts, &counter))
            r = put(k, parts[i]);
    return r;
}

/* First pass, from `in` to k->out. Returns 1 if there is more than ASCII, 0 if not. */
static int clean_all(cleaning *k, const char *in, size_t len)
{
    bool ascii = true;
    int r = 0;
    for (size_t i = 0; r >= 0 && i < len;) {
        size_t run = i;
        while (run < len && (unsigned char)in[run] < 0x7F &&
               ((unsigned char)in[run] >= 0x20 || in[run] == '\n' || in[run] == '\t'))
            run++;
        if (run > i) {
            r = hob_bytes_append(k->out, in + i, run - i);
            k->last = in[run - 1];
            k->marks = 0;
            i = run;
            continue;
        }
        size_t step = 1, next_step;
        const utf8proc_int32_t c = peek(in + i, len - i, &step);
        i += step;
        if (c == '\r') {
            if (i == len || in[i] != '\n')
                r = put(k, '\n');
            continue;
        }
        ascii = ascii && c < 0x80;
        r = clean(k, c, peek(in + i, len - i, &next_step));
    }
    return r < 0 ? r : !ascii;
}

static int compose_line(const char *line, size_t len, hob_bytes *out)
{
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)line, (utf8proc_ssize_t)len,
                                            &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    int r = n < 0 ? HOB_ENOMEM : hob_bytes_append(out, composed, (size_t)n);
    free(composed);
    return r;
}

int hob_normalize(const char *text, size_t len, hob_bytes *out, hob_stripped *counts)
{
    hob_bytes cleaned = {0};
    cleaning k = {.out = &cleaned, .counts = counts, .last = '\n'};
    int r = clean_all(&k, text, len);
    if (r == 0) {
        r = hob_bytes_append(out, cleaned.data, cleaned.len);
    } else if (r > 0) {
        const char *at = (const char *)cleaned.data, *end = at + cleaned.len;
        for (r = 0; r >= 0 && at < end;) {
            const char *line = memchr(at, '\n', (size_t)(end - at));
            const char *past = line ? line + 1 : end;
            r = compose_line(at, (size_t)(past - at), out);
            at = past;
        }
    }
    hob_bytes_free(&cleaned);
    return r;
}
