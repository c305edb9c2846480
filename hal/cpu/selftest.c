/* SPDX-License-Identifier: Apache-2.0
 *
 * Golden inputs for a tier's kernels: small, fixed, and hard enough to show a wrong lane, sign, order or rounding. Each
 * result is compared with the scalar definition's by memcmp. Takes about a millisecond; tests/kernels goes wider. */
#include "hal/cpu/kernels.h"
#include "hal/cpu/math.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 48, COLS = 256, COLUMNS = 7, LENGTH = 203 };

typedef struct golden {
    _Alignas(64) uint8_t weights[ROWS / 16 * COLS * 64];
    _Alignas(64) uint8_t scratch[COLS * 128 + 4096];
    _Alignas(64) float x[COLUMNS * COLS], normed[COLUMNS * COLS], unit[LENGTH];
    _Alignas(64) int8_t q[2][COLUMNS * COLS];
    hob_cpu_scale scales[2][COLUMNS * COLS / 32];
    _Alignas(64) float out[2][COLUMNS * ROWS > 32 * 64 ? COLUMNS *ROWS : 32 * 64];
    uint16_t half[2][LENGTH];
    uint32_t ids[2][LENGTH + 16];
} golden;

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static float next_float(uint32_t *state)
{
    return ((float)next_random(state) / 8388608.0f - 1.0f) * 4.0f;
}

static bool linears_agree(const hob_cpu_kernels *k, const hob_cpu_kernels *plain, golden *g,
                          uint32_t *seed)
{
    for (int kind = 0; kind < HOB_KINDS; kind++) {
        hob_panels w;
        if (hob_panels_shape(hob_kind_type((hob_kind)kind), ROWS - 5, COLS, &w) < 0)
            return false;
        w.data = g->weights;
        for (size_t i = 0; i < sizeof g->weights; i++)
            g->weights[i] = (uint8_t)next_random(seed);
        for (uint32_t p = 0; p < w.panels; p++) { /* scales, and float weights, of a usual size */
            uint8_t *panel = g->weights + p * w.panel_bytes;
            size_t supers = (size_t)(w.blocks >> w.block_shift) * 16,
                   count = w.blocks ? supers * (w.type->minimum ? 2 : 1) : COLS * 16;
            uint16_t *halves = (uint16_t *)(panel + w.d_at);
            for (size_t i = 0; i < count; i++) {
                float f = next_float(seed);
                if (kind == HOB_KIND_F32)
                    memcpy(panel + 4 * i, &f, sizeof f);
                else
                    halves[i] = kind == HOB_KIND_BF16 ? (uint16_t)(hob_float_bits(f) >> 16)
                                                      : hob_float_to_half(f);
            }
        }
        for (uint32_t columns = 1; columns <= COLUMNS; columns += 3) {
            hob_cpu_input x = {columns, g->normed, COLS, g->q[0], COLS, g->scales[0], COLS / 32, 0};
            const hob_cpu_kernels *both[2] = {plain, k};
            for (int i = 0; i < 2; i++) {
                memset(g->out[i], 0, sizeof g->out[i]);
                hob_cpu_output out = {g->out[i], ROWS, columns == 4 ? g->x : NULL, columns == 7};
                both[i]->linear[kind](&w, &x, &out, 0, w.panels, g->scratch);
            }
            if (memcmp(g->out[0], g->out[1], sizeof g->out[0]) != 0)
                return false;
        }
    }
    return true;
}

static const char *attention_disagrees(const hob_cpu_kernels *k, const hob_cpu_kernels *plain,
                                       golden *g)
{
    const hob_cpu_kernels *both[2] = {plain, k};
    float state[2][2], scale[2][5];

    for (int i = 0; i < 2; i++) {
        memset(g->out[i], 0, sizeof g->out[i]);
        float *s = g->out[i], *o = g->out[i] + 5 * 32;
        both[i]->attend_scores(g->x, 16, 5, g->normed, 16, s);
        for (uint32_t r = 0; r < 5; r++) {
            state[i][0] = r & 1 ? -INFINITY : 1.0f;
            state[i][1] = r & 1 ? 0.0f : 2.0f;
            scale[i][r] = both[i]->attend_softmax(s + r * 32, r, 32 - 5 * r, state[i]);
        }
        memcpy(o, g->unit, 5 * 16 * sizeof *o);
        both[i]->attend_values(s, scale[i], 5, 1, 30, g->normed, 16, o);
        both[i]->to_half(g->normed, g->half[i], 32 * 16);
        both[i]->attend_values_half(s, scale[i], 5, 2, 31, g->half[i], g->half[i], 16, o);
        both[i]->attend_scores_half(o, 16, 5, g->half[i], g->half[i], 16, s);
    }
    if (memcmp(state[0], state[1], sizeof state[0]) != 0 ||
        memcmp(scale[0], scale[1], sizeof scale[0]) != 0)
        return "attend_softmax";
    return memcmp(g->out[0], g->out[1], sizeof g->out[0]) != 0 ? "attention" : NULL;
}

static const char *first_disagreement(const hob_cpu_kernels *k, golden *g)
{
    hob_cpu_kernels plain;
    uint32_t seed = 20240229;

    hob_cpu_fill_scalar(&plain);
    const hob_cpu_kernels *both[2] = {&plain, k};
    for (size_t i = 0; i < COLUMNS * COLS; i++)
        g->x[i] = next_float(&seed);
    for (size_t i = 0; i < LENGTH; i++)
        g->unit[i] = next_float(&seed) * 5.0f;
#define BOTH_AGREE(name, call, field)                                                              \
    for (int i = 0; i < 2; i++) {                                                                  \
        const hob_cpu_kernels *t = both[i];                                                        \
        call;                                                                                      \
    }                                                                                              \
    if (memcmp(g->field[0], g->field[1], sizeof g->field[0]) != 0)                                 \
        return name;
    BOTH_AGREE("rms_norm", t->rms_norm(g->x, g->x + 1, 1e-5f, g->out[i], COLS + 3), out)
    BOTH_AGREE("layer_norm", t->layer_norm(g->x, g->x + 1, g->x + 9, 1e-5f, g->out[i], COLS + 3),
               out)
    for (int r = 0; r < COLUMNS; r++)
        plain.rms_norm(g->x + r * COLS, g->x, 1e-5f, g->normed + r * COLS, COLS);
    BOTH_AGREE("quantize", t->quantize(g->normed, COLUMNS * COLS / 32, g->q[i], g->scales[i]), q)
    if (memcmp(g->scales[0], g->scales[1], sizeof g->scales[0]) != 0)
        return "quantize";
    if (!linears_agree(k, &plain, g, &seed))
        return "linear";
    for (int neox = 0; neox < 2; neox++) {
        BOTH_AGREE("rope", memcpy(g->out[i], g->x, sizeof g->x);
                   t->rope(g->out[i], 3, 20, 18, neox, g->x + 9, g->x + 33), out)
    }
    BOTH_AGREE("gate", t->gate(HOB_GATE_SILU, g->unit, g->x, g->out[i], LENGTH), out)
    BOTH_AGREE("gate", t->gate(HOB_GATE_GELU_TANH, g->unit, g->x, g->out[i], LENGTH), out)
    BOTH_AGREE("gate", t->gate(HOB_GATE_GELU, g->unit, NULL, g->out[i], LENGTH), out)
    BOTH_AGREE("to_half", t->to_half(g->unit, g->half[i], LENGTH), half)
    BOTH_AGREE("from_half", t->from_half(g->half[0], g->out[i], LENGTH), out)
    BOTH_AGREE("scale_lanes", t->scale_lanes(g->q[0], g->x, g->out[i], LENGTH), out)
    BOTH_AGREE("max", g->out[i][0] = t->max(g->unit, LENGTH), out)
    BOTH_AGREE("exp_sum", g->out[i][0] = t->exp_sum(g->unit, LENGTH, 0.7f, 14.0f), out)
    BOTH_AGREE("at_least", memset(g->ids[i], 0, sizeof g->ids[i]);
               uint32_t n = t->at_least(g->unit, LENGTH, 3.0f, g->ids[i]);
               memset(g->ids[i] + n, 0, sizeof g->ids[i] - n * 4), ids)
    for (uint32_t n = 1; n <= 8; n++) {
        BOTH_AGREE("scan", t->scan(g->q[0], g->x, 1, 96, g->q[0] + 4 * COLS, n, g->out[i], 17), out)
    }
#undef BOTH_AGREE
    return attention_disagrees(k, &plain, g);
}

int hob_cpu_self_test(const hob_cpu_kernels *k, hob_diag *diag)
{
    golden *g = aligned_alloc(64, (sizeof *g + 63) / 64 * 64);
    if (!g)
        return hob_fail(diag, HOB_ENOMEM, "CPU self-test: out of memory");
    memset(g, 0, sizeof *g);
    const char *name = first_disagreement(k, g);
    free(g);
    if (name)
        return hob_fail(diag, HOB_EDEVICE,
                        "CPU kernels of %s: %s disagrees with the scalar reference", k->isa, name);
    return 0;
}
