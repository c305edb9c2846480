/* SPDX-License-Identifier: Apache-2.0
 *
 * Candidates: chosen on the device, so that only they cross the bus. All of a call's requests go through each round
 * together; what the host needs lies in one buffer and is read at once: per request the parts of both log-sum-exps, the
 * best keys, and their raw logits. */
#include "hal/cl/cl.h"

#include <math.h>
#include <string.h>

#include "hal/half.h"

enum { GROUP = 64 };

typedef struct parts4 {
    float most, sum, raw_most, raw_sum;
} parts4;

static size_t round_up(size_t n)
{
    return (n + 255) / 256 * 256; /* sub-arrays begin where any device can read them */
}

static float key_logit(uint64_t key)
{
    const uint32_t u = (uint32_t)(key >> 32);
    return hob_bits_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}

/* What the kernels need to know of the requests: rows and 1/T, then the edits. */
static int send_requests(hob_cl_device *dev, const hob_candidates_in *in, uint32_t count,
                         uint32_t *ret_edits)
{
    uint32_t edits = 0, at = 0;
    int rc;

    for (uint32_t i = 0; i < count; i++)
        edits += in[i].edit_count;
    uint32_t *asked = hob_cl_stage(dev, &dev->asked, count),
             *inverse = hob_cl_stage(dev, &dev->inverse, count),
             *e = hob_cl_stage(dev, &dev->edits, 4 * edits);
    if (!asked || !inverse || !e)
        return dev->base.failure.text[0] ? HOB_EDEVICE : HOB_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        asked[i] = in[i].row;
        inverse[i] = hob_float_bits(in[i].inverse_temperature);
        for (uint32_t k = 0; k < in[i].edit_count; k++, at += 4) {
            e[at] = i;
            e[at + 1] = in[i].edits[k].token;
            e[at + 2] = hob_float_bits(in[i].edits[k].divide);
            e[at + 3] = hob_float_bits(in[i].edits[k].add);
        }
    }
    *ret_edits = edits;
    if ((rc = hob_cl_send(dev, &dev->asked)) < 0 || (rc = hob_cl_send(dev, &dev->inverse)) < 0)
        return rc;
    return hob_cl_send(dev, &dev->edits);
}

/* Copies of the asked rows, edited. */
static int edit_rows(hob_cl_device *dev, const hob_tensor *logits, uint32_t count, uint32_t edits)
{
    int rc = hob_cl_buffer_ensure(dev, &dev->rows, (size_t)count * logits->cols * sizeof(float));
    const hob_cl_arg copy[] = {HOB_CL_ARG(logits->mem), HOB_CL_ARG(dev->asked.buffer.mem),
                               HOB_CL_ARG(logits->cols), HOB_CL_ARG(dev->rows.mem)};
    if (rc < 0 || (rc = hob_cl_run(dev, HOB_CL_COPY_ROWS, 0,
                                   (size_t[]){(logits->cols + GROUP - 1) / GROUP, count, 1},
                                   (size_t[]){GROUP, 1, 1}, copy, sizeof copy / sizeof *copy)) < 0)
        return rc;
    if (edits == 0)
        return 0;
    const hob_cl_arg edit[] = {HOB_CL_ARG(dev->edits.buffer.mem), HOB_CL_ARG(edits),
                               HOB_CL_ARG(logits->cols), HOB_CL_ARG(dev->rows.mem)};
    return hob_cl_run(dev, HOB_CL_EDIT_LOGITS, 0, (size_t[]){(edits + GROUP - 1) / GROUP, 1, 1},
                      (size_t[]){GROUP, 1, 1}, edit, sizeof edit / sizeof *edit);
}

/* Rounds of sorting until one chunk is left; *ret_keys: [count][keep] of them. */
static int best_keys(hob_cl_device *dev, uint32_t vocab, uint32_t count, uint32_t keep,
                     cl_mem *ret_keys)
{
    uint32_t chunks = (vocab + HOB_CL_CHUNK - 1) / HOB_CL_CHUNK;
    const size_t bytes = (size_t)count * chunks * keep * sizeof(cl_ulong);
    int rc, at = 0;

    if ((rc = hob_cl_buffer_ensure(dev, &dev->keys[0], bytes)) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->keys[1], bytes)) < 0)
        return rc;
    const hob_cl_arg first[] = {HOB_CL_ARG(dev->rows.mem), HOB_CL_ARG(vocab), HOB_CL_ARG(chunks),
                                HOB_CL_ARG(keep), HOB_CL_ARG(dev->keys[0].mem)};
    rc = hob_cl_run(dev, HOB_CL_BEST_LOGITS, 0, (size_t[]){chunks, count, 1},
                    (size_t[]){dev->large_group, 1, 1}, first, sizeof first / sizeof *first);
    while (rc == 0 && chunks > 1) {
        const uint32_t keys = chunks * keep;
        chunks = (keys + HOB_CL_CHUNK - 1) / HOB_CL_CHUNK;
        const hob_cl_arg next[] = {HOB_CL_ARG(dev->keys[at].mem), HOB_CL_ARG(keys),
                                   HOB_CL_ARG(chunks), HOB_CL_ARG(keep),
                                   HOB_CL_ARG(dev->keys[1 - at].mem)};
        rc = hob_cl_run(dev, HOB_CL_BEST_KEYS, 0, (size_t[]){chunks, count, 1},
                        (size_t[]){dev->large_group, 1, 1}, next, sizeof next / sizeof *next);
        at = 1 - at;
    }
    *ret_keys = dev->keys[at].mem;
    return rc;
}

/* One request's answer from what was read. */
static void answer(const hob_candidates_in *in, uint32_t vocab, const parts4 *parts,
                   uint32_t chunks, const uint64_t *keys, const float *raw, hob_candidates *ret)
{
    double most = -INFINITY, raw_most = -INFINITY, sum = 0, raw_sum = 0;
    const double scale = in->inverse_temperature;

    for (uint32_t c = 0; c < chunks; c++) {
        most = parts[c].most > most ? parts[c].most : most;
        raw_most = parts[c].raw_most > raw_most ? parts[c].raw_most : raw_most;
    }
    for (uint32_t c = 0; c < chunks; c++) {
        if (parts[c].most > -INFINITY)
            sum += parts[c].sum * exp((parts[c].most - most) * scale);
        if (parts[c].raw_most > -INFINITY)
            raw_sum += parts[c].raw_sum * exp(parts[c].raw_most - raw_most);
    }
    ret->lse = (float)(log(sum) + most * scale);
    ret->lse_raw = (float)(log(raw_sum) + raw_most);
    ret->count = in->k < vocab ? in->k : vocab;
    for (uint32_t i = 0; i < ret->count; i++) {
        ret->ids[i] = ~(uint32_t)keys[i];
        ret->logits[i] = key_logit(keys[i]);
        ret->raw[i] = raw[i];
    }
}

/* Thread: step */
int hob_cl_candidates(hob_device *base, const hob_tensor *logits, const hob_candidates_in *in,
                      uint32_t count, hob_candidates *ret)
{
    hob_cl_device *dev = (hob_cl_device *)base;
    const uint32_t vocab = logits->cols, chunks = (vocab + HOB_CL_CHUNK - 1) / HOB_CL_CHUNK;
    uint32_t keep = 1, edits;
    cl_mem keys;
    int rc;

    for (uint32_t i = 0; i < count; i++) {
        if (in[i].row >= logits->rows || in[i].k < 1 || in[i].k > HOB_CANDIDATES_MAX ||
            !(in[i].inverse_temperature > 0))
            return HOB_EINVAL;
        for (uint32_t e = 0; e < in[i].edit_count; e++)
            if (in[i].edits[e].token >= vocab)
                return HOB_EINVAL;
        keep = in[i].k > keep ? in[i].k : keep;
    }
    if (count == 0)
        return 0;
    const size_t parts_bytes = (size_t)count * chunks * sizeof(parts4),
                 keys_bytes = (size_t)count * keep * sizeof(cl_ulong),
                 keys_at = round_up(parts_bytes), raw_at = keys_at + round_up(keys_bytes),
                 bytes = raw_at + (size_t)count * keep * sizeof(float);
    if ((rc = hob_cl_pinned_ensure(dev, &dev->host_results, bytes)) < 0 ||
        (rc = hob_cl_buffer_ensure(dev, &dev->results, bytes)) < 0 ||
        (rc = send_requests(dev, in, count, &edits)) < 0 ||
        (rc = edit_rows(dev, logits, count, edits)) < 0 ||
        (rc = best_keys(dev, vocab, count, keep, &keys)) < 0)
        return rc;
    const hob_cl_arg sums[] = {HOB_CL_ARG(dev->rows.mem),
                               HOB_CL_ARG(logits->mem),
                               HOB_CL_ARG(dev->asked.buffer.mem),
                               HOB_CL_ARG(dev->inverse.buffer.mem),
                               HOB_CL_ARG(vocab),
                               HOB_CL_ARG(chunks),
                               HOB_CL_ARG(dev->results.mem),
                               {dev->large_group * sizeof(float), NULL}};
    const cl_ulong to_keys = keys_at / sizeof(cl_ulong), to_raw = raw_at / sizeof(float);
    const hob_cl_arg raws[] = {HOB_CL_ARG(keys),        HOB_CL_ARG(keep),
                               HOB_CL_ARG(logits->mem), HOB_CL_ARG(dev->asked.buffer.mem),
                               HOB_CL_ARG(vocab),       HOB_CL_ARG(dev->results.mem),
                               HOB_CL_ARG(to_keys),     HOB_CL_ARG(to_raw)};
    if ((rc = hob_cl_run(dev, HOB_CL_LOG_SUM_PARTS, 0, (size_t[]){chunks, count, 1},
                         (size_t[]){dev->large_group, 1, 1}, sums, sizeof sums / sizeof *sums)) <
            0 ||
        (rc =
             hob_cl_run(dev, HOB_CL_RAW_LOGITS, 0, (size_t[]){(keep + GROUP - 1) / GROUP, count, 1},
                        (size_t[]){GROUP, 1, 1}, raws, sizeof raws / sizeof *raws)) < 0 ||
        (rc = hob_cl_read(dev, dev->results.mem, 0, bytes, dev->host_results.data)) < 0)
        return rc;
    const uint8_t *results = dev->host_results.data;
    for (uint32_t i = 0; i < count; i++)
        answer(&in[i], vocab, (const parts4 *)results + (size_t)i * chunks, chunks,
               (const uint64_t *)(results + keys_at) + (size_t)i * keep,
               (const float *)(results + raw_at) + (size_t)i * keep, &ret[i]);
    return 0;
}
