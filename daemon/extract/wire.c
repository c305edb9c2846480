/* SPDX-License-Identifier: Apache-2.0
 *
 * See wire.h. */
#include "daemon/extract/wire.h"

#include <string.h>

#include "models/utf8.h"

enum {
    COUNTERS = sizeof(hob_stripped) / sizeof(uint32_t),
    META_HEADER = 8 + 4 * COUNTERS,
    CHUNK_HEADER = 12,
};
_Static_assert(COUNTERS == 8, "as wire.h has it");

static int put(hob_bytes *out, hob_wire_type type, const void *payload, size_t len)
{
    return hob_message_append(out, (hob_message_type)type, 0, payload, len);
}

int hob_wire_put_meta(hob_bytes *out, const hob_wire_meta *m)
{
    uint8_t payload[META_HEADER + HOB_EXTRACT_TITLE_MAX] = {m->format, m->encoding};
    uint32_t counters[COUNTERS];
    if (m->title_len > HOB_EXTRACT_TITLE_MAX)
        return HOB_ELIMIT;
    memcpy(counters, &m->stripped, sizeof counters);
    hob_put_u32(payload + 4, m->text_bytes);
    for (int i = 0; i < COUNTERS; i++)
        hob_put_u32(payload + 8 + 4 * i, counters[i]);
    memcpy(payload + META_HEADER, m->title, m->title_len);
    return put(out, HOB_WIRE_META, payload, META_HEADER + m->title_len);
}

int hob_wire_put_text(hob_bytes *out, const char *text, size_t len)
{
    return put(out, HOB_WIRE_TEXT, text, len);
}

int hob_wire_put_chunk(hob_bytes *out, const hob_wire_chunk *c)
{
    uint8_t payload[CHUNK_HEADER + HOB_HEADING_PATH_MAX];
    if (c->path_len > HOB_HEADING_PATH_MAX)
        return HOB_ELIMIT;
    hob_put_u32(payload, c->chunk.start);
    hob_put_u32(payload + 4, c->chunk.end);
    hob_put_u32(payload + 8, c->chunk.tokens);
    memcpy(payload + CHUNK_HEADER, c->path, c->path_len);
    return put(out, HOB_WIRE_CHUNK, payload, CHUNK_HEADER + c->path_len);
}

int hob_wire_put_end(hob_bytes *out, uint32_t chunks)
{
    uint8_t payload[4];
    hob_put_u32(payload, chunks);
    return put(out, HOB_WIRE_END, payload, sizeof payload);
}

int hob_wire_put_error(hob_bytes *out, hob_extract_error e, const char *line)
{
    uint8_t payload[1 + sizeof((hob_diag *)0)->text] = {(uint8_t)e};
    const size_t len = strnlen(line, sizeof payload - 1);
    memcpy(payload + 1, line, len);
    return put(out, HOB_WIRE_ERROR, payload, 1 + len);
}

bool hob_wire_is_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        const unsigned char c = (unsigned char)text[i];
        const int step = hob_utf8_step(text + i, len - i);
        if (step <= 0 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
            return false;
        i += (size_t)step;
    }
    return true;
}

static bool is_line(const char *text, size_t len)
{
    return hob_wire_is_text(text, len) && !memchr(text, '\n', len) && !memchr(text, '\t', len);
}

int hob_wire_get_meta(const hob_message *m, hob_wire_meta *ret)
{
    const uint8_t *p = m->payload;
    uint32_t counters[COUNTERS];
    if (m->len < META_HEADER || m->len > META_HEADER + HOB_EXTRACT_TITLE_MAX)
        return HOB_EFORMAT;
    hob_wire_meta meta = {.format = p[0],
                          .encoding = p[1],
                          .text_bytes = hob_get_u32(p + 4),
                          .title = (const char *)p + META_HEADER,
                          .title_len = m->len - META_HEADER};
    for (int i = 0; i < COUNTERS; i++)
        counters[i] = hob_get_u32(p + 8 + 4 * i);
    memcpy(&meta.stripped, counters, sizeof counters);
    if (meta.format >= HOB_FORMATS || meta.encoding >= HOB_ENCODINGS ||
        !is_line(meta.title, meta.title_len))
        return HOB_EFORMAT;
    *ret = meta;
    return 0;
}

int hob_wire_get_chunk(const hob_message *m, hob_wire_chunk *ret)
{
    const uint8_t *p = m->payload;
    if (m->len < CHUNK_HEADER || m->len > CHUNK_HEADER + HOB_HEADING_PATH_MAX ||
        !is_line((const char *)p + CHUNK_HEADER, m->len - CHUNK_HEADER))
        return HOB_EFORMAT;
    *ret = (hob_wire_chunk){
        .chunk = {.start = hob_get_u32(p), .end = hob_get_u32(p + 4), .tokens = hob_get_u32(p + 8)},
        .path = (const char *)p + CHUNK_HEADER,
        .path_len = m->len - CHUNK_HEADER};
    return 0;
}

int hob_wire_get_end(const hob_message *m, uint32_t *ret_chunks)
{
    if (m->len != 4)
        return HOB_EFORMAT;
    *ret_chunks = hob_get_u32(m->payload);
    return 0;
}

int hob_wire_get_error(const hob_message *m, hob_extract_error *ret, const char **ret_line)
{
    if (m->len < 2 || m->payload[0] == HOB_EXTRACT_OK || m->payload[0] >= HOB_EXTRACT_ERRORS)
        return HOB_EFORMAT;
    *ret = (hob_extract_error)m->payload[0];
    *ret_line = (const char *)m->payload + 1; /* which protocol.h ends with a NUL */
    return 0;
}
