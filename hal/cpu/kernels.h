/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU's kernels: one table of function pointers, filled once at open. It starts scalar (scalar.c is the readable
 * definition of every operation); each ISA tier overwrites what it has. Every tier gives the same bits:
 *
 * - A quantized linear sums a block of 32 exactly in integers; then, blocks ascending, in f32. With q_w the signed value
 *   of a weight's code, and d, m, sub, sub_min, group as hob_block has them:
 *       group 0:   isum = sum(q_w q_x)              D = d             M = m
 *       group 32:  isum = sum(q_w q_x)              D = d * sub       M = -(m * sub_min)
 *       group 16:  isum = sum(sub * q_w q_x)        D = d             M = -m
 *       acc = fma(D * d_x, (float)isum, acc)
 *       acc = fma(M, s_x, acc)                      types with a minimum; s_x = d_x * (float)sum(q_x)
 *       acc = fma(M * d_x, (float)sum(sub_min * q_x), acc)   instead, with group 16
 *   F16, BF16 and F32 weights: acc = fma(w, x, acc), k ascending. Then acc + bias, then y + acc.
 * - Reductions are 16 virtual accumulators (element i goes to i % 16), added in the tree 8, 4, 2, 1 apart.
 * - exp is hob_exp's polynomial, step by step; GELU is hob_gelu_tail's.
 *
 * Weights come as the panels of hal/panels.h. */
#ifndef HOB_HAL_CPU_KERNELS_H
#define HOB_HAL_CPU_KERNELS_H

#include "hal/panels.h"

typedef enum hob_cpu_tier {
    HOB_CPU_SCALAR,
    HOB_CPU_NEON,
    HOB_CPU_AVX2,
    HOB_CPU_AVX512VNNI,
    HOB_CPU_TIERS
} hob_cpu_tier;

/* Of one block of 32 quantized activations. */
typedef struct hob_cpu_scale {
    float d;         /* x = d * q */
    float s;         /* d * sum */
    int32_t sum;     /* of q */
    int16_t half[2]; /* sums of q 0 .. 15 and 16 .. 31 */
    /* Of two lanes, q with k % 4 below 2 and the others: 16 times their sums, 32 times those of each half. */
    int16_t excess[2], half_excess[2][2];
} hob_cpu_scale;

/* Rows of activations as a linear wants them. */
typedef struct hob_cpu_input {
    uint32_t rows;
    const float *f32; /* [rows][f32_stride] */
    size_t f32_stride;
    const int8_t *q; /* [rows][q_stride], -127 .. 127 */
    size_t q_stride;
    const hob_cpu_scale *scales; /* [rows][scale_stride], one a block */
    size_t scale_stride;
    uint32_t skip_panels; /* from an item's end to its worker's next one, if all take turns */
} hob_cpu_input;

/* What is worth fetching behind a panel of an item that ends with panel `end` - 1. */
static inline size_t hob_cpu_next_panel(const hob_cpu_input *x, uint32_t panel, uint32_t end)
{
    return (size_t)panel + (panel == end ? x->skip_panels : 0);
}

typedef struct hob_cpu_output {
    float *y; /* [rows of the input][stride] */
    size_t stride;
    const float *bias; /* [rows of the matrix] or NULL */
    bool add;          /* onto what y holds */
} hob_cpu_output;

/* y[i][row] = d[row] * (float)(sum over k of q[i][k] * v[row][k]), the sum exact: vectors of dim bytes, -127 .. 127 on both
 * sides, dim a multiple of 32 up to 4096. v: panels of 16 rows, [dim / 4][16][4]; d [panel_count * 16]; q [n][dim], n 1 .. 8;
 * y [n][y_stride]. The panels are read once. */
typedef void hob_cpu_scan_fn(const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                             const int8_t *q, uint32_t n, float *y, size_t y_stride);

/* scratch: hob_cpu_scratch_bytes(cols), aligned to 64. */
typedef void (*hob_cpu_linear_fn)(const hob_panels *w, const hob_cpu_input *x,
                                  const hob_cpu_output *out, uint32_t first_panel,
                                  uint32_t panel_count, void *scratch);

typedef struct hob_cpu_kernels {
    const char *isa;
    hob_cpu_linear_fn linear[HOB_KINDS];

    /* y[i] = x[i] / sqrt(mean(x^2) + eps) * w[i]; may be in place */
    void (*rms_norm)(const float *x, const float *w, float eps, float *y, uint32_t n);
    /* y[i] = fma((x[i] - mean) * scale, w[i], b[i]), scale = 1 / sqrt(mean((x - mean)^2) + eps); may be in place */
    void (*layer_norm)(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n);
    /* d = max|x| / 127, q = round to even of x * (127 / max|x|). A block with NaN or infinity: d NaN, q 0. */
    void (*quantize)(const float *x, uint32_t blocks, int8_t *q, hob_cpu_scale *scales);
    /* In place on [heads][head_dim]; cosine, sine: [n_rot / 2] */
    void (*rope)(float *x, uint32_t heads, uint32_t head_dim, uint32_t n_rot, bool neox,
                 const float *cosine, const float *sine);
    /* out[i] = act(gate[i]) * up[i], up NULL: act(gate[i]) */
    void (*gate)(hob_gate_kind kind, const float *gate, const float *up, float *out, size_t n);

    void (*to_half)(const float *x, uint16_t *y, size_t n);
    void (*from_half)(const uint16_t *x, float *y, size_t n);
    /* y[i] = d[i] * q[i] */
    void (*scale_lanes)(const int8_t *q, const float *d, float *y, size_t n);
    /* s[i][p] = sum over j, ascending fma, of q[i][j] * k[j][p]; q [n][q_stride], k [head_dim][32], s [n][32] */
    void (*attend_scores)(const float *q, size_t q_stride, uint32_t n, const float *k,
                          uint32_t head_dim, float *s);
    /* The same with k as f16: what few queries share is not worth unpacking first. next: the block that will be read
     * after this one, which is fetched meanwhile. */
    void (*attend_scores_half)(const float *q, size_t q_stride, uint32_t n, const uint16_t *k,
                               const uint16_t *next, uint32_t head_dim, float *s);
    /* One step of the online softmax over the scores s[lo .. hi) of 32, which become their weights (0 outside).
     * state: largest score, sum of weights. Returns what earlier sums must be multiplied with. */
    float (*attend_softmax)(float *s, uint32_t lo, uint32_t hi, float state[2]);
    /* o[i] = o[i] * scale[i], then p ascending in lo .. hi: o[i][j] = fma(s[i][p], v[p][j], o[i][j]).
     * v [32][width], o [n][width], width a multiple of 16 */
    void (*attend_values)(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                          const float *v, uint32_t width, float *o);
    void (*attend_values_half)(const float *s, const float *scale, uint32_t n, uint32_t lo,
                               uint32_t hi, const uint16_t *v, const uint16_t *next, uint32_t width,
                               float *o);

    float (*max)(const float *x, size_t n); /* ignores NaN; -INFINITY when n is 0 */
    /* Sum of exp(x[i] * scale - shift) */
    float (*exp_sum)(const float *x, size_t n, float scale, float shift);
    /* Indices, ascending, of x[i] >= floor; returns how many. ids has room for n + 16. */
    uint32_t (*at_least)(const float *x, uint32_t n, float floor, uint32_t *ids);

    hob_cpu_scan_fn *scan; /* of stored vectors */
} hob_cpu_kernels;

/* Bytes of working memory a linear of that many columns needs. */
static inline size_t hob_cpu_scratch_bytes(uint32_t cols)
{
    return (size_t)cols * 128 + 4096;
}

/* Best tier of this processor and operating system, masked by HOB_CPU in the environment. HOB_EINVAL: unknown word. */
HOB_MUST_CHECK int hob_cpu_best_tier(hob_cpu_tier *ret, hob_diag *diag);
const char *hob_cpu_tier_name(hob_cpu_tier tier);
bool hob_cpu_has_tier(hob_cpu_tier tier);
bool hob_cpu_builds_tier(hob_cpu_tier tier);    /* it belongs to this family of processors */
void hob_cpu_describe(char *text, size_t size); /* the processor's own name */

/* The table of a tier that this machine has. */
void hob_cpu_kernels_fill(hob_cpu_tier tier, hob_cpu_kernels *ret);
void hob_cpu_fill_scalar(hob_cpu_kernels *k);
void hob_cpu_fill_neon(hob_cpu_kernels *k);
void hob_cpu_fill_avx2(hob_cpu_kernels *k);
void hob_cpu_fill_avx512vnni(hob_cpu_kernels *k);
hob_cpu_scan_fn hob_cpu_scan_neon, hob_cpu_scan_avx2, hob_cpu_scan_avx512vnni;

/* Compares a table with the scalar one on fixed inputs. HOB_EDEVICE names the kernel that disagrees. */
HOB_MUST_CHECK int hob_cpu_self_test(const hob_cpu_kernels *k, hob_diag *diag);

#endif
