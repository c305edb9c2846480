/* SPDX-License-Identifier: Apache-2.0
 *
 * BERT's tokenizer. Characters are normalized one at a time as BertNormalizer does it: control
 * characters are dropped, white space separates words, CJK ideographs and punctuation are words of
 * their own, accents are stripped (canonical decomposition without its nonspacing marks) and
 * letters become lower case. A word is at most WORD_MAX characters, longer ones are unknown, so that
 * no text takes more than linear time. In a GGUF file U+2581 is in front of the tokens that begin a
 * word, and those that continue one are bare. */
#include "models/tokenizer_private.h"

#include <string.h>

#include <utf8proc.h>

#include "models/utf8.h"

enum { WORD_MAX = 100, DECOMPOSED_MAX = 24 };

typedef struct words {
    const hob_tokenizer *t;
    hob_push_fn *push;
    void *context;
    char word[4 * WORD_MAX];
    size_t len;
    unsigned characters; /* of the word, also those past WORD_MAX */
} words;

/* Of the other white space in C's and Unicode's sense, BERT drops what is a control character. */
static bool is_space(utf8proc_int32_t c)
{
    return c == '\t' || c == '\n' || c == '\r' ||
           (utf8proc_category(c) >= UTF8PROC_CATEGORY_ZS &&
            utf8proc_category(c) <= UTF8PROC_CATEGORY_ZP);
}

static bool is_control(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
    }
}

static bool is_punctuation(utf8proc_int32_t c)
{
    if (c < 0x80)
        return c > ' ' && c < 0x7F && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
               !(c >= '0' && c <= '9');
    return utf8proc_category(c) >= UTF8PROC_CATEGORY_PC &&
           utf8proc_category(c) <= UTF8PROC_CATEGORY_PO;
}

/* The blocks that BERT isolates; the sixth begins where its published implementation has it. */
static bool is_ideograph(utf8proc_int32_t c)
{
    static const utf8proc_int32_t blocks[][2] = {
        {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
        {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1])
            return true;
    return false;
}

static void add(words *w, utf8proc_int32_t c)
{
    if (++w->characters > WORD_MAX)
        return;
    if (c < 0x80)
        w->word[w->len++] = (char)c;
    else
        w->len += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)w->word + w->len);
}

/* The ids of the word by longest match, or -1 where nothing matches. */
static int cover(const words *w, uint32_t ids[4 * WORD_MAX])
{
    static const char mark[] = "\xE2\x96\x81";
    const hob_trie *trie = &w->t->words;
    uint32_t node = 0;
    int count = 0;
    for (size_t i = 0; i < 3 && node != HOB_INTMAP_NONE; i++)
        node = hob_trie_step(trie, node, mark[i]);
    for (size_t at = 0; at < w->len; node = 0) {
        size_t end = 0;
        for (size_t i = at; i < w->len && node != HOB_INTMAP_NONE; i++) {
            node = hob_trie_step(trie, node, w->word[i]);
            if (node != HOB_INTMAP_NONE && trie->ids[node] != HOB_TOKEN_NONE) {
                ids[count] = trie->ids[node];
                end = i + 1;
            }
        }
        if (end == 0)
            return -1;
        at = end;
        count++;
    }
    return count;
}

static int end_word(words *w)
{
    uint32_t ids[4 * WORD_MAX];
    int r = 0;
    if (w->characters == 0)
        return 0;
    int count = w->characters <= WORD_MAX ? cover(w, ids) : -1;
    if (count < 0)
        r = w->push(w->context, w->t->unknown);
    for (int i = 0; r >= 0 && i < count; i++)
        r = w->push(w->context, ids[i]);
    w->len = 0;
    w->characters = 0;
    return r;
}

/* One character of the decomposed text. */
static int take(words *w, utf8proc_int32_t c)
{
    int r = 0;
    if (w->t->strips_accents && utf8proc_category(c) == UTF8PROC_CATEGORY_MN)
        return 0;
    if (w->t->lowercase && c == 0x130) { /* the one letter whose lower case is two characters */
        add(w, 'i');
        add(w, 0x307);
        return 0;
    }
    if (w->t->lowercase)
        c = utf8proc_tolower(c);
    if (is_space(c))
        return end_word(w);
    if (!is_punctuation(c)) {
        add(w, c);
        return 0;
    }
    if ((r = end_word(w)) < 0)
        return r;
    add(w, c);
    return end_word(w);
}

/* The same for ASCII, most of most texts: it has nothing to decompose. */
static int take_ascii(words *w, unsigned char c)
{
    int r;
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
        return end_word(w);
    if (c < ' ' || c == 0x7F)
        return 0;
    if (!is_punctuation(c)) {
        add(w, w->t->lowercase && c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        return 0;
    }
    if ((r = end_word(w)) < 0)
        return r;
    add(w, c);
    return end_word(w);
}

int hob_wordpiece_encode(const hob_tokenizer *t, const char *text, size_t len, hob_push_fn *push,
                         void *context)
{
    words w = {.t = t, .push = push, .context = context};
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t c, parts[DECOMPOSED_MAX];
        int step, boundary = 0, r;
        if ((unsigned char)text[i] < 0x80) {
            if ((r = take_ascii(&w, (unsigned char)text[i++])) < 0)
                return r;
            continue;
        }
        step = hob_utf8_step(text + i, len - i);
        if (step <= 0) {
            i += step < 0 ? (size_t)-step : len - i;
            continue;
        }
        utf8proc_iterate((const utf8proc_uint8_t *)text + i, step, &c);
        i += (size_t)step;
        if (is_space(c)) {
            if ((r = end_word(&w)) < 0)
                return r;
            continue;
        }
        if (c == 0 || c == 0xFFFD || is_control(c))
            continue;
        const bool ideograph = is_ideograph(c);
        utf8proc_ssize_t count = 1;
        parts[0] = c;
        if (t->strips_accents)
            count =
                utf8proc_decompose_char(c, parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &boundary);
        if (ideograph && (r = end_word(&w)) < 0)
            return r;
        for (utf8proc_ssize_t k = 0; k < count && k < DECOMPOSED_MAX; k++)
            if ((r = take(&w, parts[k])) < 0)
                return r;
        if (ideograph && (r = end_word(&w)) < 0)
            return r;
    }
    return end_word(&w);
}
