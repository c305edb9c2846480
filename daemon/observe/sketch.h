/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantiles of times, with a bounded relative error and in bounded memory: buckets whose bounds grow by a constant factor, as
 * in DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
 * VLDB 2019), but with a fixed array of them, since the range of the times is known. Sketches are merged by adding up their
 * buckets; the sketch of all is then exactly what it would be, had it seen all.
 *
 * A quantile between HOB_SKETCH_LEAST_US and about an hour and a half is off by HOB_SKETCH_ERROR of its value at most. Times
 * below are told as HOB_SKETCH_LEAST_US, times above as the end of the range. Thread: the owner's. */
#ifndef HOB_DAEMON_OBSERVE_SKETCH_H
#define HOB_DAEMON_OBSERVE_SKETCH_H

#include "hal/base.h"

#define HOB_SKETCH_ERROR 0.02
enum { HOB_SKETCH_BUCKETS = 448, HOB_SKETCH_LEAST_US = 100 };

typedef struct hob_sketch { /* zero-initialize; 1,792 bytes */
    uint32_t counts[HOB_SKETCH_BUCKETS];
} hob_sketch;

/* The bucket of a time, for hob_sketch_add: a logarithm, which those who add to several sketches need once. */
uint32_t hob_sketch_bucket(uint64_t us);
/* Counts stop at UINT32_MAX. */
void hob_sketch_add(hob_sketch *s, uint32_t bucket, uint32_t times);
void hob_sketch_merge(hob_sketch *s, const hob_sketch *other);
uint64_t hob_sketch_count(const hob_sketch *s);
/* The least time that a part q of all is no longer than, in microseconds; 0 of none. 0 <= q <= 1. */
double hob_sketch_quantile(const hob_sketch *s, double q);

/* ---- the last minutes ---- */

enum {
    HOB_RECENT_WINDOWS = 3, /* a minute, ten, an hour */
    HOB_RECENT_PARTS = 6,   /* in which a window moves on */
};
extern const uint32_t hob_recent_windows_s[HOB_RECENT_WINDOWS];

/* Times of the last minute, ten minutes and hour. A window is a ring of sketches, a sixth of it each; it tells of what came in
 * the six that are complete and in the one that is not: so it reaches back between its length and a sixth more. */
typedef struct hob_recent {              /* zero-initialize; 37,656 bytes */
    uint64_t newest[HOB_RECENT_WINDOWS]; /* number of the part that is written: time / its length */
    hob_sketch parts[HOB_RECENT_WINDOWS][HOB_RECENT_PARTS + 1];
} hob_recent;

/* now_us: monotonic, and no earlier than in the calls before. */
void hob_recent_add(hob_recent *r, uint64_t now_us, uint64_t us, uint32_t times);
/* Merges what a window holds into a sketch. */
void hob_recent_read(const hob_recent *r, uint32_t window, uint64_t now_us, hob_sketch *into);

#endif
