/* SPDX-License-Identifier: Apache-2.0
 *
 * What an extractor says to its parent, in the frames of engine/protocol.h with id 0. The parent says nothing.
 * Little endian.
 *
 *   META   u8 format (hob_format) | u8 encoding (hob_encoding) | u16 0 | u32 text bytes, at least 1 |
 *          u32 * 8 hob_stripped, in its order | title (UTF-8, at most HOB_EXTRACT_TITLE_MAX bytes)
 *   TEXT   a part of the text, at least 1 byte; as many as it takes
 *   CHUNK  u32 start | u32 end | u32 tokens | path of headings (UTF-8, at most HOB_HEADING_PATH_MAX bytes)
 *   END    u32 chunks
 *   ERROR  u8 hob_extract_error | a line of text; ends it, in the place of any of the others
 *
 * in this order, CHUNK only where a vocabulary was given. */
#ifndef HOB_DAEMON_EXTRACT_WIRE_H
#define HOB_DAEMON_EXTRACT_WIRE_H

#include "daemon/extract/chunk.h"
#include "daemon/extract/encoding.h"
#include "daemon/extract/sniff.h"

typedef enum hob_wire_type {
    HOB_WIRE_META = 1,
    HOB_WIRE_TEXT,
    HOB_WIRE_CHUNK,
    HOB_WIRE_END,
    HOB_WIRE_ERROR,
} hob_wire_type;

typedef struct hob_wire_meta {
    uint8_t format, encoding;
    uint32_t text_bytes;
    hob_stripped stripped;
    const char *title;
    size_t title_len;
} hob_wire_meta;

typedef struct hob_wire_chunk {
    hob_chunk chunk;
    const char *path;
    size_t path_len;
} hob_wire_chunk;

/* HOB_ENOMEM or HOB_ELIMIT. */
HOB_MUST_CHECK int hob_wire_put_meta(hob_bytes *out, const hob_wire_meta *m);
HOB_MUST_CHECK int hob_wire_put_text(hob_bytes *out, const char *text, size_t len);
HOB_MUST_CHECK int hob_wire_put_chunk(hob_bytes *out, const hob_wire_chunk *c);
HOB_MUST_CHECK int hob_wire_put_end(hob_bytes *out, uint32_t chunks);
HOB_MUST_CHECK int hob_wire_put_error(hob_bytes *out, hob_extract_error e, const char *line);

/* Pointers into the message. HOB_EFORMAT when it is too short or long, a number is none of its kind, or text is not UTF-8. */
HOB_MUST_CHECK int hob_wire_get_meta(const hob_message *m, hob_wire_meta *ret);
HOB_MUST_CHECK int hob_wire_get_chunk(const hob_message *m, hob_wire_chunk *ret);
HOB_MUST_CHECK int hob_wire_get_end(const hob_message *m, uint32_t *ret_chunks);
/* *ret_line is NUL-terminated; it may hold any bytes. */
HOB_MUST_CHECK int hob_wire_get_error(const hob_message *m, hob_extract_error *ret,
                                      const char **ret_line);

/* Valid UTF-8 without control characters but '\n' and '\t'. */
bool hob_wire_is_text(const char *text, size_t len);

#endif
