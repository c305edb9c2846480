/* SPDX-License-Identifier: Apache-2.0
 *
 * What a core can do at most with its data in registers and the first-level cache: the inner step of an integer tile and
 * fused multiply-adds, as fast as each ISA has them; and how fast threads read memory. The bench prints shares of these. */
#include "tests/kernels/check.h"

#include <pthread.h>
#include <string.h>

static double wall_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#if defined __x86_64__
enum { STEPS = 20000 };
static int8_t data[256] __attribute__((aligned(64)));

#define CLOBBERS                                                                                   \
    "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define LOOP(body)                                                                                 \
    long n = STEPS;                                                                                \
    __asm__ volatile("1:\n" body "dec %[n]\n jnz 1b\n vzeroupper\n"                                \
                     : [n] "+r"(n)                                                                 \
                     : [d] "r"(data)                                                               \
                     : CLOBBERS)

/* 16 rows, 6 columns, 4 deep */
#define PAIR(at, lo, hi)                                                                           \
    "vpbroadcastd " #at "(%[d]), %%ymm14\n vpmaddubsw %%ymm14, %%ymm12, %%ymm15\n"                 \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm14\n vpaddw %%ymm15, %%ymm" #lo ", %%ymm" #lo "\n"          \
    "vpaddw %%ymm14, %%ymm" #hi ", %%ymm" #hi "\n"
static void integers_avx2(void)
{
    LOOP("vmovdqa (%[d]), %%ymm12\n vmovdqa 32(%[d]), %%ymm13\n" PAIR(0, 0, 1) PAIR(4, 2, 3)
             PAIR(8, 4, 5) PAIR(12, 6, 7) PAIR(16, 8, 9) PAIR(20, 10, 11));
}

/* 12 sums of 8 lanes */
#define FMA(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #r "\n"
#define TWELVE(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)
static void floats_avx2(void)
{
    LOOP("vxorps %%ymm14, %%ymm14, %%ymm14\n vxorps %%ymm15, %%ymm15, %%ymm15\n" TWELVE(FMA));
}

/* 12 sums of 16 rows, 4 deep */
#define DOT(r) "vpdpbusd (%[d])%{1to16%}, %%zmm15, %%zmm" #r "\n"
static void integers_vnni(void)
{
    LOOP("vmovdqa64 (%[d]), %%zmm15\n" TWELVE(DOT));
}

#define FMA_WIDE(r) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #r "\n"
static void floats_vnni(void)
{
    LOOP("vxorps %%xmm14, %%xmm14, %%xmm14\n vxorps %%xmm15, %%xmm15, %%xmm15\n" TWELVE(FMA_WIDE));
}

static const struct {
    void (*integers)(void);
    double integer_macs; /* of a step */
    void (*floats)(void);
    double float_macs;
} loops[HOB_CPU_TIERS] = {
    [HOB_CPU_AVX2] = {integers_avx2, 16 * 6 * 4, floats_avx2, 12 * 8},
    [HOB_CPU_AVX512VNNI] = {integers_vnni, 12 * 16 * 4, floats_vnni, 12 * 16},
};

static double rate_of(void (*loop)(void), double macs)
{
    double best = 1e9;
    for (int round = 0; loop && round < 50; round++) {
        double t = thread_seconds();
        loop();
        t = thread_seconds() - t;
        best = t < best ? t : best;
    }
    return loop ? macs * STEPS / best * 1e-9 : 0;
}

peak peak_of(hob_cpu_tier tier)
{
    return (peak){rate_of(loops[tier].integers, loops[tier].integer_macs),
                  rate_of(loops[tier].floats, loops[tier].float_macs)};
}
#else
peak peak_of(hob_cpu_tier tier)
{
    (void)tier;
    return (peak){0, 0};
}
#endif

enum { STREAM_BYTES = 256 << 20, LANES = 32 };

typedef struct reader {
    const uint64_t *from;
    size_t words;
    uint64_t sum;
} reader;

static void *read_all(void *arg)
{
    reader *r = arg;
    uint64_t sums[LANES] = {0};
    for (size_t i = 0; i < r->words; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            sums[l] += r->from[i + l];
    for (size_t l = 0; l < LANES; l++)
        r->sum += sums[l];
    return NULL;
}

double read_bandwidth(uint32_t threads)
{
    enum { MOST = 2 };
    const size_t words = STREAM_BYTES / 8 / threads;
    uint64_t *data_ = aligned_alloc(2 << 20, STREAM_BYTES);
    double best = 1e9;

    if (!data_ || threads > MOST)
        abort();
    memset(data_, 1, STREAM_BYTES);
    for (int round = 0; round < 6; round++) {
        reader r[MOST];
        pthread_t id;
        double t = wall_seconds();
        for (uint32_t i = 0; i < threads; i++)
            r[i] = (reader){data_ + i * words, words, 0};
        if (threads > 1 && pthread_create(&id, NULL, read_all, &r[1]))
            abort();
        read_all(&r[0]);
        if (threads > 1)
            pthread_join(id, NULL);
        t = wall_seconds() - t;
        best = t < best ? t : best;
    }
    free(data_);
    return STREAM_BYTES / best * 1e-9;
}
