/* SPDX-License-Identifier: Apache-2.0
 *
 * The step loop's brain: which rows run next, and what becomes of their logits. See batcher.h.
 *
 * A sequence is a list of tokens and the count of those whose K and V are cached; what is missing is computed, one row
 * for a sequence that decodes, many for one that prefills, and the last missing row is the one whose logits are
 * sampled. So a fresh prompt, a running answer and a resumed answer are the same thing. Decoding rows go first; while
 * any sequence decodes, prefill gets at most PREFILL_QUANTUM rows a step, so that a long prompt delays a stream by a
 * bounded time. */
#include "daemon/engine/batcher.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/engine/sequence.h"

enum { PREFILL_QUANTUM = 64 };

struct hob_batcher {
    hob_model *model;
    hob_batcher_options options;
    hob_context *context;
    hob_kv_pool *pool;
    hob_sequence *running, *waiting; /* in order of arrival */
    hob_batcher_stats stats;
    /* One step's arrays, sized once. */
    uint32_t *tokens;           /* [step_rows] */
    hob_span *spans;            /* [max_sequences] */
    hob_sequence **span_owner;  /* [max_sequences] */
    uint32_t *logit_rows;       /* [max_sequences] */
    hob_sequence **logit_owner; /* [max_sequences] */
    hob_candidates_in *wanted;  /* [max_sequences] */
    hob_candidates *candidates; /* [max_sequences] */
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
    b->full_row = calloc(hob_model_get_info(m)->vocab, sizeof *b->full_row);
    b->stats.kv_blocks = hob_kv_blocks_for(o->kv_tokens);
    if (!b->tokens || !b->spans || !b->span_owner || !b->logit_rows || !b->logit_owner ||
        !b->wanted || !b->candidates || !b->full_row ||
        hob_kv_pool_new(b->stats.kv_blocks, &b->pool) < 0) {
        rc = hob_fail(diag, HOB_ENOMEM, "batcher: no memory for %u sequences", n);
        goto fail;
    }
    const hob_context_options options = {.max_rows = o->step_rows,
                                         .max_logit_rows = n,
                                         .kv_blocks = b->stats.kv_blocks,
                                         .kv_type = o->kv_type};
    if ((rc = hob_context_new(m, &options, &b->context, diag)) < 0)
        goto fail;
    *ret = b;
    return 0;

fail:
    hob_batcher_free(b);
    return rc;
}

static void free_list(hob_sequence *s)
{
    while (s) {
        hob_sequence *next = s->next;
        hob_sequence_free(s);
        s = next;
    }
}

void hob_batcher_free(hob_batcher *b)
{
    if (!b)
        return;
    free_list(b->running);
    free_list(b->waiting);
    hob_context_free(b->context);
    hob_kv_pool_free(b->pool);
    free(b->tokens);
    free(b->spans);
    free(b->span_owner);
    free(b->logit_rows);
    free(b->logit_owner);
    free(b->wanted);
    free(b->candidates);
    free(b->full_row);
    free(b);
}

static void append(hob_sequence **list, hob_sequence *s)
{
    while (*list)
        list = &(*list)->next;
    s->next = NULL;
    *list = s;
}

static hob_sequence *take_out(hob_sequence **list, uint64_t id)
{
    for (; *list; list = &(*list)->next) {
        hob_sequence *s = *list;
        if (s->id == id) {
            *list = s->next;
            return s;
        }
    }
    return NULL;
}

static void release(hob_batcher *b, hob_sequence *s)
{
    hob_kv_pool_give(b->pool, s->blocks, s->block_count);
    hob_kv_pool_unreserve(b->pool, s->reserved);
    hob_sequence_free(s);
}

int hob_batcher_submit(hob_batcher *b, const hob_request *r, hob_diag *diag)
{
    hob_sequence *s;
    if (b->stats.waiting >= b->options.max_waiting + (b->options.max_sequences - b->stats.running))
        return hob_fail(diag, HOB_ELIMIT, "queue: %u requests are waiting, at most %u may",
                        b->stats.waiting, b->options.max_waiting);
    int rc = hob_sequence_new(b->model, r, b->options.context, &s, diag);
    if (rc < 0)
        return rc;
    uint32_t need = hob_kv_blocks_for(s->capacity);
    if (need > b->stats.kv_blocks) {
        hob_fail(diag, HOB_ELIMIT, "KV cache: prompt and answer need %u tokens, it holds %u",
                 s->capacity, b->stats.kv_blocks * HOB_KV_BLOCK_TOKENS);
        hob_sequence_free(s);
        return HOB_ELIMIT;
    }
    append(&b->waiting, s);
    b->stats.waiting++;
    return 0;
}

bool hob_batcher_cancel(hob_batcher *b, uint64_t id)
{
    hob_sequence *s = take_out(&b->running, id);
    if (s)
        b->stats.running--;
    else if ((s = take_out(&b->waiting, id)))
        b->stats.waiting--;
    else
        return false;
    b->stats.cancelled++;
    release(b, s); /* a waiting sequence holds no blocks yet */
    return true;
}

void hob_batcher_credit(hob_batcher *b, uint64_t id, uint32_t tokens)
{
    for (int list = 0; list < 2; list++)
        for (hob_sequence *s = list ? b->waiting : b->running; s; s = s->next)
            if (s->id == id && __builtin_add_overflow(s->credit, tokens, &s->credit))
                s->credit = UINT32_MAX;
}

/* Could compute rows now: a prompt may be prefilled on no credit, all but its last row. */
static bool is_runnable(const hob_sequence *s)
{
    return s->credit > 0 || s->token_count - s->computed > 1;
}

bool hob_batcher_has_work(const hob_batcher *b)
{
    for (const hob_sequence *s = b->running; s; s = s->next)
        if (is_runnable(s))
            return true;
    return b->waiting && b->stats.running < b->options.max_sequences &&
           hob_kv_blocks_for(b->waiting->capacity) <= hob_kv_pool_free_blocks(b->pool);
}

static void fill_counts(const hob_sequence *s, hob_token_event *e)
{
    e->id = s->id;
    e->prompt_tokens = s->prompt_count;
    e->cached_tokens = 0;
    e->answer_tokens = hob_sequence_answer(s);
}

static void finish(hob_batcher *b, hob_sequence *s)
{
    take_out(&b->running, s->id);
    b->stats.running--;
    b->stats.finished++;
    release(b, s);
}

/* Waiting sequences start in order of arrival while there is a place and room for their worst case. */
static void start_waiting(hob_batcher *b, hob_token_sink *sink, void *user)
{
    while (b->waiting && b->stats.running < b->options.max_sequences) {
        hob_sequence *s = b->waiting;
        uint32_t need = hob_kv_blocks_for(s->capacity);
        if (hob_kv_pool_reserve(b->pool, need) < 0)
            return;
        s->reserved = need;
        b->waiting = s->next;
        b->stats.waiting--;
        append(&b->running, s);
        b->stats.running++;
        hob_token_event e = {.token = HOB_TOKEN_NONE};
        if (hob_sequence_replay(s, b->model, &e)) {
            fill_counts(s, &e);
            e.token = HOB_TOKEN_NONE;
            sink(user, &e);
            finish(b, s);
        }
    }
}

typedef struct step_plan {
    hob_batch batch;
    uint32_t decode_rows;
} step_plan;

static void plan_rows(hob_batcher *b, step_plan *p, hob_sequence *s, uint32_t rows)
{
    const uint32_t first = p->batch.row_count;
    for (uint32_t need = hob_kv_blocks_for(s->computed + rows); s->block_count < need;
         s->block_count++, s->reserved--)
        s->blocks[s->block_count] = hob_kv_pool_take(b->pool);
    memcpy(b->tokens + first, s->tokens + s->computed, rows * sizeof *b->tokens);
    b->span_owner[p->batch.span_count] = s;
    b->spans[p->batch.span_count++] = (hob_span){
        .first_row = first, .row_count = rows, .first_position = s->computed, .blocks = s->blocks};
    p->batch.row_count += rows;
    if (s->computed + rows == s->token_count) {
        b->logit_owner[p->batch.logit_count] = s;
        b->logit_rows[p->batch.logit_count++] = first + rows - 1;
    }
}

static void plan_step(hob_batcher *b, step_plan *p)
{
    *p =
        (step_plan){.batch = {.tokens = b->tokens, .spans = b->spans, .logit_rows = b->logit_rows}};
    b->stats.stalled = 0;
    for (hob_sequence *s = b->running; s; s = s->next) {
        if (!is_runnable(s))
            b->stats.stalled++;
        else if (s->token_count - s->computed == 1)
            plan_rows(b, p, s, 1);
    }
    p->decode_rows = p->batch.row_count;
    uint32_t room = b->options.step_rows - p->decode_rows;
    if (p->decode_rows && room > PREFILL_QUANTUM)
        room = PREFILL_QUANTUM;
    for (hob_sequence *s = b->running; s && room > 0; s = s->next) {
        uint32_t missing = s->token_count - s->computed;
        if (missing < 2)
            continue;
        if (s->credit == 0)
            missing--;
        uint32_t rows = missing < room ? missing : room;
        plan_rows(b, p, s, rows);
        room -= rows;
    }
}

static void count_step(hob_batcher *b, const step_plan *p, uint64_t us)
{
    const uint32_t rows = p->batch.row_count, prefill = rows - p->decode_rows;
    b->stats.steps++;
    b->stats.decode_tokens += p->decode_rows;
    b->stats.prefill_tokens += prefill;
    b->stats.prefill_us += us * prefill / rows;
    b->stats.decode_us += us * p->decode_rows / rows;
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

int hob_batcher_step(hob_batcher *b, hob_token_sink *sink, void *user)
{
    step_plan p;
    int rc;

    start_waiting(b, sink, user);
    plan_step(b, &p);
    if (p.batch.row_count == 0)
        return 0;
    uint64_t start = hob_now_us();
    if ((rc = hob_context_step(b->context, &p.batch)) < 0)
        return rc;
    for (uint32_t i = 0; i < p.batch.logit_count; i++)
        hob_sampler_prepare(b->logit_owner[i]->sampler, i, &b->wanted[i]);
    if (p.batch.logit_count && (rc = hob_context_candidates(
                                    b->context, b->wanted, p.batch.logit_count, b->candidates)) < 0)
        return rc;
    for (uint32_t i = 0; i < p.batch.span_count; i++)
        b->span_owner[i]->computed += p.batch.spans[i].row_count;
    count_step(b, &p, hob_now_us() - start);
    for (uint32_t i = 0; i < p.batch.logit_count; i++)
        if ((rc = emit(b, b->logit_owner[i], &b->candidates[i], i, sink, user)) < 0)
            return rc;
    return 0;
}

void hob_batcher_get_stats(const hob_batcher *b, hob_batcher_stats *ret)
{
    *ret = b->stats;
    ret->kv_blocks_free = hob_kv_pool_free_blocks(b->pool);
}

int hob_batcher_class(const hob_batcher *b)
{
    return (void)b, HOB_PRIORITY_STANDARD;
}
