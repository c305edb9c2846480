/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of /v1/responses: one object, server-sent events, or the same events as WebSocket messages. A response
 * has one output item, a message, with one part of text, and in front of it one for the search in documents that it was
 * asked for. A response that was cancelled ends with response.incomplete and the status "cancelled": OpenAI's events have no
 * other end for it.
 *
 * The events of a response are, in order: created, in the background queued, in_progress, those of the search, the beginnings
 * of item and part, deltas, annotations, the ends of text, part and item, and the response's end. One that never ran has
 * only the first and the last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

enum { CHECK_EVERY = 8, DELTAS_LEAST = 64 };

typedef enum event {
    EVENT_CREATED,
    EVENT_QUEUED,
    EVENT_IN_PROGRESS,
    EVENT_SEARCH_ADDED,
    EVENT_SEARCH_BEGUN,
    EVENT_SEARCHING,
    EVENT_SEARCHED,
    EVENT_SEARCH_DONE,
    EVENT_ITEM_ADDED,
    EVENT_PART_ADDED,
    EVENT_DELTA,
    EVENT_ANNOTATION,
    EVENT_TEXT_DONE,
    EVENT_PART_DONE,
    EVENT_ITEM_DONE,
    EVENT_END,
} event;

/* ---- the object ---- */

static void echo(hob_text *t, const hob_response *r, const char *name, const char *otherwise)
{
    json_t *value = json_object_get(r->echo, name);
    hob_text_format(t, ",\"%s\":", name);
    if (value)
        hob_text_json(t, value);
    else
        hob_text_puts(t, otherwise);
}

static void list_of(hob_text *t, const json_t *list)
{
    if (list)
        hob_text_json(t, list);
    else
        hob_text_puts(t, "[]");
}

static void answer(hob_text *t, const hob_response *r)
{
    const size_t len = hob_text_len(&r->text);
    hob_text_string(t, len ? hob_text_data(&r->text) : "", len);
}

static void text_part(hob_text *t, const hob_response *r, bool whole)
{
    hob_text_puts(t, "{\"type\":\"output_text\",\"annotations\":");
    list_of(t, whole ? json_object_get(r->grounds, "citations") : NULL);
    hob_text_puts(t, ",\"logprobs\":");
    list_of(t, whole ? r->logprobs : NULL);
    hob_text_puts(t, ",\"text\":");
    if (whole)
        answer(t, r);
    else
        hob_text_puts(t, "\"\"");
    hob_text_puts(t, "}");
}

static const char *item_status(const hob_response *r)
{
    return r->status == HOB_RESPONSE_COMPLETED     ? "completed"
           : r->status == HOB_RESPONSE_IN_PROGRESS ? "in_progress"
                                                   : "incomplete";
}

static void item(hob_text *t, const hob_response *r, bool whole)
{
    hob_text_format(t,
                    "{\"id\":\"%s\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
                    "\"content\":[",
                    r->item_id, whole ? item_status(r) : "in_progress");
    if (whole)
        text_part(t, r, true);
    hob_text_puts(t, "]}");
}

static const char *search_status(const hob_response *r)
{
    const char *s =
        json_string_value(json_object_get(json_object_get(r->grounds, "hob_retrieval"), "status"));
    return s && strcmp(s, "timed_out") == 0 ? "incomplete" : s ? s : "failed";
}

static void search_item(hob_text *t, const hob_response *r, bool whole)
{
    const json_t *results = json_object_get(r->grounds, "results");

    hob_text_format(t,
                    "{\"id\":\"%s\",\"type\":\"file_search_call\",\"status\":\"%s\","
                    "\"queries\":",
                    r->search_id, whole ? search_status(r) : "in_progress");
    list_of(t, whole ? json_object_get(r->grounds, "queries") : NULL);
    hob_text_puts(t, ",\"results\":");
    if (whole && results)
        hob_text_json(t, results);
    else
        hob_text_puts(t, "null");
    hob_text_puts(t, "}");
}

/* What is in front of the message, of the response's output. */
static int message_index(const hob_response *r)
{
    return r->grounds ? 1 : 0;
}

static const char *status_name(hob_response_status status)
{
    static const char *const names[] = {"queued",     "in_progress", "completed",
                                        "incomplete", "cancelled",   "failed"};
    return names[status];
}

static void string_or_null(hob_text *t, const char *s)
{
    if (s[0])
        hob_text_string(t, s, strlen(s));
    else
        hob_text_puts(t, "null");
}

static void error_or_null(hob_text *t, const hob_response *r, bool whole)
{
    if (!whole || !r->error_code) {
        hob_text_puts(t, "null");
        return;
    }
    hob_text_format(t, "{\"code\":\"%s\",\"message\":", r->error_code);
    const char *message = r->error_message ? r->error_message : "";
    hob_text_string(t, message, strlen(message));
    hob_text_puts(t, "}");
}

static void usage_or_null(hob_text *t, const hob_response *r, bool whole)
{
    if (!whole || r->status < HOB_RESPONSE_COMPLETED) {
        hob_text_puts(t, ",\"usage\":null");
        return;
    }
    hob_text_format(
        t,
        ",\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u,"
        "\"cache_write_tokens\":0},\"output_tokens\":%u,\"output_tokens_details\":"
        "{\"reasoning_tokens\":0},\"total_tokens\":%u}",
        r->prompt_tokens, r->cached_tokens, r->answer_tokens, r->prompt_tokens + r->answer_tokens);
}

/* whole: as it stands; else as an early event shows it, with this status and no output. */
static void response_object(hob_text *t, const hob_response *r, hob_response_status status,
                            bool whole)
{
    const char *model = r->g->links[r->model].model->name;

    hob_text_format(
        t,
        "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"model\":",
        r->id, (long long)r->created_s, status_name(status));
    hob_text_string(t, model, strlen(model));
    if (whole && r->completed_s)
        hob_text_format(t, ",\"completed_at\":%lld", (long long)r->completed_s);
    else
        hob_text_puts(t, ",\"completed_at\":null");
    hob_text_format(t, ",\"background\":%s,\"error\":", r->background ? "true" : "false");
    error_or_null(t, r, whole);
    hob_text_puts(t, ",\"incomplete_details\":");
    hob_text_puts(t, status == HOB_RESPONSE_INCOMPLETE ? "{\"reason\":\"max_output_tokens\"}"
                                                       : "null");
    hob_text_puts(t, ",\"output\":[");
    if (whole && r->grounds) {
        search_item(t, r, true);
        hob_text_puts(t, ",");
    }
    if (whole && (r->began || r->status == HOB_RESPONSE_COMPLETED))
        item(t, r, true);
    hob_text_puts(t, "],\"parallel_tool_calls\":false,\"previous_response_id\":");
    string_or_null(t, r->previous);
    hob_text_format(t, ",\"store\":%s", r->store ? "true" : "false");
    if (whole && r->grounds) {
        hob_text_puts(t, ",\"hob_retrieval\":");
        hob_text_json(t, json_object_get(r->grounds, "hob_retrieval"));
    }
    hob_text_puts(t, ",\"text\":{\"format\":{\"type\":\"text\"}},"
                     "\"reasoning\":{\"effort\":null,\"summary\":null},"
                     "\"truncation\":\"disabled\"");
    echo(t, r, "tools", "[]");
    echo(t, r, "tool_choice", json_object_get(r->echo, "tools") ? "\"auto\"" : "\"none\"");
    echo(t, r, "instructions", "null");
    echo(t, r, "max_output_tokens", "null");
    echo(t, r, "metadata", "{}");
    echo(t, r, "temperature", "1.0");
    echo(t, r, "top_p", "1.0");
    echo(t, r, "top_logprobs", "0");
    echo(t, r, "user", "null");
    echo(t, r, "safety_identifier", "null");
    echo(t, r, "prompt_cache_key", "null");
    usage_or_null(t, r, whole);
    hob_text_puts(t, "}");
}

void hob_response_object(hob_text *t, const hob_response *r)
{
    response_object(t, r, r->status, true);
}

/* ---- events ---- */

static const char *event_name(event what, const hob_response *r)
{
    static const char *const names[] = {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    };
    if (what != EVENT_END)
        return names[what];
    return r->status == HOB_RESPONSE_COMPLETED ? "response.completed"
           : r->status == HOB_RESPONSE_FAILED  ? "response.failed"
                                               : "response.incomplete";
}

/* logprobs from `first` up to, but not including, `end`. */
static void some_logprobs(hob_text *t, const json_t *list, uint32_t first, uint32_t end)
{
    hob_text_puts(t, "[");
    for (uint32_t i = first; i < end; i++) {
        hob_text_puts(t, i > first ? "," : "");
        hob_text_json(t, json_array_get(list, i));
    }
    hob_text_puts(t, "]");
}

static void delta(hob_text *t, const hob_response *r, hob_delta from, hob_delta to)
{
    hob_text_puts(t, ",\"delta\":");
    hob_text_string(t, to.text > from.text ? hob_text_data(&r->text) + from.text : "",
                    to.text - from.text);
    hob_text_puts(t, ",\"logprobs\":");
    some_logprobs(t, r->logprobs, from.logprobs, to.logprobs);
}

static void annotation(hob_text *t, const hob_response *r, uint32_t index)
{
    hob_text_format(t, ",\"annotation_index\":%u,\"annotation\":", index);
    hob_text_json(t, json_array_get(json_object_get(r->grounds, "citations"), index));
}

/* All of the event but its closing brace. from, to: of a delta; from.text: of an annotation its index. */
static void write_event(hob_text *t, const hob_response *r, event what, uint64_t number,
                        hob_delta from, hob_delta to)
{
    const hob_response_status first =
        r->background ? HOB_RESPONSE_QUEUED : HOB_RESPONSE_IN_PROGRESS;

    hob_text_format(t, "{\"type\":\"%s\",\"sequence_number\":%llu", event_name(what, r),
                    (unsigned long long)number);
    if (what <= EVENT_IN_PROGRESS || what == EVENT_END) {
        hob_text_puts(t, ",\"response\":");
        response_object(t, r,
                        what == EVENT_END           ? r->status
                        : what == EVENT_IN_PROGRESS ? HOB_RESPONSE_IN_PROGRESS
                                                    : first,
                        what == EVENT_END);
        return;
    }
    if (what == EVENT_SEARCH_ADDED || what == EVENT_SEARCH_DONE) {
        hob_text_puts(t, ",\"output_index\":0,\"item\":");
        search_item(t, r, what == EVENT_SEARCH_DONE);
        return;
    }
    if (what > EVENT_SEARCH_ADDED && what < EVENT_SEARCH_DONE) {
        hob_text_format(t, ",\"item_id\":\"%s\",\"output_index\":0", r->search_id);
        return;
    }
    if (what == EVENT_ITEM_ADDED || what == EVENT_ITEM_DONE) {
        hob_text_format(t, ",\"output_index\":%d,\"item\":", message_index(r));
        item(t, r, what == EVENT_ITEM_DONE);
        return;
    }
    hob_text_format(t, ",\"item_id\":\"%s\",\"output_index\":%d,\"content_index\":0", r->item_id,
                    message_index(r));
    if (what == EVENT_DELTA)
        delta(t, r, from, to);
    else if (what == EVENT_ANNOTATION)
        annotation(t, r, from.text);
    else if (what == EVENT_TEXT_DONE) {
        hob_text_puts(t, ",\"text\":");
        answer(t, r);
        hob_text_puts(t, ",\"logprobs\":");
        list_of(t, r->logprobs);
    } else {
        hob_text_puts(t, ",\"part\":");
        text_part(t, r, what == EVENT_PART_DONE);
    }
}

static const hob_delta nowhere = {0, 0};

/* ---- of a background response, by number ---- */

enum { BEFORE_IT_RUNS = EVENT_IN_PROGRESS, OF_SEARCH = EVENT_ITEM_ADDED - EVENT_SEARCH_ADDED };

static uint32_t annotations_of(const hob_response *r)
{
    return (uint32_t)json_array_size(json_object_get(r->grounds, "citations"));
}

/* Of one that has begun: events in front of its deltas. */
static uint32_t before_deltas(const hob_response *r)
{
    return EVENT_DELTA - (r->grounds ? 0 : OF_SEARCH);
}

uint64_t hob_response_event_count(const hob_response *r)
{
    uint64_t n = r->began ? (uint64_t)before_deltas(r) + r->delta_count : BEFORE_IT_RUNS;
    if (r->status >= HOB_RESPONSE_COMPLETED)
        n += r->began ? annotations_of(r) + EVENT_END + 1 - EVENT_TEXT_DONE : 1;
    return n;
}

void hob_response_event(hob_text *t, const hob_response *r, uint64_t number)
{
    hob_delta from = nowhere, to = nowhere;
    event what;

    const uint32_t before = before_deltas(r);
    if (!r->began)
        what = number < BEFORE_IT_RUNS ? (event)number : EVENT_END;
    else if (number < EVENT_SEARCH_ADDED)
        what = (event)number;
    else if (number < before)
        what = (event)(number + EVENT_DELTA - before);
    else if (number < before + (uint64_t)r->delta_count) {
        const uint32_t i = (uint32_t)number - before;
        what = EVENT_DELTA;
        from = i > 0 ? r->deltas[i - 1] : nowhere;
        to = r->deltas[i];
    } else {
        const uint64_t left = number - before - r->delta_count, annotations = annotations_of(r);
        what =
            left < annotations ? EVENT_ANNOTATION : (event)(EVENT_TEXT_DONE + (left - annotations));
        from.text = left < annotations ? (uint32_t)left : 0;
    }
    hob_text_format(t, "event: %s\ndata: ", event_name(what, r));
    write_event(t, r, what, number, from, to);
    hob_text_puts(t, "}\n\n");
}

static int keep_delta(hob_response *r)
{
    if (r->delta_count == r->delta_capacity) {
        const uint32_t capacity = r->delta_capacity ? 2 * r->delta_capacity : DELTAS_LEAST;
        hob_delta *grown = realloc(r->deltas, capacity * sizeof *grown);
        if (!grown)
            return HOB_ENOMEM;
        r->deltas = grown;
        r->delta_capacity = capacity;
    }
    r->deltas[r->delta_count++] =
        (hob_delta){(uint32_t)hob_text_len(&r->text), (uint32_t)json_array_size(r->logprobs)};
    return 0;
}

/* ---- of one with a connection ---- */

static bool has_events(const hob_job *j)
{
    return j->conn && (j->websocket || j->request.stream);
}

static void send_event(hob_job *j, event what, hob_delta from, hob_delta to, uint32_t tokens)
{
    const hob_response *r = j->response;
    hob_text *t = &j->g->scratch;

    hob_text_clear(t);
    if (!j->websocket)
        hob_text_format(t, "event: %s\ndata: ", event_name(what, r));
    write_event(t, r, what, j->sequence++, from, to);
    if (j->request.has_stream_id) {
        hob_text_puts(t, ",\"stream_id\":");
        hob_text_string(t, j->request.stream_id, strlen(j->request.stream_id));
    }
    hob_text_puts(t, j->websocket ? "}" : "}\n\n");
    if (!j->websocket)
        hob_http_stream_add(j->conn, t, j->id, tokens);
    else if (t->failed)
        hob_conn_kill(j->conn, "no memory for an event");
    else {
        hob_trace_queued(j, hob_text_len(t));
        hob_conn_queue(j->conn, hob_text_data(t), hob_text_len(t), j->id, tokens);
    }
}

static void send_plain(hob_job *j, event what)
{
    send_event(j, what, nowhere, nowhere, 0);
}

static void on_admitted(hob_job *j)
{
    hob_response *r = j->response;
    r->status = HOB_RESPONSE_IN_PROGRESS;
    r->began = true;
    r->grounds = json_incref(j->grounds);
    r->grounds_bytes = j->grounds_bytes;
    hob_response_changed(r);
    if (!has_events(j))
        return;
    j->began = true;
    if (!j->websocket && !j->conn->streaming)
        hob_http_stream_begin(j->conn);
    send_plain(j, EVENT_CREATED);
    send_plain(j, EVENT_IN_PROGRESS);
    for (event what = EVENT_SEARCH_ADDED; r->grounds && what <= EVENT_SEARCH_DONE; what++)
        send_plain(j, what);
    send_plain(j, EVENT_ITEM_ADDED);
    send_plain(j, EVENT_PART_ADDED);
}

static void fail_full(hob_job *j, const char *code, const char *why)
{
    hob_api_error e;
    hob_api_fail(&e, 503, "server_error", code, NULL, "%s", why);
    hob_job_end(j, &e);
}

static void on_tokens(hob_job *j, const hob_tokens_message *m, json_t *logprobs)
{
    hob_response *r = j->response;

    hob_text_add(&r->text, m->text, m->text_len);
    if (logprobs && !r->logprobs)
        r->logprobs = json_copy(logprobs);
    else if (logprobs && json_array_extend(r->logprobs, logprobs) < 0)
        r->text.failed = true;
    if (r->logprobs)
        r->logprob_bytes += 4 * m->logprobs_len; /* as objects they take several times their text */
    r->answer_tokens = j->answer_tokens;
    j->pending += m->token_count;
    if (!r->background)
        return;
    if (m->text_len > 0 || json_array_size(logprobs) > 0) {
        if (r->text.failed || keep_delta(r) < 0) {
            fail_full(j, "out_of_memory", "no memory for the answer");
            return;
        }
        if (r->delta_count % CHECK_EVERY == 0 && !hob_responses_trim(j->g)) {
            fail_full(j, "response_store_full",
                      "the responses that run take more than limits.response_store_bytes");
            return;
        }
    }
    hob_response_changed(r);
}

/* What came since the last delta is one event, however many tokens. */
static void flush(hob_job *j)
{
    hob_response *r = j->response;
    const hob_delta from = {r->sent, r->sent_logprobs};
    const hob_delta to = {(uint32_t)hob_text_len(&r->text), (uint32_t)json_array_size(r->logprobs)};
    const uint32_t tokens = j->pending;

    j->pending = 0;
    if (!has_events(j) || (to.text == from.text && to.logprobs == from.logprobs)) {
        if (tokens > 0)
            hob_job_drained(j->g, j->id, tokens); /* nothing to send: nothing to wait for */
        return;
    }
    r->sent = to.text;
    r->sent_logprobs = to.logprobs;
    send_event(j, EVENT_DELTA, from, to, tokens);
}

/* ---- the end ---- */

static void end_response(hob_job *j, hob_response_status status)
{
    hob_response *r = j->response;
    r->status = status;
    r->completed_s = (int64_t)time(NULL);
    r->prompt_tokens = j->prompt_tokens;
    r->cached_tokens = j->cached_tokens;
    r->answer_tokens = j->answer_tokens;
}

static void send_end(hob_job *j)
{
    if (j->began) {
        for (uint32_t i = 0; i < annotations_of(j->response); i++)
            send_event(j, EVENT_ANNOTATION, (hob_delta){i, 0}, nowhere, 0);
        send_plain(j, EVENT_TEXT_DONE);
        send_plain(j, EVENT_PART_DONE);
        send_plain(j, EVENT_ITEM_DONE);
    } else if (!j->websocket && !j->conn->streaming)
        hob_http_stream_begin(j->conn);
    send_plain(j, EVENT_END);
    if (!j->websocket)
        hob_http_stream_end(j->conn);
}

static void respond(hob_job *j)
{
    hob_text t = {0};
    hob_response_object(&t, j->response);
    hob_text_puts(&t, "\n");
    if (t.failed)
        hob_conn_kill(j->conn, "no memory for an answer");
    else
        hob_http_respond(j->conn, 200, "application/json", "", hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

static void on_finished(hob_job *j, hob_finish finish)
{
    flush(j);
    end_response(j, finish == HOB_FINISH_STOP     ? HOB_RESPONSE_COMPLETED
                    : finish == HOB_FINISH_CANCEL ? HOB_RESPONSE_CANCELLED
                                                  : HOB_RESPONSE_INCOMPLETE);
    if (!j->conn)
        return;
    if (j->response->text.failed)
        hob_conn_kill(j->conn, "no memory for an answer");
    else if (has_events(j))
        send_end(j);
    else
        respond(j);
}

/* An event stream whose response was not even created. */
static void send_error(hob_job *j, const hob_api_error *e)
{
    hob_text *t = &j->g->scratch;
    hob_text_clear(t);
    hob_text_format(t,
                    "event: error\ndata: {\"type\":\"error\",\"sequence_number\":%llu,\"code\":"
                    "\"%s\",\"message\":",
                    (unsigned long long)j->sequence++, e->code ? e->code : e->type);
    hob_text_string(t, e->message, strlen(e->message));
    hob_text_puts(t, ",\"param\":");
    string_or_null(t, e->param);
    hob_text_puts(t, "}\n\n");
    hob_http_stream_add(j->conn, t, 0, 0);
    hob_http_stream_end(j->conn);
}

static void on_failed(hob_job *j, const hob_api_error *e)
{
    hob_response *r = j->response;

    flush(j);
    end_response(j, HOB_RESPONSE_FAILED);
    r->error_code = e->code ? e->code : e->type;
    r->error_message = strdup(e->message);
    if (!j->conn)
        return;
    if (j->began) {
        send_end(j);
        return;
    }
    hob_response_unlist(r); /* its id was never told */
    if (j->websocket)
        hob_websocket_error(j->conn, j, NULL, e);
    else if (j->conn->streaming)
        send_error(j, e);
    else
        hob_http_error(j->conn, e);
}

static void on_abandoned(hob_job *j)
{
    end_response(j, HOB_RESPONSE_CANCELLED);
}

const hob_format hob_format_responses = {.admitted = on_admitted,
                                         .tokens = on_tokens,
                                         .flush = flush,
                                         .finished = on_finished,
                                         .failed = on_failed,
                                         .abandoned = on_abandoned};
