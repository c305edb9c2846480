/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics: the gateway itself, its connections, and what is done with documents. The rest of it is in metrics_requests.c,
 * metrics_engines.c and metrics_memory.c. */
#include "daemon/gateway/metrics.h"

#include "daemon/gateway/ingest.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

const char *hob_route_name(hob_route r)
{
    static const char *const names[HOB_ROUTES] = {[HOB_ROUTE_NONE] = "none",
                                                  [HOB_ROUTE_LIVEZ] = "livez",
                                                  [HOB_ROUTE_READYZ] = "readyz",
                                                  [HOB_ROUTE_METRICS] = "metrics",
                                                  [HOB_ROUTE_STATS] = "stats",
                                                  [HOB_ROUTE_MODELS] = "models",
                                                  [HOB_ROUTE_MODEL] = "model",
                                                  [HOB_ROUTE_CHAT] = "chat",
                                                  [HOB_ROUTE_COMPLETION] = "completions",
                                                  [HOB_ROUTE_RESPONSES] = "responses",
                                                  [HOB_ROUTE_RESPONSE] = "response",
                                                  [HOB_ROUTE_RESPONSE_CANCEL] = "response_cancel",
                                                  [HOB_ROUTE_RESPONSE_INPUT] = "response_input",
                                                  [HOB_ROUTE_ESTIMATE] = "estimate",
                                                  [HOB_ROUTE_EMBEDDINGS] = "embeddings",
                                                  [HOB_ROUTE_DOCUMENTS] = "documents",
                                                  [HOB_ROUTE_ADMIN] = "admin",
                                                  [HOB_ROUTE_CONSOLE] = "console"};
    return names[r] ? names[r] : "other";
}

const char *hob_shed_name(hob_shed s)
{
    static const char *const names[HOB_SHEDS] = {"max_waiting", "max_waiting_tokens",
                                                 "large_requests", "patience_ms", "max_estimates"};
    return names[s];
}

void hob_metrics_model(const hob_link *l, char ret[HOB_LABELS_MAX])
{
    snprintf(ret, HOB_LABELS_MAX, "model=\"%s\"", l->model->name);
}

void hob_metrics_status(hob_metrics *m, hob_route route, int status)
{
    for (size_t i = 0; i < HOB_STATUS_KINDS; i++)
        if (m->statuses[i] == status || m->statuses[i] == 0) {
            m->statuses[i] = status;
            m->responses[route][i]++;
            return;
        }
}

static void process(const hob_gateway *g, hob_text *t)
{
    hob_expose_family(t, "hob_build_info", "gauge", "Which hob it is.");
    hob_expose_sample(t, "hob_build_info", "version=\"" HOB_VERSION "\"", 1);
    hob_expose_gauge(t, "hob_uptime_seconds", "Since the gateway started.",
                     (double)(hob_now_us() - g->started_us) / 1e6);
    hob_expose_gauge(t, "process_start_time_seconds", "When the gateway started, since 1970.",
                     (double)g->started_s);
    hob_expose_counter(t, "process_cpu_seconds_total", "Processor time of the gateway.",
                       hob_cpu_seconds());
    hob_expose_gauge(t, "process_resident_memory_bytes", "Memory that the gateway has resident.",
                     (double)hob_resident_bytes());
    hob_expose_gauge(t, "process_open_fds", "Open descriptors of the gateway.", hob_open_files());
    hob_expose_gauge(
        t, "hob_cpu_busy_ratio",
        "Part of the last second in which the machine's processors were busy, by anyone.",
        g->load.busy_ratio);
    if (g->front->tls)
        hob_expose_gauge(t, "hob_certificate_expiry_timestamp_seconds",
                         "When the server's certificate ends, since 1970.",
                         (double)g->front->certificate.ends_s);
    hob_expose_counter(t, "hob_reloads_total", "Configurations taken over from hob.conf by SIGHUP.",
                       (double)g->metrics.reloads);
    hob_expose_counter(t, "hob_reloads_refused_total", "Configurations that were wrong.",
                       (double)g->metrics.reloads_refused);
}

static void responses(const hob_metrics *m, hob_text *t)
{
    char labels[HOB_LABELS_MAX];
    hob_expose_family(t, "hob_responses_total", "counter",
                      "Responses and error events by route and status.");
    for (int r = 0; r < HOB_ROUTES; r++)
        for (size_t i = 0; i < HOB_STATUS_KINDS && m->statuses[i]; i++) {
            if (m->responses[r][i] == 0)
                continue;
            snprintf(labels, sizeof labels, "route=\"%s\",code=\"%d\"",
                     hob_route_name((hob_route)r), m->statuses[i]);
            hob_expose_sample(t, "hob_responses_total", labels, (double)m->responses[r][i]);
        }
}

static void connections(const hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;
    hob_expose_gauge(t, "hob_connections", "Open client connections.", g->conn_count);
    hob_expose_counter(t, "hob_connections_total", "Client connections accepted.",
                       (double)m->connections);
    hob_expose_counter(t, "hob_connections_refused_total", "Client connections over a limit.",
                       (double)m->refused_connections);
    hob_expose_counter(t, "hob_connections_stalled_total",
                       "Connections closed because nobody read.", (double)m->stalled_closes);
    hob_expose_counter(t, "hob_websockets_total", "WebSocket connections.", (double)m->websockets);
    hob_expose_gauge(t, "hob_console_sessions", "Sessions of the console.",
                     hob_sessions_count(&g->sessions, hob_now_us() / 1000));
    hob_expose_counter(t, "hob_sent_bytes_total", "Bytes written to clients, before TLS.",
                       (double)m->bytes_out);
}

static void documents(const hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;
    hob_vectors_stats index = {0};
    uint32_t busy = 0;

    if (!g->ingest)
        return;
    if (g->ingest->index.vectors)
        hob_vectors_get_stats(g->ingest->index.vectors, &index);
    for (uint32_t i = 0; i < HOB_INGEST_PLACES; i++)
        busy += g->ingest->places[i].state == HOB_PLACE_EXTRACT ||
                g->ingest->places[i].state == HOB_PLACE_EMBED;
    hob_expose_counter(t, "hob_uploaded_bytes_total", "Bytes of files that were stored.",
                       (double)m->uploaded_bytes);
    hob_expose_counter(t, "hob_documents_completed_total", "Documents that can be searched.",
                       (double)m->documents);
    hob_expose_counter(t, "hob_documents_failed_total", "Files that nothing could be made of.",
                       (double)m->documents_failed);
    hob_expose_gauge(t, "hob_documents_in_progress", "Files that are being extracted or embedded.",
                     busy);
    hob_expose_counter(t, "hob_searches_total", "Searches in documents.", (double)m->searches);
    hob_expose_counter(
        t, "hob_searches_by_words_total",
        "Of those, without the nearest vectors, because there were none or it took too long.",
        (double)m->searches_by_words);
    hob_expose_counter(t, "hob_search_seconds_total",
                       "From the query, its vector included, to what was found.",
                       (double)m->search_us / 1e6);
    hob_expose_gauge(t, "hob_vector_index_rows", "Vectors in the index.", (double)index.rows);
    hob_expose_gauge(t, "hob_vector_index_bytes", "Memory that the index of vectors takes.",
                     (double)index.bytes);
    hob_expose_gauge(t, "hob_vector_index_limit_bytes", "What it may take.",
                     (double)hob_index_limit(g->conf));
}

static void records(const hob_gateway *g, hob_text *t)
{
    uint64_t sent;
    const uint64_t dropped = hob_traces_dropped(g, &sent);
    hob_expose_counter(t, "hob_traces_total", "Traces that were kept.", (double)hob_traces_kept(g));
    hob_expose_counter(t, "hob_traces_sent_total", "Traces that the collector has taken.",
                       (double)sent);
    hob_expose_counter(t, "hob_traces_dropped_total",
                       "Traces that were for the collector and are lost.", (double)dropped);
    hob_expose_counter(t, "hob_log_dropped_total",
                       "Lines of the log that the standard error did not take, or not in time.",
                       (double)hob_log_dropped());
}

static void retrieval(const hob_gateway *g, hob_text *t)
{
    const hob_metrics *m = &g->metrics;
    hob_expose_counter(t, "hob_retrievals_total", "Searches in documents for answers.",
                       (double)m->retrievals);
    hob_expose_counter(t, "hob_retrievals_late_total",
                       "Of those, answers that went on without because time was up.",
                       (double)m->retrievals_late);
    hob_expose_counter(t, "hob_retrieval_seconds_total", "Time that answers have waited for them.",
                       (double)m->retrieval_us / 1e6);
    hob_expose_counter(t, "hob_retrieved_chunks_total", "Chunks put into prompts.",
                       (double)m->retrieved_chunks);
    hob_expose_counter(t, "hob_retrieved_tokens_total", "Tokens by which prompts grew.",
                       (double)m->retrieved_tokens);
}

void hob_metrics_write(hob_gateway *g, hob_text *t)
{
    process(g, t);
    connections(g, t);
    responses(&g->metrics, t);
    hob_metrics_requests(g, t);
    hob_metrics_engines(g, t);
    hob_metrics_memory(g, t);
    documents(g, t);
    retrieval(g, t);
    records(g, t);
}
