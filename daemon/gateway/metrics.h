/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of /metrics, each in a file. Labels are bounded: models are named as in hob.conf, classes, routes, reasons and
 * stages are words of our own. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_METRICS_H
#define HOB_DAEMON_GATEWAY_METRICS_H

#include "daemon/gateway/exposition.h"
#include "daemon/gateway/state.h"

enum { HOB_LABELS_MAX = 256 };
/* model="…" of a link; a name has no character that would have to be escaped. */
void hob_metrics_model(const hob_link *l, char ret[HOB_LABELS_MAX]);

/* metrics_requests.c: how requests went, how long they took, who waits */
void hob_metrics_requests(hob_gateway *g, hob_text *t);
/* metrics_engines.c: the engines' states, and what they say of themselves */
void hob_metrics_engines(hob_gateway *g, hob_text *t);
/* metrics_memory.c: who holds how much of it */
void hob_metrics_memory(hob_gateway *g, hob_text *t);

#endif
