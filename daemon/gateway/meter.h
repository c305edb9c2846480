/* SPDX-License-Identifier: Apache-2.0
 *
 * How long requests take, and how they end: histograms and counters for /metrics since the start, and quantiles of the last
 * minute, ten minutes and hour for /hob/v1/stats. It is told of the moments of a job's life, and adds up nothing that is not
 * bounded: routes, models, classes, statuses and ends are few.
 *
 * Quantiles take HOB_SERIES_BYTES of each route, model and class that was used, which is at most 9 of a model that generates
 * (1.3 MiB) and 4 of one that embeds. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_METER_H
#define HOB_DAEMON_GATEWAY_METER_H

#include "daemon/gateway/state.h"
#include "daemon/observe/histogram.h"
#include "daemon/observe/sketch.h"

typedef enum hob_meter_route {
    HOB_METER_CHAT,
    HOB_METER_COMPLETION,
    HOB_METER_RESPONSES,
    HOB_METER_EMBEDDINGS, /* also of questions and documents */
    HOB_METER_ESTIMATE,   /* how they end only */
    HOB_METER_ROUTES,
} hob_meter_route;
const char *hob_meter_route_name(hob_meter_route r);
const char *hob_meter_class_name(hob_arbiter_class c); /* "query", "interactive", … */

/* Parts of a request, one after another; those up to prefill add up to the time to its first token. */
typedef enum hob_meter_stage {
    HOB_METER_QUEUE,
    HOB_METER_RETRIEVE,
    HOB_METER_TOKENIZE, /* the wait for the tokenizer included */
    HOB_METER_PREFILL,
    HOB_METER_DECODE,
    HOB_METER_STAGES,
} hob_meter_stage;
const char *hob_meter_stage_name(hob_meter_stage s);

typedef enum hob_quantity {
    HOB_QUANTITY_FIRST_TOKEN,
    HOB_QUANTITY_INTER_TOKEN,
    HOB_QUANTITY_DURATION,
    HOB_QUANTITY_QUEUE, /* no histogram of its own: it is a stage */
    HOB_QUANTITIES,
} hob_quantity;

typedef struct hob_series { /* of a route, model and class */
    hob_recent quantities[HOB_QUANTITIES];
} hob_series;
enum { HOB_SERIES_BYTES = sizeof(hob_series) };

typedef enum hob_end {
    HOB_END_STOP,
    HOB_END_LENGTH,
    HOB_END_CANCELLED, /* its client asked for that, or left */
    HOB_END_ERROR,
    HOB_ENDS,
} hob_end;

enum { HOB_METER_ENDED_MAX = 256 };
typedef struct hob_ended { /* requests that ended alike */
    uint8_t route, model, end;
    uint16_t status;
    uint64_t count;
} hob_ended;

enum { HOB_METER_SERIES = HOB_METER_ESTIMATE * HOB_CONF_MODELS_MAX * HOB_ARBITER_CLASSES };

typedef struct hob_meter {
    hob_histogram times[HOB_QUANTITY_QUEUE][HOB_CONF_MODELS_MAX][HOB_ARBITER_CLASSES];
    hob_histogram stages[HOB_CONF_MODELS_MAX][HOB_METER_STAGES];
    hob_histogram retrieval[HOB_STAGES];
    hob_series *series[HOB_METER_SERIES]; /* NULL: nothing came yet, or there was no memory */
    uint32_t ended_count;
    hob_ended ended[HOB_METER_ENDED_MAX]; /* in the order in which they were first seen */
    uint64_t ended_more;                  /* that found no place there */
} hob_meter;

/* Where a route's, but no estimate's, is in `series`. */
static inline uint32_t hob_meter_series(hob_meter_route route, uint32_t model,
                                        hob_arbiter_class class)
{
    return ((uint32_t)route * HOB_CONF_MODELS_MAX + model) * HOB_ARBITER_CLASSES + class;
}

/* HOB_ENOMEM. */
HOB_MUST_CHECK int hob_meter_open(hob_gateway *g);
void hob_meter_close(hob_gateway *g);
size_t hob_meter_bytes(const hob_gateway *g); /* that the quantiles take */

/* Moments of a job, as they come. */
void hob_meter_retrieved(hob_job *j, uint64_t us);
void hob_meter_preparing(hob_job *j);
void hob_meter_prepared(hob_job *j);
void hob_meter_running(hob_job *j);
/* Before the job knows of its first token. */
void hob_meter_tokens(hob_job *j, const hob_tokens_message *t, uint64_t now_us);
/* Its end, the first time that it is called. status: of an error, else 200. */
void hob_meter_ended(hob_job *j, int status, hob_finish finish);
/* The job goes: if nothing was said of an end before, its client has left. */
void hob_meter_gone(hob_job *j);

/* A request for vectors has ended. status: 200, of an error, or HOB_METER_LEFT. */
enum { HOB_METER_LEFT = 499 };
void hob_meter_embedded(hob_gateway *g, uint32_t model, hob_arbiter_class class, int status,
                        uint64_t us);
/* A part of a search in documents. */
void hob_meter_searched(hob_gateway *g, hob_stage stage, uint64_t us);

#endif
