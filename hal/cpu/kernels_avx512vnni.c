/* SPDX-License-Identifier: Apache-2.0
 *
 * The AVX-512 VNNI tier. vpdpbusd multiplies unsigned weights with signed activations and widens at once. A tile is two
 * panels (32 rows) by up to 6 columns: its integer and float accumulators, 24 vectors, stay in registers; types with
 * sub-scales of 16 weights need a third and take one panel. Codes are unsigned: bytes and IQ4's values by adding 128. The
 * offset is taken off exactly: accumulators begin at -offset times the sum of the activations' quants. A single column waits
 * for memory in any case, and AVX2's reads faster. */
#include "hal/cpu/linear_avx2.h"
#include "hal/cpu/math.h"

enum { COLUMNS = 6, FETCH_GROUPS = 8 };

typedef struct panel_at {
    const uint8_t *data;  /* the panel */
    const uint8_t *bytes; /* unpacked: unsigned codes [blocks][8][16][4] */
    const float *scales;  /* unpacked: records, see record_floats */
    const uint8_t *next;  /* of the first one: packed weights to fetch on the way */
    size_t next_bytes;
} panel_at;

/* What unsigned codes are too large by: 8 bits and IQ4's values are shifted by 128. */
INLINE int32_t offset_of(traits t)
{
    return t.low_bits == 8 || t.table ? 128 : (int32_t)t.offset;
}

static inline __m512 load_half16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline __m512 load_bf16x16(const uint16_t *p)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

/* Unsigned codes of step j of a block from its planes; t and j are constants. */
INLINE __m512i codes_at(traits t, const uint8_t *low, const uint8_t *high, int j)
{
    __m512i v;

    if (t.low_bits == 8)
        return _mm512_xor_si512(_mm512_loadu_si512(low + 64 * j), _mm512_set1_epi8((char)0x80));
    if (t.low_bits == 4) {
        v = _mm512_loadu_si512(low + 64 * (j % 4));
        v = _mm512_and_si512(j < 4 ? v : _mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
    } else {
        v = _mm512_loadu_si512(low + 64 * (j / 4));
        v = _mm512_and_si512(_mm512_srli_epi16(v, (unsigned)(2 * (j % 4))), _mm512_set1_epi8(3));
    }
    if (t.high_bits) {
        /* the plane's bits move to low_bits and above */
        int at = t.high_bits == 1 ? j : 2 * (j % 4), to = (int)t.low_bits;
        __m512i top = _mm512_loadu_si512(high + (t.high_bits == 1 ? 0 : 64 * (j / 4)));
        top = at > to ? _mm512_srli_epi16(top, (unsigned)(at - to))
                      : _mm512_slli_epi16(top, (unsigned)(to - at));
        char mask = (char)((t.high_bits == 1 ? 1 : 3) << to);
        v = _mm512_or_si512(v, _mm512_and_si512(top, _mm512_set1_epi8(mask)));
    }
    if (t.table) {
        const __m128i values =
            _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153,
                          (char)166, (char)181, (char)197, (char)217, (char)241);
        v = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), v);
    }
    return v;
}

INLINE __m512i load_i8x16(const uint8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

/* The scales of block b, as kernels.h defines them. */
typedef struct scales16 {
    __m512 d, m;
    __m512i sub[2];  /* group 16: of weights 0 .. 15 and 16 .. 31 */
    __m512i sub_min; /* group 16: both, as pairs of int16 */
} scales16;

INLINE scales16 scales_at(traits t, const hob_panels *w, const uint8_t *panel, uint32_t b)
{
    const size_t super = (size_t)(b >> (t.group ? 3 : 0)) * 16;
    scales16 s = {.d = load_half16((const uint16_t *)(panel + w->d_at) + super)};
    s.m = s.d;
    if (t.minimum)
        s.m = load_half16((const uint16_t *)(panel + w->m_at) + super);
    if (t.group == 32) {
        const size_t at = (size_t)b * 16;
        s.d = _mm512_mul_ps(s.d, _mm512_cvtepi32_ps(load_i8x16(panel + w->sub_at + at)));
        if (t.minimum)
            s.m = _mm512_mul_ps(s.m, _mm512_cvtepi32_ps(load_i8x16(panel + w->sub_min_at + at)));
    }
    if (t.minimum && t.group)
        s.m = _mm512_xor_ps(s.m, _mm512_set1_ps(-0.0f));
    if (t.group == 16) {
        const uint8_t *sub = panel + w->sub_at + (size_t)b * 32;
        s.sub[0] = load_i8x16(sub);
        s.sub[1] = load_i8x16(sub + 16);
        if (t.minimum) { /* both in one byte */
            const __m512i nibble = _mm512_set1_epi32(15);
            s.sub_min = _mm512_or_si512(
                _mm512_and_si512(_mm512_srli_epi32(s.sub[0], 4), nibble),
                _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(s.sub[1], 4), nibble), 16));
            s.sub[0] = _mm512_and_si512(s.sub[0], nibble);
            s.sub[1] = _mm512_and_si512(s.sub[1], nibble);
        }
    }
    return s;
}

/* t, panels (1 or 2), n (columns) and packed are constants at each call. */
INLINE void tile_of(traits t, uint32_t panels, uint32_t n, bool packed, const hob_panels *w,
                    const panel_at *at, int32_t offset, const int8_t *x, size_t x_stride,
                    const hob_cpu_scale *scales, size_t scale_stride, float tile[2][COLUMNS * 16])
{
    const size_t low_bytes = 64 * (size_t)t.low_bits, high_bytes = 64 * (size_t)t.high_bits,
                 record = record_floats(t), fetch = at[0].next_bytes / w->blocks;
    const bool halves = t.group == 16;
    size_t ahead = 0;
    __m512 acc[COLUMNS][2];

#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++)
        acc[c][0] = acc[c][1] = _mm512_setzero_ps();
    for (uint32_t b = 0; b < w->blocks; b++) {
        __m512i sum[COLUMNS][2], first[COLUMNS][2];
        scales16 s[2];
        for (; ahead < (b + 1) * fetch; ahead += 64) /* as AVX2's single column */
            _mm_prefetch((const char *)at[0].next + ahead, _MM_HINT_T1);
#pragma GCC unroll 6
        for (uint32_t c = 0; c < n; c++) {
            const hob_cpu_scale *s_x = scales + c * scale_stride + b;
            sum[c][0] = sum[c][1] =
                t.minimum && !halves
                    ? _mm512_setzero_si512()
                    : _mm512_set1_epi32(-offset * (halves ? s_x->half[0] : s_x->sum));
        }
#pragma GCC unroll 2
        for (uint32_t p = 0; p < panels; p++) {
            const float *r = at[p].scales + b * record;
            if (packed) {
                s[p] = scales_at(t, w, at[p].data, b);
            } else {
                s[p].d = _mm512_loadu_ps(r);
                if (t.minimum)
                    s[p].m = _mm512_loadu_ps(r + 16);
                if (halves) {
                    s[p].sub[0] = _mm512_loadu_si512(r + 32);
                    s[p].sub[1] = _mm512_loadu_si512(r + 48);
                    if (t.minimum)
                        s[p].sub_min = _mm512_loadu_si512(r + 64);
                }
            }
        }
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m512i v[2];
            if (halves && j == 4) {
#pragma GCC unroll 6
                for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 2
                    for (uint32_t p = 0; p < panels; p++) {
                        first[c][p] = _mm512_mullo_epi32(sum[c][p], s[p].sub[0]);
                        sum[c][p] =
                            _mm512_set1_epi32(-offset * scales[c * scale_stride + b].half[1]);
                    }
            }
#pragma GCC unroll 2
            for (uint32_t p = 0; p < panels; p++)
                v[p] = packed ? codes_at(t, at[p].data + b * low_bytes,
                                         at[p].data + w->high_at + b * high_bytes, j)
                              : _mm512_loadu_si512(at[p].bytes + (size_t)b * 512 + 64 * j);
#pragma GCC unroll 6
            for (uint32_t c = 0; c < n; c++) {
                int32_t four;
                memcpy(&four, x + c * x_stride + b * 32 + 4 * j, 4);
                const __m512i q = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                for (uint32_t p = 0; p < panels; p++)
                    sum[c][p] = _mm512_dpbusd_epi32(sum[c][p], v[p], q);
            }
        }
#pragma GCC unroll 2
        for (uint32_t p = 0; p < panels; p++) {
#pragma GCC unroll 6
            for (uint32_t c = 0; c < n; c++) {
                const hob_cpu_scale *s_x = scales + c * scale_stride + b;
                const __m512 d_x = _mm512_set1_ps(s_x->d);
                if (halves)
                    sum[c][p] =
                        _mm512_add_epi32(first[c][p], _mm512_mullo_epi32(sum[c][p], s[p].sub[1]));
                acc[c][p] = _mm512_fmadd_ps(_mm512_mul_ps(s[p].d, d_x),
                                            _mm512_cvtepi32_ps(sum[c][p]), acc[c][p]);
                if (t.minimum && halves) {
                    int32_t both;
                    memcpy(&both, s_x->half, sizeof both);
                    __m512i low = _mm512_madd_epi16(s[p].sub_min, _mm512_set1_epi32(both));
                    acc[c][p] = _mm512_fmadd_ps(_mm512_mul_ps(s[p].m, d_x), _mm512_cvtepi32_ps(low),
                                                acc[c][p]);
                } else if (t.minimum) {
                    acc[c][p] = _mm512_fmadd_ps(s[p].m, _mm512_set1_ps(s_x->s), acc[c][p]);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (uint32_t c = 0; c < n; c++)
#pragma GCC unroll 2
        for (uint32_t p = 0; p < panels; p++)
            _mm512_storeu_ps(tile[p] + 16 * c, acc[c][p]);
}

typedef void (*tile_fn)(const hob_panels *w, const panel_at *at, int32_t offset, const int8_t *x,
                        size_t x_stride, const hob_cpu_scale *scales, size_t scale_stride,
                        float tile[2][COLUMNS * 16]);

/* clang-format off */
#define TILE(name, kind, panels, n, packed)                                                        \
    static void name##_##panels##_##n(const hob_panels *w, const panel_at *at, int32_t offset, \
                                      const int8_t *x, size_t x_stride,                            \
                                      const hob_cpu_scale *scales, size_t scale_stride,            \
                                      float tile[2][COLUMNS * 16])                                 \
    {                                                                                              \
        tile_of(traits_of(kind), panels, n, packed, w, at, offset, x, x_stride, scales,            \
                scale_stride, tile);                                                               \
    }
#define TILES_OF_1(name, kind, packed) \
    TILE(name, kind, 1, 1, packed) \
    TILE(name, kind, 1, 2, packed) \
    TILE(name, kind, 1, 3, packed) \
    TILE(name, kind, 1, 4, packed) \
    TILE(name, kind, 1, 5, packed) \
    TILE(name, kind, 1, 6, packed)
#define TILES_OF_2(name, kind, packed) \
    TILE(name, kind, 2, 1, packed) \
    TILE(name, kind, 2, 2, packed) \
    TILE(name, kind, 2, 3, packed) \
    TILE(name, kind, 2, 4, packed) \
    TILE(name, kind, 2, 5, packed) \
    TILE(name, kind, 2, 6, packed)
#define ROW_OF(name, panels) {name##_##panels##_1, name##_##panels##_2, name##_##panels##_3, \
                              name##_##panels##_4, name##_##panels##_5, name##_##panels##_6}
/* one and two panels by 1 .. 6 columns; one panel by 1 .. 6 */
#define TILES(name, kind, packed) \
    TILES_OF_1(name, kind, packed) TILES_OF_2(name, kind, packed) \
    static const tile_fn name[2][COLUMNS] = {ROW_OF(name, 1), ROW_OF(name, 2)};
#define TILES_NARROW(name, kind, packed) \
    TILES_OF_1(name, kind, packed) \
    static const tile_fn name[2][COLUMNS] = {ROW_OF(name, 1)};
/* clang-format on */
TILES(q4_0_packed, HOB_KIND_Q4_0, true)
TILES(q4_1_packed, HOB_KIND_Q4_1, true)
TILES(q5_0_packed, HOB_KIND_Q5_0, true)
TILES(q8_0_packed, HOB_KIND_Q8_0, true)
TILES(q4_k_packed, HOB_KIND_Q4_K, true)
TILES_NARROW(q6_k_packed, HOB_KIND_Q6_K, true)
TILES(plain, HOB_KIND_Q4_0, false)
TILES(minimum, HOB_KIND_Q4_1, false)
TILES_NARROW(sub, HOB_KIND_Q6_K, false)
TILES_NARROW(sub_minimum, HOB_KIND_Q2_K, false)

/* Codes that unpack in an instruction or two are unpacked again by every six columns, other ones only when columns are few. */
static const struct {
    const tile_fn (*packed)[COLUMNS];
    uint32_t packed_columns; /* at most; a single one is AVX2's */
    const tile_fn (*bytes)[COLUMNS];
    uint32_t panels; /* at most */
} tiles[HOB_KINDS] = {
    [HOB_KIND_Q4_0] = {q4_0_packed, UINT32_MAX, NULL, 2},
    [HOB_KIND_Q4_1] = {q4_1_packed, UINT32_MAX, NULL, 2},
    [HOB_KIND_Q5_0] = {q5_0_packed, 20, plain, 2},
    [HOB_KIND_Q5_1] = {NULL, 0, minimum, 2},
    [HOB_KIND_Q8_0] = {q8_0_packed, UINT32_MAX, NULL, 2},
    [HOB_KIND_Q2_K] = {NULL, 0, sub_minimum, 1},
    [HOB_KIND_Q3_K] = {NULL, 0, sub, 1},
    [HOB_KIND_Q4_K] = {q4_k_packed, UINT32_MAX, NULL, 2},
    [HOB_KIND_Q5_K] = {NULL, 0, minimum, 2},
    [HOB_KIND_Q6_K] = {q6_k_packed, 20, sub, 1},
    [HOB_KIND_IQ4_NL] = {NULL, 0, plain, 2},
    [HOB_KIND_IQ4_XS] = {NULL, 0, plain, 2},
};

INLINE void unpack(hob_kind kind, const hob_panels *w, const uint8_t *panel, float *record,
                   uint8_t *bytes)
{
    const traits t = traits_of(kind);

    for (uint32_t b = 0; b < w->blocks; b++, record += record_floats(t), bytes += 512) {
        const scales16 s = scales_at(t, w, panel, b);
        _mm512_storeu_ps(record, s.d);
        if (t.minimum)
            _mm512_storeu_ps(record + 16, s.m);
        if (t.group == 16) {
            _mm512_storeu_si512(record + 32, s.sub[0]);
            _mm512_storeu_si512(record + 48, s.sub[1]);
            if (t.minimum)
                _mm512_storeu_si512(record + 64, s.sub_min);
        }
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            _mm512_storeu_si512(bytes + 64 * j,
                                codes_at(t, panel + (size_t)b * 64 * t.low_bits,
                                         panel + w->high_at + (size_t)b * 64 * t.high_bits, j));
    }
}

/* kind is a constant at each call. */
INLINE void linear_quantized(hob_kind kind, const hob_panels *w, const hob_cpu_input *x,
                             const hob_cpu_output *out, uint32_t first_panel, uint32_t panel_count,
                             void *scratch)
{
    const traits t = traits_of(kind);
    const bool packed = x->rows <= tiles[kind].packed_columns;
    const tile_fn(*choice)[COLUMNS] = packed ? tiles[kind].packed : tiles[kind].bytes;
    const uint32_t most = tiles[kind].panels;
    const size_t record = record_floats(t);
    uint32_t groups = (x->rows + COLUMNS - 1) / COLUMNS;
    float tile[2][COLUMNS * 16] __attribute__((aligned(64)));

    for (uint32_t panel = first_panel, end = first_panel + panel_count, count; panel < end;
         panel += count) {
        panel_at at[2];
        count = end - panel < most ? 1 : most;
        for (uint32_t p = 0; p < count; p++) {
            float *scales = (float *)scratch + p * (size_t)w->blocks * (record + 128);
            uint8_t *bytes = (uint8_t *)(scales + w->blocks * record);
            at[p] = (panel_at){
                .data = w->data + (panel + p) * w->panel_bytes, .bytes = bytes, .scales = scales};
            if (!packed)
                unpack(kind, w, at[p].data, scales, bytes);
        }
        for (uint32_t g = 0, column = 0; g < groups; g++) {
            uint32_t left = x->rows - column, n = left / (groups - g) + (left % (groups - g) != 0);
            if (groups <= FETCH_GROUPS) { /* each group of columns fetches its part */
                at[0].next_bytes = count * w->panel_bytes / groups;
                at[0].next = w->data + hob_cpu_next_panel(x, panel + count, end) * w->panel_bytes +
                             g * at[0].next_bytes;
            }
            choice[count - 1][n - 1](w, at, offset_of(t), x->q + column * x->q_stride, x->q_stride,
                                     x->scales + column * x->scale_stride, x->scale_stride, tile);
            for (uint32_t p = 0; p < count; p++)
                hob_store_tile(w, out, panel + p, column, n, tile[p]);
            column += n;
        }
    }
}

#define LINEAR(name, kind)                                                                         \
    static void linear_##name(const hob_panels *w, const hob_cpu_input *x,                         \
                              const hob_cpu_output *out, uint32_t first_panel,                     \
                              uint32_t panel_count, void *scratch)                                 \
    {                                                                                              \
        if (x->rows == 1)                                                                          \
            hob_cpu_linear_avx2[HOB_KIND_##kind](w, x, out, first_panel, panel_count, scratch);    \
        else                                                                                       \
            linear_quantized(HOB_KIND_##kind, w, x, out, first_panel, panel_count, scratch);       \
    }
HOB_QUANTIZED_TYPES(LINEAR)

INLINE void float_tile(hob_kind kind, const hob_panels *w, const uint8_t *panel, const float *x,
                       size_t x_stride, uint32_t n, float *tile)
{
    __m512 acc[12];

#pragma GCC unroll 12
    for (uint32_t c = 0; c < n; c++)
        acc[c] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < w->cols; k++) {
        __m512 v = kind == HOB_KIND_F32 ? _mm512_loadu_ps((const float *)(panel + (size_t)k * 64))
                   : kind == HOB_KIND_BF16
                       ? load_bf16x16((const uint16_t *)(panel + (size_t)k * 32))
                       : load_half16((const uint16_t *)(panel + (size_t)k * 32));
#pragma GCC unroll 12
        for (uint32_t c = 0; c < n; c++)
            acc[c] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[c * x_stride + k]), acc[c]);
    }
#pragma GCC unroll 12
    for (uint32_t c = 0; c < n; c++)
        _mm512_store_ps(tile + 16 * c, acc[c]);
}

INLINE void linear_float(hob_kind kind, const hob_panels *w, const hob_cpu_input *x,
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

static void linear_f16(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
                       uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    linear_float(HOB_KIND_F16, w, x, out, first_panel, panel_count);
}

static void linear_bf16(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
                        uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    linear_float(HOB_KIND_BF16, w, x, out, first_panel, panel_count);
}

static void linear_f32(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
                       uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    (void)scratch;
    linear_float(HOB_KIND_F32, w, x, out, first_panel, panel_count);
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

/* Sixteen numbers from the i-th on, of f16 or f32. */
INLINE __m512 load_kv(const void *from, size_t i, bool half)
{
    return half ? load_half16((const uint16_t *)from + i)
                : _mm512_loadu_ps((const float *)from + i);
}

/* n and whether there is a next block of f16 are constants at each call. */
INLINE void scores_of(const float *q, size_t q_stride, uint32_t n, const void *k,
                      const uint16_t *next, uint32_t head_dim, float *s)
{
    __m512 acc[12][2];

#pragma GCC unroll 12
    for (uint32_t i = 0; i < n; i++)
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (uint32_t j = 0; j < head_dim; j++) {
        if (next)
            _mm_prefetch((const char *)(next + (size_t)j * 32), _MM_HINT_T0);
        __m512 k0 = load_kv(k, (size_t)j * 32, next != NULL),
               k1 = load_kv(k, (size_t)j * 32 + 16, next != NULL);
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

INLINE void scores(const float *q, size_t q_stride, uint32_t n, const void *k, const uint16_t *next,
                   uint32_t head_dim, float *s)
{
    for (; n >= 12; n -= 12, q += 12 * q_stride, s += 12 * 32)
        scores_of(q, q_stride, 12, k, next, head_dim, s);
    for (; n >= 3; n -= 3, q += 3 * q_stride, s += 3 * 32)
        scores_of(q, q_stride, 3, k, next, head_dim, s);
    for (; n; n--, q += q_stride, s += 32)
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
                      const void *v, const uint16_t *next, uint32_t width, uint32_t from,
                      uint32_t vectors, float *o)
{
    __m512 acc[6][4];

    o += from;
#pragma GCC unroll 6
    for (uint32_t i = 0; i < n; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            acc[i][j] =
                _mm512_mul_ps(_mm512_loadu_ps(o + i * width + 16 * j), _mm512_set1_ps(scale[i]));
    for (uint32_t p = lo; p < hi; p++) {
#pragma GCC unroll 2
        for (uint32_t line = 0; next && line < vectors; line += 2)
            _mm_prefetch((const char *)(next + (size_t)p * width + from + 16 * line), _MM_HINT_T0);
        __m512 row[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < vectors; j++)
            row[j] = load_kv(v, (size_t)p * width + from + 16 * j, next != NULL);
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
                        const void *v, const uint16_t *next, uint32_t width, float *o)
{
    uint32_t j = 0;
    for (; j + 64 <= width; j += 64)
        values_of(s, scale, n, lo, hi, v, next, width, j, 4, o);
    for (; j < width; j += 16)
        values_of(s, scale, n, lo, hi, v, next, width, j, 1, o);
}

INLINE void values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                   const void *v, const uint16_t *next, uint32_t width, float *o)
{
    for (; n >= 6; n -= 6, s += 6 * 32, scale += 6, o += 6 * width)
        values_wide(s, scale, 6, lo, hi, v, next, width, o);
    for (; n >= 3; n -= 3, s += 3 * 32, scale += 3, o += 3 * width)
        values_wide(s, scale, 3, lo, hi, v, next, width, o);
    for (; n; n--, s += 32, scale++, o += width)
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

INLINE __mmask16 lanes_left(size_t n)
{
    return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t i = 0; i < n; i += 16)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes_left(n - i), x + i));
    const __m512 mean = _mm512_set1_ps(reduce16(sum) / (float)n);
    sum = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes_left(n - i);
        const __m512 d = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + i), mean);
        sum = _mm512_fmadd_ps(d, d, sum);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(reduce16(sum) / (float)n + eps));
    for (uint32_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes_left(n - i);
        const __m512 v =
            _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), mean), scale);
        _mm512_mask_storeu_ps(y + i, mask,
                              _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(mask, w + i),
                                              _mm512_maskz_loadu_ps(mask, b + i)));
    }
}

INLINE __m512 gelu16(__m512 x)
{
    const __m512 a = _mm512_min_ps(_mm512_set1_ps(HOB_GELU_EDGE), _mm512_abs_ps(x)),
                 u = _mm512_fmadd_ps(a, _mm512_set1_ps(HOB_GELU_NARROW), _mm512_set1_ps(-1.0f));
    __m512 p = _mm512_set1_ps(hob_gelu_tail[HOB_GELU_DEGREE]);
#pragma GCC unroll 16
    for (int i = HOB_GELU_DEGREE - 1; i >= 0; i--)
        p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(hob_gelu_tail[i]));
    return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), _mm512_mul_ps(a, p));
}

/* kind is a constant at each call. */
INLINE __m512 activate(hob_gate_kind kind, __m512 v)
{
    __m512 z = v;
    if (kind == HOB_GATE_GELU)
        return gelu16(v);
    if (kind == HOB_GATE_GELU_TANH)
        z = _mm512_mul_ps(z, _mm512_fmadd_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(HOB_GELU_CUBIC),
                                             _mm512_set1_ps(HOB_GELU_LINEAR)));
    z = _mm512_xor_ps(z, _mm512_set1_ps(-0.0f));
    return _mm512_div_ps(v, _mm512_add_ps(_mm512_set1_ps(1.0f), exp16(z)));
}

INLINE void gates(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = lanes_left(n - i);
        __m512 v = activate(kind, _mm512_maskz_loadu_ps(mask, g + i));
        if (up)
            v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(out + i, mask, v);
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
#define FILL(name, kind) k->linear[HOB_KIND_##kind] = linear_##name;
    HOB_QUANTIZED_TYPES(FILL)
#undef FILL
    k->linear[HOB_KIND_BF16] = linear_bf16;
    k->linear[HOB_KIND_F16] = linear_f16;
    k->linear[HOB_KIND_F32] = linear_f32;
    k->attend_scores = attend_scores;
    k->attend_scores_half = attend_scores_half;
    k->attend_softmax = attend_softmax;
    k->attend_values = attend_values;
    k->attend_values_half = attend_values_half;
    k->layer_norm = layer_norm;
    k->gate = gate;
    k->exp_sum = exp_sum;
    k->from_half = from_half;
    k->scan = hob_cpu_scan_avx512vnni;
}
