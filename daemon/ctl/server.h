/* SPDX-License-Identifier: Apache-2.0
 *
 * Which server the online commands talk to, and with what: --url --key --cacert, else HOB_URL
 * HOB_API_KEY HOB_CACERT, else what `hobctl setup` left under ./var (url, api_key, ca.pem), else
 * what the hob.conf of this machine's installation says, as far as one may read it. The key and the
 * CA found there belong to the server named there and are offered to no other. */
#ifndef HOB_DAEMON_CTL_SERVER_H
#define HOB_DAEMON_CTL_SERVER_H

#include "hal/base.h"

/* Options of every online command; NULL where not given. */
typedef struct hob_server_options {
    const char *url, *key, *cacert;
} hob_server_options;

#define HOB_SERVER_OPTIONS(s_)                                                                     \
    HOB_TEXT("--url", "URL", &(s_)->url, "of the server (else HOB_URL, var/url, hob.conf)"),       \
        HOB_TEXT("--key", "KEY", &(s_)->key, "API key (else HOB_API_KEY, var/api_key)"),           \
        HOB_TEXT("--cacert", "FILE", &(s_)->cacert,                                                \
                 "CA to verify the server by (else HOB_CACERT, var/ca.pem)")

#define HOB_SOCKET_OPTION(s_)                                                                      \
    HOB_TEXT("--socket", "FILE", s_, "hobd's admin socket (else HOB_SOCKET, var/hob.sock)")

typedef struct hob_server {
    bool tls;
    bool ipv6; /* host is an IPv6 address, without its brackets */
    char host[256];
    uint16_t port;
    char prefix[256];  /* path in front of /v1/…, "" mostly */
    char key[256];     /* "" none */
    char cacert[4096]; /* "" with plain HTTP */
    char socket[108];  /* a Unix socket, which takes the place of host and port; "": none */
} hob_server;

/* The hob.conf of this machine's installation: HOB_CONFIG, else where packages have it. It need not be there. */
const char *hob_server_config(void);
/* The URL, on this machine, of a hobd that listens there. */
void hob_server_local_url(const char *listen, unsigned port, char *ret, size_t size);
/* HOB_EINVAL (malformed URL), HOB_ENOENT (no server named anywhere, or no CA for https). */
HOB_MUST_CHECK int hob_server_find(const hob_server_options *o, hob_server *ret, hob_diag *diag);
/* The admin socket. HOB_EINVAL: longer than a socket's path may be. */
HOB_MUST_CHECK int hob_server_find_socket(const char *option, hob_server *ret, hob_diag *diag);
/* Splits a URL into tls, host, port and prefix; a path's trailing "/v1" is left out. */
HOB_MUST_CHECK int hob_server_parse_url(const char *url, hob_server *ret, hob_diag *diag);

#endif
