/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the header traceparent: what is read has no zero id, and is what is written back; and over lines of the
 * log: the same bytes as a value make one line of valid JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/log_line.h"
#include "daemon/gateway/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_context(const char *text, size_t bytes)
{
    static const uint8_t zero[16];
    hob_trace_context c, again;
    char back[HOB_TRACEPARENT_MAX];
    if (!hob_trace_context_read(text, bytes, &c))
        return;
    hob_trace_context_write(&c, back);
    if (memcmp(c.trace, zero, sizeof c.trace) == 0 || memcmp(c.span, zero, sizeof c.span) == 0 ||
        memcmp(back + 3, text + 3, 50) != 0 ||
        !hob_trace_context_read(back, strlen(back), &again) || memcmp(&c, &again, sizeof c) != 0)
        abort();
}

static void check_line(const char *text, size_t bytes)
{
    static hob_log_line l;
    const struct timespec epoch = {0};
    hob_log_line_begin(&l, true, &epoch, "info");
    hob_log_line_text(&l, "value", text, bytes);
    hob_log_line_end(&l);
    json_t *o = json_loadb(l.text, l.len, JSON_ALLOW_NUL, NULL);
    if (!o || memchr(l.text, '\n', l.len) != l.text + l.len - 1)
        abort();
    json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes ? bytes : 1); /* a sanitizer sees what is read past it */
    if (!text)
        abort();
    memcpy(text, data, bytes);
    check_context(text, bytes);
    check_line(text, bytes);
    free(text);
    return 0;
}
