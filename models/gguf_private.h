/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by gguf.c (which parses) and gguf_keys.c (which answers): the parsed file, and a reader
 * that cannot leave the file. Not for other files. */
#ifndef HOB_MODELS_GGUF_PRIVATE_H
#define HOB_MODELS_GGUF_PRIVATE_H

#include "models/gguf.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF values are read in place");

/* GGUF's numbers of the value types. */
enum gguf_kind {
    KIND_U8,
    KIND_I8,
    KIND_U16,
    KIND_I16,
    KIND_U32,
    KIND_I32,
    KIND_F32,
    KIND_BOOL,
    KIND_STRING,
    KIND_ARRAY,
    KIND_U64,
    KIND_I64,
    KIND_F64,
    KIND_COUNT
};

typedef struct gguf_key {
    hob_string name;
    uint32_t kind;
    uint32_t element; /* of an array: the elements' kind */
    uint64_t count;   /* of an array: its elements; of a string: its bytes */
    size_t value;     /* file offset of the first byte after those headers */
} gguf_key;

/* Names to indices, open addressing. Keyed by a secret, so that a file cannot be made of names that
 * collide. */
typedef struct gguf_index {
    uint32_t *slots; /* [mask + 1], 0: empty, else index + 1 */
    uint32_t mask;
} gguf_index;

struct hob_gguf {
    const uint8_t *base;
    size_t bytes;
    int fd; /* -1 for bytes of the caller's */
    bool mapped;
    uint64_t secret[2];
    uint32_t version;
    gguf_key *keys; /* [key_count], file order */
    uint64_t key_count;
    gguf_index key_index;
    hob_gguf_tensor *tensors; /* [tensor_count], file order */
    uint64_t tensor_count;
    gguf_index tensor_index;
};

/* Invariant: at <= bytes. */
typedef struct gguf_reader {
    const uint8_t *base;
    size_t bytes, at;
} gguf_reader;

static inline size_t gguf_left(const gguf_reader *r)
{
    return r->bytes - r->at;
}

static inline HOB_MUST_CHECK bool gguf_read(gguf_reader *r, void *to, size_t bytes)
{
    if (gguf_left(r) < bytes)
        return false;
    memcpy(to, r->base + r->at, bytes);
    r->at += bytes;
    return true;
}

static inline HOB_MUST_CHECK bool gguf_read_string(gguf_reader *r, hob_string *ret)
{
    gguf_reader look = *r;
    uint64_t len;
    if (!gguf_read(&look, &len, sizeof len) || gguf_left(&look) < len)
        return false;
    ret->data = (const char *)look.base + look.at;
    ret->len = (size_t)len;
    look.at += (size_t)len;
    *r = look;
    return true;
}

/* Bytes of a value of a fixed size; 0 for strings, arrays and unknown kinds. */
size_t hob_gguf_kind_bytes(uint32_t kind);
const char *hob_gguf_kind_name(uint32_t kind);

/* NULL: none. */
const gguf_key *hob_gguf_find_key(const hob_gguf *g, const char *name);

/* Writes s for a person: printable ASCII stays, the rest is escaped, what does not fit ends in
 * "...". Returns text. */
char *hob_gguf_printable(hob_string s, char *text, size_t text_size);

#endif
