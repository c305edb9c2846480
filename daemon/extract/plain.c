/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain text: a paragraph is what stands between blank lines. See formats.h. */
#include "daemon/extract/formats.h"

#include <string.h>

static bool is_blank(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

int hob_read_plain(const char *text, size_t len, hob_document *d)
{
    int r = 0;
    bool open = false;
    for (size_t at = 0; r == 0 && at < len;) {
        const char *break_at = memchr(text + at, '\n', len - at);
        const size_t end = break_at ? (size_t)(break_at - text) : len,
                     past = break_at ? end + 1 : len;
        if (is_blank(text + at, end - at)) {
            r = hob_document_end(d);
            open = false;
        } else {
            if (!open)
                r = hob_document_begin(d, HOB_BLOCK_LINES, 0);
            open = true;
            if (r == 0)
                r = hob_document_text(d, text + at, past - at);
        }
        at = past;
    }
    return r == 0 ? hob_document_end(d) : r;
}
