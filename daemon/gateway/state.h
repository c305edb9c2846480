/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the gateway: its structures and the calls between its files. All of it belongs to thread `loop`. */
#ifndef HOB_DAEMON_GATEWAY_STATE_H
#define HOB_DAEMON_GATEWAY_STATE_H

#include <libwebsockets.h>
#include <sys/types.h>

#include "daemon/conf/certificate.h"
#include "daemon/engine/arbiter.h"
#include "daemon/engine/batcher.h"
#include "daemon/gateway/api.h"
#include "daemon/gateway/failures.h"
#include "daemon/gateway/forecast.h"
#include "daemon/gateway/gateway.h"
#include "daemon/gateway/keyring.h"
#include "daemon/gateway/log.h"
#include "daemon/gateway/loop.h"
#include "daemon/gateway/sessions.h"
#include "daemon/observe/process.h"
#include "daemon/store/audit_table.h"

typedef struct hob_gateway hob_gateway;
typedef struct hob_conn hob_conn;
typedef struct hob_job hob_job;
typedef struct hob_link hob_link;
typedef struct hob_listener hob_listener;
typedef struct hob_front hob_front;
typedef struct hob_response hob_response;           /* responses.h */
typedef struct hob_grounding hob_grounding;         /* grounding.h */
typedef struct hob_console_route hob_console_route; /* console.h, as is the next */
typedef struct hob_console_file hob_console_file;
typedef struct hob_document_route hob_document_route; /* documents.h, as are the next */
typedef struct hob_upload hob_upload;
typedef struct hob_download hob_download;
typedef struct hob_searching hob_searching;
typedef struct hob_trace hob_trace; /* trace.h, as is the next */
typedef struct hob_traces hob_traces;
typedef struct hob_embeddings hob_embeddings; /* api_embeddings.c: an answer of /v1/embeddings */

enum {
    HOB_WRITE_MAX = 16384,       /* bytes of one lws_write */
    HOB_CREDIT_TOKENS = 32,      /* a stream's tokens between engine and socket */
    HOB_OUTBOX_SLACK = 16 << 20, /* what closing events and whole answers may add to outbox_bytes */
    HOB_ADMIN_CONNECTIONS = 16,  /* at once, beside max_connections */
    HOB_STALL_GRACE_MS = 5000,   /* for a stalled reader to find out why its stream has ended */
    HOB_HEAD_MAX = 2048,         /* bytes of a response's head */
    HOB_DOOR_SLOTS = 1024,       /* addresses whose handshakes are counted */
    HOB_DRAIN_RETRY_S = 5,       /* what those who come while we drain are told to wait */
    HOB_LANES_MAX = 64,          /* responses waiting or running on one WebSocket */
    HOB_ENGINE_WAIT_MS = 20000,  /* a request's wait for an engine that is coming up */
    HOB_RECOVERY_WAIT_MS = 60000, /* a stream's wait for its engine's successor */
    HOB_PATH_IDS = 2,             /* in the path of a document's route */
};

/* ---- link.c, supervisor.c: one engine process ---- */

typedef enum hob_link_state { HOB_LINK_DOWN, HOB_LINK_STARTING, HOB_LINK_READY } hob_link_state;

enum { HOB_PROMISES_MAX = 256 };
typedef struct hob_promise {
    uint64_t due_us;
    float prefill, answer; /* tokens */
    uint32_t tenant;       /* 0: there are no keys */
} hob_promise;

struct hob_link {
    hob_gateway *g;
    uint32_t index;
    const hob_conf_model *model;
    hob_link_state state;
    pid_t pid; /* 0: none */
    int fd;    /* owned by wsi once there is one; -1: none */
    struct lws *wsi;
    hob_reader reader;
    hob_bytes out;
    uint64_t started_us, heard_us, restart_us; /* heard: the last heartbeat */
    uint64_t moved_us; /* when the machine last went on after it had stood still */
    uint32_t text_ms;  /* what it said of the request in its tokenizer */
    uint32_t step_ms;  /* what it expects its step to take; 0: not long */
    uint32_t failures; /* in a row; the backoff's exponent */
    uint64_t restarts; /* since the gateway started */
    bool ever_ready;
    bool unloading, unloaded; /* by an administrator: no new requests; then no engine either */
    uint64_t unload_by_us;    /* when those that still run are ended */
    bool benched;             /* its device has failed: the engine runs on the CPU */
    bool blamed; /* the device did not say so itself: until a request turns out to be the cause */
    uint32_t context, max_sequences; /* from HELLO */
    uint64_t kv_tokens;
    uint32_t dimensions;  /* of its vectors, from HELLO; 0: it generates text */
    uint64_t embed_alone; /* the suspect that runs by itself: embed.c; 0: none */
    json_t *hello, *stats;
    bool told;          /* stats are of the engine that runs: not what the last one said */
    uint32_t jobs;      /* sent and not finished */
    uint32_t estimates; /* of those: they are only prepared, and take nobody's place */
    uint32_t
        kept; /* places for choices that wait for the prompt they share, and while documents are searched */
    uint32_t suspects; /* jobs that may be what kills the engine: recovery.c */
    uint64_t alone;    /* the suspect that runs by itself; 0: none */
    bool held;         /* jobs wait in the gateway though the engine is up: suspects come first */
    bool unsure;       /* the engine may still compute something that the gateway has given up */
    uint64_t finished_us;
    double finish_gap_s; /* smoothed time between two finished jobs */
    double answer_ratio; /* smoothed length of answers, of their max_tokens */
    double slowness;     /* smoothed time until first tokens, of what was forecast */
    hob_promise promises[HOB_PROMISES_MAX]; /* admission.c: requests that were told to come back */
    uint32_t promise_count;
};
void hob_link_open(hob_link *l, hob_gateway *g, uint32_t index);
void hob_link_close(hob_link *l); /* kills the process */
/* Longest time without a heartbeat that is no hang, in microseconds. */
uint64_t hob_link_patience_us(const hob_link *l);
/* Queues a message; false when the link is not ready or its queue is full. */
bool hob_link_send(hob_link *l, hob_message_type type, uint64_t id, const void *payload,
                   size_t len);
int hob_link_callback(hob_link *l, struct lws *wsi, enum lws_callback_reasons reason);
void hob_link_fail(hob_link *l,
                   const char *why); /* kills the process; its jobs wait for the next one */
void hob_link_ready(hob_link *l);    /* HELLO was read */
/* Takes no new requests; the engine ends with its last one, drain_timeout_ms from now at the latest. */
void hob_link_unload(hob_link *l);
void hob_link_reload(hob_link *l); /* the reverse, at any time */
int hob_link_read(hob_link *l);    /* frames from the socket; negative: broken or at its end */
int hob_link_write(hob_link *l);
void hob_links_tick(hob_gateway *g, uint64_t now_us);
void hob_links_reap(hob_gateway *g); /* SIGCHLD */
/* What becomes of a request, as an error: no engine came in time, so many ended with it, one refused it with this code (not
 * one that says what is wrong with the request). */
void hob_link_explain_wait(bool restarted, hob_api_error *e);
void hob_link_explain_poison(uint32_t engines, hob_api_error *e);
void hob_link_explain_failure(const char *code, const char *message, hob_api_error *e);

/* ---- listener.c, door.c, front.c: from a listening socket to a connection ---- */

struct hob_listener {
    hob_gateway *g;
    int fd; /* owned by wsi once there is one; -1: none */
    struct lws *wsi;
    bool tls, is_unix, admin;
    bool metrics;                   /* serves those who watch, without a key, and nobody else */
    bool paused;                    /* out of descriptors: looked at again at the next tick */
    char path[HOB_CONF_SOCKET_MAX]; /* of a Unix socket that we made; "": none */
    ino_t inode;
    char name[160]; /* for the log */
};
/* HOB_EIO, HOB_EINVAL: a place that cannot be listened on. What was opened is closed by hob_listeners_close. */
int hob_listeners_open(hob_gateway *g, hob_diag *diag);
void hob_listeners_close(hob_gateway *g);
void hob_listeners_tick(hob_gateway *g);
int hob_listener_callback(hob_listener *l, enum lws_callback_reasons reason);

/* A connection that was accepted and admitted becomes one of the front's. */
void hob_listener_take_in(void *listener, int fd);

/* Whether a connection from there may come in. */
bool hob_door_admits(const hob_listener *l, const uint8_t source[16]);
void hob_door_prepare(const hob_gateway *g, int fd, bool is_unix); /* its socket's options */
/* The peer's address, IPv4 mapped into IPv6; all zero when there is none. local: of this machine. */
void hob_peer_address(int fd, uint8_t ret[16], bool *ret_local);

typedef struct
    hob_door_slot { /* of an address: when its handshakes so far would be due at the allowed rate */
    uint8_t address[16];
    uint64_t due_us;
} hob_door_slot;

struct hob_front {
    hob_front *next;               /* older: gone with its last connection */
    struct lws_vhost *tls, *plain; /* tls: NULL in --dev */
    hob_certificate certificate;
    uint32_t conns;
};
/* A front as conf has it becomes g->front; on failure nothing changes. HOB_EFORMAT, HOB_EIO, HOB_EINVAL. */
int hob_front_open(hob_gateway *g, const hob_conf *conf, hob_diag *diag);
void hob_fronts_tick(hob_gateway *g);
void hob_fronts_free(hob_gateway *g); /* after the context is gone */
/* The common name of a certificate of the client's that was verified. */
bool hob_front_client_name(const hob_conn *c, char *ret, size_t size);

/* ---- renewal.c: a certificate of hob's own ---- */

typedef struct hob_renewal {
    hob_store_job job; /* the first member */
    hob_gateway *g;
    char dir[4096];
    int written; /* by the job */
    bool under_way;
    bool to_serve;              /* a certificate was written and is not served yet */
    uint64_t pause_us, next_us; /* when it is looked at again */
    int64_t clock_offset_s;     /* of the last look */
} hob_renewal;
/* Makes the files that hob owns and that are not there, before the first front. Blocks. */
void hob_renewal_open(hob_gateway *g);
void hob_renewal_tick(hob_gateway *g, uint64_t now_us);

/* ---- reload.c, notify.c: the service manager ---- */

void hob_gateway_reload(hob_gateway *g, uid_t by);
void hob_notify_open(hob_gateway *g);
/* "READY", "RELOADING", "STOPPING"; NULL: status only. False when the manager's queue is full. */
bool hob_notify(hob_gateway *g, const char *state);
void hob_notify_tick(hob_gateway *g, uint64_t now_us);

/* ---- connection.c, http.c, websocket.c ---- */

typedef enum hob_conn_state {
    HOB_CONN_IDLE,    /* no request: waits for a head */
    HOB_CONN_BODY,    /* a request's body is coming */
    HOB_CONN_BUSY,    /* the request is whole; its response is to come or in the outbox */
    HOB_CONN_SOCKET,  /* WebSocket */
    HOB_CONN_CLOSING, /* nothing counts any more */
} hob_conn_state;

typedef enum hob_route {
    HOB_ROUTE_NONE,
    HOB_ROUTE_LIVEZ,
    HOB_ROUTE_READYZ,
    HOB_ROUTE_METRICS,
    HOB_ROUTE_STATS,
    HOB_ROUTE_MODELS,
    HOB_ROUTE_MODEL,
    HOB_ROUTE_CHAT,
    HOB_ROUTE_COMPLETION,
    HOB_ROUTE_RESPONSES,
    HOB_ROUTE_RESPONSE,
    HOB_ROUTE_RESPONSE_CANCEL,
    HOB_ROUTE_RESPONSE_INPUT,
    HOB_ROUTE_ESTIMATE,
    HOB_ROUTE_EMBEDDINGS,
    HOB_ROUTE_DOCUMENTS, /* c->document_route says which */
    HOB_ROUTE_ADMIN,     /* c->admin_route says which */
    HOB_ROUTE_CONSOLE,   /* c->console_route says which */
    HOB_ROUTES,
} hob_route;
const char *hob_route_name(hob_route r); /* static; for metrics and logs */

/* admin.c: what the admin socket, and elsewhere a key of the role admin, may ask for, under /hob/v1/admin/ */
typedef struct hob_admin_route {
    const char *method,
        *path; /* "GET" or "POST"; a path that ends with a slash: with a name behind, c->name */
    /* Answers c with hob_http_respond or hob_http_error, at once or later. body: a POST's, an object; borrowed. */
    void (*serve)(hob_conn *c, json_t *body);
} hob_admin_route;
/* admin_keys.c */
enum { HOB_ADMIN_KEY_ROUTES = 6 };
extern const hob_admin_route hob_admin_key_routes[HOB_ADMIN_KEY_ROUTES];
/* admin_store.c */
enum { HOB_ADMIN_STORE_ROUTES = 1 };
extern const hob_admin_route hob_admin_store_routes[HOB_ADMIN_STORE_ROUTES];
/* admin_log.c */
enum { HOB_ADMIN_LOG_ROUTES = 2 };
extern const hob_admin_route hob_admin_log_routes[HOB_ADMIN_LOG_ROUTES];
void hob_log_serve(hob_conn *c, json_t *body); /* the log's: whoever follows it is no news in it */
/* Who is behind c. act NULL: its administrator's route. */
void hob_audit_describe(const hob_conn *c, const char *act, const char *object,
                        hob_audit_entry *ret);
void hob_audit_log(const hob_audit_entry *e); /* as a line */
/* As a line and in the store, soon. */
void hob_audit_note(hob_gateway *g, const hob_audit_entry *e);
void hob_audit_act(const hob_conn *c,
                   const char *object); /* what its administrator's route has done */
/* A document is deleted by an administrator's key: an act too. */
void hob_audit_deletion(const hob_conn *c, int status);
/* NULL: there is no such route. method NULL: of any. */
const hob_admin_route *hob_admin_find(const char *method, const char *path);

struct hob_conn {
    hob_gateway *g;
    struct lws *wsi;
    hob_conn *next, *prev;
    uint8_t address[16]; /* IPv6, or IPv4 mapped into it; a /64 counts as one source */
    bool local;          /* a loopback address, or a Unix socket */
    bool is_unix;        /* has no address */
    bool tls;
    hob_front *front; /* that took it in */
    bool admin;       /* came in through the admin socket: root, our user or the group hob */
    bool metrics;     /* came in through a listener for metrics */
    hob_conn_state state;
    uint64_t opened_us, deadline_us; /* deadline: of the state; 0: none */
    /* the request */
    hob_route route;
    const hob_admin_route *admin_route;       /* of HOB_ROUTE_ADMIN */
    const hob_document_route *document_route; /* of HOB_ROUTE_DOCUMENTS */
    const hob_console_route *console_route;   /* of HOB_ROUTE_CONSOLE */
    const hob_console_file *console_file;     /* which that serves; NULL: none */
    char ids[HOB_PATH_IDS][40];               /* in its path */
    char cors_origin[256];                    /* of a page that may read the answer; "": none */
    hob_key *key;                             /* held; NULL in --dev */
    bool by_text;          /* it was let in by its key's text, not by a certificate */
    bool by_session;       /* which was given when its session of the console began */
    uint8_t text_hash[32]; /* of that text, which may be rotated away meanwhile */
    char label
        [HOB_KEY_WORD_MAX]; /* of the certificate, where that let it in: the key's may be another meanwhile */
    char name[128]; /* of /v1/models/{name} and /v1/responses/{name} */
    char request_id[32];
    size_t body_bytes, body_seen; /* announced, come */
    uint64_t body_began_us;
    uint64_t body_paused_us,
        body_idle_us;    /* since when it is not read, 0: it is; how long it was not before */
    hob_upload *upload;  /* what the body is, file by file; NULL: it is kept in `body` */
    hob_bytes body;      /* also a WebSocket message in the making */
    uint32_t fragments;  /* of that message */
    hob_api_error early; /* status 0: none; answered once the body has passed */
    bool version_1_0, close_after;
    /* the response */
    hob_bytes out;       /* records: u32 bytes, u32 tokens, u64 job, bytes */
    size_t out_bytes;    /* without record headers */
    size_t record_sent;  /* of the first record: a WebSocket message in fragments */
    uint64_t flight_job; /* what the last lws_write carried: settled when the next may be made */
    uint32_t flight_tokens;
    bool in_flight, chunked, response_done;
    bool streaming;       /* the head of an event stream is out */
    uint64_t progress_us; /* when bytes last drained */
    uint64_t heard_us, pinged_us,
        asked_us; /* WebSocket: last sign of life, ping in the air, last work */
    bool ping_due;
    const char *leave; /* WebSocket: why it is about to be closed from here; NULL: it is not */
    uint64_t
        close_by_us; /* its reader has stalled and was told so: what waits may still be read; 0: no */
    hob_job *jobs;   /* in order of arrival; over HTTP all those of one answer */
    uint32_t job_count;
    hob_embeddings *embeddings; /* that it waits for, or that are being written; NULL: none */
    hob_conn *
        *asked; /* where the one that will answer it, the store, knows it; cleared when it goes */
    hob_response *follows;    /* a background response whose events it reads; NULL: none */
    hob_conn *follow_next;    /* of those that follow it */
    uint64_t follow_sequence; /* of the next event to be written */
    hob_download *download;   /* a file that it reads; NULL: none */
    hob_searching *searching; /* what it looks for in a collection; NULL: nothing */
    hob_trace *trace;         /* of the request; NULL: none */
    bool asked_before;        /* it is not the connection's first request */
};

hob_conn *hob_conn_new(hob_gateway *g, struct lws *wsi,
                       int fd); /* NULL: no memory or over a limit */
void hob_conn_free(hob_conn *c);
void hob_conn_kill(hob_conn *c, const char *why); /* soon: nothing of it is freed yet */
void hob_conn_drop_jobs(hob_conn *c);
void hob_conn_tick(hob_conn *c, uint64_t now_us);
bool hob_conn_is_busy(const hob_conn *c); /* something is asked of it or to be sent to it */
/* The outbox. job 0: no credit. The connection is killed when it runs over. */
void hob_conn_queue(hob_conn *c, const void *data, size_t len, uint64_t job, uint32_t tokens);
/* One lws_write from the outbox: 1 written, 0 empty, negative: close. */
int hob_conn_write(hob_conn *c);
void hob_request_id(char ret[32], const char *prefix);

/* A whole response. extra: complete header lines, or "". */
void hob_http_respond(hob_conn *c, int status, const char *type, const char *extra,
                      const char *body, size_t len);
void hob_http_respond_json(hob_conn *c, const hob_text *t); /* with 200 */
void hob_http_error(hob_conn *c, const hob_api_error *e);
void hob_http_stream_begin(hob_conn *c);
void hob_http_stream_add(hob_conn *c, const hob_text *event, uint64_t job,
                         uint32_t tokens); /* chunk framing added */
void hob_http_stream_end(hob_conn *c);
int hob_http_callback(hob_conn *c, enum lws_callback_reasons reason, const char *in, size_t len);
int hob_http_authorize(hob_conn *c, hob_api_error *e); /* 0, or HOB_EINVAL with a 401 */
bool hob_route_infers(hob_route r);                    /* it asks for inference */
/* A request header's value; "" when it is absent. False when it is longer than cap. */
bool hob_http_header(struct lws *wsi, enum lws_token_indexes token, char *ret, size_t cap);
size_t hob_http_head(hob_conn *c, char *ret, size_t cap, int status, const char *type,
                     const char *extra, const size_t *body_len); /* NULL: a stream */

/* site.c: 0, or HOB_EINVAL with a 403. Remembers an origin that CORS headers are due to. */
int hob_site_check(hob_conn *c, hob_api_error *e);
bool hob_site_is_preflight(const hob_conn *c);
void hob_site_preflight(hob_conn *c);
void hob_site_headers(const hob_conn *c, char *ret, size_t size); /* whole lines, or "" */

void hob_websocket_tick(hob_conn *c, uint64_t now_us);
int hob_websocket_callback(hob_conn *c, enum lws_callback_reasons reason, const char *in,
                           size_t len);
int hob_websocket_confirm(hob_conn *c); /* 0: go on; else the refusal is written: close */
/* j or lane (may both be NULL): what the event names. Returns the event's length. */
size_t hob_websocket_error(hob_conn *c, const hob_job *j, const char *lane, const hob_api_error *e);
void hob_websocket_next(hob_conn *c); /* starts what its lane has set free */

/* ---- job.c: one inference ---- */

typedef enum hob_job_state {
    HOB_JOB_LANE, /* behind another response of its stream_id, or behind the prompt it shares */
    HOB_JOB_RETRIEVING, /* stored documents are searched for it: grounding.c */
    HOB_JOB_QUEUED,     /* the engine is not up, or suspects run one at a time */
    HOB_JOB_PREPARING,  /* PREPARE was sent */
    HOB_JOB_PREPARED,   /* PREPARED came, and is awaited for other prompts of its answer */
    HOB_JOB_RUNNING,    /* RUN was sent */
    HOB_JOB_PARKING, /* CANCEL was sent to make room for a suspect: it is queued again when that is done */
    HOB_JOB_ENDED, /* a choice that has finished before others of its answer */
} hob_job_state;

typedef struct hob_format {
    void (*admitted)(hob_job *j); /* once, when it first runs */
    void (*tokens)(hob_job *j, const hob_tokens_message *t, json_t *logprobs); /* keeps them */
    void (*flush)(hob_job *j); /* what tokens has kept for a stream becomes one event */
    void (*finished)(hob_job *j, hob_finish finish);
    void (*failed)(hob_job *j, const hob_api_error *e); /* ends all choices of an answer */
    void (*abandoned)(hob_job *j);                      /* may be NULL: nobody is to be told */
} hob_format;
extern const hob_format hob_format_chat, hob_format_completion, hob_format_responses;

/* Moments and times of a job, for meter.c; 0: not yet. */
typedef struct hob_job_times {
    uint64_t preparing_us, running_us, last_token_us; /* moments, the last of each */
    uint64_t retrieve_us, tokenize_us;                /* how long it took */
    bool ended;                                       /* its end was counted */
} hob_job_times;

struct hob_job {
    hob_gateway *g;
    hob_job *next, *prev; /* of the gateway */
    hob_job *conn_next;   /* of the connection */
    hob_conn *conn;
    hob_link *link;
    hob_key *key; /* held; NULL in --dev */
    const hob_format *format;
    uint64_t id; /* towards the engine */
    hob_job_state state;
    bool counted;   /* in link->jobs */
    bool kept;      /* in link->kept */
    bool leaves;    /* to the background, as soon as it has been retrieved for */
    bool cancelled; /* response.cancel came */
    bool began;     /* the first events of its answer are out */
    bool admitted;  /* it has run, or the first of its answer has */
    bool websocket;
    uint32_t crashes;     /* engines that died with it, since it last ran alone unharmed */
    uint32_t crashed_ids; /* id_count at the last of them */
    uint64_t arrived_us, deadline_us, first_token_us;
    hob_job_times times;
    uint64_t forecast_at_us; /* when it was admitted, */
    double forecast_us;      /* and by which forecast, before slowness; 0: by none */
    int64_t created_s;
    hob_api_request request;
    char response_id[48];
    uint32_t index, choices; /* which choice of how many in its answer: choices.c */
    uint64_t leader;         /* the job that computes the prompt it shares; its own id: none */
    hob_finish finish;       /* of one that has ended */
    hob_response *response;  /* responses only */
    hob_grounding *
        grounding; /* what was found for it, until its prompt is prepared; NULL: nothing is asked for */
    json_t *grounds;      /* from then on: grounding.h */
    size_t grounds_bytes; /* about what it takes */
    uint32_t *ids;        /* [id_count] prompt, then answer: what a new engine is given */
    uint32_t id_count, id_capacity, prompt_tokens, cached_tokens, answer_tokens;
    uint32_t max_tokens;
    /* what it may use: limits.c */
    bool asked;           /* its key may do this: hob_limits_begin */
    bool begun;           /* the key's quota counts it */
    bool prompt_spent;    /* the prompt is used, not only reserved */
    uint8_t priority;     /* 0 interactive, 1 standard, 2 batch */
    uint32_t patience_ms; /* how long it may wait for its first token; 0: no limit */
    uint64_t begun_ms;
    uint64_t reserved;    /* tokens, not used yet */
    size_t request_bytes; /* of the body, until the ids stand for it */
    size_t logprob_bytes; /* about what logprobs takes */
    uint32_t credit;      /* given to the engine and not yet used */
    uint32_t undrained;   /* tokens in the outbox, in flight or pending */
    uint32_t pending;     /* tokens kept for the next event: its reader is slow */
    uint32_t place;       /* in the queue, as the client was last told; UINT32_MAX: never */
    hob_text text;        /* chat, completion: the answer, or what is pending of a stream */
    json_t *logprobs;     /* its logprobs */
    uint64_t sequence;    /* responses: of the next event; completion: characters so far */
    hob_trace *trace;     /* NULL: none */
};
void hob_job_start(hob_job *j);
/* The client left: no answer any more. */
void hob_job_abandon(hob_job *j);
/* Ends it with an error although the engine may be computing it. */
void hob_job_end(hob_job *j, const hob_api_error *e);
/* Nobody reads the answer: it ends with an error behind what waits to be read. */
void hob_job_stalled(hob_job *j);
/* The server, or with unload its model, ends before the answer does. */
void hob_job_shut_down(hob_job *j, bool unload);
/* The client asked for an end: the answer so far is closed properly. */
void hob_job_cancel(hob_job *j);
/* The same, without waiting for the engine's last words. */
void hob_job_stop(hob_job *j);
void hob_job_drained(hob_gateway *g, uint64_t id, uint32_t tokens); /* the socket took them */
void hob_job_prepared(hob_gateway *g, hob_link *l, uint64_t id, const uint8_t *payload, size_t len);
void hob_job_tokens(hob_gateway *g, hob_link *l, uint64_t id, const hob_tokens_message *t);
void hob_job_refused(hob_gateway *g, hob_link *l, uint64_t id, json_t *error);
/* ---- admission.c ---- */

/* When all prompts of its answer are prepared: 0, or HOB_EINVAL with a 429. */
int hob_admission_check(hob_job *j, hob_api_error *e);
/* More requests than the queue may have: fills the error. */
void hob_admission_full(hob_job *j, hob_api_error *e);
/* When its first and its last token would come if it ran now; false: nothing is known of the engine's speed yet. */
bool hob_admission_forecast(const hob_job *j, uint32_t cached, hob_forecast *ret);
void hob_admission_learn(const hob_job *j); /* it has finished */
void hob_admission_first_token(const hob_job *j, uint64_t now_us);
/* Answers /hob/v1/estimate for a job that is not run. */
void hob_admission_estimate(hob_job *j, uint32_t cached);

void hob_jobs_free(hob_gateway *g); /* at the end: those without a connection */
/* Between job.c, opening.c, prepared.c and recovery.c. */
void hob_job_leave(hob_job *j); /* its connection */
void hob_job_free(hob_job *j);  /* takes it out of everything */
hob_job *hob_job_find(hob_gateway *g, uint64_t id);
void hob_job_uncount(hob_job *j);                      /* the engine has it no more */
void hob_job_fail(hob_job *j, const hob_api_error *e); /* frees it */
void hob_job_finish_cancelled(hob_job *j);             /* frees it */
HOB_MUST_CHECK int hob_job_keep_prompt(hob_job *j, const hob_job *leader); /* HOB_ENOMEM */
HOB_MUST_CHECK int hob_job_keep_ids(hob_job *j, const uint8_t *ids,
                                    uint32_t count); /* HOB_ENOMEM */
/* The answer that the job belongs to has its end: what is left of its choices goes too. A connection may start the next. */
void hob_job_done(hob_job *j);
void hob_job_fail_busy(hob_job *j); /* frees it */
uint32_t hob_job_credit_window(const hob_job *j);

/* ---- opening.c: from a request to its jobs ---- */

/* Takes request over, which came in `bytes`. The job starts at once, or when its lane is free. On failure the client has
 * been told. */
void hob_job_open(hob_conn *c, hob_api_request *request, size_t bytes, bool websocket);
/* A background response is well begun: from here on it needs no connection. */
void hob_job_to_background(hob_job *j);

/* ---- fitting.c ---- */

/* Its prompt has so many tokens: sets max_tokens. 0, or HOB_EINVAL with the error. */
int hob_job_fits(hob_job *j, uint32_t prompt, hob_api_error *e);
/* Tokens that a prompt may have with what was found for it, so that there is room for the answer still: for all that is asked
 * for, or of what is usual as much as half the context holds. */
uint32_t hob_job_room(const hob_job *j);

/* ---- choices.c: an answer over HTTP that is made by several jobs ---- */

/* Whether j is the last of its answer to end. */
bool hob_choice_is_last(const hob_job *j);
/* The jobs that compute the prompts of j's answer, one by one: the one after `at`, NULL: the first; NULL when there are no
 * more. */
hob_job *hob_choices_prompt(hob_job *j, const hob_job *at);
/* Whether the ids of all its prompts have come. */
bool hob_choices_prompts_known(hob_job *j);
/* It runs: so all jobs of its answer are admitted. */
void hob_choices_admit(hob_job *j);
/* j has computed its prompt, or cannot: the choices that share it start. One that cannot ends the answer, j included. */
void hob_choices_start(hob_job *j);
/* Tokens of all choices together; a prompt that several share counts once. */
typedef struct hob_usage {
    uint32_t prompt, cached, answer;
} hob_usage;
hob_usage hob_choices_usage(const hob_job *j);

/* ---- waiting.c: what a client hears before its first token ---- */

void hob_conn_heartbeat(hob_conn *c, uint64_t now_us);
void hob_job_tell_place(hob_job *j); /* hob_queue_events: when its place has changed */

/* ---- embed.c: vectors; for those who want some: embed.h ---- */

size_t hob_embeds_bytes(const hob_gateway *g); /* that its requests hold */
bool hob_embeds_on(const hob_link *l);         /* some wait for it */
void hob_embed_counted(hob_gateway *g, hob_link *l, const hob_message *m);
void hob_embed_vectors(hob_gateway *g, hob_link *l, const hob_message *m);
/* False: the id is not of such a request. */
bool hob_embed_refused(hob_gateway *g, const hob_link *l, uint64_t id, const json_t *error);
/* Whether the request that killed the engine was found, and is gone. */
bool hob_embeds_link_lost(hob_gateway *g, hob_link *l);
void hob_embeds_link_ready(hob_gateway *g, hob_link *l);
void hob_embeds_tick(hob_gateway *g, uint64_t now_us);
/* Ends those of a model that is unloaded, or all (NULL). */
void hob_embeds_shut_down(hob_gateway *g, const hob_link *of);
void hob_embeds_free(hob_gateway *g); /* at the end: nobody is told */

/* ---- api_embeddings.c ---- */

void hob_embeddings_serve(hob_conn *c, hob_api_request *r); /* r is borrowed */
/* Adds to the answer when the reader has room for more. */
void hob_embeddings_pump(hob_conn *c);
void hob_embeddings_drop(hob_conn *c); /* the client has gone */
size_t hob_embeddings_bytes(const hob_conn *c);

/* ---- limits.c: what a key may do, asked at each step of a request ---- */

/* "tokens_per_minute", … : error.hob_reason */
const char *hob_limits_reason(hob_quota_bound bound);
/* The key's own limit, else the configuration's; 0: none. key may be NULL. */
uint32_t hob_limit_of(const hob_gateway *g, const hob_key *key, hob_limit l);
/* May the key use the model? 0, or HOB_EINVAL with a 403. */
int hob_limits_model(const hob_gateway *g, const hob_key *key, uint32_t model, hob_api_error *e);
/* Before the engine hears of it: rights, requests a minute and at once, and tokens where it is sure already that there are
 * too few. What retrieval may take is reserved until the prompt's tokens are known. 0, or HOB_EINVAL with the error. */
int hob_limits_begin(hob_job *j, hob_api_error *e);
/* All prompts of its answer are known, and max_tokens is set: reserves what they and their choices take, or nothing. 0, or
 * HOB_EINVAL with the error. */
int hob_limits_reserve(hob_job *j, hob_api_error *e);
/* Whether that would be possible now. */
int hob_limits_ask(const hob_job *j, hob_api_error *e);
/* A choice that shares the prompt starts: its part of what was reserved for all. */
void hob_limits_share(hob_job *leader, hob_job *j);
/* The engine has computed the prompt and so many more tokens of the answer. */
void hob_limits_spend(hob_job *j, uint32_t answer_tokens);
/* What is still reserved is given back. */
void hob_limits_end(hob_job *j);
/* The same of a request that is no job: what its key has granted. Zero-initialize. */
typedef struct hob_grant {
    hob_key *key; /* held; NULL in --dev */
    bool begun, spent;
    uint64_t begun_ms, reserved;
} hob_grant;
/* It counts as a request that runs, whatever model it needs: rights are not looked at. l: whose queue it is in. 0, or HOB_EINVAL
 * with the error. */
int hob_grant_count(hob_gateway *g, const hob_link *l, hob_key *key, hob_grant *ret,
                    hob_api_error *e);
/* least: tokens that it takes in any case. l: its model's. 0, or HOB_EINVAL with the error. */
int hob_grant_begin(hob_gateway *g, const hob_link *l, hob_key *key, const hob_api_request *r,
                    uint64_t least, hob_grant *ret, hob_api_error *e);
int hob_grant_reserve(hob_gateway *g, const hob_link *l, hob_grant *grant, uint64_t tokens,
                      hob_api_error *e);
/* It was answered: one of its key's minute. */
void hob_grant_use(hob_grant *grant);
/* The same, with what was reserved: prompt tokens that the engine has computed. */
void hob_grant_spend(hob_grant *grant, uint64_t tokens);
/* The rest is given back; may be called again. */
void hob_grant_end(hob_grant *grant);
/* The x-ratelimit-* lines of an answer to c; "" when its key has no such limit. */
void hob_limits_headers(const hob_conn *c, char *ret, size_t cap);

/* ---- accounts.c: keys and the store ---- */

/* Opens the store, takes the key file over, fills the keyring; starts the store's thread. Blocks: before the loop runs. */
int hob_accounts_open(hob_gateway *g, hob_diag *diag);
/* Tells the store what was used: now; about once a second. */
void hob_accounts_tell(hob_gateway *g);
void hob_accounts_tick(hob_gateway *g, uint64_t now_us);
/* Tells it the rest and closes it. Blocks: after the loop has ended. */
void hob_accounts_close(hob_gateway *g);
/* The key of an Authorization header's value, or without one that of a certificate's label (both may be ""), into c->key; 0,
 * or HOB_EINVAL with a 401 or 429. */
int hob_accounts_authenticate(hob_conn *c, const char *authorization, const char *label,
                              hob_api_error *e);
/* Whether what let c in would still do so: asked again when a body has come after its head, and on a WebSocket before each
 * response. 0, or HOB_EINVAL with a 401 or 403. */
int hob_accounts_recheck(const hob_conn *c, hob_api_error *e);
void hob_accounts_forget(hob_conn *c); /* c->key = NULL */

/* ---- recovery.c: what becomes of jobs when engines come and go ---- */

/* Whether the job that killed the engine was found, and is gone. */
bool hob_jobs_link_lost(hob_gateway *g, hob_link *l);
void hob_jobs_link_ready(hob_gateway *g, hob_link *l);
void hob_jobs_tick(hob_gateway *g, uint64_t now_us);
/* Whether the job has to wait in the gateway; if so it does. */
bool hob_job_waits(hob_job *j);
uint32_t hob_link_load(const hob_link *l); /* jobs at the engine and waiting for it */
/* After each TOKENS of a job, before its end is looked at. */
void hob_job_progressed(hob_job *j);
/* The engine has confirmed that it dropped a job in HOB_JOB_PARKING. */
void hob_job_parked(hob_job *j);
/* No suspect any more: it ran alone unharmed, or it ends. */
void hob_job_absolve(hob_job *j);

/* ---- memory.c: a bound on the buffers of all connections and jobs ---- */

size_t hob_buffers_limit(const hob_conf *conf); /* 0: none */
size_t hob_buffers_bytes(const hob_gateway *g);
/* Whether there is room for `bytes` more: 0, or HOB_ENOMEM with a 503. */
int hob_buffers_admit(const hob_gateway *g, size_t bytes, hob_api_error *e);

/* ---- metrics.c ---- */

enum { HOB_STATUS_KINDS = 24 };
/* Of a search in documents. */
typedef enum hob_stage {
    HOB_STAGE_EMBED,
    HOB_STAGE_WORDS,
    HOB_STAGE_VECTORS,
    HOB_STAGE_FUSE,
    HOB_STAGES,
} hob_stage;
/* Why a request was refused for lack of room, as error.hob_reason has it. */
typedef enum hob_shed {
    HOB_SHED_MAX_WAITING,
    HOB_SHED_MAX_WAITING_TOKENS,
    HOB_SHED_LARGE_REQUESTS,
    HOB_SHED_PATIENCE,
    HOB_SHED_MAX_ESTIMATES,
    HOB_SHEDS,
} hob_shed;
typedef enum hob_stranger { /* why nobody was let in */
                            HOB_STRANGER_NO_KEY,
                            HOB_STRANGER_EXPIRED,
                            HOB_STRANGER_TOO_MANY, /* from its address */
                            HOB_STRANGERS,
} hob_stranger;
typedef struct hob_metrics {
    int statuses[HOB_STATUS_KINDS]; /* in the order in which they were first seen; 0: none */
    uint64_t responses[HOB_ROUTES][HOB_STATUS_KINDS];
    uint64_t connections, refused_connections, websockets, jobs, finished, cancelled, failed,
        recovered, poisoned, reloads, reloads_refused;
    uint64_t shed[HOB_SHEDS], strangers[HOB_STRANGERS];
    uint64_t prompt_tokens[HOB_CONF_MODELS_MAX], cached_tokens[HOB_CONF_MODELS_MAX],
        answer_tokens[HOB_CONF_MODELS_MAX];
    uint64_t bytes_out, stalled_closes;
    uint64_t uploaded_bytes, documents, documents_failed, searches, searches_by_words, search_us;
    uint64_t limited[HOB_QUOTA_BOUNDS]; /* requests refused by their key's limits */
    uint64_t retrievals, retrievals_late, retrieval_us, retrieved_chunks, retrieved_tokens;
} hob_metrics;
void hob_metrics_status(hob_metrics *m, hob_route route, int status);
const char *hob_shed_name(hob_shed s);
/* The whole text of /metrics. */
void hob_metrics_write(hob_gateway *g, hob_text *t);

/* ---- stats_http.c ---- */

/* Answers /hob/v1/stats. */
void hob_stats_serve(hob_conn *c);

/* ---- server.c ---- */

struct hob_gateway {
    hob_conf *conf;            /* changed in place by a reload */
    const char *conf_path;     /* NULL in --dev */
    hob_store *store;          /* NULL in --dev */
    struct hob_ingest *ingest; /* ingest.c; NULL without a store */
    hob_keyring keys;
    hob_failures failures;
    hob_sessions sessions;            /* of the console */
    struct hob_usage_job *usage_kept; /* what the store could not take, in its order */
    uint32_t usage_in_flight;         /* jobs: the store is being told */
    bool usage_failing;               /* it could not take some of it, and has not since */
    int64_t usage_day;                /* of the last usage that was taken from the keyring */
    uint64_t usage_us;                /* when the store was last told */
    int64_t pruned_day;               /* when the store last had to forget what is old */
    hob_upload *uploads_left;         /* cut off, and not removed from the store yet */
    uint64_t uploads_us;              /* when that is tried again */
    hob_loop loop;
    struct lws_context *context;
    struct lws_vhost *inner; /* without clients: engines, signals, listening sockets */
    hob_front *front;        /* takes in what is accepted now */
    hob_renewal renewal;
    hob_listener listeners[HOB_CONF_LISTENERS_MAX + 2];
    uint32_t listener_count;
    const hob_listener *accepting; /* whose connection is being made */
    bool has_group;                /* there is a group hob */
    gid_t group;
    int signal_fd;
    hob_door_slot door[HOB_DOOR_SLOTS];
    int notify_fd; /* -1: none */
    bool notified;
    uint64_t watchdog_us, watchdog_fed_us; /* 0: nobody watches */
    hob_conn *conns;
    uint32_t conn_peak;               /* since memory was last given back */
    uint32_t conn_count, admin_count; /* admin: of those, through the admin socket */
    hob_job *jobs;
    struct hob_embed *embeds;
    hob_response *responses; /* stored: the newest is the first */
    uint32_t response_count, background_count;
    uint64_t next_id;
    hob_link links[HOB_CONF_MODELS_MAX];
    uint32_t link_count;
    hob_arbiter_page *arbiter; /* NULL: one engine, which needs none. Not to be trusted */
    int arbiter_fd;            /* -1: none */
    hob_text scratch;          /* of one event in the making */
    unsigned char write_buffer[LWS_PRE + HOB_WRITE_MAX];
    lws_sorted_usec_list_t tick, queue; /* queue: recovery.c looks at what waits */
    uint64_t started_us, drain_until_us,
        links_us; /* links_us: when the engines were last looked at */
    int64_t started_s;
    bool draining, ending, give_up;
    int status;
    hob_metrics metrics;
    hob_load load;
    struct hob_meter *meter; /* meter.h */
    hob_traces *traces;
};
void hob_gateway_end(hob_gateway *g, int status); /* leaves the loop */
/* Of every connection. */
int hob_client_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                        size_t len);

#endif
