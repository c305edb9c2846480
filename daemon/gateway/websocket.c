/* SPDX-License-Identifier: Apache-2.0
 *
 * /v1/responses over WebSocket. A client sends response.create events, flat, each the beginning of one response;
 * stream_id names a lane: one lane's responses run in order, lanes run at once. response.cancel ends one. The outbox
 * holds whole messages; libwebsockets bounds neither the length nor the number of a message's fragments, so both are
 * bounded here. */
#include <stdio.h>
#include <string.h>

#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

int hob_websocket_confirm(hob_conn *c)
{
    hob_api_error e = {0};
    char path[64], head[HOB_HEAD_MAX], extra[64] = "";
    hob_text body = {0};
    const bool keyless = c->admin || c->metrics;
    int n = lws_hdr_copy(c->wsi, path, sizeof path, WSI_TOKEN_GET_URI);

    if (!c->request_id[0])
        hob_request_id(c->request_id, "req_");
    hob_trace_begin(c);
    if (hob_site_check(c, &e) == 0 && (keyless || hob_http_authorize(c, &e) == 0) &&
        (keyless || n < 0 || strcmp(path, "/v1/responses") != 0))
        hob_api_fail(&e, 404, "invalid_request_error", "unknown_url", NULL,
                     "no WebSocket is served here");
    else if (!e.status && c->g->draining) {
        hob_api_fail(&e, 503, "server_error", "draining", NULL, "the server is shutting down");
        e.retry_after_s = HOB_DRAIN_RETRY_S;
    }
    c->route = HOB_ROUTE_RESPONSES;
    hob_trace_head(c, false);
    if (!e.status)
        return 0;
    hob_trace_fail(c->trace, &e);
    c->close_after = true;
    hob_text_puts(&body, "{\"error\":");
    hob_api_error_object(&body, &e);
    hob_text_puts(&body, "}\n");
    size_t len = hob_text_len(&body);
    if (e.status == 401)
        snprintf(extra, sizeof extra, "www-authenticate: Bearer realm=\"hob\"\r\n");
    else if (e.retry_after_s || e.retry_after_ms)
        snprintf(extra, sizeof extra, "retry-after: %u\r\n",
                 e.retry_after_s ? e.retry_after_s : (e.retry_after_ms + 999) / 1000);
    size_t head_len =
        hob_http_head(c, head, sizeof head, e.status, "application/json", extra, &len);
    if (!body.failed && head_len + len <= HOB_WRITE_MAX) {
        unsigned char *out = c->g->write_buffer + LWS_PRE;
        memcpy(out, head, head_len);
        memcpy(out + head_len, hob_text_data(&body), len);
        (void)lws_write(c->wsi, out, head_len + len, LWS_WRITE_HTTP); /* it closes in any case */
    }
    hob_text_free(&body);
    c->state = HOB_CONN_CLOSING;
    return -1;
}

size_t hob_websocket_error(hob_conn *c, const hob_job *j, const char *lane, const hob_api_error *e)
{
    hob_text t = {0};

    if (j)
        hob_trace_fail(j->trace, e);
    if (j && j->request.has_stream_id)
        lane = j->request.stream_id;
    hob_text_format(&t, "{\"type\":\"error\",\"status\":%d,\"error\":", e->status);
    hob_api_error_object(&t, e);
    if (j)
        hob_text_format(&t, ",\"sequence_number\":%llu,\"response_id\":\"%s\"",
                        (unsigned long long)j->sequence, j->response_id);
    if (lane) {
        hob_text_puts(&t, ",\"stream_id\":");
        hob_text_string(&t, lane, strlen(lane));
    }
    hob_text_puts(&t, "}");
    const size_t len = hob_text_len(&t);
    if (t.failed)
        hob_conn_kill(c, "no memory for an error");
    else
        hob_conn_queue(c, hob_text_data(&t), len, 0, 0);
    if (j)
        hob_trace_queued(j, len);
    hob_metrics_status(&c->g->metrics, HOB_ROUTE_RESPONSES, e->status);
    hob_text_free(&t);
    return len;
}

/* Starts every response whose lane has nothing before it. */
void hob_websocket_next(hob_conn *c)
{
    for (hob_job *j = c->jobs, *next; j && c->state == HOB_CONN_SOCKET && !c->close_by_us;
         j = next) {
        next = j->conn_next;
        bool first = true;
        for (const hob_job *k = c->jobs; k != j; k = k->conn_next)
            if (k->request.has_stream_id == j->request.has_stream_id &&
                strcmp(k->request.stream_id, j->request.stream_id) == 0)
                first = false;
        if (j->state == HOB_JOB_LANE && first) {
            hob_job_start(j);
            next = c->jobs; /* starting may end jobs: look again from the front */
        }
    }
}

static void cancel_response(hob_conn *c, json_t *event, hob_api_error *e)
{
    const char *id = json_string_value(json_object_get(event, "response_id")), *key;
    json_t *value;

    json_object_foreach(event, key, value) if (strcmp(key, "type") != 0 &&
                                               strcmp(key, "response_id") != 0 &&
                                               strcmp(key, "stream_id") != 0)
    {
        hob_api_bad(e, "unknown_parameter", key, "unknown or unsupported field '%.60s'", key);
        return;
    }
    if (!id) {
        hob_api_bad(e, "missing_required_parameter", "response_id",
                    "response.cancel needs a response_id");
        return;
    }
    for (hob_job *j = c->jobs; j; j = j->conn_next)
        if (strcmp(j->response_id, id) == 0) {
            hob_job_cancel(j);
            return;
        }
    hob_api_fail(e, 404, "invalid_request_error", "response_not_found", "response_id",
                 "no response '%.60s' is in progress on this connection", id);
}

static void on_event(hob_conn *c, json_t *event, size_t bytes, hob_api_error *e)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    hob_api_request request;

    if (!type)
        hob_api_bad(e, "missing_required_parameter", "type", "an event needs a type");
    else if (strcmp(type, "response.cancel") == 0)
        cancel_response(c, event, e);
    else if (strcmp(type, "response.create") != 0)
        hob_api_bad(e, "invalid_value", "type",
                    "unknown event type '%.60s'; known: response.create, response.cancel", type);
    else if (c->g->draining)
        hob_api_fail(e, 503, "server_error", "draining", NULL, "the server is shutting down");
    else if (c->job_count >= HOB_LANES_MAX)
        hob_api_fail(e, 429, "rate_limit_error", "too_many_responses", NULL,
                     "%d responses are already in progress on this connection", HOB_LANES_MAX);
    else if (hob_accounts_recheck(c, e) == 0 && hob_buffers_admit(c->g, bytes, e) == 0 &&
             hob_api_parse(c->g->conf, HOB_API_RESPONSES, true, event, &request, e) == 0) {
        if (hob_response_continue(c->g, c->key, &request, e) < 0)
            hob_api_request_free(&request);
        else
            hob_job_open(c, &request, bytes, true);
    }
}

static void on_message(hob_conn *c)
{
    hob_api_error e = {0};
    json_t *event =
        hob_api_load(hob_bytes_left(&c->body) ? (const char *)c->body.data + c->body.start : "",
                     hob_bytes_left(&c->body), HOB_API_VALUES_MAX, &e);
    const size_t bytes = hob_bytes_left(&c->body);
    hob_bytes_free(&c->body);
    c->fragments = 0;
    if (event)
        on_event(c, event, bytes, &e);
    if (e.status && c->state == HOB_CONN_SOCKET) {
        const size_t sent = hob_websocket_error(
            c, NULL, json_string_value(json_object_get(event, "stream_id")), &e);
        hob_trace_refused(c, bytes, sent, &e);
    }
    json_decref(event);
}

static int close_with(hob_conn *c, enum lws_close_status status, const char *why)
{
    hob_log(HOB_LOG_DEBUG, "websocket closed: %s", why);
    lws_close_reason(c->wsi, status, (unsigned char *)(uintptr_t)why, strlen(why));
    c->state = HOB_CONN_CLOSING;
    return -1;
}

static int on_receive(hob_conn *c, const char *in, size_t len)
{
    hob_api_error e;

    if (c->state != HOB_CONN_SOCKET)
        return -1;
    c->asked_us = hob_now_us();
    if (c->close_by_us)
        return 0; /* too late for more */
    if (lws_frame_is_binary(c->wsi))
        return close_with(c, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE,
                          "only text messages are understood");
    /* One fragment may come in many pieces: its last one counts. */
    c->fragments += lws_remaining_packet_payload(c->wsi) == 0;
    if (hob_bytes_left(&c->body) + len > c->g->conf->max_body_bytes ||
        c->fragments > c->g->conf->websocket_fragments)
        return close_with(c, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "the message is too large");
    /* Answers to small events are bounded too: a client that sends and never reads is cut off. */
    if (c->out_bytes > c->g->conf->outbox_bytes)
        return close_with(c, LWS_CLOSE_STATUS_POLICY_VIOLATION, "read before you send more");
    if ((c->body.len + len > c->body.capacity &&
         hob_buffers_admit(c->g, c->body.capacity + len, &e) < 0) ||
        hob_bytes_append(&c->body, in, len) < 0)
        return close_with(c, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "no memory");
    c->body_began_us = c->body_began_us ? c->body_began_us : hob_now_us();
    if (lws_is_final_fragment(c->wsi) && lws_remaining_packet_payload(c->wsi) == 0) {
        c->body_began_us = 0;
        on_message(c);
    }
    return c->state == HOB_CONN_CLOSING ? -1 : 0;
}

/* A ping takes the place of one write. */
static int write_ping(hob_conn *c)
{
    static const char payload[] = {'h', 'o', 'b'}; /* libwebsockets says nothing of an empty pong */

    c->ping_due = false;
    c->progress_us = hob_now_us();
    if (!c->pinged_us) /* else the answer to an earlier one is awaited still */
        c->pinged_us = c->progress_us;
    lws_callback_on_writable(c->wsi);
    memcpy(c->g->write_buffer + LWS_PRE, payload, sizeof payload);
    return lws_write(c->wsi, c->g->write_buffer + LWS_PRE, sizeof payload, LWS_WRITE_PING) < 0 ? -1
                                                                                               : 0;
}

/* While a response waits the client is to hear something; with nothing to do it is asked whether it is there. In between
 * its reader is watched. */
static bool is_ping_due(const hob_conn *c, uint64_t now_us)
{
    const hob_conf *conf = c->g->conf;

    if (c->out_bytes > 0 || c->in_flight)
        return false;
    if (c->jobs)
        return now_us - c->progress_us >= conf->heartbeat_ms * (uint64_t)1000;
    return !c->pinged_us && now_us - c->heard_us > conf->websocket_ping_ms * (uint64_t)1000;
}

void hob_websocket_tick(hob_conn *c, uint64_t now_us)
{
    const hob_conf *conf = c->g->conf;

    if (hob_conn_is_busy(c)) /* then its reader is watched */
        c->asked_us = now_us;
    else if (c->g->draining)
        c->leave = "the server is shutting down";
    else if (now_us - c->asked_us > conf->websocket_idle_ms * (uint64_t)1000)
        c->leave = "nothing was asked for too long";
    if (c->heard_us > c->pinged_us)
        c->pinged_us = 0;
    if (c->pinged_us && now_us - c->pinged_us > conf->websocket_pong_ms * (uint64_t)1000) {
        hob_conn_kill(c, "no answer to a ping");
        return;
    }
    if (is_ping_due(c, now_us))
        c->ping_due = true;
    if (c->leave || c->ping_due)
        lws_callback_on_writable(c->wsi);
}

int hob_websocket_callback(hob_conn *c, enum lws_callback_reasons reason, const char *in,
                           size_t len)
{
    int written;
    c->heard_us = reason == LWS_CALLBACK_SERVER_WRITEABLE ? c->heard_us : hob_now_us();
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        c->asked_us = c->heard_us;
        c->state = HOB_CONN_SOCKET;
        c->deadline_us = c->body_began_us = 0; /* an earlier POST's */
        c->progress_us = hob_now_us();
        c->route = HOB_ROUTE_RESPONSES;
        c->g->metrics.websockets++;
        return 0;
    case LWS_CALLBACK_RECEIVE: return on_receive(c, in, len);
    case LWS_CALLBACK_RECEIVE_PONG: c->pinged_us = 0; return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        if (c->leave && !hob_conn_is_busy(c))
            return close_with(c, LWS_CLOSE_STATUS_GOINGAWAY, c->leave);
        if (c->ping_due)
            return write_ping(c);
        written = hob_conn_write(c);
        if (written == 0 && c->close_by_us)
            return close_with(c, LWS_CLOSE_STATUS_POLICY_VIOLATION,
                              "nothing was read for too long");
        return written < 0 ? -1 : 0;
    default: return 0;
    }
}
