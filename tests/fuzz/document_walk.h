/* SPDX-License-Identifier: Apache-2.0
 *
 * What the fuzz targets of the extractor do with a document: its text and blocks are checked, then it is cut in two ways
 * and its chunks are. */
#ifndef HOB_TESTS_DOCUMENT_WALK_H
#define HOB_TESTS_DOCUMENT_WALK_H

#include <stdio.h>

#include "daemon/extract/formats.h"
#include "tests/support/document_check.h"

static const hob_extract_limits walk_limits = {.input_bytes = 1 << 20,
                                               .text_bytes = 1 << 18,
                                               .chunks = 1 << 16,
                                               .memory_mb = 64,
                                               .cpu_s = 1,
                                               .wall_ms = 1000};
static hob_diag walk_diag;

static inline void walk_expect(const char *wrong)
{
    if (!wrong)
        return;
    fprintf(stderr, "%s\n", wrong);
    abort();
}

static inline hob_document walk_new(void)
{
    walk_diag.text[0] = 0;
    return (hob_document){.limits = &walk_limits, .diag = &walk_diag};
}

/* r: of the reader. Releases the document. */
static inline void walk_document(hob_document *d, int r)
{
    static hob_tokenizer *t;
    if (!t)
        t = dc_tokenizer("bert");
    walk_expect((r < 0) != (d->error != HOB_EXTRACT_OK) ? "an error without its kind" : NULL);
    walk_expect(r < 0 && !walk_diag.text[0] ? "an error without a diagnosis" : NULL);
    if (r == 0) {
        walk_expect(dc_document(d));
        walk_expect(hob_wire_is_text(d->title, strlen(d->title)) ? NULL : "the title is not text");
        if (d->block_count > 0) {
            walk_expect(dc_cut(d, t, 32, 16));
            walk_expect(dc_cut(d, t, 200, 32));
        }
    }
    hob_document_free(d);
}

/* bytes as a text file, decoded; the caller frees what is returned. */
static inline const char *walk_decode(const uint8_t *data, size_t bytes, hob_bytes *copy,
                                      size_t *ret_len, hob_document *d)
{
    hob_encoding e;
    const char *text;
    if (hob_encoding_find(data, bytes, &e, d) < 0 ||
        hob_encoding_decode(data, bytes, e, copy, &text, ret_len, d) < 0)
        return NULL;
    return text;
}

#define WALK_TEXT(read)                                                                            \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);                                 \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)                                  \
    {                                                                                              \
        hob_document d = walk_new();                                                               \
        hob_bytes copy = {0};                                                                      \
        size_t len = 0;                                                                            \
        const char *text = walk_decode(data, bytes, &copy, &len, &d);                              \
        const int r = text ? read(text, len, &d) : HOB_EFORMAT;                                    \
        walk_document(&d, r);                                                                      \
        hob_bytes_free(&copy);                                                                     \
        return 0;                                                                                  \
    }

#endif
