/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be asked of a response that is stored: GET for its object or its events, DELETE, cancel, input_items. Query
 * parameters are known by name like fields of a body: one that hob does not know is a 400. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/query.h"
#include "daemon/gateway/responses.h"

enum { PAGE_DEFAULT = 20, PAGE_MAX = 100 };

typedef struct query {
    bool items; /* a list of items is asked for */
    bool stream, ascending;
    uint64_t from;  /* of the first event */
    uint32_t limit; /* of items */
    char after[80]; /* an item's id; "": from the beginning */
} query;

/* ---- the query ---- */

static int take_argument(void *user, const char *name, const char *value, hob_api_error *e)
{
    query *q = user;
    const bool items = q->items;
    uint64_t n = 0;
    if (strcmp(name, "include") == 0 || strcmp(name, "include[]") == 0)
        return strcmp(value, "message.output_text.logprobs") == 0
                   ? 0 /* they are there if the response was made with them */
                   : hob_query_bad(name, value, "message.output_text.logprobs", e);
    if (!items && (strcmp(name, "stream") == 0 || strcmp(name, "include_obfuscation") == 0)) {
        const bool on = strcmp(value, "true") == 0;
        if (!on && strcmp(value, "false") != 0)
            return hob_query_bad(name, value, "true, false", e);
        if (strcmp(name, "stream") == 0)
            q->stream = on;
        else if (on)
            return hob_query_bad(name, value, "false", e);
        return 0;
    }
    if (!items && strcmp(name, "starting_after") == 0) {
        if (hob_query_number(name, value, 0, INT32_MAX, &n, e) < 0)
            return HOB_EINVAL;
        q->from = n + 1;
        return 0;
    }
    if (items && strcmp(name, "limit") == 0) {
        if (hob_query_number(name, value, 1, PAGE_MAX, &n, e) < 0)
            return HOB_EINVAL;
        q->limit = (uint32_t)n;
        return 0;
    }
    if (items && strcmp(name, "order") == 0) {
        q->ascending = strcmp(value, "asc") == 0;
        return q->ascending || strcmp(value, "desc") == 0
                   ? 0
                   : hob_query_bad(name, value, "asc, desc", e);
    }
    if (items && strcmp(name, "after") == 0) {
        snprintf(q->after, sizeof q->after, "%s", value);
        return 0;
    }
    return hob_query_unknown(name, e);
}

static int read_query(hob_conn *c, bool items, query *ret, hob_api_error *e)
{
    query q = {.items = items, .limit = PAGE_DEFAULT};

    if (hob_query_each(c, take_argument, &q, e) < 0)
        return HOB_EINVAL;
    if (q.from > 0 && !q.stream)
        return hob_api_bad(e, "invalid_value", "starting_after",
                           "starting_after needs stream=true");
    *ret = q;
    return 0;
}

/* ---- answers ---- */

static void respond(hob_conn *c, hob_text *t)
{
    hob_text_puts(t, "\n");
    if (t->failed)
        hob_conn_kill(c, "no memory for an answer");
    else
        hob_http_respond(c, 200, "application/json", "", hob_text_data(t), hob_text_len(t));
    hob_text_free(t);
}

static void respond_object(hob_conn *c, const hob_response *r)
{
    hob_text t = {0};
    hob_response_object(&t, r);
    respond(c, &t);
}

static int serve_get(hob_conn *c, hob_response *r, hob_api_error *e)
{
    query q;
    if (read_query(c, false, &q, e) < 0)
        return HOB_EINVAL;
    if (!q.stream) {
        respond_object(c, r);
        return 0;
    }
    if (!r->background)
        return hob_api_bad(e, "unsupported_value", "stream",
                           "only the events of a response created with \"background\": true are "
                           "kept");
    c->state = HOB_CONN_BUSY;
    hob_http_stream_begin(c);
    hob_response_follow(r, c, q.from);
    return 0;
}

static int serve_cancel(hob_conn *c, hob_response *r, hob_api_error *e)
{
    if (!r->job && r->status != HOB_RESPONSE_CANCELLED)
        return hob_api_bad(e, "response_already_finished", NULL,
                           "the response '%.60s' has already finished", r->id);
    if (r->job)
        hob_job_stop(r->job);
    /* It may have been too large to be kept; then there is nothing left to be shown. */
    r = hob_response_find(c->g, c->key, c->name);
    if (!r)
        return hob_api_fail(e, 404, "invalid_request_error", "response_not_found", NULL,
                            "the response '%.60s' was cancelled and is not stored", c->name);
    respond_object(c, r);
    return 0;
}

static int serve_delete(hob_conn *c, hob_response *r)
{
    hob_text t = {0};
    hob_text_format(&t, "{\"id\":\"%s\",\"object\":\"response\",\"deleted\":true}", r->id);
    if (r->job) {
        hob_job *j = r->job;
        hob_response_unlist(r); /* it is freed with its job, or its last reader */
        hob_job_stop(j);
    } else
        hob_response_unlist(r);
    respond(c, &t);
    return 0;
}

static void write_item(hob_text *t, const json_t *item)
{
    const char *role = json_string_value(json_object_get(item, "role"));
    const bool out = strcmp(role, "assistant") == 0;
    hob_text_puts(t, "{\"id\":");
    hob_text_json(t, json_object_get(item, "id"));
    hob_text_format(t,
                    ",\"type\":\"message\",\"status\":\"completed\",\"role\":\"%s\",\"content\":"
                    "[{\"type\":\"%s\",%s\"text\":",
                    role, out ? "output_text" : "input_text",
                    out ? "\"annotations\":[],\"logprobs\":[]," : "");
    hob_text_json(t, json_object_get(item, "content"));
    hob_text_puts(t, "}]}");
}

static const json_t *item_at(const hob_response *r, bool ascending, size_t i)
{
    return json_array_get(r->items, ascending ? i : json_array_size(r->items) - 1 - i);
}

static void write_id(hob_text *t, const char *name, const json_t *item)
{
    hob_text_format(t, ",\"%s\":", name);
    if (item)
        hob_text_json(t, json_object_get(item, "id"));
    else
        hob_text_puts(t, "null");
}

/* The whole conversation that the model was given, earlier responses included. */
static int serve_input(hob_conn *c, const hob_response *r, hob_api_error *e)
{
    const size_t count = json_array_size(r->items);
    size_t first = 0;
    hob_text t = {0};
    query q;

    if (read_query(c, true, &q, e) < 0)
        return HOB_EINVAL;
    if (q.after[0]) {
        while (first < count &&
               strcmp(json_string_value(json_object_get(item_at(r, q.ascending, first), "id")),
                      q.after) != 0)
            first++;
        if (first++ == count)
            return hob_api_bad(e, "invalid_value", "after", "after: no item '%.60s'", q.after);
    }
    const size_t end = count - first > q.limit ? first + q.limit : count;
    hob_text_puts(&t, "{\"object\":\"list\",\"data\":[");
    for (size_t i = first; i < end; i++) {
        hob_text_puts(&t, i > first ? "," : "");
        write_item(&t, item_at(r, q.ascending, i));
    }
    hob_text_puts(&t, "]");
    write_id(&t, "first_id", end > first ? item_at(r, q.ascending, first) : NULL);
    write_id(&t, "last_id", end > first ? item_at(r, q.ascending, end - 1) : NULL);
    hob_text_format(&t, ",\"has_more\":%s}", end < count ? "true" : "false");
    respond(c, &t);
    return 0;
}

void hob_responses_serve(hob_conn *c, bool remove)
{
    hob_response *r = hob_response_find(c->g, c->key, c->name);
    hob_api_error e;
    int rc;

    if (!r)
        rc = hob_api_fail(&e, 404, "invalid_request_error", "response_not_found", NULL,
                          "the response '%.100s' does not exist, or is not stored any more",
                          c->name);
    else if (c->route == HOB_ROUTE_RESPONSE_CANCEL)
        rc = serve_cancel(c, r, &e);
    else if (c->route == HOB_ROUTE_RESPONSE_INPUT)
        rc = serve_input(c, r, &e);
    else
        rc = remove ? serve_delete(c, r) : serve_get(c, r, &e);
    if (rc < 0)
        hob_http_error(c, &e);
}
