/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs from device to device, found out once and kept in the cache folder: how bytes are multiplied, how many parts
 * a matrix's columns are cut into, and from how many rows on the next way of multiplying is better. It is measured with the
 * operations themselves on a matrix of usual size; CLBlast, known to be wrong on some devices, must also agree with the
 * kernels here. Devices that are the processor itself are not measured: they are for tests. */
#include "hal/cl/cache.h"
#include "hal/cl/cl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hal/half.h"

enum {
    SIZE = 4096,      /* rows and columns of the matrix that is timed, 9 MB as Q4_0 */
    SMALL_SIZE = 512, /* on a processor */
    ROWS = 512,
    ROUNDS = 5,
    ROUND_US = 100000,                 /* a round takes no more runs than fill this */
    COMPUTE_CAPABILITY_MAJOR = 0x4000, /* of cl_nv_device_attribute_query */
    COMPUTE_CAPABILITY_MINOR = 0x4001,
};

static const hob_cl_tuning defaults = {
    .splits = 8, .few_rows = HOB_CL_ROWS_MAX, .gemm_rows = UINT32_MAX};

static hob_cl_dot find_dot(const hob_cl_device *dev)
{
    static char extensions[32768];
    cl_uint major = 0, minor = 0;

    extensions[0] = 0;
    dev->api->GetDeviceInfo(dev->id, CL_DEVICE_EXTENSIONS, sizeof extensions - 1, extensions, NULL);
    if (strstr(extensions, "cl_khr_integer_dot_product"))
        return HOB_CL_DOT_KHR;
    if (strstr(extensions, "cl_arm_integer_dot_product_accumulate_int8"))
        return HOB_CL_DOT_ARM;
    if (strstr(extensions, "cl_nv_device_attribute_query")) {
        dev->api->GetDeviceInfo(dev->id, COMPUTE_CAPABILITY_MAJOR, sizeof major, &major, NULL);
        dev->api->GetDeviceInfo(dev->id, COMPUTE_CAPABILITY_MINOR, sizeof minor, &minor, NULL);
        if (major >= 8)
            return HOB_CL_DOT_MMA;
        if (major * 10 + minor >= 61)
            return HOB_CL_DOT_NVIDIA;
    }
    return HOB_CL_DOT_NONE;
}

static void set_dot(hob_cl_device *dev, hob_cl_dot dot)
{
    for (int kind = 0; kind < HOB_KINDS; kind++) /* floats are not multiplied as bytes */
        dev->dot[kind] = kind < HOB_KIND_F16 ? dot : HOB_CL_DOT_NONE;
    dev->base.rounds = dot != HOB_CL_DOT_NONE;
}

/* A driver that has the extension and does not compile it is used without it. */
static void choose_dot(hob_cl_device *dev)
{
    set_dot(dev, find_dot(dev));
    if (dev->dot[HOB_KIND_Q4_0] == HOB_CL_DOT_MMA &&
        hob_cl_build(dev, HOB_CL_LINEAR_MMA_8, HOB_KIND_Q4_0) < 0) {
        dev->base.failure.text[0] = 0;
        set_dot(dev, HOB_CL_DOT_NVIDIA);
    }
    if (dev->dot[HOB_KIND_Q4_0] && hob_cl_build(dev, HOB_CL_LINEAR_1, HOB_KIND_Q4_0) < 0) {
        dev->base.failure.text[0] = 0;
        set_dot(dev, HOB_CL_DOT_NONE);
    }
}

/* "splits=4,few_rows=16,gemm_rows=64,groups=64,dot=plain (none, dp4a),part_bytes=70000", each optional; "measure" is for measuring where it would not
 * be. */
static void override(hob_cl_device *dev, const char *text)
{
    const struct {
        const char *name;
        uint32_t *number;
    } known[] = {{"splits=", &dev->tuning.splits},
                 {"few_rows=", &dev->tuning.few_rows},
                 {"gemm_rows=", &dev->tuning.gemm_rows},
                 {"groups=", &dev->wanted_groups}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *at = strstr(text, known[i].name);
        if (at)
            *known[i].number = (uint32_t)strtoul(at + strlen(known[i].name), NULL, 10);
    }
    const char *part = strstr(text, "part_bytes=");
    if (part)
        dev->part_max = strtoul(part + strlen("part_bytes="), NULL, 10);
    if (strstr(text, "dot=plain"))
        set_dot(dev, HOB_CL_DOT_PLAIN);
    if (strstr(text, "dot=none"))
        set_dot(dev, HOB_CL_DOT_NONE);
    if (strstr(text, "dot=dp4a"))
        set_dot(dev, HOB_CL_DOT_NVIDIA);
    if (!hob_cl_blas_found())
        dev->tuning.gemm_rows = UINT32_MAX;
}

typedef struct trial {
    hob_cl_device *dev;
    uint32_t size;
    hob_weight *w;
    hob_tensor *x, *y;
    uint32_t tokens[ROWS], block;
} trial;

/* Whole numbers, 127 among every 32: bytes hold them exactly. */
static int fill(trial *t, uint8_t *weights, float *x)
{
    const uint16_t scale = hob_float_to_half(0.01f);
    const uint32_t size = t->size;
    uint32_t seed = 1;

    for (size_t b = 0; b < (size_t)size * size / 32; b++) {
        for (int i = 0; i < 18; i++)
            weights[b * 18 + i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
        memcpy(weights + b * 18, &scale, sizeof scale);
    }
    for (size_t i = 0; i < (size_t)ROWS * size; i++)
        x[i] = i % 32 == 5 ? 127 : (float)((seed = seed * 1664525u + 1013904223u) >> 25) - 64;
    hob_device *dev = &t->dev->base;
    int rc = dev->ops->weight_upload(dev, HOB_TYPE_Q4_0, size, size, weights,
                                     (size_t)size * size / 32 * 18, &t->w, NULL);
    if (rc < 0 || (rc = dev->ops->tensor_new(dev, ROWS, size, &t->x, NULL)) < 0 ||
        (rc = dev->ops->tensor_new(dev, ROWS, size, &t->y, NULL)) < 0)
        return rc;
    return hob_cl_write(t->dev, t->x->mem, 0, (size_t)ROWS * size * sizeof *x, x);
}

/* Seconds for `rows` rows, the best of some; negative: it failed. */
static double time_rows(trial *t, uint32_t rows)
{
    hob_device *dev = &t->dev->base;
    const hob_span span = {0, rows, 0, &t->block};
    const hob_batch batch = {rows, t->tokens, 1, &span, 0, NULL};
    const hob_linear op = {.x = t->x, .count = 1, .w = {t->w}, .y = {t->y}};
    double best = -1;

    /* the first round builds kernels, and shows how many runs make a round */
    for (int round = 0, times = 1; round <= ROUNDS; round++) {
        const uint64_t start = hob_now_us();
        int rc = dev->ops->step_begin(dev, NULL, &batch);
        for (int i = 0; rc == 0 && i < times; i++)
            rc = dev->ops->linear(dev, &op);
        rc = dev->ops->step_end(dev) < 0 || rc < 0 ? -1 : hob_cl_wait(t->dev);
        if (rc < 0)
            return -1;
        const double us = (double)(hob_now_us() - start) / times;
        if (round > 0)
            best = best < 0 || us < best ? us : best;
        else if (us < ROUND_US / 20)
            times = 20;
        else if (us > ROUND_US)
            round = ROUNDS - 1;
    }
    return best / 1e6;
}

static void set_splits(trial *t, uint32_t splits)
{
    t->dev->tuning.splits = splits;
    if (t->dev->wanted_splits == 0) /* kernels are built for the number */
        hob_cl_programs_drop(t->dev, HOB_CL_FILE_linear, HOB_KIND_Q4_0);
}

static void tune_splits(trial *t)
{
    static const uint32_t tried[] = {4, 8, 16};
    double best = -1;
    uint32_t chosen = defaults.splits;

    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
        set_splits(t, tried[i]);
        const double seconds = time_rows(t, 1);
        if (seconds > 0 && (best < 0 || seconds < best)) {
            best = seconds;
            chosen = tried[i];
        }
    }
    set_splits(t, chosen);
}

static void tune_few_rows(trial *t)
{
    static const uint32_t tried[] = {16, 32};

    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
        t->dev->tuning.few_rows = tried[i];
        const double passes = time_rows(t, tried[i]);
        t->dev->tuning.few_rows = HOB_CL_ROWS_MAX;
        if (passes < 0 || passes > time_rows(t, tried[i]))
            return;
        t->dev->tuning.few_rows = tried[i];
    }
}

/* Whether CLBlast gives what the tiles give. */
static bool agrees(trial *t, float *got, float *want)
{
    const size_t count = (size_t)ROWS * t->size;
    hob_device *dev = &t->dev->base;
    double most = 0, apart = 0;

    t->dev->tuning.gemm_rows = UINT32_MAX;
    if (time_rows(t, ROWS) < 0 || dev->ops->read_rows(dev, t->y, 0, ROWS, want) < 0)
        return false;
    t->dev->tuning.gemm_rows = ROWS;
    if (time_rows(t, ROWS) < 0 || dev->ops->read_rows(dev, t->y, 0, ROWS, got) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)want[i]));
        apart = fabs((double)want[i] - (double)got[i]) <= apart
                    ? apart
                    : fabs((double)want[i] - (double)got[i]); /* NaN is kept */
    }
    return apart <= 1e-3 * most;
}

static void tune_gemm_rows(trial *t, float *scratch)
{
    uint32_t from = UINT32_MAX;

    if (!hob_cl_blas_found())
        return;
    if (agrees(t, scratch, scratch + (size_t)ROWS * t->size))
        for (uint32_t rows = ROWS; rows >= 32; rows /= 2) {
            t->dev->tuning.gemm_rows = UINT32_MAX;
            const double tiles = time_rows(t, rows);
            t->dev->tuning.gemm_rows = rows;
            const double gemm = time_rows(t, rows);
            if (gemm < 0 || gemm > tiles)
                break;
            from = rows;
        }
    t->dev->tuning.gemm_rows = from;
}

static void measure(hob_cl_device *dev)
{
    const uint32_t size = dev->base.info.processor ? SMALL_SIZE : SIZE;
    trial *t = calloc(1, sizeof *t);
    uint8_t *weights = malloc((size_t)size * size / 32 * 18);
    float *numbers = malloc((size_t)2 * ROWS * size * sizeof *numbers);

    if (t && weights && numbers) {
        t->dev = dev;
        t->size = size;
        if (fill(t, weights, numbers) == 0) {
            tune_splits(t);
            tune_few_rows(t);
            tune_gemm_rows(t, numbers);
        }
        if (dev->tuning.gemm_rows == UINT32_MAX) /* it has been tried for the last time */
            hob_cl_buffer_free(dev, &dev->slice);
        dev->base.ops->weight_free(&dev->base, t->w);
        dev->base.ops->tensor_free(&dev->base, t->x);
        dev->base.ops->tensor_free(&dev->base, t->y);
    }
    free(t);
    free(weights);
    free(numbers);
}

/* What an earlier run measured. */
static bool load(hob_cl_device *dev, const char *path)
{
    void *data = NULL;
    size_t bytes = 0;
    char text[128] = "";
    hob_cl_tuning got;

    if (hob_cl_cache_read(path, &data, &bytes) < 0)
        return false;
    memcpy(text, data, bytes < sizeof text ? bytes : sizeof text - 1);
    free(data);
    if (sscanf(text, "splits %u few_rows %u gemm_rows %u", &got.splits, &got.few_rows,
               &got.gemm_rows) != 3)
        return false;
    dev->tuning = got;
    return true;
}

static void tune(hob_cl_device *dev)
{
    const char *given = getenv("HOB_CL_TUNING");
    char path[4096 + 128], text[128];

    dev->tuning = defaults;
    if (dev->base.info.processor) /* its compiler makes slow code of tiles */
        dev->tuning.few_rows = UINT32_MAX;
    choose_dot(dev);
    if (given)
        override(dev, given);
    if (!dev->cache[0] || (given ? !strstr(given, "measure") : dev->base.info.processor))
        return;
    const char *const all[] = {"tuning",
                               hob_cl_source(HOB_CL_FILE_linear),
                               hob_cl_source(HOB_CL_FILE_tile),
                               hob_cl_source(HOB_CL_FILE_mma),
                               hob_cl_source(HOB_CL_FILE_dequantize),
                               hob_cl_blas_found() ? "CLBlast" : "",
                               dev->identity};
    if (hob_cl_cache_path(dev->cache, all, sizeof all / sizeof *all, path, sizeof path) < 0 ||
        load(dev, path))
        return;
    measure(dev);
    if (dev->base.failure.text[0]) /* it will say so itself */
        return;
    const int n = snprintf(text, sizeof text, "splits %u few_rows %u gemm_rows %u",
                           dev->tuning.splits, dev->tuning.few_rows, dev->tuning.gemm_rows);
    hob_cl_cache_write(path, text, (size_t)n);
}

void hob_cl_tune(hob_cl_device *dev)
{
    static const char *const dots[] = {"floats", "khr dot",   "arm dot",
                                       "dp4a",   "plain dot", "dp4a, mma"};
    char *isa = dev->base.info.isa;
    const size_t size = sizeof dev->base.info.isa;

    tune(dev);
    const int n = snprintf(isa, size, "%s", dots[dev->dot[HOB_KIND_Q4_0]]);
    if (dev->tuning.gemm_rows < UINT32_MAX)
        snprintf(isa + n, size - (size_t)n, ", CLBlast from %u", dev->tuning.gemm_rows);
}
