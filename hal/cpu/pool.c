/* SPDX-License-Identifier: Apache-2.0
 *
 * See pool.h. `state` is the generation (upper 48 bits, odd while a job is open) and the number of workers inside the
 * job (lower 16). A worker enters by incrementing it while the generation is odd; the caller closes the job by adding
 * one to the generation and then waits for the count to fall to zero, after which the job's fields may change. Between
 * two phases a thread waits, with no item in hand, until `ended` says that the earlier items have; a worker that has
 * waited for long leaves the job, as one that loses its core there must not hold up the others, and comes back. */
#include "hal/cpu/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 1500, GENERATION = 1 << 16, INSIDE_MASK = GENERATION - 1, THREADS_MAX = 256 };

typedef struct worker {
    hob_pool *pool;
    pthread_t id;
    uint32_t number;
} worker;

struct hob_pool {
    _Alignas(64) atomic_uint_fast64_t state;
    _Alignas(64) atomic_uint next[HOB_POOL_PHASES_MAX]; /* item */
    _Alignas(64) atomic_uint ended;                     /* items of earlier phases */
    _Alignas(64) atomic_uint wake;                      /* futex word, one more for each job */
    atomic_uint sleepers;
    atomic_bool stop;
    hob_pool_phase phases[HOB_POOL_PHASES_MAX];
    uint32_t phase_count;
    uint32_t threads, started; /* started: workers besides the caller */
    worker workers[];
};

static void relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* False: the job has not ended, but waiting for the next phase took a worker long. */
static bool take_items(hob_pool *p, uint32_t number)
{
    uint32_t before = 0; /* items of the phases up to here */

    for (uint32_t i = 0; i < p->phase_count; i++) {
        const hob_pool_phase *phase = &p->phases[i];
        uint32_t item, mine = 0;
        while ((item = atomic_fetch_add_explicit(&p->next[i], 1, memory_order_relaxed)) <
               phase->items) {
            phase->fn(phase->arg, item, number);
            mine++;
        }
        if (i + 1 == p->phase_count)
            break;
        before += phase->items;
        if (mine)
            atomic_fetch_add_explicit(&p->ended, mine, memory_order_release);
        for (int n = 0; atomic_load_explicit(&p->ended, memory_order_acquire) < before; n++)
            if (n < SPIN_ROUNDS)
                relax();
            else if (number)
                return false;
            else
                sched_yield();
    }
    return true;
}

/* Waits until the state differs from an idle generation or the pool stops. */
static uint64_t wait_for_job(hob_pool *p, uint64_t done_generation)
{
    for (;;) {
        uint32_t wake = atomic_load(&p->wake);
        for (int i = 0; i < SPIN_ROUNDS; i++) {
            uint64_t state = atomic_load_explicit(&p->state, memory_order_acquire);
            uint64_t generation = state / GENERATION;
            if (((generation & 1) && generation != done_generation) ||
                atomic_load_explicit(&p->stop, memory_order_relaxed))
                return state;
            relax();
        }
        atomic_fetch_add(&p->sleepers, 1);
        uint64_t generation = atomic_load(&p->state) / GENERATION;
        if (!((generation & 1) && generation != done_generation) && !atomic_load(&p->stop))
            syscall(SYS_futex, &p->wake, FUTEX_WAIT_PRIVATE, wake, NULL, NULL, 0);
        atomic_fetch_sub(&p->sleepers, 1);
    }
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    hob_pool *p = w->pool;
    uint64_t done_generation = 0;

    for (;;) {
        uint64_t state = wait_for_job(p, done_generation);
        if (atomic_load(&p->stop))
            return NULL;
        if (!(state / GENERATION & 1))
            continue;
        if (!atomic_compare_exchange_weak_explicit(&p->state, &state, state + 1,
                                                   memory_order_acquire, memory_order_relaxed))
            continue;
        const bool done = take_items(p, w->number);
        atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
        if (done)
            done_generation = state / GENERATION;
        else
            sched_yield();
    }
}

int hob_pool_new(uint32_t threads, hob_pool **ret, hob_diag *diag)
{
    sigset_t all, old;

    if (threads < 1 || threads > THREADS_MAX)
        return hob_fail(diag, HOB_EINVAL, "threads: got %u, allowed 1 to %d", threads, THREADS_MAX);
    size_t bytes = (sizeof(hob_pool) + threads * sizeof(worker) + 63) / 64 * 64;
    hob_pool *p = aligned_alloc(64, bytes);
    if (!p)
        return hob_fail(diag, HOB_ENOMEM, "worker pool: out of memory");
    memset(p, 0, bytes);
    p->threads = threads;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals belong to the program's own threads */
    int rc = 0;
    for (uint32_t i = 1; i < threads && rc == 0; i++) {
        worker *w = &p->workers[i];
        w->pool = p;
        w->number = i;
        rc = pthread_create(&w->id, NULL, worker_main, w);
        if (rc == 0) {
            p->started++;
            char name[16];
            snprintf(name, sizeof name, "pool-%u", i);
            pthread_setname_np(w->id, name);
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        hob_pool_free(p);
        return hob_fail(diag, HOB_EIO, "worker pool: cannot start a thread: %s", strerror(rc));
    }
    *ret = p;
    return 0;
}

static void wake_all(hob_pool *p)
{
    atomic_fetch_add(&p->wake, 1);
    if (atomic_load(&p->sleepers))
        syscall(SYS_futex, &p->wake, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void hob_pool_free(hob_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->wake, 1);
    syscall(SYS_futex, &p->wake, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    for (uint32_t i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].id, NULL);
    free(p);
}

uint32_t hob_pool_threads(const hob_pool *p)
{
    return p->threads;
}

void hob_pool_run_phases(hob_pool *p, const hob_pool_phase *phases, uint32_t count)
{
    uint32_t items = 0;

    for (uint32_t i = 0; i < count; i++)
        items += phases[i].items;
    if (p->started == 0 || items < 2) {
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t item = 0; item < phases[i].items; item++)
                phases[i].fn(phases[i].arg, item, 0);
        return;
    }
    memcpy(p->phases, phases, count * sizeof *phases);
    p->phase_count = count;
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&p->next[i], 0, memory_order_relaxed);
    atomic_store_explicit(&p->ended, 0, memory_order_relaxed);
    const bool alone = phases[0].items == 1; /* the caller's, as it is awake */
    if (alone)
        atomic_store_explicit(&p->next[0], 1, memory_order_relaxed);
    atomic_fetch_add(&p->state, GENERATION); /* opens */
    wake_all(p);
    if (alone) {
        phases[0].fn(phases[0].arg, 0, 0);
        atomic_fetch_add_explicit(&p->ended, 1, memory_order_release);
    }
    take_items(p, 0);
    atomic_fetch_add(&p->state, GENERATION); /* closes: nobody enters any more */
    for (int i = 0; atomic_load_explicit(&p->state, memory_order_acquire) & INSIDE_MASK; i++)
        if (i < SPIN_ROUNDS)
            relax();
        else
            sched_yield();
}

void hob_pool_run(hob_pool *p, hob_pool_fn fn, void *arg, uint32_t items)
{
    hob_pool_run_phases(p, &(hob_pool_phase){.fn = fn, .arg = arg, .items = items}, 1);
}
