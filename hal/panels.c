/* SPDX-License-Identifier: Apache-2.0
 *
 * From GGUF rows to panels, and back. A Q4 row's 16 bytes hold k and k + 16 in one byte, which is just what a panel's lane
 * wants, so packing is mostly a transposition of 4-byte words. */
#include "hal/panels.h"

#include <string.h>

#include "hal/half.h"

/* Four codes (a step) of each lane. */
typedef uint32_t step[HOB_PANEL_ROWS];

/* `bits` bits of each byte of c[steps], from `shift` on, side by side in bytes of one word of each lane. */
static inline void gather_bits(const step *restrict c, uint32_t steps, uint32_t apart,
                               uint32_t shift, uint32_t bits, uint8_t *restrict to)
{
    const uint32_t mask = ((1u << bits) - 1) * 0x01010101u;
    step word = {0};
    for (uint32_t s = 0; s < steps; s++)
        for (uint32_t r = 0; r < HOB_PANEL_ROWS; r++)
            word[r] |= (c[s * apart][r] >> shift & mask) << bits * s;
    memcpy(to, word, sizeof word);
}

/* The codes of one block of 32, eight steps, into a panel's planes. */
static void pack_codes(const hob_type_info *t, const step *c, uint8_t *low, uint8_t *high)
{
    if (t->low_bits == 8)
        memcpy(low, c, 8 * sizeof *c);
    for (uint32_t j = 0; t->low_bits == 4 && j < 4; j++)
        gather_bits(c + j, 2, 4, 0, 4, low + 64 * j);
    for (uint32_t v = 0; t->low_bits == 2 && v < 2; v++)
        gather_bits(c + 4 * v, 4, 1, 0, 2, low + 64 * v);
    for (uint32_t v = 0; t->high_bits == 2 && v < 2; v++)
        gather_bits(c + 4 * v, 4, 1, t->low_bits, 2, high + 64 * v);
    if (t->high_bits == 1)
        gather_bits(c, 8, 1, t->low_bits, 1, high);
}

/* The scales of a block of the type, whose first block of 32 is b, into lane r. */
static void pack_scales(const hob_panels *m, const hob_block *block, uint32_t b, uint8_t *panel,
                        uint32_t r)
{
    const hob_type_info *t = m->type;
    const uint32_t super = b >> m->block_shift, groups = t->group ? t->block_len / t->group : 0;

    memcpy(panel + m->d_at + super * 32 + 2 * r, &block->d, 2);
    if (t->minimum)
        memcpy(panel + m->m_at + super * 32 + 2 * r, &block->m, 2);
    uint8_t *sub = panel + m->sub_at + (size_t)super * groups * 16 + r;
    for (uint32_t g = 0; g < groups; g++)
        sub[g * 16] = (uint8_t)block->sub[g];
    if (t->minimum && t->group == 16)
        for (uint32_t g = 0; g < groups; g++)
            sub[g * 16] |= (uint8_t)(block->sub_min[g] << 4);
    else if (t->minimum)
        for (uint32_t g = 0; g < groups; g++)
            panel[m->sub_min_at + ((size_t)super * groups + g) * 16 + r] = block->sub_min[g];
}

/* Where a block's bytes already lie as a lane wants them (Q4, Q8), packing is a transposition of words. */
static void pack_words(const hob_panels *m, const uint8_t *from, uint8_t *low, uint32_t r)
{
    const size_t count = m->type->low_bits;

    from += m->type->block_bytes - 4 * count;
    for (size_t j = 0; j < count; j++)
        memcpy(low + 64 * j + 4 * r, from + 4 * j, 4);
}

/* `lanes` rows of quantized blocks into one panel. */
static void pack_quantized(const hob_panels *m, const uint8_t *rows, size_t row_bytes,
                           uint32_t lanes, uint8_t *panel)
{
    const hob_type_info *t = m->type;
    const size_t low_bytes = 64 * (size_t)t->low_bits, high_bytes = 64 * (size_t)t->high_bits;
    const bool words = t->block_len == 32 && t->high_bits == 0;
    step codes[HOB_BLOCK_MAX / 4] = {{0}};
    hob_block block;

    for (uint32_t b = 0; b < m->blocks; b += t->block_len / 32, rows += t->block_bytes) {
        for (uint32_t r = 0; r < lanes; r++) {
            const uint8_t *from = rows + r * row_bytes;
            t->unpack(from, &block);
            pack_scales(m, &block, b, panel, r);
            if (words)
                pack_words(m, from, panel + b * low_bytes, r);
            else
                for (uint32_t j = 0; j < t->block_len / 4; j++)
                    memcpy(&codes[j][r], block.codes + 4 * j, 4);
        }
        for (uint32_t i = 0; !words && i < t->block_len / 32; i++)
            pack_codes(t, codes + 8 * i, panel + (b + i) * low_bytes,
                       panel + m->high_at + (b + i) * high_bytes);
    }
}

/* `lanes` rows of floats into one panel. */
static inline void pack_floats(const uint8_t *rows, size_t row_bytes, size_t each, uint32_t cols,
                               uint32_t lanes, uint8_t *panel)
{
    enum { TILE = 16 }; /* of a row, at most one cache line */

    for (uint32_t first = 0; first < cols; first += TILE) {
        const uint32_t end = cols - first < TILE ? cols : first + TILE;
        for (uint32_t r = 0; r < lanes; r++)
            for (uint32_t k = first; k < end; k++)
                memcpy(panel + ((size_t)k * 16 + r) * each, rows + r * row_bytes + k * each, each);
    }
}

void hob_panels_pack(const hob_panels *m, const uint8_t *rows, uint32_t first, uint32_t count,
                     uint8_t *to)
{
    const size_t each = m->type->block_bytes, row_bytes = m->cols / m->type->block_len * each;

    for (uint32_t panel = first; panel < first + count; panel++) {
        const uint32_t row = panel * HOB_PANEL_ROWS,
                       lanes = m->rows - row < HOB_PANEL_ROWS ? m->rows - row : HOB_PANEL_ROWS;
        const uint8_t *from = rows + (size_t)row * row_bytes;
        uint8_t *at = to + panel * m->panel_bytes;
        if (m->blocks)
            pack_quantized(m, from, row_bytes, lanes, at);
        else if (each == 2)
            pack_floats(from, row_bytes, 2, m->cols, lanes, at);
        else
            pack_floats(from, row_bytes, 4, m->cols, lanes, at);
    }
}

#define KIND_TYPE(name, kind) [HOB_KIND_##kind] = HOB_TYPE_##kind,
static const hob_type kind_types[HOB_KINDS] = {
    HOB_QUANTIZED_TYPES(KIND_TYPE)[HOB_KIND_F16] = HOB_TYPE_F16, [HOB_KIND_BF16] = HOB_TYPE_BF16,
    [HOB_KIND_F32] = HOB_TYPE_F32};
#undef KIND_TYPE

hob_type hob_kind_type(hob_kind kind)
{
    return kind_types[kind];
}

int hob_panels_shape(hob_type type, uint32_t rows, uint32_t cols, hob_panels *ret)
{
    const hob_type_info *t = hob_type_find((uint32_t)type);
    int kind = 0;

    while (kind < HOB_KINDS && kind_types[kind] != type)
        kind++;
    if (!t || kind == HOB_KINDS)
        return HOB_EUNSUPPORTED;
    hob_panels m = {.kind = (hob_kind)kind,
                    .type = t,
                    .rows = rows,
                    .cols = cols,
                    .panels = (rows + HOB_PANEL_ROWS - 1) / HOB_PANEL_ROWS};
    if (t->to_float) {
        m.panel_bytes = (size_t)cols * 16 * t->block_bytes;
    } else {
        m.blocks = cols / 32;
        m.block_shift = t->block_len == 32 ? 0 : 3;
        size_t blocks = m.blocks, scales = (blocks >> m.block_shift) * 32;
        m.high_at = blocks * 64 * t->low_bits;
        m.d_at = m.high_at + blocks * 64 * t->high_bits;
        m.m_at = m.d_at + scales;
        m.sub_at = m.m_at + (t->minimum ? scales : 0);
        m.sub_min_at = m.sub_at + (t->group ? blocks * (32u / t->group) * 16 : 0);
        m.panel_bytes = m.sub_min_at + (t->group == 32 && t->minimum ? blocks * 16 : 0);
    }
    m.panel_bytes = (m.panel_bytes + 63) / 64 * 64;
    *ret = m;
    return 0;
}

static float half_at(const uint8_t *base, size_t index)
{
    uint16_t h;
    memcpy(&h, base + 2 * index, sizeof h);
    return hob_half_to_float(h);
}

int hob_panels_value(const hob_panels *m, const uint8_t *panel, uint32_t b, uint32_t r, uint32_t k)
{
    const hob_type_info *t = m->type;
    const uint32_t j = k / 4, at = 4 * r + k % 4;
    const uint8_t *low = panel + (size_t)b * 64 * t->low_bits + at,
                  *high = panel + m->high_at + (size_t)b * 64 * t->high_bits + at;
    int code;

    if (t->low_bits == 8)
        code = low[64 * j];
    else if (t->low_bits == 4)
        code = low[j % 4 * 64] >> j / 4 * 4 & 15;
    else
        code = low[j / 4 * 64] >> j % 4 * 2 & 3;
    if (t->high_bits == 1)
        code |= (*high >> j & 1) << t->low_bits;
    else if (t->high_bits == 2)
        code |= (high[j / 4 * 64] >> j % 4 * 2 & 3) << t->low_bits;
    return hob_code_value(t, (uint8_t)code);
}

hob_panel_scale hob_panels_scale(const hob_panels *m, const uint8_t *panel, uint32_t b, uint32_t r)
{
    const hob_type_info *t = m->type;
    const uint32_t super = b >> m->block_shift;
    hob_panel_scale s = {.d = half_at(panel + m->d_at, super * 16 + r), .sub = {1, 1}};

    if (t->minimum)
        s.m = half_at(panel + m->m_at, super * 16 + r);
    for (uint32_t i = 0; t->group && i < 2; i++) {
        const uint8_t *sub = panel + m->sub_at + (t->group == 32 ? b : b * 2 + i) * 16 + r;
        const bool shared = t->group == 16 && t->minimum;
        s.sub[i] = shared ? *sub & 15 : (int8_t)*sub;
        if (t->minimum)
            s.sub_min[i] = shared ? *sub >> 4 : (int8_t)panel[m->sub_min_at + b * 16 + r];
    }
    return s;
}

/* A step of lane r from a plane of `bits` bits a code, moved `up`. */
static uint32_t step_codes(const uint8_t *plane, uint32_t bits, uint32_t r, uint32_t j, uint32_t up)
{
    const uint32_t vector = bits == 8   ? j
                            : bits == 4 ? j % 4
                            : bits == 2 ? j / 4
                                        : 0,
                   shift = bits == 4   ? j / 4 * 4
                           : bits == 2 ? j % 4 * 2
                           : bits == 1 ? j
                                       : 0;
    uint32_t word;

    memcpy(&word, plane + 64 * vector + 4 * r, sizeof word);
    return (word >> shift & ((1u << bits) - 1) * 0x01010101u) << up;
}

/* The codes of block b in lane r. */
static void block_codes(const hob_panels *m, const uint8_t *panel, uint32_t b, uint32_t r,
                        uint8_t ret[HOB_QUANT_BLOCK])
{
    const hob_type_info *t = m->type;
    const uint8_t *low = panel + (size_t)b * 64 * t->low_bits,
                  *high = panel + m->high_at + (size_t)b * 64 * t->high_bits;

    for (uint32_t j = 0; j < HOB_QUANT_BLOCK / 4; j++) {
        uint32_t word = step_codes(low, t->low_bits, r, j, 0);
        if (t->high_bits)
            word |= step_codes(high, t->high_bits, r, j, t->low_bits);
        memcpy(ret + 4 * j, &word, sizeof word);
    }
}

/* One row of a matrix that is not quantized; numbers are collected from the panel, then made floats together. */
static void float_row(const hob_panels *m, const uint8_t *panel, uint32_t r, float scale,
                      float *ret)
{
    enum { TOGETHER = 64 };
    const size_t each = m->type->block_bytes;
    uint8_t some[TOGETHER * sizeof(float)];

    for (uint32_t first = 0; first < m->cols; first += TOGETHER) {
        const uint32_t left = m->cols - first, n = left < TOGETHER ? left : TOGETHER;
        for (uint32_t k = 0; k < n; k++)
            memcpy(some + k * each, panel + ((size_t)(first + k) * 16 + r) * each, each);
        m->type->to_float(some, ret + first, n);
        for (uint32_t k = 0; k < n; k++)
            ret[first + k] = ret[first + k] * scale;
    }
}

void hob_panels_row(const hob_panels *m, uint32_t row, float scale, float *ret)
{
    const uint32_t r = row % HOB_PANEL_ROWS;
    const uint8_t *panel = m->data + row / HOB_PANEL_ROWS * m->panel_bytes;

    if (m->blocks == 0) {
        float_row(m, panel, r, scale, ret);
        return;
    }
    for (uint32_t b = 0; b < m->blocks; b++, ret += 32) {
        const hob_panel_scale s = hob_panels_scale(m, panel, b, r);
        uint8_t codes[HOB_QUANT_BLOCK];
        block_codes(m, panel, b, r, codes);
        for (uint32_t k = 0; k < 32; k++) {
            float v = s.d * (float)s.sub[k / 16] * (float)hob_code_value(m->type, codes[k]);
            if (m->type->minimum)
                v += m->type->group ? -(s.m * (float)s.sub_min[k / 16]) : s.m;
            ret[k] = v * scale;
        }
    }
}

int hob_panels_check(hob_type type, uint32_t rows, uint32_t cols, size_t bytes, hob_panels *ret,
                     hob_diag *diag)
{
    const hob_type_info *t = hob_type_find((uint32_t)type);
    size_t row_bytes, all_bytes;

    if (!t)
        return hob_fail(diag, HOB_EUNSUPPORTED, "weight type %d: there is no kernel for it",
                        (int)type);
    if (rows == 0 || cols == 0 || cols % t->block_len || cols > 1u << 20 || rows > 1u << 28)
        return hob_fail(
            diag, HOB_EINVAL,
            "weight of %u rows, %u columns: columns must be a multiple of %u, at most 2^20", rows,
            cols, t->block_len);
    if (!hob_mul_size(cols / t->block_len, t->block_bytes, &row_bytes) ||
        !hob_mul_size(row_bytes, rows, &all_bytes) || all_bytes != bytes)
        return hob_fail(diag, HOB_EINVAL, "weight of %u rows, %u columns, %s: got %zu bytes", rows,
                        cols, t->name, bytes);
    return hob_panels_shape(type, rows, cols, ret);
}
