/* SPDX-License-Identifier: Apache-2.0
 *
 * Linears in AVX2. Lane = row of the panel, so there is no horizontal sum and a tile is 16 rows by up to 6 columns.
 *
 * Q4: quants are unsigned, so 8 vpmaddubsw of a block fit an int16 lane (8 * 2 * 15 * 127 = 30480) and one vpmaddwd a
 * block widens them. Q4_0's -8 is taken off afterwards, exactly, as 8 * sum of the activations' quants. Many columns
 * share a panel unpacked to bytes once; a single column unpacks as it goes. Twelve accumulators and four temporaries
 * fill the register file and compilers spill them, hence assembly.
 * Q8_0: |w| times sign(x, w), each product widened at once; its panels are used as they lie. */
#include "hal/cpu/linear_avx2.h"

/* One block of a tile: what the assembly reads and writes. Column c of 3.. is (c - 3) strides after the second base. */
typedef struct block_at {
    const uint8_t *quants;      /* [8 steps][16 rows][4] */
    const float *weight_scales; /* d[16], m[16] */
    const int8_t *x0, *x3;      /* columns 0 and 3 */
    const hob_cpu_scale *s0, *s3;
} block_at;

#define X0 "(%[x0])"
#define X1 "(%[x0],%[xs])"
#define X2 "(%[x0],%[xs],2)"
#define X3 "(%[x3])"
#define X4 "(%[x3],%[xs])"
#define X5 "(%[x3],%[xs],2)"
#define S0 "(%[s0])"
#define S1 "(%[s0],%[ss])"
#define S2 "(%[s0],%[ss],2)"
#define S3 "(%[s3])"
#define S4 "(%[s3],%[ss])"
#define S5 "(%[s3],%[ss],2)"

/* M(step, x, scale, low accumulator, high accumulator, tile offset) for each column */
#define COLUMNS_1(M, k) M(k, X0, S0, 0, 1, 0)
#define COLUMNS_2(M, k) COLUMNS_1(M, k) M(k, X1, S1, 2, 3, 64)
#define COLUMNS_3(M, k) COLUMNS_2(M, k) M(k, X2, S2, 4, 5, 128)
#define COLUMNS_4(M, k) COLUMNS_3(M, k) M(k, X3, S3, 6, 7, 192)
#define COLUMNS_5(M, k) COLUMNS_4(M, k) M(k, X4, S4, 8, 9, 256)
#define COLUMNS_6(M, k) COLUMNS_5(M, k) M(k, X5, S5, 10, 11, 320)

#define Q4_WEIGHTS(k) "vmovdqa 64*" #k "(%[q]), %%ymm12\n vmovdqa 64*" #k "+32(%[q]), %%ymm13\n"
#define Q4_FIRST(k, x, s, lo, hi, o)                                                               \
    "vpbroadcastd 4*" #k x ", %%ymm14\n"                                                           \
    "vpmaddubsw %%ymm14, %%ymm12, %%ymm" #lo "\n"                                                  \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm" #hi "\n"
#define Q4_NEXT(k, x, s, lo, hi, o)                                                                \
    "vpbroadcastd 4*" #k x ", %%ymm14\n"                                                           \
    "vpmaddubsw %%ymm14, %%ymm12, %%ymm15\n"                                                       \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm14\n"                                                       \
    "vpaddw %%ymm15, %%ymm" #lo ", %%ymm" #lo "\n"                                                 \
    "vpaddw %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"
#define Q4_WIDEN(k, x, s, lo, hi, o)                                                               \
    "vpmaddwd %%ymm15, %%ymm" #lo ", %%ymm" #lo "\n"                                               \
    "vpmaddwd %%ymm15, %%ymm" #hi ", %%ymm" #hi "\n"
/* The blocks' -8 of Q4_0: the sum of the activations' quants is the third word of a scale. */
#define Q4_OFFSET(k, x, s, lo, hi, o)                                                              \
    "vpbroadcastd 8" s ", %%ymm14\n vpslld $3, %%ymm14, %%ymm14\n"                                 \
    "vpsubd %%ymm14, %%ymm" #lo ", %%ymm" #lo "\n"                                                 \
    "vpsubd %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"
/* acc = fma(d_w * d_x, isum, acc), with ymm12 and ymm13 holding d_w */
#define SCALE(k, x, s, lo, hi, o)                                                                  \
    "vcvtdq2ps %%ymm" #lo ", %%ymm" #lo "\n vcvtdq2ps %%ymm" #hi ", %%ymm" #hi "\n"                \
    "vbroadcastss " s ", %%ymm14\n"                                                                \
    "vmulps %%ymm14, %%ymm12, %%ymm15\n vmulps %%ymm14, %%ymm13, %%ymm14\n"                        \
    "vfmadd213ps " #o "(%[t]), %%ymm15, %%ymm" #lo "\n"                                            \
    "vfmadd213ps " #o "+32(%[t]), %%ymm14, %%ymm" #hi "\n"
/* acc = fma(m_w, s_x, acc) */
#define MINIMUM(k, x, s, lo, hi, o)                                                                \
    "vbroadcastss 4" s ", %%ymm14\n"                                                               \
    "vfmadd231ps 64(%[w]), %%ymm14, %%ymm" #lo "\n"                                                \
    "vfmadd231ps 96(%[w]), %%ymm14, %%ymm" #hi "\n"
#define STORE(k, x, s, lo, hi, o)                                                                  \
    "vmovaps %%ymm" #lo ", " #o "(%[t])\n vmovaps %%ymm" #hi ", " #o "+32(%[t])\n"
#define SCALE_AND_MINIMUM(k, x, s, lo, hi, o)                                                      \
    SCALE(k, x, s, lo, hi, o) MINIMUM(k, x, s, lo, hi, o) STORE(k, x, s, lo, hi, o)
#define SCALE_ONLY(k, x, s, lo, hi, o) SCALE(k, x, s, lo, hi, o) STORE(k, x, s, lo, hi, o)
#define NOTHING(k, x, s, lo, hi, o)

#define CLOBBERS                                                                                   \
    "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define OPERANDS                                                                                   \
    [q] "r"(at->quants), [w] "r"(at->weight_scales), [x0] "r"(at->x0), [x3] "r"(at->x3),           \
        [xs] "r"(x_stride), [s0] "r"(at->s0), [s3] "r"(at->s3), [ss] "r"(scale_stride),            \
        [t] "r"(tile), [ones] "m"(ones16)

static const int16_t ones16[16]
    __attribute__((aligned(32))) = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

#define Q4_STEP(COLUMNS, k) Q4_WEIGHTS(k) COLUMNS(Q4_NEXT, k)
#define Q4_BLOCK(COLUMNS, OFFSET, FINISH)                                                          \
    __asm__ volatile(                                                                              \
        Q4_WEIGHTS(0) COLUMNS(Q4_FIRST, 0) Q4_STEP(COLUMNS, 1) Q4_STEP(COLUMNS, 2)                 \
            Q4_STEP(COLUMNS, 3) Q4_STEP(COLUMNS, 4) Q4_STEP(COLUMNS, 5) Q4_STEP(COLUMNS, 6)        \
                Q4_STEP(COLUMNS, 7) "vmovdqa %[ones], %%ymm15\n" COLUMNS(Q4_WIDEN, 0) COLUMNS(     \
                    OFFSET,                                                                        \
                    0) "vmovaps (%[w]), %%ymm12\n vmovaps 32(%[w]), %%ymm13\n" COLUMNS(FINISH, 0)  \
        :                                                                                          \
        : OPERANDS                                                                                 \
        : CLOBBERS)
#define Q4_KERNELS(n)                                                                              \
    static void q4_0_block_##n(const block_at *at, size_t x_stride, size_t scale_stride,           \
                               float *tile)                                                        \
    {                                                                                              \
        Q4_BLOCK(COLUMNS_##n, Q4_OFFSET, SCALE_ONLY);                                              \
    }                                                                                              \
    static void q4_1_block_##n(const block_at *at, size_t x_stride, size_t scale_stride,           \
                               float *tile)                                                        \
    {                                                                                              \
        Q4_BLOCK(COLUMNS_##n, NOTHING, SCALE_AND_MINIMUM);                                         \
    }
Q4_KERNELS(1)
Q4_KERNELS(2)
Q4_KERNELS(3)
Q4_KERNELS(4)
Q4_KERNELS(5)
Q4_KERNELS(6)

/* ymm8, ymm9 the weights, ymm10, ymm11 their magnitudes, ymm12 ones */
#define Q8_WEIGHTS(k)                                                                              \
    "vmovdqa 64*" #k "(%[q]), %%ymm8\n vmovdqa 64*" #k "+32(%[q]), %%ymm9\n"                       \
    "vpabsb %%ymm8, %%ymm10\n vpabsb %%ymm9, %%ymm11\n"
#define Q8_NEXT(k, x, s, lo, hi, o)                                                                \
    "vpbroadcastd 4*" #k x ", %%ymm15\n"                                                           \
    "vpsignb %%ymm8, %%ymm15, %%ymm14\n vpsignb %%ymm9, %%ymm15, %%ymm15\n"                        \
    "vpmaddubsw %%ymm14, %%ymm10, %%ymm14\n vpmaddubsw %%ymm15, %%ymm11, %%ymm15\n"                \
    "vpmaddwd %%ymm12, %%ymm14, %%ymm14\n vpmaddwd %%ymm12, %%ymm15, %%ymm15\n"                    \
    "vpaddd %%ymm14, %%ymm" #lo ", %%ymm" #lo "\n vpaddd %%ymm15, %%ymm" #hi ", %%ymm" #hi "\n"
#define Q8_ZERO(k, x, s, lo, hi, o)                                                                \
    "vpxor %%ymm" #lo ", %%ymm" #lo ", %%ymm" #lo "\n vpxor %%ymm" #hi ", %%ymm" #hi ", %%ymm" #hi \
    "\n"
#define Q8_STEP(COLUMNS, k) Q8_WEIGHTS(k) COLUMNS(Q8_NEXT, k)
#define Q8_KERNEL(n)                                                                               \
    static void q8_0_block_##n(const block_at *at, size_t x_stride, size_t scale_stride,           \
                               float *tile)                                                        \
    {                                                                                              \
        __asm__ volatile(                                                                          \
            "vmovdqa %[ones], %%ymm12\n" COLUMNS_##n(Q8_ZERO, 0) Q8_STEP(COLUMNS_##n, 0)           \
                Q8_STEP(COLUMNS_##n, 1) Q8_STEP(COLUMNS_##n, 2) Q8_STEP(COLUMNS_##n, 3)            \
                    Q8_STEP(COLUMNS_##n, 4) Q8_STEP(COLUMNS_##n, 5) Q8_STEP(COLUMNS_##n, 6)        \
                        Q8_STEP(COLUMNS_##n, 7) "vmovaps (%[w]), %%ymm12\n vmovaps 32(%[w]), "     \
                                                "%%ymm13\n" COLUMNS_##n(SCALE_ONLY, 0)             \
            :                                                                                      \
            : OPERANDS                                                                             \
            : CLOBBERS);                                                                           \
    }
Q8_KERNEL(1)
Q8_KERNEL(2)
Q8_KERNEL(3)
Q8_KERNEL(4)

typedef void (*block_fn)(const block_at *at, size_t x_stride, size_t scale_stride, float *tile);

static const struct {
    uint32_t most; /* columns */
    block_fn columns[6];
} tiles[] = {
    [HOB_CPU_Q4_0] = {6,
                      {q4_0_block_1, q4_0_block_2, q4_0_block_3, q4_0_block_4, q4_0_block_5,
                       q4_0_block_6}},
    [HOB_CPU_Q4_1] = {6,
                      {q4_1_block_1, q4_1_block_2, q4_1_block_3, q4_1_block_4, q4_1_block_5,
                       q4_1_block_6}},
    [HOB_CPU_Q8_0] = {4, {q8_0_block_1, q8_0_block_2, q8_0_block_3, q8_0_block_4}},
};

/* f16 d[blocks][16] and m[blocks][16] to f32 [blocks][d16, m16]. */
static void unpack_scales(const hob_cpu_matrix *w, const uint8_t *panel, float *ret)
{
    const uint16_t *d = (const uint16_t *)(panel + w->blocks * hob_cpu_quant_bytes(w->kind)),
                   *m = d + (size_t)w->blocks * 16;

    for (uint32_t b = 0; b < w->blocks; b++, d += 16, ret += 32) {
        _mm256_store_ps(ret, load_half8(d));
        _mm256_store_ps(ret + 8, load_half8(d + 8));
        if (w->kind == HOB_CPU_Q4_1) {
            _mm256_store_ps(ret + 16, load_half8(m + b * 16));
            _mm256_store_ps(ret + 24, load_half8(m + b * 16 + 8));
        }
    }
}

static void unpack_nibbles(const uint8_t *from, uint32_t blocks, uint8_t *to)
{
    const __m256i mask = _mm256_set1_epi8(15);

    for (uint32_t b = 0; b < blocks; b++, from += 256, to += 512)
        for (int j = 0; j < 8; j++) {
            __m256i w = _mm256_load_si256((const __m256i *)(from + 32 * j));
            _mm256_store_si256((__m256i *)(to + 32 * j), _mm256_and_si256(w, mask));
            _mm256_store_si256((__m256i *)(to + 256 + 32 * j),
                               _mm256_and_si256(_mm256_srli_epi16(w, 4), mask));
        }
}

/* Tiles over all columns, as even in width as can be. */
static void linear_tiles(const hob_cpu_matrix *w, const hob_cpu_input *x, const hob_cpu_output *out,
                         uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    float *scales = scratch;
    uint8_t *bytes = (uint8_t *)(scales + (size_t)w->blocks * 32);
    size_t scale_stride = x->scale_stride * sizeof(hob_cpu_scale),
           quant_bytes = hob_cpu_quant_bytes(w->kind);
    uint32_t most = tiles[w->kind].most, groups = (x->rows + most - 1) / most;

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *quants = w->data + panel * w->panel_bytes;
        unpack_scales(w, quants, scales);
        if (quant_bytes == 256) {
            unpack_nibbles(quants, w->blocks, bytes);
            quants = bytes;
        }
        for (uint32_t g = 0, column = 0; g < groups; g++) {
            uint32_t n =
                (x->rows - column) / (groups - g) + ((x->rows - column) % (groups - g) != 0);
            block_fn block = tiles[w->kind].columns[n - 1];
            float tile[6 * 16] __attribute__((aligned(64))) = {0};
            block_at at = {quants,
                           scales,
                           x->q + column * x->q_stride,
                           NULL,
                           x->scales + column * x->scale_stride,
                           NULL};
            at.x3 = at.x0 + 3 * x->q_stride;
            at.s3 = at.s0 + 3 * x->scale_stride;
            for (uint32_t b = 0; b < w->blocks; b++) {
                block(&at, x->q_stride, scale_stride, tile);
                at.quants += 512;
                at.weight_scales += 32;
                at.x0 += 32;
                at.x3 += 32;
                at.s0++;
                at.s3++;
            }
            hob_store_tile(w, out, panel, column, n, tile);
            column += n;
        }
    }
}

/* One column: nibbles are unpacked on their way into the multiplier. */
static void linear_q4_single(const hob_cpu_matrix *w, const hob_cpu_input *x,
                             const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count)
{
    const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const bool minimum = w->kind == HOB_CPU_Q4_1;

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *quants = w->data + panel * w->panel_bytes;
        const uint16_t *d = (const uint16_t *)(quants + w->blocks * 256),
                       *m = d + (size_t)w->blocks * 16;
        __m256 acc0 = _mm256_setzero_ps(), acc1 = acc0;
        for (uint32_t b = 0; b < w->blocks; b++, quants += 256, d += 16, m += 16) {
            __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0;
            const int8_t *q = x->q + b * 32;
            const hob_cpu_scale *s = x->scales + b;
            _mm_prefetch((const char *)quants + 1536, _MM_HINT_T0);
            _mm_prefetch((const char *)quants + 1600, _MM_HINT_T0);
            _mm_prefetch((const char *)quants + 1664, _MM_HINT_T0);
            _mm_prefetch((const char *)quants + 1728, _MM_HINT_T0);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m256i w0 = _mm256_load_si256((const __m256i *)(quants + 64 * j));
                __m256i w1 = _mm256_load_si256((const __m256i *)(quants + 64 * j + 32));
                __m256i low = broadcast4(q + 4 * j), high = broadcast4(q + 16 + 4 * j);
                sum0 =
                    _mm256_add_epi16(sum0, _mm256_maddubs_epi16(_mm256_and_si256(w0, mask), low));
                sum1 =
                    _mm256_add_epi16(sum1, _mm256_maddubs_epi16(_mm256_and_si256(w1, mask), low));
                w0 = _mm256_and_si256(_mm256_srli_epi16(w0, 4), mask);
                w1 = _mm256_and_si256(_mm256_srli_epi16(w1, 4), mask);
                sum0 = _mm256_add_epi16(sum0, _mm256_maddubs_epi16(w0, high));
                sum1 = _mm256_add_epi16(sum1, _mm256_maddubs_epi16(w1, high));
            }
            sum0 = _mm256_madd_epi16(sum0, ones);
            sum1 = _mm256_madd_epi16(sum1, ones);
            if (!minimum) {
                __m256i offset = _mm256_set1_epi32(8 * s->sum);
                sum0 = _mm256_sub_epi32(sum0, offset);
                sum1 = _mm256_sub_epi32(sum1, offset);
            }
            __m256 d_x = _mm256_set1_ps(s->d);
            acc0 =
                _mm256_fmadd_ps(_mm256_mul_ps(load_half8(d), d_x), _mm256_cvtepi32_ps(sum0), acc0);
            acc1 = _mm256_fmadd_ps(_mm256_mul_ps(load_half8(d + 8), d_x), _mm256_cvtepi32_ps(sum1),
                                   acc1);
            if (minimum) {
                __m256 s_x = _mm256_set1_ps(s->s);
                acc0 = _mm256_fmadd_ps(load_half8(m), s_x, acc0);
                acc1 = _mm256_fmadd_ps(load_half8(m + 8), s_x, acc1);
            }
        }
        float tile[16] __attribute__((aligned(64)));
        _mm256_store_ps(tile, acc0);
        _mm256_store_ps(tile + 8, acc1);
        hob_store_tile(w, out, panel, 0, 1, tile);
    }
}

static void linear_q4(const hob_cpu_matrix *w, const hob_cpu_input *x, const hob_cpu_output *out,
                      uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    if (x->rows == 1)
        linear_q4_single(w, x, out, first_panel, panel_count);
    else
        linear_tiles(w, x, out, first_panel, panel_count, scratch);
}

/* n is a constant at each call, so that the accumulators live in registers. */
static inline __attribute__((always_inline)) void float_tile(const hob_cpu_matrix *w,
                                                             const uint8_t *panel, const float *x,
                                                             size_t x_stride, uint32_t n,
                                                             float *tile)
{
    __m256 low[6], high[6];

#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++)
        low[c] = high[c] = _mm256_setzero_ps();
    for (uint32_t k = 0; k < w->cols; k++) {
        __m256 w0, w1;
        if (w->kind == HOB_CPU_F32) {
            w0 = _mm256_load_ps((const float *)(panel + (size_t)k * 64));
            w1 = _mm256_load_ps((const float *)(panel + (size_t)k * 64 + 32));
        } else {
            w0 = load_half8((const uint16_t *)(panel + (size_t)k * 32));
            w1 = load_half8((const uint16_t *)(panel + (size_t)k * 32 + 16));
        }
#pragma GCC unroll 6
        for (uint32_t c = 0; c < n; c++) {
            __m256 f = _mm256_broadcast_ss(x + c * x_stride + k);
            low[c] = _mm256_fmadd_ps(w0, f, low[c]);
            high[c] = _mm256_fmadd_ps(w1, f, high[c]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++) {
        _mm256_store_ps(tile + 16 * c, low[c]);
        _mm256_store_ps(tile + 16 * c + 8, high[c]);
    }
}

static void linear_float(const hob_cpu_matrix *w, const hob_cpu_input *x, const hob_cpu_output *out,
                         uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        for (uint32_t column = 0, n; column < x->rows; column += n) {
            const float *f = x->f32 + column * x->f32_stride;
            float tile[6 * 16] __attribute__((aligned(64)));
            n = x->rows - column >= 6 ? 6 : x->rows - column >= 3 ? 3 : 1;
            if (n == 6)
                float_tile(w, data, f, x->f32_stride, 6, tile);
            else if (n == 3)
                float_tile(w, data, f, x->f32_stride, 3, tile);
            else
                float_tile(w, data, f, x->f32_stride, 1, tile);
            hob_store_tile(w, out, panel, column, n, tile);
        }
    }
}

void hob_cpu_fill_linear_avx2(hob_cpu_kernels *k)
{
    k->linear[HOB_CPU_Q4_0] = k->linear[HOB_CPU_Q4_1] = linear_q4;
    k->linear[HOB_CPU_Q8_0] = linear_tiles;
    k->linear[HOB_CPU_F16] = k->linear[HOB_CPU_F32] = linear_float;
}
