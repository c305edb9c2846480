/* SPDX-License-Identifier: Apache-2.0
 *
 * /v1/vector_stores/{id}/files and file_batches: files in collections, how far they are, and what was made of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/documents.h"
#include "daemon/gateway/query.h"
#include "models/digest.h"

enum { PAGE_DEFAULT = 20, PAGE_MAX = 100, CONTENT_CHUNKS = 1000000 };

const char *hob_attachment_status_name(hob_attachment_status s)
{
    static const char *const names[] = {"in_progress", "completed", "failed", "cancelled"};
    return names[s];
}

/* ---- objects ---- */

static void write_object(hob_documents_request *r, const hob_attachment *a)
{
    hob_text *t = &r->answer;
    char digest[HOB_DIGEST_TEXT];
    hob_text_format(t,
                    "{\"id\":\"%s\",\"object\":\"vector_store.file\",\"created_at\":%lld,"
                    "\"usage_bytes\":%llu,\"vector_store_id\":\"%s\",\"status\":\"%s\","
                    "\"last_error\":",
                    a->file, (long long)a->created_s, (unsigned long long)a->usage_bytes, r->ids[0],
                    hob_attachment_status_name(a->status));
    if (a->status == HOB_ATTACHMENT_FAILED) {
        hob_text_format(t, "{\"code\":\"%s\",\"message\":", a->error_code);
        hob_text_string(t, a->error, strlen(a->error));
        hob_text_puts(t, "}");
    } else
        hob_text_puts(t, "null");
    hob_text_puts(t, ",\"chunking_strategy\":");
    hob_documents_chunking_object(t, a->chunk_tokens, a->overlap_tokens);
    hob_text_puts(t, ",\"attributes\":");
    hob_text_puts(t, a->attributes);
    hob_text_puts(t, ",\"hob_filename\":");
    hob_text_string(t, a->name, strlen(a->name));
    hob_text_puts(t, ",\"hob_sha256\":\"");
    hob_digest_text(a->sha256, digest);
    hob_text_puts(t, digest);
    hob_text_format(t,
                    "\",\"hob_bytes\":%llu,\"hob_bytes_read\":%llu,\"hob_chunks\":%u,"
                    "\"hob_chunks_embedded\":%u}",
                    (unsigned long long)a->bytes, (unsigned long long)a->bytes_read, a->chunks,
                    a->embedded);
    r->unfinished |= a->status == HOB_ATTACHMENT_IN_PROGRESS;
}

static int see(void *user, const hob_attachment *a, hob_diag *diag)
{
    (void)diag;
    write_object(user, a);
    return 0;
}

/* The collection of the path. */
static int find_collection(sqlite3 *db, hob_documents_request *r, hob_collection_key *ret,
                           hob_diag *diag)
{
    return hob_collection_find(db, &r->scope, r->ids[0], ret, diag);
}

static int read_object(sqlite3 *db, hob_documents_request *r, int64_t collection, const char *file,
                       hob_diag *diag)
{
    const int code = hob_attachment_read(db, &r->scope, collection, file, see, r, diag);
    hob_text_puts(&r->answer, "\n");
    return code;
}

/* ---- what is asked for ---- */

static int add_wish(hob_documents_request *r, const hob_gateway *g, json_t *file, json_t *fields,
                    hob_api_error *e)
{
    const char *id = json_string_value(file);
    char *attributes = NULL;
    hob_attachment_wish *w = &r->wishes[r->wish_count];
    if (!id || !id[0] || strlen(id) != json_string_length(file) || strlen(id) >= HOB_PUBLIC_ID_MAX)
        return hob_api_bad(e, "invalid_value", "file_id", "the id of a file is needed");
    *w = (hob_attachment_wish){.file = id, .extractor = HOB_EXTRACTOR_VERSION, .now_s = r->now_s};
    if (hob_documents_chunking(g, json_object_get(fields, "chunking_strategy"), &w->chunk_tokens,
                               &w->overlap_tokens, e) < 0 ||
        hob_documents_pairs(json_object_get(fields, "attributes"), "attributes", true, &attributes,
                            e) < 0)
        return HOB_EINVAL;
    w->attributes = attributes;
    r->wish_count++;
    return 0;
}

int hob_attachments_wishes(hob_documents_request *r, json_t *body, hob_api_error *e)
{
    json_t *ids = json_object_get(body, "file_ids"), *files = json_object_get(body, "files"), *list,
           *one;
    size_t i;
    ids = json_is_null(ids) ? NULL : ids;
    files = json_is_null(files) ? NULL : files;
    list = ids ? ids : files;
    if (!list)
        return 0;
    if ((ids && files) || !json_is_array(list) || json_array_size(list) > HOB_BATCH_FILES_MAX)
        return hob_api_bad(e, "invalid_value", ids ? "file_ids" : "files",
                           "either file_ids or files, a list of at most %d, is needed",
                           HOB_BATCH_FILES_MAX);
    r->wishes = calloc(json_array_size(list) + 1, sizeof *r->wishes);
    if (!r->wishes)
        return hob_api_no_memory(e);
    r->body = r->body ? r->body : json_incref(body); /* whose texts they name */
    json_array_foreach(list, i, one)
    {
        if (files && (!json_is_object(one) ||
                      hob_documents_known(one, " file_id attributes chunking_strategy ", e) < 0))
            return e->status ? HOB_EINVAL
                             : hob_api_bad(e, "invalid_type", "files",
                                           "files[%zu]: an object is needed", i);
        if (add_wish(r, r->g, files ? json_object_get(one, "file_id") : one, files ? one : body,
                     e) < 0)
            return HOB_EINVAL;
    }
    return 0;
}

/* Thread: store. */
int hob_attachments_add(sqlite3 *db, hob_documents_request *r, int64_t collection, int64_t batch,
                        hob_diag *diag)
{
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < r->wish_count; i++) {
        r->wishes[i].batch = batch;
        code = hob_attachment_add(db, &r->scope, collection, &r->wishes[i], diag);
    }
    if (code == 0 && r->wish_count > 0)
        code = hob_collection_touch(db, collection, r->now_s, diag);
    return code;
}

/* ---- one file ---- */

/* Thread: store. */
static int run_create(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    int code;
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_attachments_add(db, r, c.id, 0, diag)) < 0)
        return code;
    return read_object(db, r, c.id, r->wishes[0].file, diag);
}

void hob_attachments_create(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_create);
    hob_api_error e = {0};
    if (!r)
        return;
    r->wishes = calloc(1, sizeof *r->wishes);
    r->body = json_incref(body);
    if (!r->wishes)
        hob_api_no_memory(&e);
    else if (hob_documents_known(body, " file_id attributes chunking_strategy ", &e) == 0)
        (void)add_wish(r, r->g, json_object_get(body, "file_id"), body, &e);
    r->queues = true;
    if (e.status)
        hob_documents_refuse(r, &e);
    else
        hob_documents_write(r);
}

/* Thread: search. */
static int run_get(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    const int code = find_collection(db, r, &c, diag);
    return code < 0 ? code : read_object(db, r, c.id, r->ids[1], diag);
}

void hob_attachments_get(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_object(c, run_get);
}

/* Thread: store. */
static int run_change(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    int code;
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_attachment_change(db, &r->scope, c.id, r->ids[1], r->metadata, diag)) < 0)
        return code;
    return read_object(db, r, c.id, r->ids[1], diag);
}

void hob_attachments_change(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_change);
    hob_api_error e = {0};
    if (!r)
        return;
    if (hob_documents_known(body, " attributes ", &e) < 0 ||
        hob_documents_pairs(json_object_get(body, "attributes"), "attributes", true, &r->metadata,
                            &e) < 0)
        hob_documents_refuse(r, &e);
    else
        hob_documents_write(r);
}

/* Thread: store. */
static int run_delete(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    const int code = find_collection(db, r, &c, diag);
    hob_documents_deleted(r, r->ids[1], "vector_store.file.deleted");
    return code < 0 ? code : hob_attachment_remove(db, &r->scope, c.id, r->ids[1], diag);
}

void hob_attachments_delete(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_order(c, run_delete);
}

/* ---- lists ---- */

static int list_row(void *user, const hob_attachment *a, hob_diag *diag)
{
    hob_documents_request *r = user;
    const int code = hob_documents_list_row(r, a->file, diag);
    write_object(r, a);
    return code;
}

/* batch: 0 any. */
static int list(sqlite3 *db, hob_documents_request *r, int64_t collection, int64_t batch,
                hob_diag *diag)
{
    bool more = false;
    hob_documents_list_begin(r);
    const int code = hob_attachment_page(db, &r->scope, collection, &r->page, r->status, batch,
                                         list_row, r, &more, diag);
    hob_documents_list_end(r, more);
    return code;
}

/* Thread: search. */
static int run_list(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    const int code = find_collection(db, r, &c, diag);
    return code < 0 ? code : list(db, r, c.id, 0, diag);
}

void hob_attachments_list(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_page(c, run_list, PAGE_MAX, PAGE_DEFAULT, " filter ");
}

/* ---- text ---- */

typedef struct text_user {
    hob_documents_request *r;
    hob_text text; /* of one part */
    uint64_t end;  /* of what is written, on this page or those before */
    int64_t next;  /* chunk where the next page begins; -1: there is none */
} text_user;

/* A chunk repeats the end of the one before: what is written is the text once, and of which bytes of the file's text it is.
 * White space between chunks stands before these. */
static int add_text(void *user, int64_t id, const hob_stored_chunk *k, hob_diag *diag)
{
    text_user *u = user;
    const size_t len = k->text_len;
    const uint64_t known = u->end > k->first_byte ? u->end - k->first_byte : 0;
    (void)diag;
    if (hob_text_len(&u->r->answer) + len > HOB_DOCUMENTS_ANSWER_MAX) {
        u->next = hob_stored_ordinal(id);
        return HOB_ELIMIT;
    }
    if (known >= len)
        return 0;
    const char *gap =
        hob_stored_gap(u->end > 0 && k->first_byte > u->end ? k->first_byte - u->end : 0);
    hob_text_clear(&u->text);
    hob_text_puts(&u->text, gap);
    hob_text_add(&u->text, k->text + known, len - known);
    hob_text_puts(&u->r->answer,
                  u->r->rows++ ? ",{\"type\":\"text\",\"text\":" : "{\"type\":\"text\",\"text\":");
    hob_text_string(&u->r->answer, hob_text_data(&u->text), hob_text_len(&u->text));
    hob_text_format(&u->r->answer, ",\"hob_first_byte\":%llu,\"hob_end_byte\":%llu}",
                    (unsigned long long)(k->first_byte + known), (unsigned long long)k->end_byte);
    u->end = k->end_byte;
    return 0;
}

/* Where a page begins, in the words of the one before it: a chunk, and the end of the text that was written. */
static bool read_cursor(const char *text, uint32_t *ret_chunk, uint64_t *ret_end)
{
    static const char digits[] = "0123456789";
    const size_t n = strspn(text, digits), m = text[n] ? strspn(text + n + 1, digits) : 0;
    *ret_chunk = 0;
    *ret_end = 0;
    if (!text[0])
        return true;
    if (n < 1 || n > 9 || text[n] != '-' || m < 1 || m > 18 || text[n + 1 + m])
        return false;
    *ret_chunk = (uint32_t)strtoul(text, NULL, 10);
    *ret_end = strtoull(text + n + 1, NULL, 10);
    return true;
}

/* Thread: search. */
static int run_content(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    text_user u = {.r = r, .next = -1};
    hob_collection_key c;
    int64_t content = 0;
    uint32_t from = 0;
    int code;
    (void)read_cursor(r->word, &from, &u.end); /* was checked */
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_attachment_content(db, &r->scope, c.id, r->ids[1], &content, diag)) < 0)
        return code;
    hob_text_puts(&r->answer, "{\"object\":\"vector_store.file_content.page\",\"data\":[");
    code = hob_content_chunks(db, content, from, CONTENT_CHUNKS, add_text, &u, diag);
    r->answer.failed |= u.text.failed;
    hob_text_free(&u.text);
    if (u.next >= 0)
        hob_text_format(&r->answer, "],\"has_more\":true,\"next_page\":\"%lld-%llu\"}\n",
                        (long long)u.next, (unsigned long long)u.end);
    else
        hob_text_puts(&r->answer, "],\"has_more\":false,\"next_page\":null}\n");
    return u.next >= 0 ? 0 : code;
}

void hob_attachments_content(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_content);
    hob_api_error e;
    uint32_t chunk;
    uint64_t end;
    (void)body;
    if (!r)
        return;
    if (hob_documents_query(r, PAGE_MAX, PAGE_DEFAULT, " page ", &e) < 0 ||
        (!read_cursor(r->word, &chunk, &end) && hob_query_bad("page", r->word, "next_page", &e)))
        hob_documents_refuse(r, &e);
    else
        hob_documents_read(r);
}

/* ---- batches ---- */

static int read_batch(sqlite3 *db, hob_documents_request *r, int64_t collection, const char *public,
                      hob_diag *diag)
{
    hob_file_batch b;
    const int code = hob_file_batch_find(db, collection, public, &b, diag);
    if (code < 0)
        return code;
    r->unfinished = b.files[HOB_ATTACHMENT_IN_PROGRESS] > 0;
    hob_text_format(&r->answer,
                    "{\"id\":\"%s\",\"object\":\"vector_store.files_batch\",\"created_at\":%lld,"
                    "\"vector_store_id\":\"%s\",\"status\":\"%s\",\"file_counts\":",
                    public, (long long)b.created_s, r->ids[0],
                    b.cancelled     ? "cancelled"
                    : r->unfinished ? "in_progress"
                                    : "completed");
    hob_file_counts_object(&r->answer, b.files);
    hob_text_puts(&r->answer, "}\n");
    return 0;
}

/* Thread: store. */
static int run_batch(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    int64_t batch = 0;
    int code;
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_file_batch_add(db, c.id, r->made[0], r->now_s, &batch, diag)) < 0 ||
        (code = hob_attachments_add(db, r, c.id, batch, diag)) < 0)
        return code;
    return read_batch(db, r, c.id, r->made[0], diag);
}

void hob_batches_create(hob_conn *c, json_t *body)
{
    hob_documents_request *r = hob_documents_request_new(c, run_batch);
    hob_api_error e = {0};
    if (!r)
        return;
    if (hob_documents_known(body, " file_ids files attributes chunking_strategy ", &e) == 0 &&
        hob_attachments_wishes(r, body, &e) == 0 && r->wish_count == 0)
        hob_api_bad(&e, "missing_required_parameter", "file_ids", "file_ids: a file is needed");
    if (e.status) {
        hob_documents_refuse(r, &e);
        return;
    }
    hob_documents_id(r->made[0], "vsfb_");
    r->queues = true;
    hob_documents_write(r);
}

/* Thread: search. */
static int run_get_batch(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    const int code = find_collection(db, r, &c, diag);
    return code < 0 ? code : read_batch(db, r, c.id, r->ids[1], diag);
}

void hob_batches_get(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_object(c, run_get_batch);
}

/* Thread: store. */
static int run_cancel(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    hob_file_batch b;
    int code;
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_file_batch_find(db, c.id, r->ids[1], &b, diag)) < 0 ||
        (code = hob_file_batch_cancel(db, &r->scope, c.id, b.id, diag)) < 0)
        return code;
    return read_batch(db, r, c.id, r->ids[1], diag);
}

void hob_batches_cancel(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_order(c, run_cancel);
}

/* Thread: search. */
static int run_list_batch(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_collection_key c;
    hob_file_batch b;
    int code;
    if ((code = find_collection(db, r, &c, diag)) < 0 ||
        (code = hob_file_batch_find(db, c.id, r->ids[1], &b, diag)) < 0)
        return code;
    return list(db, r, c.id, b.id, diag);
}

void hob_batches_list(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_page(c, run_list_batch, PAGE_MAX, PAGE_DEFAULT, " filter ");
}
