/* SPDX-License-Identifier: Apache-2.0
 *
 * What tokenizer.c builds and tokenize.c and detokenize.c read. */
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
    HOB_TOKEN_BYTES = 8, /* its text is byte-level throughout: BPE may give it */
};

struct hob_tokenizer {
    uint32_t count;
    char *bytes;       /* all pieces */
    uint32_t *offsets; /* [count + 1] into bytes */
    uint8_t *flags;    /* [count] HOB_TOKEN_* */
    size_t longest_piece;
    uint32_t bos, eos;
    bool adds_bos;
    hob_pretokenizer *pre;
    hob_bpe bpe;

    /* The trie of parsed tokens. Node 0 is the root. */
    hob_intmap edges;   /* node << 8 | byte -> node */
    uint32_t *node_ids; /* [node_count] token that ends here, HOB_TOKEN_NONE: none */
    uint32_t node_count;
    bool starts[256]; /* some parsed token begins with this byte */

    /* Tokens by piece, for pre-tokenizers that take a piece that is a token whole; else NULL. */
    uint32_t *by_piece; /* [by_piece_mask + 1] HOB_TOKEN_NONE: empty */
    size_t by_piece_mask;
    uint64_t secret[2]; /* of the hashes of pieces */
};

#endif
