/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the reader of DOCX. Input: a ZIP file; or, after a byte 0xFE, the XML of the main part and after a
 * byte 0xFF that of the styles, which are packed here, so that a fuzzer need not mind checksums. */
#include "tests/fuzz/document_walk.h"
#include "tests/support/zip_maker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char *copy_of(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    if (!text)
        abort();
    memcpy(text, data, bytes);
    text[bytes] = 0;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    hob_document d = walk_new();
    if (bytes == 0 || data[0] != 0xFE) {
        walk_document(&d, hob_read_docx(data, bytes, &d));
        return 0;
    }
    const uint8_t *border = memchr(data, 0xFF, bytes);
    const size_t first = border ? (size_t)(border - data) : bytes;
    char *body = copy_of(data + 1, first - 1), *styles = copy_of(data + first, bytes - first);
    const zip_part parts[] = {
        {.name = "_rels/.rels",
         .text = "<r><Relationship Type='/officeDocument' Target='word/document.xml'/></r>"},
        {.name = "word/document.xml", .text = body},
        {.name = "word/styles.xml", .text = styles[0] ? styles + 1 : styles}};
    zip_file z = zip_make(parts, border ? 3 : 2);
    walk_document(&d, hob_read_docx(z.data, z.bytes, &d));
    zip_free(&z);
    free(body);
    free(styles);
    return 0;
}
