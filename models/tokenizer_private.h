/* SPDX-License-Identifier: Apache-2.0
 *
 * What tokenizer.c builds and tokenize.c, spm.c, wordpiece.c and detokenize.c read. */
#ifndef HOB_MODELS_TOKENIZER_PRIVATE_H
#define HOB_MODELS_TOKENIZER_PRIVATE_H

#include "models/bpe.h"
#include "models/hash.h"
#include "models/pretokenize.h"
#include "models/tokenizer.h"

enum {
    HOB_TOKEN_CONTROL = 1, /* parsed in trusted ranges only, renders as nothing */
    HOB_TOKEN_USER = 2,    /* parsed everywhere */
    HOB_TOKEN_END = 4,
    HOB_TOKEN_TEXT = 8,    /* stands for its own text: may be found by its piece */
    HOB_TOKEN_LSTRIP = 16, /* takes the white space in front of it along when it is parsed */
    HOB_TOKEN_RSTRIP = 32, /* the same behind it */
};

typedef enum hob_tokenizer_kind {
    HOB_TOKENIZER_BPE, /* byte-level, with pre-tokenizer and merges */
    HOB_TOKENIZER_SPM, /* SentencePiece's BPE, with scores */
    HOB_TOKENIZER_WORDPIECE,
} hob_tokenizer_kind;

typedef struct hob_trie { /* over bytes; node 0 is the root */
    hob_intmap edges;     /* node << 8 | byte -> node */
    uint32_t *ids;        /* [count] token that ends here, HOB_TOKEN_NONE: none */
    uint32_t count;
} hob_trie;

static inline uint32_t hob_trie_step(const hob_trie *t, uint32_t node, char byte)
{
    return hob_intmap_find(&t->edges, (uint64_t)node << 8 | (unsigned char)byte);
}

struct hob_tokenizer {
    hob_tokenizer_kind kind;
    uint32_t count;
    char *bytes;       /* all pieces */
    uint32_t *offsets; /* [count + 1] into bytes */
    uint8_t *flags;    /* [count] HOB_TOKEN_* */
    size_t longest_piece;
    uint32_t bos, eos, unknown, separator; /* HOB_TOKEN_NONE: none */
    bool adds_bos, adds_eos, adds_space;

    hob_pretokenizer *pre; /* byte-level BPE; else NULL */
    hob_bpe bpe;           /* of SentencePiece only byte_ids */
    uint32_t
        *score_ranks; /* SentencePiece: [count], 0 is the best score, equal ones share a rank */
    hob_trie words;   /* WordPiece: texts in the file's form */
    bool lowercase, strips_accents; /* WordPiece */

    hob_trie parsed;  /* control and user-defined tokens */
    bool starts[256]; /* some parsed token begins with this byte */

    /* HOB_TOKEN_TEXT tokens by piece: SentencePiece, and pre-tokenizers that take a piece that is a
     * token whole; else NULL. */
    uint32_t *by_piece; /* [by_piece_mask + 1] HOB_TOKEN_NONE: empty */
    size_t by_piece_mask;
    uint64_t secret[2]; /* of all hashes */
};

/* The token whose piece this is, HOB_TOKEN_NONE: none. */
uint32_t hob_tokenizer_find(const hob_tokenizer *t, const char *piece, size_t len);

typedef int hob_push_fn(void *context, uint32_t id); /* 0, or a negative result that ends it */

typedef struct hob_spm_work { /* zero-initialize, released by hob_spm_work_free */
    hob_bpe_work bpe;
    const hob_tokenizer *t;
    struct hob_spm_pair *pairs; /* cache of what neighbors merge to */
    char *joined;
} hob_spm_work;

/* SentencePiece's BPE over valid UTF-8, with a space in front if `prefix`. Characters without a
 * token become their bytes' tokens, or else one unknown token for all of them that are neighbors. */
HOB_MUST_CHECK int hob_spm_encode(const hob_tokenizer *t, hob_spm_work *w, const char *text,
                                  size_t len, bool prefix, hob_push_fn *push, void *context);
void hob_spm_work_free(hob_spm_work *w);

/* BERT's normalization, split into words, and WordPiece (Wu et al. 2016) on each: the longest token
 * first, a word that cannot be covered is one unknown token. Bytes that are not UTF-8 are skipped,
 * as BERT skips U+FFFD. */
HOB_MUST_CHECK int hob_wordpiece_encode(const hob_tokenizer *t, const char *text, size_t len,
                                        hob_push_fn *push, void *context);

#endif
