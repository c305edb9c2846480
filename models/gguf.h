/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF v2 and v3 files, read as hostile bytes: every count, length, product, offset, alignment, type and dimension is
 * checked against the file's size before it is used. Format: the GGUF specification in ggml's docs/gguf.md.
 *
 * A hob_gguf holds the file open and mapped read-only; all pointers handed out live until hob_gguf_close. The file's
 * size is fixed while mapped: it is checked again by hob_gguf_check_size before tensor data is read.
 * Thread: a hob_gguf is immutable after open and may be read by any thread. */
#ifndef HOB_MODELS_GGUF_H
#define HOB_MODELS_GGUF_H

#include "hal/hal.h"

typedef struct hob_gguf hob_gguf;

typedef struct hob_string { /* not NUL-terminated, may hold any bytes */
    const char *data;
    size_t len;
} hob_string;

typedef struct hob_gguf_tensor {
    hob_string name;
    uint32_t type;      /* GGUF's number; may be one hob cannot compute with */
    uint32_t dim_count; /* 1 .. 4 */
    uint64_t dims[4];   /* GGUF order: dims[0] is the contiguous one (columns); unused are 1 */
    const void *data;   /* in the map, aligned to the file's alignment */
    size_t bytes;
} hob_gguf_tensor;

/* HOB_EIO (cannot open), HOB_EFORMAT (broken), HOB_EUNSUPPORTED (version, endianness). */
HOB_MUST_CHECK int hob_gguf_open(const char *path, hob_gguf **ret, hob_diag *diag);
/* The same of an open file, whose descriptor is taken over; name: for the diagnosis. */
HOB_MUST_CHECK int hob_gguf_open_fd(int fd, const char *name, hob_gguf **ret, hob_diag *diag);
/* The same over bytes that stay valid until close: for tests and fuzzing. data needs no alignment. */
HOB_MUST_CHECK int hob_gguf_parse(const void *data, size_t bytes, hob_gguf **ret, hob_diag *diag);
void hob_gguf_close(hob_gguf *g);
/* The open file, which stays g's; -1: of bytes. */
int hob_gguf_fd(const hob_gguf *g);
/* HOB_EIO when the open file no longer has the size that was checked. */
HOB_MUST_CHECK int hob_gguf_check_size(const hob_gguf *g, hob_diag *diag);
/* Tells the OS that the pages of this tensor are no longer needed. */
void hob_gguf_drop(const hob_gguf *g, const hob_gguf_tensor *t);

/* Of a GGUF tensor type's number, whether hob can compute with it or not; "unknown" for others. */
const char *hob_gguf_type_name(uint32_t type);
uint64_t hob_gguf_file_bytes(const hob_gguf *g);
uint64_t hob_gguf_tensor_count(const hob_gguf *g);
const hob_gguf_tensor *hob_gguf_tensor_at(const hob_gguf *g, uint64_t i);
const hob_gguf_tensor *hob_gguf_find_tensor(const hob_gguf *g, const char *name); /* NULL: none */

/* Typed keys. Missing: HOB_ENOENT. Another type, or out of [min, max]: HOB_EFORMAT with the key in the diagnosis.
 * Integers accept any of GGUF's integer types whose value fits. *ret is untouched on failure. */
HOB_MUST_CHECK int hob_gguf_u64(const hob_gguf *g, const char *key, uint64_t min, uint64_t max,
                                uint64_t *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_gguf_f32(const hob_gguf *g, const char *key, float min, float max,
                                float *ret, hob_diag *diag); /* finite */
HOB_MUST_CHECK int hob_gguf_bool(const hob_gguf *g, const char *key, bool *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_gguf_string(const hob_gguf *g, const char *key, hob_string *ret,
                                   hob_diag *diag);

/* Array keys: element count, then elements. Element types must match exactly. */
HOB_MUST_CHECK int hob_gguf_array_strings(const hob_gguf *g, const char *key, uint64_t *ret_count,
                                          hob_diag *diag);
HOB_MUST_CHECK int hob_gguf_array_i32(const hob_gguf *g, const char *key, const void **ret_le,
                                      uint64_t *ret_count,
                                      hob_diag *diag); /* unaligned int32 or uint32 */
HOB_MUST_CHECK int hob_gguf_array_f32(const hob_gguf *g, const char *key, const void **ret_le,
                                      uint64_t *ret_count, hob_diag *diag); /* unaligned */
/* Fills ret[count] (count as given by hob_gguf_array_strings) in one pass. */
HOB_MUST_CHECK int hob_gguf_read_strings(const hob_gguf *g, const char *key, hob_string *ret,
                                         uint64_t count, hob_diag *diag);

/* Walks all keys in file order, for inspection: value is printed shortened into text. Returns false past the end. */
bool hob_gguf_describe_key(const hob_gguf *g, uint64_t i, hob_string *ret_key, char *text,
                           size_t text_size);

#endif
