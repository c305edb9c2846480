/* SPDX-License-Identifier: Apache-2.0
 *
 * Small vocabularies as GGUF files without tensors. One for byte-level BPE: three control tokens,
 * two user-defined ones, the 256 bytes in GPT-2's alphabet and a few merges. One for SentencePiece
 * and one for WordPiece, whose tokens are lists that a test may replace. Single fields can be made
 * wrong. */
#ifndef HOB_TESTS_VOCABULARY_H
#define HOB_TESTS_VOCABULARY_H

#include "models/tokenizer.h"
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

#define V_MARK "\xE2\x96\x81" /* U+2581, which stands for a space */

typedef struct v_token {
    const char *text;
    float score;
    int32_t type;
} v_token;

typedef struct texts_vocabulary { /* ids UINT32_MAX, flags -1: left out */
    const char *model, *name;     /* name NULL: left out */
    const v_token *tokens;
    uint32_t count, score_count, type_count; /* elements; UINT32_MAX: no such key */
    uint32_t bos, eos, unknown, cls, separator;
    int add_bos, add_eos, add_space, lowercase, strip_accents;
} texts_vocabulary;

static inline texts_vocabulary texts_vocabulary_of(const char *model, const v_token *tokens,
                                                   uint32_t count)
{
    return (texts_vocabulary){.model = model,
                              .tokens = tokens,
                              .count = count,
                              .score_count = strcmp(model, "llama") == 0 ? count : UINT32_MAX,
                              .type_count = count,
                              .bos = UINT32_MAX,
                              .eos = UINT32_MAX,
                              .unknown = UINT32_MAX,
                              .cls = UINT32_MAX,
                              .separator = UINT32_MAX,
                              .add_bos = -1,
                              .add_eos = -1,
                              .add_space = -1,
                              .lowercase = -1,
                              .strip_accents = -1};
}

static inline void mk_texts_vocabulary(mk *m, const texts_vocabulary *v)
{
    const struct {
        const char *key;
        uint32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", v->bos},
               {"tokenizer.ggml.eos_token_id", v->eos},
               {"tokenizer.ggml.unknown_token_id", v->unknown},
               {"tokenizer.ggml.cls_token_id", v->cls},
               {"tokenizer.ggml.seperator_token_id", v->separator}};
    const struct {
        const char *key;
        int flag;
    } flags[] = {{"tokenizer.ggml.add_bos_token", v->add_bos},
                 {"tokenizer.ggml.add_eos_token", v->add_eos},
                 {"tokenizer.ggml.add_space_prefix", v->add_space},
                 {"tokenizer.ggml.normalizer.lowercase", v->lowercase},
                 {"tokenizer.ggml.normalizer.strip_accents", v->strip_accents}};
    uint64_t keys =
        2u + (v->name != NULL) + (v->score_count != UINT32_MAX) + (v->type_count != UINT32_MAX);
    for (int i = 0; i < 5; i++)
        keys += (uint64_t)(ids[i].id != UINT32_MAX) + (flags[i].flag >= 0);
    mk_header(m, 3, 0, keys);
    mk_key_string(m, "tokenizer.ggml.model", v->model);
    if (v->name)
        mk_key_string(m, "general.name", v->name);
    mk_key_array(m, "tokenizer.ggml.tokens", MK_STRING, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        mk_string(m, v->tokens[i].text);
    if (v->score_count != UINT32_MAX) {
        mk_key_array(m, "tokenizer.ggml.scores", MK_F32, v->score_count);
        for (uint32_t i = 0; i < v->score_count; i++)
            mk_f32(m, i < v->count ? v->tokens[i].score : 0);
    }
    if (v->type_count != UINT32_MAX) {
        mk_key_array(m, "tokenizer.ggml.token_type", MK_I32, v->type_count);
        for (uint32_t i = 0; i < v->type_count; i++)
            mk_u32(m, i < v->count ? (uint32_t)v->tokens[i].type : 1);
    }
    for (int i = 0; i < 5; i++) {
        if (ids[i].id != UINT32_MAX)
            mk_key_u32(m, ids[i].key, ids[i].id);
        if (flags[i].flag >= 0)
            mk_key_bool(m, flags[i].key, flags[i].flag);
    }
}

enum { /* ids of the small SentencePiece vocabulary */
       S_UNKNOWN,
       S_BOS,
       S_EOS,
       S_USER,  /* <u>, user-defined */
       S_USER2, /* two spaces, user-defined */
       S_SPACE,
       S_A,
       S_B,
       S_C,
       S_LESS,
       S_S,
       S_GREATER,
       S_LESS_S,
       S_SPACE_A,
       S_AB,
       S_BA,
       S_ABAB,
       S_CC,
       S_SPACE_B,
       S_B_SPACE,
       S_BYTES, /* S_BYTES + b is byte b */
       S_COUNT = S_BYTES + 256
};

/* The tokens; they live as long as the program. */
static inline const v_token *spm_tokens(void)
{
    static v_token tokens[S_COUNT] = {
        {"<unk>", 0, 2}, {"<s>", 0, 3},       {"</s>", 0, 3},         {"<u>", 0, 4},
        {"  ", 0, 4},    {V_MARK, -20, 1},    {"a", -21, 1},          {"b", -22, 1},
        {"c", -23, 1},   {"<", -24, 1},       {"s", -25, 1},          {">", -26, 1},
        {"<s", -9, 1},   {V_MARK "a", -1, 1}, {"ab", -1, 1},          {"ba", -2, 1},
        {"abab", -3, 1}, {"cc", -0.5f, 1},    {V_MARK "b", -1.5f, 1}, {"b" V_MARK, -1.25f, 1},
    };
    static char texts[256][7];
    for (int b = 0; b < 256; b++) {
        snprintf(texts[b], sizeof texts[b], "<0x%02X>", (unsigned)b);
        tokens[S_BYTES + b] = (v_token){texts[b], 0, 6};
    }
    return tokens;
}

static inline texts_vocabulary spm_vocabulary(void)
{
    return texts_vocabulary_of("llama", spm_tokens(), S_COUNT);
}

enum { /* ids of the small WordPiece vocabulary */
       W_PAD,
       W_UNKNOWN,
       W_CLS,
       W_SEP,
       W_UN,
       W_AFF,
       W_ABLE,
       W_THE,
       W_A,
       W_LE,
       W_E_ACUTE,
       W_BANG,
       W_ZHONG,
       W_COUNT
};

static inline texts_vocabulary wordpiece_vocabulary(void)
{
    static const v_token tokens[W_COUNT] = {
        {"[PAD]", 0, 3},         {"[UNK]", 0, 3}, {"[CLS]", 0, 3},  {"[SEP]", 0, 3},
        {V_MARK "un", 0, 1},     {"aff", 0, 1},   {"able", 0, 1},   {V_MARK "the", 0, 1},
        {V_MARK "a", 0, 1},      {"le", 0, 1},    {"\u00e9", 0, 1}, {V_MARK "!", 0, 1},
        {V_MARK "\u4e2d", 0, 1},
    };
    return texts_vocabulary_of("bert", tokens, W_COUNT);
}

/* A tokenizer of one of them: "llama", "bert", or the name of a byte-level pre-tokenizer. */
static inline hob_tokenizer *small_tokenizer(const char *name)
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

#endif
