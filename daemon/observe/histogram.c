/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed buckets. See histogram.h. */
#include "daemon/observe/histogram.h"

const uint32_t hob_histogram_bounds_us[HOB_HISTOGRAM_BOUNDS] = {
    1000,    2500,    5000,    10000,    25000,    50000,    100000,    250000,    500000,
    1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000};

void hob_histogram_add(hob_histogram *h, uint64_t us, uint32_t times)
{
    uint32_t first = 0, end = HOB_HISTOGRAM_BOUNDS;
    while (first < end) {
        const uint32_t middle = (first + end) / 2;
        if (us <= hob_histogram_bounds_us[middle])
            end = middle;
        else
            first = middle + 1;
    }
    h->counts[first] += times;
    h->sum_us += us * times;
}

uint64_t hob_histogram_count(const hob_histogram *h)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= HOB_HISTOGRAM_BOUNDS; i++)
        count += h->counts[i];
    return count;
}
