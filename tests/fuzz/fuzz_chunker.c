/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over blocks and chunks. Input: parts, each after a byte 0x1E and one that says of what kind and level
 * the block is; what no such byte stands in front of is a paragraph. The text is any UTF-8. */
#include "tests/fuzz/document_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int read_blocks(const char *text, size_t len, hob_document *d)
{
    int r = 0;
    for (size_t at = 0; r == 0 && at < len;) {
        hob_block_kind kind = HOB_BLOCK_PARAGRAPH;
        uint8_t level = 1;
        if (text[at] == 0x1E && len - at > 1) {
            kind = (hob_block_kind)((unsigned char)text[at + 1] % (HOB_BLOCK_CODE + 1));
            level = (uint8_t)((unsigned char)text[at + 1] / 8 % 9);
            at += 2;
            while (at < len && ((unsigned char)text[at] & 0xC0) == 0x80)
                at++;
        }
        const char *next = memchr(text + at, 0x1E, len - at);
        const size_t end = next ? (size_t)(next - text) : len;
        r = hob_document_begin(d, kind, level);
        if (r == 0)
            r = hob_document_text(d, text + at, end - at);
        if (end == at)
            break;
        at = end;
    }
    return r < 0 ? r : hob_document_end(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    hob_document d = walk_new();
    hob_bytes copy = {0};
    const char *text;
    size_t len;
    if (hob_encoding_decode(data, bytes, HOB_ENCODING_UTF8, &copy, &text, &len, &d) < 0)
        abort();
    walk_document(&d, read_blocks(text, len, &d));
    hob_bytes_free(&copy);
    return 0;
}
