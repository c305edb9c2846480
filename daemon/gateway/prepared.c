/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine has tokenized a prompt: does it fit, may it run, and RUN. An answer with several prompts is admitted, and its
 * tokens are reserved, when all of them are known: all at once or none. */
#include <inttypes.h>

#include "daemon/gateway/grounding.h"
#include "daemon/gateway/meter.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

static bool send_run(hob_job *j)
{
    hob_text *t = &j->g->scratch;
    const char *key;
    json_t *value;
    uint32_t window = hob_job_credit_window(j);

    hob_meter_running(j);
    j->credit = window > j->undrained ? window - j->undrained : 0;
    if (j->id == j->link->alone && j->credit < HOB_CREDIT_TOKENS)
        j->credit = HOB_CREDIT_TOKENS; /* others wait for it: its reader must not hold them up */
    hob_text_clear(t);
    hob_text_format(t, "{\"max_tokens\":%u,\"credit\":%u,\"seed\":\"%" PRIu64 "\",\"logprobs\":%d",
                    j->max_tokens, j->credit, j->request.seed,
                    j->request.logprobs ? j->request.top_logprobs : -1);
    if (j->id_count > j->prompt_tokens)
        hob_text_format(t, ",\"resumed\":%u", j->id_count - j->prompt_tokens);
    hob_text_format(t, ",\"tenant\":%u,\"priority\":%u", j->key ? j->key->record.tenant_number : 0,
                    j->priority);
    json_object_foreach(j->request.run, key, value)
    {
        hob_text_format(t, ",\"%s\":", key);
        hob_text_json(t, value);
    }
    hob_text_puts(t, "}");
    return !t->failed &&
           hob_link_send(j->link, HOB_MSG_RUN, j->id, hob_text_data(t), hob_text_len(t));
}

/* One that runs alone, as a suspect, lets the others have the engine: what may have killed engines was not its prompt. */
static void wait_for_prompts(hob_job *j)
{
    j->state = HOB_JOB_PREPARED;
    if (j->link->alone != j->id)
        return;
    (void)hob_link_send(j->link, HOB_MSG_ABORT, j->id, NULL, 0);
    hob_job_absolve(j);
    hob_job_parked(j);
}

/* And with it those that have waited for it. */
static bool run(hob_job *j)
{
    j->state = HOB_JOB_RUNNING;
    hob_trace_job(j, HOB_SPAN_PREFILL);
    if (!send_run(j))
        return false;
    for (hob_job *p = NULL; (p = hob_choices_prompt(j, p));)
        if (p->state == HOB_JOB_PREPARED) {
            p->state = HOB_JOB_RUNNING;
            if (!send_run(p))
                return false;
        }
    return true;
}

void hob_job_prepared(hob_gateway *g, hob_link *l, uint64_t id, const uint8_t *payload, size_t len)
{
    hob_job *j = hob_job_find(g, id);
    hob_api_error e = {0};

    if (len < HOB_PREPARED_HEADER || hob_get_u32(payload) != (len - HOB_PREPARED_HEADER) / 4 ||
        len % 4 != 0) {
        hob_link_fail(l, "a broken PREPARED message");
        return;
    }
    if (!j || j->link != l) {
        (void)hob_link_send(l, HOB_MSG_ABORT, id, NULL, 0);
        return;
    }
    if (j->state != HOB_JOB_PREPARING) {
        hob_link_fail(l, "PREPARED for a request that was not being prepared");
        return;
    }
    hob_meter_prepared(j);
    hob_trace_job(j, HOB_SPAN_ADMISSION);
    if (j->id_count == 0) {
        uint32_t prompt = hob_get_u32(payload);
        int rc = hob_job_fits(j, prompt, &e);
        if (rc == 0 && hob_job_keep_ids(j, payload + HOB_PREPARED_HEADER, prompt) < 0)
            hob_api_fail(&e, 503, "server_error", "out_of_memory", NULL,
                         "no memory for the prompt");
        j->prompt_tokens = prompt;
        j->cached_tokens = hob_get_u32(payload + 4) < prompt ? hob_get_u32(payload + 4) : 0;
        if (e.status == 0 && j->grounding &&
            hob_grounding_settle(j, hob_get_u32(payload + 8), hob_get_u32(payload + 12)) < 0)
            hob_api_fail(&e, 503, "server_error", "out_of_memory", NULL,
                         "no memory for the citations");
        if (e.status == 0 && j->request.estimate) {
            (void)hob_link_send(l, HOB_MSG_ABORT, id, NULL, 0);
            hob_admission_estimate(j, j->cached_tokens);
            j->admitted = true; /* it was answered: it counts as one of its key's minute */
            hob_job_done(j);
            return;
        }
        if (e.status) {
            (void)hob_link_send(l, HOB_MSG_ABORT, id, NULL, 0);
            hob_job_fail(j, &e);
            return;
        }
        json_decref(j->request.prepare); /* from here on the ids stand for it */
        j->request.prepare = NULL;
        j->request_bytes = 0;
        g->metrics.prompt_tokens[l->index] += prompt;
    }
    if (!j->admitted && !hob_choices_prompts_known(j)) {
        wait_for_prompts(j);
        return;
    }
    if (!j->admitted && (hob_admission_check(j, &e) < 0 || hob_limits_reserve(j, &e) < 0)) {
        (void)hob_link_send(l, HOB_MSG_ABORT, id, NULL, 0);
        hob_job_fail(j, &e);
        return;
    }
    if (!run(j)) {
        (void)hob_link_send(l, HOB_MSG_ABORT, id, NULL, 0);
        hob_job_fail_busy(j);
        return;
    }
    if (!j->admitted) {
        hob_choices_admit(j);
        if (j->format->admitted)
            j->format->admitted(j);
    }
}
