/* SPDX-License-Identifier: Apache-2.0
 *
 * /v1/vector_stores: the collections themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/documents.h"

enum { PAGE_DEFAULT = 20, PAGE_MAX = 100 };

void hob_file_counts_object(hob_text *t, const uint64_t files[HOB_ATTACHMENT_STATUSES])
{
    uint64_t total = 0;
    hob_text_puts(t, "{");
    for (int i = 0; i < HOB_ATTACHMENT_STATUSES; i++) {
        total += files[i];
        hob_text_format(t, "\"%s\":%llu,", hob_attachment_status_name((hob_attachment_status)i),
                        (unsigned long long)files[i]);
    }
    hob_text_format(t, "\"total\":%llu}", (unsigned long long)total);
}

static void write_object(hob_documents_request *r, const hob_collection *c)
{
    const bool unfinished = c->files[HOB_ATTACHMENT_IN_PROGRESS] > 0;
    hob_text *t = &r->answer;
    hob_text_format(t, "{\"id\":\"%s\",\"object\":\"vector_store\",\"created_at\":%lld,\"name\":",
                    c->public, (long long)c->created_s);
    hob_text_string(t, c->name, strlen(c->name));
    hob_text_format(t,
                    ",\"usage_bytes\":%llu,\"file_counts\":", (unsigned long long)c->usage_bytes);
    hob_file_counts_object(t, c->files);
    hob_text_format(t,
                    ",\"status\":\"%s\",\"expires_after\":null,\"expires_at\":null,"
                    "\"last_active_at\":%lld,\"metadata\":",
                    unfinished ? "in_progress" : "completed", (long long)c->last_active_s);
    hob_text_puts(t, c->metadata);
    hob_text_format(t, ",\"hob_max_file_bytes\":%llu}", (unsigned long long)r->max_file_bytes);
    r->unfinished |= unfinished;
}

static int see(void *user, const hob_collection *c, hob_diag *diag)
{
    (void)diag;
    write_object(user, c);
    return 0;
}

static int read_object(sqlite3 *db, hob_documents_request *r, const char *public, hob_diag *diag)
{
    const int code = hob_collection_read(db, &r->scope, public, see, r, diag);
    hob_text_puts(&r->answer, "\n");
    return code;
}

/* ---- made and changed ---- */

static int take_name(hob_documents_request *r, json_t *body, hob_api_error *e)
{
    json_t *name = json_object_get(body, "name");
    const char *text = json_string_value(name);
    if (!name || json_is_null(name))
        return 0;
    if (!text || strlen(text) != json_string_length(name) || strlen(text) >= sizeof r->word)
        return hob_api_bad(e, "invalid_value", "name",
                           "name: a text of at most %zu bytes is needed", sizeof r->word - 1);
    snprintf(r->word, sizeof r->word, "%s", text);
    r->has_word = true;
    return 0;
}

/* Thread: store. */
static int run_create(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection c = {.metadata = r->metadata, .created_s = r->now_s};
    int code = 0;
    if (json_is_true(json_object_get(r->body, "hob_if_missing"))) {
        char public[HOB_PUBLIC_ID_MAX];
        code = hob_collection_find_name(db, &r->scope, r->word, public, diag);
        if (code < 0 || public[0])
            return code < 0 ? code : read_object(db, r, public, diag);
    }
    memcpy(c.public, r->made[0], sizeof c.public);
    memcpy(c.name, r->word, sizeof c.name);
    if ((code = hob_collection_add(db, &r->scope, &c, diag)) < 0 ||
        (code = hob_attachments_add(db, r, c.id, 0, diag)) < 0)
        return code;
    return read_object(db, r, c.public, diag);
}

void hob_vector_stores_create(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_create);
    json_t *once = json_object_get(body, "hob_if_missing");
    hob_api_error e = {0};
    if (!r)
        return;
    if (hob_documents_known(body, " name metadata file_ids chunking_strategy hob_if_missing ", &e) <
            0 ||
        take_name(r, body, &e) < 0 ||
        hob_documents_pairs(json_object_get(body, "metadata"), "metadata", false, &r->metadata,
                            &e) < 0 ||
        hob_attachments_wishes(r, body, &e) < 0) {
        hob_documents_refuse(r, &e);
        return;
    }
    if (once && !json_is_null(once) && (!json_is_boolean(once) || !r->has_word || r->wish_count)) {
        hob_api_bad(&e, "invalid_value", "hob_if_missing",
                    "hob_if_missing: a boolean is needed, beside a name and without files");
        hob_documents_refuse(r, &e);
        return;
    }
    hob_documents_id(r->made[0], "vs_");
    r->body = json_incref(body);
    r->queues = r->wish_count > 0;
    hob_documents_write(r);
}

/* Thread: store. */
static int run_change(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    const int code = hob_collection_change(db, &r->scope, r->ids[0], r->has_word ? r->word : NULL,
                                           r->metadata, diag);
    return code < 0 ? code : read_object(db, r, r->ids[0], diag);
}

void hob_vector_stores_change(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_change);
    json_t *metadata = json_object_get(body, "metadata");
    hob_api_error e = {0};
    if (!r)
        return;
    if (hob_documents_known(body, " name metadata ", &e) < 0 || take_name(r, body, &e) < 0 ||
        (metadata && hob_documents_pairs(metadata, "metadata", false, &r->metadata, &e) < 0))
        hob_documents_refuse(r, &e);
    else
        hob_documents_write(r);
}

/* Thread: store. */
static int run_delete(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_documents_deleted(r, r->ids[0], "vector_store.deleted");
    return hob_collection_remove(db, &r->scope, r->ids[0], diag);
}

void hob_vector_stores_delete(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_delete);
    (void)body;
    if (!r)
        return;
    r->queues = true;
    hob_documents_write(r);
}

/* ---- seen ---- */

/* Thread: search. */
static int run_get(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    return read_object(db, r, r->ids[0], diag);
}

void hob_vector_stores_get(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_get);
    (void)body;
    if (r)
        hob_documents_read(r);
}

static int list_row(void *user, const hob_collection *c, hob_diag *diag)
{
    hob_documents_request *r = user;
    const int code = hob_documents_list_row(r, c->public, diag);
    write_object(r, c);
    return code;
}

/* Thread: search. */
static int run_list(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    bool more = false;
    hob_documents_list_begin(r);
    const int code = hob_collection_page(db, &r->scope, &r->page, r->has_word ? r->word : NULL,
                                         list_row, r, &more, diag);
    hob_documents_list_end(r, more);
    return code;
}

void hob_vector_stores_list(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_list);
    hob_api_error e;
    (void)body;
    if (!r)
        return;
    if (hob_documents_query(r, PAGE_MAX, PAGE_DEFAULT, " hob_name ", &e) < 0)
        hob_documents_refuse(r, &e);
    else
        hob_documents_read(r);
}
