/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernel workers. One job at a time, cut into items that the caller and the workers take from a counter; a job may have
 * several phases, so that one wake serves all of them. A worker that
 * is not awake when the caller has finished the last item takes no part, so a busy machine never waits for it.
 * Workers spin for some tens of microseconds after a job, then sleep on a futex: an idle pool uses no CPU.
 * Thread: hob_pool_run from one thread at a time. */
#ifndef HOB_HAL_CPU_POOL_H
#define HOB_HAL_CPU_POOL_H

#include "hal/base.h"

typedef struct hob_pool hob_pool;
/* worker: 0 .. threads - 1, for per-thread memory; the caller is 0. */
typedef void (*hob_pool_fn)(void *arg, uint32_t item, uint32_t worker);

HOB_MUST_CHECK int hob_pool_new(uint32_t threads, hob_pool **ret, hob_diag *diag);
void hob_pool_free(hob_pool *p);
uint32_t hob_pool_threads(const hob_pool *p);
/* Returns when fn has returned for all items. */
void hob_pool_run(hob_pool *p, hob_pool_fn fn, void *arg, uint32_t items);

enum { HOB_POOL_PHASES_MAX = 2 };
typedef struct hob_pool_phase {
    hob_pool_fn fn;
    void *arg;
    uint32_t items;
} hob_pool_phase;
/* The same for several phases, one after another: no item begins before all items of the earlier phases have ended. */
void hob_pool_run_phases(hob_pool *p, const hob_pool_phase *phases, uint32_t count);

#endif
