/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX-512 VNNI tier. vpdpbusd multiplies unsigned weights with signed activations and widens at once. A tile is two
 * panels (32 rows) by up to 6 columns: its integer and float accumulators, 24 vectors, stay in registers. Q4_0's -8 and
 * Q8_0's sign (quants are made unsigned by adding 128) are exact: accumulators begin at -8 or -128 times the sum of the
 * activations' quants. Up to 6 columns unpack nibbles as they go; more share panels unpacked to bytes once. */
#include "hal/cpu/linear_avx2.h"
#include "hal/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

enum { COLUMNS = 6 };

typedef struct panel_at {
    const uint8_t *quants; /* as in the panel, or unpacked to bytes [blocks][8][16][4] */
    const uint16_t *d, *m; /* in the panel */
    const float *scales;   /* unpacked [blocks][d16, m16] */
} panel_at;

static inline __m512 load_half16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* kind, panels (1 or 2), n (columns) and packed are constants at each call. */
INLINE void tile_of(hob_cpu_kind kind, uint32_t panels, uint32_t n, bool packed, const panel_at *at,
                    uint32_t blocks, const int8_t *x, size_t x_stride, const hob_cpu_scale *scales,
                    size_t scale_stride, float tile[2][COLUMNS * 16])
{
    const __m512i mask = _mm512_set1_epi8(15), sign = _mm512_set1_epi8((char)0x80);
    const bool nibbles = packed && kind != HOB_CPU_Q8_0;
    const size_t quant_bytes = nibbles ? 256 : 512;
    const uint32_t steps = nibbles ? 4 : 8;
    __m512 acc[COLUMNS][2];

#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++)
        acc[c][0] = acc[c][1] = _mm512_setzero_ps();
    for (uint32_t b = 0; b < blocks; b++) {
        __m512i sum[COLUMNS][2];
        for (uint32_t p = 0; packed && p < panels; p++)
            for (size_t byte = 0; byte < quant_bytes; byte += 64)
                _mm_prefetch((const char *)at[p].quants + b * quant_bytes + 2048 + byte,
                             _MM_HINT_T0);
#pragma GCC unroll 6
        for (uint32_t c = 0; c < n; c++) {
            int32_t total = scales[c * scale_stride + b].sum;
            sum[c][0] = sum[c][1] =
                kind == HOB_CPU_Q4_1
                    ? _mm512_setzero_si512()
                    : _mm512_set1_epi32(kind == HOB_CPU_Q4_0 ? -8 * total : -128 * total);
        }
#pragma GCC unroll 8
        for (uint32_t j = 0; j < steps; j++) {
            __m512i low[2], high[2];
#pragma GCC unroll 2
            for (uint32_t p = 0; p < panels; p++) {
                low[p] = _mm512_loadu_si512(at[p].quants + b * quant_bytes + 64 * j);
                if (nibbles) {
                    high[p] = _mm512_and_si512(_mm512_srli_epi16(low[p], 4), mask);
                    low[p] = _mm512_and_si512(low[p], mask);
                } else if (kind == HOB_CPU_Q8_0) {
                    low[p] = _mm512_xor_si512(low[p], sign);
                }
            }
#pragma GCC unroll 6
            for (uint32_t c = 0; c < n; c++) {
                int32_t four;
                memcpy(&four, x + c * x_stride + b * 32 + 4 * j, 4);
                __m512i v = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                for (uint32_t p = 0; p < panels; p++)
                    sum[c][p] = _mm512_dpbusd_epi32(sum[c][p], low[p], v);
                if (nibbles) {
                    memcpy(&four, x + c * x_stride + b * 32 + 16 + 4 * j, 4);
                    v = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                    for (uint32_t p = 0; p < panels; p++)
                        sum[c][p] = _mm512_dpbusd_epi32(sum[c][p], high[p], v);
                }
            }
        }
#pragma GCC unroll 2
        for (uint32_t p = 0; p < panels; p++) {
            __m512 d = packed ? load_half16(at[p].d + b * 16)
                              : _mm512_loadu_ps(at[p].scales + b * 32),
                   m = d;
            if (kind == HOB_CPU_Q4_1)
                m = packed ? load_half16(at[p].m + b * 16)
                           : _mm512_loadu_ps(at[p].scales + b * 32 + 16);
#pragma GCC unroll 6
            for (uint32_t c = 0; c < n; c++) {
                const hob_cpu_scale *s = scales + c * scale_stride + b;
                acc[c][p] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(s->d)),
                                            _mm512_cvtepi32_ps(sum[c][p]), acc[c][p]);
                if (kind == HOB_CPU_Q4_1)
                    acc[c][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(s->s), acc[c][p]);
            }
        }
    }
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 2
        for (uint32_t p = 0; p < panels; p++)
            _mm512_storeu_ps(tile[p] + 16 * c, acc[c][p]);
}

typedef void (*tile_fn)(const panel_at *at, uint32_t blocks, const int8_t *x, size_t x_stride,
                        const hob_cpu_scale *scales, size_t scale_stride,
                        float tile[2][COLUMNS * 16]);

#define TILE(name, kind, panels, n, packed)                                                        \
    static void name##_##panels##_##n(const panel_at *at, uint32_t blocks, const int8_t *x,        \
                                      size_t x_stride, const hob_cpu_scale *scales,                \
                                      size_t scale_stride, float tile[2][COLUMNS * 16])            \
    {                                                                                              \
        tile_of(kind, panels, n, packed, at, blocks, x, x_stride, scales, scale_stride, tile);     \
    }
/* clang-format off */
#define TILES(name, kind, packed) \
    TILE(name, kind, 1, 1, packed) \
    TILE(name, kind, 1, 2, packed) \
    TILE(name, kind, 1, 3, packed) \
    TILE(name, kind, 1, 4, packed) \
    TILE(name, kind, 1, 5, packed) \
    TILE(name, kind, 1, 6, packed) \
    TILE(name, kind, 2, 1, packed) \
    TILE(name, kind, 2, 2, packed) \
    TILE(name, kind, 2, 3, packed) \
    TILE(name, kind, 2, 4, packed) \
    TILE(name, kind, 2, 5, packed) \
    TILE(name, kind, 2, 6, packed) \
    static const tile_fn name[2][COLUMNS] = { \
        {name##_1_1, name##_1_2, name##_1_3, name##_1_4, name##_1_5, name##_1_6}, \
        {name##_2_1, name##_2_2, name##_2_3, name##_2_4, name##_2_5, name##_2_6}, \
    };
/* clang-format on */
TILES(q4_0_packed, HOB_CPU_Q4_0, true)
TILES(q4_1_packed, HOB_CPU_Q4_1, true)
TILES(q8_0_packed, HOB_CPU_Q8_0, true)
TILES(q4_0_bytes, HOB_CPU_Q4_0, false)
TILES(q4_1_bytes, HOB_CPU_Q4_1, false)
TILES(q8_0_bytes, HOB_CPU_Q8_0, false)

static const tile_fn (*const tiles[][2])[COLUMNS] = {
    [HOB_CPU_Q4_0] = {q4_0_bytes, q4_0_packed},
    [HOB_CPU_Q4_1] = {q4_1_bytes, q4_1_packed},
    [HOB_CPU_Q8_0] = {q8_0_bytes, q8_0_packed},
};

static void unpack(const hob_cpu_matrix *w, panel_at *at, float *scales, uint8_t *bytes)
{
    const __m512i mask = _mm512_set1_epi8(15);

    for (uint32_t b = 0; b < w->blocks; b++) {
        _mm512_storeu_ps(scales + b * 32, load_half16(at->d + b * 16));
        if (w->kind == HOB_CPU_Q4_1)
            _mm512_storeu_ps(scales + b * 32 + 16, load_half16(at->m + b * 16));
    }
    at->scales = scales;
    if (w->kind == HOB_CPU_Q8_0)
        return;
    for (uint32_t b = 0; b < w->blocks; b++)
        for (uint32_t j = 0; j < 4; j++) {
            __m512i v = _mm512_loadu_si512(at->quants + b * 256 + 64 * j);
            _mm512_storeu_si512(bytes + b * 512 + 64 * j, _mm512_and_si512(v, mask));
            _mm512_storeu_si512(bytes + b * 512 + 256 + 64 * j,
                                _mm512_and_si512(_mm512_srli_epi16(v, 4), mask));
        }
    at->quants = bytes;
}

static void linear_quantized(const hob_cpu_matrix *w, const hob_cpu_input *x,
                             const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count,
                             void *scratch)
{
    const bool packed = x->rows <= COLUMNS;
    uint32_t groups = (x->rows + COLUMNS - 1) / COLUMNS;
    float tile[2][COLUMNS * 16] __attribute__((aligned(64)));

    for (uint32_t panel = first_panel, end = first_panel + panel_count, count; panel < end;
         panel += count) {
        panel_at at[2];
        count = end - panel < 2 ? 1 : 2;
        for (uint32_t p = 0; p < count; p++) {
            const uint8_t *data = w->data + (panel + p) * w->panel_bytes;
            at[p].quants = data;
            at[p].d = (const uint16_t *)(data + w->blocks * hob_cpu_quant_bytes(w->kind));
            at[p].m = at[p].d + (size_t)w->blocks * 16;
            at[p].scales = NULL;
            uint8_t *memory = (uint8_t *)scratch + p * (size_t)w->blocks * (128 + 512);
            if (!packed)
                unpack(w, &at[p], (float *)(memory + (size_t)w->blocks * 512), memory);
        }
        for (uint32_t g = 0, column = 0; g < groups; g++) {
            uint32_t left = x->rows - column, n = left / (groups - g) + (left % (groups - g) != 0);
            tiles[w->kind][packed][count - 1][n - 1](
                at, w->blocks, x->q + column * x->q_stride, x->q_stride,
                x->scales + column * x->scale_stride, x->scale_stride, tile);
            for (uint32_t p = 0; p < count; p++)
                hob_store_tile(w, out, panel + p, column, n, tile[p]);
            column += n;
        }
    }
}

INLINE void float_tile(hob_cpu_kind kind, const hob_cpu_matrix *w, const uint8_t *panel,
                       const float *x, size_t x_stride, uint32_t n, float *tile)
{
    __m512 acc[12];

#pragma GCC unroll 12
    for (uint32_t c = 0; c < n; c++)
        acc[c] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < w->cols; k++) {
        __m512 v = kind == HOB_CPU_F32 ? _mm512_loadu_ps((const float *)(panel + (size_t)k * 64))
                                       : load_half16((const uint16_t *)(panel + (size_t)k * 32));
#pragma GCC unroll 12
        for (uint32_t c = 0; c < n; c++)
            acc[c] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[c * x_stride + k]), acc[c]);
    }
#pragma GCC unroll 12
    for (uint32_t c = 0; c < n; c++)
        _mm512_store_ps(tile + 16 * c, acc[c]);
}

INLINE void linear_float(hob_cpu_kind kind, const hob_cpu_matrix *w, const hob_cpu_input *x,
                         const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count)
{
    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        for (uint32_t column = 0, n; column < x->rows; column += n) {
            const float *f = x->f32 + column * x->f32_stride;
            float tile[12 * 16] __attribute__((aligned(64)));
            n = x->rows - column >= 12 ? 12 : x->rows - column >= 4 ? 4 : 1;
            if (n == 12)
                float_tile(kind, w, data, f, x->f32_stride, 12, tile);
            else if (n == 4)
                float_tile(kind, w, data, f, x->f32_stride, 4, tile);
            else
                float_tile(kind, w, data, f, x->f32_stride, 1, tile);
            hob_store_tile(w, out, panel, column, n, tile);
        }
    }
}

static void linear_f16(const hob_cpu_matrix *w, const hob_cpu_input *x, const hob_cpu_output *out,
                       uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    linear_float(HOB_CPU_F16, w, x, out, first_panel, panel_count);
}

static void linear_f32(const hob_cpu_matrix *w, const hob_cpu_input *x, const hob_cpu_output *out,
                       uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    linear_float(HOB_CPU_F32, w, x, out, first_panel, panel_count);
}

INLINE __m512 exp16(__m512 x)
{
    const __m512 magic = _mm512_set1_ps(HOB_EXP_MAGIC);
    x = _mm512_max_ps(_mm512_set1_ps(HOB_EXP_LOW), x);
    x = _mm512_min_ps(_mm512_set1_ps(HOB_EXP_HIGH), x);
    __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(HOB_EXP_LOG2E), magic),
           n = _mm512_sub_ps(t, magic);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-HOB_EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-HOB_EXP_LN2_LOW), r);
    __m512 p = _mm512_set1_ps(HOB_EXP_C7);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HOB_EXP_C6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HOB_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HOB_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HOB_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HOB_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    __m512i power =
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127)), 23);
    return _mm512_mul_ps(p, _mm512_castsi512_ps(power));
}

static inline float reduce16(__m512 v)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE void scores_of(const float *q, size_t q_stride, uint32_t n, const float *k,
                      uint32_t head_dim, float *s)
{
    __m512 acc[12][2];

#pragma GCC unroll 12
    for (uint32_t i = 0; i < n; i++)
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (uint32_t j = 0; j < head_dim; j++, k += 32) {
        __m512 k0 = _mm512_loadu_ps(k), k1 = _mm512_loadu_ps(k + 16);
#pragma GCC unroll 12
        for (uint32_t i = 0; i < n; i++) {
            __m512 v = _mm512_set1_ps(q[i * q_stride + j]);
            acc[i][0] = _mm512_fmadd_ps(v, k0, acc[i][0]);
            acc[i][1] = _mm512_fmadd_ps(v, k1, acc[i][1]);
        }
    }
#pragma GCC unroll 12
    for (uint32_t i = 0; i < n; i++) {
        _mm512_storeu_ps(s + i * 32, acc[i][0]);
        _mm512_storeu_ps(s + i * 32 + 16, acc[i][1]);
    }
}

static void attend_scores(const float *q, size_t q_stride, uint32_t n, const float *k,
                          uint32_t head_dim, float *s)
{
    for (; n >= 12; n -= 12, q += 12 * q_stride, s += 12 * 32)
        scores_of(q, q_stride, 12, k, head_dim, s);
    for (; n >= 3; n -= 3, q += 3 * q_stride, s += 3 * 32)
        scores_of(q, q_stride, 3, k, head_dim, s);
    for (; n; n--, q += q_stride, s += 32)
        scores_of(q, q_stride, 1, k, head_dim, s);
}

static float attend_softmax(float *s, uint32_t lo, uint32_t hi, float state[2])
{
    uint32_t inside = (hi < 32 ? (1u << hi) - 1 : ~0u) & (lo < 32 ? ~0u << lo : 0);
    __mmask16 in0 = (__mmask16)inside, in1 = (__mmask16)(inside >> 16);
    __m512 v0 = _mm512_loadu_ps(s), v1 = _mm512_loadu_ps(s + 16), most16 = _mm512_set1_ps(state[0]);

    most16 =
        _mm512_mask_max_ps(most16, in0, v0, most16); /* the second operand when the first is NaN */
    most16 = _mm512_mask_max_ps(most16, in1, v1, most16);
    __m256 most8 = _mm256_max_ps(_mm512_castps512_ps256(most16), _mm512_extractf32x8_ps(most16, 1));
    __m128 most4 = _mm_max_ps(_mm256_castps256_ps128(most8), _mm256_extractf128_ps(most8, 1));
    most4 = _mm_max_ps(most4, _mm_movehl_ps(most4, most4));
    float most = _mm_cvtss_f32(_mm_max_ss(most4, _mm_movehdup_ps(most4)));
    v0 = _mm512_maskz_mov_ps(in0, exp16(_mm512_sub_ps(v0, _mm512_set1_ps(most))));
    v1 = _mm512_maskz_mov_ps(in1, exp16(_mm512_sub_ps(v1, _mm512_set1_ps(most))));
    _mm512_storeu_ps(s, v0);
    _mm512_storeu_ps(s + 16, v1);
    float scale = hob_exp(state[0] - most);
    state[0] = most;
    state[1] = fmaf(state[1], scale, reduce16(_mm512_add_ps(v0, v1)));
    return scale;
}

INLINE void values_of(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                      const float *v, uint32_t width, uint32_t vectors, float *o)
{
    __m512 acc[6][4];

#pragma GCC unroll 6
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            acc[i][j] =
                _mm512_mul_ps(_mm512_loadu_ps(o + i * width + 16 * j), _mm512_set1_ps(scale[i]));
    for (uint32_t p = lo; p < hi; p++) {
        __m512 row[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            row[j] = _mm512_loadu_ps(v + p * width + 16 * j);
#pragma GCC unroll 6
        for (uint32_t i = 0; i < n; i++) {
            __m512 weight = _mm512_set1_ps(s[i * 32 + p]);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < vectors; j++)
                acc[i][j] = _mm512_fmadd_ps(weight, row[j], acc[i][j]);
        }
    }
#pragma GCC unroll 6
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            _mm512_storeu_ps(o + i * width + 16 * j, acc[i][j]);
}

INLINE void values_wide(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                        const float *v, uint32_t width, float *o)
{
    uint32_t j = 0;
    for (; j + 64 <= width; j += 64)
        values_of(s, scale, n, lo, hi, v + j, width, 4, o + j);
    for (; j < width; j += 16)
        values_of(s, scale, n, lo, hi, v + j, width, 1, o + j);
}

static void attend_values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                          const float *v, uint32_t width, float *o)
{
    for (; n >= 6; n -= 6, s += 6 * 32, scale += 6, o += 6 * width)
        values_wide(s, scale, 6, lo, hi, v, width, o);
    for (; n >= 3; n -= 3, s += 3 * 32, scale += 3, o += 3 * width)
        values_wide(s, scale, 3, lo, hi, v, width, o);
    for (; n; n--, s += 32, scale++, o += width)
        values_wide(s, scale, 1, lo, hi, v, width, o);
}

static void gate(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xffff;
        __m512 v = _mm512_maskz_loadu_ps(mask, g + i), z = v;
        if (kind == HOB_GATE_GELU_TANH)
            z = _mm512_mul_ps(z,
                              _mm512_fmadd_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(HOB_GELU_CUBIC),
                                              _mm512_set1_ps(HOB_GELU_LINEAR)));
        z = _mm512_xor_ps(z, _mm512_set1_ps(-0.0f));
        v = _mm512_mul_ps(_mm512_div_ps(v, _mm512_add_ps(one, exp16(z))),
                          _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(out + i, mask, v);
    }
}

static float exp_sum(const float *x, size_t n, float scale, float shift)
{
    const __m512 scale16 = _mm512_set1_ps(scale), shift16 = _mm512_set1_ps(shift);
    __m512 sum = _mm512_setzero_ps();
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        sum = _mm512_add_ps(sum, exp16(_mm512_fmsub_ps(_mm512_loadu_ps(x + i), scale16, shift16)));
    if (i < n) {
        __mmask16 mask = (__mmask16)((1u << (n - i)) - 1);
        sum = _mm512_mask_add_ps(
            sum, mask, sum,
            exp16(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(mask, x + i), scale16, shift16)));
    }
    return reduce16(sum);
}

static void from_half(const uint16_t *x, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(y + i, load_half16(x + i));
    for (; i < n; i++)
        y[i] = hob_half_to_float(x[i]);
}

void hob_cpu_fill_avx512vnni(hob_cpu_kernels *k)
{
    k->isa = "avx512vnni";
    k->linear[HOB_CPU_Q4_0] = k->linear[HOB_CPU_Q4_1] = k->linear[HOB_CPU_Q8_0] = linear_quantized;
    k->linear[HOB_CPU_F16] = linear_f16;
    k->linear[HOB_CPU_F32] = linear_f32;
    k->attend_scores = attend_scores;
    k->attend_softmax = attend_softmax;
    k->attend_values = attend_values;
    k->gate = gate;
    k->exp_sum = exp_sum;
    k->from_half = from_half;
}
