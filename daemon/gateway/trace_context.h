/* SPDX-License-Identifier: Apache-2.0
 *
 * The header traceparent of W3C's Trace Context (Recommendation, November 2021): by it a caller says which trace a request is a
 * part of, and we which span answers it. Thread: any. */
#ifndef HOB_DAEMON_GATEWAY_TRACE_CONTEXT_H
#define HOB_DAEMON_GATEWAY_TRACE_CONTEXT_H

#include "hal/base.h"

enum { HOB_TRACEPARENT_MAX = 56 }; /* bytes of one of ours with its NUL */

typedef struct hob_trace_context {
    uint8_t trace[16], span[8]; /* neither is all zero */
    bool sampled;               /* the caller keeps this trace */
} hob_trace_context;

/* A header's value. False, and *ret untouched: it is not valid, and a new trace is to be begun. Of a version to come the
 * part that this one has is read, as the standard wants. */
bool hob_trace_context_read(const char *text, size_t len, hob_trace_context *ret);
void hob_trace_context_write(const hob_trace_context *c, char ret[HOB_TRACEPARENT_MAX]);
/* bytes in hexadecimal, with a NUL behind: ret[2 * count + 1]. */
void hob_trace_hex(const uint8_t *bytes, size_t count, char *ret);

#endif
