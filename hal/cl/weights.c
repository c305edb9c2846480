/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights on an OpenCL device: the panels of hal/panels.h, packed on the host a piece at a time. A matrix that is larger
 * than the device's largest allocation is kept in several parts. */
#include "hal/cl/cl.h"
#include "hal/golden.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 << 20 };

/* The panels of one part: one piece is packed while the one before it is on its way. */
static int fill_part(hob_cl_device *dev, const hob_panels *m, const hob_cl_part *part,
                     const uint8_t *rows)
{
    const size_t row_bytes = m->cols / m->type->block_len * m->type->block_bytes,
                 fitting = PIECE_BYTES / m->panel_bytes;
    const uint32_t each = fitting < 1 ? 1 : fitting < part->count ? (uint32_t)fitting : part->count;
    int rc = 0;

    for (uint32_t at = 0, i = 0; rc == 0 && at < part->count; at += each, i++) {
        hob_cl_pinned *piece = &dev->pieces[i % 2];
        const uint32_t first = part->first + at, left = part->count - at,
                       count = left < each ? left : each;
        const size_t bytes = count * m->panel_bytes;
        hob_panels view = *m; /* of these panels alone */
        view.rows = m->rows - first * HOB_PANEL_ROWS;
        if ((rc = hob_cl_pinned_wait(dev, piece)) < 0 ||
            (rc = hob_cl_pinned_ensure(dev, piece, bytes)) < 0)
            return rc;
        memset(piece->data, 0, bytes);
        hob_panels_pack(&view, rows + (size_t)first * HOB_PANEL_ROWS * row_bytes, 0, count,
                        piece->data);
        rc = hob_cl_pinned_send(dev, piece, part->mem, at * m->panel_bytes, bytes);
    }
    return rc;
}

static int upload_matrix(hob_cl_device *dev, hob_weight *w, const uint8_t *rows)
{
    const hob_panels *m = &w->panels;
    const size_t fitting = dev->part_max / m->panel_bytes,
                 most = fitting == 0 && m->panel_bytes <= dev->allocation_max ? 1 : fitting;
    const uint32_t each = most < m->panels ? (uint32_t)most : m->panels;
    int rc = 0;

    if (each == 0 || (m->panels + each - 1) / each > HOB_CL_PARTS_MAX)
        return HOB_ENOMEM;
    for (uint32_t first = 0; rc == 0 && first < m->panels; first += each) {
        hob_cl_part *part = &w->parts[w->part_count];
        part->first = first;
        part->count = m->panels - first < each ? m->panels - first : each;
        rc = hob_cl_memory_new(dev, part->count * m->panel_bytes, &part->mem);
        if (rc < 0)
            break;
        w->part_count++;
        rc = fill_part(dev, m, part, rows);
    }
    return rc;
}

static int upload_vector(hob_cl_device *dev, hob_weight *w, const void *data)
{
    w->vector = malloc(w->bytes);
    if (!w->vector)
        return HOB_ENOMEM;
    memcpy(w->vector, data, w->bytes);
    const int rc = hob_cl_memory_new(dev, w->bytes, &w->parts[0].mem);
    if (rc < 0)
        return rc;
    w->part_count = 1;
    return hob_cl_write(dev, w->parts[0].mem, 0, w->bytes, data);
}

int hob_cl_weight_upload(hob_device *base, hob_type type, uint32_t rows, uint32_t cols,
                         const void *data, size_t bytes, hob_weight **ret, hob_diag *diag)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    hob_panels shape;
    int rc = hob_panels_check(type, rows, cols, bytes, &shape, diag);

    if (rc < 0)
        return rc;
    if (!dev->tested[shape.kind]) { /* a type that is wrong here is not used */
        dev->tested[shape.kind] = true;
        rc = hob_golden_type(base, type, diag);
        if (rc < 0 && dev->dot[shape.kind] && !base->failure.text[0]) {
            dev->dot[shape.kind] = HOB_CL_DOT_NONE; /* perhaps its products of bytes are */
            hob_cl_programs_drop(dev, HOB_CL_FILE_linear, shape.kind);
            hob_cl_programs_drop(dev, HOB_CL_FILE_tile, shape.kind);
            rc = hob_golden_type(base, type, diag);
        }
        if (rc < 0)
            return rc;
    }
    hob_weight *w = calloc(1, sizeof *w);
    if (!w)
        return hob_fail(diag, HOB_ENOMEM, "weight: out of memory");
    const bool vector = type == HOB_TYPE_F32 && rows == 1;
    w->panels = shape;
    w->bytes = vector ? bytes : shape.panels * shape.panel_bytes;
    base->resident_bytes += w->bytes;
    rc = vector ? upload_vector(dev, w, data) : upload_matrix(dev, w, data);
    if (rc < 0) {
        hob_cl_weight_free(base, w);
        return hob_fail(diag, rc, "weight of %u rows, %u columns, %s: %.150s", rows, cols,
                        shape.type->name,
                        dev->base.failure.text[0] ? dev->base.failure.text : "out of memory");
    }
    *ret = w;
    return 0;
}

void hob_cl_weight_free(hob_device *base, hob_weight *w)
{
    hob_cl_device *dev = (hob_cl_device *)base;

    if (!w)
        return;
    for (uint32_t i = 0; i < w->part_count; i++)
        dev->api->ReleaseMemObject(w->parts[i].mem);
    base->resident_bytes -= w->bytes;
    free(w->vector);
    free(w);
}
