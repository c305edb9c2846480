/* SPDX-License-Identifier: Apache-2.0
 *
 * Failed authentication. See failures.h. A bucket is one number: the time at which it will be full again. Each failure
 * moves it on by a minute's share; more than a minute ahead the bucket is empty (the generic cell rate algorithm, ITU-T
 * I.371). */
#include "daemon/gateway/failures.h"

#include <string.h>

#include "daemon/gateway/sources.h"

enum { MINUTE_MS = 60000 };

uint32_t hob_failures_count(hob_failures *f, const uint8_t address[16], uint32_t per_minute,
                            uint64_t now_ms)
{
    uint8_t source[16];
    if (per_minute == 0)
        return 0;
    hob_source_of(address, source);
    struct hob_failure *set = f->table[hob_source_hash(f->seed, source) % HOB_FAILURE_SETS],
                       *at = &set[0];
    for (size_t i = 0; i < HOB_FAILURE_WAYS; i++) {
        if (set[i].forgiven_ms > now_ms && memcmp(set[i].address, source, sizeof source) == 0) {
            at = &set[i];
            break;
        }
        if (set[i].forgiven_ms < at->forgiven_ms)
            at = &set[i];
    }
    if (memcmp(at->address, source, sizeof source) != 0 || at->forgiven_ms < now_ms) {
        memcpy(at->address, source, sizeof source);
        at->forgiven_ms = now_ms;
    }
    const uint64_t share = (MINUTE_MS + per_minute - 1) / per_minute;
    const uint64_t full = (uint64_t)share * per_minute;
    const uint64_t then = at->forgiven_ms + share;
    if (then - now_ms > full)
        return (uint32_t)(then - now_ms - full); /* refused tries do not make it longer */
    at->forgiven_ms = then;
    return 0;
}
