/* SPDX-License-Identifier: Apache-2.0
 *
 * Rates of the kernels on one thread, by its own CPU time, and what share they are of the most that this machine can do:
 * of a tile's inner step or of fused multiply-adds; a single column also of what a thread can read. Shapes are those of
 * the models that the tests use. Nothing here is asserted. */
#include "tests/kernels/check.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum {
    COLD_BYTES = 96 << 20
}; /* do not fit a cache, as the weights that one column is multiplied with in decoding */

static double bandwidth; /* of one thread */

static double share(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* The best of several runs of about 20 ms. */
#define BEST(seconds, call)                                                                        \
    do {                                                                                           \
        int times_ = 1;                                                                            \
        double t_;                                                                                 \
        seconds = 1e9;                                                                             \
        for (int round_ = 0; round_ < 8; round_++) {                                               \
            t_ = thread_seconds();                                                                 \
            for (int i_ = 0; i_ < times_; i_++)                                                    \
                call;                                                                              \
            t_ = (thread_seconds() - t_) / times_;                                                 \
            seconds = t_ < seconds ? t_ : seconds;                                                 \
            times_ = t_ > 0.02 ? 1 : (int)(0.02 / (t_ + 1e-9)) + 1;                                \
        }                                                                                          \
    } while (0)

static void bench_linear(const hob_cpu_kernels *k, const peak *most, hob_kind kind, uint32_t rows,
                         uint32_t cols, uint32_t columns)
{
    hob_panels w;
    if (hob_panels_shape(hob_kind_type(kind), rows, cols, &w) < 0)
        abort();
    uint8_t *data = aligned_alloc(64, w.panel_bytes * w.panels);
    float *x = aligned_alloc(64, (size_t)columns * cols * 4),
          *y = aligned_alloc(64, (size_t)columns * rows * 4);
    int8_t *q = aligned_alloc(64, (size_t)columns * cols);
    hob_cpu_scale *scales = malloc((size_t)columns * (cols / 32) * sizeof *scales);
    void *scratch = aligned_alloc(64, (hob_cpu_scratch_bytes(cols) + 63) / 64 * 64);
    double seconds;

    if (!data || !x || !y || !q || !scales || !scratch)
        abort();
    memset(data, 0x11, w.panel_bytes * w.panels);
    memset(y, 0, (size_t)columns * rows * 4);
    for (uint32_t i = 0; i < columns * cols; i++)
        x[i] = (float)(i * 7919u % 1000) - 500.0f;
    k->quantize(x, columns * cols / 32, q, scales);
    w.data = data;
    hob_cpu_input in = {columns, x, cols, q, cols, scales, cols / 32, 0};
    hob_cpu_output out = {y, rows, NULL, false};
    BEST(seconds, k->linear[kind](&w, &in, &out, 0, w.panels, scratch));
    const double macs = (double)rows * cols * columns / seconds * 1e-9,
                 bytes = (double)w.panel_bytes * w.panels / seconds * 1e-9;
    printf("  linear %-6s %6ux%-4u %3u columns %9.1f us %6.1f GMAC/s %3.0f %% %6.1f GB/s",
           w.type->name, rows, cols, columns, seconds * 1e6, macs,
           share(macs, w.blocks ? most->integers : most->floats), bytes);
    if (columns == 1)
        printf(" %3.0f %% of reading", share(bytes, bandwidth));
    printf("\n");
    free(data);
    free(x);
    free(y);
    free(q);
    free(scales);
    free(scratch);
}

static void bench_others(const hob_cpu_kernels *k, const peak *most)
{
    enum { N = 49152, DIM = 64, QUERIES = 48 };
    static float a[N], b[N], y[N], keys[DIM * 32], s[QUERIES * 32], scale[QUERIES], state[2];
    static int8_t q[N];
    static hob_cpu_scale scales[N / 32];
    static uint32_t ids[N + 16];
    static uint16_t half[N];
    double t;

    for (int i = 0; i < N; i++) {
        a[i] = (float)(i * 7919 % 1000) * 0.01f - 5.0f;
        b[i] = 1.0f;
    }
#define LINE(name, count, call)                                                                    \
    do {                                                                                           \
        BEST(t, call);                                                                             \
        printf("  %-36s %9.2f us %6.2f G/s %3.0f %%\n", name, t * 1e6, (double)(count) / t * 1e-9, \
               share((double)(count) / t * 1e-9, most->floats));                                   \
    } while (0)
    LINE("rms_norm 576", 576, k->rms_norm(a, b, 1e-5f, y, 576));
    LINE("layer_norm 384", 384, k->layer_norm(a, b, b, 1e-12f, y, 384));
    LINE("quantize 576", 576, k->quantize(a, 18, q, scales));
    LINE("rope 9 heads of 64", 576, k->rope(y, 9, 64, 64, false, a, b));
    LINE("gate 1536", 1536, k->gate(HOB_GATE_SILU, a, b, y, 1536));
    LINE("gelu 1536", 1536, k->gate(HOB_GATE_GELU, a, NULL, y, 1536));
    LINE("from_half 2048", 2048, k->from_half(half, y, 2048));
    LINE("attend_scores 48 queries", QUERIES * 32 * DIM,
         k->attend_scores(a, DIM, QUERIES, keys, DIM, s));
    LINE("attend_softmax", 32, k->attend_softmax(s, 0, 32, state));
    LINE("attend_values 48 queries", QUERIES * 32 * DIM,
         k->attend_values(s, scale, QUERIES, 0, 32, keys, DIM, y));
    LINE("attend_scores 3 queries", 3 * 32 * DIM, k->attend_scores(a, DIM, 3, keys, DIM, s));
    LINE("max 49152", N, y[0] = k->max(a, N));
    LINE("exp_sum 49152", N, y[0] = k->exp_sum(a, N, 1.0f, 5.0f));
    LINE("at_least 49152", N, ids[0] = k->at_least(a, N, 4.9f, ids));
#undef LINE
}

/* Stored vectors that do not fit a cache. */
static void bench_scan(const hob_cpu_kernels *k, const peak *most)
{
    enum { DIM = 384, PANELS = COLD_BYTES / (16 * DIM), BLOCK = 64, QUERIES = 8 };
    static float d[16 * BLOCK], y[QUERIES * 16 * BLOCK];
    static int8_t q[QUERIES * DIM];
    int8_t *v = aligned_alloc(2 << 20, COLD_BYTES);
    double seconds;

    if (!v)
        abort();
    madvise(v, COLD_BYTES, MADV_HUGEPAGE);
    memset(v, 0x11, COLD_BYTES);
    memset(q, 0x22, sizeof q);
    for (uint32_t n = 1; n <= QUERIES; n *= 2) {
        BEST(seconds, for (uint32_t p = 0; p + BLOCK <= PANELS; p += BLOCK)
                          k->scan(v + (size_t)p * 16 * DIM, d, BLOCK, DIM, q, n, y, 16 * BLOCK));
        const double bytes = (double)(PANELS / BLOCK * BLOCK) * 16 * DIM / seconds * 1e-9;
        printf("  scan %ux%d %27u queries %9.1f us %6.1f GMAC/s %3.0f %% %6.1f GB/s %3.0f %% of "
               "reading\n",
               PANELS / BLOCK * BLOCK * 16, DIM, n, seconds * 1e6, bytes * n,
               share(bytes * n, most->integers), bytes, share(bytes, bandwidth));
    }
    free(v);
}

/* Matrices of SmolLM2 135M, Gemma 3 270M and Qwen2.5 0.5B by type and shape. */
static const struct {
    hob_kind kind;
    uint32_t rows, cols;
} shapes[] = {
    {HOB_KIND_Q4_1, 576, 576},    {HOB_KIND_Q4_1, 192, 576},   {HOB_KIND_Q4_1, 1536, 576},
    {HOB_KIND_Q4_1, 576, 1536},   {HOB_KIND_Q8_0, 49152, 576}, {HOB_KIND_Q5_0, 1024, 640},
    {HOB_KIND_Q5_0, 256, 640},    {HOB_KIND_Q5_0, 2048, 640},  {HOB_KIND_Q4_K, 640, 1024},
    {HOB_KIND_Q4_K, 640, 2048},   {HOB_KIND_Q6_K, 640, 2048},  {HOB_KIND_Q8_0, 262144, 640},
    {HOB_KIND_Q5_0, 896, 896},    {HOB_KIND_Q5_0, 128, 896},   {HOB_KIND_Q8_0, 128, 896},
    {HOB_KIND_Q5_0, 4864, 896},   {HOB_KIND_Q4_K, 896, 4864},  {HOB_KIND_Q6_K, 896, 4864},
    {HOB_KIND_Q8_0, 151936, 896},
};

/* Many rows are logits, of a few columns. */
enum { LOGITS = 32768 };

static void bench_linears(const hob_cpu_kernels *k, const peak *most)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (uint32_t columns = 1; columns <= (shapes[i].rows > LOGITS ? 8 : 512); columns *= 8)
            bench_linear(k, most, shapes[i].kind, shapes[i].rows, shapes[i].cols, columns);
    for (int kind = 0; kind < HOB_KINDS; kind++) {
        hob_panels w;
        if (hob_panels_shape(hob_kind_type((hob_kind)kind), 16, 768, &w) < 0)
            abort();
        bench_linear(k, most, (hob_kind)kind, COLD_BYTES / (uint32_t)w.panel_bytes * 16, 768, 1);
        bench_linear(k, most, (hob_kind)kind, 1536, 768, 8);
        bench_linear(k, most, (hob_kind)kind, 1536, 768, 512);
    }
}

void run_bench(const char *op, int only_tier)
{
    bandwidth = read_bandwidth(1);
    printf("reading memory: %.1f GB/s with one thread, %.1f with two\n", bandwidth,
           read_bandwidth(2));
    for (int tier = HOB_CPU_SCALAR; tier < HOB_CPU_TIERS; tier++) {
        hob_cpu_kernels k;
        if ((only_tier >= 0 && tier != only_tier) || (only_tier < 0 && tier == HOB_CPU_SCALAR))
            continue;
        printf("%s%s\n", hob_cpu_tier_name((hob_cpu_tier)tier),
               hob_cpu_has_tier((hob_cpu_tier)tier) ? "" : ": SKIP, not on this machine");
        if (!hob_cpu_has_tier((hob_cpu_tier)tier))
            continue;
        hob_cpu_kernels_fill((hob_cpu_tier)tier, &k);
        const peak most = peak_of((hob_cpu_tier)tier);
        printf("  peak of a core: %.1f GMAC/s of bytes, %.1f of floats\n", most.integers,
               most.floats);
        if (!op || strcmp(op, "linear") == 0)
            bench_linears(&k, &most);
        if (!op || strcmp(op, "scan") == 0)
            bench_scan(&k, &most);
        if (!op || (strcmp(op, "linear") != 0 && strcmp(op, "scan") != 0))
            bench_others(&k, &most);
    }
}
