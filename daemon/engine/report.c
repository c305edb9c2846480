/* SPDX-License-Identifier: Apache-2.0
 *
 * STATS: what the engine has done and holds, once a second. Everything in it was counted along the way or is asked of the
 * system here, so that a step pays for none of it. Thread: step. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/process.h"

typedef struct figure {
    const char *name;
    double value;
} figure;

static json_t *histogram_json(const hob_histogram *h)
{
    json_t *counts = json_array();
    for (uint32_t i = 0; counts && i <= HOB_HISTOGRAM_BOUNDS; i++)
        json_array_append_new(counts, json_integer((json_int_t)h->counts[i]));
    return json_pack("{s:o,s:I}", "counts", counts, "sum_us", (json_int_t)h->sum_us);
}

static void add(json_t *o, const figure *figures, size_t count)
{
    for (size_t i = 0; i < count; i++)
        json_object_set_new(o, figures[i].name, json_real(figures[i].value));
}

/* What both kinds of engines have. rows: computed in all steps so far. */
static void add_common(hob_engine *e, json_t *o, uint64_t steps, uint64_t rows,
                       const hob_histogram *step)
{
    const hob_device *dev = hob_model_device(e->model);
    /* Where no queue is measured a step is busy from its beginning to its end. */
    const uint64_t busy_us = strcmp(dev->info.name, "cpu") == 0 ? step->sum_us : dev->busy_us;
    const hob_reported now = {
        .at_us = hob_now_us(), .steps = steps, .rows = rows, .busy_us = busy_us};
    const hob_reported *was = &e->reported;
    const double ran = (double)(now.steps - was->steps), us = (double)(now.at_us - was->at_us);
    const figure figures[] = {
        {"steps", (double)steps},
        {"rows_per_step", ran > 0 ? (double)(now.rows - was->rows) / ran : 0},
        {"resident_bytes", (double)hob_resident_bytes()},
        {"cpu_us", hob_cpu_seconds() * 1e6},
        {"device_bytes", (double)dev->resident_bytes},
        {"device_busy_us", (double)busy_us},
        {"device_busy_ratio",
         was->at_us > 0 && us > 0 ? (double)(now.busy_us - was->busy_us) / us : 0},
    };
    add(o, figures, sizeof figures / sizeof *figures);
    json_object_set_new(o, "step_seconds", histogram_json(step));
    e->reported = now;
}

static void add_embeds(hob_engine *e, json_t *o)
{
    hob_embed_stats s;
    hob_embed_queue_get_stats(e->embeds, &s);
    const figure figures[] = {
        {"embed_texts", (double)s.texts}, {"embed_tokens", (double)s.tokens},
        {"embed_us", (double)s.busy_us},  {"embed_tokens_per_second", s.tokens_per_second},
        {"finished", (double)s.finished}, {"cancelled", (double)s.cancelled},
        {"running", s.requests},          {"waiting_texts", s.waiting_texts},
    };
    add(o, figures, sizeof figures / sizeof *figures);
    add_common(e, o, s.steps, s.tokens, &s.step);
}

static void add_batcher(hob_engine *e, json_t *o)
{
    hob_batcher_stats s;
    hob_batcher_get_stats(e->batcher, &s);
    const uint64_t prompts = s.cached_tokens + s.prefill_tokens;
    const figure figures[] = {
        {"prefill_tokens", (double)s.prefill_tokens},
        {"decode_tokens", (double)s.decode_tokens},
        {"cached_tokens", (double)s.cached_tokens},
        {"prefix_hit_ratio", prompts > 0 ? (double)s.cached_tokens / (double)prompts : 0},
        {"finished", (double)s.finished},
        {"cancelled", (double)s.cancelled},
        {"preempted", (double)s.preempted},
        {"parked", (double)s.parked},
        {"prefill_us", (double)s.prefill_us},
        {"decode_us", (double)s.decode_us},
        {"running", s.running},
        {"waiting", s.waiting},
        {"stalled", s.stalled},
        {"kv_blocks", s.kv_blocks},
        {"kv_blocks_free", s.kv_blocks_free},
        {"kv_blocks_kept", s.kv_blocks_kept},
        {"kv_bytes", (double)e->kv_bytes},
        {"cost_error_ratio", s.cost.error},
        {"cost_step_1_us", hob_cost_predict(&s.cost, 1, 0)},
        {"cost_step_16_us", hob_cost_predict(&s.cost, 16, 0)},
        {"cost_step_128_us", hob_cost_predict(&s.cost, 128, 0)},
        {"cost_attend_us", s.cost.attend_us},
    };
    add(o, figures, sizeof figures / sizeof *figures);
    add_common(e, o, s.steps, s.prefill_tokens + s.decode_tokens, &s.step);
}

void hob_engine_report(hob_engine *e)
{
    json_t *o = json_object();
    if (o && e->embeds)
        add_embeds(e, o);
    else if (o)
        add_batcher(e, o);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text)
        hob_engine_send(e, HOB_MSG_STATS, 0, text, strlen(text));
    free(text);
}
