/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1: from a request's head and body to a route, and the writing of responses.
 *
 * libwebsockets parses; what it lets through and should not is refused here: a second Content-Length (it joins them with
 * a comma, so a strict number finds it), Content-Length beside Transfer-Encoding, and chunked request bodies, which it
 * never completes. Response heads and chunk framing are our own bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/console.h"
#include "daemon/gateway/documents.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

/* A refused body up to this long is read and dropped, so that the connection lives on; above, it closes. */
enum {
    DROP_BODY_MAX = 65536,
    EMPTY_BODY_MAX = 2,    /* "{}" */
    FORM_BYTES = 64 << 10, /* beside the file in it */
    FORM_MEMORY = 2 << 20, /* that an upload takes at most */
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {
        {200, "OK"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].reason;
    return "Error";
}

/* The methods that the route of a request answers to. */
static const char *methods_of(const hob_conn *c)
{
    switch (c->route) {
    case HOB_ROUTE_CHAT:
    case HOB_ROUTE_COMPLETION:
    case HOB_ROUTE_RESPONSES:
    case HOB_ROUTE_EMBEDDINGS:
    case HOB_ROUTE_ESTIMATE:
    case HOB_ROUTE_RESPONSE_CANCEL: return "POST";
    case HOB_ROUTE_RESPONSE: return "GET, DELETE";
    case HOB_ROUTE_DOCUMENTS: return hob_documents_methods(c->document_route);
    case HOB_ROUTE_ADMIN: return c->admin_route->method;
    case HOB_ROUTE_CONSOLE: return c->console_route->method;
    default: return "GET";
    }
}

/* ---- responses ---- */

size_t hob_http_head(hob_conn *c, char *ret, size_t cap, int status, const char *type,
                     const char *extra, const size_t *body_len)
{
    char length[64] = "", limits[512], cors[400], trace[HOB_TRACEPARENT_MAX + 16];
    hob_trace_respond(c, status);
    hob_trace_header(c, trace);
    hob_limits_headers(c, limits, sizeof limits);
    hob_site_headers(c, cors, sizeof cors);
    if (body_len)
        snprintf(length, sizeof length, "content-length: %zu\r\n", *body_len);
    else if (c->chunked)
        snprintf(length, sizeof length, "transfer-encoding: chunked\r\n");
    int n =
        snprintf(ret, cap,
                 "HTTP/1.1 %d %s\r\nserver: hob\r\ncontent-type: %s\r\n%s%s%s%s%s%s"
                 "x-content-type-options: nosniff\r\nx-request-id: %s\r\nconnection: %s\r\n\r\n",
                 status, reason_of(status), type, length, extra, limits, cors, trace,
                 strstr(extra, "cache-control:") ? "" : "cache-control: no-store\r\n",
                 c->request_id, c->close_after ? "close" : "keep-alive");
    hob_metrics_status(&c->g->metrics, c->route, status);
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

void hob_http_respond(hob_conn *c, int status, const char *type, const char *extra,
                      const char *body, size_t len)
{
    char head[HOB_HEAD_MAX];
    if (c->state == HOB_CONN_CLOSING)
        return;
    if (c->g->draining)
        c->close_after = true;
    /* A 304 has no body, and a length would be that of the one it stands for (RFC 9110). */
    size_t n =
        hob_http_head(c, head, sizeof head, status, type, extra, status == 304 ? NULL : &len);
    c->state = HOB_CONN_BUSY;
    c->deadline_us = 0;
    c->response_done = true;
    hob_conn_queue(c, head, n, 0, 0);
    if (len > 0)
        hob_conn_queue(c, body, len, 0, 0);
    hob_audit_deletion(c, status);
}

void hob_http_respond_json(hob_conn *c, const hob_text *t)
{
    if (t->failed)
        hob_conn_kill(c, "no memory for a response");
    else
        hob_http_respond(c, 200, "application/json", "", hob_text_data(t), hob_text_len(t));
}

void hob_http_error(hob_conn *c, const hob_api_error *e)
{
    char extra[128] = "";
    hob_text t = {0};

    /* OpenAI's clients obey x-should-retry, before they look at a time. */
    const char *should = e->final ? "x-should-retry: false\r\n" : "";
    if (e->retry_after_ms)
        snprintf(extra, sizeof extra, "retry-after: %u\r\nretry-after-ms: %u\r\n%s",
                 (e->retry_after_ms + 999) / 1000, e->retry_after_ms, should);
    else if (e->retry_after_s)
        snprintf(extra, sizeof extra, "retry-after: %u\r\n", e->retry_after_s);
    else
        snprintf(extra, sizeof extra, "%s", should);
    if (e->status == 401)
        snprintf(extra, sizeof extra, "www-authenticate: Bearer realm=\"hob\"\r\n");
    if (e->status == 405)
        snprintf(extra, sizeof extra, "allow: %s\r\n", methods_of(c));
    hob_trace_fail(c->trace, e);
    hob_text_puts(&t, "{\"error\":");
    hob_api_error_object(&t, e);
    hob_text_puts(&t, "}\n");
    if (t.failed)
        hob_conn_kill(c, "no memory for an error");
    else
        hob_http_respond(c, e->status, "application/json", extra, hob_text_data(&t),
                         hob_text_len(&t));
    hob_text_free(&t);
}

void hob_http_stream_begin(hob_conn *c)
{
    char head[HOB_HEAD_MAX];
    c->streaming = true;
    c->chunked = !c->version_1_0;
    if (c->version_1_0 || c->g->draining)
        c->close_after =
            true; /* the end of the connection is the end of the stream, or of the server */
    size_t n =
        hob_http_head(c, head, sizeof head, 200, "text/event-stream; charset=utf-8", "", NULL);
    hob_conn_queue(c, head, n, 0, 0);
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* the one for a whole answer to a GET */
}

void hob_http_stream_add(hob_conn *c, const hob_text *event, uint64_t job, uint32_t tokens)
{
    char size[32];
    if (event->failed) {
        hob_conn_kill(c, "no memory for an event");
        return;
    }
    if (c->chunked) {
        int n = snprintf(size, sizeof size, "%zx\r\n", hob_text_len(event));
        hob_conn_queue(c, size, (size_t)n, 0, 0);
    }
    hob_conn_queue(c, hob_text_data(event), hob_text_len(event), job, tokens);
    if (c->chunked)
        hob_conn_queue(c, "\r\n", 2, 0, 0);
}

void hob_http_stream_end(hob_conn *c)
{
    if (c->chunked)
        hob_conn_queue(c, "0\r\n\r\n", 5, 0, 0);
    c->response_done = true;
    if (c->state != HOB_CONN_CLOSING)
        lws_callback_on_writable(c->wsi);
}

/* ---- the head ---- */

bool hob_http_header(struct lws *wsi, enum lws_token_indexes token, char *ret, size_t cap)
{
    ret[0] = '\0';
    if (lws_hdr_total_length(wsi, token) <= 0)
        return true;
    return lws_hdr_copy(wsi, ret, (int)cap, token) >= 0;
}

/* Is word among the comma-separated values? */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, " \t,;");
        if (len == n && strncasecmp(p, word, n) == 0)
            return true;
        p += strcspn(p, ",");
    }
    return false;
}

int hob_http_authorize(hob_conn *c, hob_api_error *e)
{
    char value[512], label[HOB_KEY_WORD_MAX];

    hob_accounts_forget(c);
    if (c->g->conf->plain)
        return 0;
    if (!hob_http_header(c->wsi, WSI_TOKEN_HTTP_AUTHORIZATION, value, sizeof value))
        value[0] = '\0';
    label[0] = '\0';
    if (!value[0] && c->g->conf->client_keys && !hob_front_client_name(c, label, sizeof label))
        label[0] = '\0';
    const int code = hob_accounts_authenticate(c, value, label, e);
    lws_explicit_bzero(value, sizeof value);
    return code;
}

static bool take_name(hob_conn *c, const char *name, size_t len)
{
    if (len == 0 || len >= sizeof c->name)
        return false;
    memcpy(c->name, name, len);
    c->name[len] = '\0';
    return true;
}

/* The admin socket has routes of its own, and beside them only those that need no key. */
static hob_route find_admin_route(hob_conn *c, const char *method, const char *path)
{
    c->admin_route = hob_admin_find(method, path);
    if (!c->admin_route)
        c->admin_route = hob_admin_find(NULL, path);
    if (!c->admin_route)
        return HOB_ROUTE_NONE;
    const size_t len = strlen(c->admin_route->path);
    return c->admin_route->path[len - 1] != '/' || take_name(c, path + len, strlen(path + len))
               ? HOB_ROUTE_ADMIN
               : HOB_ROUTE_NONE;
}

/* {id}, {id}/cancel or {id}/input_items */
static hob_route find_response_route(hob_conn *c, const char *rest)
{
    const size_t len = strcspn(rest, "/");
    if (!take_name(c, rest, len))
        return HOB_ROUTE_NONE;
    return rest[len] == '\0'                         ? HOB_ROUTE_RESPONSE
           : strcmp(rest + len, "/cancel") == 0      ? HOB_ROUTE_RESPONSE_CANCEL
           : strcmp(rest + len, "/input_items") == 0 ? HOB_ROUTE_RESPONSE_INPUT
                                                     : HOB_ROUTE_NONE;
}

static hob_route find_route(hob_conn *c, const char *method, const char *path)
{
    static const struct {
        const char *path;
        hob_route route;
    } routes[] = {
        {"/livez", HOB_ROUTE_LIVEZ},
        {"/readyz", HOB_ROUTE_READYZ},
        {"/metrics", HOB_ROUTE_METRICS},
        {"/hob/v1/stats", HOB_ROUTE_STATS},
        {"/v1/models", HOB_ROUTE_MODELS},
        {"/v1/chat/completions", HOB_ROUTE_CHAT},
        {"/v1/completions", HOB_ROUTE_COMPLETION},
        {"/v1/responses", HOB_ROUTE_RESPONSES},
        {"/v1/embeddings", HOB_ROUTE_EMBEDDINGS},
        {"/hob/v1/estimate", HOB_ROUTE_ESTIMATE},
    };
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0 &&
            ((!c->admin && !c->metrics) || routes[i].route <= HOB_ROUTE_STATS))
            return routes[i].route;
    if (c->admin)
        return find_admin_route(c, method, path);
    if (c->metrics)
        return HOB_ROUTE_NONE;
    if (hob_console_find(c, path))
        return HOB_ROUTE_CONSOLE;
    if (strncmp(path, "/v1/models/", 11) == 0)
        return take_name(c, path + 11, strlen(path + 11)) ? HOB_ROUTE_MODEL : HOB_ROUTE_NONE;
    if (strncmp(path, "/v1/responses/", 14) == 0)
        return find_response_route(c, path + 14);
    c->document_route = hob_documents_find(c, method, path);
    return c->document_route ? HOB_ROUTE_DOCUMENTS : HOB_ROUTE_NONE;
}

/* What the body of a POST is. */
static hob_body_kind body_kind(const hob_conn *c)
{
    return c->route == HOB_ROUTE_DOCUMENTS ? c->document_route->body
           : c->route == HOB_ROUTE_RESPONSE_CANCEL || c->route == HOB_ROUTE_CONSOLE ? HOB_BODY_NONE
                                                                                    : HOB_BODY_JSON;
}

bool hob_route_infers(hob_route r)
{
    return r == HOB_ROUTE_CHAT || r == HOB_ROUTE_COMPLETION || r == HOB_ROUTE_RESPONSES ||
           r == HOB_ROUTE_EMBEDDINGS;
}

/* How long the body is. Fills the error where that cannot be told. */
static int check_length(hob_conn *c, bool post, hob_api_error *e)
{
    char length[64], encoding[64];
    bool fits =
        hob_http_header(c->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, length, sizeof length) &&
        hob_http_header(c->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING, encoding, sizeof encoding);
    size_t digits = strspn(length, "0123456789");

    c->body_bytes = 0;
    if (!fits || (encoding[0] && length[0]) || (length[0] && (length[digits] || digits == 0)))
        return hob_api_bad(e, "invalid_length", NULL,
                           "the body's length is ambiguous or not a number");
    if (encoding[0])
        return hob_api_fail(e, 411, "invalid_request_error", "length_required", NULL,
                            "chunked request bodies are not supported: send Content-Length");
    if (!length[0]) {
        if (!post)
            return 0;
        return hob_api_fail(e, 411, "invalid_request_error", "length_required", NULL,
                            "Content-Length is needed");
    }
    const uint64_t most = post && body_kind(c) == HOB_BODY_FORM
                              ? ((uint64_t)c->g->conf->max_file_mb << 20) + FORM_BYTES
                              : c->g->conf->max_body_bytes;
    if (digits > 15 || strtoull(length, NULL, 10) > most)
        return hob_api_fail(e, 413, "invalid_request_error", "request_too_large", NULL,
                            "the body is longer than the %llu bytes that are allowed",
                            (unsigned long long)most);
    c->body_bytes = strtoull(length, NULL, 10);
    return 0;
}

/* Fills c->key by what the request carries. 0, or HOB_EINVAL with the error. */
static int identify(hob_conn *c, hob_api_error *e)
{
    if (c->route == HOB_ROUTE_CONSOLE)
        return hob_console_check(c, e);
    const int code = hob_console_admit(c, e);
    return code < 0 ? code : code > 0 ? 0 : hob_http_authorize(c, e);
}

/* method: "GET", "POST", "DELETE", or "" for any other. */
static int check_head(hob_conn *c, const char *path, const char *method, hob_api_error *e)
{
    char type[256], version[16];

    if (!hob_http_header(c->wsi, WSI_TOKEN_HTTP, version, sizeof version) ||
        strncmp(version, "HTTP/1.", 7) != 0)
        return hob_api_fail(e, 505, "invalid_request_error", "unsupported_version", NULL,
                            "HTTP/1.1 is spoken here");
    if (hob_site_check(c, e) < 0)
        return HOB_EINVAL;
    if (hob_site_is_preflight(c)) /* which carries no key */
        return 0;
    const bool watches = c->route == HOB_ROUTE_METRICS || c->route == HOB_ROUTE_STATS,
               keyless = c->admin || c->metrics || (watches && c->local);
    if (c->route != HOB_ROUTE_LIVEZ && c->route != HOB_ROUTE_READYZ && !keyless &&
        identify(c, e) < 0)
        return HOB_EINVAL;
    if (watches && !keyless && c->key && !c->key->record.admin)
        return hob_api_fail(e, 403, "invalid_request_error", "not_an_administrator", NULL,
                            "%.60s is for keys of the role admin; on this machine, and on a "
                            "listener for metrics, it needs none",
                            path);
    if (c->route == HOB_ROUTE_NONE && c->key && c->key->record.admin)
        c->route = find_admin_route(c, method, path);
    if (c->route == HOB_ROUTE_NONE)
        return hob_api_fail(e, 404, "invalid_request_error", "unknown_url", NULL,
                            "unknown URL: %.100s", path);
    if (c->by_session && hob_console_allows(c, method, path, e) < 0)
        return HOB_EINVAL;
    if (!method[0] || !has_word(methods_of(c), method))
        return hob_api_fail(e, 405, "invalid_request_error", "method_not_allowed", NULL,
                            "%.60s answers to %s only", path, methods_of(c));
    if (c->route == HOB_ROUTE_DOCUMENTS && hob_documents_check(c, e) < 0)
        return HOB_EINVAL;
    if (strcmp(method, "POST") != 0)
        return 0;
    const hob_body_kind kind = body_kind(c);
    const char *wanted = kind == HOB_BODY_FORM ? "multipart/form-data" : "application/json";
    if (kind == HOB_BODY_NONE)
        return c->body_bytes > EMPTY_BODY_MAX
                   ? hob_api_bad(e, "invalid_length", NULL, "no body is expected here")
                   : 0;
    if (!hob_http_header(c->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, type, sizeof type) ||
        !has_word(type, wanted))
        return hob_api_fail(e, 415, "invalid_request_error", "unsupported_media_type", NULL,
                            "the body has to be sent with 'Content-Type: %s'", wanted);
    return 0;
}

static void begin_request(hob_conn *c)
{
    char value[64];

    hob_accounts_forget(c);
    c->early = (hob_api_error){0};
    c->body_seen = c->body.start = c->body.len = 0;
    c->chunked = c->streaming = c->response_done = false;
    c->body_paused_us = c->body_idle_us = 0;
    c->deadline_us = 0;
    c->progress_us = hob_now_us();
    hob_request_id(c->request_id, "req_");
    c->version_1_0 = !hob_http_header(c->wsi, WSI_TOKEN_HTTP, value, sizeof value) ||
                     strcmp(value, "HTTP/1.1") != 0;
    hob_trace_begin(c);
    bool fits = hob_http_header(c->wsi, WSI_TOKEN_CONNECTION, value, sizeof value);
    c->close_after =
        !fits || has_word(value, "close") || (c->version_1_0 && !has_word(value, "keep-alive"));
}

/* Whether there is memory for the body; a file needs little. */
static int admit_body(hob_conn *c, hob_api_error *e)
{
    if (body_kind(c) != HOB_BODY_FORM)
        return hob_buffers_admit(c->g, c->body_bytes, e);
    const int code = hob_buffers_admit(c->g, FORM_MEMORY, e);
    return code < 0 ? code : hob_upload_begin(c, e);
}

static void serve_get(hob_conn *c);
static int on_writable(hob_conn *c);

static int on_head(hob_conn *c, const char *in, size_t len)
{
    struct lws *wsi = c->wsi;
    const bool get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;
    const bool post = lws_hdr_total_length(wsi, WSI_TOKEN_POST_URI) > 0;
    const bool remove = lws_hdr_total_length(wsi, WSI_TOKEN_DELETE_URI) > 0;
    hob_api_error length_error = {0};
    const char *method = get ? "GET" : post ? "POST" : remove ? "DELETE" : "";
    char path[256], expect[32];

    if (c->state != HOB_CONN_IDLE)
        return -1;
    begin_request(c);
    snprintf(path, sizeof path, "%.*s", (int)(len < sizeof path ? len : sizeof path - 1), in);
    c->route = find_route(c, method, path);
    (void)check_length(c, post, &length_error);
    (void)check_head(c, path, method, &c->early);
    if (length_error.status && (c->early.status == 0 || length_error.status == 400))
        c->early = length_error;
    else if (!c->early.status && !post && c->body_bytes > 0)
        hob_api_bad(&c->early, "invalid_length", NULL, "a body is allowed with POST only");
    else if (!c->early.status && post && c->g->draining && !c->admin) {
        hob_api_fail(&c->early, 503, "server_error", "draining", NULL,
                     "the server is shutting down");
        c->early.retry_after_s = HOB_DRAIN_RETRY_S;
    } else if (!c->early.status && post)
        (void)admit_body(c, &c->early);
    if (!post && c->body_bytes > 0)
        c->close_after = true;
    hob_trace_head(c, post);
    if (!c->early.status && hob_site_is_preflight(c) && !length_error.status) {
        hob_site_preflight(c);
        return on_writable(c);
    }
    if (c->early.status &&
        (length_error.status || c->body_bytes > DROP_BODY_MAX || !(get || post || remove))) {
        c->close_after =
            true; /* where the next request would begin is not known, or too far away */
        hob_http_error(c, &c->early);
        return 0;
    }
    if (post) {
        c->state = HOB_CONN_BODY;
        c->body_began_us = hob_now_us();
        if (hob_http_header(wsi, WSI_TOKEN_HTTP_EXPECT, expect, sizeof expect) &&
            has_word(expect, "100-continue")) {
            static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
            memcpy(c->g->write_buffer + LWS_PRE, go_on, sizeof go_on - 1);
            if (lws_write(wsi, c->g->write_buffer + LWS_PRE, sizeof go_on - 1,
                          LWS_WRITE_HTTP_HEADERS) < 0)
                return -1;
        }
        return 0;
    }
    /* Most answers are ready at once, and are written at once. */
    if (c->early.status)
        hob_http_error(c, &c->early);
    else if (c->route == HOB_ROUTE_RESPONSE || c->route == HOB_ROUTE_RESPONSE_INPUT)
        hob_responses_serve(c, remove);
    else if (c->route == HOB_ROUTE_DOCUMENTS)
        c->document_route->serve(c, NULL);
    else if (c->route == HOB_ROUTE_CONSOLE)
        c->console_route->serve(c);
    else
        serve_get(c);
    return on_writable(c);
}

/* ---- the routes ---- */

static void model_object(hob_text *t, const hob_gateway *g, uint32_t i)
{
    const hob_link *l = &g->links[i];
    hob_text_puts(t, "{\"id\":");
    hob_text_string(t, g->conf->models[i].name, strlen(g->conf->models[i].name));
    hob_text_format(t,
                    ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"hob\",\"hob_ready\":%s,"
                    "\"hob_default\":%s",
                    (long long)g->started_s, l->state == HOB_LINK_READY ? "true" : "false",
                    i == 0 ? "true" : "false");
    if (l->context)
        hob_text_format(t, ",\"hob_context_tokens\":%u", l->context);
    if (l->dimensions)
        hob_text_format(t, ",\"hob_dimensions\":%u", l->dimensions);
    hob_text_puts(t, "}");
}

static void serve_models(hob_conn *c, hob_text *t)
{
    hob_gateway *g = c->g;
    hob_text_puts(t, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0, n = 0; i < g->conf->model_count; i++) {
        if (c->key && !hob_key_allows_model(c->key, g->conf->models[i].name))
            continue;
        if (n++ > 0)
            hob_text_puts(t, ",");
        model_object(t, g, i);
    }
    hob_text_puts(t, "]}\n");
}

static void serve_get(hob_conn *c)
{
    hob_gateway *g = c->g;
    hob_text t = {0};
    hob_api_error e;
    const char *type = "application/json";
    int status = 200, found;
    uint32_t loaded = 0;
    bool ready = !g->draining;

    switch (c->route) {
    case HOB_ROUTE_LIVEZ: hob_text_puts(&t, "{\"status\":\"ok\"}\n"); break;
    case HOB_ROUTE_READYZ:
        for (uint32_t i = 0; i < g->link_count; i++) {
            loaded += !g->links[i].unloading;
            ready = ready && (g->links[i].unloading || g->links[i].state == HOB_LINK_READY);
        }
        ready = ready && loaded > 0;
        status = ready ? 200 : 503;
        hob_text_format(&t, "{\"status\":\"%s\"}\n",
                        ready         ? "ready"
                        : g->draining ? "draining"
                        : loaded      ? "starting"
                                      : "unloaded");
        break;
    case HOB_ROUTE_METRICS:
        type = "text/plain; version=0.0.4; charset=utf-8";
        hob_metrics_write(g, &t);
        break;
    case HOB_ROUTE_STATS: hob_stats_serve(c); return;
    case HOB_ROUTE_MODELS: serve_models(c, &t); break;
    case HOB_ROUTE_ADMIN:
        c->state = HOB_CONN_BUSY; /* the answer may come later */
        c->admin_route->serve(c, NULL);
        return;
    default:
        found = hob_api_find_model(g->conf, c->name);
        if (found < 0) {
            hob_api_fail(&e, 404, "invalid_request_error", "model_not_found", "model",
                         "the model '%.100s' does not exist", c->name);
            hob_http_error(c, &e);
            return;
        }
        if (hob_limits_model(c->g, c->key, (uint32_t)found, &e) < 0) {
            hob_http_error(c, &e);
            return;
        }
        model_object(&t, g, (uint32_t)found);
        break;
    }
    if (t.failed)
        hob_conn_kill(c, "no memory for a response");
    else
        hob_http_respond(c, status, type, status == 503 ? "retry-after: 1\r\n" : "",
                         hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

/* An estimate is asked for in the words of any of the three. */
static hob_api_kind kind_of(hob_route route, const json_t *body)
{
    switch (route) {
    case HOB_ROUTE_CHAT: return HOB_API_CHAT;
    case HOB_ROUTE_COMPLETION: return HOB_API_COMPLETION;
    case HOB_ROUTE_EMBEDDINGS: return HOB_API_EMBEDDINGS;
    case HOB_ROUTE_ESTIMATE:
        return json_object_get(body, "prompt")  ? HOB_API_COMPLETION
               : json_object_get(body, "input") ? HOB_API_RESPONSES
                                                : HOB_API_CHAT;
    default: return HOB_API_RESPONSES;
    }
}

static int make_estimate(hob_api_request *r, hob_api_error *e)
{
    if (r->more)
        return hob_api_bad(e, "invalid_value", "prompt", "prompt: one is estimated at a time");
    if (r->kind == HOB_API_RESPONSES)
        r->kind = HOB_API_CHAT; /* nothing is stored */
    r->estimate = true;
    r->stream = r->background = r->queue_events = false;
    return 0;
}

static void serve_post(hob_conn *c)
{
    hob_api_error e = {0};
    hob_api_request request;
    json_t *body = hob_api_load(
        hob_bytes_left(&c->body) ? (const char *)c->body.data + c->body.start : "",
        hob_bytes_left(&c->body),
        c->route == HOB_ROUTE_EMBEDDINGS ? HOB_API_VALUES_OF_EMBEDDINGS : HOB_API_VALUES_MAX, &e);
    const size_t bytes = hob_bytes_left(&c->body);
    hob_bytes_free(&c->body);
    if (!body || c->route == HOB_ROUTE_ADMIN || c->route == HOB_ROUTE_DOCUMENTS) {
        if (!body)
            hob_http_error(c, &e);
        else if (c->route == HOB_ROUTE_ADMIN)
            c->admin_route->serve(c, body);
        else
            c->document_route->serve(c, body);
        json_decref(body);
        return;
    }
    const hob_api_kind kind = kind_of(c->route, body);
    int rc = hob_api_parse(c->g->conf, kind, false, body, &request, &e);
    json_decref(body);
    if (rc == 0 && kind == HOB_API_RESPONSES &&
        (rc = hob_response_continue(c->g, c->key, &request, &e)) < 0)
        hob_api_request_free(&request);
    if (rc == 0 && c->route == HOB_ROUTE_ESTIMATE && (rc = make_estimate(&request, &e)) < 0)
        hob_api_request_free(&request);
    if (rc == 0 && c->g->draining) { /* since its head came */
        hob_api_request_free(&request);
        rc = hob_api_fail(&e, 503, "server_error", "draining", NULL, "the server is shutting down");
        e.retry_after_s = HOB_DRAIN_RETRY_S;
    }
    if (rc < 0)
        hob_http_error(c, &e);
    else if (kind == HOB_API_EMBEDDINGS) {
        hob_embeddings_serve(c, &request);
        hob_api_request_free(&request);
    } else
        hob_job_open(c, &request, bytes, false);
}

/* ---- the body, and the way back ---- */

static int on_body(hob_conn *c, const char *in, size_t len)
{
    if (c->state != HOB_CONN_BODY)
        return 0; /* already refused: what still comes is dropped */
    c->body_seen += len;
    if (c->early.status || len == 0)
        return 0;
    if (c->body_seen > c->body_bytes)
        return -1;
    if (c->upload) {
        hob_upload_data(c, in, len);
        return 0;
    }
    if (c->body.len + len > c->body.capacity &&
        hob_buffers_admit(c->g, c->body.capacity + len, &c->early) < 0) {
        hob_bytes_free(
            &c->body); /* others' bodies came in between: the rest of this one is not read */
        c->close_after = true;
        hob_http_error(c, &c->early);
        return 0;
    }
    return hob_bytes_append(&c->body, in, len) < 0 ? -1 : 0;
}

static int on_body_end(hob_conn *c)
{
    if (c->state != HOB_CONN_BODY)
        return 0;
    c->state = HOB_CONN_BUSY;
    hob_trace_enter(c->trace, hob_route_infers(c->route) || c->route == HOB_ROUTE_ESTIMATE
                                  ? HOB_SPAN_ADMISSION
                                  : HOB_SPAN_SERVE);
    if (c->early.status || hob_accounts_recheck(c, &c->early) < 0) {
        hob_upload_drop(c);
        hob_http_error(c, &c->early);
    } else if (c->route == HOB_ROUTE_RESPONSE_CANCEL)
        hob_responses_serve(c, false);
    else if (c->upload)
        hob_upload_end(c);
    else if (c->route == HOB_ROUTE_CONSOLE)
        c->console_route->serve(c);
    else if (body_kind(c) == HOB_BODY_NONE)
        c->document_route->serve(c, NULL);
    else
        serve_post(c);
    return 0;
}

static int on_writable(hob_conn *c)
{
    int rc = hob_conn_write(c);
    if (rc < 0)
        return -1;
    /* The last write ends the request, not the news that it has drained: the client's next request may be here first.
     * What the socket did not take libwebsockets sends before it goes on. A connection that closes waits for the news. */
    if (!c->response_done || c->state != HOB_CONN_BUSY || c->out_bytes > 0 ||
        (rc > 0 && c->close_after))
        return 0;
    c->response_done = c->in_flight = false;
    c->flight_tokens = 0;
    hob_conn_drop_jobs(c);
    hob_trace_leave(c);
    if (c->close_after) {
        c->state = HOB_CONN_CLOSING;
        return -1;
    }
    c->state = HOB_CONN_IDLE;
    c->deadline_us = hob_now_us() + c->g->conf->idle_timeout_ms * (uint64_t)1000;
    if (lws_http_transaction_completed(c->wsi))
        return -1;
    return 0;
}

int hob_http_callback(hob_conn *c, enum lws_callback_reasons reason, const char *in, size_t len)
{
    switch (reason) {
    case LWS_CALLBACK_HTTP: return on_head(c, in, len);
    case LWS_CALLBACK_HTTP_BODY: return on_body(c, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION: return on_body_end(c);
    case LWS_CALLBACK_HTTP_WRITEABLE: return on_writable(c);
    default: return 0;
    }
}
