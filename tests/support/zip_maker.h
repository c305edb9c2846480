/* SPDX-License-Identifier: Apache-2.0
 *
 * ZIP files in memory, whose headers may lie. */
#ifndef HOB_TESTS_ZIP_MAKER_H
#define HOB_TESTS_ZIP_MAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

typedef struct zip_part {
    const char *name, *text;
    bool deflated, wrong_crc;
    size_t spaces;          /* that follow the text */
    uint16_t flags, method; /* method 0: what deflated says */
} zip_part;

typedef struct zip_file {
    uint8_t *data;
    size_t bytes;
} zip_file;

static inline void zip_put(zip_file *z, const void *data, size_t bytes)
{
    z->data = realloc(z->data, z->bytes + bytes + 1);
    if (!z->data)
        abort();
    memcpy(z->data + z->bytes, data, bytes);
    z->bytes += bytes;
}

static inline void zip_number(zip_file *z, uint32_t n, size_t bytes)
{
    const uint8_t le[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    zip_put(z, le, bytes);
}

/* The fields that a local header and a directory's entry have in common. */
static inline void zip_header(zip_file *z, const zip_part *p, uint32_t crc, uint32_t packed,
                              uint32_t bytes)
{
    zip_number(z, 20, 2);
    zip_number(z, p->flags, 2);
    zip_number(z, p->method ? p->method : p->deflated ? 8 : 0, 2);
    zip_number(z, 0, 4); /* time */
    zip_number(z, crc ^ p->wrong_crc, 4);
    zip_number(z, packed, 4);
    zip_number(z, bytes, 4);
    zip_number(z, (uint32_t)strlen(p->name), 2);
    zip_number(z, 0, 2);
}

static inline zip_file zip_make(const zip_part *parts, size_t count)
{
    zip_file z = {0}, directory = {0};
    for (size_t i = 0; i < count; i++) {
        const zip_part *p = &parts[i];
        const size_t len = strlen(p->text), bytes = len + p->spaces;
        uint8_t *raw = malloc(bytes + 1), *packed;
        uLongf packed_bytes = compressBound(bytes) + 64;
        packed = malloc(packed_bytes);
        if (!raw || !packed)
            abort();
        memcpy(raw, p->text, len);
        memset(raw + len, ' ', p->spaces);
        if (p->deflated) {
            z_stream s = {.next_in = raw,
                          .avail_in = (uInt)bytes,
                          .next_out = packed,
                          .avail_out = (uInt)packed_bytes};
            if (deflateInit2(&s, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
                deflate(&s, Z_FINISH) != Z_STREAM_END)
                abort();
            packed_bytes = s.total_out;
            deflateEnd(&s);
        } else {
            memcpy(packed, raw, bytes);
            packed_bytes = bytes;
        }
        const uint32_t crc = (uint32_t)crc32(0, raw, (uInt)bytes), at = (uint32_t)z.bytes;
        zip_put(&z, "PK\3\4", 4);
        zip_header(&z, p, crc, (uint32_t)packed_bytes, (uint32_t)bytes);
        zip_put(&z, p->name, strlen(p->name));
        zip_put(&z, packed, packed_bytes);
        zip_put(&directory, "PK\1\2", 4);
        zip_number(&directory, 20, 2);
        zip_header(&directory, p, crc, (uint32_t)packed_bytes, (uint32_t)bytes);
        zip_number(&directory, 0, 2); /* comment */
        zip_number(&directory, 0, 4); /* disk, attributes */
        zip_number(&directory, 0, 4);
        zip_number(&directory, at, 4);
        zip_put(&directory, p->name, strlen(p->name));
        free(raw);
        free(packed);
    }
    const uint32_t at = (uint32_t)z.bytes;
    zip_put(&z, directory.data, directory.bytes);
    zip_put(&z, "PK\5\6\0\0\0\0", 8);
    zip_number(&z, (uint32_t)count, 2);
    zip_number(&z, (uint32_t)count, 2);
    zip_number(&z, (uint32_t)directory.bytes, 4);
    zip_number(&z, at, 4);
    zip_number(&z, 0, 2);
    free(directory.data);
    return z;
}

static inline void zip_free(zip_file *z)
{
    free(z->data);
    *z = (zip_file){0};
}

#endif
