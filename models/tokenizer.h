/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to token ids and back. Built from a GGUF's tokenizer.ggml.* keys, which are checked (ids, merges, scores, types
 * in range) and copied: the file may be closed afterwards. tokenizer.ggml.model names the algorithm:
 *   gpt2   byte-level BPE, with the pre-tokenizer patterns of `tokenizer.ggml.pre` run by PCRE2's interpreter under a
 *          match limit (pretokenize.h, bpe.h);
 *   llama  SentencePiece's BPE: scores instead of merges, spaces inside tokens, bytes as a fallback (spm.c);
 *   bert   WordPiece after BERT's normalization (wordpiece.c).
 *
 * Control tokens are recognized only inside bytes that the caller marks as trusted (what a chat template wrote
 * itself), so that no user text can produce one.
 * Thread: a hob_tokenizer is immutable after open; any thread may use it. A hob_detokenizer belongs to one sequence. */
#ifndef HOB_MODELS_TOKENIZER_H
#define HOB_MODELS_TOKENIZER_H

#include "models/gguf.h"

typedef struct hob_tokenizer hob_tokenizer;

/* Half-open byte ranges of a text. */
typedef struct hob_text_range {
    size_t start, end;
} hob_text_range;

typedef struct hob_ids { /* zero-initialize; data from malloc, released by hob_ids_free */
    uint32_t *data;
    size_t count, capacity;
} hob_ids;
void hob_ids_free(hob_ids *ids);
HOB_MUST_CHECK int hob_ids_push(hob_ids *ids, uint32_t id);

#define HOB_TOKEN_NONE UINT32_MAX

/* HOB_EUNSUPPORTED names an unknown model or pre-tokenizer; HOB_EFORMAT a broken table. */
HOB_MUST_CHECK int hob_tokenizer_open(const hob_gguf *g, hob_tokenizer **ret, hob_diag *diag);
void hob_tokenizer_close(hob_tokenizer *t);

uint32_t hob_tokenizer_size(const hob_tokenizer *t);
uint32_t hob_tokenizer_bos(const hob_tokenizer *t); /* HOB_TOKEN_NONE when the file names none */
uint32_t hob_tokenizer_eos(const hob_tokenizer *t);
uint32_t hob_tokenizer_unknown(
    const hob_tokenizer *t); /* user text may give it; byte-level: none */
bool hob_tokenizer_adds_bos(
    const hob_tokenizer *t); /* tokenizer.ggml.add_bos_token, or the model's default */
bool hob_tokenizer_is_end(const hob_tokenizer *t,
                          uint32_t id); /* eos, eot, eom and known end-of-turn tokens */
bool hob_tokenizer_is_control(const hob_tokenizer *t, uint32_t id); /* renders as nothing */
hob_string hob_tokenizer_piece(
    const hob_tokenizer *t,
    uint32_t id); /* raw bytes of the token (decoded); "" for an id out of range */

/* Appends the ids of text (any bytes; invalid UTF-8 is tokenized byte by byte). trusted[]: ascending ranges in which
 * control tokens are parsed; pass one range over all for --special, none for user text. add_bos puts BOS in front
 * unless the ids would begin with it already, and at the end EOS where the file has tokenizer.ggml.add_eos_token, or
 * WordPiece's separator. SentencePiece: where the file has tokenizer.ggml.add_space_prefix, or does not say, the text
 * and what follows a parsed token get a space in front. HOB_ELIMIT past max_tokens (0: none) or a pattern's match
 * limit. */
HOB_MUST_CHECK int hob_tokenize(const hob_tokenizer *t, const char *text, size_t len,
                                const hob_text_range *trusted, size_t trusted_count, bool add_bos,
                                size_t max_tokens, hob_ids *ids, hob_diag *diag);

/* Incremental, UTF-8-safe: a character split over tokens is held back until whole; bytes that can never become valid
 * UTF-8 come out as U+FFFD. Zero-initialize. For a whole text set drops_space: one space at its beginning, which
 * SentencePiece and WordPiece have added, is left out. In the continuation of a prompt it is the model's own. */
typedef struct hob_detokenizer {
    char held[4];
    uint32_t held_len;
    bool drops_space;
} hob_detokenizer;
/* Appends at most ret_cap bytes of valid UTF-8 to ret and returns how many; ret_cap must be at least
 * 3 * (piece length + 4). Control tokens give nothing unless `special`. */
size_t hob_detokenize(const hob_tokenizer *t, hob_detokenizer *d, uint32_t id, bool special,
                      char *ret, size_t ret_cap);
/* The end of the text: what is still held becomes one U+FFFD. */
size_t hob_detokenize_end(hob_detokenizer *d, char *ret, size_t ret_cap);
size_t hob_tokenizer_longest_piece(const hob_tokenizer *t); /* bytes */

#endif
