/* SPDX-License-Identifier: Apache-2.0
 *
 * What holds of every document and of every list of chunks, whatever was put in. For unit tests and fuzz targets: each
 * check returns NULL, or what is wrong. */
#ifndef HOB_TESTS_DOCUMENT_CHECK_H
#define HOB_TESTS_DOCUMENT_CHECK_H

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "daemon/extract/chunk.h"
#include "daemon/extract/normalize.h"
#include "daemon/extract/wire.h"
#include "tests/support/vocabulary.h"

static inline bool dc_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t';
}

/* The text is what hob_normalize makes of it. */
static inline bool dc_is_normal(const char *text, size_t len)
{
    hob_bytes again = {0};
    hob_stripped counts = {0}, none = {0};
    const bool same = hob_normalize(text, len, &again, &counts) == 0 && again.len == len &&
                      memcmp(again.data, text, len) == 0 &&
                      memcmp(&counts, &none, sizeof none) == 0;
    hob_bytes_free(&again);
    return same;
}

static inline const char *dc_document(const hob_document *d)
{
    const char *text = (const char *)d->text.data;
    uint32_t past = 0;
    if (d->text.len > d->limits->text_bytes)
        return "the text is too long";
    if (!hob_wire_is_text(text, d->text.len))
        return "the text is not UTF-8 without controls";
    for (uint32_t i = 0; i < d->block_count; i++) {
        const hob_text_block *b = &d->blocks[i];
        if (b->start < past || b->end <= b->start || b->end > d->text.len)
            return "blocks overlap, or are empty or out of the text";
        for (; past < b->start; past++)
            if (text[past] != ' ' && text[past] != '\n')
                return "text outside of blocks";
        if (!dc_is_normal(text + b->start, b->end - b->start))
            return "a block is not normalized";
        for (uint32_t k = b->start; k < b->end; k++)
            if (text[k] == '\n' && dc_is_space(text[k - 1]) && text[k - 1] != '\n')
                return "white space at a line's end";
        if (dc_is_space(text[b->end - 1]) || text[b->start] == '\n')
            return "white space around a block";
        past = b->end;
    }
    return past == d->text.len ? NULL : "text behind the last block";
}

typedef struct dc_chunks { /* what dc_keep has got; zero-initialize, released by dc_chunks_free */
    hob_chunk *list;
    char **paths;
    size_t count;
} dc_chunks;

static inline int dc_keep(void *user, const hob_chunk *c, const char *path, size_t path_len)
{
    dc_chunks *k = user;
    k->list = realloc(k->list, (k->count + 1) * sizeof *k->list);
    k->paths = realloc(k->paths, (k->count + 1) * sizeof *k->paths);
    if (!k->list || !k->paths)
        abort();
    k->list[k->count] = *c;
    k->paths[k->count++] = strndup(path, path_len);
    return 0;
}

static inline void dc_chunks_free(dc_chunks *k)
{
    for (size_t i = 0; i < k->count; i++)
        free(k->paths[i]);
    free(k->paths);
    free(k->list);
    *k = (dc_chunks){0};
}

static inline size_t dc_count(const hob_tokenizer *t, const char *text, size_t len)
{
    hob_ids ids = {0};
    if (hob_tokenize(t, text, len, NULL, 0, false, 0, &ids, NULL) < 0)
        abort();
    const size_t n = ids.count;
    hob_ids_free(&ids);
    return n;
}

static inline const char *dc_check_chunks(const hob_document *d, const hob_tokenizer *t,
                                          const dc_chunks *k, uint32_t tokens, uint32_t overlap)
{
    const char *text = (const char *)d->text.data;
    size_t covered = 0;
    for (size_t i = 0; i < k->count; i++) {
        const hob_chunk *c = &k->list[i];
        if (c->start >= c->end || c->end > d->text.len)
            return "a chunk is empty or out of the text";
        if (((unsigned char)text[c->start] & 0xC0) == 0x80 ||
            (c->end < d->text.len && ((unsigned char)text[c->end] & 0xC0) == 0x80))
            return "a chunk cuts a character";
        if (c->tokens != dc_count(t, text + c->start, c->end - c->start))
            return "a chunk's tokens are not counted right";
        if (c->tokens > tokens || c->end - c->start > tokens * HOB_CHUNK_BYTES_A_TOKEN)
            return "a chunk is too large";
        if (i > 0 && (c->start <= k->list[i - 1].start || c->end <= k->list[i - 1].end))
            return "chunks are not in order";
        if (c->start < covered && dc_count(t, text + c->start, covered - c->start) > overlap)
            return "a chunk repeats too much";
        for (; covered < c->start; covered++)
            if (!dc_is_space(text[covered]))
                return "text in no chunk";
        if (!hob_wire_is_text(k->paths[i], strlen(k->paths[i])))
            return "a path is not text";
        covered = c->end;
    }
    return covered == d->text.len ? NULL : "text behind the last chunk";
}

/* "bert", "llama" or the name of a pre-tokenizer; the small vocabularies of vocabulary.h. */
static inline hob_tokenizer *dc_tokenizer(const char *name)
{
    mk m = {0};
    hob_gguf *g;
    hob_tokenizer *t;
    vocabulary v = vocabulary_default();
    const texts_vocabulary spm = spm_vocabulary(), wordpiece = wordpiece_vocabulary();
    v.pre = name;
    if (strcmp(name, "llama") == 0)
        mk_texts_vocabulary(&m, &spm);
    else if (strcmp(name, "bert") == 0)
        mk_texts_vocabulary(&m, &wordpiece);
    else
        mk_small_vocabulary(&m, &v);
    if (hob_gguf_parse(m.data, m.bytes, &g, NULL) < 0 || hob_tokenizer_open(g, &t, NULL) < 0)
        abort();
    hob_gguf_close(g);
    mk_free(&m);
    return t;
}

/* Cuts a document and checks all of it. */
static inline const char *dc_cut(hob_document *d, const hob_tokenizer *t, uint32_t tokens,
                                 uint32_t overlap)
{
    dc_chunks k = {0};
    const char *wrong = hob_chunk_document(d, t, tokens, overlap, dc_keep, &k) < 0
                            ? "the document cannot be cut"
                            : dc_check_chunks(d, t, &k, tokens, overlap);
    dc_chunks_free(&k);
    return wrong;
}

#endif
