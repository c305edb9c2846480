/* SPDX-License-Identifier: Apache-2.0
 *
 * An answer's ground: what stored documents say about its question, looked up before its prompt is made. The search has the
 * time retrieval.timeout_ms of hob.conf; past that, or when it cannot be made, the answer goes on without and says so. A
 * collection that the key does not have is an error, as it is elsewhere.
 *
 * A job has a grounding from its search until its prompt is prepared. What remains is `grounds`, a JSON object that the job,
 * its other choices and its response share:
 *   "citations"      annotations, as passages.h has them
 *   "results"        likewise, when the request wants them
 *   "queries"        what was looked for
 *   "hob_retrieval"  {"status": "completed", "timed_out" or "failed", "by_words": …, "chunks": n, "tokens": n}
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_GROUNDING_H
#define HOB_DAEMON_GATEWAY_GROUNDING_H

#include "daemon/gateway/state.h"

/* Begins the search for j, whose request asks for one. hob_job_start is called when it has ended, never before this returns.
 * HOB_EINVAL with the error. */
HOB_MUST_CHECK int hob_grounding_start(hob_job *j, hob_api_error *e);
/* Tokens by which it may make the prompt longer: they are reserved against the key meanwhile. 0: none is asked for. */
uint32_t hob_grounding_budget(const hob_gateway *g, const hob_api_request *r);
/* PREPARE's "insert", with room for a prompt of so many tokens; borrowed. NULL: nothing was found. */
json_t *hob_grounding_insert(hob_grounding *d, uint32_t most_prompt_tokens);
/* The best so many of its passages are in the prompt, which they made so many tokens longer: makes j->grounds, and frees the
 * grounding. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_grounding_settle(hob_job *j, uint32_t passages, uint32_t tokens);
size_t hob_grounding_bytes(const hob_grounding *d); /* of memory; NULL is fine */
void hob_grounding_free(hob_grounding *d); /* NULL is fine; a search that runs is not waited for */

#endif
