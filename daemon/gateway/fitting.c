/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a prompt and its answer fit: into the model's context, and what the key allows. */
#include "daemon/gateway/state.h"

/* Tokens of prompt and answer together. */
static uint32_t context_of(const hob_link *l)
{
    return l->kv_tokens && l->kv_tokens < l->context ? (uint32_t)l->kv_tokens : l->context;
}

/* Tokens of the answer, where there is room. */
static uint32_t answer_of(const hob_job *j)
{
    const uint32_t most = hob_limit_of(j->g, j->key, HOB_LIMIT_MAX_OUTPUT_TOKENS),
                   answer = j->request.max_tokens_given
                                ? j->request.max_tokens
                                : hob_limit_of(j->g, j->key, HOB_LIMIT_DEFAULT_OUTPUT_TOKENS);
    return most && most < answer ? most : answer;
}

uint32_t hob_job_room(const hob_job *j)
{
    const uint32_t context = context_of(j->link),
                   most = hob_limit_of(j->g, j->key, HOB_LIMIT_MAX_PROMPT_TOKENS);
    uint32_t answer = answer_of(j);
    if (!j->request.max_tokens_given && answer > context / 2)
        answer = context / 2;
    const uint32_t room = answer < context ? context - answer : 0;
    return most && most < room ? most : room;
}

int hob_job_fits(hob_job *j, uint32_t prompt, hob_api_error *e)
{
    static const char *const names[] = {"messages", "prompt", "input"};
    const hob_api_request *r = &j->request;
    const uint32_t most = context_of(j->link),
                   most_prompt = hob_limit_of(j->g, j->key, HOB_LIMIT_MAX_PROMPT_TOKENS);

    if (prompt >= most || (r->max_tokens_given && r->max_tokens > most - prompt)) {
        if (r->max_tokens_given)
            return hob_api_bad(e, "context_length_exceeded", names[r->kind],
                               "this model's context is %u tokens; the prompt has %u and %u are "
                               "requested for the answer",
                               most, prompt, r->max_tokens);
        return hob_api_bad(e, "context_length_exceeded", names[r->kind],
                           "this model's context is %u tokens; the prompt has %u", most, prompt);
    }
    if (most_prompt && prompt > most_prompt) {
        hob_api_bad(e, "prompt_too_long", names[r->kind],
                    "this key allows prompts of up to %u tokens; the prompt has %u", most_prompt,
                    prompt);
        e->reason = hob_limit_name(HOB_LIMIT_MAX_PROMPT_TOKENS);
        return HOB_EINVAL;
    }
    j->max_tokens = answer_of(j);
    if (j->max_tokens > most - prompt)
        j->max_tokens = most - prompt;
    return 0;
}
