/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics: the engines. Of an engine's STATS those figures are passed on that stand in the table here; what it says is a
 * number or nothing. */
#include <math.h>
#include <string.h>

#include "daemon/gateway/metrics.h"

/* The figure `name` of STATS, as `family`; a time in microseconds becomes seconds. */
static const struct known {
    const char *name, *family, *help;
    double scale;
} counters[] =
    {
        {"steps", "steps", "Steps: each one forward pass over rows of several requests.", 1},
        {"prefill_tokens", "prefill_tokens", "Tokens of prompts that were computed.", 1},
        {"decode_tokens", "decode_tokens", "Rows that made a token of an answer each.", 1},
        {"cached_tokens", "cached_tokens", "Tokens of prompts that the prefix cache held.", 1},
        {"embed_texts", "embed_texts", "Texts that were embedded.", 1},
        {"embed_tokens", "embed_tokens", "Their tokens.", 1},
        {"finished", "finished", "Requests that came to their end in the engine.", 1},
        {"cancelled", "cancelled", "Requests that were cancelled in the engine.", 1},
        {"preempted", "preemptions", "Running requests set back for others.", 1},
        {"parked", "parked", "Running requests set back because nobody read them.", 1},
        {"prefill_us", "prefill_seconds", "Time of steps, the part of prompts by their rows.",
         1e-6},
        {"decode_us", "decode_seconds", "Time of steps, the part of answers by their rows.", 1e-6},
        {"embed_us", "embed_seconds", "Time of steps that embed.", 1e-6},
        {"cpu_us", "cpu_seconds", "Processor time of all threads of the engine.", 1e-6},
        {"device_busy_us", "device_busy_seconds", "Time in which the device computed.", 1e-6},
},
  gauges[] = {
      {"running", "running", "Requests that share the steps.", 1},
      {"waiting", "waiting", "Requests that wait for a place among them.", 1},
      {"stalled", "stalled", "Requests that wait for their readers.", 1},
      {"waiting_texts", "waiting_texts", "Texts that wait to be embedded.", 1},
      {"rows_per_step", "rows_per_step", "Rows of a step, on average over the last second.", 1},
      {"prefix_hit_ratio", "prefix_hit_ratio",
       "Tokens of prompts that the prefix cache held, of all since the engine started.", 1},
      {"kv_blocks", "kv_blocks", "Blocks of the KV cache.", 1},
      {"kv_blocks_free", "kv_blocks_free", "Of those, in no request's use.", 1},
      {"kv_blocks_kept", "kv_blocks_kept", "Of the free ones, with known prefixes.", 1},
      {"resident_bytes", "resident_bytes", "Memory that the process has resident.", 1},
      {"device_bytes", "device_bytes", "Memory of the device in use.", 1},
      {"device_busy_ratio", "device_busy_ratio", "Part of the last second in which it computed.",
       1},
      {"embed_tokens_per_second", "embed_tokens_per_second", "Speed of full steps of late.", 1},
      {"cost_error_ratio", "cost_error_ratio", "How wrong predictions of steps are of late.", 1},
      {"cost_step_1_us", "cost_step_1_seconds", "Predicted time of a step of 1 row.", 1e-6},
      {"cost_step_16_us", "cost_step_16_seconds", "Predicted time of a step of 16 rows.", 1e-6},
      {"cost_step_128_us", "cost_step_128_seconds", "Predicted time of a step of 128 rows.", 1e-6},
      {"cost_attend_us", "cost_attend_seconds", "Predicted time for attending to 65,536 positions.",
       1e-6},
};

/* Engines that embed have other figures than those that generate; the samples of one name have to stand together. live: only
 * of engines that run, since what a dead one used it does not use any more. */
static void figures(const hob_gateway *g, hob_text *t, const struct known *list, size_t count,
                    const char *type, const char *suffix, bool live)
{
    char labels[HOB_LABELS_MAX], name[96];

    for (size_t k = 0; k < count; k++) {
        bool begun = false;
        snprintf(name, sizeof name, "hob_engine_%s%s", list[k].family, suffix);
        for (uint32_t i = 0; i < g->link_count; i++) {
            const hob_link *l = &g->links[i];
            const json_t *v = json_object_get(l->stats, list[k].name);
            if ((live && (l->state != HOB_LINK_READY || !l->told)) || !json_is_number(v) ||
                !isfinite(json_number_value(v)))
                continue;
            if (!begun)
                hob_expose_family(t, name, type, list[k].help);
            begun = true;
            hob_metrics_model(l, labels);
            hob_expose_sample(t, name, labels, json_number_value(v) * list[k].scale);
        }
    }
}

/* False: it is none. */
static bool read_histogram(const json_t *o, hob_histogram *ret)
{
    const json_t *counts = json_object_get(o, "counts"), *sum = json_object_get(o, "sum_us");
    hob_histogram h = {0};

    if (json_array_size(counts) != HOB_HISTOGRAM_BOUNDS + 1 || !json_is_integer(sum) ||
        json_integer_value(sum) < 0)
        return false;
    for (uint32_t i = 0; i <= HOB_HISTOGRAM_BOUNDS; i++) {
        const json_int_t n = json_integer_value(json_array_get(counts, i));
        if (n < 0)
            return false;
        h.counts[i] = (uint64_t)n;
    }
    h.sum_us = (uint64_t)json_integer_value(sum);
    *ret = h;
    return true;
}

static void steps(const hob_gateway *g, hob_text *t)
{
    static const char name[] = "hob_engine_step_seconds";
    char labels[HOB_LABELS_MAX];
    bool begun = false;

    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_histogram h;
        if (!read_histogram(json_object_get(g->links[i].stats, "step_seconds"), &h))
            continue;
        if (!begun)
            hob_expose_family(t, name, "histogram", "How long steps took.");
        begun = true;
        hob_metrics_model(&g->links[i], labels);
        hob_expose_histogram(t, name, labels, &h);
    }
}

/* Of what the gateway knows itself. */
static void each(const hob_gateway *g, hob_text *t, const char *name, const char *type,
                 const char *help, double (*value)(const hob_link *l))
{
    char labels[HOB_LABELS_MAX];
    hob_expose_family(t, name, type, help);
    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_metrics_model(&g->links[i], labels);
        hob_expose_sample(t, name, labels, value(&g->links[i]));
    }
}

static double is_up(const hob_link *l)
{
    return l->state == HOB_LINK_READY;
}
static double is_unloaded(const hob_link *l)
{
    return l->unloading;
}
static double has_failed_device(const hob_link *l)
{
    return l->benched;
}
static double restarts(const hob_link *l)
{
    return (double)l->restarts;
}
static double jobs(const hob_link *l)
{
    return l->jobs;
}

static void info(const hob_gateway *g, hob_text *t)
{
    static const char *const fields[] = {"device", "isa", "architecture"};
    char labels[HOB_LABELS_MAX];

    hob_expose_family(t, "hob_engine_info", "gauge", "What runs where.");
    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_metrics_model(&g->links[i], labels);
        hob_text_format(t, "hob_engine_info{%s", labels);
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
            const char *v = json_string_value(json_object_get(g->links[i].hello, fields[f]));
            /* The engine's word: shown only where it cannot break the line. */
            const size_t n = v ? strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789_.:-+ ")
                               : 0;
            hob_text_format(t, ",%s=\"%.*s\"", fields[f], (int)(n < 64 ? n : 64), v ? v : "");
        }
        hob_text_puts(t, "} 1\n");
    }
}

void hob_metrics_engines(hob_gateway *g, hob_text *t)
{
    info(g, t);
    each(g, t, "hob_engine_up", "gauge", "Whether the engine answers.", is_up);
    each(g, t, "hob_engine_unloaded", "gauge", "Whether an administrator has unloaded the model.",
         is_unloaded);
    each(g, t, "hob_engine_device_failed", "gauge",
         "Whether the engine runs on the CPU because its device failed.", has_failed_device);
    each(g, t, "hob_engine_restarts_total", "counter", "Engines given up.", restarts);
    each(g, t, "hob_engine_jobs", "gauge", "Requests at the engine.", jobs);
    figures(g, t, counters, sizeof counters / sizeof *counters, "counter", "_total", false);
    figures(g, t, gauges, sizeof gauges / sizeof *gauges, "gauge", "", true);
    steps(g, t);
}
