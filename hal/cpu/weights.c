/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU's weights: panels, packed in parallel. Memory comes from chunks of 16 MB on huge pages that many weights share,
 * so that small matrices waste nothing; a chunk goes back to the system with its last weight. */
#include "hal/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 16 << 20, PANELS_AN_ITEM = 4 };

struct hob_cpu_chunk {
    hob_cpu_chunk *next;
    uint8_t *data;
    size_t bytes, used;
    uint32_t weights;
};

static uint8_t *chunk_take(hob_cpu_device *dev, size_t bytes, hob_cpu_chunk **ret)
{
    hob_cpu_chunk *c = dev->chunks;

    if (!c || c->bytes - c->used < bytes) {
        c = calloc(1, sizeof *c);
        if (!c)
            return NULL;
        c->bytes = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        c->data = hob_cpu_pages_new(c->bytes);
        if (!c->data) {
            free(c);
            return NULL;
        }
        c->next = dev->chunks;
        dev->chunks = c;
    }
    uint8_t *at = c->data + c->used;
    c->used += bytes;
    c->weights++;
    *ret = c;
    return at;
}

static void chunk_give(hob_cpu_device *dev, hob_cpu_chunk *chunk)
{
    if (--chunk->weights)
        return;
    for (hob_cpu_chunk **at = &dev->chunks; *at; at = &(*at)->next)
        if (*at == chunk) {
            *at = chunk->next;
            break;
        }
    hob_cpu_pages_free(chunk->data, chunk->bytes);
    free(chunk);
}

void hob_cpu_weights_drop(hob_cpu_device *dev)
{
    while (dev->chunks) {
        hob_cpu_chunk *c = dev->chunks;
        dev->chunks = c->next;
        hob_cpu_pages_free(c->data, c->bytes);
        free(c);
    }
}

typedef struct pack_job {
    const hob_panels *matrix;
    uint8_t *to;
    const uint8_t *from; /* GGUF rows */
} pack_job;

static void pack_panels(void *arg, uint32_t item, uint32_t worker)
{
    const pack_job *job = arg;
    const uint32_t first = item * PANELS_AN_ITEM, left = job->matrix->panels - first;

    (void)worker;
    hob_panels_pack(job->matrix, job->from, first, left < PANELS_AN_ITEM ? left : PANELS_AN_ITEM,
                    job->to);
}

int hob_cpu_weight_upload(hob_device *base, hob_type type, uint32_t rows, uint32_t cols,
                          const void *data, size_t bytes, hob_weight **ret, hob_diag *diag)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    hob_panels shape;
    const int rc = hob_panels_check(type, rows, cols, bytes, &shape, diag);

    if (rc < 0)
        return rc;
    hob_weight *w = calloc(1, sizeof *w);
    if (!w)
        return hob_fail(diag, HOB_ENOMEM, "weight: out of memory");
    w->type = type;
    hob_panels *m = &w->matrix;
    bool vector = type == HOB_TYPE_F32 && rows == 1;
    *m = shape;
    if (vector) {
        w->bytes = ((size_t)cols * 4 + 63) / 64 * 64;
    } else if (!hob_mul_size(m->panel_bytes, m->panels, &w->bytes)) {
        free(w);
        return hob_fail(diag, HOB_ENOMEM, "weight of %u rows, %u columns: too large", rows, cols);
    }
    uint8_t *to = chunk_take(dev, w->bytes, &w->chunk);
    if (!to) {
        free(w);
        return hob_fail(diag, HOB_ENOMEM,
                        "weight of %u rows, %u columns: out of memory for %zu bytes", rows, cols,
                        bytes);
    }
    if (vector) {
        memcpy(to, data, bytes);
        w->vector = (const float *)to;
    } else {
        pack_job job = {.matrix = m, .to = to, .from = data};
        hob_pool_run(dev->pool, pack_panels, &job,
                     (m->panels + PANELS_AN_ITEM - 1) / PANELS_AN_ITEM);
        dev->max_cols = cols > dev->max_cols ? cols : dev->max_cols;
    }
    m->data = to;
    dev->base.resident_bytes += w->bytes;
    *ret = w;
    return 0;
}

void hob_cpu_weight_free(hob_device *base, hob_weight *w)
{
    if (!w)
        return;
    base->resident_bytes -= w->bytes;
    chunk_give((hob_cpu_device *)base, w->chunk);
    free(w);
}

void hob_cpu_weight_row(const hob_weight *w, uint32_t row, float scale, float *ret)
{
    if (!w->vector) {
        hob_panels_row(&w->matrix, row, scale, ret);
        return;
    }
    for (uint32_t k = 0; k < w->matrix.cols; k++)
        ret[k] = w->vector[k] * scale;
}
