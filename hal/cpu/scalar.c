/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of every CPU operation, in plain C. Other tiers are compared with this one by memcmp, so the order of
 * each floating-point operation here is the specification; read it as such, not as code to be made faster. */
#include "hal/cpu/kernels.h"
#include "hal/cpu/math.h"

#include <math.h>

/* Adds 16 virtual accumulators in the fixed tree. */
static float reduce16(float a[16])
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            a[i] = a[i] + a[i + half];
    return a[0];
}

static void store_panel(const hob_panels *w, const hob_cpu_output *out, uint32_t panel,
                        uint32_t column, const float acc[16])
{
    uint32_t row = panel * HOB_PANEL_ROWS,
             count = w->rows - row < HOB_PANEL_ROWS ? w->rows - row : HOB_PANEL_ROWS;
    float *y = out->y + column * out->stride + row;

    for (uint32_t r = 0; r < count; r++) {
        float v = out->bias ? acc[r] + out->bias[row + r] : acc[r];
        y[r] = out->add ? y[r] + v : v;
    }
}

static void linear_quantized(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
                             uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    const hob_type_info *t = w->type;
    int32_t *q_w = scratch; /* one block, [16][32] */

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        for (uint32_t column = 0; column < x->rows; column++) {
            float acc[16] = {0};
            for (uint32_t b = 0; b < w->blocks; b++) {
                const int8_t *q_x = x->q + column * x->q_stride + b * HOB_QUANT_BLOCK;
                const hob_cpu_scale *s_x = x->scales + column * x->scale_stride + b;
                for (uint32_t i = 0; i < 16 * HOB_QUANT_BLOCK; i++)
                    q_w[i] = hob_panels_value(w, data, b, i / 32, i % 32);
                for (uint32_t r = 0; r < 16; r++) {
                    const hob_panel_scale s = hob_panels_scale(w, data, b, r);
                    int32_t halves[2] = {0};
                    for (uint32_t k = 0; k < HOB_QUANT_BLOCK; k++)
                        halves[k / 16] += q_w[r * 32 + k] * q_x[k];
                    int32_t isum = t->group == 16 ? s.sub[0] * halves[0] + s.sub[1] * halves[1]
                                                  : halves[0] + halves[1];
                    float d = t->group == 32 ? s.d * (float)s.sub[0] : s.d;
                    acc[r] = fmaf(d * s_x->d, (float)isum, acc[r]);
                    if (t->minimum && t->group == 16)
                        acc[r] =
                            fmaf(-s.m * s_x->d,
                                 (float)(s.sub_min[0] * s_x->half[0] + s.sub_min[1] * s_x->half[1]),
                                 acc[r]);
                    else if (t->minimum)
                        acc[r] =
                            fmaf(t->group ? -(s.m * (float)s.sub_min[0]) : s.m, s_x->s, acc[r]);
                }
            }
            store_panel(w, out, panel, column, acc);
        }
    }
}

static void linear_float(const hob_panels *w, const hob_cpu_input *x, const hob_cpu_output *out,
                         uint32_t first_panel, uint32_t panel_count, void *scratch)
{
    float *values = scratch; /* one k, [16] */

    for (uint32_t panel = first_panel; panel < first_panel + panel_count; panel++) {
        const uint8_t *data = w->data + panel * w->panel_bytes;
        for (uint32_t column = 0; column < x->rows; column++) {
            const float *f = x->f32 + column * x->f32_stride;
            float acc[16] = {0};
            for (uint32_t k = 0; k < w->cols; k++) {
                w->type->to_float(data + (size_t)k * 16 * w->type->block_bytes, values, 16);
                for (uint32_t r = 0; r < 16; r++)
                    acc[r] = fmaf(values[r], f[k], acc[r]);
            }
            store_panel(w, out, panel, column, acc);
        }
    }
}

static void rms_norm(const float *x, const float *w, float eps, float *y, uint32_t n)
{
    float a[16] = {0};

    for (uint32_t i = 0; i < n; i++)
        a[i % 16] = fmaf(x[i], x[i], a[i % 16]);
    float scale = 1.0f / sqrtf(reduce16(a) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void layer_norm(const float *x, const float *w, const float *b, float eps, float *y,
                       uint32_t n)
{
    float sums[16] = {0}, squares[16] = {0};

    for (uint32_t i = 0; i < n; i++)
        sums[i % 16] = sums[i % 16] + x[i];
    const float mean = reduce16(sums) / (float)n;
    for (uint32_t i = 0; i < n; i++) {
        const float d = x[i] - mean;
        squares[i % 16] = fmaf(d, d, squares[i % 16]);
    }
    const float scale = 1.0f / sqrtf(reduce16(squares) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = fmaf((x[i] - mean) * scale, w[i], b[i]);
}

static void quantize(const float *x, uint32_t blocks, int8_t *q, hob_cpu_scale *scales)
{
    for (uint32_t b = 0; b < blocks; b++, x += 32, q += 32) {
        uint32_t top = 0; /* magnitudes compare as their bits do; NaN is above infinity */
        for (int i = 0; i < 32; i++) {
            uint32_t u = hob_float_bits(x[i]) & 0x7fffffffu;
            top = u > top ? u : top;
        }
        if (top >= 0x7f800000u || top < HOB_QUANT_TINY) {
            memset(q, 0, 32);
            float d = top >= 0x7f800000u ? hob_bits_float(0x7fc00000u) : 0.0f;
            scales[b] = (hob_cpu_scale){.d = d, .s = d};
            continue;
        }
        float most = hob_bits_float(top), inverse = 127.0f / most;
        hob_cpu_scale s = {.d = most / 127.0f};
        for (int i = 0; i < 32; i++) {
            q[i] = (int8_t)lrintf(x[i] * inverse);
            s.sum += q[i];
            s.half[i / 16] = (int16_t)(s.half[i / 16] + q[i]);
            int16_t *all = &s.excess[i / 2 % 2], *of_half = &s.half_excess[i / 16][i / 2 % 2];
            *all = (int16_t)(*all + 16 * q[i]);
            *of_half = (int16_t)(*of_half + 32 * q[i]);
        }
        s.s = s.d * (float)s.sum;
        scales[b] = s;
    }
}

static void rope(float *x, uint32_t heads, uint32_t head_dim, uint32_t n_rot, bool neox,
                 const float *cosine, const float *sine)
{
    for (uint32_t h = 0; h < heads; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot / 2; i++) {
            float *a = neox ? x + i : x + 2 * i, *b = neox ? x + i + n_rot / 2 : x + 2 * i + 1;
            float a_sine = *a * sine[i], b_sine = *b * sine[i];
            *a = fmaf(*a, cosine[i], -b_sine);
            *b = fmaf(*b, cosine[i], a_sine);
        }
}

static float gelu(float x)
{
    float a = fabsf(x);
    a = HOB_GELU_EDGE < a ? HOB_GELU_EDGE : a;
    const float u = fmaf(a, HOB_GELU_NARROW, -1.0f);
    float p = hob_gelu_tail[HOB_GELU_DEGREE];
    for (int i = HOB_GELU_DEGREE - 1; i >= 0; i--)
        p = fmaf(p, u, hob_gelu_tail[i]);
    return (0.0f > x ? 0.0f : x) - a * p;
}

/* The others are g * sigmoid(z); GELU's tanh form is 0.5 g (1 + tanh u) = g * sigmoid(2u). */
static void gate(hob_gate_kind kind, const float *g, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float z = g[i], act;
        if (kind == HOB_GATE_GELU_TANH)
            z = z * fmaf(z * z, HOB_GELU_CUBIC, HOB_GELU_LINEAR);
        act = kind == HOB_GATE_GELU ? gelu(z) : g[i] / (1.0f + hob_exp(-z));
        out[i] = up ? act * up[i] : act;
    }
}

static void to_half(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = hob_float_to_half(x[i]);
}

static void from_half(const uint16_t *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = hob_half_to_float(x[i]);
}

static void scale_lanes(const int8_t *q, const float *d, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = d[i] * (float)q[i];
}

static void attend_scores(const float *q, size_t q_stride, uint32_t n, const float *k,
                          uint32_t head_dim, float *s)
{
    for (uint32_t i = 0; i < n; i++, q += q_stride, s += 32)
        for (uint32_t p = 0; p < 32; p++) {
            float acc = 0;
            for (uint32_t j = 0; j < head_dim; j++)
                acc = fmaf(q[j], k[j * 32 + p], acc);
            s[p] = acc;
        }
}

static void attend_scores_half(const float *q, size_t q_stride, uint32_t n, const uint16_t *k,
                               const uint16_t *next, uint32_t head_dim, float *s)
{
    (void)next;
    for (uint32_t i = 0; i < n; i++, q += q_stride, s += 32)
        for (uint32_t p = 0; p < 32; p++) {
            float acc = 0;
            for (uint32_t j = 0; j < head_dim; j++)
                acc = fmaf(q[j], hob_half_to_float(k[j * 32 + p]), acc);
            s[p] = acc;
        }
}

static float attend_softmax(float *s, uint32_t lo, uint32_t hi, float state[2])
{
    float most = state[0], a[16] = {0};

    for (uint32_t p = lo; p < hi; p++)
        most = s[p] > most ? s[p] : most;
    for (uint32_t p = 0; p < 32; p++) {
        s[p] = p >= lo && p < hi ? hob_exp(s[p] - most) : 0.0f;
        a[p % 16] = a[p % 16] + s[p];
    }
    float scale = hob_exp(state[0] - most);
    state[0] = most;
    state[1] = fmaf(state[1], scale, reduce16(a));
    return scale;
}

static void attend_values(const float *s, const float *scale, uint32_t n, uint32_t lo, uint32_t hi,
                          const float *v, uint32_t width, float *o)
{
    for (uint32_t i = 0; i < n; i++, s += 32, o += width)
        for (uint32_t j = 0; j < width; j++) {
            float acc = o[j] * scale[i];
            for (uint32_t p = lo; p < hi; p++)
                acc = fmaf(s[p], v[p * width + j], acc);
            o[j] = acc;
        }
}

static void attend_values_half(const float *s, const float *scale, uint32_t n, uint32_t lo,
                               uint32_t hi, const uint16_t *v, const uint16_t *next, uint32_t width,
                               float *o)
{
    (void)next;
    for (uint32_t i = 0; i < n; i++, s += 32, o += width)
        for (uint32_t j = 0; j < width; j++) {
            float acc = o[j] * scale[i];
            for (uint32_t p = lo; p < hi; p++)
                acc = fmaf(s[p], hob_half_to_float(v[p * width + j]), acc);
            o[j] = acc;
        }
}

static float max_of(const float *x, size_t n)
{
    float most = -INFINITY;
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static float exp_sum(const float *x, size_t n, float scale, float shift)
{
    float a[16] = {0};
    for (size_t i = 0; i < n; i++)
        a[i % 16] = a[i % 16] + hob_exp(fmaf(x[i], scale, -shift));
    return reduce16(a);
}

static uint32_t at_least(const float *x, uint32_t n, float floor, uint32_t *ids)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (x[i] >= floor)
            ids[count++] = i;
    return count;
}

static void scan(const int8_t *v, const float *d, uint32_t panel_count, uint32_t dim,
                 const int8_t *q, uint32_t n, float *y, size_t y_stride)
{
    for (uint32_t row = 0; row < panel_count * 16; row++) {
        const int8_t *of_row = v + (size_t)(row / 16) * 16 * dim + row % 16 * 4;
        for (uint32_t i = 0; i < n; i++) {
            int32_t sum = 0;
            for (uint32_t k = 0; k < dim; k++)
                sum += q[i * dim + k] * of_row[k / 4 * 64 + k % 4];
            y[i * y_stride + row] = d[row] * (float)sum;
        }
    }
}

void hob_cpu_fill_scalar(hob_cpu_kernels *k)
{
    *k = (hob_cpu_kernels){
        .isa = "scalar",
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .quantize = quantize,
        .rope = rope,
        .gate = gate,
        .to_half = to_half,
        .from_half = from_half,
        .scale_lanes = scale_lanes,
        .attend_scores = attend_scores,
        .attend_scores_half = attend_scores_half,
        .attend_softmax = attend_softmax,
        .attend_values = attend_values,
        .attend_values_half = attend_values_half,
        .max = max_of,
        .exp_sum = exp_sum,
        .at_least = at_least,
        .scan = scan,
    };
    for (int kind = 0; kind < HOB_KINDS; kind++)
        k->linear[kind] = kind < HOB_KIND_F16 ? linear_quantized : linear_float;
}
