/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions of the console, over HTTP.
 *
 * A session begins with a request that carries an API key as any other does, and so passes the same checks and the same
 * limiter of failures. Its cookie is 256 random bits of which the SHA-256 is kept. No script can read it (HttpOnly), no
 * other site's page makes the browser send it (SameSite=Strict), over TLS it goes nowhere without (Secure) and no other
 * host of the domain can have set it (__Host-, RFC 6265bis).
 *
 * Against forged requests, two things beside that (OWASP's Cross-Site Request Forgery Prevention Cheat Sheet): each
 * request by a session carries a header of our own, which a page of another origin may send only after we have allowed
 * it to (a CORS preflight), and for a session we never do; and what changes something has an Origin, which has to be
 * ours. SameSite is not enough: another port of this host is the same site. A token in each page would say no more than
 * that header, since nothing here takes forms, and would be a secret to keep. */
#include "daemon/gateway/console.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/conf/keys.h"
#include "daemon/gateway/documents.h"

enum { COOKIE_BYTES = 32, COOKIE_TEXT = 2 * COOKIE_BYTES };

static const char *cookie_name(const hob_conn *c)
{
    return c->tls ? "__Host-hob_session" : "hob_session"; /* HTTP with keys: on loopback only */
}

/* ---- the cookie ---- */

static bool read_cookie(const hob_conn *c, char ret[COOKIE_TEXT + 1])
{
    static char all[UINT16_MAX + 1]; /* loop only; as long as a head may be */
    return hob_http_header(c->wsi, WSI_TOKEN_HTTP_COOKIE, all, sizeof all) &&
           hob_session_cookie(all, cookie_name(c), COOKIE_TEXT, ret);
}

/* value "": it is to be forgotten. */
static void write_cookie(const hob_conn *c, const char *value, char *ret, size_t size)
{
    snprintf(ret, size, "set-cookie: %s=%s; Path=/; Max-Age=%u; HttpOnly; SameSite=Strict%s\r\n",
             cookie_name(c), value, value[0] ? c->g->conf->console_session_s : 0,
             c->tls ? "; Secure" : "");
}

static uint64_t now_ms(void)
{
    return hob_now_us() / 1000;
}

/* The session of c's cookie, NULL: none, or its key is no more what it was. */
static hob_session *find_session(const hob_conn *c)
{
    hob_gateway *g = c->g;
    const int64_t now_s = (int64_t)time(NULL);
    char value[COOKIE_TEXT + 1];
    uint8_t hash[32];

    if (!g->conf->console || !read_cookie(c, value) || hob_key_hash(value, COOKIE_TEXT, hash) < 0)
        return NULL;
    g->sessions.idle_ms = g->conf->console_session_idle_s * (uint64_t)1000;
    hob_session *one = hob_sessions_find(&g->sessions, hash, now_ms());
    const hob_key *key = one ? hob_keyring_get(&g->keys, one->key) : NULL;
    if (!one ||
        (key && hob_key_valid(key, now_s) && hob_key_answers_to(key, one->text_hash, now_s)))
        return one;
    hob_session_end(one);
    return NULL;
}

/* ---- who may ----- */

static int check_page(const hob_conn *c, hob_api_error *e)
{
    static const char name[] = "x-hob-console:";
    const bool reads = lws_hdr_total_length(c->wsi, WSI_TOKEN_GET_URI) > 0;
    const char *why = NULL;

    if (lws_hdr_custom_length(c->wsi, name, sizeof name - 1) < 0)
        why = "the header X-Hob-Console is missing";
    else if (c->cors_origin[0])
        why = "its Origin is another site's";
    else if (!reads && lws_hdr_total_length(c->wsi, WSI_TOKEN_ORIGIN) <= 0)
        why = "it has no Origin";
    return why ? hob_api_fail(e, 403, "invalid_request_error", "not_from_the_console", NULL,
                              "a session is for the console's own pages: %s", why)
               : 0;
}

int hob_console_admit(hob_conn *c, hob_api_error *e)
{
    if (lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_AUTHORIZATION) > 0)
        return 0;
    const hob_session *one = find_session(c);
    if (!one)
        return 0;
    if (check_page(c, e) < 0)
        return HOB_EINVAL;
    hob_accounts_forget(c);
    c->key = hob_key_ref(hob_keyring_get(&c->g->keys, one->key));
    c->by_text = c->by_session = true;
    memcpy(c->text_hash, one->text_hash, sizeof c->text_hash);
    hob_key_note(c->key, (int64_t)time(NULL), &(hob_key_usage){0});
    return 1;
}

/* What the pages ask for, and nothing else. */
static const struct {
    const char *method, *path; /* as the route's table has it */
} allowed[] = {
    {"GET", "/v1/models"},
    {"POST", "/v1/chat/completions"},
    {"GET", "/v1/files"},
    {"POST", "/v1/files"},
    {"DELETE", "/v1/files/*"},
    {"GET", "/v1/vector_stores"},
    {"POST", "/v1/vector_stores"},
    {"DELETE", "/v1/vector_stores/*"},
    {"POST", "/v1/vector_stores/*/search"},
    {"GET", "/v1/vector_stores/*/files"},
    {"POST", "/v1/vector_stores/*/files"},
    {"DELETE", "/v1/vector_stores/*/files/*"},
    {"GET", "/v1/vector_stores/*/files/*/content"},
    {"GET", "/metrics"},
    {"GET", "/hob/v1/stats"},
    {"GET", "/hob/v1/traces"},
    {"GET", "/hob/v1/traces/"},
    {"GET", "/hob/v1/admin/status"},
    {"GET", "/hob/v1/admin/keys"},
    {"POST", "/hob/v1/admin/keys/add"},
    {"POST", "/hob/v1/admin/keys/set"},
    {"POST", "/hob/v1/admin/keys/rotate"},
    {"POST", "/hob/v1/admin/keys/revoke"},
};

int hob_console_allows(const hob_conn *c, const char *method, const char *path, hob_api_error *e)
{
    if (c->route == HOB_ROUTE_DOCUMENTS)
        path = c->document_route->path;
    else if (c->route == HOB_ROUTE_ADMIN)
        path = c->admin_route->path;
    if (c->route == HOB_ROUTE_CONSOLE)
        return 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(allowed[i].path, path) == 0 && strcmp(allowed[i].method, method) == 0)
            return 0;
    return hob_api_fail(e, 403, "invalid_request_error", "not_for_sessions", NULL,
                        "a session of the console is not for this: an API key is needed");
}

/* ---- its own routes ---- */

static void serve_session(hob_conn *c);
static void serve_login(hob_conn *c);
static void serve_logout(hob_conn *c);

static const hob_console_route file_route = {"GET", NULL, hob_console_serve_file};
static const hob_console_route routes[] = {
    {"GET", "/hob/v1/console/session", serve_session},
    {"POST", "/hob/v1/console/login", serve_login},
    {"POST", "/hob/v1/console/logout", serve_logout},
};

bool hob_console_find(hob_conn *c, const char *path)
{
    c->console_route = NULL;
    c->console_file = NULL;
    if (!c->g->conf->console)
        return false;
    if ((c->console_file = hob_console_file_find(path)))
        c->console_route = &file_route;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0)
            c->console_route = &routes[i];
    return c->console_route;
}

/* A certificate may be a key as well: then there is nothing to log in to. */
static void take_certificate(hob_conn *c)
{
    char label[HOB_KEY_WORD_MAX];
    hob_api_error unused;
    if (c->g->conf->client_keys && hob_front_client_name(c, label, sizeof label))
        (void)hob_accounts_authenticate(c, "", label, &unused);
}

int hob_console_check(hob_conn *c, hob_api_error *e)
{
    if (c->console_file || c->g->conf->plain)
        return 0;
    if (check_page(c, e) < 0)
        return HOB_EINVAL;
    if (c->console_route->serve == serve_login) {
        if (hob_http_authorize(c, e) < 0)
            return HOB_EINVAL;
        return c->by_text ? 0
                          : hob_api_fail(e, 401, "invalid_request_error", "invalid_api_key", NULL,
                                         "a session begins with an API key");
    }
    const int code = hob_console_admit(c, e);
    if (code == 0)
        take_certificate(c);
    return code < 0 ? code : 0;
}

/* What the page needs to know: whether to ask for a key, whose it has, and which views there are. */
static void respond(hob_conn *c, const char *extra)
{
    const hob_conf *conf = c->g->conf;
    const bool admin = c->key && c->key->record.admin;
    hob_text t = {0};

    hob_text_format(&t,
                    "{\"object\":\"hob.console\",\"version\":\"" HOB_VERSION "\",\"needs_key\":%s",
                    conf->plain || c->key ? "false" : "true");
    if (c->key)
        hob_text_format(&t, ",\"key\":{\"label\":\"%s\",\"tenant\":\"%s\",\"role\":\"%s\"}",
                        c->key->record.label, c->key->record.tenant, admin ? "admin" : "user");
    else
        hob_text_puts(&t, ",\"key\":null");
    hob_text_format(&t, ",\"session\":%s,\"max_file_bytes\":%llu,\"views\":[",
                    c->by_session ? "true" : "false", (unsigned long long)conf->max_file_mb << 20);
    if (conf->plain)
        hob_text_puts(&t, "\"chat\",\"dashboard\"");
    else if (c->key)
        hob_text_puts(&t, "\"chat\",\"documents\"");
    if (admin)
        hob_text_puts(&t, ",\"dashboard\",\"traces\",\"keys\"");
    hob_text_puts(&t, "]}\n");
    if (t.failed)
        hob_conn_kill(c, "no memory for a response");
    else
        hob_http_respond(c, 200, "application/json", extra, hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

static void serve_session(hob_conn *c)
{
    respond(c, "");
}

static void serve_login(hob_conn *c)
{
    hob_gateway *g = c->g;
    uint8_t random[COOKIE_BYTES], hash[32];
    char value[COOKIE_TEXT + 1], extra[256];
    hob_api_error e;

    if (!c->key) { /* --dev: there is nothing to log in to */
        respond(c, "");
        return;
    }
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        hob_api_fail(&e, 503, "server_error", "no_random_numbers", NULL,
                     "no random numbers from the system");
        hob_http_error(c, &e);
        return;
    }
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(value + 2 * i, 3, "%02x", random[i]);
    if (hob_key_hash(value, COOKIE_TEXT, hash) < 0) {
        hob_http_error(c, (hob_api_no_memory(&e), &e));
        return;
    }
    hob_session *before = find_session(c); /* of the same browser: there is one at a time */
    if (before)
        hob_session_end(before);
    g->sessions.idle_ms = g->conf->console_session_idle_s * (uint64_t)1000;
    hob_sessions_begin(&g->sessions, c->key->record.id, c->text_hash, hash,
                       g->conf->console_session_s * (uint64_t)1000, now_ms());
    write_cookie(c, value, extra, sizeof extra);
    c->by_session = true;
    respond(c, extra);
    lws_explicit_bzero(value, sizeof value);
    lws_explicit_bzero(extra, sizeof extra);
}

static void serve_logout(hob_conn *c)
{
    hob_session *one = find_session(c);
    char extra[256];
    if (one)
        hob_session_end(one);
    write_cookie(c, "", extra, sizeof extra);
    hob_accounts_forget(c);
    respond(c, extra);
}
