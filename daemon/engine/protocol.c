/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames and messages as bytes: nothing here reads or writes a socket, so that gateway (libwebsockets' loop) and
 * engine (blocking threads) share it. See protocol.h for the layout. */
#include "daemon/engine/protocol.h"

#include <stdlib.h>
#include <string.h>

uint32_t hob_get_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t hob_get_u64(const void *p)
{
    return hob_get_u32(p) | (uint64_t)hob_get_u32((const uint8_t *)p + 4) << 32;
}

void hob_put_u32(void *p, uint32_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}

void hob_put_u64(void *p, uint64_t v)
{
    hob_put_u32(p, (uint32_t)v);
    hob_put_u32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

void hob_bytes_free(hob_bytes *b)
{
    free(b->data);
    *b = (hob_bytes){0};
}

/* Makes room for len more bytes behind b->len, moving what is left to the front before it grows. */
static int bytes_reserve(hob_bytes *b, size_t len)
{
    size_t need, capacity = b->capacity ? b->capacity : 4096;

    if (b->start > 0 && b->start >= b->capacity / 2) {
        memmove(b->data, b->data + b->start, b->len - b->start);
        b->len -= b->start;
        b->start = 0;
    }
    if (!hob_add_size(b->len, len, &need))
        return HOB_ENOMEM;
    if (need <= b->capacity)
        return 0;
    while (capacity < need)
        if (!hob_mul_size(capacity, 2, &capacity))
            return HOB_ENOMEM;
    uint8_t *data = realloc(b->data, capacity);
    if (!data)
        return HOB_ENOMEM;
    b->data = data;
    b->capacity = capacity;
    return 0;
}

int hob_bytes_append(hob_bytes *b, const void *data, size_t len)
{
    int rc = bytes_reserve(b, len);
    if (rc < 0)
        return rc;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

void hob_bytes_consume(hob_bytes *b, size_t len)
{
    b->start += len;
    if (b->start == b->len)
        b->start = b->len = 0;
}

void hob_bytes_fit(hob_bytes *b)
{
    const size_t left = hob_bytes_left(b);
    if (left == 0) {
        hob_bytes_free(b);
        return;
    }
    memmove(b->data, b->data + b->start, left);
    b->start = 0;
    b->len = left;
    uint8_t *data = realloc(b->data, left);
    if (!data)
        return;
    b->data = data;
    b->capacity = left;
}

static void put_header(uint8_t *to, hob_message_type type, uint8_t flags, uint32_t len, uint64_t id)
{
    to[0] = HOB_PROTOCOL_VERSION;
    to[1] = 0;
    to[2] = (uint8_t)type;
    to[3] = flags;
    hob_put_u32(to + 4, len);
    hob_put_u64(to + 8, id);
}

int hob_message_append(hob_bytes *out, hob_message_type type, uint64_t id, const void *payload,
                       size_t len)
{
    if (len > HOB_MESSAGE_MAX)
        return HOB_ELIMIT;
    size_t frames = len ? (len + HOB_FRAME_MAX - 1) / HOB_FRAME_MAX : 1;
    int rc = bytes_reserve(out, len + frames * HOB_FRAME_HEADER);
    if (rc < 0)
        return rc;
    const uint8_t *from = payload;
    for (size_t i = 0; i < frames; i++) {
        size_t part = len < HOB_FRAME_MAX ? len : HOB_FRAME_MAX;
        uint8_t *to = out->data + out->len;
        put_header(to, type, i + 1 < frames ? HOB_FRAME_MORE : 0, (uint32_t)part, id);
        if (part)
            memcpy(to + HOB_FRAME_HEADER, from, part);
        out->len += HOB_FRAME_HEADER + part;
        from += part;
        len -= part;
    }
    return 0;
}

void hob_reader_free(hob_reader *r)
{
    hob_bytes_free(&r->frame);
    hob_bytes_free(&r->message);
    *r = (hob_reader){0};
}

/* Takes one whole frame off r->frame. Returns 1 when a message was completed and handled, 0 when more bytes are needed
 * or the message goes on. */
static int reader_take_frame(hob_reader *r, hob_message_handler *handle, void *user, hob_diag *diag,
                             bool *ret_again)
{
    const uint8_t *p = r->frame.data + r->frame.start;
    size_t have = hob_bytes_left(&r->frame);
    *ret_again = false;
    if (have < HOB_FRAME_HEADER)
        return 0;
    uint32_t version = p[0] | (uint32_t)p[1] << 8, len = hob_get_u32(p + 4);
    uint8_t type = p[2], flags = p[3];
    uint64_t id = hob_get_u64(p + 8);
    if (version != HOB_PROTOCOL_VERSION)
        return hob_fail(diag, HOB_EFORMAT, "protocol: version %u, expected %d", version,
                        HOB_PROTOCOL_VERSION);
    if (flags & ~HOB_FRAME_MORE)
        return hob_fail(diag, HOB_EFORMAT, "protocol: frame flags 0x%x, allowed 0x%x", flags,
                        HOB_FRAME_MORE);
    if (len > HOB_FRAME_MAX)
        return hob_fail(diag, HOB_EFORMAT, "protocol: frame of %u bytes, at most %d", len,
                        HOB_FRAME_MAX);
    if (r->in_message && (type != r->type || id != r->id))
        return hob_fail(diag, HOB_EFORMAT,
                        "protocol: a frame of type %u inside a message of type %u", type, r->type);
    if (have < HOB_FRAME_HEADER + len)
        return 0;
    if (hob_bytes_left(&r->message) + len > HOB_MESSAGE_MAX)
        return hob_fail(diag, HOB_EFORMAT, "protocol: message over %d bytes", HOB_MESSAGE_MAX);
    int rc = hob_bytes_append(&r->message, p + HOB_FRAME_HEADER, len);
    if (rc < 0)
        return hob_fail(diag, rc, "protocol: no memory for a message");
    hob_bytes_consume(&r->frame, HOB_FRAME_HEADER + len);
    r->type = type;
    r->id = id;
    r->in_message = (flags & HOB_FRAME_MORE) != 0;
    *ret_again = true;
    if (r->in_message)
        return 0;
    size_t whole = r->message.len;
    rc = hob_bytes_append(&r->message, "", 1);
    if (rc < 0)
        return hob_fail(diag, rc, "protocol: no memory for a message");
    hob_message m = {
        .type = (hob_message_type)type, .id = id, .payload = r->message.data, .len = whole};
    rc = handle(user, &m);
    if (r->message.capacity > 1024 * 1024)
        hob_bytes_free(&r->message); /* one long prompt must not keep its memory for ever */
    r->message.start = r->message.len = 0;
    return rc;
}

int hob_reader_feed(hob_reader *r, const void *data, size_t len, hob_message_handler *handle,
                    void *user, hob_diag *diag)
{
    int rc = hob_bytes_append(&r->frame, data, len);
    if (rc < 0)
        return hob_fail(diag, rc, "protocol: no memory for %zu bytes", len);
    for (bool again = true; again;) {
        rc = reader_take_frame(r, handle, user, diag, &again);
        if (rc < 0)
            return rc;
    }
    return 0;
}

enum { TOKENS_HEADER = 28 };

int hob_tokens_decode(const hob_message *m, hob_tokens_message *ret, hob_diag *diag)
{
    if (m->len < TOKENS_HEADER)
        return hob_fail(diag, HOB_EFORMAT, "engine protocol: TOKENS of %zu bytes, at least %d",
                        m->len, TOKENS_HEADER);
    const uint8_t *p = m->payload;
    hob_tokens_message t = {
        .finish = p[0],
        .has_logprobs = p[1] == 1,
        .token_count = p[2] | (uint32_t)p[3] << 8,
        .prompt_tokens = hob_get_u32(p + 4),
        .cached_tokens = hob_get_u32(p + 8),
        .answer_tokens = hob_get_u32(p + 12),
        .text_len = hob_get_u32(p + 16),
        .waited_us = hob_get_u32(p + 20),
        .chunks = hob_get_u32(p + 24),
    };
    size_t left = m->len - TOKENS_HEADER, ids = (size_t)t.token_count * 4;
    if (ids > left || t.text_len > left - ids)
        return hob_fail(
            diag, HOB_EFORMAT,
            "engine protocol: TOKENS of %zu bytes announces %u ids and %zu bytes of text", m->len,
            t.token_count, t.text_len);
    t.ids = p + TOKENS_HEADER;
    t.text = (const char *)t.ids + ids;
    t.logprobs = t.text + t.text_len;
    t.logprobs_len = left - ids - t.text_len;
    *ret = t;
    return 0;
}

/* In one frame, straight into out: this runs once a token and allocates only when out grows. */
int hob_tokens_append(hob_bytes *out, uint64_t id, const hob_tokens_message *t)
{
    size_t ids = (size_t)t->token_count * 4,
           len = TOKENS_HEADER + ids + t->text_len + t->logprobs_len;
    if (len > HOB_FRAME_MAX || t->token_count > UINT16_MAX)
        return HOB_ELIMIT;
    int rc = bytes_reserve(out, HOB_FRAME_HEADER + len);
    if (rc < 0)
        return rc;
    uint8_t *to = out->data + out->len;
    put_header(to, HOB_MSG_TOKENS, 0, (uint32_t)len, id);
    to += HOB_FRAME_HEADER;
    to[0] = t->finish;
    to[1] = t->has_logprobs;
    to[2] = (uint8_t)t->token_count;
    to[3] = (uint8_t)(t->token_count >> 8);
    hob_put_u32(to + 4, t->prompt_tokens);
    hob_put_u32(to + 8, t->cached_tokens);
    hob_put_u32(to + 12, t->answer_tokens);
    hob_put_u32(to + 16, (uint32_t)t->text_len);
    hob_put_u32(to + 20, t->waited_us);
    hob_put_u32(to + 24, t->chunks);
    to = mempcpy(to + TOKENS_HEADER, t->ids, ids);
    to = mempcpy(to, t->text, t->text_len);
    memcpy(to, t->logprobs, t->logprobs_len);
    out->len += HOB_FRAME_HEADER + len;
    return 0;
}
