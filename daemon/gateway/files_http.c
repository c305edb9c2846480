/* SPDX-License-Identifier: Apache-2.0
 *
 * /v1/files: lists, objects, removal, and the bytes of a file. These are read piece by piece, the next one when the reader has
 * taken the last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/documents.h"
#include "models/digest.h"

enum {
    FILES_MAX = 10000,       /* of a page, as OpenAI has it */
    PIECE_BYTES = 128 << 10, /* of a file's bytes */
};

void hob_file_object(hob_text *t, const hob_file *f)
{
    char digest[HOB_DIGEST_TEXT];
    hob_text_format(t, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%llu,\"created_at\":%lld,",
                    f->public, (unsigned long long)f->bytes, (long long)f->created_s);
    hob_text_puts(t, "\"expires_at\":null,\"filename\":");
    hob_text_string(t, f->name, strlen(f->name));
    hob_text_format(t,
                    ",\"purpose\":\"%s\",\"status\":\"processed\",\"status_details\":null,"
                    "\"hob_sha256\":\"",
                    f->purpose);
    hob_digest_text(f->sha256, digest);
    hob_text_format(t, "%s\"}", digest);
}

/* ---- lists and objects ---- */

static int list_row(void *user, const hob_file *f, hob_diag *diag)
{
    hob_documents_request *r = user;
    const int code = hob_documents_list_row(r, f->public, diag);
    hob_file_object(&r->answer, f);
    return code;
}

/* Thread: search. */
static int run_list(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    bool more = false;
    hob_documents_list_begin(r);
    const int code = hob_file_page(db, &r->scope, &r->page, r->word, list_row, r, &more, diag);
    hob_documents_list_end(r, more);
    return code;
}

void hob_files_list(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_page(c, run_list, FILES_MAX, FILES_MAX, " purpose ");
}

/* Thread: search. */
static int run_get(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_file f;
    const int code = hob_file_find(db, &r->scope, r->ids[0], &f, diag);
    if (code == 0)
        hob_file_object(&r->answer, &f);
    hob_text_puts(&r->answer, "\n");
    return code;
}

void hob_files_get(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_object(c, run_get);
}

/* Thread: store. */
static int run_delete(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_documents_request *r = (hob_documents_request *)j;
    hob_documents_deleted(r, r->ids[0], "file");
    return hob_file_remove(db, &r->scope, r->ids[0], diag);
}

void hob_files_delete(hob_conn *c, json_t *body)
{
    (void)body;
    hob_documents_serve_order(c, run_delete);
}

/* ---- content ---- */

struct hob_download {
    hob_store_job job;
    hob_gateway *g;
    hob_conn *c; /* NULL: it has gone */
    hob_scope scope;
    char public[HOB_PUBLIC_ID_MAX];
    hob_file file;
    hob_file_place at; /* that is read next */
    uint64_t sent;
    bool began, reading;
    size_t len;
    uint8_t data[PIECE_BYTES];
};

static void read_piece(hob_download *d)
{
    d->reading = true;
    hob_store_read(d->g->store, &d->job);
}

static void leave(hob_download *d)
{
    if (d->c) {
        d->c->asked = NULL;
        d->c->download = NULL;
    }
    if (!d->reading)
        free(d);
}

/* Thread: search. */
static int run_content(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_download *d = (hob_download *)j;
    int code = d->began ? 0 : hob_file_find(db, &d->scope, d->public, &d->file, diag);
    d->len = 0;
    if (code == 0 && d->file.bytes > 0)
        code = hob_file_read_part(db, d->scope.tenant, d->file.id, &d->at, d->data, sizeof d->data,
                                  &d->len, diag);
    if (code == 0 && d->len > d->file.bytes - d->sent)
        code = hob_fail(diag, HOB_EFORMAT, "the store is damaged: the parts of file %lld",
                        (long long)d->file.id);
    return code;
}

static void begin_content(hob_download *d)
{
    char head[HOB_HEAD_MAX];
    const size_t len = d->file.bytes;
    const size_t n = hob_http_head(d->c, head, sizeof head, 200, "application/octet-stream",
                                   "content-disposition: attachment\r\n", &len);
    d->began = true;
    if (d->c->g->draining)
        d->c->close_after = true;
    d->c->deadline_us = 0;
    hob_conn_queue(d->c, head, n, 0, 0);
}

static void content_done(hob_store_job *j)
{
    hob_download *d = (hob_download *)j;
    hob_conn *c = d->c;
    hob_api_error e;

    d->reading = false;
    if (!c) {
        free(d);
        return;
    }
    if (j->code < 0 &&
        d->began) { /* it was deleted meanwhile, say: its end cannot be told otherwise */
        leave(d);
        hob_conn_kill(c, "a file could not be read to its end");
        return;
    }
    if (j->code < 0) {
        hob_documents_explain(j->code, j->diag.text, &e);
        leave(d);
        hob_http_error(c, &e);
        return;
    }
    if (!d->began)
        begin_content(d);
    d->sent += d->len;
    const bool whole = d->sent >= d->file.bytes;
    if (whole)
        c->response_done = true;
    hob_conn_queue(c, d->data, d->len, 0, 0);
    if (whole)
        leave(d);
}

void hob_download_pump(hob_conn *c)
{
    hob_download *d = c->download;
    if (d && d->began && !d->reading && c->out_bytes == 0)
        read_piece(d);
}

size_t hob_download_bytes(const hob_download *d)
{
    return d ? sizeof *d : 0;
}

void hob_download_drop(hob_conn *c)
{
    if (c->download)
        leave(c->download);
}

void hob_files_content(hob_conn *c, json_t *body)
{
    hob_api_error e;
    (void)body;
    if (hob_buffers_admit(c->g, sizeof(hob_download) + PIECE_BYTES, &e) < 0) { /* and its outbox */
        hob_http_error(c, &e);
        return;
    }
    hob_download *d = calloc(1, sizeof *d);
    if (!d) {
        hob_documents_no_memory(c);
        return;
    }
    d->job = (hob_store_job){.run = run_content, .done = content_done};
    d->g = c->g;
    d->c = c;
    d->scope = hob_documents_scope(c->key);
    memcpy(d->public, c->ids[0], sizeof d->public);
    c->state = HOB_CONN_BUSY;
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
    c->asked = &d->c;
    c->download = d;
    read_piece(d);
}
