/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels-check [--list] [--seed N] [--isa TIER] [--op NAME] [--bench]. See check.h. */
#include "tests/kernels/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

float random_float(check *c, float scale)
{
    return ((float)random_below(c, 1u << 24) / 8388608.0f - 1.0f) * scale;
}

uint32_t random_below(check *c, uint32_t n)
{
    c->state ^= c->state << 13;
    c->state ^= c->state >> 17;
    c->state ^= c->state << 5;
    return (uint32_t)((uint64_t)c->state * n >> 32);
}

void fill_random(check *c, float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(c, scale);
}

void fail(check *c, const char *format, ...)
{
    if (c->failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    c->failed = true;
}

void expect_near(check *c, const char *what, size_t index, double got, double want,
                 double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail(c, "%s[%zu]: got %.9g, reference %.9g, tolerance %.3g", what, index, got, want,
             tolerance);
}

enum { GUARD = 256 };

region region_new(size_t bytes, size_t skew)
{
    region r = {.total = (bytes + skew + 2 * GUARD + 63) / 64 * 64};
    r.base = aligned_alloc(64, r.total);
    if (!r.base)
        abort();
    memset(r.base, 0xff, r.total);
    r.data = r.base + GUARD + skew;
    return r;
}

void region_free(region *r)
{
    free(r->base);
    r->base = NULL;
}

void expect_same_region(check *c, const char *what, const region *a, const region *b)
{
    for (size_t i = 0; i < a->total; i++)
        if (a->base[i] != b->base[i]) {
            fail(c, "%s: differs from the scalar tier at byte %td of the output", what,
                 (ptrdiff_t)i - (a->data - a->base));
            return;
        }
}

void *random_rows(check *c, hob_type type, uint32_t rows, uint32_t cols, size_t *ret_bytes,
                  float **ret_values)
{
    const hob_type_info *info = hob_type_find(type);
    size_t count = (size_t)rows * cols, bytes = count / info->block_len * info->block_bytes;
    uint8_t *data = malloc(bytes);
    float *values = malloc(count * sizeof *values);

    if (!data || !values)
        abort();
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)random_below(c, 256);
    for (size_t b = 0; b < count / info->block_len; b++) {
        uint8_t *block = data + b * info->block_bytes;
        float f = random_float(c, 0.1f), m = random_float(c, 0.5f);
        uint16_t half = hob_float_to_half(f), half_m = hob_float_to_half(m),
                 upper = (uint16_t)(hob_float_bits(f) >> 16);
        if (type == HOB_TYPE_F32)
            memcpy(block, &f, sizeof f);
        else
            memcpy(block + info->d_at, type == HOB_TYPE_BF16 ? &upper : &half, sizeof half);
        if (info->minimum)
            memcpy(block + info->d_at + 2, &half_m, sizeof half_m);
    }
    hob_type_dequantize(info, data, values, count);
    *ret_bytes = bytes;
    *ret_values = values;
    return data;
}

static int tier_named(const char *name)
{
    for (int t = 0; t < HOB_CPU_TIERS; t++)
        if (strcmp(name, hob_cpu_tier_name((hob_cpu_tier)t)) == 0)
            return t;
    return -1;
}

typedef struct tally {
    int passed, failed, skipped;
} tally;

/* device NULL: this machine has none of that name. */
static void run_case(const check_case *one, const hob_choice *device, hob_cpu_tier tier,
                     uint32_t seed, bool brief, tally *t)
{
    hob_cpu_kernels scalar, kernels;

    if (!hob_cpu_has_tier(tier)) {
        printf("SKIP %-11s %-14s %s: this machine has no such tier\n", hob_cpu_tier_name(tier),
               one->op, one->type);
        t->skipped++;
        return;
    }
    if (!device) {
        printf("SKIP %-11s %-14s %s: this machine has no such device\n", "", one->op, one->type);
        t->skipped++;
        return;
    }
    const char *where =
        strcmp(device->info.name, "cpu") == 0 ? hob_cpu_tier_name(tier) : device->info.name;
    hob_cpu_kernels_fill(HOB_CPU_SCALAR, &scalar);
    hob_cpu_kernels_fill(tier, &kernels);
    check c = {.op = one->op,
               .type = one->type,
               .device = device,
               .brief = brief,
               .tier = tier,
               .scalar = &scalar,
               .kernels = &kernels};
    c.state = seed * 2654435761u + 88675123u;
    c.state = c.state ? c.state : 1;
    one->run(&c);
    if (c.failed) {
        printf("FAIL %-11s %-14s %s: %s (seed %u)\n", where, one->op, one->type, c.why, seed);
        t->failed++;
    } else {
        printf("ok   %-11s %-14s %s\n", where, one->op, one->type);
        t->passed++;
    }
    fflush(stdout);
}

/* As it is found: the checks here are what a choice would rest on. */
static bool find_device(const char *name, hob_device_info *ret)
{
    hob_device_info found[HOB_CHOICES_MAX];
    const hob_backend *b = strcmp(name, "cpu") == 0 ? &hob_backend_cpu : &hob_backend_cl;
    const int n = b->probe(found, HOB_CHOICES_MAX);
    for (int i = 0; i < n; i++)
        if (strcmp(name, found[i].name) == 0) {
            *ret = found[i];
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    const check_case *groups[] = {kernel_cases, device_cases, encoder_cases};
    const char *op = NULL, *type = NULL, *device = "cpu";
    bool list = false, bench = false, brief = false;
    uint32_t seed = 1;
    int only_tier = -1;
    tally t = {0, 0, 0};

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--list") == 0) {
            list = true;
        } else if (strcmp(argv[i], "--bench") == 0) {
            bench = true;
        } else if (strcmp(argv[i], "--brief") == 0) {
            brief = true;
        } else if (strcmp(argv[i], "--seed") == 0 && value) {
            seed = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--op") == 0 && value) {
            op = argv[++i];
        } else if (strcmp(argv[i], "--type") == 0 && value) {
            type = argv[++i];
        } else if (strcmp(argv[i], "--device") == 0 && value) {
            device = argv[++i];
        } else if (strcmp(argv[i], "--isa") == 0 && value && (only_tier = tier_named(value)) >= 0) {
            i++;
        } else {
            fprintf(
                stderr,
                "usage: kernels-check [--list] [--brief] [--seed N] [--device cpu|opencl:N] [--isa "
                "scalar|neon|avx2|avx512vnni] [--op NAME] [--type NAME] [--bench]\n");
            return 2;
        }
    }
    if (bench) {
        run_bench(op, only_tier);
        return 0;
    }
    const bool cpu = strcmp(device, "cpu") == 0;
    hob_choice choice = {0};
    const bool there = !list && find_device(device, &choice.info);
    for (size_t g = cpu ? 0 : 1; g < sizeof groups / sizeof groups[0];
         g++) /* kernels are the CPU's */
        for (const check_case *one = groups[g]; one->op; one++) {
            if ((op && strcmp(op, one->op) != 0) || (type && strcmp(type, one->type) != 0))
                continue;
            if (list) {
                printf("%-14s %s\n", one->op, one->type);
                continue;
            }
            /* tiers of another family of processors are no gap here, unless one is asked for */
            for (int tier = 0; tier < (cpu ? HOB_CPU_TIERS : 1); tier++)
                if (only_tier < 0 ? hob_cpu_builds_tier((hob_cpu_tier)tier) : tier == only_tier)
                    run_case(one, there ? &choice : NULL, (hob_cpu_tier)tier, seed, brief, &t);
        }
    if (list)
        return 0;
    for (int tier = 0; cpu && tier < HOB_CPU_TIERS; tier++)
        if ((only_tier < 0 || tier == only_tier) && hob_cpu_has_tier((hob_cpu_tier)tier))
            printf("tier %s ran on: %s\n", hob_cpu_tier_name((hob_cpu_tier)tier),
                   choice.info.description);
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    return t.failed || t.passed + t.skipped == 0;
}
