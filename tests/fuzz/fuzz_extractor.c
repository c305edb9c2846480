/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over what a parent reads from its extractor. Input: a byte that says whether chunks are wanted and in
 * which pieces the rest comes, then the frames. What is accepted must be sound. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/collect.h"
#include "daemon/extract/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static bool on_border(const hob_extraction *e, uint32_t at)
{
    return ((unsigned char)e->text[at] & 0xC0) != 0x80; /* behind the last byte is a NUL */
}

static void check(const hob_collector *c)
{
    const hob_extraction *e = &c->result;
    if (e->error) {
        CHECK(!e->text && !e->title && !e->chunks && e->why.text[0]);
        return;
    }
    CHECK(e->text_len > 0 && e->text_len <= c->limits.text_bytes && e->text[e->text_len] == 0);
    CHECK(hob_wire_is_text(e->text, e->text_len) && hob_wire_is_text(e->title, strlen(e->title)));
    CHECK(e->media_type && e->encoding && e->chunk_count <= c->limits.chunks);
    for (uint32_t i = 0; i < e->chunk_count; i++) {
        const hob_extracted_chunk *k = &e->chunks[i];
        CHECK(k->start < k->end && k->end <= e->text_len && k->tokens <= c->chunk_tokens);
        CHECK(on_border(e, k->start) && on_border(e, k->end));
        CHECK(i == 0 || (k[0].start > k[-1].start && k[0].end > k[-1].end));
        CHECK(hob_wire_is_text(k->path, strlen(k->path)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    hob_collector c = {.limits = {.text_bytes = 4096, .chunks = 16},
                       .chunk_tokens = 64,
                       .wants_chunks = data[0] & 1};
    const size_t piece = data[0] / 2 + 1;
    for (size_t at = 1; at < bytes; at += piece)
        hob_collector_feed(&c, data + at, bytes - at < piece ? bytes - at : piece);
    if (c.finished)
        check(&c);
    hob_collector_free(&c);
    return 0;
}
