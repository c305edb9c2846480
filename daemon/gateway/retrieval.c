/* SPDX-License-Identifier: Apache-2.0
 *
 * Retrieval: the query's vector, then the search. See retrieval.h. */
#include "daemon/gateway/retrieval.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/ingest.h"
#include "daemon/gateway/meter.h"
#include "daemon/gateway/question.h"
#include "daemon/gateway/trace.h"

enum {
    ACTIVE_S = 60,      /* a collection's last use is noted as often as that */
    EMBED_PERCENT = 70, /* of the time that is left: for the query's vector */
};

struct hob_retrieval {
    hob_store_job job;
    hob_gateway *g;
    hob_embed *embed;             /* the query's vector is being made */
    lws_sorted_usec_list_t timer; /* when the words have to do */
    float *vectors;
    bool has_history;     /* the vector behind the query's is that of what was said before */
    bool searching;       /* the job runs */
    atomic_bool unwanted; /* it is cancelled: not worth the time when its turn comes */
    uint64_t began_us;
    hob_retrieved *done; /* NULL: nobody wants to hear */
    void *user;
    hob_search search;
    char *queries[HOB_SEARCH_QUERIES_MAX];
    json_t *filter;
    hob_trace *trace;
    hob_search_result result;
};

static void retrieval_free(hob_retrieval *r)
{
    for (uint32_t i = 0; i < HOB_SEARCH_QUERIES_MAX; i++)
        free(r->queries[i]);
    if (r->embed)
        hob_embed_cancel(r->embed);
    lws_sul_cancel(&r->timer);
    hob_search_result_free(&r->result);
    json_decref(r->filter);
    hob_trace_unref(r->trace);
    free(r->vectors);
    free(r);
}

/* Thread: search. */
static int run_search(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_retrieval *r = (hob_retrieval *)j;
    r->search.deadline_us = j->deadline_us;
    return atomic_load(&r->unwanted) ? HOB_ECANCELED
                                     : hob_search_run(db, &r->search, &r->result, diag);
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

/* One after the other in thread `search`, which has just ended. */
static void trace_times(const hob_retrieval *r)
{
    const uint64_t now_us = hob_now_us(), vectors_us = r->search.vectors ? r->result.vectors_us : 0,
                   fuse_at = now_us - r->result.fuse_us, vectors_at = fuse_at - vectors_us;
    hob_trace_part(r->trace, HOB_SPAN_WORDS, vectors_at - r->result.words_us, vectors_at);
    if (r->search.vectors)
        hob_trace_part(r->trace, HOB_SPAN_VECTORS, vectors_at, fuse_at);
    hob_trace_part(r->trace, HOB_SPAN_FUSE, fuse_at, now_us);
}

static void note_times(const hob_retrieval *r)
{
    if (r->job.code < 0)
        return;
    hob_meter_searched(r->g, HOB_STAGE_WORDS, r->result.words_us);
    if (r->search.vectors)
        hob_meter_searched(r->g, HOB_STAGE_VECTORS, r->result.vectors_us);
    hob_meter_searched(r->g, HOB_STAGE_FUSE, r->result.fuse_us);
    trace_times(r);
}

static void search_done(hob_store_job *j)
{
    hob_retrieval *r = (hob_retrieval *)j;
    if (j->code >= 0 && !r->g->ending) {
        hob_metrics *m = &r->g->metrics;
        m->searches++;
        m->searches_by_words += !r->search.vectors;
        m->search_us += hob_now_us() - r->began_us;
        note_use(r);
    }
    note_times(r);
    if (r->done && !r->g->ending)
        r->done(r->user, j->code, j->diag.text, &r->result, !r->search.vectors);
    retrieval_free(r);
}

static void search(hob_retrieval *r)
{
    r->searching = true;
    lws_sul_cancel(&r->timer);
    hob_store_read(r->g->store, &r->job);
}

/* ---- the query's vector ---- */

static void embedded(void *user, const hob_embed_result *e, const hob_api_error *error)
{
    hob_retrieval *r = user;
    const hob_index *x = &r->g->ingest->index;
    const size_t bytes = e ? (size_t)e->count * e->dimensions * sizeof *r->vectors : 0;

    r->embed = NULL;
    if (!e)
        hob_log(HOB_LOG_DEBUG, "a search goes by words alone: %s", error->message);
    else if (x->state == HOB_INDEX_READY && e->dimensions == x->dimensions &&
             (r->vectors = malloc(bytes))) {
        memcpy(r->vectors, e->vectors, bytes);
        if (r->has_history)
            hob_question_add_history(r->vectors, r->vectors + e->dimensions, e->dimensions);
        hob_meter_searched(r->g, HOB_STAGE_EMBED, hob_now_us() - r->began_us);
        hob_trace_part(r->trace, HOB_SPAN_EMBED, r->began_us, hob_now_us());
        r->search.vectors = r->vectors;
        r->search.dim = e->dimensions;
        r->search.index = x->vectors;
    }
    search(r);
}

static void too_late(lws_sorted_usec_list_t *timer)
{
    hob_retrieval *r = lws_container_of(timer, hob_retrieval, timer);
    hob_embed_cancel(r->embed);
    r->embed = NULL;
    search(r);
}

/* False: there is no vector to be waited for. */
static bool ask_vector(hob_retrieval *r, const char *history)
{
    static const hob_embed_handler handler = {.done = embedded};
    const hob_index *x = &r->g->ingest->index;
    const uint64_t now_us = hob_now_us();
    json_t *inputs = json_array();
    hob_embed_request request = {.model = x->model,
                                 .class = HOB_ARBITER_QUERY,
                                 .tenant = r->search.scope.tenant,
                                 .truncate = true,
                                 .inputs = inputs,
                                 .handler = &handler,
                                 .user = r};
    hob_api_error e;
    int code = x->state == HOB_INDEX_READY && r->job.deadline_us > now_us ? 0 : HOB_EINVAL;

    for (uint32_t i = 0; code == 0 && i < r->search.query_count; i++)
        code = json_array_append_new(inputs, json_string(r->queries[i]));
    r->has_history = code == 0 && history && history[0] && r->search.query_count == 1;
    if (r->has_history)
        code = json_array_append_new(inputs, json_string(history));
    if (code == 0 && (code = hob_embed_start(r->g, &request, &r->embed, &e)) < 0)
        r->embed = NULL;
    json_decref(inputs);
    if (code == 0)
        lws_sul_schedule(r->g->context, 0, &r->timer, too_late,
                         (lws_usec_t)((r->job.deadline_us - now_us) * EMBED_PERCENT / 100));
    return code == 0;
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
    r->began_us = hob_now_us();
    r->filter = json_incref(q->filter);
    r->trace = hob_trace_ref(q->trace);
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
    if (!ask_vector(r, q->history))
        search(r);
    return r;
}

void hob_retrieval_cancel(hob_retrieval *r)
{
    r->done = NULL;
    atomic_store(&r->unwanted, true);
    hob_trace_unref(r->trace); /* what it still does is no part of the request */
    r->trace = NULL;
    if (!r->searching)
        retrieval_free(r);
}
