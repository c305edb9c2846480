/* SPDX-License-Identifier: Apache-2.0
 *
 * Times and ends of requests. See meter.h. */
#include "daemon/gateway/meter.h"

#include <stdlib.h>

#include "daemon/conf/keys.h"

_Static_assert(sizeof(hob_series) == 150624, "what meter.h and README.md say of its memory");

const char *hob_meter_route_name(hob_meter_route r)
{
    static const char *const names[] = {"chat", "completions", "responses", "embeddings",
                                        "estimate"};
    return names[r];
}

const char *hob_meter_class_name(hob_arbiter_class c)
{
    return c == HOB_ARBITER_QUERY ? "query" : hob_class_name(c - HOB_ARBITER_INTERACTIVE);
}

const char *hob_meter_stage_name(hob_meter_stage s)
{
    static const char *const names[] = {"queue", "retrieve", "tokenize", "prefill", "decode"};
    return names[s];
}

int hob_meter_open(hob_gateway *g)
{
    g->meter = calloc(1, sizeof *g->meter);
    return g->meter ? 0 : HOB_ENOMEM;
}

void hob_meter_close(hob_gateway *g)
{
    if (!g->meter)
        return;
    for (uint32_t i = 0; i < HOB_METER_SERIES; i++)
        free(g->meter->series[i]);
    free(g->meter);
    g->meter = NULL;
}

size_t hob_meter_bytes(const hob_gateway *g)
{
    size_t bytes = sizeof *g->meter;
    for (uint32_t i = 0; i < HOB_METER_SERIES; i++)
        bytes += g->meter->series[i] ? sizeof(hob_series) : 0;
    return bytes;
}

/* ---- recording ---- */

typedef struct place {
    hob_meter_route route;
    uint32_t model;
    hob_arbiter_class class;
} place;

static void record(hob_gateway *g, place p, hob_quantity q, uint64_t now_us, uint64_t us,
                   uint32_t times)
{
    hob_series **series = &g->meter->series[hob_meter_series(p.route, p.model, p.class)];
    if (q < HOB_QUANTITY_QUEUE)
        hob_histogram_add(&g->meter->times[q][p.model][p.class], us, times);
    if (!*series)
        *series = calloc(1, sizeof **series); /* without memory there are no quantiles */
    if (*series)
        hob_recent_add(&(*series)->quantities[q], now_us, us, times);
}

static void count_end(hob_meter *m, hob_meter_route route, uint32_t model, int status, hob_end end)
{
    for (uint32_t i = 0; i < m->ended_count; i++) {
        hob_ended *e = &m->ended[i];
        if (e->route == route && e->model == model && e->end == end && e->status == status) {
            e->count++;
            return;
        }
    }
    if (m->ended_count == HOB_METER_ENDED_MAX) {
        m->ended_more++;
        return;
    }
    m->ended[m->ended_count++] = (hob_ended){.route = (uint8_t)route,
                                             .model = (uint8_t)model,
                                             .end = (uint8_t)end,
                                             .status = (uint16_t)status,
                                             .count = 1};
}

static hob_meter_route route_of(const hob_job *j)
{
    return j->request.estimate ? HOB_METER_ESTIMATE : (hob_meter_route)j->request.kind;
}
_Static_assert((int)HOB_API_CHAT == HOB_METER_CHAT &&
                   (int)HOB_API_COMPLETION == HOB_METER_COMPLETION &&
                   (int)HOB_API_RESPONSES == HOB_METER_RESPONSES,
               "the kinds of requests are routes");

static place place_of(const hob_job *j)
{
    return (place){route_of(j), j->link->index,
                   (hob_arbiter_class)(HOB_ARBITER_INTERACTIVE + j->priority)};
}

/* ---- moments ---- */

static uint64_t since(uint64_t now_us, uint64_t then_us)
{
    return now_us > then_us ? now_us - then_us : 0;
}

void hob_meter_retrieved(hob_job *j, uint64_t us)
{
    j->times.retrieve_us += us;
}

void hob_meter_preparing(hob_job *j)
{
    j->times.preparing_us = hob_now_us();
}

void hob_meter_prepared(hob_job *j)
{
    j->times.tokenize_us += since(hob_now_us(), j->times.preparing_us);
}

void hob_meter_running(hob_job *j)
{
    j->times.running_us = hob_now_us();
}

/* What of the time to the first token is not spent otherwise was waiting: for an engine, behind others here, behind others
 * there, or for the prompt that it shares. */
static void first_token(hob_job *j, uint32_t waited_us, uint64_t now_us)
{
    hob_histogram *stages = j->g->meter->stages[j->link->index];
    const uint64_t us = since(now_us, j->arrived_us),
                   prefill = since(now_us, j->times.running_us + waited_us),
                   queue = since(us, j->times.retrieve_us + j->times.tokenize_us + prefill);

    record(j->g, place_of(j), HOB_QUANTITY_FIRST_TOKEN, now_us, us, 1);
    record(j->g, place_of(j), HOB_QUANTITY_QUEUE, now_us, queue, 1);
    hob_histogram_add(&stages[HOB_METER_QUEUE], queue, 1);
    if (j->times.retrieve_us > 0)
        hob_histogram_add(&stages[HOB_METER_RETRIEVE], j->times.retrieve_us, 1);
    hob_histogram_add(&stages[HOB_METER_TOKENIZE], j->times.tokenize_us, 1);
    hob_histogram_add(&stages[HOB_METER_PREFILL], prefill, 1);
}

void hob_meter_tokens(hob_job *j, const hob_tokens_message *t, uint64_t now_us)
{
    if (t->token_count == 0)
        return;
    if (j->first_token_us == 0)
        first_token(j, t->waited_us, now_us);
    else
        record(j->g, place_of(j), HOB_QUANTITY_INTER_TOKEN, now_us,
               since(now_us, j->times.last_token_us) / t->token_count, t->token_count);
    j->times.last_token_us = now_us;
}

void hob_meter_ended(hob_job *j, int status, hob_finish finish)
{
    const uint64_t now_us = hob_now_us();
    const hob_end end = finish == HOB_FINISH_STOP     ? HOB_END_STOP
                        : finish == HOB_FINISH_LENGTH ? HOB_END_LENGTH
                        : finish == HOB_FINISH_CANCEL ? HOB_END_CANCELLED
                                                      : HOB_END_ERROR;

    if (j->times.ended)
        return;
    j->times.ended = true;
    count_end(j->g->meter, route_of(j), j->link->index, status, end);
    if (j->request.estimate || (end != HOB_END_STOP && end != HOB_END_LENGTH))
        return;
    record(j->g, place_of(j), HOB_QUANTITY_DURATION, now_us, since(now_us, j->arrived_us), 1);
    if (j->first_token_us > 0)
        hob_histogram_add(&j->g->meter->stages[j->link->index][HOB_METER_DECODE],
                          since(now_us, j->first_token_us), 1);
}

void hob_meter_gone(hob_job *j)
{
    if (j->request.estimate && j->admitted)
        hob_meter_ended(j, 200, HOB_FINISH_STOP);
    else
        hob_meter_ended(j, HOB_METER_LEFT, HOB_FINISH_CANCEL);
}

void hob_meter_embedded(hob_gateway *g, uint32_t model, hob_arbiter_class class, int status,
                        uint64_t us)
{
    const place p = {HOB_METER_EMBEDDINGS, model, class};
    count_end(g->meter, p.route, model, status,
              status == 200              ? HOB_END_STOP
              : status == HOB_METER_LEFT ? HOB_END_CANCELLED
                                         : HOB_END_ERROR);
    if (status == 200)
        record(g, p, HOB_QUANTITY_DURATION, hob_now_us(), us, 1);
}

void hob_meter_searched(hob_gateway *g, hob_stage stage, uint64_t us)
{
    hob_histogram_add(&g->meter->retrieval[stage], us, 1);
}
