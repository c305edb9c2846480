/* SPDX-License-Identifier: Apache-2.0
 *
 * One inference, from admission to its last byte: PREPARE, tokens against credit, the end. Between the two, when its size
 * is known: prepared.c.
 *
 * A job keeps the token ids of its prompt and of what was already generated. When its engine dies it waits for the next
 * one and hands those over, with the same seed, so that the stream goes on where it stopped: recovery.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/grounding.h"
#include "daemon/gateway/meter.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

enum { PROMPT_FACTOR = 4, PROMPT_LEAST = 65536 };

/* ---- the life of the structure ---- */

void hob_job_uncount(hob_job *j)
{
    if (j->counted && j->link->jobs > 0) {
        j->link->jobs--;
        j->link->estimates -= j->request.estimate;
    }
    j->counted = false;
}

static void give_place_back(hob_job *j)
{
    j->link->kept -= j->kept;
    j->kept = false;
}

void hob_job_leave(hob_job *j)
{
    hob_conn *c = j->conn;
    if (!c)
        return;
    hob_job **at = &c->jobs;
    while (*at != j)
        at = &(*at)->conn_next;
    *at = j->conn_next;
    c->job_count--;
    j->conn = NULL;
    j->conn_next = NULL;
}

/* The job is about to go without waiting for the engine's word. Its client pays for what the engine may have begun. */
static void give_up(hob_job *j)
{
    if (j->admitted)
        hob_limits_spend(j, 0);
    if (!j->counted || j->link->state != HOB_LINK_READY)
        return;
    (void)hob_link_send(j->link, HOB_MSG_CANCEL, j->id, NULL, 0);
    j->link->unsure = true;
}

void hob_job_free(hob_job *j)
{
    hob_gateway *g = j->g;

    hob_trace_end_job(j);
    hob_meter_gone(j);
    hob_job_uncount(j);
    give_place_back(j);
    hob_job_absolve(j);
    hob_limits_end(j);
    hob_key_unref(j->key);
    if (j->prev)
        j->prev->next = j->next;
    else
        g->jobs = j->next;
    if (j->next)
        j->next->prev = j->prev;
    hob_job_leave(j);
    if (j->response)
        hob_response_close(j->response);
    hob_api_request_free(&j->request);
    hob_grounding_free(j->grounding);
    json_decref(j->grounds);
    free(j->ids);
    hob_text_free(&j->text);
    json_decref(j->logprobs);
    free(j);
}

void hob_job_done(hob_job *j)
{
    hob_conn *c = j->conn;
    const bool websocket = j->websocket;

    while (c && !websocket && c->jobs) {
        hob_job *k = c->jobs;
        if (k != j)
            give_up(k);
        else
            j = NULL;
        hob_job_free(k);
    }
    if (j)
        hob_job_free(j);
    if (c && websocket)
        hob_websocket_next(c);
}

hob_job *hob_job_find(hob_gateway *g, uint64_t id)
{
    hob_job *j = g->jobs;
    while (j && j->id != id)
        j = j->next;
    return j;
}

void hob_job_fail(hob_job *j, const hob_api_error *e)
{
    j->g->metrics.failed++;
    hob_meter_ended(j, e->status, HOB_FINISH_ERROR);
    for (hob_job *k = j->conn && !j->websocket ? j->conn->jobs : NULL; k; k = k->conn_next)
        hob_meter_ended(k, e->status, HOB_FINISH_ERROR); /* its answer ends with it */
    hob_trace_fail(j->trace, e);
    j->format->failed(j, e);
    hob_job_done(j);
}

/* ---- towards the engine ---- */

static void note_finish(hob_link *l, uint64_t now_us)
{
    double gap_s = (double)(now_us - l->finished_us) / 1e6;
    if (l->finished_us > 0 && gap_s < 60)
        l->finish_gap_s = l->finish_gap_s > 0 ? 0.8 * l->finish_gap_s + 0.2 * gap_s : gap_s;
    l->finished_us = now_us;
}

void hob_job_fail_busy(hob_job *j)
{
    hob_api_error e;
    hob_admission_full(j, &e);
    hob_job_fail(j, &e);
}

static bool send_json(hob_job *j, hob_message_type type, const json_t *payload)
{
    hob_text *t = &j->g->scratch;
    hob_text_clear(t);
    hob_text_json(t, payload);
    return !t->failed && hob_link_send(j->link, type, j->id, hob_text_data(t), hob_text_len(t));
}

static bool send_prepare(hob_job *j)
{
    uint32_t most = j->link->context > PROMPT_LEAST / PROMPT_FACTOR
                        ? j->link->context * PROMPT_FACTOR
                        : PROMPT_LEAST;
    if (j->id_count == 0) {
        json_t *insert = j->grounding ? hob_grounding_insert(j->grounding, hob_job_room(j)) : NULL;
        if (insert && json_object_set(j->request.prepare, "insert", insert) < 0)
            return false;
        if (json_object_set_new(j->request.prepare, "max_prompt_tokens", json_integer(most)) < 0 ||
            json_object_set_new(j->request.prepare, "tenant",
                                json_integer(j->key ? j->key->record.tenant_number : 0)) < 0)
            return false;
        return send_json(j, HOB_MSG_PREPARE, j->request.prepare);
    }
    hob_text *t = &j->g->scratch;
    hob_text_clear(t);
    hob_text_format(t, "{\"max_prompt_tokens\":%u,\"ids\":[", most);
    for (uint32_t i = 0; i < j->id_count; i++)
        hob_text_format(t, i ? ",%u" : "%u", j->ids[i]);
    hob_text_puts(t, "]}");
    return !t->failed &&
           hob_link_send(j->link, HOB_MSG_PREPARE, j->id, hob_text_data(t), hob_text_len(t));
}

uint32_t hob_job_credit_window(const hob_job *j)
{
    /* Without a stream the answer is kept here whole and bounded by max_tokens: nothing to wait for. */
    const bool stream = j->request.stream && !j->request.background;
    return stream || j->websocket ? HOB_CREDIT_TOKENS : j->max_tokens;
}

/* Those that may run and wait at its engine. */
static uint32_t places_of(const hob_link *l)
{
    return l->max_sequences + l->model->max_waiting;
}

/* An answer of more jobs than there are places is never begun. */
static int check_choices(const hob_job *j, hob_api_error *e)
{
    const uint32_t n = j->request.n ? j->request.n : 1, most = places_of(j->link);
    const size_t prompts = 1 + json_array_size(j->request.more);

    if (j->index > 0 || j->link->max_sequences == 0 || prompts * n <= most)
        return 0;
    if (n > most)
        return hob_api_bad(e, "invalid_value", "n",
                           "n: %u choices, this model runs and holds %u at once", n, most);
    return hob_api_bad(e, "invalid_value", "prompt",
                       "prompt: %zu prompts with %u choices each, this model runs and holds %u "
                       "choices at once",
                       prompts, n, most);
}

/* It holds its place meanwhile, if it takes one. */
static void retrieve(hob_job *j)
{
    hob_api_error e = {0};
    j->kept = !j->request.estimate;
    j->link->kept += j->kept;
    j->state = HOB_JOB_RETRIEVING;
    hob_trace_job(j, HOB_SPAN_RETRIEVE);
    if (hob_grounding_start(j, &e) < 0)
        hob_job_fail(j, &e);
}

void hob_job_start(hob_job *j)
{
    hob_link *l = j->link;
    hob_api_error e = {0};

    if (l->dimensions) {
        hob_api_bad(&e, "unsupported_model", "model",
                    "the model '%.63s' makes embeddings: it generates no text", l->model->name);
        hob_job_fail(j, &e);
        return;
    }
    if (l->unloading && j->state != HOB_JOB_QUEUED && !j->admitted) {
        hob_api_fail(&e, 503, "server_error", "model_unloaded", "model",
                     "the model '%.63s' has been unloaded by an administrator", l->model->name);
        hob_job_fail(j, &e);
        return;
    }
    if (j->leaves &&
        j->state == HOB_JOB_RETRIEVING) /* what can be wrong from here on is the response's */
        hob_job_to_background(j);
    /* One that waits here already is part of that load itself. */
    const uint32_t load =
        j->state == HOB_JOB_QUEUED ? l->jobs - l->estimates + l->kept : hob_link_load(l);
    if (check_choices(j, &e) < 0 || (!j->asked && hob_limits_begin(j, &e) < 0)) {
        hob_job_fail(j, &e);
        return;
    }
    if (l->state == HOB_LINK_READY && !j->admitted && j->index == 0 && !j->request.estimate &&
        !j->kept && load >= places_of(l)) {
        hob_job_fail_busy(j);
        return;
    }
    if (j->request.retrieval.stores && !j->grounding && j->id_count == 0) {
        retrieve(j);
        return;
    }
    give_place_back(j);
    if (hob_job_waits(j))
        return;
    j->state = HOB_JOB_PREPARING;
    hob_meter_preparing(j);
    hob_trace_job(j, HOB_SPAN_TOKENIZE);
    if (!send_prepare(j)) {
        hob_job_fail_busy(j); /* the queue to the engine is full */
        return;
    }
    j->counted = true;
    l->jobs++;
    l->estimates += j->request.estimate;
}

/* This choice is complete, and with the last one the answer. */
static void end_choice(hob_job *j, hob_finish finish)
{
    hob_job_uncount(j);
    hob_job_absolve(j);
    hob_meter_ended(j, 200, finish);
    j->state = HOB_JOB_ENDED;
    j->finish = finish;
    j->format->finished(j, finish);
    if (hob_choice_is_last(j))
        hob_job_done(j);
}

void hob_job_finish_cancelled(hob_job *j)
{
    j->g->metrics.cancelled++;
    end_choice(j, HOB_FINISH_CANCEL);
}

void hob_job_abandon(hob_job *j)
{
    give_up(j);
    if (j->state != HOB_JOB_ENDED)
        j->g->metrics.cancelled++;
    if (j->format->abandoned)
        j->format->abandoned(j);
    hob_job_free(j);
}

void hob_jobs_free(hob_gateway *g)
{
    while (g->jobs)
        hob_job_abandon(g->jobs);
}

void hob_job_end(hob_job *j, const hob_api_error *e)
{
    give_up(j);
    hob_job_fail(j, e);
}

void hob_job_stalled(hob_job *j)
{
    const uint32_t ms = j->g->conf->stall_timeout_ms;
    hob_api_error e;

    hob_log(HOB_LOG_INFO,
            "%s: ended, reader_stalled: nothing was read for %u ms; %u tokens generated, %zu bytes "
            "queued",
            j->response_id, ms, j->answer_tokens, j->conn->out_bytes);
    hob_api_fail(&e, 408, "invalid_request_error", "reader_stalled", NULL,
                 "nothing of the answer was read for %u ms: it ends after %u tokens", ms,
                 j->answer_tokens);
    hob_job_end(j, &e);
}

void hob_job_shut_down(hob_job *j, bool unload)
{
    hob_api_error e;
    hob_api_fail(&e, 503, "server_error", unload ? "model_unloaded" : "draining", NULL,
                 "the %s is shut down: the answer ends after %u tokens",
                 unload ? "model" : "server", j->answer_tokens);
    e.retry_after_s = unload ? 0 : HOB_DRAIN_RETRY_S;
    give_up(j);
    hob_job_fail(j, &e);
}

void hob_job_cancel(hob_job *j)
{
    if (j->cancelled)
        return;
    j->cancelled = true;
    if (j->state == HOB_JOB_PARKING)
        return; /* TOKENS "cancelled" is on its way and will end it */
    if (j->state == HOB_JOB_RUNNING) {
        (void)hob_link_send(j->link, HOB_MSG_CANCEL, j->id, NULL,
                            0); /* TOKENS "cancelled" will end it */
        return;
    }
    hob_job_stop(j);
}

void hob_job_stop(hob_job *j)
{
    give_up(j);
    hob_job_finish_cancelled(j);
}

void hob_job_drained(hob_gateway *g, uint64_t id, uint32_t tokens)
{
    hob_job *j = hob_job_find(g, id);
    uint8_t payload[4];

    if (!j)
        return;
    j->undrained -= tokens < j->undrained ? tokens : j->undrained;
    uint32_t held = j->undrained + j->credit, window = hob_job_credit_window(j);
    /* In portions, so that a frame of credit does not go out for each token. */
    if (j->state != HOB_JOB_RUNNING || held >= window || window - held < (window + 3) / 4)
        return;
    hob_put_u32(payload, window - held);
    if (hob_link_send(j->link, HOB_MSG_CREDIT, j->id, payload, sizeof payload)) {
        j->credit = window - j->undrained;
        hob_trace_stall(j, false);
    }
}

/* ---- from the engine ---- */

int hob_job_keep_ids(hob_job *j, const uint8_t *ids, uint32_t count)
{
    if (count > j->id_capacity - j->id_count) {
        uint32_t need = j->id_count + count, capacity = j->id_capacity ? j->id_capacity : 256;
        while (capacity < need)
            capacity *= 2;
        uint32_t *grown = realloc(j->ids, capacity * sizeof *grown);
        if (!grown)
            return HOB_ENOMEM;
        j->ids = grown;
        j->id_capacity = capacity;
    }
    for (uint32_t i = 0; i < count; i++)
        j->ids[j->id_count++] = hob_get_u32(ids + 4 * i);
    return 0;
}

int hob_job_keep_prompt(hob_job *j, const hob_job *leader)
{
    uint32_t *ids = malloc((size_t)leader->prompt_tokens * sizeof *ids);
    if (!ids)
        return HOB_ENOMEM;
    memcpy(ids, leader->ids, (size_t)leader->prompt_tokens * sizeof *ids);
    j->ids = ids;
    j->id_count = j->id_capacity = j->prompt_tokens = leader->prompt_tokens;
    j->grounds = json_incref(leader->grounds);
    j->max_tokens = leader->max_tokens;
    return 0;
}

static void finish_job(hob_job *j, uint8_t finish)
{
    hob_gateway *g = j->g;
    hob_api_error e;

    if (finish == HOB_FINISH_ERROR || (finish == HOB_FINISH_CANCEL && !j->cancelled)) {
        hob_api_fail(&e, 500, "server_error", "engine_error", NULL,
                     "the engine could not go on with this request");
        hob_job_fail(j, &e);
        return;
    }
    note_finish(j->link, hob_now_us());
    hob_admission_learn(j);
    j->link->failures = 0; /* it does its work again */
    g->metrics.finished++;
    end_choice(j, (hob_finish)finish);
}

void hob_job_tokens(hob_gateway *g, hob_link *l, uint64_t id, const hob_tokens_message *t)
{
    hob_job *j = hob_job_find(g, id);
    json_t *logprobs = NULL;
    hob_api_error e;

    if (!j || j->link != l)
        return; /* cancelled a moment ago */
    const bool first = j->id_count == j->prompt_tokens;
    if ((j->state != HOB_JOB_RUNNING && j->state != HOB_JOB_PARKING) ||
        t->token_count > j->credit || t->finish > HOB_FINISH_ERROR ||
        j->id_count - j->prompt_tokens + t->token_count > j->max_tokens) {
        hob_link_fail(l, "TOKENS beyond what was asked");
        return;
    }
    if (hob_job_keep_ids(j, t->ids, t->token_count) < 0) {
        hob_api_fail(&e, 503, "server_error", "out_of_memory", NULL, "no memory for the answer");
        hob_job_end(j, &e);
        return;
    }
    uint64_t now = hob_now_us();
    hob_meter_tokens(j, t, now);
    if (t->token_count > 0 && j->first_token_us == 0) {
        j->first_token_us = now;
        hob_admission_first_token(j, now);
        g->metrics.cached_tokens[l->index] += t->cached_tokens;
    }
    if (first) /* a later engine finds part of the answer in its cache, too */
        j->cached_tokens = t->cached_tokens;
    j->answer_tokens = j->id_count - j->prompt_tokens;
    hob_limits_spend(j, t->token_count);
    j->credit -= t->token_count;
    j->undrained += t->token_count;
    hob_trace_tokens(j, t);
    g->metrics.answer_tokens[l->index] += t->token_count;
    if (t->has_logprobs && j->request.logprobs) {
        logprobs = json_loadb(t->logprobs, t->logprobs_len, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_array(logprobs)) {
            json_decref(logprobs);
            hob_link_fail(l, "logprobs that are no JSON list");
            return;
        }
    }
    if (t->token_count > 0 || t->text_len > 0)
        j->format->tokens(j, t, logprobs);
    json_decref(logprobs);
    if (!(j = hob_job_find(g, id))) /* what it keeps may have grown too large */
        return;
    /* As long as the outbox holds something, its reader is slower than the engine: what comes meanwhile is one event. */
    if (!j->conn || j->conn->out_bytes == 0)
        j->format->flush(j);
    if (first) {
        hob_choices_start(j);
        if (!(j = hob_job_find(g, id)))
            return;
    }
    hob_job_progressed(j);
    if (t->finish == HOB_FINISH_CANCEL && j->state == HOB_JOB_PARKING && !j->cancelled)
        hob_job_parked(j);
    else if (t->finish != HOB_FINISH_NONE)
        finish_job(j, t->finish);
}

/* ERROR's code as an HTTP status. */
void hob_job_refused(hob_gateway *g, hob_link *l, uint64_t id, json_t *error)
{
    hob_job *j = hob_job_find(g, id);
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *param = json_string_value(json_object_get(error, "param"));
    json_t *tokens = json_object_get(error, "tokens");
    hob_api_error e = {0};

    if (!j || j->link != l)
        return;
    code = code ? code : "HOB_E?";
    message = message ? message : "the engine refused the request";
    if (strcmp(code, "HOB_ELIMIT") == 0 && json_is_integer(tokens) &&
        j->state == HOB_JOB_PREPARING && json_integer_value(tokens) > 0 &&
        json_integer_value(tokens) < UINT32_MAX)
        (void)hob_job_fits(j, (uint32_t)json_integer_value(tokens), &e);
    if (e.status)
        ;
    else if (strcmp(code, "HOB_ELIMIT") == 0 && j->state == HOB_JOB_RUNNING) {
        hob_job_fail_busy(j);
        return;
    } else if (strcmp(code, "HOB_EINVAL") == 0 || strcmp(code, "HOB_ELIMIT") == 0 ||
               strcmp(code, "HOB_EUNSUPPORTED") == 0)
        hob_api_bad(&e, "invalid_prompt", param, "%s", message);
    else
        hob_link_explain_failure(code, message, &e);
    hob_job_fail(j, &e);
}
