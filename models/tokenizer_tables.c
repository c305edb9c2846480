/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of a tokenizer, from the texts of its tokens.
 *
 * For byte-level BPE a token's text in the file is written in GPT-2's alphabet: 256 printable
 * characters that stand for the 256 bytes; for SentencePiece and WordPiece it is plain text with
 * U+2581 for a space. It is decoded once, here, into the token's raw bytes (its piece), which is all
 * that is kept; merges become pairs of ids, scores become ranks. Control and user-defined tokens are
 * written in plain text and go into a trie.
 *
 * Of two tokens with the same text the later one is given by merges and parsing, as in llama.cpp. A
 * merge that would give a control token is left out, and a control or byte token is never found by
 * its text, so that user text can never produce one. */
#include <math.h>
#include <stdlib.h>

#include "models/tokenizer_load.h"
#include "models/utf8.h"

enum { MERGES_MAX = 1 << 23 };

static void fill_alphabet(hob_loading *l)
{
    uint16_t next = 256;
    for (int i = 0; i < HOB_ALPHABET_MAX; i++)
        l->byte_of[i] = -1;
    for (int i = 0; i < 256; i++) {
        bool printable = (i >= 0x21 && i <= 0x7E) || (i >= 0xA1 && i <= 0xAC) || i >= 0xAE;
        l->code_point_of[i] = printable ? (uint16_t)i : next++;
        l->byte_of[l->code_point_of[i]] = (int16_t)i;
    }
}

/* The slot of by_text where text is or belongs. */
static uint32_t *text_slot(const hob_loading *l, const char *text, size_t len)
{
    size_t i = (size_t)hob_hash(l->t->secret, text, len) & l->mask;
    while (l->by_text[i] != HOB_TOKEN_NONE) {
        hob_string other = l->texts[l->by_text[i]];
        if (other.len == len && memcmp(other.data, text, len) == 0)
            break;
        i = (i + 1) & l->mask;
    }
    return &l->by_text[i];
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of a text "<0x0A>", -1: it is none. */
static int byte_of_text(hob_string s)
{
    if (s.len != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>' ||
        hex_digit(s.data[3]) < 0 || hex_digit(s.data[4]) < 0)
        return -1;
    return hex_digit(s.data[3]) * 16 + hex_digit(s.data[4]);
}

/* Copies a text with spaces for U+2581; returns the number of bytes. */
static size_t unescape(hob_string s, char *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        if (s.len - i >= 3 && memcmp(s.data + i, "\xE2\x96\x81", 3) == 0) {
            ret[n++] = ' ';
            i += 3;
        } else {
            ret[n++] = s.data[i++];
        }
    }
    return n;
}

/* Decodes a token's text to ret (at least its length), returns the number of bytes; *ret_text:
 * whether user text may be turned into it. Characters that are not of the byte-level alphabet stand
 * for themselves. */
static size_t decode_piece(const hob_loading *l, uint32_t id, char *ret, bool *ret_text)
{
    const bool byte_level = l->t->kind == HOB_TOKENIZER_BPE;
    hob_string s = l->texts[id];
    size_t n = 0;
    *ret_text = false;
    if (l->t->flags[id] & (byte_level ? HOB_TOKEN_CONTROL | HOB_TOKEN_USER : HOB_TOKEN_CONTROL)) {
        if (s.len)
            memcpy(ret, s.data, s.len);
        return s.len;
    }
    if ((hob_token_type(l, id) == HOB_TOKEN_TYPE_BYTE || (!l->types && !byte_level)) &&
        byte_of_text(s) >= 0) {
        ret[0] = (char)byte_of_text(s);
        return 1;
    }
    if (!byte_level) {
        /* A raw space is never looked for: the text's have become U+2581. */
        *ret_text = s.len > 0 && hob_token_type(l, id) != HOB_TOKEN_TYPE_BYTE &&
                    !memchr(s.data, ' ', s.len);
        return unescape(s, ret);
    }
    *ret_text = s.len > 0;
    for (size_t i = 0; i < s.len;) {
        int step = hob_utf8_step(s.data + i, s.len - i);
        size_t bytes = step > 0 ? (size_t)step : 1;
        unsigned code_point = (unsigned char)s.data[i];
        if (step == 2)
            code_point = (code_point & 0x1F) << 6 | ((unsigned char)s.data[i + 1] & 0x3F);
        if (step > 0 && step <= 2 && code_point < HOB_ALPHABET_MAX && l->byte_of[code_point] >= 0) {
            ret[n++] = (char)l->byte_of[code_point];
        } else {
            memcpy(ret + n, s.data + i, bytes);
            n += bytes;
            *ret_text = false;
        }
        i += bytes;
    }
    return n;
}

static int build_pieces(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    size_t total = 0, used = 0;
    for (uint32_t id = 0; id < t->count; id++)
        if (!hob_add_size(total, l->texts[id].len, &total) || total > UINT32_MAX)
            return hob_fail(l->diag, HOB_EFORMAT, "tokenizer.ggml.tokens: more than 4 GiB of text");
    t->bytes = malloc(total + 1);
    if (!t->bytes)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for %zu bytes of tokens", total);
    for (uint32_t id = 0; id < t->count; id++) {
        bool is_text;
        size_t len = decode_piece(l, id, t->bytes + used, &is_text);
        if (is_text)
            t->flags[id] |= HOB_TOKEN_TEXT;
        if (len > t->longest_piece)
            t->longest_piece = len;
        t->offsets[id] = (uint32_t)used;
        used += len;
    }
    t->offsets[t->count] = (uint32_t)used;
    return 0;
}

static int build_text_index(hob_loading *l)
{
    size_t capacity = 64;
    while (capacity < 2 * (size_t)l->t->count)
        capacity *= 2;
    l->by_text = malloc(capacity * sizeof *l->by_text);
    if (!l->by_text)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the index of tokens");
    memset(l->by_text, 0xFF, capacity * sizeof *l->by_text);
    l->mask = capacity - 1;
    for (uint32_t id = 0; id < l->t->count; id++)
        if (!(l->t->flags[id] & HOB_TOKEN_CONTROL))
            *text_slot(l, l->texts[id].data, l->texts[id].len) = id;
    return 0;
}

static bool names_token(const hob_loading *l, const char *text, size_t len)
{
    if (*text_slot(l, text, len) != HOB_TOKEN_NONE)
        return true;
    for (uint32_t id = 0; id < l->t->count; id++)
        if (l->texts[id].len == len && memcmp(l->texts[id].data, text, len) == 0)
            return true;
    return false;
}

static int build_merges(hob_loading *l)
{
    static const char key[] = "tokenizer.ggml.merges";
    hob_bpe *b = &l->t->bpe;
    hob_string *merges = NULL;
    char *joined = NULL;
    uint64_t count = 0;
    uint32_t controls = 0;
    int r = hob_gguf_array_strings(l->g, key, &count, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "%s: the key is missing", key);
    if (r < 0)
        return r;
    if (count > MERGES_MAX)
        return hob_fail(l->diag, HOB_EFORMAT, "%s: got %llu merges, allowed are %d", key,
                        (unsigned long long)count, MERGES_MAX);
    merges = calloc(count + 1, sizeof *merges);
    b->merges = calloc(count + 1, sizeof *b->merges);
    joined = malloc(2 * (size_t)HOB_TOKEN_BYTES_MAX);
    if (!merges || !b->merges || !joined) {
        r = hob_fail(l->diag, HOB_ENOMEM, "out of memory for %llu merges",
                     (unsigned long long)count);
        goto fail;
    }
    r = hob_gguf_read_strings(l->g, key, merges, count, l->diag);
    if (r < 0)
        goto fail;
    b->merge_count = (uint32_t)count;
    for (uint32_t i = 0; i < b->merge_count; i++) {
        hob_string m = merges[i];
        const char *space = m.len > 1 ? memchr(m.data + 1, ' ', m.len - 1) : NULL;
        size_t left = space ? (size_t)(space - m.data) : 0, right = space ? m.len - left - 1 : 0;
        if (!right || left > HOB_TOKEN_BYTES_MAX || right > HOB_TOKEN_BYTES_MAX) {
            r = hob_fail(l->diag, HOB_EFORMAT,
                         "%s: merge %u is not two tokens with a space between", key, i);
            goto fail;
        }
        memcpy(joined, m.data, left);
        memcpy(joined + left, space + 1, right);
        b->merges[i] = (hob_bpe_merge){.left = *text_slot(l, m.data, left),
                                       .right = *text_slot(l, space + 1, right),
                                       .result = *text_slot(l, joined, left + right)};
        if (b->merges[i].left != HOB_TOKEN_NONE && b->merges[i].right != HOB_TOKEN_NONE &&
            b->merges[i].result != HOB_TOKEN_NONE)
            continue;
        /* Either the file is broken or the merge is about a control token; few of the latter are
         * believable, and a bound keeps the slow look at all tokens from being repeated at a
         * hostile file's will. */
        if (++controls > 64 || !names_token(l, m.data, left) || !names_token(l, space + 1, right) ||
            !names_token(l, joined, left + right)) {
            r = hob_fail(l->diag, HOB_EFORMAT,
                         "%s: merge %u names a token that tokenizer.ggml.tokens does not have", key,
                         i);
            goto fail;
        }
        b->merges[i] = (hob_bpe_merge){HOB_TOKEN_NONE, HOB_TOKEN_NONE, HOB_TOKEN_NONE};
    }
    for (int i = 0; i < 256; i++) {
        unsigned c = l->code_point_of[i];
        char text[2] = {(char)(c < 0x80 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        b->byte_ids[i] = *text_slot(l, text, c < 0x80 ? 1 : 2);
    }
    r = hob_bpe_index(b);
    if (r < 0)
        hob_fail(l->diag, r, "out of memory for %llu merges", (unsigned long long)count);

fail:
    free(joined);
    free(merges);
    return r;
}

/* Fills a trie with the texts of the tokens that have one of these flags. */
static int build_trie(hob_loading *l, hob_trie *trie, unsigned flags)
{
    hob_tokenizer *t = l->t;
    size_t nodes = 1;
    for (uint32_t id = 0; id < t->count; id++)
        if (t->flags[id] & flags)
            nodes += l->texts[id].len;
    trie->ids = malloc(nodes * sizeof *trie->ids);
    if (!trie->ids || nodes > UINT32_MAX / 2)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the trie of tokens");
    memset(trie->ids, 0xFF, nodes * sizeof *trie->ids);
    memcpy(trie->edges.secret, t->secret, sizeof t->secret);
    trie->count = 1;
    for (uint32_t id = 0; id < t->count; id++) {
        hob_string s = l->texts[id];
        uint32_t node = 0;
        if (!(t->flags[id] & flags) || s.len == 0)
            continue;
        for (size_t i = 0; i < s.len; i++) {
            uint32_t next = hob_trie_step(trie, node, s.data[i]);
            if (next == HOB_INTMAP_NONE) {
                next = trie->count++;
                if (hob_intmap_set(&trie->edges, (uint64_t)node << 8 | (unsigned char)s.data[i],
                                   next) < 0)
                    return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the trie of tokens");
            }
            node = next;
        }
        trie->ids[node] = id;
    }
    return 0;
}

static int build_parsed(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    const unsigned flags = HOB_TOKEN_CONTROL | HOB_TOKEN_USER;
    for (uint32_t id = 0; id < t->count; id++)
        if ((t->flags[id] & flags) && l->texts[id].len)
            t->starts[(unsigned char)l->texts[id].data[0]] = true;
    return build_trie(l, &t->parsed, flags);
}

static int build_piece_index(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    size_t capacity = 64;
    while (capacity < 2 * (size_t)t->count)
        capacity *= 2;
    t->by_piece = malloc(capacity * sizeof *t->by_piece);
    if (!t->by_piece)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the index of tokens");
    memset(t->by_piece, 0xFF, capacity * sizeof *t->by_piece);
    t->by_piece_mask = capacity - 1;
    for (uint32_t id = 0; id < t->count; id++) {
        hob_string piece = hob_tokenizer_piece(t, id);
        size_t i = (size_t)hob_hash(t->secret, piece.data, piece.len) & t->by_piece_mask;
        if (!(t->flags[id] & HOB_TOKEN_TEXT))
            continue;
        while (t->by_piece[i] != HOB_TOKEN_NONE) {
            hob_string other = hob_tokenizer_piece(t, t->by_piece[i]);
            if (other.len == piece.len && memcmp(other.data, piece.data, piece.len) == 0)
                break;
            i = (i + 1) & t->by_piece_mask;
        }
        t->by_piece[i] = id;
    }
    return 0;
}

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_falling_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

static int build_scores(hob_loading *l)
{
    static const char key[] = "tokenizer.ggml.scores";
    hob_tokenizer *t = l->t;
    uint64_t count = 0;
    const void *scores = NULL;
    int r = hob_gguf_array_f32(l->g, key, &scores, &count, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "%s: the key is missing", key);
    if (r < 0)
        return r;
    if (count != t->count)
        return hob_fail(l->diag, HOB_EFORMAT, "%s: got %llu scores for %u tokens", key,
                        (unsigned long long)count, t->count);
    scored *sorted = calloc(t->count, sizeof *sorted);
    t->score_ranks = calloc(t->count, sizeof *t->score_ranks);
    if (!sorted || !t->score_ranks) {
        free(sorted);
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for %u scores", t->count);
    }
    for (uint32_t id = 0; id < t->count; id++) {
        memcpy(&sorted[id].score, (const char *)scores + 4 * (size_t)id, 4);
        sorted[id].id = id;
        if (isnan(sorted[id].score)) {
            free(sorted);
            return hob_fail(l->diag, HOB_EFORMAT, "%s: token %u: the score is not a number", key,
                            id);
        }
    }
    qsort(sorted, t->count, sizeof *sorted, by_falling_score);
    for (uint32_t i = 1; i < t->count; i++)
        t->score_ranks[sorted[i].id] =
            t->score_ranks[sorted[i - 1].id] + (sorted[i].score < sorted[i - 1].score);
    free(sorted);
    return 0;
}

/* Byte tokens, and what is there for characters without a token. */
static int build_spm(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    uint32_t bytes = 0;
    memset(t->bpe.byte_ids, 0xFF, sizeof t->bpe.byte_ids);
    for (uint32_t id = 0; id < t->count; id++) {
        int byte = byte_of_text(l->texts[id]);
        if (l->types && hob_token_type(l, id) != HOB_TOKEN_TYPE_BYTE)
            continue;
        if (l->types && byte < 0)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.tokens: byte token %u is not written as <0x00> to "
                            "<0xFF>",
                            id);
        if (byte >= 0) {
            bytes += t->bpe.byte_ids[byte] == HOB_TOKEN_NONE;
            t->bpe.byte_ids[byte] = id;
        }
    }
    if (bytes < 256 && t->unknown == HOB_TOKEN_NONE)
        return hob_fail(l->diag, HOB_EFORMAT,
                        "tokenizer.ggml.tokens: got %u of 256 byte tokens and no unknown token: "
                        "some text would have no ids",
                        bytes);
    int r = build_scores(l);
    return r < 0 ? r : build_piece_index(l);
}

static int build_wordpiece(hob_loading *l)
{
    if (l->t->unknown == HOB_TOKEN_NONE)
        return hob_fail(l->diag, HOB_EFORMAT,
                        "tokenizer.ggml.unknown_token_id: the key is missing, and no token is "
                        "[UNK]");
    return build_trie(l, &l->t->words, HOB_TOKEN_TEXT);
}

static int build_bpe(hob_loading *l)
{
    memcpy(l->t->bpe.ranks.secret, l->t->secret, sizeof l->t->secret);
    int r = build_text_index(l);
    if (r >= 0)
        r = build_merges(l);
    if (r >= 0 && hob_pretokenizer_ignores_merges(l->t->pre))
        r = build_piece_index(l);
    return r;
}

int hob_tokenizer_build(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    fill_alphabet(l);
    int r = build_pieces(l);
    if (r >= 0)
        r = build_parsed(l);
    if (r < 0)
        return r;
    switch (t->kind) {
    case HOB_TOKENIZER_BPE:
        r = build_bpe(l);
        free(l->by_text);
        break;
    case HOB_TOKENIZER_SPM: r = build_spm(l); break;
    case HOB_TOKENIZER_WORDPIECE: r = build_wordpiece(l); break;
    }
    return r;
}
