/* SPDX-License-Identifier: Apache-2.0
 *
 * How devices keep weight matrices: as panels, which the CPU's kernels and the OpenCL ones read alike. Pure functions from
 * GGUF rows to panels and back; owns no memory.
 *
 * Panels: a matrix is cut into groups of 16 rows, row = lane, the last group filled up with zeros. F16, BF16, F32: [k][16].
 * A quantized panel holds planes, one after another, each for all its blocks of 32; hob_panels says where they begin.
 * A vector has 4 bytes a row, i of them is 0 .. 3; the 8 steps of a block are j = k / 4, with i = k % 4:
 *   low   8 bits: 8 vectors a block, vector j: the codes
 *         4 bits: 4 vectors, vector j: steps j (low nibbles) and j + 4 (high)
 *         2 bits: 2 vectors, vector j / 4: step j in bits 2 (j % 4) and above
 *   high  2 bits: as low; 1 bit: one vector, step j in bit j
 *   d, m  f16 [blocks of the type][16]; m only with a minimum
 *   sub   int8 [blocks][16], with group 16 [blocks][2][16]; Q2_K: sub_min in the upper 4 bits
 *   sub_min  int8 [blocks][16], with group 32 and a minimum
 * Panels begin on 64 bytes. */
#ifndef HOB_HAL_PANELS_H
#define HOB_HAL_PANELS_H

#include "hal/hal.h"

enum {
    HOB_PANEL_ROWS = 16,
    HOB_QUANT_BLOCK = 32,
};

/* X(name, kind) for each quantized type. */
#define HOB_QUANTIZED_TYPES(X)                                                                     \
    X(q4_0, Q4_0)                                                                                  \
    X(q4_1, Q4_1)                                                                                  \
    X(q5_0, Q5_0)                                                                                  \
    X(q5_1, Q5_1)                                                                                  \
    X(q8_0, Q8_0)                                                                                  \
    X(q2_k, Q2_K)                                                                                  \
    X(q3_k, Q3_K)                                                                                  \
    X(q4_k, Q4_K)                                                                                  \
    X(q5_k, Q5_K)                                                                                  \
    X(q6_k, Q6_K)                                                                                  \
    X(iq4_nl, IQ4_NL)                                                                              \
    X(iq4_xs, IQ4_XS)

/* The types, numbered densely: what the tables of kernels are indexed with. */
#define HOB_KIND_ROW(name, kind) HOB_KIND_##kind,
typedef enum hob_kind {
    HOB_QUANTIZED_TYPES(HOB_KIND_ROW) HOB_KIND_F16,
    HOB_KIND_BF16,
    HOB_KIND_F32,
    HOB_KINDS
} hob_kind;
#undef HOB_KIND_ROW

typedef struct hob_panels {
    hob_kind kind;
    const hob_type_info *type;
    uint32_t rows, cols;
    uint32_t blocks;      /* cols / 32 when quantized, else 0 */
    uint32_t block_shift; /* block b of 32 lies in block b >> block_shift of the type */
    uint32_t panels;      /* rows / 16, rounded up */
    size_t high_at, d_at, m_at, sub_at, sub_min_at; /* planes, in bytes from a panel's beginning */
    size_t panel_bytes;
    const uint8_t *data;
} hob_panels;

hob_type hob_kind_type(hob_kind kind);

/* All of *ret but data; cols is a multiple of the type's block. HOB_EUNSUPPORTED: a type without a kernel. */
HOB_MUST_CHECK int hob_panels_shape(hob_type type, uint32_t rows, uint32_t cols, hob_panels *ret);

/* The same for `bytes` of GGUF rows that are to be uploaded; HOB_EINVAL when they are not that many, or out of bounds. */
HOB_MUST_CHECK int hob_panels_check(hob_type type, uint32_t rows, uint32_t cols, size_t bytes,
                                    hob_panels *ret, hob_diag *diag);

/* Weight k of block b in lane r of a panel, without its scales. */
int hob_panels_value(const hob_panels *m, const uint8_t *panel, uint32_t b, uint32_t r, uint32_t k);

/* The scales of block b of 32 in lane r; what the type lacks is 1 (sub) or 0. Without groups m is the minimum itself. */
typedef struct hob_panel_scale {
    float d, m;
    int sub[2], sub_min[2]; /* of weights 0 .. 15 and 16 .. 31 */
} hob_panel_scale;
hob_panel_scale hob_panels_scale(const hob_panels *m, const uint8_t *panel, uint32_t b, uint32_t r);

/* Rows of GGUF blocks into panels first .. first + count - 1; to: all panels, zeroed. Thread: any. */
void hob_panels_pack(const hob_panels *m, const uint8_t *rows, uint32_t first, uint32_t count,
                     uint8_t *to);
/* One row of m->data as floats, times scale: ret [cols]. */
void hob_panels_row(const hob_panels *m, uint32_t row, float scale, float *ret);

#endif
