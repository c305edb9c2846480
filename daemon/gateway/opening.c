/* SPDX-License-Identifier: Apache-2.0
 *
 * From a request to its jobs: one for each choice that it asks for. A response that runs in the background leaves the
 * connection as soon as its job has started; what is wrong before that is still the request's own error. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/gateway/meter.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

static int new_seed(uint64_t *ret)
{
    return getrandom(ret, sizeof *ret, 0) == (ssize_t)sizeof *ret ? 0 : HOB_EIO;
}

static void enlist(hob_job *j)
{
    hob_gateway *g = j->g;
    hob_conn *c = j->conn;

    j->next = g->jobs;
    if (g->jobs)
        g->jobs->prev = j;
    g->jobs = j;
    hob_job **tail = &c->jobs;
    while (*tail)
        tail = &(*tail)->conn_next;
    *tail = j;
    c->job_count++;
    g->metrics.jobs++;
}

/* A job on c that has not started. NULL: no memory. request is taken over. */
static hob_job *new_job(hob_conn *c, hob_api_request *request, size_t bytes, bool websocket)
{
    static const hob_format *const formats[] = {&hob_format_chat, &hob_format_completion,
                                                &hob_format_responses};
    hob_gateway *g = c->g;
    hob_job *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->g = g;
    j->request = *request;
    *request = (hob_api_request){0};
    j->conn = c;
    j->format = formats[j->request.kind];
    j->websocket = websocket;
    j->request_bytes = bytes;
    j->id = j->leader = ++g->next_id;
    j->link = &g->links[j->request.model];
    j->key = hob_key_ref(c->key);
    j->state = HOB_JOB_LANE;
    j->choices = 1;
    j->place = UINT32_MAX;
    j->arrived_us = hob_now_us();
    j->created_s = (int64_t)time(NULL);
    enlist(j);
    hob_trace_open_job(j);
    return j;
}

/* The choices beside the first job: n for each prompt, in order. Those of one prompt are behind its first. */
static int add_choices(hob_job *first)
{
    const hob_api_request *r = &first->request;
    const uint32_t prompts = 1 + (uint32_t)json_array_size(r->more);
    uint64_t leader = first->id;

    first->choices = r->estimate ? 1 : prompts * r->n;
    for (uint32_t i = 1; i < first->choices; i++) {
        const bool leads = i % r->n == 0;
        hob_api_request copy = *r;
        copy.prepare = leads ? json_array_get(r->more, i / r->n - 1) : NULL;
        copy.seed += i;
        json_incref(copy.prepare);
        json_incref(copy.run);
        json_incref(copy.echo);
        copy.more = NULL;
        copy.retrieval = (hob_api_retrieval){0}; /* it shares what its leader finds */
        hob_job *j = new_job(first->conn, &copy, 0, false);
        if (!j) {
            hob_api_request_free(&copy);
            return HOB_ENOMEM;
        }
        leader = leads ? j->id : leader;
        j->leader = leader;
        j->index = i;
        j->choices = first->choices;
        j->created_s = first->created_s;
        j->kept = true;
        j->link->kept++;
        memcpy(j->response_id, first->response_id, sizeof j->response_id);
    }
    return 0;
}

/* The client is told of it, or follows it. */
void hob_job_to_background(hob_job *j)
{
    hob_conn *c = j->conn;
    hob_response *r = j->response;
    hob_text t = {0};

    j->leaves = false;
    hob_job_leave(j);
    if (j->request.stream) {
        hob_http_stream_begin(c);
        hob_response_follow(r, c, 0);
        return;
    }
    hob_response_object(&t, r);
    hob_text_puts(&t, "\n");
    if (t.failed)
        hob_conn_kill(c, "no memory for an answer");
    else
        hob_http_respond(c, 200, "application/json", "", hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

static void start_choices(hob_conn *c, uint32_t choices)
{
    for (uint32_t i = 0; i < choices; i++) {
        hob_job *j = c->jobs; /* looked up each time: one that fails ends all */
        while (j && j->index != i)
            j = j->conn_next;
        if (!j || c->state != HOB_CONN_BUSY)
            return;
        if (j->leader == j->id)
            hob_job_start(j);
    }
}

/* j may be NULL. */
static void refuse(hob_conn *c, hob_job *j, bool websocket, const hob_api_error *e)
{
    c->g->metrics.failed++;
    if (j)
        hob_meter_ended(j, e->status, HOB_FINISH_ERROR);
    if (websocket)
        hob_websocket_error(c, j, NULL, e);
    else
        hob_http_error(c, e);
}

void hob_job_open(hob_conn *c, hob_api_request *request, size_t bytes, bool websocket)
{
    static const char *const prefixes[] = {"chatcmpl-", "cmpl-", "resp_"};
    hob_gateway *g = c->g;
    hob_api_error e;
    hob_job *j;

    hob_api_no_memory(&e);
    if ((!request->seed_given && new_seed(&request->seed) < 0) ||
        !(j = new_job(c, request, bytes, websocket))) {
        refuse(c, NULL, websocket, &e);
        hob_api_request_free(request);
        return;
    }
    hob_request_id(j->response_id, prefixes[j->request.kind]);
    if (j->request.kind == HOB_API_RESPONSES && !(j->response = hob_response_open(j, bytes, &e))) {
        refuse(c, j, websocket, &e);
        hob_job_free(j);
        return;
    }
    if (add_choices(j) < 0) {
        hob_job_fail(j, &e);
        return;
    }
    const bool background = j->request.background;
    const uint64_t id = j->id;
    if (websocket)
        hob_websocket_next(c);
    else
        start_choices(c, j->choices);
    if (!background || !(j = hob_job_find(g, id)))
        return;
    if (j->state == HOB_JOB_RETRIEVING)
        j->leaves = true; /* it may still be refused */
    else
        hob_job_to_background(j);
}
