/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels-check: every operation and type on every device; the CPU's at each ISA tier against a double-precision reference (within a tolerance) and
 * against the scalar tier (by memcmp). Outputs lie between guard bands and are filled with NaN before each call; the
 * whole region, guards included, is compared. A tier that the machine lacks is skipped, never passed. */
#ifndef HOB_TESTS_KERNELS_CHECK_H
#define HOB_TESTS_KERNELS_CHECK_H

#include "hal/cpu/kernels.h"
#include "hal/cpu/math.h"
#include "hal/select.h"

#include <stdlib.h>
#include <time.h>

typedef struct check {
    const char *op, *type;
    const hob_choice *device; /* the CPU, at the tier, or another one */
    bool rounds;              /* as the opened device does */
    bool brief;               /* fewer cases, for a device that is emulated */
    hob_cpu_tier tier;
    const hob_cpu_kernels *scalar, *kernels; /* kernels: of the tier */
    uint32_t state;                          /* of the generator */
    bool failed;
    char why[160];
} check;

typedef struct check_case {
    const char *op, *type;
    void (*run)(check *c);
} check_case;

extern const check_case kernel_cases[], device_cases[], encoder_cases[]; /* end with op NULL */

/* Uniform in -scale .. scale; a whole number below n. */
float random_float(check *c, float scale);
uint32_t random_below(check *c, uint32_t n);
void fill_random(check *c, float *x, size_t n, float scale);

/* Records the first disagreement of a check. */
void fail(check *c, const char *format, ...) HOB_PRINTF(2, 3);
void expect_near(check *c, const char *what, size_t index, double got, double want,
                 double tolerance);

/* A region for outputs: `bytes` at data, aligned to 64 plus `skew` bytes, all 0xff, between guards of 256. */
typedef struct region {
    uint8_t *base, *data;
    size_t total;
} region;

region region_new(size_t bytes, size_t skew);
void region_free(region *r);
void expect_same_region(check *c, const char *what, const region *a, const region *b);

/* Random GGUF rows of a type, with scales of a usual size, and their values as floats [rows][cols]. */
void *random_rows(check *c, hob_type type, uint32_t rows, uint32_t cols, size_t *ret_bytes,
                  float **ret_values);

/* device.c: of a whole device. */
bool is_cpu(const check *c);
/* A row computed in other company: on the CPU the same bits, elsewhere the same within `tolerance` of the largest. */
void expect_same_row(check *c, const char *what, uint32_t row, const float *got, const float *want,
                     uint32_t n, double tolerance);
/* NULL, and the check has failed. */
hob_device *open_at(check *c, uint32_t threads);
hob_tensor *tensor(check *c, hob_device *dev, uint32_t rows, uint32_t cols);
/* A tensor's rows are set by embedding an F32 table. */
hob_weight *table_of(hob_device *dev, const float *x, uint32_t rows, uint32_t cols);

/* Prints this machine's limits and each kernel's rate. */
/* The most a core can do in GMAC/s, 0 where nobody has measured it; of memory, in GB/s, with one thread or two. */
typedef struct peak {
    double integers, floats;
} peak;
peak peak_of(hob_cpu_tier tier);
double read_bandwidth(uint32_t threads);
double thread_seconds(void);

void run_bench(const char *op, int only_tier);

#endif
