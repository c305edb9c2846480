/* SPDX-License-Identifier: Apache-2.0
 *
 * The event-stream reader. See sse.h. */
#include "daemon/ctl/sse.h"

#include <stdlib.h>
#include <string.h>

void hob_sse_free(hob_sse *s)
{
    free(s->line);
    free(s->data);
    memset(s, 0, sizeof *s);
}

/* Appends and keeps one byte free for a NUL. */
static int append(char **buffer, size_t *len, size_t *capacity, const char *bytes, size_t count,
                  hob_diag *diag)
{
    size_t wanted;
    if (!hob_add_size(*len, count, &wanted) || wanted > HOB_SSE_EVENT_MAX)
        return hob_fail(diag, HOB_ELIMIT, "the server sent an event of more than %d bytes",
                        (int)HOB_SSE_EVENT_MAX);
    if (wanted + 1 > *capacity) {
        char *grown = realloc(*buffer, wanted * 2 + 256);
        if (!grown)
            return hob_fail(diag, HOB_ENOMEM, "no memory for an event of the stream");
        *buffer = grown;
        *capacity = wanted * 2 + 256;
    }
    if (count)
        memcpy(*buffer + *len, bytes, count);
    *len = wanted;
    (*buffer)[wanted] = 0;
    return 0;
}

/* A whole line is in s->line. */
static int end_line(hob_sse *s, hob_sse_handler *handle, void *user, hob_diag *diag)
{
    int r = 0;
    if (s->line_len == 0) {
        if (s->has_data)
            r = handle(user, s->data, s->data_len);
        s->has_data = false;
        s->data_len = 0;
        return r;
    }
    bool is_data = s->line_len >= 4 && memcmp(s->line, "data", 4) == 0 &&
                   (s->line_len == 4 || s->line[4] == ':');
    if (is_data) {
        size_t at = s->line_len > 5 ? 5 + (s->line[5] == ' ') : s->line_len;
        if (s->has_data)
            r = append(&s->data, &s->data_len, &s->data_capacity, "\n", 1, diag);
        if (r >= 0)
            r = append(&s->data, &s->data_len, &s->data_capacity, s->line + at, s->line_len - at,
                       diag);
        s->has_data = true;
    }
    s->line_len = 0;
    return r;
}

int hob_sse_feed(hob_sse *s, const char *bytes, size_t len, hob_sse_handler *handle, void *user,
                 hob_diag *diag)
{
    for (size_t i = 0; i < len;) {
        if (s->after_cr && bytes[i] == '\n') { /* the second half of CR LF */
            s->after_cr = false;
            i++;
            continue;
        }
        s->after_cr = false;
        size_t n = 0;
        while (i + n < len && bytes[i + n] != '\n' && bytes[i + n] != '\r')
            n++;
        int r = append(&s->line, &s->line_len, &s->line_capacity, bytes + i, n, diag);
        if (r < 0)
            return r;
        i += n;
        if (i == len)
            break;
        s->after_cr = bytes[i] == '\r';
        i++;
        r = end_line(s, handle, user, diag);
        if (r < 0)
            return r;
    }
    return 0;
}
