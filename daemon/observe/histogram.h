/* SPDX-License-Identifier: Apache-2.0
 *
 * Times counted in fixed buckets from 1 ms to 10 min, as Prometheus' histograms have them. The buckets are the same
 * everywhere, so that what an engine counted is passed on as it is. A value costs a search in 18 bounds and two sums.
 * Thread: the owner's. */
#ifndef HOB_DAEMON_OBSERVE_HISTOGRAM_H
#define HOB_DAEMON_OBSERVE_HISTOGRAM_H

#include "hal/base.h"

enum { HOB_HISTOGRAM_BOUNDS = 18 };
/* Ascending; a bucket holds what is at most its bound, as "le" says. */
extern const uint32_t hob_histogram_bounds_us[HOB_HISTOGRAM_BOUNDS];

typedef struct hob_histogram {                 /* zero-initialize */
    uint64_t counts[HOB_HISTOGRAM_BOUNDS + 1]; /* the last one is above all bounds */
    uint64_t sum_us;
} hob_histogram;

/* A time that was taken so many times. */
void hob_histogram_add(hob_histogram *h, uint64_t us, uint32_t times);
uint64_t hob_histogram_count(const hob_histogram *h);

#endif
