/* SPDX-License-Identifier: Apache-2.0
 *
 * See top_view.h. */
#include "daemon/ctl/top_view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/client.h"

enum {
    LABELS = 9, /* columns of what stands in front of a line's figures */
    CELLS = 17,
    ROUTES = 12, /* columns of a table */
    CLASSES = 12,
    COUNTS = 8,
    TIMES = 18,
    NAMES_LEAST = 11,
    NAMES_MOST = 40,
    STATES = 10,
    PLACES = 5,
    SHARES = 6,
    KV_LEAST = 20,
    BARS_MOST = 50,
};

typedef struct sight {
    const hob_top_look *now, *before; /* before: NULL without rates */
    double seconds;
    uint32_t window;
    hob_page *page;
} sight;

void hob_top_look_free(hob_top_look *l)
{
    json_decref(l->status);
    json_decref(l->stats);
    hob_samples_free(&l->metrics);
    *l = (hob_top_look){0};
}

/* ---- figures ---- */

static double sum(const sight *s, const char *name)
{
    return hob_samples_sum(&s->now->metrics, name, NULL, NULL);
}

static double of(const sight *s, const char *name, const char *label, const char *value)
{
    return hob_samples_sum(&s->now->metrics, name, label, value);
}

/* A counter's, per second. NaN: nobody knows yet. */
static double rate_of(const sight *s, const char *name, const char *label, const char *value)
{
    if (!s->before)
        return NAN;
    const double then = hob_samples_sum(&s->before->metrics, name, label, value),
                 now = of(s, name, label, value);
    /* A sample that was not there was 0. */
    const double more = now - (isnan(then) ? 0 : then);
    return more >= 0 ? more / s->seconds : NAN;
}

static double rate(const sight *s, const char *name)
{
    return rate_of(s, name, NULL, NULL);
}

static const char *model_of(const sight *s, const hob_sample *one, char ret[64])
{
    if (!hob_sample_label(&s->now->metrics, one, "model", ret, 64))
        snprintf(ret, 64, "?");
    return ret;
}

/* ---- lines ---- */

static void put_label(const sight *s, const char *label)
{
    hob_page_put(s->page, HOB_STYLE_BOLD, "%s", label);
    hob_page_column(s->page, LABELS);
}

static void put_bar(const sight *s, double ratio, uint32_t room)
{
    const uint32_t left =
        s->page->columns > s->page->at + room ? s->page->columns - s->page->at - room : 0;
    hob_page_bar(s->page, left < BARS_MOST ? left : BARS_MOST, ratio);
    hob_page_put(s->page, HOB_STYLE_PLAIN, " %5s", hob_figure_percent(ratio).text);
}

/* used of all; all 0 or NaN: there is no limit. */
static void put_share(const sight *s, double used, double all)
{
    if (all > 0) {
        put_bar(s, used / all, 28);
        hob_page_put(s->page, HOB_STYLE_PLAIN, "  %s of %s", hob_figure_bytes(used).text,
                     hob_figure_bytes(all).text);
    } else
        hob_page_put(s->page, HOB_STYLE_PLAIN, "%s", hob_figure_bytes(used).text);
}

static double resident(const sight *s)
{
    const double engines = sum(s, "hob_engine_resident_bytes");
    return sum(s, "process_resident_memory_bytes") + (isnan(engines) ? 0 : engines);
}

/* ---- head ---- */

static void put_head(const sight *s, hob_top_view view)
{
    static const char *const views[HOB_TOP_VIEWS] = {"Overview", "Latency", "Engines", "Memory"};
    static const char *const windows[HOB_TOP_WINDOWS] = {"1 min", "10 min", "1 h"};
    const json_t *status = s->now->status;
    char text[16];
    hob_page *p = s->page;

    hob_page_put(p, HOB_STYLE_BOLD, "hobd %s", hob_json_text(status, "version"));
    hob_page_put(p, HOB_STYLE_PLAIN, " %s, up %s, %lld connections", hob_json_text(status, "state"),
                 hob_figure_duration((double)hob_json_number(status, "uptime_s")).text,
                 hob_json_number(status, "connections"));
    hob_page_line_end(p);
    for (int i = 0; i < HOB_TOP_VIEWS; i++)
        hob_page_put(p, i == (int)view ? HOB_STYLE_CHOSEN : HOB_STYLE_PLAIN, " %s ", views[i]);
    snprintf(text, sizeof text, " last %s ", windows[s->window]);
    hob_page_right(p, HOB_STYLE_CHOSEN, text);
    hob_page_line_end(p);
    p->fixed = p->count - 1;
}

/* ---- overview ---- */

static const struct traffic {
    const char *label;
    struct {
        const char *counter, *what;
        hob_style style; /* where there is any */
    } cells[3];
} traffic[] = {
    {"Requests",
     {{"hob_requests_finished_total", "answered", HOB_STYLE_GOOD},
      {"hob_requests_failed_total", "failed", HOB_STYLE_BAD},
      {"hob_requests_cancelled_total", "given up", HOB_STYLE_PLAIN}}},
    {"Refused",
     {{"hob_requests_shed_total", "shed", HOB_STYLE_BAD},
      {"hob_requests_limited_total", "limited", HOB_STYLE_WARN},
      {"hob_authentication_failures_total", "no key", HOB_STYLE_WARN}}},
    {"Tokens",
     {{"hob_prompt_tokens_total", "in", HOB_STYLE_PLAIN},
      {"hob_cached_tokens_total", "cached", HOB_STYLE_PLAIN},
      {"hob_answer_tokens_total", "out", HOB_STYLE_GOOD}}},
};

static void put_traffic(const sight *s)
{
    static const char *const classes[] = {"interactive", "standard", "batch"};
    hob_page *p = s->page;

    for (size_t row = 0; row < sizeof traffic / sizeof *traffic; row++) {
        put_label(s, traffic[row].label);
        for (uint32_t i = 0; i < 3; i++) {
            const double value = rate(s, traffic[row].cells[i].counter);
            hob_page_column(p, LABELS + i * CELLS);
            hob_page_put(p, value > 0 ? traffic[row].cells[i].style : HOB_STYLE_PLAIN, "%5s/s %s",
                         hob_figure_of(value).text, traffic[row].cells[i].what);
        }
        hob_page_line_end(p);
    }
    put_label(s, "Waiting");
    for (uint32_t i = 0; i < 3; i++) {
        const double n = of(s, "hob_queue_requests", "class", classes[i]);
        hob_page_column(p, LABELS + i * CELLS);
        hob_page_put(p, n > 0 ? HOB_STYLE_WARN : HOB_STYLE_PLAIN, "%4.0f %s", isnan(n) ? 0 : n,
                     classes[i]);
    }
    hob_page_column(p, LABELS + 3 * CELLS);
    hob_page_put(p, HOB_STYLE_PLAIN, "%5s tokens", hob_figure_of(sum(s, "hob_queue_tokens")).text);
    hob_page_line_end(p);
    put_label(s, "CPU");
    put_bar(s, sum(s, "hob_cpu_busy_ratio"), 28);
    hob_page_line_end(p);
    put_label(s, "Memory");
    put_share(s, resident(s), sum(s, "hob_memory_limit_bytes"));
    hob_page_line_end(p);
    hob_page_line_end(p);
}

static const char *state_of(const sight *s, const char *model)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(s->now->status, "models"), i, one)
    {
        if (strcmp(hob_json_text(one, "name"), model) == 0)
            return hob_json_text(one, "state");
    }
    return "?";
}

static hob_style style_of(const char *state)
{
    return strcmp(state, "ready") == 0    ? HOB_STYLE_GOOD
           : strcmp(state, "failed") == 0 ? HOB_STYLE_BAD
                                          : HOB_STYLE_WARN;
}

/* Columns that are left for names in a table whose others take so many. */
static uint32_t names(const hob_page *p, uint32_t others)
{
    const uint32_t left = p->columns > others ? p->columns - others : 0;
    return left < NAMES_LEAST ? NAMES_LEAST : left > NAMES_MOST ? NAMES_MOST : left;
}

static double blocks_used(const sight *s, const char *model)
{
    const double all = of(s, "hob_engine_kv_blocks", "model", model);
    return 1 - of(s, "hob_engine_kv_blocks_free", "model", model) / all;
}

static void put_models(const sight *s)
{
    static const char *const places[] = {"hob_engine_running", "hob_engine_waiting",
                                         "hob_engine_stalled"};
    const uint32_t figures = STATES + 3 * PLACES + 2 * SHARES;
    hob_page *p = s->page;
    const uint32_t name = names(p, figures + KV_LEAST), bar_at = name + figures + 1;
    char model[64];

    hob_page_put(p, HOB_STYLE_HEAD, "MODEL");
    hob_page_column(p, name);
    hob_page_put(p, HOB_STYLE_HEAD, "%-*s%*s%*s%*s%*s%*s KV CACHE", STATES, "STATE", PLACES, "RUN",
                 PLACES, "WAIT", PLACES, "HELD", SHARES, "ROWS", SHARES, "BUSY");
    hob_page_line_end(p);
    for (const hob_sample *one = NULL;
         (one = hob_samples_next(&s->now->metrics, "hob_engine_up", one));) {
        const char *state = state_of(s, model_of(s, one, model));
        hob_page_put(p, HOB_STYLE_PLAIN, "%s", model);
        hob_page_column(p, name);
        hob_page_put(p, style_of(state), "%-*s", STATES, state);
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            const double n = of(s, places[i], "model", model);
            if (isnan(n))
                hob_page_put(p, HOB_STYLE_PLAIN, "%*s", PLACES, "-");
            else
                hob_page_put(p, HOB_STYLE_PLAIN, "%*.0f", PLACES, n);
        }
        hob_page_put(
            p, HOB_STYLE_PLAIN, "%*s%*s", SHARES,
            hob_figure_of(of(s, "hob_engine_rows_per_step", "model", model)).text, SHARES,
            hob_figure_percent(of(s, "hob_engine_device_busy_ratio", "model", model)).text);
        hob_page_column(p, bar_at);
        if (!isnan(blocks_used(s, model)))
            put_bar(s, blocks_used(s, model), 6);
        hob_page_line_end(p);
    }
    hob_page_line_end(p);
}

/* ---- times ---- */

static const struct quantity {
    const char *name, *head, *label;
} quantities[] = {
    {"time_to_first_token_s", "FIRST TOKEN", "first token"},
    {"inter_token_latency_s", "BETWEEN TOKENS", "between tokens"},
    {"duration_s", "DURATION", "whole answer"},
    {"queue_s", "QUEUE", "in the queue"},
};
enum { QUANTITIES = sizeof quantities / sizeof *quantities };

static const json_t *window_of(const sight *s, const json_t *series, const char *quantity)
{
    return json_array_get(json_object_get(series, quantity), s->window);
}

static double quantile(const json_t *window, const char *name)
{
    const json_t *v = json_object_get(window, name);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Nothing came of it in this window. */
static bool is_empty(const sight *s, const json_t *series)
{
    for (int q = 0; q < QUANTITIES; q++)
        if (hob_json_number(window_of(s, series, quantities[q].name), "count") > 0)
            return false;
    return true;
}

static void put_series(const sight *s, const json_t *series, uint32_t name, uint32_t count)
{
    hob_page *p = s->page;
    hob_page_put(p, HOB_STYLE_PLAIN, "%s", hob_json_text(series, "route"));
    hob_page_column(p, ROUTES);
    hob_page_put(p, HOB_STYLE_PLAIN, "%s", hob_json_text(series, "model"));
    hob_page_column(p, ROUTES + name);
    hob_page_put(p, HOB_STYLE_PLAIN, "%s", hob_json_text(series, "class"));
    hob_page_column(p, ROUTES + name + CLASSES);
    hob_page_put(p, HOB_STYLE_PLAIN, "%*lld", COUNTS - 2,
                 hob_json_number(window_of(s, series, "duration_s"), "count"));
    for (uint32_t q = 0; q < count; q++) {
        const json_t *w = window_of(s, series, quantities[q].name);
        hob_page_column(p, ROUTES + name + CLASSES + COUNTS + q * TIMES);
        if (hob_json_number(w, "count") > 0)
            hob_page_put(p, HOB_STYLE_PLAIN, "%s/%s/%s", hob_figure_ms(quantile(w, "p50")).text,
                         hob_figure_ms(quantile(w, "p95")).text,
                         hob_figure_ms(quantile(w, "p99")).text);
        else
            hob_page_put(p, HOB_STYLE_PLAIN, "-");
    }
    hob_page_line_end(p);
}

/* The series of which something came, and their sum where there are several; put: one of them. */
static uint32_t each_series(const sight *s,
                            void (*put)(const sight *s, const json_t *series, uint32_t name,
                                        uint32_t count),
                            uint32_t name, uint32_t count)
{
    const json_t *all = json_object_get(s->now->stats, "all");
    uint32_t shown = 0;
    size_t i;
    json_t *series;
    json_array_foreach(json_object_get(s->now->stats, "series"), i, series)
    {
        if (!is_empty(s, series)) {
            put(s, series, name, count);
            shown++;
        }
    }
    if (shown > 1 && !is_empty(s, all))
        put(s, all, name, count);
    if (shown == 0) {
        hob_page_put(s->page, HOB_STYLE_DIM, "nothing was answered");
        hob_page_line_end(s->page);
    }
    return shown;
}

/* As many quantities as have room. */
static void put_times(const sight *s)
{
    const uint32_t others = ROUTES + CLASSES + COUNTS;
    hob_page *p = s->page;
    uint32_t count = 1;

    while (count < QUANTITIES && others + NAMES_LEAST + (count + 1) * TIMES <= p->columns)
        count++;
    const uint32_t name = names(p, others + count * TIMES);
    hob_page_put(p, HOB_STYLE_HEAD, "ROUTE");
    hob_page_column(p, ROUTES);
    hob_page_put(p, HOB_STYLE_HEAD, "MODEL");
    hob_page_column(p, ROUTES + name);
    hob_page_put(p, HOB_STYLE_HEAD, "CLASS");
    hob_page_column(p, ROUTES + name + CLASSES);
    hob_page_put(p, HOB_STYLE_HEAD, "%*s", COUNTS - 2, "COUNT");
    for (uint32_t q = 0; q < count; q++) {
        hob_page_column(p, ROUTES + name + CLASSES + COUNTS + q * TIMES);
        hob_page_put(p, HOB_STYLE_HEAD, "%s", quantities[q].head);
    }
    hob_page_line_end(p);
    if (each_series(s, put_series, name, count) > 0) {
        hob_page_put(p, HOB_STYLE_DIM, "P50/P95/P99 in ms");
        hob_page_line_end(p);
    }
}

/* ---- latency ---- */

static void put_block(const sight *s, const json_t *series, uint32_t name, uint32_t count)
{
    hob_page *p = s->page;
    hob_page_put(p, HOB_STYLE_BOLD, "%s  %s  %s", hob_json_text(series, "route"),
                 hob_json_text(series, "model"), hob_json_text(series, "class"));
    hob_page_line_end(p);
    for (uint32_t q = 0; q < count; q++) {
        const json_t *w = window_of(s, series, quantities[q].name);
        if (hob_json_number(w, "count") == 0)
            continue;
        hob_page_put(p, HOB_STYLE_PLAIN, "  %s", quantities[q].label);
        hob_page_column(p, name);
        hob_page_put(p, HOB_STYLE_PLAIN, "%9lld %9s %9s %9s", hob_json_number(w, "count"),
                     hob_figure_ms(quantile(w, "p50")).text, hob_figure_ms(quantile(w, "p95")).text,
                     hob_figure_ms(quantile(w, "p99")).text);
        hob_page_line_end(p);
    }
}

static void put_latency(const sight *s)
{
    enum { BLOCK_NAMES = 18 };
    hob_page *p = s->page;
    hob_page_put(p, HOB_STYLE_HEAD, "milliseconds");
    hob_page_column(p, BLOCK_NAMES);
    hob_page_put(p, HOB_STYLE_HEAD, "%9s %9s %9s %9s", "COUNT", "P50", "P95", "P99");
    hob_page_line_end(p);
    (void)each_series(s, put_block, BLOCK_NAMES, QUANTITIES);
}

/* ---- engines ---- */

enum { ENGINE_LABELS = 13 };

static void put_engine_label(const sight *s, const char *label)
{
    hob_page_put(s->page, HOB_STYLE_PLAIN, "  %s", label);
    hob_page_column(s->page, ENGINE_LABELS);
}

static double count_of(const sight *s, const char *name, const char *model)
{
    const double n = of(s, name, "model", model);
    return isnan(n) ? 0 : n;
}

static void put_generation(const sight *s, const char *model)
{
    hob_page *p = s->page;
    const double blocks = of(s, "hob_engine_kv_blocks", "model", model);
    if (isnan(blocks))
        return;
    put_engine_label(s, "KV cache");
    put_bar(s, blocks_used(s, model), 25);
    hob_page_put(p, HOB_STYLE_PLAIN, "  of %.0f blocks", blocks);
    hob_page_line_end(p);
    put_engine_label(s, "prefixes");
    put_bar(s, of(s, "hob_engine_prefix_hit_ratio", "model", model), 25);
    hob_page_put(p, HOB_STYLE_PLAIN, "  found, %.0f kept",
                 count_of(s, "hob_engine_kv_blocks_kept", model));
    hob_page_line_end(p);
    put_engine_label(s, "requests");
    hob_page_put(p, HOB_STYLE_PLAIN, "%.0f running, %.0f waiting, %.0f held by readers",
                 count_of(s, "hob_engine_running", model), count_of(s, "hob_engine_waiting", model),
                 count_of(s, "hob_engine_stalled", model));
    hob_page_line_end(p);
    put_engine_label(s, "tokens");
    hob_page_put(p, HOB_STYLE_PLAIN, "%s/s of prompts, %s/s of answers",
                 hob_figure_of(rate_of(s, "hob_engine_prefill_tokens_total", "model", model)).text,
                 hob_figure_of(rate_of(s, "hob_engine_decode_tokens_total", "model", model)).text);
    hob_page_line_end(p);
    put_engine_label(s, "set back");
    hob_page_put(p, HOB_STYLE_PLAIN, "%.0f for others, %.0f because nobody read them",
                 count_of(s, "hob_engine_preemptions_total", model),
                 count_of(s, "hob_engine_parked_total", model));
    hob_page_line_end(p);
}

static void put_embedding(const sight *s, const char *model)
{
    if (isnan(of(s, "hob_engine_embed_texts_total", "model", model)))
        return;
    put_engine_label(s, "texts");
    hob_page_put(s->page, HOB_STYLE_PLAIN, "%s/s, %s tokens/s, %.0f waiting",
                 hob_figure_of(rate_of(s, "hob_engine_embed_texts_total", "model", model)).text,
                 hob_figure_of(rate_of(s, "hob_engine_embed_tokens_total", "model", model)).text,
                 count_of(s, "hob_engine_waiting_texts", model));
    hob_page_line_end(s->page);
}

static void put_engine(const sight *s, const hob_sample *one)
{
    hob_page *p = s->page;
    char model[64], text[64];
    const char *state = state_of(s, model_of(s, one, model));

    hob_page_put(p, HOB_STYLE_BOLD, "%s", model);
    hob_page_put(p, style_of(state), "  %s", state);
    for (const hob_sample *info = NULL;
         (info = hob_samples_next(&s->now->metrics, "hob_engine_info", info));) {
        static const char *const labels[] = {"architecture", "device", "isa"};
        if (strcmp(model_of(s, info, text), model) != 0)
            continue;
        for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
            if (hob_sample_label(&s->now->metrics, info, labels[i], text, sizeof text) && *text)
                hob_page_put(p, HOB_STYLE_PLAIN, "  %s", text);
    }
    hob_page_line_end(p);
    if (count_of(s, "hob_engine_device_failed", model) > 0) {
        put_engine_label(s, "device");
        hob_page_put(p, HOB_STYLE_BAD, "failed; the model runs on the CPU");
        hob_page_line_end(p);
    }
    put_engine_label(s, "busy");
    put_bar(s, of(s, "hob_engine_device_busy_ratio", "model", model), 25);
    hob_page_line_end(p);
    const double steps = rate_of(s, "hob_engine_step_seconds_count", "model", model),
                 step_s = rate_of(s, "hob_engine_step_seconds_sum", "model", model);
    put_engine_label(s, "steps");
    hob_page_put(p, HOB_STYLE_PLAIN, "%s/s of %s rows and %s ms on average",
                 hob_figure_of(steps).text,
                 hob_figure_of(of(s, "hob_engine_rows_per_step", "model", model)).text,
                 hob_figure_ms(steps > 0 ? step_s / steps : NAN).text);
    hob_page_line_end(p);
    put_generation(s, model);
    put_embedding(s, model);
    put_engine_label(s, "process");
    hob_page_put(p, HOB_STYLE_PLAIN, "%s resident, %.0f restarts",
                 hob_figure_bytes(of(s, "hob_engine_resident_bytes", "model", model)).text,
                 count_of(s, "hob_engine_restarts_total", model));
    hob_page_line_end(p);
    hob_page_line_end(p);
}

static void put_engines(const sight *s)
{
    for (const hob_sample *one = NULL;
         (one = hob_samples_next(&s->now->metrics, "hob_engine_up", one));)
        put_engine(s, one);
}

/* ---- memory ---- */

enum { LEDGER_LABELS = 18 };

static void put_memory_line(const sight *s, const char *label, double used, double all)
{
    hob_page_put(s->page, HOB_STYLE_PLAIN, "%s", label);
    hob_page_column(s->page, LEDGER_LABELS);
    put_share(s, used, all);
    hob_page_line_end(s->page);
}

static void put_title(const sight *s, const char *title)
{
    hob_page_put(s->page, HOB_STYLE_HEAD, "%s", title);
    hob_page_line_end(s->page);
}

static void put_memory(const sight *s)
{
    const double limit = sum(s, "hob_memory_limit_bytes"), ledger = sum(s, "hob_memory_bytes");
    char name[64];

    put_title(s, "RESIDENT");
    put_memory_line(s, "all processes", resident(s), limit);
    put_memory_line(s, "gateway", sum(s, "process_resident_memory_bytes"), limit);
    for (const hob_sample *one = NULL;
         (one = hob_samples_next(&s->now->metrics, "hob_engine_resident_bytes", one));)
        put_memory_line(s, model_of(s, one, name), one->value, limit);
    hob_page_line_end(s->page);
    put_title(s, limit > 0 ? "LEDGER, as a part of the limit" : "LEDGER, as a part of all of it");
    for (const hob_sample *one = NULL;
         (one = hob_samples_next(&s->now->metrics, "hob_memory_bytes", one));)
        if (hob_sample_label(&s->now->metrics, one, "line", name, sizeof name))
            put_memory_line(s, name, one->value, limit > 0 ? limit : ledger);
    hob_page_line_end(s->page);
    put_title(s, "LIMITS OF THE GATEWAY");
    put_memory_line(s, "buffers", sum(s, "hob_buffers_bytes"), sum(s, "hob_buffers_limit_bytes"));
    put_memory_line(s, "index of vectors", sum(s, "hob_vector_index_bytes"),
                    sum(s, "hob_vector_index_limit_bytes"));
}

/* ---- all of it ---- */

void hob_top_draw(const hob_top_look *now, const hob_top_look *before, hob_top_view view,
                  uint32_t window, uint32_t columns, hob_page *ret)
{
    sight s = {.now = now, .window = window < HOB_TOP_WINDOWS ? window : 0, .page = ret};

    hob_page_begin(ret, columns);
    if (before && before->at_us > 0 && now->at_us > before->at_us &&
        hob_json_number(now->status, "pid") == hob_json_number(before->status, "pid")) {
        s.before = before;
        s.seconds = (double)(now->at_us - before->at_us) / 1e6;
    }
    put_head(&s, view);
    switch (view) {
    case HOB_TOP_LATENCY: put_latency(&s); break;
    case HOB_TOP_ENGINES: put_engines(&s); break;
    case HOB_TOP_MEMORY: put_memory(&s); break;
    default:
        put_traffic(&s);
        put_models(&s);
        put_times(&s);
        break;
    }
}
