/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights: from GGUF rows to the panels of kernels.h, and rows back out of them for embeddings. Memory comes from
 * chunks of 16 MB on huge pages that many weights share, so that small matrices waste nothing; a chunk goes back to
 * the system with its last weight. A Q4 row's 16 bytes hold k and k + 16 in one byte, which is just what a panel's
 * lane wants, so packing is a transposition of 4-byte words. */
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
    const hob_cpu_matrix *matrix;
    uint8_t *to;
    const uint8_t *from; /* GGUF rows */
    size_t row_bytes;
} pack_job;

/* One row of quantized blocks into lane r of a panel. */
static void pack_quantized(const hob_cpu_matrix *m, const uint8_t *from, uint8_t *panel, uint32_t r)
{
    size_t quant_bytes = hob_cpu_quant_bytes(m->kind), words = quant_bytes / 64;
    uint8_t *d = panel + m->blocks * quant_bytes + 2 * r, *mins = d + (size_t)m->blocks * 32;

    for (uint32_t b = 0; b < m->blocks; b++) {
        memcpy(d + b * 32, from, 2);
        from += 2;
        if (m->kind == HOB_CPU_Q4_1) {
            memcpy(mins + b * 32, from, 2);
            from += 2;
        }
        uint8_t *to = panel + b * quant_bytes + 4 * r;
        for (size_t j = 0; j < words; j++)
            memcpy(to + 64 * j, from + 4 * j, 4);
        from += 4 * words;
    }
}

static void pack_panels(void *arg, uint32_t item, uint32_t worker)
{
    const pack_job *job = arg;
    const hob_cpu_matrix *m = job->matrix;
    uint32_t end =
        (item + 1) * PANELS_AN_ITEM < m->panels ? (item + 1) * PANELS_AN_ITEM : m->panels;

    (void)worker;
    for (uint32_t panel = item * PANELS_AN_ITEM; panel < end; panel++)
        for (uint32_t r = 0; r < HOB_PANEL_ROWS && panel * HOB_PANEL_ROWS + r < m->rows; r++) {
            const uint8_t *from = job->from + (size_t)(panel * HOB_PANEL_ROWS + r) * job->row_bytes;
            uint8_t *to = job->to + panel * m->panel_bytes;
            size_t each = m->kind == HOB_CPU_F16 ? 2 : 4;
            if (m->blocks)
                pack_quantized(m, from, to, r);
            else
                for (uint32_t k = 0; k < m->cols; k++)
                    memcpy(to + ((size_t)k * 16 + r) * each, from + k * each, each);
        }
}

static int kind_of(hob_type type, hob_cpu_kind *ret)
{
    switch (type) {
    case HOB_TYPE_F32: *ret = HOB_CPU_F32; return 0;
    case HOB_TYPE_F16: *ret = HOB_CPU_F16; return 0;
    case HOB_TYPE_Q4_0: *ret = HOB_CPU_Q4_0; return 0;
    case HOB_TYPE_Q4_1: *ret = HOB_CPU_Q4_1; return 0;
    case HOB_TYPE_Q8_0: *ret = HOB_CPU_Q8_0; return 0;
    }
    return HOB_EUNSUPPORTED;
}

int hob_cpu_weight_upload(hob_device *base, hob_type type, uint32_t rows, uint32_t cols,
                          const void *data, size_t bytes, hob_weight **ret, hob_diag *diag)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    const hob_type_info *info = hob_type_find(type);
    hob_cpu_kind kind;
    size_t row_bytes, all_bytes;

    if (!info || kind_of(type, &kind) < 0)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "weight type %d: the CPU device has no kernel for it", (int)type);
    if (rows == 0 || cols == 0 || cols % info->block_len || cols > 1u << 20 || rows > 1u << 28)
        return hob_fail(
            diag, HOB_EINVAL,
            "weight of %u rows, %u columns: columns must be a multiple of %u, at most 2^20", rows,
            cols, info->block_len);
    if (!hob_mul_size(cols / info->block_len, info->block_bytes, &row_bytes) ||
        !hob_mul_size(row_bytes, rows, &all_bytes) || all_bytes != bytes)
        return hob_fail(diag, HOB_EINVAL, "weight of %u rows, %u columns, %s: got %zu bytes", rows,
                        cols, info->name, bytes);

    hob_weight *w = calloc(1, sizeof *w);
    if (!w)
        return hob_fail(diag, HOB_ENOMEM, "weight: out of memory");
    w->type = type;
    hob_cpu_matrix *m = &w->matrix;
    bool vector = type == HOB_TYPE_F32 && rows == 1;
    *m = (hob_cpu_matrix){.kind = kind, .rows = rows, .cols = cols, .panels = (rows + 15) / 16};
    if (info->block_len > 1) {
        m->blocks = cols / 32;
        m->panel_bytes =
            m->blocks * (hob_cpu_quant_bytes(kind) + (kind == HOB_CPU_Q4_1 ? 64u : 32u));
    } else {
        m->panel_bytes = (size_t)cols * 16 * info->block_bytes;
    }
    m->panel_bytes = (m->panel_bytes + 63) / 64 * 64;
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
        pack_job job = {.matrix = m, .to = to, .from = data, .row_bytes = row_bytes};
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

static float half_at(const uint8_t *base, size_t index)
{
    uint16_t h;
    memcpy(&h, base + 2 * index, sizeof h);
    return hob_half_to_float(h);
}

void hob_cpu_weight_row(const hob_weight *w, uint32_t row, float scale, float *ret)
{
    const hob_cpu_matrix *m = &w->matrix;
    uint32_t r = row % HOB_PANEL_ROWS;
    const uint8_t *panel = m->data + row / HOB_PANEL_ROWS * m->panel_bytes;
    size_t quant_bytes = hob_cpu_quant_bytes(m->kind);

    if (w->vector) {
        for (uint32_t k = 0; k < m->cols; k++)
            ret[k] = w->vector[k] * scale;
        return;
    }
    if (m->blocks == 0) {
        for (uint32_t k = 0; k < m->cols; k++) {
            float f;
            if (m->kind == HOB_CPU_F16)
                f = half_at(panel, (size_t)k * 16 + r);
            else
                memcpy(&f, panel + ((size_t)k * 16 + r) * 4, 4);
            ret[k] = f * scale;
        }
        return;
    }
    const uint8_t *d_at = panel + m->blocks * quant_bytes, *m_at = d_at + (size_t)m->blocks * 32;
    for (uint32_t b = 0; b < m->blocks; b++, ret += 32) {
        const uint8_t *q = panel + b * quant_bytes + 4 * r;
        float d = half_at(d_at, b * 16 + r),
              low = m->kind == HOB_CPU_Q4_1 ? half_at(m_at, b * 16 + r) : 0.0f;
        int bias = m->kind == HOB_CPU_Q4_0 ? 8 : 0;
        for (uint32_t k = 0; k < 32; k++) {
            int v;
            if (m->kind == HOB_CPU_Q8_0)
                v = (int8_t)q[k / 4 * 64 + k % 4];
            else
                v = (k < 16 ? q[k / 4 * 64 + k % 4] & 15 : q[(k - 16) / 4 * 64 + k % 4] >> 4) -
                    bias;
            ret[k] = (d * (float)v + low) * scale;
        }
    }
}
