/* SPDX-License-Identifier: Apache-2.0
 *
 * A response of /v1/responses: what its events and its object are written from, while it runs and, if it is stored, after.
 *
 * Stored responses are kept in memory only, bounded by limits.response_store_count, _bytes and _ttl_s; the oldest finished
 * ones go first. A response belongs to a tenant: for all others it does not exist, nor, when it was made from documents, for
 * other keys that are confined to some collections.
 *
 * A background response has no connection. Its events are not kept as such: each can be written anew from the text and
 * the places where its deltas end, so that any number of connections may follow it, each at its own pace. */
#ifndef HOB_DAEMON_GATEWAY_RESPONSES_H
#define HOB_DAEMON_GATEWAY_RESPONSES_H

#include "daemon/gateway/state.h"

typedef enum hob_response_status {
    HOB_RESPONSE_QUEUED,
    HOB_RESPONSE_IN_PROGRESS,
    HOB_RESPONSE_COMPLETED,
    HOB_RESPONSE_INCOMPLETE,
    HOB_RESPONSE_CANCELLED,
    HOB_RESPONSE_FAILED,
} hob_response_status;

typedef struct hob_delta { /* where it ends */
    uint32_t text, logprobs;
} hob_delta;

struct hob_response {
    hob_gateway *g;
    hob_response *next, *prev; /* while it is listed */
    hob_job *job;              /* NULL: it has ended */
    hob_conn *followers;       /* background */
    uint32_t tenant, model;
    int64_t key;         /* that made it */
    bool from_documents; /* it, or one that it continues */
    bool store, listed;  /* listed: to be found by its id */
    bool background, began /* it has an output item */;
    hob_response_status status;
    char id[48], item_id[48], search_id[48], previous[64];
    int64_t created_s, completed_s;
    uint64_t ended_us, deadline_us; /* deadline: of a background job */
    json_t *echo;                   /* fields of the request that the object repeats */
    json_t *items; /* the conversation so far: {"id", "role", "content"}, without instructions */
    json_t *logprobs, *grounds; /* NULL: it has none; grounds: its job's, of a search */
    /* About what they take: echo and items as text, the others as trees. */
    size_t item_bytes, logprob_bytes, grounds_bytes;
    char *packed; /* at rest these four are NULL and here, as the members of one object */
    size_t packed_bytes;
    hob_text text;                /* the answer */
    uint32_t sent, sent_logprobs; /* how much of both is in events: without background */
    hob_delta *deltas;            /* [delta_count]: background */
    uint32_t delta_count, delta_capacity;
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    const char *error_code; /* a literal */
    char *error_message;    /* NULL: it has none, or there was no memory for it */
};

/* ---- responses.c ---- */

/* Puts the conversation that request continues before its own items and makes the prompt of both. HOB_EINVAL with the
 * error filled: what it continues is gone or still runs, or the whole is too long. */
HOB_MUST_CHECK int hob_response_continue(hob_gateway *g, const hob_key *key,
                                         hob_api_request *request, hob_api_error *e);
/* For a job whose request came in `bytes`. NULL with the error filled. */
hob_response *hob_response_open(hob_job *j, size_t bytes, hob_api_error *e);
/* Its job ends: it stays if it is stored. */
void hob_response_close(hob_response *r);
/* It was never heard of: nobody can ask for it. */
void hob_response_unlist(hob_response *r);
/* NULL: there is none, or there was no memory. It lies open until the next tick. */
hob_response *hob_response_find(hob_gateway *g, const hob_key *key, const char *id);
size_t hob_response_bytes(const hob_response *r);
/* Makes room. False: what runs in the background is more than three quarters of what may be stored; the rest is for what has
 * ended, so that a response that is ended for this reason can still be asked for. */
bool hob_responses_trim(hob_gateway *g);
void hob_responses_tick(hob_gateway *g, uint64_t now_us);
void hob_responses_free(hob_gateway *g); /* at the end: no connection and no job is left */

/* c reads the events of r from number `from` on. */
void hob_response_follow(hob_response *r, hob_conn *c, uint64_t from);
void hob_response_unfollow(hob_conn *c);
void hob_response_changed(hob_response *r); /* there are new events */
void hob_response_pump(hob_conn *c);        /* events into the outbox, while there is room */

/* ---- api_responses.c: how it is written ---- */

void hob_response_object(hob_text *t, const hob_response *r);
uint64_t hob_response_event_count(const hob_response *r); /* background */
/* Event `number` of those, as server-sent event. */
void hob_response_event(hob_text *t, const hob_response *r, uint64_t number);

/* ---- responses_http.c: GET, DELETE, cancel, input_items ---- */

void hob_responses_serve(hob_conn *c, bool remove);

#endif
