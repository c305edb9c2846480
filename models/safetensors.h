/* SPDX-License-Identifier: Apache-2.0
 *
 * Safetensors files, read as hostile bytes: the header's length, its JSON, every name, type, shape and range is checked
 * against the file's size and against each other before anything is used; the ranges must fill the data area with neither
 * gap nor overlap. Format: safetensors' README, "Format" (8 bytes of header length, a JSON header, the data).
 *
 * Data is read with pread, never mapped: a file that shrinks meanwhile is an error and not a signal, and no more of it is in
 * memory than was asked for.
 * Thread: immutable after open; any thread may read. */
#ifndef HOB_MODELS_SAFETENSORS_H
#define HOB_MODELS_SAFETENSORS_H

#include "models/gguf.h"

typedef struct hob_safetensors hob_safetensors;

enum { HOB_SAFETENSORS_DIMS_MAX = 8 };

typedef struct hob_safetensors_tensor {
    const char *name;   /* UTF-8, lives as long as the file is open */
    const char *dtype;  /* the format's name, "BF16" */
    bool is_float;      /* hob_safetensors_read can read it: F32, F16 and BF16 */
    hob_type type;      /* of those */
    uint32_t dim_count; /* 0 (a scalar) .. HOB_SAFETENSORS_DIMS_MAX */
    uint64_t dims[HOB_SAFETENSORS_DIMS_MAX]; /* the file's order: the last is the contiguous one */
    uint64_t elements;                       /* their product; may be 0 */
    uint64_t offset;                         /* in the file */
    uint64_t bytes;
} hob_safetensors_tensor;

/* HOB_EIO (cannot open or read), HOB_EFORMAT (broken), HOB_EUNSUPPORTED (a type or field that is not known), HOB_ENOMEM. */
HOB_MUST_CHECK int hob_safetensors_open(const char *path, hob_safetensors **ret, hob_diag *diag);
/* The same over bytes that stay valid until close: for tests and fuzzing. */
HOB_MUST_CHECK int hob_safetensors_parse(const void *data, size_t bytes, hob_safetensors **ret,
                                         hob_diag *diag);
void hob_safetensors_close(hob_safetensors *s);

size_t hob_safetensors_count(const hob_safetensors *s);
/* By ascending name, so that the order of the file does not matter. */
const hob_safetensors_tensor *hob_safetensors_at(const hob_safetensors *s, size_t i);
const hob_safetensors_tensor *hob_safetensors_find(const hob_safetensors *s,
                                                   const char *name); /* NULL: none */

/* Elements first .. first + count - 1 of a tensor of s as floats, in the file's order. HOB_EUNSUPPORTED: its type is not one
 * of floats; HOB_EINVAL: it has fewer; HOB_EIO. */
HOB_MUST_CHECK int hob_safetensors_read(const hob_safetensors *s, const hob_safetensors_tensor *t,
                                        uint64_t first, size_t count, float *ret, hob_diag *diag);

#endif
