/* SPDX-License-Identifier: Apache-2.0
 *
 * From event to event: a prompt is computed, or an answer ends. In between, all steps are alike: a token for each sequence
 * that decodes, and a chunk of the first prompt that fits beside them. */
#include "daemon/gateway/forecast.h"

#include <math.h>

enum {
    CHUNK_LEAST = 16, /* batcher.c's quantum */
    CHUNK_MOST = 512,
    QUIET_US = 150000, /* of a step that no stream waits for */
};

static bool is_over(const hob_forecast_job *j)
{
    return j->prefill <= 0 && j->answer <= 0;
}

/* One stretch of steps that are alike. */
typedef struct stretch {
    double step_us, steps, chunk; /* chunk: tokens of the prompt in each step */
    hob_forecast_job *prompt;     /* NULL: none is computed */
} stretch;

/* The jobs before `end` are at work; the next event ends the stretch. */
static stretch next_stretch(const hob_forecast_engine *e, hob_forecast_job *jobs, uint32_t end)
{
    stretch s = {.steps = INFINITY};
    uint32_t decoding = 0;

    for (uint32_t i = 0; i < end; i++) {
        hob_forecast_job *j = &jobs[i];
        if (is_over(j))
            continue;
        if (j->prefill > 0) {
            s.prompt = s.prompt ? s.prompt : j;
            continue;
        }
        decoding++;
        s.steps = j->answer < s.steps ? j->answer : s.steps;
    }
    if (s.prompt) {
        const double limit = decoding && e->target_us > 0 ? e->target_us : QUIET_US;
        const uint32_t most = s.prompt->prefill < CHUNK_MOST ? (uint32_t)ceil(s.prompt->prefill)
                                                             : CHUNK_MOST,
                       rows = hob_cost_fit(e->cost, decoding, 0, 0,
                                           most < CHUNK_LEAST ? most : CHUNK_LEAST, most, limit);
        s.chunk = rows ? rows : 1;
        s.steps = fmin(s.steps, ceil(s.prompt->prefill / s.chunk));
        s.step_us = hob_cost_predict(e->cost, decoding + (uint32_t)s.chunk, 0);
    } else {
        s.step_us = hob_cost_predict(e->cost, decoding, 0);
    }
    s.steps = s.steps < 1 ? 1 : s.steps;
    return s;
}

/* How many of the jobs, in their order, are at work: as many as there are places and room for. */
static uint32_t at_work(const hob_forecast_engine *e, const hob_forecast_job *jobs, uint32_t count)
{
    uint32_t places = 0, i = 0;
    double room = e->kv_tokens;

    for (; i < count; i++) {
        if (is_over(&jobs[i]))
            continue;
        if (places == e->places || (places > 0 && jobs[i].context > room))
            break;
        places++;
        room -= jobs[i].context;
    }
    return i;
}

hob_forecast hob_forecast_last(const hob_forecast_engine *e, hob_forecast_job *jobs, uint32_t count)
{
    hob_forecast f = {0, 0};
    hob_forecast_job *last = &jobs[count - 1];

    while (!is_over(last)) {
        const uint32_t end = at_work(e, jobs, count);
        const stretch s = next_stretch(e, jobs, end);
        const bool waited = last->prefill > 0;
        f.end_us += s.steps * s.step_us;
        for (uint32_t i = 0; i < end; i++)
            if (jobs[i].prefill <= 0)
                jobs[i].answer -= s.steps;
        if (s.prompt && (s.prompt->prefill -= s.steps * s.chunk) <= 0)
            s.prompt->answer -= 1; /* the last row of the prompt gives the first token */
        if (waited && last->prefill <= 0)
            f.first_us = f.end_us;
    }
    return f;
}
