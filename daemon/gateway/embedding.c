/* SPDX-License-Identifier: Apache-2.0
 *
 * From stored chunks to a content that is complete: chunks are read in batches, embedded at the class of ingest, and their
 * vectors stored; with the last of them the content goes into the index and becomes visible, in one transaction. Without an
 * embedding model it is complete as it is.
 *
 * A chunk may have more tokens than the model takes: then it is embedded in pieces, and its vector is their mean. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/ingest.h"
#include "hal/half.h"

enum {
    WAIT_US = 1000000,  /* for an engine that takes no more, or is not up */
    PIECE_PERCENT = 60, /* of what the model takes: tokens are not spread evenly */
    PIECES_MAX = 64,    /* of a chunk */
};

void hob_place_embed_drop(hob_place *p)
{
    if (p->embed)
        hob_embed_cancel(p->embed);
    p->embed = NULL;
    json_decref(p->inputs);
    p->inputs = NULL;
    free(p->halves);
    p->halves = NULL;
}

/* ---- complete ---- */

/* The last vectors, and all that follows from them. Thread: store. */
static int run_vectors(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_place *p = (hob_place *)j;
    hob_index *x = &p->ingest->index;
    hob_content *t = &p->content;
    const size_t size = x->dimensions * sizeof *p->halves;
    int code = hob_content_add_vectors(db, t, t->embedded, p->batch, x->id, p->halves, size, diag);
    if (code < 0 || t->embedded + p->batch < t->chunks)
        return code;
    if ((code = hob_content_complete(db, t, x->id, diag)) < 0)
        return code;
    p->indexed = true;
    return hob_index_add(x, db, t->id, diag);
}

static void vectors_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0 && p->indexed)
        hob_index_remove(&p->ingest->index, p->content.id);
    if (j->code < 0) {
        hob_place_retry(p, j->code, j->diag.text);
        return;
    }
    p->content.embedded += p->batch;
    hob_place_embed_drop(p);
    if (p->indexed) {
        p->ingest->g->metrics.documents++;
        hob_place_leave(p);
    } else
        hob_place_embed(p);
}

/* Thread: store. */
static int run_complete(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    return hob_content_complete(db, &((hob_place *)j)->content, "", diag);
}

static void complete_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0) {
        hob_place_retry(p, j->code, j->diag.text);
        return;
    }
    p->ingest->g->metrics.documents++;
    hob_place_leave(p);
}

/* ---- vectors ---- */

/* The mean of a chunk's pieces, of length 1 again, as halves in the order of bytes that the store has. */
static void write_halves(const float *pieces, uint32_t count, uint32_t dim, uint16_t *ret)
{
    double sum = 0;
    for (int round = 0; round < 2; round++) {
        const double scale = round && sum > 0 ? 1 / sqrt(sum) : 1;
        for (uint32_t i = 0; i < dim; i++) {
            double v = 0;
            for (uint32_t k = 0; k < count; k++)
                v += pieces[(size_t)k * dim + i];
            if (round == 0)
                sum += v * v;
            else {
                const uint16_t half = hob_float_to_half((float)(v * scale));
                const uint8_t bytes[2] = {(uint8_t)half, (uint8_t)(half >> 8)};
                memcpy(&ret[i], bytes, sizeof bytes);
            }
        }
    }
}

static void wait(hob_place *p)
{
    hob_place_embed_drop(p);
    p->state = HOB_PLACE_EMBED;
    p->embed_us = hob_now_us() + WAIT_US;
}

static void embedded(void *user, const hob_embed_result *r, const hob_api_error *e)
{
    hob_place *p = user;
    const hob_index *x = &p->ingest->index;
    const uint32_t dim = x->dimensions;
    uint32_t piece = 0;

    p->embed = NULL;
    if (!r && e->status != 429 && e->status != 503) {
        hob_place_fail(p, "server_error", e->message);
        return;
    }
    if (!r || x->state != HOB_INDEX_READY || x->began_us != p->index_us || r->dimensions != dim ||
        !(p->halves = malloc((size_t)p->batch * dim * sizeof *p->halves))) {
        wait(p);
        return;
    }
    for (uint32_t i = 0; i < p->batch; i++) {
        write_halves(r->vectors + (size_t)piece * dim, p->pieces[i], dim,
                     p->halves + (size_t)i * dim);
        piece += p->pieces[i];
    }
    hob_place_post(p, run_vectors, vectors_done);
}

static void ask(hob_place *p)
{
    static const hob_embed_handler handler = {.done = embedded};
    const hob_embed_request request = {.model = p->ingest->index.model,
                                       .class = HOB_ARBITER_BATCH,
                                       .tenant = p->content.tenant,
                                       .truncate =
                                           true, /* of a piece that is denser than expected */
                                       .inputs = p->inputs,
                                       .handler = &handler,
                                       .user = p};
    hob_api_error e;
    p->index_us = p->ingest->index.began_us;
    if (hob_embed_start(p->ingest->g, &request, &p->embed, &e) < 0) {
        p->embed = NULL;
        wait(p);
        return;
    }
    p->state = HOB_PLACE_EMBED;
}

/* ---- texts ---- */

/* Where a piece of about `want` bytes may end: at a blank, if there is one in its second half, and not in a character. */
static size_t piece_end(const char *text, size_t len, size_t want)
{
    if (want >= len)
        return len;
    for (size_t n = want; n > want / 2; n--)
        if (text[n] == ' ' || text[n] == '\n')
            return n;
    while (want < len && ((unsigned char)text[want] & 0xc0) == 0x80)
        want++;
    return want;
}

static int add_pieces(hob_place *p, const hob_stored_chunk *k, uint32_t most_tokens)
{
    const uint32_t room = most_tokens * PIECE_PERCENT / 100;
    uint32_t wanted = k->tokens + 2 <= most_tokens || room == 0 ? 1 : (k->tokens + room - 1) / room;
    const char *at = k->text;
    size_t left = k->text_len;
    wanted = wanted < PIECES_MAX ? wanted : PIECES_MAX;
    const size_t want = left / wanted + 1;
    uint32_t n = 0;
    for (size_t len; left > 0 && n < PIECES_MAX; at += len, left -= len, n++) {
        len = n + 1 == PIECES_MAX ? left : piece_end(at, left, want);
        if (json_array_append_new(p->inputs, json_stringn(at, len)) < 0)
            return HOB_ENOMEM;
    }
    p->pieces[p->batch++] = n;
    return 0;
}

static int take_chunk(void *user, int64_t id, const hob_stored_chunk *k, hob_diag *diag)
{
    hob_place *p = user;
    const uint32_t context = p->ingest->g->links[p->ingest->index.model].context;
    (void)id;
    if (k->text_len == 0)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: a chunk without text");
    return add_pieces(p, k, context) < 0
               ? hob_fail(diag, HOB_ENOMEM, "no memory for texts, or one that is damaged")
               : 0;
}

/* Thread: search. */
static int run_read(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_place *p = (hob_place *)j;
    p->batch = 0;
    p->inputs = json_array();
    return p->inputs ? hob_content_chunks(db, p->content.id, p->content.embedded, HOB_EMBED_BATCH,
                                          take_chunk, p, diag)
                     : hob_fail(diag, HOB_ENOMEM, "no memory for texts");
}

static void read_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0)
        hob_place_retry(p, j->code, j->diag.text);
    else if (p->batch == 0) /* removed meanwhile */
        hob_place_retry(p, HOB_ENOENT, "");
    else
        ask(p);
}

void hob_place_embed(hob_place *p)
{
    hob_index *x = &p->ingest->index;
    p->embed_us = 0;
    if (!hob_index_is_settled(x))
        wait(p);
    else if (x->state != HOB_INDEX_READY)
        hob_place_post(p, run_complete, complete_done);
    else {
        p->state = HOB_PLACE_STORE;
        p->job.run = run_read;
        p->job.done = read_done;
        hob_store_read(p->ingest->g->store, &p->job);
    }
}

void hob_place_embed_tick(hob_place *p, uint64_t now_us)
{
    if (p->state == HOB_PLACE_EMBED && !p->embed && now_us >= p->embed_us)
        hob_place_embed(p);
}
