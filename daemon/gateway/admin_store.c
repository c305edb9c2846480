/* SPDX-License-Identifier: Apache-2.0
 *
 * A copy of the store for an administrator, made step by step between the store's other work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/documents.h"
#include "daemon/store/backup.h"

typedef struct copying {
    hob_store_job job;
    hob_gateway *g;
    hob_conn *c; /* NULL: it has gone */
    hob_backup *backup;
    char path[4096];
} copying;

/* The copy belongs to the store's thread. Thread: store. */
static int run_free(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    copying *k = (copying *)j;
    (void)db;
    (void)diag;
    hob_backup_free(k->backup);
    k->backup = NULL;
    return 0;
}

static void free_done(hob_store_job *j)
{
    free(j);
}

/* Thread: store. */
static int run_step(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    copying *k = (copying *)j;
    const int code = k->backup ? 0 : hob_backup_begin(db, k->path, &k->backup, diag);
    return code < 0 ? code : hob_backup_step(k->backup, diag);
}

static void step_done(hob_store_job *j)
{
    copying *k = (copying *)j;
    hob_api_error e;

    if (k->g->ending) { /* the store's thread has ended: nobody else works on its database */
        if (k->c)
            k->c->asked = NULL;
        hob_backup_free(k->backup);
        free(k);
        return;
    }
    if (k->c && j->code > 0) {
        hob_store_post(k->g->store, &k->job);
        return;
    }
    if (k->c) {
        k->c->asked = NULL;
        if (j->code == 0)
            hob_audit_act(k->c, k->path);
        if (j->code == 0)
            hob_http_respond(k->c, 200, "application/json", "", "{\"complete\":true}\n", 18);
        else {
            hob_documents_explain(j->code, j->diag.text, &e);
            hob_http_error(k->c, &e);
        }
    }
    k->job.run = run_free;
    k->job.done = free_done;
    hob_store_post(k->g->store, &k->job);
}

/* {"path": "/…"}: a file that is not there, which hobd makes as its own user. */
static void serve_backup(hob_conn *c, json_t *body)
{
    json_t *path = json_object_get(body, "path");
    const char *text = json_string_value(path);
    copying *k = calloc(1, sizeof *k);
    hob_api_error e;

    if (!k) {
        hob_documents_no_memory(c);
        return;
    }
    if (!text || text[0] != '/' || strlen(text) != json_string_length(path) ||
        strlen(text) >= sizeof k->path) {
        hob_api_bad(&e, "invalid_value", "path", "path: the absolute path of a new file is needed");
        hob_http_error(c, &e);
        free(k);
        return;
    }
    snprintf(k->path, sizeof k->path, "%s", text);
    k->job = (hob_store_job){.run = run_step, .done = step_done, .bare = true};
    k->g = c->g;
    k->c = c;
    c->asked = &k->c;
    hob_store_post(c->g->store, &k->job);
}

const hob_admin_route hob_admin_store_routes[HOB_ADMIN_STORE_ROUTES] = {
    {"POST", "/hob/v1/admin/store/backup", serve_backup},
};
