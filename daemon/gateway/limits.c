/* SPDX-License-Identifier: Apache-2.0
 *
 * What a key may do. A request is counted when it begins, prompt and whole answer are reserved when the prompt's length is
 * known, and used up as the engine computes them; whatever way it ends, the rest is given back. A request that its
 * client gave up pays for its prompt once the engine had it: that was computed, or was about to be.
 *
 * Errors are OpenAI's: 429 with "rate_limit_exceeded", or "insufficient_quota" for the day. error.hob_reason is the name
 * of the limit in hob.conf. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/grounding.h"

enum { LEAST_WAIT_MS = 1000, SOON_MS = 60000 };

static hob_quota_time now(void)
{
    return (hob_quota_time){.now_ms = hob_now_us() / 1000, .now_s = (int64_t)time(NULL)};
}

uint32_t hob_limit_of(const hob_gateway *g, const hob_key *key, hob_limit l)
{
    if (key && key->record.limits[l] != HOB_KEY_LIMIT_DEFAULT)
        return (uint32_t)key->record.limits[l];
    return g->conf->key_limits[l];
}

static hob_quota_limits limits_of(const hob_gateway *g, const hob_key *key)
{
    return (hob_quota_limits){
        .requests_per_minute = hob_limit_of(g, key, HOB_LIMIT_REQUESTS_PER_MINUTE),
        .tokens_per_minute = hob_limit_of(g, key, HOB_LIMIT_TOKENS_PER_MINUTE),
        .tokens_per_day = hob_limit_of(g, key, HOB_LIMIT_TOKENS_PER_DAY),
        .concurrent_requests = hob_limit_of(g, key, HOB_LIMIT_CONCURRENT_REQUESTS),
    };
}

/* ---- refusals ---- */

const char *hob_limits_reason(hob_quota_bound bound)
{
    switch (bound) {
    case HOB_QUOTA_CONCURRENT: return hob_limit_name(HOB_LIMIT_CONCURRENT_REQUESTS);
    case HOB_QUOTA_REQUESTS: return hob_limit_name(HOB_LIMIT_REQUESTS_PER_MINUTE);
    case HOB_QUOTA_TOKENS: return hob_limit_name(HOB_LIMIT_TOKENS_PER_MINUTE);
    case HOB_QUOTA_DAY: return hob_limit_name(HOB_LIMIT_TOKENS_PER_DAY);
    default: return "request_too_large";
    }
}

/* Fills the error. */
static int explain(const hob_link *l, const hob_quota_refusal *r, hob_api_error *e)
{
    const unsigned long long limit = r->limit, spent = r->spent, reserved = r->reserved,
                             wanted = r->wanted;
    uint64_t wait_ms = r->wait_ms;

    switch (r->bound) {
    case HOB_QUOTA_CONCURRENT:
        hob_api_fail(e, 429, "requests", "rate_limit_exceeded", NULL,
                     "concurrent requests of this key: limit %llu, running %llu", limit, spent);
        break;
    case HOB_QUOTA_REQUESTS:
        hob_api_fail(e, 429, "requests", "rate_limit_exceeded", NULL,
                     "requests a minute of this key: limit %llu, used %llu", limit, spent);
        break;
    case HOB_QUOTA_TOKENS:
        hob_api_fail(e, 429, "tokens", "rate_limit_exceeded", NULL,
                     "tokens a minute of this key: limit %llu, used %llu, reserved by running "
                     "requests %llu, wanted %llu",
                     limit, spent, reserved, wanted);
        break;
    case HOB_QUOTA_DAY:
        hob_api_fail(
            e, 429, "insufficient_quota", "insufficient_quota", NULL,
            "tokens a day of this key: limit %llu, used %llu, reserved by running requests "
            "%llu, wanted %llu; the day ends at midnight UTC",
            limit, spent, reserved, wanted);
        break;
    default:
        hob_api_fail(e, 429, "tokens", "rate_limit_exceeded", NULL,
                     "this request is too large for its key at any time: limit %llu tokens, wanted "
                     "%llu for the prompt and max_tokens",
                     limit, wanted);
        break;
    }
    e->reason = hob_limits_reason(r->bound);
    if (r->bound == HOB_QUOTA_TOO_LARGE) {
        e->final = true;
        return HOB_EINVAL;
    }
    if (wait_ms == 0) /* room comes when a request ends: about then one does */
        wait_ms = (uint64_t)(l->finish_gap_s * 1000);
    else if (r->bound == HOB_QUOTA_DAY && wait_ms > SOON_MS)
        e->final = true;
    e->retry_after_ms =
        wait_ms < LEAST_WAIT_MS && r->wait_ms == 0 ? LEAST_WAIT_MS : (uint32_t)wait_ms;
    return HOB_EINVAL;
}

static int refuse(const hob_link *l, const hob_quota_refusal *r, hob_api_error *e)
{
    l->g->metrics.limited[r->bound]++;
    return explain(l, r, e);
}

int hob_limits_model(const hob_gateway *g, const hob_key *key, uint32_t model, hob_api_error *e)
{
    const char *name = g->conf->models[model].name;
    if (!key || hob_key_allows_model(key, name))
        return 0;
    return hob_api_fail(e, 403, "invalid_request_error", "model_not_allowed", "model",
                        "this key may not use the model '%.64s'", name);
}

/* ---- a request's life ---- */

static int check_rights(const hob_gateway *g, const hob_key *key, const hob_api_request *r,
                        hob_api_error *e)
{
    const hob_key_record *record = &key->record;
    const uint32_t most_output = hob_limit_of(g, key, HOB_LIMIT_MAX_OUTPUT_TOKENS);

    /* A WebSocket outlives its key. */
    if (!hob_key_valid(key, (int64_t)time(NULL)))
        return hob_api_fail(e, 401, "invalid_request_error", "invalid_api_key", NULL,
                            "this API key is %s", key->gone ? "revoked" : "expired");
    if (hob_limits_model(g, key, r->model, e) < 0)
        return HOB_EINVAL;
    if (r->class_given && r->priority < record->priority)
        return hob_api_fail(e, 403, "invalid_request_error", "class_not_allowed", "hob_class",
                            "this key may not ask for the class '%s'; the best it may is '%s'",
                            hob_class_name(r->priority), hob_class_name(record->priority));
    if (most_output && r->max_tokens_given && r->max_tokens > most_output) {
        hob_api_bad(e, "invalid_value", "max_tokens",
                    "this key allows answers of up to %u tokens; %u are requested", most_output,
                    r->max_tokens);
        e->reason = hob_limit_name(HOB_LIMIT_MAX_OUTPUT_TOKENS);
        return HOB_EINVAL;
    }
    return 0;
}

/* Answers to its prompt, which all those that share it wait for. */
static uint32_t choices_of(const hob_job *j)
{
    return j->request.n ? j->request.n : 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What all its prompts and choices take at least, whatever the length of the prompts: one that is not given is cut to what
 * its prompt leaves of the context. 0: the context is not known yet. */
static uint64_t least_tokens(const hob_job *j)
{
    const uint64_t context = j->link->context, kv = j->link->kv_tokens,
                   most = kv && kv < context ? kv : context, n = choices_of(j),
                   prompts = 1 + json_array_size(j->request.more);
    const uint32_t most_output = hob_limit_of(j->g, j->key, HOB_LIMIT_MAX_OUTPUT_TOKENS);
    uint32_t output = j->request.max_tokens_given
                          ? j->request.max_tokens
                          : hob_limit_of(j->g, j->key, HOB_LIMIT_DEFAULT_OUTPUT_TOKENS);
    if (most_output && output > most_output)
        output = most_output;
    if (most < 2)
        return 0;
    if (j->request.max_tokens_given)
        return prompts * (n * output + 1);
    return prompts * least(n * least(output, most - 1) + 1, most - 1 + n);
}

/* Estimates take no place in the queue, only the tokenizer's time. */
static int check_estimates(const hob_job *j, hob_api_error *e)
{
    const uint32_t most = j->g->conf->max_estimates, each = most / 2 + most % 2;
    uint32_t all = 0, own = 0;

    for (const hob_job *o = j->g->jobs; o; o = o->next) {
        all += o != j && o->request.estimate;
        own += o != j && o->request.estimate && o->key && o->key == j->key;
    }
    if (all < most && own < each)
        return 0;
    hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                 "estimates under way: %u, %u of them of this key; limit %u, of one key %u", all,
                 own, most, each);
    e->reason = "max_estimates";
    e->retry_after_ms = LEAST_WAIT_MS;
    return HOB_EINVAL;
}

int hob_limits_begin(hob_job *j, hob_api_error *e)
{
    const hob_quota_time t = now();
    hob_quota_refusal refusal;
    j->priority = j->request.class_given ? j->request.priority
                  : j->key               ? j->key->record.priority
                                         : HOB_PRIORITY_STANDARD;
    j->patience_ms = hob_limit_of(j->g, j->key, HOB_LIMIT_PATIENCE_MS);
    if (j->request.estimate && check_estimates(j, e) < 0) {
        j->g->metrics.shed++;
        return HOB_EINVAL;
    }
    if (j->key && j->index == 0) { /* the other jobs of its answer are no requests of their own */
        const hob_quota_limits limits = limits_of(j->g, j->key);
        const uint32_t budget = hob_grounding_budget(j->g, &j->request);
        if (check_rights(j->g, j->key, &j->request, e) < 0)
            return HOB_EINVAL;
        if ((!j->request.estimate && /* which says so in its answer */
             hob_quota_ask(&j->key->quota, &limits, t, least_tokens(j) + budget, &refusal)) ||
            hob_quota_begin(&j->key->quota, &limits, t, &refusal))
            return refuse(j->link, &refusal, e);
        j->begun_ms = t.now_ms;
        j->begun = true;
        if (budget > 0 && !j->request.estimate) {
            const uint64_t tokens = least_tokens(j) + budget;
            if (hob_quota_reserve(&j->key->quota, &limits, t, tokens, &refusal))
                return refuse(j->link, &refusal, e);
            j->reserved = tokens;
        }
    }
    j->asked = true;
    return 0;
}

/* A prompt and its choices: they are within a context, and few. */
static uint32_t tokens_of(const hob_job *j)
{
    return j->prompt_tokens + choices_of(j) * j->max_tokens;
}

int hob_limits_ask(const hob_job *j, hob_api_error *e)
{
    hob_quota_refusal refusal;
    if (!j->key)
        return 0;
    const hob_quota_limits limits = limits_of(j->g, j->key);
    return hob_quota_ask(&j->key->quota, &limits, now(), tokens_of(j), &refusal)
               ? explain(j->link, &refusal, e)
               : 0;
}

int hob_limits_reserve(hob_job *j, hob_api_error *e)
{
    hob_quota_refusal refusal;
    uint64_t tokens = 0;
    if (!j->key)
        return 0;
    const hob_quota_limits limits = limits_of(j->g, j->key);
    hob_quota_refund(&j->key->quota, j->reserved); /* for retrieval: now it is known */
    j->reserved = 0;
    for (hob_job *p = NULL; (p = hob_choices_prompt(j, p));)
        tokens += tokens_of(p);
    if (hob_quota_reserve(&j->key->quota, &limits, now(), tokens, &refusal))
        return refuse(j->link, &refusal, e);
    for (hob_job *p = NULL; (p = hob_choices_prompt(j, p));)
        p->reserved = tokens_of(p);
    return 0;
}

void hob_limits_share(hob_job *leader, hob_job *j)
{
    if (!leader->key)
        return;
    assert(j->max_tokens <= leader->reserved); /* each choice has its own part */
    leader->reserved -= j->max_tokens;
    j->reserved = j->max_tokens;
    j->prompt_spent = true;
}

void hob_limits_spend(hob_job *j, uint32_t answer_tokens)
{
    hob_key_usage used = {.answer_tokens = answer_tokens};
    if (!j->key)
        return;
    if (!j->prompt_spent && j->leader == j->id) {
        j->prompt_spent = true;
        used.requests = j->index == 0;
        used.prompt_tokens = j->prompt_tokens;
        used.cached_tokens = j->cached_tokens;
    }
    const uint32_t tokens = (uint32_t)(used.prompt_tokens + used.answer_tokens);
    if (tokens == 0)
        return;
    assert(tokens <= j->reserved); /* an engine that sends more than max_tokens is stopped before */
    const hob_quota_time t = now();
    hob_quota_spend(&j->key->quota, t, tokens);
    j->reserved -= tokens;
    hob_key_note(j->key, t.now_s, &used);
}

void hob_limits_end(hob_job *j)
{
    if (!j->key)
        return;
    hob_quota_refund(&j->key->quota, j->reserved);
    if (j->begun)
        hob_quota_end(&j->key->quota, !j->admitted, j->begun_ms);
    j->reserved = 0;
    j->begun = false;
}

/* ---- requests that are no jobs ---- */

int hob_grant_count(hob_gateway *g, const hob_link *l, hob_key *key, hob_grant *ret,
                    hob_api_error *e)
{
    const hob_quota_time t = now();
    hob_quota_refusal refusal;

    if (!key)
        return 0;
    const hob_quota_limits limits = limits_of(g, key);
    if (hob_quota_begin(&key->quota, &limits, t, &refusal))
        return refuse(l, &refusal, e);
    *ret = (hob_grant){.key = hob_key_ref(key), .begun = true, .begun_ms = t.now_ms};
    return 0;
}

int hob_grant_begin(hob_gateway *g, const hob_link *l, hob_key *key, const hob_api_request *r,
                    uint64_t least_tokens_wanted, hob_grant *ret, hob_api_error *e)
{
    hob_quota_refusal refusal;

    if (!key)
        return 0;
    const hob_quota_limits limits = limits_of(g, key);
    if (check_rights(g, key, r, e) < 0)
        return HOB_EINVAL;
    if (hob_quota_ask(&key->quota, &limits, now(), least_tokens_wanted, &refusal))
        return refuse(l, &refusal, e);
    return hob_grant_count(g, l, key, ret, e);
}

int hob_grant_reserve(hob_gateway *g, const hob_link *l, hob_grant *grant, uint64_t tokens,
                      hob_api_error *e)
{
    hob_quota_refusal refusal;

    if (!grant->key)
        return 0;
    const hob_quota_limits limits = limits_of(g, grant->key);
    if (hob_quota_reserve(&grant->key->quota, &limits, now(), tokens, &refusal))
        return refuse(l, &refusal, e);
    grant->reserved += tokens;
    return 0;
}

static void note_request(hob_grant *grant, hob_quota_time t, uint64_t tokens)
{
    grant->spent = true;
    hob_key_note(grant->key, t.now_s, &(hob_key_usage){.requests = 1, .prompt_tokens = tokens});
}

void hob_grant_use(hob_grant *grant)
{
    if (grant->key)
        note_request(grant, now(), 0);
}

void hob_grant_spend(hob_grant *grant, uint64_t tokens)
{
    const hob_quota_time t = now();

    if (!grant->key || tokens == 0)
        return;
    assert(tokens <= grant->reserved);
    hob_quota_spend(&grant->key->quota, t, tokens);
    grant->reserved -= tokens;
    note_request(grant, t, tokens);
}

void hob_grant_end(hob_grant *grant)
{
    if (!grant->key)
        return;
    hob_quota_refund(&grant->key->quota, grant->reserved);
    if (grant->begun)
        hob_quota_end(&grant->key->quota, !grant->spent, grant->begun_ms);
    hob_key_unref(grant->key);
    *grant = (hob_grant){0};
}

/* ---- headers ---- */

/* As OpenAI writes a time: 250ms, 7.5s, 1m2s. */
static const char *duration(char ret[32], uint64_t ms)
{
    if (ms < 1000)
        snprintf(ret, 32, "%llums", (unsigned long long)ms);
    else if (ms < 60000)
        snprintf(ret, 32, "%.3gs", (double)ms / 1000);
    else
        snprintf(ret, 32, "%llum%llus", (unsigned long long)(ms / 60000),
                 (unsigned long long)(ms % 60000 / 1000));
    return ret;
}

static size_t window_lines(char *ret, size_t cap, const char *of, hob_window *w, uint32_t limit,
                           uint64_t reserved)
{
    const uint64_t now_ms = hob_now_us() / 1000, used = hob_window_sum(w, now_ms) + reserved;
    char reset[32];
    const int n = snprintf(ret, cap,
                           "x-ratelimit-limit-%s: %u\r\nx-ratelimit-remaining-%s: %llu\r\n"
                           "x-ratelimit-reset-%s: %s\r\n",
                           of, limit, of, used < limit ? (unsigned long long)(limit - used) : 0ULL,
                           of, duration(reset, hob_window_empty_ms(w, now_ms)));
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

void hob_limits_headers(const hob_conn *c, char *ret, size_t cap)
{
    size_t n = 0;
    ret[0] = '\0';
    if (!c->key || !hob_route_infers(c->route))
        return;
    const hob_quota_limits l = limits_of(c->g, c->key);
    if (l.requests_per_minute)
        n = window_lines(ret, cap, "requests", &c->key->quota.requests, l.requests_per_minute, 0);
    if (l.tokens_per_minute)
        n += window_lines(ret + n, cap - n, "tokens", &c->key->quota.tokens, l.tokens_per_minute,
                          c->key->quota.reserved);
    ret[n] = '\0'; /* whole lines only */
}
