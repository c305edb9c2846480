/* SPDX-License-Identifier: Apache-2.0
 *
 * Between tokenizer.c, which reads a GGUF's keys, and tokenizer_tables.c, which builds what the
 * algorithms look things up in. */
#ifndef HOB_MODELS_TOKENIZER_LOAD_H
#define HOB_MODELS_TOKENIZER_LOAD_H

#include <string.h>

#include "models/tokenizer_private.h"

enum {
    HOB_TOKEN_BYTES_MAX = 65535,
    HOB_ALPHABET_MAX = 324, /* code points of GPT-2's alphabet are below */
};

/* GGUF's tokenizer.ggml.token_type. */
enum {
    HOB_TOKEN_TYPE_NORMAL = 1,
    HOB_TOKEN_TYPE_UNKNOWN = 2,
    HOB_TOKEN_TYPE_CONTROL = 3,
    HOB_TOKEN_TYPE_USER_DEFINED = 4,
    HOB_TOKEN_TYPE_BYTE = 6,
    HOB_TOKEN_TYPE_LAST = 6
};

/* Only needed while loading. */
typedef struct hob_loading {
    hob_tokenizer *t;
    const hob_gguf *g;
    hob_diag *diag;
    hob_string *texts;          /* [count] in the file */
    const unsigned char *types; /* [count] little-endian int32, unaligned; NULL: all normal */

    /* Of tokenizer_tables.c, for byte-level BPE. */
    uint32_t *by_text; /* [mask + 1] ids that BPE may give, HOB_TOKEN_NONE: empty */
    size_t mask;
    int16_t byte_of[HOB_ALPHABET_MAX]; /* byte that a code point stands for, -1: none */
    uint16_t code_point_of[256];
} hob_loading;

static inline uint32_t hob_token_type(const hob_loading *l, uint32_t id)
{
    if (!l->types)
        return HOB_TOKEN_TYPE_NORMAL;
    const unsigned char *p = l->types + 4 * (size_t)id;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline bool hob_text_is(hob_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* Fills t's pieces and tables from texts and types; flags, kind, pre-tokenizer and special ids are
 * there. HOB_EFORMAT names what is broken. */
HOB_MUST_CHECK int hob_tokenizer_build(hob_loading *l);

#endif
