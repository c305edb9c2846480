/* SPDX-License-Identifier: Apache-2.0
 *
 * Grounding. See grounding.h. */
#include "daemon/gateway/grounding.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/meter.h"
#include "daemon/gateway/passages.h"
#include "daemon/gateway/question.h"
#include "daemon/gateway/retrieval.h"

enum {
    CHUNKS_DEFAULT = 20,
    CITATION_BYTES = 1024, /* about, as JSON values */
};

/* The part of a question's words that a passage has to be about where words alone decide: tests/bench/relevance.py. */
static const double WORDS_LEAST = 0.45;

struct hob_grounding {
    hob_gateway *g;
    uint64_t job;          /* id */
    hob_retrieval *search; /* NULL: it has ended */
    lws_sorted_usec_list_t timer;
    uint64_t began_us;
    const char *status; /* "completed", … */
    bool by_words;
    uint32_t budget;
    size_t message; /* that gets the passages in front */
    json_t *queries, *insert;
    hob_search_result found;
};

uint32_t hob_grounding_budget(const hob_gateway *g, const hob_api_request *r)
{
    if (!r->retrieval.stores)
        return 0;
    return r->retrieval.max_tokens ? r->retrieval.max_tokens : g->conf->retrieval_max_tokens;
}

void hob_grounding_free(hob_grounding *d)
{
    if (!d)
        return;
    lws_sul_cancel(&d->timer);
    if (d->search)
        hob_retrieval_cancel(d->search);
    hob_search_result_free(&d->found);
    json_decref(d->queries);
    json_decref(d->insert);
    free(d);
}

static size_t text_bytes(const hob_search_result *r)
{
    size_t n = 0;
    for (uint32_t i = 0; i < r->count; i++)
        n += r->list[i].text_len;
    return n;
}

size_t hob_grounding_bytes(const hob_grounding *d)
{
    return d ? sizeof *d + 2 * text_bytes(&d->found) : 0; /* there, and in insert */
}

/* ---- the end of the search ---- */

static void go_on(hob_grounding *d, const char *status)
{
    hob_metrics *m = &d->g->metrics;
    hob_job *j = hob_job_find(d->g, d->job);
    const uint64_t us = hob_now_us() - d->began_us;
    d->status = status;
    m->retrievals++;
    m->retrieval_us += us;
    if (!j)
        return;
    hob_meter_retrieved(j, us);
    hob_job_start(j);
}

static void on_timer(lws_sorted_usec_list_t *timer)
{
    hob_grounding *d = lws_container_of(timer, hob_grounding, timer);
    hob_retrieval_cancel(d->search);
    d->search = NULL;
    d->g->metrics.retrievals_late++;
    go_on(d, "timed_out");
}

static void take_result(hob_grounding *d, hob_search_result *found)
{
    d->found = *found;
    *found = (hob_search_result){0};
    hob_passages_arrange(&d->found, d->budget);
    if (d->found.count > 0)
        d->insert = hob_passages_insert(&d->found, d->message, d->budget);
}

/* hob_retrieved */
static void retrieved(void *user, int code, const char *why, hob_search_result *found,
                      bool by_words)
{
    hob_grounding *d = user;
    hob_api_error e;

    lws_sul_cancel(&d->timer);
    d->search = NULL;
    d->by_words = by_words;
    if (code == HOB_ENOENT) {
        hob_job *j = hob_job_find(d->g, d->job);
        hob_documents_explain(code, why, &e);
        if (j)
            hob_job_fail(j, &e);
        return;
    }
    if (code == 0)
        take_result(d, found);
    else if (code == HOB_ECANCELED)
        d->g->metrics.retrievals_late++;
    else
        hob_log(HOB_LOG_WARN, "an answer is made without its documents: %s", why);
    go_on(d, code == HOB_ECANCELED                            ? "timed_out"
             : code < 0 || (d->found.count > 0 && !d->insert) ? "failed"
                                                              : "completed");
}

/* ---- its beginning ---- */

static int start_search(hob_grounding *d, const hob_job *j, const hob_question *q)
{
    const hob_api_retrieval *want = &j->request.retrieval;
    const hob_conf *conf = d->g->conf;
    const double usual = conf->retrieval_min_score_percent / 100.0;
    const char *stores[HOB_SEARCH_COLLECTIONS_MAX], *const text = q->text;
    hob_retrieval_request r = {
        .scope = hob_documents_scope(j->key),
        .collections = stores,
        .collection_count = (uint32_t)json_array_size(want->stores),
        .named = true,
        .queries = &text,
        .query_count = 1,
        .history = q->history,
        .filter = want->filters,
        .apart = true,
        .k = want->max_chunks ? want->max_chunks : CHUNKS_DEFAULT,
        .threshold = want->threshold < 0 ? usual : want->threshold,
        .words_threshold = want->threshold < 0 ? WORDS_LEAST : want->threshold,
        .trace = j->trace,
        .deadline_us = d->began_us + conf->retrieval_timeout_ms * (uint64_t)1000};
    for (uint32_t i = 0; i < r.collection_count; i++)
        stores[i] = json_string_value(json_array_get(want->stores, i));
    d->queries = json_pack("[s]", text);
    d->search = d->queries ? hob_retrieve(d->g, &r, retrieved, d) : NULL;
    return d->search ? 0 : HOB_ENOMEM;
}

int hob_grounding_start(hob_job *j, hob_api_error *e)
{
    hob_gateway *g = j->g;
    hob_question q;

    if (hob_documents_check(j->conn, e) < 0)
        return HOB_EINVAL;
    if (hob_question_read(json_object_get(j->request.prepare, "messages"), &q) < 0)
        return hob_api_bad(e, "invalid_value",
                           j->request.kind == HOB_API_CHAT ? "messages" : "input",
                           "there is no message of the user that documents could be searched for");
    hob_grounding *d = calloc(1, sizeof *d);
    if (d) {
        d->g = g;
        d->job = j->id;
        d->message = q.first;
        d->began_us = hob_now_us();
        d->budget = hob_grounding_budget(g, &j->request);
    }
    if (!d || start_search(d, j, &q) < 0) {
        hob_grounding_free(d);
        return hob_api_no_memory(e);
    }
    j->grounding = d;
    lws_sul_schedule(g->context, 0, &d->timer, on_timer,
                     g->conf->retrieval_timeout_ms * (lws_usec_t)1000);
    return 0;
}

/* ---- the prompt ---- */

json_t *hob_grounding_insert(hob_grounding *d, uint32_t most_prompt_tokens)
{
    if (!d->insert ||
        json_object_set_new(d->insert, "max_prompt_tokens", json_integer(most_prompt_tokens)) < 0)
        return NULL;
    return d->insert;
}

int hob_grounding_settle(hob_job *j, uint32_t passages, uint32_t tokens)
{
    hob_grounding *d = j->grounding;
    hob_metrics *m = &j->g->metrics;
    passages = passages < d->found.count ? passages : d->found.count; /* it is the engine's word */
    json_t *grounds = json_pack("{s:o, s:O, s:{s:s, s:b, s:I, s:I}}", "citations",
                                hob_passages_citations(&d->found, passages), "queries", d->queries,
                                "hob_retrieval", "status", d->status, "by_words", d->by_words,
                                "chunks", (json_int_t)passages, "tokens", (json_int_t)tokens);
    if (!grounds ||
        (j->request.retrieval.results &&
         json_object_set_new(grounds, "results", hob_passages_results(&d->found, passages)) < 0)) {
        json_decref(grounds);
        return HOB_ENOMEM;
    }
    j->grounds_bytes =
        passages * CITATION_BYTES + (j->request.retrieval.results ? text_bytes(&d->found) : 0);
    m->retrieved_chunks += passages;
    m->retrieved_tokens += tokens;
    j->grounds = grounds;
    j->grounding = NULL;
    hob_grounding_free(d);
    return 0;
}
