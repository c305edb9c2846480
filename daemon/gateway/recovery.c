/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of jobs when their engine dies, and which job is to blame.
 *
 * Every job that an engine held when it died is handed to the next one. A job that two engines died with is a suspect.
 * As long as a link has suspects they run one at a time, oldest first, with no other job beside them: the others, new
 * ones included, wait here. Only the suspect that was alone on an engine that dies is poison, and ends with an error; one
 * that finishes, or comes 32 tokens further than where the last crash found it, is cleared. It is then parked (cancelled
 * at the engine; its ids are kept) until the other suspects have run, too. Requests that are deadly only together cost
 * crashes, but every round carries each of them at least 32 tokens on, so that the rounds come to an end.
 *
 * The engine confirms the end of what runs, but not of what the gateway drops with its client: `unsure` says that
 * something of that kind may still be there, and nobody is condemned until the suspect's first tokens show that the
 * engine has come past it, since it obeys in order. */
#include "daemon/gateway/trace.h"

enum { SUSPECT_CRASHES = 2, CLEARED_TOKENS = 32 };
_Static_assert((int)HOB_CREDIT_TOKENS >= (int)CLEARED_TOKENS, "a suspect's credit clears it");

static bool is_suspect(const hob_job *j)
{
    return j->crashes >= SUSPECT_CRASHES;
}

static void set_deadline(hob_job *j, uint64_t now_us)
{
    const bool known = j->admitted || j->crashes > 0;
    j->deadline_us = now_us + (known ? HOB_RECOVERY_WAIT_MS : HOB_ENGINE_WAIT_MS) * (uint64_t)1000;
}

static void set_queued(hob_job *j)
{
    j->state = HOB_JOB_QUEUED;
    hob_trace_job(j, j->admitted || j->crashes > 0 ? HOB_SPAN_RECOVERY : HOB_SPAN_QUEUE);
    set_deadline(j, hob_now_us());
}

static void fail_unavailable(hob_job *j)
{
    hob_api_error e;
    hob_link_explain_wait(j->admitted || j->crashes > 0, &e);
    hob_job_fail(j, &e);
}

static void fail_poisoned(hob_job *j)
{
    hob_api_error e;
    hob_log(HOB_LOG_WARN,
            "%s: request %s is given up: %u engines died with it, the last with nothing else to do "
            "(%u prompt tokens, %u answer tokens)",
            j->link->model->name, j->response_id, j->crashes + 1, j->prompt_tokens,
            j->id_count - j->prompt_tokens);
    hob_link_explain_poison(j->crashes + 1, &e);
    j->g->metrics.poisoned++;
    hob_job_fail(j, &e);
}

/* ---- the queue ---- */

uint32_t hob_link_load(const hob_link *l)
{
    uint32_t n = l->jobs - l->estimates + l->kept;
    if (l->held) /* else nothing waits while the engine is up */
        for (const hob_job *j = l->g->jobs; j; j = j->next)
            n += j->link == l && j->state == HOB_JOB_QUEUED && !j->request.estimate;
    return n;
}

bool hob_job_waits(hob_job *j)
{
    const hob_link *l = j->link;
    if (l->state == HOB_LINK_READY && (!l->held || l->alone == j->id))
        return false;
    if (j->state != HOB_JOB_QUEUED)
        set_queued(j);
    return true;
}

static hob_job *oldest(const hob_gateway *g)
{
    hob_job *j = g->jobs; /* the newest is the first */
    while (j && j->next)
        j = j->next;
    return j;
}

/* Oldest first. Starting one may end it, and others with it. */
static void start_queued(hob_link *l, bool admitted)
{
    hob_job *j = oldest(l->g);
    while (j && l->state == HOB_LINK_READY) {
        const uint64_t next = j->prev ? j->prev->id : 0;
        if (j->link == l && j->state == HOB_JOB_QUEUED && j->admitted == admitted)
            hob_job_start(j);
        if (next == 0)
            return;
        hob_job *found = hob_job_find(l->g, next);
        j = found ? found : oldest(l->g);
    }
}

/* True when the engine has nothing. */
static bool park_all(hob_link *l)
{
    for (hob_job *j = l->g->jobs; j && l->jobs > 0; j = j->next)
        if (j->link == l && j->state == HOB_JOB_RUNNING && !j->cancelled &&
            hob_link_send(l, HOB_MSG_CANCEL, j->id, NULL, 0))
            j->state = HOB_JOB_PARKING;
    return l->jobs == 0;
}

static void run_queue(hob_link *l)
{
    if (l->state != HOB_LINK_READY || l->alone)
        return;
    if (l->suspects == 0) {
        l->held = false;
        start_queued(l, true); /* streams that have begun come first */
        start_queued(l, false);
        return;
    }
    l->held = true;
    if (!park_all(l))
        return;
    for (hob_job *j = oldest(l->g); j; j = j->prev)
        if (j->link == l && j->state == HOB_JOB_QUEUED && is_suspect(j)) {
            l->alone = j->id;
            hob_log(HOB_LOG_INFO, "%s: %u engines died with request %s: it runs alone",
                    l->model->name, j->crashes, j->response_id);
            hob_job_start(j);
            return;
        }
}

static void on_queue(lws_sorted_usec_list_t *sul)
{
    hob_gateway *g = lws_container_of(sul, hob_gateway, queue);
    for (uint32_t i = 0; i < g->link_count && !g->ending; i++)
        run_queue(&g->links[i]);
}

/* From the loop itself: the caller may be walking the lists that starting a job changes. */
static void wake_queue(hob_gateway *g)
{
    if (!g->ending)
        lws_sul_schedule(g->context, 0, &g->queue, on_queue, 1);
}

/* ---- suspects ---- */

void hob_job_absolve(hob_job *j)
{
    hob_link *l = j->link;
    if (is_suspect(j))
        l->suspects--;
    j->crashes = 0;
    if (l->alone == j->id)
        l->alone = 0;
    if (l->held)
        wake_queue(j->g);
}

void hob_job_progressed(hob_job *j)
{
    hob_link *l = j->link;
    if (l->alone != j->id)
        return;
    l->unsure = false;
    if (j->id_count >= j->crashed_ids + CLEARED_TOKENS)
        hob_job_absolve(j);
}

void hob_job_parked(hob_job *j)
{
    hob_job_uncount(j);
    set_queued(j);
    wake_queue(j->g);
}

/* ---- engines that come and go ---- */

bool hob_jobs_link_lost(hob_gateway *g, hob_link *l)
{
    const uint64_t condemned = l->unsure ? 0 : l->alone;
    bool found = false;

    l->alone = 0;
    for (hob_job *j = g->jobs, *next; j; j = next) {
        next = j->next;
        if (j->link != l || !j->counted)
            continue;
        hob_job_uncount(j);
        if (j->cancelled) {
            hob_job_finish_cancelled(j);
            next = g->jobs; /* the end of one may have started another */
        } else if (j->id == condemned) {
            fail_poisoned(j);
            found = true;
            next = g->jobs;
        } else {
            g->metrics.recovered++;
            l->suspects += ++j->crashes == SUSPECT_CRASHES;
            j->crashed_ids = j->id_count;
            set_queued(j);
        }
    }
    return found;
}

void hob_jobs_link_ready(hob_gateway *g, hob_link *l)
{
    l->alone = 0;
    l->unsure = false;
    l->held = true; /* until the queue has been looked at: those who wait keep their places */
    wake_queue(g);
}

void hob_jobs_tick(hob_gateway *g, uint64_t now_us)
{
    for (hob_job *j = g->jobs, *next; j; j = next) {
        next = j->next;
        hob_job_tell_place(j);
        if (j->state != HOB_JOB_QUEUED)
            continue;
        if (j->link->state == HOB_LINK_READY)
            set_deadline(j, now_us); /* only time without an engine counts */
        else if (now_us > j->deadline_us) {
            fail_unavailable(j);
            next = g->jobs;
        }
    }
}
