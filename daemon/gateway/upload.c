/* SPDX-License-Identifier: Apache-2.0
 *
 * POST /v1/files: a form whose file goes into the store as it comes, part by part. At most two parts are in memory: one
 * that fills, one that the store's thread is writing. When both are full the connection is not read, and the client's
 * system stops it. A file that is small enough is stored with one transaction.
 *
 * What goes wrong on the way is answered when the body has passed: most clients look for an answer only then. The rest of it
 * is read and dropped. */
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/documents.h"
#include "daemon/gateway/multipart.h"

enum {
    SLACK_BYTES = 2 * HOB_WRITE_MAX, /* what may still come when reading stops */
    VALUE_MAX = 256,                 /* bytes of a field */
    KEY_MIB = 20,
    RETRY_US = 2000000, /* what the store could not remove */
};

typedef enum field { FIELD_NONE, FIELD_FILE, FIELD_PURPOSE, FIELD_OTHER } field;

struct hob_upload {
    hob_store_job job;
    hob_gateway *g;
    hob_conn *c; /* NULL: it has gone */
    hob_multipart form;
    field field;
    bool seen[FIELD_OTHER + 1];
    char value[VALUE_MAX];
    size_t value_len;
    hob_api_error error; /* status 0: none */
    bool ended;          /* the body is whole */
    bool stored;         /* the store has something of it */
    bool last;           /* of the job: the file is complete with it */
    /* Parts: filled by the loop, written by the store. */
    uint8_t *filling, *writing; /* [HOB_PART_BYTES]; writing: NULL but for a job */
    size_t fill, write_len;
    /* The store's while a job runs, else the loop's. */
    hob_file file;
    uint32_t parts;
    uint64_t key_bytes; /* that the key's files may take; 0: any number */
    mbedtls_sha256_context sha;
    hob_upload *next; /* of uploads_left */
};

/* ---- its end ---- */

static void upload_free(hob_upload *u)
{
    mbedtls_sha256_free(&u->sha);
    free(u->filling);
    free(u->writing);
    free(u);
}

static void detach(hob_upload *u)
{
    if (!u->c)
        return;
    u->c->upload = NULL;
    u->c->asked = NULL;
    u->c = NULL;
}

/* Thread: store. */
static int run_drop(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    return hob_file_drop(db, &((hob_upload *)j)->file, diag);
}

static void drop_done(hob_store_job *j)
{
    hob_upload *u = (hob_upload *)j;
    hob_gateway *g = u->g;
    if (j->code < 0 && !g->ending) {
        if (!g->uploads_left)
            hob_log(HOB_LOG_WARN,
                    "uploads that were cut off take room until the store removes "
                    "them: %s",
                    j->diag.text);
        u->next = g->uploads_left;
        g->uploads_left = u;
        g->uploads_us = hob_now_us() + RETRY_US;
        return;
    }
    hob_documents_wake(g);
    upload_free(u);
}

static void drop(hob_upload *u)
{
    u->job.run = run_drop;
    u->job.done = drop_done;
    hob_store_post(u->g->store, &u->job);
}

/* No job of it runs. What the store has of it goes. */
static void give_up(hob_upload *u)
{
    detach(u);
    if (!u->stored || u->g->ending) {
        upload_free(u);
        return;
    }
    free(u->filling);
    u->filling = NULL;
    drop(u);
}

void hob_uploads_tick(hob_gateway *g, uint64_t now_us)
{
    hob_upload *u = g->uploads_left;
    if (!u || now_us < g->uploads_us)
        return;
    g->uploads_left = NULL;
    for (hob_upload *next; u; u = next) {
        next = u->next;
        drop(u);
    }
}

void hob_uploads_free(hob_gateway *g)
{
    for (hob_upload *u; (u = g->uploads_left);) {
        g->uploads_left = u->next;
        upload_free(u);
    }
}

static void answer(hob_upload *u)
{
    hob_conn *c = u->c;
    hob_text t = {0};
    if (u->error.status) {
        const hob_api_error e = u->error;
        give_up(u);
        hob_http_error(c, &e);
        return;
    }
    u->g->metrics.uploaded_bytes += u->file.bytes;
    hob_file_object(&t, &u->file);
    hob_text_puts(&t, "\n");
    detach(u);
    upload_free(u);
    if (t.failed)
        hob_conn_kill(c, "no memory for an answer");
    else
        hob_http_respond(c, 200, "application/json", "", hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

/* ---- to the store ---- */

/* Thread: store. */
static int run_part(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_upload *u = (hob_upload *)j;
    int code = u->file.id ? 0 : hob_file_begin(db, &u->file, diag);
    if (code == 0 && u->write_len > 0) {
        (void)mbedtls_sha256_update(&u->sha, u->writing, u->write_len);
        code = hob_file_add_part(db, &u->file, u->parts++, u->writing, u->write_len, u->key_bytes,
                                 diag);
    }
    if (code == 0 && u->last) {
        (void)mbedtls_sha256_finish(&u->sha, u->file.sha256);
        code = hob_file_complete(db, &u->file, diag);
    }
    return code;
}

static void set_paused(hob_conn *c, bool paused)
{
    const uint64_t now_us = hob_now_us();
    if (paused == (c->body_paused_us != 0))
        return;
    if (!paused)
        c->body_idle_us += now_us - c->body_paused_us;
    c->body_paused_us = paused ? now_us : 0;
    (void)lws_rx_flow_control(c->wsi, !paused);
    if (paused) /* the library would take it for a client that does not go on */
        lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
}

static void write_part(hob_upload *u);

static void fail(hob_upload *u, int code, const char *why)
{
    hob_documents_explain(code, why, &u->error);
    if (code == HOB_ELIMIT)
        u->error.reason = hob_limit_name(HOB_LIMIT_STORED_MB);
    u->fill = 0;
}

static void part_done(hob_store_job *j)
{
    hob_upload *u = (hob_upload *)j;

    free(u->writing);
    u->writing = NULL;
    u->stored |= j->code >= 0;
    if (!u->c || u->g->ending) {
        give_up(u);
        return;
    }
    set_paused(u->c, false);
    if (j->code < 0)
        fail(u, j->code, j->diag.text);
    if (u->ended && (u->last || u->error.status))
        answer(u);
    else if (u->ended || u->fill + SLACK_BYTES > HOB_PART_BYTES)
        write_part(u);
}

/* The part that has filled goes to the store, and a new one begins. No job of it runs. */
static void write_part(hob_upload *u)
{
    uint8_t *next = u->ended ? NULL : malloc(HOB_PART_BYTES);
    if (!u->ended && !next) {
        fail(u, HOB_ENOMEM, "no memory for the file");
        return;
    }
    u->writing = u->filling;
    u->write_len = u->fill;
    u->filling = next;
    u->fill = 0;
    u->last = u->ended;
    u->job.run = run_part;
    u->job.done = part_done;
    hob_store_post(u->g->store, &u->job);
}

/* ---- the form ---- */

static int refuse(hob_upload *u, const char *code, const char *param, const char *why)
{
    hob_api_bad(&u->error, code, param, "%s", why);
    return HOB_EINVAL;
}

static int on_field(void *user, const char *name, const char *filename, hob_diag *diag)
{
    hob_upload *u = user;
    char why[160];
    (void)diag;
    u->field = strcmp(name, "file") == 0      ? FIELD_FILE
               : strcmp(name, "purpose") == 0 ? FIELD_PURPOSE
                                              : FIELD_OTHER;
    u->value_len = 0;
    if (u->field == FIELD_OTHER) {
        snprintf(why, sizeof why, "unknown or unsupported field '%.60s'", name);
        return refuse(u, "unknown_parameter", name, why);
    }
    if (u->seen[u->field])
        return refuse(u, "invalid_value", name, "the form has this field twice");
    if ((u->field == FIELD_FILE) != (filename != NULL))
        return refuse(u, "invalid_type", name,
                      filename ? "a text is needed" : "file: a file with its name is needed");
    if (filename && !filename[0])
        return refuse(u, "invalid_value", "file", "file: a name is needed");
    u->seen[u->field] = true;
    if (filename)
        snprintf(u->file.name, sizeof u->file.name, "%s", filename);
    return 0;
}

static int on_value(void *user, const void *bytes, size_t len, hob_diag *diag)
{
    hob_upload *u = user;
    if (u->field == FIELD_FILE) {
        if (len > HOB_PART_BYTES - u->fill) /* SLACK_BYTES is more than can come at once */
            return hob_fail(diag, HOB_ELIMIT, "%zu bytes came at once", len);
        memcpy(u->filling + u->fill, bytes, len);
        u->fill += len;
        return 0;
    }
    if (len >= sizeof u->value - u->value_len)
        return refuse(u, "invalid_value", "purpose", "purpose: it is too long");
    memcpy(u->value + u->value_len, bytes, len);
    u->value_len += len;
    u->value[u->value_len] = '\0';
    return 0;
}

static int on_end(void *user, hob_diag *diag)
{
    static const char purposes[] = " assistants batch fine-tune vision user_data evals ";
    hob_upload *u = user;
    char spaced[VALUE_MAX + 2];
    (void)diag;
    if (u->field != FIELD_PURPOSE)
        return 0;
    snprintf(spaced, sizeof spaced, " %s ", u->value_len ? u->value : "");
    if (strlen(u->value) != u->value_len || !strstr(purposes, spaced) || u->value_len < 2 ||
        strchr(u->value, ' '))
        return refuse(u, "invalid_value", "purpose",
                      "purpose: assistants, batch, fine-tune, vision, user_data or evals is "
                      "allowed");
    snprintf(u->file.purpose, sizeof u->file.purpose, "%s", u->value);
    return 0;
}

void hob_upload_data(hob_conn *c, const char *in, size_t len)
{
    static const hob_multipart_events events = {on_field, on_value, on_end};
    hob_upload *u = c->upload;
    hob_diag diag = {""};

    if (!u || u->error.status)
        return;
    const int code = hob_multipart_feed(&u->form, in, len, &events, u, &diag);
    if (code < 0 && !u->error.status)
        hob_api_bad(&u->error, "invalid_form", NULL, "%s", diag.text);
    if (u->error.status || u->fill + SLACK_BYTES <= HOB_PART_BYTES)
        return;
    if (u->writing)
        set_paused(c, true);
    else
        write_part(u);
}

void hob_upload_end(hob_conn *c)
{
    hob_upload *u = c->upload;

    u->ended = true;
    c->state = HOB_CONN_BUSY;
    if (!u->error.status && !hob_multipart_ended(&u->form))
        hob_api_bad(&u->error, "invalid_form", NULL, "the form ends in its middle");
    else if (!u->error.status && (!u->seen[FIELD_FILE] || !u->seen[FIELD_PURPOSE]))
        hob_api_bad(&u->error, "missing_required_parameter",
                    u->seen[FIELD_FILE] ? "purpose" : "file", "%s is needed",
                    u->seen[FIELD_FILE] ? "purpose" : "file");
    if (u->writing) /* part_done goes on */
        return;
    if (u->error.status)
        answer(u);
    else
        write_part(u);
}

void hob_upload_drop(hob_conn *c)
{
    hob_upload *u = c->upload;
    if (!u)
        return;
    detach(u);
    if (!u->writing)
        give_up(u);
}

size_t hob_upload_bytes(const hob_upload *u)
{
    return u ? sizeof *u + (u->filling ? HOB_PART_BYTES : 0) + (u->writing ? HOB_PART_BYTES : 0)
             : 0;
}

int hob_upload_begin(hob_conn *c, hob_api_error *e)
{
    char type[256];
    hob_diag diag = {""};
    hob_upload *u = calloc(1, sizeof *u);

    if (!u || !(u->filling = malloc(HOB_PART_BYTES))) {
        free(u);
        return hob_api_fail(e, 503, "server_error", "out_of_memory", NULL,
                            "no memory for the request");
    }
    if (!hob_http_header(c->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, type, sizeof type) ||
        hob_multipart_begin(&u->form, type, &diag) < 0) {
        upload_free(u);
        return hob_api_bad(e, "invalid_form", NULL, "%s",
                           diag.text[0] ? diag.text : "the Content-Type is too long");
    }
    u->g = c->g;
    u->c = c;
    u->file.tenant = c->key->record.tenant_number;
    u->file.key = c->key->record.id;
    u->file.created_s = (int64_t)time(NULL);
    u->key_bytes = (uint64_t)hob_limit_of(c->g, c->key, HOB_LIMIT_STORED_MB) << KEY_MIB;
    hob_documents_id(u->file.public, "file-");
    mbedtls_sha256_init(&u->sha);
    (void)mbedtls_sha256_starts(&u->sha, 0);
    c->upload = u;
    c->asked = &u->c;
    return 0;
}
