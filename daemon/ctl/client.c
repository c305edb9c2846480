/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP client. See client.h. libwebsockets runs the connection and TLS in its own event loop,
 * which lives for one call; the state of the call is the loop's user pointer, so there is nothing
 * global. */
#include "daemon/ctl/client.h"

#include <errno.h>
#include <jansson.h>
#include <libwebsockets.h>
#include <poll.h>
#include <psa/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CONNECT_TIMEOUT_S = 10,
    ANSWER_TIMEOUT_S =
        3600,   /* a long prompt may wait long for its first byte; Ctrl-C is the shorter limit */
    TRIES = 40, /* of a call that is turned away */
    TRY_AGAIN_MS = 250,
    ERROR_BODY_MAX = 16384,
    CHUNK_BYTES = 16384,
    JSON_MAX = 16 * 1024 * 1024, /* of hob_client_json */
    TICK_MS = 100,
};

typedef struct call_state {
    const hob_server *server;
    const hob_call *call;
    size_t sent;
    struct lws *sending; /* the connection, while the body is on its way */
    int status;
    bool done, complete;
    bool turned_away; /* before a byte of it was sent */
    struct lws_context *context;
    lws_sorted_usec_list_t tick;
    uint64_t end_us; /* 0: it may take as long as it takes */
    int code;        /* 0, or why it ended */
    hob_diag diag;
    char error_body[ERROR_BODY_MAX + 1];
    size_t error_len;
    unsigned char write_buffer[LWS_PRE + CHUNK_BYTES], read_buffer[LWS_PRE + CHUNK_BYTES];
} call_state;

static void finish(call_state *c, int code)
{
    if (!c->done)
        c->code = code;
    c->done = true;
}

static int add_header(struct lws *wsi, enum lws_token_indexes token, const char *value,
                      unsigned char **p, unsigned char *end)
{
    return lws_add_http_header_by_token(wsi, token, (const unsigned char *)value,
                                        (int)strlen(value), p, end);
}

static int add_headers(call_state *c, struct lws *wsi, unsigned char **p, unsigned char *end)
{
    char text[300];
    if (c->server->key[0]) {
        snprintf(text, sizeof text, "Bearer %s", c->server->key);
        if (add_header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, text, p, end))
            return -1;
    }
    if (!c->call->body && !c->call->source)
        return 0;
    const char *type = c->call->source ? c->call->type : "application/json";
    snprintf(text, sizeof text, "%zu", c->call->body_len);
    if (add_header(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, type, p, end) ||
        add_header(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, text, p, end))
        return -1;
    lws_client_http_body_pending(wsi, 1);
    lws_callback_on_writable(wsi);
    return 0;
}

/* A server may refuse a request before it has all of it, and close. The library reads nothing while it has a body to send,
 * and does not always notice when that cannot be sent any more. */
static void check_hang_up(call_state *c)
{
    struct pollfd p = {.fd = c->sending ? lws_get_socket_fd(c->sending) : -1, .events = POLLRDHUP};
    if (c->done || p.fd < 0 || (c->sent == c->call->body_len && !lws_partial_buffered(c->sending)))
        return;
    if (poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR))
        finish(c, hob_fail(&c->diag, HOB_EIO,
                           "%s closed the connection before it had the whole request",
                           c->server->host));
}

/* One piece of the request's body. */
static int write_body(call_state *c, struct lws *wsi)
{
    const hob_call *call = c->call;
    char *at = (char *)c->write_buffer + LWS_PRE;
    if ((!call->body && !call->source) || c->sent == call->body_len)
        return 0;
    size_t len = call->body_len - c->sent;
    bool last = len <= CHUNK_BYTES;
    if (!last)
        len = CHUNK_BYTES;
    const int code = call->source ? call->source(call->source_user, at, len, &c->diag) : 0;
    if (code < 0) {
        finish(c, code);
        return -1;
    }
    if (!call->source)
        memcpy(at, call->body + c->sent, len);
    if (lws_write(wsi, c->write_buffer + LWS_PRE, len,
                  last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)len)
        return -1;
    c->sent += len;
    c->sending = wsi;
    if (last)
        lws_client_http_body_pending(wsi, 0);
    else
        lws_callback_on_writable(wsi);
    return 0;
}

static int take_body(call_state *c, const char *data, size_t len)
{
    if (c->status / 100 != 2) {
        size_t room = ERROR_BODY_MAX - c->error_len;
        size_t n = len < room ? len : room;
        memcpy(c->error_body + c->error_len, data, n);
        c->error_len += n;
        return 0;
    }
    int r = c->call->sink(c->call->user, data, len);
    if (r < 0) {
        finish(c, r);
        return -1;
    }
    return 0;
}

/* The server that the last answer came from: its certificate is good. */
static _Thread_local const hob_server *agreed;

/* The library gives a reason as a phrase of its own, "conn fail: 111" for an error of the system's.
 */
static void fail_connection(call_state *c, const char *reason)
{
    const hob_server *s = c->server;
    static const char *const tls_reasons[] = {"mbedtls", "tls", "cert", "server's cert"};
    int number;
    if (!reason || !*reason)
        reason = "no answer";
    bool tls = false;
    for (size_t i = 0; i < sizeof tls_reasons / sizeof tls_reasons[0]; i++)
        tls |= strncmp(reason, tls_reasons[i], strlen(tls_reasons[i])) == 0;
    c->turned_away = s->tls && tls && s == agreed;
    if (c->turned_away)
        finish(c, hob_fail(&c->diag, HOB_EIO,
                           "%.100s port %u lets no new connection of this address in", s->host,
                           s->port));
    else if (s->tls && tls)
        finish(c, hob_fail(&c->diag, HOB_EIO,
                           "TLS with %.60s port %u failed: it must speak TLS and its certificate "
                           "must be valid, for "
                           "this name, from the CA in %.60s",
                           s->host, s->port, s->cacert));
    else if (sscanf(reason, "conn fail: %d", &number) == 1)
        finish(c, hob_fail(&c->diag, HOB_EIO, "cannot connect to %.100s port %u: %s", s->host,
                           s->port, strerror(number)));
    else
        finish(c, hob_fail(&c->diag, HOB_EIO, "cannot connect to %.100s port %u: %.100s", s->host,
                           s->port, reason));
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    struct lws_context *context = lws_get_context(wsi);
    call_state *c = context ? lws_context_user(context) : NULL;
    if (!c)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        c->sending = NULL;
        fail_connection(c, in);
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER: {
        unsigned char **p = in;
        return add_headers(c, wsi, p, *p + len);
    }
    case LWS_CALLBACK_CLIENT_HTTP_WRITEABLE: return write_body(c, wsi);
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
        c->sending = NULL;
        agreed = c->server;
        c->status = (int)lws_http_client_http_response(wsi);
        lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0); /* a stream lasts as long as it lasts */
        return 0;
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP: {
        char *at = (char *)c->read_buffer + LWS_PRE;
        int room = CHUNK_BYTES;
        return lws_http_client_read(wsi, &at, &room) < 0 ? -1 : 0;
    }
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ: return take_body(c, in, len);
    case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
        c->complete = true;
        finish(c, 0);
        return 0;
    case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
        c->sending = NULL;
        if (!c->done)
            finish(c,
                   hob_fail(&c->diag, HOB_EIO, "%s closed the connection before the answer ended",
                            c->server->host));
        return 0;
    default: return 0;
    }
}

/* Wakes the loop, so that it looks at the time and at stop. */
static void on_tick(lws_sorted_usec_list_t *tick)
{
    call_state *c = lws_container_of(tick, call_state, tick);
    if (hob_now_us() > c->end_us)
        finish(c, hob_fail(&c->diag, HOB_EIO, "%.100s does not answer in time", c->server->host));
    lws_sul_schedule(c->context, 0, tick, on_tick, TICK_MS * LWS_US_PER_MS);
}

static const struct lws_protocols protocols[] = {
    {.name = "hob", .callback = on_event, .rx_buffer_size = CHUNK_BYTES}, LWS_PROTOCOL_LIST_TERM};

/* A status that is not 2xx, in the server's own words. */
static int fail_status(call_state *c, hob_diag *diag)
{
    c->error_body[c->error_len] = 0;
    json_t *body = json_loadb(c->error_body, c->error_len, 0, NULL);
    const char *message =
        json_string_value(json_object_get(json_object_get(body, "error"), "message"));
    const char *advice = c->status == 401 ? " (give --key or set HOB_API_KEY)" : "";
    int r = hob_fail(diag, HOB_EIO, "the server answered %d%s%.160s%s", c->status,
                     message ? ": " : "", message ? message : "", advice);
    json_decref(body);
    return r;
}

static void connect_to(struct lws_context *context, const hob_server *s, const hob_call *call,
                       const char *path)
{
    char host[300], socket[sizeof s->socket + 1];
    bool usual = s->socket[0] || s->port == (s->tls ? 443 : 80);
    snprintf(socket, sizeof socket, "+%s", s->socket); /* the library's sign for a Unix socket */
    int n = snprintf(host, sizeof host, s->ipv6 ? "[%s]" : "%s", s->host);
    if (!usual)
        snprintf(host + n, sizeof host - (size_t)n, ":%u", s->port);
    struct lws_client_connect_info info = {.context = context,
                                           .address = s->socket[0] ? socket : s->host,
                                           .port = s->port,
                                           .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT |
                                                             (s->tls ? LCCSCF_USE_SSL : 0),
                                           .path = path,
                                           .host = host,
                                           .method = call->method,
                                           .protocol = protocols[0].name,
                                           .alpn = "http/1.1"};
    lws_client_connect_via_info(&info); /* a failure has been told to on_event */
}

/* The library waits for a Unix socket that is not there until it gives up: it is asked only after this. One whose server
 * accepts nobody, and has no room for more who wait (EAGAIN), is tried again as long as the call may take. */
static int try_socket(const char *path, const hob_call *call, hob_diag *diag)
{
    const uint32_t limit_ms = call->limit_ms ? call->limit_ms : CONNECT_TIMEOUT_S * 1000;
    const uint64_t end_us = hob_now_us() + limit_ms * (uint64_t)1000;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path)); /* fits: hob_server_find_socket */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), why = errno;
    bool good = false;
    while (fd >= 0 && !(good = connect(fd, (struct sockaddr *)&to, sizeof to) == 0) &&
           (why = errno) == EAGAIN && hob_now_us() < end_us && !(call->stop && *call->stop))
        usleep(TICK_MS * 1000);
    if (fd >= 0)
        close(fd);
    return good ? 0
                : hob_fail(diag, HOB_EIO,
                           "no hobd answers at %.107s: %s (give --socket or set HOB_SOCKET)", path,
                           strerror(why));
}

/* All of an upload: the server has it, and the caller has to know as what. */
static bool is_sent(const call_state *c)
{
    return c->call->source && c->sent == c->call->body_len;
}

static int try_call(const hob_server *s, const hob_call *call, int *ret_status,
                    bool *ret_turned_away, hob_diag *diag)
{
    if (ret_status)
        *ret_status = 0;
    if (s->socket[0]) {
        int r = try_socket(s->socket, call, diag);
        if (r < 0)
            return r;
    }
    char path[600];
    snprintf(path, sizeof path, "%s%s", s->prefix, call->path);
    call_state *c = calloc(1, sizeof *c);
    if (!c)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a request");
    c->server = s;
    c->call = call;

    if (s->tls && psa_crypto_init() != PSA_SUCCESS) { /* TLS 1.3 needs it */
        free(c);
        return hob_fail(diag, HOB_EIO,
                        "the cryptography library cannot start (no random numbers?)");
    }
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .user = c,
        .timeout_secs = ANSWER_TIMEOUT_S,
        .connect_timeout_secs = CONNECT_TIMEOUT_S,
        .options = LWS_SERVER_OPTION_DISABLE_TLS_SESSION_CACHE |
                   (s->tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0),
        .client_ssl_ca_filepath = s->tls ? s->cacert : NULL};
    struct lws_context *context = lws_create_context(&info);
    if (!context) {
        free(c);
        return hob_fail(diag, HOB_EIO,
                        s->tls ? "cannot use the CA file %.150s"
                               : "cannot start the HTTP client%.0s",
                        s->cacert);
    }
    c->context = context;
    if (call->limit_ms) {
        c->end_us = hob_now_us() + call->limit_ms * (uint64_t)1000;
        lws_sul_schedule(context, 0, &c->tick, on_tick, TICK_MS * LWS_US_PER_MS);
    }
    connect_to(context, s, call, path);
    while (!c->done) {
        if (call->stop && *call->stop && !is_sent(c))
            finish(c, hob_fail(&c->diag, HOB_ECANCELED, "interrupted"));
        else if (lws_service(context, 0) < 0 && !(call->stop && *call->stop))
            finish(c, hob_fail(&c->diag, HOB_EIO, "the HTTP client's event loop failed"));
        check_hang_up(c);
    }
    int r = c->code, status = c->status;
    if (diag)
        *diag = c->diag;
    if (status && status / 100 != 2 && r != HOB_ECANCELED)
        r = fail_status(c, diag);
    lws_sul_cancel(&c->tick);
    *ret_turned_away = c->turned_away;
    c->done = true; /* what closing reports is of no interest */
    lws_context_destroy(context);
    free(c);
    if (ret_status)
        *ret_status = status;
    return r;
}

int hob_client_call(const hob_server *s, const hob_call *call, int *ret_status, hob_diag *diag)
{
    for (int left = TRIES;; left--) {
        bool turned_away = false;
        const int r = try_call(s, call, ret_status, &turned_away, diag);
        if (!turned_away || left == 1 || call->limit_ms || (call->stop && *call->stop))
            return r;
        poll(NULL, 0, TRY_AGAIN_MS); /* so many connections a second are let in */
    }
}

typedef struct buffer {
    char *data; /* [JSON_MAX] */
    size_t len;
    hob_diag *diag;
} buffer;

static int keep(void *user, const char *data, size_t len)
{
    buffer *b = user;
    if (len > JSON_MAX - b->len)
        return hob_fail(b->diag, HOB_ELIMIT, "the server's answer is longer than %d bytes",
                        (int)JSON_MAX);
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

int hob_client_json(const hob_server *s, hob_call *call, json_t **ret, hob_diag *diag)
{
    hob_diag late = {""};
    buffer b = {.data = malloc(JSON_MAX), .diag = &late};
    if (!b.data)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the answer");
    call->sink = keep;
    call->user = &b;
    int r = hob_client_call(s, call, NULL, diag);
    if (r == HOB_ELIMIT && late.text[0] && diag)
        *diag = late;
    if (r == 0 && !(*ret = json_loadb(b.data, b.len, 0, NULL)))
        r = hob_fail(diag, HOB_EFORMAT, "the server's answer is not JSON");
    free(b.data);
    return r;
}

const char *hob_json_text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "?";
}

long long hob_json_number(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}
