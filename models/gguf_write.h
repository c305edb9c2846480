/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a GGUF file (version 3, little-endian): keys and the tensors' names and shapes are gathered in memory, then the
 * tensors' data is written in the order in which they were declared, as it comes. The file has its name only once all of it
 * is on the disk; until then, and for good when something fails, what was under that name stays. What is written depends on
 * the calls alone: no time, path or machine is in it.
 *
 * Thread: a writer belongs to one thread. */
#ifndef HOB_MODELS_GGUF_WRITE_H
#define HOB_MODELS_GGUF_WRITE_H

#include "models/gguf.h"

typedef struct hob_gguf_writer hob_gguf_writer;

HOB_MUST_CHECK int hob_gguf_writer_new(hob_gguf_writer **ret, hob_diag *diag);
/* Removes what was written of a file that was not finished. */
void hob_gguf_writer_free(hob_gguf_writer *w);

/* Keys, in the order of the file, each once. A failure (a key too long, no memory) is kept, and the answer of
 * hob_gguf_writer_begin. */
void hob_gguf_put_u32(hob_gguf_writer *w, const char *key, uint32_t value);
void hob_gguf_put_f32(hob_gguf_writer *w, const char *key, float value);
void hob_gguf_put_bool(hob_gguf_writer *w, const char *key, bool value);
void hob_gguf_put_string(hob_gguf_writer *w, const char *key, const char *value, size_t len);
void hob_gguf_put_strings(hob_gguf_writer *w, const char *key, const hob_string *values,
                          uint64_t count);
void hob_gguf_put_i32s(hob_gguf_writer *w, const char *key, const int32_t *values, uint64_t count);
void hob_gguf_put_f32s(hob_gguf_writer *w, const char *key, const float *values, uint64_t count);

/* Declares a tensor; dims in GGUF's order, none 0, dims[0] a multiple of the type's block. Kept like a key's failure. */
void hob_gguf_put_tensor(hob_gguf_writer *w, const char *name, hob_type type, uint32_t dim_count,
                         const uint64_t *dims);

/* The keys so far as a file of their own, without tensors, for reading them back; the caller frees *ret. */
HOB_MUST_CHECK int hob_gguf_writer_keys(const hob_gguf_writer *w, void **ret, size_t *ret_bytes,
                                        hob_diag *diag);

/* Makes the file, beside path, sets the disk space aside, and writes all but the data. What is at path, if anything, must be a
 * regular file. HOB_EIO has the system's words, of a full disk among others. */
HOB_MUST_CHECK int hob_gguf_writer_begin(hob_gguf_writer *w, const char *path, hob_diag *diag);
/* The next bytes of the tensors' data; a tensor may come in pieces, and a piece does not cross from one to the next. */
HOB_MUST_CHECK int hob_gguf_writer_data(hob_gguf_writer *w, const void *data, size_t bytes,
                                        hob_diag *diag);
/* After all data: on the disk, and under its name. */
HOB_MUST_CHECK int hob_gguf_writer_finish(hob_gguf_writer *w, hob_diag *diag);

#endif
