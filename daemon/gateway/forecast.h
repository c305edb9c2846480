/* SPDX-License-Identifier: Apache-2.0
 *
 * When a request will see its first token: the engine's own way of making steps (batcher.c), played ahead with its cost model
 * and with what is known of the requests before it. Pure; a few hundred thousandths of a second for a hundred requests.
 * Thread: any. */
#ifndef HOB_DAEMON_GATEWAY_FORECAST_H
#define HOB_DAEMON_GATEWAY_FORECAST_H

#include "daemon/engine/cost.h"

typedef struct hob_forecast_job {
    double prefill; /* tokens of the prompt that are still to be computed */
    double answer;  /* tokens that are still to come, as far as can be expected; at least 1 */
    double context; /* tokens that its KV cache will hold at its end */
} hob_forecast_job;

typedef struct hob_forecast_engine {
    const hob_cost *cost;
    double target_us; /* itl_target_ms; 0: none */
    uint32_t places;  /* sequences in a step */
    double kv_tokens;
} hob_forecast_engine;

typedef struct hob_forecast {
    double first_us, end_us; /* from now until the last job's first token, and its last */
} hob_forecast;

/* jobs [count], at least one: in the order in which they are served, those that run first; the last one is asked for. They are changed. */
hob_forecast hob_forecast_last(const hob_forecast_engine *e, hob_forecast_job *jobs,
                               uint32_t count);

#endif
