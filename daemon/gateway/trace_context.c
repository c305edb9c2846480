/* SPDX-License-Identifier: Apache-2.0
 *
 * See trace_context.h. version-traceid-parentid-flags, all in lower-case hexadecimal. */
#include "daemon/gateway/trace_context.h"

#include <stdio.h>
#include <string.h>

enum {
    VERSION_AT = 0,
    TRACE_AT = 3,
    SPAN_AT = 36,
    FLAGS_AT = 53,
    LENGTH = 55,
    SAMPLED = 1,
    NO_VERSION = 0xff,
};

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False: not all of it is hexadecimal, in lower case. */
static bool read_bytes(const char *text, uint8_t *ret, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    return count == 0;
}

bool hob_trace_context_read(const char *text, size_t len, hob_trace_context *ret)
{
    hob_trace_context c = {.sampled = false};
    uint8_t version, flags;

    if (len < LENGTH || !read_bytes(text + VERSION_AT, &version, 1) || version == NO_VERSION ||
        (version == 0 ? len != LENGTH : len > LENGTH && text[LENGTH] != '-'))
        return false;
    if (text[TRACE_AT - 1] != '-' || text[SPAN_AT - 1] != '-' || text[FLAGS_AT - 1] != '-' ||
        !read_bytes(text + TRACE_AT, c.trace, sizeof c.trace) ||
        !read_bytes(text + SPAN_AT, c.span, sizeof c.span) ||
        !read_bytes(text + FLAGS_AT, &flags, 1) || is_zero(c.trace, sizeof c.trace) ||
        is_zero(c.span, sizeof c.span))
        return false;
    c.sampled = flags & SAMPLED;
    *ret = c;
    return true;
}

void hob_trace_hex(const uint8_t *bytes, size_t count, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * count] = '\0';
}

void hob_trace_context_write(const hob_trace_context *c, char ret[HOB_TRACEPARENT_MAX])
{
    char trace[2 * sizeof c->trace + 1], span[2 * sizeof c->span + 1];
    hob_trace_hex(c->trace, sizeof c->trace, trace);
    hob_trace_hex(c->span, sizeof c->span, span);
    snprintf(ret, HOB_TRACEPARENT_MAX, "00-%s-%s-%02x", trace, span, c->sampled ? SAMPLED : 0);
}
