/* SPDX-License-Identifier: Apache-2.0
 *
 * POST /v1/vector_stores/{id}/search. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/embed.h"
#include "daemon/gateway/retrieval.h"

enum {
    RESULTS_DEFAULT = 10,
    QUERY_BYTES_MAX = 16384,
};

struct hob_searching {
    hob_conn *c;
    hob_retrieval *retrieval; /* NULL: it has ended, or not begun */
    hob_grant grant;
    json_t *queries; /* texts */
};

static void searching_free(hob_searching *s)
{
    s->c->searching = NULL;
    hob_grant_end(&s->grant);
    json_decref(s->queries);
    free(s);
}

void hob_search_drop(hob_conn *c)
{
    hob_searching *s = c->searching;
    if (!s)
        return;
    hob_retrieval_cancel(s->retrieval);
    hob_grant_use(&s->grant); /* the engine may have begun */
    searching_free(s);
}

/* ---- the answer ---- */

static void write_passage(hob_text *t, const hob_found *p)
{
    hob_text_format(t, "{\"file_id\":\"%s\",\"filename\":", p->file);
    hob_text_string(t, p->name, strlen(p->name));
    hob_text_format(t, ",\"score\":%.6f,\"attributes\":", p->score);
    hob_text_puts(t, p->attributes);
    hob_text_puts(t, ",\"content\":[{\"type\":\"text\",\"text\":");
    hob_text_string(t, p->text, p->text_len);
    hob_text_puts(t, "}],\"hob_heading\":");
    hob_text_string(t, p->heading, strlen(p->heading));
    hob_text_format(t, ",\"hob_first_byte\":%llu,\"hob_end_byte\":%llu}",
                    (unsigned long long)p->first_byte, (unsigned long long)p->end_byte);
}

static void respond(hob_searching *s, const hob_search_result *result, bool by_words)
{
    hob_conn *c = s->c;
    hob_text t = {0};
    hob_api_error e;
    hob_text_puts(&t, "{\"object\":\"vector_store.search_results.page\",\"search_query\":");
    hob_text_json(&t, s->queries);
    hob_text_puts(&t, ",\"data\":[");
    for (uint32_t i = 0; i < result->count; i++) {
        hob_text_puts(&t, i ? "," : "");
        write_passage(&t, &result->list[i]);
    }
    hob_text_format(&t, "],\"has_more\":false,\"next_page\":null,\"hob_by_words\":%s}\n",
                    by_words ? "true" : "false");
    if (t.failed)
        hob_conn_kill(c, "no memory for an answer");
    else if (hob_text_len(&t) > HOB_DOCUMENTS_ANSWER_MAX) {
        hob_documents_explain(HOB_ELIMIT,
                              "the passages are too long for one answer: ask for fewer with "
                              "`max_num_results`",
                              &e);
        hob_http_error(c, &e);
    } else
        hob_http_respond(c, 200, "application/json", "", hob_text_data(&t), hob_text_len(&t));
    hob_text_free(&t);
}

static void retrieved(void *user, int code, const char *why, hob_search_result *result,
                      bool by_words)
{
    hob_searching *s = user;
    hob_api_error e;
    hob_grant_use(&s->grant);
    if (code < 0) {
        hob_documents_explain(code, why, &e);
        hob_http_error(s->c, &e);
    } else
        respond(s, result, by_words);
    searching_free(s);
}

/* ---- the request ---- */

static int take_queries(json_t *body, json_t **ret, hob_api_error *e)
{
    json_t *query = json_object_get(body, "query"), *one;
    size_t i;
    if (!query)
        return hob_api_bad(e, "missing_required_parameter", "query", "query is needed");
    json_t *list = json_is_array(query) ? json_incref(query) : json_pack("[O]", query);
    *ret = list;
    if (json_array_size(list) == 0 || json_array_size(list) > HOB_SEARCH_QUERIES_MAX)
        return hob_api_bad(e, "invalid_value", "query", "query: a text, or 1 to %d of them",
                           HOB_SEARCH_QUERIES_MAX);
    json_array_foreach(list, i, one)
    {
        const char *text = json_string_value(one);
        if (!text || !text[0] || strlen(text) != json_string_length(one) ||
            json_string_length(one) > QUERY_BYTES_MAX)
            return hob_api_bad(e, "invalid_value", "query",
                               "query: a text of 1 to %d bytes is needed", QUERY_BYTES_MAX);
    }
    return 0;
}

static int take_ranking(json_t *v, hob_retrieval_request *r, hob_api_error *e)
{
    const char *ranker = json_string_value(json_object_get(v, "ranker"));
    json_t *threshold = json_object_get(v, "score_threshold");
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_object(v) || hob_documents_known(v, " ranker score_threshold ", e) < 0)
        return e->status ? HOB_EINVAL
                         : hob_api_bad(e, "invalid_type", "ranking_options",
                                       "ranking_options: an object is needed");
    if (json_object_get(v, "ranker") &&
        (!ranker || (strcmp(ranker, "auto") != 0 && strcmp(ranker, "default-2024-11-15") != 0 &&
                     strcmp(ranker, "none") != 0)))
        return hob_api_bad(e, "invalid_value", "ranking_options",
                           "ranking_options.ranker: auto, default-2024-11-15 or none is allowed");
    r->meaning_only = ranker && strcmp(ranker, "none") == 0;
    r->threshold = json_number_value(threshold);
    if (threshold && !json_is_null(threshold) &&
        !(json_is_number(threshold) && r->threshold >= 0 && r->threshold <= 1))
        return hob_api_bad(e, "invalid_value", "ranking_options",
                           "ranking_options.score_threshold: 0 to 1 is allowed");
    r->words_threshold = r->threshold;
    return 0;
}

static int take_body(json_t *body, hob_retrieval_request *r, json_t **ret_queries, hob_api_error *e)
{
    json_t *most = json_object_get(body, "max_num_results"),
           *rewrite = json_object_get(body, "rewrite_query");
    hob_diag diag;
    if (hob_documents_known(body, " query filters max_num_results ranking_options rewrite_query ",
                            e) < 0 ||
        take_queries(body, ret_queries, e) < 0 ||
        take_ranking(json_object_get(body, "ranking_options"), r, e) < 0)
        return HOB_EINVAL;
    r->k = RESULTS_DEFAULT;
    if (most && !json_is_null(most)) {
        const json_int_t n = json_is_integer(most) ? json_integer_value(most) : 0;
        if (n < 1 || n > HOB_SEARCH_RESULTS_MAX)
            return hob_api_bad(e, "invalid_value", "max_num_results",
                               "max_num_results: 1 to %d are allowed", HOB_SEARCH_RESULTS_MAX);
        r->k = (uint32_t)n;
    }
    if (rewrite && !json_is_null(rewrite) && !json_is_boolean(rewrite))
        return hob_api_bad(e, "invalid_type", "rewrite_query",
                           "rewrite_query: a boolean is needed");
    r->filter = json_object_get(body, "filters");
    if (json_is_null(r->filter))
        r->filter = NULL;
    if (r->filter && hob_filter_check(r->filter, &diag) < 0)
        return hob_api_bad(e, "invalid_value", "filters", "%s", diag.text);
    return 0;
}

void hob_search_serve(hob_conn *c, json_t *body)
{
    hob_retrieval_request r = {.scope = hob_documents_scope(c->key)};
    const char *collection = c->ids[0], *queries[HOB_SEARCH_QUERIES_MAX];
    const int model = hob_embed_default_model(c->g);
    hob_searching *s = calloc(1, sizeof *s);
    hob_api_error e = {0};

    if (!s) {
        hob_documents_no_memory(c);
        return;
    }
    s->c = c;
    c->searching = s;
    if (take_body(body, &r, &s->queries, &e) < 0 ||
        hob_grant_count(c->g, &c->g->links[model < 0 ? 0 : model], c->key, &s->grant, &e) < 0) {
        searching_free(s);
        hob_http_error(c, &e);
        return;
    }
    for (size_t i = 0; i < json_array_size(s->queries); i++)
        queries[i] = json_string_value(json_array_get(s->queries, i));
    r.collections = &collection;
    r.collection_count = 1;
    r.queries = queries;
    r.query_count = (uint32_t)json_array_size(s->queries);
    if (!(s->retrieval = hob_retrieve(c->g, &r, retrieved, s))) {
        searching_free(s);
        hob_documents_no_memory(c);
        return;
    }
    c->state = HOB_CONN_BUSY;
}
