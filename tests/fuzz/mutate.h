/* SPDX-License-Identifier: Apache-2.0
 *
 * Systematic damage to a file's bytes, and the count of what became of it. A walk is what is done
 * with each damaged file: it returns a reader's code, and aborts where a promise is broken. */
#ifndef HOB_TESTS_MUTATE_H
#define HOB_TESTS_MUTATE_H

#include "tests/fuzz/gguf_walk.h"
#include "tests/support/gguf_maker.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int (*mutate_walk)(const uint8_t *file, size_t file_bytes);

typedef struct tally {
    unsigned long tried, taken, format, unsupported;
} tally;

static inline void tally_add(tally *t, int rc)
{
    t->tried++;
    t->taken += rc >= 0;
    t->format += rc == HOB_EFORMAT;
    t->unsupported += rc == HOB_EUNSUPPORTED;
}

static inline void tally_print(const char *what, const tally *t)
{
    printf("%-44s %6lu tried, %6lu taken, %6lu HOB_EFORMAT, %4lu HOB_EUNSUPPORTED\n", what,
           t->tried, t->taken, t->format, t->unsupported);
}

/* Exactly bytes long, so that a sanitizer sees the first byte past it. */
static inline uint8_t *mutate_copy(const uint8_t *data, size_t bytes)
{
    uint8_t *c = malloc(bytes ? bytes : 1);
    PROMISE(c);
    memcpy(c, data, bytes);
    return c;
}

/* Each byte under three masks and each truncation of m, at most 8 KB. False when a truncated file
 * was taken. */
static inline bool mutate_small(const mk *m, mutate_walk walk)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    tally flips = {0}, cuts = {0};
    uint8_t *file = mutate_copy(m->data, m->bytes);
    PROMISE(m->bytes <= 8192 && walk(file, m->bytes) == 0);
    for (size_t i = 0; i < m->bytes; i++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            file[i] ^= masks[k];
            tally_add(&flips, walk(file, m->bytes));
            file[i] ^= masks[k];
        }
    }
    free(file);
    for (size_t bytes = 0; bytes < m->bytes; bytes++) {
        file = mutate_copy(m->data, bytes);
        tally_add(&cuts, walk(file, bytes));
        free(file);
    }
    printf("synthetic file: %zu bytes\n", m->bytes);
    tally_print("each byte, masks 01 80 ff", &flips);
    tally_print("each truncation", &cuts);
    return cuts.taken == 0;
}

static inline uint64_t mutate_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1du;
}

/* The file's header with nothing but zeros for its tensors, ending at a page that cannot be read:
 * no reader of the header looks at tensor data, and a copy of all of it would only cost memory.
 * Stays mapped. */
static inline uint8_t *mutate_load(const char *path, size_t *ret_bytes, size_t *ret_header,
                                   size_t *ret_table)
{
    struct stat st;
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        fprintf(stderr, "%s: cannot open\n", path);
        exit(1);
    }
    const size_t bytes = (size_t)st.st_size;
    const uint8_t *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    PROMISE(map != MAP_FAILED);
    if (hob_gguf_parse(map, bytes, &g, &diag) < 0) {
        fprintf(stderr, "%s: %s\n", path, diag.text);
        exit(1);
    }
    size_t header = bytes, table = bytes;
    for (uint64_t i = 0; i < hob_gguf_tensor_count(g); i++) {
        const hob_gguf_tensor *t = hob_gguf_tensor_at(g, i);
        const size_t data = (size_t)((const uint8_t *)t->data - map);
        const size_t info = (size_t)((const uint8_t *)t->name.data - map);
        header = data < header ? data : header;
        table = info < table ? info : table;
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    uint8_t *room =
        mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PROMISE(room != MAP_FAILED && mprotect(room + whole, page, PROT_NONE) == 0);
    uint8_t *file = room + (whole - bytes);
    memcpy(file, map, header);
    hob_gguf_close(g);
    munmap((void *)(uintptr_t)map, bytes);
    close(fd);
    *ret_bytes = bytes;
    *ret_header = header;
    *ret_table = table;
    return file;
}

/* Random bytes under random masks in the header of the file at path (NULL or "": skipped), one at a
 * time. Most of a real header is vocabulary, where damage is mostly harmless: a second round, as
 * long as the first, aims at its first 2 KB and at the tensor table. */
static inline void mutate_real(const char *path, unsigned long flips, mutate_walk walk)
{
    size_t bytes, header, table;
    uint64_t state = 20260101;
    tally anywhere = {0}, structure = {0};
    if (!path || !*path) {
        printf("real file: skipped, HOB_TEST_MODEL is not set\n");
        return;
    }
    uint8_t *file = mutate_load(path, &bytes, &header, &table);
    PROMISE(walk(file, bytes) == 0);
    for (unsigned long i = 0; i < 2 * flips; i++) {
        size_t at = (size_t)(mutate_random(&state) % header);
        if (i >= flips) {
            const size_t first = header < 2048 ? header : 2048, span = first + (header - table);
            at = (size_t)(mutate_random(&state) % span);
            at = at < first ? at : table + (at - first);
        }
        const uint8_t mask = (uint8_t)(1 + mutate_random(&state) % 255);
        file[at] ^= mask;
        tally_add(i < flips ? &anywhere : &structure, walk(file, bytes));
        file[at] ^= mask;
    }
    printf("real file: %zu bytes, of which header %zu\n", bytes, header);
    tally_print("random byte and mask, anywhere in the header", &anywhere);
    tally_print("random byte and mask, keys and tensor table", &structure);
}

#endif
