/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks: the pieces of a document that are embedded, searched and shown to a model. A chunk is a byte range of the
 * document's text. It
 * - begins anew at each heading, which it contains, unless only headings stand before that;
 * - is filled with whole sentences (of code and tables: lines) up to a number of tokens, and ends where a block does if it
 *   is half full there; a sentence that alone is too long is cut at line ends, clauses or words, in this order;
 * - repeats, within a section, the end of the one before: whole sentences, or words, of at most so many tokens.
 * Every visible byte is in some chunk, chunks are in order of both start and end, and all depends on nothing but the text,
 * the vocabulary and the two numbers. Tokens are counted on the chunk's own text, as it will be tokenized, without the
 * tokens that a model adds around it. Beside tokens, a chunk has at most HOB_CHUNK_BYTES_A_TOKEN bytes for each token it
 * could have: of a long run of letters a vocabulary may make a single unknown token.
 * Thread: one. */
#ifndef HOB_DAEMON_EXTRACT_CHUNK_H
#define HOB_DAEMON_EXTRACT_CHUNK_H

#include "daemon/extract/document.h"
#include "models/tokenizer.h"

enum {
    HOB_CHUNK_BYTES_A_TOKEN = 16,
    HOB_HEADING_BYTES_MAX = 200, /* a longer one is a paragraph to chunks */
    HOB_HEADING_LEVELS = 6,
    HOB_HEADING_PATH_MAX = HOB_HEADING_LEVELS * (HOB_HEADING_BYTES_MAX + 3), /* bytes */
};

typedef struct hob_chunk {
    uint32_t start, end; /* bytes of the text, on characters' borders */
    uint32_t tokens;
} hob_chunk;

/* Receives the chunks in order. path: the headings that its first text stands under, outermost first, apart by " > "; not
 * NUL-terminated, empty before the first heading; valid during the call. Returns 0, or a negative result that ends it. */
typedef int hob_chunk_emit(void *user, const hob_chunk *c, const char *path, size_t path_len);

/* tokens: HOB_CHUNK_TOKENS_LEAST to _MOST; overlap: at most half of it. Fails as document.h has it, or with what emit
 * returned. */
HOB_MUST_CHECK int hob_chunk_document(hob_document *d, const hob_tokenizer *t, uint32_t tokens,
                                      uint32_t overlap, hob_chunk_emit *emit, void *user);

#endif
