/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fuzzer does with one safetensors file's bytes: parse them, and when they are taken look at every tensor and read it.
 * A broken promise of models/safetensors.h aborts. */
#ifndef HOB_TESTS_SAFETENSORS_WALK_H
#define HOB_TESTS_SAFETENSORS_WALK_H

#include "models/safetensors.h"
#include "tests/fuzz/gguf_walk.h"

static inline void walk_safetensor(const hob_safetensors *s, const hob_safetensors_tensor *t,
                                   size_t file_bytes)
{
    hob_diag diag = {""};
    float ends[2];
    PROMISE(t->offset >= 8 && t->offset <= file_bytes && t->bytes <= file_bytes - t->offset);
    PROMISE(t->elements <= t->bytes && t->dim_count <= HOB_SAFETENSORS_DIMS_MAX);
    PROMISE(hob_safetensors_find(s, t->name) == t);
    PROMISE(hob_safetensors_read(s, t, t->elements, 1, ends, &diag) < 0);
    if (!t->is_float) {
        PROMISE(hob_safetensors_read(s, t, 0, 0, ends, &diag) == HOB_EUNSUPPORTED);
        return;
    }
    if (t->elements > 0) {
        PROMISE(hob_safetensors_read(s, t, 0, 1, &ends[0], &diag) == 0);
        PROMISE(hob_safetensors_read(s, t, t->elements - 1, 1, &ends[1], &diag) == 0);
        walk_touch(ends, sizeof ends);
    }
}

/* The parser's answer. */
static inline int walk_safetensors(const uint8_t *file, size_t file_bytes)
{
    hob_safetensors *s = NULL;
    hob_diag diag = {""};
    uint64_t covered = 0;
    const int rc = hob_safetensors_parse(file, file_bytes, &s, &diag);
    if (rc < 0) {
        PROMISE(!s && (rc == HOB_EFORMAT || rc == HOB_EUNSUPPORTED) && diag.text[0]);
        return rc;
    }
    for (size_t i = 0; i < hob_safetensors_count(s); i++) {
        const hob_safetensors_tensor *t = hob_safetensors_at(s, i);
        if (i > 0)
            PROMISE(strcmp(hob_safetensors_at(s, i - 1)->name, t->name) < 0);
        walk_safetensor(s, t, file_bytes);
        covered += t->bytes;
    }
    PROMISE(covered < file_bytes);
    hob_safetensors_close(s);
    return 0;
}

#endif
