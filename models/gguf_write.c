/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing a GGUF file. See gguf_write.h. The keys and the table of tensors stand in front of the data and hold its layout, so
 * they are gathered first; the data is never held. */
#include "models/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf_private.h"

enum { VERSION = 3, ALIGNMENT = 32, KEY_MAX = 65535, NAME_LEN_MAX = 63, TEMPORARY_TRIES = 100 };

typedef struct bytes {
    uint8_t *data;
    size_t len, capacity;
} bytes;

struct hob_gguf_writer {
    bytes keys, infos;
    uint64_t key_count, tensor_count;
    uint64_t *sizes;     /* [tensor_count] bytes of each tensor's data */
    uint64_t data_bytes; /* of all tensors, padding included */
    int failure;         /* of a put; 0: none */
    hob_diag why;

    int fd; /* -1: not begun */
    char path[PATH_MAX], temporary[PATH_MAX];
    uint64_t tensor;  /* the one whose data is next */
    uint64_t written; /* bytes of it */
};

static void fail(hob_gguf_writer *w, int code, const char *what, const char *name)
{
    if (w->failure == 0)
        w->failure = hob_fail(&w->why, code, "%.80s: %s", name, what);
}

static void append(hob_gguf_writer *w, bytes *b, const void *from, size_t len)
{
    if (w->failure)
        return;
    if (b->capacity - b->len < len) {
        size_t wanted;
        uint8_t *grown = NULL;
        if (hob_add_size(b->len, len, &wanted) && hob_mul_size(wanted, 2, &wanted))
            grown = realloc(b->data, wanted);
        if (!grown) {
            fail(w, HOB_ENOMEM, "no memory to write it", "header");
            return;
        }
        b->data = grown;
        b->capacity = wanted;
    }
    if (len)
        memcpy(b->data + b->len, from, len);
    b->len += len;
}

static void append_u32(hob_gguf_writer *w, bytes *b, uint32_t v)
{
    append(w, b, &v, sizeof v);
}

static void append_u64(hob_gguf_writer *w, bytes *b, uint64_t v)
{
    append(w, b, &v, sizeof v);
}

static void append_string(hob_gguf_writer *w, bytes *b, const char *text, size_t len)
{
    append_u64(w, b, len);
    append(w, b, text, len);
}

static void put_key(hob_gguf_writer *w, const char *key, uint32_t kind)
{
    const size_t len = strlen(key);
    if (len == 0 || len > KEY_MAX) {
        fail(w, HOB_EINVAL, "a key has 1 to 65535 bytes", key);
        return;
    }
    append_string(w, &w->keys, key, len);
    append_u32(w, &w->keys, kind);
    w->key_count++;
}

static void put_array(hob_gguf_writer *w, const char *key, uint32_t element, uint64_t count)
{
    put_key(w, key, KIND_ARRAY);
    append_u32(w, &w->keys, element);
    append_u64(w, &w->keys, count);
}

/* An array of count values of each bytes. */
static void put_values(hob_gguf_writer *w, const char *key, uint32_t element, const void *values,
                       uint64_t count, size_t each)
{
    size_t len;
    put_array(w, key, element, count);
    if (count > SIZE_MAX || !hob_mul_size((size_t)count, each, &len))
        fail(w, HOB_ENOMEM, "no memory to write it", key);
    else
        append(w, &w->keys, values, len);
}

void hob_gguf_put_u32(hob_gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, KIND_U32);
    append_u32(w, &w->keys, value);
}

void hob_gguf_put_f32(hob_gguf_writer *w, const char *key, float value)
{
    put_key(w, key, KIND_F32);
    append(w, &w->keys, &value, sizeof value);
}

void hob_gguf_put_bool(hob_gguf_writer *w, const char *key, bool value)
{
    const uint8_t byte = value;
    put_key(w, key, KIND_BOOL);
    append(w, &w->keys, &byte, sizeof byte);
}

void hob_gguf_put_string(hob_gguf_writer *w, const char *key, const char *value, size_t len)
{
    put_key(w, key, KIND_STRING);
    append_string(w, &w->keys, value, len);
}

void hob_gguf_put_strings(hob_gguf_writer *w, const char *key, const hob_string *values,
                          uint64_t count)
{
    put_array(w, key, KIND_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        append_string(w, &w->keys, values[i].data, values[i].len);
}

void hob_gguf_put_i32s(hob_gguf_writer *w, const char *key, const int32_t *values, uint64_t count)
{
    put_values(w, key, KIND_I32, values, count, sizeof *values);
}

void hob_gguf_put_f32s(hob_gguf_writer *w, const char *key, const float *values, uint64_t count)
{
    put_values(w, key, KIND_F32, values, count, sizeof *values);
}

static uint64_t padded(uint64_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void hob_gguf_put_tensor(hob_gguf_writer *w, const char *name, hob_type type, uint32_t dim_count,
                         const uint64_t *dims)
{
    const hob_type_info *info = hob_type_find(type);
    const size_t len = strlen(name);
    uint64_t elements = 1, size;
    if (w->failure)
        return;
    if (!info || len == 0 || len > NAME_LEN_MAX || dim_count < 1 || dim_count > 4 ||
        dims[0] % info->block_len != 0) {
        fail(w, HOB_EINVAL, "a tensor that no GGUF file can have", name);
        return;
    }
    for (uint32_t i = 0; i < dim_count; i++) {
        if (dims[i] == 0 || __builtin_mul_overflow(elements, dims[i], &elements)) {
            fail(w, HOB_EINVAL, "its dimensions are 0 or overflow", name);
            return;
        }
    }
    if (__builtin_mul_overflow(elements / info->block_len, (uint64_t)info->block_bytes, &size) ||
        size > (uint64_t)INT64_MAX / 2 || w->data_bytes > (uint64_t)INT64_MAX / 2 - size) {
        fail(w, HOB_EINVAL, "more data than a file can have", name);
        return;
    }
    uint64_t *sizes = realloc(w->sizes, (w->tensor_count + 1) * sizeof *sizes);
    if (!sizes) {
        fail(w, HOB_ENOMEM, "no memory to declare it", name);
        return;
    }
    w->sizes = sizes;
    sizes[w->tensor_count++] = size;
    append_string(w, &w->infos, name, len);
    append_u32(w, &w->infos, dim_count);
    append(w, &w->infos, dims, dim_count * sizeof *dims);
    append_u32(w, &w->infos, type);
    append_u64(w, &w->infos, w->data_bytes);
    w->data_bytes += padded(size);
}

int hob_gguf_writer_new(hob_gguf_writer **ret, hob_diag *diag)
{
    hob_gguf_writer *w = calloc(1, sizeof *w);
    if (!w)
        return hob_fail(diag, HOB_ENOMEM, "no memory to write a GGUF file");
    w->fd = -1;
    *ret = w;
    return 0;
}

void hob_gguf_writer_free(hob_gguf_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temporary);
    }
    free(w->keys.data);
    free(w->infos.data);
    free(w->sizes);
    free(w);
}

/* Magic, version and counts. */
static void header(uint8_t to[24], uint64_t tensors, uint64_t keys)
{
    const uint32_t version = VERSION;
    memcpy(to, "GGUF", 4);
    memcpy(to + 4, &version, 4);
    memcpy(to + 8, &tensors, 8);
    memcpy(to + 16, &keys, 8);
}

int hob_gguf_writer_keys(const hob_gguf_writer *w, void **ret, size_t *ret_bytes, hob_diag *diag)
{
    if (w->failure)
        return hob_fail(diag, w->failure, "%s", w->why.text);
    uint8_t *file = malloc(24 + w->keys.len);
    if (!file)
        return hob_fail(diag, HOB_ENOMEM, "no memory for %zu bytes of keys", w->keys.len);
    header(file, 0, w->key_count);
    if (w->keys.len)
        memcpy(file + 24, w->keys.data, w->keys.len);
    *ret = file;
    *ret_bytes = 24 + w->keys.len;
    return 0;
}

static int cannot_write(const hob_gguf_writer *w, hob_diag *diag)
{
    const int reason = errno;
    return hob_fail(diag, HOB_EIO, "%.120s: cannot write: %s", w->path, strerror(reason));
}

static int write_all(hob_gguf_writer *w, const void *from, size_t len, hob_diag *diag)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = write(w->fd, (const char *)from + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : ENOSPC;
            return cannot_write(w, diag);
        }
        done += (size_t)n;
    }
    return 0;
}

/* An entry of its own in the folder, with the mode that the process gives to new files. */
static int make_temporary(hob_gguf_writer *w, hob_diag *diag)
{
    struct stat st;
    if (lstat(w->path, &st) == 0 && !S_ISREG(st.st_mode))
        return hob_fail(diag, HOB_EIO, "%.120s: cannot write: it is not a regular file", w->path);
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        const int n = snprintf(w->temporary, sizeof w->temporary, "%s.%ld-%d.part", w->path,
                               (long)getpid(), i);
        if (n < 0 || (size_t)n >= sizeof w->temporary)
            return hob_fail(diag, HOB_EINVAL, "%.120s: the path is too long", w->path);
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return cannot_write(w, diag);
}

int hob_gguf_writer_begin(hob_gguf_writer *w, const char *path, hob_diag *diag)
{
    static const uint8_t zeros[ALIGNMENT];
    uint8_t head[24];
    uint64_t total;
    int rc;
    if (w->failure)
        return hob_fail(diag, w->failure, "%s", w->why.text);
    if (snprintf(w->path, sizeof w->path, "%s", path) >= (int)sizeof w->path)
        return hob_fail(diag, HOB_EINVAL, "%.120s: the path is too long", path);
    const uint64_t used = sizeof head + w->keys.len + w->infos.len, start = padded(used);
    if (__builtin_add_overflow(start, w->data_bytes, &total) || total > (uint64_t)INT64_MAX)
        return hob_fail(diag, HOB_ELIMIT, "%.120s: more bytes than a file can have", path);
    if ((rc = make_temporary(w, diag)) < 0)
        return rc;
    /* A disk that is too full is found before an hour's work is. Not all file systems can. */
    if (fallocate(w->fd, 0, 0, (off_t)total) < 0 && (errno == ENOSPC || errno == EFBIG))
        return hob_fail(diag, HOB_EIO, "%.120s: cannot set %llu bytes aside: %s", path,
                        (unsigned long long)total, strerror(errno));
    header(head, w->tensor_count, w->key_count);
    if ((rc = write_all(w, head, sizeof head, diag)) < 0 ||
        (rc = write_all(w, w->keys.data, w->keys.len, diag)) < 0 ||
        (rc = write_all(w, w->infos.data, w->infos.len, diag)) < 0)
        return rc;
    return write_all(w, zeros, (size_t)(start - used), diag);
}

int hob_gguf_writer_data(hob_gguf_writer *w, const void *data, size_t len, hob_diag *diag)
{
    static const uint8_t zeros[ALIGNMENT];
    if (w->fd < 0 || w->tensor >= w->tensor_count || len > w->sizes[w->tensor] - w->written)
        return hob_fail(diag, HOB_EINVAL, "%.120s: %zu bytes of data that belong to no tensor",
                        w->path, len);
    int rc = write_all(w, data, len, diag);
    if (rc < 0)
        return rc;
    w->written += len;
    const uint64_t size = w->sizes[w->tensor];
    if (w->written < size)
        return 0;
    w->tensor++;
    w->written = 0;
    return write_all(w, zeros, (size_t)(padded(size) - size), diag);
}

/* The folder's entry reaches the disk too; a file system that cannot do that is no error. */
static void sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

int hob_gguf_writer_finish(hob_gguf_writer *w, hob_diag *diag)
{
    if (w->fd < 0 || w->tensor < w->tensor_count)
        return hob_fail(diag, HOB_EINVAL, "%.120s: the data of %llu tensors is missing", w->path,
                        (unsigned long long)(w->tensor_count - w->tensor));
    if (fsync(w->fd) < 0 || rename(w->temporary, w->path) < 0)
        return cannot_write(w, diag);
    close(w->fd); /* what it could fail at fsync has done */
    w->fd = -1;
    sync_folder(w->path);
    return 0;
}
