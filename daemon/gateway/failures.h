/* SPDX-License-Identifier: Apache-2.0
 *
 * Failed authentication, by address: who fails too often is slowed down. Each address may fail so many times at once and
 * so many times a minute (a bucket that refills); after that it is told to wait. A valid key is never slowed down, since
 * others may share the address. Pure: the caller brings the time. The table is bounded: a full one forgets the address
 * that is next to being forgiven.
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_FAILURES_H
#define HOB_DAEMON_GATEWAY_FAILURES_H

#include "hal/base.h"

enum { HOB_FAILURE_SETS = 512, HOB_FAILURE_WAYS = 8 };

typedef struct hob_failures { /* zero-initialize; seed it with random numbers */
    uint64_t seed;
    struct hob_failure {
        uint8_t address[16];
        uint64_t forgiven_ms; /* when nothing of its failures is left; 0: a free place */
    } table[HOB_FAILURE_SETS][HOB_FAILURE_WAYS];
} hob_failures;

/* Counts a failure of the address (IPv6: its /64). 0: answer it; else milliseconds for which it is to wait. per_minute 0: never. */
uint32_t hob_failures_count(hob_failures *f, const uint8_t address[16], uint32_t per_minute,
                            uint64_t now_ms);

#endif
