/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fuzzer does with one file's bytes: parse them, and when they are taken ask for everything
 * in every way. A broken promise of models/gguf.h aborts, so that it counts like a fault of memory.
 */
#ifndef HOB_TESTS_GGUF_WALK_H
#define HOB_TESTS_GGUF_WALK_H

#include "models/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMISE(x)                                                                                 \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #x);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static volatile unsigned walk_sink; /* keeps the reads */

static inline void walk_touch(const void *data, size_t bytes)
{
    if (bytes) {
        walk_sink += ((const uint8_t *)data)[0];
        walk_sink += ((const uint8_t *)data)[bytes - 1];
    }
}

static inline void walk_inside(const void *data, size_t bytes, const uint8_t *file,
                               size_t file_bytes)
{
    const uintptr_t at = (uintptr_t)data, from = (uintptr_t)file;
    PROMISE(at >= from && at - from <= file_bytes && bytes <= file_bytes - (at - from));
}

/* A getter failed: its code is one of the two that a key can cause, and it says why. */
static inline void walk_refused(int rc, const hob_diag *diag)
{
    PROMISE(rc == HOB_EFORMAT || rc == HOB_ENOENT);
    PROMISE(diag->text[0] && memchr(diag->text, 0, sizeof diag->text));
}

static inline void walk_key(const hob_gguf *g, const char *key, const uint8_t *file,
                            size_t file_bytes)
{
    hob_diag diag = {""};
    uint64_t u = 42, n = 42;
    float f = 42;
    bool b = false;
    hob_string s = {NULL, 42};
    const void *le = NULL;
    int answers = 0;
    int rc = hob_gguf_u64(g, key, 1, UINT64_MAX - 1, &u, &diag);
    if (rc < 0)
        walk_refused(rc, &diag);
    PROMISE(rc < 0 ? u == 42 : u >= 1 && u < UINT64_MAX);
    rc = hob_gguf_f32(g, key, -1e9f, 1e9f, &f, &diag);
    if (rc < 0)
        walk_refused(rc, &diag);
    PROMISE(isfinite(f));
    rc = hob_gguf_bool(g, key, &b, &diag);
    if (rc < 0)
        walk_refused(rc, &diag);
    rc = hob_gguf_string(g, key, &s, &diag);
    if (rc < 0) {
        walk_refused(rc, &diag);
    } else {
        walk_inside(s.data, s.len, file, file_bytes);
        walk_touch(s.data, s.len);
        answers++;
    }
    rc = hob_gguf_array_i32(g, key, &le, &n, &diag);
    if (rc < 0) {
        walk_refused(rc, &diag);
    } else {
        walk_inside(le, n * 4, file, file_bytes);
        walk_touch(le, n * 4);
        answers++;
    }
    rc = hob_gguf_array_f32(g, key, &le, &n, &diag);
    if (rc < 0) {
        walk_refused(rc, &diag);
    } else {
        walk_inside(le, n * 4, file, file_bytes);
        walk_touch(le, n * 4);
        answers++;
    }
    rc = hob_gguf_array_strings(g, key, &n, &diag);
    if (rc < 0) {
        walk_refused(rc, &diag);
    } else {
        hob_string *strings = malloc((n + 1) * sizeof *strings);
        PROMISE(strings && n <= file_bytes / 8);
        PROMISE(hob_gguf_read_strings(g, key, strings, n, &diag) == 0);
        PROMISE(hob_gguf_read_strings(g, key, strings, n + 1, &diag) == HOB_EINVAL);
        for (uint64_t i = 0; i < n; i++) {
            walk_inside(strings[i].data, strings[i].len, file, file_bytes);
            walk_touch(strings[i].data, strings[i].len);
        }
        free(strings);
        answers++;
    }
    PROMISE(answers <= 1);
}

/* Over a file that was taken. */
static inline void walk_gguf(const hob_gguf *g, const uint8_t *file, size_t file_bytes)
{
    hob_diag diag = {""};
    hob_string name;
    char text[200];
    PROMISE(hob_gguf_file_bytes(g) == file_bytes);
    PROMISE(hob_gguf_check_size(g, &diag) == 0);
    for (uint64_t i = 0;; i++) {
        static const size_t sizes[] = {sizeof text, 1, 9, 40};
        const size_t size = sizes[i % 4];
        if (!hob_gguf_describe_key(g, i, &name, text, size))
            break;
        PROMISE(memchr(text, 0, size));
        walk_inside(name.data, name.len, file, file_bytes);
        char *key = malloc(name.len + 1);
        PROMISE(key && name.len);
        memcpy(key, name.data, name.len);
        key[name.len] = '\0';
        walk_key(g, key, file, file_bytes);
        free(key);
    }
    const uint64_t tensors = hob_gguf_tensor_count(g);
    for (uint64_t i = 0; i < tensors; i++) {
        const hob_gguf_tensor *t = hob_gguf_tensor_at(g, i);
        char found[65];
        PROMISE(t->name.len >= 1 && t->name.len <= 64 && t->dim_count >= 1 && t->dim_count <= 4 &&
                t->bytes);
        PROMISE(t->dims[0] && t->dims[1] && t->dims[2] && t->dims[3]);
        walk_inside(t->data, t->bytes, file, file_bytes);
        walk_touch(t->data, t->bytes);
        memcpy(found, t->name.data, t->name.len);
        found[t->name.len] = '\0';
        if (!memchr(t->name.data, 0, t->name.len))
            PROMISE(hob_gguf_find_tensor(g, found) == t);
        hob_gguf_drop(g, t);
    }
    PROMISE(!hob_gguf_tensor_at(g, tensors));
    PROMISE(!hob_gguf_find_tensor(g, "no such tensor in any file"));
}

/* The parser's answer. */
static inline int walk_bytes(const uint8_t *file, size_t file_bytes)
{
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    const int rc = hob_gguf_parse(file, file_bytes, &g, &diag);
    if (rc < 0) {
        PROMISE(!g && (rc == HOB_EFORMAT || rc == HOB_EUNSUPPORTED) && diag.text[0]);
        return rc;
    }
    walk_gguf(g, file, file_bytes);
    hob_gguf_close(g);
    return rc;
}

#endif
