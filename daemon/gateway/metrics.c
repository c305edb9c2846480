/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters, and their text in Prometheus' exposition format 0.0.4. An engine's STATS are passed on by name, so that a
 * counter added there shows up here; only names and numbers are taken from it. */
#include <string.h>

#include "daemon/gateway/ingest.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

static const uint32_t ttft_bounds_ms[HOB_TTFT_BUCKETS] = {50,   100,  200,   500,   1000,
                                                          2000, 5000, 10000, 30000, 60000};

void hob_metrics_status(hob_metrics *m, int status)
{
    for (size_t i = 0; i < HOB_STATUS_KINDS; i++)
        if (m->responses[i].status == status || m->responses[i].status == 0) {
            m->responses[i].status = status;
            m->responses[i].count++;
            return;
        }
}

void hob_metrics_ttft(hob_metrics *m, uint64_t us)
{
    size_t i = 0;
    while (i < HOB_TTFT_BUCKETS && us > ttft_bounds_ms[i] * (uint64_t)1000)
        i++;
    m->ttft[i]++;
    m->ttft_us += us;
    m->ttft_count++;
}

void hob_metrics_stage(hob_metrics *m, hob_stage stage, uint64_t us)
{
    m->stages[stage].count++;
    m->stages[stage].us += us;
}

static void one(hob_text *t, const char *name, const char *type, const char *help, double value)
{
    hob_text_format(t, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name,
                    value);
}

static bool is_counter(const char *name)
{
    static const char *const gauges[] = {
        "running",        "waiting",         "stalled",
        "kv_blocks",      "kv_blocks_free",  "kv_blocks_kept",
        "resident_bytes", "device_bytes",    "cost_error_ratio",
        "cost_step_1_us", "cost_step_16_us", "cost_step_128_us",
        "cost_attend_us", "waiting_texts",   "embed_tokens_per_second"};
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        if (strcmp(name, gauges[i]) == 0)
            return false;
    return true;
}

/* Whether an engine before this one has a figure of that name. */
static bool is_known(const hob_gateway *g, uint32_t before, const char *name)
{
    for (uint32_t i = 0; i < before; i++)
        if (json_object_get(g->links[i].stats, name))
            return true;
    return false;
}

/* All samples of one name have to stand together; engines that embed have other figures than those that generate. */
static void engine_stats(hob_gateway *g, hob_text *t)
{
    const char *name;
    json_t *value;

    for (uint32_t first = 0; first < g->link_count; first++)
        json_object_foreach(g->links[first].stats, name, value)
        {
            if (!json_is_number(value) || strlen(name) > 60 ||
                strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name) ||
                is_known(g, first, name))
                continue;
            const char *suffix = is_counter(name) ? "_total" : "";
            hob_text_format(t, "# TYPE hob_engine_%s%s %s\n", name, suffix,
                            is_counter(name) ? "counter" : "gauge");
            for (uint32_t i = first; i < g->link_count; i++) {
                json_t *n = json_object_get(g->links[i].stats, name);
                if (json_is_number(n))
                    hob_text_format(t, "hob_engine_%s%s{model=\"%u\"} %.17g\n", name, suffix, i,
                                    json_number_value(n));
            }
        }
}

static void engine_state(hob_gateway *g, hob_text *t)
{
    hob_text_puts(t,
                  "# HELP hob_engine_info The models by number.\n# TYPE hob_engine_info gauge\n");
    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_text_format(t, "hob_engine_info{model=\"%u\",name=", i);
        hob_text_string(t, g->conf->models[i].name, strlen(g->conf->models[i].name));
        hob_text_puts(t, "} 1\n");
    }
    hob_text_puts(t,
                  "# HELP hob_engine_up Whether the engine answers.\n# TYPE hob_engine_up gauge\n");
    for (uint32_t i = 0; i < g->link_count; i++)
        hob_text_format(t, "hob_engine_up{model=\"%u\"} %d\n", i,
                        g->links[i].state == HOB_LINK_READY);
    hob_text_puts(
        t, "# HELP hob_engine_device_failed Whether the engine runs on the CPU because its device "
           "failed.\n# TYPE hob_engine_device_failed gauge\n");
    for (uint32_t i = 0; i < g->link_count; i++)
        hob_text_format(t, "hob_engine_device_failed{model=\"%u\"} %d\n", i, g->links[i].benched);
    hob_text_puts(t, "# HELP hob_engine_restarts_total Engines given up.\n# TYPE "
                     "hob_engine_restarts_total counter\n");
    for (uint32_t i = 0; i < g->link_count; i++)
        hob_text_format(t, "hob_engine_restarts_total{model=\"%u\"} %llu\n", i,
                        (unsigned long long)g->links[i].restarts);
    hob_text_puts(t,
                  "# HELP hob_engine_jobs Requests at the engine.\n# TYPE hob_engine_jobs gauge\n");
    for (uint32_t i = 0; i < g->link_count; i++)
        hob_text_format(t, "hob_engine_jobs{model=\"%u\"} %u\n", i, g->links[i].jobs);
}

static void ttft(const hob_metrics *m, hob_text *t)
{
    uint64_t sum = 0;
    hob_text_puts(t, "# HELP hob_ttft_seconds Time from a request to its first token.\n# TYPE "
                     "hob_ttft_seconds histogram\n");
    for (size_t i = 0; i < HOB_TTFT_BUCKETS; i++) {
        sum += m->ttft[i];
        hob_text_format(t, "hob_ttft_seconds_bucket{le=\"%g\"} %llu\n", ttft_bounds_ms[i] / 1000.0,
                        (unsigned long long)sum);
    }
    hob_text_format(t,
                    "hob_ttft_seconds_bucket{le=\"+Inf\"} %llu\nhob_ttft_seconds_sum "
                    "%.6f\nhob_ttft_seconds_count %llu\n",
                    (unsigned long long)m->ttft_count, (double)m->ttft_us / 1e6,
                    (unsigned long long)m->ttft_count);
}

static void documents(const hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;
    hob_vectors_stats index = {0};

    if (!g->ingest)
        return;
    if (g->ingest->index.vectors)
        hob_vectors_get_stats(g->ingest->index.vectors, &index);
    one(t, "hob_uploaded_bytes_total", "counter", "Bytes of files that were stored.",
        (double)m->uploaded_bytes);
    one(t, "hob_documents_completed_total", "counter", "Documents that can be searched.",
        (double)m->documents);
    one(t, "hob_documents_failed_total", "counter", "Files that nothing could be made of.",
        (double)m->documents_failed);
    one(t, "hob_searches_total", "counter", "Searches in documents.", (double)m->searches);
    one(t, "hob_searches_by_words_total", "counter",
        "Of those, without the nearest vectors, because there were none or it took too long.",
        (double)m->searches_by_words);
    one(t, "hob_search_seconds_total", "counter",
        "From the query, its vector included, to what was found.", (double)m->search_us / 1e6);
    one(t, "hob_vector_index_rows", "gauge", "Vectors in the index.", (double)index.rows);
    one(t, "hob_vector_index_bytes", "gauge", "Memory that the index of vectors takes.",
        (double)index.bytes);
    one(t, "hob_vector_index_limit_bytes", "gauge", "What it may take.",
        (double)hob_index_limit(g->conf));
}

static void retrieval(const hob_metrics *m, hob_text *t)
{
    static const char *const names[] = {"embed", "words", "vectors", "fuse"};
    one(t, "hob_retrievals_total", "counter", "Searches in documents for answers.",
        (double)m->retrievals);
    one(t, "hob_retrievals_late_total", "counter",
        "Of those, answers that went on without because time was up.", (double)m->retrievals_late);
    one(t, "hob_retrieval_seconds_total", "counter", "Time that answers have waited for them.",
        (double)m->retrieval_us / 1e6);
    one(t, "hob_retrieved_chunks_total", "counter", "Chunks put into prompts.",
        (double)m->retrieved_chunks);
    one(t, "hob_retrieved_tokens_total", "counter", "Tokens by which prompts grew.",
        (double)m->retrieved_tokens);
    hob_text_puts(t, "# HELP hob_retrieval_stage_seconds Time of the parts of searches in "
                     "documents, those of the search route too.\n"
                     "# TYPE hob_retrieval_stage_seconds summary\n");
    for (int i = 0; i < HOB_STAGES; i++)
        hob_text_format(t,
                        "hob_retrieval_stage_seconds_sum{stage=\"%s\"} %.6f\n"
                        "hob_retrieval_stage_seconds_count{stage=\"%s\"} %llu\n",
                        names[i], (double)m->stages[i].us / 1e6, names[i],
                        (unsigned long long)m->stages[i].count);
}

void hob_metrics_write(hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;
    size_t outboxes = 0;
    for (const hob_conn *c = g->conns; c; c = c->next)
        outboxes += c->out_bytes;
    size_t stored = 0;
    for (const hob_response *r = g->responses; r; r = r->next)
        stored += hob_response_bytes(r);
    uint32_t suspects = 0;
    for (uint32_t i = 0; i < g->link_count; i++)
        suspects += g->links[i].suspects;

    one(t, "hob_uptime_seconds", "gauge", "Since the gateway started.",
        (double)(hob_now_us() - g->started_us) / 1e6);
    one(t, "hob_connections", "gauge", "Open client connections.", g->conn_count);
    one(t, "hob_connections_total", "counter", "Client connections accepted.",
        (double)m->connections);
    one(t, "hob_connections_refused_total", "counter", "Client connections over a limit.",
        (double)m->refused_connections);
    one(t, "hob_connections_stalled_total", "counter", "Connections closed because nobody read.",
        (double)m->stalled_closes);
    one(t, "hob_reloads_total", "counter", "Configurations taken over from hob.conf by SIGHUP.",
        (double)m->reloads);
    one(t, "hob_reloads_refused_total", "counter", "Configurations that were wrong.",
        (double)m->reloads_refused);
    one(t, "hob_websockets_total", "counter", "WebSocket connections.", (double)m->websockets);
    hob_text_puts(t, "# HELP hob_responses_total Responses and error events by status.\n# TYPE "
                     "hob_responses_total counter\n");
    for (size_t i = 0; i < HOB_STATUS_KINDS && m->responses[i].status; i++)
        hob_text_format(t, "hob_responses_total{code=\"%d\"} %llu\n", m->responses[i].status,
                        (unsigned long long)m->responses[i].count);
    one(t, "hob_requests_total", "counter", "Inference requests.", (double)m->jobs);
    one(t, "hob_requests_finished_total", "counter", "Inference requests answered.",
        (double)m->finished);
    one(t, "hob_requests_cancelled_total", "counter",
        "Inference requests whose client left or cancelled.", (double)m->cancelled);
    one(t, "hob_requests_failed_total", "counter",
        "Inference requests refused or ended by an error.", (double)m->failed);
    one(t, "hob_requests_shed_total", "counter",
        "Inference requests refused because they would have waited too long.", (double)m->shed);
    hob_text_puts(t,
                  "# HELP hob_requests_limited_total Inference requests refused by the limits of "
                  "their keys.\n# TYPE hob_requests_limited_total counter\n");
    for (int i = HOB_QUOTA_OK + 1; i < HOB_QUOTA_BOUNDS; i++)
        hob_text_format(t, "hob_requests_limited_total{reason=\"%s\"} %llu\n",
                        hob_limits_reason((hob_quota_bound)i), (unsigned long long)m->limited[i]);
    one(t, "hob_requests_recovered_total", "counter",
        "Inference requests handed to a restarted engine.", (double)m->recovered);
    one(t, "hob_requests_poisoned_total", "counter",
        "Inference requests ended because the engine died of them.", (double)m->poisoned);
    one(t, "hob_requests_suspect", "gauge",
        "Inference requests that run alone, or wait to, because engines died with them.", suspects);
    one(t, "hob_requests_background", "gauge", "Responses that run in the background.",
        g->background_count);
    one(t, "hob_stored_responses", "gauge", "Responses that are kept.", g->response_count);
    one(t, "hob_stored_responses_bytes", "gauge", "About what they take.", (double)stored);
    one(t, "hob_prompt_tokens_total", "counter", "Tokens of admitted prompts.",
        (double)m->prompt_tokens);
    one(t, "hob_cached_tokens_total", "counter", "Of those, found in the prefix cache.",
        (double)m->cached_tokens);
    one(t, "hob_answer_tokens_total", "counter", "Tokens generated.", (double)m->answer_tokens);
    one(t, "hob_sent_bytes_total", "counter", "Bytes written to clients, before TLS.",
        (double)m->bytes_out);
    uint64_t sent;
    const uint64_t dropped = hob_traces_dropped(g, &sent);
    one(t, "hob_traces_total", "counter", "Traces that were kept.", (double)hob_traces_kept(g));
    one(t, "hob_traces_sent_total", "counter", "Traces that the collector has taken.",
        (double)sent);
    one(t, "hob_traces_dropped_total", "counter",
        "Traces that were for the collector and are lost.", (double)dropped);
    one(t, "hob_log_dropped_total", "counter",
        "Lines of the log that the standard error did not take in time.",
        (double)hob_log_dropped());
    one(t, "hob_outbox_bytes", "gauge", "Bytes waiting for slow readers.", (double)outboxes);
    one(t, "hob_buffers_bytes", "gauge",
        "Held for requests, readers and recovery in the gateway, in all.",
        (double)hob_buffers_bytes(g));
    one(t, "hob_buffers_limit_bytes", "gauge",
        "Of those, at most, before requests are refused; 0: no limit.",
        (double)hob_buffers_limit(g->conf));
    documents(g, t);
    ttft(m, t);
    retrieval(m, t);
    engine_state(g, t);
    engine_stats(g, t);
}
