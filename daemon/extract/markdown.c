/* SPDX-License-Identifier: Apache-2.0
 *
 * Markdown, turned into HTML by MD4C and read as such: a page may hide Markdown inside HTML elements, and only the whole
 * tree shows what a reader sees. See formats.h. */
#include "daemon/extract/formats.h"

#include <string.h>

#include <md4c-html.h>

typedef struct rendering {
    hob_bytes html;
    size_t most;
    bool no_memory, too_long;
} rendering;

/* md_html cannot be stopped: what comes after a failure is dropped. */
static void take(const MD_CHAR *text, MD_SIZE len, void *user)
{
    rendering *k = user;
    if (k->no_memory || k->too_long)
        return;
    k->too_long = k->html.len + len > k->most;
    k->no_memory = !k->too_long && hob_bytes_append(&k->html, text, len) < 0;
}

/* The length of the line at text with its end. */
static size_t line_of(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len);
    return end ? (size_t)(end - text) + 1 : len;
}

static bool is_fence(const char *line, size_t len)
{
    while (len > 0 && strchr("\r\n \t", line[len - 1]))
        len--;
    return len == 3 && (memcmp(line, "---", 3) == 0 || memcmp(line, "...", 3) == 0);
}

static int read_title(const char *line, size_t len, hob_document *d)
{
    size_t at = sizeof "title:" - 1;
    if (len <= at || memcmp(line, "title:", at) != 0)
        return 0;
    while (at < len && strchr(" \t\"'", line[at]))
        at++;
    while (len > at && strchr(" \t\r\n\"'", line[len - 1]))
        len--;
    return hob_document_title(d, line + at, len - at);
}

/* The length of the front matter; 0: there is none. */
static int read_front_matter(const char *text, size_t len, size_t *ret, hob_document *d)
{
    size_t first = line_of(text, len), at = first;
    *ret = 0;
    if (text[0] != '-' || !is_fence(text, first))
        return 0;
    for (size_t line; at < len; at += line) {
        line = line_of(text + at, len - at);
        if (is_fence(text + at, line)) {
            *ret = at + line;
            int r = hob_document_begin(d, HOB_BLOCK_LINES, 0);
            return r < 0 ? r : hob_document_text(d, text + first, at - first);
        }
    }
    return 0;
}

int hob_read_markdown(const char *text, size_t len, hob_document *d)
{
    rendering k = {.most = (size_t)HOB_EXTRACT_RAW_FACTOR * d->limits->text_bytes};
    size_t front = 0;
    int r = len ? read_front_matter(text, len, &front, d) : 0;
    for (size_t at = 0, line; r == 0 && at < front; at += line) {
        line = line_of(text + at, front - at);
        r = read_title(text + at, line, d);
    }
    if (r < 0)
        return r;
    if (md_html(text + front, (MD_SIZE)(len - front), take, &k, MD_DIALECT_GITHUB, 0) < 0 ||
        k.no_memory)
        r = hob_document_no_memory(d);
    else if (k.too_long)
        r = hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                              "the page made of the Markdown has more than %zu bytes, which is the "
                              "limit",
                              k.most);
    else if (k.html.len > 0)
        r = hob_read_html((const char *)k.html.data, k.html.len, d);
    hob_bytes_free(&k.html);
    return r < 0 ? r : hob_document_end(d);
}
