/* SPDX-License-Identifier: Apache-2.0
 *
 * See log_ring.h. A line is a header of four bytes, its length and above it its level, and its bytes; both may go around the
 * ring's end. */
#include "daemon/gateway/log_ring.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/engine/protocol.h"

enum { HEADER = 4, LEVEL_SHIFT = 24 };

int hob_log_ring_open(hob_log_ring *r, size_t capacity)
{
    *r = (hob_log_ring){.data = malloc(capacity), .capacity = capacity};
    return r->data ? 0 : HOB_ENOMEM;
}

void hob_log_ring_close(hob_log_ring *r)
{
    free(r->data);
    *r = (hob_log_ring){0};
}

static void copy_in(hob_log_ring *r, const void *from, size_t len)
{
    const size_t at = r->end % r->capacity, part = r->capacity - at < len ? r->capacity - at : len;
    memcpy(r->data + at, from, part);
    memcpy(r->data, (const char *)from + part, len - part);
    r->end += len;
}

static void copy_out(const hob_log_ring *r, uint64_t position, void *to, size_t len)
{
    const size_t at = position % r->capacity,
                 part = r->capacity - at < len ? r->capacity - at : len;
    memcpy(to, r->data + at, part);
    memcpy((char *)to + part, r->data, len - part);
}

static size_t header_at(const hob_log_ring *r, uint64_t position, uint8_t *ret_level)
{
    uint8_t header[HEADER];
    copy_out(r, position, header, HEADER);
    const uint32_t n = hob_get_u32(header);
    *ret_level = (uint8_t)(n >> LEVEL_SHIFT);
    return n & ((1u << LEVEL_SHIFT) - 1);
}

void hob_log_ring_add(hob_log_ring *r, uint8_t level, const char *line, size_t len)
{
    uint8_t header[HEADER], old;
    if (len + HEADER > r->capacity || len >> LEVEL_SHIFT)
        return;
    while (r->end - r->first + len + HEADER > r->capacity) {
        r->first += HEADER + header_at(r, r->first, &old);
        r->first_line++;
    }
    hob_put_u32(header, (uint32_t)len | (uint32_t)level << LEVEL_SHIFT);
    copy_in(r, header, HEADER);
    copy_in(r, line, len);
    r->end_line++;
}

hob_log_cursor hob_log_ring_seek(const hob_log_ring *r, uint64_t line)
{
    hob_log_cursor c = {.at = r->first, .line = r->first_line};
    uint8_t level;
    if (line < r->first_line) /* the next read says what was missed */
        c.line = line;
    for (; c.line < line && c.line < r->end_line; c.line++)
        c.at += HEADER + header_at(r, c.at, &level);
    return c;
}

size_t hob_log_ring_read(const hob_log_ring *r, hob_log_cursor *c, uint8_t *ret_level, char *ret,
                         size_t size, uint64_t *ret_missed)
{
    *ret_missed = 0;
    if (c->line < r->first_line) {
        *ret_missed = r->first_line - c->line;
        *c = (hob_log_cursor){.at = r->first, .line = r->first_line};
    }
    if (c->line >= r->end_line)
        return 0;
    const size_t len = header_at(r, c->at, ret_level);
    if (len > size)
        return 0;
    copy_out(r, c->at + HEADER, ret, len);
    c->at += HEADER + len;
    c->line++;
    return len;
}
