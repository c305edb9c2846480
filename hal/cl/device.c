/* SPDX-License-Identifier: Apache-2.0
 *
 * The OpenCL device: finding and opening it, its memory, steps, and the small operations (norm_add, gate). */
#include "hal/cl/cl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLATFORMS_MAX = 8,
    DEVICES_MAX = 16,
    GROUP = 64,
    LARGE_GROUP = 256,
    FAULT_BYTES = 4 << 20,
    FAULT_STEPS = 40,
    GROUPS_OF_PROCESSOR = 1, /* in one part, whatever else is in the step: tests compare */
    GROUPS_AN_UNIT = 16,
    SPLITS_AN_UNIT = 64, /* of 16 items: half of what a compute unit of 2,048 items holds */
};

bool hob_cl_fault(const char *name)
{
    const char *wanted = getenv("HOB_CL_FAULT");
    return wanted && strcmp(wanted, name) == 0;
}

int hob_cl_failed(hob_cl_device *dev, cl_int error, const char *what)
{
    if (!dev->base.failure.text[0])
        hob_fail(&dev->base.failure, HOB_EDEVICE, "%s: %s: %s (%d)", dev->base.info.name, what,
                 hob_cl_error_name(error), (int)error);
    return HOB_EDEVICE;
}

int hob_cl_memory_new(hob_cl_device *dev, size_t bytes, cl_mem *ret)
{
    cl_int error = CL_SUCCESS;
    if (bytes > dev->allocation_max || (bytes > FAULT_BYTES && hob_cl_fault("memory")))
        return HOB_ENOMEM;
    cl_mem mem = dev->api->CreateBuffer(dev->context, CL_MEM_READ_WRITE, bytes, NULL, &error);
    if (mem && hob_cl_fault("poison"))
        error = dev->api->EnqueueFillBuffer(dev->queue, mem, &(cl_uint){UINT32_MAX},
                                            sizeof(cl_uint), 0, bytes / 4 * 4, 0, NULL, NULL);
    if (mem && error == CL_SUCCESS) {
        *ret = mem;
        return 0;
    }
    if (mem)
        dev->api->ReleaseMemObject(mem);
    switch (error) {
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_RESOURCES:
    case CL_OUT_OF_HOST_MEMORY:
    case CL_INVALID_BUFFER_SIZE: return HOB_ENOMEM;
    default: return hob_cl_failed(dev, error, "allocating memory");
    }
}

int hob_cl_buffer_ensure(hob_cl_device *dev, hob_cl_buffer *b, size_t bytes)
{
    cl_mem mem;
    if (bytes <= b->bytes)
        return 0;
    bytes = (bytes + 4095) / 4096 * 4096;
    /* Commands in the queue may use the old one; growing is rare enough to wait for them. */
    int rc = b->mem ? hob_cl_wait(dev) : 0;
    if (rc < 0 || (rc = hob_cl_memory_new(dev, bytes, &mem)) < 0)
        return rc;
    if (b->mem)
        dev->api->ReleaseMemObject(b->mem);
    dev->base.resident_bytes += bytes - b->bytes;
    b->mem = mem;
    b->bytes = bytes;
    return 0;
}

void hob_cl_buffer_free(hob_cl_device *dev, hob_cl_buffer *b)
{
    if (b->mem)
        dev->api->ReleaseMemObject(b->mem);
    dev->base.resident_bytes -= b->bytes;
    *b = (hob_cl_buffer){0};
}

int hob_cl_write(hob_cl_device *dev, cl_mem to, size_t offset, size_t bytes, const void *from)
{
    const cl_int error =
        dev->api->EnqueueWriteBuffer(dev->queue, to, CL_TRUE, offset, bytes, from, 0, NULL, NULL);
    return error == CL_SUCCESS ? 0 : hob_cl_failed(dev, error, "writing");
}

/* The queue is empty: the last step's time can be asked for, and what it was staged from used again. */
static void waited(hob_cl_device *dev)
{
    cl_ulong from = 0, to = 0;
    const size_t size = sizeof from;

    dev->waiting = false;
    if (dev->began && dev->ended &&
        dev->api->GetEventProfilingInfo(dev->began, CL_PROFILING_COMMAND_START, size, &from,
                                        NULL) == CL_SUCCESS &&
        dev->api->GetEventProfilingInfo(dev->ended, CL_PROFILING_COMMAND_END, size, &to, NULL) ==
            CL_SUCCESS &&
        to > from)
        dev->base.busy_us += (to - from) / 1000;
    if (dev->began)
        dev->api->ReleaseEvent(dev->began);
    if (dev->ended)
        dev->api->ReleaseEvent(dev->ended);
    dev->began = dev->ended = NULL;
}

int hob_cl_read(hob_cl_device *dev, cl_mem from, size_t offset, size_t bytes, void *to)
{
    if (dev->base.failure.text[0])
        return HOB_EDEVICE;
    const cl_int error =
        dev->api->EnqueueReadBuffer(dev->queue, from, CL_TRUE, offset, bytes, to, 0, NULL, NULL);
    if (error != CL_SUCCESS)
        return hob_cl_failed(dev, error, "reading results");
    waited(dev);
    return 0;
}

int hob_cl_wait(hob_cl_device *dev)
{
    if (!dev->waiting)
        return 0;
    const cl_int error = dev->api->Finish(dev->queue);
    if (error != CL_SUCCESS)
        return hob_cl_failed(dev, error, "waiting");
    waited(dev);
    return 0;
}

int hob_cl_pinned_wait(hob_cl_device *dev, hob_cl_pinned *p)
{
    if (!p->busy)
        return 0;
    const cl_int error = dev->api->WaitForEvents(1, &p->busy);
    dev->api->ReleaseEvent(p->busy);
    p->busy = NULL;
    return error == CL_SUCCESS ? 0 : hob_cl_failed(dev, error, "waiting for a copy");
}

static void pinned_free(hob_cl_device *dev, hob_cl_pinned *p)
{
    if (p->busy && hob_cl_pinned_wait(dev, p) < 0)
        p->busy = NULL;
    if (p->data)
        dev->api->EnqueueUnmapMemObject(dev->queue, p->mem, p->data, 0, NULL, NULL);
    if (p->mem)
        dev->api->ReleaseMemObject(p->mem);
    *p = (hob_cl_pinned){0};
}

int hob_cl_pinned_ensure(hob_cl_device *dev, hob_cl_pinned *p, size_t bytes)
{
    cl_int error = CL_SUCCESS;

    if (bytes <= p->bytes)
        return 0;
    pinned_free(dev, p);
    bytes = (bytes + 4095) / 4096 * 4096;
    p->mem = dev->api->CreateBuffer(dev->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes,
                                    NULL, &error);
    if (!p->mem)
        return HOB_ENOMEM;
    p->data = dev->api->EnqueueMapBuffer(dev->queue, p->mem, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                         bytes, 0, NULL, NULL, &error);
    if (!p->data) {
        pinned_free(dev, p);
        return HOB_ENOMEM;
    }
    p->bytes = bytes;
    return 0;
}

int hob_cl_pinned_send(hob_cl_device *dev, hob_cl_pinned *p, cl_mem to, size_t offset, size_t bytes)
{
    const int rc = hob_cl_pinned_wait(dev, p);
    if (rc < 0)
        return rc;
    const cl_int error = dev->api->EnqueueWriteBuffer(dev->queue, to, CL_FALSE, offset, bytes,
                                                      p->data, 0, NULL, &p->busy);
    dev->waiting = true;
    return error == CL_SUCCESS ? 0 : hob_cl_failed(dev, error, "writing");
}

uint32_t *hob_cl_stage(hob_cl_device *dev, hob_cl_staged *s, uint32_t count)
{
    const size_t bytes = (size_t)(count ? count : 1) * sizeof(uint32_t);
    if (bytes > s->host.bytes && hob_cl_pinned_ensure(dev, &s->host, 2 * bytes) < 0)
        return NULL;
    if (hob_cl_pinned_wait(dev, &s->host) < 0)
        return NULL;
    s->count = count;
    return s->host.data;
}

int hob_cl_send(hob_cl_device *dev, hob_cl_staged *s)
{
    const size_t bytes = s->count * sizeof(uint32_t);
    if (s->count == 0)
        return 0;
    const int rc = hob_cl_buffer_ensure(dev, &s->buffer, bytes);
    return rc < 0 ? rc : hob_cl_pinned_send(dev, &s->host, s->buffer.mem, 0, bytes);
}

static int tensor_new(hob_device *base, uint32_t rows, uint32_t cols, hob_tensor **ret,
                      hob_diag *diag)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    size_t count, bytes;

    if (rows == 0 || cols == 0 || !hob_mul_size(rows, cols, &count) ||
        !hob_mul_size(count, sizeof(float), &bytes))
        return hob_fail(diag, HOB_EINVAL, "tensor of %u rows, %u columns", rows, cols);
    hob_tensor *t = calloc(1, sizeof *t);
    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "tensor: out of memory");
    *t = (hob_tensor){.rows = rows, .cols = cols, .bytes = bytes};
    const int rc = hob_cl_memory_new(dev, bytes, &t->mem);
    if (rc < 0) {
        free(t);
        return hob_fail(diag, rc, "tensor of %u rows, %u columns: %.150s", rows, cols,
                        rc == HOB_ENOMEM ? "out of the device's memory" : dev->base.failure.text);
    }
    base->resident_bytes += bytes;
    *ret = t;
    return 0;
}

static void tensor_free(hob_device *base, hob_tensor *t)
{
    if (!t)
        return;
    ((hob_cl_device *)base)->api->ReleaseMemObject(t->mem);
    base->resident_bytes -= t->bytes;
    free(t);
}

static void kv_free(hob_device *base, hob_kv *kv)
{
    if (!kv)
        return;
    for (uint32_t i = 0; i < kv->shape.layers; i++)
        if (kv->layers[i])
            ((hob_cl_device *)base)->api->ReleaseMemObject(kv->layers[i]);
    base->resident_bytes -= kv->bytes;
    free(kv->layers);
    free(kv);
}

static int kv_new(hob_device *base, const hob_kv_shape *s, hob_kv **ret, hob_diag *diag)
{
    const size_t tokens = HOB_KV_BLOCK_TOKENS, groups = (s->head_dim + 31) / 32,
                 each = s->type == HOB_TYPE_F16 ? 2 : 1,
                 scales = s->type == HOB_TYPE_Q8_0 ? tokens * groups * 2 : 0;
    size_t heads, layer_bytes;

    if (s->layers == 0 || s->kv_heads == 0 || s->head_dim == 0 || s->block_count == 0 ||
        (s->type != HOB_TYPE_F16 && s->type != HOB_TYPE_Q8_0))
        return hob_fail(diag, HOB_EINVAL,
                        "KV cache of %u layers, %u heads of %u, %u blocks: type F16 or Q8_0",
                        s->layers, s->kv_heads, s->head_dim, s->block_count);
    hob_kv *kv = calloc(1, sizeof *kv);
    if (!kv || !(kv->layers = calloc(s->layers, sizeof *kv->layers))) {
        free(kv);
        return hob_fail(diag, HOB_ENOMEM, "KV cache: out of memory");
    }
    kv->shape = *s;
    kv->width = (s->head_dim + 15) / 16 * 16;
    kv->k_bytes = (tokens * s->head_dim * each + scales + 63) / 64 * 64;
    kv->head_bytes = kv->k_bytes + (tokens * kv->width * each + scales + 63) / 64 * 64;
    int rc = hob_mul_size(s->block_count, s->kv_heads, &heads) &&
                     hob_mul_size(heads, kv->head_bytes, &layer_bytes)
                 ? 0
                 : HOB_ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < s->layers; i++) {
        rc = hob_cl_memory_new((hob_cl_device *)base, layer_bytes, &kv->layers[i]);
        if (rc == 0) {
            kv->bytes += layer_bytes;
            base->resident_bytes += layer_bytes;
        }
    }
    if (rc < 0) {
        kv_free(base, kv);
        return hob_fail(diag, rc, "KV cache of %u blocks: out of the device's memory",
                        s->block_count);
    }
    *ret = kv;
    return 0;
}

static int kv_copy_block(hob_device *base, hob_kv *kv, uint32_t from, uint32_t to)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const size_t bytes = kv->head_bytes * kv->shape.kv_heads;

    if (from >= kv->shape.block_count || to >= kv->shape.block_count)
        return HOB_EINVAL;
    for (uint32_t i = 0; from != to && i < kv->shape.layers; i++) {
        const cl_int error =
            dev->api->EnqueueCopyBuffer(dev->queue, kv->layers[i], kv->layers[i], from * bytes,
                                        to * bytes, bytes, 0, NULL, NULL);
        if (error != CL_SUCCESS)
            return hob_cl_failed(dev, error, "copying a KV block");
    }
    return 0;
}

static int step_begin(hob_device *base, hob_kv *kv, const hob_batch *batch)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    uint32_t blocks = 0, at = 0;
    int rc = hob_batch_check(batch, kv ? kv->shape.block_count : 0);

    if (rc < 0)
        return rc;
    for (uint32_t i = 0; kv && i < batch->span_count; i++)
        blocks += hob_span_blocks(&batch->spans[i]);
    if (++dev->steps > FAULT_STEPS && hob_cl_fault("step"))
        hob_cl_failed(dev, CL_OUT_OF_RESOURCES, "a step");
    if (dev->base.failure.text[0])
        return HOB_EDEVICE;
    if ((rc = hob_cl_wait(dev)) < 0) /* the buffers are free again */
        return rc;
    uint32_t *tokens = hob_cl_stage(dev, &dev->tokens, batch->row_count),
             *positions = hob_cl_stage(dev, &dev->positions, batch->row_count),
             *block_starts = hob_cl_stage(dev, &dev->block_starts, batch->row_count),
             *logit_rows = hob_cl_stage(dev, &dev->logit_rows, batch->logit_count),
             *all_blocks = hob_cl_stage(dev, &dev->blocks, blocks);
    if (!tokens || !positions || !block_starts || !logit_rows || !all_blocks)
        return dev->base.failure.text[0] ? HOB_EDEVICE : HOB_ENOMEM;
    memcpy(tokens, batch->tokens, batch->row_count * sizeof *tokens);
    if (batch->logit_count)
        memcpy(logit_rows, batch->logit_rows, batch->logit_count * sizeof *logit_rows);
    for (uint32_t i = 0; i < batch->span_count; i++) {
        const hob_span *s = &batch->spans[i];
        for (uint32_t r = 0; r < s->row_count; r++) {
            positions[s->first_row + r] = s->first_position + r;
            block_starts[s->first_row + r] = at;
        }
        if (!kv)
            continue;
        const uint32_t used = hob_span_blocks(s);
        memcpy(all_blocks + at, s->blocks, used * sizeof *s->blocks);
        at += used;
    }
    if ((rc = hob_cl_send(dev, &dev->tokens)) < 0 || (rc = hob_cl_send(dev, &dev->positions)) < 0 ||
        (rc = hob_cl_send(dev, &dev->block_starts)) < 0 ||
        (rc = hob_cl_send(dev, &dev->logit_rows)) < 0 || (rc = hob_cl_send(dev, &dev->blocks)) < 0)
        return rc;
    dev->tile_rows = dev->tile_count = 0;
    dev->gate.out = NULL;
    dev->kv = kv;
    dev->batch = batch;
    return 0;
}

static int step_end(hob_device *base)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const int rc = hob_cl_gate_now(dev);
    dev->kv = NULL;
    dev->batch = NULL;
    if (rc < 0 || dev->base.failure.text[0])
        return HOB_EDEVICE;
    cl_int error = CL_SUCCESS;
    if (!dev->ended)
        error = dev->api->EnqueueMarkerWithWaitList(dev->queue, 0, NULL, &dev->ended);
    if (error == CL_SUCCESS)
        error = dev->api->Flush(dev->queue);
    return error == CL_SUCCESS ? 0 : hob_cl_failed(dev, error, "starting a step");
}

int hob_cl_gate_now(hob_cl_device *dev)
{
    const hob_cl_gate g = dev->gate;

    if (!g.out)
        return 0;
    dev->gate.out = NULL;
    const cl_ulong count = (cl_ulong)dev->batch->row_count * g.out->cols;
    const cl_int act = (cl_int)g.kind, has_up = g.up != NULL;
    const cl_mem up = has_up ? g.up->mem : NULL;
    const hob_cl_arg args[] = {HOB_CL_ARG(g.gate->mem), HOB_CL_ARG(up),  HOB_CL_ARG(g.out->mem),
                               HOB_CL_ARG(count),       HOB_CL_ARG(act), HOB_CL_ARG(has_up)};
    return hob_cl_run(dev, HOB_CL_GATE, 0, (size_t[]){(count + GROUP - 1) / GROUP, 1, 1},
                      (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
}

/* Most gates are read by the next linear alone, whose preparation then does them. */
static int gate(hob_device *base, hob_gate_kind kind, const hob_tensor *g, const hob_tensor *up,
                hob_tensor *out)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = dev->batch->row_count;

    if ((up && (g->cols != up->cols || up->rows < rows)) || g->cols != out->cols ||
        g->rows < rows || out->rows < rows)
        return HOB_EINVAL;
    const int rc = hob_cl_gate_now(dev);
    dev->gate = (hob_cl_gate){.kind = kind, .gate = g, .up = up, .out = out};
    return rc;
}

static int norm_add(hob_device *base, hob_tensor *y, const hob_weight *norm, float eps,
                    hob_tensor *x)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = dev->batch->row_count;

    if (!norm->vector || norm->panels.cols != x->cols || x->cols != y->cols || x->rows < rows ||
        y->rows < rows)
        return HOB_EINVAL;
    const hob_cl_arg args[] = {
        HOB_CL_ARG(y->mem), HOB_CL_ARG(x->cols), HOB_CL_ARG(norm->parts[0].mem),
        HOB_CL_ARG(eps),    HOB_CL_ARG(x->mem),  {GROUP * sizeof(float), NULL}};
    return hob_cl_run(dev, HOB_CL_NORM_ADD, 0, (size_t[]){rows, 1, 1}, (size_t[]){GROUP, 1, 1},
                      args, sizeof args / sizeof *args);
}

static int layer_norm(hob_device *base, hob_tensor *x, const hob_weight *norm,
                      const hob_weight *bias, float eps)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t rows = dev->batch->row_count;
    int rc;

    if (!norm->vector || norm->panels.cols != x->cols || !bias->vector ||
        bias->panels.cols != x->cols || x->rows < rows)
        return HOB_EINVAL;
    if ((rc = hob_cl_gate_now(dev)) < 0)
        return rc;
    const hob_cl_arg args[] = {HOB_CL_ARG(x->mem),
                               HOB_CL_ARG(x->cols),
                               HOB_CL_ARG(norm->parts[0].mem),
                               HOB_CL_ARG(bias->parts[0].mem),
                               HOB_CL_ARG(eps),
                               {GROUP * sizeof(float), NULL}};
    return hob_cl_run(dev, HOB_CL_LAYER_NORM, 0, (size_t[]){rows, 1, 1}, (size_t[]){GROUP, 1, 1},
                      args, sizeof args / sizeof *args);
}

static int pool(hob_device *base, hob_pool_kind kind, const hob_tensor *x, hob_tensor *out)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_batch *batch = dev->batch;
    const cl_int mean = kind == HOB_POOL_MEAN;
    int rc;

    if (x->cols != out->cols || x->rows < batch->row_count || out->rows < batch->span_count)
        return HOB_EINVAL;
    uint32_t *spans = hob_cl_stage(dev, &dev->spans, 2 * batch->span_count);
    if (!spans)
        return dev->base.failure.text[0] ? HOB_EDEVICE : HOB_ENOMEM;
    for (uint32_t i = 0; i < batch->span_count; i++) {
        spans[2 * i] = batch->spans[i].first_row;
        spans[2 * i + 1] = batch->spans[i].row_count;
    }
    if ((rc = hob_cl_gate_now(dev)) < 0 || (rc = hob_cl_send(dev, &dev->spans)) < 0)
        return rc;
    const hob_cl_arg args[] = {
        HOB_CL_ARG(x->mem), HOB_CL_ARG(x->cols),  HOB_CL_ARG(dev->spans.buffer.mem),
        HOB_CL_ARG(mean),   HOB_CL_ARG(out->mem), {GROUP * sizeof(float), NULL}};
    return hob_cl_run(dev, HOB_CL_POOL, 0, (size_t[]){batch->span_count, 1, 1},
                      (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
}

static int narrow(hob_device *base, hob_tensor *const *tensors, uint32_t count)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const hob_batch *batch = dev->batch;
    int rc = 0;

    for (uint32_t i = 0; i < count; i++)
        if (batch->logit_count == 0 || tensors[i]->rows < batch->row_count)
            return HOB_EINVAL;
    for (uint32_t i = 0; rc == 0 && batch->logit_rows && i < count; i++) {
        const hob_cl_arg args[] = {HOB_CL_ARG(tensors[i]->mem), HOB_CL_ARG(tensors[i]->cols),
                                   HOB_CL_ARG(dev->logit_rows.buffer.mem),
                                   HOB_CL_ARG(batch->logit_count)};
        rc = hob_cl_run(dev, HOB_CL_PACK_ROWS, 0,
                        (size_t[]){(tensors[i]->cols + GROUP - 1) / GROUP, 1, 1},
                        (size_t[]){GROUP, 1, 1}, args, sizeof args / sizeof *args);
    }
    dev->narrowed = hob_batch_narrowed(batch);
    dev->batch = &dev->narrowed;
    return rc;
}

static int read_rows(hob_device *base, const hob_tensor *t, uint32_t first_row, uint32_t rows,
                     float *ret)
{
    const size_t row_bytes = t->cols * sizeof(float);
    if (first_row > t->rows || rows > t->rows - first_row)
        return HOB_EINVAL;
    return rows ? hob_cl_read((hob_cl_device *)base, t->mem, first_row * row_bytes,
                              rows * row_bytes, ret)
                : 0;
}

static void close_device(hob_device *base)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    hob_cl_staged *staged[] = {&dev->tokens,     &dev->positions, &dev->block_starts, &dev->blocks,
                               &dev->logit_rows, &dev->tiles,     &dev->spans,        &dev->asked,
                               &dev->inverse,    &dev->edits};
    hob_cl_buffer *buffers[] = {&dev->input,   &dev->sums,    &dev->bytes,   &dev->side,
                                &dev->slice,   &dev->partial, &dev->experts, &dev->shares,
                                &dev->starts,  &dev->order,   &dev->rows,    &dev->keys[0],
                                &dev->keys[1], &dev->results};

    if (dev->queue) {
        dev->api->Finish(dev->queue);
        waited(dev);
    }
    hob_cl_programs_free(dev);
    for (size_t i = 0; i < sizeof staged / sizeof *staged; i++) {
        hob_cl_buffer_free(dev, &staged[i]->buffer);
        pinned_free(dev, &staged[i]->host);
    }
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        hob_cl_buffer_free(dev, buffers[i]);
    for (int i = 0; i < HOB_ROPE_TABLES; i++) {
        hob_cl_buffer_free(dev, &dev->rope_buffers[i].cosine);
        hob_cl_buffer_free(dev, &dev->rope_buffers[i].sine);
    }
    hob_rope_tables_free(dev->ropes);
    pinned_free(dev, &dev->pieces[0]);
    pinned_free(dev, &dev->pieces[1]);
    pinned_free(dev, &dev->host_results);
    if (dev->queue)
        dev->api->ReleaseCommandQueue(dev->queue);
    if (dev->context)
        dev->api->ReleaseContext(dev->context);
    free(dev);
}

static const hob_device_ops ops = {
    .close = close_device,
    .weight_upload = hob_cl_weight_upload,
    .weight_free = hob_cl_weight_free,
    .tensor_new = tensor_new,
    .tensor_free = tensor_free,
    .kv_new = kv_new,
    .kv_free = kv_free,
    .kv_copy_block = kv_copy_block,
    .step_begin = step_begin,
    .embed = hob_cl_embed,
    .add_positions = hob_cl_add_positions,
    .linear = hob_cl_linear,
    .norm_add = norm_add,
    .layer_norm = layer_norm,
    .rope_kv = hob_cl_rope_kv,
    .attention = hob_cl_attention,
    .gate = gate,
    .experts = hob_cl_experts,
    .pool = pool,
    .narrow = narrow,
    .step_end = step_end,
    .candidates = hob_cl_candidates,
    .read_rows = read_rows,
};

/* All devices of all platforms, in the loader's order. */
static size_t list_devices(const hob_cl_api *api, cl_device_id ret[DEVICES_MAX])
{
    cl_platform_id platforms[PLATFORMS_MAX];
    cl_uint platform_count = 0;
    size_t count = 0;

    if (api->GetPlatformIDs(PLATFORMS_MAX, platforms, &platform_count) != CL_SUCCESS)
        return 0;
    for (cl_uint p = 0; p < platform_count && p < PLATFORMS_MAX && count < DEVICES_MAX; p++) {
        const cl_uint room = (cl_uint)(DEVICES_MAX - count);
        cl_uint found = 0;
        if (api->GetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, room, ret + count, &found) ==
            CL_SUCCESS)
            count += found < room ? found : room;
    }
    return count;
}

static void describe(const hob_cl_api *api, cl_device_id id, size_t index, hob_device_info *ret)
{
    char device[64] = "", version[48] = "";
    cl_ulong memory = 0;
    cl_device_type type = 0;

    api->GetDeviceInfo(id, CL_DEVICE_NAME, sizeof device - 1, device, NULL);
    api->GetDeviceInfo(id, CL_DRIVER_VERSION, sizeof version - 1, version, NULL);
    api->GetDeviceInfo(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
    api->GetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    *ret = (hob_device_info){.memory_bytes = memory, .processor = (type & CL_DEVICE_TYPE_CPU) != 0};
    snprintf(ret->name, sizeof ret->name, "opencl:%zu", index);
    snprintf(ret->description, sizeof ret->description, "%s, driver %s", device, version);
}

static int probe(hob_device_info *ret, size_t cap)
{
    const hob_cl_api *api = hob_cl_load();
    cl_device_id ids[DEVICES_MAX];
    size_t count = api ? list_devices(api, ids) : 0;

    if (hob_cl_fault("probe"))
        abort();
    count = count < cap ? count : cap;
    for (size_t i = 0; i < count; i++)
        describe(api, ids[i], i, &ret[i]);
    return (int)count;
}

static void identify(hob_cl_device *dev)
{
    char version[96] = "", platform[96] = "";
    cl_platform_id id = NULL;

    dev->api->GetDeviceInfo(dev->id, CL_DEVICE_VERSION, sizeof version - 1, version, NULL);
    dev->api->GetDeviceInfo(dev->id, CL_DEVICE_PLATFORM, sizeof id, &id, NULL);
    if (id)
        dev->api->GetPlatformInfo(id, CL_PLATFORM_VERSION, sizeof platform - 1, platform, NULL);
    snprintf(dev->identity, sizeof dev->identity, "%s; %s; %s", dev->base.info.description, version,
             platform);
}

static int open_device(const hob_device_info *which, const hob_device_options *options,
                       hob_device **ret, hob_diag *diag)
{
    const hob_cl_api *api = hob_cl_load();
    cl_device_id ids[DEVICES_MAX];
    const size_t count = api ? list_devices(api, ids) : 0;
    size_t index = 0;
    cl_int error = CL_SUCCESS;
    cl_ulong allocation = 0, local_bytes = 0;
    cl_uint units = 0;
    size_t group_max = 0;
    hob_device_info found;

    if (sscanf(which->name, "opencl:%zu", &index) != 1 || index >= count)
        return hob_fail(diag, HOB_ENOENT, "device: got \"%s\", there are %zu OpenCL devices",
                        which->name, count);
    describe(api, ids[index], index, &found);
    if (strcmp(found.description, which->description) != 0)
        return hob_fail(diag, HOB_EDEVICE, "%s: got %.90s, expected %.90s", which->name,
                        found.description, which->description);
    hob_cl_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return hob_fail(diag, HOB_ENOMEM, "OpenCL device: out of memory");
    dev->base.ops = &ops;
    dev->base.info = *which;
    dev->api = api;
    dev->id = ids[index];
    dev->context = api->CreateContext(NULL, 1, &dev->id, NULL, NULL, &error);
    if (dev->context)
        dev->queue =
            api->CreateCommandQueue(dev->context, dev->id, CL_QUEUE_PROFILING_ENABLE, &error);
    if (!dev->queue) {
        close_device(&dev->base);
        return hob_fail(diag, HOB_EDEVICE, "%s: cannot be opened: %s (%d)", which->name,
                        hob_cl_error_name(error), (int)error);
    }
    api->GetDeviceInfo(dev->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof allocation, &allocation, NULL);
    api->GetDeviceInfo(dev->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local_bytes, &local_bytes, NULL);
    api->GetDeviceInfo(dev->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    api->GetDeviceInfo(dev->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group_max, &group_max, NULL);
    if (options && options->cache)
        snprintf(dev->cache, sizeof dev->cache, "%s", options->cache);
    identify(dev);
    dev->allocation_max = dev->part_max = allocation;
    dev->local_bytes = local_bytes;
    dev->group_max = group_max < 1024 ? (uint32_t)group_max : 1024;
    dev->large_group = group_max < LARGE_GROUP ? GROUP : LARGE_GROUP;
    dev->wanted_splits = which->processor ? 0 : units * SPLITS_AN_UNIT;
    dev->wanted_groups = which->processor ? GROUPS_OF_PROCESSOR : units * GROUPS_AN_UNIT;
    hob_cl_tune(dev);
    *ret = &dev->base;
    return 0;
}

const hob_backend hob_backend_cl = {.name = "opencl", .probe = probe, .open = open_device};
