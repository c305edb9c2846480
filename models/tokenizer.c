/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a tokenizer: the keys of a GGUF, with what each family has where a key is missing. See
 * tokenizer.h. */
#include <ctype.h>
#include <stdlib.h>

#include "models/tokenizer_load.h"

enum { TOKENS_MAX = 1 << 22 };

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

static int read_tables(hob_loading *l)
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
        if (hob_token_type(l, id) > HOB_TOKEN_TYPE_LAST)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.token_type: token %u: got type %u, allowed are 0 to %d",
                            id, hob_token_type(l, id), HOB_TOKEN_TYPE_LAST);
        if (l->texts[id].len > HOB_TOKEN_BYTES_MAX)
            return hob_fail(l->diag, HOB_EFORMAT,
                            "tokenizer.ggml.tokens: token %u: got %zu bytes, allowed are %d", id,
                            l->texts[id].len, HOB_TOKEN_BYTES_MAX);
    }
    return 0;
}

static void set_flags(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    uint32_t end_id = HOB_TOKEN_NONE;
    bool has_return = false, has_call = false;
    for (uint32_t id = 0; id < t->count; id++) {
        uint32_t type = hob_token_type(l, id);
        if (type == HOB_TOKEN_TYPE_CONTROL || type == HOB_TOKEN_TYPE_UNKNOWN)
            t->flags[id] |= HOB_TOKEN_CONTROL;
        else if (type == HOB_TOKEN_TYPE_USER_DEFINED)
            t->flags[id] |= HOB_TOKEN_USER;
        for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++)
            if (hob_text_is(l->texts[id], end_texts[i]))
                t->flags[id] = HOB_TOKEN_END | HOB_TOKEN_CONTROL; /* some files give a wrong type */
        if (hob_text_is(l->texts[id], "<|end|>"))
            end_id = id;
        has_return = has_return || hob_text_is(l->texts[id], "<|return|>");
        has_call = has_call || hob_text_is(l->texts[id], "<|call|>");
    }
    /* The Harmony format ends a message, not the turn, with <|end|>. */
    if (end_id != HOB_TOKEN_NONE && has_return && has_call)
        t->flags[end_id] &= (uint8_t)~HOB_TOKEN_END;
}

/* *ret = the id at key; untouched without the key. */
static int read_id(hob_loading *l, const char *key, uint32_t *ret)
{
    uint64_t id = *ret;
    int r = hob_gguf_u64(l->g, key, 0, l->t->count - 1, &id, l->diag);
    if (r < 0 && r != HOB_ENOENT)
        return r;
    *ret = (uint32_t)id;
    return 0;
}

/* The last token with this text, whatever its type. */
static uint32_t named(const hob_loading *l, const char *text)
{
    uint32_t id = l->t->count;
    while (id-- > 0)
        if (hob_text_is(l->texts[id], text))
            return id;
    return HOB_TOKEN_NONE;
}

static uint32_t first_of_type(const hob_loading *l, uint32_t type)
{
    for (uint32_t id = 0; id < l->t->count; id++)
        if (hob_token_type(l, id) == type)
            return id;
    return HOB_TOKEN_NONE;
}

/* What a family has when the file does not say. */
static void set_defaults(hob_loading *l)
{
    hob_tokenizer *t = l->t;
    t->bos = t->eos = t->unknown = t->separator = HOB_TOKEN_NONE;
    switch (t->kind) {
    case HOB_TOKENIZER_BPE: t->adds_bos = hob_pretokenizer_adds_bos(t->pre); break;
    case HOB_TOKENIZER_SPM:
        t->bos = named(l, "<s>");
        t->eos = named(l, "</s>");
        t->unknown = first_of_type(l, HOB_TOKEN_TYPE_UNKNOWN);
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

static int read_special_ids(hob_loading *l)
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
static bool mentions(const hob_loading *l, const char *key, const char *text)
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
static void set_strips(hob_loading *l)
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
                strips = strips && !hob_text_is(l->texts[id], keeps[i]);
            if (strips)
                t->flags[id] |= HOB_TOKEN_RSTRIP;
        }
    } else if (mentions(l, "general.name", "modern-bert")) {
        mask = named(l, "[MASK]");
    }
    if (mask != HOB_TOKEN_NONE)
        t->flags[mask] |= HOB_TOKEN_LSTRIP;
}

static int read_kind(hob_loading *l)
{
    hob_string model, pre = {"default", 7};
    int r = hob_gguf_string(l->g, "tokenizer.ggml.model", &model, l->diag);
    if (r == HOB_ENOENT)
        return hob_fail(l->diag, HOB_EFORMAT, "tokenizer.ggml.model: the key is missing");
    if (r < 0)
        return r;
    if (hob_text_is(model, "llama") || hob_text_is(model, "bert")) {
        l->t->kind = hob_text_is(model, "bert") ? HOB_TOKENIZER_WORDPIECE : HOB_TOKENIZER_SPM;
        return 0;
    }
    if (!hob_text_is(model, "gpt2"))
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
    hob_loading l = {.g = g, .diag = diag};
    hob_tokenizer *t = l.t = calloc(1, sizeof *t);
    int r;
    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "out of memory for the tokenizer");
    hob_hash_secret(t->secret);
    if ((r = read_kind(&l)) < 0 || (r = read_tables(&l)) < 0)
        goto fail;
    set_flags(&l);
    if ((r = read_special_ids(&l)) < 0 || (r = hob_tokenizer_build(&l)) < 0)
        goto fail;
    set_strips(&l);
    *ret = t;
    t = NULL;
    r = 0;

fail:
    hob_tokenizer_close(t);
    free(l.texts);
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
