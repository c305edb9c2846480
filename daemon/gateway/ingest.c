/* SPDX-License-Identifier: Apache-2.0
 *
 * From the queue to stored chunks. See ingest.h. */
#include "daemon/gateway/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/conf/file.h"

enum {
    CUT_CHUNKS = 500,        /* that one transaction removes */
    STORE_CHUNKS = 256,      /* that one transaction stores, at most */
    STORE_BYTES = 512 << 10, /* of their text */
    ATTEMPTS = 2,            /* with an extractor that fails without blaming the file */
};

/* ---- the life of a place ---- */

static void clear(hob_place *p)
{
    hob_place_embed_drop(p);
    hob_extracting_free(p->extracting); /* it reads the descriptors */
    if (p->document >= 0)
        close(p->document);
    if (p->vocabulary >= 0)
        close(p->vocabulary);
    free(p->buffer);
    *p = (hob_place){.ingest = p->ingest, .document = -1, .vocabulary = -1};
}

void hob_place_post(hob_place *p, int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag),
                    void (*done)(hob_store_job *j))
{
    p->state = HOB_PLACE_STORE;
    p->job.run = run;
    p->job.done = done;
    hob_store_post(p->ingest->g->store, &p->job);
}

static void claim_next(hob_ingest *in);

static void leave(hob_place *p)
{
    hob_ingest *in = p->ingest;
    clear(p);
    in->wanted = true;
    claim_next(in);
}

void hob_place_leave(hob_place *p)
{
    if (p->ingest->failing)
        hob_log(HOB_LOG_INFO, "documents are stored again");
    p->ingest->failing = false;
    leave(p);
}

static void wait_for_store(hob_place *p, const char *why)
{
    hob_ingest *in = p->ingest;
    if (!in->failing)
        hob_log(HOB_LOG_WARN, "documents wait until the store takes them: %s", why);
    in->failing = true;
    in->retry_us = hob_now_us() + HOB_STORE_RETRY_US;
    in->wanted = true;
    clear(p);
}

void hob_place_retry(hob_place *p, int code, const char *why)
{
    if (code == HOB_ENOENT) { /* deleted or cancelled meanwhile */
        hob_documents_wake(p->ingest->g);
        leave(p);
    } else if (code == HOB_EFORMAT || code == HOB_ELIMIT)
        hob_place_fail(p, "server_error", why);
    else
        wait_for_store(p, why);
}

/* ---- failure ---- */

typedef struct failure {
    hob_store_job job;
    hob_place *place;
    char code[HOB_ERROR_CODE_MAX];
    char why[256];
    bool once_more;
} failure;

/* Thread: store. */
static int run_fail(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    const failure *f = (const failure *)j;
    return f->once_more ? hob_content_count_failure(db, &f->place->content, diag)
                        : hob_content_fail(db, &f->place->content, f->code, f->why, diag);
}

static void fail_done(hob_store_job *j)
{
    failure *f = (failure *)j;
    hob_place *p = f->place;
    if (j->code < 0 && j->code != HOB_ENOENT)
        wait_for_store(p, j->diag.text);
    else if (j->code < 0)
        hob_place_retry(p, j->code, j->diag.text);
    else {
        p->ingest->g->metrics.documents_failed += !f->once_more;
        hob_documents_wake(p->ingest->g); /* what it has stored goes */
        hob_place_leave(p);
    }
    free(f);
}

static void post_failure(hob_place *p, const char *code, const char *why, bool once_more)
{
    failure *f = calloc(1, sizeof *f);
    if (!f) {
        hob_place_retry(p, HOB_ENOMEM, "no memory");
        return;
    }
    f->job = (hob_store_job){.run = run_fail, .done = fail_done};
    f->place = p;
    f->once_more = once_more;
    snprintf(f->code, sizeof f->code, "%s", code);
    snprintf(f->why, sizeof f->why, "%s", why);
    p->state = HOB_PLACE_STORE;
    hob_store_post(p->ingest->g->store, &f->job);
}

void hob_place_fail(hob_place *p, const char *code, const char *why)
{
    hob_log(HOB_LOG_INFO, "a document cannot be used: %s", why);
    post_failure(p, code, why, false);
}

/* Which of OpenAI's codes says it; NULL: the file may be all right. */
static const char *blame(hob_extract_error e)
{
    switch (e) {
    case HOB_EXTRACT_UNSUPPORTED:
    case HOB_EXTRACT_BINARY:
    case HOB_EXTRACT_ENCRYPTED: return "unsupported_file";
    case HOB_EXTRACT_MALFORMED:
    case HOB_EXTRACT_EMPTY:
    case HOB_EXTRACT_TOO_LARGE:
    case HOB_EXTRACT_TIMEOUT:
    case HOB_EXTRACT_MEMORY: return "invalid_file";
    default: return NULL;
    }
}

static void fail_extraction(hob_place *p, const hob_extraction *e)
{
    const char *code = blame(e->error);
    char why[256];
    snprintf(why, sizeof why, "%s: %s", hob_extract_error_name(e->error), e->why.text);
    post_failure(p, code ? code : "server_error", why,
                 !code && e->error != HOB_EXTRACT_HELPER_MISSING &&
                     p->content.failures + 1 < ATTEMPTS);
}

/* ---- chunks to the store ---- */

static void store_chunks(hob_place *p);

/* The chunks that the next transaction stores. */
static uint32_t fill_batch(const hob_place *p, hob_stored_chunk *list)
{
    const hob_extraction *e = p->text;
    size_t bytes = 0;
    uint32_t n = 0;
    for (uint32_t i = p->chunk; i < e->chunk_count && n < STORE_CHUNKS && bytes < STORE_BYTES;
         i++, n++) {
        const hob_extracted_chunk *k = &e->chunks[i];
        list[n] = (hob_stored_chunk){.first_byte = k->start,
                                     .end_byte = k->end,
                                     .tokens = k->tokens,
                                     .heading = k->path,
                                     .text = e->text + k->start,
                                     .text_len = k->end - k->start};
        bytes += list[n].text_len;
    }
    return n;
}

/* Thread: store. */
static int run_store(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_place *p = (hob_place *)j;
    hob_stored_chunk list[STORE_CHUNKS];
    const uint32_t n = fill_batch(p, list);
    const double part = (double)(n ? list[n - 1].end_byte : 0) / (double)p->text->text_len;
    int code = hob_content_add_chunks(db, &p->content, list, n,
                                      (uint64_t)(part * (double)p->content.bytes), diag);
    if (code == 0)
        p->chunk += n;
    if (code == 0 && p->chunk == p->text->chunk_count)
        code = hob_content_extracted(db, &p->content, diag);
    return code;
}

static void store_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0)
        hob_place_retry(p, j->code, j->diag.text);
    else if (p->chunk < p->text->chunk_count)
        store_chunks(p);
    else
        hob_place_leave(p); /* the next claim finds it extracted */
}

static void store_chunks(hob_place *p)
{
    hob_place_post(p, run_store, store_done);
}

/* ---- the extractor ---- */

static void wake_loop(void *user)
{
    lws_cancel_service(((hob_gateway *)user)->context); /* Thread: extract */
}

static void begin_extraction(hob_place *p)
{
    hob_gateway *g = p->ingest->g;
    hob_extract_request r = hob_extract_request_default;
    const int embeds = hob_embed_default_model(g);
    const char *path = g->conf->models[embeds < 0 ? 0 : embeds].path; /* whose tokens count */
    hob_diag diag;

    p->vocabulary = open(path, O_RDONLY | O_CLOEXEC);
    if (p->vocabulary < 0) {
        snprintf(diag.text, sizeof diag.text, "%.100s: %s", path, strerror(errno));
        hob_place_retry(p, HOB_EIO, diag.text);
        return;
    }
    r.document = p->document;
    r.vocabulary = p->vocabulary;
    r.name = p->file.name;
    r.chunk_tokens = p->content.chunk_tokens;
    r.overlap_tokens = p->content.overlap_tokens;
    if (hob_extracting_start(&r, wake_loop, g, &p->extracting, &diag) < 0) {
        hob_place_retry(p, HOB_ENOMEM, diag.text);
        return;
    }
    p->state = HOB_PLACE_EXTRACT;
}

void hob_ingest_collect(hob_gateway *g)
{
    hob_ingest *in = g->ingest;
    for (int i = 0; in && i < HOB_INGEST_PLACES; i++) {
        hob_place *p = &in->places[i];
        if (p->state != HOB_PLACE_EXTRACT || !(p->text = hob_extracting_result(p->extracting)))
            continue;
        if (p->text->error != HOB_EXTRACT_OK)
            fail_extraction(p, p->text);
        else
            store_chunks(p);
    }
}

/* ---- the file, out of the store ---- */

int hob_ingest_file(sqlite3 *db, hob_diag *diag)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", sqlite3_db_filename(db, "main"));
    char *slash = strrchr(path, '/');
    if (slash)
        slash[1] = '\0';
    const int fd = open(slash ? path : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd
                   : hob_fail(diag, errno == ENOSPC ? HOB_ENOSPC : HOB_EIO,
                              "no file can be made beside the store: %s", strerror(errno));
}

static int write_copy(int fd, const uint8_t *data, size_t len, hob_diag *diag)
{
    return hob_write_all(fd, data, len) ? 0
                                        : hob_fail(diag, errno == ENOSPC ? HOB_ENOSPC : HOB_EIO,
                                                   "a copy beside the store: %s", strerror(errno));
}

/* One part. Thread: store. */
static int run_copy(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_place *p = (hob_place *)j;
    size_t len = 0;
    int code = 0;
    if (p->document < 0) {
        if ((code = hob_ingest_file(db, diag)) < 0)
            return code;
        p->document = code;
    }
    if (p->copied == p->file.bytes)
        return 0;
    if ((code = hob_file_read_part(db, p->content.tenant, p->file.id, &p->at, p->buffer,
                                   HOB_PART_BYTES, &len, diag)) < 0 ||
        (code = write_copy(p->document, p->buffer, len, diag)) < 0)
        return code;
    p->copied += len;
    return 0;
}

static void copy_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0)
        hob_place_retry(p, j->code, j->diag.text);
    else if (p->copied < p->file.bytes)
        hob_place_post(p, run_copy, copy_done);
    else {
        free(p->buffer);
        p->buffer = NULL;
        begin_extraction(p);
    }
}

/* ---- the queue ---- */

/* Thread: store. */
static int run_claim(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_place *p = (hob_place *)j;
    hob_content *t = &p->content;
    bool left = false;
    int code = hob_content_next(db, p->busy, p->ingest->last_tenant, t, diag);
    p->found = code == 0;
    p->again = false;
    if (code == HOB_ENOENT)
        return 0;
    if (code < 0 || t->state != HOB_CONTENT_QUEUED)
        return code;
    if (t->chunks > 0) { /* of an attempt that did not end */
        p->again = true;
        return hob_content_cut(db, t->id, t->tenant, CUT_CHUNKS, &left, diag);
    }
    code = hob_content_source(db, t, &p->file, diag);
    return code == HOB_ENOENT ? HOB_EFORMAT : code; /* what is in a collection has a file */
}

static void claim(hob_place *p);

static void claim_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    hob_ingest *in = p->ingest;

    in->claiming = false;
    if (in->g->ending)
        return;
    if (j->code < 0 && !p->found) {
        wait_for_store(p, j->diag.text);
        return;
    }
    if (j->code < 0) {
        hob_place_retry(p, j->code, j->diag.text);
        return;
    }
    if (!p->found) {
        clear(p);
        return;
    }
    if (p->again) {
        claim(p);
        return;
    }
    in->last_tenant = p->content.tenant;
    in->wanted = true; /* there may be more for another place */
    if (p->content.state != HOB_CONTENT_QUEUED)
        hob_place_embed(p);
    else if (!(p->buffer = malloc(HOB_PART_BYTES)))
        hob_place_retry(p, HOB_ENOMEM, "no memory for a file");
    else
        hob_place_post(p, run_copy, copy_done);
    claim_next(in);
}

static void claim(hob_place *p)
{
    hob_ingest *in = p->ingest;
    for (int i = 0; i < HOB_INGEST_PLACES; i++)
        p->busy[i] = &in->places[i] != p && in->places[i].state != HOB_PLACE_FREE
                         ? in->places[i].content.id
                         : 0;
    in->claiming = true;
    hob_place_post(p, run_claim, claim_done);
}

/* One place asks at a time, so that no two find the same. */
static void claim_next(hob_ingest *in)
{
    if (!in->wanted || in->claiming || in->g->ending || hob_now_us() < in->retry_us ||
        !hob_index_is_settled(&in->index))
        return;
    for (int i = 0; i < HOB_INGEST_PLACES; i++)
        if (in->places[i].state == HOB_PLACE_FREE) {
            in->wanted = false;
            claim(&in->places[i]);
            return;
        }
}

/* ---- removal ---- */

static void sweep(hob_ingest *in);

/* Thread: store. */
static int run_sweep(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_ingest *in = (hob_ingest *)((char *)j - offsetof(hob_ingest, sweep));
    return hob_sweep(db, &in->swept, diag);
}

static void sweep_done(hob_store_job *j)
{
    hob_ingest *in = (hob_ingest *)((char *)j - offsetof(hob_ingest, sweep));
    in->sweeping = false;
    if (in->g->ending)
        return;
    if (j->code < 0) {
        if (!in->sweep_failing)
            hob_log(HOB_LOG_WARN, "what was deleted takes room until the store removes it: %s",
                    j->diag.text);
        in->sweep_failing = true;
        in->retry_us = hob_now_us() + HOB_STORE_RETRY_US;
        in->sweep_wanted = true;
        return;
    }
    in->sweep_failing = false;
    if (in->swept.content)
        hob_index_remove(&in->index, in->swept.content);
    in->sweep_wanted |= in->swept.more;
    sweep(in);
}

static void sweep(hob_ingest *in)
{
    /* While the index is built a slice of it may hold what has just been removed from the store. */
    if (!in->sweep_wanted || in->sweeping || in->g->ending || hob_now_us() < in->retry_us ||
        in->index.state == HOB_INDEX_WORK)
        return;
    in->sweep_wanted = false;
    in->sweeping = true;
    in->sweep.run = run_sweep;
    in->sweep.done = sweep_done;
    hob_store_post(in->g->store, &in->sweep);
}

/* ---- from outside ---- */

void hob_documents_wake(hob_gateway *g)
{
    hob_ingest *in = g->ingest;
    if (!in)
        return;
    in->wanted = in->sweep_wanted = true;
    claim_next(in);
    sweep(in);
}

void hob_ingest_tick(hob_gateway *g, uint64_t now_us)
{
    hob_ingest *in = g->ingest;
    if (!in)
        return;
    hob_uploads_tick(g, now_us);
    hob_index_tick(&in->index, now_us);
    for (int i = 0; i < HOB_INGEST_PLACES; i++)
        hob_place_embed_tick(&in->places[i], now_us);
    claim_next(in);
    sweep(in);
}

int hob_ingest_open(hob_gateway *g, hob_diag *diag)
{
    hob_ingest *in = calloc(1, sizeof *in);
    const int code = in ? hob_file_drop_uploads(hob_store_database(g->store), diag) : HOB_ENOMEM;
    if (code < 0) {
        free(in);
        return code == HOB_ENOMEM ? hob_fail(diag, code, "no memory") : code;
    }
    in->g = in->index.g = g;
    for (int i = 0; i < HOB_INGEST_PLACES; i++) {
        in->places[i].ingest = in;
        in->places[i].document = in->places[i].vocabulary = -1;
    }
    in->wanted = in->sweep_wanted = true; /* what an earlier run has left: at the first tick */
    g->ingest = in;
    return 0;
}

void hob_ingest_close(hob_gateway *g)
{
    for (int i = 0; g->ingest && i < HOB_INGEST_PLACES; i++) {
        hob_place *p = &g->ingest->places[i];
        if (p->state == HOB_PLACE_EXTRACT) {
            hob_extracting_free(p->extracting);
            p->extracting = NULL;
        }
        if (p->state == HOB_PLACE_EMBED)
            hob_place_embed_drop(p);
    }
}

void hob_ingest_free(hob_gateway *g)
{
    for (int i = 0; g->ingest && i < HOB_INGEST_PLACES; i++)
        clear(&g->ingest->places[i]);
    if (g->ingest)
        hob_index_free(&g->ingest->index);
    free(g->ingest);
    g->ingest = NULL;
}
