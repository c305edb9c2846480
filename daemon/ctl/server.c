/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding the server. See server.h. */
#include "daemon/ctl/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"
#include "daemon/conf/keys.h"
#include "daemon/conf/pki.h"

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"
#define SYSTEM_CONFIG "/etc/hob/hob.conf"

/* Where a server is and what one may ask it with, as found on this machine; "" for what there is not. */
typedef struct place {
    char url[1024], key[256], ca[4096], socket[HOB_CONF_SOCKET_MAX];
} place;

/* The first line of a small file; false when there is no such file or the line does not fit. */
static bool read_line(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(ret, (int)size, f) != NULL;
    fclose(f);
    if (!ok)
        return false;
    size_t len = strcspn(ret, "\r\n");
    ok = ret[len] != 0 || len + 1 < size;
    ret[len] = 0;
    return ok && len > 0;
}

static bool copy_text(char *ret, size_t size, const char *text, size_t len)
{
    if (len >= size)
        return false;
    memcpy(ret, text, len);
    ret[len] = 0;
    return true;
}

int hob_server_parse_url(const char *url, hob_server *ret, hob_diag *diag)
{
    hob_server s = {0};
    const char *allowed = "allowed: https://host[:port] or http://host[:port]";
    const char *at;
    if (strncmp(url, "https://", 8) == 0) {
        s.tls = true;
        s.port = 443;
        at = url + 8;
    } else if (strncmp(url, "http://", 7) == 0) {
        s.port = 80;
        at = url + 7;
    } else {
        return hob_fail(diag, HOB_EINVAL, "URL: got \"%.100s\", %s", url, allowed);
    }
    for (const char *c = at; *c; c++) /* it goes into a request line and a header */
        if ((unsigned char)*c <= 0x20 || *c == 0x7F || strchr("@?#\\", *c))
            return hob_fail(diag, HOB_EINVAL, "URL: got \"%.100s\", %s", url, allowed);
    s.ipv6 = *at == '[';
    size_t len = s.ipv6 ? strcspn(++at, "]/") : strcspn(at, ":/");
    if (len == 0 || !copy_text(s.host, sizeof s.host, at, len) || (s.ipv6 && at[len] != ']'))
        return hob_fail(diag, HOB_EINVAL, "URL: got \"%.100s\", %s", url, allowed);
    at += len + s.ipv6;
    if (*at == ':') {
        char *end;
        unsigned long port = at[1] >= '0' && at[1] <= '9' ? strtoul(at + 1, &end, 10) : 0;
        if (port == 0 || port > 65535 || (*end && *end != '/'))
            return hob_fail(diag, HOB_EINVAL, "URL: port: got \"%.20s\", allowed: 1 to 65535",
                            at + 1);
        s.port = (uint16_t)port;
        at = end;
    } else if (*at && *at != '/') {
        return hob_fail(diag, HOB_EINVAL, "URL: got \"%.100s\", %s", url, allowed);
    }
    len = strlen(at);
    while (len && at[len - 1] == '/')
        len--;
    if (len >= 3 && memcmp(at + len - 3, "/v1", 3) == 0)
        len -= 3; /* as the base URL of OpenAI's clients has it */
    if (!copy_text(s.prefix, sizeof s.prefix, at, len))
        return hob_fail(diag, HOB_EINVAL, "URL: its path is longer than %zu bytes",
                        sizeof s.prefix - 1);
    *ret = s;
    return 0;
}

/* An option, else an environment variable; an empty variable counts as none. */
static const char *given(const char *option, const char *variable)
{
    if (option)
        return option;
    const char *v = getenv(variable);
    return v && *v ? v : NULL;
}

const char *hob_server_config(void)
{
    const char *path = given(NULL, "HOB_CONFIG");
    return path ? path : SYSTEM_CONFIG;
}

void hob_server_local_url(const char *listen, unsigned port, char *ret, size_t size)
{
    const char *host =
        strcmp(listen, "0.0.0.0") == 0 || strcmp(listen, "::") == 0 ? "127.0.0.1" : listen;
    snprintf(ret, size, strchr(host, ':') ? "https://[%s]:%u" : "https://%s:%u", host, port);
}

/* What the installation's configuration says; false: there is none that can be read. */
static bool find_installed(place *ret)
{
    hob_conf *c = malloc(sizeof *c); /* it holds paths of 4 KiB: too much for a thread's stack */
    char path[4096 + 8];
    const bool ok = c && hob_conf_load(hob_server_config(), c, NULL) == 0;
    if (ok) {
        hob_server_local_url(c->listen, c->port, ret->url, sizeof ret->url);
        memcpy(ret->socket, c->admin_socket, sizeof ret->socket);
        if (hob_pki_owns(c->tls_cert, c->tls_key, path, 4096) &&
            hob_path_join(ret->ca, sizeof ret->ca, path, "ca.pem", NULL) == 0 &&
            access(ret->ca, R_OK) != 0)
            ret->ca[0] = 0;
        if (c->keys[0] && hob_key_file_text_path(c->keys, path, sizeof path, NULL) == 0 &&
            !read_line(path, ret->key, sizeof ret->key))
            ret->key[0] = 0;
    }
    free(c);
    return ok;
}

/* ./var before the installation: one is in a folder for what is there. */
static bool find_place(place *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!read_line("var/url", ret->url, sizeof ret->url))
        return find_installed(ret);
    if (!read_line("var/api_key", ret->key, sizeof ret->key))
        ret->key[0] = 0;
    snprintf(ret->ca, sizeof ret->ca, "var/ca.pem");
    snprintf(ret->socket, sizeof ret->socket, "var/hob.sock");
    return true;
}

int hob_server_find(const hob_server_options *o, hob_server *ret, hob_diag *diag)
{
    place local;
    bool has_local = find_place(&local);
    const char *url = given(o->url, "HOB_URL");
    if (!url && !has_local)
        return hob_fail(diag, HOB_ENOENT,
                        "no server: give --url, or set HOB_URL, or run where `hobctl setup` made "
                        "./var, or on a machine with %s",
                        hob_server_config());
    bool is_local = has_local && (!url || strcmp(url, local.url) == 0);
    hob_server s;
    int r = hob_server_parse_url(url ? url : local.url, &s, diag);
    if (r < 0)
        return r;

    const char *key = given(o->key, "HOB_API_KEY");
    if (key && !copy_text(s.key, sizeof s.key, key, strlen(key)))
        return hob_fail(diag, HOB_EINVAL, "the API key is longer than %zu bytes", sizeof s.key - 1);
    if (!key && is_local)
        memcpy(s.key, local.key, sizeof s.key);
    for (const char *c = s.key; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7F)
            return hob_fail(diag, HOB_EINVAL,
                            "the API key holds characters that a key cannot have");
    if (s.tls) {
        const char *ca = given(o->cacert, "HOB_CACERT");
        if (!ca)
            ca = is_local && local.ca[0] ? local.ca : SYSTEM_CA;
        if (!copy_text(s.cacert, sizeof s.cacert, ca, strlen(ca)))
            return hob_fail(diag, HOB_EINVAL, "--cacert: the path is longer than %zu bytes",
                            sizeof s.cacert - 1);
        if (access(s.cacert, R_OK) != 0)
            return hob_fail(diag, HOB_ENOENT,
                            "cannot read the CA file %.100s: %s (give --cacert or set HOB_CACERT)",
                            s.cacert, strerror(errno));
    }
    *ret = s;
    return 0;
}

int hob_server_find_socket(const char *option, hob_server *ret, hob_diag *diag)
{
    const char *path = given(option, "HOB_SOCKET");
    hob_server s = {.host = "localhost"};
    place local;
    if (!path)
        path = find_place(&local) ? local.socket : "var/hob.sock";
    if (!copy_text(s.socket, sizeof s.socket, path, strlen(path)))
        return hob_fail(diag, HOB_EINVAL, "--socket: the path is longer than %zu bytes",
                        sizeof s.socket - 1);
    *ret = s;
    return 0;
}
