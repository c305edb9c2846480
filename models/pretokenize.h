/* SPDX-License-Identifier: Apache-2.0
 *
 * The split of text into the pieces that BPE never merges across: a list of patterns, each applied
 * to the pieces the one before it left, where both matches and what lies between them become pieces
 * ("isolated" split). Named by tokenizer.ggml.pre. Patterns are ours, never the file's; they are
 * run by PCRE2's interpreter under limits. Thread: a hob_pretokenizer is immutable and may be
 * shared; a hob_pretokenizing belongs to one call. */
#ifndef HOB_MODELS_PRETOKENIZE_H
#define HOB_MODELS_PRETOKENIZE_H

#include "models/gguf.h"

typedef struct hob_pretokenizer hob_pretokenizer;
typedef struct hob_pretokenizing hob_pretokenizing;

/* HOB_EUNSUPPORTED names an unknown pre-tokenizer. */
HOB_MUST_CHECK int hob_pretokenizer_open(hob_string name, hob_pretokenizer **ret, hob_diag *diag);
void hob_pretokenizer_close(hob_pretokenizer *p);
bool hob_pretokenizer_adds_bos(const hob_pretokenizer *p); /* when the file does not say */
bool hob_pretokenizer_ignores_merges(
    const hob_pretokenizer *p); /* a piece that is a token is taken whole */

/* 0, or a negative result that ends the split and is returned. */
typedef int hob_piece_fn(void *context, const char *piece, size_t len);

/* The working memory for one text of at most `bytes` bytes. */
HOB_MUST_CHECK int hob_pretokenizing_new(const hob_pretokenizer *p, size_t bytes,
                                         hob_pretokenizing **ret);
void hob_pretokenizing_free(hob_pretokenizing *run);
/* text must be valid UTF-8 of at most the bytes given to new. HOB_ELIMIT when a pattern reached its
 * limit. */
HOB_MUST_CHECK int hob_pretokenize(hob_pretokenizing *run, const char *text, size_t len,
                                   hob_piece_fn *each, void *context, hob_diag *diag);

#endif
