/* SPDX-License-Identifier: Apache-2.0
 *
 * See collect.h. */
#include "daemon/extract/collect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/wire.h"

static void drop_result(hob_collector *c)
{
    free(c->result.text);
    free(c->result.title);
    free(c->result.chunks);
    c->result = (hob_extraction){0};
}

int hob_collector_fail(hob_collector *c, hob_extract_error e, const char *format, ...)
{
    char line[sizeof c->result.why.text];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    drop_result(c);
    c->result.error = e;
    c->finished = true;
    return hob_fail(&c->result.why, HOB_ECANCELED, "%s", line); /* stops the reader */
}

static int break_off(hob_collector *c, const char *what)
{
    return hob_collector_fail(c, HOB_EXTRACT_CRASHED, "the extractor broke its protocol: %s", what);
}

static int no_memory(hob_collector *c)
{
    return hob_collector_fail(c, HOB_EXTRACT_INTERNAL, "no memory for the text of the document");
}

static int take_meta(hob_collector *c, const hob_message *m)
{
    hob_extraction *e = &c->result;
    hob_wire_meta meta;
    if (c->has_meta || hob_wire_get_meta(m, &meta) < 0)
        return break_off(c, "META");
    if (meta.text_bytes == 0 || meta.text_bytes > c->limits.text_bytes)
        return break_off(c, "META announces more text than is allowed, or none");
    c->has_meta = true;
    e->media_type = hob_format_media_type((hob_format)meta.format);
    e->encoding = hob_encoding_name((hob_encoding)meta.encoding);
    e->stripped = meta.stripped;
    e->text_len = meta.text_bytes;
    e->title = strndup(meta.title, meta.title_len);
    e->text = malloc(e->text_len + 1);
    return e->title && e->text ? 0 : no_memory(c);
}

static int take_text(hob_collector *c, const hob_message *m)
{
    if (!c->has_meta || m->len == 0 || m->len > c->result.text_len - c->text_had)
        return break_off(c, "TEXT");
    memcpy(c->result.text + c->text_had, m->payload, m->len);
    c->text_had += m->len;
    if (c->text_had < c->result.text_len)
        return 0;
    c->result.text[c->text_had] = 0;
    return hob_wire_is_text(c->result.text, c->text_had) ? 0 : break_off(c, "TEXT is not UTF-8");
}

static bool has_text(const hob_collector *c)
{
    return c->has_meta && c->text_had == c->result.text_len;
}

static bool is_border(const hob_extraction *e, uint32_t at)
{
    return at == e->text_len || ((unsigned char)e->text[at] & 0xC0) != 0x80;
}

static bool is_sound(const hob_collector *c, const hob_chunk *k)
{
    const hob_extraction *e = &c->result;
    const hob_extracted_chunk *last = e->chunk_count ? &e->chunks[e->chunk_count - 1] : NULL;
    return k->start < k->end && k->end <= e->text_len && is_border(e, k->start) &&
           is_border(e, k->end) && (!last || (k->start > last->start && k->end > last->end)) &&
           k->tokens <= c->chunk_tokens &&
           k->end - k->start <= c->chunk_tokens * HOB_CHUNK_BYTES_A_TOKEN;
}

static bool grow_chunks(hob_collector *c)
{
    hob_extraction *e = &c->result;
    if (e->chunk_count < c->chunk_capacity)
        return true;
    const uint32_t capacity = c->chunk_capacity ? 2 * c->chunk_capacity : 64;
    hob_extracted_chunk *chunks = reallocarray(e->chunks, capacity, sizeof *chunks);
    if (chunks)
        e->chunks = chunks;
    uint32_t *paths = chunks ? reallocarray(c->paths, capacity, sizeof *paths) : NULL;
    if (!paths)
        return false;
    c->paths = paths;
    c->chunk_capacity = capacity;
    return true;
}

/* Chunks of one section share their path. */
static int add_path(hob_collector *c, const char *path, size_t len)
{
    const uint32_t n = c->result.chunk_count;
    if (n > 0) {
        const char *last = (const char *)c->path_bytes.data + c->paths[n - 1];
        if (strlen(last) == len && memcmp(last, path, len) == 0) {
            c->paths[n] = c->paths[n - 1];
            return 0;
        }
    }
    if (c->path_bytes.len > c->limits.text_bytes)
        return hob_collector_fail(c, HOB_EXTRACT_TOO_LARGE,
                                  "the paths of the document's headings have more than %u bytes, "
                                  "which is the limit",
                                  c->limits.text_bytes);
    c->paths[n] = (uint32_t)c->path_bytes.len;
    if (hob_bytes_append(&c->path_bytes, path, len) < 0 ||
        hob_bytes_append(&c->path_bytes, "", 1) < 0)
        return no_memory(c);
    return 0;
}

static int take_chunk(hob_collector *c, const hob_message *m)
{
    hob_extraction *e = &c->result;
    hob_wire_chunk w;
    int r;
    if (!c->wants_chunks || !has_text(c) || hob_wire_get_chunk(m, &w) < 0)
        return break_off(c, "CHUNK");
    if (!is_sound(c, &w.chunk) || e->chunk_count >= c->limits.chunks)
        return break_off(c, "a chunk's range, order, tokens or number");
    if (!grow_chunks(c))
        return no_memory(c);
    if ((r = add_path(c, w.path, w.path_len)) < 0)
        return r;
    e->chunks[e->chunk_count++] =
        (hob_extracted_chunk){.start = w.chunk.start, .end = w.chunk.end, .tokens = w.chunk.tokens};
    return 0;
}

static int take_end(hob_collector *c, const hob_message *m)
{
    hob_extraction *e = &c->result;
    uint32_t chunks;
    if (!has_text(c) || hob_wire_get_end(m, &chunks) < 0 || chunks != e->chunk_count ||
        (c->wants_chunks && chunks == 0))
        return break_off(c, "END");
    for (uint32_t i = 0; i < chunks; i++)
        e->chunks[i].path = (const char *)c->path_bytes.data + c->paths[i];
    c->finished = true;
    return HOB_ECANCELED; /* what comes behind it is not read */
}

static int take_error(hob_collector *c, const hob_message *m)
{
    hob_extract_error e;
    const char *line;
    if (hob_wire_get_error(m, &e, &line) < 0)
        return break_off(c, "ERROR");
    if (!hob_wire_is_text(line, strlen(line))) /* a name that was cut within a character */
        line = hob_extract_error_name(e);
    return hob_collector_fail(c, e, "%s", line);
}

static int take_message(void *user, const hob_message *m)
{
    hob_collector *c = user;
    switch ((int)m->type) {
    case HOB_WIRE_META: return take_meta(c, m);
    case HOB_WIRE_TEXT: return take_text(c, m);
    case HOB_WIRE_CHUNK: return take_chunk(c, m);
    case HOB_WIRE_END: return take_end(c, m);
    case HOB_WIRE_ERROR: return take_error(c, m);
    default: return break_off(c, "an unknown message");
    }
}

void hob_collector_feed(hob_collector *c, const void *data, size_t len)
{
    hob_diag diag = {""};
    if (!c->finished && hob_reader_feed(&c->reader, data, len, take_message, c, &diag) < 0 &&
        !c->finished)
        break_off(c, diag.text);
}

void hob_collector_free(hob_collector *c)
{
    drop_result(c);
    free(c->paths);
    hob_bytes_free(&c->path_bytes);
    hob_reader_free(&c->reader);
}
