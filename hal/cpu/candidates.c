/* SPDX-License-Identifier: Apache-2.0
 *
 * From a row of logits to its best candidates and log-sum-exps. A row is cut into chunks of 8192 that the workers take;
 * each gives its best k as sortable keys, and its maxima and sums of exponentials, which are joined in ascending order:
 * the result does not depend on who worked. A key is the logit's bits, ordered, above the complement of its token id,
 * so keys descend by logit and then by ascending id. NaN counts as -infinity. */
#include "hal/cpu/cpu.h"

#include <math.h>

enum { CHUNK = 8192, PIECE = 512, KEYS_MAX = HOB_CANDIDATES_MAX + 2 * PIECE };

typedef struct chunk_result {
    float most, most_raw;
    double sum, sum_raw; /* of exp(logit * inverse_temperature - its largest) */
    uint32_t count;
    uint64_t keys[HOB_CANDIDATES_MAX];
} chunk_result;

typedef struct candidates_job {
    hob_cpu_device *dev;
    const hob_tensor *logits;
    const hob_candidates_in *in;
    hob_candidates *out;
    uint32_t chunks;       /* of a row */
    chunk_result *results; /* [count][chunks] */
} candidates_job;

static uint64_t key_of(float logit, uint32_t token)
{
    uint32_t u = hob_float_bits(logit);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        u = 0xff800000u;
    if (u == 0x80000000u)
        u = 0; /* -0 equals +0 */
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)u << 32 | (uint32_t)~token;
}

static float key_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    return hob_bits_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}

static uint32_t key_token(uint64_t key)
{
    return ~(uint32_t)key;
}

/* Moves the k largest keys to the front (Hoare's quickselect; keys are distinct). */
static void select_largest(uint64_t *keys, uint32_t count, uint32_t k)
{
    uint32_t low = 0, high = count - 1; /* both inside; the k-th largest lies between */

    if (k >= count)
        return;
    while (low < high) {
        uint64_t pivot = keys[low + (high - low) / 2];
        uint32_t i = low, j = high;
        for (;; i++, j--) {
            while (keys[i] > pivot)
                i++;
            while (keys[j] < pivot)
                j--;
            if (i >= j)
                break;
            uint64_t t = keys[i];
            keys[i] = keys[j];
            keys[j] = t;
        }
        if (k - 1 <= j)
            high = j;
        else
            low = j + 1;
    }
}

static void sort_descending(uint64_t *keys, uint32_t count)
{
    for (uint32_t gap = count / 2; gap; gap = gap > 2 ? gap * 5 / 11 : gap / 2)
        for (uint32_t i = gap; i < count; i++) {
            uint64_t key = keys[i];
            uint32_t j = i;
            for (; j >= gap && keys[j - gap] < key; j -= gap)
                keys[j] = keys[j - gap];
            keys[j] = key;
        }
}

static float edited(float logit, const hob_logit_edit *e)
{
    return (logit > 0 ? logit / e->divide : logit * e->divide) + e->add;
}

static uint32_t best_of(const hob_cpu_kernels *kernels, const float *x, uint32_t n, uint32_t first,
                        uint32_t k, uint64_t *ret)
{
    uint64_t keys[KEYS_MAX];
    uint32_t count = 0, ids[PIECE + 16];
    float floor = -INFINITY;

    for (uint32_t at = 0; at < n; at += PIECE) {
        uint32_t piece = n - at < PIECE ? n - at : PIECE,
                 found = kernels->at_least(x + at, piece, floor, ids);
        for (uint32_t i = 0; i < found; i++)
            keys[count++] = key_of(x[at + ids[i]], first + at + ids[i]);
        if (count >= KEYS_MAX - PIECE || (floor == -INFINITY && count > k)) {
            select_largest(keys, count, k);
            count = count < k ? count : k;
            uint64_t least = UINT64_MAX;
            for (uint32_t i = 0; i < count; i++)
                least = keys[i] < least ? keys[i] : least;
            if (count == k)
                floor = key_logit(least);
        }
    }
    if (count > k) {
        select_largest(keys, count, k);
        count = k;
    }
    memcpy(ret, keys, count * sizeof *keys);
    return count;
}

static void look_at_chunk(void *arg, uint32_t item, uint32_t worker)
{
    const candidates_job *job = arg;
    const hob_cpu_kernels *kernels = &job->dev->kernels;
    const hob_candidates_in *in = &job->in[item / job->chunks];
    uint32_t first = item % job->chunks * CHUNK, left = job->logits->cols - first,
             n = left < CHUNK ? left : CHUNK;
    const float *raw = job->logits->data + (size_t)in->row * job->logits->cols + first, *x = raw;
    chunk_result *r = &job->results[item];

    r->most_raw = kernels->max(raw, n);
    r->sum_raw = r->most_raw > -INFINITY ? kernels->exp_sum(raw, n, 1.0f, r->most_raw) : 0;
    if (in->edit_count) {
        float *copy = hob_cpu_scratch(job->dev, worker);
        memcpy(copy, raw, n * sizeof *copy);
        for (uint32_t i = 0; i < in->edit_count; i++)
            if (in->edits[i].token >= first && in->edits[i].token - first < n)
                copy[in->edits[i].token - first] =
                    edited(raw[in->edits[i].token - first], &in->edits[i]);
        x = copy;
    }
    r->most = r->most_raw;
    r->sum = r->sum_raw;
    if (x != raw || in->inverse_temperature != 1.0f) {
        r->most = kernels->max(x, n);
        r->sum = r->most > -INFINITY ? kernels->exp_sum(x, n, in->inverse_temperature,
                                                        r->most * in->inverse_temperature)
                                     : 0;
    }
    uint32_t k = in->k < n ? in->k : n;
    r->count = best_of(kernels, x, n, first, k, r->keys);
}

static void join_chunks(void *arg, uint32_t item, uint32_t worker)
{
    const candidates_job *job = arg;
    const hob_candidates_in *in = &job->in[item];
    const chunk_result *r = &job->results[(size_t)item * job->chunks];
    hob_candidates *out = &job->out[item];
    const float *raw = job->logits->data + (size_t)in->row * job->logits->cols;
    uint64_t keys[2 * HOB_CANDIDATES_MAX];
    uint32_t count = 0;
    float most = -INFINITY, most_raw = -INFINITY;
    double sum = 0, sum_raw = 0, scale = in->inverse_temperature;

    (void)worker;
    for (uint32_t i = 0; i < job->chunks; i++) {
        most = r[i].most > most ? r[i].most : most;
        most_raw = r[i].most_raw > most_raw ? r[i].most_raw : most_raw;
        memcpy(keys + count, r[i].keys, r[i].count * sizeof *keys);
        count += r[i].count;
        if (count > in->k) {
            select_largest(keys, count, in->k);
            count = in->k;
        }
    }
    for (uint32_t i = 0; i < job->chunks; i++) {
        if (r[i].most > -INFINITY)
            sum += r[i].sum * exp(((double)r[i].most - most) * scale);
        if (r[i].most_raw > -INFINITY)
            sum_raw += r[i].sum_raw * exp((double)r[i].most_raw - most_raw);
    }
    out->lse = (float)(log(sum) + most * scale);
    out->lse_raw = (float)(log(sum_raw) + most_raw);
    sort_descending(keys, count);
    out->count = count;
    for (uint32_t i = 0; i < count; i++) {
        out->ids[i] = key_token(keys[i]);
        out->logits[i] = key_logit(keys[i]);
        out->raw[i] = raw[out->ids[i]];
    }
}

/* Thread: step */
int hob_cpu_candidates(hob_device *base, const hob_tensor *logits, const hob_candidates_in *in,
                       uint32_t count, hob_candidates *ret)
{
    hob_cpu_device *dev = (hob_cpu_device *)base;
    candidates_job job = {.dev = dev,
                          .logits = logits,
                          .in = in,
                          .out = ret,
                          .chunks = (logits->cols + CHUNK - 1) / CHUNK};
    size_t results;

    for (uint32_t i = 0; i < count; i++) {
        if (in[i].row >= logits->rows || in[i].k < 1 || in[i].k > HOB_CANDIDATES_MAX ||
            !(in[i].inverse_temperature > 0))
            return HOB_EINVAL;
        for (uint32_t e = 0; e < in[i].edit_count; e++)
            if (in[i].edits[e].token >= logits->cols)
                return HOB_EINVAL;
    }
    if (!hob_mul_size((size_t)count * job.chunks, sizeof *job.results, &results))
        return HOB_ENOMEM;
    if (hob_cpu_buffer_ensure(&dev->candidates, results) < 0 ||
        hob_cpu_scratch_ensure(dev, CHUNK * sizeof(float)) < 0)
        return HOB_ENOMEM;
    job.results = dev->candidates.data;
    hob_pool_run(dev->pool, look_at_chunk, &job, count * job.chunks);
    hob_pool_run(dev->pool, join_chunks, &job, count);
    return 0;
}
