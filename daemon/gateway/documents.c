/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests about documents: to the store's threads and back. See documents.h. */
#include "daemon/gateway/documents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { READ_LIMIT_US = 10000000 }; /* of a request that only reads */

void hob_documents_explain(int code, const char *why, hob_api_error *e)
{
    switch (code) {
    case HOB_ENOENT:
        hob_api_fail(e, 404, "invalid_request_error", "not_found", NULL, "%s", why);
        break;
    case HOB_EINVAL:
        hob_api_fail(e, 403, "invalid_request_error", "collection_not_allowed", NULL, "%s", why);
        break;
    case HOB_ELIMIT:
        hob_api_fail(e, 403, "invalid_request_error", "limit_reached", NULL, "%s", why);
        break;
    case HOB_ENOSPC:
        hob_api_fail(e, 507, "server_error", "disk_full", NULL, "%s", why);
        e->final = true;
        break;
    case HOB_ENOMEM:
        hob_api_fail(e, 503, "server_error", "out_of_memory", NULL, "%s", why);
        e->retry_after_s = 1;
        break;
    default:
        hob_log(HOB_LOG_ERROR, "%s", why);
        hob_api_fail(e, 503, "server_error", "store_failed", NULL, "%s", why);
        break;
    }
}

/* ---- requests ---- */

static void request_free(hob_documents_request *r)
{
    for (uint32_t i = 0; r->wishes && i < r->wish_count; i++)
        free((void *)(uintptr_t)r->wishes[i].attributes);
    free(r->wishes);
    free(r->metadata);
    json_decref(r->body);
    hob_text_free(&r->answer);
    free(r);
}

static void done(hob_store_job *j)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_conn *c = r->c;
    hob_api_error e;

    if (r->queues && j->code >= 0)
        hob_documents_wake(r->g);
    if (c)
        c->asked = NULL;
    if (c && j->code < 0) {
        hob_documents_explain(j->code, j->diag.text, &e);
        hob_http_error(c, &e);
    } else if (c && r->answer.failed)
        hob_conn_kill(c, "no memory for an answer");
    else if (c) /* OpenAI's clients look again when they are told to */
        hob_http_respond(c, 200, "application/json",
                         r->unfinished ? "openai-poll-after-ms: 100\r\n" : "",
                         hob_text_data(&r->answer), hob_text_len(&r->answer));
    request_free(r);
}

int hob_documents_check(const hob_conn *c, hob_api_error *e)
{
    if (c->g->store && c->key)
        return 0;
    hob_api_fail(e, 503, "server_error", "no_store", NULL,
                 "this server keeps no documents: it runs with --dev");
    e->final = true;
    return HOB_EINVAL;
}

void hob_documents_no_memory(hob_conn *c)
{
    hob_api_error e;
    hob_api_fail(&e, 503, "server_error", "out_of_memory", NULL, "no memory for the request");
    e.retry_after_s = 1;
    hob_http_error(c, &e);
}

hob_documents_request *hob_documents_request_new(hob_conn *c, hob_documents_run *run)
{
    hob_documents_request *r = calloc(1, sizeof *r);
    if (!r) {
        hob_documents_no_memory(c);
        return NULL;
    }
    r->job.run = run;
    r->job.done = done;
    r->g = c->g;
    r->c = c;
    r->scope = hob_documents_scope(c->key);
    memcpy(r->ids, c->ids, sizeof r->ids);
    r->now_s = (int64_t)time(NULL);
    r->max_file_bytes = (uint64_t)c->g->conf->max_file_mb << 20;
    r->status = -1;
    return r;
}

hob_scope hob_documents_scope(const hob_key *k)
{
    hob_scope s = {
        .tenant = k->record.tenant_number, .key = k->record.id, .all = k->record.all_collections};
    memcpy(s.names, k->record.collections, sizeof s.names);
    return s;
}

static void post(hob_documents_request *r)
{
    r->c->state = HOB_CONN_BUSY;
    lws_set_timeout(r->c->wsi, NO_PENDING_TIMEOUT, 0); /* the one for a whole answer to a GET */
    r->c->asked = &r->c;
}

void hob_documents_read(hob_documents_request *r)
{
    post(r);
    r->job.deadline_us = hob_now_us() + READ_LIMIT_US;
    hob_store_read(r->g->store, &r->job);
}

void hob_documents_write(hob_documents_request *r)
{
    post(r);
    hob_store_post(r->g->store, &r->job);
}

void hob_documents_refuse(hob_documents_request *r, const hob_api_error *e)
{
    hob_http_error(r->c, e);
    request_free(r);
}

/* ---- lists ---- */

void hob_documents_list_begin(hob_documents_request *r)
{
    hob_text_puts(&r->answer, "{\"object\":\"list\",\"data\":[");
}

int hob_documents_list_row(hob_documents_request *r, const char *id, hob_diag *diag)
{
    if (r->rows == 0)
        snprintf(r->last_ids[0], sizeof r->last_ids[0], "%s", id);
    snprintf(r->last_ids[1], sizeof r->last_ids[1], "%s", id);
    hob_text_puts(&r->answer, r->rows++ ? "," : "");
    return hob_text_len(&r->answer) < HOB_DOCUMENTS_ANSWER_MAX
               ? 0
               : hob_fail(diag, HOB_ELIMIT,
                          "the list has more than %d bytes: ask for fewer with `limit`",
                          HOB_DOCUMENTS_ANSWER_MAX);
}

void hob_documents_list_end(hob_documents_request *r, bool more)
{
    const char *form = r->rows ? "],\"first_id\":\"%s\",\"last_id\":\"%s\",\"has_more\":%s}\n"
                               : "],\"first_id\":null,\"last_id\":null%s%s,\"has_more\":%s}\n";
    hob_text_format(&r->answer, form, r->last_ids[0], r->last_ids[1], more ? "true" : "false");
}

void hob_documents_deleted(hob_documents_request *r, const char *id, const char *object)
{
    hob_text_format(&r->answer, "{\"id\":\"%s\",\"object\":\"%s\",\"deleted\":true}\n", id, object);
}
