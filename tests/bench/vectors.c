/* SPDX-License-Identifier: Apache-2.0
 *
 * The index of vectors for tests/bench/vectors.py: builds one from a file of floats on some threads, then searches on one, one
 * query at a time and eight together, and prints JSON: times in ms, ids, memory.
 *
 *     vectors ROWS_FILE DIM QUERIES_FILE K THREADS */
#include "daemon/store/vectors.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOGETHER = 8, HUGE = 2 << 20 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "vectors: %s\n", what);
    exit(1);
}

static double seconds(void)
{
    return (double)hob_now_us() * 1e-6;
}

/* Of this process, without its program and libraries. */
static size_t resident_bytes(void)
{
    char line[128];
    size_t kib = 0, part;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %zu", &part) == 1)
            kib = part;
    if (f)
        fclose(f);
    return kib << 10;
}

typedef struct build {
    hob_vectors *v;
    int fd;
    uint32_t dim;
    size_t first, end; /* rows */
} build;

static void *build_part(void *user)
{
    const build *b = user;
    const size_t block = hob_vectors_block(b->v), row_bytes = (size_t)b->dim * 4;
    uint8_t *rows =
        mmap(NULL, block * row_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *ids =
        mmap(NULL, block * 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *groups = (uint32_t *)(ids + block);
    hob_diag diag;

    if (rows == MAP_FAILED || ids == MAP_FAILED)
        die("out of memory");
    for (size_t i = b->first, n; i < b->end; i += n) {
        n = b->end - i < block ? b->end - i : block;
        for (size_t done = 0; done < n * row_bytes;) {
            const ssize_t got =
                pread(b->fd, rows + done, n * row_bytes - done, (off_t)(i * row_bytes + done));
            if (got <= 0)
                die("cannot read the rows");
            done += (size_t)got;
        }
        for (size_t r = 0; r < n; r++) {
            ids[r] = i + r;
            groups[r] = (uint32_t)((i + r) / 10);
        }
        if (hob_vectors_add(b->v, (const float *)rows, ids, groups, n, &diag) < 0)
            die(diag.text);
    }
    munmap(rows, block * row_bytes);
    munmap(ids, block * 12);
    return NULL;
}

/* The median time to read that many bytes, on huge pages. */
static double read_ms(size_t bytes)
{
    enum { ROUNDS = 21, LANES = 32 };
    const size_t whole = (bytes + HUGE - 1) / HUGE * HUGE, words = bytes / 8 / LANES * LANES;
    uint64_t *data = aligned_alloc(HUGE, whole), sums[LANES] = {0};
    double ms[ROUNDS];

    if (!data)
        die("out of memory");
    madvise(data, whole, MADV_HUGEPAGE);
    memset(data, 1, whole);
    for (int round = 0; round < ROUNDS; round++) {
        const double t = seconds();
        for (const uint64_t *p = data; p < data + words; p += LANES)
#pragma GCC unroll 32
            for (size_t l = 0; l < LANES; l++)
                sums[l] += p[l];
        ms[round] = (seconds() - t) * 1e3;
        for (int i = round; i > 0 && ms[i] < ms[i - 1]; i--) {
            const double other = ms[i];
            ms[i] = ms[i - 1];
            ms[i - 1] = other;
        }
    }
    for (size_t l = 1; l < LANES; l++)
        sums[0] += sums[l];
    if (sums[0] == 1) /* that the sums are wanted is not to be known before */
        die("no");
    free(data);
    return ms[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    if (argc != 6)
        die("ROWS_FILE DIM QUERIES_FILE K THREADS");
    const int fd = open(argv[1], O_RDONLY), queries_fd = open(argv[3], O_RDONLY);
    const uint32_t dim = (uint32_t)atoi(argv[2]), k = (uint32_t)atoi(argv[4]);
    const size_t threads = (size_t)atoi(argv[5]), row_bytes = (size_t)dim * 4;
    char path[] = "/var/tmp/hob-vectors-XXXXXX";
    const int file = mkstemp(path);
    hob_vectors *v;
    hob_diag diag;

    if (fd < 0 || queries_fd < 0 || file < 0 || row_bytes == 0 || threads == 0 || threads > 64)
        die("arguments");
    unlink(path);
    const size_t rows = (size_t)lseek(fd, 0, SEEK_END) / row_bytes,
                 n = (size_t)lseek(queries_fd, 0, SEEK_END) / row_bytes;
    float *queries = malloc(n * row_bytes);
    hob_vector_hit *hits = calloc((n + TOGETHER) * k, sizeof *hits);
    uint32_t *counts = calloc(n + TOGETHER, sizeof *counts);
    double *ms = calloc(n, sizeof *ms);
    if (!queries || !hits || !counts || !ms ||
        pread(queries_fd, queries, n * row_bytes, 0) != (ssize_t)(n * row_bytes))
        die("cannot read the queries");

    memset(hits, 1, (n + TOGETHER) * k * sizeof *hits);
    memset(ms, 1, n * sizeof *ms);
    const size_t before = resident_bytes();
    double t = seconds();
    if (hob_vectors_new(file, dim, (size_t)16 << 30, &v, &diag) < 0)
        die(diag.text);
    build parts[64];
    pthread_t ids[64];
    const size_t block = hob_vectors_block(v), each = (rows / threads + block - 1) / block * block;
    for (size_t i = 0; i < threads; i++) {
        const size_t first = i * each < rows ? i * each : rows,
                     end = i + 1 < threads && first + each < rows ? first + each : rows;
        parts[i] = (build){v, fd, dim, first, end};
        if (i > 0 && pthread_create(&ids[i], NULL, build_part, &parts[i]))
            die("no thread");
    }
    build_part(&parts[0]);
    for (size_t i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("{\"build_s\": %.3f", seconds() - t);

    for (size_t i = 0; i < n; i++) {
        const hob_vectors_query q = {queries + i * dim, 1, k, NULL, -INFINITY};
        t = seconds();
        if (hob_vectors_search(v, &q, hits + i * k, counts + i, &diag) < 0)
            die(diag.text);
        ms[i] = (seconds() - t) * 1e3;
    }
    printf(", \"ms\": [");
    for (size_t i = 0; i < n; i++)
        printf("%s%.4f", i ? ", " : "", ms[i]);
    printf("], \"ids\": [");
    for (size_t i = 0; i < n * k; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)hits[i].id);
    printf("], \"together_ms\": [");
    for (size_t i = 0; i + TOGETHER <= n; i += TOGETHER) {
        const hob_vectors_query q = {queries + i * dim, TOGETHER, k, NULL, -INFINITY};
        t = seconds();
        if (hob_vectors_search(v, &q, hits + n * k, counts + n, &diag) < 0)
            die(diag.text);
        printf("%s%.4f", i ? ", " : "", (seconds() - t) * 1e3);
        if (memcmp(hits + n * k, hits + i * k, TOGETHER * k * sizeof *hits) != 0)
            die("together other hits than alone");
    }
    const size_t after = resident_bytes();
    hob_vectors_stats stats;
    hob_vectors_get_stats(v, &stats);
    hob_vectors_free(v);
    printf("], \"bytes_a_row\": %.1f, \"read_ms\": %.4f}\n",
           (double)(after - before) / (double)rows, read_ms(rows * dim));
    return stats.rows != rows;
}
