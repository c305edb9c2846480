/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics: the memory ledger, by line. The lines overlap nowhere; what the programs themselves and the allocator take is in
 * none, but in the resident bytes of the processes. */
#include "daemon/gateway/ingest.h"
#include "daemon/gateway/meter.h"
#include "daemon/gateway/metrics.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

/* A number that an engine gives; nothing else is taken. */
static double figure(const json_t *o, const char *name)
{
    const double v = json_number_value(json_object_get(o, name));
    return v > 0 && v < 1e18 ? v : 0;
}

static void line(hob_text *t, const char *name, double bytes)
{
    char labels[HOB_LABELS_MAX];
    snprintf(labels, sizeof labels, "line=\"%s\"", name);
    hob_expose_sample(t, "hob_memory_bytes", labels, bytes);
}

void hob_metrics_memory(hob_gateway *g, hob_text *t)
{
    size_t waiting = 0, outboxes = 0, stored = 0;
    double weights = 0, kv = 0;
    hob_vectors_stats index = {0};

    for (const hob_conn *c = g->conns; c; c = c->next) {
        waiting += c->out_bytes;
        outboxes += c->out.capacity;
    }
    for (const hob_response *r = g->responses; r; r = r->next)
        stored += hob_response_bytes(r);
    for (uint32_t i = 0; i < g->link_count; i++) {
        const hob_link *l = &g->links[i];
        weights += l->state == HOB_LINK_READY ? figure(l->hello, "weight_bytes") : 0;
        kv += l->state == HOB_LINK_READY ? figure(l->stats, "kv_bytes") : 0;
    }
    if (g->ingest && g->ingest->index.vectors)
        hob_vectors_get_stats(g->ingest->index.vectors, &index);
    const size_t buffers = hob_buffers_bytes(g), others = outboxes + stored;

    hob_expose_family(
        t, "hob_memory_bytes", "gauge",
        "The memory ledger: weights and KV caches of the engines, the index of vectors, "
        "requests with what recovery needs, outboxes, stored responses, quantiles, traces, the "
        "log.");
    line(t, "weights", weights);
    line(t, "kv_cache", kv);
    line(t, "vector_index", (double)index.bytes);
    line(t, "requests", buffers > others ? (double)(buffers - others) : 0);
    line(t, "outboxes", (double)outboxes);
    line(t, "stored_responses", (double)stored);
    line(t, "quantiles", (double)hob_meter_bytes(g));
    line(t, "traces", (double)hob_traces_bytes(g));
    line(t, "log", HOB_LOG_BYTES);
    hob_expose_gauge(
        t, "hob_memory_limit_bytes",
        "What all processes together may have resident, limits.memory_mb; 0: no limit.",
        (double)((uint64_t)g->conf->memory_mb << 20));
    hob_expose_gauge(t, "hob_outbox_bytes", "Bytes waiting for slow readers.", (double)waiting);
    hob_expose_gauge(t, "hob_buffers_bytes",
                     "Held for requests, readers, recovery and stored responses in the gateway.",
                     (double)buffers);
    hob_expose_gauge(t, "hob_buffers_limit_bytes",
                     "Of those, at most, before requests are refused; 0: no limit.",
                     (double)hob_buffers_limit(g->conf));
    hob_expose_gauge(t, "hob_stored_responses", "Responses that are kept.", g->response_count);
    hob_expose_gauge(t, "hob_stored_responses_bytes", "About what they take.", (double)stored);
}
