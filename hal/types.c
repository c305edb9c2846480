/* SPDX-License-Identifier: Apache-2.0
 *
 * The element types hob computes with: one row each in the table at the end, and how a block in a GGUF file is spread
 * into codes and scales. Dequantization, the panels of the CPU device and the tests all follow from that. Block layouts
 * are those of the GGUF quantization types of the same names (ggml's ggml-common.h and ggml-quants.c). */
#include "hal/hal.h"
#include "hal/half.h"

/* f16 scale d; with a minimum, f16 m. Codes of weights i and i + 16 share a byte of q, low nibble first; bit i of h
 * is the fifth bit of weight i. */
typedef struct block_q4_0 {
    uint8_t d[2], q[16];
} block_q4_0;
typedef struct block_q4_1 {
    uint8_t d[2], m[2], q[16];
} block_q4_1;
typedef struct block_q5_0 {
    uint8_t d[2], h[4], q[16];
} block_q5_0;
typedef struct block_q5_1 {
    uint8_t d[2], m[2], h[4], q[16];
} block_q5_1;
typedef struct block_q8_0 {
    uint8_t d[2];
    uint8_t q[32];
} block_q8_0;
/* 256 weights. Sub-scales and minimums of 16 weights, 4 bits each. Byte 32 half + l of q: weights 128 half + l + 32 j,
 * two bits each, j ascending. */
typedef struct block_q2_k {
    uint8_t sub[16], q[64], d[2], m[2];
} block_q2_k;
/* q as in q2_k; bit 4 half + j of h[l]: the third bit. Sub-scales of 16 weights, 6 bits, less 32. */
typedef struct block_q3_k {
    uint8_t h[32], q[64], sub[12], d[2];
} block_q3_k;
/* Sub-scales and minimums of 32 weights, 6 bits each. Byte 32 j + l of q: weights 64 j + l and 64 j + 32 + l; bit g of
 * h[l]: the fifth bit of weight 32 g + l. */
typedef struct block_q4_k {
    uint8_t d[2], m[2], sub[12], q[128];
} block_q4_k;
typedef struct block_q5_k {
    uint8_t d[2], m[2], sub[12], h[32], q[128];
} block_q5_k;
/* Byte 64 half + l of low: weights 128 half + l and 128 half + 64 + l; byte 32 half + l of high: two bits of the weights
 * 128 half + l + 32 j. Sub-scales of 16 weights. */
typedef struct block_q6_k {
    uint8_t low[128], high[64], sub[16], d[2];
} block_q6_k;
/* Sub-scales of 32 weights: 4 low bits in sub_low, 2 high in sub_high, less 32. q as in 8 blocks of q4_0. */
typedef struct block_iq4_xs {
    uint8_t d[2], sub_high[2], sub_low[4], q[128];
} block_iq4_xs;

_Static_assert(sizeof(block_q4_0) == 18, "GGUF layout");
_Static_assert(sizeof(block_q4_1) == 20, "GGUF layout");
_Static_assert(sizeof(block_q5_0) == 22, "GGUF layout");
_Static_assert(sizeof(block_q5_1) == 24, "GGUF layout");
_Static_assert(sizeof(block_q8_0) == 34, "GGUF layout");
_Static_assert(sizeof(block_q2_k) == 84, "GGUF layout");
_Static_assert(sizeof(block_q3_k) == 110, "GGUF layout");
_Static_assert(sizeof(block_q4_k) == 144, "GGUF layout");
_Static_assert(sizeof(block_q5_k) == 176, "GGUF layout");
_Static_assert(sizeof(block_q6_k) == 210, "GGUF layout");
_Static_assert(sizeof(block_iq4_xs) == 136, "GGUF layout");

/* The values of IQ4's codes. */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

static uint16_t half_bits(const uint8_t at[2])
{
    return (uint16_t)(at[0] | at[1] << 8);
}

/* Loading a model spends its time here: loops have constant bounds and run over neighbouring bytes, and their pointers
 * are restrict, so that compilers turn them into vector instructions. */

static void nibbles(const uint8_t *restrict q, uint8_t *restrict codes)
{
    for (int i = 0; i < 16; i++)
        codes[i] = q[i] & 15;
    for (int i = 0; i < 16; i++)
        codes[i + 16] = q[i] >> 4;
}

/* The same of 32 bytes. */
static void nibbles_32(const uint8_t *restrict q, uint8_t *restrict low, uint8_t *restrict high)
{
    for (int i = 0; i < 32; i++)
        low[i] = q[i] & 15;
    for (int i = 0; i < 32; i++)
        high[i] = q[i] >> 4;
}

static void fifth_bits(const uint8_t h[4], uint8_t codes[32])
{
    for (int j = 0; j < 4;
         j++) { /* a byte's bits to eight bytes: bit i stays in byte i, then moves to bit 4 */
        uint64_t c, bits = h[j] * 0x0101010101010101u & 0x8040201008040201u;
        bits = (bits + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u;
        memcpy(&c, codes + 8 * j, sizeof c);
        c |= bits >> 3;
        memcpy(codes + 8 * j, &c, sizeof c);
    }
}

/* Bit `from` of 32 bytes, moved to bit `to`. */
static void bit_of_bytes(const uint8_t *restrict h, int from, int to, uint8_t *restrict codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] |= (uint8_t)((h[i] >> from & 1) << to);
}

/* Two bits of each of 256 weights. */
static void pairs_of_bits(const uint8_t *restrict q, int shift, uint8_t *restrict codes)
{
    for (int part = 0; part < 8; part++)
        for (int i = 0; i < 32; i++)
            codes[32 * part + i] |= (uint8_t)((q[part / 4 * 32 + i] >> part % 4 * 2 & 3) << shift);
}

/* Eight 6-bit sub-scales and minimums in 12 bytes. */
static void six_bit_pairs(const uint8_t s[12], hob_block *ret)
{
    for (int g = 0; g < 4; g++) {
        ret->sub[g] = (int8_t)(s[g] & 63);
        ret->sub_min[g] = s[g + 4] & 63;
        ret->sub[g + 4] = (int8_t)((s[g + 8] & 15) | s[g] >> 6 << 4);
        ret->sub_min[g + 4] = (uint8_t)(s[g + 8] >> 4 | s[g + 4] >> 6 << 4);
    }
}

static void unpack_q4_0(const uint8_t *block, hob_block *ret)
{
    const block_q4_0 *b = (const block_q4_0 *)block;
    ret->d = half_bits(b->d);
    nibbles(b->q, ret->codes);
}

static void unpack_q4_1(const uint8_t *block, hob_block *ret)
{
    const block_q4_1 *b = (const block_q4_1 *)block;
    ret->d = half_bits(b->d);
    ret->m = half_bits(b->m);
    nibbles(b->q, ret->codes);
}

static void unpack_q5_0(const uint8_t *block, hob_block *ret)
{
    const block_q5_0 *b = (const block_q5_0 *)block;
    ret->d = half_bits(b->d);
    nibbles(b->q, ret->codes);
    fifth_bits(b->h, ret->codes);
}

static void unpack_q5_1(const uint8_t *block, hob_block *ret)
{
    const block_q5_1 *b = (const block_q5_1 *)block;
    ret->d = half_bits(b->d);
    ret->m = half_bits(b->m);
    nibbles(b->q, ret->codes);
    fifth_bits(b->h, ret->codes);
}

static void unpack_q8_0(const uint8_t *block, hob_block *ret)
{
    const block_q8_0 *b = (const block_q8_0 *)block;
    ret->d = half_bits(b->d);
    memcpy(ret->codes, b->q, sizeof b->q);
}

static void unpack_q2_k(const uint8_t *block, hob_block *ret)
{
    const block_q2_k *b = (const block_q2_k *)block;
    ret->d = half_bits(b->d);
    ret->m = half_bits(b->m);
    for (int g = 0; g < 16; g++) {
        ret->sub[g] = b->sub[g] & 15;
        ret->sub_min[g] = b->sub[g] >> 4;
    }
    memset(ret->codes, 0, 256);
    pairs_of_bits(b->q, 0, ret->codes);
}

static void unpack_q3_k(const uint8_t *block, hob_block *ret)
{
    const block_q3_k *b = (const block_q3_k *)block;
    ret->d = half_bits(b->d);
    for (int g = 0; g < 16; g++) {
        int low = g < 8 ? b->sub[g] & 15 : b->sub[g - 8] >> 4,
            high = b->sub[8 + g % 4] >> g / 4 * 2 & 3;
        ret->sub[g] = (int8_t)((low | high << 4) - 32);
    }
    memset(ret->codes, 0, 256);
    for (int part = 0; part < 8; part++)
        bit_of_bytes(b->h, part, 2, ret->codes + 32 * part);
    pairs_of_bits(b->q, 0, ret->codes);
}

static void unpack_q4_k(const uint8_t *block, hob_block *ret)
{
    const block_q4_k *b = (const block_q4_k *)block;
    ret->d = half_bits(b->d);
    ret->m = half_bits(b->m);
    six_bit_pairs(b->sub, ret);
    for (int j = 0; j < 4; j++)
        nibbles_32(b->q + 32 * j, ret->codes + 64 * j, ret->codes + 64 * j + 32);
}

static void unpack_q5_k(const uint8_t *block, hob_block *ret)
{
    const block_q5_k *b = (const block_q5_k *)block;
    ret->d = half_bits(b->d);
    ret->m = half_bits(b->m);
    six_bit_pairs(b->sub, ret);
    for (int j = 0; j < 4; j++)
        nibbles_32(b->q + 32 * j, ret->codes + 64 * j, ret->codes + 64 * j + 32);
    for (int part = 0; part < 8; part++)
        bit_of_bytes(b->h, part, 4, ret->codes + 32 * part);
}

static void unpack_q6_k(const uint8_t *block, hob_block *ret)
{
    const block_q6_k *b = (const block_q6_k *)block;
    ret->d = half_bits(b->d);
    memcpy(ret->sub, b->sub, 16);
    for (int j = 0; j < 4; j++)
        nibbles_32(b->low + 32 * j, ret->codes + 128 * (j / 2) + 32 * (j % 2),
                   ret->codes + 128 * (j / 2) + 32 * (j % 2) + 64);
    pairs_of_bits(b->high, 4, ret->codes);
}

static void unpack_iq4_xs(const uint8_t *block, hob_block *ret)
{
    const block_iq4_xs *b = (const block_iq4_xs *)block;
    unsigned high = half_bits(b->sub_high);
    ret->d = half_bits(b->d);
    for (int g = 0; g < 8; g++) {
        int low = b->sub_low[g / 2] >> g % 2 * 4 & 15;
        ret->sub[g] = (int8_t)((low | (int)(high >> 2 * g & 3) << 4) - 32);
        nibbles(b->q + 16 * g, ret->codes + 32 * g);
    }
}

static void float_of_f32(const void *src, float *dst, size_t count)
{
    memcpy(dst, src, count * sizeof *dst);
}

static void float_of_f16(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t i = 0; i < count; i++)
        dst[i] = hob_half_to_float(half_bits(from + 2 * i));
}

static void float_of_bf16(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t i = 0; i < count; i++)
        dst[i] = hob_bits_float((uint32_t)half_bits(from + 2 * i) << 16);
}

#define FLOAT(t, bytes, function)                                                                  \
    {                                                                                              \
        .type = HOB_TYPE_##t, .name = #t, .block_len = 1, .block_bytes = bytes,                    \
        .to_float = function                                                                       \
    }
#define QUANT(t, len, bytes, ...)                                                                  \
    {                                                                                              \
        .type = HOB_TYPE_##t, .name = #t, .block_len = len, .block_bytes = bytes, __VA_ARGS__      \
    }

/* clang-format off */
static const hob_type_info types[] = {
    FLOAT(F32, 4, float_of_f32),
    FLOAT(F16, 2, float_of_f16),
    FLOAT(BF16, 2, float_of_bf16),
    QUANT(Q4_0, 32, 18, .unpack = unpack_q4_0, .low_bits = 4, .offset = 8),
    QUANT(Q4_1, 32, 20, .unpack = unpack_q4_1, .low_bits = 4, .minimum = true),
    QUANT(Q5_0, 32, 22, .unpack = unpack_q5_0, .low_bits = 4, .high_bits = 1, .offset = 16),
    QUANT(Q5_1, 32, 24, .unpack = unpack_q5_1, .low_bits = 4, .high_bits = 1, .minimum = true),
    QUANT(Q8_0, 32, 34, .unpack = unpack_q8_0, .low_bits = 8),
    QUANT(Q2_K, 256, 84, .unpack = unpack_q2_k, .d_at = 80, .low_bits = 2, .group = 16, .minimum = true),
    QUANT(Q3_K, 256, 110, .unpack = unpack_q3_k, .d_at = 108, .low_bits = 2, .high_bits = 1, .offset = 4, .group = 16),
    QUANT(Q4_K, 256, 144, .unpack = unpack_q4_k, .low_bits = 4, .group = 32, .minimum = true),
    QUANT(Q5_K, 256, 176, .unpack = unpack_q5_k, .low_bits = 4, .high_bits = 1, .group = 32, .minimum = true),
    QUANT(Q6_K, 256, 210, .unpack = unpack_q6_k, .d_at = 208, .low_bits = 4, .high_bits = 2, .offset = 32, .group = 16),
    QUANT(IQ4_NL, 32, 18, .unpack = unpack_q4_0, .low_bits = 4, .table = iq4_values),
    QUANT(IQ4_XS, 256, 136, .unpack = unpack_iq4_xs, .low_bits = 4, .group = 32, .table = iq4_values),
};
/* clang-format on */

const hob_type_info *hob_type_find(uint32_t gguf_type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if ((uint32_t)types[i].type == gguf_type)
            return &types[i];
    return NULL;
}

const char *hob_type_names(void)
{
    return "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS";
}

void hob_type_dequantize(const hob_type_info *t, const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;

    if (t->to_float) {
        t->to_float(src, dst, count);
        return;
    }
    for (size_t b = 0; b < count / t->block_len; b++, from += t->block_bytes, dst += t->block_len) {
        hob_block block;
        t->unpack(from, &block);
        float d = hob_half_to_float(block.d), m = t->minimum ? hob_half_to_float(block.m) : 0;
        for (uint32_t i = 0; i < t->block_len; i++) {
            float scale = t->group ? d * (float)block.sub[i / t->group] : d;
            dst[i] = scale * (float)hob_code_value(t, block.codes[i]);
            if (t->minimum)
                dst[i] += t->group ? -(m * (float)block.sub_min[i / t->group]) : m;
        }
    }
}
