/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces for an OpenTelemetry collector: OTLP/HTTP with JSON (opentelemetry.io/docs/specs/otlp), POST to /v1/traces of its
 * endpoint. A thread of its own sends them, in batches, so that a collector which is slow, or a name that takes long to look
 * up, holds up no request. What it cannot send yet waits, bounded; past that new ones are dropped and counted. */
#ifndef HOB_DAEMON_GATEWAY_OTLP_H
#define HOB_DAEMON_GATEWAY_OTLP_H

#include "daemon/gateway/trace.h"

typedef struct hob_otlp hob_otlp;

/* endpoint: http:// or https://; ca: a PEM file, needed for https. HOB_EINVAL, HOB_ENOMEM. Thread: loop, as the next. */
HOB_MUST_CHECK int hob_otlp_open(const char *endpoint, const char *ca, hob_otlp **ret,
                                 hob_diag *diag);
void hob_otlp_post(hob_otlp *o, const hob_trace_record *r); /* copied */
size_t hob_otlp_bytes(const hob_otlp *o);                   /* that it holds; NULL: none */
uint64_t hob_otlp_dropped(const hob_otlp *o, uint64_t *ret_sent);
/* Tries once more to send what waits, for two seconds at most in all; the rest is lost, and said in the log. NULL is fine. */
void hob_otlp_close(hob_otlp *o);

/* ---- trace_json.c: a request to the collector, trace by trace. Thread: any ---- */

void hob_otlp_begin(hob_text *t);
void hob_otlp_add(hob_text *t, const hob_trace_record *r, bool first);
void hob_otlp_end(hob_text *t);

#endif
