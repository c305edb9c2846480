/* SPDX-License-Identifier: Apache-2.0
 *
 * See trace.h. Recording is a few stores a stage; whether a trace is kept is decided at its end, when it is known whether it
 * was slow or has failed. */
#include "daemon/gateway/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    PARTS_RESERVE = 4,     /* spans that stay free for stages */
    STALL_LEAST_US = 5000, /* a shorter one is none */
    SERVER_ERROR = 500,
    UNSUPPORTED_VERSION = 505, /* of the client's doing */
};

struct hob_trace {
    hob_gateway *g;
    uint32_t refs, jobs;
    int stage; /* index of the span that is open; -1: none */
    uint64_t began_us, stall_us;
    bool asked;     /* there was a traceparent, valid or not: the answer has one, too */
    bool quiet;     /* its line is for those who look for it */
    bool reads_log; /* its own line would be news for the next that reads */
    bool stranger;  /* nobody's: no key, no administrator's socket */
    bool content;   /* its key wants to see what was said */
    bool sampled;   /* by chance, or by the caller */
    bool caller_sampled;
    hob_text prompt, answer; /* for content */
    hob_trace_record r;
};

static const char *const span_names[HOB_SPAN_KINDS] = {
    "accept", "auth",     "receive", "serve",  "admission", "retrieve",
    "queue",  "tokenize", "prefill", "decode", "recovery",  "send",
    "embed",  "words",    "vectors", "fuse",   "stall"};

const char *hob_span_name(hob_span_kind kind)
{
    return span_names[kind];
}

/* ---- spans ---- */

static hob_trace_span *add_span(hob_trace *t, hob_span_kind kind, int parent, uint64_t at_us)
{
    const uint32_t most = parent == HOB_SPAN_ROOT ? HOB_SPANS_MAX : HOB_SPANS_MAX - PARTS_RESERVE;
    if (t->r.span_count >= most) {
        t->r.left_out++;
        return NULL;
    }
    hob_trace_span *s = &t->r.spans[t->r.span_count++];
    *s = (hob_trace_span){.from_us = at_us > t->began_us ? at_us - t->began_us : 0,
                          .kind = (uint8_t)kind,
                          .parent = (int8_t)parent};
    return s;
}

static hob_span_kind stage_of(const hob_trace *t)
{
    return t->stage < 0 ? HOB_SPAN_KINDS : (hob_span_kind)t->r.spans[t->stage].kind;
}

static void close_stage(hob_trace *t, uint64_t now_us)
{
    if (t->stage >= 0)
        t->r.spans[t->stage].us = now_us - t->began_us - t->r.spans[t->stage].from_us;
}

static void enter_at(hob_trace *t, hob_span_kind stage, uint64_t at_us)
{
    if (stage_of(t) == stage || !add_span(t, stage, HOB_SPAN_ROOT, at_us))
        return; /* without room the stage that is open goes on: they still sum up */
    close_stage(t, at_us);
    t->stage = (int)t->r.span_count - 1;
}

void hob_trace_enter(hob_trace *t, hob_span_kind stage)
{
    if (t)
        enter_at(t, stage, hob_now_us());
}

void hob_trace_part(hob_trace *t, hob_span_kind part, uint64_t from_us, uint64_t to_us)
{
    if (!t || t->stage < 0 || to_us < from_us)
        return;
    const uint64_t begin_us = t->began_us + t->r.spans[t->stage].from_us;
    from_us = from_us < begin_us ? begin_us : from_us;
    hob_trace_span *s = add_span(t, part, t->stage, from_us);
    if (s)
        s->us = to_us > from_us ? to_us - from_us : 0;
}

/* ---- the beginning ---- */

static void count_name(const char *name, int len, void *user)
{
    static const char wanted[] = "traceparent:";
    if (len == (int)sizeof wanted - 1 && strncasecmp(name, wanted, sizeof wanted - 1) == 0)
        ++*(int *)user;
}

/* One that comes twice is none. *ret_asked: there is one at all. */
static bool read_caller(struct lws *wsi, hob_trace_context *ret, bool *ret_asked)
{
    static const char name[] = "traceparent:";
    char value[256];
    int count = 0;
    *ret_asked = lws_hdr_custom_name_foreach(wsi, count_name, &count) == 0 && count > 0;
    if (!*ret_asked || count != 1)
        return false;
    const int len = lws_hdr_custom_copy(wsi, value, sizeof value, name, sizeof name - 1);
    return len > 0 && hob_trace_context_read(value, (size_t)len, ret);
}

/* All new but the trace's number, where there is a caller's. */
static bool set_context(hob_trace_record *r, const hob_trace_context *caller, uint32_t *ret_chance)
{
    uint8_t random[sizeof r->context.trace + sizeof r->context.span + sizeof *ret_chance];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    memcpy(r->context.trace, random, sizeof r->context.trace);
    memcpy(r->context.span, random + sizeof r->context.trace, sizeof r->context.span);
    memcpy(ret_chance, random + sizeof random - sizeof *ret_chance, sizeof *ret_chance);
    r->context.trace[0] |= 1; /* never all zero */
    r->context.span[0] |= 1;
    if (!caller)
        return true;
    memcpy(r->context.trace, caller->trace, sizeof r->context.trace);
    memcpy(r->parent, caller->span, sizeof r->parent);
    return r->has_parent = true;
}

/* NULL: no memory or no random numbers; the request goes on without. */
static hob_trace *trace_new(hob_gateway *g, const hob_trace_context *caller, uint64_t began_us)
{
    hob_trace *t = calloc(1, sizeof *t);
    struct timespec now;
    uint32_t chance;

    if (!t || !set_context(&t->r, caller, &chance)) {
        free(t);
        return NULL;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    t->g = g;
    t->refs = 1;
    t->stage = -1;
    t->began_us = began_us;
    t->r.began_unix_us =
        (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - (hob_now_us() - began_us);
    t->caller_sampled = caller && caller->sampled;
    t->sampled = t->caller_sampled || chance % 100 < g->conf->traces_sample_percent;
    t->r.context.sampled = t->sampled;
    return t;
}

void hob_trace_begin(hob_conn *c)
{
    const uint64_t now_us = hob_now_us();
    hob_trace_context caller;
    bool asked;

    hob_trace_leave(c);
    const bool has_caller = read_caller(c->wsi, &caller, &asked);
    const uint64_t began_us = c->asked_before ? now_us : c->opened_us;
    c->trace = trace_new(c->g, has_caller ? &caller : NULL, began_us);
    if (!c->trace)
        return;
    c->trace->asked = asked;
    memcpy(c->trace->r.request_id, c->request_id, sizeof c->trace->r.request_id);
    if (!c->asked_before)
        enter_at(c->trace, HOB_SPAN_ACCEPT, began_us);
    c->asked_before = true;
    c->trace->r.head_us = now_us - began_us;
    enter_at(c->trace, HOB_SPAN_AUTH, now_us);
}

static void set_key(hob_trace *t, const hob_key *key)
{
    if (!key)
        return;
    memcpy(t->r.label, key->record.label, sizeof t->r.label);
    memcpy(t->r.tenant, key->record.tenant, sizeof t->r.tenant);
    t->r.key = key->record.id;
    t->content = key->record.log_content;
}

void hob_trace_head(hob_conn *c, bool body)
{
    hob_trace *t = c->trace;
    if (!t)
        return;
    set_key(t, c->key);
    t->r.route = hob_route_name(c->route);
    t->r.bytes_in = c->body_bytes;
    t->stranger = !c->key && !c->admin && !c->g->conf->plain;
    /* What anybody can cause as often as he likes, and what is asked again and again. */
    t->quiet = c->route == HOB_ROUTE_LIVEZ || c->route == HOB_ROUTE_READYZ ||
               c->route == HOB_ROUTE_METRICS || c->route == HOB_ROUTE_STATS ||
               (c->route == HOB_ROUTE_ADMIN && strcmp(c->admin_route->method, "GET") == 0) ||
               t->stranger;
    t->reads_log = c->route == HOB_ROUTE_ADMIN && c->admin_route->serve == hob_log_serve;
    enter_at(t, body ? HOB_SPAN_RECEIVE : HOB_SPAN_SERVE, hob_now_us());
}

void hob_trace_respond(hob_conn *c, int status)
{
    if (c->trace && c->state != HOB_CONN_SOCKET)
        c->trace->r.status = status;
}

void hob_trace_sent(hob_conn *c, size_t bytes)
{
    if (c->trace)
        c->trace->r.bytes_out += bytes;
}

void hob_trace_queued(const hob_job *j, size_t bytes)
{
    if (j->trace)
        j->trace->r.bytes_out += bytes;
}

void hob_trace_header(const hob_conn *c, char ret[HOB_TRACEPARENT_MAX + 16])
{
    char value[HOB_TRACEPARENT_MAX];
    ret[0] = '\0';
    if (!c->trace || !c->trace->asked) /* others have x-request-id */
        return;
    hob_trace_context_write(&c->trace->r.context, value);
    snprintf(ret, HOB_TRACEPARENT_MAX + 16, "traceparent: %s\r\n", value);
}

void hob_trace_fail(hob_trace *t, const hob_api_error *e)
{
    if (!t)
        return;
    const bool shed = e->status == 429 && e->code && strcmp(e->code, "server_busy") == 0;
    t->r.reason = e->reason ? e->reason : e->code;
    t->r.status = e->status;
    const bool ours = e->status >= SERVER_ERROR && e->status != UNSUPPORTED_VERSION;
    t->r.failed |= ours || shed || t->r.first_token_us > 0;
}

/* ---- the answer ---- */

hob_trace *hob_trace_ref(hob_trace *t)
{
    if (t)
        t->refs++;
    return t;
}

static void set_prompt(hob_trace *t, const json_t *prepare)
{
    const json_t *messages = json_object_get(prepare, "messages");
    hob_text_json(&t->prompt, messages ? messages : json_object_get(prepare, "prompt"));
}

/* Of what has come over a WebSocket; NULL: no memory. */
static hob_trace *event_new(const hob_conn *c, const hob_key *key, uint64_t arrived_us,
                            size_t bytes)
{
    hob_trace_context caller; /* the same for all that comes there */
    const bool has_caller = c->trace && c->trace->r.has_parent;
    if (has_caller) {
        caller = c->trace->r.context;
        memcpy(caller.span, c->trace->r.parent, sizeof caller.span);
        caller.sampled = c->trace->caller_sampled; /* each has a chance of its own */
    }
    hob_trace *t = trace_new(c->g, has_caller ? &caller : NULL, arrived_us);
    if (!t)
        return NULL;
    memcpy(t->r.request_id, c->request_id, sizeof t->r.request_id);
    t->r.route = "responses_websocket";
    t->r.bytes_in = bytes;
    set_key(t, key);
    return t;
}

void hob_trace_refused(const hob_conn *c, size_t bytes_in, size_t bytes_out, const hob_api_error *e)
{
    hob_trace *t = event_new(c, c->key, hob_now_us(), bytes_in);
    if (!t)
        return;
    t->r.bytes_out = bytes_out;
    hob_trace_fail(t, e);
    hob_trace_unref(t);
}

void hob_trace_open_job(hob_job *j)
{
    hob_trace *t = j->websocket ? event_new(j->conn, j->key, j->arrived_us, j->request_bytes)
                                : hob_trace_ref(j->conn->trace);

    j->trace = t;
    if (!t)
        return;
    t->jobs++;
    memcpy(t->r.model, j->link->model->name, sizeof t->r.model);
    enter_at(t, HOB_SPAN_ADMISSION, hob_now_us());
    if (t->content && j->index == 0 && t->jobs == 1)
        set_prompt(t, j->request.prepare);
}

void hob_trace_job(const hob_job *j, hob_span_kind stage)
{
    if (j->trace && j->index == 0 && stage_of(j->trace) != HOB_SPAN_RECOVERY)
        enter_at(j->trace, stage, hob_now_us());
}

/* The engine says how long the prompt waited for its first step, and in how many steps it was computed. */
static void first_token(const hob_job *j, const hob_tokens_message *m, uint64_t now_us)
{
    hob_trace *t = j->trace;
    hob_trace_span *s = t->stage < 0 ? NULL : &t->r.spans[t->stage];
    t->r.first_token_us = t->r.first_token_us ? t->r.first_token_us : now_us - t->began_us;
    if (s && s->kind == HOB_SPAN_PREFILL) {
        const uint64_t from_us = t->began_us + s->from_us, most_us = now_us - from_us;
        const uint64_t waited_us = m->waited_us < most_us ? m->waited_us : most_us;
        s->kind = HOB_SPAN_QUEUE;
        enter_at(t, HOB_SPAN_PREFILL, from_us + waited_us);
        if (stage_of(t) == HOB_SPAN_PREFILL) /* there was room */
            t->r.spans[t->stage].count = m->chunks;
    }
    enter_at(t, HOB_SPAN_DECODE, now_us);
}

void hob_trace_tokens(const hob_job *j, const hob_tokens_message *m)
{
    hob_trace *t = j->trace;
    if (!t || m->token_count == 0)
        return;
    if (stage_of(t) != HOB_SPAN_DECODE && j->index == 0)
        first_token(j, m, hob_now_us());
    if (stage_of(t) == HOB_SPAN_DECODE)
        t->r.spans[t->stage].count += m->token_count;
    if (t->content && hob_text_len(&t->answer) < HOB_CONTENT_MAX)
        hob_text_add(&t->answer, m->text, m->text_len);
    if (j->credit == 0 && m->finish == HOB_FINISH_NONE)
        hob_trace_stall(j, true);
}

void hob_trace_stall(const hob_job *j, bool stalled)
{
    hob_trace *t = j->trace;
    if (!t || j->index > 0 || stalled == (t->stall_us > 0))
        return;
    const uint64_t now_us = hob_now_us();
    if (!stalled && now_us - t->stall_us >= STALL_LEAST_US)
        hob_trace_part(t, HOB_SPAN_STALL, t->stall_us, now_us);
    t->stall_us = stalled ? now_us : 0;
}

void hob_trace_end_job(hob_job *j)
{
    hob_trace *t = j->trace;
    hob_trace_record *r = t ? &t->r : NULL;

    if (!t)
        return;
    if (j->leader == j->id) {
        r->prompt_tokens += j->prompt_tokens;
        r->cached_tokens += j->cached_tokens;
    }
    r->answer_tokens += j->answer_tokens;
    if (j->index == 0) {
        hob_trace_stall(j, false);
        memcpy(r->response_id, j->response_id, sizeof r->response_id);
        r->class_name = hob_class_name(j->priority);
        r->finish = j->state == HOB_JOB_ENDED          ? hob_finish_name(j->finish)
                    : r->reason || j->request.estimate ? NULL
                                                       : "abandoned";
    }
    if (j->websocket && r->status == 0)
        r->status = 200;
    if (--t->jobs == 0)
        enter_at(t, HOB_SPAN_SEND, hob_now_us());
    j->trace = NULL;
    hob_trace_unref(t);
}

void hob_trace_embed(hob_trace *t, const hob_link *l, uint64_t tokens)
{
    if (!t)
        return;
    memcpy(t->r.model, l->model->name, sizeof t->r.model);
    t->r.prompt_tokens = tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
    enter_at(t, HOB_SPAN_EMBED, hob_now_us());
}

/* ---- the end ---- */

static uint64_t stage_us(const hob_trace_record *r, hob_span_kind kind)
{
    uint64_t us = 0;
    for (uint32_t i = 0; i < r->span_count; i++)
        us += r->spans[i].kind == kind ? r->spans[i].us : 0;
    return us;
}

static void log_word(hob_log_line *l, const char *name, const char *value)
{
    if (value && value[0])
        hob_log_line_word(l, name, value);
}

static void log_tokens(hob_log_line *l, const hob_trace_record *r)
{
    hob_log_line_number(l, "prompt_tokens", r->prompt_tokens);
    hob_log_line_number(l, "cached_tokens", r->cached_tokens);
    hob_log_line_number(l, "answer_tokens", r->answer_tokens);
    hob_log_line_ms(l, "queue_ms", stage_us(r, HOB_SPAN_QUEUE));
    if (r->first_token_us)
        hob_log_line_ms(l, "ttft_ms", r->first_token_us - r->head_us);
}

static void log_content(hob_log_line *l, const char *name, const hob_text *t)
{
    const size_t len = hob_text_len(t);
    if (len > 0 && !t->failed)
        hob_log_line_text(l, name, hob_text_data(t), len < HOB_CONTENT_MAX ? len : HOB_CONTENT_MAX);
}

static void log_request(const hob_trace *t)
{
    const hob_trace_record *r = &t->r;
    const hob_log_level level = t->quiet ? HOB_LOG_DEBUG : HOB_LOG_INFO;
    char trace[2 * sizeof r->context.trace + 1];
    hob_log_line l;

    if ((t->reads_log && r->status == 200) || !hob_log_begin(&l, level))
        return;
    hob_trace_hex(r->context.trace, sizeof r->context.trace, trace);
    hob_log_line_word(&l, "msg", "request");
    hob_log_line_word(&l, "id", r->request_id);
    log_word(&l, "response", r->response_id);
    hob_log_line_word(&l, "trace", trace);
    log_word(&l, "tenant", r->tenant);
    log_word(&l, "key", r->label);
    log_word(&l, "route", r->route);
    log_word(&l, "model", r->model);
    log_word(&l, "class", r->class_name);
    hob_log_line_number(&l, "status", r->status);
    log_word(&l, "finish", r->finish);
    log_word(&l, "reason", r->reason);
    if (r->model[0])
        log_tokens(&l, r);
    hob_log_line_ms(&l, "duration_ms", r->end_us - r->head_us);
    hob_log_line_number(&l, "bytes_in", (int64_t)r->bytes_in);
    hob_log_line_number(&l, "bytes_out", (int64_t)r->bytes_out);
    log_content(&l, "prompt", &t->prompt);
    log_content(&l, "answer", &t->answer);
    hob_log_end(&l, level);
}

void hob_trace_unref(hob_trace *t)
{
    if (!t || --t->refs > 0)
        return;
    const uint64_t now_us = hob_now_us(), slow_us = t->g->conf->traces_slow_ms * (uint64_t)1000;
    close_stage(t, now_us);
    t->r.end_us = now_us - t->began_us;
    t->r.slow = slow_us > 0 && t->r.end_us - t->r.head_us >= slow_us;
    if (t->r.status != 0 ||
        t->r.model[0]) { /* else it was a WebSocket's, or went before it was answered */
        log_request(t);
        /* However slow a stranger makes his requests, they take no room from others'. */
        if (!t->stranger && ((t->sampled && !t->quiet) || t->r.slow || t->r.failed))
            hob_traces_keep(t->g, &t->r);
    }
    hob_text_free(&t->prompt);
    hob_text_free(&t->answer);
    free(t);
}

void hob_trace_leave(hob_conn *c)
{
    hob_trace *t = c->trace;
    c->trace = NULL;
    hob_trace_unref(t);
}
