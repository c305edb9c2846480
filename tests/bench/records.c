/* SPDX-License-Identifier: Apache-2.0
 *
 * What it costs to record a token's time: nanoseconds of a histogram's and of a series' part of it, with times as far apart as
 * those of real answers are, in series enough that they are not all in the processor's nearest cache. Prints JSON.
 *
 *     make build/bench/records && build/bench/records */
#include "daemon/observe/histogram.h"
#include "daemon/observe/sketch.h"

#include <stdio.h>
#include <stdlib.h>

enum { SERIES = 16, TIMES = 4096, ROUNDS = 400 };

static uint32_t next(uint32_t *state) /* Marsaglia, "Xorshift RNGs", 2003 */
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

int main(void)
{
    static hob_histogram histograms[SERIES];
    static hob_recent series[SERIES];
    static uint32_t us[TIMES];
    uint32_t state = 1;

    for (uint32_t i = 0; i < TIMES; i++)
        us[i] = 1000 << next(&state) % 8 | next(&state) % 1000; /* 1 to 128 ms */
    const uint64_t begin_us = hob_now_us();
    for (uint32_t r = 0; r < ROUNDS; r++)
        for (uint32_t i = 0; i < TIMES; i++)
            hob_histogram_add(&histograms[i % SERIES], us[i], 1);
    const uint64_t middle_us = hob_now_us();
    for (uint32_t r = 0; r < ROUNDS; r++)
        for (uint32_t i = 0; i < TIMES; i++)
            hob_recent_add(&series[i % SERIES], middle_us + (uint64_t)r * 1000, us[i], 1);
    const uint64_t end_us = hob_now_us();
    printf("{\"histogram_ns\": %.1f, \"series_ns\": %.1f, \"records\": %d}\n",
           (double)(middle_us - begin_us) * 1e3 / (ROUNDS * TIMES),
           (double)(end_us - middle_us) * 1e3 / (ROUNDS * TIMES), ROUNDS * TIMES);
    return hob_histogram_count(&histograms[0]) == (uint64_t)ROUNDS * TIMES / SERIES ? 0 : 1;
}
