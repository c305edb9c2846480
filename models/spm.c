/* SPDX-License-Identifier: Apache-2.0
 *
 * SentencePiece's BPE (Kudo and Richardson 2018): a text starts as one symbol a character, and the
 * two neighbors whose joined text is the token with the best score, leftmost first, are merged
 * until none is left. There are no words: a token may hold a space anywhere. Files write it as
 * U+2581; here pieces have spaces, and a U+2581 in the text counts as one, which is the same.
 *
 * A symbol's id is its token's, or its code point with UNKNOWN set: either names the text, so what
 * two symbols merge to is a function of two ids, and a small cache of it saves most lookups. */
#include "models/tokenizer_private.h"

#include <string.h>

#include "models/utf8.h"

#define UNKNOWN 0x80000000u
#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */

enum { PAIRS = 1 << 15, JOINED_MIN = 8 };

typedef struct hob_spm_pair {
    uint64_t key; /* left << 32 | right, plus 1; 0: empty */
    hob_bpe_joined joined;
} hob_spm_pair;

void hob_spm_work_free(hob_spm_work *w)
{
    hob_bpe_work_free(&w->bpe);
    free(w->pairs);
    free(w->joined);
    *w = (hob_spm_work){0};
}

static int start(hob_spm_work *w, const hob_tokenizer *t)
{
    if (w->t)
        return 0;
    w->pairs = calloc(PAIRS, sizeof *w->pairs);
    w->joined = malloc(t->longest_piece + JOINED_MIN);
    if (!w->pairs || !w->joined)
        return HOB_ENOMEM;
    w->t = t;
    return 0;
}

static uint32_t code_point(const char *text, int bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t c = bytes == 1 ? s[0] : s[0] & (0xFFu >> (bytes + 1));
    for (int i = 1; i < bytes; i++)
        c = c << 6 | (s[i] & 0x3F);
    return c;
}

/* ret has 4 bytes. */
static size_t put_code_point(char *ret, uint32_t c)
{
    static const unsigned char first[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = bytes - 1; i > 0; i--, c >>= 6)
        ret[i] = (char)(0x80 | (c & 0x3F));
    ret[0] = (char)(first[bytes < 2 ? 0 : bytes] | c);
    return bytes;
}

/* The text of a symbol; buffer has 4 bytes. */
static hob_string symbol_text(const hob_tokenizer *t, uint32_t id, char *buffer)
{
    if (!(id & UNKNOWN))
        return hob_tokenizer_piece(t, id);
    return (hob_string){buffer, put_code_point(buffer, id & ~UNKNOWN)};
}

static hob_spm_pair *pair_slot(hob_spm_work *w, uint64_t key)
{
    return &w->pairs[hob_intmap_mix(w->t->secret, key) & (PAIRS - 1)];
}

static hob_bpe_joined join(void *context, uint32_t left, uint32_t right)
{
    hob_spm_work *w = context;
    uint64_t key = ((uint64_t)left << 32 | right) + 1;
    hob_spm_pair *pair = pair_slot(w, key);
    if (pair->key == key)
        return pair->joined;
    char buffers[2][4];
    hob_string a = symbol_text(w->t, left, buffers[0]), b = symbol_text(w->t, right, buffers[1]);
    hob_bpe_joined joined = {HOB_BPE_NONE, 0};
    if (a.len + b.len <= w->t->longest_piece) {
        memcpy(w->joined, a.data, a.len);
        memcpy(w->joined + a.len, b.data, b.len);
        uint32_t id = hob_tokenizer_find(w->t, w->joined, a.len + b.len);
        if (id != HOB_TOKEN_NONE)
            joined = (hob_bpe_joined){w->t->score_ranks[id], id};
    }
    *pair = (hob_spm_pair){key, joined};
    return joined;
}

/* The symbol of one character. */
static uint32_t character(hob_spm_work *w, const char *text, int bytes)
{
    if (bytes == 3 && memcmp(text, SPACE_MARK, 3) == 0) {
        text = " ";
        bytes = 1;
    }
    uint32_t c = code_point(text, bytes);
    uint64_t key = ((uint64_t)c << 32 | UINT32_MAX) + 1; /* no right symbol has this id */
    hob_spm_pair *pair = pair_slot(w, key);
    if (pair->key != key) {
        uint32_t id = hob_tokenizer_find(w->t, text, (size_t)bytes);
        *pair = (hob_spm_pair){key, {0, id != HOB_TOKEN_NONE ? id : UNKNOWN | c}};
    }
    return pair->joined.id;
}

static int push_bytes(const hob_tokenizer *t, uint32_t symbol, bool *in_unknown, hob_push_fn *push,
                      void *context)
{
    char bytes[4];
    hob_string s = symbol_text(t, symbol == (UNKNOWN | ' ') ? UNKNOWN | 0x2581 : symbol, bytes);
    bool whole = true;
    int r = 0;
    for (size_t i = 0; i < s.len; i++)
        whole = whole && t->bpe.byte_ids[(unsigned char)s.data[i]] != HOB_TOKEN_NONE;
    for (size_t i = 0; whole && i < s.len; i++)
        if ((r = push(context, t->bpe.byte_ids[(unsigned char)s.data[i]])) < 0)
            return r;
    if (!whole && !*in_unknown && t->unknown != HOB_TOKEN_NONE)
        r = push(context, t->unknown);
    *in_unknown = !whole;
    return r;
}

int hob_spm_encode(const hob_tokenizer *t, hob_spm_work *w, const char *text, size_t len,
                   bool prefix, hob_push_fn *push, void *context)
{
    uint32_t count = 0;
    bool in_unknown = false;
    if (len == 0 && !prefix)
        return 0;
    int r = start(w, t);
    if (r < 0 || (r = hob_bpe_reserve(&w->bpe, len + prefix)) < 0)
        return r;
    hob_bpe_symbol *s = w->bpe.symbols;
    if (prefix)
        s[count++].id = character(w, " ", 1);
    for (size_t i = 0; i < len;) {
        int bytes = hob_utf8_step(text + i, len - i);
        s[count++].id = character(w, text + i, bytes);
        i += (size_t)bytes;
    }
    hob_bpe_merge_symbols(&w->bpe, count, join, w);
    for (uint32_t i = 0; i != HOB_BPE_NONE; i = s[i].next) {
        if (s[i].id & UNKNOWN) {
            r = push_bytes(t, s[i].id, &in_unknown, push, context);
        } else {
            r = push(context, s[i].id);
            in_unknown = false;
        }
        if (r < 0)
            return r;
    }
    return 0;
}
