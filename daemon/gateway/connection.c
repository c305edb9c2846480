/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's connection: the outbox, deadlines.
 *
 * The outbox is a queue of records, each some bytes of the response and the tokens that they stand for. One record, or
 * for HTTP as many as fit and have tokens of no more than one job, goes into one lws_write, and the next write is made
 * only when libwebsockets says that the socket is writable again, with nothing of its own left over. That is the moment
 * when the tokens of the write before count as drained and their credit goes back to the engine: a reader that stops
 * reading stops its sequence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/gateway/documents.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

enum {
    RECORD_HEADER = 16,
    DRAIN_GRACE_US = 1000000, /* for one that comes while we drain to ask, and be told so */
};

hob_conn *hob_conn_new(hob_gateway *g, struct lws *wsi, int fd)
{
    hob_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->g = g;
    c->wsi = wsi;
    hob_peer_address(fd, c->address, &c->local);
    c->is_unix = g->accepting->is_unix;
    c->admin = g->accepting->admin;
    c->metrics = g->accepting->metrics;
    c->tls = g->accepting->tls;
    c->front = g->front;
    c->front->conns++;
    c->state = HOB_CONN_IDLE;
    c->opened_us = hob_now_us();
    c->deadline_us = c->opened_us + g->conf->header_timeout_ms * (uint64_t)1000;
    c->next = g->conns;
    if (g->conns)
        g->conns->prev = c;
    g->conns = c;
    g->conn_count++;
    g->admin_count += c->admin;
    g->metrics.connections++;
    return c;
}

void hob_conn_free(hob_conn *c)
{
    if (!c)
        return;
    hob_conn_drop_jobs(c);
    if (c->prev)
        c->prev->next = c->next;
    else
        c->g->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->g->conn_count--;
    hob_trace_leave(c);
    hob_accounts_forget(c);
    if (c->asked)
        *c->asked = NULL;
    c->g->admin_count -= c->admin;
    c->front->conns--;
    hob_bytes_free(&c->body);
    hob_bytes_free(&c->out);
    free(c);
}

void hob_conn_drop_jobs(hob_conn *c)
{
    hob_response_unfollow(c);
    hob_upload_drop(c);
    hob_download_drop(c);
    hob_search_drop(c);
    hob_embeddings_drop(c);
    while (c->jobs)
        hob_job_abandon(c->jobs);
}

void hob_conn_kill(hob_conn *c, const char *why)
{
    if (c->state == HOB_CONN_CLOSING)
        return;
    hob_log(HOB_LOG_DEBUG, "connection closed: %s", why);
    c->state =
        HOB_CONN_CLOSING; /* its jobs go when libwebsockets closes it: callers may still hold one */
    lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

void hob_request_id(char ret[32], const char *prefix)
{
    uint8_t random[12];
    size_t n = (size_t)snprintf(ret, 32, "%s", prefix);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        uint64_t now = hob_now_us(); /* unique is enough for a name */
        memcpy(random, &now, sizeof now);
    }
    for (size_t i = 0; i < sizeof random && n + 3 <= 32; i++, n += 2)
        snprintf(ret + n, 32 - n, "%02x", random[i]);
}

/* ---- the outbox ---- */

void hob_conn_queue(hob_conn *c, const void *data, size_t len, uint64_t job, uint32_t tokens)
{
    uint8_t header[RECORD_HEADER];
    if (c->state == HOB_CONN_CLOSING || (len == 0 && tokens == 0))
        return;
    if (len > UINT32_MAX ||
        c->out_bytes + len > (size_t)c->g->conf->outbox_bytes + HOB_OUTBOX_SLACK) {
        hob_log(HOB_LOG_WARN, "outbox full: %zu bytes wait and %zu come", c->out_bytes, len);
        hob_conn_kill(c, "outbox full");
        return;
    }
    hob_put_u32(header, (uint32_t)len);
    hob_put_u32(header + 4, tokens);
    hob_put_u64(header + 8, job);
    if (hob_bytes_append(&c->out, header, sizeof header) < 0 ||
        hob_bytes_append(&c->out, data, len) < 0) {
        hob_conn_kill(c, "no memory for the outbox");
        return;
    }
    if (c->out_bytes == 0 && !c->in_flight)
        c->progress_us = hob_now_us();
    c->out_bytes += len;
    lws_callback_on_writable(c->wsi);
}

/* What the write before carried has left for the socket. */
static void settle(hob_conn *c)
{
    if (!c->in_flight)
        return;
    uint64_t job = c->flight_job;
    uint32_t tokens = c->flight_tokens;
    c->in_flight = false;
    c->flight_job = c->flight_tokens = 0;
    c->progress_us = hob_now_us();
    if (tokens > 0)
        hob_job_drained(c->g, job, tokens);
}

/* Copies up to HOB_WRITE_MAX bytes to buffer and notes their tokens. ret_first, ret_final: of a WebSocket message. */
static size_t take_records(hob_conn *c, unsigned char *buffer, bool one, bool *ret_first,
                           bool *ret_final)
{
    size_t n = 0;
    *ret_first = c->record_sent == 0;
    *ret_final = false;
    while (hob_bytes_left(&c->out) > 0 && n < HOB_WRITE_MAX) {
        const uint8_t *record = c->out.data + c->out.start;
        const uint32_t tokens = hob_get_u32(record + 4);
        const uint64_t job = hob_get_u64(record + 8);
        size_t len = hob_get_u32(record), left = len - c->record_sent;
        if (tokens > 0 && c->flight_tokens > 0 && job != c->flight_job)
            break; /* the tokens of one write go back to one job */
        size_t part = left < HOB_WRITE_MAX - n ? left : HOB_WRITE_MAX - n;
        memcpy(buffer + n, record + RECORD_HEADER + c->record_sent, part);
        n += part;
        c->record_sent += part;
        c->out_bytes -= part;
        if (c->record_sent < len)
            break;
        if (tokens > 0) {
            c->flight_job = job;
            c->flight_tokens += tokens;
        }
        c->record_sent = 0;
        *ret_final = true;
        hob_bytes_consume(&c->out, RECORD_HEADER + len);
        if (one)
            break;
    }
    return n;
}

/* The reader has taken everything: what was held back for it becomes events. */
static void refill(hob_conn *c)
{
    if (c->out_bytes == 0) /* one event each: none of them is to wait for another's next tokens */
        for (hob_job *j = c->jobs; j; j = j->conn_next)
            j->format->flush(j);
    hob_response_pump(c);
    hob_download_pump(c);
    hob_embeddings_pump(c);
}

int hob_conn_write(hob_conn *c)
{
    unsigned char *buffer = c->g->write_buffer + LWS_PRE;
    const bool socket = c->state == HOB_CONN_SOCKET;
    bool first, final;

    settle(c);
    if (c->state == HOB_CONN_CLOSING)
        return -1;
    refill(c);
    if (c->state == HOB_CONN_CLOSING)
        return -1;
    if (hob_bytes_left(&c->out) == 0)
        return 0;
    size_t n = take_records(c, buffer, socket, &first, &final);
    c->in_flight = true;
    c->g->metrics.bytes_out += n;
    hob_trace_sent(c, n);
    int how = socket ? lws_write_ws_flags(LWS_WRITE_TEXT, first, final) : LWS_WRITE_HTTP;
    if (lws_write(c->wsi, buffer, n, (enum lws_write_protocol)how) < (int)n)
        return -1;
    lws_callback_on_writable(c->wsi); /* for the rest, and to learn that this has drained */
    return 1;
}

/* ---- deadlines ---- */

static void body_too_slow(hob_conn *c)
{
    hob_api_error e;
    hob_api_fail(&e, 408, "invalid_request_error", "request_timeout", NULL,
                 "the body came too slowly: %zu of %zu bytes", c->body_seen, c->body_bytes);
    hob_upload_drop(c);
    c->close_after = true;
    hob_http_error(c, &e);
}

/* Of a body that is so old. */
static uint64_t least_bytes(const hob_conf *conf, uint64_t spent_us)
{
    return spent_us < 1000000 ? 0 : (spent_us - 1000000) / 1000 * conf->body_min_bytes_per_s / 1000;
}

static bool comes_too_slowly(const hob_conf *conf, uint64_t spent_us, size_t bytes)
{
    return spent_us > conf->body_timeout_ms * (uint64_t)1000 || bytes < least_bytes(conf, spent_us);
}

/* A file may take its time as long as it comes at the least rate, but for when it was not read. */
static void tick_body(hob_conn *c, uint64_t now_us)
{
    const hob_conf *conf = c->g->conf;
    const uint64_t spent_us = now_us - c->body_began_us - c->body_idle_us;
    if (c->body_paused_us)
        return;
    if (c->upload ? c->body_seen < least_bytes(conf, spent_us)
                  : comes_too_slowly(conf, spent_us, c->body_seen))
        body_too_slow(c);
}

/* The bytes that wait are whole events: each job's error goes behind them. */
static void end_stalled(hob_conn *c, uint64_t now_us)
{
    c->g->metrics.stalled_closes++;
    if (!c->jobs) { /* what was asked for waits in full: there is nothing to end with an error */
        hob_log(HOB_LOG_INFO, "connection closed: its reader has stalled; %zu bytes queued",
                c->out_bytes);
        hob_conn_kill(c, "its reader has stalled");
        return;
    }
    c->close_by_us = now_us + HOB_STALL_GRACE_MS * (uint64_t)1000;
    c->close_after = true;
    while (c->jobs)
        hob_job_stalled(c->jobs);
}

void hob_conn_tick(hob_conn *c, uint64_t now_us)
{
    const hob_conf *conf = c->g->conf;

    if (c->state == HOB_CONN_CLOSING)
        return;
    if (c->close_by_us) {
        if (now_us > c->close_by_us)
            hob_conn_kill(c, "its reader has stalled");
        return;
    }
    if (c->state == HOB_CONN_BODY) {
        tick_body(c, now_us);
        return;
    }
    if (c->state == HOB_CONN_SOCKET && c->body_began_us &&
        comes_too_slowly(conf, now_us - c->body_began_us, hob_bytes_left(&c->body)))
        hob_conn_kill(c, "a message came too slowly");
    else if ((c->out_bytes > 0 || c->in_flight) &&
             now_us - c->progress_us > conf->stall_timeout_ms * (uint64_t)1000)
        end_stalled(c, now_us);
    else if (c->deadline_us && now_us > c->deadline_us)
        hob_conn_kill(c, "idle");
    else if (c->state == HOB_CONN_SOCKET)
        hob_websocket_tick(c, now_us);
    else if (c->g->draining && !hob_conn_is_busy(c) && now_us - c->opened_us > DRAIN_GRACE_US)
        hob_conn_kill(c, "draining");
    else
        hob_conn_heartbeat(c, now_us);
}

bool hob_conn_is_busy(const hob_conn *c)
{
    return c->jobs || c->in_flight || c->out_bytes > 0 || c->state == HOB_CONN_BODY ||
           c->state == HOB_CONN_BUSY;
}
