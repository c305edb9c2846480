/* SPDX-License-Identifier: Apache-2.0
 *
 * Every small damage to a GGUF file, without a fuzzer's luck: each byte of a synthetic file under three masks, each
 * truncation of it, and random damage to the header of the real model named by HOB_TEST_MODEL (or the argument; skipped
 * when there is none). Prints how often the parser took the file and how often it refused. It ends badly when a
 * sanitizer, a signal or a broken promise (gguf_walk.h) ends it, or when a truncated file is taken.
 *
 *   gcc -std=gnu11 -g -O1 -D_GNU_SOURCE -I. -fsanitize=address,undefined -fno-sanitize-recover=all \
 *       tests/fuzz/gguf_mutate.c hal/base.c models/gguf.c models/gguf_keys.c -lm -o build/gguf_mutate
 *
 * With --seeds FOLDER it writes the seeds of fuzz_gguf instead. */
#include "tests/fuzz/gguf_walk.h"
#include "tests/support/gguf_maker.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FLIPS = 10000 };

typedef struct tally {
    unsigned long tried, taken, format, unsupported;
} tally;

static void count(tally *t, int rc)
{
    t->tried++;
    t->taken += rc >= 0;
    t->format += rc == HOB_EFORMAT;
    t->unsupported += rc == HOB_EUNSUPPORTED;
}

static void report(const char *what, const tally *t)
{
    printf("%-44s %6lu tried, %6lu taken, %6lu HOB_EFORMAT, %4lu HOB_EUNSUPPORTED\n", what, t->tried,
           t->taken, t->format, t->unsupported);
}

/* Exactly bytes long, so that a sanitizer sees the first byte past it. */
static uint8_t *copy(const uint8_t *data, size_t bytes)
{
    uint8_t *c = malloc(bytes ? bytes : 1);
    PROMISE(c);
    memcpy(c, data, bytes);
    return c;
}

static bool mutate_synthetic(const mk *m)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    tally flips = {0}, cuts = {0};
    uint8_t *file = copy(m->data, m->bytes);
    PROMISE(m->bytes <= 8192 && walk_bytes(file, m->bytes) == 0);
    for (size_t i = 0; i < m->bytes; i++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            file[i] ^= masks[k];
            count(&flips, walk_bytes(file, m->bytes));
            file[i] ^= masks[k];
        }
    }
    free(file);
    for (size_t bytes = 0; bytes < m->bytes; bytes++) {
        file = copy(m->data, bytes);
        count(&cuts, walk_bytes(file, bytes));
        free(file);
    }
    printf("synthetic file: %zu bytes\n", m->bytes);
    report("each byte, masks 01 80 ff", &flips);
    report("each truncation", &cuts);
    return cuts.taken == 0;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1du;
}

/* The file's header with nothing but zeros for its tensors, ending at a page that cannot be read: the parser never
 * looks at tensor data, and a copy of all of it would only cost memory. Stays mapped. */
static uint8_t *load_header(const char *path, size_t *ret_bytes, size_t *ret_header, size_t *ret_table)
{
    struct stat st;
    hob_gguf *g;
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
    uint8_t *room = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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

static void mutate_real(const char *path)
{
    size_t bytes, header, table;
    uint64_t state = 20260101;
    uint8_t *file = load_header(path, &bytes, &header, &table);
    tally anywhere = {0}, structure = {0};
    PROMISE(walk_bytes(file, bytes) == 0);
    /* Most of a real header is vocabulary, where damage is harmless: a second round aims at its first 2 KB and at
     * the tensor table. */
    for (int i = 0; i < 2 * FLIPS; i++) {
        size_t at = (size_t)(random_next(&state) % header);
        if (i >= FLIPS) {
            const size_t first = header < 2048 ? header : 2048, span = first + (header - table);
            at = (size_t)(random_next(&state) % span);
            at = at < first ? at : table + (at - first);
        }
        const uint8_t mask = (uint8_t)(1 + random_next(&state) % 255);
        file[at] ^= mask;
        count(i < FLIPS ? &anywhere : &structure, walk_bytes(file, bytes));
        file[at] ^= mask;
    }
    printf("real file: %zu bytes, of which header %zu\n", bytes, header);
    report("random byte and mask, anywhere in the header", &anywhere);
    report("random byte and mask, keys and tensor table", &structure);
}

static bool write_seeds(const char *folder, const mk *everything)
{
    mk m[4] = {{0}, {0}, {0}, {0}};
    static const char *const names[] = {"empty_v2", "one_tensor", "keys_only", "vocabulary"};
    char path[4096];
    mk_header(&m[0], 2, 0, 0);
    mk_header(&m[1], 3, 1, 0);
    mk_tensor(&m[1], "a", MK_TYPE_Q4_0, 1, &(uint64_t){32}, 0);
    mk_pad(&m[1], 32);
    mk_zeros(&m[1], 18);
    mk_header(&m[2], 3, 0, 3);
    mk_key_u32(&m[2], "general.alignment", 16);
    mk_key_string(&m[2], "s", "text");
    mk_key_array(&m[2], "n", MK_ARRAY, 1);
    mk_u32(&m[2], MK_ARRAY);
    mk_u64(&m[2], 0);
    mk_llama(&m[3], MK_GOOD, false);
    snprintf(path, sizeof path, "%s/everything", folder);
    bool ok = mk_save(everything, path);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        ok = mk_save(&m[i], path) && ok;
        mk_free(&m[i]);
    }
    return ok;
}

int main(int argc, char **argv)
{
    mk m = {0};
    mk_everything(&m);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        const bool ok = write_seeds(argv[2], &m);
        mk_free(&m);
        return !ok;
    }
    const char *model = argc > 1 ? argv[1] : getenv("HOB_TEST_MODEL");
    const bool ok = mutate_synthetic(&m);
    mk_free(&m);
    if (model && *model)
        mutate_real(model);
    else
        printf("real file: skipped, HOB_TEST_MODEL is not set\n");
    return ok ? 0 : 1;
}
