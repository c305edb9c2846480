/* SPDX-License-Identifier: Apache-2.0
 *
 * See sentence.h. */
#include "daemon/extract/sentence.h"

#include <string.h>
#include <strings.h>

#include <utf8proc.h>

enum {
    WORD_BYTES = 64,
    ABBREVIATION_BYTES = 12,
    ORDINAL_DIGITS = 2, /* "3." may be an ordinal, "1984." ends a sentence */
    GRAPHEME_BYTES = 128,
};

/* Behind which a full stop ends no sentence, in small letters: English, German, French, Spanish, Italian, Dutch. */
static const char *const abbreviations[] = {
    "abb",  "abs",  "al",   "allg", "anm", "apr",  "approx", "art",    "aug", "av",
    "bd",   "bspw", "bzgl", "bzw",  "ca",  "cap",  "cf",     "chap",   "co",  "corp",
    "dec",  "dept", "dez",  "dipl", "dr",  "ed",   "eds",    "eg",     "eq",  "esp",
    "etc",  "evtl", "fam",  "feb",  "ff",  "fig",  "figs",   "gem",    "ggf", "hr",
    "hrsg", "ie",   "inc",  "incl", "ing", "inkl", "insb",   "jan",    "jh",  "jr",
    "jul",  "jun",  "kap",  "lt",   "ltd", "mag",  "max",    "messrs", "min", "mio",
    "mme",  "mr",   "mrd",  "mrs",  "ms",  "mt",   "no",     "nos",    "nov", "nr",
    "okt",  "oct",  "pag",  "par",  "phd", "pp",   "prof",   "resp",   "rev", "sec",
    "sect", "sen",  "sep",  "sept", "sig", "sog",  "sr",     "sra",    "st",  "std",
    "str",  "tab",  "tel",  "univ", "usw", "vgl",  "viz",    "vol",    "vs",  "zzgl",
};

size_t hob_skip_space(const char *text, size_t at, size_t end)
{
    while (at < end && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t'))
        at++;
    return at;
}

/* The code point at `at` < end, and its length. */
static utf8proc_int32_t code_point(const char *text, size_t at, size_t end, size_t *ret_step)
{
    utf8proc_int32_t c;
    if (!((unsigned char)text[at] & 0x80)) {
        *ret_step = 1;
        return text[at];
    }
    const size_t left = end - at < 4 ? end - at : 4;
    const utf8proc_ssize_t step =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)left, &c);
    *ret_step = step > 0 ? (size_t)step : 1;
    return step > 0 ? c : 0xFFFD;
}

typedef enum mark {
    MARK_NONE,
    MARK_STOP,   /* '.', which has other uses */
    MARK_SPACED, /* ends a sentence if white space follows */
    MARK_CJK,
} mark;

static mark mark_of(utf8proc_int32_t c)
{
    if (c > '?' && c < 0x589)
        return MARK_NONE;
    switch (c) {
    case '.': return MARK_STOP;
    case '!':
    case '?':
    case 0x2026: /* … */
    case 0x203C: /* ‼ */
    case 0x203D:
    case 0x2047:
    case 0x2048:
    case 0x2049:
    case 0x0589: /* Armenian */
    case 0x061F: /* Arabic question mark */
    case 0x06D4: /* Arabic full stop */
    case 0x0700: /* Syriac */
    case 0x0964: /* Devanagari danda */
    case 0x0965:
    case 0x104A: /* Myanmar */
    case 0x104B:
    case 0x1362: /* Ethiopic */
    case 0x1367:
    case 0x17D4: /* Khmer */
    case 0x17D5: return MARK_SPACED;
    case 0x3002: /* 。 */
    case 0xFF01:
    case 0xFF0E:
    case 0xFF1F:
    case 0xFF61: return MARK_CJK;
    default: return MARK_NONE;
    }
}

static bool closes(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return c == '"' || c == '\'' || category == UTF8PROC_CATEGORY_PE ||
           category == UTF8PROC_CATEGORY_PF || category == UTF8PROC_CATEGORY_PI;
}

static bool is_letter(unsigned char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* Whether the full stop at `stop` belongs to the word in front of it. */
static bool is_abbreviation(const char *text, size_t at, size_t stop)
{
    size_t from = stop;
    while (from > at && stop - from < ABBREVIATION_BYTES &&
           is_letter((unsigned char)text[from - 1]))
        from--;
    const size_t len = stop - from;
    const bool at_edge = from == at || !((unsigned char)text[from - 1] & 0x80);
    if (len == 1)
        return at_edge && (from == at || !is_digit((unsigned char)text[from - 1]));
    if (len == 0) {
        while (from > at && stop - from <= ORDINAL_DIGITS &&
               is_digit((unsigned char)text[from - 1]))
            from--;
        return stop > from && stop - from <= ORDINAL_DIGITS &&
               (from == at || text[from - 1] == ' ' || text[from - 1] == '\n' ||
                text[from - 1] == '(');
    }
    for (size_t i = 0; at_edge && i < sizeof abbreviations / sizeof *abbreviations; i++)
        if (strlen(abbreviations[i]) == len && strncasecmp(abbreviations[i], text + from, len) == 0)
            return true;
    return false;
}

/* Whether what follows white space behind a sentence's end can begin one. */
static bool can_begin(const char *text, size_t at, size_t end)
{
    size_t step;
    return at == end || utf8proc_category(code_point(text, at, end, &step)) != UTF8PROC_CATEGORY_LL;
}

size_t hob_sentence_end(const char *text, size_t at, size_t end)
{
    size_t step;
    for (size_t i = at; i < end; i += step) {
        const utf8proc_int32_t c = code_point(text, i, end, &step);
        if (c == '\n' && i + 1 < end && text[i + 1] == '\n')
            return i;
        mark kind = mark_of(c);
        if (kind == MARK_NONE)
            continue;
        const size_t first = i;
        unsigned marks = 0;
        /* Marks that stand together, and what closes behind them. */
        size_t past = i;
        for (size_t n; past < end; past += n) {
            const utf8proc_int32_t next = code_point(text, past, end, &n);
            if (mark_of(next) != MARK_NONE) {
                kind = mark_of(next) > kind ? mark_of(next) : kind;
                marks++;
            } else if (!closes(next)) {
                break;
            }
        }
        step = past - i;
        if (kind == MARK_CJK || past == end)
            return past;
        const size_t next = hob_skip_space(text, past, end);
        if (next == past || (kind == MARK_STOP && marks == 1 && is_abbreviation(text, at, first)))
            continue;
        if (can_begin(text, next, end))
            return past;
    }
    return end;
}

static bool stands_alone(utf8proc_int32_t c)
{
    return c >= 0x1100 && utf8proc_charwidth(c) == 2;
}

/* The last place in (at, end] where a grapheme ends; at when there is none. */
static size_t grapheme_end(const char *text, size_t at, size_t end)
{
    utf8proc_int32_t state = 0, before = -1;
    size_t last = at, step;
    for (size_t i = at; i < end; i += step) {
        const utf8proc_int32_t c = code_point(text, i, end, &step);
        if (before >= 0 && utf8proc_grapheme_break_stateful(before, c, &state)) {
            last = i;
            if (i - at >= WORD_BYTES)
                return last;
        }
        before = c;
    }
    return last;
}

size_t hob_word_end(const char *text, size_t at, size_t end)
{
    size_t step;
    utf8proc_int32_t c = code_point(text, at, end, &step);
    size_t i = at + step;
    if (stands_alone(c)) {
        for (; i < end; i += step) { /* with its marks */
            c = code_point(text, i, end, &step);
            const utf8proc_category_t category = utf8proc_category(c);
            if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
                category != UTF8PROC_CATEGORY_ME && c != 0x200D)
                break;
        }
        return i;
    }
    for (; i < end; i += step) {
        c = code_point(text, i, end, &step);
        if (c == ' ' || c == '\n' || c == '\t' || stands_alone(c))
            return i;
        if (i - at >= WORD_BYTES) {
            const size_t most = end - at < GRAPHEME_BYTES ? end : at + GRAPHEME_BYTES;
            size_t limit = most; /* not inside a character */
            while (limit < end && ((unsigned char)text[limit] & 0xC0) == 0x80)
                limit--;
            const size_t cut = grapheme_end(text, at, limit);
            return cut > at ? cut : limit;
        }
    }
    return end;
}
