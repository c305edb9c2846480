/* SPDX-License-Identifier: Apache-2.0
 *
 * See text.h. */
#include "daemon/gateway/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void hob_text_free(hob_text *t)
{
    hob_bytes_free(&t->bytes);
    t->failed = false;
}

void hob_text_clear(hob_text *t)
{
    t->bytes.start = t->bytes.len = 0;
    t->failed = false;
}

void hob_text_add(hob_text *t, const char *s, size_t len)
{
    if (!t->failed && len > 0 && hob_bytes_append(&t->bytes, s, len) < 0)
        t->failed = true;
}

void hob_text_puts(hob_text *t, const char *s)
{
    hob_text_add(t, s, strlen(s));
}

void hob_text_format(hob_text *t, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line)
        t->failed = true; /* long values go through add and string */
    else
        hob_text_add(t, line, (size_t)n);
}

void hob_text_string(hob_text *t, const char *s, size_t len)
{
    size_t plain = 0; /* where the run of bytes that need no escape begins */
    hob_text_add(t, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        hob_text_add(t, s + plain, i - plain);
        plain = i + 1;
        switch (c) {
        case '"': hob_text_add(t, "\\\"", 2); break;
        case '\\': hob_text_add(t, "\\\\", 2); break;
        case '\n': hob_text_add(t, "\\n", 2); break;
        case '\r': hob_text_add(t, "\\r", 2); break;
        case '\t': hob_text_add(t, "\\t", 2); break;
        default: hob_text_format(t, "\\u%04x", c); break;
        }
    }
    hob_text_add(t, s + plain, len - plain);
    hob_text_add(t, "\"", 1);
}

static int add_dumped(const char *data, size_t len, void *text)
{
    hob_text *t = text;
    hob_text_add(t, data, len);
    return t->failed ? -1 : 0;
}

void hob_text_json(hob_text *t, const json_t *value)
{
    if (!value || json_dump_callback(value, add_dumped, t,
                                     JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) < 0)
        t->failed = true;
}
