/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP request to a hob server, over TLS or plain, through libwebsockets: a connection a call,
 * the server verified by the given CA alone and by its name, no redirects; no proxy, where the
 * program has dropped http_proxy from its environment, to which the library would send even local
 * requests. hobctl's commands call it, and in hobd the thread that sends traces. Thread: any, which
 * blocks until the answer has ended. */
#ifndef HOB_DAEMON_CTL_CLIENT_H
#define HOB_DAEMON_CTL_CLIENT_H

#include <jansson.h>
#include <signal.h>

#include "daemon/ctl/server.h"

/* A piece of a 2xx answer's body as it arrives. Negative ends the call with that code. */
typedef int hob_body_sink(void *user, const char *data, size_t len);
/* The next len bytes of a request's body to `to`. Negative ends the call with that code. */
typedef int hob_body_source(void *user, char *to, size_t len, hob_diag *diag);

typedef struct hob_call {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *path;   /* "/v1/models" */
    const char *body;   /* JSON, or NULL */
    size_t body_len;
    hob_body_source *source; /* in body's place: body_len bytes of type */
    void *source_user;
    const char *type;
    hob_body_sink *sink;
    void *user;
    /* Non-zero ends the call with HOB_ECANCELED, but for the answer to a source that is sent; NULL: none. */
    const volatile sig_atomic_t *stop;
    uint32_t
        limit_ms; /* for all of it; stop is then looked at ten times a second. 0: as long as it takes */
} hob_call;

/* 0 when a 2xx answer came whole. HOB_EIO: no connection, a failed TLS handshake, an answer cut
 * short, or a status that is not 2xx (with the server's own message). *ret_status (may be NULL) is
 * the HTTP status, 0 when there was none; it is set on failure too. A server that has answered over TLS and now lets no
 * connection in, since it takes only so many of an address a second, is tried again for ten seconds, unless the call has a limit. */
HOB_MUST_CHECK int hob_client_call(const hob_server *s, const hob_call *call, int *ret_status,
                                   hob_diag *diag);
/* The same for a short JSON answer: sink and user of the call are set here. *ret is for the caller to release. */
HOB_MUST_CHECK int hob_client_json(const hob_server *s, hob_call *call, json_t **ret,
                                   hob_diag *diag);

/* Members of an answer, for people: "?" and 0 where there is no such text or number. */
const char *hob_json_text(const json_t *o, const char *name);
long long hob_json_number(const json_t *o, const char *name);

#endif
