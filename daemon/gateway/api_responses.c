/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of /v1/responses: one object, server-sent events, or the same events as WebSocket messages. A response
 * has one output item, a message, with one part of text. A response that was cancelled ends with response.incomplete
 * and the status "cancelled": OpenAI's events have no other end for it. */
#include <string.h>

#include "daemon/gateway/state.h"

static void echo(hob_text *t, const hob_job *j, const char *name, const char *otherwise)
{
    json_t *value = json_object_get(j->request.echo, name);
    hob_text_format(t, ",\"%s\":", name);
    if (value)
        hob_text_json(t, value);
    else
        hob_text_puts(t, otherwise);
}

static void text_part(hob_text *t, const hob_job *j, bool whole)
{
    bool some = whole && hob_text_len(&j->text) > 0;
    hob_text_puts(t, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":");
    if (whole && j->logprobs)
        hob_text_json(t, j->logprobs);
    else
        hob_text_puts(t, "[]");
    hob_text_puts(t, ",\"text\":");
    hob_text_string(t, some ? hob_text_data(&j->text) : "", some ? hob_text_len(&j->text) : 0);
    hob_text_puts(t, "}");
}

/* status NULL: in progress, nothing there yet. */
static void item(hob_text *t, const hob_job *j, const char *status)
{
    hob_text_format(t,
                    "{\"id\":\"%s\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
                    "\"content\":[",
                    j->item_id, status ? status : "in_progress");
    if (status)
        text_part(t, j, true);
    hob_text_puts(t, "]}");
}

static const char *response_status(hob_finish finish)
{
    return finish == HOB_FINISH_STOP     ? "completed"
           : finish == HOB_FINISH_CANCEL ? "cancelled"
                                         : "incomplete";
}

static void response_object(hob_text *t, const hob_job *j, hob_finish finish)
{
    const char *model = j->link->model->name;

    hob_text_format(
        t,
        "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"model\":",
        j->response_id, (long long)j->created_s, finish ? response_status(finish) : "in_progress");
    hob_text_string(t, model, strlen(model));
    hob_text_puts(t, ",\"background\":false,\"error\":null,\"incomplete_details\":");
    hob_text_puts(t, finish == HOB_FINISH_LENGTH ? "{\"reason\":\"max_output_tokens\"}" : "null");
    hob_text_puts(t, ",\"output\":[");
    if (finish)
        item(t, j, finish == HOB_FINISH_STOP ? "completed" : "incomplete");
    hob_text_puts(t,
                  "],\"parallel_tool_calls\":false,\"previous_response_id\":null,\"store\":false,"
                  "\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"none\",\"tools\":[],"
                  "\"reasoning\":{\"effort\":null,\"summary\":null},\"truncation\":\"disabled\"");
    echo(t, j, "instructions", "null");
    echo(t, j, "max_output_tokens", "null");
    echo(t, j, "metadata", "{}");
    echo(t, j, "temperature", "1.0");
    echo(t, j, "top_p", "1.0");
    echo(t, j, "top_logprobs", "0");
    echo(t, j, "user", "null");
    echo(t, j, "safety_identifier", "null");
    echo(t, j, "prompt_cache_key", "null");
    if (finish)
        hob_text_format(
            t,
            ",\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u,"
            "\"cache_write_tokens\":0},\"output_tokens\":%u,\"output_tokens_details\":"
            "{\"reasoning_tokens\":0},\"total_tokens\":%u}}",
            j->prompt_tokens, j->cached_tokens, j->answer_tokens,
            j->prompt_tokens + j->answer_tokens);
    else
        hob_text_puts(t, ",\"usage\":null}");
}

/* ---- events ---- */

static hob_text *event_head(hob_job *j, const char *type)
{
    hob_text *t = &j->g->scratch;
    hob_text_clear(t);
    if (!j->websocket)
        hob_text_format(t, "event: %s\ndata: ", type);
    hob_text_format(t, "{\"type\":\"%s\",\"sequence_number\":%llu", type,
                    (unsigned long long)j->sequence++);
    return t;
}

static void send_event(hob_job *j, hob_text *t, uint32_t tokens)
{
    if (j->request.has_stream_id) {
        hob_text_puts(t, ",\"stream_id\":");
        hob_text_string(t, j->request.stream_id, strlen(j->request.stream_id));
    }
    hob_text_puts(t, j->websocket ? "}" : "}\n\n");
    if (!j->websocket)
        hob_http_stream_add(j->conn, t, j->id, tokens);
    else if (t->failed)
        hob_conn_kill(j->conn, "no memory for an event");
    else
        hob_conn_queue(j->conn, hob_text_data(t), hob_text_len(t), j->id, tokens);
}

static void send_response(hob_job *j, const char *type, hob_finish finish)
{
    hob_text *t = event_head(j, type);
    hob_text_puts(t, ",\"response\":");
    response_object(t, j, finish);
    send_event(j, t, 0);
}

static void send_item(hob_job *j, const char *type, const char *status)
{
    hob_text *t = event_head(j, type);
    hob_text_puts(t, ",\"output_index\":0,\"item\":");
    item(t, j, status);
    send_event(j, t, 0);
}

static hob_text *part_head(hob_job *j, const char *type)
{
    hob_text *t = event_head(j, type);
    hob_text_format(t, ",\"item_id\":\"%s\",\"output_index\":0,\"content_index\":0", j->item_id);
    return t;
}

static void send_part(hob_job *j, const char *type, bool whole)
{
    hob_text *t = part_head(j, type);
    hob_text_puts(t, ",\"part\":");
    text_part(t, j, whole);
    send_event(j, t, 0);
}

static bool has_events(const hob_job *j)
{
    return j->websocket || j->request.stream;
}

static void on_admitted(hob_job *j)
{
    if (!has_events(j))
        return;
    j->began = true;
    if (!j->websocket)
        hob_http_stream_begin(j->conn);
    send_response(j, "response.created", HOB_FINISH_NONE);
    send_response(j, "response.in_progress", HOB_FINISH_NONE);
    send_item(j, "response.output_item.added", NULL);
    send_part(j, "response.content_part.added", false);
}

static void on_tokens(hob_job *j, const hob_tokens_message *m, json_t *logprobs)
{
    hob_text_add(&j->text, m->text, m->text_len); /* the closing events repeat it */
    if (logprobs && !j->logprobs)
        j->logprobs = json_copy(logprobs);
    else if (logprobs && json_array_extend(j->logprobs, logprobs) < 0)
        j->text.failed = true;
    if (!has_events(j) || (m->text_len == 0 && !(logprobs && json_array_size(logprobs) > 0))) {
        hob_job_drained(j->g, j->id, m->token_count);
        return;
    }
    hob_text *t = part_head(j, "response.output_text.delta");
    hob_text_puts(t, ",\"delta\":");
    hob_text_string(t, m->text, m->text_len);
    hob_text_puts(t, ",\"logprobs\":");
    if (logprobs)
        hob_text_json(t, logprobs);
    else
        hob_text_puts(t, "[]");
    send_event(j, t, m->token_count);
}

static void on_finished(hob_job *j, hob_finish finish)
{
    if (j->text.failed) {
        hob_conn_kill(j->conn, "no memory for an answer");
        return;
    }
    if (!has_events(j)) {
        hob_text t = {0};
        response_object(&t, j, finish);
        hob_text_puts(&t, "\n");
        if (t.failed)
            hob_conn_kill(j->conn, "no memory for an answer");
        else
            hob_http_respond(j->conn, 200, "application/json", "", hob_text_data(&t),
                             hob_text_len(&t));
        hob_text_free(&t);
        return;
    }
    if (j->began) {
        hob_text *t = part_head(j, "response.output_text.done");
        hob_text_puts(t, ",\"text\":");
        hob_text_string(t, hob_text_len(&j->text) ? hob_text_data(&j->text) : "",
                        hob_text_len(&j->text));
        hob_text_puts(t, ",\"logprobs\":");
        if (j->logprobs)
            hob_text_json(t, j->logprobs);
        else
            hob_text_puts(t, "[]");
        send_event(j, t, 0);
        send_part(j, "response.content_part.done", true);
        send_item(j, "response.output_item.done",
                  finish == HOB_FINISH_STOP ? "completed" : "incomplete");
    } else if (!j->websocket)
        hob_http_stream_begin(j->conn);
    send_response(j, finish == HOB_FINISH_STOP ? "response.completed" : "response.incomplete",
                  finish);
    if (!j->websocket)
        hob_http_stream_end(j->conn);
}

static void on_failed(hob_job *j, const hob_api_error *e)
{
    if (j->websocket) {
        hob_websocket_error(j->conn, j, NULL, e);
        return;
    }
    if (!j->began) {
        hob_http_error(j->conn, e);
        return;
    }
    hob_text *t = event_head(j, "error");
    hob_text_format(t, ",\"code\":\"%s\",\"message\":", e->code ? e->code : e->type);
    hob_text_string(t, e->message, strlen(e->message));
    hob_text_puts(t, ",\"param\":null");
    send_event(j, t, 0);
    hob_http_stream_end(j->conn);
}

const hob_format hob_format_responses = {
    .admitted = on_admitted, .tokens = on_tokens, .finished = on_finished, .failed = on_failed};
