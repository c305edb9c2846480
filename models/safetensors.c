/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a safetensors file. See safetensors.h. A tensor's range must have exactly the bytes that its type and shape say,
 * and the ranges in order of their beginnings must follow each other from the first byte of the data area to its last, as
 * the format's own implementation demands: so no byte belongs to two tensors, and none can be hidden. */
#include "models/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/strict_json.h"

enum {
    LENGTH_BYTES = 8,
    HEADER_MAX = 32 << 20, /* 100,000 tensors take some 15 MB */
    TENSORS_MAX = 1 << 17,
    NAME_MAX_BYTES = 512,
    READ_BYTES = 16384,
};

typedef struct dtype_info {
    const char *name;
    uint8_t bytes;
    bool is_float;
    hob_type type;
} dtype_info;

/* What can be read, and the sizes of the rest: a table of ranges is only sound when all of it is. */
static const dtype_info dtypes[] = {
    {"F32", 4, true, HOB_TYPE_F32},
    {"F16", 2, true, HOB_TYPE_F16},
    {"BF16", 2, true, HOB_TYPE_BF16},
    {"F64", 8, false, 0},
    {"F8_E4M3", 1, false, 0},
    {"F8_E5M2", 1, false, 0},
    {"F8_E8M0", 1, false, 0},
    {"C64", 8, false, 0},
    {"I64", 8, false, 0},
    {"U64", 8, false, 0},
    {"I32", 4, false, 0},
    {"U32", 4, false, 0},
    {"I16", 2, false, 0},
    {"U16", 2, false, 0},
    {"I8", 1, false, 0},
    {"U8", 1, false, 0},
    {"BOOL", 1, false, 0},
};

struct hob_safetensors {
    const uint8_t *base; /* of a caller's bytes; NULL: fd */
    int fd;
    uint64_t bytes;
    char *names;
    hob_safetensors_tensor *tensors; /* [count], by name */
    size_t count;
};

static int read_at(const hob_safetensors *s, uint64_t offset, void *to, size_t bytes,
                   hob_diag *diag)
{
    if (s->base) {
        memcpy(to, s->base + offset, bytes);
        return 0;
    }
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = pread(s->fd, (char *)to + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hob_fail(diag, HOB_EIO, "cannot read byte %llu of %llu: %s",
                            (unsigned long long)(offset + done), (unsigned long long)s->bytes,
                            n < 0 ? strerror(errno) : "the file has become shorter");
        done += (size_t)n;
    }
    return 0;
}

/* Two or more unsigned integers of an array. */
static int parse_numbers(const char *name, const json_t *array, const char *key, size_t count,
                         uint64_t *ret, hob_diag *diag)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return hob_fail(
                diag, HOB_EFORMAT,
                "tensor %.80s: %s[%zu]: got %s, allowed is an integer from 0 to 2^63 - 1", name,
                key, i, json_is_integer(v) ? "a negative one" : "something else");
        ret[i] = (uint64_t)json_integer_value(v);
    }
    return 0;
}

static int parse_shape(hob_safetensors_tensor *t, const json_t *shape, hob_diag *diag)
{
    const size_t dims = json_array_size(shape);
    if (dims > HOB_SAFETENSORS_DIMS_MAX)
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %.80s: shape: got %zu dimensions, allowed are 0 to %d", t->name,
                        dims, HOB_SAFETENSORS_DIMS_MAX);
    const int rc = parse_numbers(t->name, shape, "shape", dims, t->dims, diag);
    if (rc < 0)
        return rc;
    t->dim_count = (uint32_t)dims;
    t->elements = 1;
    bool empty = false;
    for (size_t i = 0; i < dims; i++) {
        empty = empty || t->dims[i] == 0;
        if (t->dims[i] && __builtin_mul_overflow(t->elements, t->dims[i], &t->elements))
            return hob_fail(
                diag, HOB_EFORMAT,
                "tensor %.80s: shape: the product, up to dimension %zu of %llu, overflows", t->name,
                i, (unsigned long long)t->dims[i]);
    }
    if (empty)
        t->elements = 0;
    return 0;
}

/* Range and type of one tensor; data_at: where the data area begins. */
static int parse_tensor(const hob_safetensors *s, hob_safetensors_tensor *t, const json_t *o,
                        uint64_t data_at, hob_diag *diag)
{
    const char *dtype;
    const dtype_info *info = NULL;
    const uint64_t room = s->bytes - data_at;
    json_t *shape, *range;
    uint64_t ends[2], wanted;
    char what[128];
    int rc;
    if (!json_is_object(o))
        return hob_fail(diag, HOB_EFORMAT, "tensor %.80s: its entry is not an object", t->name);
    snprintf(what, sizeof what, "tensor %.80s", t->name);
    if ((rc = hob_strict_string(what, o, "dtype", &dtype, diag)) < 0 ||
        (rc = hob_strict_member(what, o, "shape", JSON_ARRAY, &shape, diag)) < 0 ||
        (rc = hob_strict_member(what, o, "data_offsets", JSON_ARRAY, &range, diag)) < 0)
        return hob_strict_required(rc);
    if (json_object_size(o) != 3)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tensor %.80s: got %zu fields, known are dtype, shape and data_offsets",
                        t->name, json_object_size(o));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, dtype) == 0)
            info = &dtypes[i];
    if (!info)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tensor %.80s: dtype: got \"%.40s\", which is not known", t->name, dtype);
    t->dtype = info->name;
    t->is_float = info->is_float;
    t->type = info->type;
    if ((rc = parse_shape(t, shape, diag)) < 0)
        return rc;
    if (json_array_size(range) != 2)
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %.80s: data_offsets: got %zu numbers, allowed are 2", t->name,
                        json_array_size(range));
    if ((rc = parse_numbers(t->name, range, "data_offsets", 2, ends, diag)) < 0)
        return rc;
    if (ends[0] > ends[1] || ends[1] > room)
        return hob_fail(
            diag, HOB_EFORMAT,
            "tensor %.80s: data_offsets: got %llu to %llu, the file has %llu bytes of data",
            t->name, (unsigned long long)ends[0], (unsigned long long)ends[1],
            (unsigned long long)room);
    if (__builtin_mul_overflow(t->elements, (uint64_t)info->bytes, &wanted) ||
        wanted != ends[1] - ends[0])
        return hob_fail(diag, HOB_EFORMAT,
                        "tensor %.80s: data_offsets: got %llu bytes for %llu elements of %s",
                        t->name, (unsigned long long)(ends[1] - ends[0]),
                        (unsigned long long)t->elements, dtype);
    t->offset = data_at + ends[0];
    t->bytes = wanted;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const hob_safetensors_tensor *)a)->name,
                  ((const hob_safetensors_tensor *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const hob_safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return (x->offset > y->offset) - (x->offset < y->offset);
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int check_ranges(const hob_safetensors *s, uint64_t data_at, hob_diag *diag)
{
    uint64_t end = data_at;
    const char *before = "the header";
    for (size_t i = 0; i < s->count; i++) {
        const hob_safetensors_tensor *t = &s->tensors[i];
        if (t->offset != end)
            return hob_fail(diag, HOB_EFORMAT, "tensor %.80s: data_offsets: %s %.80s", t->name,
                            t->offset < end ? "its data overlaps that of" : "there is a gap behind",
                            before);
        end = t->offset + t->bytes;
        before = t->name;
    }
    if (end != s->bytes)
        return hob_fail(diag, HOB_EFORMAT, "%llu bytes behind %.80s belong to no tensor",
                        (unsigned long long)(s->bytes - end), before);
    return 0;
}

static int check_metadata(json_t *metadata, hob_diag *diag)
{
    const char *key;
    json_t *v;
    if (!json_is_object(metadata))
        return hob_fail(diag, HOB_EFORMAT, "__metadata__: allowed is an object of strings");
    json_object_foreach(metadata, key, v)
    {
        if (!json_is_string(v))
            return hob_fail(diag, HOB_EFORMAT, "__metadata__: %.80s: allowed is a string", key);
    }
    return 0;
}

static int parse_entries(hob_safetensors *s, json_t *root, uint64_t data_at, hob_diag *diag)
{
    static const char metadata[] = "__metadata__";
    const char *name;
    json_t *o;
    size_t name_bytes = 0, used = 0;
    int rc;
    if (json_object_size(root) > TENSORS_MAX)
        return hob_fail(diag, HOB_EFORMAT, "header: got %zu entries, allowed are %d",
                        json_object_size(root), TENSORS_MAX);
    json_object_foreach(root, name, o)
    {
        const size_t len = strlen(name);
        if (len == 0 || len > NAME_MAX_BYTES)
            return hob_fail(diag, HOB_EFORMAT, "header: a name of %zu bytes, allowed are 1 to %d",
                            len, NAME_MAX_BYTES);
        name_bytes += len + 1;
    }
    s->names = malloc(name_bytes + 1);
    s->tensors = calloc(json_object_size(root) + 1, sizeof *s->tensors);
    if (!s->names || !s->tensors)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the table of %zu tensors",
                        json_object_size(root));
    json_object_foreach(root, name, o)
    {
        if (strcmp(name, metadata) == 0) {
            if ((rc = check_metadata(o, diag)) < 0)
                return rc;
            continue;
        }
        hob_safetensors_tensor *t = &s->tensors[s->count];
        t->name = memcpy(s->names + used, name, strlen(name) + 1);
        used += strlen(name) + 1;
        if ((rc = parse_tensor(s, t, o, data_at, diag)) < 0)
            return rc;
        s->count++;
    }
    qsort(s->tensors, s->count, sizeof *s->tensors, by_offset);
    if ((rc = check_ranges(s, data_at, diag)) < 0)
        return rc;
    qsort(s->tensors, s->count, sizeof *s->tensors, by_name);
    return 0;
}

/* Fills s, whose bytes and source are set. On failure it is closed by the caller. */
static int parse(hob_safetensors *s, hob_diag *diag)
{
    uint64_t length;
    char *text = NULL;
    json_t *root = NULL;
    int rc;
    if (s->bytes < LENGTH_BYTES)
        return hob_fail(diag, HOB_EFORMAT, "not a safetensors file: %llu bytes",
                        (unsigned long long)s->bytes);
    if ((rc = read_at(s, 0, &length, sizeof length, diag)) < 0)
        return rc;
    if (length > HEADER_MAX || length > s->bytes - LENGTH_BYTES || length < 2)
        return hob_fail(diag, HOB_EFORMAT,
                        "header: got %llu bytes, allowed are 2 to %d and what %llu bytes hold",
                        (unsigned long long)length, HEADER_MAX,
                        (unsigned long long)s->bytes - LENGTH_BYTES);
    text = malloc((size_t)length);
    if (!text)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a header of %llu bytes",
                        (unsigned long long)length);
    if ((rc = read_at(s, LENGTH_BYTES, text, (size_t)length, diag)) < 0)
        goto fail;
    if (text[0] != '{') {
        rc = hob_fail(diag, HOB_EFORMAT, "header: it does not begin with {");
        goto fail;
    }
    if ((rc = hob_strict_parse("header", text, (size_t)length, &root, diag)) < 0)
        goto fail;
    rc = parse_entries(s, root, LENGTH_BYTES + length, diag);
fail:
    json_decref(root);
    free(text);
    return rc;
}

int hob_safetensors_parse(const void *data, size_t bytes, hob_safetensors **ret, hob_diag *diag)
{
    hob_safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return hob_fail(diag, HOB_ENOMEM, "no memory to parse a safetensors file");
    s->base = data;
    s->bytes = bytes;
    s->fd = -1;
    const int rc = parse(s, diag);
    if (rc < 0) {
        hob_safetensors_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

int hob_safetensors_open(const char *path, hob_safetensors **ret, hob_diag *diag)
{
    struct stat st;
    hob_diag why = {""};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    int rc;
    hob_safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return hob_fail(diag, HOB_ENOMEM, "no memory to open %.100s", name);
    /* O_NONBLOCK: a FIFO in the file's place must not hang the open. */
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        rc = hob_fail(diag, HOB_EIO, "%.100s: cannot open: %s", name, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = hob_fail(diag, HOB_EIO, "%.100s: cannot open: not a regular file", name);
        goto fail;
    }
    s->bytes = (uint64_t)st.st_size;
    if ((rc = parse(s, &why)) < 0) {
        hob_fail(diag, rc, "%.100s: %s", name, why.text);
        goto fail;
    }
    *ret = s;
    return 0;
fail:
    hob_safetensors_close(s);
    return rc;
}

void hob_safetensors_close(hob_safetensors *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->names);
    free(s->tensors);
    free(s);
}

size_t hob_safetensors_count(const hob_safetensors *s)
{
    return s->count;
}

const hob_safetensors_tensor *hob_safetensors_at(const hob_safetensors *s, size_t i)
{
    return i < s->count ? &s->tensors[i] : NULL;
}

const hob_safetensors_tensor *hob_safetensors_find(const hob_safetensors *s, const char *name)
{
    const hob_safetensors_tensor wanted = {.name = name};
    return bsearch(&wanted, s->tensors, s->count, sizeof *s->tensors, by_name);
}

int hob_safetensors_read(const hob_safetensors *s, const hob_safetensors_tensor *t, uint64_t first,
                         size_t count, float *ret, hob_diag *diag)
{
    uint8_t raw[READ_BYTES];
    if (!t->is_float)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tensor %.80s: got %s, allowed are F32, F16 and BF16", t->name, t->dtype);
    if (first > t->elements || count > t->elements - first)
        return hob_fail(diag, HOB_EINVAL, "tensor %.80s: element %llu and %zu more of %llu",
                        t->name, (unsigned long long)first, count, (unsigned long long)t->elements);
    const hob_type_info *info = hob_type_find(t->type);
    while (count > 0) {
        const size_t most = sizeof raw / info->block_bytes, n = count < most ? count : most;
        const int rc =
            read_at(s, t->offset + first * info->block_bytes, raw, n * info->block_bytes, diag);
        if (rc < 0)
            return rc;
        info->to_float(raw, ret, n);
        first += n;
        ret += n;
        count -= n;
    }
    return 0;
}
