/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the table's kernels one by one: linears over hand-packed panels, norm, quantization, rotation, gates, half
 * conversion, attention pieces, logit scans. */
#include "tests/kernels/check.h"

#include <string.h>

static const uint32_t tails[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 16, 17, 24, 31, 32, 33};
enum { TAILS = sizeof tails / sizeof tails[0] };

/* Panels as kernels.h describes them, packed value by value from GGUF rows. */
static uint8_t *pack(hob_kind kind, const uint8_t *rows, uint32_t row_count, uint32_t cols,
                     hob_panels *ret)
{
    hob_panels m;
    if (hob_panels_shape(hob_kind_type(kind), row_count, cols, &m) < 0)
        abort();
    const hob_type_info *t = m.type;
    const uint32_t subs = t->group ? 32u / t->group : 0;
    const size_t row_bytes = (size_t)cols / t->block_len * t->block_bytes;
    uint8_t *data = aligned_alloc(64, m.panel_bytes * m.panels);
    if (!data)
        abort();
    memset(data, 0, m.panel_bytes * m.panels);
    for (uint32_t row = 0; row < row_count; row++) {
        uint8_t *panel = data + row / 16 * m.panel_bytes;
        const uint8_t *from = rows + row * row_bytes;
        uint32_t r = row % 16;
        for (uint32_t k = 0; m.blocks == 0 && k < cols; k++)
            memcpy(panel + ((size_t)k * 16 + r) * t->block_bytes, from + k * t->block_bytes,
                   t->block_bytes);
        for (uint32_t k = 0; m.blocks && k < cols; k++) {
            hob_block block;
            t->unpack(from + (size_t)(k / t->block_len) * t->block_bytes, &block);
            uint32_t in = k % t->block_len, super = k / t->block_len, b = k / 32, j = k % 32 / 4;
            uint8_t low = block.codes[in] & (uint8_t)((1 << t->low_bits) - 1),
                    high = (uint8_t)(block.codes[in] >> t->low_bits);
            uint8_t *low_at = panel + (size_t)b * t->low_bits * 64 + 4 * r + k % 4,
                    *high_at = panel + m.high_at + (size_t)b * t->high_bits * 64 + 4 * r + k % 4;
            switch (t->low_bits) {
            case 8: low_at[64 * j] = low; break;
            case 4: low_at[64 * (j & 3)] |= (uint8_t)(j < 4 ? low : low << 4); break;
            default: low_at[64 * (j >> 2)] |= (uint8_t)(low << 2 * (j & 3)); break;
            }
            if (t->high_bits == 1)
                *high_at |= (uint8_t)(high << j);
            if (t->high_bits == 2)
                high_at[64 * (j >> 2)] |= (uint8_t)(high << 2 * (j & 3));
            memcpy(panel + m.d_at + (super * 16 + r) * 2, &block.d, 2);
            if (t->minimum)
                memcpy(panel + m.m_at + (super * 16 + r) * 2, &block.m, 2);
            if (!subs)
                continue;
            uint8_t *sub_at = panel + m.sub_at + (size_t)(k / t->group) * 16 + r;
            *sub_at = (uint8_t)block.sub[in / t->group];
            if (kind == HOB_KIND_Q2_K)
                *sub_at |= (uint8_t)(block.sub_min[in / t->group] << 4);
            else if (t->minimum)
                panel[m.sub_min_at + (size_t)b * 16 + r] = block.sub_min[in / t->group];
        }
    }
    m.data = data;
    *ret = m;
    return data;
}

/* One shape: rows x cols by columns, with every combination of bias and add. */
static void linear_shape(check *c, hob_kind kind, uint32_t rows, uint32_t cols, uint32_t columns)
{
    size_t bytes, stride = cols + 32, blocks = cols / 32, scale_stride = blocks + 3;
    float *values, *x = malloc(columns * stride * sizeof *x), bias[256];
    int8_t *q = malloc(columns * stride);
    hob_cpu_scale *scales = malloc(columns * (scale_stride + 1) * sizeof *scales);
    uint8_t *gguf = random_rows(c, hob_kind_type(kind), rows, cols, &bytes, &values);
    void *scratch = aligned_alloc(64, (hob_cpu_scratch_bytes(cols) + 63) / 64 * 64);
    hob_panels w;
    uint8_t *panels = pack(kind, gguf, rows, cols, &w);

    if (!x || !q || !scales || !scratch)
        abort();
    fill_random(c, x, columns * stride, 3.0f);
    fill_random(c, bias, rows, 1.0f);
    for (uint32_t i = 0; i < columns && w.blocks; i++)
        c->scalar->quantize(x + i * stride, w.blocks, q + i * stride, scales + i * scale_stride);
    hob_cpu_input in = {columns, x, stride, q, stride, scales, scale_stride, 0};
    for (int mode = 0; mode < 3 && !c->failed; mode++) {
        size_t y_stride = rows + 5;
        region got = region_new(columns * y_stride * 4, 4 * (size_t)mode),
               want = region_new(columns * y_stride * 4, 4 * (size_t)mode);
        hob_cpu_output out = {(float *)got.data, y_stride, mode ? bias : NULL, mode == 2},
                       out_want = out;
        out_want.y = (float *)want.data;
        for (uint32_t i = 0; i < columns && out.add; i++)
            for (uint32_t r = 0; r < rows; r++)
                out.y[i * y_stride + r] = out_want.y[i * y_stride + r] = (float)r - (float)i;
        uint32_t first = w.panels / 2; /* in two parts, as workers do */
        c->scalar->linear[kind](&w, &in, &out_want, 0, w.panels, scratch);
        memset(scratch, 0xff, hob_cpu_scratch_bytes(cols));
        c->kernels->linear[kind](&w, &in, &out, first, w.panels - first, scratch);
        if (first)
            c->kernels->linear[kind](&w, &in, &out, 0, first, scratch);
        expect_same_region(c, "linear", &got, &want);
        for (uint32_t i = 0; i < columns && !c->failed; i++)
            for (uint32_t r = 0; r < rows; r++) {
                double sum = 0, size = 0;
                for (uint32_t k = 0; k < cols; k++) {
                    double v = w.blocks
                                   ? (double)scales[i * scale_stride + k / 32].d * q[i * stride + k]
                                   : x[i * stride + k];
                    sum += v * values[(size_t)r * cols + k];
                    size += fabs(v * values[(size_t)r * cols + k]);
                }
                sum += (mode ? bias[r] : 0) + (mode == 2 ? (double)r - i : 0);
                expect_near(c, "y", i * y_stride + r, out.y[i * y_stride + r], sum,
                            1e-5 * size + 1e-5);
            }
        region_free(&got);
        region_free(&want);
    }
    free(x);
    free(q);
    free(scales);
    free(gguf);
    free(values);
    free(scratch);
    free(panels);
}

static void linear_kind(check *c, hob_kind kind)
{
    static const uint32_t row_counts[] = {1, 15, 16, 17, 31, 32, 33, 48, 65};
    const uint32_t unit = hob_type_find((uint32_t)hob_kind_type(kind))->block_len;

    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++)
        linear_shape(c, kind, row_counts[i], unit + unit * random_below(c, unit == 1 ? 100 : 5),
                     1 + random_below(c, 20));
    for (uint32_t columns = 1; columns <= 20; columns++)
        linear_shape(c, kind, 33, unit == 256 ? 256 : 96, columns);
    linear_shape(c, kind, 48, unit == 256 ? 2048 : 2080, 3);
    linear_shape(c, kind, 40, unit == 256 ? 1024 : 1056, 40);
}

#define LINEAR(name, kind)                                                                         \
    static void linear_##name(check *c)                                                            \
    {                                                                                              \
        linear_kind(c, HOB_KIND_##kind);                                                           \
    }
HOB_QUANTIZED_TYPES(LINEAR)
LINEAR(f16, F16)
LINEAR(bf16, BF16)
LINEAR(f32, F32)

/* Runs `call` with t and y for the scalar tier and the one under test, and compares; got is y of the latter. */
#define BOTH(bytes, skew, prepare, call, ...)                                                      \
    do {                                                                                           \
        region want_ = region_new(bytes, skew), got_ = region_new(bytes, skew);                    \
        for (int i_ = 0; i_ < 2; i_++) {                                                           \
            const hob_cpu_kernels *t = i_ ? c->kernels : c->scalar;                                \
            float *y = (float *)(i_ ? got_.data : want_.data);                                     \
            (void)t;                                                                               \
            prepare;                                                                               \
            call;                                                                                  \
        }                                                                                          \
        expect_same_region(c, c->op, &got_, &want_);                                               \
        const float *got = (const float *)got_.data;                                               \
        (void)got;                                                                                 \
        __VA_ARGS__;                                                                               \
        region_free(&want_);                                                                       \
        region_free(&got_);                                                                        \
    } while (0)

static void check_rms_norm(check *c)
{
    float x[640], w[640];

    /* often: a sum added in another order mostly rounds to the same scale */
    for (int i = 0; i < TAILS + 60; i++) {
        uint32_t n = i < TAILS ? tails[i] : i & 1 ? 576 : 601;
        fill_random(c, x, n, 5.0f);
        fill_random(c, w, n, 2.0f);
        double sum = 0;
        for (uint32_t k = 0; k < n; k++)
            sum += (double)x[k] * x[k];
        BOTH(n * 4, 4, , t->rms_norm(x, w, 1e-5f, y, n),
             for (uint32_t k = 0; k < n; k++)
                 expect_near(c, "y", k, got[k], x[k] / sqrt(sum / n + 1e-5) * w[k],
                             4e-6 * fabs(x[k] * w[k]) + 1e-6));
        BOTH(n * 4, 0, memcpy(y, x, n * 4), t->rms_norm(y, w, 1e-5f, y, n), ); /* in place */
    }
}

static void check_layer_norm(check *c)
{
    float x[640], w[640], b[640];

    for (int i = 0; i < TAILS + 60; i++) {
        uint32_t n = i < TAILS ? tails[i] : i & 1 ? 384 : 601;
        fill_random(c, x, n, 5.0f);
        fill_random(c, w, n, 2.0f);
        fill_random(c, b, n, 2.0f);
        for (uint32_t k = 0; k < n; k++)
            x[k] += 3.0f; /* a mean of its own */
        double sum = 0, squares = 0;
        for (uint32_t k = 0; k < n; k++)
            sum += x[k];
        for (uint32_t k = 0; k < n; k++)
            squares += (x[k] - sum / n) * (x[k] - sum / n);
        const double scale = 1 / sqrt(squares / n + 1e-3);
        BOTH(
            n * 4, 4, , t->layer_norm(x, w, b, 1e-3f, y, n), for (uint32_t k = 0; k < n; k++) {
                const double v = (x[k] - sum / n) * scale * w[k];
                expect_near(c, "y", k, got[k], v + b[k], 4e-6 * (1 + scale) * (1 + fabs(v)));
            });
        BOTH(n * 4, 0, memcpy(y, x, n * 4), t->layer_norm(y, w, b, 1e-3f, y, n), ); /* in place */
    }
}

static void check_quantize(check *c)
{
    enum { BLOCKS = 9 };
    float x[BLOCKS * 32];

    for (int round = 0; round < 50; round++) {
        fill_random(c, x, BLOCKS * 32, round % 3 ? 7.0f : 1e-4f);
        memset(x + 32, 0, 128);                                   /* block 1: zeros */
        x[64 + random_below(c, 32)] = round & 1 ? NAN : INFINITY; /* block 2: not finite */
        for (int k = 96; k < 128; k++)
            x[k] = x[k] * 0x1p-130f; /* block 3: too small */
        for (int k = 128; k < 160; k++)
            x[k] = (float)(k - 144) + 0.5f; /* block 4: halves, 127 / 15.5 apart */
        x[160] = -127.0f, x[161] = 0.5f, x[162] = 1.5f, x[163] = 2.5f,
        x[164] = -0.5f; /* block 5: exact ties */
        for (int k = 165; k < 192; k++)
            x[k] = (float)(k % 100) - 0.5f;
        BOTH(BLOCKS * (32 + sizeof(hob_cpu_scale)), 0, ,
             t->quantize(x, BLOCKS, (int8_t *)y + BLOCKS * sizeof(hob_cpu_scale),
                         (hob_cpu_scale *)y),
             {
                 const hob_cpu_scale *s = (const hob_cpu_scale *)got;
                 const int8_t *q = (const int8_t *)(s + BLOCKS);
                 for (int b = 0; b < BLOCKS; b++) {
                     int sum = 0;
                     for (int k = 0; k < 32; k++) {
                         sum += q[b * 32 + k];
                         if (b != 2 && b != 3)
                             expect_near(c, "d * q", (size_t)(b * 32 + k),
                                         (double)s[b].d * q[b * 32 + k], x[b * 32 + k],
                                         s[b].d * 0.5001);
                     }
                     if (sum != s[b].sum)
                         fail(c, "block %d: sum is %d, of quants %d", b, s[b].sum, sum);
                 }
                 if (s[2].d == s[2].d || s[1].d != 0 || s[3].d != 0)
                     fail(c, "scales of special blocks: %g %g %g", s[1].d, s[2].d, s[3].d);
                 if (q[160] != -127 || q[161] != 0 || q[162] != 2 || q[163] != 2 || q[164] != 0)
                     fail(c, "ties: %d %d %d %d %d", q[160], q[161], q[162], q[163], q[164]);
             });
    }
}

static void check_rope(check *c)
{
    enum { HEADS = 3 };
    float x[HEADS * 136], cosine[68], sine[68];

    for (int i = 0; i < TAILS * 2 + 2; i++) {
        bool neox = i & 1;
        uint32_t half = i / 2 < TAILS ? tails[i / 2] : 64, head_dim = 2 * half + (i % 3) * 2;
        fill_random(c, x, HEADS * head_dim, 4.0f);
        for (uint32_t k = 0; k < half; k++) {
            double a = random_float(c, 100.0f);
            cosine[k] = (float)cos(a);
            sine[k] = (float)sin(a);
        }
        BOTH(
            HEADS * head_dim * 4, 0, memcpy(y, x, HEADS * head_dim * 4),
            t->rope(y, HEADS, head_dim, 2 * half, neox, cosine, sine),
            for (uint32_t h = 0; h < HEADS; h++) for (uint32_t k = 0; k < head_dim; k++) {
                uint32_t pair = neox ? k % half : k / 2;
                uint32_t a = h * head_dim + (neox ? pair : 2 * pair),
                         b = h * head_dim + (neox ? pair + half : 2 * pair + 1);
                double want = x[h * head_dim + k];
                if (k < 2 * half)
                    want = h * head_dim + k == a
                               ? (double)x[a] * cosine[pair] - (double)x[b] * sine[pair]
                               : (double)x[b] * cosine[pair] + (double)x[a] * sine[pair];
                expect_near(c, "x", h * head_dim + k, got[h * head_dim + k], want, 2e-6);
            });
    }
}

static double sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

static void gate_kind(check *c, hob_gate_kind kind)
{
    float g[64], up[64];

    for (int i = 0; i < TAILS * 3; i++) {
        uint32_t n = tails[i % TAILS];
        fill_random(c, g, n, i < TAILS ? 3.0f : 40.0f);
        fill_random(c, up, n, 3.0f);
        BOTH(
            n * 4, 4 * (size_t)(i % 5), , t->gate(kind, g, up, y, n),
            for (uint32_t k = 0; k < n; k++) {
                double v = g[k], z = kind == HOB_GATE_SILU
                                         ? v
                                         : 2 * 0.7978845608028654 * (v + 0.044715 * v * v * v);
                expect_near(c, "y", k, got[k], v * sigmoid(z) * up[k],
                            2e-6 * fabs(v * up[k]) * (1 + fabs(z) * sigmoid(z) * sigmoid(-z)) +
                                1e-12);
            });
        BOTH(n * 4, 0, memcpy(y, g, n * 4), t->gate(kind, y, up, y, n), ); /* in place */
    }
}

static void check_silu(check *c)
{
    gate_kind(c, HOB_GATE_SILU);
}

static void check_gelu(check *c)
{
    gate_kind(c, HOB_GATE_GELU_TANH);
}

/* Within what math.h states, also where the polynomial ends, and with an `up`. */
static void check_gelu_exact(check *c)
{
    float g[64], up[64];

    for (int i = 0; i < 2000; i++) {
        const uint32_t n = i < TAILS ? tails[i] : 64;
        fill_random(c, g, n, i % 3 ? 6.5f : i % 2 ? 1e-3f : 300.0f);
        fill_random(c, up, n, 3.0f);
        g[0] = i % 2 ? -0.0f : HOB_GELU_EDGE;
        BOTH(
            n * 4, 4 * (size_t)(i % 5), , t->gate(HOB_GATE_GELU, g, NULL, y, n),
            for (uint32_t k = 0; k < n; k++) {
                const double x = g[k];
                expect_near(c, "y", k, got[k], 0.5 * x * erfc(-x * 0.70710678118654752),
                            fabs(x) > 6 ? 4e-7 + 6e-8 * fabs(x) : fmin(4e-7, 2.2e-7 * fabs(x)));
            });
        BOTH(
            n * 4, 0, memcpy(y, g, n * 4), t->gate(HOB_GATE_GELU, y, up, y, n),
            for (uint32_t k = 0; k < n; k++) {
                const double x = g[k], act = 0.5 * x * erfc(-x * 0.70710678118654752);
                expect_near(c, "y * up", k, got[k], act * up[k],
                            (4e-7 + 2e-7 * fabs(x)) * (1 + fabs(up[k])));
            });
    }
    for (int kind = 0; kind < 3; kind++) { /* without an up the others, too */
        fill_random(c, g, 64, 4.0f);
        for (int k = 0; k < 64; k++)
            up[k] = 1.0f;
        float with[64];
        c->scalar->gate((hob_gate_kind)kind, g, up, with, 64);
        BOTH(61 * 4, 0, , t->gate((hob_gate_kind)kind, g, NULL, y, 61),
             if (memcmp(got, with, 61 * 4) != 0) fail(c, "no up is not the same as an up of 1"););
    }
}

/* All 65536 halves, and floats around every rounding border. */
static void check_half(check *c)
{
    uint16_t *all = malloc(65536 * 2);
    float *x = malloc(65536 * 4);

    if (!all || !x)
        abort();
    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    BOTH(
        65536 * 4, 0, , t->from_half(all, y, 65536),
        for (uint32_t i = 0; i < 65536; i++) if (got[i] == got[i]) {
            int exponent = (int)(i >> 10 & 31);
            double size =
                exponent ? ldexp(1 + (i & 1023) / 1024.0, exponent - 15) : ldexp(i & 1023, -24);
            if (exponent == 31)
                size = INFINITY;
            if (got[i] != (i & 0x8000 ? -size : size))
                fail(c, "half %04x: got %g, is %g", i, got[i], size);
        });
    for (int offset = -1; offset <= 1; offset++) {
        for (uint32_t i = 0; i < 65536; i++) { /* halfway to the next half, and its neighbours */
            uint32_t bits = hob_float_bits(hob_half_to_float((uint16_t)i));
            x[i] = hob_bits_float(bits + 0x1000u + (uint32_t)offset);
        }
        BOTH(65536 * 2, 0, , t->to_half(x, (uint16_t *)y, 65536), );
    }
    for (uint32_t i = 0; i < 65536; i++)
        x[i] = hob_bits_float(random_below(c, UINT32_MAX));
    BOTH(65536 * 2, 0, , t->to_half(x, (uint16_t *)y, 65536), );
    for (int i = 0; i < TAILS; i++)
        BOTH(tails[i] * 2, 2, , t->to_half(x, (uint16_t *)y, tails[i]), );
    for (int i = 0; i < TAILS; i++)
        BOTH(tails[i] * 4, 4, , t->from_half(all + 15000, y, tails[i]), );
    free(all);
    free(x);
}

static void check_scale_lanes(check *c)
{
    int8_t q[40];
    float d[40];

    for (int i = 0; i < TAILS; i++) {
        uint32_t n = tails[i];
        for (uint32_t k = 0; k < n; k++)
            q[k] = (int8_t)(random_below(c, 256) - 128);
        fill_random(c, d, n, 2.0f);
        BOTH(n * 4, 4, , t->scale_lanes(q, d, y, n),
             for (uint32_t k = 0; k < n; k++)
                 expect_near(c, "y", k, got[k], (double)d[k] * q[k], 1e-5));
    }
}

static void check_attention(check *c)
{
    enum { QUERIES = 33, DIM = 160 };
    static float q[QUERIES * (DIM + 3)], k[DIM * 32], v[32 * DIM], s[QUERIES * 32],
        o[QUERIES * DIM];
    static uint16_t half[32 * DIM];
    static const uint32_t dims[] = {16, 32, 48, 64, 80, 128, 160};

    for (int i = 0; i < TAILS * 2; i++) {
        uint32_t n = tails[i % TAILS], dim = dims[random_below(c, 7)], lo = random_below(c, 32),
                 hi = lo + 1 + random_below(c, 32 - lo);
        if (i % 3 == 0)
            lo = 0, hi = 32;
        fill_random(c, q, QUERIES * (DIM + 3), 1.0f);
        fill_random(c, k, DIM * 32, 1.0f);
        fill_random(c, v, 32 * DIM, 1.0f);
        fill_random(c, o, QUERIES * DIM, 1.0f);
        c->scalar->to_half(k, half, DIM * 32); /* numbers that f16 has */
        c->scalar->from_half(half, k, DIM * 32);
        BOTH(n * 32 * 4, 0, , t->attend_scores(q, dim + 3, n, k, dim, y), {
            for (uint32_t r = 0; r < n * 32; r++) {
                double sum = 0;
                for (uint32_t j = 0; j < dim; j++)
                    sum += (double)q[r / 32 * (dim + 3) + j] * k[j * 32 + r % 32];
                expect_near(c, "s", r, got[r], sum, 1e-5 * dim);
            }
            memcpy(s, got, n * 32 * 4);
        });
        BOTH(n * 32 * 4, 0, , t->attend_scores_half(q, dim + 3, n, half, half, dim, y),
             if (memcmp(got, s, n * 32 * 4) != 0) fail(c, "f16 positions give other scores"););
        float scale[QUERIES];
        for (uint32_t r = 0; r < n; r++) {
            float before[2] = {r % 3 ? random_float(c, 5.0f) : -INFINITY, r % 3 ? 1.5f : 0.0f};
            BOTH(36 * 4, 0, memcpy(y, s + r * 32, 128);
                 memcpy(y + 32, before, 8), y[34] = t->attend_softmax(y, lo, hi, y + 32), {
                     double most = before[0], sum = 0;
                     for (uint32_t p = lo; p < hi; p++)
                         most = s[r * 32 + p] > most ? s[r * 32 + p] : most;
                     for (uint32_t p = 0; p < 32; p++) {
                         double e = p >= lo && p < hi ? exp(s[r * 32 + p] - most) : 0;
                         expect_near(c, "weight", p, got[p], e, 1e-6);
                         sum += e;
                     }
                     expect_near(c, "sum", r, got[33], before[1] * exp(before[0] - most) + sum,
                                 2e-5);
                     scale[r] = got[34];
                     memcpy(s + r * 32, got, 128);
                 });
        }
        for (uint32_t p = 0; p < 32;
             p++) /* what is not seen must not be touched, whatever it holds */
            for (uint32_t j = 0; j < dim && (p < lo || p >= hi); j++)
                v[p * dim + j] = NAN;
        c->scalar->to_half(v, half, 32 * DIM);
        c->scalar->from_half(half, v, 32 * DIM);
        BOTH(
            n * dim * 4, 0, memcpy(y, o, n * dim * 4),
            t->attend_values(s, scale, n, lo, hi, v, dim, y),
            for (uint32_t r = 0; r < n * dim; r++) {
                double sum = (double)o[r] * scale[r / dim];
                for (uint32_t p = lo; p < hi; p++)
                    sum += (double)s[r / dim * 32 + p] * v[p * dim + r % dim];
                expect_near(c, "o", r, got[r], sum, 1e-5);
            });
        c->scalar->attend_values(s, scale, n, lo, hi, v, dim, memcpy(q, o, n * dim * 4));
        BOTH(n * dim * 4, 0, memcpy(y, o, n * dim * 4),
             t->attend_values_half(s, scale, n, lo, hi, half, half, dim, y),
             if (memcmp(got, q, n * dim * 4) != 0) fail(c, "f16 values give another sum"););
    }
}

static void check_logits(check *c)
{
    enum { N = 3001 };
    static float x[N];

    for (int i = 0; i < TAILS + 3; i++) {
        uint32_t n = i < TAILS ? tails[i] : N - (uint32_t)i;
        fill_random(c, x, n, 20.0f);
        if (i & 1)
            x[random_below(c, n)] = NAN;
        double most = -INFINITY, sum = 0;
        for (uint32_t k = 0; k < n; k++)
            most = x[k] > most ? x[k] : most;
        BOTH(4, 0, , y[0] = t->max(x, n),
             if (got[0] != (float)most) fail(c, "max of %u: got %g, is %g", n, got[0], most));
        for (uint32_t k = 0; k < n; k++)
            if (x[k] != x[k])
                x[k] = -3.0f;
        for (uint32_t k = 0; k < n; k++)
            sum += exp(x[k] * 0.7 - 14.0);
        BOTH(4, 0, , y[0] = t->exp_sum(x, n, 0.7f, 14.0f),
             expect_near(c, "exp_sum", n, got[0], sum, 1e-5 * sum));
        BOTH((n + 17) * 4, 0, , uint32_t *ids = (uint32_t *)y;
             uint32_t found = t->at_least(x, n, 5.0f, ids + 1);
             memset(ids + 1 + found, 0, (n + 16 - found) * 4); ids[0] = found, {
                 const uint32_t *ids = (const uint32_t *)got;
                 uint32_t next = 0;
                 for (uint32_t k = 0; k < n; k++)
                     if (x[k] >= 5.0f && (next >= ids[0] || ids[1 + next++] != k))
                         fail(c, "at_least misses %u", k);
                 if (next != ids[0])
                     fail(c, "at_least found %u, are %u", ids[0], next);
             });
    }
}

/* Vectors of every number of queries and panels, with the largest sums there can be. */
static void check_scan(check *c)
{
    enum { PANELS = 5, DIM = 4096, QUERIES = 8 };
    static const uint32_t dims[] = {32, 64, 96, 384, 416, DIM};
    int8_t *v = malloc(PANELS * 16 * DIM + 1), *q = malloc(QUERIES * DIM + 1);
    float d[PANELS * 16 + 1];

    if (!v || !q)
        abort();
    for (uint32_t i = 0; i < QUERIES * 6; i++) {
        const uint32_t n = i % QUERIES + 1, dim = dims[i / QUERIES], panels = i % (PANELS + 1);
        const size_t skew = i & 1, y_stride = panels * 16 + i % 7;
        for (size_t k = 0; k < (size_t)PANELS * 16 * dim; k++)
            v[skew + k] = (int8_t)(random_below(c, 255) - 127);
        for (size_t k = 0; k < (size_t)QUERIES * dim; k++)
            q[skew + k] = (int8_t)(random_below(c, 255) - 127);
        for (uint32_t k = 0; k < dim; k++) { /* the last query, and rows like it and against it */
            q[skew + (n - 1) * dim + k] = k & 1 ? -127 : 127;
            v[skew + k / 4 * 64 + k % 4] = k & 1 ? -127 : 127;
            v[skew + k / 4 * 64 + 4 + k % 4] = k & 1 ? 127 : -127;
        }
        fill_random(c, d + skew, PANELS * 16, 0.01f);
        d[skew + 2] = NAN; /* as beyond the last row */
        BOTH(
            n * y_stride * 4, 4, ,
            t->scan(v + skew, d + skew, panels, dim, q + skew, n, y, y_stride),
            for (uint32_t j = 0; j < n; j++) for (uint32_t row = 0; row < panels * 16; row++) {
                double sum = 0;
                for (uint32_t k = 0; k < dim; k++)
                    sum += q[skew + j * dim + k] *
                           v[skew + (row / 16 * dim + k / 4 * 4) * 16 + row % 16 * 4 + k % 4];
                if (row != 2)
                    expect_near(c, "y", j * y_stride + row, got[j * y_stride + row],
                                sum * d[skew + row], 1e-6 * fabs(sum * d[skew + row]));
            });
    }
    free(v);
    free(q);
}

const check_case kernel_cases[] = {
#define CASE(name, kind) {"linear", #kind, linear_##name},
    HOB_QUANTIZED_TYPES(CASE) CASE(f16, F16) CASE(bf16, BF16) CASE(f32, F32)
#undef CASE
        {"rms_norm", "f32", check_rms_norm},
    {"layer_norm", "f32", check_layer_norm},
    {"quantize", "f32", check_quantize},
    {"rope", "f32", check_rope},
    {"gate", "silu", check_silu},
    {"gate", "gelu tanh", check_gelu},
    {"gate", "gelu", check_gelu_exact},
    {"half", "f16", check_half},
    {"scale_lanes", "q8", check_scale_lanes},
    {"attention", "f32", check_attention},
    {"logits", "f32", check_logits},
    {"scan", "i8", check_scan},
    {NULL, NULL, NULL},
};
