/* SPDX-License-Identifier: Apache-2.0
 *
 * Linears in AVX2. Lane = row of the panel, so there is no horizontal sum and a tile is 16 rows by up to 6 columns.
 *
 * vpmaddubsw multiplies unsigned codes with signed activations, and its 16-bit results are added as they are, modulo 2^16:
 * what counts is that the sum of a lane fits in the end, when one vpmaddwd widens it. So codes are laid out around 16 (a
 * block's 16 products a lane, 16 * 16 * 127 = 32512), those with sub-scales of 16 weights around 32 (8 * 32 * 127), and
 * the excess that the quantized activations know of themselves (hob_cpu_scale) is taken off first. Bytes go as two nibbles,
 * the upper one 16 times. A panel is unpacked once for many columns; few columns unpack as they go. Twelve
 * accumulators and four temporaries fill the register file and compilers spill them, hence assembly. */
#include "hal/cpu/linear_avx2.h"

#include <stddef.h>

enum {
    FETCH_BLOCKS = 4,
    FETCH_GROUPS = 8,
    COLUMNS_MOST = 6,
    FEW_COLUMNS = 5,
    CENTRE = 16,
    HALF_CENTRE = 32
};

/* Where a tile begins: what the assembly reads. Column c of 3.. is (c - 3) strides after the second base. */
typedef struct tile_at {
    const uint8_t *quants;      /* [blocks][8 or, as nibbles, 16 steps][16 rows][4] */
    const float *weight_scales; /* records of unpack_panel */
    const int8_t *x0, *x3;      /* columns 0 and 3 */
    const hob_cpu_scale *s0, *s3;
    size_t x_stride, scale_stride; /* bytes between columns */
    size_t blocks;
} tile_at;

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

/* M(weights' step, activations' step, x, scale, low accumulator, high accumulator, tile offset) for each column */
#define COLUMNS_1(M, k, kx) M(k, kx, X0, S0, 0, 1, 0)
#define COLUMNS_2(M, k, kx) COLUMNS_1(M, k, kx) M(k, kx, X1, S1, 2, 3, 64)
#define COLUMNS_3(M, k, kx) COLUMNS_2(M, k, kx) M(k, kx, X2, S2, 4, 5, 128)
#define COLUMNS_4(M, k, kx) COLUMNS_3(M, k, kx) M(k, kx, X3, S3, 6, 7, 192)
#define COLUMNS_5(M, k, kx) COLUMNS_4(M, k, kx) M(k, kx, X4, S4, 8, 9, 256)
#define COLUMNS_6(M, k, kx) COLUMNS_5(M, k, kx) M(k, kx, X5, S5, 10, 11, 320)

#define WEIGHTS(k) "vmovdqa 64*" #k "(%[q]), %%ymm12\n vmovdqa 64*" #k "+32(%[q]), %%ymm13\n"
#define FIRST(k, kx, x, s, lo, hi, o)                                                              \
    "vpbroadcastd 4*" #kx x ", %%ymm14\n"                                                          \
    "vpmaddubsw %%ymm14, %%ymm12, %%ymm" #lo "\n"                                                  \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm" #hi "\n"
#define NEXT(k, kx, x, s, lo, hi, o)                                                               \
    "vpbroadcastd 4*" #kx x ", %%ymm14\n"                                                          \
    "vpmaddubsw %%ymm14, %%ymm12, %%ymm15\n"                                                       \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm14\n"                                                       \
    "vpaddw %%ymm15, %%ymm" #lo ", %%ymm" #lo "\n"                                                 \
    "vpaddw %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"
#define STEP_FIRST(COLUMNS, k, kx) WEIGHTS(k) COLUMNS(FIRST, k, kx)
#define STEP(COLUMNS, k, kx) WEIGHTS(k) COLUMNS(NEXT, k, kx)

/* Of 16-bit sums: the excess of codes around 16, of a half's around 32. */
#define EXCESS_AT(at, s, lo, hi)                                                                   \
    "vpbroadcastd " #at s ", %%ymm14\n"                                                            \
    "vpsubw %%ymm14, %%ymm" #lo ", %%ymm" #lo "\n vpsubw %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"
#define EXCESS(k, kx, x, s, lo, hi, o) EXCESS_AT(16, s, lo, hi)
#define EXCESS_LOW(k, kx, x, s, lo, hi, o) EXCESS_AT(20, s, lo, hi)
#define EXCESS_HIGH(k, kx, x, s, lo, hi, o) EXCESS_AT(24, s, lo, hi)
#define NOTHING(k, kx, x, s, lo, hi, o)

/* Sums become 32 bits, times ones or what ymm12 and ymm13 hold; a first part waits beside the tile. */
#define ONES "vmovdqa %[ones], %%ymm12\n vmovdqa %%ymm12, %%ymm13\n"
#define SIXTEENS "vpsllw $4, %%ymm12, %%ymm12\n vmovdqa %%ymm12, %%ymm13\n"
#define SUB_LOW "vmovdqa 128(%[w]), %%ymm12\n vmovdqa 160(%[w]), %%ymm13\n"
#define SUB_HIGH "vmovdqa 192(%[w]), %%ymm12\n vmovdqa 224(%[w]), %%ymm13\n"
#define WIDEN(k, kx, x, s, lo, hi, o)                                                              \
    "vpmaddwd %%ymm12, %%ymm" #lo ", %%ymm" #lo "\n"                                               \
    "vpmaddwd %%ymm13, %%ymm" #hi ", %%ymm" #hi "\n"
#define KEEP(k, kx, x, s, lo, hi, o)                                                               \
    "vmovdqa %%ymm" #lo ", 384+" #o "(%[t])\n vmovdqa %%ymm" #hi ", 384+" #o "+32(%[t])\n"
#define ADD_KEPT(k, kx, x, s, lo, hi, o)                                                           \
    "vpaddd 384+" #o "(%[t]), %%ymm" #lo ", %%ymm" #lo "\n"                                        \
    "vpaddd 384+" #o "+32(%[t]), %%ymm" #hi ", %%ymm" #hi "\n"
/* Codes that the type has unsigned: what EXCESS took off comes back, 16 * sum. */
#define RESTORE(k, kx, x, s, lo, hi, o)                                                            \
    "vpbroadcastd 8" s ", %%ymm14\n vpslld $4, %%ymm14, %%ymm14\n"                                 \
    "vpaddd %%ymm14, %%ymm" #lo ", %%ymm" #lo "\n vpaddd %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"

/* acc = fma(d_w * d_x, isum, acc), with ymm12 and ymm13 holding d_w */
#define SCALES "vmovaps (%[w]), %%ymm12\n vmovaps 32(%[w]), %%ymm13\n"
#define SCALE(s, lo, hi, o)                                                                        \
    "vcvtdq2ps %%ymm" #lo ", %%ymm" #lo "\n vcvtdq2ps %%ymm" #hi ", %%ymm" #hi "\n"                \
    "vbroadcastss " s ", %%ymm14\n"                                                                \
    "vmulps %%ymm14, %%ymm12, %%ymm15\n vmulps %%ymm14, %%ymm13, %%ymm14\n"                        \
    "vfmadd213ps " #o "(%[t]), %%ymm15, %%ymm" #lo "\n"                                            \
    "vfmadd213ps " #o "+32(%[t]), %%ymm14, %%ymm" #hi "\n"
/* acc = fma(m_w, s_x, acc) */
#define MINIMUM(s, lo, hi)                                                                         \
    "vbroadcastss 4" s ", %%ymm14\n"                                                               \
    "vfmadd231ps 64(%[w]), %%ymm14, %%ymm" #lo "\n"                                                \
    "vfmadd231ps 96(%[w]), %%ymm14, %%ymm" #hi "\n"
/* acc = fma(m_w * d_x, sum of sub_min * q_x, acc) */
#define SUB_MINIMUM(s, acc, at)                                                                    \
    "vpbroadcastd 12" s ", %%ymm14\n vpmaddwd 256+" #at "(%[w]), %%ymm14, %%ymm15\n"               \
    "vcvtdq2ps %%ymm15, %%ymm15\n vbroadcastss " s ", %%ymm14\n"                                   \
    "vmulps 64+" #at "(%[w]), %%ymm14, %%ymm14\n vfmadd231ps %%ymm15, %%ymm14, %%ymm" #acc "\n"
#define STORE(lo, hi, o)                                                                           \
    "vmovaps %%ymm" #lo ", " #o "(%[t])\n vmovaps %%ymm" #hi ", " #o "+32(%[t])\n"
#define PLAIN(k, kx, x, s, lo, hi, o) SCALE(s, lo, hi, o) STORE(lo, hi, o)
#define WITH_MINIMUM(k, kx, x, s, lo, hi, o) SCALE(s, lo, hi, o) MINIMUM(s, lo, hi) STORE(lo, hi, o)
#define WITH_SUB_MINIMUM(k, kx, x, s, lo, hi, o)                                                   \
    SCALE(s, lo, hi, o) SUB_MINIMUM(s, lo, 0) SUB_MINIMUM(s, hi, 32) STORE(lo, hi, o)

/* Sums of a whole block, of a half of it, of its lower and upper nibbles */
#define STEPS_1_TO_3(C, k1, k2, k3, x1, x2, x3) STEP(C, k1, x1) STEP(C, k2, x2) STEP(C, k3, x3)
#define WHOLE(C, SUM_EXCESS, RESTORED, FINISH)                                                     \
    STEP_FIRST(C, 0, 0)                                                                            \
    STEPS_1_TO_3(C, 1, 2, 3, 1, 2, 3)                                                              \
    STEP(C, 4, 4)                                                                                  \
    STEPS_1_TO_3(C, 5, 6, 7, 5, 6, 7)                                                              \
    C(SUM_EXCESS, 0, 0) ONES C(WIDEN, 0, 0) C(RESTORED, 0, 0) SCALES C(FINISH, 0, 0)
#define HALVES(C, LOW_EXCESS, HIGH_EXCESS, FINISH)                                                 \
    STEP_FIRST(C, 0, 0)                                                                            \
    STEPS_1_TO_3(C, 1, 2, 3, 1, 2, 3)                                                              \
    C(LOW_EXCESS, 0, 0)                                                                            \
    SUB_LOW C(WIDEN, 0, 0) C(KEEP, 0, 0) STEP_FIRST(C, 4, 4) STEPS_1_TO_3(C, 5, 6, 7, 5, 6, 7)     \
        C(HIGH_EXCESS, 0, 0) SUB_HIGH                                                              \
        C(WIDEN, 0, 0) C(ADD_KEPT, 0, 0) SCALES                                                    \
        C(FINISH, 0, 0)
#define NIBBLES(C)                                                                                 \
    STEP_FIRST(C, 0, 0)                                                                            \
    STEPS_1_TO_3(C, 1, 2, 3, 1, 2, 3)                                                              \
    STEP(C, 4, 4)                                                                                  \
    STEPS_1_TO_3(C, 5, 6, 7, 5, 6, 7)                                                              \
    ONES C(WIDEN, 0, 0) C(KEEP, 0, 0) STEP_FIRST(C, 8, 0) STEPS_1_TO_3(C, 9, 10, 11, 1, 2, 3)      \
        STEP(C, 12, 4) STEPS_1_TO_3(C, 13, 14, 15, 5, 6, 7) C(EXCESS, 0, 0) ONES SIXTEENS          \
        C(WIDEN, 0, 0) C(ADD_KEPT, 0, 0) SCALES                                                    \
        C(PLAIN, 0, 0)

static const int16_t ones16[16]
    __attribute__((aligned(32))) = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* tile: [6][16] sums, then the same once more for parts of them */
typedef void (*tile_fn)(const tile_at *from, float *tile);

#define TILE(name, n, BLOCK, block_bytes, record_bytes)                                            \
    static void name##_##n(const tile_at *from, float *tile)                                       \
    {                                                                                              \
        tile_at at = *from;                                                                        \
        __asm__ volatile(                                                                          \
            "1:\n" BLOCK "add %[size], %[q]\n add %[record], %[w]\n"                               \
            "add $32, %[x0]\n add $32, %[x3]\n add %[each], %[s0]\n add %[each], %[s3]\n"          \
            "dec %[blocks]\n jnz 1b\n"                                                             \
            : [q] "+r"(at.quants), [w] "+r"(at.weight_scales), [x0] "+r"(at.x0), [x3] "+r"(at.x3), \
              [s0] "+r"(at.s0), [s3] "+r"(at.s3), [blocks] "+r"(at.blocks)                         \
            : [xs] "r"(at.x_stride), [ss] "r"(at.scale_stride), [t] "r"(tile), [ones] "m"(ones16), \
              [size] "i"(block_bytes), [record] "i"(record_bytes),                                 \
              [each] "i"(sizeof(hob_cpu_scale))                                                    \
            : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
              "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");               \
    }
#define TILES(name, BLOCK, bytes, record)                                                          \
    TILE(name, 1, BLOCK(COLUMNS_1), bytes, record)                                                 \
    TILE(name, 2, BLOCK(COLUMNS_2), bytes, record)                                                 \
    TILE(name, 3, BLOCK(COLUMNS_3), bytes, record)                                                 \
    TILE(name, 4, BLOCK(COLUMNS_4), bytes, record)                                                 \
    TILE(name, 5, BLOCK(COLUMNS_5), bytes, record)                                                 \
    TILE(name, 6, BLOCK(COLUMNS_6), bytes, record)                                                 \
    static const tile_fn name[COLUMNS_MOST] = {name##_1, name##_2, name##_3,                       \
                                               name##_4, name##_5, name##_6};
#define CENTRED_BLOCK(C) WHOLE(C, EXCESS, NOTHING, PLAIN)
#define UNSIGNED_BLOCK(C) WHOLE(C, NOTHING, NOTHING, WITH_MINIMUM)
#define RESTORED_BLOCK(C) WHOLE(C, EXCESS, RESTORE, WITH_MINIMUM)
#define SUB_BLOCK(C) HALVES(C, EXCESS_LOW, EXCESS_HIGH, PLAIN)
#define SUB_MINIMUM_BLOCK(C) HALVES(C, NOTHING, NOTHING, WITH_SUB_MINIMUM)
TILES(centred, CENTRED_BLOCK, 512, 128)
TILES(plain, UNSIGNED_BLOCK, 512, 128)
TILES(restored, RESTORED_BLOCK, 512, 128)
TILES(sub, SUB_BLOCK, 512, 320)
TILES(sub_minimum, SUB_MINIMUM_BLOCK, 512, 320)
TILES(nibbles, NIBBLES, 1024, 128)

static const tile_fn *const tiles[HOB_KINDS] = {
    [HOB_KIND_Q4_0] = centred,  [HOB_KIND_Q4_1] = plain,     [HOB_KIND_Q5_0] = centred,
    [HOB_KIND_Q5_1] = restored, [HOB_KIND_Q8_0] = nibbles,   [HOB_KIND_Q2_K] = sub_minimum,
    [HOB_KIND_Q3_K] = sub,      [HOB_KIND_Q4_K] = plain,     [HOB_KIND_Q5_K] = restored,
    [HOB_KIND_Q6_K] = sub,      [HOB_KIND_IQ4_NL] = nibbles, [HOB_KIND_IQ4_XS] = nibbles,
};

/* Unsigned codes of step j of a block, rows 8 h .. 8 h + 7, from the block's planes; t and j are constants. */
INLINE __m256i codes_at(traits t, const uint8_t *low, const uint8_t *high, int j, int h)
{
    __m256i v;

    if (t.low_bits == 8)
        return _mm256_load_si256((const __m256i *)(low + 64 * j + 32 * h));
    if (t.low_bits == 4) {
        v = _mm256_load_si256((const __m256i *)(low + 64 * (j % 4) + 32 * h));
        v = _mm256_and_si256(j < 4 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    } else {
        v = _mm256_load_si256((const __m256i *)(low + 64 * (j / 4) + 32 * h));
        v = _mm256_and_si256(_mm256_srli_epi16(v, 2 * (j % 4)), _mm256_set1_epi8(3));
    }
    if (t.high_bits) {
        /* the plane's bits move to low_bits and above */
        int at = t.high_bits == 1 ? j : 2 * (j % 4), to = (int)t.low_bits;
        __m256i top = _mm256_load_si256(
            (const __m256i *)(high + (t.high_bits == 1 ? 0 : 64 * (j / 4)) + 32 * h));
        top = at > to ? _mm256_srli_epi16(top, at - to) : _mm256_slli_epi16(top, to - at);
        char mask = (char)((t.high_bits == 1 ? 1 : 3) << to);
        v = _mm256_or_si256(v, _mm256_and_si256(top, _mm256_set1_epi8(mask)));
    }
    return v;
}

INLINE __m256i iq4_values(__m256i codes)
{
    return _mm256_shuffle_epi8(
        _mm256_broadcastsi128_si256(_mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13,
                                                  25, 38, 53, 69, 89, 113)),
        codes);
}

INLINE __m256i load_i8x8(const uint8_t *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

/* Two numbers of 16 bits in each lane. */
INLINE __m256i pair16(__m256i low, __m256i high)
{
    return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa);
}

/* The scales of block b, rows 8 h .. 8 h + 7, as kernels.h defines them. */
typedef struct scales8 {
    __m256 d, m;
    __m256i sub[2]; /* group 16: of weights 0 .. 15 and 16 .. 31 */
    __m256i sub_min[2];
} scales8;

INLINE scales8 scales_at(traits t, const hob_panels *w, const uint8_t *panel, uint32_t b, int h)
{
    const size_t super = (size_t)(b >> (t.group ? 3 : 0)) * 16 + 8 * (size_t)h;
    scales8 s = {.d = load_half8((const uint16_t *)(panel + w->d_at) + super)};
    s.m = s.d;
    if (t.minimum)
        s.m = load_half8((const uint16_t *)(panel + w->m_at) + super);
    if (t.group == 32) {
        const size_t at = (size_t)b * 16 + 8 * (size_t)h;
        s.d = _mm256_mul_ps(s.d, _mm256_cvtepi32_ps(load_i8x8(panel + w->sub_at + at)));
        if (t.minimum)
            s.m = _mm256_mul_ps(s.m, _mm256_cvtepi32_ps(load_i8x8(panel + w->sub_min_at + at)));
    }
    if (t.minimum && t.group)
        s.m = _mm256_xor_ps(s.m, _mm256_set1_ps(-0.0f));
    for (uint32_t i = 0; t.group == 16 && i < 2; i++) {
        s.sub[i] = load_i8x8(panel + w->sub_at + ((size_t)b * 2 + i) * 16 + 8 * (size_t)h);
        if (t.minimum) { /* both in one byte */
            s.sub_min[i] = _mm256_and_si256(_mm256_srli_epi32(s.sub[i], 4), _mm256_set1_epi32(15));
            s.sub[i] = _mm256_and_si256(s.sub[i], _mm256_set1_epi32(15));
        }
    }
    return s;
}

/* A panel's blocks as the tiles want them: codes to bytes, around 16 or 32 where the type's are signed, 8-bit ones as
 * lower nibbles [8][16][4] and upper nibbles + 8; scales to records. */
INLINE void unpack_panel(hob_kind kind, const hob_panels *w, const uint8_t *panel, uint8_t *bytes,
                         float *record)
{
    const traits t = traits_of(kind);
    const uint8_t *low = panel, *high = panel + w->high_at;
    const bool eight = t.low_bits == 8 || t.table;
    const int shift = t.offset ? (t.group == 16 ? HALF_CENTRE : CENTRE) - (int)t.offset : 0;

    for (uint32_t b = 0; b < w->blocks; b++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) {
                __m256i v = codes_at(t, low, high, j, h),
                        *to = (__m256i *)(bytes + 64 * j + 32 * h);
                if (t.table)
                    v = iq4_values(v);
                if (eight) {
                    const __m256i nibble = _mm256_set1_epi8(15);
                    v = _mm256_xor_si256(v, _mm256_set1_epi8(-128));
                    _mm256_store_si256(
                        to + 16, _mm256_add_epi8(_mm256_and_si256(_mm256_srli_epi16(v, 4), nibble),
                                                 _mm256_set1_epi8(CENTRE - 8)));
                    v = _mm256_and_si256(v, nibble);
                } else if (shift) {
                    v = _mm256_add_epi8(v, _mm256_set1_epi8((char)shift));
                }
                _mm256_store_si256(to, v);
            }
            const scales8 s = scales_at(t, w, panel, b, h);
            _mm256_store_ps(record + 8 * h, s.d);
            if (t.minimum)
                _mm256_store_ps(record + 16 + 8 * h, s.m);
            if (t.group == 16) {
                __m256i *to = (__m256i *)(record + 32 + 8 * h);
                _mm256_store_si256(to, pair16(s.sub[0], s.sub[0]));
                _mm256_store_si256(to + 2, pair16(s.sub[1], s.sub[1]));
                if (t.minimum)
                    _mm256_store_si256(to + 4, pair16(s.sub_min[0], s.sub_min[1]));
            }
        }
        bytes += eight ? 1024 : 512;
        record += record_floats(t);
        low += 64 * (size_t)t.low_bits;
        high += 64 * (size_t)t.high_bits;
    }
}

/* With few tiles to a panel memory is waited for: each fetches its part of the next panel, a piece with every
 * FETCH_BLOCKS blocks. */
static void tile_and_fetch(tile_fn compute, tile_at at, size_t block_bytes, size_t record_bytes,
                           const uint8_t *next, size_t next_bytes, float *tile)
{
    const size_t all = at.blocks;
    size_t fetched = 0;

    for (size_t b = 0; b < all; b += at.blocks) {
        at.blocks = all - b < FETCH_BLOCKS ? all - b : FETCH_BLOCKS;
        for (; fetched < (b + at.blocks) * next_bytes / all; fetched += 64)
            _mm_prefetch((const char *)next + fetched, _MM_HINT_T1);
        compute(&at, tile);
        at.quants += at.blocks * block_bytes;
        at.weight_scales += at.blocks * record_bytes / sizeof *at.weight_scales;
        at.x0 += at.blocks * HOB_QUANT_BLOCK;
        at.x3 += at.blocks * HOB_QUANT_BLOCK;
        at.s0 += at.blocks;
        at.s3 += at.blocks;
    }
}

/* Tiles over all columns, as even in width as can be. kind is a constant at each call. */
INLINE void linear_tiles(hob_kind kind, const hob_panels *w, const hob_cpu_input *x,
                         const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count,
                         void *scratch)
{
    const uint32_t groups = (x->rows + COLUMNS_MOST - 1) / COLUMNS_MOST;
    const traits t = traits_of(kind);
    const size_t record_bytes = record_floats(t) * sizeof(float),
                 block_bytes = t.low_bits == 8 || t.table ? 1024 : 512;
    float *scales = scratch;
    uint8_t *bytes = (uint8_t *)scratch + w->blocks * record_bytes;
    tile_at at = {.quants = bytes,
                  .weight_scales = scales,
                  .x_stride = x->q_stride,
                  .scale_stride = x->scale_stride * sizeof(hob_cpu_scale),
                  .blocks = w->blocks};

    for (uint32_t panel = first_panel, end = first_panel + panel_count; panel < end; panel++) {
        const uint8_t *next = w->data + hob_cpu_next_panel(x, panel + 1, end) * w->panel_bytes;
        unpack_panel(kind, w, w->data + panel * w->panel_bytes, bytes, scales);
        for (uint32_t g = 0, column = 0, n; g < groups; g++, column += n) {
            const uint32_t left = x->rows - column;
            float tile[2 * COLUMNS_MOST * 16] __attribute__((aligned(64)));
            n = left / (groups - g) + (left % (groups - g) != 0);
            at.x0 = x->q + column * x->q_stride;
            at.x3 = at.x0 + 3 * x->q_stride;
            at.s0 = x->scales + column * x->scale_stride;
            at.s3 = at.s0 + 3 * x->scale_stride;
            for (uint32_t c = 0; c < n; c++) /* written last; in the cache by then */
                __builtin_prefetch(
                    out->y + (column + c) * out->stride + (size_t)panel * HOB_PANEL_ROWS, 1);
            memset(tile, 0, n * 16 * sizeof *tile);
            if (groups <= FETCH_GROUPS)
                tile_and_fetch(tiles[kind][n - 1], at, block_bytes, record_bytes,
                               next + g * w->panel_bytes / groups, w->panel_bytes / groups, tile);
            else
                tiles[kind][n - 1](&at, tile);
            hob_store_tile(w, out, panel, column, n, tile);
        }
    }
}

/* Products whose pairs may be added in 16 bits before they are widened. */
INLINE int steps_in_16_bits(traits t)
{
    const uint32_t bits = t.low_bits + t.high_bits;
    if (t.table || bits == 8)
        return 1;
    if (t.group == 16)
        return bits == 6 ? 2 : 4;
    return bits == 4 ? 8 : 4;
}

/* Few columns, one after another: codes are unpacked on their way into the multiplier. A panel's planes are several short streams, too short
 * for the processor to see them coming: each block fetches its share of the next panel, as far as the second level, since a
 * panel and its successor are too much for the first. kind is a constant at each call. */
INLINE void linear_few(hob_kind kind, const hob_panels *w, const hob_cpu_input *x,
                       const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count)
{
    const traits t = traits_of(kind);
    const int run = steps_in_16_bits(t);
    const __m256i ones = _mm256_set1_epi16(1);
    const size_t low_bytes = 64 * (size_t)t.low_bits, high_bytes = 64 * (size_t)t.high_bits,
                 block_bytes = w->panel_bytes / w->blocks;
    const uint32_t end = first_panel + panel_count;

    for (uint32_t i = 0; i < panel_count * x->rows; i++) {
        const uint32_t panel = first_panel + i / x->rows, column = i % x->rows;
        const uint8_t *data = w->data + panel * w->panel_bytes, *low = data,
                      *high = data + w->high_at,
                      *next = w->data + hob_cpu_next_panel(x, panel + 1, end) * w->panel_bytes;
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        size_t ahead = column ? w->panel_bytes : 0;
        for (uint32_t b = 0; b < w->blocks; b++, low += low_bytes, high += high_bytes) {
            const int8_t *q = x->q + column * x->q_stride + b * 32;
            const hob_cpu_scale *s_x = x->scales + column * x->scale_stride + b;
            for (; ahead < (b + 1) * block_bytes; ahead += 64)
                _mm_prefetch((const char *)next + ahead, _MM_HINT_T1);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const scales8 s = scales_at(t, w, data, b, h);
                __m256i sum = _mm256_setzero_si256(), narrow = sum;
#pragma GCC unroll 8
                for (int j = 0; j < 8; j++) {
                    __m256i v = codes_at(t, low, high, j, h), p = broadcast4(q + 4 * j);
                    if (t.table)
                        v = iq4_values(v);
                    if (t.table || t.low_bits == 8)
                        p = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(p, v));
                    else
                        p = _mm256_maddubs_epi16(v, p);
                    narrow = j % run ? _mm256_add_epi16(narrow, p) : p;
                    if (j % run == run - 1) {
                        __m256i widen = t.group == 16 ? pair16(s.sub[j / 4], s.sub[j / 4]) : ones;
                        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, widen));
                    }
                }
                if (t.offset) {
                    __m256i shift = _mm256_set1_epi32((int)t.offset * s_x->sum);
                    if (t.group == 16) {
                        int32_t halves;
                        memcpy(&halves, s_x->half, sizeof halves);
                        shift = _mm256_mullo_epi32(_mm256_madd_epi16(pair16(s.sub[0], s.sub[1]),
                                                                     _mm256_set1_epi32(halves)),
                                                   _mm256_set1_epi32((int)t.offset));
                    }
                    sum = _mm256_sub_epi32(sum, shift);
                }
                acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(s.d, _mm256_set1_ps(s_x->d)),
                                         _mm256_cvtepi32_ps(sum), acc[h]);
                if (t.minimum && t.group == 16) {
                    int32_t halves;
                    memcpy(&halves, s_x->half, sizeof halves);
                    __m256i low_part = _mm256_madd_epi16(pair16(s.sub_min[0], s.sub_min[1]),
                                                         _mm256_set1_epi32(halves));
                    acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(s.m, _mm256_set1_ps(s_x->d)),
                                             _mm256_cvtepi32_ps(low_part), acc[h]);
                } else if (t.minimum) {
                    acc[h] = _mm256_fmadd_ps(s.m, _mm256_set1_ps(s_x->s), acc[h]);
                }
            }
        }
        float tile[16] __attribute__((aligned(64)));
        _mm256_store_ps(tile, acc[0]);
        _mm256_store_ps(tile + 8, acc[1]);
        hob_store_tile(w, out, panel, column, 1, tile);
    }
}

#define LINEAR(name, kind)                                                                         \
    static void linear_##name(const hob_panels *w, const hob_cpu_input *x,                         \
                              const hob_cpu_output *out, uint32_t first_panel,                     \
                              uint32_t panel_count, void *scratch)                                 \
    {                                                                                              \
        if (x->rows <= FEW_COLUMNS)                                                                \
            linear_few(HOB_KIND_##kind, w, x, out, first_panel, panel_count);                      \
        else                                                                                       \
            linear_tiles(HOB_KIND_##kind, w, x, out, first_panel, panel_count, scratch);           \
    }
HOB_QUANTIZED_TYPES(LINEAR)

/* n is a constant at each call, so that the accumulators live in registers. */
static inline __attribute__((always_inline)) void float_tile(const hob_panels *w,
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
        if (w->kind == HOB_KIND_F32) {
            w0 = _mm256_load_ps((const float *)(panel + (size_t)k * 64));
            w1 = _mm256_load_ps((const float *)(panel + (size_t)k * 64 + 32));
        } else if (w->kind == HOB_KIND_BF16) {
            w0 = load_bf16x8((const uint16_t *)(panel + (size_t)k * 32));
            w1 = load_bf16x8((const uint16_t *)(panel + (size_t)k * 32 + 16));
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

static void linear_float(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
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

#define ROW(name, kind) [HOB_KIND_##kind] = linear_##name,
const hob_cpu_linear_fn hob_cpu_linear_avx2[HOB_KINDS] = {
    HOB_QUANTIZED_TYPES(ROW)[HOB_KIND_F16] = linear_float,
    [HOB_KIND_BF16] = linear_float,
    [HOB_KIND_F32] = linear_float,
};
