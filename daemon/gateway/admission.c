/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a request may join those that wait for an engine, and when it is worth trying again. What counts is the forecast
 * of its first token (forecast.c), from the engine's cost model and from what is before it in the queue; beyond the
 * patience of its key it is refused at once rather than late. The queue is bounded in requests and in tokens as well; requests
 * that are large for it may fill half of it, so that small ones get through.
 *
 * Who is refused is told when its turn would be, behind those that were told so before: they are remembered until that time
 * (`promises`), so that a crowd comes back one by one and not all at once. A tenant's come one behind the other, also when
 * the engine turns out to be faster than it seemed when the first were made. Of other tenants' only some count: one that
 * asks again and again without waiting keeps nobody else out. Thread: loop. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/forecast.h"
#include "daemon/gateway/state.h"

enum {
    JOBS_MOST = 1024,   /* that a forecast looks at */
    LARGE_PART = 8,     /* a request that takes this part of the queue's tokens is large */
    LATE_US = 10000000, /* who is so late does not come back */
    EARLY_US = 500000,
    LEARNT_LEAST_US = 200000,             /* of a forecast that is compared with what came */
    PROMISES_EACH = HOB_PROMISES_MAX / 2, /* that a tenant may hold */
    OTHERS_LEAST = 8, /* promises to other tenants that count, beside as many as the own ones */
    RETRY_LEAST_MS = 1000,
    RETRY_MOST_MS = 600000,
    MS = 1000,
};

/* How much longer first tokens take than forecast: the processor is shared with what forecasts do not know. Lateness is learnt
 * faster, since it breaks a promise. */
static const double SLOWNESS_LEAST = 0.5, SLOWNESS_MOST = 4, LATE_WEIGHT = 0.2, EARLY_WEIGHT = 0.05;

static const double RATIO_WEIGHT = 0.1, /* of the newest answer, in the mean length of answers */
    RATIO_LEAST = 0.05, EARLY_PART = 0.5 /* of its patience is left to one that comes back */;

/* ---- what the engine is doing ---- */

static uint32_t tenant_of(const hob_job *j)
{
    return j->key ? j->key->record.tenant_number : 0;
}

static bool is_before(const hob_job *a, const hob_job *b)
{
    const bool a_runs = a->first_token_us > 0, b_runs = b->first_token_us > 0;
    if (a_runs != b_runs)
        return a_runs;
    return a->priority != b->priority ? a->priority < b->priority : a->id < b->id;
}

static int compare(const void *a, const void *b)
{
    const hob_job *x = *(hob_job *const *)a, *y = *(hob_job *const *)b;
    return is_before(x, y) ? -1 : 1;
}

/* The engine has its ids, or will have them. */
static bool is_at_engine(const hob_job *j, const hob_link *l)
{
    return j->link == l && (j->state == HOB_JOB_RUNNING || j->state == HOB_JOB_PARKING ||
                            (j->state == HOB_JOB_QUEUED && j->admitted));
}

static double expected_answer(const hob_link *l, uint32_t max_tokens, uint32_t answered)
{
    const double ratio = l->answer_ratio > RATIO_LEAST ? l->answer_ratio : RATIO_LEAST,
                 left = ratio * max_tokens - answered;
    return left > 1 ? left : 1;
}

static hob_forecast_job describe(const hob_job *j, uint32_t cached)
{
    const bool runs = j->first_token_us > 0;
    const uint32_t known = cached < j->prompt_tokens ? cached : 0;
    const double answer = expected_answer(j->link, j->max_tokens, j->answer_tokens);
    return (hob_forecast_job){.prefill = runs ? 0 : j->prompt_tokens - known,
                              .answer = answer,
                              .context = j->prompt_tokens + j->answer_tokens + answer};
}

/* What starts with its first token: the choices that share its prompt, beside its own. */
static uint32_t followers_of(const hob_job *j)
{
    return j->leader == j->id && j->first_token_us == 0 && j->request.n > 1 ? j->request.n - 1 : 0;
}

static bool read_cost(const hob_link *l, hob_cost *ret)
{
    static const uint32_t rows[] = {1, 16, 128};
    static const char *const names[] = {"cost_step_1_us", "cost_step_16_us", "cost_step_128_us"};
    double us[3], least = 1;

    for (int i = 0; i < 3; i++) { /* an engine's word is not taken for it */
        us[i] = json_number_value(json_object_get(l->stats, names[i]));
        if (!(us[i] >= least && us[i] < 1e9))
            return false;
        least = us[i];
    }
    hob_cost_begin(ret, rows, us, 3, 0);
    return true;
}

/* *cost: filled, and held by the result. False: nothing is known of the engine's speed yet. */
static bool describe_engine(const hob_link *l, hob_cost *cost, hob_forecast_engine *ret)
{
    if (!read_cost(l, cost))
        return false;
    *ret = (hob_forecast_engine){.cost = cost,
                                 .target_us = l->model->itl_target_ms * 1000.0,
                                 .places = l->max_sequences ? l->max_sequences : 1,
                                 .kv_tokens = l->kv_tokens ? (double)l->kv_tokens : 1e12};
    return true;
}

static hob_forecast_job describe_promise(const hob_promise *p)
{
    return (hob_forecast_job){
        .prefill = p->prefill, .answer = p->answer, .context = p->prefill + p->answer};
}

/* j behind all that are before it, and, when asked for, behind those that were promised a later turn. False: nothing is
 * known of the engine's speed yet. */
static bool forecast(const hob_job *j, uint32_t cached, bool promises, hob_forecast *ret)
{
    const hob_link *l = j->link;
    const hob_job *before[JOBS_MOST];
    static hob_forecast_job jobs[JOBS_MOST * HOB_N_MAX + HOB_PROMISES_MAX + 1]; /* loop only */
    hob_cost cost;
    hob_forecast_engine engine;
    uint32_t count = 0, at = 0, own = 0, others = 0;

    if (!describe_engine(l, &cost, &engine))
        return false;
    for (const hob_job *o = l->g->jobs; o && count < JOBS_MOST; o = o->next)
        if (o != j && is_at_engine(o, l) && is_before(o, j))
            before[count++] = o;
    qsort(before, count, sizeof *before, compare);
    for (uint32_t i = 0; i < count; i++) {
        const hob_forecast_job d = describe(before[i], before[i]->cached_tokens);
        jobs[at++] = d;
        for (uint32_t k = followers_of(before[i]); k > 0; k--)
            jobs[at++] = (hob_forecast_job){.answer = d.answer, .context = d.context};
    }
    for (uint32_t i = 0; promises && i < l->promise_count; i++)
        own += l->promises[i].tenant == tenant_of(j);
    for (uint32_t i = 0; promises && i < l->promise_count; i++) {
        const hob_promise *o = &l->promises[i];
        if (o->tenant != tenant_of(j) && others++ >= own + OTHERS_LEAST)
            continue; /* the engine serves tenants in turn */
        jobs[at++] = describe_promise(o);
    }
    jobs[at] = describe(j, cached);
    *ret = hob_forecast_last(&engine, jobs, at + 1);
    ret->first_us *= l->slowness;
    ret->end_us *= l->slowness;
    return true;
}

bool hob_admission_forecast(const hob_job *j, uint32_t cached, hob_forecast *ret)
{
    return forecast(j, cached, false, ret);
}

void hob_admission_first_token(const hob_job *j, uint64_t now_us)
{
    double *slowness = &j->link->slowness;
    if (j->forecast_us < LEARNT_LEAST_US)
        return;
    double taken = (double)(now_us - j->forecast_at_us) / j->forecast_us;
    taken = taken < SLOWNESS_LEAST ? SLOWNESS_LEAST : taken > SLOWNESS_MOST ? SLOWNESS_MOST : taken;
    *slowness += (taken > *slowness ? LATE_WEIGHT : EARLY_WEIGHT) * (taken - *slowness);
}

void hob_admission_learn(const hob_job *j)
{
    hob_link *l = j->link;
    if (j->max_tokens == 0)
        return;
    const double ratio = (double)j->answer_tokens / j->max_tokens;
    l->answer_ratio += RATIO_WEIGHT * (ratio - l->answer_ratio);
}

/* ---- promises ---- */

static void forget_promise(hob_link *l, uint32_t i)
{
    l->promises[i] = l->promises[--l->promise_count];
}

/* Those that j's tenant holds: how many, and which are due first and last, where there are any. */
typedef struct own_promises {
    uint32_t count, first, last;
} own_promises;

static own_promises find_promises(const hob_job *j)
{
    const hob_promise *p = j->link->promises;
    own_promises own = {0, 0, 0};

    for (uint32_t i = 0; i < j->link->promise_count; i++) {
        if (p[i].tenant != tenant_of(j))
            continue;
        if (own.count == 0 || p[i].due_us < p[own.first].due_us)
            own.first = i;
        if (own.count == 0 || p[i].due_us >= p[own.last].due_us)
            own.last = i;
        own.count++;
    }
    return own;
}

/* Forgets those that did not come back; and one whose time it is, as a request of its tenant has come. */
static void keep_promises(const hob_job *j)
{
    const uint64_t now_us = hob_now_us();
    hob_link *l = j->link;

    for (uint32_t i = l->promise_count; i-- > 0;)
        if (l->promises[i].due_us + LATE_US < now_us)
            forget_promise(l, i);
    const own_promises own = find_promises(j);
    if (own.count > 0 && l->promises[own.first].due_us <= now_us + EARLY_US)
        forget_promise(l, own.first);
}

/* How long j waits behind p alone. */
static double behind_us(const hob_job *j, uint32_t cached, const hob_promise *p)
{
    hob_cost cost;
    hob_forecast_engine engine;
    if (!describe_engine(j->link, &cost, &engine))
        return 0;
    hob_forecast_job jobs[] = {describe_promise(p), describe(j, cached)}, alone = jobs[1];
    const double first_us = hob_forecast_last(&engine, jobs, 2).first_us;
    return (first_us - hob_forecast_last(&engine, &alone, 1).first_us) * j->link->slowness;
}

static uint32_t promise(hob_job *j, uint32_t cached)
{
    hob_link *l = j->link;
    hob_forecast f = {0, 0};
    double ms = RETRY_LEAST_MS;
    const uint64_t now_us = hob_now_us();

    const own_promises own = find_promises(j);
    const bool many = own.count >= PROMISES_EACH;

    if (own.count > 0) { /* the last one comes when it was told, however fast the engine is now */
        const hob_promise *p = &l->promises[own.last];
        const double last_us = (double)p->due_us - (double)now_us;
        ms = fmax(ms, (last_us + (many ? 0 : behind_us(j, cached, p))) / MS);
    }
    if (many)
        forget_promise(l, own.first);
    if (forecast(j, cached, true, &f))
        ms = fmax(ms, f.first_us / MS - EARLY_PART * j->patience_ms);
    ms = ms < RETRY_LEAST_MS ? RETRY_LEAST_MS : ms > RETRY_MOST_MS ? RETRY_MOST_MS : ms;
    if (l->promise_count < HOB_PROMISES_MAX) {
        const hob_forecast_job d = describe(j, cached);
        l->promises[l->promise_count++] = (hob_promise){.due_us = now_us + (uint64_t)(ms * MS),
                                                        .prefill = (float)d.prefill,
                                                        .answer = (float)d.answer,
                                                        .tenant = tenant_of(j)};
    }
    return (uint32_t)ms;
}

/* ---- refusals ---- */

static int refuse(hob_job *j, uint32_t cached, const char *reason, hob_api_error *e)
{
    e->reason = reason;
    e->retry_after_ms = promise(j, cached);
    j->g->metrics.shed++;
    return HOB_EINVAL;
}

void hob_admission_full(hob_job *j, hob_api_error *e)
{
    hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                 "%u requests are running or waiting for this model; try again later",
                 hob_link_load(j->link));
    keep_promises(j);
    (void)refuse(j, 0, "max_waiting", e);
}

/* Tokens of those that wait for their first one. */
typedef struct waiting {
    uint32_t jobs;
    uint64_t tokens, large_tokens;
} waiting;

static uint64_t tokens_of(const hob_job *j, uint32_t cached)
{
    return (uint64_t)j->prompt_tokens + (1 + followers_of(j)) * (uint64_t)j->max_tokens -
           (cached < j->prompt_tokens ? cached : 0);
}

static waiting count_waiting(const hob_job *j, uint64_t large)
{
    waiting w = {0};
    for (const hob_job *o = j->g->jobs; o; o = o->next) {
        if (o == j || !is_at_engine(o, j->link))
            continue;
        w.jobs += 1 + followers_of(o);
        if (o->first_token_us > 0)
            continue;
        const uint64_t tokens = tokens_of(o, o->cached_tokens);
        w.tokens += tokens;
        w.large_tokens += tokens >= large ? tokens : 0;
    }
    return w;
}

/* Of all prompts of its answer. */
static uint64_t wanted_by(hob_job *j)
{
    uint64_t tokens = 0;
    for (hob_job *p = NULL; (p = hob_choices_prompt(j, p));)
        tokens += tokens_of(p, p->cached_tokens);
    return tokens;
}

/* Why not; NULL: it may join. */
static const char *judge(hob_job *j, double *ret_forecast_us, hob_api_error *e)
{
    const hob_link *l = j->link;
    const uint64_t most = l->model->max_waiting_tokens, large = most / LARGE_PART + 1,
                   wanted = wanted_by(j);
    const waiting w = count_waiting(j, large);
    hob_forecast f;

    if (w.jobs < l->max_sequences) /* there is a place: what waits are prompts in turn */
        ;
    else if (w.tokens + wanted > most) {
        hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                     "the requests waiting for this model have %llu tokens, this one %llu, and "
                     "together at most %llu may wait",
                     (unsigned long long)w.tokens, (unsigned long long)wanted,
                     (unsigned long long)most);
        return "max_waiting_tokens";
    } else if (wanted >= large && w.large_tokens + wanted > most / 2) {
        hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                     "large requests may fill half of the queue, %llu tokens: %llu wait, this one "
                     "has %llu",
                     (unsigned long long)most / 2, (unsigned long long)w.large_tokens,
                     (unsigned long long)wanted);
        return "large_requests";
    }
    if (j->patience_ms == 0 || !hob_admission_forecast(j, j->cached_tokens, &f))
        return NULL;
    *ret_forecast_us = f.first_us / l->slowness;
    const double wait_ms = (double)(hob_now_us() - j->arrived_us) / MS + f.first_us / MS;
    if (wait_ms <= j->patience_ms)
        return NULL;
    hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                 "the first token would come after about %.1f s, and this key waits %.1f s at most",
                 wait_ms / 1000, j->patience_ms / 1000.0);
    return "patience_ms";
}

int hob_admission_check(hob_job *j, hob_api_error *e)
{
    keep_promises(j);
    const char *reason = judge(j, &j->forecast_us, e);
    j->forecast_at_us = hob_now_us();
    return reason ? refuse(j, j->cached_tokens, reason, e) : 0;
}

/* ---- /hob/v1/estimate ---- */

void hob_admission_estimate(hob_job *j, uint32_t cached)
{
    hob_api_error e = {0};
    hob_forecast f = {0, 0};
    double forecast_us = 0;
    hob_text *t = &j->g->scratch;
    const char *model = j->link->model->name;

    hob_text_clear(t);
    hob_text_puts(t, "{\"object\":\"hob.estimate\",\"model\":");
    hob_text_string(t, model, strlen(model));
    hob_text_format(t, ",\"prompt_tokens\":%u,\"cached_tokens\":%u,\"max_tokens\":%u",
                    j->prompt_tokens, cached, j->max_tokens);
    if (hob_admission_forecast(j, cached, &f))
        hob_text_format(t, ",\"predicted_ttft_ms\":%.0f,\"predicted_duration_ms\":%.0f",
                        f.first_us / MS, f.end_us / MS);
    else
        hob_text_puts(t, ",\"predicted_ttft_ms\":null,\"predicted_duration_ms\":null");
    const hob_link *l = j->link;
    const bool full = hob_link_load(l) + j->request.n > l->max_sequences + l->model->max_waiting;
    const char *reason = full ? "max_waiting" : judge(j, &forecast_us, &e);
    if (!reason && hob_limits_ask(j, &e) < 0)
        reason = e.reason;
    hob_text_format(t, ",\"admitted\":%s,\"reason\":", reason ? "false" : "true");
    if (reason)
        hob_text_string(t, reason, strlen(reason));
    else
        hob_text_puts(t, "null");
    hob_text_puts(t, "}\n");
    if (t->failed)
        hob_conn_kill(j->conn, "no memory for an answer");
    else
        hob_http_respond(j->conn, 200, "application/json", "", hob_text_data(t), hob_text_len(t));
}
