/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of one request, from its connection's acceptance to its last byte: its trace. Everything that works on the
 * request holds a reference; with the last one the trace ends: the request's line is logged, and the trace is kept and
 * exported if it was sampled, was slow or has failed. Of requests without a valid key none is.
 *
 * Its stages follow one another without a gap, each begun by the end of the one before, so that they sum up to the request's
 * time. What happens within a stage (parts of a search, a reader that stalls) is a part of that stage. The caller's traceparent
 * makes the trace one of his; the answer's names ours. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_TRACE_H
#define HOB_DAEMON_GATEWAY_TRACE_H

#include "daemon/gateway/state.h"
#include "daemon/gateway/trace_context.h"

typedef enum hob_span_kind {
    /* stages */
    HOB_SPAN_ACCEPT, /* from the connection to the first request's head, its TLS handshake included */
    HOB_SPAN_AUTH,   /* the head: route, key */
    HOB_SPAN_RECEIVE,   /* the body */
    HOB_SPAN_SERVE,     /* of requests that no engine answers */
    HOB_SPAN_ADMISSION, /* the body is read, limits are looked at */
    HOB_SPAN_RETRIEVE,
    HOB_SPAN_QUEUE, /* until an engine is up, and until the engine takes it */
    HOB_SPAN_TOKENIZE,
    HOB_SPAN_PREFILL,
    HOB_SPAN_DECODE,
    HOB_SPAN_RECOVERY, /* from an engine's death to the first token of its successor */
    HOB_SPAN_SEND,     /* the answer is complete and not written yet */
    /* parts */
    HOB_SPAN_EMBED, /* on /v1/embeddings a stage */
    HOB_SPAN_WORDS,
    HOB_SPAN_VECTORS,
    HOB_SPAN_FUSE,
    HOB_SPAN_STALL, /* the reader is so slow that generation stops */
    HOB_SPAN_KINDS,
} hob_span_kind;

enum { HOB_SPANS_MAX = 32, HOB_SPAN_ROOT = -1, HOB_CONTENT_MAX = 4096 };

typedef struct hob_trace_span {
    uint64_t from_us, us; /* from: since the trace began */
    uint32_t count;       /* prefill: chunks; decode: tokens */
    int8_t parent;        /* a stage's index, or HOB_SPAN_ROOT */
    uint8_t kind;
} hob_trace_span;

/* What is kept of it. */
typedef struct hob_trace_record {
    hob_trace_context context; /* ours: the trace, the request's span */
    uint8_t parent[8];         /* the caller's span */
    bool has_parent, failed, slow;
    uint64_t began_unix_us; /* of the first stage */
    uint64_t head_us;       /* of the head's arrival: since the trace began, as are the next */
    uint64_t end_us, first_token_us; /* 0: no token came */
    char request_id[32], response_id[48];
    char label[HOB_KEY_WORD_MAX], tenant[HOB_KEY_WORD_MAX], model[64];
    int64_t key;       /* number; 0: none */
    const char *route; /* these are literals, and may be NULL */
    const char *class_name, *finish, *reason;
    int status;
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t bytes_in, bytes_out;
    uint32_t left_out; /* spans that there was no room for */
    uint32_t span_count;
    hob_trace_span spans[HOB_SPANS_MAX];
} hob_trace_record;

typedef struct hob_trace hob_trace;

const char *hob_span_name(hob_span_kind kind);

/* ---- the request's side: http.c, websocket.c ---- */

void hob_trace_begin(
    hob_conn *c); /* a request's head has come: c->trace, in place of an earlier one */
void hob_trace_leave(
    hob_conn *c); /* the response is written, or the connection gone; NULL is fine */
/* From here on the trace (may be NULL, as everywhere below) is in this stage. */
void hob_trace_enter(hob_trace *t, hob_span_kind stage);
void hob_trace_head(hob_conn *c, bool body); /* route and key are known; a body follows */
void hob_trace_respond(hob_conn *c, int status);
void hob_trace_fail(hob_trace *t, const hob_api_error *e); /* why it is refused, or ends */
void hob_trace_sent(hob_conn *c, size_t bytes);
void hob_trace_queued(const hob_job *j,
                      size_t bytes); /* over a WebSocket, where many share what is sent */
/* An event of a WebSocket that comes to no job: a line and a trace of its own. */
void hob_trace_refused(const hob_conn *c, size_t bytes_in, size_t bytes_out,
                       const hob_api_error *e);
/* The line "traceparent: …\r\n" of a response to c; "" for who has sent none. */
void hob_trace_header(const hob_conn *c, char ret[HOB_TRACEPARENT_MAX + 16]);

/* ---- the answer's side: opening.c, job.c, prepared.c, recovery.c, grounding.c ---- */

void hob_trace_open_job(hob_job *j); /* j->trace: its request's, or over WebSocket one of its own */
void hob_trace_job(
    const hob_job *j,
    hob_span_kind stage); /* one that recovers stays in recovery until it has a token */
void hob_trace_tokens(const hob_job *j, const hob_tokens_message *m);
void hob_trace_stall(const hob_job *j, bool stalled); /* it has no credit */
void hob_trace_end_job(hob_job *j);                   /* it is about to be freed */
/* /v1/embeddings: so many tokens begin to be computed. The stage is HOB_SPAN_EMBED. */
void hob_trace_embed(hob_trace *t, const hob_link *l, uint64_t tokens);
hob_trace *hob_trace_ref(hob_trace *t);
void hob_trace_unref(hob_trace *t);
/* A part of the stage that is running, both on hob_now_us's clock. */
void hob_trace_part(hob_trace *t, hob_span_kind part, uint64_t from_us, uint64_t to_us);

/* ---- traces.c: what is kept ---- */

/* HOB_ENOMEM, HOB_EINVAL: the endpoint. */
HOB_MUST_CHECK int hob_traces_open(hob_gateway *g, hob_diag *diag);
void hob_traces_close(hob_gateway *g); /* blocks for a moment while the last ones are sent */
void hob_traces_keep(hob_gateway *g, const hob_trace_record *r); /* copied */
uint64_t hob_traces_kept(const hob_gateway *g);                  /* ever */
size_t hob_traces_bytes(const hob_gateway *g);                   /* that they take */
/* Traces that were to be sent and are lost; sent: those that were taken. */
uint64_t hob_traces_dropped(const hob_gateway *g, uint64_t *ret_sent);
enum { HOB_ADMIN_TRACE_ROUTES = 2 };
extern const hob_admin_route hob_admin_trace_routes[HOB_ADMIN_TRACE_ROUTES];

/* ---- trace_json.c ---- */

/* As an object for hobctl and the console. */
void hob_trace_json(hob_text *t, const hob_trace_record *r, bool spans);

#endif
