/* SPDX-License-Identifier: Apache-2.0
 *
 * The element types hob computes with: their block shapes in a GGUF file, and the reference dequantization that tests
 * and conversions use. Block layouts are those of the GGUF quantization types of the same names. */
#include "hal/hal.h"
#include "hal/half.h"

typedef struct hob_block_q4_0 {
    uint16_t d;
    uint8_t q[16]; /* low nibbles: weights 0..15, high nibbles: 16..31 */
} hob_block_q4_0;

typedef struct hob_block_q4_1 {
    uint16_t d, m;
    uint8_t q[16];
} hob_block_q4_1;

typedef struct hob_block_q8_0 {
    uint16_t d;
    int8_t q[32];
} hob_block_q8_0;

_Static_assert(sizeof(hob_block_q4_0) == 18, "GGUF layout");
_Static_assert(sizeof(hob_block_q4_1) == 20, "GGUF layout");
_Static_assert(sizeof(hob_block_q8_0) == 34, "GGUF layout");

static void dequantize_f32(const void *src, float *dst, size_t count)
{
    memcpy(dst, src, count * sizeof *dst);
}

static void dequantize_f16(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof h);
        dst[i] = hob_half_to_float(h);
    }
}

static void dequantize_q4_0(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t b = 0; b < count / 32; b++, dst += 32) {
        hob_block_q4_0 block;
        memcpy(&block, from + b * sizeof block, sizeof block);
        float d = hob_half_to_float(block.d);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((block.q[i] & 15) - 8);
            dst[i + 16] = d * (float)((block.q[i] >> 4) - 8);
        }
    }
}

static void dequantize_q4_1(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t b = 0; b < count / 32; b++, dst += 32) {
        hob_block_q4_1 block;
        memcpy(&block, from + b * sizeof block, sizeof block);
        float d = hob_half_to_float(block.d), m = hob_half_to_float(block.m);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)(block.q[i] & 15) + m;
            dst[i + 16] = d * (float)(block.q[i] >> 4) + m;
        }
    }
}

static void dequantize_q8_0(const void *src, float *dst, size_t count)
{
    const uint8_t *from = src;
    for (size_t b = 0; b < count / 32; b++, dst += 32) {
        hob_block_q8_0 block;
        memcpy(&block, from + b * sizeof block, sizeof block);
        float d = hob_half_to_float(block.d);
        for (int i = 0; i < 32; i++)
            dst[i] = d * (float)block.q[i];
    }
}

static const struct {
    uint32_t type;
    hob_type_info info;
} types[] = {
    {HOB_TYPE_F32, {"F32", 1, 4, dequantize_f32}},
    {HOB_TYPE_F16, {"F16", 1, 2, dequantize_f16}},
    {HOB_TYPE_Q4_0, {"Q4_0", 32, 18, dequantize_q4_0}},
    {HOB_TYPE_Q4_1, {"Q4_1", 32, 20, dequantize_q4_1}},
    {HOB_TYPE_Q8_0, {"Q8_0", 32, 34, dequantize_q8_0}},
};

const hob_type_info *hob_type_find(uint32_t gguf_type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == gguf_type)
            return &types[i].info;
    return NULL;
}
