/* SPDX-License-Identifier: Apache-2.0
 *
 * Stop strings. See sampler.h.
 *
 * The stop string whose last byte comes first wins; of several that end at the same byte, the
 * longest. So the result does not depend on how the text was cut into tokens. Each string is
 * matched by Knuth, Morris and Pratt's automaton, whose state is the number of bytes that might be
 * its beginning: the largest state of all is what must be held back. A stop string is UTF-8 and so
 * begins with the first byte of a character: what comes out never ends inside one. */
#include "models/sampler.h"

#include <stdlib.h>
#include <string.h>

typedef struct stop {
    char bytes[HOB_STOP_BYTES_MAX];
    uint16_t border[HOB_STOP_BYTES_MAX]; /* [i]: longest proper prefix of bytes[0 .. i] that is also
                                            its suffix */
    uint16_t len;
    uint16_t state; /* bytes matched so far, < len */
} stop;

struct hob_stops {
    uint32_t count;
    uint32_t held_len;
    bool found;
    char held[HOB_STOP_BYTES_MAX];
    stop stops[];
};

static uint16_t step(const stop *s, uint16_t state, char byte)
{
    while (state > 0 && s->bytes[state] != byte)
        state = s->border[state - 1];
    return (uint16_t)(state + (s->bytes[state] == byte));
}

int hob_stops_new(const char *const *strings, uint32_t count, hob_stops **ret, hob_diag *diag)
{
    if (count > HOB_STOPS_MAX)
        return hob_fail(diag, HOB_EINVAL, "stop: got %u strings, allowed are %d", count,
                        HOB_STOPS_MAX);
    hob_stops *s = calloc(1, sizeof *s + count * sizeof *s->stops);
    if (!s)
        return hob_fail(diag, HOB_ENOMEM, "out of memory for stop strings");
    s->count = count;
    for (uint32_t i = 0; i < count; i++) {
        stop *p = &s->stops[i];
        size_t len = strlen(strings[i]);
        if (len == 0 || len > HOB_STOP_BYTES_MAX) {
            free(s);
            return hob_fail(diag, HOB_EINVAL, "stop: string %u: got %zu bytes, allowed are 1 to %d",
                            i, len, HOB_STOP_BYTES_MAX);
        }
        memcpy(p->bytes, strings[i], len);
        p->len = (uint16_t)len;
        for (uint16_t j = 1; j < len; j++)
            p->border[j] = step(p, p->border[j - 1], p->bytes[j]);
    }
    *ret = s;
    return 0;
}

void hob_stops_free(hob_stops *s)
{
    free(s);
}

bool hob_stops_feed(hob_stops *s, const char *text, size_t len, char *ret, size_t *ret_len)
{
    size_t held = s->held_len, hold = 0;
    *ret_len = 0;
    if (s->found)
        return true;
    memcpy(ret, s->held, held);
    if (len)
        memcpy(ret + held, text, len);
    for (size_t i = 0; i < len; i++) {
        size_t matched = 0;
        hold = 0;
        for (uint32_t j = 0; j < s->count; j++) {
            stop *p = &s->stops[j];
            p->state = step(p, p->state, text[i]);
            if (p->state == p->len && p->len > matched)
                matched = p->len;
            if (p->state > hold)
                hold = p->state;
        }
        if (matched) {
            s->found = true;
            s->held_len = 0;
            *ret_len = held + i + 1 - matched;
            return true;
        }
    }
    if (len == 0)
        hold = held;
    *ret_len = held + len - hold;
    memcpy(s->held, ret + *ret_len, hold);
    s->held_len = (uint32_t)hold;
    return false;
}

size_t hob_stops_end(hob_stops *s, char *ret)
{
    size_t len = s->held_len;
    memcpy(ret, s->held, len);
    s->held_len = 0;
    return len;
}
