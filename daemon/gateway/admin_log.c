/* SPDX-License-Identifier: Apache-2.0
 *
 * What administrators have done, and the last lines of the log, for administrators. An act on keys is noted in the transaction
 * that does it (admin_keys.c); the others, which change no table, right after they were done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "daemon/gateway/documents.h"
#include "daemon/gateway/query.h"

enum {
    ROWS_DEFAULT = 50,
    LINES_DEFAULT = 100,
    LINES_MAX = 10000,
    ANSWER_BYTES = 1 << 20, /* about: what follows is asked for by another request */
};

static const char admin_path[] = "/hob/v1/admin/";

/* ---- acts ---- */

typedef struct note {
    hob_store_job job;
    hob_audit_entry entry;
} note;

void hob_audit_describe(const hob_conn *c, const char *act, const char *object,
                        hob_audit_entry *ret)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof peer;
    *ret = (hob_audit_entry){.time_s = (int64_t)time(NULL)};
    if (c->key)
        snprintf(ret->who, sizeof ret->who, "key:%s", c->key->record.label);
    else if (getsockopt((int)lws_get_socket_fd(c->wsi), SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        snprintf(ret->who, sizeof ret->who, "uid:%u", (unsigned)peer.uid);
    if (!act && c->route == HOB_ROUTE_ADMIN)
        act = c->admin_route->path + sizeof admin_path - 1;
    snprintf(ret->act, sizeof ret->act, "%s", act ? act : "");
    snprintf(ret->object, sizeof ret->object, "%s", object);
}

void hob_audit_log(const hob_audit_entry *e)
{
    hob_log_line l;
    if (!hob_log_begin(&l, HOB_LOG_INFO))
        return;
    hob_log_line_word(&l, "msg", "administration");
    hob_log_line_word(&l, "who", e->who);
    hob_log_line_word(&l, "act", e->act);
    hob_log_line_word(&l, "object", e->object);
    hob_log_end(&l, HOB_LOG_INFO);
}

/* Thread: store. */
static int run_note(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    return hob_audit_table_add(db, &((note *)j)->entry, diag);
}

static void note_done(hob_store_job *j)
{
    if (j->code < 0)
        hob_log(HOB_LOG_ERROR, "an administrative act could not be noted: %s", j->diag.text);
    free(j);
}

void hob_audit_note(hob_gateway *g, const hob_audit_entry *e)
{
    note *n = g->store ? malloc(sizeof *n) : NULL;
    hob_audit_log(e);
    if (!n) {
        if (g->store)
            hob_log(HOB_LOG_ERROR, "an administrative act could not be noted: no memory");
        return;
    }
    n->job = (hob_store_job){.run = run_note, .done = note_done};
    n->entry = *e;
    hob_store_post(g->store, &n->job);
}

void hob_audit_act(const hob_conn *c, const char *object)
{
    hob_audit_entry e;
    hob_audit_describe(c, NULL, object, &e);
    hob_audit_note(c->g, &e);
}

void hob_audit_deletion(const hob_conn *c, int status)
{
    hob_audit_entry e;
    char object[2 * sizeof c->ids[0] + 2];
    if (status != 200 || c->route != HOB_ROUTE_DOCUMENTS || !c->key || !c->key->record.admin ||
        strcmp(c->document_route->method, "DELETE") != 0)
        return;
    snprintf(object, sizeof object, "%s%s%s", c->ids[0], c->ids[1][0] ? "/" : "", c->ids[1]);
    hob_audit_describe(c, "documents/delete", object, &e);
    hob_audit_note(c->g, &e);
}

/* ---- a list of them ---- */

typedef struct listing {
    hob_store_job job;
    hob_conn *c; /* NULL: it has gone */
    uint64_t limit;
    uint32_t rows;
    hob_text answer;
} listing;

static int list_row(void *user, const hob_audit_entry *e, hob_diag *diag)
{
    listing *l = user;
    hob_text *t = &l->answer;
    (void)diag;
    hob_text_format(t, "%s{\"id\":%lld,\"time\":%lld,\"who\":", l->rows++ ? "," : "",
                    (long long)e->id, (long long)e->time_s);
    hob_text_string(t, e->who, strlen(e->who));
    hob_text_puts(t, ",\"act\":");
    hob_text_string(t, e->act, strlen(e->act));
    hob_text_puts(t, ",\"object\":");
    hob_text_string(t, e->object, strlen(e->object));
    hob_text_puts(t, "}");
    return 0;
}

/* Thread: search. */
static int run_list(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    listing *l = (listing *)j;
    hob_text_puts(&l->answer, "{\"object\":\"list\",\"data\":[");
    const int code = hob_audit_table_each(db, (uint32_t)l->limit, list_row, l, diag);
    hob_text_puts(&l->answer, "]}\n");
    return code;
}

static void list_done(hob_store_job *j)
{
    listing *l = (listing *)j;
    hob_api_error e;
    if (l->c) {
        l->c->asked = NULL;
        if (j->code == 0)
            hob_http_respond_json(l->c, &l->answer);
        else {
            hob_documents_explain(j->code, j->diag.text, &e);
            hob_http_error(l->c, &e);
        }
    }
    hob_text_free(&l->answer);
    free(l);
}

static int take_limit(void *user, const char *name, const char *value, hob_api_error *e)
{
    listing *l = user;
    return strcmp(name, "limit") == 0
               ? hob_query_number(name, value, 1, HOB_AUDIT_ROWS_MAX, &l->limit, e)
               : hob_query_unknown(name, e);
}

static void serve_audit(hob_conn *c, json_t *body)
{
    listing *l = calloc(1, sizeof *l);
    hob_api_error e = {0};

    (void)body;
    if (!l) {
        hob_documents_no_memory(c);
        return;
    }
    l->limit = ROWS_DEFAULT;
    if (hob_query_each(c, take_limit, l, &e) < 0) {
        hob_http_error(c, &e);
        free(l);
        return;
    }
    l->job = (hob_store_job){.run = run_list, .done = list_done};
    l->c = c;
    c->asked = &l->c;
    hob_store_read(c->g->store, &l->job);
}

/* ---- the log ---- */

typedef struct lines_wanted {
    uint64_t after, lines;
    bool has_after;
} lines_wanted;

static int take_lines(void *user, const char *name, const char *value, hob_api_error *e)
{
    lines_wanted *w = user;
    if (strcmp(name, "lines") == 0)
        return hob_query_number(name, value, 1, LINES_MAX, &w->lines, e);
    if (strcmp(name, "after") != 0)
        return hob_query_unknown(name, e);
    w->has_after = true;
    return hob_query_number(name, value, 0, INT64_MAX, &w->after, e);
}

/* The last lines, or those from line `after` on. "next" is where another request goes on; "missed" are lines that the ring has
 * forgotten meanwhile; "count" are those that there were, of the run of hobd that "run" names. */
void hob_log_serve(hob_conn *c, json_t *body)
{
    static char line[HOB_LOG_LINE_MAX], run[32]; /* loop only */
    lines_wanted w = {.lines = LINES_DEFAULT};
    hob_api_error e = {0};
    hob_text t = {0};
    uint64_t missed, lost = 0;
    size_t len;

    (void)body;
    if (hob_query_each(c, take_lines, &w, &e) < 0) {
        hob_http_error(c, &e);
        return;
    }
    const uint64_t count = hob_log_count();
    if (!run[0])
        hob_request_id(run, "run_");
    const uint64_t from = w.has_after ? w.after : count > w.lines ? count - w.lines : 0;
    hob_log_cursor at = hob_log_seek(from);
    hob_text_puts(&t, "{\"object\":\"list\",\"data\":[");
    bool first = true;
    while (hob_text_len(&t) < ANSWER_BYTES &&
           (len = hob_log_read(&at, line, sizeof line, &missed))) {
        lost += w.has_after ? missed : 0;
        hob_text_puts(&t, first ? "" : ",");
        hob_text_string(&t, line, len - 1); /* without its newline */
        first = false;
    }
    hob_text_format(&t, "],\"missed\":%llu,\"next\":%llu,\"count\":%llu,\"run\":\"%s\"}\n",
                    (unsigned long long)lost, (unsigned long long)at.line,
                    (unsigned long long)count, run);
    hob_http_respond_json(c, &t);
    hob_text_free(&t);
}

const hob_admin_route hob_admin_log_routes[HOB_ADMIN_LOG_ROUTES] = {
    {"GET", "/hob/v1/admin/audit", serve_audit},
    {"GET", "/hob/v1/admin/log", hob_log_serve},
};
