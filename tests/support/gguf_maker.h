/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF files into memory, well formed or not, for tests and fuzzing: each function appends
 * what its name says and checks nothing, so that any field can be made wrong. mk_llama makes a
 * whole small model file.
 *
 * Running out of memory ends the program: a test has nothing better to do. */
#ifndef HOB_TESTS_GGUF_MAKER_H
#define HOB_TESTS_GGUF_MAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GGUF's numbers of value types and of some tensor types. */
enum mk_kind {
    MK_U8,
    MK_I8,
    MK_U16,
    MK_I16,
    MK_U32,
    MK_I32,
    MK_F32,
    MK_BOOL,
    MK_STRING,
    MK_ARRAY,
    MK_U64,
    MK_I64,
    MK_F64
};
enum mk_type {
    MK_TYPE_F32 = 0,
    MK_TYPE_F16 = 1,
    MK_TYPE_Q4_0 = 2,
    MK_TYPE_Q4_1 = 3,
    MK_TYPE_Q8_0 = 8
};

typedef struct mk { /* zero-initialize; released by mk_free */
    uint8_t *data;
    size_t bytes, capacity;
} mk;

static inline void mk_free(mk *m)
{
    free(m->data);
    *m = (mk){0};
}

static inline void mk_bytes(mk *m, const void *from, size_t bytes)
{
    if (m->capacity - m->bytes < bytes) {
        m->capacity = 2 * m->capacity + bytes;
        m->data = realloc(m->data, m->capacity);
        if (!m->data)
            abort();
    }
    if (bytes)
        memcpy(m->data + m->bytes, from, bytes);
    m->bytes += bytes;
}

static inline void mk_u8(mk *m, uint8_t v)
{
    mk_bytes(m, &v, sizeof v);
}

static inline void mk_u32(mk *m, uint32_t v)
{
    mk_bytes(m, &v, sizeof v);
}

static inline void mk_u64(mk *m, uint64_t v)
{
    mk_bytes(m, &v, sizeof v);
}

static inline void mk_f32(mk *m, float v)
{
    mk_bytes(m, &v, sizeof v);
}

static inline void mk_string(mk *m, const char *s)
{
    mk_u64(m, strlen(s));
    mk_bytes(m, s, strlen(s));
}

static inline void mk_header(mk *m, uint32_t version, uint64_t tensors, uint64_t keys)
{
    mk_bytes(m, "GGUF", 4);
    mk_u32(m, version);
    mk_u64(m, tensors);
    mk_u64(m, keys);
}

/* A key's name and type; its value follows. */
static inline void mk_key(mk *m, const char *name, uint32_t kind)
{
    mk_string(m, name);
    mk_u32(m, kind);
}

static inline void mk_key_u32(mk *m, const char *name, uint32_t v)
{
    mk_key(m, name, MK_U32);
    mk_u32(m, v);
}

static inline void mk_key_f32(mk *m, const char *name, float v)
{
    mk_key(m, name, MK_F32);
    mk_f32(m, v);
}

static inline void mk_key_bool(mk *m, const char *name, bool v)
{
    mk_key(m, name, MK_BOOL);
    mk_u8(m, v);
}

static inline void mk_key_string(mk *m, const char *name, const char *v)
{
    mk_key(m, name, MK_STRING);
    mk_string(m, v);
}

/* The elements follow. */
static inline void mk_key_array(mk *m, const char *name, uint32_t element, uint64_t count)
{
    mk_key(m, name, MK_ARRAY);
    mk_u32(m, element);
    mk_u64(m, count);
}

static inline void mk_tensor(mk *m, const char *name, uint32_t type, uint32_t dim_count,
                             const uint64_t *dims, uint64_t offset)
{
    mk_string(m, name);
    mk_u32(m, dim_count);
    for (uint32_t i = 0; i < dim_count; i++)
        mk_u64(m, dims[i]);
    mk_u32(m, type);
    mk_u64(m, offset);
}

static inline void mk_pad(mk *m, size_t alignment)
{
    while (m->bytes % alignment)
        mk_u8(m, 0);
}

static inline void mk_zeros(mk *m, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        mk_u8(m, 0);
}

static inline bool mk_save(const mk *m, const char *path)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return false;
    const bool ok = fwrite(m->data, 1, m->bytes, f) == m->bytes;
    return fclose(f) == 0 && ok;
}

/* The model of mk_llama: one layer, tied table. Its vocabulary is three control tokens, the 256
 * bytes in GPT-2's alphabet, and a few merges, so that any text can be written with it. */
enum {
    MK_LLAMA_CONTROLS = 3,
    MK_LLAMA_MERGES = 8,
    MK_LLAMA_VOCAB = MK_LLAMA_CONTROLS + 256 + MK_LLAMA_MERGES,
    MK_LLAMA_WIDTH = 64,
    MK_LLAMA_HEADS = 2,
    MK_LLAMA_KV_HEADS = 1,
    MK_LLAMA_HEAD_DIM = 32,
    MK_LLAMA_FF = 96,
    MK_LLAMA_CONTEXT = 256,
};

/* What mk_llama gets wrong on purpose, where the tokenizer has to notice. */
enum mk_fault {
    MK_GOOD,
    MK_BAD_BOS,         /* tokenizer.ggml.bos_token_id is past the vocabulary */
    MK_BAD_MERGE,       /* a merge of a word that is no token */
    MK_SPLITLESS_MERGE, /* a merge without its space */
    MK_SHORT_TYPES,     /* one token type fewer than tokens */
    MK_BAD_TYPE,        /* a token type that does not exist */
    MK_SAME_TOKENS,     /* two tokens spelled alike */
    MK_BAD_PRE,         /* an unknown pre-tokenizer */
    MK_NO_TOKENS,       /* no tokens key */
};

/* GPT-2's printable stand-in for a byte, as UTF-8: printable Latin-1 is itself, the rest counts up
 * from U+0100. */
static inline void mk_byte_word(unsigned byte, char ret[3])
{
    unsigned point = 256;
    for (unsigned b = 0; b <= byte; b++) {
        const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            point = itself ? byte : point;
        else
            point += !itself;
    }
    size_t n = 0;
    if (point < 0x80) {
        ret[n++] = (char)point;
    } else {
        ret[n++] = (char)(0xc0 | point >> 6);
        ret[n++] = (char)(0x80 | (point & 0x3f));
    }
    ret[n] = '\0';
}

/* Appends tokenizer.ggml.* and returns how many keys those were. */
static inline uint64_t mk_vocabulary(mk *m, enum mk_fault fault)
{
    static const char *const controls[MK_LLAMA_CONTROLS] = {"<|endoftext|>", "<|im_start|>",
                                                            "<|im_end|>"};
    static const char *const merges[MK_LLAMA_MERGES][2] = {
        {"t", "h"},          {"h", "e"}, {"\xc4\xa0", "th"}, {"i", "n"},
        {"\xc4\xa0th", "e"}, {"a", "n"}, {"an", "d"},        {"\xc4\xa0", "and"}};
    char word[16];
    mk_key_string(m, "tokenizer.ggml.model", "gpt2");
    mk_key_string(m, "tokenizer.ggml.pre", fault == MK_BAD_PRE ? "no-such-pre" : "smollm");
    mk_key_array(m, fault == MK_NO_TOKENS ? "tokenizer.ggml.nothing" : "tokenizer.ggml.tokens",
                 MK_STRING, MK_LLAMA_VOCAB);
    for (int i = 0; i < MK_LLAMA_CONTROLS; i++)
        mk_string(m, controls[i]);
    for (unsigned b = 0; b < 256; b++) {
        mk_byte_word(fault == MK_SAME_TOKENS && b == 'b' ? 'a' : b, word);
        mk_string(m, word);
    }
    for (int i = 0; i < MK_LLAMA_MERGES; i++) {
        snprintf(word, sizeof word, "%s%s", merges[i][0], merges[i][1]);
        mk_string(m, word);
    }
    const uint64_t types = MK_LLAMA_VOCAB - (fault == MK_SHORT_TYPES);
    mk_key_array(m, "tokenizer.ggml.token_type", MK_I32, types);
    for (uint64_t i = 0; i < types; i++)
        mk_u32(m, fault == MK_BAD_TYPE && i == 10 ? 99 : i < MK_LLAMA_CONTROLS ? 3 : 1);
    mk_key_array(m, "tokenizer.ggml.merges", MK_STRING, MK_LLAMA_MERGES);
    for (int i = 0; i < MK_LLAMA_MERGES; i++) {
        if (fault == MK_BAD_MERGE && i == 3)
            snprintf(word, sizeof word, "in xyzzy");
        else
            snprintf(word, sizeof word, "%s%s%s", merges[i][0],
                     fault == MK_SPLITLESS_MERGE && i == 3 ? "" : " ", merges[i][1]);
        mk_string(m, word);
    }
    mk_key_u32(m, "tokenizer.ggml.bos_token_id", fault == MK_BAD_BOS ? MK_LLAMA_VOCAB : 1);
    mk_key_u32(m, "tokenizer.ggml.eos_token_id", 2);
    mk_key_u32(m, "tokenizer.ggml.unknown_token_id", 0);
    mk_key_bool(m, "tokenizer.ggml.add_bos_token", false);
    return 9;
}

/* Small weights that are neither zero nor alike, the same every time. */
static inline void mk_weights_f32(mk *m, size_t count, uint64_t seed, float scale, float offset)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < count; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        mk_f32(m, offset + scale * ((float)(x >> 40) / (float)(1 << 23) - 1));
    }
}

/* A whole file: llama keys and vocabulary, and with_weights also all tensors (F32, about 180 KB);
 * without, it is a vocabulary-only file of about 6 KB. */
static inline void mk_llama(mk *m, enum mk_fault fault, bool with_weights)
{
    static const struct {
        const char *name;
        uint64_t dims[2];
    } tensors[] = {
        {"token_embd.weight", {MK_LLAMA_WIDTH, MK_LLAMA_VOCAB}},
        {"output_norm.weight", {MK_LLAMA_WIDTH, 0}},
        {"blk.0.attn_norm.weight", {MK_LLAMA_WIDTH, 0}},
        {"blk.0.attn_q.weight", {MK_LLAMA_WIDTH, MK_LLAMA_HEADS * MK_LLAMA_HEAD_DIM}},
        {"blk.0.attn_k.weight", {MK_LLAMA_WIDTH, MK_LLAMA_KV_HEADS * MK_LLAMA_HEAD_DIM}},
        {"blk.0.attn_v.weight", {MK_LLAMA_WIDTH, MK_LLAMA_KV_HEADS * MK_LLAMA_HEAD_DIM}},
        {"blk.0.attn_output.weight", {MK_LLAMA_HEADS * MK_LLAMA_HEAD_DIM, MK_LLAMA_WIDTH}},
        {"blk.0.ffn_norm.weight", {MK_LLAMA_WIDTH, 0}},
        {"blk.0.ffn_gate.weight", {MK_LLAMA_WIDTH, MK_LLAMA_FF}},
        {"blk.0.ffn_up.weight", {MK_LLAMA_WIDTH, MK_LLAMA_FF}},
        {"blk.0.ffn_down.weight", {MK_LLAMA_FF, MK_LLAMA_WIDTH}},
    };
    const size_t count = with_weights ? sizeof tensors / sizeof *tensors : 0;
    const size_t start = m->bytes;
    mk_header(m, 3, count, 0);
    mk_key_string(m, "general.architecture", "llama");
    mk_key_string(m, "general.name", "tiny");
    mk_key_u32(m, "llama.block_count", 1);
    mk_key_u32(m, "llama.context_length", MK_LLAMA_CONTEXT);
    mk_key_u32(m, "llama.embedding_length", MK_LLAMA_WIDTH);
    mk_key_u32(m, "llama.feed_forward_length", MK_LLAMA_FF);
    mk_key_u32(m, "llama.attention.head_count", MK_LLAMA_HEADS);
    mk_key_u32(m, "llama.attention.head_count_kv", MK_LLAMA_KV_HEADS);
    mk_key_f32(m, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    mk_key_f32(m, "llama.rope.freq_base", 10000);
    mk_key_u32(m, "llama.rope.dimension_count", MK_LLAMA_HEAD_DIM);
    mk_key_u32(m, "llama.vocab_size", MK_LLAMA_VOCAB);
    const uint64_t keys = 12 + mk_vocabulary(m, fault);
    memcpy(m->data + start + 16, &keys, sizeof keys);

    uint64_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t rows = tensors[i].dims[1];
        mk_tensor(m, tensors[i].name, MK_TYPE_F32, rows ? 2 : 1, tensors[i].dims, offset);
        offset += (tensors[i].dims[0] * (rows ? rows : 1) * sizeof(float) + 31) / 32 * 32;
    }
    for (size_t i = 0; i < count; i++) {
        const uint64_t rows = tensors[i].dims[1];
        mk_pad(m, 32);
        mk_weights_f32(m, tensors[i].dims[0] * (rows ? rows : 1), i + 1, rows ? 0.2f : 0.1f,
                       rows ? 0 : 1);
    }
}

/* At most 8 KB with something of everything: all value types, nested arrays, a vocabulary, tensors
 * of several types, an alignment of its own. It ends with the last byte of its last tensor. Not a
 * model that runs. */
static inline void mk_everything(mk *m)
{
    static const uint64_t d4[] = {4, 3, 2, 1}, d32[] = {32, 2}, d64[] = {64}, d256[] = {256};
    const size_t start = m->bytes;
    mk_header(m, 3, 5, 0);
    mk_key_string(m, "general.architecture", "llama");
    mk_key_u32(m, "general.alignment", 64);
    mk_key(m, "x.u8", MK_U8);
    mk_u8(m, 200);
    mk_key(m, "x.i8", MK_I8);
    mk_u8(m, 0x80);
    mk_key(m, "x.u16", MK_U16);
    mk_bytes(m, "\xff\xfe", 2);
    mk_key(m, "x.i16", MK_I16);
    mk_bytes(m, "\x01\x80", 2);
    mk_key(m, "x.i32", MK_I32);
    mk_u32(m, 0xfffffff0u);
    mk_key_f32(m, "x.f32", 0.5f);
    mk_key(m, "x.u64", MK_U64);
    mk_u64(m, UINT64_MAX);
    mk_key(m, "x.i64", MK_I64);
    mk_u64(m, 77);
    mk_key(m, "x.f64", MK_F64);
    mk_bytes(m, &(double){2.5}, sizeof(double));
    mk_key_array(m, "x.f32s", MK_F32, 3);
    for (int i = 0; i < 3; i++)
        mk_f32(m, (float)i);
    mk_key_array(m, "x.bools", MK_BOOL, 2);
    mk_bytes(m, "\0\1", 2);
    mk_key_array(m, "x.empty", MK_STRING, 0);
    mk_key_array(m, "x.nested", MK_ARRAY, 2);
    mk_u32(m, MK_U8);
    mk_u64(m, 2);
    mk_bytes(m, "ab", 2);
    mk_u32(m, MK_STRING);
    mk_u64(m, 1);
    mk_string(m, "deep");
    const uint64_t keys = 15 + mk_vocabulary(m, MK_GOOD);
    memcpy(m->data + start + 16, &keys, sizeof keys);
    mk_tensor(m, "f32", MK_TYPE_F32, 4, d4, 0);      /* 96 bytes */
    mk_tensor(m, "q4_1", MK_TYPE_Q4_1, 2, d32, 256); /* 40 */
    mk_tensor(m, "q8_0", MK_TYPE_Q8_0, 1, d64, 128); /* 68, out of order */
    mk_tensor(m, "q6_k", 14, 1, d256, 320);          /* 210 */
    mk_tensor(m, "f16", MK_TYPE_F16, 1, d64, 576);   /* 128 */
    mk_pad(m, 64);
    mk_zeros(m, 576 + 128);
}

#endif
