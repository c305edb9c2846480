/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of rotary embeddings. See rope.h. */
#include "hal/rope.h"

#include <math.h>
#include <stdlib.h>

static int rope_table_grow(hob_rope_table *t, uint32_t positions)
{
    uint32_t half = t->n_rot / 2;
    size_t count, bytes;

    if (positions > t->capacity) {
        uint32_t capacity = positions < 512 ? 512 : positions + positions / 2;
        if (!hob_mul_size(capacity, half, &count) || !hob_mul_size(count, sizeof(float), &bytes))
            return HOB_ENOMEM;
        float *cosine = realloc(t->cosine, bytes);
        if (!cosine)
            return HOB_ENOMEM;
        t->cosine = cosine;
        float *sine = realloc(t->sine, bytes);
        if (!sine)
            return HOB_ENOMEM;
        t->sine = sine;
        t->capacity = capacity;
    }
    for (uint32_t i = 0; i < half; i++) {
        double rate = pow(t->freq_base, -2.0 * i / t->n_rot) * t->freq_scale /
                      (t->factors ? t->factors[i] : 1.0f);
        for (uint32_t p = t->positions; p < positions; p++) {
            t->cosine[(size_t)p * half + i] = (float)(cos(p * rate) * t->magnitude);
            t->sine[(size_t)p * half + i] = (float)(sin(p * rate) * t->magnitude);
        }
    }
    t->positions = positions;
    return 0;
}

int hob_rope_table_find(hob_rope_table *tables, const hob_rope_kv *op, const float *factors,
                        uint32_t positions)
{
    int i = 0;

    while (i < HOB_ROPE_TABLES && tables[i].n_rot &&
           (tables[i].n_rot != op->n_rot || tables[i].freq_base != op->freq_base ||
            tables[i].freq_scale != op->freq_scale || tables[i].magnitude != op->magnitude ||
            tables[i].factors != factors))
        i++;
    if (i == HOB_ROPE_TABLES) /* more kinds than a model has: the last place is used again */
        tables[--i].n_rot = 0;
    hob_rope_table *t = &tables[i];
    if (t->n_rot == 0) {
        t->n_rot = op->n_rot;
        t->freq_base = op->freq_base;
        t->freq_scale = op->freq_scale;
        t->magnitude = op->magnitude;
        t->factors = factors;
        t->positions = t->capacity = 0;
        t->generation++;
    }
    const int rc = positions > t->positions ? rope_table_grow(t, positions) : 0;
    return rc < 0 ? rc : i;
}

void hob_rope_tables_free(hob_rope_table *tables)
{
    for (int i = 0; i < HOB_ROPE_TABLES; i++) {
        free(tables[i].cosine);
        free(tables[i].sine);
    }
}
