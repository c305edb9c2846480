/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantiles of times. See sketch.h. */
#include "daemon/observe/sketch.h"

#include <math.h>
#include <string.h>

/* Bucket i > 0 holds the times in (least * growth^(i-1), least * growth^i]. The time that it stands for has the same
 * relative distance, HOB_SKETCH_ERROR, from both of its ends. */
#define GROWTH ((1 + HOB_SKETCH_ERROR) / (1 - HOB_SKETCH_ERROR))

const uint32_t hob_recent_windows_s[HOB_RECENT_WINDOWS] = {60, 600, 3600};

uint32_t hob_sketch_bucket(uint64_t us)
{
    if (us <= HOB_SKETCH_LEAST_US)
        return 0;
    const double at = ceil(log((double)us / HOB_SKETCH_LEAST_US) / log(GROWTH));
    return at < HOB_SKETCH_BUCKETS ? (uint32_t)at : HOB_SKETCH_BUCKETS - 1;
}

static uint32_t sum_of(uint32_t a, uint32_t b)
{
    return a < UINT32_MAX - b ? a + b : UINT32_MAX;
}

void hob_sketch_add(hob_sketch *s, uint32_t bucket, uint32_t times)
{
    s->counts[bucket] = sum_of(s->counts[bucket], times);
}

void hob_sketch_merge(hob_sketch *s, const hob_sketch *other)
{
    for (uint32_t i = 0; i < HOB_SKETCH_BUCKETS; i++)
        s->counts[i] = sum_of(s->counts[i], other->counts[i]);
}

uint64_t hob_sketch_count(const hob_sketch *s)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HOB_SKETCH_BUCKETS; i++)
        count += s->counts[i];
    return count;
}

double hob_sketch_quantile(const hob_sketch *s, double q)
{
    const uint64_t count = hob_sketch_count(s);
    if (count == 0)
        return 0;
    const double rank = fmax(1, ceil(q * (double)count));
    uint64_t seen = s->counts[0];
    uint32_t i = 0;
    while ((double)seen < rank && i < HOB_SKETCH_BUCKETS - 1)
        seen += s->counts[++i];
    return i == 0 ? HOB_SKETCH_LEAST_US : HOB_SKETCH_LEAST_US * 2 * pow(GROWTH, i) / (GROWTH + 1);
}

/* ---- the last minutes ---- */

static uint64_t part_at(uint32_t window, uint64_t now_us)
{
    return now_us / (hob_recent_windows_s[window] * (uint64_t)1000000 / HOB_RECENT_PARTS);
}

/* Its sketches of times that are over by now are begun anew. */
static hob_sketch *part_now(hob_recent *r, uint32_t window, uint64_t now_us)
{
    const uint64_t number = part_at(window, now_us);
    uint64_t *newest = &r->newest[window];

    if (number - *newest > HOB_RECENT_PARTS)
        memset(r->parts[window], 0, sizeof r->parts[window]);
    else
        for (uint64_t i = *newest + 1; i <= number; i++)
            memset(&r->parts[window][i % (HOB_RECENT_PARTS + 1)], 0, sizeof(hob_sketch));
    *newest = number;
    return &r->parts[window][number % (HOB_RECENT_PARTS + 1)];
}

void hob_recent_add(hob_recent *r, uint64_t now_us, uint64_t us, uint32_t times)
{
    const uint32_t bucket = hob_sketch_bucket(us);
    for (uint32_t w = 0; w < HOB_RECENT_WINDOWS; w++)
        hob_sketch_add(part_now(r, w, now_us), bucket, times);
}

void hob_recent_read(const hob_recent *r, uint32_t window, uint64_t now_us, hob_sketch *into)
{
    const uint64_t now = part_at(window, now_us), newest = r->newest[window];
    for (uint64_t i = 0; i <= HOB_RECENT_PARTS && i <= newest; i++)
        if (newest - i + HOB_RECENT_PARTS >= now)
            hob_sketch_merge(into, &r->parts[window][(newest - i) % (HOB_RECENT_PARTS + 1)]);
}
