/* SPDX-License-Identifier: Apache-2.0
 *
 * A small vocabulary as a GGUF file without tensors: three control tokens, two user-defined ones,
 * the 256 bytes in GPT-2's alphabet and a few merges. One field of it can be made wrong. */
#ifndef HOB_TESTS_VOCABULARY_H
#define HOB_TESTS_VOCABULARY_H

#include "tests/support/gguf_maker.h"

enum { /* ids */
       V_ENDOFTEXT,
       V_IM_START,
       V_IM_END,
       V_THINK,
       V_TH,
       V_BYTES, /* V_BYTES + b is byte b */
       V_AB = V_BYTES + 256,
       V_ABAB,
       V_AA,
       V_AAAA,
       V_BA,
       V_SPACE_A,
       V_E4B8,
       V_ZHONG,
       V_WHOLE,
       V_COUNT,
};

typedef struct vocabulary {
    const char *model, *pre; /* NULL: left out */
    const char *merge;       /* instead of the last one */
    const char *added_merge; /* a further one */
    uint32_t type_count;     /* elements of token_type */
    int32_t type_of_whole;   /* type of V_WHOLE */
    uint32_t bos, eos, eot;  /* UINT32_MAX: left out */
    int add_bos;             /* -1: left out */
    bool no_tokens, no_merges;
} vocabulary;

static inline vocabulary vocabulary_default(void)
{
    return (vocabulary){.model = "gpt2",
                        .pre = "gpt-2",
                        .type_count = V_COUNT,
                        .type_of_whole = 1,
                        .bos = V_IM_START,
                        .eos = V_IM_END,
                        .eot = UINT32_MAX,
                        .add_bos = -1};
}

/* The character that stands for byte b, in UTF-8; ret has 3 bytes. */
static inline const char *v_alphabet(int b, char *ret)
{
    unsigned c = 256;
    for (int i = 0; i <= b; i++) {
        const bool printable = (i >= 33 && i <= 126) || (i >= 161 && i != 173);
        if (i == b && printable)
            c = (unsigned)b;
        else if (i < b && !printable)
            c++;
    }
    snprintf(ret, 3, c < 128 ? "%c" : "%c%c", c < 128 ? (int)c : (int)(0xC0 | c >> 6),
             (int)(0x80 | (c & 63)));
    return ret;
}

static inline void mk_small_vocabulary(mk *m, const vocabulary *v)
{
    static const char *const merges[] = {"a b", "ab ab",    "a a",           "aa aa",
                                         "b a", "\u0120 a", "\u00e4 \u00b8", "\u00e4\u00b8 \u0143"};
    static const char *const rest[] = {
        "ab", "abab", "aa", "aaaa", "ba", "\u0120a", "\u00e4\u00b8", "\u00e4\u00b8\u0143", "zz"};
    char text[3];
    mk_header(m, 3, 0,
              (v->model != NULL) + (v->pre != NULL) + !v->no_tokens + 1u + !v->no_merges +
                  (v->bos != UINT32_MAX) + (v->eos != UINT32_MAX) + (v->eot != UINT32_MAX) +
                  (v->add_bos >= 0));
    if (v->model)
        mk_key_string(m, "tokenizer.ggml.model", v->model);
    if (v->pre)
        mk_key_string(m, "tokenizer.ggml.pre", v->pre);
    if (!v->no_tokens) {
        mk_key_array(m, "tokenizer.ggml.tokens", MK_STRING, V_COUNT);
        mk_string(m, "<|endoftext|>");
        mk_string(m, "<|im_start|>");
        mk_string(m, "<|im_end|>");
        mk_string(m, "<think>");
        mk_string(m, "<th");
        for (int b = 0; b < 256; b++)
            mk_string(m, v_alphabet(b, text));
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
            mk_string(m, rest[i]);
    }
    mk_key_array(m, "tokenizer.ggml.token_type", MK_I32, v->type_count);
    for (uint32_t i = 0; i < v->type_count; i++)
        mk_u32(m, i == V_WHOLE  ? (uint32_t)v->type_of_whole
                  : i < V_THINK ? 3
                  : i < V_BYTES ? 4
                                : 1);
    if (!v->no_merges) {
        mk_key_array(m, "tokenizer.ggml.merges", MK_STRING,
                     sizeof merges / sizeof *merges + (v->added_merge != NULL));
        for (size_t i = 0; i < sizeof merges / sizeof *merges; i++)
            mk_string(m,
                      v->merge && i + 1 == sizeof merges / sizeof *merges ? v->merge : merges[i]);
        if (v->added_merge)
            mk_string(m, v->added_merge);
    }
    if (v->bos != UINT32_MAX)
        mk_key_u32(m, "tokenizer.ggml.bos_token_id", v->bos);
    if (v->eos != UINT32_MAX)
        mk_key_u32(m, "tokenizer.ggml.eos_token_id", v->eos);
    if (v->eot != UINT32_MAX)
        mk_key_u32(m, "tokenizer.ggml.eot_token_id", v->eot);
    if (v->add_bos >= 0)
        mk_key_bool(m, "tokenizer.ggml.add_bos_token", v->add_bos);
    mk_pad(m, 32);
}

#endif
