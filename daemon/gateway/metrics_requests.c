/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics: inference requests, those that ended, those that wait, and the times that they took. Histograms of what never
 * came are left out. */
#include "daemon/gateway/meter.h"
#include "daemon/gateway/metrics.h"

static void place_labels(const hob_link *l, hob_arbiter_class class, char ret[HOB_LABELS_MAX])
{
    snprintf(ret, HOB_LABELS_MAX, "model=\"%s\",class=\"%s\"", l->model->name,
             hob_meter_class_name(class));
}

/* ---- ends ---- */

static const char *end_name(hob_end e)
{
    static const char *const names[] = {"stop", "length", "cancelled", "error"};
    return names[e];
}

static void ended(const hob_gateway *g, hob_text *t)
{
    const hob_meter *m = g->meter;
    char labels[HOB_LABELS_MAX];

    hob_expose_family(
        t, "hob_requests_ended_total", "counter",
        "Inference requests by how they ended, each choice of an answer one. status is "
        "that of an error also where a stream had begun; 499: the client left.");
    for (uint32_t i = 0; i < m->ended_count; i++) {
        const hob_ended *e = &m->ended[i];
        snprintf(labels, sizeof labels, "route=\"%s\",model=\"%s\",status=\"%u\",finish=\"%s\"",
                 hob_meter_route_name((hob_meter_route)e->route), g->links[e->model].model->name,
                 e->status, end_name((hob_end)e->end));
        hob_expose_sample(t, "hob_requests_ended_total", labels, (double)e->count);
    }
    if (m->ended_more > 0)
        hob_expose_sample(t, "hob_requests_ended_total",
                          "route=\"other\",model=\"other\",status=\"0\",finish=\"other\"",
                          (double)m->ended_more);
}

/* A counter with one label, of the values in a list. */
static void by_reason(hob_text *t, const char *name, const char *help, const char *(*word)(int),
                      const uint64_t *counts, int first, int end)
{
    char labels[HOB_LABELS_MAX];
    hob_expose_family(t, name, "counter", help);
    for (int i = first; i < end; i++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", word(i));
        hob_expose_sample(t, name, labels, (double)counts[i]);
    }
}

static const char *shed_word(int i)
{
    return hob_shed_name((hob_shed)i);
}
static const char *limit_word(int i)
{
    return hob_limits_reason((hob_quota_bound)i);
}
static const char *stranger_word(int i)
{
    static const char *const names[] = {"no_valid_key", "expired", "too_many"};
    return names[i];
}

static void by_model(const hob_gateway *g, hob_text *t, const char *name, const char *help,
                     const uint64_t *counts)
{
    char labels[HOB_LABELS_MAX];
    hob_expose_family(t, name, "counter", help);
    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_metrics_model(&g->links[i], labels);
        hob_expose_sample(t, name, labels, (double)counts[i]);
    }
}

static void counters(const hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;

    hob_expose_counter(t, "hob_requests_total", "Inference requests.", (double)m->jobs);
    hob_expose_counter(t, "hob_requests_finished_total", "Inference requests answered.",
                       (double)m->finished);
    hob_expose_counter(t, "hob_requests_cancelled_total",
                       "Inference requests whose client left or cancelled.", (double)m->cancelled);
    hob_expose_counter(t, "hob_requests_failed_total",
                       "Inference requests refused or ended by an error.", (double)m->failed);
    by_reason(t, "hob_requests_shed_total",
              "Inference requests refused because there was no room, or would have been too late.",
              shed_word, m->shed, 0, HOB_SHEDS);
    by_reason(t, "hob_requests_limited_total",
              "Inference requests refused by the limits of their keys.", limit_word, m->limited,
              HOB_QUOTA_OK + 1, HOB_QUOTA_BOUNDS);
    by_reason(t, "hob_authentication_failures_total", "Requests that came without a valid key.",
              stranger_word, m->strangers, 0, HOB_STRANGERS);
    hob_expose_counter(t, "hob_requests_recovered_total",
                       "Inference requests handed to a restarted engine.", (double)m->recovered);
    hob_expose_counter(t, "hob_requests_poisoned_total",
                       "Inference requests ended because the engine died of them.",
                       (double)m->poisoned);
    by_model(g, t, "hob_prompt_tokens_total", "Tokens of admitted prompts and embedded texts.",
             m->prompt_tokens);
    by_model(g, t, "hob_cached_tokens_total", "Of those, found in the prefix cache.",
             m->cached_tokens);
    by_model(g, t, "hob_answer_tokens_total", "Tokens generated.", m->answer_tokens);
}

/* ---- who waits ---- */

typedef struct waiting {
    uint32_t requests;
    uint64_t tokens;
} waiting;

static void count_waiting(const hob_gateway *g, waiting ret[HOB_CONF_MODELS_MAX][HOB_PRIORITIES])
{
    for (const hob_job *j = g->jobs; j; j = j->next) {
        if (j->first_token_us > 0 || j->state == HOB_JOB_LANE || j->state == HOB_JOB_ENDED ||
            j->request.estimate)
            continue;
        waiting *w = &ret[j->link->index][j->priority];
        w->requests++;
        w->tokens += j->prompt_tokens - j->cached_tokens + (uint64_t)j->max_tokens;
    }
}

static void queues(const hob_gateway *g, hob_text *t)
{
    waiting all[HOB_CONF_MODELS_MAX][HOB_PRIORITIES] = {0};
    char labels[HOB_LABELS_MAX];

    count_waiting(g, all);
    for (int tokens = 0; tokens < 2; tokens++) {
        const char *name = tokens ? "hob_queue_tokens" : "hob_queue_requests";
        hob_expose_family(t, name, "gauge",
                          tokens ? "Tokens of their prompts and answers, as far as they are known."
                                 : "Requests that wait for their first token.");
        for (uint32_t i = 0; i < g->link_count; i++)
            for (uint32_t p = 0; p < HOB_PRIORITIES && !g->links[i].dimensions; p++) {
                place_labels(&g->links[i], (hob_arbiter_class)(HOB_ARBITER_INTERACTIVE + p),
                             labels);
                hob_expose_sample(t, name, labels,
                                  tokens ? (double)all[i][p].tokens : (double)all[i][p].requests);
            }
    }
}

/* ---- times ---- */

static void times(const hob_gateway *g, hob_text *t)
{
    static const struct {
        const char *name, *help;
    } families[] = {
        [HOB_QUANTITY_FIRST_TOKEN] = {"hob_time_to_first_token_seconds",
                                      "From a request to its first token, as they leave the "
                                      "engine."},
        [HOB_QUANTITY_INTER_TOKEN] = {"hob_inter_token_latency_seconds",
                                      "From one token of an answer to the next."},
        [HOB_QUANTITY_DURATION] = {"hob_request_duration_seconds",
                                   "From a request to the end of its answer, of those that were "
                                   "answered in full."},
    };
    char labels[HOB_LABELS_MAX];

    for (int q = 0; q < HOB_QUANTITY_QUEUE; q++) {
        hob_expose_family(t, families[q].name, "histogram", families[q].help);
        for (uint32_t i = 0; i < g->link_count; i++)
            for (int c = 0; c < HOB_ARBITER_CLASSES; c++) {
                const hob_histogram *h = &g->meter->times[q][i][c];
                if (hob_histogram_count(h) == 0)
                    continue;
                place_labels(&g->links[i], (hob_arbiter_class)c, labels);
                hob_expose_histogram(t, families[q].name, labels, h);
            }
    }
}

static void stages(const hob_gateway *g, hob_text *t)
{
    static const char *const parts[] = {"embed", "words", "vectors", "fuse"};
    char labels[HOB_LABELS_MAX];

    hob_expose_family(
        t, "hob_request_stage_seconds", "histogram",
        "Parts of requests, one after another: those up to prefill are the time to the "
        "first token, decode the rest.");
    for (uint32_t i = 0; i < g->link_count; i++)
        for (int s = 0; s < HOB_METER_STAGES; s++) {
            const hob_histogram *h = &g->meter->stages[i][s];
            if (hob_histogram_count(h) == 0)
                continue;
            snprintf(labels, sizeof labels, "model=\"%s\",stage=\"%s\"", g->links[i].model->name,
                     hob_meter_stage_name((hob_meter_stage)s));
            hob_expose_histogram(t, "hob_request_stage_seconds", labels, h);
        }
    if (!g->ingest)
        return;
    hob_expose_family(
        t, "hob_retrieval_stage_seconds", "histogram",
        "Parts of searches in documents, those of the search route too: the question's "
        "vector, BM25, the nearest vectors, putting both together.");
    for (int s = 0; s < HOB_STAGES; s++) {
        snprintf(labels, sizeof labels, "stage=\"%s\"", parts[s]);
        hob_expose_histogram(t, "hob_retrieval_stage_seconds", labels, &g->meter->retrieval[s]);
    }
}

void hob_metrics_requests(hob_gateway *g, hob_text *t)
{
    uint32_t suspects = 0;
    for (uint32_t i = 0; i < g->link_count; i++)
        suspects += g->links[i].suspects;
    counters(g, t);
    ended(g, t);
    queues(g, t);
    hob_expose_gauge(t, "hob_requests_background", "Responses that run in the background.",
                     g->background_count);
    hob_expose_gauge(
        t, "hob_requests_suspect",
        "Inference requests that run alone, or wait to, because engines died with them.", suspects);
    times(g, t);
    stages(g, t);
}
