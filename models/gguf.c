/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a GGUF file: header, keys, tensor table, in one pass over a read-only private map. The
 * file is hostile. What makes that bearable is that nothing here depends on trust in an earlier
 * field: a count is bounded by the bytes that so many entries need at the least, a length by the
 * bytes left, a tensor by the data area, and all memory allocated is in proportion to the file.
 * Names are indexed by SipHash under a secret drawn at each open, which keeps the search for
 * duplicates linear whatever the names are. Tensors are sorted by offset to prove that none
 * overlap.
 *
 * Element types hob cannot compute with still have a size here, because a table of tensors is only
 * sound when all of it is; whether a type can be used is the model's question. Values are answered
 * by gguf_keys.c.
 *
 * The map is of a file that another process may write to. A changed byte can change a value, but a
 * bound is either kept from this pass or checked again where it is read again; a file that shrinks is
 * found by hob_gguf_check_size, short of the race itself. */
#include "models/gguf_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/hash.h"

enum {
    KEY_BYTES_MAX = 65535, /* the format's own limit */
    TENSOR_NAME_MAX = 64,  /* likewise */
    KEYS_MAX = 1 << 16,
    TENSORS_MAX = 1 << 17,
    KEY_BYTES_LEAST = 8 + 1 + 4 + 1,            /* name of one byte, kind, value of one byte */
    TENSOR_BYTES_LEAST = 8 + 1 + 4 + 8 + 4 + 8, /* name of one byte, one dimension, type, offset */
    ARRAY_DEPTH_MAX = 4,
    DIMS_MAX = 4,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_LEAST = 8, /* the format wants a multiple of 8 */
    ALIGNMENT_MOST = 65536,
    SHOWN = 80, /* of a name in a diagnosis */
};

/* Block sizes of ggml's tensor types, by number; a length of 0 marks numbers that are not, or no
 * longer, in use. */
typedef struct type_size {
    uint16_t block_len, block_bytes;
    const char *name;
} type_size;

static const type_size type_sizes[] = {
    [0] = {1, 4, "F32"},         [1] = {1, 2, "F16"},         [2] = {32, 18, "Q4_0"},
    [3] = {32, 20, "Q4_1"},      [6] = {32, 22, "Q5_0"},      [7] = {32, 24, "Q5_1"},
    [8] = {32, 34, "Q8_0"},      [9] = {32, 36, "Q8_1"},      [10] = {256, 84, "Q2_K"},
    [11] = {256, 110, "Q3_K"},   [12] = {256, 144, "Q4_K"},   [13] = {256, 176, "Q5_K"},
    [14] = {256, 210, "Q6_K"},   [15] = {256, 292, "Q8_K"},   [16] = {256, 66, "IQ2_XXS"},
    [17] = {256, 74, "IQ2_XS"},  [18] = {256, 98, "IQ3_XXS"}, [19] = {256, 50, "IQ1_S"},
    [20] = {32, 18, "IQ4_NL"},   [21] = {256, 110, "IQ3_S"},  [22] = {256, 82, "IQ2_S"},
    [23] = {256, 136, "IQ4_XS"}, [24] = {1, 1, "I8"},         [25] = {1, 2, "I16"},
    [26] = {1, 4, "I32"},        [27] = {1, 8, "I64"},        [28] = {1, 8, "F64"},
    [29] = {256, 56, "IQ1_M"},   [30] = {1, 2, "BF16"},       [34] = {256, 54, "TQ1_0"},
    [35] = {256, 66, "TQ2_0"},   [39] = {32, 17, "MXFP4"},
};

const char *hob_gguf_type_name(uint32_t type)
{
    return type < sizeof type_sizes / sizeof *type_sizes && type_sizes[type].name
               ? type_sizes[type].name
               : "unknown";
}

static bool index_new(gguf_index *index, uint64_t count)
{
    uint32_t size = 8;
    while (size < 2 * count) /* count <= TENSORS_MAX: no overflow, and half the slots stay empty */
        size *= 2;
    index->slots = calloc(size, sizeof *index->slots);
    index->mask = size - 1;
    return index->slots != NULL;
}

static bool same(hob_string a, hob_string b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The slot that holds name, or the empty one where it belongs. */
static uint32_t *key_slot(const hob_gguf *g, hob_string name)
{
    for (uint32_t i = (uint32_t)hob_hash(g->secret, name.data, name.len);; i++) {
        uint32_t *slot = &g->key_index.slots[i & g->key_index.mask];
        if (*slot == 0 || same(g->keys[*slot - 1].name, name))
            return slot;
    }
}

static uint32_t *tensor_slot(const hob_gguf *g, hob_string name)
{
    for (uint32_t i = (uint32_t)hob_hash(g->secret, name.data, name.len);; i++) {
        uint32_t *slot = &g->tensor_index.slots[i & g->tensor_index.mask];
        if (*slot == 0 || same(g->tensors[*slot - 1].name, name))
            return slot;
    }
}

const gguf_key *hob_gguf_find_key(const hob_gguf *g, const char *name)
{
    const uint32_t at = *key_slot(g, (hob_string){name, strlen(name)});
    return at ? &g->keys[at - 1] : NULL;
}

const hob_gguf_tensor *hob_gguf_find_tensor(const hob_gguf *g, const char *name)
{
    const uint32_t at = *tensor_slot(g, (hob_string){name, strlen(name)});
    return at ? &g->tensors[at - 1] : NULL;
}

static int truncated(const gguf_reader *r, const char *what, uint64_t i, hob_diag *diag)
{
    return hob_fail(diag, HOB_EFORMAT, "%s %llu: file ends inside it (at byte %zu of %zu)", what,
                    (unsigned long long)i, r->at, r->bytes);
}

static int skip_bools(gguf_reader *r, uint64_t count, const char *key, hob_diag *diag)
{
    for (uint64_t i = 0; i < count; i++, r->at++) {
        if (r->base[r->at] > 1)
            return hob_fail(diag, HOB_EFORMAT, "key %s: bool is %u, allowed are 0 and 1", key,
                            r->base[r->at]);
    }
    return 0;
}

/* Walks count values of one kind, checking each; r is left behind them. depth counts the arrays
 * around. */
static int skip_values(gguf_reader *r, uint32_t kind, uint64_t count, int depth, const char *key,
                       hob_diag *diag)
{
    const size_t each = hob_gguf_kind_bytes(kind);
    if (each) {
        if (count > gguf_left(r) / each)
            return hob_fail(diag, HOB_EFORMAT,
                            "key %s: %llu values of %s, the file has %zu bytes left", key,
                            (unsigned long long)count, hob_gguf_kind_name(kind), gguf_left(r));
        if (kind == KIND_BOOL)
            return skip_bools(r, count, key, diag);
        r->at += (size_t)count * each;
        return 0;
    }
    if (kind == KIND_STRING) {
        if (count > gguf_left(r) / 8)
            return hob_fail(diag, HOB_EFORMAT, "key %s: %llu strings, the file has %zu bytes left",
                            key, (unsigned long long)count, gguf_left(r));
        for (uint64_t i = 0; i < count; i++) {
            hob_string s;
            if (!gguf_read_string(r, &s))
                return hob_fail(diag, HOB_EFORMAT,
                                "key %s: string %llu is longer than the %zu bytes left in the file",
                                key, (unsigned long long)i, gguf_left(r));
        }
        return 0;
    }
    if (kind != KIND_ARRAY)
        return hob_fail(diag, HOB_EFORMAT, "key %s: value type %u, allowed are 0 to %d", key, kind,
                        KIND_COUNT - 1);
    if (depth >= ARRAY_DEPTH_MAX)
        return hob_fail(diag, HOB_EFORMAT, "key %s: arrays nested deeper than %d", key,
                        ARRAY_DEPTH_MAX);
    if (count > gguf_left(r) / 12)
        return hob_fail(diag, HOB_EFORMAT, "key %s: %llu arrays, the file has %zu bytes left", key,
                        (unsigned long long)count, gguf_left(r));
    for (uint64_t i = 0; i < count; i++) {
        uint32_t element;
        uint64_t n;
        if (!gguf_read(r, &element, sizeof element) || !gguf_read(r, &n, sizeof n))
            return hob_fail(diag, HOB_EFORMAT, "key %s: file ends inside array %llu", key,
                            (unsigned long long)i);
        const int rc = skip_values(r, element, n, depth + 1, key, diag);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int parse_key(hob_gguf *g, gguf_reader *r, uint64_t i, hob_diag *diag)
{
    gguf_key *k = &g->keys[i];
    char shown[SHOWN];
    if (!gguf_read_string(r, &k->name))
        return truncated(r, "name of key", i, diag);
    if (k->name.len == 0 || k->name.len > KEY_BYTES_MAX)
        return hob_fail(diag, HOB_EFORMAT, "name of key %llu: %zu bytes, allowed are 1 to %d",
                        (unsigned long long)i, k->name.len, KEY_BYTES_MAX);
    hob_gguf_printable(k->name, shown, sizeof shown);
    uint32_t *slot = key_slot(g, k->name);
    if (*slot)
        return hob_fail(diag, HOB_EFORMAT, "key %s: given twice, as key %u and key %llu", shown,
                        *slot - 1, (unsigned long long)i);
    if (!gguf_read(r, &k->kind, sizeof k->kind))
        return truncated(r, "type of key", i, diag);

    /* Read once, here: whoever asks later relies on these and not on the file. */
    gguf_reader look = *r;
    if (k->kind == KIND_ARRAY) {
        if (!gguf_read(&look, &k->element, sizeof k->element) ||
            !gguf_read(&look, &k->count, sizeof k->count))
            return truncated(r, "array of key", i, diag);
        if (k->element >= KIND_COUNT)
            return hob_fail(diag, HOB_EFORMAT, "key %s: elements of type %u, allowed are 0 to %d",
                            shown, k->element, KIND_COUNT - 1);
    } else if (k->kind == KIND_STRING) {
        if (!gguf_read(&look, &k->count, sizeof k->count))
            return truncated(r, "string of key", i, diag);
        if (k->count > gguf_left(&look))
            return hob_fail(diag, HOB_EFORMAT,
                            "key %s: string of %llu bytes, the file has %zu left", shown,
                            (unsigned long long)k->count, gguf_left(&look));
        look.at += (size_t)k->count;
    }
    k->value = k->kind == KIND_STRING ? look.at - (size_t)k->count : look.at;
    if (k->kind == KIND_STRING) {
        *r = look;
    } else if (k->kind == KIND_ARRAY) {
        *r = look;
        const int rc = skip_values(r, k->element, k->count, 1, shown, diag);
        if (rc < 0)
            return rc;
    } else {
        const int rc = skip_values(r, k->kind, 1, 0, shown, diag);
        if (rc < 0)
            return rc;
    }
    *slot = (uint32_t)i + 1;
    return 0;
}

/* *ret_offset is relative to the data area, whose place is not known before the last tensor is
 * read. */
static int parse_tensor(hob_gguf *g, gguf_reader *r, uint64_t i, uint64_t *ret_offset,
                        hob_diag *diag)
{
    hob_gguf_tensor *t = &g->tensors[i];
    char shown[SHOWN];
    if (!gguf_read_string(r, &t->name))
        return truncated(r, "name of tensor", i, diag);
    if (t->name.len == 0 || t->name.len > TENSOR_NAME_MAX)
        return hob_fail(diag, HOB_EFORMAT, "name of tensor %llu: %zu bytes, allowed are 1 to %d",
                        (unsigned long long)i, t->name.len, TENSOR_NAME_MAX);
    hob_gguf_printable(t->name, shown, sizeof shown);
    uint32_t *slot = tensor_slot(g, t->name);
    if (*slot)
        return hob_fail(diag, HOB_EFORMAT, "tensor %s: given twice, as tensor %u and tensor %llu",
                        shown, *slot - 1, (unsigned long long)i);
    if (!gguf_read(r, &t->dim_count, sizeof t->dim_count))
        return truncated(r, "dimensions of tensor", i, diag);
    if (t->dim_count < 1 || t->dim_count > DIMS_MAX)
        return hob_fail(diag, HOB_EFORMAT, "tensor %s: %u dimensions, allowed are 1 to %d", shown,
                        t->dim_count, DIMS_MAX);

    size_t elements = 1;
    for (uint32_t d = 0; d < DIMS_MAX; d++) {
        t->dims[d] = 1;
        if (d >= t->dim_count)
            continue;
        if (!gguf_read(r, &t->dims[d], sizeof t->dims[d]))
            return truncated(r, "dimensions of tensor", i, diag);
        if (t->dims[d] == 0)
            return hob_fail(diag, HOB_EFORMAT, "tensor %s: dimension %u is 0", shown, d);
        if (t->dims[d] > SIZE_MAX || !hob_mul_size(elements, (size_t)t->dims[d], &elements))
            return hob_fail(diag, HOB_EFORMAT,
                            "tensor %s: its dimensions, up to the %u. of %llu, overflow", shown,
                            d + 1, (unsigned long long)t->dims[d]);
    }
    if (!gguf_read(r, &t->type, sizeof t->type) || !gguf_read(r, ret_offset, sizeof *ret_offset))
        return truncated(r, "type and offset of tensor", i, diag);
    if (t->type >= sizeof type_sizes / sizeof *type_sizes || !type_sizes[t->type].block_len)
        return hob_fail(diag, HOB_EUNSUPPORTED, "tensor %s: unknown type %u", shown, t->type);
    const type_size size = type_sizes[t->type];
    if (t->dims[0] % size.block_len)
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %s: rows of %llu weights, its type %u has blocks of %u", shown,
                        (unsigned long long)t->dims[0], t->type, size.block_len);
    if (!hob_mul_size(elements / size.block_len, size.block_bytes, &t->bytes))
        return hob_fail(diag, HOB_EFORMAT, "tensor %s: %zu weights of type %u overflow", shown,
                        elements, t->type);
    *slot = (uint32_t)i + 1;
    return 0;
}

typedef struct extent {
    uint64_t begin, end;
    uint64_t tensor;
} extent;

static int by_begin(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Given each tensor's offset in extents[].begin: checks it, sets the data pointers, refuses
 * overlaps. */
static int place_tensors(hob_gguf *g, const gguf_reader *r, size_t alignment, extent *extents,
                         hob_diag *diag)
{
    char shown[SHOWN], other[SHOWN];
    const size_t pad = (alignment - r->at % alignment) % alignment;
    if (g->tensor_count && pad > gguf_left(r))
        return hob_fail(diag, HOB_EFORMAT, "file ends at byte %zu, before its tensor data",
                        r->bytes);
    const size_t start = r->at + (pad > gguf_left(r) ? 0 : pad);
    const size_t room = r->bytes - start;

    for (uint64_t i = 0; i < g->tensor_count; i++) {
        hob_gguf_tensor *t = &g->tensors[i];
        const uint64_t offset = extents[i].begin;
        if (offset % alignment || offset > room || t->bytes > room - offset) {
            hob_gguf_printable(t->name, shown, sizeof shown);
            if (offset % alignment)
                return hob_fail(diag, HOB_EFORMAT, "tensor %s: offset %llu, alignment is %zu",
                                shown, (unsigned long long)offset, alignment);
            return hob_fail(diag, HOB_EFORMAT,
                            "tensor %s: %zu bytes at offset %llu, the file has %zu bytes of data",
                            shown, t->bytes, (unsigned long long)offset, room);
        }
        t->data = r->base + start + (size_t)offset;
        extents[i] = (extent){offset, offset + t->bytes, i};
    }
    qsort(extents, (size_t)g->tensor_count, sizeof *extents, by_begin);
    for (uint64_t i = 1; i < g->tensor_count; i++) {
        if (extents[i].begin >= extents[i - 1].end)
            continue;
        hob_gguf_printable(g->tensors[extents[i].tensor].name, shown, sizeof shown);
        hob_gguf_printable(g->tensors[extents[i - 1].tensor].name, other, sizeof other);
        return hob_fail(diag, HOB_EFORMAT, "tensor %s: its data overlaps that of tensor %s", shown,
                        other);
    }
    return 0;
}

static int parse_header(hob_gguf *g, gguf_reader *r, hob_diag *diag)
{
    char magic[4];
    if (!gguf_read(r, magic, sizeof magic) || memcmp(magic, "GGUF", 4) != 0)
        return hob_fail(diag, HOB_EFORMAT, "not a GGUF file: it does not begin with \"GGUF\"");
    if (!gguf_read(r, &g->version, sizeof g->version))
        return truncated(r, "header, field", 1, diag);
    if ((g->version & 0xffff) == 0 && g->version)
        return hob_fail(diag, HOB_EUNSUPPORTED, "big-endian GGUF file, version %u",
                        __builtin_bswap32(g->version));
    if (g->version != 2 && g->version != 3)
        return hob_fail(diag, HOB_EUNSUPPORTED, "GGUF version %u, supported are 2 and 3",
                        g->version);
    if (!gguf_read(r, &g->tensor_count, sizeof g->tensor_count))
        return truncated(r, "header, field", 2, diag);
    if (!gguf_read(r, &g->key_count, sizeof g->key_count))
        return truncated(r, "header, field", 3, diag);
    if (g->key_count > KEYS_MAX || g->key_count > gguf_left(r) / KEY_BYTES_LEAST)
        return hob_fail(diag, HOB_EFORMAT,
                        "header: %llu keys, allowed are %d and what %zu bytes hold",
                        (unsigned long long)g->key_count, KEYS_MAX, gguf_left(r));
    if (g->tensor_count > TENSORS_MAX || g->tensor_count > gguf_left(r) / TENSOR_BYTES_LEAST)
        return hob_fail(diag, HOB_EFORMAT,
                        "header: %llu tensors, allowed are %d and what %zu bytes hold",
                        (unsigned long long)g->tensor_count, TENSORS_MAX, gguf_left(r));
    return 0;
}

static int read_alignment(const hob_gguf *g, size_t *ret, hob_diag *diag)
{
    uint64_t value = ALIGNMENT_DEFAULT;
    const gguf_key *k = hob_gguf_find_key(g, "general.alignment");
    if (k && k->kind != KIND_U32)
        return hob_fail(diag, HOB_EFORMAT, "key general.alignment: type %s, allowed is u32",
                        hob_gguf_kind_name(k->kind));
    if (k) {
        const int rc =
            hob_gguf_u64(g, "general.alignment", ALIGNMENT_LEAST, ALIGNMENT_MOST, &value, diag);
        if (rc < 0)
            return rc;
    }
    if (value & (value - 1))
        return hob_fail(diag, HOB_EFORMAT, "key general.alignment: %llu is not a power of two",
                        (unsigned long long)value);
    *ret = (size_t)value;
    return 0;
}

/* Fills g, whose base and bytes are set. On failure g is closed by the caller. */
static int parse(hob_gguf *g, hob_diag *diag)
{
    gguf_reader r = {g->base, g->bytes, 0};
    extent *extents = NULL;
    size_t alignment = ALIGNMENT_DEFAULT;
    int rc = parse_header(g, &r, diag);
    if (rc < 0)
        return rc;
    hob_hash_secret(g->secret);

    g->keys = calloc((size_t)g->key_count + 1, sizeof *g->keys);
    g->tensors = calloc((size_t)g->tensor_count + 1, sizeof *g->tensors);
    extents = calloc((size_t)g->tensor_count + 1, sizeof *extents);
    if (!g->keys || !g->tensors || !extents || !index_new(&g->key_index, g->key_count) ||
        !index_new(&g->tensor_index, g->tensor_count)) {
        rc = hob_fail(diag, HOB_ENOMEM, "no memory for the table of %llu keys and %llu tensors",
                      (unsigned long long)g->key_count, (unsigned long long)g->tensor_count);
        goto fail;
    }
    for (uint64_t i = 0; i < g->key_count; i++) {
        rc = parse_key(g, &r, i, diag);
        if (rc < 0)
            goto fail;
    }
    rc = read_alignment(g, &alignment, diag);
    if (rc < 0)
        goto fail;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        rc = parse_tensor(g, &r, i, &extents[i].begin, diag);
        if (rc < 0)
            goto fail;
    }
    rc = place_tensors(g, &r, alignment, extents, diag);
fail:
    free(extents);
    return rc;
}

int hob_gguf_parse(const void *data, size_t bytes, hob_gguf **ret, hob_diag *diag)
{
    hob_gguf *g = calloc(1, sizeof *g);
    if (!g)
        return hob_fail(diag, HOB_ENOMEM, "no memory to parse a GGUF file");
    g->fd = -1;
    g->base = data;
    g->bytes = bytes;
    const int rc = parse(g, diag);
    if (rc < 0) {
        hob_gguf_close(g);
        return rc;
    }
    *ret = g;
    return 0;
}

int hob_gguf_open_fd(int fd, const char *name, hob_gguf **ret, hob_diag *diag)
{
    struct stat st;
    void *map;
    int rc;
    hob_gguf *g = calloc(1, sizeof *g);
    if (!g) {
        close(fd);
        return hob_fail(diag, HOB_ENOMEM, "no memory to open %s", name);
    }
    g->fd = fd;
    if (fstat(fd, &st) < 0) {
        rc = hob_fail(diag, HOB_EIO, "%s: cannot open: %s", name, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = hob_fail(diag, HOB_EIO, "%s: cannot open: not a regular file", name);
        goto fail;
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > SIZE_MAX) {
        rc = hob_fail(diag, HOB_EFORMAT, "%s: not a GGUF file: %lld bytes", name,
                      (long long)st.st_size);
        goto fail;
    }
    g->bytes = (size_t)st.st_size;
    map = mmap(NULL, g->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        rc = hob_fail(diag, HOB_EIO, "%s: cannot map %zu bytes: %s", name, g->bytes,
                      strerror(errno));
        goto fail;
    }
    g->base = map;
    g->mapped = true;
    hob_diag why = {""};
    rc = parse(g, &why);
    if (rc < 0) {
        const char *slash = strrchr(name, '/');
        hob_fail(diag, rc, "%.100s: %s", slash ? slash + 1 : name, why.text);
        goto fail;
    }
    *ret = g;
    return 0;
fail:
    hob_gguf_close(g);
    return rc;
}

int hob_gguf_open(const char *path, hob_gguf **ret, hob_diag *diag)
{
    /* O_NONBLOCK: a FIFO in the file's place must not hang the open; it means nothing for a regular
     * file. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return hob_fail(diag, HOB_EIO, "%s: cannot open: %s", path, strerror(errno));
    return hob_gguf_open_fd(fd, path, ret, diag);
}

void hob_gguf_close(hob_gguf *g)
{
    if (!g)
        return;
    free(g->keys);
    free(g->key_index.slots);
    free(g->tensors);
    free(g->tensor_index.slots);
    if (g->mapped)
        munmap((void *)(uintptr_t)g->base, g->bytes);
    if (g->fd >= 0)
        close(g->fd);
    free(g);
}

int hob_gguf_fd(const hob_gguf *g)
{
    return g->fd;
}

int hob_gguf_check_size(const hob_gguf *g, hob_diag *diag)
{
    struct stat st;
    if (g->fd < 0)
        return 0;
    if (fstat(g->fd, &st) < 0)
        return hob_fail(diag, HOB_EIO, "model file: cannot read its size: %s", strerror(errno));
    if (st.st_size < 0 || (uint64_t)st.st_size != g->bytes)
        return hob_fail(diag, HOB_EIO, "model file: changed while open, from %zu to %lld bytes",
                        g->bytes, (long long)st.st_size);
    return 0;
}

void hob_gguf_drop(const hob_gguf *g, const hob_gguf_tensor *t)
{
    if (!g->mapped)
        return;
    /* Outwards to whole pages: what a neighbour still wants comes back from the page cache. */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = (uintptr_t)t->data / page * page;
    const uintptr_t to = ((uintptr_t)t->data + t->bytes + page - 1) / page * page;
    madvise((void *)from, to - from, MADV_DONTNEED);
}

uint64_t hob_gguf_file_bytes(const hob_gguf *g)
{
    return g->bytes;
}

uint64_t hob_gguf_tensor_count(const hob_gguf *g)
{
    return g->tensor_count;
}

const hob_gguf_tensor *hob_gguf_tensor_at(const hob_gguf *g, uint64_t i)
{
    return i < g->tensor_count ? &g->tensors[i] : NULL;
}
