/* SPDX-License-Identifier: Apache-2.0
 *
 * What a file is: by its first bytes, then by what its text looks like, and by its name or media type only where the
 * content leaves a choice (Markdown, or HTML that is a fragment, against plain text). Parses nothing. Pure; any thread. */
#ifndef HOB_DAEMON_EXTRACT_SNIFF_H
#define HOB_DAEMON_EXTRACT_SNIFF_H

#include "daemon/extract/document.h"

typedef enum hob_format {
    HOB_FORMAT_TEXT,
    HOB_FORMAT_MARKDOWN,
    HOB_FORMAT_HTML,
    HOB_FORMAT_PDF,
    HOB_FORMAT_DOCX,
    HOB_FORMATS,
} hob_format;
const char *hob_format_media_type(hob_format f); /* "text/plain", …; NULL for other numbers */

typedef struct hob_sniffed_file {
    const uint8_t *data;
    size_t bytes;
    const char *name, *media_type; /* as uploaded; "": none */
} hob_sniffed_file;

bool hob_sniff_is_pdf(const hob_sniffed_file *f);
/* By magic bytes: PDF, DOCX (any ZIP: docx.c looks inside) or, for text, TEXT. Fails with EMPTY, UNSUPPORTED, ENCRYPTED. */
HOB_MUST_CHECK int hob_sniff_bytes(const hob_sniffed_file *f, hob_format *ret, hob_document *d);
/* Of a text in UTF-8: TEXT, MARKDOWN or HTML. */
hob_format hob_sniff_text(const hob_sniffed_file *f, const char *text, size_t len);

#endif
