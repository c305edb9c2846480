/* SPDX-License-Identifier: Apache-2.0
 *
 * Which web pages may talk to us through their visitor's browser. A page can reach a server inside a network by a name of
 * its own that resolves to it (DNS rebinding): only names that are ours are answered in Host. And a page of another site
 * is told by its Origin: only those of cors_origins may come, over WebSocket too, which CORS does not cover. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "daemon/gateway/state.h"

/* The name in "name[:port]", "[v6][:port]". */
static const char *host_name(const char *host, size_t *ret_len)
{
    if (host[0] == '[') {
        *ret_len = strcspn(host + 1, "]");
        return host + 1;
    }
    *ret_len = strcspn(host, ":/");
    if (*ret_len > 0 && host[*ret_len - 1] == '.') /* absolute */
        --*ret_len;
    return host;
}

static bool is_address(const char *name, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    struct in_addr four;
    if (len >= sizeof text)
        return false;
    memcpy(text, name, len);
    text[len] = '\0';
    return inet_pton(AF_INET, text, &four) == 1 || inet_pton(AF_INET6, text, &six) == 1;
}

static bool is_loopback_name(const char *host)
{
    size_t len;
    const char *name = host_name(host, &len);
    return (len == 9 && strncasecmp(name, "localhost", 9) == 0) ||
           (is_address(name, len) &&
            ((len == 3 && memcmp(name, "::1", 3) == 0) || strncmp(name, "127.", 4) == 0));
}

/* An address cannot be another's name: it is always ours. */
static bool is_our_name(const hob_gateway *g, const char *host)
{
    const hob_conf_list *hosts = &g->conf->hosts;
    size_t len;
    const char *name = host_name(host, &len);

    if (is_loopback_name(host) || is_address(name, len) ||
        hob_certificate_names(&g->front->certificate, name, len))
        return true;
    for (uint32_t i = 0; i < hosts->count; i++)
        if (strcmp(hosts->text[i], "*") == 0 ||
            (strlen(hosts->text[i]) == len && strncasecmp(hosts->text[i], name, len) == 0))
            return true;
    return false;
}

static bool is_allowed_origin(hob_conn *c, const char *origin, const char *host)
{
    const hob_conf_list *origins = &c->g->conf->cors_origins;
    const char *site = strstr(origin, "://");

    const bool same_scheme = strncmp(origin, c->tls ? "https:" : "http:", c->tls ? 6 : 5) == 0;
    if (site && same_scheme && host[0] && strcasecmp(site + 3, host) == 0)
        return true; /* our own page */
    for (uint32_t i = 0; i < origins->count; i++)
        if (strcmp(origins->text[i], origin) == 0) {
            snprintf(c->cors_origin, sizeof c->cors_origin, "%s", origin);
            return true;
        }
    return site && c->g->conf->plain && is_loopback_name(site + 3);
}

int hob_site_check(hob_conn *c, hob_api_error *e)
{
    char host[300], origin[300];
    const bool fits = hob_http_header(c->wsi, WSI_TOKEN_HOST, host, sizeof host) &&
                      hob_http_header(c->wsi, WSI_TOKEN_ORIGIN, origin, sizeof origin);

    c->cors_origin[0] = '\0';
    if (c->is_unix) /* no browser comes this way */
        return 0;
    if (!fits || (host[0] && !is_our_name(c->g, host)))
        return hob_api_fail(
            e, 403, "invalid_request_error", "forbidden_host", NULL,
            "this server has no name '%.100s': localhost, IP addresses, the names in "
            "its certificate and those in `hosts` of hob.conf are answered",
            fits ? host : "");
    if (origin[0] && !is_allowed_origin(c, origin, host))
        return hob_api_fail(e, 403, "invalid_request_error", "forbidden_origin", NULL,
                            "pages of '%.100s' may not use this server; `cors_origins` of hob.conf "
                            "lists those that may",
                            origin);
    return 0;
}

bool hob_site_is_preflight(const hob_conn *c)
{
    return c->cors_origin[0] && lws_hdr_total_length(c->wsi, WSI_TOKEN_OPTIONS_URI) > 0;
}

void hob_site_preflight(hob_conn *c)
{
    hob_http_respond(c, 200, "text/plain",
                     "access-control-allow-methods: GET, POST, DELETE\r\n"
                     "access-control-allow-headers: authorization, *\r\n"
                     "access-control-max-age: 600\r\n",
                     "", 0);
}

void hob_site_headers(const hob_conn *c, char *ret, size_t size)
{
    ret[0] = '\0';
    if (c->cors_origin[0])
        snprintf(ret, size,
                 "access-control-allow-origin: %s\r\naccess-control-expose-headers: *\r\n"
                 "vary: origin\r\n",
                 c->cors_origin);
}
