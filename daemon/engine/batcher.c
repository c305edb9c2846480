/* SPDX-License-Identifier: Apache-2.0
 *
 * The step loop's brain: which rows run next, and what becomes of their logits. See batcher.h.
 *
 * A sequence is a list of tokens and the count of those whose K and V are cached; what is missing is computed, one row
 * for a sequence that decodes, many for one that prefills, and the last missing row is the one whose logits are
 * sampled. So a fresh prompt, a running answer, and an answer that goes on after a crash or after it was set back are the
 * same thing. */
#include "daemon/engine/batcher.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/engine/places.h"

enum {
    PREFILL_QUANTUM = 16, /* rows of prefill in a step at least, whatever the target */
    PAUSE_US = 5000,      /* between two steps of which the second has not waited for work */
    QUIET_US = 150000,    /* of a step without streams: cancels and new requests wait for its end */
};

static const double SPARE_LEAST = 0.2,
                    SPARE_MOST = 0.5; /* of the target, for what a prediction cannot know */

struct hob_batcher {
    hob_model *model;
    hob_batcher_options options;
    hob_context *context;
    hob_places places;
    hob_batcher_stats stats; /* without what places count */
    uint64_t ended_us;       /* the last step */
    /* One step's arrays, sized once. */
    uint32_t *tokens;           /* [step_rows] */
    hob_span *spans;            /* [max_sequences] */
    hob_sequence **span_owner;  /* [max_sequences] */
    uint32_t *logit_rows;       /* [max_sequences] */
    hob_sequence **logit_owner; /* [max_sequences] */
    hob_candidates_in *wanted;  /* [max_sequences] */
    hob_candidates *candidates; /* [max_sequences] */
    hob_sequence **prefilling;  /* [max_sequences] */
    float *full_row;            /* [vocab] */
};

const char *hob_finish_name(hob_finish f)
{
    switch (f) {
    case HOB_FINISH_STOP: return "stop";
    case HOB_FINISH_LENGTH: return "length";
    case HOB_FINISH_CANCEL: return "cancelled";
    case HOB_FINISH_ERROR: return "error";
    case HOB_FINISH_NONE: break;
    }
    return NULL;
}

int hob_batcher_new(hob_model *m, const hob_batcher_options *o, hob_batcher **ret, hob_diag *diag)
{
    int rc;
    if (o->max_sequences == 0 || o->step_rows < o->max_sequences)
        return hob_fail(diag, HOB_EINVAL,
                        "batcher: %u rows a step for %u sequences, at least one row each",
                        o->step_rows, o->max_sequences);
    hob_batcher *b = calloc(1, sizeof *b);
    if (!b)
        return hob_fail(diag, HOB_ENOMEM, "batcher: no memory");
    b->model = m;
    b->options = *o;
    const uint32_t n = o->max_sequences;
    b->tokens = calloc(o->step_rows, sizeof *b->tokens);
    b->spans = calloc(n, sizeof *b->spans);
    b->span_owner = calloc(n, sizeof(hob_sequence *));
    b->logit_rows = calloc(n, sizeof *b->logit_rows);
    b->logit_owner = calloc(n, sizeof(hob_sequence *));
    b->wanted = calloc(n, sizeof *b->wanted);
    b->candidates = calloc(n, sizeof *b->candidates);
    b->prefilling = calloc(n, sizeof(hob_sequence *));
    b->full_row = calloc(hob_model_get_info(m)->vocab, sizeof *b->full_row);
    b->stats.kv_blocks = hob_kv_blocks_for(o->kv_tokens);
    if (!b->tokens || !b->spans || !b->span_owner || !b->logit_rows || !b->logit_owner ||
        !b->wanted || !b->candidates || !b->prefilling || !b->full_row ||
        hob_places_open(&b->places, n, b->stats.kv_blocks, o->prefix_tokens / HOB_KV_BLOCK_TOKENS,
                        o->context) < 0) {
        rc = hob_fail(diag, HOB_ENOMEM, "batcher: no memory for %u sequences", n);
        goto fail;
    }
    const hob_context_options options = {.max_rows = o->step_rows,
                                         .max_logit_rows = n,
                                         .kv_blocks = b->stats.kv_blocks,
                                         .kv_type = o->kv_type};
    if ((rc = hob_context_new(m, &options, &b->context, diag)) < 0 ||
        (o->touch_memory && (rc = hob_context_touch(b->context)) < 0))
        goto fail;
    b->places.context = b->context;
    *ret = b;
    return 0;

fail:
    hob_batcher_free(b);
    return rc;
}

void hob_batcher_free(hob_batcher *b)
{
    if (!b)
        return;
    hob_places_close(&b->places);
    hob_context_free(b->context);
    free(b->tokens);
    free(b->spans);
    free(b->span_owner);
    free(b->logit_rows);
    free(b->logit_owner);
    free(b->wanted);
    free(b->candidates);
    free(b->prefilling);
    free(b->full_row);
    free(b);
}

int hob_batcher_submit(hob_batcher *b, const hob_request *r, hob_diag *diag)
{
    const hob_places *p = &b->places;
    hob_sequence *s;
    if (p->queue.count >= b->options.max_waiting + (p->most - p->running_count))
        return hob_fail(diag, HOB_ELIMIT, "queue: %u requests are waiting, at most %u may",
                        p->queue.count, b->options.max_waiting);
    int rc = hob_sequence_new(b->model, r, b->options.context, &s, diag);
    if (rc < 0)
        return rc;
    if (hob_kv_blocks_for(s->capacity) > b->stats.kv_blocks)
        rc = hob_fail(diag, HOB_ELIMIT, "KV cache: prompt and answer need %u tokens, it holds %u",
                      s->capacity, b->stats.kv_blocks * HOB_KV_BLOCK_TOKENS);
    else if ((rc = hob_places_join(&b->places, s)) < 0)
        hob_fail(diag, rc, "request: no memory");
    if (rc < 0)
        hob_sequence_free(s);
    return rc;
}

bool hob_batcher_cancel(hob_batcher *b, uint64_t id)
{
    hob_sequence *s = hob_places_find(&b->places, id);
    if (!s)
        return false;
    hob_places_remove(&b->places, s);
    b->stats.cancelled++;
    return true;
}

void hob_batcher_credit(hob_batcher *b, uint64_t id, uint32_t tokens)
{
    hob_sequence *s = hob_places_find(&b->places, id);
    if (s)
        hob_places_credit(&b->places, s, tokens);
}

static void finish(hob_batcher *b, hob_sequence *s)
{
    hob_places_remove(&b->places, s);
    b->stats.finished++;
}

static void fill_counts(const hob_sequence *s, hob_token_event *e)
{
    e->id = s->id;
    e->prompt_tokens = s->prompt_count;
    e->cached_tokens = s->cached_count < s->prompt_count ? s->cached_count : s->prompt_count;
    e->answer_tokens = hob_sequence_answer(s);
    e->waited_us = s->waited_us;
    e->chunks = s->chunks;
}

static void start_waiting(hob_batcher *b, uint64_t now_us, hob_token_sink *sink, void *user)
{
    for (hob_sequence *s; (s = hob_places_start(&b->places, now_us));) {
        hob_token_event e = {.token = HOB_TOKEN_NONE};
        if (!s->replayed && hob_sequence_replay(s, b->model, &e)) {
            fill_counts(s, &e);
            e.token = HOB_TOKEN_NONE;
            sink(user, &e);
            finish(b, s);
        }
    }
}

bool hob_batcher_has_work(hob_batcher *b)
{
    for (const hob_sequence *s = b->places.running; s; s = s->next)
        if (hob_sequence_runnable(s))
            return true;
    return hob_places_can_start(&b->places, hob_now_us());
}

int hob_batcher_class(const hob_batcher *b)
{
    int best = HOB_PRIORITIES;
    for (int list = 0; list < 2; list++)
        for (const hob_sequence *s = list ? b->places.queue.waiting : b->places.running; s;
             s = s->next)
            best = (int)s->priority < best && hob_sequence_runnable(s) ? (int)s->priority : best;
    return best;
}

/* ---- the next step ---- */

typedef struct step_plan {
    hob_batch batch;
    uint32_t decode_rows;
    uint64_t attended;
} step_plan;

static void plan_rows(hob_batcher *b, step_plan *p, hob_sequence *s, uint32_t rows)
{
    const uint32_t first = p->batch.row_count;
    memcpy(b->tokens + first, s->tokens + s->computed, rows * sizeof *b->tokens);
    b->span_owner[p->batch.span_count] = s;
    b->spans[p->batch.span_count++] = (hob_span){
        .first_row = first, .row_count = rows, .first_position = s->computed, .blocks = s->blocks};
    p->batch.row_count += rows;
    p->attended += hob_cost_attended(s->computed, rows);
    if (s->computed + rows == s->token_count) {
        b->logit_owner[p->batch.logit_count] = s;
        b->logit_rows[p->batch.logit_count++] = first + rows - 1;
    }
}

/* Time that the step may take, in microseconds; 0: any. Streams of the batch class set no limit. The less a prediction was
 * worth lately, the more is left for its error. */
static double time_limit(const hob_batcher *b, const step_plan *p)
{
    const double target_us = b->options.itl_target_ms * 1000.0, error = 4 * b->stats.cost.error,
                 spare = error < SPARE_LEAST  ? SPARE_LEAST
                         : error > SPARE_MOST ? SPARE_MOST
                                              : error;
    bool streams = false;
    for (uint32_t i = 0; i < p->batch.span_count; i++)
        streams |= b->span_owner[i]->priority != HOB_PRIORITY_BATCH;
    return (1 - spare) * (streams || target_us > QUIET_US || target_us == 0 ? target_us : QUIET_US);
}

static int plan_prefill(hob_batcher *b, step_plan *p)
{
    const double limit = time_limit(b, p);
    uint32_t count = 0, least = PREFILL_QUANTUM;

    for (hob_sequence *s = b->places.running; s; s = s->next)
        if (hob_sequence_missing(s) > 1) {
            uint32_t at = count++;
            for (; at > 0 && hob_queue_before(s, b->prefilling[at - 1]); at--)
                b->prefilling[at] = b->prefilling[at - 1];
            b->prefilling[at] = s;
        }
    for (uint32_t i = 0; i < count; i++) {
        hob_sequence *s = b->prefilling[i];
        const int rc = hob_places_adopt(&b->places, s);
        if (rc < 0)
            return rc;
        uint32_t most = hob_sequence_missing(s) - (s->credit == 0),
                 room = b->options.step_rows - p->batch.row_count;
        if (most > room)
            most = room;
        const uint32_t rows = limit > 0 ? hob_cost_fit(&b->stats.cost, p->batch.row_count,
                                                       p->attended, s->computed, least, most, limit)
                                        : most;
        if (rows == 0)
            continue;
        plan_rows(b, p, s, rows);
        least = 0;
    }
    return 0;
}

/* Whether the sequence lets this step pass, but never two in a row: one of the batch class whose token would hold up the
 * first one of a better class. */
static bool lets_pass(const hob_batcher *b, const hob_sequence *s)
{
    if (s->priority != HOB_PRIORITY_BATCH || s->left_out)
        return false;
    for (const hob_sequence *other = b->places.running; other; other = other->next)
        if (other->priority < HOB_PRIORITY_BATCH && hob_sequence_missing(other) > 1 &&
            hob_sequence_runnable(other))
            return true;
    return false;
}

static int plan_step(hob_batcher *b, step_plan *p, uint64_t now_us)
{
    *p =
        (step_plan){.batch = {.tokens = b->tokens, .spans = b->spans, .logit_rows = b->logit_rows}};
    for (hob_sequence *s = b->places.running; s; s = s->next) {
        if (hob_sequence_runnable(s))
            s->stalled_since_us = now_us;
        if (hob_sequence_missing(s) == 1 && s->credit > 0) {
            s->left_out = lets_pass(b, s);
            if (!s->left_out)
                plan_rows(b, p, s, 1);
        }
    }
    p->decode_rows = p->batch.row_count;
    return plan_prefill(b, p);
}

/* A step's time is what its streams see: from the end of the one before, when it followed at once. */
static void count_step(hob_batcher *b, const step_plan *p, uint64_t start_us)
{
    const uint64_t end_us = hob_now_us();
    if (start_us - b->ended_us < PAUSE_US)
        start_us = b->ended_us;
    b->ended_us = end_us;
    const uint64_t us = end_us - start_us;
    const uint32_t rows = p->batch.row_count, prefill = rows - p->decode_rows;
    b->stats.steps++;
    b->stats.decode_tokens += p->decode_rows;
    b->stats.prefill_tokens += prefill;
    b->stats.prefill_us += us * prefill / rows;
    b->stats.decode_us += us * p->decode_rows / rows;
    hob_histogram_add(&b->stats.step, us, 1);
    if (b->options.itl_target_ms && us > 0)
        hob_cost_learn(&b->stats.cost, rows, p->attended, (double)us);
}

static int emit(hob_batcher *b, hob_sequence *s, const hob_candidates *c, uint32_t row,
                hob_token_sink *sink, void *user)
{
    hob_sampled sampled;
    hob_token_event e = {.sampled = &sampled, .has_logprob = s->reports_logprobs};
    if (hob_sampler_pick(s->sampler, c, s->token_count, &sampled) == 1) {
        int rc = hob_context_logits(b->context, row, b->full_row);
        if (rc < 0)
            return rc;
        hob_sampler_pick_full(s->sampler, b->full_row, c, s->token_count, &sampled);
    }
    e.token = sampled.token;
    if (!hob_tokenizer_is_end(hob_model_tokenizer(b->model), sampled.token)) {
        if (hob_sampler_accept(s->sampler, sampled.token, true) < 0) {
            e = (hob_token_event){
                .token = HOB_TOKEN_NONE, .finish = HOB_FINISH_ERROR, .error = "no memory"};
            goto send;
        }
        s->tokens[s->token_count++] = sampled.token;
        s->credit--;
    } else {
        e.token = HOB_TOKEN_NONE;
        e.has_logprob = false;
    }
    hob_sequence_take(s, b->model, sampled.token, &e);
send:
    fill_counts(s, &e);
    sink(user, &e);
    if (e.finish != HOB_FINISH_NONE)
        finish(b, s);
    return 0;
}

/* The step's rows are computed: what that means for its sequences, before any of them may end. */
static void book_rows(hob_batcher *b, const step_plan *p, uint64_t start_us)
{
    for (uint32_t i = 0; i < p->batch.span_count; i++) {
        hob_sequence *s = b->span_owner[i];
        const uint32_t rows = p->batch.spans[i].row_count;
        if (!s->began)
            s->waited_us = start_us - s->queued_us < UINT32_MAX
                               ? (uint32_t)(start_us - s->queued_us)
                               : UINT32_MAX;
        s->chunks += s->token_count == s->prompt_count;
        s->computed += rows;
        s->share->served += i < p->decode_rows ? 2 : rows;
        s->began = true;
        hob_places_name(&b->places, s);
    }
}

int hob_batcher_step(hob_batcher *b, hob_token_sink *sink, void *user)
{
    step_plan p;
    int rc;
    const uint64_t start_us = hob_now_us();

    start_waiting(b, start_us, sink, user);
    hob_places_grow(&b->places, start_us);
    if ((rc = plan_step(b, &p, start_us)) < 0 || p.batch.row_count == 0)
        return rc;
    const double expected_ms =
        hob_cost_predict(&b->stats.cost, p.batch.row_count, p.attended) / 1000;
    if (b->options.on_long_step && expected_ms > b->options.long_step_ms)
        b->options.on_long_step(b->options.user,
                                expected_ms < UINT32_MAX ? (uint32_t)expected_ms : UINT32_MAX);
    if ((rc = hob_context_step(b->context, &p.batch)) < 0)
        return rc;
    for (uint32_t i = 0; i < p.batch.logit_count; i++)
        hob_sampler_prepare(b->logit_owner[i]->sampler, i, &b->wanted[i]);
    if (p.batch.logit_count && (rc = hob_context_candidates(
                                    b->context, b->wanted, p.batch.logit_count, b->candidates)) < 0)
        return rc;
    book_rows(b, &p, start_us);
    for (uint32_t i = 0; i < p.batch.logit_count; i++)
        if ((rc = emit(b, b->logit_owner[i], &b->candidates[i], i, sink, user)) < 0)
            return rc;
    count_step(b, &p, start_us);
    return 0;
}

enum {
    CALIBRATION_US = 500000
}; /* a step that takes longer ends the calibration, or has compiled its kernels */

/* Time of a step of so many rows of one sequence, from position first on, the last of them sampled; of a second one if the
 * first took long. */
static int time_step(hob_batcher *b, uint32_t rows, uint32_t sampled, uint32_t first,
                     const uint32_t *blocks, double *ret_us)
{
    enum { RUNS = 2 };
    const hob_span span = {.row_count = rows, .first_position = first, .blocks = blocks};
    const uint32_t most = rows < b->options.max_sequences ? rows : b->options.max_sequences;
    const hob_logit_edit edit = {.token = 0, .divide = 1, .add = 0};
    hob_batch batch = {.row_count = rows,
                       .tokens = b->tokens,
                       .span_count = 1,
                       .spans = &span,
                       .logit_count = sampled < most ? sampled : most,
                       .logit_rows = b->logit_rows};
    int rc = 0;
    for (uint32_t i = 0; i < batch.logit_count; i++) {
        b->logit_rows[i] = rows - batch.logit_count + i;
        b->wanted[i] = (hob_candidates_in){.row = i,
                                           .k = HOB_CANDIDATES_MAX,
                                           .inverse_temperature = 1,
                                           .edit_count = 1,
                                           .edits = &edit};
    }
    for (int run = 0; rc >= 0 && run < RUNS && (run == 0 || *ret_us > CALIBRATION_US); run++) {
        const uint64_t start_us = hob_now_us();
        rc = hob_context_step(b->context, &batch);
        if (rc >= 0)
            rc = hob_context_candidates(b->context, b->wanted, batch.logit_count, b->candidates);
        *ret_us = (double)(hob_now_us() - start_us);
    }
    return rc;
}

int hob_batcher_calibrate(hob_batcher *b)
{
    static const uint32_t rows[] = {1, 2, 4, 16, 64};
    enum { STEPS = sizeof rows / sizeof *rows, FAR = 3, SAMPLED = 4, FAR_BLOCKS = 32 };
    double us[STEPS], far_us = 0;
    uint32_t blocks[FAR_BLOCKS], count = 0;
    const uint32_t known = b->options.context / HOB_KV_BLOCK_TOKENS,
                   far_blocks = known < FAR_BLOCKS ? known : FAR_BLOCKS,
                   first = far_blocks > 1 ? (far_blocks - 1) * HOB_KV_BLOCK_TOKENS : 0;
    const uint32_t block = hob_kv_pool_take(b->places.pool);

    memset(b->tokens, 0, b->options.step_rows * sizeof *b->tokens);
    for (uint32_t i = 0; i < FAR_BLOCKS; i++) /* a long context, as far as time goes */
        blocks[i] = block;
    /* warms up, with all its rows sampled: a kernel that a device compiles when it first runs is met here */
    int rc = time_step(b, rows[FAR], rows[FAR], first, blocks, &far_us);
    for (; rc >= 0 && count < STEPS && (count < 3 || us[count - 1] < CALIBRATION_US); count++)
        rc = time_step(b, rows[count], SAMPLED, 0, blocks, &us[count]);
    const bool far = rc >= 0 && count == STEPS && first;
    if (far)
        rc = time_step(b, rows[FAR], SAMPLED, first, blocks, &far_us);
    hob_kv_pool_give(b->places.pool, &block, 1);
    if (rc >= 0)
        hob_cost_begin(&b->stats.cost, rows, us, count,
                       far ? (far_us - us[FAR]) * HOB_COST_ATTENDED / (rows[FAR] * first) : 0);
    return rc;
}

uint32_t hob_batcher_cached(const hob_batcher *b, uint32_t tenant, const uint32_t *tokens,
                            uint32_t count)
{
    /* the last token is always computed */
    return count == 0 ? 0
                      : HOB_KV_BLOCK_TOKENS *
                            hob_kv_prefix_find(b->places.pool, tenant, HOB_KV_NONE, tokens,
                                               (count - 1) / HOB_KV_BLOCK_TOKENS, NULL);
}

void hob_batcher_get_stats(const hob_batcher *b, hob_batcher_stats *ret)
{
    const hob_places *p = &b->places;
    *ret = b->stats;
    ret->cached_tokens = p->cached_tokens;
    ret->preempted = p->preempted;
    ret->parked = p->parked_times;
    ret->running = p->running_count;
    ret->waiting = p->queue.count;
    for (const hob_sequence *s = p->running; s; s = s->next)
        ret->stalled += !hob_sequence_runnable(s);
    for (const hob_sequence *s = p->parked; s; s = s->next)
        ret->stalled++;
    ret->kv_blocks_free = hob_kv_pool_free_blocks(p->pool);
    ret->kv_blocks_kept = hob_kv_pool_kept_blocks(p->pool);
}
