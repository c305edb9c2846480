/* SPDX-License-Identifier: Apache-2.0
 *
 * Sliding windows and reservations. See quota.h. */
#include "daemon/gateway/quota.h"

#include <assert.h>
#include <string.h>

enum { DAY_S = 86400 };

/* ---- a minute that slides ---- */

/* Forgets the slots that are too old. */
static void advance(hob_window *w, uint64_t now_ms)
{
    const uint64_t now = now_ms / HOB_QUOTA_SLOT_MS;
    if (now <= w->newest)
        return;
    if (now - w->newest >= HOB_QUOTA_SLOTS) {
        memset(w->slots, 0, sizeof w->slots);
        w->sum = 0;
    } else
        for (uint64_t i = w->newest + 1; i <= now; i++) {
            w->sum -= w->slots[i % HOB_QUOTA_SLOTS];
            w->slots[i % HOB_QUOTA_SLOTS] = 0;
        }
    w->newest = now;
}

static void add(hob_window *w, uint64_t now_ms, uint32_t count)
{
    advance(w, now_ms);
    uint32_t *slot = &w->slots[w->newest % HOB_QUOTA_SLOTS];
    count = count > UINT32_MAX - *slot ? UINT32_MAX - *slot : count;
    *slot += count;
    w->sum += count;
}

/* How long until `count` of what the window holds has left it; 0 when it never holds so much. */
static uint64_t wait_for(const hob_window *w, uint64_t now_ms, uint64_t count)
{
    uint64_t gone = 0;
    for (uint64_t age = HOB_QUOTA_SLOTS; age-- > 0;) {
        if (w->newest < age)
            continue;
        gone += w->slots[(w->newest - age) % HOB_QUOTA_SLOTS];
        if (gone >= count)
            return (w->newest - age + HOB_QUOTA_SLOTS) * HOB_QUOTA_SLOT_MS - now_ms;
    }
    return 0;
}

uint64_t hob_window_sum(hob_window *w, uint64_t now_ms)
{
    advance(w, now_ms);
    return w->sum;
}

uint64_t hob_window_empty_ms(const hob_window *w, uint64_t now_ms)
{
    return w->sum ? wait_for(w, now_ms, w->sum) : 0;
}

/* ---- requests ---- */

static hob_quota_bound refuse(hob_quota_refusal *r, hob_quota_refusal why)
{
    *r = why;
    return why.bound;
}

hob_quota_bound hob_quota_begin(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                                hob_quota_refusal *refusal)
{
    if (l->concurrent_requests && q->running >= l->concurrent_requests)
        return refuse(refusal, (hob_quota_refusal){.bound = HOB_QUOTA_CONCURRENT,
                                                   .limit = l->concurrent_requests,
                                                   .spent = q->running,
                                                   .wanted = 1});
    const uint64_t spent = hob_window_sum(&q->requests, t.now_ms);
    if (l->requests_per_minute && spent >= l->requests_per_minute)
        return refuse(refusal,
                      (hob_quota_refusal){.bound = HOB_QUOTA_REQUESTS,
                                          .limit = l->requests_per_minute,
                                          .spent = spent,
                                          .wanted = 1,
                                          .wait_ms = wait_for(&q->requests, t.now_ms,
                                                              spent - l->requests_per_minute + 1)});
    add(&q->requests, t.now_ms, 1);
    q->running++;
    return HOB_QUOTA_OK;
}

void hob_quota_end(hob_quota *q, bool unused, uint64_t began_ms)
{
    assert(q->running > 0);
    q->running--;
    const uint64_t slot = began_ms / HOB_QUOTA_SLOT_MS;
    hob_window *w = &q->requests;
    if (!unused || slot > w->newest || w->newest - slot >= HOB_QUOTA_SLOTS ||
        w->slots[slot % HOB_QUOTA_SLOTS] == 0)
        return;
    w->slots[slot % HOB_QUOTA_SLOTS]--;
    w->sum--;
}

/* ---- tokens ---- */

static void turn_day(hob_quota *q, int64_t now_s)
{
    const int64_t day = now_s / DAY_S;
    if (day == q->day || day == q->day - 1)
        return; /* a clock that is set back over midnight gives nobody a second day */
    q->day = day;
    q->day_spent = 0;
}

/* Whether what is used leaves room below the limit. */
static bool fits(uint64_t limit, uint64_t spent, uint64_t reserved, uint64_t tokens)
{
    return limit == 0 ||
           (spent <= limit && reserved <= limit - spent && tokens <= limit - spent - reserved);
}

hob_quota_bound hob_quota_ask(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                              uint64_t tokens, hob_quota_refusal *refusal)
{
    hob_quota_refusal r = {.reserved = q->reserved, .wanted = tokens};

    turn_day(q, t.now_s);
    r.spent = hob_window_sum(&q->tokens, t.now_ms);
    if (!fits(l->tokens_per_minute, 0, 0, tokens) || !fits(l->tokens_per_day, 0, 0, tokens)) {
        r.bound = HOB_QUOTA_TOO_LARGE;
        r.limit =
            fits(l->tokens_per_minute, 0, 0, tokens) ? l->tokens_per_day : l->tokens_per_minute;
        return refuse(refusal, r);
    }
    if (!fits(l->tokens_per_day, q->day_spent, q->reserved, tokens)) {
        r.bound = HOB_QUOTA_DAY;
        r.limit = l->tokens_per_day;
        r.spent = q->day_spent;
        /* What is reserved may yet come back today. */
        if (!fits(l->tokens_per_day, q->day_spent, 0, tokens))
            r.wait_ms = (uint64_t)((q->day + 1) * DAY_S - t.now_s) * 1000;
        return refuse(refusal, r);
    }
    if (!fits(l->tokens_per_minute, r.spent, q->reserved, tokens)) {
        r.bound = HOB_QUOTA_TOKENS;
        r.limit = l->tokens_per_minute;
        r.wait_ms =
            wait_for(&q->tokens, t.now_ms, r.spent + q->reserved + tokens - l->tokens_per_minute);
        return refuse(refusal, r);
    }
    return HOB_QUOTA_OK;
}

hob_quota_bound hob_quota_reserve(hob_quota *q, const hob_quota_limits *l, hob_quota_time t,
                                  uint64_t tokens, hob_quota_refusal *refusal)
{
    const hob_quota_bound bound = hob_quota_ask(q, l, t, tokens, refusal);
    if (bound == HOB_QUOTA_OK)
        q->reserved += tokens;
    return bound;
}

void hob_quota_spend(hob_quota *q, hob_quota_time t, uint64_t tokens)
{
    assert(tokens <= q->reserved && tokens <= UINT32_MAX);
    turn_day(q, t.now_s);
    q->reserved -= tokens;
    q->day_spent += tokens;
    add(&q->tokens, t.now_ms, (uint32_t)tokens);
}

void hob_quota_refund(hob_quota *q, uint64_t tokens)
{
    assert(tokens <= q->reserved);
    q->reserved -= tokens;
}
