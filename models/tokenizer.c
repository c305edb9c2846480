/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a tokenizer from a GGUF's keys. See tokenizer.h.
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
#include "models/tokenizer_private.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/utf8.h"

enum {
    TOKENS_MAX = 1 << 22,
    MERGES_MAX = 1 << 23,
    TOKEN_BYTES_MAX = 65535,
    ALPHABET_MAX = 324, /* code points of the byte-level alphabet are below */
};

/* GGUF's tokenizer.ggml.token_type. */
enum { TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_BYTE = 6, TYPE_LAST = 6 };

/* Only needed while loading. */
typedef struct loading {
    hob_tokenizer *t;
    const hob_gguf *g;
    hob_diag *diag;
    hob_string *texts;          /* [count] in the file */
    const unsigned char *types; /* [count] little-endian int32, unaligned; NULL: all normal */
    uint32_t *by_text;          /* [mask + 1] ids that BPE may give, HOB_TOKEN_NONE: empty */
    size_t mask;
    int16_t byte_of[ALPHABET_MAX]; /* byte that a code point stands for, -1: none */
    uint16_t code_point_of[256];
} loading;

static const char *const end_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
};

static bool text_is(hob_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static void fill_alphabet(loading *l)
{
    uint16_t next = 256;
    for (int i = 0; i < ALPHABET_MAX; i++)
        l->byte_of[i] = -1;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        l->code_point_of[b] = printable ? (uint16_t)b : next++;
        l->byte_of[l->code_point_of[b]] = (int16_t)b;
    }
}

/* The slot of by_text where text is or belongs. */
static uint32_t *text_slot(const loading *l, const char *text, size_t len)
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

static uint32_t token_type(const loading *l, uint32_t id)
{
    if (!l->types)
        return 1;
    const unsigned char *p = l->types + 4 * (size_t)id;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int read_tables(loading *l)
{
    hob_tokenizer *t = l->t;
    uint64_t count = 0, type_count = 0;
    const void *types = NULL;
    int r = hob_gguf_array_strings(l->g, "tokenizer.ggml.tokens", &count, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "tokenizer.ggml.tokens: the key is missing");
    if (r < 0)
        return r;
    if (count == 0 || count > TOKENS_MAX)
        return hob_fail(l->diag, HOB_EFORMAT,
                        "tokenizer.ggml.tokens: got %llu tokens, allowed are 1 to %d",
                        (unsigned long long)count, TOKENS_MAX);
    t->count = (uint32_t)count;
    l->texts = calloc(t->count, sizeof *l->texts);
    t->offsets = calloc((size_t)t->count + 1, sizeof *t->offsets);
    t->flags = calloc(t->count, sizeof *t->flags);
    if (!l->texts || !t->offsets || !t->flags)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for %u tokens", t->count);
    r = hob_gguf_read_strings(l->g, "tokenizer.ggml.tokens", l->texts, count, l->diag);
    if (r < 0)
        return r;

    r = hob_gguf_array_i32(l->g, "tokenizer.ggml.token_type", &types, &type_count, l->diag);
    if (r < 0 && r != HOB_ENOENT)
        return r;
    if (r >= 0) {
        if (type_count != count)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.token_type: got %llu types for %u tokens",
                            (unsigned long long)type_count, t->count);
        l->types = types;
    }
    for (uint32_t id = 0; id < t->count; id++) {
        if (token_type(l, id) > TYPE_LAST)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.token_type: token %u: got type %u, allowed are 0 to %d",
                            id, token_type(l, id), TYPE_LAST);
        if (l->texts[id].len > TOKEN_BYTES_MAX)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.tokens: token %u: got %zu bytes, allowed are %d", id,
                            l->texts[id].len, TOKEN_BYTES_MAX);
    }
    return 0;
}

static void set_flags(loading *l)
{
    hob_tokenizer *t = l->t;
    uint32_t end_id = HOB_TOKEN_NONE;
    bool has_return = false, has_call = false;
    for (uint32_t id = 0; id < t->count; id++) {
        uint32_t type = token_type(l, id);
        if (type == TYPE_CONTROL || type == TYPE_UNKNOWN)
            t->flags[id] |= HOB_TOKEN_CONTROL;
        else if (type == TYPE_USER_DEFINED)
            t->flags[id] |= HOB_TOKEN_USER;
        for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++)
            if (text_is(l->texts[id], end_texts[i]))
                t->flags[id] = HOB_TOKEN_END | HOB_TOKEN_CONTROL; /* some files give a wrong type */
        if (text_is(l->texts[id], "<|end|>"))
            end_id = id;
        has_return = has_return || text_is(l->texts[id], "<|return|>");
        has_call = has_call || text_is(l->texts[id], "<|call|>");
    }
    /* The Harmony format ends a message, not the turn, with <|end|>. */
    if (end_id != HOB_TOKEN_NONE && has_return && has_call)
        t->flags[end_id] &= (uint8_t)~HOB_TOKEN_END;
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
static size_t decode_piece(const loading *l, uint32_t id, char *ret, bool *ret_text)
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
    if ((token_type(l, id) == TYPE_BYTE || (!l->types && !byte_level)) && byte_of_text(s) >= 0) {
        ret[0] = (char)byte_of_text(s);
        return 1;
    }
    if (!byte_level) {
        /* A raw space is never looked for: the text's have become U+2581. */
        *ret_text = s.len > 0 && token_type(l, id) != TYPE_BYTE && !memchr(s.data, ' ', s.len);
        return unescape(s, ret);
    }
    *ret_text = s.len > 0;
    for (size_t i = 0; i < s.len;) {
        int step = hob_utf8_step(s.data + i, s.len - i);
        size_t bytes = step > 0 ? (size_t)step : 1;
        unsigned code_point = (unsigned char)s.data[i];
        if (step == 2)
            code_point = (code_point & 0x1F) << 6 | ((unsigned char)s.data[i + 1] & 0x3F);
        if (step > 0 && step <= 2 && code_point < ALPHABET_MAX && l->byte_of[code_point] >= 0) {
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

static int build_pieces(loading *l)
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

static int build_text_index(loading *l)
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

static bool names_token(const loading *l, const char *text, size_t len)
{
    if (*text_slot(l, text, len) != HOB_TOKEN_NONE)
        return true;
    for (uint32_t id = 0; id < l->t->count; id++)
        if (l->texts[id].len == len && memcmp(l->texts[id].data, text, len) == 0)
            return true;
    return false;
}

static int build_merges(loading *l)
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
    joined = malloc(2 * (size_t)TOKEN_BYTES_MAX);
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
        if (!right || left > TOKEN_BYTES_MAX || right > TOKEN_BYTES_MAX) {
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
static int build_trie(loading *l, hob_trie *trie, unsigned flags)
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

static int build_parsed(loading *l)
{
    hob_tokenizer *t = l->t;
    const unsigned flags = HOB_TOKEN_CONTROL | HOB_TOKEN_USER;
    for (uint32_t id = 0; id < t->count; id++)
        if ((t->flags[id] & flags) && l->texts[id].len)
            t->starts[(unsigned char)l->texts[id].data[0]] = true;
    return build_trie(l, &t->parsed, flags);
}

static int build_piece_index(loading *l)
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

static int build_scores(loading *l)
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
static int build_spm(loading *l)
{
    hob_tokenizer *t = l->t;
    uint32_t bytes = 0;
    memset(t->bpe.byte_ids, 0xFF, sizeof t->bpe.byte_ids);
    for (uint32_t id = 0; id < t->count; id++) {
        int byte = byte_of_text(l->texts[id]);
        if (l->types && token_type(l, id) != TYPE_BYTE)
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

static int build_wordpiece(loading *l)
{
    if (l->t->unknown == HOB_TOKEN_NONE)
        return hob_fail(l->diag, HOB_EFORMAT,
                        "tokenizer.ggml.unknown_token_id: the key is missing, and no token is "
                        "[UNK]");
    return build_trie(l, &l->t->words, HOB_TOKEN_TEXT);
}

static int build_bpe(loading *l)
{
    memcpy(l->t->bpe.ranks.secret, l->t->secret, sizeof l->t->secret);
    int r = build_text_index(l);
    if (r >= 0)
        r = build_merges(l);
    if (r >= 0 && hob_pretokenizer_ignores_merges(l->t->pre))
        r = build_piece_index(l);
    return r;
}

/* *ret = the id at key; untouched without the key. */
static int read_id(loading *l, const char *key, uint32_t *ret)
{
    uint64_t id = *ret;
    int r = hob_gguf_u64(l->g, key, 0, l->t->count - 1, &id, l->diag);
    if (r < 0 && r != HOB_ENOENT)
        return r;
    *ret = (uint32_t)id;
    return 0;
}

/* The last token with this text, whatever its type. */
static uint32_t named(const loading *l, const char *text)
{
    uint32_t id = l->t->count;
    while (id-- > 0)
        if (text_is(l->texts[id], text))
            return id;
    return HOB_TOKEN_NONE;
}

static uint32_t first_of_type(const loading *l, uint32_t type)
{
    for (uint32_t id = 0; id < l->t->count; id++)
        if (token_type(l, id) == type)
            return id;
    return HOB_TOKEN_NONE;
}

/* What a family has when the file does not say. */
static void set_defaults(loading *l)
{
    hob_tokenizer *t = l->t;
    t->bos = t->eos = t->unknown = t->separator = HOB_TOKEN_NONE;
    switch (t->kind) {
    case HOB_TOKENIZER_BPE: t->adds_bos = hob_pretokenizer_adds_bos(t->pre); break;
    case HOB_TOKENIZER_SPM:
        t->bos = named(l, "<s>");
        t->eos = named(l, "</s>");
        t->unknown = first_of_type(l, TYPE_UNKNOWN);
        t->adds_bos = t->adds_space = true;
        break;
    case HOB_TOKENIZER_WORDPIECE:
        t->bos = named(l, "[CLS]");
        t->separator = named(l, "[SEP]");
        t->unknown = named(l, "[UNK]");
        t->adds_bos = t->lowercase = true;
        break;
    }
}

static int read_special_ids(loading *l)
{
    hob_tokenizer *t = l->t;
    uint32_t eot = HOB_TOKEN_NONE, eom = HOB_TOKEN_NONE;
    set_defaults(l);
    const struct {
        const char *key;
        uint32_t *id;
        bool read, ends;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &t->bos, true, false},
        {"tokenizer.ggml.cls_token_id", &t->bos, t->kind == HOB_TOKENIZER_WORDPIECE, false},
        {"tokenizer.ggml.eos_token_id", &t->eos, true, true},
        {"tokenizer.ggml.eot_token_id", &eot, true, true},
        {"tokenizer.ggml.eom_token_id", &eom, true, true},
        {"tokenizer.ggml.unknown_token_id", &t->unknown, t->kind != HOB_TOKENIZER_BPE, false},
        {"tokenizer.ggml.seperator_token_id", &t->separator, t->kind == HOB_TOKENIZER_WORDPIECE,
         false}, /* the key's own spelling */
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int r = ids[i].read ? read_id(l, ids[i].key, ids[i].id) : 0;
        if (r < 0)
            return r;
        if (ids[i].ends && *ids[i].id != HOB_TOKEN_NONE)
            t->flags[*ids[i].id] |= HOB_TOKEN_END;
    }
    const struct {
        const char *key;
        bool *flag, read;
    } flags[] = {
        {"tokenizer.ggml.add_bos_token", &t->adds_bos, true},
        {"tokenizer.ggml.add_eos_token", &t->adds_eos, t->kind != HOB_TOKENIZER_WORDPIECE},
        {"tokenizer.ggml.add_space_prefix", &t->adds_space, t->kind == HOB_TOKENIZER_SPM},
        {"tokenizer.ggml.normalizer.lowercase", &t->lowercase, t->kind == HOB_TOKENIZER_WORDPIECE},
        {"tokenizer.ggml.normalizer.strip_accents", &t->strips_accents,
         t->kind == HOB_TOKENIZER_WORDPIECE},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (flags[i].flag == &t->strips_accents)
            t->strips_accents = t->lowercase; /* BERT strips accents where it lower-cases */
        int r = flags[i].read ? hob_gguf_bool(l->g, flags[i].key, flags[i].flag, l->diag) : 0;
        if (r < 0 && r != HOB_ENOENT)
            return r;
    }
    return 0;
}

/* Whether the string at key, if any, contains text, apart from ASCII case. */
static bool mentions(const loading *l, const char *key, const char *text)
{
    hob_string s;
    const size_t len = strlen(text);
    if (hob_gguf_string(l->g, key, &s, NULL) < 0)
        return false;
    for (size_t i = 0; i + len <= s.len; i++) {
        size_t n = 0;
        while (n < len && tolower((unsigned char)s.data[i + n]) == text[n])
            n++;
        if (n == len)
            return true;
    }
    return false;
}

/* Which parsed tokens take white space along is not in the file: llama.cpp knows these models. */
static void set_strips(loading *l)
{
    hob_tokenizer *t = l->t;
    static const char *const keeps[] = {"<unk>", "<s>", "<|endoftext|>"};
    uint32_t mask = HOB_TOKEN_NONE;
    if (mentions(l, "tokenizer.ggml.pre", "jina-v2-de") ||
        mentions(l, "tokenizer.ggml.pre", "jina-v2-es") ||
        mentions(l, "tokenizer.ggml.pre", "jina-v2-code")) {
        mask = named(l, "<mask>");
    } else if (mentions(l, "general.name", "phi-3") || mentions(l, "general.name", "phi3")) {
        for (uint32_t id = 0; id < t->count; id++) {
            bool strips = (t->flags[id] & (HOB_TOKEN_CONTROL | HOB_TOKEN_USER)) != 0;
            for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++)
                strips = strips && !text_is(l->texts[id], keeps[i]);
            if (strips)
                t->flags[id] |= HOB_TOKEN_RSTRIP;
        }
    } else if (mentions(l, "general.name", "modern-bert")) {
        mask = named(l, "[MASK]");
    }
    if (mask != HOB_TOKEN_NONE)
        t->flags[mask] |= HOB_TOKEN_LSTRIP;
}

static int read_kind(loading *l)
{
    hob_string model, pre = {"default", 7};
    int r = hob_gguf_string(l->g, "tokenizer.ggml.model", &model, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "tokenizer.ggml.model: the key is missing");
    if (r < 0)
        return r;
    if (text_is(model, "llama") || text_is(model, "bert")) {
        l->t->kind = text_is(model, "bert") ? HOB_TOKENIZER_WORDPIECE : HOB_TOKENIZER_SPM;
        return 0;
    }
    if (!text_is(model, "gpt2"))
        return hob_fail(l->diag, HOB_EUNSUPPORTED,
                        "tokenizer.ggml.model: got \"%.*s\", hob has gpt2 (byte-level BPE), llama "
                        "(SentencePiece BPE) and bert (WordPiece)",
                        (int)(model.len < 64 ? model.len : 64), model.data);
    r = hob_gguf_string(l->g, "tokenizer.ggml.pre", &pre, l->diag);
    if (r < 0 && r != HOB_ENOENT)
        return r;
    return hob_pretokenizer_open(pre, &l->t->pre, l->diag);
}

int hob_tokenizer_open(const hob_gguf *g, hob_tokenizer **ret, hob_diag *diag)
{
    loading l = {.g = g, .diag = diag};
    hob_tokenizer *t = l.t = calloc(1, sizeof *t);
    int r;
    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "out of memory for the tokenizer");
    hob_hash_secret(t->secret);
    fill_alphabet(&l);
    if ((r = read_kind(&l)) < 0 || (r = read_tables(&l)) < 0)
        goto fail;
    set_flags(&l);
    if ((r = build_pieces(&l)) < 0 || (r = build_parsed(&l)) < 0 || (r = read_special_ids(&l)) < 0)
        goto fail;
    r = t->kind == HOB_TOKENIZER_BPE   ? build_bpe(&l)
        : t->kind == HOB_TOKENIZER_SPM ? build_spm(&l)
                                       : build_wordpiece(&l);
    if (r < 0)
        goto fail;
    set_strips(&l);
    *ret = t;
    t = NULL;
    r = 0;

fail:
    hob_tokenizer_close(t);
    free(l.texts);
    free(l.by_text);
    return r;
}

void hob_tokenizer_close(hob_tokenizer *t)
{
    if (!t)
        return;
    hob_pretokenizer_close(t->pre);
    hob_bpe_free(&t->bpe);
    hob_intmap_free(&t->parsed.edges);
    hob_intmap_free(&t->words.edges);
    free(t->parsed.ids);
    free(t->words.ids);
    free(t->score_ranks);
    free(t->by_piece);
    free(t->bytes);
    free(t->offsets);
    free(t->flags);
    free(t);
}

uint32_t hob_tokenizer_find(const hob_tokenizer *t, const char *piece, size_t len)
{
    size_t i = (size_t)hob_hash(t->secret, piece, len) & t->by_piece_mask;
    for (; t->by_piece[i] != HOB_TOKEN_NONE; i = (i + 1) & t->by_piece_mask) {
        hob_string other = hob_tokenizer_piece(t, t->by_piece[i]);
        if (other.len == len && memcmp(other.data, piece, len) == 0)
            break;
    }
    return t->by_piece[i];
}

uint32_t hob_tokenizer_size(const hob_tokenizer *t)
{
    return t->count;
}

uint32_t hob_tokenizer_bos(const hob_tokenizer *t)
{
    return t->bos;
}

uint32_t hob_tokenizer_eos(const hob_tokenizer *t)
{
    return t->eos;
}

uint32_t hob_tokenizer_unknown(const hob_tokenizer *t)
{
    return t->unknown;
}

bool hob_tokenizer_adds_bos(const hob_tokenizer *t)
{
    return t->adds_bos;
}

bool hob_tokenizer_is_end(const hob_tokenizer *t, uint32_t id)
{
    return id < t->count && (t->flags[id] & HOB_TOKEN_END);
}

bool hob_tokenizer_is_control(const hob_tokenizer *t, uint32_t id)
{
    return id < t->count && (t->flags[id] & HOB_TOKEN_CONTROL);
}

hob_string hob_tokenizer_piece(const hob_tokenizer *t, uint32_t id)
{
    if (id >= t->count)
        return (hob_string){"", 0};
    return (hob_string){t->bytes + t->offsets[id], t->offsets[id + 1] - t->offsets[id]};
}

size_t hob_tokenizer_longest_piece(const hob_tokenizer *t)
{
    return t->longest_piece;
}
