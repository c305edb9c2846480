/* SPDX-License-Identifier: Apache-2.0
 *
 * The console at /: pages for people, and their sessions. A page asks for what it shows as any other client does, on the
 * routes of the interface; its cookie stands for the key that it was given in exchange for. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_CONSOLE_H
#define HOB_DAEMON_GATEWAY_CONSOLE_H

#include "daemon/gateway/state.h"

struct hob_console_route {
    const char *method, *path;
    void (*serve)(hob_conn *c); /* answers at once */
};

/* Whether the path is the console's; then c->console_route, and for a file c->console_file, are set. */
bool hob_console_find(hob_conn *c, const char *path);
/* Who asks for c->console_route, where that matters: fills c->key. 0, or HOB_EINVAL with a 401, 403 or 429. */
int hob_console_check(hob_conn *c, hob_api_error *e);
/* Lets in by the session of a cookie, where there is one and no Authorization: 1, with c->key and c->by_session set; 0:
 * there is none that counts; HOB_EINVAL with a 403: it is not our page that asks. */
int hob_console_admit(hob_conn *c, hob_api_error *e);
/* Whether c, which came in by its session, may have what was found for it: 0, or HOB_EINVAL with a 403. */
int hob_console_allows(const hob_conn *c, const char *method, const char *path, hob_api_error *e);

/* ---- console_files.c ---- */

struct hob_console_file {
    const char *path, *type;
    const char *data, *end;
    char etag[20]; /* with its quotes */
};
hob_console_file *hob_console_file_find(const char *path); /* NULL: there is none */
void hob_console_serve_file(hob_conn *c);

#endif
