/* SPDX-License-Identifier: Apache-2.0
 *
 * The store of responses, and those who follow one. See responses.h.
 *
 * A response is freed when it has no job, no follower and no place in the list. When it has ended and nobody reads it, it lies
 * packed: JSON trees take several times as much as their text. The items of one conversation are in each response that
 * continues it, so that any of them may be removed. */
#include "daemon/gateway/responses.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STORE_SHARE = 4,         /* of the gateway's buffers, where they are bounded */
    ITEM_BYTES = 512,        /* of an item beside its text */
    CONVERSATION_MAX = 4096, /* items */
    PUMP_BYTES = 16 << 10,   /* of a follower's events in the outbox */
    BACKGROUND_RETRY_S = 5,
};

static uint32_t tenant_of(const hob_key *key)
{
    return key ? key->record.tenant_number : 0;
}

static size_t store_limit(const hob_gateway *g)
{
    const size_t most = g->conf->response_store_bytes,
                 share = hob_buffers_limit(g->conf) / STORE_SHARE;
    return share > 0 && share < most ? share : most;
}

size_t hob_response_bytes(const hob_response *r)
{
    const size_t trees = r->item_bytes + json_array_size(r->items) * ITEM_BYTES + r->logprob_bytes +
                         r->grounds_bytes;
    return sizeof *r + (r->packed ? r->packed_bytes : trees) + r->text.bytes.capacity +
           r->delta_capacity * sizeof *r->deltas;
}

/* ---- life ---- */

static void drop_trees(hob_response *r)
{
    json_decref(r->echo);
    json_decref(r->items);
    json_decref(r->logprobs);
    json_decref(r->grounds);
    r->echo = r->items = r->logprobs = r->grounds = NULL;
}

static void release(hob_response *r)
{
    if (r->job || r->followers || r->listed)
        return;
    drop_trees(r);
    free(r->packed);
    free(r->error_message);
    hob_text_free(&r->text);
    free(r->deltas);
    free(r);
}

static void list(hob_response *r)
{
    hob_gateway *g = r->g;
    r->listed = true;
    r->next = g->responses;
    if (g->responses)
        g->responses->prev = r;
    g->responses = r;
    g->response_count++;
}

void hob_response_unlist(hob_response *r)
{
    if (!r->listed)
        return;
    r->listed = false;
    if (r->prev)
        r->prev->next = r->next;
    else
        r->g->responses = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->next = r->prev = NULL;
    r->g->response_count--;
    release(r);
}

/* What was to be given back stays where memory lacks. */
static void pack(hob_response *r)
{
    json_t *all = json_pack("{s:O, s:O, s:O*, s:O*}", "echo", r->echo, "items", r->items,
                            "logprobs", r->logprobs, "grounds", r->grounds);
    r->packed = all ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    if (!r->packed)
        return;
    r->packed_bytes = strlen(r->packed) + 1;
    drop_trees(r);
    hob_bytes_fit(&r->text.bytes);
}

static int unpack(hob_response *r)
{
    json_t *all = json_loads(r->packed, JSON_ALLOW_NUL, NULL);
    if (!all)
        return HOB_ENOMEM; /* it was written by us */
    r->echo = json_incref(json_object_get(all, "echo"));
    r->items = json_incref(json_object_get(all, "items"));
    r->logprobs = json_incref(json_object_get(all, "logprobs"));
    r->grounds = json_incref(json_object_get(all, "grounds"));
    json_decref(all);
    free(r->packed);
    r->packed = NULL;
    return 0;
}

/* Items that the client did not name get names: input_items shows them, page by page. */
static int name_items(json_t *items)
{
    json_t *item;
    size_t i;
    json_array_foreach(items, i, item)
    {
        char id[32];
        if (json_object_get(item, "id"))
            continue;
        hob_request_id(id, "msg_");
        if (json_object_set_new(item, "id", json_string(id)) < 0)
            return HOB_ENOMEM;
    }
    return 0;
}

/* What the responses that run in the background take. */
static size_t background_bytes(const hob_gateway *g)
{
    size_t bytes = 0;
    for (const hob_response *r = g->responses; r; r = r->next)
        bytes += r->job && r->background ? hob_response_bytes(r) : 0;
    return bytes;
}

static int admit_background(hob_gateway *g, size_t bytes, hob_api_error *e)
{
    const size_t most = store_limit(g) / 4 * 3;

    if (bytes > most)
        return hob_api_fail(e, 413, "invalid_request_error", "request_too_large", "background",
                            "the request takes %zu bytes of the store, and %zu are there for "
                            "responses that run in the background",
                            bytes, most);
    if (background_bytes(g) + bytes > most) {
        hob_api_fail(e, 429, "rate_limit_error", "response_store_full", "background",
                     "the responses that run in the background fill the store; try again later");
        e->retry_after_s = BACKGROUND_RETRY_S;
        return HOB_ELIMIT;
    }
    if (g->background_count < g->conf->max_background)
        return 0;
    hob_api_fail(e, 429, "rate_limit_error", "too_many_background", "background",
                 "%u responses run in the background, %u are allowed; try again later",
                 g->background_count, g->conf->max_background);
    e->retry_after_s = BACKGROUND_RETRY_S;
    return HOB_ELIMIT;
}

hob_response *hob_response_open(hob_job *j, size_t bytes, hob_api_error *e)
{
    hob_gateway *g = j->g;
    hob_api_request *q = &j->request;
    hob_response *r;

    const size_t item_bytes = q->history_bytes + bytes;
    if (q->background &&
        admit_background(g, sizeof *r + item_bytes + json_array_size(q->items) * ITEM_BYTES, e) < 0)
        return NULL;
    r = calloc(1, sizeof *r);
    if (!r || name_items(q->items) < 0) {
        free(r);
        hob_api_fail(e, 503, "server_error", "out_of_memory", NULL, "no memory for the request");
        return NULL;
    }
    r->g = g;
    r->job = j;
    r->tenant = tenant_of(j->key);
    r->key = j->key ? j->key->record.id : 0;
    r->from_documents = q->retrieval.stores || q->from_documents;
    r->model = q->model;
    r->store = q->store;
    r->background = q->background;
    r->status = q->background ? HOB_RESPONSE_QUEUED : HOB_RESPONSE_IN_PROGRESS;
    r->created_s = j->created_s;
    snprintf(r->id, sizeof r->id, "%s", j->response_id);
    hob_request_id(r->item_id, "msg_");
    hob_request_id(r->search_id, "fs_");
    snprintf(r->previous, sizeof r->previous, "%s", q->previous);
    r->echo = json_incref(q->echo);
    if (r->store) {
        r->item_bytes = item_bytes;
        r->items = json_incref(q->items);
    }
    json_decref(q->items); /* the prompt is made of them already */
    q->items = NULL;
    if (r->background) {
        g->background_count++;
        r->deadline_us = j->arrived_us + g->conf->background_timeout_s * (uint64_t)1000000;
    }
    if (r->store)
        list(r);
    return r;
}

void hob_response_close(hob_response *r)
{
    if (r->background)
        r->g->background_count--;
    r->job = NULL;
    r->ended_us = hob_now_us();
    hob_response_changed(r);
    if (!r->listed) {
        release(r);
        return;
    }
    if (!r->followers)
        pack(r); /* first: so more of the store is left */
    (void)hob_responses_trim(r->g);
}

/* ---- the store ---- */

/* A key that is confined to some collections does not see what others of its tenant have made from documents. */
static bool may_see(const hob_response *r, const hob_key *key)
{
    return r->tenant == tenant_of(key) &&
           (!r->from_documents || !key || key->record.id == r->key || key->record.all_collections);
}

hob_response *hob_response_find(hob_gateway *g, const hob_key *key, const char *id)
{
    hob_response *r = g->responses;
    while (r && (strcmp(r->id, id) != 0 || !may_see(r, key)))
        r = r->next;
    return r && r->packed && unpack(r) < 0 ? NULL : r;
}

bool hob_responses_trim(hob_gateway *g)
{
    const size_t limit = store_limit(g);
    hob_response *r = g->responses, *before;
    size_t bytes = 0;

    for (hob_response *k = r; k; k = k->next) {
        bytes += hob_response_bytes(k);
        r = k;
    }
    for (; r && (g->response_count > g->conf->response_store_count || bytes > limit); r = before) {
        before = r->prev;
        if (r->job || r->followers)
            continue;
        bytes -= hob_response_bytes(r);
        hob_response_unlist(r);
    }
    return background_bytes(g) <= limit / 4 * 3;
}

static void fail_late(hob_response *r)
{
    hob_api_error e;
    hob_api_fail(&e, 500, "server_error", "background_timeout", NULL,
                 "the response took longer than the %u s that are allowed",
                 r->g->conf->background_timeout_s);
    hob_job_end(r->job, &e);
}

void hob_responses_tick(hob_gateway *g, uint64_t now_us)
{
    const uint64_t ttl_us = g->conf->response_store_ttl_s * (uint64_t)1000000;
    for (hob_response *r = g->responses, *next; r; r = next) {
        next = r->next;
        if (r->job && r->background && now_us > r->deadline_us) {
            fail_late(r);
            next = g->responses; /* room was made, perhaps of the next one */
        } else if (!r->job && now_us > r->ended_us + ttl_us)
            hob_response_unlist(r);
        else if (!r->job && !r->followers && !r->packed)
            pack(r);
    }
}

void hob_responses_free(hob_gateway *g)
{
    while (g->responses)
        hob_response_unlist(g->responses);
}

/* ---- conversations ---- */

static json_t *answer_item(const hob_response *r)
{
    const size_t len = hob_text_len(&r->text);
    return json_pack("{s:s, s:s, s:o}", "id", r->item_id, "role", "assistant", "content",
                     json_stringn(len ? hob_text_data(&r->text) : "", len));
}

static json_t *conversation(const hob_response *r, json_t *more)
{
    json_t *items = json_copy(r->items);
    if (!items ||
        (hob_text_len(&r->text) > 0 && json_array_append_new(items, answer_item(r)) < 0) ||
        json_array_extend(items, more) < 0) {
        json_decref(items);
        return NULL;
    }
    return items;
}

int hob_response_continue(hob_gateway *g, const hob_key *key, hob_api_request *request,
                          hob_api_error *e)
{
    const char *name = "previous_response_id";
    if (request->previous[0]) {
        const hob_response *r = hob_response_find(g, key, request->previous);
        if (!r)
            return hob_api_bad(e, "previous_response_not_found", name,
                               "%s: no response '%.63s' is stored", name, request->previous);
        if (r->job)
            return hob_api_bad(e, "previous_response_not_finished", name,
                               "%s: the response '%.63s' has not finished", name,
                               request->previous);
        json_t *items = conversation(r, request->items);
        if (!items)
            return hob_api_fail(e, 503, "server_error", "out_of_memory", NULL,
                                "no memory for the request");
        json_decref(request->items);
        request->items = items;
        request->from_documents = r->from_documents;
        request->history_bytes = r->item_bytes + hob_text_len(&r->text);
    }
    if (json_array_size(request->items) > CONVERSATION_MAX)
        return hob_api_bad(e, "invalid_value", "input",
                           "input: the conversation has %zu items, at most %d are allowed",
                           json_array_size(request->items), CONVERSATION_MAX);
    request->prepare = hob_api_responses_prepare(
        request->items, json_string_value(json_object_get(request->echo, "instructions")));
    return request->prepare ? 0
                            : hob_api_fail(e, 503, "server_error", "out_of_memory", NULL,
                                           "no memory for the request");
}

/* ---- followers ---- */

void hob_response_follow(hob_response *r, hob_conn *c, uint64_t from)
{
    c->follows = r;
    c->follow_sequence = from;
    c->follow_next = r->followers;
    r->followers = c;
    hob_response_pump(c);
}

void hob_response_unfollow(hob_conn *c)
{
    hob_response *r = c->follows;
    if (!r)
        return;
    hob_conn **at = &r->followers;
    while (*at != c)
        at = &(*at)->follow_next;
    *at = c->follow_next;
    c->follows = NULL;
    c->follow_next = NULL;
    release(r);
}

void hob_response_changed(hob_response *r)
{
    for (hob_conn *c = r->followers; c; c = c->follow_next)
        if (c->state != HOB_CONN_CLOSING)
            lws_callback_on_writable(c->wsi);
}

void hob_response_pump(hob_conn *c)
{
    const hob_response *r = c->follows;
    hob_text *t = &c->g->scratch;

    if (!r || c->state == HOB_CONN_CLOSING)
        return;
    const uint64_t count = hob_response_event_count(r);
    while (c->follow_sequence < count && c->out_bytes < PUMP_BYTES) {
        hob_text_clear(t);
        hob_response_event(t, r, c->follow_sequence++);
        hob_http_stream_add(c, t, 0, 0);
    }
    if (!r->job && c->follow_sequence >= count) {
        hob_http_stream_end(c);
        hob_response_unfollow(c);
    }
}
