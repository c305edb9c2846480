/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client hears before its first token: that the connection lives, as a comment in an event stream (on a WebSocket
 * as a ping: websocket.c), and if it asked with hob_queue_events how many requests are before its own. Both need a stream's head: an
 * error that comes after one is an event, no longer a status. */
#include "daemon/gateway/state.h"

static bool streams(const hob_conn *c)
{
    return c->follows || (c->jobs && c->jobs->request.stream);
}

static void add_line(hob_conn *c, const char *line)
{
    hob_text *t = &c->g->scratch;
    hob_text_clear(t);
    hob_text_puts(t, line);
    hob_http_stream_add(c, t, 0, 0);
}

void hob_conn_heartbeat(hob_conn *c, uint64_t now_us)
{
    if (c->out_bytes > 0 || c->in_flight || c->response_done ||
        now_us - c->progress_us < c->g->conf->heartbeat_ms * (uint64_t)1000)
        return;
    if (c->state == HOB_CONN_BUSY && streams(c)) {
        if (!c->streaming)
            hob_http_stream_begin(c);
        add_line(c, ": hob\n\n");
    }
}

/* Those that wait for their first token as well and are served before it. */
static uint32_t place_of(const hob_job *j)
{
    uint32_t place = 0;
    for (const hob_job *k = j->g->jobs; k; k = k->next) {
        place += k != j && k->link == j->link && k->first_token_us == 0 && k->index == 0 &&
                 k->state != HOB_JOB_LANE && k->state != HOB_JOB_ENDED &&
                 (k->priority < j->priority || (k->priority == j->priority && k->id < j->id));
    }
    return place;
}

void hob_job_tell_place(hob_job *j)
{
    hob_text *t = &j->g->scratch;
    hob_conn *c = j->conn;

    if (!j->request.queue_events || !c || j->first_token_us > 0 || j->index > 0 ||
        j->state == HOB_JOB_LANE || j->state == HOB_JOB_ENDED || c->state == HOB_CONN_CLOSING ||
        c->out_bytes > 0)
        return; /* one on a lane waits for its own kind, and has passed no limit yet */
    const uint32_t place = place_of(j);
    if (place == j->place)
        return;
    j->place = place;
    if (!j->websocket && !c->streaming)
        hob_http_stream_begin(c);
    hob_text_clear(t);
    if (!j->websocket)
        hob_text_puts(t,
                      j->request.kind == HOB_API_RESPONSES ? "event: hob.queue\ndata: " : "data: ");
    hob_text_format(
        t, "{\"type\":\"hob.queue\",\"object\":\"hob.queue\",\"choices\":[],\"hob_position\":%u",
        place);
    if (j->request.has_stream_id) {
        hob_text_puts(t, ",\"stream_id\":");
        hob_text_string(t, j->request.stream_id, strlen(j->request.stream_id));
    }
    hob_text_puts(t, j->websocket ? "}" : "}\n\n");
    if (!j->websocket)
        hob_http_stream_add(c, t, 0, 0);
    else if (t->failed)
        hob_conn_kill(c, "no memory for an event");
    else
        hob_conn_queue(c, hob_text_data(t), hob_text_len(t), 0, 0);
}
