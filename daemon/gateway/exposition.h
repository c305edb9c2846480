/* SPDX-License-Identifier: Apache-2.0
 *
 * Prometheus' text format 0.0.4: a family begins with its help and type, once, and its samples follow at once. Times are
 * seconds, counters end in _total. Labels are written by the caller, as {a="b",c="d"} without the braces; "" is none.
 * Thread: the owner's of the text. */
#ifndef HOB_DAEMON_GATEWAY_EXPOSITION_H
#define HOB_DAEMON_GATEWAY_EXPOSITION_H

#include "daemon/gateway/text.h"
#include "daemon/observe/histogram.h"

/* type: "counter", "gauge" or "histogram" */
void hob_expose_family(hob_text *t, const char *name, const char *type, const char *help);
void hob_expose_sample(hob_text *t, const char *name, const char *labels, double value);
/* A family of one sample. */
void hob_expose_counter(hob_text *t, const char *name, const char *help, double value);
void hob_expose_gauge(hob_text *t, const char *name, const char *help, double value);
/* The samples of one histogram. */
void hob_expose_histogram(hob_text *t, const char *name, const char *labels,
                          const hob_histogram *h);

#endif
