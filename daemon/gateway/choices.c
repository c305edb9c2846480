/* SPDX-License-Identifier: Apache-2.0
 *
 * An answer over HTTP whose choices are several jobs: n for each prompt. They are the jobs of their connection, which has
 * one request at a time. The first job of a prompt computes it, once the lengths of all prompts are known and all are
 * admitted together; those that share the prompt start when it has its first token, with the same token ids, and find the
 * prompt's full blocks in the engine's cache. A choice that has finished stays until the last one has, since the answer's
 * end adds up all of them; one that fails ends them all. */
#include "daemon/gateway/state.h"

bool hob_choice_is_last(const hob_job *j)
{
    if (!j->conn || j->websocket)
        return true;
    for (const hob_job *k = j->conn->jobs; k; k = k->conn_next)
        if (k->state != HOB_JOB_ENDED)
            return false;
    return true;
}

hob_job *hob_choices_prompt(hob_job *j, const hob_job *at)
{
    if (j->choices == 1 || !j->conn)
        return at ? NULL : j;
    hob_job *next = at ? at->conn_next : j->conn->jobs;
    while (next && next->leader != next->id)
        next = next->conn_next;
    return next;
}

bool hob_choices_prompts_known(hob_job *j)
{
    for (const hob_job *p = NULL; (p = hob_choices_prompt(j, p));)
        if (p->id_count == 0)
            return false;
    return true;
}

void hob_choices_admit(hob_job *j)
{
    j->admitted = true;
    if (j->choices == 1 || !j->conn)
        return;
    for (hob_job *k = j->conn->jobs; k; k = k->conn_next)
        k->admitted = true;
}

static hob_job *next_behind(const hob_job *leader)
{
    hob_job *j = leader->conn->jobs;
    while (j && (j->state != HOB_JOB_LANE || j->leader != leader->id))
        j = j->conn_next;
    return j;
}

void hob_choices_start(hob_job *j)
{
    hob_gateway *g = j->g;
    const uint64_t id = j->id;
    hob_job *next;

    if (j->choices == 1 || !j->conn)
        return;
    while (j && (next = next_behind(j))) {
        if (hob_job_keep_prompt(next, j) < 0) {
            hob_api_error e;
            hob_api_no_memory(&e);
            hob_job_end(next, &e);
            return;
        }
        hob_limits_share(j, next);
        hob_job_start(next);
        j = hob_job_find(g, id);
    }
}

hob_usage hob_choices_usage(const hob_job *j)
{
    hob_usage sum = {0};
    for (const hob_job *k = j->conn->jobs; k; k = k->conn_next) {
        if (k->leader == k->id) {
            sum.prompt += k->prompt_tokens;
            sum.cached += k->cached_tokens;
        }
        sum.answer += k->answer_tokens;
    }
    return sum;
}
