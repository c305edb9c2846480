/* SPDX-License-Identifier: Apache-2.0
 *
 * The console's files, which are part of the program. They need no key: there is nothing in them. A browser keeps them
 * and asks each time whether they have changed (RFC 9111, no-cache), so that after an update no page is made of old and
 * new ones. */
#include <stdio.h>
#include <string.h>

#include "daemon/conf/keys.h"
#include "daemon/gateway/console.h"

#define FILES(X)                                                                                   \
    X(index, "/", "index.html", "text/html; charset=utf-8")                                        \
    X(style, "/console/style.css", "style.css", "text/css; charset=utf-8")                         \
    X(icon, "/console/icon.svg", "icon.svg", "image/svg+xml")                                      \
    X(main, "/console/main.js", "main.js", "text/javascript; charset=utf-8")                       \
    X(common, "/console/common.js", "common.js", "text/javascript; charset=utf-8")                 \
    X(chat, "/console/chat.js", "chat.js", "text/javascript; charset=utf-8")                       \
    X(documents, "/console/documents.js", "documents.js", "text/javascript; charset=utf-8")        \
    X(dashboard, "/console/dashboard.js", "dashboard.js", "text/javascript; charset=utf-8")        \
    X(traces, "/console/traces.js", "traces.js", "text/javascript; charset=utf-8")                 \
    X(keys, "/console/keys.js", "keys.js", "text/javascript; charset=utf-8")

/* clang-format off */
#define EMBED(name, path, file, type)                                                              \
    __asm__(".section .rodata\n" ".global hob_console_" #name "\n.global hob_console_" #name "_end\n" \
            "hob_console_" #name ":\n.incbin \"daemon/console/" file "\"\nhob_console_" #name "_end:\n.previous\n"); \
    extern const char hob_console_##name[], hob_console_##name##_end[];
FILES(EMBED)
/* clang-format on */

/* No script or style but these files, no other host, no frame around it: what a page shows cannot become code, and could
 * send nothing away if it did (W3C's CSP Level 3; OWASP's Content Security Policy Cheat Sheet). */
static const char headers[] =
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'\r\n"
    "x-frame-options: DENY\r\n"
    "referrer-policy: no-referrer\r\n"
    "cross-origin-opener-policy: same-origin\r\n"
    "cross-origin-resource-policy: same-origin\r\n"
    "cache-control: no-cache\r\n";

#define ROW(name, path, file, type) {path, type, hob_console_##name, hob_console_##name##_end, ""},
static hob_console_file files[] = {FILES(ROW)}; /* loop only */
#undef ROW

hob_console_file *hob_console_file_find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}

/* A hash of what is in it. */
static const char *etag_of(hob_console_file *f)
{
    uint8_t hash[32] = {0};
    if (f->etag[0])
        return f->etag;
    if (hob_key_hash(f->data, (size_t)(f->end - f->data), hash) < 0)
        return ""; /* then it is sent each time */
    snprintf(f->etag, sizeof f->etag, "\"%016llx\"", (unsigned long long)hob_get_u64(hash));
    return f->etag;
}

void hob_console_serve_file(hob_conn *c)
{
    hob_console_file *f = hob_console_file_find(c->console_file->path);
    char known[1024], extra[sizeof headers + 64];
    const char *etag = etag_of(f);

    if (!hob_http_header(c->wsi, WSI_TOKEN_HTTP_IF_NONE_MATCH, known, sizeof known))
        known[0] = '\0';
    snprintf(extra, sizeof extra, etag[0] ? "%setag: %s\r\n" : "%s", headers, etag);
    if (etag[0] && strstr(known, etag))
        hob_http_respond(c, 304, f->type, extra, "", 0);
    else
        hob_http_respond(c, 200, f->type, extra, f->data, (size_t)(f->end - f->data));
}
