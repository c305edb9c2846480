/* SPDX-License-Identifier: Apache-2.0
 *
 * Server-sent events, read piece by piece as bytes arrive: lines end in LF, CR LF or CR, an event's
 * data lines are joined by LF, an empty line ends it. Comments, ids and event names are skipped:
 * hob's streams carry JSON data alone. (WHATWG HTML, section 9.2.6.) */
#ifndef HOB_DAEMON_CTL_SSE_H
#define HOB_DAEMON_CTL_SSE_H

#include "hal/base.h"

enum { HOB_SSE_EVENT_MAX = 4 * 1024 * 1024 }; /* bytes of a line, and of an event's data */

/* data is NUL-terminated and valid during the call. Negative stops hob_sse_feed with that code. */
typedef int hob_sse_handler(void *user, const char *data, size_t len);

typedef struct hob_sse { /* zero-initialize */
    char *line, *data;
    size_t line_len, line_capacity, data_len, data_capacity;
    bool has_data, after_cr;
} hob_sse;

void hob_sse_free(hob_sse *s);
/* HOB_ELIMIT, HOB_ENOMEM, or the handler's code. */
HOB_MUST_CHECK int hob_sse_feed(hob_sse *s, const char *bytes, size_t len, hob_sse_handler *handle,
                                void *user, hob_diag *diag);

#endif
