/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of /v1/chat/completions and /v1/completions, whole or as server-sent events. Both send a piece of text
 * with one choice, and differ in what they call it. Each choice is a job: choices.c. */
#include <string.h>

#include "daemon/gateway/state.h"

static bool is_chat(const hob_job *j)
{
    return j->request.kind == HOB_API_CHAT;
}

/* {"id": … "choices": — what every object begins with. */
static void object_head(hob_text *t, const hob_job *j, const char *object)
{
    const char *model = j->link->model->name;
    hob_text_format(t,
                    "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", j->response_id,
                    object, (long long)j->created_s);
    hob_text_string(t, model, strlen(model));
    hob_text_puts(t, ",\"system_fingerprint\":\"hob-" HOB_VERSION "\",\"choices\":[");
}

static const char *stream_object(const hob_job *j)
{
    return is_chat(j) ? "chat.completion.chunk" : "text_completion";
}

static void usage(hob_text *t, const hob_job *j)
{
    const hob_usage u = hob_choices_usage(j);
    hob_text_format(t,
                    "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
                    "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
                    u.prompt, u.answer, u.prompt + u.answer, u.cached);
}

static const char *finish_reason(hob_finish finish)
{
    return finish == HOB_FINISH_LENGTH ? "length" : "stop";
}

static size_t characters(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

static void add_token_text(hob_text *t, json_t *entry)
{
    json_t *token = json_object_get(entry, "token");
    hob_text_string(t, json_is_string(token) ? json_string_value(token) : "",
                    json_string_length(token));
}

/* The older interface's four parallel lists. offset, in characters, is where the first token's text begins. */
static void completion_logprobs(hob_text *t, json_t *list, uint64_t *offset)
{
    json_t *entry, *other;
    size_t i, k;

    hob_text_puts(t, "{\"tokens\":[");
    json_array_foreach(list, i, entry)
    {
        hob_text_puts(t, i ? "," : "");
        add_token_text(t, entry);
    }
    hob_text_puts(t, "],\"token_logprobs\":[");
    json_array_foreach(list, i, entry) hob_text_format(
        t, "%s%.9g", i ? "," : "", json_number_value(json_object_get(entry, "logprob")));
    hob_text_puts(t, "],\"top_logprobs\":[");
    json_array_foreach(list, i, entry)
    {
        json_t *top = json_object_get(entry, "top_logprobs");
        json_t *by_text = json_object(); /* two tokens may render alike: the likelier one stays */
        json_array_foreach(top, k, other)
        {
            const char *name = json_string_value(json_object_get(other, "token"));
            if (name && !json_object_get(by_text, name))
                json_object_set(by_text, name, json_object_get(other, "logprob"));
        }
        hob_text_puts(t, i ? "," : "");
        hob_text_json(t, by_text);
        json_decref(by_text);
    }
    hob_text_puts(t, "],\"text_offset\":[");
    json_array_foreach(list, i, entry)
    {
        json_t *token = json_object_get(entry, "token");
        hob_text_format(t, "%s%llu", i ? "," : "", (unsigned long long)*offset);
        if (json_is_string(token))
            *offset += characters(json_string_value(token), json_string_length(token));
    }
    hob_text_puts(t, "]}");
}

static void choice_logprobs(hob_text *t, hob_job *j, json_t *list)
{
    if (!j->request.logprobs || !list)
        hob_text_puts(t, "\"logprobs\":null");
    else if (is_chat(j)) {
        hob_text_puts(t, "\"logprobs\":{\"content\":");
        hob_text_json(t, list);
        hob_text_puts(t, ",\"refusal\":null}");
    } else {
        hob_text_puts(t, "\"logprobs\":");
        completion_logprobs(t, list, &j->sequence);
    }
}

/* A member of what was found in documents: "name":value. */
static void ground(hob_text *t, const hob_job *j, const char *name, const char *member)
{
    hob_text_format(t, "\"%s\":", name);
    hob_text_json(t, json_object_get(j->grounds, member));
}

/* ---- as a stream ---- */

static void send_event(hob_job *j, hob_text *t, uint32_t tokens)
{
    if (j->request.include_usage)
        hob_text_puts(t, ",\"usage\":null");
    hob_text_puts(t, "}\n\n");
    hob_http_stream_add(j->conn, t, j->id, tokens);
}

static hob_text *event_head(hob_job *j)
{
    hob_text *t = &j->g->scratch;
    hob_text_clear(t);
    hob_text_puts(t, "data: ");
    object_head(t, j, stream_object(j));
    return t;
}

static void begin(hob_job *j)
{
    if (j->began)
        return;
    j->began = true;
    if (!j->conn->streaming)
        hob_http_stream_begin(j->conn);
    if (!is_chat(j))
        return;
    hob_text *t = event_head(j);
    hob_text_format(t,
                    "{\"index\":%u,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                    "\"logprobs\":null,\"finish_reason\":null}]",
                    j->index);
    send_event(j, t, 0);
}

/* What is pending becomes one event, however many tokens. */
static void flush(hob_job *j)
{
    const uint32_t tokens = j->pending;
    const size_t len = hob_text_len(&j->text);

    if (!j->request.stream || tokens + len == 0)
        return;
    j->pending = 0;
    if (len == 0 && json_array_size(j->logprobs) == 0) {
        hob_job_drained(j->g, j->id, tokens); /* nothing to send: nothing to wait for */
        return;
    }
    begin(j);
    hob_text *t = event_head(j);
    hob_text_format(t, "{\"index\":%u,%s", j->index,
                    is_chat(j) ? "\"delta\":{\"content\":" : "\"text\":");
    hob_text_string(t, len ? hob_text_data(&j->text) : "", len);
    hob_text_puts(t, is_chat(j) ? "}," : ",");
    choice_logprobs(t, j, j->logprobs);
    hob_text_puts(t, ",\"finish_reason\":null}]");
    t->failed = t->failed || j->text.failed;
    send_event(j, t, tokens);
    hob_text_clear(&j->text);
    json_decref(j->logprobs);
    j->logprobs = NULL;
    j->logprob_bytes = 0;
}

static void stream_finished(hob_job *j, hob_finish finish)
{
    flush(j);
    begin(j);
    hob_text *t = event_head(j);
    hob_text_format(t, "{\"index\":%u,%s", j->index, is_chat(j) ? "\"delta\":{" : "\"text\":\"\"");
    if (j->grounds)
        ground(t, j, "annotations", "citations");
    hob_text_format(t, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}]", is_chat(j) ? "}" : "",
                    finish_reason(finish));
    if (j->grounds) {
        hob_text_puts(t, ",");
        ground(t, j, "hob_retrieval", "hob_retrieval");
    }
    send_event(j, t, 0);
    if (!hob_choice_is_last(j))
        return;
    if (j->request.include_usage) {
        t = event_head(j);
        hob_text_puts(t, "],");
        usage(t, j);
        hob_text_puts(t, "}\n\n");
        hob_http_stream_add(j->conn, t, 0, 0);
    }
    hob_text_clear(t);
    hob_text_puts(t, "data: [DONE]\n\n");
    hob_http_stream_add(j->conn, t, 0, 0);
    hob_http_stream_end(j->conn);
}

/* The status is long out: the error is the last event, behind all that was generated. [DONE] is for what is complete. */
static void stream_failed(hob_job *j, const hob_api_error *e)
{
    hob_text *t = &j->g->scratch;

    for (hob_job *k = j->conn->jobs; k; k = k->conn_next)
        flush(k);
    hob_text_clear(t);
    hob_text_puts(t, "data: {\"error\":");
    hob_api_error_object(t, e);
    hob_text_puts(t, ",");
    usage(t, j);
    hob_text_puts(t, "}\n\n");
    hob_http_stream_add(j->conn, t, 0, 0);
    hob_http_stream_end(j->conn);
}

/* ---- whole ---- */

static void whole_choice(hob_text *t, hob_job *j)
{
    const size_t len = hob_text_len(&j->text);

    hob_text_format(t, "{\"index\":%u,%s", j->index,
                    is_chat(j) ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    hob_text_string(t, len ? hob_text_data(&j->text) : "", len);
    if (j->grounds) {
        hob_text_puts(t, ",");
        ground(t, j, "annotations", "citations");
    }
    hob_text_puts(t, is_chat(j) ? ",\"refusal\":null}," : ",");
    choice_logprobs(t, j, j->logprobs);
    hob_text_format(t, ",\"finish_reason\":\"%s\"}", finish_reason(j->finish));
    t->failed = t->failed || j->text.failed;
}

static void whole_finished(hob_job *j)
{
    hob_text t = {0};

    if (!hob_choice_is_last(j))
        return;
    object_head(&t, j, is_chat(j) ? "chat.completion" : "text_completion");
    for (hob_job *k = j->conn->jobs; k; k = k->conn_next) { /* in order of their index */
        hob_text_puts(&t, k->index ? "," : "");
        whole_choice(&t, k);
    }
    hob_text_puts(&t, "],");
    if (j->grounds) {
        ground(&t, j, "hob_retrieval", "hob_retrieval");
        hob_text_puts(&t, ",");
    }
    usage(&t, j);
    hob_text_puts(&t, "}\n");
    if (t.failed)
        hob_conn_kill(j->conn, "no memory for an answer");
    else
        hob_http_respond(j->conn, 200, "application/json", "", hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

/* ---- the format ---- */

static void on_tokens(hob_job *j, const hob_tokens_message *m, json_t *logprobs)
{
    hob_text_add(&j->text, m->text, m->text_len);
    if (logprobs && !j->logprobs)
        j->logprobs = json_incref(logprobs);
    else if (logprobs && json_array_extend(j->logprobs, logprobs) < 0)
        j->text.failed = true;
    if (j->logprobs)
        j->logprob_bytes += 4 * m->logprobs_len; /* as objects they take several times their text */
    if (j->request.stream)
        j->pending += m->token_count;
    else
        hob_job_drained(j->g, j->id, m->token_count);
}

static void on_finished(hob_job *j, hob_finish finish)
{
    if (j->request.stream)
        stream_finished(j, finish);
    else
        whole_finished(j);
}

static void on_failed(hob_job *j, const hob_api_error *e)
{
    if (j->conn->streaming)
        stream_failed(j, e);
    else
        hob_http_error(j->conn, e);
}

const hob_format hob_format_chat = {
    .tokens = on_tokens, .flush = flush, .finished = on_finished, .failed = on_failed};
const hob_format hob_format_completion = {
    .tokens = on_tokens, .flush = flush, .finished = on_finished, .failed = on_failed};
