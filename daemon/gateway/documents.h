/* SPDX-License-Identifier: Apache-2.0
 *
 * Documents: OpenAI's /v1/files and /v1/vector_stores on the store's tables.
 *
 * A request is checked in the loop, done by one of the store's threads, and answered when that has come back: what is
 * answered is durable. Whoever asks sees what its scope sees, which is the tenant of its key and, where the key has a list
 * of collections, these. */
#ifndef HOB_DAEMON_GATEWAY_DOCUMENTS_H
#define HOB_DAEMON_GATEWAY_DOCUMENTS_H

#include "daemon/gateway/state.h"
#include "daemon/store/attachment_table.h"

enum {
    HOB_EXTRACTOR_VERSION = 1,  /* raised when daemon/extract makes something else of a file */
    HOB_BATCH_FILES_MAX = 2000, /* attached with one request, as OpenAI has it */
    HOB_DOCUMENTS_ANSWER_MAX =
        8 << 20, /* bytes of an answer in the making; longer lists have pages */
};

/* ---- documents_http.c: which there are ---- */

typedef enum hob_body_kind { HOB_BODY_NONE, HOB_BODY_JSON, HOB_BODY_FORM } hob_body_kind;

struct hob_document_route {
    const char *method, *path; /* "/v1/files/ *": a star without the blank stands for an id */
    hob_body_kind body;
    /* Answers c, at once or later. body: a JSON object, borrowed; NULL for other kinds. Of HOB_BODY_FORM: NULL, see upload.c. */
    void (*serve)(hob_conn *c, json_t *body);
};
/* The route of this method, or when there is none of it any of that path; NULL: no such path. Fills c->ids. */
const hob_document_route *hob_documents_find(hob_conn *c, const char *method, const char *path);
/* The methods of the path that has been found: "GET, POST". */
const char *hob_documents_methods(const hob_document_route *r);

/* ---- requests ---- */

typedef struct hob_documents_request hob_documents_request;
struct hob_documents_request {
    hob_store_job job;
    hob_gateway *g;
    hob_conn *c; /* NULL: it has gone */
    hob_scope scope;
    char ids[HOB_PATH_IDS][HOB_PUBLIC_ID_MAX]; /* of the path */
    int64_t now_s;
    uint64_t max_file_bytes;
    /* what the routes need of it */
    json_t *body;                    /* the request's own */
    char made[2][HOB_PUBLIC_ID_MAX]; /* ids of what it makes */
    char *metadata;                  /* JSON text, freed with it */
    hob_attachment_wish *wishes;     /* [wish_count], freed with it and their attributes */
    uint32_t wish_count;
    hob_page page;
    int status;                         /* that a list is confined to; -1: any */
    char word[HOB_COLLECTION_NAME_MAX]; /* a purpose, a name; "": any */
    bool has_word;
    bool queues;     /* there may be something to be made of files when it is done */
    bool unfinished; /* what it shows is still being made: worth another look soon */
    uint32_t rows;   /* of a list */
    char last_ids[2][HOB_PUBLIC_ID_MAX]; /* of its first and its last row */
    hob_text answer;
};

typedef int hob_documents_run(sqlite3 *db, hob_store_job *j, hob_diag *diag);
/* Whose documents a key sees. */
hob_scope hob_documents_scope(const hob_key *k);
/* 0, or HOB_EINVAL with the error: there are none. */
int hob_documents_check(const hob_conn *c, hob_api_error *e);
void hob_documents_no_memory(hob_conn *c); /* tells c */
/* For what c asks with a path's ids. NULL: c has been told why not. */
hob_documents_request *hob_documents_request_new(hob_conn *c, hob_documents_run *run);
/* Answers with `answer` when it is done, or with what went wrong. */
void hob_documents_read(hob_documents_request *r);
void hob_documents_write(hob_documents_request *r);
/* Answers with the error, and frees r. */
void hob_documents_refuse(hob_documents_request *r, const hob_api_error *e);
/* What the store said, as an error. */
void hob_documents_explain(int code, const char *why, hob_api_error *e);

/* Lists: begin, then each row with a comma, then end. */
void hob_documents_list_begin(hob_documents_request *r);
/* Notes a row's id. HOB_ELIMIT: the answer is too long. */
HOB_MUST_CHECK int hob_documents_list_row(hob_documents_request *r, const char *id, hob_diag *diag);
void hob_documents_list_end(hob_documents_request *r, bool more);
/* {"id": …, "object": object, "deleted": true} */
void hob_documents_deleted(hob_documents_request *r, const char *id, const char *object);

/* ---- ingest.c ---- */

/* There may be something to be made of files, or to be removed. */
void hob_documents_wake(hob_gateway *g);

/* ---- fields ---- */

/* limit, order, after, before, and of the others those that are named in `also` between spaces. most: of limit. 0, or
 * HOB_EINVAL with the error. */
int hob_documents_query(hob_documents_request *r, uint32_t most, uint32_t usual, const char *also,
                        hob_api_error *e);
/* Every field of body is one of `known`, between spaces, or null. */
int hob_documents_known(json_t *body, const char *known, hob_api_error *e);
/* At most 16 pairs; metadata are texts, attributes also numbers and booleans. NULL is {}. *ret: JSON text, the caller's to
 * free. */
int hob_documents_pairs(json_t *v, const char *name, bool attributes, char **ret, hob_api_error *e);
/* {"type": "auto"} or {"type": "static", "static": {…}}; NULL is auto. */
int hob_documents_chunking(const hob_gateway *g, json_t *v, uint32_t *ret_tokens,
                           uint32_t *ret_overlap, hob_api_error *e);
void hob_documents_chunking_object(hob_text *t, uint32_t tokens, uint32_t overlap);
/* Of 24 random digits behind the prefix. */
void hob_documents_id(char ret[HOB_PUBLIC_ID_MAX], const char *prefix);

/* ---- upload.c, files_http.c: files on their way in and out, which the connection knows while they are ---- */

/* The head of a form has come: what follows goes to hob_upload_data. 0, or HOB_EINVAL with the error. */
int hob_upload_begin(hob_conn *c, hob_api_error *e);
/* Bytes of the body. They are kept only until the store has them: where it falls behind, reading stops. */
void hob_upload_data(hob_conn *c, const char *in, size_t len);
void hob_upload_end(hob_conn *c);             /* the body is whole */
void hob_upload_drop(hob_conn *c);            /* its connection goes */
size_t hob_upload_bytes(const hob_upload *u); /* of memory; NULL is fine */
/* What is left in the store of uploads that were cut off while it could not remove them. */
void hob_uploads_tick(hob_gateway *g, uint64_t now_us);
void hob_uploads_free(hob_gateway *g);
void hob_download_pump(hob_conn *c); /* its outbox is empty */
void hob_download_drop(hob_conn *c);
size_t hob_download_bytes(const hob_download *d); /* of memory; NULL is fine */

/* ---- the routes: files_http.c, vector_stores_http.c, attachments_http.c,
 * search_http.c ---- */

void hob_files_list(hob_conn *c, json_t *body);
void hob_files_get(hob_conn *c, json_t *body);
void hob_files_delete(hob_conn *c, json_t *body);
void hob_files_content(hob_conn *c, json_t *body);
void hob_file_object(hob_text *t, const hob_file *f);

void hob_vector_stores_create(hob_conn *c, json_t *body);
void hob_vector_stores_list(hob_conn *c, json_t *body);
void hob_vector_stores_get(hob_conn *c, json_t *body);
void hob_vector_stores_change(hob_conn *c, json_t *body);
void hob_vector_stores_delete(hob_conn *c, json_t *body);

void hob_search_serve(hob_conn *c, json_t *body);
void hob_search_drop(hob_conn *c); /* the client has gone */

void hob_attachments_create(hob_conn *c, json_t *body);
void hob_attachments_list(hob_conn *c, json_t *body);
void hob_attachments_get(hob_conn *c, json_t *body);
void hob_attachments_change(hob_conn *c, json_t *body);
void hob_attachments_delete(hob_conn *c, json_t *body);
void hob_attachments_content(hob_conn *c, json_t *body);
void hob_batches_create(hob_conn *c, json_t *body);
void hob_batches_get(hob_conn *c, json_t *body);
void hob_batches_cancel(hob_conn *c, json_t *body);
void hob_batches_list(hob_conn *c, json_t *body);
/* What file_ids, files, attributes and chunking_strategy of body ask for. 0, or HOB_EINVAL with the error. */
int hob_attachments_wishes(hob_documents_request *r, json_t *body, hob_api_error *e);
/* Does what they ask for. batch: 0 none. Thread: store. */
HOB_MUST_CHECK int hob_attachments_add(sqlite3 *db, hob_documents_request *r, int64_t collection,
                                       int64_t batch, hob_diag *diag);
/* "in_progress", …, and {"in_progress": n, …, "total": n} */
const char *hob_attachment_status_name(hob_attachment_status s);
void hob_file_counts_object(hob_text *t, const uint64_t files[HOB_ATTACHMENT_STATUSES]);

#endif
