/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a text file to valid UTF-8. The encoding is UTF-8 or UTF-16 where a byte order mark says so; else UTF-8, if
 * the bytes that are not ASCII form characters of UTF-8 more often than not; else Windows-1252, of which Latin-1 is a
 * part. UTF-16 without a mark counts as binary. The table of Windows-1252 is that of the WHATWG Encoding Standard.
 * Pure; any thread. */
#ifndef HOB_DAEMON_EXTRACT_ENCODING_H
#define HOB_DAEMON_EXTRACT_ENCODING_H

#include "daemon/extract/document.h"

typedef enum hob_encoding {
    HOB_ENCODING_NONE, /* of the whole file: it is no text */
    HOB_ENCODING_UTF8,
    HOB_ENCODING_UTF16LE,
    HOB_ENCODING_UTF16BE,
    HOB_ENCODING_WINDOWS_1252,
    HOB_ENCODINGS,
} hob_encoding;
const char *hob_encoding_name(hob_encoding e); /* "utf-8"; "" for NONE */

/* Of a text file. Fails with BINARY, UNSUPPORTED (UTF-32), or TOO_LARGE. */
HOB_MUST_CHECK int hob_encoding_find(const uint8_t *data, size_t bytes, hob_encoding *ret,
                                     hob_document *d);

/* *ret is data itself, past its mark, where that is valid UTF-8, else a copy in *copy (zero-initialized, the caller frees
 * it). Bytes that are no character become U+FFFD and count in d->stripped. Fails with MEMORY. */
HOB_MUST_CHECK int hob_encoding_decode(const uint8_t *data, size_t bytes, hob_encoding e,
                                       hob_bytes *copy, const char **ret, size_t *ret_len,
                                       hob_document *d);

#endif
