/* SPDX-License-Identifier: Apache-2.0
 *
 * The last traces, in a ring in memory, for administrators; and the way to a collector. */
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/otlp.h"
#include "daemon/gateway/query.h"

struct hob_traces {
    hob_trace_record *list; /* [capacity] */
    uint32_t capacity;
    uint64_t count; /* ever added */
    hob_otlp *otlp; /* NULL: nobody collects them */
};

enum { LIST_DEFAULT = 50, LIST_MAX = 1000 };

int hob_traces_open(hob_gateway *g, hob_diag *diag)
{
    const hob_conf *conf = g->conf;
    hob_traces *s = calloc(1, sizeof *s);
    if (s && conf->traces_keep > 0)
        s->list = malloc(conf->traces_keep * sizeof *s->list);
    if (!s || (conf->traces_keep > 0 && !s->list)) {
        free(s);
        return hob_fail(diag, HOB_ENOMEM, "no memory for %u traces", conf->traces_keep);
    }
    s->capacity = conf->traces_keep;
    g->traces = s;
    return conf->otlp_endpoint[0]
               ? hob_otlp_open(conf->otlp_endpoint, conf->otlp_ca, &s->otlp, diag)
               : 0;
}

void hob_traces_close(hob_gateway *g)
{
    if (!g->traces)
        return;
    hob_otlp_close(g->traces->otlp);
    free(g->traces->list);
    free(g->traces);
    g->traces = NULL;
}

void hob_traces_keep(hob_gateway *g, const hob_trace_record *r)
{
    hob_traces *s = g->traces;
    if (!s)
        return;
    if (s->otlp)
        hob_otlp_post(s->otlp, r);
    if (s->capacity > 0)
        s->list[s->count++ % s->capacity] = *r;
}

uint64_t hob_traces_kept(const hob_gateway *g)
{
    return g->traces ? g->traces->count : 0;
}

size_t hob_traces_bytes(const hob_gateway *g)
{
    const hob_traces *s = g->traces;
    return s ? sizeof *s + s->capacity * sizeof *s->list + hob_otlp_bytes(s->otlp) : 0;
}

uint64_t hob_traces_dropped(const hob_gateway *g, uint64_t *ret_sent)
{
    *ret_sent = 0;
    return g->traces && g->traces->otlp ? hob_otlp_dropped(g->traces->otlp, ret_sent) : 0;
}

/* ---- for administrators ---- */

/* The newest is the first; NULL: there are no more. */
static const hob_trace_record *newest(const hob_traces *s, uint32_t i)
{
    const uint64_t there = s->count < s->capacity ? s->count : s->capacity;
    return i < there ? &s->list[(s->count - 1 - i) % s->capacity] : NULL;
}

static void respond(hob_conn *c, hob_text *t)
{
    hob_http_respond_json(c, t);
    hob_text_free(t);
}

static int take_limit(void *user, const char *name, const char *value, hob_api_error *e)
{
    return strcmp(name, "limit") == 0 ? hob_query_number(name, value, 1, LIST_MAX, user, e)
                                      : hob_query_unknown(name, e);
}

static void serve_list(hob_conn *c, json_t *body)
{
    const hob_trace_record *r;
    uint64_t limit = LIST_DEFAULT;
    hob_api_error e = {0};
    hob_text t = {0};

    (void)body;
    if (hob_query_each(c, take_limit, &limit, &e) < 0) {
        hob_http_error(c, &e);
        return;
    }
    hob_text_puts(&t, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < limit && (r = newest(c->g->traces, i)); i++) {
        hob_text_puts(&t, i ? "," : "");
        hob_trace_json(&t, r, false);
    }
    hob_text_puts(&t, "]}\n");
    respond(c, &t);
}

static bool is_called(const hob_trace_record *r, const char *id)
{
    char hex[2 * sizeof r->context.trace + 1];
    hob_trace_hex(r->context.trace, sizeof r->context.trace, hex);
    return strcmp(hex, id) == 0 || strcmp(r->request_id, id) == 0 ||
           (r->response_id[0] && strcmp(r->response_id, id) == 0);
}

/* Of one trace there may be several requests. */
static void serve_one(hob_conn *c, json_t *body)
{
    const hob_trace_record *r;
    hob_api_error e;
    hob_text t = {0};
    uint32_t found = 0;

    (void)body;
    hob_text_puts(&t, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; (r = newest(c->g->traces, i)); i++) {
        if (!is_called(r, c->name))
            continue;
        hob_text_puts(&t, found++ ? "," : "");
        hob_trace_json(&t, r, true);
    }
    hob_text_puts(&t, "]}\n");
    if (found > 0) {
        respond(c, &t);
        return;
    }
    hob_text_free(&t);
    hob_api_fail(&e, 404, "invalid_request_error", "trace_not_found", NULL,
                 "no trace of '%.60s' is kept: it is too old, was not sampled, or has not ended",
                 c->name);
    hob_http_error(c, &e);
}

const hob_admin_route hob_admin_trace_routes[HOB_ADMIN_TRACE_ROUTES] = {
    {"GET", "/hob/v1/traces", serve_list}, {"GET", "/hob/v1/traces/", serve_one}, /* {id} */
};
