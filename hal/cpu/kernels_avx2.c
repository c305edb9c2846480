/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX2 tier apart from its linears: norm, quantization, rotation, gates, half conversion, attention, logits. The 16
 * virtual accumulators of a reduction are two vectors; tails are loaded with zeros, which add nothing. */
#include "hal/cpu/linear_avx2.h"
#include "hal/cpu/math.h"

static const int32_t tail_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

static inline __m256i tail_mask(size_t count) /* 0 .. 8 lanes */
{
    return _mm256_loadu_si256((const __m256i *)(tail_masks + 8 - count));
}

static inline size_t at_most_8(size_t n)
{
    return n < 8 ? n : 8;
}

static inline float reduce16(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline __m256 exp8(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(HOB_EXP_MAGIC);
    x = _mm256_max_ps(_mm256_set1_ps(HOB_EXP_LOW), x);
    x = _mm256_min_ps(_mm256_set1_ps(HOB_EXP_HIGH), x);
    __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(HOB_EXP_LOG2E), magic),
           n = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-HOB_EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-HOB_EXP_LN2_LOW), r);
    __m256 p = _mm256_set1_ps(HOB_EXP_C7);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HOB_EXP_C6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HOB_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HOB_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HOB_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HOB_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

static void rms_norm(const float *x, const float *w, float eps, float *y, uint32_t n)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    uint32_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    if (i < n) {
        size_t left = n - i;
        __m256 a = _mm256_maskload_ps(x + i, tail_mask(at_most_8(left)));
        low = _mm256_fmadd_ps(a, a, low);
        if (left > 8) {
            __m256 b = _mm256_maskload_ps(x + i + 8, tail_mask(left - 8));
            high = _mm256_fmadd_ps(b, b, high);
        }
    }
    __m256 scale = _mm256_set1_ps(1.0f / sqrtf(reduce16(low, high) / (float)n + eps));
    for (i = 0; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), scale),
                                              _mm256_loadu_ps(w + i)));
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 v = _mm256_mul_ps(_mm256_mul_ps(_mm256_maskload_ps(x + i, mask), scale),
                                 _mm256_maskload_ps(w + i, mask));
        _mm256_maskstore_ps(y + i, mask, v);
    }
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    const uint32_t whole = n / 16 * 16, left = n - whole;
    const __m256i low_mask = tail_mask(at_most_8(left)),
                  high_mask = tail_mask(left > 8 ? left - 8 : 0);
    __m256 low = _mm256_setzero_ps(), high = low;

    for (uint32_t i = 0; i < whole; i += 16) {
        low = _mm256_add_ps(low, _mm256_loadu_ps(x + i));
        high = _mm256_add_ps(high, _mm256_loadu_ps(x + i + 8));
    }
    low = _mm256_add_ps(low, _mm256_maskload_ps(x + whole, low_mask));
    high = _mm256_add_ps(high, _mm256_maskload_ps(x + whole + 8, high_mask));
    const __m256 mean = _mm256_set1_ps(reduce16(low, high) / (float)n);
    low = high = _mm256_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 16) {
        const __m256 c = _mm256_sub_ps(_mm256_loadu_ps(x + i), mean),
                     d = _mm256_sub_ps(_mm256_loadu_ps(x + i + 8), mean);
        low = _mm256_fmadd_ps(c, c, low);
        high = _mm256_fmadd_ps(d, d, high);
    }
    if (left) {
        const __m256 c = _mm256_and_ps(_mm256_sub_ps(_mm256_maskload_ps(x + whole, low_mask), mean),
                                       _mm256_castsi256_ps(low_mask)),
                     d = _mm256_and_ps(
                         _mm256_sub_ps(_mm256_maskload_ps(x + whole + 8, high_mask), mean),
                         _mm256_castsi256_ps(high_mask));
        low = _mm256_fmadd_ps(c, c, low);
        high = _mm256_fmadd_ps(d, d, high);
    }
    const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(reduce16(low, high) / (float)n + eps));
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(
            y + i,
            _mm256_fmadd_ps(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), mean), scale),
                            _mm256_loadu_ps(w + i), _mm256_loadu_ps(b + i)));
    if (i < n) {
        const __m256i mask = tail_mask(n - i);
        const __m256 v = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), mean), scale);
        _mm256_maskstore_ps(
            y + i, mask,
            _mm256_fmadd_ps(v, _mm256_maskload_ps(w + i, mask), _mm256_maskload_ps(b + i, mask)));
    }
}

static inline __m128i fold2(__m256i v)
{
    return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

static inline uint32_t largest(__m256i v)
{
    __m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

static void quantize(const float *x, uint32_t blocks, int8_t *q, hob_cpu_scale *scales)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff),
                  order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

    for (uint32_t b = 0; b < blocks; b++, x += 32, q += 32) {
        __m256 v[4];
        __m256i top = _mm256_setzero_si256();
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
        }
        uint32_t most_bits = largest(top);
        if (most_bits >= 0x7f800000u || most_bits < HOB_QUANT_TINY) {
            float d = most_bits >= 0x7f800000u ? hob_bits_float(0x7fc00000u) : 0.0f;
            memset(q, 0, 32);
            scales[b] = (hob_cpu_scale){.d = d, .s = d};
            continue;
        }
        float most = hob_bits_float(most_bits);
        __m256 inverse = _mm256_set1_ps(127.0f / most);
        __m256i n[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
        _mm256_storeu_si256((__m256i *)q, _mm256_permutevar8x32_epi32(packed, order));
        /* sums by k % 4, in pairs: [first half 0 1, 2 3, second half 0 1, 2 3], then by halves */
        __m128i pairs = _mm_hadd_epi32(fold2(_mm256_add_epi32(n[0], n[1])),
                                       fold2(_mm256_add_epi32(n[2], n[3])));
        __m128i halves = _mm_hadd_epi32(pairs, pairs),
                both = _mm_add_epi32(pairs, _mm_shuffle_epi32(pairs, 0x4e));
        int32_t sum = _mm_cvtsi128_si32(_mm_hadd_epi32(halves, halves));
        scales[b] =
            (hob_cpu_scale){.d = most / 127.0f, .s = most / 127.0f * (float)sum, .sum = sum};
        _mm_storeu_si32(scales[b].half, _mm_packs_epi32(halves, halves));
        _mm_storeu_si32(scales[b].excess, _mm_slli_epi16(_mm_packs_epi32(both, both), 4));
        _mm_storel_epi64((__m128i *)(void *)scales[b].half_excess,
                         _mm_slli_epi16(_mm_packs_epi32(pairs, pairs), 5));
    }
}

static inline void rotate_pair(float *a, float *b, float cosine, float sine)
{
    float a_sine = *a * sine, b_sine = *b * sine;
    *a = fmaf(*a, cosine, -b_sine);
    *b = fmaf(*b, cosine, a_sine);
}

static void rope(float *x, uint32_t heads, uint32_t head_dim, uint32_t n_rot, bool neox,
                 const float *cosine, const float *sine)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    uint32_t half = n_rot / 2;

    for (uint32_t h = 0; h < heads; h++, x += head_dim) {
        uint32_t i = 0;
        for (; neox && i + 8 <= half; i += 8) {
            __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + half + i);
            __m256 c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
            _mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            _mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
        }
        for (; !neox && i + 4 <= half; i += 4) {
            __m256 v = _mm256_loadu_ps(x + 2 * i);
            __m256 c =
                _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cosine + i)), twice);
            __m256 s =
                _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sine + i)), twice);
            _mm256_storeu_ps(
                x + 2 * i, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), s)));
        }
        for (; i < half; i++)
            rotate_pair(neox ? x + i : x + 2 * i, neox ? x + half + i : x + 2 * i + 1, cosine[i],
                        sine[i]);
    }
}

static inline __m256 gelu8(__m256 x)
{
    const __m256 a = _mm256_min_ps(_mm256_set1_ps(HOB_GELU_EDGE),
                                   _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)),
                 u = _mm256_fmadd_ps(a, _mm256_set1_ps(HOB_GELU_NARROW), _mm256_set1_ps(-1.0f));
    __m256 p = _mm256_set1_ps(hob_gelu_tail[HOB_GELU_DEGREE]);
#pragma GCC unroll 16
    for (int i = HOB_GELU_DEGREE - 1; i >= 0; i--)
        p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(hob_gelu_tail[i]));
    return _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), x), _mm256_mul_ps(a, p));
}

/* kind is a constant at each call. */
INLINE __m256 activate(hob_gate_kind kind, __m256 g)
{
    __m256 z = g;
    if (kind == HOB_GATE_GELU)
        return gelu8(g);
    if (kind == HOB_GATE_GELU_TANH)
        z = _mm256_mul_ps(z, _mm256_fmadd_ps(_mm256_mul_ps(z, z), _mm256_set1_ps(HOB_GELU_CUBIC),
                                             _mm256_set1_ps(HOB_GELU_LINEAR)));
    z = _mm256_xor_ps(z, _mm256_set1_ps(-0.0f));
    return _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp8(z)));
}

INLINE void gates(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const __m256 v = activate(kind, _mm256_loadu_ps(g + i));
        _mm256_storeu_ps(out + i, up ? _mm256_mul_ps(v, _mm256_loadu_ps(up + i)) : v);
    }
    if (i < n) {
        const __m256i mask = tail_mask(n - i);
        const __m256 v = activate(kind, _mm256_maskload_ps(g + i, mask));
        _mm256_maskstore_ps(out + i, mask,
                            up ? _mm256_mul_ps(v, _mm256_maskload_ps(up + i, mask)) : v);
    }
}

static void gate(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    switch (kind) {
    case HOB_GATE_SILU: gates(HOB_GATE_SILU, g, up, out, n); break;
    case HOB_GATE_GELU_TANH: gates(HOB_GATE_GELU_TANH, g, up, out, n); break;
    case HOB_GATE_GELU: gates(HOB_GATE_GELU, g, up, out, n); break;
    }
}

static void to_half(const float *x, uint16_t *y, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = hob_float_to_half(x[i]);
}

static void from_half(const uint16_t *x, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, load_half8(x + i));
    for (; i < n; i++)
        y[i] = hob_half_to_float(x[i]);
}

static void scale_lanes(const int8_t *q, const float *d, float *y, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(q + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(d + i), _mm256_cvtepi32_ps(v)));
    }
    for (; i < n; i++)
        y[i] = d[i] * (float)q[i];
}

/* Eight numbers from the i-th on, of f16 or f32. */
INLINE __m256 load_kv(const void *from, size_t i, bool half)
{
    return half ? load_half8((const uint16_t *)from + i) : _mm256_loadu_ps((const float *)from + i);
}

/* 3 queries by 32 positions fill the accumulators; n and whether there is a next block of f16 are constants at each call. */
INLINE void scores_of(const float *q, size_t q_stride, uint32_t n, const void *k,
                      const uint16_t *next, uint32_t head_dim, float *s)
{
    __m256 acc[3][4];

#pragma GCC unroll 3
    for (uint32_t i = 0; i < n; i++)
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = _mm256_setzero_ps();
    for (uint32_t j = 0; j < head_dim; j++) {
        if (next)
            _mm_prefetch((const char *)(next + (size_t)j * 32), _MM_HINT_T0);
        __m256 all[3]; /* with a vector of positions and the sums: 16 registers */
#pragma GCC unroll 3
        for (uint32_t i = 0; i < n; i++)
            all[i] = _mm256_broadcast_ss(q + i * q_stride + j);
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            const __m256 positions = load_kv(k, (size_t)j * 32 + 8 * v, next != NULL);
#pragma GCC unroll 3
            for (uint32_t i = 0; i < n; i++)
                acc[i][v] = _mm256_fmadd_ps(all[i], positions, acc[i][v]);
        }
    }
#pragma GCC unroll 3
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            _mm256_storeu_ps(s + i * 32 + 8 * v, acc[i][v]);
}

INLINE void scores(const float *q, size_t q_stride, uint32_t n, const void *k, const uint16_t *next,
                   uint32_t head_dim, float *s)
{
    for (; n >= 3; n -= 3, q += 3 * q_stride, s += 3 * 32)
        scores_of(q, q_stride, 3, k, next, head_dim, s);
    if (n == 2)
        scores_of(q, q_stride, 2, k, next, head_dim, s);
    else if (n == 1)
        scores_of(q, q_stride, 1, k, next, head_dim, s);
}

static void attend_scores(const float *q, size_t q_stride, uint32_t n, const float *k,
                          uint32_t head_dim, float *s)
{
    scores(q, q_stride, n, k, NULL, head_dim, s);
}

static void attend_scores_half(const float *q, size_t q_stride, uint32_t n, const uint16_t *k,
                               const uint16_t *next, uint32_t head_dim, float *s)
{
    scores(q, q_stride, n, k, next, head_dim, s);
}

static float attend_softmax(float *s, uint32_t lo, uint32_t hi, float state[2])
{
    const __m256i from = _mm256_set1_epi32((int)lo), to = _mm256_set1_epi32((int)hi);
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 v[4], inside[4], most8 = _mm256_set1_ps(state[0]), low_value = _mm256_set1_ps(-INFINITY);

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        inside[i] = _mm256_castsi256_ps(
            _mm256_andnot_si256(_mm256_cmpgt_epi32(from, lane), _mm256_cmpgt_epi32(to, lane)));
        v[i] = _mm256_loadu_ps(s + 8 * i);
        most8 = _mm256_max_ps(_mm256_blendv_ps(low_value, v[i], inside[i]), most8);
        lane = _mm256_add_epi32(lane, _mm256_set1_epi32(8));
    }
    __m128 most4 = _mm_max_ps(_mm256_castps256_ps128(most8), _mm256_extractf128_ps(most8, 1));
    most4 = _mm_max_ps(most4, _mm_movehl_ps(most4, most4));
    float most = _mm_cvtss_f32(_mm_max_ss(most4, _mm_movehdup_ps(most4)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_and_ps(exp8(_mm256_sub_ps(v[i], _mm256_set1_ps(most))), inside[i]);
        _mm256_storeu_ps(s + 8 * i, v[i]);
    }
    float scale = _mm256_cvtss_f32(exp8(_mm256_set1_ps(state[0] - most)));
    state[0] = most;
    state[1] =
        fmaf(state[1], scale, reduce16(_mm256_add_ps(v[0], v[2]), _mm256_add_ps(v[1], v[3])));
    return scale;
}

/* n queries by 8 * vectors dimensions, from dimension `from` on; n, vectors and whether there is a next block of f16 are constants at each call. */
INLINE void values_of(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                      const void *v, const uint16_t *next, uint32_t width, uint32_t from,
                      uint32_t vectors, float *o)
{
    __m256 acc[3][4];

    o += from;
#pragma GCC unroll 3
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            acc[i][j] =
                _mm256_mul_ps(_mm256_loadu_ps(o + i * width + 8 * j), _mm256_set1_ps(scale[i]));
    for (uint32_t p = lo; p < hi; p++) {
        if (next)
            _mm_prefetch((const char *)(next + (size_t)p * width + from), _MM_HINT_T0);
        __m256 weight[3]; /* with a row's vector and the sums: 16 registers */
#pragma GCC unroll 3
        for (uint32_t i = 0; i < n; i++)
            weight[i] = _mm256_broadcast_ss(s + i * 32 + p);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++) {
            const __m256 row = load_kv(v, (size_t)p * width + from + 8 * j, next != NULL);
#pragma GCC unroll 3
            for (uint32_t i = 0; i < n; i++)
                acc[i][j] = _mm256_fmadd_ps(weight[i], row, acc[i][j]);
        }
    }
#pragma GCC unroll 3
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            _mm256_storeu_ps(o + i * width + 8 * j, acc[i][j]);
}

INLINE void values_wide(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                        const void *v, const uint16_t *next, uint32_t width, float *o)
{
    uint32_t j = 0;
    for (; j + 32 <= width; j += 32)
        values_of(s, scale, n, lo, hi, v, next, width, j, 4, o);
    if (j < width)
        values_of(s, scale, n, lo, hi, v, next, width, j, 2, o);
}

INLINE void values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                   const void *v, const uint16_t *next, uint32_t width, float *o)
{
    for (; n >= 3; n -= 3, s += 3 * 32, scale += 3, o += 3 * width)
        values_wide(s, scale, 3, lo, hi, v, next, width, o);
    if (n == 2)
        values_wide(s, scale, 2, lo, hi, v, next, width, o);
    else if (n == 1)
        values_wide(s, scale, 1, lo, hi, v, next, width, o);
}

static void attend_values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                          const float *v, uint32_t width, float *o)
{
    values(s, scale, n, lo, hi, v, NULL, width, o);
}

static void attend_values_half(const float *s, const float *scale, uint32_t n, uint32_t lo,
                               uint32_t hi, const uint16_t *v, const uint16_t *next, uint32_t width,
                               float *o)
{
    values(s, scale, n, lo, hi, v, next, width, o);
}

static float max_of(const float *x, size_t n)
{
    __m256 most8 = _mm256_set1_ps(-INFINITY);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        most8 = _mm256_max_ps(_mm256_loadu_ps(x + i),
                              most8); /* the second operand when the first is NaN */
    __m128 most4 = _mm_max_ps(_mm256_castps256_ps128(most8), _mm256_extractf128_ps(most8, 1));
    most4 = _mm_max_ps(most4, _mm_movehl_ps(most4, most4));
    float most = _mm_cvtss_f32(_mm_max_ss(most4, _mm_movehdup_ps(most4)));
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static float exp_sum(const float *x, size_t n, float scale, float shift)
{
    const __m256 scale8 = _mm256_set1_ps(scale), shift8 = _mm256_set1_ps(shift);
    __m256 low = _mm256_setzero_ps(), high = low;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        low = _mm256_add_ps(low, exp8(_mm256_fmsub_ps(_mm256_loadu_ps(x + i), scale8, shift8)));
        high =
            _mm256_add_ps(high, exp8(_mm256_fmsub_ps(_mm256_loadu_ps(x + i + 8), scale8, shift8)));
    }
    if (i < n) {
        size_t left = n - i;
        __m256i mask = tail_mask(at_most_8(left));
        __m256 e = exp8(_mm256_fmsub_ps(_mm256_maskload_ps(x + i, mask), scale8, shift8));
        low = _mm256_add_ps(low, _mm256_and_ps(e, _mm256_castsi256_ps(mask)));
        if (left > 8) {
            mask = tail_mask(left - 8);
            e = exp8(_mm256_fmsub_ps(_mm256_maskload_ps(x + i + 8, mask), scale8, shift8));
            high = _mm256_add_ps(high, _mm256_and_ps(e, _mm256_castsi256_ps(mask)));
        }
    }
    return reduce16(low, high);
}

static uint32_t at_least(const float *x, uint32_t n, float floor, uint32_t *ids)
{
    const __m256 least = _mm256_set1_ps(floor);
    uint32_t count = 0, i = 0;

    for (; i + 8 <= n; i += 8) {
        uint32_t bits =
            (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), least, _CMP_GE_OQ));
        for (; bits; bits &= bits - 1)
            ids[count++] = i + (uint32_t)__builtin_ctz(bits);
    }
    for (; i < n; i++)
        if (x[i] >= floor)
            ids[count++] = i;
    return count;
}

void hob_cpu_fill_avx2(hob_cpu_kernels *k)
{
    k->isa = "avx2";
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->quantize = quantize;
    k->rope = rope;
    k->gate = gate;
    k->to_half = to_half;
    k->from_half = from_half;
    k->scale_lanes = scale_lanes;
    k->attend_scores = attend_scores;
    k->attend_scores_half = attend_scores_half;
    k->attend_softmax = attend_softmax;
    k->attend_values = attend_values;
    k->attend_values_half = attend_values_half;
    k->max = max_of;
    k->exp_sum = exp_sum;
    k->at_least = at_least;
    k->scan = hob_cpu_scan_avx2;
    memcpy(k->linear, hob_cpu_linear_avx2, sizeof k->linear);
}
