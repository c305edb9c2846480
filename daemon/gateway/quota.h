/* SPDX-License-Identifier: Apache-2.0
 *
 * What one key has used, has reserved and may still use: requests and tokens a minute, tokens a day, requests at once.
 * Pure: the caller brings the time and the limits, so that a change of limits counts from the next call on.
 *
 * The minute slides. What is spent goes into a slot of half a second and leaves the sum only when all of that slot is 60 s
 * old: in any 60 s, wherever they begin, no more than the limit is spent, and at most a 120th of it lies idle for that.
 * Tokens are reserved before they are spent; a reservation counts against minute and day until it is spent or given
 * back. So at any moment `spent in the last 60 s + reserved <= limit`, and the same for the day (of UTC).
 * Thread: the owner's. */
#ifndef HOB_DAEMON_GATEWAY_QUOTA_H
#define HOB_DAEMON_GATEWAY_QUOTA_H

#include "hal/base.h"

enum {
    HOB_QUOTA_WINDOW_MS = 60000,
    HOB_QUOTA_SLOT_MS = 500,
    HOB_QUOTA_SLOTS = HOB_QUOTA_WINDOW_MS / HOB_QUOTA_SLOT_MS + 1,
};

typedef struct hob_window { /* zero-initialize */
    uint32_t slots[HOB_QUOTA_SLOTS];
    uint64_t newest; /* number of the newest slot: time / HOB_QUOTA_SLOT_MS */
    uint64_t sum;    /* of all slots */
} hob_window;

typedef struct hob_quota { /* zero-initialize */
    hob_window requests, tokens;
    uint64_t reserved; /* tokens */
    int64_t day;       /* since 1970 */
    uint64_t day_spent;
    uint32_t running; /* requests */
} hob_quota;

typedef struct hob_quota_limits { /* 0: none */
    uint32_t requests_per_minute, tokens_per_minute, tokens_per_day, concurrent_requests;
} hob_quota_limits;

typedef struct hob_quota_time {
    uint64_t now_ms; /* monotonic */
    int64_t now_s;   /* since 1970 */
} hob_quota_time;

typedef enum hob_quota_bound {
    HOB_QUOTA_OK,
    HOB_QUOTA_CONCURRENT,
    HOB_QUOTA_REQUESTS,
    HOB_QUOTA_TOKENS,
    HOB_QUOTA_DAY,
    HOB_QUOTA_TOO_LARGE, /* could not be granted even to a key that has used nothing */
    HOB_QUOTA_BOUNDS,
} hob_quota_bound;

typedef struct hob_quota_refusal {
    hob_quota_bound bound;
    uint64_t limit, spent, reserved, wanted;
    uint64_t wait_ms; /* until it can be granted; 0: when running requests end, or never */
} hob_quota_refusal;

/* A request begins: counts it at once, or says why not and changes nothing. */
hob_quota_bound hob_quota_begin(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                                hob_quota_refusal *refusal);
/* It ends. unused: it did nothing, and does not count as one of the minute. began_ms: when it began. */
void hob_quota_end(hob_quota *q, bool unused, uint64_t began_ms);

/* Whether tokens could be reserved now; changes no budget. */
hob_quota_bound hob_quota_ask(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                              uint64_t tokens, hob_quota_refusal *refusal);
/* Reserves all of them or none. */
hob_quota_bound hob_quota_reserve(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                                  uint64_t tokens, hob_quota_refusal *refusal);
/* Of what is reserved: used now, or not needed. */
void hob_quota_spend(hob_quota *q, hob_quota_time t, uint64_t tokens);
void hob_quota_refund(hob_quota *q, uint64_t tokens);

/* For the headers: what a window holds now, and when it will be empty. */
uint64_t hob_window_sum(hob_window *w, uint64_t now_ms);
uint64_t hob_window_empty_ms(const hob_window *w, uint64_t now_ms);

#endif
