/* SPDX-License-Identifier: Apache-2.0
 *
 * Retrieval: the query's vector, then the search. See retrieval.h. */
#include "daemon/gateway/retrieval.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACTIVE_S = 60 }; /* a collection's last use is noted as often as that */

struct hob_retrieval {
    hob_store_job job;
    hob_gateway *g;
    hob_retrieved *done; /* NULL: nobody wants to hear */
    void *user;
    hob_search search;
    char *queries[HOB_SEARCH_QUERIES_MAX];
    json_t *filter;
    hob_search_result result;
};

static void retrieval_free(hob_retrieval *r)
{
    for (uint32_t i = 0; i < HOB_SEARCH_QUERIES_MAX; i++)
        free(r->queries[i]);
    hob_search_result_free(&r->result);
    json_decref(r->filter);
    free(r);
}

/* Thread: search. */
static int run_search(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_retrieval *r = (hob_retrieval *)j;
    return hob_search_run(db, &r->search, &r->result, diag);
}

/* ---- when collections were last used ---- */

typedef struct touch {
    hob_store_job job;
    int64_t now_s, ids[HOB_SEARCH_COLLECTIONS_MAX];
    uint32_t count;
} touch;

/* Thread: store. */
static int run_touch(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    const touch *t = (const touch *)j;
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < t->count; i++)
        code = hob_collection_touch(db, t->ids[i], t->now_s, diag);
    return code;
}

static void touch_done(hob_store_job *j)
{
    free(j); /* what could not be noted is not missed */
}

static void note_use(const hob_retrieval *r)
{
    touch *t = calloc(1, sizeof *t);
    if (!t)
        return;
    t->job = (hob_store_job){.run = run_touch, .done = touch_done};
    t->now_s = (int64_t)time(NULL);
    for (uint32_t i = 0; i < r->search.collection_count; i++)
        if (t->now_s - r->result.active_s[i] >= ACTIVE_S)
            t->ids[t->count++] = r->result.collections[i];
    if (t->count > 0)
        hob_store_post(r->g->store, &t->job);
    else
        free(t);
}

/* ---- the search ---- */

static void search_done(hob_store_job *j)
{
    hob_retrieval *r = (hob_retrieval *)j;
    if (j->code >= 0 && !r->g->ending)
        note_use(r);
    if (r->done && !r->g->ending)
        r->done(r->user, j->code, j->diag.text, &r->result, !r->search.vectors);
    retrieval_free(r);
}

hob_retrieval *hob_retrieve(hob_gateway *g, const hob_retrieval_request *q, hob_retrieved *done,
                            void *user)
{
    hob_retrieval *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->g = g;
    r->done = done;
    r->user = user;
    r->filter = json_incref(q->filter);
    r->search = (hob_search){.scope = q->scope,
                             .collection_count = q->collection_count,
                             .named = q->named,
                             .queries = (const char *const *)r->queries,
                             .query_count = q->query_count,
                             .filter = r->filter,
                             .meaning_only = q->meaning_only,
                             .apart = q->apart,
                             .k = q->k,
                             .threshold = q->threshold,
                             .words_threshold = q->words_threshold};
    for (uint32_t i = 0; i < q->collection_count; i++)
        strncpy(r->search.collections[i], q->collections[i], HOB_COLLECTION_NAME_MAX - 1);
    for (uint32_t i = 0; i < q->query_count; i++)
        if (!(r->queries[i] = strdup(q->queries[i]))) {
            retrieval_free(r);
            return NULL;
        }
    r->job = (hob_store_job){.run = run_search,
                             .done = search_done,
                             .deadline_us = q->deadline_us ? q->deadline_us
                                                           : hob_now_us() + HOB_RETRIEVAL_LIMIT_US};
    hob_store_read(g->store, &r->job);
    return r;
}

void hob_retrieval_cancel(hob_retrieval *r)
{
    r->done = NULL;
}
