/* SPDX-License-Identifier: Apache-2.0
 *
 * See log_line.h. A logfmt value that is no plain word is written as JSON would write it: one kind of quotes for both. */
#include "daemon/gateway/log_line.h"

#include <stdio.h>
#include <string.h>

#include "models/utf8.h"

/* Kept free for what ends a line: `,"cut":true}` and the newline. */
enum { END_ROOM = 16, ESCAPE_MAX = 6, QUOTE = 1 };

static size_t room(const hob_log_line *l)
{
    return HOB_LOG_LINE_MAX - END_ROOM - l->len;
}

static void add(hob_log_line *l, const char *s, size_t len)
{
    memcpy(l->text + l->len, s, len);
    l->len += len;
}

/* Opens a field whose value takes at least `least` bytes; false when there is no room for that. */
static bool open_field(hob_log_line *l, const char *name, size_t least)
{
    const size_t len = strlen(name);
    if (room(l) < len + 4 + least) {
        l->cut = true;
        return false;
    }
    if (l->json) {
        add(l, l->len > 0 ? ",\"" : "{\"", 2);
        add(l, name, len);
        add(l, "\":", 2);
    } else {
        add(l, " ", l->len > 0);
        add(l, name, len);
        add(l, "=", 1);
    }
    return true;
}

/* What a character becomes inside quotes; its length, 0: it stands for itself. */
static size_t escape(unsigned char c, char ret[ESCAPE_MAX + 1])
{
    static const char short_of[] = "\"\"\\\\\nn\rr\tt";
    for (const char *p = short_of; *p; p += 2)
        if ((unsigned char)*p == c) {
            ret[0] = '\\';
            ret[1] = p[1];
            return 2;
        }
    if (c >= 0x20 && c != 0x7f)
        return 0;
    return (size_t)snprintf(ret, ESCAPE_MAX + 1, "\\u%04x", c);
}

static void add_quoted(hob_log_line *l, const char *s, size_t len)
{
    add(l, "\"", QUOTE);
    for (size_t i = 0; i < len;) {
        static const char no_character[] = "\\ufffd";
        char escaped[ESCAPE_MAX + 1];
        const int step = hob_utf8_step(s + i, len - i);
        const size_t taken = step > 0 ? (size_t)step : step < 0 ? (size_t)-step : len - i;
        const size_t special = step == 1 ? escape((unsigned char)s[i], escaped) : 0;
        const char *as = step <= 0 ? no_character : special ? escaped : s + i;
        const size_t bytes = step <= 0 ? ESCAPE_MAX : special ? special : taken;
        if (room(l) < bytes + QUOTE) {
            l->cut = true;
            break;
        }
        add(l, as, bytes);
        i += taken;
    }
    add(l, "\"", QUOTE);
}

static bool is_word(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '=' || s[i] == '\\')
            return false;
    return len > 0;
}

void hob_log_line_text(hob_log_line *l, const char *name, const char *value, size_t len)
{
    if (!open_field(l, name, 2 * QUOTE))
        return;
    if (!l->json && is_word(value, len) && len <= room(l))
        add(l, value, len);
    else
        add_quoted(l, value, len);
}

void hob_log_line_word(hob_log_line *l, const char *name, const char *value)
{
    hob_log_line_text(l, name, value, strlen(value));
}

static void add_value(hob_log_line *l, const char *name, const char *value)
{
    const size_t len = strlen(value);
    if (open_field(l, name, len))
        add(l, value, len);
}

void hob_log_line_number(hob_log_line *l, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add_value(l, name, text);
}

void hob_log_line_ms(hob_log_line *l, const char *name, uint64_t us)
{
    char text[32];
    snprintf(text, sizeof text, "%llu.%03u", (unsigned long long)(us / 1000),
             (unsigned)(us % 1000));
    add_value(l, name, text);
}

void hob_log_line_begin(hob_log_line *l, bool json, const struct timespec *now, const char *level)
{
    struct tm utc;
    char text[40];

    l->json = json;
    l->cut = false;
    l->len = 0;
    gmtime_r(&now->tv_sec, &utc);
    const size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, sizeof text - len, ".%03ldZ", now->tv_nsec / 1000000);
    hob_log_line_word(l, "time", text);
    hob_log_line_word(l, "level", level);
}

void hob_log_line_end(hob_log_line *l)
{
    if (l->cut && l->json)
        add(l, ",\"cut\":true", 11);
    else if (l->cut)
        add(l, " cut=true", 9);
    add(l, l->json ? "}\n" : "\n", l->json ? 2 : 1);
}
