/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a tokenizer from a GGUF's keys. See tokenizer.h.
 *
 * A token's text in the file is written in GPT-2's byte-level alphabet: 256 printable characters
 * that stand for the 256 bytes. It is decoded once, here, into the token's raw bytes (its piece),
 * which is all that is kept; merges become pairs of ids. Control and user-defined tokens are
 * written in plain text and go into a trie.
 *
 * Of two tokens with the same text the later one is given by merges and parsing, as in llama.cpp. A
 * merge that would give a control token is left out, so that BPE over user text can never produce
 * one. */
#include "models/tokenizer_private.h"

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
    "<|eot_id|>", "<|im_end|>",      "<|end|>",
    "<|return|>", "<|call|>",        "<|flush|>",
    "<|calls|>",  "<end_of_turn>",   "<|endoftext|>",
    "<|eom_id|>", "<EOT>",           "_<EOT>",
    "[EOT]",      "[EOS]",           "</s>",
    "<eos>",      "<|end_of_text|>", "<end_of_utterance>",
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

/* Decodes a token's text to ret (at least its length), returns the number of bytes. Characters that
 * are not of the byte-level alphabet stand for themselves. */
static size_t decode_piece(const loading *l, uint32_t id, char *ret, bool *ret_byte_level)
{
    hob_string s = l->texts[id];
    size_t n = 0;
    *ret_byte_level = false;
    if (l->t->flags[id] & (HOB_TOKEN_CONTROL | HOB_TOKEN_USER)) {
        if (s.len)
            memcpy(ret, s.data, s.len);
        return s.len;
    }
    if (token_type(l, id) == TYPE_BYTE && s.len == 6 && memcmp(s.data, "<0x", 3) == 0 &&
        s.data[5] == '>' && hex_digit(s.data[3]) >= 0 && hex_digit(s.data[4]) >= 0) {
        ret[0] = (char)(hex_digit(s.data[3]) * 16 + hex_digit(s.data[4]));
        return 1;
    }
    *ret_byte_level = s.len > 0;
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
            *ret_byte_level = false;
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
        bool byte_level;
        size_t len = decode_piece(l, id, t->bytes + used, &byte_level);
        if (byte_level)
            t->flags[id] |= HOB_TOKEN_BYTES;
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

static int build_trie(loading *l)
{
    hob_tokenizer *t = l->t;
    size_t nodes = 1;
    for (uint32_t id = 0; id < t->count; id++)
        if (t->flags[id] & (HOB_TOKEN_CONTROL | HOB_TOKEN_USER))
            nodes += l->texts[id].len;
    t->node_ids = malloc(nodes * sizeof *t->node_ids);
    if (!t->node_ids || nodes > UINT32_MAX / 2)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the control tokens");
    memset(t->node_ids, 0xFF, nodes * sizeof *t->node_ids);
    t->node_count = 1;
    for (uint32_t id = 0; id < t->count; id++) {
        hob_string s = l->texts[id];
        uint32_t node = 0;
        if (!(t->flags[id] & (HOB_TOKEN_CONTROL | HOB_TOKEN_USER)) || s.len == 0)
            continue;
        t->starts[(unsigned char)s.data[0]] = true;
        for (size_t i = 0; i < s.len; i++) {
            uint64_t key = (uint64_t)node << 8 | (unsigned char)s.data[i];
            uint32_t next = hob_intmap_find(&t->edges, key);
            if (next == HOB_INTMAP_NONE) {
                next = t->node_count++;
                if (hob_intmap_set(&t->edges, key, next) < 0)
                    return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the control tokens");
            }
            node = next;
        }
        t->node_ids[node] = id;
    }
    return 0;
}

static int build_piece_index(loading *l)
{
    hob_tokenizer *t = l->t;
    size_t capacity = l->mask + 1;
    t->by_piece = malloc(capacity * sizeof *t->by_piece);
    if (!t->by_piece)
        return hob_fail(l->diag, HOB_ENOMEM, "out of memory for the index of tokens");
    memset(t->by_piece, 0xFF, capacity * sizeof *t->by_piece);
    t->by_piece_mask = capacity - 1;
    for (uint32_t id = 0; id < t->count; id++) {
        hob_string piece = hob_tokenizer_piece(t, id);
        size_t i = (size_t)hob_hash(t->secret, piece.data, piece.len) & t->by_piece_mask;
        if (!(t->flags[id] & HOB_TOKEN_BYTES))
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

/* *ret = the id at key, or HOB_TOKEN_NONE without the key. */
static int read_id(loading *l, const char *key, uint32_t *ret)
{
    uint64_t id = HOB_TOKEN_NONE;
    int r = hob_gguf_u64(l->g, key, 0, l->t->count - 1, &id, l->diag);
    if (r < 0 && r != HOB_ENOENT)
        return r;
    *ret = (uint32_t)id;
    return 0;
}

static int read_special_ids(loading *l)
{
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    hob_tokenizer *t = l->t;
    uint32_t id;
    int r = read_id(l, "tokenizer.ggml.bos_token_id", &t->bos);
    if (r >= 0)
        r = read_id(l, "tokenizer.ggml.eos_token_id", &t->eos);
    if (r < 0)
        return r;
    if (t->eos != HOB_TOKEN_NONE)
        t->flags[t->eos] |= HOB_TOKEN_END;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        r = read_id(l, ends[i], &id);
        if (r < 0)
            return r;
        if (id != HOB_TOKEN_NONE)
            t->flags[id] |= HOB_TOKEN_END;
    }
    t->adds_bos = hob_pretokenizer_adds_bos(t->pre);
    r = hob_gguf_bool(l->g, "tokenizer.ggml.add_bos_token", &t->adds_bos, l->diag);
    return r == HOB_ENOENT ? 0 : r;
}

static int read_kind(loading *l)
{
    hob_string model, pre = {"default", 7};
    int r = hob_gguf_string(l->g, "tokenizer.ggml.model", &model, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "tokenizer.ggml.model: the key is missing");
    if (r < 0)
        return r;
    if (!text_is(model, "gpt2"))
        return hob_fail(l->diag, HOB_EUNSUPPORTED,
                        "tokenizer.ggml.model: \"%.*s\" is not a tokenizer that hob knows, gpt2 is",
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
    if ((r = build_pieces(&l)) < 0 || (r = build_text_index(&l)) < 0 ||
        (r = build_merges(&l)) < 0 || (r = build_trie(&l)) < 0 || (r = read_special_ids(&l)) < 0)
        goto fail;
    if (hob_pretokenizer_ignores_merges(t->pre) && (r = build_piece_index(&l)) < 0)
        goto fail;
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
    hob_intmap_free(&t->edges);
    free(t->node_ids);
    free(t->by_piece);
    free(t->bytes);
    free(t->offsets);
    free(t->flags);
    free(t);
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
